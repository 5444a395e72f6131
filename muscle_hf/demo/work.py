"""What the jobs of a demo do: train an adapter, or ask a model, on one thread, whichever process it is in."""

import gc
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from trl import SFTConfig

from ..files import write_text
from ..interrupts import polite_interrupts
from ..locks import held_folder
from ..prediction.generate import generate_answers
from ..prediction.kept_answers import AnswersSoFar
from ..training.checkpoints.kept import remove_checkpoints
from ..training.checkpoints.resuming import train_and_save
from ..training.config import CompatibilityConfig
from ..training.cross_entropy import TrainingProgress
from ..training.quiet import quiet_libraries
from ..training.trainer import CompatibilityTrainer
from .contenders import NEW, OLD, Candidate, Contender, DemoSettings
from .jobs import BATCH, FACTS, Job, answers_of
from .results import read_answers
from .task import (
    BASE_V1,
    BASE_V2,
    MAX_ANSWER_TOKENS,
    OLD_ADAPTER,
    CompletionTrainer,
    Row,
    SameOrderAgain,
    load_base,
    load_tokenizer,
    read_rows,
    read_unlabelled,
    train_task_adapter,
    training_options,
)


def do(job: Job, output_dir: Path, settings: DemoSettings) -> None:
    """Do a job, unless an earlier call has finished it."""
    quiet_libraries()
    stage = job.on_disk(output_dir, settings)
    # Where the process that shows progress was killed, this one saves its step while the next demo begins.
    lock = held_folder(stage.mark.parent, f"muscle-hf demo, {job.title}", "choose another --output-dir", part=job.name)
    with _one_thread(), polite_interrupts(), lock:
        stage.once(lambda: _make(job, output_dir, settings))
    gc.collect()


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


def _make(job: Job, output_dir: Path, settings: DemoSettings) -> None:
    if job.split is not None:
        _ask(job.contender, output_dir, job.split, _rows(job.split, settings))
        return
    folder = output_dir / job.contender.folder
    steps = _train_new(folder, settings) if job.contender == NEW else _train_on(job.contender, output_dir, settings)
    write_text(folder / FACTS, json.dumps({"optimizer steps": steps}) + "\n")
    remove_checkpoints(folder)


def _rows(split: str, settings: DemoSettings) -> list[Row]:
    """Return what is asked; a prompt without label has no completion."""
    if split == "prompts":
        return read_unlabelled(settings.training_rows, settings.unlabelled_ratio * settings.training_rows)
    if split == "test":
        return read_rows("test", settings.test_rows)
    return read_rows("val", settings.validation_rows)


def _train_new(folder: Path, settings: DemoSettings) -> int:
    return train_task_adapter(
        BASE_V2,
        folder,
        read_rows("train", settings.training_rows),
        _rows("validation", settings),
        seed=settings.seed,
        epochs=settings.task_epochs,
        learning_rate=settings.task_learning_rate,
        description=NEW.name,
        quickly=True,
    )


def _train_on(contender: Contender, output_dir: Path, settings: DemoSettings) -> int:
    """Train on from the new task adapter: with the compatibility loss, or, as a control, with cross-entropy."""
    labelled, tokenizer = read_rows("train", settings.training_rows), load_tokenizer()
    answered = [] if contender.learns_from is None else _answered(contender.learns_from, output_dir)
    options = training_options(
        output_dir / contender.folder,
        seed=settings.seed,
        num_train_epochs=settings.update_epochs,
        learning_rate=settings.update_learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=20,
        save_strategy="epoch",
        train_sampling_strategy="group_by_length",
    )
    if contender.longer:
        count = len(labelled) + len(_answered(OLD, output_dir))
        options |= {"num_train_epochs": 1, "max_steps": math.ceil(count / BATCH)}
    common: dict[str, Any] = {
        "processing_class": tokenizer,
        "callbacks": [TrainingProgress(contender.name), SameOrderAgain()],
    }
    new_adapter = output_dir / NEW.folder
    if not isinstance(contender, Candidate):
        student = PeftModel.from_pretrained(load_base(BASE_V2), new_adapter, is_trainable=True)
        rows = Dataset.from_list([*labelled, *answered])
        trainer = CompletionTrainer(model=student, args=SFTConfig(**options), train_dataset=rows, **common)
        return train_and_save(trainer)
    if answered:
        common["unlabelled_dataset"] = Dataset.from_list(answered)
    return train_and_save(
        CompatibilityTrainer(
            model=BASE_V2,
            new_adapter=new_adapter,
            old_model=BASE_V1,
            old_adapter=OLD_ADAPTER,
            args=CompatibilityConfig(cross_entropy_weight=contender.cross_entropy_weight, **options),
            train_dataset=Dataset.from_list(labelled),
            **common,
        )
    )


def _answered(teacher: Contender, output_dir: Path) -> list[Row]:
    """Return the prompts with a model's answers; those that did not end would teach to stop halfway."""
    rows = read_answers(answers_of(output_dir, teacher, "prompts"))
    return [{"prompt": row["prompt"], "completion": row["prediction"]} for row in rows if row["finished"]]


def _ask(contender: Contender, output_dir: Path, split: str, rows: Sequence[Row]) -> None:
    """Ask a model and write its answers, of which those that an interrupted call left are not asked again."""
    path = answers_of(output_dir, contender, split)
    path.parent.mkdir(parents=True, exist_ok=True)
    prompts = [row["prompt"] for row in rows]
    kept = AnswersSoFar(path, {"questions": prompts}, kinds=(str, float, bool))
    base, adapter = (BASE_V1, OLD_ADAPTER) if contender == OLD else (BASE_V2, output_dir / contender.folder)
    model, tokenizer = PeftModel.from_pretrained(load_base(base), adapter), load_tokenizer()

    def ask(numbers: Sequence[int]) -> list[tuple[str, float, bool]]:
        answers = generate_answers(
            model,
            tokenizer,
            [prompts[number] for number in numbers],
            max_new_tokens=MAX_ANSWER_TOKENS,
            batch_size=_ASKED_AT_ONCE,
            show_progress=False,
        )
        return list(zip(answers.texts, answers.mean_log_likelihoods.tolist(), answers.finished.tolist(), strict=True))

    lengths = [len(tokens) for tokens in tokenizer(prompts)["input_ids"]]
    longest_first = sorted(range(len(rows)), key=lambda number: -lengths[number])
    kept.complete(longest_first, ask, _ASKED_AT_ONCE, f"{contender.name}, {split}")
    written = []
    for number, row in enumerate(rows):
        text, likelihood, finished = kept.answers[number]
        answer = {"id": number, "prompt": row["prompt"], "prediction": text, "finished": finished}
        if "completion" in row:
            answer |= {"prompt": row["prompt"].strip(), "prediction": text.strip(), "reference": row["completion"]}
        written.append(answer | {"mean_log_likelihood": likelihood})
    kept.finish(written)


_ASKED_AT_ONCE = 256
