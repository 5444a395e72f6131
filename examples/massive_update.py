"""Which intents does an update of a BERT-like classifier break, and how many does compatibility training keep?

    python examples/massive_update.py                # three seeds, seven minutes of one core, no network
    python examples/massive_update.py --old-base bert-base-uncased --new-base roberta-base --learning-rate 5e-5

The data are MASSIVE's intents as amazon-science split them for an update: the old model is trained on 1,000 texts, the
new one on these and 500 more, and both are tested on the same 4,000. Left to itself the script trains both from
scratch: two small BERTs of another size, seed, tokenizer and number of intents (one of the 60 is not among the old
1,000). Every strategy then starts from the new model and gets as many steps as the control, which goes on with plain
cross-entropy.
"""

import argparse
import csv
import math
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
import transformers
from datasets import Dataset
from scipy import stats
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    DataCollatorWithPadding,
    PreTrainedTokenizerFast,
    PrinterCallback,
    Trainer,
    TrainingArguments,
    set_seed,
)

import muscle_hf
from muscle_hf.classifier.config import CompatibilityClassifierConfig
from muscle_hf.classifier.trainer import CompatibilityClassifierTrainer

DATA = Path(__file__).parent / "data" / "massive"
SPECIAL = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
CONTROL = "more cross-entropy (control)"
STRATEGIES: dict[str, dict[str, Any]] = {
    "MUSCLE, Eq. 1": {},
    "Eq. 1 + cross-entropy": {"cross_entropy_weight": 0.5},
    "old better + cross-entropy (Xie 2021)": {"mask": "old_better", "cross_entropy_weight": 0.5},
    "focal distillation + cross-entropy (PCT)": {"mask": "none", "focal_beta": 5.0, "cross_entropy_weight": 0.5},
    "mean of both + cross-entropy": {"mask": "none", "teacher": "ensemble", "cross_entropy_weight": 0.5},
}


def rows(name: str, split: str | None = None, limit: int | None = None) -> list[dict[str, str]]:
    """Read one file; with `split`, only the rows that the old model was trained on ("old") or those added later."""
    with (DATA / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        found = [row for row in csv.DictReader(file) if split is None or row["split"] == split]
    # The files are in the order of intents, so that the first rows would all be of one.
    return found if limit is None else random.Random(0).sample(found, limit)  # noqa: S311


def small_bert(texts: Sequence[str], intents: Sequence[str], hidden_size: int) -> tuple[Any, Any]:
    """Make a BERT from scratch, and a tokenizer for it from the texts that it will be trained on."""
    # Bytes rather than WordPiece, whose trainer gives another vocabulary in every run.
    backend = Tokenizer(models.BPE())
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = list(SPECIAL.values())
    trainer = trainers.BpeTrainer(
        vocab_size=1200, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(texts, trainer)
    ends = [(SPECIAL[name], backend.token_to_id(SPECIAL[name])) for name in ("cls_token", "sep_token")]
    backend.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=64, **SPECIAL)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=2 * hidden_size,
        max_position_embeddings=64,
        # The default of large models, 0.02, makes so narrow a one learn slowly.
        initializer_range=0.1,
        pad_token_id=tokenizer.pad_token_id,
        id2label=dict(enumerate(intents)),
        label2id={name: index for index, name in enumerate(intents)},
    )
    return BertForSequenceClassification(config), tokenizer


def pretrained(base: str, intents: Sequence[str]) -> tuple[Any, Any]:
    """Load a base with a new head for these intents."""
    named = {"id2label": dict(enumerate(intents)), "label2id": {name: i for i, name in enumerate(intents)}}
    model = AutoModelForSequenceClassification.from_pretrained(base, dtype=torch.float32, **named)
    return model, AutoTokenizer.from_pretrained(base)


def options(folder: Path, seed: int, epochs: int, learning_rate: float) -> dict[str, Any]:
    """What all trainings have in common."""
    return {
        "output_dir": str(folder),
        "seed": seed,
        "num_train_epochs": epochs,
        "learning_rate": learning_rate,
        "per_device_train_batch_size": 32,
        "per_device_eval_batch_size": 250,
        "warmup_steps": 50,
        "weight_decay": 0.01,
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }


def fine_tune(model: Any, tokenizer: Any, train: list[dict[str, str]], arguments: dict[str, Any]) -> None:
    """Train with plain cross-entropy."""
    encoded = tokenizer([row["text"] for row in train], truncation=True)
    labels = [model.config.label2id[row["intent"]] for row in train]
    trainer = Trainer(
        model=model,
        args=TrainingArguments(**arguments),
        train_dataset=Dataset.from_dict({**encoded, "labels": labels}),
        data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()


@torch.no_grad()
def answers(model: Any, tokenizer: Any, test: list[dict[str, str]]) -> list[str]:
    """Return the name of the likeliest intent of each text."""
    model.eval()
    found: list[str] = []
    for start in range(0, len(test), 250):
        texts = [row["text"] for row in test[start : start + 250]]
        batch = tokenizer(texts, padding=True, truncation=True, return_tensors="pt").to(model.device)
        found += [model.config.id2label[index] for index in model(**batch).logits.argmax(-1).tolist()]
    return found


def update(seed: int, args: argparse.Namespace, folder: Path) -> tuple[list[str], list[str], dict[str, list[str]]]:
    """Train an old and a new model, the control and every strategy; return gold, old and all other answers."""
    old_train, train, test = (
        rows("train", "old", args.rows),
        rows("train", None, args.rows),
        rows(args.measure_on, None, args.rows),
    )
    trained = []
    for number, (base, data, width) in enumerate(((args.old_base, old_train, 64), (args.new_base, train, 96))):
        set_seed(1000 * number + seed)
        intents = sorted({row["intent"] for row in data})
        model, tokenizer = (
            pretrained(base, intents) if base else small_bert([row["text"] for row in data], intents, width)
        )
        fine_tune(model, tokenizer, data, options(folder, 1000 * number + seed, args.epochs, args.learning_rate))
        model.save_pretrained(folder / str(number))
        tokenizer.save_pretrained(folder / str(number))
        trained.append((model, tokenizer))
    old, new = trained
    found = {"new model (plain update)": answers(*new, test)}
    again = options(folder, seed, args.compatibility_epochs, args.learning_rate / 2)
    fine_tune(*new, train, again)
    found[CONTROL] = answers(*new, test)
    for name, strategy in STRATEGIES.items():
        trainer = CompatibilityClassifierTrainer(
            model=str(folder / "1"),
            old_model=str(folder / "0"),
            args=CompatibilityClassifierConfig(**again, **strategy, label_column="intent"),
            train_dataset=Dataset.from_list(train),
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        found[name] = answers(trainer.model, new[1], test)
    return [row["intent"] for row in test], answers(*old, test), found


def p_against_control(gold: list[str], old: list[str], one: list[str], control: list[str]) -> float:
    """Test on the same texts whether a model breaks fewer old right answers than the control does, or more."""
    kept = [[not (o == g and a != g) for g, o, a in zip(gold, old, found, strict=True)] for found in (control, one)]
    return muscle_hf.compare_correct(old=kept[0], new=kept[1]).p_value


def mean_and_margin(values: Sequence[float], scale: float, digits: int) -> str:
    """Return a mean over seeds, with the half width of its 95 % interval (Student's t) where there are several."""
    mean = f"{scale * float(np.mean(values)):{digits + 4}.{digits}f}"
    if len(values) == 1:
        return f"{mean}{'':{digits + 5}}"
    margin = stats.t.ppf(0.975, len(values) - 1) * scale * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return f"{mean} ± {margin:{digits + 2}.{digits}f}"


def main(argv: Sequence[str] | None = None) -> dict[str, list[muscle_hf.Comparison]]:
    """Run every seed, print each seed's table and the means, and return the comparisons with the old model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="how many updates, each with seeds of its own")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=20, help="of the old and the new model")
    parser.add_argument("--compatibility-epochs", type=int, default=10, help="of each strategy and of the control")
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="half of it for strategies and control")
    parser.add_argument("--old-base", help="a pretrained base for the old model, such as bert-base-uncased")
    parser.add_argument("--new-base", help="a pretrained base for the new model, such as roberta-base")
    parser.add_argument("--measure-on", default="test", choices=("dev", "test"), help="choose options on dev")
    parser.add_argument("--rows", type=int, help="take only so many rows of each file, to try the script out")
    args = parser.parse_args(argv)
    results: dict[str, list[muscle_hf.Comparison]] = {}
    p_values: dict[str, list[float]] = {}
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        with tempfile.TemporaryDirectory() as folder:
            gold, old, found = update(seed, args, Path(folder))
        print(f"\nseed {seed}: old model {np.mean(np.array(old) == np.array(gold)):.2%} of {len(gold)} right")  # noqa: T201
        print(f"{'':42} accuracy    NFR (95 % interval)    relative NFR   p against control")  # noqa: T201
        for name, of_model in found.items():
            comparison = muscle_hf.compare(old=old, new=of_model, references=gold)
            low, high = comparison.confidence_interval("negative_flip_rate")
            p_value = math.nan if name not in STRATEGIES else p_against_control(gold, old, of_model, found[CONTROL])
            results.setdefault(name, []).append(comparison)
            p_values.setdefault(name, []).append(p_value)
            print(  # noqa: T201
                f"{name:42} {comparison.new_accuracy:8.2%} {comparison.negative_flip_rate:7.2%} "
                f"({low:.2%} to {high:.2%}) {comparison.relative_negative_flip_rate:9.3f} {p_value:17.3g}"
            )
    print(f"\nmean of {args.seeds} seeds with its 95 % interval (Student's t); the change is that of each seed")  # noqa: T201
    print(f"{'':42} accuracy, %     NFR, %     NFR against control   relative NFR")  # noqa: T201
    for name, of_seeds in results.items():
        flips = [comparison.negative_flip_rate for comparison in of_seeds]
        columns = [
            mean_and_margin([comparison.new_accuracy for comparison in of_seeds], 100, 2),
            mean_and_margin(flips, 100, 2),
            mean_and_margin([o - c.negative_flip_rate for o, c in zip(flips, results[CONTROL], strict=True)], 100, 2),
            mean_and_margin([comparison.relative_negative_flip_rate for comparison in of_seeds], 1, 3),
        ]
        print(f"{name:42}", "  ".join(columns))  # noqa: T201
    return results


if __name__ == "__main__":
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    main()
