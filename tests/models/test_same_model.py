"""The model handed out is the model that was trained: each way to it is held to the logits of the adapter as made."""

import copy
import os
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import AutoPeftModelForCausalLM, PeftModel
from tiny_models import tiny_adapter, tiny_llama, tiny_tokenizer
from tiny_updates import ROWS, config_of
from transformers import LlamaForCausalLM

from muscle_hf import CompatibilityTrainer
from muscle_hf.errors import ModelMismatchError, UnsupportedAdapterError
from muscle_hf.models import merging
from muscle_hf.models.embedding_rows import save_with_rows
from muscle_hf.models.load import load_adapter
from muscle_hf.publishing.packing import pack_adapter

TOKENIZER = tiny_tokenizer()
GROWN = copy.deepcopy(TOKENIZER)
GROWN.add_special_tokens({"extra_special_tokens": ["<|im_start|>", "<|im_end|>"]})
EMBEDDINGS, HEAD = "embed_tokens", "lm_head"
# The last one is the first of the added tokens, where there are some.
TRAINED = [5, len(TOKENIZER) - 1], [5, len(TOKENIZER)]
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
    # How many of the trained tokens.
    "tokens": {"trainable_token_indices": {EMBEDDINGS: 2}},
    "tokens of both": {"trainable_token_indices": {EMBEDDINGS: 2, HEAD: 2}},
    "other tokens of each": {"trainable_token_indices": {EMBEDDINGS: 2, HEAD: 1}},
}


@dataclass(frozen=True)
class Made:
    """A base and an adapter on disk, and the logits of that adapter before it was saved."""

    folder: Path
    base: Path
    ids: torch.Tensor
    logits: torch.Tensor

    @property
    def adapter(self) -> Path:
        return self.folder / "adapter"

    def of(self, model: Any) -> torch.Tensor:
        with torch.no_grad():
            found: torch.Tensor = model.eval()(input_ids=self.ids).logits
        return found


def _distances(logits: torch.Tensor, ways: dict[str, torch.Tensor]) -> dict[str, float]:
    """The largest difference of a logit; infinity where the vocabulary is another."""
    return {
        way: float((found - logits).abs().max()) if found.shape == logits.shape else float("inf")
        for way, found in ways.items()
    }


@pytest.fixture(autouse=True)
def _peft_may_speak_of_tying() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Model has `tie_word_embeddings=True` and a tied layer")
        warnings.filterwarnings("ignore", "ensure_weight_tying=True but the model does not have tied weights")
        yield


# Beside adapted embeddings PEFT does not save the head of a resized base; nobody but the model in training has it.
LEFT_OUT_BY_PEFT = [kind for kind in KINDS if len({EMBEDDINGS, HEAD} & {*KINDS[kind].get("target_modules", ())}) == 1]


def _lora(kind: str, *, grown: bool = False) -> dict[str, Any]:
    tokens = {layer: TRAINED[grown][:count] for layer, count in KINDS[kind].get("trainable_token_indices", {}).items()}
    return KINDS[kind] | ({"trainable_token_indices": tokens} if tokens else {})


@cache
def _base(tied: bool, dtype: torch.dtype, seed: int) -> Path:
    """Save a base with its tokenizer where nothing changes it."""
    folder = Path(tempfile.mkdtemp(dir=os.environ["HF_HOME"]))
    base = tiny_llama(seed, TOKENIZER, hidden_size=16, layers=1, tie_word_embeddings=tied)
    base.to(dtype).save_pretrained(folder)
    TOKENIZER.save_pretrained(folder)
    return folder


def _make(
    folder: Path,
    kind: str,
    *,
    tied: bool,
    grown: bool = False,
    whole: bool = False,
    dtype: torch.dtype = torch.float32,
    seed: int = 1,
) -> Made:
    folder_of_base = _base(tied, dtype, seed)
    base = LlamaForCausalLM.from_pretrained(folder_of_base)
    if grown:
        base.resize_token_embeddings(len(GROWN))
    adapted = tiny_adapter(base, seed + 1, **_lora(kind, grown=grown))
    (GROWN if grown else TOKENIZER).save_pretrained(folder / "adapter")
    if whole:
        save_with_rows(adapted, folder / "adapter")
    else:
        adapted.save_pretrained(folder / "adapter")
    # Every token, so that a row that is another one shows.
    ids = torch.arange(len(GROWN if grown else TOKENIZER) // 2 * 2).view(2, -1)[:, :: 2 if grown else 3]
    ids[:, -1] = len(GROWN if grown else TOKENIZER) - 1
    made = Made(folder, folder_of_base, ids, torch.empty(0))
    return replace(made, logits=made.of(adapted))


def _ways(made: Made, adapter: Path) -> dict[str, Any]:
    """Every way of loading an adapter."""
    merged = load_adapter(adapter, merge=True)
    merged.save_pretrained(made.folder / "merged")
    plain = LlamaForCausalLM.from_pretrained(made.base)
    plain.resize_token_embeddings(made.logits.shape[-1], mean_resizing=False)
    packed = made.folder / "packed"
    packed.mkdir()
    (adapter / "README.md").write_text("---\nlicense: mit\n---\n\n# A test\n", encoding="utf-8")
    for name, content in pack_adapter(adapter, "org/adapter", base_model="org/base").files.items():
        (packed / name).write_bytes(content if isinstance(content, bytes) else content.read_bytes())
    return {
        "peft": PeftModel.from_pretrained(plain, adapter),
        "AutoPeftModel": AutoPeftModelForCausalLM.from_pretrained(adapter),
        "load_adapter": load_adapter(adapter),
        "merged": merged,
        "merged and loaded again": LlamaForCausalLM.from_pretrained(made.folder / "merged"),
        "as it is pushed": load_adapter(packed, base_model=made.base),
    }


@pytest.mark.slow
@pytest.mark.parametrize("grown", [False, True], ids=["as the base", "tokens added"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_way_of_loading_hands_out_another_model(tmp_path: Path, kind: str, tied: bool, grown: bool) -> None:
    made = _make(tmp_path, kind, tied=tied, grown=grown)
    assert made.logits.std() > 0.5
    if grown and not tied and kind in LEFT_OUT_BY_PEFT:
        with pytest.raises(ModelMismatchError, match=r"322 rows.*has 320.*does not hold those of.*would be random"):
            load_adapter(made.adapter)
        return
    distances = _distances(made.logits, {way: made.of(model) for way, model in _ways(made, made.adapter).items()})
    assert max(distances.values()) < 1e-4, distances


@pytest.mark.slow
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize(
    ("kind", "grown"),
    # Those on the head itself are refused; with tokens added there is more that can be lost.
    [(kind, True) for kind in KINDS if HEAD not in KINDS[kind].get("target_modules", [])]
    + [("LoRA", False), ("both copied", False), ("LoRA on embeddings, tied", False), ("tokens", False)],
)
def test_neither_the_start_of_a_training_nor_its_end_is_another_model(
    tmp_path: Path, kind: str, grown: bool, tied: bool
) -> None:
    made = _make(tmp_path / "new", kind, tied=tied, grown=grown, whole=True)
    old = _make(tmp_path / "old", kind, tied=tied, grown=grown, whole=True, seed=7)

    def trainer(**options: Any) -> CompatibilityTrainer:
        return CompatibilityTrainer(
            model=str(made.base),
            new_adapter=str(made.adapter),
            old_model=str(old.base),
            old_adapter=str(old.adapter),
            args=config_of(tmp_path / "out", max_steps=1, save_strategy="steps", save_steps=1, **options),
            train_dataset=Dataset.from_list(ROWS[:4]),
        )

    training = trainer(student_rank=6)
    inputs = {"input_ids": made.ids}
    start = {"student, widened": made.of(training.model), "new teacher": training.new_teacher(inputs).logits}
    start["old teacher"] = training.old_teacher(inputs).logits - old.logits + made.logits
    training.train()
    start["new teacher after a step"] = training.new_teacher(inputs).logits
    assert max(_distances(made.logits, start).values()) < 1e-4, _distances(made.logits, start)

    trained = made.of(training.model)
    assert not torch.allclose(trained, made.logits, atol=1e-2)
    training.save_model(str(tmp_path / "saved"))
    resumed = trainer(student_rank=6)
    resumed.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-1"))
    ways = _ways(made, tmp_path / "saved") | {"resumed": resumed.model}
    distances = _distances(trained, {way: made.of(model) for way, model in ways.items()})
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
    apart = (made.of(merged) - made.logits).float()
    rounding = float(apart.square().mean().sqrt() / made.logits.float().std())
    assert rounding < torch.finfo(dtype).eps ** 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_a_merge_that_goes_wrong_is_refused_with_how_far_it_is_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    made = _make(tmp_path, "LoRA on embeddings", tied=True, dtype=dtype)
    monkeypatch.setattr(merging, "_part_tied_weights", lambda base: False)  # as PEFT does it
    with pytest.raises(UnsupportedAdapterError, match=r"logits up to \d+\.?\d* from those of the adapter, \d+\.\d+%"):
        load_adapter(made.adapter, merge=True)
