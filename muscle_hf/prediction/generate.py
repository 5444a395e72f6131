"""Greedy answers of a language model on a data set; `asking` says why no batch size decides them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel
from transformers import GenerationConfig, LogitsProcessorList, PreTrainedModel, PreTrainedTokenizerBase

from ..errors import InputError
from ..models.adapters import base_model
from ..models.asking import asking, refuse_nan, tie_margin_of
from ..progress import progress_bar
from .prompts import Prompt, check_numbers, encode_for

__all__ = ["Answers", "Prompt", "generate_answers"]


@dataclass(frozen=True)
class Answers:
    """What `generate_answers` returns; every field is in the order of the prompts.

    Args:
        texts: The answers, without special tokens; their white space is kept.
        log_likelihoods: Natural log-probability of each answer given its prompt, summed over its tokens, the end token
            included. Shape (prompts,), float64.
        token_counts: Generated tokens of each answer, the end token included. Shape (prompts,), int64.
        finished: Whether the answer ended before `max_new_tokens` cut it off. Shape (prompts,), bool.
        ends: Where an engine ended an answer in another way, its word for that, such as "content_filter"; "" for all
            others. None where that cannot be.
    """

    texts: list[str]
    log_likelihoods: NDArray[np.float64]
    token_counts: NDArray[np.int64]
    finished: NDArray[np.bool_]
    ends: list[str] | None = None

    @property
    def mean_log_likelihoods(self) -> NDArray[np.float64]:
        """Log-likelihood per generated token: a confidence that does not favour short answers."""
        return self.log_likelihoods / self.token_counts


def generate_answers(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    *,
    max_new_tokens: int,
    batch_size: int = 32,
    tie_margin: float | None = None,
    show_progress: bool = True,
    description: str = "Generating answers",
) -> Answers:
    """Generate the greedy answer to every prompt, with its log-likelihood.

    Every token is the most likely one. The model's own generation settings (sampling, penalties, suppressed tokens)
    are not applied, so that old and new model are asked in the same way; its end tokens are, and the tokenizer's, and
    the token that a decoder of an encoder-decoder starts with, or is made to start an answer with.

    Args:
        model: A causal language model or an encoder-decoder, or a PEFT model with the adapter to ask active; left as
            it was.
        tokenizer: The tokenizer of the model; it adds the special tokens that it adds by default.
        prompts: Texts, or conversations for the chat template, each with a generation prompt added.
        max_new_tokens: Longest answer, in tokens, the end token included.
        batch_size: Prompts to ask at once, the longest first, so that a lack of memory shows at once.
        tie_margin: An answer with a step whose two best log-probabilities are closer than this (nats) is generated
            again alone, so that the batch size does not decide it. None stands for 3.5e-4, or for 0 (never) in half
            precision, where 0.1 to 0.5 would be needed.
        show_progress: Show a progress bar on stderr.
        description: The words before the progress bar.

    Returns:
        `Answers`: texts, log-likelihoods, token counts and whether they ended, in the order of `prompts`.

    Raises:
        ConfigurationError: `max_new_tokens`, `batch_size` or `tie_margin` has no meaning.
        InputError: No prompts, a prompt of zero tokens or one that does not fit into the model's context together with
            `max_new_tokens` (nothing is cut silently), a tokenizer of another model, or scores that are NaN.

    Example:
        A model that answers with the next colour, red, green, blue, and then ends:

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
        >>> model.lm_head.weight.data = 5 * torch.eye(4).roll(1, 0)
        >>> answers = generate_answers(model, tokenizer, ["red", "blue"], max_new_tokens=8, show_progress=False)
        >>> answers.texts
        [' green blue', '']
        >>> answers.token_counts
        array([3, 1])
    """
    check_numbers(tie_margin, max_new_tokens=max_new_tokens, batch_size=batch_size)
    rows = encode_for(model, tokenizer, prompts, max_new_tokens)
    margin = tie_margin_of(model, tie_margin)
    ordered = generate_rows(
        model, tokenizer, rows, lambda _: Chooser(margin), max_new_tokens, batch_size, show_progress, description
    )
    refuse_nan(generation.log_likelihood for generation in ordered)
    return Answers(
        texts=[
            continuation(tokenizer, before_answer(model, row), generation.tokens)
            for row, generation in zip(rows, ordered, strict=True)
        ],
        log_likelihoods=np.array([generation.log_likelihood for generation in ordered]),
        token_counts=np.array(
            [len(generation.tokens) + generation.finished for generation in ordered], dtype=np.int64
        ),
        finished=np.array([generation.finished for generation in ordered]),
    )


@dataclass(frozen=True)
class Generation:
    """The tokens of one answer, without the end token."""

    tokens: list[int]
    log_likelihood: float  # with the end token
    near_tie: bool  # whether rounding could have decided one of its steps
    end: int | None  # the token that ended it; None where `max_new_tokens` cut it off

    @property
    def finished(self) -> bool:
        """Whether it ended by itself."""
        return self.end is not None


@dataclass
class Chooser:
    """A logits processor that notes of each step the token's log-probability, and whether rounding could change it.

    This one leaves the choice to `generate`, which takes the best; another has a `choose` of its own. `output_scores`
    of `generate` would keep steps x batch x vocabulary numbers: gigabytes for a large model.
    """

    margin: float
    log_probabilities: list[torch.Tensor] = field(default_factory=list)
    near_ties: list[torch.Tensor] = field(default_factory=list)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        choice, chosen_scores, near_tie = self.choose(scores)
        self.log_probabilities.append(chosen_scores - scores.logsumexp(-1))
        self.near_ties.append(near_tie)
        return choice

    def choose(self, scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Give what is largest at the chosen token, the scores of the chosen tokens, and whether each is a near-tie.

        Args:
            scores: Logits of a step, shape (rows, vocabulary).
        """
        best, second = scores.topk(2).values.unbind(-1)
        return scores, best, best - second < self.margin


def generate_rows(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[list[int]],
    chooser_of: Callable[[Sequence[int]], Chooser],
    max_new_tokens: int,
    batch_size: int,
    show_progress: bool,
    description: str,
) -> list[Generation]:
    """Answer rows of tokens in batches, the longest first, those with a near-tie again alone.

    Args:
        chooser_of: Gives what chooses the tokens of a batch, from the places of its rows in `rows`.
    """
    config = _greedy_config(model, tokenizer, max_new_tokens)
    generations: dict[int, Generation] = {}
    longest_first = sorted(range(len(rows)), key=lambda index: -len(rows[index]))
    with asking(model, config), progress_bar(len(rows), description, disable=not show_progress) as bar:
        for start in range(0, len(rows), batch_size):
            indices = longest_first[start : start + batch_size]
            batch = _generate(model, [rows[index] for index in indices], config, chooser_of(indices))
            for index, generation in zip(indices, batch, strict=True):
                again = generation.near_tie and len(indices) > 1
                generations[index] = (
                    _generate(model, [rows[index]], config, chooser_of([index]))[0] if again else generation
                )
            bar.update(len(indices))
    return [generations[index] for index in range(len(rows))]


def _generate(
    model: PreTrainedModel | PeftModel, rows: Sequence[Sequence[int]], config: GenerationConfig, chooser: Chooser
) -> list[Generation]:
    width, has_encoder = max(map(len, rows)), base_model(model).config.is_encoder_decoder
    # An encoder counts its positions from the left, padding or not.
    padded = partial(_padded, width=width, on_the_left=not has_encoder)
    input_ids = torch.tensor([padded(row, config.pad_token_id) for row in rows])
    attention_mask = torch.tensor([padded([1] * len(row), 0) for row in rows])
    device = base_model(model).device
    sequences: torch.Tensor = model.generate(
        input_ids=input_ids.to(device),
        attention_mask=attention_mask.to(device),
        generation_config=config,
        logits_processor=LogitsProcessorList([chooser]),
        synced_gpus=False,  # processes that share a split model ask it `in_step`
    )
    log_probabilities = torch.stack(chooser.log_probabilities, 1).tolist()
    near_ties = torch.stack(chooser.near_ties, 1).tolist()
    ends = set(config.eos_token_id or ())
    generations = []
    # A decoder's first token is the one that it starts with.
    before = 1 if has_encoder else width
    for tokens, logs, ties in zip(sequences[:, before:].tolist(), log_probabilities, near_ties, strict=True):
        length = next((step for step, token in enumerate(tokens) if token in ends), len(tokens))
        end = tokens[length] if length < len(tokens) else None
        steps = length + (end is not None)
        generations.append(Generation(tokens[:length], math.fsum(logs[:steps]), any(ties[:steps]), end))
    return generations


def _padded(row: Sequence[int], filler: int, *, width: int, on_the_left: bool) -> list[int]:
    padding = [filler] * (width - len(row))
    return [*padding, *row] if on_the_left else [*row, *padding]


def _greedy_config(
    model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase, max_new_tokens: int
) -> GenerationConfig:
    ends = end_tokens(model.generation_config, tokenizer)
    return GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        num_beams=1,
        use_cache=True,
        eos_token_id=ends or None,
        # Any token that the model knows will do: padding is masked. The tokenizer's may have no embedding.
        pad_token_id=min(ends, default=0),
        **_start_of_decoder(model),
    )


def _start_of_decoder(model: PreTrainedModel | PeftModel) -> dict[str, int]:
    """Return what an encoder-decoder's answer starts with, where its own generation settings would say so."""
    base = base_model(model)
    if not base.config.is_encoder_decoder:
        return {}
    names = ("decoder_start_token_id", "forced_bos_token_id")
    found = {name: getattr(model.generation_config, name, None) for name in names}
    if found[names[0]] is None:
        found[names[0]] = getattr(base.config, names[0], None)
    if found[names[0]] is None:
        raise InputError(
            f"{type(base).__name__} has no decoder_start_token_id, so nobody knows what its answers start with. Set "
            "it in the model's config, as it was trained."
        )
    return {name: token for name, token in found.items() if token is not None}


def before_answer(model: PreTrainedModel | PeftModel, prompt: list[int]) -> list[int]:
    """Return the tokens that an answer follows on: the prompt's, or none where an encoder has read them."""
    return [] if base_model(model).config.is_encoder_decoder else prompt


def end_tokens(config: GenerationConfig, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the tokens that end an answer: the model's and the tokenizer's."""
    ends: set[int] = set()
    for end in (config.eos_token_id, tokenizer.eos_token_id):
        ends.update(end if isinstance(end, list | tuple) else [] if end is None else [end])
    return sorted(ends)


def continuation(tokenizer: PreTrainedTokenizerBase, prompt: list[int], answer: list[int]) -> str:
    """Return what an answer adds to its prompt's text; decoded alone, some tokenizers drop the space before it."""
    options = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
    whole, before = (str(tokenizer.decode(tokens, **options)) for tokens in (prompt + answer, prompt))
    return whole[len(before) :] if whole.startswith(before) else str(tokenizer.decode(answer, **options))
