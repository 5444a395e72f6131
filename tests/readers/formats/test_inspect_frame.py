"""Data frames of inspect_ai's samples: CSV, Parquet and JSON, several logs, letters and values by name."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from muscle_hf import InputError, compare_runs, read
from muscle_hf.readers.answers import TaskAnswers

_LOG = "/logs/2026-01-01T00-00-00+00-00_{}_AbC.eval"


def _row(key: Any, score: Any, *, epoch: int = 1, task: str = "t", run: str = "e", **more: Any) -> dict[str, Any]:
    about = {"sample_id": f"{run}{task}{key}{epoch}", "eval_id": run, "log": _LOG.format(task), "epoch": epoch}
    return {**about, "id": key, "input": f"user:\nq{key}\n", "target": "a", "score_match": score, **more}


def _csv(file: Path, rows: Sequence[dict[str, Any]]) -> Path:
    with file.open("w", newline="") as out:
        writer = csv.DictWriter(out, list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)
    return file


def _parquet(file: Path, rows: Sequence[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist([{**row, "id": str(row["id"])} for row in rows]), file)
    return file


def _json(file: Path, rows: Sequence[dict[str, Any]]) -> Path:
    file.write_text(json.dumps(rows))
    return file


def _task(source: Path | str, **options: Any) -> TaskAnswers:
    (task,) = read(source, **options).tasks.values()
    return task


@pytest.mark.parametrize(("write", "name"), [(_csv, "{}.csv"), (_parquet, "{}.parquet"), (_json, "{}.json")])
def test_flips_are_those_that_the_rows_hold(tmp_path: Path, write: Any, name: str) -> None:
    letters = np.random.default_rng(4).choice(["C", "I"], (2, 30)).tolist()
    files = []
    for side, row in zip(("old", "new"), letters, strict=True):
        rows = [_row(key, letter, metadata_kind=key % 2) for key, letter in enumerate(row)]
        files.append(write(tmp_path / name.format(side), rows))
    result = compare_runs(*files, by="kind")
    found = result.overall.comparison
    assert [len(found.negative_flips), len(found.positive_flips)] == [
        sum(old == "C" and new == "I" for old, new in zip(*letters, strict=True)),
        sum(old == "I" and new == "C" for old, new in zip(*letters, strict=True)),
    ]
    assert {part.name for part in result.slices["kind"]} == {"0", "1"}
    assert result.tasks[0].name == "t"
    task = _task(files[0], metric="score_match")
    assert task.read_texts(np.array([7]))[0].question == "q7"


def test_epochs_are_sampled_answers(tmp_path: Path) -> None:
    rows = [_row(1, letter, epoch=epoch) for epoch, letter in enumerate("CCIC", 1)]
    task = _task(_csv(tmp_path / "x.csv", rows))
    assert (task.ids.to_pylist(), task.values().tolist()) == (["1"], [0.75])


def test_scores_of_several_values_are_read_from_their_json(tmp_path: Path) -> None:
    rows = [
        _row(1, "C", score_many=json.dumps({"right": "P", "length": 3}), score_flag="True", score_match_answer="7")
    ]
    file = _csv(tmp_path / "x.csv", rows)
    assert _task(file, metric="many/right").values().tolist() == [0.5]
    assert _task(file, metric="flag").values().tolist() == [1]
    with pytest.raises(InputError, match="usable: 'match', 'many/right', 'many/length', 'flag'"):
        read(file, metric="nothing")
    assert _task(file).read_texts(np.array([0]))[0].answer == "7"


def test_figures_of_a_whole_log_are_no_scores_of_its_samples(tmp_path: Path) -> None:
    rows = [_row(1, "C", score_headline_value=0.5, score_match_accuracy=0.5)]
    task = _task(_csv(tmp_path / "x.csv", rows))
    assert (task.metric, task.notes) == ("match", ())


def test_a_frame_of_several_tasks_is_read_task_by_task_as_far_as_it_can_be(tmp_path: Path) -> None:
    rows = [_row(1, "C"), _row(1, "I", task="u", run="f"), _row(1, None, task="v", run="g", score_other="C")]
    evaluation = read(_csv(tmp_path / "x.csv", rows), metric="match")
    assert {name: task.values().tolist() for name, task in evaluation.tasks.items()} == {"t": [1], "u": [0]}
    assert "there is no metric 'match'" in evaluation.not_compared["v"]
    assert list(read(tmp_path / "x.csv", metric="match", tasks="u").tasks) == ["u"]


def test_two_logs_of_one_task_need_a_choice(tmp_path: Path) -> None:
    rows = [_row(1, "C", model="a"), _row(1, "I", run="f", model="b")]
    file = _csv(tmp_path / "x.csv", rows)
    with pytest.raises(InputError, match=r"2 logs of the task t; .* @eval_id= of e, f"):
        read(file)
    result = compare_runs(f"{file}@model=a", f"{file}@model=b")
    assert len(result.overall.comparison.negative_flips) == 1
    assert (result.old_name, result.new_name) == ("a", "b")
    assert _task(f"{file}@eval_id=f").values().tolist() == [0]
    with pytest.raises(InputError, match="holds no answers"):
        read(f"{file}@model=c")
    with pytest.raises(InputError, match="has no column 'model'"):
        read(f"{_csv(tmp_path / 'y.csv', [_row(1, 'C')])}@model=a")


def test_a_sample_without_a_score_is_missing_and_said(tmp_path: Path) -> None:
    task = _task(_csv(tmp_path / "x.csv", [_row(1, "C", error=""), _row(2, "", error="no connection")]))
    assert np.isnan(task.scores).tolist() == [False, True]
    assert "t: 1 of 2 samples ended with an error" in task.notes


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([_row(1, "B")], "no metric gives one number"),
        ([{**_row(1, "C"), "epoch": "x"}], "not a data frame of samples as inspect_ai writes it"),
        ([_row(1, "C"), _row(1, "C")], "stands twice"),
        ([_row(1, "C"), _row(None, "C")], "a row without an id"),
    ],
)
def test_a_broken_frame_is_told_in_one_line(tmp_path: Path, rows: Any, told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        read(_csv(tmp_path / "x.csv", rows))
    assert len(str(caught.value).splitlines()) == 1
