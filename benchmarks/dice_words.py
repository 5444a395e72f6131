"""Which words were capitalised? Dice loss where one word in thirty is of the class that matters, on GSM8K's questions.

    python benchmarks/dice_words.py --data gsm8k
    python benchmarks/dice_words.py
    python benchmarks/dice_words.py --results benchmarks/dice_words_minilm.json

The folder has the train.jsonl and test.jsonl of GSM8K. The sentences of its questions are lower-cased, and a word is
"capitalised" where it began with a capital inside of one: labels for free. The update is one by data and size: an
encoder of one layer that saw 750 questions, and one of two layers that saw 1,500, both from scratch, or any two bases
(`--bases real-models/minilm-l3 real-models/minilm-l6`, of benchmarks/real_models.py). All rows start from the new
model and take the same number of steps. Balanced sampling takes of each sentence its capitalised words and about as
many others, drawn anew each time. Finished cells are kept in `dice_words.json`, or the file of `--results`, from which
the table is made; a run with other settings is refused there. `--smoke` tries all of it on made-up questions.
"""

# ruff: noqa: T201 - a benchmark prints

import argparse
import json
import random
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, disable_progress_bars
from scipy import stats
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForTokenClassification,
    AutoTokenizer,
    BertConfig,
    BertModel,
    DataCollatorForTokenClassification,
    PreTrainedTokenizerFast,
    PrinterCallback,
    Trainer,
    TrainingArguments,
    set_seed,
)
from transformers.utils import logging

import muscle_hf
from muscle_hf.files import write_text

Row = dict[str, list[Any]]
CELLS = Path(__file__).parent / "dice_words.json"
NAMES = ["other", "capitalised"]
IGNORED = -100
OPENING, CLOSING = "\"'($\u201c\u2018", "\"')\u201d\u2019"
FOCAL = {"mask": "none", "focal_beta": 5.0, "cross_entropy_weight": 0.5, "teacher_cache": "memory"}
DICE = FOCAL | {"dice_weight": 0.5, "dice_ignored_classes": ["other"]}
BALANCED = ("control-balanced", "focal-balanced")
TITLES = {
    "plain": "new model, plain update",
    "control": "control: cross-entropy, same steps more",
    "control-balanced": "control: the same, balanced sampling",
    "focal": "focal distillation + cross-entropy .5",
    "focal-balanced": "the same, balanced sampling",
    "dice-example": "focal distillation + (cross-entropy and dice by example) .5",
    "dice-batch": "focal distillation + (cross-entropy and dice by batch) .5",
}
OPTIONS = {
    "focal": FOCAL,
    "focal-balanced": FOCAL,
    "dice-example": DICE,
    "dice-batch": DICE | {"dice_level": "batch"},
}
BATCH = 32
FULL = {
    "old_questions": 750,
    "new_questions": 1500,
    "test_questions": 600,
    "old_steps": 120,
    "new_steps": 160,
    "steps": 80,
}
SMOKE = {"old_questions": 40, "new_questions": 60, "test_questions": 40, "old_steps": 6, "new_steps": 12, "steps": 2}


def rows_of(question: str) -> list[Row]:
    """Return a row for each sentence: its words in lower case, and for each word the number of its class."""
    rows: list[Row] = []
    is_first = True
    for word in question.split():
        if is_first:
            rows.append({"tokens": [], "tags": []})
        rows[-1]["tokens"].append(word.lower())
        rows[-1]["tags"].append(int(word.lstrip(OPENING)[:1].isupper() and not is_first))
        is_first = word.rstrip(CLOSING)[-1:] in set(".?!")
    return rows


def read(folder: Path, name: str) -> list[str]:
    """Read the questions of a part of GSM8K, in an order of their own."""
    with (folder / f"{name}.jsonl").open(encoding="utf-8") as file:
        questions = [json.loads(line)["question"] for line in file]
    random.Random(0).shuffle(questions)  # noqa: S311 - no secret
    return questions


def made_up(number: int) -> list[str]:
    """Make questions that look like GSM8K's."""
    chance = random.Random(0)  # noqa: S311 - no secret
    people, things = ("Ann", "Bob", "Eve", "Sam"), ("pens", "eggs", "cars", "bags")
    return [
        f"How many {chance.choice(things)} has {chance.choice(people)}? "
        f"Then {chance.choice(people)} buys {chance.choice(things)}."
        for _ in range(number)
    ]


def make_bases(folder: Path, rows: Sequence[Row]) -> tuple[Path, Path]:
    """Make two encoders from scratch, of one and of two layers, with one tokenizer."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        (" ".join(row["tokens"]) for row in rows),
        trainers.BpeTrainer(vocab_size=2000, special_tokens=["[PAD]"], initial_alphabet=alphabet, show_progress=False),
    )
    whole = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=256)
    whole.pad_token = "[PAD]"  # noqa: S105 - no secret
    for seed, (name, layers) in enumerate((("old", 1), ("new", 2))):
        set_seed(seed)
        config = BertConfig(
            vocab_size=len(whole),
            hidden_size=64,
            num_hidden_layers=layers,
            num_attention_heads=4,
            intermediate_size=128,
            max_position_embeddings=256,
            initializer_range=0.1,
            pad_token_id=whole.pad_token_id,
        )
        BertModel(config, add_pooling_layer=False).save_pretrained(folder / name)
        whole.save_pretrained(folder / name)
    return folder / "old", folder / "new"


def balanced(rows: Sequence[Row], number: int, seed: int) -> list[Row]:
    """Draw rows with all of their capitalised words and as many others, in expectation; the rest is not trained on."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    tags = [tag for row in rows for tag in row["tags"]]
    share = sum(tags) / (len(tags) - sum(tags))
    drawn = [chance.choice(rows) for _ in range(number)]
    return [
        row | {"tags": [tag if tag or chance.random() < share else IGNORED for tag in row["tags"]]} for row in drawn
    ]


def arguments(folder: Path, seed: int, steps: int, rate: float) -> dict[str, Any]:
    """Return the training arguments of all models."""
    return {
        "output_dir": str(folder / "training"),
        "seed": seed,
        "max_steps": steps,
        "learning_rate": rate,
        "warmup_steps": 10,
        "lr_scheduler_type": "linear",
        "per_device_train_batch_size": BATCH,
        "train_sampling_strategy": "group_by_length",
        "use_cpu": True,
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }


def encoded(tokenizer: Any, rows: Sequence[Row]) -> Dataset:
    """Encode words, whose class stands at their first token."""
    columns: dict[str, list[Any]] = {"input_ids": [], "attention_mask": [], "labels": []}
    for row in rows:
        tokens = tokenizer(row["tokens"], is_split_into_words=True, truncation=True)
        places = tokens.word_ids()
        labels = [
            IGNORED if place is None or place == before else row["tags"][place]
            for before, place in zip([None, *places], places, strict=False)
        ]
        for name, values in (*tokens.items(), ("labels", labels)):
            if name in columns:
                columns[name].append(values)
    return Dataset.from_dict(columns)


def train_plainly(start: Path, rows: Sequence[Row], options: Mapping[str, Any], kept: Path | None = None) -> Any:
    """Train a base or a model with cross-entropy, and keep it."""
    set_seed(options["seed"])
    tokenizer = AutoTokenizer.from_pretrained(start)
    names = {"id2label": dict(enumerate(NAMES)), "label2id": {name: number for number, name in enumerate(NAMES)}}
    model = AutoModelForTokenClassification.from_pretrained(start, dtype=torch.float32, **names)
    trainer = Trainer(
        model=model,
        args=TrainingArguments(**options),
        train_dataset=encoded(tokenizer, rows),
        data_collator=DataCollatorForTokenClassification(tokenizer),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    if kept is not None:
        model.save_pretrained(kept)
        tokenizer.save_pretrained(kept)
    return model


@torch.inference_mode()
def answers(model: Any, tokenizer: Any, rows: Sequence[Row]) -> tuple[list[str], list[str]]:
    """Return the answer of a model to each word, and the right one."""
    model.eval()
    data, collate = encoded(tokenizer, rows), DataCollatorForTokenClassification(tokenizer)
    said: list[int] = []
    right: list[int] = []
    for start in range(0, len(data), 64):
        batch = collate([data[index] for index in range(start, min(start + 64, len(data)))])
        labels = batch.pop("labels")
        kept = labels != IGNORED
        said += model(**batch).logits.argmax(-1)[kept].tolist()
        right += labels[kept].tolist()
    return [NAMES[number] for number in said], [NAMES[number] for number in right]


def figures(old: list[str], new: list[str], right: list[str]) -> dict[str, float]:
    """Compare answers with the old model's; rates of capitalised words beside those of all."""
    compared = muscle_hf.compare(old=old, new=new, references=right)
    said, gold = (np.array([name == NAMES[1] for name in names]) for names in (new, right))
    both = int((said & gold).sum())
    return {
        "accuracy": compared.new_accuracy,
        "negative_flip_rate": compared.negative_flip_rate,
        "balanced_negative_flip_rate": compared.balanced_negative_flip_rate,
        "recall": both / gold.sum(),
        "precision": both / said.sum() if said.any() else float("nan"),
        "f1": 2 * both / (said.sum() + gold.sum()),
    }


def run(seed: int, parts: Mapping[str, list[Row]], sizes: Mapping[str, int], bases: Any, keep: Any) -> None:
    """Make all rows of a seed, and give each to `keep` with its figures."""
    test = parts["test"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        old_base, new_base = bases or make_bases(folder, parts["new"])
        rates = (5e-5, 5e-5) if bases else (3e-3, 1e-3)
        first, new = folder / "old-model", folder / "new-model"
        plain = arguments(folder, seed + 1000, sizes["old_steps"], rates[0])
        old_model = train_plainly(old_base, parts["old"], plain, first)
        plain = arguments(folder, seed, sizes["new_steps"], rates[0])
        new_model = train_plainly(new_base, parts["new"], plain, new)
        tokenizer = AutoTokenizer.from_pretrained(new)
        old, right = answers(old_model, AutoTokenizer.from_pretrained(first), test)
        keep("old", figures(old, old, right), 0.0)
        keep("plain", figures(old, answers(new_model, tokenizer, test)[0], right), 0.0)
        options = arguments(folder, seed, sizes["steps"], rates[1])
        for row in TITLES:
            if row == "plain":
                continue
            begun = time.process_time()
            rows = balanced(parts["new"], sizes["steps"] * BATCH, seed) if row in BALANCED else parts["new"]
            if row in OPTIONS:
                model = train_compatibly(new, first, rows, options | OPTIONS[row])
            else:
                model = train_plainly(new, rows, options)
            keep(row, figures(old, answers(model, tokenizer, test)[0], right), time.process_time() - begun)


def train_compatibly(new: Path, old: Path, rows: Sequence[Row], options: Mapping[str, Any]) -> Any:
    """Train the new model on with the trainer of this package."""
    trainer = muscle_hf.CompatibilityClassifierTrainer(
        model=str(new),
        old_model=str(old),
        args=muscle_hf.CompatibilityClassifierConfig(**options, text_column="tokens", label_column="tags"),
        train_dataset=Dataset.from_list(list(rows)),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return trainer.model


def shown(values: Sequence[float]) -> str:
    """Give a mean in percent, with the half width of Student's 95 % interval over seeds."""
    mean = f"{100 * float(np.mean(values)):.2f}"
    if len(values) < 2:
        return mean
    half = stats.t.ppf(0.975, len(values) - 1) * float(np.std(values, ddof=1)) / len(values) ** 0.5
    return f"{mean} ± {100 * half:.2f}"


def table(kept: Mapping[str, Any]) -> str:
    """Return the table of the kept cells."""
    cells = kept["cells"]
    columns = {
        "accuracy": "accuracy, %",
        "recall": "recall, %",
        "precision": "precision, %",
        "f1": "F1, %",
        "negative_flip_rate": "NFR, %",
        "balanced_negative_flip_rate": "balanced NFR, %",
    }
    differences = {
        f"{title} minus {against}": (name, against)
        for against in ("control", "focal")
        for name, title in (("f1", "F1"), ("balanced_negative_flip_rate", "balanced NFR"))
    }
    head = ["", "seeds", *columns.values(), *differences]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row, title in ({"old": "old model"} | TITLES).items():
        seeds = [seed for seed in cells if row in cells[seed]]
        if not seeds:
            continue
        values = [shown([cells[seed][row][name] for seed in seeds]) for name in columns]
        if row == "old":
            values[-2:] = ["", ""]
        for name, against in differences.values():
            minus = [cells[seed][row][name] - cells[seed][against][name] for seed in seeds if against in cells[seed]]
            values.append(shown(minus) if minus and row not in ("old", against) else "")
        lines.append(f"| {' | '.join([title, str(len(seeds)), *values])} |")
    return "\n".join(lines)


def work(options: argparse.Namespace, path: Path) -> dict[str, Any]:
    """Run what is missing, and return all cells."""
    sizes = SMOKE if options.smoke else FULL
    # No path of somebody's machine is kept.
    settings = {"sizes": sizes, "bases": [base.name for base in options.bases] if options.bases else "from scratch"}
    kept: dict[str, Any] = {"settings": settings, "cells": {}}
    if path.exists():
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["settings"] != settings:
            raise SystemExit(f"{path} was made with other settings: {kept['settings']}. Remove it to run it again.")
    if options.smoke:
        questions = {"train": made_up(sizes["new_questions"]), "test": made_up(sizes["test_questions"])}
    else:
        questions = {name: read(options.data, name) for name in ("train", "test")}
    parts = {
        name: [row for question in questions[source][: sizes[f"{name}_questions"]] for row in rows_of(question)]
        for name, source in (("old", "train"), ("new", "train"), ("test", "test"))
    }
    tags = [tag for row in parts["test"] for tag in row["tags"]]
    kept |= {"test_words": len(tags), "test_capitalised": sum(tags)}
    for seed in options.seeds:
        if TITLES.keys() <= kept["cells"].get(str(seed), {}).keys():
            continue
        cells = kept["cells"][str(seed)] = {}

        def keep(row: str, found: dict[str, float], seconds: float, seed: int = seed, cells: Any = cells) -> None:
            cells[row] = {name: round(float(value), 6) for name, value in found.items()}
            cells[row]["seconds"] = round(seconds, 1)
            write_text(path, json.dumps(kept, indent=1) + "\n")
            print(f"seed {seed}, {row}: F1 {found['f1']:.3f}", flush=True)

        run(seed, parts, sizes, options.bases, keep)
    return kept


def main(given: Sequence[str] | None = None) -> None:
    """Run what is asked for, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with train.jsonl and test.jsonl of GSM8K; none: the table")
    parser.add_argument("--bases", type=Path, nargs=2, metavar=("OLD", "NEW"), help="encoders, in place of made ones")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--results", type=Path, default=CELLS)
    parser.add_argument("--smoke", action="store_true", help="made-up questions, few steps, nothing kept")
    options = parser.parse_args(given)
    torch.set_num_threads(1)
    disable_progress_bars()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    if options.smoke:
        options.seeds = [0]
        with tempfile.TemporaryDirectory() as folder:
            kept = work(options, Path(folder) / "cells.json")
    elif options.data is not None:
        kept = work(options, options.results)
    else:
        kept = json.loads(options.results.read_text(encoding="utf-8"))
    share = kept["test_capitalised"] / kept["test_words"]
    print(f"{kept['test_words']:,} test words, {share:.2%} of them capitalised inside a sentence\n\n{table(kept)}")


if __name__ == "__main__":
    main()
