"""Files of a repository of the Hub or of a folder: what a name can be, one file brought here, a JSON object read."""

import json
import re
from pathlib import Path
from typing import Any

from huggingface_hub import _CACHED_NO_EXIST, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, HFValidationError, LocalEntryNotFoundError
from huggingface_hub.utils._validators import validate_repo_id

from ..errors import InputError
from ..text import printable
from .failures import hub_failures
from .lookup import is_local

_COMMIT = re.compile(r"[0-9a-f]{40}")
_PATH_BEGINNINGS = ("/", ".", "~", "\\")


def is_commit(revision: str | None) -> bool:
    """Tell whether a revision is a commit, and so cannot move.

    Args:
        revision: Branch, tag or commit.
    """
    return revision is not None and _COMMIT.fullmatch(revision) is not None


def is_id(name: str) -> bool:
    """Tell whether a name can be one on the Hub.

    Args:
        name: Any text.
    """
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def has_path_form(name: str) -> bool:
    """Tell whether a name begins as only paths do.

    Args:
        name: Id or path.
    """
    return name.startswith(_PATH_BEGINNINGS)


def check_id(name: str, what: str) -> None:
    """Refuse what can be no id of the Hub.

    Args:
        name: Any text.
        what: What it should name, for the message.

    Raises:
        InputError: It can be none.
    """
    if not is_id(name) or has_path_form(name) or is_local(name):
        raise InputError(
            f"{printable(name)[:200]} is neither a folder with the {what} nor an id of the Hub, org/name. Is the path "
            "right?"
        )


def download(name: str, file: str, revision: str | None, token: str | bool | None, what: str) -> Path | None:
    """Bring a file of a model's repository onto this machine.

    Args:
        name: Id of the repository.
        file: Its path there.
        revision: Branch, tag or commit.
        token: Of the Hub; None takes the saved one.
        what: What is loaded, for messages.

    Returns:
        Where it lies, None where the repository has no such file.

    Raises:
        HubError: The Hub does not give it.
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
    """Read a file that holds a JSON object.

    Args:
        path: The file.

    Raises:
        InputError: It holds none.
    """
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InputError(f"{printable(str(path))} is not a JSON object; was the file cut off?")
    return found
