"""What would an update of a 70B model take on 8 and on 64 GPUs, and what a log of a billion prompts?

    python benchmarks/scale.py
    python benchmarks/scale.py --measure

Prints the Markdown tables of docs/scale.md, on paper: shapes and data as stated in the first table, vendors' peaks
with a stated share of them, bytes of a cached token as our own cache lays them out, and passes a step as counted here
and checked against the measured ratio of times in docs/train.md. Nothing is run. With `--measure` what was measured on
one machine for the log is measured anew: bytes and time a row of reading prompts, of keeping an answer, of comparing.
"""

# ruff: noqa: T201 - a benchmark prints

import argparse
import json
import re
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import torch

import muscle_hf
from muscle_hf.losses.targets import tokens_of_a_slice
from muscle_hf.prediction.kept_answers import AnswersByPrompt, prompt_key
from muscle_hf.teachers.cache.spec import CacheSpec
from muscle_hf.update.rows import read_prompts

TRAIN_PAGE = Path(__file__).parents[1] / "docs" / "train.md"
DAY, HOUR = 86400.0, 3600.0

# A 70B model of the Llama 3 shape, in bfloat16.
LAYERS, HIDDEN, INNER, HEADS_KV, VOCABULARY = 80, 8192, 28672, 1024, 128_256
BASE_BYTES = 2
# LoRA on all linear layers; weight, gradient, AdamW's two averages in float32, and the new teacher's copy.
RANK, ADAPTER_BYTES = 16, 4 * 5
# H100 SXM, from its data sheet: dense bfloat16, memory, NVLink and network one way, and the share that is counted on.
FLOPS, HBM, HBM_SPEED, NVLINK, NETWORK = 989e12, 80e9, 3.35e12, 450e9, 50e9
SHARE_OF_FLOPS, SHARE_OF_SPEED = 0.4, 0.7
NODE = 8
# The labelled set, packed to the length, every token trained on; the tokens of a GPU in a step.
ROWS, LENGTH, EPOCHS, TOKENS_OF_A_GPU = 100_000, 512, 3, 8192
# The log.
PROMPTS, PROMPT_TOKENS, ANSWER_TOKENS = 1_000_000_000, 200, 50
# The rows that an update compares on, and how many a GPU asks at once where the models are in shards.
TEST_ROWS, ASK_BATCH_SIZE = 10_000, 32
# Sequences that are answered at once by the eight GPUs of a node, tensor-parallel.
AT_ONCE = 256

# `--measure` on one core of an x86 CPU, 2 cores shared with others, 30 November 2026: bytes and seconds a row.
MEASURED = {
    "read_bytes": 1540.0,
    "read_seconds": 1.5e-5,
    "kept_bytes": 1070.0,
    "kept_seconds": 1.3e-5,
    "compare_seconds": 1.4e-6,
}


def parameters() -> tuple[int, int]:
    """Return the parameters of the base, and of the adapter."""
    shapes = [(HIDDEN, HIDDEN), (HIDDEN, HEADS_KV), (HIDDEN, HEADS_KV), (HIDDEN, HIDDEN)]
    shapes += [(HIDDEN, INNER), (HIDDEN, INNER), (INNER, HIDDEN)]
    base = LAYERS * (sum(rows * columns for rows, columns in shapes) + 2 * HIDDEN) + 2 * VOCABULARY * HIDDEN + HIDDEN
    return base, LAYERS * RANK * sum(rows + columns for rows, columns in shapes)


@dataclass(frozen=True)
class Step:
    """A training step: passes in units of a forward pass, and how often each base's weights are gathered."""

    name: str
    passes: int
    gathered: int


# With checkpointing the student goes forward, forward again and backward; the frozen base needs the gradients of its
# inputs alone, which cost one pass. FSDP2 gathers for the forward pass and once for the backward one.
PLAIN = Step("plain LoRA training", 3, 2)
LIVE = Step("live: both teachers asked at each step", 5, 4)
CACHED = Step("from a cache", 3, 2)


def seconds_of_passes(passes: float, tokens: float, gpus: int) -> float:
    """Return the time of forward passes, two operations a parameter and token; attention's scores are left out."""
    return passes * 2 * parameters()[0] * tokens / (gpus * FLOPS * SHARE_OF_FLOPS)


def seconds_of_gathering(times: int, gpus: int) -> tuple[float, float]:
    """Return the bytes that each GPU receives when a base is gathered so many times, and the time of it.

    Within a node over NVLink; between nodes each of the eight GPUs brings in an eighth over its own network card, and
    both go on at the same time.
    """
    whole = times * parameters()[0] * BASE_BYTES
    received = whole * (gpus - 1) / gpus
    inside = received / (NVLINK * SHARE_OF_SPEED)
    between = whole * (gpus - NODE) / gpus / NODE / (NETWORK * SHARE_OF_SPEED)
    return received, max(inside, between)


def bytes_of_a_token(kind: str) -> int:
    """Return the bytes of a token in the teacher cache, of a chunk with two tokenizers."""
    both = dict.fromkeys(("old", "new"), torch.bfloat16)
    of_kind = {
        "sampled": {"k": 64, "temperature": 2.0},
        "topk": {"k": 64, "temperature": 2.0},
        "hidden": {"hidden_sizes": dict.fromkeys(both, HIDDEN)},
        "chunks": {},
    }[kind]
    return CacheSpec(kind, VOCABULARY, both, {}, **of_kind).bytes_per_token  # type: ignore[arg-type]


def measured_ratio() -> float:
    """Return how much longer a live step of a deep model was than a plain one, from the table of docs/train.md."""
    line = next(line for line in TRAIN_PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| live, in"))
    return float(re.findall(r"\| (\d\.\d\d) \(", line)[1])


def table(title: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [f"| {' | '.join(map(str, line))} |".replace("|  |", "| |") for line in (title, *rows)]
    return "\n".join([lines[0], "|---" * len(title) + "|", *lines[1:]]) + "\n"


def readable(count: float) -> str:
    """Write bytes as people do."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} PB"


def span(seconds: float) -> str:
    """Write a time as people do."""
    for unit, size in (("days", DAY), ("h", HOUR), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:,.{0 if seconds >= 100 * size else 1}f} {unit}"
    return f"{seconds:.2g} s"


def stated() -> str:
    """Return the table of what is assumed."""
    base, adapter = parameters()
    peaks = f"{FLOPS / 1e12:.0f} TFLOP/s, {HBM / 1e9:.0f} GB at {HBM_SPEED / 1e12} TB/s"
    links = f"NVLink {NVLINK / 1e9:.0f} GB/s, network {NETWORK / 1e9:.0f} GB/s a GPU"
    shape = f"{base / 1e9:.1f}B parameters each ({LAYERS} layers of {HIDDEN:,})"
    rows = [
        ("old and new base", f"{shape}, bfloat16, {readable(base * BASE_BYTES)}"),
        ("adapter", f"LoRA of rank {RANK} on all linear layers, {adapter / 1e6:.0f}M parameters in float32"),
        ("vocabulary", f"{VOCABULARY:,} tokens, one tokenizer"),
        ("labelled data", f"{ROWS:,} rows of {LENGTH} tokens, {EPOCHS} epochs"),
        ("a step", f"{TOKENS_OF_A_GPU:,} tokens on each GPU, every one trained on"),
        ("GPU (H100 SXM)", f"{peaks}, {links}"),
        ("counted on", f"{SHARE_OF_FLOPS:.0%} of the operations, {SHARE_OF_SPEED:.0%} of each bandwidth"),
        ("log", f"{PROMPTS:,} prompts of {PROMPT_TOKENS} tokens, answers of {ANSWER_TOKENS}"),
    ]
    return table(("what", "stated"), rows)


def memory() -> str:
    """Return the table of bytes on each GPU."""
    base, adapter = parameters()
    # The layer in use and the next one; embeddings and LM head, as large as each other, one at a time.
    layer = (base - 2 * VOCABULARY * HIDDEN) / LAYERS
    gathered = BASE_BYTES * (2 * layer + VOCABULARY * HIDDEN)
    # What goes into each layer, and all that one layer keeps while it is computed again (17 numbers a hidden one).
    activations = TOKENS_OF_A_GPU * HIDDEN * BASE_BYTES * (LAYERS + 17)
    a_slice = 13 * 4 * VOCABULARY * tokens_of_a_slice(VOCABULARY, torch.device("cuda"))
    full = 13 * 4 * VOCABULARY * TOKENS_OF_A_GPU
    parts: list[tuple[str, Callable[[int], float]]] = [
        ("new base, its shard", lambda gpus: base * BASE_BYTES / gpus),
        ("old base, its shard (none with a cache)", lambda gpus: base * BASE_BYTES / gpus),
        ("adapter with gradients, AdamW and the teacher's copy", lambda gpus: adapter * ADAPTER_BYTES / gpus),
        ("layers that are gathered", lambda _: gathered),
        ("activations, with checkpointing", lambda _: activations),
        ("logits, in slices", lambda _: a_slice),
    ]
    rows = [(name, *(readable(of(gpus)) for gpus in (8, 64))) for name, of in parts]
    totals = [sum(of(gpus) for _, of in parts) for gpus in (8, 64)]
    rows.append(("all of it", *map(readable, totals)))
    rows.append(("the same with full logits", *(readable(total - a_slice + full) for total in totals)))
    return table(("bytes on each GPU", "8 GPUs", "64 GPUs"), rows)


def steps() -> str:
    """Return the table of times, of each way on each number of GPUs."""
    rows = []
    tokens = ROWS * LENGTH
    for gpus in (8, 64):
        for step in (PLAIN, LIVE, CACHED):
            computing = seconds_of_passes(step.passes, gpus * TOKENS_OF_A_GPU, gpus)
            received, gathering = seconds_of_gathering(step.gathered, gpus)
            hours = EPOCHS * tokens / (gpus * TOKENS_OF_A_GPU) * max(computing, gathering)
            filling = f"{span(seconds_of_passes(2, tokens, gpus))}" if step is CACHED else ""
            both = [f"{step.passes}", span(computing), readable(received), span(gathering), span(hours), filling]
            rows.append((gpus, step.name, *both))
    title = ("GPUs", "step", "passes", "computing", "gathered by a GPU", "gathering", "training", "filling the cache")
    return table(title, rows)


def caches() -> str:
    """Return the table of bytes of a teacher cache, and of what a step reads of it."""
    rows = []
    for kind, of_what in (
        ("sampled", "tokens"),
        ("topk", "tokens"),
        ("hidden", "tokens"),
        ("chunks", "chunks, at most one a token"),
    ):
        each = bytes_of_a_token(kind)
        needed = each * NODE * TOKENS_OF_A_GPU / seconds_of_passes(CACHED.passes, TOKENS_OF_A_GPU, 1)
        log = PROMPTS * ANSWER_TOKENS * each
        rows.append((kind, of_what, each, readable(ROWS * LENGTH * each), f"{readable(needed)}/s", readable(log)))
    title = ("cache", "of", "bytes each, both teachers", "labelled data", "read by 8 GPUs", "answers of the whole log")
    return table(title, rows)


def reading_of(prompts: int) -> float:
    """Return the time in which 64 GPUs read prompts."""
    return seconds_of_passes(1, prompts * PROMPT_TOKENS, 64)


def writing_of(prompts: int) -> float:
    """Return the time in which 64 GPUs write answers: each token reads the weights and the keys and values so far."""
    values = AT_ONCE * (PROMPT_TOKENS + ANSWER_TOKENS / 2) * LAYERS * 2 * HEADS_KV * BASE_BYTES
    step = (parameters()[0] * BASE_BYTES + values) / (NODE * HBM_SPEED * SHARE_OF_SPEED)
    return prompts * ANSWER_TOKENS * step / AT_ONCE / (64 / NODE)


def split_answers() -> str:
    """Return the table of answers by models in shards: each token takes a pass, and each pass gathers the base."""
    rows = []
    for gpus in (8, 64):
        at_once = ASK_BATCH_SIZE * gpus
        token = seconds_of_gathering(1, gpus)[1]
        batches = -(-TEST_ROWS // at_once)
        of_model = batches * (1 + ANSWER_TOKENS) * token
        rows.append((str(gpus), f"{at_once:,}", span(token), span(of_model), span(4 * of_model)))
    of_rows = f"{TEST_ROWS:,} rows of {ANSWER_TOKENS} tokens, one model"
    return table(("GPUs", "rows at once", "a token of each", of_rows, "the four models of an update"), rows)


def log() -> str:
    """Return the table of what the log takes."""
    reading, writing = reading_of(PROMPTS), writing_of(PROMPTS)
    sample = round(1.5 * ROWS)
    share = sample / PROMPTS
    rows = [
        ("prompts and answers as text, four bytes a token", readable(PROMPTS * (PROMPT_TOKENS + ANSWER_TOKENS) * 4)),
        ("answering all on 64 GPUs: prompts read", span(reading)),
        (f"answering all on 64 GPUs: answers written, {AT_ONCE} at once a node", span(writing)),
        (f"answering {sample:,} of them, 1.5 for each labelled row", span(share * (reading + writing))),
        ("`update` holds all prompts in memory, in each process", readable(PROMPTS * MEASURED["read_bytes"])),
        ("`update` reads them, one core", span(PROMPTS * MEASURED["read_seconds"])),
        ("answers kept by prompt, on disk", readable(PROMPTS * MEASURED["kept_bytes"])),
        ("answers kept by prompt, written by one core", span(PROMPTS * MEASURED["kept_seconds"])),
        ("two models' answers compared from Parquet, one core", span(PROMPTS * MEASURED["compare_seconds"])),
    ]
    return table(("a billion prompts", "takes"), rows)


def rates() -> str:
    """Return the table of how well an NFR of 2 % is known from so many questions."""
    rows = []
    for n in (1_000, 10_000, 100_000, 1_000_000):
        right = np.ones(n, dtype=bool)
        low, high = muscle_hf.compare_correct(old=right, new=np.arange(n) >= n // 50).confidence_interval(
            "negative_flip_rate"
        )
        rows.append((f"{n:,}", f"{100 * low:.2f} to {100 * high:.2f} %", span(reading_of(n) + writing_of(n))))
    return table(("questions", "95 % interval of an NFR of 2 %", "asking one model on 64 GPUs"), rows)


def report() -> str:
    """Return all tables."""
    ratio = LIVE.passes / PLAIN.passes
    check = (
        f"A live step has {LIVE.passes} / {PLAIN.passes} = {ratio:.2f} of the passes of a plain one; measured on the "
        f"deep model of\n[Train](train.md#memory-and-speed): {measured_ratio():.2f} of the time.\n"
    )
    return "\n".join([stated(), memory(), check, steps(), split_answers(), caches(), log(), rates()])


def measure(rows: int) -> dict[str, float]:
    """Measure what the log takes: bytes and seconds a row."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        words = "how much is left on my account after the rent of " * 16
        file = folder / "prompts.jsonl"
        lines = (json.dumps({"prompt": f"{words}{i}"[-4 * PROMPT_TOKENS :]}) + "\n" for i in range(rows))
        file.write_text("".join(lines), encoding="utf-8")
        begun = time.process_time()
        prompts, _ = read_prompts(str(file), None, [])
        read_seconds = time.process_time() - begun
        del prompts
        tracemalloc.start()
        prompts, _ = read_prompts(str(file), None, [])
        read_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        texts = [row["prompt"] for row in prompts]
        of_reading = {"read_bytes": read_bytes / rows, "read_seconds": read_seconds / rows}
        return of_reading | _kept(folder, texts) | _compared(folder, rows)


def _kept(folder: Path, prompts: Sequence[str]) -> dict[str, float]:
    """Keep an answer to each prompt, a batch at a time, as the asking does."""
    kept = AnswersByPrompt(folder / "answers", "old", {"old": "a model"})
    answer = {"completion": "the rent of " * 16, "log_likelihood": -1.5, "tokens": ANSWER_TOKENS, "finished": True}
    begun = time.process_time()
    for start in range(0, len(prompts), AT_ONCE):
        kept.add({prompt_key(prompt): answer for prompt in prompts[start : start + AT_ONCE]})
    seconds = time.process_time() - begun
    size = sum(file.stat().st_size for file in (folder / "answers").rglob("*.jsonl"))
    return {"kept_bytes": size / len(prompts), "kept_seconds": seconds / len(prompts)}


def _compared(folder: Path, rows: int) -> dict[str, float]:
    """Compare two files of answers."""
    for name in ("old", "new"):
        columns = {"id": range(rows), "prediction": [f"{name} {row % 3}" for row in range(rows)]}
        gold = pa.table({**{key: list(values) for key, values in columns.items()}, "reference": ["old 1"] * rows})
        pyarrow.parquet.write_table(gold, folder / f"{name}.parquet")
    begun = time.process_time()
    muscle_hf.compare_runs(str(folder / "old.parquet"), str(folder / "new.parquet"))
    return {"compare_seconds": (time.process_time() - begun) / rows}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables, or what is measured anew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true", help="measure what the log takes on this machine")
    parser.add_argument("--rows", type=int, default=100_000, help="rows that are measured with (default: 100000)")
    options = parser.parse_args(arguments)
    print(json.dumps(measure(options.rows), indent=1) if options.measure else report().rstrip())


if __name__ == "__main__":
    main()
