"""Classifiers: trained until validation stops improving, answering with logits, kept in a folder that is no result."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    EarlyStoppingCallback,
    PrinterCallback,
    Trainer,
    TrainingArguments,
)

from .strategies import in_bfloat16, quiet_arguments
from .tasks import Row, share_right

COMMON = {
    "per_device_train_batch_size": 32,
    "train_sampling_strategy": "group_by_length",
    "lr_scheduler_type": "linear",
    "weight_decay": 0.01,
    "optim": "adamw_torch_fused",
    "bf16": in_bfloat16(),
}
"""Of all trainings; models answer in float32."""


@dataclass(frozen=True)
class Answers:
    """What a classifier says to questions: logits in the order of its classes."""

    logits: NDArray[np.float32]
    classes: list[str]

    @property
    def names(self) -> list[str]:
        """Its likeliest class of each question."""
        return [self.classes[index] for index in self.logits.argmax(-1)]

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """Its probabilities, at temperature 1."""
        return torch.from_numpy(self.logits).double().softmax(-1).numpy()

    def accuracy(self, rows: Sequence[Row]) -> float:
        """Return the share of the rows that it is right on."""
        return share_right(self.names, rows)


def arguments(folder: Path, seed: int, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return training arguments that write nothing, beside those that matter."""
    return {
        **quiet_arguments(folder, seed),
        "per_device_eval_batch_size": 128,
        **COMMON,
        **options,
    }


def load(folder: str | Path, classes: Sequence[str] | None = None) -> tuple[Any, Any]:
    """Load a classifier, or a base with a new head for some classes, and its tokenizer."""
    named = {}
    if classes is not None:
        named = {"id2label": dict(enumerate(classes)), "label2id": {name: i for i, name in enumerate(classes)}}
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32, **named)
    return model.to("cuda" if torch.cuda.is_available() else "cpu"), AutoTokenizer.from_pretrained(folder)


def fine_tune(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Row],
    settings: dict[str, Any],
    validation: Sequence[Row] = (),
    patience: int = 0,
) -> int:
    """Train with plain cross-entropy and return the steps.

    With validation rows it ends after so many epochs without a better accuracy on them, and the best weights are kept.
    """

    def encoded(part: Sequence[Row]) -> Dataset:
        labels = [model.config.label2id.get(row["intent"], -100) for row in part]
        return Dataset.from_dict({**tokenizer([row["text"] for row in part], truncation=True), "labels": labels})

    early: dict[str, Any] = {}
    if validation:
        settings = settings | {
            "eval_strategy": "epoch",
            "save_strategy": "epoch",
            "save_total_limit": 1,
            "save_only_model": True,
            "load_best_model_at_end": True,
            "metric_for_best_model": "eval_accuracy",
        }
        early = {
            "eval_dataset": encoded(validation),
            "compute_metrics": lambda found: {"accuracy": float((found[0].argmax(-1) == found[1]).mean())},
            "callbacks": [EarlyStoppingCallback(patience)],
        }
    trainer = Trainer(
        model=model,
        args=TrainingArguments(**settings),
        train_dataset=encoded(rows),
        data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
        **early,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return int(trainer.state.global_step)


@torch.inference_mode()
def ask(model: Any, tokenizer: Any, texts: Sequence[str]) -> Answers:
    """Return a model's logits, in the order of the texts; texts of like length are asked together."""
    model.eval()
    order = np.argsort([len(text) for text in texts], kind="stable")
    logits = np.empty((len(texts), model.config.num_labels), dtype=np.float32)
    for start in range(0, len(texts), 128):
        chosen = order[start : start + 128]
        batch = tokenizer([texts[index] for index in chosen], padding=True, truncation=True, return_tensors="pt")
        logits[chosen] = model(**batch.to(model.device)).logits.float().cpu().numpy()
    return Answers(logits, [model.config.id2label[index] for index in range(model.config.num_labels)])


def save(folder: Path, model: Any, tokenizer: Any, answers: Mapping[str, Answers]) -> None:
    """Keep a model and its answers, whole or not at all."""
    part = folder.with_name(f"{folder.name}.saved")
    shutil.rmtree(part, ignore_errors=True)
    model.save_pretrained(part)
    tokenizer.save_pretrained(part)
    classes = next(iter(answers.values())).classes
    np.savez(part / "answers.npz", classes=np.array(classes), **{name: each.logits for name, each in answers.items()})
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


def kept_answers(folder: Path, name: str) -> Answers:
    """Read the answers of a kept model to "test" or "validation"."""
    with np.load(folder / "answers.npz") as file:
        return Answers(file[name], file["classes"].tolist())
