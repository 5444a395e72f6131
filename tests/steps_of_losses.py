"""A step of a loss, and a student that has moved: what tests of losses in slices hold against each other."""

from typing import Any

import torch


def step_of(loss: Any, student: Any, batch: dict[str, torch.Tensor]) -> tuple[Any, dict[str, torch.Tensor]]:
    student.zero_grad()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # dropout draws the same in both ways
        result, _ = loss(student, batch, normalizer=None, needs_logits=False)
        result.loss.backward()
    return result, {
        name: weight.grad.clone() for name, weight in student.named_parameters() if weight.grad is not None
    }


def move(student: Any) -> None:
    """Take the student away from its start, where it is its own teacher."""
    with torch.no_grad():
        for weight in student.parameters():
            if weight.requires_grad:
                weight += 0.1 * torch.randn_like(weight)
