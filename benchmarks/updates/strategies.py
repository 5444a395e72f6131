"""The rows of the table: models that others start from, references, strategies, and both models at inference."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np
from datasets import Dataset
from transformers import PrinterCallback, set_seed

from muscle_hf.classifier.config import CompatibilityClassifierConfig
from muscle_hf.classifier.trainer import CompatibilityClassifierTrainer
from muscle_hf.teachers.live import FrozenModelTeacher

from . import models
from .models import Answers
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


UPDATES = {
    "minilm": Update(
        "paraphrase-MiniLM-L3 → all-MiniLM-L6, fine-tuned as a whole",
        "minilm-l3",
        "minilm-l6",
        {"num_train_epochs": 12, "learning_rate": 3e-4, "warmup_steps": 50, "patience": 3},
        {"max_steps": 600, "learning_rate": 1.5e-4, "warmup_steps": 20},
    ),
}


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
        made_of = {"rows": task.digest, **self.options}
        if self.make in (bare, at_inference):
            return made_of
        is_task_model = self.make in (task_model, refresh)
        training = update.task_training if is_task_model else update.second_training
        return {**models.COMMON, **training, **made_of}


def task_model(setting: Setting, options: Mapping[str, Any]) -> Outcome:
    """Train a base on the task until validation stops improving."""
    is_old, task = options["base"] == "old", setting.task
    rows = task.old_labelled if is_old else task.labelled
    validation = task.old_validation if is_old else task.validation
    base = setting.update.old_base if is_old else setting.update.new_base
    seed = setting.seed + options["seed_plus"]
    return _until_it_stops(setting, base, rows, validation, seed, len(rows) + len(validation))


def bare(setting: Setting, _: Mapping[str, Any]) -> Outcome:
    """Ask the new base with a head that nobody has trained."""
    set_seed(setting.seed)
    classes = sorted({row["intent"] for row in setting.task.labelled})
    model, tokenizer = models.load(setting.bases / setting.update.new_base, classes)
    return Outcome(models.ask(model, tokenizer, _texts(setting.task.test)))


def refresh(setting: Setting, _: Mapping[str, Any]) -> Outcome:
    """Train a fresh new model on the old model's hard answers to all texts, without any label (UpgradeBench)."""
    task = setting.task
    old, tokenizer = models.load(setting.kept("old"))

    def relabelled(rows: Sequence[Row]) -> list[Row]:
        names = models.ask(old, tokenizer, _texts(rows)).names
        return [{"text": row["text"], "intent": name} for row, name in zip(rows, names, strict=True)]

    rows = relabelled([*task.labelled, *task.unlabelled])
    seed = setting.seed + 3000
    outcome = _until_it_stops(setting, setting.update.new_base, rows, relabelled(task.validation), seed, 0)
    outcome.texts = len(rows) + len(task.validation)
    return outcome


def control(setting: Setting, _: Mapping[str, Any]) -> Outcome:
    """Train the new model on with plain cross-entropy, for as many steps as every strategy."""
    set_seed(setting.seed)
    model, tokenizer = models.load(setting.kept("plain"))
    training = models.arguments(setting.folder, setting.seed, setting.update.second_training)
    steps = models.fine_tune(model, tokenizer, setting.task.labelled, training)
    return _of_student(setting, model, tokenizer, steps)


def compatible(setting: Setting, options: Mapping[str, Any]) -> Outcome:
    """Train the new model on with the trainer of this package; `texts` says that those without labels take part.

    With `average`, another new model, the mean of both one's logits teaches wherever the new model does.
    """
    set_seed(setting.seed)
    chosen = dict(options)
    has_texts, averaged = chosen.pop("texts", False), chosen.pop("average", None)
    training = models.arguments(setting.folder, setting.seed, setting.update.second_training)
    more: dict[str, Any] = {}
    if has_texts:
        more["unlabelled_dataset"] = Dataset.from_list([{"text": row["text"]} for row in setting.task.unlabelled])
    labelled, validation = (
        Dataset.from_list([{name: row[name] for name in ("text", "intent")} for row in rows])
        for rows in (setting.task.labelled, setting.task.validation)
    )
    trainer = CompatibilityClassifierTrainer(
        model=str(setting.kept("plain")),
        old_model=str(setting.kept("old")),
        args=CompatibilityClassifierConfig(
            **training, **chosen, teacher_cache="memory", text_column="text", label_column="intent"
        ),
        train_dataset=labelled,
        eval_dataset=validation,  # asked only where temperatures are fitted
        **more,
    )
    trainer.remove_callback(PrinterCallback)
    if averaged is not None:
        trainer.teachers.new = _Average(trainer.teachers.new, models.load(setting.kept(averaged))[0])
    trainer.train()
    outcome = _of_student(setting, trainer.model, trainer.processing_class, trainer.state.global_step)
    outcome.texts = len(setting.task.unlabelled) if has_texts else 0
    return outcome


class _Average:
    """Two new models as one teacher, by the mean of their logits."""

    shards = None

    def __init__(self, teacher: Any, other: Any) -> None:
        self.teachers = teacher, FrozenModelTeacher(other)

    def __call__(self, inputs: dict[str, Any]) -> Any:
        one, other = (teacher(inputs).logits for teacher in self.teachers)
        return SimpleNamespace(logits=(one + other) / 2)


def at_inference(setting: Setting, options: Mapping[str, Any]) -> Outcome:
    """Ask both models each question: the bound, which nobody wants to pay for."""
    combine = {"surer": surer, "product": product}[options["both"]]

    def new(questions: str) -> Answers:
        first = setting.answers("plain", questions)
        if "average" not in options:
            return first
        return Answers((first.logits + setting.answers(options["average"], questions).logits) / 2, first.classes)

    test, validation = (
        combine(setting.answers("old", questions), new(questions)) for questions in ("test", "validation")
    )
    return Outcome(test, labels=_labels(setting.task), validation=validation)


def in_classes(answers: Answers, classes: Sequence[str]) -> Answers:
    """Return logits in the order of other classes, minus infinity where a model does not know one."""
    logits = np.full((len(answers.logits), len(classes)), -np.inf, dtype=np.float32)
    known = [classes.index(name) for name in answers.classes]
    logits[:, known] = answers.logits
    return Answers(logits, list(classes))


def surer(old: Answers, new: Answers) -> Answers:
    """Let the model answer whose likeliest class is likelier; the new one where they are as sure."""
    old = in_classes(old, new.classes)
    is_old = old.probabilities.max(-1) > new.probabilities.max(-1)
    return Answers(np.where(is_old[:, None], old.logits, new.logits), new.classes)


def product(old: Answers, new: Answers) -> Answers:
    """Multiply both models' probabilities; a class that the old model does not know has the new model's alone."""
    theirs, ours = (np.log(each.probabilities + 1e-12) for each in (in_classes(old, new.classes), new))
    knows = np.isin(new.classes, old.classes)
    return Answers(np.where(knows, theirs + ours, 2 * ours).astype(np.float32), new.classes)


def _until_it_stops(
    setting: Setting, base: str, rows: Sequence[Row], validation: Sequence[Row], seed: int, labels: int
) -> Outcome:
    set_seed(seed)
    model, tokenizer = models.load(setting.bases / base, sorted({row["intent"] for row in rows}))
    options = dict(setting.update.task_training)
    patience = options.pop("patience")
    training = models.arguments(setting.folder, seed, options)
    steps = models.fine_tune(model, tokenizer, rows, training, validation, patience)
    test, held = (models.ask(model, tokenizer, _texts(part)) for part in (setting.task.test, setting.task.validation))
    return Outcome(test, steps, labels, 0, held, model, tokenizer)


def _of_student(setting: Setting, model: Any, tokenizer: Any, steps: int) -> Outcome:
    test, validation = (
        models.ask(model, tokenizer, _texts(part)) for part in (setting.task.test, setting.task.validation)
    )
    return Outcome(test, int(steps), _labels(setting.task), validation=validation)


def _labels(task: Task) -> int:
    return len(task.labelled) + len(task.validation)


def _texts(rows: Sequence[Row]) -> list[str]:
    return [row["text"] for row in rows]


def _model(title: str, base: str, seed_plus: int, **facts: Any) -> Strategy:
    return Strategy(
        title, task_model, {"base": base, "seed_plus": seed_plus}, **{"needs": (), "is_model": True} | facts
    )


_HALF = {"cross_entropy_weight": 0.5}
# Labelled rows hold on to the new model and to their labels; only who answers the texts differs between the rows.
_TEXTS = {"mask": "none", "teacher": "new", "temperature": 1.0, "texts": True} | _HALF
# In the order of worth: what costs least and tells most comes first.
STRATEGIES: dict[str, Strategy] = {
    "old": _model("old model", "old", 1000),
    "plain": _model("plain update: the new model", "new", 0, needs=("old",), is_reference=True),
    "bound": Strategy("both models at inference, the surer answers", at_inference, {"both": "surer"}),
    "bound-product": Strategy("both at inference, product of probabilities", at_inference, {"both": "product"}),
    "bare": Strategy("new base, head untrained", bare, needs=("old",)),
    "texts-new": Strategy(
        "fair control: texts, new model's answers",
        compatible,
        _TEXTS | {"unlabelled_teacher": "new"},
        is_reference=True,
    ),
    "texts-product": Strategy(
        "texts, product of both models' probabilities", compatible, _TEXTS | {"unlabelled_teacher": "product"}
    ),
    "texts-old": Strategy("texts, old model's answers", compatible, _TEXTS | {"unlabelled_teacher": "old"}),
    "refresh": Strategy(
        "refresh: a fresh model, the old one's hard answers", refresh, needs=("old",), is_reference=True
    ),
    "control": Strategy("control: as many steps of cross-entropy", control, is_reference=True),
    "floor": _model(
        "seed floor: another seed, against the plain update",
        "new",
        2000,
        needs=("old", "plain"),
        against="plain",
    ),
    "bound-average": Strategy(
        "old model and two new ones at inference, product",
        at_inference,
        {"both": "product", "average": "floor"},
        needs=("old", "plain", "floor"),
    ),
    "average-new": Strategy(
        "texts, mean of two new models: control of the next",
        compatible,
        _TEXTS | {"unlabelled_teacher": "new", "average": "floor"},
        needs=("old", "plain", "floor"),
    ),
    "average-product": Strategy(
        "texts, product of old model and mean of two new ones",
        compatible,
        _TEXTS | {"unlabelled_teacher": "product", "average": "floor"},
        needs=("old", "plain", "floor"),
    ),
    "eq1": Strategy("Eq. 1 (MUSCLE)", compatible),
    "eq1-ce": Strategy("Eq. 1 + cross-entropy .5", compatible, _HALF),
    "focal-ce": Strategy(
        "focal distillation (PCT) + cross-entropy .5", compatible, {"mask": "none", "focal_beta": 5.0} | _HALF
    ),
    "ensemble-ce": Strategy(
        "mean of both + cross-entropy .5", compatible, {"mask": "none", "teacher": "ensemble"} | _HALF
    ),
    "product-ce": Strategy(
        "product of both + cross-entropy .5", compatible, {"mask": "none", "teacher": "product"} | _HALF
    ),
    "texts-surer": Strategy(
        "texts, surer model's answers", compatible, _TEXTS | {"unlabelled_teacher": "more_confident"}
    ),
    "old-ce": Strategy("old model everywhere + cross-entropy .5", compatible, {"mask": "none"} | _HALF),
    "new": Strategy(
        "new model everywhere (a second control)", compatible, {"mask": "none", "teacher": "new"}, is_reference=True
    ),
    "old-right-ce": Strategy("old right + cross-entropy .5", compatible, {"mask": "old_right"} | _HALF),
    "old-better-ce": Strategy("old better (Xie) + cross-entropy .5", compatible, {"mask": "old_better"} | _HALF),
    "likelihood-ce": Strategy("token likelihood + cross-entropy .5", compatible, {"mask": "token_likelihood"} | _HALF),
    "surer-ce": Strategy(
        "surer of both + cross-entropy .5", compatible, {"mask": "none", "teacher": "more_confident"} | _HALF
    ),
}
