"""Logistic models without SciPy: one of weighted rows, one with Jeffreys' prior, and the product of two.

In the product, a label needs two things that nobody saw, r and s, with log odds u = a + b x and v = c + d z:

    P(label) = r s,    r = expit(u),  s = expit(v)

With r* = P(r | label) and s*, which are 1 where there is a label, and r (1 - s) / (1 - r s) and s (1 - r) / (1 - r s)
where there is none, the gradients with respect to u and v are r* - r and s* - s, and the observed information is
r (1 - r) - r* (1 - r*), s (1 - s) - s* (1 - s*) and, off the diagonal, r* s* where there is no label (Louis 1982).
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ..intervals import Numbers
from ..special import expit, log_expit

Flags: TypeAlias = NDArray[np.bool_]

_STEPS = 300
_HALVINGS = 40
# Of columns with a spread of 1, coefficients that change by more in one step have lost their way; the farther off they
# are, the longer a step may be, or a maximum at infinity would take thousands.
_LONGEST_STEP = 4.0
# What the next step would gain at the end, in units of the log-likelihood; and where it is clear which start is best.
_GAIN, _NEARLY = 1e-8, 1e-2
# The same of a fit whose probabilities are compared with each other.
_GAIN_OF_EXACT = 1e-13
# Both parts stand still where no coefficient moves by more.
_SETTLED = 1e-6
# At the start, how much of a label is selection's: log P(label) is shared out so.
_SHARES = (0.5, 0.1, 0.9)


class Slopes(NamedTuple):
    """A log-likelihood at a point, its gradient, and the information: minus its second derivatives."""

    value: float
    gradient: Numbers
    information: Numbers


class Posterior(NamedTuple):
    """What a label says of what nobody saw, for each row."""

    relevant: Numbers
    """r*, P(r | label)."""
    selected: Numbers
    """s*, P(s | label)."""
    log_likelihood: Numbers
    spread_of_relevance: Numbers
    """r (1 - r)."""
    spread_of_selection: Numbers


class Summit(NamedTuple):
    """Where a climb ended, and whether there was nothing left to gain."""

    point: Numbers
    slopes: Slopes
    is_reached: bool

    def reached(self) -> tuple[Numbers, Slopes]:
        """Give point and slopes, or refuse."""
        if self.is_reached:
            return self.point, self.slopes
        raise InputError(
            f"The likelihood still rose after {_STEPS} steps: leave out features that say nearly the same, or that "
            "hold a few numbers far away from all others"
        )


def climb(function: Callable[[Numbers], Slopes], start: Numbers, least_gain: float) -> Summit:
    """Climb to a maximum by Newton's method, along the size of each curvature where it has the wrong sign.

    It ends where the next step would gain less than that, which it also does on the way to a maximum at infinity.
    """
    point, here = start, function(start)
    for _ in range(_STEPS):
        curvatures, directions = np.linalg.eigh(here.information)
        sizes = np.maximum(np.abs(curvatures), 1e-14 * max(1.0, float(np.abs(curvatures).max())))
        step = directions @ ((directions.T @ here.gradient) / sizes)
        if float(here.gradient @ step) < least_gain:
            return Summit(point, here, is_reached=True)
        step *= min(1.0, max(_LONGEST_STEP, float(np.abs(point).max())) / float(np.abs(step).max()))
        for _ in range(_HALVINGS):
            there = function(point + step)
            if there.value >= here.value + 1e-4 * float(here.gradient @ step):
                break
            step = step / 2
        else:  # rounding is all that is left
            return Summit(point, here, is_reached=True)
        point, here = point + step, there
    return Summit(point, here, is_reached=False)


def logistic(labels: Flags, columns: Numbers, weights: Numbers, start: Numbers) -> tuple[Numbers, Slopes]:
    """Fit P(label) = expit(columns @ coefficients) to weighted rows; the coefficients come first."""

    def slopes(coefficients: Numbers) -> Slopes:
        odds = columns @ coefficients
        p = expit(odds)
        value = float(weights @ np.where(labels, log_expit(odds), log_expit(-odds)))
        spread = weights * p * expit(-odds)
        return Slopes(value, columns.T @ (weights * (labels - p)), columns.T @ (spread[:, None] * columns))

    return climb(slopes, start, _GAIN).reached()


def jeffreys_logistic(labels: Flags, columns: Numbers) -> Numbers:
    """Fit P(label) = expit(columns @ coefficients) with Jeffreys' prior, the bias correction of Firth (1993).

    What is climbed is the log-likelihood with half the log determinant of its information, by steps of this
    information. The columns are no linear combinations of each other. Rows that are alike are counted, so that many
    cost little.
    """
    rows, where, counts = np.unique(columns, axis=0, return_inverse=True, return_counts=True)
    right = np.bincount(where.reshape(-1), weights=labels, minlength=len(rows))
    weights = counts.astype(np.float64)

    def slopes(coefficients: Numbers) -> Slopes:
        odds = rows @ coefficients
        p = expit(odds)
        spread = weights * p * expit(-odds)
        information = rows.T @ (spread[:, None] * rows)
        inverse = np.linalg.pinv(information, hermitian=True)
        leverages = spread * np.einsum("ij,ij->i", rows @ inverse, rows)
        sign, size = np.linalg.slogdet(information)
        value = float(right @ log_expit(odds) + (weights - right) @ log_expit(-odds) + size / 2)
        gradient = rows.T @ (right - weights * p + leverages * (0.5 - p))
        return Slopes(value if sign > 0 else -np.inf, gradient, information)

    return climb(slopes, np.zeros(rows.shape[1]), _GAIN_OF_EXACT).reached()[0]


def posterior(labels: Flags, u: Numbers, v: Numbers) -> Posterior:
    """Work out what each label says, from the log odds of both parts."""
    log_r, log_s = log_expit(u), log_expit(v)
    log_not_r, log_not_s = log_r - u, log_s - v
    # 1 - r s = (1 - r) + r (1 - s): no digits are lost where both are nearly 1.
    log_none = np.logaddexp(log_not_r, log_r + log_not_s)
    return Posterior(
        np.where(labels, 1.0, np.exp(log_r + log_not_s - log_none)),
        np.where(labels, 1.0, np.exp(log_s + log_not_r - log_none)),
        np.where(labels, log_r + log_s, log_none),
        np.exp(log_r + log_not_r),
        np.exp(log_s + log_not_s),
    )


def product_slopes(labels: Flags, x: Numbers, z: Numbers, coefficients: Numbers) -> Slopes:
    """Work out the log-likelihood of the product and its slopes; the coefficients of x come before those of z."""
    u, v = x @ coefficients[: x.shape[1]], z @ coefficients[x.shape[1] :]
    after = posterior(labels, u, v)
    of_r = after.spread_of_relevance - after.relevant * (1 - after.relevant)
    of_s = after.spread_of_selection - after.selected * (1 - after.selected)
    both = np.where(labels, 0.0, after.relevant * after.selected)
    off_diagonal = x.T @ (both[:, None] * z)
    information = np.block([[x.T @ (of_r[:, None] * x), off_diagonal], [off_diagonal.T, z.T @ (of_s[:, None] * z)]])
    gradient = np.concatenate([x.T @ (after.relevant - expit(u)), z.T @ (after.selected - expit(v))])
    return Slopes(float(after.log_likelihood.sum()), gradient, information)


def product(labels: Flags, x: Numbers, z: Numbers) -> tuple[Numbers, Slopes]:
    """Fit P(label) = expit(x @ b) expit(z @ d), from several starts; b comes before d.

    The likelihood may have more than one maximum: the highest one that is found is given. Columns have mean 0 and
    spread 1, behind a column of ones.
    """
    return highest(labels, x, z).reached()


def highest(labels: Flags, x: Numbers, z: Numbers) -> Summit:
    """Climb from each start of `product`, and give the highest summit, reached or not."""
    log_share = float(np.log(labels.mean()))
    ones = np.ones(len(labels))
    slopes = [logistic(labels, columns, ones, np.zeros(columns.shape[1]))[0][1:] for columns in (x, z)]
    starts = []
    for share in _SHARES:
        at = [np.exp(log_share * (1 - share)), np.exp(log_share * share)]
        intercepts = [float(np.log(p / (1 - p))) for p in at]
        for scale in (1.0, 0.0):
            starts.append([np.array([a, *(scale * b)]) for a, b in zip(intercepts, slopes, strict=True)])

    def slopes_at(point: Numbers) -> Slopes:
        return product_slopes(labels, x, z, point)

    ends = [climb(slopes_at, np.concatenate(start), _NEARLY) for start in starts]
    return climb(slopes_at, max(ends, key=lambda end: end.slopes.value).point, _GAIN)


def alternate(labels: Flags, x: Numbers, z: Numbers, weigh: Callable[[Numbers], Numbers]) -> tuple[Numbers, Numbers]:
    """Fit both parts to the labels in turns, each weighing the other's rows without one by its log odds.

    `weigh` makes weights of the log odds of the other part. Ends where neither part moves, with the coefficients and
    the information of the two weighted likelihoods.
    """
    b, d = np.zeros(x.shape[1]), np.zeros(z.shape[1])
    for _ in range(_STEPS):
        before = np.concatenate([b, d])
        b, of_b = logistic(labels, x, np.where(labels, 1.0, weigh(z @ d)), b)
        d, of_d = logistic(labels, z, np.where(labels, 1.0, weigh(x @ b)), d)
        if float(np.abs(np.concatenate([b, d]) - before).max()) < _SETTLED:
            none = np.zeros((len(b), len(d)))
            information = np.block([[of_b.information, none], [none.T, of_d.information]])
            return np.concatenate([b, d]), information
    raise InputError(
        f"The two parts had not settled after {_STEPS} turns of weighing each other: leave out features that tell "
        'labelled rows from others nearly without a mistake, or take method="product"'
    )
