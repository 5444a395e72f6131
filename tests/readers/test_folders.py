"""Folders of runs: which files of which run are compared, and what is refused because it could mean two things."""

import gzip
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import lighteval_details
import numpy as np
import pytest
from harness_samples import DATES, FOLDER, Row, generation, model_folder, with_plain_values, write, write_array

from muscle_hf import InputError, compare_runs, read

FIRST, SECOND, THIRD = "2026-01-02T03-04-05.678901", "2026-02-02T03-04-05.678901", "2026-03-03T00-00-00"


def _samples(folder: Path, task: str, date: str, said: str = "4", **more: Any) -> Path:
    return write(folder / f"samples_{task}_{date}.jsonl", [generation(i, said, **more) for i in range(3)])


def _results(folder: Path, date: str, *tasks: str, name: str = "results", **more: Any) -> Path:
    path = folder / f"{name}_{date}.json"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"configs": {task: {} for task in tasks}, **more}), encoding="utf-8")
    return path


def _old(folder: Path, arguments: str, *tasks: str) -> None:
    for task in tasks:
        write_array(folder / f"{arguments}_{task}.jsonl", [with_plain_values(generation(i, "4")) for i in range(3)])
    (folder / "results.json").write_text(json.dumps({"configs": {task: {} for task in tasks}}), encoding="utf-8")


def _means(path: Path, **options: Any) -> dict[str, float]:
    return {name: float(task.values().mean()) for name, task in read(path, **options).tasks.items()}


def _refusal(path: Path, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        read(path, **options)
    message = str(caught.value)
    assert str(path) in message, "the message does not name the folder"
    assert len(message.splitlines()) == 1
    return message


def _files(path: Path, **options: Any) -> list[str]:
    return [Path(file).name for file in read(path, **options).origin.files]


def test_the_files_that_were_read_are_known_and_no_others(tmp_path: Path) -> None:
    assert _files(FOLDER / "tiny-v1", tasks="piqa_local") == [
        f"samples_piqa_local_{DATES['tiny-v1']}.jsonl",
        f"results_{DATES['tiny-v1']}.json",
    ]
    _samples(tmp_path / "v1", "quiz", FIRST)
    _samples(tmp_path / "v1", "quiz", SECOND)
    _results(tmp_path / "v1", SECOND, "quiz")
    assert _files(tmp_path / "v1") == [f"samples_quiz_{SECOND}.jsonl", f"results_{SECOND}.json"], "not the older run"
    (tmp_path / "wide.csv").write_text("id,reference,v1\n1,A,A\n", encoding="utf-8")
    assert read(f"{tmp_path / 'wide.csv'}:v1").origin.files == (str(tmp_path / "wide.csv"),)
    details = lighteval_details.run_file(tmp_path / "l", "v1", FIRST)
    lighteval_details.write(details, [lighteval_details.detail(0, response={"text": ["a"]}, em=1)])
    assert read(details).origin.files == (str(details),)


def test_compressed_samples_are_those_of_their_run(tmp_path: Path) -> None:
    plain, packed = tmp_path / "v1", tmp_path / "v2"
    file = _samples(plain, "quiz", FIRST)
    _samples(packed, "quiz", FIRST, said="5").unlink()
    (packed / f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
    _results(packed, FIRST, "quiz", **{"n-samples": {"quiz": {"effective": 3}}})
    before, after = (read(folder).tasks["quiz"] for folder in (plain, packed))
    assert before.values().tolist() == after.values().tolist() == [1, 1, 1]
    places = np.array([2, 0])
    assert before.read_texts(places) == after.read_texts(places)
    assert _files(packed) == [f"{file.name}.gz", f"results_{FIRST}.json"]


# Which runs ----------------------------------------------------------------------------------------------------------


def test_the_output_path_and_the_folder_of_the_model_are_the_same_run() -> None:
    outer, inner = (
        compare_runs(FOLDER / "tiny-v1", FOLDER / "tiny-v2"),
        compare_runs(model_folder("tiny-v1"), model_folder("tiny-v2")),
    )
    assert (
        (outer.old_name, outer.new_name)
        == (inner.old_name, inner.new_name)
        == (
            "models__tiny-v1",
            "models__tiny-v2",
        )
    )
    assert [part.n for part in outer.tasks] == [part.n for part in inner.tasks] == [100] * 3


def test_a_folder_named_by_a_dot_still_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _samples(tmp_path / "model", "piqa", FIRST)
    monkeypatch.chdir(tmp_path / "model")
    assert read(".").name == "model"


def test_tasks_that_only_one_folder_has_are_named(tmp_path: Path) -> None:
    for folder, tasks in (("v1", ("piqa", "arc")), ("v2", ("piqa", "boolq"))):
        for task in tasks:
            _samples(tmp_path / folder, task, FIRST)
    result = compare_runs(tmp_path / "v1", tmp_path / "v2")
    assert [part.name for part in result.tasks] == ["piqa"]
    assert result.not_compared == {"arc": f"{tmp_path / 'v2'} lacks it"}
    assert f"only in {tmp_path / 'v2'}, not compared: boolq" in result.notes


@pytest.mark.parametrize("suffixes", [("json", "json"), ("json", "jsonl"), ("jsonl", "json")], ids="-".join)
def test_samples_named_json_are_found_in_folders(suffixes: tuple[str, str], tmp_path: Path) -> None:
    """The harness of April to June 2024 named them so, and with it the Open LLM Leaderboard."""
    for model, suffix, said in (("v1", suffixes[0], "4"), ("v2", suffixes[1], "5")):
        folder = tmp_path / model / f"org__{model}"
        _results(folder, FIRST, "leaderboard_x", higher_is_better={"leaderboard_x": {"exact_match": True}})
        written = _samples(folder, "leaderboard_x", FIRST, said)
        written.rename(written.with_suffix(f".{suffix}"))
    result = compare_runs(tmp_path / "v1", tmp_path / "v2")
    assert [part.name for part in result.tasks] == ["leaderboard_x"]
    assert result.tasks[0].comparison.negative_flips.tolist() == [0, 1, 2]
    assert not result.notes


@pytest.mark.parametrize("name", ["results", "out"])
def test_samples_named_json_are_not_taken_for_the_results_of_their_run(name: str, tmp_path: Path) -> None:
    # Sorted by name, these samples come before both files of results.
    for task in ("a_ter", "ter"):
        path = _samples(tmp_path, task, FIRST, ter=0.5)
        path.rename(path.with_suffix(".json"))
    _results(tmp_path, FIRST, "ter", "a_ter", name=name, higher_is_better={"ter": {"ter": False}})
    for source in (tmp_path, tmp_path / f"samples_ter_{FIRST}.json"):
        found = read(source).tasks["ter"]
        assert found.higher_is_better is False
        assert not found.notes


def test_the_newest_run_of_each_task_is_read_and_a_note_says_so(tmp_path: Path) -> None:
    _samples(tmp_path, "piqa", SECOND, "5")
    _samples(tmp_path, "piqa", FIRST)
    _samples(tmp_path, "arc", FIRST)
    assert _means(tmp_path) == {"arc": 1.0, "piqa": 0.0}
    assert read(tmp_path).notes == (
        f"{tmp_path}: 1 task was run more than once; the newest run of each is compared (see --run)",
    )


@pytest.mark.parametrize("later", [THIRD, THIRD.replace("-", ":").replace(":", "-", 2)])
def test_a_date_without_fractions_or_with_colons_is_a_date(tmp_path: Path, later: str) -> None:
    _samples(tmp_path, "piqa", SECOND)
    _samples(tmp_path, "piqa", later, "5")
    assert _means(tmp_path) == {"piqa": 0.0}


def test_a_run_is_chosen_by_the_beginning_of_its_date(tmp_path: Path) -> None:
    for date, said in ((FIRST, "4"), (SECOND, "5"), (THIRD, "6")):
        _samples(tmp_path, "piqa", date, said)
    assert _means(tmp_path, run="2026-01") == {"piqa": 1.0}
    assert read(tmp_path, run="2026-01").notes == ()
    message = _refusal(tmp_path, run="2025")
    assert message.endswith(f"no run '2025'; it has {FIRST}, {SECOND}, {THIRD}.")


def test_two_runs_of_one_folder_can_be_compared(tmp_path: Path) -> None:
    _samples(tmp_path, "piqa", FIRST)
    _samples(tmp_path, "piqa", SECOND, "5")
    part = compare_runs(tmp_path, tmp_path, run=("2026-01", "2026-02")).tasks[0]
    assert len(part.comparison.negative_flips) == 3


def test_a_task_with_a_name_like_a_date_or_with_underscores_keeps_its_name(tmp_path: Path) -> None:
    names = ["mmlu_abstract_algebra", f"copy_{FIRST}", "arc:challenge|25"]
    for name in names:
        _samples(tmp_path, name, SECOND)
    assert list(read(tmp_path).tasks) == sorted(names)


def test_files_of_other_kinds_and_folders_with_such_names_are_passed_over(tmp_path: Path) -> None:
    _samples(tmp_path, "piqa", FIRST)
    (tmp_path / f"samples_arc_{FIRST}.jsonl").mkdir()
    (tmp_path / "results.json").mkdir()
    (tmp_path / "notes.json").write_text("not json", encoding="utf-8")
    (tmp_path / "other.jsonl").write_text("not json", encoding="utf-8")
    assert list(read(tmp_path).tasks) == ["piqa"]


def test_several_models_are_refused_with_their_names(tmp_path: Path) -> None:
    for model in ("org__v1", "org__v2"):
        _samples(tmp_path / model, "piqa", FIRST)
    assert "the runs of 2 models (org__v1, org__v2); name the folder of one" in _refusal(tmp_path)


def test_both_harnesses_in_a_folder_are_refused(tmp_path: Path) -> None:
    _samples(tmp_path / "a", "piqa", FIRST)
    path = lighteval_details.run_file(tmp_path / "b", "v1", FIRST)
    lighteval_details.write(path, [lighteval_details.detail(0, response={"text": ["a"]}, em=1)])
    assert "holds runs of lm-evaluation-harness and of lighteval" in _refusal(tmp_path)


@pytest.mark.parametrize("files", [(), ("answers.csv",), (f"results_{FIRST}.json",), ("samples_piqa.jsonl",)])
def test_a_folder_without_samples_says_how_to_log_them(tmp_path: Path, files: tuple[str, ...]) -> None:
    for name in files:
        (tmp_path / name).write_text("{}", encoding="utf-8")
    assert "run it with --log_samples" in _refusal(tmp_path)


@pytest.mark.parametrize("option", [{"columns": {"id": "x"}}, {"config": "x"}, {"split": "test"}])
def test_options_of_tables_are_refused_and_not_ignored(tmp_path: Path, option: Row) -> None:
    _samples(tmp_path, "piqa", FIRST)
    assert f"{next(iter(option))}=" in _refusal(tmp_path, **option)


def test_a_metric_that_only_some_tasks_have_skips_the_others_with_the_reason(tmp_path: Path) -> None:
    _samples(tmp_path, "piqa", FIRST, f1=0.5)
    _samples(tmp_path, "arc", FIRST)
    run = read(tmp_path, metric="f1")
    assert list(run.tasks) == ["piqa"]
    assert run.not_compared == {"arc": "there is no metric 'f1'; usable: 'exact_match'."}
    with pytest.raises(InputError, match=r"none of the tasks can be compared.*'bleu'"):
        read(tmp_path, metric="bleu")


def test_a_fault_in_one_task_does_not_stop_the_others_and_alone_is_the_error_it_was(tmp_path: Path) -> None:
    piqa, path = _samples(tmp_path, "piqa", FIRST), _samples(tmp_path, "arc", FIRST)
    path.write_bytes(path.read_bytes()[:-10])
    run = read(tmp_path)
    assert list(run.tasks) == ["piqa"]
    assert re.search(r"line 3 is not JSON .* was it cut off", run.not_compared["arc"])
    piqa.unlink()
    for alone in (path, tmp_path):
        with pytest.raises(InputError, match=re.escape(run.not_compared["arc"])):
            read(alone)


def test_a_filter_that_only_some_tasks_have_leaves_those_without_filters_in(tmp_path: Path) -> None:
    two = [
        generation(i, "4", "4" if name == "strict" else "5", name=name) for name in ("strict", "loose") for i in (0, 1)
    ]
    write(tmp_path / f"samples_gsm_{FIRST}.jsonl", two)
    write(tmp_path / f"samples_other_{FIRST}.jsonl", [generation(0, "4", name="maj@8")])
    _samples(tmp_path, "piqa", FIRST)
    run = read(tmp_path, filter="loose")
    assert {name: float(task.values().mean()) for name, task in run.tasks.items()} == {"gsm": 0.0, "piqa": 1.0}
    assert run.not_compared == {"other": "there is no filter 'loose'; it has 'maj@8'."}


def test_a_filter_that_no_task_has_is_refused_and_not_passed_over(tmp_path: Path) -> None:
    for task in ("piqa", "arc"):
        _samples(tmp_path, task, FIRST)
    assert _refusal(tmp_path, filter="losse").endswith("has no task with a filter 'losse'.")
    (tmp_path / f"samples_arc_{FIRST}.jsonl").unlink()
    assert "has no task with a filter 'losse'" in _refusal(tmp_path, filter="losse")


def test_hundreds_of_models_and_runs_make_a_short_message(tmp_path: Path) -> None:
    for number in range(200):
        _samples(tmp_path / "one", "piqa", f"2026-01-02T03-04-05.{number:06}")
    assert len(_refusal(tmp_path / "one", run="2025")) < 1500
    for number in range(200):
        _samples(tmp_path / f"org__model-{number}", "piqa", FIRST)
    message = _refusal(tmp_path)
    assert "the runs of 201 models (one, org__model-0, " in message and "(201 in all)" in message
    assert len(message) < 1500


# Results files -------------------------------------------------------------------------------------------------------


def test_without_a_results_file_samples_are_read_all_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "v1"
    shutil.copytree(model_folder("tiny-v1"), folder)
    wanted = _means(folder)
    (folder / f"results_{DATES['tiny-v1']}.json").unlink()
    assert _means(folder) == wanted


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (b'{"configs": {', "cannot be read as the results file"),
        (b"\xff\xfe", "cannot be read as the results file"),
        (b"", "cannot be read as the results file"),
        (b"[" * 100_000, "cannot be read as the results file"),
        (b"[]", "holds an array where"),
        (b"null", "holds null where"),
        (b'{"configs": [1]}', "holds an array where"),
        (b'{"configs": {"piqa": {}}, "higher_is_better": "yes"}', "holds 'yes' where"),
        (b'{"configs": {"piqa": [1]}}', "what it says of the task piqa is not what"),
        (b'{"configs": {"piqa": {"metric_list": ["acc"]}}}', "what it says of the task piqa is not what"),
        (b'{"configs": {"piqa": {"filter_list": [{}]}}}', "what it says of the task piqa is not what"),
    ],
)
def test_a_broken_results_file_is_named_with_what_to_do(tmp_path: Path, text: bytes, fault: str) -> None:
    _samples(tmp_path, "piqa", FIRST)
    path = tmp_path / f"results_{FIRST}.json"
    path.write_bytes(text)
    message = _refusal(tmp_path)
    assert fault in message and str(path) in message and "emove it" in message


def test_a_results_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    _samples(tmp_path, "piqa", FIRST)
    path = _results(tmp_path, FIRST, "piqa", higher_is_better={"piqa": {"exact_match": False}})
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read(tmp_path).tasks["piqa"].higher_is_better is False


def test_the_results_file_of_the_same_run_is_asked_and_not_a_newer_one(tmp_path: Path) -> None:
    _samples(tmp_path, "piqa", FIRST)
    _results(tmp_path, FIRST, "piqa", higher_is_better={"piqa": {"exact_match": False}})
    _results(tmp_path, SECOND, "piqa").write_text("broken", encoding="utf-8")
    assert read(tmp_path).tasks["piqa"].higher_is_better is False


def test_an_output_path_that_named_the_results_file_is_understood(tmp_path: Path) -> None:
    # --output_path out/mine.json makes mine_<date>.json.
    _samples(tmp_path, "piqa", FIRST)
    _results(tmp_path, FIRST, "piqa", name="mine", higher_is_better={"piqa": {"exact_match": False}})
    assert read(tmp_path).tasks["piqa"].higher_is_better is False


# Versions up to 0.4.2 ------------------------------------------------------------------------------------------------


def test_a_folder_of_an_old_version_is_read(tmp_path: Path) -> None:
    _old(tmp_path, "pretrained__org__v1", "piqa", "x_piqa", "arc")
    assert list(read(tmp_path).tasks) == ["arc", "piqa", "x_piqa"]


def test_old_samples_of_several_models_are_refused_and_none_is_picked(tmp_path: Path) -> None:
    for arguments in ("pretrained__v1", "pretrained__v2"):
        _old(tmp_path, arguments, "piqa")
    assert "the runs of 2 models (pretrained__v1, pretrained__v2); name a file" in _refusal(tmp_path)
    assert list(read(tmp_path / "pretrained__v1_piqa.jsonl").tasks) == ["piqa"]


def test_an_old_output_path_that_named_the_results_file_is_understood(tmp_path: Path) -> None:
    # --output_path out/mine.json makes mine.json, and the samples beside it.
    _old(tmp_path, "pretrained__v1", "piqa")
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    (tmp_path / "results.json").unlink()
    results["configs"]["piqa"]["metric_list"] = [{"metric": "exact_match", "higher_is_better": False}]
    (tmp_path / "mine.json").write_text(json.dumps(results), encoding="utf-8")
    (tmp_path / "broken.json").write_text("{", encoding="utf-8")
    (tmp_path / "other.json").write_text("[]", encoding="utf-8")
    for path in (tmp_path, tmp_path / "pretrained__v1_piqa.jsonl"):
        (task,) = read(path).tasks.values()
        assert (task.task, task.higher_is_better) == ("piqa", False)


def test_results_of_something_else_are_passed_over(tmp_path: Path) -> None:
    _samples(tmp_path, "piqa", FIRST)
    (tmp_path / "results.json").write_text("broken", encoding="utf-8")
    assert list(read(tmp_path).tasks) == ["piqa"]


def test_an_old_folder_without_its_results_file_says_how_to_go_on(tmp_path: Path) -> None:
    _old(tmp_path, "pretrained__v1", "piqa")
    (tmp_path / "results.json").unlink()
    assert "name a file" in _refusal(tmp_path)
    assert list(read(tmp_path / "pretrained__v1_piqa.jsonl").tasks) == ["pretrained__v1_piqa"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the administrator may read everything")
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    path = _samples(tmp_path, "piqa", FIRST)
    path.chmod(0)
    with pytest.raises(InputError, match="cannot be read"):
        read(tmp_path)


def test_a_folder_of_tables_names_them(tmp_path: Path) -> None:
    for name in ("v1.csv", "v2.csv", "notes.txt"):
        (tmp_path / name).write_text("id,prediction,reference\n1,a,a\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"name a file \(there are v1\.csv, v2\.csv\), or the folder"):
        read(tmp_path)
