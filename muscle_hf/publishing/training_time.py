"""How long a training took, also one that was gone on with: each checkpoint says how long it took so far."""

import time
from collections.abc import Mapping
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState


class TrainingTime(TrainerCallback, ExportableState):  # type: ignore[misc]  # transformers is taken as untyped
    """Counts the seconds that led to the weights; what was lost by a kill, and is done once more, counts once.

    `seconds` are those of what has ended, counted from step `since` on: above 0 where a checkpoint that was gone on
    from does not say how long it took, as one of an earlier version, or of another trainer.
    """

    def __init__(self) -> None:
        """Nothing is trained yet."""
        self._begun: float | None = None
        self.start()

    def start(self) -> None:
        """Begin anew."""
        self.seconds, self.since, self.has_ended = 0.0, 0, False

    def take_up(self, state: Mapping[str, Any]) -> None:
        """Go on from the state in a checkpoint; what has ended with it has taken as long as it says."""
        kept = state["stateful_callbacks"].get(type(self).__name__)
        if kept is None:
            self.seconds, self.since = 0.0, int(state["global_step"])
        else:
            self.seconds, self.since = float(kept["attributes"]["seconds"]), int(kept["attributes"]["since"])
        self.has_ended = kept is not None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start the clock."""
        # The state of a checkpoint of an earlier version does not have it, and the library looks for it when it saves.
        state.stateful_callbacks.setdefault(type(self).__name__, self.state())
        self._begun, self.has_ended = time.monotonic(), False

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Stop it."""
        self.seconds, self._begun, self.has_ended = self._so_far(), None, True

    def state(self) -> dict[str, Any]:
        """Give what a checkpoint keeps."""
        return {"args": {}, "attributes": {"seconds": self._so_far(), "since": self.since}}

    def row(self) -> dict[str, str]:
        """Give the row of a card, once the training has ended.

        Example:
            >>> time = TrainingTime()
            >>> time.take_up({"global_step": 8, "stateful_callbacks": {"TrainingTime": {"attributes": {"seconds": 400,
            ...                                                                                        "since": 0}}}})
            >>> time.row()
            {'time': '7 min'}
        """
        if not self.has_ended:
            return {}
        shown = f"{self.seconds:.0f} s" if self.seconds < 120 else f"{self.seconds / 60:.0f} min"
        if self.seconds >= 7200:
            shown = f"{self.seconds / 3600:.1f} h"
        return {"time": f"{shown}, from step {self.since} on, where it was resumed" if self.since else shown}

    def _so_far(self) -> float:
        return self.seconds + (0.0 if self._begun is None else time.monotonic() - self._begun)


def time_of(trainer: Any) -> TrainingTime:
    """Return what counts a trainer's time; transformers may put a copy in its place when it resumes."""
    callbacks = trainer.callback_handler.callbacks
    return next(callback for callback in callbacks if isinstance(callback, TrainingTime))
