"""What a trainer logs are means over tokens, not means of means of batches."""

import math

import torch

from muscle_hf.losses.compatibility import CompatibilityLoss
from muscle_hf.training.log import LossSums


def _result(tokens: int, to_old: int, old: float, new: float, cross_entropy: float, correct: int) -> CompatibilityLoss:
    values = (tokens, to_old, old, new, cross_entropy, correct)
    return CompatibilityLoss(torch.tensor(0.0), *(torch.tensor(float(value)) for value in values))


def test_batches_of_several_sizes_are_weighted_by_their_tokens() -> None:
    sums = LossSums()
    sums.add(_result(9, 3, 6.0, 3.0, 18.0, 9), positions=20)
    sums.add(_result(1, 1, 2.0, 0.0, 7.0, 0), positions=torch.tensor(3))
    assert sums.figures("mean_token_accuracy") == {
        "aligned_to_old_model": 0.4,
        "divergence_to_old_model": 2.0,
        "divergence_to_new_model": 0.5,
        "cross_entropy": 2.5,
        "mean_token_accuracy": 0.9,
    }
    assert sums["positions"] == 23
    assert sums["tokens"] == 10


def test_a_mean_over_nothing_is_zero_or_looks_like_a_training_that_diverged() -> None:
    sums = LossSums()
    assert sums.figures("accuracy") == {}
    assert all(math.isnan(value) for value in sums.figures("accuracy", with_undefined=True).values())
    sums.add(_result(2, 0, 0.0, 1.0, 1.0, 1))
    assert "divergence_to_old_model" not in sums.figures("accuracy")
    assert math.isnan(sums.figures("accuracy", with_undefined=True)["divergence_to_old_model"])
    sums.add(_result(1, 1, math.nan, 0.0, 1.0, 1))
    assert math.isnan(sums.figures("accuracy")["divergence_to_old_model"]), "which has diverged"
    sums.clear()
    assert sums["tokens"] == 0
