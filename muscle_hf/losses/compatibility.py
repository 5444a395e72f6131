"""The compatibility loss: tensors in, tensors out.

MUSCLE (arXiv 2407.09435, section 4.1, Eq. 1) chooses one teacher for every token: the old model where the student is
wrong, the new model where it is right, and pulls the student towards it with a KL divergence:

    m_i = 1[argmax z_student,i != y_i]
    L_i = m_i * KL(p_old,i || p_student,i) + (1 - m_i) * KL(p_new,i || p_student,i)        p = softmax(z / T)

Everything here works on the tokens that are trained on, one row each: logits of shape (tokens, vocabulary) and the
gold tokens, of shape (tokens,). What else can be chosen is a [`Strategy`].
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from .divergences import Divergence, divergence_of_logits
from .logits import IGNORE_INDEX, gold_log_probability, log_softmax
from .masks import LogitScores, ModelScores, Scores, marked_tokens
from .strategy import Strategy

# Whom a token learns from. A label may say so itself (`teacher_of_token`): 0 leaves it to the mask.
NEW, OLD, MIXTURE = 2, 1, 3


@dataclass(frozen=True)
class CompatibilityLoss:
    """The loss and the sums that a trainer logs. All but `loss` are detached scalars.

    Args:
        loss: The value to call `backward()` on.
        tokens: How many tokens were trained on.
        tokens_to_old: How many of them learned from the old model.
        divergence_to_old: Sum of the divergence over the tokens that learned from the old model.
        divergence_to_new: Sum of the divergence over the tokens that learned from the new model.
        cross_entropy: Sum of the student's cross-entropy, whatever its weight in the loss.
        correct_tokens: How many tokens the student gets right.
    """

    loss: Tensor
    tokens: Tensor
    tokens_to_old: Tensor
    divergence_to_old: Tensor
    divergence_to_new: Tensor
    cross_entropy: Tensor
    correct_tokens: Tensor


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
        given_teachers: int64, (...). 0: the mask decides; 1: the old model; 2: the new model. Defaults to 0.
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
    trained = labels != IGNORE_INDEX
    if sequence is None:
        sequence = torch.zeros_like(labels)
        if labels.dim() > 1:
            sequence += torch.arange(len(labels), device=labels.device).view(-1, *[1] * (labels.dim() - 1))
    gold = labels[trained]
    student, old, new = student_logits[trained], old_logits[trained].detach(), new_logits[trained].detach()
    scores = Scores(
        student=LogitScores(student.detach(), gold),
        old=LogitScores(old, gold),
        new=LogitScores(new, gold),
        gold=gold,
        sequence=sequence[trained],
    )
    with torch.no_grad():
        teacher_of_token = choose_teachers(
            strategy, scores, None if given_teachers is None else given_teachers[trained]
        )
        teacher = teacher_logits(strategy, teacher_of_token, old, new)
        focus = focal_weights(strategy, scores.old)
    distance, cross_entropy = token_losses(
        strategy, divergence_of_logits(strategy.divergence, strategy.jensen_shannon_beta), teacher, student, gold
    )
    tokens = trained.sum()
    total = weighted_sum(strategy, distance, cross_entropy, None if weights is None else weights[trained], focus)
    return CompatibilityLoss(
        loss=total / divisor(tokens, normalizer),
        tokens=tokens,
        **sums(teacher_of_token, distance, cross_entropy, scores.student.right),
    )


def choose_teachers(strategy: Strategy, scores: Scores, given: Tensor | None) -> Tensor:
    """Say for each token whom it learns from.

    Args:
        strategy: Its mask is asked, unless all teachers are given.
        scores: The three models on the trained tokens.
        given: int64, (tokens,). `OLD` or `NEW` where that is fixed, 0 where the mask decides; None for all of them.

    Returns:
        int64, (tokens,). `OLD`, `NEW` or `MIXTURE`.
    """
    if given is not None and bool((given != 0).all()):
        return given
    marked = marked_tokens(strategy.mask, scores)
    of_marked = {"old": OLD, "new": NEW}.get(strategy.teacher, MIXTURE)
    chosen = torch.where(marked, of_marked, NEW)
    return chosen if given is None else torch.where(given != 0, given, chosen)


def teacher_logits(strategy: Strategy, teacher_of_token: Tensor, old: Tensor, new: Tensor) -> Tensor:
    """Give the logits that each token learns from.

    Args:
        strategy: Its teacher says what a `MIXTURE` is.
        teacher_of_token: int64, (tokens,). `OLD`, `NEW` or `MIXTURE`.
        old: float, (tokens, vocabulary).
        new: float, (tokens, vocabulary).

    Returns:
        float, (tokens, vocabulary). softmax(logits / T) is the target.
    """
    # The mask is hard, so each token has one teacher and one divergence is enough.
    chosen = torch.where((teacher_of_token == OLD)[:, None], old, new)
    mixed = teacher_of_token == MIXTURE
    if not bool(mixed.any()):
        return chosen
    return torch.where(mixed[:, None], mixture(strategy, old, new), chosen)


def mixture(strategy: Strategy, old: Tensor, new: Tensor) -> Tensor:
    """Give the logits of both models' mixture.

    Args:
        strategy: Its teacher is "ensemble", "log_ensemble" or "more_confident".
        old: float, (tokens, vocabulary).
        new: float, (tokens, vocabulary).

    Returns:
        float, (tokens, vocabulary). softmax(logits / T) is the target.
    """
    if strategy.teacher == "log_ensemble":
        return (old + new) / 2
    if strategy.teacher == "more_confident":
        surer = log_softmax(old, 1.0).amax(-1) > log_softmax(new, 1.0).amax(-1)
        return torch.where(surer[:, None], old, new)
    temperature = strategy.temperature
    sum_of_both = torch.logaddexp(log_softmax(old, temperature), log_softmax(new, temperature))
    return sum_of_both * temperature


def focal_weights(strategy: Strategy, old: ModelScores) -> Tensor | float:
    """Give f_i = alpha + beta * 1[old model right] (PCT, arXiv 2011.09161).

    Args:
        strategy: Its alpha and beta.
        old: The old model's scores, not asked for where beta is 0.

    Returns:
        float, (tokens,), or one number for all.
    """
    return strategy.focal_alpha + strategy.focal_beta * old.right if strategy.focal_beta else strategy.focal_alpha


def token_losses(
    strategy: Strategy, divergence: Divergence, teacher: Tensor, student: Tensor, gold: Tensor
) -> tuple[Tensor, Tensor]:
    """Give each token's divergence and cross-entropy, without weights.

    Args:
        strategy: Its temperature.
        divergence: Between logits.
        teacher: float, (tokens, vocabulary). Logits that each token learns from.
        student: float, (tokens, vocabulary). Logits with a gradient.
        gold: int64, (tokens,).

    Returns:
        Two float tensors, (tokens,).
    """
    distance = divergence(teacher, student, strategy.temperature)
    return scaled(strategy, distance), -gold_log_probability(student, gold)


def scaled(strategy: Strategy, distance: Tensor) -> Tensor:
    """Multiply a divergence by T^2 where the strategy asks for it.

    Args:
        strategy: Its temperature.
        distance: float, (tokens,).

    Returns:
        float, (tokens,).
    """
    return distance * strategy.temperature**2 if strategy.scale_by_temperature_squared else distance


def weighted_sum(
    strategy: Strategy, distance: Tensor, cross_entropy: Tensor, weights: Tensor | None, focus: Tensor | float
) -> Tensor:
    """Add up the tokens' losses: sum of w * ((1 - c) * f * divergence + c * cross-entropy).

    Args:
        strategy: Its cross-entropy weight, c.
        distance: float, (tokens,).
        cross_entropy: float, (tokens,).
        weights: float, (tokens,). The instances' weights w; None for 1.
        focus: The focal weights f.

    Returns:
        A scalar.
    """
    if not isinstance(focus, float) or focus != 1.0:
        distance = distance * focus
    if weights is not None:
        distance, cross_entropy = distance * weights, cross_entropy * weights
    share = strategy.cross_entropy_weight
    # A term of weight 0 is left out, not multiplied by 0: it costs no backward pass and its infinities do no harm.
    terms = [weight * term.sum() for weight, term in ((1 - share, distance), (share, cross_entropy)) if weight > 0]
    return torch.stack(terms).sum()


def divisor(tokens: Tensor, normalizer: Tensor | float | None) -> Tensor | float:
    """Give what the sum over tokens is divided by: never 0, so that an optimizer step without tokens has the loss 0.

    Args:
        tokens: int64. Tokens of this call.
        normalizer: Tokens of the whole optimizer step; None: of this call.
    """
    if normalizer is None:
        return tokens.clamp(min=1)
    return normalizer.clamp(min=1) if isinstance(normalizer, Tensor) else normalizer or 1


def sums(teacher_of_token: Tensor, distance: Tensor, cross_entropy: Tensor, right: Tensor) -> dict[str, Tensor]:
    """Add up what a trainer logs, without weights and without gradients: fields of [`CompatibilityLoss`].

    Args:
        teacher_of_token: int64, (tokens,).
        distance: float, (tokens,).
        cross_entropy: float, (tokens,).
        right: bool, (tokens,). Whether the student is right.
    """
    distance, cross_entropy = distance.detach(), cross_entropy.detach()
    marked = teacher_of_token != NEW
    return {
        "tokens_to_old": marked.sum(),
        "divergence_to_old": distance[marked].sum(),
        "divergence_to_new": distance[~marked].sum(),
        "cross_entropy": cross_entropy.sum(),
        "correct_tokens": right.sum(),
    }
