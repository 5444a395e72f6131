"""Verdicts err no more often than their level says, by enumeration of everything that can come out."""

import itertools
import math
import runpy
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muscle_hf.flips.comparison import compare_correct
from muscle_hf.flips.decisions import change_limits, change_tails
from muscle_hf.flips.intervals import change_interval, clopper_pearson, wilson
from muscle_hf.flips.paired_tests import coin_test
from muscle_hf.flips.score_comparison import compare_scores

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
CELLS = st.tuples(*[st.integers(0, 40)] * 4).filter(sum)


def _chance(n: int, rate: float, counts: list[int]) -> float:
    return sum(math.comb(n, k) * rate**k * (1 - rate) ** (n - k) for k in counts)


def test_three_flips_of_50_are_no_proof_of_a_rate_above_2_percent_though_wilson_says_so() -> None:
    claimed = {name: [k for k in range(51) if limits(k, 50, 0.95)[0] > 0.02] for name, limits in _LIMITS.items()}
    assert (claimed["wilson"][0], claimed["exact"][0]) == (3, 4)
    assert _chance(50, 0.02, claimed["wilson"]) == pytest.approx(0.078, abs=0.0005)
    assert _chance(50, 0.02, claimed["exact"]) == pytest.approx(0.0178, abs=0.0005)


_LIMITS = {"wilson": wilson, "exact": clopper_pearson}


@pytest.mark.parametrize("n", [1, 7, 50, 183])
def test_no_share_is_bounded_wrongly_more_often_than_the_level_says(n: int) -> None:
    ends = [clopper_pearson(k, n, 0.9) for k in range(n + 1)]
    for rate in (0.003, 0.02, 0.1, 0.5, 0.97):
        assert _chance(n, rate, [k for k in range(n + 1) if ends[k][0] > rate]) <= 0.05
        assert _chance(n, rate, [k for k in range(n + 1) if ends[k][1] < rate]) <= 0.05


def test_the_chances_of_a_difference_equal_those_of_every_outcome_added_up() -> None:
    # 12 answers, 5 repaired and 2 broken; the change is -0.1, and the most likely shares under it are found by search.
    n, positive, negative, change = 12, 5, 2, -0.1
    shares = np.linspace(0.1, 0.55, 450_001)[1:-1]
    likely = positive * np.log(shares + change) + negative * np.log(shares) + 5 * np.log(1 - 2 * shares - change)
    fall = float(shares[likely.argmax()])
    rise = fall + change
    less = more = 0.0
    for up, down in itertools.product(range(n + 1), repeat=2):
        if up + down <= n:
            ways = math.factorial(n) / (math.factorial(up) * math.factorial(down) * math.factorial(n - up - down))
            chance = ways * rise**up * fall**down * (1 - rise - fall) ** (n - up - down)
            less += chance * (up - down <= 3)
            more += chance * (up - down >= 3)
    assert change_tails(n, positive, negative, change) == pytest.approx((less, more), abs=1e-6)


@pytest.mark.parametrize(
    ("cells", "low", "high"),
    [((1, 0, 0, 0), -0.975, 0.975), ((60, 0, 0, 40), -0.0362167, 0.0362167), ((0, 1, 0, 0), -0.95, 1.0)],
)
def test_where_nothing_flips_the_change_is_bounded_as_a_share_of_none_is(
    cells: tuple[int, ...], low: float, high: float
) -> None:
    both, rise, fall, neither = cells
    assert change_limits((both, rise, fall, neither), 0.95) == pytest.approx((low, high), abs=1e-6)


def test_two_models_changed_places_give_the_mirrored_interval() -> None:
    for rise, fall in ((0, 0), (3, 1), (0, 9), (40, 25)):
        low, high = change_limits((50, rise, fall, 50), 0.95)
        assert change_limits((50, fall, rise, 50), 0.95) == pytest.approx((-high, -low), abs=1e-10)


@given(cells=CELLS, level=st.sampled_from([0.5, 0.8, 0.95, 0.999]))
def test_a_change_that_the_exact_test_does_not_find_is_never_claimed(cells: tuple[int, ...], level: float) -> None:
    both, rise, fall, neither = cells
    low, high = change_limits((both, rise, fall, neither), level)
    assert low <= (rise - fall) / sum(cells) <= high
    if coin_test(fall, rise) >= 1 - level:
        assert low <= 0 <= high


@pytest.mark.slow
def test_a_claim_about_a_margin_errs_no_more_often_than_the_level_says_where_tables_err_in_13_percent() -> None:
    # 20 answers, all outcomes; the margin is 0.1, and all flips may be negative.
    script = runpy.run_path(str(BENCHMARKS / "intervals.py"))
    script["at_margins"].__globals__.update(MARGINS=(0.0, 0.1), FLIP_RATES=(0.1, 0.2, 0.4))
    verdicts, tables = (
        max(max(row[1:]) for row in script["at_margins"](20, interval))
        for interval in (change_limits, change_interval)
    )
    assert verdicts <= 0.025
    assert tables >= 0.04


def test_ten_million_answers_do_not_slow_the_decision() -> None:
    low, high = change_limits((4_000_000, 1_200_000, 1_210_000, 3_590_000), 0.95)
    error = math.sqrt(2_410_000) / 1e7
    assert (low, high) == pytest.approx((-0.001 - 1.96 * error, -0.001 + 1.96 * error), abs=1e-6)


def test_every_rate_has_an_interval_for_decisions_and_undefined_ones_have_none() -> None:
    c = compare_correct(old=[True] * 50, new=[False] * 3 + [True] * 47)
    assert c.decision_interval("negative_flip_rate") == clopper_pearson(3, 50, 0.95)
    assert c.decision_interval("accuracy_change", 0.9) == change_limits((47, 0, 3, 0), 0.9)
    relative = "relative_negative_flip_rate"
    assert c.decision_interval(relative) == c.confidence_interval(relative)
    assert all(math.isnan(end) for end in c.decision_interval("agreement"))


def test_a_mean_of_few_values_has_students_interval_and_of_one_has_none() -> None:
    few = compare_scores(old=[0.0, 0.0, 0.0], new=[1.0, 2.0, 3.0])
    # Mean 2, standard error 1/sqrt(3), t(0.975, 2) = 4.303.
    assert few.decision_interval("mean_change") == pytest.approx((-0.484, 4.484), abs=1e-3)
    one = compare_scores(old=[0.5, 0.5], new=[0.25, 0.5])
    assert all(math.isnan(end) for end in one.decision_interval("mean_regression"))
