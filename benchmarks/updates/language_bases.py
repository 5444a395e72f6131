"""Bases that are made from others: trained on, or with rounded weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import PrinterCallback
from trl import SFTConfig

from muscle_hf.demo.data import read_sentences
from muscle_hf.training.cross_entropy import CrossEntropyTrainer

from .language import arguments, load


def trained_on(base: Path, folder: Path, options: Mapping[str, Any]) -> None:
    """Train a base as a whole on sentences of Wikipedia, so many in a row, and write it."""
    options = dict(options)
    sentences, together = read_sentences(), options.pop("sentences_together")
    texts = ["\n".join(sentences[start : start + together]) for start in range(0, len(sentences), together)]
    model, tokenizer = load(base)
    trainer = CrossEntropyTrainer(
        model=model,
        args=SFTConfig(**arguments(folder, 0, {**options, "completion_only_loss": None})),
        train_dataset=Dataset.from_dict({"text": texts}),
        processing_class=tokenizer,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@torch.no_grad()
def rounded(base: Path, folder: Path, options: Mapping[str, Any]) -> None:
    """Round the weights of all linear layers but the LM head, and write them as float32.

    Each row is cut into groups, of which the largest weight by amount becomes the largest number of so many bits.
    SmolLM2 as it can be had is rounded itself, between the least and the largest of 32 weights, which would change
    nothing here; 4 bits around 0 for 64 weights move a weight by some 11 %.
    """
    model, tokenizer = load(base)
    head = model.get_output_embeddings()
    for module in model.modules():
        if isinstance(module, torch.nn.Linear) and module is not head:
            module.weight.copy_(rounded_weights(module.weight, options["bits"], options["group"]))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def rounded_weights(weights: torch.Tensor, bits: int, group: int) -> torch.Tensor:
    """Round to the nearest of 2 * 2^(bits - 1) - 1 numbers around 0, for each group of a row."""
    largest = 2 ** (bits - 1) - 1
    groups = weights.unflatten(-1, (-1, group))
    step = groups.abs().amax(-1, keepdim=True) / largest
    steps = torch.where(step > 0, step, 1.0)
    return ((groups / steps).round() * steps).flatten(-2)
