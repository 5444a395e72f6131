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

import torch
from torch import Tensor

from ..errors import ConfigurationError, InputError
from ..losses.compatibility import NEW, OLD, Choice, CompatibilityLoss, choose, ended, scaled, weighted_sums
from ..losses.divergences import divergence_of_distributions, divergence_of_logits
from ..losses.logits import gold_log_probability, in_float
from ..losses.masks import Scores, StoredScores
from ..losses.strategy import Strategy
from .counted import CountedChunks, CountedTokens, count_chunks
from .divergences import chunk_likelihood_divergence, shared_vocabulary_kl
from .scores import ChunkScores, chunk_log_likelihoods, chunk_right


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
    strategy: Strategy,
    normalizer: Tensor | float | None = None,
    weights: Tensor | None = None,
    given_teachers: Tensor | None = None,
) -> CompatibilityLoss:
    """Compute the compatibility loss of a batch whose old model has another tokenizer, from full logits.

    Logits and labels come as models give and take them: they are shifted here. A chunk counts if every token of it is
    trained on and predicted, on both sides; the tokens of all others learn from the new model. Masks see chunks in
    place of tokens, and their `gold` is the chunks' numbers. With equal tokenizers each token is a chunk, and the
    result is that of [`compatibility_loss`][muscle_hf.losses.compatibility.compatibility_loss].

    Args:
        student_logits: float, (batch, length, new vocabulary). Logits of the adapter in training.
        old: The frozen old model's logits; or, from a cache, its scores of the chunks of each row, (batch, chunks of a
            row), with which every chunk that learns from the old model is compared by its likelihood.
        new_logits: float, as `student_logits`. Logits of the frozen new model.
        labels: int64, (batch, length). As transformers models take them; -100 is not trained on.
        chunk_ids: int64, (batch, length). For each token the number of its chunk in its row, or -1, also for padding.
        shared_new_ids: int64, (shared,). Tokens that both vocabularies have, see `shared_tokens`.
        shared_old_ids: int64, (shared,). The same tokens on the old side.
        strategy: Mask, divergence and the rest.
        normalizer: The sum is divided by it. Defaults to the trained tokens of this call.
        weights: float, (batch,). Weight of each row's loss; the normalizer does not change with it. Defaults to 1.
        given_teachers: int64, (batch,). 0: the mask decides; 1: all chunks of the row learn from the old model; 2: its
            tokens learn from the new model. Defaults to 0.

    Returns:
        A [`CompatibilityLoss`]. `tokens_to_old` counts the student's tokens in the chunks that learned from the old
        model.

    Example:
        >>> student, new = torch.zeros(1, 3, 4), torch.zeros(1, 3, 4)
        >>> old = OldLogits(torch.zeros(1, 2, 3), torch.tensor([[0, 1]]), torch.tensor([[-1, 0]]))
        >>> labels, chunk_ids = torch.tensor([[0, 1, 2]]), torch.tensor([[-1, 0, 0]])  # two tokens against one
        >>> nothing = torch.tensor([], dtype=torch.int64)
        >>> result = chunk_compatibility_loss(
        ...     student, old, new, labels, chunk_ids, nothing, nothing, strategy=Strategy()
        ... )
        >>> result.tokens_to_old.item(), round(result.loss.item(), 4)  # coins of 1/3 ** 0.5 and 1/16 ** 0.5
        (2, 0.1204)
    """
    validate_for_chunks(strategy)
    _check_shapes(student_logits, old, new_logits, labels, chunk_ids)
    of_old = None if isinstance(old, StoredScores) else (old.input_ids, old.chunk_ids)
    chunks = count_chunks(labels, chunk_ids, of_old)
    student, new = student_logits[chunks.new.where], new_logits[chunks.new.where]
    rows = chunks.new.where.nonzero()[:, 0]
    return loss_of_chunks(
        strategy,
        chunks,
        student,
        stored_at(old, chunks, student) if isinstance(old, StoredScores) else old.logits[chunks.old.where],
        new,
        (shared_old_ids, shared_new_ids),
        normalizer=normalizer,
        weights=None if weights is None else weights[rows],
        given_teachers=None if given_teachers is None else given_teachers[chunks.sequences],
    )


def stored_at(stored: StoredScores, chunks: CountedChunks, student: Tensor) -> StoredScores:
    """Take the scores of the chunks that count, (chunks,), from those of all, (sequences, chunks of a sequence)."""
    right, log_likelihood = (
        values[chunks.sequences, chunks.places] for values in (stored.right, stored.log_likelihood)
    )
    return StoredScores(right, log_likelihood.to(in_float(student[:0]).dtype))


def loss_of_chunks(
    strategy: Strategy,
    chunks: CountedChunks,
    student: Tensor,
    old: Tensor | StoredScores,
    new: Tensor,
    shared: tuple[Tensor, Tensor],
    *,
    normalizer: Tensor | float | None,
    weights: Tensor | None,
    given_teachers: Tensor | None,
) -> CompatibilityLoss:
    """Compute the loss of the tokens that count from their logits, float, (tokens, vocabulary).

    The old side's are those of its own tokens, or the scores of the chunks. `shared` are the old and the new ids of
    the tokens that both vocabularies have; weights are (tokens,), given teachers (chunks,).
    """
    side, number, new = chunks.new, len(chunks.sequences), new.detach()
    of_old = old if isinstance(old, StoredScores) else scores_of(old.detach(), chunks.old)
    log_likelihood, right = gold_log_probability(student, side.ids), student.argmax(-1) == side.ids
    likelihoods = chunk_log_likelihoods(log_likelihood, side.chunks, number)
    with torch.no_grad():
        of_student = StoredScores(chunk_right(right, side.chunks, number), likelihoods.detach())
        numbers = torch.arange(number, device=side.ids.device)
        scores = Scores(of_student, of_old, scores_of(new, side), numbers, chunks.sequences)
        by_chunk = choose(strategy, scores, given_teachers)
        choice = of_tokens(by_chunk, side, strategy.focal_alpha)
        to_old, to_new = by_chunk.teacher == OLD, (choice.teacher == NEW).nonzero()[:, 0]
        as_token = to_old & chunks.same_token(shared)
        as_text = to_old & ~as_token
    of_logits = divergence_of_logits(strategy.divergence, strategy.jensen_shannon_beta)
    of_classes = divergence_of_distributions(strategy.divergence, strategy.jensen_shannon_beta)
    parts = [(to_new, of_logits(new[to_new], student[to_new], strategy.temperature))]
    if isinstance(old, Tensor) and bool(as_token.any()):
        places = side.first[as_token]
        pair = old.detach()[chunks.old.first[as_token]], student[places]
        parts.append((places, shared_vocabulary_kl(*pair, *shared, strategy.temperature, of_classes)))
    if bool(as_text.any()):
        coins = of_old.log_likelihood[as_text], likelihoods[as_text]
        parts.append((side.first[as_text], chunk_likelihood_divergence(*coins, strategy.temperature, of_classes)))
    distance = torch.zeros(len(side.ids), dtype=likelihoods.dtype, device=side.ids.device)
    for places, values in parts:
        distance = distance.index_add(0, places, values.to(distance.dtype))
    distance = scaled(strategy, distance)
    sums = weighted_sums(strategy, distance, -log_likelihood, weights, choice.focus)
    return ended(sums, choice, distance, -log_likelihood, right, normalizer)


def scores_of(logits: Tensor, side: CountedTokens) -> ChunkScores:
    """Score the chunks of one side from its logits."""
    return ChunkScores(logits.__getitem__, side.ids, side.chunks, side.number)


def validate_for_chunks(strategy: Strategy) -> None:
    """Refuse a strategy that compares logits one by one, or mixes two vocabularies: chunks cannot serve it."""
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


def of_tokens(by_chunk: Choice, side: CountedTokens, focal_alpha: float) -> Choice:
    """Turn a choice for each chunk into one for each token; those in no chunk learn from the new model."""
    inside, chunks = side.chunks >= 0, side.chunks[side.inside]
    teacher = torch.full_like(side.chunks, NEW).masked_scatter(inside, by_chunk.teacher[chunks])
    focus = by_chunk.focus
    if isinstance(focus, Tensor):
        everywhere = focus.new_full(side.chunks.shape, focal_alpha)
        focus = everywhere.masked_scatter(inside, focus[chunks])
    return Choice(teacher, focus)


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
