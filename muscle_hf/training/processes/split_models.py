"""Student and old model split over processes before anything is asked of them, as the launcher was told to.

accelerate would split the student at its first step, and the old model not at all. But both are asked before: when
they are checked, for a cache, and for answers. So both are split as soon as the trainer knows how.
"""

import copy
from typing import Any

from torch import Tensor
from torch.distributed.fsdp.wrap import transformer_auto_wrap_policy

from ...models.adapters import base_model
from ...models.placement import refuse_places_in_each_process
from ...models.sharding import gathered_state, is_sharded, split_again
from ...models.splitting import layers_of
from ..hooks import prepared_teacher, split_by_fsdp2, take_as_prepared, take_as_split
from .deepspeed_engines import asking_engine, cast_weights, dtype_of_training, end_asking, forget_engines, is_zero3


def is_fsdp2(accelerator: Any) -> bool:
    """Tell whether the launcher was told to train with FSDP2."""
    return bool(accelerator.is_fsdp2)


def split_student(trainer: Any) -> None:
    """Split the student over the processes, where these were started for it; the trainer takes it as it is."""
    accelerator = trainer.accelerator
    if is_fsdp2(accelerator):
        trainer.model = trainer.model_wrapped = _split(accelerator, trainer.model)
        take_as_split(accelerator, trainer.model)
    elif is_zero3(accelerator):
        trainer.deepspeed = asking_engine(accelerator, trainer.model)
        take_as_prepared(accelerator, trainer.model)
    elif trainer.is_deepspeed_enabled:
        # Its engine would do this when the training starts, and the student is asked before.
        cast_weights(trainer.model.to(trainer.args.device), dtype_of_training(accelerator))
        trainer.deepspeed = trainer.model
        take_as_prepared(accelerator, trainer.model)


def split_teacher(accelerator: Any, model: Any) -> Any:
    """Prepare the old model: split like the student, unless it is already, or was placed by a `device_map`."""
    if is_sharded(model):
        return model
    refuse_places_in_each_process("old_model", getattr(model, "hf_device_map", None) or {})
    if not is_fsdp2(accelerator) and not is_zero3(accelerator):
        return prepared_teacher(accelerator, model)
    if getattr(model, "hf_device_map", None) is not None:
        return model
    if is_fsdp2(accelerator):
        state = accelerator.state
        plugin, state.fsdp_plugin = state.fsdp_plugin, _plugin_for(state.fsdp_plugin, model)
        try:
            return _split(accelerator, model)
        finally:
            state.fsdp_plugin = plugin
    return asking_engine(accelerator, model).module


def _plugin_for(plugin: Any, model: Any) -> Any:
    """Return the same options for another model, whose layers may have another name."""
    own = copy.copy(plugin)
    if getattr(plugin.auto_wrap_policy, "func", None) is transformer_auto_wrap_policy:
        own.auto_wrap_policy = transformer_auto_wrap_policy
        known = {type(module).__name__ for module in model.modules()}
        if not known.issuperset(plugin.transformer_cls_names_to_wrap):
            own.transformer_cls_names_to_wrap = None
    return own


def _split(accelerator: Any, model: Any) -> Any:
    plugin = accelerator.state.fsdp_plugin
    if plugin.auto_wrap_policy is transformer_auto_wrap_policy and plugin.transformer_cls_names_to_wrap is None:
        plugin.transformer_cls_names_to_wrap = layers_of(model)
    return split_by_fsdp2(accelerator, model)


def make_ready_to_train(trainer: Any) -> None:
    """Let a model that was evaluated before be trained by all processes as one."""
    model, accelerator = trainer.model, trainer.accelerator
    if is_zero3(accelerator):
        if accelerator.deepspeed_engine_wrapped is None:  # which accelerate ends itself
            end_asking(trainer.deepspeed)
        forget_engines(model)
        trainer.model_wrapped = model
    elif is_sharded(model):
        split_again(model)  # an optimizer made of weights that are whole would train what is thrown away
    elif accelerator.num_processes > 1:
        # Otherwise accelerate would not wrap it in DDP, and each process would train a model of its own.
        model._is_accelerate_prepared = False


def state_to_save(model: Any, *, keep: bool) -> dict[str, Tensor]:
    """Gather what is saved of a split model, with all processes; those that do not `keep` it get nothing.

    transformers would save nothing with FSDP's sharded checkpoints, and gather the whole base with its full ones.
    """
    base = base_model(model)
    ends = [module for module in (base.get_input_embeddings(), base.get_output_embeddings()) if module is not None]
    # PEFT saves the rows of embeddings whose number has changed, frozen ones too.
    prefixes = tuple(f"{name}." for name, module in model.named_modules() if any(module is end for end in ends))

    def is_saved(name: str, value: Tensor) -> bool:
        return base is model or value.requires_grad or name.startswith(prefixes)

    return gathered_state(model, is_saved, keep=keep)
