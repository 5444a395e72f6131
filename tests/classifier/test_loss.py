"""The loss on class logits, held to plain arithmetic over probabilities where the models know other classes."""

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from muscle_hf.classifier.labels import ClassMap
from muscle_hf.classifier.loss import OldClasses, classifier_loss
from muscle_hf.errors import ModelMismatchError
from muscle_hf.losses.compatibility import CompatibilityLoss, compatibility_loss
from muscle_hf.losses.divergences import DIVERGENCES
from muscle_hf.losses.masks import MASKS
from muscle_hf.losses.strategy import TEACHERS, Strategy

NEW, OLD = ("a", "b", "c", "d"), ("c", "x", "a")  # b and d were added, x was removed, the order is another
SAME = OldClasses(ClassMap(NEW, NEW))
CHANGED = OldClasses(ClassMap(NEW, OLD))


def _strategies() -> list[Strategy]:
    """Every mask with every divergence and teacher that go together."""
    found = []
    for mask, divergence, teacher in itertools.product(MASKS, DIVERGENCES, TEACHERS):
        if (teacher == "new" and mask != "none") or (teacher == "ensemble" and divergence.startswith("logit")):
            continue
        found.append(
            Strategy(mask=mask, divergence=divergence, teacher=teacher, cross_entropy_weight=0.3, focal_beta=2.0)
        )
    return found


def _logits(tokens: int, *, old: int = len(OLD), seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def draw(classes: int) -> Tensor:
        return 3 * torch.randn(tokens, classes, generator=generator, dtype=torch.float64)

    return {
        "student_logits": draw(len(NEW)).requires_grad_(),
        "old_logits": draw(old),
        "new_logits": draw(len(NEW)),
        "labels": torch.randint(len(NEW), (tokens,), generator=generator),
    }


def _loss(old_classes: OldClasses, given: dict[str, Tensor], **options: Any) -> CompatibilityLoss:
    strategy = options.pop("strategy", None) or Strategy(**options)
    return classifier_loss(**given, old_classes=old_classes, strategy=strategy)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", _strategies(), ids=lambda s: f"{s.mask}-{s.divergence}-{s.teacher}")
def test_with_the_same_classes_it_is_the_loss_of_language_models(strategy: Strategy) -> None:
    batch = _logits(12, old=len(NEW))
    batch["labels"][::5] = -100
    sequence = torch.arange(12) // 4
    weights = torch.rand(12, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ours = classifier_loss(
        **batch, old_classes=SAME, strategy=strategy, sequence=sequence, weights=weights, normalizer=7
    )
    theirs = compatibility_loss(**batch, strategy=strategy, sequence=sequence, weights=weights, normalizer=7)
    for name in vars(theirs):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), msg=name)


@given(order=st.permutations(range(4)), index=st.integers(0, len(_strategies()) - 1), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_the_order_of_the_old_models_classes_does_not_matter(order: list[int], index: int, seed: int) -> None:
    batch = _logits(6, old=len(NEW), seed=seed)
    straight = _loss(SAME, batch, strategy=_strategies()[index])
    shuffled = OldClasses(ClassMap(NEW, tuple(NEW[place] for place in order)))
    moved = _loss(shuffled, batch | {"old_logits": batch["old_logits"][:, order]}, strategy=_strategies()[index])
    torch.testing.assert_close(moved.loss, straight.loss)
    assert moved.tokens_to_old == straight.tokens_to_old


def _probabilities(logits: Tensor, names: tuple[str, ...], kept: set[str], temperature: float) -> dict[str, float]:
    """A distribution over some of the classes, by hand."""
    weights = {n: math.exp(z / temperature) for n, z in zip(names, logits.tolist(), strict=True) if n in kept}
    return {name: weight / sum(weights.values()) for name, weight in weights.items()}


def _kl(p: dict[str, float], q: dict[str, float]) -> float:
    return sum(p[name] * math.log(p[name] / q[name]) for name in p if p[name] > 0)


@pytest.mark.parametrize("divergence", sorted(DIVERGENCES))
def test_classes_that_only_one_model_knows_are_treated_as_documented(divergence: str) -> None:
    batch = _logits(8)
    batch["labels"] = torch.tensor([0, 2] * 4)  # classes that both know, so every row learns from the old model
    expected = 0.0
    for row in range(8):
        student, old = batch["student_logits"][row].detach(), batch["old_logits"][row]
        both = {"a", "c"}
        p, q = _probabilities(old, OLD, both, 2.0), _probabilities(student, NEW, set(NEW), 2.0)
        q_known = _probabilities(student, NEW, both, 2.0)
        if divergence == "forward_kl":
            expected += _kl(p, q)
        elif divergence == "reverse_kl":
            expected += _kl(q_known, p)
        elif divergence == "jensen_shannon":
            p = {name: p.get(name, 0.0) for name in NEW}
            middle = {name: (p[name] + q[name]) / 2 for name in NEW}
            expected += (_kl(p, middle) + _kl(q, middle)) / 2
        else:
            z = {name: student[NEW.index(name)] - old[OLD.index(name)] for name in both}
            expected += float(sum(max(abs(gap) / 2 - 0.5, 0) ** 2 for gap in z.values())) / 2
    result = _loss(CHANGED, batch, mask="none", divergence=divergence)
    assert result.tokens_to_old == 8
    assert result.loss.item() == pytest.approx(expected / 8)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", _strategies(), ids=lambda s: f"{s.mask}-{s.divergence}-{s.teacher}")
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=["float64", "bfloat16"])
def test_no_strategy_gives_an_infinite_loss_or_gradient_where_classes_differ(
    strategy: Strategy, dtype: torch.dtype
) -> None:
    batch = _logits(16)
    batch |= {name: tensor.detach().to(dtype) for name, tensor in batch.items() if name != "labels"}
    batch["student_logits"].requires_grad_()
    result = classifier_loss(**batch, old_classes=CHANGED, strategy=strategy, sequence=torch.arange(16) // 4)
    result.loss.backward()  # type: ignore[no-untyped-call]
    for name in vars(result):
        assert torch.isfinite(getattr(result, name)), name
    assert torch.isfinite(batch["student_logits"].grad).all()


@pytest.mark.parametrize("mask", sorted(MASKS))
def test_an_instance_of_an_added_class_is_never_pulled_to_the_old_model(mask: str) -> None:
    batch = _logits(6)
    batch["labels"] = torch.tensor([1, 3] * 3)  # b and d, which the old model does not know
    result = _loss(CHANGED, batch, mask=mask)
    assert result.tokens_to_old == 0
    only_new = compatibility_loss(
        batch["student_logits"], batch["new_logits"], batch["new_logits"], batch["labels"], mask="none", teacher="new"
    )
    torch.testing.assert_close(result.loss, only_new.loss)


def test_an_old_model_that_answers_a_removed_class_is_wrong_although_the_rest_would_make_it_right() -> None:
    old = torch.tensor([[1.0, 5.0, 2.0]])  # likeliest is x, which was removed; of the others a, the gold class
    batch = {
        "student_logits": torch.zeros(1, 4),
        "old_logits": old,
        "new_logits": torch.zeros(1, 4),
        "labels": torch.tensor([0]),
    }
    assert _loss(CHANGED, batch, mask="old_right").tokens_to_old == 0
    assert _loss(CHANGED, batch | {"old_logits": old - torch.tensor([0, 5.0, 0])}, mask="old_right").tokens_to_old == 1


def test_removed_classes_leave_a_distribution_over_the_others() -> None:
    logits = torch.tensor([[1.0, 9.0, 3.0]])
    probabilities = CHANGED.logits(logits).softmax(-1)
    expected = torch.tensor([[1 / (1 + math.exp(-2)), 0, 1 / (1 + math.exp(2)), 0]])
    torch.testing.assert_close(probabilities, expected)


def test_answers_of_removed_classes_are_told_apart_from_each_other_and_from_right_ones() -> None:
    classes = OldClasses(ClassMap(("a", "b"), ("x", "b", "y")))
    assert classes.answers(torch.eye(3)).tolist() == [2, 1, 4]


def test_nothing_to_train_on_is_a_loss_of_zero_with_a_gradient_and_not_nan() -> None:
    batch = _logits(3)
    batch["labels"] = torch.full((3,), -100)
    for normalizer in (None, 0, torch.tensor(0)):
        result = classifier_loss(**batch, old_classes=CHANGED, strategy=Strategy(), normalizer=normalizer)
        result.loss.backward()  # type: ignore[no-untyped-call]
        assert result.loss == 0
    assert not batch["student_logits"].grad.any()


def test_a_config_with_another_number_of_classes_than_the_logits_is_found_out() -> None:
    batch = _logits(2, old=4)
    with pytest.raises(ModelMismatchError, match="gives 4 logits and its config says 3"):
        _loss(CHANGED, batch)
