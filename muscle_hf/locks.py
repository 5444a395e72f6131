"""One run at a time: a lock that the system takes back when its process ends, in whatever way it ends."""

import contextlib
import errno
import json
import logging
import os
import socket
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from .errors import ConfigurationError
from .text import one_line, printable

logger = logging.getLogger(__name__)

LOCK = ".muscle-hf.lock"
"""The file that a folder is held by."""

# Nothing can be written there: whoever tries says why, and nobody else can either.
_CANNOT_WRITE = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT}
_HAS_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.EBADF}
_open: set[int] = set()


@contextlib.contextmanager
def held_file(path: Path, work: str, otherwise: str) -> Iterator[None]:
    """Refuse to go on where another process works towards a file, and keep others away meanwhile; see [`held_folder`].

    The folder that it is to lie in is there.
    """
    with _held(path.with_name(f".{path.name}.lock"), path, work, otherwise):
        yield


@contextlib.contextmanager
def held_folder(folder: Path, work: str, otherwise: str, *, part: str = "") -> Iterator[None]:
    """Refuse to go on where another process works in a folder, and keep others away meanwhile.

    A folder that is not there is made, and goes again where nothing was put into it. The hidden lock file goes at the
    end; one that a killed process left locks nobody out. Windows, and file systems without locks, let all go on, the
    latter with a warning; so does a folder that is there and cannot be written to, where who writes first says so.

    Args:
        folder: Where it works.
        work: What goes on meanwhile, as others are told, such as "muscle-hf update".
        otherwise: What else they can do than wait, such as "choose another --output-dir".
        part: Of the folder, where others may work on the other parts.

    Raises:
        ConfigurationError: The folder cannot be made, or somebody else is at it; the message says which process, on
            which machine, and since when.
    """
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:  # a file is there, and whoever writes there knows better what is wrong
        pass
    except OSError as error:
        raise ConfigurationError(
            f"{one_line(folder)} cannot be made ({error.strerror}); name a folder where you may write."
        ) from error
    try:
        with _held(folder / (f".muscle-hf-{part}.lock" if part else LOCK), folder, work, otherwise):
            yield
    finally:
        if is_new:
            with contextlib.suppress(OSError):
                folder.rmdir()


@contextlib.contextmanager
def _held(lock: Path, path: Path, work: str, otherwise: str) -> Iterator[None]:
    lock, owner = lock.absolute(), os.getpid()
    descriptor = _take(lock, path, otherwise)
    if descriptor is None:
        yield
        return
    _open.add(descriptor)
    with contextlib.suppress(OSError):  # a lock holds without a word on whose it is
        who = {"process": owner, "machine": socket.gethostname(), "work": work, "since": _now()}
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(who).encode(), 0)
    try:
        yield
    finally:
        if os.getpid() == owner:  # not that of a process that was forked inside
            with contextlib.suppress(OSError):
                lock.unlink()  # while it is held, so that nobody else's is removed
            _let_go(descriptor)


def _take(lock: Path, path: Path, otherwise: str) -> int | None:
    """Open and lock a file; None where there can be no lock."""
    if sys.platform == "win32":
        return None
    import fcntl

    while True:
        descriptor = _opened(lock)
        if descriptor is None:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), lock.stat()):
                    return descriptor
            os.close(descriptor)  # its owner has removed it in this moment
        except BlockingIOError:
            who = _read(descriptor)
            os.close(descriptor)
            raise ConfigurationError(
                f"{one_line(path)} is in use: {who}. Two runs would spoil each other's files. Wait until it ends, or "
                f"end it, or {otherwise}."
            ) from None
        except OSError as error:
            os.close(descriptor)
            if error.errno not in _HAS_NO_LOCKS:
                raise
            with contextlib.suppress(OSError):
                lock.unlink()
            logger.warning(
                f"The file system of {one_line(path)} has no locks ({error.strerror}), so a second run there would "
                "not be noticed; start none."
            )
            return None


def _opened(lock: Path) -> int | None:
    # A file that somebody else's killed process left may be one to read only; a lock asks for no more.
    for flags in (os.O_RDWR | os.O_CREAT, os.O_RDONLY):
        try:
            return os.open(lock, flags, 0o666)
        except OSError as error:
            if error.errno not in {*_CANNOT_WRITE, errno.ENOENT, errno.ENOTDIR}:
                raise
    return None


def _read(descriptor: int) -> str:
    """Say who holds a lock."""
    try:
        who = json.loads(os.pread(descriptor, 4096, 0))
        at_it = f"process {int(who['process'])} on {who['machine']} is at it since {who['since']} ({who['work']})"
        return printable(at_it)
    except (ValueError, KeyError, TypeError, OSError):  # it has not written it yet
        return "another process is at it"


def _now() -> str:
    return datetime.now(UTC).isoformat(sep=" ", timespec="seconds")


def _let_go(descriptor: int) -> None:
    _open.discard(descriptor)
    with contextlib.suppress(OSError):
        os.close(descriptor)


def _forget() -> None:
    """Let a forked process, such as one that loads data, not hold on to what its parent's death should free."""
    for descriptor in list(_open):
        _let_go(descriptor)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
