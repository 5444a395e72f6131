"""Two training processes (DDP) take the steps that one takes: the sliced loss and the cache included."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fresh
import pytest
from tiny_updates import make_update
from two_processes import run_two

SCRIPT = """
import json, os, sys
from pathlib import Path
import torch
from tiny_models import tiny_tokenizer
from tiny_updates import Update, trainer_of
torch.set_num_threads(1)
folder, world = Path(sys.argv[1]), int(os.environ.get("WORLD_SIZE", 1))
found = {}
for name, options in json.loads(sys.argv[2]).items():
    trainer = trainer_of(
        Update(folder, tiny_tokenizer()), folder / f"out-{name}-{world}", max_steps=2,
        per_device_train_batch_size=4 // world, ddp_backend="gloo" if world > 1 else None, **options,
    )
    trainer.train()
    found[name] = [log["loss"] for log in trainer.state.log_history if "loss" in log]
if trainer.is_world_process_zero():
    print(json.dumps(found))
"""
WAYS: dict[str, dict[str, Any]] = {
    "chunked": {"loss_implementation": "chunked", "cross_entropy_weight": 0.3},
    "topk": {"teacher_cache": "topk", "teacher_cache_k": 1000, "cross_entropy_weight": 0.3},
}


def _losses(folder: Path, run: Callable[..., str]) -> dict[str, list[float]]:
    paths = os.pathsep.join([str(Path(__file__).parents[1]), str(Path(__file__).parents[2])])
    script = folder / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    command = [sys.executable, str(script), str(folder), json.dumps(WAYS)]
    shown = run(command, env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"})
    lines = [line for line in shown.splitlines() if line.startswith('{"chunked"')]
    assert len(lines) == 1
    return dict(json.loads(lines[0]))


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(tmp_path: Path) -> None:
    make_update(tmp_path)
    alone = _losses(tmp_path, lambda command, env: fresh.run(command, env=env, check=True).stdout)
    together = _losses(tmp_path, lambda command, env: "".join(run_two(command, env=env)))
    for way in WAYS:
        assert together[way] == pytest.approx(alone[way], abs=1e-4)
