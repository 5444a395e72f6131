"""How far is the evidence overstated where flips that come in groups are pooled? A simulation, and real coins.

    python examples/coin_flips.py
    python examples/coin_flips.py --seed 7 --repetitions 300

Runs offline in a few seconds. The coins are those of Bartoš et al., "Fair coins tend to land on the same side they
started", arXiv 2310.04153: a person there is what a task or slice is in the update of a model.
"""

import argparse
from collections.abc import Sequence

import numpy as np

from muscle_hf.flips.coin import CoinFlips, GroupedCoinFlips, coin_flips, grouped_coin_flips

# The paper's data, one row a person: flips that landed on the side they started from, flips that landed heads up, all
# flips. As of version 2 of the paper, and so one flip less on the same side than the 178,079 of the text.
PEOPLE = [
    (780, 781, 1600), (1126, 1174, 2300), (2204, 2263, 4477), (7056, 7148, 14324), (4957, 5033, 10015),
    (1937, 1977, 3900), (7458, 7531, 15012), (4971, 5065, 10005), (5219, 5202, 10500), (5368, 5352, 10757),
    (1801, 1775, 3600), (3352, 3368, 6700), (7506, 7570, 15000), (2761, 2739, 5500), (2510, 2538, 5000),
    (5022, 5101, 10000), (8649, 8646, 17182), (353, 361, 701), (2220, 2224, 4400), (3261, 3220, 6463),
    (10148, 10076, 20100), (4340, 4258, 8596), (2475, 2358, 4900), (2071, 2027, 4100), (5559, 5546, 11000),
    (1769, 1761, 3500), (7586, 7485, 14999), (5069, 5050, 10004), (2510, 2465, 4944), (2540, 2454, 5000),
    (1118, 1124, 2200), (5080, 5004, 9996), (1525, 1443, 3000), (1749, 1708, 3400), (3815, 3724, 7400),
    (3309, 3172, 6400), (2224, 2155, 4300), (2020, 1913, 3900), (1658, 1625, 3200), (1426, 1388, 2750),
    (4334, 4171, 8328), (9080, 8736, 17434), (3705, 3468, 7098), (7895, 7455, 15000), (1869, 1705, 3481),
    (2055, 1866, 3800), (956, 878, 1691), (1682, 1337, 2800),
]  # fmt: skip
# A simulated update: tasks that differ much, and break as much as they repair on average.
TASKS, FLIPS, MEAN, SPREAD = 40, 100, 0.5, 0.15


def simulate(draw: np.random.Generator) -> list[int]:
    """Draw how many of the flips of each task are negative."""
    both = (1 / (4 * SPREAD**2) - 1) / 2  # Beta(both, both) has the mean 1/2 and this standard deviation
    chances = draw.beta(both, both, TASKS)
    return [int(count) for count in draw.binomial(FLIPS, chances)]


def row(name: str, pooled: CoinFlips, grouped: GroupedCoinFlips) -> list[str]:
    """Lay out the pooled and the grouped view of the same flips."""
    bounds = [f"{view.median:.4f} ({view.low:.4f}, {view.high:.4f})" for view in (pooled, grouped)]
    spread = f"{grouped.spread:.4f} ({grouped.spread_low:.4f}, {grouped.spread_high:.4f})"
    factors = [f"{view.bayes_factor:.3g}" for view in (pooled, grouped)]
    return [name, f"{pooled.negative}/{pooled.n}", bounds[0], factors[0], bounds[1], spread, factors[1]]


def coins(landed: Sequence[int], prior: tuple[float, float], alternative: str) -> tuple[CoinFlips, GroupedCoinFlips]:
    """Weigh what landed on one side, with the paper's prior on the mean and one near its prior on the spread."""
    rest = [flips - count for count, (_, _, flips) in zip(landed, PEOPLE, strict=True)]
    pooled = coin_flips(sum(landed), sum(rest), prior=prior, alternative=alternative)
    return pooled, grouped_coin_flips(landed, rest, prior=prior, spread_scale=0.005)


def main(argv: Sequence[str] | None = None) -> None:
    """Print both views of each example, the priors, and how often each view errs in the simulation."""
    parser = argparse.ArgumentParser(description="How far do pooled and grouped Bayes factors differ?")
    parser.add_argument("--seed", type=int, default=0, help="seed of the simulations (default: 0)")
    parser.add_argument("--repetitions", type=int, default=100, help="how many updates to simulate (default: 100)")
    args = parser.parse_args(argv)
    if args.seed < 0 or args.repetitions < 1:
        parser.error("--seed must be 0 or more, and --repetitions 1 or more")

    draw = np.random.default_rng(args.seed)
    updates = [simulate(draw) for _ in range(args.repetitions)]
    views = [
        (coin_flips(sum(update), FLIPS * TASKS - sum(update)), grouped_coin_flips(update, [FLIPS - k for k in update]))
        for update in updates
    ]
    compared = [
        ("simulated update", *views[0]),
        ("same side", *coins([same for same, _, _ in PEOPLE], (5100, 4900), "greater")),
        ("heads", *coins([heads for _, heads, _ in PEOPLE], (5000, 5000), "two-sided")),
    ]
    head = ["", "flips", "pooled (95 %)", "Bayes factor", "grouped (95 %)", "spread (95 %)", "Bayes factor"]
    table = [head, *(row(*entry) for entry in compared)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) for cells in table]
    print("\n".join(line.rstrip() for line in lines))  # noqa: T201
    print("\nPriors under the alternative; the Bayes factor is against exactly 1/2.")  # noqa: T201
    for name, pooled, grouped in compared:
        print(f"  {name}: pooled {pooled.prior_text}; grouped: {grouped.prior_text}")  # noqa: T201
    print(  # noqa: T201
        f"\nThe truth of the simulated update: {TASKS} tasks of {FLIPS} flips, mean {MEAN}, spread {SPREAD}. "
        f"Of {len(views)} such updates,"
    )
    for name, view in (("pooled", 0), ("grouped", 1)):
        wrong = sum(pair[view].bayes_factor > 3 for pair in views) / len(views)
        held = sum(pair[view].low <= MEAN <= pair[view].high for pair in views) / len(views)
        print(  # noqa: T201
            f"  {name}: {wrong:.0%} have a Bayes factor above 3 for a difference that is not there, and the 95 % "
            f"interval holds the mean in {held:.0%}"
        )


if __name__ == "__main__":
    main()
