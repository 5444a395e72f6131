"""Records of other programs become columns: scores or right answers, samples, slices, texts."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest

from muscle_hf import InputError
from muscle_hf.readers.answers import TaskAnswers, Text
from muscle_hf.readers.formats.records import Record, answers_of


def _made(*records: Record, **options: Any) -> TaskAnswers:
    make: Callable[[], Iterable[Record]] = lambda: iter(records)  # noqa: E731
    return answers_of(make, "t", "x.json", **options)


def test_the_first_score_that_every_record_has_is_compared_and_the_others_are_named() -> None:
    made = _made(
        Record("a", scores={"partly": 1.0, "text": "x", "passed": True}),
        Record("b", scores={"partly": None, "passed": False, "late": 3}),
    )
    assert made.metric == "passed" and made.scores is not None
    assert made.scores.tolist() == [1.0, 0.0]
    assert made.notes == ("t: metric 'passed' compared (there is also 'partly', 'late'; see --metric)",)
    late = _made(Record("a"), Record("b", scores={"late": 3}), metric="late")
    assert late.scores is not None and np.isnan(late.scores[0]) and late.scores[1] == 3


def test_a_metric_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(InputError, match=r"x\.json: there is no metric 'f2'; usable: 'f1'\."):
        _made(Record(1, scores={"f1": 0.5, "raw": "0.5"}), metric="f2")
    with pytest.raises(InputError, match=r"no metric gives one number an answer \('raw'\)"):
        _made(Record(1, scores={"raw": "0.5"}))


def test_without_scores_answers_are_compared_with_right_ones() -> None:
    made = _made(Record(1, answer="A", reference="A"), Record(2, answer="B", reference="A"), Record(3, reference="A"))
    assert made.metric == "accuracy" and made.values().tolist() == [1, 0, 0]
    scored = _made(Record(1, scores={"f1": 0.2}, answer="A", reference="A"), metric="accuracy")
    assert scored.values().tolist() == [1]


def test_samples_of_one_id_are_one_instance_wherever_they_stand() -> None:
    made = _made(
        Record("b", answer="A", reference="A", sample=1, fields={"subject": "law"}),
        Record("a", answer="A", reference="C", sample=1, fields={"subject": "art"}),
        Record("b", answer="B", reference="A", sample=2, fields={"subject": "law"}),
        slices=["subject"],
    )
    assert made.ids.to_pylist() == ["b", "a"]
    assert made.scores is not None and made.scores.tolist() == [0.5, 0.0]
    assert made.samples is not None and made.samples.tolist() == [2, 1]
    assert made.slices["subject"].to_pylist() == ["law", "art"]
    assert made.columns == ("subject",)
    grades = _made(Record(1, scores={"f1": 1}, sample=1), Record(1, scores={"f1": 0}, sample=2))
    assert grades.samples is None and grades.scores is not None and grades.scores.tolist() == [0.5]


@pytest.mark.parametrize(
    ("records", "words"),
    [
        ([], "x.json holds no answers"),
        ([Record(1.5, scores={"f1": 1})], "an id is 1.5"),  # type: ignore[arg-type]
        ([Record(1, scores={"f1": 1}, sample=2)] * 2, "id 1 stands twice with the same sample, 2"),
        (
            [Record(1, scores={"f1": 1}, sample=1, question="a"), Record(1, scores={"f1": 1}, sample=2, question="b")],
            "samples of one id have different documents",
        ),
    ],
)
def test_records_that_cannot_be_one_table_are_refused(records: list[Record], words: str) -> None:
    with pytest.raises(InputError, match=words):
        _made(*records)


def test_texts_are_read_again_and_not_held() -> None:
    made = _made(*(Record(n, {"f1": 1}, "A", ["A", "B"], f"q{n}", output=f"It is A{n}") for n in range(3)))
    shown = made.read_texts(np.array([2, 0]))
    assert shown == [
        Text("q2", "A / B", "A\n\nIt is A2", "It is A2"),
        Text("q0", "A / B", "A\n\nIt is A0", "It is A0"),
    ]


def test_a_file_that_has_changed_is_not_shown_as_what_was_compared() -> None:
    rows = [Record(1, {"f1": 1}), Record(2, {"f1": 1})]
    made = answers_of(lambda: iter(rows), "t", "x.json")
    rows.pop()
    with pytest.raises(InputError, match="has changed since it was read"):
        made.read_texts(np.array([1]))


def test_what_two_models_cannot_share_is_kept_as_a_digest() -> None:
    long = "a long answer that two models do not share " * 3
    texts = _made(Record(1, {"f1": 1}, output=long), Record(2, {"f1": 1}, answer="A"))
    assert texts.outputs is not None and texts.outputs.null_count == 1 and not texts.likelihoods
    numbers = _made(Record(1, {"f1": 1}, likelihoods=[-1.25, -3.5]))
    assert numbers.outputs is not None and numbers.likelihoods
