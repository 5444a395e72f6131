"""Trainings of encoder-decoders with plain cross-entropy: task adapters, and controls of compatibility adapters."""

from typing import Any

import torch.nn.functional as F  # noqa: N812 - the name that every torch code base uses
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedTokenizerBase, Seq2SeqTrainer, Seq2SeqTrainingArguments

from ..losses.logits import IGNORE_INDEX
from ..training.hooks import count_labels_of_steps
from .data import DecoderStart, Seq2SeqCollator, encoded_rows


def cross_entropy_trainer(
    model: Any,
    args: Seq2SeqTrainingArguments,
    *,
    train_dataset: Dataset,
    eval_dataset: Dataset | None,
    processing_class: PreTrainedTokenizerBase,
    longest: tuple[int | None, int | None] = (None, None),
) -> Seq2SeqTrainer:
    """Return a trainer whose loss is the mean cross-entropy of the completion's tokens, over an optimizer step.

    Rows are those of [`encoded_rows`], which says what `longest` is.
    """
    rows = {
        name: None if part is None else encoded_rows(part, processing_class, model, name, longest=longest)
        for name, part in (("train", train_dataset), ("eval", eval_dataset))
    }
    trainer = Seq2SeqTrainer(
        model=model,
        args=args,
        data_collator=Seq2SeqCollator(DecoderStart.of(model).padding),
        train_dataset=rows["train"],
        eval_dataset=rows["eval"],
        processing_class=processing_class,
        compute_loss_func=cross_entropy,
    )
    trainer.label_names = ["labels"]
    count_labels_of_steps(trainer, shifted=False)
    return trainer


def cross_entropy(outputs: Any, labels: Tensor, num_items_in_batch: Tensor | int | None = None) -> Tensor:
    """Return the cross-entropy of unshifted labels, (batch, length), divided by the labels of the whole step.

    The models' own loss is a mean over their batch, which gradient accumulation makes another one.

    Example:
        >>> import torch
        >>> from types import SimpleNamespace
        >>> logits = torch.zeros(1, 3, 4)
        >>> round(cross_entropy(SimpleNamespace(logits=logits), torch.tensor([[1, 2, -100]])).item(), 4)  # log 4
        1.3863
    """
    logits = outputs.logits.flatten(0, 1).float()
    total = F.cross_entropy(logits, labels.flatten(), ignore_index=IGNORE_INDEX, reduction="sum")
    count = (labels != IGNORE_INDEX).sum() if num_items_in_batch is None else num_items_in_batch
    return total / (count.clamp(min=1) if isinstance(count, Tensor) else max(count, 1))
