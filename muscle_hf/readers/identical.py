"""Two runs that are one: outputs that two models cannot share, and whether old and new share them.

What can tell: log-likelihoods (no two models give the same digits), long answers, and scores that are no simple
fractions. Letters, labels and other short answers cannot: two good models agree on them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..text import listed
from .answers import Column, TaskAnswers
from .digests import are_long
from .join import Aligned

# Scores such as 2/3 and 0.85 are shares of a few words or samples, and common to many models.
_DENOMINATORS = range(11, 21)  # which have those up to 10 among their divisors
_ROUNDED = 1e-4
_TOLD = 3  # so many tasks are told with their counts


class _Rule(NamedTuple):
    least: int
    """So many rows have to be able to tell."""
    noted: float
    """From this share of identical ones on, a note says so."""
    share: float
    """From this share on, old and new are one run."""
    name: str


_RULES = {
    # Two models share none; a run that was killed leaves a cache with some for the next one.
    "likelihoods": _Rule(5, 0.2, 0.9, "log-likelihoods"),
    # A model and its 8-bit form agree on many long answers, but not on nearly all.
    "answers": _Rule(10, 0.95, 0.95, "long answers"),
    "scores": _Rule(10, 0.95, 0.95, "scores"),
}


@dataclass(frozen=True)
class Identical:
    """A task on which old and new are one and the same run."""

    task: str
    what: str
    """What is identical: "source", "likelihoods", "answers" or "scores"."""
    rows: int
    """Rows that can tell two models apart; where the source is one, all."""
    identical: int
    """Those of them that are identical to the last bit."""
    message: str
    """One line that says so."""
    in_part: bool = False
    """Whether these are too few for one run, and too many for two models."""

    def to_dict(self) -> dict[str, Any]:
        """Give everything but `in_part` as a dictionary of plain Python values."""
        return {name: value for name, value in vars(self).items() if name != "in_part"}


def one_run(items: Sequence[Identical], tasks: int) -> str:
    """Say loudly that old and new are one, on which of the compared tasks, and how to accept that."""
    where = f" on {len(items)} of {tasks} tasks" if len(items) < tasks else ""
    told = ". ".join(item.message for item in items[:_TOLD])
    more = f". So are {listed(item.task for item in items[_TOLD:])}" if len(items) > _TOLD else ""
    why = ""
    if any(item.what != "source" for item in items):
        why = (
            " Two models do not share these: a cache that both runs used (--use_cache), one model evaluated twice, or "
            "a copied file does that."
        )
    return (
        f"OLD AND NEW ARE ONE RUN{where}, so no figure tells of an update there. {told}{more}.{why} --allow-identical "
        "(allow_identical=True) accepts that."
    )


def find_identical(pairs: Mapping[str, Aligned], *, one_source: bool = False) -> tuple[Identical, ...]:
    """Find the tasks on which old and new share what two models cannot share, also where they share a part."""
    items = (identical(name, pair.old, pair.new, one_source=one_source) for name, pair in pairs.items())
    return tuple(item for item in items if item is not None)


def identical(task: str, old: TaskAnswers, new: TaskAnswers, *, one_source: bool = False) -> Identical | None:
    """Tell whether two runs of a task, row by row about the same instances, are one and the same.

    A digest that stands on several rows is that of a canned answer, and tells nothing where it is identical.
    """
    if _one_file(old.source, new.source) or (one_source and old.source == new.source):
        if not _same_content(old, new):
            return None  # read in two ways on purpose, such as by two filters
        text = f"{task}: {old.source} is compared with itself"
        return Identical(task, "source", len(old), len(old), text)
    for what, values, telling, same in _evidence(old, new):
        rule = _RULES[what]
        rows, count = int(np.count_nonzero(telling)), int(np.count_nonzero(same))
        # Canned answers lower both numbers, and the share.
        if count < rule.least or count < rule.noted * rows:
            continue
        repeated = _repeats(values.filter(pa.array(same)))
        rows, count = rows - repeated, count - repeated
        if count >= rule.least and count >= rule.noted * rows:
            in_part = count < rule.share * rows
            text = f"{task}: the {rule.name} of {count:,} of {rows:,} rows are identical to the last bit"
            text += ", which two models do not share: did both use one cache?" if in_part else ""
            return Identical(task, what, rows, count, text, in_part)
    return None


_Evidence: TypeAlias = tuple[str, Column, NDArray[np.bool_], NDArray[np.bool_]]


def _evidence(old: TaskAnswers, new: TaskAnswers) -> Iterator[_Evidence]:
    """Give what can tell models apart: its kind, the old values, the rows that can, and those that are the same."""
    if old.outputs is not None and new.outputs is not None:
        if old.likelihoods == new.likelihoods:
            # What only one side can tell is a difference.
            telling = _true(pc.or_(pc.is_valid(old.outputs), pc.is_valid(new.outputs)))
            same = telling & _true(pc.equal(old.outputs, new.outputs))
            yield "likelihoods" if old.likelihoods else "answers", old.outputs, telling, same
        return
    if old.answers is not None and new.answers is not None:
        telling = are_long(old.answers, old.references) | are_long(new.answers, new.references)
        if telling.any():
            yield "answers", old.answers, telling, telling & _true(pc.equal(old.answers, new.answers))
    if old.scores is not None and new.scores is not None and old.samples is None and new.samples is None:
        same = old.scores == new.scores
        # Looked at only where it may matter: this takes longest.
        if np.count_nonzero(same) >= _RULES["scores"].least:
            telling = _odd(old.scores) & np.isfinite(new.scores)
            yield "scores", pa.array(old.scores), telling, telling & same


def _true(mask: Column) -> NDArray[np.bool_]:
    return np.asarray(pc.fill_null(mask, False))


def _repeats(values: Column) -> int:
    """Count the rows whose value stands on several of them."""
    counts = np.bincount(np.asarray(values.dictionary_encode().indices)) if len(values) else np.zeros(0, np.int64)
    return int(counts[counts > 1].sum())


def _odd(scores: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell which scores are no simple fraction, nor one in percent."""
    places = np.flatnonzero(np.isfinite(scores))
    for scale in (1.0, 0.01):
        for denominator in _DENOMINATORS:
            parts = scores[places] * (scale * denominator)
            places = places[np.abs(parts - np.rint(parts)) > _ROUNDED * denominator]
    odd = np.zeros(len(scores), np.bool_)
    odd[places] = True
    return odd


def _same_content(old: TaskAnswers, new: TaskAnswers) -> bool:
    """Tell whether both sides hold the same scores and answers."""
    if not np.array_equal(old.values(), new.values()):
        return False
    return old.answers is None or new.answers is None or bool(old.answers.equals(new.answers))


def _one_file(first: str, second: str) -> bool:
    """Tell whether two sources, as messages name them, are one file, or one column of it."""
    parts = [(text.rpartition(":")[0], text.partition("@")[0]) for text in (first, second)]
    for left, right in ((first, second), *zip(*parts, strict=True)):
        if left and right and first.removeprefix(left) == second.removeprefix(right):
            try:
                if Path(left).samefile(right):
                    return True
            except (OSError, ValueError):  # not both are files
                continue
    return False
