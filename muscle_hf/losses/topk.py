"""Top-k targets: a teacher's distribution as its k likeliest tokens and the mass of all others together.

With the tail as one class of its own, a divergence between distributions becomes one between k + 1 classes. Of the KL
divergence nothing is lost but what the teacher and the student disagree on inside the tail:

    KL(p || q) - KL(top-k of p || top-k of q) = p_tail * KL(p in the tail || q in the tail)  >= 0

A stored token takes 5 k + 11 bytes, 331 at k = 64: ids in three bytes each, log-probabilities in half precision. Half
precision keeps 11 binary digits of a logarithm, so a probability is off by at most |log p| / 2048 of itself, and the
log of the tail stays as exact where the tail is nearly nothing as where it is nearly everything.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import ConfigurationError, InputError
from .logits import gold_log_probability, in_float

# Ids are stored in three bytes.
LARGEST_VOCABULARY = 2**24
# Logits are brought to float32 in pieces of this many numbers (64 MiB), whatever the size of the batch.
_PIECE = 2**24

Layout = dict[str, tuple[torch.dtype, tuple[int, ...]]]


class TopKTarget(NamedTuple):
    """Teacher distributions over k tokens and a tail; the k + 1 probabilities sum to 1.

    Args:
        ids: int64, (tokens, k). The k likeliest tokens, the likeliest first.
        log_probabilities: float32, (tokens, k). Of softmax(z / T).
        tail: float32, (tokens,). Log of the mass of all other tokens; -inf where there are none.
    """

    ids: Tensor
    log_probabilities: Tensor
    tail: Tensor


def top_k_layout(k: int, vocabulary_size: int) -> Layout:
    """Return what is stored of a token, name -> type and shape, if k tokens are kept, or the whole vocabulary.

    Raises ConfigurationError for a k or a vocabulary that cannot be stored.

    Example:
        >>> layout = top_k_layout(64, 32_000)
        >>> sum(dtype.itemsize * math.prod(shape) for dtype, shape in layout.values())  # bytes a token
        331
    """
    if k < 1:
        raise ConfigurationError(f"k={k} keeps no token; give a positive number, such as 64.")
    if not 0 < vocabulary_size < LARGEST_VOCABULARY:
        raise ConfigurationError(
            f"A vocabulary of {vocabulary_size} tokens cannot be stored: ids have three bytes, for sizes from 1 to "
            f"{LARGEST_VOCABULARY - 1}. Cache hidden states instead."
        )
    kept = min(k, vocabulary_size)
    return {
        "ids_low": (torch.uint16, (kept,)),
        "ids_high": (torch.uint8, (kept,)),
        "log_probabilities": (torch.float16, (kept,)),
        "tail": (torch.float16, ()),
        "log_likelihood": (torch.float32, ()),
        "confidence": (torch.float32, ()),
        "right": (torch.uint8, ()),
    }


@torch.no_grad()
def encode_top_k(logits: Tensor, gold: Tensor, *, k: int, temperature: float) -> dict[str, Tensor]:
    """Make what is stored of a teacher at some tokens, as [`top_k_layout`] lists it.

    Args:
        logits: float, (tokens, vocabulary). NaN gives NaN, which [`write_cache`] refuses.
        gold: int64, (tokens,). The gold tokens, none of them -100.
        k: How many tokens to keep.
        temperature: Divides the logits of the target. What masks ask for is at temperature 1.

    Returns:
        On the device of `logits`: `ids_low` and `ids_high`, `log_probabilities` and `tail`, which
        [`decode_top_k`] reads; `log_likelihood`, the log-probability of the gold token; `confidence`,
        that of the likeliest one; `right`, 1 where the two are the same.

    Raises:
        ConfigurationError: A k, a vocabulary or a temperature that has no meaning.
        InputError: Shapes that do not fit, or gold tokens outside the vocabulary.

    Example:
        >>> logits = torch.tensor([[0.5, 0.25, 0.125, 0.125]]).log()
        >>> target = decode_top_k(encode_top_k(logits, torch.tensor([0]), k=2, temperature=1.0))
        >>> target.ids
        tensor([[0, 1]])
        >>> [round(p, 3) for p in (*target.log_probabilities.exp()[0].tolist(), target.tail.exp().item())]
        [0.5, 0.25, 0.25]
    """
    layout = top_k_layout(k, logits.shape[-1])
    check_encoding(logits, gold, temperature)
    rows = max(1, _PIECE // logits.shape[1])
    pieces = [
        _encode_piece(some, labels, min(k, logits.shape[1]), temperature)
        for some, labels in zip(torch.split(logits, rows), torch.split(gold, rows), strict=True)
    ]
    joined = {name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]}
    stored = encode_ids(joined.pop("ids")) | joined
    return {name: stored[name].to(dtype) for name, (dtype, _) in layout.items()}


def decode_top_k(stored: Mapping[str, Tensor]) -> TopKTarget:
    """Read back what [`encode_top_k`] made, on whatever device it is.

    Rounding to half precision shifts the sum of the probabilities; all k + 1 are divided by it.
    """
    # Each in float32 first: under autocast in bfloat16, float16 cannot be put together.
    logs = torch.cat([stored["log_probabilities"].float(), stored["tail"].float()[:, None]], dim=-1)
    logs = logs - logs.logsumexp(-1, keepdim=True)
    return TopKTarget(decode_ids(stored), logs[:, :-1], logs[:, -1])


def top_k_classes(logits: Tensor, ids: Tensor, temperature: float) -> Tensor:
    """Return a model's log-probabilities of k tokens, and, last, that of all others together: float, (tokens, k + 1).

    The student's side of a divergence with a [`TopKTarget`]; gradients pass through. `ids` are int64, (tokens, k).

    Example:
        >>> top_k_classes(torch.tensor([[0.5, 0.25, 0.25]]).log(), torch.tensor([[1]]), 1.0).exp()
        tensor([[0.2500, 0.7500]])
    """
    scaled = in_float(logits) / temperature
    chosen = scaled.gather(-1, ids)
    if ids.shape[-1] == logits.shape[-1]:
        # A sum over no tokens: its logarithm is -inf, whose gradient would be NaN.
        rest = torch.full_like(chosen[:, :1], -math.inf)
    else:
        # Summed up, not 1 minus the others: that would leave no digits of a small tail.
        rest = scaled.scatter(-1, ids, -math.inf).logsumexp(-1, keepdim=True)
    return torch.cat([chosen, rest], dim=-1) - scaled.logsumexp(-1, keepdim=True)


def check_encoding(logits: Tensor, gold: Tensor, temperature: float) -> None:
    """Refuse logits, (tokens, vocabulary), gold tokens, (tokens,), and a temperature that make no target."""
    if logits.dim() != 2 or gold.shape != logits.shape[:1]:
        raise InputError(
            f"Logits of shape {tuple(logits.shape)} and gold tokens of shape {tuple(gold.shape)} do not fit; "
            "(tokens, vocabulary) and (tokens,) are needed."
        )
    if not (math.isfinite(temperature) and temperature > 0):
        raise ConfigurationError(f"temperature={temperature!r} must be a positive number; the paper's is 2.0.")
    if gold.numel() and not 0 <= int(gold.min()) <= int(gold.max()) < logits.shape[1]:
        raise InputError(
            f"The gold tokens run from {int(gold.min())} to {int(gold.max())}, and the vocabulary has ids 0 to "
            f"{logits.shape[1] - 1}. Leave out positions that are not trained on, whose label is -100."
        )


def encode_ids(ids: Tensor) -> dict[str, Tensor]:
    """Put ids, int64, into three bytes each: `ids_low` and `ids_high`."""
    # The same bits: torch can do hardly anything with uint16, and makes none of a larger type on every device.
    return {
        "ids_low": (ids & 0xFFFF).to(torch.int16).view(torch.uint16),
        "ids_high": (ids >> 16).to(torch.uint8),
    }


def decode_ids(stored: Mapping[str, Tensor]) -> Tensor:
    """Read back what [`encode_ids`] made: int64."""
    # Read as int16, with which torch can do everything.
    low = stored["ids_low"].view(torch.int16).long() & 0xFFFF
    return low | (stored["ids_high"].long() << 16)


def scores_to_store(logits: Tensor, gold: Tensor) -> dict[str, Tensor]:
    """Return what masks ask of a teacher, at temperature 1: `log_likelihood`, `confidence` and `right`, (tokens,)."""
    return {
        "log_likelihood": gold_log_probability(logits, gold),
        "confidence": logits.amax(-1) - logits.logsumexp(-1),
        "right": logits.argmax(-1) == gold,
    }


def _encode_piece(logits: Tensor, gold: Tensor, kept: int, temperature: float) -> dict[str, Tensor]:
    logits = in_float(logits)
    ids = logits.topk(kept, dim=-1).indices
    logs = top_k_classes(logits, ids, temperature)
    return {"ids": ids, "log_probabilities": logs[:, :-1], "tail": logs[:, -1]} | scores_to_store(logits, gold)
