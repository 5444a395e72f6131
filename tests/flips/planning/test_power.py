"""How many questions: against brute force, the intervals that judge, simulation and known numbers."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import muscle_hf
from muscle_hf.errors import InputError
from muscle_hf.flips.decisions import change_limits
from muscle_hf.flips.intervals import clopper_pearson
from muscle_hf.flips.paired_tests import TESTS, coin_test
from muscle_hf.flips.planning.sample_size import (
    Claim,
    chance_of_claim,
    chance_of_share,
    change_claim,
    claim_of_test,
    questions_for_change,
    questions_for_claim,
    questions_for_share,
    questions_without_a_flip,
)

# Rates of negative and of positive flips.
RATES = [(0.1, 0.1), (0.3, 0.02), (0.02, 0.25), (0.0, 0.1), (0.2, 0.0), (0.0, 0.0), (0.4, 0.6)]


def _probability(n: int, negative: int, positive: int, rates: tuple[float, float]) -> float:
    none = n - negative - positive
    ways = math.comb(n, negative) * math.comb(n - negative, positive)
    return float(ways * rates[0] ** negative * rates[1] ** positive * max(0.0, 1 - sum(rates)) ** none)


def _outcomes(n: int) -> list[tuple[int, int]]:
    return [(negative, positive) for negative in range(n + 1) for positive in range(n + 1 - negative)]


@pytest.mark.slow
@pytest.mark.parametrize("bound", [-0.05, -0.2, 0.0, 0.1])
def test_chances_of_a_verdict_are_those_of_the_interval_that_judges(bound: float) -> None:
    n = 15
    limits = {
        (negative, positive): change_limits((n - negative - positive, positive, negative, 0), 0.9)
        for negative, positive in _outcomes(n)
    }
    for rates in RATES:
        for above in (True, False):
            by_interval = sum(
                _probability(n, *flips, rates)
                for flips, (low, high) in limits.items()
                if (low > bound if above else high < bound)
            )
            found = chance_of_claim(change_claim(bound, 0.9, above=above), n, *rates)
            assert found == pytest.approx(by_interval, abs=1e-9)


@pytest.mark.parametrize("test", TESTS)
def test_power_of_a_test_is_the_sum_over_all_outcomes(test: str) -> None:
    for rates in RATES:
        summed = sum(
            _probability(30, negative, positive, rates)
            for negative, positive in _outcomes(30)
            if negative > positive and coin_test(negative, positive, test) <= 0.05
        )
        assert chance_of_claim(claim_of_test(test, 0.95), 30, *rates) == pytest.approx(summed, abs=1e-9)


def test_chances_of_a_share_are_those_of_clopper_and_pearson() -> None:
    limits = {n: [clopper_pearson(count, n, 0.9) for count in range(n + 1)] for n in (1, 7, 40)}
    for n, rate, bound in itertools.product(limits, (0.0, 0.02, 0.3, 1.0), (0.0, 0.01, 0.1, 0.5)):
        below = above = 0.0
        for count, (low, high) in enumerate(limits[n]):
            weight = math.comb(n, count) * rate**count * (1 - rate) ** (n - count)
            below += weight * (high <= bound)
            above += weight * (low > bound)
        assert chance_of_share(n, rate, bound, 0.9) == pytest.approx((below, above), abs=1e-9)


@pytest.mark.parametrize(
    ("claim", "rates"),
    [
        (change_claim(-0.05, 0.95, above=True), (0.05, 0.05)),
        (change_claim(-0.02, 0.95, above=False), (0.08, 0.02)),
        (claim_of_test("two-sided", 0.95), (0.06, 0.04)),
        (claim_of_test("one-sided-mid-p", 0.95), (0.06, 0.04)),
    ],
)
def test_what_takes_the_place_of_large_sums_is_near_them(claim: Claim, rates: tuple[float, float]) -> None:
    exact, near = (chance_of_claim(claim, 1_000, *rates, exact=exact) for exact in (True, False))
    assert near == pytest.approx(exact, abs=0.01)
    assert 0.2 < exact < 0.999


def test_chances_are_those_of_drawn_evaluations() -> None:
    claim, rates, n = change_claim(-0.03, 0.95, above=True), (0.04, 0.05), 300
    drawn = np.random.default_rng(0).multinomial(n, [*rates, 1 - sum(rates)], size=4_000)
    outcomes, counts = np.unique(drawn[:, :2], axis=0, return_counts=True)
    share = sum(int(k) for (b, c), k in zip(outcomes.tolist(), counts, strict=True) if claim.holds(n, c, b)) / 4_000
    # Three standard errors.
    assert chance_of_claim(claim, n, *rates) == pytest.approx(share, abs=0.024)


@pytest.mark.parametrize(("rate", "bound"), [(0.01, 0.02), (0.0, 0.02), (0.04, 0.02), (0.1, 0.15)])
def test_no_larger_number_of_questions_is_too_small(rate: float, bound: float) -> None:
    n = questions_for_share(rate, bound)
    assert n is not None
    side = 0 if rate < bound else 1
    assert all(chance_of_share(more, rate, bound, 0.95)[side] >= 0.8 for more in (*range(n, n + n // 4), 2 * n))
    # Rounded up to three digits, it may be some questions too many, but not more.
    fewer = range(n - 1 - 10 ** max(0, len(str(n)) - 3), n)
    assert any(chance_of_share(less, rate, bound, 0.95)[side] < 0.8 for less in fewer)


def test_numbers_of_questions_are_those_that_are_known() -> None:
    # 1 - 0.025 ** (1 / n) is the bound of Clopper and Pearson without a flip.
    assert [questions_without_a_flip(bound, 0.95) for bound in (0.01, 0.02, 0.05)] == [368, 183, 72]
    assert questions_without_a_flip(0.0, 0.95) is None
    assert questions_for_share(0.0, 0.02) == 183
    # (1.960 + 0.842) ** 2 * 0.1 / 0.01 ** 2 = 7,849 of the normal distribution; exact ones are less bold.
    assert questions_for_change(0.05, 0.05, -0.01) == 7_990
    assert questions_for_change(0.05, 0.05, -0.0001) == pytest.approx(78_490_000, rel=0.005)
    # The exact test finds 2 points among 500 questions of which 10 % flip in 25 % (two-sided), 36 % and 41 %.
    powers = [chance_of_claim(claim_of_test(test, 0.95), 500, 0.06, 0.04) for test in TESTS]
    assert [round(100 * power) for power in powers] == [25, 29, 36, 41]


def test_nothing_settles_a_bound_that_the_truth_lies_on() -> None:
    assert questions_for_share(0.02, 0.02) is None
    assert questions_for_share(0.0, 0.0) is None
    assert questions_for_change(0.02, 0.01, -0.01) is None
    assert questions_for_claim(change_claim(-0.01, 0.95, above=True), 0.05, 0.01, 0.8) is None


@pytest.mark.slow
@given(st.floats(0.001, 0.2), st.floats(0.001, 0.2), st.sampled_from([-0.1, -0.03, 0.0]))
def test_kept_and_broken_leave_a_share_to_neither(negative: float, positive: float, bound: float) -> None:
    kept, broken = (
        chance_of_claim(change_claim(bound, 0.95, above=above), 40, negative, positive) for above in (True, False)
    )
    assert kept >= 0
    assert broken >= 0
    assert kept + broken <= 1 + 1e-12


# What users ask ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_answer_says_what_is_kept_broken_and_open() -> None:
    found = muscle_hf.power(500, flip_rate=0.1, margin=0.05)
    (bound,) = found.bounds
    assert [row.meaning for row in bound.chances] == ["expected", "bound", "break"]
    assert [row.truth for row in bound.chances] == pytest.approx([0, -0.05, -0.1])
    expected, just, real = bound.chances
    assert expected.kept > 0.9
    assert just.kept <= 0.025
    assert just.broken <= 0.025
    assert real.broken > 0.9
    assert all(row.kept + row.broken + row.cannot_tell == pytest.approx(1) for row in bound.chances)
    assert bound.questions_kept is not None
    assert bound.questions_kept <= 500
    shown = str(found)
    assert "Margin 0.05: accuracy may fall by at most 5 points." in shown
    assert f"Kept, as expected, with probability 0.8: {bound.questions_kept} questions." in shown


def test_it_is_told_before_that_a_bound_cannot_be_kept() -> None:
    shown = str(muscle_hf.power(50, max_nfr=0.02))
    assert "It cannot be kept with 50 questions, even if nothing flips: that takes 183." in shown
    assert "an NFR of half the bound, 0.01" in shown


def test_an_update_that_breaks_the_bound_is_never_shown_to_keep_it() -> None:
    found = muscle_hf.power(nfr=0.05, max_nfr=0.02)
    assert found.bounds[0].questions_kept is None
    assert found.bounds[0].chances == ()
    assert found.detectable is None
    assert "no number of questions shows it kept" in str(found)


def test_a_margin_of_nothing_is_kept_by_no_number_of_questions() -> None:
    found = muscle_hf.power(200, flip_rate=0.05, margin=0, max_nfr=0)
    assert [(bound.questions_kept, bound.broken_at) for bound in found.bounds] == [(None, -0.01), (None, 0.01)]
    assert "only more repaired than broken answers can show it" in str(found)
    assert "none shows that nothing at all breaks" in str(found)


def test_questions_in_clusters_count_less() -> None:
    alone, together = muscle_hf.power(max_nfr=0.02), muscle_hf.power(max_nfr=0.02, cluster_size=10, icc=0.5)
    assert together.design_effect == 5.5
    assert together.bounds[0].questions_kept == math.ceil(5.5 * (alone.bounds[0].questions_kept or 0))
    assert "an approximation" in str(together)


def test_what_so_many_questions_show_is_just_enough() -> None:
    seen = muscle_hf.power(400, nfr=0.03, change=0.01).detectable
    assert seen is not None
    assert seen.drop is not None
    assert seen.margin is not None
    assert seen.max_nfr is not None
    flips = max(0.07, seen.drop)
    found = chance_of_claim(claim_of_test("two-sided", 0.95), 400, (flips + seen.drop) / 2, (flips - seen.drop) / 2)
    assert found == pytest.approx(0.8, abs=0.005)
    assert chance_of_claim(change_claim(-seen.margin, 0.95, above=True), 400, 0.03, 0.04) >= 0.8
    assert chance_of_share(400, 0.03, seen.max_nfr, 0.95)[0] >= 0.8
    assert 1 - (1 - seen.nfr) ** 400 == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"flip_rate": 0.1}, (0.05, 0.05)),
        ({"flip_rate": 0.1, "change": -0.02}, (0.06, 0.04)),
        ({"flip_rate": 0.1, "nfr": 0.02}, (0.02, 0.08)),
        ({"nfr": 0.02}, (0.02, 0.02)),
        ({"nfr": 0.02, "change": 0.03}, (0.02, 0.05)),
        ({"change": -0.3}, (0.3, 0.0)),
        ({"flip_rate": 1.0, "margin": 0.99, "questions": 400}, (0.5, 0.5)),
        ({"max_nfr": 0.02}, (0.01, 0.01)),
        ({"nfr": 0.02, "flip_rate": 0.1, "change": 0.06}, (0.02, 0.08)),
    ],
)
def test_two_rates_say_all_three(options: dict[str, Any], expected: tuple[float, float]) -> None:
    found = muscle_hf.power(**options)
    assert (found.nfr, found.flip_rate - found.nfr) == pytest.approx(expected)
    assert bool(found.assumed) is (len(options.keys() & {"flip_rate", "change", "nfr"}) < 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"questions": 0}, "whole number"),
        ({"questions": 2.5}, "whole number"),
        ({"margin": 1}, "margin is 1, but must be from 0 to below 1, such as 0.01 for one point"),
        ({"margin": -0.01}, "margin is -0.01"),
        ({"max_nfr": math.nan}, "max_nfr is nan"),
        ({"flip_rate": 2}, "flip_rate is 2"),
        ({"flip_rate": 0.1, "change": 0.2}, "contradict"),
        ({"flip_rate": 0.1, "nfr": 0.2}, "contradict"),
        ({"flip_rate": 0.1, "nfr": 0.02, "change": 0.01}, "give two of the three"),
        ({"margin": 0.01, "broken_at": 0.01}, "the margin of 0.01 allows"),
        ({"max_nfr": 0.02, "broken_at": 0.01}, "the bound of 0.02 allows"),
        ({"broken_at": 0.01}, "one bound"),
        ({"margin": 0.01, "max_nfr": 0.02, "broken_at": 0.05}, "one bound"),
        ({"test": "two-tailed"}, "must be the name of a paired test"),
        ({"level": 1}, "level"),
        ({"power": 80}, "power is 80"),
        ({"cluster_size": 10}, "belong together"),
        ({"icc": 0.5}, "belong together"),
        ({"cluster_size": 0.5, "icc": 0.5}, "cluster_size is 0.5"),
        ({"cluster_size": 5, "icc": 1.5}, "icc is 1.5"),
    ],
)
def test_bad_input_is_told_with_what_was_expected(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        muscle_hf.power(**options)
