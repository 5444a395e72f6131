"""What is done and what is left: a bar in a terminal, and in a log a line now and then."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tqdm.auto import tqdm

_SECONDS_BETWEEN_LINES = 30.0
_SECONDS_BETWEEN_UPDATES = 0.2

_listener: Callable[[float], None] | None = None


@contextmanager
def told_to(listener: Callable[[float], None]) -> Iterator[None]:
    """Show no progress inside, and tell somebody who shows it: the share that is done, from 0 to 1."""
    global _listener
    before, _listener = _listener, listener
    try:
        yield
    finally:
        _listener = before


def progress_bar(total: int, description: str, *, initial: int = 0, unit: str = "", disable: bool = False) -> Any:
    """Return a bar for something that takes long, to be used as a context; `unit` is a singular.

    It is tqdm's bar in a terminal or a notebook. Elsewhere it is what writes lines with `update`, `set_postfix`,
    `close`, `n` and `total` of its own: the first one after half a minute, so that what is quick says nothing.
    """
    if _listener is not None:
        return Told(total, _listener, initial=initial)
    is_shown_live = "ipykernel" in sys.modules or sys.stderr.isatty()
    if disable or is_shown_live:
        return tqdm(total=total, initial=initial, desc=description, unit=unit or "it", disable=disable)
    return LogLines(total, description, initial=initial, unit=unit)


class Told:
    """Progress that another one shows: each update is told on, but not more often than it can be seen."""

    def __init__(self, total: int, listener: Callable[[float], None], *, initial: int = 0) -> None:
        """Tell nothing yet."""
        self.total, self.n, self._listener = total, initial, listener
        self._told = -_SECONDS_BETWEEN_UPDATES

    def update(self, count: int = 1) -> None:
        """Note that so many more are done."""
        self.n += count
        if time.monotonic() - self._told >= _SECONDS_BETWEEN_UPDATES:
            self._told = time.monotonic()
            self._listener(self.n / self.total if self.total else 1.0)

    def set_postfix(self, **values: object) -> None:
        """Leave out what would stand beside the figures."""

    def close(self) -> None:
        """End; that a job is finished is told otherwise."""

    def __enter__(self) -> "Told":
        """Give itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""


class LogLines:
    """Progress as lines of a log; the clock gives seconds from some time on."""

    def __init__(
        self,
        total: int,
        description: str,
        *,
        initial: int = 0,
        unit: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start the clock; nothing is written yet."""
        self.total, self.n, self.description = total, initial, description
        self._unit, self._initial, self._clock = f" {unit}s" if unit else "", initial, clock
        self._started = self._written = clock()
        self._shown: int | None = None
        self._more = ""

    def update(self, count: int = 1) -> None:
        """Note that so many more are done, and write a line where the last one was long ago."""
        self.n += count
        if self._clock() - self._written >= _SECONDS_BETWEEN_LINES:
            self._write()

    def set_postfix(self, **values: object) -> None:
        """Put something beside the figures."""
        self._more = "".join(f", {name.replace('_', ' ')} {value}" for name, value in values.items())

    def close(self) -> None:
        """Write the last line, where there was one before that says something else."""
        if self._shown not in (None, self.n):
            self._write()

    def __enter__(self) -> "LogLines":
        """Give itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def _write(self) -> None:
        self._written, self._shown = self._clock(), self.n
        gone, done = self._written - self._started, self.n - self._initial
        left = (
            f", about {_readable(gone / done * (self.total - self.n))} left"
            if done > 0 and self.n < self.total
            else ""
        )
        sys.stderr.write(
            f"{self.description}: {self.n:,} of {self.total:,}{self._unit} after {_readable(gone)}{left}{self._more}\n"
        )
        sys.stderr.flush()


def _readable(seconds: float) -> str:
    return str(tqdm.format_interval(seconds))
