"""Work that several processes share: one does it for all, or each does its part, and nobody waits in a collective.

A process that has done its part says so in the store of the process group, and looks there, asleep in between, until
all the others have as well. So it can wait for hours: a collective would be ended by its time-out, and Ctrl-C does not
reach a process that waits in one. What they found is exchanged by a collective, which all enter at once.

An exception in one process would leave the others waiting for it; here it is raised in all of them.
"""

import itertools
import json
import pickle
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import Any, TypeVar

from ..errors import ConfigurationError, MuscleError
from ..launched import place_of_launcher
from ..text import one_line

_T = TypeVar("_T")

# Between two looks at the store, in seconds: at first, and at most.
_SHORTEST, _LONGEST = 0.001, 0.5
# So long the main process, which may hold the store, waits for others to read why it ends.
_FAREWELL = 3.0
# Those that failed are counted beside those that have arrived, in one number.
_FAILED = 2**32
_TOLD = "told_to_other_processes"
_meetings = itertools.count()
_last_meeting: str | None = None


class OtherProcessError(MuscleError):
    """Another process failed; it says itself why."""


def place() -> tuple[int, int]:
    """Return this process's number, counted from 0, and how many processes there are.

    Example:
        >>> place()
        (0, 1)
    """
    # Whoever has not imported torch, as the process that shows a demo, is in no group.
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def on_main_process(work: Callable[[], _T]) -> _T:
    """Do something in the main process only, and give its result, which must be picklable, to all.

    It is done when all processes have come here. Where it raises, the main process raises the same, and the others an
    [`OtherProcessError`].
    """
    rank, processes = place()
    if processes == 1:
        return work()
    return from_every_process(lambda: work() if rank == 0 else None)[0]  # type: ignore[return-value]


def from_every_process(work: Callable[[], _T]) -> list[_T]:
    """Do something in every process, and give the results of all, in their order, to all; they must be picklable.

    Where it raises, the process raises the same, and the others an [`OtherProcessError`] as soon as they have done
    their part. An interruption of one interrupts them likewise.
    """
    processes = place()[1]
    if processes == 1:
        return [work()]
    import torch.distributed as distributed

    try:
        mine = pickle.dumps(work())
    except BaseException as failure:
        _tell_others(_meeting(), failure)
        raise
    _wait_for_others(_meeting())
    told: list[Any] = [None] * processes
    distributed.all_gather_object(told, mine)
    return [pickle.loads(each) for each in told]  # noqa: S301 - of this very program


def work_together(work: Callable[[], _T]) -> _T:
    """Do the whole work of a program in all processes that a launcher has started, and leave their group.

    What fails in one fails in all. That they do not find each other is a ConfigurationError.
    """
    started, joined = place_of_launcher()[1], place()[1]
    if started != joined:
        raise ConfigurationError(
            f"{started} processes were started, and this one finds {joined}. Start them with accelerate launch or "
            "torchrun, all of them on GPUs or all of them with --use-cpu."
        )
    result = from_every_process(work)[place()[0]]
    if joined > 1:
        import torch.distributed as distributed

        distributed.destroy_process_group()
    return result


@contextmanager
def entered_by_main(context: AbstractContextManager[Any]) -> Iterator[None]:
    """Let the main process alone enter a context, such as a lock, for all; where it cannot, all of them raise."""
    with ExitStack() as stack:

        def enter() -> None:
            stack.enter_context(context)

        on_main_process(enter)
        yield


def is_first_to_tell() -> bool:
    """Tell whether this process is the first to ask: of several that fail, one says so to the user."""
    return place()[1] == 1 or _store().add("muscle_hf/told", 1) == 1


def _meeting() -> str:
    """Name the next place where all processes meet; they come to the same ones in the same order."""
    return f"muscle_hf/meeting-{next(_meetings)}"


def _wait_for_others(meeting: str) -> None:
    global _last_meeting
    import torch.distributed as distributed

    rank, processes = place()
    store, pause = _store(), _SHORTEST
    try:
        count = store.add(meeting, 1)
        while count < processes:
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST)
            count = store.add(meeting, 0)
        if count >= _FAILED:
            told = json.loads(store.get(_failure_at(meeting)))
            store.add(_readers_of(meeting), 1)
            raise _InterruptedError if told["interrupted"] else OtherProcessError(told["said"])
        if rank == 0 and _last_meeting is not None:
            store.delete_key(_last_meeting)  # all have left it
        _last_meeting = meeting
    except distributed.DistError as error:
        raise OtherProcessError(
            f"The main process has ended, and this one cannot go on without it ({one_line(error)})."
        ) from error
    except _InterruptedError:
        raise KeyboardInterrupt from None
    except KeyboardInterrupt as failure:
        _tell_others(meeting, failure)
        raise


def _tell_others(meeting: str, failure: BaseException) -> None:
    """Say at a meeting why this process does not come; whoever waits there, or comes, fails as well."""
    import torch.distributed as distributed

    rank, processes = place()
    who = "The main process" if rank == 0 else f"Process {rank}"
    is_own = not isinstance(failure, OtherProcessError)
    said = f"{who} failed: {type(failure).__name__}: {failure}" if is_own else str(failure)
    told = {"interrupted": isinstance(failure, KeyboardInterrupt), "said": said}
    store = _store()
    # Unless whoever held the store is gone: then nobody waits.
    with suppress(distributed.DistError):
        store.compare_set(_failure_at(meeting), "", json.dumps(told))  # the first one counts
        store.add(meeting, _FAILED)
        if rank == 0 and is_own and isinstance(failure, Exception) and not hasattr(failure, _TOLD):
            _wait_for_readers(store, meeting, processes)
    with suppress(AttributeError):
        setattr(failure, _TOLD, True)


def _wait_for_readers(store: Any, meeting: str, processes: int) -> None:
    """Let those that wait read what is said, since the store may end with this process."""
    end = time.monotonic() + _FAREWELL
    while time.monotonic() < end:
        if store.add(meeting, 0) // _FAILED + store.add(_readers_of(meeting), 0) >= processes:
            return
        time.sleep(_SHORTEST * 50)


def _store() -> Any:
    from torch.distributed.distributed_c10d import _get_default_store  # not there where torch was built without

    return _get_default_store()


def _failure_at(meeting: str) -> str:
    return f"{meeting}/failure"


def _readers_of(meeting: str) -> str:
    return f"{meeting}/readers"


class _InterruptedError(Exception):
    """Another process was interrupted."""
