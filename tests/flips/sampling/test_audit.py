"""A negative flip rate corrected by a sample of checked flips: by hand, by enumeration of all samples, by symmetry."""

import itertools
import math
from collections import Counter
from statistics import fmean

import numpy as np
import pytest

from muscle_hf.errors import InputError
from muscle_hf.flips.sampling.audit import Stratum, from_verdicts
from muscle_hf.flips.sampling.finite_population import share_limits
from muscle_hf.flips.sampling.strata import allocation, lowest_total, strata_of

SMALL = [((7, 3), (5, 2)), ((6, 6), (4, 2)), ((9, 4), (2, 2)), ((8, 3), (8, 5))]


def chance(count: int, drawn: int, marked: int, size: int) -> float:
    return math.comb(marked, count) * math.comb(size - marked, drawn - count) / math.comb(size, drawn)


def test_the_leetcode_audit_by_hand() -> None:
    # None of 8 drawn from 21 is real: with 6 real ones that has a chance of C(15, 8) / C(21, 8) = .0316, with 7 .0148.
    assert math.comb(15, 8) / math.comb(21, 8) > 0.025 > math.comb(14, 8) / math.comb(21, 8)
    audit = from_verdicts(n=50, strata=[Stratum(21, 0, 8), Stratum(2, 2, 0)])
    assert audit.negative_flip_rate == (2 / 50, 2 / 50, 8 / 50)
    assert audit.marked_rate == 0.46
    assert audit.graders_share == (21 / 23, 15 / 23, 21 / 23)


@pytest.mark.parametrize("real", [(0, 0), (1, 4), (3, 1), (7, 5), (5, 0)])
def test_the_corrected_rate_is_unbiased_over_all_samples(real: tuple[int, int]) -> None:
    sizes, drawn = (7, 5), (3, 2)
    flips = [[True] * count + [False] * (size - count) for count, size in zip(real, sizes, strict=True)]
    samples = itertools.product(*(itertools.combinations(part, n) for part, n in zip(flips, drawn, strict=True)))
    counts = Counter(tuple(map(sum, both)) for both in samples)
    rates = [
        from_verdicts(
            n=40,
            strata=[Stratum(*row) for row in zip(sizes, seen, np.subtract(drawn, seen).tolist(), strict=True)],
            level=0.5,
        ).negative_flip_rate.value
        for seen in counts
    ]
    assert fmean(rates, counts.values()) == pytest.approx(sum(real) / 40)


@pytest.mark.parametrize("strata", SMALL)
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_limits_are_those_of_all_samples_and_hold_the_truth_often_enough(
    strata: tuple[tuple[int, int], tuple[int, int]], level: float
) -> None:
    (size, n), (other, m) = strata
    samples = list(itertools.product(range(n + 1), range(m + 1)))
    total = {seen: size * seen[0] * m + other * seen[1] * n for seen in samples}

    def as_high(seen: tuple[int, int], marked: tuple[int, int]) -> float:
        return sum(
            chance(a, n, marked[0], size) * chance(b, m, marked[1], other)
            for a, b in samples
            if total[a, b] >= total[seen] and a <= marked[0] and b <= marked[1]
        )

    found = {seen: lowest_total(seen, (n, m), (size, other), level) for seen in samples}
    for seen in samples:
        possible = [
            sum(marked)
            for marked in itertools.product(range(size + 1), range(other + 1))
            if seen[0] <= marked[0] <= size - (n - seen[0])
            and seen[1] <= marked[1] <= other - (m - seen[1])
            and as_high(seen, marked) > 0.5 - level / 2 - 1e-9
        ]
        assert found[seen] == min(possible)
    for marked in itertools.product(range(size + 1), range(other + 1)):
        above = sum(
            chance(a, n, marked[0], size) * chance(b, m, marked[1], other)
            for a, b in samples
            if found[a, b] > sum(marked)
        )
        assert above <= 0.5 - level / 2 + 1e-12


@pytest.mark.parametrize(("count", "drawn", "size"), [(0, 5, 20), (3, 10, 23), (10, 10, 10), (2, 30, 400)])
def test_one_stratum_has_the_limits_of_a_share(count: int, drawn: int, size: int) -> None:
    low, high = share_limits(count, drawn, size, 0.95)
    assert lowest_total([count], [drawn], [size], 0.95) == low
    assert size - lowest_total([drawn - count], [drawn], [size], 0.95) == high


def test_strata_in_another_order_and_verdicts_the_other_way_round() -> None:
    strata = [Stratum(30, 2, 8), Stratum(20, 5, 3)]
    audit = from_verdicts(n=100, strata=strata)
    assert audit.negative_flip_rate == from_verdicts(n=100, strata=strata[::-1]).negative_flip_rate
    mirrored = from_verdicts(n=100, strata=[Stratum(s.size, s.graders, s.broken) for s in strata]).negative_flip_rate
    value, low, high = audit.negative_flip_rate
    assert mirrored == pytest.approx((0.5 - value, 0.5 - high, 0.5 - low))


def test_all_checked_leaves_nothing_open_and_nothing_checked_all() -> None:
    assert from_verdicts(n=9, strata=[Stratum(4, 1, 3)]).negative_flip_rate == (1 / 9, 1 / 9, 1 / 9)
    nothing = from_verdicts(n=9, strata=[Stratum(4, 0, 0)])
    assert math.isnan(nothing.negative_flip_rate.value)
    assert nothing.negative_flip_rate[1:] == (0, 4 / 9)
    assert np.isnan(nothing.confidence_interval()).all()
    assert from_verdicts(n=9, strata=[Stratum(0, 0, 0)]).negative_flip_rate == (0, 0, 0)


def test_what_was_skipped_makes_the_interval_wider_on_both_sides() -> None:
    _, low, high = from_verdicts(n=50, strata=[Stratum(30, 5, 5, 0)]).negative_flip_rate
    _, lower, higher = from_verdicts(n=50, strata=[Stratum(30, 5, 5, 4)]).negative_flip_rate
    assert lower < low < high < higher


def test_other_questions_leave_more_open_than_these_and_clusters_are_not_known() -> None:
    audit = from_verdicts(n=200, strata=[Stratum(30, 0, 10), Stratum(20, 6, 2)])
    _, low, high = audit.negative_flip_rate
    least, most = audit.confidence_interval()
    assert least < low < high < most
    assert audit.confidence_interval(level=0.8)[1] < most
    clustered = from_verdicts(n=200, strata=audit.strata, independent=False)
    assert np.isnan(clustered.confidence_interval()).all()
    with pytest.raises(InputError, match="has no 'positive_flip_rate'"):
        audit.confidence_interval("positive_flip_rate")


@pytest.mark.parametrize(
    ("strata", "said"),
    [
        ([], "0 strata were given"),
        ([Stratum(1, 0, 1)] * 3, "3 strata were given"),
        ([Stratum(3, 2, 2)], "4 are drawn of 3"),
        ([Stratum(3, -1, 2)], "no count"),
        ([Stratum(99, 0, 0)], "99 negative flips of 50 answers"),
    ],
)
def test_counts_that_cannot_be_are_refused(strata: list[Stratum], said: str) -> None:
    with pytest.raises(InputError, match=said):
        from_verdicts(n=50, strata=strata)


def test_flips_are_cut_where_their_chances_part_and_ties_stay_together() -> None:
    assert strata_of(np.array([0.9] * 21 + [0.01] * 2)) == 21
    assert strata_of(np.array([0.87] * 23)) == 0
    assert strata_of(np.array([np.nan] * 5)) == 0
    assert strata_of(np.array([0.9, 0.89, 0.88, 0.87])) == 0  # not worth it
    assert strata_of(np.array([])) == 0


@pytest.mark.parametrize("drawn", [4, 7, 10, 22, 23, 60])
@pytest.mark.parametrize("sizes", [(21, 2), (2, 21), (12, 11), (22, 1)])
def test_a_sample_is_shared_out_whole_with_some_of_each_stratum(sizes: tuple[int, int], drawn: int) -> None:
    parts = allocation([np.full(sizes[0], 0.9), np.full(sizes[1], 0.02)], drawn)
    assert sum(parts) == min(drawn, sum(sizes))
    assert all(min(2, size) <= part <= size for part, size in zip(parts, sizes, strict=True))


def test_an_uncertain_stratum_gets_more_than_a_certain_one() -> None:
    first, second = allocation([np.full(100, 0.7), np.full(100, 0.01)], 40)
    assert first > second
