"""What the trainers of language models do in the same way: both teachers, their cache, flips of a data set."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from ..flips.comparison import Comparison, compare
from ..flips.eval_metrics import FLIP_FIGURES
from ..publishing.from_trainer import ROLES
from ..teachers.live import FrozenModelTeacher, SharedBaseTeacher
from .base import TrainerBase
from .hooks import kept_columns, prepared_batch
from .teachers_of_run import TeachersOfRun


class TokenTrainer(TrainerBase):
    """The base of the trainers whose loss is one of tokens; it stands before the library's trainer among the bases.

    `rows` prepares data sets (`evaluation`), `teachers` are asked, and `_collator_of_cache` makes the batches that a
    cache is computed from.
    """

    rows: Any
    teachers: TeachersOfRun
    _collator_of_cache: Any

    @property
    def old_teacher(self) -> FrozenModelTeacher | None:
        """The old model as a teacher; None where a complete cache has taken its place."""
        return self.teachers.old

    @property
    def new_teacher(self) -> SharedBaseTeacher:
        """The new model as a teacher: a snapshot of what the student trains."""
        return self.teachers.new

    def _batch_of(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Make a batch of encoded rows, as those of the data loaders are made."""
        if self.args.remove_unused_columns:
            rows = [{name: row[name] for name in kept_columns(self) if name in row} for row in rows]
        return prepared_batch(self, self.data_collator(rows))  # type: ignore[no-any-return]

    def _batch_for_cache(self, rows: list[dict[str, Any]]) -> Any:
        return prepared_batch(self, self._collator_of_cache(rows))

    def _make_ready(self) -> None:
        self.teachers.complete_cache(self._batch_for_cache)
        super()._make_ready()
        self.teachers.use(self.strategy)

    def teacher_slices(self, rows: list[dict[str, Any]]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Give what the temperatures of a product are fitted on, of encoded rows, a few tokens at a time.

        Yields:
            The logits of the old and of the new model, (tokens, vocabulary), and the gold tokens, int64, (tokens,).
        """
        return self.teachers.logits(self._batch_of(rows))

    def cache_teachers(self, *, process: int | None = None, processes: int | None = None) -> bool:
        """Compute the teacher cache, as far as it is not there yet, and let go of the old model.

        `train` and `evaluate` do it by themselves. Called with `process` and `processes`, it computes one part, and
        the parts may be computed on several machines that share the folder.

        Args:
            process: The number of this part, from 0. Defaults to that of the training process.
            processes: How many parts there are. Defaults to the number of training processes.

        Returns:
            Whether the cache is complete; False where other parts are not there yet.

        Raises:
            ConfigurationError: `teacher_cache` is "none", or the disk is too small.
            InputError: A damaged cache.
            TeacherError: A teacher gives NaN.
        """
        return self.teachers.compute_cache(self._batch_for_cache, process, processes)

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Evaluate as the library does, on rows like those of training; without a data set, measure flips too."""
        if not isinstance(eval_dataset, dict):  # the parent comes back here with each of several sets
            eval_dataset = self.rows.evaluation(eval_dataset, metric_key_prefix.removeprefix("eval_"))
        return super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)

    @property
    def is_chosen_by_what_is_measured(self) -> bool:
        """Whether the figure that chooses the best checkpoint is of the flips data set."""
        metric = (self.args.metric_for_best_model or "").removeprefix("eval_")
        return metric in FLIP_FIGURES

    def measured_comparisons(self) -> dict[str, Comparison]:
        """Compare new model and student with the old one on the flips data set, as they were evaluated last."""
        if self.flips is None:
            return {}
        answers, references = self.flips.answers, self.flips.questions.references
        return {role: compare(old=answers["old"], new=answers[role], references=references) for role in ROLES}
