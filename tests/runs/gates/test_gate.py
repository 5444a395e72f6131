"""A gate: no bound that is broken passes, none that is kept fails, and none is left out without a word."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from compared_rows import Rows, compared, right
from comparisons import check
from hypothesis import example, given, settings
from hypothesis import strategies as st

from muscle_hf.errors import InputError
from muscle_hf.flips.comparison import Comparison
from muscle_hf.runs.gates.gate import GATE_ON, RATES, Bound, judge, parse_bound
from muscle_hf.runs.gates.judgement import VERDICTS
from muscle_hf.runs.run_comparison import RunComparison

EXAMPLES = Path(__file__).parents[3] / "examples"

QUIZ = right(both=60, broken=2, repaired=8, neither=30)  # NFR 0.02, change +0.06
TRIVIA = right(both=60, broken=10, repaired=5, neither=25)  # NFR 0.10, change -0.05
GROUPS = ["law", "art"] * 50
SUMMARIES = {"old": [0.5, 0.5, 0.5, 0.25], "new": [0.75, 0.25, 0.0, 0.25]}  # NFR 0.5, regression 0.375, change -0.125

CELLS = st.tuples(*[st.integers(0, 12)] * 4).filter(sum)
ROW_NAMES = st.text(min_size=1)
VALUES = {
    "max_nfr": st.floats(0, 1),
    "max_balanced_nfr": st.floats(0, 1),
    "max_relative_nfr": st.floats(0, 1e9),
    "max_regression": st.floats(0, 1e9),
    "max_bias_shift": st.floats(0, 2),
    "min_accuracy_change": st.floats(-1, 1, exclude_min=True),  # a fall of all is refused as a slip of the pen
    "stop_at": st.floats(1, 1e300, exclude_min=True),
    "min_relative_accuracy_change": st.floats(-1, 1),
}


def _broken(result: RunComparison, *bounds: str, rate: str = "max_nfr", gate_on: str = "estimate") -> list[str]:
    """Give the rows that break some bounds."""
    return [v.row for v in check(result, [parse_bound(rate, text) for text in bounds], gate_on=gate_on)]


def _refusal(result: RunComparison, rate: str, text: str) -> str:
    with pytest.raises(InputError) as caught:
        check(result, [parse_bound(rate, text)])
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def _of(cells: Sequence[int]) -> RunComparison:
    both, broken, repaired, neither = cells
    return compared({"quiz": right(both=both, broken=broken, repaired=repaired, neither=neither)})


# Which rows a bound is for -------------------------------------------------------------------------------------------


def test_a_bound_reaches_the_row_it_names_and_no_other() -> None:
    result = compared({"quiz": QUIZ, "trivia": TRIVIA})  # pooled: 12 of 200
    assert _broken(result, "0.05") == ["all"]
    assert _broken(result, "0.06") == []
    assert _broken(result, "quiz:0.01") == ["quiz"]
    assert _broken(result, "quiz:0.02", "trivia:0.1") == []
    assert _broken(result, "*:0.05") == ["trivia"]
    assert _broken(result, "*:0.01") == ["quiz", "trivia"]


def test_a_bound_on_a_slice_is_not_held_by_the_whole() -> None:
    # All ten broken answers are those of one group.
    result = compared({"trivia": TRIVIA | {"category": ["art"] * 60 + ["law"] * 10 + ["art"] * 30}}, by=["category"])
    assert _broken(result, "0.1", "category=art:0") == []
    assert _broken(result, "category=law:0.99") == ["category=law"]
    assert _broken(result, "category=*:0.5") == ["category=law"]


def test_a_row_with_a_bound_of_its_own_is_held_to_the_one_for_all_too() -> None:
    result = compared({"quiz": QUIZ, "trivia": TRIVIA})
    assert _broken(result, "*:0.05", "trivia:0.5") == ["trivia"]
    assert _broken(result, "*:0.5", "trivia:0.05") == ["trivia"]
    assert _broken(result, "*:0.05", "trivia:0.05") == ["trivia", "trivia"]


def test_the_only_task_is_all_instances_too() -> None:
    result = compared({"quiz": QUIZ})
    assert _broken(result, "0.01", "quiz:0.01", "*:0.01") == ["all", "quiz", "quiz"]


def test_a_task_called_all_is_not_counted_twice_nor_left_out() -> None:
    assert _broken(compared({"all": QUIZ}), "0.01") == ["all"]
    assert _broken(compared({"all": TRIVIA, "quiz": QUIZ}), "0.07") == ["all"]  # the task has 0.10, the pool 0.06
    with pytest.raises(InputError, match="no row 'all', because"):
        check(compared({"all": SUMMARIES, "other": SUMMARIES}), [parse_bound("max_nfr", "1")])


def test_a_task_that_looks_like_a_pattern_is_found_by_its_name() -> None:
    result = compared({"a=*": TRIVIA, "b": QUIZ})
    assert _broken(result, "a=*:0.05") == ["a=*"]


def test_instances_without_a_group_are_a_row_as_well() -> None:
    result = compared({"trivia": TRIVIA | {"category": [None] * 70 + ["art"] * 30}}, by=["category"])
    assert _broken(result, "category=*:0.1", "category=(none):0.1") == ["category=(none)"] * 2


@pytest.mark.parametrize("text", ["gsm8k:0.5", "quizz:0.5", "category=lore:0.5", "QUIZ:0.5", " quiz:0.5"])
def test_a_row_that_is_not_there_is_refused_and_not_passed(text: str) -> None:
    message = _refusal(compared({"quiz": QUIZ | {"category": GROUPS}}, by=["category"]), "max_nfr", text)
    assert message.startswith(f"--max-nfr {text.strip()}: there is no row ")
    assert message.endswith("Rows: 'all', 'quiz', 'category=art', 'category=law'.")


@pytest.mark.parametrize("where", ["category=law", "category=*"])
def test_a_slice_that_was_not_made_is_refused_with_the_option_that_makes_it(where: str) -> None:
    assert "--by COLUMN" in _refusal(compared({"quiz": QUIZ}), "max_nfr", f"{where}:0.5")


def test_a_long_list_of_rows_stays_a_readable_line() -> None:
    message = _refusal(compared({f"task {i}": right(both=1) for i in range(57)}), "max_nfr", "none:0.5")
    assert "… (58 in all)" in message
    assert len(message) < 500


def test_scores_of_several_tasks_are_not_all_instances_together() -> None:
    result = compared({"a": SUMMARIES, "b": SUMMARIES})
    assert "because tasks with scores are not pooled" in _refusal(result, "max_nfr", "0.5")
    assert _broken(result, "*:0.4") == ["a", "b"]


# Which rate is held --------------------------------------------------------------------------------------------------


def test_each_bound_is_on_its_own_rate() -> None:
    answers = compared({"trivia": TRIVIA})
    both = answers.tasks[0].comparison
    assert isinstance(both, Comparison)
    for rate, value, step in (
        ("max_nfr", 0.1, -1e-9),
        ("max_balanced_nfr", 0.1, -1e-9),  # all of one class
        ("max_relative_nfr", both.relative_negative_flip_rate, -1e-9),
        ("min_accuracy_change", -0.05, 1e-9),
    ):
        assert check(answers, [Bound(rate, "all", value)]) == []
        (violation,) = check(answers, [Bound(rate, "all", value + step)])
        assert violation.estimate == value
    scores = compared({"sum": SUMMARIES})
    for rate, value, step in (
        ("max_nfr", 0.5, -1e-9),
        ("max_regression", 0.375, -1e-9),
        ("min_accuracy_change", -0.125, 1e-9),
    ):
        assert check(scores, [Bound(rate, "sum", value)]) == []
        (violation,) = check(scores, [Bound(rate, "sum", value + step)])
        assert violation.estimate == value


@pytest.mark.parametrize(
    ("tasks", "rate", "told"),
    [
        ({"quiz": QUIZ}, "max_regression", "has no regression, which only scores have"),
        ({"quiz": SUMMARIES}, "max_relative_nfr", "has no relative_nfr, which only answers have"),
    ],
)
def test_a_rate_that_a_row_has_not_is_refused_and_not_passed(tasks: Mapping[str, Rows], rate: str, told: str) -> None:
    for where in ("quiz", "all", "*"):
        assert told in _refusal(compared(tasks), rate, f"{where}:0.5")


def test_a_bound_for_each_task_leaves_out_those_that_cannot_have_the_rate() -> None:
    result = compared({"quiz": TRIVIA, "sum": SUMMARIES})
    assert _broken(result, "*:0", rate="max_relative_nfr") == ["quiz"]
    assert _broken(result, "*:0", rate="max_regression") == ["sum"]
    assert _broken(result, "*:0") == ["quiz", "sum"]


def test_a_change_of_accuracy_in_percent_is_refused_and_of_a_score_is_not() -> None:
    assert "from -1 to 1" in _refusal(compared({"quiz": QUIZ}), "min_accuracy_change", "-2")
    scores = compared({"bleu": {"old": [30.0, 40.0], "new": [10.0, 50.0]}})
    assert _broken(scores, "-2", rate="min_accuracy_change") == ["all"]
    assert _broken(scores, "-5", rate="min_accuracy_change") == []


# Properties ----------------------------------------------------------------------------------------------------------

_RATES_OF_ANSWERS = st.sampled_from(["max_nfr", "max_relative_nfr", "min_accuracy_change"])


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(cells=CELLS, rate=_RATES_OF_ANSWERS, data=st.data(), gate_on=st.sampled_from(GATE_ON))
def test_loosening_a_bound_never_breaks_it(
    cells: tuple[int, ...], rate: str, data: st.DataObject, gate_on: str
) -> None:
    result = _of(cells)
    first, second = sorted(data.draw(st.tuples(VALUES[rate], VALUES[rate])))
    tight, loose = (second, first) if rate.startswith("min") else (first, second)
    at_loose, at_tight = (
        VERDICTS.index(judge(result, [Bound(rate, "all", value)], gate_on=gate_on).verdict) for value in (loose, tight)
    )
    assert at_tight <= at_loose


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(cells=CELLS, rate=_RATES_OF_ANSWERS, data=st.data(), level=st.sampled_from([0.01, 0.5, 0.95]))
def test_the_interval_claims_nothing_that_the_estimate_contradicts(
    cells: tuple[int, ...], rate: str, data: st.DataObject, level: float
) -> None:
    both, broken, repaired, neither = cells
    result = compared({"quiz": right(both=both, broken=broken, repaired=repaired, neither=neither)}, level=level)
    bound = Bound(rate, "all", data.draw(VALUES[rate]))
    verdicts = [judge(result, [bound], gate_on=gate_on).verdict for gate_on in GATE_ON]
    assert verdicts[0] in (verdicts[1], "cannot tell")


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(cells=CELLS, rate=_RATES_OF_ANSWERS)
def test_an_estimate_exactly_on_the_bound_keeps_it_and_the_next_number_does_not(
    cells: tuple[int, ...], rate: str
) -> None:
    result = _of(cells)
    (part,) = result.tasks
    name = RATES[rate].answers
    assert name
    estimate = getattr(part.comparison, name)
    if math.isnan(estimate) or estimate == -1:  # which no bound may be
        return
    assert check(result, [parse_bound(rate, repr(estimate))]) == []
    tighter = math.nextafter(estimate, math.inf if rate.startswith("min") else -math.inf)
    if abs(tighter) <= 1 and (rate.startswith("min") or tighter >= 0):
        assert check(result, [Bound(rate, "all", tighter)])
    tighter = estimate + (1e-9 if rate.startswith("min") else -1e-9)
    if abs(tighter) <= 1 and (rate.startswith("min") or tighter >= 0):
        (violation,) = check(result, [Bound(rate, "all", tighter)])
        # Nor does rounding make the message say that a number is above itself.
        value, limit = (float(re.findall(r"[-+.e0-9]+", cell.replace(",", ""))[0]) for cell in violation.cells[1:])
        assert value < limit if rate.startswith("min") else value > limit


@pytest.mark.parametrize(
    ("broken", "n", "text"), [(2, 100, "0.02"), (1, 3, str(1 / 3)), (7, 100, "0.07"), (3, 3, "1")]
)
def test_a_bound_as_people_write_it_is_the_rate_it_means(broken: int, n: int, text: str) -> None:
    assert _broken(compared({"quiz": right(broken=broken, neither=n - broken)}), text) == []


@settings(max_examples=200)
@given(where=ROW_NAMES, rate=st.sampled_from(sorted(RATES)), data=st.data())
@example(where="leaderboard|mmlu:law|5", rate="max_nfr", data=None)
@example(where="a=b:c=*", rate="max_nfr", data=None)
@example(where=":", rate="max_nfr", data=None)
@example(where="0.5", rate="max_nfr", data=None)
def test_a_name_with_colons_pipes_and_equals_signs_comes_back_whole(
    where: str, rate: str, data: st.DataObject | None
) -> None:
    value = 0.25 if data is None else data.draw(VALUES[rate])
    assert parse_bound(rate, f"{where}:{value!r}") == Bound(rate, where, value)


# Messages ------------------------------------------------------------------------------------------------------------


def test_hostile_names_cannot_forge_a_line_of_the_log() -> None:
    name = "law\n::error::forged\x1b[31m\u2028"
    result = compared({"quiz": QUIZ | {"category": [name] * 100}}, by=["category"])
    (violation,) = check(result, [parse_bound("max_nfr", "category=*:0")])
    assert violation.row == f"category={name}"
    assert violation.message.isprintable()
    assert _refusal(result, "max_nfr", "law\n\x1b[31m:0").isprintable()


# Bounds that make no sense -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2%",
        "nan",
        "inf",
        "-inf",
        "1e999",
        "0,02",
        "0x1",
        "1_0",
        "\N{ARABIC-INDIC DIGIT TWO}",
        "true",
        "a:",
        "quiz",
    ],
)
@pytest.mark.parametrize("rate", [*sorted(RATES), "margin"])
def test_what_is_no_number_is_refused_with_what_is_expected(rate: str, text: str) -> None:
    with pytest.raises(
        InputError, match=r"the value is .*, but must be a (rate|ratio|size|change|Bayes factor).* such as"
    ):
        parse_bound(rate, text)


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        ("max_nfr", "2"),
        ("max_nfr", "-0.1"),
        ("max_relative_nfr", "-1"),
        ("max_regression", "a:-1"),
        ("margin", "-0.1"),
        ("relative_margin", "2"),
    ],
)
def test_a_value_that_the_rate_cannot_have_is_refused(rate: str, text: str) -> None:
    with pytest.raises(InputError, match=f"^--{rate.replace('_', '-')} {text}: the value is -?[0-9.]+, but must be"):
        parse_bound(rate, text)


@pytest.mark.parametrize("value", [True, None, "0.1", math.nan, math.inf])
def test_a_bound_made_in_code_is_checked_as_well(value: object) -> None:
    with pytest.raises(InputError, match="the value is"):
        Bound("max_nfr", "all", value)  # type: ignore[arg-type]


def test_a_bound_without_row_or_of_no_rate_is_refused() -> None:
    with pytest.raises(InputError, match="the name of the row is empty"):
        parse_bound("max_nfr", ":0.5")
    with pytest.raises(InputError, match="no bound named 'max_pfr'; there are: max_nfr, "):
        parse_bound("max_pfr", "0.5")


# Examples ------------------------------------------------------------------------------------------------------------


# What is said of bounds that cannot be ------------------------------------------------------------------------------


def test_a_message_does_not_name_a_row_twice() -> None:
    result = compared({"all": QUIZ})
    with pytest.raises(InputError, match=r"Rows: 'all'\.$"):
        check(result, [parse_bound("max_nfr", "quiz:0.1")])


@pytest.mark.parametrize("option", ["margin", "min_accuracy_change"])
def test_a_fall_of_all_points_is_no_margin_of_one_point(option: str) -> None:
    message = _refusal(compared({"quiz": QUIZ}), option, "1" if option == "margin" else "-1")
    assert message.endswith("a fall of 100 points, so that nothing could break it; one point is 0.01.")


def test_a_bound_that_nothing_breaks_is_told() -> None:
    bounds = [parse_bound("max_nfr", "1"), parse_bound("relative_margin", "1"), parse_bound("max_nfr", "0.5")]
    notes = judge(compared({"quiz": QUIZ}), bounds).notes
    assert notes[:2] == [
        f"Nothing breaks --{name} 1: it allows 100 %; 1 % is 0.01" for name in ("max-nfr", "relative-margin")
    ]


def test_the_nearest_row_is_proposed_among_many() -> None:
    result = compared({"quiz": QUIZ | {"category": GROUPS}}, by=["category"])
    assert "Did you mean 'category=law'?" in _refusal(result, "max_nfr", "category=lwa:0.5")
