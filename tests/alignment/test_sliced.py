"""The loss in chunks from hidden states is the loss of full logits, and so are its gradients."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from muscle_hf.alignment.counted import count_chunks
from muscle_hf.alignment.loss import OldLogits, chunk_compatibility_loss
from muscle_hf.alignment.scores import ChunkScores
from muscle_hf.alignment.sliced import sliced_chunk_loss
from muscle_hf.errors import TeacherError
from muscle_hf.losses.compatibility import CompatibilityLoss
from muscle_hf.losses.masks import MASKS, StoredScores
from muscle_hf.losses.strategy import Strategy
from muscle_hf.losses.targets import LiveTargets

HIDDEN, NEW_VOCABULARY, OLD_VOCABULARY = 5, 13, 9
# Two rows. Chunks of 1:1 (the same token, and another one), 2:1, 1:2, 3:2, one that is not wholly trained on, none.
CHUNK_IDS = torch.tensor([[-1, 0, 1, 1, 2, -1, 3, 3, 3, 4], [-1, -1, 0, 1, 2, 2, 3, -1, -1, -1]])
OLD_CHUNK_IDS = torch.tensor([[-1, 0, 1, 2, 2, 3, 3, -1, 4], [-1, 0, 0, 1, 2, 3, -1, -1, -1]])
FIGURES = ("tokens", "tokens_to_old", "divergence_to_old", "divergence_to_new", "cross_entropy", "correct_tokens")


class Example:
    """Three models of two tokenizers: hidden states, LM heads and tokens, of which about a third are hit."""

    def __init__(self, seed: int = 0) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        shapes = {"student": CHUNK_IDS.shape, "new": CHUNK_IDS.shape, "old": OLD_CHUNK_IDS.shape}
        self.sizes = {"student": NEW_VOCABULARY, "new": NEW_VOCABULARY, "old": OLD_VOCABULARY}
        self.hidden = {name: self.draw(*shape, HIDDEN) for name, shape in shapes.items()}
        self.weights = {name: self.draw(size, HIDDEN) for name, size in self.sizes.items()}
        self.ids = torch.randint(0, NEW_VOCABULARY, CHUNK_IDS.shape, generator=self.generator)
        self.old_ids = torch.randint(0, OLD_VOCABULARY, OLD_CHUNK_IDS.shape, generator=self.generator)
        said = {name: self.logits(name)[:, :-1].argmax(-1) for name in self.hidden}
        self.ids[:, 1::3], self.ids[:, 2::3] = said["student"][:, ::3], said["new"][:, 1::3]
        self.old_ids[:, 2::2] = said["old"][:, 1::2]
        self.ids[0, 1], self.old_ids[0, 1] = 3, 4  # one token on both sides, and the same one
        self.shared = torch.tensor([4, 0, 7, 8]), torch.tensor([3, 1, 0, 12])
        self.labels = self.ids.clone()
        self.labels[0, 9] = self.labels[1, 7:] = self.labels[1, 1] = -100
        for name in ("hidden", "weights"):
            getattr(self, name)["student"].requires_grad_()
        self.chunks = count_chunks(self.labels, CHUNK_IDS, (self.old_ids, OLD_CHUNK_IDS))

    def draw(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64)

    def head(self, name: str) -> Callable[[Tensor], Tensor]:
        return lambda few: few @ self.weights[name].T

    def logits(self, name: str) -> Tensor:
        return self.head(name)(self.hidden[name])

    def live(self, name: str, size: int = 4, forward: Any = None) -> LiveTargets:
        side = self.chunks.old if name == "old" else self.chunks.new
        forward = forward or (lambda tokens: self.hidden[name][side.where])
        return LiveTargets(name, forward, self.head(name), side.ids, size)

    def stored(self) -> StoredScores:
        """The old model's scores of every chunk of each row."""
        rows = []
        for row in range(2):
            one = self.logits("old")[row, :-1], self.old_ids[row, 1:], OLD_CHUNK_IDS[row, 1:]
            rows.append(ChunkScores(one[0].__getitem__, *one[1:], 5))
        return StoredScores(
            *(torch.stack([getattr(row, name) for row in rows]) for name in ("right", "log_likelihood"))
        )

    def plain(self, strategy: Strategy, *, is_cached: bool = False, **more: Any) -> CompatibilityLoss:
        old = OldLogits(self.logits("old"), self.old_ids, OLD_CHUNK_IDS)
        return chunk_compatibility_loss(
            self.logits("student"),
            self.stored() if is_cached else old,
            self.logits("new"),
            self.labels,
            CHUNK_IDS,
            *reversed(self.shared),
            strategy=strategy,
            **more,
        )

    def sliced(
        self, strategy: Strategy, *, is_cached: bool = False, old: Any = None, size: int = 4, **more: Any
    ) -> CompatibilityLoss:
        chunks = self.chunks
        if is_cached:
            chunks = count_chunks(self.labels, CHUNK_IDS, None)
            old = StoredScores(*(value[chunks.sequences, chunks.places] for value in vars(self.stored()).values()))
        rows = chunks.new.where.nonzero()[:, 0]
        if "weights" in more:
            more["weights"] = more["weights"][rows]
        if "given_teachers" in more:
            more["given_teachers"] = more["given_teachers"][chunks.sequences]
        return sliced_chunk_loss(
            self.hidden["student"][chunks.new.where],
            more.pop("head", self.head("student")),
            old or self.live("old", size),
            self.live("new", size),
            chunks,
            self.shared,
            strategy=strategy,
            size=size,
            **more,
        )

    def gradients(self, loss: CompatibilityLoss) -> list[Tensor]:
        leaves = [self.hidden["student"], self.weights["student"]]
        return list(torch.autograd.grad(3.0 * loss.loss, leaves))  # whatever comes after multiplies both


def _assert_equal(example: Example, strategy: Strategy, **more: Any) -> None:
    plain = example.plain(strategy, **{name: value for name, value in more.items() if name not in ("size", "kept")})
    sliced = example.sliced(strategy, **more)
    assert sliced.loss.item() == pytest.approx(plain.loss.item(), abs=1e-12)
    for name in FIGURES:
        assert getattr(sliced, name).item() == pytest.approx(getattr(plain, name).item(), abs=1e-10), name
    for one, other in zip(example.gradients(sliced), example.gradients(plain), strict=True):
        assert torch.allclose(one, other, atol=1e-12)


def test_the_example_has_every_kind_of_chunk() -> None:
    chunks = Example().chunks
    assert chunks.sequences.tolist() == [0, 0, 0, 0, 1, 1, 1, 1] and chunks.places.tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    assert chunks.same_token(Example().shared).tolist() == [True, *[False] * 7]
    assert -1 in chunks.new.chunks and chunks.new.first.tolist() == [0, 1, 3, 5, 8, 9, 10, 12]


@pytest.mark.parametrize("mask", sorted(MASKS))
@pytest.mark.parametrize("divergence", ["forward_kl", "reverse_kl", "jensen_shannon"])
@pytest.mark.parametrize("is_cached", [False, True], ids=["live", "cached"])
def test_every_mask_and_divergence_has_the_loss_and_gradient_of_full_logits(
    mask: str, divergence: str, is_cached: bool
) -> None:
    strategy = Strategy(mask=mask, divergence=divergence, cross_entropy_weight=0.3)
    _assert_equal(Example(), strategy, is_cached=is_cached)
    _assert_equal(Example(), strategy, is_cached=is_cached, kept=100)


@pytest.mark.parametrize(
    "options",
    [
        {"mask": "none", "teacher": "new"},
        {"mask": "none", "scale_by_temperature_squared": True, "temperature": 3.0},
        {"mask": "none", "focal_beta": 5.0, "focal_alpha": 0.5},
        {"mask": lambda scores: scores.student.log_likelihood < scores.new.log_likelihood},
    ],
)
def test_every_other_option_has_the_loss_and_gradient_of_full_logits(options: dict[str, Any]) -> None:
    _assert_equal(Example(1), Strategy(**options))


@pytest.mark.parametrize("more", [{}, {"kept": 100}, {"is_cached": True}])
def test_the_gradient_of_the_task_apart_is_that_of_full_logits(more: dict[str, Any]) -> None:
    example, strategy = Example(5), Strategy(cross_entropy_weight=0.3)
    plain = example.plain(strategy, is_cached=more.get("is_cached", False))
    sliced = example.sliced(strategy, apart=True, **more)
    leaves = [example.hidden["student"], example.weights["student"]]
    assert plain.task_loss is not None and sliced.task_loss is not None
    of_both = [torch.autograd.grad(part.task_loss, leaves, retain_graph=True) for part in (plain, sliced)]
    for one, other in zip(*of_both, strict=True):
        assert torch.allclose(one, other, atol=1e-12)
    for one, other in zip(example.gradients(sliced), example.gradients(plain), strict=True):
        assert torch.allclose(one, other, atol=1e-12)


@pytest.mark.parametrize("given_teachers", [[1, 0], [2, 1], [1, 1]])
def test_weights_given_teachers_and_normalizer_come_along(given_teachers: list[int]) -> None:
    more = {"weights": torch.tensor([0.5, 2.0], dtype=torch.float64), "given_teachers": torch.tensor(given_teachers)}
    _assert_equal(Example(3), Strategy(focal_beta=5.0, cross_entropy_weight=0.2), normalizer=7.0, **more)


@given(st.integers(0, 10_000), st.integers(1, 17), st.sampled_from(["student_wrong", "none"]))
@settings(max_examples=25, deadline=None)
def test_a_chunk_may_lie_in_several_slices(seed: int, size: int, mask: str) -> None:
    _assert_equal(Example(seed), Strategy(mask=mask), size=size)


def test_no_tensor_holds_more_than_a_slice_of_logits() -> None:
    example, sizes = Example(), []

    def watched(few: Tensor) -> Tensor:
        sizes.append(len(few))
        return example.head("student")(few)

    example.sliced(Strategy(), head=watched, size=3)
    assert max(sizes) == 3 and sum(sizes) > 16  # some twice: for the mask, and for the gradient
    sizes.clear()
    example.sliced(Strategy(), head=watched, size=3, kept=16)
    assert sizes == [len(example.chunks.new.ids)]


@pytest.mark.parametrize("mask", ["student_wrong", "new_wrong", "none", "old_right"])
def test_the_old_model_is_asked_for_no_token_that_nothing_hangs_on(mask: str) -> None:
    example, asked, projected = Example(), [], []
    side, head = example.chunks.old, example.head("old")

    def forward(tokens: Tensor) -> Tensor:
        asked.append(tokens)
        return example.hidden["old"][side.where]

    def watched(few: Tensor) -> Tensor:
        projected.append(len(few))
        return head(few)

    example.sliced(Strategy(mask=mask), old=LiveTargets("old", forward, watched, side.ids, 4))
    assert len(side.ids) < (OLD_CHUNK_IDS >= 0).sum()  # the chunk that does not count is no part of it
    if mask in ("none", "old_right"):
        assert len(asked) == 1 and asked[0].all()
        assert sum(projected) >= len(side.ids)
    else:
        assert len(asked) == 1 and 0 < asked[0].sum() < len(side.ids)
        assert sum(projected) == asked[0].sum()
    asked.clear()
    example.sliced(
        Strategy(mask=mask),
        old=LiveTargets("old", forward, watched, side.ids, 4),
        given_teachers=torch.tensor([2, 2]),
    )
    assert not asked


@pytest.mark.parametrize("name", ["old", "new"])
def test_a_teacher_with_nan_is_refused(name: str) -> None:
    example = Example()
    example.weights[name][:] = math.nan
    with pytest.raises(TeacherError, match=f"{name} model gives NaN"):
        example.sliced(Strategy())


@pytest.mark.parametrize("kept", [0, 100])
def test_without_a_trained_token_the_loss_is_zero_and_has_a_gradient_of_zero(kept: int) -> None:
    example = Example()
    example.labels[:] = -100
    example.chunks = count_chunks(example.labels, CHUNK_IDS, (example.old_ids, OLD_CHUNK_IDS))
    result = example.sliced(Strategy(mask="none"), kept=kept)
    assert (result.loss.item(), result.tokens.item()) == (0, 0)
    for gradient in example.gradients(result):
        assert gradient.abs().sum() == 0
