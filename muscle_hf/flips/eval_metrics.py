"""The figures of flips that an evaluation logs, and what of them makes the best checkpoint."""

from collections.abc import Mapping

from ..errors import ConfigurationError
from .comparison import Comparison, compare
from .inputs import Values, is_number

BALANCED = "balanced_negative_flip_rate"
# What is logged -> the rate of the comparison between the old model and the student, where the student is "new".
_OF_STUDENT = {
    "accuracy": "new_accuracy",
    "negative_flip_rate": "negative_flip_rate",
    BALANCED: BALANCED,
    "positive_flip_rate": "positive_flip_rate",
    "inconsistency_flip_rate": "inconsistency_flip_rate",
    "relative_negative_flip_rate": "relative_negative_flip_rate",
    "old_accuracy": "old_accuracy",
}
# The same for the plain update.
_OF_UPDATE = {"new_accuracy": "new_accuracy", "new_negative_flip_rate": "negative_flip_rate"}

FLIP_FIGURES = frozenset(_OF_STUDENT | _OF_UPDATE)
"""Names of what is logged, without what stands before them."""


def flip_metrics(
    *,
    old: Values,
    new: Values,
    student: Values,
    references: Values,
    prefix: str = "eval",
) -> dict[str, float]:
    """Return what an evaluation logs: the student's accuracy and flips, and those of the plain update.

    All columns are as `muscle_hf.compare` takes them. Names begin with the prefix; what is undefined is nan, and the
    balanced rate is left out where the right answers are no classes.
    """
    of_student = compare(old=old, new=student, references=references)
    of_update = compare(old=old, new=new, references=references)
    metrics = {f"{prefix}_{name}": getattr(of_student, rate) for name, rate in _OF_STUDENT.items()}
    if not of_student.by_class:
        del metrics[f"{prefix}_{BALANCED}"]
    return metrics | {f"{prefix}_{name}": getattr(of_update, rate) for name, rate in _OF_UPDATE.items()}


def refuse_without_classes(metric: str, references: Values) -> None:
    """Refuse to choose the best checkpoint by the balanced rate where the right answers are no classes."""
    classes = compare(old=references, new=references, references=references).by_class
    if classes is not None and classes.unfit:
        raise ConfigurationError(
            f"metric_for_best_model={metric} is a mean over classes of right answers, and of the data set "
            f'{classes.unfit}. Choose by "eval_negative_flip_rate".'
        )


def better_when_greater(metric: str) -> bool | None:
    """Tell in which direction a metric of [`flip_metrics`] gets better; None for a metric that is none of them."""
    rate = (_OF_STUDENT | _OF_UPDATE).get(metric.removeprefix("eval_"))
    return None if rate is None else bool(getattr(Comparison, rate).better == "↑")


def direction_of_best(metric: str | None, greater_is_better: bool | None) -> bool | None:
    """Return what `greater_is_better` has to be, so that the checkpoint with the most flips is never the best one.

    Left to itself, transformers takes every metric that does not end with "loss" as better when greater. Of metrics
    that are not in [`flip_metrics`] it stays as the user set it.
    """
    known = None if metric is None else better_when_greater(metric)
    if known is not None and greater_is_better not in (None, known):
        worst = "lowest" if known else "highest"
        raise ConfigurationError(
            f"greater_is_better={greater_is_better} would take the checkpoint with the {worst} {metric} for the best "
            f"one. Leave it out, or set it to {known}."
        )
    return greater_is_better if known is None else known


def check_min_accuracy(min_accuracy: float | None, metric: str | None) -> None:
    """Refuse a bound that is no share, or that bounds nothing because no best checkpoint is chosen."""
    if min_accuracy is None:
        return
    if not is_number(min_accuracy) or not 0 <= min_accuracy <= 1:
        raise ConfigurationError(f"min_accuracy={min_accuracy!r} must be a number in [0, 1]; 0.78 means 78 %.")
    if metric is None:
        raise ConfigurationError(
            f"min_accuracy={min_accuracy} bounds the best checkpoint, and none is chosen. Set "
            'metric_for_best_model="eval_negative_flip_rate", with load_best_model_at_end=True or '
            'save_strategy="best"; or leave min_accuracy out.'
        )


def is_allowed_best(metrics: Mapping[str, float], min_accuracy: float | None, *, prefix: str = "eval") -> bool:
    """Tell whether a checkpoint with these metrics may become the best one; without a bound each may."""
    if min_accuracy is None:
        return True
    if f"{prefix}_accuracy" not in metrics:
        raise ConfigurationError(
            f"min_accuracy={min_accuracy} needs {prefix}_accuracy, and the evaluation gives {sorted(metrics)}. Pass a "
            "flips_dataset."
        )
    return metrics[f"{prefix}_accuracy"] >= min_accuracy
