"""Where the distributions of the old and the new model come from.

The old model is a frozen model of its own. The new model shares the student's base: it is a snapshot of the adapter's
tensors, put in place of the student's for the length of a forward pass. A snapshot serves every kind of adapter alike
(LoRA on any layer, `modules_to_save`, trained tokens, norms, a tied LM head), is not seen by the optimizer, and is
never saved, none of which holds for a second PEFT adapter on the model.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..alignment.vocabulary_map import VocabularyMap
from ..errors import ConfigurationError
from ..losses.sliced import leaves_below
from ..models.adapters import base_model
from ..models.asking import asking
from ..models.hidden_states import (
    LogitTransform,
    OutputHead,
    bias_of_logits,
    last_hidden_states,
    project,
    returning_hidden_states,
    whole_head,
)
from ..models.sharding import LocalShards, is_sharded


class FrozenModelTeacher:
    """The old model: a model of its own, frozen and in eval mode; any causal language model, with or without adapter.

    With a `vocabulary`, which says which of its tokens the new model has, it is given the new model's tokens and
    answers about the common ones. None: all tokens, in the same order.
    """

    def __init__(self, model: nn.Module, vocabulary: VocabularyMap | None = None) -> None:
        """Freeze the model."""
        self.model = model.requires_grad_(False).eval()
        self.vocabulary = vocabulary

    @torch.no_grad()
    def __call__(self, inputs: dict[str, Any]) -> Any:
        """Return the old model's outputs."""
        # A callback or `accelerate` may have put it back into training mode, where dropout would blur the target.
        if self.vocabulary is not None:
            inputs = inputs | {"input_ids": self.vocabulary.old_input_ids(inputs["input_ids"])}
        with asking(self.model):
            return self.model(**inputs)

    def logits(self, inputs: dict[str, Any]) -> Tensor:
        """Return the old model's logits."""
        return self._common(self(inputs).logits)

    def hidden_states(self, inputs: dict[str, Any]) -> Tensor:
        """Return the old model's last hidden states: float, (batch, length, hidden size)."""
        with returning_hidden_states(self.model, alone=True) as more:
            return last_hidden_states(self(inputs | more))

    def whole_head(self) -> AbstractContextManager[None]:
        """Let [`project`] be used, where the model is split over processes; all of them come here together."""
        return whole_head(self.model)

    def project(self, hidden: Tensor) -> Tensor:
        """Return the logits of a few hidden states."""
        return self._common(project(self.model, hidden))

    def output_head(self) -> OutputHead:
        """Return the LM head as plain tensors."""
        with self.whole_head():
            return _on(dense_head(self.model), None if self.vocabulary is None else self.vocabulary.old_ids)

    def _common(self, logits: Tensor) -> Tensor:
        return logits if self.vocabulary is None else self.vocabulary.old_logits(logits)


class SharedBaseTeacher:
    """The new model: the adapter as it was at the start, on the very base that the student trains on.

    The student comes before its first step; its trainable tensors are copied. `vocabulary` says which of its tokens
    the old model has, where the two differ. Where the student is split over processes, each copies its own part, and
    all of them ask the teacher together.
    """

    def __init__(self, student: nn.Module, vocabulary: VocabularyMap | None = None) -> None:
        """Copy the adapter's tensors."""
        self.student = student
        self.vocabulary = vocabulary
        self.shards = LocalShards(student) if is_sharded(student) else None
        self.snapshot = (
            {
                name: parameter.detach().clone()
                for name, parameter in student.named_parameters()
                if parameter.requires_grad
            }
            if self.shards is None
            else {}
        )
        # Whole, and only for a while, where the student is split.
        self._snapshot_of_head: dict[str, Tensor] = {}

    @cached_property
    def _projector(self) -> "_Projector":
        with whole_head(self.student):
            return _Projector(self.student)

    @contextmanager
    def in_place(self) -> Iterator[nn.Module]:
        """Let the student be the new model for a while: it generates, too."""
        with self.shards.in_place() if self.shards is not None else holding(self.student, self.snapshot):
            yield self.student

    @contextmanager
    def whole_head(self) -> Iterator[None]:
        """Let [`project`] be used, and the student's own head, where the student is split over processes.

        All of them come here together.
        """
        if self.shards is not None and self._projector.is_trained:
            with self.shards.in_place(), torch.no_grad(), whole_head(self.student):
                weights = dict(self.student.named_parameters())
                self._snapshot_of_head = {name: weights[name].clone() for name in self._projector.trained}
        try:
            with whole_head(self.student):
                yield
        finally:
            self._snapshot_of_head = {}

    @torch.no_grad()
    def __call__(self, inputs: dict[str, Any]) -> Any:
        """Return the outputs of the new model as it was before training."""
        with asking(self.student):
            if self.shards is None:
                return functional_call(self.student, self.snapshot, kwargs=inputs)
            with self.shards.in_place():
                return self.student(**inputs)

    def logits(self, inputs: dict[str, Any]) -> Tensor:
        """Return the logits of the new model as it was before training."""
        return self.common(self(inputs).logits)

    def common(self, logits: Tensor) -> Tensor:
        """Cut the new model's or the student's logits to the tokens that the old model has too."""
        return logits if self.vocabulary is None else self.vocabulary.new_logits(logits)

    def hidden_states(self, inputs: dict[str, Any]) -> Tensor:
        """Return the new model's last hidden states: float, (batch, length, hidden size)."""
        with returning_hidden_states(self.student, alone=True) as more:
            return last_hidden_states(self(inputs | more))

    @torch.no_grad()
    def project(self, hidden: Tensor) -> Tensor:
        """Return the logits of a few hidden states, by the LM head as it was before training."""
        if not self._projector.is_trained:
            return self.common(project(self.student, hidden))
        of_head = self.snapshot if self.shards is None else self._snapshot_of_head
        snapshot = {f"model.{name}": tensor for name, tensor in of_head.items()}
        with asking(self.student):
            return self.common(functional_call(self._projector, snapshot, (hidden,)))

    def output_head(self) -> OutputHead:
        """Return the LM head as it was before training, as plain tensors."""
        with self.whole_head():
            # What adapters make of the head is seen from outside, and cut to the common tokens there.
            if self._projector.is_trained:
                return dense_head(self.student, self.project)
            return _on(dense_head(self.student), None if self.vocabulary is None else self.vocabulary.new_ids)


@contextmanager
def holding(model: nn.Module, tensors: Mapping[str, Tensor]) -> Iterator[nn.Module]:
    """Put other values into some parameters of a model for a while, such as the adapter as it was before training.

    `torch.func.functional_call` does that for one forward pass, this for `generate` as well.
    """
    parameters = dict(model.named_parameters())
    own = {name: parameters[name].data for name in tensors}
    try:
        _put(parameters, tensors)
        yield model
    finally:
        _put(parameters, own)


def _put(parameters: Mapping[str, nn.Parameter], tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        parameters[name].data = tensor
    # An autocast context remembers the weights that it has cast, and would go on with those.
    torch.clear_autocast_cache()


class _Projector(nn.Module):
    """The LM head of a whole model: what an adapter ties to it may be kept anywhere in the model."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        weight = base_model(model).get_output_embeddings().weight
        with torch.enable_grad():
            probe = project(model, torch.zeros(1, weight.shape[-1], dtype=weight.dtype, device=weight.device))
        # A head that no adapter reaches is the same before and after training, and needs no snapshot put in place.
        self.is_trained = probe.requires_grad
        reached = {id(leaf) for leaf in leaves_below(probe)}
        self.trained = [name for name, weight in model.named_parameters() if id(weight) in reached]

    def forward(self, hidden: Tensor) -> Tensor:
        return project(self.model, hidden)


@torch.no_grad()
def dense_head(model: nn.Module, projection: Callable[[Tensor], Tensor] | None = None) -> OutputHead:
    """Return an LM head as one matrix, whatever adapters and biases it consists of.

    `projection` turns hidden states into logits; None: the model as it is now.
    """
    base = base_model(model)
    head, transform = base.get_output_embeddings(), LogitTransform.of(base.config)
    if projection is None and type(head) is nn.Linear:
        return OutputHead(head.weight.detach(), bias_of_logits(base), transform)
    if transform.softcap is not None:
        raise ConfigurationError(
            "The logits are soft-capped and their LM head is adapted, so it cannot be kept as one matrix. Set "
            'teacher_cache="sampled".'
        )
    weight = next(head.parameters())
    size = head.weight.shape[-1]
    # A linear function is known by what it makes of zero and of each direction.
    unit = torch.eye(size + 1, size, dtype=weight.dtype, device=weight.device).roll(1, 0)
    images = (projection or partial(project, model))(unit)
    bias = images[0]
    return OutputHead((images[1:] - bias).T.contiguous(), bias if bool(bias.any()) else None)


def _on(head: OutputHead, ids: Any) -> OutputHead:
    """Keep the rows of some tokens."""
    if ids is None:
        return head
    rows = torch.as_tensor(ids, device=head.weight.device)
    return OutputHead(head.weight[rows], None if head.bias is None else head.bias[rows], head.transform)
