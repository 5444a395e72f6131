"""Details of lighteval up to 0.10: read as those of later versions, and compared with them."""

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lighteval_details import Row, as_texts, detail, old, run_file, write

from muscle_hf import InputError, compare_runs, read
from muscle_hf.flips.comparison import Comparison
from muscle_hf.readers.formats.lighteval_old import as_new

DATE = "2025-04-04T00-00-00.000000"
TASK = "lighteval|math_500|0"
LAYOUTS: dict[str, Callable[[Row], Row]] = {"0.4": as_texts, "0.8": old, "0.11": lambda row: row}
PAIRS = [pair for pair in itertools.product(LAYOUTS, LAYOUTS) if pair != ("0.11", "0.11")]


def _choice(key: int, likely: int, gold: Any = 0) -> Row:
    places = gold if isinstance(gold, list) else [gold]
    response = {"logprobs": [-1.0 if index == likely else -2.0 for index in range(2)]}
    return detail(key, doc={"gold_index": gold}, response=response, acc=float(likely in places), acc_norm=0.0)


def _text(key: int, said: str) -> Row:
    doc = {"choices": ["3", "4"], "gold_index": 1, "sampling_methods": ["GENERATIVE"]}
    return detail(key, doc=doc, response={"text": [said]}, extractive_match=float(said == "4"))


def _write(path: Path, layout: str, rows: list[Row]) -> Path:
    return write(path, [LAYOUTS[layout](row) for row in rows])


@pytest.mark.slow
@pytest.mark.parametrize("layouts", PAIRS, ids="-".join)
@pytest.mark.parametrize("form", ["files", "folders"])
def test_multiple_choice_gives_the_same_flips_in_every_layout(
    layouts: tuple[str, str], form: str, tmp_path: Path
) -> None:
    answers = ([0, 1, 0, 1], [1, 0, 0, 1])
    files = [
        _write(run_file(tmp_path / side, "m", DATE, TASK), layout, [_choice(key, said[key]) for key in range(4)])
        for side, layout, said in zip(("v1", "v2"), layouts, answers, strict=True)
    ]
    result = compare_runs(*(files if form == "files" else (tmp_path / "v1", tmp_path / "v2")))
    (part,) = result.tasks
    assert (part.name, part.metric) == (TASK, "acc")
    assert isinstance(part.comparison, Comparison)
    assert part.comparison.negative_flips.tolist() == [0]
    assert part.comparison.positive_flips.tolist() == [1]
    assert part.comparison.both_wrong_same == 1
    assert [(flip.question, flip.reference, flip.old_answer, flip.new_answer) for flip in result.flips()] == [
        ("Question 0?", "a", "0: a", "1: b"),
        ("Question 1?", "a", "1: b", "0: a"),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("layouts", PAIRS, ids="-".join)
def test_generated_texts_give_the_same_flips_in_every_layout(layouts: tuple[str, str], tmp_path: Path) -> None:
    answers = (["4", "4", "x", "4"], ["4", "y", "4", "4"])
    # In another order: without ids, instances are matched by what was asked.
    files = [
        _write(tmp_path / f"{side}.parquet", layout, [_text(key, said[key]) for key in order])
        for side, layout, said, order in zip(("v1", "v2"), layouts, answers, (range(4), (3, 1, 0, 2)), strict=True)
    ]
    result = compare_runs(*files)
    (part,) = result.tasks
    assert part.metric == "extractive_match"
    assert [(flip.kind, flip.question, flip.reference, flip.new_answer) for flip in result.flips()] == [
        ("negative_flip", "Question 1?", "4", "y"),
        ("positive_flip", "Question 2?", "4", "4"),
    ]


@pytest.mark.parametrize("layout", ["0.4", "0.8"])
def test_several_right_choices_and_other_metrics_are_read(layout: str, tmp_path: Path) -> None:
    found = read(_write(tmp_path / "d.parquet", layout, [_choice(key, key, [0, 1]) for key in range(2)]))
    (task,) = found.tasks.values()
    assert task.answers is not None and task.answers.to_pylist() == ["0", "1"]
    assert task.values().tolist() == [1.0, 1.0]
    assert task.read_texts(np.array([0]))[0].reference == "a / b"
    assert read(tmp_path / "d.parquet", metric="acc_norm").tasks["d"].values().tolist() == [0.0, 0.0]


@pytest.mark.parametrize("layout", ["0.4", "0.8"])
def test_questions_that_stand_twice_are_matched_in_order(layout: str, tmp_path: Path) -> None:
    def rows(first: int, second: int) -> list[Row]:
        return [_choice(0, first), _choice(1, 0), _choice(0, second)]

    old_file = _write(tmp_path / "v1.parquet", layout, rows(0, 1))
    new_file = _write(tmp_path / "v2.parquet", layout, rows(0, 0))
    part = compare_runs(old_file, new_file).tasks[0]
    assert (part.n, part.comparison.positive_flips.tolist()) == (3, [2])


@pytest.mark.parametrize("layout", ["0.4", "0.8"])
def test_other_right_answers_are_refused(layout: str, tmp_path: Path) -> None:
    files = [_write(tmp_path / f"v{gold}.parquet", layout, [_choice(0, 0, gold)]) for gold in (0, 1)]
    with pytest.raises(InputError, match="the right answers of 1 of 1 ids differ"):
        compare_runs(*files)


def test_fields_of_the_task_can_be_sliced_by(tmp_path: Path) -> None:
    rows = [
        detail(key, doc={"specific": {"level": "hard"}}, response={"logprobs": [-1.0, -2.0]}, acc=1.0)
        for key in (0, 1)
    ]
    for layout in ("0.4", "0.8"):
        path = _write(tmp_path / f"{layout}.parquet", layout, rows)
        (part,) = compare_runs(path, path, by="level").slices["level"]
        assert (part.name, part.n) == ("hard", 2)


def test_the_first_text_of_several_is_the_answer() -> None:
    row = old(_text(0, "4"))
    for predictions in (["4", "5"], [["4", "5"]], "['4', '5']", "[['4'], ['5']]"):
        assert as_new(row | {"predictions": predictions})["model_response"]["text"] == ["4", "5"]


def test_values_that_are_no_literals_are_read() -> None:
    row = as_texts(_choice(0, 0)) | {"metrics": "{'acc': np.float64(1.0), 'ppl': nan, 'low': -inf}"}
    metric = as_new(row)["metric"]
    assert metric["acc"] == 1.0 and math.isnan(metric["ppl"]) and metric["low"] == -math.inf
    tensor = as_new(row | {"predictions": "[tensor(-1.5, device='cuda:0'), -2.0]"})
    assert tensor["model_response"]["logprobs"] == [-1.5, -2.0]


@given(st.lists(st.text(max_size=20), max_size=4), st.text(max_size=20), st.floats(), st.booleans())
def test_texts_of_values_give_the_values_back(said: list[str], query: str, value: float, flag: bool) -> None:
    row = old(_text(0, "4")) | {"example": query, "gold": said, "predictions": said}
    row["metrics"] = {"em": value, "right": flag}
    typed, read_back = as_new(row), as_new({name: str(item) for name, item in row.items()})
    assert repr(typed) == repr(read_back)  # nan is not equal to itself


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["0.4", "0.11"])
@pytest.mark.parametrize(("metric", "count"), [(None, 2), ("extractive_match", 2)], ids=["first", "asked"])
def test_of_a_task_with_two_kinds_of_metrics_the_rows_of_the_chosen_one_are_compared(
    layout: str, metric: str | None, count: int, tmp_path: Path
) -> None:
    # Each question stands twice: asked for likelihoods, and for a text.
    def rows(likely: int, said: str) -> list[Row]:
        return [_choice(0, 0), _choice(1, likely), _text(0, "4"), _text(1, said)]

    files = [
        _write(tmp_path / f"{name}.parquet", layout, rows(*answers))
        for name, answers in (("v1", (0, "4")), ("v2", (1, "5")))
    ]
    result = compare_runs(*files, metric=metric)
    (part,) = result.tasks
    assert part.metric == metric or (metric is None and part.metric == "acc")
    assert part.n == count
    (flip,) = result.flips()
    assert (flip.question, flip.old_answer, flip.new_answer) == (
        ("Question 1?", "0: a", "1: b") if metric is None else ("Question 1?", "4", "5")
    )


@pytest.mark.parametrize("metrics", [["{'em': 1.0, 'f1': 0.5}", "{'f1': 0.5}"], ["{'em': 1.0}", "{}"]])
def test_a_metric_that_some_rows_lack_is_not_compared_without_them(metrics: list[str], tmp_path: Path) -> None:
    rows = [as_texts(_text(key, "4")) | {"metrics": said} for key, said in enumerate(metrics)]
    path = write(tmp_path / "d.parquet", rows)
    with pytest.raises(InputError, match="'em' is not one number for every sample"):
        read(path, metric="em")


def test_likelihoods_without_the_question_are_no_choices() -> None:
    row = old(_choice(0, 0)) | {"predictions": [-1.0, -2.0, -9.0, -0.5]}
    assert as_new(row)["model_response"]["logprobs"] == [-1.0, -2.0]


@pytest.mark.parametrize("text", ["[1, 2", "open('x')", "__import__('os')", "{**{}}", "a.b"])
def test_a_text_that_is_no_value_is_refused_with_its_row_and_never_run(text: str, tmp_path: Path) -> None:
    rows = [as_texts(_text(key, "4")) for key in range(2)]
    rows[1]["predictions"] = text
    path = write(tmp_path / "d.parquet", rows)
    with pytest.raises(
        InputError, match=r"d\.parquet, row 2 is not what lighteval writes \(ValueError: .* is no value"
    ):
        read(path)


def test_columns_and_filters_are_refused_as_for_later_versions(tmp_path: Path) -> None:
    path = _write(tmp_path / "d.parquet", "0.8", [_choice(0, 0)])
    for options in ({"columns": {"id": "example"}}, {"filter": "strict"}):
        with pytest.raises(InputError, match="neither filters nor other columns"):
            read(path, **options)


def test_the_value_of_an_infinite_likelihood_is_read() -> None:
    row = {"example": "Q?", "choices": "['a', 'b']", "gold": "[]", "gold_index": "[1]", "metrics": "{'acc': 1}"}
    new = as_new(row | {"predictions": "[(-2.5, False), (-inf, False)]", "specifics": "None"})
    assert (new["model_response"]["logprobs"], new["metric"]) == ([-2.5, -math.inf], {"acc": 1})
