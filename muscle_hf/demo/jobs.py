"""The jobs of a demo: what each leaves on disk, what it waits for, how long it takes, and what people are told."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ..training.checkpoints.kept import steps_done
from ..update.stage import Stage
from ..version import __version__
from .contenders import NEW, OLD, Cast, Contender, DemoSettings

TITLES = (
    "Plain update: the team trains its task adapter again, on the new base v2.",
    "The old model in production (base v1) answers prompts without labels, and the test set.",
    "Compatibility: from the plain update on, learning what the old model answers.",
    "Controls: from the plain update on for as many steps, without the old model.",
    "The test set is asked: which of the old model's right answers are lost?",
)
"""The five stages of the story, a sentence each."""

FACTS = "training.json"
"""How many steps a training took, beside its adapter."""

# Seconds of one quiet core: an answer, a step with cross-entropy, one with the compatibility loss, and the libraries.
_ANSWER, _STEP, _COMPATIBILITY_STEP, _START = 0.0018, 0.09, 0.19, 2.0
BATCH = 32
"""Rows a step."""


@dataclass(frozen=True)
class Job:
    """A step of the demo that one process does."""

    contender: Contender
    split: str | None  # what it is asked, "prompts", "validation" or "test"; None where it is trained
    stage: int  # which of `TITLES` it belongs to
    after: tuple[str, ...]  # names of the jobs whose results it needs
    seconds: float  # what it takes of one quiet core, about
    steps: tuple[int, int] | None = None  # that an earlier call did, and of how many; None where it starts anew

    @property
    def share(self) -> float:
        """How much of it an earlier call did, from 0 to 1."""
        return self.steps[0] / self.steps[1] if self.steps else 0.0

    @property
    def name(self) -> str:
        """Its name, which is that of its mark too."""
        return self.contender.folder if self.split is None else f"{self.split}-{self.contender.folder}"

    @property
    def title(self) -> str:
        """What is done, in a few words."""
        asked = {None: "training", "prompts": "answers to prompts", "test": "test set", "validation": "validation set"}
        return f"{self.contender.name}, {asked[self.split]}"

    def going_on(self, output_dir: Path) -> "Job":
        """Return the job with the steps that an interrupted training has left."""
        return self if self.split is not None else replace(self, steps=steps_done(output_dir / self.contender.folder))

    def on_disk(self, output_dir: Path, settings: DemoSettings) -> Stage:
        """Return what it leaves, and the mark that says whether it is finished."""
        outputs = [f"{self.contender.folder}/{name}" for name in ("adapter_model.safetensors", FACTS)]
        if self.split is not None:
            outputs = [str(answers_of(Path(), self.contender, self.split))]
        decided_by = asdict(settings) | {"version": __version__}
        return Stage(self.name, self.title, output_dir, tuple(outputs), decided_by)


def answers_of(output_dir: Path, contender: Contender, split: str) -> Path:
    """Return the file of a model's answers."""
    return output_dir / "predictions" / f"{split}-{contender.folder}.jsonl"


def jobs_of(cast: Cast, settings: DemoSettings) -> list[Job]:
    """Return the jobs of a demo, each after those that it waits for."""
    return list(_jobs(cast, settings))


def _jobs(cast: Cast, settings: DemoSettings) -> Iterator[Job]:
    labelled, prompts = settings.training_rows, settings.unlabelled_ratio * settings.training_rows
    epoch = labelled / BATCH
    yield Job(NEW, None, 0, (), settings.task_epochs * epoch * _STEP + _START)
    for split, count in (("prompts", prompts), ("test", settings.test_rows)):
        yield Job(OLD, split, 1, (), count * _ANSWER + _START)
    if any(contender.learns_from == NEW for contender in cast.updates):
        yield Job(NEW, "prompts", 3, (NEW.folder,), prompts * _ANSWER + _START)
    for contender in cast.updates:
        is_candidate = contender in cast.candidates
        after = [NEW.folder]
        # The old model's answers also say how many steps there are: those that did not end are left out.
        after += [f"prompts-{OLD.folder}"] if contender.longer else []
        after += [f"prompts-{NEW.folder}"] if contender.learns_from == NEW else []
        steps = (labelled + prompts) / BATCH if contender.longer else settings.update_epochs * epoch
        seconds = steps * (_COMPATIBILITY_STEP if is_candidate else _STEP) + _START
        yield Job(contender, None, 2 if is_candidate else 3, tuple(after), seconds)
    for contender in (NEW, *cast.updates):
        yield Job(contender, "test", 4, (contender.folder,), settings.test_rows * _ANSWER + _START)
    if len(cast.candidates) > 1:  # one of them is chosen
        for contender in (OLD, *cast.candidates):
            # The old model waits for nothing, and is asked while the new adapter is trained.
            stage, waits_for = (1, ()) if contender == OLD else (4, (contender.folder,))
            yield Job(contender, "validation", stage, waits_for, settings.validation_rows * _ANSWER + _START)
