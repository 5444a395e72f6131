"""The task's rows as an update trains on them and asks them."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset

from ..errors import InputError
from ..prediction.layouts import Layout, shown
from ..prediction.questions import Question, described, read_task, read_unlabelled
from ..readers.plain_rows import raw_rows
from ..text import listed


@dataclass(frozen=True)
class Example(Question):
    """A question with its right answer."""

    answer: str
    row: Mapping[str, Any]  # what is trained on: `prompt` and `completion`, or `messages`


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
    """Read and check a data set, see [`raw_rows`] and [`read_task`]; say in one line which shape its rows are of.

    `source` is a file, or `org/name[:config][@revision]` of the Hub, of which `default_split` is read where none is
    named. With `choices` each row needs some, of which the answer is one. `weight` is a column with a number for each
    row, which is kept for the training. `columns` says what a column is -> its name; with `only_there` those are
    passed over that the data do not have, since they were named for other data.
    """
    rows = list(raw_rows(source, split, default_split, config=config))
    columns = _there(columns, rows) if only_there else columns
    layout, questions = read_task(rows, source, named=columns, choices="needed" if choices else "unused")
    examples = [_example(layout, question, rows[question.number], weight) for question in questions]
    return examples, f"{source} is {described(layout, questions[0])}"


def _there(columns: Mapping[str, str] | None, rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    names = {name for row in rows for name in row}
    return {what: name for what, name in (columns or {}).items() if name in names}


def _example(layout: Layout, question: Question, row: Mapping[str, Any], weight: str | None) -> Example:
    """Write a row as TRL trains on it."""
    answer = question.answer or ""
    said: Any = answer if isinstance(question.prompt, str) else [{"role": "assistant", "content": answer}]
    trained: dict[str, Any] = {"prompt": question.prompt, "completion": said}
    if layout.is_conversation:
        trained = {"messages": [*question.prompt, *said]}
    if weight is not None:
        if weight not in row:
            raise InputError(
                f"{question.place}: there is no {weight!r} (weight_column); the row has {listed(row)}. Name the "
                "column with the weights, or leave weight_column out."
            )
        if not isinstance(row.get(weight), int | float) or isinstance(row[weight], bool):
            raise InputError(f"{question.place}: {weight} is {shown(row.get(weight))}; a number is needed.")
        trained |= {weight: row[weight]}
    # What is trained on follows the prompt, whatever the column is called.
    fields = vars(question) | {"answer": answer, "follows_prompt": True}
    return Example(**fields, row=trained)


def read_prompts(
    source: str, split: str | None, test: Sequence[Example], *, columns: Mapping[str, str] | None = None
) -> tuple[list[dict[str, Any]], list[str]]:
    """Read prompts without labels, but not those that the test set asks, and say what has to be known of them.

    Answers that are called `completion` are taken for the old model's, others are not read.
    """
    rows = list(raw_rows(source, split, "train"))
    layout, questions = read_unlabelled(rows, source, named=_there(columns, rows))
    asked = {key_of(example.prompt) for example in test}
    kept = [
        {"prompt": question.prompt, **({} if question.answer is None else {"completion": question.answer})}
        for question in questions
        if key_of(question.prompt) not in asked
    ]
    if not kept:
        raise InputError(f"{source} has no prompt that the test set does not ask; give others, or leave it out.")
    left_out = len(questions) - len(kept)
    more = [f"{left_out} unlabelled prompts are asked by the test set too, and are left out"] if left_out else []
    return kept, [f"{source} is {described(layout, questions[0])}", *more]


def key_of(prompt: Any) -> str:
    """Return a text that equal prompts share."""
    return json.dumps(prompt, sort_keys=True)


def as_dataset(examples: Sequence[Example]) -> Dataset:
    """Return the rows as TRL's trainers take them."""
    return Dataset.from_list([dict(example.row) for example in examples])


def as_pairs(examples: Sequence[Example]) -> Dataset:
    """Return the rows as encoder-decoders are trained on them: `prompt` and `completion`, also of a conversation."""
    rows = []
    for example in examples:
        row = dict(example.row)
        if (messages := row.pop("messages", None)) is not None:
            row |= {"prompt": messages[:-1], "completion": messages[-1:]}
        rows.append(row)
    return Dataset.from_list(rows)


def as_questions(examples: Sequence[Example], delimiter: str | None) -> Dataset:
    """Return the rows as `flips_dataset` takes them; the delimiter is None where answers are generated."""
    if delimiter is None:
        return Dataset.from_list([{"prompt": example.prompt, "completion": example.answer} for example in examples])
    return Dataset.from_list(
        [
            {
                "prompt": example.prompt,
                "choices": [f"{delimiter}{choice}" for choice in example.choices or ()],
                "answer": [choice.strip() for choice in example.choices or ()].index(example.answer.strip()),
            }
            for example in examples
        ]
    )


def digest_of(examples: Sequence[Example | dict[str, Any]]) -> str:
    """Say which rows these are: their number and the beginning of a hash of what stands in them, in their order."""
    rows = [row if isinstance(row, dict) else [row.row, row.answer, row.choices] for row in examples]
    digest = hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()
    return f"{len(examples)} rows ({digest[:12]})"
