"""Logits and labels, as every loss reads them."""

import torch
import torch.nn.functional
from torch import Tensor

IGNORE_INDEX = -100


def gold_log_probability(logits: Tensor, gold: Tensor) -> Tensor:
    """Return the log-probability of each gold token at temperature 1: float32 or float64, (tokens,).

    Example:
        >>> gold_log_probability(torch.zeros(1, 4), torch.tensor([2])).exp()
        tensor([0.2500])
    """
    return -torch.nn.functional.cross_entropy(in_float(logits), gold, reduction="none")


def in_float(logits: Tensor) -> Tensor:
    """Half-precision logits are summed over a vocabulary, which needs more digits than they have."""
    return logits if logits.dtype == torch.float64 else logits.float()


def log_softmax(logits: Tensor, temperature: float) -> Tensor:
    """Return log softmax(logits / temperature) over the last dimension, in float32 or float64."""
    return torch.nn.functional.log_softmax(in_float(logits) / temperature, dim=-1)


def next_token_labels(labels: Tensor) -> Tensor:
    """Shift labels to the position that predicts them, so that they line up with a causal model's logits.

    Args:
        labels: int64, (batch, length). As transformers models take them: the label of a token stands at the token.

    Returns:
        int64, (batch, length). The last position of each row is -100.

    Example:
        >>> next_token_labels(torch.tensor([[-100, 5, 6]]))
        tensor([[   5,    6, -100]])
    """
    return torch.nn.functional.pad(labels[:, 1:], (0, 1), value=IGNORE_INDEX)
