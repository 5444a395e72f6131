"""Ids in order, and as numbers: told without a hash table of all, which takes longest of a million rows."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from .answers import Column, codes

# So many are looked at before all are.
_PEEK = 1_000
# As many fit into 64 bits.
_DIGITS = 18


def ascending(ids: Column) -> bool:
    """Tell whether each id stands after the one before, shorter texts first; then none stands twice."""
    if ids.null_count or not (pa.types.is_string(ids.type) or pa.types.is_integer(ids.type)):
        return False
    return all(_ascending(part) for part in (ids[:_PEEK], ids))


def _ascending(ids: Column) -> bool:
    before, after = ids[:-1], ids[1:]
    later = pc.less(before, after)
    if pa.types.is_string(ids.type):
        lengths = np.asarray(pc.binary_length(ids))
        later = np.where(lengths[:-1] == lengths[1:], np.asarray(later), lengths[:-1] < lengths[1:])
        return bool(later.all())
    return bool(pc.all(later).as_py())


def numbered(*columns: Column) -> list[NDArray[np.int64]]:
    """Number the ids of columns of one type, without nulls, so that equal numbers, none negative, mean equal ids."""
    numbers = _numbers([column[:_PEEK] for column in columns]) and _numbers(columns)
    if not numbers:
        return codes(*columns)
    low = min(int(column.min()) for column in numbers)
    high = max(int(column.max()) for column in numbers)
    if high - low > 4 * sum(map(len, columns)) + 1024:
        return codes(*columns)
    return [column - low for column in numbers]


def _numbers(columns: Sequence[Column]) -> list[NDArray[np.int64]] | None:
    """Give the number in each id where all are one, or a number after the same beginning; None of others.

    With leading zeros 7 and 07 are two ids and one number, so these have to be of one length.
    """
    if columns[0].type == pa.int64():
        return [np.asarray(column) for column in columns]
    if not pa.types.is_string(columns[0].type):
        return None
    beginning = columns[0][0].as_py().rstrip("0123456789")
    numbers, lengths, zeros = [], set(), False
    for column in columns:
        if not pc.all(pc.starts_with(column, beginning)).as_py():
            return None
        digits = _without(beginning, column)
        if not pc.all(pc.ascii_is_decimal(digits)).as_py():
            return None
        sizes = pc.min_max(pc.binary_length(digits))
        lengths |= {sizes["min"].as_py(), sizes["max"].as_py()}
        zeros |= pc.any(pc.not_equal(digits.filter(pc.starts_with(digits, "0")), "0")).as_py() or False
        if max(lengths) > _DIGITS or (zeros and len(lengths) > 1):
            return None
        numbers.append(np.asarray(digits.cast(pa.int64())))
    return None if zeros and len(lengths) > 1 else numbers


def _without(beginning: str, column: Column) -> Column:
    """Take the beginning that all texts have away."""
    if beginning.isascii() and not any(map(str.isdigit, beginning)):
        # Several times as fast, and the same unless what follows goes on with the same letters.
        left = pc.ascii_ltrim(column, characters=beginning)
        taken = pc.min_max(pc.subtract(pc.binary_length(column), pc.binary_length(left)))
        if taken["max"].as_py() == len(beginning):
            return left
    return pc.utf8_slice_codeunits(column, len(beginning))
