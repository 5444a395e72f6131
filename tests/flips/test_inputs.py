"""What users hand in is taken as it is meant, and what cannot be meant is refused with its place."""

import enum
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from muscle_hf.errors import InputError
from muscle_hf.flips.agreements import agreement
from muscle_hf.flips.comparison import compare, compare_correct
from muscle_hf.flips.score_comparison import compare_scores


@pytest.mark.parametrize(
    "convert",
    [
        list,
        tuple,
        iter,
        np.array,
        lambda v: np.array(v, dtype=object),
        lambda v: np.array(v, dtype=np.dtypes.StringDType()) if isinstance(v[0], str) else np.array(v, np.int8),
        lambda v: pd.Series(v, index=range(7, 7 + len(v))),
        lambda v: __import__("pyarrow").chunked_array([v]),
        lambda v: np.ma.masked_array(v),
        lambda v: list(np.array(v)),
    ],
    ids=["list", "tuple", "iterator", "array", "object", "narrow", "pandas", "arrow", "masked", "numpy scalars"],
)
@pytest.mark.parametrize("kind", [str, int])
def test_containers_do_not_change_the_counts(convert: Any, kind: type) -> None:
    old, new, gold = [kind(v) for v in (1, 2, 3, 4)], [kind(v) for v in (1, 3, 3, 5)], [kind(v) for v in (1, 2, 4, 5)]
    plain = compare(old=old, new=new, references=gold)
    other = compare(old=convert(old), new=convert(new), references=convert(gold))
    assert other.to_json() == plain.to_json()


def test_gaps_of_arrow_and_masked_arrays_are_not_answers() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    c = compare(old=pyarrow.array([1, None]), new=np.ma.masked_array([1, 1], mask=[False, True]), references=[1, 1])
    assert c.old_accuracy == c.new_accuracy == 0.5
    assert c.both_wrong_same == 1


def test_ids_far_apart_or_beyond_64_bits_are_told_apart() -> None:
    for far in (10**12, 2**63 + 5, 10**30):
        old, new, gold = [0, far, -far], [0, -far, far + 1], [0, far, far]
        near = compare(old=[0, 1, 2], new=[0, 2, 3], references=[0, 1, 1])
        assert compare(old=old, new=new, references=gold).to_json() == near.to_json()
    large = np.array([2**63 + 5, 2**63 + 6], dtype=np.uint64)
    assert compare(old=large, new=large[::-1], references=large).new_accuracy == 0.0
    # hash(-1) == hash(-2) in Python.
    assert agreement(old=[-1, None], new=[-2, None]).kappa == pytest.approx((0.5 - 0.25) / 0.75)


def test_string_enum_members_equal_their_text() -> None:
    class Letter(str, enum.Enum):  # noqa: UP042 - a StrEnum hashes by its value
        A = "a"
        B = "b"

    old = [Letter.A, Letter.B]
    c = compare(old=old, new=["a", "a"], references=["a", "b"])
    assert c.to_json() == compare(old=["a", "b"], new=["a", "a"], references=["a", "b"]).to_json()
    assert old == [Letter.A, Letter.B] and type(old[0]) is Letter, "the caller's list was changed"


_SERIES = pd.Series([1, 2])
COLUMN_ERRORS = [
    (["a"], ["a", "b"], ["a", "b"], r"old has 1, new has 2, references has 2.*join them by id"),
    ([], [], [], r"empty"),
    ("abc", "abc", "abc", r"old is 'abc', but must be a list or array"),
    (3, [3], [3], r"old is a int"),
    ({"a": 1}, ["a"], ["a"], r"old is a dict.*fixed order"),
    (["a", ["b"]], ["a", "b"], ["a", "b"], r"old\[1\] is a list.*one int or string"),
    (["a", {"b": 1}], ["a", "b"], ["a", "b"], r"old\[1\] is a dict"),
    ([1, 2.5], [1, 2], [1, 2], r"old\[1\] is the float 2\.5.*astype\(int\)"),
    (np.array([1.0, 2.0]), [1, 2], [1, 2], r"old\[0\] is the float 1\.0.*compare_scores"),
    ([1, 2.0, math.nan], [1, 2, 3], [1, 2, 3], r"old\[2\] is NaN.*None where a model has no answer"),
    (np.array([1.0, math.nan]), [1, 2], [1, 2], r"old\[1\] is NaN"),
    ([b"a"], ["a"], ["a"], r"old\[0\] is of type bytes"),
    ([1, 2], [1, 2], ["1", "2"], r"old holds ints, new holds ints, references holds strings.*str\(answer\)"),
    ([1, "2"], [1, 2], [1, 2], r"old mixes ints and strings: old\[0\] is 1 and old\[1\] is '2'"),
    (["a", "b"], ["a", "b"], ["a", None], r"references\[1\] is None.*leave instances without one out"),
    (np.zeros((2, 3), int), [1, 2], [1, 2], r"old has shape \(2, 3\).*argmax"),
    (_SERIES, _SERIES.iloc[::-1], [1, 2], r"new has the labels of old in another order.*new\.loc\[old\.index\]"),
    (_SERIES, [1, 2], _SERIES.iloc[::-1], r"references has the labels of old in another order"),
    (np.array(3), [3], [3], r"old has shape \(\)"),
    (np.array(["2020-01-01"], dtype="datetime64[D]"), ["a"], ["a"], r"old\[0\] is of type datetime64"),
    ([np.timedelta64(1, "s")], [1], [1], r"old\[0\] is of type timedelta64"),
    ([np.complex128(1)], [1], [1], r"old\[0\] is of type complex128"),
]


@pytest.mark.parametrize(("old", "new", "references", "message"), COLUMN_ERRORS)
def test_answers_that_would_be_counted_wrong_silently_are_refused(
    old: Any, new: Any, references: Any, message: str
) -> None:
    with pytest.raises(InputError, match=f"(?s){message}"):
        compare(old=old, new=new, references=references)


@pytest.mark.parametrize(
    ("old", "message"),
    [
        ([True, None], r"old\[1\] is None.*False where there is no answer"),
        ([True, 2], r"old\[1\] is 2"),
        (np.array([1, -1]), r"old\[1\] is .*-1"),
        ([True, "a"], r"old\[1\] is 'a'.*use compare for answers"),
        ([1.0, 0.0], r"old\[0\] is 1\.0.*compare_scores"),
        (np.array([1.0, 0.0]), r"old\[0\] is .*1\.0"),
        ([True, np.timedelta64(1, "s")], r"old\[1\] is np\.timedelta64"),
        ([True], r"old has 1, new has 2"),
    ],
)
def test_compare_correct_refuses_what_is_not_right_or_wrong(old: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        compare_correct(old=old, new=[True, False])


def test_compare_correct_takes_zeros_and_ones() -> None:
    expected = compare_correct(old=[True, False], new=[False, False]).to_json()
    for old in ([1, 0], np.array([1, 0], np.uint8), [np.True_, np.False_], np.array([1, 0], object)):
        assert compare_correct(old=old, new=[0, 0]).to_json() == expected


@pytest.mark.parametrize(
    ("old", "message"),
    [
        ([0.5, math.nan, math.nan], r"old\[1\] is nan \(2 such in all\).*finite"),
        ([0.5, 0.5, -math.inf], r"old\[2\] is -inf"),
        ([0.5, None, 0.5], r"old\[1\] is None"),
        (["0.5", "0.5", "0.5"], r"old\[0\] is '0\.5'"),
        ([0.5, [0.5], 0.5], r"old\[1\] is \[0\.5\]"),
        ([10**400, 0, 0], r"too large"),
        ([0.5, np.complex128(0.5), 0.5], r"old\[1\] is np\.complex128"),
        ([0.5, 0.5, 0.5 + 0j], r"old\[2\] is \(0\.5\+0j\)"),
        (np.array([0.5, 0.5, 0.5j]), r"old\[0\] is np\.complex128"),
        ([0.5, np.timedelta64(1, "s"), 0.5], r"old\[1\] is np\.timedelta64"),
        ([0.5, 0.5, np.longdouble("1e4000")], r"old\[2\] is inf"),
        (np.zeros((3, 1)), r"shape \(3, 1\)"),
        ([0.5], r"old has 1, new has 3"),
    ],
)
def test_scores_that_poison_a_mean_are_refused_with_their_place(old: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        compare_scores(old=old, new=[0.5, 0.5, 0.5])


@pytest.mark.parametrize("large", [1e308, -1e308, 1.1e100])
def test_scores_whose_difference_sum_or_square_overflows_are_refused(large: float) -> None:
    for values in ([0.5, large], np.array([0.5, large])):
        with pytest.raises(InputError, match=r"new\[1\] is .*beyond 1e\+100 overflow; scale the scores down"):
            compare_scores(old=[0.5, 0.5], new=values)


def test_the_largest_scores_that_are_taken_overflow_nowhere() -> None:
    large = np.full(6000, 1e100)
    c = compare_scores(old=-large, new=large * np.linspace(-1, 1, 6000), tolerance=1e100)
    for n in (c, compare_scores(old=-large[:50], new=large[:50])):
        figures = [number for rate in n.to_dict()["rates"].values() for number in rate.values()]
        assert not any(map(math.isinf, figures))
