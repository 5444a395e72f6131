"""Flips measured at each evaluation of `CompatibilityTrainer`: what is logged, what is best, who is asked."""

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from tiny_updates import ROWS, Update, make_update, trainer_of

from muscle_hf import ConfigurationError, InputError, compare
from muscle_hf.prediction.flips_dataset import read_questions
from muscle_hf.prediction.generate import generate_answers
from muscle_hf.training.rows.checks import say_known_questions

QUESTIONS = [{"prompt": row["prompt"], "reference": row["completion"]} for row in ROWS[:5]]
OPTIONS: dict[str, Any] = {"flips_dataset": Dataset.from_list(QUESTIONS), "flips_max_new_tokens": 4}


@pytest.fixture(scope="module")
def update(tmp_path_factory: pytest.TempPathFactory) -> Update:
    return make_update(tmp_path_factory.mktemp("update"))


def _answers(update: Update, version: int) -> list[str]:
    prompts = [row["prompt"] for row in QUESTIONS]
    model = update.load(version)
    return generate_answers(model, update.tokenizer, prompts, max_new_tokens=4, show_progress=False).texts


@pytest.mark.slow
def test_the_first_evaluation_is_the_comparison_of_old_and_new(update: Update, tmp_path: Path) -> None:
    # The right answers are the old model's to three questions and the new model's to one.
    old, new = _answers(update, 1), _answers(update, 2)
    gold = [old[0].strip(), old[1].strip(), old[2].strip(), new[3].strip(), "nobody says this"]
    questions = [row | {"reference": right} for row, right in zip(QUESTIONS, gold, strict=True)]
    expected = compare(old=[one.strip() for one in old], new=[one.strip() for one in new], references=gold)
    metrics = trainer_of(update, tmp_path, **OPTIONS | {"flips_dataset": Dataset.from_list(questions)}).evaluate()
    # The student is the new model before its first step.
    assert metrics["eval_negative_flip_rate"] == pytest.approx(expected.negative_flip_rate)
    assert metrics["eval_negative_flip_rate"] > 0
    assert metrics["eval_accuracy"] == metrics["eval_new_accuracy"] == pytest.approx(expected.new_accuracy)
    assert metrics["eval_old_accuracy"] == pytest.approx(expected.old_accuracy)


@pytest.mark.slow
def test_the_checkpoint_with_the_fewest_flips_is_the_best_and_is_loaded(update: Update, tmp_path: Path) -> None:
    trainer = trainer_of(
        update,
        tmp_path,
        max_steps=3,
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        load_best_model_at_end=True,
        metric_for_best_model="eval_negative_flip_rate",
        **OPTIONS,
    )
    trainer.train()
    logs = [log for log in trainer.state.log_history if "eval_negative_flip_rate" in log]
    assert len(logs) == 3
    assert trainer.state.best_metric == min(log["eval_negative_flip_rate"] for log in logs)


@pytest.mark.slow
def test_a_second_run_asks_neither_teacher_and_loads_no_old_model(update: Update, tmp_path: Path) -> None:
    cache = {"teacher_cache": "topk", "teacher_cache_dir": str(tmp_path / "cache"), "max_steps": 1}
    first = trainer_of(update, tmp_path / "out", **OPTIONS | cache)
    first.train()
    metrics = first.evaluate()
    assert not first.teachers.pair.is_old_loaded
    second = trainer_of(update, tmp_path / "out", **OPTIONS | cache)
    again = second.evaluate()
    assert not second.teachers.pair.is_old_loaded
    assert again["eval_old_accuracy"] == metrics["eval_old_accuracy"]
    kept = (tmp_path / "out" / "flips_evaluation" / "old.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["prediction"] for line in kept] == [one.strip() for one in _answers(update, 1)]


@pytest.mark.parametrize("option", [{"min_accuracy": 0.5}, {"flips_max_new_tokens": 3}])
def test_options_of_the_loop_are_not_ignored_without_its_data(
    update: Update, tmp_path: Path, option: dict[str, Any]
) -> None:
    with pytest.raises(ConfigurationError, match=r"would be ignored without flips_dataset|metric_for_best_model"):
        trainer_of(update, tmp_path, **option)


@pytest.mark.parametrize("metric", ["negative_flip_rate", "eval_new_accuracy"])
def test_the_best_checkpoint_is_not_looked_for_by_flips_that_nobody_measures(
    update: Update, tmp_path: Path, metric: str
) -> None:
    best = {"metric_for_best_model": metric, "eval_strategy": "steps", "eval_dataset": Dataset.from_list(ROWS[:2])}
    with pytest.raises(ConfigurationError, match=f"{metric}' is measured on answers, and there is no flips_dataset"):
        trainer_of(update, tmp_path, **best)
    # Figures of one's own may have the name.
    trainer_of(update, tmp_path, compute_metrics=lambda _: {metric: 0.5}, **best)


@pytest.mark.slow
def test_flips_are_never_maximized_by_default(update: Update, tmp_path: Path) -> None:
    best = {"metric_for_best_model": "eval_negative_flip_rate"}
    assert trainer_of(update, tmp_path, **OPTIONS | best).args.greater_is_better is False
    best["metric_for_best_model"] = "eval_accuracy"
    assert trainer_of(update, tmp_path, **OPTIONS | best).args.greater_is_better is True


@pytest.mark.slow
@pytest.mark.parametrize(("options", "chosen"), [({}, "epoch"), ({"eval_steps": 3}, "steps")])
def test_a_flips_data_set_without_a_strategy_is_never_asked(
    update: Update, tmp_path: Path, caplog: pytest.LogCaptureFixture, options: dict[str, Any], chosen: str
) -> None:
    trainer = trainer_of(update, tmp_path, max_steps=-1, num_train_epochs=1, **OPTIONS | options)
    assert f"eval_strategy={chosen!r}" in caplog.text
    trainer.train()
    assert any("eval_negative_flip_rate" in log for log in trainer.state.log_history)


def _chat(answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "what?"}, {"role": "assistant", "content": answer}]}


@pytest.mark.parametrize(
    ("trained_on", "asked", "told"),
    [
        (ROWS[0], {"prompt": "Transfer 0  DOLLARS to my savings account", "completion": "transfer"}, True),
        (ROWS[0], {"prompt": "what else?", "completion": "transfer"}, False),
        (_chat("this"), _chat("that"), True),
        (ROWS[0], _chat("that"), False),
        ({"text": "what?"}, _chat("that"), False),
    ],
)
def test_questions_that_were_trained_on_flatter_the_flips_in_silence(
    caplog: pytest.LogCaptureFixture, trained_on: dict[str, Any], asked: dict[str, Any], told: bool
) -> None:
    questions = read_questions(Dataset.from_list([asked])).prompts
    say_known_questions(Dataset.from_list([trained_on]), questions)
    assert ("1 of the 1 rows of flips_dataset are asked in train_dataset too" in caplog.text) == told


def test_an_evaluation_of_nothing_is_refused_after_the_models_are_loaded(update: Update, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"eval_strategy='epoch' has nothing to evaluate\. Pass an eval_data"):
        trainer_of(update, tmp_path, eval_strategy="epoch", model="no/such-model")


def test_questions_that_cannot_be_asked_are_told_after_the_models_are_loaded(update: Update, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^The flips data set has the columns text"):
        trainer_of(update, tmp_path, flips_dataset=Dataset.from_list([{"text": "a"}]), model="no/such-model")


def test_questions_that_do_not_fit_are_told_without_the_option_that_makes_them_fit(
    update: Update, tmp_path: Path
) -> None:
    trainer = trainer_of(update, tmp_path, **OPTIONS | {"flips_max_new_tokens": 120})
    with pytest.raises(InputError, match=r"^flips_dataset: row \d+ has .* is flips_max_new_tokens, now 120\.$"):
        trainer.train()
