"""Rows of the shapes that people have: recognised, said, and the same questions wherever they are read."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from muscle_hf import InputError
from muscle_hf.prediction.flips_dataset import read_questions
from muscle_hf.prediction.layouts import named_columns
from muscle_hf.prediction.questions import described, read_task, read_unlabelled
from muscle_hf.readers.plain_rows import raw_rows
from muscle_hf.training.rows.unlabelled import check_unlabelled
from muscle_hf.update.rows import read_examples

USER, ASSISTANT = {"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}
SYSTEM = {"role": "system", "content": "Be brief."}
# A row -> what is asked, what is right, what is trained on (None: prompt and answer as texts).
SHAPES: dict[str, tuple[dict[str, Any], Any, str, Any]] = {
    "prompt": ({"prompt": "2 + 2?", "completion": " 4"}, "2 + 2?", " 4", None),
    "question": ({"question": "2 + 2?", "answer": "4"}, "2 + 2?", "4", None),
    "alpaca": ({"instruction": "Add.", "input": "2 2", "output": "4"}, "Add.\n\n2 2", "4", None),
    "alpaca without input": ({"instruction": "Add 2 and 2.", "input": "", "output": "4"}, "Add 2 and 2.", "4", None),
    "alpaca without the column": ({"instruction": "Add 2 and 2.", "output": "4"}, "Add 2 and 2.", "4", None),
    "messages": ({"messages": [USER, ASSISTANT]}, [USER], "4", {"messages": [USER, ASSISTANT]}),
    "messages of several turns": (
        {"messages": [SYSTEM, USER, ASSISTANT, USER, ASSISTANT]},
        [SYSTEM, USER, ASSISTANT, USER],
        "4",
        {"messages": [SYSTEM, USER, ASSISTANT, USER, ASSISTANT]},
    ),
    "messages and a system column": (
        {"messages": [USER, ASSISTANT], "system": "Be brief."},
        [SYSTEM, USER],
        "4",
        {"messages": [SYSTEM, USER, ASSISTANT]},
    ),
    "ShareGPT": (
        {
            "conversations": [
                {"from": "system", "value": "Be brief."},
                {"from": "human", "value": "2 + 2?"},
                {"from": "gpt", "value": "4"},
            ]
        },
        [SYSTEM, USER],
        "4",
        {"messages": [SYSTEM, USER, ASSISTANT]},
    ),
    "messages of a human": (
        {"messages": [{"role": "human", "content": "2 + 2?"}, {"role": "gpt", "content": "4"}], "tools": "[]"},
        [USER],
        "4",
        {"messages": [USER, ASSISTANT]},
    ),
    "ShareGPT with roles": ({"conversations": [USER, ASSISTANT]}, [USER], "4", {"messages": [USER, ASSISTANT]}),
    "a conversation and a completion": (
        {"prompt": [USER], "completion": [ASSISTANT]},
        [USER],
        "4",
        {"prompt": [USER], "completion": [ASSISTANT]},
    ),
}


def _json(path: Path, rows: list[Any]) -> None:
    path.write_text(json.dumps(rows, indent=4), encoding="utf-8")


def _lines(path: Path, rows: list[Any]) -> None:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


def _parquet(path: Path, rows: list[Any]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path)


def _csv(path: Path, rows: list[Any]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


WRITERS: dict[str, Callable[[Path, list[Any]], None]] = {
    "rows.json": _json,
    "rows.jsonl": _lines,
    "array.jsonl": _json,
    "lines.json": _lines,
    "rows.parquet": _parquet,
    "rows.csv": _csv,
}


@pytest.mark.parametrize(
    ("shape", "file"),
    [
        (shape, file)
        for shape, (row, *_) in SHAPES.items()
        for file in WRITERS
        # Lists do not stand in CSV.
        if file != "rows.csv" or all(isinstance(cell, str) for cell in row.values())
    ],
)
def test_an_update_reads_other_questions_than_are_there(tmp_path: Path, shape: str, file: str) -> None:
    row, prompt, answer, trained = SHAPES[shape]
    WRITERS[file](tmp_path / file, [row, row])
    (one, other), note = read_examples(str(tmp_path / file), None, default_split="train", choices=False)
    assert (one.prompt, one.answer, other.number) == (prompt, answer, 1)
    assert one.row == (trained or {"prompt": prompt, "completion": answer})
    name = "prompt" if shape.startswith("a ") else shape.split()[0]
    assert note.startswith(f"{tmp_path / file} is read as {name} (")
    assert "the first prompt is '" in note
    assert "\n" not in note


@pytest.mark.parametrize("shape", SHAPES)
def test_a_flips_data_set_asks_something_else_than_an_update(shape: str) -> None:
    row, prompt, answer, _ = SHAPES[shape]
    questions = read_questions(Dataset.from_list([row, row]))
    assert questions.prompts == [prompt] * 2
    assert questions.references == [answer.strip()] * 2
    assert questions.choices is None


@pytest.mark.parametrize("shape", SHAPES)
def test_right_answers_are_taken_for_those_of_the_old_model(shape: str, caplog: pytest.LogCaptureFixture) -> None:
    row, prompt, answer, _ = SHAPES[shape]
    read = check_unlabelled(Dataset.from_list([row, row]), teacher="old")
    # Only what is called a completion is a log of the old model.
    expected = {"prompt": prompt} | ({"completion": answer} if "completion" in row else {})
    assert read.to_list() == [expected] * 2
    assert ("unlabelled_dataset: read as" in caplog.text) is ("prompt" not in row)


def _one(row: dict[str, Any], **options: Any) -> Any:
    layout, (read,) = read_task([row], "data", place="row {}".format, **options)
    return layout, read


@pytest.mark.parametrize(
    ("row", "columns", "message"),
    [
        ({"text": "a"}, None, "has the columns text, which is no shape that is known"),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, None, "no right answers to prompt (completion or reference"),
        ({"instruction": "a", "response": "b"}, None, "no right answers to instruction (output)"),
        ({"instruction": "a", "output": "b", "question": "c", "answer": "d"}, None, "both question and instruction"),
        ({"messages": [USER, ASSISTANT], "conversations": [USER, ASSISTANT]}, None, "both messages and conversations"),
        (
            {"prompt": "a", "completion": "b", "reference": "c"},
            None,
            "both completion and reference could be the right",
        ),
        ({"question": "a", "answer": "b", "context": "c"}, None, "context beside question would be a part"),
        ({"instruction": "a", "output": "b", "history": "c"}, None, "history beside instruction would be a part"),
        ({"q": "a", "a": "b"}, {"prompt": "q", "completion": "z"}, "no column 'z' (completion)"),
        ({"q": "a", "a": "b"}, {"promt": "q"}, "'promt' is nothing that a column can be"),
    ],
)
def test_what_is_asked_is_guessed(row: dict[str, Any], columns: dict[str, str] | None, message: str) -> None:
    with pytest.raises(InputError) as caught:
        _one(row, named=columns)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    if "nothing that a column" not in message:
        assert all(name in str(caught.value) for name in row)
        assert "--columns prompt=NAME,completion=NAME" in str(caught.value)


def test_named_columns_are_not_what_is_read() -> None:
    row = {"asked": "2 + 2?", "gold": "4", "prompt": "x", "completion": "y", "choices": ["4", "5"]}
    layout, read = _one(row, named=named_columns(["prompt=asked", "completion=gold"]))
    assert (read.prompt, read.answer, read.choices) == ("2 + 2?", "4", None)
    assert layout.unread == ("prompt", "completion", "choices")
    _, read = _one({"q": [USER], "a": "4"}, named=named_columns(["prompt=q,completion=a"]))
    assert (read.prompt, read.answer) == ([USER], "4")
    _, read = _one({"talk": [USER, ASSISTANT]}, named={"messages": "talk"})
    assert (read.prompt, read.answer) == ([USER], "4")
    # The same as question and answer are read as by themselves.
    row = {"question": "2 + 2?", "answer": "4", "context": "x"}
    _, read = _one(row, named=named_columns(["prompt=question,completion=answer"]))
    assert (read.prompt, read.answer) == ("2 + 2?", "4")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"messages": [USER]}, "messages ends with a turn of the user"),
        ({"messages": [USER, ASSISTANT, USER]}, "messages ends with a turn of the user"),
        ({"messages": [USER, ASSISTANT | {"content": " "}]}, "messages has an empty message of the assistant"),
        ({"messages": [USER | {"content": ""}, ASSISTANT]}, "messages has an empty message of the user"),
        ({"messages": [ASSISTANT]}, "a question comes before"),
        ({"messages": None}, "messages is None"),
        ({"messages": [USER, ASSISTANT], "tools": [{"name": "add"}]}, "has tools"),
        ({"messages": [USER, ASSISTANT | {"tool_calls": [{"name": "add"}]}]}, "a message has tool_calls"),
        ({"messages": [{"from": "alien", "value": "a"}]}, "a turn from 'alien'; human, user, gpt"),
        ({"messages": [USER, ASSISTANT | {"content": "\ud800"}]}, "half of a character"),
    ],
)
def test_rows_that_cannot_be_read_are_skipped_or_not_counted(bad: dict[str, Any], message: str) -> None:
    good = {"messages": [USER, ASSISTANT]}
    with pytest.raises(InputError) as caught:
        read_task([good, bad, good, bad, bad], "data", place="row {}".format)
    assert str(caught.value).startswith("row 1")
    assert message in str(caught.value)
    assert "2 more of the 5 rows cannot be read either" in str(caught.value)


def test_a_conversation_is_asked_with_its_own_answer_or_with_choices_that_it_does_not_have() -> None:
    row = {"messages": [USER, ASSISTANT], "reference": "4"}
    with pytest.raises(InputError, match="messages ends with an answer of the assistant, and reference is another"):
        _one(row, answers="allowed")
    _, read = _one({"messages": [USER], "reference": "4"}, answers="allowed")
    assert (read.prompt, read.answer) == ([USER], "4")
    _, read = _one({"messages": [USER, ASSISTANT], "choices": ["3", "4"]}, choices="needed")
    assert (read.prompt, read.answer, read.choices) == ([USER], "4", ("3", "4"))
    with pytest.raises(InputError, match="the last message is '4'; give the number of the right choice"):
        _one({"messages": [USER, ASSISTANT], "choices": ["3", "5"]}, choices="needed")
    _, read = _one({"messages": [USER], "choices": ["3", "4"], "answer": 1}, choices="needed")
    assert (read.prompt, read.answer) == ([USER], "4")


@pytest.mark.parametrize("answer", ["b", " b", 1])
def test_choices_are_answered_by_text_or_number(answer: Any) -> None:
    layout, read = _one({"question": "x", "choices": ["a", "b"], "answer": answer}, choices="needed")
    assert (read.choices, str(read.answer).strip()) == (("a", "b"), "b")
    assert layout.choices == "choices"
    with pytest.raises(InputError, match="answer is 2; give the number of the right choice"):
        _one({"question": "x", "choices": ["a", "b"], "answer": 2}, choices="needed")
    with pytest.raises(InputError, match="and no choices, of which one is the answer"):
        _one({"question": "x", "answer": "b"}, choices="needed")


def test_what_was_recognised_is_not_said_in_full() -> None:
    row = {"instruction": "Add\nthem." + "x" * 500, "input": "2 2", "output": "4", "id": 7, "source": "web"}
    line = described(*_one(row))
    assert line.startswith("read as alpaca (instruction, input, output); the first prompt is 'Add\\nthem.xxx")
    assert "…" in line
    assert "answered '4'" in line
    assert "the prompt is the instruction and, after an empty line, the input, with no template around" in line
    assert "nothing stands between prompt and answer" in line
    assert line.endswith("not read: source")
    assert len(line) < 450
    assert "nothing stands" not in described(*_one({"prompt": "a\n", "completion": "b"}))
    assert "nothing stands" not in described(*_one({"prompt": "a", "completion": " b"}))
    assert "user: 2 + 2?" in described(*_one({"messages": [USER, ASSISTANT]}))


def test_prompts_that_end_with_a_question_are_no_unlabelled_prompts() -> None:
    rows = [{"messages": [SYSTEM, USER]}, {"messages": [USER, ASSISTANT, USER]}]
    _, read = read_unlabelled(rows, "data", place="row {}".format)
    assert [one.prompt for one in read] == [rows[0]["messages"], rows[1]["messages"]]
    assert [one.answer for one in read] == [None, None]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"prompt": "a"}', "line 1: the JSON array does not end: was the file cut off"),
        ('[{"prompt": "a"}, 3]', "line 1 is 3, not a JSON object"),
        ('[{"prompt": "a", "prompt": "b"}]', "stands twice in one object"),
        ('{\n "data": [{"prompt": "a"}]\n}', "one JSON object over several lines; a list of rows is needed"),
        ('[{"prompt": "\xff"}]', "not UTF-8"),
    ],
)
def test_a_file_that_is_no_list_of_rows_is_read_in_part(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "rows.json"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=message):
        list(raw_rows(str(file), None, "train"))


def test_a_csv_with_semicolons_or_a_column_twice_is_read_wrong(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("question;answer\n2 + 2?;4\n", encoding="utf-8")
    assert list(raw_rows(str(file), None, "train")) == [{"question": "2 + 2?", "answer": "4"}]
    file.write_text("question,answer,answer\n2 + 2?,4,5\n", encoding="utf-8")
    with pytest.raises(InputError, match="names 'answer' more than once"):
        list(raw_rows(str(file), None, "train"))


def test_a_byte_order_mark_hides_an_array(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    file.write_bytes(b'\xef\xbb\xbf\n [{"prompt": "a"}]')
    assert list(raw_rows(str(file), None, "train")) == [{"prompt": "a"}]
    file.write_bytes(b"[]")
    assert list(raw_rows(str(file), None, "train")) == []


def test_a_configuration_is_named_twice_or_for_a_file(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text("[]", encoding="utf-8")
    with pytest.raises(InputError, match="is a file, which has no configuration 'main'"):
        list(raw_rows(str(tmp_path / "rows.json"), None, "train", config="main"))
    with pytest.raises(InputError, match="names a configuration, and so does 'main'"):
        list(raw_rows("org/data:other", None, "train", config="main"))


@pytest.mark.parametrize(
    ("row", "columns", "follows"),
    [
        ({"prompt": "a", "completion": " b"}, None, True),
        ({"question": "a", "answer": "b"}, None, True),
        ({"prompt": "a", "reference": "b"}, None, False),
        ({"prompt": "a", "gold": "b"}, {"reference": "gold"}, False),
        ({"prompt": "a", "gold": "b"}, {"completion": "gold"}, True),
        ({"prompt": "a"}, None, False),
    ],
)
def test_a_reference_is_taken_for_what_follows_the_prompt(
    row: dict[str, Any], columns: dict[str, str] | None, follows: bool
) -> None:
    assert _one(row, named=columns, answers="allowed")[0].follows_prompt is follows
