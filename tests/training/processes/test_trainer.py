"""Two and three training processes, each with all of the models (DDP) or a part (FSDP2), take the steps of one."""

import json
import os
import sys
from pathlib import Path

import pytest
from sharded import use_fsdp2
from two_processes import run_processes
from ways_of_training import WAYS, assert_saved_alike, make_updates, train, train_classifier


def main() -> None:
    """Train in each way, in one of several processes: first those of DDP, then those of FSDP2."""
    folder, ways, processes = Path(sys.argv[1]), json.loads(sys.argv[2]), int(os.environ["WORLD_SIZE"])
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    for kind, names in ways.items():
        if kind == "fsdp2":
            use_fsdp2()
        found[kind] = {name: train(folder, name, WAYS[name], kind, processes) for name in names if name in WAYS}
        if "resumed" in names:
            checkpoint = folder / "checkpoints-fsdp2-2" / "checkpoint-1"
            resumed = train(folder, "resumed", WAYS["checkpoints"], kind, processes, checkpoint)
            found[kind]["checkpoints"] = resumed
        if "classifier" in names:
            found[kind]["classifier"] = train_classifier(folder, processes)
    if os.environ["RANK"] == "0":
        (folder / "found.json").write_text(json.dumps(found))


@pytest.mark.slow
def test_a_split_model_or_one_in_each_process_changes_no_step(tmp_path: Path) -> None:
    make_updates(tmp_path)
    alone = {name: train(tmp_path, name, way, "alone") for name, way in WAYS.items()}
    alone["classifier"] = train_classifier(tmp_path)
    started = {
        2: {"ddp": ["slices", "product", "sampled"], "fsdp2": [*WAYS, "classifier"]},
        3: {"fsdp2": ["trained head", "full logits", "resumed"]},
    }
    tests = Path(__file__).parents[2]
    paths = os.pathsep.join(map(str, (tests, tests.parent, tests / "training" / "processes")))
    environment = os.environ | {"PYTHONPATH": paths}
    for processes, ways in started.items():
        command = [sys.executable, "-c", "import test_trainer as tried; tried.main()"]
        run_processes(processes, [*command, str(tmp_path), json.dumps(ways)], env=environment)
        for kind, found in json.loads((tmp_path / "found.json").read_text()).items():
            for name, figures in found.items():
                for figure, values in figures.items():
                    # Sums of float32 in another order; Adam turns the rounding of tiny gradients into small steps.
                    expected = alone[name][figure]
                    expected = expected if figure == "answers" else pytest.approx(expected, rel=1e-4, abs=1e-5)
                    assert values == expected, (processes, kind, name)
    adapter = "adapter_model.safetensors"
    assert_saved_alike(tmp_path, f"checkpoints-alone-1/{adapter}", ["checkpoints-fsdp2-2", "resumed-fsdp2-3"])
    assert_saved_alike(tmp_path, "classifier-1/model.safetensors", ["classifier-2"])
