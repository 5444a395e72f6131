"""JSON Lines and JSON arrays: no object is lost, merged or changed, and every fault has its line."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muscle_hf.errors import InputError
from muscle_hf.readers.formats import jsonlines
from muscle_hf.readers.formats.jsonlines import read_array, read_at, read_objects

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.lists(st.dictionaries(st.text(), VALUES, max_size=4), max_size=6)
SEPARATORS = ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\r", "\n", "\0"]


def _write(folder: Path, content: bytes | str, name: str = "rows.jsonl") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def _objects(path: Path, **options: bool) -> list[dict[str, Any]]:
    return [row for *_, row in read_objects(path, "rows", **options)]


def _array(path: Path) -> list[dict[str, Any]]:
    return [row for *_, row in read_array(path, "rows")]


def _refusal(path: Path, read: Any = _objects) -> str:
    with pytest.raises(InputError) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(str(path)), "the message does not name the file"
    assert len(message.splitlines()) == 1
    assert len(message) < len(str(path)) + 300
    return message.removeprefix(str(path))


# Reading -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(
    rows=OBJECTS,
    ascii_only=st.booleans(),
    end=st.sampled_from(["\n", "\r\n", "\n\n", "\n \t\n"]),
    last=st.booleans(),
    mark=st.sampled_from([b"", b"\xef\xbb\xbf"]),
    data=st.data(),
)
def test_every_object_is_read_and_found_again(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[dict[str, Any]],
    ascii_only: bool,
    end: str,
    last: bool,
    mark: bytes,
    data: st.DataObject,
) -> None:
    text = end.join(json.dumps(row, ensure_ascii=ascii_only) for row in rows) + (end if last else "")
    path = tmp_path_factory.getbasetemp() / "objects.jsonl"
    path.write_bytes(mark + text.encode("utf-8", "replace"))
    expected = json.loads(json.dumps(rows, ensure_ascii=ascii_only).encode("utf-8", "replace"))
    found = [*read_objects(path, "rows")]
    assert [row for *_, row in found] == expected
    lines = path.read_bytes().split(b"\n")
    assert all(json.loads(lines[number - 1].decode("utf-8-sig")) == row for number, _, _, row in found)
    if found:
        chosen = data.draw(st.lists(st.integers(0, len(found) - 1)))
        places = [(found[index][1], found[index][2]) for index in chosen]
        assert read_at(path, places, dict) == [expected[index] for index in chosen]


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(
    rows=OBJECTS,
    ascii_only=st.booleans(),
    end=st.sampled_from(["", "\n"]),
    mark=st.sampled_from([b"", b"\xef\xbb\xbf"]),
    indent=st.sampled_from([None, 0, 1, 2, "\t"]),
    part=st.integers(1, 40),
)
def test_every_object_of_an_array_is_read_and_found_again_wherever_it_is_cut_into_parts(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[dict[str, Any]],
    ascii_only: bool,
    end: str,
    mark: bytes,
    indent: int | str | None,
    part: int,
) -> None:
    rows = [row | {"doc_id": number} for number, row in enumerate(rows)]
    text = json.dumps(rows, indent=indent, ensure_ascii=ascii_only) + end
    path = tmp_path_factory.getbasetemp() / "array.jsonl"
    path.write_bytes(mark + text.encode("utf-8", "replace"))
    expected = json.loads(text.encode("utf-8", "replace"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsonlines, "_PART", part)
        found = [*read_array(path, "rows")]
    assert [row for *_, row in found] == expected
    assert read_at(path, [(start, length) for _, start, length, _ in found][::-1], dict) == expected[::-1]


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(content=st.binary() | st.text().map(lambda text: text.encode("utf-8", "replace")) | VALUES.map(lambda v: json.dumps(v).encode()))  # fmt: skip # noqa: E501
def test_no_content_whatever_ends_in_a_traceback(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.jsonl"
    path.write_bytes(content)
    for read in (_objects, _array):
        try:
            read(path)
        except InputError as error:
            assert len(str(error).splitlines()) == 1
            assert len(str(error)) < len(str(path)) + 400


@pytest.mark.parametrize("separator", SEPARATORS)
@pytest.mark.parametrize("read", [_objects, _array])
def test_a_line_separator_inside_a_string_does_not_cut_the_line(tmp_path: Path, separator: str, read: Any) -> None:
    # JSON wants the control characters escaped; the others may stand in the file as they are.
    rows = [{"text": f"a{separator}b"}, {"text": "c"}]
    ascii_only = separator < " "
    lines = "".join(json.dumps(row, ensure_ascii=ascii_only) + "\n" for row in rows)
    path = _write(tmp_path, lines if read is _objects else json.dumps(rows, indent=2, ensure_ascii=ascii_only))
    assert read(path) == rows


def test_nan_and_infinity_are_numbers_as_python_writes_them(tmp_path: Path) -> None:
    assert str(_objects(_write(tmp_path, '{"a": NaN, "b": Infinity, "c": -Infinity}\n'))) == (
        "[{'a': nan, 'b': inf, 'c': -inf}]"
    )


# Faults --------------------------------------------------------------------------------------------------------------

CUT = " The file ends within this line: was it cut off?"


@pytest.mark.parametrize("end", range(2, 17))
def test_a_line_that_was_cut_off_is_named_wherever_it_was_cut(tmp_path: Path, end: int) -> None:
    line = '{"a": "x", "b": 1}'
    message = _refusal(_write(tmp_path, f"{line}\n{line[:end]}"))
    assert message.startswith(", line 2 is not JSON (")
    assert message.endswith(CUT)


def test_a_cut_line_that_another_one_follows_is_named(tmp_path: Path) -> None:
    message = _refusal(_write(tmp_path, '{"a": "x"}\n{"a": "y"}{"a": "z"}\n'))
    assert message == ", line 2 is not JSON (Extra data, column 11)."


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": 1}\n'.encode("utf-16"), ", line 1 is not UTF-8 (byte 1): save the file as UTF-8."),
        ('{"a": 1}\n{"a": "é"}\n'.encode("latin-1"), ", line 2 is not UTF-8 (byte 8): save the file as UTF-8."),
        ('{"a": 1}\n{"a": "é"}'.encode()[:-3], ", line 2 is not UTF-8 (byte 8): save the file as UTF-8." + CUT),
    ],
    ids=["utf-16", "latin-1", "cut inside a letter"],
)
def test_another_encoding_is_named_with_the_place(tmp_path: Path, content: bytes, message: str) -> None:
    assert _refusal(_write(tmp_path, content)) == message


def test_a_document_over_several_lines_is_told_from_a_broken_line(tmp_path: Path) -> None:
    message = _refusal(_write(tmp_path, '{\n "a": 1\n}\n'))
    assert "The file is one document over several lines; rows is needed (JSON Lines)" in message


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[1, 2]", ", line 2 is an array, not a JSON object with rows."),
        ("null", ", line 2 is null, not a JSON object with rows."),
        ('"text"', ", line 2 is 'text', not a JSON object with rows."),
        ("{'a': 1}", ", line 2 is not JSON (Expecting property name enclosed in double quotes, column 2)."),
        ('{"a": 1, "a": 2}', ", line 2 cannot be read: the field 'a' stands twice in one object."),
        ('{"b": {"a": 1, "a": 1}}', ", line 2 cannot be read: the field 'a' stands twice in one object."),
        ("\0", ", line 2 is not JSON (Expecting value, column 1)."),
    ],
)
def test_a_line_that_is_no_object_is_named(tmp_path: Path, line: str, message: str) -> None:
    assert _refusal(_write(tmp_path, f'{{"a": 1}}\n{line}\n{{"a": 1}}\n')) == message


def test_a_field_that_stands_twice_may_be_let_through_for_speed(tmp_path: Path) -> None:
    assert _objects(_write(tmp_path, '{"a": 1, "a": 2}\n'), each_once=False) == [{"a": 2}]


def test_a_field_of_a_megabyte_that_stands_twice_makes_no_megabyte_of_a_message(tmp_path: Path) -> None:
    name = "x" * 1_000_000
    assert "stands twice" in _refusal(_write(tmp_path, f'{{"{name}": 1, "{name}": 2}}\n'))


def test_a_number_of_thousands_of_digits_is_no_traceback(tmp_path: Path) -> None:
    assert _refusal(_write(tmp_path, '{"a": ' + "9" * 5000 + "}\n")).startswith(", line 1 cannot be read: ")


@pytest.mark.parametrize("deep", ["[" * 100_000, '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}\n"])
def test_a_line_nested_too_deeply_is_no_traceback(tmp_path: Path, deep: str) -> None:
    assert _refusal(_write(tmp_path, deep)).startswith(", line 1 ")


def test_a_file_that_is_not_there_or_is_a_folder_is_no_traceback(tmp_path: Path) -> None:
    assert " cannot be read: there is no such file." in _refusal(tmp_path / "no.jsonl")
    assert "(Is a directory)" in _refusal(tmp_path)


# Arrays --------------------------------------------------------------------------------------------------------------

ROWS = [{"a": i, "b": ["x", {"y": {}}], "c": {"d": []}} for i in range(3)]


def test_an_array_that_was_cut_off_is_refused_wherever_it_was_cut(tmp_path: Path) -> None:
    text = json.dumps(ROWS, indent=2)
    for end in range(1, len(text) - 1):
        assert _refusal(_write(tmp_path, text[:end]), _array), text[:end]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ('[{"a": 1},]', "line 1 is not JSON (Expecting value)."),
        ('[{"a": 1}\n{"a": 2}]', "line 2 is not JSON (a comma between two objects is missing)."),
        ('[{"a": 1}, 2]', "line 1 is 2, not a JSON object with rows."),
        ('[{"a": 1, "a": 2}]', "line 1 cannot be read: the field 'a' stands twice in one object."),
        ('[{"a": "x\ny"}]', "line 1 is not JSON (Invalid control character at)."),
        ('[{"a": tru}]', "line 1 is not JSON (Expecting value)."),
        ('[{"a": tru', "line 1: the JSON array does not end: was the file cut off?"),
        ('["' + "[" * 100_000, "line 1: the JSON array does not end: was the file cut off?"),
        ("[" * 100_000, "line 1 is nested too deeply."),
        ('{"a": 1}', "line 1 is no JSON array with rows."),
    ],
)
def test_a_fault_of_an_array_is_told_with_its_line(tmp_path: Path, content: str, fault: str) -> None:
    assert _refusal(_write(tmp_path, content), _array) == f", {fault}"


def test_what_follows_the_array_is_not_ignored(tmp_path: Path) -> None:
    text = json.dumps(ROWS, indent=2)
    assert _array(_write(tmp_path, f"{text}\n\n")) == ROWS
    for more in ("\n{}", f"\n{text}", "]"):
        assert _refusal(_write(tmp_path, text + more), _array)


def test_a_fault_inside_an_array_has_the_line_where_its_object_begins(tmp_path: Path) -> None:
    text = json.dumps(ROWS, indent=2).replace('"a": 1', '"a": oops')
    line = text.splitlines().index("  {", text.splitlines().index("  {") + 1) + 1
    assert _refusal(_write(tmp_path, text), _array).startswith(f", line {line} is not JSON (")


# Reading again -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changed", [b'{"a": 12345}\n{"a": 1}\n', b"", b'[1, 2]  \n{"a"', b'{"b": 1}\n{"b": 2}\n'])
def test_a_file_that_changed_in_between_is_not_shown_as_if_it_had_not(tmp_path: Path, changed: bytes) -> None:
    path = _write(tmp_path, '{"a": 1}\n{"a": 2}\n')
    places = [(start, length) for _, start, length, _ in read_objects(path, "rows")]
    _write(tmp_path, changed)
    with pytest.raises(InputError, match="has changed since it was read: compare again"):
        read_at(path, places, lambda row: row["a"])
