"""The relative change of accuracy: bounds that err no more often than they say, and take no accuracy for known."""

import math
import runpy
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muscle_hf.flips.paired_tests import coin_test
from muscle_hf.flips.ratio import most_likely, relative_limits

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
CELLS = st.tuples(*[st.integers(0, 40)] * 4).filter(lambda cells: cells[0] + cells[2] > 0)


@pytest.mark.parametrize(
    ("cells", "ratio"),
    [((10, 2, 2, 6), 0.9), ((12, 1, 4, 3), 0.8), ((5, 5, 1, 9), 0.98), ((12, 0, 4, 3), 0.8), ((0, 3, 2, 3), 1.2)],
)
def test_the_most_likely_flips_under_a_ratio_equal_those_found_by_search(
    cells: tuple[int, int, int, int], ratio: float
) -> None:
    both, positive, negative, _ = cells
    share = (both + positive + negative) / sum(cells)
    fall = np.linspace(0, share, 400_001)[1:-1]
    rise = (fall + (ratio - 1) * share) / ratio
    stay = share - fall - rise
    possible = (rise > 0) & (stay > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        likely = both * np.log(stay) + positive * np.log(rise) + negative * np.log(fall)
    best = np.where(possible, likely, -np.inf).argmax()
    assert most_likely(cells, ratio) == pytest.approx((rise[best], fall[best]), abs=1e-5)


def test_many_answers_have_the_interval_of_the_delta_method() -> None:
    both, rise, fall, neither = 500_000, 10_000, 30_000, 460_000
    low, high = relative_limits((both, rise, fall, neither), 0.95)
    old, new = both + fall, both + rise
    error = math.sqrt((rise + fall) * new / old) / old
    assert (low, high) == pytest.approx((new / old - 1 - 1.96 * error, new / old - 1 + 1.96 * error), abs=1e-5)


@given(cells=CELLS, level=st.sampled_from([0.5, 0.8, 0.95, 0.999]))
def test_a_change_that_the_exact_test_does_not_find_is_never_claimed(cells: tuple[int, ...], level: float) -> None:
    both, rise, fall, neither = cells
    low, high = relative_limits((both, rise, fall, neither), level)
    assert -1 <= low <= (rise - fall) / (both + fall) <= high < math.inf
    if coin_test(fall, rise) >= 1 - level:
        assert low <= 0 <= high


def test_a_claim_about_a_relative_margin_errs_no_more_often_than_the_level_says() -> None:
    rows = runpy.run_path(str(BENCHMARKS / "intervals.py"))["at_ratios"](12)
    assert len(rows) > 50
    assert 0.01 < max(max(row[1:]) for row in rows) <= 0.025
