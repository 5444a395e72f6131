"""What all trainers refuse: models that are one and the same, metrics of one name, options without their data."""

from collections.abc import Mapping, Sequence, Sized
from dataclasses import fields
from typing import Any

import torch
from accelerate.logging import get_logger
from torch import Tensor

from ..errors import ConfigurationError, ModelMismatchError
from ..losses.presets import needs_unlabelled

logger = get_logger(__name__)


def refuse_one_model_twice(old: Tensor, new: Tensor) -> None:
    """Refuse an old and a new model that give the same logits."""
    if torch.equal(old, new):
        raise ModelMismatchError(
            "The old and the new model give exactly the same logits: they are the same model, and there is no "
            "update to be compatible to. Check old_model, old_adapter, model and new_adapter."
        )


def refuse_same_names(metrics: Mapping[str, float], measured: Mapping[str, float]) -> None:
    """Refuse metrics of the user that have the names of flips."""
    both = sorted(metrics.keys() & measured.keys())
    if both:
        raise ConfigurationError(
            f"compute_metrics gives {', '.join(both)} of the evaluation set, and the flips data set gives "
            "the same names. Rename what compute_metrics returns."
        )


def refuse_evaluation_of_nothing(args: Any, evaluation: Any) -> None:
    """Refuse an evaluation set that `dataloader_drop_last` leaves out whole, and say of what it leaves out in part.

    `evaluation` is a set, several by their names, or None.
    """
    size = args.eval_batch_size * args.world_size
    for rows in evaluation.values() if isinstance(evaluation, Mapping) else [evaluation]:
        if not args.dataloader_drop_last or not isinstance(rows, Sized) or not len(rows) % size:
            continue
        if len(rows) < size:
            raise ConfigurationError(
                f"dataloader_drop_last leaves a last batch that is not full out of evaluations too, and {len(rows)} "
                f"rows are less than one batch of {size}. Lower per_device_eval_batch_size, or leave "
                "dataloader_drop_last out."
            )
        logger.warning(
            f"dataloader_drop_last leaves the last {len(rows) % size} of {len(rows)} rows out of evaluations too. "
            "Take a per_device_eval_batch_size that divides them, to evaluate on all."
        )


def refuse_options_without(args: Any, names: Sequence[str], data: str, also: str = "") -> None:
    """Refuse options of a config, by their names, that are not at their defaults and do nothing without some data.

    `also` says behind "Pass it to the trainer" in which other way it can be passed.
    """
    for option in fields(args):
        value = getattr(args, option.name)
        is_set = needs_unlabelled(value) if option.name == "preset" else value != option.default
        if option.name in names and is_set:
            raise ConfigurationError(
                f"{option.name}={value!r} would be ignored without {data}. Pass it to the trainer{also}, or leave the "
                "option out."
            )
