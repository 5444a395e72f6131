"""Documents that lm-evaluation-harness wrote before 0.4 (`--write_out`), in the shapes of its `evaluator.py`."""

import json
from pathlib import Path
from typing import Any

import pytest

from muscle_hf import InputError, compare_runs, read

Row = dict[str, Any]


def _choice(i: int, likelihoods: list[float], truth: int) -> Row:
    """Make a document of a MultipleChoiceTask: floats as they are, metrics as texts."""
    best = likelihoods.index(max(likelihoods))
    return {
        "doc_id": i,
        **{f"prompt_{place}": f"Examples\n\nQuestion {i}? {text}" for place, text in enumerate("abcd")},
        **{f"logit_{place}": value for place, value in enumerate(likelihoods)},
        "truth": truth,
        "acc": str(float(best == truth)),
        "acc_norm": str(float(best == truth or i == 3)),
    }


def _text(i: int, response: str, truth: str, **metrics: Any) -> Row:
    return {
        "doc_id": i,
        "prompt_0": f"Question {i}?['\\n']",
        "logit_0": response,
        "truth": f" {truth}",
        **{name: str(value) for name, value in metrics.items()},
    }


def _write(file: Path, rows: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(rows, indent=4, ensure_ascii=False))
    return file


OLD = [_choice(i, [-1.0 - i / 7, -2.0, -3.0, -2.5 - i / 3], i % 3) for i in range(12)]
NEW = [_choice(i, [-1.5 - i / 9, -2.1, -1.4 - i % 2, -2.6], i % 3) for i in range(12)]


@pytest.mark.parametrize("metric", ["acc", "acc_norm"])
def test_counts_are_those_of_the_texts_in_the_file(tmp_path: Path, metric: str) -> None:
    old, new = _write(tmp_path / "v1/t_write_out_info.json", OLD), _write(tmp_path / "v2/t_write_out_info.json", NEW)
    first, second = (
        {row["doc_id"]: row[metric] == "1.0" for row in json.loads(file.read_text())} for file in (old, new)
    )
    broken = [key for key in first if first[key] and not second[key]]
    repaired = [key for key in first if not first[key] and second[key]]
    result = compare_runs(old, new, metric=metric)
    part = result.overall.comparison
    assert broken and repaired
    assert [flip.id for flip in result.flips() if flip.kind == "negative_flip"] == broken
    assert (part.n, len(part.negative_flips), len(part.positive_flips)) == (12, len(broken), len(repaired))


def test_documents_by_their_number_are_those_of_a_list(tmp_path: Path) -> None:
    old = _write(tmp_path / "v1/t_write_out_info.json", OLD)
    new = _write(tmp_path / "v2/t_write_out_info.json", {str(row["doc_id"]): row for row in NEW})
    counts = [compare_runs(old, file).overall.comparison for file in (new, _write(tmp_path / "v3.json", NEW))]
    assert counts[0].negative_flips.tolist() == counts[1].negative_flips.tolist() == [0, 6, 10]


def test_answers_are_the_likeliest_choices_where_these_are_what_was_scored(tmp_path: Path) -> None:
    task = read(_write(tmp_path / "arc_write_out_info.json", NEW)).tasks["arc"]
    assert task.answers is not None
    assert task.answers.to_pylist()[:2] == [2, 0]
    assert task.likelihoods
    for rows, options in ((NEW, {"metric": "acc_norm"}), ([NEW[0] | {"acc": "1.0"}, *NEW[1:]], {})):
        assert read(_write(tmp_path / "arc_write_out_info.json", rows), **options).tasks["arc"].answers is None


def test_a_folder_is_read_task_by_task_and_other_examples_are_no_other_documents(tmp_path: Path) -> None:
    for side, shots in (("v1", "Five\n\nexamples\n\n"), ("v2", "")):
        rows = [_text(i, "7", "7", em=i % 2) for i in range(4)]
        rows = [row | {"prompt_0": shots + row["prompt_0"]} for row in rows]
        _write(tmp_path / side / "triviaqa_write_out_info.json", rows)
        _write(tmp_path / side / "arc_easy_write_out_info.json", OLD if side == "v1" else NEW)
        _write(tmp_path / side / "results.json", {"results": {}, "config": {}})
    assert [part.name for part in compare_runs(tmp_path / "v1", tmp_path / "v2").tasks] == ["arc_easy", "triviaqa"]


@pytest.mark.parametrize(
    ("value", "read_as"), [(True, 1.0), (False, 0.0), (1, 1.0), (0.25, 0.25), ("True", 1.0), ("0.0", 0.0)]
)
def test_every_way_in_which_python_writes_a_number_is_read(tmp_path: Path, value: Any, read_as: float) -> None:
    rows = [_text(0, "x", "y", em=value), _text(1, "x", "y", em=0)]
    scores = read(_write(tmp_path / "t_write_out_info.json", rows)).tasks["t"].scores
    assert scores is not None
    assert scores.tolist() == [read_as, 0.0]


def test_log_likelihoods_of_a_word_are_better_when_higher(tmp_path: Path) -> None:
    """Lambada's `ppl` is a log-likelihood until its mean is taken."""
    rows = [{"doc_id": i, "prompt_0": f"The {i}", "logit_0": -1.0 * i, "logit_1": i < 2} for i in range(4)]
    rows = [row | {"truth": " end", "ppl": str(row["logit_0"]), "acc": str(int(row["logit_1"]))} for row in rows]
    task = read(_write(tmp_path / "lambada_write_out_info.json", rows)).tasks["lambada"]
    assert (task.metric, task.higher_is_better, task.grades) == ("ppl", True, True)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([_text(0, "x", "y", f1="(1, [0.5])")], "no metric gives one number"),
        ([_text(0, "x", "y", em=1), {"doc_id": 1}], "is not documents as lm-evaluation-harness before 0.4 writes it"),
        ([_text(0, "x", "y", em=1), 7], "line 9 is 7"),
        ([_text(0, "x", "y", em=1) | {"doc_id": None}, _text(1, "x", "y", em=1)], "an id is null"),
        ([_text(0, "x", "y", em=1), _text(1, "x", "y")], "1 of 2 scores .* are not finite numbers"),
        ([_text(0, "x", "y", em=1), _text(0, "x", "y", em=1)], "ids stand more than once"),
    ],
)
def test_what_is_not_as_the_harness_writes_it_is_refused_in_one_line(tmp_path: Path, rows: Any, told: str) -> None:
    file = _write(tmp_path / "t_write_out_info.json", rows)
    with pytest.raises(InputError, match=told) as refusal:
        compare_runs(file, file, allow_identical=True)
    assert "\n" not in str(refusal.value)


def test_a_file_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    file = _write(tmp_path / "t_write_out_info.json", OLD)
    file.write_text(file.read_text()[:-400])
    with pytest.raises(InputError, match="was the file cut off"):
        read(file)
