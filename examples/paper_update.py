"""An update of the paper (arXiv 2407.09435), in its setting: task adapters, compatibility adapter, control.

    python examples/paper_update.py llama-1-to-2 gsm8k                # the real models and data, on a GPU
    python examples/paper_update.py llama-1-to-2 gsm8k --offline      # tiny models and made-up rows, seconds of a CPU

Only the second one has been run: the project has no GPU, and reports no figure of these models.

The options are those of `configs/paper/`: table8.yaml for all, a file for each update, a file for each task. What the
script adds to `muscle-hf update` is what comes before it: the data set's rows as prompt and completion, and the task
adapter on the old base, unless you have one (--old-adapter). It then runs `muscle-hf update --config
OUTPUT/update.yaml`, a file that you may as well change and run yourself. Repeated after an interruption, it goes on.
"""

import argparse
import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
import yaml
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaTokenizer,
    PreTrainedTokenizerBase,
    set_seed,
)

from muscle_hf.cli import main as muscle_hf
from muscle_hf.errors import MuscleError
from muscle_hf.files import write_text
from muscle_hf.flips.scorers import compare_smooth
from muscle_hf.hub.failures import lookup_failures
from muscle_hf.readers.plain_rows import raw_rows
from muscle_hf.training.checkpoints.resuming import train_and_save
from muscle_hf.training.cross_entropy import CrossEntropyTrainer, TrainingProgress
from muscle_hf.training.quiet import quiet_libraries
from muscle_hf.update.options import read_options
from muscle_hf.update.rows import as_dataset, read_examples
from muscle_hf.update.splits import split_examples
from muscle_hf.update.training import clean

CONFIGS = Path(__file__).parent / "configs" / "paper"
UPDATES, TASKS = (sorted(file.stem for file in (CONFIGS / kind).glob("*.yaml")) for kind in ("updates", "tasks"))
# What --offline changes of the paper's setting: one epoch of a few rows.
OFFLINE = {
    "num_train_epochs": 1,
    "per_device_train_batch_size": 1,
    "warmup_steps": 1,
    "use_cpu": True,
    "model_init_kwargs": {"dtype": "float32"},
}

Row = dict[str, Any]


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


# The rows of a data set as they are trained on and asked. The prompts are ours: the paper does not print its own.


def piqa(row: Row) -> Row:
    """Ask for the likelier of two solutions."""
    choices = [row["sol1"].strip(), row["sol2"].strip()]
    return _choice(f"Question: {row['goal'].strip()}\nAnswer:", choices, int(row["label"]))


def hellaswag(row: Row) -> Row:
    """Ask for the likeliest of four endings; rows of WikiHow have marks such as [title] in their texts."""
    begun = f"{row['activity_label']}: {row['ctx_a']} {row['ctx_b'].capitalize()}"
    return _choice(_without_marks(begun), [_without_marks(ending) for ending in row["endings"]], int(row["label"]))


def gsm8k(row: Row) -> Row:
    """Ask for a solution, which ends in #### and a number."""
    return {"prompt": f"Question: {row['question']}\nAnswer:", "completion": f" {row['answer']}"}


def samsum(row: Row) -> Row:
    """Ask for a summary of a dialogue."""
    dialogue = "\n".join((row["dialogue"] or "").splitlines())
    return {
        "prompt": f"Summarize the dialogue.\n\n{dialogue}\n\nSummary:",
        "completion": f" {(row['summary'] or '').strip()}",
    }


def _choice(prompt: str, choices: list[str], right: int) -> Row:
    return {"prompt": prompt, "completion": f" {choices[right]}", "choices": choices}


def _without_marks(text: str) -> str:
    return " ".join(re.sub(r"\[[^\]]*\]", "", text.replace(" [title]", ".")).split())


AS_ASKED: dict[str, Callable[[Row], Row]] = {"piqa": piqa, "hellaswag": hellaswag, "gsm8k": gsm8k, "samsum": samsum}


def prepared(rows: Iterable[Row], task: str) -> list[Row]:
    """Write rows as they are asked; those with an empty answer, or with one choice twice, are left out and counted."""
    asked = [AS_ASKED[task](row) for row in rows]
    kept = [
        row
        for row in asked
        if row["completion"].strip() and len(set(row.get("choices", ()))) == len(row.get("choices", ()))
    ]
    if len(kept) < len(asked):
        _say(f"{len(asked) - len(kept)} of {len(asked)} rows have no answer, or one choice twice, and are left out")
    return kept


# What --offline takes in place of data and models: made up for this script.


def made_up_rows(task: str, numbers: Iterable[int]) -> list[Row]:
    """Make rows with the columns of a data set; they are no part of it."""
    rows: dict[str, Callable[[int], Row]] = {
        "piqa": lambda n: {
            "goal": f"How do I open jar {n}?",
            "sol1": f"Turn the lid of jar {n} to the left.",
            "sol2": f"Turn jar {n} over and wait.",
            "label": n % 2,
        },
        "hellaswag": lambda n: {
            "activity_label": "Making tea",
            "ctx_a": f"[header] How to make {n} cups of tea [title] Boil the water.",
            "ctx_b": "she",
            "endings": ["pours it over the leaves.", "reads it aloud.", f"sells {n} cups.", "paints the wall."],
            "label": str(n % 4),
        },
        "gsm8k": lambda n: {
            "question": f"Ann has {n} apples and buys 7 more. How many has she?",
            "answer": f"She has {n} + 7 = <<{n}+7={n + 7}>>{n + 7}.\n#### {n + 7}",
        },
        "samsum": lambda n: {
            "dialogue": f"Ann: Bus {n} at noon?\r\nBen: Yes, see you there.",
            "summary": f"Ann and Ben take bus {n} at noon.",
        },
    }
    return [rows[task](number) for number in numbers]


def tiny_tokenizer(name: str, texts: Sequence[str], added_tokens: Sequence[str] = ()) -> PreTrainedTokenizerBase:
    """Make a tokenizer of a class of transformers from a few texts."""
    if name == "LlamaTokenizer":  # with bytes for unknown characters, which no trainer makes
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.Metaspace()
        backend.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=150, show_progress=False))
        learned = json.loads(backend.to_str())["model"]
        tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *learned["vocab"]]
        vocabulary = {token: number for number, token in enumerate(tokens)}
        return LlamaTokenizer(vocab=vocabulary, merges=[tuple(pair) for pair in learned["merges"]])
    tokenizer = getattr(transformers, name)().train_new_from_iterator(texts, 400, show_progress=False)
    tokenizer.add_tokens(list(added_tokens))
    return tokenizer


def save_tiny_base(folder: Path, kind: Row, texts: Sequence[str], seed: int) -> None:
    """Save a base of an architecture with random weights, and its tokenizer."""
    tokenizer = tiny_tokenizer(kind["tokenizer"], texts, kind.get("added_tokens", ()))
    config = AutoConfig.for_model(
        kind["model_type"],
        vocab_size=len(tokenizer) + kind.get("padding_rows", 0),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=2048,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    set_seed(seed)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


# The run


def options_of(update: str, task: str) -> Row:
    """Put the files together: the paper's table, the update, the task, and what holds for this task in this update."""
    options: Row = {}
    for file in (CONFIGS / "table8.yaml", CONFIGS / "updates" / f"{update}.yaml", CONFIGS / "tasks" / f"{task}.yaml"):
        options |= yaml.safe_load(file.read_text(encoding="utf-8"))
    return options | options.pop("for_task", {}).get(task, {})


def train_old_adapter(config: Path, output_dir: Path, lora: Row) -> None:
    """Train the task adapter on the old base, on the rows and with the options of the new one."""
    options = read_options(["--config", str(config), "--output-dir", str(output_dir)])
    settings = options.settings
    rows, test = (
        read_examples(str(name), None, default_split="train", choices=settings.kind == "choice")[0]
        for name in (settings.dataset, settings.test_dataset)
    )
    splits = split_examples(
        rows, test_share=0, validation_share=settings.validation_share, seed=settings.split_seed, test=test
    )
    folder = Path(settings.old_adapter)
    arguments = options.cross_entropy_config(folder)
    loaded = {"dtype": torch.float32} | dict(options.compatibility_config(folder).model_init_kwargs or {})
    with lookup_failures("load the old base", str(settings.old_base)):
        model = AutoModelForCausalLM.from_pretrained(settings.old_base, **loaded)
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(settings.old_base)
    set_seed(arguments.seed)
    trainer = CrossEntropyTrainer(
        model=get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **lora)),
        args=arguments,
        train_dataset=as_dataset(splits.training),
        eval_dataset=as_dataset(splits.validation),
        processing_class=tokenizer,
        callbacks=[TrainingProgress("old task adapter")],
    )
    train_and_save(trainer)
    clean(folder)


def print_rouge(folder: Path) -> None:
    """Print how the summaries of each model compare with the old model's: what the paper measures on SAMSum."""
    rows = {}
    for path in folder.glob("*.jsonl"):
        with path.open(encoding="utf-8") as file:
            rows[path.stem] = [json.loads(line) for line in file]
    texts = {name: [row["prediction"] for row in of_model] for name, of_model in rows.items()}
    references = [row["reference"] for row in rows["old"]]
    _say("\nROUGE-1 in percent, against the old model's; m_g and m_r: mean gain and mean regression")
    _say(f"{'':15}{'ROUGE-1':>9}{'NFR':>7}{'PFR':>7}{'m_g':>7}{'m_r':>7}")
    for name in (name for name in ("old", "new", "control", "compatibility") if name in texts):
        found = compare_smooth(old=texts["old"], new=texts[name], references=references, scorer="rouge1")
        figures = (found.negative_flip_rate, found.positive_flip_rate, found.mean_gain, found.mean_regression)
        shown = [f"{100 * figure:7.2f}" for figure in figures] if name != "old" else []
        _say(f"{name:15}{100 * found.new_mean:9.2f}{''.join(shown)}")


def run(update: str, task: str, output_dir: Path, *, offline: bool, old_adapter: str | None) -> int:
    """Prepare data and old adapter, and run the update; return its exit code."""
    options = options_of(update, task)
    lora, tiny = options.pop("lora"), options.pop("offline")
    files: dict[str, list[Row]] = {}
    for part, numbers in (("", range(16)), ("test_", range(100, 106))):
        source, split = options.pop(f"{part}dataset"), options.pop(f"{part or 'dataset_'}split")
        rows = made_up_rows(task, numbers) if offline else raw_rows(source, split, split)
        options[f"{part}dataset"] = str(output_dir / f"{part}rows.jsonl")
        files[options[f"{part}dataset"]] = prepared(rows, task)
    if offline:
        options |= OFFLINE | {f"{side}_base": str(output_dir / f"tiny-{side}-base") for side in ("old", "new")}
    options["old_adapter"] = old_adapter or str(output_dir / "old-task-adapter")
    config, text = output_dir / "update.yaml", yaml.safe_dump(options, sort_keys=False, allow_unicode=True)
    if config.exists() and config.read_text(encoding="utf-8") != text:
        raise SystemExit(f"{config} is of another run: choose another --output-dir, or remove that folder.")
    output_dir.mkdir(parents=True, exist_ok=True)
    write_text(config, text)
    for file, asked in files.items():
        write_text(Path(file), "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in asked))
    if offline:
        texts = [row["prompt"] + row["completion"] for row in files[options["dataset"]]]
        for seed, side in enumerate(("old", "new")):
            save_tiny_base(Path(options[f"{side}_base"]), tiny[side], texts, seed)
    # Its configuration is the last file that an adapter gets.
    if old_adapter is None and not (output_dir / "old-task-adapter" / "adapter_config.json").exists():
        _say("the old task adapter: training")
        train_old_adapter(config, output_dir / "update", lora)
    code = muscle_hf(["update", "--config", str(config), "--output-dir", str(output_dir / "update")])
    if code == 0 and task == "samsum":
        print_rouge(output_dir / "update" / "answers")
    if code == 0 and offline:
        _say("\nMade of tiny models with random weights and made-up rows: these figures say nothing.")
    return code


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("update", choices=UPDATES)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--offline", action="store_true", help="tiny models of the same architectures, made-up rows")
    parser.add_argument(
        "--old-adapter", metavar="ADAPTER", help="your task adapter on the old base (default: trained)"
    )
    parser.add_argument("--output-dir", type=Path, metavar="DIR", help="folder for everything (default: UPDATE-TASK)")
    args = parser.parse_args(argv)
    folder = args.output_dir or Path(f"{args.update}-{args.task}")
    quiet_libraries()
    try:
        return run(args.update, args.task, folder, offline=args.offline, old_adapter=args.old_adapter)
    except MuscleError as error:
        raise SystemExit(f"error: {error}") from None
    except KeyboardInterrupt:
        _say("Interrupted; the same command goes on.")
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
