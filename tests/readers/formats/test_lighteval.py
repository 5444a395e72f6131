"""Details of lighteval: what was answered and scored, which instances are the same, and what may be wrong."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lighteval_details import Row, detail, run_file, write

from muscle_hf import InputError, compare_runs, read
from muscle_hf.flips.comparison import Comparison
from muscle_hf.readers.answers import TaskAnswers

TASK = "leaderboard|arc:challenge|25"
DATES = ("2026-01-02T03-04-05.678901", "2026-02-02T03-04-05.678901")


def _choice(key: int, likely: int, *, gold: Any = 0, doc: Row | None = None, **metric: Any) -> Row:
    right = likely in gold if isinstance(gold, list) else likely == gold
    response = {"logprobs": [-1.0 if i == likely else -2.0 for i in range(2)]}
    return detail(key, doc={"gold_index": gold, **(doc or {})}, response=response, **(metric or {"acc": int(right)}))


def _text(key: int, said: str, *, doc: Row | None = None, response: Row | None = None, **metric: Any) -> Row:
    about = {"choices": ["4"], "sampling_methods": ["GENERATIVE"], **(doc or {})}
    return detail(key, doc=about, response={"text": [said], **(response or {})}, **(metric or {"em": said == "4"}))


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


def test_multiple_choice_is_compared_by_the_most_likely_choice(tmp_path: Path) -> None:
    old = write(run_file(tmp_path, "v1", DATES[0]), [_choice(i, [0, 1, 0, 1][i]) for i in range(4)])
    new = write(run_file(tmp_path, "v2", DATES[0]), [_choice(i, [1, 0, 0, 1][i]) for i in range(4)])
    result = compare_runs(old, new)
    part = result.tasks[0]
    assert part.name == TASK
    assert isinstance(part.comparison, Comparison)
    assert part.comparison.negative_flips.tolist() == [0]
    assert part.comparison.positive_flips.tolist() == [1]
    assert part.comparison.both_wrong_same == 1
    assert [(flip.id, flip.old_answer, flip.new_answer, flip.reference) for flip in result.flips()] == [
        ("0", "0: a", "1: b", "a"),
        ("1", "1: b", "0: a", "a"),
    ]


def test_generated_texts_are_compared_after_their_processing_and_shown_whole(tmp_path: Path) -> None:
    response = {"text": ["<think>hm</think> 4"], "text_post_processed": ["4"]}
    rows = [_text(0, "4", response=response, em=1.0), _text(1, "5", response=response | {"text": ["4"]}, em=1.0)]
    found = _read(write(tmp_path / "d.parquet", rows))
    assert found.answers is not None and found.answers.to_pylist() == ["4", "4"]
    assert [text.answer for text in found.read_texts(np.array([1, 0]))] == ["4", "4\n\n<think>hm</think> 4"]
    assert found.read_texts(np.array([0]))[0].reference == "4"


def test_the_task_is_named_by_the_documents_where_the_file_does_not_say_it(tmp_path: Path) -> None:
    assert list(read(write(tmp_path / "d.parquet", [_choice(0, 0)])).tasks) == [TASK]


def test_a_file_and_its_folder_name_a_task_alike(tmp_path: Path) -> None:
    path = run_file(tmp_path, "v1", "2026-01-01T00-00-00", task="arc:challenge|25")
    write(path, [detail(0, response={"text": ["a"]}, em=1)])
    assert list(read(path).tasks) == list(read(tmp_path).tasks) == ["arc:challenge|25"]


def test_a_model_folder_takes_the_newest_run_of_each_task(tmp_path: Path) -> None:
    for date, likely in zip(DATES, (0, 1), strict=True):
        write(run_file(tmp_path, "org/v1", date), [_choice(0, likely)])
    write(run_file(tmp_path, "org/v1", DATES[0], "lb|other|0"), [_choice(0, 0)])
    for folder in (tmp_path, tmp_path / "details", tmp_path / "details" / "org" / "v1"):
        run = read(folder)
        assert run.name == "v1"
        assert {name: task.values().tolist() for name, task in run.tasks.items()} == {TASK: [0.0], "lb|other|0": [1.0]}
        assert run.notes == (
            f"{folder}: 1 task was run more than once; the newest run of each is compared (see --run)",
        )
    assert read(tmp_path, run="2026-01").tasks[TASK].values().tolist() == [1.0]
    assert list(read(tmp_path / "details" / "org" / "v1" / DATES[1]).tasks) == [TASK]


def test_two_models_in_a_folder_are_refused_with_their_names(tmp_path: Path) -> None:
    for model in ("org/v1", "org/v2"):
        write(run_file(tmp_path, model, DATES[0]), [_choice(0, 0)])
    assert "the runs of 2 models (details/org/v1, details/org/v2)" in _refusal(tmp_path)


@pytest.mark.parametrize("gold", [1, [1], [1, 0]])
def test_right_answers_are_numbers_or_lists(tmp_path: Path, gold: Any) -> None:
    rows = [_choice(i, i, gold=gold) for i in range(2)]
    found = _read(write(tmp_path / "d.parquet", rows))
    assert found.answers is not None and not found.notes
    wanted = " / ".join("ab"[index] for index in ([gold] if isinstance(gold, int) else gold))
    assert found.read_texts(np.array([0]))[0].reference == wanted


def test_another_right_answer_or_document_is_refused(tmp_path: Path) -> None:
    old = write(tmp_path / "v1.parquet", [_choice(i, 0) for i in range(3)])
    for change, what in (({"gold_index": 1}, "right answers"), ({"query": "Other?"}, "documents")):
        rows = [_choice(i, 0, doc=change if i == 1 else None) for i in range(3)]
        with pytest.raises(InputError, match=f"the {what} of 1 of 3 ids differ"):
            compare_runs(old, write(tmp_path / "v2.parquet", rows))


@pytest.mark.slow
@pytest.mark.parametrize("ids", [("", "", ""), (None, None, None), ("7", "7", "8"), ("1", None, "2"), ("1", "", "2")])
def test_without_ids_of_their_own_instances_are_joined_by_what_they_ask(tmp_path: Path, ids: tuple[Any, ...]) -> None:
    def rows(order: list[int], likely: int) -> list[Row]:
        return [_choice(i, likely if i == 1 else 0, doc={"id": ids[i]}) for i in order]

    old, new = write(tmp_path / "v1.parquet", rows([0, 1, 2], 0)), write(tmp_path / "v2.parquet", rows([2, 0, 1], 1))
    result = compare_runs(old, new)
    assert [flip.question for flip in result.flips()] == ["Question 1?"]


def test_the_same_question_twice_without_ids_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "d.parquet", [_choice(0, 0, doc={"id": ""}) for _ in range(2)])
    with pytest.raises(InputError, match="1 ids stand more than once"):
        compare_runs(path, path)


def test_several_metrics_are_told_and_can_be_chosen(tmp_path: Path) -> None:
    path = write(tmp_path / "d.parquet", [_choice(i, 0, acc=1, f1=0.25) for i in range(2)])
    assert _read(path).notes == (f"{TASK}: metric 'acc' compared (there is also 'f1'; see --metric)",)
    found = _read(path, metric="f1")
    assert found.metric == "f1" and found.scores is not None and found.scores.tolist() == [0.25, 0.25]
    assert "metric 'em' is not there; usable: 'acc', 'f1'" in _refusal(path, metric="em")


@pytest.mark.slow
@pytest.mark.parametrize("value", [[1.0, 2.0], {"golds": ["a"], "preds": ["b"]}, "good", None])
def test_a_metric_that_is_no_number_is_refused_by_name_and_not_chosen(tmp_path: Path, value: Any) -> None:
    rows = [_choice(0, 0, corpus=value, acc=1), _choice(1, 0, corpus=value, acc=1)]
    path = write(tmp_path / "d.parquet", rows)
    assert _read(path).metric == "acc"
    assert "'corpus' is not one number for every sample; usable: 'acc'" in _refusal(path, metric="corpus")
    alone = write(tmp_path / "e.parquet", [_choice(i, 0, corpus=value) for i in range(2)])
    assert "no metric is one number for every sample (corpus)" in _refusal(alone)


def test_a_metric_that_some_samples_lack_is_not_filled_up(tmp_path: Path) -> None:
    path = write(tmp_path / "d.parquet", [_choice(0, 0, acc=1, f1=0.5), _choice(1, 0, acc=1, f1=None)])
    assert _read(path).metric == "acc"
    assert "'f1' is not one number for every sample" in _refusal(path, metric="f1")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_scores_that_are_not_finite_are_no_wrong_answers(tmp_path: Path, value: float) -> None:
    path = write(tmp_path / "d.parquet", [_choice(0, 0, acc=1.0), _choice(1, 0, acc=value)])
    with pytest.raises(InputError, match=r"1 of 2 scores \(acc\) are not finite numbers"):
        compare_runs(path, path)


def test_a_log_likelihood_that_is_nan_makes_no_answer_whatever_it_was_scored(tmp_path: Path) -> None:
    response = {"logprobs": [math.nan, -1.0]}
    path = write(tmp_path / "d.parquet", [_choice(0, 0, acc=1.0), detail(1, response=response, acc=1.0)])
    assert "row 2: a log-likelihood is NaN" in _refusal(path)


def test_a_distance_is_better_where_it_is_smaller(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{n}.parquet", [_text(0, "x", edit_distance=n), _text(1, "x", edit_distance=5)])
             for n in (1, 2)]  # fmt: skip
    assert compare_runs(*paths).tasks[0].comparison.negative_flips.tolist() == [0]


def test_answers_that_contradict_their_scores_are_left_out_and_a_note_says_so(tmp_path: Path) -> None:
    # As with normalised log-likelihoods, whose lengths the details do not tell.
    path = write(tmp_path / "d.parquet", [_choice(0, 0, acc_norm=0), _choice(1, 0, acc_norm=1)])
    assert _read(path).answers is None
    assert any("contradicts acc_norm on 1 of 2 instances" in note for note in compare_runs(path, path).notes)


def test_specific_fields_make_slices(tmp_path: Path) -> None:
    rows = [_choice(i, 0, doc={"specific": {"subject": name, "level": i}}) for i, name in enumerate(("law", "art"))]
    path = write(tmp_path / "d.parquet", rows)
    found = _read(path, slices=["subject", "level"])
    assert {name: column.to_pylist() for name, column in found.slices.items()} == {
        "subject": ["law", "art"],
        "level": ["0", "1"],
    }
    assert {"subject", "level"} <= set(found.columns)
    assert len(compare_runs(path, path, by="subject").slices["subject"]) == 2


@pytest.mark.parametrize("name", ["answer", "target", "digest", "own"])
def test_a_slice_by_a_field_of_any_name_changes_nothing_else(tmp_path: Path, name: str) -> None:
    rows = [_choice(i, i, doc={"specific": {name: f"group {i}"}}) for i in range(2)]
    path = write(tmp_path / "d.parquet", rows)
    found, plain = _read(path, slices=[name]), _read(path)
    assert found.slices[name].to_pylist() == ["group 0", "group 1"]
    for column in ("ids", "answers", "documents", "targets"):
        assert getattr(found, column).equals(getattr(plain, column))


@pytest.mark.slow
def test_texts_are_whole_and_right_across_batches_and_in_any_order(tmp_path: Path) -> None:
    long = "long " * 200
    rows = [_text(i, f"{long}{i}", em=float(i % 2)) for i in range(2500)]
    found = _read(write(tmp_path / "d.parquet", rows))
    wanted = np.array([2400, 7, 1000, 999, 2000])
    assert [text.answer for text in found.read_texts(wanted)] == [f"{long}{i}" for i in wanted]
    assert [text.question for text in found.read_texts(wanted)] == [f"Question {i}?" for i in wanted]
    assert found.answers is not None and max(map(len, found.answers.to_pylist())) < 300


def test_the_question_is_shown_as_it_was_before_the_prompt_was_made(tmp_path: Path) -> None:
    path = write(tmp_path / "d.parquet", [_choice(0, 0, doc={"original_query": "Plain?"})])
    assert _read(path).read_texts(np.array([0]))[0].question == "Plain?"


@pytest.mark.parametrize("text", ["two\nlines", "<b>", "\u202e\u05e9", "a\x00b", "", "é" * 400])
def test_no_text_is_changed_on_the_way(tmp_path: Path, text: str) -> None:
    path = write(tmp_path / "d.parquet", [_text(0, text), _text(1, "4")])
    assert _read(path).read_texts(np.array([0]))[0].answer == text
    assert compare_runs(path, path).tasks[0].n == 2


def test_a_sample_without_an_answer_leaves_the_others_known(tmp_path: Path) -> None:
    found = _read(write(tmp_path / "d.parquet", [_text(0, "4"), _text(1, "", response={"text": []}, em=False)]))
    assert found.answers is not None and found.answers.to_pylist() == ["4", None]


@pytest.mark.parametrize("cut", [1, 100, 3000])
def test_a_truncated_file_is_named_as_such(tmp_path: Path, cut: int) -> None:
    path = write(run_file(tmp_path, "v1", DATES[0]), [_choice(i, 0) for i in range(50)])
    path.write_bytes(path.read_bytes()[:-cut])
    assert "was it cut off?" in _refusal(path)
    with pytest.raises(InputError, match="was it cut off"):
        read(tmp_path)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    full = pq.read_table(write(tmp_path / "full.parquet", [_choice(0, 0)]))
    path = tmp_path / "d.parquet"
    pq.write_table(full.slice(0, 0), path)
    assert "is empty" in _refusal(path)


@pytest.mark.parametrize(
    "columns",
    [
        {"full_prompt": ["x"], "predictions": ["y"], "metrics": ["{}"]},  # and nothing that was asked
        {"doc": ["text"], "metric": [{"acc": 1}], "model_response": [{"text": ["a"]}]},
        {"doc": [{"prompt": "x"}], "metric": [{"acc": 1}], "model_response": [{"text": ["a"]}]},
        {"doc": [{"query": "x"}], "metric": ["{}"], "model_response": [{"text": ["a"]}]},
    ],
)
def test_details_of_another_layout_are_refused_with_their_columns(tmp_path: Path, columns: Row) -> None:
    path = run_file(tmp_path, "v1", DATES[0])
    path.parent.mkdir(parents=True)
    pq.write_table(pa.table(columns), path)
    with pytest.raises(InputError, match=r"as lighteval writes it since 0\.11.*\(it has .*metric") as caught:
        read(tmp_path)
    assert str(path) in str(caught.value)


def test_options_of_other_files_are_refused_and_not_ignored(tmp_path: Path) -> None:
    path = write(run_file(tmp_path, "v1", DATES[0]), [_choice(0, 0)])
    assert "neither filters nor other columns" in _refusal(path, filter="strict")
    assert "neither filters nor other columns" in _refusal(path, columns={"id": "doc"})
    assert "no filter 'strict'" in _refusal(tmp_path, filter="strict")


ODD = st.sampled_from(
    [
        None,
        [],
        [None],
        "x",
        ["a", "b"],
        [1.0, 2.0],
        [None, 1.0],
        [0],
        [5],
        [-1],
        1,
        True,
        1.5,
        {"a": 1},
        [["a"], ["b"]],
        "",
    ]
)


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None)
@given(
    doc=st.dictionaries(
        st.sampled_from(["query", "choices", "gold_index", "specific", "original_query", "id", "task_name"]),
        ODD,
        max_size=2,
    ),
    response=st.dictionaries(st.sampled_from(["text", "text_post_processed", "logprobs"]), ODD, max_size=2),
    metric=st.just(1.0) | ODD,
    gone=st.sampled_from(["", "", "", "doc", "metric", "model_response"]),
)
def test_no_value_of_any_field_ends_in_a_traceback(
    tmp_path: Path, doc: Row, response: Row, metric: Any, gone: str
) -> None:
    whole = _text(0, "a")
    odd = detail(1, doc=doc, response={"text": ["b"], **response}, em=metric)
    path = tmp_path / "odd.parquet"
    for rows in ([odd], [whole, odd], [odd, whole, {**odd, gone: None} if gone else odd]):
        try:
            pq.write_table(pa.Table.from_pylist(rows), path)
        except pa.ArrowException:
            continue  # no such file can be
        try:
            found = _read(path, slices=["id", "a"])
            found.read_texts(np.arange(len(found)))
            compare_runs(path, path)
        except InputError as error:
            assert len(str(error).splitlines()) == 1
            assert len(str(error)) < 700
