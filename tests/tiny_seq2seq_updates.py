"""A tiny update of an encoder-decoder: two models, rows, and trainers on them."""

from pathlib import Path
from typing import Any

from datasets import Dataset
from tiny_models import tiny_tokenizer
from tiny_seq2seq import tiny_seq2seq, tiny_seq2seq_adapter

from muscle_hf import CompatibilitySeq2SeqConfig, CompatibilitySeq2SeqTrainer

TOKENIZER = tiny_tokenizer()
ROWS = [
    {"prompt": f"transfer {number} dollars", "completion": ["savings", "checking", "Spanish"][number % 3]}
    for number in range(6)
]


def model_of(kind: str, version: int, *, adapter: bool = True) -> Any:
    """The new and the old model differ in their bases and in their adapters."""
    base = tiny_seq2seq(kind, version, TOKENIZER)
    return tiny_seq2seq_adapter(base, 10 + version) if adapter else base


def config_of(folder: Path, **options: Any) -> CompatibilitySeq2SeqConfig:
    defaults: dict[str, Any] = {
        "output_dir": str(folder),
        "use_cpu": True,
        "report_to": "none",
        "per_device_train_batch_size": 3,
        "disable_tqdm": True,
        "max_steps": 2,
        "save_strategy": "no",
    }
    return CompatibilitySeq2SeqConfig(**defaults | options)


def trainer_of(kind: str, folder: Path, *, adapter: bool = True, **options: Any) -> CompatibilitySeq2SeqTrainer:
    data = ("train_dataset", "eval_dataset", "flips_dataset")
    more = {"train_dataset": Dataset.from_list(ROWS)} | {name: options.pop(name) for name in data if name in options}
    return CompatibilitySeq2SeqTrainer(
        model=model_of(kind, 2, adapter=adapter),
        old_model=model_of(kind, 1, adapter=adapter),
        args=config_of(folder, full_fine_tune=not adapter, **options),
        processing_class=TOKENIZER,
        **more,
    )
