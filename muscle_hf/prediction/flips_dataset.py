"""What a flips data set holds: questions with their right answers, read strictly, row by row."""

import logging
from dataclasses import dataclass

from datasets import Dataset

from ..errors import InputError
from .layouts import RENAME
from .prompts import Prompt
from .questions import described, read_task

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Questions:
    """The rows of a flips data set; `choices` is None where answers are generated."""

    prompts: list[Prompt]
    references: list[str]
    choices: list[list[str]] | None

    def __len__(self) -> int:
        """Say how many rows there are."""
        return len(self.prompts)


def read_questions(dataset: Dataset) -> Questions:
    """Read a flips data set, and refuse rows that cannot be asked.

    Its rows are of a shape that [`read_task`] knows: `prompt` and `completion` (or `reference`), `messages`,
    `question` and `answer`, alpaca or ShareGPT, whose answers are generated; or with `choices` and `answer`, of which
    the likeliest choice is taken. White space around a right answer does not count.

    - `choices`: two texts or more. Each follows the prompt as it is, just as TRL joins prompt and completion.
    - `answer`: the right choice: its text, or its number, counted from 0.

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
    names = {*dataset.column_names}
    if "choices" in names and "answer" not in names:
        raise InputError(
            f"The flips data set has the columns {sorted(names)}. With choices it needs `answer`, the right one by "
            "its text or number; without them it asks for generated answers. Rename or remove columns."
        )
    layout, rows = read_task(
        dataset.to_list(),
        "The flips data set",
        place="Row {} of the flips data set".format,
        names=dataset.column_names,
        choices="allowed",
        way_out=RENAME,
    )
    logger.log(logging.INFO if layout.is_plain else logging.WARNING, f"flips_dataset: {described(layout, rows[0])}")
    if layout.choices is None:
        return Questions([row.prompt for row in rows], [(row.answer or "").strip() for row in rows], None)
    choices = [list(row.choices or ()) for row in rows]
    right = [
        next(choice for choice in of_row if choice.strip() == (row.answer or "").strip())
        for row, of_row in zip(rows, choices, strict=True)
    ]
    return Questions([row.prompt for row in rows], right, choices)
