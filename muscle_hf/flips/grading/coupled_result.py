"""What the coupled estimate of relevance and selection gives: both models, weights, and what they rest on."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ..inputs import check_level
from ..intervals import Interval, normal_quantile
from .features import INTERCEPT

METHODS = {"product": "maximum likelihood of P(relevant) P(selected)", "weights": "the weights of arXiv 2209.05072"}


@dataclass(frozen=True, eq=False)
class CoupledPart:
    """One of the two logistic models; as an array, the probability of each row."""

    intercept: float
    coefficients: dict[str, float]
    """By the name of the column, in its unit; infinite where the features separate, nan where that leaves it open."""
    standard_errors: dict[str, float]
    """Of the coefficients and of the "intercept", by the observed information; nan where there is none."""
    probability: NDArray[np.float64] = field(repr=False)
    """P(relevant) or P(selected) of each row by its features alone, whatever its label."""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Give the probability of each row."""
        return np.array(self.probability, dtype=dtype)


@dataclass(frozen=True, eq=False)
class CoupledEstimate:
    """What labels say of relevance and of who looked; made by `coupled_estimate`."""

    method: str
    n: int
    """How many rows there are."""
    labelled: int
    """How many of them have a label."""
    relevance: CoupledPart
    """The model of P(relevant): a `CoupledPart`."""
    selection: CoupledPart
    """The model of P(selected), that somebody looked."""
    probability_relevant: NDArray[np.float64] = field(repr=False)
    """P(relevant | label) of each row: 1 where it has a label, r (1 - s) / (1 - r s) where it has none."""
    weights: NDArray[np.float64] = field(repr=False)
    """How often each row counts in training, with its label as the class.

    "product": 1 / s where there is a label, P(not relevant | no label) where there is none: a model trained with them
    learns relevance, whatever was selected. "weights": 1, and 1 / (1 - expit(v / T)). At most `max_weight`.
    """
    capped: int
    """How many weights were cut down to `max_weight`."""
    effective_sample_size: float
    """(sum of the weights)^2 / sum of their squares: how many rows of equal weight tell as much."""
    identified_by: tuple[str, ...]
    """The selection columns that the relevance columns do not contain: what tells the two parts apart."""
    separated_by: tuple[str, ...]
    """Coefficients that the likelihood drives to infinity, as "selection.fenced"; without any, the fit is inside."""
    log_likelihood: float
    """Of the labels under P(r) P(s); with "weights" it is not what was made largest."""

    def confidence_interval(self, name: str, level: float = 0.95) -> Interval:
        """Give the confidence interval of a coefficient, by the observed information (Wald).

        It holds the fitted model for true: that selection is logistic in its features, say. With the method "weights"
        there is none, since its estimates are not those of a likelihood.

        Args:
            name: The part and the column, such as "relevance.new_score", or "selection.intercept".
            level: Share of repetitions in which the interval should hold the coefficient, between 0 and 1.

        Returns:
            The lower and upper bound; (nan, nan) where there is no standard error.

        Raises:
            InputError: There is no coefficient of that name, or `level` is not between 0 and 1.

        Example:
            >>> import numpy as np, muscle_hf
            >>> x, u, chance = np.random.default_rng(0).standard_normal((3, 5_000))
            >>> e = muscle_hf.coupled_estimate((x + chance > 0) & (u > 0.5 * chance), relevance=x, selection=u)
            >>> low, high = e.confidence_interval("relevance.relevance[0]")
            >>> low < e.relevance.coefficients["relevance[0]"] < high
            True
        """
        check_level(level)
        estimates = self._estimates()
        if name not in estimates:
            raise InputError(f"there is no coefficient named {name!r}; there are: {', '.join(estimates)}")
        estimate, error = estimates[name]
        half = normal_quantile(level) * error
        return estimate - half, estimate + half

    def __str__(self) -> str:
        """Show both parts as a table for people, with 95 % intervals, and what they rest on."""
        share = self.probability_relevant.sum() - self.labelled
        lines = [
            f"{self.n} rows, {self.labelled} with a label; of the others {share / (self.n - self.labelled):.1%} are "
            f"estimated to be relevant ({METHODS[self.method]})",
            f"the parts are told apart by {', '.join(self.identified_by)}",
            f"weights: as many rows as {self.effective_sample_size:.0f} of equal weight"
            + f", {self.capped} of them cut down" * (self.capped > 0),
        ]
        if self.separated_by:
            lines.append(
                f"separated: {', '.join(self.separated_by)} would be infinite, so that probabilities of 0 and 1 are a "
                "limit and no finding: where selection is 0, a missing label says nothing"
            )
        estimates = self._estimates()
        width = max(map(len, estimates))
        lines.append(f"{'':{width}}    estimate   95 % interval")
        for name, (estimate, error) in estimates.items():
            low, high = self.confidence_interval(name)
            bounds = "" if math.isnan(error) else f"   {low:z.4f} to {high:z.4f}"
            lines.append(f"{name:{width}}  {estimate:z10.4f}{bounds}")
        return "\n".join(lines)

    def _estimates(self) -> dict[str, tuple[float, float]]:
        return {
            f"{part}.{name}": (value, model.standard_errors[name])
            for part, model in (("relevance", self.relevance), ("selection", self.selection))
            for name, value in {INTERCEPT: model.intercept, **model.coefficients}.items()
        }
