"""Models that are split over processes: which ways are refused, with what to do, and which configs start them."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import PartialState
from accelerate.commands.config.config_args import load_config_from_file
from torch import nn

from muscle_hf import ConfigurationError
from muscle_hf.training.checkpoints.settings_of_run import refuse_another_way
from muscle_hf.training.processes.refusals import refuse_ways_of_splitting

CONFIGS = Path(__file__).parents[3] / "examples" / "accelerate"
KINDS = {"ddp": "MULTI_GPU", "fsdp2": "FSDP", "deepspeed_zero3": "DEEPSPEED"}


def _trainer(model: nn.Module | None = None, *, fsdp: bool = False, version: int = 2, **options: Any) -> Any:
    args = {"deepspeed_plugin": None, "n_gpu": 1, "torch_compile": False, "world_size": 1} | options
    return SimpleNamespace(
        args=SimpleNamespace(**args),
        is_fsdp_enabled=fsdp,
        accelerator=SimpleNamespace(is_fsdp2=fsdp and version == 2),
        model=nn.Linear(2, 2) if model is None else model,
    )


def _zero3(model: nn.Module | None = None, *, torch_compile: bool = False, **options: Any) -> Any:
    plugin = SimpleNamespace(zero_stage=3, deepspeed_config={"zero_optimization": {"stage": 3} | options})
    trainer = _trainer(model, deepspeed_plugin=plugin, torch_compile=torch_compile)
    trainer.accelerator.state = SimpleNamespace(deepspeed_plugin=plugin)
    return trainer


def _quantized() -> nn.Module:
    model = nn.Linear(2, 2)
    model.is_quantized = True  # type: ignore[assignment]
    return model


def _with_shared_memory() -> nn.Module:
    one = nn.Parameter(torch.ones(2, 3))
    return nn.ParameterList([one, nn.Parameter(one.data.T)])


@pytest.mark.parametrize(
    ("trainer", "advice"),
    [
        (_trainer(fsdp=True, version=1), "fsdp_version: 2"),
        (_zero3(torch_compile=True), "Leave torch_compile out"),
        (_zero3(_with_shared_memory()), "modules_to_save"),
        (_zero3(zero_hpz_partition_size=8), "zero_hpz_partition_size in the DeepSpeed config"),
        (_zero3(offload_param={"device": "nvme"}), "nvme.* in the DeepSpeed config"),
        (_zero3(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).bfloat16())), "mixed_precision: bf16"),
        (_zero3(_quantized()), "Train with DDP"),
        (_trainer(fsdp=True, torch_compile=True), "Leave torch_compile out"),
        (_trainer(_with_shared_memory(), fsdp=True), "modules_to_save"),
        (_trainer(n_gpu=2), "torchrun"),
    ],
)
def test_a_way_of_splitting_that_would_train_wrong_is_refused_with_what_to_do(trainer: Any, advice: str) -> None:
    with pytest.raises(ConfigurationError, match=advice):
        refuse_ways_of_splitting(trainer)


def test_one_process_ddp_deepspeed_and_fsdp2_are_not_refused() -> None:
    offloaded = _zero3(offload_param={"device": "none"}, offload_optimizer={"device": "cpu"})
    zero_2 = _trainer(deepspeed_plugin=SimpleNamespace(zero_stage=2))
    for trainer in (_trainer(), zero_2, _trainer(fsdp=True), _zero3(), offloaded):
        refuse_ways_of_splitting(trainer)


@pytest.mark.parametrize(("asked", "is_split"), [("true", False), ("true", True), ("false", False)])
def test_models_that_the_launcher_was_told_to_split_and_did_not_are_whole_in_silence(
    asked: str, is_split: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    PartialState(cpu=True)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", asked)
    refuse_ways_of_splitting(_trainer(fsdp=is_split))
    assert ("each process holds both models whole" in caplog.text) == (asked == "true" and not is_split)


@pytest.mark.parametrize("config", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_accelerate_reads_the_configs_that_are_shown(config: Path) -> None:
    read = load_config_from_file(str(config))
    assert read.distributed_type.value == KINDS[config.stem]
    assert read.num_processes == 2
    assert (read.fsdp_config or {}).get("fsdp_version") == (2 if config.stem == "fsdp2" else None)


@pytest.mark.parametrize(
    ("written", "now", "said"),
    [
        ("pytorch_model_fsdp_0", "", "written with models split by FSDP, and this training has whole models"),
        ("pytorch_model_fsdp.bin", "DeepSpeed", "split by FSDP, and this training has models split by DeepSpeed"),
        ("global_step4", "", "split by DeepSpeed, and this training has whole models"),
        ("optimizer.pt", "FSDP", "whole models, and this training has models split by FSDP"),
        ("pytorch_model_fsdp_0", "FSDP", None),
        ("optimizer.pt", "", None),
    ],
)
def test_a_checkpoint_of_another_way_of_splitting_is_refused_before_it_is_read(
    tmp_path: Path, written: str, now: str, said: str | None
) -> None:
    (tmp_path / written).mkdir()
    trainer: Any = SimpleNamespace(is_fsdp_enabled=now == "FSDP", is_deepspeed_enabled=now == "DeepSpeed")
    with nullcontext() if said is None else pytest.raises(ConfigurationError, match=said):
        refuse_another_way(trainer, tmp_path)


def test_processes_of_a_launcher_that_would_train_apart_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=r"has started 2 processes.*use_cpu=True"):
        refuse_ways_of_splitting(_trainer())
    refuse_ways_of_splitting(_trainer(world_size=2))
