"""What a teacher cache is on disk: a manifest, shards, and, for hidden states, the LM heads.

    manifest.json                        what the targets were made from, and which rows lie in which shard
    shard-00000-of-00012.safetensors     both teachers' targets of some rows, complete or not there at all
    heads.safetensors                    for hidden states only: both teachers' LM heads

safetensors and not Arrow through `datasets`: a shard is mapped into memory as plain arrays, so that the targets of a
batch of scattered tokens are copied out in a few milliseconds; Arrow would build a list object for each token.

Format 2 has checksums of another kind, which are computed ten times as fast; format 1 is still read and gone on with.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import math
import os
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import xxhash
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ...errors import InputError
from ...losses.topk import Layout
from ...models.hidden_states import LogitTransform, OutputHead
from .spec import TEACHERS

FORMATS = (1, 2)
MANIFEST = "manifest.json"
HEADS = "heads.safetensors"
# How safetensors calls the types of the tensors that a cache has.
_TYPES = {
    torch.uint8: "U8",
    torch.uint16: "U16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float32: "F32",
    torch.float64: "F64",
}
# What checksums were and are called in a file's metadata.
_CHECKSUMS: dict[str, Callable[[], Any]] = {"sha256": hashlib.sha256, "xxh3_128": xxhash.xxh3_128}
# Files whose checksum was right, as they were then: a large one is read once, by whomever it is asked for.
_known_whole: set[tuple[str | int, ...]] = set()
# Of two changes within this time, the file system may tell only one.
_CLOCK_OF_FILES = 50_000_000
_LIBRARIES = ("muscle_hf", "torch", "transformers", "peft", "safetensors")


@dataclass(frozen=True)
class Manifest:
    """What a cache holds."""

    spec: Mapping[str, Any]  # a [`CacheSpec`] as `to_json` gives it
    row_offsets: tuple[int, ...]  # shard i has the rows from row_offsets[i] to row_offsets[i + 1]
    token_offsets: tuple[int, ...]  # likewise its trained tokens, counted over the whole set
    format: int = FORMATS[-1]

    @property
    def shards(self) -> int:
        """How many shards there are when the cache is complete."""
        return len(self.row_offsets) - 1

    @cached_property
    def identity(self) -> str:
        """A hash that every file of the cache carries, so that no file of another one is taken for its own."""
        content = [self.format, self.spec, self.row_offsets, self.token_offsets]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def tokens_of(self, shard: int) -> int:
        """Return how many trained tokens a shard has."""
        return self.token_offsets[shard + 1] - self.token_offsets[shard]

    def path_of(self, folder: Path, shard: int) -> Path:
        """Return where a shard is."""
        return folder / f"shard-{shard:05}-of-{self.shards:05}.safetensors"


def read_manifest(folder: Path) -> Manifest | None:
    """Read the manifest of a cache; None where there is none."""
    file = folder / MANIFEST
    try:
        read = json.loads(file.read_text(encoding="utf-8"))
        if read["format"] in FORMATS:
            offsets = [tuple(int(offset) for offset in read[name]) for name in ("row_offsets", "token_offsets")]
            rising = all(list(side) == sorted(side) and side[0] == 0 for side in offsets)
            if not rising or not len(offsets[0]) == len(offsets[1]) > 1 or not isinstance(read["spec"], dict):
                raise ValueError("offsets that do not rise")
            return Manifest(read["spec"], offsets[0], offsets[1], read["format"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise InputError(
            f"{file} is damaged ({type(error).__name__}: {error}). Delete the folder {folder} and compute the cache "
            "again."
        ) from error
    raise InputError(
        f"{file} has format {read['format']!r}, and this version of muscle_hf reads formats 1 and 2. Use the "
        "version that wrote the cache, or compute it again in another folder."
    )


def create_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Write the manifest of a new cache, unless another process was faster; return the one that is there now."""
    content = {
        "format": manifest.format,
        "spec": manifest.spec,
        "rows": manifest.row_offsets[-1],
        "tokens": manifest.token_offsets[-1],
        "row_offsets": manifest.row_offsets,
        "token_offsets": manifest.token_offsets,
        "versions": {name: importlib.metadata.version(name) for name in _LIBRARIES},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    temporary = _temporary(folder / MANIFEST)
    try:
        _write(temporary, (json.dumps(content, indent=1) + "\n").encode())
        try:
            # Unlike a rename, a link never replaces: the first process decides, and no reader sees half a file.
            os.link(temporary, folder / MANIFEST)
        except (FileExistsError, FileNotFoundError):  # which may have removed ours, for that of a killed process
            pass
        except OSError:  # no links on this file system
            temporary.replace(folder / MANIFEST)
    finally:
        temporary.unlink(missing_ok=True)
    return read_manifest(folder) or manifest


def remove_left_over(path: Path) -> None:
    """Remove what processes that were killed have left of a file that is there, or is written now."""
    for left_over in path.parent.glob(f"{path.name}.*.tmp"):
        left_over.unlink(missing_ok=True)


def check_header(path: Path, identity: str, layout: Layout | None = None, tokens: int = 0) -> str | None:
    """Say in a few words what the header of a shard of so many tokens tells to be wrong; or None.

    Without a layout, it is the file of the heads. No tensor is read, but a file that was cut off is found.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            stored = {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()}
    except FileNotFoundError:
        return "missing"
    except (SafetensorError, OSError) as error:
        return f"damaged ({error})"
    if metadata.get("cache") != identity:
        return "of another cache"
    if metadata.get("file") != path.name:
        return f"a copy of {metadata.get('file')}"
    if layout is not None and stored != {
        name: (_TYPES[dtype], (tokens, *shape)) for name, (dtype, shape) in layout.items()
    }:
        return "damaged (other tensors than the manifest says)"
    return None


def check_content(path: Path) -> str | None:
    """Say in a few words that a shard or the heads, whose header is right, are damaged; or None: every byte is read.

    A file that was damaged would teach noise without a word.
    """
    try:
        status = path.stat()
        state = str(path), status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
        if state in _known_whole:
            return None
        tensors, metadata = map_tensors(path)
    except (SafetensorError, OSError) as error:
        return f"damaged ({error})"
    kind = next((name for name in _CHECKSUMS if name in metadata), None)
    if kind is None or metadata[kind] != _checksum(tensors, kind):
        return "damaged (its checksum differs)"
    if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > _CLOCK_OF_FILES:
        _known_whole.add(state)
    return None


def check_file(path: Path, identity: str, layout: Layout | None = None, tokens: int = 0) -> str | None:
    """Say in a few words what is wrong with a file's header or content; or None."""
    return check_header(path, identity, layout, tokens) or check_content(path)


def check_heads(folder: Path, manifest: Manifest) -> str | None:
    """Say what is wrong with the heads of a cache of hidden states, or None where nothing is."""
    return check_file(folder / HEADS, manifest.identity)


def write_heads(folder: Path, manifest: Manifest, heads: Mapping[str, OutputHead]) -> None:
    """Write both teachers' LM heads."""
    # Copies, since both teachers may have one head, and safetensors writes no memory twice.
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in _tensors_of_heads(heads).items()}
    transforms = {role: json.dumps(asdict(head.transform)) for role, head in heads.items()}
    write_tensors(folder / HEADS, tensors, manifest.identity, **transforms)


def read_heads(folder: Path) -> dict[str, OutputHead]:
    """Read both teachers' LM heads, mapped into memory."""
    tensors, metadata = map_tensors(folder / HEADS)
    return {
        role: OutputHead(
            tensors[f"{role}.weight"],
            tensors.get(f"{role}.bias"),
            LogitTransform(**json.loads(metadata[role])),
        )
        for role in TEACHERS
    }


def bytes_of_heads(heads: Mapping[str, OutputHead]) -> int:
    """Return how large the heads are on disk."""
    return sum(tensor.nbytes for tensor in _tensors_of_heads(heads).values())


def _tensors_of_heads(heads: Mapping[str, OutputHead]) -> dict[str, Tensor]:
    named = {f"{role}.{part}": getattr(head, part) for role, head in heads.items() for part in ("weight", "bias")}
    return {name: tensor for name, tensor in named.items() if tensor is not None}


def map_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Map a file's tensors into memory, with its metadata; what is never looked at is never read."""
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118 - no mapping


def write_tensors(path: Path, tensors: Mapping[str, Tensor], identity: str, **metadata: str) -> None:
    """Write tensors, on the CPU and contiguous, and metadata: a whole file or, with an OSError, none."""
    remove_left_over(path)
    # The widest first: tensors of a mapped file have to start at multiples of their width.
    tensors = dict(sorted(tensors.items(), key=lambda item: (-item[1].dtype.itemsize, item[0])))
    known = {"cache": identity, "file": path.name, "xxh3_128": _checksum(tensors, "xxh3_128")}
    # Through Python's own files, tensor by tensor: safetensors' `save` copies all of them twice first, and its
    # `save_file` says with no error number that the disk is full.
    parts: list[bytes | memoryview] = [_header(tensors, metadata | known)]
    parts += [as_bytes(tensor).numpy().data for tensor in tensors.values()]
    while not _put(path, *parts):
        pass


def _put(path: Path, *parts: bytes | memoryview) -> bool:
    """Write a file; False where another process that computes the same took it for one that was left over."""
    temporary = _temporary(path)
    try:
        _write(temporary, *parts)
        try:
            temporary.replace(path)
        except FileNotFoundError:
            return path.exists()
        _sync_folder(path.parent)
        return True
    finally:
        temporary.unlink(missing_ok=True)


def _header(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """Make what stands before the tensors in a safetensors file: a length, and JSON that says where each one lies."""
    described: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.nbytes
        described[name] = {"dtype": _TYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(described).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def as_bytes(tensor: Tensor) -> Tensor:
    """Look at a tensor as rows of bytes: uint8, (tokens, bytes of a token)."""
    width = tensor.dtype.itemsize * math.prod(tensor.shape[1:])
    return tensor.reshape(-1).view(torch.uint8).reshape(len(tensor), width)


def _checksum(tensors: Mapping[str, Tensor], kind: str) -> str:
    total = _CHECKSUMS[kind]()
    for name in sorted(tensors):
        total.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}\n".encode())
        total.update(as_bytes(tensors[name]).numpy().data)
    return str(total.hexdigest())


def _temporary(path: Path) -> Path:
    # Processes on several machines may share the folder, so that a process id is not enough.
    return path.with_name(f"{path.name}.{secrets.token_hex(8)}.tmp")


def _write(path: Path, *content: bytes | memoryview) -> None:
    with path.open("wb") as handle:
        for part in content:
            handle.write(part)
        handle.flush()
        os.fsync(handle.fileno())


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut; where folders cannot be opened (Windows), it does so by itself."""
    with contextlib.suppress(PermissionError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
