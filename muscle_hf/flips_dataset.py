"""What a flips data set holds: questions with their right answers, read strictly, row by row."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from datasets import Dataset

from .errors import InputError
from .prompts import Prompt

_RIGHT_ANSWER = ("completion", "reference", "choices")


@dataclass(frozen=True)
class Questions:
    """The rows of a flips data set; made by [`read_questions`].

    Args:
        prompts: Texts or conversations.
        references: The right answers.
        choices: The choices of each row; None where answers are generated.
    """

    prompts: list[Prompt]
    references: list[str]
    choices: list[list[str]] | None

    def __len__(self) -> int:
        """Say how many rows there are."""
        return len(self.prompts)


def read_questions(dataset: Dataset) -> Questions:
    """Read a flips data set, and refuse rows that cannot be asked.

    Its columns are `prompt` and either `completion` or `reference` (the answer is generated), or `choices` and
    `answer` (the likeliest choice is taken). Others are not read.

    - `prompt`: a text, or a conversation for the chat template: messages with "role" and "content".
    - `completion`, `reference`: the right answer, as a text or as one message. White space around it does not count.
    - `choices`: two texts or more. Each follows the prompt as it is, just as TRL joins prompt and completion.
    - `answer`: the right choice: its text, or its number, counted from 0.

    Args:
        dataset: The rows. Not a stream: every evaluation must ask the same questions in the same order.

    Returns:
        Prompts, right answers and choices.

    Raises:
        InputError: No rows, columns that are missing or ambiguous, or a bad row, by its number, counted from 0.

    Example:
        >>> rows = [{"prompt": "2 + 2 =", "choices": [" 4", " 5"], "answer": 0}]
        >>> read_questions(Dataset.from_list(rows)).references
        [' 4']
    """
    if not isinstance(dataset, Dataset):
        raise InputError(
            f"The flips data set is a {type(dataset).__name__}; a datasets.Dataset is needed, so that every "
            "evaluation asks the same questions in the same order. Of a stream take a part: "
            "Dataset.from_list(list(stream.take(1000)))."
        )
    if not len(dataset):
        raise InputError("The flips data set has no rows; give the questions whose answers shall not flip.")
    names = set(dataset.column_names)
    found = [name for name in _RIGHT_ANSWER if name in names]
    if "prompt" not in names or len(found) != 1 or (found == ["choices"] and "answer" not in names):
        raise InputError(
            f"The flips data set has the columns {sorted(names)}. It needs `prompt` and exactly one of these: "
            "`completion` or `reference` (the right answer), or `choices` together with `answer`. Rename or remove "
            "columns."
        )
    right = found[0]
    prompts: list[Prompt] = []
    references: list[str] = []
    choices: list[list[str]] = []
    for number, row in enumerate(
        dataset.select_columns(["prompt", right, *(["answer"] if right == "choices" else [])])
    ):
        where = f"Row {number} of the flips data set"
        prompts.append(_prompt(row["prompt"], where))
        if right == "choices":
            choices.append(_choices(row["choices"], where))
            references.append(_right_choice(row["answer"], choices[-1], where))
        else:
            references.append(_right_answer(row[right], right, where))
    return Questions(prompts, references, choices or None)


def _prompt(value: Any, where: str) -> Prompt:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(_is_message(message) for message in value):
        return value
    raise InputError(
        f"{where}: prompt is {_shown(value)}; give a text, or a list of messages with a text as role and content."
    )


def _right_answer(value: Any, name: str, where: str) -> str:
    if isinstance(value, list) and len(value) == 1 and _is_message(value[0]):
        value = value[0]["content"]
    if not isinstance(value, str):
        raise InputError(
            f"{where}: {name} is {_shown(value)}; give the right answer as a text (str(answer)), or as one message."
        )
    if not value.strip():
        raise InputError(f"{where}: {name} is empty, and a model that says nothing would be right. Leave the row out.")
    return value.strip()


def _choices(value: Any, where: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(choice, str) for choice in value) or len(value) < 2:
        raise InputError(f"{where}: choices is {_shown(value)}; give a list of two texts or more.")
    return value


def _right_choice(value: Any, choices: list[str], where: str) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(choices):
        return choices[value]
    if isinstance(value, str) and value in choices:
        return value
    raise InputError(
        f"{where}: answer is {_shown(value)}; give the number of the right choice, from 0 to {len(choices) - 1}, or "
        f"its text, one of {_shown(choices)}."
    )


def _is_message(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(value.get(key), str) for key in ("role", "content"))


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}…"
