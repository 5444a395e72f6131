"""Names that the Hub and git take: told apart from paths and words, and checked before anything is sent."""

import re

from ..errors import ConfigurationError

# As `huggingface_hub.utils.validate_repo_id`, which takes long to import; older versions of it let more pass.
_ID = re.compile(r"(?!.*(?:--|\.\.|\.git$))(?:\b[\w.-]{1,96}\b/)?\b[\w.-]{1,96}\b", re.ASCII)
DATA_SET = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(?::(?P<config>[\w.-]+))?(?:@(?P<revision>[\w./-]+))?", re.ASCII)
"""A data set of the Hub, as options and cards name it: org/name[:config][@revision]."""

ADAPTER_TAG, BASE_TAG, OLD_BASE_TAG = "compatibility-adapter", "base_model:adapter:", "compatible-with:"
"""What a compatibility adapter is found by, and how the tags of its base and of the old base begin."""

_COMMIT = re.compile(r"[0-9a-f]{40}")
# See `git check-ref-format`.
_NO_REF = re.compile(r"[\s~^:?*\[\\\x00-\x20\x7f]|\.\.|//|@\{|/[.-]|^[./-]|[./]$|\.lock(?:/|$)")
_HASH = re.compile(r"[0-9a-f]{7,64}")
_PULL_REQUEST = re.compile(r"refs/pr/[1-9]\d*")


def is_id(name: str) -> bool:
    """Tell whether a name can be one on the Hub, "owner/name" or one of the few without an owner."""
    return _ID.fullmatch(name) is not None


def is_commit(revision: str | None) -> bool:
    """Tell whether a revision is a commit, and so cannot move."""
    return revision is not None and _COMMIT.fullmatch(revision) is not None


def check_repository(name: str) -> str:
    """Return the name of a repository, "owner/name", or refuse one that the Hub cannot have."""
    if not is_id(name):
        raise ConfigurationError(
            f"{name!r} is no name of a repository, such as owner/name; take letters from a to z, digits, - _ and ., "
            "no -- and .., no .git at the end, and at most 96 on each side of the /."
        )
    if "/" not in name:
        raise ConfigurationError(f"{name!r} lacks its owner; write owner/{name}, with your name or an organization's.")
    return name


def check_ref(name: str, what: str = "branch") -> str:
    """Return the name of a branch, a pull request (`refs/pr/N`) or a tag, or refuse one that git cannot have."""
    if not name or _NO_REF.search(name) or name in ("HEAD", "@") or len(name) > 200:
        raise ConfigurationError(f"{name!r} is no name for a {what}; take letters, digits, '-', '_', '.' and '/'.")
    if _HASH.fullmatch(name):
        raise ConfigurationError(f"{name!r} looks like the hash of a commit; name a {what} in words.")
    if name.startswith("refs/") and not (what == "branch" and _PULL_REQUEST.fullmatch(name)):
        raise ConfigurationError(f"{name!r} is no name for a {what}; leave out the beginning refs/….")
    return name


def check_message(message: str) -> str:
    """Return the message of a commit, or refuse one that is empty or has more than its first line."""
    if not message.strip() or len(message.splitlines()) > 1:
        raise ConfigurationError(f"A commit needs a message of one line, but got {message!r}.")
    return message


def check_target(revision: str | None, tag: str | None, create_pr: bool) -> None:
    """Refuse where to push to: names that git does not take, or a pull request with either of them."""
    if create_pr and (revision or tag):
        raise ConfigurationError(
            f"A pull request goes to main and is tagged once it is merged; leave out the "
            f"{'revision' if revision else 'tag'}."
        )
    if revision is not None:
        check_ref(revision)
    if tag is not None:
        check_ref(tag, "tag")
