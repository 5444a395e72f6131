"""Answers of a causal language model on a data set: greedy generation and choice by log-likelihood.

How many questions are asked at once must not decide an answer, or an update seems to break answers that it left alone.
Padding is masked, but sums over another shape of batch are rounded differently (by some 1e-6 in float32), which can
swap two options that are all but equal. So a question with such a near-tie (`tie_margin`) is asked again alone and
without padding. As long as rounding stays under half the margin, every answer is then the one that the question gets
alone; in float32 and float64 it stays far under it. (Another machine or number of threads rounds differently again.)
In half precision rounding is as large as many gaps: there, nothing is asked again unless you give a `tie_margin`, and
some answers may depend on the batch size. Log-likelihoods agree between batch sizes to within rounding.
"""

import inspect
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel
from tqdm.auto import tqdm
from transformers import GenerationConfig, LogitsProcessorList, PreTrainedModel, PreTrainedTokenizerBase

from .errors import InputError
from .prompts import (
    Option,
    Prompt,
    as_texts,
    check_choices,
    check_fit,
    check_numbers,
    encode,
    encode_choices,
    group_options,
)

__all__ = ["Answers", "Choices", "Prompt", "choose_answers", "generate_answers"]


@dataclass(frozen=True)
class Answers:
    """What `generate_answers` returns; every field is in the order of the prompts.

    Args:
        texts: The answers, without special tokens; their white space is kept.
        log_likelihoods: Natural log-probability of each answer given its prompt, summed over its tokens, the end token
            included. Shape (prompts,), float64.
        token_counts: Generated tokens of each answer, the end token included. Shape (prompts,), int64.
        finished: Whether the answer ended before `max_new_tokens` cut it off. Shape (prompts,), bool.
    """

    texts: list[str]
    log_likelihoods: NDArray[np.float64]
    token_counts: NDArray[np.int64]
    finished: NDArray[np.bool_]

    @property
    def mean_log_likelihoods(self) -> NDArray[np.float64]:
        """Log-likelihood per generated token: a confidence that does not favour short answers."""
        return self.log_likelihoods / self.token_counts


@dataclass(frozen=True)
class Choices:
    """What `choose_answers` returns; both fields are in the order of the prompts.

    Args:
        indices: The chosen choice of each prompt; of equal ones, the first. Shape (prompts,), int64.
        scores: One float64 array for each prompt: the score of each of its choices, after normalization.
    """

    indices: NDArray[np.int64]
    scores: list[NDArray[np.float64]]


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
    are not applied, so that old and new model are asked in the same way; its end tokens are, and the tokenizer's.

    Args:
        model: A causal language model, or a PEFT model with the adapter to ask active; left as it was.
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
        ['green blue', '']
        >>> answers.token_counts
        array([3, 1])
    """
    check_numbers(tie_margin, max_new_tokens=max_new_tokens, batch_size=batch_size)
    margin = _tie_margin(model, tie_margin)
    rows = encode(tokenizer, as_texts(tokenizer, prompts), prompts)
    check_fit(_base(model), ((index, row, max_new_tokens) for index, row in enumerate(rows)))
    config = _greedy_config(model, tokenizer, max_new_tokens)
    generations: dict[int, _Generation] = {}
    longest_first = sorted(range(len(rows)), key=lambda index: -len(rows[index]))
    with _asking(model, config), tqdm(total=len(rows), desc=description, disable=not show_progress) as bar:
        for start in range(0, len(rows), batch_size):
            indices = longest_first[start : start + batch_size]
            for index, one in zip(indices, _generate(model, [rows[i] for i in indices], config), strict=True):
                near_tie = one.smallest_gap < margin and len(indices) > 1
                generations[index] = _generate(model, [rows[index]], config)[0] if near_tie else one
            bar.update(len(indices))
    ordered = [generations[index] for index in range(len(rows))]
    _refuse_nan(one.log_likelihood for one in ordered)
    return Answers(
        texts=[
            str(tokenizer.decode(one.tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))
            for one in ordered
        ],
        log_likelihoods=np.array([one.log_likelihood for one in ordered]),
        token_counts=np.array([len(one.tokens) + one.finished for one in ordered], dtype=np.int64),
        finished=np.array([one.finished for one in ordered]),
    )


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

    Args:
        model: A causal language model, or a PEFT model with the adapter to ask active; left as it was.
        tokenizer: The tokenizer of the model; it adds the special tokens that it adds by default.
        prompts: Texts, or conversations for the chat template, each with a generation prompt added.
        choices: The choices of each prompt, as many as it has.
        normalization: "sum" takes the sum over the tokens (lm-evaluation-harness' `acc`); "characters" divides it by
            the number of characters of the choice, without the delimiter (`acc_norm`).
        delimiter: Stands between prompt and choice (lm-evaluation-harness' `target_delimiter`). Use "" for a chat.
        batch_size: Sequences to score at once, the longest first: one for each choice; those of one token share one.
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
    margin = _tie_margin(model, tie_margin)
    texts = as_texts(tokenizer, prompts)
    check_choices(texts, choices, normalization)
    questions = encode_choices(tokenizer, texts, prompts, choices, delimiter)
    asked = ((i, one.context, len(one.targets)) for i, question in enumerate(questions) for one in question)
    check_fit(_base(model), asked)
    rows = group_options(option for question in questions for option in question)
    likelihoods: dict[Option, float] = {}
    scores = []
    with _asking(model), tqdm(total=len(rows), desc=description, disable=not show_progress) as bar:
        for start in range(0, len(rows), batch_size):
            batch = rows[start : start + batch_size]
            likelihoods |= _score(model, batch)
            bar.update(len(batch))
        for question, texts_of_choices in zip(questions, choices, strict=True):
            lengths = [len(choice) if normalization == "characters" else 1 for choice in texts_of_choices]
            score = np.array([likelihoods[option] for option in question]) / lengths
            slack = margin / 2 * np.array([len(option.targets) for option in question]) / lengths
            if batch_size > 1 and _is_near_tie(score, slack):
                alone: dict[Option, float] = {}
                for row in group_options(question):
                    alone |= _score(model, [row])
                score = np.array([alone[option] for option in question]) / lengths
            scores.append(score)
    _refuse_nan(float(score.sum()) for score in scores)
    return Choices(indices=np.array([int(score.argmax()) for score in scores], dtype=np.int64), scores=scores)


@dataclass(frozen=True)
class _Generation:
    tokens: list[int]  # without the end token
    log_likelihood: float  # with the end token
    smallest_gap: float  # between the two best tokens, over all steps
    finished: bool


class _Recorder:
    """A logits processor that changes nothing and notes the best log-probability of each step, and its lead.

    `output_scores` of `generate` would keep steps x batch x vocabulary numbers: gigabytes for a large model.
    """

    def __init__(self) -> None:
        self.log_probabilities: list[torch.Tensor] = []
        self.gaps: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        best, second = scores.topk(2).values.unbind(-1)
        self.log_probabilities.append(best - scores.logsumexp(-1))
        self.gaps.append(best - second)
        return scores


@contextmanager
def _asking(model: PreTrainedModel | PeftModel, config: GenerationConfig | None = None) -> Iterator[None]:
    """Put the model into eval mode, under this generation config if there is one, and leave it as it was."""
    # The modules of a model in training need not agree: a frozen teacher adapter is in eval mode, the student is not.
    modes = [(module, module.training) for module in model.modules()]
    # `generate` fills whatever its config leaves open from the model's own, where penalties may be set. A PEFT model
    # hands its own, if it has one, to its base.
    owners = [owner for owner in (model, _base(model)) if config is not None and "generation_config" in vars(owner)]
    settings = [(owner, owner.generation_config) for owner in owners]
    try:
        model.eval()
        for owner in owners:
            owner.generation_config = config
        # Not inference_mode: what a model caches in there (rotary tables, autocast weights) cannot be trained with.
        with torch.no_grad():
            yield
    finally:
        for owner, setting in settings:
            owner.generation_config = setting
        for module, mode in modes:
            module.training = mode


def _generate(
    model: PreTrainedModel | PeftModel, rows: Sequence[Sequence[int]], config: GenerationConfig
) -> list[_Generation]:
    width = max(map(len, rows))
    input_ids = torch.tensor([[config.pad_token_id] * (width - len(row)) + list(row) for row in rows])
    attention_mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    recorder = _Recorder()
    device = _base(model).device
    sequences: torch.Tensor = model.generate(
        input_ids=input_ids.to(device),
        attention_mask=attention_mask.to(device),
        generation_config=config,
        logits_processor=LogitsProcessorList([recorder]),
    )
    log_probabilities = torch.stack(recorder.log_probabilities, 1).tolist()
    gaps = torch.stack(recorder.gaps, 1).tolist()
    ends = set(config.eos_token_id or ())
    generations = []
    for tokens, logs, leads in zip(sequences[:, width:].tolist(), log_probabilities, gaps, strict=True):
        length = next((step for step, token in enumerate(tokens) if token in ends), len(tokens))
        finished = length < len(tokens)
        steps = length + finished
        generations.append(_Generation(tokens[:length], math.fsum(logs[:steps]), min(leads[:steps]), finished))
    return generations


def _score(model: PreTrainedModel | PeftModel, rows: Sequence[Sequence[Option]]) -> dict[Option, float]:
    """Return the log-likelihood of every option; all options of one row read the same tokens."""
    read = [options[0].tokens for options in rows]
    width = max(map(len, read))
    # Padding stands on the right, where a causal model does not see it: positions need no shift.
    input_ids = torch.tensor([list(tokens) + [0] * (width - len(tokens)) for tokens in read])
    attention_mask = torch.tensor([[1] * len(tokens) + [0] * (width - len(tokens)) for tokens in read])
    base = _base(model)
    arguments: dict[str, Any] = {"use_cache": False}
    if "logits_to_keep" in inspect.signature(base.forward).parameters:
        # The first position that predicts a token of a choice is the last one of its context.
        arguments["logits_to_keep"] = width - min(len(one.context) for options in rows for one in options) + 1
    output = model(input_ids=input_ids.to(base.device), attention_mask=attention_mask.to(base.device), **arguments)
    logits = output.logits.float()
    normalizers = logits.logsumexp(-1)
    skipped = width - logits.shape[1]
    pieces = []
    for position, options in enumerate(rows):
        for one in options:
            first = len(one.context) - 1 - skipped
            steps = torch.arange(first, first + len(one.targets), device=logits.device)
            targets = torch.tensor(one.targets, device=logits.device)
            pieces.append(logits[position, steps, targets] - normalizers[position, steps])
    values = iter(torch.cat(pieces).tolist())  # one transfer from the device for the whole batch
    return {one: math.fsum(islice(values, len(one.targets))) for options in rows for one in options}


def _is_near_tie(scores: NDArray[np.float64], slack: NDArray[np.float64]) -> bool:
    best = int(scores.argmax())
    return bool((np.delete(scores + slack, best) > scores[best] - slack[best]).any())


def _base(model: PreTrainedModel | PeftModel) -> Any:
    return model.get_base_model() if isinstance(model, PeftModel) else model


def _greedy_config(
    model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase, max_new_tokens: int
) -> GenerationConfig:
    ends: set[int] = set()
    for end in (model.generation_config.eos_token_id, tokenizer.eos_token_id):
        ends.update(end if isinstance(end, list | tuple) else [] if end is None else [end])
    return GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        num_beams=1,
        use_cache=True,
        eos_token_id=sorted(ends) or None,
        # Any token that the model knows will do: padding is masked. The tokenizer's may have no embedding.
        pad_token_id=min(ends, default=0),
    )


def _tie_margin(model: PreTrainedModel | PeftModel, tie_margin: float | None) -> float:
    if tie_margin is not None:
        return tie_margin
    # The coarsest type rounds the result; scores are float32 at best. The square root of its precision lies well above
    # the rounding of a whole forward pass, and well below the usual gap between two tokens.
    types = {torch.float32, *(weight.dtype for weight in model.parameters() if weight.is_floating_point())}
    device = _base(model).device.type
    if torch.is_autocast_enabled(device):
        types.add(torch.get_autocast_dtype(device))
    epsilon = max(torch.finfo(one).eps for one in types)
    return math.sqrt(epsilon) if epsilon <= torch.finfo(torch.float32).eps else 0.0


def _refuse_nan(scores: Iterable[float]) -> None:
    for index, score in enumerate(scores):
        if math.isnan(score):
            raise InputError(
                f"the model's scores for prompt {index} are NaN, so it has no answer. Check the weights and the "
                "adapter; in float16, try bfloat16 or float32."
            )
