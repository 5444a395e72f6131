"""Files opened as bytes; what was compressed is unpacked while it is read, whatever the file is called."""

import io
import lzma
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from ...errors import InputError
from ...files import no_such_file, refuse_pointer
from ...text import one_line

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
ZIP = b"PK\x03\x04"

ENDINGS = (".gz", ".zst", ".zstd", ".bz2", ".xz", ".lz4")
"""What the name of a compressed file may end in; what a file is tells its content alone."""


class _Packing(NamedTuple):
    name: str
    codec: str
    """What Arrow calls it; "xz" is Python's."""
    command: str
    """What unpacks such a file."""


_PACKINGS = {
    b"\x1f\x8b": _Packing("gzip", "gzip", "gunzip"),
    b"(\xb5/\xfd": _Packing("zstd", "zstd", "unzstd"),
    b"BZh": _Packing("bzip2", "bz2", "bunzip2"),
    b"\xfd7zXZ": _Packing("xz", "xz", "unxz"),
    b'\x04"M\x18': _Packing("lz4", "lz4", "unlz4"),
}
# Nobody's answers are that much alike; an archive that was made to fill a memory is.
_UNPACKED, _RATIO = 1 << 30, 500


def opened(path: Path, needed: str, *, zipped: bool = False) -> Any:
    """Open a file for reading as bytes, unpacked where it is compressed.

    One that cannot be read or is a pointer of git is refused; a zip archive may hold several files, so it is opened
    only where `zipped` says so, as it is. `needed` says in messages what the file should hold.
    """
    refuse_pointer(path)
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise no_such_file(path) from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}); {needed} is needed.") from None
    start = file.peek(8)
    if start.startswith(ZIP) and not zipped:
        file.close()
        raise InputError(f"{path} is compressed (zip): unpack it first, with unzip.")
    packing = _packing(start)
    if packing is None:
        return file
    file.close()
    return io.BufferedReader(_Unpacked(path, packing), 1 << 16)


def is_packed(path: Path) -> bool:
    """Tell whether a file is compressed."""
    with path.open("rb") as file:
        return _packing(file.read(8)) is not None


def without_ending(path: Path) -> Path:
    """Give the name that a compressed file had before."""
    return path.with_suffix("") if path.suffix.lower() in ENDINGS else path


def _packing(start: bytes) -> _Packing | None:
    return next((packing for mark, packing in _PACKINGS.items() if start.startswith(mark)), None)


class _Unpacked(io.RawIOBase):
    """The content of a compressed file; to go back, it is read from its beginning again."""

    def __init__(self, path: Path, packing: _Packing) -> None:
        self.path, self.packing = path, packing
        self.size = path.stat().st_size
        self.place = 0
        self.stream: Any = self._begin()

    def _begin(self) -> Any:
        self.place = 0
        if self.packing.codec == "xz":
            return lzma.open(self.path)
        try:
            return pa.CompressedInputStream(pa.OSFile(str(self.path)), self.packing.codec)
        except (pa.ArrowException, OSError) as error:
            raise InputError(
                f"{self.path} cannot be unpacked here ({one_line(error)}): do it with {self.packing.command}."
            ) from None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.place

    def readinto(self, target: Any) -> int:
        content = self._read(len(target))
        target[: len(content)] = content
        return len(content)

    def _read(self, size: int) -> bytes:
        try:
            content: bytes = self.stream.read(size)
        except (OSError, EOFError, lzma.LZMAError, pa.ArrowException) as error:
            raise InputError(
                f"{self.path} cannot be unpacked ({self.packing.name}: {one_line(error)}): was the file cut off?"
            ) from None
        self.place += len(content)
        if self.place > _UNPACKED and self.place > _RATIO * self.size:
            raise InputError(
                f"{self.path} has {self.size:,} bytes and unpacks to more than {self.place:,}, which no answers do; "
                f"is it a fault? If it is none, unpack it with {self.packing.command}."
            )
        return content

    def seek(self, place: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET:
            raise io.UnsupportedOperation("only from the beginning")
        if place < self.place:
            self.stream.close()
            self.stream = self._begin()
        while self.place < place and self._read(min(place - self.place, 1 << 16)):
            pass
        return self.place

    def close(self) -> None:
        if not self.closed:
            self.stream.close()
        super().close()
