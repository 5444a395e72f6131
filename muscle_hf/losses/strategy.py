"""A training strategy: mask, teacher, divergence and weights, checked as a whole before any model is loaded."""

import math
from dataclasses import dataclass, field, fields

from ..errors import ConfigurationError, unknown_option
from .divergences import DIVERGENCES
from .masks import MASKS, Mask
from .perpendicular import CONFLICTS
from .presets import PRESETS

# What the marked tokens learn from.
TEACHERS = {
    "old": "the old model (MUSCLE, Eq. 1)",
    "new": "the new model: self-distillation, a control",
    "ensemble": "mean of both models' probabilities",
    "log_ensemble": "mean of both models' logits, as in ELODI",
    "more_confident": "for each token the model whose likeliest token is likelier",
    "product": "product of both models' probabilities, each at its own temperature",
    "perpendicular": "the new model, and of the old one's logits what these do not have (experimental)",
}


@dataclass(frozen=True)
class Strategy:
    """Which token learns from whom, how, and how much. The defaults are the paper's Eq. 1.

    The tokens that `mask` marks learn from `teacher`, all others from the new model:

        L_i = w_i * ((1 - c) * f_i * D(teacher_i, student_i) + c * CE_i)

    with c = `cross_entropy_weight`, f_i = `focal_alpha` + `focal_beta` * 1[old model right], and w_i the weight of the
    instance.

    Args:
        mask: Which tokens learn from `teacher`: a key of `MASKS`, or a function from [`Scores`] to bool, (tokens,).
        divergence: A key of `DIVERGENCES`.
        teacher: What the marked tokens learn from, a key of `TEACHERS`.
        temperature: Divides all logits in the divergence, never in the mask or the cross-entropy.
        scale_by_temperature_squared: Multiply the divergence by T^2, as Hinton's distillation does and the paper does
            not.
        cross_entropy_weight: 1 - lambda of Eq. 5: the loss is lambda * divergence + (1 - lambda) * cross-entropy,
            lambda in [0, 1].
        jensen_shannon_beta: Of the divergence "jensen_shannon", in (0, 1).
        focal_alpha: Weight of every token's divergence (PCT, arXiv 2011.09161: 1).
        focal_beta: Added to it where the old model is right (PCT: 5). The default, 0, is no focus.
        product_temperatures: Those of the old and the new model in the teacher "product",
            softmax(z_old / T_old + z_new / T_new); `temperature` divides its logits as those of all others.
        teacher_weight: w of the teacher "perpendicular", z_new + w * perp(z_old; z_new), larger than 0.
        gradient_conflict: How the gradients of divergence and cross-entropy are put together, a key of `CONFLICTS`;
            a trainer does it. Both others than "sum" are experimental.

    Raises:
        ConfigurationError: A name that does not exist (with the nearest one that does), a number out of range, or
            options of which one would be ignored.

    Example:
        >>> Strategy(mask="none", focal_beta=5.0).teacher  # focal distillation (PCT)
        'old'
    """

    mask: str | Mask = "student_wrong"
    divergence: str = "forward_kl"
    teacher: str = "old"
    temperature: float = 2.0
    scale_by_temperature_squared: bool = False
    cross_entropy_weight: float = 0.0
    jensen_shannon_beta: float = 0.5
    focal_alpha: float = 1.0
    focal_beta: float = 0.0
    product_temperatures: tuple[float, float] = (1.0, 1.0)
    teacher_weight: float = 1.0
    gradient_conflict: str = "sum"

    def __post_init__(self) -> None:
        """Check every option, alone and against the others."""
        if isinstance(self.mask, str):
            if self.mask not in MASKS:
                raise unknown_option("mask", self.mask, MASKS)
        elif not callable(self.mask):
            raise ConfigurationError(
                f"mask={self.mask!r} must be one of {sorted(MASKS)}, or a function from Scores to one bool a token."
            )
        if self.divergence not in DIVERGENCES:
            raise unknown_option("divergence", self.divergence, DIVERGENCES)
        if self.teacher not in TEACHERS:
            raise unknown_option("teacher", self.teacher, TEACHERS)
        if self.gradient_conflict not in CONFLICTS:
            raise unknown_option("gradient_conflict", self.gradient_conflict, CONFLICTS)
        for option in fields(self):
            value = getattr(self, option.name)
            if option.type is float and (isinstance(value, bool) or not isinstance(value, int | float)):
                raise ConfigurationError(f"{option.name}={value!r} is a {type(value).__name__}; a number is needed.")
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise ConfigurationError(
                f"temperature={self.temperature!r} must be a positive number; the paper's is 2.0."
            )
        if not 0 <= self.cross_entropy_weight <= 1:
            raise ConfigurationError(
                f"cross_entropy_weight={self.cross_entropy_weight!r} must lie in [0, 1]: 0 is Eq. 1 alone, 1 is plain "
                "fine-tuning without either teacher."
            )
        if not 0 < self.jensen_shannon_beta < 1:
            raise ConfigurationError(
                f"jensen_shannon_beta={self.jensen_shannon_beta!r} must lie between 0 and 1; the limits are the "
                'divergences "forward_kl" and "reverse_kl".'
            )
        for name in ("focal_alpha", "focal_beta"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ConfigurationError(f"{name}={value!r} must be a number of 0 or more; PCT takes 1 and 5.")
        if self.focal_alpha == self.focal_beta == 0:
            raise ConfigurationError("focal_alpha and focal_beta are both 0, which leaves no weight for any teacher.")
        if len(self.product_temperatures) != 2 or not all(map(_is_positive, self.product_temperatures)):
            raise ConfigurationError(
                f"product_temperatures={self.product_temperatures!r} must be two positive numbers, the temperatures "
                "of the old and the new model, such as (1.0, 1.0)."
            )
        if not _is_positive(self.teacher_weight):
            raise ConfigurationError(
                f"teacher_weight={self.teacher_weight!r} must be a positive number: 0 would be the new model alone, "
                'which teacher="new" is.'
            )
        self._refuse_what_would_be_ignored()

    def _refuse_what_would_be_ignored(self) -> None:
        if self.jensen_shannon_beta != 0.5 and self.divergence != "jensen_shannon":
            raise ConfigurationError(
                f"jensen_shannon_beta={self.jensen_shannon_beta!r} would be ignored by "
                f'divergence={self.divergence!r}. Leave it out, or set divergence="jensen_shannon".'
            )
        if self.teacher_weight != 1 and self.teacher != "perpendicular":
            raise ConfigurationError(
                f"teacher_weight={self.teacher_weight!r} would be ignored by teacher={self.teacher!r}. Leave it out, "
                'or set teacher="perpendicular".'
            )
        if self.gradient_conflict != "sum" and not 0 < self.cross_entropy_weight < 1:
            raise ConfigurationError(
                f"gradient_conflict={self.gradient_conflict!r} needs two goals, and with cross_entropy_weight="
                f"{self.cross_entropy_weight!r} there is one. Set a weight between 0 and 1, such as 0.5."
            )
        if self.teacher == "new" and self.mask != "none":
            raise ConfigurationError(
                f'teacher="new" would make mask={self.mask!r} meaningless, since unmarked tokens learn from the new '
                'model too. Set mask="none": every token learns from the new model.'
            )
        if self.teacher == "ensemble" and self.divergence == "logit_difference_inhibition":
            raise ConfigurationError(
                'A mean of probabilities has no logits to compare: with divergence="logit_difference_inhibition" take '
                'teacher="log_ensemble", the mean of the logits, as ELODI does.'
            )


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


@dataclass
class StrategyOptions:
    """The fields of [`Strategy`] as options of a trainer's config, which inherits from this."""

    preset: str | None = field(
        default=None,
        metadata={"help": "Options that did well together on updates of real models.", "choices": list(PRESETS)},
    )
    mask: str = field(
        default="student_wrong", metadata={"help": "Which tokens learn from `teacher`.", "choices": list(MASKS)}
    )
    divergence: str = field(
        default="forward_kl",
        metadata={"help": "Divergence between teacher and student.", "choices": list(DIVERGENCES)},
    )
    teacher: str = field(
        default="old", metadata={"help": "What the marked tokens learn from.", "choices": list(TEACHERS)}
    )
    temperature: float = field(default=2.0, metadata={"help": "Divides all logits in the divergence."})
    scale_by_temperature_squared: bool = field(
        default=False, metadata={"help": "Multiply the divergence by the squared temperature."}
    )
    cross_entropy_weight: float = field(
        default=0.0, metadata={"help": "Weight of the cross-entropy, 1 - lambda of the paper's Eq. 5."}
    )
    jensen_shannon_beta: float = field(
        default=0.5, metadata={"help": "Of the divergence `jensen_shannon`, between 0 and 1."}
    )
    focal_alpha: float = field(default=1.0, metadata={"help": "Weight of every divergence (PCT)."})
    focal_beta: float = field(
        default=0.0, metadata={"help": "Added to `focal_alpha` where the old model is right (PCT); 0: no focus."}
    )
    product_temperatures: list[float] | None = field(
        default=None,
        metadata={"help": "Of the old and the new model in `product`; by default fitted on the evaluation set."},
    )
    teacher_weight: float = field(
        default=1.0, metadata={"help": "How much of the old model `perpendicular` adds to the new one."}
    )
    gradient_conflict: str = field(
        default="sum",
        metadata={"help": "How gradients of both goals are put together; experimental.", "choices": list(CONFLICTS)},
    )
    log_gradient_cosine: bool = field(
        default=False, metadata={"help": "Log the angle between the gradients of task and compatibility loss."}
    )

    def strategy(self, mask: Mask | None = None) -> Strategy:
        """Return the checked strategy; temperatures of the product that are to be fitted are 1 in it.

        Args:
            mask: A function of one's own in place of the option `mask`.

        Raises:
            ConfigurationError: As in [`Strategy`]; or a weight of 1.0 for the cross-entropy, which leaves none for a
                teacher; or two masks.
        """
        options = {option.name: getattr(self, option.name) for option in fields(Strategy)}
        options["product_temperatures"] = tuple(self.product_temperatures or (1.0, 1.0))
        if mask is not None:
            if self.mask != "student_wrong":
                raise ConfigurationError(
                    f"mask={self.mask!r} in the config would be ignored beside a mask of your own. Leave one of them "
                    "out."
                )
            options["mask"] = mask
        try:
            strategy = Strategy(**options)
        except ConfigurationError as error:
            if self.preset is None:
                raise
            by_preset = ", ".join(sorted(PRESETS[self.preset]))
            raise ConfigurationError(
                f"{error} preset={self.preset!r} sets {by_preset}, where they are at their defaults."
            ) from None
        if strategy.cross_entropy_weight == 1:
            raise ConfigurationError(
                "cross_entropy_weight=1.0 leaves no weight for either teacher; use trl.SFTTrainer or "
                "transformers.Trainer for plain fine-tuning, or a weight below 1."
            )
        return strategy
