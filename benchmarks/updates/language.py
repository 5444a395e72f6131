"""Language models with LoRA: task adapters, greedy answers, kept in a folder that is no result."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, EarlyStoppingCallback, PrinterCallback
from trl import SFTConfig

from muscle_hf.demo.task import CompletionTrainer, exact_match
from muscle_hf.prediction.generate import generate_answers

from .strategies import in_bfloat16, quiet_arguments
from .tasks import Row, share_right

LORA = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"}
COMMON = {
    "per_device_train_batch_size": 16,
    "train_sampling_strategy": "group_by_length",
    "lr_scheduler_type": "linear",
    "weight_decay": 0.0,
    "completion_only_loss": True,
    "bf16": in_bfloat16(),
}
"""Of all trainings; answers are generated in float32."""
_ASKED_AT_ONCE = 64


@dataclass(frozen=True)
class Texts:
    """What a language model says to questions."""

    names: list[str]
    confidence: NDArray[np.float64]
    """The geometric mean of the probabilities of an answer's tokens, its end included."""

    def accuracy(self, rows: Sequence[Row]) -> float:
        """Return the share of the rows that it is right on, word for word."""
        return share_right(self.names, rows)


def arguments(folder: Path, seed: int, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return training arguments that write nothing, beside those that matter."""
    return {
        **quiet_arguments(folder, seed),
        "per_device_eval_batch_size": _ASKED_AT_ONCE,
        "max_length": None,
        "gradient_checkpointing": False,
        "loss_type": "nll",
        **COMMON,
        **options,
    }


def load(base: Path, adapter: Path | None = None, *, trained: bool = False) -> tuple[Any, Any]:
    """Load a base, with an adapter where there is one, and its tokenizer."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter, is_trainable=trained)
    return model.to("cuda" if torch.cuda.is_available() else "cpu"), load_tokenizer(base)


def load_tokenizer(base: Path) -> Any:
    """Load the tokenizer that lies beside a base."""
    return AutoTokenizer.from_pretrained(base)


def with_new_adapter(base: Any) -> Any:
    """Put an untrained adapter on a base."""
    return get_peft_model(base, LoraConfig(**LORA, task_type=TaskType.CAUSAL_LM))


def encoded(rows: Sequence[Row]) -> Dataset:
    """Return rows as trainers take them: the text is the prompt, the right answer the completion."""
    return Dataset.from_list([{"prompt": row["text"], "completion": row["intent"]} for row in rows])


def by_length(rows: Sequence[Row]) -> list[Row]:
    """Order rows that are evaluated in batches, so that little is padded."""
    return sorted(rows, key=lambda row: len(row["text"]))


def fine_tune(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Row],
    settings: dict[str, Any],
    validation: Sequence[Row] = (),
    patience: int = 0,
) -> int:
    """Train with plain cross-entropy and return the steps.

    With validation rows it ends after so many evaluations without a better accuracy, and the best weights are kept.
    """
    early: dict[str, Any] = {}
    if validation:
        settings = settings | {
            "eval_strategy": "steps",
            "per_device_eval_batch_size": 32,  # all logits of a batch are held
            "save_strategy": "steps",
            "save_steps": settings["eval_steps"],
            "save_total_limit": 1,
            "save_only_model": True,
            "load_best_model_at_end": True,
            "metric_for_best_model": "eval_accuracy",
        }
        early = {
            "eval_dataset": encoded(by_length(validation)),
            "compute_metrics": exact_match,
            "preprocess_logits_for_metrics": lambda logits, labels: logits.argmax(-1),
            "callbacks": [EarlyStoppingCallback(patience)],
        }
    trainer = CompletionTrainer(
        model=model,
        args=SFTConfig(**settings),
        train_dataset=encoded(rows),
        processing_class=tokenizer,
        **early,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return int(trainer.state.global_step)


def longest_answer(tokenizer: Any, rows: Sequence[Row]) -> int:
    """Return for how many tokens an answer may go on: two more than the longest right one, its end included."""
    answers = sorted({row["intent"] for row in rows})
    return 2 + max(len(tokens) for tokens in tokenizer(answers, add_special_tokens=False)["input_ids"])


def ask(model: Any, tokenizer: Any, texts: Sequence[str], longest: int) -> Texts:
    """Return a model's greedy answers, in the order of the texts: the first line, without white space around it."""
    given = generate_answers(
        model, tokenizer, texts, max_new_tokens=longest, batch_size=_ASKED_AT_ONCE, show_progress=False
    )
    lines = [text.strip().partition("\n")[0].rstrip() for text in given.texts]
    return Texts(lines, np.exp(given.mean_log_likelihoods))


def save(folder: Path, model: Any, _: Any, answers: Mapping[str, Texts]) -> None:
    """Keep an adapter and its answers, whole or not at all; the tokenizer lies beside the base."""
    part = folder.with_name(f"{folder.name}.saved")
    shutil.rmtree(part, ignore_errors=True)
    model.save_pretrained(part)
    kept = {f"{name} names": np.array(each.names) for name, each in answers.items()}
    np.savez(part / "answers.npz", **kept, **{f"{name} confidence": each.confidence for name, each in answers.items()})
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


def kept_answers(folder: Path, name: str) -> Texts:
    """Read the answers of a kept model to "test" or "validation"."""
    with np.load(folder / "answers.npz") as file:
        return Texts(file[f"{name} names"].tolist(), file[f"{name} confidence"])
