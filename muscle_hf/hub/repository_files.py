"""Files of a repository of the Hub or of a folder: one file brought here, a JSON object read."""

import json
from pathlib import Path
from typing import Any

from huggingface_hub import _CACHED_NO_EXIST, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

from ..errors import InputError
from ..text import printable
from .failures import hub_failures
from .lookup import is_local
from .names import is_commit, is_id

# An index of weights names some ten thousand of them; a configuration is a few kilobytes.
_LONGEST = 32 * 2**20
_PATH_BEGINNINGS = ("/", ".", "~", "\\")


def has_path_form(name: str) -> bool:
    """Tell whether a name begins as only paths do."""
    return name.startswith(_PATH_BEGINNINGS)


def check_id(name: str, what: str) -> None:
    """Refuse what can be no id of the Hub; `what` is what it should name, for the message."""
    if not is_id(name) or has_path_form(name) or is_local(name):
        raise InputError(
            f"{printable(name)[:200]} is neither a folder with the {what} nor an id of the Hub, org/name. Is the path "
            "right?"
        )


def download(name: str, file: str, revision: str | None, token: str | bool | None, what: str) -> Path | None:
    """Bring a file of a model's repository onto this machine; None where the repository has no such file.

    Args:
        name: Id of the repository.
        file: Its path there.
        revision: Branch, tag or commit.
        token: Of the Hub; None takes the saved one.
        what: What is loaded, for messages.
    """
    if is_commit(revision) and try_to_load_from_cache(name, file, revision=revision) is _CACHED_NO_EXIST:
        return None  # Known, also without a network.
    with hub_failures(f"load the {what} {name} (no folder here)", name):
        try:
            return Path(hf_hub_download(name, file, revision=revision, token=token))
        except LocalEntryNotFoundError:  # not in the cache, and no network to ask
            raise
        except EntryNotFoundError:
            return None


def read_object(path: Path) -> dict[str, Any]:
    """Read a file that holds a JSON object."""
    size = path.stat().st_size
    if size > _LONGEST:
        raise InputError(f"{printable(str(path))} has {size:,} bytes; a configuration has less than {_LONGEST:,}.")
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise InputError(f"{printable(str(path))} is not a JSON object; was the file cut off?")
    return content
