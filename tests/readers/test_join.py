"""Two models' answers are joined by id and nothing else, and what does not fit together is refused by name."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muscle_hf.errors import InputError
from muscle_hf.readers.answers import TaskAnswers, Text, answer_column
from muscle_hf.readers.join import Aligned, align

Row = tuple[Any, Any]
KEYS = st.one_of(
    st.lists(st.text(max_size=3), max_size=12),
    st.lists(st.integers(-3, 12), max_size=12),
    st.lists(st.integers(-(10**40), 10**40) | st.integers(0, 3), max_size=8),
)


def _table(keys: Sequence[Any], source: str = "old.jsonl", **columns: Any) -> TaskAnswers:
    """Answers that say which row they are from."""
    return TaskAnswers(
        "quiz",
        source,
        answer_column(keys),
        answers=columns.pop("answers", pa.array([f"{source} {row}" for row in range(len(keys))], pa.string())),
        texts=lambda places: [Text(f"{source} {place}", None, None) for place in places],
        **columns,
    )


def _plain(keys: pa.Array) -> list[Any]:
    return [key if isinstance(key, str) else int(key) for key in keys.to_pylist()]


def _rows(found: Aligned) -> list[tuple[Any, Any, Any]]:
    assert _plain(found.old.ids) == _plain(found.new.ids)
    sides = (found.old.answers, found.new.answers)
    return [
        *zip(_plain(found.old.ids), *(side.to_pylist() for side in sides if side is not None), strict=True),
    ]


def _refusal(old: TaskAnswers, new: TaskAnswers, **options: bool) -> str:
    with pytest.raises(InputError) as caught:
        align(old, new, **options)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert len(message) < 1000
    return message


# By id ---------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@given(first=KEYS, data=st.data(), allow_missing=st.booleans())
def test_the_join_is_what_a_loop_over_all_pairs_gives(
    first: list[Any], data: st.DataObject, allow_missing: bool
) -> None:
    kind = type(first[0]) if first else str
    more = st.text(max_size=3) if kind is str else st.integers(-3, 12)
    kept = data.draw(st.lists(st.sampled_from(first), max_size=len(first)) if first else st.just([]))
    second = data.draw(st.permutations(kept + data.draw(st.lists(more, max_size=3))))
    if not first or not second:
        return
    expected = [
        (key, f"old.jsonl {i}", f"new.jsonl {j}")
        for i, key in enumerate(first)
        for j, other in enumerate(second)
        if key == other
    ]
    whole = len(expected) == len(first) == len(second)
    old, new = _table(first), _table(second, "new.jsonl")
    if len(set(first)) < len(first) or len(set(second)) < len(second):
        assert "more than once" in _refusal(old, new, allow_missing=allow_missing)
    elif not expected:
        assert "no id in common" in _refusal(old, new, allow_missing=allow_missing)
    elif not whole and not allow_missing:
        assert "must have answered the same instances" in _refusal(old, new)
    else:
        found = align(old, new, allow_missing=allow_missing)
        assert _rows(found) == expected
        for side, column in ((found.old, 1), (found.new, 2)):
            texts = side.read_texts(np.arange(len(expected)))
            assert [text.question for text in texts] == [row[column] for row in expected]
        counts = [len(set(a) - set(b)) for a, b in ((first, second), (second, first))]
        assert list(found.notes) == (
            []
            if whole
            else [
                f"quiz: {len(expected)} common instances compared, {counts[0]} only in old.jsonl and {counts[1]} only "
                "in new.jsonl left out"
            ]
        )


def test_ids_that_only_one_file_has_are_counted_on_both_sides() -> None:
    message = _refusal(_table([1, 2, 3, 4, 5, 6]), _table([6, 7, 5], "new.jsonl"))
    assert message == (
        "new.jsonl lacks 4 of the 6 ids of old.jsonl, for instance 1, 2, 3, …; old.jsonl lacks 1 of the 3 ids of "
        "new.jsonl, for instance 7. Both models must have answered the same instances; --allow-missing "
        "(allow_missing=True) compares the 2 that both have. --missing wrong (missing=) counts the others as wrong."
    )


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        (
            ["e\u0301", "b"],
            ["\u00e9", "b"],
            "; 1 id of old.jsonl would stand in new.jsonl with other white space, case or Unicode form, such as ",
        ),
        (
            ["Q1", "q2 ", "b"],
            ["q1", "q2", "b"],
            "; 2 ids of old.jsonl would stand in new.jsonl with other white space, case or Unicode form, such as",
        ),
        (
            ["x" * 200 + "A", "b"],
            ["x" * 200 + "a", "b"],
            "; 1 id of old.jsonl would stand in new.jsonl with other white space, case or Unicode form.",
        ),
        (["a", "b"], ["c", "b"], ""),
        (["a", "b"], ["b"], ""),
        ([1, 2], [2, 3], ""),
    ],
)
def test_ids_that_look_alike_are_missing_without_a_word_why(first: list[Any], second: list[Any], told: str) -> None:
    message = _refusal(_table(first), _table(second, "new.jsonl"))
    assert (told in message) if told else ("Unicode" not in message)
    found = align(_table(first), _table(second, "new.jsonl"), allow_missing=True)
    assert ("Unicode" in found.notes[0]) == bool(told)


def test_the_example_of_ids_that_look_alike_shows_what_differs() -> None:
    message = _refusal(_table(["e\u0301"]), _table(["\u00e9"], "new.jsonl"))
    assert "Unicode form, such as 'e\\u0301' and '\\xe9'. They have no id in common" in message


def test_files_without_a_common_id_are_refused_even_where_gaps_are_allowed() -> None:
    message = _refusal(_table(["a"]), _table(["b", "c"], "new.jsonl"), allow_missing=True)
    assert message.endswith("They have no id in common, so nothing can be compared.")
    assert "lacks 1 of the 1 ids of old.jsonl, for instance 'a'; old.jsonl lacks 2 of the 2 ids" in message


def test_ids_that_stand_twice_are_counted_in_either_file() -> None:
    clean, twice = ["a", "b", "c"], ["a", "b", "c", "b", "a", "a"]
    for first, second in ((clean, twice), (twice, clean), (twice, twice)):
        for allow_missing in (False, True):
            message = _refusal(_table(first), _table(second, "new.jsonl"), allow_missing=allow_missing)
            assert "2 ids stand more than once, for instance 'a', 'b'." in message
            assert message.startswith("new.jsonl" if first == clean else "old.jsonl")


@pytest.mark.parametrize("flip", [False, True])
def test_ids_written_as_text_in_one_file_only_are_explained(flip: bool) -> None:
    keys: list[list[Any]] = [[1, 2], ["1", "2"]]
    keys = keys[::-1] if flip else keys
    message = _refusal(_table(keys[0]), _table(keys[1], "new.jsonl"))
    kinds = ("strings", "integers") if flip else ("integers", "strings")
    assert message.startswith(f"the ids of old.jsonl are {kinds[0]} and those of new.jsonl are {kinds[1]}: 1 and '1'")


def test_small_ids_meet_ids_of_thirty_digits() -> None:
    found = align(_table([1, 10**30]), _table([10**30, 1], "new.jsonl"))
    assert _rows(found) == [(1, "old.jsonl 0", "new.jsonl 1"), (10**30, "old.jsonl 1", "new.jsonl 0")]
    found = align(_table([1, 10**30]), _table([1], "new.jsonl"), allow_missing=True)
    assert _rows(found) == [(1, "old.jsonl 0", "new.jsonl 0")]


@pytest.mark.slow
def test_a_million_ids_that_do_not_match_make_one_short_message_at_once() -> None:
    count = 1_000_000
    ids = pa.array(np.arange(count))
    old = TaskAnswers("quiz", "old.jsonl", ids, scores=np.zeros(count))
    new = TaskAnswers("quiz", "new.jsonl", pa.array(np.arange(count) + count), scores=np.zeros(count))
    twice = TaskAnswers("quiz", "new.jsonl", pa.array(np.arange(count) // 2), scores=np.zeros(count))
    start = time.process_time()
    assert "lacks 1000000 of the 1000000 ids" in _refusal(old, new)
    assert "500000 ids stand more than once, for instance 0, 1, 2, …" in _refusal(old, twice)
    other = TaskAnswers("quiz", "new.jsonl", ids, scores=np.zeros(count), documents=pa.array(np.arange(count)))
    same = TaskAnswers("quiz", "old.jsonl", ids, scores=np.zeros(count), documents=pa.array(np.arange(count) + 1))
    assert "the documents of 1000000 of 1000000 ids differ" in _refusal(same, other)
    assert time.process_time() - start < 10


def test_a_huge_id_or_answer_does_not_make_a_huge_message() -> None:
    long = "x" * 1_000_000
    _refusal(_table([long + "a"]), _table([long + "b"], "new.jsonl"))
    _refusal(_table([long, long]), _table([long, long], "new.jsonl"))
    first, second = (_table([1], references=pa.array([long + end])) for end in "ab")
    assert "the right answers of 1 of 1 ids differ" in _refusal(first, second)


# By position ---------------------------------------------------------------------------------------------------------


def _numbered(source: str, count: int = 2, file: str | None = None) -> TaskAnswers:
    return _table(range(count), source, row_ids_of=file or source)


def test_rows_of_one_file_are_joined_by_their_number_and_of_two_files_only_when_asked() -> None:
    assert len(_rows(align(_numbered("a.csv:v1", file="a.csv"), _numbered("a.csv:v2", file="a.csv")))) == 2
    message = _refusal(_numbered("a.csv"), _numbered("b.csv"))
    assert message.startswith("a.csv has no column 'id'")
    assert "--by-position (by_position=True)" in message
    assert _rows(align(_numbered("a.csv"), _numbered("b.csv"), by_position=True)) == [
        (0, "a.csv 0", "b.csv 0"),
        (1, "a.csv 1", "b.csv 1"),
    ]


@pytest.mark.parametrize("flip", [False, True])
def test_the_file_that_has_no_ids_is_the_one_that_is_named(flip: bool) -> None:
    sides = [_numbered("rows.csv"), _table([0, 1], "ids.csv")]
    assert _refusal(*(sides[::-1] if flip else sides)).startswith("rows.csv has no column 'id'")


def test_files_of_other_lengths_are_not_joined_by_position() -> None:
    message = _refusal(_numbered("a.csv", 2), _numbered("b.csv", 3), by_position=True)
    assert message.startswith("a.csv has 2 rows and b.csv has 3: joined by position")


def test_ids_that_say_otherwise_are_noted_where_rows_are_joined_by_position() -> None:
    found = align(_table([1, 2]), _table([2, 1], "new.jsonl"), by_position=True)
    assert found.notes == ("quiz: joined by position although both have ids, which differ",)
    assert align(_table([1, 2]), _table([1, 2], "new.jsonl"), by_position=True).notes == ()
    assert align(_table([1, 2]), _numbered("b.csv"), by_position=True).notes == ()


# What has to be the same ---------------------------------------------------------------------------------------------


def test_right_answers_that_differ_are_counted_and_shown() -> None:
    old = _table([*"abcdef"], references=pa.array([*"ABCDEF"]))
    new = _table([*"fedcba"], "new.jsonl", references=pa.array([*"XXXXXA"]))
    message = _refusal(old, new)
    assert message == (
        "the right answers of 5 of 6 ids differ between old.jsonl and new.jsonl, for instance 'b' ('B' and 'X'), "
        "'c' ('C' and 'X'), 'd' ('D' and 'X'), …. Both must be about the same data; --allow-missing "
        "(allow_missing=True) leaves these out."
    )


@pytest.mark.parametrize("name", ["documents", "targets", "references"])
def test_instances_that_differ_are_left_out_and_counted_where_gaps_are_allowed(name: str) -> None:
    old = _table([1, 2, 3], **{name: pa.array([*"abc"])})
    new = _table([3, 2, 1], "new.jsonl", **{name: pa.array([*"cxa"])})
    what = "documents" if name == "documents" else "right answers"
    assert f"the {what} of 1 of 3 ids differ" in _refusal(old, new)
    found = align(old, new, allow_missing=True)
    assert [row[0] for row in _rows(found)] == [1, 3]
    assert found.notes == (f"quiz: 1 instances left out: their {what} differ",)


def test_an_instance_is_left_out_once_whatever_differs_about_it() -> None:
    old = _table([1, 2, 3, 4], documents=pa.array([*"abcd"]), targets=pa.array([*"abcd"]))
    new = _table([1, 2, 3, 5], "new.jsonl", documents=pa.array([*"xbcd"]), targets=pa.array([*"xyce"]))
    found = align(old, new, allow_missing=True)
    assert [row[0] for row in _rows(found)] == [3]
    assert found.notes == (
        "quiz: 3 common instances compared, 1 only in old.jsonl and 1 only in new.jsonl left out",
        "quiz: 1 instances left out: their documents differ",
        "quiz: 1 instances left out: their right answers differ",
    )


def test_files_of_which_nothing_is_left_are_refused() -> None:
    old, new = (_table([1, 2], documents=pa.array(list(text))) for text in ("ab", "cd"))
    message = _refusal(old, new, allow_missing=True)
    assert message.startswith("nothing is left to compare in old.jsonl and old.jsonl: 2 instances left out")


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(
    ("first", "second", "is_noted"),
    [([0.2, 1.0], [25.0, 90.0], True), ([0.0, 1.0], [0.0, 100.0], True), ([0.2, 1.0], [0.1, 1.0], False),
     ([0.9, 1.0], [1.1, 0.8], False), ([0.0, 0.0], [20.0, 90.0], False), ([-0.5, 1.0], [20.0, 30.0], False)],
)  # fmt: skip
def test_scores_of_which_one_side_is_in_per_cent_are_noted(
    first: list[float], second: list[float], is_noted: bool, flip: bool
) -> None:
    sides = [_table([1, 2], f"{n}.csv", scores=np.array(scores)) for n, scores in enumerate((first, second))]
    notes = align(*(sides[::-1] if flip else sides)).notes
    assert [note for note in notes if "in per cent" in note] == (
        [f"quiz: the scores of 0.csv are {np.mean(first):.4g} in the mean and those of 1.csv {np.mean(second):.4g}: "
         "is one in per cent?"] if is_noted else []
    )  # fmt: skip


def test_other_prompts_are_only_noted() -> None:
    old, new = (_table([1, 2, 3], prompts=pa.array(list(text))) for text in ("abc", "abd"))
    assert align(old, new).notes == ("quiz: 1 of 3 prompts differ (other chat templates or examples?)",)
    assert align(old, old).notes == ()


def test_what_only_one_file_knows_is_not_compared_with_something_else() -> None:
    # The digest of a right answer on one side, the right answer itself on the other.
    old = _table([1, 2], targets=pa.array(["digest", "digest"]))
    new = _table([1, 2], answers=pa.array([1, 2]), references=pa.array([1, 2]))
    assert len(align(_table([1, 2], answers=None, targets=old.targets), new).old) == 2


@pytest.mark.parametrize("options", [{}, {"allow_missing": True}, {"by_position": True}])
def test_other_metrics_or_directions_are_refused(options: Mapping[str, bool]) -> None:
    scores = {"scores": np.zeros(1), "answers": None}
    bleu, rouge = (_table([1], metric=name, **scores) for name in ("bleu", "rouge"))
    assert "'bleu' (higher is better) and old.jsonl 'rouge'" in _refusal(bleu, rouge, **options)
    down = _table([1], metric="bleu", higher_is_better=False, **scores)
    assert "'bleu' (lower is better)" in _refusal(bleu, down, **options)


# Types ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "name"), [("7", "numbers"), ("true", "booleans")])
def test_answers_that_are_text_on_one_side_only_are_refused(text: str, name: str) -> None:
    old = _table([1], answers=pa.array([7]), references=pa.array([7]))
    new = _table([1], answers=pa.array([text]), references=pa.array([text]))
    # Also where both are called the same, as two columns of one run may be.
    for other in (new, _table([1], "old.jsonl", answers=new.answers, references=new.references)):
        message = _refusal(old, other)
        assert "the answers of old.jsonl are integers" in message
        assert "are strings: 1 and '1' are different answers" in message
        assert f"--normalize {name} (normalize='{name}')" in message


def test_a_model_that_never_answered_is_compared_with_one_that_did() -> None:
    none = _table([1, 2], answers=pa.array([None, None], pa.string()), references=pa.array([7, 8]))
    some = _table([1, 2], "new.jsonl", answers=pa.array([7, 9]), references=pa.array([7, 8]))
    for old, new in ((none, some), (some, none), (none, none)):
        found = align(old, new)
        assert found.old.answers.type == found.new.answers.type == found.old.references.type  # type: ignore[union-attr]
        assert found.old.values().tolist() == [float(old is some), 0.0]


def test_answers_of_thirty_digits_meet_small_ones() -> None:
    old = _table([1], answers=pa.array([7]), references=pa.array([7]))
    new = _table([1], answers=answer_column([10**30]), references=pa.array([7]))
    found = align(old, new)
    assert (found.old.values().tolist(), found.new.values().tolist()) == ([1.0], [0.0])


def test_notes_of_both_files_are_kept_once() -> None:
    old, new = _table([1], notes=("same", "old")), _table([1], notes=("same", "new"))
    assert align(old, new).notes == ("same", "old", "new")
