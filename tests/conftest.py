"""What holds for every test: no network, and no cache but one that dies with the run.

The environment is set while pytest imports this file, because the Hugging Face libraries read it once, at their own
import. `HF_HUB_OFFLINE` stays unset on purpose: what is tested is a machine without a network, not a user who asked
for offline mode.
"""

import atexit
import gc
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import Any

import jinja2
import pytest
from found_out_once import keep_what_is_found_out
from hypothesis import HealthCheck, settings

_LATE = sorted({"datasets", "evaluate", "huggingface_hub", "transformers"} & set(sys.modules))
if _LATE:
    raise RuntimeError(
        f"{', '.join(_LATE)} imported before tests/conftest.py could set the cache folders: a pytest plugin or a `-p` "
        "option does it. Run the tests without it, or they would read and write your own Hugging Face cache."
    )

# A shell starts what runs in the background with Ctrl-C ignored, and the processes that tests start would inherit it.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Whatever the developer's shell says about caches, tokens, endpoints or offline mode must not decide a test.
for _name in list(os.environ):
    if _name.startswith(("HF_", "HUGGING_FACE_", "HUGGINGFACE_", "TRANSFORMERS_", "PYTORCH_TRANSFORMERS_")):
        del os.environ[_name]

_CACHE = tempfile.mkdtemp(prefix="muscle_hf_tests_")
atexit.register(shutil.rmtree, _CACHE, ignore_errors=True)
os.environ.update(
    {
        "HF_HOME": _CACHE,
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
        # A tokenizer that was used before a fork prints a warning in the child; data loader workers fork.
        "TOKENIZERS_PARALLELISM": "false",
        # Logged-in experiment trackers of the developer stay out of the runs that the trainer tests start.
        "WANDB_MODE": "disabled",
        "MPLBACKEND": "Agg",
        # Models as tiny as these gain nothing from a second thread, and two that wait for each other lose a lot.
        "OMP_NUM_THREADS": "1",
        # Nor from threads that read one weight each: starting them takes longer than all of the loading.
        "HF_DEACTIVATE_ASYNC_LOAD": "1",
    }
)

# Tests start many processes, and all of them would compile this package anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# How long an example takes, or making one, says how busy the machine is and nothing about the code.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

_SECONDS = "processor seconds"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files of most slow tests, so that no process is left with one of them at the end."""
    names = {(item.path, item.name.partition("[")[0]) for item in items if item.get_closest_marker("slow")}
    slow = Counter(path for path, _ in names)
    items.sort(key=lambda item: -slow[item.path])


def pytest_collection_finish() -> None:
    """Leave what has been imported by now out of every garbage collection: each training asks for a whole one."""
    keep_what_is_found_out()
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Note the processor time of each test, and of the processes that it waited for."""
    began = sum(os.times()[:4])
    try:
        return (yield)
    finally:
        item.user_properties.append((_SECONDS, sum(os.times()[:4]) - began))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Name the tests of the fast part that are none: whoever marks them as slow keeps it fast."""
    if config.option.markexpr != "not slow":
        return
    passed = terminalreporter.stats.get("passed", [])
    seconds = {report.nodeid: dict(report.user_properties).get(_SECONDS, 0.0) for report in passed}
    if slow := {name: taken for name, taken in seconds.items() if taken > 1}:
        terminalreporter.section("more than a second of processor time, and not marked as slow")
        for name, taken in sorted(slow.items(), key=lambda one: -one[1]):
            terminalreporter.line(f"{taken:5.1f} s  {name}")


_LOOPBACK = ("localhost", "ip6-localhost", "::1", "0.0.0.0", "::", "")  # noqa: S104 - compared with, never bound to


class NetworkBlockedError(OSError):
    """A test tried to leave the machine. An OSError, so that code under test takes it for a network that is down."""


def _is_local(host: object) -> bool:
    if host is None:
        return True
    text = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host)
    return text in _LOOPBACK or text.startswith("127.")


def _refuse(host: object) -> None:
    if not _is_local(host):
        raise NetworkBlockedError(
            f"blocked by tests/conftest.py: a test tried to reach {host!r}. Tests run without a network: "
            "build a tiny model from a config, or fake the Hub."
        )


@pytest.fixture(autouse=True, scope="session")
def _templates_are_compiled_once() -> Iterator[None]:
    """Keep compiled templates: whatever saves an adapter writes a card, PEFT and this package one each."""
    compile_ = jinja2.Environment.compile
    kept = cache(lambda environment, source: compile_(environment, source))

    def compiled(self: jinja2.Environment, source: Any, *args: Any, **options: Any) -> Any:
        return compile_(self, source, *args, **options) if args or options else kept(self, source)

    patch = pytest.MonkeyPatch()
    patch.setattr(jinja2.Environment, "compile", compiled)
    yield
    patch.undo()


@pytest.fixture(autouse=True, scope="session")
def _no_network() -> Iterator[None]:
    """Let sockets reach this machine only: loopback addresses and Unix sockets."""
    patch = pytest.MonkeyPatch()

    def guard(name: str) -> None:
        original = getattr(socket.socket, name)

        def guarded(self: socket.socket, *args: Any) -> Any:
            # The address is the last argument of connect, connect_ex and sendto; a Unix socket has a path there.
            if self.family in (socket.AF_INET, socket.AF_INET6):
                _refuse(args[-1][0])
            return original(self, *args)

        patch.setattr(socket.socket, name, guarded)

    for name in ("connect", "connect_ex", "sendto"):
        guard(name)

    resolve = socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        # A name server is the network as well, and a look-up that hangs costs a test its time.
        _refuse(host)
        return resolve(host, *args, **kwargs)

    patch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield
    patch.undo()
