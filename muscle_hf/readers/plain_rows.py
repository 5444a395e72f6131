"""Rows of files and of the Hub as they are, one after the other; nothing is asked of their columns here."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from ..errors import InputError
from ..files import no_such_file, refuse_pointer
from ..hub.names import DATA_SET
from ..text import one_line
from .formats.columnar import Csv
from .formats.jsonlines import read_array, read_objects
from .formats.opening import BYTE_ORDER_MARK, opened, without_ending

_NEEDED = "an object for each row, such as one with prompt and completion, or with messages"
_FILES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")


def raw_rows(
    source: str, split: str | None, default_split: str, *, config: str | None = None
) -> Iterator[dict[str, Any]]:
    """Read rows as they are, one after the other.

    The source is a file (JSON Lines, a JSON array, CSV, TSV, Parquet), or a data set of the Hub,
    org/name[:config][@revision]; split and configuration are of the latter.

    Raises:
        InputError: No such file or data set, or one that cannot be read.
    """
    path = Path(source)
    if path.is_file() or without_ending(path).suffix.lower() in _FILES:
        for what, value in (("split", split), ("configuration", config)):
            if value is not None:
                raise InputError(f"{source} is a file, which has no {what} {value!r}; leave the {what} out.")
        yield from _rows_of_file(path)
        return
    # They need huggingface_hub, which files do not.
    from ..hub.failures import failure_reason
    from ..hub.lookup import is_local, looking_up

    match = DATA_SET.fullmatch(source)
    if path.exists() or match is None or is_local(match["name"]):
        raise InputError(
            f"{source} is neither a file ({', '.join(_FILES)}) nor the id of a data set of the Hub, "
            "org/name[:config][@revision]."
        )
    if config is not None and match["config"] is not None:
        raise InputError(f"{source} names a configuration, and so does {config!r}; leave one of them out.")
    from datasets import load_dataset

    try:
        with looking_up():
            rows = load_dataset(
                match["name"], config or match["config"], revision=match["revision"], split=split or default_split
            )
        yield from rows
    # What datasets and the Hub raise: no such data set, configuration or split, no network, a broken file.
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = failure_reason(error, match["name"], "dataset") or one_line(error)
        raise InputError(f"{source} is no file here, and the Hub does not give it: {reason}") from error


def _rows_of_file(path: Path) -> Iterator[dict[str, Any]]:
    kind = without_ending(path).suffix.lower()
    if kind in (".jsonl", ".json"):
        yield from _rows_of_json(path)
    elif kind == ".parquet":
        import pyarrow.parquet

        refuse_pointer(path)
        try:
            for batch in pyarrow.parquet.ParquetFile(path).iter_batches():
                yield from batch.to_pylist()
        except FileNotFoundError:
            raise no_such_file(path) from None
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"{path} cannot be read as Parquet ({one_line(error)}).") from None
    elif kind in (".csv", ".tsv"):
        table = Csv(path)
        for rows in table.scan(table.names, lambda _, block: pa.table(block).to_pylist()):
            yield from rows
    else:
        raise InputError(f"{path} is no file of a known kind; JSON Lines, JSON, CSV, TSV or Parquet are.")


def _rows_of_json(path: Path) -> Iterator[dict[str, Any]]:
    """Read one array of objects, or one object a line, whatever the file is called."""
    refuse_pointer(path)
    with opened(path, _NEEDED) as file:
        start = file.read(1 << 16).removeprefix(BYTE_ORDER_MARK).lstrip()
    if start.startswith(b"["):
        yield from (row for *_, row in read_array(path, _NEEDED))
    # One object over several lines is no row, and no list of rows either.
    elif (
        start.startswith(b"{")
        and without_ending(path).suffix.lower() == ".json"
        and not _is_object(start.partition(b"\n")[0])
    ):
        raise InputError(
            f"{path} is one JSON object over several lines; a list of rows is needed: [{{…}}, {{…}}], or one object "
            "a line. Where the list stands inside the object, write it to a file of its own."
        )
    else:
        yield from (row for *_, row in read_objects(path, _NEEDED))


def _is_object(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True
