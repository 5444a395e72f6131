"""The options of the compatibility trainer."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from trl import SFTConfig

from .errors import ConfigurationError
from .losses import DIVERGENCES, MASKS, validate_options


@dataclass
class CompatibilityConfig(SFTConfig):  # type: ignore[misc]  # trl is untyped
    """Options of [`CompatibilityTrainer`]: every option of [`trl.SFTConfig`], and those of the method.

    The defaults of the method's options are those of MUSCLE (arXiv 2407.09435, section 4.1 and appendix A). The
    paper's epochs (10), warm-up (500 steps) and gradient accumulation (8) depend on the size of the data and are left
    to the parent's defaults.

    Args:
        mask: Which tokens learn from the old model; the others learn from the new one. "student_wrong" (the
            method, default), "old_right", "token_likelihood", "sequence_likelihood" (the paper's ablations, section
            6.5), or "none" (every token learns from the old model).
        divergence: How far the student is from its teacher: "forward_kl" (the method, default), "reverse_kl" or
            "logit_difference_inhibition".
        temperature: Divides all logits in the divergence. Defaults to 2.0.
        scale_by_temperature_squared: Multiply the divergence by T^2, which keeps the size of gradients as T grows.
            Defaults to False, as in the paper.
        cross_entropy_weight: 1 - lambda of Eq. 5, in [0, 1): the weight of the cross-entropy on the gold tokens; the
            compatibility loss gets the rest. Defaults to 0.0.

        > Parameters that control the old model

        old_model_init_kwargs: Keyword arguments for `from_pretrained`, used where `old_model` is an id or a path. A
            `revision` pins the old base. Defaults to None: the same `dtype`, `attn_implementation` and
            `quantization_config` as in `model_init_kwargs`.

    > [!NOTE]
    > These parameters have default values different from [`trl.SFTConfig`]:
    > - `learning_rate`: Defaults to `1e-4` instead of `2e-5` (Table 8 of the paper).
    > - `completion_only_loss`: Defaults to `False` instead of `None`: the paper trains on context and answer (A.1).
    >   Set it to `True` to train on the completion alone, or to `None` for the parent's choice by data set.

    Raises:
        ConfigurationError: An unknown mask or divergence, a number out of range, an option of the parent that the
            compatibility loss would ignore (`loss_type`, `label_smoothing_factor`).

    Example:
        >>> CompatibilityConfig(output_dir="out", bf16=False, use_cpu=True, report_to="none").temperature
        2.0
    """

    _VALID_DICT_FIELDS: ClassVar[list[str]] = [*SFTConfig._VALID_DICT_FIELDS, "old_model_init_kwargs"]

    learning_rate: float = field(default=1e-4, metadata={"help": "The initial learning rate for AdamW."})
    completion_only_loss: bool | None = field(
        default=False,
        metadata={
            "help": "Whether to train on the completion alone. `False` trains on prompt and completion, as the paper "
            "does; `None` chooses by the data set, as `SFTConfig` does."
        },
    )

    mask: str = field(
        default="student_wrong",
        metadata={"help": "Which tokens learn from the old model.", "choices": list(MASKS)},
    )
    divergence: str = field(
        default="forward_kl",
        metadata={"help": "Divergence between teacher and student.", "choices": list(DIVERGENCES)},
    )
    temperature: float = field(default=2.0, metadata={"help": "Divides all logits in the divergence."})
    scale_by_temperature_squared: bool = field(
        default=False, metadata={"help": "Multiply the divergence by the squared temperature."}
    )
    cross_entropy_weight: float = field(
        default=0.0, metadata={"help": "Weight of the cross-entropy, 1 - lambda of the paper's Eq. 5."}
    )
    old_model_init_kwargs: dict[str, Any] | str | None = field(
        default=None,
        metadata={"help": "Keyword arguments for `from_pretrained` of the old model, when it is given as a string."},
    )

    def __post_init__(self) -> None:
        """Check the options before any model is loaded."""
        validate_options(self.mask, self.divergence, self.temperature, self.cross_entropy_weight)
        if self.cross_entropy_weight == 1:
            raise ConfigurationError(
                "cross_entropy_weight=1.0 leaves no weight for either teacher; use trl.SFTTrainer for plain "
                "fine-tuning, or a weight below 1."
            )
        super().__post_init__()
        if self.loss_type != "nll":
            raise ConfigurationError(
                f"loss_type={self.loss_type!r} would be ignored: the compatibility loss takes its place. Leave it at "
                "its default and choose with `mask`, `divergence` and `cross_entropy_weight`."
            )
        if self.label_smoothing_factor:
            raise ConfigurationError(
                f"label_smoothing_factor={self.label_smoothing_factor} would be ignored: teachers take the place of "
                "smoothed labels. Set it to 0."
            )
