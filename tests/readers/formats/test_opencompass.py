"""Predictions and results of OpenCompass, in the shapes of its output handlers, evaluators and `openicl_eval.py`."""

import json
from pathlib import Path
from typing import Any

import pytest

from muscle_hf import InputError, compare_runs, read

Row = dict[str, Any]

OLD = [True, True, False, True, False, True, True, False, True, True, False, True]
NEW = [True, False, True, True, False, False, True, False, True, True, True, True]
BROKEN, REPAIRED = 2, 2


def _write(file: Path, value: Any) -> Path:
    """Write a document as `dump_results_dict` does."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value, indent=4, ensure_ascii=False))
    return file


def _said(i: int, is_right: bool) -> str:
    return "ABCD"[i % 4] if is_right else "E"


def _generated(right: list[bool]) -> Row:
    return {
        str(i): {"origin_prompt": f"<s>Q{i}", "prediction": _said(i, is_right), "gold": "ABCD"[i % 4]}
        for i, is_right in enumerate(right)
    }


def _chat(right: list[bool]) -> Row:
    """What API models leave: a conversation as prompt, several gold answers, lengths."""
    return {
        str(i): {
            "gold": ["ABCD"[i % 4], f"({'ABCD'[i % 4]})"],
            "prediction": f"({_said(i, is_right)})" if i % 2 else _said(i, is_right),
            "origin_prompt": [{"role": "HUMAN", "prompt": f"Q{i}"}],
            "res_length": 1,
        }
        for i, is_right in enumerate(right)
    }


def _alternatives(right: list[bool]) -> Row:
    """Each side may say another of the gold answers."""
    held = _chat(right)
    for key, item in held.items():
        if right is NEW and int(key) % 3 == 0:
            item["prediction"] = f"({item['prediction'].strip('()')})"
    return held


def _ranked(right: list[bool]) -> Row:
    """What is chosen by perplexity: labels that are numbers."""
    return {
        str(i): {
            "in-context examples": "",
            "origin_prompt": f"Q{i}",
            "label: 0": {"testing input": f"Q{i}", "prompt": f"Q{i} no", "PPL": 1.5},
            "label: 1": {"testing input": f"Q{i}", "prompt": f"Q{i} yes", "PPL": 2.5},
            "prediction": i % 2 + 1 if is_right else 3,
            "gold": i % 2 + 1,
        }
        for i, is_right in enumerate(right)
    }


def _number(right: list[bool]) -> Row:
    """A text beside a number, which OpenCompass compares as texts."""
    return {
        str(i): {"origin_prompt": "Q", "prediction": str(i + 1 + (not r)), "gold": i + 1} for i, r in enumerate(right)
    }


def _is_right(item: Row) -> bool:
    gold = item["gold"] if isinstance(item["gold"], list) else [item["gold"]]
    return str(item["prediction"]) in map(str, gold)


@pytest.mark.parametrize("make", [_generated, _chat, _alternatives, _ranked, _number])
def test_a_prediction_is_right_where_it_is_a_gold_answer_and_a_note_says_so(tmp_path: Path, make: Any) -> None:
    old, new = _write(tmp_path / "v1.json", make(OLD)), _write(tmp_path / "v2.json", make(NEW))
    first, second = (
        {key: _is_right(item) for key, item in json.loads(file.read_text()).items()} for file in (old, new)
    )
    result = compare_runs(old, new)
    part = result.overall.comparison
    assert len(part.negative_flips) == sum(first[key] and not second[key] for key in first) == BROKEN
    assert len(part.positive_flips) == sum(second[key] and not first[key] for key in first) == REPAIRED
    assert any("the whole prediction is the gold answer" in note for note in result.notes)
    assert {flip.id for flip in result.flips() if flip.kind == "negative_flip"} == {1, 5}


def _evaluated(right: list[bool]) -> Row:
    """Details since 0.4: a list, in which every field holds a list with an item for each run of the model."""
    return {
        "accuracy": 50.0,
        "details": [
            {
                "example_abbr": f"gsm8k_{i}",
                "pred": [f"It is {_said(i, is_right)}"],
                "answer": ["ABCD"[i % 4]],
                "correct": [is_right],
            }
            for i, is_right in enumerate(right)
        ],
    }


def _formatted(right: list[bool]) -> Row:
    """Details of 0.1 to 0.3, and of later evaluators that give none: an object, with its type inside or beside."""
    details = {
        str(i): {
            "prompt": [{"role": "HUMAN", "prompt": f"Q{i}"}],
            "origin_prediction": "long",
            "predictions": _said(i, is_right),
            "references": "ABCD"[i % 4],
            "correct": is_right,
        }
        for i, is_right in enumerate(right)
    }
    return {"accuracy": 50.0, "details": {"type": "GEN", **details}}


def _unjudged(right: list[bool]) -> Row:
    """The same where nothing says which are right: OpenCompass has compared these texts."""
    held = _formatted(right)
    for item in held["details"].values():
        if isinstance(item, dict):
            del item["correct"]
    return held


def _ppl(right: list[bool]) -> Row:
    details = {
        str(i): {
            "origin_prediction": {"origin_prompt": f"Q{i}", "0": {"PPL": 1.5}},
            "predictions": _said(i, is_right),
            "references": "ABCD"[i % 4],
            "correct": is_right,
        }
        for i, is_right in enumerate(right)
    }
    return {"accuracy": 50.0, "type": "PPL", "details": details}


def _exact(right: list[bool]) -> Row:
    """EMEvaluator: right answers in the order of a set."""
    details = [
        {"pred": _said(i, r), "answer": ["ABCD"[i % 4], "x"][:: -1 if r else 1], "correct": r}
        for i, r in enumerate(right)
    ]
    return {"score": 50.0, "details": details}


def _code(right: list[bool]) -> Row:
    details = {
        str(i): {"task_id": f"HumanEval/{i}", "completion": "x", "passed": r, "is_correct": r}
        for i, r in enumerate(right)
    }
    return {"humaneval_pass@1": 50.0, "details": details}


def _columns(right: list[bool]) -> Row:
    """A list for each field."""
    said = [_said(i, r) for i, r in enumerate(right)]
    return {"score": 50.0, "details": {"pred": said, "answer": ["ABCD"[i % 4] for i in range(12)], "correct": right}}


def _cascade(right: list[bool]) -> Row:
    details = [
        {
            "example_abbr": f"aime_{i}",
            "rule_evaluation": [{"pred": "1", "answer": "2", "correct": False}],
            "cascade_correct": [is_right],
        }
        for i, is_right in enumerate(right)
    ]
    return {"accuracy": 50.0, "details": details}


def _judged(right: list[bool]) -> Row:
    """GenericLLMEvaluator: what the judge wrote, where A is CORRECT and B is INCORRECT."""
    details = [
        {
            "example_abbr": f"simpleqa_{i}",
            "origin_prompt": [[{"role": "HUMAN", "prompt": "Judge whether A or B"}]],
            "prediction": ["I say: A" if is_right else "B, not A"],
            "gold": ["B"],
        }
        for i, is_right in enumerate(right)
    ]
    return {"accuracy": 50.0, "details": details}


@pytest.mark.parametrize(
    "make",
    [_evaluated, _formatted, _unjudged, _ppl, _exact, _code, _columns, _cascade, _judged],
    ids=lambda make: make.__name__,
)
def test_results_are_read_as_each_evaluator_says_what_is_right(tmp_path: Path, make: Any) -> None:
    old, new = _write(tmp_path / "v1.json", make(OLD)), _write(tmp_path / "v2.json", make(NEW))
    result = compare_runs(old, new)
    part = result.overall.comparison
    assert part.n == len(OLD)
    assert part.negative_flips.tolist() == [i for i in range(12) if OLD[i] and not NEW[i]]
    assert part.positive_flips.tolist() == [i for i in range(12) if NEW[i] and not OLD[i]]
    assert {flip.id for flip in result.flips() if flip.kind == "negative_flip"} == {1, 5}


def test_several_runs_of_the_model_are_sampled_answers(tmp_path: Path) -> None:
    details = [
        {
            "example_abbr": f"aime_{i}",
            "pred": ["1", "2", "1", "1"],
            "answer": ["1"] * 4,
            "correct": [True, False, True, True],
            "G-Pass@4_0.5": 1.0,
        }
        for i in range(3)
    ]
    file = _write(tmp_path / "aime.json", {"accuracy (4 runs average)": 75.0, "details": details})
    task = read(file).tasks["aime"]
    assert task.scores is not None and task.scores.tolist() == [0.75] * 3
    assert task.samples is not None and task.samples.tolist() == [4] * 3
    for item in details:
        del item["example_abbr"]
    task = read(_write(tmp_path / "aime.json", {"details": {str(i): item for i, item in enumerate(details)}})).tasks[
        "aime"
    ]
    assert task.scores is not None and task.scores.tolist() == [0.75] * 3
    predictions = {
        str(i): {"origin_prompt": "Q", "prediction": ["1", "2", "(1)", "1"], "gold": ["1", "(1)"]} for i in range(3)
    }
    task = read(_write(tmp_path / "x.json", predictions)).tasks["x"]
    assert task.scores is not None and task.scores.tolist() == [0.75] * 3


def test_details_of_several_parts_of_a_data_set_are_told_apart(tmp_path: Path) -> None:
    details = [
        {"example_abbr": f"math_{part}_{i}", "correct": [True]} for part in ("algebra", "geometry") for i in range(2)
    ]
    task = read(_write(tmp_path / "math.json", {"details": details})).tasks["math"]
    assert task.ids.to_pylist() == ["math_algebra_0", "math_algebra_1", "math_geometry_0", "math_geometry_1"]


def test_another_field_is_compared_by_name(tmp_path: Path) -> None:
    details = {
        str(i): {"pred": "x", "is_strict_correct": r, "is_loose_correct": True, "is_correct": r, "grade": "strict"}
        for i, r in enumerate(OLD)
    }
    file = _write(tmp_path / "ifeval.json", {"Prompt-level-strict-accuracy": 50.0, "details": details})
    assert read(file).tasks["ifeval"].metric == "is_correct"
    assert any("is_loose_correct" in note for note in read(file).tasks["ifeval"].notes)
    assert read(file, metric="is_loose_correct").tasks["ifeval"].values().all()


def _run(out: Path, date: str, model: str, right: list[bool], *, details: bool) -> None:
    run = out / date
    _write(run / "predictions" / model / "gsm8k.json", _generated(right))
    for number, part in enumerate((right[:5], right[5:9], right[9:])):
        _write(run / "predictions" / model / f"mmlu_{number}.json", _generated(part))
    _write(run / "results" / model / "gsm8k.json", _evaluated(right) if details else {"accuracy": 50.0})
    _write(run / "results" / model / "gsm8k_replica0.json", _generated([False] * 12))
    _write(run / "results" / model / "mmlu.json", {"accuracy": 50.0})
    _write(run / "configs" / "x.json", {"models": []})


def test_the_folder_of_dated_runs_is_read_with_results_before_predictions_and_parts_as_one(tmp_path: Path) -> None:
    _run(tmp_path / "a", "20261101_120000", "v1", NEW, details=True)
    _run(tmp_path / "a", "20261129_120000", "v1", OLD, details=True)
    _run(tmp_path / "b", "20261130_120000", "v2", NEW, details=True)
    result = compare_runs(tmp_path / "a", tmp_path / "b")
    assert [(part.name, part.metric) for part in result.tasks] == [("gsm8k", "correct"), ("mmlu", "accuracy")]
    assert [len(part.comparison.negative_flips) for part in result.tasks] == [BROKEN, BROKEN]
    assert (result.old_name, result.new_name) == ("v1", "v2")
    assert any("newest run of each is compared" in note for note in result.notes)
    old = read(tmp_path / "a" / "20261101_120000" / "predictions" / "v1")
    assert list(old.tasks) == ["mmlu"]  # the results of gsm8k say more than its predictions


def test_predictions_are_compared_where_results_have_no_details(tmp_path: Path) -> None:
    _run(tmp_path / "a", "20261129_120000", "v1", OLD, details=False)
    _run(tmp_path / "b", "20261130_120000", "v2", NEW, details=False)
    result = compare_runs(tmp_path / "a" / "20261129_120000", tmp_path / "b", normalize="case")
    assert [len(part.comparison.negative_flips) for part in result.tasks] == [BROKEN, BROKEN]
    one = read(tmp_path / "a" / "20261129_120000" / "predictions" / "v1" / "mmlu_1.json").tasks
    assert list(one) == ["mmlu"]
    assert len(one["mmlu"]) == 12


def test_scores_of_a_whole_data_set_are_refused_with_what_to_do(tmp_path: Path) -> None:
    _run(tmp_path, "20261129_120000", "v1", OLD, details=False)
    with pytest.raises(InputError, match="scores of the whole data set alone: evaluate with --dump-eval-details"):
        read(tmp_path / "20261129_120000" / "results" / "v1" / "gsm8k.json")


def test_a_part_that_is_not_there_is_no_smaller_data_set(tmp_path: Path) -> None:
    for number in (0, 2):
        _write(tmp_path / f"mmlu_{number}.json", _generated(OLD))
    with pytest.raises(InputError, match="part 1 of 3 is not there"):
        read(tmp_path / "mmlu_0.json")


def test_normalize_says_what_need_not_count(tmp_path: Path) -> None:
    held = {
        str(i): {"origin_prompt": "Q", "prediction": f"({'abcd'[i % 4]})", "gold": ["ABCD"[i % 4], "z"]}
        for i in range(12)
    }
    file = _write(tmp_path / "x.json", held)
    assert read(file, normalize="case,punctuation").tasks["x"].values().all()
    with pytest.raises(
        InputError, match="none of 12 predictions is its gold answer, for instance '\\(a\\)' beside 'A'"
    ):
        read(file)


@pytest.mark.parametrize(
    ("value", "options", "told"),
    [
        (_evaluated(OLD), {"normalize": "case"}, "OpenCompass has scored these answers itself"),
        ({"0": {"origin_prompt": "Q", "prediction": "A"}}, {}, "1 of 1 predictions have no gold answer"),
        ({"0": {"origin_prompt": "Q", "prediction": "A", "gold": "A"}, "2": {}}, {}, "none with the number 1"),
        ({"0": {"origin_prompt": "Q", "prediction": {"a": 1}, "gold": "A"}}, {}, "a string, a number or a list"),
        ({"0": {"origin_prompt": "Q", "prediction": "A", "gold": {"a": 1}}}, {}, "a string, a number or a list"),
        (
            {"0": {"origin_prompt": "Q", "prediction": "A", "gold": "A"}, "1": []},
            {},
            "is not predictions or results as",
        ),
        (
            {"0": {"origin_prompt": [["a"], ["b"]], "prediction": ["A", "B"], "gold": ["A", "B"]}},
            {},
            "conversations of several rounds",
        ),
        ({"details": [{"correct": True}, 7]}, {}, "is not predictions or results as OpenCompass writes it"),
    ],
)
def test_what_is_not_as_opencompass_writes_it_is_refused_in_one_line(
    tmp_path: Path, value: Any, options: dict[str, Any], told: str
) -> None:
    with pytest.raises(InputError, match=told) as refusal:
        read(_write(tmp_path / "x.json", value), **options)
    assert "\n" not in str(refusal.value)


def test_details_without_a_verdict_are_counted_and_never_taken_for_wrong(tmp_path: Path) -> None:
    held = _evaluated(OLD)
    del held["details"][3]["correct"]
    old, new = _write(tmp_path / "v1.json", held), _write(tmp_path / "v2.json", _evaluated(NEW))
    with pytest.raises(InputError, match="1 of 12 details have no 'correct', for instance 3"):
        compare_runs(old, new)
    assert compare_runs(old, new, allow_missing=True).overall.comparison.n == 11
