"""Encoded rows that a model cannot read are refused by row and token, where torch's own error names neither."""

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, Features, LargeList, List, Value
from tiny_models import tiny_adapter, tiny_llama, tiny_tokenizer
from tiny_seq2seq import tiny_seq2seq
from tiny_updates import Update, make_update, trainer_of
from transformers import CanineConfig, CanineForSequenceClassification

from muscle_hf import InputError
from muscle_hf.training.rows.ids import embeddings_of, outputs_of, refuse_wrong_ids, refuse_wrong_row

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
        ({"input_ids": [5, None, 2]}, "input_ids has None"),
        ({"labels": None}, "labels is None"),
    ],
)
def test_a_row_that_the_model_cannot_read_is_named(row: dict[str, Any], message: str) -> None:
    rows = [GOOD, GOOD | row]
    with pytest.raises(InputError, match=message):
        refuse_wrong_ids(Dataset.from_list(rows), 320, 320, "train", as_long=["labels", "attention_mask"])
    for kind in ("torch", "numpy", "arrow"):
        with pytest.raises(InputError, match=message):
            refuse_wrong_ids(Dataset.from_list(rows).with_format(kind), 320, 320, "train", as_long=["labels"])
    # What is not selected is not looked at.
    refuse_wrong_ids(Dataset.from_list(rows).select([0]), 320, 320, "train", as_long=["labels"])


def test_a_model_without_a_table_of_tokens_has_no_upper_bound() -> None:
    refuse_wrong_ids(Dataset.from_list([{"input_ids": [10**6]}]), None, None, "train")
    with pytest.raises(InputError, match="has token ids of 0 and more"):
        refuse_wrong_ids(Dataset.from_list([{"input_ids": [-1]}]), None, None, "train")


@pytest.mark.parametrize("kind", [None, "torch", "numpy", "arrow"])
@pytest.mark.parametrize("lists", [List, LargeList])
@pytest.mark.parametrize("number", ["int32", "int64", "uint16"])
def test_good_rows_are_not_refused_for_how_they_are_kept_or_read(kind: str | None, lists: Any, number: str) -> None:
    features = Features({"input_ids": lists(Value(number)), "labels": lists(Value("int64"))})
    rows = Dataset.from_list([GOOD, {"input_ids": [], "labels": []}, GOOD], features=features)
    refuse_wrong_ids(rows.with_format(kind), 7, 7, "train", as_long=["labels"])
    refuse_wrong_ids(rows.select([]).with_format(kind), 7, 7, "train", as_long=["labels"])
    for row in rows.with_format(kind) if kind != "arrow" else ():
        refuse_wrong_row(row["input_ids"], 7, "input_ids", "Row 0")


def test_rows_and_labels_that_are_no_flat_lists_are_named() -> None:
    for column, wrong in {"input_ids": [[5, 6, 2]], "labels": 1}.items():
        with pytest.raises(InputError, match=f"Row 0 of the train set: {column} (has|is) "):
            refuse_wrong_ids(Dataset.from_list([GOOD | {column: wrong}]), 320, 320, "train")


def test_labels_of_a_decoder_with_its_own_vocabulary_are_held_to_that() -> None:
    rows = Dataset.from_list([{"input_ids": [5, 6], "labels": [-100, 400, 2]}])
    refuse_wrong_ids(rows, 320, 401, "train")
    with pytest.raises(InputError, match="labels has 400, and the new model says 0 to 399"):
        refuse_wrong_ids(rows, 320, 400, "train")


@pytest.mark.parametrize(
    ("options", "is_tied"),
    [
        ({}, True),
        ({}, False),
        ({"modules_to_save": ["lm_head", "embed_tokens"]}, False),
        ({"trainable_token_indices": [1, 2]}, True),
        ({"trainable_token_indices": [1, 2]}, False),
    ],
)
def test_tokens_of_a_model_are_counted_behind_an_adapter(options: dict[str, Any], is_tied: bool) -> None:
    model = tiny_llama(0, tiny_tokenizer(), hidden_size=16, layers=1, tie_word_embeddings=is_tied)
    model.resize_token_embeddings(333)
    adapted = tiny_adapter(model, 1, **options)
    assert (embeddings_of(adapted), outputs_of(adapted)) == (333, 333)


def test_tokens_are_counted_of_encoder_decoders_and_not_where_a_model_has_no_table_of_them() -> None:
    model = tiny_seq2seq("t5", 0, tiny_tokenizer())
    assert embeddings_of(model) == outputs_of(model) == model.config.vocab_size
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    characters = CanineForSequenceClassification(CanineConfig(**sizes))
    assert embeddings_of(characters) is None


@pytest.mark.parametrize("name", ["train", "eval"])
def test_a_causal_model_is_not_given_tokens_of_another_tokenizer(update: Update, tmp_path: Path, name: str) -> None:
    wrong = Dataset.from_list([{"input_ids": [5, 6, 99_999]}])
    sets = {"rows": [{"input_ids": [5, 6, 2]}]} | ({"eval_dataset": wrong} if name == "eval" else {})
    if name == "train":
        sets["rows"] = wrong.to_list()
    with pytest.raises(InputError, match=f"Row 0 of the {name} set: input_ids has 99999"):
        trainer_of(update, tmp_path, **sets)
