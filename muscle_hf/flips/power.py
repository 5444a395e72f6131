"""How many questions an evaluation needs, and what so many can show, before it is bought."""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..errors import InputError
from .inputs import check_level, is_number
from .paired_tests import check_test, in_words
from .rates import strict_json
from .sample_size import (
    MOST_QUESTIONS,
    Claim,
    chance_of_claim,
    chance_of_share,
    change_claim,
    questions_for_claim,
    questions_for_share,
    questions_without_a_flip,
    test_claim,
)

SCHEMA_VERSION = 1
_FLIP_RATE = 0.1
"""Share of answers that turn right or wrong, where nobody says."""
_DROPS = (0.01, 0.02, 0.05)
# Halvings of an interval, until four digits are sure.
_HALVINGS = 14


@dataclass(frozen=True)
class Chances:
    """How probable each verdict on a bound is, if the truth is so."""

    truth: float
    """The true change of accuracy, or the true NFR."""
    meaning: str
    """ "expected", "bound" or "break"."""
    kept: float
    broken: float
    cannot_tell: float


@dataclass(frozen=True)
class BoundPower:
    """What so many questions can say on a bound, and how many it needs."""

    rate: str
    """ "min_accuracy_change" or "max_nfr"."""
    bound: float
    expected: float
    """The true change of accuracy, or the true NFR, that is expected."""
    broken_at: float
    """The same of a real break, that should be called broken."""
    chances: tuple[Chances, ...]
    """Of each verdict with that many questions; empty where no number of questions was given."""
    questions_kept: int | None
    """How many questions call what is expected kept; None where no number does, because it lies beyond the bound."""
    questions_broken: int | None
    """How many questions call the real break broken."""
    questions_without_a_flip: int | None
    """With fewer questions the bound cannot be kept even if nothing flips; None where no number is enough."""


@dataclass(frozen=True)
class Power:
    """What an evaluation can show; made by `power`. `print` shows it in sentences and tables."""

    questions: int | None
    cluster_size: float
    icc: float
    flip_rate: float
    """Expected share of questions of which the answer turns right or wrong."""
    change: float
    """Expected change of accuracy: PFR - NFR."""
    nfr: float
    """Expected negative flip rate."""
    assumed: tuple[str, ...]
    """What was not given, and is assumed."""
    test: str
    level: float
    power: float
    drop: float | None
    """The smallest fall of accuracy that the test finds; None where no number of questions was given, or none is."""
    margin: float | None
    """The smallest margin that the expected update is shown to keep."""
    max_nfr: float | None
    """The smallest bound on the NFR that it is shown to keep."""
    nfr_seen: float | None
    """The smallest NFR of which at least one flip is seen."""
    questions_for_drops: dict[str, int | None]
    """How many questions it takes for the test to find falls of accuracy of 0.01, 0.02 and 0.05."""
    bounds: tuple[BoundPower, ...]

    @property
    def design_effect(self) -> float:
        """By what clusters divide the number of questions: 1 + (size - 1) * ICC (Kish 1965); an approximation."""
        return 1 + (self.cluster_size - 1) * self.icc

    def to_dict(self) -> dict[str, Any]:
        """Give everything as a dictionary of plain Python values; None is what no number of questions can do."""
        head = {"schema": "muscle_hf.power", "schema_version": SCHEMA_VERSION}
        content = asdict(self)
        content["assumed"] = list(self.assumed)
        content["bounds"] = [asdict(bound) | {"chances": [asdict(c) for c in bound.chances]} for bound in self.bounds]
        return head | {"design_effect": self.design_effect} | content

    def to_json(self, *, indent: int | None = None) -> str:
        """Give `to_dict` as JSON."""
        return strict_json(self.to_dict(), indent=indent)

    def __str__(self) -> str:
        """Show it in sentences and small tables."""
        from .power_text import text_of

        return text_of(self)


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
            rate. Default: twice the bound.
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
        >>> f"{p.drop:.3f}"  # what the test finds in 8 of 10 cases
        '0.041'
    """
    _check(questions, margin, max_nfr, broken_at, level, power)
    check_test(test)
    size, correlation = _clusters(cluster_size, icc)
    negative, positive, assumed = _rates(flip_rate, change, nfr, margin, max_nfr)
    found = Power(
        questions=questions,
        cluster_size=size,
        icc=correlation,
        flip_rate=negative + positive,
        change=positive - negative,
        nfr=negative,
        assumed=assumed,
        test=test,
        level=float(level),
        power=float(power),
        drop=None,
        margin=None,
        max_nfr=None,
        nfr_seen=None,
        questions_for_drops={},
        bounds=(),
    )
    bounds = []
    if margin is not None:
        bounds.append(_margin(found, float(margin), broken_at))
    if max_nfr is not None:
        bounds.append(_max_nfr(found, float(max_nfr), broken_at))
    by_test = test_claim(test, level)
    drops = {f"{drop:g}": _needed(found, by_test, *_fallen(found.flip_rate, drop)) for drop in _DROPS}
    return replace(found, bounds=tuple(bounds), questions_for_drops=drops, **_seen(found, by_test))


# What is looked for --------------------------------------------------------------------------------------------------


def _margin(found: Power, margin: float, broken_at: float | None) -> BoundPower:
    fall = 2 * margin if broken_at is None else broken_at
    if fall <= margin:
        raise InputError(f"broken_at is {fall:g}, a fall of accuracy that the margin of {margin:g} allows; give more.")
    kept, broken = (change_claim(-margin, found.level, above=above) for above in (True, False))
    expected = found.nfr, found.flip_rate - found.nfr
    truths = {"expected": expected, "bound": _fallen(found.flip_rate, margin), "break": _fallen(found.flip_rate, fall)}
    n = _effective(found)
    rows = []
    for meaning, rates in truths.items() if n else ():
        chances = [chance_of_claim(claim, n, *rates) for claim in (kept, broken)]
        rows.append(Chances(rates[1] - rates[0], meaning, *chances, max(0.0, 1 - sum(chances))))
    return BoundPower(
        "min_accuracy_change",
        -margin,
        found.change,
        -fall,
        tuple(rows),
        _needed(found, kept, *expected),
        _needed(found, broken, *truths["break"]),
        _times(found, questions_without_a_flip(margin, found.level)),
    )


def _max_nfr(found: Power, bound: float, broken_at: float | None) -> BoundPower:
    real = min(1.0, 2 * bound) if broken_at is None else broken_at
    if real <= bound:
        raise InputError(f"broken_at is {real:g}, an NFR that the bound of {bound:g} allows; give more.")
    n, rows = _effective(found), []
    for meaning, rate in {"expected": found.nfr, "bound": bound, "break": real}.items() if n else ():
        kept, broken = chance_of_share(n, rate, bound, found.level)
        rows.append(Chances(rate, meaning, kept, broken, max(0.0, 1 - kept - broken)))
    needed = [
        _times(found, questions_for_share(rate, bound, level=found.level, power=found.power)) if good else None
        for rate, good in ((found.nfr, found.nfr < bound), (real, True))
    ]
    least = _times(found, questions_without_a_flip(bound, found.level))
    return BoundPower("max_nfr", bound, found.nfr, real, tuple(rows), *needed, least)


def _seen(found: Power, by_test: Claim) -> dict[str, float | None]:
    """Give the smallest fall, margin and bound that so many questions speak of."""
    n = _effective(found)
    if not n:
        return {}

    def margin_kept(margin: float) -> bool:
        claim = change_claim(-margin, found.level, above=True)
        return chance_of_claim(claim, n, found.nfr, found.flip_rate - found.nfr) >= found.power

    return {
        "drop": _least(lambda drop: chance_of_claim(by_test, n, *_fallen(found.flip_rate, drop)) >= found.power),
        "margin": _least(margin_kept),
        "max_nfr": _least(lambda bound: chance_of_share(n, found.nfr, bound, found.level)[0] >= found.power),
        "nfr_seen": -math.expm1(math.log1p(-found.power) / n),
    }


def _least(is_enough: Any) -> float | None:
    """Find the smallest size from 0 to 1 that is enough."""
    low, high = 0.0, 0.999
    if not is_enough(high):
        return None
    # Halved as logarithms, since small ones are told apart by their digits.
    low = 1e-7
    for _ in range(_HALVINGS + 10):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if is_enough(middle) else (middle, high)
        if high / low < 1.0005:
            break
    return high


def _needed(found: Power, claim: Claim, negative: float, positive: float) -> int | None:
    return _times(found, questions_for_claim(claim, negative, positive, found.power))


def _times(found: Power, questions: int | None) -> int | None:
    """Give how many questions in clusters tell as much as so many without."""
    return None if questions is None else math.ceil(questions * found.design_effect)


def _effective(found: Power) -> int:
    """Give how many questions without clusters tell as much as those there are."""
    return 0 if found.questions is None else max(1, int(found.questions / found.design_effect))


def _fallen(flip_rate: float, drop: float) -> tuple[float, float]:
    """Give both flip rates where accuracy falls by so much; as many flip as are expected, or as it takes."""
    flips = max(flip_rate, drop)
    return (flips + drop) / 2, (flips - drop) / 2


# What is given -------------------------------------------------------------------------------------------------------


def _check(
    questions: Any, margin: Any, max_nfr: Any, broken_at: Any, level: Any, power: Any
) -> None:
    if questions is not None and (
        isinstance(questions, bool) or not isinstance(questions, int) or not 1 <= questions <= MOST_QUESTIONS
    ):
        raise InputError(f"questions is {questions!r}, but must be a whole number from 1 to 10**9.")
    for name, value in {"margin": margin, "max_nfr": max_nfr, "broken_at": broken_at}.items():
        if value is not None and (not is_number(value) or not 0 <= value < 1):
            raise InputError(f"{name} is {value!r}, but must be from 0 to below 1, such as 0.02 for 2 % of all questions.")
    if broken_at is not None and (margin is None) is (max_nfr is None):
        raise InputError("broken_at is the size of a break under one bound: give it with margin or with max_nfr.")
    check_level(level)
    if not is_number(power) or not 0 < power < 1:
        raise InputError(f"power is {power!r}, but must be between 0 and 1, such as 0.8 for 8 of 10 evaluations.")


def _clusters(size: Any, icc: Any) -> tuple[float, float]:
    if not is_number(size) or size < 1:
        raise InputError(f"cluster_size is {size!r}, but must be a number from 1 up, such as 10 paraphrases a question.")
    if (size > 1) is (icc is None):
        raise InputError("cluster_size and icc belong together: give both, such as 10 and 0.5, or neither.")
    if icc is not None and (not is_number(icc) or not 0 <= icc <= 1):
        raise InputError(f"icc is {icc!r}, but must be from 0 (questions of a cluster flip alone) to 1 (all or none).")
    return float(size), float(icc or 0)


def _rates(
    flip_rate: Any, change: Any, nfr: Any, margin: float | None, max_nfr: float | None
) -> tuple[float, float, tuple[str, ...]]:
    """Give the expected negative and positive flip rates, and what was assumed for them."""
    for name, value, least in (("flip_rate", flip_rate, 0), ("change", change, -1), ("nfr", nfr, 0)):
        if value is not None and (not is_number(value) or not least <= value <= 1):
            raise InputError(f"{name} is {value!r}, but must be a number from {least} to 1, such as 0.05.")
    assumed = []
    if flip_rate is None and nfr is None:
        if max_nfr and margin is None and change is None:
            nfr = max_nfr / 2
            assumed.append(f"an NFR of half the bound, {nfr:g}")
        else:
            flip_rate = max(_FLIP_RATE, abs(change or 0))
            assumed.append(f"{100 * flip_rate:g} % of the answers flip")
    if change is None and (flip_rate is None or nfr is None):
        change = 0.0
        assumed.append("a neutral update: as many answers break as are repaired")
    if flip_rate is None:
        negative, positive = float(nfr), float(nfr + change)
    elif nfr is None:
        negative, positive = (flip_rate - change) / 2, (flip_rate + change) / 2
    else:
        negative, positive = float(nfr), float(flip_rate - nfr)
        if change is not None and not math.isclose(positive - negative, change, abs_tol=1e-9):
            raise InputError(
                f"an NFR of {nfr:g} and a flip rate of {flip_rate:g} make a change of accuracy of "
                f"{positive - negative:+g}, not {change:+g}: give two of the three."
            )
    if min(negative, positive) < -1e-12 or negative + positive > 1 + 1e-12:
        raise InputError(
            f"the rates contradict each other: an NFR of {negative:g} and a rate of repaired answers of {positive:g}; "
            "both must be from 0, and their sum, the flip rate, at most 1."
        )
    return max(0.0, negative), max(0.0, positive), tuple(assumed)
