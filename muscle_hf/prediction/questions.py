"""Questions of a task, from rows in the shapes that people have: checked row by row, never guessed.

One reader for `muscle-hf update`, `muscle-hf predict`, `flips_dataset` and `unlabelled_dataset`. Texts are taken as
they stand. A fault in a row is named with its place, and with how many rows cannot be read.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import InputError
from ..text import conversation, listed, printable
from .layouts import KNOWN_SHAPES, NAME_THEM, Layout, Use, layout_of, shown
from .prompts import Prompt
from .row import HALF, read_row


@dataclass(frozen=True)
class Question:
    """A row of a task, read."""

    number: int  # of the row, from 0
    place: str = field(compare=False)  # for messages
    prompt: Prompt
    answer: str | None  # the right one as it stands there, white space included; None where it is not known
    choices: tuple[str, ...] | None
    follows_prompt: bool  # the answer stands as it would follow the prompt, white space included
    id: str | int  # what rows of two models are joined by


def read_task(
    rows: Sequence[Mapping[str, Any]],
    source: str,
    *,
    place: Callable[[int], str] | None = None,
    named: Mapping[str, str] | None = None,
    names: Collection[str] | None = None,
    answers: Use = "needed",
    choices: Use = "unused",
    may_be_empty: bool = False,
    way_out: str = NAME_THEM,
) -> tuple[Layout, list[Question]]:
    """Recognise the shape of rows, and read them.

    Messages call the rows `source`, and a row what `place` makes of its number, from 0; None counts them from 1.
    `named` says what a column is, of `COLUMNS` -> its name; `names` are the columns, by default those with a value in
    some row. Each row needs a right answer, may have one (all or none), or has it left out (`answers`); likewise
    `choices`. An answer `may_be_empty`, as that of a model may. `way_out` says how to say which column is what. No
    rows, no shape or several, or rows that cannot be asked, are refused: the first with its place, and how many others
    there are.
    """
    if not rows:
        raise InputError(f"{source} has no rows; a row is needed for each question: {KNOWN_SHAPES}.")
    layout = layout_of(
        rows, source, named or {}, _names(rows) if names is None else list(names), answers, choices, way_out
    )
    questions: list[Question] = []
    faults: list[str] = []
    for number, row in enumerate(rows):
        there = place(number) if place is not None else f"{source}, row {number + 1}"
        try:
            read = read_row(row, there, layout, answers, may_be_empty=may_be_empty)
        except InputError as error:
            faults.append(str(error))
        else:
            questions.append(Question(number, there, *read, layout.follows_prompt, number))
    if faults:
        more = f" {len(faults) - 1} more of the {len(rows)} rows cannot be read either." if len(faults) > 1 else ""
        raise InputError(faults[0] + more)
    known = [question.answer is not None for question in questions]
    if len(set(known)) > 1:
        there, missing = questions[known.index(True)].place, questions[known.index(False)].place
        raise InputError(
            f"{there} ends with an answer, and {missing} and {known.count(False) - 1} more do not; answers are needed "
            "in all rows or none."
        )
    kinds = [isinstance(question.prompt, str) for question in questions]
    if len(set(kinds)) > 1:
        raise InputError(
            f"{source} mixes texts and conversations: {questions[kinds.index(True)].place} is of another kind than "
            f"{questions[kinds.index(False)].place}. Bring all rows to one form."
        )
    return layout, questions


def read_unlabelled(
    rows: Sequence[Mapping[str, Any]],
    source: str,
    *,
    named: Mapping[str, str] | None = None,
    names: Collection[str] | None = None,
    **options: Any,
) -> tuple[Layout, list[Question]]:
    """Read prompts as [`read_task`] does, whose right answers are not wanted.

    What is called `completion` are the old model's own; answers of other names, and last messages of the assistant,
    are left out.
    """
    named, names = named or {}, _names(rows) if names is None else names
    is_log = "completion" in named or ("completion" in names and bool({"prompt"} & {*names, *named}))
    answers: Use = "allowed" if is_log else "unused"
    return read_task(rows, source, named=named, names=names, answers=answers, may_be_empty=True, **options)


def _names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(str(name) for row in rows for name, value in row.items() if value is not None))


def ids_of(questions: Sequence[Question], rows: Sequence[Mapping[str, Any]], name: str | None) -> list[str | int]:
    """Give what the rows of two models are joined by: a column, by default `id`, or the number of a row from 0."""
    if name is None and any(row.get("id") is not None for row in rows):
        name = "id"
    if name is None:
        return [question.number for question in questions]
    first: dict[str | int, str] = {}
    for question, row in zip(questions, rows, strict=True):
        place, value = question.place, row.get(name)
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise InputError(f"{place}: {name} is {quoted(value)}; a text or a whole number is needed in each row.")
        if isinstance(value, str) and HALF.search(value):
            raise InputError(f"{place}: {name} holds half of a character (a surrogate), which no file can hold.")
        begin = next(iter(first), value)
        if type(value) is not type(begin):
            raise InputError(
                f"{first[begin]} has the id {begin!r}, and {place} {quoted(repr(value))}: ids must be all whole "
                "numbers or all texts, since `muscle-hf compare` reads no others."
            )
        if value in first:
            raise InputError(
                f"{place} has the id {quoted(value)}, as {first[value]} has; ids join the answers of two models, so "
                "each is needed once."
            )
        first[value] = place
    return list(first)


def quoted(value: object) -> str:
    """Show a name or an id in a message, and not all of a long one."""
    text = printable(str(value))
    return text if len(text) <= 200 else f"{text[:200]}…"


def delimiter_of(questions: Sequence[Question]) -> str:
    """Return what stands between prompt and choice: what the right answers begin with and the choices do not.

    It must be the same in every row.
    """
    delimiters: dict[str, Question] = {}
    for question in questions:
        if not isinstance(question.prompt, str):
            delimiters.setdefault("", question)
            continue
        answer = question.answer or ""
        choice = next(text for text in question.choices or () if text.strip() == answer.strip())
        if not answer.endswith(choice):
            raise InputError(
                f"row {question.number + 1}: the completion {answer!r} does not end with its choice {choice!r}; "
                "write both alike, white space included."
            )
        delimiters.setdefault(answer.removesuffix(choice), question)
    if len(delimiters) > 1:
        (first, question), (second, other) = list(delimiters.items())[:2]
        raise InputError(
            f"between prompt and choice stands {first!r} in row {question.number + 1} and {second!r} in row "
            f"{other.number + 1}; let all completions begin alike."
        )
    return next(iter(delimiters))


def described(layout: Layout, first: Question) -> str:
    """Say in one line what was recognised, by the first row."""
    answer = "" if first.answer is None else f", answered {shown(first.answer)}"
    notes = []
    if layout.shape == "alpaca":
        notes.append("the prompt is the instruction and, after an empty line, the input, with no template around")
    follows = isinstance(first.prompt, str) and layout.follows_prompt
    if follows and first.answer and not first.answer[0].isspace() and not str(first.prompt)[-1].isspace():
        notes.append(
            "nothing stands between prompt and answer, as in the rows: end prompts as your adapter knows them"
        )
    if layout.unread:
        notes.append(f"not read: {listed(layout.unread)}")
    more = "".join(f"; {note}" for note in notes)
    asked = shown(first.prompt if isinstance(first.prompt, str) else conversation(first.prompt))
    return f"read as {layout.shape} ({', '.join(layout.columns)}); the first prompt is {asked}{answer}{more}"
