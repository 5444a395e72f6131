"""Encoded rows that a model cannot read are refused by row and token, where torch's own error names neither."""

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from tiny_updates import Update, make_update, trainer_of

from muscle_hf import InputError
from muscle_hf.training.rows.ids import refuse_wrong_ids

GOOD = {"input_ids": [5, 6, 2], "labels": [-100, 6, 2]}


@pytest.fixture(scope="module")
def update(tmp_path_factory: pytest.TempPathFactory) -> Update:
    return make_update(tmp_path_factory.mktemp("update"))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"input_ids": [5, 6, 320]},
            "Row 1 of the train set: input_ids has 320, and the new model has embeddings for 0",
        ),
        ({"input_ids": [5, -100, 2]}, "input_ids has -100"),
        ({"labels": [-100, 6, 320]}, "labels has 320.*-100 is what is not trained on"),
        ({"labels": [-100, 6, -1]}, "labels has -1"),
        ({"labels": [6, 2]}, "labels has 2 entries, and input_ids 3"),
        ({"input_ids": None}, "input_ids is None"),
    ],
)
def test_a_row_that_the_model_cannot_read_is_named(row: dict[str, Any], message: str) -> None:
    rows = [GOOD, GOOD | row]
    with pytest.raises(InputError, match=message):
        refuse_wrong_ids(Dataset.from_list(rows), 320, "train", as_long=["labels", "attention_mask"])
    # What is not selected is not looked at.
    refuse_wrong_ids(Dataset.from_list(rows).select([0]), 320, "train", as_long=["labels"])


def test_a_model_without_a_table_of_tokens_has_no_upper_bound() -> None:
    refuse_wrong_ids(Dataset.from_list([{"input_ids": [10**6]}]), None, "train")
    with pytest.raises(InputError, match="has token ids of 0 and more"):
        refuse_wrong_ids(Dataset.from_list([{"input_ids": [-1]}]), None, "train")


@pytest.mark.parametrize("name", ["train", "eval"])
def test_a_causal_model_is_not_given_tokens_of_another_tokenizer(update: Update, tmp_path: Path, name: str) -> None:
    wrong = Dataset.from_list([{"input_ids": [5, 6, 99_999]}])
    sets = {"rows": [{"input_ids": [5, 6, 2]}]} | ({"eval_dataset": wrong} if name == "eval" else {})
    if name == "train":
        sets["rows"] = wrong.to_list()
    with pytest.raises(InputError, match=f"Row 0 of the {name} set: input_ids has 99999"):
        trainer_of(update, tmp_path, **sets)
