"""Who says that a text is right: a function of the text and its reference, which must say True or False."""

from collections.abc import Callable, Mapping
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


def equals(answer: str, reference: Any) -> bool:
    """Judge an answer by its reference, but for the white space around both."""
    return isinstance(reference, str) and answer.strip() == reference.strip()


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
