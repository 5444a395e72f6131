"""Cells are run: each one whole or not at all, in the order of worth, several processes side by side."""

import contextlib
import platform
import shutil
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from muscle_hf.errors import ConfigurationError, MuscleError
from muscle_hf.locks import held_file

from .cells import Cell, Key, bits, digest, flip_figures, packed, read, versions
from .kinds import KINDS, Kind
from .strategies import Outcome, Setting, Strategy, Update
from .tasks import Task


@dataclass(frozen=True)
class Run:
    """What is run where."""

    updates: Mapping[str, Update]
    tasks: Mapping[str, Task]
    bases: Path
    results: Path
    """Folder of the cells."""
    work: Path
    """Folder of the kept models, which are large, and of locks."""

    def keys(self, seeds: Sequence[int] | None, strategies: Iterable[str]) -> list[Key]:
        """Return all cells and those that they need in the order of worth: task by task, row by row, seed by seed."""
        named, keys = list(strategies), []
        for update, described in self.updates.items():
            kind = KINDS[described.kind]
            asked = {name for name in named if name in kind.strategies}
            while more := {need for name in asked for need in kind.strategies[name].needs} - asked:
                asked |= more
            of_update = range(described.seeds) if seeds is None else seeds
            rows = [(name, seed) for name in kind.strategies if name in asked for seed in of_update]
            tasks = [task for task in self.tasks if task in kind.tasks]
            keys += [Key(update, task, name, seed) for task in tasks for name, seed in rows]
        return keys

    @cached_property
    def failed(self) -> set[Key]:
        """Cells that have failed in this process."""
        return set()

    def _kind(self, key: Key) -> Kind:
        return KINDS[self.updates[key.update].kind]

    def _strategy(self, key: Key) -> Strategy:
        return self._kind(key).strategies[key.strategy]

    def _needs(self, key: Key) -> list[Key]:
        return [key._replace(strategy=name) for name in self._strategy(key).needs]

    def is_done(self, key: Key) -> bool:
        """Say whether a cell is there, and what others start from as well; refuse one made with other settings."""
        path, strategy = key.file(self.results), self._strategy(key)
        if not path.exists():
            return False
        settings = strategy.settings(self.updates[key.update], self.tasks[key.task])
        if not read(path).was_made_with(settings):
            raise SystemExit(f"{path} was made with other settings than {settings}. Remove it to run it again.")
        return not strategy.is_model or key.file(self.work, "").exists()

    def work_off(self, keys: Sequence[Key], until: float) -> bool:
        """Run what is missing and nobody else is at, while time is left; say whether nothing is missing now."""
        while time.monotonic() < until:
            left = [key for key in keys if not self.is_done(key) and self._can_be_made(key)]
            if not left:
                return not self.failed
            ready = [key for key in left if all(self.is_done(need) for need in self._needs(key))]
            if not any(self._run_if_free(key) for key in ready):
                time.sleep(1)  # another process is at what is missing
        return False

    def _can_be_made(self, key: Key) -> bool:
        return key not in self.failed and all(self._can_be_made(need) for need in self._needs(key))

    def _run_if_free(self, key: Key) -> bool:
        """Run a cell unless another process is at it or has just made it; say whether it was run, failed or not."""
        lock = key.file(self.work, ".cell")
        lock.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(held_file(lock, f"the cell {key}", "let it go on"))
            except ConfigurationError:  # another process is at it
                return False
            if self.is_done(key):
                return False
            try:
                if not self._has_bases(key):
                    return False
                print(f"{key}: started", flush=True)  # noqa: T201
                cell = self.cell(key)
                cell.write(self.results)
            except (MuscleError, RuntimeError, ValueError, OSError):
                self.failed.add(key)
                print(f"{key}: failed\n{traceback.format_exc()}", flush=True)  # noqa: T201
                return True
        rate = cell.rates.get("relative_negative_flip_rate")
        figures = f"{cell.accuracy:.2%} right, relative NFR {'undefined' if rate is None else f'{rate:.3f}'}"
        print(f"{key}: {figures}, {cell.seconds:.0f} s", flush=True)  # noqa: T201
        return True

    def _has_bases(self, key: Key) -> bool:
        """Make the new base where it is made here and needed; say whether no other process is at it."""
        update = self.updates[key.update]
        if update.made is None or self._strategy(key).options.get("base") == "old":
            return True
        folder = self._made / update.new_base
        folder.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(
                    held_file(folder.with_suffix(".base"), f"the base {update.new_base}", "let it go on")
                )
            except ConfigurationError:
                return False
            if not folder.exists():
                print(f"{update.new_base}: started", flush=True)  # noqa: T201
                part = folder.with_suffix(".part")
                shutil.rmtree(part, ignore_errors=True)
                update.made.make(self.bases / update.old_base, part, update.made.options)
                part.rename(folder)
        return True

    @property
    def _made(self) -> Path:
        return self.work / "bases"

    def cell(self, key: Key) -> Cell:
        """Make a cell, and keep its model where others start from it."""
        strategy, update, task = self._strategy(key), self.updates[key.update], self.tasks[key.task]
        # One name for each cell, which is locked: what a killed process has left goes here.
        folder = key.file(self.work, ".part")
        shutil.rmtree(folder, ignore_errors=True)
        begun = time.process_time()
        setting = Setting(
            update,
            task,
            key.seed,
            self.bases,
            lambda name: key._replace(strategy=name).file(self.work, ""),
            folder,
            self._made,
            self._kind(key).models.kept_answers,
        )
        outcome = strategy.make(setting, strategy.options)
        seconds = time.process_time() - begun
        shutil.rmtree(folder, ignore_errors=True)
        if strategy.is_model:
            self._keep(key, outcome)
        return self._cell(key, strategy, setting, outcome, seconds)

    def _keep(self, key: Key, outcome: Outcome) -> None:
        """Keep a model; one made again for a cell that is there has to answer as before."""
        path = key.file(self.results)
        if path.exists() and read(path).answers != digest(outcome.answers.names):
            raise ValueError(
                f"The model of {key} answers otherwise than in {path}, made on another machine or with other "
                "versions, so no cell can be added to those of this seed. Take other seeds, with --seeds."
            )
        kept = {"test": outcome.answers, "validation": outcome.validation or outcome.answers}
        self._kind(key).models.save(key.file(self.work, ""), outcome.model, outcome.tokenizer, kept)

    def _cell(self, key: Key, strategy: Strategy, setting: Setting, outcome: Outcome, seconds: float) -> Cell:
        task, names = setting.task, outcome.answers.names
        references = task.references
        counts: dict[str, int] = {}
        rates: dict[str, float | None] = {}
        if key.strategy != strategy.against:
            counts, rates = flip_figures(setting.answers(strategy.against).names, names, references)
        right = [name == gold for name, gold in zip(names, references, strict=True)]
        accuracy = sum(right) / len(right)
        validation = outcome.validation
        return Cell(
            *key,
            n=len(names),
            right=bits(right),
            answers=digest(names),
            accuracy=accuracy,
            counts=counts,
            rates=rates,
            validation_accuracy=None if validation is None else validation.accuracy(task.validation),
            labels=outcome.labels,
            texts=outcome.texts,
            steps=outcome.steps,
            seconds=round(seconds, 1),
            needs={name: digest(setting.answers(name).names) for name in strategy.needs},
            settings=strategy.settings(setting.update, task),
            versions=versions(),
            machine=_machine(),
            references=packed(references) if rates.get("balanced_negative_flip_rate") is not None else "",
            gradients=dict(outcome.gradients),
        )


def _machine() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} thread(s)"
