"""The product of both models' probabilities, and the temperatures under which they count as much as they know.

    p(y) = p_old(y)^(1 / T_old) * p_new(y)^(1 / T_new) / Z = softmax(z_old / T_old + z_new / T_new)

Two witnesses of one truth that err independently (a product of experts, Hinton 2002). Equal models at temperatures of
2 and 2 are the model itself, and the mean of the logits, "log_ensemble", is the product at 2 and 2. Each model's
temperature is that of the smallest negative log-likelihood of the right tokens on data that it was not trained on
(Guo 2017, arXiv 1706.04599). With b = 1 / T that is convex, with the slope and the curvature

    mean of E[z] - z_y      and      mean of Var[z],      both under softmax(b z)

so the one place where the slope is 0 is wanted. Both are added up over the data at some b at once: one pass is enough,
and no logits are kept.
"""

import math

import torch
from torch import Tensor

from ..errors import ConfigurationError
from .logits import in_float

# Temperatures are looked for from 1/16 to 16, by their inverses, so many to each doubling.
_PER_DOUBLING = 4
_INVERSES = 2.0 ** torch.linspace(-4, 4, 33, dtype=torch.float64)
_GIVE_THEM = "Give product_temperatures, those of the old and the new model, such as 1.0 and 1.0"


def product_of_logits(old: Tensor, new: Tensor, temperatures: tuple[float, float]) -> Tensor:
    """Return the logits of both models' product: float32 or float64, in the shape of theirs.

    `temperatures` are those of the old and the new model.

    Example:
        >>> old, new = torch.tensor([0.5, 0.5]).log(), torch.tensor([0.9, 0.1]).log()
        >>> product_of_logits(old, new, (1.0, 1.0)).softmax(-1)  # who is unsure of everything, changes nothing
        tensor([0.9000, 0.1000])
    """
    of_old, of_new = temperatures
    return in_float(old) / of_old + in_float(new).to(old.device) / of_new


class TemperatureFit:
    """Finds the temperature of one model, "old" or "new", from its logits and the right tokens."""

    def __init__(self, role: str) -> None:
        """Start without data."""
        self.role, self.labels = role, 0
        self.sums = torch.zeros(2, len(_INVERSES), dtype=torch.float64)
        """Slopes and curvatures, added up over the tokens, at each of the inverse temperatures."""

    @torch.no_grad()
    def add(self, logits: Tensor, gold: Tensor) -> None:
        """Add tokens: logits, float, (tokens, vocabulary), and gold tokens, int64, (tokens,).

        Tokens whose gold one the model rules out (-inf) are left out: at no temperature would it be right on them.
        """
        logits = in_float(logits)
        of_gold = logits.gather(-1, gold[:, None])[:, 0]
        is_known = of_gold != -math.inf
        logits, of_gold = logits[is_known], of_gold[is_known]
        self.labels += len(of_gold)
        logits = logits - logits.amax(-1, keepdim=True)
        of_gold = logits.gather(-1, gold[is_known, None])[:, 0]
        finite = logits.masked_fill(logits == -math.inf, 0)
        powers = torch.stack([torch.ones_like(finite), finite, finite.square()], dim=1)
        found: list[Tensor] = [of_gold.new_zeros(2)] * len(_INVERSES)
        for first in range(_PER_DOUBLING):
            weights = (logits * _INVERSES[first].item()).exp()
            for place in range(first, len(_INVERSES), _PER_DOUBLING):
                mass, sums, squares = torch.bmm(powers, weights[:, :, None])[:, :, 0].unbind(-1)
                mean = sums / mass
                found[place] = torch.stack([(mean - of_gold).sum(), (squares / mass - mean.square()).sum()])
                weights.square_()  # those at twice the inverse temperature, without another exponential
        self.sums += torch.stack(found, dim=1).cpu().double()  # in one go, since each look waits for the device

    def take_over(self, other: "TemperatureFit") -> None:
        """Add what was added to another one, of the same model."""
        self.labels += other.labels
        self.sums += other.sums

    def temperature(self) -> float:
        """Return the temperature of the smallest negative log-likelihood.

        Raises:
            ConfigurationError: There is no label, or no such temperature from 1/16 to 16: the model is right on nearly
                all of them, however sure it is made, or no better than chance.

        Example:
            >>> fit = TemperatureFit("new")
            >>> fit.add(torch.tensor([[2.0, 0.0]] * 4), torch.tensor([0, 0, 0, 1]))  # right 3 times of 4
            >>> round(fit.temperature(), 4)  # where the model finds that: 2 / log 3
            1.8205
        """
        slopes, curvatures = (sums / max(1, self.labels) for sums in self.sums)
        if not self.labels:
            raise ConfigurationError(f"The evaluation set has no label to fit temperatures on. {_GIVE_THEM}.")
        if not bool(torch.isfinite(self.sums).all()):
            raise ConfigurationError(
                f"The {self.role} model's logits on the evaluation set are not finite, so it has no temperature."
            )
        if slopes[-1] <= 0 or slopes[0] >= 0:
            what = "nearly all of them" if slopes[-1] <= 0 else "them no more often than chance"
            raise ConfigurationError(
                f"The {self.role} model has no temperature from 1/16 to 16 that fits the {self.labels} labels of the "
                f"evaluation set: it is right on {what}. {_GIVE_THEM}, or a larger eval_dataset."
            )
        place = int((slopes > 0).long().argmax())
        ends = [(_INVERSES[at].item(), slopes[at].item(), curvatures[at].item()) for at in (place - 1, place)]
        return 1 / _root(*ends)


def _root(left: tuple[float, float, float], right: tuple[float, float, float]) -> float:
    """Find where the cubic through two points with these values and slopes, (x, y, y'), is 0; it is increasing."""
    (start, below, first), (end, above, last) = left, right
    width, low, high = end - start, 0.0, 1.0
    for _ in range(60):
        t = (low + high) / 2
        value = (
            (1 + 2 * t) * (1 - t) ** 2 * below
            + t * (1 - t) ** 2 * width * first
            + t**2 * (3 - 2 * t) * above
            + t**2 * (t - 1) * width * last
        )
        low, high = (t, high) if value <= 0 else (low, t)
    return start + width * (low + high) / 2
