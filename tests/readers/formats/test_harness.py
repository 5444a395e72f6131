"""Samples of lm-evaluation-harness: figures of real runs, the forms of all versions, what may be wrong in a file."""

import json
import math
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness_samples import (
    DATES,
    TASKS,
    Row,
    choice,
    generation,
    model_folder,
    results,
    samples,
    samples_file,
    with_plain_values,
    without_filter,
    write,
    write_array,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from muscle_hf import InputError, compare_runs, read
from muscle_hf.flips.comparison import Comparison
from muscle_hf.readers.answers import TaskAnswers
from muscle_hf.readers.formats.harness import read_samples
from muscle_hf.runs.run_comparison import RunComparison


def _read(path: Path, **options: Any) -> TaskAnswers:
    return next(iter(read(path, **options).tasks.values()))


def _refusal(path: Path, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        read(path, **options)
    message = str(caught.value)
    assert str(path) in message, "the message does not name the file"
    assert len(message.splitlines()) == 1
    assert len(message) < 600
    return message


def _answers(path: Path, **options: Any) -> list[Any] | None:
    found = _read(path, **options).answers
    return None if found is None else found.to_pylist()


def _figures(result: RunComparison) -> str:
    """Everything that was measured, without where it was read."""
    found = result.to_dict()
    return json.dumps([found["tasks"], found["pooled"], found["slices"]], indent=1)


def _rates(result: RunComparison) -> tuple[float, ...]:
    part = result.tasks[0]
    assert isinstance(part.comparison, Comparison)
    found = part.comparison
    rates = (found.old_accuracy, found.new_accuracy, found.negative_flip_rate, found.positive_flip_rate)
    return tuple(round(float(rate), 6) for rate in rates)


# Real runs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "metric", "expected"),
    [
        ("piqa_local", "acc", (0.48, 0.55, 0.00, 0.07)),
        ("piqa_local", "acc_norm", (0.49, 0.49, 0.06, 0.06)),
        ("hellaswag_local", "acc_norm", (0.24, 0.21, 0.04, 0.01)),
        ("gsm8k_local", "exact_match", (0.0, 0.01, 0.0, 0.01)),
    ],
)
def test_real_runs_give_the_known_figures(task: str, metric: str, expected: tuple[float, ...]) -> None:
    result = compare_runs(samples_file("tiny-v1", task), samples_file("tiny-v2", task), metric=metric)
    assert result.tasks[0].n == 100
    assert _rates(result) == expected
    assert not any("contradict" in note for note in result.notes)


def test_accuracy_is_what_the_harness_says_itself() -> None:
    for model in DATES:
        told = results(model)["results"]
        for task, metric in (("piqa_local", "acc"), ("piqa_local", "acc_norm"), ("hellaswag_local", "acc")):
            found = _read(samples_file(model, task), metric=metric)
            assert found.values().mean() == pytest.approx(told[task][f"{metric},none"], abs=1e-12)


def test_answers_of_multiple_choice_are_what_the_scores_say() -> None:
    for metric in ("acc", "acc_norm"):
        found = _read(samples_file("tiny-v1", "hellaswag_local"), metric=metric)
        assert found.answers is not None and found.scores is not None
        targets = [int(row["target"]) for row in samples("tiny-v1", "hellaswag_local")]
        assert [float(a == t) for a, t in zip(found.answers.to_pylist(), targets, strict=True)] == [*found.scores]


def test_a_run_folder_compares_the_tasks_and_skips_the_one_without_a_score_a_sample() -> None:
    result = compare_runs(model_folder("tiny-v1"), model_folder("tiny-v2"))
    assert [part.name for part in result.tasks] == sorted(TASKS)
    assert list(result.not_compared) == ["selfinstruct_local"]
    assert "'bleu', 'chrf'" in result.not_compared["selfinstruct_local"]


def test_flips_carry_the_texts_of_their_instance_and_not_of_another() -> None:
    result = compare_runs(samples_file("tiny-v1", "piqa_local"), samples_file("tiny-v2", "piqa_local"))
    docs = {row["doc_id"]: row["doc"] for row in samples("tiny-v1", "piqa_local")}
    flips = list(result.flips())
    assert len(flips) == 7
    for flip in flips:
        doc = docs[flip.id]
        assert flip.question == doc["goal"]
        choices = [f"0: {doc['sol1']}", f"1: {doc['sol2']}"]
        assert flip.reference == flip.new_answer == choices[doc["label"]]
        assert flip.old_answer == choices[1 - doc["label"]]


# Forms of older versions ---------------------------------------------------------------------------------------------


def _current(folder: Path, model: str, task: str) -> Path:
    return write(folder / model / f"samples_{task}_{DATES[model]}.jsonl", samples(model, task))


def _middle(folder: Path, model: str, task: str) -> Path:
    rows = [without_filter(row) for row in samples(model, task)]
    (folder / model).mkdir(parents=True, exist_ok=True)
    (folder / model / f"results_{DATES[model]}.json").write_text(json.dumps(results(model)), encoding="utf-8")
    return write(folder / model / f"samples_{task}_{DATES[model]}.jsonl", rows)


def _first(folder: Path, model: str, task: str) -> Path:
    rows = [with_plain_values(row) for row in samples(model, task)]
    (folder / model).mkdir(parents=True, exist_ok=True)
    (folder / model / "results.json").write_text(json.dumps(results(model)), encoding="utf-8")
    return write_array(folder / model / f"pretrained__models__{model}_{task}.jsonl", rows)


Form = Callable[[Path, str, str], Path]


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    ("old_form", "new_form"), [(_first, _first), (_middle, _middle), (_first, _current), (_current, _middle)]
)
def test_older_forms_give_the_same_comparison(tmp_path: Path, task: str, old_form: Form, new_form: Form) -> None:
    wanted = compare_runs(samples_file("tiny-v1", task), samples_file("tiny-v2", task))
    found = compare_runs(old_form(tmp_path, "tiny-v1", task), new_form(tmp_path, "tiny-v2", task))
    assert _figures(found) == _figures(wanted)
    assert found.notes == wanted.notes
    assert [flip.to_dict() for flip in found.flips()] == [flip.to_dict() for flip in wanted.flips()]


@pytest.mark.parametrize("form", [_first, _middle, _current])
def test_every_form_knows_both_filters_by_name(tmp_path: Path, form: Form) -> None:
    path = form(tmp_path, "tiny-v1", "gsm8k_local")
    wanted = [row for row in samples("tiny-v1", "gsm8k_local") if row["filter"] == "flexible-extract"]
    found = _read(path, filter="flexible-extract")
    assert len(found) == len(wanted) == 100
    assert found.answers is not None
    given = [(a, row["filtered_resps"][0]) for a, row in zip(found.answers.to_pylist(), wanted, strict=True)]
    assert all(answer == told or told == "[invalid]" for answer, told in given)


def test_without_a_results_file_unnamed_filters_are_numbered(tmp_path: Path) -> None:
    rows = [without_filter(row) for row in samples("tiny-v1", "gsm8k_local")]
    found = _read(write(tmp_path / "s.jsonl", rows))
    assert found.notes == ("s: filter 'filter 1' compared (there is also 'filter 2'; see --filter)",)


def test_a_file_of_an_old_version_knows_its_task(tmp_path: Path) -> None:
    path = _first(tmp_path, "tiny-v1", "piqa_local")
    assert list(read(path).tasks) == ["piqa_local"]
    task = read(path, metric="acc").tasks["piqa_local"]
    assert task.scores is not None and task.scores.mean() == 0.48


def test_an_old_file_that_was_written_twice_is_not_taken_for_filters(tmp_path: Path) -> None:
    path = _middle(tmp_path, "tiny-v1", "piqa_local")
    path.write_bytes(path.read_bytes() * 2)
    assert "written to twice" in _refusal(path)


@pytest.mark.parametrize("count", [1, 60])
def test_one_document_twice_among_unnamed_filters_is_refused(tmp_path: Path, count: int) -> None:
    rows = [without_filter(choice(i, [-1, -2])) for i in range(100)]
    assert "more than once" in _refusal(write(tmp_path / "s.jsonl", rows + rows[:count]))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('[\n  {\n    "doc_id": 0,\n', "line 2: the JSON array does not end"),
        ("[]", "is empty"),
        ("[\n]\n\n", "is empty"),
        ("[\n  1,\n  2\n]", "line 2 is 1, not a JSON object"),
        ('[{"doc_id": 0, "resps": [], "filtered_resps": []}]', "it has no field 'doc'"),
        ('[\n  {\n    "doc_id": 0,,\n  }\n]', "line 2 is not JSON"),
        ("[", "line 1: the JSON array does not end"),
    ],
)
def test_a_broken_array_is_named_with_its_line(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "s.jsonl"
    path.write_text(text, encoding="utf-8")
    assert fault in _refusal(path)


@pytest.mark.parametrize("cut", [10, 1000, 5000])
def test_an_array_that_was_cut_off_is_no_smaller_file(tmp_path: Path, cut: int) -> None:
    path = _first(tmp_path, "tiny-v1", "piqa_local")
    path.write_bytes(path.read_bytes()[:-cut])
    assert "the JSON array does not end: was the file cut off?" in _refusal(path)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_an_array_from_another_system_is_read_and_shown_whole(tmp_path: Path, mark: bytes, end: bytes) -> None:
    rows = [with_plain_values(choice(i, [-1.0, -2.0], doc={"question": f"{{\n  }} é{i}?"})) for i in range(5)]
    path = write_array(tmp_path / "s.jsonl", rows)
    path.write_bytes(mark + path.read_bytes().replace(b"\n", end) + end * 2)
    found = _read(path)
    assert found.ids.to_pylist() == [0, 1, 2, 3, 4]
    assert [text.question for text in found.read_texts(np.array([3, 0]))] == ["{\n  } é3?", "{\n  } é0?"]


# What may be wrong ---------------------------------------------------------------------------------------------------


def test_a_truncated_last_line_is_named_as_such(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_bytes(samples_file("tiny-v1", "piqa_local").read_bytes()[:-50])
    assert "line 100 is not JSON" in (message := _refusal(path)) and "was it cut off?" in message


def test_another_encoding_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in samples("tiny-v1", "gsm8k_local"))
    path.write_bytes(text.encode("cp1252", "replace"))
    assert "line 1 is not UTF-8" in _refusal(path)


@pytest.mark.parametrize("text", ["", "\n\n", "\ufeff"])
def test_an_empty_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / f"samples_piqa_{DATES['tiny-v1']}.jsonl"
    path.write_text(text, encoding="utf-8")
    assert "is empty" in _refusal(path)
    with pytest.raises(InputError, match="is empty"):
        read(tmp_path)


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + samples_file("tiny-v1", "piqa_local").read_bytes())
    found = _read(path)
    assert len(found) == 100
    assert found.read_texts(np.array([0]))[0].question == samples("tiny-v1", "piqa_local")[0]["doc"]["goal"]


def test_ids_that_stand_twice_are_refused_with_examples(tmp_path: Path) -> None:
    rows = [choice(i, [-1, -2]) for i in (0, 1, 1, 2)]
    path = write(tmp_path / "s.jsonl", rows)
    with pytest.raises(InputError, match="1 ids stand more than once, for instance 1"):
        compare_runs(path, path)


def test_unsorted_lines_of_several_processes_are_joined_by_id(tmp_path: Path) -> None:
    mixed = samples("tiny-v2", "gsm8k_local")
    ranks = [[row for row in mixed if row["doc_id"] % 3 == rank] for rank in range(3)]
    path = write(tmp_path / "s.jsonl", [row for rank in ranks for row in rank])
    old = samples_file("tiny-v1", "gsm8k_local")
    wanted = compare_runs(old, samples_file("tiny-v2", "gsm8k_local"), filter="flexible-extract")
    found = compare_runs(old, path, filter="flexible-extract")
    assert _figures(found).replace('"all"', '"gsm8k_local"') == _figures(wanted)


def test_texts_are_whole_and_of_the_right_instance_after_a_join_in_another_order(tmp_path: Path) -> None:
    long = "long " * 1000
    old = [generation(i, f"{long}old {i}", target=f"{long}old {i}") for i in range(20)]
    new = [generation(i, f"{long}new {i}", target=f"{long}old {i}") for i in range(20)]
    random.Random(0).shuffle(new)  # noqa: S311
    result = compare_runs(write(tmp_path / "v1.jsonl", old), write(tmp_path / "v2.jsonl", new))
    flips = list(result.flips())
    assert len(flips) == 20
    for flip in flips:
        assert (flip.question, flip.old_answer) == (f"Question {flip.id}?", f"{long}old {flip.id}")
        assert (flip.reference, flip.new_answer) == (f"{long}old {flip.id}", f"{long}new {flip.id}")


def test_two_filters_are_not_compared_as_twice_as_many_instances() -> None:
    result = compare_runs(samples_file("tiny-v1", "gsm8k_local"), samples_file("tiny-v2", "gsm8k_local"))
    assert result.tasks[0].n == 100
    assert "gsm8k_local: filter 'strict-match' compared (there is also 'flexible-extract'; see --filter)" in (
        result.notes
    )


def test_an_unknown_filter_names_those_there_are() -> None:
    message = _refusal(samples_file("tiny-v1", "gsm8k_local"), filter="strict")
    assert "no filter 'strict'; it has 'strict-match', 'flexible-extract'" in message


def test_two_invalid_answers_are_the_same_only_where_the_responses_are(tmp_path: Path) -> None:
    old = [generation(0, "dunno", "[invalid]"), generation(1, "dunno", "[invalid]"), generation(2, "9")]
    new = [generation(0, "dunno", "[invalid]"), generation(1, "no idea", "[invalid]"), generation(2, "8")]
    result = compare_runs(write(tmp_path / "v1.jsonl", old), write(tmp_path / "v2.jsonl", new))
    assert isinstance(result.tasks[0].comparison, Comparison)
    found = result.tasks[0].comparison
    assert (found.both_wrong, found.both_wrong_same) == (3, 1)


def test_invalid_answers_of_several_samples_are_the_same_only_where_all_responses_are(tmp_path: Path) -> None:
    rows = [generation(i, "first", "[invalid]") for i in range(3)]
    others = [dict(row) for row in rows]
    for row, other, second in zip(rows, others, ("x", "x", "y"), strict=True):
        row["resps"], other["resps"] = [["first", "x"]], [["first", second]]
    old, new = write(tmp_path / "old.jsonl", rows), write(tmp_path / "new.jsonl", others)
    part = compare_runs(old, new).tasks[0].comparison
    assert isinstance(part, Comparison)
    assert (part.both_wrong_same, part.n) == (2, 3)


def test_a_direction_that_nothing_tells_is_noted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [generation(0, "4", word_errors=0.5)])
    (task,) = read(path).tasks.values()
    assert task.notes == ("a: no results file says whether a higher word_errors is better; it counts as better",)
    for metric in ("acc", "acc_norm", "exact_match", "f1", "pass@1", "rougeL"):
        path = write(tmp_path / "b.jsonl", [generation(0, "4", **{metric: 0.5})])
        (task,) = read(path).tasks.values()
        assert task.notes == ()


def test_mutual_information_that_old_versions_paired_wrongly_is_not_taken_for_an_answer(tmp_path: Path) -> None:
    # Up to 0.4.8 every second log-likelihood was taken for the one without a question.
    row = choice(0, [-1.0, -9.0, -8.0, -2.0], target=1, acc=0.0, acc_mutual_info=1.0)
    path = write(tmp_path / "a.jsonl", [row])
    for metric in ("acc", "acc_mutual_info"):
        (task,) = read(path, metric=metric).tasks.values()
        wrong = metric == "acc_mutual_info"
        assert (task.answers is None) == wrong, metric
        assert task.contradicted == wrong
        notes = compare_runs(path, path, metric=metric).notes
        assert any(f"contradicts {metric} on 1 of 1" in note for note in notes) == wrong


@pytest.mark.parametrize("target", [1, "1", [1], [0, 1], "two"])
def test_targets_are_the_same_whether_number_text_or_list(tmp_path: Path, target: Any) -> None:
    new = [choice(0, [-2, -1], target=target, acc=1.0), choice(1, [-1, -2], target=target, acc=0.0)]
    if target == [0, 1]:
        new[1] |= {"acc": 1.0}
    old = [with_plain_values(row) | {"target": target} for row in new]
    paths = write_array(tmp_path / "v1.jsonl", old), write(tmp_path / "v2.jsonl", new)
    result = compare_runs(*paths)
    assert not result.notes
    assert _answers(paths[0]) == _answers(paths[1]) == [1, 0]


@pytest.mark.parametrize(
    ("score", "shown"), [(math.nan, "nan"), (math.inf, "inf"), (-math.inf, "-inf"), (None, "nan")]
)
@pytest.mark.parametrize("place", [0, 1])
def test_scores_that_are_no_numbers_are_not_taken_for_wrong_answers(
    tmp_path: Path, score: float | None, shown: str, place: int
) -> None:
    rows = [generation(i, "a", exact_match=score if i == place else 1.0) for i in range(3)]
    path = write(tmp_path / "s.jsonl", rows)
    with pytest.raises(InputError, match=rf"1 of 3 scores \(exact_match\) are not finite .* {shown} of id {place}"):
        compare_runs(path, path)


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ([1, 2], "metric 'exact_match' is an array, not one number"),
        ("good", "metric 'exact_match' is 'good', not one number"),
        ({}, "metric 'exact_match' is an object, not one number"),
        (10**400, "too large"),
    ],
)
def test_a_score_that_turns_into_something_else_is_named_with_its_line(tmp_path: Path, value: Any, fault: str) -> None:
    rows = [generation(0, "a"), generation(1, "a", exact_match=value)]
    message = _refusal(write(tmp_path / "s.jsonl", rows))
    assert fault in message and "line 2" in message


def test_a_sample_without_the_metric_is_no_wrong_answer(tmp_path: Path) -> None:
    rows = [generation(0, "a"), generation(1, "a", f1=1.0)]
    message = _refusal(write(tmp_path / "s.jsonl", rows))
    assert "line 2 is no sample of lm-evaluation-harness: it has no field 'exact_match'" in message


@pytest.mark.parametrize("field", ["doc", "target", "arguments"])
def test_a_sample_that_lacks_a_field_is_named_with_its_line(tmp_path: Path, field: str) -> None:
    row = without_filter(with_plain_values(choice(1, [-1, -2])))
    del row[field]
    path = write(tmp_path / "s.jsonl", [with_plain_values(choice(0, [-1, -2])), row])
    assert f"line 2 is no sample of lm-evaluation-harness: it has no field {field!r}" in _refusal(path)


@pytest.mark.parametrize("key", [None, 1.5, True, [1], {"a": 1}])
def test_ids_of_another_kind_are_refused(tmp_path: Path, key: Any) -> None:
    rows = [choice(0, [-1, -2]), choice(1, [-1, -2]) | {"doc_id": key}]
    assert "line 2: doc_id is" in _refusal(write(tmp_path / "s.jsonl", rows))


def test_metrics_that_numpy_wrote_as_text_are_read(tmp_path: Path) -> None:
    rows = [generation(i, "a", f1=str(i / 4), hit=str(i > 1)) for i in range(4)]
    path = write(tmp_path / "s.jsonl", [without_filter(row) for row in rows])
    scores = [_read(path, metric=name).scores for name in ("f1", "hit")]
    assert [[*found] for found in scores if found is not None] == [[0, 0.25, 0.5, 0.75], [0, 0, 1, 1]]


def test_list_metrics_are_refused_by_name_with_the_usable_ones(tmp_path: Path) -> None:
    path = write(tmp_path / "s.jsonl", [choice(0, [-1, -2], acc=1.0, f1=[0, 0], brier_score=[0, [0.5, 0.5]])])
    message = _refusal(path, metric="f1")
    assert "line 1: metric 'f1' is an array for each sample, a part of a corpus score" in message
    assert message.endswith("usable: 'acc'.")
    assert "there is no metric 'accuracy'; usable: 'acc'" in _refusal(path, metric="accuracy")


def test_a_file_without_one_number_a_sample_is_refused() -> None:
    path = samples_file("tiny-v1", "selfinstruct_local")
    assert "no metric gives one number a sample ('bleu', 'chrf'" in _refusal(path)


def test_answers_alone_are_no_scores(tmp_path: Path) -> None:
    path = write(tmp_path / "s.jsonl", [generation(0, "a", bypass=999), generation(1, "b", bypass=999)])
    assert "no metric gives one number a sample (there is none" in _refusal(path)


def test_samples_have_no_column_to_choose(tmp_path: Path) -> None:
    for path in (
        write(tmp_path / "s.jsonl", [choice(0, [-1, -2])]),
        write_array(tmp_path / "a.jsonl", [choice(0, [-1, -2])]),
    ):
        with pytest.raises(InputError, match="--metric and --filter"):
            read(f"{path}:acc")


# What was answered ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "two\nlines\r\n",
        "<script>alert(1)</script>",
        "\u05e9\u05dc\u05d5\u05dd \u202e\u0645",
        "a\x00b",
        "\ud800 alone",
        "\u2028",
        " ",
        "",
        "null",
        "é" * 300,
    ],
)
def test_no_text_is_changed_on_the_way(tmp_path: Path, text: str) -> None:
    rows = [generation(0, text), generation(1, text, doc={"question": text})]
    path = write(tmp_path / "s.jsonl", rows)
    shown = _read(path).read_texts(np.array([1, 0]))
    assert [item.answer for item in shown] == [text, text]
    assert shown[0].question == text
    result = compare_runs(path, path)
    assert result.tasks[0].n == 2


@pytest.mark.parametrize(("one", "two"), [("", " "), ("null", "[]"), ("\ud800", "\ud801"), ("a\x00b", "a\x00c")])
def test_different_texts_stay_different(tmp_path: Path, one: str, two: str) -> None:
    found = _answers(write(tmp_path / "s.jsonl", [generation(0, one), generation(1, two)]))
    assert found is not None and found[0] != found[1]


def test_an_answer_that_a_filter_left_as_a_list_is_its_first() -> None:
    # `take_first_k` leaves a list; an empty one is an answer too.
    rows = [generation(0, "raw", ["7", "8"]), generation(1, "raw", [])]
    assert [row["filtered_resps"] for row in rows] == [[["7", "8"]], [[]]]


def test_lists_of_answers_are_read_by_their_first(tmp_path: Path) -> None:
    rows = [generation(0, "raw", ["7", "8"]), generation(1, "raw", [])]
    assert _answers(write(tmp_path / "s.jsonl", rows)) == ["7", "[]"]


def test_the_filtered_answer_and_the_whole_response_are_shown(tmp_path: Path) -> None:
    rows = [generation(0, "I think it is 7.", "7"), generation(1, "hm", "[invalid]"), generation(2, " 7 ", "7")]
    shown = _read(write(tmp_path / "s.jsonl", rows)).read_texts(np.arange(3))
    assert [text.answer for text in shown] == ["7\n\nI think it is 7.", "[invalid] hm", "7"]


def test_choices_in_the_context_are_shown_and_not_the_common_ending(tmp_path: Path) -> None:
    contexts = ["The trophy is too big because the trophy", "The trophy is too big because the case"]
    rows = [choice(0, [-5, -4], contexts=contexts, target="is big", doc={"sentence": "The trophy … _"}, acc=1.0)]
    found = _read(write(tmp_path / "s.jsonl", rows))
    assert found.answers is not None and found.answers.to_pylist() == [1]
    assert found.read_texts(np.array([0]))[0].answer == f"1: {contexts[1]}"


def test_normalised_answers_are_unknown_where_choices_are_part_of_the_context(tmp_path: Path) -> None:
    contexts = ["Shots and all: the trophy", "Shots and all: the case"]
    rows = [choice(0, [-5, -4], contexts=contexts, target="is big", acc=1.0, acc_norm=0.0)]
    assert _answers(write(tmp_path / "s.jsonl", rows), metric="acc_norm") is None


@pytest.mark.parametrize(
    ("metric", "delimiter", "expected"),
    [
        ("acc", " ", 0),
        ("acc_norm", " ", 1),  # -4/2 = -2, -7/4 = -1.75
        ("acc_norm", "", 1),  # with their space: -4/3, -7/5 = -1.4; see below
        ("acc_bytes", " ", 1),  # é has two bytes: -7/5
    ],
)
def test_lengths_of_choices_do_not_count_the_delimiter(
    tmp_path: Path, metric: str, delimiter: str, expected: int
) -> None:
    score = float(expected == 1)
    rows = [choice(0, [-4, -7], texts=["ab", "abcé"], target=1, acc=0.0, acc_norm=1.0, acc_bytes=1.0)]
    if delimiter == "":
        rows[0] |= {"arguments": {f"gen_args_{i}": {"arg_0": "Q", "arg_1": t} for i, t in enumerate(("ab", "abcé"))}}
    write(tmp_path / f"samples_t_{DATES['tiny-v1']}.jsonl", rows)
    told = {"configs": {"t": {"target_delimiter": delimiter}}}
    (tmp_path / f"results_{DATES['tiny-v1']}.json").write_text(json.dumps(told), encoding="utf-8")
    found = _read(tmp_path, metric=metric)
    assert found.answers is not None and found.answers.to_pylist() == [expected]
    assert found.scores is not None and found.scores.tolist() == [score]


def test_the_delimiter_of_the_results_file_is_what_is_left_out_of_lengths(tmp_path: Path) -> None:
    # Without "\n\n\n" the choices have 1 and 4 characters: -4/1 and -7/4; with it -4/4 and -7/7 would be a tie.
    rows = [choice(0, [-4, -7], target=1, acc=0.0, acc_norm=1.0)]
    rows[0] |= {
        "arguments": {f"gen_args_{i}": {"arg_0": "Q", "arg_1": f"\n\n\n{t}"} for i, t in enumerate(("a", "abcd"))}
    }
    path = write(tmp_path / f"samples_t_{DATES['tiny-v1']}.jsonl", rows)
    assert _answers(path, metric="acc_norm") is None, "without results the lengths are wrong, which is noticed"
    told = {"configs": {"t": {"target_delimiter": "\n\n\n"}}}
    (tmp_path / f"results_{DATES['tiny-v1']}.json").write_text(json.dumps(told), encoding="utf-8")
    assert _answers(path, metric="acc_norm") == [1]
    assert _read(path, metric="acc_norm").read_texts(np.array([0]))[0].answer == "1: abcd"


@pytest.mark.parametrize(("metric", "expected"), [("acc", 0), ("acc_mutual_info", 1), ("acc_norm", 0)])
def test_mutual_information_takes_the_second_half_as_the_same_choices_alone(
    tmp_path: Path, metric: str, expected: int
) -> None:
    scores = {"acc": 0.0, "acc_norm": 0.0, "acc_mutual_info": 1.0}
    rows = [choice(0, [-3, -4, -1, -9], texts=["aa", "bb", "aa", "bb"], target=1, **scores)]
    assert _answers(write(tmp_path / "s.jsonl", rows), metric=metric) == [expected]


def test_one_log_likelihood_is_a_score_and_no_answer(tmp_path: Path) -> None:
    rows = [choice(i, [-1.5 - i], texts=["word"], target="word", perplexity=-1.5 - i, acc=i % 2) for i in range(4)]
    path = write(tmp_path / "s.jsonl", rows)
    assert _answers(path, metric="acc") is None
    assert _read(path).read_texts(np.array([0]))[0].answer is None


def test_perplexity_that_is_logged_as_log_likelihood_is_not_turned_round(tmp_path: Path) -> None:
    # The harness says of the aggregate that lower is better; what it logs is what it aggregates.
    for name, value in (("v1", -1.0), ("v2", -2.0)):
        rows = [choice(i, [value], texts=["word"], target="word", perplexity=value) for i in range(3)]
        write(tmp_path / name / f"samples_t_{DATES['tiny-v1']}.jsonl", rows)
        told = {"configs": {"t": {}}, "higher_is_better": {"t": {"perplexity": False}}}
        (tmp_path / name / f"results_{DATES['tiny-v1']}.json").write_text(json.dumps(told), encoding="utf-8")
    result = compare_runs(tmp_path / "v1", tmp_path / "v2")
    assert len(result.tasks[0].comparison.negative_flips) == 3, "less likely is worse"
    assert "t: perplexity is logged as log-likelihoods, so higher is better" in result.notes


def test_rolling_log_likelihoods_are_parts_of_a_corpus_score(tmp_path: Path) -> None:
    row = generation(0, "-123.5", word_perplexity=[-123.5, 20], byte_perplexity=[-123.5, 99])
    row |= {"arguments": {"gen_args_0": {"arg_0": "The whole page"}}}
    assert "'word_perplexity', 'byte_perplexity'" in _refusal(write(tmp_path / "s.jsonl", [row]))


@pytest.mark.parametrize("told", [
    {"configs": {"t": {}}, "higher_is_better": {"t": {"error": False}}},
    {"configs": {"t": {"metric_list": [{"metric": "error", "higher_is_better": False}]}}},
    {"configs": {"t": {"metric_list": [{"metric": "error", "higher_is_better": False}]}},
     "higher_is_better": {"t": {"error": None}}},
])  # fmt: skip
def test_lower_is_better_where_the_results_file_says_so(tmp_path: Path, told: Row) -> None:
    for name, value in (("v1", 0.25), ("v2", 0.5)):
        write(tmp_path / name / f"samples_t_{DATES['tiny-v1']}.jsonl", [generation(0, "a", error=value)])
        (tmp_path / name / f"results_{DATES['tiny-v1']}.json").write_text(json.dumps(told), encoding="utf-8")
    part = compare_runs(tmp_path / "v1", tmp_path / "v2").tasks[0]
    assert part.metric == "negated error"
    assert part.comparison.negative_flips.tolist() == [0]


def test_an_unknown_direction_is_higher_and_not_lower(tmp_path: Path) -> None:
    path = write(tmp_path / f"samples_t_{DATES['tiny-v1']}.jsonl", [generation(0, "a", score=0.5)])
    told = {"configs": {"t": {"metric_list": [{"metric": "score"}]}}, "higher_is_better": {"t": {"score": None}}}
    (tmp_path / f"results_{DATES['tiny-v1']}.json").write_text(json.dumps(told), encoding="utf-8")
    assert _read(path).higher_is_better is True


def test_answers_that_contradict_their_scores_are_left_out_and_a_note_says_so(tmp_path: Path) -> None:
    rows = [choice(0, [-1, -2], target=0, acc=1.0), choice(1, [-1, -2], target=0, acc=0.0)]
    path = write(tmp_path / "s.jsonl", rows)
    assert _read(path).answers is None
    note = "s: the most likely choice contradicts acc on 1 of 2 instances, so the answers themselves are not compared"
    assert note in compare_runs(path, path).notes


def test_a_target_that_is_the_text_of_a_choice_is_no_contradiction(tmp_path: Path) -> None:
    # The text "1" is the choice of number 0.
    rows = [choice(0, [-1, -2], texts=["1", "0"], target="1", acc=1.0)]
    assert _answers(write(tmp_path / "s.jsonl", rows)) == [0]


@pytest.mark.parametrize("target", ["9" * 5000, "٣", "-100", "", "[1, 'a']", "nan"])
def test_odd_targets_end_in_no_traceback(tmp_path: Path, target: str) -> None:
    found = _read(write(tmp_path / "s.jsonl", [choice(0, [-1, -2], target=target)]))
    assert found.read_texts(np.array([0]))[0].reference == target


@pytest.mark.parametrize("likelihoods", [[math.nan, -1], [-1, math.nan], [math.nan] * 2])
def test_a_log_likelihood_that_is_nan_makes_no_answer_whatever_it_was_scored(
    tmp_path: Path, likelihoods: list[float]
) -> None:
    path = write(tmp_path / "s.jsonl", [choice(0, [-1, -2]), choice(1, likelihoods, acc=1.0)])
    with pytest.raises(InputError, match="line 2: a log-likelihood is NaN"):
        _read(path)


@pytest.mark.parametrize("value", ["-inf", "inf"])
def test_log_likelihoods_without_a_value_are_answered_as_numpy_does(tmp_path: Path, value: str) -> None:
    found = _answers(write(tmp_path / "s.jsonl", [choice(0, [-1, float(value)], target=5, acc=0.0)]))
    assert found == [int(np.argmax([-1, float(value)]))]


def test_documents_need_not_be_objects(tmp_path: Path) -> None:
    found = _read(write(tmp_path / "s.jsonl", [generation(0, "a", doc="the text")]), slices=())
    assert found.columns == ()
    assert found.read_texts(np.array([0]))[0].question == "Question 0?\nAnswer:"


# Two runs that are not about the same --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "what"), [({"doc": {"question": "Other?"}}, "documents"), ({"target": "5"}, "right answers")]
)
def test_another_document_or_target_is_refused(tmp_path: Path, change: Row, what: str) -> None:
    old = [generation(i, "4") for i in range(4)]
    new = [generation(i, "4", **(change if i == 2 else {})) for i in range(4)]  # type: ignore[arg-type]
    paths = write(tmp_path / "v1.jsonl", old), write(tmp_path / "v2.jsonl", new)
    with pytest.raises(InputError, match=f"the {what} of 1 of 4 ids differ .* for instance 2"):
        compare_runs(*paths)
    result = compare_runs(*paths, allow_missing=True)
    assert result.tasks[0].n == 3
    assert any("1 instances left out" in note for note in result.notes)


def test_another_prompt_is_noted_and_no_error(tmp_path: Path) -> None:
    old, new = ([generation(i, "4") for i in range(4)] for _ in range(2))
    new[1] |= {"prompt_hash": "0" * 64}
    result = compare_runs(write(tmp_path / "v1.jsonl", old), write(tmp_path / "v2.jsonl", new))
    assert any("1 of 4 prompts differ" in note for note in result.notes)


# Slices --------------------------------------------------------------------------------------------------------------


def test_fields_of_the_documents_make_slices(tmp_path: Path) -> None:
    docs = [{"question": "?", "subject": name, "level": i % 2} for i, name in enumerate(("law", "law", "art", None))]
    rows = [choice(i, [-1, -2], doc=doc) for i, doc in enumerate(docs)]
    path = write(tmp_path / "s.jsonl", rows)
    found = _read(path, slices=["subject", "level"])
    assert found.columns == ("question", "subject", "level")
    assert {name: column.to_pylist() for name, column in found.slices.items()} == {
        "subject": ["law", "law", "art", None],
        "level": ["0", "1", "0", "1"],
    }
    assert [part.name for part in compare_runs(path, path, by="level").slices["level"]] == ["0", "1"]


@pytest.mark.parametrize("name", ["id", "answer", "doc_hash", "target_hash"])
def test_a_slice_by_a_field_of_any_name_changes_nothing_else(tmp_path: Path, name: str) -> None:
    rows = [generation(i, str(i), doc={"question": "?", name: f"group {i % 2}"}) for i in range(4)]
    path = write(tmp_path / "s.jsonl", rows)
    found, plain = _read(path, slices=[name]), _read(path)
    assert found.slices[name].to_pylist() == ["group 0", "group 1", "group 0", "group 1"]
    for column in ("ids", "answers", "documents", "targets"):
        assert getattr(found, column).equals(getattr(plain, column))


# Anything at all -----------------------------------------------------------------------------------------------------

_TEXT = st.text(max_size=20)
_CHOICES = st.lists(st.floats(-1e6, 0), min_size=2, max_size=5)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(_CHOICES, st.integers(0, 4), st.dictionaries(_TEXT, _TEXT, max_size=3)), min_size=1, max_size=6
    ),
    st.sampled_from(["current", "middle", "first"]),
)
def test_random_choices_are_read_back_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, made: list[tuple[list[float], int, Row]], form: str
) -> None:
    rows = [
        choice(i, values, target=target, doc=doc, texts=["a", "b", "c", "d", "e"])
        for i, (values, target, doc) in enumerate(made)
    ]
    path = tmp_path_factory.getbasetemp() / "random.jsonl"
    if form == "first":
        write_array(path, [with_plain_values(row) for row in rows])
    else:
        write(path, rows if form == "current" else [without_filter(row) for row in rows])
    found = read_samples(path, "random")
    assert found.answers is not None and found.scores is not None and found.documents is not None
    assert found.ids.to_pylist() == [*range(len(rows))]
    assert found.answers.to_pylist() == [int(np.argmax(values)) for values, *_ in made]
    assert found.scores.tolist() == [row["acc"] for row in rows]
    assert found.documents.to_pylist() == [row["doc_hash"] for row in rows]
    assert not found.notes


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(_TEXT | st.text(min_size=200, max_size=400), _TEXT, _TEXT), min_size=1, max_size=6))
def test_random_texts_are_read_back_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, made: list[tuple[str, str, str]]
) -> None:
    rows = [
        generation(i, response, target=target, doc={"question": question})
        for i, (response, target, question) in enumerate(made)
    ]
    path = write(tmp_path_factory.getbasetemp() / "random.jsonl", rows)
    order = np.arange(len(rows))[::-1]
    shown = read_samples(path, "random").read_texts(order)
    assert [(text.answer, text.reference, text.question) for text in shown] == made[::-1]


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(
        ["doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics", "acc", "doc_hash"]
    ),
    _JSON,
    st.booleans(),
    st.sampled_from(["acc", "acc_norm", None]),
)
def test_no_value_of_any_field_ends_in_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, field: str, value: Any, last: bool, metric: str | None
) -> None:
    rows = [choice(i, [-1, -2], acc=1.0, acc_norm=1.0) for i in range(2)]
    rows[last][field] = value
    path = tmp_path_factory.getbasetemp() / "fuzz.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    try:
        found = read_samples(path, "fuzz", metric=metric)
        found.read_texts(np.arange(len(found)))
    except InputError as error:
        assert len(str(error).splitlines()) == 1
        assert len(str(error)) < 800


# Size ----------------------------------------------------------------------------------------------------------------

_MEASURE = """
import resource, sys
from muscle_hf import compare_runs, read
import muscle_hf.readers, muscle_hf.readers.formats.columnar, pyarrow.json, muscle_hf.runs.outcomes
read(sys.argv[2])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = next(iter(read(sys.argv[1]).tasks.values()))
print(len(found), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.slow
def test_a_large_file_of_the_first_form_is_never_held_in_memory(tmp_path: Path) -> None:
    # The present form is held to it in tests/readers/test_scale.py.
    text = "The whole text of a long response, which nobody wants in memory. " * 60
    path, count = tmp_path / "large.jsonl", 45_000
    # Written once, and told apart by its number.
    row = generation(987654321, f"987654321 {text}", target="987654321")
    parts = json.dumps(with_plain_values(row), indent=2).replace("\n", "\n  ").split("987654321")
    with path.open("w", encoding="utf-8") as file:
        file.write("[\n  ")
        file.writelines((",\n  " if i else "") + str(i).join(parts) for i in range(count))
        file.write("\n]")
    assert path.stat().st_size > 200e6
    small = write(tmp_path / "small.jsonl", [generation(0, "a")])
    command: Sequence[str] = [sys.executable, "-c", _MEASURE, str(path), str(small)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)  # noqa: S603 - our own interpreter
    assert done.returncode == 0, done.stderr
    n, grown = done.stdout.split()
    assert int(n) == count
    # Kept of each instance: three digests of 64 characters, a shortened answer of 200, a score and a place; 19 MiB in
    # all, and as much again while columns are put together. Measured were 52 and 67 MiB.
    assert float(grown) < 100, f"{grown} MiB more for {path.stat().st_size / 2**20:.0f} MiB of samples"
