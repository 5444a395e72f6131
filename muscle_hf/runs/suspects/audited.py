"""A negative flip rate, corrected by what a person found of the flips that were drawn for it."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from ...errors import InputError
from ...flips.comparison import Comparison
from ...flips.sampling.audit import AuditedRate, Stratum, from_verdicts
from ...readers.answers import some
from ...text import how_many, quote
from ..outcomes import Outcomes
from .flip_draw import FlipDraw
from .ranking import flip_keys, kind_of

_Key: TypeAlias = tuple[str | None, str | int]


def audited_rate(
    result: Outcomes | Comparison,
    verdicts: Mapping[Any, bool],
    *,
    draw: FlipDraw | None = None,
    level: float | None = None,
) -> AuditedRate:
    """Correct the negative flip rate by verdicts of a person on some of the negative flips.

    A verdict of True says that the new answer is in fact right, so that the grader made this flip; False that it is
    wrong, so that the update broke it. The flips were drawn with known chances, and each verdict counts by the inverse
    of its own (Horvitz and Thompson 1952): the corrected rate is unbiased whatever the model that ranked the suspects
    thinks, and its interval for these very answers is exact, see `AuditedRate`.

    Corrected are negative flips alone. What else a grader may have marked wrongly is taken as it is marked: new
    answers that are marked right and are wrong, which would be flips more, and old answers marked either way.

    Args:
        result: What `compare_runs` gave, or a `Comparison`; tasks with scores are left out.
        verdicts: Id of a negative flip -> whether its new answer is in fact right; of several tasks (task, id). Of a
            `Comparison` its position.
        draw: The flips that were drawn for the verdicts, from `suspect_flips(…).draw(…)`. It may be left out where
            there is a verdict on every negative flip. What was drawn and has no verdict makes the interval wider.
        level: Level of the intervals, by default that of `result`, or 0.95.

    Returns:
        The corrected rate and its intervals.

    Raises:
        InputError: Arguments of another kind; a verdict that is no bool, on what is no negative flip or was not drawn;
            verdicts on some flips without a draw; no verdict; a draw of another comparison.

    Example:
        >>> import muscle_hf
        >>> c = muscle_hf.compare_correct(old=[1] * 10, new=[0] * 4 + [1] * 6)
        >>> audit = muscle_hf.audited_rate(c, {0: True, 1: True, 2: False, 3: True})
        >>> audit.marked_rate, audit.negative_flip_rate.value
        (0.4, 0.1)
    """
    keys, n = flip_keys(result)
    if not hasattr(verdicts, "items"):  # a Series has them as well
        raise InputError(
            f"verdicts is {kind_of(verdicts)}, but must be a mapping of negative flips -> True (the new answer is in "
            "fact right) or False, such as {flip.id: True}; of several tasks {(flip.task, flip.id): True}."
        )
    if draw is not None and not isinstance(draw, FlipDraw):
        raise InputError(
            f"draw is {kind_of(draw)}, but must be the whole draw, just as suspect_flips(…).draw(…) gave it."
        )
    by_id: dict[Any, list[_Key]] = {}
    for marked in keys:
        by_id.setdefault(marked[1], []).append(marked)
    told = {_known(key, by_id): _flag(key, value) for key, value in verdicts.items()}
    if len(told) < len(verdicts):
        raise InputError("two verdicts are on one negative flip, named as id and as (task, id); leave one of them.")
    if keys and not told:
        raise InputError("there are no verdicts; check some of the negative flips first.")
    if draw is None:
        if len(told) < len(keys):
            raise InputError(
                f"there are verdicts on {len(told)} of {how_many(len(keys), 'negative flip')}, and nothing says how "
                "these were chosen; those that look most suspect do not speak for the others. Draw them with "
                "suspect_flips(…).draw(…) and give draw=, or check them all."
            )
        strata = [_stratum(len(keys), list(told.values()), 0)]
    else:
        drawn = {(flip.task, flip.id): draw.stratum(place) for place, flip in zip(draw.places, draw, strict=True)}
        if {(flip.task, flip.id) for flip in draw.flips} != set(keys) or draw.n != n:
            raise InputError("draw is of another comparison, which has other negative flips.")
        if strange := [key for key in told if key not in drawn]:
            raise InputError(
                f"{how_many(len(strange), 'verdict')} {'is' if len(strange) == 1 else 'are'} on flips that were not "
                f"drawn, for instance {some([key[1] for key in strange])}; only those drawn speak for the others."
            )
        strata = []
        for part, size in enumerate(draw.sizes):
            known = [value for key, value in told.items() if drawn[key] == part]
            strata.append(_stratum(size, known, draw.drawn[part] - len(known)))
    clustered = result.by_cluster if isinstance(result, Comparison) else result.cluster
    level = level if level is not None else 0.95 if isinstance(result, Comparison) else result.level
    return from_verdicts(n=n, strata=strata, level=level, independent=clustered is None)


def _stratum(size: int, verdicts: list[bool], skipped: int) -> Stratum:
    graders = sum(verdicts)
    return Stratum(size, len(verdicts) - graders, graders, skipped)


def _flag(key: Hashable, value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise InputError(
            f"the verdict on {quote(key)} is {quote(value)}, but must be True (the new answer is in fact right) or "
            "False."
        )
    return bool(value)


def _known(key: Any, by_id: Mapping[Any, Sequence[_Key]]) -> _Key:
    """Find the flip that a verdict is on, named by its id or as (task, id)."""
    if isinstance(key, tuple) and len(key) == 2 and key in by_id.get(key[1], ()):
        return key
    if isinstance(key, np.generic):
        key = key.item()
    flips = by_id.get(key, ())
    if len(flips) == 1:
        return flips[0]
    if flips:
        raise InputError(f"{quote(key)} is a negative flip of several tasks; name it as (task, id).")
    # Ids of files are often texts that look like numbers.
    alike = next((other for other in by_id if str(other) == str(key)), None)
    hint = "." if alike is None else f"; did you mean {alike!r}?"
    raise InputError(f"there is a verdict on {quote(key)}, which is no negative flip{hint}")
