"""Clusters: the exact test by all signs that could be, and intervals that know how little paraphrases add."""

import itertools
import math
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from muscle_hf.errors import InputError
from muscle_hf.flips import weighted_coins
from muscle_hf.flips.clusters import effective_share
from muscle_hf.flips.comparison import Comparison, compare, compare_correct
from muscle_hf.flips.paired_tests import TESTS
from muscle_hf.flips.score_comparison import compare_scores
from muscle_hf.flips.weighted_coins import Coins

RATES = tuple(Comparison._rates())


def answers(n: int, seed: int, *, kept: float = 0.8) -> dict[str, Any]:
    """Give old, new and right answers of four classes."""
    random = np.random.default_rng(seed)
    gold = random.integers(0, 4, n)
    old = np.where(random.random(n) < 0.6, gold, random.integers(0, 4, n))
    return {"old": old, "new": np.where(random.random(n) < kept, old, random.integers(0, 4, n)), "references": gold}


def by_all_signs(totals: np.ndarray, test: str) -> float:
    """Give the p-value from every way in which the signs of the clusters could be."""
    sizes = np.abs(totals)
    sums = np.array([np.dot(signs, sizes) for signs in itertools.product((0, 1), repeat=len(sizes))])
    fallen = sizes[totals < 0].sum()
    most = fallen if test.startswith("one-sided") else max(fallen, sizes.sum() - fallen)
    half = 0.5 * test.endswith("mid-p")
    tail = float((sums >= most).mean() - half * (sums == most).mean())
    return tail if test.startswith("one-sided") else min(1.0, 2 * tail)


# The test ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("test", TESTS)
@settings(max_examples=40)
@given(st.lists(st.integers(-6, 6), max_size=9))
def test_the_test_on_clusters_counts_every_way_in_which_signs_can_fall(test: str, totals: list[int]) -> None:
    expected = by_all_signs(np.array([total for total in totals if total] or [0]), test)
    for short in (0, weighted_coins._SHORT):  # Both ways to work it out.
        with mock.patch.object(weighted_coins, "_SHORT", short):
            assert Coins.of(np.array(totals, dtype=np.int64)).test(test) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("test", TESTS)
@pytest.mark.parametrize(("broken", "repaired"), [(0, 0), (1, 0), (7, 2), (40, 40), (90, 260)])
def test_clusters_of_one_answer_have_the_binomial_test_to_the_last_digit(
    test: str, broken: int, repaired: int
) -> None:
    old = [True] * (broken + 5) + [False] * (repaired + 5)
    new = [False] * broken + [True] * 5 + [True] * repaired + [False] * 5
    alone = compare_correct(old=old, new=new, clusters=[f"q{i}" for i in range(len(old))])
    assert alone.paired_test(test) == compare_correct(old=old, new=new).paired_test(test)
    assert alone.clusters == alone.n


def test_tails_too_small_to_add_up_from_1_keep_their_digits() -> None:
    # 2 of 40 clusters of weight 5, 3 and 1 each; summed in exact fractions.
    totals = np.array([-5] * 400 + [-3] * 200 + [1] * 5)
    chances = {0: 1}
    for size in np.abs(totals).tolist():
        moved: dict[int, int] = {}
        for place, ways in chances.items():
            moved[place] = moved.get(place, 0) + ways
            moved[place + size] = moved.get(place + size, 0) + ways
        chances = moved
    ways = sum(count for place, count in chances.items() if place >= 2600)
    expected = math.exp(math.log(2 * ways) - len(totals) * math.log(2))
    assert Coins.of(totals).test() == pytest.approx(expected, rel=1e-10)
    assert expected < 1e-150


@pytest.mark.slow
def test_many_large_clusters_are_tested_in_no_time_and_within_a_thousandth() -> None:
    random = np.random.default_rng(0)
    totals = random.integers(1, 10**6, 400) * np.where(random.random(400) < 0.54, -1, 1)
    coins = Coins.of(totals)
    assert len(coins.weights) < 1000
    deviation = totals.sum() / math.sqrt((totals.astype(float) ** 2).sum())
    assert coins.test() == pytest.approx(2 * stats.norm.sf(abs(deviation)), rel=0.02)
    signs = random.choice([-1, 1], (20_000, 400))
    drawn = (np.abs(signs @ totals) >= abs(totals.sum())).mean()
    assert coins.test() == pytest.approx(drawn, abs=4 * math.sqrt(drawn / 20_000))


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-3, 3)), min_size=1, max_size=9))
def test_scores_in_clusters_are_tested_by_the_signs_of_their_ranks(rows: list[tuple[int, int]]) -> None:
    clusters, changes = (np.array(column) for column in zip(*rows, strict=True))
    moved = changes != 0
    ranks = np.zeros(len(changes))
    ranks[moved] = 2 * stats.rankdata(np.abs(changes[moved])) * np.sign(changes[moved])
    totals = np.rint(np.bincount(clusters, weights=ranks)).astype(int)
    c = compare_scores(old=np.zeros(len(changes)), new=changes, clusters=clusters)
    for test in TESTS:
        assert c.paired_test(test) == pytest.approx(by_all_signs(totals[totals != 0], test), rel=1e-9)


# Intervals -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [12, 200])
def test_clusters_of_one_answer_change_no_interval(n: int) -> None:
    rows = answers(n, seed=n)
    plain, alone = compare(**rows), compare(**rows, clusters=np.random.default_rng(0).permutation(n))
    for name in RATES:
        for level in (0.8, 0.95):
            for interval in ("confidence_interval", "decision_interval"):
                expected = getattr(plain, interval)(name, level)
                assert getattr(alone, interval)(name, level) == pytest.approx(
                    expected, rel=1e-7, abs=1e-9, nan_ok=True
                )
    scores = {"old": np.random.default_rng(1).random(n), "new": np.random.default_rng(2).random(n)}
    plain_scores, alone_scores = compare_scores(**scores), compare_scores(**scores, clusters=list(map(str, range(n))))
    assert plain_scores.to_dict() == {k: v for k, v in alone_scores.to_dict().items() if k != "clusters"}


def test_answers_that_are_copies_say_no_more_than_one_of_them() -> None:
    rows = answers(60, seed=3)
    once = compare(**rows)
    copied = compare(**{name: np.repeat(values, 10) for name, values in rows.items()}, clusters=np.arange(600) // 10)
    assert copied.p_value == once.p_value
    for name in RATES:
        low, high = copied.confidence_interval(name)
        first, last = once.confidence_interval(name)
        # With clusters kappa has the wider of two intervals.
        assert (low, high) == pytest.approx((first, last), abs=(0.2 if name == "kappa" else 0.1) * (last - first))
        assert high - low > 0.9 * (last - first)


def test_no_flip_in_few_clusters_does_not_prove_a_rate_of_nearly_0() -> None:
    c = compare_correct(old=[True] * 500, new=[True] * 500, clusters=np.arange(500) // 10)
    low, high = c.confidence_interval("negative_flip_rate")
    # Nobody knows how flips would cluster, so 50 clusters are 50 answers at worst: Wilson's bound of 0 of 49 or so.
    assert (low, high) == pytest.approx((0, 0.075), abs=0.004)
    low, high = c.confidence_interval("accuracy_change")
    assert low < 0 < high


def test_one_cluster_leaves_everything_open() -> None:
    c = compare(**answers(50, seed=1), clusters=["all"] * 50)
    assert (c.clusters, c.p_value) == (1, 1.0)
    assert c.confidence_interval("negative_flip_rate") == (0, 1)
    assert c.confidence_interval("accuracy_change") == (-1, 1)
    assert all(map(math.isnan, c.confidence_interval("relative_negative_flip_rate")))
    scores = compare_scores(old=[0.0, 0.5, 1.0], new=[0.5, 0.5, 0.75], clusters=[1, 1, 1])
    assert all(map(math.isnan, scores.confidence_interval("mean_change")))
    assert "3 instances in 1 cluster, " in str(scores)


def test_one_cluster_that_holds_nearly_all_leaves_as_much_open_as_one() -> None:
    for alone in (1, 5, 40, 400):
        clusters = np.concatenate([np.zeros(2000, int), np.arange(1, 1 + alone)])
        c = compare(**answers(len(clusters), seed=0), clusters=clusters)
        low, high = c.confidence_interval("negative_flip_rate")
        assert high - low > (0.9 if alone < 100 else 0.2)
        for level in (0.95, 0.9964, 0.999999):
            limits = [c.decision_interval(name, level) for name in ("accuracy_change", "agreement", "kappa")]
            assert np.isfinite(limits).all()


@pytest.mark.slow
@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 12), st.booleans(), st.booleans()), min_size=2, max_size=60),
    st.sampled_from([0.5, 0.8, 0.95]),
)
def test_the_change_of_accuracy_excludes_0_exactly_where_the_test_on_clusters_does(
    rows: list[tuple[int, bool, bool]], level: float
) -> None:
    clusters, old, new = zip(*rows, strict=True)
    c = compare_correct(old=old, new=new, clusters=clusters)
    low, high = c.confidence_interval("accuracy_change", level)
    assert low <= c.accuracy_change <= high
    if abs(c.p_value - (1 - level)) > 1e-9:
        assert (low <= 0 <= high) is (c.p_value > 1 - level)
        low, high = c.decision_interval("accuracy_change", level)
        assert (low <= 0 <= high) or c.p_value < 1 - level


def test_the_design_effect_equals_that_of_the_formula_for_many_informative_clusters() -> None:
    random = np.random.default_rng(0)
    counts, sizes = random.binomial(5, random.beta(2, 2, 4000)).astype(float), np.full(4000, 5.0)
    share, n = counts.sum() / 20_000, 20_000
    variance = ((counts - share * sizes) ** 2).sum() / n**2 * 4000 / 3999
    count, effective = effective_share(counts, sizes, 0.95)
    assert count / effective == pytest.approx(share)
    assert effective == pytest.approx(share * (1 - share) / variance, rel=1e-3)


def test_verdicts_on_shares_add_to_the_design_effect_what_few_clusters_leave_open_of_it() -> None:
    counts, sizes = np.zeros(100), np.full(100, 10.0)
    counts[:4] = 1, 2, 3, 4
    # By hand: 10 of 1,000 flip, and z is 0.1 off each count.
    z = [0.9, 1.9, 2.9, 3.9, *[-0.1] * 96]
    squares, fourths = sum(x**2 for x in z), sum(x**4 for x in z)
    measured = squares * 100 / 99 / (1000 * 0.01 * 0.99 * 1000 / 999)
    cautious = measured * (1 + math.sqrt(fourths / squares**2 - 1 / 100))
    plain, fewer = effective_share(counts, sizes, 0.95)[1], effective_share(counts, sizes, 0.95, cautious=True)[1]
    assert plain / fewer == pytest.approx((4 * cautious + 10) / (4 * measured + 10), rel=1e-12)
    # No more than if all answers of a cluster were alike; and what nobody flipped, or is alone, stays as it was.
    for same, of in ((10.0 * (counts > 0), sizes), (0 * counts, sizes), (1.0 * (counts > 1), sizes / 10)):
        assert effective_share(same, of, 0.95, cautious=True) == pytest.approx(effective_share(same, of, 0.95))


@pytest.mark.slow
def test_ten_paraphrases_of_a_question_are_no_ten_questions() -> None:
    random, misses, alarms, plain = np.random.default_rng(0), 0, 0, 0
    for _ in range(400):
        kinds = random.choice(4, (50, 1), p=[0.4, 0.1, 0.1, 0.4])
        kinds = np.where(random.random((50, 10)) < 0.9, kinds, random.choice(4, (50, 10), p=[0.4, 0.1, 0.1, 0.4]))
        right = {"old": ((kinds == 0) | (kinds == 1)).ravel(), "new": ((kinds == 0) | (kinds == 2)).ravel()}
        c = compare_correct(**right, clusters=np.repeat(np.arange(50), 10))
        low, high = c.confidence_interval("negative_flip_rate")
        misses += not low <= 0.1 <= high
        alarms += c.p_value < 0.05
        plain += compare_correct(**right).p_value < 0.05
    # 400 draws of 5 %: more than 34 would come by chance once in 1,000.
    assert misses <= 34
    assert alarms <= 34
    assert plain > 100


# What is given -------------------------------------------------------------------------------------------------------


def test_the_names_of_clusters_do_not_matter() -> None:
    rows = answers(40, seed=2)
    numbers = np.arange(40) // 4
    expected = compare(**rows, clusters=numbers)
    for ids in ([f"q{i}" for i in numbers], (10**12 * numbers - 5).tolist(), numbers.astype(np.int8), -numbers):
        found = compare(**rows, clusters=ids)
        assert (found.clusters, found.p_value) == (10, pytest.approx(expected.p_value))
        for name in RATES:
            assert found.confidence_interval(name) == pytest.approx(expected.confidence_interval(name))
    assert expected.to_dict()["clusters"] == 10
    assert "clusters" not in compare(**rows).to_dict()
    assert "40 instances in 10 clusters, " in str(compare(**rows, clusters=numbers))


@pytest.mark.parametrize(
    ("clusters", "words"),
    [
        ([1, 2], "old has 3, clusters has 2"),
        (["a", None, "b"], r"clusters\[1\] is None, but every instance needs a cluster"),
        ([1.0, 2.0, 3.0], r"clusters\[0\] is the float 1.0"),
        (["a", 1, "b"], "clusters mixes ints and strings"),
        ("abc", "clusters is 'abc', but must be a list"),
    ],
)
def test_clusters_that_cannot_be_told_apart_are_refused(clusters: Any, words: str) -> None:
    flags: dict[str, Any] = {"old": [True, True, False], "new": [True, False, True], "clusters": clusters}
    for call in (
        lambda: compare_correct(**flags),
        lambda: compare(**flags, references=[1, 1, 1]),
        lambda: compare_scores(**flags),
    ):
        with pytest.raises(InputError, match=words):
            call()


def test_flips_of_single_answers_tell_nothing_of_how_alike_those_of_large_clusters_are() -> None:
    sizes = np.array([1.0] * 500 + [50.0] * 10)
    flips = np.array([1.0] * 25 + [0.0] * 485)
    alike = float((sizes**2).sum() / sizes.sum())  # what the design effect is where answers of a cluster are all alike
    _, size = effective_share(flips, sizes, 0.95)
    assert size <= 1000 / alike
    assert size == pytest.approx(1000 / alike, rel=0.1)  # and a little less, by Student
