"""The options of the compatibility trainer for classifiers."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from transformers import TrainingArguments

from ..errors import ConfigurationError, unknown_option
from ..flips.eval_metrics import better_when_greater, check_min_accuracy, direction_of_best
from ..losses.presets import apply_preset
from ..losses.strategy import StrategyOptions
from ..training.loss.product import check_product
from ..training.loss.two_goals import check_two_goals
from ..training.options.arguments import PLACED, RENAMED, checks_arguments
from ..training.options.precision import bf16_of_device
from ..training.options.secrets import WithoutTokens
from ..training.rows.unlabelled import UNLABELLED_TEACHERS, check_ratio
from .dice import FORMS, LEVELS, DiceOptions

TEACHER_CACHES = {"none": "the teachers are asked at each step", "memory": "they are asked once about each row"}

# Arguments of the trainer that are tried here.
_OF_TRAINER = (*PLACED, "old_processing_class", "unlabelled_dataset", "quantization_config")


@checks_arguments(RENAMED, elsewhere=lambda: {"CompatibilityClassifierTrainer({}=…)": _OF_TRAINER})
@dataclass(repr=False)
class CompatibilityClassifierConfig(WithoutTokens, StrategyOptions, TrainingArguments):  # type: ignore[misc]  # untyped
    """Options of [`CompatibilityClassifierTrainer`]: all of [`transformers.TrainingArguments`], and the method's.

    The defaults of the method's options are those of MUSCLE (arXiv 2407.09435, section 4.1), as in
    [`CompatibilityConfig`]; a token there is an instance here, or a word in token classification.

    Args:
        preset: Options that did well together on updates of real models; see docs/evidence.md. "focal" takes mask
            "none", focal_beta 5.0 and cross_entropy_weight 0.5; "focal_product" the same with unlabelled_teacher
            "product". "product" takes mask "none", teacher "new", temperature 1.0, cross_entropy_weight 0.5 and
            unlabelled_teacher "product"; "more_confident" the same with unlabelled_teacher "more_confident". All but
            "focal" need `unlabelled_dataset`. Another option that is not at its default wins. Defaults to None: the
            paper's method.
        mask: Which instances learn from `teacher`; the others learn from the new model. "student_wrong" (the method,
            default), "new_wrong", "old_right", "old_better", "token_likelihood", "sequence_likelihood",
            "negative_flip", or "none" (every instance). A function of your own goes to the trainer as `mask`.
        divergence: How far the student is from its teacher: "forward_kl" (the method, default), "reverse_kl",
            "jensen_shannon" or "logit_difference_inhibition".
        teacher: What the marked instances learn from: "old" (the method, default), "new", "ensemble" (mean
            probability), "log_ensemble" (mean logit), "more_confident", "product" (of both models' probabilities), or
            "perpendicular" (the new model, and what the old one's logits have that these do not; experimental).
        temperature: Divides all logits in the divergence. Defaults to 2.0.
        scale_by_temperature_squared: Multiply the divergence by T^2. Defaults to False, as in the paper.
        cross_entropy_weight: 1 - lambda of Eq. 5, in [0, 1): the weight of the cross-entropy on the gold classes; the
            compatibility loss gets the rest. Defaults to 0.0.
        jensen_shannon_beta: Of the divergence "jensen_shannon". Defaults to 0.5.
        focal_alpha: Weight of every instance's divergence. Defaults to 1.0.
        focal_beta: Added to it where the old model is right; PCT takes 5. Defaults to 0.0: no focus.
        product_temperatures: Those of the old and the new model in "product", softmax(z_old / T_old + z_new / T_new).
            Defaults to None: fitted before training, by the likelihood of the gold classes of `eval_dataset`.
        teacher_weight: How much of the old model's logits the teacher "perpendicular" adds. Defaults to 1.0.
        gradient_conflict: How the gradients of cross-entropy and compatibility loss are put together: "sum" (default),
            "accuracy_first" or "project_both"; the latter two are experimental. They take a second backward pass and a
            copy or two of the gradient, and work in one process.
        log_gradient_cosine: Log `gradient_cosine` and `share_of_conflicts`, at the same cost, with the same weights as
            without. Defaults to False; with another `gradient_conflict` than "sum" they are logged anyway.

        > Parameters that control what is learned from gold classes

        dice_weight: m in [0, 1]: the cross-entropy is replaced by (1 - m) cross-entropy + m [`dice_loss`] (arXiv
            1911.02855), which asks for `cross_entropy_weight` above 0. Defaults to 0.0.
        dice_alpha: Exponent in (1 - p)^alpha p, in [0, 1): easy instances count less. Defaults to 0.0.
        dice_smoothing: Added above and below the fraction, and positive at level "example". Defaults to 1.0.
        dice_level: "example" (default): each instance or word by itself. "batch": those of a batch as one set, which
            balances classes; with gradient accumulation or several processes a set is the piece that a process has at
            once, and a warning says so.
        dice_ignored_classes: Names of classes of the new model that the dice loss leaves out, such as `["O"]`.
            Defaults to None: no class.
        dice_form: "constant_weight" (default): (1 - p)^alpha weighs and is not differentiated. "published": it is
            differentiated, as in the paper, which turns to NaN where the model is certain.

        > Parameters that control the data

        text_column: Column of texts, or, in token classification, of lists of words. Defaults to None: the one column
            "text" or "sentence", or the one pair of text and text_pair, sentence1 and sentence2, premise and
            hypothesis, question and sentence, question1 and question2; for words "tokens" or "words".
        text_pair_column: Column of second texts. Defaults to None: that of the pair that was found, and none beside a
            `text_column` of your own.
        label_column: Column of gold classes. Defaults to None: the one among "labels", "label", and, in token
            classification, "ner_tags", "pos_tags", "chunk_tags", "tags" that is there.
        weight_column: A column of the training set with a number for each row, which multiplies the row's loss.
            Defaults to None.
        max_length: Longest input, in tokens, of each model by its own tokenizer. What is cut off is counted in a
            warning. Defaults to None: what each model can take.
        new_label_names: Names of the new model's classes, in the order of its logits. Defaults to None: those of its
            config.
        old_label_names: Names of the old model's classes, likewise.

        > Parameters that control unlabelled texts

        unlabelled_teacher: Whom the rows of `unlabelled_dataset` learn from, by the whole distribution and without
            cross-entropy: "old" (default), "new", "more_confident" or "product". A log's classes, the old model's, are
            learned by cross-entropy alone.
        unlabelled_ratio: Unlabelled rows for each labelled row. Defaults to None: every unlabelled row once an epoch.

        > Parameters that control the models

        model_init_kwargs: Keyword arguments for `from_pretrained`, used where `model` is an id or a path. Defaults to
            None.
        old_model_init_kwargs: Likewise for `old_model`. Defaults to None: the same `dtype`, `attn_implementation`,
            `quantization_config` and `trust_remote_code` as in `model_init_kwargs`.

        > Parameters that control memory and speed

        teacher_cache: "memory" asks the teachers once about each row of the training set and keeps their logits, 4
            bytes for each class of either model and each instance or word, in each process those of the rows that it
            has met. A training that is gone on with asks again, and its weights are then the same up to rounding.
            "none" (default) asks at each step.

        > Parameters that control flips in the loop

        min_accuracy: A checkpoint whose `eval_accuracy` is lower is never the best one. Defaults to None.

    > [!NOTE]
    > These parameters have default values different from [`transformers.TrainingArguments`]:
    > - `greater_is_better`: Defaults to `False` also where `metric_for_best_model` names a rate of negative flips.

    Raises:
        ConfigurationError: A name that does not exist, a number out of range, options of which one would be ignored,
            an option of the parent that the compatibility loss would ignore (`label_smoothing_factor`), or what the
            parent refuses.
        ArgumentError: An option that does not exist, with what to write instead.

    Example:
        >>> config = CompatibilityClassifierConfig(
        ...     output_dir="out", metric_for_best_model="negative_flip_rate", use_cpu=True, report_to="none"
        ... )
        >>> config.temperature, config.greater_is_better
        (2.0, False)
    """

    _VALID_DICT_FIELDS: ClassVar[list[str]] = [
        *TrainingArguments._VALID_DICT_FIELDS,
        "model_init_kwargs",
        "old_model_init_kwargs",
    ]

    dice_weight: float = field(
        default=0.0, metadata={"help": "Part of the dice loss in what is learned from gold classes."}
    )
    dice_alpha: float = field(default=0.0, metadata={"help": "Exponent in (1 - p)^alpha p of the dice loss."})
    dice_smoothing: float = field(default=1.0, metadata={"help": "Smoothing of the dice loss."})
    dice_level: str = field(
        default="example",
        metadata={"help": "Whether the dice loss takes instances or a batch.", "choices": list(LEVELS)},
    )
    dice_ignored_classes: list[str] | None = field(
        default=None, metadata={"help": "Names of classes that the dice loss leaves out."}
    )
    dice_form: str = field(
        default="constant_weight",
        metadata={"help": "Whether (1 - p)^alpha is differentiated.", "choices": list(FORMS)},
    )
    text_column: str | None = field(
        default=None, metadata={"help": "Column of texts, or of lists of words in token classification."}
    )
    text_pair_column: str | None = field(default=None, metadata={"help": "Column of second texts."})
    label_column: str | None = field(default=None, metadata={"help": "Column of gold classes."})
    weight_column: str | None = field(
        default=None, metadata={"help": "Column of the training set whose number multiplies the loss of its row."}
    )
    max_length: int | None = field(
        default=None, metadata={"help": "Longest input in tokens; by default what each model can take."}
    )
    new_label_names: list[str] | None = field(
        default=None, metadata={"help": "Names of the new model's classes, in the order of its logits."}
    )
    old_label_names: list[str] | None = field(
        default=None, metadata={"help": "Names of the old model's classes, in the order of its logits."}
    )
    unlabelled_teacher: str = field(
        default="old",
        metadata={"help": "Whom unlabelled texts are learned from.", "choices": list(UNLABELLED_TEACHERS)},
    )
    unlabelled_ratio: float | None = field(
        default=None, metadata={"help": "Unlabelled rows for each labelled row; by default all of them once."}
    )
    model_init_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Keyword arguments for `from_pretrained` of the new model."}
    )
    old_model_init_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Keyword arguments for `from_pretrained` of the old model."}
    )
    teacher_cache: str = field(
        default="none",
        metadata={"help": "`memory` asks the teachers once about each training row.", "choices": list(TEACHER_CACHES)},
    )
    min_accuracy: float | None = field(
        default=None, metadata={"help": "A checkpoint with a lower `eval_accuracy` is never the best one."}
    )

    def __post_init__(self) -> None:
        """Check the options before any model is loaded."""
        apply_preset(self)
        self.strategy()
        DiceOptions.of(self)
        if self.max_length is not None and (isinstance(self.max_length, bool) or self.max_length < 1):
            raise ConfigurationError(f"max_length={self.max_length!r} must be an int of 1 or more.")
        for name, known in (("unlabelled_teacher", UNLABELLED_TEACHERS), ("teacher_cache", TEACHER_CACHES)):
            if getattr(self, name) not in known:
                raise unknown_option(name, getattr(self, name), known)
        check_ratio(self.unlabelled_ratio)
        check_product(self)
        check_two_goals(self)
        best = self.best_metric
        if best is not None:
            direction = getattr(self, "greater_is_better", None)
            self.greater_is_better: bool | None = direction_of_best(best[1], direction)
        bf16_of_device(self.bf16, fp16=self.fp16, use_cpu=self.use_cpu)
        super().__post_init__()
        if self.label_smoothing_factor:
            raise ConfigurationError(
                f"label_smoothing_factor={self.label_smoothing_factor} would be ignored: teachers take the place of "
                "smoothed labels. Set it to 0."
            )
        check_min_accuracy(self.min_accuracy, self.metric_for_best_model)

    @property
    def best_metric(self) -> tuple[str, str] | None:
        """`metric_for_best_model` as the name of the evaluation set and the flip metric; None for other metrics.

        With several evaluation sets their names stand before the metric's: `eval_french_negative_flip_rate`.
        """
        parts = (self.metric_for_best_model or "").removeprefix("eval_").split("_")
        for start in range(len(parts)):
            metric = "_".join(parts[start:])
            if better_when_greater(metric) is not None:
                return "_".join(parts[:start]), metric
        return None
