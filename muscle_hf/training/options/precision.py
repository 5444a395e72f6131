"""Which precision a training takes, by the device that it runs on."""

from transformers.utils import is_torch_bf16_gpu_available, is_torch_xla_available

from ...errors import ConfigurationError


def bf16_of_device(bf16: bool | None, *, fp16: bool, use_cpu: bool) -> bool:
    """Choose bfloat16 where the device computes in it and nothing else was asked for; what was asked for stays.

    bfloat16 that was asked for, and no GPU that computes in it, is a ConfigurationError.
    """
    has_bf16 = is_torch_bf16_gpu_available() or is_torch_xla_available()
    if bf16 is None:
        return not fp16 and not use_cpu and bool(has_bf16)
    if bf16 and not use_cpu and not has_bf16:
        raise ConfigurationError(
            "bf16=True, and this machine has no GPU that computes in bfloat16. Leave bf16 out, which chooses by the "
            "device, or set use_cpu=True to have it on the CPU."
        )
    return bf16
