"""The table that people fill in: written, and read again; what is wrong with one is told, and never counted."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from muscle_hf.errors import InputError
from muscle_hf.runs.filled_table import check_target
from muscle_hf.runs.labelling.disagreements import Disagreements, find_disagreements
from muscle_hf.runs.labelling.label_table import Label, counts, read_labels, seed_of, write_table

Row = dict[str, Any]
Change = Callable[[list[Row]], object]


def _found(folder: Path, old: str = "ABCDEFGH", new: str = "ABXYXYXY", seed: int = 0) -> Disagreements:
    for name, letters in (("old", old), ("new", new)):
        rows = [{"id": f"q{i}", "prediction": letter, "question": f"Which, {i}?"} for i, letter in enumerate(letters)]
        (folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return find_disagreements(str(folder / "old.jsonl"), str(folder / "new.jsonl"), seed=seed)


def _read(path: Path) -> list[Row]:
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _rewrite(path: Path, rows: list[Row]) -> None:
    if path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def _table(found: Disagreements, path: Path, change: Change) -> Path:
    write_table(path, found.rows(range(len(found))), found.draw)
    rows = _read(path)
    change(rows)
    _rewrite(path, rows)
    return path


def _set(place: int, **cells: object) -> Change:
    return lambda rows: rows[place].update(cells)


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_a_table_has_what_a_reader_needs_and_comes_back_in_any_order(ending: str, tmp_path: Path) -> None:
    found = _found(tmp_path)

    def label(rows: list[Row]) -> None:
        assert list(rows[0]) == [
            *("order", "id", "question", "old_answer", "new_answer", "right_answer", "right_model", "draw")
        ]
        assert rows[0]["question"] == f"Which, {rows[0]['id'][1:]}?"
        rows[0]["right_answer"] = rows[0]["old_answer"]
        rows[1]["right_answer"] = f" {rows[1]['new_answer']} "
        rows[2]["right_answer"] = "Q"
        rows[3]["right_model"] = "Both"
        rows.reverse()
        del rows[0]

    labels = read_labels(_table(found, tmp_path / f"t.{ending}", label), found)
    assert labels == [
        Label(0, "old", labels[0].answer),
        Label(1, "new", labels[1].answer),
        (2, "neither", "Q"),
        (3, "both", None),
    ]
    assert counts(labels) == {"old_right": 1, "new_right": 1, "unchanged": 2, "skipped": 0}


def test_a_row_without_a_label_before_a_labelled_one_counts_as_skipped(tmp_path: Path) -> None:
    found = _found(tmp_path)
    labels = read_labels(_table(found, tmp_path / "t.csv", _set(4, right_model="new")), found)
    assert counts(labels) == {"old_right": 0, "new_right": 1, "unchanged": 0, "skipped": 4}
    assert counts([]) == {"old_right": 0, "new_right": 0, "unchanged": 0, "skipped": 0}


def test_a_longer_table_keeps_the_labels(tmp_path: Path) -> None:
    found = _found(tmp_path)
    labels = [Label(0, "old", "E"), Label(1, "neither", None)]
    write_table(tmp_path / "t.csv", found.rows(range(5)), found.draw, labels)
    rows = _read(tmp_path / "t.csv")
    assert [(row["right_answer"], row["right_model"]) for row in rows[:3]] == [("E", ""), ("", "neither"), ("", "")]


def test_long_answers_and_line_breaks_are_written_whole_and_told_apart(tmp_path: Path) -> None:
    texts = ["x " * 200 + "one\nend", "x " * 200 + "two\nend"]
    for name, text in zip(("old", "new"), texts, strict=True):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"id": 1, "prediction": text}))
    found = find_disagreements(str(tmp_path / "old.jsonl"), str(tmp_path / "new.jsonl"))
    table = _table(found, tmp_path / "t.csv", _set(0, right_answer=texts[1].replace("\n", "\r\n")))
    assert [label.right for label in read_labels(table, found)] == ["new"]


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_odd_texts_come_back_as_they_were(ending: str, tmp_path: Path) -> None:
    odd = ['a\rb, "c"', "=1+1", " x ", "\ud800", "\N{SNOWMAN}", "old", "null", "a\tb"]
    for name, text in (("old", ""), ("new", "other")):
        rows = [{"id": f" {place}", "prediction": f"{answer}{text}"} for place, answer in enumerate(odd)]
        (tmp_path / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    found = find_disagreements(str(tmp_path / "old.jsonl"), str(tmp_path / "new.jsonl"))
    rows = found.rows(range(len(found)))
    assert len(rows) == len(odd)
    labels = [Label(place, "old", row.old_answer) for place, row in enumerate(rows)]
    write_table(tmp_path / f"t.{ending}", rows, found.draw, labels)
    assert [label.right for label in read_labels(tmp_path / f"t.{ending}", found)] == ["old"] * len(odd)


def test_a_number_may_be_written_as_the_file_may_write_it(tmp_path: Path) -> None:
    (tmp_path / "answers.csv").write_text("id,old,new\n1,7,8\n2,5,6\n")
    found = find_disagreements(f"{tmp_path}/answers.csv:old", f"{tmp_path}/answers.csv:new")
    table = _table(
        found, tmp_path / "t.csv", lambda rows: [row.update(right_answer=f"{row['old_answer']}.0") for row in rows]
    )
    assert [label.right for label in read_labels(table, found)] == ["old", "old"]
    for name, answer in (("old", 7), ("new", 8)):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"id": 1, "prediction": answer}))
    found = find_disagreements(str(tmp_path / "old.jsonl"), str(tmp_path / "new.jsonl"))
    table = _table(found, tmp_path / "t.jsonl", _set(0, right_answer=8))
    assert [label.right for label in read_labels(table, found)] == ["new"]


def test_what_need_not_count_need_not_in_labels(tmp_path: Path) -> None:
    (tmp_path / "answers.csv").write_text("id,old,new\n1,Yes,no\n")
    names = [f"{tmp_path}/answers.csv:{name}" for name in ("old", "new")]
    lower = _table(find_disagreements(*names), tmp_path / "t.csv", _set(0, right_answer="yes"))
    with pytest.raises(
        InputError, match="1 label would be right with another spelling \\(case\\), for instance 'yes'"
    ):
        read_labels(lower, find_disagreements(*names))
    found = find_disagreements(*names, normalize="case")
    table = _table(found, tmp_path / "u.csv", _set(0, right_answer="YES"))
    assert [label.right for label in read_labels(table, found, normalized=True)] == ["old"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set(0, id="q99"), "1 id of the table cannot be found in the files, for instance 'q99'"),
        (_set(0, id="q0"), "on 1 row of the table the versions give the same answer now, for instance on 'q0'"),
        (lambda rows: rows.append(dict(rows[0])), "1 id stands more than once"),
        (_set(0, old_answer="Z"), "old_answer of id 'q.' is 'Z', and in the file"),
        (_set(0, right_model="A"), "right_model of id 'q.' is 'a', but must be old, new, both or neither"),
        (_set(0, right_model="old", right_answer="Q"), "by which right_model is neither, and it says old"),
        (_set(0, draw="1:6:0"), "has rows of several draws, or of none"),
        (lambda rows: [row.update(draw="") for row in rows], "has rows of several draws, or of none"),
        (lambda rows: [row.update(draw="0:9:abc") for row in rows], "was drawn from 9 disagreements with seed 0"),
        (
            lambda rows: [row.update(draw="0:6:abc") for row in rows],
            "from 6 disagreements with seed 0, and there are as many now, but they are other ones: the answers",
        ),
        (lambda rows: [row.pop("draw") for row in rows], "has no column 'draw', so it is no table"),
    ],
)
def test_a_table_that_is_not_of_these_files_is_refused(change: Change, message: str, tmp_path: Path) -> None:
    found = _found(tmp_path)
    with pytest.raises(InputError, match=message):
        read_labels(_table(found, tmp_path / "t.csv", change), found)


def test_a_table_of_earlier_answers_is_refused(tmp_path: Path) -> None:
    table = _table(_found(tmp_path), tmp_path / "t.csv", _set(0, right_model="old"))
    with pytest.raises(InputError, match=r"new_answer of id 'q.' is '[XY]', and in the file"):
        read_labels(table, _found(tmp_path, new="ABZZZZZZ"))
    rows = _read(table)[:1]
    _rewrite(table, rows)
    changed = "ABXYXYXY".replace("A", "V")
    with pytest.raises(InputError, match="was drawn from 6 disagreements with seed 0, and now there are 7"):
        read_labels(table, _found(tmp_path, new=changed))


def test_the_seed_is_that_of_the_table(tmp_path: Path) -> None:
    found = _found(tmp_path, seed=7)
    write_table(tmp_path / "t.csv", found.rows([0, 1]), found.draw)
    assert seed_of(tmp_path / "t.csv") == 7
    (tmp_path / "no.csv").write_text("id,draw\n")
    with pytest.raises(InputError, match="has no rows"):
        seed_of(tmp_path / "no.csv")
    with pytest.raises(InputError, match="there is no such file"):
        seed_of(tmp_path / "lost.csv")


@pytest.mark.parametrize(
    ("name", "message"),
    [("t.txt", "let it end in .csv or .jsonl"), ("no/t.csv", "there is no folder"), ("there.csv", "may hold labels")],
)
def test_a_file_that_may_hold_labels_is_never_replaced(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "there.csv").write_text("id\n")
    with pytest.raises(InputError, match=message):
        check_target(tmp_path / name)
