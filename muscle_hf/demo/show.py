"""What a demo prints: the table, what it says, flipped questions with every model's answer."""

from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..card import against
from ..flips.rates import p_equation, p_number
from ..runs.cells import stacked
from ..runs.report import header, table_rows
from .run import BOUND, CANDIDATES, CONTENDERS, NEW, DemoResult

EXAMPLES = 5


def announce(output_dir: Path) -> None:
    """Say what is about to happen, before the first progress bar."""
    Console().print(
        "An update of a small language model, live: a new task adapter, three compatibility adapters and two controls "
        "are trained and asked. About nine minutes. Interrupted (Ctrl-C), the same command goes on where it "
        f"stopped, in {output_dir}.",
        highlight=False,
        markup=False,
    )


def show(result: DemoResult, output_dir: Path, *, fast: bool) -> None:
    """Print the table, what it says, some flipped questions, and where everything lies.

    Args:
        result: What the demo found.
        output_dir: Where it left its files.
        fast: Say that the figures mean nothing.
    """
    console = Console(width=None if Console().is_terminal else 140)
    old = next(iter(result.comparisons.values()))
    console.print(
        f"\n[bold]CLINC150 test set, {old.n} utterances, old model right on {100 * old.old_accuracy:.1f} %[/bold]"
        "  (in brackets: 95 % intervals)"
    )
    console.print(_table(result, console.width))
    for line in sentences(result):
        console.print(Text(line))
    if fast:
        console.print("[yellow]--fast trains for seconds: these figures show that it runs, nothing else.[/yellow]")
    _show_flips(console, result)
    console.print(
        f"\nSaved in {output_dir}: adapter/ ({result.chosen.name}, the lower NFR on validation; with its card), "
        "comparison.json, predictions/*.jsonl",
        highlight=False,
        markup=False,
    )


def sentences(result: DemoResult) -> list[str]:
    """Say what the table shows, of each adapter against its own control, flattering or not."""
    broken = {name: len(comparison.negative_flips) for name, comparison in result.comparisons.items()}
    lines = [
        f"The update breaks {broken[NEW.name]} answers that were right. Asking both models each time would break "
        f"{broken[BOUND]}."
    ]
    for candidate in CANDIDATES:
        ours, theirs = broken[candidate.name], broken[candidate.control.name]
        p_value = result.p_values[candidate.name][candidate.control.name]["negative_flips"]
        compared = against(ours, theirs, "a plain adapter trained for as many steps", p_value)
        lines.append(f"- {candidate.name}: breaks {ours}, {compared}.")
    p_value = result.p_values[result.chosen.name][NEW.name]["negative_flips"]
    lines.append(
        f"Validation chose {result.chosen.name}. Against the plain update itself its paired {p_equation(p_value)}."
    )
    return lines


def _table(result: DemoResult, width: int) -> Table:
    """Make the table as full as the terminal is wide; comparison.json has what is left out."""
    intervals, p_values = width >= 104, width >= 128
    table = Table(box=SIMPLE_HEAD)
    for index, title in enumerate([*header(), *(["p, accuracy", "p, NFR"] if p_values else [])]):
        # A narrow terminal breaks a title between its words and its unit, never inside a word.
        table.add_column(
            title.replace(", %", "\n%").replace("relative ", "relative\n"),
            justify="right" if index else "left",
            no_wrap=True,
        )
    controls = {candidate.name: candidate.control.name for candidate in CANDIDATES}
    for name, row in zip(result.comparisons, table_rows(result.comparisons), strict=True):
        tests = result.p_values[name][controls[name]] if name in controls else {}
        shown = [p_number(tests[key]) if key in tests else "" for key in ("accuracy", "negative_flips")]
        # The interval below its rate takes half the width.
        cells = [stacked(cell, intervals=intervals) for cell in row]
        style = "bold" if name == result.chosen.name else None
        table.add_row(*cells, *(shown if p_values else []), style=style)
    if p_values:
        table.caption = "p: exact paired test against the control of as many steps, of accuracy and of negative flips"
    return table


def _show_flips(console: Console, result: DemoResult) -> None:
    """Show questions that the plain update broke, those that the adapter won back first."""
    right = {
        contender.name: [row["prediction"] == row["reference"] for row in result.answers[contender.name]]
        for contender in CONTENDERS
    }
    broken = [int(index) for index in result.comparisons[NEW.name].negative_flips]
    broken.sort(key=lambda index: not right[result.chosen.name][index])
    half = (EXAMPLES + 1) // 2
    chosen = list(dict.fromkeys([*broken[:half], *broken[::-1][: EXAMPLES - half]]))
    if not chosen:
        return
    console.print("\n[bold]Some questions that the old model answers right and the plain update does not[/bold]")
    names = [contender.name for contender in CONTENDERS]
    width = max(map(len, names))
    for index in chosen:
        console.print(Text(f"\n  {result.answers[NEW.name][index]['prompt']}", style="bold"))
        for name in names:
            is_right = right[name][index]
            line = Text(f"    {name:{width}}  {'right' if is_right else 'WRONG'}  ")
            line.append(result.answers[name][index]["prediction"], style="green" if is_right else "red")
            console.print(line)
