"""What does a teacher cache change in the loss, how large is it, and how fast is it read?

    python benchmarks/teacher_cache.py

Prints two Markdown tables. The first compares the KL divergence (forward, T = 2, in nats a token) from stored top-k
targets with the one over the whole vocabulary of 3,072 tokens: the demo's old model teaches its new base, on the
completions of the demo's task and on sentences of Wikipedia. The second writes a cache of random numbers and times a
step of 8,192 tokens, of rows in random order, from the page cache.
"""

# ruff: noqa: T201 - a benchmark prints

import argparse
import os
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from muscle_hf.demo.data import read_sentences
from muscle_hf.demo.task import BASE_V1, BASE_V2, OLD_ADAPTER, load_base, load_tokenizer, read_rows
from muscle_hf.losses.divergences import forward_kl, kl_divergence
from muscle_hf.losses.topk import decode_top_k, encode_top_k, top_k_classes
from muscle_hf.teachers.cache import TeacherCache
from muscle_hf.teachers.cache.spec import CacheSpec
from muscle_hf.teachers.cache.writer import write_cache

TEMPERATURE = 2.0
SIZES = (16, 64, 256)
STEP = 8192
ROWS = 32


def pairs_of_logits(
    teacher: PreTrainedModel | PeftModel,
    student: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Iterable[tuple[str, str]],
) -> tuple[Tensor, Tensor]:
    """Return both models' logits at the tokens of each text's second part."""
    found: list[tuple[Tensor, Tensor]] = []
    for context, trained in texts:
        first = len(tokenizer(context)["input_ids"])
        ids = torch.tensor([tokenizer(context + trained)["input_ids"]])
        with torch.no_grad():
            both = [model(input_ids=ids).logits[0, max(first - 1, 0) : -1] for model in (teacher, student)]
        found.append((both[0], both[1]))
    old, new = zip(*found, strict=True)
    return torch.cat(old), torch.cat(new)


def divergences(teacher: Tensor, student: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return KL(teacher || student) in full and from stored targets, and the mass outside these: each (tokens,)."""
    stored = encode_top_k(teacher, torch.zeros(len(teacher), dtype=torch.long), k=k, temperature=TEMPERATURE)
    target = decode_top_k(stored)
    teacher, student = teacher.double(), student.double()
    classes = torch.cat([target.log_probabilities, target.tail[:, None]], dim=-1).double()
    return (
        forward_kl(teacher, student, TEMPERATURE),
        kl_divergence(classes, top_k_classes(student, target.ids, TEMPERATURE)),
        top_k_classes(teacher, target.ids, TEMPERATURE)[:, -1].exp(),
    )


def print_errors(rows: int) -> None:
    """Print the table of divergences."""
    tokenizer, student = load_tokenizer(), load_base(BASE_V2).eval()
    teacher = PeftModel.from_pretrained(load_base(BASE_V1), OLD_ADAPTER).eval()
    texts = {
        "completions": [(row["prompt"], row["completion"]) for row in read_rows("val", rows)],
        "sentences": [("", sentence) for sentence in read_sentences()[:rows]],
    }
    print("| texts | tokens | k | bytes a token and teacher | mass of the rest | KL, full | KL, top-k | difference |")
    print("|---|---|---|---|---|---|---|---|")
    for name, some in texts.items():
        old, new = pairs_of_logits(teacher, student, tokenizer, some)
        # With the whole vocabulary there is no rest, and what differs is the rounding to half precision.
        for k in (*SIZES, old.shape[-1]):
            full, top_k, tail = (values.mean().item() for values in divergences(old, new, k))
            print(
                f"| {name} | {len(old)} | {k} | {spec_of(k).bytes_per_token // 2} | {tail:.1%} | "
                f"{full:.4f} | {top_k:.4f} | {(top_k - full) / full:+.2%} |"
            )


def spec_of(k: int) -> CacheSpec:
    """Return the spec of a cache of models with the vocabulary of the demo's."""
    both = {"old": torch.float32, "new": torch.float32}
    return CacheSpec("topk", 3072, both, {"data": "random"}, k=k, temperature=TEMPERATURE)


def print_speed(tokens: int) -> None:
    """Print the table of times."""
    random = np.random.default_rng(0)
    counts = random.integers(20, 180, size=tokens // 100)
    offsets = np.concatenate([[0], counts.cumsum()])
    columns = (
        "k",
        "cache",
        "write, synced",
        "the same bytes, plain",
        "open",
        "first read, checked",
        "read 8,192 tokens",
    )
    print(f"\n| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    for k in SIZES:
        spec = spec_of(k)

        most = 180 * ROWS
        made = {name: torch.ones(most, *shape, dtype=dtype) for name, (dtype, shape) in spec.layout().items()}

        def compute(rows: range, made: dict[str, Tensor] = made) -> dict[str, Tensor]:
            count = int(counts[rows.start : rows.stop].sum())
            return {name: tensor[:count] for name, tensor in made.items()}

        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            write_cache(folder, spec, counts, compute, shard_bytes=2**27, rows_at_once=ROWS)
            written = time.perf_counter() - start
            size = sum(file.stat().st_size for file in Path(folder).iterdir()) / 2**20
            plain = time_of_plain_file(Path(folder) / "plain", int(size))
            start = time.perf_counter()
            cache = TeacherCache.open(folder, spec)
            opened = time.perf_counter() - start
            start = time.perf_counter()
            cache.read(torch.from_numpy(offsets[:-1]))
            checked = time.perf_counter() - start
            taken = []
            for _ in range(20):
                order = random.permutation(len(counts))
                numbers = np.concatenate([np.arange(offsets[row], offsets[row + 1]) for row in order])[:STEP]
                start = time.perf_counter()
                cache.read(torch.from_numpy(numbers))
                taken.append(time.perf_counter() - start)
        print(
            f"| {k} | {size:.0f} MiB | {size / written:.0f} MiB/s | {size / plain:.0f} MiB/s | "
            f"{1000 * opened:.1f} ms | {checked:.2f} s | {1000 * float(np.median(taken)):.1f} ms |"
        )


def time_of_plain_file(path: Path, mebibytes: int) -> float:
    """Return the seconds that zeros of this size take to reach the disk, as `dd conv=fsync` would write them."""
    block = bytes(2**20)
    start = time.perf_counter()
    with path.open("wb", buffering=0) as file:
        for _ in range(mebibytes):
            file.write(block)
        os.fsync(file.fileno())
    return time.perf_counter() - start


def main(arguments: Sequence[str] | None = None) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=300, help="texts of each kind (default: 300)")
    parser.add_argument("--tokens", type=int, default=200_000, help="tokens of the cache (default: 200000)")
    options = parser.parse_args(arguments)
    print_errors(options.rows)
    print_speed(options.tokens)


if __name__ == "__main__":
    main()
