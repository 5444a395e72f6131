"""Data frames of inspect_ai's samples (`samples_df`), as CSV, Parquet or JSON: a row for each sample and epoch.

Columns `score_<scorer>` hold letters, numbers or, of scorers with several values, JSON; `metadata_<field>` what can be
sliced by. One frame may hold many logs, each with an `eval_id`.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import PurePosixPath
from typing import Any, TypeAlias

import pyarrow as pa

from ...errors import InputError
from ...text import listed
from ..answers import TaskAnswers
from ..not_compared import each_task
from .columnar import Csv, Parquet
from .format import About, Format, Unread, task_name
from .head import Head
from .inspect_ai import FILE, scores_of
from .records import Record, answers_of

_NEEDED = "rows of inspect_ai's samples_df"
_SCORE, _FIELD = "score_", "metadata_"
# What is told of a score in columns of their own, beside its value; and figures of a whole log.
_DETAIL = re.compile(r"(?P<score>.+)_(answer|explanation|metadata|reason|accuracy|mean|(bootstrap_)?std(err)?|var)")
_OF_THE_LOG = "headline_"

_COLUMNS = {"id", "epoch", "input", "target", "error", "eval_id", "log", "model", "task_name"}

_Row: TypeAlias = Mapping[str, Any]


def is_frame(head: Head) -> bool:
    """Tell whether a table is made of samples, by the columns that each such frame has."""
    names = head.columns
    return {"sample_id", "epoch", "id"} <= set(names) and any(name.startswith(_SCORE) for name in names)


def read_frame(head: Head, task: str, *, metric: str | None, slices: Sequence[str]) -> list[TaskAnswers | Unread]:
    """Read the samples of each task in a frame, of one log each; epochs are sampled answers."""
    logs: dict[str, Counter[str]] = {}
    failed: Counter[str] = Counter()
    for row in _rows(head):
        name = _task(row, task)
        logs.setdefault(name, Counter())[str(row.get("eval_id") or "")] += 1
        failed[name] += bool(row.get("error"))
    for name, evaluations in logs.items():
        if len(evaluations) > 1:
            raise InputError(
                f"{head.source} holds {len(evaluations)} logs of the task {name}; choose one behind the path, with "
                f"@eval_id= of {listed(evaluations)}, or with @model= or @log= where there is such a column."
            )
    if metric in head.columns:
        metric = str(metric).removeprefix(_SCORE)

    def read(name: str) -> TaskAnswers:
        notes = [f"{failed[name]} of {logs[name].total()} samples ended with an error"] if failed[name] else []
        records = partial(_records, head, task, name, metric)
        return answers_of(records, name, head.source, metric=metric, slices=slices, notes=notes)

    made, reasons = each_task(logs, read)
    return [*made.values(), *(Unread(name, reason) for name, reason in reasons.items())]


def about(head: Head) -> About:
    """Name the model that was chosen, where one was."""
    return About(task_name(head.path), head.where.get("model", ""))


def _rows(head: Head) -> Iterator[_Row]:
    """Give the rows that are chosen behind the path, of whatever kind of file."""
    if unknown := [name for name in head.where if name not in head.columns]:
        raise InputError(f"{head.path} has no column {unknown[0]!r} to choose by; it has {listed(head.columns)}.")
    for row in _all_rows(head):
        values = {name: str(row[name]) for name in head.where}
        if all(value in (values[name], PurePosixPath(values[name]).name) for name, value in head.where.items()):
            yield row


def _all_rows(head: Head) -> Iterator[_Row]:
    if head.layout not in ("text", "parquet"):
        yield from (row for _, row in head.objects(_NEEDED))
        return
    table = Csv(head.path) if head.layout == "text" else Parquet(head.path)
    names = [name for name in table.names if name in _COLUMNS or name.startswith((_SCORE, _FIELD))]
    for rows in table.scan(names, lambda _, block: pa.table(block).to_pylist()):
        yield from rows


def _task(row: _Row, task: str) -> str:
    """Name the task of a row: as its column says, or the name of its log."""
    log = FILE.match(PurePosixPath(str(row.get("log") or "")).name)
    return str(row.get("task_name") or (log and log["task"]) or task).rpartition("/")[2]


def _records(head: Head, task: str, name: str, metric: str | None) -> Iterator[Record]:
    return (_record(row, metric, head.source) for row in _rows(head) if _task(row, task) == name)


def _record(row: _Row, metric: str | None, source: str) -> Record:
    if row["id"] is None:
        raise InputError(f"{source} has a row without an id; was it written by samples_df?")
    scores = {name.removeprefix(_SCORE): value for name, value in row.items() if name.startswith(_SCORE)}
    details = {name for name in scores if (match := _DETAIL.fullmatch(name)) and match["score"] in scores}
    details |= {name for name in scores if name.startswith(_OF_THE_LOG)}
    asked = row.get("input")
    # The scorer of "scorer/value" keeps one answer for all its values.
    scorer = next((name for name in scores if metric in (name, None) or str(metric).startswith(f"{name}/")), "")
    answer = scores.get(f"{scorer}_answer")
    return Record(
        id=str(row["id"]),
        scores=scores_of({name: _value(value) for name, value in scores.items() if name not in details}),
        answer=str(answer) if answer else None,
        reference=[row.get("target")],
        question=None if asked is None else str(asked).removeprefix("user:").strip(),
        sample=int(float(row["epoch"])),
        fields={name.removeprefix(_FIELD): value for name, value in row.items() if name.startswith(_FIELD)},
    )


def _value(value: Any) -> Any:
    """Read a score of a cell: JSON where it is an object, as of scorers with several values."""
    if isinstance(value, str) and value.startswith("{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return None if value == "" else value


INSPECT_FRAME = Format(
    program="inspect_ai",
    holds="a data frame of samples",
    recognises=is_frame,
    read=read_frame,
    about=about,
    choices=("eval_id", "log", "model"),
)
