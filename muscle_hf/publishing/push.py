"""An adapter and its evidence to the Hub, in one commit."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import (
    GatedRepoError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from ..card.front_matter import read_front_matter, with_front_matter
from ..card.names import CARD
from ..errors import ConfigurationError, HubError, InputError, MuscleError
from ..hub.commit import commit
from ..hub.failures import hub_failures
from ..hub.names import check_message, check_target
from .packing import PackedAdapter, pack_adapter
from .successor import LinkedAdapter, link_old_adapter

MESSAGE = "Upload adapter"
# What others, or an earlier push, may have written on the card there, and what this push need not know.
_KEPT = ("new_version", "license", "language")


@dataclass(frozen=True)
class PushedAdapter:
    """What a push has done.

    Args:
        repository: "owner/name".
        url: Its page, or that of the branch.
        commit: Hash of the commit that has the files.
        commit_url: Its page.
        changed: Whether that is a new commit. False where the same files were there already.
        created: Whether the repository, or the branch, is new.
        pull_request: Page of the pull request, where one was asked for.
        files: Paths in the repository.
        notices: What was done otherwise than one might expect, a sentence each.
        link: What became of the link on the old adapter's card, where one was asked for.
    """

    repository: str
    url: str
    commit: str
    commit_url: str
    changed: bool
    created: bool
    pull_request: str | None
    files: tuple[str, ...]
    notices: tuple[str, ...]
    link: LinkedAdapter | None = None


def push_adapter(
    folder: str | Path,
    repository: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    tag: str | None = None,
    create_pr: bool = False,
    predictions: str | Path | None = None,
    base_model: str | None = None,
    license: str | None = None,  # noqa: A002 - the Hub's name of it
    language: str | Sequence[str] | None = None,
    dataset: str | None = None,
    link_old: bool = False,
    token: str | bool | None = None,
    message: str | None = None,
) -> PushedAdapter:
    """Push an adapter to the Hub with its card, plot, comparison and tokenizer: one commit, or none.

    The card gets the repository's name and the details given, and is checked before anything is sent. The folder
    itself stays as it is. The same call again finishes what a failure has left, and changes nothing otherwise.

    Args:
        folder: Where the adapter lies, such as the folder `adapter` of `muscle-hf update`.
        repository: "owner/name"; made where there is none.
        private: Whether only the owner sees a new repository. None leaves it to the owner's settings.
        revision: Branch, made from main where there is none, or `refs/pr/N`. None stands for main.
        tag: Name for the commit.
        create_pr: Open a pull request instead of changing main.
        predictions: A file or folder of answers to send along; they may hold private data. None sends none.
        base_model: Id of the base on the Hub, where the adapter was trained on a path of this machine.
        license: The Hub's id of the licence, such as "apache-2.0".
        language: Codes of languages, such as "en".
        dataset: Id of the data set on the Hub.
        link_old: Set `new_version` on the old adapter's card, by a pull request where it belongs to somebody else.
        token: Token of the Hub. None takes the saved one.
        message: First line of the commit. None stands for "Upload adapter".

    Returns:
        `PushedAdapter`: the commit and what was done.

    Raises:
        ConfigurationError: Options without a meaning, or names that the Hub cannot have.
        InputError: The folder cannot go to the Hub as it is.
        HubError: The Hub cannot be reached or refuses; the message says why and in which state the repository is.

    Example:
        >>> push_adapter("out/adapter", "org/task-compat", license="mit").url  # doctest: +SKIP
        'https://huggingface.co/org/task-compat'
    """
    check_options(revision=revision, tag=tag, create_pr=create_pr, link_old=link_old)
    packed = pack_adapter(
        folder,
        repository,
        predictions=predictions,
        base_model=base_model,
        license=license,
        language=language,
        dataset=dataset,
    )
    pushed = send_adapter(
        packed,
        private=private,
        revision=revision,
        tag=tag,
        create_pr=create_pr,
        dataset=dataset,
        link_old=link_old,
        token=token,
        message=message,
    )
    return link_pushed(packed, pushed, token=token) if link_old else pushed


def check_options(*, revision: str | None, tag: str | None, create_pr: bool, link_old: bool) -> None:
    """Refuse options of `push_adapter` that exclude each other, before anything is read."""
    check_target(revision, tag, create_pr)
    if link_old and (create_pr or revision not in (None, "main")):
        raise ConfigurationError(
            "The old adapter's card can only point to what is on main; link it once this has got there."
        )


def send_adapter(
    packed: PackedAdapter,
    *,
    private: bool | None = None,
    revision: str | None = None,
    tag: str | None = None,
    create_pr: bool = False,
    dataset: str | None = None,
    link_old: bool = False,
    token: str | bool | None = None,
    message: str | None = None,
) -> PushedAdapter:
    """Push what was packed, once all that its card names is known to be on the Hub."""
    check_message(message or MESSAGE)
    api = HfApi(token=token)
    if link_old:
        if packed.old_adapter is None:
            raise ConfigurationError(
                "the old adapter's card cannot be linked: the comparison beside this adapter names no old adapter on "
                "the Hub; push without link_old."
            )
        with hub_failures("look up the old adapter", packed.old_adapter):
            api.model_info(packed.old_adapter)
    if packed.base_model is not None:
        with hub_failures("look up the base model", packed.base_model):
            api.auth_check(packed.base_model)
    if dataset is not None:
        with hub_failures("look up the data set", dataset, "dataset"):
            api.dataset_info(dataset)
    files, kept = _with_what_is_there(packed, revision, token)
    done = commit(
        files,
        packed.repository,
        message=message or MESSAGE,
        private=private,
        revision=revision,
        create_pr=create_pr,
        tag=tag,
        token=token,
    )
    branch = "" if revision in (None, "main") else f"/tree/{quote(str(revision), safe='')}"
    return PushedAdapter(
        repository=packed.repository,
        url=f"{api.endpoint}/{packed.repository}{branch}",
        commit=done.oid,
        commit_url=done.commit_url,
        changed=done.changed,
        created=done.created,
        pull_request=done.pr_url,
        files=tuple(packed.files),
        notices=packed.notices + kept,
    )


def _with_what_is_there(
    packed: PackedAdapter, revision: str | None, token: str | bool | None
) -> tuple[dict[str, bytes | Path], tuple[str, ...]]:
    """Keep fields of the card on the Hub that the new one leaves open; also say so."""
    try:
        with hub_failures("read the card that is there", packed.repository):
            try:
                path = hf_hub_download(packed.repository, CARD, revision=revision, token=token)
            except GatedRepoError:
                raise
            except (RepositoryNotFoundError, RevisionNotFoundError, RemoteEntryNotFoundError):
                return packed.files, ()  # nothing is there, or the push itself will say what is wrong
        there = read_front_matter(Path(path).read_bytes().decode()) or {}
    except (InputError, UnicodeDecodeError):
        return packed.files, ()  # no card that could be read
    new = packed.files[CARD]
    text = (new if isinstance(new, bytes) else new.read_bytes()).decode()
    ours = read_front_matter(text) or {}
    kept = {name: there[name] for name in _KEPT if there.get(name) and not ours.get(name)}
    if not kept:
        return packed.files, ()
    said = f"kept from the card that is there: {', '.join(kept)}."
    return packed.files | {CARD: with_front_matter(text, **kept).encode()}, (said,)


def link_pushed(packed: PackedAdapter, pushed: PushedAdapter, *, token: str | bool | None = None) -> PushedAdapter:
    """Link the old adapter's card to an adapter that was pushed."""
    try:
        link = link_old_adapter(str(packed.old_adapter), packed.repository, token=token)
    except MuscleError as error:
        raise HubError(
            f"the adapter is pushed ({pushed.commit_url}), but the old adapter's card is not linked: {error}"
        ) from error
    return replace(pushed, link=link)
