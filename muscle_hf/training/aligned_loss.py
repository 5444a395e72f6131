"""The compatibility loss of a batch where old and new model have different tokenizers: full logits, chunks of text."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ..alignment.datasets import FIRST_CHUNK
from ..alignment.loss import OldLogits, chunk_compatibility_loss
from ..alignment.scores import score_rows
from ..alignment.vocabulary import shared_tokens
from ..losses.compatibility import CompatibilityLoss
from ..losses.logits import IGNORE_INDEX
from ..losses.masks import StoredScores
from ..losses.strategy import Strategy
from ..losses.targets import refuse_nan
from ..models.adapters import base_model
from ..teachers.cache import TeacherCache
from ..teachers.cache.reader import read_numbered
from ..teachers.live import FrozenModelTeacher, SharedBaseTeacher
from .data import model_inputs, student_inputs


class AlignedLoss:
    """The loss of [`CompatibilityTrainer`] with `alignment="chunks"`.

    `student` is not wrapped; `tokenizers` are the new and the old one, `old_vocabulary` the rows of the old model's
    embeddings. With caches, one for each data set, of the old model's scores of all chunks, there is no old teacher.
    """

    def __init__(
        self,
        student: Any,
        old: FrozenModelTeacher | None,
        new: SharedBaseTeacher,
        strategy: Strategy,
        *,
        tokenizers: tuple[PreTrainedTokenizerBase, PreTrainedTokenizerBase],
        old_vocabulary: int,
        autocast: Callable[[], AbstractContextManager[None]],
        caches: list[TeacherCache] | None = None,
    ) -> None:
        """Find the tokens that both vocabularies have."""
        self.student, self.old, self.new, self.strategy = student, old, new, strategy
        self.autocast = autocast
        head = base_model(student).get_output_embeddings().weight
        shared = shared_tokens(*tokenizers, new_size=head.shape[0], old_size=old_vocabulary)
        self._shared_new, self._shared_old = (torch.as_tensor(ids, device=head.device) for ids in shared)
        self._caches = caches

    def check(self, batch: dict[str, Any]) -> None:
        """Ask both teachers about one batch, so that NaN is found before training."""
        with self.autocast():
            self._new_logits(batch)
            if self.old is not None:
                ask_old(self.old, batch)

    def __call__(
        self, model: Any, batch: dict[str, Any], *, normalizer: Tensor | float | None, needs_logits: bool
    ) -> tuple[CompatibilityLoss, Any]:
        """Return the loss of a batch, and the student's outputs: as [`TokenLoss`], but the logits are always there."""
        with self.autocast():
            new = self._new_logits(batch)
            old = self._cached(batch) if self.old is None else ask_old(self.old, batch)
        outputs = model(**student_inputs(batch))
        result = chunk_compatibility_loss(
            outputs.logits,
            old,
            new,
            batch["labels"],
            batch["chunk_ids"],
            self._shared_new,
            self._shared_old,
            normalizer=normalizer,
            # Both stand at every token of a row, and say the same at each.
            weights=batch["token_weights"][:, 0] if "token_weights" in batch else None,
            given_teachers=batch["given_teachers"][:, 0] if "given_teachers" in batch else None,
            strategy=self.strategy,
        )
        return result, outputs

    def _new_logits(self, batch: dict[str, Any]) -> Tensor:
        logits = self.new.logits(model_inputs(batch))
        refuse_nan("new", logits[batch["labels"] != IGNORE_INDEX])
        return logits

    def _cached(self, batch: dict[str, Any]) -> StoredScores:
        """Read the old model's scores: as many places for each row as the row with the most chunks has."""
        assert self._caches is not None, "either the old model or its scores"  # noqa: S101 - ours, not a user's
        counts = batch["chunk_ids"].amax(-1) + 1
        places = torch.arange(int(counts.max()), device=counts.device)
        inside = places < counts[:, None]
        numbers = (batch[FIRST_CHUNK][:, None] + places)[inside]
        if not len(numbers):
            return StoredScores(inside, torch.zeros(inside.shape, device=inside.device))
        stored = read_numbered(self._caches, numbers)
        right = torch.ones_like(inside).masked_scatter(inside, stored["old.right"].bool())
        zeros = torch.zeros(inside.shape, device=inside.device)
        return StoredScores(right, zeros.masked_scatter(inside, stored["old.log_likelihood"]))


def ask_old(old: FrozenModelTeacher, batch: dict[str, Any]) -> OldLogits:
    """Let the old model read its own tokens of a batch."""
    mask = batch["old_attention_mask"]
    inputs = {"input_ids": batch["old_input_ids"], "attention_mask": mask, "use_cache": False}
    logits = old.logits(inputs)
    refuse_nan("old", logits[mask.bool()])
    return OldLogits(logits, batch["old_input_ids"], batch["old_chunk_ids"])


class ChunkScorer:
    """Asks the old model about the chunks of rows: what a cache of kind "chunks" is filled with."""

    def __init__(
        self,
        dataset: Any,
        collate: Callable[[list[dict[str, Any]]], dict[str, Any]],
        old: FrozenModelTeacher,
        autocast: Callable[[], AbstractContextManager[None]],
    ) -> None:
        """Keep what is needed; nothing is computed yet."""
        self.dataset, self.collate, self.old, self.autocast = dataset, collate, old, autocast

    @torch.no_grad()
    def __call__(self, rows: range) -> dict[str, Tensor]:
        """Return the scores of all chunks of these rows, in order."""
        batch = self.collate([self.dataset[row] for row in rows])
        with self.autocast():
            asked = ask_old(self.old, batch)
        number = int(asked.chunk_ids.max()) + 1
        scores = score_rows(asked.logits, asked.input_ids, asked.chunk_ids, number)
        inside = torch.arange(number, device=scores.right.device) < (asked.chunk_ids.amax(-1) + 1)[:, None]
        return {
            "old.right": scores.right[inside].to(torch.uint8),
            "old.log_likelihood": scores.log_likelihood[inside].float(),
        }
