"""Which tokens and chunks of a batch count: trained on and predicted, on both sides. Numbers alone, no logits."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..losses.logits import IGNORE_INDEX
from .scores import count_tokens


@dataclass(frozen=True)
class CountedTokens:
    """The tokens of one side that count, in the order of the batch: of the old side those in chunks that count.

    Args:
        where: bool, (rows, length). The positions that predict them.
        ids: int64, (tokens,).
        chunks: int64, (tokens,). The number of each token's chunk, or -1.
        number: How many chunks there are.
    """

    where: Tensor
    ids: Tensor
    chunks: Tensor
    number: int

    @cached_property
    def inside(self) -> Tensor:
        """The tokens that lie in a chunk: int64, (such tokens,)."""
        return (self.chunks >= 0).nonzero()[:, 0]

    @cached_property
    def first(self) -> Tensor:
        """The first token of each chunk: int64, (chunks,)."""
        first = self.chunks.new_zeros(self.number)
        return first.scatter_reduce(0, self.chunks[self.inside], self.inside, "amin", include_self=False)


@dataclass(frozen=True)
class CountedChunks:
    """The chunks of a batch that count.

    Args:
        new: What is trained on, in a chunk or not.
        old: The old side's tokens; none where the old model's scores come from a cache.
        sequences: int64, (chunks,). The number of each chunk's sequence: of its row, if rows are not packed.
        places: int64, (chunks,). Its number in its sequence.
    """

    new: CountedTokens
    old: CountedTokens
    sequences: Tensor
    places: Tensor

    def same_token(self, shared: tuple[Tensor, Tensor]) -> Tensor:
        """Tell which chunks are one token on both sides, and the same one: bool, (chunks,).

        `shared` are the old and the new ids of the tokens that both vocabularies have.
        """
        new, old = self.new, self.old
        if not len(old.ids):  # a cache has no distributions to compare
            return torch.zeros_like(self.sequences, dtype=torch.bool)
        ids = new.ids[new.first]
        partners = ids.new_full((1 + int(torch.cat([shared[1], ids]).max()),), -1).scatter(0, shared[1], shared[0])
        single = (count_tokens(new.chunks, new.number) == 1) & (count_tokens(old.chunks, old.number) == 1)
        return single & (partners[ids] == old.ids[old.first])


def count_chunks(
    labels: Tensor,
    chunk_ids: Tensor,
    old: tuple[Tensor, Tensor] | None,
    *,
    sequence: Tensor | None = None,
    sequences: int | None = None,
) -> CountedChunks:
    """Find what is trained on and which chunks count: those with all tokens trained on and predicted on both sides.

    Args:
        labels: int64, (batch, length). As transformers models take them.
        chunk_ids: int64, (batch, length). For each token the number of its chunk in its sequence, or -1.
        old: The old side's tokens and their chunks, both int64, (sequences, old length); None where they are cached.
        sequence: int64, (batch, length). The number of each position's sequence, where several are packed into a row.
            Defaults to the number of the row.
        sequences: How many there are. Defaults to the rows.
    """
    if sequence is None:
        sequence = torch.arange(len(labels), device=labels.device)[:, None].expand_as(labels)
    sequences = len(labels) if sequences is None else sequences
    sides = [chunk_ids] if old is None else [chunk_ids, old[1]]
    most = max(int(side.max()) + 1 if side.numel() else 0 for side in sides)
    number = sequences * most
    # What stands at the first token of a sequence is predicted by nothing.
    trained = _ahead(labels != IGNORE_INDEX, False) & (_ahead(sequence, -1) == sequence)
    everywhere = [torch.where(chunk_ids >= 0, chunk_ids + sequence * most, -1)]
    counted = [_ahead(everywhere[0], -1).masked_fill(~trained, -1)]
    if old is not None:
        everywhere.append(over_the_batch(old[1], most))
        counted.append(_ahead(everywhere[1], -1))
    whole = torch.ones(number, dtype=torch.bool, device=labels.device)
    for all_tokens, tokens in zip(everywhere, counted, strict=True):
        size = count_tokens(all_tokens.flatten(), number)
        whole &= (size > 0) & (size == count_tokens(tokens.flatten(), number))
    numbers = torch.cat([torch.where(whole, whole.cumsum(0) - 1, -1), labels.new_full((1,), -1)])  # -1 stays -1
    places = whole.nonzero()[:, 0]

    def side(where: Tensor, ids: Tensor, chunks: Tensor) -> CountedTokens:
        return CountedTokens(where, _ahead(ids, -1)[where], chunks[where], len(places))

    chunks = [numbers[tokens] for tokens in counted]
    nothing = chunk_ids[:0]
    old_side = side(nothing >= 0, nothing, nothing) if old is None else side(chunks[1] >= 0, old[0], chunks[1])
    return CountedChunks(side(trained, labels, chunks[0]), old_side, places // max(most, 1), places % max(most, 1))


def over_the_batch(chunk_ids: Tensor, number: int) -> Tensor:
    """Number the chunks of all rows on, so many for each row."""
    offsets = torch.arange(len(chunk_ids), device=chunk_ids.device)[:, None] * number
    return torch.where(chunk_ids >= 0, chunk_ids + offsets, -1)


def _ahead(values: Tensor, filler: int) -> Tensor:
    """What stands at the next position: (rows, length), the last of each row is filled up."""
    return torch.nn.functional.pad(values[:, 1:], (0, 1), value=filler)
