"""Updates and predictions in several processes, with whole models and with split ones: the files of one process."""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import tiny_adapter, tiny_llama, tiny_tokenizer
from transformers import LlamaForCausalLM
from two_processes import run_two

import muscle_hf.update.training as training
from muscle_hf.cli import main
from muscle_hf.training.cross_entropy import TrainingProgress

TESTS = Path(__file__).parents[1]
WORDS = ("balance", "transfer", "freeze", "translate", "weather", "table")

# What each process runs: an update, then predictions.
PROGRAM = """
import contextlib, io, json, os, sys
from pathlib import Path
import torch
from accelerate import PartialState
from peft import PeftModel
from sharded import use_fsdp2
from torch.distributed import fsdp
from muscle_hf.cli import main
from muscle_hf.errors import InputError
from muscle_hf.prediction.engines.in_process import TransformersEngine

torch.set_num_threads(1)
folder, update, split_update, predict, search = Path(sys.argv[1]), *map(json.loads, sys.argv[2:])
rank = int(os.environ["RANK"])
seen = {}

def run(words):
    with contextlib.redirect_stderr(io.StringIO()) as errors, contextlib.redirect_stdout(io.StringIO()) as out:
        code = main(words)
    PartialState._reset_state()
    os.environ["MASTER_PORT"] = str(int(os.environ["MASTER_PORT"]) + 1)
    return code, out.getvalue(), [line for line in errors.getvalue().splitlines() if line.startswith("muscle-hf")]

seen["update"] = run(update)
seen["predict"] = run([*predict, "--output", str(folder / "together.jsonl")])
seen["search"] = run(search)
seen["refused"] = run([*predict, "--output", str(folder / "together.jsonl")])
use_fsdp2()
split, fully_shard = [], fsdp.fully_shard
def note(module, **options):
    split.append(isinstance(module, PeftModel))
    return fully_shard(module, **options)
fsdp.fully_shard = note
seen["split_update"] = run(split_update)
seen["split_predict"] = run([*predict, "--output", str(folder / "split.jsonl")])
if rank == 1:
    def fail(*_, **__):
        raise InputError("prompt 0 is cut off")
    TransformersEngine.generate = fail
seen["failed"] = run([*predict, "--output", str(folder / "failed.jsonl")])
(folder / f"seen-{rank}.json").write_text(json.dumps(seen | {"models_split": sum(split)}))
"""


def _rows(path: Path, count: int, first: int = 0) -> str:
    rows = [
        {"prompt": f"what is it, number {number}?\n", "completion": WORDS[number % len(WORDS)]}
        for number in range(first, first + count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def _update(folder: Path, out: str, size: int) -> list[str]:
    return [
        *("update", "--old-adapter", str(folder / "task-on-v1"), "--new-base", str(folder / "base-v2")),
        *("--dataset", _rows(folder / "data.jsonl", 36), "--validation-share", "0.3333"),
        *("--test-dataset", _rows(folder / "test.jsonl", 7, first=100), "--output-dir", str(folder / out)),
        *("--num-train-epochs", "2", "--learning-rate", "3e-3", "--per-device-train-batch-size", str(size)),
        *("--per-device-eval-batch-size", "2", "--ask-batch-size", "2", "--measure-flips", "--use-cpu", "true"),
        *("--unlabelled-dataset", _rows(folder / "prompts.jsonl", 12, first=200), "--unlabelled-ratio", "1"),
    ]


def _search(folder: Path, out: str, size: int) -> list[str]:
    return [
        *("update", "--old-adapter", str(folder / "task-on-v1"), "--new-base", str(folder / "base-v2")),
        *("--new-adapter", str(folder / "one" / "task-adapter"), "--no-control", "--output-dir", str(folder / out)),
        *("--dataset", _rows(folder / "few-rows.jsonl", 16), "--validation-share", "0.25", "--max-steps", "1"),
        *("--per-device-train-batch-size", str(size), "--use-cpu", "true", "--search", "temperature=1,2"),
    ]


class _StoppedAtStep(TrainingProgress):
    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 5 and self.description == "compatibility adapter":
            raise KeyboardInterrupt


@pytest.mark.slow
def test_two_processes_with_whole_or_split_models_go_on_to_the_files_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = tiny_tokenizer()
    for version in (1, 2):
        base = tiny_llama(version, tokenizer, hidden_size=16, layers=1, initializer_range=0.1)
        base.save_pretrained(tmp_path / f"base-v{version}")
        tokenizer.save_pretrained(tmp_path / f"base-v{version}")
    loaded = LlamaForCausalLM.from_pretrained(tmp_path / "base-v1")
    tiny_adapter(loaded, 1, r=2, lora_alpha=6, lora_dropout=0.0).save_pretrained(tmp_path / "task-on-v1")
    assert main(_update(tmp_path, "one", 12)) == 0
    with monkeypatch.context() as patch:
        patch.setattr(training, "TrainingProgress", _StoppedAtStep)
        assert main(_update(tmp_path, "several", 12)) == 130

    # What split models have still to do of an update: the training of the control, and its and the old answers.
    shutil.copytree(tmp_path / "one", tmp_path / "split")
    shutil.rmtree(tmp_path / "split" / "control")
    for name in ("stages/control.json", "stages/answers-control.json", "answers/control.jsonl", "answers/old.jsonl"):
        (tmp_path / "split" / name).unlink()

    predict = ["predict", str(tmp_path / "task-on-v1"), _rows(tmp_path / "few.jsonl", 3), "--batch-size", "1"]
    updates = [_update(tmp_path, out, 6) for out in ("several", "split")]
    search = _search(tmp_path, "one-searched", 4)
    assert main(search) == 0
    words = [json.dumps(each) for each in (*updates, predict, _search(tmp_path, "two-searched", 2))]
    paths = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, str(tmp_path), *words]
    run_two(command, env=os.environ | {"PYTHONPATH": paths})
    seen: list[dict[str, Any]] = [json.loads((tmp_path / f"seen-{rank}.json").read_text()) for rank in range(2)]

    assert [each["update"][0] for each in seen] == [each["split_update"][0] for each in seen] == [0, 0]
    # Once to train, two to be asked; and two predictions.
    assert [each["models_split"] for each in seen] == [5, 5]
    assert "the compatibility adapter: training, 8 steps, going on from step 4" in seen[0]["update"][1]
    for name in ("old", "new", "control", "compatibility"):
        assert len({(tmp_path / run / f"answers/{name}.jsonl").read_bytes() for run in _RUNS}) == 1
    for name in ("task-adapter", "control", "compatibility", "adapter"):
        one, *others = (load_file(tmp_path / run / name / "adapter_model.safetensors") for run in _RUNS)
        for other in others:
            assert one.keys() == other.keys()
            for key in one:
                torch.testing.assert_close(one[key], other[key], atol=2e-5, rtol=1e-4)
    files = [sorted(str(path.relative_to(tmp_path / run)) for path in (tmp_path / run).rglob("*")) for run in _RUNS]
    assert files[0] == files[1] == files[2]
    evidence = [json.loads((tmp_path / run / "comparison.json").read_text("utf-8")) for run in _RUNS]
    for each in evidence[1:]:
        assert each["old_model_against"] == evidence[0]["old_model_against"]

    assert [each["search"][0] for each in seen] == [0, 0] and seen[1]["search"][1] == ""
    one, two = (tmp_path / name for name in ("one-searched", "two-searched"))
    assert (one / "search.json").read_bytes() == (two / "search.json").read_bytes()
    assert "the compatibility adapter: that of temperature=" in seen[0]["search"][1]
    names = [sorted(str(path.relative_to(each)) for path in each.rglob("*")) for each in (one, two)]
    assert names[0] == names[1]

    assert main([*predict, "--output", str(tmp_path / "alone.jsonl")]) == 0
    for name in ("together", "split"):
        assert (tmp_path / f"{name}.jsonl").read_bytes() == (tmp_path / "alone.jsonl").read_bytes()
    # One of them is heard, and of a fault of one the one that has it.
    assert [each["predict"][0] for each in seen] == [each["split_predict"][0] for each in seen] == [0, 0]
    assert "together.jsonl: 3 answers of" in seen[0]["predict"][1]
    assert (seen[1]["update"][1:], seen[1]["predict"][1:]) == (["", []], ["", []])
    for name, said in (("refused", "is there already"), ("failed", "few.jsonl, row 2 is cut off")):
        lines = [line for each in seen for line in each[name][2] if "is read as" not in line]
        assert [each[name][0] for each in seen] == [2, 2]
        assert len(lines) == 1 and said in lines[0], lines


_RUNS = ("one", "several", "split")
