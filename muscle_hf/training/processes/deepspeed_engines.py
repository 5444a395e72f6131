"""DeepSpeed: models that ZeRO-3 splits over processes are asked before and beside the engine that trains.

accelerate would split the student when its training starts, and only it. DeepSpeed is imported where it is used.
"""

from typing import Any

import torch
from torch import nn

from ...models.sharding import split_again

# What DeepSpeed leaves at each module for good, though it belongs to one engine.
_OF_ONE_ENGINE = ("pre_bwd_fn", "post_bwd_fn")


def is_zero3(accelerator: Any) -> bool:
    """Tell whether the launcher was told to train with ZeRO-3."""
    plugin = getattr(accelerator.state, "deepspeed_plugin", None)
    return plugin is not None and plugin.zero_stage == 3


def dtype_of_training(accelerator: Any) -> torch.dtype | None:
    """Return the type that DeepSpeed turns all weights into; None where it leaves them as they are."""
    options = accelerator.state.deepspeed_plugin.deepspeed_config
    kinds = {"bf16": torch.bfloat16, "fp16": torch.float16}
    return next((kinds[name] for name in kinds if options.get(name, {}).get("enabled") is True), None)


def cast_weights(model: nn.Module, dtype: torch.dtype | None) -> None:
    """Turn the weights of a model into one type, as DeepSpeed does; buffers stay as they are."""
    for weight in model.parameters():
        if weight.is_floating_point() and dtype is not None:
            weight.data = weight.data.to(dtype)


def asking_engine(accelerator: Any, model: nn.Module) -> Any:
    """Split a model over the processes in place, and return the engine that gathers its layers when it is asked."""
    import deepspeed

    dtype = dtype_of_training(accelerator) or next(iter(types_of(model)))
    cast_weights(model, dtype)
    config = _config(accelerator.state.deepspeed_plugin, model)
    # One weight after the other: `initialize` would put the whole model on each device first.
    deepspeed.zero.Init(module=model, config_dict_or_path=config, dtype=dtype)
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.to(accelerator.device))
    engine, *_ = deepspeed.initialize(model=model, config=config)
    return engine


def types_of(model: nn.Module) -> list[torch.dtype]:
    """Return the types that a model's weights have, those that come first first."""
    return list(dict.fromkeys(weight.dtype for weight in model.parameters() if weight.is_floating_point()))


def end_asking(engine: Any) -> None:
    """Take away from a model what one engine has put there, so that another one can take its place; it stays split."""
    model = engine.module
    split_again(model)
    engine.destroy()
    for hook in (engine.module_forward_pre_hook, engine.module_forward_post_hook):
        hook.remove()
    forget_engines(model)


def forget_engines(model: nn.Module) -> None:
    """Let the next engine put its own functions where one before has left some at each module."""
    for module in model.modules():
        for name in _OF_ONE_ENGINE:
            vars(module).pop(name, None)


def _config(plugin: Any, model: Any) -> dict[str, Any]:
    """Return the options of a training for a model that is only asked."""
    options = plugin.deepspeed_config
    size = model.config.get_text_config().hidden_size
    # As accelerate does for the model that is trained.
    by_size = {"stage3_prefetch_bucket_size": int(0.9 * size * size), "stage3_param_persistence_threshold": 10 * size}
    zero = {
        name: by_size.get(name) if value == "auto" else value
        for name, value in options["zero_optimization"].items()
        if name != "offload_optimizer"
    }
    kept = {name: options[name] for name in ("bf16", "fp16") if name in options}
    return kept | {
        "train_micro_batch_size_per_gpu": 1,
        "steps_per_print": options["steps_per_print"],
        "zero_optimization": {name: value for name, value in zero.items() if value is not None},
    }
