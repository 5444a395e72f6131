"""`muscle-hf predict`: the adapter's own answers in a file that `compare` reads, whole or not at all."""

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fresh
import pytest
from local_hub import hub
from peft import PeftModel
from tiny_classifiers import tiny_classifier
from tiny_models import CHAT_TEMPLATE, tiny_adapter, tiny_llama, tiny_tokenizer
from transformers import LlamaForCausalLM, LlamaForSequenceClassification

import muscle_hf
from muscle_hf import choose_answers, generate_answers
from muscle_hf.cli import main
from muscle_hf.locks import held_file
from muscle_hf.prediction import answer_file as answering
from muscle_hf.prediction.kept_answers import AnswersSoFar

TOKENIZER = tiny_tokenizer(chat_template=CHAT_TEMPLATE)
PROMPTS = ["transfer ten dollars", "what is the balance", "please freeze my account, I lost the card", "how do I say"]
ANSWERS = ["savings", "checking", "card", "thank you"]
ROWS = [{"prompt": one, "completion": f" {answer}"} for one, answer in zip(PROMPTS, ANSWERS, strict=True)]
CHOICES = [row | {"choices": [f" {one}" for one in ANSWERS]} for row in ROWS]


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("predict")
    tiny_llama(1, TOKENIZER, hidden_size=16, layers=1).save_pretrained(folder / "base")
    TOKENIZER.save_pretrained(folder / "base")
    tiny_adapter(LlamaForCausalLM.from_pretrained(folder / "base"), 2).save_pretrained(folder / "adapter")
    return folder / "adapter"


@pytest.fixture
def model(adapter: Path) -> PeftModel:
    return PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(adapter.parent / "base"), adapter).eval()


def _write(folder: Path, rows: Any, name: str = "data.jsonl") -> str:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def _read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _predict(adapter: Path, folder: Path, rows: Any, *more: str) -> int:
    words = ["predict", str(adapter), _write(folder, rows), "--output", str(folder / "answers.jsonl")]
    return main([*words, "--batch-size", "2", *more])


def _last_line(capsys: pytest.CaptureFixture[str]) -> str:
    """Nothing on standard output, and the complaint; before it stand a bar and what libraries say."""
    out, err = capsys.readouterr()
    assert out == ""
    return str(err.splitlines()[-1])


def test_a_folder_that_cannot_be_written_to_is_told_by_a_bare_number_of_the_system(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert _predict(Path("no/model/is/loaded"), tmp_path, ROWS) == 2
    assert _last_line(capsys) == (
        f"muscle-hf predict: {tmp_path} cannot be written to: it is read-only, or somebody else's. Name an --output "
        "where you may write."
    )


# The answers ---------------------------------------------------------------------------------------------------------


def test_generated_answers_are_those_of_the_adapter_in_the_order_of_the_file(
    adapter: Path, model: PeftModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _predict(adapter, tmp_path, ROWS, "--max-new-tokens", "5") == 0
    expected = generate_answers(model, TOKENIZER, PROMPTS, max_new_tokens=5, show_progress=False)
    assert _read(tmp_path / "answers.jsonl") == [
        {"id": number, "question": prompt, "prediction": text.strip(), "reference": answer}
        for number, (prompt, text, answer) in enumerate(zip(PROMPTS, expected.texts, ANSWERS, strict=True))
    ]
    out, err = capsys.readouterr()
    assert out == f"{tmp_path / 'answers.jsonl'}: 4 answers of {adapter} on {adapter.parent / 'base'}\n"
    cut = int((~expected.finished).sum())
    assert cut
    assert f"{cut} of 4 answers were cut off at --max-new-tokens 5." in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answers.jsonl", "data.jsonl"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rows", "words", "asked"),
    [
        # The choices stand as they follow the prompt, so nothing is between.
        (CHOICES, (), {"delimiter": ""}),
        ([row | {"choices": ANSWERS} for row in ROWS], (), {"delimiter": " "}),
        (
            [row | {"choices": ANSWERS, "completion": f"\n{row['completion'].strip()}"} for row in ROWS],
            (),
            {"delimiter": "\n"},
        ),
        # Not a completion: nobody knows what stands between, and a space is what most prompts want.
        ([{"prompt": one, "choices": ANSWERS, "reference": "card"} for one in PROMPTS], (), {"delimiter": " "}),
        ([{"prompt": one, "choices": ANSWERS} for one in PROMPTS], (), {"delimiter": " "}),
        (
            [{"prompt": one, "choices": ANSWERS} for one in PROMPTS],
            ("--normalization", "characters", "--delimiter", ": "),
            {"normalization": "characters", "delimiter": ": "},
        ),
    ],
)
def test_rows_with_choices_get_the_likeliest(
    adapter: Path, model: PeftModel, tmp_path: Path, rows: Any, words: tuple[str, ...], asked: dict[str, Any]
) -> None:
    assert _predict(adapter, tmp_path, rows, *words) == 0
    choices = [row["choices"] for row in rows]
    chosen = choose_answers(model, TOKENIZER, PROMPTS, choices, show_progress=False, **asked).indices
    found = _read(tmp_path / "answers.jsonl")
    assert [row["prediction"] for row in found] == [ANSWERS[index] for index in chosen]
    assert all(row["choices"] == ANSWERS for row in found)


def test_choices_in_a_chat_follow_without_a_space(adapter: Path, model: PeftModel, tmp_path: Path) -> None:
    asked = [[{"role": "user", "content": one}] for one in PROMPTS]
    assert _predict(adapter, tmp_path, [{"prompt": one, "choices": ANSWERS} for one in asked]) == 0
    chosen = choose_answers(model, TOKENIZER, asked, [ANSWERS] * 4, delimiter="", show_progress=False).indices
    assert [row["prediction"] for row in _read(tmp_path / "answers.jsonl")] == [ANSWERS[index] for index in chosen]


def test_compare_reads_what_predict_writes(adapter: Path, tmp_path: Path) -> None:
    rows = [row | {"id": f"question {number}"} for number, row in enumerate(CHOICES)]
    assert _predict(adapter, tmp_path, rows) == 0
    old = [
        {"id": f"question {number}", "prediction": answer, "reference": answer}
        for number, answer in reversed(list(enumerate(ANSWERS)))
    ]
    result = muscle_hf.compare_runs(_write(tmp_path, old, "old.jsonl"), tmp_path / "answers.jsonl")
    right = sum(row["prediction"] == row["reference"] for row in _read(tmp_path / "answers.jsonl"))
    comparison = result.tasks[0].comparison
    assert comparison is not None
    assert comparison.n == 4
    assert len(comparison.negative_flips) == 4 - right


def test_columns_of_other_names_and_tables_are_read(adapter: Path, tmp_path: Path) -> None:
    lines = ["key,asked,gold", *(f"k{number},{one['prompt'].replace(',', '')},x" for number, one in enumerate(ROWS))]
    (tmp_path / "data.csv").write_text("\n".join(lines), encoding="utf-8")
    words = ["--prompt-column", "asked", "--reference-column", "gold", "--id-column", "key", "--max-new-tokens", "2"]
    output = tmp_path / "answers.jsonl"
    assert main(["predict", str(adapter), str(tmp_path / "data.csv"), "--output", str(output), *words]) == 0
    assert [(row["id"], row["reference"]) for row in _read(output)] == [(f"k{number}", "x") for number in range(4)]


def test_conversations_are_asked_by_the_chat_template(adapter: Path, model: PeftModel, tmp_path: Path) -> None:
    asked = [[{"role": "user", "content": one}] for one in PROMPTS]
    expected = generate_answers(model, TOKENIZER, asked, max_new_tokens=4, show_progress=False).texts
    last = [{"role": "assistant", "content": one} for one in ANSWERS]
    for rows in (
        [{"messages": [*one, answer]} for one, answer in zip(asked, last, strict=True)],
        [{"prompt": one, "completion": [answer]} for one, answer in zip(asked, last, strict=True)],
    ):
        assert _predict(adapter, tmp_path, rows, "--max-new-tokens", "4") == 0
        found = _read(tmp_path / "answers.jsonl")
        assert [row["prediction"] for row in found] == [text.strip() for text in expected]
        assert [row["reference"] for row in found] == ANSWERS
        assert found[0]["question"] == f"user: {PROMPTS[0]}"
        (tmp_path / "answers.jsonl").unlink()


def test_data_without_right_answers_are_answered_and_it_is_said(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _predict(adapter, tmp_path, [{"prompt": one} for one in PROMPTS], "--max-new-tokens", "2") == 0
    assert all("reference" not in row for row in _read(tmp_path / "answers.jsonl"))
    assert "the data have no right answers" in capsys.readouterr().err


def test_a_tokenizer_beside_the_adapter_comes_before_the_bases(adapter: Path, tmp_path: Path) -> None:
    other = tmp_path / "adapter"
    other.mkdir()
    for path in adapter.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    tokenizer = tiny_tokenizer(add_beginning=True)
    tokenizer.save_pretrained(other)
    assert _predict(other, tmp_path, ROWS, "--max-new-tokens", "5") == 0
    model = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(adapter.parent / "base"), adapter).eval()
    expected, plain = (
        generate_answers(model, one, PROMPTS, max_new_tokens=5, show_progress=False).texts
        for one in (tokenizer, TOKENIZER)
    )
    assert [row["prediction"] for row in _read(tmp_path / "answers.jsonl")] == [text.strip() for text in expected]
    assert expected != plain


@pytest.mark.parametrize("has_end", [True, False])
def test_the_end_token_goes_from_reference_choices_and_prediction_alike(
    adapter: Path, tmp_path: Path, has_end: bool
) -> None:
    source = _with_tokenizer(adapter, tmp_path, eos_token=TOKENIZER.eos_token if has_end else None)
    end = TOKENIZER.eos_token
    # The word that a missing token is called by in Python is an answer as any other.
    written = ["None", "Some", f"no{end}", f" yes {end}"]
    assert _predict(source, tmp_path, [{"prompt": "x", "choices": written, "reference": one} for one in written]) == 0
    found = _read(tmp_path / "answers.jsonl")
    expected = ["None", "Some", "no", "yes"] if has_end else ["None", "Some", f"no{end}", f"yes {end}"]
    assert [row["reference"] for row in found] == expected
    assert all(row["choices"] == expected and row["prediction"] in expected for row in found)
    # Whichever is chosen, one of the rows is right.
    assert sum(row["prediction"] == row["reference"] for row in found) == 1


def _with_tokenizer(adapter: Path, folder: Path, **changes: Any) -> Path:
    """A copy of the adapter with a tokenizer of its own."""
    shutil.copytree(adapter, folder / "adapter")
    tokenizer = tiny_tokenizer(chat_template=CHAT_TEMPLATE)
    for name, value in changes.items():
        setattr(tokenizer, name, value)
    tokenizer.save_pretrained(folder / "adapter")
    return folder / "adapter"


def test_choices_that_are_the_same_without_the_end_token_are_refused(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _predict(adapter, tmp_path, [{"prompt": "x", "choices": ["no", f"no{TOKENIZER.eos_token}"]}]) == 2
    assert "row 1: 'no' is a choice twice" in _last_line(capsys)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rows", "longest"),
    [
        # As the completion stands, and with the space that a reference lacks.
        (ROWS, max(len(TOKENIZER(f" {one}", add_special_tokens=False)["input_ids"]) for one in ANSWERS) + 1),
        ([{"prompt": "x", "reference": "card"}], len(TOKENIZER(" card", add_special_tokens=False)["input_ids"]) + 1),
    ],
)
def test_answers_may_be_as_long_as_the_longest_reference(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: Any, longest: int
) -> None:
    assert _predict(adapter, tmp_path, rows) == 0
    by_default = _read(tmp_path / "answers.jsonl")
    (tmp_path / "answers.jsonl").unlink()
    assert f"were cut off at --max-new-tokens {longest}." in capsys.readouterr().err
    assert _predict(adapter, tmp_path, rows, "--max-new-tokens", str(longest)) == 0
    assert _read(tmp_path / "answers.jsonl") == by_default


def test_a_default_that_does_not_fit_names_the_option(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _predict(adapter, tmp_path, [{"prompt": "card"}]) == 2
    line = _last_line(capsys)
    assert f"the prompt of {tmp_path / 'data.jsonl'}, row 1 has" in line
    assert "its answer may take 256 more" in line
    assert "The longest answer is max_new_tokens, now 256" in line


@pytest.mark.slow
@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ raise_exception('no system') }}", "chat template: no system."),
        ("{{ messages[0].content + 1 }}", "chat template: "),
        ("{{ 1 // 0 }}", "chat template: "),
        ("{{ messages[0].content.x.y }}", "chat template: "),
        ("{% if %}", "chat template: "),
        ("{{ raise_exception('prompt 99 \x1b[2J') }}", "chat template: prompt 99"),
    ],
)
def test_a_chat_template_that_fails_is_told_with_the_row(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], template: str, words: str
) -> None:
    source = _with_tokenizer(adapter, tmp_path, chat_template=template)
    rows = [{"prompt": [{"role": "user", "content": "hi"}]}]
    assert _predict(source, tmp_path, rows, "--max-new-tokens", "2") == 2
    line = _last_line(capsys)
    assert f"the prompt of {tmp_path / 'data.jsonl'}, row 1 cannot be written by the tokenizer's {words}" in line
    assert line.isprintable()


# Bad input -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "more", "words"),
    [
        ([], (), "has no rows"),
        ([{"asked": "x"}], (), "has the columns asked, which is no shape that is known: prompt and completion"),
        (ROWS, ("--prompt-column", "nope"), "has the columns completion, prompt, and no column 'nope' (prompt)"),
        (ROWS, ("--columns", "prompt=nope"), "and no column 'nope' (prompt). Say which column is what: --columns"),
        (ROWS, ("--columns", "promt=prompt"), "'promt' is nothing that a column can be; choose from prompt, "),
        (ROWS, ("--columns", "prompt"), "--columns 'prompt' is not of the form WHAT=NAME"),
        (ROWS, ("--columns", "prompt=a,prompt=b"), "two columns are named for prompt: 'a' and 'b'"),
        (ROWS, ("--reference-column", "gold"), "no column 'gold' (reference)"),
        (ROWS, ("--id-column", "key"), "no column 'key' (id)"),
        (ROWS, ("--config", "main"), "which has no configuration 'main'"),
        ([*ROWS, {"prompt": "x"}], (), "row 5: completion is None; a text is needed in each row"),
        ([*ROWS, {"completion": "x"}], (), "row 5: prompt is None; a text or messages are needed"),
        ([{"prompt": 3}], (), "row 1: prompt is 3"),
        ([{"prompt": ""}], (), "row 1: prompt is ''; a text"),
        ([{"prompt": "x", "completion": 3}], (), "row 1: completion is 3; a text is needed"),
        ([{"prompt": [{"role": "user"}]}], (), "row 1: prompt has {'role': 'user'}; messages with role and content"),
        ([{"messages": []}], (), "row 1: messages is []"),
        (
            [{"messages": [{"role": "user", "content": "a"}]}, {"messages": [{"role": "assistant", "content": "b"}]}],
            (),
            "row 2: messages has only [{'role': 'assistant', 'content': 'b'}]; a question comes before",
        ),
        ([{"prompt": "a", "id": 1}, {"prompt": "b", "id": 1}], (), "row 2 has the id 1, as "),
        ([{"prompt": "a", "id": 1}, {"prompt": "b"}], (), "row 2: id is None; a text or a whole number"),
        ([{"prompt": "a", "id": 1.5}], (), "row 1: id is 1.5"),
        # `muscle-hf compare` reads no file that has both.
        ([{"prompt": "a", "id": 1}, {"prompt": "b", "id": "1"}], (), "row 2 '1': ids must be all whole numbers or"),
        ([{"prompt": "a", "id": "\ud800"}], (), "row 1: id holds half of a character"),
        ([{"prompt": "a", "reference": "\ud800"}], (), "row 1 holds half of a character"),
        ([{"prompt": "a\udc00"}], (), "row 1 holds half of a character"),
        ([{"prompt": "a", "choices": ["\ud800", "b"]}], (), "row 1 holds half of a character"),
        (
            [{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "\ud800"}]}],
            (),
            "row 1 holds half of a character",
        ),
        ([CHOICES[0], ROWS[1]], (), "row 2: choices is None; a list of two or more different texts"),
        ([ROWS[0] | {"choices": ["savings", " savings"]}], (), "row 1: choices is ['savings', ' savings']"),
        (
            [ROWS[0] | {"choices": ["a", "b"]}],
            (),
            "row 1: completion is ' savings'; give the number of the right choice, from 0 to 1, or its text",
        ),
        (CHOICES, ("--max-new-tokens", "3"), "--max-new-tokens would do nothing: the rows have choices"),
        (ROWS, ("--delimiter", ""), "--delimiter would do nothing: the rows have no choices"),
        (ROWS, ("--max-new-tokens", "0"), "--max-new-tokens is 0"),
        (ROWS, ("--batch-size", "-1"), "--batch-size is -1"),
        (ROWS, ("--max-new-tokens", "x"), "invalid int value: 'x'"),
        (ROWS, ("--split", "test"), "which has no split"),
        (ROWS, ("--max-new-tokens", "120"), "the prompt of"),
        (ROWS, ("--dtype", "float23"), "dtype is float23, which is no type of weights"),
        (ROWS, ("--device-map", "cuda:99"), "device_map is cuda:99, and there is no such device"),
        (ROWS, ("--device-map", "nope"), "device_map is nope, and there is no such device"),
        (ROWS, ("--base-model", "/nowhere"), "/nowhere is neither a folder with the base model"),
        ([{"prompt": "\x1b[2J", "completion": ["\x1b[2J"]}], (), "messages with role and content"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2_and_leaves_nothing(
    adapter: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    rows: Any,
    more: tuple[str, ...],
    words: str,
) -> None:
    assert _predict(adapter, tmp_path, rows, *more) == 2
    line = _last_line(capsys)
    assert line.startswith("muscle-hf predict: ")
    assert words in line
    assert line.isprintable()
    assert [path.name for path in tmp_path.iterdir()] == ["data.jsonl"]


def test_a_prompt_that_does_not_fit_is_named_by_its_row(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [*ROWS, {"prompt": "card " * 200, "completion": "x"}]
    assert _predict(adapter, tmp_path, rows, "--max-new-tokens", "2") == 2
    assert f"the prompt of {tmp_path / 'data.jsonl'}, row 5 has" in _last_line(capsys)


@pytest.mark.parametrize("where", ["there", "folder", "nowhere"])
def test_an_output_that_cannot_be_written_is_refused_before_any_work(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], where: str
) -> None:
    (tmp_path / "there").write_text("precious", encoding="utf-8")
    (tmp_path / "folder").mkdir()
    output = tmp_path / "nowhere" / "x" if where == "nowhere" else tmp_path / where
    assert main(["predict", str(adapter), _write(tmp_path, ROWS), "--output", str(output)]) == 2
    assert f"--output {output}" in _last_line(capsys)
    assert (tmp_path / "there").read_text(encoding="utf-8") == "precious"


def test_a_classifier_is_told_from_a_language_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = tiny_classifier(1, TOKENIZER, kind=LlamaForSequenceClassification)
    base.save_pretrained(tmp_path / "base")
    base = LlamaForSequenceClassification.from_pretrained(tmp_path / "base")
    tiny_adapter(base, 2, task_type="SEQ_CLS").save_pretrained(tmp_path / "adapter")
    assert main(["predict", str(tmp_path / "adapter"), _write(tmp_path, ROWS), "--output", str(tmp_path / "x")]) == 2
    assert "is a classifier (task_type=SEQ_CLS)" in _last_line(capsys)


def test_what_is_missing_is_said_before_the_libraries_load(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "org/adapter"]) == 2
    assert "the following arguments are required: DATA" in _last_line(capsys)


# Interruptions -------------------------------------------------------------------------------------------------------


@pytest.fixture
def interrupted(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[], list[int]]:
    """A run that is stopped in its second block; afterwards, count what is asked."""
    asked: list[int] = []
    original = answering._answers

    def counted(*arguments: Any) -> Any:
        if len(asked) == 1 and not (tmp_path / "go on").exists():
            raise KeyboardInterrupt
        asked.append(len(arguments[1]))
        return original(*arguments)

    monkeypatch.setattr(answering, "_answers", counted)
    monkeypatch.setattr(answering, "_KEPT_AFTER", 1)
    assert _predict(adapter, tmp_path, ROWS, "--max-new-tokens", "5") == 130
    line = _last_line(capsys)
    part = tmp_path / "answers.jsonl.part"
    assert line == (
        f"muscle-hf predict: interrupted. 2 of 4 answers are kept in {part}; the same command goes on from there."
    )
    assert not (tmp_path / "answers.jsonl").exists()
    (tmp_path / "go on").touch()
    return lambda: asked[1:]


def _expected(adapter: Path, folder: Path) -> list[dict[str, Any]]:
    folder.mkdir()
    assert _predict(adapter, folder, ROWS, "--max-new-tokens", "5") == 0
    return _read(folder / "answers.jsonl")


def test_the_same_command_goes_on_where_it_was_interrupted(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], interrupted: Callable[[], list[int]]
) -> None:
    # Another batch size is another way to the same answers.
    assert _predict(adapter, tmp_path, ROWS, "--max-new-tokens", "5", "--batch-size", "3") == 0
    assert interrupted() == [2]
    assert "going on: 2 of 4 answers are in" in capsys.readouterr().err
    assert not (tmp_path / "answers.jsonl.part").exists()
    assert _read(tmp_path / "answers.jsonl") == _expected(adapter, tmp_path / "whole")


def test_a_batch_of_which_a_line_was_cut_off_is_asked_again(
    adapter: Path, tmp_path: Path, interrupted: Callable[[], list[int]]
) -> None:
    part = tmp_path / "answers.jsonl.part"
    part.write_bytes(part.read_bytes()[:-3])
    assert _predict(adapter, tmp_path, ROWS, "--max-new-tokens", "5") == 0
    assert interrupted() == [2, 2]
    assert _read(tmp_path / "answers.jsonl") == _expected(adapter, tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("kept", [0, 5, 40])
def test_a_kill_before_the_first_answer_was_kept_does_not_block_the_next_run(
    adapter: Path, tmp_path: Path, interrupted: Callable[[], list[int]], kept: int
) -> None:
    part = tmp_path / "answers.jsonl.part"
    part.write_bytes(part.read_bytes()[:kept])
    assert _predict(adapter, tmp_path, ROWS, "--max-new-tokens", "5") == 0
    assert sum(interrupted()) == 4
    assert _read(tmp_path / "answers.jsonl") == _expected(adapter, tmp_path / "whole")


@pytest.mark.parametrize(
    "line",
    [
        "null",
        "7",
        '{"a": 1, "b": 2, "c": 3}',
        "[null, null, null]",
        '[0, null, true, ""]',
        '[0, "x", 1, ""]',
        '[0, "x", true]',
        '[0, "x", true, null]',
        '[4, "x", true, ""]',
        '[-1, "x", true, ""]',
        '[true, "x", true, ""]',
        '[0, "x", true, "", 7]',
        "[" * 100_000,
    ],
)
def test_a_damaged_line_is_told_and_is_no_answer(
    adapter: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    interrupted: Callable[[], list[int]],
    line: str,
) -> None:
    part = tmp_path / "answers.jsonl.part"
    part.write_bytes(part.read_bytes() + line.encode() + b"\n")
    before = part.read_bytes()
    assert _predict(adapter, tmp_path, ROWS, "--max-new-tokens", "5") == 2
    assert "or is damaged" in _last_line(capsys)
    assert interrupted() == []
    assert part.read_bytes() == before


def test_a_file_of_something_else_is_not_taken_for_kept_answers(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    part = tmp_path / "answers.jsonl.part"
    part.write_text("precious", encoding="utf-8")
    assert _predict(adapter, tmp_path, ROWS, "--max-new-tokens", "5") == 2
    assert "or is damaged" in _last_line(capsys)
    assert part.read_text(encoding="utf-8") == "precious"


@pytest.mark.parametrize("what", ["options", "data", "adapter", "damaged"])
def test_answers_of_another_run_are_not_mixed_in(
    adapter: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    interrupted: Callable[[], list[int]],
    what: str,
) -> None:
    part = tmp_path / "answers.jsonl.part"
    rows, words, source = ROWS, ["--max-new-tokens", "5"], adapter
    if what == "options":
        words = ["--max-new-tokens", "6"]
    elif what == "data":
        rows = [ROWS[1], ROWS[0], *ROWS[2:]]
    elif what == "adapter":
        source = tmp_path / "other"
        tiny_adapter(LlamaForCausalLM.from_pretrained(adapter.parent / "base"), 3).save_pretrained(source)
    else:
        part.write_bytes(part.read_bytes() + b"{]\n")
    before = part.read_bytes()
    assert _predict(source, tmp_path, rows, *words) == 2
    assert "answers of an interrupted run with another adapter, base, data or options" in _last_line(capsys)
    assert interrupted() == []
    assert part.read_bytes() == before


def test_a_second_run_towards_the_same_file_asks_again_what_the_first_one_asks(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with held_file(tmp_path / "answers.jsonl", "muscle-hf predict", "wait"):
        assert _predict(adapter, tmp_path, ROWS) == 2
    assert f"answers.jsonl is in use: process {os.getpid()} on" in _last_line(capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["data.jsonl"]


def test_processes_of_one_run_keep_each_other_out(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "answers.jsonl"
    output.write_text("{}\n", encoding="utf-8")
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    with held_file(output, "muscle-hf predict", "wait"):  # as the other process looks whether the file is there
        assert _predict(adapter, tmp_path, ROWS) == 2
    assert "answers.jsonl is there already" in _last_line(capsys)


@pytest.mark.slow
def test_a_run_that_was_killed_at_its_very_end_is_refused_or_replaces_what_is_not_its_own(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output, part = tmp_path / "answers.jsonl", tmp_path / "answers.jsonl.part"
    with monkeypatch.context() as patch:
        patch.setattr(AnswersSoFar, "finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert _predict(adapter, tmp_path, ROWS, "--max-new-tokens", "5") == 130
    kept = part.read_bytes()
    for content in (kept, kept[: kept[:-1].rfind(b"\n") + 1]):
        output.write_text("half of it", encoding="utf-8")
        part.write_bytes(content)
        is_whole = content == kept
        assert _predict(adapter, tmp_path, ROWS, "--max-new-tokens", "5") == (0 if is_whole else 2)
        assert ("half of it" in output.read_text(encoding="utf-8")) != is_whole
        assert part.exists() != is_whole


# `predict` that waits after so many batches, so that it does not come to its end before it is killed.
WAITS = """
import signal, sys
from muscle_hf.cli import main
from muscle_hf.prediction.kept_answers import AnswersSoFar
batches, add = [], AnswersSoFar.add
def adding(self, answers):
    add(self, answers)
    batches.append(answers)
    if len(batches) == 40:
        signal.pause()
AnswersSoFar.add = adding
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_killed_process_loses_no_kept_answer_and_leaves_no_half_file(adapter: Path, tmp_path: Path) -> None:
    rows = [{"prompt": f"{prompt} {number}"} for number in range(60) for prompt in PROMPTS]
    output = tmp_path / "answers.jsonl"
    words = ["predict", str(adapter), _write(tmp_path, rows), "--output", str(output)]
    command = [sys.executable, "-c", WAITS, *words, "--batch-size", "1", "--max-new-tokens", "20"]
    part = tmp_path / "answers.jsonl.part"
    for sent, code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)):
        before = part.stat().st_size if part.exists() else 0
        process = fresh.Process(command, warm=True)
        while process.poll() is None and (not part.exists() or part.stat().st_size <= before):
            time.sleep(0.05)
        process.send_signal(sent)
        _, err = process.communicate()
        assert process.returncode == code, err
        assert not output.exists()
    assert "answers are kept in" in err
    kept = len(_read(part)) - 1
    assert 0 < kept < len(rows)
    again = [sys.executable, "-m", "muscle_hf", *words, "--batch-size", "16", "--max-new-tokens", "20"]
    done = fresh.run(again, warm=True)
    assert done.returncode == 0, done.stderr
    assert f"going on: {kept} of {len(rows)}" in done.stderr
    assert [row["id"] for row in _read(output)] == list(range(len(rows)))
    assert not part.exists()


# The Hub -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_adapter_of_the_hub_answers_by_its_id(adapter: Path, tmp_path: Path) -> None:
    def files(folder: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}

    assert _predict(adapter, tmp_path, ROWS, "--max-new-tokens", "5") == 0
    expected = _read(tmp_path / "answers.jsonl")
    with hub() as running:
        running.create("acme/base", files=files(adapter.parent / "base"))
        config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
        named = json.dumps(config | {"base_model_name_or_path": "acme/base"}).encode()
        running.create("acme/task", files=files(adapter) | {"adapter_config.json": named})
        commits = [running.commits(name)[0][0][:12] for name in ("acme/task", "acme/base")]
        runs = []
        for name in ("acme/task", "acme/gone"):
            words = ["predict", name, str(tmp_path / "data.jsonl"), "--output", f"{tmp_path}/{name[5:]}.jsonl"]
            command = [sys.executable, "-m", "muscle_hf", *words, "--max-new-tokens", "5"]
            runs.append(fresh.run(command, env=running.environment(home=tmp_path)))
    assert runs[0].returncode == 0, runs[0].stderr
    assert runs[0].stdout.endswith(f"4 answers of acme/task ({commits[0]}) on acme/base ({commits[1]})\n")
    assert _read(tmp_path / "task.jsonl") == expected
    assert runs[1].returncode == 2
    assert runs[1].stdout == ""
    line = runs[1].stderr.splitlines()[-1]
    assert line.startswith(
        "muscle-hf predict: could not load the adapter acme/gone (no folder here): acme/gone does not"
    )
