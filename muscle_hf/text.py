"""Texts that no terminal and no page trips over, and values as messages show them."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from .errors import InputError

_LISTED = 20
# Longest value that a message quotes: an answer may be a whole essay, and the message has to stay one readable line.
_QUOTE = 60


# An underscore inside a word means nothing to Markdown, and escaping it would make names hard to read in the file.
_MARKUP = re.compile(r"[\\`*~|]|\](?=[(\[])|(?<![^\W_])_|_(?![^\W_])|#(?=#*$)")
# A bracket at the start may begin the definition of a link, which shows nowhere: "[x]: y".
_BLOCK_START = re.compile(r"^(?=[-+](?:[-+ ]|$)|[#=\[])|^(\d{1,9})(?=[.)](?: |$))")
# Also what turns the direction of all that follows; the marks that a right-to-left text needs stay.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table in GitHub's Markdown; text that would break it is escaped.

    A row that is longer or shorter than `head` is refused: Markdown would drop its last cells without a word.
    """
    for number, row in enumerate(rows, start=1):
        if len(row) != len(head):
            raise InputError(f"row {number} of the table has {len(row)} cells, but there are {len(head)} columns.")

    def line(cells: Sequence[object]) -> str:
        return "| " + " | ".join(escape_markdown(str(cell)) for cell in cells) + " |"

    return "\n".join([line(head), "|" + "---|" * len(head), *(line(row) for row in rows)])


def printable(text: str) -> str:
    """Return text on one line without anything that a terminal or a page would take for a command.

    Runs of white space become one space, control characters become U+FFFD.
    """
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", " ".join(text.split()))


def escape_markdown(text: str) -> str:
    """Return text that Markdown shows as it is, on one line, whatever a model or a user wrote into it."""
    text = _BLOCK_START.sub(r"\1\\", _MARKUP.sub(r"\\\g<0>", printable(text)))
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def quote(value: Any) -> str:
    """Show a value in a message, as its file has it; of containers the kind only."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "an array"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    text = repr(value)
    return text if len(text) <= _QUOTE else f"{text[:_QUOTE]}… ({len(text)} characters)"


def one_line(value: Any) -> str:
    """Show what a library or a server says in a message: printable, on one line, and not at any length."""
    text = printable(str(value))
    return text if len(text) <= 5 * _QUOTE else f"{text[: 5 * _QUOTE]}…"


def listed(names: Iterable[str]) -> str:
    """List names in a message, on one line: not more of them than one reads, and their number."""
    shown = [name if name.isprintable() else printable(name) for name in names]
    more = f", … ({len(shown)} in all)" if len(shown) > _LISTED else ""
    return ", ".join(shown[:_LISTED]) + more


def how_many(count: int, noun: str) -> str:
    """Give a number with what it counts: "1 answer", "2,060 answers"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def nearest_option(words: Iterable[str], known: Iterable[str], *, cutoff: float = 0.72) -> str | None:
    """Return the option that the first misspelt, cut or invented one among the words of a command may have meant."""
    options = [option for option in known if option.startswith("--")]
    for word in (word.partition("=")[0] for word in words if word.startswith("--")):
        if word in options or word == "--":
            continue
        name = word.replace("_", "-")
        longer = [option for option in options if option.startswith(name)]
        near = longer if len(longer) == 1 else get_close_matches(name, options, n=1, cutoff=cutoff)
        if near:
            return near[0]
    return None


def nearest_choice(complaint: str) -> str | None:
    """Return the choice that argparse's complaint of an invalid one may have meant; None for any other complaint."""
    found = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", complaint)
    if found is None:
        return None
    return next(iter(get_close_matches(found[1], re.findall(r"[\w.-]+", found[2]), n=1, cutoff=0.75)), None)


def conversation(messages: Sequence[Mapping[str, Any]]) -> str:
    """Write a conversation as a text to be shown."""
    return "\n".join(f"{message['role']}: {message['content']}" for message in messages)


def loosely(prompt: str | Sequence[Mapping[str, Any]]) -> str:
    """Return a text that prompts share which differ in case and white space alone.

    Example:
        >>> loosely("What is\\n2 + 2? ") == loosely("what is 2 + 2?")
        True
    """
    return " ".join((prompt if isinstance(prompt, str) else conversation(prompt)).split()).casefold()
