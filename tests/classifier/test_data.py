"""Texts and words encoded for two models at once: what meets what, what is cut off, and what is refused."""

import logging
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import ClassLabel, Dataset, Features, IterableDataset, List, Value
from tiny_models import TEXTS, tiny_tokenizer
from transformers import PreTrainedTokenizerFast

from muscle_hf.classifier.collator import ClassifierCollator
from muscle_hf.classifier.data import ROW, ClassifierEncoder, Columns, Side, encodes_alike
from muscle_hf.errors import ConfigurationError, InputError, ModelMismatchError

CLASSES = ("a", "b", "c")
ARGUMENTS = frozenset({"input_ids", "attention_mask", "labels"})
WORDS = [text.split() for text in TEXTS]


@pytest.fixture(name="one", scope="module")
def _one() -> PreTrainedTokenizerFast:
    return tiny_tokenizer()


@pytest.fixture(name="other", scope="module")
def _other() -> PreTrainedTokenizerFast:
    return tiny_tokenizer(TEXTS[:2], vocabulary_size=270, add_beginning=True)


def _side(role: str, tokenizer: PreTrainedTokenizerFast, max_length: int | None = 64) -> Side:
    return Side(role, tokenizer, max_length, ARGUMENTS)


def _encoder(
    task: str,
    new: PreTrainedTokenizerFast,
    old: PreTrainedTokenizerFast | None = None,
    *,
    lengths: tuple[int | None, int | None] = (64, 64),
    **columns: str,
) -> ClassifierEncoder:
    old_side = None if old is None else _side("old", old, lengths[1])
    return ClassifierEncoder(task, _side("new", new, lengths[0]), old_side, CLASSES, Columns(**columns))


def _texts(**more: Any) -> Dataset:
    return Dataset.from_dict({"text": list(TEXTS), "label": [0, 1, 2, 0, 1, 2, -100]} | more)


def test_each_model_reads_a_text_as_its_own_tokenizer_encodes_it(one: Any, other: Any) -> None:
    encoded = _encoder("sequence", one, other)(_texts(), "train")
    assert set(encoded.column_names) == {
        "input_ids",
        "attention_mask",
        "old_input_ids",
        "old_attention_mask",
        "labels",
        ROW,
    }
    for row, text in zip(encoded, TEXTS, strict=True):
        assert row["input_ids"] == one(text)["input_ids"]
        assert row["old_input_ids"] == other(text)["input_ids"]
    assert encoded["labels"] == [0, 1, 2, 0, 1, 2, -100]
    assert encoded[ROW] == list(range(7))


def test_a_text_is_encoded_once_for_models_that_read_alike(one: Any) -> None:
    assert set(_encoder("sequence", one)(_texts(), "train").column_names) == {
        "input_ids",
        "attention_mask",
        "labels",
        ROW,
    }


def test_tokenizers_that_do_the_same_are_found_so_whatever_they_did_before(one: Any, other: Any) -> None:
    again = tiny_tokenizer()
    again(list(TEXTS), truncation=True, max_length=3, padding=True)  # which a fast tokenizer remembers
    assert encodes_alike(_side("new", one), _side("old", again))
    assert not encodes_alike(_side("new", one), _side("old", other))
    assert not encodes_alike(_side("new", one), _side("old", tiny_tokenizer(add_beginning=True)))
    left = tiny_tokenizer()
    left.padding_side = "left"
    assert not encodes_alike(_side("new", one), _side("old", left))
    assert not encodes_alike(_side("new", one, 64), _side("old", one, 32))


def test_models_with_one_tokenizer_that_take_other_inputs_do_not_share_them() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    takes_types = Side("old", tokenizer, 64, ARGUMENTS | {"token_type_ids"})
    assert not encodes_alike(_side("new", tokenizer), takes_types)
    encoded = ClassifierEncoder("sequence", _side("new", tokenizer), takes_types, CLASSES, Columns())(
        _texts(), "train"
    )
    assert "old_token_type_ids" in encoded.column_names
    assert "token_type_ids" not in encoded.column_names


@pytest.mark.parametrize(
    ("columns", "read"),
    [
        (["text"], ("text", None)),
        (["sentence"], ("sentence", None)),
        (["text", "text_pair"], ("text", "text_pair")),
        (["sentence1", "sentence2"], ("sentence1", "sentence2")),
        (["premise", "hypothesis"], ("premise", "hypothesis")),
        (["question", "sentence"], ("question", "sentence")),
        (["question1", "question2"], ("question1", "question2")),
    ],
)
def test_usual_columns_of_texts_and_pairs_are_found(one: Any, columns: list[str], read: tuple[str, Any]) -> None:
    dataset = Dataset.from_dict({name: [f"{name} text"] for name in columns} | {"label": [1], "idx": [0]})
    encoded = _encoder("sequence", one)(dataset, "train")
    first, second = read
    expected = one(f"{first} text", None if second is None else f"{second} text")["input_ids"]
    assert encoded["input_ids"] == [expected]


def test_named_columns_are_taken_and_only_they(one: Any) -> None:
    dataset = Dataset.from_dict({"text": ["x"], "body": ["y"], "title": ["z"], "label": [0], "kind": [2]})
    encoded = _encoder("sequence", one, text="body", pair="title", label="kind")(dataset, "train")
    assert encoded["input_ids"] == [one("y", "z")["input_ids"]]
    assert encoded["labels"] == [2]
    assert _encoder("sequence", one, text="body")(dataset, "train")["input_ids"] == [one("y")["input_ids"]]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"text": ["x"], "sentence": ["y"], "label": [0]}, r"found were \['text', 'sentence'\]. Give text_column"),
        ({"body": ["x"], "label": [0]}, r"one column with texts; .* found were none. Give text_column"),
        ({"text": ["x"]}, r"one column with gold classes; .* Give label_column"),
        ({"text": ["x"], "label": [0], "labels": [0]}, r"\['labels', 'label'\]. Give label_column"),
    ],
)
def test_columns_that_are_missing_or_ambiguous_are_never_guessed(one: Any, columns: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        _encoder("sequence", one)(Dataset.from_dict(columns), "train")


def test_a_named_column_that_is_not_there_is_refused(one: Any) -> None:
    for column, option in (("text", "text_column"), ("label", "label_column"), ("pair", "text_pair_column")):
        with pytest.raises(InputError, match=f"{option}='nowhere' is none of them"):
            _encoder("sequence", one, **{column: "nowhere"})(_texts(), "train")
    with pytest.raises(InputError, match="weight_column='nowhere' is no column"):
        _encoder("sequence", one, weight="nowhere")(_texts(), "train")


def test_a_row_without_text_is_refused_by_its_number(one: Any) -> None:
    with pytest.raises(InputError, match="Row 1 of the train set has None in place of a text"):
        _encoder("sequence", one)(Dataset.from_dict({"text": ["x", None], "label": [0, 1]}), "train")


def test_class_label_columns_are_read_by_name(one: Any) -> None:
    features = Features({"text": Value("string"), "label": ClassLabel(names=["c", "a", "b"])})
    dataset = Dataset.from_dict({"text": ["x", "y", "z"], "label": [0, 1, 2]}, features=features)
    assert _encoder("sequence", one)(dataset, "train")["labels"] == [2, 0, 1]


def test_class_label_tags_of_words_are_read_by_name(one: Any) -> None:
    features = Features({"tokens": List(Value("string")), "ner_tags": List(ClassLabel(names=["c", "a", "b"]))})
    dataset = Dataset.from_dict({"tokens": [["x", "y"]], "ner_tags": [[0, 2]]}, features=features)
    assert _encoder("token", one)(dataset, "train")["labels"] == [[2, 1]]


def test_texts_that_are_cut_are_counted_for_each_model(one: Any, other: Any, caplog: pytest.LogCaptureFixture) -> None:
    lengths = [len(one(text)["input_ids"]) for text in TEXTS]
    limit = sorted(lengths)[3]
    with caplog.at_level(logging.WARNING):
        encoded = _encoder("sequence", one, other, lengths=(limit, None))(_texts(), "train")
    assert [len(ids) for ids in encoded["input_ids"]] == [min(length, limit) for length in lengths]
    cut = sum(length > limit for length in lengths)
    assert [record.getMessage() for record in caplog.records] == [
        f"{cut} of 7 rows of the train set are longer than the {limit} tokens of the new model and lose their ends. "
        "Raise max_length if the model can take more."
    ]


def _words(labels: list[list[int]] | None = None) -> Dataset:
    labels = labels or [[number % 3 for number, _ in enumerate(words)] for words in WORDS]
    return Dataset.from_dict({"tokens": WORDS, "ner_tags": labels})


def _read(tokenizer: Any, ids: list[int], position: int) -> str:
    return str(tokenizer.decode(ids[position]))


@pytest.mark.parametrize("sides", [("right", "right"), ("left", "right"), ("right", "left"), ("left", "left")])
def test_the_label_of_a_word_meets_its_first_token_in_both_models(sides: tuple[str, str]) -> None:
    tokenizers = tiny_tokenizer(), tiny_tokenizer(TEXTS[:2], vocabulary_size=270, add_beginning=True)
    for tokenizer, side in zip(tokenizers, sides, strict=True):
        tokenizer.padding_side = side
    encoded = _encoder("token", *tokenizers)(_words(), "train")
    batch = ClassifierCollator("token", *tokenizers)(list(encoded))
    assert batch["old_input_ids"].shape != batch["input_ids"].shape
    for row, words in enumerate(WORDS):
        places = (batch["labels"][row] != -100).nonzero().flatten().tolist()
        assert len(places) == len(words)
        assert batch["labels"][row, places].tolist() == [number % 3 for number, _ in enumerate(words)]
        for word, place in zip(words, places, strict=True):
            old_place = int(batch["old_positions"][row, place])
            assert batch["attention_mask"][row, place] == batch["old_attention_mask"][row, old_place] == 1
            for tokenizer, ids, position in (
                (tokenizers[0], batch["input_ids"][row], place),
                (tokenizers[1], batch["old_input_ids"][row], old_place),
            ):
                token = _read(tokenizer, ids, position)
                assert token
                assert word.startswith(token), (word, token)


def test_words_that_one_model_does_not_see_are_neither_trained_on_nor_left_out_in_silence(
    one: Any, other: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        encoded = _encoder("token", one, other, lengths=(12, 10))(_words(), "train")
    seen = [
        len(
            {
                word
                for word in one(words, is_split_into_words=True, truncation=True, max_length=12).word_ids()
                if word is not None
            }
            & {
                word
                for word in other(words, is_split_into_words=True, truncation=True, max_length=10).word_ids()
                if word is not None
            }
        )
        for words in WORDS
    ]
    assert [sum(label != -100 for label in labels) for labels in encoded["labels"]] == seen
    lost = sum(map(len, WORDS)) - sum(seen)
    assert lost > 0
    assert f"{lost} labelled words of the train set have no token left" in caplog.text


def test_ignored_words_stay_ignored_and_count_as_nothing_lost(one: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        encoded = _encoder("token", one)(_words([[-100] * len(words) for words in WORDS]), "train")
    assert {label for labels in encoded["labels"] for label in labels} == {-100}
    assert not caplog.records


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ({"tokens": [["x", "y"]], "ner_tags": [[0]]}, "Row 0 of the train set has 2 items in 'tokens' and 1 labels"),
        ({"tokens": ["x y"], "ner_tags": [[0]]}, "in place of a list of words"),
    ],
)
def test_words_and_labels_that_do_not_fit_are_refused(one: Any, rows: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        _encoder("token", one)(Dataset.from_dict(rows), "train")


def test_tokenised_data_are_taken_as_they_are_where_both_models_read_alike(one: Any) -> None:
    encoding = one(list(TEXTS))
    dataset = Dataset.from_dict(dict(encoding) | {"label": [0] * 7, "junk": [1] * 7})
    encoded = _encoder("sequence", one)(dataset, "train")
    assert encoded["input_ids"] == encoding["input_ids"]
    assert "junk" not in encoded.column_names
    of_words = Dataset.from_dict(
        {"input_ids": encoding["input_ids"], "labels": [[1] * len(i) for i in encoding["input_ids"]]}
    )
    assert _encoder("token", one)(of_words, "train")["labels"] == of_words["labels"]


def test_tokenised_data_of_one_model_are_not_given_to_another(one: Any, other: Any) -> None:
    dataset = Dataset.from_dict({"input_ids": [[5, 6]], "label": [0]})
    with pytest.raises(
        ModelMismatchError, match=r"the old model reads other token ids .*\['old_input_ids'\] are missing"
    ):
        _encoder("sequence", one, other)(dataset, "train")
    both = Dataset.from_dict({"input_ids": [[5, 6]], "old_input_ids": [[7]], "label": [0]})
    encoded = _encoder("sequence", one, other)(both, "train")
    assert encoded[0]["old_input_ids"] == [7]


def test_tokenised_rows_that_a_model_cannot_take_are_refused_before_training(one: Any) -> None:
    dataset = Dataset.from_dict({"input_ids": [[5] * 65], "label": [0]})
    with pytest.raises(InputError, match="Row 0 of the train set has 65 tokens, more than the 64 of the new model"):
        _encoder("sequence", one)(dataset, "train")


def test_weights_go_along_in_training_and_nowhere_else(one: Any) -> None:
    dataset = _texts(importance=[1, 0.5, 0, 1, 1, 1, 2])
    encoder = _encoder("sequence", one, weight="importance")
    encoded = encoder(dataset, "train")
    assert encoded["weights"] == [1.0, 0.5, 0.0, 1.0, 1.0, 1.0, 2.0]
    assert "weights" not in encoder(dataset, "eval").column_names
    for bad in (-1.0, float("nan"), float("inf"), None):
        with pytest.raises(InputError, match="Row 1 of the train set has the weight"):
            encoder(_texts(importance=[1.0, bad, 1.0, 1.0, 1.0, 1.0, 1.0]), "train")


def test_weights_of_zero_alone_are_refused(one: Any) -> None:
    with pytest.raises(InputError, match="Every weight in 'importance' is 0"):
        _encoder("sequence", one, weight="importance")(_texts(importance=[0.0] * 7), "train")


def test_a_stream_is_encoded_row_by_row_and_warns_once_of_cut_rows(one: Any, caplog: pytest.LogCaptureFixture) -> None:
    stream = _texts().to_iterable_dataset()
    assert isinstance(stream, IterableDataset)
    with caplog.at_level(logging.WARNING):
        rows = list(_encoder("sequence", one, lengths=(5, None))(stream, "train"))
    assert [row["labels"] for row in rows] == [0, 1, 2, 0, 1, 2, -100]
    assert set(rows[0]) == {"input_ids", "attention_mask", "labels", ROW}
    assert [record.getMessage()[:34] for record in caplog.records] == ["The train set, a stream, has rows "]


def test_an_encoded_data_set_is_not_encoded_again(one: Any) -> None:
    encoder = _encoder("sequence", one)
    encoded = encoder(_texts(), "train")
    assert encoder(encoded, "eval") is encoded


def test_what_is_to_be_predicted_need_not_be_labelled_but_is_read_if_it_is(one: Any) -> None:
    encoder = _encoder("sequence", one)
    assert encoder(_texts().remove_columns("label"), "test")["labels"] == [-100] * 7
    assert encoder(_texts(), "test")["labels"][:2] == [0, 1]
    words = _encoder("token", one)(_words().remove_columns("ner_tags"), "test")
    assert {label for labels in words["labels"] for label in labels} == {-100}


def test_a_data_set_of_another_library_is_refused(one: Any) -> None:
    with pytest.raises(InputError, match="is a list; a datasets"):
        _encoder("sequence", one)([{"text": "x", "label": 0}], "train")  # type: ignore[arg-type]


def test_a_tokenizer_that_cannot_pad_is_refused() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = None
    with pytest.raises(ConfigurationError, match="old model's tokenizer has no padding token"):
        _side("old", tokenizer)


def test_a_slow_tokenizer_cannot_label_words(one: Any) -> None:
    slow = SimpleNamespace(pad_token_id=0, is_fast=False)
    with pytest.raises(ConfigurationError, match="needs a fast tokenizer"):
        _encoder("token", slow)  # type: ignore[arg-type]


def test_padding_masks_what_a_data_set_without_masks_is_filled_with(one: Any) -> None:
    rows = [{"input_ids": [5, 6, 7], "labels": 1, ROW: 0}, {"input_ids": [8], "labels": 0, ROW: 1}]
    batch = ClassifierCollator("sequence", one, None)(rows)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["labels"].dtype == torch.int64


@pytest.mark.parametrize(
    ("ids", "message"), [([5, 320], "Row 1 of the train set: input_ids has 320"), ([5, -100], "input_ids has -100")]
)
def test_encoded_rows_with_tokens_of_another_model_are_refused(one: Any, ids: list[int], message: str) -> None:
    encoder = ClassifierEncoder("sequence", Side("new", one, 64, ARGUMENTS, 320), None, CLASSES, Columns())
    rows = Dataset.from_list([{"input_ids": [5, 319], "label": 0}, {"input_ids": ids, "label": 1}])
    with pytest.raises(InputError, match=message):
        encoder(rows, "train")
    assert len(encoder(rows.select([0]), "train")) == 1
