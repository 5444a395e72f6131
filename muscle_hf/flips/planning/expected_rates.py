"""The rates of flips that somebody expects of an update: two of three say all, and what is not said is assumed."""

import math
from typing import Any

from ...errors import InputError
from ..inputs import is_number

_FLIP_RATE = 0.1
"""Share of answers that turn right or wrong, where nobody says."""


def expected_rates(
    flip_rate: Any, change: Any, nfr: Any, margin: float | None, max_nfr: float | None
) -> tuple[float, float, tuple[str, ...]]:
    """Give the expected negative and positive flip rates, and what was assumed for them."""
    for name, value, least in (("flip_rate", flip_rate, 0), ("change", change, -1), ("nfr", nfr, 0)):
        if value is not None and (not is_number(value) or not least <= value <= 1):
            raise InputError(f"{name} is {value!r}, but must be a number from {least} to 1, such as 0.05.")
    assumed = []
    if flip_rate is None and nfr is None:
        if max_nfr and margin is None and change is None:
            nfr = max_nfr / 2
            assumed.append(f"an NFR of half the bound, {nfr:g}")
        else:
            flip_rate = max(_FLIP_RATE, abs(change or 0))
            assumed.append(f"{100 * flip_rate:g} % of the answers flip")
    if change is None and (flip_rate is None or nfr is None):
        change = 0.0
        assumed.append("a neutral update: as many answers break as are repaired")
    if flip_rate is None:
        negative, positive = float(nfr), float(nfr + change)
    elif nfr is None:
        negative, positive = (flip_rate - change) / 2, (flip_rate + change) / 2
    else:
        negative, positive = float(nfr), float(flip_rate - nfr)
        if change is not None and not math.isclose(positive - negative, change, abs_tol=1e-9):
            raise InputError(
                f"an NFR of {nfr:g} and a flip rate of {flip_rate:g} make a change of accuracy of "
                f"{positive - negative:+g}, not {change:+g}: give two of the three."
            )
    if min(negative, positive) < -1e-12 or negative + positive > 1 + 1e-12:
        raise InputError(
            f"the rates contradict each other: an NFR of {negative:g} and a rate of repaired answers of {positive:g}; "
            "both must be from 0, and their sum, the flip rate, at most 1."
        )
    return max(0.0, negative), max(0.0, positive), tuple(assumed)
