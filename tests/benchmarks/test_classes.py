"""The scripts about rare classes run, and the answers that come with the repository are what one of them writes."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"


@pytest.mark.slow
def test_the_coverage_of_every_interval_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(BENCHMARKS / "classes.py"))["main"](["--draws", "3", "--only", "2 classes of 450"])
    *_, head, _, row = capsys.readouterr().out.splitlines()
    assert head == "| classes | tables | verdicts | bootstrap |"
    assert row.startswith("| 2 classes of 450 and 50")
    assert row.count("**") == 6


@pytest.mark.slow
def test_the_shipped_answers_are_those_of_the_kept_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    file = tmp_path / "answers.csv"
    runpy.run_path(str(BENCHMARKS / "rare_classes.py"))["main"](["--write", str(file)])
    assert file.read_bytes() == (ROOT / "examples" / "data" / "massive" / "answers.csv").read_bytes()
    rows = [line for line in capsys.readouterr().out.splitlines() if "±" in line]
    assert len(rows) == 5
