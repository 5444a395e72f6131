"""The columns of CSV, Parquet and `datasets`, scanned in blocks so that memory stays bounded (JSON: `json_tables`)."""

import codecs
import csv
import io
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pyarrow as pa

from ...errors import InputError
from ...files import no_such_file, refuse_pointer
from ...text import one_line, quote
from ..answers import BIG, Column, answer_column, label, some
from .opening import opened, without_ending
from .text_encoding import not_utf8

T = TypeVar("T")
Use = Callable[[int, dict[str, Column]], T]
"""What to make of a block: number of its first row, column name -> values."""

# Rows of a block: few enough for long generations, and enough for short answers to be read fast. Parquet tells how
# long its rows are, so there a block is what holds about so many bytes.
_BLOCK = 1_000
_PARQUET_BYTES = 1 << 22
# A text of its own takes four bytes for its length alone.
_FEW_BYTES = 2
# Bytes that Arrow reads at a time; a row of CSV has to fit, so more are tried where one does not.
_CSV_BYTES = (1 << 20, 1 << 26, 1 << 30)


class Columns(Protocol):
    """A table that can be scanned."""

    names: list[str]
    """Its columns."""
    typed: bool
    """Whether the format tells the integer 1 from the text "1"."""

    def scan(self, wanted: Sequence[str], use: Use[T], *, strict: Collection[str] = ()) -> list[T]:
        """Read some columns, block by block.

        Args:
            wanted: Their names.
            use: What to make of each block; where a reader has to start over, it is called from the first row again.
            strict: Columns that every row must have; a null is a value, where the format tells it from a gap.
        """
        ...


UNNAMED = "Unnamed: "
"""How the name of a column without one begins; its number follows, as in pandas."""


class Csv:
    """A file of comma- or tab-separated values with a header; an empty field that is not quoted is null.

    Where the header holds no such sign, semicolons and vertical bars separate as well.
    """

    typed = False

    def __init__(self, path: Path) -> None:
        """Read the header."""
        self.path = path
        self.delimiter = "\t" if without_ending(path).suffix.lower() == ".tsv" else ","
        header = self._header()
        if not header:
            raise InputError(f"{path} is empty; a header and rows are needed.")
        # Bytes beyond ASCII became surrogates; UTF-16 is half NUL.
        if any("\udc80" <= letter <= "\udcff" or letter == "\0" for name in header for letter in name):
            raise InputError(not_utf8(path))
        if len(header) == 1:
            # Answers need two columns, so what stands between them is another sign: Excel writes ; in half of Europe.
            self.delimiter = next((sign for sign in ",;\t|" if sign in header[0]), self.delimiter)
            header = self._header()
        twice = sorted({name for name in header if header.count(name) > 1})
        if twice:
            raise InputError(f"{path}: the header names {some(twice)} more than once.")
        # A column without a name is what pandas makes of its index; it gets the name by which pandas reads it back.
        names = [name.strip() or f"{UNNAMED}{place}" for place, name in enumerate(header)]
        self.names = names if len(set(names)) == len(names) else header
        self.written = dict(zip(self.names, header, strict=True))

    def _header(self) -> list[str]:
        with opened(self.path, "a table with a header") as file:
            text = io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="")
            try:
                return next(filter(None, csv.reader(text, delimiter=self.delimiter)), [])
            except csv.Error as error:
                raise InputError(f"{self.path} cannot be read as CSV ({error} in its header).") from None

    def scan(self, wanted: Sequence[str], use: Use[T], *, strict: Collection[str] = ()) -> list[T]:
        """Read some columns; see `Columns`. A CSV file has no gaps, so `strict` asks for nothing."""
        for size in _CSV_BYTES:
            faults: list[str] = []
            try:
                with opened(self.path, "a table with a header") as file:
                    ended = _Ended(file, self.delimiter.join([_END] * len(self.names)))
                    return self._scan(ended, wanted, use, size, faults)
            except (pa.ArrowException, UnicodeError) as error:
                if not faults and "block" in str(error) and size < _CSV_BYTES[-1]:
                    continue
                raise self._fault(error, faults) from None
        raise AssertionError

    def _scan(self, file: "_Ended", wanted: Sequence[str], use: Use[T], size: int, faults: list[str]) -> list[T]:
        import pyarrow.csv

        def refuse(row: Any) -> str:
            if _END in row.text:
                faults.append(f"{self.path}, row {row.number} ends inside quotes: was the file cut off?")
            else:
                fields = f"{row.expected_columns} fields expected, {row.actual_columns} found in {quote(row.text)}"
                cause = "was the file cut off" if row.actual_columns < row.expected_columns else "is a field unquoted"
                faults.append(f"{self.path}, row {row.number}: {fields}; {cause}?")
            return "error"

        written = {name: self.written[name] for name in wanted}
        reader = pyarrow.csv.open_csv(
            file,
            # One thread, so that a faulty row has a number.
            read_options=pyarrow.csv.ReadOptions(use_threads=False, block_size=size),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=self.delimiter,
                newlines_in_values=True,
                # An empty line is a row of a table with one column, and none of any other.
                ignore_empty_lines=len(self.names) > 1,
                invalid_row_handler=refuse,
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(written.values(), pa.string()),
                include_columns=list(written.values()),
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
        used, start, ended = [], 0, False
        for batch in reader:
            ended = len(batch) > 0 and all(batch[name][-1].as_py() == _END for name in written.values())
            rows = batch.slice(0, len(batch) - 1) if ended else batch
            if len(rows):
                used.append(use(start, {name: rows[written[name]] for name in wanted}))
            start += len(rows)
        if not ended:
            raise InputError(f"{self.path}, row {start + 1} ends inside quotes: was the file cut off?")
        return used

    def _fault(self, error: Exception, faults: Sequence[str]) -> InputError:
        if faults:
            return InputError(faults[0])
        text = one_line(error)
        if "UTF8" in text or isinstance(error, UnicodeError):
            return InputError(not_utf8(self.path))
        if "Empty CSV" in text:
            return InputError(f"{self.path} is empty; a header and rows are needed.")
        return InputError(f"{self.path} cannot be read as CSV ({text}).")


_END = "\x03end of file\x03"


class _Ended:
    """A file with one more row at its end: where that is not found as a row, the file ends inside quotes."""

    def __init__(self, file: Any, row: str) -> None:
        self.file, self.row, self.last, self.closed = file, row.encode(), b"\n", False
        self.letters = codecs.getincrementaldecoder("utf-8")()

    def read(self, size: int) -> bytes:
        content: bytes = self.file.read(size)
        # Before Arrow sees a row with other bytes: it prints a fault of its own where it has to show one.
        if not content.isascii() or self.letters.getstate()[0]:
            self.letters.decode(content, not content)
        if not content and self.row:
            # A line end is added only where the file lacks it: an empty line may be a row.
            content, self.row = (b"" if self.last in b"\r\n" else b"\n") + self.row + b"\n", b""
        self.last = content[-1:]
        return content

    def close(self) -> None:
        self.closed = True


class Parquet:
    """A Parquet file."""

    typed = True

    def __init__(self, path: Path) -> None:
        """Read the schema."""
        self.path = path
        with self._file() as file:
            self.names = file.schema_arrow.names
        twice = sorted({name for name in self.names if self.names.count(name) > 1})
        if twice:
            raise InputError(f"{path} has more than one column {some(twice)}.")

    def _file(self, dictionaries: Sequence[str] = ()) -> Any:
        import pyarrow.parquet

        refuse_pointer(self.path)
        try:
            # Buffered, or a whole column of a row group would be held in memory.
            return pyarrow.parquet.ParquetFile(self.path, buffer_size=1 << 20, read_dictionary=list(dictionaries))
        except FileNotFoundError:
            raise no_such_file(self.path) from None
        except (OSError, UnicodeError, pa.ArrowException) as error:
            raise InputError(f"{self.path} cannot be read as Parquet ({one_line(error)}); was it cut off?") from None

    def scan(self, wanted: Sequence[str], use: Use[T], *, strict: Collection[str] = ()) -> list[T]:
        """Read some columns; see `Columns`. Parquet knows no gaps, so `strict` asks for nothing."""
        with self._file(self._few_texts(wanted)) as file:
            try:
                size = sum(file.metadata.row_group(i).total_byte_size for i in range(file.num_row_groups))
                rows = _PARQUET_BYTES * file.metadata.num_rows // max(size, 1)
                batches = file.iter_batches(min(max(rows, 1), 64 * _BLOCK), columns=list(wanted))
                return _use_all(batches, wanted, use, str(self.path), strict)
            except (OSError, UnicodeError, pa.ArrowException) as error:
                raise InputError(f"{self.path} cannot be read as Parquet ({one_line(error)}).") from None

    def _few_texts(self, wanted: Sequence[str]) -> list[str]:
        """Name the columns whose few texts stand in the file once each: so they are read in half the time."""
        with self._file() as file:
            places = [i for i in range(len(file.schema)) if file.schema.column(i).path in wanted]
            try:
                # What Arrow says of a column that it could not read would end the process.
                first = next(file.iter_batches(1, columns=list(wanted)), None)
            except (OSError, UnicodeError, pa.ArrowException):
                return []  # `scan` meets it again, and says so
            if first is None or not file.num_row_groups:
                return []
            chunks = [file.metadata.row_group(0).column(place) for place in places]
        return [
            chunk.path_in_schema
            for chunk in chunks
            if chunk.physical_type == "BYTE_ARRAY" and chunk.total_uncompressed_size <= _FEW_BYTES * chunk.num_values
        ]


class ArrowFile:
    """A file of Arrow's own format, also called Feather, or one that `datasets` keeps, a stream of it."""

    typed = True

    def __init__(self, path: Path) -> None:
        """Read the schema."""
        self.path = path
        with self._read() as reader:
            self.names = reader.schema.names

    def _read(self) -> Any:
        try:
            file = pa.memory_map(str(self.path))
            return (pa.ipc.open_file if file.read(6) == b"ARROW1" else pa.ipc.open_stream)(self._begin(file))
        except (OSError, pa.ArrowException) as error:
            raise self._fault(error) from None

    @staticmethod
    def _begin(file: Any) -> Any:
        file.seek(0)
        return file

    def scan(self, wanted: Sequence[str], use: Use[T], *, strict: Collection[str] = ()) -> list[T]:
        """Read some columns; see `Columns`. Arrow knows no gaps, so `strict` asks for nothing."""
        try:
            with self._read() as reader:
                # A file knows its batches by number, a stream gives one after the other.
                whole = hasattr(reader, "num_record_batches")
                batches = map(reader.get_batch, range(reader.num_record_batches)) if whole else reader
                parts = (
                    batch.slice(start, 10 * _BLOCK) for batch in batches for start in range(0, len(batch), 10 * _BLOCK)
                )
                return _use_all(parts, wanted, use, str(self.path), strict)
        except (OSError, UnicodeError, pa.ArrowException) as error:
            raise self._fault(error) from None

    def _fault(self, error: Exception) -> InputError:
        return InputError(f"{self.path} cannot be read as Arrow ({one_line(error)}); was it cut off?")


class HubDataset:
    """A data set of the Hub, or a folder that `datasets` knows."""

    typed = True

    def __init__(self, dataset: Any, name: str) -> None:
        """Take a loaded `datasets.Dataset`."""
        self.dataset, self.name = dataset, name
        self.names = list(dataset.column_names)

    def scan(self, wanted: Sequence[str], use: Use[T], *, strict: Collection[str] = ()) -> list[T]:
        """Read some columns; see `Columns`. A data set knows no gaps, so `strict` asks for nothing."""
        chosen = self.dataset.select_columns(list(wanted)).with_format("arrow")
        batches = (batch for table in chosen.iter(_BLOCK) for batch in table.to_batches())
        try:
            return _use_all(batches, wanted, use, self.name, strict)
        except pa.ArrowException as error:
            raise InputError(f"{self.name} cannot be read ({one_line(error)}).") from None


def _use_all(
    batches: Iterator[Any], wanted: Sequence[str], use: Use[T], source: str, strict: Collection[str]
) -> list[T]:
    used, start = [], 0
    for batch in batches:
        used.append(use(start, {name: _plain(batch[name], name, source, name in strict) for name in wanted}))
        start += len(batch)
    return used


def _plain(values: Column, name: str, source: str, strict: bool) -> Column:
    """Bring a column to string, integers, double, bool or a list of one of these; others to their labels."""
    kind = values.type
    if pa.types.is_dictionary(kind):
        values, kind = values.dictionary_decode(), kind.value_type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        # Arrow makes a broken array of lists of nulls that are cast to the same.
        inner = pa.string() if pa.types.is_null(kind.value_type) else _plain_type(kind.value_type)
        wanted = None if inner is None else pa.list_(inner)
    else:
        wanted = _plain_type(kind)
    if wanted is not None:
        if kind in (pa.float16(), pa.float32()):
            # The 0.1 that was written, and not the double next to it; float16 has no text of its own.
            return values.cast(pa.float32()).cast(pa.string()).cast(wanted)
        # More than 64 bits signed.
        return answer_column(values.to_pylist()) if kind == pa.uint64() else values.cast(wanted)
    if strict:
        raise InputError(
            f"{source}: column {quote(name)} is of type {one_line(kind)}; strings, numbers, booleans or lists of "
            "these are needed."
        )
    return answer_column(list(map(label, values.to_pylist())))


def _plain_type(kind: pa.DataType) -> pa.DataType | None:
    if pa.types.is_integer(kind):
        return pa.int64()
    if pa.types.is_floating(kind):
        return pa.float64()
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_decimal(kind):
        return pa.float64() if kind.scale else BIG
    return kind if pa.types.is_boolean(kind) or pa.types.is_null(kind) else None
