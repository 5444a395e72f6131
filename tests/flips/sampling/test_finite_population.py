"""Limits of what a whole list holds: by every sample of every small list, and by SciPy for large ones."""

import itertools
from collections.abc import Iterator
from math import comb

import numpy as np
import pytest
from scipy.stats import hypergeom, multinomial

from muscle_hf.flips.sampling import finite_population
from muscle_hf.flips.sampling.finite_population import lowest_difference, share_limits, telling_samples

LEVEL = 0.95
LIMIT = (1 - LEVEL) / 2 + 1e-12


def _samples(drawn: int) -> list[tuple[int, int]]:
    return [(a, b) for a in range(drawn + 1) for b in range(drawn + 1 - a)]


def _lists(size: int) -> Iterator[tuple[int, int]]:
    return ((more, fewer) for more in range(size + 1) for fewer in range(size + 1 - more))


def _chance(sample: tuple[int, int], drawn: int, kinds: tuple[int, int], size: int) -> float:
    (a, b), (more, fewer) = sample, kinds
    ways = comb(more, a) * comb(fewer, b) * comb(size - more - fewer, drawn - a - b)
    return ways / comb(size, drawn)


@pytest.mark.parametrize("size", [1, 2, 3, 5, pytest.param(10, marks=pytest.mark.slow)])
def test_no_small_list_is_missed_more_often_than_the_level_says(size: int) -> None:
    for drawn in range(1, size + 1):
        limits = {sample: lowest_difference(*sample, drawn, size, LEVEL) for sample in _samples(drawn)}
        for low, chance in limits.values():
            assert (low > 0) is (chance <= LIMIT)
        lows = {sample: low for sample, (low, _) in limits.items()}
        for kinds in _lists(size):
            truth = kinds[0] - kinds[1]
            chances = {sample: _chance(sample, drawn, kinds, size) for sample in lows}
            above = sum(chance for sample, chance in chances.items() if lows[sample] > truth)
            below = sum(chance for (a, b), chance in chances.items() if -lows[b, a] < truth)
            assert above <= LIMIT, (drawn, kinds)
            assert below <= LIMIT, (drawn, kinds)


@pytest.mark.parametrize("size", [1, 4, 9, 12])
def test_no_small_list_has_its_share_missed_more_often_than_the_level_says(size: int) -> None:
    for drawn, marked in itertools.product(range(1, size + 1), range(size + 1)):
        above = below = 0.0
        for count in range(drawn + 1):
            low, high = share_limits(count, drawn, size, LEVEL)
            chance = comb(marked, count) * comb(size - marked, drawn - count) / comb(size, drawn)
            above += chance * (low > marked)
            below += chance * (high < marked)
        assert max(above, below) <= LIMIT, (drawn, marked)


@pytest.mark.parametrize(("count", "drawn", "size"), [(0, 25, 700), (7, 25, 700), (100, 400, 600), (3, 3, 500)])
def test_a_share_is_bounded_where_scipy_says(count: int, drawn: int, size: int) -> None:
    marked = np.arange(count, size - (drawn - count) + 1)
    at_least = hypergeom.sf(count - 1, size, marked, drawn)
    at_most = hypergeom.cdf(count, size, marked, drawn)
    expected = marked[at_least > 0.025][0], marked[at_most > 0.025][-1]
    assert share_limits(count, drawn, size, LEVEL) == expected


def test_all_drawn_rows_leave_nothing_open() -> None:
    for size in (1, 6, 40):
        for more, fewer in [(0, 0), (size, 0), (0, size), (size // 2, size // 3)]:
            assert lowest_difference(more, fewer, size, size, LEVEL).difference == more - fewer
            assert share_limits(more, size, size, LEVEL) == (more, more)


def test_a_higher_sample_has_no_lower_limit() -> None:
    drawn, size = 6, 30
    lows = {sample: lowest_difference(*sample, drawn, size, LEVEL).difference for sample in _samples(drawn)}
    for (a, b), low in lows.items():
        if a + b < drawn:
            assert lows[a + 1, b] >= low
            assert lows[a, b + 1] <= low


@pytest.mark.parametrize("size", [30, 150])
def test_the_limit_is_above_zero_just_where_the_test_says_so(size: int) -> None:
    for sample in [(4, 0), (3, 0), (9, 2), (8, 2), (0, 7), (16, 9), (25, 0)]:
        low, chance = lowest_difference(*sample, 25, size, LEVEL)
        assert (low > 0) is (chance <= LIMIT), sample


@pytest.mark.parametrize("size", [4, 9, 11])
def test_the_test_errs_no_more_often_than_the_level_says(size: int) -> None:
    for drawn in range(1, size + 1):
        edge = telling_samples(drawn, size, LEVEL)
        for either in range(size // 2 + 1):
            tell = sum(_chance((a, b), drawn, (either, either), size) for a, b in _samples(drawn) if a >= edge[b])
            assert tell <= LIMIT, (drawn, either)


def test_the_test_of_a_long_list_is_that_of_an_endless_one() -> None:
    edge = telling_samples(25, 200_000, LEVEL)
    assert [int(more) for more in edge[:4]] == [4, 7, 9, 11]
    # By the trinomial distribution, whatever the share of rows of either kind.
    shares = np.linspace(0.002, 0.5, 250)
    samples = [(a, b) for a, b in _samples(25) if a >= edge[b]]
    told = sum(
        multinomial.pmf([a, b, 25 - a - b], 25, np.stack([shares, shares, 1 - 2 * shares], -1)) for a, b in samples
    )
    assert 0.02 < told.max() <= 0.025


def test_a_difference_that_the_drawn_rows_rule_out_has_no_chance() -> None:
    assert lowest_difference(9, 1, 10, 12, LEVEL) == (6, 0.0)


@pytest.mark.parametrize("difference", [-0.9, -0.31, -0.04, 0.0, 0.02, 0.27, 0.8])
def test_the_edge_of_a_score_leaves_no_sample_out(difference: float) -> None:
    drawn = 15
    for quantile in (0.0, 0.7, 1.96):
        edge = finite_population._edge(drawn, difference, quantile)
        for a, b in _samples(drawn):
            score = float(finite_population._score(a, b, drawn, difference))
            assert bool(a >= edge[b]) is (score >= quantile - 1e-9)
        assert (np.diff(edge) >= 0).all()


def test_of_many_lists_the_least_favourable_one_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    for more, fewer, drawn, size in [(8, 2, 25, 150), (20, 5, 60, 180), (3, 11, 25, 150), (12, 12, 25, 90)]:
        each = lowest_difference(more, fewer, drawn, size, LEVEL)
        with monkeypatch.context() as patch:
            patch.setattr(finite_population, "_EACH", 8)
            telling_samples.cache_clear()
            assert tuple(each) == pytest.approx(tuple(lowest_difference(more, fewer, drawn, size, LEVEL)), rel=1e-6)
        telling_samples.cache_clear()
