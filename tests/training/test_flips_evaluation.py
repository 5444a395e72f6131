"""A flips data set, read and asked: every row once, the old and the new model once, their answers kept."""

import json
import logging
import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from tiny_models import CHAT_TEMPLATE, tiny_adapter, tiny_llama, tiny_tokenizer
from torch import nn

import muscle_hf
from muscle_hf import ConfigurationError, InputError
from muscle_hf.prediction.choose import choose_answers
from muscle_hf.prediction.flips_dataset import read_questions
from muscle_hf.prediction.generate import generate_answers
from muscle_hf.teachers.live import SharedBaseTeacher, holding
from muscle_hf.training.flips_evaluation import Answerer, FlipsEvaluation

TOKENIZER = tiny_tokenizer()
PROMPTS = [f"transfer {n} dollars to my {kind} account" for n in range(4) for kind in ("savings", "checking", "card")]
CHOICES = [" blue", " yes please", " no", " Paris"]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _model(seed: int) -> Any:
    return tiny_llama(seed, TOKENIZER, hidden_size=16, layers=1)


OLD, NEW, STUDENT = (_model(seed) for seed in (1, 2, 3))


class Counted:
    """A source of a model that counts how often it was asked for."""

    def __init__(self, model: Any) -> None:
        self.model, self.times = model, 0

    def __call__(self) -> AbstractContextManager[Any]:
        self.times += 1
        return nullcontext(self.model)


def _generated(n: int = len(PROMPTS), reference: str = "the balance") -> Dataset:
    return Dataset.from_list([{"prompt": prompt, "completion": f" {reference} \n"} for prompt in PROMPTS[:n]])


def _chosen(n: int = len(PROMPTS)) -> Dataset:
    return Dataset.from_list(
        [{"prompt": prompt, "choices": CHOICES[: 2 + i % 3], "answer": i % 2} for i, prompt in enumerate(PROMPTS[:n])]
    )


def _evaluation(folder: Path, dataset: Dataset | None = None, **options: Any) -> FlipsEvaluation:
    defaults: dict[str, Any] = {
        "old": Answerer("v1", lambda: nullcontext(OLD)),
        "new": Answerer("v2", lambda: nullcontext(NEW)),
        "max_new_tokens": 4,
        "batch_size": 5,
    }
    questions = read_questions(_chosen() if dataset is None else dataset)
    return FlipsEvaluation(questions, TOKENIZER, folder=folder, **defaults | options)


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# What is asked and counted -------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 4, 5, 11])
def test_every_row_gets_the_one_answer_that_it_gets_alone(n: int, tmp_path: Path) -> None:
    generated = _evaluation(tmp_path, _generated(n)).ask(STUDENT)
    alone = [
        generate_answers(STUDENT, TOKENIZER, [prompt], max_new_tokens=4, show_progress=False).texts[0]
        for prompt in PROMPTS[:n]
    ]
    assert generated == [text.strip() for text in alone]
    chosen = _evaluation(tmp_path, _chosen(n)).ask(STUDENT)
    for row, answer in zip(_chosen(n), chosen, strict=True):
        index = choose_answers(
            STUDENT, TOKENIZER, [row["prompt"]], [row["choices"]], delimiter="", show_progress=False
        ).indices[0]
        assert answer == row["choices"][index]


@pytest.mark.slow
def test_the_figures_are_those_of_the_three_models_answers(tmp_path: Path) -> None:
    evaluation = _evaluation(tmp_path)
    metrics = evaluation.measure(STUDENT, prefix="valid")
    old, new, student = (evaluation.ask(model) for model in (OLD, NEW, STUDENT))
    references = [row["choices"][row["answer"]] for row in _chosen()]
    of_student = muscle_hf.compare(old=old, new=student, references=references)
    of_update = muscle_hf.compare(old=old, new=new, references=references)
    assert 0 < of_student.negative_flip_rate < of_student.old_accuracy  # something to count
    assert metrics["valid_negative_flip_rate"] == of_student.negative_flip_rate
    assert metrics["valid_inconsistency_flip_rate"] == of_student.inconsistency_flip_rate
    assert metrics["valid_accuracy"] == of_student.new_accuracy
    assert metrics["valid_new_negative_flip_rate"] == of_update.negative_flip_rate


def test_an_old_model_that_is_right_on_nothing_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    evaluation = _evaluation(tmp_path, _generated(3, "no such answer"))
    for _ in range(2):
        assert evaluation.measure(STUDENT)["eval_negative_flip_rate"] == 0
    assert caplog.text.count("right on none of the 3 rows") == 1
    caplog.clear()
    said = evaluation.answers["old"]
    rows = [{"prompt": prompt, "completion": answer} for prompt, answer in zip(PROMPTS[:3], said, strict=True)]
    _evaluation(tmp_path / "right", Dataset.from_list(rows)).measure(STUDENT)
    assert "right on none" not in caplog.text


def test_right_answers_that_no_model_can_finish_are_measured_without_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tokens = len(TOKENIZER("the balance")["input_ids"])
    for longest, count in ((tokens, 0), (tokens - 1, 1)):
        _evaluation(tmp_path, _generated(3), max_new_tokens=longest)
        assert caplog.text.count("3 of the 3 right answers of flips_dataset are longer") == count
    assert f"what the student model says can only be wrong there: the longest one has {tokens} tokens" in caplog.text


def test_an_answer_is_right_by_equality_but_for_white_space(tmp_path: Path) -> None:
    texts = _evaluation(tmp_path / "first", _generated()).ask(STUDENT)
    rows = [
        {"prompt": prompt, "reference": f"  {text}\n" if i % 2 else f"{text}!"}
        for i, (prompt, text) in enumerate(zip(PROMPTS, texts, strict=True))
    ]
    metrics = _evaluation(tmp_path, Dataset.from_list(rows)).measure(STUDENT)
    assert metrics["eval_accuracy"] == 0.5


def test_conversations_are_asked_through_the_chat_template(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(chat_template=CHAT_TEMPLATE)
    rows = [
        {
            "prompt": [{"role": "user", "content": prompt}],
            "completion": [{"role": "assistant", "content": " the balance "}],
        }
        for prompt in PROMPTS
    ]
    evaluation = FlipsEvaluation(
        read_questions(Dataset.from_list(rows)),
        tokenizer,
        old=Answerer("v1", lambda: nullcontext(OLD)),
        new=Answerer("v2", lambda: nullcontext(NEW)),
        folder=tmp_path,
        max_new_tokens=4,
    )
    evaluation.measure(STUDENT)
    texts = [f"<s>user\n{prompt}</s><s>assistant\n" for prompt in PROMPTS]
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    with torch.no_grad():
        first = [STUDENT(torch.tensor([row])).logits[0, -1].argmax().item() for row in ids]
    for token, answer in zip(first, evaluation.answers["student"], strict=True):
        assert answer.startswith(tokenizer.decode([token], skip_special_tokens=True).strip())
    assert [row["question"] for row in _rows(tmp_path / "student.jsonl")] == texts
    assert evaluation.questions.references == ["the balance"] * len(PROMPTS)


def test_the_student_is_left_as_it_was(tmp_path: Path) -> None:
    student = tiny_adapter(_model(3), seed=4, lora_dropout=0.5)
    expected = _evaluation(tmp_path / "calm", _generated()).ask(student)
    student.train()
    student.get_base_model().model.layers[0].eval()
    student.get_base_model().gradient_checkpointing_enable()
    student.config.use_cache = False
    modes = [module.training for module in student.modules()]
    evaluation = _evaluation(tmp_path, _generated())
    evaluation.measure(student)
    assert evaluation.answers["student"] == expected
    assert [module.training for module in student.modules()] == modes
    assert student.get_base_model().is_gradient_checkpointing
    assert student.config.use_cache is False


@pytest.mark.slow
def test_the_new_model_is_asked_as_it_was_before_training(tmp_path: Path) -> None:
    student = tiny_adapter(_model(3), seed=4)
    teacher = SharedBaseTeacher(student)
    before = _evaluation(tmp_path / "before").ask(student)
    with torch.no_grad():
        for name, weight in student.named_parameters():
            if "lora_B" in name:
                weight.add_(1.0)
    weights = {name: weight.detach().clone() for name, weight in student.named_parameters()}
    evaluation = _evaluation(tmp_path, new=Answerer("v2", lambda: holding(student, teacher.snapshot)))
    metrics = evaluation.measure(student)
    assert evaluation.answers["new"] == before != evaluation.answers["student"]
    assert metrics["eval_accuracy"] != metrics["eval_new_accuracy"]
    assert all(torch.equal(weight, weights[name]) for name, weight in student.named_parameters())


def test_parameters_come_back_when_asking_fails() -> None:
    layer = nn.Linear(2, 2)
    own = layer.weight.detach().clone()
    with pytest.raises(RuntimeError, match="stop"), holding(layer, {"weight": torch.zeros(2, 2)}):
        assert not layer.weight.any()
        raise RuntimeError("stop")
    assert torch.equal(layer.weight, own)


@pytest.mark.slow
@pytest.mark.parametrize("around", [False, True])
def test_autocast_does_not_go_on_with_the_weights_of_another_model(around: bool, tmp_path: Path) -> None:
    student = tiny_adapter(_model(3), seed=4)
    snapshot = {name: torch.zeros_like(weight) for name, weight in student.named_parameters() if weight.requires_grad}

    def autocast() -> Any:
        return torch.autocast("cpu", torch.bfloat16)

    expected = _evaluation(tmp_path / "alone", autocast=autocast).ask(student)
    evaluation = _evaluation(
        tmp_path / "all", new=Answerer("v2", lambda: holding(student, snapshot)), autocast=autocast
    )
    with autocast() if around else nullcontext():
        evaluation.measure(student)
    with student.disable_adapter():
        assert evaluation.ask(student) == evaluation.answers["new"]
    assert evaluation.answers["student"] == expected != evaluation.answers["new"]


def test_a_model_with_another_tokenizer_reads_with_its_own(tmp_path: Path) -> None:
    other = tiny_tokenizer(vocabulary_size=300)
    assert other(PROMPTS[0])["input_ids"] != TOKENIZER(PROMPTS[0])["input_ids"]
    model = tiny_llama(1, other, hidden_size=16, layers=1)
    evaluation = _evaluation(tmp_path, old=Answerer("v1", lambda: nullcontext(model), other))
    evaluation.ask_old_and_new()
    expected = choose_answers(
        model, other, PROMPTS, [row["choices"] for row in _chosen()], delimiter="", show_progress=False
    ).indices
    assert evaluation.answers["old"] == [row["choices"][index] for row, index in zip(_chosen(), expected, strict=True)]


# What is kept --------------------------------------------------------------------------------------------------------


def test_kept_answers_spare_asking_the_models_again(tmp_path: Path) -> None:
    old, new = Counted(OLD), Counted(NEW)
    options = {"old": Answerer("v1", old), "new": Answerer("v2", new)}
    first = _evaluation(tmp_path, **options)
    metrics = first.measure(STUDENT)
    first.measure(STUDENT)
    assert (old.times, new.times) == (1, 1)
    again = _evaluation(tmp_path, **options, batch_size=2)
    assert again.measure(STUDENT) == metrics
    assert (old.times, new.times) == (1, 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"old": "v1.1"}, "model"),
        ({"dataset": _generated(reference="a loan")}, "questions"),
        ({"dataset": _generated(5)}, "questions, tokenizer"),
        ({"max_new_tokens": 5}, "tokenizer, options"),
    ],
)
def test_answers_to_something_else_are_asked_again_and_that_is_said(
    changed: dict[str, Any], named: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _evaluation(tmp_path, _generated()).ask_old_and_new()
    source = Counted(OLD)
    options = {"dataset": _generated()} | changed | {"old": Answerer(changed.get("old", "v1"), source)}
    with caplog.at_level(logging.WARNING):
        evaluation = _evaluation(tmp_path, **options)
        evaluation.ask_old_and_new()
    assert source.times == 1
    assert (
        f"old.jsonl holds answers with another fingerprint ({named}), so the old model is asked again" in caplog.text
    )
    assert len(_rows(tmp_path / "old.jsonl")) == len(evaluation)


def _cut(text: str) -> str:
    return text[:-20]


def _without_last(text: str) -> str:
    return "".join(text.splitlines(keepends=True)[:-1])


def _misspelt(text: str) -> str:
    rows = [json.loads(line) for line in text.splitlines()]
    rows[0]["prediction"] += "x"
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def _swapped(text: str) -> str:
    lines = text.splitlines(keepends=True)
    return "".join([lines[1], lines[0], *lines[2:]])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_cut, "cannot be used"),
        (_without_last, "holds 11 answers to 12 questions"),
        (_swapped, "is damaged at its line 1"),
        (_misspelt, "is damaged (other answers than were written)"),
        (lambda text: "", "holds 0 answers to 12 questions"),
        (lambda text: '{"id": 0, "prediction": "x", "asked": "5"}\n', "cannot be used"),
        (lambda text: '{"id": 0, "prediction": "x"}\n', "another fingerprint (model, questions"),
    ],
)
def test_a_damaged_file_is_not_taken_for_answers(
    damage: Callable[[str], str], said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = _evaluation(tmp_path)
    first.ask_old_and_new()
    path = tmp_path / "old.jsonl"
    whole = path.read_text(encoding="utf-8")
    path.write_text(damage(whole), encoding="utf-8")
    again = _evaluation(tmp_path)
    with caplog.at_level(logging.WARNING):
        again.ask_old_and_new()
    assert said in caplog.text
    assert again.answers == first.answers
    assert path.read_text(encoding="utf-8") == whole


class _Batches:
    """Counts the questions that a model is asked, and is interrupted after so many batches."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self.asked: list[int] = []
        self.stop: int | None = None
        original = getattr(muscle_hf.training.flips_evaluation, name)

        def counted(model: Any, tokenizer: Any, prompts: list[Any], *arguments: Any, **options: Any) -> Any:
            if self.stop == len(self.asked):
                raise KeyboardInterrupt
            self.asked.append(len(prompts))
            return original(model, tokenizer, prompts, *arguments, **options)

        monkeypatch.setattr(muscle_hf.training.flips_evaluation, name, counted)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rows", "name", "at_once"), [(_generated(), "generate_answers", 2), (_chosen(), "choose_answers", 8)]
)
def test_an_interruption_asks_old_and_new_model_all_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: Dataset, name: str, at_once: int
) -> None:
    whole = _evaluation(tmp_path / "whole", rows, batch_size=2)
    whole.ask_old_and_new()
    batches = _Batches(monkeypatch, name)
    answers, stops = {}, 0
    while not answers:
        stops += 1
        batches.stop = len(batches.asked) + 1
        resumed = _evaluation(tmp_path / "pieces", rows, batch_size=2)
        try:
            resumed.ask_old_and_new()
            answers = resumed.answers
        except KeyboardInterrupt:
            continue
    assert answers == whole.answers
    # Each question was asked once of each model, one batch in each piece.
    assert sum(batches.asked) == 2 * len(rows) and max(batches.asked) <= at_once
    assert stops == len(batches.asked)
    assert not list((tmp_path / "pieces").glob("*.part"))


@pytest.mark.slow
def test_kept_pieces_of_another_model_or_cut_off_are_taken_for_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = _Batches(monkeypatch, "generate_answers")
    batches.stop = 2
    evaluation = _evaluation(tmp_path, _generated(), batch_size=2)
    with pytest.raises(KeyboardInterrupt):
        evaluation.ask_old_and_new()
    (part,) = tmp_path.glob("*.part")
    text = part.read_text("utf-8")
    batches.stop = None
    part.write_text(text[:-2], encoding="utf-8")
    _evaluation(tmp_path, _generated(), batch_size=2).ask_old_and_new()
    # The batch that was cut off is asked again, as a whole.
    assert sum(batches.asked) == 2 * len(PROMPTS) + 2
    for path in tmp_path.glob("*.jsonl"):
        path.unlink()
    part.write_text(text.replace('"decided_by": "', '"decided_by": "0'), encoding="utf-8")
    batches.asked.clear()
    _evaluation(tmp_path, _generated(), batch_size=2).ask_old_and_new()
    assert sum(batches.asked) == 2 * len(PROMPTS)


def test_nothing_but_the_answers_is_left_in_the_folder(tmp_path: Path) -> None:
    evaluation = _evaluation(tmp_path)
    evaluation.measure(STUDENT)
    evaluation.keep_best()
    evaluation.measure(NEW)
    names = ["best.jsonl", "new.jsonl", "old.jsonl", "student.jsonl"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    best, student = (_rows(tmp_path / name) for name in ("best.jsonl", "student.jsonl"))
    assert [row["prediction"] for row in student] == evaluation.answers["new"]
    assert best != student


@pytest.mark.slow
@pytest.mark.parametrize("dataset", [_chosen(), _generated()], ids=["choices", "generation"])
def test_kept_answers_are_what_compare_reads(dataset: Dataset, tmp_path: Path) -> None:
    metrics = _evaluation(tmp_path, dataset).measure(STUDENT)
    old, student = (muscle_hf.read(tmp_path / f"{role}.jsonl") for role in ("old", "student"))
    compared = muscle_hf.compare_runs(old, student).overall
    assert compared is not None
    assert compared.comparison.negative_flip_rate == metrics["eval_negative_flip_rate"]
    assert compared.comparison.inconsistency_flip_rate == metrics["eval_inconsistency_flip_rate"]


# What is refused -----------------------------------------------------------------------------------------------------


MESSAGES = [{"role": "user", "content": "Hi"}]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": 5, "completion": "x"}, "prompt is 5"),
        ({"prompt": None, "completion": "x"}, "prompt is None"),
        ({"prompt": [], "completion": "x"}, "prompt is []"),
        ({"prompt": [{"role": "user", "content": None}], "completion": "x"}, "prompt has {'role': 'user'}; messages"),
        ({"prompt": "a", "completion": None}, "completion is None"),
        ({"prompt": "a", "completion": 5}, "completion is 5"),
        ({"prompt": "a", "reference": " \n"}, "has an empty reference"),
        ({"prompt": "a", "completion": MESSAGES * 2}, "completion must be one message"),
        ({"prompt": "a", "choices": ["x"], "answer": 0}, "choices is ['x']"),
        ({"prompt": "a", "choices": None, "answer": 0}, "choices is None"),
        ({"prompt": "a", "choices": ["x", None], "answer": 0}, "choices is ['x', None]"),
        ({"prompt": "a", "choices": ["x", "y"], "answer": 2}, "answer is 2; give the number of the right choice"),
        ({"prompt": "a", "choices": ["x", "y"], "answer": -1}, "answer is -1"),
        ({"prompt": "a", "choices": ["x", "y"], "answer": True}, "answer is True"),
        ({"prompt": "a", "choices": ["x", "y"], "answer": None}, "answer is None"),
        ({"prompt": "a", "choices": ["x", "y"], "answer": "z"}, "answer is 'z'; give the number"),
    ],
)
def test_a_row_that_cannot_be_asked_is_refused(row: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=f"^Row 0 of the flips data set:? {re.escape(said)}"):
        read_questions(Dataset.from_list([row]))


def test_a_bad_row_is_named_by_its_number() -> None:
    rows = [{"prompt": "a", "choices": ["x", "y"], "answer": answer} for answer in (0, 1, 2, 3)]
    with pytest.raises(InputError, match=r"^Row 2 of the flips data set: answer is 2.* 1 more of the 4 rows cannot"):
        read_questions(Dataset.from_list(rows))
    rows = [{"prompt": "a", "completion": completion} for completion in ("x", "", "x")]
    with pytest.raises(InputError, match=r"^Row 1 of the flips data set has an empty completion"):
        read_questions(Dataset.from_list(rows))


@pytest.mark.parametrize(
    "columns",
    [
        {"text": ["a"]},
        {"prompt": ["a"]},
        {"completion": ["a"]},
        {"prompt": ["a"], "choices": [["x", "y"]]},
        {"prompt": ["a"], "completion": ["x"], "reference": ["x"]},
        {"prompt": ["a"], "completion": ["x"], "choices": [["x", "y"]], "answer": [0]},
    ],
)
def test_columns_that_leave_open_what_is_asked_are_refused(columns: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"^The flips data set has the columns"):
        read_questions(Dataset.from_dict(columns))


def test_no_rows_and_streams_are_refused() -> None:
    with pytest.raises(InputError, match="has no rows"):
        read_questions(_generated().select([]))
    with pytest.raises(InputError, match=r"is a IterableDataset; a datasets\.Dataset is needed"):
        read_questions(_generated().to_iterable_dataset())
    with pytest.raises(InputError, match="is a list"):
        read_questions([{"prompt": "a", "completion": "x"}])


def test_the_right_choice_may_be_told_by_number_or_text() -> None:
    rows = [{"prompt": "a", "choices": ["x", "y"], "answer": answer} for answer in ("y", "x")]
    assert read_questions(Dataset.from_list(rows)).references == ["y", "x"]
    rows = [{"prompt": "a", "choices": ["x", "y"], "answer": answer} for answer in (1, 0)]
    assert read_questions(Dataset.from_list(rows)).references == ["y", "x"]


def test_what_a_model_cannot_read_is_refused_before_any_model_is_asked(tmp_path: Path) -> None:
    empty = Dataset.from_list([{"prompt": "a", "completion": "x"}, {"prompt": "", "completion": "x"}])
    with pytest.raises(InputError, match="Row 1 of the flips data set: prompt is"):
        _evaluation(tmp_path, empty)
    empty = Dataset.from_list([{"prompt": prompt, "choices": ["x", "y"], "answer": 0} for prompt in ("a", " ")])
    with pytest.raises(InputError, match="Row 1 of the flips data set: prompt is"):
        _evaluation(tmp_path, empty)
    chat = Dataset.from_list([{"prompt": MESSAGES, "completion": "x"}])
    with pytest.raises(InputError, match="no chat template"):
        _evaluation(tmp_path, chat)
    for numbers in ({"max_new_tokens": 0}, {"batch_size": 0}):
        with pytest.raises(ConfigurationError, match=next(iter(numbers))):
            _evaluation(tmp_path, **numbers)


def test_a_row_too_long_for_the_model_is_refused_by_its_number(tmp_path: Path) -> None:
    rows = [{"prompt": prompt, "completion": "x"} for prompt in (PROMPTS[0], "account " * 200, PROMPTS[1])]
    evaluation = _evaluation(tmp_path, Dataset.from_list(rows))
    with pytest.raises(InputError, match=r"flips_dataset: row 1 has .* context holds 128"):
        evaluation.ask(STUDENT)
