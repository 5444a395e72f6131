"""The main job in stages: each leaves its result on disk, and a second run goes on where the first one stopped.

new task adapter -> compatibility adapters and controls of the same budget -> answers -> comparison, card, evidence
"""

import gc
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from trl import SFTConfig

from ..card import CONTROL as CONTROL_ROW
from ..card import OLD_MODEL, PLAIN_UPDATE, AdapterCard
from ..card.lineage import Lineage
from ..errors import ConfigurationError
from ..files import replaced
from ..flips.comparison import Comparison, compare, compare_correct
from ..interrupts import polite_interrupts
from ..prediction.generate import generate_answers
from ..prediction.kept_answers import AnswersSoFar
from ..publishing.card_of_trainer import library_versions
from ..training.checkpoints import INTERIM, remove_checkpoints, train_and_save
from ..training.config import CompatibilityConfig
from ..training.cross_entropy import CrossEntropyTrainer, TrainingProgress
from ..training.trainer import CompatibilityTrainer
from ..version import __version__
from .task import (
    BASE_V1,
    BASE_V2,
    MAX_ANSWER_TOKENS,
    OLD_ADAPTER,
    Row,
    load_base,
    load_tokenizer,
    read_rows,
    read_unlabelled,
    train_task_adapter,
    training_options,
)

Answers = list[dict[str, Any]]


@dataclass(frozen=True)
class Contender:
    """A model that the demo asks.

    Args:
        name: Its row in the table.
        folder: Where its adapter lies below the output folder, and the name of its files of answers.
    """

    name: str
    folder: str


@dataclass(frozen=True)
class Candidate(Contender):
    """A compatibility adapter.

    Args:
        cross_entropy_weight: The weight of the cross-entropy in its loss.
        control: The new adapter, trained on with cross-entropy for as many steps.
        unlabelled: Whether it learns from prompts without labels, too.
    """

    cross_entropy_weight: float
    control: Contender
    unlabelled: bool = False


OLD = Contender(OLD_MODEL, "old")
NEW = Contender(PLAIN_UPDATE, "new")
CONTROL = Contender(CONTROL_ROW, "control")
EQUATION_1 = Candidate("compatibility, Eq. 1", "compatibility", 0.0, CONTROL)
WITH_CROSS_ENTROPY = Candidate("compatibility, + CE 0.5", "compatibility-ce", 0.5, CONTROL)
LONGER_CONTROL = Contender("control: its steps", "control-unlabelled")
UNLABELLED = Candidate("compatibility, unlabelled", "compatibility-unlabelled", 0.0, LONGER_CONTROL, unlabelled=True)
BOUND = "bound: surer of both"
CANDIDATES = (EQUATION_1, WITH_CROSS_ENTROPY, UNLABELLED)
# In the order in which they are trained and shown. The longer control has to know the steps of its adapter.
UPDATES = (CONTROL, EQUATION_1, WITH_CROSS_ENTROPY, UNLABELLED, LONGER_CONTROL)
CONTENDERS = (OLD, NEW, *UPDATES)


@dataclass(frozen=True)
class DemoSettings:
    """What decides the result of a demo, apart from the machine.

    Args:
        seed: Seed of all live trainings.
        training_rows: Labelled training utterances, of 15,000.
        validation_rows: Validation utterances, of 3,000: they stop the task training and choose the adapter.
        test_rows: Test utterances, of 4,500.
        task_epochs: Most epochs of the new task adapter; it stops earlier when validation does.
        task_learning_rate: Its learning rate.
        update_epochs: Epochs of a compatibility adapter on the labelled rows, and of its control.
        update_learning_rate: Learning rate of all compatibility adapters and controls.
        unlabelled_ratio: Prompts without labels for each labelled one, of 12,000. One adapter learns from both for an
            epoch, and its control goes as many steps.
    """

    seed: int = 0
    training_rows: int = 3000
    validation_rows: int = 1500
    test_rows: int = 4500
    task_epochs: int = 8
    task_learning_rate: float = 2e-3
    update_epochs: int = 3
    update_learning_rate: float = 1e-3
    unlabelled_ratio: int = 4

    @classmethod
    def fast(cls, seed: int = 0) -> "DemoSettings":
        """Return settings that show every stage in under a minute, and whose figures mean nothing."""
        return cls(
            seed=seed,
            training_rows=450,
            validation_rows=150,
            test_rows=300,
            task_epochs=2,
            update_epochs=1,
            unlabelled_ratio=1,
        )


@dataclass(frozen=True)
class DemoResult:
    """What a demo found on the test set.

    Args:
        answers: Name of a model -> its answers, rows with `prompt`, `prediction` and `reference`.
        comparisons: Name of a model -> its comparison with the old one, in the order of the table.
        p_values: Name of a compatibility adapter -> name of its control or the plain update -> exact paired p-values
            between the two, for `accuracy` and for `negative_flips` (over the instances the old model gets right).
        chosen: The compatibility adapter with the lower NFR on the validation set.
    """

    answers: dict[str, Answers]
    comparisons: dict[str, Comparison]
    p_values: dict[str, dict[str, dict[str, float]]]
    chosen: Candidate


@contextmanager
def _one_thread() -> Iterator[None]:
    """Run on one thread, whatever the machine has.

    Models this small gain nothing from a second one, and threads that wait for each other lose a lot on a busy
    machine. It also makes the figures the same for any number of cores.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@_one_thread()
def run_demo(output_dir: Path, settings: DemoSettings) -> DemoResult:
    """Run every stage that is not on disk yet, and write adapter, card, comparison and predictions.

    Args:
        output_dir: Receives everything; what an interrupted run with the same settings left there is used.
        settings: What to run.

    Returns:
        The answers and comparisons on the test set.

    Raises:
        ConfigurationError: The folder holds a run with other settings.
    """
    _claim(output_dir, settings)
    training, validation = read_rows("train", settings.training_rows), read_rows("val", settings.validation_rows)
    new_adapter = output_dir / NEW.folder
    _once(
        new_adapter,
        lambda: train_task_adapter(
            BASE_V2,
            new_adapter,
            training,
            validation,
            seed=settings.seed,
            epochs=settings.task_epochs,
            learning_rate=settings.task_learning_rate,
            description=NEW.name,
        ),
    )
    for contender in UPDATES:
        _once(output_dir / contender.folder, partial(_train_update, contender, output_dir, training, settings))
    test = read_rows("test", settings.test_rows)
    answers = {
        split: {contender.name: _ask(contender, output_dir, split, rows) for contender in CONTENDERS}
        for split, rows in (("validation", validation), ("test", test))
    }
    result = evaluate_answers(answers["validation"], answers["test"])
    _write_evidence(output_dir, settings, result)
    return result


def evaluate_answers(validation: dict[str, Answers], test: dict[str, Answers]) -> DemoResult:
    """Choose the adapter on the validation answers and compare every model with the old one on the test answers."""

    def against_old(answers: dict[str, Answers], name: str) -> Comparison:
        return compare(
            old=[row["prediction"] for row in answers[OLD.name]],
            new=[row["prediction"] for row in answers[name]],
            references=[row["reference"] for row in answers[name]],
        )

    chosen = min(CANDIDATES, key=lambda contender: against_old(validation, contender.name).negative_flip_rate)
    test = dict(test)
    test[BOUND] = [
        max(pair, key=lambda row: row["mean_log_likelihood"])
        for pair in zip(test[NEW.name], test[OLD.name], strict=True)
    ]
    names = [contender.name for contender in CONTENDERS if contender is not OLD] + [BOUND]
    right = {name: [row["prediction"] == row["reference"] for row in rows] for name, rows in test.items()}
    kept = [index for index, was_right in enumerate(right[OLD.name]) if was_right]

    def paired(ours: list[bool], others: list[bool]) -> dict[str, float]:
        on_kept = compare_correct(old=[others[i] for i in kept], new=[ours[i] for i in kept]) if kept else None
        return {
            "accuracy": compare_correct(old=others, new=ours).p_value,
            "negative_flips": on_kept.p_value if on_kept else float("nan"),
        }

    p_values = {
        candidate.name: {
            rival.name: paired(right[candidate.name], right[rival.name]) for rival in (candidate.control, NEW)
        }
        for candidate in CANDIDATES
    }
    return DemoResult(test, {name: against_old(test, name) for name in names}, p_values, chosen)


def _claim(output_dir: Path, settings: DemoSettings) -> None:
    """Answers of two different runs must not be mixed, so a folder belongs to one set of settings."""
    path = output_dir / "settings.json"
    mine = asdict(settings) | {"version": __version__}
    if path.exists():
        try:
            found = dict(json.loads(path.read_text(encoding="utf-8")))
        except ValueError:
            raise ConfigurationError(
                f"{path} is damaged, so what lies beside it cannot be trusted. Choose another --output-dir, or delete "
                "that folder."
            ) from None
        differing = [name for name in mine if found.get(name) != mine[name]]
        if differing:
            differences = ", ".join(f"{name} {found.get(name)!r} there, {mine[name]!r} now" for name in differing)
            raise ConfigurationError(
                f"{output_dir} holds a demo with other settings ({differences}). Choose another --output-dir, or "
                "delete that folder."
            )
    output_dir.mkdir(parents=True, exist_ok=True)
    _write(path, json.dumps(mine, indent=2))


def _once(folder: Path, train: Callable[[], int]) -> None:
    """Train unless an earlier run finished it; the mark is written last, so a killed training is no finished one."""
    mark = folder / "finished"
    if mark.exists():
        return
    with polite_interrupts():
        steps = train()
        _write(mark, json.dumps({"steps": steps}))
        remove_checkpoints(folder)
    gc.collect()


def _steps(folder: Path) -> int:
    """Return the optimizer steps of a finished training."""
    return int(json.loads((folder / "finished").read_text(encoding="utf-8"))["steps"])


def _train_update(contender: Contender, output_dir: Path, training: Sequence[Row], settings: DemoSettings) -> int:
    """Train on from the new task adapter: with the compatibility loss, or, as the control, with cross-entropy."""
    options = training_options(
        output_dir / contender.folder,
        seed=settings.seed,
        num_train_epochs=settings.update_epochs,
        learning_rate=settings.update_learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=20,
        save_strategy="epoch",
    )
    common: dict[str, Any] = {
        "train_dataset": Dataset.from_list(list(training)),
        "processing_class": load_tokenizer(),
        "callbacks": [TrainingProgress(contender.name)],
    }
    new_adapter = output_dir / NEW.folder
    if not isinstance(contender, Candidate):
        if contender is LONGER_CONTROL:
            options["max_steps"] = _steps(output_dir / UNLABELLED.folder)
        student = PeftModel.from_pretrained(load_base(BASE_V2), new_adapter, is_trainable=True)
        return train_and_save(CrossEntropyTrainer(model=student, args=SFTConfig(**options), **common))
    if contender.unlabelled:
        prompts = read_unlabelled(len(training), settings.unlabelled_ratio * len(training))
        common["unlabelled_dataset"] = Dataset.from_list(prompts)
        options |= {"num_train_epochs": 1, "unlabelled_max_new_tokens": MAX_ANSWER_TOKENS}
    return train_and_save(
        CompatibilityTrainer(
            model=BASE_V2,
            new_adapter=new_adapter,
            old_model=BASE_V1,
            old_adapter=OLD_ADAPTER,
            args=CompatibilityConfig(cross_entropy_weight=contender.cross_entropy_weight, **options),
            **common,
        )
    )


def _ask(contender: Contender, output_dir: Path, split: str, rows: Sequence[Row]) -> Answers:
    """Return a model's answers, from disk where they are there already."""
    path = answers_of(output_dir, contender, split)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        prompts = [row["prompt"] for row in rows]
        kept = AnswersSoFar(path, {"questions": prompts}, kinds=(str, float))
        base, adapter = (BASE_V1, OLD_ADAPTER) if contender is OLD else (BASE_V2, output_dir / contender.folder)
        model, tokenizer = PeftModel.from_pretrained(load_base(base), adapter), load_tokenizer()

        def ask(numbers: Sequence[int]) -> list[tuple[str, float]]:
            answers = generate_answers(
                model,
                tokenizer,
                [prompts[number] for number in numbers],
                max_new_tokens=MAX_ANSWER_TOKENS,
                batch_size=_ASKED_AT_ONCE,
                show_progress=False,
            )
            return list(zip(answers.texts, answers.mean_log_likelihoods.tolist(), strict=True))

        lengths = [len(tokens) for tokens in tokenizer(prompts)["input_ids"]]
        longest_first = sorted(range(len(rows)), key=lambda number: -lengths[number])
        kept.complete(longest_first, ask, _ASKED_AT_ONCE, f"asking the {split} set: {contender.name}")
        kept.finish(
            {
                "id": index,
                "prompt": row["prompt"].strip(),
                "prediction": kept.answers[index][0].strip(),
                "reference": row["completion"],
                "mean_log_likelihood": kept.answers[index][1],
            }
            for index, row in enumerate(rows)
        )
    # Not splitlines(), which would also cut at the line separators that a text may hold.
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


_ASKED_AT_ONCE = 256


def answers_of(output_dir: Path, contender: Contender, split: str) -> Path:
    """Return the file of a model's answers.

    Args:
        output_dir: The folder of the demo.
        contender: The model.
        split: "validation" or "test".
    """
    return output_dir / "predictions" / f"{split}-{contender.folder}.jsonl"


def _write_evidence(output_dir: Path, settings: DemoSettings, result: DemoResult) -> None:
    """Write the comparison as JSON, and the chosen adapter with its card."""
    _write(
        output_dir / "comparison.json",
        json.dumps(
            {
                "chosen_on_validation": result.chosen.name,
                "old_model_against": {name: json.loads(c.to_json()) for name, c in result.comparisons.items()},
                "paired_p_values": result.p_values,
                "settings": asdict(settings),
                "versions": library_versions(),
            },
            indent=2,
        ),
    )
    chosen = result.chosen
    prompts = f", and {settings.unlabelled_ratio} prompts without label for each" if chosen.unlabelled else ""
    source, target = output_dir / chosen.folder, output_dir / "adapter"
    draft = output_dir / "adapter.tmp"
    shutil.rmtree(draft, ignore_errors=True)
    left_out = ("checkpoint-*", INTERIM, "finished", "training_args.bin", "unlabelled_answers")
    shutil.copytree(source, draft, ignore=shutil.ignore_patterns(*left_out))
    AdapterCard(
        title="CLINC150 intents: compatibility adapter of the muscle_hf demo",
        lineage=Lineage(new_base=None, new_adapter=None, old_base=None, old_adapter=None),
        adapter_type="lora",
        base_import="from muscle_hf.demo.task import BASE_V2",
        training={
            "old model": "base-v1 and task-on-v1, which ship with muscle_hf's demo",
            "new base": "base-v2, which ships with muscle_hf's demo",
            "strategy": chosen.name,
            "cross-entropy weight": chosen.cross_entropy_weight,
            "optimizer steps": _steps(source),
            "learning rate": settings.update_learning_rate,
            "seed": settings.seed,
            "hardware": "CPU, one thread",
            "versions": library_versions(),
        },
        comparisons=result.comparisons,
        name_of_this=chosen.name,
        control=chosen.control.name,
        p_values=result.p_values[chosen.name],
        slices={"intent": _by_intent(result.answers[OLD.name], result.answers[chosen.name])},
        split="the test set of CLINC150",
        caveats=(f"It was chosen among {len(CANDIDATES)} by the negative flip rate on the validation set.",),
        dataset=f"CLINC150 (CC BY 3.0), {settings.training_rows} labelled training utterances{prompts}",
    ).write(draft)
    shutil.rmtree(target, ignore_errors=True)
    draft.replace(target)


def _by_intent(old: Answers, new: Answers) -> dict[str, Comparison]:
    """Compare two models on the utterances of each intent."""
    places: dict[str, list[int]] = {}
    for place, row in enumerate(old):
        places.setdefault(row["reference"], []).append(place)
    return {
        intent: compare(
            old=[old[place]["prediction"] for place in of_intent],
            new=[new[place]["prediction"] for place in of_intent],
            references=[intent] * len(of_intent),
        )
        for intent, of_intent in places.items()
    }


def _write(path: Path, text: str) -> None:
    with replaced(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
