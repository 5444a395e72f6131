"""Scores of two models compared: which instances a model update made worse or better, by more than a tolerance."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .clusters import ClusterCells
from .inputs import Values, is_number, take_clusters, take_scores
from .paired_tests import signed_rank_test
from .rates import Result, mean, p_equation, share, where_true
from .weighted_coins import clustered_signed_rank_test


@dataclass(frozen=True, eq=False)
class ScoreComparison(Result):
    """What a model update changed, on scores; made by `compare_scores`.

    With D = new - old, an instance is a negative flip where D < -tolerance and a positive one where D > tolerance
    (smooth flips of MUSCLE 3.2, which has tolerance 0).
    """

    tolerance: float
    """Changes up to this size count as none; unless it is 0, so do those that exceed it by rounding alone."""
    old_scores: NDArray[np.float64] = field(repr=False)
    new_scores: NDArray[np.float64] = field(repr=False)
    negative_flips: NDArray[np.int64] = field(repr=False)
    """Positions whose score fell, rising, counted from 0."""
    positive_flips: NDArray[np.int64] = field(repr=False)
    """Positions whose score rose, rising, counted from 0."""
    cluster_numbers: NDArray[np.int64] | None = field(default=None, repr=False)
    """The cluster of each instance, numbered from 0; None where no clusters were given."""
    by_cluster: ClusterCells | None = field(default=None, repr=False)
    """How many instances of each cluster fell (as `_negative`), rose (`_positive`) and did neither (`both_wrong`)."""

    _SCHEMA: ClassVar[str] = "muscle_hf.score_comparison"

    @property
    def n(self) -> int:
        """How many instances were compared."""
        return len(self.old_scores)

    @property
    def _negative(self) -> int:
        return len(self.negative_flips)

    @property
    def _positive(self) -> int:
        return len(self.positive_flips)

    @cached_property
    def changes(self) -> NDArray[np.float64]:
        """D = new - old for every instance."""
        return self.new_scores - self.old_scores

    old_mean = mean("↑", lambda c: c.old_scores)
    """Mean score of the old model."""
    new_mean = mean("↑", lambda c: c.new_scores)
    """Mean score of the new model."""
    mean_change = mean("↑", lambda c: c.changes)
    """Mean of D over all instances."""
    negative_flip_rate = share("↓", lambda c: (c._negative, c.n))
    """NFR = #(D < -tolerance) / N."""
    positive_flip_rate = share("↑", lambda c: (c._positive, c.n))
    """PFR = #(D > tolerance) / N."""
    flip_rate = share("↓", lambda c: (c._negative + c._positive, c.n))
    """NFR + PFR."""
    mean_gain = mean("↑", lambda c: c.changes, lambda c: c.positive_flips)
    """m_g: mean of D over the positive flips."""
    mean_regression = mean("↓", lambda c: -c.changes, lambda c: c.negative_flips)
    """m_r: mean size of the fall over the negative flips, as a positive number."""

    @cached_property
    def p_value(self) -> float:
        """Wilcoxon's signed-rank test, two-sided: do rises and falls balance?

        On all changes that are not exactly 0, whatever the tolerance. Exact up to 50 of them, ties included, and the
        normal approximation above. Without any there is nothing against a neutral update: 1.
        """
        return self.paired_test()

    def paired_test(self, test: str = "two-sided") -> float:
        """Give the p-value of Wilcoxon's signed-rank test (1945) by the name of its side.

        Where clusters were given, it is by permutation of their signs: what a cluster's signed ranks add up to is as
        likely to be the reverse (Rosner, Glynn and Lee 2006).

        Args:
            test: "two-sided" (default: do rises and falls balance?), or "one-sided", which speaks against "scores fall
                no more than they rise"; with "-mid-p" after it, the rank sum that was found counts half.

        Returns:
            The p-value, exact up to 50 changes that are not 0, ties included. Above, the normal approximation without
            correction for continuity, where the mid-p tests are the same as the others.

        Raises:
            InputError: There is no test of that name.

        Example:
            >>> import muscle_hf
            >>> c = muscle_hf.compare_scores(old=[0.5, 0.5, 0.25, 1.0], new=[0.4, 0.25, 0.26, 0.5])
            >>> c.p_value, c.paired_test("one-sided")
            (0.25, 0.125)
        """
        moved = self.changes != 0
        if self.cluster_numbers is None:
            return signed_rank_test(self.changes[moved], test)
        return clustered_signed_rank_test(self.changes[moved], self.cluster_numbers[moved], test)

    def _details(self) -> dict[str, Any]:
        return {"tolerance": self.tolerance, "p_value": self.p_value} | {
            "negative_flips": self.negative_flips.tolist(),
            "positive_flips": self.positive_flips.tolist(),
        }

    def _headline(self) -> list[str]:
        fell, rose = len(self.negative_flips), len(self.positive_flips)
        return [
            f"{self._rows()}, {fell} scores fell and {rose} rose by more than {self.tolerance:g}",
            f"Wilcoxon signed-rank test of the changes, two-sided: {p_equation(self.p_value, 3)}",
        ]


def compare_scores(
    *, old: Values, new: Values, tolerance: float = 0.0, clusters: Values | None = None
) -> ScoreComparison:
    """Compare two models by a score for each instance, such as ROUGE or a log-likelihood; higher is better.

    Implements the smooth flips of MUSCLE (arXiv 2407.09435, section 3.2).

    Args:
        old: Scores of the old model, shape (n,), finite numbers in any unit.
        new: Scores of the new model on the same instances, in the same order and unit.
        tolerance: Changes up to this size, in that unit and but for rounding, count as none. The paper has 0 (exact);
            scores such as ROUGE move a little on almost every instance, so that 0 counts much jitter.
        clusters: What belongs together, an id for each instance, see `compare`.

    Returns:
        The comparison: rates, mean gain and regression, intervals, the positions of the flips.

    Raises:
        InputError: Nothing to compare, unequal lengths, scores not finite or beyond 1e100, a tolerance below 0.

    Example:
        >>> import muscle_hf
        >>> c = muscle_hf.compare_scores(old=[0.5, 0.5, 0.25, 1.0], new=[0.75, 0.25, 0.26, 0.5], tolerance=0.05)
        >>> c.negative_flip_rate, c.positive_flip_rate
        (0.5, 0.25)
        >>> c.mean_gain, c.mean_regression
        (0.25, 0.375)
    """
    if not is_number(tolerance) or tolerance < 0:
        raise InputError(
            f"tolerance is {tolerance!r}, but must be a finite number from 0 up, in the unit of the scores"
        )
    (old_scores, new_scores), rounding = take_scores(old=old, new=new)
    change = new_scores - old_scores
    limit = tolerance + rounding * (tolerance > 0)  # 0.71 - 0.70 is above 0.01 in floats
    numbers = by_cluster = None
    if clusters is not None:
        numbers = take_clusters(clusters, len(change), old)
        by_cluster = ClusterCells.of(numbers, change < -limit, change > limit, None)
    return ScoreComparison(
        tolerance=float(tolerance),
        old_scores=old_scores,
        new_scores=new_scores,
        negative_flips=where_true(change < -limit),
        positive_flips=where_true(change > limit),
        cluster_numbers=numbers,
        by_cluster=by_cluster,
    )
