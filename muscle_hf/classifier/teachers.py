"""The old and the new classifier of a training: what each of them reads of a batch, and what it says."""

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from typing import Any

from torch import Tensor

from ..losses.targets import refuse_nan
from ..teachers.live import FrozenModelTeacher, SharedBaseTeacher
from .data import OLD, ROW
from .evaluation import EvaluationMemory


class ClassifierTeachers:
    """Both teachers of [`CompatibilityClassifierTrainer`]; `arguments` are the inputs that "old" and "new" know."""

    def __init__(
        self,
        old: FrozenModelTeacher,
        new: SharedBaseTeacher,
        arguments: Mapping[str, Collection[str]],
        autocast: Callable[[], AbstractContextManager[None]],
    ) -> None:
        """Ask nothing yet."""
        self.old, self.new, self.arguments, self.autocast = old, new, arguments, autocast

    def inputs_of(self, role: str, inputs: dict[str, Any]) -> dict[str, Any]:
        """Return what one of the models reads of a batch, under the names that it knows; never the labels."""
        prefix = OLD if role == "old" and f"{OLD}input_ids" in inputs else ""
        named = {
            name.removeprefix(prefix): value
            for name, value in inputs.items()
            if name.startswith(prefix) and (prefix or not name.startswith(OLD))
        }
        return {name: named[name] for name in named if name in self.arguments[role] and name != "labels"}

    def ask(self, inputs: dict[str, Any], trained: Tensor) -> tuple[Tensor, Tensor]:
        """Return both teachers' logits of the trained instances or words, each in its own classes."""
        with self.autocast():
            old = self.old(self.inputs_of("old", inputs)).logits
            new = self.new(self.inputs_of("new", inputs)).logits
        if "old_positions" in inputs:
            places = inputs["old_positions"][..., None].expand(-1, -1, old.shape[-1])
            old = old.gather(1, places)
        old, new = old[trained], new[trained]
        # Every step, whatever the mask: a comparison with NaN is False, so some masks would turn away without a word.
        refuse_nan("old", old)
        refuse_nan("new", new)
        return old, new

    def recall(
        self, inputs: dict[str, Any], trained: Tensor, memory: EvaluationMemory | None
    ) -> tuple[Tensor, Tensor]:
        """Ask the teachers, once for each row that there is a memory of."""
        # Processes that ask a split model together do not remember the same rows.
        if memory is None or ROW not in inputs or self.new.shards is not None:
            return self.ask(inputs, trained)
        rows = inputs[ROW].tolist()
        known = memory.recall(rows, trained.device)
        if known is None:
            known = self.ask(inputs, trained)
            memory.remember(rows, tokens_of_rows(trained), *known)
        return known


def tokens_of_rows(trained: Tensor) -> list[int]:
    """Count the trained instances or words of each row."""
    counts: list[int] = trained.reshape(len(trained), -1).sum(1).tolist()
    return counts
