"""Rows of a training set for two tokenizers: the old model's own tokens of each row, and the chunks of both."""

from itertools import islice
from typing import Any

from datasets import Dataset, IterableDataset
from transformers import PreTrainedTokenizerBase

from ..losses.logits import IGNORE_INDEX
from .encoding import AlignmentSummary, ChunkEncoder, truncate_chunks

# Columns of ours about the old model's own tokens of a row, where it has another tokenizer; and the number of the
# row's first chunk in a cache.
OLD_COLUMNS: dict[str, int] = {"old_input_ids": 0, "old_chunk_ids": -1}
FIRST_CHUNK = "first_chunk"
# So many rows of a stream are looked at before it is trained on.
FIRST_ROWS = 100

_ALIGNED = ("input_ids", "labels", "chunk_ids", *OLD_COLUMNS)


def align_rows(
    encoded: Dataset | IterableDataset,
    new_tokenizer: PreTrainedTokenizerBase,
    old_tokenizer: PreTrainedTokenizerBase,
    *,
    text_field: str,
    chat_template: str | None,
    max_length: int | None,
    old_length: int | None,
    processes: int | None = None,
) -> tuple[Dataset | IterableDataset, AlignmentSummary | None]:
    """Encode rows for the old model too, and find the chunks at whose ends both tokenizations meet.

    The rows have their texts, `input_ids` and `labels`, whole; they get `chunk_ids`, `old_input_ids` and
    `old_chunk_ids`. Chunks that truncation will cut into are none any more: to `max_length` tokens of a row, or to the
    `old_length` that the old model can read. Of a stream the summary is that of its first rows; None where these have
    nothing that is trained on.
    """
    encoder = ChunkEncoder(new_tokenizer, old_tokenizer, text_field=text_field, chat_template=chat_template)
    at_once = for_tables(encoded, num_proc=processes)
    aligned = encoded.map(encoder, batched=True, **at_once, **for_tables(encoded, desc="Aligning two tokenizers"))

    def cut(row: dict[str, Any]) -> dict[str, Any]:
        length = len(row["input_ids"]) if max_length is None else min(max_length, len(row["input_ids"]))
        return truncate_chunks(row["chunk_ids"], row["old_input_ids"], row["old_chunk_ids"], length, old_length)

    if max_length is not None or old_length is not None:
        aligned = aligned.map(cut, **at_once)
    rows = aligned.select_columns(list(_ALIGNED))
    if isinstance(rows, Dataset):
        return aligned, AlignmentSummary.of(rows)
    first = list(islice(rows, FIRST_ROWS))
    is_trained = any(label != IGNORE_INDEX for row in first for label in row["labels"][1:])
    return aligned, AlignmentSummary.of(first) if is_trained else None


def for_tables(dataset: Dataset | IterableDataset, **options: Any) -> dict[str, Any]:
    """Return options of `map` and `filter` that a stream does not have."""
    return options if isinstance(dataset, Dataset) else {}


def chunk_counts(aligned: Dataset) -> list[int]:
    """Count the chunks of each row."""
    return [max(numbers, default=-1) + 1 for numbers in aligned["old_chunk_ids"]]


def with_first_chunks(aligned: Dataset, start: int) -> Dataset:
    """Number the chunks of a data set on from `start`, so that they find their scores in a cache after shuffling."""
    numbers: list[int] = []
    for count in chunk_counts(aligned):
        numbers.append(start)
        start += count
    return aligned.add_column(FIRST_CHUNK, numbers)
