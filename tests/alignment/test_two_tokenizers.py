"""One sentence, two tokenizers: where they meet. Read this first; the rules are tested in `test_chunks.py`.

The new model's tokenizer is a byte-level BPE: "Ġ" is a space, and a character that it never saw is written byte by
byte ("Ã" and "©" are the two bytes of "é"). Each test has another tokenizer on the old side.
"""

import pytest
from other_tokenizers import sentencepiece_tokenizer, unigram_tokenizer, wordpiece_tokenizer
from tiny_models import tiny_tokenizer
from transformers import PreTrainedTokenizerFast

from muscle_hf.alignment.encoding import AlignmentSummary, ChunkEncoder
from muscle_hf.alignment.vocabulary import shared_tokens

TEXT = "Freeze the café card"
# Learned other merges than the new one.
OTHER_TEXTS = ["freeze the lake", "a frozen card", "lost and found in the snow, I say"]


def _write(old: PreTrainedTokenizerFast) -> tuple[str, str, AlignmentSummary]:
    """Both sides with a bar wherever a chunk ends, and tokens that are in none in brackets."""
    new = tiny_tokenizer(add_beginning=True)
    input_ids = new(TEXT + str(new.eos_token))["input_ids"]
    columns = ChunkEncoder(new, old)({"text": [TEXT], "input_ids": [input_ids]})
    row = {name: values[0] for name, values in columns.items()} | {"input_ids": input_ids}
    sides = []
    for tokenizer, ids, chunks in (
        (new, row["input_ids"], row["chunk_ids"]),
        (old, row["old_input_ids"], row["old_chunk_ids"]),
    ):
        written = ""
        for place, (token, chunk) in enumerate(zip(tokenizer.convert_ids_to_tokens(ids), chunks, strict=True)):
            last = place + 1 == len(chunks) or chunks[place + 1] != chunk
            written += f"({token}) " if chunk < 0 else token + (" | " if last else " ")
        sides.append(written.removesuffix(" | "))
    return sides[0], sides[1], AlignmentSummary.of([row])


def test_two_byte_level_tokenizers_with_other_merges() -> None:
    # "z e" and "ze" are the same text: one chunk of two tokens against one. "Ġc" here and "Ġ c" there, likewise. The
    # accent is one chunk a byte, since both sides write it byte by byte. <s> is predicted by nothing, and each side's
    # end token is a chunk.
    new, old, summary = _write(tiny_tokenizer(OTHER_TEXTS, vocabulary_size=300, add_beginning=True))
    assert new == "(<s>) F | r | ee | z e | Ġthe | Ġc | a | f | Ã | © | Ġc ar d | </s>"
    assert old == "(<s>) F | r | ee | ze | Ġthe | Ġ c | a | f | Ã | © | Ġcard | </s>"
    assert (summary.trained_tokens, summary.aligned_tokens, summary.chunks, summary.single_chunks) == (15, 15, 12, 9)


def test_sentencepiece_which_writes_a_space_before_the_text() -> None:
    # The "▁" that no one typed belongs to the first letter, which is a byte that this vocabulary has no letter for.
    # "ee z e" and "e eze" have no boundary in common but the ends, and so are one chunk. " the" is one token on both
    # sides: there, whole distributions can be compared.
    new, old, summary = _write(sentencepiece_tokenizer())
    assert new == "(<s>) F | r | ee z e | Ġthe | Ġc a | f | Ã | © | Ġc ar | d | </s>"
    assert old == "(<s>) ▁ <0x46> | r | e eze | ▁the | ▁ca | f | <0xC3> | <0xA9> | ▁car | d | </s>"
    assert (summary.chunks, summary.single_chunks) == (11, 7)


def test_a_unigram_model_with_an_unknown_token() -> None:
    # "F" and "é" are unknown to the old model. <unk> could be any text, so nothing is aligned with it.
    new, old, _ = _write(unigram_tokenizer())
    assert new == "(<s>) (F) r | ee z e | Ġthe | Ġc | a | f | (Ã) (©) Ġc ar | d | </s>"
    assert old == "(▁) (<unk>) r | e eze | ▁the | ▁ c | a | f | (<unk>) ▁car | d | </s>"


def test_wordpiece_which_drops_spaces_case_and_accents() -> None:
    # The space before a word counts to the word. "freeze" begins with the first token of its row, which nothing
    # predicts, so it has no likelihood. "é" is read as "e": the same character of the text.
    new, old, _ = _write(wordpiece_tokenizer())
    assert new == "(<s>) (F) (r) (ee) (z) (e) Ġthe | Ġc | a | f | Ã © | Ġc ar | d | </s>"
    assert old == "(fre) (##eze) the | c | ##a | ##f | ##e | car | ##d | [END]"


def test_the_same_tokenizer_gives_each_token_a_chunk_of_its_own() -> None:
    new, old, summary = _write(tiny_tokenizer(add_beginning=True))
    assert new == old == "(<s>) F | r | ee | z | e | Ġthe | Ġc | a | f | Ã | © | Ġc | ar | d | </s>"
    assert summary.trained_tokens == summary.chunks == summary.single_chunks


@pytest.mark.parametrize(
    ("old", "pairs"),
    [
        (sentencepiece_tokenizer(), {"Ġthe": "▁the", "d": "d", "Ã": "<0xC3>", "</s>": "</s>"}),
        (unigram_tokenizer(), {"Ġthe": "▁the", "d": "d", "</s>": "</s>"}),
        (wordpiece_tokenizer(), {"</s>": "[END]"}),
    ],
    ids=["sentencepiece", "unigram", "wordpiece"],
)
def test_single_tokens_are_the_same_if_they_are_the_same_text(
    old: PreTrainedTokenizerFast, pairs: dict[str, str]
) -> None:
    new = tiny_tokenizer(add_beginning=True)
    new_ids, old_ids = shared_tokens(new, old)
    shared = dict(zip(new_ids.tolist(), old_ids.tolist(), strict=True))
    found = {
        token: old.convert_ids_to_tokens(shared[number])
        for token in ("Ġthe", "d", "Ã", "</s>")
        if (number := new.convert_tokens_to_ids(token)) in shared
    }
    assert found == pairs
