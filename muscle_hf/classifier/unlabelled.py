"""Texts without labels, mixed with labelled ones: a model answers them as they are trained on, or a log has answers.

Both models know the labelled set by heart, so what they disagree on is not in it, as for language models (see
`muscle_hf.training.rows.unlabelled`). What a classifier answers costs one pass that the loss takes anyway, so nothing
is asked before training; and the whole distribution is learned, not the answer alone.
"""

import logging
from collections.abc import Callable
from typing import Any

from datasets import Dataset, IterableDataset, concatenate_datasets

from ..errors import ConfigurationError, InputError
from ..losses.logits import IGNORE_INDEX
from ..training.rows.unlabelled import refuse_other_kinds, rows_to_mix_in, warn_about_shared_rows
from .data import ROW, UNANSWERED, UNLABELLED, ClassifierEncoder
from .labels import ClassMap, shown

logger = logging.getLogger(__name__)


def check_texts(dataset: Any, train: Any) -> None:
    """Refuse unlabelled rows that cannot be mixed with this training set; to be called before any model is loaded."""
    refuse_other_kinds(dataset, needs="a column of texts")
    if not len(dataset):
        raise InputError("unlabelled_dataset has no rows; leave it out, or pass texts.")
    if isinstance(train, IterableDataset):
        raise ConfigurationError(
            "unlabelled_dataset is mixed in by the number of its rows, and the train set is a stream, whose rows are "
            "not counted. Pass a datasets.Dataset, or leave it out."
        )


def encoded_texts(encoder: ClassifierEncoder, classes: ClassMap, dataset: Dataset, teacher: str) -> Dataset:
    """Encode rows without labels, or a log's, whose labels are the old model's classes: its own names or numbers.

    `labels` are then numbers of the new model's classes; `UNANSWERED` where nobody knows one. What a log answers with
    a class that the new model does not have is left out, with a warning.
    """
    of_old = ClassifierEncoder(encoder.task, encoder.new, encoder.old, classes.old, encoder.columns)
    encoded: Any = of_old(dataset, UNLABELLED)
    if not any(UNANSWERED in _each(labels) for labels in encoded["labels"]):
        if teacher != "old":
            raise ConfigurationError(
                f"unlabelled_dataset has a column of labels, which are taken for the old model's answers, but "
                f'unlabelled_teacher={teacher!r}. Set it to "old", or remove the column to have the texts answered.'
            )
        logger.info("%d rows of unlabelled_dataset bring their classes, taken for the old model's.", len(encoded))
        encoded = _in_new_classes(encoded, classes)
    elif classes.added:
        logger.warning(
            f"The old model does not know {shown(classes.added)}. Rows of unlabelled_dataset that the new model takes "
            "for one of them learn from the new model."
        )
    return encoded


def _in_new_classes(encoded: Dataset, classes: ClassMap) -> Dataset:
    removed = 0

    def renumbered(label: int) -> int:
        nonlocal removed
        number = label if label == IGNORE_INDEX else classes.new_of_old[label]
        removed += label != IGNORE_INDEX and number < 0
        return IGNORE_INDEX if number < 0 else number

    column = [_mapped(labels, renumbered) for labels in encoded["labels"]]
    if removed:
        logger.warning(
            f"{removed} labels of unlabelled_dataset are classes that the new model does not have "
            f"({shown(classes.removed)}); they are left out."
        )
    encoded = encoded.remove_columns("labels").add_column("labels", column)
    kept = [row for row, labels in enumerate(column) if any(label != IGNORE_INDEX for label in _each(labels))]
    if not kept:
        raise InputError("No label of unlabelled_dataset is a class of the new model, which leaves nothing to learn.")
    return encoded.select(kept)


def mixed_texts(labelled: Dataset, unlabelled: Dataset, ratio: float | None, seed: int) -> Dataset:
    """Put encoded rows into one data set, as [`mixed`][muscle_hf.training.rows.unlabelled.mixed] does prompts'.

    A column `unlabelled` tells them apart. Where labelled rows have weights, the others' are 1.
    """
    rows = rows_to_mix_in(len(labelled), len(unlabelled), ratio, seed)
    known = {tuple(ids) for ids in labelled["input_ids"]}
    warn_about_shared_rows(sum(tuple(ids) in known for ids in unlabelled["input_ids"]), len(unlabelled), "text")
    if "weights" in labelled.column_names:
        unlabelled = unlabelled.add_column("weights", [1.0] * len(unlabelled))
    if {*labelled.column_names} != {*unlabelled.column_names}:
        differ = sorted({*labelled.column_names} ^ {*unlabelled.column_names})
        raise InputError(
            f"unlabelled_dataset and train_dataset are not encoded alike: only one of them has {differ}. Tokenise "
            "both in the same way, or pass texts."
        )
    # Numbers of their own, since a row is known by its number.
    first = 1 + max(labelled[ROW], default=0)
    numbers = [first + number for number in unlabelled[ROW]]
    unlabelled = unlabelled.remove_columns(ROW).add_column(ROW, numbers)
    labelled = labelled.add_column(UNLABELLED, [False] * len(labelled))
    unlabelled = unlabelled.add_column(UNLABELLED, [True] * len(unlabelled)).select_columns(labelled.column_names)
    # Such as int64 for int32, where one side was tokenised elsewhere.
    return concatenate_datasets([labelled, unlabelled.cast(labelled.features).select(rows)])


def _each(labels: Any) -> list[int]:
    return labels if isinstance(labels, list) else [labels]


def _mapped(labels: Any, function: Callable[[int], int]) -> Any:
    return [function(label) for label in labels] if isinstance(labels, list) else function(labels)
