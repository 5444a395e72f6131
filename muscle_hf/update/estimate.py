"""What an update would take, from shapes alone: trainable parameters, bytes on the device, on disk."""

import copy
from dataclasses import dataclass

import torch

from ..losses.targets import tokens_of_a_slice
from ..teachers.cache.spec import OF_SOME_TOKENS, CacheSpec
from .models import Base, with_adapter
from .plan import Plan

# Adapters are trained in float32, whatever their base is in: weight, gradient, and two averages of AdamW.
_TRAINED_BYTES = 4 * 4
# Tensors of (tokens, vocabulary) that are alive at the peak of a step, in float32. Measured on a CPU, as the growth of
# the process beyond all else that is counted here: three for cross-entropy, thirteen for the compatibility loss.
_CROSS_ENTROPY_LOGITS, _COMPATIBILITY_LOGITS = 3, 13
# Up to so many of them are taken in full where the loss may choose (`loss_implementation="auto"`).
_SMALL_LOGITS = 2**24
# Numbers of (tokens, hidden size) that a layer keeps for its backward pass, of Korthikanti et al. (arXiv 2205.05198,
# Eq. 1: 34 bytes in half precision), without the scores of attention, which fused kernels do not keep.
_KEPT_PER_LAYER = 17


@dataclass(frozen=True)
class Memory:
    """Bytes on the device at the peak of a training, of which the last two are rough."""

    new_base: int
    old_base: int  # 0 where it is not loaded
    adapter: int  # in training: weights, gradients, AdamW's averages, and the new teacher's copy
    activations: int  # what is kept for the backward pass
    logits: int  # of student and teachers

    @property
    def total(self) -> int:
        """All of it."""
        return self.new_base + self.old_base + self.adapter + self.activations + self.logits


def weight_bytes(base: Base) -> int:
    """Return the bytes of a base's weights in the type that they are loaded in, quantization left aside."""
    return int(base.model.num_parameters()) * base.dtype.itemsize


def trainable_parameters(plan: Plan, rank: int | None = None) -> int:
    """Return the parameters of the task adapter on the new base, padded to a rank where one is given."""
    config = plan.task_adapter
    if rank is not None:
        config = copy.deepcopy(config)
        # Padding gives all layers the new rank.
        config.r, config.rank_pattern = rank, {}
    adapted = with_adapter(plan.new_base, config)
    return sum(parameter.numel() for parameter in adapted.parameters() if parameter.requires_grad)


def memory(plan: Plan, *, compatibility: bool) -> Memory:
    """Estimate the memory of the compatibility training, which has both bases in memory unless their targets are
    cached, or of one with plain cross-entropy.
    """
    config, text = plan.config, plan.new_base.model.config.get_text_config()
    tokens = config.per_device_train_batch_size * _longest(plan)
    kept_bytes = 2 if config.bf16 or config.fp16 else plan.new_base.dtype.itemsize
    per_layer = tokens * text.hidden_size * kept_bytes
    layers = text.num_hidden_layers
    # With checkpointing every layer keeps what goes in, and one at a time is computed again.
    kept = layers + _KEPT_PER_LAYER if config.gradient_checkpointing else layers * _KEPT_PER_LAYER
    is_cached = config.teacher_cache != "none"
    trained = trainable_parameters(plan, config.student_rank if compatibility else None)
    return Memory(
        new_base=weight_bytes(plan.new_base),
        old_base=weight_bytes(plan.old_base) if compatibility and not is_cached else 0,
        adapter=trained * (_TRAINED_BYTES + (4 if compatibility else 0)),
        activations=per_layer * kept,
        logits=_logits(plan, tokens, compatibility=compatibility),
    )


def _logits(plan: Plan, tokens: int, *, compatibility: bool) -> int:
    """Return the bytes of logits that are alive at once."""
    config, vocabulary = plan.config, plan.new_base.model.config.get_text_config().vocab_size
    if compatibility:
        is_small = tokens * vocabulary <= _SMALL_LOGITS and config.teacher_cache == "none"
        whole = config.loss_implementation == "plain" or (config.loss_implementation == "auto" and is_small)
    else:
        whole = config.device.type == "cpu"  # On a GPU TRL's fused head takes its place.
    at_once = tokens if whole else min(tokens, tokens_of_a_slice(vocabulary, config.device))
    copies = _COMPATIBILITY_LOGITS if compatibility else _CROSS_ENTROPY_LOGITS
    return int(copies * at_once * vocabulary * 4)


def cache_bytes(plan: Plan) -> int:
    """Return the bytes that the teacher cache takes on disk; 0 without one."""
    config = plan.config
    if config.teacher_cache == "none":
        return 0
    dtype = torch.bfloat16 if config.bf16 else torch.float16 if config.fp16 else plan.new_base.dtype
    has_k, is_hidden = config.teacher_cache in OF_SOME_TOKENS, config.teacher_cache == "hidden"
    bases = {"old": plan.old_base, "new": plan.new_base}
    spec = CacheSpec(
        config.teacher_cache,
        plan.new_base.model.config.get_text_config().vocab_size,
        dict.fromkeys(bases, dtype),
        {},
        k=config.teacher_cache_k if has_k else None,
        temperature=config.temperature if has_k else None,
        hidden_sizes=(
            {name: base.model.config.get_text_config().hidden_size for name, base in bases.items()}
            if is_hidden
            else None
        ),
    )
    # A chunk takes a token or more, so of chunks this is the most.
    return spec.bytes_per_token * sum(rows.trained_tokens for rows in plan.encoded.values())


def _longest(plan: Plan) -> int:
    """Return the longest sequence of a batch."""
    limit = plan.config.max_length
    longest = max(rows.longest for rows in plan.encoded.values())
    return longest if limit is None else limit if plan.config.packing else min(longest, limit)


def readable(count: float) -> str:
    """Write bytes as people do.

    Example:
        >>> readable(13_476_000_000), readable(512)
        ('13.5 GB', '512 B')
    """
    units = ["TB", "GB", "MB", "kB", "B"]
    while count >= 1000 and len(units) > 1:
        count /= 1000
        units.pop()
    unit = units[-1]
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.3g} {unit}"


def device_memory(device: torch.device) -> int | None:
    """Return the memory of a GPU; None for another device."""
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else None
