"""A command in a forked process that is killed at a moment that matters, at any moment, or has a clock that jumps.

A moment that matters is one at which files change: before each is opened to be written, renamed, linked, cut, synced
or removed; in the middle of the first write of each, half of which is on the disk by then; and before and after each
request to the Hub. They are counted, so that each can be hit.
"""

# ruff: noqa: S311 - chance is no secret here

import builtins
import io
import os
import random
import re
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Call = Callable[[], int]

_CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.truncate"}
_POLL = 0.002


@dataclass(frozen=True)
class Ended:
    """How a process came to its end."""

    code: int  # a negative one is that of a signal
    seconds: float
    said: str  # both streams
    moments: list[str] = field(default_factory=list)

    @property
    def was_killed(self) -> bool:
        """Whether it was, before it came to its end."""
        return self.code == -signal.SIGKILL

    @property
    def complaint(self) -> str:
        """The last line that it said."""
        return next((line for line in reversed(self.said.splitlines()) if line.strip()), "")


def run(
    call: Call,
    folder: Path,
    logs: Path,
    *,
    at: int | None = None,
    count: bool = False,
    after: float | None = None,
    first: Callable[[], None] = lambda: None,
) -> Ended:
    """Run something in a forked process, and wait until it ends.

    Args:
        call: What to run; it gives the exit code.
        folder: Where the moments that matter are; the working directory.
        logs: A folder for what it says.
        at: The number of the moment that matters at which it is killed.
        count: Whether the moments that matter are to be counted.
        after: Seconds after which it is killed.
        first: What is done in the process before.
    """
    said, seen = logs / "said", logs / "moments"
    seen.unlink(missing_ok=True)
    began = time.monotonic()
    number = os.fork()
    if number == 0:
        _become(call, folder, said, first, Moments(folder, at, seen) if count or at is not None else None)
    status = _wait(number, began, after)
    seconds = time.monotonic() - began
    moments = seen.read_text(encoding="utf-8").splitlines() if seen.exists() else []
    return Ended(os.waitstatus_to_exitcode(status), seconds, said.read_text(errors="replace"), moments)


def start(call: Call, folder: Path, logs: Path) -> int:
    """Start something in a forked process, and give its number; `finish` waits for it."""
    number = os.fork()
    if number == 0:
        _become(call, folder, logs / "said first", lambda: None, None)
    return number


def finish(number: int) -> int:
    """Wait for a process, and give its exit code."""
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])


def _wait(number: int, began: float, after: float | None) -> int:
    is_killed = False
    while True:
        ended, status = os.waitpid(number, 0 if after is None or is_killed else os.WNOHANG)
        if ended:
            return status
        if after is not None and time.monotonic() - began >= after:
            os.kill(number, signal.SIGKILL)
            is_killed = True
        else:
            time.sleep(_POLL)


def _become(call: Call, folder: Path, said: Path, first: Callable[[], None], moments: "Moments | None") -> None:
    code = 70
    try:
        # Theirs are handlers of this process alone.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        descriptor = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
        os.chdir(folder)
        first()
        if moments is not None:
            moments.watch()
        code = call()
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


class Moments:
    """Counts the moments that matter in this process, and kills it at one of them."""

    def __init__(self, folder: Path, at: int | None, seen: Path) -> None:
        """Count nothing yet."""
        self._root, self._at, self._count = f"{folder.resolve()}{os.sep}", at, 0
        self._seen = os.open(seen, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._process = os.getpid()
        self._is_inside = False

    def watch(self) -> None:
        """Begin."""
        self._process = os.getpid()
        self._watch_files()
        self._watch_libraries()
        self._watch_requests()
        sys.addaudithook(self._hear)

    def _pass(self, what: str) -> None:
        if os.getpid() != self._process:
            return
        self._count += 1
        os.write(self._seen, f"{what}\n".encode())
        if self._count == self._at:
            os.kill(os.getpid(), signal.SIGKILL)

    def _is_here(self, path: Any) -> bool:
        if isinstance(path, int) or path is None:
            return False
        with suppress(TypeError, ValueError):
            return _absolute(path).startswith(self._root)
        return False

    def _name(self, path: Any) -> str:
        name = _absolute(path).removeprefix(self._root)
        return re.sub(r"\.[0-9a-f]+(-\d+)?\.tmp$", ".tmp", name)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._is_inside:
            return
        self._is_inside = True
        try:
            if event == "open":
                path, _, flags = arguments
                if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC) and self._is_here(path):
                    self._pass(f"open {self._name(path)}")
            elif event in _CHANGES and self._is_here(arguments[0]):
                is_change = event != "os.mkdir" or not Path(os.fsdecode(arguments[0])).exists()
                if is_change:
                    self._pass(f"{event[3:]} {self._name(arguments[0])}")
        finally:
            self._is_inside = False

    def _watch_files(self) -> None:
        """Stop in the first write of each file, when half of it is on the disk."""
        sync, original = os.fsync, io.open

        def synced(descriptor: Any) -> None:
            self._pass("fsync")
            sync(descriptor)

        def opened(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            handle = original(file, mode, *arguments, **options)
            if set(mode) & set("wax+") and self._is_here(file):
                with suppress(AttributeError):
                    handle.write = self._half(handle, self._name(file))
            return handle

        os.fsync = synced
        io.open = builtins.open = opened

    def _half(self, handle: Any, name: str) -> Callable[[Any], Any]:
        whole = handle.write

        def write(data: Any) -> Any:
            handle.write = whole
            half = len(data) // 2
            whole(data[:half])
            handle.flush()
            self._pass(f"write {name}")
            return half + whole(data[half:])

        return write

    def _watch_libraries(self) -> None:
        """Stop where a library has written half of a file past Python."""
        import safetensors.torch
        import torch

        def halved(module: Any, name: str, place: int) -> None:
            original = getattr(module, name)

            def written(*arguments: Any, **options: Any) -> Any:
                done = original(*arguments, **options)
                path = arguments[place] if len(arguments) > place else options.get("filename")
                if self._is_here(path):
                    self._is_inside = True
                    with io.FileIO(path, "r+") as file:
                        content = file.readall()
                        file.truncate(len(content) // 2)
                        self._pass(f"write {self._name(path)}")
                        file.seek(0)
                        file.write(content)
                    self._is_inside = False
                return done

            setattr(module, name, written)

        halved(torch, "save", 1)
        halved(safetensors.torch, "serialize_file", 1)

    def _watch_requests(self) -> None:
        """Stop before each request, and when its answer has come and nobody has read it."""
        library = next((sys.modules[name] for name in ("httpx2", "httpx") if name in sys.modules), None)
        if library is None:
            return
        send = library.Client.send

        def sent(client: Any, request: Any, **options: Any) -> Any:
            self._pass(f"request {request.method} {request.url.path}")
            answer = send(client, request, **options)
            self._pass(f"answer {request.method} {request.url.path}")
            return answer

        library.Client.send = sent  # type: ignore[attr-defined]


def _absolute(path: Any) -> str:
    # Links are left as they are, of which a working directory may be one.
    return os.path.abspath(os.fsdecode(path))  # noqa: PTH100


def limit_files(size: int | None) -> None:
    """Let no file of this process grow beyond a size."""
    if size is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def jumping_clock(seed: int) -> Callable[[], None]:
    """Give what lets the clock jump by up to a week, forwards and backwards, whenever it is looked at."""

    def set_up() -> None:
        chance, real = random.Random(seed), time.time
        time.time = lambda: real() + chance.uniform(-6e5, 6e5)

    return set_up


def no_waiting() -> None:
    """Let nobody wait between two attempts."""
    time.sleep = lambda seconds: None
