"""Confidence intervals and tests of significance: numbers in, bounds or a p-value out.

The four cells of paired answers come as (both right, new right alone, old right alone, both wrong).
"""

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Interval: TypeAlias = tuple[float, float]
Cells: TypeAlias = tuple[int, int, int, int]
Numbers: TypeAlias = NDArray[np.float64]

# Enough for the third digit of a 95 % bound. Cells are drawn all at once; scores have to be drawn one by one.
_CELL_RESAMPLES = 10_000
_SCORE_RESAMPLES = 2_000
# Above this many scores the bootstrap of a mean and the normal interval no longer differ in any digit that is shown.
_BOOTSTRAP_LIMIT = 5_000


def wilson(count: float, n: int, level: float) -> Interval:
    """Bound a proportion by Wilson's score interval (1927)."""
    z2 = normal_quantile(level) ** 2
    middle = (count + z2 / 2) / (n + z2)
    half = math.sqrt(z2 * (count * (n - count) / n + z2 / 4)) / (n + z2)
    # The bounds at 0 and n are exact; rounding must not move them off.
    return 0.0 if count == 0 else max(0.0, middle - half), 1.0 if count == n else min(1.0, middle + half)


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


def relative_interval(cells: Cells, level: float, seed: int) -> Interval:
    """Bound the negative flip rate over acc1 * (1 - acc2) by a bootstrap of the cells."""
    n, (both_right, _, negative, both_wrong) = sum(cells), cells
    if not negative:  # every resample would be 0
        return 0.0, wilson(0, n, level)[1] * n * n / (both_right * both_wrong)
    # Resampling instances and counting their cells is one draw of the cells from a multinomial: instant for any n.
    draws = np.random.default_rng(seed).multinomial(n, np.array(cells) / n, size=_CELL_RESAMPLES)
    right, _, flipped, wrong = draws.T.astype(np.float64)
    expected = (right + flipped) * (wrong + flipped)
    # A resample without old successes or new errors has no relative rate, as such data would have none.
    defined = expected > 0
    return _quantiles(flipped[defined] * n / expected[defined], level)


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
    weight = (new_count[old] + old_count[new]) / n
    square = agreed - 2 * (1 - k) * float(weight[same].sum()) / n + (1 - k) ** 2 * float(weight @ weight) / n
    variance = (square - (k - chance * (1 - k)) ** 2) / n
    return chance, math.nan if math.isnan(k) else math.sqrt(max(0.0, variance)) / (1 - chance)


def kappa_interval(estimate: float, error: float, level: float) -> Interval:
    """Bound kappa by its standard error."""
    low, high = _normal(estimate, error, level)
    return max(-1.0, low), min(1.0, high)


def coin_test(first: int, second: int) -> float:
    """Test exactly, two-sided, whether two counts are those of a fair coin (McNemar's test without mid-p)."""
    # scipy.special, because scipy.stats takes ten times as long to import; and here, because counting needs neither.
    from scipy.special import bdtr  # type: ignore[import-untyped]

    return min(1.0, 2.0 * float(bdtr(min(first, second), first + second, 0.5)))


def signed_rank_test(changes: Numbers) -> float:
    """Test two-sided whether rises and falls balance (Wilcoxon 1945), given the ranks and so right for ties as well.

    Changes of 0 must be left out. Exact up to 50 changes, the normal approximation above.
    """
    if not len(changes):
        return 1.0
    _, place, count = np.unique(np.abs(changes), return_inverse=True, return_counts=True)
    # Twice the mean rank of tied sizes is an integer: (first rank) + (last rank).
    ranks = (2 * np.cumsum(count) - count + 1)[place.reshape(-1)]
    total, risen = int(ranks.sum()), int(ranks[changes > 0].sum())
    if len(changes) > 50:
        deviation = (2 * risen - total) / math.sqrt(float((ranks.astype(np.float64) ** 2).sum()))
        return math.erfc(abs(deviation) / math.sqrt(2))
    # The chance of each rank sum when every sign is a fair coin, one instance after the other.
    chances = np.zeros(total + 1)
    chances[0] = 1.0
    for rank in ranks.tolist():
        moved = np.concatenate([np.zeros(rank), chances[: total + 1 - rank]])
        chances = (chances + moved) / 2
    return min(1.0, 2 * float(chances[: min(risen, total - risen) + 1].sum()))


def normal_quantile(level: float) -> float:
    """Give how many standard errors an interval of a level reaches to each side: 1.96 for 0.95."""
    from scipy.special import ndtri

    return float(ndtri(0.5 + level / 2))


def _normal(estimate: float, error: float, level: float) -> Interval:
    return estimate - normal_quantile(level) * error, estimate + normal_quantile(level) * error


def _quantiles(samples: Numbers, level: float) -> Interval:
    low, high = np.quantile(samples, [0.5 - level / 2, 0.5 + level / 2])
    return float(low), float(high)
