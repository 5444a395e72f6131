"""Processes that DeepSpeed splits the models over (ZeRO-3), or the optimizer (ZeRO-2), take the steps of one.

DeepSpeed is in no extra: `make test-deepspeed` runs this in an environment of its own.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from deepspeed_on_cpus import use_deepspeed
from transformers import training_args
from two_processes import run_processes
from ways_of_training import WAYS, assert_saved_alike, make_updates, train, train_classifier

from muscle_hf.errors import MuscleError
from muscle_hf.training.options import precision

pytest.importorskip("deepspeed")

WAYS_HERE = WAYS | {
    # The first of two that are equally good.
    "best": WAYS["flips"]
    | {
        "save_strategy": "steps",
        "save_steps": 1,
        "load_best_model_at_end": True,
        "metric_for_best_model": "eval_negative_flip_rate",
    },
    "half precision": {"update": "saved", "loss_implementation": "chunked", "bf16": True},
}

# Stage and processes -> ways. All are tried with layers that stay whole (the small ones) and others.
STARTED: dict[int, dict[int, list[str]]] = {
    2: {3: [*WAYS_HERE, "classifier", "resumed"], 2: ["slices", "sampled", "checkpoints", "half precision"]},
    3: {3: ["trained head", "one row is trained on", "another number"]},
}


def main() -> None:
    """Train in each way, in one of several processes, and compare in the first one."""
    folder, processes = Path(sys.argv[1]), int(os.environ["WORLD_SIZE"])
    found: dict[str, dict[str, Any]] = {}
    for module in (precision, training_args):  # which do not look at CPUs
        module.is_torch_bf16_gpu_available = lambda: True  # type: ignore[attr-defined]
    for stage, names in STARTED[processes].items():
        options = {"stage3_param_persistence_threshold": 100} if stage == 3 else {}
        use_deepspeed(folder, stage, **options)
        found[f"zero{stage}"] = {name: _tried(folder, name, f"zero{stage}", processes) for name in names}
    if os.environ["RANK"] == "0":
        (folder / "found.json").write_text(json.dumps(found))


def _tried(folder: Path, name: str, kind: str, processes: int) -> Any:
    on_gpus = {"use_cpu": False}
    checkpoint = folder / f"checkpoints-{kind}-2" / "checkpoint-1"
    if name == "classifier":
        return train_classifier(folder, processes, **on_gpus)
    if name == "resumed":
        return train(folder, name, WAYS["checkpoints"] | on_gpus, kind, processes, checkpoint)
    if name == "another number":
        with pytest.raises(MuscleError) as refused:
            train(folder, name, WAYS["checkpoints"] | on_gpus, kind, processes, checkpoint)
        return str(refused.value)
    return train(folder, name, WAYS_HERE[name] | on_gpus, kind, processes)


def test_what_deepspeed_splits_over_processes_takes_the_steps_of_one(tmp_path: Path) -> None:
    make_updates(tmp_path)
    alone = {name: train(tmp_path, name, way, "alone") for name, way in WAYS_HERE.items()}
    alone["resumed"] = alone["checkpoints"]
    alone["classifier"] = train_classifier(tmp_path)
    tests = Path(__file__).parents[2]
    paths = os.pathsep.join(map(str, (tests, tests.parent, tests / "training" / "processes")))
    environment = os.environ | {"PYTHONPATH": paths, "DS_ACCELERATOR": "cpu"}
    for processes in STARTED:
        command = [sys.executable, "-W", "ignore", "-c", "import test_deepspeed as tried; tried.main()", str(tmp_path)]
        run_processes(processes, command, env=environment)
        for kind, ways in json.loads((tmp_path / "found.json").read_text()).items():
            for name, figures in ways.items():
                if name == "another number":
                    assert "was written by 2 processes, and these are 3" in figures
                    continue
                for figure, values in figures.items():
                    # The one has weights of bfloat16, the other computes in it; else, sums come in another order.
                    near = 0.1 if name == "half precision" else 1e-4
                    expected = alone[name][figure]
                    expected = expected if figure == "answers" else pytest.approx(expected, rel=near, abs=near / 10)
                    assert values == expected, (processes, kind, name, figure)
    adapter = "adapter_model.safetensors"
    others = ["checkpoints-zero3-2", "resumed-zero3-2", "checkpoints-zero2-2"]
    assert_saved_alike(tmp_path, f"checkpoints-alone-1/{adapter}", others)
    assert_saved_alike(tmp_path, "classifier-1/model.safetensors", ["classifier-2"])
