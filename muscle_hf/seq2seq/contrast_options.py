"""Options of the contrastive term (CLAPS), and what they cannot be combined with."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from ..errors import ConfigurationError, InputError
from ..losses.logits import IGNORE_INDEX
from ..training.loss.two_goals import compares_gradients


@dataclass
class ContrastOptions:
    """The fields of the contrastive term as options of a trainer's config, which inherits from this."""

    contrastive_weight: float = field(
        default=0.0, metadata={"help": "Weight of the contrastive loss of CLAPS, which is added to the loss; 0: none."}
    )
    contrastive_temperature: float = field(
        default=0.1, metadata={"help": "Divides the cosines of the contrastive loss."}
    )
    negative_perturbation: float = field(
        default=1.0, metadata={"help": "How far an imposter is from its target, in mean norms of decoder states."}
    )
    positive_perturbation: float = field(
        default=3.0, metadata={"help": "Both moves of a distant target, in mean norms of decoder states."}
    )
    contrast_flips: bool = field(
        default=False,
        metadata={"help": "The texts of `rejected` and `chosen` are further negatives and positives."},
    )

    def check_contrast(self) -> None:
        """Refuse what cannot be, or would be ignored; called before any model is loaded."""
        of_contrast = fields(ContrastOptions)
        for option in of_contrast:
            value = getattr(self, option.name)
            if option.name == "contrast_flips":
                continue
            is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            if not is_number or value < 0 or (value == 0 and option.name != "contrastive_weight"):
                bound = "of 0 or more" if option.name == "contrastive_weight" else "above 0"
                raise ConfigurationError(f"{option.name}={value!r} must be a number {bound}.")
        if self.contrastive_weight == 0:
            for option in of_contrast:
                if getattr(self, option.name) != option.default:
                    raise ConfigurationError(
                        f"{option.name}={getattr(self, option.name)!r} would be ignored: contrastive_weight is 0. Set "
                        "contrastive_weight, such as 1.0, or leave it out."
                    )
        elif compares_gradients(self):
            raise ConfigurationError(
                "gradient_conflict and log_gradient_cosine know two goals, and the contrastive loss would be a third. "
                "Leave one of them out."
            )


def check_contrast_of_run(
    args: Any, labels: Sequence[Sequence[int]], optimizers: tuple[Any, Any] = (None, None)
) -> None:
    """Refuse ways of training that the contrastive term does not go with; `labels` are those of the rows.

    Every batch of it needs two rows, and every row something to say.
    """
    if args.contrastive_weight == 0:
        return
    if any(part is not None for part in optimizers):
        raise ConfigurationError(
            "An optimizer of your own would not train the projection of the contrastive loss. Choose it with `optim` "
            "and `optim_args`."
        )
    if args.world_size > 1:
        raise ConfigurationError(
            "contrastive_weight trains in one process: each of several would have negatives and a projection of its "
            "own. Take a larger batch in one process."
        )
    if args.gradient_checkpointing and (args.gradient_checkpointing_kwargs or {}).get("use_reentrant"):
        raise ConfigurationError(
            "contrastive_weight takes gradients of inner losses, which reentrant checkpointing does not allow. Set "
            'gradient_checkpointing_kwargs={"use_reentrant": False}.'
        )
    if len(labels) == 1:
        raise ConfigurationError(
            "The train set has one row, and contrastive_weight compares several. Add rows, or leave it out."
        )
    size = args.train_batch_size
    rest = 0 if args.dataloader_drop_last else len(labels) % size
    if size < 2 or rest == 1:
        what = "Batches of 1" if size < 2 else f"{len(labels)} rows leave one for the last batch of {size}, which"
        raise ConfigurationError(
            f"{what} have no other target to tell the right one from, which contrastive_weight needs. Take another "
            "per_device_train_batch_size" + (", or dataloader_drop_last=True." if size > 1 else " of 2 or more.")
        )
    for number, row in enumerate(labels):
        if all(label == IGNORE_INDEX for label in row):
            raise InputError(
                f"Row {number} of the train set has no token to train on, and the contrastive loss compares all rows "
                "of a batch. Leave it out."
            )
