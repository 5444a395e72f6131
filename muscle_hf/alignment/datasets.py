"""Rows of a training set for two tokenizers: the old model's own tokens of each row, and the chunks of both."""

from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from .encoding import AlignmentSummary, ChunkEncoder, truncate_chunks

# Columns of ours about the old model's own tokens of a row, where it has another tokenizer; and the number of the
# row's first chunk in a cache.
OLD_COLUMNS: dict[str, int] = {"old_input_ids": 0, "old_chunk_ids": -1}
FIRST_CHUNK = "first_chunk"


_ALIGNED = ("input_ids", "labels", "chunk_ids", *OLD_COLUMNS)


def align_rows(
    encoded: Dataset,
    new_tokenizer: PreTrainedTokenizerBase,
    old_tokenizer: PreTrainedTokenizerBase,
    *,
    text_field: str,
    chat_template: str | None,
    max_length: int | None,
    old_length: int | None,
    processes: int | None = None,
) -> tuple[Dataset, AlignmentSummary]:
    """Encode rows for the old model too, and find the chunks at whose ends both tokenizations meet.

    The rows have their texts, `input_ids` and `labels`, whole; they get `chunk_ids`, `old_input_ids` and
    `old_chunk_ids`. Chunks that truncation will cut into are none any more: to `max_length` tokens of a row, or to the
    `old_length` that the old model can read.
    """
    encoder = ChunkEncoder(new_tokenizer, old_tokenizer, text_field=text_field, chat_template=chat_template)
    aligned = encoded.map(encoder, batched=True, num_proc=processes, desc="Aligning two tokenizers")

    def cut(row: dict[str, Any]) -> dict[str, Any]:
        length = len(row["input_ids"]) if max_length is None else min(max_length, len(row["input_ids"]))
        return truncate_chunks(row["chunk_ids"], row["old_input_ids"], row["old_chunk_ids"], length, old_length)

    if max_length is not None or old_length is not None:
        aligned = aligned.map(cut, num_proc=processes)
    return aligned, AlignmentSummary.of(aligned.select_columns(list(_ALIGNED)))


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
