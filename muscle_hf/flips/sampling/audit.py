"""Negative flips of which a person checked some: how many did the model make, and how many the grader?

Flips are cut into one or two strata, and drawn from each at random without replacement, so that the chance of each to
be drawn is known: of the h-th stratum n_h / N_h. With k_h real ones among those drawn, the estimate

    sum_h N_h k_h / n_h

is Horvitz and Thompson's (1952), unbiased however the strata were made. The interval of these very answers is exact:
it has every count of real flips that some strata with as many might give (`strata.lowest_total`).
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass
from typing import Any

from ...errors import InputError
from ...text import how_many
from ..inputs import check_level
from ..intervals import Interval, wilson
from ..rates import quotient, strict_json
from .labelling import Estimated
from .strata import lowest_total

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Stratum:
    """Negative flips that had the same chance to be drawn, and what came of those that were."""

    size: int
    """How many there are."""
    broken: int
    """Checked ones of which the new answer is in fact wrong: the update broke them."""
    graders: int
    """Checked ones of which the new answer is in fact right: the grader made them."""
    skipped: int = 0
    """Drawn ones without a verdict; the interval holds whatever they are."""

    @property
    def drawn(self) -> int:
        """How many were drawn."""
        return self.broken + self.graders + self.skipped

    @property
    def checked(self) -> int:
        """How many have a verdict."""
        return self.broken + self.graders

    @property
    def probability(self) -> float:
        """The chance of each to be drawn."""
        return quotient(self.drawn, self.size)


@dataclass(frozen=True)
class AuditedRate:
    """A negative flip rate, corrected by what a person checked; made by `audited_rate`. `print` shows it in words."""

    n: int
    """Answers of either version."""
    strata: tuple[Stratum, ...]
    """The negative flips as they were drawn, the likeliest mistakes of the grader first."""
    level: float
    """Level of all intervals."""
    negative_flip_rate: Estimated
    """Flips that are real among all answers, with the exact interval for these very answers; it closes up when all
    flips are checked."""
    graders_share: Estimated
    """The share of the negative flips that the grader made."""
    independent: bool = True
    """Whether answers are independent; of answers in clusters no interval for other questions is known."""

    @property
    def negative_flips(self) -> int:
        """Negative flips as they are marked."""
        return sum(stratum.size for stratum in self.strata)

    @property
    def marked_rate(self) -> float:
        """The negative flip rate as it is marked."""
        return self.negative_flips / self.n

    @property
    def checked(self) -> int:
        """Flips with a verdict."""
        return sum(stratum.checked for stratum in self.strata)

    def confidence_interval(self, name: str = "negative_flip_rate", level: float | None = None) -> Interval:
        """Bound the corrected rate of all questions like these, not of these very answers alone.

        To what was not checked comes what the choice of the questions leaves open: the distances of Wilson's bounds
        from the estimate, of the rate and of the share of real flips in each stratum (there for draws without
        replacement), are combined by their squares (MOVER, Zou and Donner 2008). Near its level on average, as
        `Comparison.confidence_interval`, where the interval of `negative_flip_rate` is never below it.

        Args:
            name: "negative_flip_rate".
            level: Its level, by default that of the audit.

        Returns:
            The bounds; nan where answers stand in clusters, or a stratum has nothing checked.

        Raises:
            InputError: Another rate, or a level that is none.

        Example:
            >>> from muscle_hf.flips.sampling.audit import Stratum, from_verdicts
            >>> audit = from_verdicts(n=50, strata=[Stratum(21, broken=0, graders=8), Stratum(2, broken=2, graders=0)])
            >>> low, high = audit.confidence_interval()
            >>> f"{audit.negative_flip_rate.value:.2f} ({low:.3f} to {high:.3f})"
            '0.04 (0.011 to 0.178)'
        """
        if name != "negative_flip_rate":
            raise InputError(f"an audit corrects the negative_flip_rate alone, and has no {name!r}.")
        level = self.level if level is None else level
        check_level(level)
        value = self.negative_flip_rate.value
        if math.isnan(value) or not self.independent:
            return math.nan, math.nan
        least, most = wilson(value * self.n, self.n, level)
        down, up = [value - least], [most - value]
        for stratum in filter(lambda part: part.size, self.strata):
            share = stratum.broken / stratum.checked
            low, high = _share_interval(stratum, level)
            down.append((share - low) * stratum.size / self.n)
            up.append((high - share) * stratum.size / self.n)
        return max(0.0, value - math.hypot(*down)), min(1.0, value + math.hypot(*up))

    def to_dict(self) -> dict[str, Any]:
        """Give everything as a dictionary of plain Python values; undefined numbers are nan."""
        return {
            "schema": "muscle_hf.audit",
            "schema_version": SCHEMA_VERSION,
            "n": self.n,
            "negative_flips": self.negative_flips,
            "checked": self.checked,
            "level": self.level,
            "marked_negative_flip_rate": self.marked_rate,
            "negative_flip_rate": self.negative_flip_rate.to_dict()
            | {"interval_of_questions": list(self.confidence_interval())},
            "graders_share": self.graders_share.to_dict(),
            "strata": [asdict(stratum) | {"probability": stratum.probability} for stratum in self.strata],
        }

    def to_json(self, *, indent: int | None = None) -> str:
        """Give `to_dict` as JSON, with null for what is undefined."""
        return strict_json(self.to_dict(), indent=indent)

    @property
    def lines(self) -> list[str]:
        """Say what was checked and found, and what that makes of the rate."""
        broken, graders = (sum(getattr(stratum, name) for stratum in self.strata) for name in ("broken", "graders"))
        skipped = sum(stratum.skipped for stratum in self.strata)
        told = [
            f"{how_many(self.checked, 'verdict')} on {how_many(self.negative_flips, 'negative flip')}: {graders:,} "
            f"made by the grader, {broken:,} by the update"
            + (f"; {skipped:,} drawn and without a verdict" if skipped else "")
        ]
        if len(self.strata) > 1:
            told[0] += f" ({' and '.join(f'{item.drawn:,} drawn of {item.size:,}' for item in self.strata)})"
        value, low, high = self.negative_flip_rate
        bounds = f"[{100 * low:.1f}, {100 * high:.1f}]"
        shown = "undefined" if math.isnan(value) else f"{100 * value:.1f} %"
        told.append(f"audited NFR: {shown} of these answers {bounds}, marked {100 * self.marked_rate:.1f} %")
        least, most = self.confidence_interval()
        if not math.isnan(least):
            told.append(f"of other questions like these: [{100 * least:.1f}, {100 * most:.1f}]")
        told.append(
            "Corrected are the negative flips alone: what else may be marked wrongly (new answers marked right, old "
            "ones marked either way) is as the grader has it."
        )
        return told

    def __str__(self) -> str:
        """Say what was checked and found, and what that makes of the rate."""
        return "\n".join(self.lines)


def from_verdicts(*, n: int, strata: Sequence[Stratum], level: float = 0.95, independent: bool = True) -> AuditedRate:
    """Correct a negative flip rate by verdicts on flips that were drawn at random without replacement from strata.

    Args:
        n: How many answers there are of either version.
        strata: One or two, with all negative flips between them.
        level: Level of the interval.
        independent: Whether the answers are independent.

    Returns:
        The corrected rate. Where a stratum has nothing checked the estimate is nan, and the interval holds all that
        it may be.

    Raises:
        InputError: More or fewer strata, counts that are none, more drawn than there are.

    Example:
        >>> from muscle_hf.flips.sampling.audit import Stratum, from_verdicts
        >>> audit = from_verdicts(n=50, strata=[Stratum(21, broken=0, graders=8), Stratum(2, broken=2, graders=0)])
        >>> audit.negative_flip_rate
        Estimated(value=0.04, low=0.04, high=0.16)
    """
    check_level(level)
    if not 0 < len(strata) < 3:
        raise InputError(f"{len(strata)} strata were given; negative flips are drawn from one or two.")
    for stratum in strata:
        if any(not isinstance(count, int) or isinstance(count, bool) or count < 0 for count in astuple(stratum)):
            raise InputError(f"{stratum} holds something that is no count.")
        if stratum.drawn > stratum.size:
            raise InputError(f"{stratum}: {stratum.drawn} are drawn of {stratum.size}.")
    flips = sum(stratum.size for stratum in strata)
    if flips > n or n < 1:
        raise InputError(f"{flips} negative flips of {n} answers: there are more answers than flips.")
    kept = [stratum for stratum in strata if stratum.size] or [Stratum(0, 0, 0)]
    total = sum(quotient(stratum.size * stratum.broken, stratum.checked) if stratum.size else 0.0 for stratum in kept)
    sizes, drawn = [stratum.size for stratum in kept], [stratum.drawn for stratum in kept]
    low = lowest_total([stratum.broken for stratum in kept], drawn, sizes, level)
    high = flips - lowest_total([stratum.graders for stratum in kept], drawn, sizes, level)
    return AuditedRate(
        n,
        tuple(strata),
        level,
        Estimated(total / n, low / n, high / n),
        Estimated(quotient(flips - total, flips), quotient(flips - high, flips), quotient(flips - low, flips)),
        independent,
    )


def _share_interval(stratum: Stratum, level: float) -> Interval:
    """Bound the share of real flips in a stratum by Wilson's interval, for draws without replacement."""
    if stratum.size == stratum.drawn:
        ends = stratum.broken, stratum.broken + stratum.skipped
        return ends[0] / stratum.size, ends[1] / stratum.size
    # So many answers drawn with replacement leave as much open.
    drawn = stratum.drawn * (stratum.size - 1) / (stratum.size - stratum.drawn)
    low, high = (
        wilson(count * drawn / stratum.drawn, drawn, level)[side]
        for side, count in enumerate((stratum.broken, stratum.broken + stratum.skipped))
    )
    return low, high
