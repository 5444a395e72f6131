"""The choice that is most likely to follow its prompt; `asking` says why no batch size decides it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..models.asking import asking, refuse_nan, tie_margin_of
from ..progress import progress_bar
from .likelihood import can_share, rotary_limit, score
from .prompts import Option, Prompt, Stem, check_asked, check_numbers, encode_choices_for, whole_stems

__all__ = ["Choices", "Prompt", "choose_answers"]


@dataclass(frozen=True)
class Choices:
    """What `choose_answers` returns; both fields are in the order of the prompts.

    Args:
        indices: The chosen choice of each prompt; of equal ones, the first. Shape (prompts,), int64.
        scores: One float64 array for each prompt: the score of each of its choices, after normalization.
    """

    indices: NDArray[np.int64]
    scores: list[NDArray[np.float64]]

    @classmethod
    def of_scores(cls, scores: list[NDArray[np.float64]]) -> "Choices":
        """Choose the best of each prompt's choices, of equal ones the first."""
        return cls(np.array([int(values.argmax()) for values in scores], dtype=np.int64), scores)


def choose_answers(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    choices: Sequence[Sequence[str]],
    *,
    normalization: Literal["sum", "characters"] = "sum",
    delimiter: str = " ",
    batch_size: int = 32,
    tie_margin: float | None = None,
    show_progress: bool = True,
    description: str = "Choosing answers",
) -> Choices:
    """Choose, for every prompt, the choice that is most likely to follow it, as lm-evaluation-harness does.

    The score of a choice is the log-likelihood of the tokens that `delimiter + choice` adds to the prompt. White space
    at the end of a prompt is counted to the choice, because most tokenizers join it to the next word.

    The prompt is read once for all of its choices; they follow with its keys and values from the cache. A model that
    cannot do that (a recurrent one, for instance, or one with prefix tuning) reads every choice with the prompt before
    it: the same scores, more slowly.

    Args:
        model: A causal language model, or a PEFT model with the adapter to ask active; left as it was.
        tokenizer: The tokenizer of the model; it adds the special tokens that it adds by default.
        prompts: Texts, or conversations for the chat template, each with a generation prompt added.
        choices: The choices of each prompt, as many as it has.
        normalization: "sum" takes the sum over the tokens (lm-evaluation-harness' `acc`); "characters" divides it by
            the number of characters of the choice, without the delimiter (`acc_norm`).
        delimiter: Stands between prompt and choice (lm-evaluation-harness' `target_delimiter`). Use "" for a chat.
        batch_size: Sequences to score at once, the longest prompts first: one for each choice; those of one token
            share one.
        tie_margin: Where rounding of this much for each token (nats) could change the choice, the question is scored
            again alone, so that the batch size does not decide it. None stands for 3.5e-4, or for 0 (never) in half
            precision, where 0.1 to 0.5 would be needed.
        show_progress: Show a progress bar on stderr.
        description: The words before the progress bar.

    Returns:
        `Choices`: the index of the chosen choice and the scores of all, in the order of `prompts`.

    Raises:
        ConfigurationError: `normalization`, `batch_size` or `tie_margin` has no meaning.
        InputError: No prompts, not one list of choices for each, a prompt or choice of zero tokens, one that does not
            fit into the model's context (nothing is cut silently), a tokenizer of another model, or NaN as a score.

    Example:
        A model that expects the next colour, red, green, blue:

        >>> import torch
        >>> from tokenizers import Tokenizer, models, pre_tokenizers
        >>> from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
        >>> words = Tokenizer(models.WordLevel({"<end>": 0, "red": 1, "green": 2, "blue": 3}))
        >>> words.pre_tokenizer = pre_tokenizers.Whitespace()
        >>> tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>")
        >>> config = LlamaConfig(vocab_size=4, hidden_size=4, num_hidden_layers=1, num_attention_heads=1)
        >>> model = LlamaForCausalLM(config)
        >>> _ = model.model.layers.apply(lambda layer: [weight.data.zero_() for weight in layer.parameters()])
        >>> model.model.embed_tokens.weight.data = torch.eye(4)
        >>> model.lm_head.weight.data = 5 * torch.eye(4).roll(1, 0)
        >>> choices = [["blue", "green"], ["blue", "green", "red"]]
        >>> chosen = choose_answers(model, tokenizer, ["red", "green"], choices, show_progress=False)
        >>> chosen.indices
        array([1, 0])
        >>> [len(scores) for scores in chosen.scores]
        [2, 3]
    """
    check_numbers(tie_margin, batch_size=batch_size)
    check_asked(model, tokenizer)
    margin = tie_margin_of(model, tie_margin)
    questions = encode_choices_for(model, tokenizer, prompts, choices, delimiter, normalization)
    limit = rotary_limit(model)
    with asking(model):
        plans = [_plan(question, limit) for question in questions]
        shared = any(stem.branches for plan in plans for stem in plan) and can_share(model)
        if not shared:
            plans = [whole_stems(question) for question in questions]
        stems = sorted(
            dict.fromkeys(stem for plan in plans for stem in plan),
            key=lambda stem: (-len(stem.tokens), -max(map(len, stem.branches), default=0)),
        )
        likelihoods: dict[Stem, dict[Option, float]] = {}
        scores = []
        total = sum(stem.sequences for stem in stems)
        with progress_bar(total, description, disable=not show_progress) as bar:
            for batch in _batches(stems, batch_size, limit):
                likelihoods |= zip(batch, score(model, batch, batch_size=batch_size, shared=shared), strict=True)
                bar.update(sum(stem.sequences for stem in batch))
            for question, plan, of_question in zip(questions, plans, choices, strict=True):
                lengths = divisors(of_question, normalization)
                slack = margin / 2 * np.array([len(option.targets) for option in question]) / lengths
                values = _values(question, [likelihoods[stem] for stem in plan], lengths)
                if batch_size > 1 and _is_near_tie(values, slack):
                    alone = [score(model, [stem], batch_size=1, shared=shared)[0] for stem in plan]
                    values = _values(question, alone, lengths)
                scores.append(values)
    refuse_nan(float(values.sum()) for values in scores)
    return Choices.of_scores(scores)


def divisors(choices: Sequence[str], normalization: str) -> list[int]:
    """Return what the log-likelihood of each choice is divided by."""
    return [len(choice) if normalization == "characters" else 1 for choice in choices]


def _plan(question: Sequence[Option], limit: float) -> list[Stem]:
    """Let the different options of a question share a stem, unless `rotary_limit` lies between stem and options."""
    stem = Stem(tuple(dict.fromkeys(question)))
    straddles = len(stem.tokens) <= limit < max(len(option.tokens) for option in question)
    return whole_stems(question) if straddles else [stem]


def _batches(stems: Sequence[Stem], batch_size: int, limit: float) -> Iterator[list[Stem]]:
    """Cut the stems, the longest first, into batches of so many sequences, or of one stem that has more.

    The keys and values of a batch's prompts stay in memory until their choices are scored, so more prompts than that
    would take more memory than the user has allowed for.
    """
    batch: list[Stem] = []
    for stem in stems:
        full = sum(each.sequences for each in [*batch, stem]) > batch_size
        if batch and (full or len(stem.tokens) <= limit < len(batch[0].tokens)):
            yield batch
            batch = []
        batch.append(stem)
    yield batch


def _values(
    question: Sequence[Option], of_stems: Sequence[dict[Option, float]], lengths: Sequence[int]
) -> NDArray[np.float64]:
    likelihoods = {option: value for of_stem in of_stems for option, value in of_stem.items()}
    return np.array([likelihoods[option] for option in question]) / lengths


def _is_near_tie(scores: NDArray[np.float64], slack: NDArray[np.float64]) -> bool:
    best = int(scores.argmax())
    return bool((np.delete(scores + slack, best) > scores[best] - slack[best]).any())
