"""One tokenizer, other rows: what is cut and what is moved is right, and what cannot be mapped is refused."""

import json

import numpy as np
import pytest
import torch
from other_tokenizers import sentencepiece_tokenizer, unigram_tokenizer, wordpiece_tokenizer
from tiny_models import TEXTS, tiny_tokenizer
from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from muscle_hf.alignment.vocabulary_map import VocabularyMap, common_tokens, segmentation_difference
from muscle_hf.errors import ModelMismatchError
from muscle_hf.losses.divergences import forward_kl

KINDS = (tiny_tokenizer, sentencepiece_tokenizer, unigram_tokenizer, wordpiece_tokenizer)


def _renumbered(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """The same tokenizer with the ids in the opposite order."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    last = len(tokenizer) - 1
    vocabulary = state["model"]["vocab"]
    if isinstance(vocabulary, list):
        state["model"]["vocab"] = vocabulary[::-1]
        state["model"]["unk_id"] = last - state["model"]["unk_id"]
    else:
        state["model"]["vocab"] = {token: last - number for token, number in vocabulary.items()}
    for token in state["added_tokens"]:
        token["id"] = last - token["id"]
    if state["post_processor"] and "special_tokens" in state["post_processor"]:
        for token in state["post_processor"]["special_tokens"].values():
            token["ids"] = [last - number for number in token["ids"]]
    moved = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(state)))
    moved.add_special_tokens(tokenizer.special_tokens_map)
    return moved


@pytest.mark.parametrize("kind", KINDS)
def test_permuted_ids_are_mapped_so_that_the_old_tokenizer_would_have_given_the_same(kind) -> None:  # type: ignore[no-untyped-def]
    new, old = kind(), _renumbered(kind())
    assert segmentation_difference(new, old) is None
    pairs = common_tokens(new, old, len(new), len(old))
    assert not pairs.identical and pairs.moved == len(new) - len(new) % 2
    for text in TEXTS:
        ids = torch.tensor(new(text)["input_ids"])
        assert pairs.old_input_ids(ids).tolist() == old(text)["input_ids"]


def test_mapped_logits_give_the_divergence_that_equal_ids_would_have_given() -> None:
    new, old = tiny_tokenizer(), _renumbered(tiny_tokenizer())
    pairs = common_tokens(new, old, 324, 322)
    assert "320 of them have another id" in str(pairs)
    generator = torch.Generator().manual_seed(0)
    teacher, student = torch.randn(5, 320, generator=generator), torch.randn(5, 320, generator=generator)
    old_logits = torch.cat([teacher.flip(-1), torch.full((5, 2), 50.0)], -1)  # padding rows must not matter
    new_logits = torch.cat([student, torch.full((5, 4), 50.0)], -1)
    mapped = forward_kl(pairs.old_logits(old_logits), pairs.new_logits(new_logits), 2.0)
    torch.testing.assert_close(mapped, forward_kl(teacher, student, 2.0))


def test_labels_follow_the_cut_logits() -> None:
    pairs = VocabularyMap(5, 4, np.array([1, 2, 4]), np.array([3, 0, 2]), ("new",), ("old",))
    labels = torch.tensor([[-100, 4, 1], [2, -100, 4]])
    assert pairs.labels(labels).tolist() == [[-100, 2, 0], [1, -100, 2]]
    logits = torch.arange(5.0)[None]
    assert pairs.new_logits(logits).tolist() == [[1.0, 2.0, 4.0]]
    assert pairs.old_logits(logits[:, :4]).tolist() == [[3.0, 0.0, 2.0]]
    assert pairs.old_input_ids(torch.tensor([1, 2, 4])).tolist() == [3, 0, 2]


def test_a_label_that_is_no_common_token_cannot_be_trained_on() -> None:
    pairs = VocabularyMap(5, 4, np.array([1, 2, 4]), np.array([3, 0, 2]))
    with pytest.raises(IndexError, match="out of bounds"):
        torch.nn.functional.cross_entropy(torch.zeros(1, 3), pairs.labels(torch.tensor([3])))


def test_padding_that_the_old_model_does_not_know_can_still_be_read() -> None:
    new = tiny_tokenizer()
    new.add_special_tokens({"pad_token": "<|padding|>"})
    pairs = common_tokens(new, tiny_tokenizer(), len(new), 320)
    batch = new(["pay", "please freeze my account"], padding=True, return_tensors="pt")
    old = pairs.old_input_ids(batch["input_ids"])
    assert int(old.min()) >= 0 and torch.equal(old[1], batch["input_ids"][1])


def test_leading_tokens_are_cut_without_a_copy() -> None:
    logits = torch.zeros(2, 10)
    cut = VocabularyMap(10, 12, np.arange(8), np.arange(8)).new_logits(logits)
    assert cut.shape == (2, 8) and cut.data_ptr() == logits.data_ptr()


def test_new_special_tokens_are_let_through_unless_the_data_use_them() -> None:
    new, old = tiny_tokenizer(), tiny_tokenizer()
    new.add_special_tokens({"additional_special_tokens": ["<|user|>"]})
    assert segmentation_difference(new, old) is None
    pairs = common_tokens(new, old, len(new), len(old))
    assert pairs.only_new == ("<|user|>",)
    assert "1 tokens that only the new model has ('<|user|>')" in str(pairs)
    pairs.check_tokens([new("pay my card")["input_ids"]], new)
    with pytest.raises(ModelMismatchError, match=r"hold 1 tokens.*'<\|user\|>'.*alignment=\"chunks\""):
        pairs.check_tokens([[5], new("<|user|>pay")["input_ids"]], new)


def test_tokens_of_the_old_side_alone_are_said_to_be_dropped() -> None:
    new, old = tiny_tokenizer(), tiny_tokenizer()
    old.add_special_tokens({"additional_special_tokens": ["<|user|>"]})
    pairs = common_tokens(new, old, len(new), len(old))
    assert len(pairs.new_ids) == 320 and "only the old model has ('<|user|>')" in str(pairs)


def test_a_token_without_a_row_is_not_common() -> None:
    tokenizer = tiny_tokenizer()
    assert len(common_tokens(tokenizer, tiny_tokenizer(), 320, 300).new_ids) == 300


def test_a_string_that_is_special_on_one_side_alone_is_not_the_same_token() -> None:
    new, old = tiny_tokenizer(), tiny_tokenizer()
    new.add_tokens([AddedToken("<think>", special=False)])
    old.add_special_tokens({"additional_special_tokens": ["<think>"]})
    assert "follows other rules" in str(segmentation_difference(new, old))
    assert len(common_tokens(new, old, len(new), len(old)).new_ids) == 320


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda one: setattr(one, "normalizer", normalizers.NFC()), "normalizers differ"),
        (
            lambda one: setattr(one, "pre_tokenizer", pre_tokenizers.ByteLevel(use_regex=False)),
            "pre-tokenizers differ",
        ),
        (lambda one: one.add_tokens([AddedToken("card", special=False)]), "added token 'card'"),
    ],
)
def test_rules_that_cut_a_text_differently_are_named(change, reason: str) -> None:  # type: ignore[no-untyped-def]
    old = tiny_tokenizer()
    change(old.backend_tokenizer)
    assert reason in str(segmentation_difference(tiny_tokenizer(), old))


def test_other_merges_over_the_same_tokens_are_not_the_same_tokenizer() -> None:
    state = json.loads(tiny_tokenizer().backend_tokenizer.to_str())
    state["model"]["merges"] = state["model"]["merges"][1:] + state["model"]["merges"][:1]
    old = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(state)))
    assert old.get_vocab() == tiny_tokenizer().get_vocab()
    assert "merges differ" in str(segmentation_difference(tiny_tokenizer(), old))


def test_other_scores_of_a_unigram_model_are_not_the_same_tokenizer() -> None:
    state = json.loads(unigram_tokenizer().backend_tokenizer.to_str())
    state["model"]["vocab"][20][1] -= 1.0
    old = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(state)))
    assert "models or merges differ" in str(segmentation_difference(unigram_tokenizer(), old))


def test_slow_tokenizers_with_other_tokens_are_not_guessed_at() -> None:
    class Slow:
        is_fast = False

    assert "slow" in str(segmentation_difference(tiny_tokenizer(), Slow()))
