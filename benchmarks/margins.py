"""How often does an end of an interval claim what is not so, at a margin and at a bound on the negative flip rate?

    python benchmarks/margins.py
    python benchmarks/margins.py --sizes 50

Prints Markdown tables. Every possible outcome is weighted by its probability, so these rates are exact. The truth lies
on the bound itself, where errors are most frequent; nominal are 2.5 % on each side of a 95 % interval.
"""

# ruff: noqa: T201 - a benchmark prints

import argparse
import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, xlogy

from muscle_hf.flips.decisions import change_limits
from muscle_hf.flips.intervals import Cells, Interval, change_interval, clopper_pearson, wilson
from muscle_hf.flips.ratio import relative_limits

LEVEL = 0.95
MARGINS = (0.0, 0.01, 0.02, 0.05)
RELATIVE_MARGINS = (0.0, 0.02, 0.05, 0.1)
ACCURACIES = (0.1, 0.3, 0.5, 0.7, 0.9)
FLIP_RATES = (0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4)
RATES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
# Outcomes less probable than this under every truth are left out.
_LEAST = 1e-9


def outcomes(n: int) -> NDArray[np.int64]:
    """Give the numbers of positive and negative flips of n answers that one of the truths makes likely enough."""
    positive, negative = np.indices((n + 1, n + 1)).reshape(2, -1)
    possible = positive + negative <= n
    positive, negative = positive[possible], negative[possible]
    likely = np.zeros(len(positive))
    for rates in truths():
        likely = np.maximum(likely, chances(n, positive, negative, rates[1]))
    return np.stack([positive[likely > _LEAST], negative[likely > _LEAST]])


def truths() -> list[tuple[float, tuple[float, float]]]:
    """Give the margins, and with each the positive and the negative flip rate of a change that is just so large."""
    return [
        (margin, ((flips - margin) / 2, (flips + margin) / 2))
        for margin in MARGINS
        for flips in FLIP_RATES
        if flips >= margin
    ]


def chances(
    n: int, positive: NDArray[np.int64], negative: NDArray[np.int64], rates: tuple[float, float]
) -> NDArray[np.float64]:
    """Give the probability of each number of positive and negative flips."""
    none = n - positive - negative
    ways = gammaln(n + 1) - gammaln(positive + 1) - gammaln(negative + 1) - gammaln(none + 1)
    logs = xlogy(positive, rates[0]) + xlogy(negative, rates[1]) + xlogy(none, 1 - sum(rates))
    return np.asarray(np.exp(ways + logs))


def at_margins(n: int, interval: Callable[[Cells, float], Interval]) -> list[tuple[float, float, float]]:
    """Give for each truth its margin, and how often the interval says that it is kept, and that it is broken.

    Half of the answers that do not flip are right: only the interval of tables asks.
    """
    positive, negative = outcomes(n)
    ends = np.array(
        [
            interval(((n - rise - fall) // 2, rise, fall, (n - rise - fall + 1) // 2), LEVEL)
            for rise, fall in zip(positive.tolist(), negative.tolist(), strict=True)
        ]
    )
    rows = []
    for margin, rates in truths():
        weight = chances(n, positive, negative, rates)
        kept, broken = ends[:, 0] > -margin + 1e-9, ends[:, 1] < -margin - 1e-9
        rows.append((margin, float(weight[kept].sum()), float(weight[broken].sum())))
    return rows


def at_ratios(n: int) -> list[tuple[float, float, float]]:
    """Give for each truth its relative margin, and how often the interval says that it is kept, and broken."""
    cells = np.indices((n + 1,) * 3).reshape(3, -1)
    cells = cells[:, cells.sum(0) <= n]
    cells = np.vstack([cells, n - cells.sum(0)])
    ways = gammaln(n + 1) - gammaln(cells + 1).sum(0)
    some = cells[0] + cells[2] > 0  # without an old right answer there is no ratio, and no claim
    ends = np.array([relative_limits((a, b, c, d), LEVEL) for a, b, c, d in cells[:, some].T.tolist()])
    rows = []
    for margin, old, fall in itertools.product(RELATIVE_MARGINS, ACCURACIES, FLIP_RATES):
        truth = np.array([old - fall, fall - margin * old, fall, 1 - old - fall + margin * old])
        if (truth >= 0).all():
            weight = np.exp(ways + xlogy(cells, truth[:, None]).sum(0))[some]
            kept, broken = ends[:, 0] > -margin + 1e-9, ends[:, 1] < -margin - 1e-9
            rows.append((margin, float(weight[kept].sum()), float(weight[broken].sum())))
    return rows


def at_bounds(n: int, interval: Callable[[float, float, float], Interval]) -> list[tuple[float, float]]:
    """Give for each true rate how often the interval lies below it, and above it."""
    counts = np.arange(n + 1)
    ends = np.array([interval(count, n, LEVEL) for count in counts.tolist()])
    rows = []
    for rate in RATES:
        weight = chances(n, counts, np.zeros_like(counts), (rate, 0.0))
        rows.append(tuple(float(weight[beyond].sum()) for beyond in (ends[:, 1] < rate, ends[:, 0] > rate)))
    return [(kept, broken) for kept, broken in rows]


def shown(rows: Sequence[tuple[float, float]]) -> str:
    """Write the highest rates of false claims, in percent."""
    return " | ".join(f"{100 * max(row[side] for row in rows):.1f}" for side in (0, 1))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=[50, 100, 500], help="numbers of answers")
    parser.add_argument("--small", type=int, nargs="*", default=[20, 40, 60], help="the same for relative margins")
    options = parser.parse_args(arguments)
    titles = " | ".join(
        f"{name}: false “{claim}”, %" for name in ("tables", "verdicts") for claim in ("kept", "broken")
    )
    lines = "|---" * 6 + "|"
    print(f"Change of accuracy, flip rates {FLIP_RATES[0]:.0%} to {FLIP_RATES[-1]:.0%}: the highest rate\n")
    print(f"| answers | margin, points | {titles} |\n{lines}")
    for n in options.sizes:
        both = [at_margins(n, interval) for interval in (change_interval, change_limits)]
        for margin in MARGINS:
            cells = [shown([row[1:] for row in rows if math.isclose(row[0], margin)]) for rows in both]
            print(f"| {n:,} | {100 * margin:g} | {' | '.join(cells)} |", flush=True)
    print(f"\nNegative flip rate, true rates {RATES[0]:.1%} to {RATES[-1]:.0%}: the highest rate\n")
    print(f"| answers | {titles} |\n{lines.removeprefix('|---')}")
    for n in options.sizes:
        cells = [shown(at_bounds(n, interval)) for interval in (wilson, clopper_pearson)]
        print(f"| {n:,} | {' | '.join(cells)} |")
    print(f"\nRelative change, old accuracy {ACCURACIES[0]:.0%} to {ACCURACIES[-1]:.0%}: the highest rate\n")
    print("| answers | margin, % | verdicts: false “kept”, % | verdicts: false “broken”, % |\n|---|---|---|---|")
    for n in options.small:
        rows = at_ratios(n)
        for margin in RELATIVE_MARGINS:
            print(f"| {n:,} | {100 * margin:g} | {shown([row[1:] for row in rows if row[0] == margin])} |", flush=True)


if __name__ == "__main__":
    main()
