"""The teacher "product" in a training run: who needs its temperatures, what they are fitted on, and who keeps them."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import TrainerCallback

from ...errors import ConfigurationError
from ...losses.product import TemperatureFit
from ...models.processes import from_every_process, place
from ...models.sharding import is_sharded
from ..checkpoints.kept import state_of

logger = logging.getLogger(__name__)

LOGGED = ("product_temperature_old", "product_temperature_new")
"""Names of the fitted temperatures in the log, which each checkpoint brings along."""


def uses_product(args: Any) -> bool:
    """Tell whether a config names the product as a teacher."""
    return "product" in (getattr(args, "teacher", None), getattr(args, "unlabelled_teacher", None))


def check_product(args: Any) -> None:
    """Refuse temperatures without a product, and a product that the other options rule out."""
    if args.product_temperatures is not None and not uses_product(args):
        raise ConfigurationError(
            f"product_temperatures={args.product_temperatures!r} would be ignored without a product. Set "
            'teacher="product" or unlabelled_teacher="product", or leave it out.'
        )
    if args.unlabelled_teacher == "product" and getattr(args, "alignment", "tokens") == "chunks":
        raise ConfigurationError(
            'unlabelled_teacher="product" multiplies both models\' distributions, and two tokenizers have none in '
            'common. With alignment="chunks" take "old", "new" or "more_confident".'
        )


def check_validation(args: Any, evaluation: Any) -> None:
    """Refuse to fit temperatures on nothing; to be called before any model is loaded."""
    if not uses_product(args) or args.product_temperatures is not None:
        return
    sets = list(evaluation.values()) if isinstance(evaluation, Mapping) else [evaluation]
    if not sets or not all(isinstance(rows, Dataset) for rows in sets):
        got = ", ".join(sorted({type(rows).__name__ for rows in sets})) or "no set"
        raise ConfigurationError(
            "The temperatures of the product are fitted on eval_dataset, a datasets.Dataset or several by name; it is "
            f"{got}. Pass one, or give product_temperatures, such as [1.0, 1.0]."
        )


class ProductTemperatures(TrainerCallback):  # type: ignore[misc]  # transformers is taken as untyped
    """Finds the temperatures of a trainer's product once, and logs them in each training: checkpoints have its log.

    The trainer gives, for some rows of its evaluation sets, both teachers' logits, (tokens, vocabulary), and the gold
    tokens, a few at a time (`teacher_slices`).
    """

    def __init__(self, trainer: Any) -> None:
        """Start with nothing found; where temperatures are given, or nobody needs them, that is all."""
        self.trainer, args = trainer, trainer.args
        self.is_needed = uses_product(args) and args.product_temperatures is None
        self.found: tuple[float, float] | None = None
        if self.is_needed:
            trainer.add_callback(self)

    def take_up(self, checkpoint: Path) -> None:
        """Take those of a training that is gone on with, whatever the evaluation set is now."""
        history = (state_of(checkpoint) or {}).get("log_history", []) if self.is_needed else []
        logged = next((entry for entry in history if all(name in entry for name in LOGGED)), None)
        if logged is not None:
            self._put_in_place((logged[LOGGED[0]], logged[LOGGED[1]]))

    def make_ready(self) -> None:
        """Find the temperatures, unless they are found, and put them into the trainer's strategy."""
        if not self.is_needed or self.found is not None:
            return
        fits = self._fits()
        of_old, of_new = fits[0].temperature(), fits[1].temperature()
        logger.info(
            f"Product of both models: temperature {of_old:.4g} of the old model and {of_new:.4g} of the new one, "
            f"fitted on {fits[1].labels} labels of the evaluation set."
        )
        self._put_in_place((of_old, of_new))

    def _put_in_place(self, found: tuple[float, float]) -> None:
        self.found = found
        self.trainer.strategy = replace(self.trainer.strategy, product_temperatures=found)

    def _fits(self) -> tuple[TemperatureFit, ...]:
        """Ask both models about the evaluation sets, each process about its share of the rows."""
        trainer = self.trainer
        sets = trainer.eval_dataset if isinstance(trainer.eval_dataset, dict) else {"eval": trainer.eval_dataset}
        # Of models that are split over processes each asks about all rows, so that all ask at the same time.
        is_split = is_sharded(trainer.model) or trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
        first, step = (0, 1) if is_split else place()
        size = trainer.args.per_device_eval_batch_size

        def share() -> tuple[TemperatureFit, ...]:
            fits = TemperatureFit("old"), TemperatureFit("new")
            for rows in sets.values():
                mine = range(len(rows))[first::step]
                for start in range(0, len(mine), size):
                    for *logits, gold in trainer.teacher_slices([rows[row] for row in mine[start : start + size]]):
                        for fit, of_model in zip(fits, logits, strict=True):
                            fit.add(of_model, gold)
            return fits

        fits, *others = from_every_process(share)[:step]
        for of_process in others:
            for fit, other in zip(fits, of_process, strict=True):
                fit.take_over(other)
        return fits

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Log what was found, where the log does not have it yet."""
        if not any(LOGGED[0] in entry for entry in state.log_history):
            self.trainer.log(dict(zip(LOGGED, self.trainer.strategy.product_temperatures, strict=True)))
