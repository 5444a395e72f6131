"""Whatever a process tries to reach, counted: look-ups of names and connections, of all libraries."""

import socket
import sys
import traceback
from typing import Any

attempts: list[str] = []
"""Each attempt, and which of our or of the libraries' functions made it."""

_PLUMBING = ("socket", "ssl", "http", "urllib", "httpx", "httpcore", "requests", "urllib3", "anyio", "threading")


def install() -> None:
    """Count from now on, and let nothing through but what stays on this machine."""
    for name in ("connect", "connect_ex", "sendto"):
        original = getattr(socket.socket, name)

        def counted(self: socket.socket, *arguments: Any, _original: Any = original) -> Any:
            if self.family in (socket.AF_INET, socket.AF_INET6):
                _note(str(arguments[-1]))
            return _original(self, *arguments)

        setattr(socket.socket, name, counted)
    resolve = socket.getaddrinfo

    def resolved(host: Any, *arguments: Any, **options: Any) -> Any:
        _note(str(host))
        return resolve(host, *arguments, **options)

    socket.getaddrinfo = resolved


def _note(address: str) -> None:
    calls = [frame for frame in traceback.extract_stack() if not _is_plumbing(frame.filename)]
    attempts.append(
        f"{address} from " + " < ".join(f"{one.filename}:{one.lineno} {one.name}" for one in calls[:-8:-1])
    )


def _is_plumbing(file: str) -> bool:
    return file == __file__ or any(f"/{name}" in file.removeprefix(sys.prefix) for name in _PLUMBING)
