"""Models that are split over processes (FSDP2, ZeRO-3): what one process asks of them, all of them ask together.

Each forward pass of such a model gathers its weights from all processes, so none can take one alone; and processes
have different numbers of batches, answers of different lengths and near-ties of their own. So before each pass they
agree whether somebody still works, and whoever has nothing left to do takes the pass with a row that means nothing.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import torch
import torch.distributed as distributed
from torch import nn
from torch.distributed.fsdp import FSDPModule

from .adapters import base_model
from .asking import asking
from .processes import from_every_process, place
from .sharding import is_sharded

_T = TypeVar("_T")


@contextmanager
def in_step(model: Any) -> Iterator[None]:
    """Let every process ask a split model as often as it likes; all of them enter and leave together.

    What fails in one process fails in all of them; where that is within a forward pass, the process has to end, and
    its launcher ends the others, which are in the middle of theirs. Nothing happens to a model that is not split.
    """
    if place()[1] == 1 or not is_sharded(model):
        yield
        return
    # transformers lets a whole `generate` count as one pass of a model that it trains.
    vars(model).pop("generate", None)
    base, under_way = base_model(model), []
    # `generate` calls the base itself, so that what lies around it has to be gathered here.
    split: list[Any] = [module for module in model.modules() if isinstance(module, FSDPModule)]
    around = [module for module in split if any(inner is base for inner in module.modules())]
    steps = _Steps(base.device)

    def begin(module: nn.Module) -> None:
        under_way.append(module)
        for owner in around:  # for each pass anew, so that the processes are alike
            owner.reshard()
            owner.unshard()

    def before(module: nn.Module, *_: Any) -> None:
        if not under_way:  # otherwise it is called by the one around it
            steps.take()
            begin(module)

    def after(module: nn.Module, *_: Any) -> None:
        if under_way and under_way[0] is module:
            under_way.clear()

    def idle(module: nn.Module) -> None:
        row = torch.zeros(1, 1, dtype=torch.long, device=base.device)
        with asking(model):
            module(input_ids=row, attention_mask=torch.ones_like(row), use_cache=False)

    def idle_pass() -> None:
        begin(base)
        idle(base)

    hooks: list[Any] = []
    try:
        with _shared(steps, idle_pass, lambda: bool(under_way)):
            idle(model)  # the outermost has to be called first: it finds the others then
            for module in dict.fromkeys((model, base)):
                hooks.append(module.register_forward_pre_hook(before, prepend=True))
                hooks.append(module.register_forward_hook(after))
            yield
    finally:
        for hook in hooks:
            hook.remove()
    for owner in around:
        owner.reshard()


@contextmanager
def calls_in_step(
    call: Callable[..., _T], idle_call: Callable[[], Any], *models: nn.Module
) -> Iterator[Callable[..., _T]]:
    """Let every process call something that asks split models, with the same passes each time, as often as it likes.

    What is handed out is called in place of `call`; whoever has finished calls `idle_call`, until all have.
    """
    if place()[1] == 1 or not any(map(is_sharded, models)):
        yield call
        return
    steps, under_way = _Steps(base_model(models[0]).device), []

    def taken(*arguments: Any) -> _T:
        steps.take()
        under_way.append(call)
        result = call(*arguments)
        under_way.clear()
        return result

    with _shared(steps, idle_call, lambda: bool(under_way)):
        yield taken


class _Steps:
    """What processes agree on before each step: who still works, and whether somebody has failed."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def _agree(self, *, works: bool = False, failed: bool = False) -> bool:
        """Tell whether somebody works; where somebody has failed, this is the last step of all."""
        counts = torch.tensor([works, failed], dtype=torch.int32, device=self.device)
        distributed.all_reduce(counts)
        working, failures = counts.tolist()
        if failures and not failed:
            raise _StoppedError
        return bool(working)

    def take(self) -> None:
        """Begin a step of this process's own."""
        self._agree(works=True)

    def join(self, idle: Callable[[], None]) -> None:
        """Take the steps of the others until none is left."""
        while self._agree():
            idle()

    def fail(self) -> None:
        """Let the others stop."""
        self._agree(failed=True)


class _StoppedError(Exception):
    """Another process has failed."""


@contextmanager
def _shared(steps: _Steps, idle: Callable[[], None], is_within_step: Callable[[], bool]) -> Iterator[None]:
    """Enter and leave together, and let what fails in one process fail in all of them."""
    from_every_process(lambda: None)
    try:
        yield
    except _StoppedError:
        pass
    except Exception as failure:
        if not is_within_step():
            steps.fail()
        from_every_process(_raising(failure))
    else:
        with suppress(_StoppedError):
            steps.join(idle)
    from_every_process(lambda: None)  # which raises what another one has told


def _raising(failure: Exception) -> Callable[[], None]:
    def fail() -> None:
        raise failure

    return fail
