"""List what to label where two model versions disagree, and say from the labels which way the update goes."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..text import how_many, printable
from .lines import print_line, tell
from .reading import configure_reading, reading_options

if TYPE_CHECKING:
    from ..flips.sampling.labelling import Labelled
    from ..runs.labelling.disagreements import Disagreement, Disagreements
    from ..runs.labelling.label_table import Label

_MORE = (
    "Right answers in the files are left out, and need not be there. Rows are drawn at random, so that those labelled "
    "speak for all; label them in their order, without a gap. Exit codes: 0 done, also where the labels cannot tell, "
    "2 bad input."
)
_LABELS = 25
_WIDTH = 40


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.epilog = _MORE
    configure_reading(parser)
    labelling = parser.add_argument_group("labels")
    labelling.add_argument(
        "--label", type=int, metavar="N", help=f"how many disagreements to list or write (default: {_LABELS})"
    )
    labelling.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="write them to this file, .csv or .jsonl, with empty columns: right_answer, and right_model (old, new, "
        "both or neither) where that is easier to say; with --labels it gets these, so that it goes on where they end",
    )
    labelling.add_argument("--seed", type=int, help="of the order (default: 0, or that of --labels)")
    labelling.add_argument(
        "--labels", type=Path, metavar="FILE", help="such a file, filled in: say which way the update goes"
    )
    labelling.add_argument("--level", type=float, default=0.95, help="level of the intervals (default: 0.95)")
    parser.add_argument("--json", action="store_true", help="print JSON in place of sentences")


def run(arguments: argparse.Namespace) -> int:
    """List or write disagreements, or judge by labels."""
    from ..runs.filled_table import check_target
    from ..runs.labelling.disagreements import find_disagreements
    from ..runs.labelling.label_table import read_labels

    _check(arguments)
    if arguments.output is not None:
        check_target(arguments.output)
    found = find_disagreements(arguments.old, arguments.new, seed=_seed(arguments), **reading_options(arguments))
    content: dict[str, Any] = found.to_dict()
    lines = [printable(f"{found.old_name} -> {found.new_name}"), str(found)]
    labels = []
    if arguments.labels is not None:
        labels = read_labels(arguments.labels, found, normalized=bool(arguments.normalize))
        said = _judge(arguments, found, labels)
        content["labelled"] = said.to_dict()
        lines.append(str(said))
    rows = []
    if arguments.labels is None or arguments.output is not None:
        count = _LABELS if arguments.label is None else arguments.label
        rows = found.rows(range(min(count, len(found))))
    if arguments.output is not None:
        _write(arguments, found, rows, labels)
    elif arguments.labels is None:
        content["rows"] = [row.to_dict() for row in rows]
        lines += _listed(rows)
    if arguments.json:
        from ..flips.rates import strict_json

        print_line(strict_json(content, indent=2))
    else:
        print_line("\n".join([*lines, *(printable(f"note: {note}") for note in found.notes)]))
    return 0


def _check(arguments: argparse.Namespace) -> None:
    """Refuse options that contradict each other, before any work."""
    from ..flips.inputs import check_level

    if arguments.label is not None and arguments.label < 1:
        raise InputError(f"--label {arguments.label} would list nothing; give a number from 1 up.")
    check_level(arguments.level)
    if arguments.labels is not None and (arguments.label is None) is not (arguments.output is None):
        raise InputError(
            "beside --labels, --label and --output go together: they write a longer table, with the labels that there "
            "are; give both, or neither."
        )


def _seed(arguments: argparse.Namespace) -> int:
    """Give the seed of the order; that of the labels, where there are any."""
    from ..runs.labelling.label_table import seed_of

    drawn = None if arguments.labels is None else seed_of(arguments.labels)
    if None not in (drawn, arguments.seed) and drawn != arguments.seed:
        raise InputError(f"{arguments.labels} was drawn with --seed {drawn}; leave --seed {arguments.seed} out.")
    return drawn or arguments.seed or 0


def _judge(arguments: argparse.Namespace, found: "Disagreements", labels: "Sequence[Label]") -> "Labelled":
    from ..flips.sampling.labelling import from_labels
    from ..runs.labelling.label_table import counts

    return from_labels(total=found.total, disagreements=len(found), level=arguments.level, **counts(labels))


def _write(
    arguments: argparse.Namespace, found: "Disagreements", rows: "Sequence[Disagreement]", labels: "Sequence[Label]"
) -> None:
    """Write the table of rows to label, and say on standard error what to do with it."""
    from ..runs.labelling.label_table import write_table

    path = arguments.output
    if not rows:
        tell("disagreements", f"nothing to label, so {path} is not written")
        return
    if labels and labels[-1].place >= len(rows):
        raise InputError(
            f"--label {len(rows)} would leave out labels of {arguments.labels}, which has them up to row "
            f"{labels[-1].place + 1} of the order; ask for more."
        )
    try:
        write_table(path, rows, found.draw, labels)
    except OSError as error:
        raise InputError(f"--output {path} cannot be written ({error.strerror or error}).") from None
    all_of_them = "all " if len(rows) == len(found) else ""
    tell(
        "disagreements",
        f"wrote {path} with {all_of_them}{how_many(len(rows), 'row')}; fill in right_answer or right_model from the "
        f"first row on, then give it with --labels {path}",
    )


def _listed(rows: "Sequence[Disagreement]") -> list[str]:
    """Show rows in columns."""
    if not rows:
        return []
    names = [name for name in ("task", "id", "old_answer", "new_answer", "question") if _has(rows, name)]
    table = [[name.replace("_", " ") for name in names]]
    table += [[_short(getattr(row, name)) for name in names] for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "",
        *("  ".join(f"{cell:{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip() for cells in table),
    ]


def _has(rows: "Sequence[Disagreement]", name: str) -> bool:
    return any(getattr(row, name) is not None for row in rows)


def _short(value: object) -> str:
    text = "(none)" if value is None else printable(str(value))
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"
