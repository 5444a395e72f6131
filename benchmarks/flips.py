"""How long does it take to compare many answers, and how much longer does a plain Python loop take?

    python benchmarks/flips.py
    python benchmarks/flips.py --scale 0.1

Prints a Markdown table. The loop is timed in the same run, on the first instances of the same data (it is linear), so
that the ratio holds on any machine, busy or not. Each time is the best of three. The loop does less: it checks nothing
and works out no kappa.
"""

# ruff: noqa: T201 - a benchmark prints

import argparse
import os
import platform
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from muscle_hf.flips.comparison import compare, compare_correct
from muscle_hf.flips.score_comparison import compare_scores

LOOP = 100_000


def loop(
    old: Sequence[Any], new: Sequence[Any], references: Sequence[Any]
) -> tuple[list[int], list[int], int, int, int]:
    """Count the cells and flips, one instance after the other; no checks, no kappa."""
    negative, positive, right, wrong, same = [], [], 0, 0, 0
    for i, (before, after, gold) in enumerate(zip(old, new, references, strict=True)):
        if before == gold and after == gold:
            right += 1
        elif before == gold:
            negative.append(i)
        elif after == gold:
            positive.append(i)
        else:
            wrong += 1
            same += before == after
    return negative, positive, right, wrong, same


def loop_scores(old: Sequence[float], new: Sequence[float]) -> tuple[list[int], list[int], float]:
    """Find the scores that rose and fell, and sum the changes."""
    negative, positive, total = [], [], 0.0
    for i, (before, after) in enumerate(zip(old, new, strict=True)):
        total += after - before
        if after < before:
            negative.append(i)
        elif after > before:
            positive.append(i)
    return negative, positive, total


def seconds(call: Callable[[], object]) -> float:
    """Time a call, best of three."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    """Time each kind of input and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the instances to use (default 1)")
    scale = parser.parse_args().scale
    rng = np.random.default_rng(0)

    def integers(n: int, labels: int) -> list[Any]:
        return [rng.integers(0, labels, n) for _ in range(3)]

    def texts(n: int, labels: int) -> list[Any]:
        return [[None if v == 0 and i < 2 else f"answer {v}" for v in rng.integers(0, labels, n)] for i in range(3)]

    millions, one = int(10_000_000 * scale), int(1_000_000 * scale)
    cases: list[tuple[str, Callable[[], list[Any]], Callable[[list[Any]], object], Callable[..., object]]] = [
        ("ints, 150 classes, arrays", lambda: integers(millions, 150), _compare, loop),
        ("ints, 1,000 classes, arrays", lambda: integers(one, 1000), _compare, loop),
        ("ints, a million classes, arrays", lambda: integers(millions, 1_000_000), _compare, loop),
        (
            "right or wrong, arrays",
            lambda: [*integers(millions, 2)[:2], np.ones(millions, int)],
            _compare_correct,
            loop,
        ),
        ("scores, arrays", lambda: [rng.random(millions) for _ in range(2)], _compare_scores, loop_scores),
        ("ints, 150 classes, lists", lambda: [c.tolist() for c in integers(one, 150)], _compare, loop),
        ("strings, 10 answers, lists with None", lambda: texts(one, 10), _compare, loop),
        ("strings, a million answers, lists with None", lambda: texts(one, 1_000_000), _compare, loop),
    ]
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, numpy {np.__version__}")
    print("\n| input | n | seconds | loop, seconds | ratio |\n|---|---|---|---|---|")
    for name, make, call, plain in cases:
        columns = make()
        n = len(columns[0])
        took = seconds(partial(call, columns))
        # The loop gets lists of Python objects, which suit it best.
        first = [np.asarray(column[:LOOP], dtype=object).tolist() for column in columns]
        loop_took = seconds(partial(plain, *first)) * n / min(n, LOOP)
        print(f"| {name} | {n:,} | {took:.2f} | {loop_took:.2f} | {loop_took / took:.1f} |", flush=True)


def _compare(columns: list[Any]) -> object:
    return compare(old=columns[0], new=columns[1], references=columns[2])


def _compare_correct(columns: list[Any]) -> object:
    return compare_correct(old=columns[0], new=columns[1])


def _compare_scores(columns: list[Any]) -> object:
    return compare_scores(old=columns[0], new=columns[1])


if __name__ == "__main__":
    main()
