"""The pages of the metric Spaces: what a visitor gives is read, compared and shown, and nothing of it is obeyed."""

import json
import re
import tempfile
from html import unescape
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from muscle_hf.spaces.pages import (
    SCORES,
    Given,
    Options,
    View,
    consistency,
    negative_bias,
    negative_flips,
    smooth_compatibility,
)

OLD = "id,prediction,reference\n1,a,a\n2,b,b\n3,c,x\n4,d,d\n"
NEW = "id,prediction,reference\n4,d,d\n3,x,x\n1,a,a\n2,c,b\n"


def lines(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def words(view: View) -> str:
    """What the page says, without its tags and style."""
    return unescape(re.sub(r"<[^>]*>", " ", re.sub(r"<style>.*?</style>", "", view.html, flags=re.DOTALL)))


def test_what_flipped_is_counted_and_listed_with_both_answers() -> None:
    view = negative_flips(Given(OLD), Given(NEW))
    assert view.figures is not None
    assert (view.figures["negative_flips"], view.figures["positive_flips"], view.figures["accuracy"]) == (1, 1, 0.75)
    assert view.rows == {
        "headers": ["id", "change", "reference", "old", "new"],
        "data": [["2", "right → wrong", "b", "b", "c"], ["3", "wrong → right", "x", "c", "x"]],
    }
    assert "Of 4 answers the update breaks 1 that were right (25.0" in words(view).replace("\xa0", " ")
    assert "[4.6,\xa069.9]\xa0%" in words(view), "the interval of the rate"
    assert view.report is not None
    assert "Old model" in Path(view.report).read_text(encoding="utf-8")


def test_an_answer_that_is_missing_is_named_and_its_column_stays() -> None:
    old = lines({"id": 1, "prediction": 1, "reference": 1})
    new = lines({"id": 1, "prediction": None, "reference": 1})
    assert negative_flips(Given(old), Given(new)).rows["data"] == [["1", "right → wrong", "1", "1", "(no answer)"]]


@pytest.mark.parametrize("page", [negative_flips, consistency, negative_bias])
def test_a_note_on_a_file_names_its_place_on_the_server(page: Any) -> None:
    old, new = "id,prediction,reference\n1,yes,yes\n2,no,no\n", "id,prediction,reference\n1,yes,yes\n2,,no\n"
    view = page(Given(old), Given(new))
    assert "New model: 1 empty answer counts as wrong" in words(view)
    assert view.report is not None
    for shown in (words(view), Path(view.report).read_text(encoding="utf-8")):
        assert tempfile.gettempdir() not in shown


def test_answers_are_compared_although_there_are_scores() -> None:
    # `read` takes the scores, if it is not told; the metric compares answers.
    old, new = "id,prediction,reference,score\n1,a,a,0.3\n", "id,prediction,reference,score\n1,b,a,0.7\n"
    view = negative_flips(Given(old), Given(new))
    assert view.figures is not None
    assert view.figures["negative_flip_rate"] == 1
    smooth = smooth_compatibility(Given(old), Given(new), scorer=SCORES)
    assert smooth.figures is not None
    assert smooth.figures["mean_change"] == pytest.approx(0.4)


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_an_uploaded_file_counts_like_a_pasted_table(kind: str, tmp_path: Path) -> None:
    files = []
    for side, text in (("old", OLD), ("new", NEW)):
        header, *rows = [line.split(",") for line in text.splitlines()]
        path = tmp_path / side / f"predictions.{kind}"
        path.parent.mkdir()
        if kind == "parquet":
            pyarrow.parquet.write_table(pa.table(dict(zip(header, zip(*rows, strict=True), strict=True))), path)
        elif kind == "jsonl":
            path.write_text(lines(*(dict(zip(header, row, strict=True)) for row in rows)))
        else:
            path.write_text(text.replace(",", "\t" if kind == "tsv" else ","))
        files.append(Given(None, str(path)))
    pasted = negative_flips(Given(OLD), Given(NEW))
    uploaded = negative_flips(*files)
    assert (uploaded.rows, uploaded.figures) == (pasted.rows, pasted.figures)
    assert uploaded.report is not None
    report = Path(uploaded.report).read_text(encoding="utf-8")
    assert f"predictions.{kind} (old)" in report, "files with one name can be told apart"
    assert str(tmp_path) not in report, "the place on the server"


@pytest.mark.parametrize("before", ["\ufeff", "\n\n", "\r\n"])
@pytest.mark.parametrize("text", [OLD, OLD.replace(",", "\t"), OLD.replace("\n", "\r\n")])
def test_pasted_tables_are_told_apart_by_what_they_look_like(before: str, text: str) -> None:
    view = negative_flips(Given(before + text), Given(NEW))
    assert view.figures is not None, words(view)
    assert view.figures["negative_flips"] == 1


def test_options_reach_the_reader() -> None:
    renamed = OLD.replace("id,prediction,reference", "key,answer,gold")
    options = Options("id=key, prediction=answer, reference=gold")
    assert negative_flips(Given(renamed), Given(renamed.replace("2,b", "2,c")), options).rows["data"][0][0] == "2"
    fewer = "".join(NEW.splitlines(keepends=True)[:-1])
    view = negative_flips(Given(OLD), Given(fewer), Options(allow_missing=True))
    assert view.figures is not None
    assert view.figures["negative_flips"] == 0
    assert "3 common instances compared" in words(view)
    no_ids = "prediction,reference\na,a\nb,b\n", "prediction,reference\na,a\nc,b\n"
    view = negative_flips(*map(Given, no_ids), Options(by_position=True))
    assert view.figures is not None
    assert view.figures["negative_flips"] == 1


HEADER = "id,prediction,reference\n"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("", NEW, "Old model: paste a table or upload a file"),
        (OLD, " \n", "New model: paste a table or upload a file"),
        ("hello", NEW, "Old model has no column 'prediction'"),
        ("{broken", NEW, "Old model, line 1 is not JSON"),
        (HEADER, NEW, "Old model is empty"),
        (
            OLD,
            NEW + "9,a,a\n",
            "for instance '9'. Both models must have answered the same instances; \"Leave out rows",
        ),
        (OLD, NEW.replace("id,", "key,"), 'Name the column under "Column names", or join row by row with "Join row'),
        (OLD, NEW.replace("4,d,d", "4,d,e"), "the right answers of 1 of 4 ids differ"),
        (OLD, NEW + "4,d,d\n", "New model: 1 ids stand more than once"),
        (OLD, HEADER + "1,a\n", "New model, row 2"),
        (OLD, HEADER + '1,"a,a\n', "New model, row 2"),
        ("id,score\n1,0.5\n", "id,score\n1,0.7\n", "the files hold scores"),
        (HEADER + "1,\ud800,a\n", NEW, "Old model is not UTF-8"),
        (lines({"id": 1, "prediction": "1", "reference": 1}), NEW, "1 and '1' are different"),
    ],
)
def test_what_cannot_be_compared_is_a_sentence_in_the_words_of_the_page(old: str, new: str, told: str) -> None:
    view = negative_flips(Given(old), Given(new))
    assert told in words(view)
    assert "--" not in words(view), "an option of the command line"
    assert "/" not in words(view).replace("lm-evaluation-harness", ""), "a place on the server"
    assert (view.rows["data"], view.report, view.figures) == ([], None, None)


def test_a_table_and_a_file_for_one_model_are_refused_and_none_is_preferred(tmp_path: Path) -> None:
    file = tmp_path / "old.csv"
    file.write_text(OLD)
    assert "a pasted table and a file; clear one of them" in words(negative_flips(Given(OLD, str(file)), Given(NEW)))


def test_a_file_that_is_gone_is_a_sentence(tmp_path: Path) -> None:
    view = negative_flips(Given(None, str(tmp_path / "old.csv")), Given(NEW))
    assert "Not compared:  old.csv" in words(view)
    assert str(tmp_path) not in view.html


@pytest.mark.parametrize("columns", ["id", "id=", "=x", "id=a,id=b", "colour=red"])
def test_column_names_that_make_no_sense_are_refused(columns: str) -> None:
    assert "Not compared" in words(negative_flips(Given(OLD), Given(NEW), Options(columns)))


# Hostile content

TAGS = {
    *("style", "div", "p", "b", "dl", "dt", "dd", "figure", "figcaption", "svg", "g", "rect", "text", "span", "small"),
    *("table", "thead", "tbody", "tr", "th", "td", "wbr", "ul", "li"),
}
HOSTILE = [
    "<script>steal()</script>",
    '<img src=x onerror="steal()">',
    "</style></div><svg onload=steal()>",
    "[x](javascript:steal()) **b**",
    '=HYPERLINK("http://evil")',
    "${steal()} {{steal()}}",
    "\u202egnp.exe\x1b[31m\x00",
    "x" * 100_000,
    "two\nlines",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_files_hold_stays_text(text: str, tmp_path: Path) -> None:
    file = tmp_path / f"{re.sub('[^ -.0-~]', '', text[:100])}.jsonl"
    file.write_text(lines({"id": text, "question": text, "prediction": "a", "reference": "a"}))
    new = lines({"id": text, "prediction": text, "reference": "a"}, {"id": text + "!", "prediction": 1})
    refused = negative_flips(Given(None, str(file)), Given(new))
    fine = negative_flips(Given(None, str(file)), Given(lines(json.loads(new.splitlines()[0]))))
    assert fine.figures is not None, words(fine)
    for view in (fine, refused):
        tags = set(re.findall(r"<(\w+)", view.html))
        assert tags <= TAGS
        assert view.html.count("<style>") == view.html.count("</style>") == 1
        assert not re.search(r"<[^>]*\s(on\w+|href|src)\s*=", view.html)
        assert len(view.html) < 30_000
        json.dumps([view.html, view.rows]).encode("utf-8")
    (row,) = fine.rows["data"]
    assert all(len(cell) < 330 and cell.isprintable() for cell in row)
    if len(text) > 300:
        assert row[2].endswith("… (100,000 letters)")
        assert "texts are cut to 300 letters" in words(fine)


def test_half_a_letter_can_be_sent_to_a_browser() -> None:
    old = '{"id": "\\ud83d", "prediction": "a", "reference": "a", "\\ud83d": 1}\n'
    view = negative_flips(Given(old), Given(old.replace('"a",', '"\\ud83d",', 1)))
    for part in (view.html, json.dumps(view.rows, ensure_ascii=False)):
        part.encode()


def test_more_rows_than_a_table_can_show_are_left_out_with_a_word_and_are_in_the_report() -> None:
    rows = [{"id": n, "prediction": "a", "reference": "a"} for n in range(1_200)]
    view = negative_flips(Given(lines(*rows)), Given(lines(*(row | {"prediction": "b"} for row in rows))))
    assert len(view.rows["data"]) == 1_000
    assert "the table of rows holds the first 1,000 of 1,200; the report has them whole" in words(view)
    assert view.report is not None
    assert "1,200" in Path(view.report).read_text(encoding="utf-8")


@pytest.mark.slow
def test_reports_do_not_fill_the_disk() -> None:
    reports = [str(negative_flips(Given(OLD), Given(NEW)).report) for _ in range(23)]
    assert [Path(report).exists() for report in reports] == [False] * 3 + [True] * 20


# Consistency


def test_consistency_needs_no_right_answers_and_lists_where_both_part() -> None:
    old = lines(*({"id": n, "prediction": answer} for n, answer in enumerate(["a", "b", None, None])))
    new = lines(*({"id": n, "prediction": answer} for n, answer in enumerate(["a", "c", None, "d"])))
    view = consistency(Given(old), Given(new))
    assert view.figures is not None
    assert view.figures["agreement"] == 0.5, "two answers that are missing are the same"
    assert view.rows == {"headers": ["id", "old", "new"], "data": [["1", "b", "c"], ["3", "(no answer)", "d"]]}
    assert view.report is None
    assert "Both models give the same answer to 2 of 4 rows" in words(view)


def test_consistency_with_right_answers_lists_errors_that_changed_as_well() -> None:
    old = "id,prediction,reference\n1,a,a\n2,b,x\n3,c,c\n"
    new = "id,prediction,reference\n1,a,a\n2,d,x\n3,e,c\n"
    view = consistency(Given(old), Given(new))
    assert [row[:2] for row in view.rows["data"]] == [["2", "wrong → wrong, otherwise"], ["3", "right → wrong"]]
    assert view.figures is not None
    assert (view.figures["error_agreement"], view.figures["correct_agreement"]) == (0, 0.5)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("id,prediction\n1,a\n", "id,prediction,reference\n1,a,a\n", "New model has right answers and Old model has"),
        ("id,answer\n1,a\n", "id,prediction\n1,a\n", "Old model has no column 'prediction'; it has 'id', 'answer'"),
        ("id,prediction\n", "id,prediction\n1,a\n", "Old model is empty"),
        ("prediction\na\n", "prediction\nb\n", 'join row by row with "Join row by row"'),
        ("id,prediction\n1,a\n1,b\n", "id,prediction\n1,a\n", "Old model: 1 ids stand more than once"),
        ("id,prediction\n1,a\n", "id,prediction\n2,a\n", "They have no id in common"),
        (lines({"id": 1, "prediction": 1.5}), lines({"id": 1, "prediction": 1}), "'prediction' is 1.5 in row 1"),
        (lines({"id": 1, "prediction": True}), lines({"id": 1, "prediction": 1}), "'prediction' is true in row 1"),
        (lines({"id": 1, "prediction": [1]}), lines({"id": 1, "prediction": 1}), "'prediction' is an array in row 1"),
        (lines({"id": None, "prediction": 1}), lines({"id": 1, "prediction": 1}), "'id' is null in row 1"),
        (lines({"id": 1, "prediction": 1}), lines({"id": 1, "prediction": "1"}), "1 and '1' are different answers"),
        ("id,score,reference\n1,0.5,a\n", "id,score,reference\n1,0.5,a\n", "only answers can be the same"),
    ],
)
def test_answers_that_cannot_be_the_same_are_a_sentence(old: str, new: str, told: str) -> None:
    view = consistency(Given(old), Given(new))
    assert told in words(view)
    assert "--" not in words(view)


def test_a_file_without_rows_is_a_sentence(tmp_path: Path) -> None:
    empty = tmp_path / "old.parquet"
    pyarrow.parquet.write_table(
        pa.table({"id": pa.array([], pa.int64()), "prediction": pa.array([], pa.string())}), empty
    )
    view = consistency(Given(None, str(empty)), Given("id,prediction\n1,a\n"))
    assert "old.parquet holds no answers" in words(view)


def test_rows_without_ids_are_joined_only_when_asked() -> None:
    old, new = Given("prediction\na\nb\n"), Given("prediction\na\nc\n")
    view = consistency(old, new, Options(by_position=True))
    assert view.rows["data"] == [["1", "b", "c"]]


def test_a_csv_file_and_json_lines_are_compared_as_texts() -> None:
    view = consistency(Given("id,prediction\n1,7\n"), Given(lines({"id": 1, "prediction": 7})))
    assert view.figures is not None, words(view)
    assert view.figures["agreement"] == 1


# Negative bias


def test_a_turn_towards_no_is_said_first_with_both_biases_and_every_flip() -> None:
    right = ["yes", "yes", "yes", "no", "no"]
    old, new = (
        lines(*({"id": n, "prediction": said, "reference": gold} for n, (said, gold) in enumerate(rows)))
        for rows in (zip(right, right, strict=True), zip(["yes", "no", None, "no", "no"], right, strict=True))
    )
    view = negative_bias(Given(old), Given(new))
    assert view.figures is not None, words(view)
    assert (view.figures["shift"], view.figures["broken_to_negative"], view.figures["no_answers"]) == (1 / 3, 1, 1)
    assert view.rows["data"] == [["1", "right → wrong", "yes", "yes", "no"], ["2", *view.rows["data"][1][1:]]]
    shown = words(view).replace("\xa0", " ")
    assert "+0.000 → +0.333" in shown
    assert '2 right answers broke, 1 to "no", 1 to neither' in shown
    assert "the new model says neither yes nor no on 1 question: 1 missing" in shown
    assert view.report is not None


def test_labels_are_several_and_numbers_are_labels() -> None:
    old = lines({"id": 1, "prediction": 1, "reference": 1}, {"id": 2, "prediction": 0, "reference": 0})
    new = lines({"id": 1, "prediction": 2, "reference": 1}, {"id": 2, "prediction": 0, "reference": 0})
    view = negative_bias(Given(old), Given(new), positive="1", negative="0, 2")
    assert view.figures is not None, words(view)
    assert view.figures["shift"] == 1


def test_right_answers_of_one_kind_show_no_bias_and_say_why() -> None:
    old, new = "id,prediction,reference\n1,yes,yes\n", "id,prediction,reference\n1,no,yes\n"
    view = negative_bias(Given(old), Given(new))
    assert "the right answer of no instance is negative" in words(view)
    assert view.rows["data"] == [["1", "right → wrong", "yes", "yes", "no"]]


@pytest.mark.parametrize(
    ("table", "boxes", "told"),
    [
        (OLD, {}, "is 'a' (4 of 4 are neither)"),
        (OLD, {}, 'name all labels under "Yes is" and "No is"'),
        (OLD, {"positive": " , "}, '"Yes is" is empty'),
        (OLD, {"negative": None}, '"No is" is empty'),
        (OLD, {"positive": "a,b", "negative": "b,d,x"}, "'b' is a positive and a negative label"),
        ("id,score\n1,0.5\n", {}, "the files have scores"),
    ],
)
def test_what_is_no_yes_or_no_is_a_sentence_in_the_words_of_the_page(
    table: str, boxes: dict[str, Any], told: str
) -> None:
    view = negative_bias(Given(table), Given(table.replace("2,b", "2,c").replace("0.5", "0.7")), **boxes)
    assert told in words(view)
    assert view.figures is None


# Smooth compatibility


def test_rows_stand_with_the_greatest_loss_first() -> None:
    old = "id,score\na,0.5\nb,0.9\nc,0.1\nd,0.3\n"
    new = "id,score\na,0.4\nb,0.1\nc,0.6\nd,0.3\n"
    view = smooth_compatibility(Given(old), Given(new))
    assert view.rows == {
        "headers": ["id", "change"],
        "data": [["b", "0.9 → 0.1"], ["a", "0.5 → 0.4"], ["c", "0.1 → 0.6"]],
    }
    assert [row[0] for row in smooth_compatibility(Given(old), Given(new), tolerance=0.2).rows["data"]] == ["b", "c"]


def test_scores_of_0_and_1_are_scores_too() -> None:
    view = smooth_compatibility(Given(OLD), Given(NEW), scorer="exact_match")
    assert view.figures is not None
    assert (view.figures["mean_gain"], view.figures["mean_regression"], view.figures["mean_change"]) == (1, 1, 0)
    assert "exact_match falls on 1 of 4 instances" in words(view)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "the files have no column score"),
        ({"scorer": "rouge9"}, "there is no scorer 'rouge9'"),
        ({"scorer": "rouge1", "tolerance": -1.0}, "tolerance is -1"),
        ({"scorer": "rouge1", "tolerance": float("nan")}, "tolerance is nan"),
    ],
)
def test_what_cannot_be_scored_is_a_sentence(options: dict[str, Any], told: str) -> None:
    new = NEW.replace("2,c,b", "2,b c,b")  # a score between 0 and 1
    assert told in words(smooth_compatibility(Given(OLD), Given(new), **options))


def test_answers_that_differ_in_spelling_alone_are_told_in_the_words_of_the_page() -> None:
    old, new = Given(HEADER + "1,a,A\n2,B,B\n"), Given(HEADER + "1,A,A\n2,x,B\n")
    for page in (negative_flips, consistency):
        view = page(old, new)
        assert "2 with \"case\" under \"What need not count\", for instance 'a' for 'A'" in words(view)
        assert "--" not in words(view)
        assert view.figures is None
        assert page(old, new, Options(normalize="case")).figures is not None
    assert negative_flips(old, new, Options(normalize="case")).rows["data"] == [["2", "right → wrong", "b", "b", "x"]]


def test_answers_alone_are_compared_as_numbers_where_all_are_and_others_are_noted() -> None:
    view = consistency(Given("id,prediction\n1,1\n2,0\n"), Given("id,prediction\n1,1.0\n2,\n"))
    assert view.rows["data"] == [["2", "0", "(no answer)"]]
    view = consistency(Given("id,prediction\n1.0,a\n2.0,b\n"), Given("id,prediction\n1,A\n2, b\n"))
    assert view.rows["data"] == [["1", "a", "A"]]
    assert '1 of 2 answers of both would be the same with "case" under "What need not count"' in words(view)
    assert "--" not in words(view)


def test_one_run_under_two_names_is_said_first() -> None:
    essays = [f"{i} " + " ".join(f"word{i * j}" for j in range(30)) for i in range(12)]
    table = lines(*({"id": i, "prediction": essay, "reference": "x"} for i, essay in enumerate(essays)))
    shown = words(negative_flips(Given(table, None), Given(table, None), Options()))
    assert "OLD AND NEW ARE ONE RUN" in shown
    assert "--allow-identical" not in shown
    assert shown.index("ONE RUN") < shown.index("the update breaks")
