"""A wider LoRA adapter that computes what the narrow one does: room to learn, and an unchanged start.

The student starts as a copy of the task adapter. MUSCLE (arXiv 2407.09435, Table 8) trains it with rank 128, which is
more than most task adapters have. LoRA adds s B A x to a layer, with A of shape (rank, in), B of shape (out, rank) and
s a number. New rows in A and zeros as the new columns of B leave B A as it is, and s is kept by another `lora_alpha`.
"""

import copy
import math
import re
from collections.abc import Callable
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import MultiheadAttention, ParamWrapper
from peft.tuners.lora.variants import DoraConv1dVariant, DoraConv2dVariant, DoraConv3dVariant, DoraLinearVariant
from torch import Tensor, nn

from ..errors import ConfigurationError, UnsupportedAdapterError

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_DORA = (DoraLinearVariant, DoraConv1dVariant, DoraConv2dVariant, DoraConv3dVariant)  # embeddings' are linear ones
# When such an adapter is loaded, PEFT takes away from the base what the initialization of this very rank would add.
_CHANGES_THE_BASE = ("pissa", "olora", "corda", "loftq")


def pad_rank(model: PeftModel, rank: int, *, seed: int = 0) -> PeftModel:
    """Give every LoRA pair of a model's adapter a larger rank, and leave what the model computes as it is.

    The new rows of A are drawn as PEFT draws them for a new adapter, and the new columns of B are zero (of the
    embeddings it is A that is zero), so that the first step reaches the zeros and the second one both. `lora_alpha`
    changes along, so that the scale of the update stays: alpha / rank, or alpha / sqrt(rank) for rsLoRA. Everything
    else stays: DoRA's magnitudes, biases, `modules_to_save`, trained tokens, and the base, quantized or not. Call it
    before the optimizer is made, since the weights are new tensors.

    The model has one active LoRA adapter and is changed in place. The rank is above the present one (with several, at
    least the largest): layers that `rank_pattern` gave ranks of their own all get it, and their scale is kept in
    `alpha_pattern`. torch's own random state is left alone. Refused are ranks that do not fit the layers (groups of a
    convolution, orthogonal initialization), several active adapters, LoRA variants other than DoRA, an initialization
    that changed the base (PiSSA, OLoRA, CorDA, LoftQ), and layers split over processes.
    """
    if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
        raise ConfigurationError(f"The rank of the student is {rank!r}; it must be a whole number of 1 or more.")
    adapter, config = _lora_adapter(model)
    layers = {
        name: layer
        for name, layer in model.base_model.model.named_modules()
        if isinstance(layer, LoraLayer) and (adapter in layer.lora_A or adapter in layer.lora_embedding_A)
    }
    _check(layers, adapter, config, rank)
    generator = torch.Generator().manual_seed(seed)
    growing = [layer for layer in layers.values() if layer.r[adapter] < rank]  # some may have that rank already
    embeddings = [layer for layer in growing if adapter in layer.lora_embedding_A]
    # The embeddings come first: a tied head takes over what is drawn for them.
    before = [(layer, *_embedding_pair(layer, adapter)) for layer in embeddings]
    for layer in embeddings:
        _pad_embedding(layer, adapter, rank, generator)
    for layer in growing:
        if adapter in layer.lora_A:
            _pad_pair(layer, adapter, rank, generator)
            for embedding, first, second in before:
                _tie(layer, embedding, first, second, adapter)
    model.peft_config[adapter] = _padded_config(config, layers, adapter, rank)
    for layer in layers.values():
        layer.lora_alpha[adapter] = scaled_alpha(
            layer.lora_alpha[adapter], layer.r[adapter], rank, layer.use_rslora[adapter]
        )
        # `scaling` is what the forward pass multiplies by, and stays.
        layer.r[adapter] = rank
    return model


def scaled_alpha(alpha: float, old_rank: int, rank: int, use_rslora: bool) -> float:
    """Return the `lora_alpha` that scales an adapter of one rank as another did with another rank."""
    size: Callable[[float], float] = math.sqrt if use_rslora else float
    scale = alpha / size(old_rank)
    guess = scale * size(rank)
    candidates = (round(guess), guess, math.nextafter(guess, math.inf), math.nextafter(guess, -math.inf))
    return min(candidates, key=lambda candidate: abs(candidate / size(rank) - scale))


def _lora_adapter(model: PeftModel) -> tuple[str, LoraConfig]:
    if not isinstance(model, PeftModel):
        raise UnsupportedAdapterError(
            f"A {type(model).__name__} has no adapter whose rank could grow; load it with PeftModel.from_pretrained."
        )
    active = list(model.active_adapters)
    if len(active) != 1:
        raise ConfigurationError(
            f"The adapters {active} are active, and which one shall grow is not clear. Activate one with set_adapter."
        )
    config = model.peft_config[active[0]]
    # AdaLoRA's config is a LoRA config too, and its ranks are not fixed.
    if type(config) is not LoraConfig:
        raise UnsupportedAdapterError(
            f"The adapter is of type {config.peft_type.value}, and only the rank of a LoRA adapter can grow. Leave "
            "the rank as it is, or train a LoRA task adapter."
        )
    return active[0], config


def _check(layers: dict[str, Any], adapter: str, config: LoraConfig, rank: int) -> None:
    if not layers:
        raise UnsupportedAdapterError(
            "The adapter has no LoRA pair, only whole modules (modules_to_save) or tokens, which have no rank. Leave "
            "the rank as it is."
        )
    how = config.init_lora_weights
    if isinstance(how, str) and how.lower().startswith(_CHANGES_THE_BASE):
        raise UnsupportedAdapterError(
            f"The adapter was made with init_lora_weights={how!r}, which changes the base according to the rank: "
            "saved with another rank, it would be loaded onto another base. Turn it into a plain LoRA adapter first: "
            "save_pretrained with path_initial_model_for_weight_conversion, or for LoftQ init_lora_weights=True in "
            "its adapter_config.json beside the quantized base."
        )
    if how == "orthogonal" and rank % 2:
        raise ConfigurationError(
            f'The adapter was made with init_lora_weights="orthogonal", which PEFT loads with an even rank only; got '
            f"{rank}. Take {rank + 1}."
        )
    for name, layer in layers.items():
        variant = layer.lora_variant.get(adapter)
        if variant is not None and not isinstance(variant, _DORA):
            raise UnsupportedAdapterError(
                f"{name} uses the LoRA variant {type(variant).__name__}, whose function may depend on its rank. Plain "
                "LoRA, rsLoRA and DoRA are supported; leave the rank as it is."
            )
        if isinstance(layer, MultiheadAttention) or not _is_whole(layer, adapter):
            raise UnsupportedAdapterError(
                f"{name} is a {type(layer).__module__}.{type(layer).__name__} whose LoRA weights are not two whole "
                "matrices (such as one split over processes). Leave the rank as it is, or load the model unsplit."
            )
        groups = getattr(layer.lora_B[adapter], "groups", 1) if adapter in layer.lora_B else 1
        if rank % groups:
            raise ConfigurationError(
                f"The rank {rank} is not divisible by the {groups} groups of the convolution {name}; take "
                f"{math.ceil(rank / groups) * groups}."
            )
    ranks = sorted({layer.r[adapter] for layer in layers.values()})
    if rank < ranks[-1] or ranks == [rank]:
        present = str(ranks[0]) if len(ranks) == 1 else f"{ranks[0]} to {ranks[-1]}"
        raise ConfigurationError(
            f"The adapter has rank {present}, and padding cannot take it to {rank}. Give a rank above {ranks[-1]}, or "
            "none to keep the adapter as it is."
        )


def _is_whole(layer: Any, adapter: str) -> bool:
    """Tell whether the weights are plain tensors in plain layers: others may be shards of a matrix."""
    if adapter in layer.lora_embedding_A:
        weights = [layer.lora_embedding_A[adapter], layer.lora_embedding_B[adapter]]
        kinds = getattr(layer, "tp_layer", None) is None
    else:
        pair = [layer.lora_A[adapter], layer.lora_B[adapter]]
        weights = [part.weight for part in pair]
        kinds = all(type(part) in (nn.Linear, *_CONVOLUTIONS) for part in pair)
    return kinds and all(type(weight.data) is Tensor and weight.device.type != "meta" for weight in weights)


def _embedding_pair(layer: Any, adapter: str) -> tuple[Tensor, Tensor]:
    return layer.lora_embedding_A[adapter].data, layer.lora_embedding_B[adapter].data


def _pad_embedding(layer: Any, adapter: str, rank: int, generator: torch.Generator) -> None:
    first, second = layer.lora_embedding_A[adapter], layer.lora_embedding_B[adapter]
    more = rank - layer.r[adapter]
    # PEFT's start for embeddings: A, which is looked up, is zero, and B is normal.
    columns = torch.randn((second.shape[0], more), generator=generator).to(second)
    layer.lora_embedding_A[adapter] = _like(first, torch.cat([first.data, first.new_zeros(more, first.shape[1])]))
    layer.lora_embedding_B[adapter] = _like(second, torch.cat([second.data, columns], 1))


def _pad_pair(layer: Any, adapter: str, rank: int, generator: torch.Generator) -> None:
    first, second = layer.lora_A[adapter], layer.lora_B[adapter]
    a, b = first.weight.data, second.weight.data
    more = rank - layer.r[adapter]
    # How often A repeats the rank (once for each expert), and into how many blocks of rows B divides it.
    experts = layer.num_experts if isinstance(layer, ParamWrapper) else 1
    blocks = getattr(second, "groups", 1) * experts
    rows = torch.empty((more * experts, *a.shape[1:]))
    nn.init.kaiming_uniform_(rows, a=math.sqrt(5), generator=generator)
    rows = rows.to(a)
    a = torch.cat([part.reshape(blocks, -1, *a.shape[1:]) for part in (a, rows)], 1).flatten(0, 1)
    if experts > 1:  # of the columns of B, those of one place in the rank stand together, one for each expert
        b = b.reshape(len(b), -1, experts)
        b = torch.cat([b, b.new_zeros(len(b), more, experts)], 1).flatten(1)
    else:
        b = torch.cat([b, b.new_zeros(len(b), more // blocks, *b.shape[2:])], 1)
    first.weight, second.weight = _like(first.weight, a), _like(second.weight, b)
    if isinstance(first, nn.Linear):
        first.out_features, second.in_features = len(a), b.shape[1]
    else:
        first.out_channels, second.in_channels = len(a), len(a)


def _tie(layer: Any, embedding: Any, first: Tensor, second: Tensor, adapter: str) -> None:
    """Make a padded head the mirror of the padded embeddings where it was their mirror before."""
    a, b = layer.lora_A[adapter].weight, layer.lora_B[adapter].weight
    rank = len(first)
    mirrored = a.shape[1:] == second.shape[:1] and b.shape[:1] == first.shape[1:] and a.device == second.device
    if not mirrored or layer.r[adapter] != rank:
        return
    if torch.equal(a[:rank], second.T) and torch.equal(b[:, :rank], first.T):
        new_first, new_second = _embedding_pair(embedding, adapter)
        # Views, as PEFT makes them: a step on one of the two moves the other.
        layer.lora_A[adapter].weight = _like(a, new_second.T)
        layer.lora_B[adapter].weight = _like(b, new_first.T)


def _like(old: Tensor, data: Tensor) -> nn.Parameter:
    return nn.Parameter(data, requires_grad=old.requires_grad)


def _padded_config(config: LoraConfig, layers: dict[str, Any], adapter: str, rank: int) -> LoraConfig:
    def grown(alpha: float, old_rank: int) -> float:
        return scaled_alpha(alpha, old_rank, rank, config.use_rslora)

    padded = copy.copy(config)
    padded.r, padded.lora_alpha, padded.rank_pattern = rank, grown(config.lora_alpha, config.r), {}
    padded.alpha_pattern = {key: grown(alpha, config.r) for key, alpha in (config.alpha_pattern or {}).items()}
    if config.rank_pattern:
        # One pattern tells the rank of a layer and another one its alpha, so only layer by layer is the scale known.
        padded.alpha_pattern = {}
        for name, layer in layers.items():
            alpha = grown(layer.lora_alpha[adapter], layer.r[adapter])
            key = _key(name, layer)
            if alpha != padded.lora_alpha:
                padded.alpha_pattern[f"^{re.escape(key)}"] = alpha
    return padded


def _key(name: str, layer: Any) -> str:
    """Name a layer as PEFT's patterns see it."""
    if isinstance(layer, ParamWrapper):
        return f"{name.replace('.base_layer', '')}.{layer.parameter_name}"
    return name
