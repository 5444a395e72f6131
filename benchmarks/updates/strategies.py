"""What updates and rows are, of whatever kind of model."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from .tasks import Row, Task


@dataclass(frozen=True)
class MadeBase:
    """A new base that is made from the old one, once for all seeds."""

    make: Callable[[Path, Path, Mapping[str, Any]], None]
    """Writes it into a folder, from the folder of the old base and these options."""
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Update:
    """Two bases, and how everything is trained on them."""

    title: str
    old_base: str
    new_base: str
    task_training: Mapping[str, Any]
    """Of task models: trained until validation stops improving, at most these epochs."""
    second_training: Mapping[str, Any]
    """Of everything that starts from the new task model: the same steps for all."""
    kind: str = "classifier"
    """Which rows and tasks there are for it: see `kinds`."""
    made: MadeBase | None = None
    """How the new base is made; None: it lies among the bases."""
    seeds: int = 5
    """How many there are, unless others are asked for."""


class AnyAnswers(Protocol):
    """What a model says to questions; more is known of it by kind."""

    @property
    def names(self) -> list[str]:
        """Its answer to each question."""

    def accuracy(self, rows: Sequence[Row]) -> float:
        """Return the share of the rows that it is right on."""


@dataclass(frozen=True)
class Setting:
    """What a row is made with."""

    update: Update
    task: Task
    seed: int
    bases: Path
    """Folder of the bases."""
    kept: Callable[[str], Path]
    """Where the model of a row, with this seed, is kept."""
    folder: Path
    """For files that are not needed afterwards."""
    made: Path
    """Folder of the bases that are made here."""
    kept_answers: Callable[[Path, str], Any]
    """Reads the answers of a kept model, by kind."""

    def answers(self, name: str, questions: str = "test") -> Any:
        """Return what a kept model answers to "test" or "validation"."""
        return self.kept_answers(self.kept(name), questions)

    def base(self, name: str) -> Path:
        """Return the folder of a base."""
        is_made = self.update.made is not None and name == self.update.new_base
        return (self.made if is_made else self.bases) / name


@dataclass
class Outcome:
    """What a row came to; the model too where others start from it."""

    answers: AnyAnswers
    steps: int = 0
    labels: int = 0
    texts: int = 0
    validation: AnyAnswers | None = None
    model: Any = None
    tokenizer: Any = None
    gradients: Mapping[str, float] = field(default_factory=dict)
    """How the gradients of its two goals stand to each other, where it looked at them."""


@dataclass(frozen=True)
class Strategy:
    """A row."""

    title: str
    make: Callable[[Setting, Mapping[str, Any]], Outcome]
    options: Mapping[str, Any] = field(default_factory=dict)
    """What makes it another row than those made in the same way."""
    needs: tuple[str, ...] = ("old", "plain")
    is_reference: bool = False
    """Whether the other rows are held against it."""
    is_model: bool = False
    """Whether it is kept, since others start from it."""
    against: str = "old"
    """The row whose right answers it can lose."""

    def settings(self, update: Update, task: Task) -> dict[str, Any]:
        """Return all that it was made with, as its cell says it; other settings are another row."""
        raise NotImplementedError


HALF = {"cross_entropy_weight": 0.5}
FOCAL = {"mask": "none", "focal_beta": 5.0}
BY_PRODUCT = {"texts": True, "unlabelled_teacher": "product"}
TEXTS = {"mask": "none", "teacher": "new", "temperature": 1.0, "texts": True} | HALF
"""Labelled rows hold on to the new model and to their labels; only who answers the texts differs between the rows."""


def in_bfloat16() -> bool:
    """Whether this machine computes bfloat16 itself: elsewhere a training takes five times as long in it."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    known = torch.cpu.get_capabilities()
    return any(known.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def quiet_arguments(folder: Path, seed: int) -> dict[str, Any]:
    """Return training arguments that write and show nothing, of any trainer."""
    return {
        "output_dir": str(folder),
        "seed": seed,
        "use_cpu": not torch.cuda.is_available(),
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }
