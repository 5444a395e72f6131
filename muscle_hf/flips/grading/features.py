"""Columns of features, as users have them: taken as one table of floats with names, or refused with the column."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ConfigurationError, InputError
from ..intervals import Numbers

INTERCEPT = "intercept"
# A column whose distance from the others is this share of its spread is made of them; float32 rounds by 1e-7.
_DEPENDENT = 1e-6


@dataclass(frozen=True)
class Features:
    """Columns of one part of a model, float64, (n, columns), with their names."""

    part: str
    names: tuple[str, ...]
    values: Numbers

    def standardized(self) -> tuple[Numbers, Numbers]:
        """Give the columns with mean 0 and spread 1 behind a column of ones, and the way back.

        The second array, (columns + 1, columns + 1), makes of the coefficients of those the coefficients of the
        columns as they were, the intercept first.
        """
        means, spreads = self.values.mean(0), self.values.std(0)
        back = np.diag([1.0, *(1 / spreads)])
        back[0, 1:] = -means / spreads
        return np.column_stack([np.ones(len(self.values)), (self.values - means) / spreads]), back


def take_features(part: str, columns: Any, n: int) -> Features:
    """Take n rows of features: an array, (n, columns) or (n,), or a mapping or data frame of name -> column.

    Raises:
        InputError: No column, another number of rows, what is no finite number, a column that never changes.
        ConfigurationError: A column that is a linear combination of others of the same part.
    """
    if isinstance(columns, Mapping) or hasattr(columns, "keys"):
        named = {str(name): np.asarray(columns[name]) for name in columns.keys()}  # noqa: SIM118 - data frames too
    else:
        table = np.asarray(columns)
        if table.ndim not in (1, 2):
            raise InputError(f"{part} has shape {table.shape}, but must be (rows, columns) or a mapping of columns")
        table = table[:, None] if table.ndim == 1 else table
        named = {f"{part}[{place}]": table[:, place] for place in range(table.shape[1])}
    if not named:
        raise InputError(f"{part} has no column; give at least one feature")
    if INTERCEPT in named:
        raise InputError(f"{part} has a column {INTERCEPT!r}, and each part has an intercept of its own; rename it")
    features = Features(part, tuple(named), np.column_stack([_column(part, *item, n) for item in named.items()]))
    _refuse_dependent(features)
    return features


def own_columns(features: Features, beside: Features) -> tuple[str, ...]:
    """Name the columns of one part that are no linear combination of those of another part."""
    base, _ = beside.standardized()
    columns, _ = features.standardized()
    places = range(1, columns.shape[1])
    return tuple(features.names[place - 1] for place in places if independent(base, columns[:, [place]]))


def shared_columns(columns: Numbers, beside: Numbers) -> Numbers:
    """Give a basis of what both tables can say, the ones first; each table has a column of ones before the others."""
    directions, _ = np.linalg.qr(beside)
    rest = columns[:, 1:]
    for _ in range(2):  # since one pass leaves what rounding makes
        rest = rest - directions @ (directions.T @ rest)
    _, sizes, ways = np.linalg.svd(rest, full_matrices=False)
    is_shared = sizes <= _DEPENDENT * math.sqrt(len(columns))
    return np.column_stack([columns[:, 0], columns[:, 1:] @ ways[is_shared].T])


def independent(base: Numbers, columns: Numbers) -> list[int]:
    """Choose the columns, of spread 1 or 0, that are no linear combination of the base and of those chosen before."""
    directions, _ = np.linalg.qr(base)
    chosen = []
    for place, column in enumerate(columns.T):
        # Twice, since one pass leaves what rounding makes.
        rest = column - directions @ (directions.T @ column)
        rest = rest - directions @ (directions.T @ rest)
        size = float(np.linalg.norm(rest))
        if size > _DEPENDENT * math.sqrt(len(column)):
            directions = np.concatenate([directions, (rest / size)[:, None]], axis=1)
            chosen.append(place)
    return chosen


def _column(part: str, name: str, values: NDArray[Any], n: int) -> Numbers:
    if values.shape != (n,):
        raise InputError(
            f"The {part} column {name!r} has shape {values.shape}, and there are {n} labels: give one number a row"
        )
    try:
        column = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(
            f"The {part} column {name!r} holds {values.tolist()[0]!r}, but must hold numbers; make a column of 0 and "
            "1 for each class of a text"
        ) from None
    wrong = np.flatnonzero(~np.isfinite(column))
    if len(wrong):
        raise InputError(
            f"Row {wrong[0]} of the {part} column {name!r} is {float(column[wrong[0]])!r} ({len(wrong)} such in all), "
            "but every feature must be finite: give what was not measured a number, and mark it in a column of its own"
        )
    if np.ptp(column) == 0:
        raise InputError(
            f"The {part} column {name!r} is {float(column[0]):g} in every row, so nothing can be learned from it: "
            "leave it out (the intercept is there already)"
        )
    return column


def _refuse_dependent(features: Features) -> None:
    columns, _ = features.standardized()
    chosen = independent(columns[:, :1], columns[:, 1:])
    for place, name in enumerate(features.names):
        if place not in chosen:
            raise ConfigurationError(
                f"not identified: the {features.part} column {name!r} is a linear combination of "
                f"{', '.join(map(repr, features.names[:place]))}, so that no data tell their coefficients apart; "
                "leave one of them out"
            )
