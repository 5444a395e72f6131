"""Rows of encoder-decoders: what the encoder reads, what the decoder reads and says, and how batches are padded."""

import logging

import pytest
import torch
from datasets import Dataset
from tiny_models import CHAT_TEMPLATE, tiny_tokenizer
from tiny_seq2seq import tiny_seq2seq
from transformers import MBartConfig, MBartForConditionalGeneration

from muscle_hf.seq2seq.data import DecoderStart, Seq2SeqCollator, encoded_rows

TOKENIZER = tiny_tokenizer()
END = TOKENIZER.eos_token_id


def test_a_completion_ends_with_the_end_token_and_the_decoder_reads_it_a_position_later() -> None:
    model = tiny_seq2seq("t5", 1, TOKENIZER)
    rows = Dataset.from_list([{"prompt": "what is it", "completion": "savings"}])
    row = encoded_rows(rows, TOKENIZER, model, "train", longest=(None, None))[0]
    assert row["input_ids"] == TOKENIZER("what is it")["input_ids"]
    assert row["labels"] == [*TOKENIZER("savings")["input_ids"], END]
    expected = model.prepare_decoder_input_ids_from_labels(torch.tensor([row["labels"]]))[0].tolist()
    assert row["decoder_input_ids"] == expected


def test_messages_are_written_by_the_chat_template() -> None:
    tokenizer = tiny_tokenizer(chat_template=CHAT_TEMPLATE)
    rows = Dataset.from_list(
        [
            {
                "prompt": [{"role": "user", "content": "the sky?"}],
                "completion": [{"role": "assistant", "content": "blue"}],
            }
        ]
    )
    row = encoded_rows(rows, tokenizer, tiny_seq2seq("t5", 1, tokenizer), "train", longest=(None, None))[0]
    assert tokenizer.decode(row["input_ids"]) == "<s>user\nthe sky?</s><s>assistant\n"
    assert tokenizer.decode(row["labels"]) == "blue</s>"  # one end token, the template's


def test_padding_of_rows_that_are_encoded_already_is_not_read() -> None:
    rows = Dataset.from_list([{"input_ids": [0, 5, 6, 0, 0], "attention_mask": [0, 1, 1, 0, 0], "labels": [9, END]}])
    row = encoded_rows(rows, TOKENIZER, tiny_seq2seq("t5", 1, TOKENIZER), "train", longest=(None, None))[0]
    assert (row["input_ids"], row["labels"]) == ([5, 6], [9, END])


def test_what_is_cut_is_counted_and_a_cut_completion_does_not_end(caplog: pytest.LogCaptureFixture) -> None:
    rows = Dataset.from_list([{"input_ids": [5, 6, 7, 8, END], "labels": [9, 10, 11, END]}])
    model = tiny_seq2seq("t5", 1, TOKENIZER)
    with caplog.at_level(logging.WARNING):
        row = encoded_rows(rows, TOKENIZER, model, "train", longest=(3, 2))[0]
    assert (row["input_ids"], row["labels"]) == ([5, 6, END], [9, 10])
    assert "1 of 1 rows of the train set have more than 3" in caplog.text


def test_a_model_with_positions_of_its_own_is_given_no_more_than_it_has(caplog: pytest.LogCaptureFixture) -> None:
    rows = Dataset.from_list([{"input_ids": [5] * 70, "labels": [9, END]}])
    with caplog.at_level(logging.WARNING):
        cut = encoded_rows(rows, TOKENIZER, tiny_seq2seq("bart", 1, TOKENIZER), "train", longest=(None, None))
    assert len(cut[0]["input_ids"]) == 64
    assert "max_prompt_length" in caplog.text


def test_the_start_of_a_decoder_is_that_of_the_model() -> None:
    assert DecoderStart.of(tiny_seq2seq("t5", 1, TOKENIZER)) == DecoderStart(0, 0)
    assert DecoderStart.of(tiny_seq2seq("bart", 1, TOKENIZER)) == DecoderStart(END, 0)
    config = MBartConfig(
        vocab_size=20, d_model=8, encoder_layers=1, decoder_layers=1, encoder_attention_heads=1,
        decoder_attention_heads=1, encoder_ffn_dim=8, decoder_ffn_dim=8, pad_token_id=1,
    )  # fmt: skip
    mbart = MBartForConditionalGeneration(config)
    start = DecoderStart.of(mbart)
    assert start == DecoderStart(None, 1)  # it starts with the language, which ends its labels
    labels = [5, 6, 2, 9]
    assert start.before(labels) == mbart.prepare_decoder_input_ids_from_labels(torch.tensor([labels]))[0].tolist()


def test_a_batch_is_padded_on_the_right_with_fillers_that_are_not_trained_on() -> None:
    rows = [
        {"input_ids": [5, 6], "labels": [7], "decoder_input_ids": [0], "target_index": [0], "token_weights": [2.0]},
        {"input_ids": [8], "labels": [9, 2], "decoder_input_ids": [0, 9], "target_index": [1, 2],
         "token_weights": [1.0, 1.0]},
    ]  # fmt: skip
    batch = {name: column.tolist() for name, column in Seq2SeqCollator(padding=0)(rows).items()}
    assert batch == {
        "input_ids": [[5, 6], [8, 0]],
        "attention_mask": [[1, 1], [1, 0]],
        "labels": [[7, -100], [9, 2]],
        "decoder_input_ids": [[0, 0], [0, 9]],
        "target_index": [[0, -1], [1, 2]],
        "token_weights": [[2.0, 1.0], [1.0, 1.0]],
    }
