"""Where two versions disagree, in the order in which to label it; nobody has to know who is right.

The order is one at random, made of seed, task and id alone: it is the same whatever the order of the files, and the
first k rows of it are a simple random sample of all disagreements, for any k that was chosen beforehand.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ...errors import InputError
from ...flips.answers.number_texts import as_text
from ...readers.answers import Column, Run, TaskAnswers
from ...readers.join import Aligned, align
from ...readers.lighteval_names import alike
from ...readers.not_compared import each_task, incomplete, lost
from ...readers.selection import both_sides
from ...readers.sources import read
from ...readers.task_notes import grouped
from ..matching import match_tasks
from ..random_order import digest_of, order_key

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Disagreement:
    """One instance to which the versions give different answers."""

    order: int
    """Its place in the order, from 1."""
    task: str | None
    """None where there is one task alone."""
    id: str | int
    question: str | None
    old_answer: str | None
    """As people are shown it; None where there is none."""
    new_answer: str | None
    compared: tuple[str | None, str | None]
    """Both as they are compared."""

    def to_dict(self) -> dict[str, Any]:
        """Give what people are shown as a dictionary of plain Python values."""
        return {name: value for name, value in vars(self).items() if name != "compared"}


@dataclass(frozen=True, eq=False)
class Disagreements:
    """Where two versions disagree; made by `find_disagreements`."""

    old_name: str
    new_name: str
    sources: tuple[str, str]
    """Where both were read, as it was given."""
    total: int
    """Answers of either version."""
    seed: int
    notes: tuple[str, ...]
    pairs: Mapping[str, Aligned] = field(repr=False)
    """Task -> the answers of both, row by row."""
    places: Sequence[tuple[str, int]] = field(repr=False)
    """Task and row of each disagreement, in the order in which to label them."""
    draw: str
    """Says of a list of rows which disagreements it was drawn from, by which seed."""

    def __len__(self) -> int:
        """Say how many there are."""
        return len(self.places)

    def __str__(self) -> str:
        """Say how many there are, of how many answers."""
        count = f"{len(self):,} of {self.total:,} answers ({100 * len(self) / self.total:.1f} %)"
        return f"The versions disagree on {count}; only there can accuracy change."

    def to_dict(self) -> dict[str, Any]:
        """Give everything but the rows as a dictionary of plain Python values."""
        return {
            "schema": "muscle_hf.disagreements",
            "schema_version": SCHEMA_VERSION,
            "old": {"name": self.old_name, "source": self.sources[0]},
            "new": {"name": self.new_name, "source": self.sources[1]},
            "total": self.total,
            "disagreements": len(self),
            "draw": self.draw,
            "notes": list(self.notes),
        }

    def rows(self, places: Sequence[int]) -> list[Disagreement]:
        """Read some of them with their texts, by their places in the order from 0."""
        made: dict[int, Disagreement] = {}
        for task, pair in self.pairs.items():
            chosen = [place for place in places if self.places[place][0] == task]
            rows = np.array([self.places[place][1] for place in chosen], np.int64)
            if not len(rows):
                continue
            ids = pair.old.ids.take(pa.array(rows)).to_pylist()
            compared = zip(*(_texts_of(side, rows) for side in (pair.old, pair.new)), strict=True)
            texts = zip(pair.old.read_texts(rows), pair.new.read_texts(rows), strict=True)
            for place, key, answers, (old, new) in zip(chosen, ids, compared, texts, strict=True):
                made[place] = Disagreement(
                    order=place + 1,
                    task=task if len(self.pairs) > 1 else None,
                    id=key if isinstance(key, str) else int(key),
                    question=old.question if old.question is not None else new.question,
                    old_answer=answers[0] if old.answer is None else old.answer,
                    new_answer=answers[1] if new.answer is None else new.answer,
                    compared=answers,
                )
        return [made[place] for place in places]


def find_disagreements(
    old: str | Path,
    new: str | Path,
    *,
    seed: int = 0,
    tasks: str | Sequence[str] = (),
    allow_missing: bool = False,
    **reading: Any,
) -> Disagreements:
    """Find where two versions give different answers, and put these in the order in which to label them.

    Args:
        old: Answers of the old version: anything that `read` takes. Right answers and scores of a table are left out.
        new: Answers of the new version to the same instances.
        seed: Of the order.
        tasks: The tasks to look at, by their names or patterns; all if none is named.
        allow_missing: Take the instances and tasks that both have.
        reading: Options of `read` for both; `run` and `filter` may be pairs: old and new.

    Returns:
        The disagreements. Answers that are not there, or are empty, are the same.

    Raises:
        InputError: What `read` or a join by id refuses; scores alone, or several sampled answers to an instance.
    """
    chosen = [both_sides(name, reading.pop(name, None)) for name in ("run", "filter")]
    first, second = alike(
        [
            read(source, tasks=tasks, answers_only=True, run=run, filter=filtered, **reading)
            for source, run, filtered in zip((old, new), *chosen, strict=True)
        ]
    )
    matched, notes, _, not_compared = match_tasks(first, second)
    pairs, not_compared = each_task(
        matched, lambda name: _with_answers(*matched[name], allow_missing=allow_missing), not_compared
    )
    if lost(not_compared) and not allow_missing:
        raise incomplete(lost(not_compared), len(pairs))
    notes = [*first.notes, *second.notes, *notes, *grouped({name: list(pair.notes) for name, pair in pairs.items()})]
    notes += [f"{name} is left out: {reason}" for name, reason in sorted(not_compared.items())]
    keyed = sorted(_keyed(pairs, seed))
    return Disagreements(
        *_names(first, second),
        sources=(first.source, second.source),
        total=sum(len(pair.old) for pair in pairs.values()),
        seed=seed,
        notes=tuple(dict.fromkeys(notes)),
        pairs=pairs,
        places=[(task, row) for _, task, row in keyed],
        draw=f"{seed}:{len(keyed)}:{_digest(pairs)}",
    )


def _names(old: Run, new: Run) -> tuple[str, str]:
    return (old.name, new.name) if old.name != new.name else (old.source, new.source)


def _with_answers(old: TaskAnswers, new: TaskAnswers, *, allow_missing: bool) -> Aligned:
    """Join a task, and refuse one that holds scores alone."""
    for side in (old, new):
        if side.answers is None:
            raise InputError(
                f"{side.source} holds scores, and no answer to each instance that another could differ from."
            )
    return align(old, new, allow_missing=allow_missing)


def _differing(pair: Aligned) -> NDArray[np.int64]:
    """Give the rows in which the answers differ."""
    old, new = (_given(side.answers) for side in (pair.old, pair.new))
    same = pc.or_(pc.and_(pc.is_null(old), pc.is_null(new)), pc.fill_null(pc.equal(old, new), False))
    return np.flatnonzero(~np.asarray(same))


def _given(answers: Column | None) -> Column:
    """Make null of answers that are empty."""
    if answers is None or not pa.types.is_string(answers.type):
        return answers
    return pc.if_else(pc.equal(pc.utf8_trim_whitespace(answers), ""), None, answers)


def _texts_of(side: TaskAnswers, rows: NDArray[np.int64]) -> list[str | None]:
    texts: list[str | None] = as_text(_given(side.answers).take(pa.array(rows))).to_pylist()
    return texts


def _keyed(pairs: Mapping[str, Aligned], seed: int) -> Iterator[tuple[bytes, str, int]]:
    """Give each disagreement with the key of its place in the order: a digest of seed, task and id."""
    for task, pair in pairs.items():
        rows = _differing(pair)
        name = task if len(pairs) > 1 else None
        for row, key in zip(rows.tolist(), pair.old.ids.take(pa.array(rows)).to_pylist(), strict=True):
            yield order_key(seed, name, key), task, row


def _digest(pairs: Mapping[str, Aligned]) -> str:
    """Give a digest of all disagreements, with both answers, whatever the order of the files."""
    lines = []
    for task, pair in pairs.items():
        rows = _differing(pair)
        columns = [_texts_of(side, rows) for side in (pair.old, pair.new)]
        ids = pair.old.ids.take(pa.array(rows)).to_pylist()
        name = task if len(pairs) > 1 else ""
        lines += [repr((name, str(key), *both)) for key, *both in zip(ids, *columns, strict=True)]
    return digest_of(sorted(lines))
