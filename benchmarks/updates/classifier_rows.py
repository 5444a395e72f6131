"""The rows of classifiers: models that others start from, references, strategies, and both models at inference."""

import random
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from datasets import Dataset
from transformers import PrinterCallback, set_seed

from muscle_hf.classifier.config import CompatibilityClassifierConfig
from muscle_hf.classifier.trainer import CompatibilityClassifierTrainer
from muscle_hf.teachers.live import FrozenModelTeacher

from . import combining, models
from .combining import Validation
from .models import Answers
from .strategies import BY_PRODUCT, FOCAL, HALF, TEXTS, Outcome, Setting, Strategy, Update
from .tasks import Row, Task, made_texts, texts_of

DICE = {"dice_weight": 0.5}

UPDATES = {
    "minilm": Update(
        "paraphrase-MiniLM-L3 → all-MiniLM-L6, fine-tuned as a whole",
        "minilm-l3",
        "minilm-l6",
        {"num_train_epochs": 12, "learning_rate": 3e-4, "warmup_steps": 50, "patience": 3},
        {"max_steps": 600, "learning_rate": 1.5e-4, "warmup_steps": 20},
    ),
}


class ClassifierRow(Strategy):
    """A row of classifiers."""

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
    return Outcome(models.ask(model, tokenizer, texts_of(setting.task.test)))


def refresh(setting: Setting, _: Mapping[str, Any]) -> Outcome:
    """Train a fresh new model on the old model's hard answers to all texts, without any label (UpgradeBench)."""
    task = setting.task
    old, tokenizer = models.load(setting.kept("old"))

    def relabelled(rows: Sequence[Row]) -> list[Row]:
        names = models.ask(old, tokenizer, texts_of(rows)).names
        return [{"text": row["text"], "intent": name} for row, name in zip(rows, names, strict=True)]

    rows = relabelled([*task.labelled, *task.unlabelled])
    seed = setting.seed + 3000
    outcome = _until_it_stops(setting, setting.update.new_base, rows, relabelled(task.validation), seed, 0)
    outcome.texts = len(rows) + len(task.validation)
    return outcome


def control(setting: Setting, options: Mapping[str, Any]) -> Outcome:
    """Train the new model on with plain cross-entropy, for as many steps as every strategy.

    With `balanced`, on rows that are drawn so that each class is as likely.
    """
    set_seed(setting.seed)
    model, tokenizer = models.load(setting.kept("plain"))
    training = models.arguments(setting.folder, setting.seed, setting.update.second_training)
    rows = balanced_rows(setting) if options.get("balanced") else setting.task.labelled
    steps = models.fine_tune(model, tokenizer, rows, training)
    return _of_student(setting, model, tokenizer, steps)


def compatible(setting: Setting, options: Mapping[str, Any]) -> Outcome:
    """Train the new model on with the trainer of this package; `texts` says that those without labels take part.

    With `average`, another new model, the mean of both one's logits teaches wherever the new model does. So many
    `made_texts` are made of those that are there. With `balanced`, labelled rows are drawn so that each class is as
    likely.
    """
    set_seed(setting.seed)
    chosen = dict(options)
    has_texts, averaged, made = chosen.pop("texts", False), chosen.pop("average", None), chosen.pop("made_texts", 0)
    rows = balanced_rows(setting) if chosen.pop("balanced", False) else setting.task.labelled
    training = models.arguments(setting.folder, setting.seed, setting.update.second_training)
    more: dict[str, Any] = {}
    if has_texts:
        texts = texts_of(setting.task.unlabelled)
        texts += made_texts(texts, made) if made else []
        more["unlabelled_dataset"] = Dataset.from_dict({"text": texts})
    labelled, validation = (
        Dataset.from_list([{name: row[name] for name in ("text", "intent")} for row in rows])
        for rows in (rows, setting.task.validation)
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
    # Nothing is logged before the end, so this is of all steps.
    last = trainer.state.log_history[-1]
    outcome.gradients = {name: last[name] for name in ("gradient_cosine", "share_of_conflicts") if name in last}
    return outcome


def balanced_rows(setting: Setting) -> list[Row]:
    """Draw as many rows as all steps take, with replacement: a class at random, then a row of it."""
    of_class: dict[str, list[Row]] = {}
    for row in setting.task.labelled:
        of_class.setdefault(row["intent"], []).append(row)
    classes = [of_class[name] for name in sorted(of_class)]
    number = setting.update.second_training["max_steps"] * models.COMMON["per_device_train_batch_size"]
    chance = random.Random(setting.seed)  # noqa: S311 - no secret
    return [chance.choice(chance.choice(classes)) for _ in range(number)]


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
    combine = combining.WAYS[options["both"]]
    held = tuple(setting.answers(name, "validation") for name in ("old", "plain"))
    known = Validation(*held, [row["intent"] for row in setting.task.validation])

    def new(questions: str) -> Answers:
        first = setting.answers("plain", questions)
        if "average" not in options:
            return first
        return Answers((first.logits + setting.answers(options["average"], questions).logits) / 2, first.classes)

    test, validation = (
        combine(setting.answers("old", questions), new(questions), known) for questions in ("test", "validation")
    )
    return Outcome(test, labels=setting.task.labels, validation=validation)


def _until_it_stops(
    setting: Setting, base: str, rows: Sequence[Row], validation: Sequence[Row], seed: int, labels: int
) -> Outcome:
    set_seed(seed)
    model, tokenizer = models.load(setting.bases / base, sorted({row["intent"] for row in rows}))
    options = dict(setting.update.task_training)
    patience = options.pop("patience")
    training = models.arguments(setting.folder, seed, options)
    steps = models.fine_tune(model, tokenizer, rows, training, validation, patience)
    test, held = (
        models.ask(model, tokenizer, texts_of(part)) for part in (setting.task.test, setting.task.validation)
    )
    return Outcome(test, steps, labels, 0, held, model, tokenizer)


def _of_student(setting: Setting, model: Any, tokenizer: Any, steps: int) -> Outcome:
    test, validation = (
        models.ask(model, tokenizer, texts_of(part)) for part in (setting.task.test, setting.task.validation)
    )
    return Outcome(test, int(steps), setting.task.labels, validation=validation)


def _model(title: str, base: str, seed_plus: int, **facts: Any) -> Strategy:
    return ClassifierRow(
        title, task_model, {"base": base, "seed_plus": seed_plus}, **{"needs": (), "is_model": True} | facts
    )


# In the order of worth: what costs least and tells most comes first.
STRATEGIES: dict[str, Strategy] = {
    "old": _model("old model", "old", 1000),
    "plain": _model("plain update: the new model", "new", 0, needs=("old",), is_reference=True),
    "bound": ClassifierRow("both models at inference, the surer answers", at_inference, {"both": "surer"}),
    "bound-product": ClassifierRow("both at inference, product of probabilities", at_inference, {"both": "product"}),
    "bound-mean": ClassifierRow("both at inference, mean of probabilities", at_inference, {"both": "mean"}),
    "bound-latent": ClassifierRow(
        "both at inference, likeliest truth behind both answers", at_inference, {"both": "latent truth"}
    ),
    "bare": ClassifierRow("new base, head untrained", bare, needs=("old",)),
    "texts-new": ClassifierRow(
        "fair control: texts, new model's answers",
        compatible,
        TEXTS | {"unlabelled_teacher": "new"},
        is_reference=True,
    ),
    "texts-product": ClassifierRow(
        "texts, product of both models' probabilities", compatible, TEXTS | {"unlabelled_teacher": "product"}
    ),
    "texts-old": ClassifierRow("texts, old model's answers", compatible, TEXTS | {"unlabelled_teacher": "old"}),
    "refresh": ClassifierRow(
        "refresh: a fresh model, the old one's hard answers", refresh, needs=("old",), is_reference=True
    ),
    "control": ClassifierRow("control: as many steps of cross-entropy", control, is_reference=True),
    "floor": _model(
        "seed floor: another seed, against the plain update",
        "new",
        2000,
        needs=("old", "plain"),
        against="plain",
    ),
    "bound-average": ClassifierRow(
        "old model and two new ones at inference, product",
        at_inference,
        {"both": "product", "average": "floor"},
        needs=("old", "plain", "floor"),
    ),
    "average-new": ClassifierRow(
        "texts, mean of two new models: control of the next",
        compatible,
        TEXTS | {"unlabelled_teacher": "new", "average": "floor"},
        needs=("old", "plain", "floor"),
    ),
    "average-product": ClassifierRow(
        "texts, product of old model and mean of two new ones",
        compatible,
        TEXTS | {"unlabelled_teacher": "product", "average": "floor"},
        needs=("old", "plain", "floor"),
    ),
    "made-new": ClassifierRow(
        "texts and made-up ones, new model's answers: control of the next",
        compatible,
        TEXTS | {"unlabelled_teacher": "new", "made_texts": 8000},
    ),
    "made-product": ClassifierRow(
        "texts and made-up ones, product of both models",
        compatible,
        TEXTS | {"unlabelled_teacher": "product", "made_texts": 8000},
    ),
    "made-average": ClassifierRow(
        "texts and made-up ones, product of old model and mean of two new ones",
        compatible,
        TEXTS | {"unlabelled_teacher": "product", "average": "floor", "made_texts": 8000},
        needs=("old", "plain", "floor"),
    ),
    "eq1": ClassifierRow("Eq. 1 (MUSCLE)", compatible),
    "eq1-ce": ClassifierRow("Eq. 1 + cross-entropy .5", compatible, HALF),
    "focal-ce": ClassifierRow("focal distillation (PCT) + cross-entropy .5", compatible, FOCAL | HALF),
    "focal-texts": ClassifierRow(
        "focal distillation + cross-entropy .5, texts by the product", compatible, FOCAL | HALF | BY_PRODUCT
    ),
    "focal-texts-25": ClassifierRow(
        "focal distillation + cross-entropy .25, texts by the product",
        compatible,
        FOCAL | BY_PRODUCT | {"cross_entropy_weight": 0.25},
    ),
    "focal-texts-new": ClassifierRow(
        "focal distillation + cross-entropy .5, texts by the new model: control of the last",
        compatible,
        FOCAL | HALF | BY_PRODUCT | {"unlabelled_teacher": "new"},
    ),
    "focal-average": ClassifierRow(
        "focal distillation + cross-entropy .5, texts by the product of old model and mean of two new ones",
        compatible,
        FOCAL | HALF | BY_PRODUCT | {"average": "floor"},
        needs=("old", "plain", "floor"),
    ),
    "focal-ce-25": ClassifierRow(
        "focal distillation + cross-entropy .25", compatible, FOCAL | {"cross_entropy_weight": 0.25}
    ),
    "focal-ce-75": ClassifierRow(
        "focal distillation + cross-entropy .75", compatible, FOCAL | {"cross_entropy_weight": 0.75}
    ),
    "accuracy-first": ClassifierRow(
        "focal distillation + cross-entropy .5, the task's gradient first",
        compatible,
        FOCAL | HALF | {"gradient_conflict": "accuracy_first"},
    ),
    "project-both": ClassifierRow(
        "focal distillation + cross-entropy .5, either gradient projected (PCGrad)",
        compatible,
        FOCAL | HALF | {"gradient_conflict": "project_both"},
    ),
    "perpendicular": ClassifierRow(
        "new model + what is perpendicular in the old one, cross-entropy .5",
        compatible,
        {"mask": "none", "teacher": "perpendicular"} | HALF,
    ),
    "ensemble-ce": ClassifierRow(
        "mean of both + cross-entropy .5", compatible, {"mask": "none", "teacher": "ensemble"} | HALF
    ),
    "product-ce": ClassifierRow(
        "product of both + cross-entropy .5", compatible, {"mask": "none", "teacher": "product"} | HALF
    ),
    "texts-surer": ClassifierRow(
        "texts, surer model's answers", compatible, TEXTS | {"unlabelled_teacher": "more_confident"}
    ),
    "old-ce": ClassifierRow("old model everywhere + cross-entropy .5", compatible, {"mask": "none"} | HALF),
    "new": ClassifierRow(
        "new model everywhere (a second control)", compatible, {"mask": "none", "teacher": "new"}, is_reference=True
    ),
    "old-right-ce": ClassifierRow("old right + cross-entropy .5", compatible, {"mask": "old_right"} | HALF),
    "old-better-ce": ClassifierRow("old better (Xie) + cross-entropy .5", compatible, {"mask": "old_better"} | HALF),
    "likelihood-ce": ClassifierRow(
        "token likelihood + cross-entropy .5", compatible, {"mask": "token_likelihood"} | HALF
    ),
    "surer-ce": ClassifierRow(
        "surer of both + cross-entropy .5", compatible, {"mask": "none", "teacher": "more_confident"} | HALF
    ),
    "balanced": ClassifierRow(
        "control: class-balanced sampling, cross-entropy", control, {"balanced": True}, is_reference=True
    ),
    "balanced-focal": ClassifierRow(
        "focal distillation + cross-entropy .5, class-balanced sampling", compatible, FOCAL | HALF | {"balanced": True}
    ),
    "dice-example": ClassifierRow(
        "focal distillation + (cross-entropy and dice by example) .5", compatible, FOCAL | HALF | DICE
    ),
    "dice-batch": ClassifierRow(
        "focal distillation + (cross-entropy and dice by batch) .5",
        compatible,
        FOCAL | HALF | DICE | {"dice_level": "batch"},
    ),
}
