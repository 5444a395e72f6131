"""What a demo prints: the table, a sentence about it, flipped questions with every model's answer."""

import warnings
from pathlib import Path

import datasets
import transformers
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..report import header, table_rows
from .run import BOUND, CANDIDATES, CONTENDERS, CONTROL, NEW, OLD, DemoResult

EXAMPLES = 5


def quiet_libraries() -> None:
    """Leave the terminal to the demo's own progress bars."""
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    # transformers renames gradient checkpointing, and trl and peft still use the old name.
    warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*deprecated", category=FutureWarning)
    # PEFT looks for tied weights once more when an adapter is loaded, after it has tied them.
    warnings.filterwarnings("ignore", message=".*requested `ensure_weight_tying`")


def announce(output_dir: Path) -> None:
    """Say what is about to happen, before the first progress bar."""
    Console().print(
        f"An update of a small language model, live: a new task adapter, two compatibility adapters and a control are "
        "trained and asked. About six minutes. Interrupted (Ctrl-C), the same command goes on from the last finished "
        f"epoch in {output_dir}.",
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
    console.print(Text(sentence(result)))
    if fast:
        console.print("[yellow]--fast trains for seconds: these figures show that it runs, nothing else.[/yellow]")
    _show_flips(console, result)
    console.print(
        f"\nSaved in {output_dir}: adapter/ ({result.chosen.name}, the lower NFR on validation; with its card), "
        "comparison.json, predictions/*.jsonl",
        highlight=False,
        markup=False,
    )


def sentence(result: DemoResult) -> str:
    """Say in one sentence what the table shows, flattering or not."""
    new, control, chosen = (result.comparisons[name] for name in (NEW.name, CONTROL.name, result.chosen.name))
    lost = {name: len(c.negative_flips) for name, c in (("new", new), ("control", control), ("chosen", chosen))}
    p_values = {name: tests["negative_flips"] for name, tests in result.p_values[result.chosen.name].items()}
    verdict = "fewer than" if lost["chosen"] < lost["control"] else "no fewer than"
    return (
        f"The update breaks {lost['new']} answers that were right; the compatibility adapter that validation chose "
        f"({result.chosen.name}) breaks {lost['chosen']}, {verdict} the {lost['control']} of a plain adapter trained "
        f"for as many steps (paired p = {p_values[CONTROL.name]:.2g}; against the plain update itself p = "
        f"{p_values[NEW.name]:.2g}); asking both models each time would break "
        f"{len(result.comparisons[BOUND].negative_flips)}."
    )


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
    for row in table_rows(result.comparisons):
        tests = result.p_values.get(row[0], {}).get(CONTROL.name, {})
        shown = [f"{tests[key]:.2g}" if key in tests else "" for key in ("accuracy", "negative_flips")]
        # The interval below its rate takes half the width.
        cells = [cell.replace(" [", "\n[") if intervals else cell.split(" [")[0] for cell in row]
        style = "bold" if row[0] == result.chosen.name else None
        table.add_row(*cells, *(shown if p_values else []), style=style)
    if p_values:
        table.caption = "p: exact paired test against the control, of accuracy and of negative flips"
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
    names = [OLD.name, NEW.name, CONTROL.name, *(candidate.name for candidate in CANDIDATES)]
    width = max(map(len, names))
    for index in chosen:
        console.print(Text(f"\n  {result.answers[OLD.name][index]['prompt']}", style="bold"))
        for name in names:
            is_right = right[name][index]
            line = Text(f"    {name:{width}}  {'right' if is_right else 'WRONG'}  ")
            line.append(result.answers[name][index]["prediction"], style="green" if is_right else "red")
            console.print(line)
