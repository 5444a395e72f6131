"""A tiny update on disk, two bases with their task adapters, and trainers on it."""

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from tiny_models import tiny_adapter, tiny_llama, tiny_tokenizer
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from muscle_hf import CompatibilityConfig, CompatibilityTrainer

EMBEDDINGS_AND_NORMS = {
    "modules_to_save": ["embed_tokens", "input_layernorm", "post_attention_layernorm", "norm"],
    "ensure_weight_tying": True,
}
ROWS = [
    {"prompt": f"transfer {n} dollars to my {kind} account\n", "completion": answer}
    for n, (kind, answer) in enumerate([("savings", "transfer"), ("checking", "balance please")] * 6)
]


@dataclass(frozen=True)
class Update:
    """Two bases and their task adapters on disk."""

    folder: Path
    tokenizer: PreTrainedTokenizerFast

    @property
    def arguments(self) -> dict[str, Any]:
        return {
            "model": str(self.folder / "base-v2"),
            "new_adapter": str(self.folder / "task-v2"),
            "old_model": str(self.folder / "base-v1"),
            "old_adapter": str(self.folder / "task-v1"),
        }

    def load(self, version: int) -> PeftModel:
        base = LlamaForCausalLM.from_pretrained(self.folder / f"base-v{version}")
        return PeftModel.from_pretrained(base, self.folder / f"task-v{version}").eval()


def make_update(folder: Path, *, tie_word_embeddings: bool = True, **lora: Any) -> Update:
    """Save bases and adapters, which a test may change; the same ones are made once and copied."""
    key = json.dumps([tie_word_embeddings, lora], sort_keys=True)
    if key not in _MADE:
        _MADE[key] = _made(tie_word_embeddings, lora)
    shutil.copytree(_MADE[key], folder, dirs_exist_ok=True)
    for file in (folder / f"task-v{version}" / name for version in (1, 2) for name in _NAMES_BASE):
        file.write_text(file.read_text(encoding="utf-8").replace(str(_MADE[key]), str(folder)), encoding="utf-8")
    return Update(folder, tiny_tokenizer())


_MADE: dict[str, Path] = {}
_NAMES_BASE = ("adapter_config.json", "README.md")


def _made(tie_word_embeddings: bool, lora: dict[str, Any]) -> Path:
    folder, tokenizer = Path(tempfile.mkdtemp(dir=os.environ["HF_HOME"])), tiny_tokenizer()
    for version in (1, 2):
        base = tiny_llama(version, tokenizer, hidden_size=16, layers=1, tie_word_embeddings=tie_word_embeddings)
        base.save_pretrained(folder / f"base-v{version}")
        tokenizer.save_pretrained(folder / f"base-v{version}")
        base = LlamaForCausalLM.from_pretrained(folder / f"base-v{version}")
        tiny_adapter(base, 10 + version, **lora).save_pretrained(folder / f"task-v{version}")
    return folder


def sampled_rows(update: Update, count: int = 4, length: int = 24) -> Dataset:
    """Return rows of tokens drawn from either model, so many of each: both know something of what comes next."""
    rows = []
    for version in (1, 2):
        model = update.load(version)
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(100 + version)
            ids = torch.randint(3, len(update.tokenizer), (count, 1))
            while ids.shape[1] < length:
                ids = torch.cat(
                    [ids, torch.distributions.Categorical(logits=model(ids).logits[:, -1]).sample()[:, None]], 1
                )
        rows += [{"input_ids": row} for row in ids.tolist()]
    return Dataset.from_list(rows)


def config_of(output_dir: Path, **options: Any) -> CompatibilityConfig:
    defaults = {
        "output_dir": str(output_dir),
        "max_steps": 2,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-2,
        "logging_steps": 1,
        "save_strategy": "no",
        "bf16": False,
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }
    return CompatibilityConfig(**defaults | options)


def trainer_of(update: Update, output_dir: Path, *, rows: Any = ROWS, **options: Any) -> CompatibilityTrainer:
    arguments = {
        name: options.pop(name)
        for name in list(options)
        if name in TRAINER_ARGUMENTS and not (name == "mask" and isinstance(options[name], str))
    }
    return CompatibilityTrainer(
        **update.arguments | {"train_dataset": Dataset.from_list(rows)} | arguments,
        args=config_of(output_dir, **options),
    )


TRAINER_ARGUMENTS = {
    "model",
    "old_model",
    "new_adapter",
    "old_adapter",
    "train_dataset",
    "eval_dataset",
    "processing_class",
    "callbacks",
    "compute_metrics",
    "data_collator",
    "formatting_func",
    "mask",
    "unlabelled_dataset",
    "flips_dataset",
}


def weights_of(trainer: CompatibilityTrainer) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in trainer.model.named_parameters() if weight.requires_grad}


def largest_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max((one[name] - other[name]).abs().max().item() for name in one)
