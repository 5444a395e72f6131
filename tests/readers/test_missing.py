"""Missing answers do what their name says, are counted in any case, and are none of the two sides' luck."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from comparisons import answers, scored
from hypothesis import given
from hypothesis import strategies as st

from muscle_hf.cli import main
from muscle_hf.errors import InputError
from muscle_hf.readers.answers import Run, TaskAnswers, answer_column
from muscle_hf.readers.join import align
from muscle_hf.readers.missing import MISSING
from muscle_hf.runs.compare import RunComparison, compare_runs

GOLD = {key: "ab"[key % 2] for key in range(12)}
SIDES = st.dictionaries(st.sampled_from(sorted(GOLD)), st.sampled_from(["a", "b", "", " ", None]), min_size=1)


def _side(said: dict[int, str | None], source: str) -> TaskAnswers:
    return TaskAnswers(
        "quiz",
        source,
        answer_column(list(said)),
        answers=pa.array(list(said.values()), pa.string()),
        references=pa.array([GOLD[key] for key in said], pa.string()),
        slices={"half": pa.array(["low" if key < 6 else "high" for key in said])},
        columns=("half",),
    )


def _compare(old: dict[int, str | None], new: dict[int, str | None], missing: str) -> RunComparison:
    runs = [Run(name, name, {"quiz": _side(said, name)}) for name, said in (("v1", old), ("v2", new))]
    return compare_runs(*runs, by="half", missing=missing, allow_identical=True)


def _cells(pairs: list[tuple[bool, bool]]) -> tuple[int, int, int, int]:
    return tuple(pairs.count(kind) for kind in ((True, True), (True, False), (False, True), (False, False)))  # type: ignore[return-value]


def _counts(comparison: Any) -> tuple[int, int, int, int]:
    return tuple(comparison.counts[name] for name in ("both_right", "negative_flips", "positive_flips", "both_wrong"))  # type: ignore[return-value]


@given(old=SIDES, new=SIDES, missing=st.sampled_from(MISSING))
def test_every_name_gives_what_a_loop_over_all_instances_gives(
    old: dict[int, str | None], new: dict[int, str | None], missing: str
) -> None:
    def said(side: dict[int, str | None], key: int) -> str | None:
        return (side.get(key) or "").strip() or None

    every = sorted({*old, *new})
    lacking = {key for key in every if said(old, key) is None or said(new, key) is None}
    right = {key: (said(old, key) == GOLD[key], said(new, key) == GOLD[key]) for key in every}
    if (missing == "refuse" and lacking) or (missing != "wrong" and not set(every) - lacking) or not {*old} & {*new}:
        with pytest.raises(InputError):
            _compare(old, new, missing)
        return
    result = _compare(old, new, missing)
    kept = every if missing == "wrong" else [key for key in every if key not in lacking]
    part, task = result.tasks[0], result.to_dict()["tasks"][0]
    assert _counts(part.comparison) == _cells([right[key] for key in kept])
    assert task["missing"] == {
        "treated": missing,
        "old_absent": len({*new} - {*old}),
        "new_absent": len({*old} - {*new}),
        # Of what is dropped for not being there, nothing is told about the other side's answer.
        "old_empty": sum(said(old, key) is None for key in old if missing != "drop" or key in new),
        "new_empty": sum(said(new, key) is None for key in new if missing != "drop" or key in old),
    }
    if missing == "harness-error":
        # At worst the old model was right where its answer lacks, and the new one wrong.
        worst = {
            key: (right[key][0] or said(old, key) is None, right[key][1] and said(new, key) is not None)
            for key in every
        }
        for row, keys in [(part, every), *((row, _half(every, row.name)) for row in result.slices["half"])]:
            assert row.harness_errors == len(lacking & {*keys})
            if row.harness_errors:
                assert row.worst_case is not None
                assert _counts(row.worst_case) == _cells([worst[key] for key in keys])


def _half(keys: list[int], name: str) -> list[int]:
    return [key for key in keys if (key < 6) == (name == "low")]


def test_an_instance_of_one_side_alone_is_shown_with_what_is_known_of_it() -> None:
    old, new = answers(["a", "b", "c"], ["a", "b", "c"]), answers(["a", "b", "c"], ["a", "b", "c"], source="v2.jsonl")
    pair = align(old, new.take(np.array([0, 2])), missing="wrong")
    assert [text.answer for text in pair.new.read_texts(np.array([0, 1, 2]))] == ["a", None, "c"]
    assert pair.old.ids.equals(pair.new.ids)


def test_a_score_that_is_not_there_is_no_wrong_answer_where_nobody_knows_what_that_scores() -> None:
    old, new = scored([0.5, 0.25, 0.5]), scored([0.5, float("nan"), 0.4])
    with pytest.raises(InputError, match=r"--missing wrong .* is for right and wrong answers"):
        align(old, new, missing="wrong")
    pair = align(old, new, missing="drop")
    assert len(pair.old) == 2
    assert pair.notes == ("summaries: v1.jsonl: 1 missing answer (not there: 0, empty: 1) left out",)
    graded = [scored(values, metric="exact_match") for values in ([1, 0, 1], [1, float("nan"), 0])]
    wrong = align(*graded, missing="wrong")
    assert wrong.new.scores is not None
    assert wrong.new.scores.tolist() == [1, 0, 0]


def test_the_command_counts_missing_answers_and_takes_no_other_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = tmp_path / "old.csv", tmp_path / "new.csv"
    old.write_text("id,prediction,reference\n1,a,a\n2,b,b\n3,c,c\n", encoding="utf-8")
    new.write_text("id,prediction,reference\n1,a,a\n2,,b\n", encoding="utf-8")
    command = ["compare", str(old), str(new), "--json"]
    assert main(command) == 2
    assert main([*command, "--missing", "none"]) == 2
    for name, negative in (("drop", 0), ("wrong", 2), ("harness-error", 0)):
        capsys.readouterr()
        assert main([*command, "--missing", name]) == 0
        shown = json.loads(capsys.readouterr().out)
        assert shown["tasks"][0]["flips"]["negative"] == negative
        assert any("2 missing answers (not there: 1, empty: 1)" in note for note in shown["notes"])


def test_instances_that_are_allowed_to_be_missing_are_left_out_where_empty_answers_are_refused() -> None:
    runs = [
        Run(name, name, {"quiz": _side(said, name)}) for name, said in (("v1", {0: "a", 1: "b"}), ("v2", {0: "a"}))
    ]
    result = compare_runs(*runs, missing="refuse", allow_missing=True, allow_identical=True)
    assert result.tasks[0].n == 1
    assert any("1 missing answer (not there: 1, empty: 0) left out" in note for note in result.notes)
