"""Missing answers: instances that one side lacks, or to which a model gave nothing; refused, left out, or counted."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..errors import InputError
from ..text import how_many, listed
from .answers import Column, Positions, TaskAnswers, some

REFUSE, DROP, WRONG, HARNESS_ERROR = MISSING = ("refuse", "drop", "wrong", "harness-error")
"""What may become of missing answers, by name."""

_TREATED = {
    REFUSE: "left out",  # those that are not there, where that is allowed; empty ones are refused
    DROP: "left out",
    WRONG: "counted as wrong",
    HARNESS_ERROR: "counted as errors of the harness, in no rate",
}
_CHOICES = ("first_choices", "second_choices")
_FILLED = ("ids", "references", "documents", "targets", *_CHOICES)


@dataclass(frozen=True)
class Missing:
    """How many answers were missing on each side, and what became of them."""

    treated: str
    """One of `MISSING`."""
    old_absent: int
    """Instances that the old model's evaluation lacks."""
    new_absent: int
    old_empty: int
    """Instances that it has, without an answer or a score."""
    new_empty: int

    def to_dict(self) -> dict[str, Any]:
        """Give everything as a dictionary of plain Python values."""
        return dict(vars(self))

    def notes(self, old: str, new: str) -> list[str]:
        """Say for each source how many were missing, and what became of them."""
        return [
            f"{source}: {absent + empty:,} missing {'answer' if absent + empty == 1 else 'answers'} (not there: "
            f"{absent:,}, empty: {empty:,}) {_TREATED[self.treated]}"
            for source, absent, empty in (
                (old, self.old_absent, self.old_empty),
                (new, self.new_absent, self.new_empty),
            )
            if absent + empty
        ]


def check_name(missing: str | None) -> None:
    """Refuse a name that is none of `MISSING`."""
    if missing is not None and missing not in MISSING:
        raise InputError(f"missing is {missing!r}, but must be one of {listed(MISSING)}.")


def all_instances(old: TaskAnswers, new: TaskAnswers, place: Positions) -> tuple[TaskAnswers, TaskAnswers]:
    """Give both sides a row for every instance that either has: those of the old side, then those of the new alone.

    `place` is for each old row its row on the new side, or -1. A side that lacks an instance has no answer to it.
    """
    alone = np.flatnonzero(~np.isin(np.arange(len(new)), place))
    first = np.concatenate([np.arange(len(old)), np.full(len(alone), -1)])
    second = np.concatenate([place, alone])
    before, after = _take(old, first), _take(new, second)
    return _known_of(before, after), _known_of(after, before)


def _take(side: TaskAnswers, positions: Positions) -> TaskAnswers:
    """Take rows; what is at -1 is null, and a score of nan."""
    lacking = positions < 0
    taken = side.take(np.maximum(positions, 0))
    gone = pa.array(lacking)
    changed: dict[str, Any] = {}
    for name in ("ids", "answers", "references", "documents", "targets", "prompts", "outputs", *_CHOICES):
        if (column := getattr(taken, name)) is not None:
            changed[name] = _blank(column, gone)
    if taken.scores is not None:
        changed["scores"] = np.where(lacking, np.nan, taken.scores)
    if taken.margins is not None:
        changed["margins"] = np.where(lacking, np.nan, taken.margins)
    slices = {name: _blank(column, gone) for name, column in taken.slices.items()}
    rows = None if taken.rows is None else np.where(lacking, -1, taken.rows)
    return replace(taken, **changed, slices=slices, rows=rows)


def _blank(column: Column, gone: Column) -> Column:
    return pc.if_else(gone, pa.scalar(None, column.type), column)


def _known_of(side: TaskAnswers, other: TaskAnswers) -> TaskAnswers:
    """Fill what is known of the instance itself in from the other side."""
    changed: dict[str, Any] = {
        name: pc.coalesce(column, other_column)
        for name in _FILLED
        if (column := getattr(side, name)) is not None and (other_column := getattr(other, name)) is not None
    }
    slices = {
        name: pc.coalesce(column, other.slices[name]) if name in other.slices else column
        for name, column in side.slices.items()
    }
    return replace(side, **changed, slices=slices)


def without_answer(side: TaskAnswers) -> NDArray[np.bool_]:
    """Tell for each instance whether it has no answer: where there are scores no score, otherwise none but spaces."""
    if side.scores is not None:
        return np.isnan(side.scores)
    if side.answers is None:
        return np.zeros(len(side), np.bool_)
    empty = pc.is_null(side.answers)
    if pa.types.is_string(side.answers.type):
        empty = pc.or_(empty, pc.fill_null(pc.equal(pc.utf8_trim_whitespace(side.answers), ""), False))
    return np.asarray(empty)


def treat(
    old: TaskAnswers, new: TaskAnswers, missing: str, absent: tuple[int, int]
) -> tuple[TaskAnswers, TaskAnswers, Missing, tuple[TaskAnswers, TaskAnswers] | None]:
    """Do with missing answers what their name says.

    `absent` says how many instances each side lacked; where they were kept, they stand among the rows by now.

    Returns:
        Both sides, how many were missing, and of errors of the harness the instances that were taken out.
    """
    empty = without_answer(old), without_answer(new)
    counts = [int(np.count_nonzero(flags)) for flags in empty]
    # Where they are kept, those that are not there are among the empty ones.
    there = [count - gone * (missing in (WRONG, HARNESS_ERROR)) for count, gone in zip(counts, absent, strict=True)]
    counted = Missing(missing, *absent, *there)
    if missing == REFUSE and any(counts):
        side, flags, count = next(item for item in zip((old, new), empty, counts, strict=True) if item[2])
        raise InputError(
            f"{side.source} has {count:,} of {how_many(len(side), 'instance')} without an answer, for instance "
            f"{some(side.ids.filter(pa.array(flags)))}. Have them answered, or say what becomes of missing answers: "
            f"--missing {' or '.join(MISSING[1:])} (missing=)."
        )
    either = empty[0] | empty[1]
    if missing == WRONG or not either.any():
        return _wrong(old, empty[0]), _wrong(new, empty[1]), counted, None
    if either.all():
        raise InputError(
            f"nothing is left to compare in {old.source} and {new.source}: of "
            f"{how_many(len(old), 'instance')} each lacks an answer on one side."
        )
    rows = np.flatnonzero(~either)
    taken_out = np.flatnonzero(either)
    errors = (old.take(taken_out), new.take(taken_out)) if missing == HARNESS_ERROR else None
    return old.take(rows), new.take(rows), counted, errors


def _wrong(side: TaskAnswers, empty: NDArray[np.bool_]) -> TaskAnswers:
    """Give the score of a wrong answer to what has none."""
    if side.scores is None or not empty.any():
        return side
    known = side.scores[~empty]
    if side.samples is not None or side.grades or not side.higher_is_better or not np.isin(known, (0.0, 1.0)).all():
        raise InputError(
            f"{side.source}: {how_many(int(np.count_nonzero(empty)), 'score')} ({side.metric}) missing, and "
            f"what a wrong answer would score is not known; --missing {WRONG} (missing=) is for right and wrong "
            f"answers. Leave them out with --missing {DROP}."
        )
    return replace(side, scores=np.where(empty, 0.0, side.scores))
