"""Divergences between models with two tokenizers: of a chunk's likelihoods, and of distributions on shared tokens."""

import math

import torch
from torch import Tensor

from ..errors import InputError
from ..losses.divergences import DistributionDivergence, kl_divergence
from ..losses.logits import in_float, log_softmax

# A likelihood this close to 1 counts as this far from it: float32 knows no closer one whose complement has a gradient.
_CLOSEST_TO_CERTAIN = 1e-6


def chunk_likelihood_divergence(
    teacher: Tensor, student: Tensor, temperature: float, divergence: DistributionDivergence = kl_divergence
) -> Tensor:
    """Compare the likelihoods of chunks: the binarised divergence of ALM (arXiv 2503.20083, section 3).

    The chunk comes, or it does not: D(Bernoulli(p^(1/tau)) || Bernoulli(q^(1/tau))), the paper's "ALM Objective",
    f(p^(1/tau) || q^(1/tau)) + f(1 - p^(1/tau) || 1 - q^(1/tau)), summed up by the caller. A likelihood within 1e-6
    of 1 (after the power) counts as 1 - 1e-6, so that a student that is certain costs a finite loss.

    Args:
        teacher: float, (chunks,). Log-likelihoods p of the frozen model, at temperature 1.
        student: float, (chunks,). Log-likelihoods q of the adapter in training.
        temperature: tau. The paper's code takes 100; here the temperature of the other divergences is right, which
            keeps chunks and tokens on one scale.
        divergence: Between log-probabilities (teacher, student), both (chunks, 2). Defaults to the forward KL.

    Returns:
        float, (chunks,). At least 0, and 0 where both are equal.

    Example:
        >>> quarter, half = torch.tensor([0.25]).log(), torch.tensor([0.5]).log()
        >>> round(chunk_likelihood_divergence(quarter, half, 1.0).item(), 6)  # 1/4 log(1/2) + 3/4 log(3/2)
        0.130812
        >>> chunk_likelihood_divergence(quarter, quarter, 2.0)
        tensor([0.])
    """
    return divergence(_binarised(teacher / temperature), _binarised(student / temperature))


def shared_vocabulary_kl(
    teacher_logits: Tensor,
    student_logits: Tensor,
    shared_old_ids: Tensor,
    shared_new_ids: Tensor,
    temperature: float,
    divergence: DistributionDivergence = kl_divergence,
) -> Tensor:
    """Compare distributions over two vocabularies: on the tokens that both have, with one bucket for the rest.

    Where one side has no other tokens, the other side's rest has nothing to be compared with: there is no bucket, and
    both distributions are scaled up to the shared tokens. With no rest on either side it is the plain divergence.

    Args:
        teacher_logits: float, (n, old vocabulary). Logits of the frozen model.
        student_logits: float, (n, new vocabulary). Logits of the adapter in training.
        shared_old_ids: int64, (shared,). See [`shared_tokens`][muscle_hf.alignment.vocabulary.shared_tokens].
        shared_new_ids: int64, (shared,). The same tokens on the new side.
        temperature: Divides all logits.
        divergence: Between log-probabilities (teacher, student), both (n, shared + 1). Defaults to the forward KL.

    Returns:
        float, (n,). At least 0.

    Example:
        >>> teacher = torch.tensor([[0.1, 0.3, 0.6]]).log()
        >>> student = torch.tensor([[0.3, 0.1, 0.4, 0.2]]).log()  # the same on the shared tokens and on the rest
        >>> shared_vocabulary_kl(teacher, student, torch.tensor([0, 1]), torch.tensor([1, 0]), 1.0).abs().round()
        tensor([0.])
    """
    if shared_old_ids.shape != shared_new_ids.shape or not shared_old_ids.numel():
        raise InputError(
            f"shared_old_ids has shape {tuple(shared_old_ids.shape)} and shared_new_ids "
            f"{tuple(shared_new_ids.shape)}; give the ids of the same tokens, at least one."
        )
    sides = ((teacher_logits, shared_old_ids), (student_logits, shared_new_ids))
    has_bucket = all(logits.shape[-1] > len(ids) for logits, ids in sides)
    teacher, student = (_on_shared(logits, ids, temperature, has_bucket) for logits, ids in sides)
    return divergence(teacher, student)


def _binarised(log_likelihood: Tensor) -> Tensor:
    """Log-probabilities of the chunk and of anything else."""
    happens = log_likelihood.clamp(max=-_CLOSEST_TO_CERTAIN)
    # log(1 - exp(x)), by whichever form keeps its digits (Maechler 2012, "Accurately computing log(1 - exp(-|a|))").
    near = happens > -math.log(2)
    does_not = torch.where(near, torch.log(-torch.expm1(happens)), torch.log1p(-torch.exp(happens)))
    return torch.stack([happens, does_not], dim=-1)


def _on_shared(logits: Tensor, ids: Tensor, temperature: float, has_bucket: bool) -> Tensor:
    """Log-probabilities of the shared tokens and, if there is one, of the bucket."""
    shared = logits.index_select(-1, ids)
    if not has_bucket:
        return log_softmax(shared, temperature)
    others = torch.ones(logits.shape[-1], dtype=torch.bool, device=logits.device)
    others[ids] = False
    # Where a model rules all the others out with -inf, the sum's gradient would be nan.
    rest = (in_float(logits[:, others]) / temperature).clamp(min=-1e30).logsumexp(-1, keepdim=True)
    return log_softmax(torch.cat([in_float(shared) / temperature, rest], dim=-1), 1.0)
