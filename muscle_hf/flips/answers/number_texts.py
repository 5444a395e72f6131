"""Numbers and truth values as texts and back, each in one way, and never through a float that would round them.

Columns are Arrow arrays.
"""

from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

Column: TypeAlias = pa.Array

NUMBER = r"^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,9})?$"
"""A number as programs write it; a leading zero makes a code of it, such as 007."""

ANY_NUMBER = r"^[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,9})?$"
"""A number as people may write it."""

LARGEST_FLOAT = 2.0**53
"""From here on a float no longer tells a whole number from its neighbour."""

_COMMAS = r"^[+-]?[0-9]+(?:,[0-9]+)?$"
_MAY_BE_THOUSANDS = r"^[+-]?(?:[0-9]+|[1-9][0-9]{0,2}(?:,[0-9]{3})+)$"

_CANONICAL = r"^(?:0|-?[1-9][0-9]*)$"
_PANDAS_INTEGER = r"^(-?(?:0|[1-9][0-9]*))\.0$"
_PEEK = 1_000
# Beyond so many digits an exponent stays one: 1e999999999 written out would fill the memory.
_MOST_DIGITS = 400


def as_text(column: Column) -> Column:
    """Write a column of numbers or truth values as texts, each in one way; NaN is null."""
    if pa.types.is_floating(column.type):
        return canonical(without_nan(column).cast(pa.string()), NUMBER)
    return column if pa.types.is_string(column.type) else column.cast(pa.string())


def whole_numbers(column: Column) -> Column:
    """Make integers of ids or groups that stand as 1.0, as pandas writes them where there was a gap.

    Only where all of a column are such: texts of a file without types, or floats.
    """
    if pa.types.is_floating(column.type):
        column = without_nan(column)
        whole = pc.and_(pc.equal(column, pc.floor(column)), pc.less(pc.abs(column), LARGEST_FLOAT))
        return column.cast(pa.int64()) if pc.all(whole).as_py() else column
    if not pa.types.is_string(column.type) or column.null_count == len(column):
        return column
    for part in (column[:_PEEK], column):
        if not pc.all(pc.match_substring_regex(part, _PANDAS_INTEGER)).as_py():
            return column
    return pc.replace_substring_regex(column, _PANDAS_INTEGER, r"\1")


def with_decimal_points(column: Column) -> Column | None:
    """Write numbers with decimal commas with points; None where any text is none, or all may have thousands so."""
    if not pa.types.is_string(column.type) or not pc.any(pc.match_substring(column[:_PEEK], ",")).as_py():
        return None
    if not pc.all(pc.match_substring_regex(column, _COMMAS)).as_py():
        return None
    if pc.all(pc.match_substring_regex(column, _MAY_BE_THOUSANDS)).as_py():
        return None
    return pc.replace_substring(column, ",", ".")


def few_distinct(column: Column) -> bool:
    """Tell whether a long column holds so few values that looking at each once is faster."""
    return len(column) > 10 * _PEEK and len(pc.unique(column[:_PEEK])) < _PEEK / 2


def without_nan(column: Column) -> Column:
    """Give a column of floats with null for NaN."""
    return pc.if_else(pc.is_nan(column), None, column)


def canonical(column: Column, pattern: str) -> Column:
    """Write the numbers among texts in one way, without ever making a float of them."""
    done = pc.match_substring_regex(column, _CANONICAL)
    matching = pc.fill_null(pc.and_not(pc.match_substring_regex(column, pattern), done), False)
    if not pc.any(matching).as_py():
        return column
    numbers = column.filter(matching)
    for part, replacement in (
        (r"^\+", ""),
        (r"^(-?)0+([0-9])", r"\1\2"),
        (r"^(-?)\.", r"\10."),
        (r"(\.[0-9]*?)0+$", r"\1"),
        (r"\.$", ""),
        (r"^-0$", "0"),
    ):
        numbers = pc.replace_substring_regex(numbers, part, replacement)
    exponents = pc.match_substring_regex(numbers, "[eE]")
    if pc.any(exponents).as_py():
        written = [_written_out(text) for text in numbers.filter(exponents).to_pylist()]
        numbers = pc.replace_with_mask(numbers, exponents, pa.array(written, pa.string()))
    return pc.replace_with_mask(column, matching, numbers)


def _written_out(text: str) -> str:
    """Write a number without its exponent; with one and without a point where that takes too many digits."""
    mantissa, _, exponent = text.lower().partition("e")
    sign = "-" * mantissa.startswith("-")
    whole, _, fraction = mantissa.removeprefix("-").partition(".")
    digits = (whole + fraction).lstrip("0")
    point = int(exponent) - len(fraction) + len(digits) - len(digits.rstrip("0"))
    digits = digits.rstrip("0")
    before = len(digits) + point
    if not digits:
        return "0"
    if abs(before) > _MOST_DIGITS:
        return f"{sign}{digits}e{point}"
    if point >= 0:
        return f"{sign}{digits}{'0' * point}"
    return f"{sign}{digits[:before]}.{digits[before:]}" if before > 0 else f"{sign}0.{'0' * -before}{digits}"
