"""A comparison as text for people: tables that fit the terminal, or plain ones where the text is piped."""

import io
from collections.abc import Sequence
from textwrap import wrap
from typing import Any

from rich.box import SIMPLE_HEAD, Box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from ..text import printable
from .cells import Cell, stacked
from .classes import HEAD, classes_shown
from .outcomes import Outcomes
from .report import (
    MOST_CLASSES,
    GateShown,
    coin_lines,
    interval_note,
    notes_of,
    reliable_lines,
    update_tables,
    verdict,
    warnings_of,
)
from .yes_no_report import told_of_yes_no, yes_no_tables_of

# Wide enough for every column, so that what is piped is never cut or broken.
_PIPED_WIDTH = 10_000
_MOST_ROWS = 40
_NARROW = 8  # characters of a column of the gate where there is no room for all
# Numbers, brackets and smileys of names stay as they are.
_AS_IT_IS: Any = {"highlight": False, "markup": False, "emoji": False}
_LAYOUTS = ("wide", "stacked", "short", "least")


def show(outcomes: Outcomes, console: Console, gate: GateShown | None = None) -> None:
    """Print gate, what changed, tables, coin-flip view, notes; plain and without colours where that is no terminal."""
    plain = not console.is_terminal
    for line in warnings_of(outcomes):
        console.print(_text(line, style="bold red"))
    console.print(_text(f"{outcomes.old_name} -> {outcomes.new_name}", style="dim"))
    if gate:
        _show_gate(gate, console, None if plain else SIMPLE_HEAD)
    grader = outcomes.grader
    for line in [*verdict(outcomes), *(grader.audit if grader else []), *told_of_yes_no(outcomes)]:
        console.print(_text(line, style="bold"))
    narrow = False
    for head, rows in [*yes_no_tables_of(outcomes), *update_tables(outcomes)]:
        table, layout = _fitting(head, rows[:_MOST_ROWS], console)
        console.print()
        console.print(table)
        narrow |= layout in ("short", "least")
        if len(rows) > _MOST_ROWS:
            console.print(_text(f"… and {len(rows) - _MOST_ROWS} rows more; --json, --markdown and --html have all"))
    for classes in classes_shown(outcomes.compared, outcomes.level, MOST_CLASSES):
        console.print()
        console.print(_text(classes.told))
        table, layout = _fitting(HEAD, classes.rows, console)
        console.print(table)
        narrow |= layout in ("short", "least")
        for line in classes.notes:
            console.print(_text(line))
    console.print()
    for line in [f"coin-flip view, {line}" for line in coin_lines(outcomes)] + reliable_lines(outcomes):
        console.print(_text(line))
    if grader:
        console.print()
        for line in grader.suspects:
            console.print(_text(f"suspects: {line}"))
        for head, rows in grader.table:
            table = _table(head, rows, "wide", box=None if plain else SIMPLE_HEAD)
            if _width(console, table) > console.width:
                table = _table(head, rows, "broken up", box=None if plain else SIMPLE_HEAD)
            console.print(table)
        console.print()
    if narrow:
        console.print(_text("A wider terminal shows intervals too; so do --json, --markdown and --html."))
    console.print(_text(interval_note(outcomes), style="dim"))
    for note in notes_of(outcomes):
        console.print(_text(f"note: {note}", style="yellow"))


def _show_gate(gate: GateShown, console: Console, box: Box | None) -> None:
    """Print verdict and bounds, each with its interval."""
    style = {"kept": "bold green", "cannot tell": "bold yellow"}.get(gate.verdict, "bold red")
    console.print(_text(gate.heading, style=style))
    if gate.rows:
        table = _table(gate.head, gate.rows[:_MOST_ROWS], "wide", box=box)
        if _width(console, table) > console.width:
            table = _table(gate.head, gate.rows[:_MOST_ROWS], "broken up", box=box)
        console.print(table)
    if len(gate.rows) > _MOST_ROWS:
        console.print(_text(f"… and {len(gate.rows) - _MOST_ROWS} bounds more; --json, --markdown, --html have all"))
    # Of the others the command tells on standard error.
    for sentence in gate.kept_sentences:
        console.print(_text(sentence))
    for note in gate.notes:
        console.print(_text(f"note: {note}", style="yellow"))
    for line in gate.history.lines if gate.history else ():
        console.print(_text(f"history: {line}"))
    console.print()


def _fitting(head: Sequence[str], rows: Sequence[Sequence[Cell]], console: Console) -> tuple[Table, str]:
    """Lay out a table in the fullest way that the terminal is wide enough for, and say in which."""
    for layout in _LAYOUTS:
        table = _table(head, rows, layout, box=SIMPLE_HEAD if console.is_terminal else None)
        if _width(console, table) <= console.width:
            break
    return table, layout


def _table(head: Sequence[str], rows: Sequence[Sequence[Cell]], layout: str, box: Box | None) -> Table:
    """Lay out a table: "wide", "stacked" (intervals below rates), "short" (no intervals), "least" or "broken up"."""
    table = Table(box=box, pad_edge=False, padding=(0, 1), collapse_padding=box is not None)
    if layout == "least":
        kept = [index for index, title in enumerate(head) if title != "p" and not title.startswith("relative")]
        head, rows = [head[index] for index in kept], [[row[index] for index in kept] for row in rows]
    for index, title in enumerate(head):
        shown = title.replace(" ", "\n").replace(",", "") if layout != "wide" and index else title
        table.add_column(_text(shown), justify="right" if index else "left", no_wrap=True)
    for cells in rows:
        table.add_row(*(_cell(cell, layout) for cell in cells))
    return table


def _cell(cell: Cell, layout: str) -> Text:
    if isinstance(cell, str) and layout == "broken up":
        # An interval stays on one line.
        lines = wrap(printable(cell).replace(", ", ",\N{NO-BREAK SPACE}"), _NARROW, break_long_words=False)
        return Text("\n".join(lines).replace("\N{NO-BREAK SPACE}", " "))
    if isinstance(cell, str):
        return Text(printable(cell))
    return Text(str(cell) if layout == "wide" else stacked(cell, intervals=layout == "stacked"))


def _width(console: Console, table: Table) -> int:
    return Measurement.get(console, console.options.update(width=_PIPED_WIDTH), table).maximum


def _text(text: str, style: str = "") -> Text:
    """Make a text of a name or a sentence; what a file holds must not steer the terminal."""
    return Text("\n".join(printable(line) for line in text.split("\n")), style=style)


def plain_text(outcomes: Outcomes, gate: GateShown | None = None) -> str:
    """Give as text what a pipe gets: no colours, and no line is cut or broken."""
    return _text_of(outcomes, gate, Console(file=io.StringIO(), width=_PIPED_WIDTH, color_system=None, **_AS_IT_IS))


def terminal_text(outcomes: Outcomes, gate: GateShown | None = None) -> str:
    """Give as text what standard output gets: as wide as the terminal and in its colours, or plain for a pipe."""
    console = Console(**_AS_IT_IS)
    return _text_of(outcomes, gate, console) if console.is_terminal else plain_text(outcomes, gate)


def _text_of(outcomes: Outcomes, gate: GateShown | None, console: Console) -> str:
    # Not printed by rich itself, which ends the process when the reader of a pipe is gone.
    with console.capture() as captured:
        show(outcomes, console, gate)
    return captured.get().rstrip("\n")
