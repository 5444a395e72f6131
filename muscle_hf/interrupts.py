"""Ctrl-C and SIGTERM: the first one lets a training finish its step and save; elsewhere, or twice, it ends at once."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_STDERR = 2
_PROMISE = (
    b"\ninterrupted: the step under way is saved first, with its evaluation if one is due; once more ends at once\n"
)


class Interrupt:
    """Whether somebody has asked to leave, and whether what runs now would rather finish first."""

    def __init__(self, *, promises: bool = True) -> None:
        """Nobody has asked, and nothing waits."""
        self.asked = False
        self.waits = False
        self.promises = promises

    def handle(self, number: int = signal.SIGINT, frame: FrameType | None = None) -> None:
        """Take a signal: leave at once where nothing waits, or at the second time."""
        if self.asked or not self.waits:
            raise KeyboardInterrupt
        self.asked = True
        if not self.promises:
            return
        # Not through Python's file, which may be in the middle of a write.
        with contextlib.suppress(OSError):
            os.write(_STDERR, _PROMISE)


_open: Interrupt | None = None


@contextlib.contextmanager
def polite_interrupts(*, promises: bool = True) -> Iterator[Interrupt]:
    """Let what runs inside say, by `waits`, when it would rather finish first.

    The outermost one takes the signals; one inside it gives the same `Interrupt`. What waits looks at its `asked` when
    it has finished. Without `promises` nothing is said on stderr, where another process says it.

    Where somebody asked, what ran inside comes to its end, and then a KeyboardInterrupt.
    """
    global _open
    if _open is not None:
        yield _open
        return
    interrupt = _open = Interrupt(promises=promises)
    try:
        with _handled_by(interrupt, _SIGNALS):
            yield interrupt
    finally:
        _open = None
    if interrupt.asked:
        raise KeyboardInterrupt


def terminated_as_interrupted() -> contextlib.AbstractContextManager[None]:
    """Let SIGTERM, as schedulers send it, do what Ctrl-C does: what is kept is kept, and said."""
    return _handled_by(Interrupt(), (signal.SIGTERM,))


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
