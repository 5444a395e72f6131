"""Negative flips that the grader made: ranked, drawn for a person, and the rate corrected."""

import csv
import json
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from compared_rows import compared

import muscle_hf
from muscle_hf.errors import InputError
from muscle_hf.readers.answers import Run, TaskAnswers
from muscle_hf.runs.run_comparison import RunComparison
from muscle_hf.runs.suspects.answer_features import FORMS, RIGHTNESS, Answered
from muscle_hf.runs.suspects.verdict_table import drawn_as, read_verdicts, write_verdicts

LEETCODE = Path(__file__).parents[3] / "examples" / "data" / "llmdrift_leetcode" / "verdicts.csv"
GPT_4 = ("gpt-4-0314", "gpt-4-0613")
GPT_35 = ("gpt-3.5-turbo-0301", "gpt-3.5-turbo-0613")


def leetcode(models: tuple[str, str]) -> RunComparison:
    return muscle_hf.compare_runs(
        *(f"{LEETCODE}@model={model}" for model in models),
        metric="accepted_as_written",
        features=["has_code_fence", "characters", "accepted_without_fence"],
    )


def truth(model: str) -> dict[str, bool]:
    """Tell which new answers are right without their fence."""
    with LEETCODE.open() as file:
        return {
            row["id"]: row["accepted_without_fence"] == "1" for row in csv.DictReader(file) if row["model"] == model
        }


@pytest.fixture(scope="module")
def gpt_4() -> RunComparison:
    return leetcode(GPT_4)


def test_of_leetcodes_flips_the_graders_come_first_where_a_laxer_grader_speaks_for_them(gpt_4: RunComparison) -> None:
    suspects = muscle_hf.suspect_flips(gpt_4, ["has_code_fence"], right_by="accepted_without_fence")
    right = truth(GPT_4[1])
    assert [right[str(flip.id)] for flip in suspects] == [True] * 21 + [False] * 2
    assert all(flip.chance > 0.8 for flip in suspects[:21]) and all(flip.chance < 0.1 for flip in suspects[21:])
    assert suspects[0].reasons == ("has_code_fence",)
    others = muscle_hf.suspect_flips(leetcode(GPT_35), ["has_code_fence"], right_by="accepted_without_fence")
    assert [truth(GPT_35[1])[str(flip.id)] for flip in others] == [True] * 9 + [False]


def test_a_fence_that_is_never_recognised_ranks_no_fenced_answer_above_another(gpt_4: RunComparison) -> None:
    suspects = muscle_hf.suspect_flips(gpt_4, "has_code_fence")
    assert len({round(flip.chance, 9) for flip in suspects}) == 1
    # 3 of 3 new answers without a fence are still marked right: about 3.5 / 4, and 21 of 23 is the truth.
    assert suspects.explained == pytest.approx(23 * 0.87, abs=0.2)
    said = str(suspects)
    assert "44 of 50 new answers, none of the old ones; new in 23 of 23 broken answers" in said
    assert "Marked right: 0 of 44 with it, 5 of 6 without" in said
    assert "never recognised, so the marks do not tell which of these answers are right; only a person can" in said
    assert "all 23 are equally suspect" in said


def test_ten_verdicts_take_leetcode_from_46_to_4_per_cent(gpt_4: RunComparison) -> None:
    suspects = muscle_hf.suspect_flips(gpt_4, ["has_code_fence"], right_by="accepted_without_fence")
    draw = suspects.draw(10)
    assert (draw.sizes, draw.drawn) == ((21, 2), (8, 2))
    assert Counter(draw.probabilities) == {8 / 21: 8, 1.0: 2}
    right = truth(GPT_4[1])
    audit = muscle_hf.audited_rate(gpt_4, {flip.id: right[str(flip.id)] for flip in draw}, draw=draw)
    assert audit.marked_rate == 0.46
    assert audit.negative_flip_rate == (0.04, 0.04, 0.16)
    assert "audited NFR: 4.0 % of these answers [4.0, 16.0], marked 46.0 %" in str(audit)
    assert audit.to_dict()["graders_share"]["estimate"] == pytest.approx(21 / 23)


def test_all_checked_needs_no_draw_and_leaves_nothing_open(gpt_4: RunComparison) -> None:
    right = truth(GPT_4[1])
    suspects = muscle_hf.suspect_flips(gpt_4, "has_code_fence")
    audit = muscle_hf.audited_rate(gpt_4, {flip.id: right[str(flip.id)] for flip in suspects})
    assert audit.negative_flip_rate == (0.04, 0.04, 0.04)


def test_a_hostile_ranking_changes_who_is_drawn_and_not_what_the_rate_is_on_average(gpt_4: RunComparison) -> None:
    right = truth(GPT_4[1])
    n, keys = len(gpt_4.pairs["verdicts"].old), gpt_4.pairs["verdicts"].old.ids.to_pylist()
    # Says of the two real ones alone that they are right.
    lies = np.array([not right[key] for key in keys], float)
    hostile = muscle_hf.suspect_flips(gpt_4, ["has_code_fence"], right_by={"lies": (np.zeros(n), lies)})
    rates = []
    for seed in range(80):
        draw = hostile.draw(8, seed=seed)
        audit = muscle_hf.audited_rate(gpt_4, {flip.id: right[str(flip.id)] for flip in draw}, draw=draw)
        value, low, high = audit.negative_flip_rate
        assert low <= 0.04 <= high or seed
        rates.append(value)
    assert np.mean(rates) == pytest.approx(0.04, abs=3 * np.std(rates) / 80**0.5 + 1e-9)


def test_a_form_that_was_recognised_once_is_not_said_to_be_never() -> None:
    c = muscle_hf.compare_correct(old=[1] * 8, new=[0, 0, 0, 1, 1, 1, 1, 0])
    for old, said in (([0] * 8, True), ([0] * 7 + [1], False)):
        suspects = muscle_hf.suspect_flips(c, {"fence": (old, [1, 1, 1, 0, 0, 0, 0, 1])})
        assert suspects.forms[0].never_recognised is said and ("never recognised" in str(suspects)) is said


def test_a_form_that_the_grader_misses_is_told_as_gone() -> None:
    c = muscle_hf.compare_correct(old=[1] * 8, new=[0, 0, 0, 1, 1, 1, 1, 0])
    suspects = muscle_hf.suspect_flips(c, {"hashes": ([1] * 8, [0, 0, 0, 1, 1, 1, 1, 1])})
    assert [flip.reasons for flip in suspects] == [("no hashes",)] * 3 + [()]
    said = str(suspects)
    assert "hashes: 5 of 8 new answers, 8 of the old ones; gone from 3 of 4 broken answers" in said
    assert "without hashes: never recognised" in said


# From texts ----------------------------------------------------------------------------------------------------------


def texts(tmp_path: Path, old: list[str], new: list[str], marks: list[tuple[int, int]], **more: Any) -> RunComparison:
    for side, said in enumerate((old, new)):
        rows = [
            {"id": f"q{place}", "prediction": "x" if mark[side] else None, "reference": "x", "response": text}
            | {name: values[place] for name, values in more.items()}
            for place, (text, mark) in enumerate(zip(said, marks, strict=True))
        ]
        (tmp_path / f"{side}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return muscle_hf.compare_runs(tmp_path / "0.jsonl", tmp_path / "1.jsonl", features=list(more))


MARKS = [(1, 1)] * 10 + [(1, 0)] * 8 + [(0, 0)] * 6
OLD = ["It is x."] * 24
NEW = ["It is x."] * 10 + ["```\nx\n```"] * 7 + ["No."] + ["```\ny\n```"] * 4 + ["It is x."] * 2


def test_forms_are_found_in_texts_and_those_that_do_not_change_left_out(tmp_path: Path) -> None:
    suspects = muscle_hf.suspect_flips(texts(tmp_path, OLD, NEW, MARKS))
    assert [form.name for form in suspects.forms] == ["fence"]
    assert "box" in suspects.unchanged and "nothing_extracted" in suspects.unchanged
    assert [flip.id for flip in suspects][-1] == "q17" and suspects[-1].chance == 0
    assert suspects[0].reasons == ("a code fence (```)",)
    assert [instance.new_response for instance in suspects.instances([0, 7])] == ["```\nx\n```", "No."]


def test_the_right_answer_in_the_text_speaks_for_it(tmp_path: Path) -> None:
    new = [*NEW[:10], "```\ny\n```", *NEW[11:]]
    suspects = muscle_hf.suspect_flips(texts(tmp_path, OLD, new, MARKS), ["fence"], right_by=["gold_in_text"])
    chances = {flip.id: flip.chance for flip in suspects}
    assert chances["q10"] < chances["q11"] and suspects.speak_for_right == ("gold_in_text",)


def test_each_form_is_told_by_what_it_is(tmp_path: Path) -> None:
    shown = ["```x```", r"\boxed{x}", "#### x", "**x**", "hm</think>x", "это икс", "x" * 400, "x"]
    forms = ["fence", "box", "hashes", "bold", "thinking", "other_alphabet", "length"]
    told = [[float(FORMS[name].of(Answered(text, "x", "x"))) for name in forms] for text in shown]
    assert np.array_equal(np.array(told)[:6, :6], np.eye(6))
    assert not any(told[7][:6]) and told[6][6] == pytest.approx(np.log1p(400))
    lost = FORMS["nothing_extracted"].of
    assert [bool(lost(Answered("t", extracted, None))) for extracted in (None, " ", "[invalid]", "x")] == [1, 1, 1, 0]


def test_the_right_answer_is_none_inside_another_word() -> None:
    gold = RIGHTNESS["gold_in_text"].of
    told = [gold(Answered(text, None, "7")) for text in ("It is 7.", "It is 17.", "")]
    assert list(map(bool, told)) == [True, False, False]
    assert not gold(Answered("anything", None, None))


def test_columns_of_both_sides_are_features_and_slice_nothing(tmp_path: Path) -> None:
    other = [True] * 12 + [False] * 12
    result = texts(tmp_path, OLD, NEW, MARKS, other_right=other)
    assert not result.slices and not next(result.flips()).slices
    suspects = muscle_hf.suspect_flips(result, "fence", right_by="other_right")
    assert {flip.id for flip in suspects[:2]} == {"q10", "q11"}


def test_several_tasks_are_ranked_together_and_verdicts_name_the_task() -> None:
    def run(name: str, right: str) -> Run:
        said = pa.array(["x" if mark == "1" else name for mark in right])
        made = TaskAnswers(
            "", name, pa.array(range(len(right))), answers=said, references=pa.array(["x"] * len(right))
        )
        return Run(name, name, {task: replace(made, task=task) for task in "ab"})

    result = muscle_hf.compare_runs(run("v1", "1" * 11), run("v2", "11111100011"))
    fence = np.zeros(22), np.array([0] * 6 + [1] * 3 + [0] * 13, float)
    suspects = muscle_hf.suspect_flips(result, {"fence": fence})
    assert [(flip.task, flip.id) for flip in suspects] == [(task, row) for task in "ab" for row in (6, 7, 8)]
    verdicts = {(flip.task, flip.id): flip.task == "a" for flip in suspects}
    assert muscle_hf.audited_rate(result, verdicts).negative_flip_rate.value == 3 / 22
    with pytest.raises(InputError, match=r"several tasks; name it as \(task, id\)"):
        muscle_hf.audited_rate(result, {flip.id: True for flip in suspects})


# The table -----------------------------------------------------------------------------------------------------------


def fill(path: Path, verdict: Any) -> None:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(row | verdict(row) for row in rows)


def test_a_table_is_written_filled_in_and_read_again(tmp_path: Path) -> None:
    result = texts(tmp_path, OLD, NEW, MARKS)
    suspects = muscle_hf.suspect_flips(result)
    draw = suspects.draw(6)
    for name in ("check.csv", "check.jsonl"):
        path = tmp_path / name
        write_verdicts(path, suspects, draw)
        assert drawn_as(path) == (6, 0) and read_verdicts(path, suspects, draw) == {}
    path = tmp_path / "check.csv"
    header = path.read_text().splitlines()[0]
    assert header == "order,id,reference,old_answer,new_answer,new_answer_right,draw"
    fill(
        path,
        lambda row: {
            "new_answer_right": "" if row["order"] == "6" else "TRUE" if "```" in row["new_answer"] else "no"
        },
    )
    verdicts = read_verdicts(path, suspects, draw)
    assert len(verdicts) == 5 and all(value is (key[1] != "q17") for key, value in verdicts.items())
    audit = muscle_hf.audited_rate(result, verdicts, draw=draw)
    assert audit.checked == 5 and sum(stratum.skipped for stratum in audit.strata) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"new_answer_right": "perhaps"}, "is 'perhaps', but must be true"),
        ({"id": "q0"}, "'q0' was not drawn"),
        ({"id": "q10", "task": None}, "stands more than once"),
        ({"draw": "0:6:8:0123"}, "drawn from 8 negative flips, and there are as many now, but they are other ones"),
        ({"draw": "0:6:9:0123"}, "drawn from 9 negative flips, and now there are 8: the answers have changed"),
        ({"draw": ""}, "several draws, or of none"),
        ({"new_answer": "other"}, "restore the column"),
    ],
)
def test_a_table_that_was_spoiled_is_refused(tmp_path: Path, change: dict[str, str], said: str) -> None:
    suspects = muscle_hf.suspect_flips(texts(tmp_path, OLD, NEW, MARKS))
    draw = suspects.draw(8)
    path = tmp_path / "check.csv"
    write_verdicts(path, suspects, draw)
    fill(path, lambda row: {name: value for name, value in change.items() if value is not None})
    with pytest.raises(InputError, match=said):
        read_verdicts(path, suspects, draw)


# Refused -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verdicts", "said"),
    [
        ({}, "no verdicts"),
        ({0: 1}, "is 1, but must be True"),
        ({0: True, 5: True}, "5, which is no negative flip"),
        ({"0": True}, "'0', which is no negative flip; did you mean 0"),
        ({0: True}, "verdicts on 1 of 4 negative flips, and nothing says how these were chosen"),
    ],
)
def test_verdicts_that_say_nothing_are_refused(verdicts: dict[Any, Any], said: str) -> None:
    c = muscle_hf.compare_correct(old=[1] * 10, new=[0] * 4 + [1] * 6)
    with pytest.raises(InputError, match=said):
        muscle_hf.audited_rate(c, verdicts)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"verdicts": [True] * 6}, "verdicts is a list, but must be a mapping"),
        ({"verdicts": [(0, True), (1, False)]}, "verdicts is a list, but must be a mapping"),
        ({"verdicts": None}, "verdicts is None, but must be a mapping"),
        ({"draw": list}, "draw is a list, but must be the whole draw"),
        ({"draw": "x"}, "draw is 'x', but must be the whole draw"),
        ({"result": "x"}, "result is 'x', but must be what compare_runs gave, or a Comparison"),
        ({"result": {}}, "result is a dict, but must be"),
    ],
)
def test_arguments_of_another_kind_are_refused(change: dict[str, Any], said: str) -> None:
    c = muscle_hf.compare_correct(old=[1] * 12, new=[0] * 6 + [1] * 6)
    draw = muscle_hf.suspect_flips(c, {"fence": ([0] * 12, [1, 0] * 6)}).draw(6)
    if change.get("draw") is list:
        change = {"draw": list(draw)}
    given = {"result": c, "verdicts": dict.fromkeys(range(6), True), "draw": draw} | change
    with pytest.raises(InputError, match=said):
        muscle_hf.audited_rate(**given)


def test_verdicts_may_be_a_series() -> None:
    c = muscle_hf.compare_correct(old=[1] * 3, new=[0, 0, 1])
    verdicts: Any = pd.Series({0: True, 1: False})
    assert muscle_hf.audited_rate(c, verdicts).negative_flip_rate.value == pytest.approx(1 / 3)


def test_verdicts_on_many_flips_cost_no_look_at_all_flips_each() -> None:
    count = 10_000  # of which all pairs would take ten seconds
    c = muscle_hf.compare_correct(old=[1] * count, new=[0] * count)
    began = time.process_time()
    assert muscle_hf.audited_rate(c, dict.fromkeys(range(count), True)).negative_flip_rate == (0, 0, 0)
    assert time.process_time() - began < 2


def test_two_verdicts_on_one_flip_are_refused() -> None:
    c = muscle_hf.compare_correct(old=[1] * 3, new=[0, 1, 1])
    with pytest.raises(InputError, match="two verdicts are on one negative flip"):
        muscle_hf.audited_rate(c, {(None, 0): True, 0: False})


def test_verdicts_on_what_was_not_drawn_and_draws_of_other_files_are_refused() -> None:
    c = muscle_hf.compare_correct(old=[1] * 12, new=[0] * 6 + [1] * 6)
    fence = [0] * 12, [1, 1, 1, 0, 0, 0] * 2
    draw = muscle_hf.suspect_flips(c, {"fence": fence}).draw(3)
    (lacking, *_) = set(range(6)) - {flip.id for flip in draw}
    with pytest.raises(InputError, match="1 verdict is on flips that were not drawn"):
        muscle_hf.audited_rate(c, {lacking: True}, draw=draw)
    other = muscle_hf.compare_correct(old=[1] * 12, new=[1] * 6 + [0] * 6)
    with pytest.raises(InputError, match="another comparison"):
        muscle_hf.audited_rate(other, {6: True}, draw=draw)


@pytest.mark.parametrize(
    ("features", "said"),
    [
        ({"fence": [1] * 4}, "must be a pair"),
        ({"fence": ([1] * 4, [1] * 3)}, r"shape \(3,\), and there are 4"),
        ({"fence": ([1] * 4, [1, 2, 3, float("nan")])}, "nan in row 3"),
        ({"fence": (["a"] * 4, [1] * 4)}, "must hold numbers"),
        ("fence", "holds no texts and no columns"),
        (3, "recognised_by is 3, but must be a name, a list of names, or a mapping"),
        ([["fence"]], "recognised_by is .* but must be a name"),
        ({}, "names no feature"),
        (None, "no texts to read features from"),
    ],
)
def test_features_that_are_none_are_refused(features: Any, said: str) -> None:
    c = muscle_hf.compare_correct(old=[1, 1, 1, 0], new=[0, 1, 1, 1])
    with pytest.raises(InputError, match=said):
        muscle_hf.suspect_flips(c, features)


def test_suspects_of_no_comparison_are_refused() -> None:
    result: Any = "file.csv"
    with pytest.raises(InputError, match=r"result is 'file.csv', but must be what compare_runs gave, or a Comparison"):
        muscle_hf.suspect_flips(result, {"fence": ([0], [1])})


def test_names_that_nobody_read_are_refused_with_those_that_there_are(gpt_4: RunComparison) -> None:
    with pytest.raises(InputError, match=r"no column 'fenced' that was read.*built in are 'fence', 'box'"):
        muscle_hf.suspect_flips(gpt_4, ["fenced"])
    with pytest.raises(InputError, match="'fence' cannot be read from these files"):
        muscle_hf.suspect_flips(gpt_4, ["fence"])
    with pytest.raises(InputError, match="a feature is one of both"):
        muscle_hf.suspect_flips(gpt_4, "characters", right_by="characters")


def test_a_column_that_is_no_number_is_refused_by_the_id_and_not_by_a_row_of_the_join(tmp_path: Path) -> None:
    for side, fenced in (("old", ["true", "0", "1"]), ("new", ["0", "perhaps", "False"])):
        rows = [
            {"id": f"q{place}", "prediction": "b" if side == "new" else "a", "reference": "a", "fenced": value}
            for place, value in enumerate(fenced)
        ]
        order = rows if side == "old" else rows[::-1]
        (tmp_path / f"{side}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in order))
    result = muscle_hf.compare_runs(tmp_path / "old.jsonl", tmp_path / "new.jsonl", features="fenced")
    with pytest.raises(InputError, match="'fenced' holds 'perhaps' for id 'q1', but must hold a number, or true or"):
        muscle_hf.suspect_flips(result, "fenced")


def test_suspects_of_another_comparison_are_not_shown_as_those_of_this_one(gpt_4: RunComparison) -> None:
    others = muscle_hf.suspect_flips(leetcode(GPT_35), "has_code_fence")
    with pytest.raises(InputError, match="those of another comparison"):
        gpt_4.with_suspects(others)
    c = muscle_hf.compare_correct(old=[1, 1], new=[0, 1])
    with pytest.raises(InputError, match="those of another comparison"):
        gpt_4.with_suspects(muscle_hf.suspect_flips(c, {"fence": ([0, 0], [1, 0])}))


def test_scores_have_no_flips_that_a_grader_made() -> None:
    scores = {"old": [0.5, 0.25, 0.5, 0.5], "new": [0.25, 0.5, 0.5, 0.5]}
    with pytest.raises(InputError, match="scores alone"):
        muscle_hf.suspect_flips(compared({"summaries": scores}), {"fence": ([0] * 4, [1] * 4)})


def test_without_negative_flips_there_is_nothing_to_suspect_or_correct() -> None:
    c = muscle_hf.compare_correct(old=[1, 0, 0], new=[1, 1, 0])
    suspects = muscle_hf.suspect_flips(c, {"fence": ([0] * 3, [1] * 3)})
    assert len(suspects) == 0 and "no negative flips" in str(suspects) and len(suspects.draw(5)) == 0
    assert muscle_hf.audited_rate(c, {}).negative_flip_rate == (0, 0, 0)


def test_one_flip_is_too_few_to_draw() -> None:
    c = muscle_hf.compare_correct(old=[1] * 4, new=[0, 0, 1, 1])
    with pytest.raises(InputError, match="count from 2 up"):
        muscle_hf.suspect_flips(c, {"fence": ([0] * 4, [1, 0, 0, 1])}).draw(1)
