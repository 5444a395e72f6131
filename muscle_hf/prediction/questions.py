"""Rows of a task, in the shapes that people have: recognised by their columns, checked row by row, never guessed.

One reader for `muscle-hf update`, `muscle-hf predict`, `flips_dataset` and `unlabelled_dataset`. Texts are taken as
they stand. A fault in a row is named with its place, and with how many rows cannot be read.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import InputError
from ..text import listed
from .layouts import KNOWN_SHAPES, NAME_THEM, Layout, Use, layout_of, shown
from .prompts import Prompt

# They change what a model is asked, and the models could not be asked in the same way.
_NOT_ASKED = ("tools", "chat_template_kwargs", "images", "image")
# What ShareGPT calls the speakers.
_ROLES = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "model", "bot"), "assistant"),
    "system": "system",
}
_MESSAGE = ("role", "content")
# Half of a character, which JSON can spell and no file and no tokenizer can hold.
_HALF = re.compile(r"[\ud800-\udfff]")


@dataclass(frozen=True)
class TaskRow:
    """A row, read.

    Args:
        number: Of the row, from 0.
        place: Where it stands, for messages.
        prompt: What is asked: a text or a conversation.
        answer: The right answer as it stands there, white space included; None where it is not known.
        choices: The answers to choose from, None where they are not given.
    """

    number: int
    place: str
    prompt: Prompt
    answer: str | None
    choices: tuple[str, ...] | None


def read_task(
    rows: Sequence[Mapping[str, Any]],
    source: str,
    *,
    place: Callable[[int], str],
    named: Mapping[str, str] | None = None,
    names: Collection[str] | None = None,
    answers: Use = "needed",
    choices: Use = "unused",
    may_be_empty: bool = False,
    way_out: str = NAME_THEM,
) -> tuple[Layout, list[TaskRow]]:
    """Recognise the shape of rows, and read them.

    Args:
        rows: The rows as they are.
        source: What messages call them.
        place: Number of a row, from 0 -> what messages call it.
        named: What a column is, of `COLUMNS` -> its name.
        names: The columns; None takes those with a value in some row.
        answers: Whether each row needs a right answer, may have one (all or none), or has it left out.
        choices: Likewise.
        may_be_empty: Whether an answer may be an empty text, as that of a model may.
        way_out: How to say which column is what.

    Raises:
        InputError: No rows, no shape or several, or rows that cannot be asked: the first with its place, and how many
            others there are.

    Example:
        >>> rows = [{"instruction": "Add.", "input": "1 2", "output": "3"}]
        >>> layout, read = read_task(rows, "data.json", place="row {}".format)
        >>> layout.shape, read[0].prompt, read[0].answer
        ('alpaca', 'Add.\\n\\n1 2', '3')
    """
    if not rows:
        raise InputError(f"{source} has no rows; a row is needed for each question: {KNOWN_SHAPES}.")
    if names is None:
        names = _names(rows)
    layout = layout_of(rows, source, named or {}, list(names), answers, choices, way_out)
    task_rows: list[TaskRow] = []
    faults: list[str] = []
    for number, row in enumerate(rows):
        try:
            task_rows.append(_read(row, number, place(number), layout, answers, may_be_empty))
        except InputError as error:
            faults.append(str(error))
    if faults:
        more = f" {len(faults) - 1} more of the {len(rows)} rows cannot be read either." if len(faults) > 1 else ""
        raise InputError(faults[0] + more)
    known = [task_row.answer is not None for task_row in task_rows]
    if len(set(known)) > 1:
        there, missing = task_rows[known.index(True)].place, task_rows[known.index(False)].place
        raise InputError(
            f"{there} ends with an answer, and {missing} and {known.count(False) - 1} more do not; answers are needed "
            "in all rows or none."
        )
    kinds = [isinstance(task_row.prompt, str) for task_row in task_rows]
    if len(set(kinds)) > 1:
        raise InputError(
            f"{source} mixes texts and conversations: {task_rows[kinds.index(True)].place} is of another kind than "
            f"{task_rows[kinds.index(False)].place}. Bring all rows to one form."
        )
    return layout, task_rows


def read_unlabelled(
    rows: Sequence[Mapping[str, Any]],
    source: str,
    *,
    place: Callable[[int], str],
    named: Mapping[str, str] | None = None,
    names: Collection[str] | None = None,
    way_out: str = NAME_THEM,
) -> tuple[Layout, list[TaskRow]]:
    """Read prompts whose right answers are not wanted; what is called `completion` are the old model's own.

    Args:
        rows: As in `read_task`.
        source: As there.
        place: As there.
        named: As there.
        names: As there.
        way_out: As there.

    Returns:
        As there; answers of other names, and last messages of the assistant, are left out.

    Raises:
        InputError: As there.
    """
    named = named or {}
    if names is None:
        names = _names(rows)
    is_log = "completion" in named or ("completion" in names and bool({"prompt"} & {*names, *named}))
    answers: Use = "allowed" if is_log else "unused"
    return read_task(
        rows, source, place=place, named=named, names=names, answers=answers, may_be_empty=True, way_out=way_out
    )


def _names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(str(name) for row in rows for name, value in row.items() if value is not None))


def _read(
    row: Mapping[str, Any], number: int, place: str, layout: Layout, answers: Use, may_be_empty: bool
) -> TaskRow:
    extra = next((name for name in _NOT_ASKED if row.get(name) and row[name] not in ("[]", "{}", "null")), None)
    if extra is not None:
        raise InputError(f"{place} has {extra}, which the models could not be asked with; leave the column out.")
    asked, answer = row.get(layout.prompt), None if layout.answer is None else row.get(layout.answer)
    prompt: Prompt
    if layout.is_conversation:
        prompt = _messages(place, layout.prompt, asked, row.get("system") if "system" in layout.columns else None)
        *before, last = prompt
        if layout.answer is not None:
            if last["role"] == "assistant":
                raise InputError(
                    f"{place}: {layout.prompt} ends with an answer of the assistant, and {layout.answer} is another. "
                    "Leave one of them out."
                )
        else:
            if last["role"] == "assistant":
                prompt, answer = before, None if answers == "unused" else last["content"]
                if not prompt:
                    raise InputError(f"{place}: {layout.prompt} has only {shown(asked)}; a question comes before.")
            elif answers == "needed":
                raise InputError(
                    f"{place}: {layout.prompt} ends with a turn of the {last['role']}, and the answer must be one "
                    "message of the assistant, the last one. Leave that turn out, or the row."
                )
    elif isinstance(asked, str):
        if not asked.strip():
            raise InputError(f"{place}: {layout.prompt} is {shown(asked)}; a text that asks something is needed.")
        prompt = asked
        if "input" in layout.columns:
            more = row.get("input")
            if more is not None and not isinstance(more, str):
                raise InputError(f"{place}: input is {shown(more)}; a text is needed.")
            prompt = f"{asked}\n\n{more}" if more and more.strip() else asked
    elif isinstance(asked, list):
        prompt = _messages(place, layout.prompt, asked)
    else:
        raise InputError(f"{place}: {layout.prompt} is {shown(asked)}; a text or messages are needed.")
    choices = None if layout.choices is None else _choices(place, layout.choices, row.get(layout.choices))
    if layout.answer is not None:
        answer = _answer(place, layout.answer, answer, choices)
    elif answer is not None and choices is not None:
        answer = _choice(place, "the last message", answer, choices)
    if answer is not None and not answer.strip() and not may_be_empty:
        raise InputError(
            f"{place} has an empty {layout.answer or 'answer'}, which no answer can equal; leave the row out."
        )
    texts = [prompt] if isinstance(prompt, str) else [text for message in prompt for text in message.values()]
    for text in (*texts, answer or "", *(choices or ())):
        if _HALF.search(text):
            raise InputError(
                f"{place} holds half of a character (a surrogate, such as \\ud800) in {shown(text)}, which cannot be "
                "written as UTF-8; was a text cut in the middle of an emoji?"
            )
    return TaskRow(number, place, prompt, answer, choices)


def _messages(place: str, name: str, value: Any, system: Any = None) -> list[dict[str, str]]:
    """Read messages with role and content, or the turns of ShareGPT, with from and value."""
    turns = value if isinstance(value, list) and all(isinstance(turn, Mapping) for turn in value) else []
    messages = [_message(place, name, {key: turn[key] for key in turn if turn[key] is not None}) for turn in turns]
    if not messages:
        raise InputError(f"{place}: {name} is {shown(value)}; messages with role and content are needed.")
    if system and messages[0]["role"] != "system":
        if not isinstance(system, str):
            raise InputError(f"{place}: system is {shown(system)}; a text is needed.")
        messages.insert(0, {"role": "system", "content": system})
    return messages


def _message(place: str, name: str, turn: Mapping[str, Any]) -> dict[str, str]:
    if {*turn} == {"from", "value"}:
        if turn["from"] not in _ROLES:
            raise InputError(
                f"{place}: {name} has a turn from {shown(turn['from'])}; {', '.join(_ROLES)} are known. Rename it, or "
                "leave the row out."
            )
        turn = {"role": _ROLES[turn["from"]], "content": turn["value"]}
    if not all(isinstance(turn.get(key), str) for key in _MESSAGE):
        raise InputError(
            f"{place}: {name} has {shown(dict(turn))}; messages with role and content, or turns with from and value, "
            "are needed, each of texts."
        )
    turn = {**turn, "role": _ROLES.get(turn["role"], turn["role"])}
    others = sorted({*turn} - {*_MESSAGE})
    if others:
        raise InputError(f"{place}: a message has {others[0]}, which the models could not be asked with.")
    if not turn["content"].strip() and turn["role"] != "system":
        raise InputError(f"{place}: {name} has an empty message of the {turn['role']}; leave the row out.")
    return {key: turn[key] for key in _MESSAGE}


def _answer(place: str, name: str, value: Any, choices: tuple[str, ...] | None) -> str:
    if isinstance(value, list):
        messages = _messages(place, name, value)
        if len(messages) > 1 or messages[0]["role"] != "assistant":
            raise InputError(f"{place}: {name} must be one message of the assistant, or a text.")
        value = messages[0]["content"]
    if choices is not None:
        return _choice(place, name, value, choices)
    if not isinstance(value, str):
        raise InputError(
            f"{place}: {name} is {shown(value)}; a text is needed in each row, such as str(answer); a row without an "
            "answer has to be left out."
        )
    return value


def _choices(place: str, name: str, value: Any) -> tuple[str, ...]:
    is_list = isinstance(value, list) and len(value) > 1 and all(isinstance(choice, str) for choice in value)
    if not is_list or len({choice.strip() for choice in value}) < len(value):
        raise InputError(
            f"{place}: {name} is {shown(value)}; a list of two or more different texts is needed in each row."
        )
    return tuple(value)


def _choice(place: str, name: str, value: Any, choices: tuple[str, ...]) -> str:
    """Give the right choice, which is told by its text or by its number."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(choices):
        return choices[value]
    if isinstance(value, str) and value.strip() in {choice.strip() for choice in choices}:
        return value
    raise InputError(
        f"{place}: {name} is {shown(value)}; give the number of the right choice, from 0 to {len(choices) - 1}, or "
        f"its text, which must be one of the choices: {shown(list(choices))}."
    )


def conversation(messages: Sequence[Mapping[str, Any]]) -> str:
    """Write a conversation as a text to be shown.

    Args:
        messages: With role and content.
    """
    return "\n".join(f"{message['role']}: {message['content']}" for message in messages)


def loosely(prompt: Prompt) -> str:
    """Return a text that prompts share which differ in case and white space alone.

    Args:
        prompt: A text or a conversation.

    Example:
        >>> loosely("What is\\n2 + 2? ") == loosely("what is 2 + 2?")
        True
    """
    return " ".join((prompt if isinstance(prompt, str) else conversation(prompt)).split()).casefold()


def described(layout: Layout, first: TaskRow) -> str:
    """Say in one line what was recognised, by the first row.

    Args:
        layout: The shape.
        first: The first row.
    """
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
