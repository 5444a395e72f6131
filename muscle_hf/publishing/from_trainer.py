"""The card and the pushes of a run: by whichever way a model goes to the Hub, the card of this package goes with it.

transformers, TRL and PEFT write cards of their own, which give way here. A push is one commit, made by the main
process, and what is said of a failure is one line.
"""

import json
import weakref
from collections.abc import Mapping
from concurrent.futures import Future
from functools import partial
from pathlib import Path, PurePath
from typing import Any

from accelerate.logging import get_logger
from huggingface_hub import CommitInfo
from transformers.trainer_utils import HubStrategy

from ..card.files import AdapterCard
from ..card.names import COMPATIBILITY_ADAPTER, PLAIN_UPDATE, note_on_row
from ..errors import HubError, InputError
from ..flips.comparison import Comparison
from ..hub.commit import commit
from ..runs.run_comparison import RunComparison
from .background import BackgroundPushes, Send, resumable_files, say_failure
from .card_of_trainer import card_of_trainer
from .from_model import CarriedCard, bring_card_along, checked_files
from .training_time import time_of

logger = get_logger(__name__)

ROLES = ("new", "student")
"""Whom a trainer's `measured_comparisons` compares with the old model."""

_ROWS = (PLAIN_UPDATE, COMPATIBILITY_ADAPTER)  # of the card's table, in the same order
_MEASURED_ON = "the validation questions"


def default_title(args: Any) -> str:
    """Return the title of a card that nobody has given another one: the name of the repository, or of the folder."""
    return PurePath(args.hub_model_id or Path(args.output_dir).resolve()).name


class CardOfRun:
    """What a run's card says beside what its trainer knows: measured comparisons, and what the user adds.

    `with_config` saves the model's configuration beside an adapter.
    """

    def __init__(self, *, with_config: bool) -> None:
        """Start with nothing measured."""
        self.comparisons: dict[str, Comparison] = {}
        self.details: dict[str, Any] = {}
        self._splits: dict[str, str | None] = {}
        # Step -> what the evaluation of its weights measured.
        self._evaluations: dict[int, Mapping[str, Comparison]] = {}
        self._with_config = with_config

    def add(self, name: str, comparison: Comparison | RunComparison, split: str | None) -> None:
        """Put a measured comparison into the table; see the trainers' `add_comparison`."""
        whole: Any = comparison
        slices: dict[str, dict[str, Comparison]] = {}
        if isinstance(comparison, RunComparison):
            whole = None if comparison.overall is None else comparison.overall.comparison
            for column, parts in comparison.slices.items():
                known = {part.name: part.comparison for part in parts}
                slices[column] = {group: part for group, part in known.items() if isinstance(part, Comparison)}
        if not isinstance(whole, Comparison):
            raise InputError(
                f"{name!r} compares scores, and the card's table has shares of right answers. Compare answers, or "
                "scores of 0 and 1, or pass the comparison of one task."
            )
        if note := note_on_row(name):
            logger.warning(note)
        self.comparisons[name] = whole
        self._splits[name] = split
        if name == COMPATIBILITY_ADAPTER:
            self.details["slices"] = slices

    def start_training(self, trainer: Any) -> None:
        """Forget what was measured before the weights change."""
        time_of(trainer).start()
        self._evaluations.clear()
        ours = COMPATIBILITY_ADAPTER
        if self.comparisons.pop(ours, None) is not None:
            self.details.pop("slices", None)
            logger.warning(f"The comparison {ours!r} is off the card: training goes on, and it was measured before.")

    def note_evaluation(self, trainer: Any) -> None:
        """Keep what the trainer's last evaluation measured, of these weights and of the best ones."""
        step = _step_of_weights(trainer)
        self._evaluations[step] = trainer.measured_comparisons()
        kept = (step, trainer.state.best_global_step)
        self._evaluations = {step: measured for step, measured in self._evaluations.items() if step in kept}

    def take_up(self, trainer: Any, checkpoint: Path) -> None:
        """Take what was measured before a checkpoint that is gone on from out of its card, and of the best one's."""
        state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        time_of(trainer).take_up(state)
        steps = {state["global_step"], state.get("best_global_step")} - {None}
        for step in steps:  # the newest one may lie in a folder of its own
            for folder in (place / f"checkpoint-{step}" for place in (checkpoint.parent, checkpoint.parent.parent)):
                card = AdapterCard.read(folder) if folder.is_dir() else None
                if card is not None and card.split == _MEASURED_ON and {*_ROWS} <= card.comparisons.keys():
                    measured = zip(ROLES, (card.comparisons[row] for row in _ROWS), strict=True)
                    self._evaluations.setdefault(step, dict(measured))

    def card(self, trainer: Any) -> AdapterCard:
        """Return the card of what is known by now."""
        details = dict(self.details)
        if self.comparisons:
            ours = COMPATIBILITY_ADAPTER
            split = self._splits[ours if ours in self.comparisons else next(iter(self.comparisons))]
            details["split"] = split
            details["comparisons"] = {
                name if self._splits[name] in (None, split) else f"{name}, {self._splits[name]}": comparison
                for name, comparison in self.comparisons.items()
            }
        evaluated = self._evaluations.get(_step_of_weights(trainer), {})
        if evaluated and not self.comparisons:
            rows = dict(zip(ROLES, _ROWS, strict=True))
            details["comparisons"] = {rows[role]: comparison for role, comparison in evaluated.items()}
            details["split"] = _MEASURED_ON
            if _is_best_checkpoint(trainer) and trainer.is_chosen_by_what_is_measured:
                details["caveats"] = ("The checkpoint was chosen by the questions that it was measured on.",)
        return card_of_trainer(trainer, details)

    def hand_over(self, trainer: Any) -> None:
        """Let the model bring the card of what is known by now along, wherever it is saved or pushed."""
        card, has_own_title = self.card(trainer), "title" in self.details
        carried = CarriedCard(card, trainer.processing_class, self._with_config, has_own_title)
        model = trainer.accelerator.unwrap_model(trainer.model)
        bring_card_along(model, carried, weakref.WeakMethod(trainer.renew_card))


def _is_best_checkpoint(trainer: Any) -> bool:
    """Tell whether training has ended, with the best checkpoint."""
    is_loaded = trainer.args.load_best_model_at_end and trainer.state.best_model_checkpoint is not None
    return is_loaded and not trainer.is_in_train


def _step_of_weights(trainer: Any) -> int:
    return int(trainer.state.best_global_step if _is_best_checkpoint(trainer) else trainer.state.global_step)


class PushesOfRun:
    """The pushes of a run out of the trainer's output folder, while training goes on and at its end."""

    def __init__(self, folder: str | Path) -> None:
        """Start with nothing pushed."""
        self._background = BackgroundPushes(folder)
        self._newest: Future[CommitInfo] | None = None
        self._newest_was_left_out = False

    def start_training(self) -> None:
        """Forget the pushes of an earlier training."""
        self._newest, self._newest_was_left_out = None, False

    @property
    def lacks_the_newest(self) -> bool:
        """Whether the newest checkpoint should be on the Hub and is not."""
        return self._newest_was_left_out or (self._newest is not None and self._newest.exception() is not None)

    def whole_folder(
        self, trainer: Any, message: str, *, blocking: bool, **target: Any
    ) -> CommitInfo | Future[CommitInfo]:
        """Push what lies in the output folder; the commit, or, where it is not waited for, its future."""
        send, files = _sender(trainer, message, **target), checked_files(Path(trainer.args.output_dir))
        return send(files) if blocking else self._background.start(files, send, "The push", can_link=False)

    def checkpoint(self, trainer: Any, folder: Path, *, is_busy: bool) -> Future[CommitInfo] | None:
        """Push a checkpoint as `hub_strategy` says, beside the training; None where it is left out.

        It is called in the trainer's main process; `is_busy` says that an earlier push goes on.
        """
        args = trainer.args
        self._newest_was_left_out = is_busy and not args.hub_always_push
        if self._newest_was_left_out:
            return None
        trainer.callback_handler.on_push_begin(args, trainer.state, trainer.control)
        try:
            files: dict[str, bytes | Path] = {**checked_files(folder)}
            if args.hub_strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
                name = folder.name if args.hub_strategy == HubStrategy.ALL_CHECKPOINTS else "last-checkpoint"
                files |= {f"{name}/{path}": content for path, content in resumable_files(folder).items()}
            send = _sender(trainer, f"Training in progress, step {trainer.state.global_step}")
            self._newest = self._background.start(files, send, f"The push of {folder.name}", can_link=True)
        except (InputError, OSError) as error:
            # Not worth the rest of the training, whose end tries again.
            say_failure(f"The push of {folder.name}", error)
            self._newest_was_left_out = True
            return None
        return self._newest


def _sender(
    trainer: Any, message: str, token: str | None = None, revision: str | None = None, private: bool | None = None
) -> Send:
    args = trainer.args
    return partial(
        commit,
        repository=trainer.hub_model_id,
        message=message,
        private=args.hub_private_repo if private is None else private,
        revision=revision or args.hub_revision,
        token=token or args.hub_token,
    )


def nothing_is_lost(error: HubError, trainer: Any) -> HubError:
    """Say of a push that failed where its files lie, and how to push them."""
    folder, repository = trainer.args.output_dir, trainer.hub_model_id or trainer.args.hub_model_id or "org/name"
    return HubError(
        f"{error} Nothing is lost: it is saved in {folder}. Push it with `muscle-hf push {folder} {repository}`."
    )
