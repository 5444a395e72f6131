"""Divergences against numbers worked out by hand, and the identities that each must hold."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from muscle_hf.losses.divergences import (
    DIVERGENCES,
    divergence_of_distributions,
    divergence_of_logits,
    forward_kl,
    jensen_shannon,
    jensen_shannon_divergence,
    logit_difference_inhibition,
    reverse_kl,
)
from muscle_hf.losses.logits import log_softmax

LOG_3 = math.log(3.0)


def _logits(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(st.integers(0, 10_000), st.sampled_from(sorted(DIVERGENCES)), st.floats(0.1, 10))
@settings(max_examples=60, deadline=None)
def test_no_divergence_is_negative_or_blames_equal_models(seed: int, name: str, temperature: float) -> None:
    teacher, student = _logits(seed, 4, 9), _logits(seed + 1, 4, 9)
    assert (DIVERGENCES[name](teacher, student, temperature) >= -1e-12).all()
    # The mixture of two equal distributions is rounded; the others take a difference of equal numbers.
    rounding = 1e-15 if name == "jensen_shannon" else 0
    assert DIVERGENCES[name](teacher, teacher, temperature).abs().max() <= rounding


def test_kl_has_the_values_worked_out_by_hand() -> None:
    teacher, student = torch.tensor([[LOG_3, 0.0]]), torch.zeros(1, 2)
    forward = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    reverse = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert forward_kl(teacher, student, 1.0).item() == pytest.approx(forward)
    assert reverse_kl(teacher, student, 1.0).item() == pytest.approx(reverse)


def test_kl_is_not_shifted_by_what_softmax_does_not_see() -> None:
    teacher, student = _logits(0, 3, 5), _logits(1, 3, 5)
    assert torch.allclose(forward_kl(teacher + 7, student - 3, 2.0), forward_kl(teacher, student, 2.0))


@pytest.mark.parametrize("name", sorted(DIVERGENCES))
def test_a_class_that_both_models_rule_out_does_not_turn_loss_or_gradient_to_nan(name: str) -> None:
    teacher = torch.tensor([[0.0, 3.0, -math.inf]])
    student = torch.tensor([[1.0, 0.0, -math.inf]], requires_grad=True)
    value = DIVERGENCES[name](teacher, student, 1.0)
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert torch.isfinite(student.grad).all()
    if "kl" in name:
        alone = DIVERGENCES[name](teacher[:, :2], student.detach()[:, :2], 1.0)
        assert value.item() == pytest.approx(alone.item())


def test_logit_difference_inhibition_forgives_the_margin_and_squares_the_rest() -> None:
    # Differences 0.4 (within the margin of 0.5), -1.5 and 2.5: (0 + 1 + 4) / 3.
    value = logit_difference_inhibition(torch.zeros(1, 3), torch.tensor([[0.4, -1.5, 2.5]]), 1.0)
    assert value.item() == pytest.approx(5 / 3)


@given(st.integers(0, 10_000), st.floats(0.01, 0.99))
@settings(max_examples=40, deadline=None)
def test_jensen_shannon_is_the_sum_of_two_kls_to_the_mixture(seed: int, beta: float) -> None:
    p, q = (_logits(seed + k, 3, 6).softmax(-1) for k in range(2))
    m = beta * p + (1 - beta) * q
    expected = beta * (p * (p / m).log()).sum(-1) + (1 - beta) * (q * (q / m).log()).sum(-1)
    assert torch.allclose(jensen_shannon_divergence(p.log(), q.log(), beta), expected, atol=1e-12)


def test_jensen_shannon_tends_to_the_two_kls() -> None:
    teacher, student = _logits(0, 4, 6), _logits(1, 4, 6)
    near_0, near_1 = (jensen_shannon(teacher, student, 2.0, beta=beta) for beta in (1e-6, 1 - 1e-6))
    assert torch.allclose(near_0 / 1e-6, forward_kl(teacher, student, 2.0), rtol=1e-4)
    assert torch.allclose(near_1 / 1e-6, reverse_kl(teacher, student, 2.0), rtol=1e-4)


def test_jensen_shannon_stays_bounded_where_the_models_contradict() -> None:
    certain = torch.tensor([[0.0, -math.inf]])
    assert jensen_shannon(certain, certain.flip(-1), 1.0).item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("name", sorted(set(DIVERGENCES) - {"logit_difference_inhibition"}))
def test_logits_and_log_probabilities_give_one_divergence(name: str) -> None:
    teacher, student = _logits(0, 4, 6), _logits(1, 4, 6)
    of_logits = divergence_of_logits(name, 0.3)(teacher, student, 2.0)
    between = divergence_of_distributions(name, 0.3)(log_softmax(teacher, 2.0), log_softmax(student, 2.0))
    assert torch.equal(of_logits, between)
