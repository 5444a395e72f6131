"""What a source names: a file or folder, or a data set of the Hub, and what follows its name."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from ..errors import InputError
from ..files import refuse_pointer
from ..hub.names import DATA_SET
from ..text import quote
from .formats.opening import without_ending

_ENDINGS = (".jsonl", ".json", ".ndjson", ".csv", ".tsv", ".parquet", ".arrow", ".feather", ".txt", ".eval")
# A name and what it has to be; values may hold almost anything, such as "openai:chat:gpt-4o".
_WHERE = re.compile(r"@(?=[\w ]+=)")
# A revision holds no "=", which the choice of rows does.
_HUB = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+)(?![\w./=-]))?(?P<rest>(?:[:@].+)?)", re.ASCII)


class Named(NamedTuple):
    """What a source names."""

    path: Path | None
    """The file or folder; None for a data set of the Hub."""
    data_set: str
    """The id of the data set, org/name."""
    revision: str | None
    rest: str
    """What follows: `:column`, `@column=value`, or both."""


def split(source: str) -> Named:
    """Tell a path from a path with a column or a choice of rows, and both from an id of the Hub."""
    path = Path(source)
    refuse_pointer(path)
    if path.exists():
        return Named(path, "", None, "")
    # A column may have such signs in its name, and so may a file or its folder: the longest name that is there counts.
    for place in reversed([match.start() for match in re.finditer("[:@]", source)]):
        is_chosen = Path(source[:place]).is_dir() and _WHERE.match(source, place)
        if is_chosen or (Path(source[:place]).is_file() and source[place + 1 :]):
            refuse_pointer(Path(source[:place]))
            return Named(Path(source[:place]), "", None, source[place:])
    found = _HUB.fullmatch(source)
    if found and DATA_SET.fullmatch(found["name"]) and not _is_path(found["name"]):
        return Named(None, found["name"], found["revision"], found["rest"])
    raise InputError(
        f"{source} cannot be read (no such file or folder); a file or folder of answers is needed, or org/name of a "
        "data set of the Hub."
    )


def where(rest: str, source: str) -> Mapping[str, str]:
    """Read what is chosen behind a path whose names are not columns: "@provider=openai:gpt-4o@prompt=short"."""
    found: dict[str, str] = {}
    for part in _WHERE.split(rest)[1:]:
        name, _, value = part.partition("=")
        if found.setdefault(name, value) != value:
            raise InputError(f"{source} chooses {quote(name)} more than once; name one.")
    return found


def _is_path(name: str) -> bool:
    # Ids may have dots too: org/answers-v1.5.
    return without_ending(Path(name)).suffix.lower() in _ENDINGS or Path(name).parent.is_dir()
