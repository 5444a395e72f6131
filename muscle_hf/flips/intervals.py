"""Confidence intervals: numbers in, bounds out.

The four cells of paired answers come as (both right, new right alone, old right alone, both wrong).
"""

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .special import betaincinv, ndtri

Interval: TypeAlias = tuple[float, float]
Cells: TypeAlias = tuple[float, float, float, float]
Numbers: TypeAlias = NDArray[np.float64]

_SCORE_RESAMPLES = 2_000
# Halvings of an interval, until floats have no digit more.
_HALVINGS = 60
# Above this many scores the bootstrap of a mean and the normal interval no longer differ in any digit that is shown.
_BOOTSTRAP_LIMIT = 5_000


def wilson(count: float, n: float, level: float) -> Interval:
    """Bound a proportion by Wilson's score interval (1927)."""
    z2 = normal_quantile(level) ** 2
    middle = (count + z2 / 2) / (n + z2)
    half = math.sqrt(z2 * (count * (n - count) / n + z2 / 4)) / (n + z2)
    # The bounds at 0 and n are exact; rounding must not move them off.
    return 0.0 if count == 0 else max(0.0, middle - half), 1.0 if count == n else min(1.0, middle + half)


def clopper_pearson(count: float, n: float, level: float) -> Interval:
    """Bound a proportion by the exact interval of Clopper and Pearson (1934); by 0 and 1 where there is nothing."""
    tail = 0.5 - level / 2
    low, high = betaincinv([count or 1, count + 1], [n - count + 1, n - count or 1], [tail, 1 - tail]).tolist()
    return low if count else 0.0, high if count < n else 1.0


def newcombe(cells: Cells, level: float) -> Interval:
    """Bound the change of accuracy by Newcombe's interval for paired proportions (1998, method 10)."""
    n, (a, b, c, d) = sum(cells), cells
    first, second = (a + b) / n, (a + c) / n
    low1, high1 = wilson(a + b, n, level)
    low2, high2 = wilson(a + c, n, level)
    # The correlation of the pairs, with the continuity correction that makes this method 10 and not 8.
    product = (a + b) * (c + d) * (a + c) * (b + d)
    determinant = a * d - b * c
    corrected = max(determinant - n / 2, 0.0) if determinant > 0 else determinant
    phi = corrected / math.sqrt(product) if product else 0.0
    below, above = (first - low1, high2 - second), (high1 - first, second - low2)
    under, over = (math.sqrt(max(0.0, x * x - 2 * phi * x * y + y * y)) for x, y in (below, above))
    return max(-1.0, first - second - under), min(1.0, first - second + over)


def change_interval(cells: Cells, level: float) -> Interval:
    """Bound the change of accuracy so that 0 lies outside exactly where `coin_test` says so.

    The hull of Newcombe's interval and of what the exact test leaves: given how many flips there are, the shares of
    positive ones that it does not reject (Clopper and Pearson 1934), as a change. The first alone excludes 0 on few
    flips where the test does not.
    """
    n, (_, positive, negative, _) = sum(cells), cells
    low, high = newcombe(cells, level)
    flips = positive + negative
    least, most = clopper_pearson(positive, flips, level)
    return min(low, (2 * least - 1) * flips / n), max(high, (2 * most - 1) * flips / n)


def relative_interval(cells: Cells, level: float) -> Interval:
    """Bound the negative flip rate over acc1 * (1 - acc2), its value being theta, by inverting a score test.

    Had theta a value t, then (negative flips) - t * (old right) * (new wrong) / n would be 0 but for chance. The
    bounds are the t at which it is off by a quantile of its standard error under t, and by half a flip more, since
    flips are counted (Yates 1934). `benchmarks/intervals.py` measures how often the truth lies beyond a bound.
    """
    n, (both_right, _, negative, both_wrong) = sum(cells), cells
    old_right, new_wrong = both_right + negative, both_wrong + negative
    x, y, quantile = old_right / n, new_wrong / n, normal_quantile(level)

    def deviation(t: float, correction: float) -> float:
        flip = min(t * x * y, x, y)
        # What an instance of each kind moves the difference by, and the spread of that.
        both, first, second = 1 - t * (x + y), -t * y, -t * x
        mean = flip * both + (x - flip) * first + (y - flip) * second
        square = flip * both**2 + (x - flip) * first**2 + (y - flip) * second**2
        error = math.sqrt(max(n * (square - mean**2), 0.0))
        off = negative - t * old_right * new_wrong / n + correction
        return off / error if error else math.copysign(math.inf, off)

    estimate = negative * n / (old_right * new_wrong)
    # More than all of the old successes, or of the new errors, cannot flip.
    most = min(1 / wilson(side, n, level)[0] for side in (old_right, new_wrong))
    low = _root(lambda t: deviation(t, -0.5) - quantile, 0.0, estimate) if negative else 0.0
    return low, _root(lambda t: deviation(t, 0.5) + quantile, estimate, max(estimate, most))


def mean_interval(values: Numbers, level: float, seed: int) -> Interval:
    """Bound a mean by a percentile bootstrap, or by the normal interval where there are many values."""
    n = len(values)
    if n < 2:
        return math.nan, math.nan
    if n > _BOOTSTRAP_LIMIT:
        return _normal(float(values.mean()), float(values.std(ddof=1)) / math.sqrt(n), level)
    draw = np.random.default_rng(seed)
    # In blocks of about a million draws, so that memory stays small.
    block = max(1, 1_000_000 // n)
    sizes = [min(block, _SCORE_RESAMPLES - start) for start in range(0, _SCORE_RESAMPLES, block)]
    means = [values[draw.integers(0, n, (size, n))].mean(axis=1) for size in sizes]
    return _quantiles(np.concatenate(means), level)


def kappa(same: float, chance: float) -> float:
    """Give Cohen's kappa (1960) from the share of same answers and the share to expect by chance."""
    return (same - chance) / (1 - chance) if chance != 1 else math.nan


def chance_agreement(old: NDArray[np.int64], new: NDArray[np.int64], same: NDArray[np.bool_]) -> tuple[float, float]:
    """Give the agreement by chance of numbered answers, and kappa's standard error.

    The error is the large-sample one of Fleiss, Cohen and Everitt (1969).
    """
    n, labels = len(old), int(max(old.max(), new.max())) + 1
    old_count, new_count = np.bincount(old, minlength=labels), np.bincount(new, minlength=labels)
    # In integers, so that the numbering of the labels cannot show in the last digit.
    chance = int(old_count @ new_count) / n**2
    agreed = float(np.count_nonzero(same)) / n
    k = kappa(agreed, chance)
    # An instance moves kappa by [same answer] - (1 - kappa) * weight; the error is the spread of that.
    counts: NDArray[np.int64] | None = None
    if labels**2 < n:
        # Few pairs of labels, looked at once each.
        counts = np.bincount(old * labels + new, minlength=labels**2)
        old, new = np.divmod(np.arange(labels**2), labels)
        same = old == new
    weight = (new_count[old] + old_count[new]) / n
    times = weight if counts is None else counts * weight
    square = agreed - 2 * (1 - k) * float(times[same].sum()) / n + (1 - k) ** 2 * float(times @ weight) / n
    variance = (square - (k - chance * (1 - k)) ** 2) / n
    return chance, math.nan if math.isnan(k) else math.sqrt(max(0.0, variance)) / (1 - chance)


def kappa_influence(
    old: NDArray[np.int64], new: NDArray[np.int64], same: NDArray[np.bool_], chance: float
) -> NDArray[np.float64]:
    """Say by how much each numbered answer moves kappa, but for a factor; the sum is 0."""
    n, labels = len(old), int(max(old.max(), new.max())) + 1
    old_count, new_count = np.bincount(old, minlength=labels), np.bincount(new, minlength=labels)
    k = kappa(float(np.count_nonzero(same)) / n, chance)
    moved: NDArray[np.float64] = same - (1 - k) * (new_count[old] + old_count[new]) / n
    moved -= moved.mean()
    return moved


def kappa_interval(estimate: float, error: float, level: float) -> Interval:
    """Bound kappa by its standard error."""
    low, high = _normal(estimate, error, level)
    return max(-1.0, low), min(1.0, high)


def normal_quantile(level: float) -> float:
    """Give how many standard errors an interval of a level reaches to each side: 1.96 for 0.95."""
    return ndtri(0.5 + level / 2)


def _root(falling: Callable[[float], float], low: float, high: float) -> float:
    """Find where a falling function crosses 0 between two points; the end that it does not reach where it does not."""
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if falling(middle) > 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _normal(estimate: float, error: float, level: float) -> Interval:
    return estimate - normal_quantile(level) * error, estimate + normal_quantile(level) * error


def _quantiles(samples: Numbers, level: float) -> Interval:
    low, high = np.quantile(samples, [0.5 - level / 2, 0.5 + level / 2])
    return float(low), float(high)
