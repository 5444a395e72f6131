"""A command is run, killed and looked at: what its stages took, and whether two folders say the same."""

# ruff: noqa: S603 - it runs the command that a benchmark is about

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muscle_hf.prediction.kept_answers import count_kept
from muscle_hf.training.checkpoints.kept import last_checkpoint

_STAGE = re.compile(r"^(?P<title>[^:\n]+): (?:training, (?P<steps>\d+) steps|asking \d+ rows|finished before)", re.M)
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Stage:
    """What a stage of the command took: processor time in seconds, the peak of its memory in bytes."""

    title: str
    steps: int | None
    seconds: float
    peak: int


def run(command: Sequence[str], log: Path, kill: Callable[[float], bool] | None = None) -> list[Stage]:
    """Run a command and return what its stages took; with `kill`, as soon as that says so it is killed.

    `kill` is given the processor time so far. A command that fails, or that ends before it is killed, ends all.
    """
    stages: list[Stage] = []
    with log.open("w", encoding="utf-8") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        began, seconds, peak = 0.0, 0.0, 0
        current: tuple[str, int | None] = ("the start", None)
        has_ended = False
        while not has_ended:
            # Looked at once more after the end, for what was said in between.
            has_ended = process.poll() is not None
            seconds, peak = _seconds(process.pid, seconds), max(peak, _peak(process.pid))
            told = [(stage["title"], stage["steps"]) for stage in _STAGE.finditer(log.read_text(encoding="utf-8"))]
            for title, steps in told[len(stages) :]:
                stages.append(Stage(*current, seconds - began, peak))
                current, began, peak = (title, int(steps) if steps else None), seconds, 0
                _forget_peak(process.pid)
            if not has_ended and kill is not None and kill(seconds):
                process.send_signal(signal.SIGKILL)
                process.wait()
                return [*stages, Stage(*current, seconds - began, peak)]
            time.sleep(0 if has_ended else 0.2)
    if process.returncode or kill is not None:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}; its last words:\n{_end_of(log)}")
    return [*stages, Stage(*current, seconds - began, peak)]


def _end_of(log: Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8").splitlines()[-20:])


def _seconds(pid: int, before: float) -> float:
    """Return the processor time of a process; that of the last look where it has just ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except OSError:
        return before
    return max(before, (int(fields[11]) + int(fields[12])) / _TICKS)


def _peak(pid: int) -> int:
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(encoding="utf-8"))
    except OSError:
        return 0
    return 1024 * int(found[1]) if found else 0


def _forget_peak(pid: int) -> None:
    """Let Linux measure the peak of a process from here on."""
    with contextlib.suppress(OSError):  # it has just ended
        Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")


def in_the_asking(folder: Path) -> Callable[[float], bool]:
    """Say when some of the old model's answers are kept, and not all."""
    part = folder / "answers" / "old.jsonl.part"
    return lambda _: count_kept(part) > 0


def behind_a_checkpoint(folder: Path, seconds: float) -> Callable[[float], bool]:
    """Say when the compatibility training is so many seconds of processor time behind its first checkpoint."""
    since: list[float] = []

    def is_time(now: float) -> bool:
        if not since and last_checkpoint(folder / "compatibility") is not None:
            since.append(now)
        return bool(since) and now - since[0] >= seconds

    return is_time


def differing(one: Path, other: Path) -> tuple[list[str], list[str], int]:
    """Return the files of two folders that differ, those that are not the same bytes, and how many files there are.

    No difference are the time that a training took, and the order of PEFT's sets, another in each process.
    """
    names = sorted({path.relative_to(folder) for folder in (one, other) for path in _files(folder)})
    bytes_differ = [name for name in names if _bytes(one / name) != _bytes(other / name)]
    differ = [str(name) for name in bytes_differ if _content(one / name) != _content(other / name)]
    return differ, list(map(str, bytes_differ)), len(names)


def _content(path: Path) -> object:
    """Return what a file says, without the time that a training took."""
    if path.suffix == ".json" and path.is_file():
        return _without_order(json.loads(path.read_text(encoding="utf-8")))
    if path.name == "README.md" and path.is_file():
        return re.sub(r"^- time: .*$", "", path.read_text(encoding="utf-8"), flags=re.M)
    return _bytes(path)


def _without_order(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_order(inner) for name, inner in value.items() if name not in ("time", "hours")}
    is_set = isinstance(value, list) and all(isinstance(inner, str) for inner in value)
    return sorted(value) if is_set else [*map(_without_order, value)] if isinstance(value, list) else value


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None
