"""Tables that are written for people to fill in, and read again: CSV, or JSON Lines."""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files import no_such_file, replaced
from ..readers.answers import label
from ..readers.plain_rows import raw_rows
from ..text import listed, quote

ENDINGS = (".csv", ".jsonl")


def check_target(path: Path) -> None:
    """Refuse a file that cannot be written, before any work: also one that is there, since it may be filled in."""
    if path.suffix.lower() not in ENDINGS:
        raise InputError(f"{path} is to be a file of a kind that nobody knows; let it end in .csv or .jsonl.")
    if not path.parent.is_dir():
        raise InputError(f"{path}: there is no folder {path.parent}; make it first.")
    if path.exists():
        raise InputError(f"{path} is there, and may hold labels, so it is not replaced; name another file.")


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write some columns of rows."""
    with (
        replaced(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        if path.suffix.lower() == ".csv":
            writer.writeheader()
        for row in rows:
            if path.suffix.lower() == ".csv":
                writer.writerow(row)
            else:
                kept = {name: row[name] for name in columns}
                file.write(f"{json.dumps(kept, ensure_ascii=False)}\n")


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Read the rows of such a table, in any format of rows."""
    if not path.is_file():
        raise no_such_file(path)
    return raw_rows(str(path), None, "train")


def check_columns(path: Path, table: Sequence[Mapping[str, Any]], needed: Sequence[str], option: str) -> None:
    """Refuse a table without columns that it was written with."""
    columns = list(dict.fromkeys(name for row in table for name in row))
    if lacking := [name for name in needed if name not in columns]:
        raise InputError(
            f"{path} has no column {listed(map(quote, lacking))}, so it is no table that {option} wrote; it has "
            f"{listed(map(quote, columns)) or 'none'}."
        )


def draw_of(path: Path, table: Sequence[Mapping[str, Any]]) -> str:
    """Give what says of all rows which draw they are of."""
    draws = sorted({cell(row, "draw") for row in table})
    if len(draws) != 1 or not draws[0]:
        raise InputError(
            f"{path} has rows of several draws, or of none ({listed(map(quote, draws))}): leave 'draw' as it was "
            "written, and tables of two draws apart."
        )
    return draws[0]


def cell(cells: Mapping[str, Any], column: str) -> str:
    """Give what a cell holds as a text; "" where nothing was written."""
    value = cells.get(column)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return (label(value) or "").strip()


def id_of(cells: Mapping[str, Any]) -> str:
    """Give the id as it is: another one may differ in its spaces alone."""
    return label(cells.get("id")) or ""


def check_answers(path: Path, key: str | int, answers: Mapping[str, str | None], cells: Mapping[str, Any]) -> None:
    """Refuse a row with other answers than the files have."""
    for name, answer in answers.items():
        if name in cells and lines(cell(cells, name)) != lines((answer or "").strip()):
            raise InputError(
                f"{path}: {name} of id {quote(key)} is {quote(cells[name])}, and in the file {quote(answer)}. "
                "Labels are about the answers that they stand beside: restore the column, give OLD and NEW in the "
                "order of the table, or draw a new one."
            )


def lines(text: str) -> str:
    """Make one text of what a spreadsheet, or a file that holds no lone surrogate, makes of a text."""
    return text.replace("\r\n", "\n").replace("\r", "\n").encode("utf-8", "backslashreplace").decode()
