"""Sampled answers of a causal language model, each with random numbers of its own, so that no batch decides them."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TemperatureLogitsWarper, TopPLogitsWarper

from ..errors import ConfigurationError
from ..models.asking import refuse_nan, tie_margin_of
from .generate import Chooser, Generation, before_answer, continuation, generate_rows
from .prompts import Prompt, check_numbers, encode_for

__all__ = ["Samples", "sample_answers"]


@dataclass(frozen=True)
class Samples:
    """What `sample_answers` returns; every field is in the order of the prompts, and has the samples of each.

    Args:
        texts: The sampled answers of each prompt, without special tokens; their white space is kept.
        log_likelihoods: Natural log-probability of each answer given its prompt, summed over its tokens, the end token
            included: that of the model itself, at temperature 1 and with nothing cut off. Shape (prompts, samples),
            float64.
        token_counts: Generated tokens of each answer, the end token included. Shape (prompts, samples), int64.
        finished: Whether the answer ended before `max_new_tokens` cut it off. Shape (prompts, samples), bool.
    """

    texts: list[list[str]]
    log_likelihoods: NDArray[np.float64]
    token_counts: NDArray[np.int64]
    finished: NDArray[np.bool_]

    def __iter__(self) -> Iterator[list[str]]:
        """Give the texts of each prompt, as `knowledge_of` takes them."""
        return iter(self.texts)


def sample_answers(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    *,
    samples: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    max_new_tokens: int,
    seed: int,
    batch_size: int = 32,
    tie_margin: float | None = None,
    show_progress: bool = True,
    description: str = "Sampling answers",
) -> Samples:
    """Sample answers to every prompt, with their log-likelihoods.

    The random numbers of an answer follow from the seed, the prompt's tokens and the number of the sample alone. So
    neither the batch size nor the other prompts decide an answer; the first of many samples are those that fewer give;
    and equal prompts get equal samples. Two models of one vocabulary that are asked with one seed draw the same
    numbers, and answer alike where they are alike. The model's own generation settings are not applied, as in
    [`generate_answers`].

    Args:
        model: A causal language model, or a PEFT model with the adapter to ask active; left as it was.
        tokenizer: The tokenizer of the model; it adds the special tokens that it adds by default.
        prompts: Texts, or conversations for the chat template, each with a generation prompt added.
        samples: Answers to each prompt.
        temperature: What logits are divided by, above 0; 1 asks for the model's own distribution, the default.
        top_p: In each step, only the likeliest tokens that together have this probability can be drawn, after the
            temperature, as transformers cuts them; in (0, 1]. Defaults to 1: all tokens.
        max_new_tokens: Longest answer, in tokens, the end token included.
        seed: Of the random numbers; another one gives other samples.
        batch_size: Answers to sample at once, those of the longest prompts first, so that a lack of memory shows at
            once.
        tie_margin: An answer with a step that rounding of this much between two log-probabilities (nats) could have
            decided is sampled again alone, with the same random numbers, so that the batch size does not decide it.
            None stands for 3.5e-4, or for 0 (never) in half precision, where 0.1 to 0.5 would be needed.
        show_progress: Show a progress bar on stderr.
        description: The words before the progress bar.

    Returns:
        `Samples`: texts, log-likelihoods, token counts and whether they ended, in the order of `prompts`.

    Raises:
        ConfigurationError: `samples`, `temperature`, `top_p`, `max_new_tokens`, `seed`, `batch_size` or `tie_margin`
            has no meaning.
        InputError: No prompts, a prompt of zero tokens or one that does not fit into the model's context together with
            `max_new_tokens` (nothing is cut silently), a tokenizer of another model, or scores that are NaN.

    Example:
        A model that answers with the next colour, red, green, blue, and then ends, but is not sure:

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
        >>> model.lm_head.weight.data = torch.eye(4).roll(1, 0)
        >>> options = {"max_new_tokens": 3, "seed": 0, "show_progress": False}
        >>> sampled = sample_answers(model, tokenizer, ["red", "blue"], samples=4, **options)
        >>> sampled.texts
        [[' green green blue', ' green blue', ' blue', ' green blue'], [' red green blue', '', ' red green blue', '']]
        >>> alone = sample_answers(model, tokenizer, ["blue"], samples=4, batch_size=1, **options)
        >>> alone.texts == sampled.texts[1:]
        True
        >>> sample_answers(model, tokenizer, ["red", "blue"], samples=1, temperature=0.1, **options).texts
        [[' green blue'], ['']]
    """
    check_numbers(tie_margin, samples=samples, max_new_tokens=max_new_tokens, batch_size=batch_size)
    check_sampling(temperature, top_p, seed)
    rows = encode_for(model, tokenizer, prompts, max_new_tokens)
    token_rows = [row for row in rows for _ in range(samples)]
    answers = sample_rows(
        model,
        tokenizer,
        rows,
        samples=samples,
        temperature=temperature,
        top_p=top_p,
        max_new_tokens=max_new_tokens,
        seed=seed,
        batch_size=batch_size,
        tie_margin=tie_margin,
        show_progress=show_progress,
        description=description,
    )
    log_likelihoods = np.array([answer.log_likelihood for answer in answers]).reshape(-1, samples)
    texts = [
        continuation(tokenizer, before_answer(model, row), answer.tokens)
        for row, answer in zip(token_rows, answers, strict=True)
    ]
    counts = np.array([len(answer.tokens) + answer.finished for answer in answers], dtype=np.int64)
    return Samples(
        texts=[texts[start : start + samples] for start in range(0, len(texts), samples)],
        log_likelihoods=log_likelihoods,
        token_counts=counts.reshape(-1, samples),
        finished=np.array([answer.finished for answer in answers]).reshape(-1, samples),
    )


def sample_rows(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[list[int]],
    *,
    samples: int,
    temperature: float,
    top_p: float,
    max_new_tokens: int,
    seed: int,
    batch_size: int,
    tie_margin: float | None,
    show_progress: bool,
    description: str,
    use: str = "",
) -> list[Generation]:
    """Sample answers to rows of tokens, those of each row one after the other; arguments are `sample_answers`'.

    What is drawn for another `use` is independent, also with the same seed.
    """
    margin = tie_margin_of(model, tie_margin)
    places = [(row, sample) for row in rows for sample in range(samples)]

    def sampler_of(indices: Sequence[int]) -> Sampler:
        streams = [_stream(use, seed, *places[index]) for index in indices]
        return Sampler(margin, streams=streams, temperature=float(temperature), top_p=float(top_p))

    token_rows = [row for row, _ in places]
    answers = generate_rows(
        model, tokenizer, token_rows, sampler_of, max_new_tokens, batch_size, show_progress, description
    )
    refuse_nan(np.array([answer.log_likelihood for answer in answers]).reshape(-1, samples).sum(1))
    return answers


@dataclass
class Sampler(Chooser):
    """Draws a token for each row of a batch from the row's own random numbers.

    The largest p / E, with an E for each token from the exponential distribution, is at a token drawn from p: the
    first of an exponential race (Gumbel noise on log p, in other words). Rounding decides few of these races, however
    large the vocabulary; it would decide more where one number is looked up in the cumulative distribution.
    """

    streams: Sequence[np.random.Generator] = ()
    temperature: float = 1.0
    top_p: float = 1.0

    def choose(self, scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Draw the tokens of a step; arguments and result are those of [`Chooser`]."""
        # Drawn in float64: one in some million numbers of float32 is 0, and would draw its token whatever its p.
        numbers = np.stack([stream.standard_exponential(scores.shape[-1]) for stream in self.streams])
        inputs = torch.empty(0)  # which neither of the warpers reads
        logs = TemperatureLogitsWarper(self.temperature)(inputs, scores).log_softmax(-1)
        race = logs.exp() / torch.from_numpy(numbers).to(logs.dtype).to(logs.device)
        kept = torch.ones_like(race, dtype=torch.bool)
        if self.top_p < 1:
            kept = TopPLogitsWarper(self.top_p)(inputs, logs).isfinite()
        drawn = torch.where(kept, race, -1.0).argmax(-1, keepdim=True)
        choice = torch.full_like(scores, -torch.inf).scatter(-1, drawn, 0.0)
        return choice, scores.gather(-1, drawn).squeeze(-1), self._near_ties(logs, race, drawn)

    def _near_ties(self, logs: torch.Tensor, race: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        """Say where rounding could have let another token win, or moved one over the cut of `top_p`."""
        margin = self.margin / self.temperature
        if not margin:
            return torch.zeros(len(logs), dtype=torch.bool, device=logs.device)
        rivals = (race > race.gather(-1, drawn) * math.exp(-margin)).scatter(-1, drawn, False)
        if self.top_p == 1:
            return rivals.any(-1)
        # A cut lets go what has mass enough above it. The mass of some tokens, m, moves by at most margin m (1 - m).
        slack, own = margin / 4, logs.gather(-1, drawn)
        likeliest_rival = torch.where(rivals, logs, -torch.inf).amax(-1, keepdim=True)
        mass_above_rivals = torch.where(logs > likeliest_rival + margin, logs.exp(), 0).sum(-1)
        mass_above_drawn = torch.where(logs >= own - margin, logs.exp(), 0).sum(-1) - own.exp().squeeze(-1)
        rivals_may_be_kept = rivals.any(-1) & (mass_above_rivals < self.top_p + slack)
        # The likeliest token is kept, whatever `top_p` is.
        return rivals_may_be_kept | (mass_above_drawn > max(self.top_p - slack, slack))


def _stream(use: str, seed: int, row: Sequence[int], sample: int) -> np.random.Generator:
    """Give the random numbers of one answer."""
    name = use + repr((int(seed), sample, list(row)))
    return np.random.default_rng(int.from_bytes(sha256(name.encode()).digest()))


def check_sampling(temperature: Any, top_p: Any, seed: Any) -> None:
    """Refuse what no token can be drawn with."""
    for name, value, most in (("temperature", temperature, math.inf), ("top_p", top_p, 1.0)):
        is_number = isinstance(value, Real) and not isinstance(value, bool)
        # NaN is not above 0 either.
        if not (is_number and 0 < float(value) <= most and math.isfinite(value)):
            greedy = "; for the likeliest answer use generate_answers" if value == 0 else ""
            wanted = "above 0" if most > 1 else "above 0 and at most 1"
            raise ConfigurationError(f"{name} is {value!r}; it must be a number {wanted}{greedy}.")
    if isinstance(seed, bool) or not isinstance(seed, Integral):
        raise ConfigurationError(f"seed is {seed!r}; it must be an int.")
