"""The two files of predictions that a visitor of a metric Space gives, pasted or uploaded: opened, read, compared.

What goes wrong is told with the names that the visitor knows, not with the places on the server.
"""

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from ..errors import InputError, MuscleError
from ..flips.answers.number_texts import whole_numbers
from ..flips.answers.same_answer import Spelling, parse_names, trimmed
from ..readers.answers import Run, TaskAnswers, Text, answer_column, label
from ..readers.formats.columnar import Columns
from ..readers.formats.harness import is_samples
from ..readers.formats.head import Head
from ..readers.formats.registry import recognise
from ..readers.formats.table_files import open_table
from ..readers.sources import read
from ..runs.compare import RunComparison, compare_runs
from ..text import listed, printable, quote

_PLACES = ("old", "new")
# What messages name for the command line and for Python -> where it stands on the page.
_ON_THE_PAGE = {
    " Right answers in another file are given with --references FILE (references=).": "",
    " --allow-identical (allow_identical=True) accepts that.": "",
    " --missing wrong (missing=) counts the others as wrong.": "",
    "with --columns id=NAME (columns=)": 'under "Column names"',
    "with --columns, such as --columns id=question_id": 'under "Column names", such as id=question_id',
    "with --by-position (by_position=True)": 'with "Join row by row"',
    "name both labels with --yes-no (positive= and negative= take several each)": (
        'name all labels under "Yes is" and "No is"'
    ),
    "--yes-no (yes_no=): ": "",
    "--allow-missing (allow_missing=True)": '"Leave out rows that only one file has"',
}
_NOT_ON_THE_PAGE = re.compile(
    r" Where the rows are of several models, .*?=VALUE\.| Files of these programs are read as they are: .*"
)
_NORMALIZE = re.compile(r"--normalize ([a-z,-]+?)(?: \(normalize=[^)]*\))?(?=[,;.:)]* |[.,)]*$)")


@dataclass(frozen=True)
class Given:
    """What a visitor gave for one model: a pasted table or an uploaded file; an untouched box gives None."""

    text: str | None = ""
    file: str | None = None


@dataclass(frozen=True)
class Options:
    """How both files are read and joined."""

    columns: str | None = ""
    """Names of columns, where they differ: "id=question_id, reference=gold"."""
    allow_missing: bool = False
    """Leave out the rows that only one file has."""
    by_position: bool = False
    """Join row by row, for files without ids."""
    normalize: str | None = ""
    """What need not count when answers are compared: "case, whitespace"."""


@dataclass(frozen=True)
class File:
    """One file of predictions, by the name that the visitor knows."""

    path: Path
    name: str


@contextmanager
def opened(old: Given, new: Given) -> Iterator[list[File]]:
    """Give both files; messages of errors inside name them as the visitor knows them."""
    uploaded = [Path(side.file).name if side.file else "" for side in (old, new)]
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for place, side, name in zip(_PLACES, (old, new), uploaded, strict=True):
            title, text = f"{place.capitalize()} model", (side.text or "").strip("\ufeff \r\n")
            if side.file and text:
                raise InputError(f"{title}: there is a pasted table and a file; clear one of them.")
            if side.file:
                alike = uploaded[0] == uploaded[1]
                files.append(File(Path(side.file), printable(f"{name} ({place})" if alike else name)))
            elif text:
                files.append(File(_written(text, Path(folder) / place), title))
            else:
                raise InputError(f"{title}: paste a table or upload a file with id, prediction and reference.")
        try:
            yield files
        except (MuscleError, OSError) as error:
            message = str(error)
            for file in files:
                for path in (file.path.resolve(), file.path):
                    message = message.replace(str(path), file.name)
            raise InputError(on_the_page(message)) from error


def on_the_page(text: str) -> str:
    """Say with the words of the page what a message or a note says with options."""
    for option, name in _ON_THE_PAGE.items():
        text = text.replace(option, name)
    text = _NOT_ON_THE_PAGE.sub("", text)
    return _NORMALIZE.sub(r'"\1" under "What need not count"', text)


def _written(text: str, stem: Path) -> Path:
    """Keep a pasted table as a file, named by what it looks like."""
    header = text.partition("\n")[0]
    kind = ".jsonl" if text[:1] in "{[" else ".tsv" if "\t" in header and "," not in header else ".csv"
    path = stem.with_suffix(kind)
    # Half a letter, which a browser can send, is no UTF-8: the reader says so.
    path.write_text(text, encoding="utf-8", errors="surrogatepass", newline="")
    return path


def _columns(text: str | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in filter(None, (part.strip() for part in (text or "").split(","))):
        what, _, name = (part.strip() for part in item.partition("="))
        if not what or not name:
            raise InputError(f"column names: {quote(item)} is not of the form id=question_id.")
        if found.setdefault(what, name) != name:
            raise InputError(f"column names: two are given for {quote(what)}.")
    return found


def _table(file: File) -> Columns | None:
    """Open a table; None for what lm-evaluation-harness or another program has scored itself."""
    head = Head(file.path)
    return None if is_samples(head.first or {}) or recognise(head) else open_table(head)


def has_references(file: File, options: Options) -> bool:
    """Tell whether a file says which answers are right."""
    table, columns = _table(file), _columns(options.columns)
    return table is None or columns.get("reference", "reference") in table.names


def compare_files(files: Sequence[File], options: Options, *, answers: bool = False, **how: Any) -> RunComparison:
    """Compare both files; `answers` takes predictions and references although there may be scores."""
    columns = _columns(options.columns)
    reading: dict[str, Any] = {"metric": how.pop("metric", None)}
    tables = [_table(file) for file in files]
    if answers and all(table and columns.get("prediction", "prediction") in table.names for table in tables):
        reading["metric"] = "accuracy"
    if any(tables):
        reading |= {"columns": columns, "normalize": options.normalize}
    runs = [_named(read(file.path, **reading), file) for file in files]
    return compare_runs(*runs, allow_missing=options.allow_missing, by_position=options.by_position, **how)


def _named(run: Run, file: File) -> Run:
    """Name a run as the visitor knows it; a file holds one task."""
    task, name = next(iter(run.tasks.values())), file.name

    def named(notes: Sequence[str]) -> tuple[str, ...]:
        return tuple(note.replace(str(file.path), name) for note in notes)

    # Rows without ids are those of one file, wherever it lies.
    task = replace(task, task="all", source=name, notes=named(task.notes), empty_notes=named(task.empty_notes))
    return Run(name, name, {"all": task}, named(run.notes))


def answers_alone(file: File, options: Options) -> TaskAnswers:
    """Read ids and predictions of a table without right answers, which `read` would refuse."""
    table, columns = _table(file), _columns(options.columns)
    assert table is not None  # noqa: S101 - samples of the harness have right answers
    key, prediction = (columns.get(what, what) for what in ("id", "prediction"))
    if prediction not in table.names:
        raise InputError(f"{file.name} has no column {quote(prediction)}; it has {listed(map(quote, table.names))}.")
    wanted = [name for name in (key, prediction) if name in table.names]

    spelling = Spelling(parse_names(options.normalize), table.typed)

    def keep(_: int, block: Mapping[str, Any]) -> dict[str, list[Any]]:
        columns = {name: block[name] if table.typed else trimmed(block[name]) for name in wanted}
        columns[prediction] = spelling.respell(block[prediction])
        # A float that is a whole number is that number; texts are looked at when all are there.
        return {
            name: (column if pa.types.is_string(column.type) else whole_numbers(column)).to_pylist()
            for name, column in columns.items()
        }

    found: dict[str, list[Any]] = {name: [] for name in wanted}
    for block in table.scan(wanted, keep, strict=wanted):
        for name, values in block.items():
            found[name] += values
    for name, values in found.items():
        _refuse(file, name, values, empty=name == prediction)
    answers = found[prediction]
    if not answers:
        raise InputError(f"{file.name} holds no answers; rows with id and prediction are needed.")
    ids = answer_column(found.get(key, list(range(len(answers)))))
    return TaskAnswers(
        task="all",
        source=file.name,
        ids=ids if table.typed else whole_numbers(ids),
        answers=answer_column(answers),
        texts=lambda places: [Text(None, None, label(answers[place])) for place in places.tolist()],
        row_ids_of=None if key in found else file.name,
        typed=table.typed,
        spelling=spelling,
    )


def _refuse(file: File, name: str, values: Sequence[Any], *, empty: bool) -> None:
    """Refuse what can be no answer or id."""
    kinds = {type(value) for value in values} - {type(None)}
    odd = kinds - {str, int}
    if odd or len(kinds) > 1 or (None in values and not empty):
        wrong = odd or ({type(None)} if not empty and None in values else {type(values[0]) if len(kinds) > 1 else str})
        row = next(row for row, value in enumerate(values) if type(value) in wrong)
        raise InputError(
            f"{file.name}: {quote(name)} is {quote(values[row])} in row {row + 1}; all values must be strings, or all "
            "integers."
        )
