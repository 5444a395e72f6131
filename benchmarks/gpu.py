"""Checks of the trainer on a GPU, and the time and peak memory of a step of a 1B-shaped Llama, in six minutes at most.

    python benchmarks/gpu.py                                         # on the accelerator that torch finds
    python benchmarks/gpu.py --device cpu --layers 1 --hidden 64 --vocabulary 512 --length 32     # a try without one

Checks, of tiny models: the loss in slices has the gradient of the loss from full logits, in float32 (1e-4 of its norm)
and in bfloat16 (at most twice as far from float32's as full logits are); caches that keep everything have it as well;
flips in the loop find no difference between the new model and a student that does not learn; a run that is resumed
ends with the weights of one that was not stopped; FSDP2 of one process and NF4 train. Then time and peak memory of a
step: the shape of Llama 3.2 1B with 262,144 tokens, random weights in bfloat16, LoRA 16, one row of 4,096 tokens, of
which the student is wrong on half; TRL's SFTTrainer beside ours with two teachers.

It keeps to its time: what would not fit any more is named and left out. Out of memory is a result. The exit code is 1
where a check fails.
"""

import argparse
import gc
import json
import logging
import platform
import statistics
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
import trl
from datasets import Dataset, disable_progress_bars
from gpu_checks import CHECKS, FailedError, LeftOutError, adapted, common_options, llama, losses, rows_of, tokenizer_of
from trl import SFTConfig, SFTTrainer

from muscle_hf import CompatibilityConfig, CompatibilityTrainer
from muscle_hf.text import markdown_table

WAYS: dict[str, dict[str, Any] | None] = {
    "SFTTrainer": None,
    "live, in slices": {"loss_implementation": "chunked"},
    "cached, topk": {"teacher_cache": "topk"},
    "cached, sampled": {"teacher_cache": "sampled"},
    "cached, hidden": {"teacher_cache": "hidden"},
    "full logits (three passes)": {"loss_implementation": "plain"},
}
SECONDS = {"a check": 25, "a way": 45}  # what a part may take; the script stops before it is late


def steps_of(way: str, size: argparse.Namespace, rows: Dataset, folder: Path, until: float) -> tuple[float, float]:
    """Return the median of up to five steps, in seconds, and the peak memory in GiB (nan on a CPU)."""
    options, dtype = WAYS[way], torch.bfloat16 if size.bf16 else torch.float32
    common = common_options(size, folder / way.replace(" ", "-"), 1, bf16=size.bf16)
    data = {"train_dataset": rows, "processing_class": size.tokenizer}
    if options is None:
        trainer = SFTTrainer(adapted(llama(size, 2, dtype)), args=SFTConfig(**common), **data)
    else:
        arguments = CompatibilityConfig(**common, **options)
        trainer = CompatibilityTrainer(adapted(llama(size, 2, dtype)), llama(size, 1, dtype), args=arguments, **data)
        if options.get("teacher_cache"):
            trainer.cache_teachers()
            vars(trainer.teachers.pair).clear()  # which keeps a model that it could not load again
    trainer.create_optimizer()
    trainer.model.train()
    batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    tokens = (batch["labels"][:, 1:] != -100).sum()
    is_gpu, taken = size.device != "cpu", []
    for number in range(6):
        if number == 1 and is_gpu:  # the first step makes the optimizer's state
            torch.accelerator.reset_peak_memory_stats()
        start = time.perf_counter()
        trainer.training_step(trainer.model, dict(batch), num_items_in_batch=tokens)
        trainer.optimizer.step()
        trainer.optimizer.zero_grad()
        if is_gpu:
            torch.accelerator.synchronize()
        taken.append(time.perf_counter() - start)
        if number and time.monotonic() + 2 * taken[-1] > until:
            break
    return statistics.median(taken[1:]), torch.accelerator.max_memory_allocated() / 2**30 if is_gpu else float("nan")


def measured(size: argparse.Namespace, until: float, left_out: list[str]) -> list[list[str]]:
    """Return a row of the table for each way."""
    table: list[list[str]] = []
    if time.monotonic() + SECONDS["a way"] > until:
        left_out.append("time and memory: no time left")
        return table
    rows, base = rows_of(size, 1, torch.bfloat16 if size.bf16 else torch.float32), (float("nan"), float("nan"))
    for way in WAYS:
        if time.monotonic() + SECONDS["a way"] > until:
            left_out.append(f"{way}: no time left")
            continue
        _forget(size.device)
        try:
            with tempfile.TemporaryDirectory() as folder:
                seconds, peak = steps_of(way, size, rows, Path(folder), until)
        except torch.OutOfMemoryError:
            table.append([way, "out of memory", "", ""])
            continue
        base = (seconds, peak) if way == "SFTTrainer" else base
        has_peak = size.device != "cpu"
        ratios = f"{seconds / base[0]:.2f} of the time" + (f", {peak / base[1]:.2f} of the peak" if has_peak else "")
        table.append([way, f"{seconds:.3f} s a step", f"{peak:.2f} GiB at most" if has_peak else "", ratios])
    return table


def _forget(device: str) -> None:
    gc.collect()
    if device != "cpu":
        torch.accelerator.empty_cache()


def checked(device: str, until: float, left_out: list[str]) -> list[list[str]]:
    """Return a row of the table for each check."""
    table = []
    for name, check in CHECKS.items():
        if time.monotonic() + SECONDS["a check"] > until:
            left_out.append(f"{name}: no time left")
            continue
        _forget(device)
        try:
            with tempfile.TemporaryDirectory() as folder:
                table.append([name, "holds", check(device, Path(folder)), ""])
        except LeftOutError as error:
            left_out.append(f"{name}: {error}")
        except FailedError as error:
            table.append([name, "FAILS", str(error), ""])
        except Exception as error:  # the other parts are to be run
            traceback.print_exc()
            table.append([name, "FAILS", f"{type(error).__name__}: {' '.join(str(error).split())[:120]}", ""])
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table, and return 1 where a check fails."""
    found = torch.accelerator.current_accelerator()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu" if found is None else found.type)
    parser.add_argument("--seconds", type=float, default=345.0, help="what all of it may take")
    shape = {"vocabulary": 262_144, "hidden": 2048, "layers": 16, "length": 4096}
    for name, value in shape.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--fsdp2-in", help=argparse.SUPPRESS)
    parsed = parser.parse_args(arguments)
    if parsed.fsdp2_in:
        print(json.dumps(losses(parsed.device, Path(parsed.fsdp2_in))))  # noqa: T201
        return 0
    start, left_out = time.monotonic(), []
    until = start + parsed.seconds
    table = checked(parsed.device, until, left_out)
    size = argparse.Namespace(**{name: getattr(parsed, name) for name in shape}, device=parsed.device)
    size.bf16, size.tokenizer = parsed.device != "cpu", tokenizer_of(parsed.vocabulary)
    table += measured(size, until, left_out)
    print(markdown_table(["part", "result", "figure", "against SFTTrainer"], table) + "\n")  # noqa: T201
    for part in left_out:
        print(f"Left out: {part}.")  # noqa: T201
    name = torch.cuda.get_device_name() if parsed.device == "cuda" else f"{platform.machine()} {parsed.device}"
    print(  # noqa: T201
        f"{name}, vocabulary {size.vocabulary}, 1 x {size.length} tokens, {size.layers} layers of {size.hidden}, "
        f"{time.monotonic() - start:.0f} s in all; torch {torch.__version__}, transformers "
        f"{transformers.__version__}, trl {trl.__version__}"
    )
    return int(any(row[1] == "FAILS" for row in table))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    transformers.utils.logging.set_verbosity_error()
    logging.getLogger("muscle_hf").setLevel(logging.ERROR)
    disable_progress_bars()
    sys.exit(main())
