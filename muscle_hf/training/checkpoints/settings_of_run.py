"""What decides the weights of a training lies in its checkpoints, and another value is refused where one goes on."""

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerCallback
from transformers.trainer_callback import ExportableState

from ...card.lineage import Lineage
from ...errors import ConfigurationError
from ...losses.strategy import Strategy
from ...models.processes import on_main_process
from ...models.quick_fingerprints import (
    quick_fingerprint_of_named,
    quick_fingerprint_of_rows,
    quick_fingerprint_of_tensors,
)
from ...models.sharding import is_sharded
from ...teachers.cache.spec import OF_SOME_TOKENS
from .kept import INTERIM, OF_DEEPSPEED, damage_of, newest_first, state_of, way_of

# Options beside those of the strategy. Precision, memory, evaluation, saving and logging are not among them.
_DECIDING = (
    *("seed", "data_seed", "learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps"),
    *("warmup_ratio", "optim", "optim_args", "optim_target_modules", "weight_decay", "max_grad_norm"),
    *("adam_beta1", "adam_beta2", "adam_epsilon", "neftune_noise_alpha", "dataloader_drop_last"),
    *("group_by_length", "train_sampling_strategy", "max_length", "packing", "packing_strategy", "truncation_mode"),
    *("completion_only_loss", "assistant_only_loss", "average_tokens_across_devices", "weight_column"),
    *("student_rank", "full_fine_tune", "alignment", "unlabelled_teacher", "unlabelled_ratio"),
    *("unlabelled_max_new_tokens", "dice_weight", "dice_alpha", "dice_smoothing", "dice_level"),
    *("dice_ignored_classes", "dice_form", "gradient_conflict", "max_prompt_length", "max_completion_length"),
    *("contrastive_weight", "contrastive_temperature", "negative_perturbation", "positive_perturbation"),
    "contrast_flips",
)
_LENGTH = ("max_steps", "num_train_epochs")
_CONSTANT = "constant"
_WHY_LENGTH = " The learning rate of each step depends on the length, unless lr_scheduler_type is constant."


class SettingsOfRun(TrainerCallback, ExportableState):  # type: ignore[misc]  # transformers is taken as untyped
    """Puts the settings of the training into the state that each checkpoint keeps."""

    def __init__(self, models: dict[str, str]) -> None:
        """Nothing is trained yet; `models` are fingerprints of the student as it starts and of what it comes from."""
        self.models = models
        self.settings: dict[str, Any] = {}

    @classmethod
    def of(cls, model: Any, lineage: Lineage) -> "SettingsOfRun":
        """Sample what a student will train, before anything of it is trained or split, and models by their names."""
        trained = (each for each in model.named_parameters() if each[1].requires_grad)
        models = {"new model": quick_fingerprint_of_tensors(trained)}
        for name in ("new_base", "old_base", "old_adapter"):
            which, commit = getattr(lineage, name), getattr(lineage, f"{name}_revision")
            if which is not None:
                models[name.replace("_", " ")] = quick_fingerprint_of_named(str(which), commit)
        return cls(models)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Make the place that transformers looks for, which the state of an earlier version does not have."""
        state.stateful_callbacks.setdefault(type(self).__name__, self.state())

    def state(self) -> dict[str, Any]:
        """Give what a checkpoint keeps."""
        return {"args": {"models": self.models}, "attributes": {"settings": self.settings}}


def note_settings(trainer: Any, checkpoint: Path | None) -> None:
    """Keep the settings for the checkpoints to come; refuse to go on from one with others."""
    # transformers may put a copy in its place when it resumes.
    noted = next(each for each in trainer.callback_handler.callbacks if isinstance(each, SettingsOfRun))

    def settings() -> dict[str, Any]:
        now = settings_of(trainer, noted.models)
        if checkpoint is not None:
            refuse_other_settings(checkpoint, now)
        return now

    noted.settings = on_main_process(settings)


def settings_of(trainer: Any, models: Mapping[str, str]) -> dict[str, Any]:
    """Return what decides the weights, as JSON has it; `models` are their fingerprints."""
    args, strategy = trainer.args, trainer.strategy
    settings = {option.name: getattr(strategy, option.name) for option in fields(Strategy)}
    if callable(strategy.mask):
        name = getattr(strategy.mask, "__qualname__", type(strategy.mask).__qualname__)
        settings["mask"] = f"function {name}"
    # What is fitted comes from the checkpoint.
    settings["product_temperatures"] = getattr(args, "product_temperatures", None)
    settings |= {name: getattr(args, name) for name in _DECIDING if hasattr(args, name)}
    cache = getattr(args, "teacher_cache", "none")
    # These caches give other targets than the teachers; the others give the same.
    settings["targets"] = f"{cache}, k={args.teacher_cache_k}" if cache in OF_SOME_TOKENS else "exact"
    by_steps = args.max_steps > 0
    settings |= {
        "max_steps": args.max_steps if by_steps else None,
        "num_train_epochs": None if by_steps else args.num_train_epochs,
        "sequences a step": args.train_batch_size
        * args.gradient_accumulation_steps
        * (args.world_size // trainer.get_tp_size()),
        "training rows": quick_fingerprint_of_rows(trainer.train_dataset),
        **models,
        **_nameless_old_model(trainer),
    }
    return dict(json.loads(json.dumps(settings, default=str)))


def _nameless_old_model(trainer: Any) -> dict[str, str]:
    """Give the fingerprint of an old model that was passed as an object."""
    lineage, old = trainer.lineage, getattr(getattr(trainer, "old_teacher", None), "model", None)
    is_nameless = lineage.old_base is None or (lineage.old_adapter is None and hasattr(old, "peft_config"))
    if old is None or not is_nameless or is_sharded(old):
        return {}
    return {"old model": quick_fingerprint_of_tensors(old.named_parameters())}


def kept_settings(checkpoint: Path) -> Mapping[str, Any]:
    """Read the settings in a checkpoint; empty in one of another trainer, or of an earlier version."""
    kept = ((state_of(checkpoint) or {}).get("stateful_callbacks") or {}).get(SettingsOfRun.__name__) or {}
    return kept.get("attributes", {}).get("settings") or {}


def refuse_other_settings(checkpoint: Path, settings: Mapping[str, Any]) -> None:
    """Refuse to go on from a checkpoint of a training that other settings have decided so far.

    With a constant learning rate the length alone may be another one: no step of before depends on it.
    """
    there = kept_settings(checkpoint)
    names = _differing(there, settings)
    if not names:
        return
    said = "; ".join(f"{name} {_shown(there[name])} there, {_shown(settings[name])} now" for name in names)
    length = "" if set(names).isdisjoint(_LENGTH) else _WHY_LENGTH
    folder = checkpoint.parent.parent if checkpoint.parent.name == INTERIM else checkpoint.parent
    raise ConfigurationError(
        f"{checkpoint} is of a training with other settings ({said}), and going on from it would mix both.{length} "
        f"{_checkpoint_of(folder, settings)}"
        "Give the values from there, or train into another output_dir, or remove the checkpoints to train anew."
    )


def _differing(there: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    is_constant = there.get("lr_scheduler_type") == settings["lr_scheduler_type"] == _CONSTANT
    free = _LENGTH if is_constant else ()
    return [name for name in settings if name in there and name not in free and there[name] != settings[name]]


def _checkpoint_of(folder: Path, settings: Mapping[str, Any]) -> str:
    """Name the newest whole checkpoint beside those of an earlier training in the same folder, where there is one."""
    for checkpoint in newest_first(folder):
        there = kept_settings(checkpoint)
        if there and not _differing(there, settings) and damage_of(checkpoint) is None:
            return f'Of this training there is resume_from_checkpoint="{checkpoint}". '
    return ""


def has_all_epochs(checkpoint: Path, epochs: float) -> bool:
    """Tell whether a training by epochs, also by a part of one, has taken all of its steps."""
    state, trained = state_of(checkpoint) or {}, kept_settings(checkpoint).get("num_train_epochs")
    return trained is not None and trained >= epochs and int(state["global_step"]) >= int(state["max_steps"])


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if value is not None else "not given"


def refuse_another_way(trainer: Trainer, checkpoint: Path) -> None:
    """Refuse to go on with whole models from a checkpoint of split ones, and the other way round.

    Each holds the optimizer's state in a form that the other cannot read. DeepSpeed's is that of so many processes.
    """
    was = way_of(checkpoint)
    now = "FSDP" if trainer.is_fsdp_enabled else "DeepSpeed" if trainer.is_deepspeed_enabled else ""
    if was != now:
        raise ConfigurationError(
            f"{checkpoint} was written with {_said(was)}, and this training has {_said(now)}, which cannot go on from "
            "it. Start it in the same way, or remove its checkpoints to train anew."
        )
    refuse_another_number(trainer, checkpoint)


def refuse_another_number(trainer: Any, checkpoint: Path) -> None:
    """Refuse a checkpoint in which DeepSpeed has split the optimizer's state over another number of processes."""
    wrote = len(list(checkpoint.glob(f"{OF_DEEPSPEED}/*zero_pp_rank_*_optim_states.pt")))
    if wrote and wrote != trainer.args.world_size:
        raise ConfigurationError(
            f"{checkpoint} was written by {wrote} processes, and these are {trainer.args.world_size}: DeepSpeed's "
            f"checkpoints are gone on from by as many as wrote them. Start {wrote}; or train anew with FSDP2, whose "
            "checkpoints any number goes on from."
        )


def _said(way: str) -> str:
    return f"models split by {way}" if way else "whole models"
