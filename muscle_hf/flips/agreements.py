"""How far two models give the same answers, right or wrong: share of same ones and Cohen's kappa (1960)."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from . import clusters, intervals
from .inputs import Values, equal, number, take_answers
from .rates import Rate, Result, share


def _kappa_interval(result: Any, level: float, _: int) -> intervals.Interval:
    error = result.kappa_standard_error
    if result.by_cluster is None:
        return intervals.kappa_interval(result.kappa, error, level)
    return clusters.kappa_interval(result.by_cluster, result.chance_agreement, error, level)


KAPPA = Rate(
    " ",
    lambda result: intervals.kappa(result.agreement, result.chance_agreement),
    _kappa_interval,
)
"""Kappa of what has `agreement`, `chance_agreement` and `kappa_standard_error`; needs answers."""


@dataclass(frozen=True, eq=False)
class Agreement(Result):
    """How far two models give the same answers, right or wrong; made by `agreement`."""

    same: int
    """How many instances have the same answer."""
    different: int
    """How many have not."""
    chance_agreement: float
    """Share of same answers to expect of two models that answer independently, each with its own frequencies."""
    kappa_standard_error: float

    _SCHEMA: ClassVar[str] = "muscle_hf.agreement"

    @property
    def n(self) -> int:
        """How many instances were compared."""
        return self.same + self.different

    agreement = share(" ", lambda a: (a.same, a.n))
    """#(same answer) / N."""
    kappa = KAPPA
    """(agreement - chance) / (1 - chance): 1 for the same answers, 0 for what chance gives (Cohen 1960)."""


def agreement(*, old: Values, new: Values) -> Agreement:
    """Compare the answers of two models with each other, where the right answers are not known.

    Args:
        old: The old model's answers, shape (n,): all ints or all strings; None is no answer, and equal to None.
        new: The new model's answers to the same instances in the same order.

    Returns:
        The share of same answers and Cohen's kappa (Cohen 1960), with intervals.

    Raises:
        InputError: Nothing to compare, unequal lengths, ints against strings, floats, unhashable or nested answers.

    Example:
        >>> from muscle_hf.flips import agreement
        >>> a = agreement(old=["yes", "yes", "no", "no"], new=["yes", "no", "no", "no"])
        >>> a.agreement, a.kappa
        (0.75, 0.5)
    """
    before, after = take_answers(old=old, new=new)
    same = equal(before, after)
    chance, error = intervals.chance_agreement(*number(before, after), same)
    count = int(np.count_nonzero(same))
    return Agreement(same=count, different=len(same) - count, chance_agreement=chance, kappa_standard_error=error)
