"""How often does the interval of the class-balanced negative flip rate hold the truth, and how often would others?

    python benchmarks/classes.py
    python benchmarks/classes.py --draws 50 --only "2 classes"

Prints a Markdown table: for updates with known chances of a flip in each class, in how many of the drawn test sets the
truth lies below the interval, in it and above it. Nominal is 2.5, 95 and 2.5 %. "verdicts" is the interval that a gate
uses, whose ends should err in at most 2.5 % of cases each; "bootstrap" draws the rows of each class again (percentiles
of 500 draws).
"""

# ruff: noqa: T201 - a benchmark prints

import argparse
import csv
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from muscle_hf.flips.tilted import mean_of_rates

Numbers: TypeAlias = NDArray[np.float64]
Interval: TypeAlias = Callable[[Numbers, Numbers], tuple[float, float]]

MASSIVE = Path(__file__).parents[1] / "examples" / "data" / "massive"
LEVEL, RESAMPLES = 0.95, 500


def intents(name: str) -> list[int]:
    """Give how many rows each of MASSIVE's 60 intents has in a file."""
    with (MASSIVE / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return sorted(Counter(row["intent"] for row in csv.DictReader(file)).values())


def truths() -> dict[str, tuple[Numbers, Numbers]]:
    """Give the sizes of classes and the chance of a flip in each, by name."""
    rng = np.random.default_rng(1)
    test, dev = np.array(intents("test"), np.float64), np.array(intents("dev"), np.float64)
    found: dict[str, tuple[Sequence[float] | Numbers, Sequence[float] | Numbers]] = {
        "1 class of 50, 10 %": ([50], [0.1]),
        "2 classes of 450 and 50, 4 and 12 %": ([450, 50], [0.04, 0.12]),
        "2 classes of 200 and 20, 5 and 10 %": ([200, 20], [0.05, 0.1]),
        "3 classes of 300, 300 and 10, 2, 2 and 10 %": ([300, 300, 10], [0.02, 0.02, 0.1]),
        "4 classes of 500, 100, 40 and 10, 3 to 20 %": ([500, 100, 40, 10], [0.03, 0.05, 0.1, 0.2]),
        "10 classes of 30, 1 to 29 %": ([30] * 10, rng.beta(0.3, 2.7, 10)),
        "10 classes of 40 and 4, some without a flip": ([40] * 9 + [4], [0.0] * 5 + [0.02] * 4 + [0.9]),
        "60 classes of 5, 5 %": ([5] * 60, [0.05] * 60),
        "MASSIVE test (2 to 278 rows), 2 %": (test, np.full(60, 0.02)),
        "MASSIVE test, 7 %": (test, np.full(60, 0.07)),
        "MASSIVE test, 0 to 30 %": (test, rng.beta(0.35, 4.65, 60)),
        "MASSIVE test, rare ones break more": (test, np.minimum(0.4 / np.sqrt(test), 0.5)),
        "MASSIVE dev (1 to 35 rows), 7 %": (dev, np.full(60, 0.07)),
        "MASSIVE dev, rare ones break more": (dev, np.minimum(0.4 / np.sqrt(dev), 0.5)),
        "150 classes of 30, one of 1,000, 3 and 30 %": ([30] * 150 + [1000], [0.03] * 150 + [0.3]),
    }
    return {name: (np.array(sizes, np.float64), np.array(rates)) for name, (sizes, rates) in found.items()}


def bootstrap(counts: Numbers, sizes: Numbers, rng: np.random.Generator) -> tuple[float, float]:
    """Bound the mean of the rates by drawing the rows of each class again."""
    drawn = rng.binomial(sizes.astype(np.int64), counts / sizes, (RESAMPLES, len(sizes))) / sizes
    low, high = np.quantile(drawn.mean(axis=1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def intervals() -> dict[str, Interval]:
    """Give the intervals by name."""
    return {
        "tables": lambda counts, sizes: mean_of_rates(counts, sizes, LEVEL),
        "verdicts": lambda counts, sizes: mean_of_rates(counts, sizes, LEVEL, cautious=True),
        "bootstrap": partial(bootstrap, rng=np.random.default_rng(2)),
    }


def coverage(interval: Interval, sizes: Numbers, rates: Numbers, draws: int) -> tuple[float, float, float]:
    """Give the shares of test sets in which the truth lies below the interval and above it, and its mean width."""
    counts = np.random.default_rng(0).binomial(sizes.astype(np.int64), rates, (draws, len(sizes))).astype(np.float64)
    ends = np.array([interval(drawn, sizes) for drawn in counts])
    truth = float(rates.mean())
    below, above = (ends[:, 0] > truth + 1e-9).mean(), (ends[:, 1] < truth - 1e-9).mean()
    return float(below), float(above), float((ends[:, 1] - ends[:, 0]).mean())


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=2000, help="test sets for each update")
    parser.add_argument("--only", default="", help="only updates whose name begins so")
    options = parser.parse_args(arguments)
    print(
        f"{options.draws:,} test sets for each, %: truth below the interval, in it, above it; mean width in points\n"
    )
    print(f"| classes | {' | '.join(intervals())} |\n|---|{'---|' * len(intervals())}")
    for name, (sizes, rates) in truths().items():
        if not name.startswith(options.only):
            continue
        cells = []
        for interval in intervals().values():
            below, above, width = (100 * value for value in coverage(interval, sizes, rates, options.draws))
            cells.append(f"{below:.1f}, **{100 - below - above:.1f}**, {above:.1f}; {width:.1f}")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
