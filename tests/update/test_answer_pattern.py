"""What a pattern finds in an answer is what is compared; one that can find nothing is refused before any work."""

import re

import pytest

from muscle_hf import compare
from muscle_hf.errors import ConfigurationError, InputError
from muscle_hf.prediction.questions import Question
from muscle_hf.update.answer_pattern import check_right_answers, compiled, part_of, with_parts
from muscle_hf.update.settings import UpdateSettings

GSM8K = r"#### (-?[0-9.,]+)"


def _question(number: int, answer: str) -> Question:
    return Question(number, f"data.jsonl, row {number + 1}", "how many?", answer, None, True, number)


@pytest.mark.parametrize(
    ("pattern", "text", "part"),
    [
        (GSM8K, "48/2 = <<48/2=24>>24 clips.\n#### 24", "24"),
        (GSM8K, "#### 7\n\nQuestion: and now?\nAnswer: #### 9", "7"),  # what follows the first answer is no answer
        (GSM8K, "it is 24", ""),
        (GSM8K, "#### -1,200", "-1,200"),
        (r"-?\d+", "the total is 35 of 40", "35"),  # no group: the whole match
        (r"(?:yes|no)\b", "no, none", "no"),
        (r"answer:(.*)", "answer:  72 ", "72"),  # white space around it does not count, as of whole answers
        (r"a(b)?", "ac", ""),  # a group that took no part
    ],
)
def test_the_first_match_or_its_group_is_compared(pattern: str, text: str, part: str) -> None:
    assert part_of(text, compiled(pattern)) == part


def test_another_way_to_the_same_number_is_right_and_no_number_is_wrong() -> None:
    texts = ["2+2=4\n#### 4", "four", "5-1=4\n#### 4"]
    rows = [{"id": n, "prediction": text, "reference": "1+3=4\n#### 4"} for n, text in enumerate(texts)]
    shown = list(with_parts(rows, compiled(GSM8K)))
    assert [row["prediction"] for row in shown] == ["4", "", "4"]
    assert {row["reference"] for row in shown} == {"4"}
    assert [row["response"] for row in shown] == texts
    answers = [row["prediction"] for row in shown]
    found = compare(old=answers, new=answers[::-1], references=["4"] * 3)
    assert (found.old_accuracy, found.negative_flip_rate) == (pytest.approx(2 / 3), 0)


def test_right_answers_without_a_match_are_refused_with_their_place_and_number() -> None:
    questions = [_question(0, "#### 1"), _question(1, "one"), _question(2, "two")]
    with pytest.raises(InputError, match=r"row 2: .* finds nothing in the right answer 'one', nor in 1 more of the 3"):
        check_right_answers(questions, compiled(GSM8K))
    said = check_right_answers(questions[:1], compiled(GSM8K))
    assert "'1' in the first test row's" in said
    assert f"by what '{GSM8K}' finds" in said  # as a command line takes it, without doubled backslashes


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"answer_pattern": "("}, "is no regular expression: missing )"),
        ({"answer_pattern": "(a)(b)"}, "has 2 groups, and one is compared"),
        ({"answer_pattern": 5}, "a regular expression is needed"),
        ({"answer_pattern": "a", "kind": "choice"}, "would do nothing with kind=choice"),
        ({"answer_pattern": "a", "measure_flips": True}, "measure_flips, which compares whole completions"),
    ],
)
def test_a_pattern_that_can_compare_nothing_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        UpdateSettings(old_adapter="a/b", new_base="c/d", dataset="rows.jsonl", **settings)  # type: ignore[arg-type]
