"""An interval of the mean of rates of classes of very different sizes: the bootstrap within classes, tilted.

Drawn again from its own rows, a class without a flip never has one, and one of three rows has none or all in most
draws: such an interval is far too short (`benchmarks/classes.py` measures it). So classes are drawn with rates that
are smoothed a little towards their mean, and these are tilted: a bound is the mean of the rates under which what was
found would be as extreme as the level says. They are moved along the family that moves a class the more the fewer rows
it has, since there the data say least. Where there is one class, this is the mid-p form of the exact interval.

What the draws would give is not drawn but worked out by a saddlepoint, so there is no seed and no noise.

Papers: Efron (1981, Canadian Journal of Statistics 9) for tilting; DiCiccio and Romano (1990, International
Statistical Review 58) for the family; Davison and Hinkley (1988, Biometrika 75) for saddlepoints in place of draws;
Lugannani and Rice (1980, Advances in Applied Probability 12) and Barndorff-Nielsen (1986, Biometrika 73) for the tail.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .intervals import Interval, Numbers, normal_quantile
from .special import expit, root

# Rows at the mean rate that each class is given beside its own.
_SMOOTHING = 3.0
# Doublings of a step in search of a bound, and how close to the estimate one is looked for.
_DOUBLINGS, _CLOSEST = 200, 1e-7


def mean_of_rates(counts: Numbers, sizes: Numbers, level: float, *, cautious: bool = False) -> Interval:
    """Bound the mean over classes of (true rate of the class), each class counting the same.

    Args:
        counts: What was counted in each class, shape (classes,); fractions too, for effective numbers of rows.
        sizes: Rows of each class, above 0.
        level: Level of the interval.
        cautious: Take what was found for half a flip more, or less, as verdicts need: what is counted comes in steps.

    Returns:
        The lower and the upper bound.
    """
    pairs, times = np.unique(np.stack([counts, sizes]), axis=1, return_counts=True)
    tilted = _Tilted.of(pairs[0], pairs[1], times.astype(np.float64))
    found = float(tilted.times @ (tilted.pull * pairs[0]))
    most = float(tilted.times @ (tilted.pull * pairs[1]))
    step = tilted.step(found / most) / 2 if cautious else 0.0
    estimate = float(times @ (pairs[0] / pairs[1])) / float(times.sum())
    tail = (1 - level) / 2
    # Half of the chance of just what was found, unless it shall be cautious.
    alone = -math.log(tail if cautious else 2 * tail)
    if found <= 0:
        high = tilted.mean(tilted.reach(lambda t: tilted.log_normalizer(t) - alone))
    else:
        high = tilted.bound(found + step, most, -normal_quantile(level))
    if found >= most:
        low = 1 - tilted.mirrored().mean(
            tilted.mirrored().reach(lambda t: tilted.mirrored().log_normalizer(t) - alone)
        )
    else:
        low = tilted.bound(found - step, most, normal_quantile(level))
    # With few rows what is worked out is not exact enough for the one to hold the other by itself.
    within = mean_of_rates(counts, sizes, level) if cautious else (estimate, estimate)
    return min(low, within[0]), max(high, within[1])


@dataclass(frozen=True)
class _Tilted:
    """Rates of kinds of classes, as a function of how far they are tilted."""

    log_odds: Numbers
    sizes: Numbers
    times: Numbers
    """How many classes are of the kind."""
    pull: Numbers
    """By how much the log odds of each move with a tilt of 1; 1 for the smallest class."""

    @classmethod
    def of(cls, counts: Numbers, sizes: Numbers, times: Numbers) -> "_Tilted":
        """Smooth the rates towards their mean."""
        mean = (float(times @ (counts / sizes)) + 0.5) / (float(times.sum()) + 1)
        flips, others = counts + _SMOOTHING * mean, sizes - counts + _SMOOTHING * (1 - mean)
        return cls(np.log(flips / others), sizes, times, float(sizes.min()) / sizes)

    def mirrored(self) -> "_Tilted":
        """Count what does not flip."""
        return _Tilted(-self.log_odds, self.sizes, self.times, self.pull)

    def rates(self, t: float) -> Numbers:
        """Give the rate of each kind."""
        rates: Numbers = expit(self.log_odds + t * self.pull)
        return rates

    def mean(self, t: float) -> float:
        """Give the mean of the rates over classes."""
        return float(self.times @ self.rates(t)) / float(self.times.sum())

    def log_normalizer(self, t: float) -> float:
        """Give the cumulant generating function of what is found, but for a constant: -log P(no flip at all)."""
        return float((self.times * self.sizes) @ np.logaddexp(0.0, self.log_odds + t * self.pull))

    def variance(self, t: float) -> float:
        """Give the variance of what is found."""
        rates = self.rates(t)
        return float((self.times * self.sizes * self.pull**2) @ (rates * (1 - rates)))

    def step(self, share: float) -> float:
        """Say what one flip adds to what is found: the third cumulant of rare flips over the second."""
        if not 0 < share < 1:
            return 0.0
        rates = self.rates(self.reach(lambda t: self.mean(t) - share))
        weight = self.times * self.sizes * self.pull**2 * rates * (1 - rates)
        return float(weight @ self.pull) / float(weight.sum())

    def reach(self, rising: Callable[[float], float]) -> float:
        """Find where a rising function of the tilt is 0."""
        low, high = -1.0, 1.0
        for _ in range(_DOUBLINGS):
            if rising(low) <= 0 <= rising(high):
                break
            low, high = 2 * low, 2 * high
        return root(rising, low, high, 1e-10 * (high - low))

    def bound(self, found: float, most: float, quantile: float) -> float:
        """Give the mean rate under which what was found is a quantile of the normal distribution off; +: too much."""
        if not 0 < found < most:
            return float(found >= most)
        share = found / most
        middle = self.reach(lambda t: self.mean(t) - share)
        center, error = self.log_normalizer(middle), math.sqrt(self.variance(middle))

        def off(gap: float) -> float:
            """Give how far what was found is above what a tilt by so much less expects, in normal quantiles."""
            square = 2 * (gap * found - center + self.log_normalizer(middle - gap))
            size = math.sqrt(max(square, 1e-30))
            r = math.copysign(size, gap)
            return r + math.log(abs(gap) * error / size) / r

        # Away from the middle, where the expression is 0 / 0.
        near, sign = 1 / error, math.copysign(1.0, quantile)
        while sign * (off(sign * near) - quantile) > 0:
            near /= 2
            if near * error < _CLOSEST:
                return share
        far = 2 * near
        for _ in range(_DOUBLINGS):
            if sign * (off(sign * far) - quantile) >= 0:
                break
            near, far = far, 2 * far
        gap = root(lambda gap: off(sign * gap) - quantile, near, far, 1e-10 * far)
        return self.mean(middle - sign * gap)
