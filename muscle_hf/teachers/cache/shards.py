"""The shards of a cache that is read: each is looked at as a whole once, before its first token is given away."""

import contextlib
import os
import queue
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from .files import as_bytes, check_content, map_tensors

Mapped = dict[str, NDArray[np.uint8]]

# One reads from the disk while another computes a checksum.
_READY_AT_ONCE = 2


class Shards:
    """Maps shards into memory when they are asked for, or in the background when they are announced.

    After a fork, the child goes on with what was mapped, and has threads of its own.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        """Remember where they lie; nothing is read."""
        self.paths = list(paths)
        self._mapped: dict[int, Mapped] = {}
        self._are_whole = False
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._locks = [threading.Lock() for _ in self.paths]
        self._announced: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    def __getitem__(self, shard: int) -> Mapped:
        """Return a shard's tensors as rows of bytes, one a token; a damaged shard is an InputError."""
        if shard not in self._mapped:
            self._after_fork()
            self._make_ready(shard)
        return self._mapped[shard]

    def check_share(self, process: int, processes: int) -> None:
        """Look at the shards of one of several processes, each of which does so; a damaged one is an InputError."""
        for shard in range(process, len(self.paths), processes):
            self[shard]
        self._are_whole = True

    def expect(self, shards: Sequence[int]) -> None:
        """Make shards ready in the background, in this order."""
        missing = [shard for shard in shards if shard not in self._mapped]
        if not missing:
            return
        self._after_fork()
        for shard in missing:
            self._announced.put(shard)
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        while len(self._threads) < _READY_AT_ONCE:
            # Ends with the process, whatever it is at.
            thread = threading.Thread(target=self._work, name="teacher-cache", daemon=True)
            thread.start()
            self._threads.append(thread)

    def _work(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                shard = self._announced.get_nowait()
                # Whoever needs the shard meets the error, where it can be told.
                with contextlib.suppress(InputError, OSError):
                    self._make_ready(shard, raising=_skipped)

    def _after_fork(self) -> None:
        if self._process != os.getpid():  # a thread of the parent may have held a lock
            self._begin()

    def _make_ready(self, shard: int, raising: Callable[[Path, str], InputError] | None = None) -> None:
        with self._locks[shard]:
            if shard in self._mapped:
                return
            path = self.paths[shard]
            wrong = None if self._are_whole and path.exists() else check_content(path)
            if wrong is not None:
                raise (raising or _damaged)(path, wrong)
            self._mapped[shard] = {name: as_bytes(tensor).numpy() for name, tensor in map_tensors(path)[0].items()}


def _skipped(path: Path, wrong: str) -> InputError:
    return InputError(f"{path} is {wrong}")


def _damaged(path: Path, wrong: str) -> InputError:
    """Take a damaged shard away, so that the same command computes it again, and say so."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        remedy = "Delete it, and run"
    else:
        remedy = "It has been deleted. Run"
    return InputError(
        f"{path} is {wrong}, and a student that learned from it would learn noise. {remedy} the same command, or the "
        "`muscle-hf cache` command that began the cache, again: the shard is computed again, and all others are kept."
    )
