"""What people see of a demo while it runs: which of the five stages has begun, and how long the rest takes."""

import threading
import time
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn
from rich.text import Text

from .jobs import TITLES, Job
from .processes import Watcher, seconds_left

_SECONDS_BETWEEN_LINES = 30.0
# The pace is known when so much of the time that was planned is done.
_KNOWN = 0.03
# Until then it is called slow after so many seconds, where they are more than twice those that were planned.
_SLOW = 10.0


class Watching(Watcher):
    """Shows a line for each stage, and below them bars of what runs; in a log lines now and then."""

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """Show nothing yet; by default it is shown on stderr."""
        console = console or Console(stderr=True, highlight=False)
        columns = (TextColumn("  {task.description:36}"), BarColumn(24), TaskProgressColumn())
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._bars: dict[str, TaskID] = {}
        self._shares: dict[str, float] = {}
        self._jobs: Sequence[Job] = ()
        self._processes = 1
        self._told: set[int] = set()
        self._clock = clock
        # When the libraries were loaded and the first step was done, and the seconds that were left then, as planned.
        self._first: tuple[float, float] | None = None

    def __enter__(self) -> "Watching":
        """Start to draw."""
        self._written = self._clock()
        self._progress.start()
        self._whole = self._progress.add_task("all", total=1.0)
        return self

    def __exit__(self, *_: object) -> None:
        """Take the bars away."""
        self._progress.stop()

    def planned(self, jobs: Sequence[Job], processes: int) -> None:
        """Take the jobs that are left to do."""
        self._jobs, self._processes = jobs, processes

    def started(self, job: Job) -> None:
        """Say which stage begins."""
        self._shares[job.name] = job.share
        self._bars[job.name] = self._progress.add_task(job.title, total=1.0)
        self._progress.update(self._bars[job.name], completed=job.share)
        self._show_all()
        if job.stage not in self._told:
            self._told.add(job.stage)
            self._print(f"{job.stage + 1} of {len(TITLES)}, {self._outlook()}. {TITLES[job.stage]}")
        if job.steps is not None:
            self._print(f"{job.title}: going on from step {job.steps[0]} of {job.steps[1]}")

    def moved(self, job: Job, share: float) -> None:
        """Move the bar, or write a line where the last one was long ago."""
        self._shares[job.name] = share
        self._progress.update(self._bars[job.name], completed=share)
        if self._first is None:
            self._first = (self._clock(), self._planned_left())
        self._show_all()
        if not self._progress.console.is_terminal and self._clock() - self._written >= _SECONDS_BETWEEN_LINES:
            running = [
                f"{job.title} {100 * self._shares[job.name]:.0f} %" for job in self._jobs if job.name in self._bars
            ]
            self._print(f"{self._outlook()}: {'; '.join(running)}")

    def finished(self, job: Job) -> None:
        """Take its bar away."""
        self.moved(job, 1.0)
        self._progress.remove_task(self._bars.pop(job.name))

    def promised(self, promise: str) -> None:
        """Print it above the bars, which would be drawn over what is written past them.

        A thread does, since the signal may have come in the middle of a write.
        """
        threading.Thread(target=self._print, args=(promise,)).start()

    def _print(self, line: str) -> None:
        self._written = self._clock()
        self._progress.console.print(Text(line), soft_wrap=not self._progress.console.is_terminal)

    def _show_all(self) -> None:
        total = sum(job.seconds for job in self._jobs)
        done = sum(job.seconds * self._shares.get(job.name, job.share) for job in self._jobs)
        self._progress.update(self._whole, completed=done / total, description=f"all, {self._outlook()}")

    def _planned_left(self) -> float:
        return seconds_left(self._jobs, self._shares, self._processes)

    def _outlook(self) -> str:
        """Say how long the rest takes, at the pace since the first step once that is known."""
        left = self._planned_left()
        if self._first is None:
            return f"about {_readable(left)} left, loading the libraries"
        at, left_then = self._first
        passed, done = self._clock() - at, left_then - left
        if done > 0 and done >= _KNOWN * left_then:
            return f"about {_readable(left * passed / done)} left"
        return "slower than usual" if passed > max(2 * done, _SLOW) else f"about {_readable(left)} left"


def _readable(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes}:{seconds:02d}"
