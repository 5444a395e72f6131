"""Rows of one model in a long table: those that hold one value in a column, `table.csv@model=v1`."""

import re
from collections.abc import Collection, Mapping, Sequence
from functools import reduce

import pyarrow as pa
import pyarrow.compute as pc

from ...errors import InputError
from ...flips.answers.number_texts import as_text, whole_numbers
from ...flips.answers.same_answer import trimmed
from ...text import listed, quote
from ..answers import Column
from .columnar import Columns, T, Use

MODELS = ("model", "model_name", "model_id", "model_version", "version", "checkpoint", "revision")
"""What a column that tells models apart may be called."""


class ChosenRows:
    """Those rows of a table that hold one value in each of some columns."""

    def __init__(self, table: Columns, chosen: Mapping[str, str], source: str) -> None:
        """Take a table, and column -> the value that its rows need."""
        self.table, self.chosen, self.source = table, chosen, source
        self.names, self.typed = table.names, table.typed

    def scan(self, wanted: Sequence[str], use: Use[T], *, strict: Collection[str] = ()) -> list[T]:
        """Read some columns; see `Columns`."""
        read = list(dict.fromkeys([*wanted, *self.chosen]))
        count = 0
        seen: dict[str, dict[str, None]] = {name: {} for name in self.chosen}

        def keep(start: int, block: dict[str, Column]) -> list[T]:
            nonlocal count
            count = count if start else 0  # a reader may start over
            texts = {name: _texts(block[name], typed=self.typed) for name in self.chosen}
            for name, values in texts.items():
                seen[name] |= dict.fromkeys(filter(None, pc.unique(values).to_pylist()))
            rows = reduce(pc.and_, (pc.equal(texts[name], value) for name, value in self.chosen.items()))
            rows = pc.fill_null(rows, False)
            first, found = count, pc.sum(rows).as_py() or 0
            count += found
            return [use(first, {name: block[name].filter(rows) for name in wanted})] if found else []

        used = [item for items in self.table.scan(read, keep, strict=strict) for item in items]
        if not count:
            told = "; ".join(f"{name} has {listed(map(quote, values)) or 'none'}" for name, values in seen.items())
            asked = " and ".join(f"{name}={value}" for name, value in self.chosen.items())
            raise InputError(f"{self.source}: no row has {asked}; {told}.")
        return used


def choices_in(rest: str, names: Sequence[str], source: str) -> tuple[str | None, dict[str, str]]:
    """Read what follows the name of a table, `:column` and `@column=value` in any order.

    Returns:
        The column of answers, None where none is named, and column -> value of the rows.
    """
    if not rest or (rest[0] == ":" and rest[1:] in names):
        return rest[1:] or None, {}
    begins = {
        match.end(): max((name for name in names if rest.startswith(f"{name}=", match.end())), key=len, default="")
        for match in re.finditer("@", rest)
    }
    places = [place for place, name in begins.items() if name]
    first = places[0] - 1 if places else len(rest)
    if rest[0] == "@" and first:
        name, equals, _ = rest[1:first].partition("=")
        if not equals:
            raise InputError(f"{source}: @{name} chooses nothing; write @COLUMN=VALUE, such as @model=v1.")
        raise InputError(
            f"{source} has no column {quote(name)} to choose rows by; it has {listed(map(quote, names))}."
        )
    column = rest[1:first] or None
    chosen: dict[str, str] = {}
    for place, end in zip(places, [place - 1 for place in places[1:]] + [len(rest)] * bool(places), strict=True):
        value = rest[place + len(begins[place]) + 1 : end]
        before, _, after = value.rpartition(":")
        if column is None and end == len(rest) and before and after in names:
            value, column = before, after
        if chosen.setdefault(begins[place], value) != value:
            raise InputError(f"{source} chooses {quote(begins[place])} more than once; name one.")
    return column, chosen


def advice(columns: Collection[str]) -> str:
    """Say how to choose the rows of one model where a table has a column that tells models apart."""
    name = next((name for model in MODELS for name in columns if name.lower() == model), None)
    if name is None:
        return ""
    return (
        f" Where the rows are of several models, choose those of one by the column {quote(name)}: FILE@{name}=VALUE."
    )


def _texts(column: Column, *, typed: bool) -> Column:
    if not typed:
        return trimmed(column)
    if pa.types.is_list(column.type):
        return pa.nulls(len(column), pa.string())
    return as_text(whole_numbers(column))
