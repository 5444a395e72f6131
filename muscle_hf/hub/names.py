"""Names that the Hub and git take, checked before anything is sent."""

import re

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils._validators import validate_repo_id

from ..errors import ConfigurationError

# See `git check-ref-format`.
_NO_REF = re.compile(r"[\s~^:?*\[\\\x00-\x20\x7f]|\.\.|//|@\{|/[.-]|^[./-]|[./]$|\.lock(?:/|$)")
_HASH = re.compile(r"[0-9a-f]{7,64}")
_PULL_REQUEST = re.compile(r"refs/pr/[1-9]\d*")


def check_repository(name: str) -> str:
    """Return the name of a repository, or refuse one that the Hub cannot have.

    Args:
        name: "owner/name".

    Raises:
        ConfigurationError: It is not of that form.

    Example:
        >>> check_repository("org/adapter")
        'org/adapter'
    """
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise ConfigurationError(f"{name!r} is no name of a repository, such as owner/name. {error}") from error
    if not name.isascii():  # which older versions of the client let pass
        raise ConfigurationError(f"{name!r} is no name of a repository; take letters from a to z, digits, - _ and .")
    if "/" not in name:
        raise ConfigurationError(f"{name!r} lacks its owner; write owner/{name}, with your name or an organization's.")
    return name


def check_ref(name: str, what: str = "branch") -> str:
    """Return the name of a branch, a pull request (`refs/pr/N`) or a tag, or refuse one that git cannot have.

    Args:
        name: The name.
        what: "branch", which may be a pull request, or "tag".

    Raises:
        ConfigurationError: Git does not take it, or it is the hash of a commit, which cannot be moved.

    Example:
        >>> check_ref("v1.0", "tag")
        'v1.0'
    """
    if not name or _NO_REF.search(name) or name in ("HEAD", "@") or len(name) > 200:
        raise ConfigurationError(f"{name!r} is no name for a {what}; take letters, digits, '-', '_', '.' and '/'.")
    if _HASH.fullmatch(name):
        raise ConfigurationError(f"{name!r} looks like the hash of a commit; name a {what} in words.")
    if name.startswith("refs/") and not (what == "branch" and _PULL_REQUEST.fullmatch(name)):
        raise ConfigurationError(f"{name!r} is no name for a {what}; leave out the beginning refs/….")
    return name


def check_message(message: str) -> str:
    """Return the message of a commit, or refuse one that is empty or has more than its first line.

    Args:
        message: The message.

    Raises:
        ConfigurationError: It is.

    Example:
        >>> check_message("Upload adapter")
        'Upload adapter'
    """
    if not message.strip() or len(message.splitlines()) > 1:
        raise ConfigurationError(f"A commit needs a message of one line, but got {message!r}.")
    return message
