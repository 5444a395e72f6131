"""Rows that the user has encoded: are their numbers tokens of the model, and are columns of a row equally long?"""

from collections.abc import Iterable, Sequence
from typing import Any

from datasets import Dataset

from ...errors import InputError
from ...losses.logits import IGNORE_INDEX
from ...models.sharding import whole_shape

_AT_ONCE = 1000


def embeddings_of(model: Any) -> int | None:
    """Return how many tokens a model has embeddings for; None where they are no table of tokens."""
    weight = getattr(model.get_input_embeddings(), "weight", None)
    return None if weight is None else whole_shape(weight)[0]


def refuse_wrong_ids(
    dataset: Dataset, size: int | None, name: str, *, labels: str = "labels", as_long: Iterable[str] = ()
) -> None:
    """Refuse rows with `input_ids` that the new model cannot read; a GPU would fail on them without a word.

    Args:
        dataset: Rows that are encoded already.
        size: How many tokens the new model has embeddings for; None for any.
        name: Of the data set.
        labels: The column of labels, which are tokens too, or -100; it may be missing.
        as_long: Columns with an entry for each token, where the data set has them.
    """
    columns = [column for column in {"input_ids": 0, labels: 0} if column in dataset.column_names]
    more = [column for column in as_long if column in dataset.column_names]
    dataset = dataset.select_columns([*dict.fromkeys([*columns, *more])])
    for start in range(0, len(dataset), _AT_ONCE):
        rows = dataset[start : start + _AT_ONCE]
        for column in columns:
            for number, ids in enumerate(rows[column], start):
                refuse_wrong_row(ids, size, column, f"Row {number} of the {name} set", is_labels=column == labels)
        for column in more:
            for number, (entries, ids) in enumerate(zip(rows[column], rows["input_ids"], strict=True), start):
                if len(entries or ()) != len(ids):
                    raise InputError(
                        f"Row {number} of the {name} set: {column} has {len(entries or ())} entries, and input_ids "
                        f"{len(ids)}; each token needs one."
                    )


def refuse_wrong_row(
    ids: Sequence[Any] | None, size: int | None, column: str, what: str, *, role: str = "new", is_labels: bool = False
) -> None:
    """Refuse a row in which something is no token of the model, nor, of labels, -100; `what` names the row."""
    if ids is None:
        raise InputError(f"{what}: {column} is None; a list of token ids is needed.")
    wrong = [
        token
        for token in dict.fromkeys(ids)
        if not (is_labels and token == IGNORE_INDEX)
        and (not isinstance(token, int) or token < 0 or (size is not None and token >= size))
    ]
    if wrong:
        known = "has token ids of 0 and more" if size is None else f"has embeddings for 0 to {size - 1}"
        also = f"; {IGNORE_INDEX} is what is not trained on" if is_labels else ""
        raise InputError(
            f"{what}: {column} has {wrong[0]!r}, and the {role} model {known}{also}. Encode the rows with that "
            "model's own tokenizer, or pass texts."
        )
