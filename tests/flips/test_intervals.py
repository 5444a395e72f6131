"""Intervals and p-values against published ones, against scipy's and against brute force."""

import math
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from muscle_hf.errors import InputError
from muscle_hf.flips.agreements import agreement
from muscle_hf.flips.comparison import Comparison, compare, compare_correct
from muscle_hf.flips.intervals import change_interval, newcombe, relative_interval
from muscle_hf.flips.paired_tests import coin_test
from muscle_hf.flips.rates import p_equation, p_number
from muscle_hf.flips.score_comparison import compare_scores
from muscle_hf.runs.measure import holm

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def from_cells(both_right: int, positive: int, negative: int, both_wrong: int) -> Comparison:
    old = [True] * both_right + [False] * positive + [True] * negative + [False] * both_wrong
    new = [True] * both_right + [True] * positive + [False] * negative + [False] * both_wrong
    return compare_correct(old=old, new=new)


# Kappa ---------------------------------------------------------------------------------------------------------------


def test_kappa_and_its_interval_equal_those_of_another_program() -> None:
    # Stata's kapci (analytic interval), as printed on Statalist, December 2009, message 320.
    old = np.repeat([0, 0, 1, 1], [1395, 118, 261, 158])
    new = np.repeat([0, 1, 0, 1], [1395, 118, 261, 158])
    a = agreement(old=old, new=new)
    assert a.agreement == pytest.approx(0.8038302277432712)
    assert a.chance_agreement == pytest.approx(0.7022330671398995)
    assert a.kappa == pytest.approx(0.3411969207847029)
    assert a.kappa_standard_error == pytest.approx(0.0262913719660408)
    assert a.confidence_interval("kappa") == pytest.approx((0.2896667786271169, 0.3927270629422889))


def test_error_of_kappa_equals_the_spread_of_kappa_over_many_classes() -> None:
    rng = np.random.default_rng(1)
    n, p = (
        300,
        np.array([[0.3, 0.05, 0.0, 0.02], [0.1, 0.2, 0.03, 0.0], [0.0, 0.0, 0.15, 0.05], [0.05, 0.0, 0.0, 0.05]]),
    )
    tables = rng.multinomial(n, p.ravel(), size=2000).reshape(-1, 4, 4) / n
    same, chance = np.trace(tables, axis1=1, axis2=2), (tables.sum(1) * tables.sum(2)).sum(1)
    spread = np.std((same - chance) / (1 - chance))
    cells = np.repeat(np.arange(16), np.rint(p.ravel() * n).astype(int))
    assert agreement(old=cells // 4, new=cells % 4).kappa_standard_error == pytest.approx(spread, rel=0.05)


# Intervals -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "n"), [(0, 10), (1, 10), (15, 148), (81, 263), (10, 10), (88, 1319)])
@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_wilson_bounds_equal_those_of_scipy(count: int, n: int, level: float) -> None:
    expected = stats.binomtest(count, n).proportion_ci(level, method="wilson")
    found = from_cells(n - count, 0, count, 0).confidence_interval("negative_flip_rate", level)
    assert found == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_bounds_equal_published_ones() -> None:
    # Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3.
    for count, n, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)):
        c = from_cells(n - count, 0, count, 0)
        assert c.confidence_interval("negative_flip_rate") == pytest.approx((low, high), abs=5e-5)


def test_conditional_rates_are_bounded_given_their_own_denominator() -> None:
    c = from_cells(30, 8, 10, 52)
    wilson = stats.binomtest(30, 40).proportion_ci(0.95, method="wilson")
    assert c.confidence_interval("backward_trust_compatibility") == pytest.approx((wilson.low, wilson.high))
    wilson = stats.binomtest(10, 62).proportion_ci(0.95, method="wilson")
    assert c.confidence_interval("negative_flip_impact") == pytest.approx((wilson.low, wilson.high))


@pytest.mark.parametrize(
    ("cells", "low", "high"),
    [
        # Cavo 2012, in Fagerland, Lydersen, Laake, Statistical Analysis of Contingency Tables, section 8.
        ((59, 6, 16, 80), -0.1186, -0.0046),
        # Altman, Machin, Bryant, Gardner, Statistics with Confidence, table 6.2; its values by the same formula.
        ((14, 5, 0, 22), 0.011, 0.226),
    ],
)
def test_newcombe_bounds_equal_published_ones(cells: tuple[int, int, int, int], low: float, high: float) -> None:
    assert newcombe(cells, 0.95) == pytest.approx((low, high), abs=6e-4)


def test_no_flips_do_not_give_an_accuracy_change_without_error() -> None:
    low, high = from_cells(50, 0, 0, 50).confidence_interval("accuracy_change")
    assert low < 0 < high


@pytest.mark.parametrize("name", ["accuracy_change", "relative_negative_flip_rate", "kappa"])
def test_intervals_without_a_plain_proportion_cover_the_truth(name: str) -> None:
    rng = np.random.default_rng(3)
    p = np.array([0.35, 0.15, 0.1, 0.4])
    truth = {"accuracy_change": 0.05, "relative_negative_flip_rate": 0.1 / (0.45 * 0.5)}
    # Answers 0 and 1 with gold 1, so that kappa of the answers is kappa of right and wrong.
    chance = 0.45 * 0.5 + 0.55 * 0.5
    truth["kappa"] = (0.75 - chance) / (1 - chance)
    hits = 0
    for cells in rng.multinomial(200, p, size=200):
        old = np.repeat([1, 0, 1, 0], cells)
        new = np.repeat([1, 1, 0, 0], cells)
        low, high = compare(old=old, new=new, references=np.ones(200, int)).confidence_interval(name)
        hits += low <= truth[name] <= high
    # 200 draws of 0.95: fewer than 180 hits would come by chance once in 1000.
    assert 180 <= hits <= 199


def test_the_interval_of_the_relative_rate_is_near_a_bootstrap_where_flips_are_many() -> None:
    c = from_cells(400, 120, 90, 390)
    draws = np.random.default_rng(5).multinomial(1000, np.array([400, 120, 90, 390]) / 1000, 20_000)
    rates = draws[:, 2] * 1000 / ((draws[:, 0] + draws[:, 2]) * (draws[:, 3] + draws[:, 2]))
    expected = np.quantile(rates, [0.025, 0.975])
    assert c.confidence_interval("relative_negative_flip_rate") == pytest.approx(expected, abs=0.01)


@pytest.mark.slow
def test_few_flips_do_not_put_the_upper_bound_of_the_relative_rate_below_the_truth() -> None:
    # Every outcome of 30 instances, weighted by its probability; a bootstrap's bound is too low in 6.3 % of cases.
    measured = runpy.run_path(str(BENCHMARKS / "intervals.py"))["misses"]
    rows = measured(30, None, relative_interval, lambda old, new, relative: relative)
    below, above = np.array(rows).T
    assert len(rows) > 150
    assert above.max() < 0.025
    assert below.max() < 0.035
    assert below.mean() < 0.025


@pytest.mark.slow
def test_interval_and_test_of_the_change_never_contradict_each_other() -> None:
    every, before, after = runpy.run_path(str(BENCHMARKS / "intervals.py"))["contradictions"](9)
    assert every == 714
    assert before > 20
    assert after == 0


@pytest.mark.slow
@pytest.mark.parametrize("level", [0.5, 0.9, 0.99])
@given(st.tuples(*[st.integers(0, 400)] * 4).filter(any))
def test_at_any_level_the_change_excludes_0_where_its_test_says_so(
    level: float, cells: tuple[int, int, int, int]
) -> None:
    low, high = change_interval(cells, level)
    p_value = coin_test(cells[1], cells[2])
    assert low <= (cells[1] - cells[2]) / sum(cells) <= high
    if abs(p_value - (1 - level)) > 1e-9:
        assert (low <= 0 <= high) is (p_value > 1 - level)


def test_a_bootstrap_gives_the_same_bounds_every_time() -> None:
    s = compare_scores(old=np.zeros(40), new=np.random.default_rng(2).normal(size=40))
    assert s.confidence_interval("mean_change") == s.confidence_interval("mean_change")
    assert s.confidence_interval("mean_change") != s.confidence_interval("mean_change", seed=1)


@pytest.mark.parametrize("seed", [-1, 1.0, "1", None, True, np.int64(-1), [1]])
@pytest.mark.parametrize("name", ["relative_negative_flip_rate", "negative_flip_rate"])
def test_a_seed_that_means_nothing_is_refused_whether_or_not_it_is_used(name: str, seed: Any) -> None:
    with pytest.raises(InputError, match=r"seed is .*an int from 0 up"):
        from_cells(40, 12, 9, 39).confidence_interval(name, seed=seed)


def test_a_seed_from_numpy_is_not_another_seed() -> None:
    s = compare_scores(old=np.zeros(40), new=np.random.default_rng(2).normal(size=40))
    assert s.confidence_interval("mean_change", seed=np.int64(7)) == s.confidence_interval("mean_change", seed=7)


def test_no_negative_flip_does_not_mean_a_relative_rate_of_zero_for_certain() -> None:
    low, high = from_cells(20, 5, 0, 25).confidence_interval("relative_negative_flip_rate")
    assert low == 0.0
    # With so high a rate no flip at all would come about in one case of forty.
    assert (1 - high * 0.4 * 0.5) ** 50 == pytest.approx(0.025, abs=0.003)


def test_ten_million_instances_do_not_slow_the_interval() -> None:
    flips_ = np.arange(100_000)
    c = Comparison(
        both_right=5_000_000,
        both_wrong=4_800_000,
        both_wrong_same=0,
        chance_agreement=0.0,
        kappa_standard_error=0.0,
        negative_flips=flips_,
        positive_flips=flips_,
    )
    low, high = c.confidence_interval("relative_negative_flip_rate")
    assert low < c.relative_negative_flip_rate < high
    assert high - low < 0.001


def test_score_intervals_cover_the_truth_on_both_sides_of_the_bootstrap_limit() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(60):
        change = rng.exponential(1.0, 150) - 0.5
        low, high = compare_scores(old=np.zeros(150), new=change).confidence_interval("mean_change")
        hits += low <= 0.5 <= high
    assert hits >= 51
    values = rng.normal(0.1, 1.0, 6000)
    normal = compare_scores(old=np.zeros(6000), new=values).confidence_interval("mean_change")
    half = 1.959964 * values.std(ddof=1) / math.sqrt(6000)
    assert normal == pytest.approx((values.mean() - half, values.mean() + half))
    boot = compare_scores(old=np.zeros(5000), new=values[:5000]).confidence_interval("mean_change")
    assert boot[1] - boot[0] == pytest.approx(2 * half * math.sqrt(6 / 5), rel=0.1)


def test_one_regression_has_no_spread_to_give_an_interval() -> None:
    c = compare_scores(old=[1.0, 0.0], new=[0.0, 1.0])
    assert all(map(math.isnan, c.confidence_interval("mean_regression")))


# Tests of significance -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("negative", "positive"), [(0, 1), (1, 1), (5, 5), (3, 9), (88, 260), (5000, 5200)])
def test_p_value_is_the_exact_binomial_one(negative: int, positive: int) -> None:
    expected = stats.binomtest(negative, negative + positive, 0.5).pvalue
    assert from_cells(3, positive, negative, 4).p_value == pytest.approx(expected, rel=1e-9)


def test_p_value_does_not_divide_by_zero_where_nothing_flips() -> None:
    assert from_cells(3, 0, 0, 4).p_value == 1.0
    assert compare_scores(old=[1.0, 2.0], new=[1.0, 2.0]).p_value == 1.0


@pytest.mark.parametrize(("negative", "positive"), [(0, 2000), (0, 10**7), (5_000_000, 5_400_000)])
def test_no_p_value_is_0_by_underflow(negative: int, positive: int) -> None:
    p_value = coin_test(negative, positive)
    assert p_value > 0
    assert p_equation(p_value) == "p < 1e-300"
    assert [p_number(value) for value in holm([p_value] * 1000)] == ["< 1e-300"] * 1000


def test_no_p_value_of_scores_is_0_by_underflow() -> None:
    n = 10_000
    c = compare_scores(old=np.zeros(n), new=np.arange(1, n + 1) / n)
    assert c.p_value > 0
    assert "p < 1e-300" in str(c)


def test_p_value_of_millions_of_flips_is_neither_slow_nor_zero_by_overflow() -> None:
    c = compare_correct(old=np.arange(4_000_000) < 2_001_000, new=np.arange(4_000_000) >= 2_001_000)
    normal = 2 * stats.norm.sf((2000 - 1) / 2000)
    assert c.p_value == pytest.approx(normal, rel=1e-3)


@pytest.mark.slow
@given(st.lists(st.integers(-4, 4).filter(bool), min_size=1, max_size=9))
def test_wilcoxon_is_exact_where_sizes_are_tied(changes: list[int]) -> None:
    ranks = stats.rankdata(np.abs(changes))
    signs = (np.arange(2 ** len(changes))[:, None] >> np.arange(len(changes))) & 1
    sums, found = signs @ ranks, ranks[np.array(changes) > 0].sum()
    expected = min(1.0, 2 * min((sums <= found).mean(), (sums >= found).mean()))
    assert compare_scores(old=[0] * len(changes), new=changes).p_value == pytest.approx(expected)


@pytest.mark.parametrize("n", [1, 5, 20, 50, 51, 400])
def test_wilcoxon_equals_scipy_where_sizes_differ(n: int) -> None:
    changes = np.random.default_rng(n).normal(0.2, 1, n)
    method = "exact" if n <= 50 else "approx"
    expected = stats.wilcoxon(changes, method=method).pvalue
    assert compare_scores(old=np.zeros(n), new=changes).p_value == pytest.approx(expected, rel=1e-9)
