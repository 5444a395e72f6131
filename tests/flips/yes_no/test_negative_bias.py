"""Yes/no answers of two models: published tables, brute force, symmetries, recovery, and what is refused."""

import csv
import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muscle_hf.errors import InputError
from muscle_hf.flips.comparison import compare
from muscle_hf.flips.special import ndtri
from muscle_hf.flips.yes_no.comparison import YesNoComparison
from muscle_hf.flips.yes_no.negative_bias import compare_yes_no

PRIME = Path(__file__).parents[3] / "examples" / "data" / "llmdrift_prime" / "answers.csv"

SAID = st.sampled_from(["yes", "no", None, "maybe"])
TRIPLES = st.lists(st.tuples(SAID, SAID, st.sampled_from(["yes", "no"])), min_size=1, max_size=40)


def compared(triples: Sequence[tuple[Any, Any, Any]], **more: Any) -> YesNoComparison:
    old, new, references = (list(column) for column in zip(*triples, strict=True))
    return compare_yes_no(old=old, new=new, references=references, **more)


def prime(old: str, new: str) -> YesNoComparison:
    with PRIME.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return compared([(row[old] or None, row[new] or None, row["answer"]) for row in rows])


# Published figures ---------------------------------------------------------------------------------------------------


def test_gpt4_on_primes_gives_the_published_table_cell_by_cell() -> None:
    b = prime("gpt-4-0314", "gpt-4-0613")
    # Right answer yes, then no: said yes, no, nothing.
    assert b.old.counts.tolist() == [[488, 9, 3], [147, 352, 1]]
    assert b.new.counts.tolist() == [[12, 488, 0], [1, 499, 0]]
    assert (b.old.accuracy, b.new.accuracy) == (0.840, 0.511)
    assert (round(b.old.bias, 3), round(b.new.bias, 3)) == (-0.276, 0.974)
    assert round(b.shift, 3) == 1.250
    assert [round(end, 3) for end in b.confidence_interval("shift")] == [1.204, 1.293]
    assert [round(side.sensitivity, 2) for side in (b.old, b.new)] == [2.50, 0.79]
    assert [round(side.criterion, 2) for side in (b.old, b.new)] == [-0.71, 2.35]
    assert (b.to_negative, b.to_positive) == (622, 0)
    assert len(b.negative_flips) == b.broken_to_negative == 476
    assert (b.broken_to_positive, b.broken_to_neither, len(b.positive_flips)) == (0, 0, 147)


def test_gpt35_on_primes_turns_the_other_way_and_gives_its_accuracies() -> None:
    b = prime("gpt-3.5-turbo-0301", "gpt-3.5-turbo-0613")
    assert b.old.counts.tolist() == [[74, 426, 0], [78, 422, 0]]
    assert b.new.counts.tolist() == [[433, 41, 26], [151, 328, 21]]
    # Published is .762 for the second.
    assert (b.old.accuracy, b.new.accuracy) == (0.496, 0.761)
    assert (b.broken_to_negative, b.broken_to_positive, b.broken_to_neither) == (4, 128, 22)
    assert (b.to_negative, b.to_positive) == (57, 494)
    assert b.confidence_interval("shift")[1] < 0


def test_a_reader_is_told_the_direction_the_ability_and_what_a_wide_interval_rests_on() -> None:
    told = str(prime("gpt-4-0314", "gpt-4-0613"))
    for part in (
        'The update turned answers towards "no": bias -0.276 -> +0.974, shift +1.250 [+1.204, +1.293].',
        '476 right answers broke, 476 to "no". Of all answers 622 went from yes to no and 0 from no to yes',
        "It also tells yes from no less well: d' 2.50 -> 0.79",
        "rests on the 13 of 1,000 answers that are yes",
        "the old model says neither yes nor no on 4 questions: 4 missing",
    ):
        assert part in told
    told = str(prime("gpt-3.5-turbo-0301", "gpt-3.5-turbo-0613"))
    assert 'towards "yes"' in told
    few = compared([("yes", "no", "yes"), ("yes", "no", "no")])
    assert few.confidence_interval("shift")[0] > 0
    assert 'So few questions cannot tell whether the update turned answers towards "no"' in str(few)
    assert "1 right answer broke, 1 to" in str(few)
    assert "It tells yes from no better" in told


# Brute force, recovery, symmetries -----------------------------------------------------------------------------------


@settings(max_examples=50)
@given(TRIPLES)
def test_counts_equal_a_plain_loop(triples: list[tuple[Any, Any, Any]]) -> None:
    b = compared(triples)
    for side, place in ((b.old, 0), (b.new, 1)):
        of_yes = [row[place] for row in triples if row[2] == "yes"]
        of_no = [row[place] for row in triples if row[2] == "no"]
        fnr = of_yes.count("no") / len(of_yes) if of_yes else math.nan
        fpr = of_no.count("yes") / len(of_no) if of_no else math.nan
        assert side.false_negative_rate == pytest.approx(fnr, nan_ok=True)
        assert side.false_positive_rate == pytest.approx(fpr, nan_ok=True)
        assert side.bias == pytest.approx(fnr - fpr, nan_ok=True)
        assert side.accuracy == pytest.approx((of_yes.count("yes") + of_no.count("no")) / len(triples))
        assert side.no_answers == sum(row[place] in (None, "maybe") for row in triples)
        assert side.unknown.get("maybe", 0) == sum(row[place] == "maybe" for row in triples)
        assert (side.undefined is None) is bool(of_yes and of_no)
        if of_yes and of_no:
            h, f = ((said.count("yes") + 0.5) / (len(said) + 1) for said in (of_yes, of_no))
            assert side.sensitivity == pytest.approx(ndtri(h) - ndtri(f))
            assert side.criterion == pytest.approx(-(ndtri(h) + ndtri(f)) / 2)
        else:
            assert math.isnan(side.sensitivity)
            assert math.isnan(side.criterion)
    negative = [i for i, (old, new, gold) in enumerate(triples) if old == gold != new]
    positive = [i for i, (old, new, gold) in enumerate(triples) if old != gold == new]
    assert (b.negative_flips.tolist(), b.positive_flips.tolist()) == (negative, positive)
    assert b.broken_to_negative == sum(triples[i][1] == "no" for i in negative)
    assert b.broken_to_positive == sum(triples[i][1] == "yes" for i in negative)
    assert b.broken_to_neither == sum(triples[i][1] not in ("yes", "no") for i in negative)
    assert b.to_negative == sum((old, new) == ("yes", "no") for old, new, _ in triples)
    assert b.to_positive == sum((old, new) == ("no", "yes") for old, new, _ in triples)


def _near(first: float, second: float) -> bool:
    return first == pytest.approx(second, nan_ok=True)


@settings(max_examples=30)
@given(TRIPLES)
def test_swapping_the_labels_turns_bias_and_shift_round(triples: list[tuple[Any, Any, Any]]) -> None:
    b, turned = compared(triples), compared(triples, positive="no", negative="yes")
    assert _near(turned.shift, -b.shift)
    assert _near(turned.old.bias, -b.old.bias)
    assert turned.p_value == b.p_value
    assert (turned.broken_to_negative, turned.broken_to_positive) == (b.broken_to_positive, b.broken_to_negative)
    low, high = b.confidence_interval("shift")
    assert _near(turned.confidence_interval("shift")[0], -high)
    assert _near(turned.confidence_interval("shift")[1], -low)
    if not b.old.no_answers:  # a missing answer is no yes, whichever label yes is
        assert _near(turned.old.criterion, -b.old.criterion)
        assert _near(turned.old.sensitivity, b.old.sensitivity)


@settings(max_examples=30)
@given(TRIPLES)
def test_swapping_the_models_turns_the_changes_round(triples: list[tuple[Any, Any, Any]]) -> None:
    b, swapped = compared(triples), compared([(new, old, gold) for old, new, gold in triples])
    for name in ("shift", "sensitivity_change", "criterion_change"):
        assert _near(getattr(swapped, name), -getattr(b, name))
    assert swapped.negative_flips.tolist() == b.positive_flips.tolist()
    assert swapped.p_value == b.p_value
    low, high = b.confidence_interval("shift")
    assert _near(swapped.confidence_interval("shift")[0], -high)
    assert _near(swapped.confidence_interval("shift")[1], -low)


def test_bias_and_ability_do_not_depend_on_how_many_questions_have_yes_as_their_answer() -> None:
    few = [("yes", "no", "yes"), ("yes", "yes", "yes"), ("no", "no", "no"), ("yes", "no", "no")]
    b, unequal = compared(few * 5), compared(few[:2] * 5 + few[2:] * 50)
    assert (b.old.bias, b.new.bias, b.shift) == (unequal.old.bias, unequal.new.bias, unequal.shift)
    assert b.new.accuracy != unequal.new.accuracy


def test_ability_and_cut_of_latent_normals_are_found_again() -> None:
    draw = np.random.default_rng(0)
    n, d, c = 100_000, 1.5, 0.4
    gold = np.repeat([1, 0], n)
    says_yes = draw.normal(np.where(gold == 1, d / 2, -d / 2)) > c
    b = compare_yes_no(old=gold, new=says_yes, references=gold, positive=1, negative=0)
    assert b.new.sensitivity == pytest.approx(d, abs=0.02)
    assert b.new.criterion == pytest.approx(c, abs=0.02)
    for name, truth in (("sensitivity", d), ("criterion", c)):
        low, high = b.new.confidence_interval(name)
        assert low < truth < high < low + 0.05


@settings(max_examples=30)
@given(TRIPLES)
def test_an_estimate_lies_in_its_interval_and_a_verdict_has_the_wider_one(triples: list[tuple[Any, Any, Any]]) -> None:
    b = compared(triples)
    exact = ("accuracy", "false_negative_rate", "false_positive_rate", "no_answer_rate", "bias")
    for result, name in [*itertools.product((b.old, b.new), exact), (b, "shift")]:
        low, high = result.confidence_interval(name)
        least, most = result.decision_interval(name)
        value = getattr(result, name)
        assert math.isnan(value) == math.isnan(low)
        if not math.isnan(value):
            assert low - 1e-9 <= value <= high + 1e-9
            assert least - 1e-9 <= value <= most + 1e-9


def test_the_same_change_of_accuracy_has_the_same_intervals_as_in_a_plain_comparison() -> None:
    draw = np.random.default_rng(4)
    gold, old, new = (draw.choice(["yes", "no"], 80, p=[p, 1 - p]).tolist() for p in (0.5, 0.6, 0.3))
    b, c = compare_yes_no(old=old, new=new, references=gold), compare(old=old, new=new, references=gold)
    assert b.confidence_interval("accuracy_change") == c.confidence_interval("accuracy_change")
    assert b.decision_interval("accuracy_change") == c.decision_interval("accuracy_change")
    of_yes = [place for place, right in enumerate(gold) if right == "yes"]
    c = compare(**{name: [side[place] for place in of_yes] for name, side in (("old", old), ("new", new))},
                references=["yes"] * len(of_yes))  # fmt: skip
    low, high = c.decision_interval("accuracy_change")
    assert b.decision_interval("false_negative_rate_change") == pytest.approx((-high, -low))


def test_ability_does_not_fall_also_where_so_few_questions_tell_no_shift() -> None:
    # The interval of tables of the shift lies above 0, and that of verdicts does not.
    cells = {("yes", "yes", "yes"): 8, ("yes", "no", "yes"): 7, ("no", "no", "no"): 14, ("no", "yes", "no"): 1}
    b = compared([row for row, count in cells.items() for _ in range(count)])
    (low, _), (least, _) = b.confidence_interval("shift"), b.decision_interval("shift")
    assert low > 0 >= least
    assert "So few questions" in str(b) and "Its ability fell" in str(b)


# Types, missing answers, absent classes ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("yes", "no", "positive", "negative"),
    [
        ("yes", "no", "yes", "no"),
        ("Yes.", "No", {"yes", "Yes."}, ["no", "No"]),
        (1, 0, 1, 0),
        (True, False, True, False),
        (7, -7, (7, 8), {-7}),
        (True, False, 1, 0),
    ],
)
def test_labels_of_any_type_give_the_same(yes: Any, no: Any, positive: Any, negative: Any) -> None:
    words = {"yes": yes, "no": no}
    triples = [("yes", "no", "yes"), ("yes", "yes", "yes"), ("no", "no", "no"), ("yes", "no", "no")]
    expected = compared(triples).cells.tolist()
    plain = [tuple(words[word] for word in row) for row in triples]
    for rows in (plain, [(row[0], None if i == 9 else row[1], row[2]) for i, row in enumerate(plain)]):
        assert compared(rows, positive=positive, negative=negative).cells.tolist() == expected
    if not isinstance(yes, str):
        old, new, gold = (np.array(column) for column in zip(*plain, strict=True))
        b = compare_yes_no(old=old, new=new, references=gold, positive=positive, negative=negative)
        assert b.cells.tolist() == expected


def test_columns_of_pandas_in_another_order_are_refused_whichever_they_are() -> None:
    old = pd.Series(["yes", "no"])
    other = pd.Series([1.0, -1.0], index=[1, 0])
    with pytest.raises(InputError, match="new_scores has the labels of old in another order"):
        compare_yes_no(old=old, new=old, references=old, new_scores=other)


def test_an_absent_class_gives_the_shares_that_exist_and_the_reason_for_the_rest() -> None:
    b = compared([("yes", "no", "yes"), ("yes", "yes", "yes")])
    assert b.new.false_negative_rate == 0.5
    assert b.new.accuracy == 0.5
    for value in (b.new.false_positive_rate, b.new.bias, b.shift, b.new.sensitivity, b.new.criterion):
        assert math.isnan(value)
    assert b.confidence_interval("shift") == pytest.approx((math.nan, math.nan), nan_ok=True)
    assert b.undefined is not None
    assert "no instance is negative" in b.undefined
    assert "undefined: the right answer of no instance is negative" in str(b)
    assert json.loads(b.to_json())["rates"]["shift"]["estimate"] is None


def test_answers_in_another_spelling_are_counted_and_shown_but_not_bent() -> None:
    b = compared([("yes", "Yes.", "yes"), ("no", "NO", "no"), ("no", "NO", "no"), ("yes", None, "yes")])
    assert b.new.unknown == {"NO": 2, "Yes.": 1}
    assert b.broken_to_neither == 4
    assert (
        "the new model says neither yes nor no on 4 questions: 1 missing; 3 neither label: 'NO' (2), 'Yes.' (1) (the "
        "same label in another spelling is not guessed: 'NO', 'Yes.')"
    ) in str(b)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"references": ["yes", "maybe"]},
            r"references\[1\] is 'maybe' \(1 of 2 are neither\), but each must be 'yes'",
        ),
        ({"references": ["yes", "No."]}, "another spelling is not guessed: 'No.'"),
        ({"references": ["yes", None]}, r"references\[1\] is None"),
        ({"positive": {"yes", "no"}}, "'no' is a positive and a negative label"),
        ({"positive": 1, "negative": True}, "is a positive and a negative label"),
        ({"positive": set()}, "positive is empty"),
        ({"positive": {"yes", 1}}, "positive mixes ints and strings"),
        ({"positive": 1.0}, "positive is 1.0, but must be a label"),
        ({"positive": ["yes", None]}, "positive holds None"),
        ({"positive": 1}, "one is a string and one an int"),
        ({"positive": 1, "negative": 0}, "references holds strings, but the labels 1 and 0 are ints"),
        ({"old": ["yes"]}, "old has 1, new has 2"),
        ({"old": [1, 0]}, "an int never equals a string"),
        ({"old": [], "new": [], "references": []}, "are empty"),
        ({"knowledge": ["correct", "known"]}, r"knowledge\[1\] is 'known', but must be one of 'correct'"),
        ({"knowledge": ["correct"]}, "old has 2, knowledge has 1"),
        ({"knowledge": "correct"}, "knowledge must be a list"),
        ({"old_knowledge": ["correct", "correct"]}, "old_knowledge alone would do nothing"),
        ({"old_scores": [0.1, 0.2]}, "old_scores alone would do nothing"),
        (
            {"new": ["yes", "no"], "old_scores": [1.0, -1.0], "new_scores": [-1.0, 1.0]},
            "scores of the old model .* are above 0 for 1 of the 1 answers that are yes",
        ),
        ({"new_scores": [0.1]}, "old has 2, new_scores has 1"),
        ({"new_scores": [0.1, math.nan]}, r"new_scores\[1\] is nan"),
        ({"new_scores": [2.0, -2.0]}, "log p.no. - log p.yes. of these very answers"),
        ({"new_scores": [0.5, 0.5]}, "are all 0.5"),
    ],
)
def test_bad_input_is_refused_with_what_to_give(columns: dict[str, Any], message: str) -> None:
    whole = {"old": ["yes", "no"], "new": ["yes", "no"], "references": ["yes", "no"]}
    with pytest.raises(InputError, match=message):
        compare_yes_no(**(whole | columns))
