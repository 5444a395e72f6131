"""Python in new processes that need not import large libraries: each is forked from one that has imported them.

`run` and `Process` take the command that `subprocess` would take. Imported already is whatever this process has
imported by then, except the libraries that read their environment while they are imported, Hugging Face's and ours: a
new process imports those itself, with the environment that it is given, unless it is a `warm` one. Its `sys.modules`
has what it imports. What is about the start of an interpreter, its time, memory or options other than -W, stays with
`subprocess`.
"""

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence, Set
from functools import cache
from pathlib import Path
from typing import IO

_SERVER = Path(__file__).with_name("fresh_server.py")
# Read their environment at their import.
_TRAIN = {"accelerate", "datasets", "huggingface_hub", "peft", "transformers", "trl"}
_LEFT_OUT = {
    *_TRAIN,
    *("evaluate", "hf_xet", "kernels", "muscle_hf"),
    # Belong to the tests.
    *("_pytest", "execnet", "hypothesis", "matplotlib", "pluggy", "pytest", "xdist"),
}

# By each process that was waited for.
_spent: list[float] = []


def processor_seconds() -> float:
    """Give the processor time of the processes that were waited for so far."""
    return sum(_spent)


class Process:
    """A process that runs beside this one, with pipes for its standard streams, all of them text."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        warm: bool = False,
    ) -> None:
        """Start it.

        Args:
            command: `sys.executable`, `-W` options, then `-c` and code, `-m` and a module, or a file; and words.
            env: Its environment; this process's own by default.
            cwd: Its working directory.
            warm: The libraries that train are imported already too, with the environment of this process: not for a
                test of what is imported, or of what those libraries read of theirs.
        """
        self.returncode: int | None = None
        ends = [os.pipe() for _ in range(3)]
        theirs = [ends[0][0], ends[1][1], ends[2][1]]
        self.stdin, self.stdout, self.stderr = (
            _text(ends[0][1], "w"),
            _text(ends[1][0], "r"),
            _text(ends[2][0], "r"),
        )
        self._socket = _asked(_warm_server() if warm else _server(), _request(command), theirs, env, cwd)
        for descriptor in theirs:
            os.close(descriptor)
        self._answers = self._socket.makefile("r", encoding="utf-8")
        self.pid = int(self._answers.readline())

    def poll(self) -> int | None:
        """Give the exit code, or None while it runs."""
        if self.returncode is None:
            self._socket.setblocking(False)
            try:
                ended = self._socket.recv(1, socket.MSG_PEEK)
            except BlockingIOError:
                return None
            finally:
                self._socket.setblocking(True)
            assert ended, "whoever waits for the process died"
            self.wait()
        return self.returncode

    def wait(self) -> int:
        """Wait until it ends, and give its exit code; that of a process killed by a signal is its negative number."""
        if self.returncode is None:
            code, seconds = self._answers.readline().split()
            self.returncode = int(code)
            _spent.append(float(seconds))
            self._answers.close()
            self._socket.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it is known to have ended."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def communicate(self, text: str | None = None) -> tuple[str, str]:
        """Give it all of its input, wait for its end, and give what it wrote to both streams."""
        errors: list[str] = []
        threads = [
            threading.Thread(target=lambda: errors.append(self.stderr.read())),
            threading.Thread(target=self._write, args=(text,)),
        ]
        for thread in threads:
            thread.start()
        said = self.stdout.read()
        for thread in threads:
            thread.join()
        self.stdout.close()
        self.stderr.close()
        self.wait()
        return said, errors[0]

    def _write(self, text: str | None) -> None:
        try:
            self.stdin.write(text or "")
            self.stdin.close()
        except BrokenPipeError:
            pass  # it may end without reading what it is given


def run(
    command: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    warm: bool = False,
    text: str | None = None,
    check: bool = False,
) -> "subprocess.CompletedProcess[str]":
    """Run a process to its end, with `text` as its input."""
    process = Process(command, env=env, cwd=cwd, warm=warm)
    said, errors = process.communicate(text)
    done = subprocess.CompletedProcess(list(command), process.wait(), said, errors)
    if check:
        done.check_returncode()
    return done


def _text(descriptor: int, mode: str) -> IO[str]:
    return open(descriptor, mode, encoding="utf-8")


def _request(command: Sequence[str]) -> dict[str, object]:
    interpreter, *words = command
    assert interpreter == sys.executable, command
    options, code, module = [], None, None
    while words[0] == "-W":
        options.append(words[1])
        del words[:2]
    if words[0] == "-c":
        code, words = words[1], ["-c", *words[2:]]
    elif words[0] == "-m":
        module, words = words[1], words[1:]
    else:
        code = Path(words[0]).read_text(encoding="utf-8")
    return {"warnings": options, "code": code, "module": module, "words": words}


def _asked(
    server: socket.socket,
    request: Mapping[str, object],
    descriptors: Sequence[int],
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> socket.socket:
    """Ask a process that forks, and give the socket where the new one is told about."""
    answers, other = socket.socketpair()
    with other:
        socket.send_fds(server, [b"."], [other.fileno(), *descriptors])
    place = {
        "environment": dict(os.environ if env is None else env),
        "folder": str(Path.cwd() if cwd is None else cwd),
    }
    answers.sendall(f"{json.dumps(dict(request) | place)}\n".encode())
    return answers


@cache
def _warm_server() -> socket.socket:
    """The way to a process that was forked itself, and has imported more."""
    ours, theirs = socket.socketpair()
    server = _server()
    with theirs:
        _asked(server, {"modules": _imported(_LEFT_OUT - _TRAIN)}, [theirs.fileno()]).close()
    atexit.register(ours.close)  # before the end of the other one, which waits for it
    return ours


@cache
def _server() -> socket.socket:
    """The way to the process that forks, which ends when this process does."""
    ours, theirs = socket.socketpair()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    # Sets of strings have another order there than here, whatever it is here.
    environment["PYTHONHASHSEED"] = "2" if environment.get("PYTHONHASHSEED") == "1" else "1"
    with theirs:
        server = subprocess.Popen([sys.executable, str(_SERVER), *_imported(_LEFT_OUT)], stdin=theirs, env=environment)  # noqa: S603

    def end() -> None:
        ours.close()
        try:
            server.wait(60)
        except subprocess.TimeoutExpired:
            server.kill()  # a process that it forked runs on, since its test failed

    atexit.register(end)
    return ours


def _imported(left_out: Set[str]) -> list[str]:
    """Names of modules that a new interpreter finds too, without some libraries, in the order of their import here."""
    places = tuple(path for path in sys.path if "site-packages" in path or path.startswith(sys.base_prefix))
    found = []
    for name, module in list(sys.modules.items()):
        spec = getattr(module, "__spec__", None)
        origin = getattr(spec, "origin", None) or ""
        if (
            name.partition(".")[0] not in left_out
            and spec is not None
            and spec.name == name
            and origin.startswith(places)
        ):
            found.append(name)
    return found
