"""Weights that FSDP2 or ZeRO-3 split over processes: made whole for a while, or exchanged for others.

Each process has its own part of each weight, and a layer is whole while it is needed. A forward pass of the whole
model does that by itself, and all processes have to take it together. What is here is for the rest: an LM head that is
used outside of the forward pass, and other values that take the weights' place for one.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from .zero3 import gathered, is_partitioned, let_go, partitioned


def is_sharded(model: nn.Module) -> bool:
    """Tell whether the weights of a model are split over processes.

    Example:
        >>> is_sharded(nn.Linear(2, 2))
        False
    """
    return any(isinstance(module, FSDPModule) for module in model.modules()) or any(
        is_partitioned(weight) for weight in model.parameters()
    )


def whole_shape(weight: Tensor) -> torch.Size:
    """Return the shape that a weight has as a whole."""
    return torch.Size(getattr(weight, "ds_shape", weight.shape))


def part_of(weight: Tensor) -> Tensor:
    """Return what this process has of a weight: memory that can be written to."""
    if is_partitioned(weight):
        part: Tensor = weight.ds_tensor  # type: ignore[attr-defined]
        return part.data
    return weight.to_local() if isinstance(weight, DTensor) else weight.data


@torch.no_grad()
def split_again(model: nn.Module) -> None:
    """Let go of what is whole of the weights, so that it is gathered anew."""
    let_go(model)
    for module in _fsdp_modules(model):
        module.reshard()


@contextmanager
def whole(model: nn.Module, *modules: nn.Module | None) -> Iterator[None]:
    """Let some modules of a model, such as its LM head, be called on their own, as often as each process likes.

    Their weights are whole, and the hooks that would split them again are silent. All processes come here together.
    A gradient that reaches them is taken along by the backward pass. Nothing happens to a model that is not split.
    """
    wanted = [module for module in modules if module is not None]
    with ExitStack() as stack:
        if is_sharded(model):
            stack.enter_context(gathered(model, partitioned(wanted)))
            for owner in _owners(model, wanted):
                if not _is_whole(owner):
                    owner.unshard()
                    if not torch.is_grad_enabled():  # otherwise the backward pass needs it, and splits it afterwards
                        stack.callback(owner.reshard)
            for module in wanted:
                stack.enter_context(_silent(module))
        yield


@torch.no_grad()
def gathered_state(model: nn.Module, wanted: Callable[[str, Tensor], bool], *, keep: bool) -> dict[str, Tensor]:
    """Gather what is `wanted` of a model's state, one weight after the other, on the CPU of processes that `keep` it.

    All processes gather together. What is tied stays one tensor.
    """
    split_again(model)
    known: dict[int, Tensor] = {}
    state = {name: value for name, value in model.state_dict(keep_vars=True).items() if wanted(name, value)}
    for value in state.values():
        if id(value) in known:
            continue
        with gathered(model, [value] if is_partitioned(value) else []):
            tensor: Any = value.detach()
            if hasattr(tensor, "full_tensor"):  # one that is offloaded to the CPU is gathered where the others are
                tensor = tensor.to(tensor.device_mesh.device_type).full_tensor()
            known[id(value)] = tensor.cpu().clone() if keep else tensor.new_empty(0)
    return {name: known[id(value)] for name, value in state.items()} if keep else {}


class LocalShards:
    """What this process has of a model's trained weights, kept to be put in their place for a while.

    Nothing is gathered for it. It takes as much memory as the trained weights take here.
    """

    def __init__(self, model: nn.Module) -> None:
        """Copy what is trained, as it is now."""
        self.model = model
        split_again(model)
        self.kept = {name: part_of(weight).detach().clone() for name, weight in _trained(model)}

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the values that were kept in the place of the model's own; they come back, whatever happens."""
        were_whole = [module for module in _fsdp_modules(self.model) if _is_whole(module)]
        exchanged: list[str] = []
        try:
            self._exchange(exchanged, list(self.kept))
            yield
        except BaseException:
            # A forward pass that did not come to its end leaves layers whole. Before torch 2.13 they stay so.
            getattr(self.model, "reset_iter_state", lambda: None)()
            self._exchange([], exchanged)
            raise
        self._exchange([], exchanged)
        for module in were_whole:  # a backward pass may be under way that counts on it
            module.unshard()

    @torch.no_grad()
    def _exchange(self, done: list[str], names: list[str]) -> None:
        """Exchange the model's values for those kept here, so that no third copy is needed; note what is `done`."""
        split_again(self.model)
        weights = dict(_trained(self.model))
        for name in names:
            there, here = part_of(weights[name]), self.kept[name]
            own = there.clone()
            there.copy_(here)
            here.copy_(own)
            done.append(name)
        # Weights are gathered on streams of their own, which do not wait for these copies.
        for device in {part_of(weight).device for weight in weights.values()} - {torch.device("cpu")}:
            torch.get_device_module(device).synchronize(device)


def _trained(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]


def _fsdp_modules(model: nn.Module) -> list[FSDPModule]:
    return [module for module in model.modules() if isinstance(module, FSDPModule)]


def _owners(model: nn.Module, modules: list[nn.Module]) -> list[FSDPModule]:
    """Return whatever splits a weight of these modules: one of them, one inside, or one around."""
    names = {name for name, module in model.named_modules() if any(module is wanted for wanted in modules)}
    return [
        module
        for name, module in model.named_modules()
        if isinstance(module, FSDPModule)
        and any(
            not name or wanted == name or wanted.startswith(f"{name}.") or name.startswith(f"{wanted}.")
            for wanted in names
        )
    ]


def _is_whole(owner: Any) -> bool:
    """Tell whether the weights that a module splits itself, not one inside of it, are whole at the moment."""
    left: list[nn.Module] = [owner]
    while left:
        module = left.pop()
        if any(not isinstance(weight, DTensor) for weight in module.parameters(recurse=False)):
            return True
        left += [child for child in module.children() if not isinstance(child, FSDPModule)]
    return False


@contextmanager
def _silent(module: nn.Module) -> Iterator[None]:
    """Set a module's hooks aside, and those of what is inside of it."""
    kept = [(inner, inner._forward_pre_hooks, inner._forward_hooks) for inner in module.modules()]
    try:
        for inner, _, _ in kept:
            inner._forward_pre_hooks, inner._forward_hooks = OrderedDict(), OrderedDict()
        yield
    finally:
        for inner, before, after in kept:
            inner._forward_pre_hooks, inner._forward_hooks = before, after
