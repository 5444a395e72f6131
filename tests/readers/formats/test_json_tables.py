"""Tables in JSON arrays and objects: read as the same rows one a line would be, or refused by name."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muscle_hf import InputError, read
from muscle_hf.readers.formats import json_tables
from muscle_hf.readers.formats.json_tables import JsonArray, JsonLines

Rows = list[dict[str, Any]]
ROWS = [{"id": i, "prediction": said, "reference": "A"} for i, said in ((3, "A"), (1, "B"), (2, None))]
TRICKY = st.sampled_from(["", "a", "},{", "}, {", "}\n,\n{", "]", "[{", '"', "\\", "\\u", "é", "\u2028", "\0"])
VALUES = st.recursive(
    TRICKY | st.none() | st.booleans() | st.integers(-(10**6), 10**6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TRICKY, inner, max_size=2),
    max_leaves=6,
)


def _scan(table: JsonLines, *wanted: str) -> list[list[Any]]:
    blocks = table.scan(wanted, lambda _, block: [block[name].to_pylist() for name in wanted], strict=wanted)
    return [[item for block in blocks for item in block[place]] for place in range(len(wanted))]


def _write(path: Path, content: Any, **options: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content, **options), encoding="utf-8")
    return path


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    said=st.lists(TRICKY, min_size=1, max_size=6),
    other=VALUES,
    indent=st.sampled_from([None, 0, 1, "\t"]),
    ascii_only=st.booleans(),
    read_at_once=st.integers(1, 60),
)
def test_an_array_is_read_as_its_rows_whatever_they_hold_and_wherever_it_is_cut(
    tmp_path_factory: pytest.TempPathFactory,
    said: list[str],
    other: Any,
    indent: int | str | None,
    ascii_only: bool,
    read_at_once: int,
) -> None:
    rows = [{"other": other, "prediction": text, "id": number} for number, text in enumerate(said)]
    path = tmp_path_factory.getbasetemp() / "rows.json"
    _write(path, rows, indent=indent, ensure_ascii=ascii_only)
    expected = [[*range(len(rows))], said]
    table = JsonArray(path, "rows")
    assert _scan(table, "id", "prediction") == expected
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_tables, "_BYTES", max(read_at_once, 20))
        assert _scan(table, "id", "prediction") == expected
        patch.setattr(JsonArray, "_fast", _unable)
        assert _scan(table, "id", "prediction") == expected


def _unable(*_: Any) -> None:
    raise json_tables._NotPlainError


def test_an_array_without_braces_in_its_texts_is_read_by_arrow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(JsonArray, "_careful", _unable)
    for indent in (None, 2):
        rows = [{"id": i, "prediction": "A", "more": {"b": [1, {}]}} for i in range(300)]
        table = JsonArray(_write(tmp_path / "rows.json", rows, indent=indent), "rows")
        assert _scan(table, "id")[0] == list(range(300))


def test_objects_inside_a_row_do_not_end_the_process_wherever_a_block_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"id": i, "more": [{"b": 1}, {}], "prediction": "A"} for i in range(4)]
    table = JsonArray(_write(tmp_path / "rows.json", rows), "rows")
    for size in range(20, 100):
        monkeypatch.setattr(json_tables, "_BYTES", size)
        assert _scan(table, "id", "prediction") == [[0, 1, 2, 3], ["A"] * 4]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ('[{"id": 1, "prediction": "A", "reference": "A"}{"id": 2}]', "a comma between two objects is missing"),
        ('[{"id": 1, "prediction": "A", "reference": "A"}, 1]', "line 1 is 1, not a JSON object"),
        ('[{"id": 1, "prediction": "A", "reference": "A"}', "the JSON array does not end"),
        ('[{"id": 1, "prediction": "A", "reference": "A"}]]', "something follows the end"),
        ('[{"id": 1, "prediction": "A", "reference": "A"}, {"id": 2}]', "line 1 has no field 'prediction'"),
        ('[{"id": 1, "prediction": "a\nb", "reference": "A"}]', "Invalid control character"),
        ("[]", "is empty"),
        ("[1, 2]", "line 1 is 1, not a JSON object"),
    ],
)
def test_a_fault_of_an_array_is_no_shorter_table(tmp_path: Path, content: str, fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        read(_write(tmp_path / "rows.json", content))


COLUMNS = {name: [row[name] for row in ROWS] for name in ROWS[0]}


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize(
    "content",
    [
        ROWS,
        {"data": ROWS},
        {"model": "m", "config": {"a": 1}, "results": ROWS, "other": [1, 2]},
        {"schema": {"fields": [{"name": "id"}]}, "data": ROWS},
        COLUMNS,
        {"columns": list(COLUMNS), "index": [0, 1, 2], "data": [list(row.values()) for row in ROWS]},
        {name: dict(enumerate(column)) for name, column in COLUMNS.items()},
    ],
    ids=["records", "data", "results", "table", "list", "split", "columns"],
)
def test_a_table_in_one_document_is_read_as_its_rows(tmp_path: Path, content: Any, indent: int | None) -> None:
    task = read(_write(tmp_path / "rows.json", content, indent=indent)).tasks["rows"]
    assert task.ids.to_pylist() == [3, 1, 2]
    assert task.values().tolist() == [1, 0, 0]
    assert [text.answer for text in task.read_texts(np.array([1, 0]))] == ["B", "A"]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ({"results": {"a": {}}, "configs": {"a": {}}, "n-shot": {"a": 0}, "date": 1.5}, "name the samples_"),
        ({"old": ROWS, "new": ROWS}, r"several arrays of objects \('old', 'new'\)"),
        ({str(i): row for i, row in enumerate(ROWS)}, r"nothing says whether '0' is a row .*orient='index'"),
        ({"a": {"b": 1}, "c": {"d": 1}}, "an object of objects with different fields"),
        ({"id": [1, 2], "prediction": ["A"]}, r"different lengths \('id' 2, 'prediction' 1\)"),
        ({"columns": ["id"], "data": [[1, 2]]}, "not every row of 'data' is a list of 1 values"),
        ({"evalId": "e", "results": {"results": 1}}, "no table"),
        ({"model": "m", "accuracy": 0.5}, "no table"),
        ("{\n}\n{\n}", r"goes on behind the end of its first JSON value \(line 3, column 1\): .* \(jq -c \.\)"),
    ],
)
def test_an_object_that_may_be_this_or_that_is_refused_by_name(tmp_path: Path, content: Any, fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        read(_write(tmp_path / "rows.json", content, indent=1))


def test_one_row_on_one_line_is_a_row_whatever_its_fields_hold(tmp_path: Path) -> None:
    row = {"id": 1, "prediction": "A", "reference": "A", "parts": [{"id": 5}], "scores": {"f1": 1}}
    assert read(_write(tmp_path / "rows.jsonl", row)).tasks["rows"].ids.to_pylist() == [1]
