"""Two processes (DDP) train and measure a classifier as one process does."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import fresh
import pytest
from two_processes import run_two

TESTS = Path(__file__).parents[1]
# Run by each process, and by one alone with two batches for each step, which are the same rows.
PROGRAM = """
import json, os, sys
from pathlib import Path

folder, tests = Path(sys.argv[1]), sys.argv[2]
sys.path[:0] = [tests, f"{tests}/classifier"]
import torch
torch.set_num_threads(1)
import test_classifier as cases

alone = "RANK" not in os.environ
trainer = cases._trainer(
    folder,
    cases._models(
        cases.BertForTokenClassification, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    ),
    train_dataset=cases._data_of(cases.BertForTokenClassification),
    unlabelled_dataset=cases._data_of(cases.BertForTokenClassification).remove_columns("ner_tags"),
    per_device_train_batch_size=2,
    per_device_eval_batch_size=3,
    gradient_accumulation_steps=2 if alone else 1,
    max_steps=1,
    optim="sgd",
    learning_rate=1.0,
    max_grad_norm=0,
)
trainer.train()
metrics = trainer.evaluate(cases._data_of(cases.BertForTokenClassification))
weights = {name: weight.sum().item() for name, weight in cases._trained(trainer).items()}
name = "alone" if alone else os.environ["RANK"]
(folder / f"{name}.json").write_text(json.dumps([weights, metrics, trainer.state.log_history[0]]))
"""


@pytest.mark.slow
def test_two_processes_train_and_count_flips_as_one_does(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    command = [sys.executable, str(tmp_path / "program.py"), str(tmp_path), str(TESTS)]
    run_two(command)
    fresh.run(command, check=True, warm=True)
    found: dict[str, Any] = {name: json.loads((tmp_path / f"{name}.json").read_text()) for name in ("0", "1", "alone")}
    weights, metrics, log = found["alone"]
    for process in ("0", "1"):
        assert found[process][0] == pytest.approx(weights, rel=1e-3, abs=1e-4)
        for name, value in metrics.items():
            # Seven rows fill no three batches of two processes: the repeated ones must not count twice.
            if "flip_rate" in name or "accuracy" in name:
                other = found[process][1][name]
                assert other == value or (math.isnan(other) and math.isnan(value)), name
    for name in ("loss", "aligned_to_old_model", "cross_entropy", "accuracy"):
        assert found["0"][2][name] == pytest.approx(log[name], rel=1e-3), name
