"""Jobs for `run_jobs`, which other processes import: what they do is written to files."""

import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

from muscle_hf.demo.contenders import Contender
from muscle_hf.demo.jobs import Job
from muscle_hf.demo.processes import run_jobs
from muscle_hf.errors import InputError
from muscle_hf.interrupts import polite_interrupts, to_stderr
from muscle_hf.progress import progress_bar


class Seen:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        self.shares: list[float] = []

    def planned(self, jobs: object, processes: int) -> None:
        self.processes = processes

    def started(self, job: Job) -> None:
        self.events.append(("started", job.name))

    def moved(self, job: Job, share: float) -> None:
        self.shares.append(share)

    def finished(self, job: Job) -> None:
        self.events.append(("finished", job.name))

    def promised(self, promise: str) -> None:
        to_stderr(promise)


def job(name: str, *after: str, seconds: float = 1.0) -> Job:
    return Job(Contender(name, name), None, 0, after, seconds)


def do(folder: Path, name: str) -> None:
    """Write a file; "refused", "killed" and "waits" come to no good end."""
    if name == "refused":
        raise InputError("no such row")
    if name == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if name.startswith("waits"):
        _save_when_asked(folder / name)
    with progress_bar(2, name) as bar:
        bar.update(2)
    (folder / name).touch()


def _save_when_asked(path: Path) -> None:
    """Do what a training does: finish the step when somebody asks to leave, and save."""
    with polite_interrupts() as interrupt:
        interrupt.waits = True
        path.with_suffix(".started").touch()
        while not interrupt.asked:
            time.sleep(0.01)
        time.sleep(0.2)  # a second signal would end it here
        path.with_suffix(".saved").touch()
        raise KeyboardInterrupt


if __name__ == "__main__":
    run_jobs([job("waits-1"), job("waits-2"), job("never")], partial(do, Path(sys.argv[1])), 2, Seen())
