"""The compatibility loss of a batch, from models: in full logits, in slices, or with a cache of the teachers."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigurationError
from ..losses.compatibility import CompatibilityLoss, compatibility_loss
from ..losses.logits import IGNORE_INDEX, next_token_labels
from ..losses.sliced import sliced_compatibility_loss
from ..losses.strategy import Strategy
from ..losses.targets import LiveTargets, refuse_nan, tokens_of_a_slice
from ..models.adapters import base_model
from ..models.hidden_states import (
    HIDDEN_STATES_ALONE,
    check_projection,
    gives_hidden_states,
    project,
    returning_hidden_states,
)
from ..teachers.live import FrozenModelTeacher, SharedBaseTeacher
from .cached_targets import CachedTargets
from .data import model_inputs, sequence_numbers, shifted_column

# Logits of a batch up to this many numbers (64 MiB in float32) are taken in full: that is the faster way for them.
_SMALL_LOGITS = 2**24


class TokenLoss:
    """The loss of [`CompatibilityTrainer`] where both models have one vocabulary.

    `student` is not wrapped; `implementation` is "auto", "plain" or "chunked"; `autocast` makes the context in which
    the models compute. With a cache, of targets of both teachers, there is no old teacher.
    """

    def __init__(
        self,
        student: Any,
        old: FrozenModelTeacher | None,
        new: SharedBaseTeacher,
        strategy: Strategy,
        *,
        implementation: str,
        autocast: Callable[[], AbstractContextManager[None]],
        cache: CachedTargets | None = None,
    ) -> None:
        """Find out which ways are open."""
        self.student, self.old, self.new, self.strategy = student, old, new, strategy
        self.autocast = autocast
        self.cache = cache
        models = [student] if old is None else [student, old.model]
        self._can_slice = all(gives_hidden_states(model) for model in models)
        self._always, self._never = implementation == "chunked" or cache is not None, implementation == "plain"
        if self._always and not self._can_slice:
            names = sorted({type(base_model(model)).__name__ for model in models if not gives_hidden_states(model)})
            raise ConfigurationError(
                f"{', '.join(names)} does not give hidden states and an LM head of the usual kind (`logits_to_keep`), "
                'so its logits cannot be computed a few at a time. Set loss_implementation="plain" and '
                'teacher_cache="none".'
            )

    def check(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor] | None:
        """Ask the teachers about one batch, so that NaN or a head of an unknown kind is found before training.

        Returns both teachers' logits at the trained positions; None where the old model is not loaded.
        """
        inputs = model_inputs(batch)
        if self._can_slice and not self._never:
            with self.autocast():
                for name, model in (("new", self.student), ("old", self.old and self.old.model)):
                    if model is not None:
                        check_projection(model, inputs, name)
        if self.old is None:
            return None
        return self._teacher_rows(inputs, next_token_labels(batch["labels"]) != IGNORE_INDEX, self.old)

    def _teacher_rows(
        self, inputs: dict[str, Any], trained: Tensor, old_teacher: FrozenModelTeacher
    ) -> tuple[Tensor, Tensor]:
        """Return both teachers' logits at the trained positions: two tensors of shape (tokens, vocabulary)."""
        with self.autocast():
            old, new = old_teacher.logits(inputs)[trained], self.new.logits(inputs)[trained]
        # Every step, whatever the mask: a comparison with NaN is False, so some masks would turn away without a word.
        refuse_nan("old", old)
        refuse_nan("new", new)
        return old, new

    def __call__(
        self, model: Any, batch: dict[str, Any], *, normalizer: Tensor | float | None, needs_logits: bool
    ) -> tuple[CompatibilityLoss, Any]:
        """Return the loss of a batch, and the student's outputs.

        `model` is the student, as it is wrapped for training; `normalizer` the trained tokens of the whole optimizer
        step, or None for those of this batch; `needs_logits` says whether somebody reads the logits of the outputs.
        """
        head = base_model(self.student).get_output_embeddings()
        vocabulary = head.weight.shape[0] if head is not None else base_model(self.student).config.vocab_size
        is_small = batch["input_ids"].numel() * vocabulary <= _SMALL_LOGITS
        in_full = self._never or not self._can_slice or (is_small and not self._always)
        if in_full and self.old is not None:
            return self._plain(model, batch, normalizer, self.old)
        return self._sliced(model, batch, normalizer, vocabulary, {} if needs_logits else HIDDEN_STATES_ALONE)

    def _plain(
        self, model: Any, batch: dict[str, Any], normalizer: Tensor | float | None, old_teacher: FrozenModelTeacher
    ) -> tuple[CompatibilityLoss, Any]:
        labels = next_token_labels(batch["labels"])
        trained = labels != IGNORE_INDEX
        old, new = self._teacher_rows(model_inputs(batch), trained, old_teacher)
        outputs = model(**model_inputs(batch))
        result = compatibility_loss(
            self.new.common(outputs.logits[trained]),
            old,
            new,
            self._columns(labels[trained]),
            normalizer=normalizer,
            sequence=sequence_numbers(batch)[trained],
            weights=shifted_column(batch, "token_weights", trained),
            given_teachers=shifted_column(batch, "given_teachers", trained),
            strategy=self.strategy,
        )
        return result, outputs

    def _sliced(
        self,
        model: Any,
        batch: dict[str, Any],
        normalizer: Tensor | float | None,
        vocabulary: int,
        more: dict[str, Any],
    ) -> tuple[CompatibilityLoss, Any]:
        labels = next_token_labels(batch["labels"])
        trained = labels != IGNORE_INDEX
        inputs, gold = model_inputs(batch), self._columns(labels[trained])
        with returning_hidden_states(self.student):
            outputs = model(**inputs | more)
        hidden = outputs["hidden_states"][-1][trained]
        size = tokens_of_a_slice(vocabulary, hidden.device)
        with self.autocast():
            old, new = self._targets(batch, inputs, trained, gold, size)
            result = sliced_compatibility_loss(
                hidden,
                lambda few: self.new.common(project(self.student, few)),
                old,
                new,
                gold,
                strategy=self.strategy,
                sequence=sequence_numbers(batch)[trained],
                size=size,
                normalizer=normalizer,
                weights=shifted_column(batch, "token_weights", trained),
                given_teachers=shifted_column(batch, "given_teachers", trained),
            )
        return result, outputs

    def _columns(self, gold: Tensor) -> Tensor:
        """Turn gold tokens into columns of the logits, which the vocabularies may have been cut to."""
        return gold if self.new.vocabulary is None else self.new.vocabulary.labels(gold)

    def _targets(
        self, batch: dict[str, Any], inputs: dict[str, Any], trained: Tensor, gold: Tensor, size: int
    ) -> tuple[Any, Any]:
        if self.cache is not None:
            numbers = shifted_column(batch, "target_index", trained)
            if numbers is None:
                raise ConfigurationError(
                    "The teacher cache has no targets for these rows. Pass them to the trainer as eval_dataset, or "
                    "predict without a cache."
                )
            return self.cache.targets(numbers)
        old, new = (
            LiveTargets(name, _Reader(teacher, inputs, trained), teacher.project, gold, size)
            for name, teacher in (("old", self.old), ("new", self.new))
            if teacher is not None
        )
        return old, new


class _Reader:
    """Runs a teacher on those sequences of a batch that hold a token it is asked about."""

    def __init__(
        self, teacher: FrozenModelTeacher | SharedBaseTeacher, inputs: dict[str, Any], trained: Tensor
    ) -> None:
        self.teacher, self.inputs, self.trained = teacher, inputs, trained

    def __call__(self, tokens: Tensor) -> Tensor:
        """Return the last hidden states at all trained positions; those of sequences left out are zero."""
        rows = torch.zeros_like(self.trained).masked_scatter(self.trained, tokens).any(-1)
        if bool(rows.all()):
            return self.teacher.hidden_states(self.inputs)[self.trained]
        batch_size = len(self.trained)
        some = {
            name: value[rows] if isinstance(value, Tensor) and value.shape[:1] == (batch_size,) else value
            for name, value in self.inputs.items()
        }
        read = self.teacher.hidden_states(some)[self.trained[rows]]
        hidden = read.new_zeros(int(self.trained.sum()), read.shape[-1])
        hidden[rows[:, None].expand_as(self.trained)[self.trained]] = read
        return hidden
