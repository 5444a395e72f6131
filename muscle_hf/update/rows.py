"""The task's rows as an update trains on them and asks them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import InputError
from ..prediction.layouts import Layout, shown
from ..prediction.prompts import Prompt
from ..prediction.questions import TaskRow, described, read_task, read_unlabelled
from ..readers.plain_rows import raw_rows


@dataclass(frozen=True)
class Example:
    """A row of the task.

    Args:
        row: What is trained on: `prompt` and `completion`, or `messages`.
        prompt: What is asked: a text or a conversation.
        completion: The right answer as it stands there, white space included.
        choices: The answers to choose from, None where they are not given.
        number: Of the row in its file, from 0.
    """

    row: Mapping[str, Any]
    prompt: Prompt
    completion: str
    choices: tuple[str, ...] | None
    number: int


def read_examples(
    source: str,
    split: str | None,
    *,
    default_split: str,
    choices: bool,
    weight: str | None = None,
    config: str | None = None,
    columns: Mapping[str, str] | None = None,
    only_there: bool = False,
) -> tuple[list[Example], str]:
    """Read and check a data set.

    Args:
        source: A file, or `org/name[:config][@revision]` of the Hub.
        split: Split of a data set of the Hub.
        default_split: The one that is read where none is named.
        choices: Whether each row needs `choices`, of which the answer is one.
        weight: A column with a number for each row, which is kept for the training.
        config: Configuration of a data set of the Hub.
        columns: What a column is -> its name, see [`read_task`].
        only_there: Pass over those of them that the data do not have, which were named for other data.

    Returns:
        The rows, and in one line which shape they are of.

    Raises:
        InputError: There is nothing to read, or a row is not what a task needs, with its place.
    """
    rows = list(raw_rows(source, split, default_split, config=config))
    columns = _there(columns, rows) if only_there else columns
    layout, read = read_task(
        rows, source, place=_place(source), named=columns, choices="needed" if choices else "unused"
    )
    examples = [_example(layout, task_row, rows[task_row.number], weight) for task_row in read]
    return examples, f"{source} is {described(layout, read[0])}"


def _place(source: str) -> Any:
    return lambda number: f"{source}, row {number + 1}"


def _there(columns: Mapping[str, str] | None, rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    names = {name for row in rows for name in row}
    return {what: name for what, name in (columns or {}).items() if name in names}


def _example(layout: Layout, read: TaskRow, row: Mapping[str, Any], weight: str | None) -> Example:
    """Write a row as TRL trains on it."""
    answer = read.answer or ""
    said: Any = answer if isinstance(read.prompt, str) else [{"role": "assistant", "content": answer}]
    trained: dict[str, Any] = {"prompt": read.prompt, "completion": said}
    if layout.is_conversation:
        trained = {"messages": [*read.prompt, *said]}
    if weight is not None:
        if not isinstance(row.get(weight), int | float) or isinstance(row[weight], bool):
            raise InputError(f"{read.place}: {weight} is {shown(row.get(weight))}; a number is needed.")
        trained |= {weight: row[weight]}
    return Example(trained, read.prompt, answer, read.choices, read.number)


def read_prompts(
    source: str,
    split: str | None,
    test: Sequence[Example],
    *,
    columns: Mapping[str, str] | None = None,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Read prompts without labels, but not those that the test set asks.

    Args:
        source: A file, or `org/name[:config][@revision]` of the Hub; answers that are called `completion` are taken
            for the old model's, others are not read.
        split: Split of a data set of the Hub.
        test: The test rows.
        columns: What a column is -> its name, of those that are there.

    Returns:
        The rows, and what has to be known of them.

    Raises:
        InputError: There is nothing to read.
    """
    rows = list(raw_rows(source, split, "train"))
    layout, read = read_unlabelled(rows, source, place=_place(source), named=_there(columns, rows))
    asked = {key_of(example.prompt) for example in test}
    kept = [
        {"prompt": task_row.prompt, **({} if task_row.answer is None else {"completion": task_row.answer})}
        for task_row in read
        if key_of(task_row.prompt) not in asked
    ]
    if not kept:
        raise InputError(f"{source} has no prompt that the test set does not ask; give others, or leave it out.")
    left_out = len(read) - len(kept)
    more = [f"{left_out} unlabelled prompts are asked by the test set too, and are left out"] if left_out else []
    return kept, [f"{source} is {described(layout, read[0])}", *more]


def key_of(prompt: Any) -> str:
    """Return a text that equal prompts share.

    Args:
        prompt: A text or a conversation.
    """
    return json.dumps(prompt, sort_keys=True)
