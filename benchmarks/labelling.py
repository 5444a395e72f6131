"""How often do 25 labels tell which way an update goes: on disagreements, and on rows drawn from all?

    python benchmarks/labelling.py
    python benchmarks/labelling.py --only audits
    python benchmarks/labelling.py answers.csv --reference answer --columns v1 v2 v3 --labels 25 50

Prints Markdown tables. The file is a wide table with right answers, by default the published answers of four models to
12,018 questions of MMLU-Pro; every pair of its columns is an update. Of the first tables nothing is drawn: each chance
is the sum over all samples that so many labels may give, weighed as draws without replacement weigh them. "Told" is
that the 95 % interval of the change of accuracy lies on the side where the truth is, "wrongly" that it lies on the
other one, and "by the sign test" that the exact two-sided paired test on the same labels has p of 0.05 or less. The
third table is the first update again, did the versions disagree on fewer rows, of which as large a share is broken and
repaired. The fourth is about an update that breaks as much as it repairs, whose labels are looked at more than once.

The last table is about negative flips of which a person checks some (`audited_rate`): how often the truth lies inside
the interval of the audited NFR, of these very answers and of all questions like them, and how far the estimate is off
on average, with suspects ranked well, not at all, by a model that is sure and tosses a coin, and by one that is mostly
wrong.
"""

# ruff: noqa: T201 - a benchmark prints

import argparse
import csv
from collections.abc import Sequence
from functools import cache
from itertools import combinations
from pathlib import Path
from statistics import mean, median

import numpy as np
from numpy.typing import NDArray

from muscle_hf.flips.intervals import wilson
from muscle_hf.flips.paired_tests import coin_test
from muscle_hf.flips.sampling.audit import Stratum, from_verdicts
from muscle_hf.flips.sampling.finite_population import telling_samples
from muscle_hf.flips.sampling.strata import allocation, strata_of
from muscle_hf.flips.special import gammaln

DATA = Path(__file__).parents[1] / "examples" / "data" / "mmlu_pro" / "answers.csv"
LEVEL = 0.95
NEUTRAL = (2_000, 500)
"""Disagreements of the update that changes nothing, and how many of them go either way."""
DISAGREE = (0.02, 0.05, 0.1, 0.2, 0.5)

Edge = NDArray[np.int64]


def by_interval(labels: int, size: int) -> Edge:
    """Give for each number of labels of the one kind how many of the other tell the direction."""
    return telling_samples(labels, size, LEVEL)


@cache
def by_sign_test(labels: int) -> Edge:
    """Give the same by the exact paired test; where none tells, it is out of reach."""
    edge, place = np.empty(labels + 1, np.int64), 0
    for fewer in range(labels + 1):
        # It never falls.
        while place <= labels and (place <= fewer or coin_test(fewer, place) > 1 - LEVEL):
            place += 1
        edge[fewer] = place
    return edge


def chance(edge: Edge, labels: int, more: int, fewer: int, size: int) -> float:
    """Sum the chances of all samples at the edge or beyond it."""
    logs = gammaln(np.arange(1, size + 2))
    b, a = np.meshgrid(np.arange(labels + 1), np.arange(labels + 1), indexing="ij")
    counts = [(more, a), (fewer, b), (size - more - fewer, labels - a - b)]
    inside = (a >= edge[b]) & np.all([(count >= 0) & (count <= of) for of, count in counts], axis=0)
    total = -(logs[size] - logs[labels] - logs[size - labels])
    for of, count in counts:
        kept = np.clip(count, 0, of)
        total = total + logs[of] - logs[kept] - logs[of - kept]
    return float(np.exp(total)[inside].sum())


def read(path: Path, reference: str, columns: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Read each model's answers, and the right ones."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [row[name] for row in rows] for name in columns}, [row[reference] for row in rows]


def columns_of(path: Path, reference: str) -> list[str]:
    """Name the columns that hold answers: all but the right ones of which most values are of these."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    labels = {row[reference] for row in rows}
    return [name for name in rows[0] if name != reference and mean(row[name] in labels for row in rows) > 0.5]


def updates(answers: dict[str, list[str]], right: list[str], sizes: Sequence[int]) -> None:
    """Print for each pair of models how often so many labels tell the direction."""
    n = len(right)
    everywhere = {labels: by_interval(labels, n) for labels in sizes}
    told: dict[int, list[list[float]]] = {labels: [] for labels in sizes}
    print(f"{n:,} answers, {sizes[0]} labels: chances in %, by enumeration\n")
    head = ["update", "disagree, %", "change, points", "told", "wrongly", "by the sign test", "rows from all: told"]
    print(f"| {' | '.join(head)} |\n{'|---' * len(head)}|")
    for old, new in combinations(answers, 2):
        rows = list(zip(answers[old], answers[new], right, strict=True))
        differ = sum(before != after for before, after, _ in rows)
        broken, repaired = (sum(row[side] == row[2] != row[1 - side] for row in rows) for side in (0, 1))
        more, fewer = max(broken, repaired), min(broken, repaired)
        for labels in sizes:
            edge = by_interval(labels, differ)
            shares = [
                chance(edge, labels, more, fewer, differ),
                chance(edge, labels, fewer, more, differ),
                chance(by_sign_test(labels), labels, more, fewer, differ),
                chance(everywhere[labels], labels, more, fewer, n),
            ]
            told[labels].append(shares)
            if labels == sizes[0]:
                cells = [f"{100 * differ / n:.1f}", f"{100 * (repaired - broken) / n:+.1f}"]
                cells += [f"{100 * share:.1f}" for share in shares]
                print(f"| {old} -> {new} | {' | '.join(cells)} |", flush=True)
    print(f"\nAll {len(told[sizes[0]])} updates: mean (median, lowest to highest), %\n")
    head = ["labels", "told", "wrongly", "by the sign test", "rows from all: told"]
    print(f"| {' | '.join(head)} |\n{'|---' * len(head)}|")
    for labels, shares in told.items():
        cells = [
            f"{mean(column):.1f} ({median(column):.1f}, {min(column):.1f} to {max(column):.1f})"
            for column in zip(*([100 * share for share in update] for update in shares), strict=True)
        ]
        print(f"| {labels} | {' | '.join(cells)} |")


def rarer(answers: dict[str, list[str]], right: list[str], labels: int) -> None:
    """Print the same of an update like the first one, did the versions disagree on fewer rows."""
    n, (old, new) = len(right), list(answers)[:2]
    rows = list(zip(answers[old], answers[new], right, strict=True))
    flips = [sum(row[side] == row[2] != row[1 - side] for row in rows) for side in (1, 0)]
    more, fewer = (count / sum(before != after for before, after, _ in rows) for count in sorted(flips, reverse=True))
    print(f"\n{old} -> {new}, did they disagree on fewer of {n:,} rows: {labels} labels, told in %, by enumeration\n")
    print("| disagree, % | on disagreements | on rows from all |\n|---|---|---|")
    for share in DISAGREE:
        size = round(share * n)
        counts = round(more * size), round(fewer * size)
        if size < labels:
            continue
        cells = [f"{100 * chance(by_interval(labels, of), labels, *counts, of):.1f}" for of in (size, n)]
        print(f"| {100 * share:g} | {' | '.join(cells)} |", flush=True)


def looks(sizes: Sequence[int], evaluations: int, seed: int) -> None:
    """Print how often a neutral update is called better or worse by the first of several looks that tells."""
    size, either = NEUTRAL
    draw = np.random.default_rng(seed)
    before = np.zeros((evaluations, 3), np.int64)
    left = np.tile([either, either, size - 2 * either], (evaluations, 1))
    stopped = np.zeros(evaluations, np.bool_)
    print(
        f"\nA neutral update, {size:,} disagreements, {either:,} of either kind, labels looked at until they tell: "
        f"{evaluations:,} evaluations, seed {seed}, 95 % interval\n\n| labels | told by now, % |\n|---|---|"
    )
    for labels in sizes:
        more = labels - int(before[0].sum())
        before += np.array([draw.multivariate_hypergeometric(row, more) for row in left - before])
        edge = by_interval(labels, size)
        up, down = before[:, 0], before[:, 1]
        stopped |= (up >= edge[down]) | (down >= edge[up])
        low, high = wilson(int(stopped.sum()), evaluations, LEVEL)
        print(f"| {labels} | {100 * stopped.mean():.1f} [{100 * low:.1f}, {100 * high:.1f}] |", flush=True)


AUDITS = ((50, 0.4, 0.9, 10), (500, 0.2, 0.8, 20), (2_000, 0.1, 0.5, 50), (2_000, 0.02, 0.1, 20))
"""Answers, how many of them are negative flips as marked, share of these that the grader made, flips to check."""
RANKINGS = {"well": (0.9, 0.2), "not at all": (0.0, 0.0), "sure, by a coin": (0.5, 0.5), "hostile": (0.2, 0.9)}
"""How often a model says .95 of the grader's flips, and how often of the others; else it says .05."""


@cache
def audited(n: int, strata: tuple[Stratum, ...]) -> tuple[float, float, float, float, float]:
    """Give estimate, interval of these answers and interval of questions like them."""
    audit = from_verdicts(n=n, strata=strata, level=LEVEL)
    return *audit.negative_flip_rate, *audit.confidence_interval()


def audits(evaluations: int, seed: int) -> None:
    """Print how often the truth lies beyond the interval of an audit, whatever the ranking."""
    draw = np.random.default_rng(seed)
    print(
        f"\nNegative flips of which some are checked: {evaluations:,} evaluations each, seed {seed}; truth inside the "
        "95 % interval in %, and the mean error of the audited NFR in points with its standard error\n"
    )
    head = [
        "answers",
        "NFR, %",
        "the grader's, %",
        "checked",
        "ranked",
        "these answers",
        "such questions",
        "mean error",
    ]
    print(f"| {' | '.join(head)} |\n{'|---' * len(head)}|")
    for n, marked, share, count in AUDITS:
        for name, said in RANKINGS.items():
            inside, errors = np.zeros(2), []
            for _ in range(evaluations):
                flips = int(draw.binomial(n, marked))
                graders = draw.random(flips) < share
                chances = np.where(draw.random(flips) < np.where(graders, *said), 0.95, 0.05)
                order = np.argsort(-chances, kind="stable")
                cut = strata_of(chances[order]) if count < flips else 0
                parts = [order[:cut], order[cut:]] if cut else [order]
                sizes = allocation([chances[part] for part in parts], count)
                strata = []
                for part, size in zip(parts, sizes, strict=True):
                    seen = int(graders[draw.permutation(part)[:size]].sum())
                    strata.append(Stratum(len(part), size - seen, seen))
                value, low, high, least, most = audited(n, tuple(strata))
                truth = (flips - graders.sum()) / n
                inside += [low - 1e-12 <= truth <= high + 1e-12, least <= marked * (1 - share) <= most]
                errors.append(100 * (value - truth))
            cells = [f"{n:,}", f"{100 * marked:g}", f"{100 * share:g}", str(count), name]
            cells += [f"{100 * part / evaluations:.1f}" for part in inside]
            error = np.std(errors) / len(errors) ** 0.5
            print(f"| {' | '.join(cells)} | {np.mean(errors):+.2f} ± {error:.2f} |", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, nargs="?", default=DATA, help="a wide table with right answers")
    parser.add_argument("--reference", default="answer", help="its column of right answers")
    parser.add_argument("--columns", nargs="+", help="its columns of answers (default: all that hold such)")
    parser.add_argument("--labels", type=int, nargs="+", default=[25, 50], help="numbers of labels")
    parser.add_argument("--looks", type=int, nargs="+", default=[25, 50, 100], help="numbers of labels to look after")
    parser.add_argument("--evaluations", type=int, default=10_000, help="how many are drawn of those")
    parser.add_argument("--audits", type=int, default=2_000, help="how many are drawn for each row of the last table")
    parser.add_argument("--only", choices=["audits"], help="print the last table alone")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    if options.only:
        audits(options.audits, options.seed)
        return
    columns = options.columns or columns_of(options.path, options.reference)
    content = read(options.path, options.reference, columns)
    updates(*content, options.labels)
    rarer(*content, options.labels[0])
    looks(options.looks, options.evaluations, options.seed)
    audits(options.audits, options.seed)


if __name__ == "__main__":
    main()
