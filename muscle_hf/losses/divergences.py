"""Divergences: how far a student is from its teacher, for each token.

Those between distributions take log-probabilities, of a whole vocabulary or of any other classes, such as the k
likeliest tokens and the rest in one: (rows, classes). Those between logits take logits, (tokens, vocabulary), and the
temperature that divides both. All give one number a row, (rows,): at least 0, and 0 where both are the same.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from .logits import in_float, log_softmax

Divergence = Callable[[Tensor, Tensor, float], Tensor]
DistributionDivergence = Callable[[Tensor, Tensor], Tensor]


def kl_divergence(p: Tensor, q: Tensor) -> Tensor:
    """Return KL(p || q) for each row, in nats."""
    # 0 * log(0 / q) is 0, and float arithmetic says nan: a class that p rules out with -inf adds nothing. Masked
    # before the product, so that the gradient does not see the nan either.
    gap = (p - q).masked_fill(p == -math.inf, 0)
    return (p.exp() * gap).sum(-1)


def jensen_shannon_divergence(p: Tensor, q: Tensor, beta: float) -> Tensor:
    """Return the generalised Jensen-Shannon divergence for each row (GKD, arXiv 2306.13649, Eq. 1).

    beta * KL(p || m) + (1 - beta) * KL(q || m), with m = beta * p + (1 - beta) * q.

    Args:
        p: float, (rows, classes). Log-probabilities of the teacher.
        q: float, (rows, classes). Log-probabilities of the student.
        beta: In (0, 1). Divided by beta it tends to the forward KL as beta goes to 0, and by 1 - beta to the reverse
            KL as beta goes to 1.

    Returns:
        float, (rows,). At least 0 and at most the entropy of (beta, 1 - beta).

    Example:
        >>> certain = torch.tensor([[0.0, -math.inf]])
        >>> jensen_shannon_divergence(certain, certain.flip(-1), 0.5).exp()  # nothing in common: log 2
        tensor([2.])
    """
    nowhere = (p == -math.inf) & (q == -math.inf)
    mixture = torch.logaddexp(
        p.masked_fill(nowhere, 0) + math.log(beta), q.masked_fill(nowhere, 0) + math.log(1 - beta)
    )
    return beta * kl_divergence(p, mixture) + (1 - beta) * kl_divergence(q, mixture)


def forward_kl(teacher: Tensor, student: Tensor, temperature: float) -> Tensor:
    """Return KL(teacher || student) for each token, the paper's divergence; there is no factor T^2 here.

    Example:
        >>> import math
        >>> teacher = torch.tensor([[math.log(3.0), 0.0]])  # probabilities 3/4 and 1/4
        >>> round(forward_kl(teacher, torch.zeros(1, 2), 1.0).item(), 6)  # 3/4 log(3/2) + 1/4 log(1/2)
        0.130812
    """
    return kl_divergence(log_softmax(teacher, temperature), log_softmax(student, temperature))


def reverse_kl(teacher: Tensor, student: Tensor, temperature: float) -> Tensor:
    """Return KL(student || teacher) for each token: mode-seeking where [`forward_kl`] covers the mass."""
    return kl_divergence(log_softmax(student, temperature), log_softmax(teacher, temperature))


def logit_difference_inhibition(
    teacher: Tensor, student: Tensor, temperature: float, *, margin: float = 0.5
) -> Tensor:
    """Return mean over classes of max(|z_student - z_teacher| - margin, 0)^2 (ELODI, arXiv 2205.06265).

    Both are divided by the temperature first, as in the other divergences; ELODI itself has none, which is 1.0.
    """
    difference = (in_float(student) - in_float(teacher)) / temperature
    # Equal logits differ by 0 also where both rule a class out with -inf.
    difference = difference.masked_fill(student == teacher, 0)
    return (difference.abs() - margin).clamp(min=0).square().mean(-1)


def jensen_shannon(teacher: Tensor, student: Tensor, temperature: float, *, beta: float = 0.5) -> Tensor:
    """Return the generalised Jensen-Shannon divergence for each token: bounded, also where the models contradict.

    See [`jensen_shannon_divergence`] for beta; at 0.5 both sides count alike.
    """
    return jensen_shannon_divergence(log_softmax(teacher, temperature), log_softmax(student, temperature), beta)


DIVERGENCES: dict[str, Divergence] = {
    "forward_kl": forward_kl,
    "reverse_kl": reverse_kl,
    "jensen_shannon": jensen_shannon,
    "logit_difference_inhibition": logit_difference_inhibition,
}


def divergence_of_logits(name: str, beta: float) -> Divergence:
    """Return a divergence between logits, by its name in `DIVERGENCES`; `beta` is that of "jensen_shannon"."""
    return partial(jensen_shannon, beta=beta) if name == "jensen_shannon" else DIVERGENCES[name]


def divergence_of_distributions(name: str, beta: float) -> DistributionDivergence:
    """Return a divergence between log-probabilities (teacher, student), by its name in `DIVERGENCES`.

    "logit_difference_inhibition" needs logits, and is none of them; `beta` is that of "jensen_shannon".
    """
    if name == "jensen_shannon":
        return partial(jensen_shannon_divergence, beta=beta)
    if name == "reverse_kl":
        return lambda teacher, student: kl_divergence(student, teacher)
    return kl_divergence
