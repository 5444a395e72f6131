"""The benchmark of choice by likelihood runs, on as little as it can, and without lm-evaluation-harness."""

import importlib.util
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from muscle_hf.prediction.choose import Choices

BENCHMARK = str(Path(__file__).parents[2] / "benchmarks" / "choice.py")
TINY = ["--layers", "1", "--hidden", "32", "--vocabulary", "600", "--documents", "2", "--context-tokens", "9"]


@pytest.mark.slow
def test_the_benchmark_prints_a_row_for_each_length_of_choice(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*TINY, "--choice-tokens", "1", "3", "--repeats", "1", "--without-harness"]
    runpy.run_path(BENCHMARK)["main"](arguments)
    shown = capsys.readouterr().out
    assert "n = 2 documents of 9 tokens, 4 choices; batch size 32; 1 repeats" in shown
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in shown.splitlines() if line.startswith("| ")]
    assert rows[0] == ["tokens of a choice", "muscle_hf, documents/s", "whole, documents/s", "muscle_hf / whole"]
    assert [row[0] for row in rows[1:]] == ["1", "3"]
    assert all(float(row[1]) > 0 and float(row[2]) > 0 for row in rows[1:])


def test_a_missing_harness_is_left_out_in_silence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "lm_eval" else find_spec(name, *rest)
    )
    with pytest.raises(SystemExit):
        runpy.run_path(BENCHMARK)["main"](TINY)
    assert 'Run `python -m pip install "lm_eval==0.4.13"`' in capsys.readouterr().err


@pytest.mark.parametrize("wrong", ["answer", "score"])
def test_other_answers_or_scores_are_timed_and_printed(wrong: str) -> None:
    time_in_turn = runpy.run_path(BENCHMARK)["time_in_turn"]

    def choices(answer: int, score: float) -> Any:
        return lambda: Choices(np.array([answer]), [np.array([score, -2.0])])

    assert len(time_in_turn({"muscle_hf": choices(0, -1.0), "harness": choices(0, -1.0)}, 3)["harness"]) == 3
    other = choices(1, -1.0) if wrong == "answer" else choices(0, -1.1)
    with pytest.raises(SystemExit, match="chose") if wrong == "answer" else pytest.raises(AssertionError):
        time_in_turn({"muscle_hf": choices(0, -1.0), "harness": other}, 1)


def test_a_ratio_is_the_median_of_the_repeats() -> None:
    assert runpy.run_path(BENCHMARK)["spread"]([4.0, 2.0, 2.5]) == "2.50 (2.00 to 4.00)"
