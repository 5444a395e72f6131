"""The simulation of clusters runs, on as little as it can, and draws what it says."""

import runpy
from pathlib import Path

import numpy as np
import pytest

BENCHMARK = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "clusters.py"))


@pytest.mark.parametrize("alike", [0.0, 0.3, 1.0])
def test_clusters_are_drawn_as_alike_as_they_should_be(alike: float) -> None:
    cells = BENCHMARK["draw"](np.full(50, 10), 0.2, 0.5, alike, 400, np.random.default_rng(0))
    assert cells.sum(1).min() == cells.sum(1).max() == 10
    assert cells.mean((0, 2)) / 10 == pytest.approx([0.55, 0.1, 0.1, 0.25], abs=0.01)
    for kind, share in enumerate([0.55, 0.1, 0.1, 0.25]):
        # The variance of a count of m alike answers is m share (1 - share) (1 + (m - 1) alike).
        expected = 10 * share * (1 - share) * (1 + 9 * alike)
        assert cells[:, kind].var() == pytest.approx(expected, rel=0.06)


def test_sizes_of_clusters_add_up_to_the_answers() -> None:
    sizes = BENCHMARK["cluster_sizes"](500, "unequal", 0)
    assert sizes.sum() == 500
    assert sizes.min() >= 1
    assert len(sizes) > 40
    assert BENCHMARK["cluster_sizes"](500, "5", 0).tolist() == [5] * 100


def test_a_comparison_made_of_cells_is_that_of_its_answers() -> None:
    from muscle_hf.flips.comparison import compare

    cells = BENCHMARK["draw"](np.full(6, 5), 0.4, 0.5, 0.3, 1, np.random.default_rng(1))[0].astype(int)
    old, new, clusters = [], [], []
    for cluster in range(6):
        for kind, (first, second) in enumerate([("yes", "yes"), ("no", "yes"), ("yes", "no"), ("no", "no")]):
            count = cells[kind, cluster]
            old, new = old + [first] * count, new + [second] * count
            clusters += [cluster] * count
    expected = compare(old=old, new=new, references=["yes"] * 30, clusters=clusters)
    found = BENCHMARK["compared"](cells.astype(float))
    for name in (*BENCHMARK["RATES"], "accuracy_change"):
        assert found.confidence_interval(name) == pytest.approx(expected.confidence_interval(name))


@pytest.mark.slow
def test_the_benchmark_of_clusters_prints_a_row_for_each_size(capsys: pytest.CaptureFixture[str]) -> None:
    BENCHMARK["main"](
        [
            "--answers",
            "50",
            "--draws",
            "2",
            "--change-draws",
            "1",
            "--score-draws",
            "1",
            "--rates",
            "0.1",
            "--alike",
            "0",
            "1",
        ]
    )
    lines = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:4]] for line in lines if line.startswith("| 50 ")]
    assert rows == 3 * [["50", "50", "1"], ["50", "10", "5"], ["50", "5", "10"], ["50", "9", "unequal"]]
