"""Asking in several processes: real ones, joined by gloo, that answer every row once and go on where a run stopped."""

import contextlib
import json
import os
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from teacher_caches import COUNTS, TOKENS, computing, files_of, targets_of, top_k_spec
from tiny_models import tiny_llama, tiny_tokenizer
from two_processes import run_processes

from muscle_hf.prediction.flips_dataset import read_questions
from muscle_hf.prediction.generate import generate_answers
from muscle_hf.prediction.kept_answers import count_kept
from muscle_hf.teachers.cache import write_cache
from muscle_hf.training.flips_evaluation import Answerer, FlipsEvaluation
from muscle_hf.training.rows.unlabelled import answered_rows

TESTS = Path(__file__).parents[1]

# What each of three processes runs. It writes what it saw to a file of its own.
PROGRAM = """
import contextlib, json, sys
from dataclasses import replace
import torch
import torch.distributed as distributed
from pathlib import Path

folder = Path(sys.argv[1])
torch.set_num_threads(1)
distributed.init_process_group("gloo")

from datasets import Dataset
from tiny_models import tiny_llama, tiny_tokenizer
from muscle_hf.models.processes import place
from muscle_hf.prediction.flips_dataset import read_questions
from muscle_hf.prediction.generate import generate_answers
from muscle_hf.prediction.kept_answers import count_kept
from muscle_hf.training.flips_evaluation import Answerer, FlipsEvaluation
from muscle_hf.training.rows.unlabelled import answered_rows

rank, _ = place()
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

prompts = []
def ask(model, fails_after=None):
    def answer(some):
        if fails_after is not None and len(prompts) >= fails_after:
            raise MemoryError("too little")
        prompts.extend(some)
        answers = generate_answers(model, tokenizer, some, max_new_tokens=3, show_progress=False)
        return replace(answers, finished=answers.token_counts > 0)
    return answer

def unlabelled(name, count, **fails):
    texts = [f"pay {i} and {'more ' * i}" for i in range(count)]
    rows = answered_rows(
        Dataset.from_list([{"prompt": text} for text in texts]), teacher="more_confident",
        ask_old=ask(models[0], **fails), ask_new=ask(models[1]),
        folder=folder / name, fingerprint={"old": 1, "new": 2}, block_size=1, show_progress=False,
    )
    return rows.to_list()

# The second process dies with one answer kept, the others with two and three; then all go on.
try:
    unlabelled("unlabelled", 8, **({"fails_after": 1} if rank == 1 else {}))
except Exception as error:
    seen["failure"] = f"{type(error).__name__}: {error}"
from muscle_hf.models.processes import from_every_process
from_every_process(lambda: None)
seen["kept"] = count_kept(folder / "unlabelled")
from_every_process(lambda: None)
first, prompts = prompts, []
seen["unlabelled"] = unlabelled("unlabelled", 8)
seen["asked_first"], seen["asked_then"] = first, list(prompts)
seen["few"] = unlabelled("few", 2)

from types import SimpleNamespace
from teacher_caches import TOKENS, top_k_spec
from muscle_hf.teachers.cache import TeacherCache, shards
from muscle_hf.training.teachers_of_run import opened_together
looked, check = [], shards.check_content
shards.check_content = lambda path: looked.append(path.name) or check(path)
for name in ("whole", "damaged"):
    cache = SimpleNamespace(root=folder / name, open=lambda: [TeacherCache.open(folder / name, top_k_spec())])
    try:
        seen[name] = opened_together(cache)[0].read(torch.arange(TOKENS))["old.right"].tolist()
    except Exception as error:
        seen[name] = f"{type(error).__name__}: {error}"
    seen.setdefault("looked", list(looked))
(folder / f"seen-{rank}.json").write_text(json.dumps(seen))
distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_three_processes_ask_every_row_and_read_every_shard_once_and_go_on_after_one_has_failed(
    tmp_path: Path,
) -> None:
    paths = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    spec = top_k_spec()
    for name in ("whole", "damaged"):
        write_cache(tmp_path / name, spec, COUNTS, computing(spec), shard_bytes=5 * spec.bytes_per_token)
    damaged = sorted((tmp_path / "damaged").glob("shard-*"))[1]
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"!")
    run_processes(3, [sys.executable, "-c", PROGRAM, str(tmp_path)], env=os.environ | {"PYTHONPATH": paths})
    seen = [json.loads((tmp_path / f"seen-{rank}.json").read_text()) for rank in range(3)]
    first = seen[0]
    for n in (1, 2, 5):
        for each in seen[1:]:
            assert first[f"metrics_{n}"] == each[f"metrics_{n}"]
            assert first[f"answers_{n}"] == each[f"answers_{n}"]
        _check_against_one_process(n, first, tmp_path)
    assert [each["asked"] for each in seen] == [["old", "new"] * 3] * 3
    assert [each["asked_again"] for each in seen] == [[]] * 3
    _check_unlabelled(seen, tmp_path)
    # Each shard of a cache is looked at by one of them, and what is wrong with it is told in all.
    assert sorted(name for each in seen for name in each["looked"]) == files_of(tmp_path / "whole")[1:]
    assert all(each["whole"] == targets_of(range(TOKENS), spec)["old.right"].tolist() for each in seen)
    assert re.match(f"InputError: {damaged} is damaged .* has been deleted", seen[1]["damaged"])
    for each in (seen[0], seen[2]):
        assert each["damaged"] == f"OtherProcessError: Process 1 failed: {seen[1]['damaged']}"


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
    assert sorted(path.name for path in (folder / f"rows-{n}").iterdir()) == [
        *("best.jsonl", "new.jsonl", "old.jsonl", "student.jsonl")
    ]


def _check_unlabelled(seen: list[dict[str, Any]], folder: Path) -> None:
    tokenizer = tiny_tokenizer()
    models = [tiny_llama(seed, tokenizer, hidden_size=16, layers=1) for seed in (1, 2)]
    asked: list[str] = []

    def ask(model: Any) -> Any:
        def answer(some: Any) -> Any:
            asked.extend(some)
            answers = generate_answers(model, tokenizer, some, max_new_tokens=3, show_progress=False)
            return replace(answers, finished=answers.token_counts > 0)

        return answer

    def alone(name: str, count: int) -> list[dict[str, Any]]:
        rows = answered_rows(
            Dataset.from_list([{"prompt": f"pay {i} and {'more ' * i}"} for i in range(count)]),
            teacher="more_confident",
            ask_old=ask(models[0]),
            ask_new=ask(models[1]),
            folder=folder / name,
            fingerprint={"old": 1, "new": 2},
            block_size=1,
            show_progress=False,
        )
        return list(rows.to_list())

    other = "OtherProcessError: Process 1 failed: MemoryError: too little"
    assert [each["failure"] for each in seen] == [other, "MemoryError: too little", other]
    assert [each["kept"] for each in seen] == [6] * 3  # of 8 answers of the old model: 3, 1 and 2
    of_old = [prompt for each in seen for prompt in each["asked_first"]]
    assert len(of_old) == len({*of_old}) == 6
    then = [prompt for each in seen for prompt in each["asked_then"]]
    assert len(then) == 2 + 8
    assert {*of_old}.isdisjoint(prompt for prompt in {*then} if then.count(prompt) == 2)
    assert count_kept(folder / "unlabelled") == 16
    assert len(list((folder / "unlabelled").rglob("answers.jsonl*"))) == 2  # no part is left
    for each in seen:
        assert each["unlabelled"] == alone("afresh", 8)
        assert each["few"] == alone("afresh", 2)
    # One process goes on from what three have kept, and asks for two more prompts alone.
    asked.clear()
    assert alone("unlabelled", 10)[:8] == seen[0]["unlabelled"]
    assert len(asked) == 4
