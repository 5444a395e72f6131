"""Samples that are not all that their run scored are refused with both counts and both scores; whole ones never."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lighteval_details
import numpy as np
import pytest
from harness_samples import FOLDER, generation, with_plain_values, without_filter, write, write_array

from muscle_hf import InputError, compare_runs, read
from muscle_hf.cli import main
from muscle_hf.readers.formats.whole_run import harness_says

DATE = "2026-01-02T03-04-05.678901"
N = 8
MEAN = {"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}


def _rows(n: int = N, right: int = 2, **more: Any) -> list[dict[str, Any]]:
    return [generation(i, "4" if i < right else "5", **more) for i in range(n)]


def _results(folder: Path, *, name: str = f"results_{DATE}.json", **parts: Any) -> None:
    said: dict[str, Any] = {
        "results": {"gsm": {"alias": "gsm", "exact_match,none": 2 / N, "exact_match_stderr,none": 0.1}},
        "configs": {"gsm": {"task": "gsm", "metric_list": [MEAN]}},
        "n-samples": {"gsm": {"original": N, "effective": N}},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(said | {key.replace("_", "-"): value for key, value in parts.items()}))


def _run(folder: Path, rows: list[dict[str, Any]] | None = None, **parts: Any) -> Path:
    write(folder / f"samples_gsm_{DATE}.jsonl", _rows() if rows is None else rows)
    _results(folder, **parts)
    return folder


def _cut(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3]))


def _twice(path: Path) -> None:
    path.write_bytes(path.read_bytes() * 2)


def _changed(path: Path) -> None:
    write(path, _rows(right=3))


FAULTS: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "cut": (_cut, ("holds 3 samples", "says that 8 were scored", "exact_match 0.25 there and 0.6667 here")),
    "twice": (_twice, ("holds 16 samples", "says that 8 were scored", "written to twice")),
    "changed": (_changed, ("exact_match is 0.375 here and 0.25 there",)),
}


@pytest.mark.slow
@pytest.mark.parametrize("as_files", [False, True])
@pytest.mark.parametrize("sides", [("v1",), ("v2",), ("v1", "v2")])
@pytest.mark.parametrize("fault", FAULTS)
def test_samples_that_are_not_what_the_run_scored_are_refused(
    tmp_path: Path, fault: str, sides: tuple[str, ...], as_files: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, told = FAULTS[fault]
    paths = []
    for name in ("v1", "v2"):
        file = _run(tmp_path / name) / f"samples_gsm_{DATE}.jsonl"
        if name in sides:
            spoil(file)
        paths.append(str(file if as_files else file.parent))
    assert main(["compare", *paths, "--max-nfr", "0.5"]) == 2
    err = capsys.readouterr().err
    for words in told:
        assert err.count(words) == len(sides), words
    for name in ("v1", "v2"):
        assert (str(tmp_path / name / f"results_{DATE}.json") in err) == (name in sides)
    # A file that was written to twice cannot be compared whatever is allowed.
    assert ("--allow-missing" in err) == (fault != "twice")
    if fault != "twice" and len(sides) == (2 if fault == "cut" else len(sides)):
        assert main(["compare", *paths, "--allow-missing"]) == 0
        assert told[0] in capsys.readouterr().out, "a note says what was accepted"


def test_a_cut_task_among_others_is_listed(tmp_path: Path) -> None:
    for name in ("v1", "v2"):
        write(_run(tmp_path / name) / f"samples_arc_{DATE}.jsonl", _rows())
        _cut(tmp_path / name / f"samples_gsm_{DATE}.jsonl")
    result = compare_runs(tmp_path / "v1", tmp_path / "v2")
    assert [part.name for part in result.tasks] == ["arc"]
    assert "holds 3 samples" in result.not_compared["gsm"]


def test_a_task_whose_samples_are_lost_on_both_sides_is_listed(tmp_path: Path) -> None:
    counts = {"gsm": {"effective": N}, "arc": {"effective": N}, "m/m:a": {"effective": N}}
    for name in ("v1", "v2"):
        write(_run(tmp_path / name, n_samples=counts) / f"samples_m_m_a_{DATE}.jsonl", _rows())
        _results(tmp_path / name, name="results_2026-09-09T03-04-05.678901.json", n_samples={"other": {}})
    result = compare_runs(tmp_path / "v1", tmp_path / "v2")
    assert [part.name for part in result.tasks] == ["gsm", "m_m_a"]
    assert list(result.not_compared) == ["arc"], "the task of another run is none of this one"
    assert "says that it was scored, but its samples are not there" in result.not_compared["arc"]
    assert compare_runs(tmp_path / "v1", tmp_path / "v2", tasks="gsm").not_compared == {}
    folder = tmp_path / "v1" / f"samples_gsm_{DATE}.jsonl"
    assert compare_runs(folder, folder).not_compared == {}


def test_a_cut_run_makes_no_seed_floor(tmp_path: Path) -> None:
    old, new, *seeds = (_run(tmp_path / name) for name in ("v1", "v2", "s1", "s2"))
    _changed(seeds[0] / f"samples_gsm_{DATE}.jsonl")
    with pytest.raises(InputError, match=r"none of the tasks has a seed floor: the samples of .* are not those"):
        compare_runs(old, new, seed_floor=seeds)
    assert compare_runs(old, new, seed_floor=seeds, allow_missing=True).tasks[0].seed_floor is not None


# What is whole -------------------------------------------------------------------------------------------------------

# A run that was made rightly: its samples, and what its results file says otherwise than that of `_results`.
WHOLE: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "as it is": (_rows(), {}),
    "a limit": (_rows(), {"n_samples": {"gsm": {"original": 100, "effective": N}}}),
    "no counts": (_rows(), {"n_samples": {}}),
    "nothing at all": (_rows(), {"results": {}, "n_samples": None}),
    "rounded": (_rows(3, 1), {"results": {"gsm": {"exact_match,none": 0.3333}}, "n_samples": {}}),
    "rounded to three decimals": (_rows(3, 1), {"results": {"gsm": {"exact_match,none": 0.333}}, "n_samples": {}}),
    "instances chosen one by one": (
        [generation(i, "4") for i in (3, 70, 90)],
        {"results": {"gsm": {"exact_match,none": 1.0}}, "n_samples": {"gsm": {"original": 100, "effective": 100}}},
    ),
    "instances chosen one by one, and counted": (
        [generation(i, "4") for i in range(3)],
        {
            "results": {"gsm": {"exact_match,none": 1.0, "sample_len": 3}},
            "n_samples": {"gsm": {"original": 100, "effective": 100}},
        },
    ),
    "another metric that only some instances have": (
        _rows(),
        {"results": {"gsm": {"exact_match,none": 2 / N, "sample_len": 3}}},
    ),
    "two filters": (
        [*_rows(name="strict"), *_rows(right=5, name="loose")],
        {"results": {"gsm": {"exact_match,strict": 2 / N, "exact_match,loose": 5 / N}}},
    ),
    "no mean": (
        _rows(),
        {
            "results": {"gsm": {"exact_match,none": 0.9}},
            "configs": {"gsm": {"metric_list": [{"metric": "exact_match", "aggregation": "f1"}]}},
        },
    ),
    "a function": (
        _rows(),
        {
            "results": {"gsm": {"exact_match,none": 0.9}},
            "configs": {"gsm": {"metric_list": [{"metric": "exact_match", "aggregation": "<function agg at 0x7f>"}]}},
        },
    ),
    "a metric whose mean nothing is": (
        _rows(score=1.0),
        {"results": {"gsm": {"score,none": 3.0}}, "configs": {"gsm": {"metric_list": [{"metric": "score"}]}}},
    ),
    "no configuration of its metrics": (
        _rows(),
        {"results": {"gsm": {"exact_match,none": 0.9}}, "configs": {"gsm": {}}},
    ),
    "no number": (_rows(), {"results": {"gsm": {"exact_match,none": "N/A"}}}),
    "another run": (
        _rows(),
        {"name": "results_2026-09-09T03-04-05.678901.json", "n_samples": {"gsm": {"effective": 99}}},
    ),
    "a group beside it": (
        _rows(),
        {"results": {"gsm": {"exact_match,none": 2 / N}, "all": {"exact_match,none": 0.9}}},
    ),
    "a group that is counted too": (
        _rows(),
        {
            "groups": {"all": {"exact_match,none": 2 / N}},
            "n_samples": {name: {"original": N, "effective": N} for name in ("gsm", "all")},
        },
    ),
}


@pytest.mark.parametrize("case", WHOLE)
def test_a_run_that_was_made_rightly_is_never_refused(tmp_path: Path, case: str) -> None:
    rows, parts = WHOLE[case]
    folder = _run(tmp_path / "v1", rows, **parts)
    (task,) = read(folder).tasks.values()
    assert task.not_whole is None and not read(folder).not_compared
    assert compare_runs(folder, folder, run=DATE[:7]).tasks[0].n == len(task)


def test_real_runs_are_whole() -> None:
    for model in ("tiny-v1", "tiny-v2"):
        for options in ({}, {"metric": "acc_norm"}, {"filter": "flexible-extract"}):
            for task in read(FOLDER / model, **options).tasks.values():  # type: ignore[arg-type]
                assert task.not_whole is None


@pytest.mark.parametrize("right", range(N + 1))
@pytest.mark.parametrize("kept", range(1, N))
def test_no_beginning_of_a_file_passes_for_the_whole(tmp_path: Path, kept: int, right: int) -> None:
    results = {"gsm": {"exact_match,none": right / N}}
    task = read(_run(tmp_path, _rows(right=right)[:kept], results=results)).tasks["gsm"]
    assert task.not_whole and f"holds {kept} samples" in task.not_whole


# lighteval -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("key", ["leaderboard|arc:challenge|25", "arc:challenge|25", "leaderboard|arc:challenge"])
@pytest.mark.parametrize(("count", "whole"), [(3, True), (4, False), (2, False), (-1, True), (None, True)])
def test_details_of_lighteval_are_counted_too(tmp_path: Path, count: int | None, whole: bool, key: str) -> None:
    rows = [lighteval_details.detail(i, response={"logprobs": [0.0, -1.0]}, acc=1) for i in range(3)]
    file = lighteval_details.write(lighteval_details.run_file(tmp_path, "org/v1", DATE), rows)
    results = tmp_path / "results" / "org" / "v1" / f"results_{DATE}.json"
    results.parent.mkdir(parents=True)
    results.write_text(json.dumps({"config_tasks": {"other|3": 1, key: {"effective_num_docs": count}}}))
    for source in (tmp_path, tmp_path / "details", file.parent, file):
        (task,) = read(source).tasks.values()
        assert (task.not_whole is None) == whole
        assert whole or (
            str(results) in str(task.not_whole) and f"says that {count} were scored" in str(task.not_whole)
        )


@pytest.mark.parametrize("text", ["", "[]", "{", '{"config_tasks": 3}', '{"config_tasks": {"arc:challenge|25": 3}}'])
def test_a_results_file_of_lighteval_that_says_nothing_is_passed_over(tmp_path: Path, text: str) -> None:
    rows = [lighteval_details.detail(0, response={"logprobs": [0.0, -1.0]}, acc=1)]
    file = lighteval_details.write(lighteval_details.run_file(tmp_path, "v1", DATE), rows)
    (file.parent / f"results_{DATE}.json").write_text(text)
    assert next(iter(read(file).tasks.values())).not_whole is None


# Old versions --------------------------------------------------------------------------------------------------------


def test_the_middle_form_is_checked_by_the_name_of_its_filter(tmp_path: Path) -> None:
    rows = [without_filter(row) for row in (*_rows(name="a"), *_rows(right=5, name="b"))]
    config = {"gsm": {"metric_list": [MEAN], "filter_list": [{"name": "a"}, {"name": "b"}]}}
    for second, whole in ((5, True), (4, False)):
        results = {"gsm": {"exact_match,a": 2 / N, "exact_match,b": second / N}}
        folder = _run(tmp_path, rows, configs=config, results=results)
        assert read(folder).tasks["gsm"].not_whole is None
        assert (read(folder, filter="b").tasks["gsm"].not_whole is None) == whole


def test_the_first_form_is_checked_by_its_score(tmp_path: Path) -> None:
    path = tmp_path / "pretrained__v1_gsm.jsonl"
    _results(tmp_path, name="results.json", n_samples={})
    write_array(path, [with_plain_values(row) for row in _rows()])
    assert read(path).tasks["gsm"].not_whole is None
    write_array(path, [with_plain_values(row) for row in _rows(3)])
    assert "exact_match is 0.666667 here and 0.25 there" in str(read(path).tasks["gsm"].not_whole)


def test_a_results_file_that_two_models_share_says_nothing_of_the_first(tmp_path: Path) -> None:
    for model, right in (("v1", 2), ("v2", 5)):
        write_array(tmp_path / f"pretrained__{model}_gsm.jsonl", [with_plain_values(r) for r in _rows(right=right)])
    _results(tmp_path, name="results.json", results={"gsm": {"exact_match,none": 5 / N}}, n_samples={})
    for model in ("v1", "v2"):
        assert read(tmp_path / f"pretrained__{model}_gsm.jsonl").tasks["gsm"].not_whole is None


def test_scores_that_are_no_numbers_are_left_to_the_comparison(tmp_path: Path) -> None:
    rows = _rows()
    rows[0]["exact_match"] = float("nan")
    task = read(_run(tmp_path, rows)).tasks["gsm"]
    assert task.not_whole is None and np.isnan(task.scores).any()  # type: ignore[arg-type]


def test_a_limited_run_has_as_many_instances_as_were_scored() -> None:
    results = {"configs": {"arc": {}}, "n-samples": {"arc": {"original": 9, "effective": 3}}}
    said = harness_says(results, "arc", "results.json", of_this_run=True)
    assert (said.counts, said.may_be_chosen) == ((3,), True)
    assert harness_says(results, "arc", "results.json", of_this_run=False).counts == ()
