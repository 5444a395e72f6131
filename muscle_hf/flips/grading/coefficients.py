"""From a maximum of a likelihood to named coefficients: their standard errors, and those that have no finite value."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...errors import ConfigurationError
from ..intervals import Numbers
from ..special import expit
from .features import INTERCEPT, Features

# Less information on a coefficient, of a column with spread 1, is none: its standard error would be over 100.
_NO_INFORMATION = 1e-4
# Probabilities that move by less along a direction of length 1 are at 0 or 1 already.
_AT_THE_END = 1e-3
# A fit that went farther along one is on its way to a step from 0 to 1, of which a few rows lie on the edge.
_FAR = 50.0
# A coefficient belongs to a direction that has this share of its length.
_SHARE = 1e-3
# Of what the fit went along a direction without an end, coefficients with this share of it have no end either.
_WENT = 0.1


@dataclass(frozen=True)
class Coefficients:
    """Coefficients of both parts in the units of their columns; those of relevance first, each intercept before."""

    names: tuple[str, ...]
    values: Numbers
    errors: Numbers
    separated: NDArray[np.bool_]
    """Those that the likelihood drives to infinity, or leaves open once others are there."""


def coefficients_at(point: Numbers, information: Numbers, relevance: Features, selection: Features) -> Coefficients:
    """Name the coefficients at a maximum, whose columns had mean 0 and spread 1.

    Raises:
        ConfigurationError: The likelihood is flat, although probabilities change: it does not tell the parts apart.
    """
    (x, of_x), (z, of_z) = relevance.standardized(), selection.standardized()
    back = np.zeros((len(point), len(point)))
    back[: len(of_x), : len(of_x)], back[len(of_x) :, len(of_x) :] = of_x, of_z
    names = tuple(f"{part.part}.{name}" for part in (relevance, selection) for name in (INTERCEPT, *part.names))
    # How far each coefficient goes along a direction: a slope as it is, an intercept in the column's own zero.
    lengths = np.eye(len(point))
    lengths[[0, len(of_x)]] = back[[0, len(of_x)]]

    curvatures, directions = np.linalg.eigh(information)
    is_open = curvatures < _NO_INFORMATION
    odds = x @ point[: len(of_x)], z @ point[len(of_x) :]
    for direction in directions[:, is_open].T:
        moved = (x @ direction[: len(of_x)], odds[0]), (z @ direction[len(of_x) :], odds[1])
        changes = max(float(np.abs(change * expit(at) * expit(-at)).max()) for change, at in moved)
        if changes > _AT_THE_END and abs(float(direction @ point)) < _FAR:
            loads = np.abs(lengths @ direction)
            raise ConfigurationError(
                "not identified: the likelihood stays the same along "
                f"{', '.join(name for name, load in zip(names, loads, strict=True) if load > 0.1 * loads.max())}. "
                "Give selection a feature of its own that takes many values, such as a rank or a score, or leave out "
                "what varies only where nothing is selected"
            )
    loads = lengths @ directions[:, is_open]
    separated = np.linalg.norm(loads, axis=1) > _SHARE
    went = loads @ (directions[:, is_open].T @ point)
    endless = separated & (np.abs(went) > _WENT * np.abs(went).max(initial=0.0))
    values = np.where(separated, np.where(endless, np.copysign(math.inf, went), math.nan), back @ point)
    kept = back @ directions[:, ~is_open]
    errors = np.sqrt((kept**2 / curvatures[~is_open]).sum(1))
    return Coefficients(names, values, np.where(separated, math.nan, errors), separated)
