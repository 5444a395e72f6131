"""How probable a verdict or a significant test is with so many questions, and how many questions make it probable.

Of n questions each falls (right to wrong) or rises (wrong to right) with a fixed probability, independently. What a
claim needs of the two counts is asked of the very functions that judge a comparison, so that both agree; its
probability is the sum over all counts (exact), or, where these are too many, over what the score test of Tango (1998)
would say, which the exact one approaches.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..decisions import change_tails
from ..paired_tests import coin_test
from ..special import bdtr, bdtrc, gammaln, ndtri, xlogy

Counts: TypeAlias = NDArray[np.int64]
Shares: TypeAlias = NDArray[np.float64]
Chances: TypeAlias = Callable[[Counts], Shares]
"""The probabilities of a claim with so many questions."""

MOST_QUESTIONS = 10**9
"""Beyond so many no evaluation is made longer."""
# Up to so many flips are expected, a claim is asked of the exact test.
_MOST_EXACT = 300
# Counts so many standard deviations from their mean, and that many more, have no chance that would show (below 1e-9).
_DEVIATIONS, _MORE = 6.5, 12
_MOST_TERMS = 4_000
# Of the numbers of questions beyond the one that is found so many are tried.
_TRIED = 16
# A number of questions has so many digits that are not 0.
_DIGITS = 3


@dataclass(frozen=True)
class Claim:
    """What is claimed of the change of accuracy, and the score test that the exact one approaches."""

    holds: Callable[[int, int, int], bool]
    """Whether so many questions, positive and negative flips show it."""
    above: bool
    """Whether it is that the change is above `bound`; otherwise that it is below."""
    bound: float
    tail: float
    """How often it is claimed at most where the change is the bound."""
    correction: float
    """By how many flips the score test is made stricter: half the step in which what the exact one looks at rises."""


def change_claim(bound: float, level: float, *, above: bool) -> Claim:
    """Claim that accuracy changes by more than a bound ("kept"), or by less ("broken"), as a gate does."""
    tail = 0.5 - level / 2

    def holds(n: int, positive: int, negative: int) -> bool:
        if change_tails(n, positive, negative, bound)[1 if above else 0] > tail:
            return False
        flips = (positive, negative) if above else (negative, positive)
        # At 0 the exact paired test has to say so too.
        return bool(bound) or coin_test(*flips, "one-sided") <= tail

    return Claim(holds, above, bound, tail, 0.5 if bound else 1.0)


def claim_of_test(test: str, level: float) -> Claim:
    """Claim by a paired test that the update breaks more than it repairs."""

    def holds(n: int, positive: int, negative: int) -> bool:
        return negative > positive and coin_test(negative, positive, test) <= 1 - level

    tail = 1 - level if test.startswith("one-sided") else 0.5 - level / 2
    # Given how many flips there are, their difference rises by 2; with mid-p half of what was found does not count.
    return Claim(holds, False, 0.0, tail, 0.0 if test.endswith("mid-p") else 1.0)


def chance_of_claim(
    claim: Claim, n: int, negative_rate: float, positive_rate: float, *, exact: bool | None = None
) -> float:
    """Give the probability of a claim, given the rates of both kinds of flips; exactly if few flips are expected."""
    spread = _DEVIATIONS * math.sqrt(n * negative_rate * (1 - negative_rate)) + _MORE
    fewest, most = math.floor(max(0, n * negative_rate - spread)), math.ceil(min(n, n * negative_rate + spread))
    # So many terms of the sum make it up; of more they are as smooth as a normal density, so that some stand for all.
    step = 1 + (most - fewest) // _MOST_TERMS
    negative = np.arange(fewest, most + 1, step)
    if exact or (exact is None and n * (negative_rate + positive_rate) <= _MOST_EXACT):
        edge = _exact_edge(claim, n, negative)
    else:
        edge = _score_edge(claim, n, negative)
    logs = gammaln(n + 1) - gammaln(negative + 1) - gammaln(n - negative + 1)
    weight = np.exp(logs + xlogy(negative, negative_rate) + xlogy(n - negative, 1 - negative_rate))
    # Rounding must not make it more than 1.
    share = min(1.0, positive_rate / (1 - negative_rate)) if negative_rate < 1 else 0.0
    rest = n - negative
    # bdtrc(k, ...) is the chance of more than k; of more than -1 it is 1.
    if claim.above:
        chance = np.where(edge > rest, 0.0, np.where(edge > 0, bdtrc(np.clip(edge - 1, 0, rest), rest, share), 1.0))
    else:
        chance = np.where(edge > 0, bdtr(np.clip(edge - 1, 0, rest), rest, share), 0.0)
    return float(min(1.0, step * (weight @ chance)))


def _exact_edge(claim: Claim, n: int, negative: Counts) -> Counts:
    """Give for each number of negative flips how many positive ones it takes that a claim holds, or, of less, fails.

    That never falls as there are more negative flips.
    """
    edge, place = np.empty(len(negative), np.int64), 0
    start = int(_score_edge(claim, n, negative[:1])[0])
    for index, count in enumerate(negative.tolist()):
        if not index:
            # The score test is near; from there the exact edge is a few steps off, either way.
            place = start
            while place > 0 and claim.holds(n, place - 1, count) is claim.above:
                place -= 1
        while place <= n - count and claim.holds(n, place, count) is not claim.above:
            place += 1
        edge[index] = place
    return edge


def _score_edge(claim: Claim, n: int, negative: Counts) -> Counts:
    """Give the same as the score test of Tango (1998) has it."""
    quantile = ndtri(1 - claim.tail) * (1 if claim.above else -1)
    low, high = np.zeros(len(negative), np.int64), n - negative + 1
    while (low < high).any():
        middle = (low + high) // 2
        score = _score(n, middle, negative, claim.bound, -claim.correction if claim.above else claim.correction)
        enough = score >= quantile if claim.above else score > quantile
        low, high = np.where(enough, low, np.minimum(middle + 1, high)), np.where(enough, middle, high)
    return low


def _score(n: int, positive: Counts, negative: Counts, change: float, more: float) -> Shares:
    """Give how many standard errors the difference of the flips is above what a change of accuracy would make it."""
    linear = (positive + negative) * (1 - change) - 2 * change * (n - positive)
    root = np.sqrt(np.maximum(linear**2 + 8.0 * n * negative * change * (1 - change), 0.0))
    fall = np.maximum((linear + root) / (4 * n), max(-change, 0.0))
    variance = n * np.maximum(2 * fall + change - change**2, 0.0)
    return np.asarray((positive - negative + more - n * change) / np.sqrt(np.maximum(variance, 1e-300)))


# How many questions --------------------------------------------------------------------------------------------------


def questions_for_change(
    negative_rate: float, positive_rate: float, bound: float, *, level: float = 0.95, power: float = 0.8
) -> int | None:
    """Find how many questions settle whether accuracy changes by more than a bound, as it does or does not in truth.

    The rates are the true ones of both kinds of flips. Rounded up to three digits; None where the change is the bound
    itself, or no number up to a thousand million is enough.
    """
    change = positive_rate - negative_rate
    if math.isclose(change, bound, abs_tol=1e-12):
        return None
    return questions_for_claim(change_claim(bound, level, above=change > bound), negative_rate, positive_rate, power)


def questions_for_claim(claim: Claim, negative_rate: float, positive_rate: float, power: float) -> int | None:
    """Find from how many questions on a true claim of the change of accuracy has a chance of `power`."""
    distance = positive_rate - negative_rate - claim.bound
    if not distance or (distance > 0) is not claim.above:
        return None
    # What the normal distribution says (Miettinen 1968), which is near.
    spread = math.sqrt(max(negative_rate + positive_rate, abs(claim.bound)))
    start = ((_quantile(claim.tail) + _quantile(1 - power)) * spread / distance) ** 2

    def chances(n: Counts) -> Shares:
        return np.array([chance_of_claim(claim, each, negative_rate, positive_rate) for each in n.tolist()])

    def rough(n: Counts) -> Shares:
        return np.array(
            [chance_of_claim(claim, each, negative_rate, positive_rate, exact=False) for each in n.tolist()]
        )

    near = _crossing(rough, power, start)
    # The teeth are so far apart in which the bound is a whole number of questions.
    ahead = 2 / abs(claim.bound) if claim.bound else start / 50
    return None if near is None else _from_there_on(chances, power, near, ahead, _TRIED)


def questions_for_share(rate: float, bound: float, *, level: float = 0.95, power: float = 0.8) -> int | None:
    """Find how many questions settle whether a share, such as the NFR, is below a bound, as it is or is not in truth.

    Rounded up to three digits; None where the share is the bound itself, or no number up to a thousand million is
    enough.
    """
    if rate == bound or (rate < bound and not bound):
        return None
    spread = math.sqrt(bound * (1 - bound)) * _quantile(0.5 - level / 2)
    start = ((spread + math.sqrt(rate * (1 - rate)) * _quantile(1 - power)) / (rate - bound)) ** 2

    def chances(n: Counts) -> Shares:
        return _chances_of_share(n, rate, bound, level)[0 if rate < bound else 1]

    return _from_there_on(chances, power, start, 4 / abs(rate - bound) + 2 / max(bound, rate), 20 * _TRIED)


def chance_of_share(n: int, rate: float, bound: float, level: float) -> tuple[float, float]:
    """Give the probabilities that the interval of Clopper and Pearson lies below, and above, a bound on a share."""
    below, above = _chances_of_share(np.array([n]), rate, bound, level)
    return float(below[0]), float(above[0])


def _chances_of_share(n: Counts, rate: float, bound: float, level: float) -> tuple[Shares, Shares]:
    """Give the same for several numbers of questions."""
    if not bound:  # which nothing lies below, and a single flip above
        return np.zeros(len(n)), -np.expm1(n * math.log1p(-rate)) if rate < 1 else np.ones(len(n))
    tail = 0.5 - level / 2
    # The normal distribution says nearly what the highest count is that is shown to be below, and the lowest above.
    reach = _quantile(tail) * np.sqrt(n * bound * (1 - bound))
    most = np.maximum(-1, np.floor(n * bound - reach)).astype(np.int64)
    least = np.minimum(n, np.ceil(n * bound + reach)).astype(np.int64) + 1
    most = _moved(most, -1, lambda count: (count >= 0) & (bdtr(count, n, bound) > tail))
    most = _moved(most, 1, lambda count: (count < n - 1) & (bdtr(count + 1, n, bound) <= tail))
    least = _moved(least, -1, lambda count: (count > 1) & (bdtrc(count - 2, n, bound) <= tail))
    least = _moved(least, 1, lambda count: (count <= n) & (bdtrc(count - 1, n, bound) > tail))
    return bdtr(most, n, rate), np.where(least <= n, bdtrc(least - 1, n, rate), 0.0)


def _moved(counts: Counts, step: int, is_off: Callable[[Counts], NDArray[np.bool_]]) -> Counts:
    """Move counts until none is off."""
    while (off := is_off(counts)).any():
        counts = counts + step * off
    return counts


def questions_without_a_flip(bound: float, level: float) -> int | None:
    """Give the fewest questions of which none flips that show an NFR below a bound, or a fall of accuracy by less."""
    return math.ceil(math.log(0.5 - level / 2) / math.log1p(-bound)) if 0 < bound < 1 else None


def _crossing(chances: Chances, power: float, start: float) -> int | None:
    """Find, near a start, a number of questions that is enough where the number before it is not."""

    def is_enough(n: int) -> bool:
        return bool(chances(np.array([n]))[0] >= power)

    many, step = max(1, round(min(start, MOST_QUESTIONS))), max(1, round(start / 50))
    while not is_enough(many):
        many, step = many + step, 2 * step
        if many > MOST_QUESTIONS:
            return None
    few, step = many, max(1, many // 50)
    while few > 0 and is_enough(few):
        many, few, step = few, max(0, few - step), 2 * step
    while many - few > _unit(many):
        middle = (few + many) // 2
        few, many = (few, middle) if is_enough(middle) else (middle, many)
    return many


def _from_there_on(chances: Chances, power: float, start: float, ahead: float, tried: int) -> int | None:
    """Find the number of questions that is enough, as are all that were tried up to so many more.

    The chance of an exact test rises and falls with the number of questions like the teeth of a saw.
    """
    found = _crossing(chances, power, start)
    while found is not None and found <= MOST_QUESTIONS:
        unit = _unit(found)
        found = -(-found // unit) * unit
        step = max(1, math.ceil(ahead / unit / tried)) * unit
        further = np.arange(found, found + math.ceil(ahead) + unit, step)
        short = further[chances(further) < power]
        if not len(short):
            return found
        found = int(short[-1]) + 1
    return None


def _unit(n: int) -> int:
    """Give what a number is rounded to, so that it has as many digits as are meant."""
    return int(10 ** max(0, len(str(n)) - _DIGITS))


def _quantile(tail: float) -> float:
    return -ndtri(tail)
