"""Which kind of table a file holds, told by its content; by its name only where plain text may be several things."""

from collections.abc import Collection
from pathlib import Path

from ...errors import InputError
from .columnar import ArrowFile, Columns, Csv, Parquet
from .head import Head
from .json_rows import holds_table
from .json_tables import JsonArray, JsonDocument, JsonLines
from .not_read import refuse_other
from .opening import is_packed, without_ending
from .table_layout import FIELDS, NoTableError

_KINDS = "JSON Lines, a JSON array, CSV, TSV, Parquet or Arrow"
_NEEDED = f"one JSON object a line with {', '.join(FIELDS[:3])}"
_JSON = (".json", ".jsonl", ".ndjson")


def open_table(head: Head, columns: Collection[str] = ()) -> Columns:
    """Open a file as a table; `columns` are names that columns are known to have.

    What holds a table in a way that is not read, and what holds none, is refused.
    """
    path, kind = head.path, without_ending(head.path).suffix.lower()
    if head.layout in ("parquet", "arrow") or kind == ".parquet":
        if head.layout != "text" and is_packed(path):
            raise InputError(f"{path} is a compressed Parquet or Arrow file: unpack it first.")
        return ArrowFile(path) if head.layout == "arrow" else Parquet(path)
    refuse_other(path, head.start)
    if kind in (".csv", ".tsv"):
        return Csv(path)
    if head.layout == "array":
        return JsonArray(path, _NEEDED)
    if head.layout in ("lines", "object"):
        whole = head.layout == "object" or holds_table(head.document, {*FIELDS, *columns})
        return JsonDocument(path, _NEEDED) if whole else JsonLines(path, _NEEDED)
    if kind in _JSON or not head.start.strip():
        return JsonLines(path, _NEEDED)
    table = _text(path) if head.layout == "text" else None
    if table is None:
        raise NoTableError(f"{path} is no table that is known here ({_KINDS}).")
    return table


def _text(path: Path) -> Csv | None:
    """Open a text as CSV where its header has several columns."""
    try:
        table = Csv(path)
    except InputError:
        return None
    return table if len(table.names) > 1 else None
