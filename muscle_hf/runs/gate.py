"""A gate for CI: hold a comparison of two model versions to bounds.

Every bound is checked: a row that has one of its own is held to that of "*" too. A rate exactly on a bound keeps it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..errors import InputError
from ..flips.comparison import Comparison
from ..flips.intervals import change_interval, relative_interval, wilson
from ..readers.identical import one_run
from ..readers.not_compared import incomplete, lost
from ..text import listed, printable, quote
from .bounds import GATE_ON, RATES, Bound, parse_bound, read_bounds
from .measure import Part
from .outcomes import Outcomes
from .report import GateShown

__all__ = ["GATE_ON", "RATES", "Bound", "Gate", "Judgement", "judge", "parse_bound", "read_bounds"]

REFUSED, BROKEN, TOO_FEW, KEPT = "refused", "broken", "too few rows", "kept"
# Beyond so many rows no evaluation is made longer.
_MOST_ROWS = 10**9


@dataclass(frozen=True)
class Judgement:
    """A row held to a bound; made by `judge`."""

    bound: Bound
    row: str
    """The row as a gate calls it: "all", a task, or "column=value"."""
    verdict: str
    """"kept" or "broken"; "too few rows", where so wide an interval could not keep the bound even without a negative
    flip; or "refused", where the comparison is no evidence."""
    estimate: float
    low: float
    """The interval at the level of the comparison; nan where there is none."""
    high: float
    n: int
    """How many instances the row has."""
    compared_value: float
    """What was held to the bound: the estimate or the worse end of the interval; nan where there is no interval."""
    message: str
    """One line with all of it."""
    rows_needed: int | None = None
    """Where the rows are too few, how many like these would do; None where no number would."""

    def to_dict(self) -> dict[str, Any]:
        """Give what `muscle_hf/run_comparison.schema.json` describes, as plain Python values.

        Returns:
            `row`; `bound`, the number; `rate`, the name of the bound; `value`, what was held to it; `estimate`,
            `low`, `high`, `n`, `verdict`, `rows_needed` and `message`. Undefined numbers are nan.
        """
        return {
            "row": self.row,
            "bound": float(self.bound.value),
            "rate": self.bound.rate,
            "value": self.compared_value,
            "estimate": self.estimate,
            "low": self.low,
            "high": self.high,
            "n": self.n,
            "verdict": self.verdict,
            "rows_needed": self.rows_needed,
            "message": self.message,
        }

    def cells(self) -> list[str]:
        """Give its row of the table in `Gate.shown`."""
        return [
            self.row,
            f"{self.verdict}, {self.rows_needed:,} needed" if self.rows_needed else self.verdict,
            RATES[self.bound.rate].title,
            "undefined" if math.isnan(self.compared_value) else f"{self.compared_value:z.4g}",
            f"{'≤' if self.bound.rate.startswith('max') else '≥'} {self.bound.value:g}",
        ]


@dataclass(frozen=True)
class Gate:
    """What came of holding a comparison to bounds; made by `judge`."""

    gate_on: str
    judgements: tuple[Judgement, ...]
    """Every row and bound, in the order of the bounds."""
    refusals: tuple[str, ...]
    """Why the comparison is no evidence, so that no bound is kept by it; empty where it is."""
    not_judged: tuple[str, ...] = ()
    """Tasks that no bound was held to, because they were not compared, which was accepted."""

    def of(self, verdict: str) -> list[Judgement]:
        """Give the judgements of a verdict."""
        return [judged for judged in self.judgements if judged.verdict == verdict]

    @property
    def verdict(self) -> str:
        """ "refused", "broken", "too few rows" or "kept": the first of these that holds."""
        if self.refusals:
            return REFUSED
        return next((verdict for verdict in (BROKEN, TOO_FEW) if self.of(verdict)), KEPT)

    def to_dict(self) -> dict[str, Any]:
        """Give what `muscle_hf/run_comparison.schema.json` describes, as plain Python values."""
        return {
            "gate_on": self.gate_on,
            "verdict": self.verdict,
            "refusals": list(self.refusals),
            "bounds": [judged.to_dict() for judged in self.judgements],
            "violations": [judged.to_dict() for judged in self.of(BROKEN)],
        }

    def shown(self) -> GateShown:
        """Give a heading and a table for reports: what is broken comes first."""
        count, held = len(self.judgements), {"estimate": "the estimate", "upper": "the worse end of the interval"}
        of_all = f"{len(self.of(self.verdict))} of {count} {'bound' if count == 1 else 'bounds'}"
        of_all += f", {held[self.gate_on]} held to {'it' if count == 1 else 'each'}"
        title, reason = {
            # The first sentences; reports say the rest elsewhere.
            REFUSED: ("Gate not passed", "; ".join(text.partition(". ")[0] for text in self.refusals)),
            BROKEN: ("Gate broken", of_all),
            TOO_FEW: ("Gate not passed", f"too few rows for {of_all}"),
            KEPT: ("Gate kept", of_all),
        }[self.verdict]
        if self.not_judged:
            reason += f"; not judged, because not compared: {listed(self.not_judged)}"
        head = ["row", "verdict", "rate", "value", "bound"]
        not_kept = [judged.cells() for verdict in (REFUSED, BROKEN, TOO_FEW) for judged in self.of(verdict)]
        return GateShown(
            self.verdict, title, printable(reason), head, not_kept, [judged.cells() for judged in self.of(KEPT)]
        )


def judge(outcomes: Outcomes, bounds: Sequence[Bound], *, gate_on: str = "estimate") -> Gate:
    """Hold a comparison to bounds, each of which is checked.

    Of score tasks, only "*" and their names speak: "all" is the one task, or the right and wrong answers of several.
    Relative NFR and mean regression are undefined only where nothing can flip or nothing fell: the bound holds. With
    `gate_on` "upper" it is the worse end of the interval that must keep the bound: a rate without interval then breaks
    it, and rows too few to keep it even without a negative flip are told.

    Nothing is judged, and the gate says why, where tasks were not compared, or old and new are one run, and the
    comparison did not allow for it.

    Raises:
        InputError: A row that is not there, a rate that a named row has not, or that none of the rows of a "*" has; a
            change of accuracy beyond -1 to 1; another word for `gate_on`.
    """
    if gate_on not in GATE_ON:
        raise InputError(f"gate_on is {quote(gate_on)}, but must be {' or '.join(GATE_ON)}.")
    refusals = []
    missing = {} if outcomes.allow_missing else lost(outcomes.not_compared)
    if missing:
        refusals.append(str(incomplete(missing, len(outcomes.tasks))))
    if outcomes.identical and bounds:
        refusals.append(one_run(outcomes.identical, len(outcomes.tasks)))
    held: list[Judgement] = []
    try:
        for bound in bounds:
            held += [_hold(bound, row, part, outcomes.level, gate_on) for row, part in _rows(outcomes, bound)]
    except InputError as error:
        # Where tasks lack, so may the rows; what was compared is shown all the same.
        if not outcomes.not_compared and not refusals:
            raise
        refusals.append(str(error))
    if refusals:
        held = [replace(judged, verdict=REFUSED, rows_needed=None) for judged in held]
    return Gate(gate_on, tuple(held), tuple(refusals), () if missing else tuple(outcomes.not_compared))


def _rows(outcomes: Outcomes, bound: Bound) -> list[tuple[str, Part]]:
    """Give the rows that a bound is for, all of which have its rate."""
    rows, column = list(outcomes.parts), bound.where.removesuffix("=*")
    if bound.where == "*":
        chosen = [(part.name, part) for part in outcomes.tasks]
    elif column != bound.where and column in outcomes.slices:
        chosen = [(f"{column}={part.name}", part) for part in outcomes.slices[column]]
    else:
        # The only task may be called "all" as well.
        chosen = list({id(part): (row, part) for row, part in rows if row == bound.where}.values())
    if not chosen or (bound.where == "all" and outcomes.overall is None):
        raise _no_row(outcomes, bound, [row for row, _ in rows])
    having = [(row, part) for row, part in chosen if _rate(bound, part)]
    if not having:
        kind = "scores" if RATES[bound.rate].scores else "answers"
        raise InputError(f"{bound}: {quote(bound.where)} has no {bound.rate[4:]}, which only {kind} have.")
    if bound.rate == "min_accuracy_change" and abs(bound.value) > 1 and any(not part.has_scores for _, part in having):
        raise InputError(f"{bound}: accuracy is from 0 to 1, so its change is from -1 to 1.")
    return having


def _no_row(outcomes: Outcomes, bound: Bound, rows: list[str]) -> InputError:
    hint = ""
    if bound.where in outcomes.not_compared:
        hint = f", because it was not compared: {outcomes.not_compared[bound.where].rstrip('.')}"
    elif bound.where == "all":
        hint = ", because tasks with scores are not pooled; bound each with '*' or by name"
    elif "=" in bound.where and not any(bound.where.startswith(f"{column}=") for column in outcomes.slices):
        hint = "; slices are made with --by COLUMN (by=)"
    # The only task may be called "all" as well.
    names = listed(map(quote, dict.fromkeys(rows)))
    return InputError(f"{bound}: there is no row {quote(bound.where)}{hint}. Rows: {names}.")


def _rate(bound: Bound, part: Part) -> str | None:
    kind = RATES[bound.rate]
    return kind.scores if part.has_scores else kind.answers


def _hold(bound: Bound, row: str, part: Part, level: float, gate_on: str) -> Judgement:
    """Hold one row to a bound, given that the row has the rate."""
    name, above = _rate(bound, part) or "", bound.rate.startswith("max")
    estimate = float(getattr(part.comparison, name))
    low, high = part.comparison.confidence_interval(name, level)

    def beyond(value: float) -> bool:
        return value > bound.value if above else value < bound.value

    compared, verdict, needed = estimate, BROKEN if beyond(estimate) else KEPT, None
    if gate_on == "upper" and not math.isnan(estimate):
        # A bootstrap of few and skewed values may lie on one side of its estimate; of a single value there is none.
        if not math.isnan(low):
            compared = max(estimate, high) if above else min(estimate, low)
        elif verdict == KEPT:
            compared = math.nan
        if math.isnan(compared) or beyond(compared):
            needed = _needed(bound, part, level) if verdict == KEPT else None
            verdict = TOO_FEW if needed else BROKEN
    # So many digits that the message does not say that 0.02 is above 0.02.
    digits = next((d for d in (4, 6, 9) if f"{compared:.{d}g}" != f"{bound.value:.{d}g}"), 17)
    if compared == bound.value:
        digits = 4
    text = f"{row}: {name.replace('_', ' ')} "
    text += "undefined" if math.isnan(estimate) else f"{estimate:z.{digits}g}"
    text += f" ({_count(bound, part)})"
    if not math.isnan(low):
        text += f", {100 * level:g} % interval {low:z.{digits}g} to {high:z.{digits}g},"
    if verdict == KEPT:
        text += " keeps the bound"
    elif needed:
        rows = "no number of rows is enough" if needed > _MOST_ROWS else f"{needed:,} rows are needed"
        with_so_few = f"with {part.n:,} {'row' if part.n == 1 else 'rows'}"
        text += f" cannot keep the bound {with_so_few}, even without a negative flip: {rows}"
    elif math.isnan(compared):
        text += " has no interval, being the mean of a single value, and so cannot be shown to keep the bound"
    else:
        text += f" {'is' if beyond(estimate) else 'reaches'} {'above' if above else 'below'} the bound"
    message = printable(f"{text}: {bound}" if not needed else f"{text}; {bound}")
    enough = needed if needed and needed <= _MOST_ROWS else None
    return Judgement(bound, row, verdict, estimate, low, high, part.n, compared, message, enough)


def _needed(bound: Bound, part: Part, level: float) -> int | None:
    """Say how many rows like these a bound needs, were there no negative flip; None where these would do."""
    if not isinstance(part.comparison, Comparison):
        cells = part.n, 0, 0, 0
        if bound.rate != "max_nfr":
            return None
    else:
        counts = part.comparison.counts
        negative = counts["negative_flips"] or 0
        cells = ((counts["both_right"] or 0) + negative, counts["positive_flips"] or 0, 0, counts["both_wrong"] or 0)

    def kept(n: int) -> bool:
        right, positive, _, wrong = (n * count / part.n for count in cells)
        if bound.rate == "max_nfr":
            return wilson(0, n, level)[1] <= bound.value
        if bound.rate == "min_accuracy_change":
            return change_interval((right, positive, 0, wrong), level)[0] >= bound.value
        return not (right and wrong) or relative_interval((right, positive, 0, wrong), level)[1] <= bound.value

    if kept(part.n):
        return None
    few, many = part.n, 2 * part.n
    while not kept(many):
        few, many = many, 2 * many
        if few > _MOST_ROWS:
            return few
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if kept(middle) else (middle, many)
    return many


def _count(bound: Bound, part: Part) -> str:
    negative, positive = part.coin.negative, part.coin.positive
    if bound.rate == "max_regression":
        return f"{negative} of {part.n} fell"
    if bound.rate == "min_accuracy_change":
        verbs = ("fell", "rose") if part.has_scores else ("broken", "repaired")
        return f"{negative} {verbs[0]} and {positive} {verbs[1]} of {part.n}"
    return f"{negative} of {part.n}"
