"""What of a data set is trained on: the tokens that carry a label, and what truncation takes away from them."""

import logging
import math
from itertools import accumulate, islice
from typing import Any

import torch
from datasets import Dataset, IterableDataset
from torch import Tensor

from ...alignment.datasets import FIRST_CHUNK, OLD_COLUMNS
from ...errors import ConfigurationError, InputError
from ...losses.logits import IGNORE_INDEX, next_token_labels

logger = logging.getLogger(__name__)

# A stream is not read to its end to find out whether anything in it can be trained on.
_STREAM_ROWS = 100


def first_trainable_row(dataset: Dataset | IterableDataset) -> dict[str, Any] | None:
    """Return the first encoded row with a token to train on, or refuse a data set without one.

    A stream is not read ahead: None where its first rows have no such token.
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


def a_few_tokens(row: dict[str, Any], count: int = 64) -> dict[str, Any]:
    """Cut an encoded row to some tokens around the first that is trained on: enough to see that a model answers.

    Of an old model's own tokens the first ones are left.

    Example:
        >>> a_few_tokens({"input_ids": [*range(9)], "labels": [-100] * 7 + [7, 8]}, count=4)
        {'input_ids': [5, 6, 7, 8], 'labels': [-100, -100, 7, 8]}
    """
    length = len(row["input_ids"])
    labels = row.get("labels", row["input_ids"])
    first = next((place for place, label in enumerate(labels) if place and label != IGNORE_INDEX), 0)
    start = max(0, min(first - count // 2, length - count))
    cut = {
        name: value[start : start + count] if isinstance(value, list) and len(value) == length else value
        for name, value in row.items()
        if name not in OLD_COLUMNS
    }
    of_old = {name: row[name] for name in OLD_COLUMNS if name in row}
    if "seq_lengths" in cut:
        cut["seq_lengths"] = [len(cut["input_ids"])]
        cut |= {name: values[:1] for name, values in cut.items() if name == FIRST_CHUNK}
        return cut | {name: [values[0][:count]] for name, values in of_old.items()}
    return cut | {name: values[:count] for name, values in of_old.items()}


def is_trainable(labels: list[int], sequence_lengths: list[int] | None = None) -> bool:
    """Tell whether a label other than -100 has a position that predicts it; the first one of a sequence has none.

    `sequence_lengths` are those of the sequences packed into the row; None for one sequence.

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
    """Count in one warning the rows that truncation shortens, and those of which nothing is left to train on."""
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


# Columns of ours in an encoded data set: a number for each token, so that truncation and packing keep them in step
# with the tokens. The number is what padding gets.
TOKEN_COLUMNS: dict[str, int | float] = {
    "given_teachers": 0,
    "token_weights": 1.0,
    "target_index": -1,
    "chunk_ids": -1,
}
ENCODER_DECODER = "decoder_input_ids"
"""A column of rows and batches of encoder-decoders alone: what the decoder reads. Their labels stand at the positions
that predict them, and are not shifted."""
# Asks the student, and no teacher, for the loss of its routers.
ROUTER_LOGITS = "output_router_logits"
_OURS = ("labels", *TOKEN_COLUMNS, *OLD_COLUMNS, "old_attention_mask", FIRST_CHUNK, ROUTER_LOGITS)


def model_inputs(batch: dict[str, Any]) -> dict[str, Any]:
    """Return a batch without our columns, and without labels: with them a model would compute a loss of its own."""
    return {name: value for name, value in batch.items() if name not in _OURS} | {"use_cache": False}


def student_inputs(batch: dict[str, Any]) -> dict[str, Any]:
    """Return what the student is given of a batch: as every model, and asked for its router loss where it has one."""
    return model_inputs(batch) | {name: batch[name] for name in (ROUTER_LOGITS,) if name in batch}


def predicted_labels(batch: dict[str, Any]) -> Tensor:
    """Return the label that each position of a batch predicts: int64, (batch, length), -100 for none.

    Example:
        >>> causal = {"labels": torch.tensor([[4, 5, 6]])}
        >>> predicted_labels(causal), predicted_labels(causal | {"decoder_input_ids": torch.tensor([[0, 4, 5]])})
        (tensor([[   5,    6, -100]]), tensor([[4, 5, 6]]))
    """
    labels: Tensor = batch["labels"]
    return labels if ENCODER_DECODER in batch else next_token_labels(labels)


def shifted_column(batch: dict[str, Any], name: str, trained: Tensor) -> Tensor | None:
    """Return one of our columns at the trained positions, which predict the token that the number belongs to.

    It is (tokens,), or None where the data set has no such column; `trained` is (batch, length).
    """
    if name not in batch:
        return None
    column: Tensor = batch[name]
    return (column if ENCODER_DECODER in batch else column.roll(-1, dims=-1))[trained]


class ColumnCollator:
    """A collator that takes our columns along, around the one that makes everything else."""

    def __init__(self, collator: Any) -> None:
        """Remember the collator."""
        self.collator = collator

    def __getattr__(self, name: str) -> Any:
        """Give what the trainer reads of its collator."""
        if name == "collator":
            raise AttributeError(name)
        return getattr(self.collator, name)

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """Collate the examples, and pad our columns as the tokens are padded: on the right, or not at all."""
        batch: dict[str, Any] = self.collator(
            [{k: v for k, v in example.items() if k not in _OURS[1:]} for example in examples]
        )
        rows, width = batch["input_ids"].shape
        ids = [example["input_ids"] for example in examples]
        if rows == 1 and len(ids) > 1:
            ids = [[number for row in ids for number in row]]
        if any(batch["input_ids"][place, : len(row)].tolist() != list(row) for place, row in enumerate(ids)):
            raise ConfigurationError(
                "The data collator moves the tokens of a row, for instance by padding on the left, and the numbers "
                "that stand at each token (weights, teachers, places in a cache) would belong to others. Pad on the "
                "right."
            )
        for name, filler in TOKEN_COLUMNS.items():
            if name in examples[0]:
                columns = [example[name] for example in examples]
                if rows == 1 and len(examples) > 1:  # without padding, all examples stand in one row
                    columns = [[value for column in columns for value in column]]
                batch[name] = _padded(columns, width, filler)
        if "old_input_ids" in examples[0]:
            lengths = [len(ids) for ids in _of_sequences("old_input_ids", examples)]
            for name, filler in OLD_COLUMNS.items():
                batch[name] = _padded(_of_sequences(name, examples), max(lengths), filler)
            batch["old_attention_mask"] = _padded([[1] * length for length in lengths], max(lengths), 0)
        if FIRST_CHUNK in examples[0]:
            batch[FIRST_CHUNK] = torch.tensor(_of_sequences(FIRST_CHUNK, examples))
        return batch


def _of_sequences(name: str, examples: list[dict[str, Any]]) -> list[Any]:
    """List a column of the old model's by sequence: of a row, or of each that is packed into it."""
    if "seq_lengths" in examples[0]:
        return [value for example in examples for value in example[name]]
    return [example[name] for example in examples]


def _padded(columns: list[list[Any]], width: int, filler: float) -> Tensor:
    rows = [[*column, *[filler] * (width - len(column))] for column in columns]
    return torch.tensor(rows, dtype=torch.float32 if isinstance(filler, float) else torch.int64)


def is_weight(value: Any) -> bool:
    """Tell whether a row's weight is a number of 0 or more."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


def with_weights(encoded: Dataset, column: str) -> Dataset:
    """Give each token the weight of its row, in a column `token_weights`."""
    if column not in encoded.column_names:
        raise InputError(f"weight_column={column!r} is no column of train_dataset; it has {encoded.column_names}.")
    for index, weight in enumerate(encoded[column]):
        if not is_weight(weight):
            raise InputError(f"row {index} of train_dataset has the weight {weight!r}; give a number of 0 or more.")
    if not any(encoded[column]):
        raise InputError(f"every weight in {column!r} is 0, so that nothing would be learned.")
    return encoded.map(lambda row: {"token_weights": [float(row[column])] * len(row["labels"])}, desc="Weighing rows")


def trained_token_counts(encoded: Dataset) -> list[int]:
    """Count the tokens of each row that are trained on: those with a label, but a causal model's first one."""
    first = _first_trained(encoded)
    return [sum(label != IGNORE_INDEX for label in labels[first:]) for labels in encoded["labels"]]


def _first_trained(encoded: Dataset) -> int:
    """The first position whose label is predicted: nothing predicts a causal model's first token."""
    return 0 if ENCODER_DECODER in encoded.column_names else 1


def with_target_numbers(encoded: Dataset, start: int) -> Dataset:
    """Number the trained tokens of a data set, so that they find their targets after shuffling and packing.

    The column is `target_index`, from `start` on, -1 where nothing is trained on; rows have their final length.
    """
    starts, first = list(accumulate(trained_token_counts(encoded), initial=start)), _first_trained(encoded)

    def numbered(row: dict[str, Any], index: int) -> dict[str, list[int]]:
        number = starts[index]
        column = []
        for position, label in enumerate(row["labels"]):
            is_trained = position >= first and label != IGNORE_INDEX
            column.append(number if is_trained else -1)
            number += is_trained
        return {"target_index": column}

    return encoded.map(numbered, with_indices=True, desc="Numbering trained tokens")


def sequence_numbers(batch: dict[str, Any]) -> Tensor:
    """Number the sequence of each position: rows, or, where sequences are packed into one row, the restarts in it.

    Returns int64, (batch, length). `position_ids` without `attention_mask` mean packed sequences.

    Example:
        >>> sequence_numbers({"input_ids": torch.zeros(1, 5), "position_ids": torch.tensor([[0, 1, 0, 1, 2]])})
        tensor([[0, 0, 1, 1, 1]])
    """
    input_ids: Tensor = batch["labels" if ENCODER_DECODER in batch else "input_ids"]
    if is_packed(batch):
        starts: Tensor = batch["position_ids"] == 0
        return starts.flatten().cumsum(0).view_as(input_ids) - 1
    return torch.arange(len(input_ids), device=input_ids.device)[:, None].expand_as(input_ids)


def is_packed(batch: dict[str, Any]) -> bool:
    """Tell whether sequences are packed into rows: then there are `position_ids` without an `attention_mask`."""
    return "position_ids" in batch and "attention_mask" not in batch
