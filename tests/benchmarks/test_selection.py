"""The benchmark of labels that are missing runs, and its retrieval and its figures are what it says."""

import csv
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from muscle_hf.demo.data import read_intents

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def selection(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    script = runpy.run_path(str(BENCHMARKS / "selection.py"))
    for name in ("selection_retrieval", "selection_simulation"):
        monkeypatch.delitem(sys.modules, name)
    return script


def test_cosines_and_the_area_are_those_worked_out_by_hand(selection: dict[str, Any]) -> None:
    retrieval = selection["retrieve"].__globals__
    counts = retrieval["_counts"](["red cat"], ["red dog", "red cat cat", "blue dog"], retrieval["words"])
    red, cat, dog, blue = (np.log(4 / (1 + n)) + 1 for n in (2, 1, 2, 1))
    lengths = [np.hypot(red, dog), np.hypot(red, 2 * cat), np.hypot(blue, dog)]
    by_hand = np.array([red * red, red * red + 2 * cat * cat, 0]) / lengths / np.hypot(red, cat)
    np.testing.assert_allclose(retrieval["_tf_idf"](*counts), [by_hand])
    both, share = retrieval["_overlap"](*counts)
    np.testing.assert_array_equal(both, [[1, 2, 0]])
    np.testing.assert_allclose(share, [[1 / 3, 1, 0]])
    area = selection["simulation"].area
    # Of the pairs of a relevant and another row, 3 of 4 are in order.
    assert area(np.array([0.1, 0.2, 0.3, 0.4]), np.array([False, True, False, True])) == 0.75


@pytest.mark.slow
def test_every_way_of_learning_is_a_row(selection: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    selection["main"](["--queries", "80", "--documents", "1500", "--seeds", "0"])
    shown = capsys.readouterr().out
    names = ["naive", "absolute_margin=0.05", "relative_margin=0.2", "weights of the paper", "likelihood", "oracle"]
    assert all(shown.count(f"| {name} |") == 2 for name in names)
    assert "| characters, tf-idf |" in shown


@pytest.mark.slow
def test_the_simulation_tells_the_methods_apart(selection: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    few = ["--rows", "2000", "--draws", "2", "--intervals", "3", "--interval-rows", "1000"]
    selection["main"](["--simulate", *few])
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if "truth 1.5" in line]
    slopes = {name.rpartition(": ")[2]: float(value.split()[0]) for name, value in rows}
    assert slopes["naive"] < 1.1 < slopes["product"]
    assert slopes["weights"] < 1.1


@pytest.mark.slow
def test_the_pairs_that_ship_have_the_columns_and_the_truth_of_the_script(
    selection: dict[str, Any], tmp_path: Path
) -> None:
    kept = BENCHMARKS.parent / "examples" / "data" / "clinc150_retrieval" / "pairs.csv"
    selection["main"](["--seeds", "0", "--queries", "5", "--documents", "200", "--write", str(tmp_path / "pairs.csv")])
    tests, trains = read_intents("test"), read_intents("train")
    tables = []
    for path in (kept, tmp_path / "pairs.csv"):
        with path.open(encoding="utf-8", newline="") as file:
            tables.append(list(csv.DictReader(file)))
        for row in tables[-1]:
            same = tests[int(row["query"])]["intent"] == trains[int(row["document"])]["intent"]
            assert same == (row["relevant"] == "1")
            assert same or row["labelled"] == "0"
    assert [len(table) for table in tables] == [2 * 200 * 20, 2 * 5 * 20]
    assert tables[0][0].keys() == tables[1][0].keys()
