"""Sampled targets: k tokens of a teacher's distribution, drawn so that the forward KL divergence keeps its mean.

Top-k targets leave out what the teacher and the student disagree on outside the k likeliest tokens, at every token
again. Drawn tokens leave out nothing on average ("Sparse logit sampling", arXiv 2503.16870), here with

    inclusion probability  pi_v = min(1, p_v / tau),   tau such that they sum up to k
    weight of a drawn v    w_v  = p_v / pi_v = max(p_v, tau)   (Horvitz and Thompson, 1952), so E[w] = p
    estimate               sum of w_v * (log p_v - log q_v) over the drawn tokens

The likeliest tokens are thus kept for certain, and the others drawn. Of all ways to draw k tokens this one makes the
sum of p_v^2 (1 / pi_v - 1), the variance of the gradient with respect to the logits, the smallest. They are drawn
systematically: one number u, uniform in [0, 1), is laid at u, u + 1, u + 2 ... along the running sum of pi, so that
just k are drawn, different ones, and their weights sum up to 1 as the probabilities do. KL(p, p) is 0 in every draw,
not only on average.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .logits import in_float
from .topk import Layout, check_encoding, decode_ids, encode_ids, scores_to_store, top_k_layout

# The running sums of a piece, in double precision: 32 MiB.
_PIECE = 2**22


class SampledTarget(NamedTuple):
    """Drawn tokens of teacher distributions.

    Args:
        ids: int64, (tokens, k). The drawn tokens.
        log_probabilities: float32, (tokens, k). Of softmax(z / T); -inf where fewer than k tokens have any.
        weights: float32, (tokens, k). What a drawn token stands for; they sum up to 1.
    """

    ids: Tensor
    log_probabilities: Tensor
    weights: Tensor


def sampled_layout(k: int, vocabulary_size: int) -> Layout:
    """Return what is stored of a token, name -> type and shape, if k tokens are drawn, or the whole vocabulary.

    Raises ConfigurationError for a k or a vocabulary that cannot be stored.

    Example:
        >>> layout = sampled_layout(64, 32_000)
        >>> sum(dtype.itemsize * math.prod(shape) for dtype, shape in layout.values())  # bytes a token
        333
    """
    layout = top_k_layout(k, vocabulary_size)
    del layout["tail"]
    return layout | {"log_threshold": (torch.float32, ())}


def draws_of(numbers: NDArray[np.int64]) -> Tensor:
    """Return a number in [0, 1) for each token, by its number in the data set: float64, (tokens,).

    It depends on nothing else, so that a cache is the same from any batch size, any number of processes and any seed
    of the training.
    """
    # SplitMix64 (Steele, Lea and Flood, 2014): a counter, and bits that are mixed until they look like chance.
    with np.errstate(over="ignore"):
        bits = (numbers.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        bits ^= bits >> np.uint64(31)
    return torch.from_numpy((bits >> np.uint64(11)).astype(np.float64) * 2.0**-53)


@torch.no_grad()
def encode_sampled(logits: Tensor, gold: Tensor, draws: Tensor, *, k: int, temperature: float) -> dict[str, Tensor]:
    """Make what is stored of a teacher at some tokens, as [`sampled_layout`] lists it.

    Args:
        logits: float, (tokens, vocabulary). NaN gives NaN, which [`write_cache`] refuses.
        gold: int64, (tokens,). The gold tokens, none of them -100.
        draws: float64, (tokens,). Where in [0, 1) each draw begins, as from [`draws_of`].
        k: How many tokens to draw.
        temperature: Divides the logits of the target. What masks ask for is at temperature 1.

    Returns:
        On the device of `logits`: `ids_low`, `ids_high`, `log_probabilities` and `log_threshold`, which
        [`decode_sampled`] reads; and `log_likelihood`, `confidence` and `right` as from [`encode_top_k`].

    Raises:
        ConfigurationError: A k, a vocabulary or a temperature that has no meaning.
        InputError: Shapes that do not fit, or gold tokens outside the vocabulary.

    Example:
        >>> logits = torch.tensor([[0.5, 0.25, 0.125, 0.125]]).log()
        >>> stored = encode_sampled(logits, torch.tensor([0]), torch.tensor([0.9]).double(), k=2, temperature=1.0)
        >>> target = decode_sampled(stored)  # 1/2 is kept; of the others, one is drawn: the last, as 0.9 is high
        >>> target.ids.tolist(), target.weights.tolist()
        ([[0, 3]], [[0.5, 0.5]])
    """
    layout = sampled_layout(k, logits.shape[-1])
    check_encoding(logits, gold, temperature)
    rows = max(1, _PIECE // logits.shape[1])
    split = (torch.split(tensor, rows) for tensor in (logits, gold, draws.to(logits.device)))
    kept = min(k, logits.shape[1])
    pieces = [_encode_piece(some, labels, us, kept, temperature) for some, labels, us in zip(*split, strict=True)]
    joined = {name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]}
    stored = encode_ids(joined.pop("ids")) | joined
    return {name: stored[name].to(dtype) for name, (dtype, _) in layout.items()}


def decode_sampled(stored: Mapping[str, Tensor]) -> SampledTarget:
    """Read back what [`encode_sampled`] made, on whatever device it is.

    Rounding to half precision shifts the sum of the weights; all are divided by it.
    """
    logs = stored["log_probabilities"].float()
    weights = torch.maximum(logs, stored["log_threshold"][:, None]).exp().masked_fill(logs == -math.inf, 0)
    return SampledTarget(decode_ids(stored), logs, weights / weights.sum(-1, keepdim=True))


def sampled_kl(target: SampledTarget, logits: Tensor, temperature: float) -> Tensor:
    """Estimate KL(teacher || student) for each token, without bias: float, (tokens,); it may be negative.

    The student's `logits` are float, (tokens, vocabulary); gradients pass through.
    """
    scaled = in_float(logits) / temperature
    student = scaled.gather(-1, target.ids) - scaled.logsumexp(-1, keepdim=True)
    # A token that the teacher rules out stands for nothing; masked before the product, as infinities would be NaN.
    gap = (target.log_probabilities - student).masked_fill(target.weights == 0, 0)
    return (target.weights * gap).sum(-1)


def _encode_piece(logits: Tensor, gold: Tensor, draws: Tensor, k: int, temperature: float) -> dict[str, Tensor]:
    if logits.device.type == "mps":  # which has no double precision, and sums of 100,000 numbers need it
        logits, gold, draws = logits.cpu(), gold.cpu(), draws.cpu()
    logits = in_float(logits)
    logs = (logits.double() / temperature).log_softmax(-1)
    ids, log_threshold = _draw(logs, draws, k)
    drawn = {"ids": ids, "log_probabilities": logs.gather(-1, ids), "log_threshold": log_threshold}
    return drawn | scores_to_store(logits, gold)


def _draw(logs: Tensor, draws: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Draw k tokens of log-probabilities (tokens, vocabulary): their ids, (tokens, k), and log tau, (tokens,)."""
    top = logs.topk(k, dim=-1)
    largest, order = top.values.exp(), torch.arange(k, device=logs.device)
    probabilities = logs.exp()
    # What mass is left where the first 0, 1, 2 ... tokens are kept, the smallest added up first; a token that is as
    # likely as a place's share of that mass is kept too.
    outside = probabilities.scatter(-1, top.indices, 0).sum(-1, keepdim=True)
    rest = outside + largest.flip(-1).cumsum(-1).flip(-1)
    kept = (largest * (k - order) >= rest).long().cumprod(-1).sum(-1, keepdim=True)
    tail = probabilities.scatter(-1, top.indices, torch.where(order < kept, 0, largest))
    sums = tail.cumsum(-1)
    mass = sums[:, -1:]
    # Where the others have no mass, there is nothing to draw.
    kept = torch.where((mass <= 0) | (k == logs.shape[-1]), k, kept)
    is_kept, places = order < kept, (k - kept).clamp(min=1)
    points = (order - kept + draws[:, None]) / places * mass
    drawn = torch.searchsorted(sums, torch.minimum(points, torch.nextafter(mass, torch.zeros_like(mass))), right=True)
    ids = torch.where(is_kept, top.indices, drawn.clamp(max=logs.shape[-1] - 1))
    # Where nothing is drawn, what is kept stands for itself: a threshold of 0.
    return ids, torch.where(kept < k, (mass / places).log(), -math.inf)[:, 0]
