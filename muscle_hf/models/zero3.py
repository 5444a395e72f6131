"""Weights that DeepSpeed's ZeRO-3 splits over processes, by what it keeps at each weight.

Of a weight that is split there is `ds_tensor`, the part of this process, flat and padded to one length; `ds_shape` is
the shape of the whole. `all_gather` puts the whole into `data`, and `partition` lets go of it. Layers do both by
themselves, in hooks, where a model is called; DeepSpeed itself is not imported here.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers.integrations import deepspeed as of_transformers

from ..errors import ConfigurationError


def is_partitioned(weight: Tensor) -> bool:
    """Tell whether a weight is one that ZeRO-3 splits over processes, whole at the moment or not."""
    return hasattr(weight, "ds_tensor")


def partitioned(modules: Iterable[nn.Module]) -> list[Any]:
    """Return the split weights of some modules, each once."""
    weights = dict.fromkeys(weight for module in modules for weight in module.parameters())
    return [weight for weight in weights if is_partitioned(weight)]


@torch.no_grad()
def let_go(model: nn.Module, weights: Iterable[Any] | None = None) -> None:
    """Let go of what is whole of a model's weights, or of some; layers gather them anew when they are called."""
    weights = partitioned([model]) if weights is None else list(weights)
    _wait_for(model, weights)
    for weight in weights:
        weight.ds_active_sub_modules.clear()  # also after a pass that did not come to its end
        weight.partition()


@contextmanager
def gathered(model: nn.Module, weights: list[Any]) -> Iterator[None]:
    """Make some weights of a model whole for a while; all processes come here together, with the same ones."""
    _wait_for(model, weights)
    lacking = [weight for weight in weights if weight.ds_status.name == "NOT_AVAILABLE"]
    if lacking:
        lacking[0].all_gather(lacking)
    try:
        yield
    finally:
        let_go(model, lacking)


def _wait_for(model: nn.Module, weights: list[Any]) -> None:
    """Wait for those weights that are on their way already, fetched ahead for a layer that did not come."""
    for module in model.modules() if weights else ():
        under_way = getattr(module, "ds_inflight_param_registry", {})
        for weight in weights:
            if weight in under_way:
                under_way.pop(weight).wait()


def refuse_split(model: Any, name: str) -> None:
    """Refuse a loaded model that is split already; a name or path is no such."""
    if isinstance(model, nn.Module) and any(map(is_partitioned, model.parameters())):
        raise ConfigurationError(
            f"The weights of {name} are split over processes already: transformers does so for ZeRO-3 with whatever "
            "is loaded once the options of the training are made. Give its id or path, or load it before them, or set "
            "zero3_init_flag: false in the accelerate config."
        )


@contextmanager
def loading_whole() -> Iterator[None]:
    """Let transformers load models as a whole, also where it was told of ZeRO-3 and would split them at once.

    They are checked, widened and fingerprinted first, and split when the trainer is ready for them.
    """
    told = of_transformers._hf_deepspeed_config_weak_ref
    of_transformers.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        of_transformers._hf_deepspeed_config_weak_ref = told
