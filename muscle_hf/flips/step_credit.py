"""Which step of an answer it was: the value of each from continuations, and the rules that name the first bad one."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from .intervals import Interval, clopper_pearson

Values = Sequence[float] | NDArray[np.float64]

LEVEL = 0.95


def probability_of_best(right: int, rollouts: int, count: int) -> float:
    """Estimate, without bias, the probability that the best of `count` continuations is right.

    That is 1 - C(n - s, K) / C(n, K), the share of the subsets of K of n rollouts that hold one of the s right ones
    (pass@k of Chen et al. 2021, arXiv 2107.03374); for K = 1 it is s / n.
    """
    whole = math.comb(rollouts, count)
    return (whole - math.comb(rollouts - right, count)) / whole


def interval_of_best(right: int, rollouts: int, count: int) -> Interval:
    """Bound the same probability, 1 - (1 - q)^K, by the exact interval of q (Clopper and Pearson), 95 %."""
    low, high = (1.0 - (1.0 - bound) ** count for bound in clopper_pearson(right, rollouts, LEVEL))
    return low, high


def least_advantage(values: Values) -> int | None:
    """Name the step that lowers the value most; None where none does."""
    changes = np.diff(np.asarray(values)).round(12)  # equal drops are equal, and the first of them counts
    step = int(changes.argmin())
    return step if changes[step] < 0 else None


def lowest_value(values: Values) -> int | None:
    """Name the first step after which the value is lowest; None where it is not below that of the question."""
    step = int(np.argmin(values[1:]))
    return step if values[step + 1] < values[0] else None


def first_all_fail(values: Values) -> int | None:
    """Name the first step after which every continuation is wrong; None where some is right after each."""
    return next((step for step, value in enumerate(values[1:]) if value == 0), None)


PIT_RULES: dict[str, Callable[[Values], int | None]] = {
    "least_advantage": least_advantage,
    "lowest_value": lowest_value,
    "first_all_fail": first_all_fail,
}
"""How the first bad step is told from the values: name -> rule, from the values before the first and after each step.

After a mistake all values are alike, so the lowest of them is picked by noise: more rollouts make that rule worse.
"""
