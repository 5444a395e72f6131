"""Fingerprints by samples, in milliseconds: they tell one model or data set from another, not each flipped bit."""

import json
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..hub.lookup import is_local, located

_BLOCKS = 64
_BLOCK = 4096
_NUMBERS = 256
_ROWS = 256
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin", "adapter_model*.bin")


def quick_fingerprint_of_named(name: str, commit: str | None) -> str:
    """Name the commit of a model on the Hub; of a folder, sample its weights, so that it may lie anywhere."""
    if not is_local(name):
        return f"{name}@{commit}" if commit else name
    crc = 0
    files = {path.name: path for pattern in _WEIGHTS for path in Path(located(name)).glob(pattern)}
    for _, path in sorted(files.items()):
        size = path.stat().st_size
        with path.open("rb") as file:
            for block in range(min(_BLOCKS, -(-size // _BLOCK))):
                file.seek(block * size // _BLOCKS if size > _BLOCKS * _BLOCK else block * _BLOCK)
                crc = zlib.crc32(file.read(_BLOCK), crc)
        crc = zlib.crc32(f"{path.name} {size}".encode(), crc)
    return f"weights {crc:08x}"


def quick_fingerprint_of_tensors(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Sample some numbers of each tensor in memory."""
    crc = 0
    for name, tensor in tensors:
        crc = zlib.crc32(f"{name} {tuple(tensor.shape)}".encode(), crc)
        if not tensor.is_meta and tensor.numel():
            numbers = tensor.detach().reshape(-1)[:: -(-tensor.numel() // _NUMBERS)].contiguous().cpu()
            crc = zlib.crc32(numbers.view(torch.uint8).numpy().tobytes(), crc)
    return f"weights {crc:08x}"


def quick_fingerprint_of_rows(rows: Any) -> str | None:
    """Count encoded rows and sample some of them; None of a stream, which has no rows to go back to."""
    if not hasattr(rows, "__len__") or not hasattr(rows, "__getitem__"):
        return None
    crc, count = 0, len(rows)
    for row in range(0, count, max(1, -(-count // _ROWS))):
        crc = zlib.crc32(json.dumps(rows[row], sort_keys=True, default=str).encode(), crc)
    return f"{count:,} rows {crc:08x}"
