"""Yes/no questions in reports: sentences that come first, a table of both models, and one of tasks and slices."""

import math
from collections.abc import Sequence

from ..flips.rates import p_number
from ..flips.yes_no.answers import YesNoAnswers
from ..flips.yes_no.comparison import YesNoComparison
from ..flips.yes_no.words import ROWS, cautions, sentences, signed
from .cells import Cell, Change, Estimate
from .measure import Part
from .outcomes import Outcomes

_NO_SCORES = (
    "what a moved threshold would repair is not known without scores: samples of lm-evaluation-harness that log both "
    "choices have log p(no) - log p(yes), tables in a column that --yes-no-scores (yes_no_scores=) names"
)


def _heads(outcomes: Outcomes) -> list[tuple[str, YesNoComparison]]:
    """Give the comparisons that are told in full, each with what stands before it."""
    overall = outcomes.overall
    if overall is not None and overall.yes_no is not None:
        return [("", overall.yes_no)]
    return [(f"{part.name}: ", part.yes_no) for part in outcomes.tasks if part.yes_no is not None]


def told_of_yes_no(outcomes: Outcomes) -> list[str]:
    """Say whether the update turned answers, what became of ability, and what a moved threshold would repair."""
    return [f"{before}{line}" for before, b in _heads(outcomes) for line in sentences(b, outcomes.level)]


def yes_no_notes(outcomes: Outcomes) -> list[str]:
    """Say what has to be known of these figures."""
    heads = _heads(outcomes)
    notes = [f"{before}{line}" for before, b in heads for line in cautions(b, outcomes.level)]
    without = [b for _, b in heads if b.moved_threshold is None and b.undefined is None]
    if any(b.cells.sum(axis=(1, 2)).min() > 1 for b in without):
        notes.append(_NO_SCORES)
    return notes


def yes_no_tables_of(outcomes: Outcomes) -> list[tuple[list[str], list[list[Cell]]]]:
    """Lay out both models side by side, then tasks and slices by their shift; titles, and the cells of each row."""
    tables: list[tuple[list[str], list[list[Cell]]]] = []
    for before, b in _heads(outcomes):
        tables.append(([f"{before}yes or no", "old", "new", "change"], _both(b, outcomes.level)))
    blocks: list[tuple[str, Sequence[Part]]] = [("task", outcomes.tasks)] if len(outcomes.tasks) > 1 else []
    for title, parts in [*blocks, *outcomes.slices.items()]:
        rows = [_row(part.name, part.yes_no, outcomes.level) for part in parts if part.yes_no is not None]
        if rows:
            head = [title, "n", "accuracy, %", "bias", "shift", "d'", "broken to no", "to yes", "to neither", "p"]
            tables.append((head, rows))
    return tables


def _both(b: YesNoComparison, level: float) -> list[list[Cell]]:
    rows: list[list[Cell]] = []
    for row in ROWS:
        cells: list[Cell] = [_estimate(side, row.rate, level, row.scale, row.form) for side in (b.old, b.new)]
        rows.append([row.title, *cells, _estimate(b, row.change, level, row.scale, signed(row.form))])
    return rows


def _row(name: str, b: YesNoComparison, level: float) -> list[Cell]:
    return [
        name,
        f"{b.n:,}",
        Change(100 * b.old.accuracy, 100 * b.new.accuracy),
        _change(b.old.bias, b.new.bias, "+z.3f"),
        _estimate(b, "shift", level, 1, "+z.3f"),
        _change(b.old.sensitivity, b.new.sensitivity, "z.2f"),
        *(f"{count:,}" for count in (b.broken_to_negative, b.broken_to_positive, b.broken_to_neither)),
        p_number(b.p_value),
    ]


def _change(old: float, new: float, form: str) -> Cell:
    return "undefined" if math.isnan(old) else Change(old, new, form)


def _estimate(result: YesNoAnswers | YesNoComparison, name: str, level: float, scale: float, form: str) -> Estimate:
    low, high = result.confidence_interval(name, level)
    return Estimate(scale * getattr(result, name), scale * low, scale * high, form)
