"""A teacher cache at an address, such as s3:// or hf://: a folder here has the same files, and is what is read.

What is there is fetched before training, whole files only; each shard that is computed here is sent when it is
complete. Access is as the package of the storage finds it (environment, its own files), never in the address.
"""

import logging
import posixpath
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ...errors import ConfigurationError, EndpointError, InputError, MissingPackageError, MuscleError
from ...files import replaced
from ...progress import progress_bar
from ...text import printable
from .files import HEADS, MANIFEST, Manifest, check_file, read_manifest
from .spec import CacheSpec, refuse_other_spec

logger = logging.getLogger(__name__)

# Where a file system runs requests side by side; others may not be asked by several threads.
_FETCHED_AT_ONCE = 4
_QUOTED = 300


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
            f"teacher_cache_dir={address!r} needs a package that is not installed ({_one_line(error)}){command}"
        ) from None
    except Exception as error:  # whatever the package of a storage raises
        raise ConfigurationError(f"teacher_cache_dir={address!r} cannot be used: {_one_line(error)}") from None
    return system, str(path).rstrip("/")


class RemoteCache:
    """The cache of one data set at an address, and the folder that has its files here."""

    def __init__(self, address: str, folder: Path) -> None:
        """Know both; nothing is asked."""
        self.address, self.folder = address.rstrip("/"), folder
        self._system, self._root = file_system(self.address)
        self._unsent: set[str] = set()

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
        manifest = self._checked_manifest()
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
        """Send a file that is complete; what cannot be sent now, but for the manifest, is sent by `send_missing`."""
        if path.name == MANIFEST:
            self._send_manifest(self._list())
            return
        try:
            self._put(path)
        except EndpointError as error:
            logger.warning(f"{error} It is tried again at the end.")
            self._unsent.add(path.name)

    def send_missing(self, spec: CacheSpec, *, process: int = 0, processes: int = 1) -> None:
        """Send what is here, whole and not there, of one process; a failure is an EndpointError."""
        manifest = read_manifest(self.folder)
        if manifest is None:
            return
        there = self._list()
        self._send_manifest(there)
        for name, shard in _names(manifest, spec, process, processes).items():
            path = self.folder / name
            if not path.exists():
                continue
            is_there = name in there and there[name] in (None, path.stat().st_size)
            if name not in self._unsent and is_there:
                continue
            if _wrong(path, manifest, spec, shard) is None:
                self._put(path)
            self._unsent.discard(name)

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

    def _checked_manifest(self) -> Manifest:
        """Read the manifest that is there, and take it over where there is none here; two that differ are refused."""
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
            here = read_manifest(self.folder)
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

    def _send_manifest(self, there: Mapping[str, int | None]) -> None:
        if MANIFEST in there:
            self._checked_manifest()
        else:
            self._put(self.folder / MANIFEST)

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

    def _put(self, path: Path) -> None:
        with self._explained(f"does not take {path.name}"):
            self._system.makedirs(self._root, exist_ok=True)
            self._system.put_file(str(path), f"{self._root}/{path.name}")

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except MuscleError:
            raise
        except Exception as error:  # each package of a storage has errors of its own
            raise EndpointError(
                f"The teacher cache at {self.address} {what}: {_one_line(error)}. Nothing is lost: what is complete "
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


def _one_line(error: Exception) -> str:
    """Give what a package said in one line, without what follows a ?, where addresses have signatures."""
    text = re.sub(r"\?\S+", "?…", printable(str(error) or type(error).__name__)).rstrip(".")
    return text if len(text) <= _QUOTED else f"{text[:_QUOTED]}…"
