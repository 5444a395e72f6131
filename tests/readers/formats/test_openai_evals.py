"""Records of openai/evals: matches and metrics, several a sample, samples without one, the final report."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from muscle_hf import InputError, compare_runs, read
from muscle_hf.readers.answers import TaskAnswers

SPEC = {"completion_fns": ["gpt-4"], "eval_name": "test.dev.v0", "run_id": "r", "created_at": "2026-01-01 00:00:00"}


def _events(*events: tuple[int, str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"run_id": "r", "event_id": number, "sample_id": f"test.dev.{sample}", "type": kind, "data": data}
        for number, (sample, kind, data) in enumerate(events)
    ]


def _match(sample: int, correct: bool, **more: Any) -> tuple[int, str, dict[str, Any]]:
    return sample, "match", {"correct": correct, "expected": "a", "picked": "a" if correct else "b", **more}


def _write(file: Path, events: Sequence[Any], report: Any = None, spec: Any = SPEC) -> Path:
    lines = [{"spec": spec}, *events, *([] if report is None else [{"final_report": report, "run_id": "r"}])]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def _task(file: Path, **options: Any) -> TaskAnswers:
    (task,) = read(file, **options).tasks.values()
    return task


def test_flips_are_those_that_the_events_hold(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    files = []
    for name in ("old", "new"):
        # Threads write the samples in any order.
        order = rng.permutation(40).tolist()
        rights = [bool(right) for right in rng.integers(0, 2, 40)]
        asked = [(sample, "sampling", {"prompt": f"q{sample}", "sampled": ["x"]}) for sample in order]
        events = _events(*asked, *(_match(sample, rights[sample]) for sample in order))
        spec = {**SPEC, "completion_fns": [name]}
        files.append(_write(tmp_path / f"{name}.jsonl", events, {"accuracy": sum(rights) / 40}, spec))
    before, after = (
        {
            row["sample_id"]: row["data"]["correct"]
            for row in map(json.loads, file.read_text().splitlines())
            if row.get("type") == "match"
        }
        for file in files
    )
    result = compare_runs(*files)
    found = result.overall.comparison
    assert [len(found.negative_flips), len(found.positive_flips)] == [
        sum(before[key] and not after[key] for key in before),
        sum(after[key] and not before[key] for key in before),
    ]
    assert (result.tasks[0].name, result.old_name) == ("test.dev.v0", "old")
    assert not result.notes


def test_metrics_are_chosen_by_name_and_matches_come_first(tmp_path: Path) -> None:
    file = _write(
        tmp_path / "x.jsonl", _events(_match(0, True), (0, "metrics", {"accuracy": 1.0, "f1_score": 0.5})), {}
    )
    assert _task(file).metric == "match"
    assert _task(file, metric="f1_score").values().tolist() == [0.5]
    with pytest.raises(InputError, match="usable: 'match', 'accuracy', 'f1_score'"):
        read(file, metric="nothing")


def test_what_a_grader_chose_is_the_answer_and_its_score_the_metric(tmp_path: Path) -> None:
    graded = _events((0, "metrics", {"choice": "Y", "score": 1.0}), (1, "metrics", {"choice": "N", "score": 0.0}))
    task = _task(_write(tmp_path / "x.jsonl", graded, {"score": 0.5, "counts/Y": 1}))
    assert (task.metric, task.values().tolist()) == ("score", [1, 0])
    assert task.answers is not None
    assert task.answers.to_pylist() == ["Y", "N"]
    assert task.not_whole is None


def test_several_matches_of_a_sample_are_sampled_answers(tmp_path: Path) -> None:
    events = _events(*(_match(sample, sample == 0 or number > 1) for sample in range(2) for number in range(4)))
    task = _task(_write(tmp_path / "x.jsonl", events, {"accuracy": 0.75}))
    assert task.values().tolist() == [1, 0.5]
    assert task.samples is not None
    assert task.samples.tolist() == [4, 4]


def test_a_sample_without_a_match_is_missing_and_not_left_out(tmp_path: Path) -> None:
    events = _events(_match(0, True), (1, "sampling", {"prompt": "q", "sampled": "x"}), (1, "error", {"type": "E"}))
    task = _task(_write(tmp_path / "x.jsonl", events, {}))
    assert np.isnan(task.scores).tolist() == [False, True]


def test_prompts_that_differ_are_noted_and_right_answers_that_differ_refused(tmp_path: Path) -> None:
    def record(name: str, prompt: Any, expected: Any) -> Path:
        asked = (0, "sampling", {"prompt": prompt, "sampled": "x"})
        return _write(tmp_path / name, _events(asked, _match(0, True, expected=expected)), {})

    first = record("a.jsonl", [{"role": "user", "content": "q"}], ["a", "b"])
    assert _task(first).read_texts(np.array([0])) == [("q", "a / b", "a\n\nx", "x")]
    notes = compare_runs(first, record("b.jsonl", "q", ["a", "b"])).notes
    assert any("1 of 1 prompts differ" in note for note in notes)
    with pytest.raises(InputError, match="right answers of 1 of 1"):
        compare_runs(first, record("c.jsonl", "q", "a"))


def test_events_that_the_final_report_does_not_fit_are_refused(tmp_path: Path) -> None:
    whole = _write(tmp_path / "whole.jsonl", _events(_match(0, True), _match(1, False)), {"accuracy": 0.5})
    cut = _write(tmp_path / "cut.jsonl", _events(_match(0, True), _match(1, True)), {"accuracy": 0.5})
    with pytest.raises(InputError, match="its final report"):
        compare_runs(whole, cut)
    unended = _write(tmp_path / "unended.jsonl", _events(_match(0, True), _match(1, True)))
    assert any("no final report" in note for note in compare_runs(whole, unended).notes)


def test_events_without_a_specification_are_read(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text("".join(json.dumps(event) + "\n" for event in _events(_match(0, True), _match(1, False))))
    assert _task(file).values().tolist() == [1, 0]


@pytest.mark.parametrize(
    ("events", "told"),
    [
        ([], "holds no events"),
        (_events(_match(0, True)) * 2, "written to twice"),
        (
            [*_events(_match(0, True)), {**_events(_match(1, True))[0], "run_id": "s", "event_id": 9}],
            r"2 runs \('r', 's'\)",
        ),
        ([{"run_id": "r"}], "not a record as openai/evals writes it"),
        (_events((0, "match", {"picked": "a"})), "not a record as openai/evals writes it"),
        (_events((0, "metrics", {"choice": "Y"})), "no metric gives one number"),
    ],
)
def test_a_broken_record_is_told_in_one_line(tmp_path: Path, events: Any, told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        read(_write(tmp_path / "x.jsonl", events))
    assert len(str(caught.value).splitlines()) == 1


def test_a_record_that_was_cut_off_is_told_with_its_line(tmp_path: Path) -> None:
    file = _write(tmp_path / "x.jsonl", _events(_match(0, True), _match(1, True)))
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"line 3 .*cut off"):
        read(file)
