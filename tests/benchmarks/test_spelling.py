"""The benchmark of spelling and sounds runs, its words are those of the dictionary, and its figures are right."""

import hashlib
import json
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS, DATA = ROOT / "benchmarks", ROOT / "examples" / "data" / "cmudict"


@pytest.fixture
def spelling(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield runpy.run_path(str(BENCHMARKS / "spelling.py"))
    for name in ("spelling_data", "spelling_task", "spelling_training"):
        sys.modules.pop(name, None)


def test_the_extract_is_what_its_readme_says_and_has_the_dictionarys_licence() -> None:
    lines = (DATA / "extract.dict").read_text(encoding="utf-8").splitlines()
    told = (DATA / "README.md").read_text(encoding="utf-8")
    assert f"{len(lines):,} entries" in told
    words = {line.split()[0].split("(")[0] for line in lines}
    assert len(words) == 10_000
    assert {len(word) for word in words} == {3, 4, 5, 6, 7, 8}
    sounds = {sound.rstrip("012") for line in lines for sound in line.split()[1:]}
    assert len(sounds) == 39
    assert "Carnegie Mellon University" in (DATA / "LICENSE").read_text(encoding="utf-8")


def test_an_extract_of_the_extract_is_drawn_by_digest_and_keeps_all_pronunciations() -> None:
    extract = runpy.run_path(str(BENCHMARKS / "spelling_data.py"))["extract"]
    lines = ["abbe AE1 B IY0", "abbe(2) AE0 B EY1 # french", "abby AE1 B IY0", "ab AE1 B", "d'art D AA1 R T"]
    first = min(("abbe", "abby"), key=lambda word: hashlib.sha256(word.encode()).hexdigest())
    kept = {"abbe": ["abbe AE1 B IY0", "abbe(2) AE0 B EY1"], "abby": ["abby AE1 B IY0"]}
    assert extract(lines, 1) == kept[first]
    whole = (DATA / "extract.dict").read_text(encoding="utf-8").splitlines()
    assert extract(whole) == whole


def test_words_that_are_tested_are_never_learned(spelling: dict[str, Any]) -> None:
    words = spelling["read_words"]()
    split = spelling["Split"].of(words, 2_000)
    assert [len(part) for part in (split.test, split.old, split.new)] == [2_000, 2_000, 4_000]
    assert {*split.old} <= {*split.new}
    assert not {*split.test} & {*split.new}


def test_the_phone_error_is_to_the_nearest_right_way_to_say_a_word(spelling: dict[str, Any]) -> None:
    word = spelling["Word"]("abbe", ("AE B IY", "AE B EY"))
    assert [word.error(said) for said in ("AE B EY", "AE B", "AE B IY T", "")] == [0, 1 / 3, 1 / 3, 1]


def test_the_table_compares_with_the_old_model_and_the_control_of_the_same_seed(
    spelling: dict[str, Any], tmp_path: Path
) -> None:
    right = {"old": ("1100", "1010"), "control": ("1000", "1010"), "eq1": ("1100", "1011")}
    for row, of_seeds in right.items():
        for seed, digits in enumerate(of_seeds):
            errors = [1.0 - int(digit) for digit in digits]
            cell = {"row": row, "seed": seed, "right": digits, "errors": errors, "flips": None, "seconds": 1.0}
            (tmp_path / f"{row}-{seed}.json").write_text(json.dumps(cell | {"size": {}}), encoding="utf-8")
    shown = spelling["table"](tmp_path).splitlines()
    # NFR of the control: 1/4 and 0; of Eq. 1 none. A difference of -25 and 0 has the interval 12.706 * 25 / 2.
    assert shown[0].startswith("| | seeds | exact match, % | phone error, % | NFR, % | relative NFR, %")
    assert shown[2].startswith("| old model | 2 | 50.0 | 50.0 |  |")
    assert "| 2 | 37.5 | 62.5 | 12.5 |" in shown[3]
    assert "| 0.0 (-12.5 ± 158.8) |" in shown[4]
    assert "| 62.5 (+25.0 ± 0.0) |" in shown[4]


def test_the_docs_show_the_table_of_the_kept_cells(spelling: dict[str, Any]) -> None:
    shown = spelling["table"](spelling["RESULTS"])
    assert shown in (ROOT / "docs" / "encoder-decoders.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_every_row_is_trained_and_a_cell_that_is_there_is_not_made_again(
    spelling: dict[str, Any], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    spelling["main"](["--smoke"])
    shown = capsys.readouterr().out
    assert all(f"| {row.title} | 2 |" in shown for row in spelling["ROWS"].values())
    of_seed = spelling["Seed"](0, spelling["SMOKE"], tmp_path, tmp_path / "models")
    made = of_seed.cell("plain")
    capsys.readouterr()
    assert of_seed.cell("plain") == made
    assert not capsys.readouterr().out
