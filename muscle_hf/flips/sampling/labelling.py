"""Which way does an update go, from a few labels on the answers that it changed?

Accuracy changes only where the versions disagree, and how many rows that are is known without any label. So rows are
drawn among these, and the intervals are about those that are not labelled: they are of this very list of rows, and
close up when all its disagreements are labelled. `benchmarks/labelling.py` measures how often 25 such labels tell the
direction, and how often 25 on rows drawn from all.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from ...errors import InputError
from ...text import how_many
from ..inputs import check_level
from ..intervals import normal_quantile
from ..rates import p_equation, quotient, strict_json
from .finite_population import lowest_difference, share_limits

BETTER, WORSE, NO_CHANGE, CANNOT_TELL = "better", "worse", "no change", "cannot tell"
"""What labels may say."""

SCHEMA_VERSION = 1
# With this probability so many labels as are proposed tell the direction, if the others are as those that there are.
_POWER = 0.8


class Estimated(NamedTuple):
    """A rate of the whole list as the labels have it, nan without any, with its interval."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float | list[float]]:
        """Give everything as a dictionary of plain Python values."""
        return {"estimate": self.value, "interval": [self.low, self.high]}


@dataclass(frozen=True)
class Labelled:
    """What labels on some disagreements say of all answers; made by `from_labels`. `print` shows it in sentences."""

    total: int
    """Answers of either version."""
    disagreements: int
    """Those in which the versions differ."""
    old_right: int
    """Labelled ones of which the old answer alone is right: negative flips."""
    new_right: int
    """Those of which the new one alone is: positive flips."""
    unchanged: int
    """Those of which neither is, or both are."""
    skipped: int
    """Those that were drawn before the last labelled one, and have no label."""
    level: float
    negative_flip_rate: Estimated
    positive_flip_rate: Estimated
    accuracy_change: Estimated
    p_value: float
    """The chance, at most, that labels point so far in either direction, did accuracy not move that way."""
    more_labels: int | None
    """About so many more would tell the direction; None where it is told, or as many flips go either way."""

    @property
    def labelled(self) -> int:
        """How many labels there are."""
        return self.old_right + self.new_right + self.unchanged

    @property
    def verdict(self) -> str:
        """Say "better", "worse", "no change" (which only all labels can show) or "cannot tell"."""
        _, low, high = self.accuracy_change
        if low > 0 or high < 0:
            return BETTER if low > 0 else WORSE
        return NO_CHANGE if low == high else CANNOT_TELL

    def to_dict(self) -> dict[str, Any]:
        """Give everything as a dictionary of plain Python values; undefined numbers are nan."""
        rates = ("negative_flip_rate", "positive_flip_rate", "accuracy_change")
        return {
            "schema": "muscle_hf.labelled",
            "schema_version": SCHEMA_VERSION,
            "verdict": self.verdict,
            "labelled": self.labelled,
            **{name: value.to_dict() if name in rates else value for name, value in vars(self).items()},
        }

    def to_json(self, *, indent: int | None = None) -> str:
        """Give `to_dict` as JSON, with null for what is undefined."""
        return strict_json(self.to_dict(), indent=indent)

    def __str__(self) -> str:
        """Say what the labels are, what they say of all answers, and which way the update goes."""
        lines = [
            f"{how_many(self.labelled, 'label')} on {self.disagreements:,} disagreements: old answer right "
            f"{self.old_right:,}, new answer right {self.new_right:,}, neither or both {self.unchanged:,}",
        ]
        if self.skipped:
            have = "has" if self.skipped == 1 else "have"
            lines.append(
                f"{how_many(self.skipped, 'row')} before the last labelled one {have} no label: the intervals hold "
                "whatever is right there, and are narrower with labels"
            )
        rows = [
            ("NFR ↓", self.negative_flip_rate, "", "%"),
            ("PFR ↑", self.positive_flip_rate, "", "%"),
            ("change of accuracy ↑", self.accuracy_change, "+", "points"),
        ]
        for name, (value, low, high), sign, unit in rows:
            shown = "undefined" if math.isnan(value) else f"{_percent(value, sign)} {unit}"
            lines.append(f"{name:20}  {shown:>12}  [{_percent(low, sign)}, {_percent(high, sign)}]")
        return "\n".join([*lines, self._sentence()])

    def _sentence(self) -> str:
        _, low, high = self.accuracy_change
        if not self.disagreements:
            return "No change: both versions give the same answers."
        if low == high:
            told = f"{_percent(abs(low))} points. All disagreements are labelled, so nothing is left to chance."
            if self.verdict == NO_CHANGE:
                return "No change: as many answers break as are repaired. All disagreements are labelled."
            return f"{self.verdict.capitalize()}: accuracy {'rises' if low > 0 else 'falls'} by {told}"
        chance = f"{100 * self.level:g} % interval, {p_equation(self.p_value)}"
        if self.verdict != CANNOT_TELL:
            least, most = sorted((abs(low), abs(high)))
            way = "rises" if low > 0 else "falls"
            size = f"{_percent(least)} to {_percent(most)} points"
            return f"{self.verdict.capitalize()}: accuracy {way} by {size} ({chance})."
        if not self.labelled:
            return "Cannot tell: there are no labels yet."
        cannot = f"Cannot tell whether accuracy falls or rises ({chance})."
        if self.more_labels is None:
            return f"{cannot} As many labels say either, so how many more would tell is not known."
        return f"{cannot} About {how_many(self.more_labels, 'more label')} would tell, if they are as these."


def _percent(share: float, sign: str = "") -> str:
    """Write a share in percent, or a change in points, with as many digits as it takes to be seen."""
    digits = 1 if not share or abs(share) >= 0.001 else 1 - math.floor(math.log10(abs(100 * share)))
    return f"{100 * share:{sign or '-'}z.{digits}f}"


def from_labels(
    *,
    total: int,
    disagreements: int,
    old_right: int,
    new_right: int,
    unchanged: int,
    skipped: int = 0,
    level: float = 0.95,
) -> Labelled:
    """Say which way an update goes, from labels on disagreements that were drawn at random without replacement.

    Args:
        total: How many answers there are of either version.
        disagreements: In how many of them the versions differ; nobody has to know who is right.
        old_right: Of the drawn ones, those of which the old answer alone is right.
        new_right: Those of which the new answer alone is right.
        unchanged: Those of which neither is right, or both are.
        skipped: Those that were drawn and have no label; the intervals hold whatever is right there.
        level: Level of the intervals, each for itself.

    Returns:
        Negative and positive flip rate and change of accuracy on all answers, with exact intervals: Clopper and
        Pearson's for draws without replacement, and Buehler's (1957) for the change. The p-value is twice that of
        Suissa and Shuster's exact unconditional test (1991), and 1 - level or less just where 0 lies outside.

    Raises:
        InputError: Counts that are none, or more labels than disagreements.

    Example:
        >>> from muscle_hf.flips.sampling.labelling import from_labels
        >>> result = from_labels(total=2000, disagreements=300, old_right=2, new_right=12, unchanged=11)
        >>> result.verdict, round(result.accuracy_change.value, 3)
        ('better', 0.06)
    """
    check_level(level)
    counts = {
        "total": total,
        "disagreements": disagreements,
        "old_right": old_right,
        "new_right": new_right,
        "unchanged": unchanged,
        "skipped": skipped,
    }
    for name, value in counts.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise InputError(f"{name} is {value!r}, but must be a count.")
    drawn = old_right + new_right + unchanged + skipped
    if not drawn <= disagreements <= total or not total:
        raise InputError(
            f"{drawn} labelled or skipped of {disagreements} disagreements of {total} answers: each must be among the "
            "next, and there must be answers."
        )
    labelled = drawn - skipped
    if drawn:
        ends = {
            name: (
                share_limits(count, drawn, disagreements, level)[0],
                share_limits(count + skipped, drawn, disagreements, level)[1],
            )
            for name, count in (("old", old_right), ("new", new_right))
        }
        # What was skipped speaks against either direction.
        against = (new_right, old_right + skipped), (old_right, new_right + skipped)
        up, down = (lowest_difference(*sides, drawn, disagreements, level) for sides in against)
        change, p_value = (up.difference, -down.difference), min(1.0, 2 * min(up.chance, down.chance))
    else:
        ends = dict.fromkeys(("old", "new"), (0, disagreements))
        change, p_value = (-disagreements, disagreements), 1.0

    def rate(count: int, low: int, high: int) -> Estimated:
        value = quotient(count * disagreements, labelled * total) if disagreements else 0.0
        return Estimated(value, low / total, high / total)

    result = Labelled(
        **counts,
        level=level,
        negative_flip_rate=rate(old_right, *ends["old"]),
        positive_flip_rate=rate(new_right, *ends["new"]),
        accuracy_change=rate(new_right - old_right, *change),
        p_value=p_value,
        more_labels=None,
    )
    if result.verdict != CANNOT_TELL or not labelled or old_right == new_right:
        return result
    return replace(result, more_labels=_more(old_right, new_right, labelled, disagreements, level))


def _more(old_right: int, new_right: int, labelled: int, disagreements: int, level: float) -> int:
    """Say about how many more labels tell the direction, if what is not labelled is as what is."""
    difference = (new_right - old_right) / labelled
    spread = (old_right + new_right) / labelled - difference**2
    # Of an endless list; of this one, the more are labelled the less is left to chance.
    needed = spread * ((normal_quantile(level) + normal_quantile(2 * _POWER - 1)) / difference) ** 2
    # However clear they are: so many of one direction no coin gives in a row.
    needed = max(needed, math.ceil(math.log2(2 / (1 - level))) * labelled / (old_right + new_right))
    needed = needed * disagreements / (needed + disagreements - 1)
    return min(max(1, math.ceil(needed) - labelled), disagreements - labelled)
