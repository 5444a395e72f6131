"""Stored top-k targets are compared with brute force over the whole vocabulary, in float64."""

import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from muscle_hf.errors import ConfigurationError, InputError
from muscle_hf.losses.divergences import forward_kl, kl_divergence
from muscle_hf.losses.topk import (
    LARGEST_VOCABULARY,
    decode_top_k,
    encode_top_k,
    top_k_classes,
    top_k_layout,
)

HALF = 2.0**-11  # the rounding of half precision, relative


def _logits(rows: int, vocabulary: int, seed: int = 0, scale: float = 3.0) -> torch.Tensor:
    return scale * torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed))


def _error(teacher: torch.Tensor, student: torch.Tensor, *, k: int, temperature: float) -> SimpleNamespace:
    """KL(teacher || student) of each token over the vocabulary, and from what is stored; the mass of the rest."""
    target = decode_top_k(encode_top_k(teacher, _gold(teacher), k=k, temperature=temperature))
    teacher, student = teacher.double(), student.double()
    stored = torch.cat([target.log_probabilities, target.tail[:, None]], dim=-1).double()
    return SimpleNamespace(
        full=forward_kl(teacher, student, temperature),
        top_k=kl_divergence(stored, top_k_classes(student, target.ids, temperature)),
        tail=top_k_classes(teacher, target.ids, temperature)[:, -1].exp(),
    )


def _gold(logits: torch.Tensor) -> torch.Tensor:
    return torch.arange(len(logits)) % logits.shape[1]


def test_worked_out_probabilities_ids_and_tail_come_back_wrong() -> None:
    probabilities = torch.tensor([[0.125, 0.5, 0.25, 0.0625, 0.0625], [0.9, 0.025, 0.025, 0.025, 0.025]])
    stored = encode_top_k(probabilities.log(), torch.tensor([1, 2]), k=2, temperature=1.0)
    target = decode_top_k(stored)
    assert target.ids[0].tolist() == [1, 2]
    assert target.ids[1, 0].item() == 0
    torch.testing.assert_close(target.log_probabilities[0].exp(), torch.tensor([0.5, 0.25]), rtol=1e-3, atol=0)
    torch.testing.assert_close(target.tail.exp(), torch.tensor([0.25, 0.075]), rtol=2e-3, atol=0)
    assert stored["right"].tolist() == [1, 0]
    torch.testing.assert_close(stored["log_likelihood"], torch.tensor([0.5, 0.025]).log())
    torch.testing.assert_close(stored["confidence"], torch.tensor([0.5, 0.9]).log())


def test_the_temperature_reaches_what_masks_ask_for_or_not_the_target() -> None:
    logits = torch.tensor([[2 * math.log(3.0), 0.0]])  # 9 to 1 at temperature 1, 3 to 1 at temperature 2
    stored = encode_top_k(logits, torch.tensor([0]), k=1, temperature=2.0)
    target = decode_top_k(stored)
    torch.testing.assert_close(target.log_probabilities.exp(), torch.tensor([[0.75]]), rtol=1e-3, atol=0)
    torch.testing.assert_close(target.tail.exp(), torch.tensor([0.25]), rtol=1e-3, atol=0)
    torch.testing.assert_close(stored["log_likelihood"].exp(), torch.tensor([0.9]))
    torch.testing.assert_close(stored["confidence"].exp(), torch.tensor([0.9]))


def test_stored_names_types_and_shapes_are_not_the_announced_ones() -> None:
    for vocabulary in (3, 100):
        logits = _logits(7, vocabulary)
        stored = encode_top_k(logits, _gold(logits), k=5, temperature=2.0)
        expected = top_k_layout(5, vocabulary)
        assert {name: (one.dtype, tuple(one.shape[1:])) for name, one in stored.items()} == expected
        assert all(len(one) == 7 for one in stored.values())


@pytest.mark.parametrize("vocabulary", [2**8 + 1, 2**15 + 3, 2**16 + 5, 2**18])
def test_ids_lose_bits_in_their_three_bytes(vocabulary: int) -> None:
    ids = sorted({0, 1, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 131071, vocabulary - 1})
    ids = [one for one in ids if one < vocabulary]
    logits = torch.zeros(1, vocabulary)
    logits[0, ids] = torch.arange(len(ids), 0, -1.0) * 2
    target = decode_top_k(encode_top_k(logits, torch.tensor([0]), k=len(ids), temperature=1.0))
    assert target.ids[0].tolist() == ids


def test_the_largest_ids_lose_bits() -> None:
    # A vocabulary of 2^24 - 1 is 64 MiB of logits; the bytes alone tell the same.
    ids = torch.tensor([[LARGEST_VOCABULARY - 2, 2**23, 2**23 - 1]])
    stored = {
        "ids_low": (ids & 0xFFFF).to(torch.int32).to(torch.uint16),
        "ids_high": (ids >> 16).to(torch.uint8),
        "log_probabilities": torch.zeros(1, 3).half(),
        "tail": torch.zeros(1).half(),
    }
    assert decode_top_k(stored).ids.tolist() == ids.tolist()


@pytest.mark.parametrize("k", [4, 5, 100])
def test_without_a_tail_some_mass_is_left_in_it(k: int) -> None:
    logits = _logits(6, 4)
    target = decode_top_k(encode_top_k(logits, _gold(logits), k=k, temperature=2.0))
    assert target.ids.shape == (6, 4)
    assert (target.tail == -math.inf).all()
    exact = (logits / 2).log_softmax(-1).gather(-1, target.ids)
    torch.testing.assert_close(target.log_probabilities, exact, rtol=0, atol=2e-2)
    classes = top_k_classes(logits, target.ids, 2.0)
    assert (classes[:, -1] == -math.inf).all()


@pytest.mark.parametrize("gap", [5.0, 20.0, 60.0])
def test_a_tail_near_nothing_loses_its_digits(gap: float) -> None:
    """1 minus the sum of the others would be 0, or noise, in float32."""
    logits = torch.zeros(1, 50)
    logits[0, 3] = gap
    target = decode_top_k(encode_top_k(logits, torch.tensor([3]), k=1, temperature=1.0))
    exact = math.log(49) - math.log(49 + math.exp(gap))
    assert target.tail.item() == pytest.approx(exact, rel=2 * HALF)


def test_a_tail_near_everything_takes_the_mass_of_the_others() -> None:
    logits = torch.zeros(1, 100_000)
    logits[0, 0] = 1.0
    target = decode_top_k(encode_top_k(logits, torch.tensor([0]), k=2, temperature=1.0))
    total = 99_999 + math.e
    assert target.log_probabilities[0, 0].item() == pytest.approx(1 - math.log(total), rel=2 * HALF)
    assert target.tail.item() == pytest.approx(math.log(99_998) - math.log(total), abs=5e-7)


@settings(max_examples=60, deadline=None)
@given(
    vocabulary=st.integers(1, 60),
    k=st.integers(1, 70),
    seed=st.integers(0, 10_000),
    scale=st.sampled_from([0.0, 0.1, 1.0, 10.0, 100.0]),
    temperature=st.sampled_from([0.5, 1.0, 2.0]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16, torch.float64]),
)
def test_a_stored_target_is_no_distribution_or_not_the_teachers(
    vocabulary: int, k: int, seed: int, scale: float, temperature: float, dtype: torch.dtype
) -> None:
    logits = _logits(8, vocabulary, seed, scale).to(dtype)
    target = decode_top_k(encode_top_k(logits, _gold(logits), k=k, temperature=temperature))
    total = target.log_probabilities.exp().double().sum(-1) + target.tail.exp().double()
    torch.testing.assert_close(total, torch.ones(8, dtype=torch.float64), rtol=0, atol=1e-6)
    exact = (logits.double() / temperature).log_softmax(-1)
    kept = exact.gather(-1, target.ids)
    assert (kept.amin(-1, keepdim=True) >= exact.topk(min(k, vocabulary)).values[:, -1:] - 1e-9).all()
    # Each logarithm is off by its own rounding, and all by that of the sum.
    slack = HALF * (kept.abs() + exact.amax(-1, keepdim=True).abs() + 1) + 1e-5
    assert ((target.log_probabilities - kept).abs() <= slack).all()
    if k < vocabulary:
        tail = exact.scatter(-1, target.ids, -math.inf).logsumexp(-1)
        assert ((target.tail - tail).abs() <= HALF * tail.abs() + 2 * slack.amax(-1)).all()


def test_a_large_batch_is_encoded_otherwise_than_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = _logits(23, 40)
    whole = encode_top_k(logits, _gold(logits), k=6, temperature=2.0)
    monkeypatch.setattr("muscle_hf.losses.topk._PIECE", 120)  # three rows at once
    for name, one in encode_top_k(logits, _gold(logits), k=6, temperature=2.0).items():
        assert torch.equal(one.view(torch.uint8), whole[name].view(torch.uint8)), name


def test_no_tokens_are_an_error() -> None:
    stored = encode_top_k(torch.zeros(0, 9), torch.zeros(0, dtype=torch.long), k=3, temperature=1.0)
    assert [len(one) for one in decode_top_k(stored)] == [0, 0, 0]


def test_a_class_that_the_teacher_rules_out_makes_nan() -> None:
    logits = torch.tensor([[0.0, -math.inf, -math.inf, 0.0]])
    for k in (1, 2, 3, 4):
        target = decode_top_k(encode_top_k(logits, torch.tensor([0]), k=k, temperature=2.0))
        assert not any(torch.isnan(one).any() for one in target[1:])
        error = _error(logits, torch.zeros(1, 4), k=k, temperature=2.0)
        assert error.full.item() == pytest.approx(math.log(2))
        # With one token kept, the tail of 1/2 meets the student's 3/4.
        expected = math.log(2) if k > 1 else (math.log(2) + math.log(2 / 3)) / 2
        assert error.top_k.item() == pytest.approx(expected, abs=1e-3)


def test_nan_logits_look_like_a_target() -> None:
    stored = encode_top_k(torch.tensor([[0.0, math.nan, 1.0]]), torch.tensor([0]), k=2, temperature=1.0)
    assert torch.isnan(stored["log_probabilities"]).any()
    assert torch.isnan(stored["tail"]).all()


@pytest.mark.parametrize("k", [1, 3, 10, 40])
def test_the_error_is_not_the_divergence_inside_the_tail(k: int) -> None:
    teacher, student = _logits(30, 40, 1).double(), _logits(30, 40, 2).double()
    error = _error(teacher, student, k=k, temperature=2.0)
    torch.testing.assert_close(error.full, forward_kl(teacher, student, 2.0))
    ids = teacher.topk(k).indices
    p, q = ((one / 2).log_softmax(-1).scatter(-1, ids, -math.inf) for one in (teacher, student))
    if k < 40:
        outside = q.log_softmax(-1).masked_fill(p == -math.inf, 0)
        inside = p.logsumexp(-1).exp() * kl_divergence(p.log_softmax(-1), outside)
    else:
        inside = torch.zeros(30, dtype=torch.float64)
    torch.testing.assert_close(error.top_k, error.full - inside, rtol=0, atol=5e-3)
    torch.testing.assert_close(error.tail, p.logsumexp(-1).exp())


def test_more_tokens_give_a_worse_divergence() -> None:
    teacher, student = _logits(50, 400, 1), _logits(50, 400, 2)
    gaps = [
        (one.full - one.top_k).mean().item()
        for one in (_error(teacher, student, k=k, temperature=2.0) for k in (1, 4, 16, 64, 256, 400))
    ]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[0] > 0.1
    assert abs(gaps[-1]) < 1e-3


@pytest.mark.parametrize("k", [3, 12])
def test_the_student_learns_from_another_gradient_or_from_nan(k: int) -> None:
    """Where the student agrees with the teacher inside the tail, the gradient of k + 1 classes is the full one."""
    teacher = _logits(5, 12, 1).double()
    student = _logits(5, 12, 2).double()
    ids = teacher.topk(k).indices
    if k < 12:
        rest = torch.ones(5, 12, dtype=torch.bool).scatter(-1, ids, False)
        student = torch.where(rest, teacher + 0.7, student)
    full, few = student.clone().requires_grad_(), student.clone().requires_grad_()
    forward_kl(teacher, full, 2.0).sum().backward()
    kl_divergence(top_k_classes(teacher, ids, 2.0), top_k_classes(few, ids, 2.0)).sum().backward()
    torch.testing.assert_close(few.grad, full.grad)


def test_gradients_of_the_student_are_wrong() -> None:
    logits = _logits(3, 7, 3).double().requires_grad_()
    ids = torch.tensor([[0, 2], [6, 1], [3, 4]])
    assert torch.autograd.gradcheck(lambda one: top_k_classes(one, ids, 2.0), (logits,))


def test_at_64_of_thousands_a_stored_target_is_off_by_more_than_half_precision_explains() -> None:
    """With a peaked teacher, as language models are, rounding costs less than a thousandth of the divergence."""
    ranks = torch.arange(1, 4001, dtype=torch.float64)
    order = torch.stack([torch.randperm(4000, generator=torch.Generator().manual_seed(i)) for i in range(20)])
    teacher = torch.zeros(20, 4000, dtype=torch.float64).scatter(-1, order, (-3 * ranks.log()).expand(20, -1))
    student = teacher + _logits(20, 4000, 5, 0.5)
    error = _error(teacher, student, k=64, temperature=1.0)
    classes = kl_divergence(
        top_k_classes(teacher, teacher.topk(64).indices, 1.0), top_k_classes(student, teacher.topk(64).indices, 1.0)
    )
    assert (error.top_k - classes).abs().mean() < 1e-3 * error.full.mean()
    assert (error.full - error.top_k).abs().mean() < 1e-2 * error.full.mean()


@pytest.mark.parametrize(("k", "vocabulary"), [(0, 10), (-1, 10), (3, LARGEST_VOCABULARY), (3, 0)])
def test_a_size_that_cannot_be_stored_is_taken(k: int, vocabulary: int) -> None:
    with pytest.raises(ConfigurationError, match=r"k=|vocabulary of"):
        top_k_layout(k, vocabulary)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
def test_a_temperature_without_meaning_is_taken(temperature: float) -> None:
    with pytest.raises(ConfigurationError, match="temperature"):
        encode_top_k(torch.zeros(1, 3), torch.zeros(1, dtype=torch.long), k=1, temperature=temperature)


@pytest.mark.parametrize(
    ("shape", "gold", "message"),
    [((2, 3), [0], "do not fit"), ((3,), [0], "do not fit"), ((1, 3), [-100], "-100"), ((1, 3), [3], "ids 0 to 2")],
)
def test_gold_tokens_that_do_not_fit_are_stored(shape: tuple[int, ...], gold: list[int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        encode_top_k(torch.zeros(shape), torch.tensor(gold), k=1, temperature=1.0)
