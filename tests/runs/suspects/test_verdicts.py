"""Verdicts: kept, broken or cannot tell, in one sentence with the numbers and with how many questions would tell."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from compared_rows import Rows, compared, right

from muscle_hf.errors import InputError
from muscle_hf.flips.comparison import compare_correct
from muscle_hf.runs.compare import RunComparison, compare_runs
from muscle_hf.runs.gates.gate import Bound, Gate, judge, parse_bound
from muscle_hf.runs.gates.judgement import Judgement, hold
from muscle_hf.runs.measure import Part
from muscle_hf.runs.page import render_html
from muscle_hf.runs.terminal import plain_text

FALLEN = {"old": [0.5, 0.5, 0.5, 0.25], "new": [0.75, 0.25, 0.0, 0.25]}


def _cells(both: int, repaired: int, broken: int, neither: int, **options: Any) -> RunComparison:
    return compared({"quiz": right(both=both, repaired=repaired, broken=broken, neither=neither)}, **options)


def _judged(result: RunComparison, option: str, text: str, gate_on: str = "interval") -> Judgement:
    (judged,) = judge(result, [parse_bound(option, text)], gate_on=gate_on).judgements
    return judged


# One bound, one row --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "option", "text", "sentence"),
    [
        (
            (600, 0, 0, 400),
            "max_nfr",
            "0.02",
            "all: the update breaks 0 of 1,000 answers, 0.0 % [0.0, 0.4]: kept, at most 2 % (--max-nfr 0.02)",
        ),
        (
            (600, 20, 60, 320),
            "max_nfr",
            "0.02",
            "all: the update breaks 60 of 1,000 answers, 6.0 % [4.6, 7.7]: broken, more than 2 % (--max-nfr 0.02)",
        ),
        (
            (600, 20, 20, 360),
            "max_nfr",
            "0.02",
            "all: the update breaks 20 of 1,000 answers, 2.0 % [1.2, 3.1]: cannot tell whether at most 2 % (--max-nfr "
            "0.02); no number of questions like these would settle it",
        ),
        (
            (30, 0, 1, 19),
            "max_nfr",
            "0.02",
            "all: the update breaks 1 of 50 answers, 2.0 % [0.1, 10.6]: cannot tell whether at most 2 % (--max-nfr "
            "0.02); this bound cannot be met with 50 questions even without a flip: 183 are needed",
        ),
        (
            (30, 0, 0, 20),
            "margin",
            "0.01",
            "all: accuracy changes by 0.0 points [-7.1, 7.1] on 50 answers (0 broken, 0 repaired): cannot tell "
            "whether it falls by more than 1 point (--margin 0.01); with 50 questions only an update that repairs "
            "more than it breaks can meet this bound; without a flip 368 are needed",
        ),
        (
            (20, 3, 0, 17),
            "margin",
            "0.01",
            "all: accuracy rises by 7.5 points [-3.5, 20.4] on 40 answers (0 broken, 3 repaired): cannot tell whether "
            "it falls by more than 1 point (--margin 0.01); with 40 questions only an update that repairs more than "
            "it breaks can meet this bound; without a flip 368 are needed, and 73 questions like these would settle "
            "it (80 % of the time)",
        ),
        (
            (500, 60, 10, 430),
            "margin",
            "0.01",
            "all: accuracy rises by 5.0 points [3.4, 6.8] on 1,000 answers (10 broken, 60 repaired): kept, no fall of "
            "more than 1 point (--margin 0.01)",
        ),
        (
            (500, 10, 60, 430),
            "margin",
            "0.02",
            "all: accuracy falls by 5.0 points [3.4, 6.8] on 1,000 answers (60 broken, 10 repaired): broken, a fall "
            "of more than 2 points (--margin 0.02)",
        ),
        (
            (500, 10, 60, 430),
            "margin",
            "0",
            "all: accuracy falls by 5.0 points [3.4, 6.8] on 1,000 answers (60 broken, 10 repaired): broken, a fall "
            "(--margin 0)",
        ),
        (
            (500, 60, 10, 430),
            "min_accuracy_change",
            "0.02",
            "all: accuracy rises by 5.0 points [3.4, 6.8] on 1,000 answers (10 broken, 60 repaired): kept, a rise of "
            "2 points or more (--min-accuracy-change 0.02)",
        ),
        (
            (600, 100, 100, 200),
            "max_relative_nfr",
            "1",
            "all: relative NFR 0.476 [0.408, 0.547] of 1,000 answers (100 broken): kept, at most 1 "
            "(--max-relative-nfr 1)",
        ),
    ],
)
def test_a_verdict_is_one_sentence_with_its_numbers(
    cells: tuple[int, int, int, int], option: str, text: str, sentence: str
) -> None:
    assert _judged(_cells(*cells), option, text).message == sentence


@pytest.mark.parametrize(
    ("option", "text", "sentence"),
    [
        ("max_nfr", "0.9", "all: the update lowers 2 of 4 scores, 50.0 % [6.8, 93.2]: cannot tell whether at most"),
        (
            "margin",
            "9",
            "all: mean rougeL falls by 0.125 [-0.389, 0.639] on 4 scores (2 fell, 1 rose): kept, no fall of",
        ),
        (
            "max_regression",
            "9",
            "all: the update lowers 2 of 4 scores, by 0.375 [-1.21, 1.96] on average: kept, at most 9 (",
        ),
    ],
)
def test_scores_are_told_in_their_own_unit(option: str, text: str, sentence: str) -> None:
    assert _judged(compared({"sum": FALLEN}), option, text).message.startswith(sentence)


def test_a_margin_is_a_bound_on_the_change_with_the_other_sign() -> None:
    result = _cells(500, 60, 10, 430)
    for where in ("", "quiz:", "*:"):
        margin, change = (
            _judged(result, *option)
            for option in (("margin", f"{where}0.01"), ("min_accuracy_change", f"{where}-0.01"))
        )
        assert margin.bound == change.bound
        assert margin.verdict == change.verdict == "kept"
    assert str(parse_bound("margin", "quiz:0").value) == "0.0"


@pytest.mark.parametrize(
    ("n", "bound", "text"), [(183, "max_nfr", "0.02"), (72, "max_nfr", "0.05"), (368, "margin", "0.01")]
)
def test_the_questions_that_are_said_to_be_needed_are_enough_and_one_less_is_not(
    n: int, bound: str, text: str
) -> None:
    assert _judged(_cells(n // 2, 0, 0, n - n // 2), bound, text).verdict == "kept"
    few = _judged(_cells(n // 2 - 1, 0, 0, n - n // 2), bound, text)
    assert (few.verdict, few.questions_needed) == ("cannot tell", n)


@pytest.mark.slow
def test_as_many_questions_as_are_said_to_settle_a_bound_do_so_4_times_in_5() -> None:
    judged = _judged(_cells(350, 15, 20, 115), "margin", "0.03")
    assert judged.verdict == "cannot tell"
    assert judged.questions_needed
    draw = np.random.default_rng(0)
    settled = 0
    for flips in draw.multinomial(judged.questions_needed, [15 / 500, 20 / 500, 465 / 500], 200).tolist():
        positive, negative, none = flips
        c = compare_correct(
            old=[False] * positive + [True] * (negative + none),
            new=[True] * positive + [False] * negative + [True] * none,
        )
        settled += c.decision_interval("accuracy_change")[0] >= -0.03
    assert settled / 200 == pytest.approx(0.8, abs=0.08)


def test_no_number_of_questions_shows_that_nothing_ever_breaks() -> None:
    judged = _judged(_cells(30, 0, 0, 20), "max_nfr", "0")
    assert judged.verdict == "cannot tell"
    assert judged.message.endswith("cannot be met with 50 questions even without a flip: no number is enough")
    assert judged.questions_needed is None


def test_a_bound_that_so_few_questions_cannot_meet_can_still_be_broken_by_them() -> None:
    assert _judged(_cells(20, 0, 10, 20), "max_nfr", "0.02").verdict == "broken"


@pytest.mark.parametrize(("level", "verdict"), [(0.99, "cannot tell"), (0.5, "kept")])
def test_a_verdict_is_of_the_level_of_the_comparison(level: float, verdict: str) -> None:
    result = _cells(60, 8, 2, 30, level=level)
    judged = _judged(result, "max_nfr", "0.08")
    assert judged.verdict == verdict
    assert (judged.low, judged.high) == result.tasks[0].comparison.decision_interval("negative_flip_rate", level)


def test_an_end_of_the_interval_on_the_bound_keeps_it() -> None:
    result = _cells(60, 8, 2, 30)
    _, high = result.tasks[0].comparison.decision_interval("negative_flip_rate")
    assert _judged(result, "max_nfr", repr(high)).verdict == "kept"
    assert _judged(result, "max_nfr", repr(math.nextafter(high, 0))).verdict == "cannot tell"


def test_ten_paraphrases_of_a_question_are_no_ten_questions() -> None:
    # All ten of a question flip together: 5 of 100 questions break, 1 is repaired.
    old, new = [[side] * 10 for side in ([True] * 99 + [False], [False] * 5 + [True] * 95)]
    flat = [[value for row in zip(*side, strict=True) for value in row] for side in (old, new)]
    clusters = [question for question in range(100) for _ in range(10)]
    (part,) = _cells(6, 1, 1, 2).tasks
    judged = {}
    for name, ids in (("alone", None), ("together", clusters)):
        compared_ = compare_correct(old=flat[0], new=flat[1], clusters=ids)
        one = Part.of("quiz", "accuracy", compared_, level=0.95)
        result = _with_part(_cells(6, 1, 1, 2), replace(part, comparison=one.comparison, coin=one.coin))
        judged[name] = _judged(result, "margin", "0.02")
    assert [judged[name].verdict for name in ("alone", "together")] == ["broken", "cannot tell"]
    assert "on 1,000 answers in 100 clusters (50 broken, 10 repaired)" in judged["together"].message
    needed = judged["together"].questions_needed
    assert needed and needed > 1000
    assert f"about {needed:,} questions like these" in judged["together"].message


@pytest.mark.parametrize("alone", [0, 4])
def test_one_cluster_says_nothing_of_how_many_questions_it_takes(alone: int) -> None:
    old = [True] * 30 + [False] * 10
    clusters = [0] * (40 - alone) + list(range(1, 1 + alone))
    one = compare_correct(old=old, new=old[::-1], clusters=clusters)
    (part,) = _cells(6, 1, 1, 2).tasks
    result = _with_part(_cells(6, 1, 1, 2), replace(part, comparison=one))
    for rate in ("margin", "max_nfr", "max_relative_nfr", "relative_margin"):
        judged = _judged(result, rate, "0.05")
        assert (judged.verdict, judged.questions_needed) == ("cannot tell", None)
        assert "which says nothing of how much clusters differ" in judged.message
        assert f"in {1 + alone} cluster{'s' if alone else ''}" in judged.message


def test_one_of_a_thing_is_told_as_one() -> None:
    result = _cells(0, 0, 1, 0)
    assert str(result).count("Of 1 answer the update breaks 1") == 1
    assert "1 of 1 flip is negative" in str(result)
    assert "1 of 1 answer, 100.0 %" in _judged(result, "max_nfr", "0.05").message
    assert "1 of 1 flip is negative" in _judged(result, "stop_at", "20").message
    two = compared({"first": right(both=1, broken=1), "second": right(both=2)})
    assert "by task, 1 group that may differ" in str(two)
    page = render_html(two)
    assert "This page holds the 1 flip (" in page
    assert "1 task that may differ" in page


# The estimate alone --------------------------------------------------------------------------------------------------


def test_a_gate_on_the_estimate_says_in_every_report_that_chance_decides() -> None:
    result = _cells(60, 8, 2, 30)
    gate = judge(result, [parse_bound("max_nfr", "0.02"), parse_bound("max_nfr", "0.01")], gate_on="estimate")
    assert [judged.message for judged in gate.judgements] == [
        "all: the update breaks 2 of 100 answers, 2.0 %: kept by the estimate, at most 2 % (--max-nfr 0.02)",
        "all: the update breaks 2 of 100 answers, 2.0 %: broken by the estimate, more than 1 % (--max-nfr 0.01)",
    ]
    for text in (plain_text(result, gate.shown()), result.to_markdown(gate), str(gate.to_dict())):
        assert "near one chance decides" in text
    assert "by the estimate alone" in gate.shown().heading


# Undefined rates -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gate_on", ["interval", "estimate"])
@pytest.mark.parametrize(
    ("tasks", "option", "verdict", "why"),
    [
        (
            {"quiz": right(repaired=3, neither=2)},
            "max_relative_nfr",
            "cannot tell",
            "the old model is right on nothing",
        ),
        ({"quiz": right(both=8, repaired=2)}, "max_relative_nfr", "kept", "the new model is wrong on nothing"),
        ({"sum": {"old": [0.25, 0.5], "new": [0.5, 0.5]}}, "max_regression", "kept", "no score falls"),
    ],
)
def test_an_undefined_rate_keeps_its_bound_only_where_nothing_can_break(
    tasks: Mapping[str, Rows], option: str, verdict: str, why: str, gate_on: str
) -> None:
    judged = _judged(compared(tasks), option, "0.5", gate_on)
    assert (judged.verdict, why in judged.message) == (verdict, True)
    assert math.isnan(judged.estimate)


def test_the_mean_of_a_single_value_tells_nothing() -> None:
    one_fell = compared({"sum": {"old": [0.25, 0.5, 0.5], "new": [0.5, 0.5, 0.25]}})
    judged = _judged(one_fell, "max_regression", "0.5")
    assert judged.verdict == "cannot tell"
    assert "cannot tell, the mean of a single value has no interval" in judged.message


# Several rows, several bounds ----------------------------------------------------------------------------------------


def _slices(broken: Sequence[int], n: int = 100) -> RunComparison:
    """Slices a, b, … of n answers each, of which so many are broken."""
    names = "abcdefghijklmnopqrstuvwxyz"[: len(broken)]
    old = [True] * (n * len(broken))
    new = [place >= count for count in broken for place in range(n)]
    return compared(
        {"quiz": {"old": old, "new": new, "category": [name for name in names for _ in range(n)]}}, by=["category"]
    )


def _held(result: RunComparison, *bounds: tuple[str, str]) -> Gate:
    return judge(result, [parse_bound(*bound) for bound in bounds])


def test_one_bad_slice_among_many_is_no_claim_before_holms_correction() -> None:
    # 12 of 100 at a bound of 5 %: P(12 or more) = 0.0043; 0.025 for itself, 0.025/14 = 0.0018 as one of 14.
    alone, many = (_slices([12, *[3] * others]) for others in (1, 13))
    assert _held(alone, ("max_nfr", "category=*:0.05")).judgements[0].verdict == "broken"
    (judged,) = (j for j in _held(many, ("max_nfr", "category=*:0.05")).judgements if j.row == "category=a")
    assert (judged.verdict, judged.family, math.isnan(judged.adjusted_level)) == ("cannot tell", 14, True)
    assert "broken for itself, but not after Holm's correction for the 14 rows of the bound" in judged.message
    (named,) = _held(many, ("max_nfr", "category=a:0.05")).judgements
    assert (named.verdict, named.family) == ("broken", 1), "a bound of its own is no family"


def test_holms_steps_find_what_bonferroni_does_not() -> None:
    # Tail probabilities at 5 %: 30 -> 1e-15; 12 -> 0.0043, above 0.025/6 but below 0.025/5 once the first is out.
    gate = _held(_slices([30, 12, 0, 0, 0, 0]), ("max_nfr", "category=*:0.05"))
    levels = {judged.row: judged.adjusted_level for judged in gate.of("broken")}
    assert levels == pytest.approx({"category=a": 1 - 0.05 / 6, "category=b": 1 - 0.05 / 5})


@pytest.mark.slow
def test_fourteen_neutral_slices_are_rarely_said_to_break_a_bound() -> None:
    # The truth lies on the bound in every slice, where a claim is wrong most often.
    draw = np.random.default_rng(0)
    part = _cells(50, 5, 5, 40).tasks[0]
    parts = [_with_flips(part, count) for count in range(20)]
    wrong, alone = 0, 0
    bound = parse_bound("max_nfr", "category=*:0.05")
    for _ in range(60):
        rows = [(str(place), parts[count]) for place, count in enumerate(draw.binomial(100, 0.05, 14))]
        verdicts = hold(bound, rows, 0.95, "interval")
        wrong += any(judged.verdict == "broken" for judged in verdicts)
        alone += any(judged.low > 0.05 for judged in verdicts)
    assert wrong / 60 <= 0.025
    assert alone / 60 > 0.1, "without the correction more than one in ten"


def _with_flips(part: Part, broken: int) -> Part:
    return replace(part, comparison=compare_correct(old=[True] * 100, new=[False] * broken + [True] * (100 - broken)))


@pytest.mark.parametrize(
    ("bounds", "verdict", "code"),
    [
        ([("max_nfr", "0.05")], "kept", 0),
        ([("max_nfr", "0.05"), ("max_nfr", "0.02")], "cannot tell", 3),
        ([("max_nfr", "0.05"), ("max_nfr", "0.02"), ("max_nfr", "0.001")], "broken", 1),
    ],
)
def test_a_gate_is_as_good_as_the_worst_of_its_bounds(
    bounds: Sequence[tuple[str, str]], verdict: str, code: int
) -> None:
    result = _cells(500, 20, 20, 460)
    held = [parse_bound(*bound) for bound in bounds]
    gate = judge(result, held)
    assert (gate.verdict, gate.exit_code) == (verdict, code)
    for undecided, then in (("fail", 1), ("pass", 0)):
        again = judge(result, held, undecided=undecided)
        assert (again.verdict, again.exit_code) == (verdict, then if verdict == "cannot tell" else code)
        assert f"undecided: {undecided}" in result.to_markdown(again)


def test_another_word_is_refused_with_those_that_there_are() -> None:
    result = _cells(6, 1, 1, 2)
    with pytest.raises(
        InputError, match="gate_on is 'upper', but must be interval or estimate; a bound that is kept on"
    ):
        judge(result, [], gate_on="upper")
    with pytest.raises(InputError, match="undecided is 'skip', but must be fail or pass"):
        judge(result, [], undecided="skip")


# Errors of the harness -----------------------------------------------------------------------------------------------


def test_a_bound_is_kept_only_where_it_were_had_all_that_the_harness_lost_been_broken() -> None:
    (part,) = _cells(900, 0, 0, 100).tasks
    for lost, verdict in ((2, "kept"), (40, "cannot tell")):
        worst = compare_correct(old=[True] * (1000 + lost), new=[True] * 1000 + [False] * lost)
        result = _with_part(_cells(900, 0, 0, 100), replace(part, harness_errors=lost, worst_case=worst))
        judged = _judged(result, "max_nfr", "0.02")
        assert judged.verdict == verdict
    assert (
        "; but cannot tell for 40 errors of the harness: at worst the update breaks 40 of 1,040 answers"
        in judged.message
    )
    unknown = _with_part(result, replace(part, harness_errors=1))
    assert "1 error of the harness, whose scores nobody knows" in _judged(unknown, "max_nfr", "0.02").message


def _with_part(result: RunComparison, part: Part) -> RunComparison:
    return replace(result, tasks=(part,))


def test_a_share_of_nothing_is_no_number_in_a_sentence() -> None:
    judged = _judged(_cells(0, 20, 0, 0), "relative_margin", "0.1")
    assert "accuracy changes by no share of what it was, which is 0, on 20 answers (0 broken" in judged.message
    assert "undefined" not in judged.message


@pytest.mark.parametrize("where", ["all", "no such task"])
def test_a_gate_that_requires_nothing_says_so(where: str) -> None:
    gate = judge(_cells(10, 0, 10, 10), [Bound("max_nfr", where, 0.01, tier="advisory")])
    assert (gate.verdict, gate.exit_code) == ("kept", 0)
    assert gate.shown().reason == "no bound is required (held to 95 % intervals)"


# Reports -------------------------------------------------------------------------------------------------------------


def test_every_report_begins_with_the_verdict_and_has_each_bound_with_its_interval() -> None:
    result = _cells(500, 20, 20, 460)
    gate = judge(result, [parse_bound("max_nfr", text) for text in ("0.05", "0.001", "0.022")])
    shown = gate.shown()
    assert shown.heading == "✗ Broken: 1 of 3 bounds, held to 95 % intervals"
    assert [row[:6] for row in shown.rows] == [
        ["all", "broken", "NFR", "2.0 % [1.2, 3.1]", "≤ 0.1 %", "1,000"],
        ["all", "cannot tell", "NFR", "2.0 % [1.2, 3.1]", "≤ 2.2 %", "1,000"],
        ["all", "kept", "NFR", "2.0 % [1.2, 3.1]", "≤ 5 %", "1,000"],
    ]
    assert shown.rows[1][6]
    for text in (plain_text(result, shown), result.to_markdown(gate)):
        assert text.index(shown.heading) < text.index("the update breaks")
    assert f"- {gate.judgements[1].message}" in result.to_markdown(gate)


def test_nothing_is_said_to_settle_where_nothing_needs_to_be() -> None:
    shown = judge(_cells(500, 20, 20, 460), [parse_bound("max_nfr", "0.05")]).shown()
    assert shown.heading == "✓ Kept: 1 of 1 bound, held to 95 % intervals"
    assert shown.head[-1] == "n"


# In Python -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("broken", "margin", "verdict"), [(10, 0.02, "kept"), (60, 0.02, "broken"), (20, 0.0, "cannot tell")]
)
def test_a_comparison_with_a_margin_has_a_verdict_and_shows_it(broken: int, margin: float, verdict: str) -> None:
    without = _cells(500, 10, broken, 490 - broken)
    result = replace(without, margin=margin)
    assert result.verdict == result.gate.verdict == verdict
    command = judge(without, [parse_bound("margin", repr(margin))])
    assert result.gate.judgements[0].bound == command.judgements[0].bound
    assert result.to_dict()["gate"]["verdict"] == verdict
    heading = result.gate.shown().heading
    assert heading == command.shown().heading
    assert heading in str(result)
    assert heading in result.to_markdown()


def test_a_comparison_without_a_margin_has_no_verdict() -> None:
    result = _cells(6, 1, 1, 2)
    with pytest.raises(InputError, match=r"no margin, so there is no verdict; .*compare_runs\(…, margin=0.01\)"):
        _ = result.verdict
    assert "gate" not in result.to_dict()


@pytest.mark.parametrize("margin", [-0.01, 2, math.nan, "0.01", True])
def test_a_margin_that_cannot_be_is_refused_at_once(margin: Any) -> None:
    from comparisons import answers, run

    runs = run("v1", answers("ab", "ab")), run("v2", answers("aa", "ab", source="v2.jsonl"))
    with pytest.raises(InputError, match="margin"):
        compare_runs(*runs, margin=margin)
