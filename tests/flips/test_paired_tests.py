"""Paired tests by name, against every way in which fair coins can fall."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from muscle_hf.errors import InputError
from muscle_hf.flips.comparison import compare_correct
from muscle_hf.flips.paired_tests import TESTS, coin_test, signed_rank_test
from muscle_hf.flips.score_comparison import compare_scores


def counted(sums: np.ndarray, fallen: float, test: str) -> float:
    """Count the equally likely outcomes whose sum of falls is as far out as what was found; mid-p counts it half."""
    whole = sums.max()
    most = fallen if test.startswith("one-sided") else max(fallen, whole - fallen)
    half = 0.5 * test.endswith("mid-p")
    tail = (sums >= most - 1e-9).mean() - half * (np.abs(sums - most) < 1e-9).mean()
    return float(tail if test.startswith("one-sided") else min(1.0, 2 * tail))


def outcomes(sizes: np.ndarray) -> np.ndarray:
    """Give the sum of falls of every way in which each size can fall or rise."""
    return np.array([sum(chosen) for chosen in itertools.product(*((0, size) for size in sizes))] or [0.0])


@pytest.mark.parametrize("test", TESTS)
def test_every_named_test_of_flips_counts_the_outcomes_that_it_says(test: str) -> None:
    for negative, positive in itertools.product(range(6), range(6)):
        expected = counted(outcomes(np.ones(negative + positive)), negative, test)
        assert coin_test(negative, positive, test) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("test", TESTS)
@given(st.lists(st.integers(-3, 3).filter(bool), max_size=7))
def test_every_named_test_of_scores_counts_the_rank_sums_that_it_says(test: str, changes: list[int]) -> None:
    ranks = stats.rankdata(np.abs(changes)) if changes else np.zeros(0)
    expected = counted(outcomes(ranks), ranks[np.array(changes) < 0].sum(), test)
    assert signed_rank_test(np.array(changes, dtype=float), test) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("n", [40, 400])
def test_one_sided_wilcoxon_asks_whether_scores_fall_and_not_whether_they_rise(n: int) -> None:
    changes = np.random.default_rng(n).normal(-0.2, 1, n)
    c = compare_scores(old=np.zeros(n), new=changes)
    expected = stats.wilcoxon(changes, alternative="less", method="exact" if n <= 50 else "approx").pvalue
    assert c.paired_test("one-sided") == pytest.approx(expected, rel=1e-9)
    assert compare_scores(old=np.zeros(n), new=-changes).paired_test("one-sided") > 0.5
    assert c.p_value == c.paired_test("two-sided")


def test_one_sided_tests_of_flips_ask_whether_the_update_breaks_more() -> None:
    c = compare_correct(old=[True] * 8 + [False] * 2, new=[False] * 8 + [True] * 2)
    assert c.paired_test("one-sided") == pytest.approx(stats.binomtest(8, 10, alternative="greater").pvalue)
    assert c.paired_test("one-sided-mid-p") < c.paired_test("one-sided") < c.p_value
    back = compare_correct(old=[False] * 8 + [True] * 2, new=[True] * 8 + [False] * 2)
    assert back.p_value == c.p_value
    assert back.paired_test("one-sided") > 0.9


def test_the_half_that_mid_p_leaves_out_makes_both_sides_add_up_to_1() -> None:
    for negative, positive in [(3, 9), (0, 4), (5, 5), (88, 260), (0, 0)]:
        both = coin_test(negative, positive, "one-sided-mid-p") + coin_test(positive, negative, "one-sided-mid-p")
        assert both == pytest.approx(1)


def test_a_test_that_there_is_not_is_told_with_those_that_there_are() -> None:
    with pytest.raises(
        InputError,
        match=r"test is 'onesided', but must be the name of a paired test, one of two-sided, .*; did you mean",
    ):
        coin_test(1, 2, "onesided")
