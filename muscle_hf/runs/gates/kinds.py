"""What can be bounded: which rate it is, in which words its verdict is told, and what no flip at all would give."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from ...flips.comparison import Comparison
from ...flips.intervals import relative_interval
from ...flips.planning.sample_size import (
    MOST_QUESTIONS,
    questions_for_change,
    questions_for_share,
    questions_without_a_flip,
)
from ...flips.rates import Result
from ...flips.ratio import relative_limits
from ...text import how_many
from ..classes import classes_of, why_no_classes
from ..measure import Part
from ..report import bayes_factor

POWER = 0.8
"""How often as many questions as are said to settle a bound would."""


class Figures(NamedTuple):
    """A rate, its interval (nan where there is none) and its bound."""

    estimate: float
    low: float
    high: float
    bound: float

    def negated(self) -> "Figures":
        """Give those of a fall where these are of a rise."""
        return Figures(-self.estimate, -self.high, -self.low, -self.bound)

    def texts(self, unit: "Unit") -> tuple[str, str, str]:
        """Write the rate, the interval in brackets after a space ("" where there is none), and the bound.

        With so many digits that nothing beside the bound is written as the bound is, nor both ends as one number.
        """
        bound, *numbers = (unit.scale * value for value in (self.bound, self.estimate, self.low, self.high))
        for digits in range(unit.digits, 16):
            form = f"z,.{digits}{unit.form}"
            shown = [format(value, form) for value in numbers]
            # What is a number as people write it, 0.07, is not when it is given in percent.
            beside = [not math.isnan(value) and not math.isclose(value, bound, rel_tol=1e-15) for value in numbers]
            told_apart = format(bound, form) not in [
                text for text, is_beside in zip(shown, beside, strict=True) if is_beside
            ]
            if told_apart and (shown[1] != shown[2] or math.isnan(self.low) or self.low == self.high):
                break
        interval = "" if math.isnan(self.low) else f" [{shown[1]}, {shown[2]}]"
        return ("undefined" if math.isnan(self.estimate) else shown[0]), interval, f"{bound:z.12g}"


class Unit(NamedTuple):
    """How a rate is written."""

    name: str
    scale: float = 1.0
    digits: int = 3
    form: str = "g"


PERCENT, POINTS, PLAIN = Unit(" %", 100.0, 1, "f"), Unit(" points", 100.0, 1, "f"), Unit("")
BIAS = Unit("", 1.0, 3, "f")


class Words(NamedTuple):
    """A verdict in words."""

    fact: str
    """What was measured."""
    kept: str
    """What is so where the bound is kept."""
    broken: str
    """What is so where it is broken."""
    asked: str
    """What cannot be told otherwise, after "whether"."""


@dataclass(frozen=True)
class Kind:
    """What differs from bound to bound."""

    answers: str | None
    """The rate of a `Comparison` that is bounded; None where answers have none."""
    scores: str | None
    """The same of a `ScoreComparison`."""
    low: float
    high: float
    expected: str
    title: str
    """What the rate is called in a table."""
    title_of_scores: str
    words: Callable[[Part, Figures], Words]
    unit: Callable[[Part], Unit]
    is_highest: bool = True
    """Whether the rate may not be above the bound; otherwise not below."""
    without_a_flip: Callable[[Part, float, float], float] = lambda part, bound, level: 0
    """The fewest independent instances like those of a row that keep a bound, were there no negative flip, given bound
    and level; infinity where no number does, 0 where nobody knows."""
    of_yes_no: bool = False
    """Whether it is a rate of the yes/no answers, which are there where somebody said what means yes and no."""
    of_classes: bool = False
    """Whether it is a mean over classes of right answers."""
    settling: Callable[[Part, float, float], int | None] | None = None
    """How many independent instances with the flip rates of a row would settle a bound, `POWER` of the time, given
    bound and level; None where no number would. Where there is no such function the interval has to say it."""

    def rate(self, part: Part) -> str | None:
        """Give the name of the rate of a row; None where it has none."""
        if (self.of_yes_no and part.yes_no is None) or (self.of_classes and not classes_of(part.comparison)):
            return None
        return self.scores if part.has_scores else self.answers

    def result(self, part: Part) -> Result:
        """Give what the rate of a row is read from."""
        return part.yes_no if self.of_yes_no and part.yes_no is not None else part.comparison

    def lacking(self, rate: str, part: Part) -> str:
        """Say why a row has no such rate."""
        if self.of_yes_no:
            return f"has no {rate[4:]}, for which --yes-no (yes_no=) says what means yes and no"
        if self.of_classes and not part.has_scores:
            return f"has no {rate[4:]}, a mean over classes of right answers: {why_no_classes(part.comparison)}"
        return f"has no {rate[4:]}, which only {'scores' if self.scores else 'answers'} have"

    def is_beyond(self, value: float, bound: float) -> bool:
        """Say whether a value is on the bad side of a bound; on the bound it is not, and nan neither."""
        return value > bound if self.is_highest else value < bound

    def nothing_can_flip(self, part: Part) -> str | None:
        """Say why an undefined rate of a row keeps every bound; None where it does not."""
        if not isinstance(part.comparison, Comparison):
            return None if part.coin.negative else "no score falls"
        return "the new model is wrong on nothing" if part.comparison.new_accuracy == 1 else None


def _all(part: Part) -> str:
    """Say how many instances a row has, and in how many clusters."""
    clusters = part.comparison.clusters
    told = how_many(part.n, "score" if part.has_scores else "answer")
    return told if clusters is None else f"{told} in {how_many(clusters, 'cluster')}"


def _nfr(part: Part, figures: Figures) -> Words:
    estimate, interval, bound = figures.texts(PERCENT)
    verb = "lowers" if part.has_scores else "breaks"
    fact = f"the update {verb} {part.coin.negative:,} of {_all(part)}, {estimate} %{interval}"
    return Words(fact, f"at most {bound} %", f"more than {bound} %", f"at most {bound} %")


def _balanced(part: Part, figures: Figures) -> Words:
    estimate, interval, bound = figures.texts(PERCENT)
    classes = classes_of(part.comparison)
    fact = f"the update breaks {estimate} %{interval} of {len(classes or ()):,} classes, each counting the same"
    fact += f" ({part.coin.negative:,} of {_all(part)})"
    return Words(fact, f"at most {bound} %", f"more than {bound} %", f"at most {bound} %")


def _relative(part: Part, figures: Figures) -> Words:
    estimate, interval, bound = figures.texts(PLAIN)
    fact = f"relative NFR {estimate}{interval} of {_all(part)} ({part.coin.negative:,} broken)"
    return Words(fact, f"at most {bound}", f"more than {bound}", f"at most {bound}")


def _regression(part: Part, figures: Figures) -> Words:
    estimate, interval, bound = figures.texts(PLAIN)
    fact = f"the update lowers {part.coin.negative:,} of {_all(part)}, by {estimate}{interval} on average"
    return Words(fact, f"at most {bound}", f"more than {bound}", f"at most {bound}")


def _change(part: Part, figures: Figures) -> Words:
    return _moved(part, figures, _unit_of_change(part))


def _change_by_share(part: Part, figures: Figures) -> Words:
    return _moved(part, figures, PERCENT, " of what it was")


def _moved(part: Part, figures: Figures, unit: Unit, of_what: str = "") -> Words:
    falls, bound = figures.estimate < 0, figures.bound
    estimate, interval, _ = (figures.negated() if falls else figures).texts(unit)
    *_, size = Figures(*figures[:3], abs(bound)).texts(unit)
    size += (" point" if unit is POINTS and size == "1" else unit.name) + of_what
    what, down, up = (f"mean {part.metric}", "fell", "rose") if part.has_scores else ("accuracy", "broken", "repaired")
    verb = "falls by" if falls else "rises by" if figures.estimate else "changes by"
    moved = f"{verb} {estimate}{unit.name}{of_what}{interval}"
    if math.isnan(figures.estimate):
        moved = "changes by no share of what it was, which is 0,"
    fact = f"{what} {moved} on {_all(part)} "
    fact += f"({part.coin.negative:,} {down}, {part.coin.positive:,} {up})"
    if bound < 0:
        asked = f"by at most {size}" if falls else f"it falls by more than {size}"
        return Words(fact, f"no fall of more than {size}", f"a fall of more than {size}", asked)
    if not bound:
        return Words(fact, "no fall", "a fall", "it falls")
    return Words(fact, f"a rise of {size} or more", f"no rise of {size}", f"it rises by {size}")


def _evidence(part: Part, figures: Figures) -> Words:
    flips = part.evidence
    of_all = how_many(flips.n, "flip" if part.comparison.clusters is None else "cluster")
    of_all += "" if part.comparison.clusters is None else " that changed"
    fact = f"{flips.negative:,} of {of_all} {'is' if flips.negative == 1 else 'are'} negative, Bayes factor "
    fact += f"{bayes_factor(flips)} against a neutral update, prior {flips.prior_text}"
    broken, kept = "stop: the update breaks more than it repairs", "stop: it repairs more than it breaks"
    return Words(fact, kept, broken, "it changes anything: go on")


def _bias(part: Part, figures: Figures) -> Words:
    size, _, bound = figures.texts(BIAS)
    answers = part.yes_no
    moved = "" if answers is None or not answers.shift else f" towards {'no' if answers.shift > 0 else 'yes'}"
    fact = f"the bias of yes/no answers is undefined on {_all(part)}"
    if answers is not None and not math.isnan(answers.shift):
        _, interval, _ = figures.texts(BIAS)
        fact = f"the bias of {_all(part)} moved by {size}{interval}{moved}"
        fact += f" ({answers.old.bias:+z.3f} -> {answers.new.bias:+z.3f})"
    return Words(fact, f"by at most {bound}", f"by more than {bound}", f"by at most {bound}")


def _unit_of_change(part: Part) -> Unit:
    return PLAIN if part.has_scores else POINTS


def _flip_rates(part: Part) -> tuple[float, float]:
    return part.comparison.negative_flip_rate, part.comparison.positive_flip_rate


def _nfr_without_a_flip(part: Part, bound: float, level: float) -> float:
    if bound < 1 / MOST_QUESTIONS:
        return math.inf
    return questions_without_a_flip(bound, level) or 0


def _fall_without_a_flip(part: Part, bound: float, level: float) -> float:
    # Of scores nobody knows how far one could have fallen, and a rise has to be seen.
    return 0 if part.has_scores or bound >= 0 else _nfr_without_a_flip(part, -bound, level)


def _relative_without_a_flip(part: Part, bound: float, level: float) -> float:
    """Keep the shares of what was right before and of what is wrong now, as far as both can be without a flip."""
    counts = part.comparison.counts if isinstance(part.comparison, Comparison) else {}
    cells = [counts["both_right"] or 0, counts["positive_flips"] or 0, counts["both_wrong"] or 0]
    cells[0] += counts["negative_flips"] or 0

    def is_kept(n: int) -> bool:
        right, positive, wrong = (n * count / part.n for count in cells)
        return bool(right and wrong) and relative_interval((right, positive, 0, wrong), level)[1] <= bound

    return _fewest(part.n, is_kept)


def _share_without_a_flip(part: Part, bound: float, level: float) -> float:
    """Keep the share of what was right before; where a rise is asked for, it has to be seen."""
    right = part.comparison.old_accuracy if isinstance(part.comparison, Comparison) else 0.0

    def is_kept(n: int) -> bool:
        return relative_limits((n * right, 0, 0, n - n * right), level)[0] >= bound

    return _fewest(part.n, is_kept) if right and bound < 0 else 0


def _fewest(many: int, is_kept: Callable[[int], bool]) -> float:
    """Find the fewest instances that keep a bound."""
    few = 0
    while not is_kept(many):
        few, many = many, 2 * many
        if few > MOST_QUESTIONS:
            return math.inf
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if is_kept(middle) else (middle, many)
    return many


STOP_AT = "stop_at"
"""No rate, but how strong the evidence has to be, on either side, so that an evaluation may stop."""

RATES = {
    "max_nfr": Kind(
        "negative_flip_rate",
        "negative_flip_rate",
        0,
        1,
        "a rate from 0 to 1, such as 0.02 for 2 % of all instances",
        "NFR",
        "NFR",
        _nfr,
        lambda part: PERCENT,
        without_a_flip=_nfr_without_a_flip,
        settling=lambda part, bound, level: questions_for_share(_flip_rates(part)[0], bound, level=level, power=POWER),
    ),
    "max_balanced_nfr": Kind(
        "balanced_negative_flip_rate",
        None,
        0,
        1,
        "a rate from 0 to 1, such as 0.05 for 5 % of each class on average",
        "balanced NFR",
        "",
        _balanced,
        lambda part: PERCENT,
        of_classes=True,
    ),
    "max_relative_nfr": Kind(
        "relative_negative_flip_rate",
        None,
        0,
        math.inf,
        "a ratio from 0 up, such as 0.5",
        "relative NFR",
        "",
        _relative,
        lambda part: PLAIN,
        without_a_flip=_relative_without_a_flip,
    ),
    "max_regression": Kind(
        None,
        "mean_regression",
        0,
        math.inf,
        "a size of falls from 0 up in the unit of the score, such as 0.1",
        "",
        "mean regression",
        _regression,
        lambda part: PLAIN,
    ),
    "min_accuracy_change": Kind(
        "accuracy_change",
        "mean_change",
        -math.inf,
        math.inf,
        "a change, such as -0.01 for one point of accuracy less",
        "change of accuracy",
        "mean change",
        _change,
        _unit_of_change,
        is_highest=False,
        without_a_flip=_fall_without_a_flip,
        settling=lambda part, bound, level: questions_for_change(*_flip_rates(part), bound, level=level, power=POWER),
    ),
    "min_relative_accuracy_change": Kind(
        "relative_accuracy_change",
        None,
        -1,
        math.inf,
        "a change as a share of the old accuracy, such as -0.02 for 2 % less",
        "change of accuracy, relative",
        "",
        _change_by_share,
        lambda part: PERCENT,
        is_highest=False,
        without_a_flip=_share_without_a_flip,
    ),
    "max_bias_shift": Kind(
        "shift_size",
        "shift_size",
        0,
        2,
        "a size from 0 to 2, such as 0.1, by which the bias of yes/no answers may move to either side",
        "shift of bias",
        "shift of bias",
        _bias,
        lambda part: BIAS,
        of_yes_no=True,
    ),
    STOP_AT: Kind(
        "p_value",
        "p_value",
        math.nextafter(1, 2),
        math.inf,
        "a Bayes factor above 1, such as 20, which at most 1 in 20 neutral updates ever reaches",
        "Bayes factor",
        "Bayes factor",
        _evidence,
        lambda part: PLAIN,
        is_highest=False,
    ),
}
"""What can be bounded, by the name of the option."""
