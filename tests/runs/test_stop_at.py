"""A rule to stop by, as a bound of a gate: stop with broken, stop with kept, or go on."""

import json
import math
from typing import Any

import pytest
from compared_rows import compared, right

from muscle_hf.errors import InputError
from muscle_hf.flips.comparison import compare_correct
from muscle_hf.runs.gates.gate import Gate, judge, parse_bound
from muscle_hf.runs.measure import Part
from muscle_hf.runs.run_comparison import RunComparison
from muscle_hf.runs.terminal import plain_text


def _gate(result: RunComparison, text: str = "20", **options: Any) -> Gate:
    return judge(result, [parse_bound("stop_at", text)], **options)


@pytest.mark.parametrize(
    ("repaired", "broken", "sentence", "exit_code"),
    [
        (
            1,
            13,
            "all: 13 of 14 flips are negative, Bayes factor 78 against a neutral update, prior Beta(1, 1): broken, "
            "stop: the update breaks more than it repairs (--stop-at 20)",
            1,
        ),
        (
            13,
            1,
            "all: 1 of 14 flips is negative, Bayes factor 78 against a neutral update, prior Beta(1, 1): kept, "
            "stop: it repairs more than it breaks (--stop-at 20)",
            0,
        ),
        (
            6,
            8,
            "all: 8 of 14 flips are negative, Bayes factor 0.364 against a neutral update, prior Beta(1, 1): cannot "
            "tell whether it changes anything: go on (--stop-at 20)",
            3,
        ),
    ],
)
def test_each_answer_says_whether_to_go_on(repaired: int, broken: int, sentence: str, exit_code: int) -> None:
    gate = _gate(compared({"quiz": right(both=30, repaired=repaired, broken=broken, neither=6)}))
    assert gate.judgements[0].message == sentence
    assert gate.exit_code == exit_code
    assert gate.shown().reason == "1 of 1 bound, by the Bayes factor"
    assert gate.notes[0].startswith("At most 5 % of neutral updates ever reach a Bayes factor of 20")


def test_a_bayes_factor_beyond_what_a_float_holds_is_shown_and_not_called_undefined() -> None:
    gate = _gate(compared({"quiz": right(both=1, broken=1100)}))
    assert (gate.verdict, gate.judgements[0].cells[1]) == ("broken", "10^328")
    assert math.isnan(gate.judgements[0].to_dict()["estimate"])


def test_of_several_rows_broken_takes_so_many_times_as_much() -> None:
    # 2 ** 8 / 9 = 28 is more than 20, but not than 40; 2 ** 10 / 11 = 93 is.
    tasks = {"first": right(both=9, repaired=0, broken=8, neither=9), "second": right(both=9, repaired=10, neither=9)}
    result = compared(tasks)
    gate = _gate(result, "*:20")
    assert [judged.verdict for judged in gate.judgements] == ["cannot tell", "kept"]
    assert gate.judgements[0].message.endswith("broken for itself, but of 2 rows it takes a Bayes factor of 40")
    assert [judged.verdict for judged in _gate(result, "first:20").judgements] == ["broken"]
    worse = compared(tasks | {"first": right(both=9, repaired=0, broken=10, neither=9)})
    assert [judged.verdict for judged in _gate(worse, "*:20").judgements] == ["broken", "kept"]


def test_clusters_are_weighed_as_coins_and_not_their_flips() -> None:
    # Two questions with ten paraphrases each: twenty negative flips are two coins.
    c = compare_correct(
        old=[True] * 40, new=[False] * 20 + [True] * 20, clusters=[number // 10 for number in range(40)]
    )
    part = Part.of("all", "accuracy", c, level=0.95)
    assert (part.coin.negative, part.evidence.negative, part.evidence.positive) == (20, 2, 0)


def test_strong_evidence_is_strict_json() -> None:
    result = compared({"quiz": right(both=0, repaired=0, broken=2_000, neither=0)})
    gate = _gate(result)
    assert gate.verdict == "broken"
    assert "Bayes factor 10^599" in gate.judgements[0].message
    assert "inf" not in json.dumps(gate.to_dict()).replace("NaN", "null")


def test_python_has_the_same_verdict_and_reports_show_it() -> None:
    result = compared({"quiz": right(both=30, repaired=1, broken=13, neither=6)}, stop_at=20)
    assert result.verdict == "broken"
    assert (
        "stop: the update breaks more" in plain_text(result, result.gate.shown()) + result.gate.judgements[0].message
    )
    assert result.to_dict()["gate"]["bounds"][0]["rate"] == "stop_at"
    both = compared({"quiz": right(both=30, repaired=1, broken=13, neither=6)}, stop_at=200, margin=0.01)
    assert [judged.verdict for judged in both.gate.judgements] == ["broken", "cannot tell"]


@pytest.mark.parametrize("text", ["1", "0.05", "x"])
def test_a_factor_that_nobody_would_stop_at_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="a Bayes factor above 1"):
        parse_bound("stop_at", text)
    with pytest.raises(InputError, match="above 1"):
        compared({"quiz": right(both=3, repaired=1, broken=1, neither=1)}, stop_at=1)
