"""What an update breaks in each class of right answers, in words and tables: the worst first."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

from ..flips.classes import Classes
from ..flips.comparison import Comparison
from ..flips.score_comparison import ScoreComparison
from ..readers.answers import Column
from ..text import listed
from .cells import Cell, Estimate

Compared: TypeAlias = Comparison | ScoreComparison

HEAD = ["right answer", "n", "old right", "broken", "NFR ↓, %"]


class ClassesShown(NamedTuple):
    """What reports show of the classes of a task."""

    task: str
    told: str
    """How many there are, and the rate in which each counts the same."""
    rows: list[list[Cell]]
    """One for each class, as wide as `HEAD`; the worst first."""
    notes: list[str]
    """How many classes are left out, and what is answered and is no class."""


def with_names(compared: Comparison, names: Column | None) -> Comparison:
    """Call classes that were compared by number by their right answers; below 0 is no answer."""
    if not compared.by_class or names is None:
        return compared
    named = compared.by_class.named(lambda number: names[number].as_py() if number >= 0 else None)
    return replace(compared, by_class=named)


def classes_of(compared: Compared) -> Classes | None:
    """Give the classes of a comparison; None where its right answers are none, or not known."""
    classes = compared.by_class if isinstance(compared, Comparison) else None
    return classes or None


def why_no_classes(compared: Compared) -> str:
    """Say why right and wrong answers have no classes."""
    classes = compared.by_class if isinstance(compared, Comparison) else None
    if classes is not None and classes.unfit:
        return classes.unfit
    return (
        "these are known of a single task (its name, or '*'), where an answer is right by being equal to the right one"
    )


def are_shown(compared: Compared) -> bool:
    """Say whether reports show classes: where the largest has many times the rows of the smallest.

    Otherwise the balanced rate says little else than the plain one, and most right answers of one size are the places
    of choices. `to_dict` has the classes of any size.
    """
    classes = classes_of(compared)
    return classes is not None and classes.uneven


def classes_shown(tasks: Mapping[str, Compared], level: float, most: int) -> list[ClassesShown]:
    """Lay out the classes of tasks where these are shown, of each task the worst ones."""
    return [
        _shown(task, compared, classes, level, most)
        for task, compared in tasks.items()
        if are_shown(compared) and (classes := classes_of(compared))
    ]


def _shown(task: str, compared: Compared, classes: Classes, level: float, most: int) -> ClassesShown:
    low, high = compared.confidence_interval("balanced_negative_flip_rate", level)
    balanced, interval = Estimate(100 * classes.balanced, 100 * low, 100 * high).lines()
    told = (
        f"{task}: {len(classes):,} classes of right answers, of {classes.n.min():,} to "
        f"{classes.n.max():,} rows; each counting the same, the update breaks {balanced} % {interval}, "
        f"against {100 * compared.negative_flip_rate:.1f} % of all rows"
    )
    order = classes.worst_first()
    rows: list[list[Cell]] = []
    for place in order[:most]:
        low, high = classes.interval_of(place, level)
        counts = [f"{column[place]:,}" for column in (classes.n, classes.old_right, classes.broken)]
        rate = Estimate(100 * float(classes.rates[place]), 100 * low, 100 * high)
        rows.append([str(classes.names[place]), *counts, rate])
    notes = []
    if rest := order[most:]:
        broken = int(classes.broken[rest].sum())
        notes.append(f"… and {len(rest):,} classes more, in which {broken:,} are broken; --json has all")
    if classes.unseen:
        notes.append(f"Answered, and the right answer of no row: {listed(map(str, classes.unseen))}")
    return ClassesShown(task, told, rows, notes)


def classes_dict(compared: Compared, level: float) -> dict[str, Any]:
    """Give the classes of a task as plain Python values, the worst first; nothing where there are none."""
    classes = classes_of(compared)
    if classes is None:
        return {}
    rows = []
    for place in classes.worst_first():
        low, high = classes.interval_of(place, level)
        rows.append(
            {
                "name": classes.names[place],
                "n": int(classes.n[place]),
                "old_right": int(classes.old_right[place]),
                "negative_flips": int(classes.broken[place]),
                "negative_flip_rate": {"estimate": float(classes.rates[place]), "low": low, "high": high},
            }
        )
    return {"classes": rows, "answers_of_no_class": list(classes.unseen)}
