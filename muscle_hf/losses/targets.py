"""What a teacher gives for the trained tokens of a batch: from its hidden states, or from a cache.

Nothing is worked out before it is asked for. Where the mask never asks the old model, the old model reads no sequence
but those with a token that goes to it.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from ..errors import TeacherError
from .logits import gold_log_probability
from .masks import ModelScores, StoredScores

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
        """Return the logits of these tokens: int64, (chunk,) -> float, (chunk, vocabulary)."""


class TopKTargets(Targets, Protocol):
    """A teacher that gives the probabilities of its likeliest tokens, and of all others together."""

    @property
    def confidence(self) -> Tensor:
        """The log-probability of its likeliest token at temperature 1: float, (tokens,)."""

    def top(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return ids (chunk, k), log-probabilities (chunk, k) and the log of the remaining mass (chunk,)."""


def tokens_of_a_chunk(vocabulary: int, device: torch.device) -> int:
    """Return how many tokens' logits are held at a time: 36 MiB of float32 each time they are copied, 128 on a GPU.

    Args:
        vocabulary: Tokens of the vocabulary.
        device: A GPU needs larger chunks to be busy.
    """
    # Above 32 MiB the C library gives memory back at once. Below, it keeps it in pieces that the next chunk does not
    # fit into: a gigabyte of them was measured.
    numbers = 2**25 if device.type == "cuda" else 9 * 2**20
    return -(-numbers // vocabulary)


class ProjectedScores:
    """Scores from hidden states, a chunk at a time, worked out when they are asked for.

    Args:
        hidden: float, (tokens, hidden size).
        head: Turns hidden states into logits.
        gold: int64, (tokens,).
        size: Tokens of a chunk.
    """

    def __init__(self, hidden: Tensor, head: Head, gold: Tensor, size: int) -> None:
        """Keep the tensors; nothing is worked out yet."""
        self.hidden, self.head, self.gold, self.size = hidden.detach(), head, gold, size

    @torch.no_grad()
    def _each(self, work: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        chunks = zip(torch.split(self.hidden, self.size), torch.split(self.gold, self.size), strict=True)
        parts = [work(self.head(hidden), gold) for hidden, gold in chunks]
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
        size: Tokens of a chunk.
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
            with torch.no_grad():
                self._hidden = self.forward(tokens)

    def logits(self, tokens: Tensor) -> Tensor:
        """Return the logits of these tokens."""
        assert self._hidden is not None, "prepare() comes first"  # noqa: S101 - a mistake of ours, not of a user
        return self._project(self._hidden[tokens.to(self._hidden.device)])

    def check(self) -> None:
        """Refuse NaN; in one go, since each look waits for the device."""
        refuse_nan(self.name, bool(self._is_nan))

    @torch.no_grad()
    def _project(self, hidden: Tensor) -> Tensor:
        logits = self.head(hidden)
        self._is_nan |= torch.isnan(logits).any().to(self._is_nan.device)
        return logits


class CachedTopK:
    """A teacher's k likeliest tokens, computed before training. Implements [`TopKTargets`].

    Args:
        ids: int64, (tokens, k).
        log_probabilities: float, (tokens, k). At the strategy's temperature.
        rest: float, (tokens,). Log of the mass of all other tokens.
        right: bool, (tokens,).
        log_likelihood: float, (tokens,). Of the gold token, at temperature 1.
        confidence: float, (tokens,). Log-probability of the likeliest token, at temperature 1.
    """

    def __init__(
        self,
        ids: Tensor,
        log_probabilities: Tensor,
        rest: Tensor,
        *,
        right: Tensor,
        log_likelihood: Tensor,
        confidence: Tensor,
    ) -> None:
        """Keep the tensors."""
        self._top = (ids, log_probabilities, rest)
        self.scores: ModelScores = StoredScores(right, log_likelihood)
        self.confidence = confidence

    def prepare(self, tokens: Tensor) -> None:
        """Nothing is left to do."""

    def check(self) -> None:
        """NaN was refused when the cache was written."""

    def top(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return ids, log-probabilities and the log of the remaining mass."""
        ids, log_probabilities, rest = self._top
        return ids[tokens], log_probabilities[tokens], rest[tokens]


class CachedHidden:
    """A teacher's last hidden states, computed before training, and its LM head. Implements [`LogitTargets`].

    Args:
        hidden: float, (tokens, hidden size).
        head: Turns hidden states into logits.
        right: bool, (tokens,).
        log_likelihood: float, (tokens,). Of the gold token, at temperature 1.
    """

    def __init__(self, hidden: Tensor, head: Head, *, right: Tensor, log_likelihood: Tensor) -> None:
        """Keep the tensors."""
        self.hidden, self.head = hidden, head
        self.scores: ModelScores = StoredScores(right, log_likelihood)

    def prepare(self, tokens: Tensor) -> None:
        """Nothing is left to do."""

    def check(self) -> None:
        """NaN was refused when the cache was written."""

    @torch.no_grad()
    def logits(self, tokens: Tensor) -> Tensor:
        """Return the logits of these tokens."""
        return self.head(self.hidden[tokens])


def refuse_nan(name: str, is_nan: bool) -> None:
    """Refuse a teacher whose logits are NaN.

    Args:
        name: "old" or "new".
        is_nan: Whether one of them is.

    Raises:
        TeacherError: It is.
    """
    if is_nan:
        raise TeacherError(
            f"The {name} model gives NaN logits, and a student that learns from them would turn to NaN at once. Load "
            "it in a precision that holds its activations (bfloat16 or float32 in place of float16), and check its "
            "adapter's weights."
        )
