"""One row of a task, read: what is asked, the right answer, the choices; a fault is named with the row's place."""

import re
from collections.abc import Mapping
from typing import Any

from ..errors import InputError
from .layouts import Layout, Use, shown
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
HALF = re.compile(r"[\ud800-\udfff]")

Read = tuple[Prompt, str | None, tuple[str, ...] | None]


def read_row(row: Mapping[str, Any], place: str, layout: Layout, answers: Use, *, may_be_empty: bool) -> Read:
    """Give prompt, right answer and choices of a row; see `read_task`."""
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
        if HALF.search(text):
            raise InputError(
                f"{place} holds half of a character (a surrogate, such as \\ud800) in {shown(text)}, which cannot be "
                "written as UTF-8; was a text cut in the middle of an emoji?"
            )
    return prompt, answer, choices


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
