"""How often do the intervals of yes/no answers hold the truth, and what does a moved threshold promise and keep?

    python benchmarks/yes_no.py
    python benchmarks/yes_no.py --draws 200 --sizes 50

Prints Markdown tables. Answers of an old and a new model are drawn from correlated normals: each says yes where its
evidence, of mean d'/2 on questions with yes as the right answer and -d'/2 on the others, is above its cut c. The
truths are all pairs of an old and a new model among a few d' and c, so that rates of yes go from 1 to 99 %. Nominal is
that 95 % of intervals hold the truth, and that 2.5 % lie beyond it on each side.

Accuracy and its change are those of `compare`, which intervals.py measures. The second table has the truth of the
shift on a bound: how often a gate wrongly says that it is kept, or broken. The third holds what is promised of a moved
threshold against what it gives on new rows.
"""

# ruff: noqa: T201 - a benchmark prints

import argparse
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from muscle_hf.flips.special import ndtr
from muscle_hf.flips.yes_no.answers import NEGATIVE, POSITIVE
from muscle_hf.flips.yes_no.comparison import YesNoComparison
from muscle_hf.flips.yes_no.negative_bias import compare_codes, with_scores

LEVEL = 0.95
ABILITIES = (0.5, 2.5)
CUTS = (-1.0, 0.0, 1.0)
CORRELATION = 0.5
"""Of the evidence of old and new model on one question."""
OF_ONE = ("false_negative_rate", "false_positive_rate", "bias", "sensitivity", "criterion")
OF_BOTH = (
    "false_negative_rate_change",
    "false_positive_rate_change",
    "shift",
    "sensitivity_change",
    "criterion_change",
)
_LABELS = (frozenset(["yes"]), frozenset(["no"]))
_EDGE = 1e-12


class Model(NamedTuple):
    """How well a model can tell, and where it cuts."""

    ability: float
    cut: float

    def truth(self) -> dict[str, float]:
        """Give the rates that endless questions would show."""
        hits, false_alarms = ndtr(self.ability / 2 - self.cut), ndtr(-self.ability / 2 - self.cut)
        return {
            "false_negative_rate": 1 - hits,
            "false_positive_rate": false_alarms,
            "bias": 1 - hits - false_alarms,
            "sensitivity": self.ability,
            "criterion": self.cut,
        }


def pairs() -> Iterator[tuple[Model, Model]]:
    """Give every old and new model."""
    models = [Model(ability, cut) for ability, cut in itertools.product(ABILITIES, CUTS)]
    yield from itertools.product(models, models)


def cells_of(models: tuple[Model, Model], sizes: tuple[int, int], draws: int, seed: int) -> NDArray[np.int64]:
    """Draw what both say, shape (draws, 2, 2, 2): right answer, old answer, new answer; 0 is yes."""
    draw = np.random.default_rng(seed)
    found = np.zeros((draws, 2, 2, 2), np.int64)
    share = math.sqrt(CORRELATION)
    for gold, size in enumerate(sizes):
        mean = 0.5 if gold == POSITIVE else -0.5
        common = draw.normal(size=(draws, size))
        said = [
            share * common + math.sqrt(1 - CORRELATION) * draw.normal(size=(draws, size)) + mean * model.ability
            <= model.cut
            for model in models
        ]
        for old, new in itertools.product((0, 1), (0, 1)):
            found[:, gold, old, new] = ((said[0] == old) & (said[1] == new)).sum(axis=1)
    return found


def compared(cells: NDArray[np.int64]) -> YesNoComparison:
    """Compare counts as if they were answers."""
    grid = np.indices((2, 2, 2)).reshape(3, -1)
    gold, old, new = np.repeat(grid, cells.ravel(), axis=1)
    return compare_codes(gold, old, new, *_LABELS, {})


def coverage(size: tuple[int, int], draws: int, seed: int) -> dict[str, list[tuple[float, float]]]:
    """Give for each rate and truth how often the truth lies below and above the interval."""
    known: dict[bytes, dict[str, tuple[float, float]]] = {}
    misses: dict[str, list[tuple[float, float]]] = {}
    for place, models in enumerate(pairs()):
        old, new = (model.truth() for model in models)
        truths = {f"old {name}": old[name] for name in OF_ONE} | {f"new {name}": new[name] for name in OF_ONE}
        truths |= {change: new[name] - old[name] for change, name in zip(OF_BOTH, OF_ONE, strict=True)}
        below, above = dict.fromkeys(truths, 0), dict.fromkeys(truths, 0)
        for cells in cells_of(models, size, draws, seed + place):
            key = cells.tobytes()
            if key not in known:
                known[key] = _intervals(compared(cells))
            for name, (low, high) in known[key].items():
                below[name] += truths[name] < low - _EDGE
                above[name] += truths[name] > high + _EDGE
        for name in truths:
            misses.setdefault(name.split()[-1], []).append((below[name] / draws, above[name] / draws))
    return misses


def _intervals(b: YesNoComparison) -> dict[str, tuple[float, float]]:
    found = {name: b.confidence_interval(name, LEVEL) for name in OF_BOTH}
    for which, side in (("old", b.old), ("new", b.new)):
        found |= {f"{which} {name}": side.confidence_interval(name, LEVEL) for name in OF_ONE}
    return found


def at_bounds(size: tuple[int, int], draws: int, seed: int) -> Iterator[tuple[float, float, float]]:
    """Give the size of the shift of each truth, and how often a gate wrongly says kept, and broken, on it."""
    known: dict[bytes, tuple[float, float]] = {}
    for place, models in enumerate(pairs()):
        shift = abs(models[1].truth()["bias"] - models[0].truth()["bias"])
        kept = broken = 0
        for cells in cells_of(models, size, draws, seed + place):
            key = cells.tobytes()
            if key not in known:
                known[key] = compared(cells).decision_interval("shift_size", LEVEL)
            low, high = known[key]
            kept += high < shift - _EDGE
            broken += low > shift + _EDGE
        yield shift, kept / draws, broken / draws


def thresholds(
    size: int, moved: float, draws: int, seed: int, fresh: int = 20_000
) -> tuple[float, float, float, float]:
    """Give what a moved threshold adds to accuracy: as promised, on new rows, the spread of both, and as fitted.

    The new model is the old one but for a score that moved by so many nats; as fitted is what the threshold of all
    rows gives on these same rows.
    """
    draw = np.random.default_rng(seed)
    promised, kept, fitted = [], [], []

    def scores_of(n: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        gold = np.repeat([POSITIVE, NEGATIVE], n // 2)
        return gold, draw.normal(np.where(gold == POSITIVE, -1.5, 1.5), 2.0) + moved

    for _ in range(draws):
        gold, scores = scores_of(size)
        said = np.where(scores > 0, NEGATIVE, POSITIVE)
        b = with_scores(compare_codes(gold, gold, said, *_LABELS, {}), gold, said, scores)
        repairs = b.moved_threshold
        assert repairs is not None  # noqa: S101 - both right answers are there
        right, more = scores_of(fresh)
        truth = float(
            np.mean((more > repairs.threshold) == (right == NEGATIVE)) - np.mean((more > 0) == (right == NEGATIVE))
        )
        promised.append(repairs.change.accuracy_change)
        kept.append(truth)
        fitted.append(float(np.mean((scores > repairs.threshold) == (gold == NEGATIVE)) - b.new.accuracy))
    spread = float(np.std(np.subtract(promised, kept), ddof=1))
    return float(np.mean(promised)), float(np.mean(kept)), spread, float(np.mean(fitted))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--sizes",
        nargs="*",
        default=["50", "500"],
        help="questions with each right answer, YES or YES:NO",
    )
    parser.add_argument("--draws", type=int, default=100, help="for each of the 36 pairs of models")
    parser.add_argument("--thresholds", type=int, default=300, help="draws for each row of the last table")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    sizes = [_size(text) for text in options.sizes]
    print(f"Intervals, 36 truths, {options.draws} draws each\n")
    _head("questions, yes + no", "rate", "held, %: mean, lowest", "truth below, %", "truth above, %")
    for size in sizes:
        for name, rows in coverage(size, options.draws, options.seed).items():
            below, above = np.array(rows).T
            held = 100 * (1 - below - above)
            shown = f"{held.mean():.1f}, {held.min():.1f} | {100 * below.mean():.1f} | {100 * above.mean():.1f}"
            print(f"| {size[0]} + {size[1]} | {name} | {shown} |", flush=True)
    print("\nA gate on a shift that is just its bound: rates of false verdicts, %: mean, highest\n")
    _head("questions, yes + no", "shift", "false “kept”", "false “broken”")
    for size in sizes:
        rows = np.array(list(at_bounds(size, options.draws, options.seed)))
        for told, chosen in (("none", rows[:, 0] < _EDGE), ("some", rows[:, 0] >= _EDGE)):
            shown = [f"{100 * rows[chosen, side].mean():.1f}, {100 * rows[chosen, side].max():.1f}" for side in (1, 2)]
            print(f"| {size[0]} + {size[1]} | {told} | {' | '.join(shown)} |", flush=True)
    print("\nA moved threshold: what it adds to accuracy, points\n")
    _head("questions", "score moved by, nats", "promised", "on new rows", "standard deviation of that", "as fitted")
    for n, moved in itertools.product((100, 400), (0.0, 1.0, 3.0)):
        promised, kept, spread, fitted = thresholds(n, moved, options.thresholds, options.seed)
        shown = f"{100 * promised:+.1f} | {100 * kept:+.1f} | {100 * spread:.1f} | {100 * fitted:+.1f}"
        print(f"| {n} | {moved:g} | {shown} |", flush=True)


def _head(*titles: str) -> None:
    print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}")


def _size(text: str) -> tuple[int, int]:
    yes, _, no = text.partition(":")
    return int(yes), int(no or yes)


if __name__ == "__main__":
    main()
