"""Faults to inject: what goes wrong, with which requests, how often."""

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

_WORDS = {
    401: "Invalid credentials in Authorization header",
    403: "Forbidden: you don't have the rights to do this.",
    409: "Conflict: another operation is in progress.",
    412: "A commit has happened since. Please refresh and try again.",
    429: "We had to rate limit you. Please try again later.",
    500: "Internal Error - We're working hard to fix this as soon as possible!",
    503: "Service Unavailable",
}


# Nothing here takes as long: whoever waits for longer would wait for ever.
_FOR_EVER = 900


class Hold:
    """Where a request waits, after all of it was heard and before anything is done, until the test lets it go on."""

    def __init__(self) -> None:
        """Begin with nobody waiting."""
        self._reached, self._released, self._done = threading.Event(), threading.Event(), threading.Event()

    def keep(self) -> None:
        """Keep the request; the server calls this."""
        self._reached.set()
        self._released.wait()

    def finish(self) -> None:
        """Note that the server has done what was asked, whether or not its client still listens."""
        self._done.set()

    def wait_until_reached(self) -> None:
        """Wait until a request is kept here."""
        assert self._reached.wait(_FOR_EVER), "no request came that is to be held"

    def release(self) -> None:
        """Let the request go on, also one that is still to come."""
        self._released.set()

    def release_when(self, condition: Callable[[], bool]) -> None:
        """Let the request go on when it is kept and the condition holds; goes on beside the test."""

        def watch() -> None:
            self.wait_until_reached()
            while not condition() and not self._released.is_set():
                time.sleep(0.01)
            self.release()

        threading.Thread(target=watch, daemon=True).start()

    def wait_until_done(self) -> None:
        """Wait until the server has done what was asked."""
        assert self._done.wait(_FOR_EVER), "the request that was held is not done"


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong with the requests that match.

    Args:
        status: Answer this instead of doing what was asked. None to do it (late, or with a lost answer).
        method: Only requests with this method. A download asks HEAD of the Hub, then GET of the Hub or the storage.
        path: Only requests whose path (with the query, as it was sent) this regular expression finds something in.
        times: How many requests go wrong; None for all that match.
        after: How many matching requests are let through first.
        retry_after: Seconds that the client is to wait, in the headers of the Hub. The client adds one where it tries
            again by itself (not for the commit).
        cut_after_bytes: Cut the connection after so many bytes, and before the last one: of what is sent to the Hub
            where the request has a body (it has no effect then), else of the answer's body.
        answer_lost: Do what was asked, then cut the connection instead of answering.
        hold: Keep the request until the test lets it go on.
        code: The X-Error-Code to send along.
        message: The words to send, instead of the usual ones for the status.
    """

    status: int | None = None
    method: str | None = None
    path: str = ""
    times: int | None = 1
    after: int = 0
    retry_after: int | None = None
    cut_after_bytes: int | None = None
    answer_lost: bool = False
    hold: Hold | None = None
    code: str | None = None
    message: str | None = None

    def __post_init__(self) -> None:
        """Refuse a fault that changes nothing, so that no test passes because of one."""
        if self.status is None and self.cut_after_bytes is None and not self.answer_lost and self.hold is None:
            raise ValueError("a fault needs a status, cut_after_bytes, answer_lost or hold")

    @property
    def words(self) -> str:
        """What to say."""
        return self.message or _WORDS.get(self.status or 0, f"Error {self.status}")


class Faults:
    """The faults that are waiting for their requests."""

    def __init__(self) -> None:
        """Begin without any."""
        self._waiting: list[list[Fault | int]] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> None:
        """Let something go wrong from now on; of several faults for one request the oldest one wins."""
        with self._lock:
            self._waiting.append([fault, 0])

    def clear(self) -> None:
        """Let nothing go wrong any more, and nobody wait."""
        with self._lock:
            for fault, _ in self._waiting:
                if isinstance(fault, Fault) and fault.hold is not None:
                    fault.hold.release()
            self._waiting.clear()

    def take(self, method: str, path: str) -> Fault | None:
        """Give the fault of a request, if it has one, and count it."""
        with self._lock:
            for entry in self._waiting:
                fault, seen = entry
                assert isinstance(fault, Fault) and isinstance(seen, int)
                if fault.method not in (None, method) or not re.search(fault.path, path):
                    continue
                if fault.times is not None and seen >= fault.after + fault.times:
                    continue
                entry[1] = seen + 1
                if seen >= fault.after:
                    return fault
        return None
