"""A gate for CI: does a comparison of two model versions show that bounds are kept, that they are broken, or neither?

Every bound is checked: a row that has one of its own is held to that of "*" too.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

from ...errors import InputError
from ...readers.identical import one_run
from ...readers.not_compared import incomplete, lost
from ...text import listed, printable, quote
from ..cells import HistoryShown
from ..measure import Part
from ..outcomes import Outcomes
from ..report import GateShown
from .bounds import (
    ADVISORY,
    GATE_ON,
    INFORMATIVE,
    REQUIRED,
    TIERS,
    UNDECIDED,
    Bound,
    bound_of,
    parse_bound,
    wrong_word,
)
from .judgement import BROKEN, CANNOT_TELL, KEPT, REFUSED, VERDICTS, Judgement, hold
from .kinds import POWER, RATES, STOP_AT

__all__ = ["GATE_ON", "RATES", "UNDECIDED", "Bound", "Gate", "Judgement", "bound_of", "judge", "parse_bound"]

_FEW = 4  # bounds, of which each is told in a sentence although it is kept


@dataclass(frozen=True)
class Gate:
    """What came of holding a comparison to bounds; made by `judge`."""

    gate_on: str
    level: float
    judgements: tuple[Judgement, ...]
    """Every row and bound, in the order of the bounds."""
    refusals: tuple[str, ...]
    """Why the comparison is no evidence, so that no bound is kept by it; empty where it is."""
    not_judged: tuple[str, ...] = ()
    """Tasks that no bound was held to, because they were not compared, which was accepted."""
    undecided: str | None = None
    """"fail" or "pass" where what cannot be told counts as that; None where it counts as neither."""
    without_row: tuple[str, ...] = ()
    """Why bounds that are not required could not be held to anything."""
    history: HistoryShown | None = None
    """The decisions before this one, where there is a file of them."""

    def of(self, verdict: str, tier: str | None = None) -> list[Judgement]:
        """Give the judgements of a verdict, and of a tier where one is named."""
        return [
            judged for judged in self.judgements if judged.verdict == verdict and tier in (None, judged.bound.tier)
        ]

    @property
    def verdict(self) -> str:
        """ "refused", "broken", "cannot tell" or "kept": the first of these that holds of a required bound."""
        if self.refusals:
            return REFUSED
        return next((verdict for verdict in (BROKEN, CANNOT_TELL) if self.of(verdict, REQUIRED)), KEPT)

    @property
    def exit_code(self) -> int:
        """0 for kept, 1 for broken, 2 for refused, 3 where it cannot be told and `undecided` says nothing else."""
        undecided = {None: 3, "fail": 1, "pass": 0}[self.undecided]
        return {KEPT: 0, BROKEN: 1, REFUSED: 2, CANNOT_TELL: undecided}[self.verdict]

    def to_dict(self) -> dict[str, Any]:
        """Give what `muscle_hf/run_comparison.schema.json` describes, as plain Python values."""
        return {
            "gate_on": self.gate_on,
            "undecided": self.undecided,
            "verdict": self.verdict,
            "refusals": list(self.refusals),
            "bounds": [judged.to_dict() for judged in self.judgements],
            "violations": [judged.to_dict() for judged in self.of(BROKEN, REQUIRED)],
            "notes": self.notes,
        }

    @property
    def notes(self) -> list[str]:
        """What has to be known about the verdicts, in sentences."""
        rules = [judged.bound.value for judged in self.judgements if judged.bound.rate == STOP_AT]
        notes = [
            f"At most {100 / value:.2g} % of neutral updates ever reach a Bayes factor of {value:g}, on either side, "
            "however often one looks; of several rows, broken takes so many times as much"
            for value in dict.fromkeys(rules)
        ]
        advised = [judged for judged in self.judgements if judged.bound.tier == ADVISORY and not self.refusals]
        if advised:
            counts = [f"{len(self.of(verdict, ADVISORY))} {verdict}" for verdict in (BROKEN, CANNOT_TELL, KEPT)]
            notes.append(f"Advisory, without a part in the verdict: {', '.join(counts)}")
        notes += [f"Not judged, and not required: {told}" for told in self.without_row]
        notes += [f"Nothing breaks {bound}: it allows 100 %; 1 % is 0.01" for bound in self._empty_bounds()]
        held = [judged for judged in self.judgements if judged.bound.rate != STOP_AT]
        if self.gate_on == "estimate" and held:
            notes.append(
                "The estimates alone are held to the bounds, so that near one chance decides: of updates that change "
                "nothing, one in five falls by more than a point on 500 questions of which a tenth flips"
            )
        elif any(judged.family > 1 for judged in held):
            notes.append(
                "Several rows under one bound: broken is only what is so after Holm's correction for their number"
            )
        if any(judged.questions_needed for judged in self.judgements):
            notes.append(f"n needed: so many questions like these would settle it, {100 * POWER:.0f} % of the time")
        if self.undecided:
            does = {"fail": "fails", "pass": "passes"}[self.undecided]
            notes.append(f"What cannot be told {does} this gate (undecided: {self.undecided})")
        return notes

    def _empty_bounds(self) -> list[Bound]:
        """Give the bounds that allow everything, as where somebody writes 1 for 1 %."""
        most = {"max_nfr": 1, "max_balanced_nfr": 1, "min_relative_accuracy_change": -1}
        bounds = {str(judged.bound): judged.bound for judged in self.judgements}
        return [bound for bound in bounds.values() if most.get(bound.rate) == bound.value]

    def shown(self) -> GateShown:
        """Give a heading and a table for reports: what is broken comes first."""
        required = [judged for judged in self.judgements if judged.bound.tier == REQUIRED]
        some = "bounds" if len(required) == len(self.judgements) else "required bounds"
        held = "by the estimate alone" if self.gate_on == "estimate" else f"held to {100 * self.level:g} % intervals"
        if self.judgements and all(judged.bound.rate == STOP_AT for judged in self.judgements):
            held = "by the Bayes factor"
        some = some.removesuffix("s") if len(required) == 1 else some
        of_all = f"{len(self.of(self.verdict, REQUIRED))} of {len(required)} {some}, {held}"
        if not required:
            of_all = f"no bound is required ({held})"
        title, reason = {
            # The first sentences; reports say the rest elsewhere.
            REFUSED: ("No verdict", "; ".join(text.partition(". ")[0] for text in self.refusals)),
            BROKEN: ("Broken", of_all),
            CANNOT_TELL: ("Cannot tell", of_all),
            KEPT: ("Kept", of_all),
        }[self.verdict]
        if self.not_judged:
            reason += f"; not judged, because not compared: {listed(self.not_judged)}"
        ordered = [
            [judged for tier in TIERS for verdict in VERDICTS[:3] for judged in self.of(verdict, tier)],
            [judged for tier in TIERS for judged in self.of(KEPT, tier)],
        ]
        head, not_kept, kept = _table(*ordered)
        # Those that only inform stand in the table alone.
        told = [judged.message for judged in ordered[0] if judged.bound.tier != INFORMATIVE and not self.refusals]
        kept_told = [judged.message for judged in ordered[1]] if len(self.judgements) <= _FEW else []
        return GateShown(
            self.verdict, title, printable(reason), head, not_kept, kept, told, kept_told, self.notes, self.history
        )


def _table(not_kept: list[Judgement], kept: list[Judgement]) -> tuple[list[str], list[list[str]], list[list[str]]]:
    """Lay out the judgements, without the columns that say nothing of any."""
    head = ["row", "verdict", "rate", "value", "bound", "n", "n needed", "tier", "owner"]
    both = [[_row_of(judged) for judged in judgements] for judgements in (not_kept, kept)]
    rows = [row for part in both for row in part]
    named = any(row[7] != REQUIRED for row in rows)
    shown = [
        place for place in range(len(head)) if place < 6 or (named if place == 7 else any(row[place] for row in rows))
    ]
    cut_head, cut_not_kept, cut_kept = ([[row[place] for place in shown] for row in part] for part in ([head], *both))
    return cut_head[0], cut_not_kept, cut_kept


def _row_of(judged: Judgement) -> list[str]:
    needed = f"{judged.questions_needed:,}" if judged.questions_needed else ""
    bound = judged.bound
    return [judged.row, judged.verdict, *judged.cells, f"{judged.n:,}", needed, bound.tier, printable(bound.owner)]


def judge(
    outcomes: Outcomes,
    bounds: Sequence[Bound],
    *,
    gate_on: str = "interval",
    undecided: str | None = None,
    required_tasks: Iterable[str] = (),
) -> Gate:
    """Hold a comparison to bounds, each of which is checked.

    A bound is kept where the interval of `decision_interval` lies on its good side, broken where it lies on the bad
    one, and it cannot be told where it lies across. With `gate_on` "estimate" the estimate alone is held to it.
    `undecided` says whether what cannot be told shall "fail" or "pass" a gate; None is neither.

    Of score tasks, only "*" and their names speak: "all" is the one task, or the right and wrong answers of several.
    Where nothing can flip, since the new model is wrong on nothing, or no score fell, a rate of these is undefined and
    its bound kept; any other undefined rate, and one without interval, tells nothing.

    Nothing is judged, and the gate says why, where tasks were not compared, or old and new are one run, and the
    comparison did not allow for it; nor where a required task was not compared, whatever it allowed for. The verdict
    is that of the required bounds; an advisory or informative one whose row is not there is told in the notes.

    Raises:
        InputError: A row of a required bound that is not there, a rate that a named row has not, or that none of the
            rows of a "*" has; a change of accuracy beyond -1 to 1; another word for `gate_on` or `undecided`.
    """
    if gate_on not in GATE_ON:
        raise InputError(f"{wrong_word(gate_on)}.")
    if undecided not in (None, *UNDECIDED):
        raise InputError(f"undecided is {quote(undecided)}, but must be {' or '.join(UNDECIDED)}, or left out.")
    refusals = []
    missing = {} if outcomes.allow_missing else lost(outcomes.not_compared)
    if missing:
        refusals.append(str(incomplete(missing, len(outcomes.tasks))))
    if outcomes.identical and bounds:
        refusals.append(one_run(outcomes.identical, len(outcomes.tasks)))
    refusals += _lacking(outcomes, required_tasks)
    held: list[Judgement] = []
    without_row = []
    for bound in bounds:
        try:
            rows = _rows(outcomes, bound)
        except InputError as error:
            if bound.tier != REQUIRED:
                without_row.append(str(error))
                continue
            # Where tasks lack, so may the rows; what was compared is shown all the same.
            if not outcomes.not_compared and not refusals:
                raise
            refusals.append(str(error))
            continue
        held += hold(bound, rows, outcomes.level, gate_on)
    if refusals:
        held = [replace(judged, verdict=REFUSED, questions_needed=None) for judged in held]
    not_judged = () if missing else tuple(outcomes.not_compared)
    return Gate(gate_on, outcomes.level, tuple(held), tuple(refusals), not_judged, undecided, tuple(without_row))


def _lacking(outcomes: Outcomes, required_tasks: Iterable[str]) -> list[str]:
    """Say which required tasks were not compared, and why."""
    there = {part.name for part in outcomes.tasks}
    lacking = [task for task in required_tasks if task not in there]
    return [
        f"The task {quote(task)} is required and was not compared"
        + (
            f": {outcomes.not_compared[task].rstrip('.')}."
            if task in outcomes.not_compared
            else f"; there are: {listed(map(quote, there))}."
        )
        for task in lacking
    ]


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
    having = [(row, part) for row, part in chosen if RATES[bound.rate].rate(part)]
    if not having:
        raise InputError(f"{bound}: {quote(bound.where)} {_no_rate(outcomes, bound, chosen[0][1])}.")
    if bound.rate == "min_accuracy_change" and any(not part.has_scores for _, part in having):
        if abs(bound.value) > 1:
            raise InputError(f"{bound}: accuracy is from 0 to 1, so its change is from -1 to 1; one point is 0.01.")
        if bound.value == -1:
            raise InputError(f"{bound}: a fall of 100 points, so that nothing could break it; one point is 0.01.")
    return having


def _no_rate(outcomes: Outcomes, bound: Bound, part: Part) -> str:
    """Say why a row does not have the rate of a bound."""
    kind = RATES[bound.rate]
    named = [task.name for task in outcomes.tasks if task.yes_no is not None]
    if not kind.of_yes_no or not named:
        return kind.lacking(bound.rate, part)
    where, each = (quote(f"{name}:{bound.value:.12g}") for name in (named[0], "*"))
    return (
        f"has no {bound.rate[4:]}, because not all its questions are yes/no ones; those of "
        f"{listed(map(quote, named))} are. Bound these, {where} or {each}"
    )


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
    near = get_close_matches(bound.where, rows, n=1)
    meant = f" Did you mean {quote(near[0])}?" if near else ""
    return InputError(f"{bound}: there is no row {quote(bound.where)}{hint}.{meant} Rows: {names}.")
