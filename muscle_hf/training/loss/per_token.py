"""The compatibility loss of a batch, from models: in full logits, in slices, or with a cache of the teachers."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

import torch
from torch import Tensor

from ...errors import ConfigurationError
from ...losses.compatibility import CompatibilityLoss, compatibility_loss
from ...losses.logits import IGNORE_INDEX
from ...losses.sliced import sliced_compatibility_loss
from ...losses.strategy import Strategy
from ...losses.targets import LiveTargets, refuse_nan, tokens_of_a_slice
from ...models.hidden_states import last_hidden_states, project, returning_hidden_states
from ...teachers.live import FrozenModelTeacher, SharedBaseTeacher
from ..rows.tokens import model_inputs, predicted_labels, sequence_numbers, shifted_column, student_inputs
from .cached_targets import CachedTargets
from .slicing import Slicing


class TokenLoss:
    """The loss of [`CompatibilityTrainer`] where both models have one vocabulary.

    `student` is not wrapped; `implementation` is "auto", "plain" or "chunked"; `autocast` makes the context in which
    the models compute; `apart` asks for a gradient of the task's loss by itself. With a cache, of targets of both
    teachers, it is "chunked", and there is no old teacher.
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
        apart: bool = False,
        cache: CachedTargets | None = None,
    ) -> None:
        """Find out which ways are open."""
        self.student, self.old, self.new, self.strategy = student, old, new, strategy
        self.autocast, self.apart = autocast, apart
        self.cache = cache
        self.slicing = Slicing(student, old and old.model, implementation)

    def check(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor] | None:
        """Ask the teachers about one batch, so that NaN or a head of an unknown kind is found before training.

        Returns both teachers' logits at the trained positions; None where the old model is not loaded.
        """
        inputs = model_inputs(batch)
        with self.autocast():
            for name in ("new", "old"):
                self.slicing.check(name, inputs)
        if self.old is None:
            return None
        return self._teacher_rows(inputs, predicted_labels(batch) != IGNORE_INDEX, self.old)

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

    def teacher_logits(self, batch: dict[str, Any]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Give the logits of the old and the new model, (tokens, vocabulary), and the gold tokens, in slices."""
        labels = predicted_labels(batch)
        trained = labels != IGNORE_INDEX
        inputs, gold = model_inputs(batch), self._columns(labels[trained])
        if self.old is not None and self.slicing.takes_in_full(batch):
            yield *self._teacher_rows(inputs, trained, self.old), gold
            return
        size = tokens_of_a_slice(self.slicing.vocabulary, gold.device)
        with self.autocast(), ExitStack() as stack:
            old, new = self._targets(batch, inputs, trained, gold, size)
            self.slicing.run_first(old, new)
            stack.enter_context(self.slicing.whole_heads(self.new, self.old))
            old.prepare(torch.ones_like(gold, dtype=torch.bool))
            new.prepare(torch.ones_like(gold, dtype=torch.bool))
            for tokens in torch.split(torch.arange(len(gold), device=gold.device), size) if len(gold) else ():
                yield old.logits(tokens), new.logits(tokens), gold[tokens]
            old.check()
            new.check()

    def __call__(
        self,
        model: Any,
        batch: dict[str, Any],
        *,
        normalizer: Tensor | float | None,
        needs_logits: bool,
        needs_states: bool = False,
    ) -> tuple[CompatibilityLoss, Any]:
        """Return the loss of a batch, and the student's outputs.

        `model` is the student, as it is wrapped for training; `normalizer` the trained tokens of the whole optimizer
        step, or None for those of this batch; `needs_logits` says whether somebody reads the logits of the outputs,
        and `needs_states` whether somebody reads their last hidden states, of the decoder where there are two.
        """
        if self.old is not None and self.slicing.takes_in_full(batch):
            with returning_hidden_states(self.student) if needs_states else nullcontext():
                return self._plain(model, batch, normalizer, self.old)
        return self._sliced(model, batch, normalizer, alone=not needs_logits)

    def _plain(
        self, model: Any, batch: dict[str, Any], normalizer: Tensor | float | None, old_teacher: FrozenModelTeacher
    ) -> tuple[CompatibilityLoss, Any]:
        labels = predicted_labels(batch)
        trained = labels != IGNORE_INDEX
        old, new = self._teacher_rows(model_inputs(batch), trained, old_teacher)
        outputs = model(**student_inputs(batch))
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
        *,
        alone: bool,
    ) -> tuple[CompatibilityLoss, Any]:
        labels = predicted_labels(batch)
        trained = labels != IGNORE_INDEX
        inputs, gold = model_inputs(batch), self._columns(labels[trained])
        size = tokens_of_a_slice(self.slicing.vocabulary, labels.device)
        with self.autocast():
            old, new = self._targets(batch, inputs, trained, gold, size)
            self.slicing.run_first(old, new)
        with returning_hidden_states(self.student, alone=alone) as more:
            outputs = model(**student_inputs(batch) | more)
        hidden = last_hidden_states(outputs)[trained]
        with self.autocast(), self.slicing.whole_heads(self.new, self.old):
            result = sliced_compatibility_loss(
                hidden,
                lambda few: self.new.common(project(self.student, few)),
                old,
                new,
                gold,
                strategy=self.strategy,
                sequence=sequence_numbers(batch)[trained],
                size=size,
                apart=self.apart,
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
            LiveTargets(name, self.slicing.reader(teacher, inputs, trained), teacher.project, gold, size)
            for name, teacher in (("old", self.old), ("new", self.new))
            if teacher is not None
        )
        return old, new
