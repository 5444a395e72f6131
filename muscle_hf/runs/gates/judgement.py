"""A row held to a bound: kept, broken, or cannot tell, and how many questions would.

Each claim errs in at most (1 - level) / 2 of cases (`decision_interval`). Several rows under one bound are a family:
that any of them is wrongly said to break it is no more probable than that (Holm 1979). That all of them are kept needs
no such correction, since each must be shown to be (Berger 1982).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ...flips.intervals import normal_quantile
from ...flips.planning.sample_size import MOST_QUESTIONS
from ...flips.planning.stopping import stopping_verdict
from ...text import how_many, printable
from ..measure import Part
from ..report import bayes_factor
from .bounds import Bound
from .kinds import POWER, RATES, STOP_AT, Figures

REFUSED, BROKEN, CANNOT_TELL, KEPT = "refused", "broken", "cannot tell", "kept"
VERDICTS = (REFUSED, BROKEN, CANNOT_TELL, KEPT)
"""From worst to best."""
# An interval of a share that is so wide has all that a share can be.
_ALL = 1 - 1e-6
_FEW_CLUSTERS = "nearly all answers are in one cluster, which says nothing of how much clusters differ"


@dataclass(frozen=True)
class Judgement:
    """A row held to a bound; made by `judge`."""

    bound: Bound
    row: str
    """The row as a gate calls it: "all", a task, or "column=value"."""
    verdict: str
    """"kept", "broken" or "cannot tell"; or "refused", where the comparison is no evidence."""
    estimate: float
    low: float
    """The interval that the verdict is made from, at the level of the comparison; nan where there is none."""
    high: float
    n: int
    """How many instances the row has."""
    message: str
    """One line with all of it."""
    family: int = 1
    """How many rows the bound was held to."""
    adjusted_level: float = math.nan
    """Level of the interval that shows the bound to be broken, adjusted for the family; nan where none does."""
    questions_needed: int | None = None
    """Where it cannot be told, how many questions like these would settle it, `POWER` of the time; None where no
    number would, nor where nobody knows."""
    cells: tuple[str, ...] = field(default=(), repr=False)
    """Its row of the table in `Gate.shown`, but for the verdict."""

    def to_dict(self) -> dict[str, Any]:
        """Give what `muscle_hf/run_comparison.schema.json` describes, as plain Python values; undefined is nan."""
        return {
            "row": self.row,
            "rate": self.bound.rate,
            "bound": float(self.bound.value),
            "source": str(self.bound),
            "estimate": self.estimate,
            "low": self.low,
            "high": self.high,
            "n": self.n,
            "family": self.family,
            "adjusted_level": self.adjusted_level,
            "tier": self.bound.tier,
            "owner": self.bound.owner,
            "reason": self.bound.reason,
            "verdict": self.verdict,
            "questions_needed": self.questions_needed,
            "message": self.message,
        }


def hold(bound: Bound, rows: Sequence[tuple[str, Part]], level: float, gate_on: str) -> list[Judgement]:
    """Hold rows that have its rate, by the names that a gate calls them, to a bound."""
    judged = _hold(bound, rows, level, gate_on)
    return [
        _at_worst(judgement, part, level, gate_on) if part.harness_errors and judgement.verdict == KEPT else judgement
        for (_, part), judgement in zip(rows, judged, strict=True)
    ]


def _hold(bound: Bound, rows: Sequence[tuple[str, Part]], level: float, gate_on: str) -> list[Judgement]:
    if bound.rate == STOP_AT:
        return [_by_bayes_factor(bound, *row, len(rows)) for row in rows]
    figures = [_figures(bound, part, level) for _, part in rows]
    if gate_on == "estimate":
        return [_by_estimate(bound, *row, measured) for row, measured in zip(rows, figures, strict=True)]
    claims = _broken(bound, [part for _, part in rows], figures, level)
    return [
        _by_interval(bound, *row, measured, level, len(rows), claim)
        for row, measured, claim in zip(rows, figures, claims, strict=True)
    ]


def _at_worst(judged: Judgement, part: Part, level: float, gate_on: str) -> Judgement:
    """Keep that a bound is kept only where it were, had the harness not failed and the update broken what it lacks."""
    errors = f"{how_many(part.harness_errors, 'error')} of the harness"
    kind = RATES[judged.bound.rate]
    if kind.of_classes:
        told = f"cannot tell for {errors}, of whose classes nobody knows"
    elif part.worst_case is None or kind.of_yes_no:
        told = f"cannot tell for {errors}, whose scores nobody knows"
    else:
        worst = Part.of(part.name, part.metric, part.worst_case, level=level, prior=part.coin.prior)
        (held,) = _hold(judged.bound, [(judged.row, worst)], level, gate_on)
        if held.verdict == KEPT:
            return judged
        told = f"but cannot tell for {errors}: at worst {held.message.removeprefix(printable(judged.row) + ': ')}"
    return replace(judged, verdict=CANNOT_TELL, message=f"{judged.message}; {told}", questions_needed=None)


def _figures(bound: Bound, part: Part, level: float) -> Figures:
    kind = RATES[bound.rate]
    name, result = kind.rate(part) or "", kind.result(part)
    return Figures(getattr(result, name), *result.decision_interval(name, level), bound.value)


def _is_broken(bound: Bound, figures: Figures) -> bool:
    kind = RATES[bound.rate]
    return kind.is_beyond(figures.low if kind.is_highest else figures.high, bound.value)


def _broken(bound: Bound, parts: Sequence[Part], figures: Sequence[Figures], level: float) -> list[float]:
    """Give for each row the level, adjusted by Holm's method, at which its interval shows the bound to be broken.

    It is 0 where only the interval at the level itself does, and nan where not even that does.
    """
    claimed = [0.0 if _is_broken(bound, measured) else math.nan for measured in figures]
    while True:
        # Of m rows the first are tested at 1/m of the rate of errors; where k are found, the others at 1/(m - k).
        others = sum(not value for value in claimed) + sum(map(math.isnan, claimed))
        stricter = 1 - (1 - level) / max(others, 1)
        found = [
            place
            for place, value in enumerate(claimed)
            if not value and _is_broken(bound, _figures(bound, parts[place], stricter))
        ]
        if not found:
            return claimed
        for place in found:
            claimed[place] = stricter


def _by_estimate(bound: Bound, row: str, part: Part, figures: Figures) -> Judgement:
    kind = RATES[bound.rate]
    if math.isnan(figures.estimate):
        return _undefined(bound, row, part, figures)
    words = kind.words(part, Figures(figures.estimate, math.nan, math.nan, figures.bound))
    verdict = BROKEN if kind.is_beyond(figures.estimate, bound.value) else KEPT
    claim = words.broken if verdict == BROKEN else words.kept
    return _judgement(bound, row, part, figures, verdict, f"{words.fact}: {verdict} by the estimate, {claim}")


def _by_interval(
    bound: Bound, row: str, part: Part, figures: Figures, level: float, family: int, claim: float
) -> Judgement:
    kind = RATES[bound.rate]
    if math.isnan(figures.low):
        return replace(_undefined(bound, row, part, figures), family=family)
    words = kind.words(part, figures)
    if claim > 0:
        told = f"{words.fact}: broken, {words.broken}"
        return _judgement(bound, row, part, figures, BROKEN, told, family=family, adjusted_level=claim)
    if not kind.is_beyond(figures.high if kind.is_highest else figures.low, bound.value):
        return _judgement(bound, row, part, figures, KEPT, f"{words.fact}: kept, {words.kept}", family=family)
    needed, why = _needed(bound, part, figures, level, family)
    if not math.isnan(claim):
        why = f"broken for itself, but not after Holm's correction for the {family} rows of the bound; {why}"
    told = f"{words.fact}: cannot tell whether {words.asked}"
    return _judgement(bound, row, part, figures, CANNOT_TELL, told, why, family=family, questions_needed=needed)


def _by_bayes_factor(bound: Bound, row: str, part: Part, family: int) -> Judgement:
    """Say whether an evaluation that is looked at while it grows may stop; see `flips.stopping`."""
    flips = part.evidence
    factor = flips.bayes_factor if math.isfinite(flips.bayes_factor) else math.nan
    figures = Figures(factor, math.nan, math.nan, bound.value)
    words = RATES[bound.rate].words(part, figures)
    verdict = stopping_verdict(flips, bound.value)
    if verdict == CANNOT_TELL:
        return _judgement(
            bound, row, part, figures, verdict, f"{words.fact}: cannot tell whether {words.asked}", family=family
        )
    # Of several rows any may reach it: that one wrongly does is no more probable, if it takes so many times as much.
    if verdict == BROKEN and stopping_verdict(flips, family * bound.value) != BROKEN:
        why = f"broken for itself, but of {family} rows it takes a Bayes factor of {family * bound.value:g}"
        told = f"{words.fact}: cannot tell whether {words.asked}"
        return _judgement(bound, row, part, figures, CANNOT_TELL, told, why, family=family)
    claim = words.broken if verdict == BROKEN else words.kept
    return _judgement(bound, row, part, figures, verdict, f"{words.fact}: {verdict}, {claim}", family=family)


def _undefined(bound: Bound, row: str, part: Part, figures: Figures) -> Judgement:
    """Judge a rate that is undefined, or has no interval."""
    if RATES[bound.rate].of_yes_no and part.yes_no is not None:
        fact = RATES[bound.rate].words(part, figures).fact
        return _judgement(bound, row, part, figures, CANNOT_TELL, f"{fact}: cannot tell, {part.yes_no.undefined}")
    fact = RATES[bound.rate].words(part, figures).fact
    nothing = RATES[bound.rate].nothing_can_flip(part) if math.isnan(figures.estimate) else None
    if nothing:
        return _judgement(bound, row, part, figures, KEPT, f"{fact}: kept, {nothing}")
    why = "the mean of a single value has no interval"
    if part.comparison.clusters is not None:
        why = _FEW_CLUSTERS
    if math.isnan(figures.estimate):
        why = "the old model is right on nothing, so that nothing could break"
    return _judgement(bound, row, part, figures, CANNOT_TELL, f"{fact}: cannot tell, {why}")


def _judgement(
    bound: Bound, row: str, part: Part, figures: Figures, verdict: str, told: str, why: str = "", **more: Any
) -> Judgement:
    kind = RATES[bound.rate]
    unit = kind.unit(part)
    estimate, interval, limit = figures.texts(unit)
    value = estimate if math.isnan(figures.estimate) else f"{estimate}{unit.name}{interval}"
    if bound.rate == STOP_AT and math.isnan(figures.estimate):  # more than a float holds
        value = bayes_factor(part.evidence)
    cells = (
        (kind.title_of_scores if part.has_scores else kind.title),
        value,
        f"{'≤' if kind.is_highest else '≥'} {limit}{unit.name}",
    )
    message = printable(f"{row}: {told} ({bound}{bound.asked})" + (f"; {why}" if why else ""))
    estimate_, low, high, _ = figures
    return Judgement(bound, row, verdict, estimate_, low, high, part.n, message, cells=cells, **more)


# How many questions --------------------------------------------------------------------------------------------------


def _needed(bound: Bound, part: Part, figures: Figures, level: float, family: int) -> tuple[int | None, str]:
    """Say how many questions like these settle what cannot be told, and in words; None where no number does."""
    kind, clustered = RATES[bound.rate], part.comparison.clusters is not None
    if clustered:
        least_rate, most_rate = part.comparison.decision_interval("negative_flip_rate", level)
        if not most_rate - least_rate < _ALL:
            return None, f"{_FEW_CLUSTERS}, so nobody knows how many questions would settle it"
    # Only what is said to be broken is adjusted for the other rows.
    stricter = 1 - (1 - level) / family if kind.is_beyond(figures.estimate, bound.value) else level
    settling = _settling(bound, part, figures if stricter == level else _figures(bound, part, stricter), stricter)
    about = "about "
    # The exact number of a change takes half a second, which is too long for many rows; and more beyond a million, and
    # for bounds of a hundredth of a point.
    is_long = family > 1 or (settling or math.inf) > 1e6 or 0 < abs(bound.value) < 1e-4
    if kind.settling and not (clustered or part.has_scores or is_long):
        settling, about = kind.settling(part, bound.value, stricter), ""
    would = (
        f"{about}{how_many(settling, 'question')} like these would settle it ({100 * POWER:.0f} % of the time)"
        if settling
        else ""
    )
    least = 0 if clustered else kind.without_a_flip(part, bound.value, level)
    if least <= part.n:
        return settling, would or "no number of questions like these would settle it"
    few, can_rise = how_many(part.n, "question"), not kind.is_highest
    told = f"this bound cannot be met with {few} even without a flip: "
    if can_rise:
        told = f"with {few} only an update that repairs more than it breaks can meet this bound; without a flip "
    if math.isinf(least):
        return None, f"{told}no number is enough"
    told += f"{least:,} {'is' if least == 1 else 'are'} needed"
    if not part.coin.n or not settling or (settling <= least and not can_rise):
        return int(least), told
    return settling, f"{told}, and {would}"


def _settling(bound: Bound, part: Part, figures: Figures, level: float) -> int | None:
    """Estimate the number of rows like these that settle a bound, by how far its interval reaches; to three digits."""
    distance = abs(figures.estimate - bound.value)
    reach = abs((figures.high if figures.estimate < bound.value else figures.low) - figures.estimate)
    if not reach < MOST_QUESTIONS * distance:
        return None
    power = normal_quantile(2 * POWER - 1)
    needed = part.n * (reach / distance * (1 + power / normal_quantile(level))) ** 2
    unit = 10 ** max(0, math.floor(math.log10(needed)) - 2)
    return None if needed > MOST_QUESTIONS else math.ceil(needed / unit) * unit
