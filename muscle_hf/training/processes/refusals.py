"""Ways of splitting models over processes, and of compiling them, that trainers refuse."""

import os
from typing import Any

import torch
from accelerate.logging import get_logger

from ...errors import ConfigurationError
from ...launched import is_one_of_several, place_of_launcher
from ...models.adapters import base_model
from .deepspeed_engines import dtype_of_training, types_of

logger = get_logger(__name__)


def refuse_ways_of_splitting(trainer: Any) -> None:
    """Refuse ways of splitting a model over processes in which the new model cannot take the student's place."""
    args = trainer.args
    if is_one_of_several() and args.world_size == 1:
        raise ConfigurationError(
            f"A launcher has started {place_of_launcher()[1]} processes, and each would train by itself, into one "
            "folder: without a GPU for each, processes find each other with use_cpu=True alone. Set it, or start one."
        )
    if os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true" and not trainer.is_fsdp_enabled:
        logger.warning(
            "accelerate was told to train with FSDP and does not, as on CPUs: each process holds both models whole."
        )
    if trainer.is_fsdp_enabled and not trainer.accelerator.is_fsdp2:
        raise ConfigurationError(
            "FSDP of version 1 keeps a layer's weights as one flat tensor, and those of the new model cannot take the "
            "student's place in it. Set fsdp_version: 2 in the accelerate config (--fsdp_version 2)."
        )
    zero3 = args.deepspeed_plugin is not None and args.deepspeed_plugin.zero_stage == 3
    if zero3:
        _refuse_ways_of_zero3(trainer)
    way = "ZeRO-3" if zero3 else "FSDP2" if trainer.accelerator.is_fsdp2 else None
    if way is not None and args.torch_compile:
        raise ConfigurationError(f"torch_compile and {way} do not go together here. Leave torch_compile out.")
    if way is not None and _share_memory(trainer.model):
        raise ConfigurationError(
            "The adapter's low-rank weights of the LM head are those of the embeddings, in one memory, and splitting "
            "over processes would part them. Train with DDP, or an adapter that has the embeddings as a copy "
            '(modules_to_save=["embed_tokens"], ensure_weight_tying=True) or some tokens (trainable_token_indices).'
        )
    if args.n_gpu > 1:
        raise ConfigurationError(
            f"One process with {args.n_gpu} GPUs (DataParallel) is not supported. Start one process for each GPU "
            "(torchrun, accelerate launch), or show it one GPU (CUDA_VISIBLE_DEVICES)."
        )


# Options of ZeRO-3 under which a process's part of a weight is not what others gather of it, or not in memory.
_OTHER_PARTS = {
    "zero_hpz_partition_size": 1,
    "mics_shard_size": -1,
    "zero_quantized_weights": False,
    "zero_quantized_nontrainable_weights": False,
}


def _refuse_ways_of_zero3(trainer: Any) -> None:
    """Refuse what weights of ZeRO-3 cannot be exchanged with, and what it does not split."""
    options = trainer.args.deepspeed_plugin.deepspeed_config["zero_optimization"]
    others = [name for name, usual in _OTHER_PARTS.items() if options.get(name, usual) not in (usual, None, 0)]
    if (options.get("offload_param") or {}).get("device") == "nvme":
        others.append('offload_param (device "nvme")')
    if others:
        raise ConfigurationError(
            f"With {', '.join(others)} in the DeepSpeed config, the new model's weights cannot take the student's "
            "place. Leave it out there."
        )
    types = types_of(trainer.model)
    if len(types) > 1 and dtype_of_training(trainer.accelerator) is None:
        raise ConfigurationError(
            f"The new model has weights of {' and '.join(map(str, types))}, and ZeRO-3 needs one type. Train in "
            "bfloat16 (mixed_precision: bf16 in the accelerate config), or load it in float32."
        )
    if getattr(base_model(trainer.model), "is_quantized", False):
        raise ConfigurationError(
            "A quantized model and ZeRO-3 do not go together here. Train with DDP, or load the model as it is."
        )


def _share_memory(model: torch.nn.Module) -> bool:
    """Tell whether two trained weights lie in one place."""
    places = [
        weight.untyped_storage().data_ptr()
        for weight in model.parameters()
        if weight.requires_grad and weight.device.type != "meta"
    ]
    return len(set(places)) < len(places)


def refuse_whole_models_compiled(trainer: Any) -> None:
    """Refuse to let accelerate compile whole models, which hides what the loss and the new model need of them."""
    backend = str(trainer.accelerator.state.dynamo_plugin.backend.value).lower()
    if backend != "no":
        raise ConfigurationError(
            f"accelerate would compile whole models (dynamo_backend {backend!r}, of its config or of a trainer that "
            "this process had before). Take it out there, and set torch_compile=True here: layers are compiled one by "
            "one."
        )


def refuse_tensor_parallelism(size: int) -> None:
    """Refuse to measure flips with a model whose tensors are split over processes."""
    if size > 1:
        raise ConfigurationError(
            "Flips are measured by every process on rows of its own, which a model split over processes (tensor "
            "parallelism) cannot do. Train with DDP, or without flips_dataset."
        )
