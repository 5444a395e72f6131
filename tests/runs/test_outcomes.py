"""Everything of a comparison together: tasks, pool, slices, flipped instances, and what JSON says of them."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from comparisons import GROUPS, answers, run, sample, scored

from muscle_hf import InputError, compare_runs
from muscle_hf.flips.coin import coin_flips, grouped_coin_flips
from muscle_hf.runs.measure import holm


def test_the_pool_is_the_sum_of_its_tasks_and_speaks_for_the_whole() -> None:
    result = sample(tasks=("quiz", "trivia"))
    assert result.pooled is result.overall
    assert result.pooled is not None
    assert result.pooled.n == sum(part.n for part in result.tasks)
    for sign in ("negative", "positive"):
        assert getattr(result.pooled.coin, sign) == sum(getattr(part.coin, sign) for part in result.tasks)


def test_a_single_task_is_not_shown_twice() -> None:
    result = sample()
    assert result.pooled is None
    assert result.overall is result.tasks[0]
    assert [name for name, _ in result.parts] == ["all", "quiz"]


def test_tasks_with_scores_are_never_pooled_because_their_units_differ() -> None:
    result = sample(tasks=("rouge", "bleu"), scores=True)
    assert result.pooled is None
    assert result.overall is None


def test_right_and_wrong_answers_are_pooled_without_the_scores_beside_them() -> None:
    old, new = (
        run(name, answers(said, "aa"), answers(said, "aa", task="trivia"), scored([0.5, 0.7]))
        for name, said in (("v1", "aa"), ("v2", "ab"))
    )
    result = compare_runs(old, new)
    assert result.pooled is not None
    assert result.pooled.n == 4


def test_slices_add_up_to_the_whole_and_the_worst_comes_first() -> None:
    result = sample(120, tasks=("quiz", "trivia"), by=True)
    parts = result.slices["category"]
    assert {part.name for part in parts} == {"physics", "law", "(none)", "history"}
    assert result.pooled is not None
    assert sum(part.n for part in parts) == result.pooled.n
    assert sum(part.coin.negative for part in parts) == result.pooled.coin.negative
    rates = [part.comparison.negative_flip_rate for part in parts]
    assert rates == sorted(rates, reverse=True)


def test_a_slice_holds_exactly_its_own_instances() -> None:
    result = sample(80, by=True)
    flipped = Counter(flip.slices["category"] or "(none)" for flip in result.flips() if flip.kind == "negative_flip")
    assert {part.name: part.coin.negative for part in result.slices["category"]} == {
        name or "(none)": flipped[name or "(none)"] for name in GROUPS
    }


def test_scores_are_sliced_task_by_task_and_apart_from_answers() -> None:
    groups = {"category": ["x", "y"]}

    def version(name: str, said: str, values: list[float]) -> object:
        task = scored(values)
        labels = answers(said, "aa", slices=groups).slices
        return run(name, answers(said, "aa", slices=groups), task.__class__(**(vars(task) | {"slices": labels})))

    result = compare_runs(version("v1", "aa", [0.5, 0.6]), version("v2", "ab", [0.4, 0.7]), by="category")  # type: ignore[arg-type]
    assert {(part.name, part.has_scores) for part in result.slices["category"]} == {
        ("x", False),
        ("y", False),
        ("summaries: x", True),
        ("summaries: y", True),
    }


def test_instances_that_no_slice_holds_are_counted_in_a_note() -> None:
    old, new = (
        run(name, answers(said, "aa", slices={"c": ["x", "y"]}), answers(said, "aa", task="trivia"))
        for name, said in (("v1", "aa"), ("v2", "ab"))
    )
    assert (
        "trivia: has no column 'c', so its 2 instances are in none of its slices"
        in compare_runs(old, new, by="c").notes
    )


def test_files_that_disagree_about_a_group_are_noted_and_the_old_one_counts() -> None:
    old, new = (
        run(name, answers("aa", "aa", slices={"c": groups}))
        for name, groups in (("v1", ["x", None]), ("v2", ["x", "y"]))
    )
    result = compare_runs(old, new, by="c")
    assert [part.name for part in result.slices["c"]] == ["(none)", "x"]
    assert "quiz: 'c' differs between both files on 1 instance; the old one counts" in result.notes


def test_an_unknown_slice_column_names_those_that_there_are() -> None:
    task = answers("ab", "ab", slices={"category": ["x", "y"]})
    with pytest.raises(InputError, match="no task has a column 'subject' to slice by; there are: category"):
        compare_runs(run("v1", task), run("v2", task), by="subject")


def test_p_values_are_adjusted_within_their_own_table() -> None:
    result = sample(200, tasks=("a", "b", "c"), by=True)
    for parts in (result.tasks, result.slices["category"]):
        assert [part.adjusted_p_value for part in parts] == holm([part.comparison.p_value for part in parts])


@pytest.mark.parametrize(
    ("test", "words", "legend"),
    [
        ("two-sided", "p = 0.12.", "p: exact paired test on the flips, two-sided ("),
        ("one-sided", "p = 0.062 (one-sided).", "p: exact paired test on the flips, one-sided ("),
        ("one-sided-mid-p", "p = 0.031 (one-sided, mid-p).", "p: paired test on the flips, one-sided, mid-p ("),
    ],
)
def test_no_report_leaves_open_of_which_side_its_p_is(test: str, words: str, legend: str, tmp_path: Path) -> None:
    old, new = (run(name, answers(said, "a" * 9)) for name, said in (("v1", "aaaaaaaaa"), ("v2", "bbbbaaaaa")))
    result = compare_runs(old, new, test=test)
    page = result.to_html(tmp_path / "page.html").read_text(encoding="utf-8")
    for report in (str(result), result.to_markdown()):
        assert words in report
        assert legend in report
    assert "aired test, " + test.replace("-mid-p", ", mid-p") in page
    row = result.to_dict()["tasks"][0]
    assert (result.to_dict()["test"], row["p_value"]) == (test, result.tasks[0].p_value)
    assert row["p_value"] == result.tasks[0].comparison.paired_test(test)


def test_the_coin_flip_view_is_given_for_the_whole_and_for_groups_that_differ() -> None:
    result = sample(200, tasks=("a", "b"), by=True)
    assert result.overall is not None
    coin = result.overall.coin
    assert coin == coin_flips(coin.negative, coin.positive)
    assert set(result.hierarchical) == {"task", "category"}
    assert result.hierarchical["task"] == grouped_coin_flips(
        [part.coin.negative for part in result.tasks], [part.coin.positive for part in result.tasks]
    )


def test_the_prior_reaches_every_coin_flip_view() -> None:
    task = answers("aab", "aaa", slices={"category": ["x", "y", "x"]})
    result = compare_runs(run("v1", task), run("v2", answers("aba", "aaa")), by="category", prior=(5.0, 5.0))
    views = [part.coin for _, part in result.parts] + list(result.hierarchical.values())
    assert len(views) == 5
    assert all("Beta(5, 5)" in view.prior_text for view in views)


def test_the_level_reaches_every_interval() -> None:
    old, new = run("v1", answers("aab", "aaa")), run("v2", answers("aba", "aaa"))
    wide, narrow = (compare_runs(old, new, level=level) for level in (0.99, 0.5))
    assert json.loads(wide.to_json())["level"] == 0.99
    for first, second in ((wide, narrow),):
        one, other = (json.loads(result.to_json())["tasks"][0] for result in (first, second))
        assert one["rates"]["negative_flip_rate"]["high"] > other["rates"]["negative_flip_rate"]["high"]
        assert one["coin_flips"]["high"] > other["coin_flips"]["high"]


def test_a_tolerance_that_nothing_has_scores_for_is_refused() -> None:
    task = run("v1", answers("ab", "aa"))
    with pytest.raises(InputError, match="only right and wrong answers"):
        compare_runs(task, task, tolerance=0.1)


def test_a_negative_tolerance_is_refused() -> None:
    task = run("v1", scored([0.5]))
    with pytest.raises(InputError, match=r"tolerance is -0\.1"):
        compare_runs(task, task, tolerance=-0.1)


# Instances -----------------------------------------------------------------------------------------------------------


def test_every_kind_of_instance_is_named_rightly() -> None:
    gold = "aaaa"
    result = compare_runs(run("v1", answers("aabb", gold)), run("v2", answers("abab", gold)))
    found = list(result.instances("quiz", np.arange(4)))
    assert [instance.kind for instance in found] == ["both_right", "negative_flip", "positive_flip", "both_wrong"]
    assert found[1].to_dict() == {
        "task": "quiz",
        "id": "q1",
        "kind": "negative_flip",
        "question": "Question 1?",
        "reference": "a",
        "old_answer": "a",
        "new_answer": "b",
        "old_score": 1.0,
        "new_score": 0.0,
        "slices": {},
        "old_response": None,
        "new_response": None,
    }


def test_flips_come_with_the_texts_of_the_right_rows_when_files_are_in_another_order() -> None:
    gold = list("abcd")
    old, new = answers(gold, gold), answers(["x", "b", "x", "d"], gold)
    shuffled = new.take(np.array([3, 1, 0, 2]))
    result = compare_runs(run("v1", old), run("v2", shuffled))
    assert [(flip.id, flip.old_answer, flip.new_answer) for flip in result.flips()] == [
        ("q0", "a", "x"),
        ("q2", "c", "x"),
    ]


def test_flips_are_read_block_by_block_and_none_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("muscle_hf.runs.outcomes._BLOCK", 3)
    result = sample(100)
    flips = list(result.flips())
    assert len(flips) == sum(part.coin.n for part in result.tasks) > 6
    assert len({flip.id for flip in flips}) == len(flips)


def test_scores_that_stay_within_the_tolerance_are_unchanged() -> None:
    result = compare_runs(run("v1", scored([0.5, 0.5])), run("v2", scored([0.505, 0.6])), tolerance=0.01)
    kinds = [instance.kind for instance in result.instances("summaries", np.arange(2))]
    assert kinds == ["unchanged", "positive_flip"]


def test_without_texts_instances_still_have_their_ids() -> None:
    old, new = (run(name, answers(said, "aa", texts=False)) for name, said in (("v1", "aa"), ("v2", "ab")))
    (flip,) = compare_runs(old, new).flips()
    assert (flip.id, flip.question, flip.old_answer) == ("q1", None, None)


# JSON ----------------------------------------------------------------------------------------------------------------


def test_json_names_the_flipped_ids_of_each_task() -> None:
    result = compare_runs(run("v1", answers("aabb", "aaaa")), run("v2", answers("abab", "aaaa")))
    (task,) = json.loads(result.to_json())["tasks"]
    assert task["ids"] == {"negative_flips": ["q1"], "positive_flips": ["q2"]}
    assert task["flips"] == {"negative": 1, "positive": 1}


def test_json_has_null_where_a_rate_is_undefined_and_never_nan() -> None:
    result = compare_runs(run("v1", answers("bb", "aa")), run("v2", answers("bb", "aa")))
    found = json.loads(result.to_json(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert found["tasks"][0]["rates"]["relative_negative_flip_rate"]["estimate"] is None


def test_json_says_what_was_compared_and_its_version() -> None:
    found = json.loads(sample(by=True, floor=True).to_json())
    assert (found["schema"], found["schema_version"]) == ("muscle_hf.run_comparison", 2)
    assert (found["old"]["name"], found["new"]["source"]) == ("model-v1", "model-v2.jsonl")
    assert found["tasks"][0]["seed_floor"]["runs"] == 3
    assert found["slices"]["category"][0]["coin_flips"]["prior"] == "Beta(1, 1)"
