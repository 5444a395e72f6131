"""The benchmark of yes/no intervals runs, and its truths are those of normals."""

import runpy
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "yes_no.py"


@pytest.mark.slow
def test_every_interval_and_the_threshold_are_held_to_a_truth(capsys: pytest.CaptureFixture[str]) -> None:
    script = runpy.run_path(str(SCRIPT))
    script["main"](["--sizes", "20:10", "--draws", "1", "--thresholds", "2"])
    shown = capsys.readouterr().out
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in shown.splitlines() if line.startswith("| 20 + 10")
    ]
    assert [row[1] for row in rows] == [*script["OF_ONE"], *script["OF_BOTH"], "none", "some"]
    assert sum(line.startswith(("| 100 |", "| 400 |")) for line in shown.splitlines()) == 6


def test_drawn_answers_have_the_rates_that_are_taken_for_true() -> None:
    script = runpy.run_path(str(SCRIPT))
    models = script["Model"](2.5, -1.0), script["Model"](0.5, 1.0)
    cells = script["cells_of"](models, (4_000, 4_000), 10, 0).sum(axis=0)
    assert cells.sum() == 80_000
    for model, said in zip(models, (cells.sum(axis=2), cells.sum(axis=1)), strict=True):
        truth = model.truth()
        assert said[0, 1] / 40_000 == pytest.approx(truth["false_negative_rate"], abs=0.01)
        assert said[1, 0] / 40_000 == pytest.approx(truth["false_positive_rate"], abs=0.01)
    # The two models err together.
    assert np.corrcoef(np.repeat([[0, 0], [0, 1], [1, 0], [1, 1]], cells[0].ravel(), axis=0).T)[0, 1] > 0.05
