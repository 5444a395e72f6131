"""Full logits or hidden states: which way a batch takes, and how a teacher reads no more of it than it has to."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from ...errors import ConfigurationError
from ...losses.targets import LiveTargets
from ...models.adapters import base_model
from ...models.hidden_states import check_projection, gives_hidden_states
from ...models.sharding import is_sharded, whole_shape
from ...teachers.live import FrozenModelTeacher, SharedBaseTeacher
from ..rows.tokens import ENCODER_DECODER

# Logits of a batch up to this many numbers (64 MiB in float32) are taken in full: that is the faster way for them.
_SMALL_LOGITS = 2**24


class Slicing:
    """Whether logits are taken in full, or of a few tokens at a time.

    `student` is not wrapped; of a cached old model there is none. `implementation` is "auto", "plain" or "chunked".
    """

    def __init__(self, student: Any, old: Any, implementation: str) -> None:
        """Find out which ways are open."""
        self.models = {"new": student} if old is None else {"new": student, "old": old}
        self._can = all(gives_hidden_states(model) for model in self.models.values())
        self._always, self._never = implementation == "chunked", implementation == "plain"
        self.in_step = any(is_sharded(model) for model in self.models.values())
        """Whether a model is split over processes, which then have to ask it together, each time."""
        head = base_model(student).get_output_embeddings()
        of_config = base_model(student).config.vocab_size if head is None else None
        self.vocabulary: int = of_config or whole_shape(head.weight)[0]
        if self._always and not self._can:
            without = {
                type(base_model(model)).__name__ for model in self.models.values() if not gives_hidden_states(model)
            }
            raise ConfigurationError(
                f"{', '.join(sorted(without))} does not give hidden states and an LM head of the usual kind "
                "(`logits_to_keep`), so its logits cannot be computed a few at a time. Set "
                'loss_implementation="plain" and teacher_cache="none".'
            )

    @property
    def is_open(self) -> bool:
        """Whether a batch may come that is taken a few tokens at a time."""
        return self._can and not self._never

    def takes_in_full(self, batch: dict[str, Any]) -> bool:
        """Tell whether this batch is one for full logits."""
        # The two ways ask the models in another order, and the batches of processes are not of one size.
        positions = batch["labels" if ENCODER_DECODER in batch else "input_ids"].numel()
        is_small = not self.in_step and positions * self.vocabulary <= _SMALL_LOGITS
        return not self.is_open or (is_small and not self._always)

    def kept_tokens(self, size: int) -> int:
        """Return up to how many tokens logits may be kept, where a slice has so many tokens."""
        if self.in_step:
            return -1  # a head that is split again cannot be gone back through
        return size if self._always else max(size, _SMALL_LOGITS // self.vocabulary)

    def check(self, name: str, inputs: dict[str, Any]) -> None:
        """Compare the logits of a batch in both ways, where a model may be asked in slices: "new" or "old"."""
        if self.is_open and name in self.models:
            check_projection(self.models[name], inputs, name)

    def reader(
        self,
        teacher: FrozenModelTeacher | SharedBaseTeacher,
        inputs: dict[str, Any],
        trained: Tensor,
        *,
        at_once: int | None = None,
    ) -> "TeacherReader":
        """Return what runs a teacher: on all sequences at once, where other processes take part."""
        return TeacherReader(teacher, inputs, trained, reads_all=self.in_step, at_once=at_once)

    def run_first(self, *targets: Any) -> None:
        """Run live teachers before the student, where the models are split over processes.

        What masks ask, and what there is to train on, differ between processes, and must not decide who runs when. And
        layers that the new model went through between the student's two ways would not be let go of on the second.
        """
        for target in targets:
            if self.in_step and isinstance(target, LiveTargets):
                target.run(torch.ones_like(target.gold, dtype=torch.bool))

    @contextmanager
    def whole_heads(self, *teachers: Any) -> Iterator[None]:
        """Make the heads of teachers and student whole, where the models are split over processes."""
        with ExitStack() as stack:
            if self.in_step:
                for teacher in teachers:
                    if teacher is not None:
                        stack.enter_context(teacher.whole_head())
            yield


class TeacherReader:
    """Runs a teacher on those sequences of a batch that hold a token it is asked about.

    `inputs` are the teacher's own; `trained` is bool, (batch, length): the positions it may be asked about. With
    `at_once` it reads sequences of like length together, so many positions at a time at most, padding included. With
    `reads_all` it reads every sequence, in one pass.
    """

    def __init__(
        self,
        teacher: FrozenModelTeacher | SharedBaseTeacher,
        inputs: dict[str, Any],
        trained: Tensor,
        *,
        reads_all: bool = False,
        at_once: int | None = None,
    ) -> None:
        """Keep what is needed; nothing is read yet."""
        self.teacher, self.inputs, self.trained = teacher, inputs, trained
        self.reads_all, self.at_once = reads_all, at_once

    def __call__(self, tokens: Tensor) -> Tensor:
        """Return the last hidden states at all trained positions; those of sequences left out are zero."""
        rows = torch.zeros_like(self.trained).masked_scatter(self.trained, tokens).any(-1)
        if self.reads_all or (self.at_once is None and bool(rows.all())):
            return self.teacher.hidden_states(self.inputs)[self.trained]
        hidden = None
        for some, length in self._passes(rows.nonzero()[:, 0]):
            read = self.teacher.hidden_states(self._cut(some, length))[self.trained[some, :length]]
            if hidden is None:
                hidden = read.new_zeros(int(self.trained.sum()), read.shape[-1])
            places = torch.zeros_like(self.trained).index_fill(0, some, True)[self.trained]
            hidden[places] = read
        assert hidden is not None, "asked about no token"  # noqa: S101 - a mistake of ours, not of a user
        return hidden

    def _passes(self, rows: Tensor) -> Iterator[tuple[Tensor, int]]:
        """Say which rows are read together, and how much of them."""
        if self.at_once is None:
            yield rows, self.trained.shape[-1]
            return
        lengths = self.inputs["attention_mask"][rows].sum(-1)
        while len(rows):
            longest = int(lengths.max())
            order = lengths.argsort(descending=True)
            taken, left = order.tensor_split([max(1, self.at_once // longest)])
            yield rows[taken].sort().values, longest
            rows, lengths = rows[left], lengths[left]

    def _cut(self, rows: Tensor, length: int) -> dict[str, Any]:
        shape = self.trained.shape
        return {
            name: value[rows, :length]
            if isinstance(value, Tensor) and value.shape[:2] == shape
            else value[rows]
            if isinstance(value, Tensor) and value.shape[:1] == shape[:1]
            else value
            for name, value in self.inputs.items()
        }
