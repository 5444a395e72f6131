"""Runs compared by clusters: by a column on which both sides agree, in every row, floor and report."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from compared_rows import compared
from comparisons import answers, run, scored

from muscle_hf import InputError, compare_runs
from muscle_hf.cli import main
from muscle_hf.flips.comparison import compare_correct
from muscle_hf.flips.score_comparison import compare_scores
from muscle_hf.readers.answers import TaskAnswers

QUESTIONS = [f"q{i // 5}" for i in range(60)]
TOPICS = ["law", "art", "law"] * 20


def rows(seed: int) -> dict[str, list[Any]]:
    random = np.random.default_rng(seed)
    old, flipped = random.random(60) < 0.6, np.repeat(random.random(12) < 0.4, 5)
    floors = {name: (old ^ (random.random(60) < 0.1)).tolist() for name in ("first", "second")}
    new = (old ^ (flipped & (random.random(60) < 0.8))).tolist()
    return {"old": old.tolist(), "new": new, "question": QUESTIONS, "topic": TOPICS, **floors}


def both(task: TaskAnswers, other: TaskAnswers, **options: Any) -> Any:
    return compare_runs(run("v1", task), run("v2", other), **options)


def test_every_row_of_a_comparison_goes_by_its_clusters() -> None:
    data = rows(0)
    result = compared(
        {"quiz": data, "trivia": rows(1) | {"question": [f"t{i // 2}" for i in range(60)]}},
        by=["topic", "question"],
        floor=["first", "second"],
        cluster="question",
    )
    quiz, trivia = result.tasks
    expected = compare_correct(old=data["old"], new=data["new"], clusters=QUESTIONS)
    assert (quiz.comparison.clusters, trivia.comparison.clusters) == (12, 30)
    assert quiz.p_value == expected.p_value
    for name in ("negative_flip_rate", "accuracy_change", "backward_trust_compatibility"):
        assert quiz.comparison.confidence_interval(name) == expected.confidence_interval(name)
        assert quiz.comparison.decision_interval(name) == expected.decision_interval(name)
    assert result.pooled is not None
    assert result.pooled.comparison.clusters == 42
    # A question has answers of both topics, so its cluster lies across them.
    assert {part.name: part.comparison.clusters for part in result.slices["topic"]} == {"law": 42, "art": 32}
    assert {part.comparison.clusters for part in result.slices["question"]} == {1}
    plain = compared({"quiz": data}, by=["topic"], floor=["first", "second"])
    assert plain.tasks[0].comparison.clusters is None
    floors = quiz.seed_floor, plain.tasks[0].seed_floor
    assert floors[0] and floors[1] and floors[0].excess == floors[1].excess
    assert (floors[0].excess_low, floors[0].excess_high) != (floors[1].excess_low, floors[1].excess_high)


def test_one_label_in_two_tasks_is_one_cluster_and_that_is_said() -> None:
    result = compared({"quiz": rows(0), "trivia": rows(1)}, by=["question"], cluster="question")
    assert result.pooled is not None
    assert result.pooled.comparison.clusters == 12
    assert any("12 values of 'question' stand in several tasks and are one cluster each" in n for n in result.notes)


def test_scores_and_answers_that_are_scored_go_by_clusters_too() -> None:
    random = np.random.default_rng(0)
    old, new = random.random(60).round(2).tolist(), random.random(60).round(2).tolist()
    clusters = {"question": pa.array(QUESTIONS)}
    result = both(replace(scored(old), slices=clusters), replace(scored(new), slices=clusters), cluster="question")
    expected = compare_scores(old=old, new=new, clusters=QUESTIONS)
    assert result.tasks[0].p_value == expected.p_value
    assert result.tasks[0].comparison.confidence_interval("mean_change") == expected.confidence_interval("mean_change")
    assert "of 60 instances in 12 clusters (question) (" in str(result)


def test_every_report_says_how_many_clusters_there_are(tmp_path: Path) -> None:
    result = compared({"quiz": rows(0)}, by=["question", "topic"], cluster="question")
    for text in (str(result), result.to_markdown()):
        assert "Of 60 answers in 12 clusters (question) the update breaks" in text
        assert "60 in 12" in text
        assert "Intervals and p take clusters of one question as independent" in text
    page = result.to_html(tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Of 60 answers in 12 clusters (question)" in page
    assert "By 12 clusters of one <bdi>question</bdi>." in page
    found = json.loads(result.to_json())
    assert (found["cluster"], found["tasks"][0]["clusters"]) == ("question", 12)
    plain = json.loads(compared({"quiz": rows(0)}).to_json())
    assert plain["cluster"] is None
    assert "clusters" not in plain["tasks"][0]


def test_a_column_of_clusters_is_no_slice_of_the_flips_unless_asked() -> None:
    result = compared({"quiz": rows(0)}, by=["question"], cluster="question")
    assert "question" in next(iter(result.flips())).slices
    task = answers("ab" * 5, "a" * 10, slices={"topic": ["x", "y"] * 5})
    result = both(task, answers("aa" * 5, "a" * 10, slices={"topic": ["x", "y"] * 5}), cluster="topic")
    assert next(iter(result.flips())).slices == {}
    assert result.slices == {}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (["x", "y", "y"], ["x", "y", "z"], r"'c' differs between .* on 1 of 3 ids, for instance 'q2' \('y' and 'z'\)"),
        (["x", None, "y"], ["x", None, "y"], "'c' is empty for 1 of 3 ids, for instance 'q1'; every instance needs"),
    ],
)
def test_clusters_that_are_unknown_or_contradict_are_refused(
    old: list[str | None], new: list[str | None], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        both(answers("abc", "abc", slices={"c": old}), answers("abb", "abc", slices={"c": new}), cluster="c")


def test_a_column_that_there_is_not_is_told_with_those_that_there_are() -> None:
    task = answers("ab", "ab", slices={"category": ["x", "y"]})
    with pytest.raises(InputError, match="no task has a column 'subject' to cluster by; there are: 'category'"):
        both(task, task, cluster="subject", allow_identical=True)


def test_a_task_without_the_column_has_clusters_of_one_and_that_is_said() -> None:
    with_column = {"slices": {"c": ["x", "x", "y"]}}
    old = run("v1", answers("aab", "aaa", task="quiz", **with_column), answers("abb", "aaa", task="trivia"))
    new = run("v2", answers("aba", "aaa", task="quiz", **with_column), answers("aba", "aaa", task="trivia"))
    result = compare_runs(old, new, cluster="c")
    assert [part.comparison.clusters for part in result.tasks] == [2, 3]
    assert result.pooled is not None
    assert result.pooled.comparison.clusters == 5
    assert "trivia: has no column 'c', so each of its instances is a cluster of its own" in result.notes


def test_questions_that_stand_under_several_ids_are_told_unless_clusters_are_given(tmp_path: Path) -> None:
    for side, said in (("v1", "AAAAAABB"), ("v2", "AABBAAAA")):
        lines = [
            json.dumps({"id": i, "question": f"What is {i // 4}?", "prediction": letter, "reference": "A"})
            for i, letter in enumerate(said)
        ]
        (tmp_path / f"{side}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    files = [str(tmp_path / f"{side}.jsonl") for side in ("v1", "v2")]
    told = "all: 6 of 8 questions stand under another id too, and intervals and p take each as independent"
    assert any(note.startswith(told) for note in compare_runs(*files).notes)
    assert not any(note.startswith(told) for note in compare_runs(*files, cluster="question").notes)
    assert compare_runs(*files, cluster="question").tasks[0].comparison.clusters == 2


def test_documents_with_one_digest_are_told_and_sampled_answers_are_not() -> None:
    task, other = answers("ab" * 10, "a" * 20), answers("aa" * 10, "a" * 20)
    once = pa.array([f"digest {i}" for i in range(20)])
    twice = pa.array([f"digest {i // 2}" for i in range(20)])
    assert not both(replace(task, documents=once), replace(other, documents=once)).notes
    (note,) = both(replace(task, documents=twice), replace(other, documents=twice)).notes
    assert note.startswith("quiz: 10 of 20 questions stand under another id too")
    sampled = [scored([0.5, 0.25] * 10, samples=[4] * 20), scored([0.25, 0.25] * 10, samples=[4] * 20)]
    assert not both(*(replace(side, documents=twice) for side in sampled)).notes


def test_errors_of_the_harness_belong_to_their_clusters_at_worst(tmp_path: Path) -> None:
    for side, said in (("v1", "AAAAAABB"), ("v2", "AABBAA A")):
        lines = [
            json.dumps({"id": i, "c": f"c{i // 4}", "prediction": None if a == " " else a, "reference": "A"})
            for i, a in enumerate(said)
        ]
        (tmp_path / f"{side}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    files = [str(tmp_path / f"{side}.jsonl") for side in ("v1", "v2")]
    part = compare_runs(*files, cluster="c", missing="harness-error").tasks[0]
    assert (part.n, part.comparison.clusters, part.harness_errors) == (7, 2, 1)
    assert part.worst_case is not None
    assert (part.worst_case.n, part.worst_case.clusters) == (8, 2)


def test_the_command_compares_by_clusters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["id,question,gold,v1,v2"]
    lines += [f"{i},{i // 5},A,{'A' if i % 7 else 'B'},{'A' if i // 5 % 3 else 'B'}" for i in range(60)]
    table = tmp_path / "t.csv"
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    command = ["compare", f"{table}:v1", f"{table}:v2", "--reference", "gold"]
    assert main([*command, "--cluster", "question"]) == 0
    assert "Of 60 answers in 12 clusters (question)" in capsys.readouterr().out
    assert main(command) == 0
    assert "clusters" not in capsys.readouterr().out.partition("note:")[0]
