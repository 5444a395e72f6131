"""From spelling to sounds: the words, the tokenizer and the models of `benchmarks/spelling.py`."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from spelling_data import digest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

EXTRACT = Path(__file__).parents[1] / "examples" / "data" / "cmudict" / "extract.dict"
PADDING, END = "<pad>", "</s>"
_LONGEST = 12


@dataclass(frozen=True)
class Word:
    """A word and all the ways it is said, as sounds without stress; the first is the one that is taught."""

    spelling: str
    sounds: tuple[str, ...]

    def error(self, answer: str) -> float:
        """Return the phone error of an answer: edits for each sound, to the nearest right one."""
        said = answer.split()
        return min(edits(said, right.split()) / len(right.split()) for right in self.sounds)


def read_words(path: Path = EXTRACT) -> list[Word]:
    """Read the extract, in the order of the digests of its words, which stands for a random one."""
    sounds: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        entry, *phones = line.split()
        said = " ".join(phone.rstrip("012") for phone in phones)
        sounds.setdefault(re.sub(r"\(\d+\)", "", entry), []).append(said)
    return [Word(word, tuple(dict.fromkeys(sounds[word]))) for word in sorted(sounds, key=digest)]


@dataclass(frozen=True)
class Split:
    """Words to test on, and those that the old model (20 % of all) and the new one (40 %) learn."""

    test: list[Word]
    old: list[Word]
    new: list[Word]

    @classmethod
    def of(cls, words: Sequence[Word], test: int) -> "Split":
        """Split them; the old model's words are among the new one's."""
        learned = len(words) * 2 // 5
        return cls([*words[-test:]], [*words[: learned // 2]], [*words[:learned]])


def rows(words: Sequence[Word]) -> Dataset:
    """Return words as rows to train on: letters, and the first way to say them."""
    return Dataset.from_list([{"prompt": " ".join(w.spelling), "completion": w.sounds[0]} for w in words])


def tokenizer_of(words: Sequence[Word]) -> PreTrainedTokenizerFast:
    """Return a tokenizer of letters and sounds, with a space between them and an end behind."""
    sounds = sorted({phone for word in words for said in word.sounds for phone in said.split()})
    tokens = [PADDING, END, *"abcdefghijklmnopqrstuvwxyz", *sounds]
    tokenizer = Tokenizer(models.WordLevel({token: number for number, token in enumerate(tokens)}, unk_token=PADDING))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(f"$A {END}", special_tokens=[(END, 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PADDING, eos_token=END)


def untrained(tokenizer: PreTrainedTokenizerFast, width: int, seed: int) -> T5ForConditionalGeneration:
    """Return a T5 of 2 + 2 layers with random weights."""
    torch.manual_seed(seed)
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=width,
        d_ff=4 * width,
        d_kv=width // 4,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.1,
        decoder_start_token_id=tokenizer.pad_token_id,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return T5ForConditionalGeneration(config)


@torch.no_grad()
def answers(model: Any, tokenizer: PreTrainedTokenizerFast, words: Sequence[Word], batch: int = 250) -> list[str]:
    """Say words, greedily."""
    model.eval()
    said = []
    for start in range(0, len(words), batch):
        spelled = [" ".join(word.spelling) for word in words[start : start + batch]]
        inputs = tokenizer(spelled, padding=True, return_tensors="pt")
        tokens = model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            do_sample=False,
            max_new_tokens=_LONGEST,
        )
        said += tokenizer.batch_decode(tokens, skip_special_tokens=True)
    return said


def edits(said: Sequence[str], right: Sequence[str]) -> int:
    """Count the sounds to put in, leave out or change.

    >>> edits("K AE T".split(), "B AE T S".split())
    2
    """
    row = [*range(len(right) + 1)]
    for number, sound in enumerate(said, 1):
        row = [*_next_row(row, sound, right, number)]
    return row[-1]


def _next_row(row: list[int], sound: str, right: Sequence[str], number: int) -> Iterator[int]:
    last = number
    yield last
    for place, other in enumerate(right, 1):
        last = min(last + 1, row[place] + 1, row[place - 1] + (sound != other))
        yield last
