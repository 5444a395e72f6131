"""Contrastive learning with adversarial perturbations (CLAPS, arXiv 2012.07280), for encoder-decoders.

A source text is to find its own target among those of the batch, by the cosine of mean projected states; and beside
them stand two made-up ones: an *imposter*, close to the target's states and far from its tokens, and a *distant
target*, far from the target's states and close to its tokens. Tensors in, tensors out: states and masks, a projection,
a head.

What differs from the authors' code: the gradients that perturb are taken for the states alone, so that no gradient of
an inner loss reaches a parameter or wipes what is there; the second term, with the distant target as the positive, is
divided by the temperature as the first is (undivided, it cannot fall below log(1 + B e^-2) at batch size B); another
row with the same target is no negative; and perturbations are multiples of the mean norm of the states, since T5
scales its decoder's states by width^-1/2 before its head, and BART does not.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional
from torch import Tensor, nn

from ..errors import ConfigurationError, InputError
from .logits import IGNORE_INDEX, in_float

Head = Callable[[Tensor], Tensor]


class Projection(nn.Module):
    """ReLU(W h + b) of states, made for the training and thrown away with it; both sides share it.

    Args:
        width: Width of encoder and decoder states.
        seed: Of its initial weights, which touch no other random numbers. Defaults to 0.

    Example:
        >>> Projection(4)(torch.zeros(2, 3, 4)).shape
        torch.Size([2, 3, 4])
    """

    def __init__(self, width: int, *, seed: int = 0) -> None:
        """Draw the weights."""
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.linear = nn.Linear(width, width)

    def forward(self, states: Tensor) -> Tensor:
        """Project states, (..., width)."""
        return torch.relu(self.linear(states.to(self.linear.weight.dtype)))


class States(NamedTuple):
    """Hidden states of a batch of texts.

    Args:
        values: float, (batch, length, width). Of a decoder: as its head takes them, scaled where the model scales.
        mask: bool, (batch, length). Positions that count. Of texts that not every row has, a row without any has none.
    """

    values: Tensor
    mask: Tensor


def pooled(states: States, projection: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the mean projected state of each text, float, (batch, width); zeros where it has no position.

    Example:
        >>> states = States(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[True, True, False]]))
        >>> pooled(states, lambda values: values)
        tensor([[2.]])
    """
    kept = in_float(projection(states.values)).masked_fill(~states.mask.unsqueeze(-1), 0)
    return kept.sum(1) / states.mask.sum(1, keepdim=True).clamp(min=1)


def mean_norm(states: States) -> Tensor:
    """Return the mean norm of the states that count, a scalar without gradient.

    Example:
        >>> mean_norm(States(torch.tensor([[[3.0, 4.0], [100.0, 0.0]]]), torch.tensor([[True, False]])))
        tensor(5.)
    """
    norms: Tensor = torch.linalg.vector_norm(in_float(states.values.detach())[states.mask], dim=-1)
    return norms.mean()


def imposter(target: States, labels: Tensor, head: Head, size: float) -> Tensor:
    """Return states that are moved towards a higher loss of their own tokens.

    Args:
        target: Decoder states.
        labels: int64, (batch, length), unshifted as encoder-decoders take them; -100 where there is no token.
        head: From states, (..., width), to logits, (..., vocabulary). Its parameters get no gradient.
        size: How far each state is moved, in mean norms of the states.

    Returns:
        float, as the states, without gradient: h + size * mean norm * g / ||g||, with g the gradient of the token's
        cross-entropy. Where g is 0, as at padding, the state stays as it is.

    Example:
        >>> states = States(torch.tensor([[[3.0, 4.0]]]), torch.tensor([[True]]))
        >>> imposter(states, torch.tensor([[0]]), lambda values: values, 1.0)  # away from token 0
        tensor([[[-0.5355,  7.5355]]])
    """

    def loss(values: Tensor) -> Tensor:
        logits = in_float(head(values[target.mask]))
        return torch.nn.functional.cross_entropy(logits, labels[target.mask], reduction="sum")

    direction = _direction(target.values, loss)
    return target.values.detach() + (size * mean_norm(target) * direction).to(target.values.dtype)


def distant_target(
    source: States,
    target: States,
    projection: Callable[[Tensor], Tensor],
    head: Head,
    size: float,
    *,
    temperature: float = 0.1,
    others: Tensor | None = None,
) -> Tensor:
    """Return states that are moved away from their source, and then back towards the tokens that they stood for.

    Args:
        source: Encoder states.
        target: Decoder states of the same rows.
        projection: That of both; its parameters get no gradient.
        head: From states, (..., width), to logits, (..., vocabulary). Its parameters get no gradient.
        size: Length of both moves, in mean norms of the states.
        temperature: Divides the cosines. Defaults to 0.1.
        others: bool, (batch, batch). Which targets are a row's negatives. Defaults to None: all but its own.

    Returns:
        float, as the decoder states, without gradient: h' = h + size * mean norm * g / ||g||, with g the gradient of
        the contrastive loss, and then h' - size * mean norm * f / ||f||, with f that of KL(p(h) || p(h')).
    """
    sources = pooled(States(source.values.detach(), source.mask), projection).detach()
    negatives = ~torch.eye(len(sources), dtype=torch.bool, device=sources.device) if others is None else others
    step = size * mean_norm(target)

    def contrast(values: Tensor) -> Tensor:
        cosines = _cosines(sources, pooled(States(values, target.mask), projection)) / temperature
        return _cross_entropy(cosines.diagonal(), cosines.masked_fill(~negatives, -math.inf)).sum()

    moved = target.values.detach() + (step * _direction(target.values, contrast)).to(target.values.dtype)
    with torch.no_grad():
        meant = in_float(head(target.values[target.mask])).softmax(-1)

    def divergence(values: Tensor) -> Tensor:
        said = in_float(head(values[target.mask])).log_softmax(-1)
        return torch.nn.functional.kl_div(said, meant, reduction="sum")

    return moved - (step * _direction(moved, divergence)).to(moved.dtype)


def contrastive_loss(
    source: States,
    target: States,
    labels: Tensor,
    *,
    projection: Callable[[Tensor], Tensor],
    head: Head,
    temperature: float = 0.1,
    negative_perturbation: float = 1.0,
    positive_perturbation: float = 3.0,
    negative: States | None = None,
    positive: States | None = None,
) -> Tensor:
    """Return the contrastive loss of CLAPS (arXiv 2012.07280) for each row of a batch.

    A positive of a row costs -log of its share in a softmax over itself and the row's negatives, of cosines divided by
    the temperature. Negatives are the targets of the other rows and the row's imposter; positives its target and its
    distant target, and the loss is their mean. What is made up has no gradient of its own, so that it teaches the
    projection and, through the source, the encoder. Texts that are known to be right or wrong, such as those of
    negative flips, may be further positives and negatives (ours); these teach the decoder as well.

    Args:
        source: Encoder states of the batch.
        target: Decoder states, as the head takes them; a position counts where `labels` has a token.
        labels: int64, (batch, length), unshifted as encoder-decoders take them; -100 where there is no token.
        projection: From states, (..., width), to states, such as a [`Projection`].
        head: From decoder states, (..., width), to logits, (..., vocabulary).
        temperature: Divides all cosines. Defaults to 0.1.
        negative_perturbation: How far the imposter is from the target, in mean norms of the decoder states. Defaults
            to 1.0. The paper's figures (1 and 3) are absolute; states of a T5 whose last norm has weights of 1 have
            norm 1.
        positive_perturbation: Both moves of the distant target, likewise. Defaults to 3.0.
        negative: Decoder states of a wrong text for each row that has one. Defaults to None.
        positive: Decoder states of another right text for each row that has one. Defaults to None.

    Returns:
        float, (batch,). Its mean is what the paper adds to the likelihood.

    Raises:
        InputError: One row, which has no negative, or a row without any position or token.
        ConfigurationError: A temperature or perturbation that is no positive number.

    Example:
        >>> states = States(torch.eye(2).view(2, 1, 2), torch.ones(2, 1, dtype=torch.bool))
        >>> loss = contrastive_loss(
        ...     states, states, torch.tensor([[0], [1]]), projection=torch.relu, head=lambda values: values
        ... )
        >>> loss.shape
        torch.Size([2])
    """
    options = {
        "temperature": temperature,
        "negative_perturbation": negative_perturbation,
        "positive_perturbation": positive_perturbation,
    }
    for name, option in options.items():
        if not 0 < option < math.inf:
            raise ConfigurationError(f"{name}={option!r} must be a number above 0.")
    _check(source, target, labels)
    others = ~_alike(labels)
    sources, targets = pooled(source, projection), pooled(target, projection)
    fake = imposter(target, labels, head, negative_perturbation)
    far = distant_target(
        source, target, projection, head, positive_perturbation, temperature=temperature, others=others
    )

    def cosine(texts: States) -> Tensor:
        return torch.nn.functional.cosine_similarity(sources, pooled(texts, projection), dim=-1) / temperature

    cosines = _cosines(sources, targets) / temperature
    negatives = [cosines.masked_fill(~others, -math.inf), cosine(States(fake, target.mask)).unsqueeze(1)]
    if negative is not None:
        negatives.append(cosine(negative).masked_fill(~negative.mask.any(1), -math.inf).unsqueeze(1))
    against = torch.cat(negatives, dim=1)
    losses = [_cross_entropy(each, against) for each in (cosines.diagonal(), cosine(States(far, target.mask)))]
    count = torch.full_like(losses[0], len(losses))
    if positive is not None:
        has_one = positive.mask.any(1)
        losses.append(_cross_entropy(cosine(positive), against).masked_fill(~has_one, 0))
        count = count + has_one
    return torch.stack(losses).sum(0) / count


def _direction(values: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the direction in which each state raises a loss, of length 1, or 0 where nothing changes it."""
    with torch.enable_grad():
        values = values.detach().requires_grad_()
        # Of the states alone: `backward` would add to the gradients of head and projection as well.
        (gradient,) = torch.autograd.grad(loss(values), values)
    gradient = in_float(gradient)
    norm = torch.linalg.vector_norm(gradient, dim=-1, keepdim=True)
    return torch.where(norm > 0, gradient / norm.where(norm > 0, 1), 0)


def _cosines(sources: Tensor, targets: Tensor) -> Tensor:
    """Return the cosine of each source with each target, (batch, batch)."""
    return torch.nn.functional.cosine_similarity(sources.unsqueeze(1), targets.unsqueeze(0), dim=-1)


def _cross_entropy(positive: Tensor, negatives: Tensor) -> Tensor:
    """Return -log of the positive's share among itself and its negatives, (batch,)."""
    return torch.logsumexp(torch.cat([positive.unsqueeze(1), negatives], dim=1), dim=1) - positive


def _alike(labels: Tensor) -> Tensor:
    """Tell which rows have the same target, bool, (batch, batch)."""
    return (labels.unsqueeze(1) == labels.unsqueeze(0)).all(-1)


def _check(source: States, target: States, labels: Tensor) -> None:
    """Refuse batches that the loss would be undefined on."""
    if len(labels) < 2:
        raise InputError("A batch of 1 has no other target to tell the right one from. Take batches of 2 or more.")
    if not torch.equal(target.mask, labels != IGNORE_INDEX):
        raise InputError("target.mask says other positions than labels, but must be labels != -100.")
    for name, mask in (("source", source.mask), ("target", target.mask)):
        if not bool(mask.any(1).all()):
            row = int((~mask.any(1)).nonzero()[0])
            raise InputError(f"Row {row} of the batch has no {name} to compare. Leave it out.")
