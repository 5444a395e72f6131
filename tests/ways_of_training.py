"""Ways of training that several processes are tried with: a few steps each, and the figures of one to compare with."""

from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from datasets import Dataset
from safetensors.torch import load_file
from tiny_classifiers import NAMES, tiny_classifier
from tiny_models import TEXTS, tiny_tokenizer
from tiny_updates import EMBEDDINGS_AND_NORMS, ROWS, Update, make_update, sampled_rows, trainer_of

from muscle_hf import CompatibilityClassifierConfig, CompatibilityClassifierTrainer
from muscle_hf.models.sharding import gathered_state
from muscle_hf.models.zero3 import loading_whole
from muscle_hf.prediction.generate import Answers, generate_answers
from muscle_hf.training import pair
from muscle_hf.training.loss.product import LOGGED

# What each way of training is tried with: the adapters of the update, and options of the trainer.
WAYS: dict[str, dict[str, Any]] = {
    "full logits": {"loss_implementation": "plain"},
    # Evaluated before it is trained, on more rows than every process has the same number of.
    "slices": {
        "eval_dataset": Dataset.from_list(ROWS[:5]),
        "loss_implementation": "chunked",
        "cross_entropy_weight": 0.3,
    },
    "trained head": {"update": "saved", "loss_implementation": "chunked", "cross_entropy_weight": 0.3},
    "untied head": {"update": "untied", "loss_implementation": "chunked", "gradient_checkpointing": False},
    "accumulated": {
        "update": "saved",
        "loss_implementation": "chunked",
        "gradient_accumulation_steps": 2,
        "per_device_train_batch_size": 6,
        "max_steps": 1,
    },
    # At each step, all processes but one have nothing.
    "one row is trained on": {"loss_implementation": "chunked", "only_row": 3},
    "mask of the old model": {"mask": "token_likelihood", "cross_entropy_weight": 0.5},
    "two tokenizers": {"update": "aligned", "alignment": "chunks", "loss_implementation": "chunked"},
    "checkpoints": {"update": "saved", "loss_implementation": "chunked", "save_strategy": "steps", "save_steps": 1},
    "flips": {
        "flips_dataset": Dataset.from_list(ROWS[:5]),
        "flips_max_new_tokens": 4,
        "eval_strategy": "steps",
        "eval_steps": 1,
        "per_device_eval_batch_size": 2,
        "unlabelled_dataset": Dataset.from_list([{"prompt": f"pay {n} and {'more ' * n}\n"} for n in range(12)]),
        "unlabelled_teacher": "more_confident",
        "unlabelled_max_new_tokens": 4,
    },
    "product": {"teacher": "product", "mask": "none", "loss_implementation": "chunked", "cross_entropy_weight": 0.3},
    "sampled": {"update": "saved", "teacher_cache": "sampled", "cross_entropy_weight": 0.3},
}
WITHOUT_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
UPDATES: dict[str, dict[str, Any]] = {
    "plain": {},
    "saved": EMBEDDINGS_AND_NORMS,
    "untied": {"tie_word_embeddings": False},
}


def train(
    folder: Path, name: str, way: dict[str, Any], kind: str, processes: int = 1, checkpoint: Path | None = None
) -> dict[str, list[float]]:
    """Train a few steps, and give what was logged and, in the end, the size of each trained weight."""
    options = {"max_steps": 2, "per_device_train_batch_size": 12} | way
    options["per_device_train_batch_size"] //= processes
    only_row = options.pop("only_row", None)
    update = Update(folder / options.pop("update", "plain"), tiny_tokenizer())
    if options.get("teacher") == "product":
        with loading_whole():  # a trainer before this one may have told transformers of ZeRO-3
            options["eval_dataset"] = sampled_rows(update)
    with mock.patch.object(pair, "generate_answers", _ended):
        trainer = trainer_of(
            update,
            folder / f"{name}-{kind}-{processes}",
            ddp_backend="gloo" if processes > 1 else None,
            **options,
        )
    if only_row is not None:
        trainer.data_collator = OnlyRow(trainer.data_collator, trainer.train_dataset[only_row])
    if "eval_dataset" in way:
        trainer.evaluate()
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    if "save_steps" in way:
        trainer.save_model()
    logs = [log for log in trainer.state.log_history if "loss" in log]
    figures = ("loss", "aligned_to_old_model", "cross_entropy", "grad_norm")
    found = {figure: [log[figure] for log in logs] for figure in figures} | {"weights": _sizes(trainer.model)}
    found["temperatures"] = [log[name] for log in trainer.state.log_history for name in LOGGED if name in log]
    return found if trainer.flips is None else found | {"answers": [list(trainer.flips.answers.values())]}


def _ended(*arguments: Any, **options: Any) -> Answers:
    """Let the answers of tiny models count as whole."""
    answers = generate_answers(*arguments, **options)
    return replace(answers, finished=answers.token_counts > 0)


def _sizes(model: Any) -> list[float]:
    trained = gathered_state(model, lambda _, value: value.requires_grad, keep=True)
    return [float(weight.norm()) for weight in trained.values()]


class OnlyRow:
    """A collator that lets one row be trained on."""

    def __init__(self, collate: Any, row: dict[str, Any]) -> None:
        self.collate, self.input_ids = collate, row["input_ids"]

    def __call__(self, rows: list[dict[str, Any]]) -> Any:
        others = [row["input_ids"] != self.input_ids for row in rows]
        batch = self.collate(rows)
        batch["labels"][others] = -100
        return batch


def train_classifier(folder: Path, processes: int = 1, *, use_cpu: bool = True) -> dict[str, list[float]]:
    """Train a whole classifier a few steps, with an evaluation after each, and save it."""
    tokenizer = tiny_tokenizer()
    rows = Dataset.from_list([{"text": text, "label": NAMES[n % 3]} for n, text in enumerate(TEXTS[:6])])
    config = CompatibilityClassifierConfig(
        output_dir=str(folder / f"classifier-{processes}"),
        max_steps=2,
        per_device_train_batch_size=6 // processes,
        per_device_eval_batch_size=2,
        eval_strategy="steps",
        eval_steps=1,
        logging_steps=1,
        learning_rate=1e-2,
        save_strategy="no",
        use_cpu=use_cpu,
        bf16=False,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        ddp_backend="gloo" if processes > 1 else None,
    )
    trainer = CompatibilityClassifierTrainer(
        model=tiny_classifier(2, tokenizer, **WITHOUT_DROPOUT),
        old_model=tiny_classifier(1, tokenizer, **WITHOUT_DROPOUT),
        args=config,
        train_dataset=rows,
        eval_dataset=rows,
        processing_class=tokenizer,
        old_processing_class=tokenizer,
    )
    trainer.train()
    trainer.save_model()
    return {name: [log[name] for log in trainer.state.log_history if name in log] for name in ("loss", "eval_loss")}


def make_updates(folder: Path) -> None:
    """Make the update of each way."""
    for name, lora in UPDATES.items():
        make_update(folder / name, **lora)
    # The old model has another tokenizer.
    make_update(folder / "aligned")
    other = tiny_tokenizer(["zebra crossing the quiet boulevard to my savings"], vocabulary_size=320)
    other.save_pretrained(folder / "aligned" / "base-v1")


def assert_saved_alike(folder: Path, one: str, others: list[str]) -> None:
    """Find an ordinary adapter or model, with its card, whatever wrote it."""
    expected = load_file(folder / one)
    for other in others:
        assert (folder / other / "README.md").read_text().startswith("---")
        saved = load_file(folder / other / Path(one).name)
        assert saved.keys() == expected.keys()
        for name, weight in saved.items():
            if name.endswith("key.bias"):
                continue  # no answer depends on it, so that its gradient is rounding alone
            # At a learning rate of 0.01; tiny gradients are rounding to a part that Adam makes a part of a step.
            torch.testing.assert_close(weight, expected[name], rtol=1e-4, atol=3e-3)
