"""How right an answer still was after each of its steps, by continuations that the model writes from there."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..errors import ConfigurationError, InputError
from ..flips.answers.judged import Judge, judge_of, judged, rows_of
from ..flips.step_credit import PIT_RULES, interval_of_best, probability_of_best
from ..models.adapters import base_model
from ..text import how_many, listed, quote
from .generate import continuation
from .prompts import Prompt, as_texts, check_asked, check_fit, check_numbers, encode
from .sample import check_sampling, sample_rows

logger = logging.getLogger(__name__)

__all__ = ["Rollout", "StepValues", "step_values"]

_DEFAULT_LENGTH = 2
"""Without `max_new_tokens`, a rollout may have so many times the tokens of the longest answer."""


@dataclass(frozen=True)
class Rollout:
    """What the model wrote after some of the steps of an answer.

    Args:
        text: What follows these steps, up to the end.
        tokens: The same as it was drawn, without the end token.
        right: Whether steps and rollout together are a right answer; never where it did not end.
        end: The token that it ended with, of those that the model and its tokenizer have; None where it never ended.
    """

    text: str
    tokens: tuple[int, ...]
    right: bool
    end: int | None

    @property
    def finished(self) -> bool:
        """Whether it ended before `max_new_tokens` cut it off."""
        return self.end is not None


@dataclass(frozen=True)
class StepValues:
    """What `step_values` returns for one answer of m steps.

    Args:
        prompt: What was asked, as it was given.
        question: The same as the text that the model reads.
        steps: The answer, taken apart; joined, they are the whole of it.
        right: Whether the answer itself is right.
        value: Probability that the best of `best_of` continuations is right: of the question, then after each step.
            Shape (m + 1,). The last one is 1 or 0, since the answer is there.
        interval: 95 % interval of each, shape (m + 1, 2).
        rollouts: Those from the question, and after each step but the last; shape (m, rollouts).
        tokens: What the model read at each of the m + 1 places, the last with the whole answer, without an end token.
        rule: What `pit` goes by.
    """

    prompt: Prompt
    question: str
    steps: tuple[str, ...]
    right: bool
    value: NDArray[np.float64]
    interval: NDArray[np.float64]
    rollouts: tuple[tuple[Rollout, ...], ...]
    tokens: tuple[tuple[int, ...], ...]
    rule: str = "least_advantage"

    @property
    def answer(self) -> str:
        """The whole text."""
        return "".join(self.steps)

    @property
    def advantage(self) -> NDArray[np.float64]:
        """What each step added to the value, shape (m,)."""
        return np.diff(self.value)

    @property
    def pit(self) -> int | None:
        """Number of the step that went wrong, from 0; None where none stands out, as in an answer of one step."""
        return self.pit_by(self.rule)

    @property
    def unfinished(self) -> int:
        """How many rollouts never ended."""
        return sum(not rollout.finished for of_place in self.rollouts for rollout in of_place)

    def pit_by(self, rule: str) -> int | None:
        """Give the pit by another rule than that of `pit`."""
        return PIT_RULES[check_rule(rule)](self.value) if len(self.steps) > 1 else None


def step_values(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    answers: Sequence[str],
    *,
    judge: Judge | None = None,
    references: Sequence[Any] | None = None,
    separator: str = "\n",
    rollouts: int = 8,
    best_of: int = 1,
    pit_rule: str = "least_advantage",
    temperature: float = 1.0,
    max_new_tokens: int | None = None,
    seed: int = 0,
    batch_size: int = 32,
    tie_margin: float | None = None,
    show_progress: bool = True,
) -> list[StepValues]:
    """Say of each step of an answer how likely the model still gets right from there, by rollouts.

    The value of a step is the probability that a continuation from there is right, its advantage the difference to
    the step before (Setlur et al. 2024, arXiv 2406.14532). With `best_of` above 1 it is that of the best of so many
    continuations, estimated without bias as 1 - C(n - s, K) / C(n, K) from s right ones of n. Costs m times
    `rollouts` sampled answers for an answer of m steps; equal beginnings are sampled once.

    Args:
        model: The model that wrote the answers: a causal language model, or a PEFT model with its adapter active.
        tokenizer: The tokenizer of the model.
        prompts: What it was asked, shape (n,): texts, or conversations for the chat template.
        answers: The whole texts of its answers, shape (n,).
        judge: Says of an answer and its reference whether it is right, True or False, as in `flip_pairs`. Where there
            are no references, it gets the prompt in their place. None: it equals the reference, but for the white
            space around it.
        references: The right answers, shape (n,).
        separator: What steps end with. Steps without a text belong to the one before.
        rollouts: Continuations from the question and after each step but the last.
        best_of: K above; at most `rollouts`.
        pit_rule: How `pit` is told: "least_advantage", the step that lowers the value most; "lowest_value", the first
            of the lowest value, and "first_all_fail", the first after which all rollouts are wrong. The last two find
            fewer mistakes the more rollouts there are.
        temperature: What logits are divided by, above 0; 1 asks for the model's own distribution.
        max_new_tokens: Longest rollout, in tokens, the end token included. One that does not end in them is counted,
            and not right. None: twice the tokens of the longest answer, as far as the model's context goes.
        seed: Of the random numbers, which are independent of those of `sample_answers` with the same seed.
        batch_size: Rollouts to sample at once.
        tie_margin: As in `sample_answers`.
        show_progress: Show a progress bar on stderr.

    Returns:
        `StepValues` for each answer: `value`, `advantage`, `interval`, `pit`, `rollouts` and others.

    Raises:
        ConfigurationError: An option without meaning, `best_of` above `rollouts`, neither judge nor references.
        InputError: Unequal lengths, an answer without text, answers of one step only, a judge that gives no bool, or
            what `sample_answers` refuses.

    Example:
        A model that names the next colour, red, green, blue, and then ends, but is not sure; right is what ends with
        blue. It went wrong where it said red after green:

        >>> import torch
        >>> from tokenizers import Tokenizer, models, pre_tokenizers
        >>> from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
        >>> words = Tokenizer(models.WordLevel({"<end>": 0, "red": 1, "green": 2, "blue": 3}))
        >>> words.pre_tokenizer = pre_tokenizers.Whitespace()
        >>> tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>")
        >>> config = LlamaConfig(vocab_size=4, hidden_size=4, intermediate_size=4, num_hidden_layers=1,
        ...                      num_attention_heads=1, bos_token_id=None, eos_token_id=0)
        >>> model = LlamaForCausalLM(config)
        >>> _ = model.model.layers.apply(lambda layer: [weight.data.zero_() for weight in layer.parameters()])
        >>> model.model.embed_tokens.weight.data = torch.eye(4)
        >>> model.lm_head.weight.data = 1.5 * torch.eye(4).roll(1, 0)
        >>> values = step_values(model, tokenizer, ["red"], [" green red green red"], separator=" ",
        ...                      judge=lambda answer, _: answer.endswith("blue"), rollouts=40, max_new_tokens=50,
        ...                      show_progress=False)
        >>> values[0].steps, values[0].pit
        ((' green ', 'red ', 'green ', 'red'), 3)
        >>> values[0].value
        array([0.9  , 0.975, 0.925, 0.925, 0.   ])
    """
    check_sampling(temperature, 1.0, seed)
    counts = {} if max_new_tokens is None else {"max_new_tokens": max_new_tokens}
    check_numbers(tie_margin, rollouts=rollouts, best_of=best_of, batch_size=batch_size, **counts)
    if best_of > rollouts:
        raise ConfigurationError(
            f"best_of is {best_of}, but there are only {how_many(rollouts, 'rollout')} to take the best of; raise "
            "rollouts."
        )
    check_rule(pit_rule)
    if judge is None and references is None:
        raise ConfigurationError("there is neither a judge nor references, so nobody knows what is right; give one.")
    check_asked(model, tokenizer)
    if base_model(model).config.is_encoder_decoder:
        raise InputError(
            f"{type(base_model(model)).__name__} is an encoder-decoder model, whose encoder would read the steps as a "
            "part of the question; give a causal language model."
        )
    right_answers = prompts if references is None else references
    rows_of({"prompts": prompts, "answers": answers, "references": right_answers})
    by = judge_of(judge, right_answers)
    split = _split(answers, separator)
    questions = _questions(tokenizer, prompts)
    read = _read(tokenizer, questions, split)
    length = _room(model, read) if max_new_tokens is None else max_new_tokens
    check_fit(base_model(model), ((row, tokens, length) for row, places in enumerate(read) for tokens in places))
    # Judged before the rollouts, so that a judge that gives no bool is refused before work is lost.
    right = [judged(by, answer, right_answers[row], f"answers[{row}]") for row, answer in enumerate(answers)]

    continued = list(dict.fromkeys(tokens for places in read for tokens in places[:-1]))
    generations = sample_rows(
        model,
        tokenizer,
        [list(tokens) for tokens in continued],
        samples=rollouts,
        temperature=temperature,
        top_p=1.0,
        max_new_tokens=length,
        seed=seed,
        batch_size=batch_size,
        tie_margin=tie_margin,
        show_progress=show_progress,
        description="Continuing answers",
        use="rollout",
    )
    written = {tokens: generations[at * rollouts :][:rollouts] for at, tokens in enumerate(continued)}
    results = []
    for row, steps in enumerate(split):
        of_row = []
        for step, tokens in enumerate(read[row][:-1]):
            texts = [continuation(tokenizer, list(tokens), each.tokens) for each in written[tokens]]
            before, name = "".join(steps[:step]), f"a rollout of answers[{row}] after step {step}"
            of_row.append(
                tuple(
                    # What was cut off is no answer, so the judge does not see it.
                    Rollout(
                        text,
                        tuple(each.tokens),
                        each.finished and judged(by, before + text, right_answers[row], name),
                        each.end,
                    )
                    for text, each in zip(texts, written[tokens], strict=True)
                )
            )
        counted = [sum(rollout.right for rollout in of_place) for of_place in of_row]
        last = float(right[row])
        results.append(
            StepValues(
                prompt=prompts[row],
                question=questions[row],
                steps=steps,
                right=right[row],
                value=np.array([*(probability_of_best(count, rollouts, best_of) for count in counted), last]),
                interval=np.array([*(interval_of_best(count, rollouts, best_of) for count in counted), (last, last)]),
                rollouts=tuple(of_row),
                tokens=read[row],
                rule=pit_rule,
            )
        )
    _tell(results)
    return results


def check_rule(rule: str) -> str:
    """Refuse a rule that there is not."""
    if rule not in PIT_RULES:
        raise ConfigurationError(f"the rule of the pit is {quote(rule)}, but must be one of {listed(PIT_RULES)}.")
    return rule


def _split(answers: Sequence[str], separator: str) -> list[tuple[str, ...]]:
    """Take answers apart into steps that end with the separator."""
    if not isinstance(separator, str) or not separator:
        raise ConfigurationError(f"separator is {quote(separator)}; give the text that steps end with.")
    split = []
    for row, answer in enumerate(answers):
        if not isinstance(answer, str) or not answer.strip():
            raise InputError(
                f"answers[{row}] is {quote(answer)}, which has no steps; give the whole text of the answer, or leave "
                "the prompt out."
            )
        steps: list[str] = []
        *ended, rest = answer.split(separator)
        for piece in (*(piece + separator for piece in ended), rest):
            # A step without a text belongs to the one before, and in front of all to the first.
            if steps and not (piece.strip() and steps[-1].strip()):
                steps[-1] += piece
            else:
                steps.append(piece)
        split.append(tuple(steps))
    if all(len(steps) == 1 for steps in split):
        raise InputError(
            f"{'the answer has' if len(split) == 1 else f'all {len(split):,} answers have'} one step only, since the "
            f"separator {separator!r} is inside none, and there is nothing to tell apart; give the text that steps "
            "end with, or make pairs of whole answers with flip_pairs."
        )
    return split


def _questions(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt]) -> list[str]:
    """Give the prompts as texts that are encoded with special tokens, so that a part of an answer can follow them."""
    texts = as_texts(tokenizer, prompts)
    beginning = str(tokenizer.bos_token or "")
    # A template writes the beginning of the text itself, and the tokenizer would add another.
    if beginning and tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id:
        return [
            text if isinstance(prompt, str) else text.removeprefix(beginning)
            for text, prompt in zip(texts, prompts, strict=True)
        ]
    return texts


def _read(
    tokenizer: PreTrainedTokenizerBase, questions: Sequence[str], split: Sequence[tuple[str, ...]]
) -> list[tuple[tuple[int, ...], ...]]:
    """Give what the model reads of each row: the question, then what stands there after each step."""
    texts = [
        question + "".join(steps[:step])
        for question, steps in zip(questions, split, strict=True)
        for step in range(len(steps) + 1)
    ]
    rows = iter(map(tuple, encode(tokenizer, texts, texts)))
    return [tuple(next(rows) for _ in range(len(steps) + 1)) for steps in split]


def _room(model: PreTrainedModel | PeftModel, read: Sequence[Sequence[Sequence[int]]]) -> int:
    """Give a rollout twice the tokens of the longest answer, or what the context leaves."""
    wanted = _DEFAULT_LENGTH * max(len(places[-1]) - len(places[0]) for places in read)
    limit = getattr(base_model(model).config.get_text_config(), "max_position_embeddings", None)
    left = limit - max(len(tokens) for places in read for tokens in places) if limit else wanted
    return max(1, min(wanted, left))


def _tell(results: Sequence[StepValues]) -> None:
    """Say what a reader of the values should know."""
    single = sum(len(result.steps) == 1 for result in results)
    if single:
        logger.warning("%s of one step only, in which no step can stand out", how_many(single, "answer"))
    unfinished = sum(result.unfinished for result in results)
    if unfinished:
        count = sum(len(of_place) for result in results for of_place in result.rollouts)
        logger.warning(
            "%s of %s never ended in max_new_tokens and count as wrong", f"{unfinished:,}", how_many(count, "rollout")
        )
