"""The relative change of accuracy on the same instances: an interval that verdicts can be made from."""

import math
from collections.abc import Callable

from .intervals import Cells, Interval, clopper_pearson, normal_quantile, wilson

# So often an interval is halved: to the last digits of a float.
_HALVINGS = 60


def relative_limits(cells: Cells, level: float) -> Interval:
    """Bound the relative change of accuracy, new over old less 1, by the ratios that a score test does not reject.

    Had the ratio a value t, then (new right) - t * (old right) would be 0 but for chance. The bounds are the t at
    which it is off by a quantile of its standard error under t (Nam and Blackwelder 2002), and by half a flip more,
    since flips are counted. That old accuracy is not known either is part of it. And a change of 0 lies outside only
    where the exact paired test says so too. `benchmarks/intervals.py` measures how often it errs.
    """
    n, (both, positive, negative, _) = sum(cells), cells
    old, quantile = both + negative, normal_quantile(level)
    estimate = (both + positive) / old
    # More than every answer cannot be right.
    most = max(estimate, 1 / wilson(old, n, level)[0])
    low = _edge(estimate, 0.0, lambda t: _deviation(cells, t, -0.5) < quantile) if estimate else 0.0
    high = _edge(estimate, most, lambda t: _deviation(cells, t, 0.5) > -quantile)
    least, most_repaired = clopper_pearson(positive, positive + negative, level)
    low, high = min(low, 1.0) if least <= 0.5 else low, max(high, 1.0) if most_repaired >= 0.5 else high
    return low - 1, high - 1


def most_likely(cells: Cells, ratio: float) -> tuple[float, float]:
    """Give the most likely shares of positive and negative flips, were new over old accuracy that ratio."""
    n, (both, positive, negative, _) = sum(cells), cells
    right = both + positive + negative
    if not right:
        return 0.0, 0.0
    share = right / n
    # The share x of negative flips solves -both q x (x + shift) + positive x (share - q x)
    # + negative (x + shift) (share - q x) = 0.
    shift, q = (ratio - 1) * share, 1 + ratio
    linear = share * (positive + negative) - q * shift * (both + negative)
    root = math.sqrt(max(linear**2 + 4 * q * right * negative * shift * share, 0.0))
    fall = max((linear + root) / (2 * q * right), 0.0)
    return max((fall + shift) / ratio, 0.0), fall


def _deviation(cells: Cells, ratio: float, correction: float) -> float:
    """Say by how many standard errors the new right answers are off what a ratio lets expect."""
    n, (both, positive, negative, _) = sum(cells), cells
    off = (both + positive) - ratio * (both + negative) + correction
    error = math.sqrt(n * ratio * sum(most_likely(cells, ratio)))
    return off / error if error else math.copysign(math.inf, off)


def _edge(inside: float, outside: float, holds: Callable[[float], bool]) -> float:
    """Find how far something holds that holds at `inside`, towards `outside`."""
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if holds(middle) else (inside, middle)
    return outside
