"""Masks: which tokens learn from the old model. Each looks at how three models do on the gold tokens.

A mask never sees logits. It asks a model whether its likeliest token is the gold one (`right`), and how likely it
finds the gold token (`log_likelihood`), and these are worked out when they are asked for: a mask that does not ask the
old model costs no pass of the old model.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from ..errors import ConfigurationError
from .logits import gold_log_probability


class ModelScores(Protocol):
    """How a model does on the gold tokens."""

    @property
    def right(self) -> Tensor:
        """Whether its likeliest token is the gold one: bool, (tokens,)."""

    @property
    def log_likelihood(self) -> Tensor:
        """Its log-probability of the gold token at temperature 1: float32 or float64, (tokens,)."""


@dataclass(frozen=True)
class StoredScores:
    """Scores that are known already.

    Args:
        right: bool, (tokens,). Whether the model's likeliest token is the gold one.
        log_likelihood: float, (tokens,). Log-probability of the gold token at temperature 1.
    """

    right: Tensor
    log_likelihood: Tensor


class LogitScores:
    """Scores from logits, (tokens, vocabulary), and gold tokens, none of them -100; worked out when asked for."""

    def __init__(self, logits: Tensor, gold: Tensor) -> None:
        """Keep the tensors; nothing is worked out yet."""
        self.logits = logits
        self.gold = gold

    @cached_property
    def right(self) -> Tensor:
        """Whether the likeliest token is the gold one: bool, (tokens,)."""
        return self.logits.argmax(-1) == self.gold

    @cached_property
    def log_likelihood(self) -> Tensor:
        """Log-probability of the gold token: float32 or float64, (tokens,)."""
        return gold_log_probability(self.logits, self.gold)


@dataclass(frozen=True)
class Scores:
    """What a mask may look at: how three models do on the trained tokens.

    Args:
        student: The adapter in training.
        old: The frozen old model.
        new: The frozen new model.
        gold: int64, (tokens,). The gold tokens, none of them -100.
        sequence: int64, (tokens,). The number of the sequence that each token belongs to, from 0.
    """

    student: ModelScores
    old: ModelScores
    new: ModelScores
    gold: Tensor
    sequence: Tensor


# Gives bool, (tokens,); True: this token learns from the old model.
Mask = Callable[[Scores], Tensor]


def student_wrong(scores: Scores) -> Tensor:
    """Mark the tokens that the student gets wrong now: the method's mask (MUSCLE, Eq. 1)."""
    return ~scores.student.right


def new_wrong(scores: Scores) -> Tensor:
    """Mark the tokens that the new model gets wrong: Eq. 1 with the mask of the start, which never moves."""
    return ~scores.new.right


def old_right(scores: Scores) -> Tensor:
    """Mark the tokens that the old model gets right (MUSCLE, section 6.5)."""
    return scores.old.right


def old_better(scores: Scores) -> Tensor:
    """Mark the tokens whose gold token the old model finds at least as likely as the new one (Xie 2021, "better").

    Both are frozen, so this mask never moves: CE_old <= CE_new (arXiv 2105.03048).
    """
    return scores.old.log_likelihood >= scores.new.log_likelihood


def token_likelihood(scores: Scores) -> Tensor:
    """Mark the tokens whose gold token the old model finds likelier than the student does (MUSCLE, Eq. 2)."""
    return scores.student.log_likelihood < scores.old.log_likelihood


def sequence_likelihood(scores: Scores) -> Tensor:
    """Mark whole sequences that the old model finds likelier than the student does (MUSCLE, Eq. 3).

    The paper prints no threshold. Here a sequence's log-likelihood is the sum over its trained tokens, and the old
    model must have the larger one.
    """
    gain = scores.old.log_likelihood - scores.student.log_likelihood
    sequences = int(scores.sequence.max()) + 1 if scores.sequence.numel() else 0
    total = gain.new_zeros(sequences).index_add(0, scores.sequence, gain)
    return (total > 0)[scores.sequence]


def negative_flip(scores: Scores) -> Tensor:
    """Mark the tokens that are negative flips now: the old model is right and the student wrong."""
    return scores.old.right & ~scores.student.right


def every_token(scores: Scores) -> Tensor:
    """Mark every token: KL to the old model only (MUSCLE, section 6.5, "none")."""
    return torch.ones_like(scores.gold, dtype=torch.bool)


MASKS: dict[str, Mask] = {
    "student_wrong": student_wrong,
    "new_wrong": new_wrong,
    "old_right": old_right,
    "old_better": old_better,
    "token_likelihood": token_likelihood,
    "sequence_likelihood": sequence_likelihood,
    "negative_flip": negative_flip,
    "none": every_token,
}


def marked_tokens(mask: str | Mask, scores: Scores) -> Tensor:
    """Apply a mask, by name or a function of one's own, and hold it to its shape."""
    if isinstance(mask, str):
        return MASKS[mask](scores)
    marked: Any = mask(scores)
    if not isinstance(marked, Tensor) or marked.dtype != torch.bool or marked.shape != scores.gold.shape:
        got = f"{marked.dtype}, {tuple(marked.shape)}" if isinstance(marked, Tensor) else f"a {type(marked).__name__}"
        raise ConfigurationError(
            f"The mask {getattr(mask, '__name__', mask)!r} returned {got}; it must return one bool a trained token: "
            f"torch.bool, {tuple(scores.gold.shape)}."
        )
    return marked
