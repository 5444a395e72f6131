"""Checkpoints as they lie on disk: which are whole, and how far their training came. No library is needed for it."""

import json
import logging
import os
import shutil
import time
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ...files import checksum_of_file, write_text

logger = logging.getLogger(__name__)

INTERIM = "interim"
"""Folder of the checkpoint by time, below that of the training."""

STATE = "trainer_state.json"
"""The trainer's own file in a checkpoint."""

SEAL = "checksums.json"
"""Size and CRC-32 of each file of a checkpoint, written when it is whole."""

OF_DEEPSPEED = "global_step*"
"""What DeepSpeed keeps its part in: the optimizer's state, a file for each process."""

# Without the optimizer's state a training would go on otherwise: as torch, FSDP and DeepSpeed write it.
_OPTIMIZER = ("optimizer.pt", "optimizer.bin", "optimizer_*", OF_DEEPSPEED)
_ZIPPED = (".pt", ".pth")  # as torch writes them
# zlib lets go of the interpreter.
_READ_AT_ONCE = 8


def last_checkpoint(folder: Path) -> Path | None:
    """Return the newest checkpoint of a training that it can go on from; one that was cut off counts for nothing."""
    return next((path for path in newest_first(folder) if state_of(path) is not None), None)


def steps_done(folder: Path) -> tuple[int, int] | None:
    """Return the step of the newest whole checkpoint, and how many steps the training has; or None."""
    checkpoint = last_checkpoint(folder)
    state = None if checkpoint is None else state_of(checkpoint)
    return None if state is None else (int(state["global_step"]), int(state["max_steps"]))


def sound_checkpoint(folder: Path, *, needs_best: bool) -> Path | None:
    """Return the newest checkpoint whose every byte is as it was written; None where there is none.

    With `needs_best`, so are those of the best one that it names. What is wrong with newer ones is told.
    """
    for checkpoint in newest_first(folder):
        damage = damage_of(checkpoint) or (_damage_of_best(checkpoint) if needs_best else None)
        if damage is None:
            return checkpoint
        logger.warning(f"{checkpoint} is not gone on from: {damage}.")
    return None


def way_of(checkpoint: Path) -> str:
    """Tell what has split the models of the training that wrote a checkpoint: FSDP, DeepSpeed, or nothing ("")."""
    ways = {"FSDP": "pytorch_model_fsdp*", "DeepSpeed": OF_DEEPSPEED}
    return next((way for way, names in ways.items() if any(checkpoint.glob(names))), "")


def remove_checkpoints(folder: Path) -> None:
    """Remove all checkpoints of a training, which a finished one needs no more."""
    for path in (*_checkpoints(folder), folder / INTERIM):
        shutil.rmtree(path, ignore_errors=True)


def remove_cut_off(folder: Path) -> None:
    """Remove the checkpoints that are not whole."""
    for checkpoint in _checkpoints(folder):
        if state_of(checkpoint) is None:
            shutil.rmtree(checkpoint)


def remove_newer(folder: Path, checkpoint: Path | None) -> None:
    """Remove the checkpoints that are newer than the one that is gone on from."""
    for other in newest_first(folder):
        if other == checkpoint:
            return
        shutil.rmtree(other, ignore_errors=True)


def let_none_lie_in_the_future(folder: Path) -> None:
    """Set checkpoints from before the clock was put back to now, since of several the newest by its date is kept."""
    now = time.time()
    for age, checkpoint in enumerate(newest_first(folder), start=1):
        if checkpoint.stat().st_mtime >= now:
            os.utime(checkpoint, (now - age, now - age))


def state_of(checkpoint: Path) -> dict[str, Any] | None:
    """Read the trainer's state; None where the checkpoint is not whole."""
    return None if _missing(checkpoint) else _read_state(checkpoint)


def seal(checkpoint: Path) -> None:
    """Bring a checkpoint that is whole to the disk, and note what every file of it holds."""
    files = _files(checkpoint)
    with ThreadPoolExecutor(_READ_AT_ONCE) as pool:
        notes = list(pool.map(_note_of, files.values()))
    text = json.dumps({"crc32": dict(zip(files, notes, strict=True))}, indent=1)
    write_text(checkpoint / SEAL, f"{text}\n")


def damage_of(checkpoint: Path) -> str | None:
    """Say in a few words what is wrong with a checkpoint, every byte of which is read; None where nothing is.

    One without a seal, from a process that was killed in between or from an earlier version, is held to what its
    files say of themselves.
    """
    missing = _missing(checkpoint)
    if missing is not None:
        return missing
    if _read_state(checkpoint) is None:
        return f"{STATE} is damaged"
    notes = _read_seal(checkpoint)
    names = _files(checkpoint) if notes is None else {name: checkpoint / name for name in notes}
    with ThreadPoolExecutor(_READ_AT_ONCE) as pool:
        faults = pool.map(
            lambda name: _damage_of_file(names[name]) if notes is None else _differs(names[name], notes[name]), names
        )
        return next((f"{name} is damaged ({fault})" for name, fault in zip(names, faults, strict=True) if fault), None)


def _damage_of_best(checkpoint: Path) -> str | None:
    """Say what is wrong with the best checkpoint so far, whose weights are loaded at the end."""
    named = (_read_state(checkpoint) or {}).get("best_model_checkpoint")
    if named is None or Path(named).name == checkpoint.name:
        return None
    folder = checkpoint.parent.parent if checkpoint.parent.name == INTERIM else checkpoint.parent
    best = Path(named) if Path(named).is_dir() else folder / Path(named).name  # the folder may have been moved
    damage = damage_of(best) if best.is_dir() else "it is missing"
    return None if damage is None else f"the best checkpoint so far is {best.name}, and {damage}"


def newest_first(folder: Path) -> list[Path]:
    """Return all checkpoints of a training, by their steps."""
    # Of two of one step the one of `save_strategy`: the other one may go at any time.
    return sorted(_checkpoints(folder), key=lambda path: (_step_of(path), path.parent == folder), reverse=True)


def _checkpoints(folder: Path) -> list[Path]:
    folders = [*folder.glob("checkpoint-*"), *(folder / INTERIM).glob("checkpoint-*")]
    return [path for path in folders if path.is_dir() and path.name.removeprefix("checkpoint-").isdecimal()]


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-"))


def _files(checkpoint: Path) -> dict[str, Path]:
    files = {path.relative_to(checkpoint).as_posix(): path for path in sorted(checkpoint.rglob("*")) if path.is_file()}
    files.pop(SEAL, None)
    return files


def _missing(checkpoint: Path) -> str | None:
    """Say which file is not there, or is not as long as it was; what is in them is not looked at."""
    notes = _read_seal(checkpoint)
    if not any(next(checkpoint.glob(name), None) for name in _OPTIMIZER):
        return "the optimizer's state is missing"
    # DeepSpeed's own scheduler lies with its optimizer.
    names = (STATE,) if any(checkpoint.glob(OF_DEEPSPEED)) else (STATE, "scheduler.pt")
    for name in names if notes is None else notes:
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is missing"
        if notes is not None and path.stat().st_size != notes[name][0]:
            return f"{name} is damaged ({path.stat().st_size:,} bytes of {notes[name][0]:,})"
    return None


def _read_state(checkpoint: Path) -> dict[str, Any] | None:
    try:
        state = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
    except (ValueError, FileNotFoundError):
        return None
    is_state = isinstance(state, dict) and {"global_step", "max_steps", "stateful_callbacks"} <= state.keys()
    return state if is_state else None


def _read_seal(checkpoint: Path) -> dict[str, tuple[int, int]] | None:
    """Read what each file holds; None where there is no seal, or a damaged one, which then counts for nothing."""
    try:
        notes = json.loads((checkpoint / SEAL).read_text(encoding="utf-8"))["crc32"]
        return {str(name): (int(size), int(crc)) for name, (size, crc) in notes.items()} or None
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _note_of(path: Path) -> tuple[int, int]:
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return checksum_of_file(path)


def _differs(path: Path, note: tuple[int, int]) -> str | None:
    return None if checksum_of_file(path) == note else "other bytes than were written"


def is_cut_off(path: Path) -> bool:
    """Tell whether a file of weights is shorter than it says, or holds nothing."""
    return _damage_of_file(path) is not None


def _damage_of_file(path: Path) -> str | None:
    """Hold a file to what it says of itself: the checksums in torch's files, the length of safetensors."""
    try:
        if path.suffix in _ZIPPED:
            with zipfile.ZipFile(path) as file:
                return None if file.testzip() is None else "a checksum in it differs"
        if path.suffix == ".safetensors":
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(length)) if length < path.stat().st_size else {}
            end = max((part["data_offsets"][1] for name, part in header.items() if name != "__metadata__"), default=0)
            return None if 8 + length + end == path.stat().st_size else "it was cut off"
    except (zipfile.BadZipFile, ValueError, KeyError, TypeError, EOFError, zlib.error) as error:
        return f"{type(error).__name__}: {error}"
    return None
