"""A card's figures: a verdict that does not flatter, tables, paired comparisons with rivals, slices and examples."""

import doctest
import math
import re
import sys
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from muscle_hf.card import AdapterCard, first_flips, measured, names, picture, public
from muscle_hf.card import markdown as words
from muscle_hf.card import snippets as loading
from muscle_hf.card.lineage import Lineage
from muscle_hf.card.markdown import cut, fenced
from muscle_hf.card.measured import MOST_SLICES, rival
from muscle_hf.flips.comparison import Comparison, compare, compare_correct, paired_p_values
from muscle_hf.publishing import card_of_trainer as of_trainer
from muscle_hf.runs.compare import compare_runs
from muscle_hf.runs.outcomes import Instance

NOBODY = Lineage(None, None, None, None)
PLAIN, CONTROL, OURS = names.PLAIN_UPDATE, names.CONTROL, names.COMPATIBILITY_ADAPTER
# The old model is right on the first 30 of 40; each other model loses a few of these and gains a few others.
GOLD = "a" * 40
OLD = "a" * 30 + "b" * 10


def _lost(lost: int, gained: int) -> Comparison:
    new = "b" * lost + "a" * (30 - lost + gained) + "b" * (10 - gained)
    return compare(old=list(OLD), new=list(new), references=list(GOLD))


def _card(**fields: Any) -> AdapterCard:
    return AdapterCard(**({"title": "t", "lineage": NOBODY, "adapter_type": "lora", "training": {}} | fields))


def _front(card: AdapterCard) -> dict[str, Any]:
    front = yaml.safe_load(card.render().removeprefix("---\n").split("\n---\n", 1)[0])
    assert isinstance(front, dict)
    return front


def _verdict(card: AdapterCard) -> str:
    return card.render().split("\n# t\n\n")[1].split("\n\n")[0]


@pytest.mark.parametrize("module", [loading, measured, of_trainer, picture, public, words])
def test_the_examples_in_the_documentation_are_true(module: Any) -> None:
    found = doctest.testmod(module)
    assert found.failed == 0


# The verdict ---------------------------------------------------------------------------------------------------------


def test_an_adapter_that_breaks_fewer_answers_says_how_many_and_how_sure_that_is() -> None:
    card = _card(comparisons={PLAIN: _lost(9, 2), OURS: _lost(1, 1)}, split="forty questions")
    assert _verdict(card) == (
        "On forty questions, this adapter breaks 1 answer that the old model had right (2.5 % of 40): fewer than the "
        "9 of the plain update (paired p = 0.0078); its accuracy is 75.0 %, against 57.5 % of the plain update."
    )


def test_an_adapter_that_breaks_more_is_not_spoken_well_of() -> None:
    found = _verdict(_card(comparisons={PLAIN: _lost(1, 1), CONTROL: _lost(9, 0), OURS: _lost(9, 2)}))
    assert "This adapter breaks 9 answers" in found
    assert "more than the 1 of the plain update (paired p = 0.0078)" in found
    assert "as many as the 9 of the control of the same budget (paired p = 1)" in found


def test_a_difference_that_may_be_chance_is_called_so() -> None:
    found = _verdict(_card(comparisons={PLAIN: _lost(3, 0), OURS: _lost(2, 0)}))
    assert "fewer than the 3 of the plain update (paired p = 1, which may be chance)" in found


def test_figures_without_a_rival_are_not_sold_as_a_success() -> None:
    found = _verdict(_card(comparisons={OURS: _lost(0, 5)}))
    assert found.endswith("neither the plain update nor a control was asked, so nobody can tell whether that is few.")


def test_rivals_that_were_asked_other_questions_are_not_subtracted() -> None:
    short = compare(old=list("aab"), new=list("aba"), references=list("aaa"))
    card = _card(comparisons={PLAIN: short, OURS: _lost(1, 1)})
    assert "33.3 % with the plain update, on other questions" in _verdict(card)
    assert "NFR lower by" not in card.render()
    kinds = [one["type"] for one in _front(card)["model-index"][0]["results"][0]["metrics"]]
    assert names.REDUCTION not in kinds


# The reduction -------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.booleans()] * 3), min_size=1, max_size=30))
def test_the_reduction_is_the_difference_of_both_rates_and_its_test_is_the_paired_one(
    rows: list[tuple[bool, bool, bool]],
) -> None:
    old, theirs, ours = ([row[place] for row in rows] for place in range(3))
    found = rival("r", "r", compare_correct(old=old, new=theirs), compare_correct(old=old, new=ours), None)
    assert found.broken is not None
    lost = [sum(before and not after for before, after in zip(old, new, strict=True)) for new in (theirs, ours)]
    assert math.isclose(found.broken.accuracy_change, (lost[0] - lost[1]) / len(rows), abs_tol=1e-12)
    low, high = found.broken.confidence_interval("accuracy_change")
    assert low <= found.broken.accuracy_change <= high
    kept = [(b, c) for a, b, c in rows if a]
    if kept:
        paired = compare_correct(old=[one[0] for one in kept], new=[one[1] for one in kept])
        assert math.isclose(found.p_values["negative_flips"], paired.p_value)
    else:
        assert math.isnan(found.p_values["negative_flips"])
    expected = paired_p_values(old, theirs, ours)  # what `muscle-hf update` passes to its card
    assert all(found.p_values[name] == pytest.approx(p, nan_ok=True) for name, p in expected.items())


def test_comparisons_that_cannot_be_of_the_same_instances_are_not_paired() -> None:
    one = compare_correct(old=[True, False], new=[False, False])
    other = compare_correct(old=[False, True], new=[True, True])
    assert rival("r", "r", one, other, None).broken is None


def test_given_p_values_stand_in_the_table_and_unknown_ones_are_left_out() -> None:
    card = _card(
        comparisons={PLAIN: _lost(9, 2), CONTROL: _lost(5, 2), OURS: _lost(1, 1)},
        p_values={PLAIN: {"accuracy": 0.0123, "negative_flips": 0.0456}, CONTROL: {"accuracy": math.nan}},
    )
    text = card.render()
    assert re.search(r"\| plain update \| 20\.0 \[.*\] \| 0\.046 \| 0\.012 \|\n", text)
    assert re.search(r"\| control: same steps more \| 10\.0 \[.*\] \| 0\.12 \|  \|\n", text)


# What the Hub searches -----------------------------------------------------------------------------------------------


def test_the_hub_gets_fractions_with_n_and_interval() -> None:
    card = _card(
        comparisons={PLAIN: _lost(9, 2), CONTROL: _lost(5, 2), OURS: _lost(1, 1)},
        split="forty questions",
        evaluated_on="org/rows:full@v1",
        evaluated_split="test",
    )
    (index,) = _front(card)["model-index"]
    (result,) = index["results"]
    assert index["name"] == "t"
    assert result["task"] == {"type": "text-generation"}
    assert result["dataset"] == {
        "name": "forty questions", "type": "org/rows", "config": "full", "split": "test", "revision": "v1",
    }  # fmt: skip
    values = {one["type"]: one["value"] for one in result["metrics"]}
    ours = _lost(1, 1)
    assert values == pytest.approx(
        {
            "accuracy": 0.75,
            "negative_flip_rate": 1 / 40,
            "positive_flip_rate": 1 / 40,
            "relative_negative_flip_rate": ours.relative_negative_flip_rate,
            "negative_flip_rate_reduction": 8 / 40,
            "negative_flip_rate_reduction_against_control": 4 / 40,
        }
    )
    for one in result["metrics"]:
        more = one["args"]
        assert (more["n"], more["level"]) == (40, 0.95)
        assert more["low"] <= one["value"] <= more["high"]
    assert result["metrics"][4]["args"]["compared_with"] == PLAIN


def test_what_is_undefined_is_left_out_of_the_figures() -> None:
    perfect = compare(old=list("aa"), new=list("aa"), references=list("aa"))
    (index,) = _front(_card(comparisons={OURS: perfect}))["model-index"]
    kinds = [one["type"] for one in index["results"][0]["metrics"]]
    assert kinds == ["accuracy", "negative_flip_rate", "positive_flip_rate"]


def test_a_data_set_that_is_not_on_the_hub_is_named_in_words() -> None:
    card = _card(comparisons={OURS: _lost(1, 1)}, split="rows of it.jsonl", evaluated_on="/home/x/y/it.jsonl")
    (result,) = _front(card)["model-index"][0]["results"]
    assert result["dataset"] == {"name": "rows of it.jsonl", "type": "rows of it.jsonl"}


# Slices and examples -------------------------------------------------------------------------------------------------


def test_the_worst_slices_stand_first_and_those_left_out_are_counted() -> None:
    groups = {f"g{number}": _lost(number, 0) for number in range(MOST_SLICES + 3)}
    text = _card(comparisons={OURS: _lost(1, 1)}, slices={"topic": groups}).render()
    assert (
        f"By topic. The {MOST_SLICES} with the highest NFR of {MOST_SLICES + 3}; all are in comparison.json." in text
    )
    shown = re.findall(r"^\| (g\d+) \|", text, re.MULTILINE)
    assert shown == [f"g{number}" for number in range(MOST_SLICES + 2, 2, -1)]
    assert re.search(r"\| g22 \| 40 \| 75\.0 \[.*\] \| 20\.0 \[.*\] \| 55\.0 \[.*\] \| 0\.0 \[.*\] \|\n", text)


def test_there_are_no_examples_unless_they_are_given() -> None:
    assert "## Examples" not in _card(comparisons={OURS: _lost(1, 1)}).render()


def test_the_first_flips_are_taken_and_not_the_nicest(tmp_path: Any) -> None:
    path = tmp_path / "x.csv"
    path.write_text("id,question,gold,v1,v2\n1,q1,A,B,A\n2,q2,A,A,B\n3,q3,A,A,A\n4,q4,A,A,C\n5,q5,A,A,D\n", "utf-8")
    found = compare_runs(f"{path}:v1", f"{path}:v2", columns={"reference": "gold"})
    assert [one.id for one in first_flips(found, 3)] == ["2", "4", "5"]
    assert [one.id for one in first_flips(found, 9)] == ["2", "4", "5", "1"]


def test_a_long_answer_is_cut_and_says_how_long_it_was() -> None:
    block = fenced("x" * 100_000)
    assert "(cut; 100,000 characters in all)" in block
    assert len(block) < 1_000
    assert cut("abc", 3) == "abc"


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("`~ \n\rab\x1b\u2028\u202e#-<")) | st.text())
def test_no_text_leaves_its_fence(text: str) -> None:
    tokens = MarkdownIt("commonmark").parse(f"{fenced(text)}\n\nafter\n")
    assert [token.type for token in tokens] == ["fence", "paragraph_open", "inline", "paragraph_close"]
    assert not set(tokens[0].content) & {"\x1b", "\u2028", "\u202e"}


def test_lines_and_indentation_of_an_answer_stay() -> None:
    assert fenced("def f():\r\n    return 1\n\n# end") == "```text\ndef f():\n    return 1\n\n# end\n```"


def test_an_example_shows_question_answers_and_what_changed() -> None:
    one = Instance("t", "q-7", "negative_flip", "Where?", "Oslo", "Oslo", "Bergen", 1.0, 0.0, {})
    text = _card(examples=(one,)).render()
    assert "**t, q-7**: right before, wrong now\n\nQuestion:\n\n```text\nWhere?\n```\n" in text
    assert "Old model:\n\n```text\nOslo\n```\n\nThis model:\n\n```text\nBergen\n```\n" in text


# The picture ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_picture_lies_beside_the_card_and_its_figures_are_read_out(tmp_path: Any) -> None:
    card = _card(comparisons={OURS: _lost(3, 1)}, slices={"topic": {"one": _lost(3, 1), "two": _lost(0, 0)}})
    text = card.write(tmp_path).read_text(encoding="utf-8")
    alternative = (
        "Quadrants of 40 answers: 67.5 % right before and now, 7.5 % right before and wrong now, 2.5 % wrong before "
        "and right now, 22.5 % wrong before and now."
    )
    assert f"![{alternative}](quadrants.png)" in text
    first = (tmp_path / "quadrants.png").read_bytes()
    assert first.startswith(b"\x89PNG")
    card.write(tmp_path)
    assert (tmp_path / "quadrants.png").read_bytes() == first, "the same figures give the same bytes"


def test_a_picture_that_is_of_another_card_is_taken_away(tmp_path: Any) -> None:
    _card(comparisons={OURS: _lost(3, 1)}).write(tmp_path)
    text = _card().write(tmp_path).read_text(encoding="utf-8")
    assert not (tmp_path / "quadrants.png").exists()
    assert "quadrants.png" not in text


def test_without_matplotlib_the_card_has_no_broken_picture(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    text = _card(comparisons={OURS: _lost(3, 1)}).write(tmp_path).read_text(encoding="utf-8")
    assert "quadrants.png" not in text
    again = AdapterCard.read(tmp_path)
    assert again is not None
    assert again.render() == text


def test_instances_are_counted_once_in_the_words_for_the_picture() -> None:
    shares = re.findall(r"([\d.]+) %", picture.alternative_text(_lost(3, 1), {}))
    assert np.isclose(sum(map(float, shares)), 100)
