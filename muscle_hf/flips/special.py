"""The few special functions that intervals and tests need, so that comparing needs no SciPy.

Tests hold them to SciPy's, whose names they have: SciPy is 140 MB on the disk, and importing it takes longer than
comparing ten thousand answers does.
"""

import math
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Numbers: TypeAlias = NDArray[np.float64]
# A number, a list or an array; what is given together is broadcast, and numbers give a number.
Given: TypeAlias = Any

# B(2k) / (2k (2k - 1)): Stirling's series.
_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156, -3617 / 122400)
_SERIES_FROM = 16.0
# (-1)^k / (k (k - 1)) from k = 2 on: (1 + e) log(1 + e) - e.
_DEVIANCE = tuple((-1) ** k / (k * (k - 1)) for k in range(2, 20))
_SMALL = 0.1
# Newton's steps double the digits, and halving alone would need about this many.
_STEPS = 80
# From here on 32 nodes are faster than the terms of a fraction, and as exact.
_MANY, _NODES = 1e4, 32
# So many fractions are faster one by one, in Python's own floats, and have the same bits.
_FEW = 12


def expit(x: Given) -> Any:
    """Give 1 / (1 + exp(-x))."""
    return np.exp(log_expit(x))


def log_expit(x: Given) -> Any:
    """Give log(1 / (1 + exp(-x)))."""
    return -np.logaddexp(0.0, np.negative(x))


def gammaln(x: Given) -> Any:
    """Give log Gamma(x), x > 0."""
    z = np.asarray(x, dtype=np.float64)
    # Gamma(z) = Gamma(z + 1) / z until the series holds.
    product = np.ones_like(z)
    while (low := z < _SERIES_FROM).any():
        product = np.where(low, product * z, product)
        z = np.where(low, z + 1, z)
    return (z - 0.5) * np.log(z) - z + 0.5 * math.log(2 * math.pi) + _series(z) - np.log(product)


def betaln(a: Given, b: Given) -> Any:
    """Give log B(a, b), a and b > 0."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    n = a + b
    # Not by three log Gamma, of which the leading digits would cancel.
    powers = -a * np.log1p(b / a) - b * np.log1p(a / b)
    return 0.5 * np.log(2 * math.pi * n / (a * b)) + powers + _error(a) + _error(b) - _error(n)


def betainc(a: Given, b: Given, x: Given) -> Any:
    """Give the distribution function of Beta(a, b) at x, by the continued fraction of DLMF 8.17.22."""
    a, b, x = np.broadcast_arrays(*(np.asarray(value, dtype=np.float64) for value in (a, b, x)))
    with np.errstate(divide="ignore", invalid="ignore"):
        return _share(a, b, x, 1 - x, _height(a, b))[()]


def betaincinv(a: Given, b: Given, q: Given) -> Any:
    """Give the quantiles of Beta(a, b); q from 0 to 1."""
    a, b, q = np.broadcast_arrays(*(np.asarray(value, dtype=np.float64) for value in (a, b, q)))
    high = q > 0.5
    a, b, share = np.where(high, b, a), np.where(high, a, b), np.where(high, 1 - q, q)
    # By Newton's method for the log of the share as a function of the log odds, which is concave; kept in a bracket.
    width = np.sqrt(1 / a + 1 / b)
    odds = np.log(a) - np.log(b) + _normal_guess(share) * width
    height = _height(a, b)
    low, top = np.full(q.shape, -745.0), np.full(q.shape, 745.0)
    odds = np.clip(odds, -700.0, 700.0)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for _ in range(_STEPS):
            x, rest = expit(odds), expit(-odds)
            reached = _share(a, b, x, rest, height)
            low, top = np.where(reached < share, odds, low), np.where(reached < share, top, odds)
            step = np.log(share / reached) * reached / _density(a, b, x, rest, height)
            # Where nothing is reached, the step is 0 / 0, and leads up.
            moved = odds + np.clip(np.nan_to_num(step, nan=np.inf), -4 * width, 4 * width)
            # Of a step of this size, Newton's method leaves an error of its square.
            settled = np.abs(moved - odds) <= 1e-9 * np.maximum(1, np.abs(odds))
            odds = np.where(settled | ((moved > low) & (moved < top)), moved, (low + top) / 2)
            if np.all(settled | (share <= 0)):
                break
    x = np.where(share <= 0, 0.0, np.where(high, expit(-odds), expit(odds)))
    return np.where((share <= 0) & high, 1.0, x)[()]


def bdtr(k: Given, n: Given, p: Given) -> Any:
    """Give the chance of at most k successes in n trials of chance p."""
    k, n, p = np.broadcast_arrays(*(np.asarray(value, dtype=np.float64) for value in (k, n, p)))
    k = np.floor(k)
    inside = (k >= 0) & (k < n)
    shares = betainc(np.where(inside, n - k, 1), np.where(inside, k + 1, 1), 1 - p)
    return np.where(inside, shares, np.where(k < 0, 0.0, 1.0))[()]


def bdtrc(k: Given, n: Given, p: Given) -> Any:
    """Give the chance of more than k successes in n trials of chance p."""
    k, n, p = np.broadcast_arrays(*(np.asarray(value, dtype=np.float64) for value in (k, n, p)))
    k = np.floor(k)
    inside = (k >= 0) & (k < n)
    shares = betainc(np.where(inside, k + 1, 1), np.where(inside, n - k, 1), p)
    return np.where(inside, shares, np.where(k < 0, 1.0, 0.0))[()]


def ndtr(x: float) -> float:
    """Give the distribution function of the standard normal distribution."""
    return 0.5 * math.erfc(-x / math.sqrt(2))


def ndtri(q: float) -> float:
    """Give the quantile of the standard normal distribution."""
    if not 0 < q < 1:
        return -math.inf if q == 0 else math.inf if q == 1 else math.nan
    if q > 0.5:
        return -ndtri(1 - q)
    x = float(_normal_guess(np.float64(q)))
    for _ in range(4):  # Halley's steps, each of which triples the digits
        off = (ndtr(x) - q) * math.sqrt(2 * math.pi) * math.exp(x * x / 2)
        x -= off / (1 + x * off / 2)
    return x


def chdtrc(df: int, x: float) -> float:
    """Give the chance that chi-square with whole degrees of freedom is above x."""
    half = x / 2
    if half <= 0:
        return 1.0
    above = math.erfc(math.sqrt(half)) if df % 2 else math.exp(-half)
    # Each two degrees add a term: DLMF 8.8.2.
    terms = (math.exp((k / 2) * math.log(half) - half - math.lgamma(k / 2 + 1)) for k in range(2 - df % 2, df, 2))
    return above + sum(terms)


def stdtrit(df: float, q: float) -> float:
    """Give the quantile of Student's t distribution."""
    # t^2 / (df + t^2), and what it lacks of 1: whichever is the smaller has all its digits.
    square, rest = float(betaincinv(0.5, df / 2, abs(2 * q - 1))), float(betaincinv(df / 2, 0.5, 2 * min(q, 1 - q)))
    odds = square / (1 - square) if square < 0.5 else (1 - rest) / rest if rest else math.inf
    return math.copysign(math.sqrt(df * odds), q - 0.5)


def xlogy(x: Given, y: Given) -> Any:
    """Give x log(y), and 0 where x is 0."""
    with np.errstate(divide="ignore"):
        return np.multiply(x, np.log(np.where(np.equal(x, 0), 1.0, y)))


def root(function: Callable[[float], float], low: float, high: float, precision: float) -> float:
    """Find where a function crosses 0 between two points, by the Illinois method (Dowell and Jarratt 1971)."""
    start, end = function(low), function(high)
    if start * end > 0:
        raise ValueError(f"the function has one sign, {start:g} and {end:g}, at {low:g} and {high:g}")
    # A secant that keeps the root between its ends; the end that stays twice counts half.
    moved = 0
    while start and end and high - low > precision:
        middle = (low * end - high * start) / (end - start)
        value = function(middle)
        if not low < middle < high:
            return middle
        if (value > 0) is (end > 0) and value:
            high, end, start, moved = middle, value, start / 2 if moved == 1 else start, 1
        elif value:
            low, start, end, moved = middle, value, end / 2 if moved == -1 else end, -1
        else:
            return middle
    return low if not start else high if not end else (low + high) / 2


def _normal_guess(q: Any) -> Any:
    """Give a normal quantile to three digits (Abramowitz and Stegun 26.2.23), q at most a half."""
    t = np.sqrt(-2 * np.log(np.maximum(q, 1e-300)))
    above = 2.515517 + t * (0.802853 + t * 0.010328)
    return above / (1 + t * (1.432788 + t * (0.189269 + t * 0.001308))) - t


def _series(z: Any) -> Any:
    inverse, total = 1 / z, 0.0
    for coefficient in reversed(_STIRLING):
        total = total * inverse * inverse + coefficient
    return total * inverse


def _error(z: Numbers) -> Any:
    """Give what Stirling's formula lacks of log Gamma(z + 1); from large z without cancellation."""
    large = np.maximum(z, _SERIES_FROM)
    small = np.minimum(z, _SERIES_FROM)
    formula = (small + 0.5) * np.log(small) - small + 0.5 * math.log(2 * math.pi)
    return np.where(z >= _SERIES_FROM, _series(large), gammaln(small + 1) - formula)


def _deviance(x: Numbers, mean: Numbers) -> Any:
    """Give x log(x / mean) + mean - x, also where the two are nearly equal (Loader 2000)."""
    e = (x - mean) / mean
    total = np.zeros_like(e)
    near = np.where(np.abs(e) < _SMALL, e, 0.0)
    for coefficient in reversed(_DEVIANCE):
        total = total * near + coefficient
    return np.where(np.abs(e) < _SMALL, mean * near * near * total, x * np.log(x / mean) + mean - x)


def _share(a: Numbers, b: Numbers, x: Numbers, rest: Numbers, height: Numbers) -> Any:
    """Give the share of Beta(a, b) below x, which is 1 - rest; both are given, as one of them may be tiny."""
    # The fraction converges fast below the mean; above it, the other tail is taken from 1.
    above = x > (a + 1) / (a + b + 2)
    a, b, x, rest = (np.where(above, *pair) for pair in ((b, a), (a, b), (rest, x), (x, rest)))
    if np.minimum(a, b).min(initial=np.inf) > _MANY:
        tail = _integral(a, b, x, rest, height)
    else:
        tail = _density(a, b, x, rest, height) / (a * _fraction(a, b, x))
    tail = np.where(x <= 0, 0.0, tail)
    return np.where(above, 1 - tail, tail)


def _height(a: Numbers, b: Numbers) -> Any:
    """Give the density of the log odds at their mode."""
    n = a + b
    return np.sqrt(a * b / (2 * math.pi * n)) * np.exp(_error(n) - _error(a) - _error(b))


def _density(a: Numbers, b: Numbers, x: Numbers, rest: Numbers, height: Numbers) -> Any:
    """Give x^a (1 - x)^b / B(a, b), the density of the log odds."""
    n = a + b
    return height * np.exp(-_deviance(a, n * x) - _deviance(b, n * rest))


def _integral(a: Numbers, b: Numbers, x: Numbers, rest: Numbers, height: Numbers) -> Any:
    """Integrate the density of the log odds below x, where it is nearly normal and the fraction would be long."""
    width, odds = np.sqrt(1 / a + 1 / b), np.log(x / rest)
    off = (np.log(a / b) - odds) / width
    # From there on nothing is left that a float would show.
    reach = width * (np.sqrt(off * off + 90) - off)
    total = np.zeros_like(x)
    for node, weight in _nodes():
        there = odds - reach * node
        total = total + weight * _density(a, b, expit(there), expit(-there), height)
    return reach * total


@cache
def _nodes() -> list[tuple[float, float]]:
    """Give the nodes and weights of Gauss and Legendre between 0 and 1."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    return list(zip(((nodes + 1) / 2).tolist(), (weights / 2).tolist(), strict=True))


def _fraction(a: Numbers, b: Numbers, x: Numbers) -> Any:
    """Give 1 + d1 / (1 + d2 / (1 + ...)), from its end, with twice the terms that the hardest case needs."""
    terms = int(60 + 2 * math.sqrt(float(np.minimum(a, b).max(initial=0.0))))
    if x.size <= _FEW:
        each = zip(a.ravel().tolist(), b.ravel().tolist(), x.ravel().tolist(), strict=True)
        with suppress(ZeroDivisionError):  # where a shape is all but 0; arrays go on
            return np.array([_backward(*given, terms) for given in each]).reshape(x.shape)
    return _backward(a, b, x, terms)


def _backward(a: Any, b: Any, x: Any, terms: int) -> Any:
    value: Any = 1.0
    for m in range(terms, 0, -1):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m - 1) * (a + b + m - 1) * x / ((a + 2 * m - 2) * (a + 2 * m - 1))
        value = 1 + odd / (1 + even / value)
    return value
