"""What people see of a demo: a time left that is true on slow machines too, and no word that is drawn over."""

import io
import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from demo_jobs import job
from rich.console import Console

from muscle_hf.demo.contenders import NEW, STORY, DemoSettings
from muscle_hf.demo.jobs import Job, jobs_of
from muscle_hf.demo.processes import run_jobs, seconds_left
from muscle_hf.demo.watching import Watching
from muscle_hf.interrupts import polite_interrupts

LONG, SHORT = job("long", seconds=100), job("short", seconds=20)


class Screen:
    """A demo of two jobs whose clock stands where a test puts it, and the lines that it shows."""

    def __init__(self, jobs: list[Job], *, is_terminal: bool) -> None:
        self.now = 0.0
        self.file = io.StringIO()
        self.console = Console(file=self.file, force_terminal=is_terminal, width=100, highlight=False)
        self.watching = Watching(self.console, clock=lambda: self.now)
        self.jobs = jobs

    @contextmanager
    def on(self) -> Iterator[Watching]:
        with self.watching as watching:
            watching.planned(self.jobs, 2)
            yield watching

    def told_at(self, now: float, job: Job, share: float) -> str:
        """Return what is said of the rest after a job has come so far."""
        self.now = now
        self.watching.moved(job, share)
        (whole,) = [task for task in self.watching._progress.tasks if task.description.startswith("all")]
        return whole.description.removeprefix("all, ")


def test_the_time_left_on_a_slow_machine_is_that_of_a_quick_one() -> None:
    screen = Screen([LONG, SHORT], is_terminal=True)
    with screen.on() as watching:
        watching.started(LONG)
        assert "1 of 5, about 1:40 left, loading the libraries. Plain update" in screen.file.getvalue()
        # A sixth of the speed, after a minute for the libraries.
        assert screen.told_at(60, LONG, 0.0) == "about 1:40 left"
        assert screen.told_at(66, LONG, 0.01) == "about 1:39 left"
        assert screen.told_at(72, LONG, 0.02) == "slower than usual"
        assert screen.told_at(78, LONG, 0.03) == "about 9:42 left"
        assert screen.told_at(360, LONG, 0.5) == "about 5:00 left"


def test_a_machine_of_the_usual_speed_is_called_slow_or_an_hour_is_lost_to_a_first_jerk() -> None:
    screen = Screen([LONG, SHORT], is_terminal=True)
    with screen.on() as watching:
        watching.started(LONG)
        watching.started(SHORT)
        assert screen.told_at(4, SHORT, 0.0) == "about 1:40 left"
        assert screen.told_at(9, LONG, 0.01) == "about 1:39 left"
        assert screen.told_at(14, LONG, 0.1) == "about 1:30 left"


def test_a_log_says_that_it_goes_slower_than_usual() -> None:
    screen = Screen([LONG, SHORT], is_terminal=False)
    with screen.on() as watching:
        watching.started(LONG)
        screen.told_at(10, LONG, 0.0)
        screen.told_at(40, LONG, 0.01)
    assert screen.file.getvalue().splitlines()[1:] == ["slower than usual: long, training 1 %"]


def test_a_training_that_goes_on_stands_at_its_beginning() -> None:
    going_on = replace(LONG, steps=(90, 100))
    screen = Screen([going_on, job("after", "long", seconds=5)], is_terminal=True)
    with screen.on() as watching:
        watching.started(going_on)
        assert [task.completed for task in watching._progress.tasks] == [pytest.approx(90 / 105), 0.9]
        assert "1 of 5, about 0:15 left" in screen.file.getvalue()
        assert "long, training: going on from step 90 of 100" in screen.file.getvalue()
        # What an earlier call did says nothing about the pace of this one.
        assert screen.told_at(60, going_on, 0.9) == "about 0:15 left"
        assert screen.told_at(70, going_on, 0.95) == "about 0:20 left"
    assert seconds_left([going_on], {}, 1) == pytest.approx(10)


def test_the_steps_on_disk_are_those_of_an_interrupted_training_alone(tmp_path: Path) -> None:
    jobs = jobs_of(STORY, DemoSettings())
    checkpoint = tmp_path / NEW.folder / "interim" / "checkpoint-91"
    checkpoint.mkdir(parents=True)
    for name in ("optimizer.pt", "scheduler.pt"):
        (checkpoint / name).touch()
    state = {"global_step": 91, "max_steps": 564, "stateful_callbacks": {}}
    (checkpoint / "trainer_state.json").write_text(json.dumps(state), encoding="utf-8")
    steps = {job.name: job.going_on(tmp_path).steps for job in jobs}
    assert {name: done for name, done in steps.items() if done} == {NEW.folder: (91, 564)}


@pytest.mark.parametrize("is_terminal", [True, False])
def test_what_ctrl_c_promises_is_drawn_over(is_terminal: bool, capfd: pytest.CaptureFixture[str]) -> None:
    def ask_to_leave(name: str) -> None:
        with polite_interrupts() as interrupt:
            interrupt.waits = True
            before = set(threading.enumerate())
            signal.raise_signal(signal.SIGINT)
            for thread in set(threading.enumerate()) - before:
                thread.join()

    screen = Screen([LONG], is_terminal=is_terminal)
    with pytest.raises(KeyboardInterrupt), screen.watching:
        run_jobs([LONG], ask_to_leave, 1, screen.watching)
    # The display that draws the bars has printed it; what is written past it would be wiped.
    assert screen.file.getvalue().count("is saved first") == 1
    assert "is saved first" not in capfd.readouterr().err
