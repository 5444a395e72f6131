"""The program behind `fresh.py`: it imports modules once, and forks itself for each process that is asked for.

    python fresh_server.py MODULE ...

Standard input is a socket. Each message on it carries a socket and the standard streams of one process; on that socket
a line of JSON says what to run, and two lines answer: the number of the process; then its exit code and processor
seconds. What was imported here is in no process's `sys.modules` before it imports it: it comes at once then. A process
that is asked for with modules becomes a server itself, with them too and a socket of its own.
"""

import copy
import gc
import importlib
import importlib.abc
import importlib.machinery
import json
import os
import runpy
import signal
import socket
import sys
import types
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from found_out_once import keep_what_is_found_out

_DEFAULT_FILTERS = list(warnings.filters)


class _Kept(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Modules that are ready, and are given to whoever imports them; with one comes the rest of its package."""

    def __init__(self, modules: dict[str, types.ModuleType]) -> None:
        self._modules = modules

    def find_spec(self, name: str, path: object, target: object = None) -> importlib.machinery.ModuleSpec | None:
        if name not in self._modules:
            return None
        spec = copy.copy(self._modules[name].__spec__)
        assert spec is not None
        spec.loader, spec.loader_state = self, self._modules[name].__spec__
        return spec

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        module = self._modules.pop(spec.name)
        for name in [name for name in self._modules if _root(name) == _root(spec.name)]:
            sys.modules[name] = self._modules.pop(name)
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__ = module.__spec__.loader_state


def _root(name: str) -> str:
    return name.partition(".")[0]


def serve(modules: Sequence[str], descriptor: int) -> None:
    """Import modules; then fork until nobody can ask any more. Returns in the new processes too, at their end."""
    before = set(sys.modules) | sys.stdlib_module_names
    for name in modules:
        importlib.import_module(name)
    keep_what_is_found_out()
    added = [
        name
        for name, module in sys.modules.items()
        if not {name, _root(name)} & before and getattr(module, "__spec__", None) is not None
    ]
    sys.meta_path.insert(0, _Kept({name: sys.modules.pop(name) for name in added}))
    # What lies here already is left alone by each collection in each process: its memory stays shared.
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=descriptor) as control:
        while (message := socket.recv_fds(control, 1, 4))[0]:
            asking, *streams = message[1]
            if os.fork() == 0:
                control.close()
                request = _keep(asking, streams)
                os.environ.clear()
                os.environ.update(request["environment"])
                return serve(request["modules"], *streams) if "modules" in request else _become(request, streams)
            for descriptor in message[1]:
                os.close(descriptor)
            _reap(os.WNOHANG)
    # Theirs is ours for whoever counts the time of the processes that it started.
    return _reap(0)


def _reap(options: int) -> None:
    try:
        while os.waitpid(-1, options) != (0, 0):
            pass
    except ChildProcessError:
        pass


def _keep(asking: int, streams: Sequence[int]) -> dict[str, Any]:
    """Fork once more: one process waits for the other, and tells its number and exit code; the other returns."""
    with socket.socket(fileno=asking) as answers:
        request: dict[str, Any] = json.loads(answers.makefile("r", encoding="utf-8").readline())
        if (number := os.fork()) == 0:
            return request
        for descriptor in (0, 1, 2, *streams):
            os.close(descriptor)
        try:
            answers.sendall(f"{number}\n".encode())
            _, status, usage = os.wait4(number, 0)
            seconds = usage.ru_utime + usage.ru_stime
            answers.sendall(f"{os.waitstatus_to_exitcode(status)} {seconds}\n".encode())
        finally:
            os._exit(0)


def _become(request: dict[str, Any], streams: Sequence[int]) -> None:
    """Do what the interpreter does when it begins, and run what it is given."""
    for place, descriptor in enumerate(streams):
        os.dup2(descriptor, place)
        os.close(descriptor)
    sys.stdin, sys.stdout = open(0, encoding="utf-8", closefd=False), open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(request["folder"])
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    script = request["words"][0] if request["module"] is None and request["words"][0] != "-c" else None
    sys.path[:1] = ["" if script is None else str(Path(script).resolve().parent), *paths]
    sys.argv[:] = request["words"]
    # Filters of the command line stand behind those that libraries add, and before the interpreter's own.
    added = warnings.filters[: len(warnings.filters) - len(_DEFAULT_FILTERS)]
    warnings.filters[:] = _DEFAULT_FILTERS
    warnings._processoptions(request["warnings"])  # type: ignore[attr-defined]
    warnings.filters[:0] = added
    with warnings.catch_warnings():
        pass  # so that what was decided by the filters before is forgotten
    if request["module"] is not None:
        runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
        return
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    if script is not None:
        main.__file__ = script
    exec(compile(request["code"], script or "<string>", "exec"), main.__dict__)  # noqa: S102 - a test's own program


if __name__ == "__main__":
    serve(sys.argv[1:], os.dup(0))
