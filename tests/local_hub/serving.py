"""The Hub as tests hold it: started, filled, looked at, stopped."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .accounts import User
from .faults import Fault, Faults
from .listing import described
from .repository import PullRequest, Repository
from .routes import answer
from .storage import stored
from .store import KINDS, Store
from .wire import Log, Server

Repositories = Mapping[str, Mapping[str, Mapping[str, bytes]]]
"""Id of a data set -> revision -> path in it -> content. The revision that "main" means is called "main"."""


class Hub:
    """A running Hub.

    Attributes:
        endpoint: Its address, for HF_ENDPOINT.
        page_size: How many entries a page of a list has; to be set.
    """

    def __init__(self, tokens: Mapping[str, User]) -> None:
        """Start it, empty."""
        self._store, self._faults, self._log = Store(tokens), Faults(), Log()
        self._server = Server(self._store, self._faults, self._log, answer)
        self._storage = Server(self._store, self._faults, self._log, stored)
        # Another name of this machine: a client takes the token off where it is sent on to another host, as the real
        # storage is one, and some versions look at the name alone and not at the port.
        self._store.storage = self._storage.address.replace("127.0.0.1", "localhost")
        self._xet = tempfile.TemporaryDirectory(prefix="local_hub_xet_")
        self._store.xet_folder = Path(self._xet.name)
        self.endpoint = self._server.address

    def stop(self) -> None:
        """Stop it; a crash of the Hub itself is no answer that a test should get away with."""
        self._faults.clear()
        self._server.stop()
        self._storage.stop()
        self._xet.cleanup()
        if self._log.crashes:
            raise AssertionError("the local Hub itself failed:\n" + "\n".join(self._log.crashes))

    @property
    def page_size(self) -> int:
        """How many entries a page of a list has."""
        return self._store.page_size

    @page_size.setter
    def page_size(self, size: int) -> None:
        self._store.page_size = size

    def environment(self, token: str | None = None, *, home: Path, xet: bool = False) -> dict[str, str]:
        """Give the environment of a client: of this Hub, with one token or none, and with `home` for its caches.

        Args:
            token: What HF_TOKEN says; None for nobody who is logged in.
            home: The folder for HF_HOME.
            xet: Leave hf_xet in use.
        """
        ours = ("HF_", "HUGGING", "HTTP", "http", "TRANSFORMERS_")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        environment |= {
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            # A busy machine is no Hub that does not answer.
            "HF_HUB_ETAG_TIMEOUT": "600",
            "HF_HUB_DOWNLOAD_TIMEOUT": "600",
            # evaluate counts its loads at an address that is not the Hub's.
            "HF_UPDATE_DOWNLOAD_COUNTS": "0",
            "DO_NOT_TRACK": "1",
            "NO_PROXY": "*",
            "OMP_NUM_THREADS": "1",
            "HF_DEACTIVATE_ASYNC_LOAD": "1",
        }
        if not xet:
            environment["HF_HUB_DISABLE_XET"] = "1"
        if token is not None:
            environment["HF_TOKEN"] = token
        return environment

    def create(
        self,
        name: str,
        *,
        kind: str = "model",
        files: Mapping[str, bytes] | None = None,
        private: bool = False,
        gated: str | bool = False,
    ) -> None:
        """Put a repository there, with one commit of just these files.

        Args:
            name: Its id.
            kind: "model", "dataset" or "space".
            files: Path -> content.
            private: Whether only its owners see it.
            gated: "auto" or "manual" where its conditions must be accepted before its files can be read.
        """
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {KINDS}, not {kind!r}")
        with self._store.lock:
            if (kind, name) in self._store.repositories:
                raise ValueError(f"there is a {kind} {name} already")
            self._store.create(kind, name, files or {}, private=private, gated="auto" if gated is True else gated)

    def accept(self, name: str, user: str, kind: str = "model") -> None:
        """Let a user read the files of a gated repository."""
        self._get(name, kind).accepted.add(user)

    def exists(self, name: str, kind: str = "model") -> bool:
        """Say whether a repository is there."""
        return (kind, name) in self._store.repositories

    def files(self, name: str, kind: str = "model", revision: str = "main") -> dict[str, bytes]:
        """Give the content of all files, by path."""
        commit = self._get(name, kind).resolve(revision)
        return {path: blob.content for path, blob in sorted(commit.files.items())}

    def commits(self, name: str, kind: str = "model", revision: str = "main") -> list[tuple[str, str]]:
        """Give hash and message of each commit up to a revision, newest first."""
        found = self._get(name, kind)
        return [(commit.sha, commit.message) for commit in found.history(found.resolve(revision))]

    def refs(self, name: str, kind: str = "model") -> dict[str, str]:
        """Give the full names ("refs/heads/main", "refs/tags/v1", "refs/pr/1") and the hashes of their commits."""
        return self._get(name, kind).refs()

    def info(self, name: str, kind: str = "model", revision: str = "main") -> dict[str, Any]:
        """Describe a repository as `/api/models/<name>` does."""
        found = self._get(name, kind)
        return described(found, {}, found.resolve(revision), whole=True)

    def pull_requests(self, name: str, kind: str = "model") -> list[PullRequest]:
        """Give the pull requests, oldest first."""
        return [each for each in self._get(name, kind).discussions.values() if each.head is not None]

    def uploaded(self, name: str, kind: str = "model") -> set[str]:
        """Give the sha256 of each large file that arrived, whether or not a commit names it."""
        return set(self._get(name, kind).uploaded)

    def fault(self, fault: Fault) -> None:
        """Let something go wrong with the next requests that match."""
        self._faults.add(fault)

    def clear_faults(self) -> None:
        """Let nothing go wrong any more."""
        self._faults.clear()

    @property
    def requests(self) -> list[tuple[str, str, int]]:
        """Method, path as sent (with the query) and status of each request; 0 where the connection was cut."""
        return list(self._log.requests)

    def _get(self, name: str, kind: str) -> Repository:
        if (found := self._store.repositories.get((kind, name))) is None:
            raise KeyError(f"there is no {kind} {name}; there are {sorted(self._store.repositories)}")
        return found


@contextmanager
def hub(tokens: Mapping[str, User] | None = None) -> Iterator[Hub]:
    """Run a Hub on free ports of the loopback interface.

    Args:
        tokens: The tokens that it knows, with their users. Any other token is refused.

    Yields:
        The Hub.
    """
    running = Hub(tokens or {})
    try:
        yield running
    except BaseException:
        running.stop()
        raise
    running.stop()


@contextmanager
def serve(repositories: Repositories) -> Iterator[str]:
    """Serve some data sets for reading.

    Args:
        repositories: The data sets; each revision of one is a branch of its own.

    Yields:
        The address, for HF_ENDPOINT.
    """
    with hub() as running:
        for name, revisions in repositories.items():
            running.create(name, kind="dataset", files=revisions.get("main", {}))
            found = running._get(name, "dataset")
            for revision, files in revisions.items():
                blobs = running._store.blobs(found, files)
                found.branches[revision] = found.add(blobs, "initial commit", "system", None).sha
        yield running.endpoint
