"""One repository: commits, branches, tags and pull requests, in memory."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from .accounts import User
from .answers import Refusal

_FIRST_DAY = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
_TICKS = count()


def now() -> str:
    """Give a date that is later than all before it, so that an order by date is never a tie."""
    return (_FIRST_DAY + timedelta(seconds=next(_TICKS))).strftime("%Y-%m-%dT%H:%M:%S.000Z")


@dataclass(frozen=True)
class Blob:
    """The content of a file, and whether git keeps it or a pointer to it."""

    content: bytes
    lfs: bool = False
    xet: str | None = field(default=None, compare=False)
    """What hf_xet calls it, if it came that way."""

    @property
    def sha256(self) -> str:
        """What the large file storage calls it."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def pointer(self) -> bytes:
        """What git keeps of a large file."""
        return b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %d\n" % (
            self.sha256.encode(),
            len(self.content),
        )

    @property
    def oid(self) -> str:
        """What git calls it."""
        kept = self.pointer if self.lfs else self.content
        return hashlib.sha1(b"blob %d\0" % len(kept) + kept, usedforsecurity=False).hexdigest()

    def entry(self, path: str) -> dict[str, Any]:
        """How a listing describes it."""
        found: dict[str, Any] = {"type": "file", "path": path, "size": len(self.content), "oid": self.oid}
        if self.lfs:
            found["lfs"] = {"oid": self.sha256, "size": len(self.content), "pointerSize": len(self.pointer)}
        if self.xet is not None:
            found["xetHash"] = self.xet
        return found


Files = Mapping[str, Blob]


@dataclass(frozen=True)
class Commit:
    """A state of the repository."""

    sha: str
    parent: str | None
    files: Files
    message: str
    description: str
    author: str
    date: str


@dataclass
class PullRequest:
    """A pull request, or a discussion where `head` is None."""

    num: int
    title: str
    author: str
    description: str
    base: str
    head: str | None
    status: str
    date: str
    events: list[dict[str, Any]] = field(default_factory=list)
    merged_as: str | None = None


class Repository:
    """A model, data set or Space."""

    def __init__(self, kind: str, name: str, *, private: bool = False, gated: str | bool = False) -> None:
        """Make one without any commit."""
        self.kind, self.name, self.private, self.gated = kind, name, private, gated
        self.accepted: set[str] = set()
        """Users who may read the files of a gated repository though they do not own it."""
        self.commits: dict[str, Commit] = {}
        self.branches: dict[str, str] = {}
        self.tags: dict[str, str] = {}
        self.discussions: dict[int, PullRequest] = {}
        self.uploaded: set[str] = set()
        """Large files that arrived for this repository, whether or not a commit names them yet."""
        self.sdk: str | None = None
        self.created = now()

    @property
    def namespace(self) -> str:
        """Whose it is."""
        return self.name.rpartition("/")[0]

    @property
    def address(self) -> str:
        """The path of its page."""
        return ("" if self.kind == "model" else f"{self.kind}s/") + self.name

    @property
    def head(self) -> Commit:
        """The last commit of main."""
        return self.commits[self.branches["main"]]

    def sees(self, user: User | None) -> bool:
        """Whether a user may know that it is there."""
        return not self.private or (user is not None and user.owns(self.namespace))

    def resolve(self, revision: str) -> Commit:
        """Find a commit by branch, tag, pull request or hash."""
        for given, known in self.refs().items():
            if revision in (given, given.removeprefix("refs/heads/"), given.removeprefix("refs/tags/")):
                return self.commits[known]
        if len(revision) >= 7:
            for sha, commit in self.commits.items():
                if sha.startswith(revision):
                    return commit
        raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")

    def refs(self) -> dict[str, str]:
        """Every name of a commit, in full, with its hash."""
        return {
            **{f"refs/heads/{name}": sha for name, sha in self.branches.items()},
            **{f"refs/tags/{name}": sha for name, sha in self.tags.items()},
            **{f"refs/pr/{num}": found.head for num, found in self.discussions.items() if found.head},
        }

    def add(self, files: Files, message: str, author: str, parent: str | None, description: str = "") -> Commit:
        """Make a commit that nothing points at yet."""
        date, state = now(), hashlib.sha1(usedforsecurity=False)
        for part in (self.kind, self.name, parent or "", message, description, author, date):
            state.update(part.encode() + b"\0")
        for path, blob in sorted(files.items()):
            state.update(f"{path}\0{blob.oid}\0".encode())
        commit = Commit(state.hexdigest(), parent, dict(files), message, description, author, date)
        self.commits[commit.sha] = commit
        return commit

    def move(self, revision: str, sha: str) -> None:
        """Let a branch or a pull request point at another commit."""
        if revision.startswith("refs/pr/"):
            self.discussions[int(revision.removeprefix("refs/pr/"))].head = sha
        else:
            self.branches[revision.removeprefix("refs/heads/")] = sha

    def history(self, commit: Commit) -> list[Commit]:
        """A commit and those before it, newest first."""
        found = [commit]
        while found[-1].parent is not None:
            found.append(self.commits[found[-1].parent])
        return found

    def open_discussion(
        self, title: str, author: str, description: str, head: str | None, status: str = "open"
    ) -> PullRequest:
        """Open a pull request to main, or a discussion where there is no head."""
        num = len(self.discussions) + 1
        made = PullRequest(num, title, author, description, "refs/heads/main", head, status, now())
        self.discussions[num] = made
        return made
