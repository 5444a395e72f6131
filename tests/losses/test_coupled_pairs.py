"""The coupled loss of pairs has the weights of the authors' code, and stays finite where those do not."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from muscle_hf.errors import ConfigurationError, InputError
from muscle_hf.losses import coupled_pair_loss


def test_the_weight_is_the_official_one_by_hand() -> None:
    scores, other = torch.zeros(1, 2), torch.tensor([[9.0, 2.0]])
    by_hand = 1 / (1 - 1 / (1 + math.exp(-1)))
    assert by_hand == pytest.approx(3.718, abs=5e-4)
    assert coupled_pair_loss(scores, other, temperature=2.0).item() == pytest.approx(by_hand * math.log(2))


def test_the_loss_is_the_mean_of_weighted_cross_entropies() -> None:
    draw = torch.Generator().manual_seed(0)
    scores, other = (torch.randn(5, 2, generator=draw, dtype=torch.float64) for _ in range(2))
    each = [
        math.log(1 + math.exp(negative - positive)) / (1 - 1 / (1 + math.exp(-seen / 3)))
        for (positive, negative), (_, seen) in zip(scores.tolist(), other.tolist(), strict=True)
    ]
    assert coupled_pair_loss(scores, other, 3.0).item() == pytest.approx(sum(each) / 5)


def test_no_gradient_reaches_the_model_that_weighs() -> None:
    scores, other = (torch.randn(4, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    coupled_pair_loss(scores, other, 2.0).backward()
    assert other.grad is None
    # The gradient of the cross-entropy, weighed: -w P(negative) for the positive, and the reverse for the negative.
    weights = 1 / (1 - (other[:, 1] / 2).sigmoid())
    expected = (weights * scores.softmax(-1)[:, 1] / 4).detach()
    torch.testing.assert_close(scores.grad, torch.stack([-expected, expected], dim=1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_negative_that_was_surely_seen_does_not_make_the_loss_infinite(dtype: torch.dtype) -> None:
    seen = torch.tensor([[0.0, 500.0]], dtype=dtype)
    loss = coupled_pair_loss(torch.zeros(1, 2, dtype=dtype), seen, 2.0)
    assert loss.item() == pytest.approx(100 * math.log(2))
    assert coupled_pair_loss(torch.zeros(1, 2), torch.tensor([[0.0, 30.0]]), 2.0, max_weight=math.inf).item() > 1e6


@pytest.mark.parametrize(
    ("scores", "other", "options", "error"),
    [
        (torch.zeros(3), torch.zeros(3), {}, InputError),
        (torch.zeros(3, 2), torch.zeros(2, 2), {}, InputError),
        (torch.zeros(0, 2), torch.zeros(0, 2), {}, InputError),
        (torch.zeros(3, 2), torch.zeros(3, 2), {"temperature": 0.0}, ConfigurationError),
        (torch.zeros(3, 2), torch.zeros(3, 2), {"max_weight": 1.0}, ConfigurationError),
        (np.zeros((3, 2)), torch.zeros(3, 2), {}, InputError),
        (torch.zeros(3, 2), [[0.0, 0.0]] * 3, {}, InputError),
        (torch.zeros(3, 2), torch.zeros(3, 2), {"temperature": "a"}, ConfigurationError),
        (torch.zeros(3, 2), torch.zeros(3, 2), {"max_weight": None}, ConfigurationError),
    ],
)
def test_what_would_train_silently_wrong_is_refused(
    scores: Any, other: Any, options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        coupled_pair_loss(scores, other, **options)
