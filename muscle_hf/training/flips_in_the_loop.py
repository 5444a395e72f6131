"""Flips at each evaluation of a trainer: when that is, what of them makes the best checkpoint, and where none is.

The trainers' base measures and logs them, see [`TrainerBase`][muscle_hf.training.base.TrainerBase].
"""

import logging
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from transformers.trainer_utils import IntervalStrategy

from ..errors import ConfigurationError
from ..flips.eval_metrics import BALANCED, FLIP_FIGURES, direction_of_best, is_allowed_best, refuse_without_classes
from .processes.refusals import refuse_tensor_parallelism
from .refusals import refuse_same_names

if TYPE_CHECKING:
    from .flips_evaluation import FlipsEvaluation

logger = logging.getLogger(__name__)


def choose_when_to_evaluate(args: Any, evaluates: bool, measures_flips: bool) -> None:
    """Refuse an evaluation of nothing; with flips to measure and no word on when, measure them."""
    if args.eval_strategy == "no":
        if measures_flips:
            args.eval_strategy = IntervalStrategy.EPOCH if args.eval_steps is None else IntervalStrategy.STEPS
            logger.warning(
                "flips_dataset is asked at each evaluation, and eval_strategy is not set, so it is now "
                f"eval_strategy={args.eval_strategy.value!r}."
            )
    elif not evaluates and not measures_flips:
        raise ConfigurationError(
            f"eval_strategy={args.eval_strategy.value!r} has nothing to evaluate. Pass an eval_dataset, or the "
            "questions of a flips_dataset, or leave eval_strategy out."
        )


def refuse_best_of_no_flips(args: Any, *, measures_flips: bool, computes_metrics: bool) -> None:
    """Refuse a metric for the best checkpoint that only answers to a flips data set have; own metrics may have it."""
    metric = args.metric_for_best_model
    if metric is not None and metric.removeprefix("eval_") in FLIP_FIGURES and not measures_flips | computes_metrics:
        raise ConfigurationError(
            f"metric_for_best_model={metric!r} is measured on answers, and there is no flips_dataset. Pass one, or "
            'choose by what an eval_dataset gives, such as "eval_cross_entropy".'
        )


def check_best(args: Any, flips: "FlipsEvaluation") -> None:
    """Refuse a metric for the best checkpoint that would choose the worst one, or that the rows do not have."""
    metric = args.metric_for_best_model
    direction_of_best(metric, args.greater_is_better)
    if metric is not None and metric.removeprefix("eval_") == BALANCED:
        refuse_without_classes(metric, flips.questions.references)


def is_below_bound(metrics: Mapping[str, float], min_accuracy: float | None, prefix: str) -> bool:
    """Tell whether an evaluation is of the set with the bound, and below it.

    Example:
        >>> [is_below_bound({"eval_a_accuracy": 0.7}, 0.75, prefix) for prefix in ("eval_a", "eval_b")]
        [True, False]
    """
    if min_accuracy is None or not any(name.startswith(f"{prefix}_") for name in metrics):
        return False
    return not is_allowed_best(metrics, min_accuracy, prefix=prefix)


def hold_below_the_bound(trainer: Any, metrics: Mapping[str, float], prefix: str) -> None:
    """Let early stopping see no improvement in what is not allowed, until the evaluation ends."""
    if trainer.state.best_metric is not None and is_below_bound(metrics, trainer.min_accuracy, prefix):
        # Nothing improves on it; early stopping asks for that alone.
        trainer.state.best_metric = math.inf if trainer.args.greater_is_better else -math.inf


def evaluate_with_flips(
    trainer: Any, flips: "FlipsEvaluation", evaluate: Callable[[], dict[str, float]], prefix: str
) -> dict[str, float]:
    """Measure flips, and evaluate the trainer's own sets, if it has any; flips are logged once, with their figures.

    Args:
        trainer: Its `measured` says, while it evaluates, what is to be put into the metrics of its one set.
        flips: The questions.
        evaluate: Evaluates the sets as the library's trainer does.
        prefix: Of the figures' names.
    """
    refuse_tensor_parallelism(trainer.get_tp_size())
    # Before the parent starts its clock, which divides by its own rows.
    measured = flips.measure(trainer.accelerator.unwrap_model(trainer.model), prefix=prefix)
    hold_below_the_bound(trainer, measured, prefix)
    metrics: dict[str, float] = {}
    if trainer.eval_dataset:
        trainer.make_ready()
        trainer.measured = None if isinstance(trainer.eval_dataset, dict) else measured
        try:
            metrics = evaluate()
        finally:
            is_told, trainer.measured = trainer.measured is not None, None
        if is_told:
            return metrics
    refuse_same_names(metrics, measured)
    trainer.model.eval()  # what a model in training mode logs would count as a log of training steps
    trainer.log(measured)
    trainer.control = trainer.callback_handler.on_evaluate(trainer.args, trainer.state, trainer.control, measured)
    return metrics | measured


def warn_without_best_checkpoint(args: Any, state: Any, min_accuracy: float | None, *, measures_flips: bool) -> None:
    """Say at the end of a training why no checkpoint was chosen as the best one, if none was."""
    if measures_flips and state.best_metric is not None and math.isinf(state.best_metric):
        logger.warning(
            f"{args.metric_for_best_model} was undefined (nan) in every evaluation, so no checkpoint was "
            "chosen as the best, and the model is that of the last step. Choose by another metric."
        )
    if min_accuracy is None or state.best_metric is not None:
        return
    highest = ""
    if measures_flips:
        evaluations = [log for log in state.log_history if "eval_new_accuracy" in log]
        if not evaluations:
            return
        best = max(evaluations, key=lambda log: log["eval_accuracy"])
        highest = (
            f"The highest accuracy was {best['eval_accuracy']:.4f}, at step {best['step']}; that of the new model is "
            f"{best['eval_new_accuracy']:.4f}. "
        )
    logger.warning(
        f"No evaluation reached min_accuracy={min_accuracy}, so no checkpoint was chosen as the best, and the model "
        f"is that of the last step. {highest}Lower the bound, train longer, or give the cross-entropy more weight."
    )
