"""Outputs of promptfoo: versions 2 and 3, one prompt and provider of several, errors, repeated tests."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from muscle_hf import InputError, compare_runs, read
from muscle_hf.readers.answers import TaskAnswers


def _result(test: int, success: bool, **more: Any) -> dict[str, Any]:
    made = {
        "testIdx": test,
        "promptIdx": 0,
        "success": success,
        "score": float(success),
        "namedScores": {"tone": 0.5},
        "failureReason": 0 if success else 1,
        "provider": {"id": "openai:gpt-4o", "label": ""},
        "prompt": {"raw": f"Say q{test}", "label": "Say {{q}}"},
        "vars": {"q": f"q{test}", "language": "en" if test % 2 else "de"},
        "response": {"output": "x"},
        "testCase": {
            "vars": {"q": f"q{test}"},
            "assert": [{"type": "equals", "value": "x"}],
            "metadata": {"kind": "a"},
        },
    }
    return {name: value for name, value in {**made, **more}.items() if value is not ...}


def _write(file: Path, results: Sequence[Any], *, version: int = 3, **more: Any) -> Path:
    summary = {
        "version": version,
        "timestamp": "2026-01-01T00:00:00Z",
        "results": list(results),
        **more.pop("summary", {}),
    }
    file.write_text(json.dumps({"evalId": "e", "results": summary, "config": {}, **more}, indent=2))
    return file


def _task(file: Path | str, **options: Any) -> TaskAnswers:
    (task,) = read(file, **options).tasks.values()
    return task


def test_flips_are_those_that_the_json_holds(tmp_path: Path) -> None:
    rights = np.random.default_rng(1).random((2, 40)) < 0.6
    files = [
        _write(tmp_path / f"{name}.json", [_result(test, bool(right)) for test, right in enumerate(side)])
        for name, side in zip(("old", "new"), rights, strict=True)
    ]
    before, after = (
        {result["testIdx"]: result["success"] for result in json.loads(file.read_text())["results"]["results"]}
        for file in files
    )
    result = compare_runs(*files, by="language")
    found = result.overall.comparison
    assert [len(found.negative_flips), len(found.positive_flips)] == [
        sum(before[test] and not after[test] for test in before),
        sum(after[test] and not before[test] for test in before),
    ]
    assert {part.name for part in result.slices["language"]} == {"de", "en"}
    assert _task(files[0]).read_texts(np.array([3])) == [("Say q3", '["equals", "x"]', "x", None)]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda rows: json.dumps({"evalId": "e", "results": {"version": 3, "results": rows}}),
        lambda rows: json.dumps({"version": 2, "results": rows, "stats": {}}, indent=1),
        lambda rows: "".join(json.dumps(row) + "\n" for row in rows),
    ],
)
def test_every_shape_in_which_results_are_written_is_read(tmp_path: Path, wrap: Any) -> None:
    for count in (1, 2):
        file = tmp_path / f"{count}.json"
        file.write_text(wrap([_result(test, test == 0) for test in range(count)]))
        assert _task(file).values().tolist() == [1, 0][:count]


def test_results_without_numbers_are_joined_by_their_place_and_checked_by_their_variables(tmp_path: Path) -> None:
    def version_2(name: str, tests: Sequence[int]) -> Path:
        rows = [
            _result(test, True, testIdx=..., promptIdx=..., failureReason=..., provider="openai:x") for test in tests
        ]
        return _write(tmp_path / name, rows, version=2)

    assert compare_runs(version_2("a.json", [1, 2]), version_2("b.json", [1, 2])).overall.n == 2
    with pytest.raises(InputError, match="the documents of 2 of 2 ids differ"):
        compare_runs(version_2("a.json", [1, 2]), version_2("c.json", [2, 1]))


def test_several_prompts_and_providers_need_a_choice(tmp_path: Path) -> None:
    rows = [
        _result(test, right, provider={"id": provider}, promptIdx=number, prompt={"raw": "r", "label": prompt})
        for number, (provider, prompt) in enumerate([("a:x", "short"), ("a:x", "long"), ("b:y", "short")])
        for test, right in enumerate([number != 2, True])
    ]
    file = _write(tmp_path / "x.json", rows)
    with pytest.raises(
        InputError, match="@provider=a:x@prompt=short, @provider=a:x@prompt=long, @provider=b:y@prompt"
    ):
        read(file)
    with pytest.raises(InputError, match=r"2 of the 3 .*: @prompt=short, @prompt=long"):
        read(f"{file}@provider=a:x")
    labelled = [_result(0, True, provider={"id": name, "label": name[0]}) for name in ("a:x", "b:y")]
    other = _write(tmp_path / "y.json", labelled)
    assert len(_task(f"{other}@provider=a:x")) == len(_task(f"{other}@provider=b")) == 1
    with pytest.raises(InputError, match="stands for 0 of the 3"):
        read(f"{file}@provider=c")
    with pytest.raises(InputError, match="@model= chooses nothing; it knows @provider=, @prompt="):
        read(f"{file}@model=c")
    result = compare_runs(f"{file}@provider=a:x@prompt=short", f"{file}@provider=b:y")
    assert len(result.overall.comparison.negative_flips) == 1
    assert (result.old_name, result.new_name) == ("a:x", "b:y")
    assert _task(f"{file}@provider=b:y").source == f"{file}@provider=b:y"


def test_a_provider_that_failed_is_no_wrong_answer(tmp_path: Path) -> None:
    for number, error in enumerate(
        [
            {"failureReason": 2, "error": "no quota", "response": ...},
            {"failureReason": ..., "error": "no quota", "response": ..., "gradingResult": None},
        ]
    ):
        file = _write(tmp_path / f"{number}.json", [_result(0, True), _result(1, False, **error)])
        task = _task(file)
        assert np.isnan(task.scores).tolist() == [False, True]
        assert any("1 of 2 tests have no answer" in note for note in task.notes)
    judged = _write(tmp_path / "j.json", [_result(0, False, failureReason=..., error="not x", gradingResult={"a": 1})])
    assert _task(judged).values().tolist() == [0]


def test_scores_and_named_scores_are_metrics(tmp_path: Path) -> None:
    file = _write(tmp_path / "x.json", [_result(0, True), _result(1, False)])
    assert _task(file, metric="tone").values().tolist() == [0.5, 0.5]
    with pytest.raises(InputError, match="usable: 'success', 'score', 'tone'"):
        read(file, metric="nothing")


def test_repeated_tests_are_sampled_answers(tmp_path: Path) -> None:
    rows = [_result(number, number != 1, vars={"q": "same"}) for number in range(4)]
    rows += [_result(4 + number, True, vars={"q": "other"}) for number in range(4)]
    task = _task(_write(tmp_path / "x.json", rows, config={"evaluateOptions": {"repeat": 4}}))
    assert (task.ids.to_pylist(), task.values().tolist()) == ([0, 4], [0.75, 1])
    assert task.samples is not None
    assert task.samples.tolist() == [4, 4]
    assert len(_task(_write(tmp_path / "y.json", rows))) == 8


def test_an_output_that_counts_more_results_than_it_holds_is_refused(tmp_path: Path) -> None:
    stats = {"successes": 2, "failures": 1, "errors": 0}
    file = _write(tmp_path / "x.json", [_result(0, True)], summary={"stats": stats})
    with pytest.raises(InputError, match="which counts 3 itself"):
        compare_runs(file, _write(tmp_path / "y.json", [_result(0, False)]))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (json.dumps({"evalId": "e", "results": {"version": 3, "results": [], "stats": {}}}), "holds no results"),
        (json.dumps({"results": {"results": [_result(0, True), 3]}}), "result 1 says not whether"),
        (
            json.dumps({"results": {"results": [_result(0, True), {"vars": {}}]}}),
            "result 1 says not whether",
        ),
        (
            json.dumps({"results": {"results": [_result(0, True), _result(1, True, testIdx=0.5)]}}),
            "an integer or a string",
        ),
        (json.dumps({"results": {"results": [_result(0, True), _result(0, True)]}}), "stands twice"),
        (json.dumps({"evalId": "e", "results": {"results": [_result(0, True)]}}, indent=2)[:-9], "cut off"),
    ],
)
def test_a_broken_output_is_told_in_one_line(tmp_path: Path, content: str, told: str) -> None:
    file = tmp_path / "x.json"
    file.write_text(content)
    with pytest.raises(InputError, match=told) as caught:
        read(file)
    assert len(str(caught.value).splitlines()) == 1


def test_the_table_of_promptfoo_has_columns_for_each_pair(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    named = '"{""tone"":0.5}"'
    file.write_text(
        "q,[a:x] Say {{q}},Status,Score,Named Scores,Metric: tone,Grader Reason,Comment,[b:y] Say {{q}},Status,Score,"
        "Named Scores,Metric: tone,Grader Reason,Comment\n"
        f'q0,yes,PASS,1.00,{named},0.50,fine,,"no,\nreally",FAIL,0.50,{named},0.50,no,\n'
        f"q1,yes,PASS,1.00,{named},0.50,fine,,no quota,ERROR,0.00,{{}},,no quota,\n"
    )
    first, second = (_task(f"{file}@provider={provider}") for provider in ("a:x", "b:y"))
    assert first.values().tolist() == [1, 1]
    assert second.scores is not None
    assert second.scores.tolist()[0] == 0
    assert np.isnan(second.scores[1])
    assert first.documents == second.documents
    assert second.read_texts(np.array([0]))[0].answer == "no,\nreally"
    with pytest.raises(InputError, match="2 pairs of provider"):
        read(file)
    file.write_text(file.read_text()[:-20])
    with pytest.raises(InputError, match=r"CSV|an output as promptfoo"):
        read(file)
