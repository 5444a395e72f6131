"""The reliable-change rule: from which change on a share of right sampled answers counts as changed.

Sources: Jacobson and Truax (1991), adapted to sampled answers by Cacioli (2026, arXiv 2604.27405).
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InputError
from ..flips.intervals import normal_quantile
from ..readers.join import Aligned


@dataclass(frozen=True)
class ReliableChange:
    """The reliable-change rule on sampled answers: a share of right answers changed more than sampling explains.

    An instance counts as flipped where |D| / standard_error exceeds the normal quantile of `level`, D being the change
    of its share p of right answers. The standard error of D is the S_diff of Jacobson and Truax (1991), the root of
    SEM_old^2 + SEM_new^2. SEM^2 is the mean of p (1 - p) / (K - 1) over instances: what SD^2 (1 - reliability) is with
    the one-way intraclass reliability of the K samples.
    """

    old_samples: float
    """Sampled answers of the old model, mean over instances."""
    new_samples: float
    standard_error: float
    threshold: float
    """The smallest change of the share that counts: quantile times standard error."""
    level: float
    extreme: int
    """Instances at the floor or ceiling: both models always wrong or both always right. They cannot show a change."""

    def to_dict(self) -> dict[str, Any]:
        """Give everything as a dictionary of plain Python values."""
        return dict(vars(self))


def reliable_change(pair: Aligned, level: float = 0.95) -> ReliableChange:
    """Work out how much a share of right sampled answers has to change to count, see `ReliableChange`."""
    counts, errors = [], []
    for side in (pair.old, pair.new):
        repeated = np.zeros(len(side), np.bool_) if side.samples is None else side.samples > 1
        if side.samples is None or not repeated.any():
            raise InputError(
                f"{side.source} has no instance with two or more sampled answers, so how much its answers vary is not "
                "known. Sample both models as often, or give a --tolerance (tolerance=) for the change of a share."
            )
        share, number = side.values()[repeated], side.samples[repeated]
        counts.append(float(side.samples.mean()))
        errors.append(float((share * (1 - share) / (number - 1)).mean()))
    error = math.sqrt(sum(errors))
    old, new = pair.old.values(), pair.new.values()
    extreme = int(np.count_nonzero((old == new) & ((old == 0) | (old == 1))))
    return ReliableChange(
        old_samples=counts[0],
        new_samples=counts[1],
        standard_error=error,
        threshold=normal_quantile(level) * error,
        level=level,
        extreme=extreme,
    )
