"""Long tables: the rows of one model are compared with those of another, and never both as one."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from muscle_hf import InputError, compare_runs, read
from muscle_hf.readers.formats.chosen_rows import choices_in

SAID = {"v1": "AAB", "v2": "ABA", "org/m:free@main": "BBB"}
ROWS = [
    {"id": i, "model": model, "size": size, "prediction": said, "other": "A", "reference": "A", "question": f"q{i}"}
    for i in range(3)
    for size, (model, answers) in enumerate(SAID.items())
    for said in answers[i]
]


def _write(folder: Path, kind: str, rows: list[dict[str, Any]] | None = None) -> Path:
    rows, path = ROWS if rows is None else rows, folder / f"long.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif kind == "arrow":
        with pa.ipc.new_file(path, (table := pa.Table.from_pylist(rows)).schema) as file:
            file.write_table(table)
    elif kind == "csv":
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        path.write_text(text.getvalue(), encoding="utf-8")
    else:
        lines = kind == "jsonl"
        path.write_text("\n".join(map(json.dumps, rows)) if lines else json.dumps(rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", ["csv", "jsonl", "json", "parquet", "arrow"])
def test_the_rows_of_one_model_are_compared_with_those_of_another(tmp_path: Path, kind: str) -> None:
    path = _write(tmp_path, kind)
    result = compare_runs(f"{path}@model=v1", f"{path}@model=v2")
    part = result.overall.comparison
    assert (result.overall.n, len(part.negative_flips), len(part.positive_flips)) == (3, 1, 1)
    assert (result.old_name, result.new_name) == ("v1", "v2")
    flips = {flip.id: (flip.question, flip.old_answer, flip.new_answer) for flip in result.flips()}
    key = str if kind == "csv" else int
    assert flips == {key(1): ("q1", "A", "B"), key(2): ("q2", "B", "A")}
    assert not result.identical


@pytest.mark.parametrize(
    ("rest", "column", "chosen"),
    [
        ("", None, {}),
        (":prediction", "prediction", {}),
        (":unknown", "unknown", {}),
        ("@model=v1", None, {"model": "v1"}),
        ("@model=v1:prediction", "prediction", {"model": "v1"}),
        (":prediction@model=v1", "prediction", {"model": "v1"}),
        ("@model=v1@prompt=2", None, {"model": "v1", "prompt": "2"}),
        ("@model=org/m:free", None, {"model": "org/m:free"}),
        ("@model=org/m@main", None, {"model": "org/m@main"}),
        ("@model=", None, {"model": ""}),
        ("@model=a=b", None, {"model": "a=b"}),
        (":a@b=c", "a@b=c", {}),
        ("@x=y=1", None, {"x=y": "1"}),
    ],
)
def test_what_follows_the_name_of_a_table_is_told_by_its_columns(
    rest: str, column: str | None, chosen: dict[str, str]
) -> None:
    names = ["id", "model", "prompt", "prediction", "a@b=c", "x=y", "x"]
    assert choices_in(rest, names, "t.csv") == (column, chosen)


@pytest.mark.parametrize(
    ("rest", "words"),
    [
        ("@modle=v1", "has no column 'modle' to choose rows by; it has 'id', 'model'"),
        ("@v1", "@v1 chooses nothing; write @COLUMN=VALUE"),
        ("@model=v9", "no row has model=v9; model has 'v1', 'v2', 'org/m:free@main'"),
        ("@model=v1@size=1", "no row has model=v1 and size=1; model has .*; size has '0', '1', '2'"),
        ("@model=v1@model=v2", "chooses 'model' more than once"),
        ("@model=v1:guess", "no row has model=v1:guess"),
        (":guess@model=v1", "has no column 'guess'"),
    ],
)
def test_a_choice_that_chooses_nothing_says_what_there_is(tmp_path: Path, rest: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read(f"{_write(tmp_path, 'csv')}{rest}")


def test_a_value_may_hold_signs_that_separate(tmp_path: Path) -> None:
    path = _write(tmp_path, "parquet")
    assert read(f"{path}@model=org/m:free@main").tasks["long"].values().tolist() == [0, 0, 0]
    assert read(f"{path}@model=org/m:free@main:other").tasks["long"].values().tolist() == [1, 1, 1]


@pytest.mark.parametrize("value", ["1", "1.0"])
def test_numbers_and_truth_values_are_chosen_as_they_are_written(tmp_path: Path, value: str) -> None:
    rows = [{"id": i, "step": float(i), "ok": i > 0, "prediction": "A", "reference": "A"} for i in range(2)]
    typed = _write(tmp_path, "jsonl", rows)
    if value == "1":
        assert read(f"{typed}@step=1").tasks["long"].ids.to_pylist() == [1]
    assert read(f"{typed}@ok=true").tasks["long"].ids.to_pylist() == [1]
    assert read(f"{_write(tmp_path, 'csv', rows)}@step=1.0").tasks["long"].ids.to_pylist() == ["1"]


@pytest.mark.parametrize("name", ["model", "model_name", "Version"])
def test_rows_of_several_models_are_refused_with_the_way_to_choose_one(tmp_path: Path, name: str) -> None:
    rows = [{name if key == "model" else key: value for key, value in row.items()} for row in ROWS]
    path = _write(tmp_path, "csv", rows)
    with pytest.raises(InputError, match=rf"ids stand more than once.*FILE@{name}=VALUE"):
        compare_runs(path, f"{path}@{name}=v1")
    sampled = _write(tmp_path, "jsonl", [row | {"sample": 1} for row in rows])
    with pytest.raises(InputError, match=rf"stands twice with the same sample.*FILE@{name}=VALUE"):
        read(sampled)


def test_rows_without_ids_of_two_models_are_not_joined_by_their_number(tmp_path: Path) -> None:
    path = _write(tmp_path, "csv", [{key: value for key, value in row.items() if key != "id"} for row in ROWS])
    with pytest.raises(InputError, match="has no column 'id'"):
        compare_runs(f"{path}@model=v1", f"{path}@model=v2")
    assert compare_runs(f"{path}@model=v1", f"{path}@model=v2", by_position=True).overall.n == 3


def test_the_same_rows_of_one_file_are_one_run_however_it_is_spelled(tmp_path: Path) -> None:
    path = _write(tmp_path, "csv")
    (tmp_path / "x").mkdir()
    other = tmp_path / "x" / ".." / path.name
    assert compare_runs(f"{path}@model=v1", f"{other}@model=v1").identical
    assert not compare_runs(f"{path}@model=v1", f"{other}@model=v2").identical


def test_a_folder_may_hold_the_signs_that_separate(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs@step=1").mkdir()
    path = _write(tmp_path / "runs@step=1", "csv")
    assert read(f"{path}@model=v2").tasks["long"].values().tolist() == [1, 0, 1]


def test_slices_and_scores_are_those_of_the_chosen_rows(tmp_path: Path) -> None:
    rows = [row | {"score": float(row["prediction"] == "A")} for row in ROWS]
    run = read(f"{_write(tmp_path, 'jsonl', rows)}@model=v2", slices=["model"])
    assert run.tasks["long"].values().tolist() == [1, 0, 1]
    assert run.tasks["long"].slices["model"].to_pylist() == ["v2"] * 3
