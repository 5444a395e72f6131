"""Integrals for the coin-flip view: how probable counts of groups are where their probabilities come from one Beta.

Densities are integrated over log odds and over the inverse hyperbolic sine of the spread, in which none has an edge.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .special import betaincinv, expit, log_expit

Numbers: TypeAlias = NDArray[np.float64]
Function: TypeAlias = Callable[[Numbers], Numbers]
Prior: TypeAlias = tuple[float, float]
Tails: TypeAlias = tuple[float, float, float]

# Integrals leave out where the integrand is below exp(-30) = 1e-13 of its largest value.
DROP = 30.0
# Nodes of a search for such a place, and of an integral over one variable.
_SEARCH, FINE = 16, 2048
# The first factors of a rising factorial are multiplied; with the others Stirling's series is exact to 1e-10.
_FACTORS = 8


class _Tally:
    """Counts of many groups, for the sum of log(y (y + d) ... (y + (k - 1) d)) over them.

    As a difference of log gammas it would lose every digit where d is small; as a sum over the factors it would be
    slow. So the first factors of all groups are taken together, and for the others Stirling's series, at y / d of 8 or
    more, is written such that nothing large cancels.
    """

    def __init__(self, counts: NDArray[np.int64]) -> None:
        self.first = [int(np.count_nonzero(counts > j)) for j in range(_FACTORS)]
        rest, weights = np.unique(counts[counts > _FACTORS] - _FACTORS, return_counts=True)
        self.rest, self.weights = rest.astype(np.float64), weights.astype(np.float64)

    def log_rising(self, y: Numbers, log_y: Numbers, d: Numbers) -> Numbers:
        total = self.first[0] * log_y
        for j in range(1, _FACTORS):
            if self.first[j]:
                total = total + self.first[j] * np.log(y + j * d)
        if len(self.rest):
            start = y + _FACTORS * d
            total = total + self.weights @ self.rest * (np.log(start) - 1) - self.weights.sum() * _stirling(start / d)
            shape = np.broadcast_shapes(y.shape, d.shape)
            # A few counts at a time, so that memory stays small.
            block = max(1, 1_000_000 // max(1, math.prod(shape)))
            start, d = np.broadcast_to(start, shape)[..., None], np.broadcast_to(d, shape)[..., None]
            for first in range(0, len(self.rest), block):
                rest = self.rest[first : first + block]
                z = start / d + rest
                terms = (z - 0.5) * np.log1p(rest * d / start) + _stirling(z)
                total = total + terms @ self.weights[first : first + block]
        return total


class Counts:
    """The flips of all groups, and how probable they are where the groups' probabilities are Beta."""

    def __init__(self, negative: NDArray[np.int64], positive: NDArray[np.int64]) -> None:
        """Take the negative and the positive flips of each group, shape (groups,)."""
        self.negative, self.positive, self.all = _Tally(negative), _Tally(positive), _Tally(negative + positive)
        self.different = len(self.negative.rest) + len(self.positive.rest)

    def log_likelihood(self, x: Numbers, d: Numbers) -> Numbers:
        """Give the beta-binomial one for Beta(mu / d, (1 - mu) / d), mu with log odds x; without the binomials."""
        negative = self.negative.log_rising(expit(x), log_expit(x), d)
        positive = self.positive.log_rising(expit(-x), log_expit(-x), d)
        return negative + positive - self.all.log_rising(np.ones(1), np.zeros(1), d)


@dataclass(frozen=True)
class Model:
    """Densities of the hierarchical model, up to constants that cancel; a row for each spread, a column for each mean.

    The mean is integrated over its log odds x, where d mu = mu (1 - mu) dx, because no density has an edge there. The
    spread is integrated over t, where s = unit sinh(t): many flips in few groups leave s with a narrow peak at 0 and a
    tail that falls as slowly as 1 / s, so that no one distance of nodes suits both.
    """

    counts: Counts
    prior: Prior
    scale: float
    unit: float

    def log_null(self, t: Numbers, x: Numbers | None = None) -> Numbers:
        """Give the density of spread and flips where the mean has log odds x, by default 0, which is 1/2."""
        s = self.unit * np.sinh(t)
        # The floors keep d from 0 and from infinity.
        d = np.maximum(4 * s**2, 1e-30) / np.maximum(1 - 4 * s**2, 1e-15)
        log_prior = np.log(np.cosh(t)) - (s / self.scale) ** 2 / 2
        return self.counts.log_likelihood(np.zeros(1) if x is None else x, d) + log_prior

    def log_joint(self, x: Numbers, t: Numbers) -> Numbers:
        """Give the density of mean, spread and flips."""
        return self.log_null(t, x) + _log_beta(x, *self.prior)

    def nodes(self, t: Numbers, count: int) -> tuple[Numbers, Numbers]:
        """Give nodes of x for each row, and their distance; each row has its own, as the precision goes with s."""
        reach = np.full_like(t, _reach(*self.prior))
        return nodes(*zoom(lambda x: self.log_joint(x, t), -reach, reach), count)

    def log_marginal(self, t: Numbers) -> Numbers:
        """Give the density of spread and flips with the mean integrated out."""
        x, width = self.nodes(t.T, _SEARCH)
        return log_sum(self.log_joint(x, t.T) + np.log(width)).T


def upper_half(a: float, b: float, tails: Tails) -> tuple[float, list[float]]:
    """Integrate theta^(a - 1) (1 - theta)^(b - 1) above 1/2: the logarithm, and quantiles of that distribution.

    By quadrature, because the incomplete beta function underflows where the data lie far on the other side.
    """
    bounds = np.zeros((1, 1)), np.full((1, 1), _reach(a, b))
    x, width = nodes(*zoom(lambda x: _log_beta(x, a, b), *bounds), FINE)
    values = _log_beta(x, a, b)
    logarithm = float(log_sum(values)[0, 0] + np.log(width[0, 0]))
    mass = np.exp(values - values.max())
    return logarithm, [float(expit(odds)) for odds in row_quantiles(x, width, mass / mass.sum(), tails)]


def beta_quantiles(a: float, b: float, tails: Tails) -> list[float]:
    """Give quantiles of Beta(a, b)."""
    return [float(betaincinv(a, b, tail)) for tail in tails]


def _log_beta(x: Numbers, a: float, b: float) -> Numbers:
    return -a * np.logaddexp(0, -x) - b * np.logaddexp(0, x)


def _stirling(z: Numbers) -> Numbers:
    """What log gamma(z) has beyond (z - 1/2) log z - z + log(2 pi) / 2; to 1e-10 from z = 8 up."""
    inverse = 1 / z
    square = inverse**2
    return inverse * (1 / 12 - square * (1 / 360 - square * (1 / 1260 - square / 1680)))


# Quadrature ----------------------------------------------------------------------------------------------------------


def zoom(log_density: Function, low: Numbers, high: Numbers) -> tuple[Numbers, Numbers]:
    """Narrow intervals, one a row, to where a density with one peak is more than exp(-DROP) of its peak."""
    while True:
        step = (high - low) / _SEARCH
        values = log_density(low + step * (np.arange(_SEARCH) + 0.5))
        kept = values > values.max(axis=1, keepdims=True) - DROP
        first = kept.argmax(axis=1)[:, None]
        last = _SEARCH - 1 - kept[:, ::-1].argmax(axis=1)[:, None]
        # To the next node on either side: the peak may lie between two nodes.
        low, high = (
            np.where(first > 0, low + step * (first - 0.5), low),
            np.where(last < _SEARCH - 1, low + step * (last + 1.5), high),
        )
        if (last - first >= _SEARCH // 2).all():
            return low, high


def nodes(low: Numbers, high: Numbers, count: int) -> tuple[Numbers, Numbers]:
    """Give the nodes of the midpoint rule, a row for each interval, and their distance.

    It converges faster than any power where a smooth density vanishes at both ends, or has no slope there.
    """
    width = (high - low) / count
    return low + width * (np.arange(count) + 0.5), width


def row_quantiles(x: Numbers, width: Numbers, mass: Numbers, tails: Tails) -> list[float]:
    """Give quantiles of the sum of rows of midpoint masses; the error goes with the fourth power of the width."""
    wider = np.pad(mass, ((0, 0), (1, 1)), mode="edge")
    before, after = wider[:, :-2], wider[:, 2:]
    start = np.cumsum(mass, axis=1) - mass + (mass - before) / 24
    whole = mass + (after - 2 * mass + before) / 24
    slope = (after - before) / 2
    row = np.arange(len(mass))[:, None]

    def below(value: float) -> float:
        place = (value - x[:, :1]) / width + 0.5
        column = np.clip(np.floor(place), 0, mass.shape[1] - 1).astype(np.int64)
        part = np.clip(place - column, 0, 1)
        start_, whole_, slope_ = start[row, column], whole[row, column], slope[row, column]
        return float((start_ + part * whole_ + slope_ * (part**2 - part) / 2).sum())

    return quantiles(below, float((x - width).min()), float((x + width).max()), tails)


def quantiles(below: Callable[[float], float], low: float, high: float, tails: Tails) -> list[float]:
    """Find where a rising function from 0 to 1 reaches each tail, by bisection between two bounds."""
    places = []
    for tail in tails:
        left, right = low, high
        for _ in range(50):
            middle = (left + right) / 2
            left, right = (middle, right) if below(middle) < tail else (left, middle)
        places.append((left + right) / 2)
    return places


def log_sum(values: Numbers) -> Numbers:
    """Sum each row, given and returning logarithms."""
    peak = values.max(axis=1, keepdims=True)
    return np.asarray(peak + np.log(np.exp(values - peak).sum(axis=1, keepdims=True)))


def _reach(a: float, b: float) -> float:
    """Give log odds beyond which no such density has anything left: the peak, and how far the slowest tail goes."""
    return 40 + abs(math.log(a / b)) + DROP / min(1, a, b)
