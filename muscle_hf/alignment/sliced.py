"""The loss between two tokenizers from hidden states and LM heads: never the logits of more than a few tokens.

The same figures as [`chunk_compatibility_loss`] up to rounding, gradients too. What a chunk of several tokens costs
hangs on the sum of their log-likelihoods, l_c = sum over i in c of log q_i, and its tokens may lie in two slices. So
there are two passes over the student's slices. The first, without gradients, gives l_c, and with it the value of each
chunk's divergence B(l_c) and its slope B'(l_c). By the chain rule

    d B(l_c) / d theta  =  sum over i in c of B'(l_c) * d log q_i / d theta

so in the second pass each token i adds B'(l_c) * log q_i, of which only the gradient counts: exact, whatever the
slices. Terms of single tokens (the new model's, and those of one token on both sides) are whole in any slice.
"""

import torch
from torch import Tensor

from ..losses.compatibility import NEW, OLD, CompatibilityLoss, choose, ended, scaled, weighted_sums
from ..losses.divergences import DistributionDivergence, Divergence, divergence_of_distributions, divergence_of_logits
from ..losses.logits import gold_log_probability
from ..losses.masks import Scores, StoredScores
from ..losses.sliced import sums_of_slices
from ..losses.strategy import Strategy
from ..losses.targets import Head, LiveTargets
from .counted import CountedChunks, CountedTokens
from .divergences import chunk_likelihood_divergence, shared_vocabulary_kl
from .loss import of_tokens
from .scores import ChunkScores, of_chunks


def sliced_chunk_loss(
    hidden: Tensor,
    head: Head,
    old: LiveTargets | StoredScores,
    new: LiveTargets,
    chunks: CountedChunks,
    shared: tuple[Tensor, Tensor],
    *,
    strategy: Strategy,
    size: int,
    kept: int = 0,
    normalizer: Tensor | float | None = None,
    weights: Tensor | None = None,
    given_teachers: Tensor | None = None,
    apart: bool = False,
) -> CompatibilityLoss:
    """Compute the loss of the tokens that count from the student's hidden states.

    Args:
        hidden: float, (tokens, hidden size). The student's last hidden states at the positions that predict them.
        head: The student's LM head, hidden states -> logits. What it trains gets its gradient too.
        old: The old model, asked about its own tokens that count; or its scores of the chunks, (chunks,).
        new: The new model, asked about the student's tokens.
        chunks: What counts, by [`count_chunks`].
        shared: The old and the new ids of the tokens that both vocabularies have, both int64, (shared,).
        strategy: Mask, divergence and the rest.
        size: Tokens of a slice, such as `tokens_of_a_slice` says for the larger of both vocabularies.
        kept: Up to so many tokens, the student's logits of the first pass are kept for the second.
        normalizer: As in [`chunk_compatibility_loss`].
        weights: float, (tokens,). Weight of each token's loss. Defaults to 1.
        given_teachers: int64, (chunks,). 0: the mask decides; 1: the old model; 2: the new model. Defaults to 0.
        apart: Give the task's part of the loss, with a gradient of its own. Defaults to False.
    """
    side = chunks.new
    if len(hidden) <= kept:
        hidden, head = head(hidden), as_it_is  # gradients go on from the logits as they do from hidden states
    states = hidden.detach()
    student = ChunkScores(lambda tokens: head(states[tokens]).to(states.device), *_of(side), size)
    of_old = old if isinstance(old, StoredScores) else _asked(old, chunks.old, size)
    numbers = torch.arange(side.number, device=side.ids.device)
    with torch.no_grad():
        scores = Scores(student, of_old, _asked(new, side, size), numbers, chunks.sequences)
        by_chunk = choose(strategy, scores, given_teachers)
        choice = of_tokens(by_chunk, side, strategy.focal_alpha)
        to_old = by_chunk.teacher == OLD
        as_token = to_old & chunks.same_token(shared)
        as_text = to_old & ~as_token
        new.prepare(choice.teacher == NEW)
        if isinstance(old, LiveTargets):
            old.prepare(of_chunks(to_old, chunks.old.chunks))
    of_classes = divergence_of_distributions(strategy.divergence, strategy.jensen_shannon_beta)
    of_logits = divergence_of_logits(strategy.divergence, strategy.jensen_shannon_beta)
    texts = _Texts(side, as_text, *_coins(as_text, of_old, student, strategy, of_classes))
    # For each token the one of the teacher that it is compared with, or -1; that teacher, and the divergence.
    pairs: list[tuple[Tensor, LiveTargets, Divergence]] = [
        (torch.where(choice.teacher == NEW, torch.arange(len(side.ids), device=side.ids.device), -1), new, of_logits)
    ]
    if isinstance(old, LiveTargets):
        partner = torch.full_like(side.ids, -1)
        partner[side.first[as_token]] = chunks.old.first[as_token]
        pairs.append(
            (partner, old, lambda theirs, mine, t: shared_vocabulary_kl(theirs, mine, *shared, t, of_classes))
        )

    def losses(rows: slice, logits: Tensor) -> tuple[Tensor, Tensor]:
        log_likelihood = gold_log_probability(logits, side.ids[rows])
        distance = texts.of_slice(rows, log_likelihood)
        for partners, teacher, divergence in pairs:
            places = (partners[rows] >= 0).nonzero()[:, 0]
            if len(places):
                theirs = teacher.logits(partners[rows][places]).to(logits.device)
                mine = logits if len(places) == len(logits) else logits[places]
                values = divergence(theirs, mine, strategy.temperature)
                distance = distance.index_add(0, places, values.to(distance.dtype))
        return scaled(strategy, distance), -log_likelihood

    def sums_of(rows: slice, distance: Tensor, cross_entropy: Tensor) -> Tensor:
        focus = choice.focus[rows] if isinstance(choice.focus, Tensor) else choice.focus
        of_rows = None if weights is None else weights[rows]
        sums = weighted_sums(strategy, distance, cross_entropy, of_rows, focus)
        return sums if apart else sums.sum()[None]

    sums, figures = sums_of_slices(hidden, head, side.ids, losses, sums_of, size)
    for _, teacher, _ in pairs:
        teacher.check()
    return ended(sums, choice, *figures, normalizer)


def as_it_is(logits: Tensor) -> Tensor:
    """Stand in for an LM head where hidden states are logits already."""
    return logits


def _of(side: CountedTokens) -> tuple[Tensor, Tensor, int]:
    return side.ids, side.chunks, side.number


def _asked(teacher: LiveTargets, side: CountedTokens, size: int) -> ChunkScores:
    """A teacher's scores: where a mask asks for them before anything else has run the model, it reads every row."""

    def logits_of(tokens: Tensor) -> Tensor:
        teacher.prepare(side.chunks >= 0)
        return teacher.logits(tokens)

    return ChunkScores(logits_of, *_of(side), size)


def _coins(
    as_text: Tensor,
    old: ChunkScores | StoredScores,
    student: ChunkScores,
    strategy: Strategy,
    of_classes: DistributionDivergence,
) -> tuple[Tensor, Tensor]:
    """Give the value and the slope of the divergence of each chunk that is compared as a whole."""
    of_old = old.log_likelihood if isinstance(old, StoredScores) else old.log_likelihood_of(as_text)
    of_student = student.log_likelihood_of(as_text)[as_text].detach().requires_grad_()
    with torch.enable_grad():
        values = chunk_likelihood_divergence(of_old[as_text], of_student, strategy.temperature, of_classes)
        (slopes,) = torch.autograd.grad(values.sum(), of_student)
    return values.detach(), slopes


class _Texts:
    """What chunks that are compared as a whole add to a slice: their values once, their slopes at each token."""

    def __init__(self, side: CountedTokens, as_text: Tensor, values: Tensor, slopes: Tensor) -> None:
        self.values = slopes.new_zeros(len(side.ids)).index_copy(0, side.first[as_text], values)
        by_chunk = slopes.new_zeros(side.number + 1)  # the last is for tokens in no chunk
        by_chunk[:-1][as_text] = slopes
        self.slopes = by_chunk[side.chunks]
        self.has_any = bool(as_text.any())

    def of_slice(self, rows: slice, log_likelihood: Tensor) -> Tensor:
        values = self.values[rows].to(log_likelihood.dtype)
        if not self.has_any:
            return values
        slopes = self.slopes[rows].to(log_likelihood.dtype)
        # Its value is 0. Where a slope is 0 nothing may be multiplied by it: the token may be ruled out.
        gap = torch.where(slopes == 0, 0, log_likelihood - log_likelihood.detach())
        return values + slopes * gap
