"""The metric modules, as evaluate runs them: each loads from its folder, its examples are doctests, its cases hold."""

import doctest
import importlib
import json
import math
import runpy
import sys
import types
from pathlib import Path
from typing import Any
from unittest import mock

import datasets
import evaluate
import numpy as np
import pytest
import yaml

from muscle_hf import InputError, registration

FOLDERS = {name: Path(registration.metric_folder(name) or "") for name in sorted(registration.METRICS)}
ANSWERS = {"predictions": [1, 0, 2], "old_predictions": [1, 1, 0], "references": [1, 1, 1]}

each_metric = pytest.mark.parametrize("name", sorted(FOLDERS))


def _cases() -> list[Any]:
    found = []
    for name, folder in FOLDERS.items():
        for index, case in enumerate(runpy.run_path(str(folder / "tests.py"))["test_cases"]):
            found.append(pytest.param(name, case, id=f"{name}-{index}"))
    return found


def _load(name: str, **options: Any) -> evaluate.EvaluationModule:
    return evaluate.load(str(FOLDERS[name]), **options)


@pytest.fixture
def flips() -> evaluate.EvaluationModule:
    return _load("negative_flips")


@pytest.fixture
def consistency() -> evaluate.EvaluationModule:
    return _load("consistency")


# The habit of evaluate's own test_metric_common.py ------------------------------------------------------------


@each_metric
def test_a_module_loads_from_its_folder_as_evaluate_expects_it(name: str) -> None:
    metric = _load(name)
    assert metric.module_type == "metric"
    assert metric.name == name
    for text in (metric.description, metric.citation, metric.inputs_description):
        assert text.strip()
    # MetricInfo goes into the Space and the docs; what is in it must be known to compute as well.
    assert all(feature in metric.inputs_description for feature in metric._feature_names())


@each_metric
def test_the_examples_in_the_docstring_are_true(name: str) -> None:
    module = importlib.import_module(type(_load(name)).__module__)
    result = doctest.testmod(module)
    assert result.failed == 0
    assert result.attempted > 4, "more than one example is wanted"


@each_metric
def test_the_examples_in_the_card_are_true(name: str) -> None:
    # The line that closes a code block would be taken for output.
    text = (FOLDERS[name] / "README.md").read_text(encoding="utf-8").replace("```\n", "\n")
    runner = doctest.DocTestRunner()
    runner.run(doctest.DocTestParser().get_doctest(text, {}, name, "README.md", 0))
    assert runner.failures == 0
    assert runner.tries > 2


@pytest.mark.parametrize(("name", "case"), _cases())
@pytest.mark.parametrize("how", ["compute", "add_batch", "add", "in_memory"])
def test_known_results(name: str, case: dict[str, Any], how: str) -> None:
    inputs = {key: value for key, value in case.items() if key != "result"}
    metric = _load(name, keep_in_memory=how == "in_memory")
    if how == "add_batch":
        half = len(inputs["predictions"]) // 2
        metric.add_batch(**{key: value[:half] for key, value in inputs.items()})
        metric.add_batch(**{key: value[half:] for key, value in inputs.items()})
    elif how == "add":
        for row in zip(*inputs.values(), strict=True):
            example = dict(zip(inputs, row, strict=True))
            single = {"prediction": example.pop("predictions"), "old_predictions": example.pop("old_predictions")}
            metric.add(**single, **({"reference": example["references"]} if example else {}))
    result = metric.compute() if how.startswith("add") else metric.compute(**inputs)
    assert {key: result[key] for key in case["result"]} == pytest.approx(case["result"], nan_ok=True)


@each_metric
def test_a_folder_is_a_whole_space(name: str) -> None:
    folder = FOLDERS[name]
    present = {path.name for path in folder.iterdir() if path.name != "__pycache__"}
    assert present == {f"{name}.py", "README.md", "app.py", "requirements.txt", "tests.py"}
    assert (folder / "requirements.txt").read_text().startswith("muscle_hf")
    _, front, card = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    fields = yaml.safe_load(front)
    assert fields["sdk"] == "gradio"
    assert (folder / fields["app_file"]).is_file()
    assert fields["tags"] == ["evaluate", "metric"]
    assert isinstance(fields["sdk_version"], str), "6.30 without quotes would be the number 6.3"
    # The two descriptions are shown in two places and must not drift apart.
    assert " ".join(fields["description"].split()) in " ".join(_load(name).description.split())
    for heading in ("How to use", "Inputs", "Outputs", "Examples", "Limits and bias", "Citation"):
        assert f"# {heading}\n" in card
    for key in _load(name).compute(**ANSWERS):
        assert f"| `{key}` |" in card, f"the card does not explain {key}"
    assert _load(name).citation.strip() in card


@each_metric
def test_the_page_of_the_space_computes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # gradio is no dependency of ours; a stand-in shows that the page builds and that its function works.
    gradio = types.ModuleType("gradio")
    for part in ("Blocks", "Row", "Markdown", "Textbox", "Button", "Dataframe", "Examples"):
        setattr(gradio, part, mock.MagicMock())
    gradio.Error = type("Error", (Exception,), {})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "gradio", gradio)
    page = runpy.run_path(str(FOLDERS[name] / "app.py"))
    for old, new, references in page["EXAMPLES"]:
        rows = page["measure"](old, new, references)
        assert all(isinstance(text, str) for row in rows for text in row)
    assert page["answers"]("a\n\n b \n") == ["a", None, "b"]
    with pytest.raises(gradio.Error, match="equally long"):  # type: ignore[attr-defined]
        page["measure"]("a\nb", "a", "a\nb")


# What comes out --------------------------------------------------------------------------------


def test_negative_flips_gives_the_promised_keys_in_plain_types(flips: evaluate.EvaluationModule) -> None:
    result = flips.compute(**ANSWERS)
    assert {key: type(value) for key, value in result.items()} == {
        "negative_flip_rate": float,
        "positive_flip_rate": float,
        "inconsistency_flip_rate": float,
        "accuracy": float,
        "old_accuracy": float,
        "relative_negative_flip_rate": float,
        "negative_flips": int,
        "positive_flips": int,
        "p_value": float,
        "confidence_interval": list,
    }
    low, high = result["confidence_interval"]
    assert 0 <= low < result["negative_flip_rate"] < high <= 1
    assert json.loads(json.dumps(result)) == result, "a result that cannot be saved as JSON"


def test_a_wider_level_gives_a_wider_interval(flips: evaluate.EvaluationModule) -> None:
    narrow = flips.compute(**ANSWERS, level=0.5)["confidence_interval"]
    wide = flips.compute(**ANSWERS, level=0.99)["confidence_interval"]
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_consistency_gives_more_only_where_references_are_given(consistency: evaluate.EvaluationModule) -> None:
    plain = {key: value for key, value in ANSWERS.items() if key != "references"}
    assert list(consistency.compute(**plain)) == ["agreement", "kappa"]
    result = consistency.compute(**ANSWERS)
    assert list(result) == ["agreement", "kappa", "correct_agreement", "error_agreement"]
    assert {type(value) for value in result.values()} == {float}
    # And the first call's lack of references must not stick.
    assert list(consistency.compute(**plain)) == ["agreement", "kappa"]


def test_modules_combine_where_their_inputs_agree() -> None:
    both = evaluate.combine(["negative_flips", "consistency"])
    result = both.compute(**ANSWERS)
    assert result["negative_flips"] == 1
    assert result["correct_agreement"] == 0.5
    both.add_batch(**ANSWERS)
    assert both.compute() == result
    for prediction, old, reference in zip(*ANSWERS.values(), strict=True):
        both.add(prediction=prediction, reference=reference, old_predictions=old)
    assert both.compute() == result


# What goes in --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "convert",
    [np.array, tuple, lambda values: np.array(values, dtype=np.int8), lambda values: [np.int64(v) for v in values]],
    ids=["numpy", "tuple", "int8", "numpy-scalars"],
)
def test_arrays_count_like_lists(flips: evaluate.EvaluationModule, convert: Any) -> None:
    expected = flips.compute(**ANSWERS)
    assert flips.compute(**{key: convert(values) for key, values in ANSWERS.items()}) == expected


def test_columns_of_a_data_set_count_like_lists(flips: evaluate.EvaluationModule) -> None:
    table = datasets.Dataset.from_dict(ANSWERS)
    assert flips.compute(**{key: table[key] for key in ANSWERS}) == flips.compute(**ANSWERS)


def test_booleans_are_answers_too(flips: evaluate.EvaluationModule) -> None:
    result = flips.compute(predictions=[True, False], old_predictions=[True, True], references=[True, True])
    assert result["negative_flips"] == 1


@pytest.mark.parametrize("answers", [["7", "7", "8"], [7, 7, 8]], ids=["string", "int"])
@pytest.mark.parametrize("missing", [0, 1, 2])
def test_no_answer_is_wrong_wherever_it_stands(
    flips: evaluate.EvaluationModule, answers: list[Any], missing: int
) -> None:
    # evaluate looks at the first answer only; through numpy a None among ints would turn into NaN.
    new = [None if index == missing else answer for index, answer in enumerate(answers)]
    result = flips.compute(predictions=new, old_predictions=answers, references=answers)
    assert result["negative_flips"] == 1
    assert result["accuracy"] == pytest.approx(2 / 3)


def test_two_answers_that_are_missing_agree(consistency: evaluate.EvaluationModule) -> None:
    assert consistency.compute(predictions=[None, None], old_predictions=[None, None])["agreement"] == 1


@pytest.mark.parametrize("answer", [1, "a"], ids=["int", "string"])
@pytest.mark.parametrize("in_memory", [False, True])
def test_examples_without_an_answer_do_not_fix_the_type_of_the_later_ones(answer: Any, in_memory: bool) -> None:
    metric = _load("consistency", keep_in_memory=in_memory)
    other = answer * 2
    for _ in range(2):  # and nothing stays behind for the next round
        metric.add(prediction=None, old_predictions=None)
        metric.add_batch(predictions=[None, None], old_predictions=[None, None])
        with pytest.raises(InputError, match="ints or strings; got float"):
            metric.add(prediction=1.5, old_predictions=1)
        metric.add(prediction=answer, old_predictions=other)
        metric.add(prediction=None, old_predictions=None)
        with mock.patch.object(metric, "_compute", lambda **columns: columns):
            columns = metric.compute(predictions=[other], old_predictions=[None])
        assert columns["predictions"] == [None, None, None, answer, None, other]
        assert columns["old_predictions"] == [None, None, None, other, None, None]
        assert columns["references"] == [None] * 6


@pytest.mark.parametrize("in_memory", [False, True])
def test_examples_held_back_are_not_lost_where_no_answer_ever_comes(in_memory: bool) -> None:
    metric = _load("consistency", keep_in_memory=in_memory)
    for _ in range(2):
        metric.add_batch(predictions=[None, None], old_predictions=[None, None])
        metric.add(prediction=None, old_predictions=None)
        with mock.patch.object(metric, "_compute", lambda **columns: columns):
            assert metric.compute()["predictions"] == [None] * 3
    metric.add(prediction=None, old_predictions=None)
    assert metric.compute()["agreement"] == 1


def test_digits_in_strings_are_not_turned_into_numbers(flips: evaluate.EvaluationModule) -> None:
    result = flips.compute(predictions=["007", "7"], old_predictions=["7", "7"], references=["7", "7"])
    assert result["negative_flips"] == 1


@each_metric
@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"predictions": [], "old_predictions": [], "references": []}, "got no answers"),
        (
            {"predictions": [1, 2], "old_predictions": [1], "references": [1, 2]},
            "equally long; got 2 predictions, 1 old",
        ),
        ({"predictions": [1.7], "old_predictions": [1], "references": [1]}, "ints or strings; got float 1.7"),
        (
            {"predictions": [float("nan")], "old_predictions": [1], "references": [1]},
            "A missing answer is None, not NaN",
        ),
        ({"predictions": [[1]], "old_predictions": [1], "references": [1]}, "ints or strings; got list"),
        ({"predictions": ["a", 1], "old_predictions": ["a", "b"], "references": ["a", "b"]}, "both ints and strings"),
        ({"predictions": ["1"], "old_predictions": [1], "references": [1]}, "string in predictions"),
        ({"predictions": "yes", "old_predictions": "yes", "references": "yes"}, "a list of answers; got one str"),
        ({"predictions": 1, "old_predictions": 1, "references": 1}, "a list of answers; got one int"),
        ({"predictions": [1], "old_predictions": [1], "references": [None]}, r"references\[0\] is None"),
        ({"predictions": [2**63], "old_predictions": [1], "references": [1]}, "does not fit in 64 bits"),
        ({"predictions": None, "old_predictions": [1], "references": [1]}, "needs predictions"),
        ({"predictions": [1], "old_predictions": None, "references": [1]}, "needs old_predictions"),
    ],
)
def test_bad_answers_are_refused_and_leave_the_module_usable(name: str, inputs: dict[str, Any], message: str) -> None:
    metric = _load(name)
    with pytest.raises(InputError, match=message):
        metric.compute(**inputs)
    assert metric.compute(**ANSWERS)["accuracy" if name == "negative_flips" else "agreement"] == pytest.approx(1 / 3)


def test_a_second_batch_of_another_kind_is_refused(flips: evaluate.EvaluationModule) -> None:
    flips.add_batch(**ANSWERS)
    with pytest.raises(InputError, match="after int64 in what was added before"):
        flips.add_batch(predictions=["a"], old_predictions=["a"], references=["a"])
    assert flips.compute()["negative_flips"] == 1


def test_references_with_some_batches_only_are_refused(consistency: evaluate.EvaluationModule) -> None:
    consistency.add_batch(**ANSWERS)
    consistency.add_batch(predictions=[1], old_predictions=[1])
    with pytest.raises(InputError, match="for 3 of 4 examples"):
        consistency.compute()


@each_metric
def test_a_misspelt_input_is_named(name: str) -> None:
    with pytest.raises(InputError, match="does not take old_prediction: its inputs are predictions, old_predictions"):
        _load(name).add(prediction=1, old_prediction=1, reference=1)


def test_two_processes_count_together(tmp_path: Path) -> None:
    # As in distributed evaluation; the second process first hands in its part, the first one computes over both.
    import threading

    shared = {"cache_dir": str(tmp_path), "num_process": 2, "experiment_id": "two"}
    parts = [_load("negative_flips", process_id=index, **shared) for index in range(2)]
    results: dict[int, Any] = {}

    def work(index: int) -> None:
        parts[index].add_batch(**ANSWERS)
        results[index] = parts[index].compute()

    threads = [threading.Thread(target=work, args=(index,)) for index in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert results[1] is None
    assert results[0]["negative_flips"] == 2
    assert not math.isnan(results[0]["p_value"])
