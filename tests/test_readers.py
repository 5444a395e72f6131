"""What may stand in a file of answers, and that nothing in it is lost, mixed up or taken for something else."""

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muscle_hf.errors import InputError
from muscle_hf.readers import AnswerFile, join, read_answers

KEYS = st.text() | st.integers()
STRINGS = st.tuples(st.text() | st.none(), st.text())
INTEGERS = st.tuples(st.integers() | st.none(), st.integers())
TABLES = st.one_of(
    st.dictionaries(KEYS, STRINGS, min_size=1, max_size=8), st.dictionaries(KEYS, INTEGERS, min_size=1, max_size=8)
)


def _row(key: Any = 1, prediction: Any = "B", reference: Any = "C", **more: Any) -> str:
    return json.dumps({"id": key, "prediction": prediction, "reference": reference} | more)


def _write(folder: Path, *lines: str, name: str = "answers.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def _refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_answers(path)
    message = str(caught.value)
    assert message.startswith(str(path)), "the message does not name the file"
    assert len(message.splitlines()) == 1
    return message.removeprefix(str(path))


def _file(**rows: tuple[Any, Any]) -> AnswerFile:
    return AnswerFile(Path("x.jsonl"), [*rows], [row[0] for row in rows.values()], [row[1] for row in rows.values()])


# What is read --------------------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(
    table=TABLES,
    ascii_only=st.booleans(),
    end=st.sampled_from(["\n", "\r\n", "\n\n"]),
    last=st.booleans(),
    mark=st.sampled_from([b"", b"\xef\xbb\xbf"]),
)
def test_no_answer_is_changed_on_the_way(
    tmp_path_factory: pytest.TempPathFactory,
    table: dict[Any, tuple[Any, Any]],
    ascii_only: bool,
    end: str,
    last: bool,
    mark: bytes,
) -> None:
    rows = [{"reference": right, "id": key, "prediction": said} for key, (said, right) in table.items()]
    text = end.join(json.dumps(row, ensure_ascii=ascii_only) for row in rows) + (end if last else "")
    path = tmp_path_factory.getbasetemp() / "property.jsonl"
    path.write_bytes(mark + text.encode())
    found = read_answers(path)
    assert found.path == path
    assert found.ids == [*table]
    assert [*zip(found.predictions, found.references, strict=True)] == [*table.values()]


@settings(max_examples=150, deadline=None)
@given(content=st.binary() | st.text().map(str.encode) | st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["id", "prediction", "reference", "x"]), inner),
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_no_content_whatever_ends_in_a_traceback(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.jsonl"
    path.write_bytes(content)
    try:
        found = read_answers(path)
    except InputError as error:
        assert len(str(error).splitlines()) == 1
        assert len(str(error)) < 1000
    else:
        assert len(found.ids) == len(set(found.ids)) > 0


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\r", "\n"])
def test_a_line_separator_inside_an_answer_does_not_cut_the_line(tmp_path: Path, separator: str) -> None:
    # JSON wants the control characters escaped; the others may stand in the file as they are.
    text = json.dumps({"id": 1, "prediction": f"a{separator}b", "reference": "c"}, ensure_ascii=separator < " ")
    assert read_answers(_write(tmp_path, text, _row(2))).predictions == [f"a{separator}b", "B"]


def test_other_fields_are_left_alone(tmp_path: Path) -> None:
    lines = [_row(1, confidence=float("nan"), choices=[{"text": "x"}]), _row(2, prompt={"id": 1})]
    assert read_answers(_write(tmp_path, *lines)).ids == [1, 2]


def test_null_is_no_answer_and_not_the_text_none(tmp_path: Path) -> None:
    assert read_answers(_write(tmp_path, _row(1, None), _row(2, "None"))).predictions == [None, "None"]


def test_ids_1_and_the_text_1_are_two_instances(tmp_path: Path) -> None:
    assert read_answers(_write(tmp_path, _row(1), _row("1"))).ids == [1, "1"]


def test_a_path_may_be_a_string(tmp_path: Path) -> None:
    assert read_answers(str(_write(tmp_path, _row()))).ids == [1]


def test_many_rows_do_not_take_time_that_grows_with_their_square(tmp_path: Path) -> None:
    keys = [f"question-{index}" for index in range(30_000)]
    old = _write(tmp_path, *(f'{{"id": "{key}", "prediction": "A", "reference": "B"}}' for key in keys))
    random.Random(0).shuffle(keys)  # noqa: S311
    new = _write(tmp_path, *(f'{{"id": "{key}", "prediction": "A", "reference": "B"}}' for key in keys), name="new")
    start = time.perf_counter()
    join(read_answers(old), read_answers(new))
    # A quarter of a second; the square would be minutes.
    assert time.perf_counter() - start < 5


# What is refused -----------------------------------------------------------------------------------------------------


def test_a_missing_file_says_what_is_needed(tmp_path: Path) -> None:
    message = _refusal(tmp_path / "nowhere.jsonl")
    assert message == (
        " cannot be read (No such file or directory); one JSON object a line with id, prediction, reference is needed."
    )


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    assert "cannot be read" in _refusal(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\n \n\t\r\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n"])
def test_a_file_without_answers_is_not_a_comparison_of_nothing(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "empty.jsonl"
    path.write_bytes(content)
    assert _refusal(path).startswith(" holds no answers; one JSON object a line")


def test_a_last_line_that_was_cut_off_is_not_dropped(tmp_path: Path) -> None:
    path = _write(tmp_path, _row(1), _row(2))
    path.write_bytes(path.read_bytes()[:-9])
    message = _refusal(path)
    assert message.startswith(", line 2 is not JSON (")
    assert "was it cut off?" in message


def test_a_last_line_cut_within_a_character_is_not_dropped(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_bytes(_row(1).encode() + b"\n" + '{"id": 2, "prediction": "é'.encode()[:-1])
    assert _refusal(path) == (
        ", line 2 is not UTF-8 (byte 26): save the file as UTF-8. The file ends within this line: was it cut off?"
    )


def test_a_broken_line_in_the_middle_is_counted_from_1_with_empty_lines(tmp_path: Path) -> None:
    message = _refusal(_write(tmp_path, _row(1), "", "{'id': 2}", _row(3)))
    assert message == ", line 3 is not JSON (Expecting property name enclosed in double quotes, column 2)."


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-16-le", "utf-32", "cp1252"])
def test_another_encoding_is_not_read_as_other_letters(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_bytes(json.dumps({"id": 1, "prediction": "é", "reference": "é"}, ensure_ascii=False).encode(encoding))
    assert _refusal(path).startswith((", line 1 is not UTF-8 (byte ", ", line 1 is not JSON ("))


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("[]", "an array"),
        ('[{"id": 1}]', "an array"),
        ("null", "null"),
        ("true", "true"),
        ("3.5", "3.5"),
        ('"id"', "'id'"),
    ],
)
def test_a_line_that_is_no_object_is_named_for_what_it_is(tmp_path: Path, line: str, shown: str) -> None:
    assert _refusal(_write(tmp_path, line)) == (
        f", line 1 is {shown}, not a JSON object with id, prediction, reference."
    )


def test_two_objects_on_one_line_are_not_taken_for_one(tmp_path: Path) -> None:
    assert _refusal(_write(tmp_path, _row(1) + _row(2))).startswith(", line 1 is not JSON (Extra data, column ")


@pytest.mark.parametrize("name", ["id", "prediction", "reference"])
def test_a_missing_field_is_named_beside_those_there_are(tmp_path: Path, name: str) -> None:
    row = json.loads(_row(2, answer="D"))
    del row[name]
    message = _refusal(_write(tmp_path, _row(1), json.dumps(row)))
    assert message.startswith(f", line 2 has no field '{name}'; it has ")
    assert "'answer'" in message


@pytest.mark.parametrize("name", ["id", "prediction", "reference"])
@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("true", "true"),
        ("1.0", "1.0"),
        ("NaN", "nan"),
        ("-Infinity", "-inf"),
        ("1e400", "inf"),
        ('["B"]', "an array"),
        ('{"text": "B"}', "an object"),
    ],
)
def test_a_value_that_is_neither_text_nor_integer_is_not_compared(
    tmp_path: Path, name: str, value: str, shown: str
) -> None:
    fields = {"id": '"a"', "prediction": '"B"', "reference": '"C"'} | {name: value}
    line = "{" + ", ".join(f'"{key}": {text}' for key, text in fields.items()) + "}"
    end = ", or null for no answer." if name == "prediction" else "."
    assert _refusal(_write(tmp_path, line)) == (f", line 1: {name} is {shown}; a string or an integer is needed{end}")


@pytest.mark.parametrize("name", ["id", "reference"])
def test_only_a_prediction_may_be_null(tmp_path: Path, name: str) -> None:
    row = json.loads(_row()) | {name: None}
    assert f"{name} is null" in _refusal(_write(tmp_path, json.dumps(row)))


def test_an_id_that_occurs_twice_names_both_lines(tmp_path: Path) -> None:
    path = _write(tmp_path, "", _row("a"), _row("b"), _row("a"))
    assert _refusal(path) == ", line 4: id 'a' stands on line 2 already."


def test_a_field_that_stands_twice_is_not_decided_by_the_last_one(tmp_path: Path) -> None:
    path = _write(tmp_path, '{"id": 1, "prediction": "A", "prediction": "B", "reference": "A"}')
    assert _refusal(path) == ", line 1 cannot be read: the field 'prediction' stands twice in one object."


@pytest.mark.parametrize(
    ("second", "name"),
    [(_row(2, 3, "4"), "prediction"), (_row(2, "3", 4), "reference"), (_row(2, None, 4), "reference")],
)
def test_text_and_integers_are_not_mixed_into_wrong_answers(tmp_path: Path, second: str, name: str) -> None:
    message = _refusal(_write(tmp_path, _row(1, "B", "C"), second))
    assert message.startswith(
        f", line 2: {name} is {'3' if name == 'prediction' else '4'}, but the file starts with a "
    )
    assert "Write all answers as strings or all as integers" in message


def test_a_number_of_thousands_of_digits_is_no_traceback(tmp_path: Path) -> None:
    line = '{"id": 1, "prediction": ' + "9" * 5000 + ', "reference": 1}'
    assert _refusal(_write(tmp_path, line)).startswith(", line 1 cannot be read: ")


def test_a_line_nested_too_deeply_is_no_traceback(tmp_path: Path) -> None:
    assert _refusal(_write(tmp_path, "[" * 100_000)).startswith(", line 1 ")


def test_a_message_does_not_quote_a_whole_essay(tmp_path: Path) -> None:
    message = _refusal(_write(tmp_path, _row("long " * 10_000), _row("long " * 10_000)))
    assert "… (50002 characters) stands on line 1 already" in message
    assert len(message) < 200


# Joining -------------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(table=TABLES, seed=st.integers(0, 1000))
def test_the_order_of_the_new_file_does_not_matter(table: dict[Any, tuple[Any, Any]], seed: int) -> None:
    shuffled = [*table.items()]
    random.Random(seed).shuffle(shuffled)  # noqa: S311
    files = [
        AnswerFile(Path(name), [key for key, _ in rows], [row[0] for _, row in rows], [row[1] for _, row in rows])
        for name, rows in (("old", [*table.items()]), ("new", shuffled))
    ]
    old, new = join(*files)
    assert old == files[0]
    assert (new.ids, new.predictions, new.references) == (old.ids, old.predictions, old.references)
    assert new.path == Path("new")


def test_ids_that_only_one_file_has_are_counted_on_both_sides() -> None:
    old = AnswerFile(Path("old.jsonl"), [1, 2, 3, 4, 5, 6], ["A"] * 6, ["A"] * 6)
    new = AnswerFile(Path("new.jsonl"), [6, 7, 5], ["A"] * 3, ["A"] * 3)
    with pytest.raises(InputError) as caught:
        join(old, new)
    assert str(caught.value) == (
        "new.jsonl lacks 4 of the 6 ids of old.jsonl, for instance 1, 2, 3, …; "
        "old.jsonl lacks 1 of the 3 ids of new.jsonl, for instance 7. "
        "Both models must have answered the same instances."
    )


def test_a_file_that_holds_fewer_instances_is_not_compared_on_those_it_has() -> None:
    with pytest.raises(InputError, match=r"lacks 1 of the 2 ids of x\.jsonl, for instance 'b'"):
        join(_file(a=("A", "A"), b=("A", "A")), _file(a=("A", "A")))


def test_ids_written_as_text_in_one_file_only_are_explained() -> None:
    old = AnswerFile(Path("old.jsonl"), [1, 2], ["A"] * 2, ["A"] * 2)
    new = AnswerFile(Path("new.jsonl"), ["1", "2"], ["A"] * 2, ["A"] * 2)
    with pytest.raises(InputError, match="One file writes its ids as strings, the other as integers"):
        join(old, new)


def test_references_that_differ_are_counted_and_shown() -> None:
    old = _file(a=("A", "A"), b=("A", "B"), c=("A", "C"), d=("A", "D"), e=("A", "E"))
    new = _file(e=("A", "X"), d=("A", "X"), c=("A", "X"), b=("A", "X"), a=("A", "A"))
    with pytest.raises(InputError) as caught:
        join(old, new)
    assert str(caught.value) == (
        "the references of 4 of 5 ids differ between x.jsonl and x.jsonl, for instance "
        "'b' ('B' and 'X'), 'c' ('C' and 'X'), 'd' ('D' and 'X'), …. Both files must be about the same data."
    )


def test_references_of_another_type_are_not_the_same_references() -> None:
    with pytest.raises(InputError, match=r"'a' \(1 and '1'\)"):
        join(_file(a=(1, 1)), _file(a=("1", "1")))
