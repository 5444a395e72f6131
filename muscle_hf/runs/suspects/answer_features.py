"""Features of answers by which a grader may recognise them, and features that speak for their being right.

Built-in ones are read from texts; others are columns of the files, or arrays of the caller.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ...errors import InputError
from ...flips.intervals import Numbers
from ...readers.answers import Column
from ...text import listed, quote
from ..number_columns import TRUTH_VALUES, numbers_of
from ..outcomes import Outcomes

_LETTERS = 400  # of a text that tell its alphabet


class Answered(NamedTuple):
    """One answer as features see it."""

    text: str
    """All that the model wrote; the answer where a file has no more."""
    extracted: str | None
    """What was taken out of it to be compared; None where nothing was."""
    reference: str | None


class Kind(NamedTuple):
    """A built-in feature."""

    phrase: str
    """What an answer has that has it, as people read it."""
    of: Callable[[Answered], float]
    is_flag: bool = True


def _latin(text: str) -> bool:
    letters = [letter for letter in text[: 4 * _LETTERS] if letter.isalpha()][:_LETTERS]
    known = sum(letter.isascii() or unicodedata.name(letter, "").startswith("LATIN") for letter in letters)
    return 2 * known >= len(letters)


def _has_gold(answered: Answered) -> bool:
    gold = (answered.reference or "").strip().casefold()
    # A letter or number inside another word is none.
    return bool(gold) and re.search(rf"(?<!\w){re.escape(gold)}(?!\w)", answered.text.casefold()) is not None


FORMS: dict[str, Kind] = {
    "fence": Kind("a code fence (```)", lambda answered: "```" in answered.text),
    "box": Kind("\\boxed{}", lambda answered: "\\boxed" in answered.text),
    "hashes": Kind("####", lambda answered: "####" in answered.text),
    "bold": Kind("bold type (**)", lambda answered: "**" in answered.text),
    "thinking": Kind("a thinking part (</think>)", lambda answered: "</think>" in answered.text),
    "other_alphabet": Kind("another alphabet than the Latin one", lambda answered: not _latin(answered.text)),
    "nothing_extracted": Kind("no answer extracted", lambda answered: _is_nothing(answered.extracted)),
    "length": Kind("characters", lambda answered: float(np.log1p(len(answered.text))), is_flag=False),
}
"""By which a grader may or may not recognise an answer."""

RIGHTNESS: dict[str, Kind] = {"gold_in_text": Kind("the right answer somewhere in its text", _has_gold)}
"""What speaks for an answer's being right, whether or not it was recognised."""


@dataclass(frozen=True, eq=False)
class Feature:
    """One feature of the old and of the new answers, row by row."""

    name: str
    phrase: str
    old: Numbers
    new: Numbers
    is_flag: bool
    is_log: bool = False
    """Whether it is the logarithm of 1 more than what people are shown."""


def _is_nothing(extracted: str | None) -> bool:
    return not (extracted or "").strip() or str(extracted).startswith("[invalid")


def text_features(outcomes: Outcomes, tasks: Sequence[str], names: Sequence[str]) -> list[Feature]:
    """Read built-in features of all answers of some tasks, one task after the other; none where there are no texts."""
    kinds = {name: (FORMS | RIGHTNESS)[name] for name in names}
    if not kinds:
        return []
    sides: tuple[list[list[float]], list[list[float]]] = ([], [])
    whole, extracted, any_text = False, True, False
    for task in tasks:
        pair = outcomes.pairs[task]
        taken = [_texts(side.answers) for side in (pair.old, pair.new)]
        extracted = extracted and None not in taken
        for place, instance in enumerate(outcomes.instances(task, np.arange(len(pair.old)))):
            answers = (instance.old_answer, instance.new_answer)
            responses = (instance.old_response, instance.new_response)
            whole |= any(
                response is not None and response.strip() != (answer or "").strip()
                for answer, response in zip(answers, responses, strict=True)
            )
            any_text |= answers != (None, None)
            for values, answer, response, column in zip(sides, answers, responses, taken, strict=True):
                text = (answer if response is None else response) or ""
                answered = Answered(text, column[place] if column else None, instance.reference)
                values.append([float(kind.of(answered)) for kind in kinds.values()])
    if not (any_text or whole):
        return []
    old, new = (np.array(values, dtype=np.float64).reshape(-1, len(kinds)) for values in sides)
    return [
        Feature(name, kind.phrase, old[:, place], new[:, place], kind.is_flag, is_log=not kind.is_flag)
        for place, (name, kind) in enumerate(kinds.items())
        # Where the text is the answer, it is there or not, and that says nothing of an extraction.
        if name != "nothing_extracted" or (whole and extracted)
    ]


def _texts(column: Column | None) -> list[Any] | None:
    return None if column is None else [value if value is None else str(value) for value in column.to_pylist()]


def column_feature(outcomes: Outcomes, tasks: Sequence[str], name: str) -> Feature:
    """Take a column of the files, which must hold numbers, or true and false, for every answer."""
    sides: tuple[list[Numbers], list[Numbers]] = ([], [])
    for task in tasks:
        for values, columns, side in zip(
            sides, outcomes.features.get(task, ({}, {})), (outcomes.pairs[task].old, outcomes.pairs[task].new),
            strict=True,
        ):  # fmt: skip
            if name not in columns:
                there = listed(map(quote, side.columns)) or "none"
                raise InputError(
                    f"{side.source} has no column {quote(name)} that was read, and no built-in feature is called so; "
                    f"built in are {listed(map(quote, (*FORMS, *RIGHTNESS)))}, and columns there are: {there}. Have "
                    "columns read with compare_runs(…, features=[…])."
                )
            values.append(numbers_of(side, name, columns[name], "a number, or true or false,", TRUTH_VALUES))
    old, new = map(np.concatenate, sides)
    return given_feature(name, (old, new), len(old))


def given_feature(name: str, values: Any, n: int, *, of_question: bool = False) -> Feature:
    """Take a feature as the caller has it: a pair of the old and the new answers' values, or one of the questions."""
    single = of_question and np.ndim(values) == 1
    if not single and (not isinstance(values, tuple | list) or len(values) != 2):
        raise InputError(
            f"the feature {quote(name)} must be a pair, of the old answers and of the new ones, (old, new), with "
            f"{n:,} values each" + (" or one array of the questions." if of_question else ".")
        )
    sides = []
    for side in [values, values] if single else values:
        try:
            column = np.array(side, dtype=np.float64)
        except (TypeError, ValueError):
            raise InputError(f"the feature {quote(name)} must hold numbers, or true and false.") from None
        if column.shape != (n,):
            raise InputError(f"the feature {quote(name)} has shape {column.shape}, and there are {n:,} answers.")
        if not np.isfinite(column).all():
            place = int(np.argmin(np.isfinite(column)))
            raise InputError(f"the feature {quote(name)} is {float(column[place])} in row {place}; give a number.")
        sides.append(column)
    is_flag = all(np.isin(side, (0.0, 1.0)).all() for side in sides)
    return Feature(name, name, sides[0], sides[1], is_flag)
