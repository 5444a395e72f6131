"""The compatibility loss against numbers worked out by hand, brute force, and finite differences."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from muscle_hf.errors import InputError
from muscle_hf.losses.compatibility import NEW, OLD, compatibility_loss
from muscle_hf.losses.divergences import DIVERGENCES, forward_kl
from muscle_hf.losses.logits import next_token_labels
from muscle_hf.losses.masks import MASKS, Scores
from muscle_hf.losses.strategy import Strategy

LOG_3 = math.log(3.0)


def _logits(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def _brute_force(student, old, new, labels, temperature):
    """Eq. 1 as the paper writes it: token by token, class by class, with nothing but math.exp and math.log."""

    def softmax(row):
        powers = [math.exp(z / temperature) for z in row]
        return [power / sum(powers) for power in powers]

    losses = []
    for z_student, z_old, z_new, gold in zip(
        student.tolist(), old.tolist(), new.tolist(), labels.tolist(), strict=True
    ):
        if gold == -100:
            continue
        wrong = max(range(len(z_student)), key=z_student.__getitem__) != gold
        p, q = softmax(z_old if wrong else z_new), softmax(z_student)
        losses.append(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))
    return sum(losses) / len(losses)


def test_equation_1_gives_the_value_worked_out_by_hand() -> None:
    # Two classes, T = 2, logits 2 log 3 and 0 have p = (3/4, 1/4). KL((3/4, 1/4) || (1/4, 3/4)) = 1/2 log 3.
    up, down = torch.tensor([2 * LOG_3, 0.0]), torch.tensor([0.0, 2 * LOG_3])
    student = torch.stack([up, up])
    old = torch.stack([down, down])
    new = torch.stack([up, up])
    labels = torch.tensor([1, 0])  # the student is wrong on the first token, right on the second
    result = compatibility_loss(student, old, new, labels)
    assert result.loss.item() == pytest.approx(0.5 * LOG_3 / 2)  # the second token is at its teacher already
    assert result.divergence_to_old.item() == pytest.approx(0.5 * LOG_3)
    assert (result.tokens.item(), result.tokens_to_old.item(), result.correct_tokens.item()) == (2, 1, 1)


@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(2, 7), st.sampled_from([0.5, 1.0, 2.0, 5.0]))
@settings(max_examples=60, deadline=None)
def test_the_loss_is_equation_1_token_by_token(seed: int, tokens: int, classes: int, temperature: float) -> None:
    student, old, new = (_logits(seed + k, tokens, classes) for k in range(3))
    labels = torch.randint(0, classes, (tokens,), generator=torch.Generator().manual_seed(seed))
    labels[1::3] = -100
    result = compatibility_loss(student, old, new, labels, temperature=temperature)
    assert result.loss.item() == pytest.approx(_brute_force(student, old, new, labels, temperature), abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("mask", sorted(MASKS))
@pytest.mark.parametrize("divergence", sorted(DIVERGENCES))
@pytest.mark.parametrize("cross_entropy_weight", [0.0, 0.3, 1.0])
def test_the_gradient_is_the_slope_of_the_loss(mask: str, divergence: str, cross_entropy_weight: float) -> None:
    old, new = 2 * _logits(1, 5, 4), 2 * _logits(2, 5, 4)
    labels = torch.tensor([0, 1, -100, 3, 2])

    def loss(student: torch.Tensor) -> torch.Tensor:
        options = {"mask": mask, "divergence": divergence, "cross_entropy_weight": cross_entropy_weight}
        return compatibility_loss(student, old, new, labels, scale_by_temperature_squared=True, **options).loss

    student = (2 * _logits(3, 5, 4)).requires_grad_()
    assert torch.autograd.gradcheck(loss, (student,), eps=1e-6, atol=1e-7)


def test_no_gradient_reaches_a_teacher() -> None:
    student, old, new = (_logits(k, 4, 6).requires_grad_() for k in range(3))
    compatibility_loss(student, old, new, torch.tensor([0, 1, 2, 3]), cross_entropy_weight=0.5).loss.backward()
    assert old.grad is None
    assert new.grad is None
    assert student.grad.abs().sum() > 0


def test_ignored_positions_contribute_nothing_even_where_logits_are_garbage() -> None:
    student, old, new = (_logits(k, 2, 5, 7) for k in range(3))
    labels = torch.randint(0, 7, (2, 5), generator=torch.Generator().manual_seed(0))
    labels[0, 1] = labels[1, 3] = labels[1, 4] = -100
    kept = labels != -100
    clean = compatibility_loss(student[kept], old[kept], new[kept], labels[kept])
    for logits in (student, old, new):
        logits[~kept] = math.nan
    student.requires_grad_()
    result = compatibility_loss(student, old, new, labels)
    result.loss.backward()
    assert result.loss.item() == pytest.approx(clean.loss.item())
    assert result.tokens.item() == 7
    assert student.grad[~kept].abs().sum() == 0


@given(st.lists(st.integers(0, 8), min_size=1, max_size=5), st.sampled_from(sorted(MASKS)))
@settings(max_examples=60, deadline=None)
def test_gradient_accumulation_does_not_change_the_loss(ignored: list[int], mask: str) -> None:
    # Rows of unequal numbers of trained tokens: a mean of the pieces' means would be wrong.
    rows = len(ignored)
    student, old, new = (_logits(k, rows, 8, 5) for k in range(3))
    labels = torch.randint(0, 5, (rows, 8), generator=torch.Generator().manual_seed(rows))
    for row, count in enumerate(ignored):
        labels[row, :count] = -100
    tokens = (labels != -100).sum()
    normalizer = tokens.clamp(min=1)
    whole = compatibility_loss(student, old, new, labels, mask=mask, cross_entropy_weight=0.4, normalizer=normalizer)
    pieces = [
        compatibility_loss(
            student[[row]],
            old[[row]],
            new[[row]],
            labels[[row]],
            mask=mask,
            cross_entropy_weight=0.4,
            normalizer=normalizer,
        )
        for row in range(rows)
    ]
    assert sum(piece.loss.item() for piece in pieces) == pytest.approx(whole.loss.item(), abs=1e-12)
    assert sum(piece.tokens_to_old.item() for piece in pieces) == whole.tokens_to_old.item()
    assert whole.tokens == tokens


def test_a_batch_without_trained_tokens_has_a_gradient_of_zero() -> None:
    student = _logits(0, 2, 3, 4).requires_grad_()
    result = compatibility_loss(student, _logits(1, 2, 3, 4), _logits(2, 2, 3, 4), torch.full((2, 3), -100))
    result.loss.backward()
    assert result.loss.item() == 0
    assert student.grad.abs().sum() == 0
    # So has a whole optimizer step without any.
    for normalizer in (torch.tensor(0), 0):
        options = {"normalizer": normalizer}
        assert compatibility_loss(student, student, student, torch.full((2, 3), -100), **options).loss.item() == 0


def test_cross_entropy_weight_mixes_equation_5() -> None:
    student, old, new = (_logits(k, 6, 5) for k in range(3))
    labels = torch.tensor([0, 1, 2, 3, 4, 0])
    eq_1 = compatibility_loss(student, old, new, labels).loss
    cross_entropy = torch.nn.functional.cross_entropy(student, labels)
    mixed = compatibility_loss(student, old, new, labels, cross_entropy_weight=0.25)
    assert mixed.loss.item() == pytest.approx((0.75 * eq_1 + 0.25 * cross_entropy).item())
    assert mixed.cross_entropy.item() == pytest.approx(6 * cross_entropy.item())


def test_the_paper_has_no_factor_of_the_squared_temperature() -> None:
    student, old, new = (_logits(k, 6, 5) for k in range(3))
    labels = torch.tensor([0, 1, 2, 3, 4, 0])
    plain = compatibility_loss(student, old, new, labels, temperature=3.0).loss
    scaled = compatibility_loss(student, old, new, labels, temperature=3.0, scale_by_temperature_squared=True).loss
    assert scaled.item() == pytest.approx(9 * plain.item())


def test_packed_sequences_are_judged_one_by_one() -> None:
    # The same two sequences as two rows, and packed into one row, must give the same loss.
    student, old, new = (_logits(k, 2, 3, 5) for k in range(3))
    labels = torch.tensor([[0, 1, 2], [3, 4, 0]])
    rows = compatibility_loss(student, old, new, labels, mask="sequence_likelihood")
    flat = [logits.reshape(1, 6, 5) for logits in (student, old, new)]
    packed = compatibility_loss(
        *flat, labels.reshape(1, 6), mask="sequence_likelihood", sequence=torch.tensor([[0, 0, 0, 1, 1, 1]])
    )
    assert packed.loss.item() == pytest.approx(rows.loss.item())
    assert packed.tokens_to_old == rows.tokens_to_old


def test_half_precision_logits_are_summed_in_float32() -> None:
    student, old, new = (_logits(k, 8, 500, dtype=torch.float32) for k in range(3))
    labels = torch.arange(8)
    halves = [logits.bfloat16() for logits in (student, old, new)]
    exact = compatibility_loss(*(half.float() for half in halves), labels)
    assert compatibility_loss(*halves, labels).loss.item() == pytest.approx(exact.loss.item())


def test_labels_are_shifted_to_the_position_that_predicts_them() -> None:
    labels = torch.tensor([[-100, 5, 6], [7, 8, -100]])
    assert next_token_labels(labels).tolist() == [[5, 6, -100], [8, -100, -100]]


def test_logits_of_another_vocabulary_are_refused_and_not_broadcast() -> None:
    with pytest.raises(InputError, match=r"old logits have shape \(2, 1\)"):
        compatibility_loss(torch.zeros(2, 4), torch.zeros(2, 1), torch.zeros(2, 4), torch.tensor([0, 1]))


def _mixed(old: torch.Tensor, new: torch.Tensor, teacher: str, temperature: float) -> torch.Tensor:
    """Probabilities of each mixture, from their definitions."""
    if teacher == "ensemble":
        return ((old / temperature).softmax(-1) + (new / temperature).softmax(-1)) / 2
    if teacher == "log_ensemble":
        product = ((old / temperature).softmax(-1) * (new / temperature).softmax(-1)).sqrt()
        return product / product.sum(-1, keepdim=True)
    surer = old.softmax(-1).amax(-1) > new.softmax(-1).amax(-1)
    return torch.where(surer[:, None], old, new).div(temperature).softmax(-1)


@pytest.mark.parametrize("teacher", ["ensemble", "log_ensemble", "more_confident"])
def test_a_mixture_of_both_teachers_is_what_its_name_says(teacher: str) -> None:
    student, old, new = (2 * _logits(k, 8, 5) for k in range(3))
    labels = torch.randint(0, 5, (8,), generator=torch.Generator().manual_seed(0))
    p = _mixed(old, new, teacher, 2.0)
    q = (student / 2.0).softmax(-1)
    result = compatibility_loss(student, old, new, labels, teacher=teacher, mask="none")
    assert result.loss.item() == pytest.approx((p * (p / q).log()).sum(-1).mean().item())
    assert result.tokens_to_old == 8


def test_unmarked_tokens_stay_with_the_new_model_whatever_the_teacher() -> None:
    student, old, new = (2 * _logits(k, 8, 5) for k in range(3))
    labels = student.argmax(-1)  # right everywhere, so that "student_wrong" marks nothing
    ensemble = compatibility_loss(student, old, new, labels, teacher="ensemble")
    assert ensemble.loss.item() == pytest.approx(forward_kl(new, student, 2.0).mean().item())


def test_self_distillation_never_looks_at_the_old_model() -> None:
    student, new = _logits(0, 4, 5), _logits(1, 4, 5)
    garbage = torch.full((4, 5), math.nan, dtype=torch.float64)
    result = compatibility_loss(student, garbage, new, torch.tensor([0, 1, 2, 3]), teacher="new", mask="none")
    assert result.loss.item() == pytest.approx(forward_kl(new, student, 2.0).mean().item())
    assert result.tokens_to_old == 0


def test_a_given_teacher_overrules_the_mask() -> None:
    student, old, new = (_logits(k, 3, 5) for k in range(3))
    labels = student.argmax(-1)
    labels[2] = (labels[2] + 1) % 5  # right, right, wrong: the mask alone says new, new, old
    result = compatibility_loss(student, old, new, labels, given_teachers=torch.tensor([OLD, 0, NEW]))
    to_old, to_new = forward_kl(old, student, 2.0), forward_kl(new, student, 2.0)
    assert result.divergence_to_old.item() == pytest.approx(to_old[0].item())
    assert result.divergence_to_new.item() == pytest.approx((to_new[1] + to_new[2]).item())


def test_a_given_old_teacher_is_the_old_model_and_no_mixture() -> None:
    student, old, new = (_logits(k, 3, 5) for k in range(3))
    given = torch.full((3,), OLD)
    result = compatibility_loss(student, old, new, torch.tensor([0, 1, 2]), teacher="ensemble", given_teachers=given)
    assert result.loss.item() == pytest.approx(forward_kl(old, student, 2.0).mean().item())


def test_weights_multiply_each_instance_and_leave_the_normalizer_alone() -> None:
    student, old, new = (_logits(k, 2, 3, 5) for k in range(3))
    labels = torch.tensor([[0, 1, 2], [3, 4, 0]])
    weights = torch.tensor([[2.0] * 3, [0.5] * 3], dtype=torch.float64)
    options = {"cross_entropy_weight": 0.3}
    rows = [
        compatibility_loss(student[[k]], old[[k]], new[[k]], labels[[k]], normalizer=6, **options).loss for k in (0, 1)
    ]
    weighted = compatibility_loss(student, old, new, labels, weights=weights, **options)
    assert weighted.loss.item() == pytest.approx((2 * rows[0] + 0.5 * rows[1]).item())


def test_focal_distillation_weighs_what_the_old_model_got_right() -> None:
    # PCT: (alpha + beta * 1[old right]) * KL(old || student) * T^2.
    student, old, new = (_logits(k, 6, 5) for k in range(3))
    labels = old.argmax(-1)
    labels[3:] = (labels[3:] + 1) % 5
    result = compatibility_loss(
        student, old, new, labels, mask="none", focal_beta=5.0, scale_by_temperature_squared=True
    )
    distances = 4 * forward_kl(old, student, 2.0)
    assert result.loss.item() == pytest.approx((6 * distances[:3].sum() + distances[3:].sum()).item() / 6)
    assert result.divergence_to_old.item() == pytest.approx(distances.sum().item())  # logged without weights


def test_a_mask_of_ones_own_decides() -> None:
    student, old, new = (_logits(k, 4, 5) for k in range(3))

    def every_other(scores: Scores) -> torch.Tensor:
        return torch.arange(len(scores.gold)) % 2 == 0

    result = compatibility_loss(student, old, new, torch.tensor([0, 1, 2, 3]), mask=every_other)
    assert result.tokens_to_old == 2


def test_strategy_and_single_options_are_not_mixed() -> None:
    logits = torch.zeros(1, 2)
    with pytest.raises(TypeError, match="not both"):
        compatibility_loss(logits, logits, logits, torch.tensor([0]), strategy=Strategy(), mask="none")
