"""The compatibility loss between two tokenizers: chunks of text in place of tokens. Tensors in, tensors out.

A chunk is text at whose ends both tokenizations meet (see `chunks.py`). The mask of the method carries over: a
chunk is right when every token in it is, and its likelihood is the product of its tokens'. A marked chunk learns from
the old model, once and not per token; every other token learns from the new model, as in MUSCLE (arXiv 2407.09435,
Eq. 1):

    L = (sum over marked chunks of D(old, student) + sum over all other tokens of KL(p_new || p_student)) / tokens

D is `shared_vocabulary_kl` where the chunk is the same single token on both sides, and `chunk_likelihood_divergence`
elsewhere (see `divergences.py`).
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigurationError, InputError
from ..losses.compatibility import (
    NEW,
    OLD,
    CompatibilityLoss,
    choose_teachers,
    divisor,
    focal_weights,
    scaled,
    sums,
    weighted_sum,
)
from ..losses.divergences import divergence_of_distributions, divergence_of_logits
from ..losses.logits import IGNORE_INDEX, gold_log_probability
from ..losses.masks import Scores, StoredScores
from ..losses.strategy import Strategy
from .divergences import chunk_likelihood_divergence, shared_vocabulary_kl


def chunk_log_likelihoods(token_log_likelihoods: Tensor, chunk_ids: Tensor, number: int) -> Tensor:
    """Add up the tokens' log-likelihoods in each chunk: the chain rule.

    Args:
        token_log_likelihoods: float, (tokens,).
        chunk_ids: int64, (tokens,). The number of each token's chunk; tokens with -1 are left out.
        number: How many chunks there are.

    Returns:
        float, (number,). 0 for a chunk without tokens.

    Example:
        >>> chunk_log_likelihoods(torch.tensor([-1.0, -2.0, -4.0]), torch.tensor([0, -1, 0]), 2)
        tensor([-5.,  0.])
    """
    inside = chunk_ids >= 0
    total = token_log_likelihoods.new_zeros(number)
    return total.index_add(0, chunk_ids[inside], token_log_likelihoods[inside])


def chunk_right(token_right: Tensor, chunk_ids: Tensor, number: int) -> Tensor:
    """Tell for each chunk whether every token in it is right.

    Args:
        token_right: bool, (tokens,). Whether a model's likeliest token is the gold one.
        chunk_ids: int64, (tokens,). The number of each token's chunk; tokens with -1 are left out.
        number: How many chunks there are.

    Returns:
        bool, (number,). True for a chunk without tokens.

    Example:
        >>> chunk_right(torch.tensor([True, True, False]), torch.tensor([0, 1, 1]), 2)
        tensor([ True, False])
    """
    return _count(chunk_ids[~token_right], number) == 0


def score_chunks(logits: Tensor, tokens: Tensor, chunk_ids: Tensor, number: int) -> StoredScores:
    """Ask a model how it does on the chunks of a text: all that need be kept of the old model, five bytes a chunk.

    Args:
        logits: float, (tokens, vocabulary). What predicts each token, so the ones at the token before it.
        tokens: int64, (tokens,).
        chunk_ids: int64, (tokens,). The number of each token's chunk; tokens with -1 are left out.
        number: How many chunks there are.

    Returns:
        `right`, bool, and `log_likelihood` at temperature 1, float32 or float64, both (number,).
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
        `right`, bool, and `log_likelihood`, float32 or float64, both (batch, number). True and 0 beyond a row's
        chunks.

    Raises:
        InputError: The first token of a row is in a chunk, and nothing predicts it; or a row has more chunks.
    """
    if bool((chunk_ids[:, :1] >= 0).any()):
        raise InputError("The first token of a row has a chunk, but nothing predicts it. Give it -1.")
    if bool((chunk_ids >= number).any()):
        raise InputError(f"A row has the chunk {int(chunk_ids.max())}, and number={number} leaves no place for it.")
    numbers = _over_the_batch(chunk_ids, number)[:, 1:]
    inside = numbers >= 0
    rows = logits[:, :-1][inside], input_ids[:, 1:][inside], numbers[inside]
    scores = score_chunks(*rows, len(logits) * number)
    return StoredScores(scores.right.view(-1, number), scores.log_likelihood.view(-1, number))


@dataclass(frozen=True)
class OldLogits:
    """The old model's side of a batch, in full.

    Args:
        logits: float, (batch, old length, old vocabulary). As the model gives them.
        input_ids: int64, (batch, old length). What it read, padded on the right.
        chunk_ids: int64, (batch, old length). For each token the number of its chunk in its row, or -1.
    """

    logits: Tensor
    input_ids: Tensor
    chunk_ids: Tensor


def chunk_compatibility_loss(
    student_logits: Tensor,
    old: OldLogits | StoredScores,
    new_logits: Tensor,
    labels: Tensor,
    chunk_ids: Tensor,
    shared_new_ids: Tensor,
    shared_old_ids: Tensor,
    *,
    normalizer: Tensor | float | None = None,
    weights: Tensor | None = None,
    given_teachers: Tensor | None = None,
    strategy: Strategy | None = None,
    **options: Any,
) -> CompatibilityLoss:
    """Compute the compatibility loss of a batch whose old model has another tokenizer, from full logits.

    Logits and labels come as models give and take them: they are shifted here. A chunk counts if every token of it is
    trained on and predicted, on both sides; the tokens of all others learn from the new model. Masks see chunks in
    place of tokens, and their `gold` is the chunks' numbers. With equal tokenizers each token is a chunk, and the
    result is that of [`compatibility_loss`][muscle_hf.losses.compatibility.compatibility_loss].

    Args:
        student_logits: float, (batch, length, new vocabulary). Logits of the adapter in training.
        old: The frozen old model's logits; or, from a cache, what [`score_rows`] gave for them, with which every chunk
            that learns from the old model is compared by its likelihood.
        new_logits: float, as `student_logits`. Logits of the frozen new model.
        labels: int64, (batch, length). As transformers models take them; -100 is not trained on.
        chunk_ids: int64, (batch, length). For each token the number of its chunk in its row, or -1, also for padding.
        shared_new_ids: int64, (shared,). Tokens that both vocabularies have, see `shared_tokens`.
        shared_old_ids: int64, (shared,). The same tokens on the old side.
        normalizer: The sum is divided by it. Defaults to the trained tokens of this call.
        weights: float, (batch,). Weight of each row's loss; the normalizer does not change with it. Defaults to 1.
        given_teachers: int64, (batch,). 0: the mask decides; 1: all chunks of the row learn from the old model; 2: its
            tokens learn from the new model. Defaults to 0.
        strategy: Mask, divergence and the rest. Defaults to the paper's Eq. 1.
        **options: Fields of [`Strategy`], in place of `strategy`.

    Returns:
        A [`CompatibilityLoss`]. `tokens_to_old` counts the student's tokens in the chunks that learned from the old
        model.

    Raises:
        ConfigurationError: A strategy that needs both models' distributions over one vocabulary.
        InputError: Shapes that do not fit.

    Example:
        >>> student, new = torch.zeros(1, 3, 4), torch.zeros(1, 3, 4)
        >>> old = OldLogits(torch.zeros(1, 2, 3), torch.tensor([[0, 1]]), torch.tensor([[-1, 0]]))
        >>> labels, chunk_ids = torch.tensor([[0, 1, 2]]), torch.tensor([[-1, 0, 0]])  # two tokens against one
        >>> nothing = torch.tensor([], dtype=torch.int64)
        >>> result = chunk_compatibility_loss(student, old, new, labels, chunk_ids, nothing, nothing)
        >>> result.tokens_to_old.item(), round(result.loss.item(), 4)  # coins of 1/3 ** 0.5 and 1/16 ** 0.5
        (2, 0.1204)
    """
    if strategy is None:
        strategy = Strategy(**options)
    elif options:
        raise TypeError(f"give strategy or single options, not both: {sorted(options)}")
    validate_for_chunks(strategy)
    _check_shapes(student_logits, old, new_logits, labels, chunk_ids)
    used, columns, numbers = _number_chunks(chunk_ids, old, labels)
    chunks = len(used)
    trained = labels[:, 1:] != IGNORE_INDEX
    student, new = student_logits[:, :-1][trained], new_logits[:, :-1][trained].detach()
    gold, at = labels[:, 1:][trained], numbers[0][:, 1:][trained]
    inside = at >= 0
    log_likelihood, right = gold_log_probability(student, gold), student.argmax(-1) == gold
    likelihood_of_chunk = chunk_log_likelihoods(log_likelihood, at, chunks)
    with torch.no_grad():
        first = _first_tokens(at, chunks)
        if isinstance(old, StoredScores):
            of_old = StoredScores(old.right[used, columns], old.log_likelihood[used, columns].to(log_likelihood.dtype))
            single = torch.zeros_like(of_old.right)
        else:
            read = numbers[1][:, 1:] >= 0
            old_rows, old_gold, old_at = old.logits[:, :-1][read], old.input_ids[:, 1:][read], numbers[1][:, 1:][read]
            of_old = score_chunks(old_rows, old_gold, old_at, chunks)
            old_first = _first_tokens(old_at, chunks)
            meaning = _places_among(shared_new_ids, gold[first])
            single = (_count(at, chunks) == 1) & (_count(old_at, chunks) == 1)
            single &= (meaning >= 0) & (meaning == _places_among(shared_old_ids, old_gold[old_first]))
        of_student = StoredScores(chunk_right(right, at, chunks), likelihood_of_chunk.detach())
        all_chunks = torch.arange(chunks, device=labels.device)
        scores = Scores(of_student, of_old, score_chunks(new, gold, at, chunks), all_chunks, used)
        teacher_of_chunk = choose_teachers(strategy, scores, None if given_teachers is None else given_teachers[used])
        teacher_of_token = torch.full_like(gold, NEW).masked_scatter(inside, teacher_of_chunk[at[inside]])
        to_new = (teacher_of_token == NEW).nonzero()[:, 0]
        one, many = ((teacher_of_chunk == OLD) & kind for kind in (single, ~single))
        focus: Tensor | float = focal_weights(strategy, of_old)
        if isinstance(focus, Tensor):
            everywhere = focus.new_full(gold.shape, strategy.focal_alpha)
            focus = everywhere.masked_scatter(inside, focus[at[inside]])

    # One number a token: the divergence of a whole chunk stands at its first token.
    of_classes = divergence_of_distributions(strategy.divergence, strategy.jensen_shannon_beta)
    of_logits = divergence_of_logits(strategy.divergence, strategy.jensen_shannon_beta)
    parts = [(to_new, of_logits(new[to_new], student[to_new], strategy.temperature))]
    if bool(one.any()):
        rows = old_rows[old_first[one]], student[first[one]]
        parts.append(
            (first[one], shared_vocabulary_kl(*rows, shared_old_ids, shared_new_ids, strategy.temperature, of_classes))
        )
    if bool(many.any()):
        likelihoods = of_old.log_likelihood[many], likelihood_of_chunk[many]
        parts.append((first[many], chunk_likelihood_divergence(*likelihoods, strategy.temperature, of_classes)))
    distance = torch.zeros_like(log_likelihood)
    for places, values in parts:
        distance = distance.index_add(0, places, values.to(distance.dtype))
    distance = scaled(strategy, distance)
    row_weights = None if weights is None else weights[:, None].expand_as(trained)[trained]
    tokens = trained.sum()
    total = weighted_sum(strategy, distance, -log_likelihood, row_weights, focus)
    return CompatibilityLoss(
        loss=total / divisor(tokens, normalizer),
        tokens=tokens,
        **sums(teacher_of_token, distance, -log_likelihood, right),
    )


def validate_for_chunks(strategy: Strategy) -> None:
    """Refuse a strategy that chunks cannot serve.

    Args:
        strategy: The strategy.

    Raises:
        ConfigurationError: Its divergence compares logits one by one, or its teacher mixes two vocabularies.
    """
    if strategy.divergence == "logit_difference_inhibition":
        raise ConfigurationError(
            'divergence="logit_difference_inhibition" compares logits one by one, and two tokenizers have no common '
            'ones. With alignment="chunks" take "forward_kl", "reverse_kl" or "jensen_shannon".'
        )
    if strategy.teacher not in ("old", "new"):
        raise ConfigurationError(
            f"teacher={strategy.teacher!r} mixes both models' distributions, and two tokenizers have none in common. "
            'With alignment="chunks" take teacher="old".'
        )


def _over_the_batch(chunk_ids: Tensor, number: int) -> Tensor:
    """Number the chunks of all rows on, so many for each row."""
    offsets = torch.arange(len(chunk_ids), device=chunk_ids.device)[:, None] * number
    return torch.where(chunk_ids >= 0, chunk_ids + offsets, -1)


def _number_chunks(
    chunk_ids: Tensor, old: OldLogits | StoredScores, labels: Tensor
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Find the chunks that count: their rows, their numbers there, and, for each side, each token's chunk of them."""
    sides = [chunk_ids] if isinstance(old, StoredScores) else [chunk_ids, old.chunk_ids]
    most = max(int(side.max()) + 1 if side.numel() else 0 for side in sides)
    number = len(labels) * most
    everywhere = [_over_the_batch(side, most) for side in sides]
    counted = [side[:, 1:] for side in everywhere]
    counted[0] = counted[0].masked_fill(labels[:, 1:] == IGNORE_INDEX, -1)
    whole = torch.ones(number, dtype=torch.bool, device=labels.device)
    for one, counts in zip(everywhere, counted, strict=True):
        size = _count(one.flatten(), number)
        whole &= (size > 0) & (size == _count(counts.flatten(), number))
    numbers = torch.cat([torch.where(whole, whole.cumsum(0) - 1, -1), labels.new_full((1,), -1)])  # -1 stays -1
    places = whole.nonzero()[:, 0]
    used, columns = places // max(most, 1), places % max(most, 1)
    return used, columns, [numbers[one] for one in everywhere]


def _first_tokens(numbers: Tensor, chunks: int) -> Tensor:
    """The first token of each chunk."""
    inside = (numbers >= 0).nonzero()[:, 0]
    return numbers.new_zeros(chunks).scatter_reduce(0, numbers[inside], inside, "amin", include_self=False)


def _places_among(shared: Tensor, tokens: Tensor) -> Tensor:
    """Where each token stands among the shared ones, or -1."""
    if not len(shared):
        return torch.full_like(tokens, -1)
    ascending, order = shared.sort()
    place = torch.searchsorted(ascending, tokens).clamp(max=len(shared) - 1)
    return torch.where(ascending[place] == tokens, order[place], -1)


def _count(chunk_ids: Tensor, number: int) -> Tensor:
    return torch.bincount(chunk_ids[chunk_ids >= 0], minlength=number)


def _check_shapes(
    student: Tensor, old: OldLogits | StoredScores, new: Tensor, labels: Tensor, chunk_ids: Tensor
) -> None:
    checks: list[tuple[str, Tensor, tuple[int, ...]]] = [
        ("new_logits", new, tuple(student.shape)),
        ("labels", labels, tuple(student.shape[:-1])),
        ("chunk_ids", chunk_ids, tuple(labels.shape)),
    ]
    if isinstance(old, StoredScores):
        most = int(chunk_ids.max()) + 1 if chunk_ids.numel() else 0
        wanted = (len(labels), max(most, old.right.shape[-1]))
        checks += [("old.right", old.right, wanted), ("old.log_likelihood", old.log_likelihood, wanted)]
    else:
        wanted = (len(labels), old.input_ids.shape[-1])
        checks += [("old.input_ids", old.input_ids, wanted), ("old.chunk_ids", old.chunk_ids, wanted)]
        checks += [("old.logits", old.logits[..., 0], wanted)]
    for name, tensor, shape in checks:
        if tuple(tensor.shape) != shape:
            raise InputError(f"{name} has shape {tuple(tensor.shape)} where {shape} is needed.")
