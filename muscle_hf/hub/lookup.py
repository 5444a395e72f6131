"""Where a name is looked up: on this machine where there is such a path, and only otherwise at the Hub.

Two rules, in this one place:

- A path that exists is what is meant, whatever the Hub has of that name, and nobody else is asked about it. It is
  remembered as an absolute path, so that it stays the same one in another working directory.
- A Hub that cannot be reached is asked once. huggingface_hub asks six times in 23 seconds, for each file; here the
  cache of this machine is all there is from then on, as with HF_HUB_OFFLINE, and no download loses its retries.
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue

from huggingface_hub import constants, get_session

from ..errors import InputError
from .names import is_id

_SECONDS = 2.5
# After so many seconds a Hub that could not be reached is asked again: somebody may have mended the network.
_ASKED_AGAIN_AFTER = 15.0
# By name: the client's own client is httpx or httpx2, as its version has it. What is cut off has been reached.
_NO_WAY_THERE = {
    *("ConnectError", "TimeoutException", "ProxyError", "UnsupportedProtocol", "InvalidURL"),
    *("TimeoutError", "ConnectionError"),
}
# What proxies and gateways answer in the place of a Hub that they do not reach, or do not let anybody reach.
_NOT_THE_HUB = (407, 502, 504)

_lock = threading.RLock()
_reached: set[str] = set()
_failures: dict[str, tuple[float, Exception]] = {}
_switched_off = 0


def is_local(name: str | Path) -> bool:
    """Tell whether a name is that of something on this machine, and so is not asked for elsewhere."""
    return bool(str(name)) and os.path.lexists(name)


def is_folder(name: str | Path) -> bool:
    """Tell whether a name is that of a folder of this machine."""
    try:
        return bool(str(name)) and Path(name).is_dir()
    except (OSError, ValueError):  # longer than any path, or not to be encoded as one
        return False


def located(name: str | Path) -> str:
    """Return the absolute path of what is on this machine, and any other name as it is; a file is refused."""
    if not is_local(name):
        return str(name)
    if not is_folder(name):
        raise InputError(f"{name} is on this machine and is no folder; name the folder that holds the model.")
    return str(Path(name).absolute())


@contextmanager
def looking_up(name: str | Path | None = None) -> Iterator[None]:
    """Let libraries ask the Hub, or, where it cannot be reached, take what the cache has, at once.

    Args:
        name: What is looked up; nothing is done for a path of this machine, be it there or not. None for what can
            only be on the Hub.
    """
    global _switched_off
    # The client refuses what can be no id, such as ~/base, before it asks.
    is_asked = name is None or (not is_local(name) and is_id(str(name)))
    if not is_asked or is_switched_off_by_user() or unreachable() is None:
        yield
        return
    with _lock:
        _switched_off += 1
        constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        with _lock:
            # In this order: another thread must not take it for what the user wants.
            constants.HF_HUB_OFFLINE = _switched_off > 1
            _switched_off -= 1


def is_switched_off_by_user() -> bool:
    """Tell whether HF_HUB_OFFLINE, or a variable that means the same, is set: then nothing is asked at all."""
    return bool(constants.HF_HUB_OFFLINE) and not _switched_off


def unreachable() -> Exception | None:
    """Return why the Hub cannot be reached, or None where it answers: one request in a process, without retries."""
    endpoint = constants.ENDPOINT
    with _lock:
        if endpoint in _reached:
            return None
        failure = why_unreachable()
        if failure is not None and (_switched_off or time.monotonic() < _failures[endpoint][0] + _ASKED_AGAIN_AFTER):
            return failure
        error = _ask(endpoint, seconds_to_wait())
        if error is not None and {kind.__name__ for kind in type(error).__mro__} & _NO_WAY_THERE:
            _failures[endpoint] = (time.monotonic(), error.with_traceback(None))
            return error
        _reached.add(endpoint)
        _failures.pop(endpoint, None)
        return None


def why_unreachable() -> Exception | None:
    """Return what was found when the Hub was last asked, without asking; None also where the user switched it off."""
    if is_switched_off_by_user() or constants.ENDPOINT not in _failures:
        return None
    return _failures[constants.ENDPOINT][1]


def seconds_to_wait() -> float:
    """Return how long the Hub has for its first answer: HF_HUB_ETAG_TIMEOUT where that is set."""
    return float(constants.HF_HUB_ETAG_TIMEOUT) if "HF_HUB_ETAG_TIMEOUT" in os.environ else _SECONDS


def _ask(endpoint: str, seconds: float) -> Exception | None:
    """Ask for nothing but an answer of the Hub; any will do, also a refusal."""
    # The user's own client, with the proxies and certificates that it has.
    client = get_session()
    answers: SimpleQueue[Exception | None] = SimpleQueue()

    def ask() -> None:
        try:
            answer = client.head(endpoint, timeout=seconds, follow_redirects=False)
        except Exception as error:
            answers.put(error)
        else:
            status = answer.status_code
            answers.put(ConnectionError(f"A proxy says {status}") if status in _NOT_THE_HUB else None)

    # In a thread of its own, since nothing else bounds the look-up of a name.
    threading.Thread(target=ask, daemon=True).start()
    try:
        return answers.get(timeout=seconds)
    except Empty:
        return TimeoutError(f"no answer within {seconds:g} seconds")
