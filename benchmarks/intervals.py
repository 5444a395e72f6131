"""How often does the truth lie beyond a bound, and how often do interval and test contradict each other?

    python benchmarks/intervals.py
    python benchmarks/intervals.py --exact 20 --simulated 200 --draws 100 --margins 50 --ratios 20

Prints Markdown tables. For few instances every possible outcome is weighted by its probability, so these rates are
exact; for more, outcomes are drawn. Nominal is 2.5 % on each side of a 95 % interval. The last two tables have the
truth just on a margin; how often verdicts err there is in `decide.py`.
"""

# ruff: noqa: T201 - a benchmark prints

import argparse
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, xlogy

from muscle_hf.flips.intervals import Cells, Interval, change_interval, newcombe, relative_interval
from muscle_hf.flips.paired_tests import coin_test
from muscle_hf.flips.ratio import relative_limits

Row: TypeAlias = tuple[float, float, float]
"""A margin, and how often it is wrongly said to be kept, and to be broken."""

LEVEL = 0.95
ACCURACIES = (0.1, 0.3, 0.5, 0.7, 0.9, 0.97)
LARGEST_CHANGE = 0.2
RELATIVE = (0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2)
"""Relative negative flip rates: 1 where errors fall as if the old model did not matter."""
MARGINS = (0.0, 0.01, 0.02, 0.05)
RELATIVE_MARGINS = (0.0, 0.02, 0.05, 0.1)
FLIP_RATES = (0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4)
# Outcomes less probable than this under every truth are left out, of hundreds of instances.
_LEAST = 1e-9


def truths() -> Iterator[tuple[float, float, float, NDArray[np.float64]]]:
    """Give old accuracy, new accuracy, relative negative flip rate and the probabilities of the cells."""
    for old, new, relative in itertools.product(ACCURACIES, ACCURACIES, RELATIVE):
        flip = relative * old * (1 - new)
        cells = np.array([old - flip, new - old + flip, flip, 1 - new - flip])
        if (cells > -1e-12).all():
            yield old, new, relative, np.maximum(cells, 0.0)


def outcomes(n: int) -> NDArray[np.int64]:
    """Give all ways in which n instances fall into the four cells."""
    first = np.indices((n + 1,) * 3).reshape(3, -1)
    first = first[:, first.sum(0) <= n]
    return np.vstack([first, n - first.sum(0)]).T.astype(np.int64)


def weights(cells: NDArray[np.int64], probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the probability of each outcome."""
    logs = np.where(cells > 0, cells * np.log(np.maximum(probabilities, 1e-300)), 0.0).sum(1)
    possible = (cells[:, probabilities == 0] == 0).all(1)
    whole = gammaln(cells[0].sum() + 1) - gammaln(cells + 1).sum(1)
    return np.where(possible, np.exp(whole + logs), 0.0)


def bounds(cells: NDArray[np.int64], interval: Callable[[Cells, float], Interval]) -> NDArray[np.float64]:
    """Give the interval of each outcome; nan where the rate is undefined."""
    undefined = (math.nan, math.nan)
    return np.array([interval((a, b, c, d), LEVEL) if a + c and c + d else undefined for a, b, c, d in cells.tolist()])


def misses(
    size: int,
    draws: int | None,
    interval: Callable[[Cells, float], Interval],
    value: Callable[[float, float, float], float],
) -> list[tuple[float, float]]:
    """Give for each truth how often it lies below and above the interval."""
    rows = []
    if draws is None:
        every = outcomes(size)
        limits = bounds(every, interval)
    for old, new, relative, probabilities in truths():
        truth = value(old, new, relative)
        if math.isnan(truth):
            continue
        if draws is not None:
            every, counts = np.unique(
                np.random.default_rng(0).multinomial(size, probabilities, draws), axis=0, return_counts=True
            )
            limits, weight = bounds(every, interval), counts / draws
        else:
            weight = weights(every, probabilities)
        known = ~np.isnan(limits[:, 0])
        weight = weight[known] / weight[known].sum()
        below = float(weight[limits[known, 0] > truth + 1e-9].sum())
        above = float(weight[limits[known, 1] < truth - 1e-9].sum())
        rows.append((below, above))
    return rows


def table(
    exact: Sequence[int],
    simulated: Sequence[int],
    draws: int,
    interval: Callable[[Cells, float], Interval],
    value: Callable[[float, float, float], float],
) -> None:
    """Print how often the truth lies beyond the bounds, for all numbers of instances."""
    print(
        "| instances | by | truths | truth below, %: mean, highest | truth above, %: mean, highest |"
        "\n|---|---|---|---|---|"
    )
    for size, number in [*((n, None) for n in exact), *((n, draws) for n in simulated)]:
        rows = np.array(misses(size, number, interval, value))
        shown = [f"{100 * rows[:, side].mean():.1f}, {100 * rows[:, side].max():.1f}" for side in (0, 1)]
        print(
            f"| {size:,} | {'enumeration' if number is None else f'{number:,} draws each'} | {len(rows)} | "
            f"{' | '.join(shown)} |"
        )


def contradictions(size: int) -> tuple[int, int, int]:
    """Count the outcomes up to a number of instances, and those where interval and test differ on whether 0 can be.

    Returns:
        All outcomes; those where Newcombe's interval differs from the test; and those where ours does.
    """
    every = before = after = 0
    for n in range(1, size + 1):
        for both_right, positive, negative, both_wrong in outcomes(n).tolist():
            cells = both_right, positive, negative, both_wrong
            sure = coin_test(negative, positive) < 1 - LEVEL
            every += 1
            low, high = newcombe(cells, LEVEL)
            before += (low <= 0 <= high) is sure
            low, high = change_interval(cells, LEVEL)
            after += (low <= 0 <= high) is sure
    return every, before, after


# The truth just on a margin ------------------------------------------------------------------------------------------


def truths_at_margins() -> list[tuple[float, tuple[float, float]]]:
    """Give the margins, and with each the positive and the negative flip rate of a change that is just so large."""
    return [
        (margin, ((flips - margin) / 2, (flips + margin) / 2))
        for margin in MARGINS
        for flips in FLIP_RATES
        if flips >= margin
    ]


def chances(n: int, flips: NDArray[np.int64], rates: tuple[float, float]) -> NDArray[np.float64]:
    """Give the probability of each pair of numbers of positive and negative flips."""
    counts, shares = np.vstack([flips, n - flips.sum(0)]), np.array([*rates, 1 - sum(rates)])
    return np.asarray(np.exp(gammaln(n + 1) - gammaln(counts + 1).sum(0) + xlogy(counts, shares[:, None]).sum(0)))


def at_margins(n: int, interval: Callable[[Cells, float], Interval]) -> list[Row]:
    """Give for each truth its margin, and how often the interval says that it is kept, and that it is broken.

    Half of the answers that do not flip are right: only the interval of tables asks.
    """
    flips = np.indices((n + 1, n + 1)).reshape(2, -1)
    flips = flips[:, flips.sum(0) <= n]
    flips = flips[:, np.max([chances(n, flips, rates) for _, rates in truths_at_margins()], axis=0) > _LEAST]
    ends = np.array(
        [
            interval(((n - rise - fall) // 2, rise, fall, (n - rise - fall + 1) // 2), LEVEL)
            for rise, fall in flips.T.tolist()
        ]
    )
    return [(margin, *false_claims(ends, margin, chances(n, flips, rates))) for margin, rates in truths_at_margins()]


def at_ratios(n: int) -> list[Row]:
    """Give for each truth its relative margin, and how often the interval says that it is kept, and broken."""
    cells = outcomes(n)
    cells = cells[cells[:, 0] + cells[:, 2] > 0]  # without an old right answer there is no ratio, and no claim
    ends = np.array([relative_limits((a, b, c, d), LEVEL) for a, b, c, d in cells.tolist()])
    rows = []
    for margin, old, fall in itertools.product(RELATIVE_MARGINS, ACCURACIES[:-1], FLIP_RATES):
        truth = np.array([old - fall, fall - margin * old, fall, 1 - old - fall + margin * old])
        if (truth >= 0).all():
            rows.append((margin, *false_claims(ends, margin, weights(cells, truth))))
    return rows


def false_claims(ends: NDArray[np.float64], margin: float, weight: NDArray[np.float64]) -> tuple[float, float]:
    """Give how often intervals lie on the good side of a margin, and on the bad side."""
    return float(weight[ends[:, 0] > -margin + 1e-9].sum()), float(weight[ends[:, 1] < -margin - 1e-9].sum())


def claims_table(
    unit: str, sizes: Sequence[int], margins: Sequence[float], rows_of: Callable[[int], list[Row]]
) -> None:
    """Print the highest rates of false claims over all truths, for all numbers of instances and margins."""
    print(f"| instances | margin, {unit} | false “kept”, % | false “broken”, % |\n|---|---|---|---|")
    for n in sizes:
        rows = rows_of(n)
        for margin in margins:
            highest = [max(row[side] for row in rows if row[0] == margin) for side in (1, 2)]
            print(f"| {n:,} | {100 * margin:g} | {' | '.join(f'{100 * rate:.1f}' for rate in highest)} |", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exact", type=int, nargs="*", default=[20, 30, 60], help="instances, by enumeration")
    parser.add_argument("--simulated", type=int, nargs="*", default=[200, 1000, 12000], help="instances, by draws")
    parser.add_argument("--draws", type=int, default=4000)
    parser.add_argument("--contradictions", type=int, default=30, help="largest number of instances to enumerate")
    parser.add_argument("--margins", type=int, nargs="*", default=[50, 100, 500], help="instances, at a margin")
    parser.add_argument("--ratios", type=int, nargs="*", default=[20, 40, 60], help="the same at a relative margin")
    options = parser.parse_args(arguments)
    sizes = options.exact, options.simulated, options.draws
    print("Relative negative flip rate\n")
    table(*sizes, relative_interval, lambda old, new, relative: relative)
    print(f"\nChange of accuracy, by {100 * LARGEST_CHANGE:g} points at most\n")
    table(
        *sizes,
        change_interval,
        lambda old, new, relative: new - old if abs(new - old) <= LARGEST_CHANGE + 1e-9 else math.nan,
    )
    every, before, after = contradictions(options.contradictions)
    print(
        f"\nInterval and test of the change differ on {before:,} of the {every:,} outcomes of 1 to "
        f"{options.contradictions} instances with Newcombe's interval alone ({100 * before / every:.1f} %), on "
        f"{after} as it is."
    )
    shown = f"flip rates {FLIP_RATES[0]:.0%} to {FLIP_RATES[-1]:.0%}: the highest rates, by enumeration\n"
    print(f"\nChange of accuracy just the margin, by the intervals of the tables, {shown}")
    claims_table("points", options.margins, MARGINS, partial(at_margins, interval=change_interval))
    print(f"\nRelative change just the margin, {shown}")
    claims_table("%", options.ratios, RELATIVE_MARGINS, at_ratios)


if __name__ == "__main__":
    main()
