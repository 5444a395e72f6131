"""What a model knows, by another form of the question; and groups that only repeat what is judged."""

from typing import Any

import numpy as np
import pytest

from muscle_hf.errors import InputError
from muscle_hf.flips.yes_no.knowledge import knowledge_of
from muscle_hf.flips.yes_no.negative_bias import compare_yes_no

N = 60
GOLD = ["yes", "no"] * (N // 2)
GROUPS = ["correct", "incorrect", "insufficient"]


def test_the_commonest_answer_decides_where_enough_samples_agree() -> None:
    rows = {
        ("a",) * 6 + ("b", "c"): "correct",
        ("b",) * 6 + ("a", "a"): "incorrect",
        ("a",) * 5 + ("b", "c", "d"): "insufficient",
        (None,) * 8: "insufficient",
        (None,) * 6 + ("a", "a"): "insufficient",
        ("a",) * 3 + (None,): "correct",
    }
    assert knowledge_of(list(map(list, rows)), ["a"] * len(rows)) == list(rows.values())
    assert knowledge_of([list(row) for row in rows], ["a"] * 6, agreement=0.6)[2] == "correct"
    assert knowledge_of(np.array([[3, 3, 3, 3], [4, 4, 4, 5], [1, 2, 3, 4]]), [3, 3, 3]) == GROUPS


@pytest.mark.parametrize(
    ("samples", "references", "message"),
    [
        ([["yes", "no"], ["no", "no"]], ["yes", "no"], "answers to a yes/no question"),
        ([["Yes.", "no"]], ["yes"], "answers to a yes/no question"),
        ([[True, False]], [True], "answers to a yes/no question"),
        ([["spam", "ham"]] * 10, ["spam", "ham"] * 5, "no other values than 'ham' and 'spam'"),
        ([["a"]], ["a"], "one answer always agrees with itself"),
        ([], ["a"], "samples is empty"),
        ([["a", "a"]], ["a", "b"], "samples has 1 questions, references has 2"),
        (["aa"], ["a"], r"samples\[0\] is 'aa', but must be a list"),
        ("aa", ["a"], "samples must be a list"),
        ([[1, 2]], ["a"], "an int never equals a string"),
        ([["a", "b"]], [None], r"references\[0\] is None"),
    ],
)
def test_samples_that_say_nothing_of_knowledge_are_refused(samples: Any, references: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        knowledge_of(samples, references)


@pytest.mark.parametrize("agreement", [0.5, 1.1, True, "most"])
def test_an_agreement_that_two_answers_may_have_is_refused(agreement: Any) -> None:
    with pytest.raises(InputError, match="agreement is"):
        knowledge_of([["a", "b"]], ["a"], agreement=agreement)


def _answers(seed: int) -> list[str]:
    return np.random.default_rng(seed).choice(["yes", "no"], N).tolist()


def test_groups_give_the_same_as_their_questions_alone_and_the_table_counts_both_models() -> None:
    draw = np.random.default_rng(2)
    knowledge, before = (draw.choice(GROUPS, N).tolist() for _ in range(2))
    knowledge = [group if group != "incorrect" else "correct" for group in knowledge]
    old, new = _answers(0), _answers(1)
    b = compare_yes_no(old=old, new=new, references=GOLD, knowledge=knowledge, old_knowledge=before)
    rows = [i for i in range(N) if knowledge[i] == "insufficient"]
    alone = compare_yes_no(old=[old[i] for i in rows], new=[new[i] for i in rows], references=[GOLD[i] for i in rows])
    assert b.by_knowledge["insufficient"].shift == alone.shift
    assert b.by_knowledge["insufficient"].to_dict() == alone.to_dict()
    assert list(b.by_knowledge) == GROUPS
    empty = b.by_knowledge["incorrect"]
    assert (empty.n, empty.undefined) == (0, "there is no instance")
    assert np.isnan(empty.shift)
    assert b.knowledge_changes is not None
    for first in GROUPS:
        for second in GROUPS:
            count = sum(pair == (first, second) for pair in zip(before, knowledge, strict=True))
            assert b.knowledge_changes[first][second] == count
    told = str(b)
    assert "knowledge incorrect: 0 questions, shift undefined" in told
    assert "knowledge, old -> new: correct -> correct" in told


@pytest.mark.parametrize("whose", ["old", "new"])
@pytest.mark.parametrize("column", ["knowledge", "old_knowledge"])
@pytest.mark.parametrize(
    "rule",
    [
        lambda said, gold: "correct" if said == gold else "incorrect",
        lambda said, gold: "insufficient" if said == "no" else "correct",
        lambda said, gold: "correct" if said == gold else "insufficient" if said == "no" else "incorrect",
    ],
)
def test_groups_made_from_the_answers_under_judgement_are_refused(rule: Any, whose: str, column: str) -> None:
    sides = {"old": _answers(0), "new": _answers(1)}
    made = [rule(said, gold) for said, gold in zip(sides[whose], GOLD, strict=True)]
    other = np.random.default_rng(3).choice(GROUPS, N).tolist()
    groups = {"knowledge": other, "old_knowledge": other} | {column: made}
    with pytest.raises(InputError, match=f"{column} follows from the right answers and the {whose} model's answers"):
        compare_yes_no(**sides, references=GOLD, **groups)
    # One question that is known otherwise is enough to tell that it was asked.
    place = made.index("correct")
    made[place] = "insufficient" if made[place] == "correct" else "correct"
    compare_yes_no(**sides, references=GOLD, **groups)


def test_few_questions_may_fit_their_groups_by_chance() -> None:
    compare_yes_no(
        old=["yes", "no", "yes", "no"],
        new=["yes", "no", "no", "no"],
        references=["yes", "no", "yes", "no"],
        knowledge=["correct", "correct", "insufficient", "correct"],
    )
