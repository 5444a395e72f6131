"""A comparison of yes/no answers in sentences, and both models' rates as rows: the same for every report."""

import math
from typing import Any, NamedTuple, TypeAlias

from ...text import how_many
from ..rates import p_equation
from .answers import YesNoAnswers, shown_unknown, spelling_hint

# A YesNoComparison, whose module shows itself by this one.
Compared: TypeAlias = Any

WIDE = 1.0
"""From so many units an interval of d' or c is called wide: one unit is the distance that parts 50 % from 84 %."""


class Row(NamedTuple):
    """A row of a table: a rate of both models, and how it changed."""

    title: str
    rate: str
    change: str
    """The rate of the change."""
    scale: float
    form: str
    """How numbers are written; those of the change have a sign before them."""


ROWS = (
    Row("accuracy ↑, %", "accuracy", "accuracy_change", 100, "z.1f"),
    Row("FNR, %: no where yes is right", "false_negative_rate", "false_negative_rate_change", 100, "z.1f"),
    Row("FPR, %: yes where no is right", "false_positive_rate", "false_positive_rate_change", 100, "z.1f"),
    Row("bias, FNR - FPR: > 0 leans to no", "bias", "shift", 1, "+z.3f"),
    Row("d' ↑: how well it can tell", "sensitivity", "sensitivity_change", 1, "z.2f"),
    Row("c, where it cuts: > 0 leans to no", "criterion", "criterion_change", 1, "+z.2f"),
)
"""What a table shows."""


def figure(result: YesNoAnswers | Compared, name: str, level: float, scale: float, form: str) -> str:
    """Show a rate with its interval."""
    value, (low, high) = getattr(result, name), result.confidence_interval(name, level)
    if math.isnan(value):
        return "undefined"
    return f"{scale * value:{form}} [{scale * low:{form}}, {scale * high:{form}}]"


def signed(form: str) -> str:
    """Write a number of a form with its sign."""
    return f"+{form.removeprefix('+')}"


def _rows(b: Compared, level: float) -> list[list[str]]:
    rows = []
    for row in ROWS:
        sides = [figure(side, row.rate, level, row.scale, row.form) for side in (b.old, b.new)]
        rows.append([row.title, *sides, figure(b, row.change, level, row.scale, signed(row.form))])
    return rows


def direction(b: Compared, level: float = 0.95) -> str:
    """Say whether the answers turned towards one side."""
    if math.isnan(b.shift):
        return f"Bias, shift, d' and c are undefined: {b.undefined}."
    low, high = b.confidence_interval("shift", level)
    moved = f"bias {b.old.bias:+z.3f} -> {b.new.bias:+z.3f}, shift {b.shift:+z.3f} [{low:+z.3f}, {high:+z.3f}]"
    if not low <= 0 <= high:
        side = "no" if low > 0 else "yes"
        if not _is_shifted(b, level):
            return f'So few questions cannot tell whether the update turned answers towards "{side}": {moved}.'
        return f'The update turned answers towards "{side}": {moved}.'
    return f"The update shows no shift towards either answer: {moved}."


def flips(b: Compared) -> str:
    """Say which way the answers that changed and the broken ones went."""
    broken = len(b.negative_flips)
    parts = [
        f"{count:,} {where}"
        for count, where in (
            (b.broken_to_negative, 'to "no"'),
            (b.broken_to_positive, 'to "yes"'),
            (b.broken_to_neither, "to neither"),
        )
        if count
    ]
    went = f", {', '.join(parts)}" if parts else ""
    return (
        f"{how_many(broken, 'right answer')} broke{went}. Of all answers {b.to_negative:,} went from yes to no and "
        f"{b.to_positive:,} from no to yes, {p_equation(b.p_value)}."
    )


def ability(b: Compared, level: float = 0.95) -> str | None:
    """Say whether it tells yes from no less well, or only cuts elsewhere; None where that is undefined."""
    if math.isnan(b.sensitivity_change):
        return None
    low, high = b.confidence_interval("sensitivity_change", level)
    moved = f"d' {b.old.sensitivity:z.2f} -> {b.new.sensitivity:z.2f}, {b.sensitivity_change:+z.2f} "
    moved += f"[{low:+z.2f}, {high:+z.2f}]"
    if high < 0:
        return (
            f"It also tells yes from no less well: {moved}."
            if _is_shifted(b, level)
            else f"Its ability fell: {moved}."
        )
    if low > 0:
        return f"It tells yes from no better: {moved}."
    return f"No change shows in how well it tells yes from no: {moved}."


def threshold(b: Compared) -> str | None:
    """Say what a moved threshold would repair; None without scores."""
    repairs = b.moved_threshold
    if repairs is None:
        return None
    before, after = b.new.accuracy, repairs.answers.accuracy
    if not repairs.threshold:
        return "No moved threshold would give more right answers: at 0 nats, where it is, there are most."
    return (
        f"A threshold moved to {repairs.threshold:+.3g} nats, fitted on other rows than those it is tried on "
        f"({repairs.folds} folds), would repair {len(repairs.repaired):,} of the {repairs.negative_flips:,} broken "
        f"answers and break {len(repairs.broken):,} others, with no retraining: accuracy {100 * before:z.1f} -> "
        f"{100 * after:z.1f} %, bias {b.new.bias:+z.3f} -> {repairs.answers.bias:+z.3f}."
    )


def cautions(b: Compared, level: float = 0.95) -> list[str]:
    """Say what has to be known of the figures: wide intervals, answers that are neither, d's assumption."""
    told = []
    for which, side in (("old", b.old), ("new", b.new)):
        for name, symbol in (("sensitivity", "d'"), ("criterion", "c")):
            low, high = side.confidence_interval(name, level)
            if high - low > WIDE:
                told.append(
                    f"{symbol} of the {which} model is known only to be {low:z.2f} to {high:z.2f}: {_rarest(side)}"
                )
                break
    for which, side in (("old", b.old), ("new", b.new)):
        if side.no_answers:
            missing = side.no_answers - sum(side.unknown.values())
            parts = [f"{missing:,} missing"] if missing else []
            if side.unknown:
                parts.append(f"{sum(side.unknown.values()):,} neither label: {shown_unknown(side.unknown)}")
            hint = spelling_hint(side.unknown, b.positive, b.negative)
            questions = how_many(side.no_answers, "question")
            told.append(f"the {which} model says neither yes nor no on {questions}: {'; '.join(parts)}{hint}")
    return told


def knowledge(b: Compared, level: float = 0.95) -> list[str]:
    """Say the shift of each group by knowledge, and how knowledge changed."""
    lines = []
    for name, group in b.by_knowledge.items():
        shown = figure(group, "shift", level, 1, "+z.3f")
        bias = "" if math.isnan(group.shift) else f", bias {group.old.bias:+z.3f} -> {group.new.bias:+z.3f}"
        lines.append(f"knowledge {name}: {group.n:,} questions{bias}, shift {shown}")
    if b.knowledge_changes is not None:
        moved = "; ".join(
            f"{old} -> {', '.join(f'{new} {count:,}' for new, count in row.items())}"
            for old, row in b.knowledge_changes.items()
        )
        lines.append(f"knowledge, old -> new: {moved}")
    return lines


def scores(b: Compared, level: float = 0.95) -> str | None:
    """Say by how much the scores moved; None without both."""
    if b.score_changes is None:
        return None
    low, high = b.confidence_interval("score_shift", level)
    return f"log p(no) - log p(yes) moved by {b.score_shift:+.3g} nats [{low:+.3g}, {high:+.3g}] on average."


def sentences(b: Compared, level: float = 0.95) -> list[str]:
    """Give all of it in sentences, what matters most first."""
    told = [direction(b, level), flips(b), ability(b, level), scores(b, level), threshold(b)]
    return [sentence for sentence in told if sentence]


def as_text(b: Compared) -> str:
    """Lay out sentences, table and cautions as plain text."""
    gold = b.cells.sum(axis=(1, 2)).tolist()
    head = f"{b.n:,} yes/no questions, right answer yes {gold[0]:,}, no {gold[1]:,}"
    rows = [["", "old", "new", "change"], *_rows(b, 0.95)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]
    notes = [f"note: {line}" for line in cautions(b)]
    return "\n".join([head, *sentences(b), *(line.rstrip() for line in table), *knowledge(b), *notes])


def _is_shifted(b: Compared, level: float) -> bool:
    # The interval of tables errs more often where answers are few.
    ends = b.confidence_interval("shift", level), b.decision_interval("shift", level)
    return not any(low <= 0 <= high for low, high in ends)


def _rarest(side: YesNoAnswers) -> str:
    """Say on how few answers d' and c rest."""
    yes = side.hits[0] + side.false_alarms[0]
    no = side.n - yes
    count, which = min((yes, "yes"), (no, "no"))
    return f"it rests on the {count:,} of {side.n:,} answers that are {which}"
