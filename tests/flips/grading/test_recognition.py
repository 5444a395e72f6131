"""What marks say of the form of answers: by hand, by brute force, and where they say nothing."""

import itertools
import math

import numpy as np
import pytest

from muscle_hf.flips.grading.logistic import jeffreys_logistic
from muscle_hf.flips.grading.recognition import recognition

NONE = np.zeros((0, 0))


def flags(text: str) -> np.ndarray:
    return np.array([letter == "1" for letter in text])


def told(old_right, new_right, old_form, new_form, old_rest=None, new_rest=None):
    old_form, new_form = (np.array(side, dtype=float).reshape(len(old_right), -1) for side in (old_form, new_form))
    rest = [np.zeros((len(old_right), 0)) if side is None else np.array(side, float) for side in (old_rest, new_rest)]
    return recognition(old_right, new_right, old_form, new_form, *rest)


def test_with_one_form_half_an_answer_is_added_to_each_cell() -> None:
    # Of new answers 3 of 3 are marked right in the old form, and 0 of 23 with a fence.
    fenced = [0] * 3 + [1] * 23
    found = told(flags("1" * 26), flags("111" + "0" * 23), [0] * 26, fenced)
    before, after = 3.5 / 4, 0.5 / 24
    assert found.chances == pytest.approx([(before - after) / (1 - after)] * 23, abs=1e-6)
    assert found.unknown == ()
    assert found.slopes[0] == pytest.approx(math.log(0.5 / 23.5) - math.log(3.5 / 0.5), abs=1e-5)


def test_the_fit_is_the_maximum_of_the_penalised_likelihood() -> None:
    draw = np.random.default_rng(0)
    columns = np.column_stack([np.ones(14), draw.normal(size=14)])
    labels = draw.random(14) < 0.4

    def height(a: float, b: float) -> float:
        p = 1 / (1 + np.exp(-(columns @ [a, b])))
        information = columns.T @ ((p * (1 - p))[:, None] * columns)
        return float(np.log(np.where(labels, p, 1 - p)).sum() + np.log(np.linalg.det(information)) / 2)

    a, b = jeffreys_logistic(labels, columns)
    best = height(a, b)
    for da, db in itertools.product((-1e-3, 0.0, 1e-3), repeat=2):
        assert height(a + da, b + db) <= best + 1e-9
    assert best == pytest.approx(
        max(height(x, y) for x in np.linspace(-3, 3, 61) for y in np.linspace(-3, 3, 61)), abs=0.01
    )


def test_rows_in_another_order_give_the_same_chances() -> None:
    draw = np.random.default_rng(1)
    old, new = draw.random(40) < 0.7, draw.random(40) < 0.5
    forms = draw.random((2, 40, 2)).round(1)
    order = draw.permutation(40)
    first = told(old, new, *forms)
    second = told(old[order], new[order], *forms[:, order])
    flips = np.flatnonzero(old & ~new)
    place = {row: index for index, row in enumerate(order[np.flatnonzero(old[order] & ~new[order])])}
    assert first.chances == pytest.approx([second.chances[place[row]] for row in flips], abs=1e-6)


def test_a_form_of_all_new_answers_and_no_old_one_is_unknown_and_not_guilty() -> None:
    found = told(flags("1110"), flags("1000"), [0] * 4, [1] * 4)
    assert found.unknown == (0,)
    assert np.isnan(found.chances).all() and np.isnan(found.slopes).all()


def test_forms_that_always_go_together_are_told_as_one() -> None:
    # Each fenced answer lacks the hashes that all others have: to take the fence off is to have them again.
    fence = np.array([1.0, 0, 1, 0, 0, 1, 0, 0])
    marks = flags("1" * 8), flags("01010111")
    alone = told(*marks, np.zeros(8), fence)
    old, new = np.column_stack([np.zeros(8), np.ones(8)]), np.column_stack([fence, 1 - fence])
    both = told(*marks, old, new)
    assert (both.unknown, both.together) == ((), (1,))
    assert both.chances == pytest.approx(alone.chances)


def test_a_form_that_follows_from_what_speaks_for_right_is_unknown() -> None:
    fence = np.array([1.0, 0, 1, 0, 0, 1, 0, 0])
    found = told(flags("1" * 8), flags("01010111"), np.zeros(8), fence, np.zeros((8, 1)), fence[:, None])
    assert found.unknown == (0,)
    assert np.isnan(found.chances).tolist() == [True, True, False]


def test_an_answer_whose_form_is_as_before_is_no_suspect() -> None:
    found = told(flags("111111"), flags("110001"), [0] * 6, [0, 0, 1, 1, 0, 0])
    assert found.chances[2] == 0 and (found.chances[:2] > 0.3).all()


def test_a_form_that_is_recognised_better_makes_no_suspect() -> None:
    found = told(flags("1" * 10), flags("1111100000"), [0] * 10, [1, 1, 1, 1, 0, 0, 0, 0, 0, 1])
    assert not found.chances.any()


def test_what_speaks_for_right_parts_answers_of_the_same_form() -> None:
    # A laxer grader agrees with the marks of old answers, and says of two fenced new ones that they are wrong.
    old = flags("1" * 12 + "0" * 8)
    fence = np.array([1.0] * 10 + [0] * 2 + [0] * 8)
    new = old & (fence == 0)
    lax = np.array([1.0] * 8 + [0, 0] + [1, 1] + [0] * 8)
    found = told(old, new, np.zeros(20), fence, old[:, None].astype(float), lax[:, None])
    assert found.chances[:8].min() > 0.6 > 0.2 > found.chances[8:].max()


def test_the_truth_is_recovered_where_the_form_hides_right_answers() -> None:
    draw = np.random.default_rng(5)
    n = 4000
    right_before, right = draw.random(n) < 0.8, draw.random(n) < 0.85
    fence = draw.random(n) < 0.5
    recognised = ~fence | (draw.random(n) < 0.3)
    found = told(right_before, right & recognised, np.zeros(n), fence)
    flips = right_before & ~(right & recognised)
    truth = int((flips & right).sum())
    assert found.chances.sum() == pytest.approx(truth, rel=0.05)
