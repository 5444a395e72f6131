"""What the benchmarks of training steps share: a step, its time in rounds, its peak memory, and the machine."""

import argparse
import json
import logging
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
import trl
from datasets import disable_progress_bars


def parser_of(description: str | None, ways: Sequence[str], tables: Mapping[str, Any]) -> argparse.ArgumentParser:
    """Return a parser of the options that all of them have: sizes of a table of one's own, or which of the tables."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in next(iter(tables.values())):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--table", choices=tables, action="append", help="one of the tables; by default all")
    parser.add_argument("--way", choices=ways, action="append", help="beside SFTTrainer; by default those that fit")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cpu", "cuda"])
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)
    return parser


def chosen_tables(parsed: argparse.Namespace, tables: Mapping[str, Any], own: str) -> dict[str, argparse.Namespace]:
    """Return the tables that are asked for, by name; sizes of one's own fill up those of the table `own`."""
    given = {name: getattr(parsed, name) for name in tables[own] if getattr(parsed, name) is not None}
    chosen = (
        {"your setting": tables[own] | given} if given else {name: tables[name] for name in parsed.table or tables}
    )
    device = {"device": parsed.device, "bf16": parsed.device == "cuda"}
    return {name: argparse.Namespace(**sizes, **device) for name, sizes in chosen.items()}


def step(trainer: Any, clock: Callable[[], float] = time.perf_counter) -> float:
    """Take one optimizer step and return its seconds."""
    tokens = (trainer.batch["labels"][:, 1:] != -100).sum()
    start = clock()
    trainer.training_step(trainer.model, dict(trainer.batch), num_items_in_batch=tokens)
    trainer.optimizer.step()
    trainer.optimizer.zero_grad()
    if trainer.args.device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def peak_of(make: Callable[[Path], Any], old_model: Callable[[], torch.nn.Module], device: str) -> dict[str, float]:
    """Take two steps in this process and return its peak memory and the old model's weights, in MiB."""
    is_gpu = device == "cuda"
    with tempfile.TemporaryDirectory() as folder:
        trainer = make(Path(folder))
        if is_gpu:
            torch.cuda.reset_peak_memory_stats()
        else:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forgets the peak of what came before
        for _ in range(2):
            step(trainer)
        if is_gpu:
            peak = torch.cuda.max_memory_allocated() / 2**20
        else:
            status = Path("/proc/self/status").read_text(encoding="ascii")
            peak = int(status.partition("VmHWM:")[2].split()[0]) / 2**10
    is_live = getattr(trainer, "old_teacher", None) is not None or hasattr(trainer, "teacher_model")
    old = sum(weight.numel() * weight.element_size() for weight in old_model().parameters()) / 2**20
    return {"peak": peak, "old": old if is_live else 0.0}


def peaks_of(script: str, ways: Sequence[str], size: argparse.Namespace, names: Sequence[str]) -> dict[str, Any]:
    """Return what `peak_of` gives in a fresh process for each way."""
    peaks = {}
    for way in ways:
        sizes = [f"--{name}={getattr(size, name)}" for name in names]
        command = [sys.executable, script, "--peak-of", way, "--device", size.device, *sizes]
        result = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - this very file
        peaks[way] = json.loads(result.stdout.splitlines()[-1])
    return peaks


def times_of(
    trainers: Mapping[str, Any], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[str]]:
    """Take a step of each trainer in each round: each way: median, and ratio to SFTTrainer with spread."""
    seconds: dict[str, list[float]] = {way: [] for way in trainers}
    for number in range(rounds + 1):
        for way, trainer in trainers.items():
            taken = step(trainer, clock)
            if number:  # the first round warms up
                seconds[way].append(taken)
    shown = {}
    for way, of_way in seconds.items():
        ratios = [time_of_way / plain for time_of_way, plain in zip(of_way, seconds["SFTTrainer"], strict=True)]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        shown[way] = [f"{statistics.median(of_way):.2f}", spread]
    return shown


def machine(device: str) -> str:
    """Say where something was measured, and with what."""
    name = torch.cuda.get_device_name() if device == "cuda" else f"{platform.machine()} CPU"
    return (
        f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"transformers {transformers.__version__}, trl {trl.__version__}"
    )


def quiet() -> None:
    """Let nothing but the tables be printed."""
    warnings.simplefilter("ignore")
    transformers.utils.logging.set_verbosity_error()
    logging.getLogger("muscle_hf").setLevel(logging.ERROR)
    disable_progress_bars()
