"""What a model is asked: prompts as texts and tokens, and a refusal of what it could not read in full."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from numbers import Integral, Real
from typing import Any

from jinja2 import TemplateError
from peft import PeftModel
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from ..errors import ConfigurationError, InputError
from ..models.adapters import base_model
from ..models.sharding import whole_shape
from ..text import printable

# A text, or a conversation: messages with "role" and "content", which the tokenizer's chat template turns into a text.
Prompt = str | Sequence[Mapping[str, Any]]
# A template is a program, which may fail in its own words or in Python's.
_TEMPLATE_ERRORS = (TemplateError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


@dataclass(frozen=True)
class Option:
    """A choice as tokens: what stands before it, and its own."""

    context: tuple[int, ...]
    targets: tuple[int, ...]

    @property
    def tokens(self) -> tuple[int, ...]:
        """What the model reads: the last target is only predicted."""
        return self.context + self.targets[:-1]


@dataclass(frozen=True)
class Stem:
    """Different options of one context: the tokens that all of them read first, and the branches that grow from it."""

    options: tuple[Option, ...]

    @cached_property
    def tokens(self) -> tuple[int, ...]:
        """What all options read first: their context, and what their choices start with alike."""
        # What the first and the last in alphabetical order share, all share.
        first, last = min(option.tokens for option in self.options), max(option.tokens for option in self.options)
        return tuple(token for token, _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False)))

    @cached_property
    def branches(self) -> dict[tuple[int, ...], list[Option]]:
        """What is read after the stem, and the options that read it; nothing for options that end with the stem."""
        branches: dict[tuple[int, ...], list[Option]] = {}
        for option in self.options:
            branches.setdefault(option.tokens[len(self.tokens) :], []).append(option)
        branches.pop((), None)
        return branches

    @property
    def sequences(self) -> int:
        """How many sequences are in the model at once, for the size of a batch."""
        return max(1, len(self.branches))


def as_texts(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt]) -> list[str]:
    """Give every prompt as a text, conversations by the chat template with a generation prompt."""
    if isinstance(prompts, str) or not len(prompts):
        raise InputError(f"prompts is {'one text' if prompts else 'empty'}; give a list with at least one prompt.")
    texts = []
    for index, prompt in enumerate(prompts):
        messages: Any = prompt
        if isinstance(prompt, str):
            texts.append(prompt)
        elif not isinstance(messages, list | tuple) or not all(isinstance(turn, Mapping) for turn in messages):
            raise InputError(f"prompt {index} is {prompt!r}; give a string or a list of chat messages.")
        elif not tokenizer.chat_template:
            raise InputError(
                f"prompt {index} is a conversation, but the tokenizer has no chat template. Save one beside the "
                "tokenizer as chat_template.jinja (tokenizer.chat_template), or give the prompts as texts."
            )
        else:
            try:
                text = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
            except _TEMPLATE_ERRORS as error:
                raise InputError(
                    f"prompt {index} cannot be written by the tokenizer's chat template: "
                    f"{printable(str(error))[:300] or type(error).__name__}. Change its messages, or give prompts as "
                    "texts."
                ) from error
            texts.append(str(text))
    return texts


def encode(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], prompts: Sequence[Prompt], *, may_end: bool = False
) -> list[list[int]]:
    """Give the tokens of each text, with special tokens unless the prompt that it comes from is a conversation.

    `may_end` says that a text may be closed by an end token, as what an encoder reads is.
    """
    rows: list[list[int]] = [[] for _ in texts]
    for special in (True, False):  # a chat template writes the special tokens itself
        indices = [index for index, prompt in enumerate(prompts) if isinstance(prompt, str) == special]
        if indices:
            # verbose=False: texts longer than the tokenizer likes are checked against the model instead.
            encoded = tokenizer([texts[index] for index in indices], add_special_tokens=special, verbose=False)
            for index, row in zip(indices, encoded["input_ids"], strict=True):
                rows[index] = list(row)
                ended = bool(row) and row[-1] == tokenizer.eos_token_id
                if special and ended and not may_end and not texts[index].endswith(str(tokenizer.eos_token)):
                    raise InputError(
                        f"the tokenizer puts its end token {tokenizer.eos_token!r} after every text, so the model "
                        "would be asked what follows the end. Load the tokenizer with add_eos_token=False."
                    )
    return rows


def encode_choices(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    prompts: Sequence[Prompt],
    choices: Sequence[Sequence[str]],
    delimiter: str,
) -> list[list[Option]]:
    """Give the options of each prompt: the tokens that `delimiter + choice` adds to its text."""
    contexts = encode(tokenizer, [text.rstrip() for text in texts], prompts)
    owners = [index for index, of_prompt in enumerate(choices) for _ in of_prompt]
    wholes = [texts[index] + delimiter + choice for index, of_prompt in enumerate(choices) for choice in of_prompt]
    questions: list[list[Option]] = [[] for _ in texts]
    for index, whole in zip(owners, encode(tokenizer, wholes, [prompts[index] for index in owners]), strict=True):
        targets = whole[len(contexts[index]) :]
        if not targets:
            choice = choices[index][len(questions[index])]
            raise InputError(
                f"the choice {choice!r} of prompt {index} adds no token to the prompt, so it has no likelihood. Leave "
                "it out, or give another delimiter."
            )
        questions[index].append(Option(tuple(contexts[index]), tuple(targets)))
    return questions


def check_asked(model: Any, tokenizer: Any) -> None:
    """Refuse what is no loaded model that writes, or no tokenizer, such as their names."""
    if not hasattr(model, "config"):
        raise InputError(
            f"model is {printable(repr(model))[:100]}; give a loaded one, such as "
            "AutoModelForCausalLM.from_pretrained(…)."
        )
    base = base_model(model)
    if isinstance(base, PreTrainedModel) and not base.can_generate():
        raise InputError(
            f"{type(base).__name__} writes no answers; give a language model, such as one of AutoModelForCausalLM."
        )
    if not callable(tokenizer):
        raise InputError(
            f"tokenizer is {printable(repr(tokenizer))[:100]}; give a loaded one, such as "
            "AutoTokenizer.from_pretrained(…)."
        )


def encode_for(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    max_new_tokens: int,
) -> list[list[int]]:
    """Give the tokens of prompts, and refuse what the model could not read and answer in full."""
    check_asked(model, tokenizer)
    may_end = bool(base_model(model).config.is_encoder_decoder)
    rows = encode(tokenizer, as_texts(tokenizer, prompts), prompts, may_end=may_end)
    check_fit(base_model(model), ((index, row, max_new_tokens) for index, row in enumerate(rows)))
    return rows


def encode_choices_for(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    choices: Sequence[Sequence[str]],
    delimiter: str,
    normalization: str = "sum",
) -> list[list[Option]]:
    """Give the options of prompts, and refuse what the model could not read in full."""
    if base_model(model).config.is_encoder_decoder:
        raise InputError(
            f"{type(base_model(model)).__name__} is an encoder-decoder model, and choices are scored by causal "
            "language models alone. Let it generate answers, or give a causal model."
        )
    texts = as_texts(tokenizer, prompts)
    check_choices(texts, choices, normalization)
    questions = encode_choices(tokenizer, texts, prompts, choices, delimiter)
    rows = ((i, option.context, len(option.targets)) for i, options in enumerate(questions) for option in options)
    check_fit(base_model(model), rows)
    return questions


def whole_stems(options: Iterable[Option]) -> list[Stem]:
    """Give stems without branches: one for the options that read the same tokens, such as the letters A to D."""
    rows: dict[tuple[int, ...], list[Option]] = {}
    for option in dict.fromkeys(options):
        rows.setdefault(option.tokens, []).append(option)
    return [Stem(tuple(row)) for row in rows.values()]


def check_numbers(tie_margin: Any, **counts: Any) -> None:
    """Refuse a margin that is no number from 0 up, and counts that are no int from 1 up; True would pass for 1."""
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < 1:
            raise ConfigurationError(f"{name} is {value!r}; it must be an int of 1 or more.")
    # NaN is not above 0 either.
    is_number = isinstance(tie_margin, Real) and not isinstance(tie_margin, bool)
    if tie_margin is not None and not (is_number and float(tie_margin) >= 0):
        raise ConfigurationError(f"tie_margin is {tie_margin!r}; it must be a number: 0 (never ask again) or more.")


def check_choices(texts: Sequence[str], choices: Sequence[Sequence[str]], normalization: str) -> None:
    """Refuse choices that do not belong to the prompts one by one, or that the normalization cannot score."""
    if normalization not in ("sum", "characters"):
        raise ConfigurationError(f'normalization is {normalization!r}; it must be "sum" or "characters".')
    if len(choices) != len(texts):
        raise InputError(f"{len(texts)} prompts but {len(choices)} lists of choices; give one list for each prompt.")
    for index, of_prompt in enumerate(choices):
        if isinstance(of_prompt, str) or not all(isinstance(choice, str) for choice in of_prompt):
            raise InputError(f"the choices of prompt {index} are {of_prompt!r}; give a list of strings.")
        if not len(of_prompt):
            raise InputError(f"prompt {index} has no choices; give at least one, or leave the prompt out.")
        if normalization == "characters" and "" in of_prompt:
            raise InputError(f'prompt {index} has an empty choice, without characters to divide by; use "sum".')


def check_fit(model: PreTrainedModel, rows: Iterable[tuple[int, Sequence[int], int]]) -> None:
    """Refuse what the model cannot read in full: each row has its prompt's number, its tokens, tokens to follow."""
    check_lengths(model.config, whole_shape(model.get_input_embeddings().weight)[0], rows)


def check_lengths(
    config: PreTrainedConfig, vocabulary_size: int, rows: Iterable[tuple[int, Sequence[int], int]]
) -> None:
    """Refuse what a model of this shape cannot read in full, as [`check_fit`] does."""
    # A model with relative positions has no such limit.
    limit = getattr(config.get_text_config(), "max_position_embeddings", None) or math.inf
    for index, tokens, more in rows:
        if not tokens:
            raise InputError(
                f"prompt {index} has no tokens, and a model cannot start from nothing. Leave the prompt out, or use a "
                "tokenizer that adds a token for the beginning of the text."
            )
        if config.is_encoder_decoder and max(len(tokens), more) > limit:
            raise InputError(
                f"prompt {index} has {len(tokens)} tokens and its answer may take {more}; encoder and decoder hold "
                f"{limit} each (max_position_embeddings). Shorten the prompt or the answer; nothing is cut silently."
            )
        if not config.is_encoder_decoder and len(tokens) + more > limit:
            raise InputError(
                f"prompt {index} has {len(tokens)} tokens, and its answer may take {more} more; the model's context "
                f"holds {limit} (max_position_embeddings). Shorten the prompt or the answer; nothing is cut silently."
            )
        if max(tokens) >= vocabulary_size:
            raise InputError(
                f"prompt {index} holds the token id {max(tokens)}, but the model has {vocabulary_size} embeddings. "
                "The tokenizer is another model's, or the embeddings were not resized when tokens were added."
            )
