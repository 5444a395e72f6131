"""An encoder-decoder is updated, from spelling to sounds: does contrastive learning (CLAPS) keep more right answers?

    python benchmarks/spelling.py                # makes the cells that are missing, seed by seed, and prints the table
    python benchmarks/spelling.py --table        # of the cells that are there
    python benchmarks/spelling.py --smoke        # all of it on a few words, in a temporary folder

A T5 of 2 + 2 layers learns to say English words (an extract of the CMU dictionary). The old model has learned 20 % of
the words, the new one, of other weights, 40 %; all are tested on 20 % that none has seen. Every row but the plain
update goes on from the new model for the same steps on the new model's words. A cell is one row of one seed, kept as a
file; the intervals are Student's, over seeds, of the difference from the control of the same seed.
"""

# ruff: noqa: T201 - a benchmark prints

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from scipy import stats
from spelling_task import Split, Word, answers, read_words, rows, tokenizer_of, untrained
from spelling_training import ROWS, trained
from transformers import T5ForConditionalGeneration

import muscle_hf
from muscle_hf.files import write_text

RESULTS = Path(__file__).parent / "spelling_results"
WORK = Path("update-models") / "spelling"
CONTROL = "control"


@dataclass(frozen=True)
class Size:
    """How large the models are, and how long they learn."""

    words: int = 10_000
    test: int = 2_000
    width: int = 64
    batch: int = 64
    steps: int = 1_000
    more_steps: int = 150
    learning_rate: float = 4e-3
    more_learning_rate: float = 1e-3


SMOKE = Size(words=60, test=12, width=16, batch=4, steps=2, more_steps=2)


@dataclass(frozen=True)
class Cell:
    """What a row of one seed came to."""

    row: str
    seed: int
    right: str
    """A digit for each test word: 1 where it is said rightly."""
    errors: list[float]
    """The phone error of each test word."""
    flips: int | None
    """Words among those learned from that the old model says rightly and the new one wrongly, where they were used."""
    seconds: float
    """Processor time of the training; about 0 of a model that was there already."""
    size: dict[str, Any]

    @property
    def correct(self) -> list[bool]:
        """Say which test words are right."""
        return [digit == "1" for digit in self.right]


class Seed:
    """The models and the cells of one seed."""

    def __init__(self, seed: int, size: Size, results: Path, work: Path) -> None:
        """Read the words."""
        self.seed, self.size, self.results, self.work = seed, size, results, work
        everything = read_words()
        self.tokenizer = tokenizer_of(everything)
        self.split = Split.of(everything[: size.words], size.test)

    def cell(self, row: str) -> Cell:
        """Return a cell, made if it is not there."""
        path = self.results / f"{row}-{self.seed}.json"
        if path.is_file():
            cell = Cell(**json.loads(path.read_text(encoding="utf-8")))
            if cell.size != asdict(self.size):
                raise SystemExit(f"{path} is of another size: {cell.size}. Remove it, or name another --results.")
            return cell
        start = time.process_time()
        model, flips = self._model(row)
        seconds = time.process_time() - start
        said = answers(model, self.tokenizer, self.split.test)
        pairs = [*zip(said, self.split.test, strict=True)]
        right = "".join(str(int(answer in word.sounds)) for answer, word in pairs)
        errors = [round(word.error(answer), 4) for answer, word in pairs]
        cell = Cell(row, self.seed, right, errors, flips, round(seconds, 1), asdict(self.size))
        self.results.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(asdict(cell)) + "\n")
        print(f"{row}, seed {self.seed}: {np.mean(cell.correct):.1%} right, {seconds:.0f} s", flush=True)
        return cell

    def _model(self, row: str) -> tuple[Any, int | None]:
        if row in ("old", "plain"):
            return self._base(row), None
        learned = self._with_flips() if ROWS[row].contrast_flips else rows(self.split.new)
        flips = sum(text is not None for text in learned["rejected"]) if "rejected" in learned.column_names else None
        size = self.size
        with tempfile.TemporaryDirectory() as folder:
            model = trained(
                ROWS[row],
                self._base("plain"),
                self._base("old"),
                self.tokenizer,
                learned,
                folder=folder,
                steps=size.more_steps,
                batch=size.batch,
                learning_rate=size.more_learning_rate,
                seed=self.seed,
            )
        return model, flips

    def _base(self, row: str) -> T5ForConditionalGeneration:
        """Return the old or the new model, trained if it is not there; each call gives weights of its own."""
        folder = self.work / f"{row}-{self.seed}-{self.size.width}-{self.size.words}-{self.size.steps}"
        if not (folder / "model.safetensors").is_file():
            # Two models of other weights, and of other weights in each seed.
            draw = 2 * self.seed + (row == "plain")
            size = self.size
            with tempfile.TemporaryDirectory() as output:
                model = trained(
                    ROWS[CONTROL],
                    untrained(self.tokenizer, size.width, draw),
                    None,
                    self.tokenizer,
                    rows(self.split.old if row == "old" else self.split.new),
                    folder=output,
                    steps=size.steps,
                    batch=size.batch,
                    learning_rate=size.learning_rate,
                    seed=draw,
                )
            self.tokenizer.save_pretrained(folder)
            model.save_pretrained(folder)
        return T5ForConditionalGeneration.from_pretrained(folder)

    def _with_flips(self) -> Dataset:
        """Return the rows to learn from, with what the new model says wrongly where the old one is right."""
        words = self.split.new
        old, new = (answers(self._base(row), self.tokenizer, words) for row in ("old", "plain"))
        # Models of the smoke test get nothing right that could break.
        broken = [
            before != after if self.size == SMOKE else _is_flip(before, after, word)
            for before, after, word in zip(old, new, words, strict=True)
        ]
        learned = rows(words)
        for name, said in (("chosen", old), ("rejected", new)):
            texts = [text if is_broken else None for text, is_broken in zip(said, broken, strict=True)]
            learned = learned.add_column(name, texts)
        return learned


def _is_flip(old: str, new: str, word: Word) -> bool:
    return old in word.sounds and new not in word.sounds


def measured(old: Cell, cell: Cell) -> dict[str, float]:
    """Return the figures of a row, compared with the old model of its seed."""
    flips = muscle_hf.compare_correct(old=old.correct, new=cell.correct)
    # The better, the higher.
    smooth = muscle_hf.compare_scores(old=[-e for e in old.errors], new=[-e for e in cell.errors])
    return {
        "exact match": flips.new_accuracy,
        "phone error": float(np.mean(cell.errors)),
        "NFR": flips.negative_flip_rate,
        "relative NFR": flips.relative_negative_flip_rate,
        "words with more phone error": smooth.negative_flip_rate,
    }


def table(results: Path) -> str:
    """Render the cells: means over seeds, and the difference from the control with its interval below."""
    cells = {path.stem: Cell(**json.loads(path.read_text("utf-8"))) for path in sorted(results.glob("*.json"))}
    figures: dict[str, dict[int, dict[str, float]]] = {}
    for cell in cells.values():
        old = cells.get(f"old-{cell.seed}")
        if old is not None:
            figures.setdefault(cell.row, {})[cell.seed] = measured(old, cell)
    if not figures:
        return "no cells"
    names = [*next(iter(next(iter(figures.values())).values()))]
    lines = [f"| | seeds | {' | '.join(f'{name}, %' for name in names)} |", "|---|---|" + "---|" * len(names)]
    titles = {"old": "old model", "plain": "plain update"} | {name: row.title for name, row in ROWS.items()}
    for row, title in titles.items():
        seeds = figures.get(row, {})
        if not seeds:
            continue
        shown = [_shown(seeds, figures.get(CONTROL, {}), name, row) for name in names]
        lines.append(f"| {title} | {len(seeds)} | {' | '.join(shown)} |")
    return "\n".join(lines)


def _shown(seeds: dict[int, dict[str, float]], control: dict[int, dict[str, float]], name: str, row: str) -> str:
    if row == "old" and name not in ("exact match", "phone error"):
        return ""
    shown = f"{100 * np.mean([figures[name] for figures in seeds.values()]):.1f}"
    gaps = [figures[name] - control[seed][name] for seed, figures in seeds.items() if seed in control]
    if row in ("old", CONTROL) or len(gaps) < 2:
        return shown
    margin = stats.t.ppf(0.975, len(gaps) - 1) * np.std(gaps, ddof=1) / len(gaps) ** 0.5
    return f"{shown} ({100 * np.mean(gaps):+.1f} ± {100 * margin:.1f})"


def main(arguments: Sequence[str] | None = None) -> None:
    """Make what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", nargs="+", choices=["old", "plain", *ROWS], default=["old", "plain", *ROWS])
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the cells")
    parser.add_argument("--work", type=Path, default=WORK, help="folder of the old and new models")
    parser.add_argument("--smoke", action="store_true", help="try all rows on a few words")
    parser.add_argument("--table", action="store_true", help="print the table and make nothing")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        results = Path(temporary) if options.smoke else options.results
        work = Path(temporary) / "models" if options.smoke else options.work
        size, seeds = (SMOKE, [0, 1]) if options.smoke else (Size(), options.seeds)
        for seed in [] if options.table else seeds:
            of_seed = Seed(seed, size, results, work)
            for row in options.rows:
                of_seed.cell(row)
        print(table(results))


if __name__ == "__main__":
    main()
