"""Jobs in several processes: none starts too early, none is lost without a word, and all save before they go."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import demo_jobs
import fresh
import pytest
from demo_jobs import Seen, do, job

from muscle_hf.demo.contenders import FULL, STORY, DemoSettings
from muscle_hf.demo.jobs import jobs_of
from muscle_hf.demo.processes import run_jobs, seconds_left
from muscle_hf.errors import ConfigurationError, InputError


def test_the_process_that_shows_a_demo_loads_what_trains() -> None:
    code = "import sys, muscle_hf.demo.run; print({'torch', 'transformers', 'datasets'} & set(sys.modules))"
    assert fresh.run([sys.executable, "-c", code], check=True).stdout == "set()\n"


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_job_starts_before_what_it_waits_for_is_there(processes: int, tmp_path: Path) -> None:
    jobs = [job("last", "left", "right"), job("first"), job("left", "first"), job("right", "first", seconds=5)]
    seen = Seen()
    run_jobs(jobs, partial(do, tmp_path), processes, seen)
    for one in jobs:
        for needed in one.after:
            assert seen.events.index(("finished", needed)) < seen.events.index(("started", one.name))
    # Of two that could start, the one with most behind it.
    assert seen.events.index(("started", "right")) < seen.events.index(("started", "left"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "last", "left", "right"]
    assert seen.shares == [1.0] * 4


@pytest.mark.slow
def test_what_a_job_raises_or_dies_of_is_not_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such row"):
        run_jobs([job("refused"), job("waits-1")], partial(do, tmp_path), 2, Seen())
    with pytest.raises(ConfigurationError, match=r"killed, training: its process was ended from outside"):
        run_jobs([job("killed"), job("fine")], partial(do, tmp_path), 2, Seen())


@pytest.mark.slow
@pytest.mark.parametrize(("number", "whole_group"), [(signal.SIGINT, True), (signal.SIGTERM, False)])
def test_ctrl_c_or_a_kill_loses_the_step_of_one_of_two_processes(
    number: signal.Signals, whole_group: bool, tmp_path: Path
) -> None:
    running = _started(tmp_path)
    (os.killpg if whole_group else os.kill)(running.pid, number)
    _, told = running.communicate()
    assert running.returncode != 0
    assert told.count("is saved first") == 1
    assert "KeyboardInterrupt" in told
    assert _names(tmp_path) == {f"waits-{one}.{what}" for one in (1, 2) for what in ("started", "saved")}


@pytest.mark.slow
def test_jobs_go_on_when_the_one_that_shows_them_is_killed(tmp_path: Path) -> None:
    running = _started(tmp_path)
    running.kill()
    assert running.communicate()[1] == ""  # once the last process that can write there has ended
    assert _names(tmp_path) == {f"waits-{one}.{what}" for one in (1, 2) for what in ("started", "saved")}


def _started(folder: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, str(Path(demo_jobs.__file__)), str(folder)]
    running = subprocess.Popen(  # noqa: S603
        command, stderr=subprocess.PIPE, text=True, start_new_session=True, env={**os.environ, "PYTHONWARNINGS": ""}
    )
    while len(_names(folder)) < 2:
        assert running.poll() is None
        time.sleep(0.05)
    return running


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_time_left_counts_one_process_for_two() -> None:
    jobs = [job("long", seconds=10), job("short", seconds=4), job("after", "long", seconds=3)]
    assert seconds_left(jobs, {}, 1) == 17
    assert seconds_left(jobs, {}, 2) == 13
    assert seconds_left(jobs, {"long": 0.5, "short": 1.0}, 2) == 8
    assert seconds_left(jobs, {"long": 1.0, "short": 0.25, "after": 0.0}, 2) == 3
    assert seconds_left(jobs, {"long": 1.0, "short": 1.0, "after": 1.0}, 2) == 0


@pytest.mark.parametrize("cast", [STORY, FULL])
def test_a_job_waits_for_one_that_nobody_does(cast: object) -> None:
    jobs = jobs_of(cast, DemoSettings())  # type: ignore[arg-type]
    names = [one.name for one in jobs]
    assert len(set(names)) == len(names)
    for index, one in enumerate(jobs):
        assert set(one.after) <= set(names[:index])
