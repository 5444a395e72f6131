"""The shapes of rows that people have, recognised by their columns; what fits none, or two, is refused."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import InputError
from ..text import listed

Use = Literal["needed", "allowed", "unused"]

COLUMNS = ("prompt", "completion", "reference", "choices", "messages", "id")
"""What a column may be said to be."""

# Column of what is asked -> name of the shape, and the columns that may hold its right answer.
_SHAPES = {
    "prompt": ("prompt", ("completion", "reference", "answer")),
    "question": ("question", ("answer", "completion", "reference")),
    "instruction": ("alpaca", ("output",)),
    "messages": ("messages", ("completion", "reference")),
    "conversations": ("ShareGPT", ()),
}
KNOWN_SHAPES = (
    "prompt and completion (or reference); question and answer; instruction, input and output (alpaca); messages; "
    "conversations (ShareGPT)"
)
_CONVERSATIONS = ("messages", "conversations")
# Beside a question or an instruction they would be a part of what is asked, and nobody can tell how.
_PARTS_OF_A_PROMPT = ("context", "passage", "history", "system")
_SHOWN = 100
NAME_THEM = "Say which column is what: --columns prompt=NAME,completion=NAME."
RENAME = 'Rename or remove columns, such as dataset.rename_columns({"question": "prompt", "answer": "completion"}).'
"""The way out of a `datasets.Dataset`."""


@dataclass(frozen=True)
class Layout:
    """Which column of some rows is what."""

    shape: str  # what such rows are called
    prompt: str  # the column of what is asked; in a conversation all but the answer
    answer: str | None  # the column; None where right answers are the last messages, or where there are none
    choices: str | None
    # Whether a right answer stands as it follows the prompt, white space included, and not only as what an answer is
    # compared with.
    follows_prompt: bool
    columns: tuple[str, ...]  # all that are read
    unread: tuple[str, ...]

    @property
    def is_conversation(self) -> bool:
        """Whether the answer is the last message of a conversation."""
        return self.shape in ("messages", "ShareGPT")

    @property
    def is_plain(self) -> bool:
        """Whether nothing had to be recognised: `prompt`, with what is called an answer here."""
        return self.prompt == "prompt" and self.shape == "prompt"


def layout_of(
    rows: Sequence[Mapping[str, Any]],
    source: str,
    named: Mapping[str, str],
    names: list[str],
    answers: Use,
    choices: Use,
    way_out: str,
) -> Layout:
    """Recognise which column is what; the arguments are those of `read_task`.

    No shape, several, or a column that is not there is refused, with the columns that are.
    """
    has = f"{source} has the columns {listed(sorted(names)) or 'none'}"
    for what, name in named.items():
        if what not in COLUMNS:
            raise InputError(f"{what!r} is nothing that a column can be; choose from {', '.join(COLUMNS)}.")
        if name not in names:
            raise InputError(f"{has}, and no column {shown(name)} ({what}). {way_out}")
    heads = [(what, name) for what, name in named.items() if what in ("prompt", "messages")]
    heads = heads or [(name, name) for name in _SHAPES if name in names]
    if not heads:
        raise InputError(f"{has}, which is no shape that is known: {KNOWN_SHAPES}. {way_out}")
    if len(heads) > 1:
        _refuse_mixed_rows(rows, source, [name for _, name in heads])
        both = " and ".join(name for _, name in heads[:2])
        raise InputError(f"{has}: both {both} could be what is asked. Leave one out. {way_out}")
    what, prompt = heads[0]
    if prompt in _CONVERSATIONS:
        what = prompt
    shape, candidates = _SHAPES[what]
    if what in ("question", "instruction"):
        part = next((name for name in _PARTS_OF_A_PROMPT if name in names), None)
        if part is not None:
            raise InputError(
                f"{has}: {part} beside {prompt} would be a part of what is asked, and nobody can tell how. Write both "
                f"into one column. {way_out}"
            )
    of_choices = named.get("choices", "choices" if "choices" in names else None) if choices != "unused" else None
    if choices == "needed" and of_choices is None:
        raise InputError(f"{has}, and no choices, of which one is the answer. {way_out}")
    right = [named[name] for name in ("completion", "reference") if name in named]
    if not right and answers != "unused":
        if what in _CONVERSATIONS and of_choices is not None:
            candidates = (*candidates, "answer")
        right = [name for name in candidates if name in names and name != prompt]
    if len(right) > 1:
        raise InputError(f"{has}: both {right[0]} and {right[1]} could be the right answer. Leave one out. {way_out}")
    answer = right[0] if right else None
    if answers == "needed" and answer is None and what not in _CONVERSATIONS:
        raise InputError(f"{has}, and no right answers to {prompt} ({' or '.join(candidates)}). {way_out}")
    read = [prompt, *(["input"] if shape == "alpaca" and "input" in names else [])]
    read += [name for name in (answer, of_choices) if name is not None]
    if what in _CONVERSATIONS and "system" in names:
        read.append("system")
    unread = [name for name in names if name not in read and name != named.get("id", "id")]
    is_reference = answer in (None, "reference") or ("reference" in named and "completion" not in named)
    return Layout(shape, prompt, answer, of_choices, not is_reference, tuple(read), tuple(unread))


def _refuse_mixed_rows(rows: Sequence[Mapping[str, Any]], source: str, heads: list[str]) -> None:
    """Say so where rows are of different shapes, each of one alone."""
    kinds = [[name for name in heads if row.get(name) is not None] for row in rows]
    if all(len(kind) == 1 for kind in kinds):
        other = next(number for number, kind in enumerate(kinds) if kind != kinds[0])
        raise InputError(
            f"{source} mixes shapes: row 1 has {kinds[0][0]}, and row {other + 1} is of another kind, with "
            f"{kinds[other][0]}. Bring all rows to one form."
        )


def shown(value: Any) -> str:
    """Show a value in a message: on one line, in the middle of it not what is long.

    Example:
        >>> shown("a\\nb")
        "'a\\\\nb'"
    """
    text = repr(value)
    if len(text) > 2 * _SHOWN:
        text = f"{text[:_SHOWN]}…{text[-_SHOWN // 2 :]}"
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def named_columns(items: Iterable[str]) -> dict[str, str]:
    """Read what `--columns` gives."""
    columns: dict[str, str] = {}
    for item in (item for text in items for item in text.split(",")):
        what, _, name = (part.strip() for part in item.partition("="))
        if not what or not name:
            raise InputError(f"--columns {item!r} is not of the form WHAT=NAME, such as prompt=question.")
        if what not in COLUMNS:
            known = ", ".join(COLUMNS)
            raise InputError(f"--columns {item!r}: {what!r} is nothing that a column can be; choose from {known}.")
        if what in columns:
            raise InputError(f"two columns are named for {what}: {columns[what]!r} and {name!r}.")
        columns[what] = name
    return columns
