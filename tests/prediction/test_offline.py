"""The engine for vLLM, with a stand-in that has vLLM's documented signatures: the same answers and the same tokens.

vLLM itself was never run.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stand_in_vllm
from peft import PeftModel
from tiny_models import CHAT_TEMPLATE, tiny_adapter, tiny_llama, tiny_tokenizer
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from muscle_hf import (
    InputError,
    MissingPackageError,
    TransformersEngine,
    UnsupportedAdapterError,
    VLLMEngine,
    choose_answers,
    generate_answers,
)
from muscle_hf.cli import main
from muscle_hf.prediction import answer_file

PROMPTS: list[Any] = [
    "what is the balance",
    "  spaces at both ends \n",
    "日本 😀",
    [{"role": "user", "content": "how do I say"}],
]
CHOICES = [["yes", "no"], ["a", "card", "savings"], ["é", "x"], ["thank you", "a"]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vllm")
    tokenizer = tiny_tokenizer(chat_template=CHAT_TEMPLATE, add_beginning=True)
    tiny_llama(2, tokenizer, hidden_size=16, layers=1).save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    tiny_adapter(LlamaForCausalLM.from_pretrained(folder / "base"), 3, r=12).save_pretrained(folder / "adapter")
    return folder


@pytest.fixture
def vllm() -> Iterator[type[stand_in_vllm.LLM]]:
    with stand_in_vllm.installed() as library:
        yield library


def _local(folder: Path) -> tuple[PeftModel, PreTrainedTokenizerFast]:
    model = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(folder / "base"), folder / "adapter").eval()
    return model, PreTrainedTokenizerFast.from_pretrained(folder / "base")


@pytest.mark.slow
def test_answers_and_choices_are_those_of_transformers(folder: Path, vllm: type[stand_in_vllm.LLM]) -> None:
    model, tokenizer = _local(folder)
    engine = VLLMEngine(str(folder / "base"), folder / "adapter", tokenizer)
    for longest in (1, 40):
        found = engine.generate(PROMPTS, max_new_tokens=longest)
        expected = generate_answers(model, tokenizer, PROMPTS, max_new_tokens=longest, show_progress=False)
        assert (found.texts, found.finished.tolist()) == (expected.texts, expected.finished.tolist())
        assert found.token_counts.tolist() == expected.token_counts.tolist()
        np.testing.assert_allclose(found.log_likelihoods, expected.log_likelihoods, atol=1e-4)
    for how in ({}, {"normalization": "characters", "delimiter": ""}):
        chosen = engine.choose(PROMPTS, CHOICES, **how)
        right = choose_answers(model, tokenizer, PROMPTS, CHOICES, show_progress=False, **how)
        assert chosen.indices.tolist() == right.indices.tolist()
        for scores, expected_scores in zip(chosen.scores, right.scores, strict=True):
            np.testing.assert_allclose(scores, expected_scores, atol=1e-4)
    local = TransformersEngine(model, tokenizer)
    assert engine.lengths(PROMPTS, max_new_tokens=2) == local.lengths(PROMPTS, max_new_tokens=2)
    assert engine.lengths(PROMPTS, CHOICES) == local.lengths(PROMPTS, CHOICES)
    # Half precision, which vLLM takes for float32 by itself, would answer otherwise; it knows few ranks.
    assert (vllm.made["dtype"], vllm.made["max_lora_rank"]) == ("float32", 16)


def test_an_answer_that_vllm_ended_otherwise_is_told(
    folder: Path, vllm: type[stand_in_vllm.LLM], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = stand_in_vllm.LLM.generate

    def aborted(*arguments: Any, **options: Any) -> Any:
        answers = original(*arguments, **options)
        answers[0].outputs[0].finish_reason = "abort"
        return answers

    monkeypatch.setattr(stand_in_vllm.LLM, "generate", aborted)
    found = VLLMEngine(str(folder / "base"), None, _local(folder)[1]).generate(["x"], max_new_tokens=2)
    assert (found.ends, found.finished.tolist()) == (["abort"], [False])


def test_what_does_not_fit_is_refused_before_vllm_is_asked(folder: Path, vllm: type[stand_in_vllm.LLM]) -> None:
    engine = VLLMEngine(str(folder / "base"), folder / "adapter", _local(folder)[1])
    with pytest.raises(InputError, match="its answer may take 120 more"):
        engine.lengths(["what is the balance"], max_new_tokens=120)
    with pytest.raises(InputError, match=r"prompt 1 has .* tokens"):
        engine.lengths(["x", "card"], [["a"], ["b " * 200]])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"use_dora": True}, "is no plain LoRA"),
        ({"modules_to_save": ["lm_head"]}, "is no plain LoRA"),
        ({"peft_type": "LOHA"}, "is no plain LoRA"),
        ({"r": 1024}, "rank 1024; vLLM runs adapters up to rank 512"),
        ({"rank_pattern": {"q_proj": 600}}, "rank 600"),
    ],
    ids=str,
)
def test_adapters_that_vllm_does_not_run_are_refused_before_the_base_is_loaded(
    folder: Path, tmp_path: Path, vllm: type[stand_in_vllm.LLM], changes: dict[str, Any], words: str
) -> None:
    config = json.loads((folder / "adapter" / "adapter_config.json").read_text(encoding="utf-8")) | changes
    if "peft_type" in changes:
        config = {"peft_type": "LOHA", "task_type": "CAUSAL_LM", "r": 4}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(UnsupportedAdapterError, match=words):
        VLLMEngine("no such base", tmp_path, _local(folder)[1])


def test_vllm_that_is_not_installed_is_named() -> None:
    with pytest.raises(MissingPackageError, match=r"engine vllm needs vllm, .*: pip install vllm"):
        VLLMEngine("base", None, tiny_tokenizer())


def test_predict_writes_the_same_file_with_vllm(
    folder: Path, tmp_path: Path, vllm: type[stand_in_vllm.LLM], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_file.importlib.metadata, "version", str)  # the stand-in has none
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps({"prompt": one}) + "\n" for one in PROMPTS[:3]), encoding="utf-8")
    command = ["predict", str(folder / "adapter"), str(data), "--base-model", str(folder / "base")]
    command += ["--max-new-tokens", "3"]
    for engine in ("vllm", "transformers"):
        assert main([*command, "--engine", engine, "--output", str(tmp_path / engine)]) == 0
    assert (tmp_path / "vllm").read_text(encoding="utf-8") == (tmp_path / "transformers").read_text(encoding="utf-8")
