"""The special functions that stand in for SciPy's, against exact sums and against SciPy."""

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import special as scipy_special

from muscle_hf.flips import special

RANDOM = np.random.default_rng(0)
# From a tenth to a million, as the counts and priors of comparisons are.
A, B = 10 ** RANDOM.uniform(-1, 6, (2, 400))
Q = np.concatenate([RANDOM.uniform(0, 1, 300), 10 ** RANDOM.uniform(-14, -1, 100)])


@pytest.mark.parametrize("n", [1, 2, 7, 60, 500])
def test_a_binomial_tail_is_the_exact_sum(n: int) -> None:
    chance, total, exact = Fraction(1, 5), Fraction(0), []
    for k in range(n + 1):
        total += math.comb(n, k) * chance**k * (1 - chance) ** (n - k)
        exact.append(float(total))
    assert special.bdtr(np.arange(n + 1), n, 0.2) == pytest.approx(exact, rel=2e-13)


@pytest.mark.parametrize("k", [15_000, 19_400, 19_999])
def test_a_tail_of_many_coins_has_thirteen_right_digits(k: int) -> None:
    ways = total = math.comb(40_000, k)
    for flips in range(k, k - 3_000, -1):
        ways = ways * flips // (40_000 - flips + 1)
        total += ways
    assert special.bdtr(k, 40_000, 0.5) == pytest.approx(float(Fraction(total, 2**40_000)), rel=1e-13)


def test_the_integral_of_many_is_the_fraction(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = 10 ** RANDOM.uniform(4.1, 6, (2, 100))
    x = special.betaincinv(a, b, RANDOM.uniform(1e-9, 1, 100))
    by_nodes = special.betainc(a, b, x)
    monkeypatch.setattr(special, "_MANY", np.inf)
    assert by_nodes == pytest.approx(special.betainc(a, b, x), rel=1e-11)


def test_ends_of_a_distribution_are_nothing_and_all() -> None:
    assert special.bdtr([-1, 3, 9], 3, 0.4).tolist() == [0, 1, 1]
    assert special.betainc(2, 3, [0, 1]).tolist() == [0, 1]
    assert special.betaincinv(2, 3, [0, 1]).tolist() == [0, 1]
    assert [special.ndtri(0), special.ndtri(1)] == [-math.inf, math.inf]


def test_beta_shares_and_quantiles_equal_those_of_scipy() -> None:
    x = scipy_special.betaincinv(A, B, Q)
    assert special.betainc(A, B, x) == pytest.approx(scipy_special.betainc(A, B, x), rel=1e-9)
    assert special.betaincinv(A, B, Q) == pytest.approx(x, rel=1e-10)


@pytest.mark.parametrize(
    ("ours", "theirs", "values"),
    [
        (special.expit, scipy_special.expit, [np.linspace(-700, 700, 101)]),
        (special.log_expit, scipy_special.log_expit, [np.linspace(-700, 700, 101)]),
        (special.gammaln, scipy_special.gammaln, [np.concatenate([A, np.array([1.0, 2.0, 0.5, 16.0])])]),
        (special.betaln, scipy_special.betaln, [A[A < 50], 0.3]),
        (special.bdtrc, scipy_special.bdtrc, [np.arange(-1, 40), 39, 0.3]),
        (special.xlogy, scipy_special.xlogy, [[0, 0, 2], [0, 1, 3]]),
        (np.vectorize(special.stdtrit), scipy_special.stdtrit, [[1, 2, 30, 12_017], [[0.975], [0.5], [0.005]]]),
        (np.vectorize(special.chdtrc), scipy_special.chdtrc, [[[1], [2], [3], [4], [9]], [0, 0.1, 1, 5, 60]]),
        (np.vectorize(special.ndtr), scipy_special.ndtr, [np.linspace(-37, 9, 101)]),
        (np.vectorize(special.ndtri), scipy_special.ndtri, [Q]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_function_equals_that_of_scipy(ours: object, theirs: object, values: list[object]) -> None:
    assert ours(*values) == pytest.approx(theirs(*values), rel=1e-11, abs=1e-14)  # type: ignore[operator]


@pytest.mark.parametrize(("a", "b"), [(1, 1), (3, 40_000), (20_000, 30_000)])
def test_no_digit_of_a_beta_function_of_large_numbers_is_lost(a: int, b: int) -> None:
    exact = -math.log((a + b - 1) * math.comb(a + b - 2, a - 1))
    assert special.betaln(a, b) == pytest.approx(exact, rel=1e-14, abs=1e-14)


@pytest.mark.parametrize(
    ("function", "low", "high", "expected"),
    [
        (lambda x: x**3 - 2, 0, 9, 2 ** (1 / 3)),
        (lambda x: 1 - math.exp(x / 5), -60, 1, 0.0),
        (lambda x: x, 0, 1, 0.0),
        (lambda x: math.tanh(50 * (x - 0.9)), -40, 1, 0.9),
    ],
)
def test_a_root_is_found_from_wherever_it_is_enclosed(function, low: float, high: float, expected: float) -> None:  # type: ignore[no-untyped-def]
    assert special.root(function, low, high, 1e-12) == pytest.approx(expected, abs=1e-11)


@pytest.mark.parametrize("df", [0.2, 0.21, 1.0])
@pytest.mark.parametrize("q", [0.975, 0.995, 0.9982, 1e-9])
def test_quantiles_of_few_degrees_of_freedom_are_large_and_not_a_division_by_0(df: float, q: float) -> None:
    assert special.stdtrit(df, q) == pytest.approx(scipy_special.stdtrit(df, q), rel=1e-10)


def test_a_root_that_is_not_enclosed_is_no_number() -> None:
    with pytest.raises(ValueError, match="one sign"):
        special.root(lambda x: x * x + 1, -1, 1, 1e-9)


@pytest.mark.parametrize("a", [4.8e-24, 1e-3, 3.0, 250.0, 2e4])
def test_few_shares_and_quantiles_have_other_bits_than_many_or_a_shape_of_nothing_raises(a: float) -> None:
    shapes, shares = [[a, 7.0], [1.0, 98.0]], [0.025, 0.975]
    for function in (special.betainc, special.betaincinv):
        few = function(*shapes, shares)
        many = function(*(values * 20 for values in shapes), shares * 20)
        np.testing.assert_array_equal(np.tile(few, 20), many)
        np.testing.assert_array_equal([function(a, 1.0, 0.025)], function([a] * 20, [1.0] * 20, [0.025] * 20)[:1])
