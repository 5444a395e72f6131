"""Spoiled files of every format are compared without a failure of another kind, and those that mean the same alike."""

import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def fuzz(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    names = ("fuzz_files", "fuzz_formats", "fuzz_mutations")
    script = runpy.run_path(str(BENCHMARKS / "fuzz.py"))
    for name in names:
        monkeypatch.delitem(sys.modules, name)
    return script


@pytest.mark.slow
def test_no_format_fails_or_miscounts_on_a_few_spoiled_files(fuzz: dict[str, Any], tmp_path: Path) -> None:
    for place, (name, kind) in enumerate(fuzz["kinds"]().items()):
        where = fuzz["Place"](kind, tmp_path / str(place))
        assert where.compare(kind.write(kind.value("new"))) == ("read", [fuzz["COUNTS"]]), name
        for number in range(6):
            content, way = fuzz["spoiled"](kind, name, 1, number)
            seen = where.compare(content)  # anything but an error of ours is raised
            known = fuzz["counted"](kind, content)
            assert seen[0] == "refused" or known in (None, seen[1]), (name, number)
            assert way != "same" or seen == ("read", [fuzz["COUNTS"]]), (name, number, seen)


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_and_a_file_that_ends_its_process_is_named(
    fuzz: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "human_eval-0.jsonl"
    first = '{"number": 5, "way": "bytes", "outcome": "hang", "told": "", "seconds": 20}\n'
    state.write_text(first + '{"numb')
    fuzz["main"](["--formats", "human-eval", "--files", "7", "--state", str(tmp_path)])
    assert state.read_text().startswith(first)
    shown = capsys.readouterr().out
    assert "| human-eval | 2 |" in shown
    assert "human-eval 5: hang (bytes)" in shown
