"""Weights that are no numbers are not saved, and what was kept before them is named."""

from pathlib import Path
from typing import Any

import torch

from ...errors import DivergedError
from ...models.sharding import part_of
from .kept import last_checkpoint, steps_done


def refuse_diverged(trainer: Any) -> None:
    """Refuse to save what a training has made NaN or infinity, of what is split the part that is here."""
    for name, weight in trainer.model.named_parameters():
        part = part_of(weight)
        if weight.requires_grad and part.is_floating_point() and not bool(torch.isfinite(part).all()):
            raise DivergedError(
                f"The training has diverged: at step {trainer.state.global_step} there are weights that are no "
                f"numbers (NaN or infinity, such as {name}), so they are not saved. {_kept(trainer)} "
                f"Lower learning_rate (now {trainer.args.learning_rate:g}), raise warmup_steps, or train in bfloat16 "
                "or float32 where it was float16."
            )


def _kept(trainer: Any) -> str:
    folder = Path(trainer.args.output_dir)
    newest, done = last_checkpoint(folder), steps_done(folder)
    if newest is None or done is None or done[0] > trainer.state.global_step:
        return "There is no checkpoint from before."
    return f"The last checkpoint, whose weights are numbers, is {newest}."
