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
from functools import cached_property

import torch
from torch import Tensor

from ..errors import ConfigurationError, InputError
from ..losses.compatibility import NEW, OLD, Choice, CompatibilityLoss, choose, ended, scaled, weighted_sum
from ..losses.divergences import divergence_of_distributions, divergence_of_logits
from ..losses.logits import IGNORE_INDEX, gold_log_probability, in_float
from ..losses.masks import Scores, StoredScores
from ..losses.strategy import Strategy
from .divergences import chunk_likelihood_divergence, shared_vocabulary_kl
from .scores import chunk_log_likelihoods, chunk_right, count_tokens, over_the_batch, score_chunks


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
        old: The frozen old model's logits; or, from a cache, what [`score_rows`] gave for them, with which every chunk
            that learns from the old model is compared by its likelihood.
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
    batch = _select(student_logits, old, new_logits, labels, chunk_ids)
    student = batch.student
    log_likelihood, right = gold_log_probability(student.logits, student.ids), student.logits.argmax(-1) == student.ids
    student_likelihoods = chunk_log_likelihoods(log_likelihood, student.chunks, len(batch.rows))
    with torch.no_grad():
        scores = _score(batch, right, student_likelihoods.detach())
        by_chunk = choose(strategy, scores, None if given_teachers is None else given_teachers[batch.rows])
        choice = _of_tokens(by_chunk, student.chunks, strategy.focal_alpha)
    likelihoods, shared = (scores.old.log_likelihood, student_likelihoods), (shared_old_ids, shared_new_ids)
    distance = _compare(strategy, batch, by_chunk.teacher == OLD, choice, likelihoods, shared)
    trained = labels[:, 1:] != IGNORE_INDEX
    row_weights = None if weights is None else weights[:, None].expand_as(trained)[trained]
    total = weighted_sum(strategy, distance, -log_likelihood, row_weights, choice.focus)
    return ended(total, choice, distance, -log_likelihood, right, normalizer)


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


@dataclass(frozen=True)
class _Side:
    """What a model says of the tokens that count.

    Args:
        logits: float, (tokens, vocabulary). What predicts each token.
        ids: int64, (tokens,).
        chunks: int64, (tokens,). The number of each token's chunk, or -1.
        number: How many chunks there are.
    """

    logits: Tensor
    ids: Tensor
    chunks: Tensor
    number: int

    @cached_property
    def first(self) -> Tensor:
        """The first token of each chunk."""
        inside = (self.chunks >= 0).nonzero()[:, 0]
        first = self.chunks.new_zeros(self.number)
        return first.scatter_reduce(0, self.chunks[inside], inside, "amin", include_self=False)

    def scores(self) -> StoredScores:
        return score_chunks(self.logits, self.ids, self.chunks, self.number)


@dataclass(frozen=True)
class _Batch:
    """The tokens of a batch that count, by model, and how the old model does on each chunk: (chunks,).

    `rows` is the row of each chunk. Of a cached old model only the scores are there.
    """

    student: _Side
    new: _Side
    old: _Side | None
    old_scores: StoredScores
    rows: Tensor


def _select(
    student_logits: Tensor, old: OldLogits | StoredScores, new_logits: Tensor, labels: Tensor, chunk_ids: Tensor
) -> _Batch:
    """Take what is trained on and, on the old side, what lies in a chunk; number the chunks that count."""
    sides = [chunk_ids] if isinstance(old, StoredScores) else [chunk_ids, old.chunk_ids]
    most = max(int(side.max()) + 1 if side.numel() else 0 for side in sides)
    number = len(labels) * most
    trained = labels[:, 1:] != IGNORE_INDEX
    everywhere = [over_the_batch(side, most) for side in sides]
    counted = [side[:, 1:] for side in everywhere]
    counted[0] = counted[0].masked_fill(~trained, -1)
    whole = torch.ones(number, dtype=torch.bool, device=labels.device)
    for all_tokens, tokens in zip(everywhere, counted, strict=True):
        size = count_tokens(all_tokens.flatten(), number)
        whole &= (size > 0) & (size == count_tokens(tokens.flatten(), number))
    numbers = torch.cat([torch.where(whole, whole.cumsum(0) - 1, -1), labels.new_full((1,), -1)])  # -1 stays -1
    places = whole.nonzero()[:, 0]
    rows, columns = places // max(most, 1), places % max(most, 1)

    def side(logits: Tensor, ids: Tensor, where: Tensor, chunks: Tensor) -> _Side:
        return _Side(logits[:, :-1][where], ids[:, 1:][where], chunks[:, 1:][where], len(rows))

    chunks = [numbers[tokens] for tokens in everywhere]
    student = side(student_logits, labels, trained, chunks[0])
    new = side(new_logits.detach(), labels, trained, chunks[0])
    if isinstance(old, StoredScores):
        likelihoods = old.log_likelihood[rows, columns].to(in_float(student.logits[:0]).dtype)
        return _Batch(student, new, None, StoredScores(old.right[rows, columns], likelihoods), rows)
    old_side = side(old.logits.detach(), old.input_ids, chunks[1][:, 1:] >= 0, chunks[1])
    return _Batch(student, new, old_side, old_side.scores(), rows)


def _score(batch: _Batch, student_right: Tensor, likelihoods: Tensor) -> Scores:
    """Say how the three models do on each chunk, which is to a mask what a token is elsewhere."""
    chunks = batch.student.chunks
    student = StoredScores(chunk_right(student_right, chunks, len(batch.rows)), likelihoods)
    numbers = torch.arange(len(batch.rows), device=chunks.device)
    return Scores(student, batch.old_scores, batch.new.scores(), numbers, batch.rows)


def _of_tokens(by_chunk: Choice, chunks: Tensor, focal_alpha: float) -> Choice:
    """Turn a choice for each chunk into one for each token; those in no chunk learn from the new model."""
    inside = chunks >= 0
    teacher = torch.full_like(chunks, NEW).masked_scatter(inside, by_chunk.teacher[chunks[inside]])
    focus = by_chunk.focus
    if isinstance(focus, Tensor):
        everywhere = focus.new_full(chunks.shape, focal_alpha)
        focus = everywhere.masked_scatter(inside, focus[chunks[inside]])
    return Choice(teacher, focus)


def _compare(
    strategy: Strategy,
    batch: _Batch,
    to_old: Tensor,
    choice: Choice,
    likelihoods: tuple[Tensor, Tensor],
    shared: tuple[Tensor, Tensor],
) -> Tensor:
    """Give each token its divergence, (tokens,); that of a whole chunk stands at its first token.

    `to_old` are the chunks that learn from the old model, `likelihoods` the old model's and the student's logarithms,
    all (chunks,); `shared` are the old and the new ids of tokens that both vocabularies have.
    """
    student, new, temperature = batch.student, batch.new, strategy.temperature
    of_logits = divergence_of_logits(strategy.divergence, strategy.jensen_shannon_beta)
    of_classes = divergence_of_distributions(strategy.divergence, strategy.jensen_shannon_beta)
    to_new = (choice.teacher == NEW).nonzero()[:, 0]
    parts = [(to_new, of_logits(new.logits[to_new], student.logits[to_new], temperature))]
    as_text = to_old
    if batch.old is not None:
        as_token = to_old & _is_same_token(student, batch.old, shared)
        as_text = to_old & ~as_token
        if bool(as_token.any()):
            places = student.first[as_token]
            logits = batch.old.logits[batch.old.first[as_token]], student.logits[places]
            parts.append((places, shared_vocabulary_kl(*logits, *shared, temperature, of_classes)))
    if bool(as_text.any()):
        of_old, of_student = (values[as_text] for values in likelihoods)
        divergence = chunk_likelihood_divergence(of_old, of_student, temperature, of_classes)
        parts.append((student.first[as_text], divergence))
    distance = torch.zeros(len(student.ids), dtype=likelihoods[1].dtype, device=student.ids.device)
    for places, values in parts:
        distance = distance.index_add(0, places, values.to(distance.dtype))
    return scaled(strategy, distance)


def _is_same_token(new: _Side, old: _Side, shared: tuple[Tensor, Tensor]) -> Tensor:
    """Tell which chunks are one token on both sides, and the same one."""
    meaning = _places_among(shared[1], new.ids[new.first])
    single = (count_tokens(new.chunks, new.number) == 1) & (count_tokens(old.chunks, old.number) == 1)
    return single & (meaning >= 0) & (meaning == _places_among(shared[0], old.ids[old.first]))


def _places_among(shared: Tensor, tokens: Tensor) -> Tensor:
    """Where each token stands among the shared ones, or -1."""
    if not len(shared):
        return torch.full_like(tokens, -1)
    ascending, order = shared.sort()
    place = torch.searchsorted(ascending, tokens).clamp(max=len(shared) - 1)
    return torch.where(ascending[place] == tokens, order[place], -1)


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
