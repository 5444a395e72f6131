"""The card of what a trainer has trained: what really happened."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from ..card.files import AdapterCard
from ..losses.strategy import Strategy
from ..models.adapters import base_model
from ..models.embedding_rows import changed_rows
from ..version import library_versions
from .training_time import time_of

_NAMES = {
    "cross_entropy_weight": "cross-entropy weight (1 - lambda)",
    "scale_by_temperature_squared": "scaled by the squared temperature",
}
_TASKS = {
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
}
# Terms of the loss by their weight, with the options that belong to it.
_TERMS = {
    "dice_weight": ("dice_alpha", "dice_smoothing", "dice_level", "dice_ignored_classes", "dice_form"),
    "contrastive_weight": (
        *("contrastive_temperature", "negative_perturbation", "positive_perturbation", "contrast_flips"),
    ),
}


def strategy_rows(strategy: Strategy) -> dict[str, object]:
    """Return what a card says of a strategy: what decides each run, and what is not at its default.

    Example:
        >>> list(strategy_rows(Strategy(focal_beta=5.0)))[-1]
        'focal beta'
    """
    always = ("mask", "divergence", "temperature", "cross_entropy_weight", "scale_by_temperature_squared")
    rows: dict[str, object] = {}
    for option in sorted(fields(strategy), key=lambda option: (*always, option.name).index(option.name)):
        value = getattr(strategy, option.name)
        is_used = strategy.teacher == {
            "product_temperatures": "product",
            "teacher_weight": "perpendicular",
        }.get(option.name)
        if option.name in always or value != option.default or is_used:
            shown = _function_name(value) if callable(value) else value
            if isinstance(value, tuple):
                shown = "{:.4g} (old model), {:.4g} (new model)".format(*value)
            name = _NAMES.get(option.name, option.name.replace("_", " "))
            rows[name] = ("yes" if value else "no") if isinstance(value, bool) else shown
    return rows


def _function_name(function: Any) -> str:
    """Name a function without what Python shows of its address; a partial one is named after the function in it."""
    return str(getattr(getattr(function, "func", function), "__name__", "a function of one's own"))


def card_of_trainer(trainer: Any, details: Mapping[str, object] | None = None) -> AdapterCard:
    """Collect what a trainer knows about its adapter."""
    args, state = trainer.args, trainer.state
    # The state knows the batch where it had to be made smaller.
    batch = getattr(state, "train_batch_size", None) or args.train_batch_size
    training: dict[str, object] = {
        **strategy_rows(trainer.strategy),
        **_unusual(args),
        **_unlabelled(trainer),
        "learning rate": _learning_rate(trainer),
        "optimizer steps": state.global_step,
        **_kept(trainer),
        "sequences a step": batch * args.gradient_accumulation_steps * args.world_size,
        "seed": args.seed,
        "precision": _precision(trainer),
        "hardware": hardware(args),
        **time_of(trainer).row(),
        "versions": library_versions(),
    }
    model = trainer.accelerator.unwrap_model(trainer.model)
    # A model that is trained as a whole has none.
    config = getattr(model, "active_peft_config", None)
    known = {name: value for name, value in (details or {}).items() if value}
    # A push gives the name its owner; the one in the arguments may lack it.
    repository = getattr(trainer, "hub_model_id", None) or args.hub_model_id
    return AdapterCard(
        **{
            "title": Path(args.hub_model_id or Path(args.output_dir).resolve()).name,
            "lineage": trainer.lineage,
            "adapter_type": config.peft_type.value.lower() if config else None,
            "embedding_rows": changed_rows(model),
            "training": training,
            "comparisons": dict(trainer.comparisons),
            "repository": repository,
            "task": task_of(model),
        }
        | known
    )


def task_of(model: Any) -> str:
    """Name a model's task as the Hub does."""
    base = base_model(model)
    has_encoder = getattr(getattr(base, "config", None), "is_encoder_decoder", False)
    name, usual = type(base).__name__, "text2text-generation" if has_encoder else "text-generation"
    return next((task for ending, task in _TASKS.items() if name.endswith(ending)), usual)


def hardware(args: Any) -> str:
    """Name the devices that a training ran on, without anything that names the machine."""
    kind = args.device.type
    if kind == "cuda":
        return f"{max(1, args.n_gpu) * args.world_size} x {torch.cuda.get_device_name(args.device)}"
    name = {"cpu": "CPU", "mps": "Apple GPU", "xpu": "Intel GPU"}.get(kind, kind)
    return name if args.world_size == 1 else f"{args.world_size} x {name}"


def _unusual(args: Any) -> dict[str, object]:
    """Name options that decide what is trained, and that only one of the trainers has."""
    unusual: dict[str, object] = {}
    if getattr(args, "alignment", "tokens") != "tokens":
        unusual["alignment"] = args.alignment
    if getattr(args, "student_rank", None) is not None:
        unusual["rank of the student"] = args.student_rank
    if getattr(args, "weight_column", None) is not None:
        unusual["weights of rows"] = f"column {args.weight_column}"
    options = {option.name: option for option in fields(args)}
    for weight, others in _TERMS.items():
        if not getattr(args, weight, 0):
            continue
        for name in (weight, *others):
            value = getattr(args, name)
            if value != options[name].default or name == "dice_level":
                shown = ", ".join(value) if isinstance(value, list) else "yes" if value is True else value
                unusual[name.replace("_", " ")] = shown
    return unusual


def _unlabelled(trainer: Any) -> dict[str, str]:
    """Say how many rows without labels an epoch has, of how many, and whose answers they have."""
    if trainer.unlabelled_rows is None:
        return {}
    used, passed = trainer.unlabelled_rows
    teacher, ratio = trainer.args.unlabelled_teacher, trainer.args.unlabelled_ratio
    count = f"{used:,}" if used == passed else f"{used:,} an epoch, of {passed:,}"
    if ratio is not None:
        count += f" ({ratio:g} for each labelled row)"
    known = {"more_confident": "answered by the more confident model", "product": "learned from both models' product"}
    whose = known.get(teacher, f"answered by the {teacher} model")
    return {"unlabelled rows": f"{count}, {whose}"}


def _precision(trainer: Any) -> str:
    """Name what was computed in, which a launcher may decide too; without mixed precision, that of the weights."""
    mixed = str(trainer.accelerator.mixed_precision)
    if mixed != "no":
        return mixed
    weights = base_model(trainer.accelerator.unwrap_model(trainer.model)).dtype
    return f"as loaded ({str(weights).removeprefix('torch.')})"


def _learning_rate(trainer: Any) -> str:
    """Give the rate that training began with; an optimizer of one's own may have another than the config."""
    groups = getattr(getattr(trainer, "optimizer", None), "param_groups", ())
    rates = list(dict.fromkeys(group["initial_lr"] for group in groups if "initial_lr" in group))
    return ", ".join(f"{rate:g}" for rate in rates or [trainer.args.learning_rate])


def _kept(trainer: Any) -> dict[str, str]:
    """Say which step's weights are kept, where training has ended with the best checkpoint."""
    args, state = trainer.args, trainer.state
    # The best step may have no checkpoint: then transformers loads the best that has one, or keeps the last step.
    if not getattr(args, "load_best_model_at_end", False) or trainer.is_in_train or not state.best_model_checkpoint:
        return {}
    step = Path(state.best_model_checkpoint).name.rpartition("-")[2]
    which = "" if step == str(state.best_global_step) else ", the best of those with a checkpoint"
    return {"kept": f"step {step}, by {args.metric_for_best_model}{which}"}
