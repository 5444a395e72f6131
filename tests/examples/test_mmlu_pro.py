"""The MMLU-Pro example gives the published counts, and its table can be read."""

import runpy
from pathlib import Path
from typing import Any

import pytest

from muscle_hf import Comparison, RunComparison

SCRIPT = Path(__file__).parents[2] / "examples" / "mmlu_pro_update.py"


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


@pytest.mark.parametrize(
    ("old", "new", "accuracies", "negative", "positive", "wrong_anew"),
    [
        ("Llama-2-7b-hf", "Meta-Llama-3-8B", (0.1831, 0.3416), 839, 2744, 0.4205),
        ("Mistral-7B-v0.1", "Mistral-7B-v0.2-hf", (0.2975, 0.2915), 1073, 1001, 0.2887),
    ],
)
def test_the_published_counts_do_not_drift(
    example: dict[str, Any],
    old: str,
    new: str,
    accuracies: tuple[float, float],
    negative: int,
    positive: int,
    wrong_anew: float,
) -> None:
    result: RunComparison = example["compare"](old, new)
    assert result.overall is not None
    c = result.overall.comparison
    assert isinstance(c, Comparison)
    assert c.n == 12018
    assert (round(c.old_accuracy, 4), round(c.new_accuracy, 4)) == accuracies
    assert (len(c.negative_flips), len(c.positive_flips)) == (negative, positive)
    assert round(c.inconsistency_flip_rate - c.negative_flip_rate, 4) == wrong_anew
    parts = result.slices["category"]
    assert len(parts) == 14
    assert sum(part.n for part in parts) == c.n
    assert (sum(p.coin.negative for p in parts), sum(p.coin.positive for p in parts)) == (negative, positive)


def test_the_script_prints_both_updates_by_subject(
    example: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    example["main"]()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Llama-2-7b-hf -> Meta-Llama-3-8B"
    assert lines[1].startswith("Of 12,018 answers the update breaks 839 that were right (7.0 %) and repairs 2,744")
    assert sum(line.startswith("computer science") for line in lines) == 2
    assert any(line.startswith("Of 12,018 answers the update breaks 1,073") for line in lines)
