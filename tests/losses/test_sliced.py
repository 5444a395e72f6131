"""The loss in slices of hidden states is the loss of full logits, and so are its gradients."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from muscle_hf.errors import TeacherError
from muscle_hf.losses.compatibility import CompatibilityLoss, compatibility_loss
from muscle_hf.losses.divergences import DIVERGENCES
from muscle_hf.losses.masks import MASKS, StoredScores
from muscle_hf.losses.sliced import sliced_compatibility_loss
from muscle_hf.losses.strategy import TEACHERS, Strategy
from muscle_hf.losses.targets import CachedTopK, LiveTargets
from muscle_hf.losses.topk import TopKTarget
from muscle_hf.models.hidden_states import LogitTransform

TOKENS, HIDDEN, VOCABULARY = 11, 6, 13
SEQUENCE = torch.tensor([0] * 4 + [1] * 7)
FIGURES = ("tokens", "tokens_to_old", "divergence_to_old", "divergence_to_new", "cross_entropy", "correct_tokens")


class Example:
    """Three models of one size: hidden states, LM heads and gold tokens, of which about a third are hit."""

    def __init__(self, seed: int = 0, transform: LogitTransform | None = None) -> None:
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        self.transform = transform or LogitTransform()
        self.hidden = {name: draw(TOKENS, HIDDEN) for name in ("student", "old", "new")}
        self.weights = {name: draw(VOCABULARY, HIDDEN) for name in self.hidden}
        self.gold = torch.randint(0, VOCABULARY, (TOKENS,), generator=generator)
        for row, name in enumerate(["student", "old", "new", "old", "student"]):
            self.gold[2 * row] = self.logits(name)[2 * row].argmax()
        self.hidden["student"].requires_grad_()
        self.weights["student"].requires_grad_()

    def head(self, name: str) -> Callable[[torch.Tensor], torch.Tensor]:
        return lambda few: self.transform(few @ self.weights[name].T)

    def logits(self, name: str) -> torch.Tensor:
        return self.head(name)(self.hidden[name])

    def live(self, name: str, size: int = 4) -> LiveTargets:
        return LiveTargets(name, lambda tokens: self.hidden[name], self.head(name), self.gold, size)

    def plain(self, strategy: Strategy, **more: Any) -> CompatibilityLoss:
        logits = [self.logits(name) for name in ("student", "old", "new")]
        return compatibility_loss(*logits, self.gold, strategy=strategy, sequence=SEQUENCE, **more)

    def sliced(self, strategy: Strategy, *, old: Any = None, new: Any = None, **more: Any) -> CompatibilityLoss:
        options = {"size": 4} | more
        return sliced_compatibility_loss(
            self.hidden["student"],
            self.head("student"),
            old or self.live("old"),
            new or self.live("new"),
            self.gold,
            strategy=strategy,
            sequence=SEQUENCE,
            **options,
        )

    def gradients(self, loss: CompatibilityLoss) -> list[torch.Tensor]:
        leaves = [self.hidden["student"], self.weights["student"]]
        return list(torch.autograd.grad(3.0 * loss.loss, leaves))  # whatever comes after multiplies both


def _assert_equal(example: Example, strategy: Strategy, **more: Any) -> None:
    plain, sliced = example.plain(strategy, **more), example.sliced(strategy, **more)
    assert sliced.loss.item() == pytest.approx(plain.loss.item(), abs=1e-12)
    for name in FIGURES:
        assert getattr(sliced, name).item() == pytest.approx(getattr(plain, name).item(), abs=1e-10), name
    for one, other in zip(example.gradients(sliced), example.gradients(plain), strict=True):
        assert torch.allclose(one, other, atol=1e-12)


@pytest.mark.parametrize("mask", sorted(MASKS))
@pytest.mark.parametrize("divergence", sorted(DIVERGENCES))
def test_every_mask_and_divergence_has_the_loss_and_gradient_of_full_logits(mask: str, divergence: str) -> None:
    _assert_equal(Example(), Strategy(mask=mask, divergence=divergence, cross_entropy_weight=0.3))


@pytest.mark.parametrize("teacher", sorted(TEACHERS))
@pytest.mark.parametrize("mask", ["none", "student_wrong"])
def test_every_teacher_has_the_loss_and_gradient_of_full_logits(teacher: str, mask: str) -> None:
    if (teacher, mask) != ("new", "student_wrong"):
        _assert_equal(Example(1), Strategy(mask=mask, teacher=teacher, scale_by_temperature_squared=True))


@pytest.mark.parametrize(
    "transform", [LogitTransform(0.25), LogitTransform(softcap=2.0), LogitTransform(3.0, 1.5)], ids=str
)
def test_logit_scale_and_softcap_are_respected(transform: LogitTransform) -> None:
    _assert_equal(Example(2, transform), Strategy(cross_entropy_weight=0.5))


def test_weights_focus_given_teachers_and_normalizer_come_along() -> None:
    generator = torch.Generator().manual_seed(0)
    more = {
        "weights": torch.rand(TOKENS, generator=generator, dtype=torch.float64),
        "given_teachers": torch.randint(0, 3, (TOKENS,), generator=generator),
        "normalizer": 7.0,
    }
    _assert_equal(Example(3), Strategy(focal_beta=5.0, cross_entropy_weight=0.2, teacher="ensemble"), **more)


def test_the_gradient_of_the_task_apart_is_that_of_full_logits_and_both_are_there_again() -> None:
    example, strategy = Example(4), Strategy(focal_beta=5.0, cross_entropy_weight=0.3)
    plain, sliced = example.plain(strategy), example.sliced(strategy, apart=True)
    assert example.sliced(strategy).task_loss is None
    leaves = [example.hidden["student"], example.weights["student"]]
    task = [part.task_loss for part in (plain, sliced)]
    assert task[0] is not None and task[1] is not None
    assert task[1].item() == pytest.approx(task[0].item(), abs=1e-12)
    of_both = [torch.autograd.grad(2.0 * part, leaves, retain_graph=True) for part in task]
    for one, other in zip(*of_both, strict=True):
        assert torch.allclose(one, other, atol=1e-12)
    for one, other in zip(example.gradients(sliced), example.gradients(plain), strict=True):
        assert torch.allclose(one, other, atol=1e-12)
    cross_entropy = 0.3 * torch.nn.functional.cross_entropy(example.logits("student"), example.gold)
    assert task[0].item() == pytest.approx(cross_entropy.item(), abs=1e-12)


@given(st.integers(0, 10_000), st.integers(1, TOKENS + 1), st.sampled_from(["student_wrong", "sequence_likelihood"]))
@settings(max_examples=25, deadline=None)
def test_the_size_of_a_slice_changes_nothing(seed: int, size: int, mask: str) -> None:
    example, strategy = Example(seed), Strategy(mask=mask)
    assert example.sliced(strategy, size=size).loss.item() == pytest.approx(
        example.plain(strategy).loss.item(), abs=1e-12
    )


def test_no_tensor_holds_more_than_a_slice_of_logits() -> None:
    example, sizes = Example(), []
    head = example.head("student")

    def watched(few: torch.Tensor) -> torch.Tensor:
        sizes.append(len(few))
        return head(few)

    sliced_compatibility_loss(
        example.hidden["student"],
        watched,
        example.live("old"),
        example.live("new"),
        example.gold,
        strategy=Strategy(),
        sequence=SEQUENCE,
        size=3,
    )
    assert max(sizes) == 3


def test_the_old_model_runs_only_for_tokens_that_go_to_it() -> None:
    example, asked = Example(), []

    def forward(tokens: torch.Tensor) -> torch.Tensor:
        asked.append(tokens)
        return example.hidden["old"]

    old = LiveTargets("old", forward, example.head("old"), example.gold, 4)
    result = example.sliced(Strategy(), old=old)
    assert [tokens.sum().item() for tokens in asked] == [result.tokens_to_old.item()]
    assert asked[0].tolist() == (example.logits("student").argmax(-1) != example.gold).tolist()
    example.gold = example.logits("student").argmax(-1)  # nothing is wrong now
    example.sliced(Strategy(), old=LiveTargets("old", forward, example.head("old"), example.gold, 4))
    assert len(asked) == 1


@pytest.mark.parametrize("name", ["old", "new"])
def test_a_teacher_with_nan_is_refused(name: str) -> None:
    example = Example()
    example.weights[name][:] = math.nan
    with pytest.raises(TeacherError, match=f"{name} model gives NaN"):
        example.sliced(Strategy())


def test_without_a_trained_token_the_loss_is_zero_and_has_a_gradient_of_zero() -> None:
    example = Example()
    nothing = torch.zeros(0, dtype=torch.long)
    hidden = example.hidden["student"]
    targets = (LiveTargets(name, lambda tokens: hidden[:0], example.head(name), nothing, 4) for name in ("old", "new"))
    result = sliced_compatibility_loss(
        hidden[:0],
        example.head("student"),
        *targets,
        nothing,
        strategy=Strategy(),
        sequence=nothing,
        size=4,
    )
    assert (result.loss.item(), result.tokens.item()) == (0, 0)
    # The head too: under DDP the other processes wait for it.
    for gradient in torch.autograd.grad(result.loss, [hidden, example.weights["student"]]):
        assert gradient.abs().sum() == 0


def _top(example: Example, name: str, k: int, temperature: float) -> CachedTopK:
    """What a cache holds, from its definition."""
    logits = example.logits(name).detach()
    p = (logits / temperature).softmax(-1)
    top, ids = p.topk(k)
    log_p = logits.log_softmax(-1)
    rest = (1 - top.sum(-1)).log() if k < VOCABULARY else torch.full((TOKENS,), -math.inf)
    scores = StoredScores(logits.argmax(-1) == example.gold, log_p.gather(-1, example.gold[:, None])[:, 0])
    return CachedTopK(TopKTarget(ids, top.log(), rest), scores, log_p.amax(-1))


@pytest.mark.parametrize("mask", sorted(MASKS))
@pytest.mark.parametrize("divergence", sorted(set(DIVERGENCES) - {"logit_difference_inhibition"}))
def test_a_cache_of_the_whole_vocabulary_is_exact(mask: str, divergence: str) -> None:
    example, strategy = Example(4), Strategy(mask=mask, divergence=divergence, cross_entropy_weight=0.3)
    cached = {name: _top(example, name, VOCABULARY, 2.0) for name in ("old", "new")}
    plain, sliced = example.plain(strategy), example.sliced(strategy, **cached)
    assert sliced.loss.item() == pytest.approx(plain.loss.item(), abs=1e-10)
    for one, other in zip(example.gradients(sliced), example.gradients(plain), strict=True):
        assert torch.allclose(one, other, atol=1e-10)


def test_a_cache_can_tell_which_model_is_surer() -> None:
    example, strategy = Example(5), Strategy(mask="none", teacher="more_confident")
    cached = {name: _top(example, name, VOCABULARY, 2.0) for name in ("old", "new")}
    assert example.sliced(strategy, **cached).loss.item() == pytest.approx(example.plain(strategy).loss.item())


def test_the_tokens_left_out_of_a_cache_count_as_one_class() -> None:
    example, strategy = Example(6), Strategy(mask="none")
    cached = {name: _top(example, name, 3, 2.0) for name in ("old", "new")}
    p, q = ((example.logits(name).detach() / 2).softmax(-1) for name in ("old", "student"))
    expected = 0.0
    for p_row, q_row in zip(p, q, strict=True):
        ids = p_row.topk(3).indices
        classes = [torch.cat([row[ids], (1 - row[ids].sum())[None]]) for row in (p_row, q_row)]
        expected += (classes[0] * (classes[0] / classes[1]).log()).sum().item() / TOKENS
    result = example.sliced(strategy, **cached)
    assert result.loss.item() == pytest.approx(expected)
    assert result.loss.item() < example.plain(strategy).loss.item()  # merging classes never adds to a KL
