"""Counts against hand-made and brute-force ones, and what results show of themselves."""

import json
import math
import pathlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muscle_hf.errors import InputError
from muscle_hf.flips import comparison as flips
from muscle_hf.flips.agreements import agreement
from muscle_hf.flips.comparison import Comparison, compare, compare_correct
from muscle_hf.flips.score_comparison import compare_scores

DATA = pathlib.Path(__file__).parents[1] / "data"

# Few labels, so that every cell is hit; None is no answer.
ANSWERS = st.one_of(st.none(), st.sampled_from("abc"))
STRINGS = st.lists(st.tuples(ANSWERS, ANSWERS, st.sampled_from("abc")), min_size=1, max_size=40)
INTS = st.lists(st.tuples(*[st.integers(-3, 3)] * 3), min_size=1, max_size=40)
TRIPLES = st.one_of(STRINGS, INTS)
SCORES = st.floats(-1e6, 1e6)
SCORE_PAIRS = st.lists(st.tuples(SCORES, SCORES), min_size=1, max_size=40)


def compared(triples: list[tuple[Any, Any, Any]]) -> Comparison:
    old, new, references = (list(column) for column in zip(*triples, strict=True))
    return compare(old=old, new=new, references=references)


# Counts and rates ----------------------------------------------------------------------------------------------------

# Ten answers counted by hand: 3 both right, 2 negative, 1 positive, 4 both wrong of which 2 the same.
HAND = [
    ("a", "a", "a"),
    ("b", "b", "b"),
    ("a", "a", "a"),
    ("a", "b", "a"),
    ("b", None, "b"),
    ("a", "b", "b"),
    ("a", "a", "b"),
    (None, None, "a"),
    ("a", "c", "b"),
    (None, "c", "b"),
]


def test_hand_computed_example_does_not_drift() -> None:
    c = compared(HAND)
    expected = {
        "old_accuracy": 5 / 10,
        "new_accuracy": 4 / 10,
        "accuracy_change": -1 / 10,
        "relative_accuracy_change": -1 / 5,
        "negative_flip_rate": 2 / 10,
        # Of the four whose right answer is a, one breaks, and of the six of b another.
        "balanced_negative_flip_rate": (1 / 4 + 1 / 6) / 2,
        "positive_flip_rate": 1 / 10,
        "flip_rate": 3 / 10,
        "inconsistency_flip_rate": (2 + 2) / 10,
        "relative_negative_flip_rate": 0.2 / (0.5 * 0.6),
        "backward_trust_compatibility": 3 / 5,
        "backward_error_compatibility": 4 / 5,
        "negative_flip_impact": 2 / 6,
        "positive_flip_impact": 1 / 4,
        "agreement": 5 / 10,
        "error_agreement": 2 / 4,
        # Old: a 6, b 2, None 2. New: a 3, b 3, c 2, None 2. By chance: (18 + 6 + 4) / 100.
        "kappa": (0.5 - 0.28) / (1 - 0.28),
    }
    assert c.n == 10
    assert {name: pytest.approx(getattr(c, name)) for name in expected} == expected
    assert set(expected) == set(c.to_dict()["rates"]), "a rate is not checked here"
    assert c.negative_flips.tolist() == [3, 4]
    assert c.positive_flips.tolist() == [5]
    assert c.counts == {
        "both_right": 3,
        "negative_flips": 2,
        "positive_flips": 1,
        "both_wrong": 4,
        "both_wrong_same": 2,
    }
    assert c.p_value == 1.0


def test_gpt3_on_gsm8k_gives_the_published_counts_from_answers_and_from_flags() -> None:
    rows = [json.loads(line) for line in (DATA / "gsm8k_gpt3.jsonl").read_text(encoding="utf-8").splitlines()]
    old, new = "6b_finetuning", "175b_finetuning"
    c = compare(
        old=[row[old] for row in rows], new=[row[new] for row in rows], references=[row["gold"] for row in rows]
    )
    flags = compare_correct(
        old=[row[f"{old}_is_correct"] for row in rows], new=[row[f"{new}_is_correct"] for row in rows]
    )
    for found in (c, flags):
        assert found.n == 1319
        assert (len(found.negative_flips), len(found.positive_flips)) == (88, 260)
        assert (round(found.old_accuracy, 4), round(found.new_accuracy, 4)) == (0.2168, 0.3472)
        assert (round(found.negative_flip_rate, 4), round(found.positive_flip_rate, 4)) == (0.0667, 0.1971)
    assert c.both_wrong_same is not None
    assert round((c.both_wrong - c.both_wrong_same) / c.n, 4) == 0.5398
    assert round(c.inconsistency_flip_rate, 4) == 0.6065


@given(TRIPLES)
def test_vectorised_counts_equal_a_plain_loop(triples: list[tuple[Any, Any, Any]]) -> None:
    negative, positive, right, wrong, wrong_same, same = [], [], 0, 0, 0, 0
    for i, (old, new, gold) in enumerate(triples):
        same += old == new
        if old == gold and new == gold:
            right += 1
        elif old == gold:
            negative.append(i)
        elif new == gold:
            positive.append(i)
        else:
            wrong += 1
            wrong_same += old == new
    c = compared(triples)
    assert c.negative_flips.tolist() == negative
    assert c.positive_flips.tolist() == positive
    assert (c.both_right, c.both_wrong, c.both_wrong_same) == (right, wrong, wrong_same)
    assert c.agreement == same / len(triples)


@given(TRIPLES)
def test_identities_of_the_paper_hold(triples: list[tuple[Any, Any, Any]]) -> None:
    c = compared(triples)
    nfr, pfr = c.negative_flip_rate, c.positive_flip_rate
    assert c.accuracy_change == pytest.approx(pfr - nfr)
    assert c.new_accuracy - c.old_accuracy == pytest.approx(pfr - nfr)
    assert c.flip_rate == pytest.approx(nfr + pfr)
    assert max(0.0, c.old_accuracy - c.new_accuracy) <= nfr + 1e-12
    assert nfr <= min(c.old_accuracy, 1 - c.new_accuracy) + 1e-12
    assert c.both_wrong_same is not None
    assert c.inconsistency_flip_rate == pytest.approx(nfr + (c.both_wrong - c.both_wrong_same) / c.n)
    if c.old_accuracy > 0:
        assert c.backward_trust_compatibility == pytest.approx(1 - nfr / c.old_accuracy)
        if c.new_accuracy < 1:
            assert c.relative_negative_flip_rate == pytest.approx(nfr / (c.old_accuracy * (1 - c.new_accuracy)))


@given(TRIPLES)
def test_swapping_old_and_new_swaps_the_flips(triples: list[tuple[Any, Any, Any]]) -> None:
    c, swapped = compared(triples), compared([(new, old, gold) for old, new, gold in triples])
    assert c.negative_flips.tolist() == swapped.positive_flips.tolist()
    assert c.positive_flips.tolist() == swapped.negative_flips.tolist()
    assert c.p_value == swapped.p_value
    for name in ("agreement", "error_agreement", "kappa", "flip_rate"):
        assert getattr(c, name) == pytest.approx(getattr(swapped, name), nan_ok=True)


@pytest.mark.slow
@given(TRIPLES, st.randoms(use_true_random=False))
def test_the_order_of_instances_changes_no_rate(triples: list[tuple[Any, Any, Any]], random: Any) -> None:
    shuffled = list(triples)
    random.shuffle(shuffled)
    c, other = compared(triples), compared(shuffled)
    assert c.counts == other.counts
    assert c.kappa == pytest.approx(other.kappa, nan_ok=True)
    assert c.kappa_standard_error == pytest.approx(other.kappa_standard_error, nan_ok=True, abs=1e-7)


@given(TRIPLES)
def test_every_interval_holds_its_rate_and_stays_in_range(triples: list[tuple[Any, Any, Any]]) -> None:
    c = compared(triples)
    for name, rate in c.to_dict()["rates"].items():
        estimate, low, high = rate["estimate"], rate["low"], rate["high"]
        assert math.isnan(estimate) == math.isnan(low) == math.isnan(high)
        if not math.isnan(estimate):
            # A percentile bootstrap of a handful of instances may miss its estimate; the closed forms never do.
            if name != "relative_negative_flip_rate":
                assert low - 1e-12 <= estimate <= high + 1e-12
            assert low >= (-1.0 if name in ("kappa", "accuracy_change", "relative_accuracy_change") else 0.0)
            assert high <= 1.0 or name in ("relative_negative_flip_rate", "relative_accuracy_change")


def test_undefined_rates_are_nan_and_never_zero() -> None:
    wrong = compare(old=["b"], new=["b"], references=["a"])
    assert math.isnan(wrong.backward_trust_compatibility)
    assert math.isnan(wrong.positive_flip_impact)
    assert math.isnan(wrong.relative_negative_flip_rate)
    assert math.isnan(wrong.kappa)
    right = compare(old=["a"], new=["a"], references=["a"])
    assert math.isnan(right.backward_error_compatibility)
    assert math.isnan(right.negative_flip_impact)
    assert math.isnan(right.error_agreement)
    assert all(map(math.isnan, right.confidence_interval("error_agreement")))
    assert "undefined" in str(right)


def test_correctness_alone_does_not_pretend_to_know_agreement() -> None:
    c = compare_correct(old=[1, 0, 1, 0], new=[1, 1, 0, 0])
    for name in ("agreement", "kappa", "error_agreement", "inconsistency_flip_rate"):
        assert math.isnan(getattr(c, name))
        assert all(map(math.isnan, c.confidence_interval(name)))
    assert c.counts["both_wrong_same"] is None


def test_no_answer_counts_as_wrong_and_two_as_the_same() -> None:
    c = compare(old=[None, None, "a"], new=[None, "a", None], references=["a", "a", "a"])
    assert (c.old_accuracy, c.new_accuracy) == (1 / 3, 1 / 3)
    assert c.both_wrong_same == 1
    ints = compare(old=[None, None, 1], new=[None, 1, None], references=[1, 1, 1])
    assert ints.counts == c.counts
    nothing = compare(old=[None], new=[None], references=[1])
    assert nothing.error_agreement == 1.0


@pytest.mark.slow
@given(TRIPLES)
def test_agreement_without_references_equals_that_with_them(triples: list[tuple[Any, Any, Any]]) -> None:
    c = compared(triples)
    a = agreement(old=[t[0] for t in triples], new=[t[1] for t in triples])
    assert (a.n, a.agreement) == (c.n, c.agreement)
    assert a.kappa == pytest.approx(c.kappa, nan_ok=True)
    for name in ("agreement", "kappa"):
        assert a.confidence_interval(name) == pytest.approx(c.confidence_interval(name), nan_ok=True)


@pytest.mark.parametrize("level", [0, 1, -0.5, 95, math.nan, "0.95", True, np.complex64(0.5)])
def test_a_level_outside_0_and_1_is_refused(level: Any) -> None:
    with pytest.raises(InputError, match=r"level is .*0\.95"):
        compare_correct(old=[1, 0, 1, 0], new=[1, 1, 0, 0]).confidence_interval("negative_flip_rate", level)


def test_an_unknown_rate_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"'nfr'.*negative_flip_rate.*kappa"):
        compare_correct(old=[1, 0, 1, 0], new=[1, 1, 0, 0]).confidence_interval("nfr")
    with pytest.raises(InputError, match="mean_regression"):
        compare_scores(old=[1.0], new=[2.0]).confidence_interval("kappa")


# Scores --------------------------------------------------------------------------------------------------------------


def test_hand_computed_scores_do_not_drift() -> None:
    c = compare_scores(old=[0.0, 1.0, 0.5, 0.5], new=[0.5, 0.0, 0.25, 0.5])
    assert (c.n, c.old_mean, c.new_mean, c.mean_change) == (4, 0.5, 0.3125, -0.1875)
    assert (c.positive_flip_rate, c.negative_flip_rate, c.flip_rate) == (0.25, 0.5, 0.75)
    assert (c.mean_gain, c.mean_regression) == (0.5, 0.625)
    assert c.negative_flips.tolist() == [1, 2]
    assert c.positive_flips.tolist() == [0]
    # Ranks 2 up, 1 and 3 down: rank sums of at most 2 have 3 of the 8 ways, and twice that.
    assert c.p_value == 0.75


def test_tolerance_is_not_a_flip_itself() -> None:
    c = compare_scores(old=[0.0, 0.0, 1.0, 1.0], new=[0.25, 0.5, 0.75, 0.5], tolerance=0.25)
    assert c.positive_flips.tolist() == [1]
    assert c.negative_flips.tolist() == [3]


def test_rounding_does_not_make_flips_of_changes_as_large_as_the_tolerance() -> None:
    c = compare_scores(old=[0.70, 0.10, 0.30], new=[0.71, 0.11, 0.31], tolerance=0.01)
    assert (c.positive_flip_rate, c.negative_flip_rate) == (0, 0)
    # Every step of 1 to 9 hundredths between 0 and 1, and the same in per cent.
    for unit in (100, 1):
        grid = [i / unit for i in range(101)]
        for steps in range(1, 10):
            old, new = np.array(grid[:-steps]), np.array(grid[steps:])
            for dtype in (np.float64, np.float32):
                a, b = old.astype(dtype), new.astype(dtype)
                assert compare_scores(old=a, new=b, tolerance=steps / unit).flip_rate == 0
                assert compare_scores(old=list(b), new=a, tolerance=steps / unit).flip_rate == 0
                assert compare_scores(old=a, new=b, tolerance=(steps - 0.01) / unit).positive_flip_rate == 1


def test_a_tolerance_of_0_does_not_forgive_the_smallest_change() -> None:
    c = compare_scores(old=[0.5, 0.5, 0.5], new=[np.nextafter(0.5, 1), np.nextafter(0.5, 0), 0.5])
    assert (c.positive_flips.tolist(), c.negative_flips.tolist()) == ([0], [1])


@given(SCORE_PAIRS, st.floats(0, 10))
def test_scores_equal_a_plain_loop(pairs: list[tuple[float, float]], tolerance: float) -> None:
    changes = [new - old for old, new in pairs]
    rounding = [2 * sys.float_info.epsilon * (abs(old) + abs(new)) if tolerance else 0.0 for old, new in pairs]
    limits = [tolerance + one for one in rounding]
    gains = [d for d, limit in zip(changes, limits, strict=True) if d > limit]
    falls = [-d for d, limit in zip(changes, limits, strict=True) if d < -limit]
    c = compare_scores(old=[p[0] for p in pairs], new=[p[1] for p in pairs], tolerance=tolerance)
    assert c.positive_flip_rate == len(gains) / len(pairs)
    assert c.negative_flip_rate == len(falls) / len(pairs)
    assert c.mean_gain == pytest.approx(sum(gains) / len(gains) if gains else math.nan, nan_ok=True)
    assert c.mean_regression == pytest.approx(sum(falls) / len(falls) if falls else math.nan, nan_ok=True)
    assert c.mean_change == pytest.approx(c.new_mean - c.old_mean, abs=1e-6)


@settings(max_examples=20)
@given(SCORE_PAIRS)
def test_scores_never_warn_and_always_print(pairs: list[tuple[float, float]]) -> None:
    c = compare_scores(old=[p[0] for p in pairs], new=[p[1] for p in pairs])
    assert 0 <= c.p_value <= 1
    assert "mean_regression" in str(c)
    json.loads(c.to_json())


# Output --------------------------------------------------------------------------------------------------------------


def test_json_is_valid_where_rates_are_undefined() -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    for result in (
        compare_correct(old=[0], new=[0]),
        compare_scores(old=[1.0], new=[1.0]),
        agreement(old=[1], new=[1]),
    ):
        loaded = json.loads(result.to_json(), parse_constant=refuse)
        assert loaded["schema"].startswith("muscle_hf.")
        assert loaded["schema_version"] == flips.SCHEMA_VERSION
        assert None in [rate["estimate"] for rate in loaded["rates"].values()]


def test_the_dictionary_keeps_its_documented_keys() -> None:
    c, s, a = compared(HAND), compare_scores(old=[1.0], new=[2.0]), agreement(old=[1], new=[2])
    common = ["schema", "schema_version", "n", "level", "rates"]
    assert list(c.to_dict()) == [*common, "counts", "p_value", "negative_flips", "positive_flips"]
    assert list(s.to_dict()) == [*common, "tolerance", "p_value", "negative_flips", "positive_flips"]
    assert list(a.to_dict()) == common
    assert c.to_dict(level=0.5)["rates"]["kappa"]["low"] > c.to_dict()["rates"]["kappa"]["low"]


def test_the_table_shows_rate_interval_and_direction() -> None:
    lines = str(compared(HAND)).splitlines()
    assert lines[0] == "10 instances, 2 negative and 1 positive flips"
    assert lines[1] == "exact paired test, two-sided, negative against positive flips: p = 1"
    row = next(line for line in lines if line.startswith("negative_flip_rate"))
    assert row.split() == ["negative_flip_rate", "↓", "0.2000", "0.0567", "to", "0.5098"]


def test_results_cannot_be_changed_by_accident() -> None:
    c = compared(HAND)
    with pytest.raises(AttributeError):
        c.both_right = 5  # type: ignore[misc]
    with pytest.raises(AttributeError):
        c.negative_flip_rate = 0.0
    with pytest.raises(ValueError, match="read-only"):
        c.negative_flips[0] = 7
    scores = np.array([1.0, 2.0])
    s = compare_scores(old=scores, new=scores)
    scores[0] = 9.0
    assert s.old_mean == 1.5


@pytest.mark.parametrize("tolerance", [-0.1, math.nan, math.inf, "0.1", None, True, np.complex64(1), 10**400])
def test_a_tolerance_that_means_nothing_is_refused(tolerance: Any) -> None:
    with pytest.raises(InputError, match="tolerance is"):
        compare_scores(old=[1.0], new=[1.0], tolerance=tolerance)


# The module ----------------------------------------------------------------------------------------------------------


def test_counting_imports_neither_pandas_nor_torch() -> None:
    code = (
        "import sys, muscle_hf.flips as f; f.compare(old=[1], new=[1], references=[1]);"
        "assert not {'scipy', 'torch', 'pandas', 'pyarrow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603


@pytest.mark.parametrize(
    ("said", "gold", "name"),
    [
        (["1.0", "0.0", "nan", "1.0", "0.0", "1.0"], ["1", "0", "1", "1", "0", "1"], "numbers"),
        (["yes", "no", "yes", None, "no", "no"], ["Yes", "No", "Yes", "Yes", "No", "No"], "case"),
    ],
)
def test_answers_that_are_all_wrong_by_their_spelling_are_not_taken_in_silence(
    said: list[str | None], gold: list[str], name: str
) -> None:
    for columns in ({"old": gold, "new": said}, {"old": said, "new": gold}):
        with pytest.warns(UserWarning, match=f"and 5 would if {name} did not count, for instance"):
            assert compare(**columns, references=gold).negative_flip_rate in (0.0, 1.0)


def test_answers_that_are_all_wrong_whatever_the_spelling_are_taken_as_they_are() -> None:
    compared = compare(old=list("ABCDE"), new=[None] * 5, references=list("XXXXX"))
    assert compared.old_accuracy == compared.new_accuracy == 0.0
    assert compare(old=["\ud800"] * 5, new=["x"] * 5, references=["y"] * 5).old_accuracy == 0.0
