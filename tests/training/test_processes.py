"""Flips in several processes: real ones, joined by gloo, that answer every row once."""

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import fresh
import pytest
from datasets import Dataset
from tiny_models import tiny_llama, tiny_tokenizer
from two_processes import finish

from muscle_hf.prediction.flips_dataset import read_questions
from muscle_hf.training.flips_evaluation import Answerer, FlipsEvaluation

TESTS = Path(__file__).parents[1]

# What each process runs. It writes what it saw to a file of its own.
PROGRAM = """
import contextlib, json, sys
import torch
import torch.distributed as distributed
from pathlib import Path

folder, rank, tests = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
sys.path.insert(0, tests)
torch.set_num_threads(1)
distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)

from datasets import Dataset
from tiny_models import tiny_llama, tiny_tokenizer
from muscle_hf.prediction.flips_dataset import read_questions
from muscle_hf.prediction.generate import generate_answers
from muscle_hf.training.flips_evaluation import Answerer, FlipsEvaluation

seen = {}
tokenizer = tiny_tokenizer()
models = [tiny_llama(seed, tokenizer, hidden_size=16, layers=1) for seed in (1, 2, 3)]
asked = []

def source(model, name):
    asked.append(name)
    return contextlib.nullcontext(model)

def evaluation(n, folder):
    prompts = [f"transfer {i} dollars" for i in range(n)]
    # Every other answer of the old model is right.
    said = generate_answers(models[0], tokenizer, prompts, max_new_tokens=3, show_progress=False).texts
    rows = [{"prompt": prompts[i], "completion": i % 2 == 0 and said[i].strip() or "yes"} for i in range(n)]
    return FlipsEvaluation(
        read_questions(Dataset.from_list(rows)),
        tokenizer,
        old=Answerer("v1", lambda: source(models[0], "old")),
        new=Answerer("v2", lambda: source(models[1], "new")),
        folder=folder,
        max_new_tokens=3,
    )

for n in (1, 2, 5):
    one = evaluation(n, folder / f"rows-{n}")
    metrics = one.measure(models[2])
    one.keep_best()
    seen[f"answers_{n}"], seen[f"metrics_{n}"] = one.answers, metrics
seen["asked"] = list(asked)
kept = evaluation(5, folder / "rows-5")
kept.ask_old_and_new()
seen["asked_again"] = asked[len(seen["asked"]):]
(folder / f"seen-{rank}.json").write_text(json.dumps(seen))
distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_answer_every_row_once(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, str(program), str(tmp_path)]
    finish([fresh.Process([*command, rank, str(TESTS)], env=environment) for rank in "01"])
    first, second = (json.loads((tmp_path / f"seen-{rank}.json").read_text()) for rank in (0, 1))
    for n in (1, 2, 5):
        assert first[f"metrics_{n}"] == second[f"metrics_{n}"]
        assert first[f"answers_{n}"] == second[f"answers_{n}"]
        _check_against_one_process(n, first, tmp_path)
    assert first["asked"] == second["asked"] == ["old", "new"] * 3
    assert first["asked_again"] == second["asked_again"] == []


def _check_against_one_process(n: int, seen: dict[str, Any], folder: Path) -> None:
    tokenizer = tiny_tokenizer()
    nobody = Answerer("none", lambda: contextlib.nullcontext(None))
    rows = [{"prompt": f"transfer {i} dollars", "completion": "yes"} for i in range(n)]
    questions = read_questions(Dataset.from_list(rows))
    alone = FlipsEvaluation(
        questions,
        tokenizer,
        old=nobody,
        new=nobody,
        folder=folder / "alone",
        max_new_tokens=3,
    )
    for seed, role in ((1, "old"), (2, "new"), (3, "student")):
        answers = alone.ask(tiny_llama(seed, tokenizer, hidden_size=16, layers=1))
        assert seen[f"answers_{n}"][role] == answers
        kept = (folder / f"rows-{n}" / f"{role}.jsonl").read_text(encoding="utf-8").splitlines()
        assert [json.loads(line)["prediction"] for line in kept] == answers
    assert (folder / f"rows-{n}" / "best.jsonl").exists()
