"""Trainings with plain cross-entropy: task adapters, and the controls that compatibility adapters are held against."""

from typing import Any

from transformers import Trainer, TrainerCallback
from trl import SFTTrainer

from ..progress import progress_bar
from .hooks import send_nothing


class CrossEntropyTrainer(SFTTrainer):  # type: ignore[misc]  # trl is untyped
    """An `SFTTrainer` that takes its loss from the model's own logits.

    TRL's fused LM head saves memory that large vocabularies need. On a CPU it also scores every position in small
    pieces, which makes a step of models as small as these more than twice as slow; the loss is the same.
    """

    _send_telemetry = send_nothing

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        """Return the mean cross-entropy of the trained tokens."""
        if self.aux_loss_enabled:  # which the model alone would add once for each batch of an optimizer step
            return super().compute_loss(*args, **kwargs)
        return Trainer.compute_loss(self, *args, **kwargs)


class TrainingProgress(TrainerCallback):  # type: ignore[misc]  # transformers is taken as untyped
    """One progress bar for a training, with the last validation accuracy beside it."""

    def __init__(self, description: str) -> None:
        """Remember the words; the bar starts with the training."""
        self.description = description
        self.bar: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start the bar, where a resumed training left it."""
        self.bar = progress_bar(state.max_steps, self.description, initial=state.global_step, unit="step")

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Move the bar on."""
        self.bar.update(state.global_step - self.bar.n)

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **_: Any) -> None:
        """Show the validation accuracy."""
        if self.bar is not None and "eval_accuracy" in (metrics or {}):
            self.bar.set_postfix(validation_accuracy=f"{100 * metrics['eval_accuracy']:.1f} %")

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Close the bar."""
        self.bar.close()
