"""Columns of every kind of table: Arrow's fast readers see what a careful one sees, and no row is lost."""

import csv
import json
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muscle_hf.errors import InputError
from muscle_hf.readers.formats import columnar, json_tables
from muscle_hf.readers.formats.columnar import Columns, Csv, HubDataset, Parquet
from muscle_hf.readers.formats.json_tables import JsonLines

Table = dict[str, list[Any]]

TEXT = st.none() | st.text()
UNICODE = st.none() | st.text(st.characters(exclude_categories=["Cs"]))
INTEGER = st.none() | st.integers(-(2**63), 2**63 - 1)
COLUMNS = st.one_of(
    st.lists(TEXT, max_size=6),
    st.lists(INTEGER, max_size=6),
    st.lists(st.none() | st.integers(-(10**40), 10**40), max_size=6),
    st.lists(st.none() | st.booleans(), max_size=6),
    st.lists(st.none() | st.floats(allow_nan=False) | st.integers(-(2**53), 2**53), max_size=6),
    st.lists(st.none() | st.lists(TEXT, max_size=3), max_size=6),
    st.lists(st.none() | st.lists(INTEGER, max_size=3), max_size=6),
    st.lists(st.none() | st.lists(st.none() | st.floats(allow_nan=False), max_size=3), max_size=6),
)


def _scan(table: Columns, *wanted: str, strict: Sequence[str] | None = None) -> Table:
    """Read columns as plain values, and check that blocks are numbered without a gap."""
    names = list(wanted or table.names)
    blocks = table.scan(names, lambda start, block: (start, block), strict=names if strict is None else strict)
    found: Table = {name: [] for name in names}
    for start, block in blocks:
        assert list(block) == names
        assert all(len(values) == start for values in found.values())
        for name, values in block.items():
            found[name] += values.to_pylist()
    return found


def _lines(table: Table) -> str:
    rows = zip(*table.values(), strict=True)
    return "".join(json.dumps(dict(zip(table, row, strict=True))) + "\n" for row in rows)


def _jsonl(folder: Path, content: str | bytes) -> JsonLines:
    path = folder / "table.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    return JsonLines(path, "rows")


def _csv(folder: Path, content: str | bytes, name: str = "table.csv") -> Csv:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return Csv(path)


def _refusal(read: Callable[[], Any]) -> str:
    with pytest.raises(InputError) as caught:
        read()
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert len(message) < 700
    return message


@contextmanager
def _blocks_of(rows: int) -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    for module in (columnar, json_tables):
        patch.setattr(module, "_BLOCK", rows)
    try:
        yield
    finally:
        patch.undo()


def _unable(*_: Any) -> None:
    raise json_tables._NotPlainError


def _both(table: JsonLines, *wanted: str, strict: Sequence[str] | None = None) -> list[Table | str]:
    """Read with Arrow where it can, and only line by line."""
    found: list[Table | str] = []
    patch = pytest.MonkeyPatch()
    for careful in (False, True):
        if careful:
            patch.setattr(JsonLines, "_fast", _unable)
        try:
            found.append(_scan(table, *wanted, strict=strict))
        except InputError as error:
            found.append(str(error))
    patch.undo()
    return found


# JSON Lines ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(columns=st.lists(COLUMNS, min_size=1, max_size=3), rows=st.integers(1, 4), peek=st.integers(1, 3))
def test_json_lines_are_read_back_and_arrow_agrees_with_the_careful_path(
    tmp_path_factory: pytest.TempPathFactory, columns: list[list[Any]], rows: int, peek: int
) -> None:
    count = min(map(len, columns))
    if not count:
        return
    table = {f"c{number}": values[:count] for number, values in enumerate(columns)}
    patch = pytest.MonkeyPatch()
    patch.setattr(json_tables, "_PEEK", peek)
    with _blocks_of(rows):
        fast, careful = _both(_jsonl(tmp_path_factory.getbasetemp(), _lines(table)))
    patch.undo()
    assert fast == careful
    assert isinstance(fast, dict), fast
    for name, values in table.items():
        assert [_escaped(value) for value in values] == [_number(value) for value in fast[name]]


def _escaped(value: Any) -> Any:
    """A lone surrogate is no Unicode text; its escape stands for it."""
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _number(value: Any) -> Any:
    """Integers beyond 64 bits come back as decimals."""
    return [_number(item) for item in value] if isinstance(value, list) else int(value) if _big(value) else value


def _big(value: Any) -> bool:
    return type(value).__name__ == "Decimal"


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {},
            optional=dict.fromkeys(
                "ab", st.none() | st.text(max_size=2) | st.integers() | st.booleans() | st.lists(st.text(max_size=1))
            ),
        ),
        min_size=1,
        max_size=5,
    ),
    strict=st.sampled_from(["", "a", "b", "ab"]),
    peek=st.integers(1, 5),
)
def test_arrow_and_the_careful_path_refuse_the_same_files(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], strict: str, peek: int
) -> None:
    patch = pytest.MonkeyPatch()
    patch.setattr(json_tables, "_PEEK", peek)
    content = "".join(json.dumps(row) + "\n" for row in rows)
    table = _jsonl(tmp_path_factory.getbasetemp(), content)
    wanted = [name for name in "ab" if name in table.names]
    if wanted:
        fast, careful = _both(table, *wanted, strict=[name for name in strict if name in wanted])
        if isinstance(fast, dict) and isinstance(careful, dict) and not strict:
            # What nobody is strict about may stay as it is, or be shown by its label.
            fast, careful = ({name: list(map(_shown, values)) for name, values in x.items()} for x in (fast, careful))
        elif isinstance(fast, dict) and isinstance(careful, dict):
            fast, careful = ({name: found[name] for name in strict if name in wanted} for found in (fast, careful))
        assert fast == careful
    patch.undo()


def _shown(value: Any) -> Any:
    if isinstance(value, list):
        return list(map(_shown, value))
    return value if value is None or isinstance(value, str) else json.dumps(int(value) if _big(value) else value)


@pytest.mark.slow
@pytest.mark.parametrize("row", [99, 100, 101, 20_000])
def test_a_field_that_is_missing_far_down_is_named_and_not_taken_for_null(tmp_path: Path, row: int) -> None:
    lines = [json.dumps({"id": i, "a": "x" if i % 7 else None}) + "\n" for i in range(20_001)]
    table = _jsonl(tmp_path, "".join(lines))
    assert _scan(table)["a"].count(None) == 2858
    lines[row] = '{"id": 5}\n'
    table = _jsonl(tmp_path, "".join(lines))
    assert _refusal(lambda: _scan(table, "id", "a")).endswith(f", line {row + 1} has no field 'a'; it has 'id'.")
    assert len(_scan(table, "id", "a", strict=["id"])["a"]) == 20_001, "a field to slice by may be missing"


@pytest.mark.slow
@pytest.mark.parametrize("value", ["7", "true", "[1]", '{"x": 1}', "7.5", "null", "oops", '"x'])
def test_a_value_of_another_kind_at_row_20_000_is_named_with_its_line(tmp_path: Path, value: str) -> None:
    lines = [f'{{"id": {i}, "a": "x"}}\n' for i in range(20_001)]
    lines[20_000] = f'{{"id": 0, "a": {value}}}\n'
    table = _jsonl(tmp_path, "".join(lines))
    if value == "null":
        assert _scan(table)["a"][20_000] is None
    else:
        assert ", line 20001" in _refusal(lambda: _scan(table))


@pytest.mark.parametrize("line", ["null", "[]", "3", '"x"'])
def test_a_line_far_down_that_is_no_object_is_named(tmp_path: Path, line: str) -> None:
    table = _jsonl(tmp_path, '{"a": "x"}\n' * 200 + f"{line}\n" + '{"a": "x"}\n')
    assert ", line 201 is " in _refusal(lambda: _scan(table))


def test_two_objects_in_one_line_are_not_counted_as_two_rows(tmp_path: Path) -> None:
    # What a crashed writer leaves behind, that a second one appended to.
    table = _jsonl(tmp_path, '{"a": "x"}\n' * 200 + '{"a": "x"}{"a": "y"}\n')
    assert ", line 201 is not JSON (Extra data" in _refusal(lambda: _scan(table))


def test_a_field_that_stands_twice_is_not_decided_by_the_last_one(tmp_path: Path) -> None:
    table = _jsonl(tmp_path, '{"a": "x"}\n' * 200 + '{"a": "x", "a": "y"}\n')
    assert ", line 201 cannot be read: the field 'a' stands twice" in _refusal(lambda: _scan(table))


@pytest.mark.parametrize("cut", [1, 4, 8, 11])
def test_a_cut_last_line_is_named(tmp_path: Path, cut: int) -> None:
    table = _jsonl(tmp_path, '{"a": "x"}\n' * 200 + '{"a": "xyz"}'[:cut])
    assert _refusal(lambda: _scan(table)).endswith("The file ends within this line: was it cut off?")


def test_empty_lines_and_a_last_line_without_its_end_are_no_rows(tmp_path: Path) -> None:
    for text in ('\n{"a": "x"}\n\n \n{"a": "y"}\n\n', '{"a": "x"}\r\n{"a": "y"}', '\ufeff{"a": "x"}\n{"a": "y"}\n'):
        assert _scan(_jsonl(tmp_path, text)) == {"a": ["x", "y"]}
    assert _scan(_jsonl(tmp_path, '\ufeff\n{"a": "x"}\n\n{"a": null}')) == {"a": ["x", None]}


def test_bytes_that_are_not_utf_8_are_named_far_down(tmp_path: Path) -> None:
    table = _jsonl(tmp_path, b'{"a": "x"}\n' * 200 + b'{"a": "\xe9"}\n')
    assert ", line 201 is not UTF-8 (byte 8)" in _refusal(lambda: _scan(table))


def test_an_answer_of_megabytes_is_read_whole(tmp_path: Path) -> None:
    long = "x" * 3_000_000
    assert _both(_jsonl(tmp_path, f'{{"a": "{long}"}}\n{{"a": "y"}}\n')) == [{"a": [long, "y"]}] * 2


@pytest.mark.slow
def test_fields_with_names_of_a_megabyte_make_no_megabyte_of_a_message(tmp_path: Path) -> None:
    table = _jsonl(tmp_path, '{"a": "x"}\n' * 200 + json.dumps({f"{i}{'x' * 10**6}": i for i in range(20)}) + "\n")
    _refusal(lambda: _scan(table))


@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff", "\ufeff\n"])
def test_a_file_without_a_row_is_empty(tmp_path: Path, content: str) -> None:
    assert _refusal(lambda: _jsonl(tmp_path, content)).endswith("table.jsonl is empty; rows is needed.")


def test_a_value_of_nan_is_a_number_in_both_paths(tmp_path: Path) -> None:
    table = _jsonl(tmp_path, '{"a": 0.5, "b": NaN}\n{"a": Infinity, "b": 1}\n{"a": -Infinity, "b": 1e400}\n')
    first, second = map(str, _both(table))
    assert first == second == "{'a': [0.5, inf, -inf], 'b': [nan, 1.0, inf]}"


def test_columns_are_found_that_only_a_later_row_has(tmp_path: Path) -> None:
    table = _jsonl(tmp_path, '{"a": "x"}\n{"a": "y", "b": 1}\n')
    assert table.names == ["a", "b"]
    assert _scan(table, strict=["a"]) == {"a": ["x", "y"], "b": [None, 1]}


# CSV -----------------------------------------------------------------------------------------------------------------


def _cells(table: Table, delimiter: str, end: str) -> str:
    """Write as strictly as CSV can be written: every text quoted, null as nothing."""

    def cell(value: str | None) -> str:
        return "" if value is None else '"' + value.replace('"', '""') + '"'

    rows = [*zip(*table.values(), strict=True)]
    return "".join(delimiter.join(map(cell, row)) + end for row in [tuple(table), *rows])


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(
    columns=st.lists(st.lists(UNICODE, max_size=6), min_size=2, max_size=3),
    suffix=st.sampled_from(["csv", "tsv", "TSV"]),
    end=st.sampled_from(["\n", "\r\n"]),
    last=st.booleans(),
    mark=st.sampled_from(["", "\ufeff"]),
)
def test_csv_is_read_back_with_every_text_and_every_gap(
    tmp_path_factory: pytest.TempPathFactory,
    columns: list[list[str | None]],
    suffix: str,
    end: str,
    last: bool,
    mark: str,
) -> None:
    count = min(map(len, columns))
    table: Table = {f"c{number}": list(values[:count]) for number, values in enumerate(columns)}
    text = _cells(table, "," if suffix == "csv" else "\t", end)
    if not last and count:
        text = text.removesuffix(end)
    found = _csv(tmp_path_factory.getbasetemp(), mark + text, f"table.{suffix}")
    assert _scan(found) == table
    assert _scan(found, "c1") == {"c1": table["c1"]}


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.tuples(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), min_size=1), st.text("ab,\"\n ;\t", min_size=1)), min_size=1))  # fmt: skip # noqa: E501
def test_what_pythons_own_writer_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "python.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("a", "b"), *rows])
    found = _scan(Csv(path))
    assert [*zip(found["a"], found["b"], strict=True)] == rows


def test_an_empty_field_is_a_gap_and_a_quoted_one_an_empty_text(tmp_path: Path) -> None:
    assert _scan(_csv(tmp_path, 'a,b\n1,\n2,""\n,x\n')) == {"a": ["1", "2", None], "b": [None, "", "x"]}


@pytest.mark.parametrize("text", ["NA", "null", "NULL", "nan", "N/A", "#N/A", "007", "1e5", "True", "2020-01-01", " x ", "-"])  # fmt: skip # noqa: E501
def test_a_text_that_looks_like_something_else_stays_a_text(tmp_path: Path, text: str) -> None:
    assert _scan(_csv(tmp_path, f"a,b\n{text},1\n")) == {"a": [text], "b": ["1"]}


@pytest.mark.parametrize("content", ["a,b\n1,x\n2", 'a,b\n1,x\n"2', "a,b\n1,x\n2,y\n\n3", "a,b\n1"])
def test_a_last_row_with_fewer_fields_is_named(tmp_path: Path, content: str) -> None:
    message = _refusal(lambda: _scan(_csv(tmp_path, content)))
    assert ", row " in message and message.endswith("was the file cut off?")


@pytest.mark.parametrize("rows", [0, 10, 300_000])
@pytest.mark.parametrize("tail", ['"abc', '"abc\n7,x\n8,y\n', '"a ""quoted"" word', '"abc\n'])
def test_a_file_that_ends_inside_quotes_is_refused(tmp_path: Path, rows: int, tail: str) -> None:
    table = _csv(tmp_path, "a,b\n" + "1,x\n" * rows + "2," + tail)
    assert f", row {rows + 2} ends inside quotes: was the file cut off?" in _refusal(lambda: _scan(table))


def test_quotes_inside_a_field_that_does_not_begin_with_one_are_letters(tmp_path: Path) -> None:
    assert _scan(_csv(tmp_path, 'a,b\n5" disk,x\n6,7"')) == {"a": ['5" disk', "6"], "b": ["x", '7"']}


def test_a_row_with_too_many_fields_is_named(tmp_path: Path) -> None:
    message = _refusal(lambda: _scan(_csv(tmp_path, "a,b\n1,x\n2,y,z\n")))
    assert message.endswith(", row 3: 2 fields expected, 3 found in '2,y,z'; is a field unquoted?")
    long = _csv(tmp_path, "a,b\n1,x\n2," + "y," * 500_000 + "\n")
    assert ", row 3: 2 fields expected, 500002 found in" in _refusal(lambda: _scan(long))


def test_a_broken_row_that_is_not_utf8_is_told_as_that_and_nothing_is_printed(tmp_path: Path) -> None:
    """Arrow would print a fault of its own, which pytest makes an error."""
    path = tmp_path / "x.csv"
    path.write_bytes(b"id,prediction,reference\n1,a,a\n2,\xfc\n")
    with pytest.raises(InputError, match="UTF-8"):
        Csv(path).scan(["id", "prediction"], lambda start, block: block)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1"])
@pytest.mark.parametrize("header", ["a,b", "é,b"])
def test_another_encoding_is_named_and_not_guessed(tmp_path: Path, encoding: str, header: str) -> None:
    content = f"{header}\n1,é\n".encode(encoding)
    assert "is not UTF-8 (" in _refusal(lambda: _scan(_csv(tmp_path, content)))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"a,b\n1,x\n2,caf\xe9\n", "line 3, byte 6 is 0xe9; is it Windows-1252, as Excel writes it?"),
        (b"caf\xe9,b\n1,x\n", "line 1, byte 4 is 0xe9; is it Windows-1252, as Excel writes it?"),
        ("a,b\n1,x\n".encode("utf-16"), "it begins with the mark of UTF-16"),
        ("a,b\n1,x\n".encode("utf-32"), "it begins with the mark of UTF-32"),
        ("a,b\n1,x\n".encode("utf-16-le"), "it holds NUL bytes; is it UTF-16LE?"),
        ("a,b\n1,x\n".encode("utf-16-be"), "it holds NUL bytes; is it UTF-16BE?"),
    ],
)
def test_another_encoding_is_told_with_its_place_and_the_way_out(tmp_path: Path, content: bytes, told: str) -> None:
    message = _refusal(lambda: _scan(_csv(tmp_path, content)))
    assert f"is not UTF-8 ({told}): save the file as UTF-8, or convert it with iconv -f " in message


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
@pytest.mark.parametrize("sign", [",", ";", "\t", "|"])
def test_a_table_is_split_at_what_separates_its_header(tmp_path: Path, sign: str, suffix: str) -> None:
    table = _csv(tmp_path, f'"a{sign}b"{sign}c\n1{sign}x\n"2{sign}"{sign}\n'.replace(f"a{sign}b", "ab"), f"t.{suffix}")
    assert _scan(table) == {"ab": ["1", f"2{sign}"], "c": ["x", None]}
    assert ", row 2" in _refusal(lambda: _scan(_csv(tmp_path, f"a{sign}b\n1{sign}x{sign}y\n", f"t.{suffix}")))


def test_a_comma_in_the_cells_of_a_table_of_semicolons_stays_a_comma(tmp_path: Path) -> None:
    assert _scan(_csv(tmp_path, "a;b\n1,5;x\n")) == {"a": ["1,5"], "b": ["x"]}


def test_an_index_without_a_name_is_called_as_pandas_calls_it(tmp_path: Path) -> None:
    table = _csv(tmp_path, ",a,b\n0,x,y\n1,z,\n")
    assert table.names == ["Unnamed: 0", "a", "b"]
    assert _scan(table) == {"Unnamed: 0": ["0", "1"], "a": ["x", "z"], "b": ["y", None]}
    assert _scan(table, "b", "Unnamed: 0") == {"b": ["y", None], "Unnamed: 0": ["0", "1"]}
    assert _scan(_csv(tmp_path, "a,\nx,0\n")) == {"a": ["x"], "Unnamed: 1": ["0"]}
    assert "more than once" in _refusal(lambda: _csv(tmp_path, ",,a\n0,1,2\n"))


def test_spaces_around_the_names_of_a_header_are_no_part_of_them(tmp_path: Path) -> None:
    table = _csv(tmp_path, "a, b , c\n1, x, y\n")
    assert table.names == ["a", "b", "c"]
    assert _scan(table, "c", "a") == {"c": [" y"], "a": ["1"]}
    assert _csv(tmp_path, "a, a\n1,2\n").names == ["a", " a"]


def test_a_name_that_stands_twice_in_the_header_is_refused(tmp_path: Path) -> None:
    assert "the header names 'a' more than once" in _refusal(lambda: _csv(tmp_path, "a,b,a\n1,2,3\n"))


@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff", "\ufeff\r\n"])
def test_a_csv_without_a_header_is_empty(tmp_path: Path, content: str) -> None:
    assert "is empty; a header and rows are needed" in _refusal(lambda: _csv(tmp_path, content))


def test_a_header_alone_gives_no_rows(tmp_path: Path) -> None:
    assert _scan(_csv(tmp_path, "a,b\n")) == {"a": [], "b": []}
    assert "is empty; a header and rows are needed" in _refusal(lambda: _scan(_csv(tmp_path, "a,b")))


def test_an_empty_line_is_a_gap_only_where_there_is_one_column(tmp_path: Path) -> None:
    assert _scan(_csv(tmp_path, "a\n1\n\n2\n")) == {"a": ["1", None, "2"]}
    assert _scan(_csv(tmp_path, "a,b\n1,2\n\n3,4\n\n\n")) == {"a": ["1", "3"], "b": ["2", "4"]}


def test_a_field_of_megabytes_is_read_whole_wherever_it_stands(tmp_path: Path) -> None:
    long = 'x"\n,' * 1_000_000
    cell = '"' + long.replace('"', '""') + '"'
    for before in (0, 300_000):
        found = _scan(_csv(tmp_path, "a,b\n" + "1,y\n" * before + f"2,{cell}\n3,z\n"))
        assert found["b"][before:] == [long, "z"]


# Parquet -------------------------------------------------------------------------------------------------------------


def _parquet(folder: Path, table: Any, **options: Any) -> Parquet:
    path = folder / "table.parquet"
    pq.write_table(table if isinstance(table, pa.Table) else pa.table(table), path, **options)
    return Parquet(path)


PARQUET_TYPES = st.sampled_from(
    [
        (pa.string(), UNICODE),
        (pa.large_string(), UNICODE),
        (pa.string_view(), UNICODE),
        (pa.dictionary(pa.int8(), pa.string()), UNICODE),
        (pa.int8(), st.none() | st.integers(-128, 127)),
        (pa.uint64(), st.none() | st.integers(0, 2**64 - 1)),
        (pa.int64(), INTEGER),
        (pa.decimal128(38, 0), st.none() | st.integers(-(10**38) + 1, 10**38 - 1)),
        (pa.float64(), st.none() | st.floats(allow_nan=False)),
        (pa.bool_(), st.none() | st.booleans()),
        (pa.null(), st.none()),
        (pa.list_(pa.string()), st.none() | st.lists(UNICODE, max_size=3)),
        (pa.large_list(pa.large_string()), st.none() | st.lists(UNICODE, max_size=3)),
        (pa.list_(pa.int32(), 2), st.lists(st.integers(-(2**31), 2**31 - 1), min_size=2, max_size=2)),
        (pa.list_(pa.float32()), st.none() | st.lists(st.floats(width=32, allow_nan=False), max_size=3)),
    ]
)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(kind=PARQUET_TYPES, rows=st.integers(1, 3), group=st.integers(1, 4), data=st.data())
def test_every_type_of_parquet_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, kind: tuple[pa.DataType, Any], rows: int, group: int, data: st.DataObject
) -> None:
    values = data.draw(st.lists(kind[1], max_size=6))
    table = pa.table({"a": pa.array(values, kind[0]), "b": pa.array(range(len(values)))})
    with _blocks_of(rows):
        found = _scan(_parquet(tmp_path_factory.getbasetemp(), table, row_group_size=group))
    assert list(map(_number, found["a"])) == values
    assert found["b"] == list(range(len(values)))


def test_a_parquet_file_cut_anywhere_is_refused_and_no_traceback(tmp_path: Path) -> None:
    random.seed(0)
    table = _parquet(tmp_path, {"a": [f"{random.random()}" for _ in range(2000)]})  # noqa: S311
    whole = table.path.read_bytes()
    for cut in (0, 1, 4, 100, len(whole) // 2, len(whole) - 1):
        table.path.write_bytes(whole[:cut])
        assert "cannot be read as Parquet" in _refusal(lambda: Parquet(table.path))
    # The footer is there, and what it points to is not.
    table.path.write_bytes(whole[:4] + bytes(len(whole) // 2) + whole[len(whole) // 2 + 4 :])
    assert "cannot be read as Parquet" in _refusal(lambda: _scan(Parquet(table.path)))


@pytest.mark.parametrize("value", [{"x": 1}, [{"x": 1}], b"bytes", [["a"]]])
def test_a_column_that_holds_no_answers_is_refused_only_where_answers_are_needed(tmp_path: Path, value: Any) -> None:
    table = _parquet(tmp_path, {"a": [value, None], "b": [1, 2]})
    assert "column 'a' is of type " in _refusal(lambda: _scan(table))
    shown = _scan(table, strict=["b"])["a"]
    assert shown[1] is None and isinstance(shown[0], str)


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"])
    assert "has more than one column 'a'" in _refusal(lambda: _parquet(tmp_path, table))


def test_a_parquet_file_without_rows_gives_none(tmp_path: Path) -> None:
    assert _scan(_parquet(tmp_path, {"a": pa.array([], pa.string())})) == {"a": []}


# Data sets -----------------------------------------------------------------------------------------------------------


def test_a_data_set_is_read_in_its_own_order_block_by_block(tmp_path: Path) -> None:
    import datasets

    made = datasets.Dataset.from_dict({"a": [f"x{i}" for i in range(10)], "b": [[i, None] for i in range(10)]})
    for dataset in (made, made.select([7, 3, 3]), datasets.concatenate_datasets([made, made])):
        with _blocks_of(4):
            found = _scan(HubDataset(dataset, "org/name"))
        assert found == {"a": list(dataset["a"]), "b": list(dataset["b"])}


def test_a_data_set_with_values_out_of_range_is_no_traceback() -> None:
    import datasets

    made = datasets.Dataset(pa.table({"a": pa.array([[2**64 - 1]], pa.list_(pa.uint64()))}))
    assert "org/name cannot be read (" in _refusal(lambda: _scan(HubDataset(made, "org/name")))
