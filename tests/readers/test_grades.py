"""Scores that are no right or wrong: never pooled as answers, never said to contradict them, in any file."""

from collections.abc import Callable, Sequence
from pathlib import Path

import lighteval_details
import numpy as np
import pytest
from harness_samples import Row, choice, generation, write
from lighteval_details import detail, run_file

from muscle_hf import compare_runs, read
from muscle_hf.flips.comparison import Comparison
from muscle_hf.flips.score_comparison import ScoreComparison

DATE = "2026-01-02T03-04-05.678901"


def _mc2(key: int, score: float, likely: int = 0) -> Row:
    """Make a sample of TruthfulQA, of which two of three choices are right."""
    doc = {
        "question": f"Question {key}?",
        "mc1_targets": {"choices": ["a", "b"], "labels": [1, 0]},
        "mc2_targets": {"choices": ["a", "b", "c"], "labels": [1, 1, 0]},
    }
    return choice(key, [-1.0 if i == likely else -2.0 for i in range(3)], doc=doc, target=0, acc=score)


def _harness(folder: Path, values: Sequence[float], metric: str) -> Path:
    write(
        folder / f"samples_t_{DATE}.jsonl", [generation(i, "4", **{metric: value}) for i, value in enumerate(values)]
    )
    return folder


def _lighteval(folder: Path, values: Sequence[float], metric: str) -> Path:
    doc = {"choices": ["4"], "sampling_methods": ["GENERATIVE"]}
    rows = [detail(i, doc=doc, response={"text": ["4"]}, **{metric: float(v)}) for i, v in enumerate(values)]
    lighteval_details.write(run_file(folder, "m", DATE), rows)
    return folder


def _table(folder: Path, values: Sequence[float], metric: str) -> Path:
    folder.mkdir(parents=True)
    rows = "".join(f"{i},{value}\n" for i, value in enumerate(values))
    (folder / "t.csv").write_text(f"id,{metric}\n{rows}")
    return folder / "t.csv"


FORMATS: dict[str, Callable[[Path, Sequence[float], str], Path]] = {
    "harness": _harness,
    "lighteval": _lighteval,
    "table": _table,
}


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("metric", ["f1", "rougeL", "bleu", "chrf", "truthfulqa_mc2"])
@pytest.mark.parametrize("values", [([0, 0], [0, 0]), ([1, 1], [1, 1]), ([0, 1], [1, 0])], ids=["0", "1", "both"])
def test_a_grade_that_happens_to_be_0_or_1_is_compared_as_a_score(
    form: str, metric: str, values: tuple[list[float], list[float]], tmp_path: Path
) -> None:
    old, new = (FORMATS[form](tmp_path / side, said, metric) for side, said in zip(("v1", "v2"), values, strict=True))
    (part,) = compare_runs(old, new, metric=metric).tasks
    assert isinstance(part.comparison, ScoreComparison)
    assert part.to_dict()["kind"] == "scores"


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("metric", ["perplexity", "wer", "ter", "bits_per_byte", "brier_score", "edit_distance"])
def test_lower_is_better_of_what_is_known_to_be_an_error(form: str, metric: str, tmp_path: Path) -> None:
    old, new = (FORMATS[form](tmp_path / side, values, metric) for side, values in (("v1", [1, 1]), ("v2", [2, 0.5])))
    (part,) = compare_runs(old, new, metric=metric).tasks
    assert part.metric == f"negated {metric}"
    assert part.comparison.negative_flips.tolist() == [0]
    assert part.comparison.positive_flips.tolist() == [1]


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("metric", ["acc", "em", "rouge1_acc"])
@pytest.mark.parametrize("graded", ["old", "new", "neither"])
def test_one_value_between_0_and_1_on_either_side_makes_scores(
    form: str, metric: str, graded: str, tmp_path: Path
) -> None:
    old, new = (FORMATS[form](tmp_path / side, [0, 0.5 if side == graded else 1], metric) for side in ("old", "new"))
    (part,) = compare_runs(old, new, metric=metric).tasks
    assert part.has_scores == (graded != "neither")


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    ("metric", "values", "is_score"),
    [
        ("helpfulness", ([0, 0], [0, 0]), True),
        ("helpfulness", ([0, 1], [0, 0]), False),
        ("is_correct", ([0, 0], [0, 0]), False),
        ("acc", ([0, 0], [0, 0]), False),
    ],
)
def test_zeros_alone_are_wrong_answers_only_where_the_metric_says_so(
    form: str, metric: str, values: tuple[list[float], list[float]], is_score: bool, tmp_path: Path
) -> None:
    old, new = (FORMATS[form](tmp_path / side, said, metric) for side, said in zip(("v1", "v2"), values, strict=True))
    (part,) = compare_runs(old, new, metric=metric).tasks
    assert part.has_scores == is_score


@pytest.mark.parametrize("samples", [2, 3])
def test_several_grades_of_one_instance_are_no_share_of_right_ones(samples: int, tmp_path: Path) -> None:
    for side in ("v1", "v2"):
        rows = "".join(f"{i},{n},{(i + n) % 2}\n" for i in range(3) for n in range(samples))
        (tmp_path / f"{side}.csv").write_text(f"id,sample,f1\n{rows}")
    (part,) = compare_runs(tmp_path / "v1.csv", tmp_path / "v2.csv", metric="f1").tasks
    assert part.has_scores and part.reliable_change is None


def test_several_errors_of_one_instance_keep_their_direction(tmp_path: Path) -> None:
    for side, value in (("v1", 1), ("v2", 2)):
        (tmp_path / f"{side}.csv").write_text("id,sample,wer\n" + "".join(f"1,{n},{value}\n" for n in range(2)))
    (part,) = compare_runs(tmp_path / "v1.csv", tmp_path / "v2.csv", metric="wer").tasks
    assert part.comparison.negative_flips.tolist() == [0]


@pytest.mark.parametrize("name", ["truthfulqa_mc2", "mine"])
@pytest.mark.parametrize(
    "values",
    [([0.0, 0.0], [0.0, 0.0]), ([0.0, 0.0], [0.3, 0.7]), ([0.3, 0.7], [1.0, 1.0]), ([1.0, 0.0], [0.0, 1.0])],
    ids=["all 0", "old 0", "new 1", "0 and 1"],
)
def test_the_accuracy_of_truthfulqa_mc2_is_not_pooled_and_contradicts_nothing(
    name: str, values: tuple[list[float], list[float]], tmp_path: Path
) -> None:
    for side, scores in zip(("v1", "v2"), values, strict=True):
        write(tmp_path / side / f"samples_{name}_{DATE}.jsonl", [_mc2(key, score) for key, score in enumerate(scores)])
        for task in ("arc", "piqa"):
            write(tmp_path / side / f"samples_{task}_{DATE}.jsonl", [choice(key, [-1, -2]) for key in range(2)])
    result = compare_runs(tmp_path / "v1", tmp_path / "v2")
    kinds = {part.name: type(part.comparison) for part in result.tasks}
    assert kinds == {"arc": Comparison, "piqa": Comparison, name: ScoreComparison}
    assert result.pooled is not None and result.pooled.n == 4
    assert not [note for note in result.notes if "contradict" in note]


@pytest.mark.parametrize("is_swapped", [False, True], ids=["", "swapped"])
def test_a_score_that_only_one_file_shows_to_be_one_contradicts_nothing(is_swapped: bool, tmp_path: Path) -> None:
    # By chance all 0 in one of two runs: its most likely choices would seem to contradict it.
    zeros = [choice(key, [-1, -2], target=0, acc=0.0) for key in range(2)]
    shares = [choice(key, [-1, -2], target=0, acc=0.4) for key in range(2)]
    files = [write(tmp_path / f"{name}.jsonl", rows) for name, rows in (("a", zeros), ("b", shares))]
    result = compare_runs(*(files[::-1] if is_swapped else files))
    assert result.tasks[0].has_scores
    assert not [note for note in result.notes if "contradict" in note]


# Choices that are all right ------------------------------------------------------------------------------------------


def _alias(key: int, said: int | None, count: int = 3) -> Row:
    """Make a sample of WebQuestions: choices are names of the right answer, one of which may be what is written."""
    row = choice(key, [-3.0, -2.0, -1.0][:count], target=list(range(count)), texts=["the USA", "the US", "America"])
    for index, response in enumerate(row["filtered_resps"]):
        response[1] = str(index == said)
    row.pop("acc")
    return row | {"metrics": ["exact_match"], "exact_match": float(said is not None)}


def test_of_aliases_the_written_one_is_shown_and_not_the_likeliest(tmp_path: Path) -> None:
    old = write(tmp_path / "v1.jsonl", [_alias(0, 1), _alias(1, None), _alias(2, None)])
    new = write(tmp_path / "v2.jsonl", [_alias(0, None), _alias(1, 0), _alias(2, None)])
    result = compare_runs(old, new)
    part = result.tasks[0]
    assert isinstance(part.comparison, Comparison)
    assert [(flip.old_answer, flip.new_answer) for flip in result.flips()] == [("the US", None), (None, "the USA")]
    assert {flip.reference for flip in result.flips()} == {"the USA / the US / America"}
    # What was written in place of an alias is not known, so neither is whether both wrote the same.
    assert read(old).tasks["v1"].answers is None
    assert part.comparison.both_wrong_same is None
    assert not [note for note in result.notes if "contradict" in note]


def test_a_single_alias_is_shown_where_it_was_written(tmp_path: Path) -> None:
    old = write(tmp_path / "v1.jsonl", [_alias(0, 0, count=1)])
    new = write(tmp_path / "v2.jsonl", [_alias(0, None, count=1)])
    (flip,) = compare_runs(old, new).flips()
    assert (flip.old_answer, flip.new_answer) == ("the USA", None)


@pytest.mark.parametrize("said", [0, 1])
def test_aliases_in_details_of_lighteval_are_no_answers(said: int, tmp_path: Path) -> None:
    rows = [
        detail(key, doc={"gold_index": [0, 1]}, response={"logprobs": [-1.0 - said, -2.0 + said]}, acc=float(key == 0))
        for key in range(2)
    ]
    path = lighteval_details.write(tmp_path / "d.parquet", rows)
    result = compare_runs(path, path)
    (part,) = result.tasks
    assert isinstance(part.comparison, Comparison) and part.comparison.both_wrong_same is None
    assert [one.new_answer for one in result.instances(part.name, np.arange(2))] == [None, None]
    assert not [note for note in result.notes if "contradict" in note]


def test_another_score_of_likelihoods_is_not_contradicted_by_the_likeliest_choice(tmp_path: Path) -> None:
    rows = [detail(key, response={"logprobs": [-2.0, -1.0]}, truthfulqa_mc1=1.0) for key in range(2)]
    path = lighteval_details.write(tmp_path / "d.parquet", rows)
    result = compare_runs(path, path)
    assert not [note for note in result.notes if "contradict" in note]
    assert next(iter(read(path).tasks.values())).answers is None


def test_choices_are_still_answers_where_some_are_wrong(tmp_path: Path) -> None:
    path = write(tmp_path / "v1.jsonl", [choice(key, [-1, -2, -3], target=[0, 1], acc=1.0) for key in range(2)])
    (task,) = read(path).tasks.values()
    assert task.answers is not None and task.answers.to_pylist() == [0, 0]


# Other metrics -------------------------------------------------------------------------------------------------------


def test_the_other_metrics_of_a_task_are_named_once_for_all_tasks(tmp_path: Path) -> None:
    for side in ("v1", "v2"):
        for task in ("arc", "mmlu_art", "mmlu_law", "piqa"):
            rows = [choice(key, [-1, -2], acc=1.0, acc_norm=0.0) for key in range(2)]
            write(tmp_path / side / f"samples_{task}_{DATE}.jsonl", rows)
        write(tmp_path / side / f"samples_gsm8k_{DATE}.jsonl", [generation(0, "4")])
    note = "4 tasks (arc, mmlu_art, mmlu_law, …): metric 'acc' compared (there is also 'acc_norm'; see --metric)"
    assert [said for said in compare_runs(tmp_path / "v1", tmp_path / "v2").notes if "--metric" in said] == [note]


def test_harness_and_lighteval_name_other_metrics_in_the_same_words(tmp_path: Path) -> None:
    first = write(tmp_path / "t.jsonl", [choice(0, [-1, -2], acc=1.0, acc_norm=0.0)])
    rows = [detail(0, response={"logprobs": [-1.0, -2.0]}, acc=1.0, acc_norm=0.0)]
    second = lighteval_details.write(tmp_path / f"details_t_{DATE}.parquet", rows)
    for path in (first, second):
        assert read(path).tasks["t"].notes == ("t: metric 'acc' compared (there is also 'acc_norm'; see --metric)",)


def test_no_other_metric_is_named_where_one_was_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", [choice(0, [-1, -2], acc=1.0, acc_norm=0.0)])
    assert not read(path, metric="acc").tasks["t"].notes
