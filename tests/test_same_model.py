"""The model handed out is the model that was trained: each way to it is held to the logits of the adapter as made."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from tiny_models import tiny_adapter, tiny_llama, tiny_tokenizer
from transformers import LlamaForCausalLM

from muscle_hf import merging
from muscle_hf.errors import UnsupportedAdapterError
from muscle_hf.hub.load import load_adapter

TOKENIZER = tiny_tokenizer()
EMBEDDINGS, HEAD, TRAINED = "embed_tokens", "lm_head", [5, 7]
KINDS: dict[str, dict[str, Any]] = {
    "LoRA": {},
    "DoRA": {"use_dora": True},
    "rsLoRA": {"use_rslora": True},
    "embeddings copied": {"modules_to_save": [EMBEDDINGS]},
    "head copied": {"modules_to_save": [HEAD]},
    "both copied": {"modules_to_save": [EMBEDDINGS, HEAD]},
    "copied and tied": {"modules_to_save": [EMBEDDINGS], "ensure_weight_tying": True},
    "LoRA on embeddings": {"target_modules": ["q_proj", EMBEDDINGS]},
    "LoRA on embeddings, tied": {"target_modules": ["q_proj", EMBEDDINGS], "ensure_weight_tying": True},
    "LoRA on head": {"target_modules": ["q_proj", HEAD]},
    "LoRA on all": {"target_modules": ["q_proj", "down_proj", EMBEDDINGS, HEAD]},
    "DoRA on embeddings": {"target_modules": ["q_proj", EMBEDDINGS], "use_dora": True},
    "rsLoRA on embeddings": {"target_modules": ["q_proj", EMBEDDINGS], "use_rslora": True},
    "tokens": {"trainable_token_indices": TRAINED},
    "tokens of both": {"trainable_token_indices": {EMBEDDINGS: TRAINED, HEAD: TRAINED}},
    "other tokens of each": {"trainable_token_indices": {EMBEDDINGS: TRAINED, HEAD: TRAINED[:1]}},
}
# Every token, so that a row that is another one shows.
IDS = torch.arange(len(TOKENIZER) // 8 * 8).view(-1, 8)


@dataclass(frozen=True)
class Made:
    """A base and an adapter on disk, and the logits of that adapter before it was saved."""

    folder: Path
    logits: torch.Tensor

    @property
    def base(self) -> Path:
        return self.folder / "base"

    @property
    def adapter(self) -> Path:
        return self.folder / "adapter"

    def distance(self, model: Any) -> float:
        """The largest difference of a logit; infinity where the vocabulary is another."""
        found = _logits(model)
        return float((found - self.logits).abs().max()) if found.shape == self.logits.shape else float("inf")


def _logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(IDS).logits
    return found


@pytest.fixture(autouse=True)
def _peft_may_speak_of_tying() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Model has `tie_word_embeddings=True` and a tied layer")
        warnings.filterwarnings("ignore", "ensure_weight_tying=True but the model does not have tied weights")
        yield


def _make(folder: Path, kind: str, *, tied: bool, dtype: torch.dtype = torch.float32) -> Made:
    base = tiny_llama(1, TOKENIZER, hidden_size=16, layers=1, tie_word_embeddings=tied)
    base.to(dtype).save_pretrained(folder / "base")
    adapted = tiny_adapter(LlamaForCausalLM.from_pretrained(folder / "base"), 2, **KINDS[kind])
    adapted.save_pretrained(folder / "adapter")
    return Made(folder, _logits(adapted))


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_way_of_loading_hands_out_another_model(tmp_path: Path, kind: str, tied: bool) -> None:
    made = _make(tmp_path, kind, tied=tied)
    merged = load_adapter(made.adapter, merge=True)
    merged.save_pretrained(tmp_path / "merged")
    models = {
        "peft": PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(made.base), made.adapter),
        "load_adapter": load_adapter(made.adapter),
        "merged": merged,
        "merged and loaded again": LlamaForCausalLM.from_pretrained(tmp_path / "merged"),
    }
    assert made.logits.std() > 0.5
    distances = {way: made.distance(model) for way, model in models.items()}
    assert max(distances.values()) < 1e-4, distances


@pytest.mark.parametrize("kind", ["LoRA", "LoRA on embeddings, tied", "copied and tied", "tokens"])
def test_what_comes_out_equal_stays_one_tensor_and_is_saved_once(tmp_path: Path, kind: str) -> None:
    merged = load_adapter(_make(tmp_path, kind, tied=True).adapter, merge=True)
    assert merged.get_input_embeddings().weight is merged.get_output_embeddings().weight
    assert merged.config.tie_word_embeddings


def test_what_comes_out_different_is_said_in_the_config_so_that_nobody_ties_it_again(tmp_path: Path) -> None:
    merged = load_adapter(_make(tmp_path, "LoRA on embeddings", tied=True).adapter, merge=True)
    assert not merged.config.tie_word_embeddings
    merged.tie_weights()
    assert not torch.equal(merged.get_input_embeddings().weight, merged.get_output_embeddings().weight)


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_rounding_of_half_precision_is_not_taken_for_another_model(
    tmp_path: Path, dtype: torch.dtype, tied: bool
) -> None:
    made = _make(tmp_path, "LoRA on embeddings", tied=tied, dtype=dtype)
    merged = load_adapter(made.adapter, merge=True)
    assert merged.dtype == dtype
    rounding = float(((_logits(merged) - made.logits).float()).square().mean().sqrt() / made.logits.float().std())
    assert rounding < torch.finfo(dtype).eps ** 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_a_merge_that_goes_wrong_is_refused_with_how_far_it_is_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    made = _make(tmp_path, "LoRA on embeddings", tied=True, dtype=dtype)
    monkeypatch.setattr(merging, "_part_tied_weights", lambda base: False)  # as PEFT does it
    with pytest.raises(UnsupportedAdapterError, match=r"logits up to \d+\.?\d* from those of the adapter, \d+\.\d+%"):
        load_adapter(made.adapter, merge=True)
