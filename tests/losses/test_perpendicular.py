"""What is perpendicular: hand values, identities, gradients that conflict, and the teacher that is made of it."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from muscle_hf.losses.compatibility import MIXTURE, compatibility_loss, mixture
from muscle_hf.losses.perpendicular import (
    CONFLICTS,
    combine,
    perpendicular,
    perpendicular_teacher,
    products,
    without_conflict,
)
from muscle_hf.losses.strategy import Strategy


def _draw(*shape: int, seed: int = 0, scale: float = 3.0, dtype: torch.dtype = torch.float64) -> Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def _parts(*numbers: float) -> list[Tensor]:
    """A vector in two parts of different shapes, as weights have them."""
    vector = torch.tensor(numbers, dtype=torch.float32)
    return [vector[:1], vector[1:, None]]


def _numbers(parts: list[Tensor]) -> list[float]:
    return torch.cat([part.flatten() for part in parts]).tolist()


class TestCombine:
    @pytest.mark.parametrize(
        ("how", "task", "compatibility", "wanted"),
        [
            ("sum", (1, 0), (-1, 1), (0, 1)),
            ("accuracy_first", (1, 0), (-1, 1), (1, 1)),
            ("project_both", (1, 0), (-1, 1), (0.5, 1.5)),
            # None gives way where they do not conflict.
            *((how, (1, 0), (1, 1), (2, 1)) for how in CONFLICTS),
            # A gradient of 0 is in nobody's way.
            *((how, (0, 0), (-1, 1), (-1, 1)) for how in CONFLICTS),
            *((how, (1, 0), (0, 0), (1, 0)) for how in CONFLICTS),
            # What is against the task as a whole is gone as a whole.
            ("accuracy_first", (2, 0), (-5, 0), (2, 0)),
            ("project_both", (2, 0), (-5, 0), (0, 0)),
        ],
    )
    def test_gradients_of_two_goals_are_put_together_as_worked_out_by_hand(
        self, how: str, task: tuple[float, float], compatibility: tuple[float, float], wanted: tuple[float, float]
    ) -> None:
        assert _numbers(combine(_parts(*task), _parts(*compatibility), how)) == pytest.approx(list(wanted), abs=1e-7)

    def test_accuracy_first_asks_the_mean_that_it_is_told_and_not_this_step(self) -> None:
        task, compatibility, mean = _parts(1.0, 0.0), _parts(-1.0, -1.0), _parts(0.0, 2.0)
        assert _numbers(combine(task, compatibility, "accuracy_first", mean)) == [0.0, 0.0]

    @given(seed=st.integers(0, 1000), scale=st.floats(1e-3, 1e3))
    @settings(max_examples=50, deadline=None)
    def test_the_task_falls_as_fast_as_alone_at_least(self, seed: int, scale: float) -> None:
        task, other = [_draw(5, seed=seed)], [_draw(5, seed=seed + 1, scale=scale)]
        alone = products(task, task).aa
        both = products(task, combine(task, other, "accuracy_first")).ab
        assert both >= alone * (1 - 1e-9)
        # And PCGrad keeps neither of both from falling.
        joined = combine(task, other, "project_both")
        assert products(task, joined).ab >= -1e-9 * alone
        assert products(other, joined).ab >= -1e-9 * products(other, other).aa

    def test_what_is_left_is_perpendicular_in_single_precision(self) -> None:
        a, b = [_draw(1000, dtype=torch.float32)], [_draw(1000, seed=1, dtype=torch.float32)]
        if products(a, b).ab > 0:
            b = [-part for part in b]
        assert abs(products(a, without_conflict(b, a)).cosine.item()) < 1e-6

    def test_a_main_loss_of_two_quadratics_falls_at_each_small_step(self) -> None:
        # Task |x - (1, 0)|^2 / 2 and compatibility 10 |x - (-1, 2)|^2 / 2, from (0, 0): gradients (-1, 0), (10, -20).
        x, before = torch.zeros(2, dtype=torch.float64), 0.5
        aims = torch.tensor([[1.0, 0.0], [-1.0, 2.0]], dtype=torch.float64)
        assert combine([x - aims[0]], [10 * (x - aims[1])], "accuracy_first")[0].tolist() == [-1.0, -20.0]
        for _ in range(50):
            task, other = x - aims[0], 10 * (x - aims[1])
            step = combine([task], [other], "accuracy_first")[0]
            # Small against how fast the loss bends.
            x = x - 0.1 * task.square().sum() / step.square().sum() * step
            now = (x - aims[0]).square().sum().item() / 2
            assert now < before
            before = now

    def test_a_gradient_of_zero_has_no_angle(self) -> None:
        assert math.isnan(products(_parts(0.0, 0.0), _parts(1.0, 0.0)).cosine.item())
        assert products(_parts(1.0, 0.0), _parts(-2.0, 0.0)).cosine.item() == -1


class TestPerpendicular:
    def test_covariances_are_those_of_a_worked_out_distribution(self) -> None:
        p, a, b = (torch.tensor([row]) for row in ([0.5, 0.25, 0.25], [1.0, 0.0, 0.0], [1.0, 1.0, 0.0]))
        rest = perpendicular(b, a, p)
        assert (rest - rest[:, 2:]).tolist() == [[0.5, 1.0, 0.0]]
        assert (p * rest).sum() == 0

    @pytest.mark.parametrize("scale", [0.1, 3.0, 30.0])
    def test_nothing_along_the_first_is_left_in_single_precision(self, scale: float) -> None:
        a, b = _draw(20, 50, scale=scale, dtype=torch.float32), _draw(20, 50, seed=1, dtype=torch.float32)
        p = a.softmax(-1)
        weights, all_three = p.double(), torch.stack([perpendicular(b, a, p), a, b]).double()
        rest, mine, other = all_three - (weights * all_three).sum(-1, keepdim=True)
        lengths = ((weights * mine**2).sum(-1) * (weights * other**2).sum(-1)).sqrt()
        assert ((weights * mine * rest).sum(-1).abs() <= 1e-6 * lengths + 1e-12).all()

    def test_of_constant_logits_everything_is_perpendicular(self) -> None:
        b = _draw(3, 4)
        rest = perpendicular(b, torch.full((3, 4), 7.0).double(), torch.full((3, 4), 0.25).double())
        torch.testing.assert_close(rest, b - b.mean(-1, keepdim=True))


class TestTeacher:
    @given(seed=st.integers(0, 1000), shift=st.floats(-50, 50), weight=st.floats(0.1, 3))
    @settings(max_examples=50, deadline=None)
    def test_constants_added_to_logits_change_nothing(self, seed: int, shift: float, weight: float) -> None:
        old, new = _draw(2, 5, seed=seed), _draw(2, 5, seed=seed + 1)
        p = perpendicular_teacher(old, new, weight).softmax(-1)
        torch.testing.assert_close(perpendicular_teacher(old + shift, new - 2 * shift, weight).softmax(-1), p)

    def test_an_old_model_that_says_the_same_louder_changes_nothing(self) -> None:
        # The bug of a well-known implementation: what was parallel stayed.
        new = _draw(4, 6)
        torch.testing.assert_close(perpendicular_teacher(3 * new + 2, new, 1.0).softmax(-1), new.softmax(-1))

    def test_rows_do_not_know_of_each_other(self) -> None:
        old, new = _draw(5, 6), _draw(5, 6, seed=1)
        together = perpendicular_teacher(old, new, 0.7)
        torch.testing.assert_close(together, torch.cat([perpendicular_teacher(o, n, 0.7) for o, n in _rows(old, new)]))

    def test_a_class_that_one_model_does_not_know_keeps_the_new_logit_and_gives_no_nan(self) -> None:
        old, new = _draw(3, 5), _draw(3, 5, seed=1)
        ruled_out = old.clone()
        ruled_out[:, 1] = -math.inf
        teacher = perpendicular_teacher(ruled_out, new, 1.0)
        assert torch.equal(teacher[:, 1], new[:, 1])
        # The others are as if the class were not there, and constants still mean nothing.
        rest = [0, 2, 3, 4]
        alone = perpendicular_teacher(old[:, rest], new[:, rest], 1.0)
        torch.testing.assert_close(teacher[:, rest], alone)
        torch.testing.assert_close(perpendicular_teacher(ruled_out + 10, new, 1.0), teacher)
        new[:, 2] = -math.inf
        assert perpendicular_teacher(ruled_out, new, 1.0).softmax(-1)[:, 2].tolist() == [0, 0, 0]
        assert torch.equal(perpendicular_teacher(torch.full_like(new, -math.inf), new, 1.0), new)

    def test_the_strategy_asks_for_it_and_for_its_weight(self) -> None:
        old, new, student = _draw(4, 6), _draw(4, 6, seed=1), _draw(4, 6, seed=2)
        strategy = Strategy(mask="none", teacher="perpendicular", teacher_weight=0.3)
        teacher = perpendicular_teacher(old, new, 0.3)
        assert torch.equal(mixture(strategy, MIXTURE, old, new), teacher)
        loss = compatibility_loss(student, old, new, torch.arange(4), strategy=strategy).loss
        wanted = compatibility_loss(student, teacher, new, torch.arange(4), mask="none").loss
        torch.testing.assert_close(loss, wanted)


def _rows(old: Tensor, new: Tensor) -> list[tuple[Tensor, Tensor]]:
    return list(zip(old.split(1), new.split(1), strict=True))
