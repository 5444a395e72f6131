"""Results of human-eval, EvalPlus and BigCodeBench, in the shapes that their `evaluate` writes."""

import json
from pathlib import Path
from typing import Any

import pytest

from muscle_hf import InputError, compare_runs, read

# Problem -> whether each of its samples passes the tests of the data set, and those of EvalPlus.
OLD = {"HumanEval/0": [(1, 1)], "HumanEval/1": [(1, 1)], "HumanEval/2": [(1, 0)], "HumanEval/10": [(0, 0)]}
NEW = {"HumanEval/0": [(1, 0)], "HumanEval/1": [(1, 1)], "HumanEval/2": [(1, 1)], "HumanEval/10": [(0, 1)]}
SAMPLED = {"HumanEval/0": [(0, 0)] * 10, "HumanEval/1": [(1, 1)] * 9 + [(0, 0)], "HumanEval/2": [(1, 0)] * 10}

Outcomes = dict[str, list[tuple[int, int]]]


def _human_eval(file: Path, outcomes: Outcomes) -> Path:
    lines = [
        {
            "task_id": problem,
            "completion": f"    return {n}\n",
            "result": "passed" if base else "timed out",
            "passed": bool(base),
        }
        for problem, samples in outcomes.items()
        for n, (base, _) in enumerate(samples)
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def _sample(problem: str, base: int, plus: int, base_only: bool) -> dict[str, Any]:
    return {
        "task_id": problem,
        "solution": "def f():\n    return 1\n",
        "base_status": "pass" if base else "fail",
        "plus_status": None if base_only else "pass" if plus else "timeout",
        "base_fail_tests": [] if base else [[1, 2]],
        "plus_fail_tests": [],
    }


def _evalplus(file: Path, outcomes: Outcomes, *, base_only: bool = False) -> Path:
    held = {p: [_sample(p, *sample, base_only) for sample in samples] for p, samples in outcomes.items()}
    file.write_text(json.dumps({"date": "2026-11-30 00:00", "hash": "abc", "eval": held}))
    return file


def _evalplus_0_2_0(file: Path, outcomes: Outcomes, *, base_only: bool = False) -> Path:
    held = {
        problem: {
            "nfiles": len(samples),
            "base": [["success", [True]] if base else ["failed", [False]] for base, _ in samples],
            "plus": [] if base_only else [["success", [True]] if plus else ["timed out", []] for _, plus in samples],
        }
        for problem, samples in outcomes.items()
    }
    file.write_text(json.dumps({"date": "2023-06-01 00:00", "hash": "abc", "eval": held}))
    return file


def _bigcodebench(file: Path, outcomes: Outcomes) -> Path:
    held = {
        problem: [
            {"task_id": problem, "solution": "x", "status": "pass" if base else "fail", "details": {}}
            for base, _ in samples
        ]
        for problem, samples in outcomes.items()
    }
    file.write_text(json.dumps({"date": "2026-11-30 00:00", "eval": held}, indent=2))
    return file


def _expected(metric: str) -> tuple[int, int]:
    """Count what is broken and repaired straight from the outcomes above."""
    passes = [
        {problem: base and (plus or metric == "base") for problem, [(base, plus)] in side.items()}
        for side in (OLD, NEW)
    ]
    broken = sum(bool(passes[0][problem] and not passes[1][problem]) for problem in OLD)
    return broken, sum(bool(passes[1][problem] and not passes[0][problem]) for problem in OLD)


@pytest.mark.parametrize(
    ("write", "options", "metric", "counted_as"),
    [
        (_human_eval, {}, "passed", "base"),
        (_evalplus, {}, "plus", "plus"),
        (_evalplus, {"metric": "base"}, "base", "base"),
        (_evalplus_0_2_0, {}, "plus", "plus"),
        (_evalplus_0_2_0, {"metric": "base"}, "base", "base"),
        (_bigcodebench, {}, "passed", "base"),
    ],
)
def test_counts_are_those_of_the_statuses(
    tmp_path: Path, write: Any, options: dict[str, Any], metric: str, counted_as: str
) -> None:
    result = compare_runs(
        write(tmp_path / "old_results.jsonl", OLD), write(tmp_path / "new_results.jsonl", NEW), **options
    )
    part = result.overall.comparison
    assert result.overall.metric == metric
    assert (len(part.negative_flips), len(part.positive_flips)) == _expected(counted_as)


@pytest.mark.parametrize("write", [_evalplus, _evalplus_0_2_0])
def test_without_the_tests_of_evalplus_those_of_the_data_set_count(tmp_path: Path, write: Any) -> None:
    task = read(write(tmp_path / "eval_results.json", OLD, base_only=True)).tasks["HumanEval"]
    assert task.metric == "base"


@pytest.mark.parametrize("write", [_human_eval, _evalplus, _evalplus_0_2_0, _bigcodebench])
def test_several_samples_of_a_problem_are_sampled_answers(tmp_path: Path, write: Any) -> None:
    task = read(write(tmp_path / "x_results.json", SAMPLED)).tasks["HumanEval"]
    assert task.ids.to_pylist() == list(SAMPLED)
    assert task.samples is not None and task.samples.tolist() == [10, 10, 10]
    assert task.scores is not None and task.scores.tolist()[:2] == [0.0, 0.9]


def test_a_folder_has_a_task_for_each_set_of_problems_whatever_its_files_are_called(tmp_path: Path) -> None:
    mbpp = {problem.replace("HumanEval", "Mbpp"): samples for problem, samples in OLD.items()}
    for model in ("v1", "v2"):
        folder = tmp_path / model
        folder.mkdir()
        _evalplus(folder / f"{model}_vllm_temp_0.0_eval_results.json", OLD if model == "v1" else NEW)
        _evalplus(folder / f"{model}-mbpp_eval_results.json", mbpp)
        (folder / f"{model}.jsonl").write_text('{"task_id": "HumanEval/0", "solution": "x"}\n')
    assert [part.name for part in compare_runs(tmp_path / "v1", tmp_path / "v2").tasks] == ["HumanEval", "Mbpp"]


def test_completions_that_nobody_has_run_are_refused_with_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "samples.jsonl"
    file.write_text('{"task_id": "HumanEval/0", "completion": "pass"}\n')
    with pytest.raises(InputError, match="not whether they pass the tests: evaluate them with human-eval"):
        read(file)


def test_a_status_that_evalplus_does_not_write_is_not_taken_for_a_failure(tmp_path: Path) -> None:
    file = _evalplus(tmp_path / "eval_results.json", OLD)
    file.write_text(file.read_text().replace('"fail"', '"crashed"'))
    with pytest.raises(InputError, match=r"is not results as EvalPlus writes it \(KeyError: 'crashed'\)"):
        read(file)


def test_a_line_without_its_outcome_is_refused_with_its_place(tmp_path: Path) -> None:
    file = _human_eval(tmp_path / "x_results.jsonl", OLD)
    file.write_text(file.read_text().replace('"passed": false', '"passed": null'))
    with pytest.raises(InputError, match="line 4: passed is None; true or false is needed"):
        read(file)


def test_a_table_with_a_column_task_id_stays_a_table(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text('{"task_id": "a", "completion": "7", "gold": "7"}\n')
    columns = {"id": "task_id", "prediction": "completion", "reference": "gold"}
    assert read(file, columns=columns).tasks["x"].metric == "accuracy"
