"""The product of both models' probabilities: worked-out values, brute force, and temperatures that fit."""

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from muscle_hf.errors import ConfigurationError
from muscle_hf.losses.compatibility import MIXTURE, NEW, OLD, PRODUCT, compatibility_loss
from muscle_hf.losses.product import TemperatureFit, product_of_logits
from muscle_hf.losses.strategy import Strategy


def _draw(*shape: int, seed: int = 0, scale: float = 3.0) -> Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class TestProduct:
    def test_two_witnesses_of_a_coin_are_multiplied_and_not_averaged(self) -> None:
        old, new = (torch.tensor(p, dtype=torch.float64).log() for p in ([0.8, 0.2], [0.6, 0.4]))
        p = product_of_logits(old, new, (1.0, 1.0)).softmax(-1)
        assert p.tolist() == pytest.approx([0.48 / 0.56, 0.08 / 0.56], rel=1e-12)
        # At 2 the old model's odds of 4 : 1 count as 2 : 1, at 1/2 the new one's of 3 : 2 as 9 : 4.
        p = product_of_logits(old, new, (2.0, 0.5)).softmax(-1)
        assert p.tolist() == pytest.approx([18 / 22, 4 / 22], rel=1e-12)

    def test_probabilities_are_those_of_brute_force(self) -> None:
        old, new, (a, b) = _draw(7, seed=1), _draw(7, seed=2), (1.7, 0.6)
        weights = [
            math.exp(x) ** (1 / a) * math.exp(y) ** (1 / b) for x, y in zip(old.tolist(), new.tolist(), strict=True)
        ]
        p = product_of_logits(old, new, (a, b)).softmax(-1)
        assert p.tolist() == pytest.approx([weight / sum(weights) for weight in weights], rel=1e-12)

    @given(seed=st.integers(0, 1000), shift=st.floats(-50, 50), a=st.floats(0.1, 10), b=st.floats(0.1, 10))
    @settings(max_examples=50, deadline=None)
    def test_constants_added_to_logits_change_nothing(self, seed: int, shift: float, a: float, b: float) -> None:
        old, new = _draw(5, seed=seed), _draw(5, seed=seed + 1)
        p = product_of_logits(old, new, (a, b)).softmax(-1)
        torch.testing.assert_close(product_of_logits(old + shift, new - 2 * shift, (a, b)).softmax(-1), p)

    def test_equal_models_at_two_and_two_are_the_model_itself(self) -> None:
        logits = _draw(4, 9)
        assert torch.equal(product_of_logits(logits, logits, (2.0, 2.0)), logits)

    def test_an_unsure_model_changes_nothing_and_one_that_rules_out_is_heard(self) -> None:
        new = _draw(6)
        p = product_of_logits(torch.zeros(6), new, (3.0, 1.0)).softmax(-1)
        torch.testing.assert_close(p, new.softmax(-1))
        old = torch.zeros(6).index_fill(0, torch.tensor([2]), -math.inf)
        assert product_of_logits(old, new, (3.0, 1.0)).softmax(-1)[2] == 0

    def test_half_precision_is_summed_in_float(self) -> None:
        old, new = _draw(50, seed=3).bfloat16(), _draw(50, seed=4).bfloat16()
        assert torch.equal(product_of_logits(old, new, (3.0, 7.0)), old.float() / 3 + new.float() / 7)


class TestLoss:
    strategy = Strategy(mask="none", teacher="product", product_temperatures=(1.5, 0.75), temperature=2.0)

    def test_it_is_the_divergence_from_the_product_at_the_temperature_of_the_divergence(self) -> None:
        student, old, new = (_draw(3, 4, seed=seed) for seed in range(3))
        labels = torch.tensor([0, 1, 2])
        expected = 0.0
        for row in range(3):
            weights = [math.exp((x / 1.5 + y / 0.75) / 2) for x, y in zip(old[row], new[row], strict=True)]
            p = [weight / sum(weights) for weight in weights]
            q = (student[row] / 2).softmax(-1).tolist()
            expected += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
        result = compatibility_loss(student, old, new, labels, strategy=self.strategy)
        assert result.loss.item() == pytest.approx(expected / 3, rel=1e-12)
        assert result.tokens_to_old == 3

    def test_it_is_zero_at_the_product_and_has_the_gradient_of_differences_elsewhere(self) -> None:
        old, new, labels = _draw(2, 5, seed=5), _draw(2, 5, seed=6), torch.tensor([0, 3])
        at = product_of_logits(old, new, (1.5, 0.75))
        assert compatibility_loss(at + 7, old, new, labels, strategy=self.strategy).loss.item() == pytest.approx(
            0, abs=1e-15
        )
        student = _draw(2, 5, seed=7).requires_grad_()

        def loss(logits: Tensor) -> Tensor:
            return compatibility_loss(logits, old, new, labels, strategy=self.strategy).loss

        assert torch.autograd.gradcheck(loss, student)
        assert torch.autograd.grad(loss(at.requires_grad_()), at)[0].abs().max() < 1e-15

    def test_at_two_and_two_it_is_the_log_ensemble(self) -> None:
        logits, labels = [_draw(6, 5, seed=seed) for seed in range(3)], torch.arange(6) % 5
        product, mean = (
            compatibility_loss(*logits, labels, teacher=teacher, **more)
            for teacher, more in (("product", {"product_temperatures": (2.0, 2.0)}), ("log_ensemble", {}))
        )
        torch.testing.assert_close(product.loss, mean.loss)

    @pytest.mark.parametrize("teacher", ["old", "ensemble", "more_confident"])
    def test_a_token_may_be_given_to_the_product_whatever_the_strategys_teacher_is(self, teacher: str) -> None:
        student, old, new = (_draw(4, 5, seed=seed) for seed in range(3))
        labels, given = torch.tensor([0, 1, 2, 3]), torch.tensor([PRODUCT, OLD, NEW, PRODUCT])
        strategy = Strategy(mask="none", teacher=teacher, product_temperatures=(1.5, 0.75))
        whole = compatibility_loss(student, old, new, labels, given_teachers=given, strategy=strategy, normalizer=1)
        product = compatibility_loss(
            student[[0, 3]], old[[0, 3]], new[[0, 3]], labels[[0, 3]], strategy=self.strategy, normalizer=1
        )
        rest = compatibility_loss(
            student[1:3],
            old[1:3],
            new[1:3],
            labels[1:3],
            given_teachers=given[1:3],
            strategy=strategy,
            normalizer=1,
        )
        torch.testing.assert_close(whole.loss, product.loss + rest.loss)

    def test_teachers_have_numbers_of_their_own(self) -> None:
        assert len({0, OLD, NEW, MIXTURE, PRODUCT}) == 5


def _negative_log_likelihood(logits: Tensor, gold: Tensor, temperature: float) -> float:
    return torch.nn.functional.cross_entropy(logits / temperature, gold).item()


class TestTemperature:
    @given(seed=st.integers(0, 1000), true=st.floats(0.25, 4.0), classes=st.integers(3, 30))
    @settings(max_examples=10, deadline=None)
    def test_it_has_the_smallest_likelihood_of_a_search_in_float64(self, seed: int, true: float, classes: int) -> None:
        logits = _draw(200, classes, seed=seed, scale=2.0)
        torch.manual_seed(seed + 5000)
        gold = torch.distributions.Categorical(logits=logits / true).sample()
        fit = TemperatureFit("old")
        fit.add(logits, gold)
        found = fit.temperature()
        low, high = math.log(found / 1.3), math.log(found * 1.3)
        for _ in range(40):  # the minimum lies where a third of the way from each side is no better
            a, b = low + (high - low) / 3, high - (high - low) / 3
            left, right = (_negative_log_likelihood(logits, gold, math.exp(t)) for t in (a, b))
            low, high = (low, b) if left < right else (a, high)
        assert found == pytest.approx(math.exp((low + high) / 2), rel=2e-4)

    def test_data_drawn_from_the_model_itself_have_temperature_one(self) -> None:
        logits = _draw(20_000, 4, scale=1.5)
        torch.manual_seed(7)
        gold = torch.distributions.Categorical(logits=logits).sample()
        fit = TemperatureFit("new")
        fit.add(logits, gold)
        assert fit.temperature() == pytest.approx(1.0, abs=0.03)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_batches_and_precision_make_no_difference_that_counts(self, dtype: torch.dtype) -> None:
        logits = _draw(300, 12, scale=2.0).to(dtype)
        torch.manual_seed(7)
        gold = torch.distributions.Categorical(logits=logits.double() / 1.7).sample()
        whole, parts, exact = TemperatureFit("old"), TemperatureFit("old"), TemperatureFit("old")
        whole.add(logits + 30, gold)
        exact.add(logits.double(), gold)
        for some, labels in zip(logits.split(7), gold.split(7), strict=True):
            parts.add(some, labels)
        assert parts.temperature() == pytest.approx(exact.temperature(), rel=1e-4)
        if dtype == torch.float32:
            assert whole.temperature() == pytest.approx(exact.temperature(), rel=1e-4)

    def test_a_class_that_the_model_does_not_know_neither_counts_nor_spoils(self) -> None:
        logits = _draw(60, 4, scale=1.5)
        torch.manual_seed(7)
        gold = torch.distributions.Categorical(logits=logits).sample()
        cut = logits.index_fill(1, torch.tensor([3]), -math.inf)
        fit, known = TemperatureFit("old"), TemperatureFit("old")
        fit.add(cut, gold)
        kept = gold != 3
        known.add(logits[kept, :3], gold[kept])
        assert fit.labels == int(kept.sum())
        assert fit.temperature() == pytest.approx(known.temperature(), rel=1e-12)

    @pytest.mark.parametrize(
        ("logits", "gold", "said"),
        [
            ([[5.0, 0.0]] * 3, [0, 0, 0], "The old model has no temperature .* it is right on nearly all of them"),
            ([[5.0, 0.0]] * 3, [1, 1, 1], "no more often than chance"),
            ([[0.0, 0.0]] * 3, [0, 1, 0], "nearly all of them|no more often than chance"),
            ([[5.0, -math.inf]] * 3, [1, 1, 1], "no label to fit temperatures on"),
            ([[math.nan, 0.0]], [1], "are not finite"),
        ],
    )
    def test_data_that_no_temperature_fits_are_refused(self, logits: Any, gold: Any, said: str) -> None:
        fit = TemperatureFit("old")
        fit.add(torch.tensor(logits), torch.tensor(gold))
        with pytest.raises(ConfigurationError, match=said):
            fit.temperature()

    def test_every_way_of_two_answers_has_the_temperature_of_its_odds(self) -> None:
        for right, margin in itertools.product((6, 7, 9), (0.5, 2.0, 4.0)):
            fit = TemperatureFit("new")
            fit.add(torch.tensor([[margin, 0.0]] * 10).double(), torch.tensor([0] * right + [1] * (10 - right)))
            assert fit.temperature() == pytest.approx(margin / math.log(right / (10 - right)), rel=1e-5)
