"""Rows drawn from one or two strata: where to cut, how many to draw of each, and exact limits of the total.

Sources: Dalenius (1950) for the cut, Neyman (1934) for the shares of the sample; the limits invert a test.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..intervals import Numbers
from .finite_population import log_choose

# So many ways to share a total out between two strata are all looked at; of more some, then all around the best.
_EACH = 400
_ROUNDING = 1e-9
# Two strata are made where they leave so much of the standard error.
_WORTH_IT = 0.95


def lowest_total(counts: Sequence[int], drawn: Sequence[int], sizes: Sequence[int], level: float) -> int:
    """Bound from below how many of all rows are marked, from rows drawn from one or two strata.

    The truth is lower with a chance of (1 - level) / 2 at most. Samples are ordered by the estimate of the total, and
    a total is left out where no way to share it out between the strata, of those that the drawn rows leave possible,
    gives so high an estimate or a higher one with a larger chance. A stratum of which nothing was drawn tells nothing.

    Args:
        counts: Marked rows among those drawn, one for each stratum.
        drawn: Rows drawn of each.
        sizes: Rows of each.
        level: Level of the interval of which this is the lower end.
    """
    told = [place for place, count in enumerate(drawn) if count]
    if not told:
        return 0
    places = told if len(told) == 2 else [told[0], told[0]]
    first, second = ((counts[place], drawn[place], sizes[place]) for place in places)
    if len(told) == 1:
        second = (0, 0, 0)
    tail = (0.5 - level / 2) * (1 - _ROUNDING)  # in doubt a total stays
    low = first[0] + second[0]
    high = first[2] - (first[1] - first[0]) + second[2] - (second[1] - second[0])
    while low < high:
        middle = (low + high) // 2
        if _most_likely(first, second, middle) > tail:
            high = middle
        else:
            low = middle + 1
    return low


_Drawn = tuple[int, int, int]
"""Marked among the drawn, drawn, all."""


def _most_likely(first: _Drawn, second: _Drawn, total: int) -> float:
    """Give the largest chance of an estimate as high as this one, over all ways to share out a total."""
    (a, n, size), (b, m, other) = first, second
    least, most = max(a, total - (other - (m - b))), min(size - (n - a), total - b)
    step = max(1, (most - least) // _EACH)
    places = np.unique(np.append(np.arange(least, most + 1, step), most))
    chances = _as_high(first, second, places, total)
    best = int(places[int(chances.argmax())])
    if step > 1:
        places = np.arange(max(least, best - step), min(most, best + step) + 1)
        chances = np.append(chances, _as_high(first, second, places, total))
    return float(chances.max())


def _as_high(first: _Drawn, second: _Drawn, marked: NDArray[np.int64], total: int) -> Numbers:
    """Give the chance of so high an estimate for numbers of marked rows in the first stratum."""
    (a, n, size), (b, m, other) = first, second
    weight, weight_2 = size / n, other / m if m else 0.0
    counts = np.arange(n + 1)
    if m:
        needed = np.ceil((weight * (a - counts) + weight_2 * b) / weight_2 - _ROUNDING).clip(0, m + 1).astype(int)
    else:
        needed = np.where(counts >= a, 0, 1)
    tails = np.cumsum(_chances(total - marked, m, other)[:, ::-1], axis=1)[:, ::-1]
    tails = np.concatenate([tails, np.zeros((len(marked), 1))], axis=1)
    chance: Numbers = (_chances(marked, n, size) * tails[:, needed]).sum(axis=1)
    return chance


def _chances(marked: NDArray[np.int64], drawn: int, size: int) -> Numbers:
    """Give the hypergeometric chances of 0 to `drawn` marked rows, one row for each number of marked ones."""
    counts, all_marked = np.arange(drawn + 1)[None, :], marked[:, None]
    rest, unmarked = drawn - counts, size - all_marked
    inside = (counts <= all_marked) & (rest <= unmarked)
    logs = log_choose(size, all_marked, np.where(inside, counts, 0)) + log_choose(
        size, unmarked, np.where(inside, rest, 0)
    )
    return np.where(inside, np.exp(logs - log_choose(size, size, drawn)), 0.0)


def strata_of(chances: Numbers) -> int:
    """Say how many of the flips, the likeliest mistakes of the grader first, make the first stratum.

    The cut is where the standard error is smallest (Dalenius 1950), were the chances right: at the least
    sum_h N_h sqrt(q_h (1 - q_h)). Flips with the same chance stay together; 0 where one stratum is as good.
    """
    size = len(chances)
    bounded = _bounded(chances)
    sums, counts = np.cumsum(bounded), np.arange(1, size + 1)
    first = np.sqrt(sums * (counts - sums).clip(0))
    left, rest = size - counts, sums[-1] - sums if size else sums
    errors = first + np.sqrt((rest * (left - rest)).clip(0))
    cuts = np.flatnonzero(bounded[:-1] - bounded[1:] > _ROUNDING)
    if not len(cuts):
        return 0
    best = cuts[int(errors[cuts].argmin())]
    return int(best) + 1 if errors[best] < errors[-1] * _WORTH_IT else 0


def allocation(chances: Sequence[Numbers], drawn: int) -> list[int]:
    """Share a sample out among strata: by N_h sqrt(q_h (1 - q_h)) (Neyman 1934), two or all of each at least."""
    sizes = [len(part) for part in chances]
    drawn = min(drawn, sum(sizes))
    if len(sizes) == 1:
        return [drawn]
    shares = [float(np.sqrt(q * (1 - q)) * len(part)) for part in chances for q in [_bounded(part).mean()]]
    least, most = min(2, sizes[0]), drawn - min(2, sizes[1])
    first = round(drawn * shares[0] / sum(shares))
    # What one stratum has no room for goes to the other.
    first = max(least, drawn - sizes[1], min(first, most, sizes[0]))
    return [first, drawn - first]


def _bounded(chances: Numbers) -> Numbers:
    """Take no model for surer than this, so that no stratum is left without a share; what is unknown is even."""
    return np.clip(np.where(np.isnan(chances), 0.5, chances), 0.05, 0.95)
