"""Formats are told apart by what they hold, never guessed; a new one is read from files and from folders."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from muscle_hf import InputError, compare_runs, read
from muscle_hf.readers import folders
from muscle_hf.readers.answers import TaskAnswers
from muscle_hf.readers.formats import registry
from muscle_hf.readers.formats.format import About, Format
from muscle_hf.readers.formats.head import Head
from muscle_hf.readers.formats.records import Record, answers_of


def _records(head: Head) -> Iterator[Record]:
    for _, row in head.objects("a review"):
        yield Record(row["n"], {"correct": row["correct"]})


def _read(head: Head, task: str, *, metric: str | None, slices: Sequence[str]) -> list[TaskAnswers]:
    return [answers_of(lambda: _records(head), task, str(head.path), metric=metric, slices=slices)]


def _about(head: Head) -> About:
    first = head.first or {}
    return About(first["task"], first["model"], first["date"])


REVIEWS = Format("review", "reviews", lambda head: {"n", "correct"} <= head.keys, _read, ("*.review",), _about)
OTHER = Format("other", "a log", lambda head: "correct" in head.keys and "log" in head.keys, _read, ("*.log",))


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (registry, folders):
        monkeypatch.setattr(module, "FORMATS", (REVIEWS, OTHER))


def _write(file: Path, correct: Sequence[bool], **more: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    about = {"task": "t", "model": "m", "date": "2026-01-01", **more}
    file.write_text("".join(json.dumps({"n": n, "correct": right, **about}) + "\n" for n, right in enumerate(correct)))
    return file


def test_a_file_of_a_format_is_read_by_what_it_holds_and_not_by_its_name(tmp_path: Path) -> None:
    old = _write(tmp_path / "old.jsonl", [True, True, False])
    new = _write(tmp_path / "new.txt", [True, False, True])
    part = compare_runs(old, new).overall.comparison
    assert (len(part.negative_flips), len(part.positive_flips)) == (1, 1)
    assert read(old).name == "m"


def test_a_file_that_two_formats_take_for_theirs_is_refused(tmp_path: Path) -> None:
    file = _write(tmp_path / "x.jsonl", [True], log=1)
    with pytest.raises(InputError, match="can be read as reviews of review or as a log of other"):
        read(file)


def test_columns_named_by_the_user_make_it_a_table(tmp_path: Path) -> None:
    file = _write(tmp_path / "x.jsonl", [True, False])
    assert read(file, columns={"id": "n", "score": "correct"}).tasks["x"].metric == "correct"


@pytest.mark.parametrize("options", [{"filter": "strict"}, {"normalize": "case"}])
def test_options_that_would_do_nothing_are_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="review"):
        read(_write(tmp_path / "x.jsonl", [True]), **options)


def test_a_fault_in_the_shape_is_told_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text(json.dumps({"n": 1, "correct": True, "task": "t", "model": "m", "date": ""}) + '\n{"n": 2}\n')
    with pytest.raises(InputError, match=r"is not reviews as review writes it \(KeyError: 'correct'\)"):
        read(file)


def test_a_folder_gives_the_newest_run_of_each_task(tmp_path: Path) -> None:
    _write(tmp_path / "a.review", [True, True])
    _write(tmp_path / "sub/b.review", [False, True], date="2026-02-01")
    _write(tmp_path / "c.review", [False], task="u")
    (tmp_path / "notes.json").write_text("{}")
    run = read(tmp_path)
    assert run.name == "m" and list(run.tasks) == ["t", "u"]
    assert run.tasks["t"].values().tolist() == [0, 1]
    assert "1 task was run more than once" in run.notes[0]
    assert read(tmp_path, run="2026-01").tasks["t"].values().tolist() == [1, 1]
    assert list(read(tmp_path, tasks="u").tasks) == ["u"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"model": "n", "task": "u"}, r"holds the runs of 2 models \(m, n\)"),
        ({}, r"holds the task t twice, in a\.review and b\.review"),
    ],
)
def test_a_folder_in_which_nothing_says_what_is_meant_is_refused(
    tmp_path: Path, more: dict[str, str], words: str
) -> None:
    _write(tmp_path / "a.review", [True, True])
    _write(tmp_path / "b.review", [True, True], **more)
    with pytest.raises(InputError, match=words):
        read(tmp_path)


def test_a_folder_of_two_programs_is_refused(tmp_path: Path) -> None:
    _write(tmp_path / "a.review", [True])
    (tmp_path / "b.log").write_text(json.dumps({"correct": True, "log": 1}))
    with pytest.raises(InputError, match="holds runs of review and of other"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("content", "layout", "keys"),
    [
        (b'{"a": 1}\n{"b": 2}\n', "lines", {"a"}),
        (b'\xef\xbb\xbf{"a": 1}', "lines", {"a"}),
        (b'{\n "a": 1,\n "b": [{}]}', "object", {"a", "b"}),
        (b'[{"a": "]"}, 1]', "array", {"a"}),
        (b'\n[\n  {\n    "a": 1\n  }\n]', "array", {"a"}),
        (b"[1, 2]", "array", set()),
        (b"[", "array", set()),
        (b"a,b\n1,2\n", "text", set()),
        (b"a\0b", "binary", set()),
        (b"PK\x03\x04x", "zip", set()),
        (b"", "text", set()),
    ],
)
def test_how_a_file_is_laid_out_is_told_by_its_beginning(
    tmp_path: Path, content: bytes, layout: str, keys: set[str]
) -> None:
    file = tmp_path / "x"
    file.write_bytes(content)
    head = Head(file)
    assert (head.layout, set(head.keys)) == (layout, keys)
