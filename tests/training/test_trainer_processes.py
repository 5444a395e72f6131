"""Two and three training processes, each with all of the models (DDP) or a part (FSDP2), take the steps of one."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from sharded import use_fsdp2
from tiny_models import tiny_tokenizer
from tiny_updates import EMBEDDINGS_AND_NORMS, Update, make_update, trainer_of
from two_processes import run_processes

# What each way of training is tried with: the adapters of the update, and options of the trainer.
WAYS: dict[str, dict[str, Any]] = {
    "full logits": {"loss_implementation": "plain"},
    "slices": {"loss_implementation": "chunked", "cross_entropy_weight": 0.3},
    "trained head": {"update": "saved", "loss_implementation": "chunked", "cross_entropy_weight": 0.3},
    "untied head": {"update": "untied", "loss_implementation": "chunked", "gradient_checkpointing": False},
    "accumulated": {
        "update": "saved",
        "loss_implementation": "chunked",
        "gradient_accumulation_steps": 2,
        "per_device_train_batch_size": 6,
        "max_steps": 1,
    },
    "mask of the old model": {"mask": "token_likelihood", "cross_entropy_weight": 0.5},
    "topk": {"teacher_cache": "topk", "teacher_cache_k": 1000, "cross_entropy_weight": 0.3},
}
UPDATES: dict[str, dict[str, Any]] = {
    "plain": {},
    "saved": EMBEDDINGS_AND_NORMS,
    "untied": {"tie_word_embeddings": False},
}


def train(folder: Path, name: str, way: dict[str, Any], kind: str, processes: int = 1) -> dict[str, list[float]]:
    """Train a few steps, and give what was logged and, in the end, the size of each trained weight."""
    options = {"max_steps": 2, "per_device_train_batch_size": 12} | way
    options["per_device_train_batch_size"] //= processes
    trainer = trainer_of(
        Update(folder / options.pop("update", "plain"), tiny_tokenizer()),
        folder / f"{name}-{kind}-{processes}",
        ddp_backend="gloo" if processes > 1 else None,
        **options,
    )
    trainer.train()
    logs = [log for log in trainer.state.log_history if "loss" in log]
    figures = ("loss", "aligned_to_old_model", "cross_entropy", "grad_norm")
    return {figure: [log[figure] for log in logs] for figure in figures} | {"weights": _sizes(trainer.model)}


def _sizes(model: Any) -> list[float]:
    trained = [weight.detach() for weight in model.parameters() if weight.requires_grad]
    return [float((weight.full_tensor() if hasattr(weight, "full_tensor") else weight).norm()) for weight in trained]


def main() -> None:
    """Train in each way, in one of several processes: first those of DDP, then those of FSDP2."""
    folder, ways, processes = Path(sys.argv[1]), json.loads(sys.argv[2]), int(os.environ["WORLD_SIZE"])
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    for kind, names in ways.items():
        if kind == "fsdp2":
            use_fsdp2()
        found[kind] = {name: train(folder, name, WAYS[name], kind, processes) for name in names}
    if os.environ["RANK"] == "0":
        (folder / "found.json").write_text(json.dumps(found))


@pytest.mark.slow
def test_a_split_model_or_one_in_each_process_changes_no_step(tmp_path: Path) -> None:
    for name, lora in UPDATES.items():
        make_update(tmp_path / name, **lora)
    alone = {name: train(tmp_path, name, way, "alone") for name, way in WAYS.items()}
    started = {
        2: {"ddp": ["slices", "topk"], "fsdp2": [name for name in WAYS if name != "topk"]},
        3: {"fsdp2": ["trained head", "full logits"]},
    }
    tests = Path(__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (tests, tests.parent, tests / "training")))}
    for processes, ways in started.items():
        command = [sys.executable, "-c", "import test_trainer_processes as tried; tried.main()"]
        run_processes(processes, [*command, str(tmp_path), json.dumps(ways)], env=environment)
        for kind, found in json.loads((tmp_path / "found.json").read_text()).items():
            for name, figures in found.items():
                for figure, values in figures.items():
                    # Sums of float32 in another order; Adam turns the rounding of tiny gradients into small steps.
                    expected = pytest.approx(alone[name][figure], rel=1e-4, abs=1e-5)
                    assert values == expected, (processes, kind, name, figure)
