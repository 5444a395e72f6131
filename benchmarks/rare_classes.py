"""Do rare classes break more than common ones? The class-balanced flip rate of updates of a real classifier.

    python benchmarks/rare_classes.py
    python benchmarks/rare_classes.py --write examples/data/massive/answers.csv
    python benchmarks/rare_classes.py --task clinc150-oos --class oos

Prints a Markdown table of the kept runs of `benchmarks/updates` on MASSIVE: 60 intents of 1 to 124 test questions,
MiniLM of 3 layers before and of 6 after the update, means over the seeds that all rows have, with Student's interval.
Right and wrong is kept of these runs, and not what was answered: `--write` makes a table of the first seed, in which a
wrong answer is "another intent". With `--task` the table is of the losses that are for rare classes, with the recall
of one `--class`: means over seeds with 95 % intervals over seeds and test questions together, see
`benchmarks/updates/table.py`, and differences from focal distillation, seed by seed and question by question.
"""

# ruff: noqa: T201 - a benchmark prints

import argparse
import csv
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from updates.cells import RESULTS, Cell, Key, flags, read, read_all, unpacked
from updates.table import Estimate
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


# Rows of a task with a class of its own interest -> title.
LOSSES = {
    "plain": "new model, plain update",
    "control": "control: cross-entropy, same steps more",
    "balanced": "control: the same, class-balanced sampling",
    "focal-ce": "focal distillation + cross-entropy .5",
    "balanced-focal": "the same, class-balanced sampling",
    "dice-example": "focal distillation + (cross-entropy and dice by example) .5",
    "dice-batch": "focal distillation + (cross-entropy and dice by batch) .5",
}


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


def shared_seeds() -> list[int]:
    """Return the seeds that all rows of the table have, so that their means are of the same."""
    return [seed for seed in range(100) if all(right(row, seed) is not None for row in ("old", *STRATEGIES))]


def comparisons(strategy: str, test: Sequence[Row], seeds: Sequence[int]) -> Iterator[muscle_hf.Comparison]:
    """Compare the seeds of a strategy with the old model."""
    references = [row["intent"] for row in test]
    for seed in seeds:
        old, new = right("old", seed), right(strategy, seed)
        if old is None or new is None:
            raise SystemExit(f"Seed {seed} of {strategy} is not there.")
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


def of_losses(task: str, rare: str, results: Path = RESULTS) -> str:
    """Return the table of the losses for rare classes, from cells that have the right answers of their questions."""
    cells = {(cell.strategy, cell.seed): cell for cell in read_all(results) if cell.key[:2] == ("minilm", task)}
    known = next((cell.references for cell in cells.values() if cell.references), None)
    if known is None:
        raise SystemExit(f"There is no cell of {task} that has the right answers of its questions.")
    if any(cell.references not in ("", known) for cell in cells.values()):
        raise SystemExit(f"Cells of {task} have other questions than their neighbours; remove one kind of them.")
    references = unpacked(known)
    if rare not in references:
        raise SystemExit(f"No question of {task} has the class {rare!r}.")
    seeds_of = {name: {seed for row, seed in cells if row == name} & _seeds(cells, "old") for name in LOSSES}

    def figures(name: str, seeds: Sequence[int]) -> dict[str, Estimate]:
        old, new = (
            np.stack([flags(cells[row, seed].right, cells[row, seed].n) for seed in seeds]) for row in ("old", name)
        )
        return estimates_by_class(old, new, references, rare)

    shares = Counter(references)
    lines = [
        f"n = {len(references):,} test questions of {len(shares)} classes, {shares[rare]} of them {rare}",
        "",
        "| | seeds | accuracy, % | NFR, % | balanced NFR, % | recall of rare, % | balanced NFR minus focal | "
        "recall minus focal | accuracy minus focal |".replace("rare", rare),
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, title in LOSSES.items():
        if not seeds_of[name]:
            continue
        found = figures(name, sorted(seeds_of[name]))
        shown = [_shown(found[key]) for key in ("accuracy", "nfr", "balanced", "recall")]
        both = sorted(seeds_of[name] & seeds_of["focal-ce"])
        if name != "focal-ce" and both:
            ours, theirs = figures(name, both), figures("focal-ce", both)
            shown += [_shown(ours[key] - theirs[key]) for key in ("balanced", "recall", "accuracy")]
        lines.append(f"| {title} | {len(seeds_of[name])} | {' | '.join(shown + [''] * (7 - len(shown)))} |")
    return "\n".join(lines)


def _seeds(cells: Mapping[tuple[str, int], Cell], name: str) -> set[int]:
    return {seed for row, seed in cells if row == name}


def estimates_by_class(
    old: NDArray[np.bool_], new: NDArray[np.bool_], references: Sequence[str], rare: str
) -> dict[str, Estimate]:
    """Return figures from right and wrong, (seeds, questions): of all, of classes that count the same, and of one."""
    names = np.array(references)
    lost, right = (old & ~new).astype(float), new.astype(float)
    found = {"accuracy": Estimate(right.mean(1), right - right.mean(1, keepdims=True))}
    found["nfr"] = Estimate(lost.mean(1), lost - lost.mean(1, keepdims=True))
    # n / (classes * rows of the class) for each question: the mean over questions is then that over classes.
    classes, place = np.unique(names, return_inverse=True)
    weight = len(names) / (len(classes) * np.bincount(place)[place])
    of_class = np.stack([lost[:, place == number].mean(1) for number in range(len(classes))], 1)
    found["balanced"] = Estimate(of_class.mean(1), weight * (lost - of_class[:, place]))
    is_rare = names == rare
    recall = right[:, is_rare].mean(1)
    moved = np.where(is_rare, (right - recall[:, None]) * len(names) / is_rare.sum(), 0.0)
    return found | {"recall": Estimate(recall, moved)}


def _shown(estimate: Estimate) -> str:
    low, high = estimate.interval()
    mark = " \\*" if len(estimate.of_seeds) == 1 else ""
    return f"{100 * estimate.mean:.2f} [{100 * low:.2f}, {100 * high:.2f}]{mark}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and write the answers where a file is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the first seed's answers as a table")
    parser.add_argument("--task", help="the table of losses for rare classes, of this task of benchmarks/updates")
    parser.add_argument("--class", dest="rare", help="the class whose recall is shown with --task")
    options = parser.parse_args(arguments)
    if (options.task is None) != (options.rare is None):
        parser.error("--task and --class go together: the recall shown is that of the class")
    if options.task:
        if options.write:
            parser.error("--write makes a table of MASSIVE's answers; leave --task out")
        print(of_losses(options.task, options.rare))
        return
    test = massive(None).test
    if options.write:
        write(options.write, test)
    print("| | seeds | accuracy, % | NFR, % | balanced NFR, % | balanced minus plain |\n|---|---|---|---|---|---|")
    seeds = shared_seeds()
    for strategy, name in STRATEGIES.items():
        found = list(comparisons(strategy, test, seeds))
        plain, balanced = (
            [getattr(c, rate) for c in found] for rate in ("negative_flip_rate", "balanced_negative_flip_rate")
        )
        more = [b - p for b, p in zip(balanced, plain, strict=True)]
        cells = [mean(values) for values in ([c.new_accuracy for c in found], plain, balanced, more)]
        print(f"| {name} | {len(found)} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
