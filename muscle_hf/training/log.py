"""What a compatibility trainer logs beside the loss: sums over trained tokens, and the figures made of them."""

import math
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback

from ..losses.compatibility import CompatibilityLoss
from ..models.processes import from_every_process
from .checkpoints.diverged import refuse_diverged
from .checkpoints.kept import state_of

_SUMMED = ("tokens", "tokens_to_old", "divergence_to_old", "divergence_to_new", "cross_entropy", "correct_tokens")
_UNLOGGED = "tokens_since_log"
_TOKENS = "num_tokens"


class LossSums:
    """Sums over the trained tokens (or instances, or words) since the last log."""

    def __init__(self) -> None:
        """Start from nothing."""
        self._sums: dict[str, float] = defaultdict(float)

    def __getitem__(self, name: str) -> float:
        """Return one sum: "tokens", a field of [`CompatibilityLoss`], or the name of another count."""
        return self._sums[name]

    def __setitem__(self, name: str, value: float) -> None:
        """Put a sum in place."""
        self._sums[name] = value

    def add(self, result: CompatibilityLoss, *, accelerator: Any = None, **counts: Tensor | float) -> bool:
        """Add one batch, and further counts of it, of all processes together (None where there is one).

        Returns, to all processes alike, whether all of it are numbers, and not NaN or infinity.
        """
        values = [getattr(result, name).double() for name in _SUMMED]
        device = values[0].device
        values += [torch.as_tensor(count, dtype=torch.float64, device=device) for count in counts.values()]
        stacked = torch.stack(values)  # one transfer for all of them
        if accelerator is not None:
            stacked = accelerator.reduce(stacked, reduction="sum")
        totals = stacked.tolist()
        for name, value in zip((*_SUMMED, *counts), totals, strict=True):
            self._sums[name] += value
        return all(map(math.isfinite, totals))

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


class EndsWhenDiverged(TrainerCallback):  # type: ignore[misc]  # transformers is taken as untyped
    """Ends a training where what is logged of it is no number because weights are none.

    In float16 a loss or a gradient may just be too large, and the step is left out.
    """

    def __init__(self, trainer: Any) -> None:
        """Keep the trainer, whose weights are looked at."""
        self.trainer = trainer

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Look at the weights where there is a reason; all processes log the same."""
        # "entropy" is TRL's, and the filter of transformers leaves it as it is.
        if not all(math.isfinite(logs.get(name, 0.0)) for name in ("loss", "grad_norm", "entropy")):
            from_every_process(partial(refuse_diverged, self.trainer))


class TokensSinceLog(TrainerCallback):  # type: ignore[misc]  # transformers is taken as untyped
    """Lets checkpoints say how many tokens came since the last log, so that the count goes on from one between two."""

    def __init__(self, trainer: Any) -> None:
        """Keep the trainer, whose sums these are."""
        self.trainer = trainer

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Note it where a checkpoint may be written next."""
        state.stateful_callbacks[_UNLOGGED] = {
            "args": {},
            "attributes": {"positions": self.trainer._sums["positions"]},
        }

    def counted(self, history: list[dict[str, float]]) -> dict[str, float]:
        """Return the count of all tokens, for the next log after `history`, which a resumed run brings along."""
        if not (positions := self.trainer._sums["positions"]):
            return {}
        return {_TOKENS: next((log[_TOKENS] for log in reversed(history) if _TOKENS in log), 0.0) + positions}

    def on_log(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Note that the log has them."""
        self.on_step_end(args, state, control)

    def take_up(self, checkpoint: Path) -> None:
        """Go on counting from a checkpoint; one of an earlier version does not say it."""
        kept = (state_of(checkpoint) or {}).get("stateful_callbacks", {}).get(_UNLOGGED)
        self.trainer._sums["positions"] = 0.0 if kept is None else float(kept["attributes"]["positions"])
