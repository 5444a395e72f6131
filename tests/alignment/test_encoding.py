"""Rows are encoded for the old model as it was trained, and aligned with the new tokens that TRL made, to the byte."""

import pickle
from types import SimpleNamespace
from typing import Any

import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from other_tokenizers import sentencepiece_tokenizer, unigram_tokenizer, wordpiece_tokenizer
from tiny_models import CHAT_TEMPLATE, END, TEXTS, tiny_tokenizer
from tokenizers import processors
from transformers import PreTrainedTokenizerFast
from trl import SFTTrainer

from muscle_hf.alignment.encoding import AlignmentSummary, ChunkEncoder, truncate_chunks
from muscle_hf.alignment.vocabulary import read_vocabulary
from muscle_hf.errors import ConfigurationError, InputError

LLAMA_2_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}[INST] {{ message['content'] }} "
    "[/INST]{% else %} {{ message['content'] }} {{ eos_token }}{% endif %}{% endfor %}"
)
QUESTION, ANSWER = "what is the balance of my account", "ten dollars"
MESSAGES = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}]
FORMATS: dict[str, dict[str, Any]] = {
    "text": {"text": f"{QUESTION} {ANSWER}"},
    "text with an end": {"text": f"{QUESTION} {ANSWER}{END}"},
    "prompt and completion": {"prompt": QUESTION, "completion": f" {ANSWER}"},
    "messages": {"messages": MESSAGES},
    "conversations": {"conversations": [{"from": one["role"], "value": one["content"]} for one in MESSAGES]},
    "prompt and completion as messages": {"prompt": MESSAGES[:1], "completion": MESSAGES[1:]},
}


def _new(**options: Any) -> PreTrainedTokenizerFast:
    return tiny_tokenizer(add_beginning=True, chat_template=CHAT_TEMPLATE, **options)


def _old(kind: Any = sentencepiece_tokenizer) -> PreTrainedTokenizerFast:
    tokenizer = kind()
    tokenizer.chat_template = LLAMA_2_TEMPLATE if kind is sentencepiece_tokenizer else CHAT_TEMPLATE
    return tokenizer


def _prepared(row: dict[str, Any], tokenizer: PreTrainedTokenizerFast, *, completion_only: bool = True) -> Dataset:
    """The row as TRL's own code encodes it, neither truncated nor packed."""
    trainer = SimpleNamespace(_tokenizer=tokenizer, chat_template=None, completion_only_loss=completion_only)
    config = SimpleNamespace(
        dataset_num_proc=None,
        dataset_text_field="text",
        assistant_only_loss=False,
        max_length=None,
        shuffle_dataset=False,
    )
    return SFTTrainer._prepare_dataset(trainer, Dataset.from_list([row]), tokenizer, config, False, None, "train")


def _aligned(row: dict[str, Any], new: PreTrainedTokenizerFast, old: PreTrainedTokenizerFast, **options: Any) -> Any:
    return _prepared(row, new, **options).map(ChunkEncoder(new, old), batched=True)[0]


def _chunks(row: Any, new: PreTrainedTokenizerFast, old: PreTrainedTokenizerFast) -> list[tuple[str, str]]:
    """Each chunk as both sides write it."""
    sides = []
    for tokenizer, ids, numbers in (
        (new, row["input_ids"], row["chunk_ids"]),
        (old, row["old_input_ids"], row["old_chunk_ids"]),
    ):
        tokens = tokenizer.convert_ids_to_tokens(ids)
        assert len(tokens) == len(numbers)
        sides.append(
            [
                " ".join(token for token, of in zip(tokens, numbers, strict=True) if of == number)
                for number in range(max(numbers) + 1)
            ]
        )
    return list(zip(*sides, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_of_trl_is_encoded_as_trl_encodes_it_on_both_sides(name: str) -> None:
    new, old = _new(), _old()
    row = _aligned(FORMATS[name], new, old, completion_only=False)
    # What the old model was trained on: TRL with its own tokenizer.
    assert row["old_input_ids"] == _prepared(FORMATS[name], old, completion_only=False)[0]["input_ids"]
    chunks = _chunks(row, new, old)
    assert chunks[-1] in ((END, END), (END, f"▁ {END}"))
    texts = "".join(text.replace(" ", "").replace("Ġ", " ") for text, _ in chunks[:-1])
    messages = ("messages" in name) or name == "conversations"
    assert texts == QUESTION + ("" if messages else " ") + ANSWER, "all of it is aligned, and no template text"


def test_only_chunks_that_are_trained_on_are_kept_and_numbered_from_zero() -> None:
    new, old = _new(), _old()
    row = _aligned(FORMATS["prompt and completion"], new, old)
    assert row["labels"][0] == -100
    assert [number >= 0 for number in row["chunk_ids"]] == [label != -100 for label in row["labels"]]
    assert sorted({*row["chunk_ids"]} - {-1}) == list(range(max(row["chunk_ids"]) + 1))
    assert _chunks(row, new, old)[0][0].startswith("Ġt")


def test_a_token_that_nothing_predicts_is_in_no_chunk() -> None:
    new, old = tiny_tokenizer(), _old()  # no token for the beginning on the new side
    row = _aligned({"text": "say thank you"}, new, old)
    assert row["chunk_ids"][0] == -1 and row["old_chunk_ids"][1] == -1
    row = _aligned({"text": "say thank you"}, _new(), tiny_tokenizer())  # none on the old side
    assert row["old_chunk_ids"][0] == -1 and row["chunk_ids"][:2] == [-1, -1]


@pytest.mark.parametrize("name", FORMATS)
def test_equal_tokenizers_give_every_trained_token_a_chunk_of_its_own_template_and_all(name: str) -> None:
    new = _new()
    row = _aligned(FORMATS[name], new, _new())
    assert row["old_input_ids"] == row["input_ids"] and row["old_chunk_ids"] == row["chunk_ids"]
    trained = [label != -100 for label in row["labels"]]
    assert [number >= 0 for number in row["chunk_ids"]] == [False, *trained[1:]]
    assert [number for number in row["chunk_ids"] if number >= 0] == list(range(sum(trained[1:])))


@pytest.mark.parametrize("kind", [sentencepiece_tokenizer, unigram_tokenizer, wordpiece_tokenizer])
def test_equal_tokenizers_of_every_kind_align_token_by_token_also_where_characters_are_split(kind: Any) -> None:
    text = "é the  card 😀 ﬁ \n my Ana"
    ids = kind()(text + kind().eos_token)["input_ids"]
    row = ChunkEncoder(kind(), kind())({"text": [text], "input_ids": [ids]})
    assert row["chunk_ids"][0] == [-1, *range(len(ids) - 1)]


def test_messages_are_aligned_although_the_templates_differ() -> None:
    new, old = _new(), _old()
    row = _aligned(
        {"messages": [{"role": "user", "content": "say A"}, {"role": "assistant", "content": "A"}]}, new, old
    )
    assert _chunks(row, new, old) == [
        ("s a y", "▁say"),
        ("Ġ", "▁"),
        ("A", "A"),
        ("A", "A"),
        (END, f"▁ {END}"),
    ]


def test_special_tokens_in_what_a_user_writes_are_not_taken_for_text() -> None:
    new, old = _new(), _old()
    new.add_special_tokens({"additional_special_tokens": ["<|user|>"]})
    row = _aligned({"text": "the <|user|> the"}, new, old)
    assert [one for one, _ in _chunks(row, new, old)] == ["t he", "Ġ", "Ġthe", END]
    # Of both sides: the same special token.
    row = _aligned({"text": f"the {END} the"}, new, old)
    assert (END, END) in _chunks(row, new, old)[:-1]


def test_unknown_text_is_never_aligned_with_what_it_stands_for() -> None:
    new, old = _new(), _old(unigram_tokenizer)
    row = _aligned({"text": "the ☃ card"}, new, old)
    assert "<unk>" in old.convert_ids_to_tokens(row["old_input_ids"])
    assert not any("<unk>" in text for _, text in _chunks(row, new, old))
    assert ("Ġ", "▁") in _chunks(row, new, old), "what stands around it is"


def test_white_space_hidden_in_the_offsets_of_a_byte_level_tokenizer_is_found_again() -> None:
    def trimmed() -> PreTrainedTokenizerFast:
        tokenizer = tiny_tokenizer(vocabulary_size=300)
        tokenizer.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
        return tokenizer

    text = " the  card x "
    ids = _new()(text + END)["input_ids"]
    rows = [
        ChunkEncoder(_new(), old)({"text": [text], "input_ids": [ids]})
        for old in (trimmed(), tiny_tokenizer(vocabulary_size=300))
    ]
    assert rows[0] == rows[1]
    hidden, shown = (
        tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
        for tokenizer in (trimmed(), tiny_tokenizer(vocabulary_size=300))
    )
    assert hidden != shown


@pytest.mark.slow
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.sampled_from(TEXTS))
@settings(deadline=None, max_examples=60)
def test_both_sides_of_every_chunk_spell_the_same_text(text: str) -> None:
    new = PROPERTY["byte-level"]
    ids = new(text + END)["input_ids"]
    for kind, encoder in ENCODERS.items():
        row = {name: values[0] for name, values in encoder({"text": [text], "input_ids": [ids]}).items()}
        old = PROPERTY[kind]
        spelled, old_spelled = read_vocabulary(new).spelled, read_vocabulary(old).spelled
        for number in range(max(row["chunk_ids"], default=-1) + 1):
            one = [token for token, of in zip(ids, row["chunk_ids"], strict=True) if of == number]
            other = [
                token for token, of in zip(row["old_input_ids"], row["old_chunk_ids"], strict=True) if of == number
            ]
            if one == [new.eos_token_id]:
                assert old.eos_token_id in other
                continue
            written = b"".join(spelled[token] for token in one)
            # SentencePiece writes a space before the text.
            assert b"".join(old_spelled[token] for token in other) in (written, b" " + written)


PROPERTY = {
    "byte-level": tiny_tokenizer(add_beginning=True),
    "smaller": tiny_tokenizer(TEXTS[:3], vocabulary_size=290, add_beginning=True),
    "sentencepiece": sentencepiece_tokenizer(),
}
ENCODERS = {kind: ChunkEncoder(PROPERTY["byte-level"], old) for kind, old in PROPERTY.items()}


def test_input_ids_of_another_tokenizer_or_template_are_refused() -> None:
    new = _new()
    encoder = ChunkEncoder(new, _old())
    with pytest.raises(InputError, match="differ at position 2"):
        encoder({"text": ["the card"], "input_ids": [[*new("the")["input_ids"][:2], 300, 2]]})
    with pytest.raises(InputError, match="before they are truncated or packed"):
        encoder({"text": ["the card"], "input_ids": [new("the card")["input_ids"][:3]]})
    ids = new.apply_chat_template(MESSAGES, tokenize=True, return_dict=True)["input_ids"]
    with pytest.raises(InputError, match="differ at position"):
        ChunkEncoder(new, _old(), chat_template=LLAMA_2_TEMPLATE)({"messages": [MESSAGES], "input_ids": [ids]})


def test_the_training_template_can_differ_from_the_tokenizers_own() -> None:
    new = _new()
    ids = new.apply_chat_template(MESSAGES, tokenize=True, return_dict=True, chat_template=LLAMA_2_TEMPLATE)[
        "input_ids"
    ]
    row = ChunkEncoder(new, _old(), chat_template=LLAMA_2_TEMPLATE)({"messages": [MESSAGES], "input_ids": [ids]})
    assert row["chunk_ids"][0][-1] >= 0


def test_rows_without_their_text_are_refused_with_the_columns_that_are_needed() -> None:
    encoder = ChunkEncoder(_new(), _old())
    with pytest.raises(InputError, match=r"These rows have input_ids, labels.*tokenized already"):
        encoder({"input_ids": [[1, 5]], "labels": [[1, 5]]})
    with pytest.raises(InputError, match='no "input_ids"'):
        encoder({"text": ["the"]})


def test_another_text_column_is_read_where_it_is_named() -> None:
    new = _new()
    batch = {"body": ["the card"], "input_ids": [new("the card" + END)["input_ids"]]}
    assert max(ChunkEncoder(new, _old(), text_field="body")(batch)["chunk_ids"][0]) > 0


def test_tokenizers_that_cannot_be_aligned_are_refused_before_any_row() -> None:
    class Slow:
        is_fast = False

    with pytest.raises(ConfigurationError, match="slow"):
        ChunkEncoder(_new(), Slow())
    with pytest.raises(ConfigurationError, match="the old tokenizer has no chat template"):
        _aligned(FORMATS["messages"], _new(), sentencepiece_tokenizer())


def test_a_data_set_is_mapped_once_and_found_again_in_the_cache() -> None:
    new, old = _new(), _old()
    encoder = ChunkEncoder(new, old)
    copy = pickle.loads(pickle.dumps(encoder))  # noqa: S301 - our own, as worker processes get it
    batch = {"text": ["the card"], "input_ids": [new("the card" + END)["input_ids"]]}
    assert copy(batch) == encoder(batch)
    data = Dataset.from_dict(batch)
    assert data.map(encoder, batched=True)._fingerprint == data.map(ChunkEncoder(new, old), batched=True)._fingerprint


def test_truncation_takes_the_chunks_that_it_cuts_and_keeps_both_sides_in_step() -> None:
    row = {"chunk_ids": [-1, 0, 1, 1, 2, 3], "old_input_ids": [9, 8, 7, 6, 5], "old_chunk_ids": [-1, 0, 1, 2, 3]}
    assert truncate_chunks(**row, length=4) == {
        "chunk_ids": [-1, 0, 1, 1],
        "old_input_ids": [9, 8, 7],
        "old_chunk_ids": [-1, 0, 1],
    }
    assert truncate_chunks(**row, length=3)["chunk_ids"] == [-1, 0, -1]
    assert truncate_chunks(**row, length=6, old_length=4) == {
        "chunk_ids": [-1, 0, 1, 1, 2, -1],
        "old_input_ids": [9, 8, 7, 6],
        "old_chunk_ids": [-1, 0, 1, 2],
    }
    assert truncate_chunks(**row, length=6) == row
    # A row of which nothing is left is not empty, or it could not be batched.
    assert truncate_chunks(**row, length=1) == {"chunk_ids": [-1], "old_input_ids": [9], "old_chunk_ids": [-1]}


def test_the_summary_counts_what_is_trained_and_refuses_data_in_which_nothing_meets() -> None:
    rows = [
        {"labels": [5, 5, 5, -100, 5], "chunk_ids": [-1, 0, 1, -1, -1], "old_chunk_ids": [-1, 0, 1, 1]},
        {"input_ids": [5, 5], "chunk_ids": [-1, 0], "old_chunk_ids": [-1, 0]},
    ]
    summary = AlignmentSummary.of(rows)
    assert summary == AlignmentSummary(trained_tokens=4, aligned_tokens=3, chunks=3, single_chunks=2)
    assert str(summary).startswith("75.0% of 4 trained tokens lie in one of 3 chunks") and "66.7%" in str(summary)
    with pytest.raises(InputError, match="None of the 1 trained tokens"):
        AlignmentSummary.of([{"input_ids": [5, 5], "chunk_ids": [-1, -1], "old_chunk_ids": [-1]}])


def test_the_summary_agrees_with_the_encoder() -> None:
    new, old = _new(), _old()
    row = _aligned(FORMATS["messages"], new, old)
    summary = AlignmentSummary.of([row])
    assert summary.chunks == len(_chunks(row, new, old))
    assert summary.single_chunks == sum(" " not in a and " " not in b for a, b in _chunks(row, new, old))
