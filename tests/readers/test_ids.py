"""Tests of ids told in order and as numbers: what is fast must never join, or tell apart, otherwise than the texts."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muscle_hf.readers.ids import ascending, numbered


@pytest.mark.parametrize(
    ("ids", "in_order"),
    [
        (["q-1", "q-2", "q-10"], True),
        (["q-1", "q-10", "q-2"], False),
        (["a", "a"], False),
        (["a"] * 2_000, False),
        ([*map(str, range(2_000)), "1999"], False),
        ([1, 2, 3], True),
        ([1, 3, 3], False),
        (["ä", "z"], False),
        (["one"], True),
    ],
)
def test_ids_in_order_are_told_from_others_and_from_those_that_stand_twice(ids: list[str], in_order: bool) -> None:
    assert ascending(pa.array(ids)) is in_order


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (["q1", "q2"], ["q2", "q1"]),
        (["7", "07"], ["007", "7"]),
        (["07", "08"], ["08", "09"]),
        (["0x1", "001"], ["001", "0x1"]),
        (["0", "-0"], ["-0", "0"]),
        (["1", "+1", " 1"], ["1 ", "1", "+1"]),
        (["q1", "q"], ["r1", "q1"]),
        (["q-1", "q-q-1"], ["q-2", "q-1"]),
        (["a1-1", "a1-11"], ["a1-11", "a1-1"]),
        (["10", "1"], ["11", "1"]),
        (["1" * 30, "1" * 31], ["1" * 31, "1" * 30]),
        (["é1", "é2"], ["é2", "e1"]),
        (["１", "1"], ["1", "１"]),  # noqa: RUF001 - a full-width digit
        ([2**62, -(2**62)], [-(2**62), 0]),
        ([5, 7], [7, 6]),
    ],
)
def test_equal_numbers_mean_equal_ids(old: list[str], new: list[str]) -> None:
    _same_as_values(old, new)


_TEXTS = st.lists(st.from_regex(r"(q-?)?[+-]?0{0,2}(0x)?[0-9]{0,3}", fullmatch=True), min_size=1)


@pytest.mark.slow
@given(_TEXTS, _TEXTS)
def test_ids_nearly_numbers_are_told_apart_as_texts_are(old: list[str], new: list[str]) -> None:
    _same_as_values(old, new)
    assert not ascending(pa.array(old)) or len(set(old)) == len(old)


def test_a_text_far_behind_numbers_is_told_from_them() -> None:
    _same_as_values([*map(str, range(1_500)), "01"], ["x", *map(str, range(1_500))])


def _same_as_values(old: list[str], new: list[str]) -> None:
    numbers = np.concatenate(numbered(pa.array(old), pa.array(new)))
    values = np.array([*old, *new], dtype=object)
    assert numbers.min() >= 0
    np.testing.assert_array_equal(numbers[:, None] == numbers, values[:, None] == values)
