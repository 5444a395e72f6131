"""Who says that a text is right: a function of the text and its reference, which must say True or False."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ...errors import InputError
from ...text import quote

Judge = Callable[[str, Any], bool]
"""Of an answer and its reference: whether it is right."""


def judged(judge: Judge, answer: str, reference: Any, name: str) -> bool:
    """Ask a judge, and refuse what is neither True nor False."""
    verdict = judge(answer, reference)
    if not isinstance(verdict, bool | np.bool_):
        raise InputError(
            f"judge gives {quote(verdict)} for {name}; it must say True or False, since a pair has a right and a "
            "wrong answer."
        )
    return bool(verdict)


def judge_of(judge: Judge | None, references: Sequence[Any]) -> Judge:
    """Give the judge, or without one `equals`, which needs references that are texts: no text is equal to a number."""
    if judge is not None:
        if not callable(judge):
            raise InputError(f"judge is {quote(judge)}; give a function of an answer and its reference.")
        return judge
    for place, reference in enumerate(references):
        if not isinstance(reference, str):
            raise InputError(
                f"references[{place}] is {quote(reference)}, and without a judge an answer is right where it is the "
                "same text; give texts, or a judge."
            )
    return equals


def equals(answer: str, reference: str) -> bool:
    """Judge an answer by its reference, but for the white space around both."""
    return answer.strip() == reference.strip()


def rows_of(columns: Mapping[str, Any]) -> int:
    """Count the prompts, and refuse columns without one value for each of them."""
    for name, column in columns.items():
        if isinstance(column, str | bytes | Mapping) or not hasattr(column, "__len__"):
            raise InputError(f"{name} is {quote(column)}; give a list with one for each prompt.")
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {length:,}" for name, length in lengths.items())
        raise InputError(f"there must be one of each for every prompt, in the same order: {told}.")
    if not lengths["prompts"]:
        raise InputError("prompts is empty; give what the models were asked.")
    return lengths["prompts"]
