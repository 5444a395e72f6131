"""The loss of pairs whose negative nobody may have looked at, weighed by the model of the other part (CET)."""

import math
from numbers import Real

import torch
from torch import Tensor

from ..errors import ConfigurationError, InputError
from .logits import in_float


def coupled_pair_loss(
    scores: Tensor, other_scores: Tensor, temperature: float = 2.0, *, max_weight: float = 100.0
) -> Tensor:
    """Compute the loss of (positive, unlabelled negative) pairs of CET (arXiv 2209.05072, the authors' code).

    A pair costs the softmax cross-entropy of its two scores, times 1 / (1 - sigmoid(S / T)), S being the other
    model's score of the negative: one that was surely seen counts more. For the relevance model M and the selection
    model S, the losses are `coupled_pair_loss(M, S, T)` and `coupled_pair_loss(S, M, T)`.

    Args:
        scores: float, (..., 2). The model in training: its scores of the positive and, behind it, of the negative.
        other_scores: float, the same shape. Those of the other model, best in eval mode; no gradient reaches it.
        temperature: T. Defaults to 2.0, as in the authors' code.
        max_weight: The largest weight of a pair. Defaults to 100, which S = 9.2 reaches at T = 2; the authors' code
            has no bound (math.inf).

    Returns:
        The mean over the pairs, a scalar. The weights lie above 1 and are not divided by their sum.

    Raises:
        InputError: Scores that are no tensors, shapes that do not fit, or no pair.
        ConfigurationError: A temperature that is no positive number, a largest weight that is none above 1.

    Example:
        >>> scores = torch.tensor([[0.0, 0.0]])  # undecided, so log 2 before it is weighed
        >>> loss = coupled_pair_loss(scores, torch.tensor([[0.0, 2.0]]), temperature=2.0)
        >>> round(loss.item() / math.log(2), 3)
        3.718
    """
    for name, given in (("scores", scores), ("other_scores", other_scores)):
        if not isinstance(given, Tensor):
            kind = type(given).__name__
            raise InputError(f"{name} has the type {kind}, but must be a tensor, such as torch.as_tensor({name})")
    if scores.shape[-1:] != (2,) or other_scores.shape != scores.shape or not scores.numel():
        raise InputError(
            f"scores have shape {tuple(scores.shape)} and other_scores {tuple(other_scores.shape)}, but both must be "
            "(pairs, 2), with the score of the positive before that of the negative"
        )
    if not isinstance(temperature, Real | Tensor) or not 0 < temperature < math.inf:
        raise ConfigurationError(f"temperature is {temperature!r}, but must be a number above 0, such as 2.0")
    if not isinstance(max_weight, Real | Tensor) or not max_weight > 1:
        raise ConfigurationError(f"max_weight is {max_weight!r}, but must be a number above 1, such as 100.0")
    with torch.no_grad():
        # 1 / (1 - sigmoid(a)) = 1 + exp(a), which does not divide by 0 where the sigmoid rounds to 1.
        weights = (1 + (in_float(other_scores[..., 1]) / temperature).exp()).clamp(max=max_weight)
    return (weights * -in_float(scores).log_softmax(-1)[..., 0]).mean()
