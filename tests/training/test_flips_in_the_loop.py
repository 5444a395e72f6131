"""Flips at each evaluation of a trainer: logged in time, and decisive for the best checkpoint and early stopping."""

import json
import logging
import math
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import PeftModel
from tiny_models import tiny_adapter, tiny_llama, tiny_tokenizer
from transformers import EarlyStoppingCallback, TrainerCallback
from trl import SFTConfig, SFTTrainer

from muscle_hf import Comparison, ConfigurationError, compare_runs, read
from muscle_hf.card.lineage import Lineage
from muscle_hf.losses.strategy import Strategy, StrategyOptions
from muscle_hf.prediction.choose import choose_answers
from muscle_hf.prediction.flips_dataset import read_questions
from muscle_hf.teachers.live import holding
from muscle_hf.training.base import TrainerBase
from muscle_hf.training.flips_evaluation import Answerer, FlipsEvaluation
from muscle_hf.training.flips_in_the_loop import check_best

TOKENIZER = tiny_tokenizer()
ROWS = [{"prompt": f"transfer {n} dollars\n", "completion": ["savings", "checking"][n % 2]} for n in range(8)]


def test_the_rate_of_classes_chooses_no_checkpoint_where_right_answers_are_none() -> None:
    def flips(references: list[str]) -> Any:
        return SimpleNamespace(questions=SimpleNamespace(references=references))

    args = SimpleNamespace(metric_for_best_model="eval_balanced_negative_flip_rate", greater_is_better=False)
    check_best(args, flips(["savings", "checking"] * 4))
    with pytest.raises(ConfigurationError, match=r"8 rows have 8 different right answers.*eval_negative_flip_rate"):
        check_best(args, flips([f"text {row}" for row in range(8)]))


@dataclass
class LoopConfig(StrategyOptions, SFTConfig):
    """The options that every trainer has."""


class LoopTrainer(TrainerBase, SFTTrainer):
    """What a trainer with flips in the loop is made of; it trains with TRL's own loss."""

    loss_is_scaled_for_ga = SFTTrainer.loss_is_scaled_for_ga

    def measured_comparisons(self) -> dict[str, Comparison]:
        """Rates are scripted, and there are no answers to compare."""
        return {}


class Scripted:
    """Stands for the questions: negative flip rate and accuracy of each evaluation are written down beforehand."""

    def __init__(self, *script: tuple[float, float]) -> None:
        self.script, self.asked, self.kept, self.modes = list(script), 0, [], []

    def ask_old_and_new(self) -> None:
        self.asked += 1

    def measure(self, student: PeftModel, *, prefix: str = "eval") -> dict[str, float]:
        assert isinstance(student, PeftModel)
        self.modes.append(student.training)
        self.last = self.script.pop(0)
        rate, accuracy = self.last
        return {f"{prefix}_negative_flip_rate": rate, f"{prefix}_accuracy": accuracy, f"{prefix}_new_accuracy": 0.6}

    def keep_best(self) -> None:
        self.kept.append(self.last)


class Recorder(TrainerCallback):
    """Writes down what callbacks and loggers are shown."""

    def __init__(self) -> None:
        self.evaluated: list[dict[str, float]] = []
        self.logged: list[dict[str, float]] = []

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
        self.evaluated.append(dict(metrics))

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        self.logged.append(dict(logs))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _trainer(
    folder: Path, flips: Any, *callbacks: TrainerCallback, min_accuracy: float | None = None, **options: Any
) -> LoopTrainer:
    model = tiny_adapter(tiny_llama(1, TOKENIZER, hidden_size=16, layers=1), seed=2)
    arguments = {
        name: options.pop(name)
        for name in ("eval_dataset", "compute_metrics", "train_dataset", "model")
        if name in options
    }
    defaults: dict[str, Any] = {
        "output_dir": str(folder),
        "max_steps": 5,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-3,
        "logging_steps": 1,
        "eval_strategy": "steps",
        "eval_steps": 1,
        "save_strategy": "steps",
        "save_steps": 1,
        "metric_for_best_model": "eval_negative_flip_rate",
        "greater_is_better": False,
        "load_best_model_at_end": True,
        "bf16": False,
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }
    trainer = LoopTrainer(
        **{"model": model, "train_dataset": Dataset.from_list(ROWS), "eval_dataset": Dataset.from_list(ROWS[:4])}
        | arguments,
        args=LoopConfig(**defaults | options),
        strategy=Strategy(),
        lineage=Lineage("org/base-v2", None, "org/base-v1", None),
        accuracy="mean_token_accuracy",
        processing_class=TOKENIZER,
        callbacks=list(callbacks),
    )
    trainer.flips, trainer.min_accuracy = flips, min_accuracy
    return trainer


def _best_step(trainer: LoopTrainer) -> int:
    return int(trainer.state.best_model_checkpoint.rpartition("-")[2])


# What is logged ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_flips_stand_beside_the_loss_in_what_loggers_and_callbacks_see(tmp_path: Path) -> None:
    recorder = Recorder()
    trainer = _trainer(tmp_path, Scripted((0.5, 0.5), (0.25, 0.75)), recorder, max_steps=2)
    trainer.train()
    assert [metrics["eval_negative_flip_rate"] for metrics in recorder.evaluated] == [0.5, 0.25]
    assert all("eval_loss" in metrics and "eval_runtime" in metrics for metrics in recorder.evaluated)
    logged = [logs for logs in recorder.logged if "eval_negative_flip_rate" in logs]
    assert [logs["eval_accuracy"] for logs in logged] == [0.5, 0.75]
    assert all("eval_loss" in logs for logs in logged)
    history = [log for log in trainer.state.log_history if "eval_negative_flip_rate" in log]
    assert [log["step"] for log in history] == [1, 2]


def test_one_call_measures_once_and_returns_the_figures(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path, Scripted((0.5, 0.5)))
    metrics = trainer.evaluate(metric_key_prefix="valid")
    assert metrics["valid_negative_flip_rate"] == 0.5
    assert "valid_loss" in metrics
    assert trainer.flips.script == []


def test_the_seconds_of_asking_are_not_those_of_the_evaluation_set(tmp_path: Path) -> None:
    flips = Scripted((0.5, 0.5))
    trainer = _trainer(tmp_path, flips)
    order = []
    measure, loop = flips.measure, trainer.get_eval_dataloader
    flips.measure = lambda *a, **k: (order.append("asked"), measure(*a, **k))[1]  # type: ignore[method-assign]
    trainer.get_eval_dataloader = lambda *a: (order.append("loaded"), loop(*a))[1]
    trainer.evaluate()
    assert order == ["asked", "loaded"]


@pytest.mark.slow
def test_without_an_evaluation_set_flips_are_logged_alone(tmp_path: Path) -> None:
    recorder = Recorder()
    trainer = _trainer(tmp_path, Scripted((0.5, 0.5), (0.25, 0.75)), recorder, max_steps=2, eval_dataset={})
    trainer.train()
    assert [metrics["eval_negative_flip_rate"] for metrics in recorder.evaluated] == [0.5, 0.25]
    assert _best_step(trainer) == 2


@pytest.mark.slow
def test_flips_alone_take_nothing_from_the_next_log_of_training_steps(tmp_path: Path) -> None:
    script = [(0.5, 0.5), (0.25, 0.75)]
    trainer = _trainer(tmp_path, Scripted(*script), max_steps=2, eval_dataset={}, logging_steps=2)
    trainer.train()
    flips = [log for log in trainer.state.log_history if "eval_accuracy" in log]
    assert [log["step"] for log in flips] == [1, 2]
    # What the parent averages since its last log: at the first evaluation it has one step waiting.
    assert not [name for log in flips for name in log if "mean_token_accuracy" in name]
    steps = [log for log in trainer.state.log_history if "loss" in log]
    assert [log["step"] for log in steps] == [2]
    assert "mean_token_accuracy" in steps[0]


@pytest.mark.slow
def test_several_evaluation_sets_have_one_measurement(tmp_path: Path) -> None:
    recorder = Recorder()
    sets = {name: Dataset.from_list(ROWS[:4]) for name in ("first", "second")}
    trainer = _trainer(tmp_path, Scripted((0.5, 0.5), (0.25, 0.75)), recorder, max_steps=2, eval_dataset=sets)
    trainer.train()
    found = [metrics.get("eval_negative_flip_rate") for metrics in recorder.evaluated]
    assert found == [None, None, 0.5, None, None, 0.25]
    assert all("eval_first_loss" in recorder.evaluated[i] for i in (0, 3))
    assert _best_step(trainer) == 2
    trainer.flips.script.append((0.1, 0.9))
    metrics = trainer.evaluate()
    assert {"eval_first_loss", "eval_second_loss", "eval_negative_flip_rate"} <= metrics.keys()


# TRL says that it asks the model once more for logits, which `predict` and `compute_metrics` need.
@pytest.mark.filterwarnings("ignore:`return_outputs=True`:FutureWarning")
def test_another_set_is_evaluated_without_flips(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path, Scripted())
    assert "test_loss" in trainer.evaluate(Dataset.from_list(ROWS[:4]), metric_key_prefix="test")
    assert "test_loss" in trainer.predict(trainer.train_dataset, metric_key_prefix="test").metrics


@pytest.mark.slow
def test_without_flips_the_trainer_is_the_parent(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path, None, max_steps=1, metric_for_best_model="loss")
    trainer.train()
    assert _best_step(trainer) == 1
    assert not [log for log in trainer.state.log_history if "eval_accuracy" in log]


@pytest.mark.filterwarnings("ignore:`return_outputs=True`:FutureWarning")
def test_a_metric_of_the_user_with_the_same_name_is_not_replaced(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path, Scripted((0.5, 0.5)), compute_metrics=lambda prediction: {"accuracy": 1.0})
    with pytest.raises(ConfigurationError, match="compute_metrics gives eval_accuracy"):
        trainer.evaluate()


def test_a_split_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = _trainer(tmp_path, Scripted((0.5, 0.5)))
    monkeypatch.setattr(trainer, "get_tp_size", lambda: 2)
    for work in (trainer.train, trainer.evaluate):
        with pytest.raises(ConfigurationError, match="tensor parallelism"):
            work()
    assert len(trainer.flips.script) == 1


def test_old_and_new_model_are_asked_before_the_first_step(tmp_path: Path) -> None:
    class Failing(Scripted):
        def ask_old_and_new(self) -> None:
            raise ConfigurationError("no old model")

    trainer = _trainer(tmp_path, Failing())
    with pytest.raises(ConfigurationError, match="no old model"):
        trainer.train()
    assert trainer.state.global_step == 0


# What is best --------------------------------------------------------------------------------------------------------

# At the second evaluation flips are bought with accuracy.
SCRIPT = [(0.4, 0.6), (0.1, 0.3), (0.3, 0.7), (0.35, 0.8), (0.3, 0.7)]


@pytest.mark.slow
def test_the_checkpoint_with_the_fewest_flips_is_loaded(tmp_path: Path) -> None:
    flips = Scripted(*SCRIPT)
    trainer = _trainer(tmp_path, flips)
    trainer.train()
    assert _best_step(trainer) == 2
    assert flips.kept == SCRIPT[:2]


@pytest.mark.slow
def test_a_checkpoint_below_the_bound_is_never_the_best(tmp_path: Path) -> None:
    flips = Scripted(*SCRIPT)
    trainer = _trainer(tmp_path, flips, min_accuracy=0.6)
    trainer.train()
    assert _best_step(trainer) == 3
    assert trainer.state.best_metric == 0.3
    assert flips.kept == [SCRIPT[0], SCRIPT[2]]
    best = PeftModel.from_pretrained(tiny_llama(1, TOKENIZER, hidden_size=16, layers=1), tmp_path / "checkpoint-3")
    own = dict(trainer.model.named_parameters())
    assert all(torch.equal(own[name], weight) for name, weight in best.named_parameters() if "lora" in name)


@pytest.mark.slow
def test_saving_the_best_alone_saves_none_below_the_bound(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path, Scripted(*SCRIPT), min_accuracy=0.6, save_strategy="best")
    trainer.train()
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == ["checkpoint-1", "checkpoint-3"]


def test_the_checkpoint_with_the_most_flips_is_not_taken_by_the_rule_of_transformers(tmp_path: Path) -> None:
    # Left alone, the parent takes every metric that does not end with "loss" as better when greater.
    trainer = _trainer(tmp_path, Scripted(*SCRIPT), greater_is_better=None)
    assert trainer.args.greater_is_better is True
    with pytest.raises(ConfigurationError, match="the highest eval_negative_flip_rate"):
        trainer.train()
    assert trainer.state.global_step == 0


@pytest.mark.slow
def test_when_nothing_is_allowed_the_last_weights_stay_and_a_warning_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = _trainer(tmp_path, Scripted(*SCRIPT), min_accuracy=0.9)
    with caplog.at_level(logging.WARNING, logger="muscle_hf"):
        trainer.train()
    assert trainer.state.best_model_checkpoint is None
    said = [record.message for record in caplog.records if record.name.startswith("muscle_hf")]
    assert len(said) == 1
    assert "No evaluation reached min_accuracy=0.9" in said[0]
    assert "highest accuracy was 0.8000, at step 4; that of the new model is 0.6000" in said[0]
    last = PeftModel.from_pretrained(tiny_llama(1, TOKENIZER, hidden_size=16, layers=1), tmp_path / "checkpoint-5")
    own = dict(trainer.model.named_parameters())
    assert all(torch.equal(own[name], weight) for name, weight in last.named_parameters() if "lora" in name)


@pytest.mark.slow
def test_an_undefined_metric_chooses_nothing_and_a_warning_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = _trainer(tmp_path, Scripted((math.nan, 0.5), (math.nan, 0.5)), max_steps=2)
    with caplog.at_level(logging.WARNING, logger="muscle_hf"):
        trainer.train()
    assert trainer.state.best_model_checkpoint is None
    assert "eval_negative_flip_rate was undefined (nan) in every evaluation" in caplog.text
    # trainer_state.json holds NaN and Infinity, which Python reads again.
    state = json.loads((tmp_path / "checkpoint-2" / "trainer_state.json").read_text())
    assert math.isnan(state["log_history"][-1]["eval_negative_flip_rate"])


# Early stopping ------------------------------------------------------------------------------------------------------


def _steps(tmp_path: Path, script: list[tuple[float, float]], *, patience: int, **options: Any) -> int:
    trainer = _trainer(tmp_path, Scripted(*script), EarlyStoppingCallback(early_stopping_patience=patience), **options)
    trainer.train()
    return int(trainer.state.global_step)


@pytest.mark.slow
@pytest.mark.parametrize("eval_dataset", [None, {}])
def test_early_stopping_counts_evaluations_without_fewer_flips(tmp_path: Path, eval_dataset: Any) -> None:
    options = {} if eval_dataset is None else {"eval_dataset": eval_dataset}
    script = [(0.4, 0.6), (0.3, 0.6), (0.3, 0.6), (0.35, 0.6), (0.1, 0.6)]
    assert _steps(tmp_path, script, patience=2, **options) == 4


@pytest.mark.slow
def test_fewer_flips_below_the_bound_do_not_keep_training_alive(tmp_path: Path) -> None:
    script = [(0.4, 0.6), (0.3, 0.5), (0.2, 0.5), (0.1, 0.5), (0.05, 0.5)]
    assert _steps(tmp_path / "free", list(script), patience=2) == 5
    assert _steps(tmp_path / "bound", list(script), patience=2, min_accuracy=0.6) == 3


@pytest.mark.slow
def test_early_stopping_waits_for_the_first_evaluation_that_is_allowed(tmp_path: Path) -> None:
    script = [(0.4, 0.5), (0.4, 0.5), (0.4, 0.5), (0.3, 0.6), (0.3, 0.6)]
    assert _steps(tmp_path, script, patience=1, min_accuracy=0.6) == 5


@pytest.mark.slow
def test_early_stopping_in_the_other_direction_counts_in_the_same_way(tmp_path: Path) -> None:
    script = [(0.4, 0.6), (0.3, 0.5), (0.3, 0.55), (0.2, 0.7), (0.2, 0.8)]
    options = {"metric_for_best_model": "eval_accuracy", "greater_is_better": True}
    assert _steps(tmp_path, script, patience=2, min_accuracy=0.6, **options) == 3


def test_the_state_has_its_own_best_metric_back_when_an_evaluation_fails(tmp_path: Path) -> None:
    class Stopping(TrainerCallback):
        def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            assert state.best_metric == -math.inf  # nothing is lower
            raise RuntimeError("stop")

    trainer = _trainer(tmp_path, Scripted((0.1, 0.1)), Stopping(), min_accuracy=0.6)
    trainer.state.best_metric = 0.4
    with pytest.raises(RuntimeError, match="stop"):
        trainer.evaluate()
    assert trainer.state.best_metric == 0.4
    assert trainer.measured is None


# With real questions -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_trainer_finds_the_adapter_with_the_fewest_flips_among_those_accurate_enough(tmp_path: Path) -> None:
    old = tiny_llama(5, TOKENIZER, hidden_size=16, layers=1)
    choices = [" yes", " no", " Paris", " blue"]
    prompts = [f"{what} {n}?" for n in range(8) for what in ("the weather of day", "book a table for")]
    said = choose_answers(old, TOKENIZER, prompts, [choices] * 16, delimiter="", show_progress=False).indices.tolist()
    right = [(index + (row % 4 == 0)) % 4 for row, index in enumerate(said)]  # the old model is right on 12 of 16
    questions = Dataset.from_list(
        [{"prompt": p, "choices": choices, "answer": a} for p, a in zip(prompts, right, strict=True)]
    )
    rows = Dataset.from_list([{"prompt": p, "completion": choices[a]} for p, a in zip(prompts, right, strict=True)])
    folder = tmp_path / "flips"

    def make(output: Path, **options: Any) -> tuple[LoopTrainer, list[str]]:
        trainer = _trainer(
            output,
            None,
            train_dataset=rows,
            eval_dataset={},
            max_steps=24,
            lr_scheduler_type="constant",  # with which a training can be made longer
            learning_rate=2e-2,
            eval_steps=4,
            save_steps=4,
            per_device_train_batch_size=16,
            **options,
        )
        student, asked = trainer.model, []
        snapshot = {name: w.detach().clone() for name, w in student.named_parameters() if w.requires_grad}

        def source(name: str, context: Any) -> Any:
            asked.append(name)
            return context

        trainer.flips = FlipsEvaluation(
            read_questions(questions),
            TOKENIZER,
            old=Answerer("old", lambda: source("old", nullcontext(old))),
            new=Answerer("new", lambda: source("new", holding(student, snapshot))),
            folder=folder,
            autocast=trainer.accelerator.autocast,
        )
        return trainer, asked

    trainer, asked = make(tmp_path / "out")
    start = trainer.evaluate()
    assert start["eval_accuracy"] == start["eval_new_accuracy"] < 1
    assert 0 < start["eval_negative_flip_rate"] == start["eval_new_negative_flip_rate"]
    trainer.min_accuracy = start["eval_new_accuracy"]
    trainer.train()
    assert asked == ["old", "new"]
    rates = {
        log["step"]: (log["eval_negative_flip_rate"], log["eval_accuracy"])
        for log in trainer.state.log_history
        if "eval_accuracy" in log and log["step"]
    }
    assert sorted(rates) == [4, 8, 12, 16, 20, 24]
    allowed = {step: rate for step, (rate, accuracy) in rates.items() if accuracy >= trainer.min_accuracy}
    assert _best_step(trainer) == min(allowed, key=lambda step: (allowed[step], step))
    assert trainer.state.best_metric < start["eval_negative_flip_rate"]
    # The loaded adapter is the best one, and its answers are those that were kept.
    after = trainer.flips.measure(trainer.model)
    assert after["eval_negative_flip_rate"] == trainer.state.best_metric
    best = compare_runs(read(folder / "old.jsonl"), read(folder / "best.jsonl")).overall
    assert best is not None
    assert best.comparison.negative_flip_rate == trainer.state.best_metric
    # A run that goes on from a checkpoint takes the kept answers, and remembers the best.
    resumed, asked = make(tmp_path / "out")
    resumed.args.max_steps = 28
    resumed.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-24"))
    assert asked == []
    assert resumed.state.best_metric <= trainer.state.best_metric
    for log in resumed.state.log_history:
        if "eval_new_accuracy" in log:
            assert log["eval_new_accuracy"] == start["eval_new_accuracy"]
