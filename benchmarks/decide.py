"""How often do verdicts err: that a bound is kept, that it is broken, that an evaluation may stop?

    python benchmarks/decide.py
    python benchmarks/decide.py --sizes 50 --evaluations 1000

Prints the Markdown tables of docs/decide.md. Rates "by enumeration" weight every possible outcome by its probability
and are exact; others are drawn, with their number, the seed and a 95 % interval. The truth lies on the bound itself,
where false claims are most frequent: nominal are 2.5 % on each side at the level of 0.95.
"""

# ruff: noqa: T201 - a benchmark prints

import argparse
import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, gammaln, xlogy

from muscle_hf.flips.coin import coin_flips
from muscle_hf.flips.comparison import compare_correct
from muscle_hf.flips.intervals import wilson
from muscle_hf.flips.paired_tests import TESTS, coin_test
from muscle_hf.flips.planning.sample_size import chance_of_claim, chance_of_share, change_claim, claim_of_test
from muscle_hf.flips.planning.stopping import BROKEN, KEPT, stopping_verdict

LEVEL = 0.95
MARGINS = (0.0, 0.01, 0.02, 0.05)
FLIP_RATES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4)
BOUNDS = (0.01, 0.02, 0.05, 0.1)
SLICES = 14
CLUSTERED = (
    (100, 5, 0.3, 0.1, 0.05, 0.1),
    (200, 10, 0.5, 0.1, 0.05, 0.1),
    (300, 10, 0.5, 0.06, 0.03, 0.06),
    (500, 4, 0.8, 0.1, 0.03, 0.08),
)
"""Clusters, questions of each, ICC, flip rate, margin and bound on the NFR."""
# Of the evaluations that are looked at while they grow.
EVERY, STOP_AT = 100, 20.0
DROPS = (0.0, 0.01, 0.02, 0.05)
GROWING_FLIP_RATES = (0.05, 0.1, 0.2)


def percent(share: float) -> str:
    """Write a rate that was worked out."""
    return f"{100 * share:.1f}"


def drawn(count: int, of: int) -> str:
    """Write a rate that was drawn, with its interval."""
    low, high = wilson(count, of, LEVEL)
    return f"{100 * count / of:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def table(head: Sequence[str]) -> None:
    """Begin a table."""
    print(f"| {' | '.join(head)} |\n{'|---' * len(head)}|")


def row(*cells: str) -> None:
    """Print its next row, as soon as it is there."""
    print(f"| {' | '.join(cells)} |", flush=True)


# A single bound ------------------------------------------------------------------------------------------------------


def changes(sizes: Sequence[int]) -> None:
    """Print the highest rates of false claims about a margin, over all flip rates."""
    shown = ", ".join(f"{100 * rate:g}" for rate in FLIP_RATES)
    print(f"Margin, change of accuracy just the margin, flip rates from the margin to {shown} %, by enumeration\n")
    table(["questions", "margin, points", "false “kept”, %", "false “broken”, %", "interval holds the truth, %"])
    for n in sizes:
        for margin in MARGINS:
            errors = []
            for flips in sorted({max(margin, rate) for rate in FLIP_RATES}):
                rates = (flips + margin) / 2, (flips - margin) / 2
                claims = (change_claim(-margin, LEVEL, above=above) for above in (True, False))
                errors.append([chance_of_claim(claim, n, *rates, exact=True) for claim in claims])
            kept, broken = (max(side) for side in zip(*errors, strict=True))
            covered = 1 - max(map(sum, errors))
            row(f"{n:,}", f"{100 * margin:g}", percent(kept), percent(broken), f"{percent(covered)} or more")


def shares(sizes: Sequence[int]) -> None:
    """Print the rates of false claims about a bound on the negative flip rate."""
    print("\nBound on the NFR, true NFR just the bound, by enumeration\n")
    table(["questions", "bound, %", "false “kept”, %", "false “broken”, %", "interval holds the truth, %"])
    for n in sizes:
        for bound in BOUNDS:
            kept, broken = chance_of_share(n, bound, bound, LEVEL)
            row(f"{n:,}", f"{100 * bound:g}", percent(kept), percent(broken), percent(1 - kept - broken))


# Several rows under one bound ----------------------------------------------------------------------------------------


def families(sizes: Sequence[int]) -> None:
    """Print how often one of many slices, each just on its bound, is wrongly called broken."""
    print(f"\n{SLICES} slices under one bound, each just on it: any false “broken”, %, by enumeration\n")
    table(["questions a slice", "bound", "without correction", "with Holm's"])
    stricter = 1 - (1 - LEVEL) / SLICES  # which one of them has to pass at first
    for n in sizes:
        of_nfr = [chance_of_share(n, 0.05, 0.05, level)[1] for level in (LEVEL, stricter)]
        of_change = [
            chance_of_claim(change_claim(-0.01, level, above=False), n, 0.055, 0.045, exact=True)
            for level in (LEVEL, stricter)
        ]
        for name, chances in (("NFR 5 %", of_nfr), ("margin 1 point, 10 % flip", of_change)):
            row(f"{n:,}", name, *(percent(1 - (1 - chance) ** SLICES) for chance in chances))


# Questions in clusters -----------------------------------------------------------------------------------------------


def clusters(evaluations: int, seed: int) -> None:
    """Print how far what is said beforehand of questions in clusters is from what comes of them."""
    print(
        "\nNeutral updates, questions in clusters: chances of “kept”, %, as muscle-hf power says, and from "
        f"{evaluations:,} evaluations, seed {seed}, 95 % interval\n"
    )
    head = ["clusters", "questions each", "ICC", "flip rate, %", "margin, points: said", "drawn", "NFR bound, %: said"]
    table([*head, "drawn"])
    draw = np.random.default_rng(seed)
    for count, size, icc, flips, margin, bound in CLUSTERED:
        ids, n = np.repeat(np.arange(count), size), count * size
        rates = [flips / 2, flips / 2, 1 - flips]
        kept = [0, 0]
        for _ in range(evaluations):
            # A question does as its cluster, with a probability whose square is the correlation of two of them.
            together = draw.random(n) < math.sqrt(icc)
            cells = np.where(together, draw.choice(3, count, p=rates)[ids], draw.choice(3, n, p=rates))
            comparison = compare_correct(old=cells != 1, new=cells != 0, clusters=ids)
            kept[0] += comparison.decision_interval("accuracy_change", LEVEL)[0] > -margin
            kept[1] += comparison.decision_interval("negative_flip_rate", LEVEL)[1] <= bound
        # What muscle-hf power says, without what else it works out.
        alone = int(n / (1 + (size - 1) * icc))
        by_margin = chance_of_claim(change_claim(-margin, LEVEL, above=True), alone, flips / 2, flips / 2)
        chances = percent(by_margin), percent(chance_of_share(alone, flips / 2, bound, LEVEL)[0])
        row(
            *(f"{number:g}" for number in (count, size, icc, 100 * flips)),
            f"{100 * margin:g}: {chances[0]}",
            drawn(kept[0], evaluations),
            f"{100 * bound:g}: {chances[1]}",
            drawn(kept[1], evaluations),
        )


# The estimate alone --------------------------------------------------------------------------------------------------


def estimates(sizes: Sequence[int]) -> None:
    """Print how often a gate on the estimate fails a neutral update, and how often each verdict is given to it."""
    print("\nNeutral updates, of which 10 % of the answers flip, held to a margin of 1 point, %, by enumeration\n")
    table(["questions", "estimate alone: fails", "interval: kept", "broken", "cannot tell"])
    for n in sizes:
        # The estimate is below the margin where that many more answers fell than rose.
        more = math.floor(0.01 * n + 1e-9) + 1
        fails = _chance_of_difference(n, 0.05, 0.05, more)
        kept, broken = (
            chance_of_claim(change_claim(-0.01, LEVEL, above=above), n, 0.05, 0.05) for above in (True, False)
        )
        row(f"{n:,}", *map(percent, (fails, kept, broken, 1 - kept - broken)))


def _chance_of_difference(n: int, negative: float, positive: float, least: int) -> float:
    """Give the chance of so many more negative than positive flips, or even more."""
    fell = np.arange(n + 1)
    logs = gammaln(n + 1) - gammaln(fell + 1) - gammaln(n - fell + 1)
    weight = np.exp(logs + xlogy(fell, negative) + xlogy(n - fell, 1 - negative))
    most = np.minimum(fell - least, n - fell)
    return float(weight @ np.where(most >= 0, bdtr(np.maximum(most, 0), n - fell, positive / (1 - negative)), 0.0))


# The paired tests ----------------------------------------------------------------------------------------------------


def tests(sizes: Sequence[int]) -> None:
    """Print how often each paired test is below 0.05, if nothing changes and if accuracy falls."""
    print("\nPaired tests, 10 % of the answers flip: how often p is 0.05 or less, %, by enumeration\n")
    table(["test", "questions", "neutral update", "falls by 1 point", "2 points", "5 points"])
    for name in TESTS:
        for n in sizes:
            found = [
                chance_of_claim(claim_of_test(name, LEVEL), n, (0.1 + drop) / 2, (0.1 - drop) / 2, exact=True)
                for drop in DROPS
            ]
            # Two-sided, a neutral update looks better as often as it looks worse.
            row(name, f"{n:,}", percent(found[0] * (1 if name.startswith("one") else 2)), *map(percent, found[1:]))


# Looking while it grows ----------------------------------------------------------------------------------------------

Rule = Callable[[int, int], str]
"""What negative and positive flips so far say: "broken", "kept" or another word."""


def by_bayes_factor(negative: int, positive: int) -> str:
    """Stop at the Bayes factor, with the uniform prior."""
    return stopping_verdict(coin_flips(negative, positive), STOP_AT)


def by_p_value(negative: int, positive: int) -> str:
    """Stop at the first p below 0.05, as one should not."""
    if coin_test(negative, positive) >= 1 - LEVEL:
        return ""
    return BROKEN if negative > positive else KEPT


def boundary(rule: Rule, most: int) -> NDArray[np.int64]:
    """Give for each number of flips how many negative ones, at least, stop with "broken"; more than all where none do.

    Both rules are the same with negative and positive exchanged, so that "kept" needs as many positive ones.
    """
    least = np.empty(most + 1, np.int64)
    place = 1
    for flips in range(most + 1):
        place = max(place, (flips + 1) // 2)
        while place <= flips and rule(place, flips - place) != BROKEN:
            place += 1
        least[flips] = place
    return least


def after_every_answer(least: NDArray[np.int64], length: int, flip_rate: float, drop: float) -> tuple[float, float]:
    """Give how often one stops with "broken", and with "kept", by enumeration: only flips move what is looked at."""
    most = len(least) - 1
    share = (flip_rate + drop) / (2 * flip_rate)
    going = np.zeros(most + 2)
    going[0] = 1.0
    stopped = np.zeros((2, most + 1))
    for flips in range(1, most + 1):
        going[1:], going[0] = going[1:] * (1 - share) + going[:-1] * share, going[0] * (1 - share)
        stop = int(least[flips])
        if stop <= flips:
            stopped[:, flips] = going[stop : flips + 1].sum(), going[: flips - stop + 1].sum()
            going[stop : flips + 1] = going[: flips - stop + 1] = 0
    count = np.arange(most + 1)
    logs = gammaln(length + 1) - gammaln(count + 1) - gammaln(length - count + 1)
    weight = np.exp(logs + xlogy(count, flip_rate) + xlogy(length - count, 1 - flip_rate))
    broken, kept = np.cumsum(stopped, axis=1) @ weight
    return float(broken), float(kept)


def after_every_hundred(
    least: NDArray[np.int64], length: int, flip_rate: float, drop: float, evaluations: int, seed: int
) -> tuple[int, int, float]:
    """Draw evaluations, and give how many stop with "broken", with "kept", and after how many questions (median)."""
    rates = (flip_rate + drop) / 2, (flip_rate - drop) / 2
    looks = length // EVERY
    each = np.random.default_rng(seed).multinomial(EVERY, [*rates, 1 - flip_rate], (evaluations, looks))
    fell, rose = np.cumsum(each[..., 0], axis=1), np.cumsum(each[..., 1], axis=1)
    needed = least[fell + rose]
    broken, kept = fell >= needed, rose >= needed
    stopped = (broken | kept).any(axis=1)
    first = (broken | kept).argmax(axis=1)
    places = np.arange(evaluations)[stopped], first[stopped]
    questions = float(np.median((places[1] + 1) * EVERY)) if stopped.any() else math.nan
    return int(broken[places].sum()), int(kept[places].sum()), questions


def peeking(length: int, evaluations: int, seed: int) -> None:
    """Print how often rules stop, with what, and after how many questions."""
    print(
        f"\n{length:,} questions, looked at while they are answered. BF: Bayes factor of {STOP_AT:g} or more, prior "
        f"Beta(1, 1); p: two-sided, below {1 - LEVEL:.2g}. After every answer: by enumeration; after every {EVERY}: "
        f"{evaluations:,} evaluations, seed {seed}, 95 % interval\n"
    )
    head = ["flip rate, %", "true change, points", "BF, every answer: broken, %", "kept, %"]
    head += [f"BF, every {EVERY}: broken, %", "kept, %", "stops at (median)"]
    table([*head, "p, every answer: broken or kept, %", f"p, every {EVERY}: broken or kept, %"])
    most = math.ceil(length * max(GROWING_FLIP_RATES) + 8 * math.sqrt(length * max(GROWING_FLIP_RATES)))
    by_factor, by_p = boundary(by_bayes_factor, most), boundary(by_p_value, most)
    for flip_rate in GROWING_FLIP_RATES:
        for drop in (drop for drop in DROPS if drop <= flip_rate):
            broken, kept = after_every_answer(by_factor, length, flip_rate, drop)
            seldom = after_every_hundred(by_factor, length, flip_rate, drop, evaluations, seed)
            p_always = sum(after_every_answer(by_p, length, flip_rate, drop))
            p_seldom = sum(after_every_hundred(by_p, length, flip_rate, drop, evaluations, seed)[:2])
            row(
                f"{100 * flip_rate:g}",
                f"{-100 * drop:z.3g}",
                percent(broken),
                percent(kept),
                *(drawn(count, evaluations) for count in seldom[:2]),
                f"{seldom[2]:,.0f}",
                percent(p_always),
                drawn(p_seldom, evaluations),
            )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=[50, 500, 5000], help="numbers of questions")
    parser.add_argument("--evaluations", type=int, default=20_000, help="how many are drawn")
    parser.add_argument("--clustered", type=int, default=300, help="how many evaluations of clusters are drawn")
    parser.add_argument("--length", type=int, default=5_000, help="questions of an evaluation that is looked at")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    changes(options.sizes)
    shares(options.sizes)
    families(options.sizes)
    clusters(options.clustered, options.seed)
    estimates(options.sizes)
    tests(options.sizes)
    peeking(options.length, options.evaluations, options.seed)


if __name__ == "__main__":
    main()
