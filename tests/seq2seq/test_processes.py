"""Two processes that train an encoder-decoder together (DDP) take the steps of one."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from tiny_seq2seq_updates import ROWS, trainer_of
from two_processes import run_two

TESTS = Path(__file__).parents[1]
WAYS: dict[str, dict[str, Any]] = {
    "slices": {"loss_implementation": "chunked", "gradient_checkpointing": True},
    "cache": {"teacher_cache": "hidden", "adapter": False},
}


def train(folder: Path, processes: int) -> dict[str, Any]:
    """Train in each way, and give what was logged and the sum of the weights."""
    found = {}
    for name, options in WAYS.items():
        questions = Dataset.from_list([{"prompt": f"move {n} coins", "completion": "savings"} for n in range(3)])
        trainer = trainer_of(
            "t5",
            folder / f"{name}-{processes}",
            per_device_train_batch_size=4 // processes,
            logging_steps=1,
            train_dataset=Dataset.from_list(ROWS * 2),
            flips_dataset=questions,
            flips_max_new_tokens=3,
            **options,
        )
        trainer.train()
        weights = [weight.double().abs().sum().item() for weight in trainer.model.parameters() if weight.requires_grad]
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        found[name] = {"losses": losses, "weights": weights, "answers": trainer.flips.answers["student"]}
    return found


def main() -> None:
    """Train in one of two processes."""
    found = train(Path(sys.argv[1]), 2)
    if os.environ["RANK"] == "0":
        (Path(sys.argv[1]) / "found.json").write_text(json.dumps(found))


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(tmp_path: Path) -> None:
    alone = train(tmp_path, 1)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (TESTS / "seq2seq", TESTS, TESTS.parent)))}
    run_two([sys.executable, "-c", "import test_processes as tried; tried.main()", str(tmp_path)], env=environment)
    together = json.loads((tmp_path / "found.json").read_text())
    for name, figures in alone.items():
        assert together[name]["answers"] == figures["answers"]
        for figure in ("losses", "weights"):
            assert together[name][figure] == pytest.approx(figures[figure], rel=1e-4, abs=1e-5), name
