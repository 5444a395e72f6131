"""A file is replaced as a whole or not at all: it is written under a temporary name and renamed."""

import contextlib
import errno
import os
import re
import socket
import zlib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from glob import escape
from pathlib import Path

from .errors import ConfigurationError, InputError
from .text import one_line

# First bytes of a pointer -> what keeps it, and what fetches the file. Old names of Git LFS are still in use.
_KINDS = (
    (
        re.compile(rb"version https?://(git-lfs\.github\.com/spec|hawser\.github\.com/spec|git-media\.io/v)/"),
        "Git LFS",
        "git lfs pull",
    ),
    (re.compile(rb"/?(\.git/)?annex/objects/"), "git-annex", "git annex get"),
    (re.compile(rb"# xet version \d"), "git-xet", "git xet checkout"),
)
_SIZE = re.compile(rb"^(?:size|filesize =) (\d{1,18})\b", re.MULTILINE)
# Machines may share a folder, so that a process is known by its machine too.
_HERE = f"{zlib.crc32(socket.gethostname().encode()):08x}"
# What transformers and PEFT load of a folder; others beside them, such as weights for other libraries, may be one.
_OF_A_MODEL = ("adapter_*", "model*.safetensors", "*config.json", "*token*", "vocab*", "merges.txt", "*.jinja")
# No pointer is longer, by the specification of Git LFS.
_LONGEST = 1024
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextlib.contextmanager
def replaced(path: str | Path) -> Iterator[Path]:
    """Offer a temporary name beside a file, and rename it to the file when all went well.

    What is something else than a file, such as a folder or a device, is refused.
    """
    target = Path(path).resolve()  # A link stays one, and what it points to gets the text.
    _remove_left_over(target)
    if target.exists() and not target.is_file():
        raise InputError(f"{path} is no ordinary file, so it is not replaced; name a file.")
    temporary = target.with_name(f"{target.name}.{_HERE}-{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(target)
    except OSError as error:
        if error.filename != str(temporary):
            raise
        # Whoever reads it knows the file, not its temporary name.
        raise type(error)(error.errno, error.strerror, str(path)) from None
    finally:
        temporary.unlink(missing_ok=True)


def _remove_left_over(target: Path) -> None:
    """Remove the temporary files that processes of this machine have left when they were killed."""
    if os.name != "posix":
        return
    for path in target.parent.glob(f"{escape(target.name)}.{_HERE}-*.tmp"):
        process = path.name.removesuffix(".tmp").rpartition("-")[2]
        if process.isdecimal():
            try:
                os.kill(int(process), 0)
            except ProcessLookupError:
                path.unlink(missing_ok=True)
            except (OSError, OverflowError):  # it lives, and is somebody else's
                pass


def write_text(path: Path, text: str) -> None:
    """Write a file as a whole, or leave what was there."""
    with replaced(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def refuse_read_only(folder: Path, way_out: str) -> None:
    """Refuse a folder, which need not exist yet, in which nothing can be written: before work that would be lost."""
    place = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if place.is_dir() and not os.access(place, os.W_OK | os.X_OK):
        which = "it" if place == folder.absolute() else one_line(place)
        raise ConfigurationError(
            f"{one_line(folder)} cannot be written to: {which} is read-only, or somebody else's. {way_out}"
        )


def checksum_of_file(path: Path) -> tuple[int, int]:
    """Return size and CRC-32 of a file, without keeping it in memory."""
    size = crc = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            size, crc = size + len(block), zlib.crc32(block, crc)
    return size, crc


def is_full_disk(error: BaseException) -> bool:
    """Tell whether a file could not be written because the disk, or the user's share of it, is full."""
    return isinstance(error, OSError) and error.errno in _FULL


def no_such_file(path: Path) -> InputError:
    """Return the refusal of a file that is not there; what it would have to hold is no help then."""
    return InputError(f"{path} cannot be read: there is no such file.")


def is_pointer(path: Path) -> bool:
    """Tell whether a file is the pointer that git keeps in the place of a large one."""
    return _kind(_beginning(path)) is not None


def refuse_pointer(path: Path) -> None:
    """Refuse a file that is the pointer which git keeps in the place of a large one, and say what fetches the file.

    A file that is not there, or cannot be read, is left to its reader.
    """
    start = _beginning(path)
    if kind := _kind(start):
        size = _SIZE.search(start)
        file = f"the file of {int(size[1]):,} bytes" if size else "the file"
        raise InputError(
            f"{path} is a {kind[0]} pointer, not {file} that it stands for. Run `{kind[1]}` in a clone of its "
            "repository, which fetches the file."
        )


def refuse_pointers(folder: str | Path) -> None:
    """Refuse a folder of a model or an adapter of which a file that is loaded is a pointer.

    What is no folder here, such as the id of a repository, is passed over.
    """
    if Path(folder).is_dir():
        for path in sorted(Path(folder).iterdir()):
            if any(fnmatchcase(path.name, pattern) for pattern in _OF_A_MODEL):
                refuse_pointer(path)


def _kind(start: bytes) -> tuple[str, str] | None:
    return next(((name, command) for pattern, name, command in _KINDS if pattern.match(start)), None)


def _beginning(path: Path) -> bytes:
    """Read a file that is small enough for a pointer, or where a link leads to that leads to nothing."""
    try:
        if path.is_symlink() and not path.exists():
            target = path.readlink().as_posix()
            return target[target.find(".git/annex/objects/") :].encode() if "annex/objects/" in target else b""
        if not path.is_file() or path.stat().st_size > _LONGEST:
            return b""
        return path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except (OSError, ValueError):  # a name that no file can have
        return b""
