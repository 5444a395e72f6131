"""A rate that knows its interval, and what results made of rates share: a dictionary, JSON and a table."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self, cast, overload

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .clusters import ClusterCells, effective_share
from .clusters import mean_interval as clustered_mean_interval
from .decisions import mean_limits
from .inputs import check_level
from .intervals import Interval, clopper_pearson, mean_interval, wilson

SCHEMA_VERSION = 1
"""Version of what `to_dict` and `to_json` give; it rises when a field is renamed, removed or changes its meaning."""

# Holm's factor cannot lift what is kept of a smaller one, `paired_tests.LEAST_P`, above it.
_LEAST_SHOWN = 1e-300


@dataclass(frozen=True)
class Rate:
    """A rate of a result: reads as a float, and knows its interval and the direction in which it gets better."""

    better: str
    estimate: Callable[[Any], float]
    interval: Callable[[Any, float, int], Interval]
    limits: Callable[[Any, float, int], Interval] | None = None
    """The interval that verdicts are made from; None where it is the same."""
    applies: Callable[[Any], bool] = lambda result: True
    """Whether a result can have it at all; tables for people leave it out where not."""

    @overload
    def __get__(self, result: None, owner: type) -> Self: ...
    @overload
    def __get__(self, result: object, owner: type) -> float: ...
    def __get__(self, result: object | None, owner: type) -> Self | float:
        """Read the rate of a result."""
        return self if result is None else float(self.estimate(result))


def quotient(count: float, of: float) -> float:
    """Divide, and give nan where there is nothing to divide by."""
    return count / of if of else math.nan


def share(better: str, parts: Callable[[Any], tuple[float, int]]) -> Rate:
    """Make a rate that is a count over a count."""

    def bounded(
        interval: Callable[[float, float, float], Interval], *, cautious: bool
    ) -> Callable[[Any, float, int], Interval]:
        def bound(result: Any, level: float, _: int) -> Interval:
            if result.by_cluster is None:
                return interval(*parts(result), level)
            # The same formula makes arrays of what clusters have.
            counts, sizes = cast("tuple[Any, Any]", parts(result.by_cluster))
            count, of = effective_share(counts, sizes, level, cautious=cautious)
            return interval(count, of, level) if of else (0.0, 1.0)

        return bound

    tables, verdicts = bounded(wilson, cautious=False), bounded(clopper_pearson, cautious=True)
    return Rate(better, lambda result: quotient(*parts(result)), tables, verdicts)


def mean(
    better: str,
    values: Callable[[Any], NDArray[np.float64]],
    among: Callable[[Any], NDArray[np.int64]] | None = None,
) -> Rate:
    """Make a rate that is the mean of one value for each instance, or for those among them at some positions."""

    def sample(result: Any) -> NDArray[np.float64]:
        return values(result) if among is None else values(result)[among(result)]

    def estimate(result: Any) -> float:
        chosen = sample(result)
        return float(chosen.mean()) if len(chosen) else math.nan

    def bounded(
        interval: Callable[[NDArray[np.float64], float, int], Interval],
    ) -> Callable[[Any, float, int], Interval]:
        def bound(result: Any, level: float, seed: int) -> Interval:
            numbers = result.cluster_numbers
            if numbers is not None and among is not None:
                numbers = numbers[among(result)]
            if numbers is None or np.bincount(numbers).max() == 1:
                return interval(sample(result), level, seed)
            return clustered_mean_interval(sample(result), numbers, level)

        return bound

    return Rate(better, estimate, bounded(mean_interval), bounded(mean_limits))


class Result:
    """What the results share; a subclass has rates as class attributes."""

    _SCHEMA: ClassVar[str]
    by_cluster: ClusterCells | None = None

    @property
    def clusters(self) -> int | None:
        """How many clusters the instances are in; None where none were given."""
        return None if self.by_cluster is None else len(self.by_cluster)

    @property
    def n(self) -> int:
        """How many instances were compared."""
        raise NotImplementedError

    @classmethod
    def _rates(cls) -> dict[str, Rate]:
        return {name: rate for name, rate in vars(cls).items() if isinstance(rate, Rate)}

    def confidence_interval(self, name: str, level: float = 0.95, *, seed: int = 0) -> Interval:
        """Give the confidence interval of a rate.

        Which interval it is:
            - A count over a count: Wilson's score interval. Where the denominator is itself counted (backward
              compatibility, flip impact, `error_agreement`), it holds given that denominator.
            - `accuracy_change`: Newcombe's interval for paired proportions (1998, method 10), widened to what the
              exact paired test leaves, so that 0 lies outside just where that test's p-value is below 1 - level.
            - `relative_negative_flip_rate` and `relative_accuracy_change`: the values that a score test with
              continuity correction does not reject.
            - `balanced_negative_flip_rate`: a bootstrap within classes, smoothed and tilted (Efron 1981), whose
              distribution is worked out and not drawn; see `muscle_hf.flips.tilted`.
            - `kappa`: large-sample normal interval (Fleiss, Cohen and Everitt 1969).
            - Means of a `ScoreComparison`: percentile bootstrap over instances (2,000 resamples; the two scores of an
              instance stay together), for `mean_gain` and `mean_regression` among those that rose or fell; over more
              than 5,000 values the normal interval, and under 2 nan.
            - Rates of yes/no answers: shares and the change of accuracy as above; changes of FNR and FPR by Newcombe's
              interval alone; bias and its shift by squares of how far the bounds of two such reach (MOVER); d' and c
              by a Bayesian bootstrap within each right answer; `score_shift` as means.

        Where clusters were given, counts, changes and kappa have the same intervals by an effective number of
        instances (Korn and Graubard 1998), and means Student's interval of the clusters' sums. A single cluster leaves
        everything open. A change of 0 lies outside just where the exact test on clusters is below 1 - level.

        Args:
            name: A rate, such as "negative_flip_rate".
            level: Share of repetitions in which the interval should hold the true rate, between 0 and 1.
            seed: Seed of the bootstrap, an int from 0 up; the same seed gives the same interval.

        Returns:
            The lower and upper bound; (nan, nan) where the rate is undefined.

        Raises:
            InputError: There is no rate of that name, `level` is not between 0 and 1, or `seed` is no int from 0 up.

        Example:
            >>> from muscle_hf.flips import compare_correct
            >>> c = compare_correct(old=[True] * 60 + [False] * 40, new=[True] * 50 + [False] * 50)
            >>> low, high = c.confidence_interval("negative_flip_rate")
            >>> f"{c.negative_flip_rate:.2f} ({low:.3f} to {high:.3f})"
            '0.10 (0.055 to 0.174)'
        """
        return self._interval(name, level, seed, for_decision=False)

    def decision_interval(self, name: str, level: float = 0.95, *, seed: int = 0) -> Interval:
        """Give the interval of a rate that verdicts are made from: each end errs in at most (1 - level) / 2 of cases.

        The ends of `confidence_interval` do so on average, and in some cases far more often. Which interval it is:
            - A count over a count: the exact one of Clopper and Pearson (1934).
            - `accuracy_change`: the changes that an approximate unconditional test (Storer and Kim 1990) does not
              reject; at level 0.95 it errs in at most 2.4 % of cases on a side (`benchmarks/decide.py`).
            - `balanced_negative_flip_rate`: that of `confidence_interval`, with half a flip more at the upper end and
              half a flip less at the lower one.
            - Means of a `ScoreComparison`: the wider of the bootstrap and Student's interval. No interval of a mean
              knows of what no value shows, so where few instances change by much this one errs more often.
            - Rates of yes/no answers: changes of accuracy, FNR and FPR as `accuracy_change` above; bias and its shift
              by squares of how far the exact bounds of shares, or those of changes, reach.
            - Other rates: that of `confidence_interval`.

        Where clusters were given, counts and changes are taken as of the effective number of instances. For counts
        its design effect has a standard error added: few flips tell little of how they cluster. Where a few large
        clusters hold much of the instances, the ends err more often all the same.

        Args:
            name: A rate, such as "accuracy_change".
            level: 1 minus the highest rate of errors on both sides together, between 0 and 1.
            seed: Seed of the bootstrap, an int from 0 up; the same seed gives the same interval.

        Returns:
            The lower and upper end; (nan, nan) where the rate is undefined.

        Raises:
            InputError: There is no rate of that name, `level` is not between 0 and 1, or `seed` is no int from 0 up.

        Example:
            >>> from muscle_hf.flips import compare_correct
            >>> c = compare_correct(old=[True] * 50, new=[False] * 3 + [True] * 47)
            >>> low, high = c.decision_interval("negative_flip_rate")
            >>> f"{c.negative_flip_rate:.2f} ({low:.3f} to {high:.3f})"
            '0.06 (0.013 to 0.165)'
        """
        return self._interval(name, level, seed, for_decision=True)

    def _interval(self, name: str, level: float, seed: int, *, for_decision: bool) -> Interval:
        rates = self._rates()
        if name not in rates:
            raise InputError(f"there is no rate named {name!r}; the rates are: {', '.join(rates)}")
        check_level(level)
        # Checked for every rate, so that a wrong seed does not show only where there is a bootstrap.
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
            raise InputError(f"seed is {seed!r}, but must be an int from 0 up")
        if math.isnan(getattr(self, name)):
            return math.nan, math.nan
        rate = rates[name]
        low, high = ((for_decision and rate.limits) or rate.interval)(self, float(level), seed)
        return float(low), float(high)

    def to_dict(self, level: float = 0.95) -> dict[str, Any]:
        """Give everything as a dictionary of plain Python values.

        Args:
            level: Level of the confidence intervals.

        Returns:
            `schema` ("muscle_hf.comparison", ".score_comparison" or ".agreement"), `schema_version`, `n`, `level`,
            `clusters` where they were given, and `rates`: for each rate `estimate, low, high`. Then, but
            not for an agreement, `p_value` and the positions `negative_flips` and `positive_flips` (lists of ints,
            counted from 0); for answers `counts`, for scores `tolerance`. Undefined numbers are nan.

        Raises:
            InputError: `level` is not between 0 and 1.

        Example:
            >>> from muscle_hf.flips import compare
            >>> c = compare(old=["a", "b"], new=["a", "c"], references=["a", "b"])
            >>> c.to_dict()["rates"]["negative_flip_rate"]["estimate"]
            0.5
        """
        rates = {}
        for name in self._rates():
            low, high = self.confidence_interval(name, level)
            rates[name] = {"estimate": getattr(self, name), "low": low, "high": high}
        head = {"schema": self._SCHEMA, "schema_version": SCHEMA_VERSION, "n": self.n, "level": float(level)}
        head |= {} if self.clusters is None else {"clusters": self.clusters}
        return head | {"rates": rates} | self._details()

    def to_json(self, level: float = 0.95, *, indent: int | None = None) -> str:
        """Give `to_dict` as JSON, with null for what is undefined.

        Args:
            level: Level of the confidence intervals.
            indent: Spaces per level of nesting; None puts all on one line.

        Returns:
            The text; valid JSON, so no NaN in it.

        Raises:
            InputError: `level` is not between 0 and 1.

        Example:
            >>> from muscle_hf.flips import agreement
            >>> agreement(old=["a", "b"], new=["a", "b"]).to_json()[:53]
            '{"schema": "muscle_hf.agreement", "schema_version": 1'
        """
        return strict_json(self.to_dict(level), indent=indent)

    def __str__(self) -> str:
        """Show the rates as a table for people, with 95 % intervals and the direction in which each gets better."""
        rates = {name: rate for name, rate in self._rates().items() if rate.applies(self)}
        width = max(map(len, rates))
        lines = [*self._headline(), f"{'':{width}}    estimate   95 % interval"]
        for name, rate in rates.items():
            estimate, (low, high) = getattr(self, name), self.confidence_interval(name)
            shown = "undefined" if math.isnan(estimate) else f"{estimate:z8.4f}"
            bounds = "" if math.isnan(low) else f"   {low:z.4f} to {high:z.4f}"
            lines.append(f"{name:{width}}  {rate.better} {shown}{bounds}")
        return "\n".join([*lines, "↑ better when higher, ↓ better when lower"])

    def _details(self) -> dict[str, Any]:
        return {}

    def _headline(self) -> list[str]:
        return [self._rows()]

    def _rows(self) -> str:
        text = f"{self.n} instance{'s' * (self.n > 1)}"
        return text if self.clusters is None else f"{text} in {self.clusters} cluster{'s' * (self.clusters > 1)}"


def p_number(p_value: float, digits: int = 2) -> str:
    """Show a p-value; never as 0."""
    return f"{p_value:.{digits}g}" if not p_value < _LEAST_SHOWN else f"< {_LEAST_SHOWN:g}"


def p_equation(p_value: float, digits: int = 2) -> str:
    """Show a p-value with its name: "p = 0.012" or "p < 1e-300"."""
    shown = p_number(p_value, digits)
    return f"p {shown}" if shown.startswith("<") else f"p = {shown}"


def strict_json(value: Any, *, indent: int | None = None) -> str:
    """Give plain Python values as JSON that any parser reads: null for nan, which is what is undefined."""
    return json.dumps(_without_nan(value), indent=indent, allow_nan=False)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def where_true(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Give the positions of what is true; counts are taken from them, so that nobody may change them afterwards."""
    positions = np.flatnonzero(mask).astype(np.int64, copy=False)
    positions.setflags(write=False)
    return positions
