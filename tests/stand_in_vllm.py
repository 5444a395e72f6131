"""What vLLM documents of offline inference, by name and signature, with a tiny model of transformers inside.

vLLM itself cannot be installed where these tests run. Nothing here shows that it does what its documentation says.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM


@dataclass(kw_only=True)
class SamplingParams:
    """`vllm.SamplingParams`: those of its fields that are used, with its defaults."""

    n: int = 1
    temperature: float = 1.0
    max_tokens: int | None = 16
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    stop_token_ids: list[int] | None = None


@dataclass
class LoRARequest:
    """`vllm.lora.request.LoRARequest`."""

    lora_name: str
    lora_int_id: int
    lora_path: str


@dataclass
class Logprob:
    """`vllm.logprobs.Logprob`."""

    logprob: float
    rank: int | None = None
    decoded_token: str | None = None


@dataclass
class CompletionOutput:
    """`vllm.CompletionOutput`; the end token is among the tokens."""

    index: int
    text: str
    token_ids: Sequence[int]
    cumulative_logprob: float | None
    logprobs: list[dict[int, Logprob]] | None
    finish_reason: str | None = None


@dataclass
class RequestOutput:
    """`vllm.RequestOutput`."""

    prompt_token_ids: list[int]
    prompt_logprobs: list[dict[int, Logprob] | None] | None
    outputs: list[CompletionOutput]


class LLM:
    """`vllm.LLM`; `made` are the arguments of the last one."""

    made: Mapping[str, Any] = {}

    def __init__(
        self,
        model: str,
        *,
        tokenizer: str | None = None,
        trust_remote_code: bool = False,
        dtype: str = "auto",
        revision: str | None = None,
        seed: int = 0,
        enable_lora: bool = False,
        max_loras: int = 1,
        max_lora_rank: int = 16,
    ) -> None:
        """Load it."""
        type(self).made = {name: value for name, value in locals().items() if name != "self"}
        self.model = AutoModelForCausalLM.from_pretrained(model).eval()
        self.adapted: PeftModel | None = None

    def generate(
        self,
        prompts: Sequence[Mapping[str, Any]],
        sampling_params: SamplingParams | None = None,
        *,
        use_tqdm: bool = True,
        lora_request: LoRARequest | None = None,
    ) -> list[RequestOutput]:
        """Answer greedily."""
        assert sampling_params is not None and sampling_params.temperature == 0
        if lora_request is not None and self.adapted is None:
            assert self.made["enable_lora"]
            self.adapted = PeftModel.from_pretrained(self.model, lora_request.lora_path).eval()
        return [self._answered(list(prompt["prompt_token_ids"]), sampling_params) for prompt in prompts]

    def _answered(self, prompt: list[int], how: SamplingParams) -> RequestOutput:
        tokens, steps, reason = list(prompt), [], "length"
        while len(tokens) < len(prompt) + (how.max_tokens or 0):
            scores = self._scores(tokens)[-1]
            best = int(scores.argmax())
            tokens.append(best)
            steps.append({best: Logprob(float(scores[best]))})
            if best in (how.stop_token_ids or ()):
                reason = "stop"
                break
        of_prompt: list[Any] | None = None
        if how.prompt_logprobs is not None:
            rows = self._scores(prompt)
            of_prompt = [None, *({one: Logprob(float(rows[i, one]))} for i, one in enumerate(prompt[1:]))]
        given = steps if how.logprobs is not None else None
        output = CompletionOutput(0, "not used", tuple(tokens[len(prompt) :]), None, given, reason)
        return RequestOutput(prompt, of_prompt, [output])

    def _scores(self, tokens: list[int]) -> torch.Tensor:
        with torch.no_grad():
            return (self.adapted or self.model)(input_ids=torch.tensor([tokens])).logits[0].log_softmax(-1)


@contextmanager
def installed() -> Iterator[type[LLM]]:
    """Let `import vllm` find this inside."""
    vllm, lora, request = (ModuleType(name) for name in ("vllm", "vllm.lora", "vllm.lora.request"))
    vars(vllm).update(LLM=LLM, SamplingParams=SamplingParams, lora=lora, __version__="stand-in")
    vars(request).update(LoRARequest=LoRARequest)
    with pytest.MonkeyPatch.context() as patch:
        for module in (vllm, lora, request):
            patch.setitem(sys.modules, module.__name__, module)
        yield LLM
