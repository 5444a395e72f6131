"""Where two versions disagree, and in which order that is labelled."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from harness_samples import model_folder

from muscle_hf.errors import InputError
from muscle_hf.runs.labelling.disagreements import find_disagreements

Row = dict[str, Any]


def _write(path: Path, rows: Sequence[Row]) -> str:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return str(path)


def _answers(letters: str) -> list[Row]:
    return [{"id": f"q{place}", "prediction": letter} for place, letter in enumerate(letters)]


def test_the_order_of_the_files_and_their_names_do_not_matter(tmp_path: Path) -> None:
    old, new = _answers("ABCDEFGHIJ" * 3), _answers("ABXXEXXXXX" * 3)
    found = find_disagreements(_write(tmp_path / "old.jsonl", old), _write(tmp_path / "new.jsonl", new))
    old, new = old[::-1], new[7:] + new[:7]
    again = find_disagreements(_write(tmp_path / "before.jsonl", old), _write(tmp_path / "after.jsonl", new))
    assert len(found) == len(again) == 21
    assert found.total == 30
    assert found.rows(range(21)) == again.rows(range(21))
    assert found.draw == again.draw


def test_another_seed_is_another_order_of_the_same_rows(tmp_path: Path) -> None:
    files = _write(tmp_path / "old.jsonl", _answers("A" * 20)), _write(tmp_path / "new.jsonl", _answers("B" * 20))
    first, second = ([row.id for row in find_disagreements(*files, seed=seed).rows(range(20))] for seed in (0, 1))
    assert first != second
    assert sorted(map(str, first)) == sorted(map(str, second))


def test_every_row_is_as_likely_to_be_among_the_first(tmp_path: Path) -> None:
    files = _write(tmp_path / "old.jsonl", _answers("A" * 8)), _write(tmp_path / "new.jsonl", _answers("B" * 8))
    drawn = dict.fromkeys((f"q{place}" for place in range(8)), 0)
    for seed in range(60):
        for row in find_disagreements(*files, seed=seed).rows(range(4)):
            drawn[str(row.id)] += 1
    # 60 draws of half of them: 30 each, give or take five standard deviations.
    assert all(11 <= count <= 49 for count in drawn.values())


def test_answers_that_are_not_there_are_the_same(tmp_path: Path) -> None:
    old = [{"id": i, "prediction": said} for i, said in enumerate([None, "", "A", None, "B"])]
    new = [{"id": i, "prediction": said} for i, said in enumerate(["", None, "", "A", "B"])]
    found = find_disagreements(_write(tmp_path / "old.jsonl", old), _write(tmp_path / "new.jsonl", new))
    rows = {row.id: (row.old_answer, row.new_answer) for row in found.rows(range(len(found)))}
    assert {key: tuple(answer or None for answer in both) for key, both in rows.items()} == {
        2: ("A", None),
        3: (None, "A"),
    }


def test_right_answers_and_scores_of_a_table_are_left_out(tmp_path: Path) -> None:
    rows = [{"id": 1, "prediction": "A", "reference": None, "score": None, "question": "Which?"}]
    other = [{"id": 1, "prediction": "B", "reference": "B", "score": 1, "question": "Which?"}]
    found = find_disagreements(_write(tmp_path / "old.jsonl", rows), _write(tmp_path / "new.jsonl", other))
    (row,) = found.rows([0])
    assert (row.id, row.question, row.old_answer, row.new_answer, row.task) == (1, "Which?", "A", "B", None)


def test_numbers_of_a_csv_are_the_same_however_written(tmp_path: Path) -> None:
    (tmp_path / "answers.csv").write_text("id,old,new\n1,7,7.0\n2,8,9\n3,1e1,10\n")
    found = find_disagreements(f"{tmp_path}/answers.csv:old", f"{tmp_path}/answers.csv:new")
    assert [row.id for row in found.rows(range(len(found)))] == ["2"]


def test_samples_of_the_harness_are_taken_task_by_task() -> None:
    found = find_disagreements(
        str(model_folder("tiny-v1")), str(model_folder("tiny-v2")), tasks=["piqa_local", "hellaswag_local"]
    )
    rows = found.rows(range(len(found)))
    assert {row.task for row in rows} == {"piqa_local", "hellaswag_local"}
    assert all(row.question and row.old_answer != row.new_answer for row in rows)
    assert [row.order for row in rows] == list(range(1, len(rows) + 1))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ([{"id": 1, "score": 0.5}], [{"id": 1, "score": 1.0}], "no column 'prediction'"),
        ([{"id": 1, "prediction": ["A", "B"]}], [{"id": 1, "prediction": ["A"]}], "lists of sampled answers"),
        ([{"id": 1, "prediction": "A"}], [{"id": 2, "prediction": "A"}], "no id in common"),
        ([{"id": 1, "prediction": "A"}] * 2, [{"id": 1, "prediction": "A"}], "ids stand more than once"),
        ([{"id": 1, "prediction": "1"}], [{"id": 1, "prediction": 1}], "1 and '1' are different answers"),
    ],
)
def test_what_cannot_differ_row_by_row_is_refused(
    old: list[Row], new: list[Row], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        find_disagreements(_write(tmp_path / "old.jsonl", old), _write(tmp_path / "new.jsonl", new))


def test_a_lacking_instance_is_left_out_only_where_that_is_said(tmp_path: Path) -> None:
    files = _write(tmp_path / "old.jsonl", _answers("AAAA")), _write(tmp_path / "new.jsonl", _answers("ABB"))
    with pytest.raises(InputError, match="lacks 1 of the 4 ids"):
        find_disagreements(*files)
    found = find_disagreements(*files, allow_missing=True)
    assert (len(found), found.total) == (2, 3)
    assert any("3 common instances compared" in note for note in found.notes)
