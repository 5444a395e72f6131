"""The figures that an evaluation logs, and which checkpoint they make the best one."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muscle_hf import ConfigurationError, InputError
from muscle_hf.flips.eval_metrics import (
    better_when_greater,
    check_min_accuracy,
    direction_of_best,
    flip_metrics,
    is_allowed_best,
    refuse_without_classes,
)

REFERENCES = ["a"] * 10
OLD = ["a"] * 6 + ["b"] * 4
NEW = ["a"] * 4 + ["b", "b", "a", "b", "c", None]
STUDENT = ["a"] * 5 + ["b", "a", "a", "b", "c"]
# By hand, of 10: old right on 0-5, new on 0-3 and 6, student on 0-4, 6 and 7.
EXPECTED = {
    "accuracy": 0.7,
    "negative_flip_rate": 0.1,  # 5
    "balanced_negative_flip_rate": 0.1,  # all of one class
    "positive_flip_rate": 0.2,  # 6, 7
    "inconsistency_flip_rate": 0.2,  # 5 and 9, where b became c
    "relative_negative_flip_rate": 0.1 / (0.6 * 0.3),
    "old_accuracy": 0.6,
    "new_accuracy": 0.5,
    "new_negative_flip_rate": 0.2,  # 4, 5
}


def test_the_figures_are_those_counted_by_hand() -> None:
    metrics = flip_metrics(old=OLD, new=NEW, student=STUDENT, references=REFERENCES)
    assert metrics == {f"eval_{name}": pytest.approx(value, rel=1e-12) for name, value in EXPECTED.items()}
    assert all(type(value) is float for value in metrics.values())


def test_class_numbers_are_answers_too() -> None:
    def number(answers: list[Any]) -> list[int | None]:
        return [None if answer is None else ord(answer) for answer in answers]

    metrics = flip_metrics(
        old=number(OLD), new=number(NEW), student=number(STUDENT), references=number(REFERENCES), prefix="test"
    )
    assert metrics == {f"test_{name}": pytest.approx(value, rel=1e-12) for name, value in EXPECTED.items()}


def test_texts_to_be_found_log_no_balanced_rate_and_none_can_choose_by_it() -> None:
    metrics = flip_metrics(old=["b", "c"], new=["a", "c"], student=["a", "c"], references=["a", "c"])
    assert "eval_negative_flip_rate" in metrics
    assert "eval_balanced_negative_flip_rate" not in metrics
    for metric in ("eval_balanced_negative_flip_rate", "balanced_negative_flip_rate"):
        assert better_when_greater(metric) is False
        with pytest.raises(ConfigurationError, match=r"2 rows have 2 different .* no classes"):
            refuse_without_classes(metric, ["a", "c"])
        refuse_without_classes(metric, REFERENCES)


def test_columns_of_other_lengths_are_refused() -> None:
    with pytest.raises(InputError, match="old has 10, new has 9"):
        flip_metrics(old=OLD, new=STUDENT[:9], student=STUDENT[:9], references=REFERENCES)


def test_an_undefined_rate_is_nan_which_loggers_and_states_take() -> None:
    metrics = flip_metrics(old=["b"], new=["a"], student=["a"], references=["a"])
    assert math.isnan(metrics["eval_relative_negative_flip_rate"])
    assert math.isnan(json.loads(json.dumps(metrics))["eval_relative_negative_flip_rate"])


@pytest.mark.slow
@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_accuracies_change_by_what_flips(rows: list[tuple[bool, bool, bool]]) -> None:
    old, new, student = (["a" if right else "b" for right in column] for column in zip(*rows, strict=True))
    right = ["a"] * len(rows)
    m = flip_metrics(old=old, new=new, student=student, references=right, prefix="p")
    change = m["p_accuracy"] - m["p_old_accuracy"]
    assert change == pytest.approx(m["p_positive_flip_rate"] - m["p_negative_flip_rate"])
    same = flip_metrics(old=old, new=new, student=new, references=right, prefix="p")
    assert same["p_negative_flip_rate"] == same["p_new_negative_flip_rate"]
    assert same["p_accuracy"] == same["p_new_accuracy"]


def test_every_figure_knows_in_which_direction_it_gets_better() -> None:
    up = {name for name in EXPECTED if better_when_greater(f"eval_{name}")}
    assert up == {"accuracy", "positive_flip_rate", "old_accuracy", "new_accuracy"}
    assert better_when_greater("inconsistency_flip_rate") is False
    assert better_when_greater("eval_loss") is None


def test_the_checkpoint_with_the_most_flips_is_not_the_best_by_default() -> None:
    # What transformers would do: every metric that does not end with "loss" is better when greater.
    assert direction_of_best("eval_negative_flip_rate", None) is False
    assert direction_of_best("accuracy", None) is True
    assert direction_of_best("eval_loss", None) is None
    assert direction_of_best("my_metric", True) is True
    assert direction_of_best(None, None) is None
    assert direction_of_best("eval_negative_flip_rate", False) is False
    with pytest.raises(ConfigurationError, match="the highest eval_negative_flip_rate for the best"):
        direction_of_best("eval_negative_flip_rate", True)
    with pytest.raises(ConfigurationError, match="the lowest accuracy for the best"):
        direction_of_best("accuracy", False)


@pytest.mark.parametrize("bound", [-0.1, 1.01, 78, math.nan, "0.5", True])
def test_a_bound_that_is_no_share_is_refused(bound: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"0\.78 means 78 %"):
        check_min_accuracy(bound, "eval_negative_flip_rate")


def test_a_bound_without_a_best_checkpoint_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="none is chosen"):
        check_min_accuracy(0.5, None)
    check_min_accuracy(0.5, "loss")
    check_min_accuracy(None, None)


def test_the_bound_itself_is_allowed() -> None:
    metrics = flip_metrics(old=OLD, new=NEW, student=STUDENT, references=REFERENCES)
    assert is_allowed_best(metrics, 0.7)
    assert not is_allowed_best(metrics, 0.71)
    assert is_allowed_best({}, None)
    assert is_allowed_best({"test_accuracy": 0.5}, 0.5, prefix="test")
    with pytest.raises(ConfigurationError, match="needs eval_accuracy"):
        is_allowed_best({"eval_loss": 1.0}, 0.5)
