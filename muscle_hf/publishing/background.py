"""Pushes that go on beside the training, whose files may be replaced or deleted meanwhile."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeAlias

from accelerate.logging import get_logger
from huggingface_hub import CommitInfo

logger = get_logger(__name__)

Files: TypeAlias = Mapping[str, bytes | Path]
Send: TypeAlias = Callable[[Files], CommitInfo]

# A pickle that tells paths and the token; resuming does without.
_LEFT_OUT = "training_args.bin"
_STATE = "trainer_state.json"


class BackgroundPushes:
    """One push after the other, in a thread; one that fails is told in a warning.

    Its folder, of the same disk where possible, holds the files until they are sent.
    """

    def __init__(self, folder: str | Path) -> None:
        """Start nothing yet."""
        self._folder = Path(folder)
        self._thread: ThreadPoolExecutor | None = None

    def start(self, files: Files, send: Send, what: str, *, can_link: bool) -> "Future[CommitInfo]":
        """Hold the files as they are now, and push them when those before them are done.

        `can_link`: they may be deleted or replaced by others, but are not written to, so that a second name will do.
        """
        held = Path(tempfile.mkdtemp(prefix=".push-", dir=self._folder))
        try:
            copies = {
                path: _held(content, held / str(number), can_link)
                for number, (path, content) in enumerate(files.items())
            }
        except OSError:
            shutil.rmtree(held, ignore_errors=True)
            raise

        def push() -> CommitInfo:
            try:
                return send(copies)
            finally:
                shutil.rmtree(held, ignore_errors=True)

        if self._thread is None:
            self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="push")
        job = self._thread.submit(push)
        job.add_done_callback(partial(_say_if_failed, what))
        return job


def _held(content: bytes | Path, target: Path, can_link: bool) -> bytes | Path:
    if isinstance(content, bytes):
        return content
    if can_link:
        try:
            os.link(content, target)
            return target
        except OSError:  # a file system without links
            pass
    shutil.copyfile(content, target)
    return target


def say_failure(what: str, error: BaseException) -> None:
    """Say that a push failed."""
    logger.warning(f"{what} failed: {error} The next push makes up for it.")


def _say_if_failed(what: str, job: "Future[CommitInfo]") -> None:
    error = None if job.cancelled() else job.exception()
    if error is not None:
        say_failure(what, error)


def resumable_files(folder: Path) -> dict[str, bytes | Path]:
    """Return all of a checkpoint that resuming needs, without what tells about this machine."""
    files: dict[str, bytes | Path] = {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != _LEFT_OUT
    }
    if _STATE in files:
        state = json.loads((folder / _STATE).read_text(encoding="utf-8"))
        best = state.get("best_model_checkpoint")
        if best:
            state["best_model_checkpoint"] = Path(best).name
            files[_STATE] = (json.dumps(state, indent=2, sort_keys=True) + "\n").encode()
    return files
