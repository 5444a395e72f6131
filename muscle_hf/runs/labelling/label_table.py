"""The table in which people say who is right where two versions disagree: written for them, and read again."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from ...errors import InputError
from ...flips.answers.number_texts import as_text
from ...flips.answers.same_answer import TEXTS, Spelling, of_kind
from ...flips.answers.spelled_otherwise import spelled_otherwise
from ...readers.answers import short, some
from ...text import how_many, quote
from ..filled_table import cell, check_answers, check_columns, draw_of, id_of, lines, read_rows, write_rows
from .disagreements import Disagreement, Disagreements

OLD, NEW, BOTH, NEITHER = RIGHT = ("old", "new", "both", "neither")
"""Which model may be right, as the column `right_model` has it."""

_WRITTEN = ("order", "task", "id", "question", "old_answer", "new_answer", "right_answer", "right_model", "draw")
_NEEDED = ("id", "draw")


class Label(NamedTuple):
    """What somebody wrote beside a disagreement."""

    place: int
    """Of the disagreement in the order, from 0."""
    right: str
    """One of `RIGHT`."""
    answer: str | None
    """The right answer, where that was written."""


def write_table(path: Path, rows: Sequence[Disagreement], draw: str, labels: Iterable[Label] = ()) -> None:
    """Write some disagreements with empty columns for who is right; labels that there are already go into these."""
    known = {given.place: given for given in labels}
    columns = [name for name in _WRITTEN if name not in ("task", "question") or _has(rows, name)]
    write_rows(path, columns, (_filled(row, known.get(row.order - 1), draw) for row in rows))


def _filled(row: Disagreement, given: Label | None, draw: str) -> dict[str, Any]:
    return vars(row) | {
        "right_answer": given and given.answer,
        "right_model": given.right if given and given.answer is None else None,
        "draw": draw,
    }


def read_labels(path: Path, disagreements: Disagreements, *, normalized: bool = False) -> list[Label]:
    """Read what was written into a table that `write_table` made of these very disagreements.

    Args:
        path: The table, in any format of rows; its order does not matter, and rows without a label may be gone.
        disagreements: What the versions disagree on now.
        normalized: Whether it was said what need not count when answers are compared.

    Returns:
        The labels, in the order in which the rows were drawn.

    Raises:
        InputError: Rows that are not of these disagreements, or stand twice; other answers than those that were
            labelled; labels that contradict each other, or say the same as an answer in another spelling.
    """
    found = _places(path, list(read_rows(path)), disagreements)
    rows = disagreements.rows(list(found))
    _check_answers(path, list(zip(rows, found.values(), strict=True)))
    labels, otherwise = [], list[tuple[str, tuple[str | None, str | None]]]()
    for row, cells in zip(rows, found.values(), strict=True):
        pair = disagreements.pairs[disagreements.places[row.order - 1][0]]
        written = _right(path, row, cells, pair.old.spelling)
        if written is None:
            continue
        labels.append(written)
        if written.right == NEITHER and written.answer is not None:
            otherwise.append((written.answer, row.compared))
    if not normalized:
        _refuse_spelling(path, otherwise)
    return sorted(labels)


def counts(labels: Sequence[Label]) -> dict[str, int]:
    """Count labels as `flips.sampling.labelling.from_labels` takes them."""
    right = Counter(given.right for given in labels)
    drawn = max((given.place for given in labels), default=-1) + 1
    return {
        "old_right": right[OLD],
        "new_right": right[NEW],
        "unchanged": right[BOTH] + right[NEITHER],
        "skipped": drawn - len(labels),
    }


def _has(rows: Sequence[Disagreement], column: str) -> bool:
    return any(getattr(row, column) is not None for row in rows)


def _places(path: Path, table: Sequence[Mapping[str, Any]], now: Disagreements) -> dict[int, Mapping[str, Any]]:
    """Find the disagreement of each row."""
    several = len(now.pairs) > 1
    needed = [*_NEEDED, *(["task"] if several else [])]
    check_columns(path, table, needed, "--output")
    draw = draw_of(path, table)
    keys = {_key(now, place, several): place for place in range(len(now))}
    made: dict[int, Mapping[str, Any]] = {}
    twice, unknown = list[str](), list[tuple[str, str]]()
    for row in table:
        key = (cell(row, "task") if several else "", id_of(row))
        place = keys.get(key)
        if place is None:
            unknown.append(key)
        elif place in made:
            twice.append(key[1])
        else:
            made[place] = row
    if unknown:
        there = _all_keys(now, several)
        strangers = [key[1] for key in unknown if key not in there]
        if strangers:
            raise InputError(
                f"{path}: {how_many(len(strangers), 'id')} of the table cannot be found in the files, for instance "
                f"{some(strangers)}. Is it the table of these files, and did a spreadsheet leave the ids alone?"
            )
        agreed = [key[1] for key in unknown]
        raise InputError(
            f"{path}: on {how_many(len(agreed), 'row')} of the table the versions give the same answer now, for "
            f"instance on {some(agreed)}; the table was drawn from other answers or by other ids. Give "
            "--columns as when it was drawn, or draw a new one."
        )
    if twice:
        raise InputError(
            f"{path}: {how_many(len(twice), 'id')} stand{'s' if len(twice) == 1 else ''} more than once, for instance "
            f"{some(twice)}; leave one row of each."
        )
    if draw != now.draw:
        _check_answers(path, list(zip(now.rows(list(made)), made.values(), strict=True)))
        seed, _, rest = draw.partition(":")
        before = rest.partition(":")[0] or "other"
        differ = f"and now there are {len(now)} with seed {now.seed}"
        if (before, seed) == (str(len(now)), str(now.seed)):
            differ = "and there are as many now, but they are other ones"
        raise InputError(
            f"{path} was drawn from {before} disagreements with seed {seed}, {differ}: the answers have "
            "changed, or were read with other options. Draw a new table, or give files and options of the first."
        )
    return dict(sorted(made.items()))


def seed_of(path: Path) -> int | None:
    """Give the seed by which a table was drawn; None where it does not say so."""
    for row in read_rows(path):
        seed, colon, _ = cell(row, "draw").partition(":")
        return int(seed) if colon and seed.lstrip("-").isdecimal() else None
    raise InputError(f"{path} has no rows; a table that --output wrote is needed.")


def _key(now: Disagreements, place: int, several: bool) -> tuple[str, str]:
    task, row = now.places[place]
    return task if several else "", str(now.pairs[task].old.ids[row].as_py())


def _all_keys(now: Disagreements, several: bool) -> set[tuple[str, str]]:
    return {
        (task if several else "", str(key)) for task, pair in now.pairs.items() for key in pair.old.ids.to_pylist()
    }


def _check_answers(path: Path, rows: Sequence[tuple[Disagreement, Mapping[str, Any]]]) -> None:
    """Refuse a table with other answers than the files have."""
    for row, cells in rows:
        check_answers(path, row.id, {"old_answer": row.old_answer, "new_answer": row.new_answer}, cells)


def _right(path: Path, row: Disagreement, cells: Mapping[str, Any], spelling: Spelling | None) -> Label | None:
    """Tell who is right by what was written beside a disagreement; None where that is nothing."""
    model, answer = cell(cells, "right_model").lower(), cell(cells, "right_answer")
    if model and model not in RIGHT:
        raise InputError(
            f"{path}: right_model of id {quote(row.id)} is {quote(model)}, but must be {', '.join(RIGHT[:-1])} or "
            f"{NEITHER}. A right answer goes into right_answer."
        )
    if not answer:
        return Label(row.order - 1, model, None) if model else None
    compared = _as_compared(answer, spelling)
    shown = [(text or "").strip() for text in (row.old_answer, row.new_answer)]
    same = [
        lines(answer) == lines(text) or compared == (key or "").strip()
        for text, key in zip(shown, row.compared, strict=True)
    ]
    right = OLD if same[0] else NEW if same[1] else NEITHER
    if model and model != right:
        raise InputError(
            f"{path}: right_answer of id {quote(row.id)} is {quote(answer)}, by which right_model is {right}, and it "
            f"says {model}; leave one of them empty."
        )
    return Label(row.order - 1, right, answer)


def _as_compared(answer: str, spelling: Spelling | None) -> str:
    """Spell a label as the answers were spelled before they were compared."""
    if spelling is None:
        return short(answer)
    column = as_text(spelling.respell(pa.array([answer], pa.string())))
    if not spelling.typed and spelling.kind != TEXTS:
        column = of_kind(column, spelling.kind)
    return short(column[0].as_py() or "")


def _refuse_spelling(path: Path, labels: Sequence[tuple[str, tuple[str | None, str | None]]]) -> None:
    """Refuse right answers that are one of the two answers but for their spelling."""
    written = pa.array([answer for answer, _ in labels], pa.string())
    for side in (0, 1):
        answers = pa.array([compared[side] for _, compared in labels], pa.string())
        if otherwise := spelled_otherwise(written, answers):
            raise InputError(
                f"{path}: {how_many(otherwise.rows, 'label')} would be right with another spelling "
                f"({', '.join(otherwise.names)}), for instance {quote(otherwise.example[0])} for "
                f"{quote(otherwise.example[1])}. Write it as the answer stands there, or old or new into right_model; "
                "neither, where the spelling makes another answer of it."
            )
