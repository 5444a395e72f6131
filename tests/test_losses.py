"""The compatibility loss against numbers worked out by hand, brute force, and finite differences."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from muscle_hf.errors import ConfigurationError, InputError
from muscle_hf.losses import (
    DIVERGENCES,
    MASKS,
    TokenLogits,
    compatibility_loss,
    forward_kl,
    gold_log_probability,
    logit_difference_inhibition,
    next_token_labels,
    reverse_kl,
)

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


@given(st.integers(0, 10_000), st.sampled_from(sorted(DIVERGENCES)), st.floats(0.1, 10))
@settings(max_examples=60, deadline=None)
def test_no_divergence_is_negative_or_blames_equal_models(seed: int, name: str, temperature: float) -> None:
    teacher, student = _logits(seed, 4, 9), _logits(seed + 1, 4, 9)
    assert (DIVERGENCES[name](teacher, student, temperature) >= -1e-12).all()
    assert DIVERGENCES[name](teacher, teacher, temperature).abs().max() == 0


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


def _example() -> TokenLogits:
    """Four tokens of two sequences, two classes, gold 0; the number is the lead of the gold token."""
    leads = {"student": [1.0, -1.0, -1.0, 2.0], "old": [2.0, 1.0, -2.0, 1.0], "new": [0.0, 0.0, 0.0, 0.0]}
    logits = {name: torch.tensor([[lead, 0.0] for lead in row]) for name, row in leads.items()}
    return TokenLogits(**logits, gold=torch.zeros(4, dtype=torch.long), sequence=torch.tensor([0, 0, 1, 1]))


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        ("student_wrong", [False, True, True, False]),
        ("old_right", [True, True, False, True]),
        ("token_likelihood", [True, True, False, False]),
        ("sequence_likelihood", [True, True, False, False]),
        ("none", [True, True, True, True]),
    ],
)
def test_each_mask_sends_the_right_tokens_to_the_old_model(mask: str, expected: list[bool]) -> None:
    assert MASKS[mask](_example()).tolist() == expected


def test_sequence_likelihood_decides_for_a_sequence_and_not_for_its_tokens() -> None:
    # Sequence 0: the old model is better on one token and much worse on the other; summed, it is worse.
    logits = TokenLogits(
        student=torch.tensor([[0.0, 0.0], [3.0, 0.0]]),
        old=torch.tensor([[1.0, 0.0], [-3.0, 0.0]]),
        new=torch.zeros(2, 2),
        gold=torch.zeros(2, dtype=torch.long),
        sequence=torch.zeros(2, dtype=torch.long),
    )
    assert MASKS["token_likelihood"](logits).tolist() == [True, False]
    assert MASKS["sequence_likelihood"](logits).tolist() == [False, False]


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


def test_gold_log_probability_is_taken_at_temperature_1() -> None:
    assert gold_log_probability(torch.tensor([[LOG_3, 0.0]]), torch.tensor([0])).item() == pytest.approx(
        math.log(0.75)
    )


def test_labels_are_shifted_to_the_position_that_predicts_them() -> None:
    labels = torch.tensor([[-100, 5, 6], [7, 8, -100]])
    assert next_token_labels(labels).tolist() == [[5, 6, -100], [8, -100, -100]]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mask": "student_wron"}, "Did you mean 'student_wrong'"),
        ({"divergence": "kl"}, "forward_kl"),
        ({"temperature": 0.0}, "positive"),
        ({"temperature": math.nan}, "positive"),
        ({"cross_entropy_weight": 1.5}, r"\[0, 1\]"),
    ],
)
def test_a_meaningless_option_is_refused_by_name(options: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        compatibility_loss(*(torch.zeros(1, 2) for _ in range(3)), torch.tensor([0]), **options)


def test_logits_of_another_vocabulary_are_refused_and_not_broadcast() -> None:
    with pytest.raises(InputError, match=r"old logits have shape \(2, 1\)"):
        compatibility_loss(torch.zeros(2, 4), torch.zeros(2, 1), torch.zeros(2, 4), torch.tensor([0, 1]))
