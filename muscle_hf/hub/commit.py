"""Files into a repository of the Hub, by one commit that arrives as a whole or not at all."""

from collections.abc import Collection, Mapping
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi, get_token

from ..errors import ConfigurationError, HubError
from ..version import __version__
from .attempt import MAIN, Commit, Push
from .failures import hub_failures
from .names import check_message, check_repository, check_target


def commit(
    files: Mapping[str, bytes | Path],
    repository: str,
    *,
    message: str,
    kind: str = "model",
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    tag: str | None = None,
    token: str | bool | None = None,
    delete: Collection[str] = (),
    space_sdk: str | None = None,
    parent_commit: str | None = None,
) -> Commit:
    """Bring files into a repository of the Hub by one commit, which arrives as a whole or not at all.

    The commit names the one that it builds on, so that of two who push at a time one is told, and nothing is mixed.
    The same call again finishes what a failure has left, and makes no second commit.

    Args:
        files: Path in the repository -> content, or a file that has it. Files of other names stay as they are there.
        repository: "owner/name"; made where there is none.
        message: First line of the commit, and title of the pull request.
        kind: "model", "dataset" or "space".
        private: Whether only the owner sees a new repository; one that is there must be so already. None leaves it to
            the owner's settings.
        revision: Branch, made from main where there is none, or `refs/pr/N`. None stands for main.
        create_pr: Open a pull request to main instead of changing it; one with the same title and the same files is
            not opened twice.
        tag: Name for the commit; one that names another commit is refused before anything is sent.
        token: Token of the Hub. None takes the saved one.
        delete: Paths in the repository to take away by the same commit, where they exist.
        space_sdk: What a new Space runs on, such as "gradio".
        parent_commit: The commit that the files were made from; another one there is a conflict. None stands for the
            one that is there when the call begins.

    Returns:
        The `Commit`; `.oid`, `.commit_url`, `.pr_url`, `.changed`.

    Raises:
        ConfigurationError: A name or a path that cannot be, options that exclude each other, or a repository that
            is public and was asked to be private, or the reverse.
        HubError: It cannot be done; the message says why, and in which state the repository is.

    Example:
        >>> commit({"README.md": b"# Hello"}, "org/adapter", message="Say hello").oid  # doctest: +SKIP
        '91c54ad1727ee830252e457677f467be0bfd8a57'
    """
    check_repository(repository)
    check_target(revision, tag, create_pr)
    check_message(message)
    if not files and not delete:
        raise ConfigurationError("There is nothing to send: no files.")
    if kind == "space" and space_sdk is None:
        raise ConfigurationError("A Space needs space_sdk, such as 'gradio'.")
    if token is False or (token in (None, True) and get_token() is None):
        raise HubError(
            f"could not push to {repository}: there is no token; log in with `hf auth login`, or set HF_TOKEN."
        )
    additions = {path: _addition(path, content) for path, content in files.items()}
    push = Push(
        api=HfApi(token=token, library_name="muscle_hf", library_version=__version__),
        repository=repository,
        kind=kind,
        files=additions,
        delete=frozenset(delete) - set(files),
        message=message,
        revision=revision or MAIN,
        create_pr=create_pr,
        parent_commit=parent_commit,
    )
    with hub_failures(f"push to {repository}", repository, kind, after=lambda: push.state):
        return push.run(private, tag, space_sdk)


def _addition(path: str, content: bytes | Path) -> CommitOperationAdd:
    """Read a file, and refuse one that the Hub would not take before anything is made there."""
    try:
        addition = CommitOperationAdd(path, content)
    except (ValueError, OSError) as error:
        raise ConfigurationError(f"{path!r} cannot be sent: {error}. Nothing was sent.") from error
    if ".." in path.split("/"):  # which older versions of the client let pass
        raise ConfigurationError(f"{path!r} is no path in a repository; leave out the '..'.")
    if addition.path_in_repo != path:
        raise ConfigurationError(f"{path!r} is no path in a repository; write {addition.path_in_repo!r}.")
    return addition
