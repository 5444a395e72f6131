"""What people see of a demo while it runs: which of the five stages has begun, and how long the rest takes."""

import time
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn
from rich.text import Text

from .jobs import TITLES, Job
from .processes import Watcher, seconds_left

_SECONDS_BETWEEN_LINES = 30.0
# A rate is known when so many seconds of work are done.
_KNOWN = 10.0


class Watching(Watcher):
    """Shows a line for each stage, and below them bars of what runs; in a log lines now and then."""

    def __init__(self) -> None:
        """Show nothing yet."""
        console = Console(stderr=True, highlight=False)
        columns = (TextColumn("  {task.description:36}"), BarColumn(24), TaskProgressColumn())
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._bars: dict[str, TaskID] = {}
        self._shares: dict[str, float] = {}
        self._jobs: Sequence[Job] = ()
        self._processes = 1
        self._told: set[int] = set()

    def __enter__(self) -> "Watching":
        """Start to draw."""
        self._started = self._written = time.monotonic()
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
        self._shares[job.name] = 0.0
        self._bars[job.name] = self._progress.add_task(job.title, total=1.0)
        if job.stage not in self._told:
            self._told.add(job.stage)
            self._print(f"{job.stage + 1} of {len(TITLES)}, about {self._left()} left. {TITLES[job.stage]}")

    def moved(self, job: Job, share: float) -> None:
        """Move the bar, or write a line where the last one was long ago."""
        self._shares[job.name] = share
        self._progress.update(self._bars[job.name], completed=share)
        self._progress.update(self._whole, completed=self._share(), description=f"all, about {self._left()} left")
        if not self._progress.console.is_terminal and time.monotonic() - self._written >= _SECONDS_BETWEEN_LINES:
            running = [
                f"{job.title} {100 * self._shares[job.name]:.0f} %" for job in self._jobs if job.name in self._bars
            ]
            self._print(f"about {self._left()} left: {'; '.join(running)}")

    def finished(self, job: Job) -> None:
        """Take its bar away."""
        self.moved(job, 1.0)
        self._progress.remove_task(self._bars.pop(job.name))

    def _print(self, line: str) -> None:
        self._written = time.monotonic()
        self._progress.console.print(Text(line), soft_wrap=not self._progress.console.is_terminal)

    def _share(self) -> float:
        total = sum(job.seconds for job in self._jobs)
        return sum(job.seconds * self._shares.get(job.name, 0.0) for job in self._jobs) / total

    def _left(self) -> str:
        """Return minutes and seconds, at the pace so far."""
        total, left = (seconds_left(self._jobs, shares, self._processes) for shares in ({}, self._shares))
        done, passed = total - left, time.monotonic() - self._started
        seconds = round(left * passed / done if done >= _KNOWN else left)
        return f"{seconds // 60}:{seconds % 60:02d}"
