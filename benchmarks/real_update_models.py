"""Rows and models of real updates: the old task adapter, the new bases, and refresh."""

# ruff: noqa: T201 - a benchmark prints

import argparse
import csv
import json
import random
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from real_update_runs import Stage, run
from updates.language_bases import rounded

import muscle_hf
from muscle_hf.files import write_text

MASSIVE = Path(__file__).parents[1] / "examples" / "data" / "massive"
TASK_LEARNING_RATE = 1e-3
PREDICT = [sys.executable, "-m", "muscle_hf", "predict"]


def rows_of(name: str, count: int | None, seed: int) -> list[dict[str, str]]:
    """Return some or all rows of MASSIVE: an utterance, and the first word of its intent."""
    with (MASSIVE / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        rows = [
            {"prompt": f"{row['text']}\n", "completion": row["intent"].partition("_")[0]}
            for row in csv.DictReader(file)
        ]
    random.Random(seed).shuffle(rows)  # noqa: S311 - no secret
    return rows[:count]


def train(base: Path, rows: Sequence[Mapping[str, str]], output: Path, adapter: Any = None, **options: Any) -> None:
    """Train a base, or an adapter on it, with TRL's own trainer, unless that is done; the tokenizer lies beside it."""
    if output.exists():
        return
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    working = output.with_name(f"{output.name}.part")
    shared: dict[str, Any] = {
        "per_device_train_batch_size": 8,
        "save_strategy": "no",
        "report_to": "none",
        "bf16": False,
        "use_cpu": True,
        "loss_type": "nll",
        "disable_tqdm": True,
        "gradient_checkpointing": False,
    }
    arguments = SFTConfig(output_dir=str(working), **shared, **options)
    trainer = SFTTrainer(
        model=str(base),
        args=arguments,
        train_dataset=Dataset.from_list([dict(row) for row in rows]),
        peft_config=adapter,
    )
    begun = time.process_time()
    trainer.train()
    trainer.save_model(str(working))
    working.rename(output)
    steps = trainer.state.global_step
    print(f"{output.name}: {steps} steps, {(time.process_time() - begun) / steps:.1f} s each", file=sys.stderr)


def train_adapter(base: Path, rows: Sequence[Mapping[str, str]], output: Path, epochs: int, seed: int) -> None:
    """Train a fresh task adapter, unless that is done."""
    from peft import LoraConfig

    lora = LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    train(base, rows, output, lora, num_train_epochs=epochs, learning_rate=TASK_LEARNING_RATE, seed=seed)


def prepare(output: Path, options: argparse.Namespace, seed: int) -> None:
    """Write the rows, train the old task adapter and make the new bases."""
    from muscle_hf.demo.data import read_sentences

    # Other rows than the update's, as where a year lies between both.
    start = options.rows if options.old_rows == "other" else 0
    old_rows, test = rows_of("train", start + options.rows, seed)[start:], rows_of("test", None, seed)
    if len(old_rows) < options.rows or len(test) < options.test_rows:
        raise SystemExit(
            f"MASSIVE has {len(rows_of('train', None, seed))} rows to train on here, update and old adapter together, "
            f"and {len(test)} to compare on: lower --rows or --test-rows"
        )
    output.mkdir(parents=True, exist_ok=True)
    _refuse_other_settings(output / "settings.json", options)
    texts = [{"prompt": row["prompt"]} for row in test[options.test_rows :][: options.texts]]
    files = {"train": rows_of("train", options.rows, seed), "test": test[: options.test_rows], "texts": texts}
    for name, rows in files.items():
        lines = (json.dumps(row) + "\n" for row in rows)
        write_text(output / f"massive-domains-{name}.jsonl", "".join(lines))
    smollm2 = options.models / "smollm2"
    train_adapter(smollm2, old_rows, output / "old-adapter", options.epochs, seed)
    if "trained-on" in options.updates:
        sentences = [{"text": sentence} for sentence in read_sentences()[: 8 * options.base_steps]]
        once = {"num_train_epochs": 1, "learning_rate": 5e-5, "seed": seed}
        train(smollm2, sentences, output / "smollm2-trained-on", **once)
    if "rounded" in options.updates and not (output / "smollm2-rounded").exists():
        working = output / "smollm2-rounded.part"
        rounded(smollm2, working, {"bits": 4, "group": 64})
        working.rename(output / "smollm2-rounded")


def _refuse_other_settings(file: Path, options: argparse.Namespace) -> None:
    """Refuse a folder whose old adapter and bases were made with other options: they are kept, not made anew."""
    asked = {name: getattr(options, name) for name in ("rows", "old_rows", "test_rows", "epochs", "base_steps")}
    if file.exists() and (kept := json.loads(file.read_text(encoding="utf-8"))) != asked:
        raise SystemExit(f"{file.parent} was made with {kept}, and {asked} is asked: take another --output")
    write_text(file, json.dumps(asked) + "\n")


def refresh(
    base: Path, output: Path, working: Path, old_answers: Path, epochs: int, seed: int
) -> tuple[list[Stage], dict[str, Any]]:
    """Train a fresh adapter on the old model's hard answers to the update's rows, without any label (UpgradeBench).

    Return what asking took, and the comparison of its answers with the old model's, as JSON.
    """
    stages: list[Stage] = []

    def answers(adapter: Path, name: str) -> list[dict[str, str]]:
        file = working / f"{name}.jsonl"
        data = str(output / f"massive-domains-{name}.jsonl")
        command = [*PREDICT, str(adapter), data, "--output", str(file), "--max-new-tokens", "4", "--batch-size", "16"]
        stages.extend(run(command, working / f"{name}.log"))
        return read(file)

    def read(file: Path) -> list[dict[str, str]]:
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]

    asked = read(output / "massive-domains-train.jsonl")
    answered = answers(output / "old-adapter", "train")
    rows = [
        {"prompt": row["prompt"], "completion": answer["prediction"]}
        for row, answer in zip(asked, answered, strict=True)
    ]
    train_adapter(base, rows, working / "adapter", epochs, seed)
    new, old = answers(working / "adapter", "test"), read(old_answers)
    compared = muscle_hf.compare(
        old=[row["prediction"] for row in old],
        new=[row["prediction"] for row in new],
        references=[row["reference"] for row in old],
    )
    return stages, json.loads(compared.to_json())
