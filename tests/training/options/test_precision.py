"""bfloat16 by the device: where nothing was said, a config works on any machine."""

import pytest

import muscle_hf.training.options.precision
from muscle_hf import CompatibilityClassifierConfig, CompatibilityConfig, ConfigurationError
from muscle_hf.training.options.precision import bf16_of_device


@pytest.mark.parametrize(
    ("has_bf16", "bf16", "fp16", "use_cpu", "expected"),
    [
        (True, None, False, False, True),
        (True, None, True, False, False),
        (True, None, False, True, False),
        (False, None, False, False, False),
        (False, None, False, True, False),
        (True, True, False, False, True),
        (False, True, False, True, True),
        (True, False, False, False, False),
    ],
)
def test_a_device_gets_a_precision_that_it_has_not_or_that_was_not_asked_for(
    monkeypatch: pytest.MonkeyPatch, has_bf16: bool, bf16: bool | None, fp16: bool, use_cpu: bool, expected: bool
) -> None:
    monkeypatch.setattr(muscle_hf.training.options.precision, "is_torch_bf16_gpu_available", lambda: has_bf16)
    assert bf16_of_device(bf16, fp16=fp16, use_cpu=use_cpu) is expected


@pytest.mark.parametrize("config", [CompatibilityConfig, CompatibilityClassifierConfig])
def test_a_config_without_arguments_is_an_error_on_a_cpu(monkeypatch: pytest.MonkeyPatch, config: type) -> None:
    monkeypatch.setattr(muscle_hf.training.options.precision, "is_torch_bf16_gpu_available", lambda: False)
    assert config(report_to="none").bf16 is False
    with pytest.raises(ConfigurationError, match="Leave bf16 out, which chooses by the device"):
        config(report_to="none", bf16=True)
