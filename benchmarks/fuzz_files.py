"""How files of a layout are made, spoiled and written otherwise: JSON, cells, Parquet, archives; for `fuzz.py`."""

import csv
import gzip
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from fuzz_mutations import dumped, reordered, shuffled, spoil_bytes, spoil_json, spoil_text

Row = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """A format: how its files are made, spoiled, and written otherwise without another meaning."""

    file: str
    """Name of the file that is spoiled."""
    value: Callable[[str], Any]
    """What the file of a side holds, before it is written."""
    write: Callable[[Any], bytes]
    spoil: Callable[[Random, Any], bytes]
    """Spoil what is inside, as far as the format has parts; others than bytes."""
    rewrite: Callable[[Random, Any], bytes]
    """Write the same in another way."""
    beside: Callable[[str], Mapping[str, bytes]] = field(default=lambda side: {})
    """Files that belong to it, which are not spoiled."""
    folder: bool = False
    """Whether the folder is compared."""
    options: Mapping[str, Any] = field(default_factory=dict)
    answers: str = ""
    """Of a policy: the file of answers that lies beside it, and is held to it."""
    where: str = ""
    """What stands behind the path of a file that holds more than one model."""
    says: Callable[[bytes], Mapping[Any, Any]] | None = None
    """An independent reader: id -> whether it is right, of what can still be read; anything raised is no answer."""


# --- JSON -----------------------------------------------------------------------------------------------------------


def json_lines(rows: list[Any]) -> bytes:
    """Write one JSON object a line."""
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _spoil_lines(random: Random, rows: list[Any]) -> bytes:
    rows = list(rows)
    for place in random.sample(range(len(rows)), random.choice((1, 1, 2, len(rows)))):
        if random.random() < 0.7:
            rows[place] = spoil_json(random, rows[place])
    lines = [json.dumps(row) for row in rows]
    if random.random() < 0.4:
        place = random.randrange(len(lines))
        lines[place] = spoil_text(random, lines[place])
    return "".join(line + "\n" for line in lines).encode("utf-8", "surrogatepass")


def _same_lines(random: Random, rows: list[Any]) -> bytes:
    lines = [dumped(random, reordered(random, row), one_line=True) for row in shuffled(random, rows)]
    text = random.choice(("\n", "\n", "\r\n")).join(lines) + random.choice(("", "\n"))
    return random.choice((b"", b"", b"\xef\xbb\xbf")) + text.encode()


Says = Callable[[Any], tuple[Any, Any]]


def lines(file: str, rows: Callable[[str], list[Any]], says: Says | None = None, **others: Any) -> Kind:
    """Make a format of one JSON object a line; `says` gives its id and whether it is right."""

    def read(content: bytes) -> dict[Any, Any]:
        held = [says(json.loads(line)) for line in content.decode("utf-8-sig").split("\n") if line] if says else []
        return _each_once(held)

    return Kind(file, rows, json_lines, _spoil_lines, _same_lines, says=read if says else None, **others)


def _each_once(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    held = dict(pairs)
    if len(held) < len(pairs):
        raise ValueError
    return held


def _spoil_document(random: Random, value: Any) -> bytes:
    text = json.dumps(spoil_json(random, value) if random.random() < 0.7 else value, indent=random.choice((None, 2)))
    return (spoil_text(random, text) if random.random() < 0.4 else text).encode("utf-8", "surrogatepass")


def _same_document(random: Random, value: Any) -> bytes:
    value = reordered(random, shuffled(random, value) if isinstance(value, list) else value)
    return random.choice((b"", b"", b"\xef\xbb\xbf")) + dumped(random, value, one_line=False).encode()


def document(
    file: str, value: Callable[[str], Any], says: Callable[[Any], list[tuple[Any, Any]]] | None = None, **others: Any
) -> Kind:
    """Make a format of one JSON value; the elements of an array may stand in any order."""
    return Kind(
        file,
        value,
        lambda held: json.dumps(held, indent=2).encode(),
        _spoil_document,
        _same_document,
        says=(lambda content: _each_once(says(json.loads(content.decode("utf-8-sig"))))) if says else None,
        **others,
    )


# --- what holds others ----------------------------------------------------------------------------------------------


def packed(inner: Kind, ending: str, pack: Callable[[Random | None, bytes], bytes]) -> Kind:
    """Make a format of another one, compressed."""
    return Kind(
        inner.file + ending,
        inner.value,
        lambda value: pack(None, inner.write(value)),
        lambda random, value: pack(
            random, random.choice((inner.spoil, lambda r, v: spoil_bytes(r, inner.write(v))))(random, value)
        ),
        lambda random, value: pack(random, inner.rewrite(random, value)),
        options=inner.options,
    )


def pack_gzip(random: Random | None, content: bytes) -> bytes:
    """Compress with gzip, at any level, as one member or as two."""
    if random is None:
        return gzip.compress(content, mtime=0)
    middle = random.choice((0, len(content) // 2))
    parts = [content[:middle], content[middle:]] if middle else [content]
    return b"".join(gzip.compress(part, random.randrange(10), mtime=0) for part in parts)


def pack_zstd(random: Random | None, content: bytes) -> bytes:
    """Compress with Zstandard."""
    level = 1 if random is None else random.randrange(1, 12)
    return bytes(pa.Codec("zstd", compression_level=level).compress(content, asbytes=True))


def _zip(members: Mapping[str, Any], random: Random | None = None) -> bytes:
    content = io.BytesIO()
    kinds = [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED]
    with zipfile.ZipFile(content, "w", kinds[0] if random is None else random.choice(kinds)) as file:
        for name in members if random is None else shuffled(random, list(members)):
            value = members[name]
            # A fixed date, so that a file is the same whenever it is made.
            file.writestr(zipfile.ZipInfo(name), value if isinstance(value, bytes) else json.dumps(value).encode())
    return content.getvalue()


def _spoil_zip(random: Random, members: Mapping[str, Any]) -> bytes:
    held: dict[str, Any] = dict(members)
    name = random.choice(list(held))
    way = random.randrange(4)
    if way == 0:
        held[name] = _spoil_document(random, held[name])
    elif way == 1:
        held[name] = spoil_bytes(random, json.dumps(held[name]).encode())
    elif way == 2:
        del held[name]
    else:
        held[random.choice(("x", f"../{name}", name.upper(), "samples/", name + "/x.json", "samples/0.json"))] = (
            held.pop(name)
        )
    return _zip(held, random)


def _same_zip(random: Random, members: Mapping[str, Any]) -> bytes:
    return _zip({name: _same_document(random, value) for name, value in members.items()}, random)


def archive(file: str, members: Callable[[str], Mapping[str, Any]], **others: Any) -> Kind:
    """Make a format of JSON files in a zip archive."""
    return Kind(file, members, _zip, _spoil_zip, _same_zip, **others)


# --- tables ---------------------------------------------------------------------------------------------------------


def _csv(table: list[Row], delimiter: str, **style: Any) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(table[0]), delimiter=delimiter, **{"lineterminator": "\n", **style})
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue().encode("utf-8", "surrogatepass")


_CELLS = (
    "",
    " ",
    "nan",
    "None",
    "1,5",
    '"',
    '""',
    "a\nb",
    "a\rb",
    "\0",
    "\ufeff",
    "=1",
    "x" * 70_000,
    "\ud800",
    "\u2028",
)


def _spoil_csv(random: Random, table: list[Row], delimiter: str) -> bytes:
    names = list(table[0])
    table = [dict(row) for row in table]
    for _ in range(random.choice((1, 1, 2, 5))):
        way, row = random.randrange(5), random.choice(table)
        if way <= 2:
            other = random.choice(list(random.choice(table).values()))
            row[random.choice(names)] = random.choice((*_CELLS, other, other, delimiter))
        elif way == 3:
            table.append(dict(row))
        else:
            old, new = random.choice(names), random.choice(("", "id", "score", "sample", "model", " id ", "\ufeffid"))
            table = [{new if name == old else name: value for name, value in row.items()} for row in table]
            names = list(table[0])
    quoting = random.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC))
    content = _csv(table, delimiter, quoting=quoting)
    return spoil_bytes(random, content) if random.random() < 0.3 else content


def _same_csv(random: Random, table: list[Row], delimiter: str, in_order: bool) -> bytes:
    names = list(table[0]) if in_order else shuffled(random, list(table[0]))
    ended = random.choice(("\n", "\r\n"))
    content = _csv(
        [{name: row[name] for name in names} for row in (table if in_order else shuffled(random, table))],
        delimiter,
        quoting=random.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL)),
        lineterminator=ended,
    )
    content = content.removesuffix(ended.encode()) if random.random() < 0.3 else content
    return random.choice((b"", b"\xef\xbb\xbf")) + content


def cells(
    file: str, value: Callable[[str], list[Row]], delimiter: str = ",", *, in_order: bool = False, **others: Any
) -> Kind:
    """Make a format of separated values; rows and columns may stand in any order, unless that tells which is which."""
    return Kind(
        file,
        value,
        lambda table: _csv(table, delimiter),
        lambda random, table: _spoil_csv(random, table, delimiter),
        lambda random, table: _same_csv(random, table, delimiter, in_order),
        **others,
    )


# --- Parquet --------------------------------------------------------------------------------------------------------


def _parquet(table: list[Row] | pa.Table, **options: Any) -> bytes:
    content = io.BytesIO()
    pq.write_table(table if isinstance(table, pa.Table) else pa.Table.from_pylist(table), content, **options)
    return content.getvalue()


_ODD_COLUMNS: tuple[Callable[[int], pa.Array], ...] = (
    lambda n: pa.nulls(n),
    lambda n: pa.array([None] * n, pa.string()),
    lambda n: pa.array(range(n)),
    lambda n: pa.array([i / 3 for i in range(n)]),
    lambda n: pa.array([float("nan")] * n),
    lambda n: pa.array([float("inf")] * n, pa.float32()),
    lambda n: pa.array([1.5] * n, pa.float64()).cast(pa.float16()),
    lambda n: pa.array([i % 2 == 0 for i in range(n)]),
    lambda n: pa.array([b"\xff\xfe"] * n, pa.binary()),
    lambda n: pa.array([2**64 - 1] * n, pa.uint64()),
    lambda n: pa.array(range(n), pa.timestamp("ns")),
    lambda n: pa.array(range(n), pa.date32()),
    lambda n: pa.array(range(n), pa.int64()).cast(pa.decimal128(30, 3)),
    lambda n: pa.array([[]] * n, pa.list_(pa.string())),
    lambda n: pa.array([["a", None]] * n),
    lambda n: pa.array([[["a"]]] * n),
    lambda n: pa.array([{"a": 1}] * n),
    lambda n: pa.array([[("k", 1)]] * n, pa.map_(pa.string(), pa.int64())),
    lambda n: pa.array(["a", "b"] * (n // 2) + ["a"] * (n % 2)).dictionary_encode(),
    lambda n: pa.array(["x" * 3000] * n, pa.large_string()),
    lambda n: pa.array([""] * n),
    lambda n: pa.array([None, *range(n)][:n], pa.int64()),
)


def _spoil_parquet(random: Random, held: list[Row]) -> bytes:
    table = pa.Table.from_pylist([spoil_row(random, row) for row in held] if random.random() < 0.3 else held)
    for _ in range(random.choice((1, 1, 2))):
        place, way = random.randrange(table.num_columns), random.randrange(6)
        name = table.column_names[place]
        if way <= 2:
            table = table.set_column(place, name, random.choice(_ODD_COLUMNS)(len(table)))
        elif way == 3 and table.num_columns > 1:
            table = table.remove_column(place)
        elif way == 4:
            names = [
                random.choice(("", "id", "score", "\0", name + " ")) if n == name else n for n in table.column_names
            ]
            table = table.rename_columns(names)
        else:
            rows = (
                [random.randrange(len(table)) for _ in range(random.choice((0, 1, len(table))))] if len(table) else []
            )
            table = table.take(pa.array(rows, pa.int64()))
    return _parquet(table)


def spoil_row(random: Random, row: Row) -> Row:
    """Set some of its cells to null: other kinds are no row of the same table."""
    return {name: None if random.random() < 0.1 else value for name, value in row.items()}


def _same_parquet(random: Random, held: list[Row]) -> bytes:
    table = pa.Table.from_pylist(shuffled(random, held)).select(shuffled(random, list(held[0])))
    if random.random() < 0.3:
        for place, item in enumerate(table.schema):
            if pa.types.is_string(item.type):
                kind = random.choice((pa.large_string(), pa.dictionary(pa.int32(), pa.string())))
                table = table.set_column(place, item.name, table.column(place).cast(kind))
    return _parquet(
        table,
        compression=random.choice(("snappy", "zstd", "gzip", "none")),
        row_group_size=random.choice((1, 5, 1000)),
        use_dictionary=random.random() < 0.5,
        version=random.choice(("1.0", "2.4", "2.6")),
    )


def columns(file: str, value: Callable[[str], list[Row]], **others: Any) -> Kind:
    """Make a format of Parquet."""
    return Kind(file, value, _parquet, _spoil_parquet, _same_parquet, **others)
