"""Values of steps are those of the best of K without bias, and the pit is found where it is known."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from muscle_hf.flips.step_credit import (
    PIT_RULES,
    first_all_fail,
    interval_of_best,
    least_advantage,
    lowest_value,
    probability_of_best,
)


def test_the_best_of_k_is_the_share_of_subsets_with_a_right_one() -> None:
    for n, k in ((4, 1), (5, 2), (6, 4), (7, 7)):
        for right in range(n + 1):
            subsets = list(itertools.combinations(range(n), k))
            share = sum(min(subset) < right for subset in subsets) / len(subsets)
            assert probability_of_best(right, n, k) == pytest.approx(share, abs=1e-12)


@pytest.mark.parametrize("q", [0.0, 0.15, 0.6, 1.0])
def test_the_best_of_k_has_no_bias_where_counting_whole_batches_has(q: float) -> None:
    n, k = 8, 5
    weights = [np.prod(np.where(outcome, q, 1 - q)) for outcome in itertools.product([False, True], repeat=n)]
    counts = [sum(outcome) for outcome in itertools.product([False, True], repeat=n)]
    mean = sum(w * probability_of_best(s, n, k) for w, s in zip(weights, counts, strict=True))
    assert mean == pytest.approx(1 - (1 - q) ** k, abs=1e-12)


def test_the_interval_is_that_of_a_proportion_carried_over_to_the_best_of_k() -> None:
    # Clopper and Pearson for 0 of 8: 1 - 0.025^(1/8).
    assert interval_of_best(0, 8, 1) == pytest.approx((0, 1 - 0.025 ** (1 / 8)))
    low, high = interval_of_best(3, 8, 1)
    assert interval_of_best(3, 8, 4) == pytest.approx((1 - (1 - low) ** 4, 1 - (1 - high) ** 4))


@pytest.mark.parametrize(
    ("rule", "values", "pit"),
    [
        (least_advantage, [0.5, 0.75, 0.25, 0.25, 0.0], 1),
        (least_advantage, [0.6, 0.4, 0.2, 0.0], 0),  # equal drops, whose rounded differences are not
        (least_advantage, [0.0, 0.25, 0.25], None),
        (lowest_value, [0.5, 0.75, 0.25, 0.125, 0.25, 0.125], 2),
        (lowest_value, [0.0, 0.25, 0.0], None),
        (first_all_fail, [0.5, 0.75, 0.0, 0.125, 0.0], 1),
        (first_all_fail, [0.5, 0.75, 0.25, 1.0], None),
    ],
)
def test_a_rule_names_the_first_step_that_fits_it_and_none_where_nothing_does(
    rule: Callable[[list[float]], int | None], values: list[float], pit: int | None
) -> None:
    assert rule(values) == pit


def test_only_the_least_advantage_finds_more_mistakes_with_more_rollouts() -> None:
    """Chains of five steps, each right with 0.8, where after a mistake the end is right with 0.02 all the same."""
    steps, right, recovery, chains = 5, 0.8, 0.02, 4_000
    draw = np.random.default_rng(0)
    wrong = draw.random((2 * chains, steps)) > right
    first = wrong[wrong.any(1)][:chains].argmax(1, keepdims=True)
    place = np.arange(steps + 1)
    still_right = right ** (steps - place)
    truth = np.where(place <= first, still_right + (1 - still_right) * recovery, recovery)
    shares: dict[str, list[float]] = {name: [] for name in PIT_RULES}
    for rollouts in (4, 8, 16, 32):
        values = draw.binomial(rollouts, truth) / rollouts
        # Other answers to the question tell its value.
        values[:, 0] = truth[:, 0]
        for name, rule in PIT_RULES.items():
            shares[name].append(np.mean([rule(row) == pit for row, (pit,) in zip(values, first, strict=True)]))
    # Half widths of 95 % intervals are at most 0.012.
    np.testing.assert_allclose(shares["least_advantage"], [0.85, 0.95, 0.99, 1.0], atol=0.02)
    np.testing.assert_allclose(shares["lowest_value"], [0.82, 0.87, 0.79, 0.65], atol=0.02)
    np.testing.assert_allclose(shares["first_all_fail"], [0.82, 0.84, 0.72, 0.53], atol=0.02)
