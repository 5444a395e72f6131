"""`muscle-hf update` as it is called: help at once, one line for bad input, and the exit codes."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
from processor_time import seconds_of_children

from muscle_hf.cli import main
from muscle_hf.update.settings import UpdateSettings


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-W", "error", "-X", "importtime", "-m", "muscle_hf", "update", *words],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_help_answers_at_once_and_loads_neither_torch_nor_numpy() -> None:
    done = _run("--help")
    assert done.returncode == 0
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert not loaded & {"torch", "transformers", "trl", "peft", "datasets", "numpy"}
    # The best of several: other work slows down any of them.
    assert min(seconds_of_children(lambda: _run("--help")) for _ in range(3)) < 1


def test_help_has_every_setting_and_says_where_the_others_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["update", "--help"]) == 0
    shown = capsys.readouterr().out
    for one in dataclasses.fields(UpdateSettings):
        assert f"--{one.name.replace('_', '-')}" in shown
    assert "--output-dir" in shown and "--no-control" in shown
    assert "pydoc muscle_hf.CompatibilityConfig" in " ".join(shown.split())


def test_what_is_missing_is_said_before_the_libraries_are_loaded() -> None:
    done = _run("--old_adapter=x", "--new-base", "y")
    assert done.returncode == 2
    (complaint,) = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    assert complaint == (
        "muscle-hf update: --dataset, --output-dir are needed, on the command line or in the file of --config."
    )
    assert not any("| torch" in line for line in done.stderr.splitlines())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--learning-ratio", "1"], "there is no option --learning-ratio. Did you mean --learning-rate?"),
        (["--dataset", "nowhere.jsonl"], "old_adapter='nowhere' cannot be read as an adapter"),
        (["--config", "nowhere.yaml"], "nowhere.yaml cannot be read (No such file or directory)"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "nowhere").mkdir()
    common = ["--old-adapter", "nowhere", "--new-base", "nowhere", "--dataset", "x.jsonl", "--output-dir", "out"]
    assert main(["update", *common, *words]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("muscle-hf update: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_an_interrupted_update_says_how_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import muscle_hf.update.options
    import muscle_hf.update.plan
    import muscle_hf.update.show

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    file = tmp_path / "update.yaml"
    given = {"old_adapter": "a", "new_base": "b", "dataset": "c.jsonl", "output_dir": str(tmp_path / "out")}
    file.write_text(json.dumps(given), encoding="utf-8")
    monkeypatch.setattr(muscle_hf.update.plan, "make_plan", lambda _: None)
    monkeypatch.setattr(muscle_hf.update.show, "announce", interrupt)
    assert main(["update", "--config", str(file)]) == 130
    said = "muscle-hf update: interrupted. Nothing is kept: the same command starts anew.\n"
    assert capsys.readouterr().err == said
    # Before there is anything to go on from, too.
    monkeypatch.setattr(muscle_hf.update.options, "read_options", interrupt)
    assert main(["update", "--config", str(file)]) == 130
    assert capsys.readouterr().err == "muscle-hf update: interrupted\n"


def test_other_commands_still_refuse_words_that_they_do_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "old.jsonl", "new.jsonl", "--learning-rate", "1"]) == 2
    assert "unrecognized arguments: --learning-rate 1" in capsys.readouterr().err
