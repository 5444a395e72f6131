"""What a demo prints: the table, what it says, flipped questions with every model's answer, and what comes next."""

from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..card import against
from ..flips.rates import p_equation, p_number
from ..runs.cells import stacked
from ..runs.report import header, table_rows
from .contenders import BOUND, CONTROL, FAIR_CONTROL, FULL, LONGER_CONTROL, NEW, OLD, Cast
from .jobs import answers_of
from .results import DemoResult

EXAMPLES = 3

_CALLED = {
    CONTROL.name: "a plain adapter trained for as many steps",
    LONGER_CONTROL.name: "a plain adapter trained for as many steps",
    FAIR_CONTROL.name: "one that got the same prompts, answered by the new model",
}
_NFR = (
    "NFR, negative flip rate: share of all questions that the old model gets right and this one gets wrong. Relative "
    "NFR: what it is of the NFR that errors independent of the old model's would give."
)
_MORE = " PFR: the reverse of NFR. Inconsistency: wrong, and with another answer than the old model's."


def announce(output_dir: Path, cast: Cast, processes: int) -> None:
    """Say what is about to happen, before the first progress bar."""
    minutes = {1: ("five", "ten"), 2: ("three", "five")}[processes][cast is FULL]
    cores = "two cores" if processes == 2 else "one core"
    _console().print(
        f"An update of a small language model, live, in five stages: about {minutes} minutes on {cores}. Interrupted "
        f"(Ctrl-C), the same command goes on where it stopped, in {output_dir}.",
        markup=False,
    )


def _console() -> Console:
    return Console(highlight=False)


def show(result: DemoResult, output_dir: Path, *, fast: bool) -> None:
    """Print the table, what it says, some flipped questions, where everything lies, and what comes next.

    `fast` says that the figures mean nothing.
    """
    console = _console()
    old = next(iter(result.comparisons.values()))
    console.print(
        f"\n[bold]CLINC150 test set, {old.n:,} utterances, old model right on {100 * old.old_accuracy:.1f} %[/bold]\n"
    )
    console.print(_table(result, is_wide=console.width >= _WIDE))
    console.print(
        "In brackets: 95 % intervals. p: exact two-sided paired test of a row against "
        f"{result.chosen.name}, of accuracy above, of negative flips below. {_NFR}"
        f"{_MORE if console.width >= _WIDE else ''}\n",
        markup=False,
    )
    for line in sentences(result):
        console.print(Text(line))
    if fast:
        console.print("[yellow]--fast trains for seconds: these figures show that it runs, nothing else.[/yellow]")
    _show_flips(console, result)
    console.print(
        f"\nSaved in {output_dir}: adapter/ ({result.chosen.name}, with its card), comparison.json, "
        "predictions/*.jsonl\nNext, every answer that flipped, on one page:",
        markup=False,
    )
    old_answers, new_answers = (answers_of(output_dir, contender, "test") for contender in (OLD, result.chosen))
    commands = [f"muscle-hf compare {old_answers} {new_answers} --html flips.html"]
    if result.cast is not FULL and not fast:
        commands.append("muscle-hf demo --full")
    for command in commands:
        console.print(Text(f"  {command}"), soft_wrap=True)
    if len(commands) > 1:
        console.print("The second goes on here, with the paper's method on the labelled set alone, and its control.")


_WIDE = 106
"""Columns from which on all rates are shown; comparison.json has them in any case."""


def sentences(result: DemoResult) -> list[str]:
    """Say what the table shows, of each adapter against its own controls, flattering or not."""
    lines = [
        f"The update breaks {result.broken(NEW.name)} answers that were right. Asking both models each time would "
        f"break {result.broken(BOUND)}."
    ]
    for candidate in result.cast.candidates:
        ours, tests = result.broken(candidate.name), result.p_values[candidate.name]
        compared = [
            against(ours, result.broken(name), _CALLED[name], tests[name]["negative_flips"])
            for name in (control.name for control in candidate.controls)
        ]
        lines.append(f"- {candidate.name}: breaks {ours}, {' and '.join(compared)}.")
    chosen = result.chosen
    p_value = result.p_values[chosen.name][NEW.name]["negative_flips"]
    by_validation = f"Validation chose {chosen.name}. " if len(result.cast.candidates) > 1 else ""
    lines.append(f"{by_validation}Against the plain update itself its paired {p_equation(p_value)}.")
    return lines


def _table(result: DemoResult, *, is_wide: bool) -> Table:
    """Make a table that keeps intervals and p in 80 columns: below the figure that they belong to."""
    shown = range(len(header())) if is_wide else (0, 1, 2, 5)
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for title in [*(header()[index] for index in shown), "p acc.\np NFR"]:
        # A title breaks between its words and its unit, never inside a word.
        table.add_column(
            title.replace(", %", "\n%").replace("relative ", "relative\n"),
            justify="left" if title == header()[0] else "right",
            no_wrap=True,
        )
    tests = result.p_values[result.chosen.name]
    for name, row in zip(result.comparisons, table_rows(result.comparisons), strict=True):
        p_values = [p_number(tests[name][of]) for of in ("accuracy", "negative_flips")] if name in tests else []
        cells = [stacked(row[index]) for index in shown]
        table.add_row(*cells, "\n".join(p_values), style="bold" if name == result.chosen.name else None)
    return table


def _show_flips(console: Console, result: DemoResult) -> None:
    """Show questions that the plain update broke, those that the adapter won back first."""
    names = [contender.name for contender in result.cast.contenders]
    right = {name: [row["prediction"] == row["reference"] for row in result.answers[name]] for name in names}
    broken = [int(index) for index in result.comparisons[NEW.name].negative_flips]
    broken.sort(key=lambda index: not right[result.chosen.name][index])
    half = (EXAMPLES + 1) // 2
    shown = list(dict.fromkeys([*broken[:half], *broken[::-1][: EXAMPLES - half]]))
    if not shown:
        return
    console.print("\n[bold]Some questions that the old model answers right and the plain update does not[/bold]")
    width = max(map(len, names))
    for index in shown:
        console.print(Text(f"\n  {result.answers[NEW.name][index]['prompt']}", style="bold"))
        for name in names:
            is_right = right[name][index]
            line = Text(f"    {name:{width}}  {'right' if is_right else 'WRONG'}  ")
            line.append(result.answers[name][index]["prediction"], style="green" if is_right else "red")
            console.print(line)
