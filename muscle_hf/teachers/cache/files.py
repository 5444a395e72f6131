"""What a teacher cache is on disk: a manifest, shards, and, for hidden states, the LM heads.

    manifest.json                        what the targets were made from, and which rows lie in which shard
    shard-00000-of-00012.safetensors     both teachers' targets of some rows, complete or not there at all
    heads.safetensors                    for hidden states only: both teachers' LM heads

safetensors and not Arrow through `datasets`: a shard is mapped into memory as plain arrays, so that the targets of a
batch of scattered tokens are copied out in a few milliseconds; Arrow would build a list object for each token.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import math
import os
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ...errors import InputError
from ...losses.topk import Layout
from ...models.hidden_states import LogitTransform, OutputHead
from .spec import TEACHERS

FORMAT = 1
MANIFEST = "manifest.json"
HEADS = "heads.safetensors"
_LIBRARIES = ("muscle_hf", "torch", "transformers", "peft", "safetensors")


@dataclass(frozen=True)
class Manifest:
    """What a cache holds."""

    spec: Mapping[str, Any]  # a [`CacheSpec`] as `to_json` gives it
    row_offsets: tuple[int, ...]  # shard i has the rows from row_offsets[i] to row_offsets[i + 1]
    token_offsets: tuple[int, ...]  # likewise its trained tokens, counted over the whole set

    @property
    def shards(self) -> int:
        """How many shards there are when the cache is complete."""
        return len(self.row_offsets) - 1

    @cached_property
    def identity(self) -> str:
        """A hash that every file of the cache carries, so that no file of another one is taken for its own."""
        content = [FORMAT, self.spec, self.row_offsets, self.token_offsets]
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
        if read["format"] == FORMAT:
            offsets = [tuple(int(offset) for offset in read[name]) for name in ("row_offsets", "token_offsets")]
            rising = all(list(side) == sorted(side) and side[0] == 0 for side in offsets)
            if not rising or not len(offsets[0]) == len(offsets[1]) > 1 or not isinstance(read["spec"], dict):
                raise ValueError("offsets that do not rise")
            return Manifest(read["spec"], *offsets)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise InputError(
            f"{file} is damaged ({type(error).__name__}: {error}). Delete the folder {folder} and compute the cache "
            "again."
        ) from error
    raise InputError(
        f"{file} has format {read['format']!r}, and this version of muscle_hf reads format {FORMAT}. Use the version "
        "that wrote the cache, or compute it again in another folder."
    )


def create_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Write the manifest of a new cache, unless another process was faster; return the one that is there now."""
    content = {
        "format": FORMAT,
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
        except FileExistsError:
            pass
        except OSError:  # no links on this file system
            temporary.replace(folder / MANIFEST)
    finally:
        temporary.unlink(missing_ok=True)
    return read_manifest(folder) or manifest


def check_file(path: Path, identity: str, layout: Layout | None = None, tokens: int = 0) -> str | None:
    """Say in a few words what is wrong with a shard of so many tokens, or, without a layout, with the heads; or None.

    Every byte is read: a file that was cut off, damaged or swapped would teach noise without a word.
    """
    try:
        tensors, metadata = map_tensors(path)
    except FileNotFoundError:
        return "missing"
    except (SafetensorError, OSError) as error:
        return f"damaged ({error})"
    if metadata.get("cache") != identity:
        return "of another cache"
    if metadata.get("file") != path.name:
        return f"a copy of {metadata.get('file')}"
    stored = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}
    if layout is not None and stored != {name: (dtype, (tokens, *shape)) for name, (dtype, shape) in layout.items()}:
        return "damaged (other tensors than the manifest says)"
    if metadata.get("sha256") != _checksum(tensors):
        return "damaged (its checksum differs)"
    return None


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
    for left_over in path.parent.glob(f"{path.name}.*.tmp"):  # of a process that was killed
        left_over.unlink(missing_ok=True)
    known = {"cache": identity, "file": path.name, "sha256": _checksum(tensors)}
    temporary = _temporary(path)
    try:
        # Through Python's own files: they say with an error number that the disk is full, and can be synced.
        _write(temporary, save(dict(tensors), metadata | known))
        temporary.replace(path)
        _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def as_bytes(tensor: Tensor) -> Tensor:
    """Look at a tensor as rows of bytes: uint8, (tokens, bytes of a token)."""
    width = tensor.dtype.itemsize * math.prod(tensor.shape[1:])
    return tensor.reshape(-1).view(torch.uint8).reshape(len(tensor), width)


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    total = hashlib.sha256()
    for name in sorted(tensors):
        total.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}\n".encode())
        total.update(as_bytes(tensors[name]).numpy().data)
    return total.hexdigest()


def _temporary(path: Path) -> Path:
    # Processes on several machines may share the folder, so that a process id is not enough.
    return path.with_name(f"{path.name}.{secrets.token_hex(8)}.tmp")


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as handle:
        handle.write(content)
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
