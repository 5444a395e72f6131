"""What do cached targets change in the loss and in training, how large are they, and how fast is a cache?

    python benchmarks/teacher_cache.py

Prints three Markdown tables. The demo's old model teaches its new base (or, with `--model FOLDER`, a model in the
usual format teaches itself with noise on its weights), on the completions of the demo's task and on sentences of
Wikipedia.

The first holds the KL divergence (forward, T = 2, in nats a token) from stored targets, and its gradient with respect
to the last hidden states, against those over the whole vocabulary: the error of the mean gradient of all tokens, over
all draws, which bias makes, and the standard deviation at one token, both as a share of the exact one. The second
trains a LoRA adapter with such targets, each token's drawn once, and says how far the student then is from the
teacher on other rows, in full. The third writes a cache, and reads steps of 8,192 tokens from it, of rows in random
order, from the page cache.
"""

# ruff: noqa: T201 - a benchmark prints

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from muscle_hf.demo.data import read_sentences
from muscle_hf.demo.task import BASE_V1, BASE_V2, OLD_ADAPTER, load_base, load_tokenizer, read_rows
from muscle_hf.losses.divergences import forward_kl, kl_divergence
from muscle_hf.losses.sampled import decode_sampled, draws_of, encode_sampled, sampled_kl
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


Estimate = Callable[[Tensor], Tensor]


def estimate_from(kind: str, teacher: Tensor, k: int, numbers: np.ndarray) -> Estimate:
    """Return the divergence of student logits from stored targets of a teacher; `numbers` decide about the draws."""
    gold = torch.zeros(len(teacher), dtype=torch.long)
    if kind == "full":
        return lambda student: forward_kl(teacher, student, TEMPERATURE)
    if kind == "topk":
        target = decode_top_k(encode_top_k(teacher, gold, k=k, temperature=TEMPERATURE))
        classes = torch.cat([target.log_probabilities, target.tail[:, None]], dim=-1)
        return lambda student: kl_divergence(classes, top_k_classes(student, target.ids, TEMPERATURE))
    stored = encode_sampled(teacher, gold, draws_of(numbers), k=k, temperature=TEMPERATURE)
    drawn = decode_sampled(stored)
    return lambda student: sampled_kl(drawn, student, TEMPERATURE)


def value_and_gradient(estimate: Estimate, student: Tensor, head: Tensor) -> tuple[Tensor, Tensor]:
    """Return each token's divergence, (tokens,), and its gradient with respect to hidden states, (tokens, size)."""
    logits = student.clone().requires_grad_()
    value = estimate(logits)
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    return value.detach(), gradient @ head


def print_errors(options: argparse.Namespace) -> None:
    """Print the table of divergences and gradients."""
    teacher, student, tokenizer = models_of(options.model)
    head = student.get_output_embeddings().weight.detach().float()
    texts = {
        "completions": [(row["prompt"], row["completion"]) for row in read_rows("val", options.rows)],
        "sentences": [("", sentence) for sentence in read_sentences()[: options.rows]],
    }
    columns = ("texts", "tokens", "targets", "k", "bytes", "KL, full", "KL, cached", "difference")
    columns += ("error of the mean gradient", "deviation at a token")
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    for name, some in texts.items():
        old, new = pairs_of_logits(teacher, student, tokenizer, some)
        old, new = old[: options.most], new[: options.most]
        exact, gradient = value_and_gradient(estimate_from("full", old, 0, np.arange(0)), new, head)
        for k in SIZES:
            for kind in ("topk", "sampled"):
                draws = options.draws if kind == "sampled" else 1
                found = [
                    value_and_gradient(estimate_from(kind, old, k, np.arange(len(old)) + draw * len(old)), new, head)
                    for draw in range(draws)
                ]
                value = torch.stack([value for value, _ in found]).mean().item()
                gradients = [one for _, one in found]
                mean = torch.stack([one.mean(0) for one in gradients]).mean(0)
                bias = ((mean - gradient.mean(0)).norm() / gradient.mean(0).norm()).item()
                center = torch.stack(gradients).mean(0)
                spread = sum((one - center).square().sum().item() for one in gradients) / max(draws - 1, 1)
                deviation = (spread / gradient.square().sum().item()) ** 0.5
                print(
                    f"| {name} | {len(old)} | {kind} | {k} | {spec_of(k, kind).bytes_per_token // 2} | "
                    f"{exact.mean():.4f} | {value:.4f} | {value / exact.mean() - 1:+.2%} | "
                    f"{bias:.2%} | {deviation:.2f} |"
                )


def models_of(folder: str | None) -> tuple[Any, Any, Any]:
    """Return teacher, student and tokenizer."""
    if folder is None:
        teacher = PeftModel.from_pretrained(load_base(BASE_V1), OLD_ADAPTER).eval()
        return teacher, load_base(BASE_V2).eval(), load_tokenizer()
    teacher, student = (AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval() for _ in range(2))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in student.parameters():
            weight += 0.1 * weight.std() * torch.randn(weight.shape, generator=generator) if weight.dim() > 1 else 0
    return teacher, student, AutoTokenizer.from_pretrained(folder)


def print_training(options: argparse.Namespace) -> None:
    """Print the table of trainings: the distance that is left to the teacher, in full, on other rows."""
    teacher, _, tokenizer = models_of(None)
    rows = [(row["prompt"], row["completion"]) for row in read_rows("val", options.rows)]
    held_out = rows[: len(rows) // 4]
    left: dict[tuple[str, int], list[float]] = {}
    for seed in range(options.seeds):
        for kind, k in (("full", 0), *((kind, k) for k in SIZES[:2] for kind in ("topk", "sampled"))):
            student = trained_student(kind, k, teacher, tokenizer, rows[len(rows) // 4 :], options.steps, seed)
            pair = pairs_of_logits(teacher, student, tokenizer, held_out)
            left.setdefault((kind, k), []).append(forward_kl(*pair, TEMPERATURE).mean().item())
    print(f"\n{options.steps} steps of 8 rows, {options.seeds} seeds\n")
    columns = ("targets", "k", "KL left to the teacher, in full", "minus that of full targets, 95 % interval")
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    for (kind, k), found in left.items():
        apart = np.array(found) - np.array(left["full", 0])
        half = student_t(len(apart)) * apart.std(ddof=1) / len(apart) ** 0.5 if len(apart) > 1 else float("nan")
        shown = (
            "" if kind == "full" else f"{apart.mean():+.4f} [{apart.mean() - half:+.4f}, {apart.mean() + half:+.4f}]"
        )
        print(f"| {kind} | {k or 'all'} | {np.mean(found):.4f} | {shown} |")


def student_t(count: int) -> float:
    """Return the 97.5 % quantile of Student's distribution for the mean of so many."""
    from scipy.stats import t

    return float(t.ppf(0.975, count - 1))


def trained_student(
    kind: str, k: int, teacher: Any, tokenizer: Any, rows: Sequence[tuple[str, str]], steps: int, seed: int
) -> Any:
    """Train an adapter on the new base towards stored targets; a row has the same targets whenever it comes."""
    torch.manual_seed(seed)
    student = get_peft_model(load_base(BASE_V2), LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM"))
    optimizer = torch.optim.AdamW([one for one in student.parameters() if one.requires_grad], lr=2e-3)
    order = np.random.default_rng(seed)
    for _ in range(steps):
        optimizer.zero_grad()
        losses = []
        for row in order.choice(len(rows), min(8, len(rows)), replace=False).tolist():
            first = len(tokenizer(rows[row][0])["input_ids"])
            ids = torch.tensor([tokenizer("".join(rows[row]))["input_ids"]])
            with torch.no_grad():
                old = teacher(input_ids=ids).logits[0, first - 1 : -1]
            numbers = np.arange(len(old)) + 1000 * (row + 1000 * seed)
            losses.append(estimate_from(kind, old, k, numbers)(student(input_ids=ids).logits[0, first - 1 : -1]))
        torch.cat(losses).mean().backward()
        optimizer.step()
    return student.eval()


def spec_of(k: int, kind: str = "topk") -> CacheSpec:
    """Return the spec of a cache of models with the vocabulary of the demo's."""
    both = {"old": torch.float32, "new": torch.float32}
    return CacheSpec(kind, 3072, both, {"data": "random"}, k=k, temperature=TEMPERATURE)


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
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=300, help="texts of each kind (default: 300)")
    parser.add_argument("--most", type=int, default=1000, help="tokens of each kind (default: 1000)")
    parser.add_argument("--draws", type=int, default=16, help="draws of each token (default: 16)")
    parser.add_argument("--seeds", type=int, default=5, help="trainings of each kind (default: 5)")
    parser.add_argument("--steps", type=int, default=60, help="steps of each training (default: 60; 0: none)")
    parser.add_argument("--tokens", type=int, default=200_000, help="tokens of the cache (default: 200000)")
    parser.add_argument("--model", metavar="FOLDER", help="a model for the first table alone, in place of the demo's")
    options = parser.parse_args(arguments)
    print_errors(options)
    if options.model is None:
        if options.steps:
            print_training(options)
        print_speed(options.tokens)


if __name__ == "__main__":
    main()
