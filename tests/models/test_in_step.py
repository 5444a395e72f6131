"""Split models in processes with different work: each answers as the whole model does, and nobody waits for ever."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from two_processes import run_two

from muscle_hf.models.in_step import calls_in_step, in_step

TESTS = Path(__file__).parents[1]

PROGRAM = """
import json, sys
from pathlib import Path
import torch
import torch.distributed as distributed
from torch.distributed.fsdp import fully_shard
from tiny_models import tiny_adapter, tiny_llama, tiny_tokenizer
from muscle_hf.models.in_step import calls_in_step, in_step
from muscle_hf.models.processes import place
from muscle_hf.prediction.choose import choose_answers
from muscle_hf.prediction.generate import generate_answers

torch.set_num_threads(1)
distributed.init_process_group("gloo")
rank, _ = place()
tokenizer = tiny_tokenizer()

def model(split):
    found = tiny_adapter(tiny_llama(1, tokenizer, hidden_size=16, layers=2), 3).eval()
    if split:
        for layer in found.base_model.model.model.layers:
            fully_shard(layer)
        fully_shard(found, reshard_after_forward=True)
    return found

def generated(model, prompts):
    how = {"max_new_tokens": 6, "batch_size": 2, "tie_margin": 0.01, "show_progress": False}
    return generate_answers(model, tokenizer, prompts, **how).texts

def chosen(model, prompts):
    choices = [["transfer", "balance please"]] * len(prompts)
    return choose_answers(model, tokenizer, prompts, choices, batch_size=2, show_progress=False).indices.tolist()

split, whole = model(True), model(False)
prompts = [f"transfer {n} dollars{' more' * n}" for n in range(5)]
seen = {}
for name, shares in {"none": (5, 0), "one": (1, 4), "first": (0, 3)}.items():
    mine = prompts[: shares[rank]]
    with in_step(split):
        seen[name] = [generated(split, mine), chosen(split, mine)] if mine else []
    assert seen[name] == ([generated(whole, mine), chosen(whole, mine)] if mine else []), name
ids = torch.tensor([[3, 4, 5]])
passes = []
def call(n):
    with torch.no_grad():
        passes.append(n)
        return split(input_ids=ids[:, :n]).logits.sum().item()
with calls_in_step(call, lambda: call(1), split) as together:
    for n in [(2, 3, 1), (3,)][rank]:
        with torch.no_grad():
            assert abs(together(n) - whole(input_ids=ids[:, :n]).logits.sum().item()) < 1e-3
seen["passes"] = passes
for failing in (0, 1):
    try:
        with in_step(split):
            if rank == failing:
                generated(split, prompts[:1])
                raise ValueError("disk full")
            generated(split, prompts)
    except Exception as error:
        seen[f"failed_{failing}"] = f"{type(error).__name__}: {error}"
with in_step(split):  # and all goes on
    seen["after"] = generated(split, prompts[:2]) == generated(whole, prompts[:2])
split.train()
loss = split(input_ids=ids, labels=ids).loss
loss.backward()
(Path(sys.argv[1]) / f"seen-{rank}.json").write_text(json.dumps(seen))
distributed.destroy_process_group()
"""


def test_a_whole_model_is_asked_without_further_ado() -> None:
    with in_step(None), calls_in_step(len, lambda: None) as call:
        assert call([1, 2]) == 2


@pytest.mark.slow
def test_processes_with_other_work_on_a_split_model_answer_as_the_whole_one_or_fail_together(tmp_path: Path) -> None:
    paths = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    run_two([sys.executable, "-W", "ignore", "-c", PROGRAM, str(tmp_path)], env=os.environ | {"PYTHONPATH": paths})
    seen: list[dict[str, Any]] = [json.loads((tmp_path / f"seen-{rank}.json").read_text()) for rank in range(2)]
    assert [len(each["none"] and each["none"][0]) for each in seen] == [5, 0]
    assert [each["passes"] for each in seen] == [[2, 3, 1], [3, 1, 1]]
    for failing, name in enumerate(("The main process", "Process 1")):
        said = [each[f"failed_{failing}"] for each in seen]
        assert said[failing] == "ValueError: disk full"
        assert said[1 - failing] == f"OtherProcessError: {name} failed: ValueError: disk full"
    assert seen[0]["after"] and seen[1]["after"]
