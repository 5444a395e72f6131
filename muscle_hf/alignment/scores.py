"""How a model does on chunks of text: right where every token is, as likely as all of its tokens together."""

import torch
from torch import Tensor

from ..errors import InputError
from ..losses.logits import gold_log_probability
from ..losses.masks import StoredScores


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


def score_chunks(logits: Tensor, tokens: Tensor, chunk_ids: Tensor, number: int) -> StoredScores:
    """Ask a model how it does on the chunks of a text, from its logits: what predicts each of the tokens.

    Returns `right` and `log_likelihood` at temperature 1, both (number,).
    """
    inside = chunk_ids >= 0
    logits, tokens, chunk_ids = logits[inside], tokens[inside], chunk_ids[inside]
    return StoredScores(
        chunk_right(logits.argmax(-1) == tokens, chunk_ids, number),
        chunk_log_likelihoods(gold_log_probability(logits, tokens), chunk_ids, number),
    )


def score_rows(logits: Tensor, input_ids: Tensor, chunk_ids: Tensor, number: int) -> StoredScores:
    """Ask a model how it does on the chunks of a batch: what a cache keeps of the old model, five bytes a chunk.

    Args:
        logits: float, (batch, length, vocabulary). As the model gives them.
        input_ids: int64, (batch, length). What the model read.
        chunk_ids: int64, (batch, length). For each token the number of its chunk in its row, from 0, or -1.
        number: Chunks of a row, at most.

    Returns:
        `right` and `log_likelihood`, both (batch, number). True and 0 beyond a row's chunks.
    """
    if bool((chunk_ids[:, :1] >= 0).any()):
        raise InputError("The first token of a row has a chunk, but nothing predicts it. Give it -1.")
    if bool((chunk_ids >= number).any()):
        raise InputError(f"A row has the chunk {int(chunk_ids.max())}, and number={number} leaves no place for it.")
    numbers = over_the_batch(chunk_ids, number)[:, 1:]
    inside = numbers >= 0
    rows = logits[:, :-1][inside], input_ids[:, 1:][inside], numbers[inside]
    scores = score_chunks(*rows, len(logits) * number)
    return StoredScores(scores.right.view(-1, number), scores.log_likelihood.view(-1, number))


def over_the_batch(chunk_ids: Tensor, number: int) -> Tensor:
    """Number the chunks of all rows on, so many for each row."""
    offsets = torch.arange(len(chunk_ids), device=chunk_ids.device)[:, None] * number
    return torch.where(chunk_ids >= 0, chunk_ids + offsets, -1)


def count_tokens(chunk_ids: Tensor, number: int) -> Tensor:
    """Count the tokens of each of so many chunks."""
    return torch.bincount(chunk_ids[chunk_ids >= 0], minlength=number)
