"""The scripts about rare classes run, and the answers that come with the repository are what one of them writes."""

import json
import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import muscle_hf

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
    assert "\n".join(rows) in (ROOT / "docs" / "rare-classes.md").read_text(encoding="utf-8")


@pytest.fixture
def rare_classes(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return runpy.run_path(str(BENCHMARKS / "rare_classes.py"))


def test_the_balanced_rate_and_the_recall_of_cells_are_those_of_the_comparison(rare_classes: dict[str, Any]) -> None:
    chance = np.random.default_rng(0)
    references = ["a"] * 30 + ["b"] * 6 + ["c"] * 4
    old, new = (chance.random((2, 40)) < share for share in (0.8, 0.6))
    found = rare_classes["estimates_by_class"](old, new, references, "b")
    for seed in range(2):
        answers = [
            [gold if is_right else "none" for gold, is_right in zip(references, right[seed], strict=True)]
            for right in (old, new)
        ]
        compared = muscle_hf.compare(old=answers[0], new=answers[1], references=references)
        figures = {name: each.of_seeds[seed] for name, each in found.items()}
        assert figures == pytest.approx(
            {
                "accuracy": compared.new_accuracy,
                "nfr": compared.negative_flip_rate,
                "balanced": compared.balanced_negative_flip_rate,
                "recall": new[seed, 30:36].mean(),
            }
        )
    # With one seed the variance is that of draws within each class.
    alone = rare_classes["estimates_by_class"](old[:1], new[:1], references, "b")
    lost = old[0] & ~new[0]
    parts = [lost[:30], lost[30:36], lost[36:]]
    assert alone["balanced"].variance[0] == pytest.approx(sum(part.var() / len(part) for part in parts) / 9 * 40 / 39)


def test_cells_without_right_answers_or_with_others_make_no_table_of_losses(
    rare_classes: dict[str, Any], tmp_path: Path
) -> None:
    cells = rare_classes["read"].__globals__
    kept = next(iter(cells["read_all"](cells["RESULTS"])))
    table = rare_classes["of_losses"]

    def keep(strategy: str, right: list[bool], references: list[str] | None) -> None:
        packed = "" if references is None else cells["packed"](references)
        flags = cells["bits"](right)
        cell = replace(kept, update="minilm", task="t", strategy=strategy, seed=0, n=4, right=flags, references=packed)
        cell.write(tmp_path)

    keep("old", [True, True, True, False], None)
    with pytest.raises(SystemExit, match="no cell of t that has the right answers"):
        table("t", "b", tmp_path)
    keep("focal-ce", [True, False, True, True], ["a", "a", "b", "b"])
    keep("dice-batch", [True, True, False, True], ["a", "a", "b", "b"])
    shown = table("t", "b", tmp_path)
    assert "n = 4 test questions of 2 classes, 2 of them b" in shown
    row = next(line for line in shown.splitlines() if "dice by batch" in line)
    means = [cell.split()[0] for cell in row.split("|")[3:-1]]
    assert means == ["75.00", "25.00", "25.00", "50.00", "0.00", "-50.00", "0.00"]
    with pytest.raises(SystemExit, match="No question of t has the class 'c'"):
        table("t", "c", tmp_path)
    keep("control", [True] * 4, ["a", "b", "b", "b"])
    with pytest.raises(SystemExit, match="other questions than their neighbours"):
        table("t", "b", tmp_path)


@pytest.fixture
def words() -> dict[str, Any]:
    return runpy.run_path(str(BENCHMARKS / "dice_words.py"))


def test_a_word_is_capitalised_inside_a_sentence_alone(words: dict[str, Any]) -> None:
    assert words["rows_of"]('She met Ann. "How much?" Bob asked (Eve).') == [
        {"tokens": ["she", "met", "ann."], "tags": [0, 0, 1]},
        {"tokens": ['"how', 'much?"'], "tags": [0, 0]},
        {"tokens": ["bob", "asked", "(eve)."], "tags": [0, 0, 1]},
    ]


def test_balanced_sampling_drops_rare_words_or_keeps_too_many_others(words: dict[str, Any]) -> None:
    rows = [{"tokens": list("abcdefghij"), "tags": [1] + [0] * 9}]
    drawn = words["balanced"](rows, 2000, 0)
    tags = [tag for row in drawn for tag in row["tags"]]
    assert (len(drawn), tags.count(1)) == (2000, 2000)
    assert abs(tags.count(0) - 2000) < 200
    assert rows[0]["tags"].count(0) == 9


@pytest.mark.slow
def test_every_loss_of_words_is_a_row(words: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    words["main"](["--smoke"])
    shown = capsys.readouterr().out
    assert all(f"| {title} | 1 |" in shown for title in words["TITLES"].values())


def test_the_page_shows_other_figures_than_the_kept_intents(rare_classes: dict[str, Any]) -> None:
    shown = rare_classes["of_losses"]("clinc150-oos", "oos")
    assert shown[shown.index("|") :].rstrip() in (ROOT / "docs" / "rare-classes.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["dice_words.json", "dice_words_minilm.json"])
def test_the_page_shows_other_figures_than_the_kept_cells(words: dict[str, Any], name: str) -> None:
    kept = json.loads(words["CELLS"].with_name(name).read_text(encoding="utf-8"))
    assert words["table"](kept) in (ROOT / "docs" / "rare-classes.md").read_text(encoding="utf-8")
