"""`muscle-hf cache`: what it computes is what training then uses, in parts too, and bad input is one line."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from datasets import load_dataset
from tiny_updates import ROWS, Update, make_update, trainer_of

from muscle_hf.cli import main
from muscle_hf.locks import held_folder
from muscle_hf.training.loss.cached_targets import TargetComputer


@pytest.fixture(scope="module")
def update(tmp_path_factory: pytest.TempPathFactory) -> Update:
    return make_update(tmp_path_factory.mktemp("update"))


def _words(update: Update, folder: Path, *more: str) -> list[str]:
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    names = update.arguments
    words = ["cache", "--dataset", str(data), "--teacher-cache-dir", str(folder / "cache"), "--use-cpu", "True"]
    for name in ("model", "new_adapter", "old_model", "old_adapter"):
        words += [f"--{name.replace('_', '-')}", names[name]]
    return [*words, *more]


def _options(folder: Path) -> dict[str, Any]:
    rows = load_dataset("json", data_files=str(folder / "rows.jsonl"), split="train")
    return {"train_dataset": rows, "teacher_cache": "sampled", "teacher_cache_dir": str(folder / "cache")}


@pytest.mark.slow
def test_training_uses_the_cache_of_the_command_and_loads_no_old_model(
    update: Update, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(_words(update, tmp_path)) == 0
    assert "is complete" in capsys.readouterr().out
    trainer = trainer_of(update, tmp_path / "out", **_options(tmp_path))
    assert not trainer.teachers.pair.is_old_loaded
    trainer.train()


@pytest.mark.slow
def test_parts_of_several_machines_make_one_cache(
    update: Update, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(_words(update, tmp_path, "--process", "0", "--processes", "2")) == 0
    assert "Part 0 of 2" in capsys.readouterr().out
    assert main(_words(update, tmp_path, "--process", "1", "--processes", "2")) == 0
    assert "is complete: " in capsys.readouterr().out
    assert not trainer_of(update, tmp_path / "out", **_options(tmp_path)).teachers.pair.is_old_loaded


@pytest.mark.slow
def test_one_part_is_computed_twice_at_once_or_two_parts_are_not(
    update: Update, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    part = ("--process", "0", "--processes", "2")
    with held_folder(tmp_path / "cache", "muscle-hf cache", "wait", part="0-of-2"):
        assert main(_words(update, tmp_path, *part)) == 2
        assert f"{tmp_path / 'cache'} is in use: process {os.getpid()} on" in capsys.readouterr().err
        assert main(_words(update, tmp_path, "--process", "1", "--processes", "2")) == 0
    assert main(_words(update, tmp_path, *part)) == 0
    assert not list((tmp_path / "cache").glob(".*"))


@pytest.mark.slow
def test_an_interruption_loses_what_was_computed_or_promises_what_was_not(
    update: Update, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = _words(update, tmp_path, "--per-device-eval-batch-size", "2")
    computed: list[range] = []
    original = TargetComputer.__call__

    def interrupted(self: TargetComputer, rows: range) -> Any:
        if len(computed) in stops:
            stops.clear()
            raise KeyboardInterrupt
        computed.append(rows)
        return original(self, rows)

    monkeypatch.setattr(TargetComputer, "__call__", interrupted)
    stops = {0}
    assert main(words) == 130
    complaint = "muscle-hf cache: interrupted. Nothing is kept: the same command starts anew.\n"
    assert capsys.readouterr().err == complaint
    stops = {3}
    assert main(words) == 130
    there = len(list((tmp_path / "cache").rglob("shard-*.safetensors")))
    assert there >= 2
    kept = f"interrupted. Kept in {tmp_path / 'cache'}: {there} of 5 shards of the teacher cache. The same command "
    assert kept in capsys.readouterr().err
    assert main(words) == 0
    rows = [row for some in computed for row in some]
    assert sorted(set(rows)) == list(range(len(ROWS)))
    assert len(rows) <= len(ROWS) + 2  # what was under way is computed again


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--process", "2", "--processes", "2"), "numbered from 0"),
        (("--teacher-cach", "topk"), "Did you mean --teacher-cache"),
        (("--teacher-cache", "top"), "topk"),
        (("--dataset", "nowhere.jsonl"), "nowhere.jsonl is not there"),
        (("surplus",), "is no option"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    update: Update, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], words: str
) -> None:
    assert main(_words(update, tmp_path, *more)) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_what_is_missing_is_said_before_the_libraries_load(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "--model", "x"]) == 2
    assert "--old-model, --dataset, --teacher-cache-dir are needed" in capsys.readouterr().err


def test_a_refusal_names_what_the_command_does_not_know(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two tokenizers alone make a cache of chunks; rows are those of --dataset."""
    monkeypatch.chdir(tmp_path)
    Path("empty.jsonl").touch()
    Path("rows.jsonl").write_text('{"question": "x"}\n')
    words = ["cache", "--model", "x", "--old-model", "y", "--teacher-cache-dir", "c", "--use-cpu"]
    words += ["--alignment", "chunks", "--dataset"]
    for rows, complaint in (("rows", "dataset has the columns ['question']"), ("empty", "empty.jsonl is empty")):
        assert main([*words, f"{rows}.jsonl"]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"muscle-hf cache: {complaint}"), error
        assert "formatting_func" not in error
