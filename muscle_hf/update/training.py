"""The trainings of an update: a new task adapter, the compatibility adapter, and the control of the same budget."""

import gc
import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel, get_peft_model
from transformers import set_seed

from ..files import write_text
from ..hub.failures import lookup_failures
from ..locks import LOCK
from ..models.adapters import load_adapted_model
from ..models.embedding_rows import save_with_rows
from ..models.lm_head import full_logits_allow_tied_head, has_whole_head
from ..models.processes import on_main_process
from ..models.ranks import pad_rank
from ..seq2seq.cross_entropy import cross_entropy_trainer
from ..seq2seq.trainer import CompatibilitySeq2SeqTrainer
from ..training.checkpoints.kept import remove_checkpoints
from ..training.checkpoints.resuming import train_and_save
from ..training.cross_entropy import CrossEntropyTrainer, FusedTrainer, TrainingProgress
from ..training.log import EndsWhenDiverged
from ..training.processes.split_models import split_student
from ..training.trainer import CompatibilityTrainer
from .kinds import ENCODER_DECODER
from .plan import Plan
from .rows import as_dataset, as_pairs, as_questions

COMPATIBILITY = "compatibility"
"""Folder of the compatibility training, below the output folder."""

CACHE = "teacher_cache"
"""Folder of the teacher cache below that of the training, where none was named."""

FACTS = "training.json"
"""What the card says of the training, beside the adapter."""


def train_task_adapter(plan: Plan, folder: Path) -> None:
    """Train a task adapter on the new base with cross-entropy, with the old adapter's hyper-parameters.

    A checkpoint in the folder is gone on from, here and in the other trainings.
    """
    base = plan.new_base
    with lookup_failures("load the new base", base.name):
        model = base.kind.auto_class.from_pretrained(base.name, **{"dtype": torch.float32} | dict(base.init_kwargs))
    set_seed(plan.config.seed)
    _train_with_cross_entropy(
        plan, folder, get_peft_model(model, plan.task_adapter), "task adapter", plan.task_options
    )


def train_control(plan: Plan, folder: Path, new_adapter: str, options: dict[str, Any]) -> None:
    """Train the new task adapter on, for the steps of the compatibility adapter, with plain cross-entropy."""
    base = plan.new_base
    student = load_adapted_model(
        base.name,
        new_adapter,
        role="new",
        needs_adapter=True,
        init_kwargs=dict(base.init_kwargs),
        auto_class=base.kind.auto_class,
    )
    student.set_adapter(student.active_adapter)
    # The control goes nowhere, and PEFT would ask the Hub about another name when it is saved.
    student.active_peft_config.base_model_name_or_path = base.name
    # What may learn decides what is learned, so the control has as much room as the compatibility adapter.
    if plan.config.student_rank is not None:
        student = pad_rank(student, plan.config.student_rank, seed=plan.config.seed)
    _train_with_cross_entropy(plan, folder, student, "control", options)


def control_options(plan: Plan, output_dir: Path) -> dict[str, Any]:
    """Return what differs in the control's options: the steps, where the compatibility adapter has more rows."""
    if not plan.unlabelled:
        return {}
    facts = json.loads((output_dir / COMPATIBILITY / FACTS).read_text(encoding="utf-8"))
    return {"max_steps": facts["training"]["optimizer steps"]}


def _train_with_cross_entropy(
    plan: Plan, folder: Path, model: PeftModel, description: str, changes: dict[str, Any]
) -> None:
    config = plan.options.cross_entropy_config(folder, **changes)
    if plan.new_base.kind is ENCODER_DECODER:
        model.save_pretrained = partial(save_with_rows, model)
        lengths = plan.config.max_prompt_length, plan.config.max_completion_length
        seq2seq = cross_entropy_trainer(model, config, **_data(plan), longest=lengths)
        for callback in (TrainingProgress(description), EndsWhenDiverged(seq2seq)):
            seq2seq.add_callback(callback)
        train_and_save(seq2seq)
        return
    # TRL's fused loss reads the head's weight alone, and is slow without a GPU; both give the same loss.
    is_fused = has_whole_head(model) and config.device.type != "cpu"
    kind = FusedTrainer if is_fused else CrossEntropyTrainer
    model.save_pretrained = partial(save_with_rows, model)
    with full_logits_allow_tied_head(model):
        trainer = kind(model=model, args=config, **_data(plan), callbacks=[TrainingProgress(description)])
    trainer.add_callback(EndsWhenDiverged(trainer))
    split_student(trainer)
    train_and_save(trainer)


def train_compatibility_adapter(plan: Plan, folder: Path, new_adapter: str) -> None:
    """Train the compatibility adapter, and note beside it what the card says of its training."""
    more = {}
    if plan.unlabelled:
        more["unlabelled_dataset"] = Dataset.from_list(list(plan.unlabelled))
    if plan.settings.measure_flips:
        more["flips_dataset"] = as_questions(plan.data.validation, plan.delimiter)
    kind = CompatibilitySeq2SeqTrainer if plan.new_base.kind is ENCODER_DECODER else CompatibilityTrainer
    trainer = kind(
        model=plan.new_base.name,
        new_adapter=new_adapter,
        old_model=plan.old_base.name,
        old_adapter=plan.settings.old_adapter,
        args=plan.compatibility_config(folder),
        **_data(plan),
        **more,
        callbacks=[TrainingProgress("compatibility adapter")],
    )
    train_and_save(trainer)
    card = trainer.card()
    facts = {
        "adapter_type": card.adapter_type,
        "embedding_rows": card.embedding_rows,
        "training": dict(card.training),
    }
    text = json.dumps(facts, indent=2, ensure_ascii=False) + "\n"
    on_main_process(partial(write_text, folder / FACTS, text))


def _data(plan: Plan) -> dict[str, Any]:
    rows = as_pairs if plan.new_base.kind is ENCODER_DECODER else as_dataset
    return {
        "train_dataset": rows(plan.data.training),
        "eval_dataset": rows(plan.data.validation) if plan.data.validation else None,
        "processing_class": plan.tokenizer,
    }


def clean(folder: Path) -> None:
    """Remove what a finished training needs no more: checkpoints, teacher cache, and a killed one's lock."""
    (folder / LOCK).unlink(missing_ok=True)
    remove_checkpoints(folder)
    shutil.rmtree(folder / CACHE, ignore_errors=True)


def release_memory() -> None:
    """Let go of the models of a stage, which hold each other in circles."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
