"""Answers that differ in their spelling alone: found, counted, told with the name under which they are the same."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from .number_texts import Column
from .same_answer import NAMES, respell

# Of more differing rows, so many are looked at to tell which names join some; these are then counted in all of them.
_LOOK = 20_000
# Two long texts that differ by more bytes than this are taken for two texts.
_NEAR = 4
# Names that join less than this share of what all together do are not worth proposing.
_WORTH = 0.05
# From the least likely to be meant; what is not needed is left out in this order.
_LEAST_LIKELY = (
    "unicode",
    "booleans",
    "punctuation",
    "quotes",
    "decimal-comma",
    "thousands",
    "numbers",
    "case",
    "whitespace",
)


@dataclass(frozen=True)
class SpelledOtherwise:
    """Rows whose two texts differ, and would be the same if something need not count."""

    names: tuple[str, ...]
    """What must not count for that, of `same_answer.NAMES`."""
    rows: int
    of: int
    """How many rows there are."""
    already: int
    """How many are the same as they are spelled."""
    example: tuple[str, str]


def spelled_otherwise(first: Column | None, second: Column | None) -> SpelledOtherwise | None:
    """Find the rows in which two columns of texts, as they are compared now, hold the same in another spelling."""
    if first is None or second is None or not (pa.types.is_string(first.type) and pa.types.is_string(second.type)):
        return None
    unlike = pc.not_equal(first, second)
    rows = np.flatnonzero(pc.fill_null(unlike, False))
    if not len(rows):
        return None
    # Drawn, since every second row may be of one sort.
    looked = rows if len(rows) <= _LOOK else rows[np.unique(np.random.default_rng(0).integers(len(rows), size=_LOOK))]
    firsts, seconds, counts = _distinct(first.take(pa.array(looked)), second.take(pa.array(looked)))
    names, same = _all_that_count(firsts, seconds, counts)
    if not same.any():
        return None
    firsts, seconds, counts = firsts.filter(pa.array(same)), seconds.filter(pa.array(same)), counts[same]
    for name in _LEAST_LIKELY:
        fewer = tuple(other for other in names if other != name)
        if name in names and counts[_same(firsts, seconds, fewer)].sum() >= (1 - _WORTH) * counts.sum():
            names = fewer
    left = np.flatnonzero(_same(firsts, seconds, names))
    most = int(left[np.argmax(counts[left])])
    number = int(counts[left].sum())
    if len(looked) < len(rows):
        number = int(np.count_nonzero(_same(first.take(pa.array(rows)), second.take(pa.array(rows)), names)))
    return SpelledOtherwise(
        names, number, len(first), unlike.false_count, (firsts[most].as_py(), seconds[most].as_py())
    )


def long_spelled_otherwise(first: Column, second: Column, longest: int) -> SpelledOtherwise | None:
    """Find the same among texts of which one is longer than will be kept, while both are whole.

    Only pairs of nearly the same length are looked at, which leaves few: spaces at the ends do not count for it.
    """
    if not (pa.types.is_string(first.type) and pa.types.is_string(second.type)):
        return None
    lengths = [pc.binary_length(side) for side in (first, second)]
    if max(pc.max(length).as_py() or 0 for length in lengths) <= longest:
        return None
    long = pc.or_(*(pc.greater(length, longest) for length in lengths))
    rows = pc.fill_null(pc.and_(long, pc.not_equal(first, second)), False)
    if not pc.any(rows).as_py():
        return None
    first, second = first.filter(rows), second.filter(rows)
    sizes = [pc.binary_length(pc.utf8_trim_whitespace(side)) for side in (first, second)]
    near = pc.less_equal(pc.abs(pc.subtract(*sizes)), _NEAR)
    return spelled_otherwise(first.filter(near), second.filter(near))


def together(
    in_parts: Sequence[SpelledOtherwise | None], first: Column | None, second: Column | None
) -> SpelledOtherwise | None:
    """Add up what was found in parts of two columns; both are of one type."""
    parts = [part for part in in_parts if part]
    if not parts or first is None or second is None:
        return None
    names = tuple(name for name in NAMES if any(name in part.names for part in parts))
    already = pc.sum(pc.equal(first, second)).as_py() or 0
    return SpelledOtherwise(names, sum(part.rows for part in parts), len(first), already, parts[0].example)


def _all_that_count(
    first: Column, second: Column, counts: NDArray[np.int64]
) -> tuple[tuple[str, ...], NDArray[np.bool_]]:
    """Tell which pairs are the same where nothing counts, under the better reading of 1,000; give its names too."""
    readings = [tuple(name for name in NAMES if name != other) for other in ("decimal-comma", "thousands")]
    if not any(pc.any(pc.match_substring_regex(side, "[0-9][.,][0-9]")).as_py() for side in (first, second)):
        del readings[1:]
    return max(
        ((names, _same(first, second, names)) for names in readings), key=lambda reading: int(counts[reading[1]].sum())
    )


def _same(first: Column, second: Column, names: Sequence[str]) -> NDArray[np.bool_]:
    return np.asarray(pc.equal(respell(first, names), respell(second, names)))


def _distinct(first: Column, second: Column) -> tuple[Column, Column, NDArray[np.int64]]:
    """Give the distinct pairs, and how often each occurs."""
    firsts, seconds = first.dictionary_encode(), second.dictionary_encode()
    keys = firsts.indices.to_numpy().astype(np.int64) * len(seconds.dictionary) + seconds.indices.to_numpy()
    _, places, counts = np.unique(keys, return_index=True, return_counts=True)
    return first.take(pa.array(places)), second.take(pa.array(places)), counts
