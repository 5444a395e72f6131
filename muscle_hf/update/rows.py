"""The task's rows: read from a file or the Hub, and checked."""

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import load_dataset

from ..errors import InputError
from ..jsonlines import read_objects
from ..pointers import refuse_pointer
from ..prompts import Prompt
from ..report import printable

_NEEDED = "an object with prompt and completion, or with messages"
_HUB_ID = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(?::(?P<config>[\w.-]+))?(?:@(?P<revision>[\w./-]+))?")
_FILES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
_COLUMNS = ("prompt", "completion", "messages", "choices")
_MESSAGE = ("role", "content")
# TRL renders them into the prompt, and they could not be asked in the same way.
_NOT_ASKED = ("tools", "chat_template_kwargs", "images", "image")


@dataclass(frozen=True)
class Example:
    """A row of the task.

    Args:
        row: What is trained on: `prompt` and `completion`, or `messages`.
        prompt: What is asked: a text or a conversation.
        completion: The right answer as it stands there, white space included.
        choices: The answers to choose from, None where they are not given.
        number: Of the row in its file, from 0.
    """

    row: Mapping[str, Any]
    prompt: Prompt
    completion: str
    choices: tuple[str, ...] | None
    number: int


def read_examples(
    source: str, split: str | None, *, default_split: str, choices: bool, weight: str | None = None
) -> list[Example]:
    """Read and check a data set.

    Args:
        source: A file, or `org/name[:config][@revision]` of the Hub.
        split: Split of a data set of the Hub.
        default_split: The one that is read where none is named.
        choices: Whether each row needs `choices`, of which the completion is one.
        weight: A column with a number for each row, which is kept for the training.

    Raises:
        InputError: There is nothing to read, or a row is not what a task needs, with its place.
    """
    rows = list(raw_rows(source, split, default_split))
    if not rows:
        raise InputError(f"{source} has no rows; {_NEEDED} is needed in each.")
    found = [_example(f"{source}, row {number + 1}", row, number, choices, weight) for number, row in enumerate(rows)]
    kinds = {key: number for number, one in reversed(list(enumerate(found))) for key in [_kind(one)]}
    if len(kinds) > 1:
        numbers = sorted(kinds.values())[:2]
        raise InputError(
            f"{source} mixes texts, conversations and messages: row {numbers[0] + 1} is of another kind than row "
            f"{numbers[1] + 1}. Bring all rows to one form."
        )
    return found


def raw_rows(source: str, split: str | None, default_split: str) -> Iterator[dict[str, Any]]:
    """Read rows as they are, one after the other.

    Args:
        source: A file (JSON Lines, CSV, TSV, Parquet), or a data set of the Hub, org/name[:config][@revision].
        split: Of a data set of the Hub; files have none.
        default_split: What `split` means where it is None.

    Raises:
        InputError: No such file or data set, or one that cannot be read.
    """
    path = Path(source)
    if path.is_file() or path.suffix.lower() in _FILES:
        if split is not None:
            raise InputError(f"{source} is a file, which has no split {split!r}; leave the split out.")
        yield from _rows_of_file(path)
        return
    match = _HUB_ID.fullmatch(source)
    if path.exists() or match is None:
        raise InputError(
            f"{source} is neither a file ({', '.join(_FILES)}) nor the id of a data set of the Hub, "
            "org/name[:config][@revision]."
        )
    try:
        yield from load_dataset(
            match["name"], match["config"], revision=match["revision"], split=split or default_split
        )
    # What datasets and the Hub raise: no such data set, configuration or split, no network, a broken file.
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise InputError(f"{source} is no file here, and the Hub does not give it: {printable(str(error))}") from error


def _rows_of_file(path: Path) -> Iterator[dict[str, Any]]:
    kind = path.suffix.lower()
    if kind in (".jsonl", ".json"):
        yield from (row for *_, row in read_objects(path, _NEEDED))
    elif kind == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet

        refuse_pointer(path)
        try:
            for batch in pyarrow.parquet.ParquetFile(path).iter_batches():
                yield from batch.to_pylist()
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"{path} cannot be read as Parquet ({printable(str(error))}).") from None
    elif kind in (".csv", ".tsv"):
        yield from _rows_of_csv(path, "\t" if kind == ".tsv" else ",")
    else:
        raise InputError(f"{path} is no file of a known kind; JSON Lines, CSV, TSV or Parquet are.")


def _rows_of_csv(path: Path, delimiter: str) -> Iterator[dict[str, Any]]:
    refuse_pointer(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for row in csv.DictReader(file, delimiter=delimiter, strict=True, restval=_CUT, restkey=_CUT):
                if _CUT in row or _CUT in row.values():
                    raise InputError(f"{path}: a row has more or fewer fields than the header: {printable(str(row))}.")
                yield row
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}); {_NEEDED} is needed.") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8; save the file as UTF-8.") from None
    except csv.Error as error:
        raise InputError(f"{path} cannot be read as CSV ({error}).") from None


_CUT = "\x03"


def _kind(example: Example) -> str:
    if "messages" in example.row:
        return "messages"
    return "text" if isinstance(example.prompt, str) else "conversation"


def _example(where: str, row: Mapping[str, Any], number: int, choices: bool, weight: str | None) -> Example:
    found = {name: row[name] for name in _COLUMNS if row.get(name) is not None}
    extra = [name for name in _NOT_ASKED if row.get(name)]
    if extra:
        raise InputError(f"{where} has {extra[0]}, which the models could not be asked with; leave the column out.")
    if "messages" in found and ("prompt" in found or "completion" in found):
        raise InputError(f"{where} has messages and prompt or completion; leave one of them out.")
    if "messages" in found:
        messages = _messages(where, "messages", found["messages"])
        prompt: Any = messages[:-1]
        answer: Any = messages[-1:]
        trained: dict[str, Any] = {"messages": messages}
        if not prompt:
            raise InputError(f"{where}: messages has only {printable(str(messages))}; a question comes before.")
    else:
        if "prompt" not in found or "completion" not in found:
            empty = [name for name in ("prompt", "completion") if name in row and row[name] is None]
            names = f"no value in {empty[0]}" if empty else ", ".join(map(str, row)) or "nothing"
            raise InputError(f"{where} has {printable(names)}; prompt and completion are needed, or messages.")
        prompt, answer = found["prompt"], found["completion"]
        if not isinstance(prompt, str):
            prompt, answer = _messages(where, "prompt", prompt), _messages(where, "completion", answer)
        elif not isinstance(answer, str):
            raise InputError(
                f"{where}: completion is {printable(str(answer))}; a text is needed, as the prompt is one."
            )
        trained = {"prompt": prompt, "completion": answer}
    if not isinstance(answer, str):
        if len(answer) != 1 or answer[0]["role"] != "assistant":
            raise InputError(f"{where}: the answer must be one message of the assistant, the last one.")
        answer = answer[0]["content"]
    if weight is not None:
        if not isinstance(row.get(weight), int | float) or isinstance(row[weight], bool):
            raise InputError(f"{where}: {weight} is {printable(str(row.get(weight)))}; a number is needed.")
        trained = trained | {weight: row[weight]}
    if not answer.strip():
        raise InputError(f"{where} has an empty completion, which no answer can equal; leave the row out.")
    return Example(trained, prompt, answer, _choices(where, found.get("choices"), answer, choices), number)


def _messages(where: str, name: str, value: Any) -> list[dict[str, str]]:
    is_list = isinstance(value, list) and all(isinstance(one, dict) for one in value)
    if not is_list or not value or not all(isinstance(one.get(key), str) for one in value for key in _MESSAGE):
        raise InputError(
            f"{where}: {name} is {printable(str(value))[:200]}; messages with role and content are needed."
        )
    others = {key for one in value for key in one if one[key] is not None} - set(_MESSAGE)
    if others:
        raise InputError(f"{where}: a message has {sorted(others)[0]}, which the models could not be asked with.")
    return [{key: one[key] for key in _MESSAGE} for one in value]


def _choices(where: str, value: Any, answer: str, needed: bool) -> tuple[str, ...] | None:
    if not needed:
        return None
    if not isinstance(value, list) or len(value) < 2 or not all(isinstance(one, str) for one in value):
        raise InputError(f"{where}: choices is {printable(str(value))}; a list of two or more texts is needed.")
    stripped = [one.strip() for one in value]
    if stripped.count(answer.strip()) != 1:
        raise InputError(
            f"{where}: the completion {printable(answer)!r} must be one of the choices, once: {printable(str(value))}."
        )
    return tuple(value)


def read_prompts(source: str, split: str | None, test: Sequence[Example]) -> tuple[list[dict[str, Any]], int]:
    """Read prompts without labels, but not those that the test set asks.

    Args:
        source: A file, or `org/name[:config][@revision]` of the Hub, with `prompt` and perhaps `completion`.
        split: Split of a data set of the Hub.
        test: The test rows.

    Returns:
        The rows, and how many were left out.

    Raises:
        InputError: There is nothing to read.
    """
    asked = {key_of(one.prompt) for one in test}
    columns = ("prompt", "completion")
    found = [
        {name: row[name] for name in columns if row.get(name) is not None} for row in raw_rows(source, split, "train")
    ]
    kept = [row for row in found if key_of(row.get("prompt")) not in asked]
    if not kept:
        raise InputError(f"{source} has no prompt that the test set does not ask; give others, or leave it out.")
    return kept, len(found) - len(kept)


def key_of(prompt: Any) -> str:
    """Return a text that equal prompts share.

    Args:
        prompt: A text or a conversation.
    """
    return json.dumps(prompt, sort_keys=True)
