"""Trainings with plain cross-entropy: task adapters, and the controls that compatibility adapters are held against."""

from typing import Any

from transformers import Trainer, TrainerCallback
from trl import SFTTrainer

from ..models.sharding import is_sharded
from ..progress import progress_bar
from .hooks import send_nothing
from .processes.split_models import state_to_save


class FusedTrainer(SFTTrainer):  # type: ignore[misc]  # trl is untyped
    """TRL's own, which counts no training at the Hub, and saves what is split over processes as one process does."""

    _send_telemetry = send_nothing

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save as the parent does, or gather what is saved of a split model."""
        if is_sharded(self.model):
            self._save(output_dir, state_dict=state_to_save(self.model, keep=self.args.should_save))
        else:
            super().save_model(output_dir, _internal_call)


class CrossEntropyTrainer(FusedTrainer):
    """An `SFTTrainer` that takes its loss from the model's own logits.

    TRL's fused LM head saves memory that large vocabularies need. On a CPU it also scores every position in small
    pieces, which makes a step of models as small as these more than twice as slow; the loss is the same.
    """

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
