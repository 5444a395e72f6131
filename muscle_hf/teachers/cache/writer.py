"""Fill a teacher cache, shard by shard: what is done stays done, whatever ends the process."""

import logging
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...errors import ConfigurationError, InputError, TeacherError
from ...files import is_full_disk
from ...losses.topk import Layout
from ...models.hidden_states import OutputHead
from .files import (
    HEADS,
    MANIFEST,
    Manifest,
    bytes_of_heads,
    check_file,
    check_heads,
    create_manifest,
    read_manifest,
    remove_left_over,
    write_heads,
    write_tensors,
)
from .spec import CacheSpec, check_heads_fit, refuse_other_spec

logger = logging.getLogger(__name__)

Compute = Callable[[range], Mapping[str, Tensor]]
Report = Callable[[int], None]

SHARD_BYTES = 2**27  # 128 MiB are lost at most when a process is killed, and held in memory while a shard is filled
# A ruled-out token has the log-probability -inf; everything else is finite.
_MAY_BE_MINUS_INFINITY = ("log_probabilities", "log_threshold", "tail", "log_likelihood")


def write_cache(
    folder: str | Path,
    spec: CacheSpec,
    row_token_counts: Sequence[int] | NDArray[np.int64],
    compute: Compute,
    *,
    heads: Mapping[str, OutputHead] | None = None,
    process: int = 0,
    processes: int = 1,
    rows_at_once: int = 32,
    shard_bytes: int = SHARD_BYTES,
    report: Report | None = None,
    written: Callable[[Path], None] | None = None,
) -> list[int]:
    """Compute a teacher cache, or what is missing of it.

    A second call goes on from the shards that are there and whole; damaged ones are computed again. Several processes
    may fill one folder at once, on several machines too: shard i is that of process i modulo `processes`.

    `row_token_counts` are the trained tokens of each row of the data set, in its order. `compute` is called with a few
    rows at a time, in order, and returns for all of their trained tokens the tensors of `spec.layout()`, on any
    device; rows without a trained token alone are left out. The LM `heads` of "old" and "new" are needed for hidden
    states, and for nothing else. A cache that has been begun keeps its own `shard_bytes`. `report` is told how many
    rows of this process's shards are done, at the beginning and after each call of `compute`. `written` is told of the
    manifest, once it is there, and of each file that this call completes. The numbers of the shards written by this
    call are returned. A disk that is or becomes full, and a cache of something else, is a
    ConfigurationError; NaN or infinity is a TeacherError that names the teacher and the row, and keeps the shards
    before it.
    """
    folder, counts = Path(folder), _checked_counts(row_token_counts)
    _check_options(spec, heads, process, processes, rows_at_once, shard_bytes)
    manifest = read_manifest(folder)
    if manifest is None:
        planned = _plan(spec, counts, shard_bytes, processes, rows_at_once)
        _refuse_small_disk(folder, planned, spec, heads, range(planned.shards))
        folder.mkdir(parents=True, exist_ok=True)
        manifest = create_manifest(folder, planned)
    remove_left_over(folder / MANIFEST)
    refuse_other_spec(folder, manifest.spec, spec)
    _refuse_other_rows(folder, manifest, counts)
    tell_written = written or (lambda path: None)
    tell_written(folder / MANIFEST)
    todo = [
        shard for shard in range(process, manifest.shards, processes) if _is_missing(folder, manifest, spec, shard)
    ]
    _refuse_small_disk(folder, manifest, spec, heads, todo)
    if heads is not None and process == 0 and check_heads(folder, manifest) is not None:
        with _explained(folder, manifest, spec, heads):
            write_heads(folder, manifest, heads)
        tell_written(folder / HEADS)
    rows = manifest.row_offsets
    mine = set(range(process, manifest.shards, processes))
    done = sum(rows[shard + 1] - rows[shard] for shard in mine - set(todo))
    _from(report, done)(0)
    for number, shard in enumerate(todo, start=1):
        tensors = _compute_shard(manifest, shard, spec, counts, compute, rows_at_once, _from(report, done))
        done += rows[shard + 1] - rows[shard]
        with _explained(folder, manifest, spec, heads):
            write_tensors(manifest.path_of(folder, shard), tensors, manifest.identity)
        tell_written(manifest.path_of(folder, shard))
        logger.info(f"Teacher cache: shard {shard} is written, {number} of {len(todo)} that were missing.")
    return todo


def _from(report: Report | None, done: int) -> Report:
    """Count on from what is done."""
    return lambda more: None if report is None else report(done + more)


def _checked_counts(row_token_counts: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    counts = np.asarray(row_token_counts)
    if counts.ndim != 1 or (counts.size and counts.dtype.kind not in "iu") or (counts < 0).any():
        raise InputError(
            f"row_token_counts has shape {counts.shape} and type {counts.dtype}; it needs one whole number of 0 or "
            "more for each row."
        )
    if counts.sum() == 0:
        raise InputError("No row has a token to train on, so there is nothing to cache. Check the labels of the data.")
    return counts.astype(np.int64)


def _check_options(
    spec: CacheSpec,
    heads: Mapping[str, OutputHead] | None,
    process: int,
    processes: int,
    rows_at_once: int,
    shard_bytes: int,
) -> None:
    if not 0 <= process < processes:
        raise ConfigurationError(f"process={process} of processes={processes} does not exist; they count from 0.")
    if rows_at_once < 1 or shard_bytes < 1:
        raise ConfigurationError(f"rows_at_once={rows_at_once} and shard_bytes={shard_bytes} must be positive.")
    if (heads is not None) != (spec.kind == "hidden"):
        raise ConfigurationError(
            "heads are needed for hidden states, and for nothing else: without the old model's LM head its hidden "
            "states say nothing."
        )
    if heads is not None:
        check_heads_fit(heads, spec)


def _plan(
    spec: CacheSpec, counts: NDArray[np.int64], shard_bytes: int, processes: int, rows_at_once: int = 1
) -> Manifest:
    """Cut between rows, so that all shards have about as many tokens, and each at least one."""
    tokens_before = np.concatenate([[0], counts.cumsum()])
    total = int(tokens_before[-1])
    shards = max(-(-total * spec.bytes_per_token // shard_bytes), processes)
    wanted = np.array([total * shard // shards for shard in range(1, shards)], dtype=np.int64)
    inside = np.searchsorted(tokens_before, wanted)
    if shards * rows_at_once <= len(counts):  # of whole batches, as it costs little then
        inside = (inside + rows_at_once // 2) // rows_at_once * rows_at_once
    cuts = [0]
    for cut in np.unique(inside.clip(max=len(counts))).tolist():
        if tokens_before[cuts[-1]] < tokens_before[cut] < total:
            cuts.append(cut)
    cuts.append(len(counts))
    return Manifest(spec.to_json(), tuple(cuts), tuple(int(tokens_before[cut]) for cut in cuts))


def _refuse_other_rows(folder: Path, manifest: Manifest, counts: NDArray[np.int64]) -> None:
    tokens_before = np.concatenate([[0], counts.cumsum()])
    rows = manifest.row_offsets
    if rows[-1] != len(counts) or tuple(tokens_before[list(rows)]) != manifest.token_offsets:
        raise ConfigurationError(
            f"The teacher cache in {folder} has {rows[-1]} rows with {manifest.token_offsets[-1]} trained tokens, and "
            f"the data set has {len(counts)} rows with {counts.sum()}, or has them in other rows. Name another "
            "folder, or delete this one to have it computed again."
        )


def _is_missing(folder: Path, manifest: Manifest, spec: CacheSpec, shard: int) -> bool:
    path = manifest.path_of(folder, shard)
    wrong = check_file(path, manifest.identity, spec.layout(), manifest.tokens_of(shard))
    if wrong is not None and path.exists():
        logger.warning(f"Teacher cache: {path} is {wrong}; it is computed again.")
    return wrong is not None


def _bytes_missing(
    folder: Path, manifest: Manifest, spec: CacheSpec, heads: Mapping[str, OutputHead] | None, todo: Sequence[int]
) -> int:
    """Count what all processes together have to write, since they write to one disk."""
    absent = {shard for shard in range(manifest.shards) if not manifest.path_of(folder, shard).exists()}
    tokens = sum(manifest.tokens_of(shard) for shard in absent | set(todo))
    of_heads = 0 if heads is None or (folder / HEADS).exists() else bytes_of_heads(heads)
    # A page for the header of each file.
    return tokens * spec.bytes_per_token + of_heads + 4096 * len(absent)


def _free(folder: Path) -> int:
    return shutil.disk_usage(next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())).free


def _refuse_small_disk(
    folder: Path,
    manifest: Manifest,
    spec: CacheSpec,
    heads: Mapping[str, OutputHead] | None,
    todo: Sequence[int],
) -> None:
    needed, free = _bytes_missing(folder, manifest, spec, heads, todo), _free(folder)
    if needed > free:
        less = "a smaller k" if spec.k is not None else 'teacher_cache="sampled", which takes less'
        raise ConfigurationError(
            f"The teacher cache needs {_size(needed)} ({spec.bytes_per_token} bytes for each of "
            f"{manifest.token_offsets[-1]} trained tokens), and the disk of {folder} has {_size(free)} free. Name a "
            f"folder on a larger disk, or take {less}."
        )


@contextmanager
def _explained(
    folder: Path, manifest: Manifest, spec: CacheSpec, heads: Mapping[str, OutputHead] | None
) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if not is_full_disk(error):
            raise
        done = sum(manifest.path_of(folder, shard).exists() for shard in range(manifest.shards))
        needed, free = _bytes_missing(folder, manifest, spec, heads, ()), _free(folder)
        raise ConfigurationError(
            f"The disk of {folder} is full. {done} of {manifest.shards} shards of the teacher cache are complete and "
            f"are kept; {_size(needed)} more are needed, and {_size(free)} are free. Make room and start again: it "
            "goes on from there."
        ) from error


def _size(count: int) -> str:
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"


def _compute_shard(
    manifest: Manifest,
    shard: int,
    spec: CacheSpec,
    counts: NDArray[np.int64],
    compute: Compute,
    rows_at_once: int,
    tell: Report,
) -> dict[str, Tensor]:
    layout, tokens = spec.layout(), manifest.tokens_of(shard)
    filled = {name: torch.empty((tokens, *shape), dtype=dtype) for name, (dtype, shape) in layout.items()}
    first, last = manifest.row_offsets[shard : shard + 2]
    done = 0
    for start in range(first, last, rows_at_once):
        rows = range(start, min(start + rows_at_once, last))
        count = int(counts[rows.start : rows.stop].sum())
        if count == 0:
            continue
        computed = compute(rows)
        _check_computed(computed, layout, rows, counts)
        for name, tensor in filled.items():
            tensor[done : done + count].copy_(computed[name])
        done += count
        tell(rows.stop - first)
    return filled


def _check_computed(computed: Mapping[str, Tensor], layout: Layout, rows: range, counts: NDArray[np.int64]) -> None:
    count = int(counts[rows.start : rows.stop].sum())
    expected = {name: (dtype, (count, *shape)) for name, (dtype, shape) in layout.items()}
    got = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in computed.items()}
    if got != expected:
        wrong = sorted(name for name in expected.keys() | got.keys() if got.get(name) != expected.get(name))
        raise InputError(
            f"For rows {rows.start} to {rows.stop - 1} the teachers' targets do not fit: "
            + "; ".join(
                f"{name} is {got.get(name, 'missing')}, expected {expected.get(name, 'none')}" for name in wrong
            )
        )
    for name, tensor in computed.items():
        # The highest number is NaN where any is: one fast look at what is nearly always right.
        if not tensor.is_floating_point() or _is_finite(tensor):
            continue
        teacher, _, field = name.partition(".")
        bad = torch.isnan(tensor) | (tensor == math.inf if field in _MAY_BE_MINUS_INFINITY else tensor.isinf())
        if bool(bad.any()):
            token = int(bad.flatten(1).any(1).nonzero()[0] if bad.dim() > 1 else bad.nonzero()[0])
            row = rows.start + int(np.searchsorted(counts[rows.start : rows.stop].cumsum(), token, side="right"))
            raise TeacherError(
                f"The {teacher} model gives NaN or infinity ({field}) for row {row} of the data set, counted from 0. "
                "A student that learns from it would turn to NaN. Load the model in a precision that holds its "
                "activations (bfloat16 or float32 in place of float16), and check its adapter's weights. The shards "
                "that are complete are kept."
            )


def _is_finite(tensor: Tensor) -> bool:
    lowest, highest = torch.aminmax(tensor)
    return math.isfinite(lowest) and math.isfinite(highest)
