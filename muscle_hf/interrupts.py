"""Ctrl-C and SIGTERM: the first one lets a training finish its step and save; elsewhere, or twice, it ends at once.

A launcher of several processes passes on the signal that the terminal has sent to each of them, or ends those that are
left when one has ended. So there, two within a few seconds are one.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

from .launched import is_one_of_several

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_STDERR = 2
# Seconds within which a launcher passes on what a process has got itself.
_SAME = 5.0
_PROMISE = "interrupted: the step under way is saved first, with its evaluation if one is due; once more ends at once"


def to_stderr(promise: str) -> None:
    """Write a line past Python's file, which may be in the middle of a write when a signal comes."""
    with contextlib.suppress(OSError):
        os.write(_STDERR, f"\n{promise}\n".encode())


class Interrupt:
    """Whether somebody has asked to leave, and whether what runs now would rather finish first."""

    def __init__(self, promise: Callable[[str], None] | None = to_stderr) -> None:
        """Nobody has asked, and nothing waits."""
        self.asked = False
        self.waits = False
        self._promise = promise

    def handle(self, number: int = signal.SIGINT, frame: FrameType | None = None) -> None:
        """Take a signal: leave at once where nothing waits, or at the second time."""
        if _is_passed_on():
            return
        if self.asked or not self.waits:
            raise KeyboardInterrupt
        self.asked = True
        if self._promise is not None:
            self._promise(_PROMISE)


_open: Interrupt | None = None
_taken = -_SAME


def _is_passed_on() -> bool:
    """Tell whether a signal is the launcher's copy of the one before."""
    global _taken
    if not is_one_of_several():
        return False
    before, now = _taken, time.monotonic()
    if now - before < _SAME:
        return True
    _taken = now
    return False


@contextlib.contextmanager
def polite_interrupts(promise: Callable[[str], None] | None = to_stderr) -> Iterator[Interrupt]:
    """Let what runs inside say, by `waits`, when it would rather finish first.

    The outermost one takes the signals; one inside it gives the same `Interrupt`. What waits looks at its `asked` when
    it has finished. `promise` says, from within a signal, that this takes a while; None where another process says it.

    Where somebody asked, what ran inside comes to its end, and then a KeyboardInterrupt.
    """
    global _open
    if _open is not None:
        yield _open
        return
    interrupt = _open = Interrupt(promise)
    try:
        with _handled_by(interrupt, _SIGNALS):
            yield interrupt
    finally:
        _open = None
    if interrupt.asked:
        raise KeyboardInterrupt


def terminated_as_interrupted() -> contextlib.AbstractContextManager[None]:
    """Let SIGTERM, as schedulers send it, do what Ctrl-C does: what is kept is kept, and said."""
    return _handled_by(Interrupt(), _SIGNALS if is_one_of_several() else (signal.SIGTERM,))


@contextlib.contextmanager
def _handled_by(interrupt: Interrupt, numbers: tuple[signal.Signals, ...]) -> Iterator[None]:
    # Python lets the main thread alone handle signals; one that is ignored, as in a job of the background, stays so.
    is_main = threading.current_thread() is threading.main_thread()
    taken = [number for number in numbers if is_main and signal.getsignal(number) not in (signal.SIG_IGN, None)]
    before = {number: signal.signal(number, interrupt.handle) for number in taken}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
