"""Rows that the user has encoded: are their numbers tokens of the model, and are columns of a row equally long?"""

from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from ...errors import InputError
from ...losses.logits import IGNORE_INDEX
from ...models.sharding import whole_shape

_AT_ONCE = 1000


def embeddings_of(model: Any) -> int | None:
    """Return how many tokens a model has embeddings for; None where they are no table of tokens, as in CANINE."""
    try:
        return _rows_of(model.get_input_embeddings())
    except NotImplementedError:
        return None


def outputs_of(model: Any) -> int | None:
    """Return how many tokens a model can say, which decoders with a vocabulary of their own count; None: unknown."""
    head = model.get_output_embeddings()
    count: int | None = getattr(head, "out_features", None)
    return _rows_of(head) if count is None else count


def _rows_of(layer: Any) -> int | None:
    weight = getattr(layer, "weight", None)
    return None if weight is None else whole_shape(weight)[0]


def refuse_wrong_ids(
    dataset: Dataset, embeddings: int | None, outputs: int | None, name: str, *, as_long: Iterable[str] = ()
) -> None:
    """Refuse rows with `input_ids` that the new model cannot read; a GPU would fail on them without a word.

    Args:
        dataset: Rows that are encoded already; in which format they are read is of no matter.
        embeddings: How many tokens the new model has embeddings for; None for any.
        outputs: How many tokens it can say, for `labels`, which may be missing, or -100; None for any.
        name: Of the data set.
        as_long: Columns with an entry for each token, where the data set has them.
    """
    sizes = {"input_ids": embeddings, "labels": outputs}
    columns = [column for column in sizes if column in dataset.column_names]
    more = [column for column in as_long if column in dataset.column_names]
    dataset = dataset.select_columns([*dict.fromkeys([*columns, *more])]).with_format("arrow")
    for start in range(0, len(dataset), _AT_ONCE):
        rows = dataset[start : start + _AT_ONCE]
        for column in columns:
            # Arrow looks at a million rows in a second; only where something is wrong the row is searched for.
            if _are_tokens(rows[column], sizes[column], is_labels=column == "labels"):
                continue
            for number, ids in enumerate(rows[column].to_pylist(), start):
                what = f"Row {number} of the {name} set"
                refuse_wrong_row(ids, sizes[column], column, what, is_labels=column == "labels")
        for column in more:
            lengths = (pc.fill_null(pc.list_value_length(rows[each]), 0) for each in (column, "input_ids"))
            for number, (entries, tokens) in enumerate(
                zip(*(each.to_pylist() for each in lengths), strict=True), start
            ):
                if entries != tokens:
                    raise InputError(
                        f"Row {number} of the {name} set: {column} has {entries} entries, and input_ids {tokens}; "
                        "each token needs one."
                    )


def _are_tokens(column: pa.ChunkedArray, size: int | None, *, is_labels: bool) -> bool:
    """Tell whether all rows of a column are lists of tokens of the model; False also where that is not sure."""
    kind = column.type
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if not is_list or not pa.types.is_integer(kind.value_type) or column.null_count:
        return False
    tokens = pc.list_flatten(column)
    if tokens.null_count:
        return False
    if is_labels:
        tokens = tokens.filter(pc.not_equal(tokens, IGNORE_INDEX))
    limits = pc.min_max(tokens).as_py()
    return not len(tokens) or (limits["min"] >= 0 and (size is None or limits["max"] < size))


def refuse_wrong_row(
    ids: Any, size: int | None, column: str, what: str, *, role: str = "new", is_labels: bool = False
) -> None:
    """Refuse a row in which something is no token of the model, nor, of labels, -100; `what` names the row."""
    ids = ids.tolist() if hasattr(ids, "tolist") else ids  # rows may be read as tensors
    if not isinstance(ids, list):
        raise InputError(f"{what}: {column} is {ids!r}; a list of token ids is needed.")
    wrong = [
        token
        for token in ids
        if not (is_labels and token == IGNORE_INDEX)
        and (not isinstance(token, int) or token < 0 or (size is not None and token >= size))
    ]
    if wrong:
        does = "says" if is_labels else "has embeddings for"
        known = "has token ids of 0 and more" if size is None else f"{does} 0 to {size - 1}"
        also = f"; {IGNORE_INDEX} is what is not trained on" if is_labels else ""
        raise InputError(
            f"{what}: {column} has {wrong[0]!r}, and the {role} model {known}{also}. Encode the rows with that "
            "model's own tokenizer, or pass texts."
        )
