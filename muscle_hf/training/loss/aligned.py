"""The compatibility loss of a batch where old and new model have different tokenizers: in chunks of text.

The teachers are asked as in [`TokenLoss`]: in full, or at the positions that count and in slices. The old model reads
its own tokens, one row for each sequence of the batch, also where sequences are packed into rows.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ...alignment.counted import CountedChunks, count_chunks, over_the_batch
from ...alignment.datasets import FIRST_CHUNK
from ...alignment.loss import loss_of_chunks, stored_at
from ...alignment.scores import ChunkScores
from ...alignment.sliced import as_it_is, sliced_chunk_loss
from ...alignment.vocabulary import shared_tokens
from ...losses.compatibility import CompatibilityLoss
from ...losses.masks import StoredScores
from ...losses.strategy import Strategy
from ...losses.targets import LiveTargets, refuse_nan, tokens_of_a_slice
from ...models.adapters import base_model
from ...models.hidden_states import gives_hidden_states, last_hidden_states, project, returning_hidden_states
from ...models.sharding import whole_shape
from ...teachers.cache import TeacherCache
from ...teachers.cache.reader import read_numbered
from ...teachers.live import FrozenModelTeacher, SharedBaseTeacher
from ..rows.tokens import is_packed, model_inputs, sequence_numbers, shifted_column, student_inputs
from .slicing import Slicing


class AlignedLoss:
    """The loss of [`CompatibilityTrainer`] with `alignment="chunks"`.

    `student` is not wrapped; `tokenizers` are the new and the old one, `old_vocabulary` the rows of the old model's
    embeddings; `implementation` is "auto", "plain" or "chunked"; `apart` is as in [`TokenLoss`]. With caches, one for
    each data set, of the old model's scores of all chunks, there is no old teacher.
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
        implementation: str,
        autocast: Callable[[], AbstractContextManager[None]],
        apart: bool = False,
        caches: list[TeacherCache] | None = None,
    ) -> None:
        """Find the tokens that both vocabularies have."""
        self.student, self.old, self.new, self.strategy = student, old, new, strategy
        self.autocast, self.apart = autocast, apart
        self.slicing = Slicing(student, None if old is None else old.model, implementation)
        head = base_model(student).get_output_embeddings().weight
        rows = whole_shape(head)[0]
        of_new, of_old = shared_tokens(*tokenizers, new_size=rows, old_size=old_vocabulary)
        self._shared = torch.as_tensor(of_old, device=head.device), torch.as_tensor(of_new, device=head.device)
        self._vocabulary = max(rows, 0 if old is None else old_vocabulary)
        self._caches = caches

    def check(self, batch: dict[str, Any]) -> None:
        """Ask both teachers about one batch, so that NaN or a head of an unknown kind is found before training."""
        inputs, chunks = model_inputs(batch), _counted(batch)
        with self.autocast():
            self.slicing.check("new", inputs)
            refuse_nan("new", self.new.logits(inputs)[chunks.new.where])
            if self.old is not None:
                self.slicing.check("old", old_inputs(batch))
                _ask_old(self.old, batch)

    def __call__(
        self, model: Any, batch: dict[str, Any], *, normalizer: Tensor | float | None, needs_logits: bool
    ) -> tuple[CompatibilityLoss, Any]:
        """Return the loss of a batch, and the student's outputs: as [`TokenLoss`]."""
        chunks = _counted(batch, with_old=self.old is not None)
        given_teachers = shifted_column(batch, "given_teachers", chunks.new.where)
        rest: dict[str, Any] = {
            "normalizer": normalizer,
            "weights": shifted_column(batch, "token_weights", chunks.new.where),
            "given_teachers": None if given_teachers is None else given_teachers[chunks.new.first],
        }
        if self.slicing.takes_in_full(batch):
            return self._plain(model, batch, chunks, rest)
        size = tokens_of_a_slice(self._vocabulary, chunks.new.ids.device)
        with self.autocast():
            live, new = self._targets(batch, chunks, size)
            self.slicing.run_first(new, live)
        with returning_hidden_states(self.student, alone=not needs_logits) as more:
            outputs = model(**student_inputs(batch) | more)
        hidden = last_hidden_states(outputs)[chunks.new.where]
        with self.autocast(), self.slicing.whole_heads(self.new, self.old):
            old = stored_at(self._cached(batch), chunks, hidden) if live is None else live
            result = sliced_chunk_loss(
                hidden,
                lambda few: project(self.student, few),
                old,
                new,
                chunks,
                self._shared,
                strategy=self.strategy,
                size=size,
                kept=self.slicing.kept_tokens(size),
                apart=self.apart,
                **rest,
            )
        return result, outputs

    def _plain(
        self, model: Any, batch: dict[str, Any], chunks: CountedChunks, rest: dict[str, Any]
    ) -> tuple[CompatibilityLoss, Any]:
        with self.autocast():
            new = self.new.logits(model_inputs(batch))[chunks.new.where]
            refuse_nan("new", new)
            old = None if self.old is None else _ask_old(self.old, batch)[chunks.old.where]
        outputs = model(**student_inputs(batch))
        student = outputs.logits[chunks.new.where]
        stored = stored_at(self._cached(batch), chunks, student) if old is None else old
        return loss_of_chunks(self.strategy, chunks, student, stored, new, self._shared, **rest), outputs

    def _targets(
        self, batch: dict[str, Any], chunks: CountedChunks, size: int
    ) -> tuple[LiveTargets | None, LiveTargets]:
        old = None
        if self.old is not None:
            # Sequences that are packed into one row here are rows of their own there, and of any length.
            at_once = batch["input_ids"].numel() if is_packed(batch) else None
            old_reader = self.slicing.reader(self.old, old_inputs(batch), chunks.old.where, at_once=at_once)
            old = LiveTargets("old", old_reader, self.old.project, chunks.old.ids, size)
        reader = self.slicing.reader(self.new, model_inputs(batch), chunks.new.where)
        return old, LiveTargets("new", reader, self.new.project, chunks.new.ids, size)

    def _cached(self, batch: dict[str, Any]) -> StoredScores:
        """Read the old model's scores: as many places for each sequence as the one with the most chunks has."""
        assert self._caches is not None, "either the old model or its scores"  # noqa: S101 - ours, not a user's
        firsts, chunk_ids = batch[FIRST_CHUNK], batch["chunk_ids"]
        inside = chunk_ids >= 0
        counts = torch.zeros_like(firsts).scatter_reduce(
            0, sequence_numbers(batch)[inside], chunk_ids[inside] + 1, "amax"
        )
        places = torch.arange(int(counts.max()), device=counts.device)
        taken = places < counts[:, None]
        numbers = (firsts[:, None] + places)[taken]
        zeros = torch.zeros(taken.shape, device=taken.device)
        if not len(numbers):
            return StoredScores(taken, zeros)
        stored = read_numbered(self._caches, numbers)
        right = torch.ones_like(taken).masked_scatter(taken, stored["old.right"].bool())
        return StoredScores(right, zeros.masked_scatter(taken, stored["old.log_likelihood"]))


def old_inputs(batch: dict[str, Any]) -> dict[str, Any]:
    """Return what the old model reads: its own tokens, a row for each sequence of the batch."""
    return {"input_ids": batch["old_input_ids"], "attention_mask": batch["old_attention_mask"], "use_cache": False}


def _counted(batch: dict[str, Any], *, with_old: bool = True) -> CountedChunks:
    return count_chunks(
        batch["labels"],
        batch["chunk_ids"],
        (batch["old_input_ids"], batch["old_chunk_ids"]) if with_old else None,
        sequence=sequence_numbers(batch),
        sequences=len(batch["old_input_ids"]),
    )


def _ask_old(old: FrozenModelTeacher, batch: dict[str, Any]) -> Tensor:
    logits = old.logits(old_inputs(batch))
    refuse_nan("old", logits[batch["old_attention_mask"].bool()])
    return logits


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
        counts = batch["old_chunk_ids"].amax(-1) + 1
        most = int(counts.max())
        numbers = over_the_batch(batch["old_chunk_ids"], most)[:, 1:]
        where = numbers >= 0
        ids, old = batch["old_input_ids"][:, 1:][where], self.old
        has_parts = gives_hidden_states(old.model)
        forward, head = (old.hidden_states, old.project) if has_parts else (old.logits, as_it_is)
        vocabulary = whole_shape(base_model(old.model).get_output_embeddings().weight)[0] if has_parts else 1
        size = tokens_of_a_slice(vocabulary, ids.device)
        targets = LiveTargets("old", lambda _: forward(old_inputs(batch))[:, :-1][where], head, ids, size)
        scores = ChunkScores(targets.logits, ids, numbers[where], len(counts) * most, size)
        with self.autocast():
            targets.run(where[where])
            with old.whole_head():
                right, log_likelihood = scores.right, scores.log_likelihood
        targets.check()
        inside = (torch.arange(most, device=counts.device) < counts[:, None]).flatten()
        return {"old.right": right[inside].to(torch.uint8), "old.log_likelihood": log_likelihood[inside].float()}
