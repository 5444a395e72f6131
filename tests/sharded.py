"""FSDP2 on CPUs, as a launcher would set it up on GPUs."""

import os
from typing import Any

from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType

FSDP2 = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT",
}
"""What `accelerate launch` puts into the environment of each process."""


def use_fsdp2(**options: str) -> None:
    """Let the trainers of this process use FSDP2, which accelerate turns into DDP where there are CPUs alone."""
    os.environ.update(FSDP2 | options)
    plain = AcceleratorState.__init__

    def with_fsdp(state: AcceleratorState, *arguments: Any, fsdp_plugin: Any = None, **more: Any) -> None:
        plain(state, *arguments, fsdp_plugin=fsdp_plugin, **more)
        if fsdp_plugin is not None and state.distributed_type == DistributedType.MULTI_CPU:
            state.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.FSDP
            if state._mixed_precision != "no":
                fsdp_plugin.set_mixed_precision(state._mixed_precision)
            state.fsdp_plugin = fsdp_plugin

    AcceleratorState.__init__ = with_fsdp  # type: ignore[method-assign]
