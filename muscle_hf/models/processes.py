"""Work that several training processes share (DDP): one does it for all, or each does its part.

An exception in one process would leave the others waiting for it; here it is raised in all of them.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, TypeVar

import torch.distributed as distributed

from ..errors import MuscleError

_T = TypeVar("_T")


def place() -> tuple[int, int]:
    """Return this process's number, counted from 0, and how many processes there are.

    Example:
        >>> place()
        (0, 1)
    """
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def on_main_process(work: Callable[[], _T]) -> _T:
    """Do something in the main process only, and give its result, which must be picklable, to all.

    Where it raises, the main process raises the same, and the others a MuscleError.
    """
    rank, processes = place()
    if processes == 1:
        return work()
    told: list[Any] = [None, None]
    failure = None
    if rank == 0:
        told, failure = _attempt(work)
    distributed.broadcast_object_list(told, src=0)
    if failure is not None:
        raise failure
    if told[1] is not None:
        raise MuscleError(f"The main process failed: {told[1]}")
    return told[0]  # type: ignore[no-any-return]


def from_every_process(work: Callable[[], _T]) -> list[_T]:
    """Do something in every process, and give the results of all, in their order, to all; they must be picklable.

    Where it raises, the process raises the same, and the others a MuscleError.
    """
    _, processes = place()
    if processes == 1:
        return [work()]
    mine, failure = _attempt(work)
    told: list[Any] = [None] * processes
    distributed.all_gather_object(told, mine)
    if failure is not None:
        raise failure
    for number, (_, fault) in enumerate(told):
        if fault is not None:
            raise MuscleError(f"Process {number} failed: {fault}")
    return [result for result, _ in told]


@contextmanager
def entered_by_main(context: AbstractContextManager[Any]) -> Iterator[None]:
    """Let the main process alone enter a context, such as a lock, for all; where it cannot, all of them raise."""
    with ExitStack() as stack:

        def enter() -> None:
            stack.enter_context(context)

        on_main_process(enter)
        yield


def _attempt(work: Callable[[], Any]) -> tuple[list[Any], Exception | None]:
    """Give what to tell the others, result and fault, and the exception."""
    try:
        return [work(), None], None
    except Exception as failure:  # Whatever it is: it is raised again, once the others know.
        return [None, f"{type(failure).__name__}: {failure}"], failure
