"""Commands in several processes of a launcher: all of them work, the main one is heard, and one tells a fault."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from ..launched import is_one_of_several, place_of_launcher

COMMANDS = frozenset({"update", "cache", "predict"})
"""Those that share their work; others do all of it in each process, as before."""


@contextlib.contextmanager
def one_is_heard(command: str) -> Iterator[None]:
    """Let the main process alone print and show bars; a traceback is shown by whoever has one."""
    rank, _ = place_of_launcher()
    if command not in COMMANDS or not is_one_of_several():
        yield
        return
    # What only compares is installed without what draws bars.
    from ..progress import told_to

    _find_others_without_a_gpu()
    with contextlib.ExitStack() as stack:
        if rank:
            nowhere = stack.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
            stack.enter_context(contextlib.redirect_stderr(nowhere))
            stack.enter_context(told_to(lambda share: None))
        yield


def meet() -> None:
    """Find the other processes, where no training does it."""
    if is_one_of_several():
        import torch
        from accelerate import PartialState

        PartialState(cpu=not torch.accelerator.is_available())


def tells(fault: BaseException, command: str) -> bool:
    """Tell whether this process says what went wrong: of those with the same fault the first, and the one it is of."""
    if command not in COMMANDS or not is_one_of_several():
        return True
    rank, _ = place_of_launcher()
    processes = sys.modules.get("muscle_hf.models.processes")
    if processes is None or processes.place()[1] == 1:  # they have not met yet, and all find the same
        return int(os.environ["LOCAL_RANK"]) == 0
    if isinstance(fault, processes.OtherProcessError) or (isinstance(fault, KeyboardInterrupt) and rank):
        return False
    try:
        return bool(processes.is_first_to_tell())
    except RuntimeError:  # whoever held the store is gone, and has told it
        return rank == 0


def _find_others_without_a_gpu() -> None:
    """Let accelerate join processes on CPUs as well; where it is not told, it takes each for one that is alone."""
    import torch

    if not torch.accelerator.is_available():
        os.environ.setdefault("ACCELERATE_USE_CPU", "true")
