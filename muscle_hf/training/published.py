"""The card of what is trained, its saving and its pushes: the same for both trainers."""

from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo
from transformers import Trainer
from transformers.trainer_utils import HubStrategy

from ..card.files import AdapterCard
from ..errors import HubError
from ..flips.comparison import Comparison
from ..hub.failures import hub_failures
from ..models.processes import from_every_process
from ..models.sharding import is_sharded
from ..publishing.from_model import refuse_local_base
from ..publishing.from_trainer import CardOfRun, PushesOfRun, default_title, nothing_is_lost
from ..runs.run_comparison import RunComparison
from .arguments import set_aside
from .hooks import is_pushing, note_push, wait_for_pushes
from .refusals import refuse_diverged
from .secrets import without_tokens
from .split_models import state_to_save


class PublishedTrainer(Trainer):  # type: ignore[misc]  # transformers counts as untyped here
    """What of both trainers writes the card, saves, and pushes."""

    args: Any
    control: Any
    _card: CardOfRun
    _pushes: PushesOfRun

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
        # TRL passes the default at each checkpoint.
        title = None if model_name == default_title(self.args) else model_name
        more, languages = ((texts,) if isinstance(texts, str) else tuple(texts or ()) for texts in (tags, language))
        details = {"title": title, "dataset": dataset_name, "license": license, "tags": more, "language": languages}
        self.card_details.update({name: value for name, value in details.items() if value})
        if self.is_world_process_zero():
            folder = Path(self.args.output_dir)
            folder.mkdir(parents=True, exist_ok=True)
            self.card().write(folder)

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
        refuse_local_base(self.accelerator.unwrap_model(self.model))
        try:
            if self.hub_model_id is None:
                self.init_hf_repo(token=token, private=private)
            self.create_model_card(**card)
            wait_for_pushes(self)
            target = {"token": token, "revision": revision, "private": private}
            pushed = self._pushes.whole_folder(self, commit_message or "End of training", blocking=blocking, **target)
        except HubError as error:
            raise nothing_is_lost(error, self) from error
        if isinstance(pushed, Future):
            note_push(self, pushed)
        return pushed

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save as [`transformers.Trainer.save_model`] does; what is split over processes as one process saves it."""
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
        if self.args.hub_strategy == HubStrategy.END:
            return
        # Each process saves its own random state, which belongs to a whole checkpoint.
        self.accelerator.wait_for_everyone()
        if self.is_world_process_zero():
            job = self._pushes.checkpoint(self, Path(checkpoint_folder), is_busy=is_pushing(self))
            if job is not None:
                note_push(self, job)
