"""Columns of compared files that must hold a number of every answer."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from ..errors import InputError
from ..flips.intervals import Numbers
from ..readers.answers import Column, TaskAnswers
from ..text import quote

TRUTH_VALUES = MappingProxyType({"true": 1.0, "false": 0.0})
"""As files have them."""
_NO_WORDS = MappingProxyType[str, float]({})


def numbers_of(
    side: TaskAnswers, name: str, column: Column, needed: str, words: Mapping[str, float] = _NO_WORDS
) -> Numbers:
    """Read the finite numbers of a column, or words that stand for some.

    Args:
        side: The answers beside which it stands, row by row.
        name: What it is called.
        column: Its values, as texts.
        needed: What it must hold, for people.
        words: What else it may hold, in lower case, and the numbers that these stand for.

    Raises:
        InputError: An answer without a number.
    """
    values = np.empty(len(column))
    for place, text in enumerate(column.to_pylist()):
        plain = (text or "").strip().lower()
        try:
            values[place] = words[plain] if plain in words else float(plain)
        except ValueError:
            values[place] = np.nan
        if not np.isfinite(values[place]):
            raise InputError(
                f"{side.source}: {quote(name)} holds {quote(text)} for id {quote(side.ids[place].as_py())}, but must "
                f"hold {needed} of every answer."
            )
    return values
