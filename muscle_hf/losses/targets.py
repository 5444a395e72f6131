"""What a teacher gives for the trained tokens of a batch: from its hidden states, or from a cache.

Nothing is worked out before it is asked for. Where the mask never asks the old model, the old model reads no sequence
but those with a token that goes to it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from ..errors import TeacherError
from .logits import gold_log_probability
from .masks import ModelScores, StoredScores
from .sampled import SampledTarget
from .topk import TopKTarget

Head = Callable[[Tensor], Tensor]


class Targets(Protocol):
    """What a teacher gives for the trained tokens of a batch."""

    @property
    def scores(self) -> ModelScores:
        """How the teacher does on the gold tokens."""

    def prepare(self, tokens: Tensor) -> None:
        """Get ready to be asked about these tokens: bool, (tokens,)."""

    def check(self) -> None:
        """Refuse what it gave if that was NaN; called once, after the last token."""


class LogitTargets(Targets, Protocol):
    """A teacher that gives logits."""

    def logits(self, tokens: Tensor) -> Tensor:
        """Return the logits of these tokens: int64, (slice,) -> float, (slice, vocabulary)."""


class TopKTargets(Targets, Protocol):
    """A teacher that gives the probabilities of its likeliest tokens, and of all others together."""

    @property
    def confidence(self) -> Tensor:
        """The log-probability of its likeliest token at temperature 1: float, (tokens,)."""

    def top(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return ids (slice, k), log-probabilities (slice, k) and the log of the remaining mass (slice,)."""


class SampledTargets(Targets, Protocol):
    """A teacher that gives drawn tokens, and what each of them stands for."""

    @property
    def confidence(self) -> Tensor:
        """The log-probability of its likeliest token at temperature 1: float, (tokens,)."""

    def drawn(self, tokens: Tensor) -> SampledTarget:
        """Return what is drawn for these tokens."""


def tokens_of_a_slice(vocabulary: int, device: torch.device) -> int:
    """Return how many tokens' logits are held at a time: 36 MiB of float32 each time they are copied, 128 on a GPU."""
    # Above 32 MiB the C library gives memory back at once. Below, it keeps it in pieces that the next slice does not
    # fit into: a gigabyte of them was measured.
    # A GPU needs more to be busy.
    numbers = 2**25 if device.type == "cuda" else 9 * 2**20
    return -(-numbers // vocabulary)


class ProjectedScores:
    """Scores from hidden states, (tokens, hidden size), and the LM head: slice by slice, when they are asked for."""

    def __init__(self, hidden: Tensor, head: Head, gold: Tensor, size: int) -> None:
        """Keep the tensors; nothing is worked out yet."""
        self.hidden, self.head, self.gold, self.size = hidden.detach(), head, gold, size

    @torch.no_grad()
    def _each(self, work: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        slices = zip(torch.split(self.hidden, self.size), torch.split(self.gold, self.size), strict=True)
        parts = [work(self.head(hidden), gold) for hidden, gold in slices]
        return torch.cat(parts) if parts else self.gold.new_zeros(0)

    @cached_property
    def right(self) -> Tensor:
        """Whether the likeliest token is the gold one: bool, (tokens,)."""
        return self._each(lambda logits, gold: logits.argmax(-1) == gold).bool()

    @cached_property
    def log_likelihood(self) -> Tensor:
        """Log-probability of the gold token: float, (tokens,)."""
        return self._each(gold_log_probability)


class LiveTargets:
    """A teacher that is asked now. Implements [`LogitTargets`].

    Args:
        name: "old" or "new", for messages.
        forward: Runs the model for some of the trained tokens, bool (tokens,), and returns the last hidden states at
            all of them, float (tokens, hidden size); those of other tokens mean nothing.
        head: Turns hidden states into logits.
        gold: int64, (tokens,).
        size: Tokens of a slice.
    """

    def __init__(self, name: str, forward: Callable[[Tensor], Tensor], head: Head, gold: Tensor, size: int) -> None:
        """Keep what will be needed; the model does not run yet."""
        self.name, self.forward, self.head, self.gold, self.size = name, forward, head, gold, size
        self._hidden: Tensor | None = None
        self._is_nan = torch.zeros((), dtype=torch.bool, device=gold.device)

    @cached_property
    def scores(self) -> ModelScores:
        """How the teacher does on the gold tokens; the model reads every sequence."""
        self.prepare(torch.ones_like(self.gold, dtype=torch.bool))
        assert self._hidden is not None  # noqa: S101 - for the type checker
        return ProjectedScores(self._hidden, self._project, self.gold, self.size)

    def prepare(self, tokens: Tensor) -> None:
        """Run the model, unless it has run for a mask, or is not needed at all."""
        if self._hidden is None and bool(tokens.any()):
            self.run(tokens)

    @torch.no_grad()
    def run(self, tokens: Tensor) -> None:
        """Run the model."""
        self._hidden = self.forward(tokens)

    def logits(self, tokens: Tensor) -> Tensor:
        """Return the logits of these tokens."""
        assert self._hidden is not None, "prepare() comes first"  # noqa: S101 - a mistake of ours, not of a user
        return self._project(self._hidden[tokens.to(self._hidden.device)])

    def check(self) -> None:
        """Refuse NaN; in one go, since each look waits for the device."""
        if bool(self._is_nan):
            raise nan_error(self.name)

    @torch.no_grad()
    def _project(self, hidden: Tensor) -> Tensor:
        logits = self.head(hidden)
        self._is_nan |= torch.isnan(logits).any().to(self._is_nan.device)
        return logits


class _Cached:
    """What was computed before training."""

    def prepare(self, tokens: Tensor) -> None:
        """Nothing is left to do."""

    def check(self) -> None:
        """NaN was refused when the cache was written."""


@dataclass(frozen=True)
class CachedTopK(_Cached):
    """A teacher's k likeliest tokens. Implements [`TopKTargets`].

    Args:
        target: At the strategy's temperature.
        scores: At temperature 1, as the confidence.
        confidence: float, (tokens,). Log-probability of the likeliest token.
    """

    target: TopKTarget
    scores: StoredScores
    confidence: Tensor

    def top(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return ids, log-probabilities and the log of the remaining mass."""
        ids, log_probabilities, rest = self.target
        return ids[tokens], log_probabilities[tokens], rest[tokens]


@dataclass(frozen=True)
class CachedSampled(_Cached):
    """Drawn tokens of a teacher. Implements [`SampledTargets`]; the arguments are those of [`CachedTopK`]."""

    target: SampledTarget
    scores: StoredScores
    confidence: Tensor

    def drawn(self, tokens: Tensor) -> SampledTarget:
        """Return what is drawn for these tokens."""
        return SampledTarget(*(part[tokens] for part in self.target))


@dataclass(frozen=True)
class CachedHidden(_Cached):
    """A teacher's last hidden states, float, (tokens, hidden size), and its LM head. Implements [`LogitTargets`]."""

    hidden: Tensor
    head: Head
    scores: StoredScores

    @torch.no_grad()
    def logits(self, tokens: Tensor) -> Tensor:
        """Return the logits of these tokens."""
        return self.head(self.hidden[tokens])


def refuse_nan(name: str, logits: Tensor) -> None:
    """Refuse a teacher, "old" or "new", whose logits are NaN."""
    if bool(torch.isnan(logits).any()):
        raise nan_error(name)


def nan_error(name: str) -> TeacherError:
    """Return the exception for a teacher, "old" or "new", whose logits are NaN."""
    return TeacherError(
        f"The {name} model gives NaN logits, and a student that learns from them would turn to NaN at once. Load "
        "it in a precision that holds its activations (bfloat16 or float32 in place of float16), and check its "
        "adapter's weights."
    )
