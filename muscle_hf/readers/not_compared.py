"""Tasks that cannot be compared: each is told with its reason, and none stands in the way of the others."""

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from ..errors import InputError
from ..text import listed

_Made = TypeVar("_Made")
_TOLD = 3  # so many reasons go into one message


class WithoutNumbers(str):
    """Why a task of corpus scores cannot be compared: no run of it has a number for each instance, so none is lost."""


def each_task(
    names: Iterable[str],
    make: Callable[[str], _Made],
    already: Mapping[str, str] | None = None,
    *,
    none: str = "none of the tasks can be compared",
) -> tuple[dict[str, _Made], dict[str, str]]:
    """Make something of each task; a task where that fails gets its reason in place of it.

    Where nothing was made of any, that is an error: the task's own, of its own class, where it is the only one, or all
    say the same; otherwise one that begins with `none`.
    """
    made: dict[str, _Made] = {}
    errors: dict[str, InputError | OSError] = {}
    for name in names:
        try:
            made[name] = make(name)
        except (InputError, OSError) as error:
            errors[name] = error
    reasons = {**(already or {}), **{name: _reason(error) for name, error in errors.items()}}
    if reasons and not made:
        if not already and len({str(error) for error in errors.values()}) == 1:
            raise next(iter(errors.values()))
        raise InputError(f"{none}. {_told(reasons)}")
    return made, reasons


def incomplete(reasons: Mapping[str, str], compared: int) -> InputError:
    """Say that a comparison lacks tasks, and how to accept that."""
    return InputError(
        f"{len(reasons)} of {compared + len(reasons)} tasks not compared. {_told(reasons)} --allow-missing "
        "(allow_missing=True) accepts that, and --tasks (tasks=) names the tasks to compare."
    )


def lost(reasons: Mapping[str, str]) -> dict[str, str]:
    """Give the tasks that ought to have been compared, with the reasons: all but those of corpus scores."""
    return {name: reason for name, reason in reasons.items() if not isinstance(reason, WithoutNumbers)}


def _reason(error: InputError | OSError) -> str:
    """Say why, without the place where the error knows both apart."""
    text = " ".join(str(getattr(error, "reason", error)).split())
    return WithoutNumbers(text) if getattr(error, "of_any_run", False) else text


def _told(reasons: Mapping[str, str]) -> str:
    if len(reasons) > _TOLD:
        reasons = {f"{listed(reasons)}. The first": next(iter(reasons.values()))}
    return " ".join(f"{name}: {reason}{'' if reason[-1:] in '.?' else '.'}" for name, reason in reasons.items())
