"""How much of a model do several processes hold while it is loaded, and once it is split over them (FSDP2, on CPUs)?

    python benchmarks/split_loading.py MODEL --processes 2

Each process loads the model as `muscle-hf predict` does, in the type that it is saved in and in another one, and keeps
its part. What is counted is the process's own memory (RssAnon), and pages of the file that it shares
with the others through the page cache (RssFile), each above what it was before; in MB of the model's own size. Linux.
"""

# ruff: noqa: T201 - a benchmark prints

import argparse
import ctypes
import gc
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

FSDP2 = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "ACCELERATE_USE_CPU": "true"}


def held() -> dict[str, float]:
    """Return the memory of this process in MB: its own, and that of files."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {name: int(lines[name].split()[0]) / 1000 for name in ("RssAnon", "RssFile")}


def measure(model: str, dtype: str) -> dict[str, float]:
    """Load and split a model in this process, one of several, and return what it held, and the model's size."""
    import torch.distributed as distributed
    from transformers import AutoModelForCausalLM

    from muscle_hf.models.sharding import is_sharded
    from muscle_hf.models.splitting import split_in_parts

    distributed.init_process_group("gloo")
    start = held()
    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=dtype)
    size = sum(weight.numel() * weight.element_size() for weight in loaded.parameters()) / 1e6
    found = {"size": size, **{f"loaded {name}": value - start[name] for name, value in held().items()}}
    split = split_in_parts(loaded, "cpu")
    del loaded
    found |= {f"split {name}": value - start[name] for name, value in held().items()}
    if not is_sharded(split):
        raise RuntimeError("the model is whole in each process")
    distributed.barrier()
    distributed.destroy_process_group()
    return found


def in_processes(model: str, dtype: str, count: int) -> list[dict[str, float]]:
    """Measure in so many processes at once."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = os.environ | FSDP2 | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(count)}
    command = [sys.executable, __file__, model, "--measure", dtype]
    processes = [
        subprocess.Popen(command, env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, stdout=subprocess.PIPE)  # noqa: S603
        for rank in range(count)
    ]
    return [json.loads(process.communicate()[0]) for process in processes]


def main() -> None:
    """Print a table, or what one process found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--dtypes", nargs="+", default=["auto", "bfloat16"])
    parser.add_argument("--measure", metavar="DTYPE", help="in this process alone, which is one of several")
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.model, arguments.measure)))
        return
    print("| loaded as | process | the model | loaded: own memory | split: own memory | pages of the file |")
    print("|---|---|---|---|---|---|")
    for dtype in arguments.dtypes:
        for rank, found in enumerate(in_processes(arguments.model, dtype, arguments.processes)):
            cells = [found[name] for name in ("size", "loaded RssAnon", "split RssAnon", "split RssFile")]
            print(f"| {dtype} | {rank} | {' | '.join(f'{value:.0f} MB' for value in cells)} |")


if __name__ == "__main__":
    main()
