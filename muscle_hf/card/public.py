"""What of a name or a text may be read by everybody: no path, no user name and no token of this machine."""

import getpass
import os
import re
from collections.abc import Mapping
from pathlib import Path, PureWindowsPath

from huggingface_hub import get_token

from ..hub.names import is_id

# Paths of Unix and of Windows, absolute, relative or of a home folder, and file URLs.
_PATH = re.compile(r"[/\\]|~[\w.-]*(?:[/\\]|$)|\.{1,2}(?:[/\\]|$)|[A-Za-z]:[/\\]|file:", re.IGNORECASE)
_ABSOLUTE_PATH = re.compile(
    # A slash after a colon begins a path, two of them go on with an address: "in:/home/x", but not "https://x".
    r"(?:(?<![\w/.:~\\])|(?<=:)(?!//|[A-Za-z]:))(?:/|~[\w.-]*[/\\]|[A-Za-z]:[/\\]|\\\\|file:/)"
    r"[^\s\"'<>|]*[/\\][^\s\"'<>|]+",
    re.IGNORECASE,
)
# Below these lies what belongs to somebody; a text that a person wrote may well speak of /usr/bin or of "GET /data/x".
_PRIVATE_PATH = re.compile(
    r"(?:(?<![\w.:~\\/-])|(?<=:)(?!//)|(?<=file://))"
    r"(?:~(?:/|[A-Za-z][\w.-]*/[\w.-]+/)|[A-Za-z]:\\+[^\s\\\"'<>|]+\\+|[A-Za-z]:/users/"
    r"|/(?:home|users|root|tmp|private|mnt|media|scratch|workspace|gpfs|lustre|nfs|fsx|dbfs|kaggle|var/folders)/"
    # These begin addresses within a server as well, so they need a folder below, and no word of HTTP before.
    r"|(?<!get )(?<!put )(?<!post )(?<!head )(?<!patch )(?<!delete )"
    r"/(?:data\d*|datasets|srv|opt|work|projects?|storage|volumes|content)/[\w.~-]+/)"
    r"[\w.~-][^\s\"'<>|)`]*",
    re.IGNORECASE,
)
# A whole value of a configuration, where nothing but a path looks like this.
_WHOLE_PATH = re.compile(
    r"(?:/[\w.~ @+-]+){2,}/?|(?:~[\w.-]*|\.{1,2})(?:/[\w.~ @+-]+)+/?"
    # Backslashes begin regular expressions as well, such as those that name the modules of an adapter.
    r"|[A-Za-z]:[/\\][\w.~-].*|\\\\[\w.-]+\\[\w.$-]+.*|file:/.*",
    re.IGNORECASE,
)
_TOKEN = re.compile(r"\b(?:hf|api_org)_[A-Za-z0-9]{16,}")
_TOKEN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
_SHORTEST_SECRET = 6
A_TOKEN = "an access token of the Hub; revoke it at https://huggingface.co/settings/tokens"  # noqa: S105 - no token
NO_TOKEN, NO_USER, A_FOLDER = "(token left out)", "(user name left out)", "a local folder"
# Accounts that belong to a machine and not to a person; their names are words that a card needs.
_ACCOUNTS = """
    root user users admin administrator ubuntu debian runner jovyan azureuser ec2-user docker nobody app vscode
    codespace code build builder ci jenkins gitlab-runner guest default dev service system worker model models data
    dataset train training trainer test tester eval student teacher base adapter update plain control old new lora
    peft mask seed step steps muscle name token left out local folder
"""


class HubName(str):
    """A name that is known to be an id of the Hub, whatever folders lie around here."""


def hub_id(name: str | None) -> str | None:
    """Return a model's name if it can be one on the Hub, and None for a path of this machine.

    Example:
        >>> hub_id("org/base-v2"), hub_id("/home/somebody/base-v2"), hub_id("../base-v2")
        ('org/base-v2', None, None)
    """
    if isinstance(name, HubName):
        return name
    # The user's own name, without a repository after it, is more likely the last part of the home folder.
    is_public = bool(name) and is_hub_id(str(name)) and not exists(str(name)) and name not in _user_names()
    return HubName(name) if is_public else None


def is_hub_id(name: str) -> bool:
    """Tell whether the Hub would take a text as the name of a repository."""
    return is_id(name) and not _TOKEN.search(name) and not any(map(name.count, _secrets()))


def exists(path: str) -> bool:
    """Tell whether there is a file or folder; a text that can be no path is none."""
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # Too long for a path, or not to be encoded as one.
        return False


def public(text: str) -> str:
    """Return a text without what tells about this machine and its user; what is left out is said.

    Example:
        >>> public("rows of /home/somebody/secret/it.jsonl, read with hf_abcdefghijklmnopqrstuvwxyz")
        'rows of it.jsonl, read with (token left out)'
    """
    # What is left of a path may look like one again, and a text that is read again must stay what it is.
    while (cleaned := _without_traces(text)) != text:
        text = cleaned
    return text


def _without_traces(text: str) -> str:
    # Tokens first, while they are whole. The name last: a folder of that name may have been the last part of a path.
    text = _without_tokens(text)
    for folder in _own_folders():  # there may be a space in it, where a path within a sentence seems to end
        text = re.sub(rf"{_folder_pattern(folder)}(?=[/\\])", "~", text)
    return _without_user(_without_paths(text)).strip()


def _without_tokens(text: str) -> str:
    for secret in _secrets():
        text = text.replace(secret, NO_TOKEN)
    return _TOKEN.sub(NO_TOKEN, text)


def _without_user(text: str) -> str:
    for name in _user_names():
        word = re.escape(name)
        # Before a slash it is the owner of a repository of the Hub, which people name as they name themselves.
        text = re.sub(rf"(?<![\w.-]){word}(?![\w-]|/[\w.])|(?<=[/\\]){word}(?=[/\\])", NO_USER, text)
    return text


def public_text(text: str) -> str:
    """Return what a model or a user wrote, of which only paths of this machine, tokens and the user's name go.

    Example:
        >>> public_text("3/4/5 of /home/somebody/secret/it")
        '3/4/5 of it'
    """
    text = _without_tokens(text)
    for folder in _own_folders():
        text = re.sub(rf"{_folder_pattern(folder)}(?:[/\\][^\s\"'<>|]*)?", lambda match: _last_part(match[0]), text)
    text = _PRIVATE_PATH.sub(lambda match: _last_part(match[0]), text)
    return _without_user(text)


def _last_part(path: str) -> str:
    name = PureWindowsPath(path).name
    return name if name and path not in _own_folders() else A_FOLDER


def _without_paths(text: str) -> str:
    text = text.strip()
    # A name of the Hub and a relative path look alike; what settles it is whether there is such a file.
    if _PATH.match(text) or (("/" in text or "\\" in text) and exists(text)):
        text = PureWindowsPath(text).name or A_FOLDER
        if text == Path.home().name:
            return A_FOLDER
    return _ABSOLUTE_PATH.sub(lambda match: PureWindowsPath(match[0]).name, text)


def leaks(text: str) -> list[str]:
    """Say what in a text tells about a machine or opens an account.

    Example:
        >>> leaks("trained in /home/somebody/it"), leaks("see https://example.org/home/it and /usr/bin/python")
        (['a path of a machine: /home/somebody/it'], [])
    """
    found = [f"a path of a machine: {match[0]}" for match in _PRIVATE_PATH.finditer(text)]
    found += [
        f"a folder of this machine: {folder}"
        for folder in _own_folders()
        if re.search(_folder_pattern(folder), text) and not any(folder in line for line in found)
    ]
    if _TOKEN.search(text) or any(secret in text for secret in _secrets()):
        found.append(A_TOKEN)
    return list(dict.fromkeys(found))


def leaks_of_values(value: object) -> list[str]:
    """Say what in a configuration tells about a machine or opens an account, however deep it lies.

    Example:
        >>> leaks_of_values({"init": [{"vocabulary": "/nas/somebody/vocabulary.txt"}], "classes": "and/or"})
        ['a path of a machine: /nas/somebody/vocabulary.txt']
    """
    if isinstance(value, str):
        return [f"a path of a machine: {value}"] if _WHOLE_PATH.fullmatch(value) else leaks(value)
    parts: list[object] = []
    if isinstance(value, Mapping):
        parts = [*value.keys(), *value.values()]
    elif isinstance(value, list):
        parts = value
    return list(dict.fromkeys(found for part in parts for found in leaks_of_values(part)))


def _folder_pattern(folder: str) -> str:
    # Not the "/project" of "pypi.org/project", nor the "/app" of "/apple".
    return rf"(?<![\w.:/~-]){re.escape(folder)}(?=[/\\]|(?![\w-]))"


def _own_folders() -> list[str]:
    """The home folder and the working directory, the longer one first."""
    found = {str(folder) for folder in (Path.home(), Path.cwd()) if len(folder.parts) > 1}
    return sorted(found, key=len, reverse=True)


def _secrets() -> list[str]:
    given = [get_token(), *(os.environ.get(name) for name in _TOKEN_VARIABLES)]
    found = {one.strip() for one in given if one and len(one.strip()) >= _SHORTEST_SECRET}
    return sorted(found, key=len, reverse=True)


def _user_names() -> list[str]:
    found = {_login_name(), Path.home().name}
    return sorted(name for name in found if len(name) > 1 and name.lower() not in _ACCOUNTS.split())


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container without an entry for its user
        return ""
