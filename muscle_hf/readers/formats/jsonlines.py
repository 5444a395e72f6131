"""JSON Lines and arrays, read strictly: each fault is named with its line, nothing is repaired or skipped."""

import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ...errors import InputError
from ...text import quote
from ..answers import BIG, Column, answer_column, label
from .opening import BYTE_ORDER_MARK, opened
from .text_encoding import not_utf8

# Letters of an array that are read at a time.
_PART = 1 << 20
# Where a part ends inside a number, a word or an escape.
_WORD_AND_END = re.compile(r"[\w.+\\-]*[ \t\r\n]*", re.ASCII)
_WHITE_SPACE = re.compile(r"[ \t\r\n]*")


def read_objects(path: Path, needed: str, *, each_once: bool = True) -> Iterator[tuple[int, int, int, dict[str, Any]]]:
    """Read the objects of a file, one a line; empty lines are skipped.

    Refused with its line is what is not UTF-8, not JSON, not an object, or cut off; `needed` says what a line should
    hold. With `each_once` so is an object in which a field stands twice; without it the last value counts, twice as
    fast.

    Yields:
        Line number from 1, where the object starts in the file, its length in bytes, the object.
    """
    decoder = json.JSONDecoder(object_pairs_hook=_object) if each_once else json.JSONDecoder()
    start = 0
    # As bytes: text mode would also cut lines at a lone carriage return, and could not name the line whose bytes are
    # not UTF-8. Nor splitlines(), which cuts at line separators that JSON allows inside a string.
    with opened(path, needed) as file:
        for number, line in enumerate(file, start=1):
            body = line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line
            if body.strip():
                yield number, start, len(line), parse(decoder, f"{path}, line {number}", body, needed)
            start += len(line)


def read_array(path: Path, needed: str, *, each_once: bool = True) -> Iterator[tuple[int, int, int, dict[str, Any]]]:
    """Read the objects of a file that is one JSON array, in whatever lines it was written, a part at a time.

    Yields:
        As `read_objects`; the line is that on which the object begins.
    """
    decoder = json.JSONDecoder(object_pairs_hook=_object) if each_once else json.JSONDecoder()
    with opened(path, needed) as file:
        part = _Part(path, io.TextIOWrapper(file, "utf-8", newline=""))
        if part.skip() != "[":
            raise InputError(f"{path}, line {part.line} is no JSON array with {needed}.")
        part.take(1)
        comma = False
        while (sign := part.skip()) != "]" or comma:
            line, start = part.line, part.offset
            # What is no object is told as what it is, where that can be read.
            row = part.decode(decoder)
            if not isinstance(row, dict):
                raise InputError(f"{path}, line {line} is {quote(row)}, not a JSON object with {needed}.")
            yield line, start, part.offset - start, row
            sign = part.skip()
            if not sign:
                raise part.cut_off()
            if sign not in (",", "]"):
                raise InputError(f"{path}, line {part.line} is not JSON (a comma between two objects is missing).")
            comma = sign == ","
            if comma:
                part.take(1)
        part.take(1)
        if part.skip():
            raise InputError(f"{path}, line {part.line}: something follows the end of the JSON array.")


class _Part:
    """A part of a text that is read from its beginning to its end, and where it stands."""

    def __init__(self, path: Path, file: io.TextIOWrapper) -> None:
        self.path, self.file = path, file
        self.text, self.place, self.ended = "", 0, False
        self.line, self.offset = 1, 0
        self._more(_PART)
        if self.text.startswith("\ufeff"):
            self.take(1)

    def _more(self, size: int) -> None:
        try:
            more = self.file.read(size)
        except UnicodeDecodeError:
            raise InputError(not_utf8(self.path)) from None
        self.text, self.place, self.ended = self.text[self.place :] + more, 0, not more

    def take(self, size: int) -> None:
        """Go on by some letters."""
        taken = self.text[self.place : self.place + size]
        self.place += size
        self.line += taken.count("\n")
        self.offset += size if taken.isascii() else len(taken.encode())

    def skip(self) -> str:
        """Skip white space; give what comes next, nothing at the end."""
        while True:
            found = _WHITE_SPACE.match(self.text, self.place)
            self.take(found.end() - self.place if found else 0)
            if self.place < len(self.text) or self.ended:
                return self.text[self.place : self.place + 1]
            self._more(_PART)

    def decode(self, decoder: json.JSONDecoder) -> Any:
        """Read one value."""
        while True:
            try:
                value, end = decoder.raw_decode(self.text, self.place)
            except json.JSONDecodeError as error:
                # Of a value that goes on behind the part, the fault is at its end, or where its last string begins.
                goes_on = error.msg.startswith("Unterminated") or _WORD_AND_END.fullmatch(self.text, error.pos)
                if not goes_on:
                    raise InputError(f"{self.path}, line {self.line} is not JSON ({error.msg}).") from None
                if self.ended:
                    raise self.cut_off() from None
            except (ValueError, RecursionError) as error:
                raise _unreadable(f"{self.path}, line {self.line}", error) from None
            else:
                self.take(end - self.place)
                return value
            self._more(max(_PART, len(self.text)))

    def cut_off(self) -> InputError:
        return InputError(f"{self.path}, line {self.line}: the JSON array does not end: was the file cut off?")


def read_whole(path: Path, needed: str) -> Any:
    """Read a file that is one JSON value, in whatever lines it was written; a field that stands twice is refused."""
    with opened(path, needed) as file:
        content = file.read().removeprefix(BYTE_ORDER_MARK)
    try:
        return json.JSONDecoder(object_pairs_hook=_object).decode(content.decode("utf-8"))
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        if error.msg == "Extra data":
            raise InputError(
                f"{path} goes on behind the end of its first JSON value ({place}): write one object a line (jq -c .), "
                "or all in one array (jq -s .)."
            ) from None
        what = "array" if content.lstrip().startswith(b"[") else "document"
        raise InputError(f"{path} is no JSON {what} ({error.msg}, {place}): was the file cut off?") from None
    except (ValueError, RecursionError) as error:
        raise _unreadable(str(path), error) from None


def parse(decoder: json.JSONDecoder, where: str, line: bytes, needed: str) -> dict[str, Any]:
    """Parse one object; what is not UTF-8, not JSON or not an object is refused with its place."""
    # Only the last line of a file can be without its end.
    cut = "" if line.endswith(b"\n") else " The file ends within this line: was it cut off?"
    try:
        row = decoder.decode(line.decode("utf-8"))
    except json.JSONDecodeError as error:
        if line.strip() == b"{" and not cut:
            cut = f" The file is one document over several lines; {needed} is needed (JSON Lines)."
        raise InputError(f"{where} is not JSON ({error.msg}, column {error.colno}).{cut}") from None
    except (ValueError, RecursionError) as error:
        raise _unreadable(where, error, cut) from None
    if not isinstance(row, dict):
        raise InputError(f"{where} is {quote(row)}, not a JSON object with {needed}.")
    return row


def _unreadable(where: str, error: Exception, cut: str = "") -> InputError:
    if isinstance(error, UnicodeDecodeError):
        return InputError(f"{where} is not UTF-8 (byte {error.start + 1}): save the file as UTF-8.{cut}")
    if isinstance(error, RecursionError):
        return InputError(f"{where} is nested too deeply.")
    # A field that stands twice, or an integer with thousands of digits.
    return InputError(f"{where} cannot be read: {error}.")


def object_in(value: Any, name: str) -> Mapping[str, Any]:
    """Give an object inside a JSON object; an empty one where there is none."""
    part = value.get(name) if isinstance(value, Mapping) else None
    return part if isinstance(part, Mapping) else {}


def read_at(path: Path, places: Sequence[tuple[int, int]], make: Callable[[dict[str, Any]], Any]) -> list[Any]:
    """Read some objects again, by start and length in bytes; give what `make` keeps of each, in the given order."""
    kept: list[Any] = [None] * len(places)
    with opened(path, "the file that was read before") as file:
        # In the order of the file, which is how a disk likes it.
        for index in sorted(range(len(places)), key=places.__getitem__):
            start, length = places[index]
            file.seek(start)
            try:
                kept[index] = make(json.loads(file.read(length).removeprefix(BYTE_ORDER_MARK)))
            except (ValueError, KeyError, TypeError, AttributeError):
                raise InputError(f"{path} has changed since it was read: compare again.") from None
    return kept


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Make a JSON object; of a name that stands twice, Python would silently keep the last value."""
    fields = dict(pairs)
    if len(fields) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the field {quote(twice)} stands twice in one object")
    return fields


_JSON_TYPES = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


def type_of(values: Sequence[Any]) -> pa.DataType | None:
    """Give the type of a JSON column from its first values; None where they have no common one."""
    kinds = {type(value) for value in values if value is not None}
    if not kinds:
        return pa.string()
    if kinds == {list}:
        inner = type_of([item for value in values if value is not None for item in value])
        return None if inner is None or pa.types.is_list(inner) else pa.list_(inner)
    if kinds == {int, float}:
        return pa.float64()
    return _JSON_TYPES.get(kinds.pop()) if len(kinds) == 1 else None


def checked(where: str, name: str, value: Any, kinds: dict[str, str]) -> Any:
    """Refuse a value of another kind than the column's first."""
    if value is None:
        return None
    items = value if isinstance(value, list) else [value]
    # A bool is an int for Python, and none for whoever reads the file.
    held = {"number" if type(item) in (int, float) else type(item).__name__ for item in items if item is not None}
    if not held <= {"str", "number", "bool"} or len(held) > 1:
        raise InputError(
            f"{where}: {quote(name)} is {quote(value)}; a string, a number or a list of either is needed."
        )
    kind = ("list of " if isinstance(value, list) else "") + "".join(held)
    first = kinds.setdefault(name, kind)
    if first == "list of " != kind and kind.startswith(first):
        kinds[name] = kind
    elif first != kind and not (kind == "list of " and first.startswith(kind)):
        names = {"str": "a string", "number": "a number", "bool": "true or false"}
        raise InputError(
            f"{where}: {quote(name)} is {quote(value)}, but the file starts with {names.get(first, 'a list')}. Write "
            "all as strings or all as numbers: 1 and '1' are different answers."
        )
    if any(type(item) is int and abs(item) >= 10**BIG.precision for item in items):
        raise InputError(
            f"{where}: {quote(name)} has more than {BIG.precision} digits; write such numbers as strings."
        )
    return value


def column_of(values: list[Any], kind: str | None) -> Column:
    """Make a column of values of one kind; of any values, as their labels, where no kind is told."""
    if kind is None:
        lists = any(isinstance(value, list) for value in values)
        if lists and all(value is None or isinstance(value, list) for value in values):
            return column_of([value and [label(item) for item in value] for value in values], "list of str")
        return answer_column([label(value) for value in values])
    if kind.startswith("list of "):
        sizes = [0 if value is None else len(value) for value in values]
        flat = column_of([item for value in values for item in value or ()], kind.removeprefix("list of ") or "str")
        if flat.null_count == len(flat):
            flat = pa.nulls(len(flat))  # its type says nothing
        offsets = pa.array(np.cumsum([0, *sizes]), pa.int32())
        return pa.ListArray.from_arrays(offsets, flat, mask=pa.array([value is None for value in values]))
    if kind == "bool":
        return pa.array(values, pa.bool_())
    if any(isinstance(value, float) for value in values):
        return pa.array([value if value is None else float(value) for value in values], pa.float64())
    return answer_column(values)
