"""Do rare classes break more than common ones? The class-balanced flip rate of updates of a real classifier.

    python benchmarks/rare_classes.py
    python benchmarks/rare_classes.py --write examples/data/massive/answers.csv

Prints a Markdown table of the kept runs of `benchmarks/updates` on MASSIVE: 60 intents of 1 to 124 test questions,
MiniLM of 3 layers before and of 6 after the update, means over seeds with Student's interval. Right and wrong is kept
of these runs, and not what was answered: `--write` makes a table of the first seed, in which a wrong answer is
"another intent".
"""

# ruff: noqa: T201 - a benchmark prints

import argparse
import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from updates.cells import RESULTS, Key, flags, read
from updates.tasks import Row, massive

import muscle_hf

WRONG = "another intent"
# Strategy of the kept runs -> its row of the table.
STRATEGIES = {
    "plain": "new model, plain update",
    "control": "control: same steps more",
    "texts-new": "control: the new model's answers to unlabelled texts",
    "texts-product": "compatibility: both models' product on unlabelled texts",
    "bound": "both models at inference, the surer answers",
}
# Column of the written table -> strategy.
WRITTEN = {"old": "old", "new": "plain", "compatible": "texts-product"}


def right(strategy: str, seed: int) -> NDArray[np.bool_] | None:
    """Say which test questions a run answered rightly; None where it was not made."""
    path = Key("minilm", "massive", strategy, seed).file(RESULTS)
    if not path.exists():
        return None
    cell = read(path)
    return flags(cell.right, cell.n)


def answers(correct: NDArray[np.bool_], test: Sequence[Row]) -> list[str]:
    """Give answers that are right where a run was."""
    return [row["intent"] if is_right else WRONG for is_right, row in zip(correct, test, strict=True)]


def comparisons(strategy: str, test: Sequence[Row]) -> Iterator[muscle_hf.Comparison]:
    """Compare every seed of a strategy with the old model."""
    references = [row["intent"] for row in test]
    for seed in range(100):
        old, new = right("old", seed), right(strategy, seed)
        if old is None or new is None:
            return
        yield muscle_hf.compare(old=answers(old, test), new=answers(new, test), references=references)


def mean(values: Sequence[float]) -> str:
    """Give a mean in percent with the half width of its 95 % interval."""
    shown = f"{100 * float(np.mean(values)):.2f}"
    if len(values) < 2:
        return shown
    margin = stats.t.ppf(0.975, len(values) - 1) * float(np.std(values, ddof=1)) / len(values) ** 0.5
    return f"{shown} ± {100 * margin:.2f}"


def write(path: Path, test: Sequence[Row]) -> None:
    """Write the answers of the first seed."""
    columns = {name: right(strategy, 0) for name, strategy in WRITTEN.items()}
    texts = [answers(correct, test) for correct in columns.values() if correct is not None]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "intent", *columns])
        writer.writerows([row["id"], row["intent"], *said] for row, *said in zip(test, *texts, strict=True))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and write the answers where a file is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the first seed's answers as a table")
    options = parser.parse_args(arguments)
    test = massive(None).test
    if options.write:
        write(options.write, test)
    print("| | seeds | accuracy, % | NFR, % | balanced NFR, % | balanced minus plain |\n|---|---|---|---|---|---|")
    for strategy, name in STRATEGIES.items():
        found = list(comparisons(strategy, test))
        plain, balanced = (
            [getattr(c, rate) for c in found] for rate in ("negative_flip_rate", "balanced_negative_flip_rate")
        )
        more = [b - p for b, p in zip(balanced, plain, strict=True)]
        cells = [mean(values) for values in ([c.new_accuracy for c in found], plain, balanced, more)]
        print(f"| {name} | {len(found)} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
