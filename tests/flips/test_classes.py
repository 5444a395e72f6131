"""What breaks in each class, the rate in which classes count the same, and how often its interval holds the truth."""

import math
import runpy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import brentq

from muscle_hf.flips.comparison import Comparison, compare, compare_correct
from muscle_hf.flips.tilted import mean_of_rates

NAME = "balanced_negative_flip_rate"


def of_counts(classes: dict[Any, tuple[int, int, int]]) -> Comparison:
    """Compare classes of (rows, old right, broken)."""
    old, new, gold = [], [], []
    for name, (rows, right, broken) in classes.items():
        gold += [name] * rows
        old += [name] * right + [None] * (rows - right)
        new += [None] * broken + [name] * (right - broken) + [None] * (rows - right)
    return compare(old=old, new=new, references=gold)


def brute_force(old: list[Any], new: list[Any], gold: list[Any]) -> float:
    rates = []
    for name in dict.fromkeys(gold):
        rows = [place for place, right in enumerate(gold) if right == name]
        rates.append(sum(old[place] == name != new[place] for place in rows) / len(rows))
    return sum(rates) / len(rates)


def interval(counts: list[float], sizes: list[float], level: float = 0.95, **options: bool) -> tuple[float, float]:
    return mean_of_rates(np.array(counts, np.float64), np.array(sizes, np.float64), level, **options)


# The rate ------------------------------------------------------------------------------------------------------------


def test_a_rare_class_counts_as_much_as_a_common_one() -> None:
    c = of_counts({"common": (90, 80, 9), "rare": (10, 8, 6)})
    assert c.negative_flip_rate == 15 / 100
    assert c.balanced_negative_flip_rate == pytest.approx((9 / 90 + 6 / 10) / 2)
    assert c.by_class is not None
    assert (c.by_class.names, c.by_class.n.tolist()) == (("common", "rare"), [90, 10])
    assert (c.by_class.old_right.tolist(), c.by_class.broken.tolist()) == ([80, 8], [9, 6])
    assert c.by_class.worst_first() == [1, 0]
    assert c.by_class.uneven


def test_classes_that_break_alike_come_in_a_fixed_order() -> None:
    c = of_counts({"b": (4, 4, 2), "none": (4, 4, 0), "large": (8, 8, 4), "a": (4, 4, 2)})
    assert c.by_class is not None
    assert [c.by_class.names[place] for place in c.by_class.worst_first()] == ["large", "a", "b", "none"]


TABLES = st.lists(st.tuples(*[st.sampled_from("ab")] * 2, st.sampled_from("aab")), min_size=4, max_size=40)


@pytest.mark.slow
@settings(max_examples=15)
@given(TABLES, st.randoms(use_true_random=False))
def test_the_rate_is_that_of_a_loop_whatever_the_order_and_the_type(rows: list[Any], random: Any) -> None:
    def compared(rows: list[Any], change: Callable[[str], Any] = str) -> Comparison:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return compare(
                **{
                    side: [change(row[place]) for row in rows]
                    for place, side in enumerate(("old", "new", "references"))
                }
            )

    c = compared(rows)
    singles = sum(sum(row[2] == name for row in rows) == 1 for name in "ab")
    if singles == 1 or len({row[2] for row in rows}) == 1 or not singles:
        expected = brute_force(*map(list, zip(*rows, strict=True)))
        assert c.balanced_negative_flip_rate == pytest.approx(expected, abs=1e-15)
    shuffled = random.sample(rows, len(rows))
    for other in (compared(shuffled), compared(rows, ord), compared(rows, lambda text: 10**30 * ord(text))):
        for value in (NAME, "negative_flip_rate"):
            assert getattr(other, value) == pytest.approx(getattr(c, value), nan_ok=True, abs=0)
        assert other.confidence_interval(NAME) == pytest.approx(c.confidence_interval(NAME), nan_ok=True, abs=1e-9)


def test_arrays_of_class_numbers_far_apart_are_counted_as_texts_are() -> None:
    rng = np.random.default_rng(0)
    gold, old, new = (rng.integers(0, 5, 200) for _ in range(3))
    small = compare(old=old, new=new, references=gold)
    wide = compare(old=old * 10**15, new=new * 10**15, references=gold * 10**15)
    texts = compare(old=old.astype(str).tolist(), new=new.astype(str).tolist(), references=gold.astype(str).tolist())
    assert small.by_class and wide.by_class and texts.by_class
    expected = brute_force(old.tolist(), new.tolist(), gold.tolist())
    for c in (small, wide, texts):
        assert c.balanced_negative_flip_rate == pytest.approx(expected)
        assert c.by_class and c.by_class.unseen == ()
    assert sorted(map(int, texts.by_class.names)) == list(small.by_class.names)


def test_classes_of_one_size_give_the_plain_rate() -> None:
    c = of_counts({name: (8, 7, broken) for name, broken in zip("abcd", (0, 1, 5, 7), strict=True)})
    assert c.balanced_negative_flip_rate == c.negative_flip_rate
    # And it is one binomial then, but for what classes differ by.
    low, high = c.confidence_interval(NAME)
    plain_low, plain_high = c.confidence_interval("negative_flip_rate")
    assert plain_low < low < c.negative_flip_rate < high < plain_high
    assert c.by_class is not None and not c.by_class.uneven


def test_a_class_that_is_split_into_two_like_it_counts_twice_and_two_alike_merge_into_one() -> None:
    whole = of_counts({"a": (40, 30, 10), "b": (8, 8, 6)})
    split = of_counts({"a1": (20, 15, 5), "a2": (20, 15, 5), "b": (8, 8, 6)})
    assert split.balanced_negative_flip_rate == pytest.approx((2 * 10 / 40 + 6 / 8) / 3)
    assert whole.balanced_negative_flip_rate == pytest.approx((10 / 40 + 6 / 8) / 2)
    merged = of_counts({"a": (16, 12, 4), "b": (16, 12, 4)})
    assert merged.balanced_negative_flip_rate == of_counts({"ab": (32, 24, 8)}).balanced_negative_flip_rate == 4 / 16


def test_one_class_gives_the_plain_rate() -> None:
    c = of_counts({"a": (10, 9, 3)})
    assert c.balanced_negative_flip_rate == c.negative_flip_rate == 0.3


def test_an_answer_that_is_no_right_one_of_any_row_is_named_and_none_is_no_class() -> None:
    c = compare(old=["a", "x", "b", None], new=["a", "y", "x", "b"], references=["a", "a", "b", "b"])
    assert c.by_class is not None
    assert (c.by_class.names, c.by_class.unseen) == (("a", "b"), ("x", "y"))
    numbers = compare(old=[0, 9, 1, 1], new=[0, 7, 1, 1], references=[0, 0, 1, 1])
    assert numbers.by_class and numbers.by_class.unseen == (7, 9)
    assert numbers.by_class.named(lambda name: {0: "zero", 1: "one", 9: "nine"}.get(name)).unseen == ("nine",)


# Where it says nothing -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gold", "fits"),
    [
        (["a", "a", "a", "b"], True),
        (["a", "b"], False),
        (["a"], False),
        ([f"text {i}" for i in range(50)], False),
        # As numbers to be found: a few are frequent, most are in one row.
        ([str(i % 5) for i in range(40)] + [f"{i}" for i in range(100, 160)], False),
        # Five rare classes of a small table, and too many of them.
        ([str(i % 10) for i in range(50)] + [f"rare {i}" for i in range(5)], True),
        ([str(i % 10) for i in range(50)] + [f"rare {i}" for i in range(6)], False),
        ([str(i % 20) for i in range(200)] + [f"rare {i}" for i in range(10)], True),
    ],
)
def test_right_answers_that_are_no_classes_give_no_rate_and_say_why(gold: list[str], fits: bool) -> None:
    c = compare(old=gold, new=gold, references=gold)
    assert c.by_class is not None
    assert math.isnan(c.balanced_negative_flip_rate) is not fits
    assert all(map(math.isnan, c.confidence_interval(NAME))) is not fits
    assert (NAME in str(c)) is fits
    assert bool(c.by_class) is fits
    if not fits:
        assert f"{len(gold)} row" in c.by_class.unfit
        assert "no classes" in c.by_class.unfit


def test_right_and_wrong_alone_know_no_classes() -> None:
    c = compare_correct(old=[1, 0, 1], new=[0, 0, 1])
    assert c.by_class is None
    assert math.isnan(c.balanced_negative_flip_rate)
    assert NAME not in str(c)


# The interval --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "n", "close"), [(0, 50, 1e-9), (50, 50, 1e-9), (5, 50, 0.003), (25, 50, 0.002), (300, 10_000, 1e-5)]
)
def test_with_one_class_the_interval_is_the_exact_one_in_its_mid_p_form(count: int, n: int, close: float) -> None:
    def chance(p: float) -> float:
        return float(stats.binom.cdf(count - 1, n, p) + stats.binom.pmf(count, n, p) / 2)

    low = brentq(lambda p: chance(p) - 0.975, 1e-9, 1 - 1e-9) if count else 0.0
    high = brentq(lambda p: chance(p) - 0.025, 1e-9, 1 - 1e-9) if count < n else 1.0
    assert interval([count], [n]) == pytest.approx((low, high), abs=close)
    exact = stats.binomtest(count, n).proportion_ci(method="exact")
    assert interval([count], [n], cautious=True) == pytest.approx((exact.low, exact.high), abs=close)


@pytest.mark.slow
def test_the_tails_are_those_of_draws_from_the_tilted_rates() -> None:
    # At each bound what was found is a quantile of what the rates there give: drawn here, worked out there.
    from muscle_hf.flips.tilted import _Tilted

    sizes, counts = np.array([4.0, 15.0, 60.0, 300.0]), np.array([1.0, 2.0, 9.0, 20.0])
    tilted = _Tilted.of(counts, sizes, np.ones(4))
    rng = np.random.default_rng(0)
    for bound, below in zip(interval(counts.tolist(), sizes.tolist()), (0.975, 0.025), strict=True):
        rates = tilted.rates(tilted.reach(lambda t, bound=bound: tilted.mean(t) - bound))  # type: ignore[misc]
        drawn = (rng.binomial(sizes.astype(int), rates, (50_000, 4)) / sizes).mean(axis=1)
        found = float((counts / sizes).mean())
        share = (drawn < found - 1e-12).mean() + (abs(drawn - found) < 1e-12).mean() / 2
        assert share == pytest.approx(below, abs=0.005)


def test_classes_without_a_flip_or_with_nothing_else_do_not_make_the_interval_certain() -> None:
    low, high = interval([0, 0, 0], [300, 300, 3])
    assert low == 0
    # The three rows alone leave a rate of up to 63 % open, a third of which is 21 %.
    assert 0.17 < high < 0.22
    low, high = interval([300, 300, 3], [300, 300, 3])
    assert 0.17 < 1 - low < 0.22
    assert high == 1
    low, high = interval([0, 0, 1], [300, 300, 1])
    assert low < 0.03
    assert high > 1 / 3


@pytest.mark.slow
@settings(max_examples=25)
@given(
    st.lists(st.integers(1, 40).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), min_size=1, max_size=6),
    st.sampled_from([0.9, 0.95, 0.99]),
)
def test_intervals_hold_the_estimate_nest_and_mirror(classes: list[tuple[int, int]], level: float) -> None:
    counts, sizes = (list(map(float, column)) for column in zip(*classes, strict=True))
    estimate = sum(count / size for count, size in zip(counts, sizes, strict=True)) / len(counts)
    low, high = interval(counts, sizes, level)
    assert -1e-12 <= low <= estimate + 1e-9
    assert estimate - 1e-9 <= high <= 1 + 1e-12
    wide_low, wide_high = interval(counts, sizes, level + 0.009)
    assert wide_low <= low + 1e-6
    assert high <= wide_high + 1e-6
    cautious_low, cautious_high = interval(counts, sizes, level, cautious=True)
    assert cautious_low <= low + 1e-6
    assert high <= cautious_high + 1e-6
    # The order of classes is nothing.
    assert interval(counts[::-1], sizes[::-1], level) == pytest.approx((low, high), abs=1e-9)


def test_an_interval_by_clusters_is_that_of_fewer_rows_and_the_plain_one_where_each_is_alone() -> None:
    rng = np.random.default_rng(0)
    gold = np.repeat([0, 1, 2], [300, 60, 30])
    groups = rng.permutation(390) // 10
    flip = rng.random(39)[groups] < 0.2  # all rows of a cluster break, or none
    new = np.where(flip, 9, gold)
    plain = compare(old=gold, new=new, references=gold)
    alone = compare(old=gold, new=new, references=gold, clusters=np.arange(390))
    together = compare(old=gold, new=new, references=gold, clusters=groups)
    assert alone.confidence_interval(NAME) == pytest.approx(plain.confidence_interval(NAME))
    width, narrow = (c.confidence_interval(NAME)[1] - c.confidence_interval(NAME)[0] for c in (together, plain))
    assert 1.8 * narrow < width < 4 * narrow
    one = compare(old=gold, new=new, references=gold, clusters=np.zeros(390, int))
    assert one.confidence_interval(NAME) == one.decision_interval(NAME) == (0.0, 1.0)
    # Of a single class it is not known how alike clusters make its rows: no interval, rather than one too short.
    assert alone.by_class.interval_of(0, 0.95) == plain.by_class.interval_of(0, 0.95)
    assert np.isnan(together.by_class.interval_of(0, 0.95)).all()


@pytest.mark.slow
def test_the_truth_lies_in_the_interval_as_often_as_it_says_and_more_often_than_in_a_plain_bootstrap() -> None:
    script = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "classes.py"))
    sizes, rates = script["truths"]()["10 classes of 40 and 4, some without a flip"]
    missed = {
        name: sum(script["coverage"](interval, sizes, rates, 150)[:2])
        for name, interval in script["intervals"]().items()
    }
    # 150 draws of 0.05: more than 15 would come by chance once in 1000.
    assert missed["verdicts"] <= missed["tables"] <= 15 / 150
    assert missed["bootstrap"] > 0.3
