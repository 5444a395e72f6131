"""Several processes of one training, two or more, as a launcher starts them."""

import contextlib
import os
import random
import socket
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import fresh


def run_two(command: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> list[str]:
    """Run a command in two processes; see [`run_processes`]."""
    return run_processes(2, command, env=env, cwd=cwd)


def run_processes(
    count: int, command: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> list[str]:
    """Run a command in so many processes to the end, and give what each of them printed, in their order."""
    return finish(start_processes(count, command, env=env, cwd=cwd))


def start_processes(
    count: int, command: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> list[fresh.Process]:
    """Start a command in so many processes, which find each other by gloo."""
    known = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "GLOO_SOCKET_IFNAME": "lo"}
    known |= {"OMP_NUM_THREADS": "1", "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    environment = dict(os.environ if env is None else env) | known
    ranks = map(str, range(count))
    # The libraries that train are imported with the environment of this process: of a client of a local Hub, anew.
    warm = _of_hugging_face(environment) == _of_hugging_face(os.environ)
    return [fresh.Process(command, env=environment | {"RANK": r, "LOCAL_RANK": r}, cwd=cwd, warm=warm) for r in ranks]


def _of_hugging_face(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(("HF_", "TRANSFORMERS_"))}


def finish(processes: Sequence[fresh.Process]) -> list[str]:
    """Wait for processes that need each other, and give what each printed; where one fails, the others are killed."""
    with ThreadPoolExecutor(len(processes)) as pool:
        jobs = {pool.submit(process.communicate): process for process in processes}
        try:
            for job in as_completed(jobs):
                assert jobs[job].returncode == 0, job.result()[1][-3000:]
        finally:
            for process in processes:
                process.kill()
    return [job.result()[0] for job in jobs]


def _free_port() -> int:
    """Choose a port that no other test is given meanwhile: below those that the system hands out by itself."""
    for port in random.sample(range(12_000, 30_000), 100):
        with socket.socket() as free, contextlib.suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")
