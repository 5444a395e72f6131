"""Progress in a log: a line now and then that says what is done and what is left, and none for what is quick."""

import pytest

from muscle_hf.progress import LogLines, progress_bar


class _Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_log_is_flooded_or_does_not_name_what_is_done_and_left(capsys: pytest.CaptureFixture[str]) -> None:
    clock = _Clock()
    with LogLines(10_000, "asking the old model", initial=4_000, unit="answer", clock=clock) as lines:
        for _ in range(50):
            clock.now += 2
            lines.update(100)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == [
        "asking the old model: 5,500 of 10,000 answers after 00:30, about 01:30 left",
        "asking the old model: 7,000 of 10,000 answers after 01:00, about 01:00 left",
        "asking the old model: 8,500 of 10,000 answers after 01:30, about 00:30 left",
        "asking the old model: 9,000 of 10,000 answers after 01:40, about 00:20 left",
    ]


def test_what_is_quick_fills_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar(3, "asking") as bar:
        bar.update(3)
    assert capsys.readouterr().err == ""


def test_a_line_is_written_twice_or_loses_what_stands_beside_it(capsys: pytest.CaptureFixture[str]) -> None:
    clock = _Clock()
    with LogLines(2, "control", unit="step", clock=clock) as lines:
        lines.set_postfix(validation_accuracy="71.0 %")
        clock.now += 3_600
        lines.update(2)
    assert capsys.readouterr().err == "control: 2 of 2 steps after 1:00:00, validation accuracy 71.0 %\n"


def test_a_terminal_gets_lines_in_place_of_a_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with progress_bar(4, "control", initial=1, unit="step") as bar:
        bar.update(3)
    assert "control: 100%" in (shown := capsys.readouterr().err) and "4/4" in shown
    with progress_bar(4, "control", disable=True) as bar:
        bar.update(4)
    assert capsys.readouterr().err == ""
