"""When may an evaluation stop that is looked at while it grows?

Who looks at p after every hundred answers, and stops at the first one below 0.05, calls far more than 5 % of neutral
updates broken or better. A Bayes factor may be looked at as often as one likes: under a neutral update it exceeds a
number b, however many answers there will be, with a probability of at most 1 / b (Ville 1939; as a rule to stop by
Robbins 1970). `benchmarks/decide.py` works out how often it does, and how often real changes are found.
"""

import math

from ...errors import InputError
from ..coin import CoinFlips
from ..inputs import is_number

BROKEN, KEPT, CANNOT_TELL = "broken", "kept", "cannot tell"


def check_stop_at(at: object) -> None:
    """Refuse a Bayes factor that nobody would stop at."""
    if not is_number(at) or at <= 1:  # type: ignore[operator]
        raise InputError(
            f"the Bayes factor to stop at is {at!r}, but must be a number above 1, such as 20: of neutral updates at "
            "most 1 in 20 is then stopped by."
        )


def stopping_verdict(flips: CoinFlips, at: float) -> str:
    """Tell from a Bayes factor whether an evaluation may stop, and with what.

    Args:
        flips: The flips so far, weighed; two-sided.
        at: The Bayes factor to stop at, above 1.

    Returns:
        "broken": stop, the update breaks more than it repairs. "kept": stop, it repairs more than it breaks. "cannot
        tell": go on. Both claims together err in at most 1 / at of neutral updates, however often one looks.

    Raises:
        InputError: `at` is no number above 1.

    Example:
        >>> from muscle_hf.flips.coin import coin_flips
        >>> from muscle_hf.flips.planning.stopping import stopping_verdict
        >>> [stopping_verdict(coin_flips(*flips), 20) for flips in ((11, 1), (8, 4), (2, 16))]
        ['broken', 'cannot tell', 'kept']
    """
    check_stop_at(at)
    if flips.log_bayes_factor < math.log(at):
        return CANNOT_TELL
    return BROKEN if flips.negative > flips.positive else KEPT
