"""A LoRA adapter on its base in vLLM, in this process: what vLLM documents of offline inference.

vLLM gets the tokens that transformers would get, and its answers are decoded as those of transformers are, so that
the two can be compared. It was written against vLLM's documentation and never run against vLLM itself: the first
answers are worth a look beside those of `TransformersEngine`.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from peft import LoraConfig, PeftConfig
from transformers import AutoConfig, GenerationConfig, PreTrainedTokenizerBase

from ...errors import InputError, MissingPackageError, UnsupportedAdapterError
from ..choose import Choices, divisors
from ..generate import Answers, continuation, end_tokens
from ..prompts import Prompt, as_texts, check_choices, check_lengths, check_numbers, encode, encode_choices
from .interface import Normalization

# What vLLM accepts as max_lora_rank.
_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)


class VLLMEngine:
    """A base model with a LoRA adapter in vLLM, where that is installed (`pip install vllm`).

    Written against vLLM's documentation, and never run against vLLM itself.

    Args:
        base_model: Id or folder of the base.
        adapter: Folder of the LoRA adapter, or None for the base alone.
        tokenizer: Its tokenizer; prompts reach vLLM as tokens.
        revision: Commit of the base.
        dtype: Type of the weights; "auto" is the one that they are saved in, also where vLLM would take another.
        trust_remote_code: Run code that the base's repository brings.

    Raises:
        MissingPackageError: vLLM is not installed.
        UnsupportedAdapterError: The adapter is not a plain LoRA.

    Example:
        >>> engine = VLLMEngine("org/base-v1", "task-on-v1", tokenizer)  # doctest: +SKIP
        >>> engine.generate(["2 + 2 ="], max_new_tokens=4).texts  # doctest: +SKIP
        [' 4']
    """

    at_once = 1024  # vLLM makes batches itself; so many are kept together
    """How many prompts are handed on before their answers are kept."""

    def __init__(
        self,
        base_model: str,
        adapter: str | Path | None,
        tokenizer: PreTrainedTokenizerBase,
        *,
        revision: str | None = None,
        dtype: str = "auto",
        trust_remote_code: bool = False,
    ) -> None:
        """Load the model."""
        self._vllm = library()
        options: dict[str, Any] = {}
        self._adapter: dict[str, Any] = {}
        if adapter is not None:
            options = {"enable_lora": True, "max_loras": 1, "max_lora_rank": _rank(adapter)}
            self._adapter = {"lora_request": _request(adapter)}
        named = {"revision": revision, "trust_remote_code": trust_remote_code}
        self._config = AutoConfig.from_pretrained(base_model, **named)
        if dtype == "auto":
            # vLLM's own "auto" makes half precision of float32, which answers otherwise.
            dtype = str(self._config.dtype or "float32").removeprefix("torch.")
        self.tokenizer = tokenizer
        self._ends = end_tokens(_generation_config(base_model, revision), tokenizer)
        self._model = self._vllm.LLM(
            base_model, tokenizer=tokenizer.name_or_path or base_model, dtype=dtype, seed=0, **named, **options
        )

    def lengths(
        self,
        prompts: Sequence[Prompt],
        choices: Sequence[Sequence[str]] | None = None,
        *,
        max_new_tokens: int = 0,
        delimiter: str = " ",
    ) -> list[int]:
        """Count the tokens of prompts; arguments, result and what is refused are those of [`Engine`]."""
        if choices is None:
            return [len(row) for row in self._encoded(prompts, max_new_tokens)]
        texts = as_texts(self.tokenizer, prompts)
        check_choices(texts, choices, "sum")
        options = encode_choices(self.tokenizer, texts, prompts, choices, delimiter)
        rows = ((i, each.context, len(each.targets)) for i, of_row in enumerate(options) for each in of_row)
        check_lengths(self._config, self._config.get_text_config().vocab_size, rows)
        return [len(of_row[0].context) for of_row in options]

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int) -> Answers:
        """Generate greedy answers; arguments, result and what is refused are those of [`Engine`]."""
        check_numbers(None, max_new_tokens=max_new_tokens)
        rows = self._encoded(prompts, max_new_tokens)
        how = {"max_tokens": max_new_tokens, "logprobs": 0, "stop_token_ids": self._ends}
        texts, likelihoods, counts, finished, ends = [], [], [], [], []
        for row, answer in zip(rows, self._run(rows, **how), strict=True):
            (output,) = answer.outputs
            tokens = list(output.token_ids)
            likelihoods.append(
                math.fsum(step[token].logprob for step, token in zip(output.logprobs, tokens, strict=True))
            )
            counts.append(len(tokens))
            finished.append(output.finish_reason == "stop")
            ends.append("" if output.finish_reason in ("stop", "length") else str(output.finish_reason))
            texts.append(
                continuation(self.tokenizer, row, tokens[:-1] if tokens[-1:] and tokens[-1] in self._ends else tokens)
            )
        return Answers(texts, np.array(likelihoods), np.array(counts, dtype=np.int64), np.array(finished), ends)

    def choose(
        self,
        prompts: Sequence[Prompt],
        choices: Sequence[Sequence[str]],
        *,
        normalization: Normalization = "sum",
        delimiter: str = " ",
    ) -> Choices:
        """Choose by the log-probabilities of prompts with each choice; arguments and the rest as of [`Engine`]."""
        texts = as_texts(self.tokenizer, prompts)
        check_choices(texts, choices, normalization)
        options = encode_choices(self.tokenizer, texts, prompts, choices, delimiter)
        rows = [[*option.context, *option.targets] for of_row in options for option in of_row]
        read = iter(self._run(rows, max_tokens=1, prompt_logprobs=0))
        scores = []
        for of_row, of_prompt in zip(options, choices, strict=True):
            values = []
            for option in of_row:
                steps = next(read).prompt_logprobs[len(option.context) :]
                values.append(
                    math.fsum(step[token].logprob for step, token in zip(steps, option.targets, strict=True))
                )
            scores.append(np.array(values) / divisors(of_prompt, normalization))
        return Choices.of_scores(scores)

    def _encoded(self, prompts: Sequence[Prompt], max_new_tokens: int) -> list[list[int]]:
        rows = encode(self.tokenizer, as_texts(self.tokenizer, prompts), prompts)
        known = self._config.get_text_config().vocab_size
        check_lengths(self._config, known, ((index, row, max_new_tokens) for index, row in enumerate(rows)))
        return rows

    def _run(self, rows: Sequence[Sequence[int]], **how: Any) -> list[Any]:
        """Let vLLM answer rows of tokens; it gives its answers in their order."""
        parameters = self._vllm.SamplingParams(temperature=0.0, **how)
        prompts = [{"prompt_token_ids": list(row)} for row in rows]
        answers: list[Any] = self._model.generate(prompts, parameters, use_tqdm=False, **self._adapter)
        if [list(answer.prompt_token_ids) for answer in answers] != [prompt["prompt_token_ids"] for prompt in prompts]:
            raise InputError("vLLM has answered other prompts than it was given; ask the model with another engine.")
        return answers


def library() -> Any:
    """Return vLLM, or refuse where it is not installed."""
    try:
        import vllm
    except ImportError as error:
        raise MissingPackageError(
            f"engine vllm needs vllm, which cannot be imported ({error}): pip install vllm"
        ) from error
    return vllm


def _request(adapter: str | Path) -> Any:
    from vllm.lora.request import LoRARequest

    return LoRARequest("adapter", 1, str(adapter))


def _rank(adapter: str | Path) -> int:
    """Return the smallest rank that vLLM has room for and the adapter fits in; refuse what vLLM does not run."""
    config = PeftConfig.from_pretrained(str(adapter))
    if type(config) is not LoraConfig or config.use_dora or config.modules_to_save or config.trainable_token_indices:
        raise UnsupportedAdapterError(
            f"{adapter} is no plain LoRA adapter (with DoRA, whole layers or tokens of its own, or of another kind), "
            "and vLLM runs no others. Ask it with --engine transformers, or merge it into its base."
        )
    rank = max([config.r, *(config.rank_pattern or {}).values()])
    fitting = [known for known in _RANKS if known >= rank]
    if not fitting:
        raise UnsupportedAdapterError(f"{adapter} has rank {rank}; vLLM runs adapters up to rank {_RANKS[-1]}.")
    return fitting[0]


def _generation_config(base_model: str, revision: str | None) -> GenerationConfig:
    try:
        return GenerationConfig.from_pretrained(base_model, revision=revision)
    except OSError:  # a model need not have one
        return GenerationConfig.from_model_config(AutoConfig.from_pretrained(base_model, revision=revision))
