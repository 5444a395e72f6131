"""Trainings that lose at most two minutes, and go on from the newest whole checkpoint, or the one that is named."""

import json
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from transformers import PrinterCallback, Trainer, TrainerState
from transformers.trainer import DEFAULT_PROGRESS_CALLBACK
from transformers.trainer_callback import TrainerControl
from transformers.trainer_utils import TrainOutput

from ...errors import InputError
from ...files import refuse_read_only, write_text
from ...interrupts import polite_interrupts, to_stderr
from ...locks import held_folder
from ...models.processes import entered_by_main, from_every_process, on_main_process, place
from ..hooks import load_weights
from .diverged import refuse_diverged
from .full_disk import explaining_a_full_disk
from .kept import SEAL, STATE, damage_of, remove_cut_off, remove_newer, seal, sound_checkpoint, state_of, steps_done
from .settings_of_run import has_all_epochs, note_settings, refuse_another_way
from .written import InterimCheckpoints, SealedCheckpoints

logger = logging.getLogger(__name__)


def train_and_save(trainer: Trainer) -> int:
    """Train from the newest whole checkpoint in the output folder, if there is one, and save the adapter.

    The trainer has an output folder of its own; the steps of the whole training are returned. At most two minutes of
    it are lost, whatever ends the process: see [`InterimCheckpoints`]. A full disk is a ConfigurationError and leaves
    the checkpoint before; Ctrl-C or SIGTERM is a KeyboardInterrupt, and the last step is saved where the first of them
    came within a step.
    """
    for callback in (PrinterCallback, DEFAULT_PROGRESS_CALLBACK):  # whoever trains has a bar of its own
        trainer.remove_callback(callback)
    folder = Path(trainer.args.output_dir)
    checkpoint = on_main_process(partial(_start_of, folder, needs_best=trainer.args.load_best_model_at_end))
    if checkpoint is not None:
        refuse_another_way(trainer, checkpoint)
    disk = explaining_a_full_disk(folder, is_command=True)
    with polite_interrupts() as interrupt, disk:
        trainer.remove_callback(SealedCheckpoints)  # of which this is one
        trainer.add_callback(InterimCheckpoints(interrupt))
        if checkpoint is None or not _has_ended(checkpoint):
            if checkpoint is not None:
                on_main_process(partial(_find_best_again, checkpoint, folder))
            trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        else:
            _load_ended(trainer, checkpoint, folder)
            if (take_up := getattr(trainer, "take_up", None)) is not None:  # a trainer with a card
                take_up(checkpoint)
        from_every_process(partial(refuse_diverged, trainer))  # of a split model one alone may have what is NaN
        trainer.save_model()
    return int(trainer.state.global_step)


@contextmanager
def losing_nothing(trainer: Trainer) -> Iterator[None]:
    """Let one training at a time work in its folder, say what a full disk leaves, and save when it is told to end."""
    folder = Path(trainer.args.output_dir)
    on_main_process(partial(refuse_read_only, folder, "Train with an output_dir where you may write."))
    lock = held_folder(folder, "training", "train with another output_dir")
    # A command says it in its own words.
    explaining = nullcontext() if is_of_command(trainer) else explaining_a_full_disk(folder, is_command=False)
    with entered_by_main(lock), explaining, _saved_when_interrupted(trainer):
        yield


def is_of_command(trainer: Trainer) -> bool:
    """Tell whether a command trains, which goes on by itself, and not a script."""
    return any(isinstance(callback, InterimCheckpoints) for callback in trainer.callback_handler.callbacks)


@contextmanager
def _saved_when_interrupted(trainer: Trainer) -> Iterator[None]:
    """Let SIGTERM and Ctrl-C wait until the step under way is saved, where `enable_jit_checkpoint` asks for it.

    transformers' own way saves between the gradients and the step that they are for, or before the evaluation that
    belongs to a step, so that what goes on from there comes to other weights; and it ends as if all steps were taken.
    """
    is_asked_for = bool(trainer.args.enable_jit_checkpoint)
    if not is_asked_for or is_of_command(trainer):
        yield
        return
    try:
        with polite_interrupts(to_stderr if place()[0] == 0 else None) as interrupt:
            trainer.remove_callback(SealedCheckpoints)
            trainer.add_callback(InterimCheckpoints(interrupt, seconds=math.inf, saves_last=True))
            yield
    except KeyboardInterrupt:
        done = steps_done(Path(trainer.args.output_dir))
        if done is None:
            raise
        raise KeyboardInterrupt(
            f"step {done[0]} of {done[1]} is kept in {trainer.args.output_dir}; train(resume_from_checkpoint=True) "
            "goes on there."
        ) from None
    finally:
        trainer.remove_callback(InterimCheckpoints)
        trainer.add_callback(SealedCheckpoints())


def _start_of(folder: Path, *, needs_best: bool) -> Path | None:
    remove_cut_off(folder)
    checkpoint = sound_checkpoint(folder, needs_best=needs_best)
    remove_newer(folder, checkpoint)
    return checkpoint


def _asked_for(resume: str | bool | None, args: Any) -> Path | None:
    """Return the checkpoint that is gone on from, where a trainer is asked for one, or for the newest (True).

    A damaged one is refused, or, where the newest is asked for, told and passed over; where none is whole, the
    training begins anew, so that a command on a machine that may go at any time always asks for the newest.
    """
    if resume is None or resume is False:
        return None
    if resume is True:
        newest = sound_checkpoint(Path(args.output_dir), needs_best=args.load_best_model_at_end)
        if newest is None:
            logger.warning(f"{args.output_dir} holds no whole checkpoint, so the training begins anew.")
        return newest
    if not Path(resume).is_dir():
        raise InputError(
            f"resume_from_checkpoint={str(resume)!r} is no folder. Name a checkpoint, such as checkpoint-500 in "
            "output_dir, or take resume_from_checkpoint=True for the newest one that is whole."
        )
    damage = damage_of(Path(resume))
    if damage is not None:
        raise InputError(
            f"resume_from_checkpoint={str(resume)!r} cannot be gone on from: {damage}. Name the checkpoint before it, "
            "or take resume_from_checkpoint=True for the newest one that is whole."
        )
    return Path(resume)


def begun_at(trainer: Trainer, resume: str | bool | None) -> Path | None:
    """Return the checkpoint that is gone on from, if any, where the training can be the one that wrote it."""
    checkpoint = on_main_process(partial(_asked_for, resume, trainer.args))
    if checkpoint is not None:
        refuse_another_way(trainer, checkpoint)
    note_settings(trainer, checkpoint)
    return checkpoint


def _load_ended(trainer: Trainer, checkpoint: Path, folder: Path) -> None:
    """Load what a training came to; transformers would train a step more where the steps end within an epoch."""
    on_main_process(partial(_find_best_again, checkpoint, folder))
    state = TrainerState.load_from_json(str(checkpoint / STATE))
    best = state.best_model_checkpoint if trainer.args.load_best_model_at_end else None
    load_weights(trainer, best or checkpoint)
    trainer.state = state


def load_finished(trainer: Trainer, checkpoint: Path | None) -> TrainOutput | None:
    """Load a training that has all of its steps already, or return None where there is something to train.

    The loss of steps that were taken before is not known, nan.
    """
    state = None if checkpoint is None else state_of(checkpoint)
    # What is split over processes is loaded by the library's own way into training.
    is_split = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
    if checkpoint is None or state is None or is_split:
        return None
    args, steps = trainer.args, int(state["global_step"])
    if not (args.max_steps <= steps if args.max_steps > 0 else has_all_epochs(checkpoint, args.num_train_epochs)):
        return None
    _load_ended(trainer, checkpoint, Path(args.output_dir))
    asked = f"max_steps={args.max_steps}" if args.max_steps > 0 else f"num_train_epochs={args.num_train_epochs:g}"
    logger.warning(f"{checkpoint} has all {steps} steps of {asked} already: there is nothing to train.")
    return TrainOutput(trainer.state.global_step, math.nan, {})


def _has_ended(checkpoint: Path) -> bool:
    """Tell whether a checkpoint is that of the last step; early stopping may have made it so."""
    state = state_of(checkpoint) or {}
    control = state["stateful_callbacks"].get(TrainerControl.__name__, {}).get("args", {})
    return int(state["global_step"]) >= int(state["max_steps"]) or bool(control.get("should_training_stop"))


def _find_best_again(checkpoint: Path, folder: Path) -> None:
    """Correct where the best checkpoint lies, if the folder was moved; transformers would forget it."""
    state = state_of(checkpoint) or {}
    best = state.get("best_model_checkpoint")
    if best is None or Path(best).is_dir() or not (folder / Path(best).name).is_dir():
        return
    state["best_model_checkpoint"] = str(folder / Path(best).name)
    (checkpoint / SEAL).unlink(missing_ok=True)
    write_text(checkpoint / STATE, json.dumps(state, indent=2, sort_keys=True) + "\n")
    seal(checkpoint)
