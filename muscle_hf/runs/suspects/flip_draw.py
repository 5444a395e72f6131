"""Negative flips drawn for a person to check, each with a known chance above 0.

The flips are cut into one or two strata by how suspect they are, and of each the first so many are drawn in an order
at random that seed, task and id make: the same whatever the order of the files. What is drawn from each is settled by
the number asked for, beforehand.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from ...errors import InputError
from ...flips.sampling.strata import allocation, strata_of
from ..random_order import digest_of, order_key

_LEAST = 4  # of which two strata get two each


@dataclass(frozen=True)
class Suspect:
    """One negative flip, and how likely the grader made it."""

    task: str | None
    """None where there is one task alone."""
    id: str | int
    """Of a `Comparison`, the position."""
    chance: float
    """That it is the grader's, by the model; nan where the marks say nothing of the form that changed."""
    reasons: tuple[str, ...]
    """What changed in the form of the answer, what weighs most first."""
    row: int
    """Its row in the task."""


@dataclass(frozen=True, eq=False)
class FlipDraw:
    """Flips to check, in the order in which to do so; made by `Suspects.draw`."""

    flips: tuple[Suspect, ...] = field(repr=False)
    """All negative flips, the most suspect first."""
    n: int
    """Answers of either version."""
    count: int
    """How many were asked for."""
    seed: int
    places: tuple[int, ...]
    """Those drawn, by their places among the suspects."""
    sizes: tuple[int, ...]
    """How many flips each stratum has, the most suspect one first."""
    drawn: tuple[int, ...]
    """How many of each are drawn."""
    token: str
    """Says of a table of flips which they were drawn from, how many, and by which seed."""

    def __len__(self) -> int:
        """Say how many there are."""
        return len(self.places)

    def __iter__(self) -> Iterator[Suspect]:
        """Give them, in the order in which to check them."""
        return (self.flips[place] for place in self.places)

    def stratum(self, place: int) -> int:
        """Give the stratum of a flip, by its place among the suspects."""
        return int(place >= self.sizes[0])

    @property
    def probabilities(self) -> list[float]:
        """The chance that each was to be drawn, in the order of the draw."""
        return [self.drawn[part] / self.sizes[part] for part in map(self.stratum, self.places)]


def draw_flips(flips: tuple[Suspect, ...], n: int, count: int, *, seed: int = 0) -> FlipDraw:
    """Draw so many of the flips, as many from each stratum as its size and its doubt ask for."""
    if not isinstance(count, int) or isinstance(count, bool) or count < 2:
        raise InputError(
            f"{count!r} flips are to be drawn, but must be a count from 2 up: one says nothing of others."
        )
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise InputError(f"seed is {seed!r}, but must be an int.")
    chances = np.array([flip.chance for flip in flips], dtype=np.float64)
    first = strata_of(chances) if _LEAST <= count < len(chances) else 0
    parts = [range(first), range(first, len(chances))] if first else [range(len(chances))]
    drawn = allocation([chances[part.start : part.stop] for part in parts], count)
    keys = [order_key(seed, flip.task, flip.id) for flip in flips]
    chosen = [
        place for part, size in zip(parts, drawn, strict=True) for place in sorted(part, key=keys.__getitem__)[:size]
    ]
    return FlipDraw(
        flips,
        n,
        count,
        seed,
        tuple(sorted(chosen, key=keys.__getitem__)),
        tuple(map(len, parts)),
        tuple(drawn),
        f"{seed}:{count}:{len(chances)}:{_digest(flips, n, first)}",
    )


def _digest(flips: tuple[Suspect, ...], n: int, first: int) -> str:
    """Give a digest of all flips and of which are in the first stratum, whatever the order of the files."""
    lines = [repr((flip.task or "", str(flip.id), place < first)) for place, flip in enumerate(flips)]
    return digest_of([str(n), *sorted(lines)])
