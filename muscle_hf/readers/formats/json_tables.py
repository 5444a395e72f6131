"""Tables in JSON, scanned in blocks: one object a line, an array of objects, or one object that holds a table.

Lines and arrays are read by Arrow. What Arrow cannot read is read again object by object, which either takes it (an
integer of 30 digits, a lone surrogate) or names the line of the fault.
"""

import itertools
import json
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...errors import InputError
from ...text import quote
from .columnar import T, Use
from .json_rows import rows_of
from .jsonlines import checked, column_of, read_array, read_objects, read_whole, type_of
from .opening import BYTE_ORDER_MARK, is_packed, opened

# Rows of a block: few enough for long generations, and enough for short answers to be read fast.
_BLOCK = 1_000
_PEEK = 100
# Bytes that Arrow reads at a time: small blocks cost no time, and a reader that is ahead holds several.
_BYTES = 1 << 18
_Rows = Iterator[tuple[int, int, int, dict[str, Any]]]


class JsonLines:
    """A file with one JSON object a line."""

    typed = True
    place: ClassVar[str] = "line"
    """What is counted where a row is named."""

    def __init__(self, path: Path, needed: str) -> None:
        """Read the first objects, to see columns and types."""
        self.path, self.needed = path, needed
        rows = [row for *_, row in itertools.islice(self._rows(), _PEEK)]
        if not rows:
            raise InputError(f"{path} is empty; {needed} is needed.")
        self.first = rows[0]
        self.names = list(dict.fromkeys(name for row in rows for name in row))
        self.types = {name: type_of([row.get(name) for row in rows]) for name in self.names}

    def scan(self, wanted: Sequence[str], use: Use[T], *, strict: Collection[str] = ()) -> list[T]:
        """Read some columns; see `Columns`."""
        fields = [(name, self.types[name]) for name in wanted]
        if all(kind is not None for _, kind in fields):
            try:
                return self._fast(pa.schema(fields), use, strict)
            except (pa.ArrowException, UnicodeError, _NotPlainError):
                pass
        return self._careful(wanted, use, strict)

    def _rows(self) -> _Rows:
        return read_objects(self.path, self.needed)

    def _fast(self, schema: pa.Schema, use: Use[T], strict: Collection[str]) -> list[T]:
        # By its path, since Arrow is faster with files of its own.
        file = opened(self.path, self.needed) if is_packed(self.path) else pa.OSFile(str(self.path))
        with file:
            used, count, empty = self._read(file, schema, use, strict)
        # Arrow also takes several objects in one line, which is what a cut line looks like that another one follows.
        if count != self._lines():
            raise _NotPlainError
        self._refuse_gaps(empty)
        return used

    @staticmethod
    def _read(
        file: Any, schema: pa.Schema, use: Use[T], strict: Collection[str]
    ) -> tuple[list[T], int, dict[str, list[int]]]:
        """Read lines; also give their number, and the rows in which columns that every row must have are null."""
        import pyarrow.json

        options = pyarrow.json.ParseOptions(
            explicit_schema=schema, unexpected_field_behavior="ignore", newlines_in_values=isinstance(file, _AsLines)
        )
        used, start = [], 0
        empty: dict[str, list[int]] = {name: [] for name in strict}
        reading = pyarrow.json.ReadOptions(block_size=_BYTES)
        for batch in pyarrow.json.open_json(file, read_options=reading, parse_options=options):
            batch.validate(full=True)  # bytes that are not UTF-8
            for name, rows in empty.items():
                if batch[name].null_count:
                    rows += (np.flatnonzero(pc.is_null(batch[name])) + start).tolist()
            used.append(use(start, {name: batch[name] for name in schema.names}))
            start += len(batch)
        return used, start, empty

    def _lines(self) -> int:
        count, last = 0, b"\n"
        with opened(self.path, self.needed) as file:
            while block := file.read(1 << 20):
                count, last = count + block.count(b"\n"), block[-1:]
        return count + (last != b"\n")

    def _refuse_gaps(self, empty: dict[str, list[int]]) -> None:
        """Look again at rows with a null: Arrow does not tell it from a field that is not there."""
        if any(empty.values()):
            rows = {row for places in empty.values() for row in places}
            with opened(self.path, self.needed) as file:
                for number, line in enumerate(file):
                    if number in rows:
                        row = json.loads(line.decode("utf-8-sig"))
                        if not isinstance(row, dict) or not set(empty) <= row.keys():
                            raise _NotPlainError

    def _careful(self, wanted: Sequence[str], use: Use[T], strict: Collection[str]) -> list[T]:
        used: list[T] = []
        kinds: dict[str, str] = {}
        rows, start = self._values(wanted, strict, kinds), 0
        while block := list(itertools.islice(rows, _BLOCK)):
            columns = zip(wanted, zip(*block, strict=True), strict=True)
            used.append(use(start, {name: column_of(list(values), kinds.get(name)) for name, values in columns}))
            start += len(block)
        return used

    def _values(self, wanted: Sequence[str], strict: Collection[str], kinds: dict[str, str]) -> Iterator[list[Any]]:
        """Read some fields of each object; `kinds` gets what each holds."""
        for number, _, _, row in self._rows():
            where = f"{self.path}, {self.place} {number}"
            values = []
            for name in wanted:
                if name in strict and name not in row:
                    held = ", ".join(map(quote, itertools.islice(row, 5)))
                    raise InputError(f"{where} has no field {quote(name)}; it has {held or 'none'}.")
                value = row.get(name)
                values.append(checked(where, name, value, kinds) if name in strict else value)
            yield values


class JsonArray(JsonLines):
    """A file that is one JSON array of objects, in whatever lines it was written."""

    def _rows(self) -> _Rows:
        return read_array(self.path, self.needed)

    def _fast(self, schema: pa.Schema, use: Use[T], strict: Collection[str]) -> list[T]:
        with opened(self.path, self.needed) as file:
            lines = _AsLines(file)
            used, count, empty = self._read(lines, schema, use, strict)
        if count != lines.count or any(empty.values()):
            raise _NotPlainError
        return used


class JsonDocument(JsonLines):
    """A file that is one JSON object which holds a table in a way that can be told; see `rows_of`."""

    place = "row"

    def __init__(self, path: Path, needed: str) -> None:
        """Read all of it."""
        self.table = rows_of(path, read_whole(path, needed))
        super().__init__(path, needed)

    def _rows(self) -> _Rows:
        yield from ((number, 0, 0, row) for number, row in enumerate(self.table, start=1))

    def _fast(self, schema: pa.Schema, use: Use[T], strict: Collection[str]) -> list[T]:
        raise _NotPlainError  # it is read already


class _AsLines:
    """An array of objects, given as objects without commas between.

    The comma between any two braces becomes the end of a line. Where that was none between two rows, but inside one or
    in a string, which cannot hold the end of a line, reading fails.
    """

    _BETWEEN = re.compile(rb"\}\s*,\s*\{")
    _END = re.compile(rb"\}\s*\]\s*")

    def __init__(self, file: Any) -> None:
        self.file, self.count, self.closed = file, 1, False
        self.brackets = 0  # that are open
        self.pieces, self.ready = self._pieces(), b""

    def read(self, size: int) -> bytes:
        while len(self.ready) < size and (piece := next(self.pieces, None)) is not None:
            self.ready += piece
        content, self.ready = self.ready[:size], self.ready[size:]
        return content

    def close(self) -> None:
        self.closed = True

    def _pieces(self) -> Iterator[bytes]:
        kept: bytes = self.file.read(_BYTES).removeprefix(BYTE_ORDER_MARK).lstrip()
        if not kept.startswith(b"["):
            raise _NotPlainError
        kept, more = kept[1:], b""
        while True:
            # The last brace may be one before a comma that is not read yet.
            end = kept.rfind(b"}")
            if end > 0:
                rows, kept = self._BETWEEN.split(kept[:end]), kept[end:]
                self._refuse_inner(rows)
                self.count += len(rows) - 1
                yield b"}\n{".join(rows)
            more = self.file.read(_BYTES)
            if not more:
                break
            kept += more
        if not self._END.fullmatch(kept):
            raise _NotPlainError
        yield b"}\n"

    def _refuse_inner(self, rows: Sequence[bytes]) -> None:
        """Refuse a comma inside an array of a row: where a block ends just there, Arrow ends the whole process."""
        for place, row in enumerate(rows):
            self.brackets += row.count(b"[") - row.count(b"]")
            if self.brackets and place < len(rows) - 1:
                raise _NotPlainError


class _NotPlainError(Exception):
    """Arrow's reader does not tell enough here."""
