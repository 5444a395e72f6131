"""Flips at each evaluation of a trainer: measured, logged, and decisive for the best checkpoint."""

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import Trainer

from ..errors import ConfigurationError
from ..flips.eval_metrics import direction_of_best, is_allowed_best
from .flips_evaluation import FlipsEvaluation

logger = logging.getLogger(__name__)


class FlipsInTheLoop(Trainer):  # type: ignore[misc]  # transformers counts as untyped here
    """A part of a trainer that measures flips whenever it evaluates; it stands before the trainer among the bases.

    An evaluation of the trainer's own sets (`evaluate()` without a data set) measures once, and the figures of
    [`flip_metrics`] are in its metrics before these are logged and shown to callbacks. With several evaluation sets,
    or with none, they are logged by themselves. So `metric_for_best_model="eval_negative_flip_rate"`, early stopping
    and every logger see them like any other metric.

    A checkpoint whose accuracy is below `min_accuracy` is never the best one, and its evaluation counts as one
    without improvement in early stopping. As long as no evaluation has reached the bound, early stopping waits. If
    none has at the end, no best model is loaded, and a warning says so.

    Args:
        flips: What measures; None measures nothing. Set it after the trainer's own `__init__`.
        min_accuracy: The least accuracy, on the flips data set, of a best checkpoint, in [0, 1]; None for no bound.

    Example:
        >>> from trl import SFTTrainer
        >>> class MyTrainer(FlipsInTheLoop, SFTTrainer):
        ...     pass
        >>> trainer = MyTrainer(model, args, train_dataset=rows, eval_dataset={})  # doctest: +SKIP
        >>> trainer.flips = FlipsEvaluation(questions, tokenizer, old=v1, new=v2, folder="out")  # doctest: +SKIP
        >>> trainer.train()  # doctest: +SKIP
    """

    flips: FlipsEvaluation | None = None
    min_accuracy: float | None = None
    control: Any
    # Measured, and not yet in the metrics of the evaluation that is under way.
    _measured: dict[str, float] | None = None

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train as the parent does; before, ask the old and the new model, so that what fails does so at once."""
        if self.flips is not None and self.args.eval_strategy != "no":
            self._refuse_split_models()
            direction_of_best(self.args.metric_for_best_model, self.args.greater_is_better)
            self.flips.ask_old_and_new()
        output = super().train(*args, **kwargs)
        self._warn_if_there_is_no_best_checkpoint()
        return output

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Evaluate as the parent does, and measure flips, unless it is another data set that is evaluated."""
        if self.flips is None or eval_dataset is not None:
            return super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)  # type: ignore[no-any-return]
        self._refuse_split_models()
        # Before the parent starts its clock, which divides by its own rows.
        measured = self.flips.measure(self.accelerator.unwrap_model(self.model), prefix=metric_key_prefix)
        with self._nothing_improves_below_the_bound(measured, metric_key_prefix):
            if self.eval_dataset is not None and not isinstance(self.eval_dataset, dict):
                self._measured = measured
                try:
                    return super().evaluate(None, ignore_keys, metric_key_prefix)  # type: ignore[no-any-return]
                finally:
                    self._measured = None
            metrics = super().evaluate(None, ignore_keys, metric_key_prefix) if self.eval_dataset else {}
            self._refuse_same_names(metrics, measured)
            self.model.eval()  # what a model in training mode logs would count as a log of training steps
            self.log(measured)
            self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, measured)
        return metrics | measured

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """Add what was measured to the metrics; called by the trainer."""
        output = super().evaluation_loop(*args, **kwargs)
        if self._measured is not None:
            self._refuse_same_names(output.metrics, self._measured)
            output.metrics.update(self._measured)
        return output

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        if not is_allowed_best(metrics, self.min_accuracy):
            return False
        is_best = bool(super()._determine_best_metric(metrics, trial))
        if is_best and self.flips is not None:
            self.flips.keep_best()
        return is_best

    @contextmanager
    def _nothing_improves_below_the_bound(self, measured: dict[str, float], prefix: str) -> Iterator[None]:
        """Let early stopping, which asks `state.best_metric` alone, see no improvement in what is not allowed."""
        best = self.state.best_metric
        if best is not None and not is_allowed_best(measured, self.min_accuracy, prefix=prefix):
            self.state.best_metric = math.inf if self.args.greater_is_better else -math.inf
        try:
            yield
        finally:
            self.state.best_metric = best

    def _warn_if_there_is_no_best_checkpoint(self) -> None:
        if self.flips is not None and self.state.best_metric is not None and math.isinf(self.state.best_metric):
            logger.warning(
                f"{self.args.metric_for_best_model} was undefined (nan) in every evaluation, so no checkpoint was "
                "chosen as the best, and the model is that of the last step. Choose by another metric."
            )
        found = [log for log in self.state.log_history if "eval_new_accuracy" in log]
        if self.min_accuracy is None or self.state.best_metric is not None or not found:
            return
        best = max(found, key=lambda log: log["eval_accuracy"])
        logger.warning(
            f"No evaluation reached min_accuracy={self.min_accuracy}, so no checkpoint was chosen as the best, and "
            f"the model is that of the last step. The highest accuracy was {best['eval_accuracy']:.4f}, at step "
            f"{best['step']}; that of the new model is {best['eval_new_accuracy']:.4f}. Lower the bound, train "
            "longer, or give the cross-entropy more weight."
        )

    def _refuse_same_names(self, metrics: dict[str, float], measured: dict[str, float]) -> None:
        both = sorted(metrics.keys() & measured.keys())
        if both:
            raise ConfigurationError(
                f"compute_metrics gives {', '.join(both)} of the evaluation set, and the flips data set gives "
                "the same names. Rename what compute_metrics returns."
            )

    def _refuse_split_models(self) -> None:
        if self.get_tp_size() > 1:
            raise ConfigurationError(
                "Flips are measured by every process on rows of its own, which a model split over processes (tensor "
                "parallelism) cannot do. Train with DDP, or without flips_dataset."
            )
