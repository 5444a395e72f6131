"""What all trainers do in the same way: loss, log, flips in the loop, the best checkpoint, card and pushes."""

from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo
from torch import Tensor
from transformers import Trainer

from ..card.files import AdapterCard
from ..card.lineage import Lineage
from ..flips.comparison import Comparison
from ..flips.eval_metrics import FLIP_FIGURES
from ..hub.failures import hub_failures
from ..losses.compatibility import CompatibilityLoss
from ..losses.strategy import Strategy
from ..models.processes import from_every_process
from ..models.sharding import is_sharded
from ..publishing.from_model import record_base, refuse_local_base
from ..publishing.from_trainer import ROLES, CardOfRun, PushesOfRun, default_title
from ..publishing.training_time import TrainingTime
from ..runs.run_comparison import RunComparison
from ..teachers.live import FrozenModelTeacher, SharedBaseTeacher
from .checkpoints.diverged import refuse_diverged
from .checkpoints.full_disk import saving_whole
from .checkpoints.resuming import begun_at, is_of_command, load_finished, losing_nothing
from .checkpoints.settings_of_run import SettingsOfRun
from .checkpoints.written import SealedCheckpoints
from .flips_evaluation import FlipsEvaluation
from .flips_in_the_loop import (
    check_best,
    evaluate_with_flips,
    is_below_bound,
    warn_without_best_checkpoint,
)
from .hooks import kept_columns, prepared_batch, send_nothing
from .log import EndsWhenDiverged, LossSums, TokensSinceLog
from .loss.product import ProductTemperatures
from .loss.two_goals import TwoGoals, compares_gradients
from .options.arguments import set_aside
from .options.secrets import without_tokens
from .processes.refusals import refuse_tensor_parallelism
from .processes.split_models import make_ready_to_train, state_to_save
from .published import push_checkpoint, pushed_folder, write_card
from .refusals import refuse_evaluation_of_nothing, refuse_same_names


class TrainerBase(Trainer):  # type: ignore[misc]  # transformers counts as untyped here
    """The base of all trainers; it stands before the library's trainer among the bases.

    With `push_to_hub=True` the checkpoints are pushed while training goes on, as `hub_strategy` says: one that fails
    is told in a warning, and the next one makes up for it. Where the newest one did not arrive, `train` pushes once
    more at its end. What a push says of a failure is a [`HubError`]; by then, everything is saved.

    Where there are `flips`, an evaluation of the trainer's own sets (`evaluate()` without a data set) measures them
    once, and the figures of [`flip_metrics`] are in its metrics before callbacks see these and they are logged. With
    several evaluation sets, or with none, they are logged by themselves.

    A checkpoint whose accuracy is below `min_accuracy` is never the best one; early stopping counts it as one without
    improvement, and waits for the first that reaches the bound. Where none has, a warning says that none is loaded.
    The share of right tokens is logged as `accuracy`; `with_config` saves the model's configuration beside an adapter;
    `options` are more arguments of the library's trainer. A base in a folder of this machine is not to be pushed.
    `teachers` are asked for the old and the new model, once the trainer of a kind has made them.
    """

    _send_telemetry = send_nothing
    # The loss divides by what is trained on in the whole optimizer step, so the parent must not divide by the number
    # of its pieces again.
    loss_is_scaled_for_ga = True
    args: Any
    control: Any
    teachers: Any
    train_dataset: Any
    eval_dataset: Any

    def __init__(
        self,
        model: Any,
        args: Any,
        *,
        strategy: Strategy,
        lineage: Lineage,
        accuracy: str,
        with_config: bool = False,
        **options: Any,
    ) -> None:
        """Set up the trainer, and let its model bring the card along wherever it is saved or pushed."""
        record_base(model, lineage)
        settings = SettingsOfRun.of(model, lineage)
        if args.push_to_hub:
            refuse_local_base(model)
        # The repository is made once the data are good, and `losing_nothing` saves at SIGTERM.
        with set_aside(args, push_to_hub=False, enable_jit_checkpoint=False):
            super().__init__(model=model, args=args, **options)
        refuse_evaluation_of_nothing(args, self.eval_dataset)
        self.strategy, self.lineage = strategy, lineage
        self.flips: FlipsEvaluation | None = None
        self.unlabelled_rows: tuple[int, int] | None = None
        """Rows without labels of an epoch, and those that were passed; None without any."""
        self.min_accuracy: float | None = None
        self.measured: dict[str, float] | None = None
        """Flips that are not yet in the metrics of the evaluation that is under way."""
        self._accuracy, self._sums = accuracy, LossSums()
        self._card, self._pushes = CardOfRun(with_config=with_config), PushesOfRun(args.output_dir)
        self._product, self._unlogged = ProductTemperatures(self), TokensSinceLog(self)
        self._goals = TwoGoals(self) if compares_gradients(args) else None
        goals = [] if self._goals is None else [self._goals]  # its file is there before a checkpoint is sealed
        for callback in (
            *goals,
            self._unlogged,
            EndsWhenDiverged(self),
            TrainingTime(),
            SealedCheckpoints(),
            settings,
        ):
            self.add_callback(callback)
        self.renew_card()

    def _make_repository(self) -> None:
        if self.args.push_to_hub:
            self.init_hf_repo()

    # Training and evaluation -----------------------------------------------------------------------------------------

    @property
    def old_teacher(self) -> FrozenModelTeacher | None:
        """The old model as a teacher; None where a complete cache has taken its place."""
        teacher: FrozenModelTeacher | None = self.teachers.old
        return teacher

    @property
    def new_teacher(self) -> SharedBaseTeacher:
        """The new model as a teacher: a snapshot of what the student trains."""
        teacher: SharedBaseTeacher = self.teachers.new
        return teacher

    def _batch_of(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Make a batch of encoded rows, as those of the data loaders are made."""
        if self.args.remove_unused_columns:
            rows = [{name: row[name] for name in kept_columns(self) if name in row} for row in rows]
        return prepared_batch(self, self.data_collator(rows))  # type: ignore[no-any-return]

    def make_ready(self) -> None:
        """Do what has to be done before the first batch, once the old model has answered what it is asked."""
        self._product.make_ready()

    def _noted_loss(self, result: CompatibilityLoss, normalizer: Tensor | float | None, **counts: Any) -> Tensor:
        """Add a batch to what is logged, and return its loss, ready for the parent."""
        if not self._sums.add(result, accelerator=self.accelerator, **counts) and self.model.training:
            from_every_process(partial(refuse_diverged, self))
        loss: Tensor = result.loss if self._goals is None else self._goals.loss(result)
        # The normalizer counts what every process trains on, and DDP averages gradients over processes.
        if self.args.average_tokens_across_devices and normalizer is not None:
            loss = loss * (self.accelerator.num_processes // self.get_tp_size())
        return loss

    def training_step(self, *arguments: Any, **options: Any) -> Tensor:
        """Train on a batch, as the parent does, with the gradients of both goals where they are asked for."""
        with nullcontext() if self._goals is None else self._goals.step():
            loss: Tensor = super().training_step(*arguments, **options)
        return loss

    def train(self, *arguments: Any, **options: Any) -> Any:
        """Train, as [`transformers.Trainer.train`] does; the old and the new model are asked before the first step.

        At the end, what was trained is pushed where the newest checkpoint should be on the Hub and is not.
        """
        with losing_nothing(self):
            return self._train(*arguments, **options)

    def _train(self, *arguments: Any, **options: Any) -> Any:
        asked, *more = arguments or (options.pop("resume_from_checkpoint", None),)
        checkpoint = begun_at(self, asked)
        arguments = (None if checkpoint is None else str(checkpoint), *more)
        self._card.start_training(self)
        self._sums.clear()
        if checkpoint is not None:
            self.take_up(checkpoint)
        self._pushes.start_training()
        if self.flips is not None and self.args.eval_strategy != "no":
            refuse_tensor_parallelism(self.get_tp_size())
            check_best(self.args, self.flips)
            self.flips.ask_old_and_new()
        self.make_ready()
        try:
            output = load_finished(self, checkpoint)
            if output is None:
                make_ready_to_train(self)
                if self._goals is not None:
                    self._goals.start(checkpoint)
                output = super().train(*arguments, **options)
        finally:
            self.renew_card()  # whatever ended the training: the trainer may be gone when the model is saved
        warn_without_best_checkpoint(self.args, self.state, self.min_accuracy, measures_flips=self.flips is not None)
        if self._pushes.lacks_the_newest:
            self.push_to_hub()
        return output

    def take_up(self, checkpoint: Path) -> None:
        """Know what a checkpoint that is gone on from says: how long it took, what was measured, the temperatures."""
        self._card.take_up(self, checkpoint)
        self._product.take_up(checkpoint)
        self._unlogged.take_up(checkpoint)

    def _encoded_set(self, dataset: Any, name: str) -> Any:
        """Encode a data set of this name that is to be evaluated; None and the name of an own set stay as they are."""
        return dataset

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Evaluate as the parent does, on rows like those of training; without a data set, measure flips as well.

        These are kept for the card.
        """
        if not isinstance(eval_dataset, dict):  # the parent comes back here with each of several sets
            eval_dataset = self._encoded_set(eval_dataset, metric_key_prefix.removeprefix("eval_"))
        best = self.state.best_metric
        try:
            if self.flips is None or eval_dataset is not None:
                self.make_ready()
                metrics: dict[str, float] = super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)
            else:
                of_sets = partial(super().evaluate, None, ignore_keys, metric_key_prefix)
                metrics = evaluate_with_flips(self, self.flips, of_sets, metric_key_prefix)
        finally:
            self.state.best_metric = best
        if eval_dataset is None:
            self._card.note_evaluation(self)
            self.renew_card()
        return metrics

    def predict(self, *arguments: Any, **options: Any) -> Any:
        """Predict as [`transformers.Trainer.predict`] does; its loss is that of the training."""
        if self._product.is_needed:
            self.make_ready()
        return super().predict(*arguments, **options)

    def evaluation_loop(
        self,
        dataloader: Any,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> Any:
        """Add the method's figures of this data set to its metrics; called by the trainer."""
        of_training, self._sums = self._sums, LossSums()
        try:
            output = super().evaluation_loop(
                dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix
            )
            # All of them, since the best checkpoint may be chosen by one.
            figures = self._sums.figures(self._accuracy, with_undefined=True)
        finally:
            self._sums = of_training
        if self.measured is not None:
            refuse_same_names(output.metrics, self.measured)
            output.metrics.update(self.measured)
        output.metrics.update({f"{metric_key_prefix}_{name}": value for name, value in figures.items()})
        return output

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the method's figures, each over all that was trained on since the last log; called by the trainer."""
        if self.model.training and self._sums["tokens"]:
            logs.update(self._sums.figures(self._accuracy))
            if self._goals is not None:
                logs.update(self._goals.figures())
            logs.update(self._unlogged.counted(self.state.log_history))
            self._sums.clear()
        super().log(logs, start_time)

    # The best checkpoint ---------------------------------------------------------------------------------------------

    @property
    def _prefix_of_bound(self) -> str:
        """What stands before the figures of the set that the best checkpoint is chosen by."""
        return "eval"

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        if is_below_bound(metrics, self.min_accuracy, self._prefix_of_bound):
            return False
        is_best = bool(super()._determine_best_metric(metrics, trial))
        if is_best and self.flips is not None:
            self.flips.keep_best()
        return is_best

    @property
    def is_chosen_by_what_is_measured(self) -> bool:
        """Whether the figure that chooses the best checkpoint is of the questions whose flips are measured."""
        return self.flips is None or (self.args.metric_for_best_model or "").removeprefix("eval_") in FLIP_FIGURES

    def measured_comparisons(self) -> Mapping[str, Comparison]:
        """Compare new model and student with the old one, in the last evaluation; empty where nothing was measured."""
        return {} if self.flips is None else self.flips.comparisons(ROLES)

    # Card and pushes -------------------------------------------------------------------------------------------------

    @property
    def comparisons(self) -> dict[str, Comparison]:
        """What [`add_comparison`] has put into the card's table."""
        return self._card.comparisons

    @property
    def card_details(self) -> dict[str, Any]:
        """Fields of [`muscle_hf.card.AdapterCard`] that only the user knows; change them before saving or pushing."""
        return self._card.details

    def add_comparison(self, name: str, comparison: Comparison | RunComparison, *, split: str | None = None) -> None:
        """Put a measured comparison with the old model into the card's table; save or push afterwards.

        Args:
            name: The row's name. "compatibility adapter" is what is trained here: the verdict, the picture and the
                figures that the Hub searches are of that row, and the next training takes it away. "plain update" and
                "control: same steps more" are what it is compared with. Any other name is a row of the table and no
                more, which a warning says.
            comparison: What [`muscle_hf.compare`] or [`muscle_hf.compare_runs`] returned; of the latter, the row that
                speaks for all tasks, and, for "compatibility adapter", the slices.
            split: What was asked, such as "the test set of PIQA". A row of another one says so in its name.

        Raises:
            InputError: A comparison of scores, which tell no right answers from wrong ones; or a name that is likely
                a misspelling of one of these three.
        """
        self._card.add(name, comparison, split)
        self.renew_card()

    def create_model_card(
        self,
        model_name: str | None = None,
        dataset_name: str | None = None,
        tags: str | list[str] | None = None,
        license: str | None = None,  # noqa: A002 - the name that Trainer.create_model_card gives it
        language: str | list[str] | None = None,
    ) -> None:
        """Write the card of this package to the output folder, in place of the parents' drafts.

        Args:
            model_name: Title of the card. Defaults to the name of the repository or of the output folder.
            dataset_name: Id of the training data on the Hub.
            tags: Further tags.
            license: The adapter's licence, as the Hub names it.
            language: Codes of the languages, such as "en".
        """
        write_card(self, title=model_name, dataset=dataset_name, license=license, tags=tags, language=language)

    def card(self) -> AdapterCard:
        """Return the card of what is known by now."""
        return self._card.card(self)

    def renew_card(self) -> None:
        """Let the model bring the card of what is known by now along; it asks by itself when it is saved or pushed."""
        self._card.hand_over(self)

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Make the repository, as [`transformers.Trainer.init_hf_repo`] does, in the main process."""
        # As an argument, transformers takes it since 5.23 only; and the pushes after this one are to agree.
        if private is not None:
            self.args.hub_private_repo = private
        with hub_failures("make the repository", self.args.hub_model_id or default_title(self.args)):
            super().init_hf_repo(token=token)

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **card: Any,
    ) -> CommitInfo | Future[CommitInfo] | None:
        """Save model, tokenizer and card to the output folder, and push them as one commit.

        Args:
            commit_message: Of the commit.
            blocking: Wait for the end of the push.
            token: With the right to write. Defaults to `args.hub_token`.
            revision: A branch. Defaults to `args.hub_revision`.
            private: Whether the repository is to be private; one that is there already must be so. Defaults to
                `args.hub_private_repo`.
            card: Arguments of `create_model_card`.

        Returns:
            The commit; its future where `blocking` is False; None in other processes than the main one.

        Raises:
            HubError: It cannot be pushed; the message says why. Everything is saved in the output folder.
            ConfigurationError: The adapter's base is a folder of this machine, or names that cannot be.
            InputError: The Hub would refuse the card.
        """
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        # In every process, and before anything can fail.
        self.save_model(_internal_call=True)
        if not self.is_world_process_zero():
            return None
        target = {"token": token, "revision": revision, "private": private}
        return pushed_folder(
            self, self._pushes, commit_message or "End of training", card, blocking=blocking, **target
        )

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save as [`transformers.Trainer.save_model`] does; what is split over processes as one process saves it."""
        # A training says it in its own words.
        is_told = self.is_in_train or is_of_command(self)
        with saving_whole(Path(output_dir or self.args.output_dir), is_told=is_told):
            self._save_model(output_dir, _internal_call)

    def _save_model(self, output_dir: str | None, _internal_call: bool) -> None:
        if not is_sharded(self.model):
            refuse_diverged(self)
            super().save_model(output_dir, _internal_call)
            return
        from_every_process(partial(refuse_diverged, self))  # one may have what is NaN, and all have to stop
        self._save(output_dir, state_dict=state_to_save(self.model, keep=self.args.should_save))
        if self.args.push_to_hub and not _internal_call:
            self.push_to_hub(commit_message="Model save", revision=self.args.hub_revision)

    def _save(self, *arguments: Any, **options: Any) -> None:
        # The library keeps a copy of the config beside the model, for whoever gets the folder.
        with set_aside(self.args, **without_tokens(self.args)):
            super()._save(*arguments, **options)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        push_checkpoint(self, self._pushes, Path(checkpoint_folder))
