"""The coin-flip view of a model update: is a flip more often negative than positive, and how strong is the evidence?

Under a neutral update every flip (an instance whose correctness changed) is negative with probability 1/2. What is
reported is the posterior of that probability, and the Bayes factor of "it may differ from 1/2" against "it is 1/2":
above 1 the data speak against a neutral update, below 1 for it, which a p-value cannot say.

`coin_flips` takes all flips for alike. Where they come in groups (tasks, slices, seeds) that differ, this overstates
the evidence, and `grouped_coin_flips` is the one to use. The paper's own data show by how much: 178,079 of 350,757
coins landed on the side they started from: a Bayes factor of 1.8e17 if all people toss alike, and of 2359 as
published, where people may differ. For heads, where nobody differs much, it is 0.168 against the published 0.182. And
the published interval of the first, 0.506 to 0.509, is what pooling gives; by person it is 0.505 to 0.515.
`examples/coin_flips.py` works these out.

Paper: Bartoš et al., "Fair coins tend to land on the same side they started", arXiv 2310.04153.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .beta_binomial import (
    DROP,
    Counts,
    Model,
    Prior,
    Tails,
    beta_quantiles,
    log_sum,
    nodes,
    quantiles,
    row_quantiles,
    upper_half,
    zoom,
)
from .inputs import check_level, is_number
from .special import betaln, expit

__all__ = ["CoinFlips", "GroupedCoinFlips", "coin_flips", "grouped_coin_flips"]

_ALTERNATIVES = {"two-sided": "", "greater": " above 1/2", "less": " below 1/2"}
# Weaker priors put all their weight at 0 and 1, and stronger ones hear nothing of the data; both break the integrals.
_WEAKEST, _STRONGEST = 0.05, 1e9
# No counts can show a smaller spread.
_NARROWEST = 1e-9
# Up to here rounding moves a logarithm of a Bayes factor by less than 0.01.
_LARGEST_COUNT = 10**12
# Nodes over the spread and over the mean; fewer where there are many different counts, each of which costs time at
# every node, because with so many groups the posterior is nearly normal and easy to integrate.
_NODES, _FEWER_NODES, _MANY = (128, 96), (48, 64), 500


class _Evidence:
    """What both results share: a Bayes factor, and the counts it comes from."""

    negative: int
    positive: int
    log_bayes_factor: float

    @property
    def n(self) -> int:
        """How many flips there are."""
        return self.negative + self.positive

    @property
    def bayes_factor(self) -> float:
        """How many times as probable the flips are under the alternative as under 1/2; inf where it overflows."""
        return math.exp(self.log_bayes_factor) if self.log_bayes_factor < 709 else math.inf

    def _numbers(self, *names: str) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in names}
        return values | {"log10_bayes_factor": self.log_bayes_factor / math.log(10)}


@dataclass(frozen=True)
class CoinFlips(_Evidence):
    """The posterior of the probability that a flip is negative, and a Bayes factor; made by `coin_flips`."""

    negative: int
    """Flips from right to wrong."""
    positive: int
    """Flips from wrong to right."""
    prior: tuple[float, float]
    """Beta(a, b) on the probability that a flip is negative, under the alternative."""
    alternative: str
    """One of "two-sided", "greater" (the prior is cut off below 1/2) and "less" (above it)."""
    level: float
    """Level of the credible interval."""
    median: float
    """Posterior median; cut off as the prior is."""
    low: float
    """Lower end of the equal-tailed credible interval."""
    high: float
    """Upper end of it."""
    log_bayes_factor: float
    """Natural logarithm of the Bayes factor of the alternative against exactly 1/2."""

    @property
    def prior_text(self) -> str:
        """The prior in words, such as "Beta(5100, 4900) above 1/2"."""
        return _beta_text(self.prior) + _ALTERNATIVES[self.alternative]

    def to_dict(self) -> dict[str, Any]:
        """Give everything as a dictionary of plain Python values.

        Returns:
            `negative, positive, n, prior` (in words), `alternative, level, median, low, high, log10_bayes_factor`;
            the logarithm because the factor itself overflows.
        """
        head = {"negative": self.negative, "positive": self.positive, "n": self.n, "prior": self.prior_text}
        return head | self._numbers("alternative", "level", "median", "low", "high")


@dataclass(frozen=True)
class GroupedCoinFlips(_Evidence):
    """The posterior of the mean and the spread over groups, and a Bayes factor; made by `grouped_coin_flips`."""

    groups: int
    """Groups with at least one flip; those without carry no information and are left out."""
    negative: int
    """Flips from right to wrong, over all groups."""
    positive: int
    """Flips from wrong to right, over all groups."""
    prior: tuple[float, float]
    """Beta(a, b) on the mean over groups of the probability that a flip is negative."""
    spread_scale: float
    """Scale of the half-normal prior on the spread, as it would be at a mean of 1/2."""
    level: float
    """Level of the credible intervals."""
    median: float
    """Posterior median of the mean over groups."""
    low: float
    """Lower end of its equal-tailed credible interval."""
    high: float
    """Upper end of it."""
    spread: float
    """Posterior median of the standard deviation between the probabilities of groups."""
    spread_low: float
    """Lower end of its equal-tailed credible interval; never 0, because the prior gives no weight to exactly 0."""
    spread_high: float
    """Upper end of it."""
    log_bayes_factor: float
    """Natural logarithm of the Bayes factor of a free mean against a mean of 1/2, both with the spread free."""

    @property
    def prior_text(self) -> str:
        """The priors in words: of the groups, of their mean, and of their spread as it would be at a mean of 1/2."""
        spread = f"spread at mean 1/2 half-normal({self.spread_scale:.10g}) up to 1/2"
        return f"groups Beta, mean {_beta_text(self.prior)}, {spread}"

    def to_dict(self) -> dict[str, Any]:
        """Give everything as a dictionary of plain Python values.

        Returns:
            `groups, negative, positive, n, prior` (in words), `level, median, low, high, spread, spread_low,
            spread_high, log10_bayes_factor`; the logarithm because the factor itself overflows.
        """
        head = {"groups": self.groups, "negative": self.negative, "positive": self.positive, "n": self.n}
        names = ("level", "median", "low", "high", "spread", "spread_low", "spread_high")
        return head | {"prior": self.prior_text} | self._numbers(*names)


def coin_flips(
    negative: int,
    positive: int,
    *,
    prior: tuple[float, float] = (1.0, 1.0),
    alternative: str = "two-sided",
    level: float = 0.95,
) -> CoinFlips:
    """Weigh flips as tosses of one coin: how probable is it that a flip is negative, and is that 1/2?

    With k negative flips of n and the prior Beta(a, b), the posterior is Beta(a + k, b + n - k) and the Bayes factor
    2^n B(a + k, b + n - k) / B(a, b); for "greater" and "less" prior and posterior are cut off at 1/2 (Bartoš et al.,
    arXiv 2310.04153, who take Beta(5100, 4900) above 1/2).

    Args:
        negative: Flips from right to wrong, an int from 0 up.
        positive: Flips from wrong to right, an int from 0 up.
        prior: The two numbers of the Beta prior under the alternative, each from 0.05 to 1e9. The default is uniform;
            a narrow prior around 1/2 asks for small differences.
        alternative: "two-sided" (default), "greater" (a flip is more often negative) or "less".
        level: Level of the credible interval, between 0 and 1; 0.95 by default.

    Returns:
        Posterior median and interval, and the Bayes factor. Without flips, the prior and a Bayes factor of 1.

    Raises:
        InputError: A count that is no int from 0 up, a prior out of range, an unknown alternative, a wrong level.

    Example:
        >>> from muscle_hf.flips.coin import coin_flips
        >>> c = coin_flips(178_079, 350_757 - 178_079, prior=(5100, 4900), alternative="greater")
        >>> f"{c.median:.3f} ({c.low:.3f} to {c.high:.3f}), Bayes factor {c.bayes_factor:.2g}"
        '0.508 (0.506 to 0.509), Bayes factor 1.8e+17'
    """
    k, m = _check_count("negative", negative), _check_count("positive", positive)
    a, b = checked = _check_prior(prior)
    tails = _tails(level)
    if alternative not in tuple(_ALTERNATIVES):  # not the dictionary, which cannot look for a list
        raise InputError(f"alternative is {alternative!r}, but must be one of {', '.join(map(repr, _ALTERNATIVES))}")
    if alternative == "two-sided":
        # B(a + k, b + m) / B(a, b) is what one group has at the prior's mean; so taken, it keeps its digits.
        counts = Counts(np.array([k]), np.array([m]))
        logarithm = float(counts.log_likelihood(np.array([math.log(a / b)]), np.array([1 / (a + b)]))[0])
        quantiles = beta_quantiles(a + k, b + m, tails)
    elif alternative == "greater":
        logarithm, quantiles = upper_half(a + k, b + m, tails)
        logarithm -= upper_half(a, b, tails)[0]
    else:
        logarithm, mirrored = upper_half(b + m, a + k, tails)
        logarithm -= upper_half(b, a, tails)[0]
        quantiles = [1 - quantile for quantile in reversed(mirrored)]
    low, median, high = quantiles
    logarithm += (k + m) * math.log(2)
    return CoinFlips(k, m, checked, alternative, float(level), median, low, high, logarithm)


def grouped_coin_flips(
    negative: Sequence[int],
    positive: Sequence[int],
    *,
    prior: tuple[float, float] = (1.0, 1.0),
    spread_scale: float = 0.1,
    level: float = 0.95,
) -> GroupedCoinFlips:
    """Weigh flips that come in groups, such as tasks, slices or seeds, which may differ in how often one is negative.

    Model: the probability that a flip of a group is negative is Beta(mu / d, (1 - mu) / d), with mean mu and standard
    deviation 2 s sqrt(mu (1 - mu)), where d = 4 s^2 / (1 - 4 s^2); the counts are then beta-binomial. So s is the
    spread at a mean of 1/2. Priors: mu is Beta(a, b); s is half-normal(spread_scale), cut off at its largest possible
    value, 1/2. The Bayes factor weighs mu free against mu = 1/2, both with s free: spread alone is no evidence.

    Bartoš et al. (arXiv 2310.04153) have log odds that are normal instead, with the prior half-normal(0.04) on their
    standard deviation (0.01 here) for estimates, and one around 0.02 (0.005 here) for Bayes factors.

    Args:
        negative: Flips from right to wrong in each group, ints from 0 up.
        positive: Flips from wrong to right in each group, in the same order.
        prior: The two numbers of the Beta prior on the mean, each from 0.05 to 1e9; uniform by default.
        spread_scale: Scale of the prior on the spread, from 1e-9 up, as a probability: the default of 0.1 says that
            groups at 0.4 and 0.6 are no surprise.
        level: Level of the credible intervals, between 0 and 1; 0.95 by default.

    Returns:
        Median and interval of the mean and of the standard deviation between groups, and the Bayes factor. Groups
        without flips change nothing; without any flips, the priors and a Bayes factor of 1.

    Raises:
        InputError: No groups, unequal lengths, a count that is no int from 0 up, a prior or a scale out of range, a
            wrong level.

    Example:
        >>> from muscle_hf.flips.coin import coin_flips, grouped_coin_flips
        >>> g = grouped_coin_flips([90, 75, 70, 25], [10, 25, 30, 75])  # four tasks, and one differs
        >>> f"{g.median:.2f} ({g.low:.2f} to {g.high:.2f}), spread {g.spread:.2f}, Bayes factor {g.bayes_factor:.2f}"
        '0.64 (0.43 to 0.81), spread 0.18, Bayes factor 0.77'
        >>> f"{coin_flips(260, 140).bayes_factor:.2g}"  # as if they were one task
        '5.2e+06'
    """
    k, m = _check_groups(negative=negative, positive=positive)
    a, b = checked = _check_prior(prior)
    if not is_number(spread_scale) or spread_scale < _NARROWEST:
        raise InputError(
            f"spread_scale is {spread_scale!r}, but must be a number from {_NARROWEST:g} up, such as 0.1 where groups "
            "at 0.4 and 0.6 are no surprise; for no spread at all, give the sums to coin_flips"
        )
    tails, scale = _tails(level), float(spread_scale)
    n, counts = int(k.sum() + m.sum()), Counts(k, m)
    # As small as the spread that so many flips can tell from none; see Model.
    model = Model(counts, checked, scale, unit=min(scale, 0.5 / math.sqrt(n + 1)))
    rows, columns = _NODES if counts.different <= _MANY else _FEWER_NODES
    columns = max(columns, int(DROP / min(1, a, b)))  # a weak prior leaves the mean a long tail

    # Beyond this the prior of s costs more than any data can give: at most a factor of 2 a flip.
    largest = min(0.5, scale * math.sqrt(2 * (n + DROP)))
    bounds = np.zeros((1, 1)), np.full((1, 1), math.asinh(largest / model.unit))
    t, t_width = nodes(*zoom(model.log_marginal, *bounds), rows)
    x, x_width = model.nodes(t.T, columns)
    values = model.log_joint(x, t.T) + np.log(x_width)
    free = float(log_sum(values.reshape(1, -1))[0, 0] + np.log(t_width[0, 0]) - betaln(a, b))
    # With nodes of its own: where the mean must be 1/2, the data may ask for another spread.
    null_t, null_width = nodes(*zoom(model.log_null, *bounds), 2 * rows)
    null = float(log_sum(model.log_null(null_t))[0, 0] + np.log(null_width[0, 0]))

    mass = np.exp(values - values.max())
    mass /= mass.sum()
    low, median, high = (float(expit(odds)) for odds in row_quantiles(x, x_width, mass, tails))
    # The standard deviation 2 s sqrt(mu (1 - mu)) is s / cosh(x / 2). Here the mass of a node lies evenly over its
    # share of s, because the mean may be so much better known than s that its own share is next to nothing.
    least, most = (model.unit * np.sinh(t.T + half) for half in (-t_width / 2, t_width / 2))
    slope, start = np.cosh(x / 2) / (most - least), least / (most - least)
    spreads = quantiles(lambda sd: float((mass * np.clip(sd * slope - start, 0, 1)).sum()), 0.0, 0.5, tails)
    if not n:  # Both are known exactly.
        free = null = 0.0
        low, median, high = beta_quantiles(a, b, tails)
    return GroupedCoinFlips(
        groups=int(np.count_nonzero(k + m)),
        negative=int(k.sum()),
        positive=int(m.sum()),
        prior=checked,
        spread_scale=scale,
        level=float(level),
        median=median,
        low=low,
        high=high,
        spread=spreads[1],
        spread_low=spreads[0],
        spread_high=spreads[2],
        log_bayes_factor=free - null,
    )


# Checks --------------------------------------------------------------------------------------------------------------


def _check_count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not 0 <= value <= _LARGEST_COUNT:
        raise InputError(
            f"{name} is {value!r}, but must be an int from 0 to 10**12: give how many flips there are, such as "
            "len(comparison.negative_flips)"
        )
    return int(value)


def _check_groups(**columns: Sequence[int]) -> list[NDArray[np.int64]]:
    read = {}
    for name, values in columns.items():
        if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
            raise InputError(f"{name} is {values!r}, but must be a list with one count a group; see also coin_flips")
        read[name] = [_check_count(f"{name}[{i}]", value) for i, value in enumerate(values)]
        _check_count(f"the sum of {name}", sum(read[name]))
    lengths = {name: len(values) for name, values in read.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise InputError(f"{shown} groups: both must hold the same groups in the same order, 0 where nothing flipped")
    if not lengths["negative"]:
        raise InputError("there are no groups: give at least one, with 0 and 0 where nothing flipped")
    return [np.array(values, dtype=np.int64) for values in read.values()]


def _check_prior(prior: Any) -> Prior:
    pair = tuple(prior) if isinstance(prior, (tuple, list)) else ()
    if len(pair) != 2 or not all(is_number(value) and _WEAKEST <= value <= _STRONGEST for value in pair):
        raise InputError(
            f"prior is {prior!r}, but must be the two numbers of a Beta distribution, each from {_WEAKEST:g} to "
            f"{_STRONGEST:g}, such as (1, 1) for any probability alike or (5000, 5000) for ones near 1/2"
        )
    return float(pair[0]), float(pair[1])


def _tails(level: Any) -> Tails:
    """Check the level, and give where low end, median and high end lie in the distribution."""
    check_level(level)
    return 0.5 - level / 2, 0.5, 0.5 + level / 2


def _beta_text(prior: Prior) -> str:
    return f"Beta({prior[0]:.10g}, {prior[1]:.10g})"
