"""Which way an update goes, from labels on some of its disagreements."""

import math
from math import comb

import pytest

from muscle_hf.errors import InputError
from muscle_hf.flips.sampling.labelling import from_labels


def test_rates_are_right_on_average_over_all_samples() -> None:
    size, old, new, drawn = 9, 4, 2, 4
    sums = dict.fromkeys(("negative_flip_rate", "positive_flip_rate", "accuracy_change"), 0.0)
    for a in range(drawn + 1):
        for b in range(drawn + 1 - a):
            ways = comb(old, a) * comb(new, b) * comb(size - old - new, drawn - a - b)
            if not ways:
                continue
            counts = {"old_right": a, "new_right": b, "unchanged": drawn - a - b}
            said = from_labels(total=50, disagreements=size, **counts)
            for name in sums:
                sums[name] += ways / comb(size, drawn) * getattr(said, name).value
    assert sums == pytest.approx(
        {"negative_flip_rate": 4 / 50, "positive_flip_rate": 2 / 50, "accuracy_change": -2 / 50}
    )


def test_old_and_new_exchanged_give_the_opposite() -> None:
    counts = {"total": 900, "disagreements": 200, "unchanged": 8}
    there = from_labels(**counts, old_right=14, new_right=3)
    back = from_labels(**counts, old_right=3, new_right=14)
    assert there.verdict, back.verdict == ("worse", "better")
    assert there.negative_flip_rate == back.positive_flip_rate
    assert there.p_value == back.p_value
    value, low, high = back.accuracy_change
    assert there.accuracy_change == (-value, -high, -low)


@pytest.mark.parametrize(
    ("labels", "verdict", "sentence"),
    [
        ((0, 0, 0), "cannot tell", "Cannot tell: there are no labels yet."),
        ((2, 12, 11), "better", "Better: accuracy rises by 1.9 to 9.6 points (95 % interval, p = 0.0053)."),
        ((12, 2, 11), "worse", "Worse: accuracy falls by 1.9 to 9.6 points"),
        ((2, 5, 3), "cannot tell", "About 36 more labels would tell, if they are as these."),
        ((0, 1, 0), "cannot tell", "About 5 more labels would tell"),  # six of one kind, as a coin gives one in 32
        ((0, 4, 0), "cannot tell", "About 2 more labels would tell"),
        ((0, 6, 0), "better", "Better: accuracy rises by"),
        ((3, 3, 3), "cannot tell", "As many labels say either, so how many more would tell is not known."),
        ((100, 90, 110), "worse", "Worse: accuracy falls by 0.5 points. All disagreements are labelled, so nothing"),
        ((90, 90, 120), "no change", "No change: as many answers break as are repaired."),
    ],
)
def test_the_verdict_is_said_in_words(labels: tuple[int, int, int], verdict: str, sentence: str) -> None:
    old, new, unchanged = labels
    said = from_labels(total=2000, disagreements=300, old_right=old, new_right=new, unchanged=unchanged)
    assert said.verdict == verdict
    assert sentence in str(said)


def test_versions_that_agree_need_no_label() -> None:
    said = from_labels(total=10, disagreements=0, old_right=0, new_right=0, unchanged=0)
    assert said.verdict == "no change"
    assert said.accuracy_change == (0, 0, 0)
    assert "both versions give the same answers" in str(said)


def test_without_a_label_nothing_is_estimated() -> None:
    said = from_labels(total=10, disagreements=4, old_right=0, new_right=0, unchanged=0)
    assert math.isnan(said.accuracy_change.value)
    assert said.accuracy_change[1:] == (-0.4, 0.4)
    assert '"estimate": null' in said.to_json()


def test_intervals_hold_whatever_is_right_where_a_row_was_skipped() -> None:
    counts = {"total": 400, "disagreements": 40, "unchanged": 6}
    said = from_labels(**counts, old_right=2, new_right=9, skipped=2)
    for old in range(3):
        for new in range(3 - old):
            filled = counts | {"unchanged": 6 + 2 - old - new}
            could_be = from_labels(**filled, old_right=2 + old, new_right=9 + new)
            for name in ("negative_flip_rate", "positive_flip_rate", "accuracy_change"):
                assert getattr(said, name).low <= getattr(could_be, name).low
                assert getattr(said, name).high >= getattr(could_be, name).high
            assert said.p_value >= could_be.p_value
    assert "2 rows before the last labelled one have no label" in str(said)


def test_small_rates_are_not_shown_as_none() -> None:
    said = from_labels(total=100_000, disagreements=20, old_right=4, new_right=0, unchanged=16)
    assert "Worse: accuracy falls by 0.0040 points" in str(said)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"old_right": -1}, "old_right is -1"),
        ({"old_right": True}, "old_right is True"),
        ({"unchanged": 40}, "43 labelled or skipped of 40 disagreements of 100 answers"),
        ({"disagreements": 101}, "of 101 disagreements of 100 answers"),
        ({"level": 95}, "level is 95"),
    ],
)
def test_counts_that_are_none_are_refused(change: dict[str, int], message: str) -> None:
    counts = {"total": 100, "disagreements": 40, "old_right": 1, "new_right": 2, "unchanged": 3}
    with pytest.raises(InputError, match=message):
        from_labels(**counts | change)  # type: ignore[arg-type]
