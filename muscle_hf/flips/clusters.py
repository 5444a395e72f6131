"""Answers that belong together, such as paraphrases of one question: how much they say, and intervals that go by it.

A share of n answers in clusters is as uncertain as one of fewer independent answers; with that effective number the
intervals of independent answers hold. Where each answer is a cluster of its own, nothing changes.

Papers: Kish (1965, Survey Sampling) for the design effect; Korn and Graubard (1998, Survey Methodology 24) and Franco,
Little, Louis and Slud (2019, Journal of Survey Statistics and Methodology 7) for intervals of shares by the effective
number. That few flips tell little of how they cluster is met by one cluster of the worst kind that is added to those
that tell something; `benchmarks/clusters.py` measures what it does.

Verdicts on shares add to the measured variance its own standard error, since the few clusters that flipped may be
small or even by chance. It is the root of 2 over degrees of freedom after Satterthwaite (1946, Biometrics Bulletin
2), taken from the residuals of clusters; that their number is too hopeful where few of them tell anything is the
idea of Bell and McCaffrey (2002, Survey Methodology 28).
"""

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from . import intervals
from .decisions import change_limits
from .intervals import Cells, Interval, Numbers
from .ratio import relative_limits
from .special import stdtrit
from .weighted_coins import Coins

# The rates of a comparison have most of their degrees of freedom in common.
_student = lru_cache(maxsize=1_000)(stdtrit)
# With fewer degrees of freedom, as where nearly all rows are in one cluster, Student's quantile is beyond all bounds.
_LEAST_FREEDOM = 0.2


@dataclass(frozen=True, eq=False)
class ClusterCells:
    """The cells of each cluster, arrays of shape (clusters,); its names are those of a comparison."""

    both_right: Numbers
    both_wrong: Numbers
    _positive: Numbers
    _negative: Numbers
    _same: Numbers
    """Both wrong, with the same answer; nan where answers are not known."""
    agreement_residuals: tuple[Numbers, float] | None = None
    """By how much each cluster moves kappa, and the sum of squares over answers; None where answers are not known."""

    @classmethod
    def of(
        cls,
        numbers: NDArray[np.int64],
        old_right: NDArray[np.bool_],
        new_right: NDArray[np.bool_],
        same: NDArray[np.bool_] | None,
        influence: Numbers | None = None,
    ) -> Self:
        """Count the answers of each cluster; clusters are numbered from 0, and none is empty."""
        count = int(numbers.max()) + 1
        kinds = np.bincount(4 * numbers + 2 * old_right + new_right, minlength=4 * count).reshape(count, 4)
        wrong, positive, negative, right = kinds.T.astype(np.float64)
        agreed = np.full(count, math.nan)
        if same is not None:
            agreed = np.bincount(numbers[same & ~old_right & ~new_right], minlength=count).astype(np.float64)
        residuals = None
        if influence is not None:
            moved = np.bincount(numbers, weights=influence, minlength=count)
            residuals = np.asarray(moved, dtype=np.float64), float(influence @ influence)
        return cls(right, wrong, positive, negative, agreed, residuals)

    def __len__(self) -> int:
        """Say how many clusters there are."""
        return len(self.both_right)

    @property
    def n(self) -> Numbers:
        """How many answers each has."""
        return self.both_right + self.both_wrong + self._positive + self._negative

    @property
    def leaning(self) -> tuple[int, int]:
        """How many clusters have more negative than positive flips, and how many have fewer."""
        more = self._negative - self._positive
        return int(np.count_nonzero(more > 0)), int(np.count_nonzero(more < 0))

    @cached_property
    def coins(self) -> Coins:
        """The clusters as coins of the exact paired test."""
        return Coins.of((self._positive - self._negative).astype(np.int64))


def effective_size(
    residuals: Numbers, sizes: Numbers, squares: float, informative: int, level: float, *, cautious: bool = False
) -> float:
    """Say how many independent rows would be as sure as these; 0 where nearly all are in one cluster.

    Args:
        residuals: By how much each cluster is off the estimate, shape (clusters,); they add up to 0.
        sizes: Rows of each cluster, in the same order.
        squares: Sum of the squares of the residuals of single rows.
        informative: How many clusters of several rows tell something of how alike these are, such as by a flip.
        level: Level of the interval, whose quantile is to be that of Student's distribution.
        cautious: Add to the variance of clusters its standard error, for verdicts on shares; to no more than if all
            rows of a cluster were alike.

    Returns:
        The number of rows over the design effect. That is the variance of clusters over that of independent rows, at
        least 1; one cluster in which all rows are alike is added to the informative ones.
    """
    sizes, residuals = sizes[sizes > 0], residuals[sizes > 0]
    n = float(sizes.sum())
    alike = float(sizes @ sizes) / n
    clusters = n / alike
    if alike <= 1:
        return n
    if clusters - 1 < _LEAST_FREEDOM:
        return 0.0
    measured = alike
    if squares > 0:
        measured = float(residuals @ residuals) * clusters / (clusters - 1) / (squares * n / (n - 1))
        if cautious:
            measured = max(measured, min(alike, measured * (1 + _variance_error(residuals))))
    effect = max(1.0, (informative * measured + alike) / (informative + 1))
    quantiles = [_student(freedom - 1, 0.5 + level / 2) for freedom in (clusters, n)]
    return n / effect * (quantiles[1] / quantiles[0]) ** 2


def _variance_error(residuals: Numbers) -> float:
    """Give the standard error of a sum of squares, as a share of it: the root of 2 over its degrees of freedom."""
    squares = residuals**2
    whole = float(squares.sum())
    return math.sqrt(max(0.0, float(squares @ squares) / whole**2 - 1 / len(squares))) if whole else 0.0


def _informative(clusters: NDArray[np.bool_], sizes: Numbers) -> int:
    """Count clusters; not those of one row, which tell nothing of how alike the rows of others are."""
    return int(np.count_nonzero(clusters & (sizes > 1)))


def effective_share(counts: Numbers, sizes: Numbers, level: float, *, cautious: bool = False) -> tuple[float, float]:
    """Give a count of clusters, over their sizes, as a count of fewer independent rows, and how many these are."""
    share = float(counts.sum() / sizes.sum())
    informative = min(_informative(counts > 0, sizes), _informative(counts < sizes, sizes))
    squares = float(sizes.sum()) * share * (1 - share)
    n = effective_size(counts - share * sizes, sizes, squares, informative, level, cautious=cautious)
    return share * n, n


def change_interval(cells: ClusterCells, level: float) -> Interval:
    """Bound the change of accuracy so that 0 lies outside exactly where the exact test on clusters says so.

    The hull of Newcombe's interval, by the effective number of answers, and of what that test leaves: given the sizes
    of the clusters' changes, the chances of a positive one that it does not reject.
    """
    return _with_test(cells, intervals.newcombe, level)


def change_decision(cells: ClusterCells, level: float) -> Interval:
    """Bound the change of accuracy for verdicts: what `change_limits` leaves of as many independent answers."""

    def limits(scaled: Cells, level: float) -> Interval:
        # It counts flips, so what is left of one is taken to the side that is surer.
        both, positive, negative, wrong = scaled
        odd = (positive - negative) % 1.0
        low = change_limits(_moved(both, positive, negative, wrong, -odd), level)[0]
        return low, change_limits(_moved(both, positive, negative, wrong, (1 - odd) % 1.0), level)[1]

    return _with_test(cells, limits, level)


def relative_change_interval(cells: ClusterCells, level: float) -> Interval:
    """Bound the relative change of accuracy; 0 lies outside only where the exact test on clusters says so."""
    old, change = cells.both_right + cells._negative, cells._positive - cells._negative
    ratio = float(change.sum() / old.sum())
    squares = float(
        cells._positive.sum() + (1 + ratio) ** 2 * cells._negative.sum() + ratio**2 * cells.both_right.sum()
    )
    n = effective_size(change - ratio * old, cells.n, squares, _flipped(cells), level)
    if not n:
        return math.nan, math.nan
    low, high = relative_limits(_scaled(cells, n), level)
    least, most = cells.coins.positive_chance(level)
    return (min(low, 0.0) if least <= 0.5 else low), (max(high, 0.0) if most >= 0.5 else high)


def relative_rate_interval(cells: ClusterCells, level: float) -> Interval:
    """Bound the relative negative flip rate by that of as many independent answers; nan for a single cluster."""
    n, negative = float(cells.n.sum()), float(cells._negative.sum())
    right, wrong = cells.both_right + cells._negative, cells.both_wrong + cells._negative
    x, y = float(right.sum()) / n, float(wrong.sum()) / n
    ratio = negative / (n * x * y)

    def moved(flip: Any, was_right: Any, is_wrong: Any, rows: Any) -> Any:
        # What negative - ratio * right * wrong / n changes by with what a cluster or an answer has.
        return flip - ratio * (x * is_wrong + y * was_right - x * y * rows)

    kinds = (
        (cells._negative.sum(), moved(1, 1, 1, 1)),
        (cells.both_right.sum(), moved(0, 1, 0, 1)),
        (cells.both_wrong.sum(), moved(0, 0, 1, 1)),
        (cells._positive.sum(), moved(0, 0, 0, 1)),
    )
    squares = float(sum(count * off**2 for count, off in kinds))
    informative = _informative(cells._negative > 0, cells.n)
    size = effective_size(moved(cells._negative, right, wrong, cells.n), cells.n, squares, informative, level)
    return intervals.relative_interval(_scaled(cells, size), level) if size else (math.nan, math.nan)


def kappa_interval(cells: ClusterCells, chance: float, error: float, level: float) -> Interval:
    """Bound kappa by its standard error, as of the effective number of answers, and by Wilson's interval of agreement.

    The second keeps few differences from making it certain; where each answer is a cluster, it is left out.
    """
    if cells.agreement_residuals is None:
        return math.nan, math.nan
    residuals, squares = cells.agreement_residuals
    same = cells.both_right + cells._same
    informative = min(_informative(same > 0, cells.n), _informative(same < cells.n, cells.n))
    n = effective_size(residuals, cells.n, squares, informative, level)
    whole = float(cells.n.sum())
    agreed = float(same.sum()) / whole
    estimate = intervals.kappa(agreed, chance)
    if n in (0.0, whole):
        return intervals.kappa_interval(estimate, error, level) if n else (-1.0, 1.0)
    low, high = intervals.kappa_interval(estimate, error * math.sqrt(whole / n), level)
    least, most = (intervals.kappa(share, chance) for share in intervals.wilson(agreed * n, n, level))
    return min(low, max(-1.0, least)), max(high, most)


def mean_interval(values: Numbers, numbers: NDArray[np.int64], level: float) -> Interval:
    """Bound a mean by Student's interval of what clusters add up to; nan where there is one cluster."""
    sizes = np.bincount(numbers).astype(np.float64)
    n = float(len(values))
    clusters = n**2 / float(sizes @ sizes)
    if clusters - 1 < _LEAST_FREEDOM:
        return math.nan, math.nan
    mean = float(values.mean())
    off = np.bincount(numbers, weights=values - mean)
    error = math.sqrt(float(off @ off) * clusters / (clusters - 1)) / n
    half = _student(clusters - 1, 0.5 + level / 2) * error
    return mean - half, mean + half


def _with_test(cells: ClusterCells, interval: Any, level: float) -> Interval:
    """Widen an interval of the change of accuracy to what the exact test on clusters leaves, and no more about 0."""
    change = cells._positive - cells._negative
    n, theta = float(cells.n.sum()), float(change.sum() / cells.n.sum())
    flips = float(cells._positive.sum() + cells._negative.sum())
    size = effective_size(change - theta * cells.n, cells.n, flips - n * theta**2, _flipped(cells), level)
    low, high = interval(_scaled(cells, size), level) if size else (-1.0, 1.0)
    least, most = cells.coins.positive_chance(level)
    weight = float(np.abs(change).sum()) / n
    first, last = (2 * least - 1) * weight, (2 * most - 1) * weight
    low = first if low <= 0 < first else min(low, first)
    return low, last if last < 0 <= high else max(high, last)


def _flipped(cells: ClusterCells) -> int:
    return int(np.count_nonzero(cells._positive + cells._negative))


def _scaled(cells: ClusterCells, size: float) -> Cells:
    """Give the cells of as many independent answers."""
    factor = size / float(cells.n.sum())
    right, positive, negative, wrong = (
        factor * float(kind.sum()) for kind in (cells.both_right, cells._positive, cells._negative, cells.both_wrong)
    )
    return right, positive, negative, wrong


def _moved(both: float, positive: float, negative: float, wrong: float, by: float) -> Cells:
    """Change the difference of the flips by less than one, and keep the number of answers."""
    n, rest = both + positive + negative + wrong, both + wrong
    rise, fall = (positive + by, negative) if positive + by >= 0 else (0.0, negative - positive - by)
    rise, fall = min(rise, n - negative), min(fall, n)
    left = n - rise - fall
    share = both / rest if rest else 0.0
    return share * left, rise, fall, (1 - share) * left
