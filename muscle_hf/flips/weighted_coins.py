"""Sums of coins of different weights: the paired test where answers come in clusters.

Under a neutral update the flips of a cluster, positive minus negative, are a fair coin that is worth as much as their
number: either sign is equally likely, whatever goes on inside the cluster. Clusters of one answer make this the exact
binomial test. Chances are worked out by a Fourier transform of the sum, tilted so that what was found lies in its
middle (Esscher 1932), and so keep their digits however small they are.
"""

import math
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from .intervals import Interval, clopper_pearson, normal_quantile
from .paired_tests import coin_test, doubled_ranks, p_value, signed_rank_test
from .special import bdtr, root

# Chances below e^-35 are nothing beside those that are added up.
_NEGLIGIBLE = 35
# So many numbers are added up for one chance; above, weights are rounded to a grid of so many places, about a
# five-hundredth of the standard deviation of the sum.
_MOST_TERMS, _GRID = 1 << 20, 1 << 13
# So near, as a part of it, chances come to that of a bound.
_PRECISION = 1e-9
# Up to this sum its chances are worked out one after the other, which is faster then.
_SHORT = 500
# So many steps lead to a tilt, most often four or five.
_STEPS = 100


@dataclass(frozen=True, eq=False)
class Coins:
    """Clusters as coins; made by `of`."""

    weights: NDArray[np.int64]
    """The distinct weights, rising: how far apart the two kinds of flips are in a cluster."""
    counts: NDArray[np.int64]
    """How many clusters have each of them."""
    negative: int
    """Sum of the weights of those with more negative flips."""
    positive: int
    """The same of positive ones."""
    _known: dict[float, Interval] = field(default_factory=dict, repr=False)
    """Level -> `positive_chance`, which takes long to find."""

    @classmethod
    def of(cls, totals: NDArray[np.int64]) -> Self:
        """Make coins of what each cluster has in sum, positive minus negative; those that have 0 say nothing."""
        totals = totals[totals != 0]
        coins = cls._of(totals)
        places = 2 * _reach(coins._variance(np.full(len(coins.weights), 0.5)), coins.weights.max(initial=0)) + 1
        if len(coins.weights) * min(places, coins.negative + coins.positive) <= 2 * _MOST_TERMS:
            return coins
        # Rounded with its sign, so that the observed sum is one of the rounded ones.
        rounded = np.rint(totals / (places / _GRID)).astype(np.int64)
        return cls._of(rounded[rounded != 0])

    @classmethod
    def _of(cls, totals: NDArray[np.int64]) -> Self:
        weights, counts = np.unique(np.abs(totals), return_counts=True)
        return cls(weights, counts, int(-totals[totals < 0].sum()), int(totals[totals > 0].sum()))

    @property
    def whole(self) -> int:
        """The sum of all weights."""
        return self.negative + self.positive

    def test(self, test: str = "two-sided") -> float:
        """Give the p-value of a paired test by its name."""
        if len(self.weights) == 1:
            weight = int(self.weights[0])
            return coin_test(self.negative // weight, self.positive // weight, test)
        return p_value(test, self.negative, self.positive, self.tail)

    def tail(self, least: int, chance: float = 0.5) -> float:
        """Give the chance that the coins that fall one way weigh as much as `least` or more.

        Each falls so with a chance of its own, whatever the others do.
        """
        if least <= 0:
            return 1.0
        if least > self.whole:
            return 0.0
        if len(self.weights) == 1:
            count, needed = int(self.counts[0]), -(-least // int(self.weights[0]))
            return float(bdtr(count - needed, count, 1 - chance))
        if least == self.whole:
            return float(chance ** int(self.counts.sum()))
        if self.whole <= _SHORT:
            return float(self._chances(chance)[least:].sum())
        if least <= chance * self.whole:
            return 1 - self.tail(self.whole - least + 1, 1 - chance)
        tilt = self._tilt(least, chance)
        # Summed from the tilted chances of `least` and more, which are tilted back.
        logs = np.logaddexp(math.log1p(-chance), math.log(chance) + tilt * self.weights)
        chances = self._around(least, self._tilted(tilt, chance))
        steps = np.exp(-tilt * np.arange(len(chances)))
        return min(1.0, math.exp(float(self.counts @ logs) - tilt * least) * float(np.maximum(chances, 0.0) @ steps))

    def _chances(self, chance: float) -> NDArray[np.float64]:
        """Give the chance of each sum, weight after weight."""
        chances, odds = np.ones(1), math.log(chance) - math.log1p(-chance)
        for weight, count in zip(self.weights.tolist(), self.counts.tolist(), strict=True):
            place = np.arange(1, count + 1)
            logs = np.concatenate([[0.0], np.cumsum(np.log((count + 1 - place) / place) + odds)])
            coins = np.zeros(weight * count + 1)
            coins[::weight] = np.exp(logs + count * math.log1p(-chance))
            chances = np.convolve(chances, coins)
        return chances

    def positive_chance(self, level: float) -> Interval:
        """Bound the chance that a cluster repairs more than it breaks, by those that the exact test does not reject.

        With clusters of one answer this is the interval of Clopper and Pearson (1934).
        """
        if len(self.weights) <= 1:
            weight = int(self.weights[0]) if len(self.weights) else 1
            return clopper_pearson(self.positive // weight, self.whole // weight, level)
        alpha = 0.5 - level / 2
        if level not in self._known:
            self._known[level] = self._least(self.positive, alpha), 1 - self._least(self.negative, alpha)
        return self._known[level]

    def _least(self, found: int, alpha: float) -> float:
        """Find the chance below which what was found, or more, would be as rare as alpha."""
        if not found:
            return 0.0
        if found == self.whole:
            return float(alpha ** (1 / self.counts.sum()))

        def excess(logit: float) -> float:
            off = math.log(max(self.tail(found, 1 / (1 + math.exp(-logit))), 1e-300)) - math.log(alpha)
            return off if abs(off) > _PRECISION else 0.0

        share = found / self.whole
        # So far by the normal distribution, and then on.
        error = math.sqrt(self._variance(np.full(len(self.weights), share))) / self.whole / (share * (1 - share))
        inside, step = math.log(share / (1 - share)), normal_quantile(1 - 2 * alpha) * error
        low, high = inside - step, inside
        while excess(low) > 0:
            low, high = low - step, low
        # Of one coin that outweighs the others even the share that was found may be rejected.
        while excess(high) < 0:
            low, high = high, high + step
        least = 1 / (1 + math.exp(-root(excess, low, high, 1e-7)))
        # On the side of 1/2 that the test says, however near it is.
        return max(least, math.nextafter(0.5, 1)) if self.tail(found) < alpha else min(least, 0.5)

    def _tilted(self, tilt: float, chance: float) -> NDArray[np.float64]:
        """Give the chance of each weight under a tilt that favours large ones."""
        logits = math.log(chance / (1 - chance)) + tilt * self.weights
        shares: NDArray[np.float64] = 0.5 + 0.5 * np.tanh(logits / 2)
        return shares

    def _tilt(self, least: int, chance: float) -> float:
        """Find a tilt under which the mean of the sum is near `least`, which is above it without one."""
        worth, tilt, low, high = self.weights * self.counts, 0.0, 0.0, math.inf
        for _ in range(_STEPS):
            shares = self._tilted(tilt, chance)
            off, variance = least - float(worth @ shares), self._variance(shares)
            # Chances come out the same under any tilt; it only must not leave `least` far from the middle.
            if abs(off) <= 0.1 * math.sqrt(variance):
                break
            low, high = (tilt, high) if off > 0 else (low, tilt)
            step = tilt + off / variance if variance else math.inf
            ends = (2 * low + 1 / float(self.weights.max())) if math.isinf(high) else (low + high) / 2
            tilt = step if low < step < min(high, 4 * ends) else ends
        return tilt

    def _variance(self, shares: NDArray[np.float64]) -> float:
        return float((self.weights.astype(np.float64) ** 2 * self.counts) @ (shares * (1 - shares)))

    def _around(self, least: int, shares: NDArray[np.float64]) -> NDArray[np.float64]:
        """Give the chances of `least`, `least` + 1 and so on, as far as there are any, given each weight's chance."""
        reach = _reach(self._variance(shares), int(self.weights.max()))
        size = 1 << math.ceil(math.log2(min(2 * reach, self.whole) + 2))
        angles = np.arange(size // 2 + 1) * (2 * math.pi / size)
        logs = np.zeros(len(angles), dtype=np.complex128)
        for weight, count, share in zip(self.weights.tolist(), self.counts.tolist(), shares.tolist(), strict=True):
            logs += count * np.log(1 - share + share * np.exp(-1j * (weight * angles)))
        # Place 0 is `least`; what is smaller comes from the end.
        chances = np.fft.irfft(np.exp(logs + 1j * (least * angles)), size)
        return chances[: min(self.whole - least, size // 2 if size <= self.whole else size) + 1]


def clustered_signed_rank_test(
    changes: NDArray[np.float64], clusters: NDArray[np.int64], test: str = "two-sided"
) -> float:
    """Test whether rises and falls balance where changes come in clusters; changes of 0 must be left out."""
    _, numbers, sizes = np.unique(clusters, return_inverse=True, return_counts=True)
    if sizes.max(initial=1) == 1:
        return signed_rank_test(changes, test)
    totals = np.bincount(numbers.reshape(-1), weights=np.sign(changes) * doubled_ranks(changes))
    return Coins.of(np.rint(totals).astype(np.int64)).test(test)


def _reach(variance: float, largest: int) -> int:
    """Say how far a sum may be from its mean before its chances are negligible (Bernstein's inequality)."""
    slack = _NEGLIGIBLE * largest / 3
    return math.ceil(slack + math.sqrt(slack**2 + 2 * _NEGLIGIBLE * variance))
