"""Right answers as classes: what an update breaks in each, and the rate in which each class counts the same.

The negative flip rate is a mean over rows, so that a class with few rows hardly shows in it. Its balanced form is the
mean over classes of (negative flips of the class) / (rows of the class), as balanced accuracy is of recall.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .clusters import effective_size
from .inputs import Answers, number_from_0
from .intervals import Interval, Numbers, wilson
from .tilted import mean_of_rates

Counts: TypeAlias = NDArray[np.int64]

# Of right answers that only one row has, so many are a tail of rare classes; more, and they are texts or numbers.
_LEAST_ALONE, _SHARE_ALONE = 5, 20


@dataclass(frozen=True, eq=False)
class Spread:
    """How much clusters of rows differ, for the interval of a mean over classes."""

    residuals: Numbers
    """By how much each cluster moves the rate, in rows."""
    sizes: Numbers
    squares: float
    """Sum of the squares of what single rows move it by."""
    informative: int
    """Clusters of several rows with a flip."""

    def effect(self, level: float, *, cautious: bool) -> float:
        """Give how many rows say as much as one that is independent; infinity where nothing can be said."""
        size = effective_size(self.residuals, self.sizes, self.squares, self.informative, level, cautious=cautious)
        return float(self.sizes.sum()) / size if size else math.inf


@dataclass(frozen=True, eq=False)
class Classes:
    """What an update breaks in each class of right answers; arrays of shape (classes,)."""

    names: tuple[Any, ...]
    """The right answer of each."""
    n: Counts
    """Rows whose right answer it is."""
    old_right: Counts
    """Those that the old model gets right."""
    broken: Counts
    """Those of these that the new one gets wrong: its negative flips."""
    unseen: tuple[Any, ...] = ()
    """What models answered and no row has as its right answer, so that nothing is known of that class."""
    unfit: str = ""
    """Why the right answers are no classes; then there are none of these figures."""
    spread: Spread | None = None

    @classmethod
    def of(
        cls,
        references: Answers,
        answers: Iterable[Answers],
        old_right: NDArray[np.bool_],
        new_right: NDArray[np.bool_],
        clusters: Counts | None = None,
    ) -> Self:
        """Count the rows of each class; clusters are numbered from 0.

        Right answers are classes where at most half of them, and at most a twentieth of the rows but five at least, is
        the only row of its own. Others are texts or numbers to be found, of which a mean over each says nothing.
        """
        answers = list(answers)
        keys, *said = _keys([references, *answers])
        numbers = number_from_0(keys)
        n, rows = np.bincount(numbers), len(numbers)
        alone = int(np.count_nonzero(n == 1))
        if 2 * alone > len(n) or alone > max(_LEAST_ALONE, rows / _SHARE_ALONE):
            nothing = np.zeros(0, dtype=np.int64)
            told = f"{rows:,} rows have {len(n):,} different right answers, {alone:,} of them in one row only"
            return cls((), nothing, nothing, nothing, unfit=f"{told}: these are no classes")
        first = np.zeros(len(n), dtype=np.int64)
        first[numbers[::-1]] = np.arange(rows)[::-1]  # of several rows of a class the last one written stays
        flips = old_right & ~new_right
        right, broken = (np.bincount(numbers[chosen], minlength=len(n)) for chosen in (old_right, flips))
        names = _at(references, first)
        unseen = {
            name
            for side, column in zip(said, answers, strict=True)
            for name in _at(column, np.flatnonzero(np.isin(side, keys[first], invert=True)))
        }
        spread = None
        if clusters is not None:
            # What a row moves the rate by: its flip less the rate of its class, as a share of that class.
            moved = (flips - (broken / n)[numbers]) * (rows / len(n) / n)[numbers]
            sizes = np.bincount(clusters).astype(np.float64)
            flipped = np.bincount(clusters[flips], minlength=len(sizes)) > 0
            spread = Spread(
                np.bincount(clusters, weights=moved).astype(np.float64),
                sizes,
                float(moved @ moved),
                int(np.count_nonzero(flipped & (sizes > 1))),
            )
        # By name, since hashes are others in every process.
        order = sorted(range(len(n)), key=names.__getitem__)
        n, right, broken = (column[order] for column in (n, right, broken))
        named = tuple(names[place] for place in order)
        return cls(named, n, right, broken, tuple(sorted(unseen - {None})), spread=spread)

    def __len__(self) -> int:
        """Say how many classes there are."""
        return len(self.names)

    @property
    def rates(self) -> Numbers:
        """The negative flip rate of each class."""
        return self.broken / self.n

    @property
    def balanced(self) -> float:
        """The mean of the rates, each class counting the same; nan where there are no classes."""
        # Added without rounding, so that the order of classes does not show.
        return math.fsum(self.rates.tolist()) / len(self) if len(self) else math.nan

    @property
    def uneven(self) -> bool:
        """Whether the largest class has at least four times the rows of the smallest one."""
        return bool(len(self) and self.n.max() >= 4 * self.n.min())

    def interval(self, level: float, *, cautious: bool = False) -> Interval:
        """Bound the balanced rate, see `mean_of_rates`; by so many effective rows where there are clusters."""
        effect = 1.0 if self.spread is None else self.spread.effect(level, cautious=cautious)
        if math.isinf(effect):
            return 0.0, 1.0
        return mean_of_rates(self.broken / effect, self.n / effect, level, cautious=cautious)

    def interval_of(self, place: int, level: float) -> Interval:
        """Bound the rate of one class by Wilson's interval; nan where its rows stand in clusters.

        How far clusters make the rows of a single class alike is not known.
        """
        if self.spread is not None and self.spread.sizes.max() > 1:
            return math.nan, math.nan
        return wilson(float(self.broken[place]), float(self.n[place]), level)

    def worst_first(self) -> list[int]:
        """Give the places of the classes, the highest rate first; of equal ones those with more rows broken."""
        order = zip(
            (-self.rates).tolist(), (-self.broken).tolist(), map(str, self.names), range(len(self)), strict=True
        )
        return [place for *_, place in sorted(order)]

    def named(self, name: Callable[[Any], Any]) -> Self:
        """Give the same classes by other names; None stands for no class."""
        unseen = [other for other in map(name, self.unseen) if other is not None]
        return replace(self, names=tuple(map(name, self.names)), unseen=tuple(unseen))


def _keys(columns: Sequence[Answers]) -> list[Counts]:
    """Give numbers that are equal where answers of any of the columns are."""
    if all(isinstance(column, np.ndarray) for column in columns):
        return [np.asarray(column) for column in columns]
    if isinstance(columns[0][0], str):
        # As in `number`: faster than a dictionary, and that two texts share a hash is next to impossible.
        return [np.fromiter(map(hash, column), np.int64, len(column)) for column in columns]
    places = {value: place for place, value in enumerate(dict.fromkeys(chain(*columns)))}
    return [np.fromiter(map(places.__getitem__, column), np.int64, len(column)) for column in columns]


def _at(column: Answers, places: Counts) -> list[Any]:
    """Give the values at some places of a column."""
    return column[places].tolist() if isinstance(column, np.ndarray) else [column[place] for place in places.tolist()]
