"""The contrastive loss has the values worked out by hand, and what it makes up leaves no gradient behind."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from muscle_hf.errors import ConfigurationError, InputError
from muscle_hf.losses import IGNORE_INDEX, States, contrastive_loss
from muscle_hf.losses.contrastive import Projection, distant_target, imposter, mean_norm, pooled


def same(values: Tensor) -> Tensor:
    return values


def batch(rows: int = 3, length: int = 4, *, width: int = 6, vocabulary: int = 5, seed: int = 0) -> tuple[Any, ...]:
    """Return source and target, ragged, with labels, a head and a projection in float64."""
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.arange(rows) % length + 1
    mask = torch.arange(length) < lengths.unsqueeze(1)
    labels = torch.randint(vocabulary, (rows, length), generator=draw).masked_fill(~mask, IGNORE_INDEX)
    source, target = (torch.randn(rows, length, width, generator=draw, dtype=torch.float64) for _ in range(2))
    head = nn.Linear(width, vocabulary, bias=False).double()
    nn.init.normal_(head.weight, generator=draw)
    projection = Projection(width).double()
    return States(source, mask.flip(0)), States(target, mask), labels, head, projection


def test_the_imposter_raises_the_loss_by_the_gradients_norm_to_first_order() -> None:
    _, target, labels, head, _ = batch()

    def losses(values: Tensor) -> Tensor:
        return nn.functional.cross_entropy(head(values[target.mask]), labels[target.mask], reduction="none")

    leaf = target.values.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(losses(leaf).sum(), leaf)
    size = 1e-6
    moved = imposter(target, labels, head, size)
    rise = (losses(moved) - losses(target.values)) / (size * mean_norm(target))
    torch.testing.assert_close(rise, gradient.norm(dim=-1)[target.mask], rtol=1e-5, atol=1e-7)


def test_on_a_linear_loss_the_change_is_exact() -> None:
    # Two tokens that are all but sure to be wrong: the cross-entropy is the difference of the logits, which is linear.
    head = nn.Linear(2, 2, bias=False).double()
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[100.0, 0.0], [0.0, 100.0]]))
    target = States(torch.tensor([[[-3.0, 4.0]]], dtype=torch.float64), torch.tensor([[True]]))
    labels = torch.tensor([[0]])
    moved = imposter(target, labels, head, 0.5)
    before, after = (nn.functional.cross_entropy(head(v)[0], labels[0]) for v in (target.values, moved))
    # ||g|| is 100 sqrt(2), and half of the mean norm, 5, is walked.
    assert (after - before).item() == pytest.approx(2.5 * 100 * math.sqrt(2))


def test_every_state_is_moved_by_as_much_and_padding_not_at_all() -> None:
    source, target, labels, head, projection = batch()
    moved = (imposter(target, labels, head, 0.3) - target.values).norm(dim=-1)
    torch.testing.assert_close(moved[target.mask], torch.full((6,), 0.3 * mean_norm(target).item()).double())
    far = distant_target(source, target, projection, head, 0.3)
    for values in (moved, (far - target.values).norm(dim=-1)):
        assert not values[~target.mask].any()


def test_the_distant_target_is_further_from_its_source_and_closer_to_its_tokens_than_half_way() -> None:
    source, target, _, head, projection = batch(rows=4)
    size = 1e-4

    def contrast(values: Tensor) -> Tensor:
        ours, theirs = pooled(source, projection), pooled(States(values, target.mask), projection)
        cosines = nn.functional.cosine_similarity(ours.unsqueeze(1), theirs.unsqueeze(0), dim=-1) / 0.1
        return nn.functional.cross_entropy(cosines, torch.arange(4), reduction="sum")

    def divergence(values: Tensor) -> Tensor:
        meant, said = (head(v[target.mask]).log_softmax(-1) for v in (target.values, values))
        return nn.functional.kl_div(said, meant, reduction="sum", log_target=True)

    leaf = target.values.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(contrast(leaf), leaf)
    norms = gradient.norm(dim=-1, keepdim=True)
    half_way = target.values + size * mean_norm(target) * torch.where(norms > 0, gradient / norms, 0)
    rise = (contrast(half_way) - contrast(target.values)) / (size * mean_norm(target))
    torch.testing.assert_close(rise, gradient.norm(dim=-1).sum(), rtol=1e-2, atol=1e-3)
    far = distant_target(source, target, projection, head, size)
    leaf = half_way.detach().requires_grad_()
    (back,) = torch.autograd.grad(divergence(leaf), leaf)
    norms = back.norm(dim=-1, keepdim=True)
    expected = half_way - size * mean_norm(target) * torch.where(norms > 0, back / norms, 0)
    torch.testing.assert_close(far, expected)


def test_the_loss_of_two_rows_is_the_one_by_hand() -> None:
    # Each source points where its target does and stands at right angles to the other: cosines 1 and 0.
    mask = torch.ones(2, 1, dtype=torch.bool)
    source = States(torch.eye(2, dtype=torch.float64).view(2, 1, 2), mask)
    target = States(2 * torch.eye(2, dtype=torch.float64).view(2, 1, 2), mask)
    labels, temperature = torch.tensor([[0], [1]]), 0.5
    loss = contrastive_loss(
        source,
        target,
        labels,
        projection=same,
        head=same,
        temperature=temperature,
        negative_perturbation=0.5,
        positive_perturbation=0.25,
    )
    # Row 0: h = (2, 0), mean norm 2, the cross-entropy falls along (1, -1): the imposter is h + (-1, 1) / sqrt(2).
    wrong = (2 - math.sqrt(0.5), math.sqrt(0.5))
    # The contrast rises along (0, 1), towards the other row's source (a cosine of 1 has no slope), by .25 * 2; then
    # against the gradient of the divergence, along (1, -1) / sqrt(2), by as much.
    far = (2 + 0.5 / math.sqrt(2), 0.5 - 0.5 / math.sqrt(2))
    cosines = {name: x / math.hypot(x, y) for name, (x, y) in {"wrong": wrong, "far": far}.items()}
    negatives = math.exp(0) + math.exp(cosines["wrong"] / temperature)
    by_hand = [
        math.log(math.exp(cosine / temperature) + negatives) - cosine / temperature for cosine in (1, cosines["far"])
    ]
    assert loss.tolist() == pytest.approx([sum(by_hand) / 2] * 2)


def test_gradients_of_the_main_loss_are_bitwise_those_without_the_inner_ones() -> None:
    source, target, labels, head, projection = batch()
    target.values.requires_grad_()

    def main_gradients(*, with_contrast: bool) -> list[Tensor]:
        parameters = [*head.parameters(), target.values]
        for parameter in [*parameters, *projection.parameters()]:
            parameter.grad = torch.ones_like(parameter)  # as accumulated before
        main = nn.functional.cross_entropy(head(target.values)[target.mask], labels[target.mask])
        if with_contrast:
            imposter(target, labels, head, 1.0)
            distant_target(source, target, projection, head, 3.0)
        assert all(torch.equal(weight.grad, torch.ones_like(weight)) for weight in projection.parameters())
        main.backward()
        return [parameter.grad.clone() for parameter in parameters]

    without, beside = (main_gradients(with_contrast=value) for value in (False, True))
    assert all(torch.equal(*pair) for pair in zip(without, beside, strict=True))


def test_the_contrast_itself_gives_the_head_no_gradient() -> None:
    source, target, labels, head, projection = batch()
    source.values.requires_grad_(), target.values.requires_grad_()
    contrastive_loss(source, target, labels, projection=projection, head=head).mean().backward()
    assert head.weight.grad is None
    assert all(t.grad is not None for t in (source.values, target.values, projection.linear.weight))


def test_gradients_are_those_of_differences_where_what_is_made_up_stays_where_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source, target, labels, head, projection = batch()
    module = "muscle_hf.losses.contrastive"
    wrong, far = imposter(target, labels, head, 1.0), distant_target(source, target, projection, head, 3.0)
    monkeypatch.setattr(f"{module}.imposter", lambda *_: wrong)
    monkeypatch.setattr(f"{module}.distant_target", lambda *_, **__: far)

    def loss(source_values: Tensor, target_values: Tensor) -> Tensor:
        pair = States(source_values, source.mask), States(target_values, target.mask)
        return contrastive_loss(*pair, labels, projection=projection, head=head)

    inputs = source.values.requires_grad_(), target.values.requires_grad_()
    assert torch.autograd.gradcheck(loss, inputs)


def test_padding_changes_nothing() -> None:
    source, target, labels, head, projection = batch()
    further = States(target.values.flip(0), target.mask.flip(0))

    def padded(states: States, by: int) -> States:
        noise = torch.full((len(states.values), by, 6), 7.0, dtype=torch.float64)
        return States(torch.cat([states.values, noise], 1), nn.functional.pad(states.mask, (0, by)))

    def loss(by: int) -> Tensor:
        longer = nn.functional.pad(labels, (0, by), value=IGNORE_INDEX)
        texts = [padded(states, by) for states in (source, target, further)]
        return contrastive_loss(
            *texts[:2], longer, projection=projection, head=head, negative=texts[2], positive=texts[2]
        )

    torch.testing.assert_close(loss(0), loss(3), rtol=1e-12, atol=1e-12)


def test_the_same_target_in_another_row_is_no_negative() -> None:
    source, target, _, head, projection = batch(rows=2)
    mask = torch.ones(2, 4, dtype=torch.bool)
    labels = torch.tensor([[1, 2, 3, 4], [1, 2, 3, 4]])
    options: dict[str, Any] = {"projection": projection, "head": head, "temperature": 0.1}
    source, target = States(source.values, mask), States(target.values, mask)
    loss = contrastive_loss(source, target, labels, **options)
    # With imposters alone as negatives, the two terms of row 0 know nothing of row 1.
    fake = States(imposter(target, labels, head, 1.0), mask)
    ours, right, wrong = (pooled(states, projection) for states in (source, target, fake))
    cosines = [nn.functional.cosine_similarity(ours, other, dim=-1) / 0.1 for other in (right, wrong)]
    no_others = torch.zeros(2, 2, dtype=torch.bool)
    far = States(distant_target(source, target, projection, head, 3.0, others=no_others), mask)
    distant = nn.functional.cosine_similarity(ours, pooled(far, projection), dim=-1) / 0.1
    terms = [torch.logsumexp(torch.stack([positive, cosines[1]]), 0) - positive for positive in (cosines[0], distant)]
    torch.testing.assert_close(loss, sum(terms) / 2)


def test_known_wrong_and_right_texts_count_in_the_rows_that_have_them_alone() -> None:
    source, target, labels, head, projection = batch()
    options: dict[str, Any] = {"projection": projection, "head": head}
    mask = target.mask.clone()
    mask[1:] = False
    known = States(target.values.roll(1, 0), mask)
    plain = contrastive_loss(source, target, labels, **options)
    both = contrastive_loss(source, target, labels, negative=known, positive=known, **options)
    assert torch.equal(plain[1:], both[1:])
    # Row 0: the known text is in all denominators, and -log of its own share is the third term of the mean.
    worse = contrastive_loss(source, target, labels, negative=known, **options)
    right = contrastive_loss(source, target, labels, positive=known, **options)
    assert worse[0] > plain[0]
    fakes = [target, States(imposter(target, labels, head, 1.0), target.mask)]
    ours = pooled(source, projection)[0]
    own, *negatives = (
        nn.functional.cosine_similarity(ours, text, dim=-1) / 0.1
        for text in (pooled(known, projection)[0], *pooled(target, projection)[1:], pooled(fakes[1], projection)[0])
    )
    term = torch.logsumexp(torch.stack([own, *negatives]), 0) - own
    torch.testing.assert_close(right[0], (2 * plain[0] + term) / 3)


def test_states_that_project_to_nothing_give_no_nan() -> None:
    source, target, labels, head, projection = batch()
    with torch.no_grad():
        projection.linear.bias.fill_(-1e3)
    target.values.requires_grad_()
    loss = contrastive_loss(source, target, labels, projection=projection, head=head).mean()
    loss.backward()
    assert loss.isfinite()
    assert target.values.grad is not None
    assert target.values.grad.isfinite().all()


def test_the_projections_weights_are_of_the_seed_and_draw_from_no_other_random_numbers() -> None:
    before = torch.random.get_rng_state()
    first, again, other = Projection(3, seed=1), Projection(3, seed=1), Projection(3, seed=2)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first.linear.weight, again.linear.weight)
    assert not torch.equal(first.linear.weight, other.linear.weight)


@pytest.mark.parametrize("option", ["temperature", "negative_perturbation", "positive_perturbation"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_a_number_that_cannot_be_is_refused(option: str, value: float) -> None:
    source, target, labels, head, projection = batch()
    options: dict[str, Any] = {option: value}
    with pytest.raises(ConfigurationError, match=f"{option}=.* must be a number above 0"):
        contrastive_loss(source, target, labels, projection=projection, head=head, **options)


def test_a_batch_without_negatives_or_with_an_empty_row_is_refused() -> None:
    source, target, labels, head, projection = batch()

    def loss(rows: slice, labels: Tensor, source_mask: Tensor, target_mask: Tensor) -> None:
        pair = States(source.values[rows], source_mask[rows]), States(target.values[rows], target_mask[rows])
        contrastive_loss(*pair, labels[rows], projection=projection, head=head)

    everything, nothing = slice(None), torch.tensor([[True], [False], [True]])
    with pytest.raises(InputError, match="batches of 2 or more"):
        loss(slice(1), labels, source.mask, target.mask)
    with pytest.raises(InputError, match="Row 1 of the batch has no source"):
        loss(everything, labels, source.mask & nothing, target.mask)
    with pytest.raises(InputError, match="Row 1 of the batch has no target"):
        loss(everything, labels.masked_fill(~nothing, IGNORE_INDEX), source.mask, target.mask & nothing)
    with pytest.raises(InputError, match="must be labels != -100"):
        loss(everything, labels, source.mask, target.mask & nothing)
