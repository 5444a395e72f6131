"""What is the same answer: a file must not break answers by how it spells them, and no guess is made in silence."""

import csv
import itertools
import json
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from muscle_hf import InputError, compare_runs, read
from muscle_hf.cli import main
from muscle_hf.flips.answers.number_texts import ANY_NUMBER, NUMBER, canonical
from muscle_hf.flips.answers.same_answer import NAMES, NUMBERS, of_kind, respell
from muscle_hf.flips.answers.spelled_otherwise import spelled_otherwise
from muscle_hf.flips.comparison import Comparison
from muscle_hf.runs.run_comparison import RunComparison

GOLD = [1, 0, 1, 1, 0, 1]
OLD = [1, 0, 1, 0, 0, 1]
NEW = [1, 0, None, 1, 0, 1]
"""One broken (row 2: no answer), one repaired (row 3)."""


def write(path: Path, columns: dict[str, Sequence[Any]]) -> Path:
    """Write columns of values; a text in a CSV file stands as it is, None as nothing."""
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    if path.suffix == ".parquet":
        pq.write_table(pa.table(dict(columns)), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writerows([list(columns), *columns_of(columns)])
    return path


def columns_of(columns: dict[str, Sequence[Any]]) -> list[list[Any]]:
    return [list(values) for values in zip(*columns.values(), strict=True)]


def floats(values: Sequence[int | None]) -> list[float | None]:
    return [None if value is None else float(value) for value in values]


def texts(values: Sequence[int | None]) -> list[str | None]:
    return [None if value is None else str(value) for value in values]


def table(path: Path, answers: Sequence[Any], references: Sequence[Any] = GOLD, **more: Sequence[Any]) -> Path:
    return write(path, {"id": range(len(answers)), "prediction": answers, "reference": references, **more})


def flips(result: RunComparison) -> tuple[int, int]:
    compared = result.tasks[0].comparison
    assert isinstance(compared, Comparison)
    return len(compared.negative_flips), len(compared.positive_flips)


def refusal(*sources: Any, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        compare_runs(*sources, **options)
    text = str(caught.value)
    assert len(text.splitlines()) == 1
    return text


# One column of integers with a gap, in every spelling that pandas gives it ------------------------------------------

SIDES = {
    "csv": ("a.csv", floats, GOLD),
    "csv, right answers as floats too": ("b.csv", floats, floats(GOLD)),
    "csv, integers": ("c.csv", list, GOLD),
    "tsv": ("d.tsv", floats, GOLD),
    "parquet, floats": ("e.parquet", floats, GOLD),
    "parquet, both floats": ("f.parquet", floats, floats(GOLD)),
    "parquet, integers": ("g.parquet", list, GOLD),
    "jsonl, floats": ("h.jsonl", floats, GOLD),
    "jsonl, integers": ("i.jsonl", list, GOLD),
}


@pytest.mark.slow
@pytest.mark.parametrize(("old", "new"), list(itertools.product(SIDES, SIDES)))
def test_integers_that_pandas_wrote_as_floats_do_not_break_every_answer(tmp_path: Path, old: str, new: str) -> None:
    (tmp_path / "old").mkdir()
    first_name, first, first_gold = SIDES[old]
    second_name, second, second_gold = SIDES[new]
    before = table(tmp_path / "old" / first_name, first(OLD), first_gold)
    after = table(tmp_path / second_name, second(NEW), second_gold)
    result = compare_runs(before, after)
    assert flips(result) == (1, 1)
    broken, repaired = result.flips()
    assert (broken.id, broken.reference, broken.old_answer, broken.new_answer) in (
        (i, "1", "1", None) for i in (2, "2")
    )
    assert (repaired.reference, repaired.old_answer, repaired.new_answer) == ("1", "0", "1")
    assert flips(compare_runs(after, before)) == (1, 1)


@pytest.mark.parametrize("kind", ["csv", "tsv"])
@pytest.mark.parametrize("other", ["jsonl", "parquet"])
def test_a_file_without_types_meets_numbers_that_are_texts_elsewhere(tmp_path: Path, kind: str, other: str) -> None:
    before = table(tmp_path / f"old.{other}", texts(OLD), texts(GOLD))
    after = table(tmp_path / f"new.{kind}", floats(NEW), GOLD)
    assert flips(compare_runs(before, after)) == flips(compare_runs(after, before)) == (1, 1)


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet", "jsonl"])
def test_two_columns_of_one_wide_table_of_which_one_has_a_gap(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / f"wide.{kind}", {"gold": GOLD, "old": OLD, "new": floats(NEW)})
    for first, second in (("old", "new"), ("new", "old")):
        result = compare_runs(f"{path}:{first}", f"{path}:{second}", columns={"reference": "gold"})
        assert flips(result) == (1, 1)


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl"])
def test_ids_and_groups_that_became_floats_are_the_same_ids_and_groups(tmp_path: Path, kind: str) -> None:
    year = [1999, 1999, 2000, 2000, 2000, 2000]
    before = write(tmp_path / "old.csv", {"id": range(6), "year": year, "prediction": OLD, "reference": GOLD})
    after = write(
        tmp_path / f"new.{kind}",
        {"id": floats(range(6)), "year": floats([*year[:-1], None]), "prediction": NEW, "reference": GOLD},
    )
    result = compare_runs(before, after, by="year")
    assert flips(result) == (1, 1)
    assert [part.name for part in result.slices["year"]] == ["2000", "1999"]
    swapped = compare_runs(after, before, by="year")
    assert sorted(part.name for part in swapped.slices["year"]) == ["(none)", "1999", "2000"]
    assert flips(swapped) == (1, 1)


def test_sampled_answers_that_became_floats_keep_their_shares(tmp_path: Path) -> None:
    rows = {
        "id": [1, 1, 2, 2],
        "sample": [0.0, 1.0, 0.0, 1.0],
        "prediction": [1.0, 0.0, "", 1.0],
        "reference": [1] * 4,
    }
    assert next(iter(read(write(tmp_path / "a.csv", rows)).tasks.values())).values().tolist() == [0.5, 0.5]
    listed = {"id": [1, 2], "prediction": [[1.0, 0.0], [None, 1.0]], "reference": [1, 1]}
    for name in ("a.jsonl", "a.parquet"):
        assert next(iter(read(write(tmp_path / name, listed)).tasks.values())).values().tolist() == [0.5, 0.5]


# What a number is ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answers", "gold", "right"),
    [
        pytest.param(["9007199254740993", "9007199254740992"], ["9007199254740993"] * 2, 1, id="beyond a float"),
        pytest.param(["1" + "0" * 30, "1" + "0" * 29 + "1"], ["1" + "0" * 30] * 2, 1, id="thirty digits"),
        pytest.param(["1e3", "1E+03", "1000.0", "1000"], ["1000"] * 4, 4, id="exponents"),
        pytest.param(["-0", "-0.0", "0", "+0"], ["0"] * 4, 3, id="minus zero"),
        pytest.param(["0.50", ".5", "5e-1", "0.5"], ["0.5"] * 4, 3, id="fractions"),
        pytest.param(["7", "007", "7.0"], ["7"] * 3, 2, id="a leading zero is a code"),
        pytest.param(["007", "7"], ["007"] * 2, 1, id="right answers that are codes"),
        pytest.param(["1.1", "1.10", "1.0"], ["1.1", "1.10", "1"], 2, id="right answers that are section numbers"),
        pytest.param(["1.0", "unknown", "1"], ["1", "1", "1"], 2, id="an answer that is no number"),
        pytest.param(["1.0", "1"], ["1", "one"], 0, id="right answers that are not all numbers"),
        pytest.param(["True", "TRUE", "true", "no"], ["true"] * 4, 3, id="truth values"),
        pytest.param([" 1", "1 ", "\t1.0", "\u00a01"], ["1"] * 4, 4, id="spaces around numbers"),
        pytest.param([" A", "A ", "A", "a"], ["A"] * 4, 3, id="spaces around texts"),
        pytest.param(["1e999999999", "1e-999999999", "1"], ["1"] * 3, 1, id="an exponent that would fill the memory"),
        pytest.param(["inf", "1"], ["1"] * 2, 1, id="infinite"),
    ],
)
def test_a_csv_file_counts_an_answer_as_right_as_the_rule_says(
    tmp_path: Path, answers: list[str], gold: list[str], right: int
) -> None:
    found = next(iter(read(table(tmp_path / "a.csv", answers, gold)).tasks.values()))
    assert found.values().sum() == right


@pytest.mark.slow
@settings(max_examples=200)
@given(number=st.decimals(allow_nan=False, allow_infinity=False), other=st.integers(-(10**30), 10**30))
def test_equal_numbers_are_spelled_the_same_and_no_others(number: Decimal, other: int) -> None:
    spellings = [str(number), f"{number:e}", f"{other}", f"{other}.0", f"{other}e0"]
    if abs(number.adjusted()) < 200:
        spellings.append(f"{number:f}")
    for pattern in (NUMBER, ANY_NUMBER):
        column = canonical(pa.array(spellings), pattern).to_pylist()
        for first, second in itertools.combinations(range(len(spellings)), 2):
            values = Decimal(spellings[first]), Decimal(spellings[second])
            assert (column[first] == column[second]) is (values[0] == values[1])


@pytest.mark.slow
@pytest.mark.parametrize("gap", ["", "nan", "NaN", "None", "NULL", "null", "NA", "N/A", "<NA>", "\\N", "   "])
def test_a_gap_in_a_column_of_numbers_is_no_answer_however_it_is_written(tmp_path: Path, gap: str) -> None:
    before = table(tmp_path / "old.csv", OLD)
    after = table(tmp_path / "new.csv", [1, 0, gap, 1, 0, 1])
    result = compare_runs(before, after)
    assert flips(result) == (1, 1)
    assert next(result.flips()).new_answer is None
    empty = table(tmp_path / "empty.csv", [1, 0, "", 1, 0, 1])
    same = compare_runs(empty, after).tasks[0].comparison
    assert isinstance(same, Comparison) and same.both_wrong_same == 1, "two gaps are the same"


@pytest.mark.parametrize("gap", ["NA", "None", "null", "nan"])
def test_among_texts_a_word_for_a_gap_is_an_answer(tmp_path: Path, gap: str) -> None:
    found = next(iter(read(table(tmp_path / "a.csv", [gap, "DE"], [gap, "DE"])).tasks.values()))
    assert found.values().tolist() == [1.0, 1.0]


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_fractions_with_a_type_are_compared_as_numbers(tmp_path: Path, kind: str) -> None:
    typed = table(tmp_path / f"a.{kind}", [72.0, 72.5, 0.1], [72.0, 72.5, 0.2])
    whole = table(tmp_path / f"b.{kind}", [72, 72, 1], [72, 72.5, 0.2])
    plain = table(tmp_path / "c.csv", ["72", "72.50", "1e-1"], ["72.0", "72.5", "0.2"])
    for old, new, expected in ((typed, whole, (1, 0)), (whole, plain, (0, 1)), (typed, plain, (0, 0))):
        assert flips(compare_runs(old, new)) == expected
        assert flips(compare_runs(new, old)) == expected[::-1]


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_truth_values_meet_the_words_that_a_csv_file_makes_of_them(tmp_path: Path, kind: str) -> None:
    before = table(tmp_path / f"a.{kind}", [True, False], [True, True])
    after = table(tmp_path / "b.csv", ["False", "True"], ["True", "True"])
    assert flips(compare_runs(before, after)) == flips(compare_runs(after, before)) == (1, 1)


@pytest.mark.parametrize(
    ("name", "answers", "gold"),
    [
        ("a.csv", ["9007199254740992.0", "1.0"], ["9007199254740993", "1"]),
        ("a.csv", ["9.007199254740992e+15", "1.0"], ["9007199254740993", "1"]),
        ("a.parquet", [2.0**53, 1.0], [2**53 + 1, 1]),
        ("a.jsonl", [2.0**53, 1.0], [2**53 + 1, 1]),
    ],
)
def test_large_integers_that_went_through_a_float_are_not_compared_as_if_whole(
    tmp_path: Path, name: str, answers: list[Any], gold: list[Any]
) -> None:
    text = refusal(*[table(tmp_path / name, answers, gold)] * 2)
    assert "a float" in text and "'prediction'" in text and "2**53" in text


# What is a guess -----------------------------------------------------------------------------------------------------

GUESSES = [
    pytest.param("csv", ["b", "B"], ["B", "B"], "case", id="letter case"),
    pytest.param("jsonl", ["B ", "B"], ["B", "B"], "whitespace", id="spaces in a typed file"),
    pytest.param("parquet", ["B\n", "B"], ["B", "B"], "whitespace", id="a line end in a typed file"),
    pytest.param("csv", ["new  york", "Rome"], ["new york", "Rome"], "whitespace", id="spaces inside"),
    pytest.param("csv", ['"B"', "B"], ["B", "B"], "quotes", id="quotes"),
    pytest.param("jsonl", ["“B”", "B"], ["B", "B"], "quotes", id="typographic quotes"),
    pytest.param("csv", ["(B)", "B"], ["B", "B"], "punctuation", id="brackets"),
    pytest.param("jsonl", ["B.", "B"], ["B", "B"], "punctuation", id="a stop"),
    pytest.param("csv", ["1,000", "1000"], ["1000", "1000"], "thousands", id="thousands"),
    pytest.param("csv", ["1000", "7"], ["1,000", "7"], "thousands", id="thousands in the right answers"),
    pytest.param("csv", ["1,5", "2"], ["1.5", "2"], "decimal-comma", id="decimal comma"),
    pytest.param("csv", ["7", "1"], ["007", "1"], "numbers", id="leading zeros"),
    pytest.param("jsonl", ["1.0", "2"], ["1", "2"], "numbers", id="numbers in typed texts"),
    pytest.param("csv", ["1.0", "x"], ["1", "x"], "numbers", id="numbers among texts"),
    pytest.param("csv", ["1", "True"], ["True", "True"], "booleans", id="1 for True"),
    pytest.param("jsonl", ["True", "false"], ["true", "false"], "case", id="True for true in typed texts"),
    pytest.param("jsonl", ["cafe\u0301", "x"], ["café", "x"], "unicode", id="composed letters"),
    pytest.param("csv", ["\u22121", "2"], ["-1", "2"], "unicode", id="long minus sign"),
    pytest.param("jsonl", [" (b)", "B"], ["B", "B"], "whitespace,punctuation,case", id="several at once"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "answers", "gold", "names"), GUESSES)
def test_answers_that_differ_in_spelling_alone_are_refused_with_counts_and_the_name(
    tmp_path: Path, kind: str, answers: list[str], gold: list[str], names: str
) -> None:
    spelled = table(tmp_path / f"spelled.{kind}", answers, gold)
    right = table(tmp_path / f"right.{kind}", gold, gold)
    for pair in ((spelled, right), (right, spelled)):
        text = refusal(*pair)
        assert f"1 of 2 answers of {spelled} are right as they are spelled, and 2 with --normalize {names}," in text
        assert f"--normalize {names} (normalize='{names}')" in text
        assert "--normalize none (normalize='none')" in text
        assert flips(compare_runs(*pair, normalize=names)) == (0, 0)
        assert flips(compare_runs(*pair, normalize=names.split(","))) == (0, 0)
        assert sum(flips(compare_runs(*pair, normalize="none"))) == 1


def test_sampled_answers_in_another_spelling_are_refused_too(tmp_path: Path) -> None:
    listed = {"id": [1, 2], "prediction": [["A ", "A"], ["A", "B"]], "reference": ["A", "A"]}
    for name in ("a.jsonl", "a.parquet"):
        path = write(tmp_path / name, listed)
        assert "2 of 4 answers" in refusal(path, path)
        assert next(iter(read(path, normalize="whitespace").tasks.values())).values().tolist() == [1.0, 0.5]
        compare_runs(path, path, normalize="whitespace")
    single = {"id": [1, 1], "sample": [0, 1], "prediction": ["a", "A"], "reference": ["A", "A"]}
    path = write(tmp_path / "a.csv", single)
    assert "1 of 2 answers" in refusal(path, path)
    assert next(iter(read(path, normalize="case").tasks.values())).values().tolist() == [1.0]


def test_a_seed_floor_is_not_made_of_spellings(tmp_path: Path) -> None:
    before, after = table(tmp_path / "old.csv", OLD), table(tmp_path / "new.jsonl", NEW)
    seeds = [table(tmp_path / "s1.csv", floats(OLD)), table(tmp_path / "s2.jsonl", OLD)]
    for pair in ((before, after), (after, before)):
        floor = compare_runs(*pair, seed_floor=seeds).tasks[0].seed_floor
        assert floor is not None and floor.negative_flip_rate == 0.0
    words = table(tmp_path / "gold.csv", list("ABCDEF"), list("ABCDEF"))
    assert "right as they are spelled" in refusal(
        words, words, seed_floor=[words, table(tmp_path / "s3.csv", list("abcdef"), list("ABCDEF"))]
    )


def test_a_few_answers_in_another_spelling_are_noted_with_counts(tmp_path: Path) -> None:
    gold = [f"answer {i}" for i in range(100)]
    before = table(tmp_path / "old.jsonl", gold, gold)
    after = table(tmp_path / "new.jsonl", ["Answer 0", *gold[1:]], gold)
    result = compare_runs(before, after)
    assert flips(result) == (1, 0)
    told = f"1 of 100 answers of {after} would be right as well with --normalize case, for instance 'Answer 0'"
    assert any(told in note for note in result.notes)
    assert not compare_runs(before, after, normalize="none").notes
    assert flips(compare_runs(before, after, normalize="case")) == (0, 0)


@pytest.mark.parametrize("is_swapped", [False, True], ids=["", "swapped"])
@pytest.mark.parametrize("name", ["t.csv", "t.jsonl"])
def test_labels_with_other_names_are_noted(name: str, is_swapped: bool, tmp_path: Path) -> None:
    gold = ["true", "false"] * 5
    files = [tmp_path / side / name for side in ("v1", "v2")]
    for file, answers in zip(files, (gold, ["yes", "no"] * 5), strict=True):
        file.parent.mkdir()
        table(file, answers, gold)
    notes = compare_runs(*(files[::-1] if is_swapped else files)).notes
    told = f"none of the 10 answers of {files[1]} is the right answer of any row, for instance 'yes' where 'true' is"
    assert [told in note for note in notes if "none of" in note] == [True]


def test_wrong_answers_that_are_the_same_in_another_spelling_are_noted(tmp_path: Path) -> None:
    before = table(tmp_path / "old.jsonl", ["x", "B"], ["A", "B"])
    after = table(tmp_path / "new.jsonl", ["X", "B"], ["A", "B"])
    result = compare_runs(before, after)
    assert any("1 of 2 answers of both would be the same with --normalize case" in note for note in result.notes)
    compared = compare_runs(before, after, normalize="case").tasks[0].comparison
    assert isinstance(compared, Comparison) and compared.both_wrong_same == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "names"),
    [(lambda text: text + "\n", "whitespace"), (str.upper, "case"), (lambda text: f'"{text}"', "quotes")],
)
@pytest.mark.parametrize("sampled", [False, True])
def test_long_answers_in_another_spelling_are_not_wrong_in_silence(
    tmp_path: Path, change: Callable[[str], str], names: str, sampled: bool
) -> None:
    gold = [f"{number} " + "a long answer " * 20 + "end" for number in range(4)]
    more = {"sample": [0] * 4} if sampled else {}
    right = table(tmp_path / "right.parquet", gold, gold, **more)
    for kind in ("parquet", "jsonl"):
        spelled = table(tmp_path / f"spelled.{kind}", [change(gold[0]), *gold[1:3], "x " * 100], gold, **more)
        text = refusal(spelled, right)
        assert f"2 of 4 answers of {spelled} are right as they are spelled, and 3 with --normalize {names}," in text
        assert flips(compare_runs(spelled, right, normalize=names)) == (0, 1)


@pytest.mark.slow
def test_long_answers_are_counted_once_where_a_reader_starts_over(tmp_path: Path) -> None:
    gold = ["a long answer " * 20 + "end"] * 8_000
    path = table(tmp_path / "a.jsonl", [gold[0] + "\n", *gold[1:]], gold)
    more = json.dumps({"id": 8_000, "prediction": "\ud800", "reference": "A"})
    path.write_text(path.read_text(encoding="utf-8") + more, encoding="utf-8")
    assert any(f"1 of 8,001 answers of {path} would be right" in note for note in compare_runs(path, path).notes)


def test_right_answers_of_two_files_in_two_spellings_are_told_with_the_name(tmp_path: Path) -> None:
    gold = ["Yes", "No"]
    before, after = table(tmp_path / "old.jsonl", gold, gold), table(tmp_path / "new.jsonl", gold, ["yes", "no"])
    text = refusal(before, after)
    assert "the right answers of 2 of 2 ids differ" in text
    assert text.endswith("2 of them are the same with --normalize case (normalize=).")
    assert flips(compare_runs(before, after, normalize="case")) == (0, 0)


def test_fractions_of_32_bits_are_the_decimals_that_were_written(tmp_path: Path) -> None:
    path = tmp_path / "new.parquet"
    said = pa.array([0.1, 2.0], pa.float32())
    pq.write_table(pa.table({"id": [0, 1], "prediction": said, "reference": [0.1, 2.0]}), path)
    assert flips(compare_runs(table(tmp_path / "old.csv", ["0.10", "3"], ["0.1", "2"]), path)) == (0, 1)


def test_names_are_not_applied_twice_to_what_is_shown(tmp_path: Path) -> None:
    before = table(tmp_path / "old.jsonl", ["1,500", " 2"], ["1.5", "2"])
    after = table(tmp_path / "new.csv", ["7", "7"], ["1.5", "2"])
    shown = list(compare_runs(before, after, normalize="decimal-comma").flips())
    assert [(flip.reference, flip.old_answer) for flip in shown] == [("1.5", "1.5"), ("2", "2")]


def test_right_answers_that_differ_in_case_alone_are_two_answers(tmp_path: Path) -> None:
    gold, said = ["a", "A"] * 3, ["A", "A"] * 3
    path = table(tmp_path / "a.jsonl", said, gold)
    result = compare_runs(path, table(tmp_path / "b.jsonl", gold, gold))
    assert flips(result) == (0, 3)
    assert any("3 of 6 answers" in note for note in result.notes)


def test_answers_that_no_spelling_makes_right_are_not_refused(tmp_path: Path) -> None:
    gold = [f"answer {i}" for i in range(50)]
    path = table(tmp_path / "a.jsonl", [f"{text} b" for text in gold], gold)
    assert not compare_runs(path, table(tmp_path / "b.jsonl", gold, gold)).notes


def test_texts_and_numbers_of_typed_files_meet_under_the_name_numbers(tmp_path: Path) -> None:
    before = table(tmp_path / "old.jsonl", texts(OLD), GOLD)
    after = table(tmp_path / "new.jsonl", NEW, GOLD)
    assert "--normalize numbers" in refusal(before, after)
    assert flips(compare_runs(before, after, normalize="numbers")) == (1, 1)
    assert "--normalize numbers" in refusal(table(tmp_path / "t.jsonl", texts(OLD), texts(GOLD)), after)


@settings(max_examples=100)
@given(values=st.lists(st.text(max_size=12), min_size=1, max_size=5), names=st.sets(st.sampled_from(sorted(NAMES))))
def test_spelling_twice_changes_nothing_more(values: list[str], names: set[str]) -> None:
    column = pa.array([value.encode("utf-8", "ignore").decode() for value in values])
    chosen = [name for name in NAMES if name in names]
    if {"thousands", "decimal-comma"} <= names:
        chosen.remove("thousands")
    once = respell(column, chosen)
    assert len(once) == len(column)
    if not {"quotes", "punctuation"} & names:  # which may leave others to take away
        assert respell(once, chosen).equals(once)


def test_names_that_are_not_needed_are_not_proposed() -> None:
    found = spelled_otherwise(pa.array(["a", "x", None, "same"]), pa.array(["A", "y", "z", "same"]))
    assert found is not None
    assert (found.names, found.rows, found.of, found.already) == (("case",), 1, 4, 1)


def test_many_rows_are_counted_like_few(tmp_path: Path) -> None:
    values = ["1.0", None, "x", "nan", "01", "-0"]
    few, many = of_kind(pa.array(values), NUMBERS).to_pylist(), of_kind(pa.array(values * 3000), NUMBERS).to_pylist()
    assert few == ["1", None, "x", None, "01", "0"] and many == few * 3000
    # More than are looked at to find the names.
    numbers = range(50_000)
    first = pa.array([f"Answer {number if number % 2 else -1}" for number in numbers])
    second = pa.array([f"answer {number}" for number in numbers])
    found = spelled_otherwise(first, second)
    assert found is not None
    assert (found.names, found.rows, found.of, found.already) == (("case",), 25_000, 50_000, 0)


# The option ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("normalize", "told"),
    [
        ("cases", "has no 'cases'; choose from unicode, whitespace"),
        ("none,case", "give it alone"),
        ("thousands,decimal-comma", "give one of both"),
    ],
)
def test_a_name_that_means_nothing_is_refused(tmp_path: Path, normalize: str, told: str) -> None:
    path = table(tmp_path / "a.csv", OLD)
    assert told in refusal(path, path, normalize=normalize)


def test_sides_that_were_read_for_other_comparisons_are_not_compared(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", OLD)
    assert "read both with the same" in refusal(read(path), read(path, normalize="case"))


def test_the_command_takes_names_and_shows_what_was_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = table(tmp_path / "old.csv", ["a", "B"], ["A", "B"])
    after = table(tmp_path / "new.csv", ["A", "x"], ["A", "B"])
    arguments = ["compare", str(before), str(after)]
    assert main([*arguments, "--max-nfr", "1"]) == 2
    assert "--normalize case (normalize='case')" in capsys.readouterr().err
    out = tmp_path / "flips.jsonl"
    assert main([*arguments, "--normalize", "case", "--json", "--jsonl", str(out)]) == 0
    found = json.loads(capsys.readouterr().out)["tasks"][0]["flips"]
    assert found == {"negative": 1, "positive": 0}
    (flip,) = map(json.loads, out.read_text(encoding="utf-8").splitlines())
    assert (flip["reference"], flip["old_answer"], flip["new_answer"]) == ("b", "b", "x")
    assert main(["compare", "--help"]) == 0
    shown = "".join(capsys.readouterr().out.split())
    assert all(name in shown for name in (*NAMES, "none"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(
    rows=st.lists(
        st.tuples(*[st.sampled_from(["A", "a", " A", "1", "1.0", "01", "True", "(1)", "", "x", None])] * 2),
        min_size=1,
        max_size=8,
    ),
    names=st.sampled_from([None, "none", "case", "numbers", "whitespace,numbers,booleans", "punctuation"]),
)
def test_what_is_shown_of_a_flip_is_what_was_counted(
    tmp_path: Path, name: str, rows: list[tuple[str | None, str | None]], names: str | None
) -> None:
    old, new = zip(*rows, strict=True)
    gold = [first if first is not None else "A" for first in old]
    before = table(tmp_path / f"old-{name}", pa.array(old, pa.string()).to_pylist(), gold)
    after = table(tmp_path / f"new-{name}", pa.array(new, pa.string()).to_pylist(), gold)
    try:
        result = compare_runs(before, after, normalize=names)
    except InputError as error:
        assert "--normalize" in str(error) or "empty (null)" in str(error) or "float" in str(error)
        return
    for flip in result.flips():
        assert (flip.old_answer == flip.reference) is (flip.kind == "negative_flip")
        assert (flip.new_answer == flip.reference) is (flip.kind == "positive_flip")
