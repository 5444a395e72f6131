"""Which instances of compared runs belong together: by a column, or, where none is named, a hint that some do."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..errors import InputError
from ..readers.answers import Column, TaskAnswers, codes, some
from ..readers.join import Aligned
from ..text import listed, quote
from .measure import Table

Features: TypeAlias = tuple[Mapping[str, Column], Mapping[str, Column]]
"""Columns of the old and of the new answers."""

# Questions that stand twice are told from this share of instances on; a data set with a few is no reason to ask.
_TOLD_FROM = 0.05
# The texts of so few instances are read in no time, to see whether questions stand twice.
_READ_UP_TO = 10_000


def with_clusters(
    tables: Mapping[str, Table], pairs: Mapping[str, Aligned], column: str
) -> tuple[dict[str, Table], list[str]]:
    """Number the clusters of all tasks by a column, and give notes of what has to be known.

    One label is one cluster, in whichever task it stands. Where a task has no such column, each of its instances is a
    cluster of its own.

    Raises:
        InputError: No task has the column, instances have no value in it, or both files differ on one.
    """
    known = {name: labels for name, pair in pairs.items() if (labels := _labels(name, pair, column)) is not None}
    if not known:
        there = listed(map(quote, columns_of(pairs))) or "none"
        raise InputError(f"no task has a column {quote(column)} to cluster by; there are: {there}.")
    failures = {name: pair.errors for name, pair in pairs.items() if name in known and pair.errors}
    errors = {name: _labels(name, Aligned(*sides), column) for name, sides in failures.items()}
    numbers = iter(codes(*known.values(), *(labels for labels in errors.values() if labels is not None)))
    numbered = {name: next(numbers) for name in known}
    of_errors = {name: next(numbers) for name, labels in errors.items() if labels is not None}
    used = sum(map(len, known.values())) + sum(map(len, of_errors.values()))
    found, notes = {}, []
    for name, table in tables.items():
        if name not in known:
            notes.append(f"{name}: has no column {column!r}, so each of its instances is a cluster of its own")
        clusters, used = _taken(numbered.get(name), len(table), used)
        failed, used = _taken(of_errors.get(name), 0 if table.errors is None else len(table.errors[0]), used)
        found[name] = replace(table, cluster=column, clusters=clusters, error_clusters=failed)
    shared = len(known) > 1 and sum(map(_count, numbered.values())) - _count(np.concatenate([*numbered.values()]))
    if shared:
        notes.append(
            f"{shared:,} values of {column!r} stand in several tasks and are one cluster each; where they mean "
            "something else in each task, write the task's name before them"
        )
    return found, notes


def columns_of(pairs: Mapping[str, Aligned]) -> list[str]:
    """Name the columns that any task has, on either side."""
    return list(dict.fromkeys(name for pair in pairs.values() for name in (*pair.old.columns, *pair.new.columns)))


def without_column(pairs: Mapping[str, Aligned], column: str) -> dict[str, Aligned]:
    """Leave the column out of what instances are sliced by."""

    def left(side: TaskAnswers) -> TaskAnswers:
        return replace(side, slices={name: labels for name, labels in side.slices.items() if name != column})

    return {name: replace(pair, old=left(pair.old), new=left(pair.new)) for name, pair in pairs.items()}


def set_aside(
    pairs: Mapping[str, Aligned], features: Sequence[str], others: Sequence[str | None]
) -> tuple[dict[str, Features], dict[str, Aligned]]:
    """Give the columns that are features of answers, and the answers without those that are nothing else."""
    if not features:
        return {}, dict(pairs)
    held: dict[str, Features] = {
        name: (_chosen(pair.old, features), _chosen(pair.new, features)) for name, pair in pairs.items()
    }
    left = dict(pairs)
    for column in features:
        left = left if column in others else without_column(left, column)
    return held, left


def _chosen(side: TaskAnswers, columns: Sequence[str]) -> dict[str, Column]:
    return {name: side.slices[name] for name in columns if name in side.slices}


def repeats(pairs: Mapping[str, Aligned]) -> list[str]:
    """Tell of each task with one question under several ids, which test and intervals take for independent."""
    notes = []
    for name, pair in pairs.items():
        side = pair.old if pair.old.documents is not None else pair.new
        # Sampled answers to one question stand under one id.
        if side.samples is not None:
            continue
        count = len(side) - (_distinct_questions(pair.old) if side.documents is None else _distinct(side.documents))
        if count >= max(1, _TOLD_FROM * len(side)):
            columns = f"; there are {listed(map(quote, side.columns))}" if side.columns else ""
            notes.append(
                f"{name}: {count:,} of {len(side):,} questions stand under another id too, and intervals and p take "
                "each as independent. If answers to one belong together, name a column that says so with --cluster "
                f"COLUMN (cluster=){columns}"
            )
    return notes


def _labels(task: str, pair: Aligned, column: str) -> Column | None:
    """Give the cluster of each instance, where one side has the column or both agree."""
    old, new = pair.old.slices.get(column), pair.new.slices.get(column)
    labels = old if old is not None else new
    if labels is None:
        return None
    if old is not None and new is not None:
        differ = np.flatnonzero(pc.fill_null(pc.not_equal(old, new), False).to_numpy(zero_copy_only=False))
        if len(differ):
            key, first, second = (quote(values[int(differ[0])].as_py()) for values in (pair.old.ids, old, new))
            raise InputError(
                f"{task}: {column!r} differs between {pair.old.source} and {pair.new.source} on {len(differ):,} of "
                f"{len(old):,} ids, for instance {key} ({first} and {second}), so nobody knows which belong together. "
                "Write the same into both files."
            )
        labels = pc.coalesce(old, new)
    if labels.null_count:
        lacking = pair.old.ids.filter(pc.is_null(labels))
        raise InputError(
            f"{task}: {column!r} is empty for {len(lacking):,} of {len(labels):,} ids, for instance {some(lacking)}; "
            "every instance needs a cluster. Give one that stands alone a value of its own, such as its id."
        )
    return labels


def _taken(numbers: NDArray[np.int64] | None, count: int, used: int) -> tuple[NDArray[np.int64], int]:
    """Give the numbers, or where there are none new ones, and how many are used then."""
    if numbers is not None:
        return numbers, used
    return np.arange(used, used + count), used + count


def _count(numbers: NDArray[np.int64]) -> int:
    return int(np.count_nonzero(np.bincount(numbers)))


def _distinct(column: Column) -> int:
    return int(pc.count_distinct(column).as_py())


def _distinct_questions(side: TaskAnswers) -> int:
    """Count the questions of a small table that has them; every instance is one where that is not known."""
    if "question" not in side.columns or side.texts is None or len(side) > _READ_UP_TO:
        return len(side)
    questions: Sequence[str | None] = [text.question for text in side.read_texts(np.arange(len(side)))]
    return len(side) if None in questions else _distinct(pa.array(questions, pa.string()))
