"""Rates of yes/no answers whose intervals other rates do not have: a bias, its shift, sensitivity and criterion.

A difference of two independent shares is bounded by squares of how far their own bounds reach (Newcombe 1998, method
10; Zou and Donner's MOVER). Sensitivity and criterion are those of signal detection with the half that Hautus (1995)
adds; their intervals are a Bayesian bootstrap (Rubin 1981) within the instances of each right answer, whose draws have
that same half. `benchmarks/yes_no.py` measures how often all of these err.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..decisions import change_limits
from ..intervals import Cells, Interval, Numbers, clopper_pearson, newcombe, wilson
from ..special import ndtri

Share: TypeAlias = tuple[int, int]
"""A count, and of how many."""
Pair: TypeAlias = tuple[int, int, int, int]
"""Of the instances with one right answer: both models say it, the new one alone, the old one alone, neither."""

_DRAWS = 10_000


def difference_interval(first: Share, second: Share, level: float) -> Interval:
    """Bound the difference of two independent shares by their Wilson intervals."""
    return _of_difference(first, second, level, wilson)


def difference_limits(first: Share, second: Share, level: float) -> Interval:
    """Bound it so that verdicts can be made from it, by the exact intervals."""
    return _of_difference(first, second, level, clopper_pearson)


def shift_interval(first: Pair, second: Pair, level: float) -> Interval:
    """Bound the difference of two independent changes of a share by their paired intervals."""
    return _of_changes(first, second, level, newcombe)


def shift_limits(first: Pair, second: Pair, level: float) -> Interval:
    """Bound it so that verdicts can be made from it."""
    return _of_changes(first, second, level, change_limits)


def sensitivity(hits: Share, false_alarms: Share) -> float:
    """Give d' = z(H) - z(F): can the model tell?"""
    return _z(hits) - _z(false_alarms)


def criterion(hits: Share, false_alarms: Share) -> float:
    """Give c = -(z(H) + z(F)) / 2: where does it cut? Above 0 it leans to no."""
    return -(_z(hits) + _z(false_alarms)) / 2 + 0.0  # which makes -0.0 a 0


def sensitivity_interval(hits: Share, false_alarms: Share, level: float, seed: int) -> Interval:
    """Bound d' by draws."""
    first, second = (_drawn_alone(share, seed + place) for place, share in enumerate((hits, false_alarms)))
    return _quantiles(first - second, level)


def criterion_interval(hits: Share, false_alarms: Share, level: float, seed: int) -> Interval:
    """Bound c by the same draws."""
    first, second = (_drawn_alone(share, seed + place) for place, share in enumerate((hits, false_alarms)))
    return _quantiles(-(first + second) / 2, level)


def sensitivity_change_interval(hits: Pair, false_alarms: Pair, level: float, seed: int) -> Interval:
    """Bound the change of d' by draws that keep what both models said of an instance together."""
    first, second = (_drawn_change(pair, seed + place) for place, pair in enumerate((hits, false_alarms)))
    return _quantiles(first - second, level)


def criterion_change_interval(hits: Pair, false_alarms: Pair, level: float, seed: int) -> Interval:
    """Bound the change of c by the same draws."""
    first, second = (_drawn_change(pair, seed + place) for place, pair in enumerate((hits, false_alarms)))
    return _quantiles(-(first + second) / 2, level)


def _of_difference(
    first: Share, second: Share, level: float, bound: Callable[[float, float, float], Interval]
) -> Interval:
    shares = [count / of for count, of in (first, second)]
    return _by_squares(shares, [bound(*first, level), bound(*second, level)])


def _of_changes(first: Pair, second: Pair, level: float, bound: Callable[[Cells, float], Interval]) -> Interval:
    changes = [(new - old) / (both + new + old + neither) for both, new, old, neither in (first, second)]
    return _by_squares(changes, [bound(first, level), bound(second, level)])


def _by_squares(values: list[float], bounds: list[Interval]) -> Interval:
    """Bound the first minus the second value, which are independent, by how far the bounds of each reach."""
    (first, second), ((low1, high1), (low2, high2)) = values, bounds
    under, over = math.hypot(first - low1, high2 - second), math.hypot(high1 - first, second - low2)
    return first - second - under, first - second + over


def _z(share: Share) -> float:
    count, of = share
    return ndtri((count + 0.5) / (of + 1))


@lru_cache(maxsize=32)
def _drawn_alone(share: Share, seed: int) -> Numbers:
    """Draw z of a share, as it may be."""
    count, of = share
    draw = np.random.default_rng(seed)
    return _normal_quantiles(draw.beta(count + 0.5, of - count + 0.5, _DRAWS))


@lru_cache(maxsize=32)
def _drawn_change(pair: Pair, seed: int) -> Numbers:
    """Draw how much z of a share changes, as it may have; a quarter for each cell is the half for each share."""
    weights = np.random.default_rng(seed).standard_gamma(np.array(pair) + 0.25, (_DRAWS, 4))
    both, new, old, neither = weights.T
    # By the smaller part, of which rounding leaves something.
    after, before = (
        _odds_quantiles(said, rest) for said, rest in ((both + new, old + neither), (both + old, new + neither))
    )
    return after - before


def _odds_quantiles(said: Numbers, rest: Numbers) -> Numbers:
    quantiles = _normal_quantiles(np.minimum(said, rest) / (said + rest))
    return np.where(said < rest, quantiles, -quantiles)


def _normal_quantiles(shares: Numbers) -> Numbers:
    # 40,000 in 4 ms; what rounds to 0 or 1 stands for the nearest number that does not.
    inside = np.clip(shares, 1e-300, 1 - 2**-53)
    return np.fromiter(map(NormalDist().inv_cdf, inside.tolist()), np.float64, len(shares))


def _quantiles(values: NDArray[np.float64], level: float) -> Interval:
    low, high = np.quantile(values, [0.5 - level / 2, 0.5 + level / 2])
    return float(low), float(high)
