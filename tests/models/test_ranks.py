"""`pad_rank`: a wider adapter that starts as the narrow one, in memory, on disk, and in training."""

import copy
import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import IA3Config, LoraConfig, PeftModel, PromptTuningConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from peft.utils.constants import DUMMY_TARGET_MODULES
from tiny_models import tiny_adapter, tiny_llama, tiny_tokenizer
from torch import nn
from transformers import LlamaForCausalLM, MixtralConfig, MixtralForCausalLM

from muscle_hf.errors import ConfigurationError, UnsupportedAdapterError
from muscle_hf.models.ranks import pad_rank, scaled_alpha

# PEFT says that such an adapter cannot be merged, and takes its biases for pieces of matrices when it is saved.
NO_BIAS = "ignore:(`lora_bias=True` was passed|Adapter 'default'.*_B.bias):peft.utils.warning.PeftWarning"
TOKENIZER = tiny_tokenizer()
TEXT = "transfer ten dollars from savings to checking"
PATTERNS = {
    "rank_pattern": {r"layers\.0\.self_attn\.q_proj": 2, "down_proj": 6},
    "alpha_pattern": {"down_proj": 3, r"layers\.1\..*": 5},
}
TIED = {"target_modules": ["embed_tokens", "lm_head", "q_proj"], "ensure_weight_tying": True}
ADAPTERS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "dora with rslora": {"use_dora": True, "use_rslora": True},
    "patterns of alpha": {"alpha_pattern": PATTERNS["alpha_pattern"]},
    "patterns of both": PATTERNS,
    "patterns with rslora": PATTERNS | {"use_rslora": True},
    "bias": {"lora_bias": True},
    "embeddings": {"tied": False, "target_modules": ["embed_tokens", "q_proj"]},
    "embeddings with dora": {"tied": False, "target_modules": ["embed_tokens", "q_proj"], "use_dora": True},
    "tied head": TIED,
    "whole embeddings and norms": {"modules_to_save": ["embed_tokens", "norm"], "ensure_weight_tying": True},
    "trained tokens": {"trainable_token_indices": {"embed_tokens": [5, 7]}},
    "orthogonal": {"init_lora_weights": "orthogonal"},
}


def _base(*, tied: bool = True) -> LlamaForCausalLM:
    return tiny_llama(1, TOKENIZER, hidden_size=16, tie_word_embeddings=tied)


def _adapter(*, tied: bool = True, **lora: Any) -> PeftModel:
    return tiny_adapter(_base(tied=tied), seed=2, **lora)


def _logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(**TOKENIZER(TEXT, return_tensors="pt")).logits


def _layers(model: PeftModel) -> dict[str, Any]:
    inner = model.base_model.model
    return {name: layer for name, layer in inner.named_modules() if isinstance(layer, LoraLayer)}


def _relative_difference(one: torch.Tensor, other: torch.Tensor) -> float:
    return ((one - other).abs().max() / other.abs().max()).item()


# The start -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.filterwarnings(NO_BIAS)
@pytest.mark.parametrize("kind", ADAPTERS)
def test_a_wider_adapter_computes_what_the_narrow_one_did(kind: str) -> None:
    # In double precision, since two layers of large random weights make ten times as much of a rounding difference.
    model = _adapter(**ADAPTERS[kind]).double()
    before = _logits(model)
    assert pad_rank(model, 16) is model
    assert _relative_difference(_logits(model), before) < 1e-14
    for layer in _layers(model).values():
        weights = layer.lora_embedding_A if layer.lora_embedding_A else layer.lora_A
        assert next(iter(weights.parameters())).shape[0] == layer.r["default"] == 16


@pytest.mark.parametrize("kind", ["plain", "rslora", "dora"])
def test_the_output_of_a_layer_stays_the_same_in_single_precision(kind: str) -> None:
    model = _adapter(**ADAPTERS[kind])
    layer = _layers(model)["model.layers.0.mlp.down_proj"]
    x = torch.randn(50, layer.in_features)
    before = layer(x)
    pad_rank(model, 128)
    assert _relative_difference(layer(x), before) < 1e-6


@pytest.mark.slow
@pytest.mark.filterwarnings(NO_BIAS)
@pytest.mark.parametrize("kind", ADAPTERS)
def test_a_saved_wider_adapter_is_loaded_by_plain_peft_as_the_same_model(kind: str, tmp_path: Path) -> None:
    model = _adapter(**ADAPTERS[kind])
    before = _logits(model.double())
    pad_rank(model.float(), 10).save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(_base(tied=ADAPTERS[kind].get("tied", True)), tmp_path)
    assert loaded.peft_config["default"].r == 10
    for name, layer in _layers(loaded).items():
        assert layer.scaling["default"] == pytest.approx(_layers(model)[name].scaling["default"], rel=1e-15)
    assert _relative_difference(_logits(loaded.double()), before) < 1e-14


def test_the_old_part_is_kept_to_the_bit_and_the_new_part_adds_nothing() -> None:
    model = _adapter()
    before = {name: weight.detach().clone() for name, weight in model.named_parameters() if weight.requires_grad}
    pad_rank(model, 7)
    after = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    assert after.keys() == before.keys()
    for name, weight in after.items():
        if "lora_A" in name:
            assert torch.equal(weight[:4], before[name])
            bound = 1 / math.sqrt(weight.shape[1])  # of PEFT's own start: Kaiming's uniform with a = sqrt(5)
            assert 0 < weight[4:].abs().min() <= weight[4:].abs().max() <= bound
        else:
            assert torch.equal(weight[:, :4], before[name])
            assert not weight[:, 4:].any()


def test_a_tied_head_stays_the_mirror_of_the_embeddings() -> None:
    model = pad_rank(_adapter(**TIED), 12)
    embeddings, head = (_layers(model)[name] for name in ("model.embed_tokens", "lm_head"))
    first, second = embeddings.lora_embedding_A["default"], embeddings.lora_embedding_B["default"]
    assert torch.equal(head.lora_A["default"].weight, second.T)
    assert torch.equal(head.lora_B["default"].weight, first.T)
    with torch.no_grad():
        second.add_(1.0)  # as a step of the optimizer does
    assert torch.equal(head.lora_A["default"].weight, second.T)


def test_a_head_that_has_left_its_embeddings_is_padded_on_its_own() -> None:
    model = _adapter(**TIED).double()
    head = _layers(model)["lm_head"]
    head.lora_A["default"].weight = nn.Parameter(head.lora_A["default"].weight.detach() + 1)
    before = _logits(model)
    assert _relative_difference(_logits(pad_rank(model, 12)), before) < 1e-14


def test_half_precision_and_frozen_weights_stay_so() -> None:
    model = _adapter().to(torch.bfloat16)
    model.requires_grad_(False)
    before = _logits(model)
    pad_rank(model, 8)
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    assert not any(weight.requires_grad for weight in model.parameters())
    assert _relative_difference(_logits(model), before) < 1e-2


def test_the_seed_alone_decides_the_new_weights() -> None:
    def new(seed: int) -> list[torch.Tensor]:
        layers = _layers(pad_rank(_adapter(tied=False, target_modules=["embed_tokens", "q_proj"]), 8, seed=seed))
        rows = layers["model.layers.0.self_attn.q_proj"].lora_A["default"].weight[4:]
        return [rows.detach(), layers["model.embed_tokens"].lora_embedding_B["default"][:, 4:].detach()]

    state = torch.random.get_rng_state()
    first = new(1)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.rand(3)
    assert all(torch.equal(one, other) for one, other in zip(first, new(1), strict=True))
    assert not any(torch.equal(one, other) for one, other in zip(first, new(2), strict=True))


def test_the_config_of_the_caller_is_not_changed() -> None:
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj"], task_type="CAUSAL_LM")
    model = get_peft_model(_base(), config)
    pad_rank(model, 8)
    assert (config.r, config.lora_alpha) == (4, 8)


def test_a_scale_that_was_set_by_hand_stays_in_force() -> None:
    model = _adapter().double()
    for layer in _layers(model).values():
        layer.set_scale("default", 0.5)
    before = _logits(model)
    assert _relative_difference(_logits(pad_rank(model, 16)), before) < 1e-14


def test_merging_a_wider_adapter_gives_the_merged_narrow_one() -> None:
    narrow, wide = _adapter(use_dora=True).double(), pad_rank(_adapter(use_dora=True).double(), 16)
    merged = [_logits(model.merge_and_unload()) for model in (narrow, wide)]
    assert _relative_difference(merged[1], merged[0]) < 1e-14


# Scales --------------------------------------------------------------------------------------------------------------


@given(st.one_of(st.integers(1, 1024), st.floats(1e-3, 1e4)), st.integers(1, 512), st.integers(1, 1024), st.booleans())
def test_the_scale_survives_to_the_last_digit(alpha: float, old: int, new: int, use_rslora: bool) -> None:
    size = math.sqrt if use_rslora else float
    scale = alpha / size(old)
    assert abs(scaled_alpha(alpha, old, new, use_rslora) / size(new) - scale) <= math.ulp(scale)


def test_an_alpha_that_stays_whole_is_written_as_such() -> None:
    # 8 / 4 = 64 / 32; 8 / sqrt(4) = 16 / sqrt(16); 16 / 12 = (128 / 3) / 32
    assert repr(scaled_alpha(8, 4, 32, False)) == "64"
    assert repr(scaled_alpha(8, 4, 16, True)) == "16"
    assert scaled_alpha(16, 12, 32, False) == pytest.approx(128 / 3)


def test_patterns_keep_the_scale_of_every_layer() -> None:
    model = _adapter(**PATTERNS)
    # PEFT takes the first pattern that fits: alpha 3 for every down_proj, 5 for the rest of layer 1, else 8.
    expected = {
        "model.layers.0.self_attn.q_proj": 8 / 2,
        "model.layers.0.self_attn.k_proj": 8 / 4,
        "model.layers.0.mlp.down_proj": 3 / 6,
        "model.layers.1.mlp.down_proj": 3 / 6,
        "model.layers.1.mlp.up_proj": 5 / 4,
    }
    pad_rank(model, 6)
    config = model.peft_config["default"]
    assert config.rank_pattern == {}
    assert config.r == 6
    for name, scale in expected.items():
        layer = _layers(model)[name]
        assert layer.scaling["default"] == scale
        assert layer.lora_alpha["default"] / 6 == pytest.approx(scale, rel=1e-15)


# Training ------------------------------------------------------------------------------------------------------------


def test_training_reaches_the_new_part() -> None:
    model = pad_rank(_adapter(), 8)
    layer = _layers(model)["model.layers.0.mlp.down_proj"]
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    inputs = TOKENIZER(TEXT, return_tensors="pt")
    optimizer = torch.optim.SGD([weight for weight in model.parameters() if weight.requires_grad], lr=1e-3)
    for step in range(2):
        model(**inputs, labels=inputs["input_ids"]).loss.backward()
        assert b.grad is not None and b.grad[:, 4:].abs().min() > 0
        # The zeros of B hold back the gradient of A until they have made a step.
        assert a.grad is not None and bool(a.grad[4:].any()) == (step > 0)
        optimizer.step()
        optimizer.zero_grad()


def test_a_trained_wider_adapter_is_loaded_as_it_was_trained(tmp_path: Path) -> None:
    model = pad_rank(_adapter(**PATTERNS, use_rslora=True), 12)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.add_(0.1 * torch.randn_like(weight))
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(_base(), tmp_path)
    assert _relative_difference(_logits(loaded.double()), _logits(model.double())) < 1e-14


# Layers that are no plain matrices -----------------------------------------------------------------------------------


class Convolutions(nn.Module):
    def __init__(self, groups: int) -> None:
        super().__init__()
        self.line = nn.Conv1d(4, 6, 3, padding=1, groups=2 if groups > 1 else 1)
        self.plane = nn.Conv2d(4, 8, 3, groups=groups)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.line(x[:, :, 0]), self.plane(x)


@pytest.mark.parametrize(("groups", "use_dora"), [(1, False), (1, True), (4, False)])
def test_every_group_of_a_convolution_keeps_its_own_filters(groups: int, use_dora: bool) -> None:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "LoRA adapter added to ConvNd layer with groups > 1")
        config = LoraConfig(r=4, lora_alpha=8, target_modules=["line", "plane"], use_dora=use_dora)
        model = get_peft_model(Convolutions(groups), config)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn_like(weight))
    x = torch.randn(2, 4, 5, 5)
    before = model(x)
    if groups > 1:
        with pytest.raises(
            ConfigurationError, match="not divisible by the 4 groups of the convolution plane; take 12"
        ):
            pad_rank(model, 10)
    pad_rank(model, 12)
    for one, other in zip(model(x), before, strict=True):
        assert _relative_difference(one, other) < 1e-6
    assert model.base_model.model.plane.lora_A["default"].out_channels == 12


def _mixture(**lora: Any) -> PeftModel:
    config = MixtralConfig(
        vocab_size=len(TOKENIZER),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_local_experts=3,
        pad_token_id=0,
        experts_implementation="eager",  # the one that knows double precision
    )
    torch.manual_seed(0)
    base = MixtralForCausalLM(config).eval()
    parameters = [f"mlp.experts.{name}" for name in ("gate_up_proj", "down_proj")]
    return tiny_adapter(base, seed=3, target_modules=["q_proj"], target_parameters=parameters, **lora)


# PEFT looks for patterns of parameters among the modules; it follows them all the same.
@pytest.mark.filterwarnings("ignore:The following .*_pattern keys did not match:RuntimeWarning")
@pytest.mark.parametrize("lora", [{}, {"rank_pattern": {r".*experts\.down_proj": 2}, "use_rslora": True}])
def test_every_expert_keeps_its_own_pair(lora: dict[str, Any], tmp_path: Path) -> None:
    model = _mixture(**lora).double()
    before = _logits(model)
    pad_rank(model, 8)
    assert _relative_difference(_logits(model), before) < 1e-14
    experts = model.base_model.model.model.layers[0].mlp.experts
    assert experts.lora_A["default"].weight.shape[0] == 3 * 8
    model.save_pretrained(tmp_path)
    torch.manual_seed(0)
    loaded = PeftModel.from_pretrained(MixtralForCausalLM(copy.deepcopy(model.config)), tmp_path)
    assert _relative_difference(_logits(loaded.double()), before) < 1e-14


# What is refused -----------------------------------------------------------------------------------------------------


def _unchanged(model: PeftModel, before: torch.Tensor) -> bool:
    return torch.equal(_logits(model), before)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [4, 3, 0, -1, True, 8.0, "8"])
def test_a_rank_that_is_no_larger_is_refused_before_anything_changes(rank: Any) -> None:
    model = _adapter()
    before = _logits(model)
    with pytest.raises(ConfigurationError, match=r"rank"):
        pad_rank(model, rank)
    assert _unchanged(model, before)
    assert model.peft_config["default"].r == 4


def test_a_rank_below_that_of_one_layer_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="rank 2 to 6, and padding cannot take it to 5"):
        pad_rank(_adapter(**PATTERNS), 5)


def test_an_adapter_without_a_rank_is_refused() -> None:
    base = _base()
    ia3 = IA3Config(task_type="CAUSAL_LM", target_modules=["k_proj"], feedforward_modules=[])
    prompt = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    for config, name in ((ia3, "IA3"), (prompt, "PROMPT_TUNING")):
        with pytest.raises(UnsupportedAdapterError, match=name):
            pad_rank(get_peft_model(copy.deepcopy(base), config), 8)
    with pytest.raises(UnsupportedAdapterError, match="LlamaForCausalLM has no adapter"):
        pad_rank(base, 8)


def test_whole_modules_alone_are_refused() -> None:
    config = LoraConfig(task_type="CAUSAL_LM", target_modules=DUMMY_TARGET_MODULES, modules_to_save=["norm"])
    model = get_peft_model(_base(), config)
    with pytest.raises(UnsupportedAdapterError, match="no LoRA pair"):
        pad_rank(model, 8)


def test_several_active_adapters_are_refused() -> None:
    model = _adapter()
    model.add_adapter("other", LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    model.base_model.set_adapter(["default", "other"])
    with pytest.raises(ConfigurationError, match="'other'"):
        pad_rank(model, 8)


def test_another_adapter_of_the_model_is_left_alone() -> None:
    model = _adapter()
    model.add_adapter("other", LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    before = _logits(model.double())
    pad_rank(model, 8)
    assert _relative_difference(_logits(model), before) < 1e-14
    layer = _layers(model)["model.layers.0.self_attn.q_proj"]
    assert layer.r == {"default": 8, "other": 2}
    assert layer.lora_A["other"].weight.shape[0] == 2


@pytest.mark.parametrize("how", ["pissa", "pissa_niter_2", "olora", "loftq"])
def test_an_adapter_whose_base_depends_on_its_rank_is_refused(how: str) -> None:
    model = _adapter()
    model.peft_config["default"].init_lora_weights = how
    with pytest.raises(UnsupportedAdapterError, match="changes the base according to the rank"):
        pad_rank(model, 8)


def test_padding_a_pissa_adapter_would_have_changed_the_loaded_model(tmp_path: Path) -> None:
    """The reason for the refusal: PEFT subtracts the principal part of the config's rank from the base on loading."""
    model = _adapter(init_lora_weights="pissa", target_modules=["q_proj"])
    before = _logits(model)
    model.save_pretrained(tmp_path / "narrow")
    narrow = PeftModel.from_pretrained(_base(), tmp_path / "narrow")
    assert _relative_difference(_logits(narrow), before) < 1e-5
    model.peft_config["default"].init_lora_weights = True
    pad_rank(model, 8)
    model.peft_config["default"].init_lora_weights = "pissa"
    model.save_pretrained(tmp_path / "wide")
    wide = PeftModel.from_pretrained(_base(), tmp_path / "wide")
    assert _relative_difference(_logits(wide), before) > 1e-2


def test_an_odd_rank_for_an_adapter_that_peft_loads_with_even_ranks_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"even rank only; got 9\. Take 10"):
        pad_rank(_adapter(init_lora_weights="orthogonal"), 9)


@pytest.mark.parametrize("variant", [{"init_lora_weights": "mica"}, {"alora_invocation_tokens": [5, 6]}])
def test_a_variant_that_may_depend_on_its_rank_is_refused(variant: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedAdapterError, match="the LoRA variant"):
        pad_rank(_adapter(target_modules=["q_proj"], **variant), 8)


def test_weights_that_are_not_loaded_are_refused(tmp_path: Path) -> None:
    _adapter().save_pretrained(tmp_path)
    with torch.device("meta"):
        base = LlamaForCausalLM(_base().config)
        model = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    with pytest.raises(UnsupportedAdapterError, match="not two whole matrices"):
        pad_rank(model, 8)
