"""Models that are asked, split over processes: what the launcher has to be told, and what is refused."""

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from muscle_hf import ConfigurationError
from muscle_hf.models import splitting
from muscle_hf.models.placement import refuse_places_in_each_process

FSDP2 = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
ZERO = {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"}


@pytest.mark.parametrize(
    ("told", "advice"),
    [
        (FSDP2 | {"FSDP_VERSION": "1"}, "fsdp_version: 2"),
        (ZERO | {"ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"}, "ZeRO-3.*fsdp2.yaml"),
        (ZERO | {"ACCELERATE_DEEPSPEED_CONFIG_FILE": '{"zero_optimization": {"stage": 3}}'}, "ZeRO-3.*fsdp2.yaml"),
    ],
)
def test_other_ways_of_splitting_are_refused_and_not_taken_for_whole_models(
    monkeypatch: pytest.MonkeyPatch, told: dict[str, str], advice: str
) -> None:
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=advice):
        splitting.is_told_to_split()


@pytest.mark.parametrize(
    ("processes", "told", "splits"),
    [
        (1, FSDP2, False),
        (2, {}, False),
        (2, ZERO, False),
        (2, ZERO | {"ACCELERATE_DEEPSPEED_CONFIG_FILE": '{"zero_optimization": {"stage": 2}}'}, False),
        (2, FSDP2, True),
    ],
)
def test_models_are_split_where_several_processes_were_told_so(
    monkeypatch: pytest.MonkeyPatch, processes: int, told: dict[str, str], *, splits: bool
) -> None:
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(splitting, "place", lambda: (0, processes))
    assert splitting.is_told_to_split() is splits


def test_weights_that_accelerate_cannot_hand_out_are_told_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise KeyError("attribute 'weight' already exists")

    monkeypatch.setattr(splitting, "fsdp2_prepare_model", fail)
    for is_handed_out, error in ((True, ConfigurationError), (False, KeyError)):
        plugin = SimpleNamespace(cpu_ram_efficient_loading=is_handed_out)
        with pytest.raises(error, match="efficient_loading: false" if is_handed_out else "already"):
            splitting.fully_split(SimpleNamespace(state=SimpleNamespace(fsdp_plugin=plugin)), None)


@pytest.mark.parametrize(
    ("device_map", "processes", "refused"),
    [
        ("auto", 2, True),
        ({"model": "cuda:0", "lm_head": "cuda:1"}, 2, True),
        ("auto", 1, False),
        ({"": "cpu"}, 2, False),
        ({}, 2, False),
        ("cpu", 2, False),
        (None, 2, False),
    ],
)
def test_a_model_spread_over_the_same_devices_by_each_process_is_refused(
    monkeypatch: pytest.MonkeyPatch, device_map: Any, processes: int, *, refused: bool
) -> None:
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": str(processes)}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=r"fsdp2\.yaml") if refused else nullcontext():
        refuse_places_in_each_process("old_model_init_kwargs", device_map)
