"""The metric modules, as evaluate runs them: each loads from its folder, its examples are doctests, its cases hold."""

import doctest
import importlib
import inspect
import json
import math
import runpy
import sys
import types
import uuid
from pathlib import Path
from typing import Any
from unittest import mock

import datasets
import evaluate
import numpy as np
import pytest
import yaml

from muscle_hf import ConfigurationError, InputError, compare_scores, compare_yes_no
from muscle_hf.flips.yes_no.knowledge import KNOWLEDGE
from muscle_hf.spaces import pages as space_page
from muscle_hf.spaces import registration

FOLDERS = {name: Path(registration.metric_folder(name) or "") for name in sorted(registration.METRICS)}
ANSWERS = {"predictions": [1, 0, 2], "old_predictions": [1, 1, 0], "references": [1, 1, 1]}
TEXTS = {"predictions": ["a b", "c"], "old_predictions": ["a", "c"], "references": ["a b", "d"]}
SCORES = {"predictions": [0.75, 0.25, 0.5], "old_predictions": [0.5, 0.5, 0.5]}
# What a module can be asked for; options stand beside the inputs.
USES: dict[str, dict[str, Any]] = {
    "smooth_compatibility": {**TEXTS, "scorer": "rouge1"},
    "negative_bias": {**ANSWERS, "knowledge": ["correct"] * 3, "positive": 1, "negative": [0, 2]},
}
INPUTS = ("predictions", "old_predictions", "references", "knowledge")
# What the boxes of a page hold beside its tables.
BOXES = {"smooth_compatibility": ["rouge1", None], "negative_bias": ["yes", "no"]}

each_metric = pytest.mark.parametrize("name", sorted(FOLDERS))
each_metric_of_answers = pytest.mark.parametrize("name", ["consistency", "negative_flips"])


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


@pytest.fixture
def smooth() -> evaluate.EvaluationModule:
    # An experiment of its own: evaluate waits a second for the cache file of another instance.
    return _load("smooth_compatibility", experiment_id=uuid.uuid4().hex)


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


@pytest.mark.slow
@pytest.mark.parametrize(("name", "case"), _cases())
@pytest.mark.parametrize("how", ["compute", "add_batch", "add", "in_memory"])
def test_known_results(name: str, case: dict[str, Any], how: str) -> None:
    inputs = {key: value for key, value in case.items() if key in INPUTS}
    options = {key: value for key, value in case.items() if key not in (*INPUTS, "result")}
    metric = _load(name, keep_in_memory=how == "in_memory")
    if how == "add_batch":
        half = len(inputs["predictions"]) // 2
        metric.add_batch(**{key: value[:half] for key, value in inputs.items()})
        metric.add_batch(**{key: value[half:] for key, value in inputs.items()})
    elif how == "add":
        for row in zip(*inputs.values(), strict=True):
            example = dict(zip(inputs, row, strict=True))
            names = {"predictions": "prediction", "references": "reference"}
            metric.add(**{names.get(key, key): value for key, value in example.items()})
    result = metric.compute(**options) if how.startswith("add") else metric.compute(**inputs, **options)
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
    for key in _load(name).compute(**USES.get(name, ANSWERS)):
        assert f"| `{key}` |" in card, f"the card does not explain {key}"
    assert _load(name).citation.strip() in card


@each_metric
def test_the_page_of_the_space_computes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # gradio is no dependency of ours; a stand-in shows that the page builds and that its function works.
    gradio = types.ModuleType("gradio")
    parts = ("Blocks", "Row", "Column", "Accordion", "Markdown", "Textbox", "File", "Dropdown", "Number", "Checkbox")
    for part in (*parts, "Button", "HTML", "Dataframe", "DownloadButton", "Examples"):
        setattr(gradio, part, mock.MagicMock())
    monkeypatch.setitem(sys.modules, "gradio", gradio)
    monkeypatch.delitem(sys.modules, "muscle_hf.spaces.app", raising=False)
    assert runpy.run_path(str(FOLDERS[name] / "app.py"))["demo"] is gradio.Blocks().__enter__()
    monkeypatch.delitem(sys.modules, "muscle_hf.spaces.app")
    (examples, *_), options = gradio.Examples.call_args
    assert len(options["example_labels"]) == len(examples)
    (compare, *_), given = gradio.Button().click.call_args
    assert compare is options["fn"]
    # What is clicked, and what the API of the Space is called with: one value for each argument.
    assert len(given["inputs"]) == len(inspect.signature(compare).parameters)
    for example in examples:
        findings, *_ = compare(*example)
        assert 'class="tiles"' in findings
        shown = gradio.Dataframe.call_args.kwargs
        assert shown["visible"]
        assert shown["value"]["data"], "an example that shows nothing"
        report = gradio.DownloadButton.call_args.kwargs
        assert report["visible"] == bool(report["value"]) == ("reference" in example[0] or "score" in example[0])
    # An untouched box gives None.
    findings, *_ = compare(None, None, None, None, *BOXES.get(name, []), None)
    assert "Not compared:" in findings
    assert not gradio.Dataframe.call_args.kwargs["visible"]


@each_metric
def test_the_page_of_the_space_and_the_metric_give_the_same_figures(name: str) -> None:
    answers = {
        "predictions": ["a", "b", None, "d", "x"],
        "old_predictions": ["a", "c", "c", "x", "y"],
        "references": ["a", "b", "c", "d", "e"],
    }
    options: dict[str, dict[str, Any]] = {
        "smooth_compatibility": {"scorer": "exact_match"},
        "negative_bias": {"positive": ["a", "b", "c"], "negative": ["d", "e"]},
    }
    how = options.get(name, {})
    old, new = (
        "".join(
            json.dumps({"id": row, "prediction": answer, "reference": right}) + "\n"
            for row, (answer, right) in enumerate(zip(answers[side], answers["references"], strict=True))
        )
        for side in ("old_predictions", "predictions")
    )
    boxes = {key: ", ".join(value) if isinstance(value, list) else value for key, value in how.items()}
    shown = getattr(space_page, name)(space_page.Given(old), space_page.Given(new), **boxes).figures
    result = _load(name).compute(**answers, **how)
    figures = {key: value for key, value in result.items() if not key.endswith("_interval")}
    assert shown == pytest.approx(figures, nan_ok=True)


@each_metric
def test_a_space_runs_on_a_python_that_can_install_the_package(name: str) -> None:
    # The Hub's default is older than what the package takes.
    fields = yaml.safe_load((FOLDERS[name] / "README.md").read_text(encoding="utf-8").split("---\n", 2)[1])
    assert isinstance(fields["python_version"], str)
    minor = int(fields["python_version"].split(".")[1])
    assert fields["python_version"].startswith("3.")
    assert minor >= 11


# What comes out --------------------------------------------------------------------------------


def test_negative_flips_gives_the_promised_keys_in_plain_types(flips: evaluate.EvaluationModule) -> None:
    result = flips.compute(**ANSWERS)
    assert {key: type(value) for key, value in result.items()} == {
        "negative_flip_rate": float,
        "balanced_negative_flip_rate": float,
        "positive_flip_rate": float,
        "inconsistency_flip_rate": float,
        "accuracy": float,
        "old_accuracy": float,
        "relative_negative_flip_rate": float,
        "backward_trust_compatibility": float,
        "backward_error_compatibility": float,
        "negative_flip_impact": float,
        "negative_flips": int,
        "positive_flips": int,
        "p_value": float,
        "confidence_interval": list,
        "balanced_confidence_interval": list,
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
    assert list(result) == [
        "agreement",
        "kappa",
        "correct_agreement",
        "backward_error_compatibility",
        "negative_flip_impact",
        "error_agreement",
    ]
    assert {type(value) for value in result.values()} == {float}
    # And the first call's lack of references must not stick.
    assert list(consistency.compute(**plain)) == ["agreement", "kappa"]


def test_negative_bias_gives_plain_numbers_and_groups_only_where_knowledge_is_given() -> None:
    metric = _load("negative_bias")
    plain = {key: value for key, value in USES["negative_bias"].items() if key != "knowledge"}
    without, result = metric.compute(**plain), metric.compute(**USES["negative_bias"])
    groups = {f"{name}_{key}" for name in KNOWLEDGE for key in ("examples", "bias", "shift")}
    assert result.keys() - without.keys() == groups
    assert {key for key, value in result.items() if type(value) is int} == {
        *("negative_flips", "positive_flips", "broken_to_negative", "broken_to_positive", "no_answers"),
        *("old_no_answers", "correct_examples", "incorrect_examples", "insufficient_examples"),
    }
    assert {type(value) for value in result.values()} == {int, float, list}
    json.dumps(result)
    # And knowledge does not stick from one call to the next.
    assert metric.compute(**plain).keys() == without.keys()


def test_the_shift_has_the_interval_of_the_comparison_at_each_level() -> None:
    answers = {"predictions": ["no", "no", "no"], "old_predictions": ["yes", "yes", "no"]}
    right = ["yes", "yes", "no"]
    compared = compare_yes_no(old=answers["old_predictions"], new=answers["predictions"], references=right)
    for level in (0.5, 0.95):
        result = _load("negative_bias").compute(**answers, references=right, level=level)
        assert result["shift_interval"] == list(compared.confidence_interval("shift", level))


def test_smooth_compatibility_gives_the_promised_keys_in_plain_types(smooth: evaluate.EvaluationModule) -> None:
    result = smooth.compute(**TEXTS, scorer="rouge1")
    assert {key: type(value) for key, value in result.items()} == {
        "negative_flip_rate": float,
        "positive_flip_rate": float,
        "mean_gain": float,
        "mean_regression": float,
        "mean_score": float,
        "old_mean_score": float,
        "mean_change": float,
        "negative_flips": int,
        "positive_flips": int,
        "p_value": float,
        "confidence_interval": list,
        "mean_change_interval": list,
    }
    for key, rate in (("confidence_interval", "negative_flip_rate"), ("mean_change_interval", "mean_change")):
        low, high = result[key]
        assert low <= result[rate] <= high
        assert (type(low), type(high)) == (float, float)
        wide = smooth.compute(**TEXTS, scorer="rouge1", level=0.99)[key]
        assert wide[1] - wide[0] >= high - low
    json.dumps(result)


def test_scores_come_out_as_they_went_in_and_not_as_32_bit_floats(smooth: evaluate.EvaluationModule) -> None:
    result = smooth.compute(predictions=[0.1, 2**53], old_predictions=[0.7, 0], level=0.5)
    expected = compare_scores(old=[0.7, 0], new=[0.1, 2**53])
    assert result["mean_regression"] == 0.7 - 0.1
    assert result["mean_gain"] == 2**53
    assert result["p_value"] == expected.p_value
    assert tuple(result["confidence_interval"]) == expected.confidence_interval("negative_flip_rate", 0.5)
    assert tuple(result["mean_change_interval"]) == expected.confidence_interval("mean_change", 0.5)


def test_texts_come_out_as_they_went_in(smooth: evaluate.EvaluationModule) -> None:
    # Digits stay strings, and an empty text is an answer while None is none.
    texts = {"predictions": ["7", ""], "old_predictions": ["007", None], "references": ["7", ""]}
    assert smooth.compute(**texts, scorer="exact_match")["positive_flips"] == 2


def test_exact_match_counts_what_negative_flips_counts(
    smooth: evaluate.EvaluationModule, flips: evaluate.EvaluationModule
) -> None:
    texts = {key: [str(answer) for answer in values] for key, values in ANSWERS.items()}
    scored, plain = smooth.compute(**texts, scorer="exact_match"), flips.compute(**texts)
    for key in ("negative_flip_rate", "positive_flip_rate", "negative_flips", "positive_flips", "confidence_interval"):
        assert scored[key] == plain[key]
    assert (scored["mean_score"], scored["old_mean_score"]) == (plain["accuracy"], plain["old_accuracy"])


def test_options_do_not_stick_from_one_call_to_the_next(smooth: evaluate.EvaluationModule) -> None:
    first = smooth.compute(**SCORES)
    assert smooth.compute(**SCORES, tolerance=0.3)["negative_flips"] == 0
    assert smooth.compute(**TEXTS, scorer="chrf")["positive_flips"] == 1
    assert smooth.compute(**SCORES) == first
    assert first["negative_flips"] == 1


def test_plain_scores_combine_with_themselves_only_as_evaluate_passes_no_options() -> None:
    both = evaluate.combine(["smooth_compatibility", "consistency"])
    texts = {"predictions": ["a"], "old_predictions": ["a"], "references": ["a"]}
    with pytest.raises(InputError, match="no scorer is named"):
        both.compute(**texts)
    alone = evaluate.combine(["smooth_compatibility"])
    assert alone.compute(**SCORES, references=None)["negative_flips"] == 1


def test_modules_combine_where_their_inputs_agree() -> None:
    words = {"predictions": ["no", "no"], "old_predictions": ["yes", "no"], "references": ["yes", "no"]}
    joined = evaluate.combine(["negative_flips", "negative_bias"]).compute(**words)
    assert (joined["negative_flip_rate"], joined["shift"]) == (0.5, 1)
    both = evaluate.combine(["negative_flips", "consistency"])
    result = both.compute(**ANSWERS)
    assert result["negative_flips"] == 1
    assert result["correct_agreement"] == result["backward_trust_compatibility"] == 0.5
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


def test_half_of_an_emoji_is_refused_and_does_not_spoil_what_was_collected(flips: evaluate.EvaluationModule) -> None:
    flips.add(prediction="b", old_predictions="a", reference="a")
    with pytest.raises(InputError, match=r"old_predictions\[1\] is '\\ud83d', which has half of a character"):
        flips.add_batch(predictions=["a", "a"], old_predictions=["a", "\ud83d"], references=["a", "a"])
    assert flips.compute()["negative_flip_rate"] == 1


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


@pytest.mark.slow
@each_metric_of_answers
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


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"references": [1, 1, 3]}, r"references\[2\] is 3 \(1 of 3 are neither\)"),
        ({"references": None}, "negative_bias needs references"),
        ({"knowledge": ["correct", 1, "correct"]}, "knowledge must hold strings; got int 1"),
        ({"knowledge": ["correct", "much", "correct"]}, r"knowledge\[1\] is 'much'"),
        ({"knowledge": ["correct", None, "correct"]}, "got knowledge for 2 of 3 examples"),
        ({"knowledge": ["correct"]}, "equally long; got 3 predictions, 3 old_predictions, 3 references, 1"),
        ({"positive": "yes"}, "is a string and one an int|negative .* an int"),
        ({"positive": [0, 1]}, "0 is a positive and a negative label"),
    ],
)
def test_what_is_no_yes_or_no_or_no_knowledge_is_refused(inputs: dict[str, Any], message: str) -> None:
    metric = _load("negative_bias", keep_in_memory=True)
    with pytest.raises(InputError, match=message):
        metric.compute(**USES["negative_bias"] | inputs)
    assert metric.compute(**USES["negative_bias"])["negative_flips"] == 1


def test_knowledge_with_some_batches_only_is_refused() -> None:
    metric = _load("negative_bias")
    metric.add_batch(**ANSWERS, knowledge=["correct"] * 3)
    metric.add(prediction=1, old_predictions=1, reference=1)
    with pytest.raises(InputError, match="got knowledge for 3 of 4 examples"):
        metric.compute(positive=1, negative=[0, 2])


def test_references_with_some_batches_only_are_refused(consistency: evaluate.EvaluationModule) -> None:
    consistency.add_batch(**ANSWERS)
    consistency.add_batch(predictions=[1], old_predictions=[1])
    with pytest.raises(InputError, match="for 3 of 4 examples"):
        consistency.compute()


@pytest.mark.parametrize(
    "convert",
    [
        np.array,
        tuple,
        lambda values: np.array(values, dtype=np.float32),
        lambda values: [np.float64(v) for v in values],
    ],
    ids=["numpy", "tuple", "float32", "numpy-scalars"],
)
def test_arrays_of_scores_count_like_lists(smooth: evaluate.EvaluationModule, convert: Any) -> None:
    expected = smooth.compute(**SCORES)
    assert smooth.compute(**{key: convert(values) for key, values in SCORES.items()}) == expected


def test_a_missing_score_is_refused_even_where_its_type_was_not_known_yet(smooth: evaluate.EvaluationModule) -> None:
    smooth.add(prediction=None, old_predictions=None)
    smooth.add(prediction=0.5, old_predictions=0.25)
    with pytest.raises(InputError, match=r"old\[0\] is None, but every score"):
        smooth.compute()


def test_ints_and_floats_may_be_mixed_among_scores(smooth: evaluate.EvaluationModule) -> None:
    smooth.add_batch(predictions=[1, 0.5], old_predictions=[True, np.int8(0)])
    smooth.add(prediction=0, old_predictions=0.25)
    result = smooth.compute()
    assert (result["negative_flips"], result["positive_flips"]) == (1, 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"predictions": [], "old_predictions": []}, "got no answers"),
        ({"predictions": [], "old_predictions": [], "references": [], "scorer": "rouge1"}, "got no answers"),
        ({"predictions": [0.5, 1], "old_predictions": [0.5]}, "equally long; got 2 predictions, 1 old"),
        ({"predictions": [0.5, float("nan")], "old_predictions": [0, 0]}, r"predictions\[1\] is nan, but every score"),
        ({"predictions": [0.5], "old_predictions": [float("inf")]}, r"old_predictions\[0\] is inf, but every score"),
        ({"predictions": [10**400], "old_predictions": [0]}, r"predictions\[0\] is inf, but every score"),
        ({"predictions": [0.5, None], "old_predictions": [0.5, 0]}, r"predictions\[1\] is None, but every score"),
        ({"predictions": [None], "old_predictions": [None]}, r"old\[0\] is None, but every score"),
        ({"predictions": [1e200], "old_predictions": [0]}, "overflow; scale the scores down"),
        ({"predictions": [0.5, "a"], "old_predictions": [0, 0]}, "both numbers and strings"),
        ({"predictions": ["a", float("nan")], "old_predictions": ["a", "b"]}, "answer is None, not NaN"),
        ({"predictions": ["a"], "old_predictions": [0.5]}, "string in predictions, float64 in old_predictions"),
        ({"predictions": [[0.5]], "old_predictions": [[0.5]]}, "numbers or strings; got list"),
        ({"predictions": [1 + 1j], "old_predictions": [0]}, "numbers or strings; got complex"),
        ({**TEXTS, "references": [["a b", "a"], ["d", "e"]], "scorer": "bleu"}, "numbers or strings; got list"),
        ({**TEXTS, "references": ["a b", None], "scorer": "rouge1"}, r"references\[1\] is None"),
        ({**TEXTS, "references": None, "scorer": "rouge1"}, "scorer 'rouge1' compares with the right texts"),
        (TEXTS, "no scorer is named: pass scorer, one of exact_match, rouge1"),
        ({**TEXTS, "references": None}, "no scorer is named"),
        ({**TEXTS, "scorer": "rouge3"}, "no scorer 'rouge3'; the scorers are: exact_match, rouge1"),
        ({**TEXTS, "scorer": ["rouge1"]}, "no scorer .'rouge1'.; the scorers"),
        ({**SCORES, "scorer": "rouge1"}, "scorer 'rouge1' compares with the right texts"),
        ({**SCORES, "references": [1, 1, 1]}, "references are given, but no scorer"),
        (
            {**SCORES, "references": [1, 1, 1], "scorer": "rouge1"},
            r"is 0.5, but a scorer takes texts: leave the scorer",
        ),
        ({**SCORES, "tolerance": -0.1}, "tolerance is -0.1"),
        ({**SCORES, "level": 95}, "level is 95"),
        ({**SCORES, "predictions": None}, "needs predictions"),
    ],
)
def test_what_cannot_be_scored_is_refused_and_leaves_the_module_usable(inputs: dict[str, Any], message: str) -> None:
    # In memory, because evaluate waits a second for the cache file of a computation that failed.
    smooth = _load("smooth_compatibility", keep_in_memory=True)
    with pytest.raises(InputError, match=message):
        smooth.compute(**inputs)
    assert smooth.compute(**SCORES)["negative_flips"] == 1


def test_a_missing_library_names_the_extra_to_install(
    smooth: evaluate.EvaluationModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics", None)
    with pytest.raises(ConfigurationError, match=r'pip install "muscle_hf\[scorers\]"'):
        smooth.compute(**TEXTS, scorer="chrf")
    assert smooth.compute(**TEXTS, scorer="exact_match")["positive_flips"] == 1


def test_scores_after_texts_and_references_with_some_batches_only_are_refused(
    smooth: evaluate.EvaluationModule,
) -> None:
    smooth.add_batch(**TEXTS)
    with pytest.raises(InputError, match=r"all numbers or all strings; got float64 in predictions, .* after string"):
        smooth.add_batch(**SCORES)
    smooth.add_batch(predictions=["a"], old_predictions=["a"])
    with pytest.raises(InputError, match="smooth_compatibility got references for 2 of 3 examples"):
        smooth.compute(scorer="rouge1")


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
        thread.join(timeout=900)
    assert results[1] is None
    assert results[0]["negative_flips"] == 2
    assert not math.isnan(results[0]["p_value"])
