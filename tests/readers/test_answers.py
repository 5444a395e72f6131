"""The common form of answers: what is shortened stays told apart, and messages stay one readable line."""

import json
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muscle_hf.errors import InputError
from muscle_hf.readers.answers import (
    BIG,
    LONG,
    Shown,
    TaskAnswers,
    Text,
    answer_column,
    codes,
    digest,
    label,
    short,
    shorten,
    some,
)
from muscle_hf.text import one_line, quote

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def _answers(**columns: Any) -> TaskAnswers:
    return TaskAnswers("quiz", "v1.jsonl", pa.array(["a", "b", "c"]), **columns)


# Columns -------------------------------------------------------------------------------------------------------------


@given(values=st.lists(st.none() | st.text()) | st.lists(st.none() | st.integers(-(10**76) + 1, 10**76 - 1)))
def test_no_text_and_no_integer_is_changed_in_a_column(values: list[Any]) -> None:
    column = answer_column(values)
    found = [
        None if value is None else value if isinstance(value, str) else int(value) for value in column.to_pylist()
    ]
    assert found == values


def test_an_integer_of_more_than_76_digits_is_refused_and_no_traceback() -> None:
    assert answer_column([10**75, None]).type == BIG
    with pytest.raises(InputError, match="more than 76 digits; write such ids and answers as strings"):
        answer_column([1, -(10**76)])


def test_lone_surrogates_that_differ_stay_different() -> None:
    column = answer_column(["\ud800", "\ud801", "é\udfff", "é"])
    assert len(column.unique()) == 4
    assert column[3].as_py() == "é"


@given(texts=st.lists(st.text(max_size=5), min_size=2, max_size=2, unique=True), count=st.integers(0, 200))
def test_texts_are_the_same_after_shortening_only_where_they_were_before(texts: list[str], count: int) -> None:
    padded = ["€" * count + text for text in texts]
    first, second = shorten(pa.array(padded)).to_pylist()
    assert first != second
    for before, after in zip(padded, (first, second), strict=True):
        assert after == before if len(before.encode()) <= LONG else len(after.encode()) < 1000
        assert after == short(before)


def test_only_texts_above_the_limit_are_shortened() -> None:
    column = pa.array(["x" * LONG, "x" * (LONG + 1), None, "é" * (LONG // 2), "é" * (LONG // 2 + 1)])
    kept = shorten(column).to_pylist()
    assert [before == after for before, after in zip(column.to_pylist(), kept, strict=True)] == [1, 0, 1, 1, 0]
    assert shorten(pa.array([1, None])).to_pylist() == [1, None]


def test_two_long_texts_with_one_beginning_stay_two() -> None:
    base = "word " * 1000
    assert short(base + "a") != short(base + "b")
    assert short(base + "a")[:30] == base[:30]


@pytest.mark.slow
@given(columns=st.lists(st.lists(st.none() | st.sampled_from("abc"), min_size=1), min_size=1, max_size=4))
def test_equal_codes_mean_equal_values_and_nothing_else(columns: list[list[str | None]]) -> None:
    found = codes(*(pa.array(values, pa.string()) for values in columns))
    flat = [value for values in columns for value in values]
    numbers = [number for column in found for number in column.tolist()]
    assert all((number == -1) == (value is None) for number, value in zip(numbers, flat, strict=True))
    pairs = {(value, number) for value, number in zip(flat, numbers, strict=True)}
    assert len(pairs) == len(set(flat)) == len(set(numbers))


# Taking rows ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@given(data=st.data())
def test_rows_taken_twice_keep_every_column_and_their_texts(data: st.DataObject) -> None:
    size = 6
    table = TaskAnswers(
        "quiz",
        "v1.jsonl",
        pa.array(range(size)),
        answers=pa.array([f"a{i}" for i in range(size)]),
        references=pa.array([f"r{i}" for i in range(size)]),
        scores=np.arange(size, dtype=np.float64),
        samples=np.arange(size),
        documents=pa.array([f"d{i}" for i in range(size)]),
        targets=pa.array([f"t{i}" for i in range(size)]),
        prompts=pa.array([f"p{i}" for i in range(size)]),
        slices={"group": pa.array([f"g{i}" for i in range(size)])},
        texts=lambda places: [Text(str(place), None, None) for place in places],
    )
    places = list(range(size))
    for _ in range(2):
        chosen = data.draw(st.lists(st.integers(0, len(table) - 1), min_size=1, max_size=8))
        table, places = table.take(np.array(chosen)), [places[index] for index in chosen]
        assert table.ids.to_pylist() == places
        for name in ("answers", "references", "documents", "targets", "prompts"):
            assert getattr(table, name).to_pylist() == [f"{name[0]}{place}" for place in places]
        assert table.scores is not None and table.samples is not None
        assert table.scores.tolist() == table.samples.tolist() == places
        assert table.slices["group"].to_pylist() == [f"g{place}" for place in places]
        everything = np.arange(len(table))[::-1]
        assert [text.question for text in table.read_texts(everything)] == [str(place) for place in places[::-1]]


def test_a_file_without_texts_shows_none_for_each_row() -> None:
    assert _answers().read_texts(np.array([2, 0])) == [Text(None, None, None)] * 2


# What answers are worth ----------------------------------------------------------------------------------------------


def test_no_answer_is_wrong_and_not_unknown() -> None:
    found = _answers(answers=pa.array(["x", None, "y"]), references=pa.array(["x", "x", "x"])).values()
    assert found.tolist() == [1.0, 0.0, 0.0]


def test_scores_where_lower_is_better_are_turned_around() -> None:
    table = _answers(scores=np.array([0.5, 1.0, 0.0]), higher_is_better=False)
    assert table.values().tolist() == [-0.5, -1.0, 0.0]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite_are_counted_and_the_first_named(bad: float) -> None:
    with pytest.raises(InputError) as caught:
        _answers(scores=np.array([0.5, bad, bad]), metric="rouge").values()
    assert str(caught.value).startswith(
        f"v1.jsonl: 2 of 3 scores (rouge) are not finite numbers, the first {bad} of id 'b'. "
    )


def test_answers_without_right_ones_and_without_scores_are_refused() -> None:
    with pytest.raises(InputError, match="neither scores nor answers with right ones"):
        _answers(answers=pa.array(["x", "y", "z"])).values()


# Messages ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@given(value=ANYTHING)
def test_whatever_is_quoted_is_one_short_line(value: Any) -> None:
    shown = quote(value)
    assert len(shown.splitlines()) == 1
    assert len(shown) < 100


@pytest.mark.slow
def test_a_message_does_not_hold_a_megabyte_or_a_million_examples() -> None:
    assert len(quote("x" * 1_000_000)) < 100
    assert quote("x" * 1_000_000).endswith("… (1000002 characters)")
    assert some(pa.array(range(1_000_000))) == "0, 1, 2, …"
    assert some([1, 2, 3]) == "1, 2, 3"
    assert some([Shown("1 (2 and 3)")]) == "1 (2 and 3)"
    assert len(some(["x" * 1_000_000] * 5)) < 300
    assert len(one_line("word\n" * 1_000_000)) < 400
    assert one_line("a\n b\t c") == "a b c"


@pytest.mark.parametrize(
    ("value", "shown"), [("1", "'1'"), (1, "1"), (None, "null"), (True, "true"), ([1], "an array"), ({}, "an object")]
)
def test_values_are_quoted_as_a_file_has_them(value: Any, shown: str) -> None:
    assert quote(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(None, None), ("x", "x"), (1, "1"), (1.0, "1.0"), (True, "true"), ([1, "a"], '[1, "a"]')]
)
def test_groups_are_named_by_their_value(value: Any, shown: str | None) -> None:
    assert label(value) == shown


@pytest.mark.slow
@given(first=ANYTHING, second=ANYTHING)
def test_digests_are_equal_for_equal_json_and_only_for_that(first: Any, second: Any) -> None:
    def written(value: Any) -> str:
        return value if isinstance(value, str) else json.dumps(value, sort_keys=True)

    assert digest(first) == digest(json.loads(json.dumps(first)))
    assert (digest(first) == digest(second)) == (written(first) == written(second))
