"""What wins back broken answers? Flip pairs, step pairs and their controls on arithmetic in steps, with equal steps.

    python benchmarks/step_credit.py                      # makes the cells that are missing, and prints the table

Two small models learn arithmetic modulo 7 from data with different mistakes (`step_credit_task.py`). The new one is
more accurate, and breaks some of the old one's answers; those to *training* questions become pairs. From the new model
each row trains all weights for the same number of steps; test questions are others, and kept out of the pairs by key.
The learning rate of a row is the one of its few with the lowest negative flip rate for the tuning seed, which is in no
figure. A cell, one row for one seed, is a file in `step_credit_results`, so that a run goes on where it was.
"""

# ruff: noqa: T201 - a benchmark prints

import argparse
import copy
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from scipy import stats
from step_credit_task import (
    LONGEST,
    Question,
    answers,
    first_mistake,
    is_right,
    mistakes,
    questions,
    tokenizer,
    trained,
)
from transformers import LlamaForCausalLM
from trl import DPOConfig, DPOTrainer, SFTConfig

import muscle_hf
from muscle_hf.files import write_text
from muscle_hf.text import markdown_table
from muscle_hf.training.cross_entropy import CrossEntropyTrainer
from muscle_hf.training.quiet import quiet_libraries

RESULTS = Path(__file__).parent / "step_credit_results"
TUNING_SEED, SEEDS = 100, tuple(range(6))
DPO_RATES, RATES = (3e-6, 1e-5, 3e-5, 1e-4), (1e-4, 3e-4, 1e-3)


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    old_steps: int = 600
    new_steps: int = 700
    train_questions: int = 1_500
    test_questions: int = 1_500
    steps: int = 60
    batch: int = 16
    rollouts: int = 8


SMOKE = Size(old_steps=60, new_steps=60, train_questions=300, test_questions=40, steps=2, batch=4)


@dataclass(frozen=True)
class Cell:
    """What a row came to for a seed."""

    row: str
    seed: int
    learning_rate: float
    n: int
    accuracy: float
    negative_flip_rate: float
    positive_flip_rate: float
    rows: int
    """Pairs, or texts, that it was trained on."""
    seconds: float
    """Of processor time, for the training alone."""
    facts: dict[str, Any]
    """Of the seed: what is the same for all of its rows."""
    size: dict[str, int]


@dataclass(frozen=True)
class World:
    """Both models of a seed, and what is learned from."""

    seed: int
    size: Size
    old: LlamaForCausalLM
    new: LlamaForCausalLM
    test: list[Question]
    old_test: list[str]
    old_right: Dataset
    flips: Dataset
    random: Dataset
    rest: Dataset
    step: Dataset
    facts: dict[str, Any]


def made(seed: int, size: Size) -> World:
    """Train the models of a seed, compare their answers to training questions, and make pairs."""
    wrong_old, wrong_new = mistakes(seed)
    old = trained(wrong_old, 2 * seed, size.old_steps)
    new = trained(wrong_new, 2 * seed + 1, size.new_steps)
    draw = np.random.default_rng((seed, 3))
    test = questions(size.test_questions, draw)
    train = questions(size.train_questions, draw, test)
    prompts, references = [q.prompt for q in train], [q.reference for q in train]
    held_out = [q.prompt for q in test]
    said = [answers(model, prompts) for model in (old, new)]
    right = np.array([[is_right(a, r) for a, r in zip(texts, references, strict=True)] for texts in said])
    known, broken = (np.flatnonzero(which).tolist() for which in (right[0], right[0] & ~right[1]))
    options: dict[str, Any] = {"max_new_tokens": LONGEST, "seed": seed, "batch_size": 500, "show_progress": False}
    options["tie_margin"] = 0.0

    asked = sorted({*broken, *range(3 * len(broken))} & {*range(len(train))})
    sampled = muscle_hf.sample_answers(new, tokenizer(), [prompts[i] for i in asked], samples=size.rollouts, **options)
    samples: list[list[str] | None] = [None] * len(train)
    for place, texts in zip(asked, sampled, strict=True):
        samples[place] = texts
    flips = muscle_hf.flip_pairs(
        prompts=prompts,
        old=said[0],
        new=said[1],
        references=references,
        judge=is_right,
        samples=samples,
        held_out=held_out,
    )
    values = muscle_hf.step_values(
        new,
        tokenizer(),
        [prompts[i] for i in broken],
        [said[1][i] for i in broken],
        judge=is_right,
        references=[references[i] for i in broken],
        rollouts=size.rollouts,
        **options,
    )
    truth = [first_mistake(said[1][i], references[i]) for i in broken]
    found = {
        rule: float(np.mean([each.pit_by(rule) == pit for each, pit in zip(values, truth, strict=True)]))
        for rule in ("least_advantage", "lowest_value", "first_all_fail")
    }
    rest, step = (muscle_hf.step_pairs(values, end=end, held_out=held_out) for end in ("rest", "step"))
    return World(
        seed=seed,
        size=size,
        old=old,
        new=new,
        test=test,
        old_test=answers(old, held_out),
        old_right=_texts([prompts[i] for i in known], [said[0][i] for i in known]),
        flips=flips,
        random=_random_pairs(prompts, references, samples, len(flips)),
        rest=rest,
        step=step,
        facts={
            "flips": len(broken),
            "flip_pairs": len(flips),
            "chosen_from_samples": flips["chosen_from"][:].count("new_sample"),
            "step_pairs": len(rest),
            "pits_found": found,
        },
    )


def _texts(prompts: Sequence[str], completions: Sequence[str]) -> Dataset:
    return Dataset.from_dict({"prompt": list(prompts), "completion": list(completions)})


def _random_pairs(
    prompts: Sequence[str], references: Sequence[str], samples: Sequence[Sequence[str] | None], count: int
) -> Dataset:
    """Pair a right sample of the new model with a wrong one, whatever the old model said."""
    rows = []
    for prompt, reference, texts in zip(prompts, references, samples, strict=True):
        sides = {is_right(text, reference): text for text in reversed(list(texts or ()))}
        if len(sides) == 2:
            rows.append({"prompt": prompt, "chosen": sides[True], "rejected": sides[False]})
    order = np.random.default_rng(0).permutation(len(rows))[:count]
    return Dataset.from_list([rows[place] for place in order])


def _options(world: World, rate: float, folder: str) -> dict[str, Any]:
    return {
        "output_dir": folder,
        "max_steps": world.size.steps,
        "per_device_train_batch_size": world.size.batch,
        "learning_rate": rate,
        "seed": world.seed,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "logging_steps": world.size.steps,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }


def _sft(rows: Dataset, world: World, model: Any, rate: float, folder: str) -> Any:
    args = SFTConfig(completion_only_loss=True, **_options(world, rate, folder))
    return CrossEntropyTrainer(model, args=args, train_dataset=rows, processing_class=tokenizer())


def _dpo(kind: type[DPOTrainer], rows: Dataset, world: World, model: Any, rate: float, folder: str) -> Any:
    args = DPOConfig(**_options(world, rate, folder))
    reference = copy.deepcopy(world.new)
    return kind(model, reference, args=args, train_dataset=rows, processing_class=tokenizer())


def _compatibility(rows: Dataset, world: World, model: Any, rate: float, folder: str) -> Any:
    options = _options(world, rate, folder)
    args = muscle_hf.CompatibilityConfig(full_fine_tune=True, completion_only_loss=True, **options)
    old = copy.deepcopy(world.old)
    return muscle_hf.CompatibilityTrainer(
        model, old_model=old, args=args, train_dataset=rows, processing_class=tokenizer()
    )


def _chosen(pairs: Dataset) -> Dataset:
    return _texts(pairs["prompt"][:], pairs["chosen"][:])


@dataclass(frozen=True)
class Row:
    """A row of the table: its learning rates, its data and its trainer."""

    title: str
    rates: tuple[float, ...]
    data: Callable[[World], Dataset]
    trainer: Callable[..., Any]


ROWS = {
    "sft_flips": Row("fine-tuning on the chosen texts of flip pairs", RATES, lambda w: _chosen(w.flips), _sft),
    "sft_steps": Row("fine-tuning on the chosen texts of step pairs", RATES, lambda w: _chosen(w.rest), _sft),
    "eq1": Row("Eq. 1 on the old model's right answers", RATES, lambda w: w.old_right, _compatibility),
    "dpo_random": Row("DPO, random right and wrong samples", DPO_RATES, lambda w: w.random, partial(_dpo, DPOTrainer)),
    "dpo_flips": Row("DPO, flip pairs", DPO_RATES, lambda w: w.flips, partial(_dpo, DPOTrainer)),
    "dpo_steps": Row('DPO, step pairs (end="rest")', DPO_RATES, lambda w: w.rest, partial(_dpo, DPOTrainer)),
    "step_dpo": Row(
        'StepDPOTrainer, step pairs (end="step")', DPO_RATES, lambda w: w.step, partial(_dpo, muscle_hf.StepDPOTrainer)
    ),
}
NEW = "new"
TITLES = {NEW: "the new model as it is"} | {name: row.title for name, row in ROWS.items()}


def cell(world: World, name: str, rate: float) -> Cell:
    """Train a row from the new model, and compare it with the old one on test questions."""
    model, start, data = copy.deepcopy(world.new), time.process_time(), None
    if name != NEW:
        data = ROWS[name].data(world)
        with tempfile.TemporaryDirectory() as folder:
            ROWS[name].trainer(data, world, model.train(), rate, folder).train()
    seconds = time.process_time() - start
    # Trainers leave a model with a head of their own.
    plain = LlamaForCausalLM(model.config).eval()
    plain.load_state_dict(model.state_dict())
    said = answers(plain, [question.prompt for question in world.test])
    references = [question.reference for question in world.test]
    old, new = ([is_right(a, r) for a, r in zip(texts, references, strict=True)] for texts in (world.old_test, said))
    compared = muscle_hf.compare_correct(old=old, new=new)
    return Cell(
        row=name,
        seed=world.seed,
        learning_rate=rate,
        n=compared.n,
        accuracy=compared.new_accuracy,
        negative_flip_rate=compared.negative_flip_rate,
        positive_flip_rate=compared.positive_flip_rate,
        rows=0 if data is None else len(data),
        seconds=round(seconds, 1),
        facts=world.facts | {"old_accuracy": compared.old_accuracy},
        size=asdict(world.size),
    )


def read(folder: Path) -> list[Cell]:
    """Read the cells that are there."""
    return [Cell(**json.loads(path.read_text(encoding="utf-8"))) for path in sorted(folder.glob("*.json"))]


def rate_of(name: str, cells: Sequence[Cell]) -> float:
    """Take the learning rate that broke least for the tuning seed."""
    tried = [each for each in cells if each.row == name and each.seed == TUNING_SEED]
    return min(tried, key=lambda each: (each.negative_flip_rate, -each.accuracy)).learning_rate


def wanted(seed: int, cells: Sequence[Cell], rows: Sequence[str]) -> Iterator[tuple[str, float]]:
    """Give the rows and learning rates of a seed."""
    for name in rows:
        rates = (0.0,) if name == NEW else ROWS[name].rates if seed == TUNING_SEED else (rate_of(name, cells),)
        yield from ((name, rate) for rate in rates)


def fill(folder: Path, seeds: Sequence[int], size: Size, rows: Sequence[str] = tuple(TITLES)) -> None:
    """Make the cells that are missing."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in (TUNING_SEED, *seeds):
        cells = read(folder)
        done = {(each.row, each.learning_rate) for each in cells if each.seed == seed}
        missing = [each for each in wanted(seed, cells, rows) if each not in done]
        if not missing:
            continue
        world = made(seed, size)
        print(f"seed {seed}: {world.facts}", flush=True)
        for name, rate in missing:
            filled = cell(world, name, rate)
            text = json.dumps(asdict(filled), indent=1)
            write_text(folder / f"{name}-{seed}-{rate:g}.json", text + "\n")
            shown = f"{filled.accuracy:.3f}, NFR {filled.negative_flip_rate:.3f}, {filled.seconds:.0f} s"
            print(f"seed {seed}, {name}, {rate:g}: accuracy {shown}", flush=True)


def interval(values: Sequence[float]) -> str:
    """Give a mean in percent with the half width of its 95 % interval over seeds (Student)."""
    shown = f"{100 * float(np.mean(values)):.1f}"
    if len(values) < 2:
        return shown
    margin = stats.t.ppf(0.975, len(values) - 1) * float(np.std(values, ddof=1)) / len(values) ** 0.5
    return f"{shown} ± {100 * margin:.1f}"


def table(cells: Sequence[Cell]) -> str:
    """Lay out the means over seeds, and what each row breaks against the new model and against fine-tuning."""
    by_row = {name: {c.seed: c for c in cells if c.row == name and c.seed != TUNING_SEED} for name in TITLES}
    head = ["from the new model", "learning rate", "accuracy, %", "NFR, %"]
    head += [f"NFR minus that of {of}, points" for of in ("the new model", "fine-tuning on flip pairs")]
    rows = []
    for name, title in TITLES.items():
        of_row = list(by_row[name].values())
        if not of_row:
            continue
        changes = [
            [cell.negative_flip_rate - by_row[other][seed].negative_flip_rate for seed, cell in by_row[name].items()]
            if other != name and by_row[name].keys() <= by_row[other].keys()
            else None
            for other in (NEW, "sft_flips")
        ]
        rows.append(
            [
                title,
                "" if name == NEW else f"{of_row[0].learning_rate:g}",
                interval([each.accuracy for each in of_row]),
                interval([each.negative_flip_rate for each in of_row]),
                *("" if change is None else interval(change) for change in changes),
            ]
        )
    return markdown_table(head, rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Make what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER", help="where cells are kept")
    parser.add_argument("--smoke", action="store_true", help="two rows of models that learned next to nothing")
    options = parser.parse_args(arguments)
    if options.smoke:
        fill(options.results, options.seeds, SMOKE, (NEW, "dpo_steps", "step_dpo"))
    else:
        fill(options.results, options.seeds, Size())
    print(table(read(options.results)))


if __name__ == "__main__":
    torch.set_num_threads(1)  # so that the figures are the same for any number of cores
    quiet_libraries()
    main()
