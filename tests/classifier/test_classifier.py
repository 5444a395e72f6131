"""`CompatibilityClassifierTrainer` on tiny models: what it trains, measures and saves, and what it refuses."""

import copy
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from tiny_classifiers import NAMES, tiny_classifier
from tiny_models import TEXTS, tiny_tokenizer
from torch import Tensor
from transformers import (
    BertForSequenceClassification,
    BertForTokenClassification,
    EarlyStoppingCallback,
    LlamaForSequenceClassification,
    LlamaForTokenClassification,
    Trainer,
    TrainingArguments,
)

from muscle_hf.classifier.config import CompatibilityClassifierConfig
from muscle_hf.classifier.evaluation import EvaluationMemory
from muscle_hf.classifier.labels import ClassMap
from muscle_hf.classifier.loss import OldClasses, classifier_loss
from muscle_hf.classifier.trainer import CompatibilityClassifierTrainer
from muscle_hf.errors import ConfigurationError, InputError, ModelMismatchError, TeacherError
from muscle_hf.flips.comparison import compare
from muscle_hf.locks import held_folder
from muscle_hf.losses.compatibility import CompatibilityLoss
from muscle_hf.losses.masks import Scores
from muscle_hf.losses.strategy import Strategy

OLD_NAMES = ("spanish", "fax", "savings")  # another order; one added, one removed
NEW_TOKENIZER = tiny_tokenizer()
OLD_TOKENIZER = tiny_tokenizer(TEXTS[:2], vocabulary_size=270, add_beginning=True)
ROWS = [{"text": TEXTS[i % 7][i % 3 :], "label": NAMES[(i * i + i // 3) % 3]} for i in range(12)]
WORD_ROWS = [
    {"tokens": text.split(), "ner_tags": [(i + j * j) % 3 for j, _ in enumerate(text.split())]}
    for i, text in enumerate(TEXTS)
]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# "all-linear" would reach the head of token classifiers, which PEFT then refuses to save whole.
_ATTENTION = r".*\.(query|value|q_proj|v_proj)"


def _models(kind: Any = BertForSequenceClassification, **options: Any) -> dict[str, Any]:
    """A new and an old model that share neither tokenizer nor classes."""
    return {
        "model": tiny_classifier(1, NEW_TOKENIZER, kind=kind, **options),
        "old_model": tiny_classifier(2, OLD_TOKENIZER, OLD_NAMES, kind=kind, **options),
        "processing_class": NEW_TOKENIZER,
        "old_processing_class": OLD_TOKENIZER,
    }


def _lora(model: Any, **options: Any) -> PeftModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        task = "TOKEN_CLS" if "Token" in type(model).__name__ else "SEQ_CLS"
        adapted = get_peft_model(
            model, LoraConfig(**{"task_type": task, "r": 2, "target_modules": _ATTENTION} | options)
        )
        for name, weight in adapted.named_parameters():
            if "lora_" in name:  # one factor starts at zero, which would change nothing
                weight.data = torch.randn_like(weight) * 0.3
    return adapted.eval()


def _config(folder: Path, **options: Any) -> CompatibilityClassifierConfig:
    defaults = {
        "output_dir": str(folder),
        "max_steps": 2,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-2,
        "logging_steps": 1,
        "save_strategy": "no",
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }
    return CompatibilityClassifierConfig(**defaults | options)


_ARGUMENTS = {"callbacks", "unlabelled_dataset", "train_dataset", "eval_dataset", "new_adapter", "old_adapter"}


def _trainer(folder: Path, models: dict[str, Any] | None = None, **options: Any) -> CompatibilityClassifierTrainer:
    arguments = {name: options.pop(name) for name in list(options) if name in _ARGUMENTS or callable(options[name])}
    given = {"train_dataset": Dataset.from_list(ROWS)} | (_models() if models is None else models) | arguments
    return CompatibilityClassifierTrainer(**given, args=_config(folder, **options))


def _trained(trainer: CompatibilityClassifierTrainer) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in trainer.model.named_parameters() if weight.requires_grad}


def _text_logits(model: Any, tokenizer: Any, rows: Any = ROWS) -> Tensor:
    """Logits of one text at a time, without padding."""
    return torch.cat([model(torch.tensor([tokenizer(row["text"])["input_ids"]])).logits for row in rows])


def _word_logits(model: Any, tokenizer: Any) -> Tensor:
    """Logits at the first token of every word, one sentence at a time."""
    found = []
    for row in WORD_ROWS:
        encoding = tokenizer(row["tokens"], is_split_into_words=True)
        logits = model(torch.tensor([encoding["input_ids"]])).logits[0]
        ids = encoding.word_ids()
        found += [logits[ids.index(word)] for word, _ in enumerate(row["tokens"])]
    return torch.stack(found)


def _by_hand(models: dict[str, Any], words: bool = False, **options: Any) -> CompatibilityLoss:
    """The loss of the whole training set, where the student is the new model."""
    read = _word_logits if words else _text_logits
    with torch.no_grad():
        new = read(models["model"], models["processing_class"])
        old = read(models["old_model"], models["old_processing_class"])
    labels = (
        [t for row in WORD_ROWS for t in row["ner_tags"]] if words else [NAMES.index(row["label"]) for row in ROWS]
    )
    weights = options.pop("weights", None)
    return classifier_loss(
        read(models["model"], models["processing_class"]),
        old,
        new,
        torch.tensor(labels),
        old_classes=OldClasses(ClassMap(NAMES, OLD_NAMES)),
        strategy=Strategy(**options),
        weights=weights,
    )


def _data_of(kind: Any) -> Dataset:
    return Dataset.from_list(WORD_ROWS if "Token" in kind.__name__ else ROWS)


KINDS = [
    BertForSequenceClassification,
    BertForTokenClassification,
    LlamaForSequenceClassification,
    LlamaForTokenClassification,
]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_evaluation_is_that_of_both_models_asked_one_text_at_a_time(kind: Any, tmp_path: Path) -> None:
    models = _models(kind)
    words = "Token" in kind.__name__
    expected = _by_hand(copy.deepcopy(models), words=words, cross_entropy_weight=0.25)
    dataset = _data_of(kind)
    trainer = _trainer(
        tmp_path, models, train_dataset=dataset, cross_entropy_weight=0.25, per_device_eval_batch_size=len(dataset)
    )
    metrics = trainer.evaluate(dataset)
    n = expected.tokens.item()
    assert metrics["eval_loss"] == pytest.approx(expected.loss.item(), rel=1e-4)
    assert metrics["eval_aligned_to_old_model"] == expected.tokens_to_old.item() / n
    assert metrics["eval_cross_entropy"] == pytest.approx(expected.cross_entropy.item() / n, rel=1e-4)
    assert metrics["eval_accuracy"] == expected.correct_tokens.item() / n
    assert metrics["eval_divergence_to_old_model"] == pytest.approx(
        (expected.divergence_to_old / expected.tokens_to_old).item(), rel=1e-4
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS[:2])
def test_flips_are_counted_between_what_the_models_answer_by_name(kind: Any, tmp_path: Path) -> None:
    words = "Token" in kind.__name__
    trainer = _trainer(tmp_path, _models(kind), train_dataset=_data_of(kind))
    trainer.train()
    metrics = trainer.evaluate(_data_of(kind))
    untouched = _models(kind)
    read = _word_logits if words else _text_logits
    with torch.no_grad():
        old = [OLD_NAMES[i] for i in read(untouched["old_model"], OLD_TOKENIZER).argmax(-1)]
        new = [NAMES[i] for i in read(untouched["model"], NEW_TOKENIZER).argmax(-1)]
        student = [NAMES[i] for i in read(trainer.model.eval(), NEW_TOKENIZER).argmax(-1)]
    gold = [NAMES[t] for row in WORD_ROWS for t in row["ner_tags"]] if words else [row["label"] for row in ROWS]
    assert "fax" in old  # an answer that the new model does not know
    comparison = compare(old=old, new=student, references=gold)
    for rate in ("negative_flip_rate", "positive_flip_rate", "inconsistency_flip_rate", "old_accuracy"):
        assert metrics[f"eval_{rate}"] == getattr(comparison, rate), rate
    assert metrics["eval_accuracy"] == comparison.new_accuracy
    assert metrics["eval_new_accuracy"] == compare(old=old, new=new, references=gold).new_accuracy


def test_a_step_follows_the_gradient_of_the_weighted_loss(tmp_path: Path) -> None:
    models = _models(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    weights = [0.0, 2.0, 0.5, 1.0] * 3
    reference = copy.deepcopy(models)
    _by_hand(reference, weights=torch.tensor(weights), mask="none", cross_entropy_weight=0.5).loss.backward()
    dataset = Dataset.from_list([row | {"trust": weight} for row, weight in zip(ROWS, weights, strict=True)])
    before = copy.deepcopy(models["model"]).state_dict()
    trainer = _trainer(
        tmp_path,
        models,
        train_dataset=dataset,
        weight_column="trust",
        mask="none",
        max_steps=1,
        per_device_train_batch_size=12,
        optim="sgd",
        learning_rate=0.1,
        max_grad_norm=0,
        cross_entropy_weight=0.5,
    )
    trainer.train()
    moved = 0
    for name, parameter in reference["model"].named_parameters():
        expected = before[name] if parameter.grad is None else before[name] - 0.1 * parameter.grad
        torch.testing.assert_close(trainer.model.state_dict()[name], expected, rtol=1e-3, atol=1e-5, msg=name)
        moved += int(not torch.equal(expected, before[name]))
    assert moved > 10


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS[:2])
def test_accumulating_two_batches_is_one_batch_of_double_size(kind: Any, tmp_path: Path) -> None:
    weights = []
    for batch, accumulation in ((8, 1), (4, 2), (2, 4)):
        trainer = _trainer(
            tmp_path,
            _models(kind, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0),
            train_dataset=_data_of(kind),
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=accumulation,
            max_steps=1,
            optim="sgd",
            learning_rate=1.0,
            max_grad_norm=0,
        )
        trainer.train()
        weights.append(_trained(trainer))
    for other in weights[1:]:
        for name, weight in weights[0].items():
            torch.testing.assert_close(other[name], weight, rtol=1e-4, atol=1e-6, msg=name)
    start = dict(_models(kind)["model"].named_parameters())
    assert any(not torch.equal(weight, start[name]) for name, weight in weights[0].items())


def test_teachers_never_change_nor_drop_out(tmp_path: Path) -> None:
    models = _models(hidden_dropout_prob=0.5)
    old_before = copy.deepcopy(models["old_model"]).state_dict()
    trainer = _trainer(tmp_path, models)
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(4)])
    trained = batch["labels"] != -100
    before = trainer.teachers.ask(batch, trained)
    trainer.train()
    trainer.old_teacher.model.train()
    trainer.model.train()
    after = trainer.teachers.ask(batch, trained)
    for one, other in zip(before, after, strict=True):
        assert torch.equal(one, other)
    assert not any(parameter.requires_grad for parameter in trainer.old_teacher.model.parameters())
    for name, weight in trainer.old_teacher.model.state_dict().items():
        assert torch.equal(weight, old_before[name])


def test_teachers_are_asked_once_for_all_evaluations_of_a_data_set(tmp_path: Path) -> None:
    dataset = Dataset.from_list(ROWS)
    trainer = _trainer(
        tmp_path, eval_dataset=dataset, eval_strategy="steps", eval_steps=1, per_device_eval_batch_size=3
    )
    asked: list[bool] = []
    ask = trainer.teachers.ask
    trainer.teachers.ask = lambda *args: asked.append(trainer.model.training) or ask(*args)
    trainer.train()
    assert asked.count(False) == 4  # 12 rows in threes
    assert asked.count(True) == 2
    first, last = (log for log in trainer.state.log_history if "eval_loss" in log)
    assert first["eval_old_accuracy"] == last["eval_old_accuracy"]
    trainer.evaluate(dataset.select(range(6)))
    assert asked.count(False) == 6


def test_every_figure_is_logged_in_training_and_evaluation(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path, eval_dataset=Dataset.from_list(ROWS), eval_strategy="steps", eval_steps=2)
    trainer.train()
    figures = {
        "aligned_to_old_model",
        "divergence_to_old_model",
        "divergence_to_new_model",
        "cross_entropy",
        "accuracy",
    }
    logs = trainer.state.log_history
    assert figures <= logs[0].keys()
    evaluation = next(log for log in logs if "eval_loss" in log)
    assert {f"eval_{name}" for name in figures} <= evaluation.keys()
    assert {"eval_negative_flip_rate", "eval_old_accuracy", "eval_new_accuracy"} <= evaluation.keys()


def test_reordered_classes_train_as_if_they_had_never_been_reordered(tmp_path: Path) -> None:
    losses = []
    for order in ((0, 1, 2), (2, 0, 1)):
        models = _models()
        models["old_model"] = tiny_classifier(2, OLD_TOKENIZER)
        head = models["old_model"].classifier
        for parameter in (head.weight, head.bias):
            parameter.data = parameter.data[list(order)]
        models["old_model"].config.id2label = {place: NAMES[name] for place, name in enumerate(order)}
        trainer = _trainer(tmp_path, models)
        trainer.train()
        losses.append([log["loss"] for log in trainer.state.log_history if "loss" in log])
    assert losses[0] == pytest.approx(losses[1])


def test_two_trainings_write_to_one_folder(tmp_path: Path) -> None:
    with held_folder(tmp_path, "training", "wait"), pytest.raises(ConfigurationError, match="is in use: process"):
        _trainer(tmp_path).train()


def test_a_mask_of_ones_own_decides_and_two_masks_are_refused(tmp_path: Path) -> None:
    def nobody(scores: Scores) -> Tensor:
        return torch.zeros_like(scores.gold, dtype=torch.bool)

    trainer = _trainer(tmp_path, mask=nobody)
    trainer.train()
    assert trainer.state.log_history[0]["aligned_to_old_model"] == 0
    assert "divergence_to_old_model" not in trainer.state.log_history[0]
    with pytest.raises(ConfigurationError, match="would be ignored beside a mask of your own"):
        CompatibilityClassifierTrainer(
            **_models(), train_dataset=Dataset.from_list(ROWS), args=_config(tmp_path, mask="none"), mask=nobody
        )


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_is_saved_with_its_head_and_class_names_and_plain_peft_loads_it(kind: Any, tmp_path: Path) -> None:
    models = _models(kind)
    base = copy.deepcopy(models["model"])
    models["model"] = _lora(models["model"])
    trainer = _trainer(tmp_path, models, train_dataset=_data_of(kind))
    trainer.train()
    trainer.save_model(str(tmp_path / "saved"))
    reloaded = PeftModel.from_pretrained(copy.deepcopy(base), tmp_path / "saved").eval()
    ids = torch.tensor([[5, 6, 7, 8]])
    saved_logits = trainer.model.eval()(ids).logits
    assert torch.equal(reloaded(ids).logits, saved_logits)
    assert not torch.allclose(base(ids).logits, saved_logits)
    assert kind.config_class.from_pretrained(tmp_path / "saved").id2label == dict(enumerate(NAMES))
    for name, weight in trainer.model.get_base_model().named_parameters():
        if "lora_" not in name and "modules_to_save" not in name:
            plain = name.replace(".base_layer", "").replace(".original_module", "")
            assert torch.equal(weight, dict(base.named_parameters())[plain]), name


@pytest.mark.slow
def test_a_saved_adapter_is_the_old_model_of_the_next_update_with_its_class_names(tmp_path: Path) -> None:
    base = tiny_classifier(1, NEW_TOKENIZER, None)
    base.save_pretrained(tmp_path / "base")
    NEW_TOKENIZER.save_pretrained(tmp_path / "base")
    _lora(BertForSequenceClassification.from_pretrained(tmp_path / "base")).save_pretrained(tmp_path / "v2")
    trainer = _trainer(
        tmp_path, _models() | {"model": str(tmp_path / "v2"), "processing_class": None}, new_label_names=list(NAMES)
    )
    trainer.train()
    trainer.save_model(str(tmp_path / "compatible"))
    assert (tmp_path / "compatible" / "adapter_config.json").exists()
    next_update = _trainer(
        tmp_path, _models() | {"old_model": str(tmp_path / "compatible"), "old_processing_class": None}
    )
    assert next_update.classes.old == NAMES
    assert next_update.classes.is_identity


def test_a_full_fine_tune_is_saved_whole_and_plain_transformers_loads_it(tmp_path: Path) -> None:
    _models()["model"].save_pretrained(tmp_path / "new")
    NEW_TOKENIZER.save_pretrained(tmp_path / "new")
    models = _models() | {"model": str(tmp_path / "new"), "processing_class": None}
    trainer = _trainer(tmp_path, models)
    trainer.train()
    trainer.save_model(str(tmp_path / "saved"))
    reloaded = BertForSequenceClassification.from_pretrained(tmp_path / "saved").eval()
    ids = torch.tensor([[5, 6, 7, 8]])
    assert torch.equal(reloaded(ids).logits, trainer.model.eval()(ids).logits)
    assert reloaded.config.id2label == dict(enumerate(NAMES))
    assert trainer.new_teacher.snapshot.keys() == dict(trainer.model.named_parameters()).keys()


@pytest.mark.slow
@pytest.mark.parametrize("adapted", [False, True], ids=["full", "LoRA"])
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(adapted: bool, tmp_path: Path) -> None:
    def models() -> dict[str, Any]:
        made = _models()
        return made | {"model": _lora(made["model"])} if adapted else made

    whole = _trainer(tmp_path / "whole", models(), max_steps=4)
    whole.train()
    half = _trainer(tmp_path / "half", models(), max_steps=4, save_strategy="steps", save_steps=2)
    half.train()
    resumed = _trainer(tmp_path / "half", models(), max_steps=4, save_strategy="steps", save_steps=2)
    start = {name: weight.clone() for name, weight in resumed.new_teacher.snapshot.items()}
    resumed.train(resume_from_checkpoint=str(tmp_path / "half" / "checkpoint-2"))
    for name, weight in _trained(whole).items():
        torch.testing.assert_close(_trained(resumed)[name], weight, msg=name)
    for name, weight in start.items():
        assert torch.equal(resumed.new_teacher.snapshot[name], weight), (
            "the new teacher must stay the one of the start"
        )
    # Neither another strategy nor another old model, passed as an object, takes its weights over.
    saves = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    other = models() | {"old_model": tiny_classifier(3, OLD_TOKENIZER, OLD_NAMES, kind=BertForSequenceClassification)}
    with pytest.raises(ConfigurationError, match=r'\(mask "student_wrong" there, "none" now; old model "weights '):
        _trainer(tmp_path / "half", other, mask="none", **saves).train(resume_from_checkpoint=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("minimum", "best"), [(None, 3), (0.5, 2), (0.9, None)], ids=["no bound", "bound", "bound out of reach"]
)
def test_the_checkpoint_with_the_fewest_flips_wins_unless_it_is_below_the_bound(
    minimum: float | None, best: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    script = iter([(0.6, 0.3), (0.6, 0.2), (0.4, 0.1), (0.6, 0.25)])
    own = EvaluationMemory.metrics

    def metrics(memory: Any, prefix: str) -> dict[str, float]:
        accuracy, flips = next(script)
        return own(memory, prefix) | {f"{prefix}_accuracy": accuracy, f"{prefix}_negative_flip_rate": flips}

    monkeypatch.setattr(EvaluationMemory, "metrics", metrics)
    trainer = _trainer(
        tmp_path,
        eval_dataset=Dataset.from_list(ROWS),
        max_steps=4,
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        load_best_model_at_end=True,
        metric_for_best_model="eval_negative_flip_rate",
        min_accuracy=minimum,
    )
    weights: list[dict[str, Tensor]] = []
    evaluate = trainer.evaluate
    trainer.evaluate = lambda *args, **kwargs: weights.append(_trained(trainer)) or evaluate(*args, **kwargs)
    with caplog.at_level(logging.WARNING):
        trainer.train()
    assert trainer.state.best_global_step == best
    expected = weights[-1] if best is None else weights[best - 1]
    for name, weight in _trained(trainer).items():
        assert torch.equal(weight, expected[name])
    assert ("No evaluation reached min_accuracy=0.9" in caplog.text) == (best is None)


@pytest.mark.slow
def test_early_stopping_sees_no_improvement_below_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = iter([(0.6, 0.3), (0.4, 0.2), (0.4, 0.1), (0.6, 0.0)])
    monkeypatch.setattr(
        EvaluationMemory,
        "metrics",
        lambda _, prefix: dict(zip((f"{prefix}_accuracy", f"{prefix}_negative_flip_rate"), next(script), strict=True)),
    )
    trainer = _trainer(
        tmp_path,
        eval_dataset=Dataset.from_list(ROWS),
        max_steps=4,
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        load_best_model_at_end=True,
        metric_for_best_model="negative_flip_rate",
        min_accuracy=0.5,
        callbacks=[EarlyStoppingCallback(early_stopping_patience=2)],
    )
    trainer.train()
    assert trainer.state.global_step == 3
    assert trainer.state.best_metric == 0.3


@pytest.mark.slow
def test_several_evaluation_sets_have_flips_of_their_own(tmp_path: Path) -> None:
    halves = {"first": Dataset.from_list(ROWS[:6]), "last_half": Dataset.from_list(ROWS[6:])}
    trainer = _trainer(
        tmp_path,
        eval_dataset=halves,
        eval_strategy="steps",
        eval_steps=1,
        metric_for_best_model="eval_last_half_negative_flip_rate",
        min_accuracy=0.0,
    )
    trainer.train()
    assert trainer.args.greater_is_better is False
    for name, half in halves.items():
        metrics = trainer.evaluate(half)
        logged = [log for log in trainer.state.log_history if f"eval_{name}_accuracy" in log][-1]
        assert logged[f"eval_{name}_negative_flip_rate"] == metrics["eval_negative_flip_rate"]
    assert trainer.state.best_metric is not None


def test_compute_metrics_gets_the_students_logits(tmp_path: Path) -> None:
    def accuracy(prediction: Any) -> dict[str, float]:
        return {"own": float(np.mean(prediction.predictions.argmax(-1) == prediction.label_ids))}

    metrics = _trainer(tmp_path, compute_metrics=accuracy, eval_dataset=Dataset.from_list(ROWS)).evaluate()
    assert metrics["eval_own"] == pytest.approx(metrics["eval_accuracy"])


def test_what_is_not_labelled_is_predicted(tmp_path: Path) -> None:
    output = _trainer(tmp_path).predict(Dataset.from_list(ROWS).remove_columns("label"))
    with torch.no_grad():
        expected = _text_logits(_models()["model"], NEW_TOKENIZER)
    torch.testing.assert_close(torch.tensor(output.predictions), expected, rtol=1e-4, atol=1e-4)
    assert "test_negative_flip_rate" not in output.metrics


def test_a_stream_is_trained_and_evaluated_on(tmp_path: Path) -> None:
    rows = Dataset.from_list(ROWS)
    trainer = _trainer(tmp_path, train_dataset=rows.to_iterable_dataset())
    trainer.train()
    streamed = trainer.evaluate(rows.to_iterable_dataset())
    assert not trainer._memories
    stored = trainer.evaluate(rows)
    for name in ("eval_accuracy", "eval_negative_flip_rate", "eval_cross_entropy"):
        assert streamed[name] == pytest.approx(stored[name])


def test_one_tokenizer_on_both_sides_means_one_set_of_inputs(tmp_path: Path) -> None:
    models = _models()
    models |= {"old_model": tiny_classifier(2, NEW_TOKENIZER, OLD_NAMES), "old_processing_class": tiny_tokenizer()}
    trainer = _trainer(tmp_path, models)
    assert not [name for name in trainer.train_dataset.column_names if name.startswith("old_")]
    trainer.train()
    encoded = NEW_TOKENIZER([row["text"] for row in ROWS])
    tokenised = Dataset.from_dict(dict(encoded) | {"label": [NAMES.index(row["label"]) for row in ROWS]})
    assert trainer.evaluate(tokenised)["eval_cross_entropy"] == pytest.approx(
        trainer.evaluate(Dataset.from_list(ROWS))["eval_cross_entropy"]
    )


def test_batches_without_a_single_label_leave_the_student_as_it_is(tmp_path: Path) -> None:
    rows = [{"text": TEXTS[0], "label": 0}] + [{"text": text, "label": -100} for text in TEXTS[1:]]
    trainer = _trainer(tmp_path, train_dataset=Dataset.from_list(rows), per_device_train_batch_size=1, max_steps=7)
    trainer.train()
    assert all(torch.isfinite(weight).all() for weight in _trained(trainer).values())


@pytest.mark.parametrize(("side", "said"), [("model", "new"), ("old_model", "old")])
def test_a_teacher_that_gives_nan_is_refused_before_training(side: str, said: str, tmp_path: Path) -> None:
    models = _models()
    with torch.no_grad():
        models[side].classifier.bias[0] = torch.nan
    with pytest.raises(TeacherError, match=f"The {said} model gives NaN logits"):
        _trainer(tmp_path, models)


def test_the_same_model_twice_is_refused_however_it_is_passed(tmp_path: Path) -> None:
    models = _models() | {"old_processing_class": NEW_TOKENIZER}
    with pytest.raises(ModelMismatchError, match="are the same object"):
        _trainer(tmp_path, models | {"old_model": models["model"]})
    with pytest.raises(ModelMismatchError, match="exactly the same logits"):
        _trainer(tmp_path, models | {"old_model": copy.deepcopy(models["model"])})
    base = models["model"]
    with pytest.raises(ConfigurationError, match="share one base object"):
        _trainer(tmp_path, models | {"model": _lora(base), "old_model": base})


def test_models_of_two_precisions_meet(tmp_path: Path) -> None:
    models = _models()
    models["old_model"] = models["old_model"].bfloat16()
    trainer = _trainer(tmp_path, models)
    trainer.train()
    assert all(math.isfinite(log["loss"]) for log in trainer.state.log_history if "loss" in log)
    expected = _trainer(tmp_path).evaluate(Dataset.from_list(ROWS))["eval_old_accuracy"]
    assert trainer.evaluate(Dataset.from_list(ROWS))["eval_old_accuracy"] == pytest.approx(expected, abs=0.1)


def test_label_sets_that_do_not_overlap_are_refused(tmp_path: Path) -> None:
    models = _models() | {"old_model": tiny_classifier(2, OLD_TOKENIZER, ["x", "y", "z"])}
    with pytest.raises(ModelMismatchError, match="The label sets do not overlap"):
        _trainer(tmp_path, models)


def test_swapped_models_are_noticed_at_the_first_evaluation(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer = _trainer(tmp_path)
    with torch.no_grad():
        answers = _text_logits(trainer.old_teacher.model, OLD_TOKENIZER, ROWS * 4).argmax(-1)
    rows = [
        {"text": row["text"], "label": OLD_NAMES[answer]}
        for row, answer in zip(ROWS * 4, answers, strict=True)
        if OLD_NAMES[answer] in NAMES
    ]
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            trainer.evaluate(Dataset.from_list(rows))
    assert caplog.text.count("model and old_model are swapped") == 1


def test_two_tasks_do_not_meet(tmp_path: Path) -> None:
    models = _models() | {"old_model": tiny_classifier(2, OLD_TOKENIZER, OLD_NAMES, kind=BertForTokenClassification)}
    with pytest.raises(ModelMismatchError, match="model is a sequence classifier and old_model is not"):
        _trainer(tmp_path, models)


def test_a_missing_tokenizer_is_asked_for_and_never_taken_from_the_other_side(tmp_path: Path) -> None:
    for option, role in (("processing_class", "new"), ("old_processing_class", "old")):
        with pytest.raises(ConfigurationError, match=f"beside the {role} model .* pass it as {option}"):
            _trainer(tmp_path, _models() | {option: None})


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "train_dataset has no rows"),
        ([{"text": "x", "label": -100}], "The train set has no label to learn from"),
        ([{"text": "x", "label": "fax"}], "'fax', which is no class of the new model"),
    ],
)
def test_data_with_nothing_to_learn_are_refused(rows: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        _trainer(tmp_path, train_dataset=Dataset.from_list(rows))
    with pytest.raises(InputError, match="train_dataset is missing"):
        _trainer(tmp_path, train_dataset=None)


def test_words_that_are_all_cut_off_are_nothing_to_learn_from(tmp_path: Path) -> None:
    rows = [{"tokens": ["one", "two"], "ner_tags": [-100, 1]}]
    with pytest.raises(InputError, match="lost to truncation"):
        _trainer(tmp_path, _models(BertForTokenClassification), train_dataset=Dataset.from_list(rows), max_length=1)


def test_nothing_to_train_is_refused(tmp_path: Path) -> None:
    models = _models()
    models["model"].requires_grad_(False)
    with pytest.raises(ConfigurationError, match="nothing would be trained"):
        _trainer(tmp_path, models)


def test_a_frozen_adapter_is_trained_all_the_same(tmp_path: Path) -> None:
    models = _models()
    models["model"] = _lora(models["model"]).requires_grad_(False)
    trainer = _trainer(tmp_path, models)
    names = list(trainer.new_teacher.snapshot)
    assert names
    assert all("lora_" in name or "modules_to_save" in name for name in names)


def test_options_of_another_trainer_are_refused(tmp_path: Path) -> None:
    plain = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none")
    with pytest.raises(ConfigurationError, match="args is a TrainingArguments"):
        CompatibilityClassifierTrainer(**_models(), train_dataset=Dataset.from_list(ROWS), args=plain)


def test_a_process_with_several_gpus_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CompatibilityClassifierConfig, "n_gpu", property(lambda _: 2))
    with pytest.raises(ConfigurationError, match=r"2 GPUs .* is not supported"):
        _trainer(tmp_path)


def test_it_is_a_trainer_whose_callbacks_and_collators_are_the_users(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path)
    assert isinstance(trainer, Trainer)
    assert trainer.processing_class is NEW_TOKENIZER


@pytest.mark.slow
def test_learning_from_the_old_model_brings_the_student_closer_to_it(tmp_path: Path) -> None:
    models = _models(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    options = {"mask": "none", "temperature": 1.0, "learning_rate": 3e-3, "logging_steps": 30}
    trainer = _trainer(tmp_path, models, max_steps=30, per_device_train_batch_size=12, **options)
    before = trainer.evaluate(Dataset.from_list(ROWS))
    trainer.train()
    after = trainer.evaluate(Dataset.from_list(ROWS))
    assert after["eval_divergence_to_old_model"] < before["eval_divergence_to_old_model"] / 10
    assert after["eval_negative_flip_rate"] < before["eval_negative_flip_rate"]
