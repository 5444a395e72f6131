"""What is read once for all choices scores as if each were read alone, whatever the model; and a model that cannot do
it is found out."""

import inspect
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import IA3Config, LoraConfig, PeftConfig, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from questions import CHOICES, PROMPTS, no_logged_warnings, one_thread, reference_score
from tiny_models import tiny_adapter, tiny_llama, tiny_tokenizer
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    Lfm2Config,
    Llama4ForCausalLM,
    Llama4TextConfig,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    Phi3Config,
    PreTrainedConfig,
)
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

import muscle_hf.prediction.choose
from muscle_hf.prediction.choose import choose_answers
from muscle_hf.prediction.likelihood import cache_name, can_share, rotary_limit, score
from muscle_hf.prediction.prompts import Option, Stem, whole_stems

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LONG_ROPE = {
    "rope_type": "longrope",
    "rope_theta": 10_000.0,
    "short_factor": [1.0] * 4,
    "long_factor": [4.0] * 4,
    "factor": 128 / 20,
    "original_max_position_embeddings": 20,
}


@pytest.fixture(autouse=True)
def _calm() -> Iterator[None]:
    with one_thread(), no_logged_warnings():
        yield


def _model(config: PreTrainedConfig, kind: Any = None) -> Any:
    """A model with large random weights, so that whatever is read wrongly shows."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(3)
        model = (kind(config) if kind else AutoModelForCausalLM.from_config(config)).eval()
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(0, 0.2)
    return model


def _family(name: str) -> Any:
    sizes = {"vocab_size": len(tiny_tokenizer()), **SIZES}
    absolute = {"n_embd": 32, "n_layer": 2, "n_head": 4}
    configs: dict[str, PreTrainedConfig] = {
        "Llama": LlamaConfig(**sizes),
        "Llama, eager": LlamaConfig(**sizes, attn_implementation="eager"),
        "GPT-2": GPT2Config(
            vocab_size=sizes["vocab_size"], n_positions=64, bos_token_id=1, eos_token_id=2, **absolute
        ),
        "Mistral, window 5": MistralConfig(**sizes, sliding_window=5),
        "Mistral, window 100": MistralConfig(**sizes, sliding_window=100),
        "Gemma 2, window 5": Gemma2Config(**sizes, sliding_window=5, head_dim=8),
        "Gemma 3, window 5": Gemma3TextConfig(
            **sizes, sliding_window=5, head_dim=8, layer_types=["sliding_attention", "full_attention"]
        ),
        "Mixtral": MixtralConfig(**sizes, num_local_experts=4),
        "Phi 3, longrope": Phi3Config(**sizes, rope_parameters=LONG_ROPE, original_max_position_embeddings=20),
        # No position_ids; keys and values are not all there is in the cache; windows that do not slide.
        "Bloom": BloomConfig(
            vocab_size=sizes["vocab_size"], hidden_size=32, n_layer=2, n_head=4, bos_token_id=1, eos_token_id=2
        ),
        "LFM2": Lfm2Config(**sizes, full_attn_idxs=[1], block_multiple_of=8),
        "Llama 4, chunks of 6": Llama4TextConfig(
            **sizes, attention_chunk_size=6, head_dim=8, num_local_experts=2, intermediate_size_mlp=32
        ),
    }
    return _model(configs[name], Llama4ForCausalLM if name.startswith("Llama 4") else None)


SHARING = [
    "Llama",
    "Llama, eager",
    "GPT-2",
    "Mistral, window 5",
    "Mistral, window 100",
    "Gemma 2, window 5",
    "Gemma 3, window 5",
    "Mixtral",
    "Phi 3, longrope",
]
READING_WHOLE = ["Bloom", "LFM2", "Llama 4, chunks of 6"]


def _assert_scores_are_right(model: Any, *batch_sizes: int, **tolerance: float) -> None:
    tokenizer = tiny_tokenizer()
    expected = [
        [reference_score(model, tokenizer, prompt, " " + choice) for choice in choices]
        for prompt, choices in zip(PROMPTS, CHOICES, strict=True)
    ]
    for batch_size in batch_sizes or (5,):
        chosen = choose_answers(model, tokenizer, PROMPTS, CHOICES, batch_size=batch_size, show_progress=False)
        for scores, alone in zip(chosen.scores, expected, strict=True):
            np.testing.assert_allclose(scores, alone, **tolerance, err_msg=f"batches of {batch_size}")


class TestModels:
    @pytest.mark.slow
    @pytest.mark.parametrize("name", SHARING)
    def test_a_model_that_shares_scores_otherwise_than_alone(self, name) -> None:
        model = _family(name)
        with torch.no_grad():
            assert can_share(model)
        _assert_scores_are_right(model, 1, 5, 64, rtol=1e-5)

    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["Llama", "GPT-2", "Mistral, window 5", "Phi 3, longrope"])
    def test_a_small_mistake_passes_for_rounding(self, name) -> None:
        _assert_scores_are_right(_family(name).double(), rtol=0, atol=1e-10)

    @pytest.mark.slow
    @pytest.mark.parametrize("name", READING_WHOLE)
    def test_a_model_that_cannot_share_is_made_to(self, name) -> None:
        model = _family(name)
        with torch.no_grad():
            assert not can_share(model)
        _assert_scores_are_right(model, 1, 5, rtol=1e-5)

    @pytest.mark.parametrize("name", ["Mistral, window 5", "Gemma 3, window 5", "Phi 3, longrope"])
    def test_these_models_would_not_show_what_they_are_for(self, name, monkeypatch) -> None:
        """A cache without windows, or rotations chosen by the batch, give other scores here."""
        model = _family(name)
        if name.startswith("Phi"):
            monkeypatch.setattr(muscle_hf.prediction.choose, "rotary_limit", lambda model: float("inf"))
        else:
            monkeypatch.setattr(DynamicSlidingWindowLayer, "batch_select_indices", lambda self, indices: None)
            monkeypatch.setattr(muscle_hf.prediction.choose, "can_share", lambda model: True)
        with pytest.raises((AssertionError, RuntimeError)):
            _assert_scores_are_right(model, rtol=1e-5)

    def test_a_short_prompt_with_a_long_choice_beside_it_runs_out_of_positions(self) -> None:
        # Padding after the short choice of the long prompt would stand beyond the last of the 64 positions.
        model, tokenizer = _family("GPT-2"), tiny_tokenizer()
        prompts, choices = ["Z" * 60, "Z"], [["Q", "QQQ"], ["Q", "W" * 40]]
        chosen = choose_answers(model, tokenizer, prompts, choices, delimiter="", show_progress=False)
        for scores, prompt, of_prompt in zip(chosen.scores, prompts, choices, strict=True):
            expected = [reference_score(model, tokenizer, prompt, choice) for choice in of_prompt]
            np.testing.assert_allclose(scores, expected, rtol=1e-5)


class TestAdapters:
    @pytest.mark.parametrize(
        ("config", "shares"),
        [
            (LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear"), True),
            (LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear", use_dora=True), True),
            (LoraConfig(task_type="CAUSAL_LM", r=4, modules_to_save=["embed_tokens", "lm_head"]), True),
            (IA3Config(task_type="CAUSAL_LM"), True),
            (PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3), False),
            (PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3), False),
            # Switched on by a token of the prompt, which a choice alone does not hold.
            (LoraConfig(task_type="CAUSAL_LM", r=4, alora_invocation_tokens=[260]), False),
        ],
        ids=["LoRA", "DoRA", "modules to save", "IA3", "prefix tuning", "prompt tuning", "activated LoRA"],
    )
    # PEFT 0.21 hands the virtual tokens of a prefix to transformers 5.24 by the old name of the cache.
    @pytest.mark.slow
    @pytest.mark.filterwarnings("ignore:`past_key_values` is deprecated:FutureWarning")
    def test_an_adapter_is_lost_between_prompt_and_choice(self, config: PeftConfig, shares: bool) -> None:
        model = get_peft_model(
            tiny_llama(seed=3, tokenizer=tiny_tokenizer(), tie_word_embeddings=False), config
        ).eval()
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for weight in model.parameters():
                if weight.requires_grad:
                    weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.3)
            assert can_share(model) is shares
        _assert_scores_are_right(model, rtol=1e-5)


def _as_this_release_calls_it(forward: Any, name: str) -> Any:
    """Let a forward take `past_key_values` by the name that this release of transformers has for it."""

    def renamed(*arguments: Any, **given: Any) -> Any:
        if name in given:
            given["past_key_values"] = given.pop(name)
        return forward(*arguments, **given)

    parameters = inspect.signature(forward).parameters.values()
    names = {"past_key_values": name}
    renamed.__signature__ = inspect.Signature([p.replace(name=names.get(p.name, p.name)) for p in parameters])
    return renamed


class TestTrial:
    """A model that says it can do what is needed, and does it wrongly, is found out by asking it."""

    @pytest.mark.parametrize("ignored", ["position_ids", "attention_mask", "cache"])
    def test_a_model_that_ignores_what_it_is_given_is_believed(self, ignored, monkeypatch) -> None:
        model = _family("GPT-2")
        original = model.forward
        name = cache_name(model)

        def forward(
            input_ids: Any,
            attention_mask: Any = None,
            position_ids: Any = None,
            past_key_values: Any = None,
            use_cache: Any = None,
        ) -> Any:
            given = {"attention_mask": attention_mask, "position_ids": position_ids, name: past_key_values}
            if past_key_values is not None and ignored == "cache":
                given = {}
            return original(input_ids, use_cache=use_cache, **given | {ignored.replace("cache", name): None})

        monkeypatch.setattr(model, "forward", _as_this_release_calls_it(forward, name))
        with torch.no_grad():
            assert not can_share(model)

    @pytest.mark.slow
    @pytest.mark.parametrize("takes_positions", [True, False])
    def test_a_model_that_gives_all_logits_is_scored_at_the_wrong_place(self, takes_positions, monkeypatch) -> None:
        model = _family("Llama")
        original = model.forward

        def forward(
            input_ids: Any,
            attention_mask: Any = None,
            position_ids: Any = None,
            past_key_values: Any = None,
            use_cache: Any = None,
        ) -> Any:
            return original(input_ids, attention_mask, position_ids, past_key_values, use_cache=use_cache)

        def forward_less(input_ids: Any, attention_mask: Any = None, use_cache: Any = None) -> Any:
            return original(input_ids, attention_mask, use_cache=use_cache)

        forward = _as_this_release_calls_it(forward if takes_positions else forward_less, cache_name(model))
        monkeypatch.setattr(model, "forward", forward)
        with torch.no_grad():
            assert can_share(model) is takes_positions
        _assert_scores_are_right(model, rtol=1e-5)

    @pytest.mark.slow
    @pytest.mark.parametrize("kind", ["none", "subclass", "too few layers", "other layers"])
    def test_a_cache_of_another_kind_is_cut_into_pieces(self, kind, monkeypatch) -> None:
        model = _family("Llama")
        name = cache_name(model)
        original = model.forward

        class Layer(DynamicLayer):
            pass

        class Kept(DynamicCache):
            pass

        def forward(
            input_ids: Any,
            attention_mask: Any = None,
            position_ids: Any = None,
            past_key_values: Any = None,
            use_cache: Any = None,
        ) -> Any:
            output = original(input_ids, attention_mask, position_ids, past_key_values, use_cache=use_cache)
            found = getattr(output, name)
            if found is not None and past_key_values is None:
                if kind == "none":
                    output[name] = None
                elif kind == "subclass":
                    found.__class__ = Kept
                elif kind == "too few layers":
                    del found.layers[1:]
                else:
                    found.layers[1].__class__ = Layer
            return output

        monkeypatch.setattr(model, "forward", _as_this_release_calls_it(forward, name))
        with torch.no_grad():
            assert not can_share(model)
        _assert_scores_are_right(model, rtol=1e-5)

    def test_a_second_batch_of_choices_reads_what_the_first_has_left(self) -> None:
        model, tokenizer = _family("Mistral, window 5"), tiny_tokenizer()
        choices = ["Q W", "W Q K", "Z", "K X Q Z", "X"]
        chosen = choose_answers(model, tokenizer, [PROMPTS[3]], [choices], batch_size=2, show_progress=False)
        expected = [reference_score(model, tokenizer, PROMPTS[3], " " + choice) for choice in choices]
        np.testing.assert_allclose(chosen.scores[0], expected, rtol=1e-5)


@cache
def _exact(name: str) -> Any:
    return _family(name).double()


_TOKENS = st.lists(st.integers(0, 5), min_size=1, max_size=9).map(tuple)


@st.composite
def _stems(draw: st.DrawFn) -> list[Stem]:
    questions = draw(st.lists(st.tuples(_TOKENS, st.lists(_TOKENS, min_size=1, max_size=5, unique=True)), max_size=5))
    questions.append(draw(st.tuples(_TOKENS, st.lists(_TOKENS, min_size=1, max_size=5, unique=True))))
    return [Stem(tuple(Option(context, targets) for targets in choices)) for context, choices in questions]


class TestProperties:
    @pytest.mark.slow
    @settings(max_examples=40, deadline=None)
    @given(stems=_stems(), batch_size=st.integers(1, 9), name=st.sampled_from(["GPT-2", "Mistral, window 5"]))
    def test_apart_and_whole_are_not_the_same(self, stems: list[Stem], batch_size: int, name: str) -> None:
        model = _exact(name)
        with torch.no_grad():
            apart = score(model, stems, batch_size=batch_size, shared=True)
            for stem, scores in zip(stems, apart, strict=True):
                assert scores.keys() == set(stem.options)
                for option, value in scores.items():
                    (whole,) = score(model, whole_stems([option]), batch_size=1, shared=False)
                    assert abs(whole[option] - value) < 1e-10

    @pytest.mark.slow
    @given(stems=_stems())
    def test_a_token_is_read_twice_or_not_at_all(self, stems: list[Stem]) -> None:
        for stem in stems:
            rebuilt = {stem.tokens + branch: options for branch, options in stem.branches.items()}
            for option in stem.options:
                assert option.tokens == stem.tokens or option in rebuilt[option.tokens]
                assert stem.tokens[: len(option.context)] == option.context
            # Nothing more could be shared.
            starts = {option.tokens[len(stem.tokens) : len(stem.tokens) + 1] for option in stem.options}
            assert len(starts) > 1 or starts == {()}


def test_most_models_have_no_limit_and_longrope_by_layer_type_is_found() -> None:
    assert rotary_limit(_family("GPT-2")) == rotary_limit(_family("Llama")) == float("inf")
    model = _family("Phi 3, longrope")
    assert rotary_limit(model) == 20
    model.config.rope_parameters = {"full_attention": LONG_ROPE, "sliding_attention": {"rope_type": "default"}}
    assert rotary_limit(tiny_adapter(model, seed=1)) == 20
