"""Find compatibility adapters on the Hub: by old base, new base, task or data set, the best first."""

import argparse
import io
import json
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from .lines import print_line

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from ..hub.find import Figure, FoundAdapter

_MORE = (
    "The token is the one that `hf auth login` saved, or HF_TOKEN. Figures are what the cards say, and nobody else "
    "has checked them; those of different data sets cannot be compared. Exit codes: 0 done, 2 bad input or no answer "
    "from the Hub, 130 interrupted."
)
# Of what a card holds, in a table; --json has all of it.
_LONGEST = 100
_WITHOUT_WIDTH = ("Cf", "Mn", "Me")
_NUMBERS = ("NFR reduction, pp", "NFR, %", "accuracy, %", "n", "downloads")
# The columns that a narrow terminal does without, the least telling first.
_LEAVING = ("downloads", "task", "new base", "old base", "accuracy, %", "NFR, %", "measured on", "n")
# Wide enough for every column, so that what is piped is never cut or broken.
_PIPED_WIDTH = 10_000


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.epilog = _MORE
    parser.add_argument("--base-model", metavar="ID", help="the new base, which you want to move to")
    parser.add_argument("--compatible-with", metavar="ID", help="the old base, which you come from")
    parser.add_argument("--task", metavar="TASK", help="the Hub's name of a task, such as text-generation")
    parser.add_argument("--dataset", metavar="ID", help="a data set that the card names")
    parser.add_argument("--limit", type=int, metavar="N", help="show the first N (default: all)")
    parser.add_argument("--json", action="store_true", help="print JSON in place of a table")


def run(arguments: argparse.Namespace) -> int:
    """Print what is found."""
    from ..hub.find import find_adapters

    adapters = find_adapters(
        arguments.base_model,
        arguments.compatible_with,
        task=arguments.task,
        dataset=arguments.dataset,
        limit=arguments.limit,
    )
    if arguments.json:
        text = json.dumps([_as_object(adapter) for adapter in adapters], indent=2, allow_nan=False)
    elif adapters:
        text = _table(adapters, arguments)
    else:
        text = _nothing(arguments)
    print_line(text)
    return 0


def _as_object(adapter: "FoundAdapter") -> dict[str, Any]:
    time = adapter.last_modified
    return asdict(adapter) | {"last_modified": None if time is None else time.isoformat()}


def _asked(arguments: argparse.Namespace) -> list[str]:
    names = ("base_model", "compatible_with", "task", "dataset")
    return [
        f"--{name.replace('_', '-')} {_shown(getattr(arguments, name))}" for name in names if vars(arguments)[name]
    ]


def _nothing(arguments: argparse.Namespace) -> str:
    asked = _asked(arguments)
    if not asked:
        return "The Hub has no adapter with the tag compatibility-adapter that you may see."
    fewer = f" Leave out one of {', '.join(asked)} to see more." if len(asked) > 1 else ""
    return (
        f"No adapter with the tag compatibility-adapter that you may see has {' and '.join(asked)} on its card. "
        f"Is the name spelled as on the Hub?{fewer}"
    )


def _table(adapters: "Sequence[FoundAdapter]", arguments: argparse.Namespace) -> str:
    from rich.console import Console
    from rich.measure import Measurement
    from rich.text import Text

    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console = Console(file=io.StringIO(), width=_PIPED_WIDTH, color_system=None, highlight=False, markup=False)
    rows = [_row(adapter) for adapter in adapters]
    # What was asked for is the same in every row, and what no card says is no column.
    same = {"new base": arguments.base_model, "old base": arguments.compatible_with, "task": arguments.task}
    kept = [name for name in rows[0] if not same.get(name) and any(row[name] for row in rows)]
    before = len(kept)
    leaving = [name for name in _LEAVING if name in kept]
    wide = console.options.update(width=_PIPED_WIDTH)
    while True:
        table = _laid_out(rows, kept, is_plain=not console.is_terminal)
        if not leaving or Measurement.get(console, wide, table).maximum <= console.width:
            break
        kept.remove(leaving.pop(0))
    # Not printed by rich itself, which ends the process when the reader of a pipe is gone.
    with console.capture() as captured:
        console.print(table)
        _print_notes(console, adapters)
        if len(kept) < before:
            console.print(Text("A wider terminal shows more columns; so does --json.", style="dim"))
    return captured.get().rstrip("\n")


def _laid_out(rows: Sequence[dict[str, str]], kept: Sequence[str], *, is_plain: bool) -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None if is_plain else SIMPLE_HEAD, pad_edge=False)
    for name in kept:
        title = name if is_plain else name.replace(" ", "\n").replace("reduction,\npp", "reduction, pp")
        is_number = name in _NUMBERS
        table.add_column(Text(title), justify="right" if is_number else "left", overflow="fold", no_wrap=is_number)
    for row in rows:
        table.add_row(*(Text(row[name] or "-") for name in kept))
    return table


def _print_notes(console: "Console", adapters: "Sequence[FoundAdapter]") -> None:
    from rich.text import Text

    figures = [adapter.best for adapter in adapters if adapter.best is not None]
    reductions = [figure.nfr_reduction for figure in figures if figure.nfr_reduction is not None]
    console.print()
    if reductions:
        note = (
            "NFR reduction: negative flips of the plain update minus those of the adapter, in percentage points of n"
        )
        levels = {reduction.level for reduction in reductions if reduction.level}
        note += f"; in brackets the card's {100 * levels.pop():g} % interval." if len(levels) == 1 else "."
        console.print(Text(note, style="dim"))
    console.print(Text("Figures are what the cards say; nobody else has checked them.", style="dim"))
    if len({figure.dataset for figure in figures}) > 1:
        console.print(Text("They were measured on different data sets, and cannot be compared.", style="yellow"))


def _row(adapter: "FoundAdapter") -> dict[str, str]:
    best = adapter.best
    reduction = None if best is None else best.nfr_reduction
    counts = [] if best is None else [each.n for each in (best.nfr_reduction, best.nfr, best.accuracy) if each]
    marks = [word for word, holds in (("gated", adapter.gated), ("private", adapter.private)) if holds]
    return {
        "adapter": _shown(adapter.name) + (f" ({', '.join(marks)})" if marks else ""),
        "NFR reduction, pp": _figure(reduction, "+.1f"),
        "NFR, %": _figure(None if best is None else best.nfr, ".1f"),
        "accuracy, %": _figure(None if best is None else best.accuracy, ".1f"),
        "n": next((f"{n:,}" for n in counts if n is not None), ""),
        "measured on": "" if best is None else " ".join(_shown(part) for part in (best.dataset, best.split) if part),
        "old base": _shown(", ".join(adapter.compatible_with)),
        "new base": _shown(adapter.base_model or ""),
        "task": _shown(adapter.task or ""),
        "downloads": "" if adapter.downloads is None else f"{adapter.downloads:,}",
    }


def _figure(figure: "Figure | None", form: str) -> str:
    if figure is None:
        return ""
    value = f"{100 * figure.value:{form}}"
    if figure.low is None or figure.high is None:
        return value
    return f"{value} [{100 * figure.low:{form}}, {100 * figure.high:{form}}]"


def _shown(text: str) -> str:
    """Give what stands on somebody's card for a terminal: on one line, short, and without commands.

    Characters that take no room of their own go: piled up they shift the columns, and two names would look alike.
    """
    from ..text import printable

    # Letters with marks that are one character stay.
    composed = unicodedata.normalize("NFC", printable(text))
    shown = "".join(letter for letter in composed if unicodedata.category(letter) not in _WITHOUT_WIDTH)
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}…"
