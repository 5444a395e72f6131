"""The two kinds of files in which inspect_ai keeps a log: `.eval`, a zip of JSON, and `.json`, one document.

Both are documented (https://inspect.aisi.org.uk/eval-logs.html), so neither needs inspect_ai; where it is installed,
its own library reads them, and knows what other versions wrote.
"""

import json
import re
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile, ZipInfo

import pyarrow as pa

from ...errors import InputError
from ...text import one_line
from .head import Head

_MEMBERS = (b"_journal/", b"header.json", b"samples/", b"summaries.json", b"reductions.json")
_SAMPLE = re.compile(r"samples/(?P<id>.*)_epoch_(?P<epoch>\d+)\.json", re.DOTALL)
_START = "_journal/start.json"
_ZSTANDARD = 93
_LOCAL_HEADER = 30
# Events, which take most of a log, are not kept.
_FIELDS = ("id", "epoch", "input", "choices", "target", "output", "score", "scores", "metadata", "error")


@dataclass(frozen=True)
class Log:
    """One log: what was evaluated and how it ended, and its samples."""

    header: Mapping[str, Any]
    samples: Callable[[], Iterator[Mapping[str, Any]]]
    """Gives the samples from the first one on, by epoch and id."""


def is_log(head: Head) -> bool:
    """Tell whether a file is a log, also where it was cut off."""
    if head.layout == "zip":
        # The name of the first member stands behind its header.
        return head.start[_LOCAL_HEADER:].startswith(_MEMBERS)
    # Its first fields are few, so that no other large document has to be read.
    if head.layout not in ("object", "lines") or b'"eval"' not in head.start:
        return False
    if head.first is None:  # cut off, so that only its beginning can tell
        return b'"status"' in head.start
    return "eval" in head.keys and bool({"samples", "status", "results", "plan"} & head.keys)


def open_log(head: Head) -> Log:
    """Open a log, with inspect_ai's own library where that is installed and takes the file."""
    return by_library(head.path) or (_archive if head.layout == "zip" else _document)(head)


def read_header(head: Head) -> Mapping[str, Any]:
    """Read what a log says of its run."""
    if head.layout != "zip":
        return _object(head.document, str(head.path))
    with _opened(head.path) as archive:
        return _header(archive, head.path)


def by_library(path: Path) -> Log | None:
    """Read a log as inspect_ai does; None where it is not installed, or does not take the file."""
    try:
        from inspect_ai.log import read_eval_log
    except ImportError:
        return None
    try:
        log = read_eval_log(str(path))
        samples = [sample.model_dump(include=set(_FIELDS)) for sample in log.samples or ()]
        header = log.model_dump(exclude={"samples", "reductions"})
    except Exception:
        return None
    return Log(header, lambda: iter(samples))


def _document(head: Head) -> Log:
    header = read_header(head)
    return Log(header, lambda: iter(header.get("samples") or ()))


def _archive(head: Head) -> Log:
    path = head.path

    def samples() -> Iterator[Mapping[str, Any]]:
        with _opened(path) as archive:
            for info in _samples(archive):
                sample = _member(archive, info, path)
                yield {name: sample[name] for name in _FIELDS if name in sample}

    return Log(read_header(head), samples)


def _header(archive: ZipFile, path: Path) -> Mapping[str, Any]:
    members = {info.filename: info for info in archive.infolist()}
    if "header.json" in members:
        return _member(archive, members["header.json"], path)
    if _START not in members:
        raise InputError(f"{path} is a zip archive without a header.json, so no log of inspect_ai.")
    # The header is written when a run ends.
    return {**_member(archive, members[_START], path), "status": "started"}


def _samples(archive: ZipFile) -> list[ZipInfo]:
    """List the samples by epoch and id; of one that was evaluated again, its last record counts."""
    found = {}
    for info in archive.infolist():
        if match := _SAMPLE.fullmatch(info.filename):
            found[info.filename] = (int(match["epoch"]), match["id"].zfill(20), info)
    return [info for *_, info in sorted(found.values(), key=lambda item: item[:2])]


def _opened(path: Path) -> ZipFile:
    try:
        return ZipFile(path)
    except (BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise _broken(path, error) from None


def _member(archive: ZipFile, info: ZipInfo, path: Path) -> Mapping[str, Any]:
    try:
        content = _zstandard(path, info) if info.compress_type == _ZSTANDARD else archive.read(info)
        value = json.loads(content)
    except (RecursionError, ValueError) as error:
        raise InputError(f"{path}: {info.filename} in it is not JSON ({one_line(error)}).") from None
    except (BadZipFile, OSError, EOFError, RuntimeError, zlib.error, struct.error) as error:
        raise _broken(path, error) from None
    return _object(value, f"{path}: {info.filename} in it")


def _zstandard(path: Path, info: ZipInfo) -> bytes:
    """Unpack a member that is compressed as inspect_ai does it since 2025; Python's zipfile can from 3.14 on."""
    with path.open("rb") as file:
        file.seek(info.header_offset)
        name, extra = struct.unpack("<26x2H", file.read(_LOCAL_HEADER))
        file.seek(name + extra, 1)
        packed = file.read(info.compress_size)
    try:
        content: bytes = pa.input_stream(pa.py_buffer(packed), compression="zstd").read()
    except (pa.ArrowException, OSError) as error:
        raise BadZipFile(one_line(error)) from None
    if len(content) != info.file_size or zlib.crc32(content) != info.CRC:
        raise BadZipFile(f"{info.filename} does not have its checksum")
    return content


def _object(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{where} is {type(value).__name__}, where a JSON object is needed.")
    return value


def _broken(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path} is no whole .eval log of inspect_ai ({one_line(error)}): was it cut off, or is it still written?"
    )
