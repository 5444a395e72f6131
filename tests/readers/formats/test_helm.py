"""Runs of HELM: lists of several classes of metrics, trials, perturbations, splits, and the files beside them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from muscle_hf import InputError, compare_runs, read
from muscle_hf.readers.answers import TaskAnswers

TYPOS = {"name": "misspellings", "robustness": True, "fairness": False, "computed_on": "perturbed"}


def _stat(name: str, value: float | None, *, split: str = "test", perturbation: Any = None) -> dict[str, Any]:
    named = {"name": name, "split": split, **({"perturbation": perturbation} if perturbation else {})}
    numbers = {} if value is None else {"min": value, "max": value, "mean": value}
    return {"name": named, "count": int(value is not None), "sum": value or 0, "sum_squared": 0, **numbers}


def _row(
    key: str, value: float | None, *, metric: str = "exact_match", trial: int = 0, **about: Any
) -> dict[str, Any]:
    row = {"instance_id": key, "train_trial_index": trial, "stats": [_stat(metric, value, **about)]}
    return {**row, **({"perturbation": about["perturbation"]} if "perturbation" in about else {})}


def _instance(key: str, **more: Any) -> dict[str, Any]:
    right = {"output": {"text": "B"}, "tags": ["correct"]}
    wrong = {"output": {"text": "A"}, "tags": []}
    return {"input": {"text": f"q{key}"}, "references": [wrong, right], "split": "test", "id": key, **more}


def _run(folder: Path, rows: Sequence[Any], **files: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in {"per_instance_stats": rows, **files}.items():
        (folder / f"{name}.json").write_text(json.dumps(value, indent=2))
    return folder / "per_instance_stats.json"


def _task(source: Path | str, **options: Any) -> TaskAnswers:
    (task,) = read(source, **options).tasks.values()
    return task


def test_flips_are_those_that_the_json_holds(tmp_path: Path) -> None:
    rights = np.random.default_rng(2).integers(0, 2, (2, 30)).tolist()
    for name, side in zip(("old", "new"), rights, strict=True):
        rows = [_row(f"id{key}", float(right)) for key, right in enumerate(side)]
        rows += [_row(f"id{key}", 7.0, metric="num_prompt_tokens") for key in range(30)]
        _run(tmp_path / name / f"mmlu:subject=law,model=org_{name}", rows)
    before, after = (
        {
            row["instance_id"]: stat["sum"] / stat["count"]
            for row in json.loads(next((tmp_path / name).rglob("per_instance_stats.json")).read_text())
            for stat in row["stats"]
            if stat["name"]["name"] == "exact_match"
        }
        for name in ("old", "new")
    )
    result = compare_runs(tmp_path / "old", tmp_path / "new")
    found = result.overall.comparison
    assert [len(found.negative_flips), len(found.positive_flips)] == [
        sum(before[key] > after[key] for key in before),
        sum(before[key] < after[key] for key in before),
    ]
    assert (result.tasks[0].name, result.tasks[0].metric) == ("mmlu:subject=law", "exact_match")
    assert (result.old_name, result.new_name) == ("org_old", "org_new")


def test_what_is_of_the_request_is_compared_only_when_asked_for(tmp_path: Path) -> None:
    file = _run(tmp_path, [_row("a", 9, metric="num_output_tokens"), _row("a", 1), _row("a", 0, metric="f1_score")])
    task = _task(file)
    assert task.metric == "exact_match"
    assert "num_" not in "".join(task.notes)
    assert _task(file, metric="num_output_tokens").values().tolist() == [9]
    assert not _task(_run(tmp_path, [_row("a", 0.5, metric="toxic_frac")])).higher_is_better


def test_trials_are_sampled_answers(tmp_path: Path) -> None:
    rows = [_row(key, float(key == "a" or trial > 0), trial=trial) for trial in range(3) for key in "ab"]
    task = _task(_run(tmp_path, rows))
    assert task.values().tolist() == [1, pytest.approx(2 / 3)]
    assert task.samples is not None
    assert task.samples.tolist() == [3, 3]


def test_perturbed_instances_are_left_out_with_a_note_or_chosen(tmp_path: Path) -> None:
    rows = [_row("a", 1.0), _row("a", 0.0, perturbation=TYPOS), _row("b", 0.0), _row("b", 0.0, perturbation=TYPOS)]
    file = _run(tmp_path, rows, instances=[_instance("a"), _instance("a", perturbation=TYPOS, input={"text": "qua"})])
    task = _task(file)
    assert task.values().tolist() == [1, 0]
    assert any("2 answers to perturbed instances left out" in note for note in task.notes)
    chosen = _task(f"{file}@perturbation=misspellings")
    assert chosen.values().tolist() == [0, 0]
    assert chosen.read_texts(np.array([0]))[0].question == "qua"
    with pytest.raises(InputError, match="of '', 'misspellings'"):
        read(f"{file}@perturbation=other")


def test_splits_are_slices_and_can_be_chosen(tmp_path: Path) -> None:
    file = _run(tmp_path, [_row("a", 1.0, split="valid"), _row("b", 0.0)])
    assert _task(file, slices=["split"]).slices["split"].to_pylist() == ["valid", "test"]
    assert any("1 of test, 1 of valid" in note for note in _task(file).notes)
    assert _task(f"{file}@split=test").ids.to_pylist() == ["b"]
    stats = [_stat("num_instances", 1.0, split=split) for split in ("valid", "test")]
    stats += [_stat("exact_match", 1.0, split="valid"), _stat("exact_match", 0.0)]
    _run(tmp_path, [_row("a", 1.0, split="valid"), _row("b", 0.0)], stats=stats)
    assert not _task(f"{file}@split=test").notes
    assert _task(file).not_whole is _task(f"{file}@split=test").not_whole is None


def test_instances_and_predictions_beside_the_file_are_shown_and_checked(tmp_path: Path) -> None:
    said = {"instance_id": "a", "train_trial_index": 0, "predicted_text": " B", "mapped_output": "right"}
    states = [
        {
            "instance": _instance("a"),
            "train_trial_index": 0,
            "output_mapping": {"B": "right"},
            "result": {"completions": [{"text": " B"}]},
        }
    ]
    summarised = _run(tmp_path / "x", [_row("a", 1.0)], instances=[_instance("a")], display_predictions=[said])
    raw = _run(tmp_path / "y", [_row("a", 1.0)], scenario_state={"request_states": states})
    for file in (summarised, raw):
        assert _task(file).read_texts(np.array([0])) == [("qa", "B", "right\n\n B", " B")]
    other = _run(tmp_path / "z", [_row("a", 1.0)], instances=[_instance("a", input={"text": "another"})])
    with pytest.raises(InputError, match="documents of 1 of 1"):
        compare_runs(raw, other)


def test_a_score_that_was_no_number_is_missing_and_no_zero(tmp_path: Path) -> None:
    file = _run(tmp_path, [_row("a", 1.0), _row("b", None), {**_row("c", 1.0), "stats": []}])
    assert np.isnan(_task(file).scores).tolist() == [False, True, True]


def test_classes_that_disagree_give_no_number(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no metric gives one number"):
        read(_run(tmp_path, [_row("a", 1.0), _row("a", 0.0)]))


def test_fewer_instances_or_another_mean_than_the_run_says_are_refused(tmp_path: Path) -> None:
    whole = _run(tmp_path / "whole", [_row("a", 0.0)])
    for number, stats in enumerate(
        ([_stat("num_instances", 2.0)], [_stat("num_instances", 1.0), _stat("exact_match", 0.5)])
    ):
        file = _run(tmp_path / str(number), [_row("a", 1.0)], stats=stats)
        with pytest.raises(InputError, match=r"stats\.json"):
            compare_runs(whole, file)


def test_a_suite_is_read_scenario_by_scenario_and_one_model_is_chosen(tmp_path: Path) -> None:
    for model in ("a", "b"):
        for scenario in ("mmlu:subject=law", "boolq:data_augmentation=canonical"):
            spec = {"name": f"{scenario},model=org/{model}", "adapter_spec": {"model": f"org/{model}"}}
            _run(tmp_path / f"{scenario},model=org_{model}", [_row("x", float(model == "a"))], run_spec=spec)
    with pytest.raises(InputError, match=r"2 models \(org/a, org/b\)"):
        read(tmp_path)
    result = compare_runs(f"{tmp_path}@model=org/a", f"{tmp_path}@model=org/b")
    assert [part.name for part in result.tasks] == ["boolq:data_augmentation=canonical", "mmlu:subject=law"]
    assert len(result.overall.comparison.negative_flips) == 2
    with pytest.raises(InputError, match="no run of the model 'c'; it has org/a, org/b"):
        read(f"{tmp_path}@model=c")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (json.dumps([_row("a", 1.0)], indent=2)[:-20], "cut off"),
        (json.dumps([_row("a", 1.0), {"instance_id": "b"}]), "not statistics of instances as HELM writes it"),
        (json.dumps([_row("a", 1.0), 3]), "not a JSON object"),
        (json.dumps([{**_row("a", 1.0), "stats": [{"name": "x"}]}]), "as HELM writes it"),
    ],
)
def test_a_broken_file_is_told_in_one_line(tmp_path: Path, content: str, told: str) -> None:
    file = _run(tmp_path, [])
    file.write_text(content)
    with pytest.raises(InputError, match=told) as caught:
        read(file)
    assert len(str(caught.value).splitlines()) == 1
