"""Exact limits of what a whole list holds, from rows drawn of it at random without replacement.

The chances are those of the (multivariate) hypergeometric distribution, in the least favourable of all possible lists.
A list that the drawn rows rule out is none of these, so that the limits close in on the truth as all rows are drawn.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..intervals import Numbers, normal_quantile
from ..special import gammaln

# So far from its mean a count has no chance that would show: so many standard deviations, and that many more.
_DEVIATIONS, _MORE = 7, 12
# Up to so many lists with one difference each is looked at; of more some, and then closer around the least favourable.
_EACH, _NEARLY, _CLOSER = 96, 0.2, 4
_HALVINGS = 60
_ROUNDING = 1e-9
# How near the score is found from which on samples tell.
_NEAR = 1e-4

_Kinds: TypeAlias = tuple[int, int, int]
"""Rows of the one kind, of the other, and of neither."""
_ANY: _Kinds = (0, 0, 0)


def share_limits(count: int, drawn: int, size: int, level: float) -> tuple[int, int]:
    """Bound how many of a list are marked, of which `count` are among those drawn.

    The truth lies beyond either end with a chance of (1 - level) / 2 at most: Clopper and Pearson's interval, for
    draws without replacement (Konijn 1973).
    """
    tail, least, most = 0.5 - level / 2, count, size - (drawn - count)
    guess = size * count // drawn
    low = _first(least, most, guess, lambda marked: _at_least(count, drawn, marked, size) > tail)
    # Those that are not marked are marked the other way.
    rest = _first(
        size - most, size - least, size - guess, lambda marked: _at_least(drawn - count, drawn, marked, size) > tail
    )
    return low, size - rest


class Lowest(NamedTuple):
    """A limit, and the chance of a sample that shows as much, or more, were there nothing to show."""

    difference: int
    chance: float
    """Above (1 - level) / 2 just where the difference is not above 0."""


def lowest_difference(more: int, fewer: int, drawn: int, size: int, level: float) -> Lowest:
    """Bound from below how many more rows of a list are of one kind than of another.

    The true difference is lower with a chance of (1 - level) / 2 at most, however many rows are of neither kind: the
    limit of Buehler (1957; Lloyd and Kabaila 2003). First among the samples are those that show a difference above 0
    by the exact unconditional test of Suissa and Shuster (1991), whose chance is given too; these, and the others, are
    ordered by the lower limit of Tango's score interval for paired proportions (1998).

    Args:
        more: How many of the drawn rows are of the one kind.
        fewer: How many are of the other.
        drawn: How many rows were drawn, at random without replacement; at least one.
        size: How many rows the list has.
        level: Level of the interval of which this is the lower end.

    Returns:
        The limit and the chance. Lists that the drawn rows rule out are no candidates of either.
    """
    tail, drawn_of = 0.5 - level / 2, (more, fewer, drawn - more - fewer)
    least, most = more - fewer - (size - drawn), more - fewer + (size - drawn)
    decided = telling_samples(drawn, size, level)
    is_decided = bool(more >= decided[fewer])
    limit, edge = _limit_and_edge(more, fewer, drawn, size, level)
    edge = (np.maximum if is_decided else np.minimum)(decided, edge)
    # No list with a smaller difference makes such a sample more probable than all with a larger one: a row of the one
    # kind for one of neither, or of neither for one of the other, moves every sample up.
    difference = _first(
        least, most, math.ceil(limit * size), lambda value: _worst_chance(edge, value, drawn_of, drawn, size) > tail
    )
    at_zero = _edge(drawn, 0.0, float(_score(more, fewer, drawn, 0.0)))
    chance = 0.0 if least > 0 else _worst_chance(at_zero, min(0, most), drawn_of, drawn, size)
    if is_decided or (difference > 0 and chance <= tail):
        return Lowest(difference, min(tail, chance))
    # What is told by neither, or by one of both alone, is not told.
    if chance <= tail:
        chance = max(_worst_chance(at_zero, 0, _ANY, drawn, size), math.nextafter(tail, 1))
    return Lowest(min(0, difference), chance)


@lru_cache(maxsize=64)
def telling_samples(drawn: int, size: int, level: float) -> NDArray[np.int64]:
    """Give for each number of rows of the one kind how many of the other show that there are more of these.

    Shape (drawn + 1,); where no number does, it is one that cannot be. Suissa and Shuster's test (1991), of draws
    without replacement: over all lists with as many of either kind, such samples have a chance of (1 - level) / 2.
    """
    tail, low, high = 0.5 - level / 2, 0.0, math.sqrt(drawn) + 2 * _NEAR
    while high - low > _NEAR:
        middle = (low + high) / 2
        if _worst_chance(_edge(drawn, 0.0, middle), 0, _ANY, drawn, size) > tail:
            low = middle
        else:
            high = middle
    edge = _edge(drawn, 0.0, high)
    edge.setflags(write=False)
    return edge


def _worst_chance(edge: NDArray[np.int64], difference: int, least_of: _Kinds, drawn: int, size: int) -> float:
    """Give the highest chance of a sample at the edge or beyond, over all lists with a difference.

    Only over those with as many rows of the one kind, of the other and of neither, at least.
    """
    more, fewer, rest = least_of
    least, most = max(fewer, more - difference), (size - rest - difference) // 2
    chances: dict[int, float] = {}
    places = _grid(least, most, drawn)
    while new := set(places) - chances.keys():
        for place in new:
            chances[place] = _chance(edge, place + difference, place, drawn, size)
        looked = sorted(chances)
        heights = [-1.0, *(chances[place] for place in looked), -1.0]
        least_high = (1 - _NEARLY) * max(heights)
        peaks = [
            index
            for index in range(len(looked))
            if heights[index + 1] >= max(least_high, heights[index], heights[index + 2])
        ]
        ends = [(looked[max(0, index - 1)], looked[min(len(looked) - 1, index + 1)]) for index in peaks]
        places = [low + (high - low) * part // _CLOSER for low, high in ends for part in range(_CLOSER + 1)]
    return max(chances.values(), default=0.0)


def _grid(least: int, most: int, drawn: int) -> list[int]:
    """Give all numbers between two, or of many some: so dense that the counts of samples hardly overlap."""
    if most - least < _EACH:
        return list(range(least, most + 1))
    # Counts spread as the root of their mean.
    parts = 24 + math.ceil(4 * math.sqrt(drawn))
    return [least + math.floor((most - least) * (part / parts) ** 2) for part in range(parts + 1)]


def _chance(edge: NDArray[np.int64], more: int, fewer: int, drawn: int, size: int) -> float:
    """Give the chance of a sample at the edge or beyond it, of a list with so many rows of both kinds."""
    b = _likely(fewer, drawn, size)[:, None]
    a = _likely(more, drawn, size)[None, :]
    rest, left = drawn - a - b, size - more - fewer
    inside = (a >= edge[b]) & (rest >= 0) & (rest <= left)
    logs = log_choose(size, more, a) + log_choose(size, fewer, b) - log_choose(size, size, drawn)
    return float(np.exp(logs[inside] + log_choose(size, left, rest[inside])).sum())


def _at_least(count: int, drawn: int, marked: int, size: int) -> float:
    """Give the chance of so many marked rows, or more, among those drawn."""
    counts = _likely(marked, drawn, size)
    logs = log_choose(size, marked, counts) + log_choose(size, size - marked, drawn - counts)
    return float(np.exp(logs - log_choose(size, size, drawn))[counts >= count].sum())


def _likely(marked: int, drawn: int, size: int) -> NDArray[np.int64]:
    """Give how many of the marked rows may be among those drawn, without what has no chance."""
    share = marked / size
    mean, reach = drawn * share, _DEVIATIONS * math.sqrt(drawn * share * (1 - share)) + _MORE
    low = max(0, drawn - (size - marked), math.floor(mean - reach))
    return np.arange(low, min(marked, drawn, math.ceil(mean + reach)) + 1)


def log_choose(size: int, n: NDArray[np.int64] | int, k: NDArray[np.int64] | int) -> Numbers:
    """Give the log of how many ways there are to choose k of n, at most `size`."""
    logs = _log_factorials(size)
    chosen: Numbers = logs[n] - logs[k] - logs[n - k]
    return chosen


@lru_cache(maxsize=8)
def _log_factorials(size: int) -> Numbers:
    logs: Numbers = gammaln(np.arange(1, size + 2))
    return logs


def _limit_and_edge(more: int, fewer: int, drawn: int, size: int, level: float) -> tuple[float, NDArray[np.int64]]:
    """Give the lower limit of the score interval, and the edge of the samples of which it is no lower."""
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
    edge = _edge(drawn, low, quantile)
    # Rounding must not leave the sample itself out, nor what is no lower.
    edge[: fewer + 1] = np.minimum(edge[: fewer + 1], more)
    return low, edge


def _edge(drawn: int, difference: float, quantile: float) -> NDArray[np.int64]:
    """Give for each number of rows of the other kind how many of the one kind it takes for so high a score."""
    other = np.arange(drawn + 1)
    least, most = np.zeros(drawn + 1, np.int64), drawn - other + 1
    while (left := least < most).any():
        middle = (least + most) // 2
        is_high = _score(middle, other, drawn, difference) >= quantile - _ROUNDING
        most = np.where(left & is_high, middle, most)
        least = np.where(left & ~is_high, middle + 1, least)
    most[most > drawn - other] = drawn + 1  # none is so high
    edge: NDArray[np.int64] = most
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


def _first(low: int, high: int, guess: int, holds: Callable[[int], bool]) -> int:
    """Find the first of some numbers for which something holds that goes on holding; the last where it never does."""
    guess, step = min(max(guess, low), high), max(1, (high - low) // 256)
    if holds(guess):
        high = guess
        while low < high and holds(place := max(low, high - step)):
            high, step = place, 2 * step
        low = max(low, high - step)
    else:
        low = min(high, guess + 1)
        while low < high and not holds(place := min(high, low + step)):
            low, step = min(high, place + 1), 2 * step
        high = min(high, low + step)
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low
