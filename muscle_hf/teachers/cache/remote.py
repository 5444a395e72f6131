"""A teacher cache at an address, such as s3:// or hf://: a folder here has the same files, and is what is read.

What is there is fetched before training, whole files only; each shard that is computed here is sent when it is
complete. Access is as the package of the storage finds it (environment, its own files), never in the address.
"""

import logging
import posixpath
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ...errors import ConfigurationError, EndpointError, InputError, MissingPackageError, MuscleError
from ...files import replaced
from ...progress import progress_bar
from ...text import one_line
from .files import HEADS, MANIFEST, Manifest, check_file, read_manifest
from .spec import CacheSpec, refuse_other_spec

logger = logging.getLogger(__name__)

# Where a file system runs requests side by side; others may not be asked by several threads.
_FETCHED_AT_ONCE = 4
# The Hub counts commits, and a cache may have thousands of shards.
_SECONDS_BETWEEN_COMMITS, _FILES_OF_A_COMMIT = 300.0, 50


def is_address(folder: str) -> bool:
    """Say whether what names a cache is an address and no folder of this machine."""
    return "://" in folder


def file_system(address: str) -> tuple[Any, str]:
    """Return the fsspec file system of an address and the path in it; nothing is asked over the network.

    An address that may hold a secret is refused unseen; an unknown kind, or a package that is missing, by name.
    """
    # Nobody else needs it, and it comes with datasets.
    from fsspec.core import url_to_fs
    from fsspec.registry import known_implementations

    try:
        parts = urlsplit(address)
        has_secret = parts.password is not None or bool(parts.query)
    except ValueError:
        raise ConfigurationError("teacher_cache_dir is no address; give one such as s3://bucket/cache.") from None
    if has_secret:
        raise ConfigurationError(
            "teacher_cache_dir holds a password or goes on after ?, where a key may stand, and logs and files would "
            "repeat it. Give the address without, and the key as the storage's package reads it (environment or file)."
        )
    try:
        system, path = url_to_fs(address)
    except ImportError as error:
        package = known_implementations.get(parts.scheme, {}).get("class", "").partition(".")[0]
        command = "" if package in ("", "fsspec") else f": pip install {package}"
        raise MissingPackageError(
            f"teacher_cache_dir={address!r} needs a package that is not installed ({_said(error)}){command}"
        ) from None
    except Exception as error:  # whatever the package of a storage raises
        raise ConfigurationError(f"teacher_cache_dir={address!r} cannot be used: {_said(error)}") from None
    return system, str(path).rstrip("/")


class RemoteCache:
    """The cache of one data set at an address, and the folder that has its files here."""

    def __init__(self, address: str, folder: Path) -> None:
        """Know both; nothing is asked."""
        self.address, self.folder = address.rstrip("/"), folder
        self._system, self._root = file_system(self.address)
        self._manifest: Manifest | None = None  # once it is the same there and here
        self._unsent: set[str] = set()
        self._makes_commits = self._system.protocol == "hf" and not self._root.startswith("buckets/")
        self._last_commit = time.monotonic()

    def fetch(
        self, spec: CacheSpec, *, process: int | None = None, processes: int = 1, show_progress: bool = False
    ) -> None:
        """Fetch what is there and not here: all files where they make a whole cache, or those of one process.

        A cache of something else is a ConfigurationError. What is damaged is left out with a warning, so that it is
        computed again.
        """
        there = self._list()
        if MANIFEST not in there:
            return
        manifest = self._common_manifest(there)
        refuse_other_spec(self.address, manifest.spec, spec)
        shards = _names(manifest, spec, process or 0, processes)
        absent = [name for name in shards if not (self.folder / name).exists()]
        wanted = [name for name in absent if name in there]
        if process is None and wanted != absent:
            return
        workers = _FETCHED_AT_ONCE if getattr(self._system, "async_impl", False) else 1
        title = f"Teacher cache from {self.address}"
        with (
            progress_bar(len(wanted), title, unit="file", disable=not show_progress or not wanted) as bar,
            ThreadPoolExecutor(workers) as pool,
        ):
            for _ in pool.map(
                lambda name: self._fetch_checked(name, there[name], manifest, spec, shards[name]), wanted
            ):
                bar.update(1)

    def send(self, path: Path) -> None:
        """Send a file that is complete, to a repository of the Hub with those of some minutes in one commit.

        What cannot be sent now, but for the manifest, is sent by `send_missing`.
        """
        if path.name == MANIFEST:
            self._common_manifest(self._list())
            return
        self._unsent.add(path.name)
        if self._makes_commits and time.monotonic() - self._last_commit < _SECONDS_BETWEEN_COMMITS:
            return
        self._last_commit = time.monotonic()
        try:
            self._put(sorted(self._unsent) if self._makes_commits else [path.name])
        except EndpointError as error:
            logger.warning(f"{error} It is tried again at the end.")

    def send_missing(self, spec: CacheSpec, *, process: int = 0, processes: int = 1) -> None:
        """Send what is here, whole and not there, of one process; a failure is an EndpointError."""
        if not (self.folder / MANIFEST).exists():
            return
        there = self._list()
        manifest = self._common_manifest(there)
        missing = []
        for name, shard in _names(manifest, spec, process, processes).items():
            path = self.folder / name
            is_there = name not in self._unsent and name in there
            if not path.exists() or (is_there and there[name] in (None, path.stat().st_size)):
                continue
            if _wrong(path, manifest, spec, shard) is None:
                missing.append(name)
        self._put(missing)

    def _list(self) -> dict[str, int | None]:
        """Return the sizes of the files that are there, by name."""
        with self._explained("cannot be looked at"):
            self._system.invalidate_cache()
            try:
                entries = self._system.ls(self._root, detail=True)
            except FileNotFoundError:
                return {}
            return {
                posixpath.basename(entry["name"]): entry.get("size") for entry in entries if entry["type"] == "file"
            }

    def _common_manifest(self, there: Mapping[str, int | None]) -> Manifest:
        """Take the manifest that is there, or send the one that is here; two that differ are refused. Done once."""
        if self._manifest is not None:
            return self._manifest
        here = read_manifest(self.folder)
        if MANIFEST in there:
            self._manifest = self._fetched_manifest(here)
        elif here is not None:
            self._put([MANIFEST])
            self._manifest = here
        assert self._manifest is not None, "one of both has a manifest"  # noqa: S101 - ours, not a user's
        return self._manifest

    def _fetched_manifest(self, here: Manifest | None) -> Manifest:
        with tempfile.TemporaryDirectory() as folder:
            with self._explained(f"does not give {MANIFEST}"):
                self._system.get_file(f"{self._root}/{MANIFEST}", str(Path(folder) / MANIFEST))
            try:
                there = read_manifest(Path(folder))
            except InputError:
                there = None
            if there is None:
                raise ConfigurationError(
                    f"{self.address}/{MANIFEST} is damaged, or of another version of muscle_hf. Name another address, "
                    "or delete what is there to have the cache computed again."
                )
            if here is None:
                self.folder.mkdir(parents=True, exist_ok=True)
                with replaced(self.folder / MANIFEST) as temporary:
                    shutil.copyfile(Path(folder) / MANIFEST, temporary)
            elif here.identity != there.identity:
                raise ConfigurationError(
                    f"The teacher cache in {self.folder} is another one than that at {self.address}: made from "
                    "something else, or cut into other shards. Delete the one that is not needed, or name another "
                    "address."
                )
            return there

    def _fetch_checked(
        self, name: str, size: int | None, manifest: Manifest, spec: CacheSpec, shard: int | None
    ) -> None:
        path = self.folder / name
        with replaced(path) as temporary:
            with self._explained(f"does not give {name}"):
                self._system.get_file(f"{self._root}/{name}", str(temporary))
            got = temporary.stat().st_size
            if size is not None and got != size:
                raise EndpointError(
                    f"{self.address} has sent {got} of the {size} bytes of {name}. What came whole is kept in "
                    f"{self.folder}; the same command goes on from there."
                )
        wrong = _wrong(path, manifest, spec, shard)
        if wrong is not None:
            logger.warning(f"Teacher cache: {self.address}/{name} is {wrong}; it is computed again.")
            path.unlink(missing_ok=True)

    def _put(self, names: Sequence[str]) -> None:
        """Send files that are here: one by one, or so many in a commit."""
        at_once = _FILES_OF_A_COMMIT if self._makes_commits else 1
        for start in range(0, len(names), at_once):
            some = names[start : start + at_once]
            with self._explained(f"does not take {some[0]}"):
                if self._makes_commits:
                    self._commit(some)
                else:
                    self._system.makedirs(self._root, exist_ok=True)
                    self._system.put_file(str(self.folder / some[0]), f"{self._root}/{some[0]}")
            self._unsent.difference_update(some)

    def _commit(self, names: Sequence[str]) -> None:
        from huggingface_hub import CommitOperationAdd, HfApi

        place = self._system.resolve_path(self._root)
        HfApi(endpoint=self._system.endpoint, token=self._system.token).create_commit(
            place.repo_id,
            [CommitOperationAdd(posixpath.join(place.path_in_repo, name), self.folder / name) for name in names],
            commit_message=f"Teacher cache: {names[0]}{f' and {len(names) - 1} more' if names[1:] else ''}",
            repo_type=place.repo_type,
            revision=place.revision,
        )

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except MuscleError:
            raise
        except Exception as error:  # each package of a storage has errors of its own
            raise EndpointError(
                f"The teacher cache at {self.address} {what}: {_said(error)}. Nothing is lost: what is complete "
                f"lies in {self.folder}, and the same command goes on from there."
            ) from None


def _names(manifest: Manifest, spec: CacheSpec, process: int = 0, processes: int = 1) -> dict[str, int | None]:
    """Name the files of one process beside the manifest, each with its shard; the heads have none."""
    shards = range(process, manifest.shards, processes)
    heads: dict[str, int | None] = {HEADS: None} if spec.kind == "hidden" and process == 0 else {}
    return {manifest.path_of(Path(), shard).name: shard for shard in shards} | heads


def _wrong(path: Path, manifest: Manifest, spec: CacheSpec, shard: int | None) -> str | None:
    if shard is None:
        return check_file(path, manifest.identity)
    return check_file(path, manifest.identity, spec.layout(), manifest.tokens_of(shard))


def _said(error: Exception) -> str:
    """Give what a package said in one line, without what follows a ?, where addresses have signatures."""
    return one_line(re.sub(r"\?\S+", "?…", str(error) or type(error).__name__)).rstrip(".")
