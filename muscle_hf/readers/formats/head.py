"""The beginning of a file, from which formats are told apart: how it is laid out, and its first object."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias

from ...errors import InputError
from .columnar import Csv, Parquet
from .jsonlines import read_array, read_objects, read_whole
from .opening import BYTE_ORDER_MARK, ZIP, opened

Layout: TypeAlias = Literal["lines", "array", "object", "zip", "parquet", "arrow", "text", "binary"]

_NEEDED = "a file of answers"
_START = 1 << 16
_MARKS: tuple[tuple[bytes, Layout], ...] = (
    (ZIP, "zip"),
    (b"PAR1", "parquet"),
    (b"ARROW1", "arrow"),
    (b"\xff" * 4, "arrow"),
)


class Head:
    """What a file begins with, read once and shared by all that ask whether it is theirs."""

    def __init__(self, path: Path, where: Mapping[str, str] | None = None) -> None:
        """Read the first bytes, unpacked; a file that cannot be read, or is a pointer of git, is refused.

        Args:
            path: The file.
            where: What is chosen of it, such as provider -> its name, where it holds the answers of several.
        """
        self.path, self.where = path, dict(where or {})
        self.source = str(path) + "".join(f"@{name}={value}" for name, value in self.where.items())
        with opened(path, _NEEDED, zipped=True) as file:
            self.start: bytes = file.read(_START)

    @cached_property
    def layout(self) -> Layout:
        """How the file is laid out: JSON as one object a line, as an array or as one object, or something else."""
        for mark, layout in _MARKS:
            if self.start.startswith(mark):
                return layout
        text = self.start.removeprefix(BYTE_ORDER_MARK).lstrip()
        if text.startswith(b"["):
            return "array"
        if text.startswith(b"{"):
            # What is printed for people breaks its lines behind these.
            first = text.partition(b"\n")[0].rstrip()
            return "object" if b"\n" in text and first.endswith((b"{", b",", b"[", b":")) else "lines"
        return "binary" if b"\0" in self.start else "text"

    @cached_property
    def first(self) -> Mapping[str, Any] | None:
        """The first object: of lines, of an array, or the one that the file is; None where there is none."""
        try:
            if self.layout in ("lines", "array"):
                return next((row for _, row in self.objects(_NEEDED)), None)
            return self.document if isinstance(self.document, dict) else None
        except InputError:
            return None

    @property
    def keys(self) -> frozenset[str]:
        """The names of the fields of `first`."""
        return frozenset(self.first or ())

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The columns of a table: of Parquet, of CSV by its header, of JSON by its first object; none otherwise."""
        try:
            if self.layout == "parquet":
                return tuple(Parquet(self.path).names)
            return tuple(Csv(self.path).names) if self.layout == "text" else tuple(self.first or ())
        except InputError:
            return ()

    @cached_property
    def document(self) -> Any:
        """The value of a file that is one JSON value (also on one line); None where it is something else.

        Raises:
            InputError: It is not UTF-8, no JSON, or cut off.
        """
        if self.layout in ("array", "object"):
            return read_whole(self.path, _NEEDED)
        if self.layout == "lines":
            rows = read_objects(self.path, _NEEDED, each_once=False)
            first, second = next(rows, None), next(rows, None)
            return None if first is None or second is not None else first[-1]
        return None

    def objects(self, needed: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Give each object of lines or of an array with its place in words, such as "x.jsonl, line 3".

        Args:
            needed: What messages say that a line should hold.
        """
        read = read_array if self.layout == "array" else read_objects
        for number, _, _, row in read(self.path, needed, each_once=False):
            yield f"{self.path}, line {number}", row
