"""The rows of language models, by the names of those of classifiers, and their updates."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from peft.tuners.lora import LoraLayer
from transformers import PrinterCallback, set_seed

from muscle_hf.training.config import CompatibilityConfig
from muscle_hf.training.trainer import CompatibilityTrainer

from . import language
from .language import Texts
from .language_bases import rounded, trained_on
from .strategies import BY_PRODUCT, FOCAL, HALF, TEXTS, MadeBase, Outcome, Setting, Strategy, Update
from .tasks import Row, Task, texts_of

_TASK = {"max_steps": 300, "eval_steps": 60, "patience": 2, "learning_rate": 1e-3, "warmup_steps": 20}
_SECOND = {"max_steps": 200, "learning_rate": 5e-4, "warmup_steps": 20}
UPDATES = {
    "smollm2-more": Update(
        "SmolLM2-135M-Instruct → trained on with sentences of Wikipedia, LoRA",
        "smollm2",
        "smollm2-more",
        _TASK,
        _SECOND,
        "language",
        MadeBase(
            trained_on,
            {
                "sentences_together": 16,
                "per_device_train_batch_size": 4,
                "max_steps": 160,
                "learning_rate": 1e-4,
                "warmup_steps": 10,
            },
        ),
        seeds=3,
    ),
    "smollm2-4bit": Update(
        "SmolLM2-135M-Instruct → weights rounded to 4 bits, LoRA",
        "smollm2",
        "smollm2-4bit",
        _TASK,
        _SECOND,
        "language",
        MadeBase(rounded, {"bits": 4, "group": 64}),
        seeds=2,
    ),
    "smollm2-gemma3": Update(
        "SmolLM2-135M-Instruct → Gemma 3 270M, LoRA",
        "smollm2",
        "gemma3",
        {**_TASK, "max_steps": 240},  # a step takes half as long again
        {**_SECOND, "max_steps": 120},
        "two-tokenizers",
        seeds=2,
    ),
}


class LanguageStrategy(Strategy):
    """A row of language models."""

    def settings(self, update: Update, task: Task) -> dict[str, Any]:
        """Return all that it was made with, as its cell says it."""
        made_of: dict[str, Any] = {"rows": task.digest, **self.options}
        if update.made is not None and self.options.get("base") != "old":
            made_of["new_base"] = dict(update.made.options)
        if self.make in (bare, copied, at_inference):
            return made_of
        is_task_model = self.make in (task_model, refresh)
        training = update.task_training if is_task_model else update.second_training
        return {"lora": language.LORA, **language.COMMON, **training, **made_of}


def task_model(setting: Setting, options: Mapping[str, Any]) -> Outcome:
    """Train an adapter on the task until validation stops improving."""
    is_old, task = options["base"] == "old", setting.task
    rows = task.old_labelled if is_old else task.labelled
    validation = task.old_validation if is_old else task.validation
    base = setting.base(setting.update.old_base if is_old else setting.update.new_base)
    return _until_it_stops(
        setting, base, rows, validation, setting.seed + options["seed_plus"], len(rows) + len(validation)
    )


def at_inference(setting: Setting, _: Mapping[str, Any]) -> Outcome:
    """Ask both models each question, and take the surer answer: the bound, which nobody wants to pay for."""
    test, validation = (
        surer(setting.answers("old", questions), setting.answers("plain", questions))
        for questions in ("test", "validation")
    )
    return Outcome(test, labels=setting.task.labels, validation=validation)


def surer(old: Texts, new: Texts) -> Texts:
    """Let the model answer that is surer of its answer; the new one where they are as sure."""
    is_old = old.confidence > new.confidence
    names = [theirs if takes else ours for takes, theirs, ours in zip(is_old, old.names, new.names, strict=True)]
    return Texts(names, np.where(is_old, old.confidence, new.confidence))


def bare(setting: Setting, _: Mapping[str, Any]) -> Outcome:
    """Ask the new base without adapter, with the question alone."""
    return _asked(setting, *language.load(setting.base(setting.update.new_base)))


def copied(setting: Setting, _: Mapping[str, Any]) -> Outcome:
    """Put the old adapter on the new base."""
    outcome = _asked(setting, *language.load(setting.base(setting.update.new_base), setting.kept("old")))
    outcome.labels = len(setting.task.old_labelled) + len(setting.task.old_validation)
    return outcome


def refresh(setting: Setting, _: Mapping[str, Any]) -> Outcome:
    """Train a fresh adapter on the old model's hard answers to all texts, without any label (UpgradeBench)."""
    task = setting.task
    rows, validation = _relabelled(setting, [*task.labelled, *task.unlabelled], task.validation)
    base = setting.base(setting.update.new_base)
    outcome = _until_it_stops(setting, base, rows, validation, setting.seed + 3000, labels=0)
    outcome.texts = len(rows) + len(validation)
    return outcome


def _relabelled(setting: Setting, *parts: Sequence[Row]) -> list[list[Row]]:
    """Put the old model's answers in the place of labels."""
    old, tokenizer = language.load(setting.base(setting.update.old_base), setting.kept("old"))
    longest = language.longest_answer(tokenizer, setting.task.labelled)
    answers = [language.ask(old, tokenizer, texts_of(rows), longest).names for rows in parts]
    return [
        [{"text": row["text"], "intent": name} for row, name in zip(rows, names, strict=True)]
        for rows, names in zip(parts, answers, strict=True)
    ]


def control(setting: Setting, _: Mapping[str, Any]) -> Outcome:
    """Train the new model on with plain cross-entropy, for as many steps as every strategy."""
    set_seed(setting.seed)
    base = setting.base(setting.update.new_base)
    model, tokenizer = language.load(base, setting.kept("plain"), trained=True)
    training = language.arguments(setting.folder, setting.seed, setting.update.second_training)
    steps = language.fine_tune(model, tokenizer, setting.task.labelled, training)
    return _asked(setting, model, tokenizer, steps=steps, labels=setting.task.labels)


def compatible(setting: Setting, options: Mapping[str, Any]) -> Outcome:
    """Train the new model on with the trainer of this package.

    `texts` says that those without labels take part; `start` = "random" that it begins with an untrained adapter.
    """
    set_seed(setting.seed)
    task, chosen = setting.task, dict(options)
    has_texts, start = chosen.pop("texts", False), chosen.pop("start", "new")
    old_base, new_base = (setting.base(name) for name in (setting.update.old_base, setting.update.new_base))
    training = language.arguments(setting.folder, setting.seed, setting.update.second_training)
    more: dict[str, Any] = {}
    kept = setting.kept("plain") / _TEXT_ANSWERS
    if has_texts:
        more["unlabelled_dataset"] = Dataset.from_list([{"prompt": row["text"]} for row in task.unlabelled])
        chosen["unlabelled_max_new_tokens"] = language.longest_answer(language.load_tokenizer(new_base), task.labelled)
        if kept.exists():
            shutil.copytree(kept, setting.folder / _TEXT_ANSWERS)
    trainer = CompatibilityTrainer(
        model=str(new_base),
        new_adapter=str(setting.kept("plain")),
        old_model=str(old_base),
        old_adapter=str(setting.kept("old")),
        args=CompatibilityConfig(**training | chosen),
        train_dataset=language.encoded(task.labelled),
        eval_dataset=language.encoded(language.by_length(task.validation)),  # asked only where temperatures are fitted
        **more,
    )
    trainer.remove_callback(PrinterCallback)
    if has_texts:
        _keep_what_is_new(setting.folder / _TEXT_ANSWERS, kept)
    if start == "random":  # the new teacher has its copy by now
        for module in trainer.model.modules():
            if isinstance(module, LoraLayer):
                module.reset_lora_parameters("default", True)
    trainer.train()
    return _asked(
        setting,
        trainer.model,
        trainer.processing_class,
        steps=int(trainer.state.global_step),
        labels=task.labels,
        texts=len(task.unlabelled) if has_texts else 0,
    )


_TEXT_ANSWERS = "unlabelled_answers"
"""Where the trainer keeps what the models answer to texts; it is taken along, so that rows ask only once."""


def _keep_what_is_new(answers: Path, kept: Path) -> None:
    """Keep the answers of each model to all texts for other rows, whole or not at all."""
    kept.mkdir(exist_ok=True)
    for folder in answers.iterdir():
        if not (kept / folder.name).exists():
            part = kept.with_name(f"{answers.parent.name}-{folder.name}")
            shutil.rmtree(part, ignore_errors=True)
            shutil.copytree(folder, part)
            try:
                part.rename(kept / folder.name)
            except OSError:  # another row has been faster
                shutil.rmtree(part)


def _until_it_stops(
    setting: Setting, base: Path, rows: Sequence[Row], validation: Sequence[Row], seed: int, labels: int
) -> Outcome:
    set_seed(seed)
    loaded, tokenizer = language.load(base)
    model = language.with_new_adapter(loaded)
    options = dict(setting.update.task_training)
    patience = options.pop("patience")
    training = language.arguments(setting.folder, seed, options)
    steps = language.fine_tune(model, tokenizer, rows, training, validation, patience)
    return _asked(setting, model, tokenizer, steps=steps, labels=labels)


def _asked(setting: Setting, model: Any, tokenizer: Any, **facts: int) -> Outcome:
    task = setting.task
    longest = language.longest_answer(tokenizer, task.labelled)
    test, validation = (
        language.ask(model, tokenizer, texts_of(part), longest) for part in (task.test, task.validation)
    )
    return Outcome(test, **facts, validation=validation, model=model, tokenizer=tokenizer)


def _model(title: str, base: str, seed_plus: int, **facts: Any) -> Strategy:
    return LanguageStrategy(
        title, task_model, {"base": base, "seed_plus": seed_plus}, **{"needs": (), "is_model": True} | facts
    )


# In the order of worth: what costs least and tells most comes first.
STRATEGIES: dict[str, Strategy] = {
    "old": _model("old model", "old", 1000),
    "plain": _model("plain update: the new model", "new", 0, needs=("old",), is_reference=True),
    "bound": LanguageStrategy("both models at inference, the surer answers", at_inference, {"both": "surer"}),
    "texts-new": LanguageStrategy(
        "fair control: texts, new model's answers",
        compatible,
        TEXTS | {"unlabelled_teacher": "new"},
        is_reference=True,
    ),
    "focal-ce": LanguageStrategy("focal distillation (PCT) + cross-entropy .5", compatible, FOCAL | HALF),
    "focal-texts": LanguageStrategy(
        "focal distillation + cross-entropy .5, texts by the product", compatible, FOCAL | HALF | BY_PRODUCT
    ),
    "texts-product": LanguageStrategy(
        "texts, product of both models' probabilities", compatible, TEXTS | {"unlabelled_teacher": "product"}
    ),
    "texts-old": LanguageStrategy("texts, old model's answers", compatible, TEXTS | {"unlabelled_teacher": "old"}),
    "texts-surer": LanguageStrategy(
        "texts, surer model's answers", compatible, TEXTS | {"unlabelled_teacher": "more_confident"}
    ),
    "control": LanguageStrategy("control: as many steps of cross-entropy", control, is_reference=True),
    "refresh": LanguageStrategy(
        "refresh: a fresh adapter, the old model's hard answers", refresh, needs=("old",), is_reference=True
    ),
    "copied": LanguageStrategy("the old adapter on the new base", copied, needs=("old",)),
    "bare": LanguageStrategy("new base without adapter, the question alone", bare, needs=("old",)),
    "floor": _model(
        "seed floor: another seed, against the plain update",
        "new",
        2000,
        needs=("old", "plain"),
        against="plain",
    ),
    "eq1": LanguageStrategy("Eq. 1 (MUSCLE), on the whole text", compatible, {"completion_only_loss": False}),
    "eq1-ce": LanguageStrategy("Eq. 1 + cross-entropy .5", compatible, HALF),
    "random-start": LanguageStrategy(
        "product on texts, from a random adapter",
        compatible,
        TEXTS | {"unlabelled_teacher": "product", "start": "random"},
    ),
}

# Two vocabularies have no product, and an adapter of one base does not fit on the other.
STRATEGIES_OF_TWO_TOKENIZERS = {
    name: replace(row, options={**row.options, "alignment": "chunks"}) if row.make is compatible else row
    for name, row in STRATEGIES.items()
    if name != "copied" and row.options.get("unlabelled_teacher") != "product"
}
