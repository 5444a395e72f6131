"""Read a teacher cache in training: the targets of any tokens, in any order, without either teacher in memory."""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import InputError
from ...models.hidden_states import OutputHead
from .files import Manifest, check_header, check_heads, read_heads, read_manifest
from .shards import Shards
from .spec import CacheSpec, refuse_other_spec

_OPENED_AT_ONCE = 8


class TeacherCache:
    """A complete teacher cache, mapped into memory: the system keeps as much of it there as there is room.

    Open one with [`TeacherCache.open`]; [`write_cache`] fills one. A shard's bytes are looked at once, when the first
    of its tokens is asked for, or before (`get_ready`). After a fork, both processes can read; a pickled
    cache opens its folder again.
    """

    def __init__(self, folder: Path, spec: CacheSpec, manifest: Manifest) -> None:
        """Know the shards, whose headers have been checked."""
        self.folder = folder
        self.spec = spec
        self.tokens = manifest.token_offsets[-1]
        self._offsets = np.array(manifest.token_offsets)
        self._shards = Shards([manifest.path_of(folder, shard) for shard in range(manifest.shards)])

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Pickle the name of the folder and not the gigabytes in it."""
        return TeacherCache.open, (self.folder, self.spec)

    @classmethod
    def open(cls, folder: str | Path, spec: CacheSpec) -> "TeacherCache":
        """Open a cache that holds what `spec` says, after a look at the header of each of its files.

        A cache of something else is a ConfigurationError, which says what differs; none, or an incomplete one, is an
        InputError. So is a damaged shard, when its first token is read.
        """
        folder = Path(folder)
        manifest = read_manifest(folder)
        if manifest is None:
            raise InputError(f"There is no teacher cache in {folder}. Compute it with `muscle-hf cache`.")
        refuse_other_spec(folder, manifest.spec, spec)

        def check(shard: int) -> str | None:
            path = manifest.path_of(folder, shard)
            return check_header(path, manifest.identity, spec.layout(), manifest.tokens_of(shard))

        with ThreadPoolExecutor(_OPENED_AT_ONCE) as pool:
            reasons = list(pool.map(check, range(manifest.shards)))
        wrong = {f"shard {shard}": reason for shard, reason in enumerate(reasons) if reason is not None}
        # Read as a whole right afterwards, so that nothing is saved by a look at the header alone.
        of_heads = check_heads(folder, manifest) if spec.kind == "hidden" else None
        if of_heads is not None:
            wrong["heads.safetensors"] = of_heads
        if wrong:
            missing = sum(reason is not None for reason in reasons)
            shown = "; ".join(f"{name} is {reason}" for name, reason in list(wrong.items())[:5])
            raise InputError(
                f"The teacher cache in {folder} is not complete: {missing} of {manifest.shards} shards are missing or "
                f"damaged ({shown}{'; …' if len(wrong) > 5 else ''}). Run the `muscle-hf cache` command that began it "
                "again: it goes on from the shards that are whole."
            )
        return cls(folder, spec, manifest)

    def get_ready(self, process: int = 0, processes: int = 1) -> None:
        """Have all shards checked, so that hardly a call of [`TeacherCache.read`] waits for it.

        One process does so in the background. Of several, each looks at its share before this returns, and none reads
        before all have: what is an InputError in one has to be told to the others.
        """
        if processes > 1:
            self._shards.check_share(process, processes)
        else:
            self._shards.expect(range(len(self._offsets) - 1))

    def read(self, numbers: Tensor) -> dict[str, Tensor]:
        """Return what is stored of some tokens, in the order asked for.

        It is the tensors of `spec.layout()`, each (tokens, ...), on the CPU. `numbers` are int64, (tokens,), on any
        device: trained tokens over the whole data set, each as often as wanted. What is returned is not shared with
        the cache. Numbers of another type or shape, or of no token of the cache, are refused.
        """
        if numbers.dim() != 1 or numbers.dtype != torch.int64:
            raise InputError(
                f"The numbers of tokens have shape {tuple(numbers.shape)} and type {numbers.dtype}; (tokens,) and "
                "torch.int64 are needed."
            )
        wanted = numbers.cpu().numpy()
        if wanted.size and not 0 <= wanted.min() <= wanted.max() < self.tokens:
            raise InputError(
                f"The numbers of tokens run from {wanted.min()} to {wanted.max()}, and the cache has tokens 0 to "
                f"{self.tokens - 1}. A token that is not trained on, -1, has no target; and a data set other than the "
                "cached one has other numbers."
            )
        shard_of = np.searchsorted(self._offsets, wanted, side="right") - 1
        touched = np.unique(shard_of).tolist()
        shards = {shard: self._shards[shard] for shard in touched}
        parts = [(shard, slice(None) if len(touched) == 1 else np.flatnonzero(shard_of == shard)) for shard in touched]
        read = {}
        for name, (dtype, shape) in self.spec.layout().items():
            width = dtype.itemsize * math.prod(shape)
            # Bytes, whatever their type: numpy has no bfloat16, and torch can do little with uint16.
            out = np.empty((len(wanted), width), dtype=np.uint8)
            for shard, places in parts:
                local = wanted[places] - self._offsets[shard]
                if isinstance(places, slice):
                    shards[shard][name].take(local, axis=0, out=out, mode="clip")
                else:
                    out[places] = shards[shard][name].take(local, axis=0)
            read[name] = torch.from_numpy(out.reshape(-1)).view(dtype).reshape(len(wanted), *shape)
        return read

    def heads(self) -> dict[str, OutputHead]:
        """Return the LM heads of a cache of hidden states: "old" and "new", mapped into memory."""
        if self.spec.kind != "hidden":
            raise InputError(f"A cache of kind {self.spec.kind!r} has no LM heads; its targets are complete.")
        return read_heads(self.folder)


def read_numbered(caches: Sequence[TeacherCache], numbers: Tensor) -> dict[str, Tensor]:
    """Read some tokens of one of several data sets, which are numbered one after the other; on the numbers' device."""
    starts = [0, *accumulate(cache.tokens for cache in caches[:-1])]
    # A batch comes from one data set; without a token it may come from any.
    index = max(sum(int(numbers.min()) >= start for start in starts) - 1, 0) if len(numbers) else 0
    stored = caches[index].read(numbers - starts[index])
    return {name: tensor.to(numbers.device, non_blocking=True) for name, tensor in stored.items()}
