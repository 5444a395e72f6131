"""Predictions without right answers, such as transformers' `predict_results.txt`: another file has these by id."""

from collections.abc import Collection, Sequence

import pyarrow.compute as pc

from ...errors import InputError
from ...flips.answers.number_texts import as_text, whole_numbers
from ...flips.answers.same_answer import trimmed
from ...text import listed, quote
from ..answers import Column, some
from .columnar import Columns, T, Use
from .tables import joined

NAMES = ("reference", "label", "answer", "target", "gold")
"""What the column of right answers may be called in a file of its own, where none is named."""


class WithReferences:
    """A table, and a column of right answers that another file has for the same ids."""

    def __init__(self, table: Columns, key: str, references: "References", name: str) -> None:
        """Take a table, its column of ids, and what the column of right answers is called then."""
        self.table, self.key, self.references, self.name = table, key, references, name
        self.names, self.typed = [*table.names, name], table.typed

    def scan(self, wanted: Sequence[str], use: Use[T], *, strict: Collection[str] = ()) -> list[T]:
        """Read some columns; see `Columns`."""
        if self.name not in wanted:
            return self.table.scan(wanted, use, strict=strict)
        read = list(dict.fromkeys([*(name for name in wanted if name != self.name), self.key]))

        def keep(start: int, block: dict[str, Column]) -> T:
            right = self.references.of(_plain(block[self.key], typed=self.typed), typed=self.typed)
            return use(start, {name: right if name == self.name else block[name] for name in wanted})

        return self.table.scan(read, keep, strict=[name for name in strict if name != self.name])


class References:
    """The right answers of a file, by their ids as texts: a CSV file does not tell 1 from "1"."""

    def __init__(self, table: Columns, source: str, column: str | None, key: str) -> None:
        """Read ids and right answers."""
        self.source = source
        found = [name for name in NAMES if name in table.names] if column is None else [column]
        missing = next((name for name in (key, *found) if name not in table.names), None)
        if missing is not None or len(found) != 1:
            said = f"no column {quote(missing)}" if missing else f"{len(found)} columns that may hold right answers"
            raise InputError(
                f"{source} has {said}; it has {listed(map(quote, table.names))}. Name that of the right answers with "
                "--references FILE:COLUMN; that of the ids is called as in the predictions, or id."
            )
        blocks = table.scan(list(dict.fromkeys([key, *found])), lambda _, block: dict(block), strict=[key, *found])
        self.ids, self.right = (joined([block[name] for block in blocks], name, source) for name in (key, found[0]))
        self.ids = _plain(self.ids, typed=table.typed)
        counts = pc.value_counts(self.ids)
        twice = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
        if len(twice):
            raise InputError(f"{source}: {len(twice)} ids stand more than once, for instance {some(twice)}.")

    def of(self, ids: Column, *, typed: bool) -> Column:
        """Give the right answer for each id; as texts for a table that has no others."""
        places = pc.index_in(ids, value_set=self.ids)
        if places.null_count:
            lacking = ids.filter(pc.is_null(places))
            raise InputError(
                f"{self.source} has no right answer for {len(lacking)} ids of the predictions, for instance "
                f"{some(lacking)}; every instance needs one."
            )
        right = self.right.take(places)
        return right if typed else as_text(right)


def _plain(ids: Column, *, typed: bool) -> Column:
    return as_text(whole_numbers(ids if typed else trimmed(ids)))
