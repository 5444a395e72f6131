"""What a compatibility trainer logs beside the loss: sums over trained tokens, and the figures made of them."""

import math
from collections import defaultdict
from typing import Any

import torch
from torch import Tensor

from ..losses.compatibility import CompatibilityLoss

_SUMMED = ("tokens", "tokens_to_old", "divergence_to_old", "divergence_to_new", "cross_entropy", "correct_tokens")


class LossSums:
    """Sums over the trained tokens (or instances, or words) since the last log."""

    def __init__(self) -> None:
        """Start from nothing."""
        self._sums: dict[str, float] = defaultdict(float)

    def __getitem__(self, name: str) -> float:
        """Return one sum: "tokens", a field of [`CompatibilityLoss`], or the name of another count."""
        return self._sums[name]

    def add(self, result: CompatibilityLoss, *, accelerator: Any = None, **counts: Tensor | float) -> None:
        """Add one batch, and further counts of it, of all processes together (None where there is one)."""
        values = [getattr(result, name).double() for name in _SUMMED]
        device = values[0].device
        values += [torch.as_tensor(count, dtype=torch.float64, device=device) for count in counts.values()]
        stacked = torch.stack(values)  # one transfer for all of them
        if accelerator is not None:
            stacked = accelerator.reduce(stacked, reduction="sum")
        for name, value in zip((*_SUMMED, *counts), stacked.tolist(), strict=True):
            self._sums[name] += value

    def clear(self) -> None:
        """Forget everything."""
        self._sums.clear()

    def figures(self, accuracy: str, *, with_undefined: bool = False) -> dict[str, float]:
        """Return what is logged, shares and means over tokens; the share of right tokens has the name `accuracy`.

        Where there is nothing to divide by, a figure is left out, or nan: in a log of steps that would look as if the
        training had diverged.
        """
        sums = self._sums
        tokens, to_old = sums["tokens"], sums["tokens_to_old"]
        means = {
            "aligned_to_old_model": (to_old, tokens),
            "divergence_to_old_model": (sums["divergence_to_old"], to_old),
            "divergence_to_new_model": (sums["divergence_to_new"], tokens - to_old),
            "cross_entropy": (sums["cross_entropy"], tokens),
            accuracy: (sums["correct_tokens"], tokens),
        }
        figures = {
            name: total / count if count else math.nan
            for name, (total, count) in means.items()
            if count or with_undefined
        }
        if sums["router_batches"]:
            figures["aux_loss"] = sums["router_loss"] / sums["router_batches"]
        return figures
