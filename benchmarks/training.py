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
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from steps import chosen_tables, machine, parser_of, peak_of, peaks_of, quiet, times_of
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


def measure(title: str, size: argparse.Namespace, ways: Sequence[str], rounds: int, *, memory: bool) -> str:
    """Return a table of some ways, of their time alone where memory is not asked for."""
    peaks = peaks_of(__file__, ways, size, list(TABLES["deep model"])) if memory else {}
    rows = rows_of(size)
    with tempfile.TemporaryDirectory() as folder:
        times = times_of({way: trainer_of(way, size, rows, Path(folder)) for way in ways}, rounds)
    table = []
    for way in ways:
        row = [way, *times[way]]
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
    parser = parser_of(__doc__, list(WAYS), TABLES)
    parser.add_argument("--no-memory", action="store_true", help="time alone")
    parsed = parser.parse_args(arguments)
    ways = list(WAYS) if parsed.way is None else ["SFTTrainer", *parsed.way]
    for title, size in chosen_tables(parsed, TABLES, "deep model").items():
        size.tokenizer = tokenizer_of(size.vocabulary)
        if parsed.peak_of:
            make = partial(trainer_of, parsed.peak_of, size, rows_of(size))
            print(json.dumps(peak_of(make, partial(model_of, size, 1), size.device)))  # noqa: T201
            return
        shown = measure(title, size, ways, parsed.rounds, memory=not parsed.no_memory)
        print(shown + "\n", flush=True)  # noqa: T201
    print(machine(parsed.device))  # noqa: T201


if __name__ == "__main__":
    quiet()
    main()
