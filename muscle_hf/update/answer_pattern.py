"""What of a generated answer is compared: all of it, or what a pattern finds, such as the number after a solution."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError, InputError
from ..text import quote

if TYPE_CHECKING:
    from ..prediction.questions import Question


def compiled(pattern: str) -> re.Pattern[str]:
    """Compile the pattern of `answer_pattern`; of two groups nobody could tell which one is compared."""
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ConfigurationError(f"answer_pattern='{pattern}' is no regular expression: {error}.") from None
    if expression.groups > 1:
        raise ConfigurationError(
            f"answer_pattern='{pattern}' has {expression.groups} groups, and one is compared; write the others as "
            "(?:…)."
        )
    return expression


def part_of(text: str, pattern: re.Pattern[str]) -> str:
    r"""Return what a pattern finds first in a text, or its group of that; empty where it finds nothing.

    Example:
        >>> part_of("48 / 2 = 24\n#### 24", compiled(r"#### (-?\d+)"))
        '24'
        >>> part_of("I do not know", compiled(r"-?\d+"))
        ''
    """
    match = pattern.search(text)
    return "" if match is None else (match[pattern.groups] or "").strip()


def check_right_answers(questions: "Sequence[Question]", pattern: re.Pattern[str]) -> str:
    """Refuse right answers in which a pattern finds nothing, which no answer could equal; say what is compared."""
    parts = [part_of(question.answer or "", pattern) for question in questions]
    missing = [question for question, part in zip(questions, parts, strict=True) if not part]
    if missing:
        raise InputError(
            f"{missing[0].place}: answer_pattern='{pattern.pattern}' finds nothing in the right answer "
            f"{quote(missing[0].answer or '')}, nor in {len(missing) - 1} more of the {len(parts)} test rows. Give a "
            "pattern that finds something in each, or leave these rows out."
        )
    first = quote(parts[0])
    return f"answers are compared by what '{pattern.pattern}' finds in them first: {first} in the first test row's"


def with_parts(rows: Iterable[Mapping[str, Any]], pattern: re.Pattern[str]) -> Iterator[dict[str, Any]]:
    """Give rows of answers with what is compared, and the whole answer as `response`."""
    for row in rows:
        compared = {name: part_of(row[name], pattern) for name in ("prediction", "reference")}
        yield {**row, **compared, "response": row["prediction"]}
