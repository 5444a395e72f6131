"""Take from a second direction only what the first does not have: of gradients, and of logits.

    perp(b; a) = b - (<a, b> / <a, a>) * a

so that adding it to a leaves what a says along itself (Perp-Neg, arXiv 2304.04968, on predictions of a diffusion
model). Two uses of it are here, both ours in this form:

- *Gradients* of two goals conflict where <a, b> < 0. PCGrad (arXiv 2001.06782, Algorithm 1) takes from each what is
  against the other; one-sided, as A-GEM (arXiv 1812.00420, Eq. 11), only the second gives way.
- *Logits*: the old model's, as far as they are not those of the new one. A constant added to logits means nothing, and
  of a large vocabulary the likely tokens matter, so <a, b> is their covariance under the new model's probabilities.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .logits import in_float, log_softmax

CONFLICTS = {
    "sum": "the gradients are added up: plain weights",
    "accuracy_first": "what is against the mean gradient of the cross-entropy is taken from that of the divergence",
    "project_both": "what is against the other gradient is taken from either (PCGrad)",
}
Vector = Sequence[Tensor]
# Numbers that are added up in their own precision, and the sums in float64: all of it takes 30 times as long.
_PIECE = 2**16


class Products(NamedTuple):
    """Inner products of two vectors a and b, float64 scalars."""

    aa: Tensor
    bb: Tensor
    ab: Tensor

    @property
    def cosine(self) -> Tensor:
        """The cosine of their angle; nan where one of them is 0."""
        lengths = self.aa.sqrt() * self.bb.sqrt()
        return torch.where(lengths > 0, self.ab / lengths, torch.nan)


def products(a: Vector, b: Vector) -> Products:
    """Return the inner products of two vectors, each in as many parts of any shape.

    Example:
        >>> products([torch.tensor([1.0, 0.0])], [torch.tensor([-1.0, 1.0])]).cosine.item()
        -0.7071067811865475
    """

    def inner(first: Vector, second: Vector) -> Tensor:
        parts = [
            torch.dot(in_float(piece_of_x), in_float(piece_of_y))
            for x, y in zip(first, second, strict=True)
            for piece_of_x, piece_of_y in zip(*(torch.split(each.flatten(), _PIECE) for each in (x, y)), strict=True)
        ]
        return torch.stack([part.to(parts[0].device) for part in parts]).double().sum()

    return Products(inner(a, a), inner(b, b), inner(a, b))


def without_conflict(b: Vector, a: Vector, of_both: Products | None = None) -> list[Tensor]:
    """Return b without what is against a: b itself where they do not conflict, or a is 0.

    Args:
        b: Parts of a vector, float.
        a: Parts of another one, of the same shapes.
        of_both: Their inner products, where they are known.

    Example:
        >>> without_conflict([torch.tensor([-1.0, 1.0])], [torch.tensor([1.0, 0.0])])
        [tensor([0., 1.])]
    """
    known = products(a, b) if of_both is None else of_both
    share = torch.where((known.ab < 0) & (known.aa > 0), known.ab / known.aa, 0.0)
    return [y - (share.to(y.device) * x).to(y.dtype) for x, y in zip(a, b, strict=True)]


def combine(task: Vector, compatibility: Vector, how: str, mean: Vector | None = None) -> list[Tensor]:
    """Return one gradient for two goals, in the parts that both of them have.

    Args:
        task: Gradient of the task's loss.
        compatibility: Gradient of the compatibility loss.
        how: A key of `CONFLICTS`.
        mean: The task's gradient as "accuracy_first" is to know it, such as a running mean. Defaults to `task`.

    Example:
        >>> task, compatibility = [torch.tensor([1.0, 0.0])], [torch.tensor([-1.0, 1.0])]
        >>> for how in CONFLICTS:
        ...     print(how, combine(task, compatibility, how)[0].tolist())
        sum [0.0, 1.0]
        accuracy_first [1.0, 1.0]
        project_both [0.5, 1.5]
    """
    if how == "accuracy_first":
        compatibility = without_conflict(compatibility, task if mean is None else mean)
    elif how == "project_both":
        both = products(task, compatibility)
        swapped = Products(both.bb, both.aa, both.ab)
        task, compatibility = (
            without_conflict(task, compatibility, swapped),
            without_conflict(compatibility, task, both),
        )
    return [x + y for x, y in zip(task, compatibility, strict=True)]


def perpendicular(b: Tensor, a: Tensor, probabilities: Tensor) -> Tensor:
    """Return what logits b have that logits a do not: b - (Cov(a, b) / Var(a)) * a, in each row by itself.

    Args:
        b: float, (tokens, vocabulary).
        a: The same shape.
        probabilities: The same shape. Under these are covariance and variance; where a is constant, all of b is left.

    Returns:
        float32 or float64, (tokens, vocabulary). Its mean and its covariance with a are 0.

    Example:
        >>> a, b = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[1.0, 1.0, 0.0]])
        >>> perpendicular(b, a, torch.tensor([[0.5, 0.25, 0.25]]))  # Cov = 1/8, Var = 1/4: (1/2, 1, 0), less its mean
        tensor([[ 0.0000,  0.5000, -0.5000]])
    """
    probabilities = in_float(probabilities)
    a, b = (_around_mean(in_float(logits), probabilities) for logits in (a, b))
    variance = (probabilities * a.square()).sum(-1, keepdim=True)
    covariance = (probabilities * a * b).sum(-1, keepdim=True)
    return b - torch.where(variance > 0, covariance / variance, 0.0) * a


def _around_mean(logits: Tensor, probabilities: Tensor) -> Tensor:
    # Around the likeliest first: the mean of a sure model is next to it, and the difference would be rounded away.
    logits = logits - logits.gather(-1, probabilities.argmax(-1, keepdim=True))
    return logits - (probabilities * logits).sum(-1, keepdim=True)


def perpendicular_teacher(old: Tensor, new: Tensor, weight: float) -> Tensor:
    """Return z_new + weight * perp(z_old; z_new), the logits of the teacher "perpendicular".

    Inner products are under the new model's probabilities at temperature 1. Of a class that one of the models rules
    out (-inf), such as one that the old model does not know, the new model's logit stays; the mean of what is added to
    the others is 0.

    Args:
        old: float, (tokens, vocabulary). Logits of the old model.
        new: float, the same shape. Logits of the new model.
        weight: How much of the old model is added.

    Returns:
        float32 or float64, (tokens, vocabulary). A constant added to either model's logits changes no probability.
    """
    old, new = in_float(old).to(new.device), in_float(new)
    known = (old > -torch.inf) & (new > -torch.inf)
    mine = new.masked_fill(~known, 0.0)
    # Where nothing is known, each class is as likely as any: no NaN, and nothing is added.
    probabilities = log_softmax(torch.where(known, new, torch.finfo(new.dtype).min), 1.0).exp() * known
    added = perpendicular(old.masked_fill(~known, 0.0), mine, probabilities)
    return torch.where(known, new + weight * added, new)
