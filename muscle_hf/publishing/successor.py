"""The card of an old adapter, told which adapter takes its place."""

from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import RemoteEntryNotFoundError

from ..card.front_matter import read_front_matter, with_front_matter
from ..card.names import CARD
from ..errors import ConfigurationError, InputError
from ..hub.commit import commit
from ..hub.failures import hub_failures
from ..hub.names import check_repository
from ..text import printable

# Of the roles in an organization, those that may write to all of its repositories.
_WRITING_ROLES = ("admin", "write")


@dataclass(frozen=True)
class LinkedAdapter:
    """What became of the link.

    Args:
        old_adapter: Whose card it is.
        url: Of the commit or the pull request; of the adapter, where the link was there already.
        changed: Whether a commit was made or a pull request opened. False where it had been before.
        pull_request: Whether it waits, as a pull request, for the owner.
        before: The successor that the card named until then, if any.
    """

    old_adapter: str
    url: str
    changed: bool
    pull_request: bool
    before: str | None = None


def link_old_adapter(old_adapter: str, repository: str, *, token: str | bool | None = None) -> LinkedAdapter:
    """Set `new_version` on the card of an old adapter, by a pull request where it belongs to somebody else."""
    check_repository(repository)
    check_repository(old_adapter)
    if old_adapter == repository:
        raise ConfigurationError(f"{repository} cannot take the place of itself; push it under another name.")
    api = HfApi(token=token)
    action = f"link {old_adapter} to {repository}"
    with hub_failures(action, repository):
        new = api.model_info(repository)
    with hub_failures(action, old_adapter):
        old = api.model_info(old_adapter)
        if new.private and not old.private:
            raise ConfigurationError(f"{repository} is private, so the public card of {old_adapter} cannot name it.")
        try:
            # Not as text, which would lose the ends of its lines.
            text = Path(hf_hub_download(old_adapter, CARD, revision=old.sha, token=token)).read_bytes().decode()
        except RemoteEntryNotFoundError:
            text = ""
        except UnicodeDecodeError as error:
            raise InputError(f"the card of {old_adapter} is no UTF-8 text ({error}); correct it there.") from error
        before = (read_front_matter(text) or {}).get("new_version")
        page = f"{api.endpoint}/{old_adapter}"
        if before == repository:
            return LinkedAdapter(old_adapter, page, changed=False, pull_request=False)
        message = f"Name {repository} as the new version"
        owned = _owns(api, old_adapter.partition("/")[0])
        if not owned:
            # Not by its files: main may have moved since it was opened.
            requests = api.get_repo_discussions(old_adapter, discussion_type="pull_request", discussion_status="open")
            for request in requests:
                if request.title == message:
                    return LinkedAdapter(old_adapter, request.url, changed=False, pull_request=True)
    done = commit(
        {CARD: with_front_matter(text, new_version=repository).encode()},
        old_adapter,
        message=message,
        create_pr=not owned,
        parent_commit=old.sha,
        token=token,
    )
    return LinkedAdapter(
        old_adapter,
        done.pr_url or done.commit_url,
        changed=done.changed,
        pull_request=not owned,
        before=None if before is None else printable(str(before)),
    )


def _owns(api: HfApi, owner: str) -> bool:
    """Whether the token's user is the owner, or may write in the name of the organization that is."""
    user = api.whoami()
    writing = {group.get("name") for group in user.get("orgs", ()) if group.get("roleInOrg") in _WRITING_ROLES}
    return owner == user.get("name") or owner in writing
