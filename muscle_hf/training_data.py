"""What of a data set is trained on: the tokens that carry a label, and what truncation takes away from them."""

import logging
from itertools import islice
from typing import Any

import torch
from datasets import Dataset, IterableDataset
from torch import Tensor

from .errors import InputError
from .losses import IGNORE_INDEX

logger = logging.getLogger(__name__)

# A stream is not read to its end to find out whether anything in it can be trained on.
_STREAM_ROWS = 100


def check_rows(dataset: Any) -> None:
    """Refuse a missing or empty training set before any model is loaded.

    Args:
        dataset: What the user passed as `train_dataset`.

    Raises:
        InputError: There are no rows.
    """
    if dataset is None:
        raise InputError("train_dataset is missing; pass the training set of the task.")
    if isinstance(dataset, Dataset) and len(dataset) == 0:
        raise InputError("train_dataset has no rows; pass the training set of the task.")
    if isinstance(dataset, IterableDataset) and next(iter(dataset), None) is None:
        raise InputError("train_dataset is a stream without rows; pass the training set of the task.")


def first_trainable_row(dataset: Dataset | IterableDataset) -> dict[str, Any] | None:
    """Return the first encoded row with a token to train on.

    Args:
        dataset: The training set, encoded.

    Returns:
        The row, or None where the first rows of a stream have no such token; a stream is not read ahead.

    Raises:
        InputError: No row of a data set on disk or in memory has one.
    """
    for row in dataset if isinstance(dataset, Dataset) else islice(dataset, _STREAM_ROWS):
        if is_trainable(row.get("labels", row["input_ids"]), row.get("seq_lengths")):
            return dict(row)
    if isinstance(dataset, IterableDataset):
        return None
    raise InputError(
        "train_dataset has no token to train on: every label is -100. With completion_only_loss=True the prompts may "
        "fill max_length on their own; raise max_length, or check the masks of the data set."
    )


def is_trainable(labels: list[int], sequence_lengths: list[int] | None = None) -> bool:
    """Tell whether a label other than -100 has a position that predicts it; the first one of a sequence has none.

    Args:
        labels: Labels of one row, at their tokens.
        sequence_lengths: Lengths of the sequences packed into the row; None for one sequence.

    Example:
        >>> is_trainable([5, -100]), is_trainable([-100, 5]), is_trainable([5, 6], [1, 1])
        (False, True, False)
    """
    start = 0
    for length in sequence_lengths or [len(labels)]:
        if any(label != IGNORE_INDEX for label in labels[start + 1 : start + length]):
            return True
        start += length
    return False


def warn_about_lost_tokens(encoded: Dataset, max_length: int | None, name: str) -> None:
    """Count in one warning the rows that truncation shortens, and those of which nothing is left to train on.

    Args:
        encoded: The data set, encoded and not truncated yet.
        max_length: Tokens of a row that are kept; None keeps all.
        name: "train" or "eval", for the message.
    """
    longer = 0 if max_length is None else sum(len(ids) > max_length for ids in encoded["input_ids"])
    empty = sum(not is_trainable(labels[:max_length]) for labels in encoded["labels"])
    if longer:
        logger.warning(
            f"{longer} of {len(encoded)} rows of the {name} set are longer than max_length={max_length} and lose "
            "their ends. Raise max_length to keep them."
        )
    if empty:
        logger.warning(
            f"{empty} of {len(encoded)} rows of the {name} set have no token to train on and teach nothing."
        )


def model_inputs(batch: dict[str, Any]) -> dict[str, Any]:
    """Return a batch without its labels, with which a model would compute a loss of its own."""
    return {name: value for name, value in batch.items() if name != "labels"} | {"use_cache": False}


def sequence_numbers(batch: dict[str, Any]) -> Tensor:
    """Number the sequence of each position: rows, or, where sequences are packed into one row, the restarts in it.

    Args:
        batch: What the collator made; `position_ids` without `attention_mask` mean packed sequences.

    Returns:
        int64, (batch, length).

    Example:
        >>> sequence_numbers({"input_ids": torch.zeros(1, 5), "position_ids": torch.tensor([[0, 1, 0, 1, 2]])})
        tensor([[0, 0, 1, 1, 1]])
    """
    input_ids: Tensor = batch["input_ids"]
    if "position_ids" in batch and "attention_mask" not in batch:
        starts: Tensor = batch["position_ids"] == 0
        return starts.flatten().cumsum(0).view_as(input_ids) - 1
    return torch.arange(len(input_ids), device=input_ids.device)[:, None].expand_as(input_ids)
