"""The card of a training is written, and what is trained is pushed, for both trainers."""

from concurrent.futures import Future
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo
from transformers.trainer_utils import HubStrategy

from ..errors import HubError
from ..publishing.from_model import refuse_local_base
from ..publishing.from_trainer import PushesOfRun, default_title, nothing_is_lost
from .hooks import is_pushing, note_push, wait_for_pushes


def write_card(trainer: Any, *, title: str | None, tags: Any, language: Any, **details: str | None) -> None:
    """Take up what a user says of the card, and write it to the output folder; see `TrainerBase.create_model_card`."""
    # TRL passes the default at each checkpoint.
    title = None if title == default_title(trainer.args) else title
    more, languages = ((texts,) if isinstance(texts, str) else tuple(texts or ()) for texts in (tags, language))
    told = {"title": title, **details, "tags": more, "language": languages}
    trainer.card_details.update({name: value for name, value in told.items() if value})
    if trainer.is_world_process_zero():
        folder = Path(trainer.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        trainer.card().write(folder)


def pushed_folder(
    trainer: Any, pushes: PushesOfRun, message: str, card: dict[str, Any], *, blocking: bool, **target: Any
) -> CommitInfo | Future[CommitInfo]:
    """Push what is saved in the output folder as one commit, with a card; see `TrainerBase.push_to_hub`."""
    refuse_local_base(trainer.accelerator.unwrap_model(trainer.model))
    try:
        if trainer.hub_model_id is None:
            trainer.init_hf_repo(token=target["token"], private=target["private"])
        trainer.create_model_card(**card)
        wait_for_pushes(trainer)
        pushed = pushes.whole_folder(trainer, message, blocking=blocking, **target)
    except HubError as error:
        raise nothing_is_lost(error, trainer) from error
    if isinstance(pushed, Future):
        note_push(trainer, pushed)
    return pushed


def push_checkpoint(trainer: Any, pushes: PushesOfRun, folder: Path) -> None:
    """Push a checkpoint that has just been saved, in the background, as `hub_strategy` says."""
    if trainer.args.hub_strategy == HubStrategy.END:
        return
    # Each process saves its own random state, which belongs to a whole checkpoint.
    trainer.accelerator.wait_for_everyone()
    if trainer.is_world_process_zero():
        job = pushes.checkpoint(trainer, folder, is_busy=is_pushing(trainer))
        if job is not None:
            note_push(trainer, job)
