"""Ctrl-C and SIGTERM: once for a step to be finished, twice to end it, and never in another's place."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from muscle_hf.cli import main
from muscle_hf.interrupts import polite_interrupts, terminated_as_interrupted


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_waits_is_not_finished_or_cannot_be_ended(
    number: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
    finished = []
    with pytest.raises(KeyboardInterrupt), polite_interrupts() as interrupt:
        interrupt.waits = True
        signal.raise_signal(number)
        assert interrupt.asked
        finished.append("step")
    assert finished == ["step"]
    assert "once more ends at once" in capfd.readouterr().err
    with pytest.raises(KeyboardInterrupt), polite_interrupts() as interrupt:
        interrupt.waits = True
        signal.raise_signal(number)
        signal.raise_signal(number)
        pytest.fail("the second one did not end it")
    assert {one: signal.getsignal(one) for one in before} == before


def test_what_does_not_wait_goes_on_or_the_next_work_waits_for_the_last_one() -> None:
    with pytest.raises(KeyboardInterrupt), polite_interrupts():
        signal.raise_signal(signal.SIGINT)
        pytest.fail("it went on")
    with polite_interrupts() as interrupt:
        assert not interrupt.asked and not interrupt.waits


def test_one_inside_another_leaves_before_the_outer_one_has_finished() -> None:
    finished = []
    with pytest.raises(KeyboardInterrupt), polite_interrupts() as outer:
        with polite_interrupts() as inner:
            assert inner is outer
            inner.waits = True
            signal.raise_signal(signal.SIGINT)
        finished.append("the mark")
    assert finished == ["the mark"]


def test_a_job_in_the_background_or_another_thread_takes_signals_that_are_not_its_own() -> None:
    ignored = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with polite_interrupts():
            signal.raise_signal(signal.SIGINT)
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, ignored)
    seen = []

    def work() -> None:
        with polite_interrupts() as interrupt:
            seen.append(interrupt.asked)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]


def test_a_terminated_command_ends_without_a_word(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def terminate(_: object) -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("it went on")

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("muscle_hf.cli.find.run", terminate)
    assert main(["find"]) == 130
    assert capsys.readouterr().err == "muscle-hf find: interrupted\n"
    assert signal.getsignal(signal.SIGTERM) is before
    with pytest.raises(KeyboardInterrupt), terminated_as_interrupted():
        signal.raise_signal(signal.SIGTERM)


def test_signals_cost_the_libraries() -> None:
    code = "import sys, muscle_hf.interrupts; print('torch' in sys.modules or 'numpy' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert shown.stdout == "False\n"
