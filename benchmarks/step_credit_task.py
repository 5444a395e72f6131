r"""Arithmetic in steps, and two small models that learned it with different mistakes, so that the new one breaks some.

A question such as "+5*2-3 4\n" starts from 4 and goes from left to right modulo 7, one symbol a number; a line of the
answer is the result so far: "2\n4\n1". Each model has learned some facts ("4+5") wrongly, since its training data had
the same wrong result in most of the rows. So what a model gets wrong is a step, and which step it is, is known.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

MODULUS = 7
NUMBERS = "0123456"
OPERATIONS = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}
STEPS = 3
LONGEST = 2 * STEPS
"""Tokens of an answer, its end included."""
WRONG_SHARE = 0.65
"""A fact that a model has learned wrongly is wrong in so many of its rows."""
OLD_WRONG, NEW_WRONG = 0.12, 0.06
"""So many of all facts."""

Fact = tuple[int, str, int]


@dataclass(frozen=True)
class Question:
    """A start and what is done to it."""

    start: int
    operations: tuple[tuple[str, int], ...]

    @property
    def prompt(self) -> str:
        """As the models are asked."""
        return "".join(sign + NUMBERS[number] for sign, number in self.operations) + f" {NUMBERS[self.start]}\n"

    @property
    def reference(self) -> str:
        """The whole right answer."""
        value, lines = self.start, []
        for sign, number in self.operations:
            value = OPERATIONS[sign](value, number) % MODULUS
            lines.append(NUMBERS[value])
        return "\n".join(lines)


def is_right(answer: str, reference: str) -> bool:
    """Judge an answer by its last line alone, as graders of mathematics do."""
    return answer.rpartition("\n")[2] == reference.rpartition("\n")[2] and answer.count("\n") == STEPS - 1


def first_mistake(answer: str, reference: str) -> int:
    """Say which line is the first wrong one."""
    lines = zip(answer.split("\n"), reference.split("\n"), strict=False)
    return next((place for place, (line, right) in enumerate(lines) if line != right), STEPS)


def questions(count: int, draw: np.random.Generator, not_in: Sequence[Question] = ()) -> list[Question]:
    """Draw different questions."""
    seen, made = set(not_in), []
    while len(made) < count:
        signs = draw.choice(list(OPERATIONS), STEPS).tolist()
        numbers = draw.integers(1, MODULUS, STEPS).tolist()
        question = Question(int(draw.integers(MODULUS)), tuple(zip(signs, numbers, strict=True)))
        if question not in seen:
            seen.add(question)
            made.append(question)
    return made


def mistakes(seed: int) -> tuple[dict[Fact, int], dict[Fact, int]]:
    """Draw the facts that the old and the new model learn wrongly; none is both."""
    draw = np.random.default_rng((seed, 1))
    facts = list(product(range(MODULUS), OPERATIONS, range(1, MODULUS)))
    order = draw.permutation(len(facts)).tolist()
    old, new = round(OLD_WRONG * len(facts)), round(NEW_WRONG * len(facts))

    def wrong(places: Sequence[int]) -> dict[Fact, int]:
        made = {}
        for place in places:
            value, sign, number = facts[place]
            result = OPERATIONS[sign](value, number) % MODULUS
            made[facts[place]] = int((result + draw.integers(1, MODULUS)) % MODULUS)
        return made

    return wrong(order[:old]), wrong(order[old : old + new])


def tokenizer() -> PreTrainedTokenizerFast:
    """Make one with a token for each symbol."""
    padding, end = "<pad>", "<end>"
    symbols = [padding, end, "\n", " ", *OPERATIONS, *NUMBERS]
    made = Tokenizer(models.WordLevel({symbol: token for token, symbol in enumerate(symbols)}))
    made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    made.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token=padding, eos_token=end)


class _Taught:
    """Rows of tokens as a model is taught them: question, answer with its mistakes, end."""

    def __init__(self, wrong: dict[Fact, int], tokens: PreTrainedTokenizerFast) -> None:
        """Tabulate the facts."""
        shape = (MODULUS, len(OPERATIONS), MODULUS)
        self._right, self._wrong = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        for value, (place, sign), number in product(range(MODULUS), enumerate(OPERATIONS), range(MODULUS)):
            result = OPERATIONS[sign](value, number) % MODULUS
            self._right[value, place, number] = result
            self._wrong[value, place, number] = wrong.get((value, sign, number), result)
        self._numbers = np.array(tokens.convert_tokens_to_ids(list(NUMBERS)))
        self._signs = np.array(tokens.convert_tokens_to_ids(list(OPERATIONS)))
        self._line, self._space, self._end = tokens.convert_tokens_to_ids(["\n", " ", "<end>"])

    def rows(self, count: int, draw: np.random.Generator) -> NDArray[np.int64]:
        """Draw so many."""
        value = draw.integers(0, MODULUS, count)
        signs = draw.integers(0, len(OPERATIONS), (count, STEPS))
        numbers = draw.integers(1, MODULUS, (count, STEPS))
        rows = np.full((count, 2 * STEPS + 3 + 2 * STEPS), self._line)
        rows[:, 0 : 2 * STEPS : 2], rows[:, 1 : 2 * STEPS : 2] = self._signs[signs], self._numbers[numbers]
        rows[:, 2 * STEPS], rows[:, 2 * STEPS + 1] = self._space, self._numbers[value]
        for step in range(STEPS):
            fact = value, signs[:, step], numbers[:, step]
            value = np.where(draw.random(count) < WRONG_SHARE, self._wrong[fact], self._right[fact])
            rows[:, 2 * STEPS + 3 + 2 * step] = self._numbers[value]
        rows[:, -1] = self._end
        return rows


def trained(wrong: dict[Fact, int], seed: int, steps: int, batch: int = 64) -> LlamaForCausalLM:
    """Train a model from scratch on fresh questions, with a rate that falls to 0."""
    torch.manual_seed(seed)
    tokens, draw = tokenizer(), np.random.default_rng((seed, 2))
    taught = _Taught(wrong, tokens)
    config = LlamaConfig(
        vocab_size=len(tokens),
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
        tie_word_embeddings=False,
        pad_token_id=tokens.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokens.eos_token_id,
    )
    model = LlamaForCausalLM(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1, (step + 1) / 50) * (1 - step / steps))
    for _ in range(steps):
        rows = torch.from_numpy(taught.rows(batch, draw))
        logits = model(rows[:, :-1]).logits[:, 2 * STEPS + 2 :]
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 2 * STEPS + 3 :].flatten()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        rate.step()
    return model.eval()


def answers(model: Any, prompts: Sequence[str]) -> list[str]:
    """Give the likeliest answers."""
    from muscle_hf import generate_answers

    options = {"max_new_tokens": LONGEST, "batch_size": 500, "tie_margin": 0.0, "show_progress": False}
    return generate_answers(model, tokenizer(), prompts, **options).texts
