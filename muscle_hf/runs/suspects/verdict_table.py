"""The table in which a person says of drawn negative flips whether the new answer is in fact right."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...text import quote
from ..filled_table import cell, check_answers, check_columns, draw_of, id_of, read_rows, write_rows
from ..outcomes import Instance
from .flip_draw import FlipDraw
from .shown import Suspects

VERDICT = "new_answer_right"
"""The column to fill in."""
_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_WRITTEN = ("order", "task", "id", "question", "reference", "old_answer", "new_answer", VERDICT, "draw")
_TEXTS = ("question", "reference", "old_answer", "new_answer")


def write_verdicts(path: Path, suspects: Suspects, draw: FlipDraw) -> None:
    """Write the drawn flips with an empty column for the verdicts; nothing in it says how suspect a flip is."""
    instances = suspects.instances(draw.places)
    several = any(flip.task is not None for flip in draw)
    there = {name for name in _TEXTS if any(getattr(instance, name) is not None for instance in instances)}
    columns = [name for name in _WRITTEN if (name not in _TEXTS or name in there) and (name != "task" or several)]
    rows = (
        vars(instance) | {"order": place, VERDICT: None, "draw": draw.token}
        for place, instance in enumerate(instances, start=1)
    )
    write_rows(path, columns, rows)


def drawn_as(path: Path) -> tuple[int, int]:
    """Give count and seed by which a table was drawn."""
    table = list(read_rows(path))
    if not table:
        raise InputError(f"{path} has no rows; a table that --to-check wrote is needed.")
    check_columns(path, table, ["id", VERDICT, "draw"], "--to-check")
    seed, count, *_ = [*draw_of(path, table).split(":"), "", ""]
    if not (seed.lstrip("-").isdecimal() and count.isdecimal()):
        raise InputError(f"{path}: 'draw' is {quote(draw_of(path, table))}; leave it as --to-check wrote it.")
    return int(count), int(seed)


def read_verdicts(path: Path, suspects: Suspects, draw: FlipDraw) -> dict[tuple[str | None, str | int], bool]:
    """Read the verdicts that were written into a table of these very flips; rows without one may be gone.

    Raises:
        InputError: A table of other flips, or drawn with other features; an id that was not drawn or stands twice,
            other answers than those that were checked, a verdict that is neither true nor false.
    """
    table = list(read_rows(path))
    several = any(flip.task is not None for flip in draw)
    check_columns(path, table, ["id", VERDICT, "draw", *(["task"] if several else [])], "--to-check")
    token = draw_of(path, table)
    if token != draw.token:
        before, now = token.split(":")[2] if token.count(":") == 3 else "other", len(draw.flips)
        differ = f"and now there are {now}"
        if before == str(now):
            differ = "and there are as many now, but they are other ones, or other ones of them are suspect"
        raise InputError(
            f"{path} was drawn from {before} negative flips, {differ}: the answers have changed, or other features "
            "or options were named. Name those of the first time, or draw a new table."
        )
    flips = {(flip.task or "", str(flip.id)): (place, flip) for place, flip in zip(draw.places, draw, strict=True)}
    chosen = _rows_by_flip(path, table, flips, several)
    instances = suspects.instances([flips[key][0] for key in chosen])
    verdicts = {}
    for (key, cells), instance in zip(chosen.items(), instances, strict=True):
        check_answers(path, instance.id, _answers(instance), cells)
        written = cell(cells, VERDICT).lower()
        if written and written not in _WORDS:
            raise InputError(
                f"{path}: {VERDICT} of id {quote(instance.id)} is {quote(cells[VERDICT])}, but must be true (the new "
                "answer is in fact right: the grader made this flip) or false (it is wrong: the update broke it)."
            )
        if written:
            flip = flips[key][1]
            verdicts[flip.task, flip.id] = _WORDS[written]
    return verdicts


def _rows_by_flip(
    path: Path, table: Sequence[Mapping[str, Any]], flips: Mapping[tuple[str, str], Any], several: bool
) -> dict[tuple[str, str], Mapping[str, Any]]:
    chosen: dict[tuple[str, str], Mapping[str, Any]] = {}
    for cells in table:
        key = (cell(cells, "task") if several else "", id_of(cells))
        if key not in flips:
            raise InputError(
                f"{path}: {quote(key[1])} was not drawn; only the rows that --to-check wrote speak for the others. "
                "Did a spreadsheet leave the ids alone?"
            )
        if key in chosen:
            raise InputError(f"{path}: {quote(key[1])} stands more than once; leave one row of it.")
        chosen[key] = cells
    return chosen


def _answers(instance: Instance) -> dict[str, str | None]:
    return {"old_answer": instance.old_answer, "new_answer": instance.new_answer}
