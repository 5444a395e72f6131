"""One attempt to bring files into a repository: what differs goes, and what is left of a failure is known."""

import contextlib
import hashlib
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi, constants
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
from huggingface_hub.hf_api import RepoFile

from ..errors import ConfigurationError, HubError

MAIN = constants.DEFAULT_REVISION
_UNCHANGED = "Nothing was changed there."


@dataclass(repr=False, eq=False)
class Commit(CommitInfo):
    """The client's `CommitInfo`, which is the address of the commit as well, and what was done.

    Args:
        changed: Whether this is a new commit. False where the same files were there already.
        created: Whether the repository, or the branch, was made for it.
    """

    changed: bool = True
    created: bool = False


@dataclass
class Push:
    """One call of `commit`: what goes where, and in which state the repository is by now.

    Args:
        api: The client, with the token.
        repository: As in `commit`, like the following.
        kind: "model", "dataset" or "space".
        files: Path in the repository -> what is to be there.
        delete: Paths that are to go.
        message: First line of the commit.
        revision: Branch or pull request.
        create_pr: Open a pull request.
        parent_commit: The commit that the files were made from.
    """

    api: HfApi
    repository: str
    kind: str
    files: Mapping[str, CommitOperationAdd]
    delete: frozenset[str]
    message: str
    revision: str
    create_pr: bool
    parent_commit: str | None
    created: bool = False
    state: str = _UNCHANGED
    # The commit to build on.
    start: str | None = None

    def run(self, private: bool | None, tag: str | None, space_sdk: str | None) -> Commit:
        """Compare with what is there, send what differs, and set the tag."""
        if not self._exists(private):
            if self.create_pr or self.revision.startswith("refs/"):
                raise ConfigurationError(
                    f"{self.repository} does not exist, or the token does not see it, so there is nothing that a pull "
                    "request could change; leave it out to make the repository."
                )
            self._create(private, space_sdk)
        heads, tagged = self._refs(tag)
        is_new = self.revision not in heads
        if is_new and self.revision.startswith("refs/"):
            raise ConfigurationError(f"{self.repository} has no pull request {self.revision}; create_pr opens one.")
        self.start = heads.get(MAIN if is_new else self.revision)
        if self.parent_commit not in (None, self.start):
            raise HubError(
                f"could not push to {self.repository}: it was changed by somebody else meanwhile; try again. "
                f"{self.state}"
            )
        changed, gone = self._differences(self.start)
        if tagged is not None and (changed or gone or tagged != self.start):
            raise ConfigurationError(
                f"tag {tag} names commit {tagged[:8]} of {self.repository} already; choose another name. {self.state}"
            )
        done = self._opened() if self.create_pr and (changed or gone) else None
        if done is None and (changed or gone):
            # Large files first: until a commit names them, nobody sees them.
            self._upload(changed, MAIN if is_new else self.revision)
            with self._branch() if is_new else contextlib.nullcontext():
                done = self._send([*changed, *(CommitOperationDelete(path) for path in gone)])
        elif done is None:
            with self._branch() if is_new else contextlib.nullcontext():
                pass
            done = self._info(self.start or "", changed=False)
        if tag is not None and tagged is None:
            self.state = f"The files are there, as commit {done.oid[:8]}; the same command again sets the tag {tag}."
            self.api.create_tag(self.repository, tag=tag, revision=done.oid, repo_type=self.kind)
        return done

    def _exists(self, private: bool | None) -> bool:
        try:
            found = self.api.repo_info(self.repository, repo_type=self.kind)
        except RepositoryNotFoundError as error:
            # Only to who is known the Hub says 404; a gated one is there.
            if error.response.status_code != 404:
                raise
            return False
        if private is not None and bool(found.private) != private:
            is_now, wanted = ("private", "public") if found.private else ("public", "private")
            raise ConfigurationError(
                f"{self.repository} is {is_now}, and a push does not make it {wanted}; change that in its settings, "
                f"or leave the option out. {_UNCHANGED}"
            )
        return True

    def _create(self, private: bool | None, space_sdk: str | None) -> None:
        empty = f"{self.repository} is new and still empty; the same command again fills it."
        try:
            self.api.create_repo(
                self.repository, repo_type=self.kind, private=private, exist_ok=True, space_sdk=space_sdk
            )
        except Exception as error:
            self.state = _UNCHANGED if _is_refusal(error) else f"It may be that {empty}"
            raise
        self.created, self.state = True, empty

    def _refs(self, tag: str | None = None) -> tuple[dict[str, str], str | None]:
        """Return where the branches, or the pull request that is asked for, stand; and the commit of a tag."""
        asks_pull_request = self.revision.startswith("refs/")
        refs = self.api.list_repo_refs(self.repository, repo_type=self.kind, include_pull_requests=asks_pull_request)
        if any(one.name == self.revision for one in refs.tags):
            raise ConfigurationError(f"{self.revision} is a tag of {self.repository}, and tags stay; name a branch.")
        heads = {one.name: one.target_commit for one in refs.branches}
        if asks_pull_request:
            heads |= {one.ref: one.target_commit for one in refs.pull_requests or []}
        if tag in heads:
            raise ConfigurationError(f"{tag} is a branch of {self.repository}; choose another name for the tag.")
        # What a tag with a message points at is not the commit itself, so the commit is asked for.
        is_set = any(one.name == tag for one in refs.tags)
        return heads, self.api.repo_info(self.repository, repo_type=self.kind, revision=tag).sha if is_set else None

    def _differences(self, revision: str | None) -> tuple[list[CommitOperationAdd], list[str]]:
        """Return the files that are not at a revision as they are here, and those there that shall go."""
        there: dict[str, RepoFile] = {}
        if revision is not None:
            tree = self.api.list_repo_tree(self.repository, recursive=True, revision=revision, repo_type=self.kind)
            there = {one.path: one for one in tree if isinstance(one, RepoFile)}
        changed = [one for path, one in self.files.items() if path not in there or not is_same(one, there[path])]
        return changed, sorted(self.delete & there.keys())

    def _upload(self, additions: list[CommitOperationAdd], revision: str) -> None:
        """Send what the Hub keeps in its storage for large files."""
        self.api.preupload_lfs_files(
            self.repository,
            additions,
            repo_type=self.kind,
            revision=revision,
            create_pr=self.create_pr,
            free_memory=False,
        )
        # The client would leave them out without a word.
        if ignored := [one.path_in_repo for one in additions if one._should_ignore]:
            raise ConfigurationError(
                f"the .gitignore of {self.repository} names {', '.join(ignored)}, so the Hub would leave that out; "
                f"change it there. {self.state}"
            )

    @contextlib.contextmanager
    def _branch(self) -> Iterator[None]:
        """Make a branch, and take it away again where it stays without the commit."""
        try:
            self.api.create_branch(self.repository, branch=self.revision, revision=self.start, repo_type=self.kind)
            self.created = True
            yield
        except BaseException as error:
            # 409: somebody else has made it, between our look and now.
            if not (isinstance(error, HfHubHTTPError) and error.response.status_code == 409):
                before = self.state
                self.state = (
                    f"The branch {self.revision} may be left, with nothing new in it. The same command again goes on "
                    f"from there, commit {(self.start or '')[:8]}, also where main has moved by then; delete the "
                    "branch first to begin from main anew."
                )
                with contextlib.suppress(Exception):
                    if self._refs()[0].get(self.revision) == self.start:
                        self.api.delete_branch(self.repository, branch=self.revision, repo_type=self.kind)
                    self.state = before
            raise

    def _send(self, operations: list[CommitOperationAdd | CommitOperationDelete]) -> Commit:
        before = self.state
        try:
            with warnings.catch_warnings():
                # Predictions may be Parquet.
                warnings.filterwarnings("ignore", message="It seems that you are about to commit a data file")
                info = self.api.create_commit(
                    self.repository,
                    operations,
                    commit_message=self.message,
                    repo_type=self.kind,
                    revision=self.revision,
                    create_pr=self.create_pr,
                    parent_commit=self.start,
                )
        except Exception as error:
            # An answer that is lost, or a 500, does not say that the commit was not made.
            self.state = before if _is_refusal(error) else "The same command again finds out whether it arrived."
            with contextlib.suppress(Exception):
                if arrived := self._arrived():
                    return arrived
                self.state = before
            raise
        return self._info(info.oid, changed=True, pr_url=info.pr_url)

    def _arrived(self) -> Commit | None:
        """Return the commit that came through although the client heard of a failure, or None."""
        if self.create_pr:
            return self._opened(changed=True)
        head = self._refs()[0].get(self.revision)
        if head in (None, self.start) or any(self._differences(head)):
            return None
        return self._info(head or "", changed=True)

    def _opened(self, changed: bool = False) -> Commit | None:
        """Return the pull request that is open with this title and these files, or None."""
        for one in self.api.get_repo_discussions(
            self.repository, repo_type=self.kind, discussion_type="pull_request", discussion_status="open"
        ):
            if one.title != self.message or any(self._differences(one.git_reference)):
                continue
            head = self.api.repo_info(self.repository, repo_type=self.kind, revision=one.git_reference).sha
            return self._info(head or "", changed=changed, pr_url=one.url)
        return None

    def _info(self, oid: str, *, changed: bool, pr_url: str | None = None) -> Commit:
        prefix = constants.REPO_TYPES_URL_PREFIXES.get(self.kind, "")
        return Commit(
            commit_url=f"{self.api.endpoint}/{prefix}{self.repository}/commit/{oid}",
            commit_message=self.message,
            commit_description="",
            oid=oid,
            _endpoint=self.api.endpoint,
            pr_url=pr_url,
            changed=changed,
            created=self.created,
        )


def _is_refusal(error: Exception) -> bool:
    """Whether the Hub has said that it will not do it, so that it has not done it."""
    return isinstance(error, HfHubHTTPError) and error.response.status_code < 500


def is_same(addition: CommitOperationAdd, there: RepoFile) -> bool:
    """Tell whether a file of the Hub has the content that is to go there.

    Git names small files by their SHA-1, and the storage names large ones by their SHA-256.
    """
    info = addition.upload_info
    if info.size != there.size:
        return False
    if there.lfs is not None:
        return info.sha256.hex() == there.lfs.sha256
    digest = hashlib.sha1(b"blob %d\0" % info.size, usedforsecurity=False)
    with addition.as_file() as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest() == there.blob_id
