"""The compatibility loss: tensors in, tensors out.

MUSCLE (arXiv 2407.09435, section 4.1, Eq. 1) chooses one teacher for every token: the old model where the student is
wrong, the new model where it is right, and pulls the student towards it with a KL divergence:

    m_i = 1[argmax z_student,i != y_i]
    L_i = m_i * KL(p_old,i || p_student,i) + (1 - m_i) * KL(p_new,i || p_student,i)        p = softmax(z / T)

Everything here works on the tokens that are trained on, one row each: logits of shape (tokens, vocabulary) and the
gold tokens, of shape (tokens,).
"""

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the name that every torch code base uses
from torch import Tensor

from .errors import ConfigurationError, InputError

IGNORE_INDEX = -100


@dataclass(frozen=True)
class TokenLogits:
    """What a mask may look at: three models' logits at the trained tokens, and the gold tokens.

    Args:
        student: float, (tokens, vocabulary). Logits of the adapter in training.
        old: float, (tokens, vocabulary). Logits of the frozen old model.
        new: float, (tokens, vocabulary). Logits of the frozen new model.
        gold: int64, (tokens,). The gold tokens, none of them -100.
        sequence: int64, (tokens,). The number of the sequence that each token belongs to, from 0.
    """

    student: Tensor
    old: Tensor
    new: Tensor
    gold: Tensor
    sequence: Tensor


Mask = Callable[[TokenLogits], Tensor]
Divergence = Callable[[Tensor, Tensor, float], Tensor]


def gold_log_probability(logits: Tensor, gold: Tensor) -> Tensor:
    """Return the log-probability of the gold token, at temperature 1.

    Args:
        logits: float, (tokens, vocabulary).
        gold: int64, (tokens,).

    Returns:
        float32 or float64, (tokens,). Natural logarithm, at most 0.

    Example:
        >>> gold_log_probability(torch.zeros(1, 4), torch.tensor([2])).exp()
        tensor([0.2500])
    """
    return -F.cross_entropy(_in_float(logits), gold, reduction="none")


def student_wrong(logits: TokenLogits) -> Tensor:
    """Mark the tokens that the student gets wrong now: the method's mask (MUSCLE, Eq. 1).

    Args:
        logits: The trained tokens, as all three models see them.

    Returns:
        bool, (tokens,). True: this token learns from the old model.
    """
    return logits.student.argmax(-1) != logits.gold


def old_right(logits: TokenLogits) -> Tensor:
    """Mark the tokens that the old model gets right (MUSCLE, section 6.5).

    Args:
        logits: The trained tokens, as all three models see them.

    Returns:
        bool, (tokens,). True: this token learns from the old model.
    """
    return logits.old.argmax(-1) == logits.gold


def token_likelihood(logits: TokenLogits) -> Tensor:
    """Mark the tokens whose gold token the old model finds likelier than the student does (MUSCLE, Eq. 2).

    Args:
        logits: The trained tokens, as all three models see them.

    Returns:
        bool, (tokens,). True: this token learns from the old model.
    """
    student = gold_log_probability(logits.student, logits.gold)
    return student < gold_log_probability(logits.old, logits.gold)


def sequence_likelihood(logits: TokenLogits) -> Tensor:
    """Mark whole sequences that the old model finds likelier than the student does (MUSCLE, Eq. 3).

    The paper prints no threshold. Here a sequence's log-likelihood is the sum over its trained tokens, and the old
    model must have the larger one.

    Args:
        logits: The trained tokens, as all three models see them.

    Returns:
        bool, (tokens,). True: this token learns from the old model.
    """
    gain = gold_log_probability(logits.old, logits.gold) - gold_log_probability(logits.student, logits.gold)
    sequences = int(logits.sequence.max()) + 1 if logits.sequence.numel() else 0
    total = gain.new_zeros(sequences).index_add(0, logits.sequence, gain)
    return (total > 0)[logits.sequence]


def every_token(logits: TokenLogits) -> Tensor:
    """Mark every token: KL to the old model only (MUSCLE, section 6.5, "none").

    Args:
        logits: The trained tokens, as all three models see them.

    Returns:
        bool, (tokens,). True: this token learns from the old model.
    """
    return torch.ones_like(logits.gold, dtype=torch.bool)


def forward_kl(teacher: Tensor, student: Tensor, temperature: float) -> Tensor:
    """Return KL(teacher || student) for each token, the paper's divergence.

    Args:
        teacher: float, (tokens, vocabulary). Logits of the frozen model.
        student: float, (tokens, vocabulary). Logits of the adapter in training.
        temperature: Both logits are divided by it. There is no factor T^2 here.

    Returns:
        float, (tokens,). In nats, at least 0, and 0 where both are the same distribution.

    Example:
        >>> import math
        >>> teacher = torch.tensor([[math.log(3.0), 0.0]])  # probabilities 3/4 and 1/4
        >>> round(forward_kl(teacher, torch.zeros(1, 2), 1.0).item(), 6)  # 3/4 log(3/2) + 1/4 log(1/2)
        0.130812
    """
    return _kl(_log_softmax(teacher, temperature), _log_softmax(student, temperature))


def reverse_kl(teacher: Tensor, student: Tensor, temperature: float) -> Tensor:
    """Return KL(student || teacher) for each token: mode-seeking where [`forward_kl`] covers the mass.

    Args:
        teacher: float, (tokens, vocabulary). Logits of the frozen model.
        student: float, (tokens, vocabulary). Logits of the adapter in training.
        temperature: Both logits are divided by it.

    Returns:
        float, (tokens,). At least 0.
    """
    return _kl(_log_softmax(student, temperature), _log_softmax(teacher, temperature))


def logit_difference_inhibition(
    teacher: Tensor, student: Tensor, temperature: float, *, margin: float = 0.5
) -> Tensor:
    """Return mean over classes of max(|z_student - z_teacher| - margin, 0)^2 (ELODI, arXiv 2205.06265).

    Args:
        teacher: float, (tokens, vocabulary). Logits of the frozen model.
        student: float, (tokens, vocabulary). Logits of the adapter in training.
        temperature: Divides the logits here as in the other divergences; ELODI itself has none, which is 1.0.
        margin: Differences up to this size are forgiven. Defaults to 0.5, as in ELODI.

    Returns:
        float, (tokens,). At least 0.
    """
    difference = (_in_float(student) - _in_float(teacher)) / temperature
    # Equal logits differ by 0 also where both rule a class out with -inf.
    difference = difference.masked_fill(student == teacher, 0)
    return (difference.abs() - margin).clamp(min=0).square().mean(-1)


MASKS: dict[str, Mask] = {
    "student_wrong": student_wrong,
    "old_right": old_right,
    "token_likelihood": token_likelihood,
    "sequence_likelihood": sequence_likelihood,
    "none": every_token,
}
DIVERGENCES: dict[str, Divergence] = {
    "forward_kl": forward_kl,
    "reverse_kl": reverse_kl,
    "logit_difference_inhibition": logit_difference_inhibition,
}


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
    mask: str = "student_wrong",
    divergence: str = "forward_kl",
    temperature: float = 2.0,
    scale_by_temperature_squared: bool = False,
    cross_entropy_weight: float = 0.0,
    normalizer: Tensor | float | None = None,
    sequence: Tensor | None = None,
) -> CompatibilityLoss:
    """Compute the compatibility loss of a batch (MUSCLE, arXiv 2407.09435, Eq. 1 and Eq. 5).

    Logits and labels stand at the same positions: shift a causal model's labels with [`next_token_labels`]
    first. No gradient reaches the teachers or the mask.

    Args:
        student_logits: float, (..., vocabulary). Logits of the adapter in training.
        old_logits: float, the same shape. Logits of the frozen old model.
        new_logits: float, the same shape. Logits of the frozen new model.
        labels: int64, (...). Gold tokens; -100 is not trained on and contributes nothing.
        mask: Which tokens learn from the old model, a key of `MASKS`. Defaults to the paper's "student_wrong".
        divergence: A key of `DIVERGENCES`. Defaults to the paper's "forward_kl".
        temperature: Divides all logits in the divergence, never in the mask or the cross-entropy. Defaults to 2.0.
        scale_by_temperature_squared: Multiply the divergence by T^2, as Hinton's distillation does and the paper
            does not. Defaults to False.
        cross_entropy_weight: 1 - lambda of Eq. 5: the loss is lambda * Eq. 1 + (1 - lambda) * cross-entropy, lambda
            in [0, 1]. Defaults to 0.0, Eq. 1 alone.
        normalizer: The sum over tokens is divided by it. Give the number of trained tokens of the whole optimizer
            step so that gradient accumulation does not change the loss. Defaults to the tokens of this call.
        sequence: int64, (...). The number of each position's sequence, from 0; needed by "sequence_likelihood" where
            rows are packed. Defaults to the number of the row.

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
    validate_options(mask, divergence, temperature, cross_entropy_weight)
    for name, logits in (("student", student_logits), ("old", old_logits), ("new", new_logits)):
        if logits.shape != (*labels.shape, student_logits.shape[-1]):
            raise InputError(
                f"The {name} logits have shape {tuple(logits.shape)}, but labels of shape {tuple(labels.shape)} and "
                f"a vocabulary of {student_logits.shape[-1]} need {(*labels.shape, student_logits.shape[-1])}."
            )
    trained = labels != IGNORE_INDEX
    if sequence is None:
        sequence = torch.zeros_like(labels)
        if labels.dim() > 1:
            sequence += torch.arange(len(labels), device=labels.device).view(-1, *[1] * (labels.dim() - 1))
    rows = TokenLogits(
        student=student_logits[trained],
        old=old_logits[trained].detach(),
        new=new_logits[trained].detach(),
        gold=labels[trained],
        sequence=sequence[trained],
    )
    with torch.no_grad():
        to_old = MASKS[mask](rows)
        # The mask is hard, so each token has one teacher and one divergence is enough.
        teacher = torch.where(to_old[:, None], rows.old, rows.new)
    distance = DIVERGENCES[divergence](teacher, rows.student, temperature)
    if scale_by_temperature_squared:
        distance = distance * temperature**2
    cross_entropy = -gold_log_probability(rows.student, rows.gold)
    # A term of weight 0 is left out, not multiplied by 0: it costs no backward pass and its infinities do no harm.
    weighted = [
        weight * term.sum()
        for weight, term in ((1 - cross_entropy_weight, distance), (cross_entropy_weight, cross_entropy))
        if weight > 0
    ]
    tokens = trained.sum()
    loss = torch.stack(weighted).sum() / (tokens.clamp(min=1) if normalizer is None else normalizer)
    distance, cross_entropy = distance.detach(), cross_entropy.detach()
    return CompatibilityLoss(
        loss=loss,
        tokens=tokens,
        tokens_to_old=to_old.sum(),
        divergence_to_old=distance[to_old].sum(),
        divergence_to_new=distance[~to_old].sum(),
        cross_entropy=cross_entropy.sum(),
        correct_tokens=(rows.student.argmax(-1) == rows.gold).sum(),
    )


def next_token_labels(labels: Tensor) -> Tensor:
    """Shift labels to the position that predicts them, so that they line up with a causal model's logits.

    Args:
        labels: int64, (batch, length). As transformers models take them: the label of a token stands at the token.

    Returns:
        int64, (batch, length). The last position of each row is -100.

    Example:
        >>> next_token_labels(torch.tensor([[-100, 5, 6]]))
        tensor([[   5,    6, -100]])
    """
    return F.pad(labels[:, 1:], (0, 1), value=IGNORE_INDEX)


def validate_options(mask: str, divergence: str, temperature: float, cross_entropy_weight: float) -> None:
    """Refuse options of [`compatibility_loss`] that have no meaning.

    Args:
        mask: A key of `MASKS`.
        divergence: A key of `DIVERGENCES`.
        temperature: A positive number.
        cross_entropy_weight: A number in [0, 1].

    Raises:
        ConfigurationError: Naming the option, the value and what is allowed.
    """
    for option, value, known in (("mask", mask, MASKS), ("divergence", divergence, DIVERGENCES)):
        if value not in known:
            near = difflib.get_close_matches(str(value), known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ConfigurationError(f"{option}={value!r} is unknown; choose one of {sorted(known)}.{hint}")
    if not (math.isfinite(temperature) and temperature > 0):
        raise ConfigurationError(f"temperature={temperature!r} must be a positive number; the paper's is 2.0.")
    if not 0 <= cross_entropy_weight <= 1:
        raise ConfigurationError(
            f"cross_entropy_weight={cross_entropy_weight!r} must lie in [0, 1]: 0 is Eq. 1 alone, 1 is plain "
            "fine-tuning without either teacher."
        )


def _in_float(logits: Tensor) -> Tensor:
    """Half-precision logits are summed over a vocabulary here, which needs more digits than they have."""
    return logits if logits.dtype == torch.float64 else logits.float()


def _log_softmax(logits: Tensor, temperature: float) -> Tensor:
    return F.log_softmax(_in_float(logits) / temperature, dim=-1)


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    # 0 * log(0 / q) is 0, and float arithmetic says nan: a class that p rules out with -inf adds nothing. Masked
    # before the product, so that the gradient does not see the nan either.
    gap = (log_p - log_q).masked_fill(log_p == -math.inf, 0)
    return (log_p.exp() * gap).sum(-1)
