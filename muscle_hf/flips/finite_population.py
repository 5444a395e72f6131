"""Exact limits of what a whole list holds, from rows drawn of it at random without replacement.

The chances are those of the (multivariate) hypergeometric distribution, in the least favourable of all possible lists.
A list that the drawn rows rule out is none of these, so that the limits close in on the truth as all rows are drawn.
"""

import math
from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from .intervals import Numbers, normal_quantile
from .special import gammaln

# So far from its mean a count has no chance that would show: so many standard deviations, and that many more.
_DEVIATIONS, _MORE = 9, 20
# Up to so many lists with one difference each is looked at; of more, so many, and then closer around the best.
_EACH, _GRID = 96, 33
_HALVINGS = 60
_ROUNDING = 1e-9


def share_limits(count: int, drawn: int, size: int, level: float) -> tuple[int, int]:
    """Bound how many of a list are marked, of which `count` are among those drawn.

    The truth lies beyond either end with a chance of (1 - level) / 2 at most: Clopper and Pearson's interval, for
    draws without replacement (Konijn 1973).
    """
    tail, least, most = 0.5 - level / 2, count, size - (drawn - count)
    low = _first(least, most, lambda marked: _at_least(count, drawn, marked, size) > tail)
    # Those that are not marked are marked the other way.
    high = size - _first(size - most, size - least, lambda rest: _at_least(drawn - count, drawn, rest, size) > tail)
    return low, high


def lowest_difference(more: int, fewer: int, drawn: int, size: int, level: float) -> int:
    """Bound from below how many more rows of a list are of one kind than of another.

    The true difference is lower with a chance of (1 - level) / 2 at most, however many rows are of neither kind: the
    limit of Buehler (1957; Lloyd and Kabaila 2003), with samples ordered by the lower limit of Tango's score interval
    for paired proportions (1998).

    Args:
        more: How many of the drawn rows are of the one kind.
        fewer: How many are of the other.
        drawn: How many rows were drawn, at random without replacement.
        size: How many rows the list has.
        level: Level of the interval of which this is the lower end.
    """
    tail, (least, most) = 0.5 - level / 2, _differences(more, fewer, drawn, size)
    edge = _edge(more, fewer, drawn, size, level)
    # No list with a smaller difference makes such a sample more probable than all with a larger one: a row of the one
    # kind for one of neither, or of neither for one of the other, moves every sample up.
    return _first(least, most, lambda value: _worst_chance(edge, value, more, fewer, drawn, size) > tail)


def chance_below(at: int, more: int, fewer: int, drawn: int, size: int, level: float) -> float:
    """Give the chance at most of a sample so high, or higher, were the difference of the list `at` or lower.

    It is (1 - level) / 2 or less just where `lowest_difference` is above `at`.
    """
    least, most = _differences(more, fewer, drawn, size)
    if at < least:
        return 0.0
    edge = _edge(more, fewer, drawn, size, level)
    return _worst_chance(edge, min(at, most), more, fewer, drawn, size)


def _differences(more: int, fewer: int, drawn: int, size: int) -> tuple[int, int]:
    """Give the least and the largest difference that the drawn rows leave."""
    return more - fewer - (size - drawn), more - fewer + (size - drawn)


def _worst_chance(edge: NDArray[np.int64], difference: int, more: int, fewer: int, drawn: int, size: int) -> float:
    """Give the highest chance of a sample so high, over all lists with a difference that the drawn rows leave."""
    rest = drawn - more - fewer
    least, most = max(fewer, more - difference), (size - rest - difference) // 2
    chances: dict[int, float] = {}
    step = 1 if most - least < _EACH else -(-(most - least) // (_GRID - 1))
    places = range(least, most + 1, step)
    while True:
        for place in {*places, min(most, places[-1] + 1)} - chances.keys():
            chances[place] = _chance(edge, place + difference, place, drawn, size)
        if step == 1:
            return max(chances.values(), default=0.0)
        best = max(chances, key=lambda place: chances[place])
        low, high = max(least, best - step), min(most, best + step)
        step = -(-step // 8)
        places = range(low, high + 1, step)


def _chance(edge: NDArray[np.int64], more: int, fewer: int, drawn: int, size: int) -> float:
    """Give the chance of a sample at the edge or beyond it, of a list with so many rows of both kinds."""
    b = _likely(fewer, drawn, size)[:, None]
    a = _likely(more, drawn, size)[None, :]
    rest, left = drawn - a - b, size - more - fewer
    inside = (a >= edge[b]) & (rest >= 0) & (rest <= left)
    logs = _choose(size, more, a) + _choose(size, fewer, b) + _choose(size, left, np.clip(rest, 0, left))
    return float(np.exp(logs - _choose(size, size, np.int64(drawn)))[inside].sum())


def _at_least(count: int, drawn: int, marked: int, size: int) -> float:
    """Give the chance of so many marked rows, or more, among those drawn."""
    counts = _likely(marked, drawn, size)
    logs = _choose(size, marked, counts) + _choose(size, size - marked, drawn - counts)
    return float(np.exp(logs - _choose(size, size, np.int64(drawn)))[counts >= count].sum())


def _likely(marked: int, drawn: int, size: int) -> NDArray[np.int64]:
    """Give how many of the marked rows may be among those drawn, without what has no chance."""
    share = marked / size
    mean, reach = drawn * share, _DEVIATIONS * math.sqrt(drawn * share * (1 - share)) + _MORE
    low = max(0, drawn - (size - marked), math.floor(mean - reach))
    return np.arange(low, min(marked, drawn, math.ceil(mean + reach)) + 1)


def _choose(size: int, n: int, k: NDArray[np.int64] | np.int64) -> Numbers:
    """Give the log of how many ways there are to choose k of n, at most `size`."""
    logs = _log_factorials(size)
    chosen: Numbers = logs[n] - logs[k] - logs[n - k]
    return chosen


@cache
def _log_factorials(size: int) -> Numbers:
    logs: Numbers = gammaln(np.arange(1, size + 2))
    return logs


def _edge(more: int, fewer: int, drawn: int, size: int, level: float) -> NDArray[np.int64]:
    """Give for each number of rows of the other kind how many of the one kind make a sample as high as this one."""
    quantile = normal_quantile(level) * math.sqrt((size - drawn) / max(1, size - 1))
    low, high = -1.0, (more - fewer) / drawn
    if not quantile or fewer == drawn:
        low = high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _score(more, fewer, drawn, middle) >= quantile:
            low = middle
        else:
            high = middle
    other = np.arange(drawn + 1)
    least, most = np.zeros(drawn + 1, np.int64), drawn - other + 1
    while (open_ := least < most).any():
        middle_ = (least + most) // 2
        is_high = _score(middle_, other, drawn, low) >= quantile - _ROUNDING
        most = np.where(open_ & is_high, middle_, most)
        least = np.where(open_ & ~is_high, middle_ + 1, least)
    most[most > drawn - other] = drawn + 1  # none is as high
    # The sample itself, and with it all that are no lower in either count.
    most[fewer] = min(int(most[fewer]), more)
    edge: NDArray[np.int64] = np.minimum.accumulate(most[::-1])[::-1]
    return edge


def _score(more: NDArray[np.int64] | int, fewer: NDArray[np.int64] | int, n: int, difference: float) -> Numbers:
    """Give Tango's statistic: by how many standard errors the shares of a sample differ by more than a difference."""
    linear = np.add(more, fewer) * (1 - difference) - 2 * difference * np.subtract(n, more)
    root = np.sqrt(np.maximum(linear**2 + 8 * n * np.multiply(fewer, difference * (1 - difference)), 0.0))
    fall = np.clip((linear + root) / (4 * n), max(-difference, 0.0), (1 - difference) / 2)
    off = np.subtract(more, fewer) - n * difference
    error = np.sqrt(np.maximum(n * (2 * fall + difference - difference**2), 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        score: Numbers = np.where(np.abs(off) < _ROUNDING, 0.0, off / error)
    return score


def _first(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """Find the first of some numbers for which something holds that goes on holding; the last where it never does."""
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low
