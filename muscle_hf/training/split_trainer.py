"""What is different for a trainer of several processes: it trains what was evaluated, and saves what is whole."""

from typing import Any

from torch import Tensor
from transformers import Trainer

from ..models.adapters import base_model
from ..models.sharding import gathered_state, is_sharded, split_again


class SplitTrainer(Trainer):  # type: ignore[misc]  # transformers counts as untyped here
    """Saves models that FSDP2 splits as they are saved by one process, whatever the format of checkpoints.

    transformers would save nothing with FSDP's sharded checkpoints, and gather the whole base with its full ones.
    """

    args: Any
    model: Any

    def train(self, *arguments: Any, **options: Any) -> Any:
        """Train as [`transformers.Trainer.train`] does, also where the model was evaluated before."""
        if is_sharded(self.model):
            split_again(self.model)  # an optimizer made of weights that are whole would train what is thrown away
        elif self.accelerator.num_processes > 1:
            # Otherwise accelerate would not wrap it in DDP, and each process would train a model of its own.
            self.model._is_accelerate_prepared = False
        return super().train(*arguments, **options)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save as [`transformers.Trainer.save_model`] does; all processes gather, and the main one writes."""
        if not is_sharded(self.model):
            super().save_model(output_dir, _internal_call)
            return
        base = base_model(self.model)
        ends = [module for module in (base.get_input_embeddings(), base.get_output_embeddings()) if module is not None]
        # PEFT saves the rows of embeddings whose number has changed, frozen ones too.
        prefixes = tuple(
            f"{name}." for name, module in self.model.named_modules() if any(module is end for end in ends)
        )

        def is_saved(name: str, value: Tensor) -> bool:
            return base is self.model or value.requires_grad or name.startswith(prefixes)

        self._save(output_dir, state_dict=gathered_state(self.model, is_saved, keep=self.args.should_save))
        if self.args.push_to_hub and not _internal_call:
            self.push_to_hub(commit_message="Model save", revision=self.args.hub_revision)
