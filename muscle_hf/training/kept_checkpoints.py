"""Checkpoints as they lie on disk: which are whole, and how far their training came. No library is needed for it."""

import json
import shutil
from pathlib import Path
from typing import Any

INTERIM = "interim"
"""Folder of the checkpoint by time, below that of the training."""

STATE = "trainer_state.json"
"""The trainer's own file in a checkpoint."""

# Without the optimizer's state a training would go on otherwise; the trainer's own is written last.
_NEEDED = ("optimizer.pt", "scheduler.pt", STATE)


def last_checkpoint(folder: Path) -> Path | None:
    """Return the newest checkpoint of a training that it can go on from; one that was cut off counts for nothing."""
    known = [path for path in _checkpoints(folder) if state_of(path) is not None]
    # Of two of one step the one of `save_strategy`: the other one may go at any time.
    return max(known, key=lambda path: (_step_of(path), path.parent == folder), default=None)


def steps_done(folder: Path) -> tuple[int, int] | None:
    """Return the step of the newest whole checkpoint, and how many steps the training has; or None."""
    checkpoint = last_checkpoint(folder)
    state = None if checkpoint is None else state_of(checkpoint)
    return None if state is None else (int(state["global_step"]), int(state["max_steps"]))


def remove_checkpoints(folder: Path) -> None:
    """Remove all checkpoints of a training, which a finished one needs no more."""
    for path in (*_checkpoints(folder), folder / INTERIM):
        shutil.rmtree(path, ignore_errors=True)


def _checkpoints(folder: Path) -> list[Path]:
    folders = [*folder.glob("checkpoint-*"), *(folder / INTERIM).glob("checkpoint-*")]
    return [path for path in folders if path.is_dir() and path.name.removeprefix("checkpoint-").isdecimal()]


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-"))


def state_of(checkpoint: Path) -> dict[str, Any] | None:
    """Read the trainer's state; None where the checkpoint is not whole."""
    if not all((checkpoint / name).is_file() for name in _NEEDED):
        return None
    try:
        state = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
    except ValueError:
        return None
    is_state = isinstance(state, dict) and {"global_step", "max_steps", "stateful_callbacks"} <= state.keys()
    return state if is_state else None


def remove_cut_off(folder: Path) -> None:
    """Remove the checkpoints that are not whole."""
    for checkpoint in _checkpoints(folder):
        if state_of(checkpoint) is None:
            shutil.rmtree(checkpoint)
