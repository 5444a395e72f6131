"""Reviews of evalscope, in the shapes of its `ReviewResult` (1.0 on) and of `Evaluator._get_review` (up to 0.17)."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from muscle_hf import InputError, compare_runs, read

Row = dict[str, Any]


def _now(i: int, acc: float, **more: Any) -> Row:
    """Make a line of evalscope 1.14: no `input`, several targets, status and generation."""
    return {
        "index": i,
        "target": ["A"],
        "messages": [
            {"id": "x1", "content": "Be brief.", "role": "system"},
            {"id": "x2", "content": [{"type": "text", "text": f"Question {i}?"}], "role": "user"},
            {"id": "x3", "content": "A", "source": "generate", "role": "assistant", "model": "v1"},
        ],
        "agent_trace": None,
        "sample_score": {
            "score": {
                "value": {"acc": acc, "f1": acc / 2},
                "status": "success",
                "judge_summary": None,
                "extracted_prediction": "A" if acc else "B",
                "prediction": f"It is {'A' if acc else 'B'}.",
                "explanation": None,
                "metadata": {},
                "main_score_name": None,
            },
            "sample_id": i,
            "group_id": i,
            "generation_index": 0,
            "sample_metadata": {"subject": f"s{i % 2}"},
        }
        | more,
    }


def _one_zero(i: int, acc: float, **more: Any) -> Row:
    """Make a line of evalscope 1.0."""
    row = _now(i, acc, **more)
    del row["messages"], row["agent_trace"], row["sample_score"]["generation_index"]
    del row["sample_score"]["score"]["status"], row["sample_score"]["score"]["judge_summary"]
    return row | {"input": f"Question {i}?", "target": "A"}


def _old(i: int, acc: Any, *, numbered: bool = True) -> Row:
    """Make a line of evalscope 0.13 to 0.17, or without a number one of 0.5 to 0.12."""
    values = acc if isinstance(acc, list) else [acc]
    row = {
        "choices": [
            {
                "index": place,
                "message": {"content": f"It is {value}.", "role": "assistant"},
                "review": {"gold": "A", "pred": "A" if value else "B", "result": value},
            }
            for place, value in enumerate(values)
        ],
        "created": 1,
        "model": "v1",
        "object": "chat.completion",
        "usage": {},
        "answer_id": f"answer-{i}-v1",
        "subset_name": "main",
        "raw_input": {"question": f"Question {i}?", "answer": "A"},
        "origin_prompt": {"data": [f"Q: Question {i}?"], "multi_choices": ["A", "B"], "system_prompt": None},
        "reviewed": True,
        "review_id": f"review-{i}",
        "reviewer_spec": {"metric": ["AverageAccuracy"], "reviewer": ["Evaluator"], "revision": ["default"]},
        "review_time": 1.5,
    }
    return {"index": i, **row} if numbered else row


def _write(file: Path, rows: list[Any]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return file


OLD = [1.0, 1.0, 0.0, 1.0, 0.0, 0.0]
NEW = [1.0, 0.0, 1.0, 0.0, 0.0, 1.0]
# The threads of newer versions write lines as they are done.
ORDER = [4, 0, 5, 2, 1, 3]


def _scores(file: Path) -> dict[Any, float]:
    """Read the scores of a file in plain Python."""
    found = {}
    for row in map(json.loads, file.read_text().splitlines()):
        if "sample_score" in row:
            found[row["index"]] = row["sample_score"]["score"]["value"]["acc"]
        else:
            found[row["raw_input"]["question"]] = float(row["choices"][0]["review"]["result"])
    return found


@pytest.mark.parametrize(
    "make",
    [_now, _one_zero, _old, lambda i, acc: _old(i, bool(acc)), lambda i, acc: _old(i, acc, numbered=False)],
)
def test_counts_are_those_of_the_scores_in_the_file(tmp_path: Path, make: Any) -> None:
    old = _write(tmp_path / "v1.jsonl", [make(i, acc) for i, acc in enumerate(OLD)])
    new = _write(tmp_path / "v2.jsonl", [make(i, NEW[i]) for i in ORDER])
    first, second = _scores(old), _scores(new)
    part = compare_runs(old, new).overall.comparison
    assert part.n == len(first)
    assert len(part.negative_flips) == sum(first[key] > second[key] for key in first) == 2
    assert len(part.positive_flips) == sum(first[key] < second[key] for key in first) == 2


@pytest.mark.parametrize(("first", "second"), [(_now, _one_zero), (_old, _now), (_old, _one_zero)])
def test_reviews_of_two_versions_are_joined_by_the_number_of_the_sample(
    tmp_path: Path, first: Any, second: Any
) -> None:
    old = _write(tmp_path / "v1.jsonl", [first(i, acc) for i, acc in enumerate(OLD)])
    new = _write(tmp_path / "v2.jsonl", [second(i, acc) for i, acc in enumerate(NEW)])
    if first is _old:  # their documents are the rows of the data set, not what was asked
        for file in (old, new):
            rows = [json.loads(line) for line in file.read_text().splitlines()]
            for row in rows:
                (
                    row.pop("raw_input", None),
                    row.pop("messages", None),
                    row.pop("input", None),
                    row.pop("origin_prompt", None),
                )
            _write(file, rows)
    part = compare_runs(old, new).overall.comparison
    assert (len(part.negative_flips), len(part.positive_flips)) == (2, 2)


def test_repeats_of_a_sample_are_sampled_answers_to_its_group(tmp_path: Path) -> None:
    values = [[1, 1, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]]
    rows = [
        _now(4 * group + place, float(value), group_id=group, generation_index=place)
        for group, repeats in enumerate(values)
        for place, value in enumerate(repeats)
    ]
    for row in rows:
        row["messages"][1]["content"] = f"Question {row['sample_score']['group_id']}?"
    shares = defaultdict(list)
    for row in rows:
        shares[row["sample_score"]["group_id"]].append(row["sample_score"]["score"]["value"]["acc"])
    task = read(_write(tmp_path / "x.jsonl", rows[::-1])).tasks["x"]
    assert task.samples is not None and task.scores is not None
    assert dict(zip(task.ids.to_pylist(), task.scores.tolist(), strict=True)) == {
        group: sum(repeats) / 4 for group, repeats in shares.items()
    }
    assert task.samples.tolist() == [4, 4, 4]
    old = read(_write(tmp_path / "y.jsonl", [_old(i, repeats) for i, repeats in enumerate(values)])).tasks["y"]
    assert old.scores is not None and old.scores.tolist() == [0.75, 0.0, 1.0]


def test_the_main_score_is_compared_and_another_by_name(tmp_path: Path) -> None:
    rows = [_now(i, acc) for i, acc in enumerate(OLD)]
    for row in rows:
        row["sample_score"]["score"]["main_score_name"] = "f1"
    file = _write(tmp_path / "x.jsonl", rows)
    assert read(file).tasks["x"].metric == "f1"
    assert read(file, metric="acc").tasks["x"].metric == "acc"
    dicts = [_old(i, {"is_correct": acc, "is_incorrect": 1 - acc, "why": "x"}) for i, acc in enumerate(OLD)]
    assert read(_write(file, dicts)).tasks["x"].metric == "is_correct"


def test_slices_are_of_the_metadata_of_samples(tmp_path: Path) -> None:
    old = _write(tmp_path / "v1.jsonl", [_now(i, acc) for i, acc in enumerate(OLD)])
    new = _write(tmp_path / "v2.jsonl", [_now(i, acc) for i, acc in enumerate(NEW)])
    assert {part.name for part in compare_runs(old, new, by="subject").slices["subject"]} == {"s0", "s1"}


def _run(out: Path, date: str, model: str, scores: list[float]) -> None:
    for subset in ("main", "extra"):
        _write(out / date / "reviews" / model / f"gsm8k_{subset}.jsonl", [_now(i, s) for i, s in enumerate(scores)])
        predictions = [{"index": i, "model": model, "model_output": {}, "messages": []} for i in range(len(scores))]
        _write(out / date / "predictions" / model / f"gsm8k_{subset}.jsonl", predictions)
    _write(out / date / "reports" / model / "gsm8k.json", [{"name": "x", "dataset_name": "gsm8k", "score": 0.5}])


def test_the_folder_of_a_run_or_of_dated_runs_is_read_subset_by_subset(tmp_path: Path) -> None:
    _run(tmp_path / "a", "20261101_120000", "v1", NEW)
    _run(tmp_path / "a", "20261129_120000", "v1", OLD)
    _run(tmp_path / "b", "20261130_120000", "v2", NEW)
    result = compare_runs(tmp_path / "a", tmp_path / "b")
    assert [part.name for part in result.tasks] == ["gsm8k_extra", "gsm8k_main"]
    assert (result.old_name, result.new_name) == ("v1", "v2")
    assert [len(part.comparison.negative_flips) for part in result.tasks] == [2, 2]
    assert any("newest run of each is compared" in note for note in result.notes)
    first = compare_runs(tmp_path / "b" / "20261130_120000" / "reviews" / "v2", tmp_path / "a", tasks="*_main")
    assert [len(part.comparison.negative_flips) for part in first.tasks] == [2]
    assert read(tmp_path / "a", run="20261101").tasks["gsm8k_main"].scores.tolist() == NEW  # type: ignore[union-attr]


def test_a_folder_with_two_models_is_refused_with_their_names(tmp_path: Path) -> None:
    for model in ("v1", "v2"):
        _run(tmp_path, "20261130_120000", model, OLD)
    with pytest.raises(InputError, match=r"the runs of 2 models \(v1, v2\)"):
        read(tmp_path)


def test_samples_that_no_judge_could_score_are_counted_and_never_taken_for_wrong(tmp_path: Path) -> None:
    rows = [_now(i, acc) for i, acc in enumerate(OLD)]
    rows[2]["sample_score"]["score"] |= {"value": {}, "status": "judge_failed"}
    old, new = (
        _write(tmp_path / "v1.jsonl", rows),
        _write(tmp_path / "v2.jsonl", [_now(i, s) for i, s in enumerate(NEW)]),
    )
    with pytest.raises(InputError, match=r"1 of 6 samples have no score \(judge_failed: 1\)"):
        compare_runs(old, new)
    result = compare_runs(old, new, allow_missing=True)
    assert result.overall.comparison.n == 5
    assert any("1 of 6 samples have no score" in note for note in result.notes)
    rows[2]["sample_score"]["score"] |= {"value": {"f1": 0.5}, "status": "degraded"}
    _write(old, rows)
    assert str(read(old).tasks["v1"].not_whole).endswith("1 of 6 samples have no score (degraded: 1).")
    assert read(old, metric="f1").tasks["v1"].not_whole is None
    with pytest.raises(InputError, match="no metric 'f2'; usable: 'acc', 'f1'"):
        read(old, metric="f2")
    silent = [_old(0, 1.0), _old(1, 0.0), _old(2, 1.0) | {"choices": [], "reviewed": False}]
    assert str(read(_write(old, silent)).tasks["v1"].not_whole).endswith(
        "1 of 3 samples have no score (not reviewed: 1)."
    )


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (
            [{"index": 0, "model": "m", "model_output": {}, "messages": []}],
            "predictions of evalscope, which have no scores",
        ),
        ([_now(0, 1.0), _now(0, 1.0)], "stand more than once|stands twice"),
        ([_now(0, 1.0), {"index": 1}], "is not reviews as evalscope writes it"),
        ([_now(0, 1.0), _now(1, 1.0) | {"sample_score": None}], "is not reviews as evalscope writes it"),
        ([_old(0, "A"), _old(1, "B")], "line 1: the result of the review is 'A'"),
        ([_now(0, 1.0, score={"value": {}})], "holds no answers"),
        ([_now(0, 1.0), _now(1, 1.0) | {"target": ["B"]}], "right answers"),
    ],
)
def test_what_is_no_review_or_another_one_is_refused_in_one_line(tmp_path: Path, rows: list[Any], told: str) -> None:
    old = _write(tmp_path / "v1.jsonl", [_now(0, 1.0), _now(1, 0.0)])
    new = _write(tmp_path / "v2.jsonl", rows)
    with pytest.raises(InputError, match=told) as refusal:
        compare_runs(old, new)
    assert "\n" not in str(refusal.value)


def test_a_file_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    file = _write(tmp_path / "x.jsonl", [_now(i, acc) for i, acc in enumerate(OLD)])
    file.write_text(file.read_text()[:-100])
    with pytest.raises(InputError, match="was it cut off"):
        read(file)
