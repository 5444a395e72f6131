"""Compiled layers train what layers as they are written train, from a bounded number of graphs; no compiler is needed.

The backend "eager" runs what was traced, so that the figures are the same to the bit.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from datasets import Dataset
from tiny_models import tiny_llama, tiny_tokenizer
from tiny_updates import ROWS, Update, config_of, largest_difference, make_update, trainer_of, weights_of
from torch._dynamo.utils import counters

from muscle_hf import ConfigurationError
from muscle_hf.models.compiled import compile_layers

# Every row is of another length, and the last batch has one row.
LENGTHS = [row | {"prompt": row["prompt"] + "x " * number} for number, row in enumerate(ROWS)]
COMPILED = {"torch_compile": True, "torch_compile_backend": "eager"}


@pytest.fixture(scope="module")
def update(tmp_path_factory: pytest.TempPathFactory) -> Update:
    return make_update(tmp_path_factory.mktemp("update"))


def trained(update: Update, folder: Path, **options: Any) -> tuple[dict[str, torch.Tensor], list[float]]:
    trainer = trainer_of(update, folder, rows=LENGTHS[:5], **options)
    trainer.train()
    return weights_of(trainer), [log["loss"] for log in trainer.state.log_history if "loss" in log]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*speedups for torchdynamo")
def test_compiled_layers_train_the_same_weights_from_few_graphs(update: Update, tmp_path: Path) -> None:
    # All three models answer in between, which is not compiled.
    flips = {"flips_dataset": Dataset.from_list(LENGTHS[5:7]), "flips_max_new_tokens": 3}
    common = {"loss_implementation": "chunked", "train_sampling_strategy": "sequential", **flips}
    common |= {"eval_strategy": "steps", "eval_steps": 2}
    weights, losses = trained(update, tmp_path / "written", max_steps=6, **common)
    torch._dynamo.reset()
    graphs = []
    for steps in (4, 6):
        counters.clear()
        compiled = trained(update, tmp_path / f"compiled-{steps}", max_steps=steps, **common, **COMPILED)
        graphs.append(counters["stats"]["unique_graphs"])
        assert not counters["graph_break"]
        assert not counters["recompile_limit"]
    assert largest_difference(compiled[0], weights) == 0.0
    assert compiled[1] == losses
    # Two batches, of four rows and of one, are an epoch: by then all graphs are there, and the layers of the second
    # trainer are served by those of the first.
    assert 2 <= graphs[0] <= 12
    assert graphs[1] == 0


@pytest.mark.parametrize("mode", ["reduce-overhead", "max-autotune"])
def test_cuda_graphs_that_write_over_what_a_teacher_returned_are_refused(tmp_path: Path, mode: str) -> None:
    with pytest.raises(ConfigurationError, match="CUDA graphs, which write over"):
        config_of(tmp_path, torch_compile_mode=mode, torch_compile_backend="eager")


def test_whole_models_that_accelerate_compiles_are_refused(
    update: Update, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "EAGER")
    AcceleratorState._reset_state()
    try:
        with pytest.raises(ConfigurationError, match=r"dynamo_backend 'eager'.*torch_compile=True here"):
            trainer_of(update, tmp_path)
    finally:
        AcceleratorState._reset_state()


def test_a_model_without_layers_that_are_known_is_refused() -> None:
    model = tiny_llama(1, tiny_tokenizer(), hidden_size=16, layers=1)
    model.model.layers = torch.nn.ModuleList()
    with pytest.raises(ConfigurationError, match="LlamaForCausalLM has no layers"):
        compile_layers(model, backend="eager")


def test_the_loss_of_liger_does_not_take_the_place_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="pip install liger-kernel"):
        config_of(tmp_path, use_liger_kernel=True)
    # What Liger then does with this choice needs a GPU, and is not tried here.
    monkeypatch.setattr("muscle_hf.training.options.contradictions.is_liger_kernel_available", lambda: True)
    config = config_of(tmp_path, use_liger_kernel=True, liger_kernel_config={"rope": False})
    assert config.liger_kernel_config == {"rope": False, "fused_linear_cross_entropy": False}
    with pytest.raises(ConfigurationError, match="its slices save the same memory"):
        config_of(tmp_path, use_liger_kernel=True, liger_kernel_config={"fused_linear_cross_entropy": True})
