"""How many questions an evaluation needs, and what so many can show, before it is bought."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...errors import InputError
from ..inputs import check_level, is_number
from ..paired_tests import check_test
from .expected_rates import expected_rates
from .power_result import BoundPower, Chances, Detectable, Power
from .sample_size import (
    MOST_QUESTIONS,
    Claim,
    chance_of_claim,
    chance_of_share,
    change_claim,
    claim_of_test,
    questions_for_claim,
    questions_for_share,
    questions_without_a_flip,
)

_DROPS = (0.01, 0.02, 0.05)
_BREAK = 0.01
# Of the smallest size that so many questions show, three digits are sure.
_SMALLEST, _PRECISION = 1e-7, 1.0005


@dataclass(frozen=True)
class _Plan:
    """What the numbers are worked out from."""

    questions: int | None
    design_effect: float
    negative_rate: float
    positive_rate: float
    level: float
    power: float

    @property
    def expected(self) -> tuple[float, float]:
        """Both expected flip rates."""
        return self.negative_rate, self.positive_rate

    @property
    def alone(self) -> int | None:
        """How many questions without clusters tell as much as those there are."""
        return None if self.questions is None else max(1, int(self.questions / self.design_effect))

    def fallen(self, drop: float) -> tuple[float, float]:
        """Both flip rates where accuracy falls by so much; as many flip as are expected, or as it takes."""
        flips = max(self.negative_rate + self.positive_rate, drop)
        return (flips + drop) / 2, (flips - drop) / 2

    def in_clusters(self, questions: int | None) -> int | None:
        """How many questions in clusters tell as much as so many without."""
        return None if questions is None else math.ceil(questions * self.design_effect)

    def needed(self, claim: Claim, rates: tuple[float, float]) -> int | None:
        """How many questions a claim needs, given both flip rates."""
        return self.in_clusters(questions_for_claim(claim, *rates, self.power))


def power(
    questions: int | None = None,
    *,
    flip_rate: float | None = None,
    change: float | None = None,
    nfr: float | None = None,
    margin: float | None = None,
    max_nfr: float | None = None,
    broken_at: float | None = None,
    test: str = "two-sided",
    level: float = 0.95,
    power: float = 0.8,
    cluster_size: float = 1,
    icc: float | None = None,
) -> Power:
    """Work out what an evaluation of two model versions can show, and how many questions it needs.

    The chances are sums over all counts of flips, for the very tests and intervals of `compare_runs`; with more than
    300 expected flips, of a score test that is near (Tango 1998). The power of an exact test rises and falls with the
    number of questions like the teeth of a saw, so the numbers given are those from which on it is high enough; they
    are rounded up to three digits.

    Args:
        questions: How many questions there are; None asks for the numbers that are needed alone.
        flip_rate: Expected share of questions of which the answer turns right or wrong. Two of `flip_rate`, `change`
            and `nfr` say all three. Default: 0.1, or what `nfr` says.
        change: Expected change of accuracy, such as -0.01 for one point less. Default: 0, a neutral update.
        nfr: Expected negative flip rate. Default: half of `max_nfr` where that is all that is given.
        margin: Accuracy may fall by so much, such as 0.01 for one point.
        max_nfr: Highest negative flip rate allowed, such as 0.02.
        broken_at: A real break, that should be called broken: a fall of accuracy, such as 0.03, or a negative flip
            rate. Default: twice the bound, or 0.01 where that is 0.
        test: The paired test that looks for a fall of accuracy: "two-sided", "two-sided-mid-p", "one-sided" or
            "one-sided-mid-p".
        level: Level of the intervals that verdicts are made of; the test errs in 1 - level of neutral updates.
        power: How probable a result shall be.
        cluster_size: Mean number of questions that hang together, such as the paraphrases of one.
        icc: How much they do, from 0 to 1: the correlation of (right now) - (right before) within a cluster. Numbers
            of questions count 1 + (cluster_size - 1) * icc times; that is an approximation.

    Returns:
        What so many questions can find, the chances of each verdict, and the questions that are needed.

    Raises:
        InputError: A number that is out of range, rates that contradict each other, an unknown test.

    Example:
        >>> import muscle_hf
        >>> p = muscle_hf.power(500, flip_rate=0.1, margin=0.01)
        >>> p.bounds[0].questions_kept  # from here on a neutral update is called kept in 8 of 10 cases
        7990
        >>> f"{p.detectable.drop:.3f}"  # what the test finds in 8 of 10 cases
        '0.041'
    """
    _check(questions, margin, max_nfr, broken_at, level, power)
    check_test(test)
    size, correlation = _clusters(cluster_size, icc)
    negative, positive, assumed = expected_rates(flip_rate, change, nfr, margin, max_nfr)
    effect = 1 + (size - 1) * correlation
    plan = _Plan(questions, effect, negative, positive, float(level), float(power))
    bounds = []
    if margin is not None:
        bounds.append(_margin(plan, float(margin), broken_at))
    if max_nfr is not None:
        bounds.append(_max_nfr(plan, float(max_nfr), broken_at))
    by_test = claim_of_test(test, level)
    return Power(
        questions=questions,
        cluster_size=size,
        icc=correlation,
        design_effect=effect,
        flip_rate=negative + positive,
        change=positive - negative,
        nfr=negative,
        assumed=assumed,
        test=test,
        level=plan.level,
        power=plan.power,
        detectable=_detectable(plan, by_test) if questions else None,
        questions_for_drops={f"{drop:g}": plan.needed(by_test, plan.fallen(drop)) for drop in _DROPS},
        bounds=tuple(bounds),
    )


# What is looked for --------------------------------------------------------------------------------------------------


def _margin(plan: _Plan, margin: float, broken_at: float | None) -> BoundPower:
    fall = _twice(margin) if broken_at is None else broken_at
    if fall <= margin:
        raise InputError(f"broken_at is {fall:g}, a fall that the margin of {margin:g} allows; give a larger one.")
    kept, broken = (change_claim(-margin, plan.level, above=above) for above in (True, False))
    truths = {"expected": plan.expected, "bound": plan.fallen(margin), "break": plan.fallen(fall)}
    rows = []
    for meaning, rates in truths.items() if plan.alone else ():
        first, second = (chance_of_claim(claim, plan.alone or 0, *rates) for claim in (kept, broken))
        rows.append(Chances(rates[1] - rates[0], meaning, first, second, max(0.0, 1 - first - second)))
    return BoundPower(
        rate="min_accuracy_change",
        bound=-margin,
        expected=plan.positive_rate - plan.negative_rate,
        broken_at=-fall,
        chances=tuple(rows),
        questions_kept=plan.needed(kept, plan.expected),
        questions_broken=plan.needed(broken, truths["break"]),
        questions_without_a_flip=plan.in_clusters(questions_without_a_flip(margin, plan.level)),
    )


def _twice(bound: float) -> float:
    """Give the size of a real break where nobody says it."""
    return min(1.0, 2 * bound) or _BREAK


def _max_nfr(plan: _Plan, bound: float, broken_at: float | None) -> BoundPower:
    real = _twice(bound) if broken_at is None else broken_at
    if real <= bound:
        raise InputError(f"broken_at is {real:g}, an NFR that the bound of {bound:g} allows; give a larger one.")
    rows = []
    for meaning, rate in {"expected": plan.negative_rate, "bound": bound, "break": real}.items() if plan.alone else ():
        first, second = chance_of_share(plan.alone or 0, rate, bound, plan.level)
        rows.append(Chances(rate, meaning, first, second, max(0.0, 1 - first - second)))

    def needed(rate: float) -> int | None:
        return plan.in_clusters(questions_for_share(rate, bound, level=plan.level, power=plan.power))

    return BoundPower(
        rate="max_nfr",
        bound=bound,
        expected=plan.negative_rate,
        broken_at=real,
        chances=tuple(rows),
        questions_kept=needed(plan.negative_rate) if plan.negative_rate < bound else None,
        questions_broken=needed(real),
        questions_without_a_flip=plan.in_clusters(questions_without_a_flip(bound, plan.level)),
    )


def _detectable(plan: _Plan, by_test: Claim) -> Detectable:
    n = plan.alone or 0

    def finds(drop: float) -> bool:
        return chance_of_claim(by_test, n, *plan.fallen(drop)) >= plan.power

    def keeps_margin(margin: float) -> bool:
        return chance_of_claim(change_claim(-margin, plan.level, above=True), n, *plan.expected) >= plan.power

    def keeps_bound(bound: float) -> bool:
        return chance_of_share(n, plan.negative_rate, bound, plan.level)[0] >= plan.power

    seen = -math.expm1(math.log1p(-plan.power) / n)
    return Detectable(_least(finds), _least(keeps_margin), _least(keeps_bound), seen)


def _least(is_enough: Callable[[float], bool]) -> float | None:
    """Find the smallest size between 0 and 1 that is enough, to as many digits whatever its size is."""
    low, high = _SMALLEST, 1 - _SMALLEST
    if not is_enough(high):
        return None
    while high / low > _PRECISION:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


# What is given -------------------------------------------------------------------------------------------------------


def _check(questions: Any, margin: Any, max_nfr: Any, broken_at: Any, level: Any, power: Any) -> None:
    if questions is not None and (
        isinstance(questions, bool) or not isinstance(questions, int) or not 1 <= questions <= MOST_QUESTIONS
    ):
        raise InputError(f"questions is {questions!r}, but must be a whole number from 1 to 10**9.")
    for name, value in {"margin": margin, "max_nfr": max_nfr, "broken_at": broken_at}.items():
        if value is not None and (not is_number(value) or not 0 <= value < 1):
            example = "0.02 for 2 %" if name == "max_nfr" else "0.01 for one point"
            raise InputError(f"{name} is {value!r}, but must be from 0 to below 1, such as {example}.")
    if broken_at is not None and (margin is None) is (max_nfr is None):
        raise InputError("broken_at is the size of a break under one bound: give it with margin or with max_nfr.")
    check_level(level)
    if not is_number(power) or not 0 < power < 1:
        raise InputError(f"power is {power!r}, but must be between 0 and 1, such as 0.8 for 8 of 10 evaluations.")


def _clusters(size: Any, icc: Any) -> tuple[float, float]:
    if not is_number(size) or size < 1:
        raise InputError(f"cluster_size is {size!r}, but must be a number from 1 up, such as 10.")
    if (size > 1) is (icc is None):
        raise InputError("cluster_size and icc belong together: give both, such as 10 and 0.5, or neither.")
    if icc is not None and (not is_number(icc) or not 0 <= icc <= 1):
        raise InputError(f"icc is {icc!r}, but must be from 0 (questions of a cluster flip alone) to 1 (all or none).")
    return float(size), float(icc or 0)
