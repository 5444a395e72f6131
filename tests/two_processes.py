"""Two processes of one training, as a launcher starts them."""

import contextlib
import os
import random
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

import fresh


def run_two(command: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> list[str]:
    """Run a command in both, which find each other by gloo, to the end; give what each of them printed."""
    known = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "GLOO_SOCKET_IFNAME": "lo"}
    known |= {"OMP_NUM_THREADS": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    environment = dict(os.environ if env is None else env) | known
    return finish([fresh.Process(command, env=environment | {"RANK": r, "LOCAL_RANK": r}, cwd=cwd) for r in "01"])


def finish(processes: Sequence[fresh.Process]) -> list[str]:
    """Wait for processes that need each other, and give what each of them printed."""
    try:
        said = [process.communicate() for process in processes]
        for process, (_, errors) in zip(processes, said, strict=True):
            assert process.returncode == 0, errors[-3000:]
    finally:
        for process in processes:
            process.kill()
    return [out for out, _ in said]


def _free_port() -> int:
    """Choose a port that no other test is given meanwhile: below those that the system hands out by itself."""
    for port in random.sample(range(12_000, 30_000), 100):
        with socket.socket() as free, contextlib.suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")
