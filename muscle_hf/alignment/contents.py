"""Where the contents of a row stand in the text that is tokenized: what the user said, not what a template adds."""

import copy
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from transformers import PreTrainedTokenizerBase

from ..errors import ConfigurationError
from .chunks import Span

# Marks where a template puts a content. Private-use characters, which no template looks for.
_OPEN, _CLOSE = "\uf8fd", "\uf8fe"
_MARK = re.compile(f"([{_OPEN}{_CLOSE}])([0-9]+);")


@dataclass(frozen=True)
class Rendering:
    """A row as one side writes it.

    Args:
        text: What is tokenized.
        contents: What the user gave, in order: the same for both sides.
        spans: For each content its first and its last character plus one in `text`, ascending; None for one that the
            template leaves out or changes.
        is_conversation: Whether a chat template wrote it, special tokens and all.
    """

    text: str
    contents: Sequence[str]
    spans: Sequence[Span | None]
    is_conversation: bool

    @property
    def starts(self) -> list[int]:
        """For each content the number of its first byte. A byte is left free between two contents."""
        return self._bounds[:-1]

    @property
    def end(self) -> int:
        """The number of the first byte behind all contents."""
        return self._bounds[-1]

    @property
    def _bounds(self) -> list[int]:
        return [0, *accumulate(len(content.encode()) + 1 for content in self.contents)]


def closing_tokens(rendering: Rendering, offsets: Sequence[Span], special: Sequence[bool]) -> list[int]:
    """Find the tokens that close a row: a special token behind the last content, and white space before it.

    None where something else than white space stands beside the special token.

    Example:
        >>> row = Rendering("hi </s>", ["hi"], [(0, 2)], False)
        >>> closing_tokens(row, [(0, 2), (2, 3), (3, 7)], [False, False, True])
        [1, 2]
    """
    last = rendering.spans[-1] if rendering.spans else None
    if last is None:
        return []
    after = [token for token, (first, end) in enumerate(offsets) if first >= last[1] and end > first]
    marks = [token for token in after if special[token]]
    if len(marks) != 1:
        return []
    first, end = offsets[marks[0]]
    if (rendering.text[last[1] : first] + rendering.text[end:]).strip():
        return []
    return [token for token in after if token <= marks[0]]


def render_messages(
    tokenizer: PreTrainedTokenizerBase,
    chat_template: str | None,
    messages: list[dict[str, Any]],
    row: Mapping[str, Any],
    *,
    name: str,
) -> Rendering:
    """Write a conversation by a chat template, and find what the messages say in it.

    The template is run a second time with marks around the contents, inside of their white space, which it may strip.
    Where it changes a marked content, the content is looked for as it is and taken if it occurs once. `row` may have
    "tools" and "chat_template_kwargs", as in TRL.
    """
    if not chat_template:
        raise ConfigurationError(
            f"The training data are conversations, but the {name} tokenizer has no chat template. Set its "
            "chat_template to the one that its model was trained with."
        )
    tools = row.get("tools")
    options = {
        "tools": json.loads(tools) if isinstance(tools, str) else tools,
        "chat_template": chat_template,
        **(row.get("chat_template_kwargs") or {}),
    }

    def render(conversation: list[dict[str, Any]]) -> str:
        return str(tokenizer.apply_chat_template(conversation, tokenize=False, **options))

    contents: list[str] = []
    marked = _mark(messages, contents)
    text = render(messages)
    return Rendering(text, contents, _locate(contents, text, render, marked), True)


def _mark(messages: list[dict[str, Any]], contents: list[str]) -> list[dict[str, Any]]:
    """Put marks around the content of each message, inside its white space, and list the contents without it."""

    def mark(content: str) -> str:
        core = content.strip()
        if not core:
            return content
        before, after = content.split(core, 1)
        number = len(contents)
        contents.append(core)
        return f"{before}{_OPEN}{number};{core}{_CLOSE}{number};{after}"

    marked = copy.deepcopy(messages)
    for message in marked:
        content = message.get("content")
        if isinstance(content, str):
            message["content"] = mark(content)
        elif isinstance(content, list):
            for part in content:
                if isinstance(part, dict) and isinstance(part.get("text"), str):
                    part["text"] = mark(part["text"])
    return marked


def _locate(
    contents: list[str],
    text: str,
    render: Callable[[list[dict[str, Any]]], str],
    marked: list[dict[str, Any]],
) -> list[Span | None]:
    """Find where a template puts each content: by marks, or, where it changes marked contents, as the only match."""
    marks: dict[str, list[tuple[int, int]]] = {_OPEN: [], _CLOSE: []}
    plain = ""
    if not any(mark in content for content in contents for mark in (_OPEN, _CLOSE)):
        written = render(marked)
        end = 0
        for match in _MARK.finditer(written):
            plain += written[end : match.start()]
            marks[match[1]].append((int(match[2]), len(plain)))
            end = match.end()
        plain += written[end:]
    opened, closed = (_once(marks[mark]) if plain == text else {} for mark in (_OPEN, _CLOSE))
    spans: list[Span | None] = []
    reached = 0
    for number, content in enumerate(contents):
        span: Span | None = None
        if number in opened and number in closed:
            span = opened[number], closed[number]
        elif text.count(content) == 1 and sum(content in other for other in contents) == 1:
            span = text.index(content), text.index(content) + len(content)
        # Marked or not, what is found has to be the content, between the one before and the one after.
        limit = min((start for later, start in opened.items() if later > number), default=len(text))
        if span is None or text[span[0] : span[1]] != content or not reached <= span[0] <= span[1] <= limit:
            spans.append(None)
        else:
            spans.append(span)
            reached = span[1]
    return spans


def _once(marks: list[tuple[int, int]]) -> dict[int, int]:
    numbers = [number for number, _ in marks]
    return {number: place for number, place in marks if numbers.count(number) == 1}
