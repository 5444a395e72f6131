"""The compatibility loss: tensors in, tensors out.

MUSCLE (arXiv 2407.09435, section 4.1, Eq. 1) chooses one teacher for every token: the old model where the student is
wrong, the new model where it is right, and pulls the student towards it with a KL divergence:

    m_i = 1[argmax z_student,i != y_i]
    L_i = m_i * KL(p_old,i || p_student,i) + (1 - m_i) * KL(p_new,i || p_student,i)        p = softmax(z / T)

Everything here works on the tokens that are trained on, one row each: logits of shape (tokens, vocabulary) and the
gold tokens, of shape (tokens,). What else can be chosen is a [`Strategy`].
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from .divergences import Divergence, divergence_of_logits
from .logits import IGNORE_INDEX, gold_log_probability, log_softmax
from .masks import LogitScores, Scores, marked_tokens
from .perpendicular import perpendicular_teacher
from .product import product_of_logits
from .strategy import Strategy

# Whom a token learns from. A label may say so itself (`teacher_of_token`): 0 leaves it to the mask.
NEW, OLD, MIXTURE, PRODUCT = 2, 1, 3, 4


@dataclass(frozen=True)
class CompatibilityLoss:
    """The loss and the sums that a trainer logs. All but `loss` and `task_loss` are detached scalars.

    Args:
        loss: The value to call `backward()` on.
        tokens: How many tokens were trained on.
        tokens_to_old: How many of them learned from the old model.
        divergence_to_old: Sum of the divergence over the tokens that learned from the old model.
        divergence_to_new: Sum of the divergence over the tokens that learned from the new model.
        cross_entropy: Sum of the student's cross-entropy, whatever its weight in the loss.
        correct_tokens: How many tokens the student gets right.
        task_loss: What of `loss` is the cross-entropy of labels, with its weight and its gradient; the rest is the
            compatibility loss. None where the loss was not asked for both apart.
    """

    loss: Tensor
    tokens: Tensor
    tokens_to_old: Tensor
    divergence_to_old: Tensor
    divergence_to_new: Tensor
    cross_entropy: Tensor
    correct_tokens: Tensor
    task_loss: Tensor | None = None


def compatibility_loss(
    student_logits: Tensor,
    old_logits: Tensor,
    new_logits: Tensor,
    labels: Tensor,
    *,
    normalizer: Tensor | float | None = None,
    sequence: Tensor | None = None,
    weights: Tensor | None = None,
    given_teachers: Tensor | None = None,
    strategy: Strategy | None = None,
    **options: Any,
) -> CompatibilityLoss:
    """Compute the compatibility loss of a batch (MUSCLE, arXiv 2407.09435, Eq. 1 and Eq. 5).

    Logits and labels stand at the same positions: shift a causal model's labels with [`next_token_labels`]
    first. No gradient reaches the teachers or the mask.

    Args:
        student_logits: float, (..., vocabulary). Logits of the adapter in training.
        old_logits: float, the same shape. Logits of the frozen old model.
        new_logits: float, the same shape. Logits of the frozen new model.
        labels: int64, (...). Gold tokens; -100 is not trained on and contributes nothing.
        normalizer: The sum over tokens is divided by it. Give the number of trained tokens of the whole optimizer
            step so that gradient accumulation does not change the loss. Defaults to the tokens of this call.
        sequence: int64, (...). The number of each position's sequence, from 0; needed by "sequence_likelihood" where
            rows are packed. Defaults to the number of the row.
        weights: float, (...). Weight of each position's loss; the normalizer does not change with it. Defaults to 1.
        given_teachers: int64, (...). 0: the mask decides; 1: the old model; 2: the new model; 4: the product of both.
            Defaults to 0.
        strategy: Mask, divergence and the rest. Defaults to the paper's Eq. 1.
        **options: Fields of [`Strategy`], in place of `strategy`: `mask`, `divergence`, `temperature` and so on.

    Returns:
        A [`CompatibilityLoss`]. Without a trained token its `loss` is 0 and still has a gradient, of zero.

    Raises:
        ConfigurationError: An unknown mask or divergence, a temperature that is not positive, a weight not in [0, 1].
        InputError: Shapes that do not fit.

    Example:
        >>> labels = torch.tensor([0, 1, -100])
        >>> wrong = torch.tensor([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])  # wrong on the first token, right on the second
        >>> result = compatibility_loss(wrong, old_logits=-wrong, new_logits=wrong, labels=labels)
        >>> result.tokens.item(), result.tokens_to_old.item(), result.divergence_to_new.item()
        (2, 1, 0.0)
    """
    if strategy is None:
        strategy = Strategy(**options)
    elif options:
        raise TypeError(f"give strategy or single options, not both: {sorted(options)}")
    for name, logits in (("student", student_logits), ("old", old_logits), ("new", new_logits)):
        if logits.shape != (*labels.shape, student_logits.shape[-1]):
            raise InputError(
                f"The {name} logits have shape {tuple(logits.shape)}, but labels of shape {tuple(labels.shape)} and "
                f"a vocabulary of {student_logits.shape[-1]} need {(*labels.shape, student_logits.shape[-1])}."
            )
    for name, more in (("sequence", sequence), ("weights", weights), ("given_teachers", given_teachers)):
        if more is not None and more.shape != labels.shape:
            raise InputError(f"{name} has shape {tuple(more.shape)}, and the labels have {tuple(labels.shape)}.")
    if sequence is None:
        sequence = torch.zeros_like(labels)
        if labels.dim() > 1:
            sequence += torch.arange(len(labels), device=labels.device).view(-1, *[1] * (labels.dim() - 1))
    trained = labels != IGNORE_INDEX
    gold = labels[trained]
    student, old, new = student_logits[trained], old_logits[trained].detach(), new_logits[trained].detach()
    return loss_of_tokens(
        strategy,
        Scores(
            student=LogitScores(student.detach(), gold),
            old=LogitScores(old, gold),
            new=LogitScores(new, gold),
            gold=gold,
            sequence=sequence[trained],
        ),
        (student, old, new),
        divergence_of_logits(strategy.divergence, strategy.jensen_shannon_beta),
        normalizer=normalizer,
        weights=None if weights is None else weights[trained],
        given_teachers=None if given_teachers is None else given_teachers[trained],
    )


def loss_of_tokens(
    strategy: Strategy,
    scores: Scores,
    logits: tuple[Tensor, Tensor, Tensor],
    divergence: Divergence,
    *,
    normalizer: Tensor | float | None,
    weights: Tensor | None,
    given_teachers: Tensor | None,
    shares: Tensor | None = None,
    task_term: Callable[[Tensor], Tensor] | None = None,
) -> CompatibilityLoss:
    """Compute the loss of trained tokens from full logits: of the student, the old and the new model, in this order.

    All logits are float, (tokens, classes); `scores` belong to them; weights and given teachers are (tokens,).
    `shares`, float, (tokens,), stand in place of the strategy's weight of the cross-entropy. `task_term` makes of the
    tokens' cross-entropy what is trained in its place, likewise (tokens,).
    """
    student, old, new = logits
    with torch.no_grad():
        choice = choose(strategy, scores, given_teachers)
        teacher = teacher_logits(strategy, choice.teacher, old, new)
    figures = token_losses(strategy, divergence, teacher, student, scores.gold)
    distance, cross_entropy = figures
    of_task = cross_entropy if task_term is None else task_term(cross_entropy)
    sums = weighted_sums(strategy, distance, of_task, weights, choice.focus, shares)
    return ended(sums, choice, *figures, scores.student.right, normalizer)


@dataclass(frozen=True)
class Choice:
    """Whom each token learns from, and how much that counts.

    Args:
        teacher: int64, (tokens,). `OLD`, `NEW`, `PRODUCT` or another `MIXTURE`, the strategy's.
        focus: f_i = alpha + beta * 1[old model right] (PCT, arXiv 2011.09161): float, (tokens,), or one for all.
    """

    teacher: Tensor
    focus: Tensor | float


def choose(strategy: Strategy, scores: Scores, given_teachers: Tensor | None) -> Choice:
    """Choose the teacher of each token: by the mask, or as given: one of them, and 0 where the mask decides."""
    if given_teachers is not None and bool((given_teachers != 0).all()):
        teacher = given_teachers
    else:
        marked = marked_tokens(strategy.mask, scores)
        of_marked = {"old": OLD, "new": NEW, "product": PRODUCT}.get(strategy.teacher, MIXTURE)
        teacher = torch.where(marked, of_marked, NEW)
        teacher = teacher if given_teachers is None else torch.where(given_teachers != 0, given_teachers, teacher)
    # Without a focus the old model's scores are not asked for: a pass of the model may hang on them.
    focus = strategy.focal_alpha
    return Choice(teacher, focus + strategy.focal_beta * scores.old.right if strategy.focal_beta else focus)


def teacher_logits(strategy: Strategy, teacher_of_token: Tensor, old: Tensor, new: Tensor) -> Tensor:
    """Give the logits that each token learns from: float, (tokens, vocabulary); softmax(logits / T) is the target."""
    # The mask is hard, so each token has one teacher and one divergence is enough.
    chosen = torch.where((teacher_of_token == OLD)[:, None], old, new)
    for kind in (MIXTURE, PRODUCT):
        mixed = teacher_of_token == kind
        if bool(mixed.any()):
            chosen = torch.where(mixed[:, None], mixture(strategy, kind, old, new), chosen)
    return chosen


def mixture(strategy: Strategy, kind: int, old: Tensor, new: Tensor) -> Tensor:
    """Give the logits of both models' `PRODUCT`, or of the strategy's `MIXTURE`; softmax(logits / T) is the target.

    They are float, (tokens, vocabulary).
    """
    if kind == PRODUCT:
        return product_of_logits(old, new, strategy.product_temperatures)
    if strategy.teacher == "log_ensemble":
        return (old + new) / 2
    if strategy.teacher == "more_confident":
        surer = log_softmax(old, 1.0).amax(-1) > log_softmax(new, 1.0).amax(-1)
        return torch.where(surer[:, None], old, new)
    if strategy.teacher == "perpendicular":
        return perpendicular_teacher(old, new, strategy.teacher_weight)
    temperature = strategy.temperature
    sum_of_both = torch.logaddexp(log_softmax(old, temperature), log_softmax(new, temperature))
    return sum_of_both * temperature


def token_losses(
    strategy: Strategy, divergence: Divergence, teacher: Tensor, student: Tensor, gold: Tensor
) -> tuple[Tensor, Tensor]:
    """Give each token's divergence between logits, (tokens, vocabulary), and its cross-entropy: no weights yet."""
    distance = divergence(teacher, student, strategy.temperature)
    return scaled(strategy, distance), -gold_log_probability(student, gold)


def scaled(strategy: Strategy, distance: Tensor) -> Tensor:
    """Multiply a divergence by T^2 where the strategy asks for it."""
    return distance * strategy.temperature**2 if strategy.scale_by_temperature_squared else distance


def weighted_sums(
    strategy: Strategy,
    distance: Tensor,
    cross_entropy: Tensor,
    weights: Tensor | None,
    focus: Tensor | float,
    shares: Tensor | None = None,
) -> Tensor:
    """Add up the tokens' losses: the sums of w * (1 - c) * f * divergence and of w * c * cross-entropy.

    The losses are (tokens,). c is the strategy's, or that of each token where there are `shares`; of these, 1 is for
    answers of the old model that are learned by cross-entropy alone, which is counted in the first sum.

    Returns:
        float, (2,). What is for compatibility, and what is for the task.
    """
    if not isinstance(focus, float) or focus != 1.0:
        distance = distance * focus
    if weights is not None:
        distance, cross_entropy = distance * weights, cross_entropy * weights
    if shares is not None:
        taught, labelled, logged = shares < 1, (shares > 0) & (shares < 1), shares == 1
        of_teachers = (distance[taught] * (1 - shares[taught])).sum() + cross_entropy[logged].sum()
        return torch.stack([of_teachers, (cross_entropy[labelled] * shares[labelled]).sum()])
    share = strategy.cross_entropy_weight
    # A term of weight 0 is left out, not multiplied by 0: it costs no backward pass and its infinities do no harm.
    terms = [
        weight * term.sum() if weight > 0 else term.new_zeros(())
        for weight, term in ((1 - share, distance), (share, cross_entropy))
    ]
    return torch.stack(terms)


def ended(
    sums: Tensor,
    choice: Choice,
    distance: Tensor,
    cross_entropy: Tensor,
    right: Tensor,
    normalizer: Tensor | float | None,
) -> CompatibilityLoss:
    """Divide the sums of the losses, and add up what a trainer logs: without weights and without gradients.

    `sums` are those of [`weighted_sums`], or all in one, (1,). `distance`, `cross_entropy` and `right` (is the student
    right?) are (tokens,). The divisor, by default the number of tokens, is never 0: an optimizer step that trains on
    none has the loss 0, and does not turn the model to NaN.
    """
    distance, cross_entropy = distance.detach(), cross_entropy.detach()
    tokens = torch.tensor(len(right), device=right.device)
    if normalizer is None:
        normalizer = tokens
    marked = choice.teacher != NEW
    divisor = normalizer.clamp(min=1) if isinstance(normalizer, Tensor) else normalizer or 1
    return CompatibilityLoss(
        loss=sums.sum() / divisor,
        tokens=tokens,
        tokens_to_old=marked.sum(),
        divergence_to_old=distance[marked].sum(),
        divergence_to_new=distance[~marked].sum(),
        cross_entropy=cross_entropy.sum(),
        correct_tokens=right.sum(),
        task_loss=sums[1] / divisor if len(sums) > 1 else None,
    )
