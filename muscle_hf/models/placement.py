"""How a base is loaded: where it goes and in which type, and what of that the old base takes over from the new one."""

from collections.abc import Mapping
from typing import Any

import torch

from ..errors import ConfigurationError
from ..launched import is_one_of_several
from ..text import printable

# What accelerate makes a map of.
_PLACINGS = ("auto", "balanced", "balanced_low_0", "sequential")
_INHERITED = ("dtype", "attn_implementation", "quantization_config", "trust_remote_code")


def as_options(value: dict[str, Any] | str | None) -> dict[str, Any]:
    """Return keyword arguments of a config; what was given as JSON text is a dictionary once the config is built."""
    return dict(value) if isinstance(value, dict) else {}


def options_of_old(own: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the old base is loaded with: its own options, or else what the new one's say of any model."""
    return dict(own) or {name: new[name] for name in _INHERITED if name in new}


def stays_where_it_is(model: Any) -> bool:
    """Tell whether a model is not to be moved or split: a `device_map` has placed it, or it is quantized."""
    return getattr(model, "hf_device_map", None) is not None or getattr(model, "is_quantized", False)


def refuse_places_in_each_process(option: str, device_map: Any) -> None:
    """Refuse to spread a model over devices in each of several processes, since all of them would take the same ones.

    `device_map` is what is asked for, or what came of it; one place for all of a model is none of theirs to refuse.
    """
    places = set(device_map.values()) if isinstance(device_map, dict) else {device_map}
    if is_one_of_several() and (len(places) > 1 or not places.isdisjoint(_PLACINGS)):
        raise ConfigurationError(
            f"{option}: device_map={printable(str(device_map))[:80]} would spread a whole model of each process over "
            "the same devices. Leave it out and let FSDP2 split the models over the processes (accelerate launch "
            "--config_file examples/accelerate/fsdp2.yaml), or start one process."
        )


def check_placing(dtype: str | torch.dtype, device_map: Any) -> None:
    """Refuse a type of weights or a device that is not there, before anything is brought here.

    A `device_map` with a device for each part is left to accelerate.
    """
    kind = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if dtype != "auto" and not (isinstance(kind, torch.dtype) and kind.is_floating_point):
        raise ConfigurationError(
            f"dtype is {printable(str(dtype))[:80]}, which is no type of weights; give auto, float32, bfloat16 or "
            "float16."
        )
    if device_map is None or isinstance(device_map, dict) or device_map in _PLACINGS:
        return
    try:
        device = torch.device(device_map)
        torch.empty(0, device=device)
    # Without CUDA, torch fails with an assertion.
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        why = printable(str(error))[:200]
        raise ConfigurationError(
            f"device_map is {printable(str(device_map))[:80]}, and there is no such device here ({why}); give auto, "
            "cpu, or cuda:0 for the first GPU."
        ) from error
    if device.type == "meta":
        raise ConfigurationError("device_map is meta, where no weights are; give a device that holds them.")
