"""Time and peak memory of a training step: TRL's trainers without and with one teacher, and ours with two.

    python benchmarks/training.py                                    # both tables of the documentation
    python benchmarks/training.py --vocabulary 8192 --length 256     # a setting of one's own

One Llama of the given size with LoRA 16 on all linear layers, on the same batch in every way, TRL's defaults, such as
gradient checkpointing, included. The student is right on half of the trained tokens, so that both teachers have
work. Time: rounds of one step in each way, one after the other; the ratio to SFTTrainer is taken within each round,
and the median is printed with the lowest and the highest. Memory: a fresh process for each way, the highest resident
set during two steps; the weights of the old model, where it is loaded, are shown apart.

TRL's trainers with a teacher learn from the old model alone, by forward KL on the same batch.
`GKDTrainer` takes full logits and reads data (lmbda=0). `DistillationTrainer` has a loss in tiles and knows answers of
the student alone: it is handed the batch as if these were its own, without the time to generate them.
"""

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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
import trl
from datasets import Dataset, disable_progress_bars
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import DistillationConfig, DistillationTrainer, SFTConfig, SFTTrainer
from trl.experimental.gkd import GKDConfig, GKDTrainer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from muscle_hf import CompatibilityConfig, CompatibilityTrainer
from muscle_hf.text import markdown_table

# What is a class is a trainer of TRL.
WAYS: dict[str, Any] = {
    "SFTTrainer": SFTTrainer,
    "GKDTrainer (one teacher)": GKDTrainer,
    "DistillationTrainer (one teacher)": DistillationTrainer,
    "full logits (three passes)": {"loss_implementation": "plain"},
    "live, in slices": {"loss_implementation": "chunked"},
    "cached, topk": {"teacher_cache": "topk"},
    "cached, sampled": {"teacher_cache": "sampled"},
    "cached, hidden": {"teacher_cache": "hidden"},
}
TABLES = {
    "large vocabulary": {"vocabulary": 128_256, "length": 1024, "batch": 1, "hidden": 256, "layers": 8},
    "deep model": {"vocabulary": 8192, "length": 256, "batch": 4, "hidden": 512, "layers": 12},
}


def tokenizer_of(size: int) -> PreTrainedTokenizerFast:
    """Return a tokenizer with that many words, of which none is ever looked up."""
    words = {f"w{number}": number for number in range(size)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))  # noqa: S106 - a word, not a secret
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="w0", eos_token="w1", bos_token="w2")  # noqa: S106


def model_of(size: argparse.Namespace, seed: int) -> LlamaForCausalLM:
    """Return a Llama of the size asked for, with random weights."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=size.vocabulary,
            hidden_size=size.hidden,
            intermediate_size=2816 * size.hidden // 1024,
            num_hidden_layers=size.layers,
            num_attention_heads=size.hidden // 64,
            num_key_value_heads=size.hidden // 64,
            max_position_embeddings=size.length,
            tie_word_embeddings=False,
            pad_token_id=0,
            bos_token_id=2,
            eos_token_id=1,
        )
    ).to(size.device)


def adapted(size: argparse.Namespace, seed: int) -> Any:
    """Return such a Llama with an adapter that changes what it says."""
    model = get_peft_model(model_of(size, seed), LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM"))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.02)
    return model


def rows_of(size: argparse.Namespace) -> Dataset:
    """Return encoded rows on which the student is right at every second token."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, size.vocabulary, (size.batch, size.length), generator=generator)
    student, rows = adapted(size, 2).eval(), []
    for row in ids:
        with torch.no_grad():
            hidden = student.get_base_model().model(row[None].to(size.device)).last_hidden_state[0]
            said = torch.cat([student.get_output_embeddings()(few).argmax(-1) for few in hidden.split(64)]).cpu()
        labels = row.clone()
        labels[2::2] = said[1:-1:2]
        rows.append({"input_ids": row.tolist(), "labels": labels.tolist()})
    return Dataset.from_list(rows)


def trainer_of(way: str, size: argparse.Namespace, rows: Dataset, folder: Path) -> Any:
    """Return a trainer that is ready to step."""
    options = WAYS[way]
    common = {
        "output_dir": str(folder / way.replace(" ", "-")),
        "per_device_train_batch_size": size.batch,
        "max_length": size.length,
        "bf16": size.bf16,
        "use_cpu": size.device == "cpu",
        "report_to": "none",
        "save_strategy": "no",
    }
    if options is SFTTrainer:
        arguments = SFTConfig(**common)
        trainer = SFTTrainer(adapted(size, 2), args=arguments, train_dataset=rows, processing_class=size.tokenizer)
    elif options is GKDTrainer:
        arguments = GKDConfig(**common, lmbda=0.0, beta=0.0, temperature=2.0)
        collate = DataCollatorForLanguageModeling(pad_token_id=0)
        data = {"train_dataset": rows, "data_collator": collate, "processing_class": size.tokenizer}
        trainer = GKDTrainer(adapted(size, 2), model_of(size, 1), args=arguments, **data)
    elif options is DistillationTrainer:
        trainer = distillation(size, rows, common)
    else:
        trainer = CompatibilityTrainer(
            adapted(size, 2),
            model_of(size, 1),
            args=CompatibilityConfig(**common, **options),
            train_dataset=rows,
            processing_class=size.tokenizer,
        )
        if options.get("teacher_cache"):
            trainer.cache_teachers()
            # A model that was passed as an object cannot be loaded again, so the pair keeps it; here nobody needs it.
            vars(trainer.teachers.pair).clear()
    trainer.create_optimizer()
    trainer.model.train()
    if options is not DistillationTrainer:
        trainer.batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    return trainer


def distillation(size: argparse.Namespace, rows: Dataset, common: dict[str, Any]) -> DistillationTrainer:
    """Return TRL's trainer with one teacher, whose batch are the rows after their first token."""
    options = {name: value for name, value in common.items() if name != "max_length"}
    arguments = DistillationConfig(**options, beta=0.0, temperature=2.0, max_completion_length=size.length)
    data = {"train_dataset": Dataset.from_list([{"prompt": "w3"}] * size.batch), "processing_class": size.tokenizer}
    trainer = DistillationTrainer(adapted(size, 2), model_of(size, 1), args=arguments, **data)
    trainer.current_gradient_accumulation_steps = 1
    trainer._prepare_inputs = lambda batch: batch  # which would generate
    ids = torch.tensor(rows["input_ids"], device=size.device)
    labels, everything = torch.tensor(rows["labels"], device=size.device), torch.ones_like(ids)
    parts = {"prompt_ids": ids[:, :1], "completion_ids": ids[:, 1:], "labels": labels}
    masks = {"prompt_mask": everything[:, :1], "completion_mask": everything[:, 1:]}
    trainer.batch = parts | masks | {"num_items_in_batch": everything[:, 1:].sum().float()}
    return trainer


def step(trainer: Any) -> float:
    """Take one optimizer step and return its seconds."""
    tokens = (trainer.batch["labels"][:, 1:] != -100).sum()
    start = time.perf_counter()
    trainer.training_step(trainer.model, dict(trainer.batch), num_items_in_batch=tokens)
    trainer.optimizer.step()
    trainer.optimizer.zero_grad()
    if trainer.args.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def peak_of(way: str, size: argparse.Namespace) -> dict[str, float]:
    """Take two steps in this process and return its peak memory and the old model's weights, in MiB."""
    rows = rows_of(size)
    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_of(way, size, rows, Path(folder))
        if size.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        else:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forgets the peak of what came before
        for _ in range(2):
            step(trainer)
        if size.device == "cuda":
            peak = torch.cuda.max_memory_allocated() / 2**20
        else:
            status = Path("/proc/self/status").read_text(encoding="ascii")
            peak = int(status.partition("VmHWM:")[2].split()[0]) / 2**10
    is_live = getattr(trainer, "old_teacher", None) is not None or hasattr(trainer, "teacher_model")
    old = sum(weight.numel() * weight.element_size() for weight in model_of(size, 1).parameters()) / 2**20
    return {"peak": peak, "old": old if is_live else 0.0}


def measure(title: str, size: argparse.Namespace, ways: Sequence[str], rounds: int, *, memory: bool) -> str:
    """Return a table of some ways, of their time alone where memory is not asked for."""
    peaks = {}
    for way in ways if memory else ():
        command = [sys.executable, __file__, "--peak-of", way, "--device", size.device]
        command += [
            f"--{name}={getattr(size, name)}" for name in ("vocabulary", "length", "batch", "hidden", "layers")
        ]
        result = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - this very file
        peaks[way] = json.loads(result.stdout.splitlines()[-1])
    rows = rows_of(size)
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as folder:
        trainers = {way: trainer_of(way, size, rows, Path(folder)) for way in ways}
        for number in range(rounds + 1):
            for way, trainer in trainers.items():
                taken = step(trainer)
                if number:  # the first round warms up
                    seconds[way].append(taken)
    table = []
    for way in ways:
        ratios = [one / other for one, other in zip(seconds[way], seconds["SFTTrainer"], strict=True)]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        row = [way, f"{statistics.median(seconds[way]):.2f}", spread]
        if memory:
            peak, old = peaks[way]["peak"], peaks[way]["old"]
            row += [f"{peak:.0f}", f"{old:.0f}", f"{(peak - old) / peaks['SFTTrainer']['peak']:.2f}"]
        table.append(row)
    head = ["way", "s a step", "ratio of times"]
    head += ["peak, MiB", "of it old model", "ratio of peaks without it"] if memory else []
    sizes = f"vocabulary {size.vocabulary}, {size.batch} x {size.length} tokens, {size.layers} layers of {size.hidden}"
    return f"{title}: {sizes}; {rounds} rounds\n\n{markdown_table(head, table)}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("vocabulary", "length", "batch", "hidden", "layers"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--table", choices=TABLES, action="append", help="one of the tables; by default both")
    parser.add_argument("--way", choices=WAYS, action="append", help="beside SFTTrainer; by default all")
    parser.add_argument("--no-memory", action="store_true", help="time alone")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cpu", "cuda"])
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)
    parsed = parser.parse_args(arguments)
    own = {name: getattr(parsed, name) for name in TABLES["deep model"] if getattr(parsed, name) is not None}
    chosen, ways = parsed.table or TABLES, list(WAYS) if parsed.way is None else ["SFTTrainer", *parsed.way]
    tables = {"your setting": TABLES["deep model"] | own} if own else {name: TABLES[name] for name in chosen}
    for title, options in tables.items():
        size = argparse.Namespace(**options, device=parsed.device, bf16=parsed.device == "cuda")
        size.tokenizer = tokenizer_of(size.vocabulary)
        if parsed.peak_of:
            print(json.dumps(peak_of(parsed.peak_of, size)))  # noqa: T201
            return
        shown = measure(title, size, ways, parsed.rounds, memory=not parsed.no_memory)
        print(shown + "\n", flush=True)  # noqa: T201
    machine = torch.cuda.get_device_name() if parsed.device == "cuda" else f"{platform.machine()} CPU"
    print(  # noqa: T201
        f"{machine}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"transformers {transformers.__version__}, trl {trl.__version__}"
    )


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    transformers.utils.logging.set_verbosity_error()
    logging.getLogger("muscle_hf").setLevel(logging.ERROR)
    disable_progress_bars()
    main()
