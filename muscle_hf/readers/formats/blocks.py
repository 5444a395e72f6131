"""Columns that grow row by row, kept in blocks of Arrow arrays: a fraction of what Python's objects take."""

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from ..answers import Column, answer_column, short

_ROWS = 10_000


class Blocks:
    """Columns of texts or integers of which long texts are kept short."""

    def __init__(self, names: Iterable[str]) -> None:
        """Begin with no row."""
        self._rows: dict[str, list[Any]] = {name: [] for name in names}
        self._blocks: dict[str, list[Column]] = {name: [] for name in self._rows}

    def add(self, row: Mapping[str, Any]) -> None:
        """Add a value to each column."""
        for name, value in row.items():
            self._rows[name].append(short(value) if isinstance(value, str) else value)
        if len(self._rows[name]) == _ROWS:
            self._flush()

    def _flush(self) -> None:
        for name, values in self._rows.items():
            if any(isinstance(value, str) for value in values):
                values = [value if value is None else str(value) for value in values]
            self._blocks[name].append(answer_column(values))
            self._rows[name] = []

    def columns(self) -> dict[str, Column]:
        """Give the columns; a column in which any value is a text holds texts."""
        self._flush()
        return {name: _joined(self._blocks.pop(name)) for name in list(self._blocks)}


def _joined(blocks: list[Column]) -> Column:
    kinds = {block.type for block in blocks if block.null_count < len(block)}
    if len(kinds) > 1 or pa.string() in kinds:
        blocks = [block.cast(pa.string()) for block in blocks]
    # A block of nulls alone has a type that says nothing.
    return pa.concat_arrays([block.cast(next(iter(kinds))) for block in blocks] if len(kinds) == 1 else blocks)
