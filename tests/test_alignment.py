"""Vocabularies are compared token by token, not by size alone."""

import pytest
from tiny_models import tiny_llama, tiny_tokenizer

from muscle_hf.alignment import check_same_vocabulary
from muscle_hf.errors import ModelMismatchError

OTHER_TEXTS = ["zebra crossing the quiet boulevard", "quartz boulders quench quarrels"]


def test_one_tokenizer_on_both_sides_is_accepted() -> None:
    tokenizer = tiny_tokenizer()
    check_same_vocabulary(tiny_llama(1, tokenizer), tiny_llama(2, tokenizer), tokenizer, tiny_tokenizer())


def test_sizes_alone_decide_where_the_old_tokenizer_is_not_known() -> None:
    tokenizer, smaller = tiny_tokenizer(), tiny_tokenizer(vocabulary_size=300)
    check_same_vocabulary(tiny_llama(1, tokenizer), tiny_llama(2, tokenizer), tokenizer, None)
    with pytest.raises(
        ModelMismatchError, match=f"{len(tokenizer)} token embeddings and the old model {len(smaller)}"
    ):
        check_same_vocabulary(tiny_llama(1, tokenizer), tiny_llama(2, smaller), tokenizer, None)


def test_tokens_that_moved_are_counted_and_shown_with_both_ids() -> None:
    tokenizer = tiny_tokenizer(vocabulary_size=280)
    other = tiny_tokenizer(OTHER_TEXTS, vocabulary_size=280)
    assert len(tokenizer) == len(other)
    model = tiny_llama(1, tokenizer)
    moved = {token for token, number in tokenizer.get_vocab().items() if other.get_vocab().get(token) != number}
    moved |= {token for token, number in other.get_vocab().items() if tokenizer.get_vocab().get(token) != number}
    with pytest.raises(ModelMismatchError, match=rf"differ in {len(moved)} tokens.*id new / id old.*None"):
        check_same_vocabulary(model, model, tokenizer, other)
