"""When checkpoints are written: by time and at Ctrl-C, beside those that are asked for, and each with its checksums.

A checkpoint by time is no choice of the user's. It lies in a folder of its own, replaces the one before it, gives way
to the next one that `save_strategy` asks for, counts for no `save_total_limit`, and is never taken for the best one.
"""

import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerState
from transformers.trainer_utils import SaveStrategy

from ...interrupts import Interrupt
from ...models.processes import from_every_process, on_main_process, place
from .kept import INTERIM, SEAL, STATE, let_none_lie_in_the_future, seal, state_of

SECONDS_LOST = 120.0
"""How many seconds of training are lost at most."""

# Seconds that saving may take, also where it took less before.
_SAVING = 5.0
# Seconds after which several processes, which have to stop for it, look whether it is time to save.
_LOOK = 1.0


class SealedCheckpoints(TrainerCallback):  # type: ignore[misc]  # transformers is taken as untyped
    """Notes what each file of a checkpoint holds, so that a damaged one is never gone on from."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Let the dates of older checkpoints say that they are older, before one of them gives way."""
        _set_dates(args, may_save=control.should_save)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Do the same."""
        _set_dates(args, may_save=control.should_save)

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Do the same where it is the evaluation that decides."""
        _set_dates(args, may_save=True)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Seal it."""
        from_every_process(lambda: None)  # each writes its own random state
        on_main_process(partial(_seal, Path(args.output_dir) / f"checkpoint-{state.global_step}"))


def _set_dates(args: Any, *, may_save: bool) -> None:
    if may_save and args.should_save:
        let_none_lie_in_the_future(Path(args.output_dir))


def _seal(checkpoint: Path) -> None:
    # One that an earlier training has left there has been written over: its checksums say nothing of this one.
    (checkpoint / SEAL).unlink(missing_ok=True)
    # Where a limit keeps older ones, such as the best, it may be gone.
    if state_of(checkpoint) is not None:
        seal(checkpoint)


class InterimCheckpoints(SealedCheckpoints):
    """Saves when a kill after the next step could lose more than two minutes, and at once when somebody asks to leave.

    Nothing is saved between the last step of an epoch, or of `eval_steps`, and the evaluation that belongs to it: a
    training that went on from there would skip it. With several processes the main one decides, and looks once a
    second. The `seconds` hold as long as a step and saving take less; without an `interrupt` nobody can ask to leave.
    `saves_last` says that whoever trains may not come to saving what the last step of all came to.
    """

    def __init__(
        self,
        interrupt: Interrupt | None = None,
        *,
        seconds: float = SECONDS_LOST,
        clock: Callable[[], float] = time.monotonic,
        saves_last: bool = False,
    ) -> None:
        """Start the clock."""
        self.interrupt, self.seconds, self.clock = interrupt or Interrupt(), seconds, clock
        self.saves_last = saves_last
        self._saved = self._ended = self._reached = clock()  # the last save, the last step, what the next save holds
        self._step = self._saving = 0.0
        self._saved_step = self._next_look = 0
        # While one by time is written: what it must not change.
        self._held: tuple[str | None, int | None] | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start the clock anew."""
        self._saved = self._ended = self.clock()
        self._saved_step = self._next_look = 0

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Let Ctrl-C wait until the step is saved, with the evaluation that may follow it."""
        self._release(args)  # where transformers has changed its mind about saving
        self.interrupt.waits = True

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Save where it is time to."""
        super().on_step_end(args, state, control)
        self._reached = self.clock()
        self._step, self._ended = self._reached - self._ended, self._reached
        if state.epoch != int(state.epoch):
            self._save_where_due(args, state, control)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Save where it was time to at the last step of the epoch."""
        super().on_epoch_end(args, state, control)
        self._reached = self.clock()
        self._save_where_due(args, state, control)

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Note that what is saved next holds the evaluation."""
        super().on_evaluate(args, state, control)
        self._reached = self._ended = self.clock()

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Seal it, put one by time where it belongs, or remove what another one has made superfluous."""
        self._ended, self._saved_step = self.clock(), state.global_step
        self._saving, self._saved = self._ended - self._reached, self._reached
        checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        finish = partial(_seal_for_good, checkpoint)
        if self._held is not None:
            best = self._held[0]
            was_changed, state.best_model_checkpoint = state.best_model_checkpoint != best, best
            self._release(args)
            finish = partial(_put_away, checkpoint, state if was_changed else None)

        def finished_and_asked() -> bool:
            finish()
            return self.interrupt.asked

        from_every_process(lambda: None)  # each writes its own random state
        if on_main_process(finished_and_asked):
            raise KeyboardInterrupt

    def _save_where_due(self, args: Any, state: Any, control: Any) -> None:
        look = 0.0 if place()[1] == 1 else _LOOK

        def is_due() -> bool:
            lost = self._reached - self._saved + max(self._step, look) + max(self._saving, _SAVING)
            # Where saving takes long, as much time is left for training.
            return lost >= self.seconds and self._reached - self._saved >= 2 * self._saving

        # After the last step of all, what is trained is saved for good.
        is_last = state.global_step >= state.max_steps and not self.saves_last
        is_looked_at = place()[1] == 1 or state.global_step >= self._next_look
        if is_last or not is_looked_at or state.global_step == self._saved_step:
            return
        asked, due, steps = on_main_process(lambda: (self.interrupt.asked, is_due(), _LOOK // max(self._step, 1e-3)))
        self._next_look = state.global_step + max(1, int(steps))
        # An evaluation decides whether "best" saves, and takes back what is asked for here.
        is_in_doubt = control.should_evaluate and args.save_strategy == SaveStrategy.BEST
        if control.should_save or is_in_doubt or not (asked or due):
            return
        self._held = (state.best_model_checkpoint, args.save_total_limit)
        args.save_total_limit = None
        control.should_save = True

    def _release(self, args: Any) -> None:
        if self._held is not None:
            args.save_total_limit = self._held[1]
            self._held = None


def _seal_for_good(checkpoint: Path) -> None:
    _seal(checkpoint)
    shutil.rmtree(checkpoint.parent / INTERIM, ignore_errors=True)


def _put_away(checkpoint: Path, state: TrainerState | None) -> None:
    """Move a checkpoint into its own folder, where a power cut finds it whole, and remove the one before it."""
    if state is not None:
        state.save_to_json(str(checkpoint / STATE))
    seal(checkpoint)
    target = checkpoint.parent / INTERIM / checkpoint.name
    target.parent.mkdir(exist_ok=True)
    checkpoint.replace(target)
    for other in target.parent.iterdir():
        if other != target:
            shutil.rmtree(other, ignore_errors=True)
