"""Drawn targets are held to brute force: their mean over all draws is the whole distribution's divergence."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from muscle_hf.errors import ConfigurationError, InputError
from muscle_hf.losses.divergences import forward_kl
from muscle_hf.losses.sampled import (
    SampledTarget,
    decode_sampled,
    draws_of,
    encode_sampled,
    sampled_kl,
    sampled_layout,
)

# Draws spread evenly over [0, 1): the mean over them is an integral.
EVEN = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000


def _logits(rows: int, vocabulary: int, seed: int = 0, scale: float = 2.0) -> Tensor:
    return scale * torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed))


def _target(logits: Tensor, draws: Tensor, k: int, temperature: float = 2.0) -> SampledTarget:
    gold = torch.zeros(len(logits), dtype=torch.long)
    return decode_sampled(encode_sampled(logits, gold, draws, k=k, temperature=temperature))


def _every_draw(logits: Tensor, k: int, temperature: float = 2.0) -> SampledTarget:
    return _target(logits.expand(len(EVEN), -1), EVEN, k, temperature)


def _dense(target: SampledTarget, vocabulary: int) -> Tensor:
    return torch.zeros(len(target.ids), vocabulary).scatter_add(-1, target.ids, target.weights)


def test_a_worked_out_draw_is_another_one() -> None:
    """1/2 is kept; of the other half, 1/4, 1/8 and 1/8, one is drawn, by half, a quarter and a quarter."""
    logits = torch.tensor([[0.25, 0.125, 0.5, 0.125]]).log().expand(4, -1)
    target = _target(logits, torch.tensor([0.1, 0.49, 0.6, 0.8]).double(), 2, 1.0)
    assert target.ids.tolist() == [[2, 0], [2, 0], [2, 1], [2, 3]]
    torch.testing.assert_close(target.weights, torch.full((4, 2), 0.5))
    torch.testing.assert_close(target.log_probabilities[2].exp(), torch.tensor([0.5, 0.125]), rtol=1e-3, atol=0)


@pytest.mark.parametrize(("k", "scale"), [(1, 2.0), (3, 2.0), (3, 8.0), (8, 1.0), (20, 3.0), (20, 0.0)])
def test_the_mean_of_the_weights_is_not_the_distribution(k: int, scale: float) -> None:
    logits = _logits(1, 21, seed=k, scale=scale)
    mean = _dense(_every_draw(logits, k), 21).double().mean(0)
    torch.testing.assert_close(mean, (logits[0].double() / 2).softmax(-1), rtol=2e-3, atol=3e-4)


@pytest.mark.parametrize("k", [1, 4, 12])
def test_divergence_or_gradient_are_biased(k: int) -> None:
    teacher, student = _logits(1, 30, 1), _logits(1, 30, 2).double()
    every, full = (student.clone().requires_grad_() for _ in range(2))
    estimates = sampled_kl(_every_draw(teacher, k), every.expand(len(EVEN), -1), 2.0)
    exact = forward_kl(teacher.double(), full, 2.0)
    assert estimates.mean().item() == pytest.approx(exact.item(), rel=2e-3)
    estimates.mean().backward()
    exact.sum().backward()
    torch.testing.assert_close(every.grad, full.grad, rtol=0, atol=5e-4)


def test_drawing_has_a_larger_variance_than_independent_draws() -> None:
    """k tokens drawn one by one from p (arXiv 2503.16870) have the variance (1 - sum of p^2) / k."""
    logits = _logits(1, 200, 3, 3.0)
    probabilities = (logits[0] / 2).softmax(-1)
    for k, most in ((4, 0.95), (16, 0.8), (64, 0.4)):
        squares = (_dense(_every_draw(logits, k), 200) - probabilities).square().sum(-1).mean().item()
        assert squares < most * (1 - probabilities.square().sum().item()) / k


@settings(max_examples=40, deadline=None)
@given(
    vocabulary=st.integers(1, 60),
    k=st.integers(1, 70),
    seed=st.integers(0, 10_000),
    scale=st.sampled_from([0.0, 0.1, 1.0, 10.0, 100.0]),
    temperature=st.sampled_from([0.5, 1.0, 2.0]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16, torch.float64]),
)
def test_a_token_is_drawn_twice_or_the_weights_do_not_sum_up(
    vocabulary: int, k: int, seed: int, scale: float, temperature: float, dtype: torch.dtype
) -> None:
    logits = _logits(8, vocabulary, seed, scale).to(dtype)
    target = _target(logits, draws_of(np.arange(8) + 8 * seed), k, temperature)
    exact = (logits.double() / temperature).log_softmax(-1)
    for ids, weights in zip(target.ids.tolist(), target.weights.tolist(), strict=True):
        assert len({*ids}) == len(ids) == min(k, vocabulary)
        assert sum(weights) == pytest.approx(1, abs=1e-5)
    kept = exact.gather(-1, target.ids)
    torch.testing.assert_close(target.log_probabilities.double(), kept, rtol=2.0**-11, atol=1e-4)
    assert (target.weights.double() >= kept.exp() * (1 - 0.02) - 1e-12).all()
    # A teacher is at no distance from itself, in every draw.
    apart = sampled_kl(target, logits, temperature).double()
    assert (apart.abs() <= 1e-4 + 2.0**-11 * (target.weights * kept.abs()).sum(-1)).all()


@pytest.mark.parametrize("k", [6, 7, 100])
def test_a_whole_vocabulary_is_drawn_from(k: int) -> None:
    teacher, student = _logits(5, 6, 1), _logits(5, 6, 2)
    found = sampled_kl(_target(teacher, draws_of(np.arange(5)), k), student, 2.0)
    torch.testing.assert_close(found, forward_kl(teacher, student, 2.0), rtol=2e-3, atol=1e-3)


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_a_token_that_the_teacher_rules_out_is_drawn_or_makes_nan(k: int) -> None:
    logits = torch.tensor([[0.0, -math.inf, -math.inf, 0.0, -math.inf]])
    target = _every_draw(logits, k)
    dense = _dense(target, 5)
    torch.testing.assert_close(dense.mean(0), torch.tensor([0.5, 0, 0, 0.5, 0]), rtol=0, atol=1e-3)
    student = torch.zeros(1, 5, requires_grad=True)
    found = sampled_kl(target, student.expand(len(EVEN), -1), 2.0)
    torch.testing.assert_close(found, torch.full_like(found, math.log(2.5)), rtol=1e-3, atol=1e-3)
    found.mean().backward()
    assert student.grad is not None and bool(student.grad.isfinite().all())


def test_a_peaked_teacher_loses_its_peak_or_makes_nan() -> None:
    logits = torch.zeros(1, 1000)
    logits[0, 7] = 200.0
    target = _every_draw(logits, 16, 1.0)
    assert (target.ids[:, 0] == 7).all()
    torch.testing.assert_close(target.weights[:, 0], torch.ones(len(EVEN)))
    assert bool(sampled_kl(target, torch.zeros(len(EVEN), 1000), 1.0).isfinite().all())


def test_nan_logits_look_like_a_target() -> None:
    logits, draws = torch.tensor([[0.0, math.nan, 1.0]]), torch.tensor([0.5]).double()
    stored = encode_sampled(logits, torch.tensor([0]), draws, k=2, temperature=1.0)
    assert bool(stored["log_probabilities"].isnan().any())


def test_scores_and_layout_are_other_ones_than_of_top_k() -> None:
    logits, gold = torch.tensor([[2 * math.log(3.0), 0.0]]), torch.tensor([0])
    stored = encode_sampled(logits, gold, torch.tensor([0.5]).double(), k=1, temperature=2.0)
    torch.testing.assert_close(stored["log_likelihood"].exp(), torch.tensor([0.9]))
    torch.testing.assert_close(stored["confidence"].exp(), torch.tensor([0.9]))
    assert stored["right"].tolist() == [1]
    assert {name: (one.dtype, tuple(one.shape[1:])) for name, one in stored.items()} == sampled_layout(1, 2)
    large = encode_sampled(_logits(3, 70_000), torch.zeros(3).long(), torch.rand(3).double(), k=40, temperature=2.0)
    assert 2**16 < decode_sampled(large).ids.max() < 70_000


def test_a_draw_depends_on_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, draws = _logits(23, 40), draws_of(np.arange(100, 123))
    gold = torch.zeros(23, dtype=torch.long)
    whole = encode_sampled(logits, gold, draws, k=6, temperature=2.0)
    monkeypatch.setattr("muscle_hf.losses.sampled._PIECE", 120)  # three rows at once
    again = encode_sampled(logits, gold, draws, k=6, temperature=2.0)
    alone = encode_sampled(logits[9:10], gold[9:10], draws_of(np.array([109])), k=6, temperature=2.0)
    for name, one in whole.items():
        assert torch.equal(one.view(torch.uint8), again[name].view(torch.uint8)), name
        assert torch.equal(one[9:10].contiguous().view(torch.uint8), alone[name].view(torch.uint8)), name


def test_draws_are_not_uniform_or_those_of_other_tokens() -> None:
    draws = draws_of(np.arange(100_000)).numpy()
    assert draws.min() >= 0
    assert draws.max() < 1
    # Kolmogorov and Smirnov's distance, at a level of one in a million; of neighbours' differences too.
    for some in (draws, (draws[1:] - draws[:-1]) % 1):
        assert np.abs(np.sort(some) - (np.arange(len(some)) + 0.5) / len(some)).max() < 2.7 / math.sqrt(len(some))
    assert abs(np.corrcoef(draws, draws_of(np.arange(100_000, 200_000)).numpy())[0, 1]) < 0.02
    # Worked out by the published generator: the first output from the seed 0.
    assert int(draws[0] * 2**53) == 0xE220A8397B1DCDAF >> 11


@pytest.mark.parametrize(("k", "temperature", "gold", "error"), [
    (0, 1.0, [0], ConfigurationError), (1, 0.0, [0], ConfigurationError),
    (1, 1.0, [3], InputError), (1, 1.0, [0, 0], InputError),
])  # fmt: skip
def test_what_has_no_meaning_is_stored(k: int, temperature: float, gold: list[int], error: type[Exception]) -> None:
    with pytest.raises(error):
        encode_sampled(torch.zeros(1, 3), torch.tensor(gold), torch.zeros(1).double(), k=k, temperature=temperature)
