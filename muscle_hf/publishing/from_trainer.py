"""Saving and pushing from a trainer: by whichever way a model goes to the Hub, the card of this package goes with it.

transformers, TRL and PEFT write cards of their own, which give way here. A push is one commit, made by the main
process, and what is said of a failure is one line.
"""

from collections.abc import Mapping
from concurrent.futures import Future
from functools import partial
from pathlib import Path, PurePath
from typing import Any

from accelerate.logging import get_logger
from huggingface_hub import CommitInfo
from transformers import Trainer
from transformers.trainer_utils import HubStrategy
from transformers.utils.hub import PushInProgress

from ..card.files import AdapterCard
from ..card.lineage import Lineage
from ..card.names import COMPATIBILITY_ADAPTER, PLAIN_UPDATE, note_on_row
from ..errors import HubError, InputError
from ..flips.comparison import Comparison
from ..hub.commit import commit
from ..hub.failures import hub_failures
from ..runs.compare import RunComparison
from .background import BackgroundPushes, Send, resumable_files, say_failure
from .card_of_trainer import card_of_trainer
from .from_model import CarriedCard, bring_card_along, checked_files, record_base, refuse_local_base

logger = get_logger(__name__)

ROLES = ("new", "student")
"""Whom `measured_comparisons` compares with the old model."""


class ShipsItsCard(Trainer):  # type: ignore[misc]  # transformers counts as untyped here
    """A part of a trainer that writes the card and pushes; it stands before the trainer among the bases.

    With `push_to_hub=True` the checkpoints are pushed while training goes on, as `hub_strategy` says: one that fails
    is told in a warning, and the next one makes up for it. Where the newest one did not arrive, `train` pushes once
    more at its end. What a push says of a failure is a [`HubError`]; by then, everything is saved.

    A subclass has `lineage` and `strategy` when it calls this `__init__`.

    Args:
        model: The student.
        args: The trainer's config.
        with_config: Save the model's configuration beside an adapter.
        options: Further arguments of the trainer.

    Raises:
        HubError: `push_to_hub=True`, and the repository cannot be made.
        ConfigurationError: `push_to_hub=True`, and the adapter's base is a folder of this machine.
    """

    lineage: Lineage
    args: Any
    comparisons: dict[str, Comparison]
    card_details: dict[str, Any]
    push_in_progress: PushInProgress | None

    def __init__(self, model: Any, args: Any, *, with_config: bool = False, **options: Any) -> None:
        """Set up the trainer, and let its model bring the card along wherever it is saved or pushed."""
        self.comparisons, self.card_details = {}, {}
        self._splits: dict[str, str | None] = {}
        self._evaluations: dict[int, Mapping[str, Comparison]] = {}
        self._background = BackgroundPushes(args.output_dir)
        self._newest_push: Future[CommitInfo] | None = None
        self._newest_was_left_out = False
        record_base(model, self.lineage)
        if args.push_to_hub:
            refuse_local_base(model)  # before the parent makes the repository
        super().__init__(model=model, args=args, **options)
        self._with_config = with_config
        self._hand_over_card()

    # The card --------------------------------------------------------------------------------------------------------

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
        found: Any = comparison
        slices: dict[str, dict[str, Comparison]] = {}
        if isinstance(comparison, RunComparison):
            found = None if comparison.overall is None else comparison.overall.comparison
            for column, parts in comparison.slices.items():
                known = {part.name: part.comparison for part in parts}
                slices[column] = {group: one for group, one in known.items() if isinstance(one, Comparison)}
        if not isinstance(found, Comparison):
            raise InputError(
                f"{name!r} compares scores, and the card's table has shares of right answers. Compare answers, or "
                "scores of 0 and 1, or pass the comparison of one task."
            )
        if note := note_on_row(name):
            logger.warning(note)
        self.comparisons[name] = found
        self._splits[name] = split
        if name == COMPATIBILITY_ADAPTER:
            self.card_details["slices"] = slices
        self._hand_over_card()

    def _hand_over_card(self) -> None:
        """Let the model bring the card of what is known by now along, wherever it is saved or pushed."""
        carried = CarriedCard(self.card(), self.processing_class, self._with_config, "title" in self.card_details)
        bring_card_along(self.accelerator.unwrap_model(self.model), carried)

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
        title = None if model_name == self._default_title else model_name  # TRL passes the default at each checkpoint
        more, languages = ((one,) if isinstance(one, str) else tuple(one or ()) for one in (tags, language))
        details = {"title": title, "dataset": dataset_name, "license": license, "tags": more, "language": languages}
        self.card_details.update({name: value for name, value in details.items() if value})
        self._hand_over_card()
        if self.is_world_process_zero():
            folder = Path(self.args.output_dir)
            folder.mkdir(parents=True, exist_ok=True)
            self.card().write(folder)

    def card(self) -> AdapterCard:
        """Return the card of what is known by now."""
        details = dict(self.card_details)
        if self.comparisons:
            ours = COMPATIBILITY_ADAPTER
            split = self._splits[ours if ours in self.comparisons else next(iter(self.comparisons))]
            details["split"] = split
            details["comparisons"] = {
                name if self._splits[name] in (None, split) else f"{name}, {self._splits[name]}": one
                for name, one in self.comparisons.items()
            }
        evaluated = self._evaluations.get(self._step_of_weights, {})
        if evaluated and not self.comparisons:
            rows = dict(zip(ROLES, (PLAIN_UPDATE, COMPATIBILITY_ADAPTER), strict=True))
            details["comparisons"] = {rows[role]: one for role, one in evaluated.items()}
            details["split"] = "the validation questions"
            if self._is_best_checkpoint and self._is_chosen_by_what_is_measured:
                details["caveats"] = ("The checkpoint was chosen by the questions that it was measured on.",)
        return card_of_trainer(self, details)

    @property
    def _default_title(self) -> str:
        return PurePath(self.args.hub_model_id or Path(self.args.output_dir).resolve()).name

    @property
    def _is_best_checkpoint(self) -> bool:
        """Whether training has ended, with the best checkpoint."""
        is_loaded = self.args.load_best_model_at_end and self.state.best_model_checkpoint is not None
        return is_loaded and not self.is_in_train

    @property
    def _is_chosen_by_what_is_measured(self) -> bool:
        """Whether the figure that chooses the best checkpoint is of the questions whose flips are measured."""
        return True

    @property
    def _step_of_weights(self) -> int:
        return int(self.state.best_global_step if self._is_best_checkpoint else self.state.global_step)

    def measured_comparisons(self) -> Mapping[str, Comparison]:
        """Compare each of `ROLES` with the old model, in the last evaluation; empty where no flips were measured."""
        return {}

    def evaluate(self, eval_dataset: Any = None, *arguments: Any, **options: Any) -> dict[str, float]:
        """Evaluate, and keep for the card what was measured."""
        metrics: dict[str, float] = super().evaluate(eval_dataset, *arguments, **options)
        if eval_dataset is None:
            kept = (self._step_of_weights, self.state.best_global_step)
            self._evaluations[self._step_of_weights] = self.measured_comparisons()
            self._evaluations = {step: found for step, found in self._evaluations.items() if step in kept}
            self._hand_over_card()
        return metrics

    # Pushing ---------------------------------------------------------------------------------------------------------

    def train(self, *arguments: Any, **options: Any) -> Any:
        """Train; at the end, push where the newest checkpoint should be on the Hub and is not."""
        self._evaluations.clear()
        ours = COMPATIBILITY_ADAPTER
        if self.comparisons.pop(ours, None) is not None:
            self.card_details.pop("slices", None)
            logger.warning(f"The comparison {ours!r} is off the card: training goes on, and it was measured before.")
        self._newest_push, self._newest_was_left_out = None, False
        output = super().train(*arguments, **options)
        self._hand_over_card()
        failed = self._newest_push is not None and self._newest_push.exception() is not None
        if failed or self._newest_was_left_out:
            self.push_to_hub()
        return output

    def save_model(self, *arguments: Any, **options: Any) -> None:
        """Save, with the card of what is known by now."""
        self._hand_over_card()
        super().save_model(*arguments, **options)

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Make the repository, as [`transformers.Trainer.init_hf_repo`] does, in the main process."""
        with hub_failures("make the repository", self.args.hub_model_id or self._default_title):
            super().init_hf_repo(token=token, private=private)

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
        refuse_local_base(self.accelerator.unwrap_model(self.model))
        try:
            if self.hub_model_id is None:
                self.init_hf_repo(token=token, private=private)
            self.create_model_card(**card)
            self._finish_current_push()
            send = self._sender(commit_message or "End of training", token, revision, private)
            files = checked_files(Path(self.args.output_dir))
            if not blocking:
                return self._noted(self._background.start(files, send, "The push", can_link=False))
            return send(files)
        except HubError as error:
            folder, repository = self.args.output_dir, self.hub_model_id or self.args.hub_model_id or "org/name"
            raise HubError(
                f"{error} Nothing is lost: it is saved in {folder}. Push it with `muscle-hf push {folder} "
                f"{repository}`."
            ) from error

    def _sender(
        self, message: str, token: str | None = None, revision: str | None = None, private: bool | None = None
    ) -> Send:
        return partial(
            commit,
            repository=self.hub_model_id,
            message=message,
            private=self.args.hub_private_repo if private is None else private,
            revision=revision or self.args.hub_revision,
            token=token or self.args.hub_token,
        )

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        if self.args.hub_strategy == HubStrategy.END:
            return
        # Each process saves its own random state, which belongs to a whole checkpoint.
        self.accelerator.wait_for_everyone()
        if not self.is_world_process_zero():
            return
        is_busy = self.push_in_progress is not None and not self.push_in_progress.is_done()
        self._newest_was_left_out = is_busy and not self.args.hub_always_push
        if self._newest_was_left_out:
            return
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        folder = Path(checkpoint_folder)
        try:
            files: dict[str, bytes | Path] = {**checked_files(folder)}
            if self.args.hub_strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
                name = folder.name if self.args.hub_strategy == HubStrategy.ALL_CHECKPOINTS else "last-checkpoint"
                files |= {f"{name}/{path}": content for path, content in resumable_files(folder).items()}
            send = self._sender(f"Training in progress, step {self.state.global_step}")
            job = self._background.start(files, send, f"The push of {folder.name}", can_link=True)
        except (InputError, OSError) as error:
            # Not worth the rest of the training, whose end tries again.
            say_failure(f"The push of {folder.name}", error)
            self._newest_was_left_out = True
        else:
            self._newest_push = self._noted(job)

    def _noted(self, job: Future[CommitInfo]) -> Future[CommitInfo]:
        if self.push_in_progress is None or self.push_in_progress.is_done():
            self.push_in_progress = PushInProgress([])
        self.push_in_progress.jobs.append(job)
        return job
