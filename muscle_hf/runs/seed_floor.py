"""The seed floor: the flips among runs of one version, which no update is to blame for."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..errors import InputError
from ..flips.clusters import mean_interval as clustered_mean_interval
from ..flips.comparison import Comparison
from ..flips.inputs import number_from_0
from ..flips.intervals import mean_interval
from ..flips.score_comparison import ScoreComparison, compare_scores
from ..readers.answers import TaskAnswers, some
from ..readers.identical import identical
from ..readers.join import Aligned, align


@dataclass(frozen=True)
class SeedFloor:
    """The flips that mere retraining or sampling makes, measured on runs of one and the same version."""

    runs: int
    """How many runs of the same version were compared with each other."""
    negative_flip_rate: float
    """Mean negative flip rate over the ordered pairs of these runs; the positive flip rate is the same by symmetry."""
    low: float
    high: float
    excess: float
    """Negative flip rate of the update minus the floor."""
    excess_low: float
    excess_high: float

    @classmethod
    def of(
        cls,
        compared: Comparison | ScoreComparison,
        values: NDArray[np.float64],
        runs: int,
        level: float,
        clusters: NDArray[np.int64] | None,
    ) -> Self:
        """Set the negative flips of an update against what `flips_among` gives for the same instances."""

        def bound(values: NDArray[np.float64]) -> tuple[float, float]:
            if clusters is None or compared.clusters == compared.n:
                return mean_interval(values, level, seed=0)
            return clustered_mean_interval(values, number_from_0(clusters), level)

        flipped = np.zeros(len(values))
        flipped[compared.negative_flips] = 1.0
        excess = flipped - values
        (low, high), (excess_low, excess_high) = bound(values), bound(excess)
        return cls(runs, float(values.mean()), low, high, float(excess.mean()), excess_low, excess_high)

    def to_dict(self) -> dict[str, Any]:
        """Give everything as a dictionary of plain Python values."""
        return dict(vars(self))


def flips_among(
    runs: Sequence[TaskAnswers], pair: Aligned, tolerance: float, *, by_position: bool, allow_identical: bool
) -> NDArray[np.float64]:
    """Give for each instance the share of ordered pairs of runs of one version in which it is a negative flip."""
    if len(runs) < 2:
        raise InputError("a seed floor needs two or more runs of the same version; got one.")
    joins: list[TaskAnswers] = []
    for run in runs:
        # Instances beyond the compared ones do no harm, those that lack do.
        joined = align(pair.old, run, allow_missing=not by_position, by_position=by_position)
        if len(joined.old) < len(pair.old):
            missing = pair.old.ids.filter(pc.invert(pc.is_in(pair.old.ids, value_set=joined.old.ids)))
            raise InputError(
                f"the seed floor {run.source} lacks {len(missing)} of the {len(pair.old)} compared ids, for instance "
                f"{some(missing)}, or has them with another document or right answer: every run must have answered "
                "the same instances."
            )
        joins.append(joined.new)
    for before, after in itertools.combinations(joins, 2):
        same = None if allow_identical else identical(pair.old.task, before, after)
        if same is not None and not same.in_part:
            raise InputError(
                "two runs of the seed floor are one, so they show nothing of what retraining or sampling changes. "
                f"{same.message}. Log-likelihoods and greedy answers do not change with the seed of sampling: give "
                "runs that were trained with other seeds. --allow-identical (allow_identical=True) accepts these."
            )
    columns = [run.values() for run in joins]
    flips = np.zeros(len(pair.old))
    for first, second in itertools.permutations(columns, 2):
        flips[compare_scores(old=first, new=second, tolerance=tolerance).negative_flips] += 1
    return flips / (len(runs) * (len(runs) - 1))
