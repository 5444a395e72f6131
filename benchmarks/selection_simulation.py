"""Labels that are missing because nobody looked, simulated: what each way of learning from them recovers.

Rows are relevant with log odds -1 + 1.5 x and are looked at with log odds a + 1.5 u, x and u independent and normal;
the label is there where both are.
"""

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

import muscle_hf
from muscle_hf.flips.grading.logistic import alternate, logistic, product
from muscle_hf.flips.special import expit

Numbers: TypeAlias = NDArray[np.float64]
Flags: TypeAlias = NDArray[np.bool_]
Row: TypeAlias = list[tuple[str, float]]

SLOPE, INTERCEPT = 1.5, -1.0
RARER = -2.4
"""The intercept of selection in the sparser case."""


def draw_rows(n: int, seed: int, intercept: float = INTERCEPT) -> tuple[Flags, Numbers, Numbers, Flags]:
    """Draw labels, x, u and relevance."""
    draw = np.random.default_rng(seed)
    x, u = draw.standard_normal((2, n))
    relevant = draw.random(n) < expit(INTERCEPT + SLOPE * x)
    return relevant & (draw.random(n) < expit(intercept + SLOPE * u)), x, u, relevant


def area(scores: Numbers, truth: Flags) -> float:
    """Give the area under the ROC curve: how often a relevant row is scored above another one."""
    ranks = np.empty(len(scores))
    ranks[np.argsort(scores)] = np.arange(1, len(scores) + 1)
    count = int(truth.sum())
    return float((ranks[truth].sum() - count * (count + 1) / 2) / count / (len(scores) - count))


def slopes(n: int, seed: int) -> Row:
    """Give the slope of x with relevance by x and selection by u, by each method; 1.5 is the truth."""
    labels, x, u, relevant = draw_rows(n, seed)
    table = _table(x)
    naive, _ = logistic(labels, table, np.ones(n), np.zeros(2))
    row = [("labelled, %", 100 * labels.mean()), ("relevant of the others, %", 100 * relevant[~labels].mean())]
    row.append(("naive", naive[1] / x.std()))
    for method in ("weights", "product"):
        e = muscle_hf.coupled_estimate(labels, relevance={"x": x}, selection={"u": u}, method=method)
        row.append((method, e.relevance.coefficients["x"]))
    return row


def areas(n: int, seed: int, intercept: float) -> Row:
    """Give the area under the curve of true relevance where relevance may use x and u, selection u alone.

    `coupled_estimate` refuses that, as selection has no column of its own: it is x that tells the parts apart here.
    """
    labels, x, u, relevant = draw_rows(n, seed, intercept)
    table, of_selection = _table(x, u), _table(u)
    naive, _ = logistic(labels, table, np.ones(n), np.zeros(3))
    weighted, _ = alternate(labels, table, of_selection, lambda odds: 1 + np.exp(odds / 2))
    likeliest, _ = product(labels, table, of_selection)
    row = [("labelled, %", 100 * labels.mean())]
    ends = (("naive", naive), ("weights", weighted[:3]), ("product", likeliest[:3]))
    row += [(name, area(table @ end, relevant)) for name, end in ends]
    return [*row, ("truth", area(x, relevant))]


def without_exclusion(n: int, seed: int) -> Row:
    """Give what comes out where nothing tells the parts apart: both use x and u, or both use one feature."""
    labels, x, u, relevant = draw_rows(n, seed)
    table = _table(x, u)
    both, _ = product(labels, table, table)
    draw = np.random.default_rng(seed)
    one = draw.standard_normal(n)
    seen = (draw.random(n) < expit(INTERCEPT + SLOPE * one)) & (draw.random(n) < expit(INTERCEPT + 0.3 * one))
    shared, _ = product(seen, _table(one), _table(one))
    swapped = area(table @ both[:3], relevant) < area(table @ both[3:], relevant)
    row = [("swapped", float(swapped)), ("area", area(table @ both[:3], relevant))]
    return [
        *row,
        ("steeper slope (1.5)", max(shared[1], shared[3])),
        ("flatter slope (0.3)", min(shared[1], shared[3])),
    ]


def coverage(n: int, draws: Sequence[int], level: float = 0.95) -> Iterator[tuple[str, int, int]]:
    """Count for each coefficient how often its interval holds the truth: name, how often, of how many."""
    truths = {"relevance.x": SLOPE, "relevance.intercept": INTERCEPT}
    truths |= {"selection.u": SLOPE, "selection.intercept": INTERCEPT}
    held = dict.fromkeys(truths, 0)
    for seed in draws:
        labels, x, u, _ = draw_rows(n, seed)
        e = muscle_hf.coupled_estimate(labels, relevance={"x": x}, selection={"u": u})
        for name, truth in truths.items():
            low, high = e.confidence_interval(name, level)
            held[name] += low <= truth <= high
    yield from ((name, count, len(draws)) for name, count in held.items())


def _table(*columns: Numbers) -> Numbers:
    """Give the columns with mean 0 and spread 1, behind one of ones."""
    table = np.column_stack(columns)
    return np.column_stack([np.ones(len(table)), (table - table.mean(0)) / table.std(0)])
