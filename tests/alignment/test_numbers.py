"""Numbers as one token here and digit by digit there, which breaks a comparison token by token.

To a tokenizer with tokens of several digits "2" is the number two; to one that writes digit after digit it may become
20 and 201. So digits are no shared tokens, and a number is compared together with what shows that it has ended.
"""

import math

import pytest
import torch
from other_tokenizers import wordpiece_tokenizer
from tiny_models import tiny_tokenizer
from transformers import PreTrainedTokenizerFast

from muscle_hf.alignment.counted import count_chunks
from muscle_hf.alignment.encoding import ChunkEncoder
from muscle_hf.alignment.loss import loss_of_chunks
from muscle_hf.alignment.vocabulary import read_vocabulary, shared_tokens, write_numbers_alike
from muscle_hf.losses.strategy import Strategy

DIGITS = tiny_tokenizer()  # learned from texts without a number
NUMBERS = tiny_tokenizer(["pay 1234 the 12 the 20", "pay 1234 the 12 the 20", "the 1234 the 20"])


def _write(text: str, new: PreTrainedTokenizerFast, old: PreTrainedTokenizerFast, trained_from: int = 0) -> list[str]:
    """Both sides with a bar wherever a chunk ends, and tokens that are in none in brackets."""
    ids = new(f"{text}</s>")["input_ids"]
    labels = [-100] * trained_from + ids[trained_from:]
    row = {
        name: values[0]
        for name, values in ChunkEncoder(new, old)({"text": [text], "input_ids": [ids], "labels": [labels]}).items()
    }
    sides = []
    for tokenizer, tokens, chunks in ((new, ids, row["chunk_ids"]), (old, row["old_input_ids"], row["old_chunk_ids"])):
        written = ""
        for place, (token, chunk) in enumerate(zip(tokenizer.convert_ids_to_tokens(tokens), chunks, strict=True)):
            last = place + 1 == len(chunks) or chunks[place + 1] != chunk
            written += f"({token}) " if chunk < 0 else token + (" | " if last else " ")
        sides.append(written.removesuffix(" | "))
    return sides


@pytest.mark.parametrize(
    ("text", "new", "old"),
    [
        # Four digits against one token, with the word behind them; and a number that ends the row.
        ("a 1234 the 5", "(a) Ġ 1 2 3 4 Ġthe | Ġ | 5 </s>", "(a) Ġ1234 Ġthe | Ġ | 5 </s>"),
        # Where both write the number alike, it is one chunk all the same: the old 12 has ended, the new 1 2 has not.
        ("a 7 the", "(a) Ġ | 7 Ġthe | </s>", "(a) Ġ | 7 Ġthe | </s>"),
        ("a 1299 the", "(a) Ġ 1 2 9 9 Ġthe | </s>", "(a) Ġ12 9 9 Ġthe | </s>"),
        ("a b the", "(a) Ġb | Ġthe | </s>", "(a) Ġ b | Ġthe | </s>"),
    ],
)
def test_a_number_is_one_chunk_with_what_follows_it(text: str, new: str, old: str) -> None:
    assert _write(text, DIGITS, NUMBERS) == [new, old]
    assert _write(text, NUMBERS, DIGITS) == [old, new]


def test_tokenizers_that_write_numbers_alike_compare_them_digit_by_digit() -> None:
    assert write_numbers_alike(read_vocabulary(DIGITS), read_vocabulary(tiny_tokenizer(["zebra", "quartz zebra"])))
    assert not write_numbers_alike(read_vocabulary(DIGITS), read_vocabulary(NUMBERS))
    assert not write_numbers_alike(
        read_vocabulary(wordpiece_tokenizer(["▁12"])), read_vocabulary(wordpiece_tokenizer())
    )
    assert write_numbers_alike(read_vocabulary(wordpiece_tokenizer()), read_vocabulary(DIGITS))
    new, _ = _write("a 1234 the", DIGITS, tiny_tokenizer(["a zebra", "to a zebra"]))
    assert new == "(a) Ġ | 1 | 2 | 3 | 4 | Ġthe | </s>"


def test_a_number_of_the_prompt_takes_no_trained_token_along() -> None:
    new, _ = _write("a 1234 the 20", DIGITS, NUMBERS, trained_from=6)
    assert new == "(a) (Ġ) (1) (2) (3) (4) Ġthe | Ġ 2 0 </s>"


def test_digits_are_shared_only_where_numbers_are_written_alike() -> None:
    for old, is_shared in ((tiny_tokenizer(["zebra", "quartz zebra"]), True), (NUMBERS, False)):
        ids, _ = shared_tokens(DIGITS, old)
        tokens = DIGITS.convert_ids_to_tokens(ids.tolist())
        assert ("7" in tokens) == is_shared and "a" in tokens and "</s>" in tokens


def test_the_likelihood_of_a_number_is_that_of_all_its_tokens_by_hand() -> None:
    # "1234 the": five tokens here, two there, each of them with probability a half.
    rows = {"text": ["a 1234 the"], "input_ids": [DIGITS("a 1234 the</s>")["input_ids"]]}
    columns = {name: torch.tensor(values) for name, values in ChunkEncoder(DIGITS, NUMBERS)(rows).items()}
    ids, old_ids = torch.tensor(rows["input_ids"]), columns["old_input_ids"]
    labels = ids.masked_fill(columns["chunk_ids"] != 0, -100)
    chunks = count_chunks(labels, columns["chunk_ids"], (old_ids, columns["old_chunk_ids"]))

    def a_half(tokens: torch.Tensor, size: int) -> torch.Tensor:
        return torch.full((len(tokens), size), -math.log(size - 1.0)).scatter(1, tokens[:, None], 0.0)

    student, old = a_half(chunks.new.ids, len(DIGITS)), a_half(chunks.old.ids, len(NUMBERS))
    assert (len(student), len(old)) == (6, 2)
    shared = tuple(torch.from_numpy(ids) for ids in reversed(shared_tokens(DIGITS, NUMBERS)))
    result = loss_of_chunks(
        Strategy(mask="none", temperature=1.0),
        chunks,
        student,
        old,
        student,
        shared,
        normalizer=None,
        weights=None,
        given_teachers=None,
    )
    p, q = 0.5**2, 0.5**6
    expected = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    assert result.divergence_to_old.item() == pytest.approx(expected, rel=1e-5)
    assert result.tokens_to_old == 6
