"""Tables of answers as people have them: every hard input is taken as it is, or refused by name and place."""

import csv
import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from muscle_hf import InputError, compare_runs, read
from muscle_hf.flips.comparison import Comparison
from muscle_hf.flips.score_comparison import ScoreComparison
from muscle_hf.readers.answers import TaskAnswers

Rows = list[dict[str, Any]]
Writer = Callable[[Path, Rows], Path]


def write_jsonl(path: Path, rows: Rows) -> Path:
    path = path.with_suffix(".jsonl")
    path.write_bytes("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("utf-8"))
    return path


def write_csv(path: Path, rows: Rows) -> Path:
    path = path.with_suffix(".csv")
    names = list(dict.fromkeys(name for row in rows for name in row))

    def cell(value: object) -> str:
        # As in every good writer: null is an empty field, and an empty text a quoted one.
        return "" if value is None else '"' + str(value).replace('"', '""') + '"'

    lines = [",".join(map(cell, names)), *(",".join(cell(row.get(name)) for name in names) for row in rows)]
    path.write_bytes("".join(line + "\n" for line in lines).encode("utf-8"))
    return path


def write_parquet(path: Path, rows: Rows) -> Path:
    path = path.with_suffix(".parquet")
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


WRITERS = [pytest.param(write, id=write.__name__.removeprefix("write_")) for write in (write_jsonl, write_csv, write_parquet)]  # fmt: skip # noqa: E501
each_format = pytest.mark.parametrize("write", WRITERS)


def rows(*answers: str | None, gold: str = "A", **more: Any) -> Rows:
    return [{"id": f"q{i}", "prediction": answer, "reference": gold, **more} for i, answer in enumerate(answers)]


def task(path: Path | str, **options: Any) -> TaskAnswers:
    (found,) = read(path, **options).tasks.values()
    return found


def refused(path: Path | str, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        read(path, **options)
    text = str(caught.value)
    assert len(text.splitlines()) == 1, "an error is one line"
    assert len(text) < 1000
    return text


# What is read --------------------------------------------------------------------------------------------------------


@each_format
def test_the_same_rows_read_the_same_in_every_format(tmp_path: Path, write: Writer) -> None:
    found = task(write(tmp_path / "answers", rows("A", None, "B")))
    assert found.ids.to_pylist() == ["q0", "q1", "q2"]
    assert found.answers is not None
    assert found.answers.to_pylist() == ["A", None, "B"]
    assert found.values().tolist() == [1.0, 0.0, 0.0]


@pytest.mark.slow
@each_format
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(data=st.lists(st.tuples(st.none() | st.text(max_size=300), st.text(max_size=20)), min_size=1, max_size=8))
@example(data=[("", "0")])
def test_any_text_is_read_back_unchanged(tmp_path: Path, write: Writer, data: list[tuple[str | None, str]]) -> None:
    # The last row makes texts of a CSV column whose other right answers are numbers, among which "" is no answer.
    data = [*((a and _writable(a, write), _writable(b, write)) for a, b in data), ("a text", "a text")]
    written: Rows = [{"id": str(i), "prediction": a, "reference": b} for i, (a, b) in enumerate(data)]
    found = task(write(tmp_path / "answers", written))
    texts = found.read_texts(np.arange(len(data)))
    if write is write_csv:  # where spaces around a text say nothing
        data = [(a and a.strip(), b.strip()) for a, b in data]
    assert [(text.answer, text.reference) for text in texts] == data
    assert found.values().tolist() == [float(a == b) for a, b in data]


def _writable(text: str, write: Writer) -> str:
    text = text.encode("utf-8", "ignore").decode()
    # A carriage return inside quotes is a line end for some CSV readers, and is not written by others.
    return text.replace("\r", " ").replace("\x00", " ") if write is write_csv else text


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(
    data=st.lists(
        st.fixed_dictionaries(
            {"id": st.integers(0, 10**6), "prediction": st.none() | st.integers(-(10**30), 10**30)},
            optional={"note": st.text(max_size=5)},
        ),
        min_size=1,
        max_size=6,
        unique_by=lambda row: row["id"],
    )
)
def test_integers_of_any_size_are_compared_exactly(tmp_path: Path, data: Rows) -> None:
    written = [row | {"reference": row["prediction"] or 0} for row in data]
    found = task(write_jsonl(tmp_path / "answers", written))
    expected = [float(row["prediction"] is not None) for row in written]
    assert found.values().tolist() == expected


@pytest.mark.parametrize("text", ["a\nb", "שלום עולם", "<script>alert(1)</script>", "a\u2028b", "NA", "null", "007", "", "nan"])  # fmt: skip # noqa: E501
@each_format
def test_answers_that_look_like_something_else_stay_what_they_are(tmp_path: Path, write: Writer, text: str) -> None:
    found = task(write(tmp_path / "answers", rows(text, "7", gold=text)))
    assert found.answers is not None
    assert found.answers.to_pylist() == [text, "7"]
    assert found.values().tolist() == [1.0, 0.0]


def test_an_empty_csv_field_is_no_answer_and_a_quoted_one_is_an_empty_answer(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('id,prediction,reference\n1,,A\n2,"",A\n', encoding="utf-8")
    found = task(path)
    assert found.answers is not None
    assert found.answers.to_pylist() == [None, ""]


@each_format
def test_empty_answers_are_counted_and_stay_wrong(tmp_path: Path, write: Writer) -> None:
    path = write(tmp_path / "answers", rows("A", None, "", " ", "B"))
    found = task(path)
    assert found.values().tolist() == [1, 0, 0, 0, 0]
    assert found.empty_notes == (f"{path}: 3 empty answers count as wrong",)
    assert task(write(tmp_path / "one", rows("A", None))).empty_notes[0].endswith(": 1 empty answer counts as wrong")
    assert task(write(tmp_path / "none", rows("A", "B"))).notes == ()
    # Where a score tells, an answer need not be there.
    assert task(write(tmp_path / "scored", rows(None, score=1.0))).notes == ()


def test_empty_answers_are_counted_among_sampled_ones_and_among_numbers(tmp_path: Path) -> None:
    sampled = tmp_path / "sampled.jsonl"
    sampled.write_text('{"id": 1, "prediction": ["A", null, ""], "reference": "A"}\n')
    assert task(sampled).empty_notes == (f"{sampled}: 2 empty answers count as wrong",)
    numbers = tmp_path / "numbers.csv"
    numbers.write_text("id,prediction,reference\n1,,1\n2,NaN,2\n3,3,3\n")
    assert task(numbers).empty_notes[-1] == f"{numbers}: 2 empty answers count as wrong"
    # A right answer may be an empty text.
    empty = tmp_path / "empty.jsonl"
    empty.write_text('{"id": 1, "prediction": "", "reference": ""}\n')
    assert task(empty).notes == ()


def test_tab_separated_values_are_split_at_tabs(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("id\tprediction\treference\n1\tA, B\tA, B\n", encoding="utf-8")
    assert task(path).values().tolist() == [1.0]


@each_format
def test_long_answers_are_told_apart_by_their_whole_text(tmp_path: Path, write: Writer) -> None:
    long = "x" * 5000
    found = task(write(tmp_path / "answers", rows(long + "a", long + "b", gold=long + "b", question="why?")))
    assert found.values().tolist() == [0.0, 1.0]
    assert found.answers is not None
    assert len(found.answers[0].as_py()) < 300, "memory stays bounded"
    assert found.read_texts(np.array([1, 0]))[0].answer == long + "b"


@each_format
def test_columns_of_other_names_are_found_by_what_they_are(tmp_path: Path, write: Writer) -> None:
    data = [{"key": "1", "said": "A", "gold": "A", "asked": "Why?"}]
    names = {"id": "key", "prediction": "said", "reference": "gold", "question": "asked"}
    found = task(write(tmp_path / "answers", data), columns=names)
    assert found.ids.to_pylist() == ["1"]
    assert found.read_texts(np.array([0])) == [("Why?", "A", "A", None)]


@each_format
def test_slices_are_read_as_text_and_gaps_stay_gaps(tmp_path: Path, write: Writer) -> None:
    data = [row | {"year": year} for row, year in zip(rows("A", "A", "A"), (1999, None, 2001), strict=True)]
    found = task(write(tmp_path / "answers", data), slices=["year"])
    assert found.slices["year"].to_pylist() == ["1999", None, "2001"]


def test_choices_show_what_a_number_stands_for(tmp_path: Path) -> None:
    data: Rows = [{"id": 1, "prediction": 1, "reference": 0, "choices": ["cat", "dog"], "question": "Which?"}]
    found = task(write_jsonl(tmp_path / "a", data))
    assert found.read_texts(np.array([0])) == [("Which?", "0: cat", "1: dog", None)]


def test_a_question_that_is_a_conversation_does_not_stop_the_report(tmp_path: Path) -> None:
    data = rows("A", "B", question=[{"role": "user", "content": "Why?"}])
    found = task(write_jsonl(tmp_path / "a", data))
    assert "Why?" in str(found.read_texts(np.array([1]))[0].question)


# Wide tables ---------------------------------------------------------------------------------------------------------


@each_format
def test_two_columns_of_one_wide_table_are_compared_without_an_id(tmp_path: Path, write: Writer) -> None:
    path = write(tmp_path / "wide", [{"gold": "A", "v1": "A", "v2": "B"}, {"gold": "B", "v1": "A", "v2": "B"}])
    result = compare_runs(f"{path}:v1", f"{path}:v2", columns={"reference": "gold"})
    assert (result.old_name, result.new_name) == ("v1", "v2")
    assert result.tasks[0].comparison.negative_flips.tolist() == [0]


def test_rows_of_two_files_without_ids_are_joined_only_when_told(tmp_path: Path) -> None:
    data = [{"prediction": "A", "reference": "A"}, {"prediction": "B", "reference": "A"}]
    old, new = write_csv(tmp_path / "old", data), write_csv(tmp_path / "new", data[::-1])
    with pytest.raises(InputError, match="has no column 'id', so its rows cannot be matched"):
        compare_runs(old, new)
    assert compare_runs(old, new, by_position=True).tasks[0].comparison.negative_flips.tolist() == [0]


def test_rows_are_not_joined_by_an_index_without_a_name_unless_told(tmp_path: Path) -> None:
    old, new = tmp_path / "old.csv", tmp_path / "new.csv"
    old.write_text(",prediction,reference\n0,A,A\n1,B,B\n", encoding="utf-8")
    new.write_text(",prediction,reference\n1,B,B\n0,B,A\n", encoding="utf-8")
    with pytest.raises(InputError, match="column without a name is called 'Unnamed: 0': as id it is right, unless"):
        compare_runs(old, new)
    result = compare_runs(old, new, columns={"id": "Unnamed: 0"})
    assert [flip.id for flip in result.flips()] == ["0"]


def test_files_of_other_lengths_are_not_joined_by_position(tmp_path: Path) -> None:
    old, new = write_csv(tmp_path / "old", rows("A", "B")), write_csv(tmp_path / "new", rows("A"))
    with pytest.raises(InputError, match=r"has 2 rows and .* has 1"):
        compare_runs(old, new, by_position=True)


def test_the_published_figures_of_gpt_3_on_gsm8k_come_out_of_a_wide_table() -> None:
    path = Path(__file__).parents[2] / "data" / "gsm8k_gpt3.jsonl"
    result = compare_runs(f"{path}:6b_finetuning", f"{path}:175b_finetuning", columns={"reference": "gold"})
    c = result.tasks[0].comparison
    assert isinstance(c, Comparison)
    assert c.n == 1319
    assert (round(c.old_accuracy, 4), round(c.new_accuracy, 4)) == (0.2168, 0.3472)
    assert (len(c.negative_flips), len(c.positive_flips)) == (88, 260)
    assert round(c.inconsistency_flip_rate - c.negative_flip_rate, 4) == 0.5398


MMLU_PRO = Path(__file__).parents[3] / "examples" / "data" / "mmlu_pro" / "answers.csv"


@pytest.mark.parametrize(
    ("old", "new", "accuracy", "flips", "both_wrong_different"),
    [
        ("Llama-2-7b-hf", "Meta-Llama-3-8B", (0.1831, 0.3416), (839, 2744), 0.4205),
        ("Mistral-7B-v0.1", "Mistral-7B-v0.2-hf", (0.2975, 0.2915), (1073, 1001), 0.2887),
    ],
)
def test_the_published_figures_of_two_updates_come_out_of_one_csv(
    old: str, new: str, accuracy: tuple[float, float], flips: tuple[int, int], both_wrong_different: float
) -> None:
    result = compare_runs(f"{MMLU_PRO}:{old}", f"{MMLU_PRO}:{new}", columns={"reference": "answer"}, by="category")
    c = result.tasks[0].comparison
    assert isinstance(c, Comparison)
    assert c.n == 12018
    assert (round(c.old_accuracy, 4), round(c.new_accuracy, 4)) == accuracy
    assert (len(c.negative_flips), len(c.positive_flips)) == flips
    assert round(c.inconsistency_flip_rate - c.negative_flip_rate, 4) == both_wrong_different
    assert sum(part.n for part in result.slices["category"]) == 12018
    # The rows have ids as well, and joined by these it is the same.
    ids = {"reference": "answer", "id": "question_id"}
    again = compare_runs(f"{MMLU_PRO}:{old}", f"{MMLU_PRO}:{new}", columns=ids).tasks[0].comparison
    assert again.to_json() == c.to_json()


@each_format
def test_a_score_in_a_wide_table_is_not_the_score_of_the_chosen_column(tmp_path: Path, write: Writer) -> None:
    path = write(tmp_path / "wide", [{"id": "1", "reference": "A", "v1": "A", "v2": "B", "score": 0.5}])
    assert task(f"{path}:v1").values().tolist() == [1.0]
    assert task(f"{path}:v2").values().tolist() == [0.0]
    assert task(f"{path}:v2", metric="score").values().tolist() == [0.5]
    assert task(f"{path}:v2", columns={"score": "score"}).values().tolist() == [0.5]


def test_the_same_answers_in_two_formats_do_not_flip(tmp_path: Path) -> None:
    data = rows("A", None, "", "B\nC", "007")
    files = [write(tmp_path / "a", data) for write in (write_jsonl, write_csv, write_parquet)]
    for old in files:
        for new in files:
            c = compare_runs(old, new).tasks[0].comparison
            assert isinstance(c, Comparison)
            assert (c.n, len(c.negative_flips), c.both_wrong_same) == (5, 0, 4)


def test_a_column_may_have_colons_in_its_name(tmp_path: Path) -> None:
    data: Rows = [{"id": 1, "reference": "A", "org/model:v1": "A", "v1": "B"}]
    path = write_csv(tmp_path / "wide:1", data)
    assert task(f"{path}:org/model:v1").values().tolist() == [1.0]
    assert task(f"{path}:v1").values().tolist() == [0.0]
    assert "has no column 'v2' (prediction)" in refused(f"{path}:v2")


def test_numbers_meet_the_text_that_a_csv_file_makes_of_them(tmp_path: Path) -> None:
    data: Rows = [{"id": i, "prediction": said, "reference": 10**25} for i, said in ((1, 10**25), (2, None), (3, 7))]
    old, new = write_jsonl(tmp_path / "old", data), write_csv(tmp_path / "new", data)
    for pair in ((old, new), (new, old)):
        c = compare_runs(*pair).tasks[0].comparison
        assert isinstance(c, Comparison)
        assert (c.both_right, c.both_wrong, c.both_wrong_same) == (1, 2, 2)


def test_ids_that_are_numbers_in_one_typed_file_and_text_in_the_other_are_refused(tmp_path: Path) -> None:
    data = [{"id": 1, "prediction": "A", "reference": "A"}]
    old, new = write_jsonl(tmp_path / "old", data), write_parquet(tmp_path / "new", [data[0] | {"id": "1"}])
    with pytest.raises(
        InputError, match=r"the ids of .*old\.jsonl are integers and those of .*new\.parquet are strings"
    ):
        compare_runs(old, new)


# Scores and sampled answers ------------------------------------------------------------------------------------------


@each_format
def test_a_score_column_is_compared_in_place_of_equality(tmp_path: Path, write: Writer) -> None:
    old = write(tmp_path / "old", [{"id": "1", "score": 0.5}, {"id": "2", "score": 0.25}])
    new = write(tmp_path / "new", [{"id": "2", "score": 0.75}, {"id": "1", "score": 0.25}])
    c = compare_runs(old, new).tasks[0].comparison
    assert isinstance(c, ScoreComparison)
    assert (c.negative_flips.tolist(), c.positive_flips.tolist()) == ([0], [1])


@each_format
def test_metric_names_a_column_of_scores_or_goes_back_to_equality(tmp_path: Path, write: Writer) -> None:
    path = write(tmp_path / "a", rows("A", "B", score=0.5, f1=0.75))
    assert task(path).values().tolist() == [0.5, 0.5]
    assert task(path, metric="f1").values().tolist() == [0.75, 0.75]
    assert task(path, metric="accuracy").values().tolist() == [1.0, 0.0]


def test_true_and_false_are_scores_in_every_spelling(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,score\n1,True\n2,false\n3,TRUE\n4,1\n", encoding="utf-8")
    assert task(path).values().tolist() == [1.0, 0.0, 1.0, 1.0]
    assert task(write_jsonl(tmp_path / "b", [{"id": 1, "score": True}])).values().tolist() == [1.0]


@pytest.mark.parametrize("score", [math.nan, math.inf, None])
@each_format
def test_a_score_that_is_not_finite_is_named_with_its_id(tmp_path: Path, write: Writer, score: float | None) -> None:
    path = write(tmp_path / "a", [{"id": "q0", "score": 0.5}, {"id": "q1", "score": score}])
    with pytest.raises(InputError, match=r"1 of 2 scores \(score\) are not finite numbers, .* of id 'q1'"):
        compare_runs(path, path)


def test_text_in_a_score_column_is_shown(tmp_path: Path) -> None:
    assert "'good'" in refused(write_csv(tmp_path / "a", [{"id": 1, "score": "good"}]))


@pytest.mark.parametrize("write", [WRITERS[0], WRITERS[2]])
def test_a_list_of_sampled_answers_counts_by_its_share_of_right_ones(tmp_path: Path, write: Writer) -> None:
    data = [{"id": 1, "prediction": ["A", "B", "A", "A"], "reference": "A"}, {"id": 2, "prediction": ["B"], "reference": "A"}]  # fmt: skip # noqa: E501
    found = task(write(tmp_path / "a", data))
    assert found.values().tolist() == [0.75, 0.0]
    assert found.samples is not None
    assert found.samples.tolist() == [4, 1]


@each_format
def test_a_sample_column_makes_one_instance_of_many_rows(tmp_path: Path, write: Writer) -> None:
    data = [
        {"id": key, "sample": sample, "prediction": said, "reference": "A", "group": f"g{key}"}
        for key, sample, said in (("1", 0, "A"), ("2", 0, "B"), ("1", 1, "B"), ("2", 1, "B"))
    ]
    found = task(write(tmp_path / "a", data), slices=["group"])
    assert found.ids.to_pylist() == ["1", "2"]
    assert found.values().tolist() == [0.5, 0.0]
    assert found.slices["group"].to_pylist() == ["g1", "g2"]


@each_format
def test_a_column_that_happens_to_be_called_sample_changes_nothing(tmp_path: Path, write: Writer) -> None:
    plain, named = rows("A", "B"), rows("A", "B", sample="text")
    old, new = write(tmp_path / "old", plain), write(tmp_path / "new", named)
    found = compare_runs(old, new).tasks[0]
    assert isinstance(found.comparison, Comparison)
    assert found.reliable_change is None


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(
    data=st.lists(
        st.tuples(st.lists(st.none() | st.sampled_from("AB"), min_size=1, max_size=4), st.sampled_from("AB")),
        min_size=1,
        max_size=5,
    ),
    seed=st.randoms(use_true_random=False),
)
@pytest.mark.parametrize("write", [WRITERS[0], WRITERS[2]])
def test_shares_of_sampled_answers_are_those_of_a_loop(
    tmp_path: Path, write: Writer, data: list[tuple[list[str | None], str]], seed: Any
) -> None:
    shares = {i: sum(answer == gold for answer in said) / len(said) for i, (said, gold) in enumerate(data)}
    listed: Rows = [{"id": i, "prediction": said, "reference": gold} for i, (said, gold) in enumerate(data)]
    found = task(write(tmp_path / "lists", listed))
    assert found.values().tolist() == [*shares.values()]
    scores: Rows = [{"id": i, "score": [float(a == gold) for a in said]} for i, (said, gold) in enumerate(data)]
    assert task(write(tmp_path / "scores", scores)).values() == pytest.approx([*shares.values()])
    single: Rows = [
        {"id": i, "sample": number, "prediction": answer, "reference": gold}
        for i, (said, gold) in enumerate(data)
        for number, answer in enumerate(said)
    ]
    seed.shuffle(single)
    found = task(write(tmp_path / "rows", single))
    assert dict(zip(found.ids.to_pylist(), found.values().tolist(), strict=True)) == shares
    if found.samples is not None:
        counts = {i: len(said) for i, (said, _) in enumerate(data)}
        assert dict(zip(found.ids.to_pylist(), found.samples.tolist(), strict=True)) == counts


@pytest.mark.parametrize("write", [WRITERS[0], WRITERS[2]])
def test_sampled_answers_are_compared_by_the_reliable_change_of_their_share(tmp_path: Path, write: Writer) -> None:
    old: Rows = [{"id": i, "prediction": ["A"] * 4, "reference": "A"} for i in range(8)]
    new: Rows = [row | {"prediction": ["A"] * 3 + ["B"] if row["id"] % 2 else ["B"] * 4} for row in old]
    part = compare_runs(write(tmp_path / "old", old), write(tmp_path / "new", new)).tasks[0]
    assert part.reliable_change is not None
    assert part.reliable_change.old_samples == part.reliable_change.new_samples == 4
    assert part.comparison.negative_flips.tolist() == [0, 2, 4, 6]


@pytest.mark.parametrize("scores", [[0.25, 0.75], [3, 4], [-1, 2]])
def test_the_rule_for_shares_is_not_applied_to_means_of_other_scores(tmp_path: Path, scores: list[float]) -> None:
    listed: Rows = [{"id": 1, "score": scores}]
    single: Rows = [{"id": 1, "score": score, "sample": number} for number, score in enumerate(scores)]
    for data in (listed, single):
        path = write_jsonl(tmp_path / "a", data)
        found = task(path)
        assert (found.values().tolist(), found.samples) == ([sum(scores) / 2], None)
        assert compare_runs(path, path).tasks[0].reliable_change is None


def test_scores_of_samples_that_are_no_numbers_are_named(tmp_path: Path) -> None:
    data: Rows = [{"id": "q0", "score": [0.5, None]}, {"id": "q1", "score": [1.0]}]
    with pytest.raises(InputError, match=r"1 of 2 scores \(score\) are not finite numbers, .* of id 'q0'"):
        task(write_jsonl(tmp_path / "a", data)).values()
    assert "is an empty list or null in row 1" in refused(write_jsonl(tmp_path / "b", [{"id": 1, "score": []}, {"id": 2, "score": [1]}]))  # fmt: skip # noqa: E501


@pytest.mark.parametrize("gold", ["7", 7])
def test_sampled_answers_of_another_type_than_the_right_one_are_refused(tmp_path: Path, gold: object) -> None:
    said = 7 if gold == "7" else "7"
    for prediction in ([said], said):
        for write in (write_jsonl, write_parquet):
            message = refused(write(tmp_path / "a", [{"id": 1, "prediction": prediction, "reference": gold}]))
            assert "1 and '1' are different answers" in message
    none: Rows = [{"id": 1, "prediction": [None, None], "reference": gold}]
    assert task(write_jsonl(tmp_path / "b", none)).values().tolist() == [0.0]


def test_sampled_answers_of_thirty_digits_are_compared_exactly(tmp_path: Path) -> None:
    data: Rows = [{"id": 1, "prediction": [10**30, 10**30 + 1, 7], "reference": 10**30}]
    assert task(write_jsonl(tmp_path / "a", data)).values() == pytest.approx([1 / 3])


@each_format
def test_the_same_sample_of_an_id_twice_is_refused(tmp_path: Path, write: Writer) -> None:
    data = [row | {"id": "1", "sample": 0} for row in rows("A", "B")]
    assert "id '1' stands twice with the same sample, again in row 2" in refused(write(tmp_path / "a", data))


def test_samples_of_one_id_with_other_right_answers_are_refused(tmp_path: Path) -> None:
    data = [{"id": 1, "sample": i, "prediction": "A", "reference": gold} for i, gold in enumerate("AB")]
    assert "different right answers, for instance 1" in refused(write_jsonl(tmp_path / "a", data))


def test_an_empty_list_of_samples_is_refused(tmp_path: Path) -> None:
    data = [{"id": 1, "prediction": ["A"], "reference": "A"}, {"id": 2, "prediction": [], "reference": "A"}]
    assert "is an empty list or null in row 2" in refused(write_jsonl(tmp_path / "a", data))


VALUES = st.one_of(
    st.sampled_from([None, "A", "B", "1", 1, 0, 1.5, math.nan, math.inf, True, [], [None], ["A"], [1, 2], {"a": 1}]),
    st.sampled_from([10**30, 10**80, "\ud800", "x" * 300, ["\ud800", "A"], [10**30], [["A"]], "[1]", "NA"]),
)
ROW = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(("id", "prediction", "reference", "score", "choices", "question", "sample", "x"), VALUES),
)


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(first=ROW, data=st.data(), size=st.integers(1, 5), cut=st.none() | st.integers(1, 60))
@each_format
def test_no_table_whatever_ends_in_a_traceback(
    tmp_path: Path, write: Writer, first: dict[str, Any], data: st.DataObject, size: int, cut: int | None
) -> None:
    # Rows like the first one, but for a few values: most faults stand in files that are right otherwise.
    base = {"prediction": "A", "reference": "A"} | first
    table: Rows = [base | {"id": i} | data.draw(ROW if data.draw(st.booleans()) else st.just({})) for i in range(size)]
    path = tmp_path / f"any.{write.__name__.removeprefix('write_')}"
    try:
        write(path, table)
    except (pa.ArrowException, UnicodeEncodeError, OverflowError):
        return  # no such file can be
    if cut:
        path.write_bytes(path.read_bytes()[:-cut])
    for columns in (None, {"reference": "x"}, {"prediction": "choices"}):
        try:
            found = task(path, columns=columns, slices=["x"] if "x" in base else [])
            found.values()
            assert len(found.read_texts(np.arange(len(found))[::-1])) == len(found)
            compare_runs(path, path, columns=columns)
        except InputError as error:
            assert len(str(error).splitlines()) == 1
            assert len(str(error)) < 1000


# Shown again ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(data=st.data(), surrogate=st.booleans(), size=st.integers(1, 40))
@each_format
def test_texts_are_whole_wherever_a_row_went(
    tmp_path: Path, write: Writer, data: st.DataObject, surrogate: bool, size: int
) -> None:
    texts = data.draw(st.lists(st.sampled_from(["", "a\nb", "<b>x</b>", "שלום", "x\u2028y", "word " * 200 + "end"]), min_size=size, max_size=size))  # fmt: skip # noqa: E501
    table: Rows = [
        {"id": f"q{i}", "prediction": f"{i}:{text}", "reference": f"gold {i}", "question": f"{text}? {i}"}
        for i, text in enumerate(texts)
    ]
    path = write(tmp_path / "a", table)
    if surrogate and write is write_jsonl:
        # Arrow does not read this, so that the file is read line by line.
        more = json.dumps({"id": "\ud800", "prediction": "\ud800", "reference": "x", "question": None})
        path.write_text(path.read_text(encoding="utf-8") + more, encoding="utf-8")
    found, places = task(path), list(range(len(table)))
    for _ in range(2):
        chosen = data.draw(st.lists(st.sampled_from(range(len(places))), max_size=10))
        if chosen:
            found, places = found.take(np.array(chosen)), [places[i] for i in chosen]
    shown = found.read_texts(np.arange(len(places))[::-1])
    assert [tuple(text) for text in shown] == [
        (table[i]["question"], table[i]["reference"], table[i]["prediction"], None) for i in places[::-1]
    ]


@pytest.mark.parametrize("write", [WRITERS[0], WRITERS[2]])
def test_every_sampled_answer_is_shown_with_what_it_stands_for(tmp_path: Path, write: Writer) -> None:
    data: Rows = [{"id": 1, "prediction": [1, None, 9], "reference": 0, "choices": ["cat", "dog"]}]
    assert task(write(tmp_path / "a", data)).read_texts(np.array([0])) == [(None, "0: cat", "1: dog\n(none)\n9", None)]


def test_choices_in_a_csv_are_json(tmp_path: Path) -> None:
    data: Rows = [{"id": 1, "prediction": 1, "reference": 0, "choices": json.dumps(["cat", "dög"])}]
    assert task(write_csv(tmp_path / "a", data)).read_texts(np.array([0])) == [(None, "0: cat", "1: dög", None)]
    data[0]["choices"] = "[not json"
    assert task(write_csv(tmp_path / "b", data)).read_texts(np.array([0])) == [(None, "0", "1", None)]


def test_an_answer_of_thousands_of_digits_is_no_number_of_a_choice(tmp_path: Path) -> None:
    long = "9" * 5000
    data: Rows = [{"id": 1, "prediction": long, "reference": "٣", "choices": ["cat", "dog"]}]
    assert task(write_jsonl(tmp_path / "a", data)).read_texts(np.array([0])) == [(None, "٣", long, None)]


def test_a_file_that_shrank_in_between_is_not_shown_as_if_it_had_not(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a", rows("A", "B"))
    found = task(path)
    write_csv(tmp_path / "a", rows("A"))
    with pytest.raises(InputError, match=r"a\.csv has changed since it was read: compare again"):
        found.read_texts(np.array([1]))


@each_format
def test_texts_are_scored_whole_by_a_scorer_that_is_named_as_metric(tmp_path: Path, write: Writer) -> None:
    long = "word " * 200
    data = rows(long + "one two", "three", None, gold=long + "one two")
    found = task(write(tmp_path / "a", data), metric="rouge1")
    assert found.metric == "rouge1"
    assert found.values()[0] == 1.0, "scored before it was shortened"
    assert found.values()[1:].tolist() == [0.0, 0.0]


@pytest.mark.slow
def test_texts_are_scored_once_where_a_reader_starts_over(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a", rows(*["A"] * 8_000))
    # Arrow does not read this line, so that the file is read again line by line.
    more = json.dumps({"id": "\ud800", "prediction": "\ud800", "reference": "A"})
    path.write_text(path.read_text(encoding="utf-8") + more, encoding="utf-8")
    assert len(task(path, metric="rouge1").values()) == 8_001


def test_a_column_of_that_name_goes_before_a_scorer(tmp_path: Path) -> None:
    found = task(write_csv(tmp_path / "a", rows("A", rouge1=0.25)), metric="rouge1")
    assert found.values().tolist() == [0.25]


def test_numbers_are_not_scored_as_texts(tmp_path: Path) -> None:
    data: Rows = [{"id": 1, "prediction": 1, "reference": 1}]
    assert "scores texts, but the prediction holds values of type int64" in refused(
        write_jsonl(tmp_path / "a", data), metric="chrf"
    )


# What is refused -----------------------------------------------------------------------------------------------------


def test_a_table_of_a_thousand_columns_with_long_names_makes_a_short_message(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a", [{f"{'x' * 1000} {i}": "A" for i in range(1000)}])
    with pytest.raises(InputError) as caught:
        read(path, columns={"id": "y" * 100_000})
    assert len(str(caught.value)) < 2500
    assert "(1000 in all)" in str(caught.value)


def test_a_thing_that_a_column_cannot_be_names_those_it_can(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a", rows("A"))
    assert "'answer' is nothing that a column can be; choose from id, prediction," in refused(path, columns={"answer": "id"})  # fmt: skip # noqa: E501


@each_format
def test_a_truncated_file_is_not_read_as_if_it_were_whole(tmp_path: Path, write: Writer) -> None:
    path = write(tmp_path / "a", rows(*"ABCDE"))
    path.write_bytes(path.read_bytes()[:-7])
    assert "cut off" in refused(path)


def test_a_csv_that_ends_inside_quotes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('id,prediction,reference\n1,A,A\n2,"A,A\n', encoding="utf-8")
    assert "row 3" in refused(path)


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
@pytest.mark.parametrize("write", WRITERS[:2])
def test_another_encoding_is_named_and_not_guessed(tmp_path: Path, write: Writer, encoding: str) -> None:
    path = write(tmp_path / "a", rows("é", "A"))
    path.write_bytes(path.read_text(encoding="utf-8").encode(encoding))
    assert "not UTF-8" in refused(path)


@pytest.mark.parametrize("write", WRITERS[:2])
def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path, write: Writer) -> None:
    path = write(tmp_path / "a", rows("A", None))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert task(path).ids.to_pylist() == ["q0", "q1"]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".tsv", ".parquet", ""])
def test_an_empty_file_says_that_it_is_empty(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.touch()
    assert "empty" in refused(path) or "0 bytes" in refused(path)


def test_a_file_with_a_header_alone_has_no_answers(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,prediction,reference\n", encoding="utf-8")
    assert "holds no answers" in refused(path)


@each_format
def test_a_missing_column_names_those_that_there_are(tmp_path: Path, write: Writer) -> None:
    path = write(tmp_path / "a", [{"id": "1", "answer": "A", "gold": "A"}])
    assert "has no column 'prediction' and no 'score'; it has 'id', 'answer', 'gold'" in refused(path)
    assert "has no column 'reference'" in refused(path, columns={"prediction": "answer"})
    assert "has no column 'said' (prediction)" in refused(path, columns={"prediction": "said"})
    assert "has no column 'topic' to slice or cluster by, or to read scores or features from; it has" in refused(
        path, columns={"prediction": "answer", "reference": "gold"}, slices=["topic"]
    )


@each_format
def test_a_null_reference_or_id_is_refused_with_its_row(tmp_path: Path, write: Writer) -> None:
    for name in ("reference", "id"):
        data = rows("A", "A")
        data[1][name] = None
        assert f"{name} is empty (null) in 1 of 2 rows, first in row 2" in refused(write(tmp_path / name, data))


@pytest.mark.parametrize("value", [1.5, True, {"a": 1}, [["A"]]])
def test_an_answer_of_another_kind_is_refused(tmp_path: Path, value: object) -> None:
    data: Rows = [{"id": 1, "prediction": value, "reference": "A"}]
    assert "string" in refused(write_jsonl(tmp_path / "a", data))


def test_a_field_that_is_missing_far_down_is_not_taken_for_null(tmp_path: Path) -> None:
    data = rows(*["A"] * 300)
    del data[250]["prediction"]
    data[10]["prediction"] = None
    assert "line 251 has no field 'prediction'" in refused(write_jsonl(tmp_path / "a", data))


@pytest.mark.slow
def test_a_type_that_changes_far_down_is_named_with_its_line(tmp_path: Path) -> None:
    data = rows(*["A"] * 20_001)
    data[20_000]["prediction"] = 7
    assert "line 20001: 'prediction' is 7, but the file starts with a string" in refused(write_jsonl(tmp_path / "a", data))  # fmt: skip # noqa: E501


def test_an_integer_too_long_to_hold_is_refused_and_does_not_crash(tmp_path: Path) -> None:
    data: Rows = [{"id": 1, "prediction": 10**80, "reference": 1}]
    assert "76 digits" in refused(write_jsonl(tmp_path / "a", data))


def test_a_field_that_stands_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": 1, "prediction": "A", "prediction": "B", "reference": "A"}\n', encoding="utf-8")
    assert "stands twice" in refused(path)
    table = tmp_path / "a.csv"
    table.write_text("id,id,prediction,reference\n1,1,A,A\n", encoding="utf-8")
    assert "the header names 'id' more than once" in refused(table)


def test_lone_surrogates_are_told_apart_and_do_not_crash(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    lines = [json.dumps({"id": i, "prediction": text, "reference": "\ud800"}) for i, text in enumerate(("\ud800", "\ud801"))]  # fmt: skip # noqa: E501
    path.write_text("\n".join(lines), encoding="utf-8")
    assert task(path).values().tolist() == [1.0, 0.0]


def test_an_option_of_the_harness_is_not_ignored_for_a_table(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a", rows("A"))
    assert "has no filter 'strict'" in refused(path, filter="strict")
    assert "would choose nothing" in refused(path, run="2026")
    assert "would choose nothing" in refused(path, split="test")


@pytest.mark.parametrize(
    ("written", "scores"),
    [
        (["0,5", "1", "1,25"], [0.5, 1, 1.25]),
        (["-0,500", "10"], [-0.5, 10]),
        (["1,000", "2,5"], [1, 2.5]),
        (["0,5", "0.5"], None),
        (["1,000", "2,500"], None),  # or thousands
        (["0,5,1", "1"], None),
    ],
)
@pytest.mark.parametrize("sign", [";", ","])
def test_scores_with_decimal_commas_are_read_where_nothing_else_can_be_meant(
    tmp_path: Path, written: list[str], scores: list[float] | None, sign: str
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"id{sign}score\n" + "".join(f'{i}{sign}"{text}"\n' for i, text in enumerate(written)))
    if scores is None:
        assert "a number is needed as a score" in refused(path)
        return
    found = task(path)
    assert found.values().tolist() == scores
    assert found.notes == (f"{path}: 'score' is read with decimal commas: 0,5 as 0.5",)


def test_the_csv_of_this_test_is_what_pythons_own_writer_reads(tmp_path: Path) -> None:
    """A check of the test's writer: other programs read its files the same."""
    text = write_csv(tmp_path / "a", rows('say "A", or\nB')).read_text(encoding="utf-8")
    assert next(iter(csv.DictReader(io.StringIO(text, newline=""))))["prediction"] == 'say "A", or\nB'


@each_format
def test_a_whole_text_beside_the_answer_is_shown_as_it_was_written(tmp_path: Path, write: Writer) -> None:
    data: Rows = [{"id": 1, "prediction": "A", "reference": "A", "said": "```\n The answer is A. \n```"}]
    found = task(write(tmp_path / "a", data), columns={"response": "said"}, normalize="case")
    said = "```\n The answer is A. \n```"
    assert found.read_texts(np.array([0])) == [(None, "a", f"a\n\n{said}", said)]
