"""What is chosen to be compared: tasks by name, filters for each side and task; whether both sides have one filter."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

from ..errors import InputError
from ..text import listed, quote
from .answers import TaskAnswers
from .lighteval_names import is_same_task

EVERY = "*"
"""In place of a task: all that have no choice of their own."""

NO_FILTER = "none"
"""What lm-evaluation-harness calls the filter of a task that has none of its own."""

FilterChoice: TypeAlias = str | Mapping[str, str] | None
"""A filter of lm-evaluation-harness, or one for each task (`EVERY` for the others); None takes the file's first."""


def choose_tasks(names: Iterable[str], wanted: str | Sequence[str], source: str) -> list[str]:
    """Choose tasks by their names or patterns such as "mmlu_*", in their own order; all where nothing is wanted."""
    names, chosen = list(names), set[str]()
    patterns = [wanted] if isinstance(wanted, str) else list(wanted)
    for pattern in patterns:
        # A name may hold what stands for any text in a pattern.
        matched = (
            [name for name in names if name == pattern]
            or [name for name in names if is_same_task(name, pattern)]
            or [name for name in names if fnmatchcase(name, pattern)]
        )
        if not matched:
            near = difflib.get_close_matches(pattern, names, n=3, cutoff=0.5)
            hint = f"; did you mean {' or '.join(map(quote, near))}?" if near else "."
            raise InputError(f"{source} has no task {quote(pattern)}{hint} It has {listed(names)}.")
        chosen |= set(matched)
    return [name for name in names if name in chosen] if patterns else names


def filter_of(choice: FilterChoice, task: str) -> str | None:
    """Give the filter that was chosen for a task; None for the file's first."""
    return choice if choice is None or isinstance(choice, str) else choice.get(task, choice.get(EVERY))


def filter_text(choice: FilterChoice) -> str:
    """Name the filters of a choice in a message."""
    return listed(map(repr, [choice] if choice is None or isinstance(choice, str) else dict.fromkeys(choice.values())))


def filtered_tasks(choice: FilterChoice) -> list[str]:
    """Name the tasks that a filter was chosen for by name."""
    return [] if choice is None or isinstance(choice, str) else [task for task in choice if task != EVERY]


def both_sides(option: str, value: Any) -> tuple[Any, Any]:
    """Give what was chosen for the old and for the new side: one choice for both, or one for each."""
    if value is None or isinstance(value, str | Mapping):
        return value, value
    sides = tuple(value)
    if len(sides) not in (1, 2):
        raise InputError(
            f"{option} holds {len(sides)} choices; give one for both sides, or two: one for OLD and one for NEW."
        )
    return sides[0], sides[-1]


def parse_filters(texts: Sequence[str]) -> FilterChoice | tuple[FilterChoice, FilterChoice]:
    """Read filters as the command line has them: NAME or TASK:NAME, each given once for both sides or twice.

    Where any is given twice, this is a pair of choices: the first is for OLD.
    """
    choices: dict[str, list[str]] = {}
    for text in texts:
        task, colon, name = text.rpartition(":")
        if not name or (colon and not task):
            raise InputError(f"--filter {text!r} is not of the form NAME or TASK:NAME, such as gsm8k:strict-match.")
        choices.setdefault(task or EVERY, []).append(name)
    for task, names in choices.items():
        if len(names) > 2:
            what = "" if task == EVERY else f" for {task}"
            raise InputError(
                f"--filter was given {len(names)} times{what}; give one for both, or one for OLD and one for NEW."
            )
    old, new = ({task: names[side] for task, names in choices.items()} for side in (0, -1))
    return (old or None) if old == new else (old, new)


def same_filter(old: TaskAnswers, new: TaskAnswers) -> list[str]:
    """Refuse answers that different filters took from the responses; of two that were chosen by name, give a note."""
    first, second = old.filter, new.filter
    if first is None or second is None:
        # A table does not say what took its answers from the responses.
        chosen = first or second
        if chosen is None or chosen.asked or chosen.names == (NO_FILTER,):
            return []
        side, other = (old, new) if first else (new, old)
        raise InputError(
            f"{side.source} is scored by the filter {chosen.name!r} of {listed(map(quote, chosen.names))}, and which "
            f"one took the answers of {other.source} is not known: choose with --filter TASK:NAME "
            "(filter={'TASK': 'NAME'}), with the name of its task."
        )
    if first.known == second.known:
        same = first.name == second.name and (first.known or first.names == second.names)
    else:
        # The only one without a name is none, as far as anyone knows, where the other file has none.
        named, counted = (first, second) if first.known else (second, first)
        same = named.names == (NO_FILTER,) and len(counted.names) == 1
    asked = first.asked and second.asked
    if same and first.known and None not in (first.does, second.does) and first.does != second.does:
        told = f"the filter {first.name!r} of {old.source} is {first.does}, and that of {new.source} {second.does}"
        if asked:
            return [told]
        raise InputError(
            f"{told}: they take other answers from the same responses. Run both evaluations with one version of the "
            f"task; --filter {first.name!r} (filter={first.name!r}) compares them all the same."
        )
    if same:
        return []
    if asked:
        return [f"filters differ, as chosen: {first.name!r} in {old.source} and {second.name!r} in {new.source}"]
    common = [name for name in first.names if name in second.names and first.known and second.known]
    both = f"one that both have with --filter NAME (filter=NAME): {listed(common)}; or " if common else ""
    alone = f"; for this task alone write --filter '{old.task}:NAME'" if old.task == new.task else ""
    raise InputError(
        f"{old.source} is scored by the filter {first.name!r} and {new.source} by {second.name!r}, which take other "
        f"answers from the same responses. Choose {both}one for each with --filter {first.name!r} --filter "
        f"{second.name!r} (filter=(old, new)){alone}."
    )
