"""The trainings of `benchmarks/spelling.py`: likelihood alone, with the old model, with CLAPS, and together."""

from dataclasses import dataclass
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase, Seq2SeqTrainer, Seq2SeqTrainingArguments, set_seed

import muscle_hf
from muscle_hf.models.hidden_states import returning_hidden_states
from muscle_hf.seq2seq.contrast import Contrast, KeepsProjection
from muscle_hf.seq2seq.contrast_options import ContrastOptions
from muscle_hf.seq2seq.data import Seq2SeqCollator, encoded_rows


@dataclass(frozen=True)
class Row:
    """A way to go on from the new model."""

    title: str
    cross_entropy_weight: float
    """1: the likelihood alone, without teachers."""
    contrastive_weight: float = 0.0
    contrast_flips: bool = False


ROWS = {
    "control": Row("control: likelihood", 1.0),
    "eq1": Row("Eq. 1", 0.0),
    "eq1-likelihood": Row("Eq. 1 + likelihood", 0.5),
    "claps": Row("CLAPS: likelihood + contrastive", 1.0, 1.0),
    "both": Row("Eq. 1 + likelihood + contrastive", 0.5, 1.0),
    "both-flips": Row("the same, with `contrast_flips`", 0.5, 1.0, contrast_flips=True),
}


class LikelihoodTrainer(Seq2SeqTrainer):  # type: ignore[misc]  # transformers is untyped
    """The library's trainer, with the contrastive term beside its loss where the row has one."""

    def __init__(self, row: Row, **options: Any) -> None:
        """Make the projection where it is needed."""
        keeps = KeepsProjection()
        super().__init__(callbacks=[keeps], **options)
        self.contrast = None
        if row.contrastive_weight:
            contrast_options = ContrastOptions(contrastive_weight=row.contrastive_weight)
            self.contrast = keeps.contrast = Contrast(self.model, contrast_options, seed=self.args.seed)

    def create_optimizer(self, model: Any = None) -> Any:
        """Let the optimizer train the projection as well."""
        optimizer = super().create_optimizer(model)
        if self.contrast is not None:
            self.contrast.add_to(optimizer)
        return optimizer

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **options: Any) -> Any:
        """Return the mean cross-entropy of the batch's tokens, and what is added."""
        if self.contrast is None:
            return super().compute_loss(model, inputs, return_outputs, **options)
        with returning_hidden_states(model):
            outputs = model(**inputs)
        return outputs.loss + self.contrast(outputs, inputs, {}, None)


def trained(
    row: Row,
    model: Any,
    old: Any,
    tokenizer: PreTrainedTokenizerBase,
    learned: Dataset,
    *,
    folder: str,
    steps: int,
    batch: int,
    learning_rate: float,
    seed: int,
) -> Any:
    """Return the model after so many steps."""
    set_seed(seed)
    options: dict[str, Any] = {
        "output_dir": folder,
        "max_steps": steps,
        "per_device_train_batch_size": batch,
        "dataloader_drop_last": True,
        "learning_rate": learning_rate,
        "warmup_steps": min(100, steps // 4),
        "seed": seed,
        "use_cpu": True,
        "report_to": "none",
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }
    if row.cross_entropy_weight == 1:
        encoded = encoded_rows(learned, tokenizer, model, "train", longest=(None, None))
        trainer: Any = LikelihoodTrainer(
            row,
            model=model,
            args=Seq2SeqTrainingArguments(**options),
            train_dataset=encoded,
            data_collator=Seq2SeqCollator(tokenizer.pad_token_id),
        )
    else:
        own = {
            "cross_entropy_weight": row.cross_entropy_weight,
            "contrastive_weight": row.contrastive_weight,
            "contrast_flips": row.contrast_flips,
        }
        trainer = muscle_hf.CompatibilitySeq2SeqTrainer(
            model=model,
            old_model=old,
            args=muscle_hf.CompatibilitySeq2SeqConfig(**options, full_fine_tune=True, **own),
            train_dataset=learned,
            processing_class=tokenizer,
        )
    trainer.train()
    return trainer.model
