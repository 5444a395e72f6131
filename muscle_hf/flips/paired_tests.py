"""Paired tests by name: is it chance that an update breaks more than it repairs, or the other way round?

Under a neutral update each change is a fair coin: it breaks or repairs with the same probability. Fagerland, Lydersen
and Laake (2013, "The McNemar test for binary matched-pairs data: mid-p and asymptotic are better than exact
conditional") describe the exact and the mid-p test of answers; Wilcoxon (1945) that of scores.
"""

import difflib
import math
import sys
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .special import bdtr

TESTS = ("two-sided", "two-sided-mid-p", "one-sided", "one-sided-mid-p")
"""Names of the paired tests. One-sided ones speak against "the update breaks no more than it repairs"; with mid-p what
was found counts half, so that a test of few flips is less cautious, and may err a little more often than its level."""

LEAST_P = sys.float_info.min
"""Smaller p-values are given as this one (2.2e-308), never as 0, which no finite number of flips can show."""

# Up to so many changes of scores every rank sum is counted; above, they are normal in any digit that is shown.
_MOST_RANKED = 50
# Up to so many flips every outcome is counted; above, the sum is right to thirteen digits.
_MOST_COUNTED = 1_000


def check_test(test: object) -> None:
    """Refuse the name of a test that there is not."""
    if test not in TESTS:
        near = difflib.get_close_matches(test, TESTS, n=1) if isinstance(test, str) else []
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InputError(f"test is {test!r}, but must be the name of a paired test, one of {', '.join(TESTS)}{hint}")


def in_words(test: str) -> str:
    """Name a test in a sentence: "one-sided, mid-p"."""
    return test.replace("-mid-p", ", mid-p")


def coin_test(negative: int, positive: int, test: str = "two-sided") -> float:
    """Test exactly whether negative and positive flips are those of a fair coin (McNemar's test)."""
    return p_value(test, negative, positive, partial(_heads, negative + positive))


def _heads(coins: int, count: int) -> float:
    """Give the chance of so many heads, or more, of fair coins."""
    if count > coins:
        return 0.0
    if coins > _MOST_COUNTED:
        return float(bdtr(coins - count, coins, 0.5))
    # In integers, which lose no digit.
    ways = total = 1
    for tails in range(coins - count):
        ways = ways * (coins - tails) // (tails + 1)
        total += ways
    return float(total / 2**coins)


def signed_rank_test(changes: NDArray[np.float64], test: str = "two-sided") -> float:
    """Test whether rises and falls balance (Wilcoxon 1945), given the ranks and so right for ties as well.

    Changes of 0 must be left out. Exact up to 50 changes, the normal approximation above; it has no correction for
    continuity, so there the mid-p tests are the same as the others.
    """
    if not len(changes):
        return p_value(test, 0, 0, lambda count: float(count == 0))
    ranks = doubled_ranks(changes)
    total, fallen = int(ranks.sum()), int(ranks[changes < 0].sum())
    if len(changes) > _MOST_RANKED:
        return normal_p_value(test, (2 * fallen - total) / math.sqrt(float((ranks.astype(np.float64) ** 2).sum())))
    # The chance of each rank sum when every sign is a fair coin, one instance after the other.
    chances = np.zeros(total + 1)
    chances[0] = 1.0
    for rank in ranks.tolist():
        moved = np.concatenate([np.zeros(rank), chances[: total + 1 - rank]])
        chances = (chances + moved) / 2
    return p_value(test, fallen, total - fallen, lambda count: float(chances[: max(0, total - count + 1)].sum()))


def doubled_ranks(changes: NDArray[np.float64]) -> NDArray[np.int64]:
    """Give twice the rank of each change by its size: an integer, (first rank) + (last rank) of those tied with it."""
    _, place, count = np.unique(np.abs(changes), return_inverse=True, return_counts=True)
    ranks: NDArray[np.int64] = (2 * np.cumsum(count) - count + 1)[place.reshape(-1)]
    return ranks


def p_value(test: str, negative: int, positive: int, tail: Callable[[int], float]) -> float:
    """Give the p-value of a test by its name, kept off what rounding makes of it: above 1, or 0.

    Args:
        test: One of `TESTS`.
        negative: The sum of what fell, under a neutral update as often above as below half of all.
        positive: The sum of what rose.
        tail: The chance of a sum that is as large as its argument, or larger, under a neutral update.
    """
    check_test(test)
    most = negative if test.startswith("one-sided") else max(negative, positive)
    value = tail(most)
    if test.endswith("mid-p"):
        value = (value + tail(most + 1)) / 2
    return min(1.0, max(LEAST_P, value if test.startswith("one-sided") else 2 * value))


def normal_p_value(test: str, deviation: float) -> float:
    """Give the p-value of a test from by how many standard errors what fell is above half of all."""
    check_test(test)
    one_sided = test.startswith("one-sided")
    value = math.erfc((deviation if one_sided else abs(deviation)) / math.sqrt(2))
    return min(1.0, max(LEAST_P, value / 2 if one_sided else value))
