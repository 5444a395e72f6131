"""The compatibility loss from hidden states and LM heads: never the logits of more than a few tokens.

The same figures as [`compatibility_loss`] up to rounding, gradients too. For each slice of tokens the student's logits
are computed, the logits of the one teacher that each token has (its mask is hard), the loss, and at once its gradient
with respect to the hidden states and to whatever the student's LM head trains; then the slice's logits are gone.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .compatibility import (
    MIXTURE,
    NEW,
    OLD,
    PRODUCT,
    CompatibilityLoss,
    choose,
    ended,
    mixture,
    scaled,
    token_losses,
    weighted_sums,
)
from .divergences import divergence_of_distributions, divergence_of_logits
from .logits import gold_log_probability
from .masks import Scores
from .sampled import SampledTarget, sampled_kl
from .strategy import Strategy
from .targets import Head, LogitTargets, ProjectedScores, SampledTargets, Targets, TopKTargets
from .topk import top_k_classes

Losses = Callable[[slice, Tensor], tuple[Tensor, Tensor]]
Sums = Callable[[slice, Tensor, Tensor], Tensor]


def sliced_compatibility_loss(
    hidden: Tensor,
    head: Head,
    old: Any,
    new: Any,
    gold: Tensor,
    *,
    strategy: Strategy,
    sequence: Tensor,
    size: int,
    normalizer: Tensor | float | None = None,
    weights: Tensor | None = None,
    given_teachers: Tensor | None = None,
    apart: bool = False,
) -> CompatibilityLoss:
    """Compute the compatibility loss of the trained tokens (MUSCLE, arXiv 2407.09435, Eq. 1 and Eq. 5).

    Args:
        hidden: float, (tokens, hidden size). The student's last hidden states at the trained positions.
        head: The student's LM head, hidden states -> logits. What it trains gets its gradient too.
        old: [`LogitTargets`], [`TopKTargets`] or [`SampledTargets`] of the old model.
        new: The same of the new model, of the same kind.
        gold: int64, (tokens,).
        strategy: Mask, divergence and the rest.
        sequence: int64, (tokens,). The number of each token's sequence, from 0.
        size: Tokens of a slice, such as `tokens_of_a_slice` says.
        normalizer: As in [`compatibility_loss`].
        weights: float, (tokens,). As in [`compatibility_loss`].
        given_teachers: int64, (tokens,). As in [`compatibility_loss`].
        apart: Give the task's part of the loss, with a gradient of its own. Defaults to False.
    """
    scores = Scores(ProjectedScores(hidden, head, gold, size), _Scores(old), _Scores(new), gold, sequence)
    with torch.no_grad():
        choice = choose(strategy, scores, given_teachers)
        mixed = (choice.teacher == MIXTURE) | (choice.teacher == PRODUCT)
        old.prepare((choice.teacher == OLD) | mixed)
        new.prepare((choice.teacher == NEW) | mixed)
    has_logits = hasattr(old, "logits")
    losses_of = _full_losses if has_logits else _top_losses if hasattr(old, "top") else _sampled_losses
    teachers = choice.teacher if has_logits else _settle(choice.teacher, old, new)

    def sums_of(rows: slice, distance: Tensor, cross_entropy: Tensor) -> Tensor:
        focus = choice.focus[rows] if isinstance(choice.focus, Tensor) else choice.focus
        of_rows = None if weights is None else weights[rows]
        sums = weighted_sums(strategy, distance, cross_entropy, of_rows, focus)
        return sums if apart else sums.sum()[None]

    sums, figures = sums_of_slices(hidden, head, gold, losses_of(strategy, old, new, teachers, gold), sums_of, size)
    old.check()
    new.check()
    return ended(sums, choice, *figures, normalizer)


def sums_of_slices(
    hidden: Tensor, head: Head, gold: Tensor, losses_of: Losses, sums_of: Sums, size: int
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """Add up losses of hidden states, so many tokens at a time, and compute their gradients at once.

    `losses_of` gives a slice's divergences and cross-entropies from its logits, `sums_of` the sums of its losses from
    these, (goals,). Returns the sums, each with gradients of its own for hidden states and head, and for each token
    its divergence, its cross-entropy, and whether its likeliest token is the gold one.
    """
    step = _Slices(head, gold, losses_of, sums_of, size)
    sums = _GradientInForward.apply(hidden, step, *step.trained_leaves(hidden))  # type: ignore[no-untyped-call]
    return sums, step.figures


class _Scores:
    """A teacher's scores, asked for only where a mask asks: the pass of a model may hang on it."""

    def __init__(self, targets: Targets) -> None:
        self.targets = targets

    @property
    def right(self) -> Tensor:
        return self.targets.scores.right

    @property
    def log_likelihood(self) -> Tensor:
        return self.targets.scores.log_likelihood


def _settle(teacher_of_token: Tensor, old: TopKTargets | SampledTargets, new: TopKTargets | SampledTargets) -> Tensor:
    """Turn "more_confident", the one mixture that a cache of some tokens can give, into one teacher for each token."""
    surer = torch.where(old.confidence > new.confidence, OLD, NEW)
    return torch.where(teacher_of_token == MIXTURE, surer, teacher_of_token)


def _full_losses(strategy: Strategy, old: LogitTargets, new: LogitTargets, teachers: Tensor, gold: Tensor) -> Losses:
    divergence = divergence_of_logits(strategy.divergence, strategy.jensen_shannon_beta)

    def losses(rows: slice, student: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            teacher = _teacher_logits(strategy, old, new, teachers[rows], _numbers(rows, gold))
        return token_losses(strategy, divergence, teacher, student, gold[rows])

    return losses


def _top_losses(strategy: Strategy, old: TopKTargets, new: TopKTargets, teachers: Tensor, gold: Tensor) -> Losses:
    divergence = divergence_of_distributions(strategy.divergence, strategy.jensen_shannon_beta)

    def losses(rows: slice, student: Tensor) -> tuple[Tensor, Tensor]:
        to_old, tokens = teachers[rows] == OLD, _numbers(rows, gold)
        pairs = zip(old.top(tokens), new.top(tokens), strict=True)
        ids, top, rest = (torch.where(to_old.view(-1, *[1] * (o.dim() - 1)), o, n) for o, n in pairs)
        classes = top_k_classes(student, ids, strategy.temperature)
        distance = divergence(torch.cat([top, rest[:, None]], -1), classes)
        return scaled(strategy, distance), -gold_log_probability(student, gold[rows])

    return losses


def _sampled_losses(
    strategy: Strategy, old: SampledTargets, new: SampledTargets, teachers: Tensor, gold: Tensor
) -> Losses:
    def losses(rows: slice, student: Tensor) -> tuple[Tensor, Tensor]:
        to_old, tokens = (teachers[rows] == OLD)[:, None], _numbers(rows, gold)
        pairs = zip(old.drawn(tokens), new.drawn(tokens), strict=True)
        target = SampledTarget(*(torch.where(to_old, of_old, of_new) for of_old, of_new in pairs))
        distance = sampled_kl(target, student, strategy.temperature)
        return scaled(strategy, distance), -gold_log_probability(student, gold[rows])

    return losses


def _numbers(rows: slice, gold: Tensor) -> Tensor:
    return torch.arange(rows.start, rows.stop, device=gold.device)


def _teacher_logits(
    strategy: Strategy, old: LogitTargets, new: LogitTargets, teachers: Tensor, tokens: Tensor
) -> Tensor:
    """Project each token through the one head that it needs; tokens with a mixture through both."""
    rows = [(teachers == teacher).nonzero()[:, 0] for teacher in (OLD, NEW, MIXTURE, PRODUCT)]
    of_old, of_new, *of_both = (tokens[some] for some in rows)
    parts = [model.logits(few) for model, few in ((old, of_old), (new, of_new)) if len(few)]
    for kind, few in zip((MIXTURE, PRODUCT), of_both, strict=True):
        if len(few):
            parts.append(mixture(strategy, kind, old.logits(few), new.logits(few)))
    if len(parts) == 1:
        return parts[0]
    return torch.cat([part.to(tokens.device) for part in parts])[torch.cat(rows).argsort()]


def leaves_below(output: Tensor) -> list[Tensor]:
    """Return the tensors that a gradient of this output would reach, each once."""
    nodes, seen = [output.grad_fn], set()
    leaves: dict[int, Tensor] = {}
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            leaves[id(node.variable)] = node.variable
        nodes += [parent for parent, _ in node.next_functions]
    return list(leaves.values())


class _Slices:
    """One pass over the slices: adds up the loss and, where wanted, its gradients; keeps each token's figures."""

    def __init__(self, head: Head, gold: Tensor, losses_of: Losses, sums_of: Sums, size: int) -> None:
        self.head, self.gold, self.losses_of, self.sums_of, self.size = head, gold, losses_of, sums_of, size
        nothing = torch.zeros(len(gold), device=gold.device)
        self.figures = (nothing, nothing, nothing.bool())

    def trained_leaves(self, hidden: Tensor) -> list[Tensor]:
        """Find what the head trains, wherever an adapter keeps it: the leaves below the logits of one token."""
        if not torch.is_grad_enabled():
            return []
        # A process without a trained token has to give the head a gradient as well, of zero: the others wait for it.
        state = hidden.detach()[:1] if len(hidden) else hidden.detach().new_zeros(1, hidden.shape[-1])
        return leaves_below(self.head(state))

    def run(self, hidden: Tensor, leaves: tuple[Tensor, ...], gradients: bool) -> tuple[Tensor, list[list[Tensor]]]:
        """Return the sums of the losses, and each one's gradients with respect to hidden states and leaves."""
        # Of no token at all, so that there are as many sums as there will be.
        sums = torch.zeros_like(self.sums_of(slice(0, 0), *self._no_losses(hidden)))
        collected = [[torch.zeros_like(tensor) for tensor in (hidden, *leaves)] for _ in sums] if gradients else []
        figures: list[tuple[Tensor, Tensor, Tensor]] = []
        for start in range(0, len(hidden), self.size):
            rows = slice(start, min(start + self.size, len(hidden)))
            with torch.set_grad_enabled(gradients):
                part = hidden[rows].detach().requires_grad_(gradients)
                logits = self.head(part).to(hidden.device)
                distance, cross_entropy = self.losses_of(rows, logits)
                losses = self.sums_of(rows, distance, cross_entropy).unbind()
            for goal, of_goal in enumerate(collected):
                is_last = goal == len(collected) - 1
                of_hidden, *of_leaves = torch.autograd.grad(
                    losses[goal], (part, *leaves), allow_unused=True, retain_graph=not is_last
                )
                of_goal[0][rows] = of_hidden
                for sum_of_slices, gradient in zip(of_goal[1:], of_leaves, strict=True):
                    sum_of_slices += 0 if gradient is None else gradient
            sums += torch.stack(losses).detach()
            figures.append((distance.detach(), cross_entropy.detach(), logits.argmax(-1) == self.gold[rows]))
            # Gone before the next slice needs the space.
            del part, logits, distance, cross_entropy, losses
        if figures:
            distances, cross_entropies, right = (torch.cat(parts) for parts in zip(*figures, strict=True))
            self.figures = (distances, cross_entropies, right)
        return sums, collected

    def _no_losses(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        nothing = hidden.new_zeros(0, dtype=torch.promote_types(hidden.dtype, torch.float32))
        return nothing, nothing


class _GradientInForward(torch.autograd.Function):
    """The sums of the losses; their gradients are known when they are: logits are not kept for a backward pass."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, step: _Slices, *leaves: Tensor) -> Tensor:
        sums, gradients = step.run(hidden, leaves, any(ctx.needs_input_grad))
        ctx.save_for_backward(*(gradient for of_goal in gradients for gradient in of_goal))
        return sums

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Any, ...]:
        goals = len(outputs[0])
        number = len(ctx.saved_tensors) // goals
        scaled = [gradient * outputs[0][at // number].to(gradient) for at, gradient in enumerate(ctx.saved_tensors)]
        of_hidden, *of_leaves = (sum(scaled[at + number :: number], scaled[at]) for at in range(number))
        return (of_hidden, None, *of_leaves)
