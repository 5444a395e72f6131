"""Rows cut to their length and packed, tables and streams: as TRL does it, together with columns of ours."""

from typing import Any

from trl import pack_dataset
from trl.data_utils import get_dataset_column_names

from ...alignment.datasets import FIRST_CHUNK, OLD_COLUMNS, for_tables
from ...errors import ConfigurationError
from ...losses.logits import IGNORE_INDEX
from .tokens import TOKEN_COLUMNS


def truncated(encoded: Any, args: Any, *, packing: bool) -> Any:
    """Cut rows as [`trl.SFTTrainer`] does, together with columns of ours, which it would leave at full length.

    Rows with nothing left to train on are dropped. Of rows that will be packed the starts are kept, or, by the
    strategies that cut rows into pieces, all of them.
    """
    if args.max_length is None or (packing and args.packing_strategy != "bfd"):
        return encoded
    columns = get_dataset_column_names(encoded)
    names = [name for name in ("input_ids", "labels", *TOKEN_COLUMNS) if name in columns]
    keeps_end = args.truncation_mode == "keep_end" and not packing
    kept = slice(-args.max_length, None) if keeps_end else slice(args.max_length)
    encoded = encoded.map(
        lambda row: {name: row[name][kept] for name in names},
        **for_tables(encoded, num_proc=args.dataset_num_proc, desc="Truncating rows"),
    )
    return encoded.filter(
        lambda row: any(label != IGNORE_INDEX for label in row["labels"]),
        **for_tables(encoded, desc="Dropping rows without labels"),
    )


def packed(encoded: Any, args: Any, *, packing: bool) -> Any:
    """Shuffle and pack rows as [`trl.SFTTrainer`] does, together with columns of ours, which it would drop.

    What comes out is ready for the collator: columns of others are gone. What the old model has of a row is a list of
    such in a packed row, in the order of its sequences.
    """
    if packing and args.max_length is None:
        raise ConfigurationError("packing=True needs max_length, the length of a packed row; it is None.")
    columns = get_dataset_column_names(encoded)
    names = [name for name in ("input_ids", "labels", *TOKEN_COLUMNS, *OLD_COLUMNS, FIRST_CHUNK) if name in columns]
    encoded = encoded.select_columns(names)
    if args.shuffle_dataset:
        encoded = encoded.shuffle(seed=args.seed)
    if not packing:
        return encoded
    # Only columns with as many values as tokens can be packed, so these travel at the first token of their row.
    of_rows = [name for name in (*OLD_COLUMNS, FIRST_CHUNK) if name in names]
    if of_rows:
        encoded = encoded.map(
            lambda row: {name: [[row[name]], *[[]] * (len(row["input_ids"]) - 1)] for name in of_rows}
        )
    packs = pack_dataset(encoded, args.max_length, args.packing_strategy)
    if of_rows:
        packs = packs.map(lambda row: {name: [value for cell in row[name] for value in cell] for name in of_rows})
    return packs.shuffle(seed=args.seed) if args.shuffle_dataset else packs
