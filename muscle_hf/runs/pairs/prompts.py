"""Prompts of preference pairs: texts or messages, told from what a file shows, and kept apart from those of a test."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from ...errors import InputError
from ...text import conversation, how_many, loosely, one_line, quote

Prompt: TypeAlias = str | list[dict[str, str]]

_MESSAGE = ("role", "content")
# Of a row of a test set, the first that is there is what it asks.
_ASKED = ("prompt", "question", "messages", "conversations", "instruction")
_SHAREGPT = {"from": "role", "value": "content"}
_SPEAKERS = {"human": "user", "gpt": "assistant"}


def check_prompt(prompt: Any, place: str) -> Prompt:
    """Take a text that asks something, or messages that end with another turn than the assistant's."""
    if isinstance(prompt, str) and prompt.strip():
        return prompt
    messages = _messages(prompt)
    if not messages:
        raise InputError(
            f"{place} is {_shown(prompt)}; give a text, or a list of messages, each with texts as role and content."
        )
    if messages[-1]["role"] == "assistant":
        raise InputError(
            f"{place} ends with a turn of the assistant, and the answers of the pair would be another one; leave "
            "that turn out."
        )
    return messages


def prompt_of(question: str) -> Prompt:
    """Give the messages that a file has as its question, or its text as it is."""
    if question.lstrip().startswith(("{", "[")):
        try:
            value = json.loads(question)
        except ValueError:
            value = None
        try:
            # Tables show a list of messages as one object a line.
            value = value if isinstance(value, list) else [json.loads(line) for line in question.split("\n")]
        except ValueError:
            return question
        return _messages(value) or question
    return question


def _messages(value: Any) -> list[dict[str, str]] | None:
    """Read messages, whose other fields are None, as `datasets` fills them up; None where it is something else."""
    if not isinstance(value, list | tuple) or not all(isinstance(turn, Mapping) for turn in value):
        return None
    turns = [{name: text for name, text in turn.items() if text is not None} for turn in value]
    if not all({*turn} == {*_MESSAGE} and all(isinstance(text, str) for text in turn.values()) for turn in turns):
        return None
    return [{name: turn[name] for name in _MESSAGE} for turn in turns]


def refuse_held_out(
    prompts: Sequence[Prompt], held_out: Iterable[Any], source: str, kind: str = "negative flip"
) -> None:
    """Refuse prompts that a test set asks, also in other case and white space.

    The test set is a list of prompts, or rows with one, such as a `flips_dataset`; `kind` is what the prompts are of.
    """
    if isinstance(held_out, str | bytes | Mapping) or not isinstance(held_out, Iterable):
        raise InputError(
            f"{source} is {_shown(held_out)}; give a list of prompts, or a data set whose rows have one of "
            f"{', '.join(_ASKED)}."
        )
    asked = {key for place, row in enumerate(held_out) for key in _keys(_asked(row, f"{source}, row {place}"))}
    if not asked:
        raise InputError(f"{source} has no prompts, so nothing would be held out; leave it out, or give the test set.")
    shared = [prompt for prompt in prompts if not asked.isdisjoint(_keys(prompt))]
    if shared:
        first = shared[0] if isinstance(shared[0], str) else conversation(shared[0])
        verb = "is" if len(shared) == 1 else "are"
        raise InputError(
            f"{len(shared):,} of {how_many(len(prompts), kind)} {verb} asked in {source} too, for instance "
            f"{quote(first.strip())}: whoever trains on these pairs knows the answers, and the flips that are "
            "measured there would be too few. Make pairs of questions that are not in the test set."
        )


def _asked(row: Any, place: str) -> Prompt:
    value = row
    if isinstance(row, Mapping):
        name = next((name for name in _ASKED if row.get(name) is not None), None)
        if name is None:
            raise InputError(f"{place} has none of the columns {', '.join(_ASKED)}, so nobody knows what it asks.")
        value = row[name]
        if name == "instruction" and isinstance(value, str) and isinstance(more := row.get("input"), str) and more:
            value = f"{value}\n\n{more}"
    if isinstance(value, str):
        return prompt_of(value)
    if isinstance(value, list | tuple) and all(isinstance(turn, Mapping) for turn in value):
        value = [{_SHAREGPT.get(name, name): text for name, text in turn.items()} for turn in value]
        value = [turn | {"role": _SPEAKERS.get(turn.get("role"), turn.get("role"))} for turn in value]
    messages = _messages(value)
    while messages and messages[-1]["role"] == "assistant":
        messages.pop()
    if not messages:
        raise InputError(f"{place} is {_shown(value)}; a text that asks something, or messages, are needed.")
    return messages


def _keys(prompt: Prompt) -> Iterator[str]:
    """Give what equal prompts share; a question is the same one as a text and as a conversation's only message."""
    yield loosely(prompt)
    if not isinstance(prompt, str):
        yield loosely("\n".join(turn["content"] for turn in prompt if turn["role"] != "system"))


def _shown(value: Any) -> str:
    return one_line(repr(value))[:100]
