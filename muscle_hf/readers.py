"""Files of answers -> answers of two models in the same order."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import InputError

FIELDS = ("id", "prediction", "reference")

_NEEDED = f"one JSON object a line with {', '.join(FIELDS)} is needed"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_EXAMPLES = 3
# Longest value that a message quotes: an answer may be a whole essay, and the message has to stay one readable line.
_QUOTE = 60


@dataclass(frozen=True)
class AnswerFile:
    """The answers of one model.

    Args:
        path: Where they were read.
        ids: One for each instance, all different; strings or integers.
        predictions: Its answer: a string, an integer, or None where there is none.
        references: The right answer.
    """

    path: Path
    ids: list[str | int]
    predictions: list[str | int | None]
    references: list[str | int]


def read_answers(path: str | Path) -> AnswerFile:
    """Read a JSONL file with the fields `id`, `prediction` and `reference`; other fields are left alone.

    Args:
        path: The file; UTF-8, with or without byte order mark. Empty lines are skipped.

    Returns:
        Its answers, in the order of the file.

    Raises:
        InputError: The file cannot be read, is empty or not UTF-8; a line is not a JSON object, or was cut off; a
            field is missing, given twice or of another type; some answers are strings and others integers; an id
            occurs twice. The message names file and line.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "answers.jsonl"
        >>> _ = file.write_text('{"id": "q1", "prediction": "B", "reference": "C"}')
        >>> read_answers(file).predictions
        ['B']
    """
    path = Path(path)
    result = AnswerFile(path, [], [], [])
    lines: dict[str | int, int] = {}
    answer_type: type | None = None
    decoder = json.JSONDecoder(object_pairs_hook=_object)
    try:
        # As bytes: text mode would also cut lines at a lone carriage return, and could not name the line whose bytes
        # are not UTF-8. Nor splitlines(), which cuts at line separators that JSON allows inside a string.
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if number == 1:
                    line = line.removeprefix(_BYTE_ORDER_MARK)
                if not line.strip():
                    continue
                where = f"{path}, line {number}"
                row = _row(decoder, where, line)
                key, prediction, reference = row["id"], row["prediction"], row["reference"]
                if key in lines:
                    raise InputError(f"{where}: id {_quote(key)} stands on line {lines[key]} already.")
                # A string never equals an integer, so one answer of another type would silently count as wrong.
                answer_type = answer_type or type(reference)
                for name, answer in (("prediction", prediction), ("reference", reference)):
                    if answer is not None and type(answer) is not answer_type:
                        raise InputError(
                            f"{where}: {name} is {_quote(answer)}, but the file starts with "
                            f"{'a string' if answer_type is str else 'an integer'} as reference. Write all answers as "
                            "strings or all as integers: 1 and '1' are different answers."
                        )
                lines[key] = number
                result.ids.append(key)
                result.predictions.append(prediction)
                result.references.append(reference)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}); {_NEEDED}.") from None
    if not lines:
        raise InputError(f"{path} holds no answers; {_NEEDED}.")
    return result


def join(old: AnswerFile, new: AnswerFile) -> tuple[AnswerFile, AnswerFile]:
    """Put the new model's answers into the order of the old model's, by id.

    Args:
        old: The old model's answers.
        new: The new model's answers, in any order.

    Returns:
        Both files, row by row about the same instances.

    Raises:
        InputError: Ids that only one file has, or references that differ; counted, with examples.

    Example:
        >>> old = AnswerFile(Path("old.jsonl"), ["a", "b"], [1, 2], [1, 1])
        >>> new = AnswerFile(Path("new.jsonl"), ["b", "a"], [3, 4], [1, 1])
        >>> join(old, new)[1].predictions
        [4, 3]
    """
    position = {key: index for index, key in enumerate(new.ids)}
    known = set(old.ids)
    lacking = [
        f"{file.path} lacks {len(missing)} of the {len(other.ids)} ids of {other.path}, for instance "
        + _some(map(_quote, missing[:_EXAMPLES]), len(missing))
        for file, other, missing in (
            (new, old, [key for key in old.ids if key not in position]),
            (old, new, [key for key in new.ids if key not in known]),
        )
        if missing
    ]
    if lacking:
        hint = (
            " One file writes its ids as strings, the other as integers."
            if {str(key) for key in old.ids} == {str(key) for key in new.ids}
            else ""
        )
        raise InputError(f"{'; '.join(lacking)}. Both models must have answered the same instances.{hint}")
    order = [position[key] for key in old.ids]
    aligned = AnswerFile(
        new.path, old.ids, [new.predictions[index] for index in order], [new.references[index] for index in order]
    )
    differing = [
        (key, one, other)
        for key, one, other in zip(old.ids, old.references, aligned.references, strict=True)
        if one != other
    ]
    if differing:
        shown = (f"{_quote(key)} ({_quote(one)} and {_quote(other)})" for key, one, other in differing[:_EXAMPLES])
        raise InputError(
            f"the references of {len(differing)} of {len(old.ids)} ids differ between {old.path} and {new.path}, for "
            f"instance {_some(shown, len(differing))}. Both files must be about the same data."
        )
    return old, aligned


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Make a JSON object; of a name that stands twice, Python would silently keep the last value."""
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the field {_quote(twice)} stands twice in one object")
    return found


def _row(decoder: json.JSONDecoder, where: str, line: bytes) -> dict[str, Any]:
    # Only the last line of a file can be without its end.
    cut = "" if line.endswith(b"\n") else " The file ends within this line: was it cut off?"
    try:
        row = decoder.decode(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(f"{where} is not UTF-8 (byte {error.start + 1}): save the file as UTF-8.{cut}") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{where} is not JSON ({error.msg}, column {error.colno}).{cut}") from None
    except RecursionError:
        raise InputError(f"{where} is nested too deeply.") from None
    except ValueError as error:  # A field that stands twice, or an integer with thousands of digits.
        raise InputError(f"{where} cannot be read: {error}.") from None
    if not isinstance(row, dict):
        raise InputError(f"{where} is {_quote(row)}, not a JSON object with {', '.join(FIELDS)}.")
    for name in FIELDS:
        if name not in row:
            raise InputError(f"{where} has no field {name!r}; it has {_shorten(', '.join(map(repr, row))) or 'none'}.")
        value = row[name]
        # The exact type: in Python a bool is an int.
        if type(value) not in (str, int) and not (name == "prediction" and value is None):
            none = ", or null for no answer" if name == "prediction" else ""
            raise InputError(f"{where}: {name} is {_quote(value)}; a string or an integer is needed{none}.")
    return row


def _quote(value: Any) -> str:
    """Show a value as its file has it; of containers the kind only."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "an array"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return _shorten(repr(value))


def _shorten(text: str) -> str:
    return text if len(text) <= _QUOTE else f"{text[:_QUOTE]}… ({len(text)} characters)"


def _some(examples: Iterable[str], count: int) -> str:
    return ", ".join(examples) + (", …" if count > _EXAMPLES else "")
