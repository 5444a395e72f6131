"""Batches of classifiers: one collator pads what the new and the old model read, each as its tokenizer does."""

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ..losses.logits import IGNORE_INDEX
from .data import OLD, OWN_COLUMNS, ROW, UNLABELLED
from .models import TOKEN


class ClassifierCollator:
    """Pads encoded rows, the old model's inputs, if it reads others, apart from the new model's."""

    def __init__(self, task: str, new: PreTrainedTokenizerBase, old: PreTrainedTokenizerBase | None) -> None:
        """Keep the tokenizers, which know how to pad."""
        self.task, self.new, self.old = task, new, old

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Make a batch of rows of [`ClassifierEncoder`].

        `input_ids`, `attention_mask` and the like are (batch, length), and so are those with `old_` before the name
        where the old model reads other ids; `labels` is (batch,) or, for words, (batch, length); `old_positions`,
        (batch, length), is the position of each labelled word for the old model; `weights`, `unlabelled` and `_row`
        are (batch,).
        """
        names = set(examples[0]) - {"labels", *OWN_COLUMNS}
        batch = _padded(examples, sorted(name for name in names if not name.startswith(OLD)), "", self.new)
        labels = [example["labels"] for example in examples]
        if self.task == TOKEN:
            width, side = batch["input_ids"].shape[1], self.new.padding_side
            batch["labels"] = torch.tensor([_filled(row, width, IGNORE_INDEX, side) for row in labels])
        else:
            batch["labels"] = torch.tensor(labels)
        if self.old is not None:
            batch |= _padded(examples, sorted(name for name in names if name.startswith(OLD)), OLD, self.old)
            if self.task == TOKEN:
                batch["old_positions"] = self._old_positions(examples, batch)
        for name, dtype in (("weights", torch.float32), (UNLABELLED, torch.bool), (ROW, torch.int64)):
            if name in examples[0]:
                batch[name] = torch.tensor([example[name] for example in examples], dtype=dtype)
        return batch

    def _old_positions(self, examples: list[dict[str, Any]], batch: dict[str, Tensor]) -> Tensor:
        width, old_width = batch["input_ids"].shape[1], batch[f"{OLD}input_ids"].shape[1]
        rows = []
        for example in examples:
            # Padding on the left moves every token of the row to the right.
            moved = old_width - len(example[f"{OLD}input_ids"]) if self.old.padding_side == "left" else 0  # type: ignore[union-attr]
            positions = [position + moved for position in example["old_positions"]]
            rows.append(_filled(positions, width, 0, self.new.padding_side))
        return torch.tensor(rows)


def _padded(
    examples: list[dict[str, Any]], names: list[str], prefix: str, tokenizer: PreTrainedTokenizerBase
) -> dict[str, Tensor]:
    ids, mask = f"{prefix}input_ids", f"{prefix}attention_mask"
    width = max(len(example[ids]) for example in examples)
    filler = {ids: tokenizer.pad_token_id, f"{prefix}token_type_ids": tokenizer.pad_token_type_id}
    batch = {
        name: torch.tensor(
            [_filled(example[name], width, filler.get(name, 0), tokenizer.padding_side) for example in examples]
        )
        for name in names
    }
    if mask not in batch:
        lengths = [[1] * len(example[ids]) for example in examples]
        batch[mask] = torch.tensor([_filled(ones, width, 0, tokenizer.padding_side) for ones in lengths])
    return batch


def _filled(values: list[int], width: int, filler: int, side: str) -> list[int]:
    filling = [filler] * (width - len(values))
    return [*filling, *values] if side == "left" else [*values, *filling]
