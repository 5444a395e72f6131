"""How often do test and intervals err where answers come in clusters, such as ten paraphrases of each question?

    python benchmarks/clusters.py
    python benchmarks/clusters.py --answers 50 500 --draws 300 --change-draws 100 --score-draws 100

Prints Markdown tables, one row for each number of answers and size of the clusters; each figure is over flip rates and
over how alike the answers of a cluster are: the intraclass correlation, from 0 (independent) to 1 (all the same).
Nominal is 5 % of false alarms, and 2.5 % on each side of a 95 % interval. With 6,000 draws the standard error of a
rate of 5 % is 0.28 points, and the highest of many lies above by chance alone.
"""

# ruff: noqa: T201 - a benchmark prints

import argparse
import functools
import itertools
import math
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from muscle_hf.flips.clusters import ClusterCells
from muscle_hf.flips.comparison import Comparison
from muscle_hf.flips.paired_tests import TESTS, coin_test, p_value, signed_rank_test
from muscle_hf.flips.score_comparison import compare_scores

LEVEL = 0.95
SIZES = ("1", "5", "10", "unequal")
FLIP_RATES = (0.02, 0.1)
"""Share of answers that flip; half of them are negative where the update is neutral, and else three in four."""
ALIKE = (0.0, 0.3, 1.0)
RIGHT = 0.55
"""Share of answers that both models get right."""
RATES = ("negative_flip_rate", "backward_trust_compatibility", "relative_negative_flip_rate", "kappa")


def cluster_sizes(answers: int, size: str, seed: int) -> NDArray[np.int64]:
    """Give the sizes of clusters that hold so many answers; unequal ones are geometric with a mean of 8."""
    if size != "unequal":
        return np.full(answers // int(size), int(size))
    drawn = np.random.default_rng(seed).geometric(1 / 8, answers)
    whole = drawn[: int(np.searchsorted(np.cumsum(drawn), answers))]
    return np.append(whole, answers - whole.sum())


def draw(
    sizes: NDArray[np.int64], flips: float, negative: float, alike: float, draws: int, random: np.random.Generator
) -> NDArray[np.float64]:
    """Draw what clusters hold, by kind: both right, positive, negative, both wrong; shape (draws, 4, clusters).

    The shares of a cluster have a Dirichlet distribution with that intraclass correlation, drawn kind after kind.
    """
    shape = draws, len(sizes)

    def split(whole: NDArray[np.int64], share: float, left: float) -> NDArray[np.int64]:
        """Draw how many of each cluster are of a kind; `left` is the probability of those among which they are."""
        if alike == 0:
            return random.binomial(whole, share)
        if alike == 1:
            return np.where(random.random(shape) < share, whole, 0)
        weight = (1 - alike) / alike * left
        return random.binomial(whole, random.beta(weight * share, weight * (1 - share), shape))

    flipped = split(np.broadcast_to(sizes, shape), flips, 1.0)
    broken = split(flipped, negative, flips)
    right = split(sizes - flipped, RIGHT / (1 - flips), 1 - flips)
    return np.stack([right, flipped - broken, broken, sizes - flipped - right], axis=1).astype(np.float64)


def compared(cells: NDArray[np.float64]) -> Comparison:
    """Make the comparison of answers of which each cluster has so many of each kind; answers are yes and no."""
    sums = cells.sum(1)
    right, positive, negative, wrong = sums.tolist()
    n = sums.sum()
    old, new = (right + negative) / n, (right + positive) / n
    chance = old * new + (1 - old) * (1 - new)
    k = ((right + wrong) / n - chance) / (1 - chance) if chance < 1 else math.nan
    weight = np.array([old + new, 1 + old - new, 1 + new - old, 2 - old - new])
    influence = np.array([1, 0, 0, 1]) - (1 - k) * weight
    influence = influence - influence @ sums / n
    squares = float(influence**2 @ sums)
    by_cluster = ClusterCells(cells[0], cells[3], cells[1], cells[2], cells[3], (influence @ cells, squares))
    return Comparison(
        both_right=int(right),
        both_wrong=int(wrong),
        both_wrong_same=int(wrong),
        chance_agreement=chance,
        kappa_standard_error=math.sqrt(squares) / n / (1 - chance) if chance < 1 else math.nan,
        negative_flips=np.arange(int(negative)),
        positive_flips=np.arange(int(positive)),
        by_cluster=by_cluster,
    )


def truth(flips: float, negative: float) -> dict[str, float]:
    """Give the true rates."""
    broken, repaired = flips * negative, flips * (1 - negative)
    old, new = RIGHT + broken, RIGHT + repaired
    chance = old * new + (1 - old) * (1 - new)
    return {
        "negative_flip_rate": broken,
        "backward_trust_compatibility": RIGHT / old,
        "relative_negative_flip_rate": broken / (old * (1 - new)),
        "kappa": (1 - flips - chance) / (1 - chance),
        "accuracy_change": repaired - broken,
        "relative_accuracy_change": (repaired - broken) / old,
    }


def beyond(c: Comparison, name: str, value: float, *, decision: bool = False) -> NDArray[np.bool_]:
    """Say whether the truth lies below and above the interval of a rate."""
    low, high = (c.decision_interval if decision else c.confidence_interval)(name, LEVEL)
    return np.array([low > value + 1e-12, high < value - 1e-12])


def setups(sizes: Sequence[str], rates: Sequence[float], alike: Sequence[float]) -> Iterator[tuple[str, float, float]]:
    """Give size, flip rate and likeness; alone in its cluster an answer has none to be like."""
    for size, rate, like in itertools.product(sizes, rates, alike):
        if size != "1" or like == 0:
            yield size, rate, like


def tests_and_shares(
    answers: int, size: str, rate: float, alike: float, draws: int
) -> tuple[dict[str, float], dict[str, NDArray[np.float64]]]:
    """Give how often a neutral update is called one that is not, and how often the truth lies beyond each interval."""
    random = np.random.default_rng(0)
    sizes, values = cluster_sizes(answers, size, 0), truth(rate, 0.5)
    alarms: dict[str, float] = defaultdict(float)
    misses: dict[str, NDArray[np.float64]] = {name: np.zeros(2) for name in (*RATES, "verdict")}
    defined = dict.fromkeys(misses, 0)
    for start in range(0, draws, 500):
        for cells in draw(sizes, rate, 0.5, alike, min(500, draws - start), random):
            c = compared(cells)
            coins = ClusterCells(*cells[[0, 3, 1, 2, 3]]).coins
            tail = functools.cache(coins.tail)  # which the four tests share
            for test in TESTS:
                alarms[test] += p_value(test, coins.negative, coins.positive, tail) < 1 - LEVEL
            alarms["ignored"] += coin_test(len(c.negative_flips), len(c.positive_flips)) < 1 - LEVEL
            for name in misses:
                rate_name = "negative_flip_rate" if name == "verdict" else name
                if not math.isnan(getattr(c, rate_name)):
                    defined[name] += 1
                    misses[name] += beyond(c, rate_name, values[rate_name], decision=name == "verdict")
    return (
        {name: count / draws for name, count in alarms.items()},
        {name: found / max(1, defined[name]) for name, found in misses.items()},
    )


def changes(answers: int, size: str, rate: float, alike: float, draws: int) -> dict[str, NDArray[np.float64]]:
    """Give how often the truth lies beyond the intervals of the change of accuracy, of an update that loses some."""
    random, values = np.random.default_rng(0), truth(rate, 0.75)
    misses = {name: np.zeros(2) for name in ("accuracy_change", "verdict", "relative_accuracy_change")}
    for cells in draw(cluster_sizes(answers, size, 0), rate, 0.75, alike, draws, random):
        c = compared(cells)
        for name, found in misses.items():
            rate_name = "accuracy_change" if name == "verdict" else name
            found += beyond(c, rate_name, values[rate_name], decision=name == "verdict")
    return {name: found / draws for name, found in misses.items()}


def scores(answers: int, size: str, alike: float, draws: int) -> dict[str, float]:
    """Give false alarms, and how often the mean change lies beyond its interval, of a neutral update.

    A change is normal, and 0 on half of the answers.
    """
    random, sizes = np.random.default_rng(0), cluster_sizes(answers, size, 0)
    numbers = np.repeat(np.arange(len(sizes)), sizes)
    alarms, misses = dict.fromkeys(("ignored", "two-sided"), 0.0), np.zeros(2)
    for _ in range(draws):
        change = math.sqrt(alike) * random.normal(size=len(sizes))[numbers]
        change = (change + math.sqrt(1 - alike) * random.normal(size=answers)) * (random.random(answers) < 0.5)
        c = compare_scores(old=np.zeros(answers), new=change, clusters=numbers)
        alarms["two-sided"] += c.p_value < 1 - LEVEL
        alarms["ignored"] += signed_rank_test(change[change != 0]) < 1 - LEVEL
        low, high = c.confidence_interval("mean_change", LEVEL)
        misses += np.array([low > 0, high < 0])
    sides = dict(zip("<>", (misses / draws).tolist(), strict=True))
    return {name: count / draws for name, count in alarms.items()} | sides


def shown(values: Sequence[float]) -> str:
    """Show mean and highest of rates in percent."""
    return f"{100 * sum(values) / len(values):.1f}, {100 * max(values):.1f}"


def row(answers: int, size: str, columns: Sequence[Sequence[float]]) -> None:
    """Print one row as soon as it is known."""
    clusters = len(cluster_sizes(answers, size, 0))
    print(f"| {answers:,} | {clusters:,} | {size} | {' | '.join(map(shown, columns))} |")
    sys.stdout.flush()


def heading(columns: Sequence[str]) -> None:
    """Print the head of a table."""
    print(f"| answers | clusters | of size | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 3)}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=int, nargs="+", default=[50, 500, 5000])
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=SIZES)
    parser.add_argument("--rates", type=float, nargs="+", default=list(FLIP_RATES), help="shares that flip")
    parser.add_argument("--alike", type=float, nargs="+", default=list(ALIKE), help="intraclass correlations")
    parser.add_argument("--draws", type=int, default=6000)
    parser.add_argument("--change-draws", type=int, default=3000, help="of the second table, which takes longer")
    parser.add_argument("--score-draws", type=int, default=3000, help="of the third table, up to 500 scores")
    options = parser.parse_args(arguments)
    cases = list(setups(options.sizes, options.rates, options.alike))

    print(f"A neutral update: false alarms, and shares, {options.draws:,} draws each; %: mean, highest\n")
    sides = [f"{name}: {side}" for name in ("NFR", "NFR, verdict", "BTC", "relative NFR", "kappa") for side in "<>"]
    heading(["clusters ignored", *TESTS, *sides])
    for answers, size in itertools.product(options.answers, options.sizes):
        found = [tests_and_shares(answers, *case, options.draws) for case in cases if case[0] == size]
        alarms = [[alarm[name] for alarm, _ in found] for name in ("ignored", *TESTS)]
        names = ("negative_flip_rate", "verdict", *RATES[1:])
        row(answers, size, [*alarms, *([float(m[name][side]) for _, m in found] for name in names for side in (0, 1))])

    print(
        f"\nThree of four flips negative: change of accuracy, {options.change_draws:,} draws each; %: mean, highest\n"
    )
    heading([f"{name}: {side}" for name in ("change", "change, verdict", "relative change") for side in "<>"])
    for answers, size in itertools.product(options.answers, options.sizes):
        lost = [changes(answers, *case, options.change_draws) for case in cases if case[0] == size]
        row(answers, size, [[float(m[name][side]) for m in lost] for name in lost[0] for side in (0, 1)])

    print(f"\nScores: Wilcoxon's test and the mean change, {options.score_draws:,} draws each; %: mean, highest\n")
    heading(["clusters ignored", "two-sided", "mean change: <", "mean change: >"])
    columns = ["ignored", "two-sided", "<", ">"]
    for answers, size in itertools.product([n for n in options.answers if n <= 500], options.sizes):
        likes = {alike for case, _, alike in cases if case == size}
        tried = [scores(answers, size, alike, options.score_draws) for alike in sorted(likes)]
        row(answers, size, [[found[name] for found in tried] for name in columns])


if __name__ == "__main__":
    main()
