"""Models that are asked and not trained, split over processes where the launcher was told so (FSDP2).

A trainer splits its own models by its accelerator, in the precision that it trains in. Whoever only asks has none, and
asks in the precision that a model was loaded in, so that the answers are those of the whole model.
"""

import os
from types import SimpleNamespace
from typing import Any

import torch
from accelerate.utils import FullyShardedDataParallelPlugin, str_to_bool
from accelerate.utils.deepspeed import HfDeepSpeedConfig
from accelerate.utils.fsdp_utils import fsdp2_prepare_model

from ..errors import ConfigurationError
from ..text import one_line
from .placement import stays_where_it_is
from .processes import place
from .sharding import is_sharded


def is_told_to_split() -> bool:
    """Tell whether a launcher has started several processes that split their models by FSDP2.

    Example:
        >>> is_told_to_split()
        False
    """
    refuse_other_ways()
    return place()[1] > 1 and _is_set("ACCELERATE_USE_FSDP")


def refuse_other_ways() -> None:
    """Refuse a launcher that was told to split models in a way in which they are not asked."""
    if _is_set("ACCELERATE_USE_FSDP") and os.environ.get("FSDP_VERSION", "1") != "2":
        raise ConfigurationError(
            "FSDP of version 1 asks no models here. Set fsdp_version: 2 in the accelerate config (--fsdp_version 2)."
        )
    if _is_set("ACCELERATE_USE_DEEPSPEED") and _is_zero3():
        raise ConfigurationError(
            "DeepSpeed ZeRO-3 asks no models here. FSDP2 splits them in the same way: "
            "accelerate launch --config_file examples/accelerate/fsdp2.yaml."
        )


def split_to_ask(model: Any, device: torch.device | str) -> Any:
    """Bring a model that is asked and not trained where it runs, as a part of it in each process or as a whole.

    All processes come here together. What `device_map` has placed, or a quantization, stays where it is.
    """
    if stays_where_it_is(model) or is_sharded(model):
        return model
    return split_in_parts(model, device) if is_told_to_split() else model.to(device)


def split_in_parts(model: Any, device: torch.device | str) -> Any:
    """Leave of a model, whose weights are on the CPU, this process's part on the device; nothing of it is trained."""
    model.requires_grad_(False)
    how: dict[str, Any] = {"auto_wrap_policy": "TRANSFORMER_BASED_WRAP"}
    plugin = FullyShardedDataParallelPlugin(fsdp_version=2, transformer_cls_names_to_wrap=layers_of(model), **how)
    # What accelerate's function reads of an accelerator. A real one would be the trainings' as well.
    told = SimpleNamespace(
        state=SimpleNamespace(fsdp_plugin=plugin),
        mixed_precision="no",
        is_main_process=place()[0] == 0,
        device=torch.device(device),
    )
    return fully_split(told, model)


def fully_split(accelerator: Any, model: Any) -> Any:
    """Split a model as an accelerator's plugin says, or say what of it does not go together."""
    try:
        return fsdp2_prepare_model(accelerator, model)
    except KeyError as error:
        if not accelerator.state.fsdp_plugin.cpu_ram_efficient_loading:
            raise
        raise ConfigurationError(
            f"accelerate cannot hand out the weights of this model from one process ({one_line(error)}). Set "
            "fsdp_cpu_ram_efficient_loading: false in its config: each process then maps the file of the weights."
        ) from error


def layers_of(model: Any) -> list[str]:
    """Name the kinds of layers to split by, without those that hold the embeddings, which accelerate splits itself."""
    embeddings = model.get_input_embeddings()
    kinds: dict[str, bool] = {}
    for module in model.modules():
        kind = type(module).__name__
        kinds[kind] = kinds.get(kind, False) or any(inner is embeddings for inner in module.modules())
    return [name for name in model._no_split_modules or () if not kinds.get(name, True)]


def _is_zero3() -> bool:
    """Tell the stage of DeepSpeed as accelerate does: a config file decides where there is one."""
    file = os.environ.get("ACCELERATE_DEEPSPEED_CONFIG_FILE", "none")
    if file != "none":
        return bool(HfDeepSpeedConfig(file).is_zero3())
    return os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE") == "3"


def _is_set(name: str) -> bool:
    return bool(str_to_bool(os.environ.get(name, "false")))
