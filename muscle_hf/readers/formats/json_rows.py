"""One JSON object that holds a table: which of the ways of writing one it is, and its rows."""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...text import listed, quote
from .table_layout import NoTableError

_NUMBER = re.compile(r"-?\d+")
_HOW = "Write one object a line, or an array of objects (in pandas with orient='records')."


def holds_table(value: Any, columns: Collection[str]) -> bool:
    """Tell whether an object holds a table, and is no row of one itself: then it has a value in one of the columns."""
    if not isinstance(value, dict) or any(not isinstance(value.get(name, []), dict | list) for name in columns):
        return False
    return bool(value) and any(isinstance(item, dict | list) for item in value.values())


def rows_of(path: Path, value: Any) -> list[dict[str, Any]]:
    """Give the rows of a table that is one JSON object.

    Known are an array of objects in one of its fields, whatever the others say (`{"data": [{…}]}`), and what pandas
    writes with orient="split", "table" or "columns" and `datasets` with `to_dict`. What may be one or the other, such
    as an object of objects whose names tell neither rows nor columns, is refused.
    """
    if not isinstance(value, dict) or not value:
        raise NoTableError(f"{path} holds {quote(value) if value else 'an empty object'}, and no rows. {_HOW}")
    arrays = [name for name, items in value.items() if _is_rows(items)]
    if len(arrays) == 1:
        return list(value[arrays[0]])
    if arrays:
        raise NoTableError(f"{path} has several arrays of objects ({listed(map(quote, arrays))}). {_HOW}")
    if value.keys() in ({"columns", "data"}, {"columns", "index", "data"}):
        return _split(path, value["columns"], value["data"])
    if all(isinstance(column, list) for column in value.values()):
        return _from_columns(path, value)
    if all(isinstance(column, dict) for column in value.values()):
        return _labelled(path, value)
    if {"results", "configs", "n-shot"} <= value.keys():
        raise NoTableError(
            f"{path} is a results file of lm-evaluation-harness, which has no answers: name the samples_*.jsonl "
            "beside it, or their folder. They are written with --log_samples."
        )
    raise NoTableError(f"{path} is one JSON object with {listed(map(quote, value))}, and no table. {_HOW}")


def _is_rows(items: Any) -> bool:
    return isinstance(items, list) and bool(items) and all(isinstance(item, dict) for item in items)


def _split(path: Path, columns: Any, data: Any) -> list[dict[str, Any]]:
    if not isinstance(columns, list) or not all(isinstance(name, str) for name in columns):
        raise NoTableError(f"{path}: 'columns' is {quote(columns)}; a list of names is needed. {_HOW}")
    if not isinstance(data, list) or any(not isinstance(row, list) or len(row) != len(columns) for row in data):
        raise NoTableError(f"{path}: not every row of 'data' is a list of {len(columns)} values. {_HOW}")
    return [dict(zip(columns, row, strict=True)) for row in data]


def _from_columns(path: Path, columns: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        told = listed(f"{quote(name)} {length}" for name, length in lengths.items())
        raise NoTableError(f"{path}: its columns are of different lengths ({told}).")
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _labelled(path: Path, columns: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Give the rows of columns that name each row, as pandas writes them by default."""
    labels = list(next(iter(columns.values())))
    if any(list(column) != labels for column in columns.values()):
        raise NoTableError(f"{path} is an object of objects with different fields, and no table. {_HOW}")
    if not all(map(_NUMBER.fullmatch, labels)) or any(map(_NUMBER.fullmatch, columns)):
        raise NoTableError(
            f"{path} is an object of objects, and nothing says whether {quote(next(iter(columns)))} is a row (pandas "
            f"with orient='index') or a column (orient='columns'). {_HOW}"
        )
    return [{name: column[label] for name, column in columns.items()} for label in labels]
