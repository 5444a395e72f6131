"""Intervals that verdicts are made from: the truth lies beyond an end in no more than (1 - level) / 2 of cases.

Those of tables have that rate on average, and near 0, or at a margin, may be off far more often: where 50 answers of
which 2 % truly flip show 3 flips or more, which 7.8 % of evaluations do, Wilson's interval says that the rate is above
2 %. `benchmarks/intervals.py` measures those, and `benchmarks/decide.py` these.
"""

import math

import numpy as np

from .intervals import Cells, Interval, Numbers, clopper_pearson, mean_interval
from .special import root, stdtrit

# So far from its mean a sum of n changes, each -1, 0 or 1, has hardly any chance: that many standard deviations, and
# that much more where these are small (by Bernstein's inequality below 1e-12).
_DEVIATIONS, _MORE = 9, 40
# To so much the ends of an interval are found.
_PRECISION = 1e-12


def change_limits(cells: Cells, level: float) -> Interval:
    """Bound the change of accuracy by the changes that `change_tails` does not reject on either side.

    And 0 lies outside only where the exact paired test, given how many flips there are, says so too.
    """
    n, (_, positive, negative, _) = sum(cells), cells
    flips, alpha = positive + negative, 0.5 - level / 2
    low = -_highest(n, negative, positive, alpha)
    high = _highest(n, positive, negative, alpha)
    least, most = ((2 * share - 1) * flips / n for share in clopper_pearson(positive, flips, level))
    return least if least <= 0 < low else low, most if high < 0 <= most else high


def change_tails(n: float, positive: float, negative: float, change: float) -> tuple[float, float]:
    """Give the chances of no larger and no smaller a difference of the flips, did accuracy change by `change`.

    How many flips there are is then unknown still; the chances are those under its most likely value, given what was
    seen and that change (Tango 1998), and exact there: the approximate unconditional test of Storer and Kim (1990).
    """
    # The most likely shares of positive and negative flips whose difference is the change.
    linear = (positive + negative) * (1 - change) - 2 * change * (n - positive)
    discriminant = math.sqrt(max(linear**2 + 8 * n * negative * change * (1 - change), 0.0))
    fall = min(max((linear + discriminant) / (4 * n), -change, 0.0), (1 - change) / 2)
    rise = fall + change
    difference, mean = round(positive - negative), n * change
    reach = _DEVIATIONS * math.sqrt(max(n * (rise + fall - change**2), 0.0)) + _MORE
    if abs(difference - mean) > reach:
        return (0.0, 1.0) if difference < mean else (1.0, 0.0)
    # The distribution of a sum of n values by the n-th power of the Fourier transform of one, around the difference.
    size = 1 << math.ceil(math.log2(4 * reach + 4))
    angles = np.arange(size // 2 + 1) * (2 * math.pi / size)
    one = 1 + (rise + fall) * (np.cos(angles) - 1) - 1j * change * np.sin(angles)
    chances = np.fft.irfft(one**n * np.exp(1j * angles * difference), size)
    # Place 0 is the difference, what is larger follows it, and what is smaller comes from the end.
    equal, half = float(chances[0]), size // 2
    return equal + float(chances[half:].sum()), equal + float(chances[1:half].sum())


def _highest(n: float, positive: float, negative: float, alpha: float) -> float:
    """Find the highest change at which the chance of no larger a difference of the flips is above alpha."""

    def excess(change: float) -> float:
        return change_tails(n, positive, negative, change)[0] - alpha

    estimate, step = (positive - negative) / n, (2 * math.sqrt(positive + negative) + 4) / n
    inside, outside = estimate, min(1.0, estimate + step)
    above, below = excess(inside), excess(outside)
    while below > 0 and outside < 1:
        inside, above, step = outside, below, 2 * step
        outside = min(1.0, outside + step)
        below = excess(outside)
    if above <= 0 or below > 0:
        return inside if above <= 0 else 1.0
    return root(excess, inside, outside, _PRECISION)


def mean_limits(values: Numbers, level: float, seed: int) -> Interval:
    """Bound a mean by the wider of the bootstrap of tables and Student's interval (1908); under 2 values by nan.

    Neither knows of what no value shows: where few instances change by much, the truth lies beyond more often.
    """
    if len(values) < 2:
        return math.nan, math.nan
    low, high = mean_interval(values, level, seed)
    mean, error = float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values))
    half = float(stdtrit(len(values) - 1, 0.5 + level / 2)) * error
    return min(low, mean - half), max(high, mean + half)
