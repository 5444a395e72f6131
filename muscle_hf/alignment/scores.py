"""How a model does on chunks of text: right where every token is, as likely as all of its tokens together."""

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from ..losses.logits import gold_log_probability

# int64, (some tokens,) -> float, (some tokens, vocabulary): the logits that predict each of them.
LogitsOf = Callable[[Tensor], Tensor]


def chunk_log_likelihoods(token_log_likelihoods: Tensor, chunk_ids: Tensor, number: int) -> Tensor:
    """Add up the tokens' log-likelihoods in each of so many chunks: the chain rule; 0 for a chunk without tokens.

    `chunk_ids` is int64, (tokens,): the number of each token's chunk, or -1.

    Example:
        >>> chunk_log_likelihoods(torch.tensor([-1.0, -2.0, -4.0]), torch.tensor([0, -1, 0]), 2)
        tensor([-5.,  0.])
    """
    inside = chunk_ids >= 0
    total = token_log_likelihoods.new_zeros(number)
    return total.index_add(0, chunk_ids[inside], token_log_likelihoods[inside])


def chunk_right(token_right: Tensor, chunk_ids: Tensor, number: int) -> Tensor:
    """Tell for each of so many chunks whether every token in it is right; True for a chunk without tokens.

    Example:
        >>> chunk_right(torch.tensor([True, True, False]), torch.tensor([0, 1, 1]), 2)
        tensor([ True, False])
    """
    return count_tokens(chunk_ids[~token_right], number) == 0


class ChunkScores:
    """How a model does on chunks, from the logits of a few tokens at a time, worked out when it is asked for.

    Both figures come from one look at the logits; tokens in no chunk are not looked at.

    Args:
        logits_of: Gives the logits of some of the tokens.
        tokens: int64, (tokens,). What they are to predict.
        chunk_ids: int64, (tokens,). The number of each token's chunk, or -1.
        number: How many chunks there are.
        size: Tokens of which logits are asked for at a time. Defaults to all.

    Example:
        >>> logits = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
        >>> scores = ChunkScores(logits.__getitem__, torch.tensor([0, 1, 1]), torch.tensor([0, -1, 0]), 1)
        >>> scores.log_likelihood.exp(), scores.right
        (tensor([0.2500]), tensor([False]))
    """

    def __init__(
        self, logits_of: LogitsOf, tokens: Tensor, chunk_ids: Tensor, number: int, size: int | None = None
    ) -> None:
        """Keep what is needed; nothing is worked out yet."""
        self.logits_of, self.tokens, self.chunk_ids, self.number, self.size = (
            logits_of,
            tokens,
            chunk_ids,
            number,
            size,
        )
        self._are_known = False

    @property
    def right(self) -> Tensor:
        """Whether every token of a chunk is the likeliest: bool, (chunks,)."""
        return self._all[0]

    @property
    def log_likelihood(self) -> Tensor:
        """Log-probability of a chunk at temperature 1: float32 or float64, (chunks,)."""
        return self._all[1]

    def log_likelihood_of(self, chosen: Tensor) -> Tensor:
        """Give the log-likelihoods of some chunks: bool, (chunks,) -> float, (chunks,), 0 for others."""
        if self._are_known:
            return self.log_likelihood
        return self._of(torch.where(of_chunks(chosen, self.chunk_ids), self.chunk_ids, -1))[1]

    @cached_property
    def _all(self) -> tuple[Tensor, Tensor]:
        self._are_known = True
        return self._of(self.chunk_ids)

    @torch.no_grad()
    def _of(self, chunk_ids: Tensor) -> tuple[Tensor, Tensor]:
        inside = (chunk_ids >= 0).nonzero()[:, 0]
        if not len(inside):  # nor is a model asked for nothing
            return chunk_ids.new_ones(self.number, dtype=torch.bool), torch.zeros(self.number, device=inside.device)
        parts = []
        for some in torch.split(inside, self.size or len(inside)):
            logits = self.logits_of(some)
            tokens = self.tokens[some].to(logits.device)
            parts.append((logits.argmax(-1) == tokens, gold_log_probability(logits, tokens)))
        right, log_likelihood = (torch.cat(part).to(inside.device) for part in zip(*parts, strict=True))
        return (
            chunk_right(right, chunk_ids[inside], self.number),
            chunk_log_likelihoods(log_likelihood, chunk_ids[inside], self.number),
        )


def of_chunks(chosen: Tensor, chunk_ids: Tensor) -> Tensor:
    """Tell which tokens lie in one of the chosen chunks: bool, (chunks,) -> bool, (tokens,)."""
    return torch.cat([chosen, chosen.new_zeros(1)])[chunk_ids]  # -1 is the last


def count_tokens(chunk_ids: Tensor, number: int) -> Tensor:
    """Count the tokens of each of so many chunks."""
    return torch.bincount(chunk_ids[chunk_ids >= 0], minlength=number)
