"""Jobs that wait for each other, done one after the other or in several processes at once, with the same results."""

import contextlib
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from multiprocessing.connection import Connection, wait

from ..errors import ConfigurationError, MuscleError
from ..interrupts import polite_interrupts, to_stderr
from ..progress import told_to
from .jobs import Job

Do = Callable[[str], None]
"""Does the job of a name. It is sent to other processes, so it is a function of a module, or a `partial` of one."""


class Watcher:
    """Is told what happens; this one does nothing about it."""

    def planned(self, jobs: Sequence[Job], processes: int) -> None:
        """These jobs are left, and so many are done at once."""

    def started(self, job: Job) -> None:
        """A job has started."""

    def moved(self, job: Job, share: float) -> None:
        """So much of a job is done, from 0 to 1."""

    def finished(self, job: Job) -> None:
        """A job has come to its end."""

    def promised(self, promise: str) -> None:
        """Somebody has asked to leave, and is told, from within a signal, what happens first."""
        to_stderr(promise)


def run_jobs(jobs: Sequence[Job], do: Do, processes: int, watcher: Watcher) -> None:
    """Do all jobs, each after those that it waits for; of several that could start, the one with most behind it.

    What a job raises, or that its process was killed, is raised as a MuscleError once the steps that the others do are
    saved; so is the wish to leave, as KeyboardInterrupt.
    """
    watcher.planned(jobs, processes)
    if processes > 1 and len(jobs) > 1:
        _in_processes(jobs, do, min(processes, len(jobs)), watcher)
        return
    waiting = list(jobs)
    while waiting:
        job = _next(waiting, waiting, jobs)
        assert job is not None  # noqa: S101 - jobs wait for earlier ones alone
        watcher.started(job)
        with told_to(partial(watcher.moved, job)), polite_interrupts(watcher.promised):
            do(job.name)
        waiting.remove(job)
        watcher.finished(job)


def seconds_left(jobs: Sequence[Job], shares: Mapping[str, float], processes: int) -> float:
    """Return how long the rest takes on quiet cores, when each free process takes the next job.

    `shares` says of the jobs that were started how much of each is done, from 0 to 1.
    """
    now = 0.0
    running = {job.name: job.seconds * (1 - shares[job.name]) for job in jobs if shares.get(job.name, 1.0) < 1}
    waiting = [job for job in jobs if job.name not in shares]
    while running or waiting:
        unfinished = [*waiting, *(job for job in jobs if job.name in running)]
        while len(running) < processes and (job := _next(waiting, unfinished, jobs)) is not None:
            waiting.remove(job)
            running[job.name] = now + job.seconds * (1 - job.share)
            unfinished = [*unfinished, job]
        name = min(running, key=lambda name: running[name])
        now = max(now, running.pop(name))
    return now


def _next(waiting: Sequence[Job], unfinished: Sequence[Job], jobs: Sequence[Job]) -> Job | None:
    """Return the job to start: one that waits for nothing, with the longest chain of others behind it."""
    names = {job.name for job in unfinished}

    def behind(job: Job) -> float:
        return job.seconds + max((behind(later) for later in jobs if job.name in later.after), default=0.0)

    return max((job for job in waiting if names.isdisjoint(job.after)), key=behind, default=None)


class _Worker:
    """A process that does one job after the other."""

    def __init__(self, do: Do) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.job: Job | None = None
        self.process = context.Process(target=_work, args=(theirs, do), daemon=True)
        with _deaf_to_ctrl_c():
            self.process.start()
        theirs.close()

    def start(self, job: Job) -> None:
        self.job = job
        self.connection.send(job.name)


def _in_processes(jobs: Sequence[Job], do: Do, count: int, watcher: Watcher) -> None:
    waiting, unfinished = list(jobs), list(jobs)
    workers = [_Worker(do) for _ in range(count)]
    with polite_interrupts(watcher.promised) as interrupt:
        interrupt.waits, is_leaving = True, False
        try:
            while unfinished:
                for worker in workers:
                    if worker.job is None and (job := _next(waiting, unfinished, jobs)) is not None:
                        waiting.remove(job)
                        worker.start(job)
                        watcher.started(job)
                busy = {worker.connection: worker for worker in workers if worker.job is not None}
                for connection in wait([*busy], timeout=_LOOKS_UP):
                    worker = busy[connection]  # type: ignore[index]  # what was waited for
                    if _hear(worker, watcher, is_leaving=is_leaving):
                        unfinished.remove(worker.job)  # type: ignore[arg-type]  # it is busy
                        worker.job = None
                if interrupt.asked and not is_leaving:
                    is_leaving = True
                    waiting.clear()
                    for worker in busy.values():
                        worker.process.terminate()
                if is_leaving and all(worker.job is None for worker in workers):
                    break
        finally:
            for worker in workers:
                worker.connection.close()  # One that waits ends.
                if worker.job is not None:  # One that trains saves its step; asked for the second time, it ends now.
                    worker.process.terminate()
            for worker in workers:
                worker.process.join()
        if interrupt.asked:
            raise KeyboardInterrupt


_LOOKS_UP = 0.2
"""Seconds after which somebody's wish to leave is seen."""


def _hear(worker: _Worker, watcher: Watcher, *, is_leaving: bool) -> bool:
    """Take a message; tell whether the job has come to its end."""
    job = worker.job
    assert job is not None  # noqa: S101 - it is busy
    try:
        told = worker.connection.recv()
    except (EOFError, OSError):
        worker.process.join()
        if is_leaving:
            worker.job = None
            return False
        raise ConfigurationError(
            f"{job.title}: its process was ended from outside (exit code {worker.process.exitcode}), perhaps for lack "
            "of memory. What is finished is kept, and the same command goes on there."
        ) from None
    if isinstance(told, Exception):
        raise told
    if told is None:
        watcher.finished(job)
        return True
    watcher.moved(job, told)
    return False


def _work(connection: Connection, do: Do) -> None:
    """Do the jobs whose names come, and send the share that is done, None at the end of one, or what it raised."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # Ctrl-C reaches the process that shows progress, which passes it on once.
    threading.Thread(target=_leave_with_parent, daemon=True).start()

    def tell(what: float | Exception | None) -> None:
        with contextlib.suppress(OSError):  # nobody listens any more
            connection.send(what)

    with contextlib.suppress(KeyboardInterrupt, EOFError), told_to(tell):
        while True:
            name = connection.recv()
            try:
                with polite_interrupts(promise=None):
                    do(name)
            except MuscleError as error:
                tell(error)
                return
            except Exception:
                tell(RuntimeError(f"{name} failed:\n{traceback.format_exc()}"))
                return
            tell(None)


def _leave_with_parent() -> None:
    """Save the step under way, and end, when the process that shows progress is killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


@contextlib.contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Let a process that starts ignore Ctrl-C, also before its first line runs."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
