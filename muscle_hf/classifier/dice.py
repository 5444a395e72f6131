"""Dice loss: overlap of predicted and gold classes, which easy common examples do not dominate as in cross-entropy.

"Dice Loss for Data-imbalanced NLP Tasks" (Li et al. 2020, arXiv 1911.02855). With p the probability of a class and y
whether it is the gold one, q = (1 - p)^a p and smoothing g, the loss of a class is

    1 - (2 q y + g) / (q + y + g)

of one example, or, with the sums of q y, q and y over a batch, of a set: then it is 1 - F1 where all p are 0 or 1 and
g = 0. Three things differ from the published code:

- (1 - p)^a is a constant weight by default. Its own gradient is infinite at p = 1, so that the published form turns
  to NaN there, and it turns round at p = 1 / (1 + a), from where on a right example is pushed to be less sure.
- The loss of a set, and its gradient, are those of the set. The published code of several classes divides single
  examples by the sums of the batch, so that the value stays near the number of classes and the gradient is 1/N.
- A set's loss is the mean over the classes that it has, as in segmentation_models.pytorch; a class that is no gold
  class there has nothing to overlap with.
"""

import logging
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigurationError, InputError, unknown_option
from ..losses.logits import log_softmax
from .labels import shown

logger = logging.getLogger(__name__)

LEVELS = {"example": "each example by itself", "batch": "the examples of a batch as one set"}
_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
FORMS = {"constant_weight": "(1 - p)^alpha weighs and is not differentiated", "published": "it is differentiated too"}


def dice_loss(
    logits: Tensor,
    gold: Tensor,
    *,
    alpha: float = 0.0,
    smoothing: float = 1.0,
    level: str = "example",
    squared: bool = False,
    ignored_classes: Collection[int] = (),
    detached: bool = True,
) -> Tensor:
    """Compute the dice loss of examples, or of a batch as one set (arXiv 1911.02855).

    Args:
        logits: float, (tokens, classes). Of the model in training.
        gold: int64, (tokens,). Gold classes.
        alpha: Exponent a in q = (1 - p)^a p, in [0, 1): easy examples count less. Defaults to 0.0: q = p.
        smoothing: g, added above and below. At level "example" it must be positive, since an example that is not of a
            class has no gradient without it. Defaults to 1.0.
        level: "example" (default): the sum over classes of each example's loss. "batch": the mean, over the classes
            that are gold somewhere in the batch, of the loss of the whole batch.
        squared: Take q^2 and y^2 below. Defaults to False.
        ignored_classes: Numbers of classes that are left out, such as that of "O". Defaults to ().
        detached: Let (1 - p)^a be a constant weight. False is the published form, whose gradient can be NaN. Defaults
            to True.

    Returns:
        float, (tokens,) at level "example"; a scalar at level "batch", 0 where no gold class is counted.

    Raises:
        ConfigurationError: A number out of range, a level that does not exist, or no class left.
        InputError: Shapes that do not fit, or a gold class that is none.

    Example:
        >>> even = torch.zeros(1, 2)  # p = .5: for the gold class 1 - 2/2.5, for the other one 1 - 1/1.5
        >>> dice_loss(even, torch.tensor([1]))
        tensor([0.5333])
        >>> dice_loss(even, torch.tensor([1]), ignored_classes=[0])
        tensor([0.2000])
    """
    _check_numbers(alpha, smoothing, level, "")
    if not isinstance(logits, Tensor) or not isinstance(gold, Tensor):
        raise InputError(f"Logits and gold classes are {type(logits)} and {type(gold)}; tensors are needed.")
    if gold.dtype not in _INTEGERS:
        raise InputError(f"Gold classes are of {gold.dtype}; their numbers are needed, as torch.int64.")
    if not isinstance(ignored_classes, Collection) or not all(type(number) is int for number in ignored_classes):
        raise InputError(f"ignored_classes={ignored_classes!r} must be a list of numbers of classes, such as [0].")
    if logits.dim() != 2 or gold.shape != logits.shape[:1]:
        raise InputError(
            f"Logits of shape {tuple(logits.shape)} and gold classes of shape {tuple(gold.shape)} do not fit; "
            "(tokens, classes) and (tokens,) are needed."
        )
    classes = logits.shape[-1]
    for numbers, what in ((gold.tolist(), "gold class"), (ignored_classes, "ignored class")):
        if unknown := sorted({number for number in numbers if not 0 <= number < classes}):
            raise InputError(f"There is no {what} {unknown[0]}: the logits have {classes}, from 0.")
    counted = _counted_classes(classes, ignored_classes)
    return _loss(logits, gold, counted, _Form(alpha, smoothing, level, squared, detached), None)


@dataclass(frozen=True)
class _Form:
    alpha: float
    smoothing: float
    level: str
    squared: bool
    detached: bool


def _counted_classes(classes: int, ignored: Collection[int]) -> list[int]:
    counted = [number for number in range(classes) if number not in set(ignored)]
    if not counted:
        raise ConfigurationError("All classes are ignored, which leaves nothing for a dice loss. Ignore fewer.")
    return counted


def _loss(logits: Tensor, gold: Tensor, counted: Sequence[int], form: _Form, weights: Tensor | None) -> Tensor:
    """Compute the loss; `weights`, (tokens,), say how often each example counts in a set."""
    number = torch.tensor(counted, device=logits.device)
    probability = log_softmax(logits, 1.0).exp()[:, number]
    is_gold = (gold[:, None] == number).to(probability)
    if form.alpha:
        rest = 1 - probability
        probability = (rest.detach() if form.detached else rest) ** form.alpha * probability
    both = probability * is_gold
    each = probability**2 + is_gold if form.squared else probability + is_gold  # 1^2 is 1
    if form.level == "example":
        return (1 - (2 * both + form.smoothing) / (each + form.smoothing)).sum(-1)
    if weights is not None:
        both, each = both * weights[:, None], each * weights[:, None]
        is_gold = is_gold * weights[:, None]
    there = is_gold.sum(0) > 0
    of_classes = 1 - (2 * both.sum(0)[there] + form.smoothing) / (each.sum(0)[there] + form.smoothing)
    return of_classes.sum() / there.sum().clamp(min=1)


def _check_numbers(alpha: float, smoothing: float, level: str, prefix: str) -> None:
    for name, value in (("alpha", alpha), ("smoothing", smoothing)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ConfigurationError(f"{prefix}{name}={value!r} must be a finite number.")
    if level not in LEVELS:
        raise unknown_option(f"{prefix}level", level, LEVELS)
    if not 0 <= alpha < 1:
        raise ConfigurationError(
            f"{prefix}alpha={alpha!r} must lie in [0, 1): from 1 on the loss is lowest where the gold class has half "
            "of the probability or less. The published code takes .001 to .1."
        )
    if level == "example" and smoothing <= 0:
        raise ConfigurationError(
            f'{prefix}smoothing={smoothing!r} must be positive with {prefix}level="example": without it the loss of a '
            "class that an example is not of is 1 whatever its probability, and teaches nothing. The default is 1.0."
        )
    if smoothing < 0:
        raise ConfigurationError(f"{prefix}smoothing={smoothing!r} must be 0 or more; the default is 1.0.")


@dataclass(frozen=True)
class DiceOptions:
    """The dice part of a classifier's task term, checked as a whole before any model is loaded.

    Args:
        weight: m in (1 - m) cross-entropy + m dice, in (0, 1].
        alpha: As in [`dice_loss`], likewise `smoothing` and `level`.
        ignored_classes: Names of classes that are left out.
        form: A key of `FORMS`.
    """

    weight: float
    alpha: float
    smoothing: float
    level: str
    ignored_classes: tuple[str, ...]
    form: str

    @classmethod
    def of(cls, config: Any) -> "DiceOptions | None":
        """Read and check the options of a config, named `dice_weight` and so on; None where the weight is 0."""
        weight, ignored = config.dice_weight, config.dice_ignored_classes
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight <= 1:
            raise ConfigurationError(
                f"dice_weight={weight!r} must be a number in [0, 1]: 0 is cross-entropy alone, 1 the dice loss alone."
            )
        _check_numbers(config.dice_alpha, config.dice_smoothing, config.dice_level, "dice_")
        if config.dice_form not in FORMS:
            raise unknown_option("dice_form", config.dice_form, FORMS)
        if ignored is not None and (
            not isinstance(ignored, list | tuple) or not all(isinstance(name, str) for name in ignored)
        ):
            raise ConfigurationError(
                f'dice_ignored_classes={ignored!r} must be a list of names of classes, such as ["O"].'
            )
        if weight == 0:
            _refuse_unused(config)
            return None
        if config.cross_entropy_weight == 0:
            raise ConfigurationError(
                f"dice_weight={weight!r} would be ignored with cross_entropy_weight=0: it is the part of the dice "
                "loss in what is learned from gold classes. Set cross_entropy_weight, to 0.5 for example."
            )
        if config.dice_form == "published" and config.dice_alpha == 0:
            raise ConfigurationError(
                'dice_form="published" would be ignored with dice_alpha=0, where both forms are one. Leave it out.'
            )
        return cls(
            weight, config.dice_alpha, config.dice_smoothing, config.dice_level, tuple(ignored or ()), config.dice_form
        )

    def term(self, classes: Sequence[str]) -> "DiceTerm":
        """Find the classes by their names, in the order of the logits."""
        for name in self.ignored_classes:
            if name not in classes:
                raise ConfigurationError(
                    f"dice_ignored_classes has {name!r}, which is no class of the new model; it has {shown(classes)}."
                )
        ignored = [number for number, name in enumerate(classes) if name in self.ignored_classes]
        form = _Form(self.alpha, self.smoothing, self.level, squared=False, detached=self.form == "constant_weight")
        return DiceTerm(self.weight, _counted_classes(len(classes), ignored), form)


def warn_of_pieces(options: DiceOptions, args: Any) -> None:
    """Warn where the sets of level "batch" are pieces of what an optimizer step takes, or single rows."""
    pieces = args.gradient_accumulation_steps * args.world_size
    if options.level == "batch" and pieces > 1:
        logger.warning(
            f'dice_level="batch" takes each of the {pieces} pieces of an optimizer step '
            f"({args.gradient_accumulation_steps} accumulated, {args.world_size} process(es)) as a set of "
            f"{args.train_batch_size} rows, and the dice loss of a whole is not the mean of its pieces'. Raise "
            "per_device_train_batch_size in their place where memory allows."
        )
    elif options.level == "batch" and args.train_batch_size == 1:
        logger.warning(
            'dice_level="batch" takes the one row of a batch as a set, so that a rare class is never seen beside the '
            'others. Raise per_device_train_batch_size above 1, or take dice_level="example".'
        )


def _refuse_unused(config: Any) -> None:
    for option in fields(config):
        is_of_dice = option.name.startswith("dice_") and option.name != "dice_weight"
        value = getattr(config, option.name)
        if is_of_dice and value != option.default:
            raise ConfigurationError(
                f"{option.name}={value!r} would be ignored with dice_weight=0. Leave it out, or set dice_weight."
            )


@dataclass(frozen=True)
class DiceTerm:
    """What a trainer learns from gold classes: (1 - m) cross-entropy + m dice."""

    weight: float
    counted: list[int]
    form: _Form

    def __call__(self, cross_entropy: Tensor, student: Tensor, gold: Tensor, counts: Tensor | None) -> Tensor:
        """Return the term of each token from its cross-entropy, float, (tokens,).

        Of a set each token gets the loss of the whole, so that a sum over n tokens is n times that. `counts`, float,
        (tokens,), is how much each token counts, at 0 not at all; their mean is made 1, since smoothing is a count.
        """
        if counts is not None:
            counts = counts * (counts > 0).sum() / counts.sum().clamp(min=torch.finfo(counts.dtype).tiny)
        dice = _loss(student, gold, self.counted, self.form, counts)
        return dice.expand_as(cross_entropy) if self.weight == 1 else cross_entropy.lerp(dice, self.weight)
