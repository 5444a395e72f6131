"""Tokens of two tokenizers are taken for the same only where they stand for the same text, or play the same part."""

import pytest
from other_tokenizers import sentencepiece_tokenizer, unigram_tokenizer, wordpiece_tokenizer
from tiny_models import tiny_tokenizer
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from muscle_hf.alignment.vocabulary import read_vocabulary, shared_tokens
from muscle_hf.errors import ConfigurationError

KINDS = {
    "byte-level": tiny_tokenizer,
    "sentencepiece": sentencepiece_tokenizer,
    "unigram": unigram_tokenizer,
    "wordpiece": wordpiece_tokenizer,
}
END = "</s>"


def _pairs(new: PreTrainedTokenizerFast, old: PreTrainedTokenizerFast) -> dict[str, str]:
    new_ids, old_ids = shared_tokens(new, old)
    assert sorted(set(new_ids)) == new_ids.tolist() and len(set(old_ids)) == len(old_ids), "an id occurs twice"
    return dict(
        zip(new.convert_ids_to_tokens(new_ids.tolist()), old.convert_ids_to_tokens(old_ids.tolist()), strict=True)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_tokenizer_shares_every_token_with_itself(kind: str) -> None:
    tokenizer = KINDS[kind]()
    new_ids, old_ids = shared_tokens(tokenizer, KINDS[kind]())
    assert new_ids.tolist() == old_ids.tolist() == list(range(len(tokenizer)))


def test_the_same_text_is_found_under_two_spellings_and_nothing_else() -> None:
    new, old = tiny_tokenizer(), sentencepiece_tokenizer()
    pairs = _pairs(new, old)
    assert pairs["Ġmy"] == "▁my"
    assert pairs["in"] == "in"
    assert pairs["Ġ"] == "▁"
    assert pairs["Ã"] == "<0xC3>", "a byte that no character of the old vocabulary spells"
    assert pairs["a"] == "a", "not <0x61>, which the old tokenizer uses for characters that it does not know"
    assert pairs[END] == END
    texts = read_vocabulary(old).spelled
    for name, old_name in pairs.items():
        if name not in (END, "<s>"):
            text = read_vocabulary(new).spelled[new.convert_tokens_to_ids(name)]
            assert text == texts[old.convert_tokens_to_ids(old_name)]


def test_byte_tokens_are_shared_between_two_sentencepiece_vocabularies() -> None:
    pairs = _pairs(sentencepiece_tokenizer(), sentencepiece_tokenizer(["▁the", "▁zebra"]))
    assert pairs["<0xFF>"] == "<0xFF>"
    assert pairs["<0x61>"] == "<0x61>" and pairs["a"] == "a"


def test_wordpiece_shares_nothing_but_the_end_with_tokenizers_that_keep_white_space() -> None:
    assert _pairs(tiny_tokenizer(), wordpiece_tokenizer()) == {END: "[END]"}


def test_wordpiece_shares_its_tokens_only_under_the_same_rules() -> None:
    cased = wordpiece_tokenizer()
    cased.backend_tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    assert set(_pairs(wordpiece_tokenizer(), cased)) == {"[END]"}, "an uncased 'the' is also 'The'"
    smaller = _pairs(wordpiece_tokenizer(), wordpiece_tokenizer(["▁the"]))
    assert smaller["the"] == "the" and smaller["##s"] == "##s" and "car" not in smaller
    assert "[UNK]" not in smaller, "unknown to one vocabulary is not unknown to the other"


def test_lower_casing_byte_level_tokens_are_not_those_of_a_cased_one() -> None:
    uncased = tiny_tokenizer()
    uncased.backend_tokenizer.normalizer = normalizers.Lowercase()
    assert set(_pairs(tiny_tokenizer(), uncased)) == {"<pad>", "<s>", END}


def test_the_end_is_paired_by_its_part_and_other_special_tokens_by_name_alone() -> None:
    new, old = tiny_tokenizer(), tiny_tokenizer()
    new.add_special_tokens({"eos_token": "<|end|>", "additional_special_tokens": ["<|user|>"]})
    old.add_special_tokens({"additional_special_tokens": ["<|person|>"]})
    pairs = _pairs(new, old)
    # "</s>" is still a special token of both; the old one's end is taken by it.
    assert pairs[END] == END and "<|end|>" not in pairs and "<|user|>" not in pairs
    other_end = wordpiece_tokenizer()
    assert _pairs(new, other_end) == {"<|end|>": "[END]"}


def test_a_special_token_is_no_text_that_looks_like_it() -> None:
    new, old = tiny_tokenizer(), tiny_tokenizer()
    new.add_special_tokens({"additional_special_tokens": ["<think>"]})
    old.add_tokens([AddedToken("<think>", special=False)])
    assert "<think>" not in _pairs(new, old)
    new = tiny_tokenizer()
    new.add_tokens([AddedToken("<think>", special=False)])
    assert _pairs(new, old)["<think>"] == "<think>"


def test_tokens_without_a_row_in_the_logits_are_left_out() -> None:
    tokenizer = tiny_tokenizer()
    new_ids, old_ids = shared_tokens(tokenizer, tiny_tokenizer(), new_size=310, old_size=300)
    assert new_ids.tolist() == old_ids.tolist() == list(range(300))


def test_tokens_of_an_unknown_kind_are_compared_as_they_are() -> None:
    words = Tokenizer(models.WordLevel({"red": 0, "blue": 1, "<end>": 2}, unk_token="blue"))  # noqa: S106
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>")  # noqa: S106
    assert _pairs(tokenizer, tokenizer) == {"red": "red", "blue": "blue", "<end>": "<end>"}
    assert _pairs(tokenizer, tiny_tokenizer()) == {"<end>": END}


def test_a_slow_tokenizer_is_refused_because_its_rules_cannot_be_read() -> None:
    class Slow:
        is_fast = False

    with pytest.raises(ConfigurationError, match=r"Slow is a slow tokenizer.*Load the fast one"):
        read_vocabulary(Slow())
