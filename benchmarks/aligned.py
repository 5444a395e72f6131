"""Time and peak memory of a training step with two tokenizers: SFTTrainer, and `alignment="chunks"` in three ways.

    python benchmarks/aligned.py                                     # the tables of the documentation
    python benchmarks/aligned.py --vocabulary 262144 --length 1024   # a setting of one's own

A Gemma 3 of the given size with LoRA 16 on all linear layers, and an old Llama of 49,152 tokens, 4 layers of 256. Of
the words three quarters are one token on both sides, the others one token here and two there. Every second chunk
learns from the old model, so that both teachers have work. Everything else, and how memory is taken, is as in
`training.py`; the peak is shown with and without the weights of the old model. Time is that of the processor (on a
GPU that of the clock), so that others on the machine count less.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from steps import chosen_tables, machine, parser_of, peak_of, peaks_of, quiet, times_of
from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer

from muscle_hf import CompatibilityConfig, CompatibilityTrainer
from muscle_hf.losses import Scores
from muscle_hf.text import markdown_table

WAYS: dict[str, dict[str, Any] | None] = {
    "SFTTrainer": None,
    "full logits": {"loss_implementation": "plain"},
    "in slices": {"loss_implementation": "chunked"},
    "by size": {},
    "cached": {"teacher_cache": "chunks"},
}
TABLES = {
    "128k": {"vocabulary": 128_256, "length": 1024, "answer": 1024, "batch": 1, "hidden": 256, "layers": 8},
    "262k": {"vocabulary": 262_144, "length": 1024, "answer": 1024, "batch": 1, "hidden": 640, "layers": 4},
    "short rows": {"vocabulary": 262_144, "length": 22, "answer": 5, "batch": 8, "hidden": 640, "layers": 18},
}
SPECIAL = ("<pad>", "<eos>", "<bos>")
SHARED, OLD_VOCABULARY = 30_000, 49_152  # words that are one token on both sides


def word(number: int) -> str:
    """Return a token of the new vocabulary as a text."""
    # No word ends in a digit: a number would be compared together with what follows it.
    return SPECIAL[number] if number < 3 else f"a{number}z" if number < SHARED else f"b{number:06}z"


def tokenizer_of(tokens: Sequence[str], pieces: str) -> PreTrainedTokenizerFast:
    """Return a tokenizer of these tokens, which cuts a text at white space and then into pieces."""
    tokenizer = Tokenizer(models.WordLevel({token: number for number, token in enumerate(tokens)}, unk_token="<pad>"))  # noqa: S106 - a word, not a secret
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex(pieces), "isolated")]
    )
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>")  # noqa: S106


def new_tokenizer(size: argparse.Namespace) -> PreTrainedTokenizerFast:
    """Return the new tokenizer: each word is a token."""
    return tokenizer_of([word(number) for number in range(size.vocabulary)], r"\S+")


def old_tokenizer() -> PreTrainedTokenizerFast:
    """Return the old tokenizer: some words are cut into two tokens."""
    tokens = [word(number) for number in range(SHARED)]
    tokens += [cut.format(number) for number in range(1000) for cut in ("b{:03}", "{:03}z")]
    return tokenizer_of([*tokens, *(f"<{n}>" for n in range(OLD_VOCABULARY - len(tokens)))], r"a\d+z|b\d{3}|\d{3}z")


def student_of(size: argparse.Namespace) -> Any:
    """Return the new base with an adapter that changes what it says."""
    torch.manual_seed(2)
    config = Gemma3TextConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.hidden,
        intermediate_size=3 * size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=size.hidden // 4,
        max_position_embeddings=4096,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
    )
    base = Gemma3ForCausalLM(config).to(size.device)
    targets = r".*\.(?:[qkvo]|gate|up|down)_proj"
    model = get_peft_model(base, LoraConfig(r=16, target_modules=targets, task_type="CAUSAL_LM"))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.02)
    return model


def old_model_of(size: argparse.Namespace) -> LlamaForCausalLM:
    """Return the old model."""
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=OLD_VOCABULARY,
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=8192,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
    )
    return LlamaForCausalLM(config).to(size.device)


def rows_of(size: argparse.Namespace) -> list[dict[str, str]]:
    """Return prompts and completions of random words, three quarters of them of those that both sides have."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(3, SHARED, (size.batch, size.length - 1), generator=generator)
    rest = torch.randint(SHARED, size.vocabulary, drawn.shape, generator=generator)
    ids = torch.where(torch.rand(drawn.shape, generator=generator) < 0.25, rest, drawn).tolist()
    words = [[word(number) for number in row] for row in ids]
    cut = max(1, size.length - size.answer)  # the end token is one of the answer's
    return [{"prompt": " ".join(row[:cut]), "completion": " " + " ".join(row[cut:])} for row in words]


def every_second(scores: Scores) -> torch.Tensor:
    """Mark every second chunk, whatever the student says, and ask it all the same."""
    return scores.student.right | (scores.gold % 2 == 0)


def trainer_of(way: str, size: argparse.Namespace, folder: Path) -> Any:
    """Return a trainer that is ready to step."""
    options = WAYS[way]
    common = {
        "output_dir": str(folder / way.replace(" ", "-")),
        "per_device_train_batch_size": size.batch,
        "max_length": size.length,
        "completion_only_loss": size.answer < size.length,
        "bf16": size.bf16,
        "use_cpu": size.device == "cpu",
        "report_to": "none",
        "save_strategy": "no",
        "learning_rate": 1e-5,
    }
    data = {"train_dataset": Dataset.from_list(rows_of(size)), "processing_class": new_tokenizer(size)}
    if options is None:
        trainer = SFTTrainer(student_of(size), args=SFTConfig(**common), **data)
    else:
        old, tokenizer = old_model_of(size), old_tokenizer()
        # Beside a model on the disk lies its tokenizer, where the trainer looks for it.
        old.save_pretrained(folder / "old")
        tokenizer.save_pretrained(folder / "old")
        arguments = CompatibilityConfig(**common, alignment="chunks", **options)
        trainer = CompatibilityTrainer(
            student_of(size), str(folder / "old"), args=arguments, mask=every_second, **data
        )
        if options.get("teacher_cache"):
            trainer.cache_teachers()
    trainer.create_optimizer()
    trainer.model.train()
    trainer.batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    return trainer


def measure(title: str, size: argparse.Namespace, ways: Sequence[str], rounds: int) -> str:
    """Return a table of some ways; without rounds, of their memory alone."""
    peaks = peaks_of(__file__, ways, size, list(TABLES["262k"]))
    times = {way: ["", ""] for way in ways}
    if rounds:
        clock = time.perf_counter if size.device == "cuda" else time.process_time
        with tempfile.TemporaryDirectory() as folder:
            times = times_of({way: trainer_of(way, size, Path(folder)) for way in ways}, rounds, clock)
    base, table = peaks["SFTTrainer"]["peak"], []
    for way in ways:
        peak, old = peaks[way]["peak"], peaks[way]["old"]
        table.append([way, *times[way], f"{peak:.0f}", f"{peak / base:.2f}", f"{(peak - old) / base:.2f}"])
    head = ["way", "s a step", "ratio of times", "peak, MiB", "ratio of peaks", "without the old model"]
    what = f"vocabulary {size.vocabulary}, {size.batch} x {size.length} tokens, {size.answer} of them trained on"
    return f"{title}: {what}, {size.layers} layers of {size.hidden}; {rounds} rounds\n\n{markdown_table(head, table)}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parsed = parser_of(__doc__, list(WAYS), TABLES).parse_args(arguments)
    for title, size in chosen_tables(parsed, TABLES, "262k").items():
        if parsed.peak_of:
            make = partial(trainer_of, parsed.peak_of, size)
            print(json.dumps(peak_of(make, partial(old_model_of, size), size.device)))  # noqa: T201
            return
        # The logits of a long row with such a vocabulary fill most machines.
        is_large = size.batch * size.length * size.vocabulary > 2**26
        ways = parsed.way or [way for way in list(WAYS)[1:] if not is_large or way in ("in slices", "cached")]
        print(measure(title, size, ["SFTTrainer", *ways], parsed.rounds) + "\n", flush=True)  # noqa: T201
    print(machine(parsed.device))  # noqa: T201


if __name__ == "__main__":
    quiet()
    main()
