"""A comparison within each group of a column."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..errors import InputError
from ..readers.join import Aligned
from ..text import how_many
from .clusters import columns_of
from .measure import Part, Table, adjusted, measure

NO_GROUP = "(none)"
"""Name of the slice of instances that have no value in the column."""


def sliced_by(
    column: str, pairs: Mapping[str, Aligned], tables: Mapping[str, Table], rows: Mapping[str, Any]
) -> tuple[Part, ...]:
    """Compare within each group of a column; right and wrong answers of all tasks together, scores task by task."""
    groups = {
        name: values
        for name, pair in pairs.items()
        if (values := pair.old.slices.get(column, pair.new.slices.get(column))) is not None
    }
    if not groups:
        raise InputError(
            f"no task has a column {column!r} to slice by; there are: {', '.join(columns_of(pairs)) or 'none'}."
        )
    graded = [name for name in groups if not tables[name].has_scores]
    scored = [name for name in groups if tables[name].has_scores]
    parts = []
    for names in [graded, *([name] for name in scored)]:
        if not names:
            continue
        table = Table.pooled([tables[name] for name in names]) if len(names) > 1 else tables[names[0]]
        labels = pa.chunked_array([groups[name] for name in names]).combine_chunks().dictionary_encode()
        numbers = pc.fill_null(labels.indices.cast(pa.int64()), -1).to_numpy()
        # Beside other tasks a group of scores has the name of its task before its own.
        task = names[0] if names is not graded and len(scored) + bool(graded) > 1 else None
        prefix = f"{task}: " if task else ""
        order = np.argsort(numbers, kind="stable")
        for places in np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1):
            number = int(numbers[places[0]])
            group = labels.dictionary[number].as_py() if number >= 0 else None
            name = prefix + (NO_GROUP if group is None else group)
            errors = None if table.errors is None else _errors_of(group, column, [pairs[name] for name in names])
            part = measure(name, table, places, errors, **rows)
            parts.append(replace(part, task=task, group=group))
    return adjusted(sorted(parts, key=lambda part: (-part.comparison.negative_flip_rate, part.name)))


def _errors_of(group: str | None, column: str, pairs: Sequence[Aligned]) -> NDArray[np.bool_]:
    """Tell which errors of the harness belong to a group of a slice column, task after task."""
    flags = []
    for old, new in (pair.errors for pair in pairs if pair.errors):
        labels = old.slices.get(column, new.slices.get(column))
        flags.append(np.array([label == group for label in (labels.to_pylist() if labels else [None] * len(old))]))
    return np.concatenate(flags)


def slice_notes(column: str, pairs: Mapping[str, Aligned]) -> list[str]:
    """Say which instances no slice holds, and where both files disagree about the group of one."""
    notes = []
    for name, pair in pairs.items():
        old, new = pair.old.slices.get(column), pair.new.slices.get(column)
        if old is None and new is None:
            notes.append(
                f"{name}: has no column {column!r}, so its {len(pair.old):,} instances are in none of its slices"
            )
        elif old is not None and new is not None:
            count = len(pair.old) - (pc.sum(pc.equal(old.fill_null(""), new.fill_null(""))).as_py() or 0)
            if count:
                notes.append(
                    f"{name}: {column!r} differs between both files on {how_many(count, 'instance')}; the old "
                    "one counts"
                )
    return notes
