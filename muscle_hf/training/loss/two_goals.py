"""The gradients of two goals, task and compatibility: how far they conflict, and one gradient made of both.

The task's goal is the cross-entropy of the labels, with its weight in the loss; the other is the rest. The task's
gradient comes from a backward pass of its own. With "sum" the loss then goes its usual way, so that weights are the
same as without a look at the gradients, and the other gradient is the difference. Otherwise the loss that goes on is
the rest alone. Both are added up over the batches of an optimizer step, and put together once a step, before they are
clipped.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import TrainerCallback

from ...errors import ConfigurationError, InputError
from ...losses.compatibility import CompatibilityLoss
from ...losses.logits import in_float
from ...losses.perpendicular import combine, products
from ..hooks import router_loss_weight

# Share of the steps before in the running mean of the task's gradient: about the last ten count.
_KEPT = 0.9
# A difference so much smaller than what it is of, in units of rounding, is rounding itself.
_ROUNDING = 16
_MEAN = "task_gradient_mean.safetensors"
_FUSED = ("lomo", "adalomo")


def compares_gradients(args: Any) -> bool:
    """Tell whether a config asks for the gradients of both goals."""
    return bool(args.log_gradient_cosine or args.gradient_conflict != "sum")


def _asked(args: Any) -> str:
    if args.gradient_conflict != "sum":
        return f"gradient_conflict={args.gradient_conflict!r}"
    return "log_gradient_cosine=True"


def check_two_goals(args: Any) -> None:
    """Refuse options of a config that do not go with gradients of two goals; to be called before models are loaded."""
    if not compares_gradients(args):
        return
    if not 0 < args.cross_entropy_weight < 1:
        raise ConfigurationError(
            f"{_asked(args)} needs two goals, and with cross_entropy_weight={args.cross_entropy_weight!r} there is "
            "one. Set a weight between 0 and 1, such as 0.5."
        )
    checkpointing = [
        name
        for name in ("gradient_checkpointing_kwargs", "activation_checkpointing_kwargs")
        if isinstance(options := getattr(args, name, None), dict) and options.get("use_reentrant")
    ]
    is_offloaded = getattr(args, "activation_offloading", False)
    for is_set, option, reason in (
        (args.fp16, "fp16=True", "whose losses are scaled; train with bf16 or in float32"),
        (args.torch_compile, "torch_compile=True", "which frees what the second backward pass needs"),
        (checkpointing, "use_reentrant=True", f"which allows one backward pass; leave it out of {checkpointing}"),
        (is_offloaded, "activation_offloading=True", "which allows one backward pass"),
        (args.deepspeed, "DeepSpeed", "which keeps the gradients to itself"),
        (args.optim in _FUSED, f"optim={str(args.optim)!r}", "which uses a gradient up as soon as it is there"),
    ):
        if is_set:
            raise ConfigurationError(f"{_asked(args)} does not go with {option}, {reason}.")


class TwoGoals(TrainerCallback):  # type: ignore[misc]  # transformers is taken as untyped
    """Takes the gradients of both goals of a trainer apart, and puts them together.

    It takes a copy of the gradient in memory, with "accuracy_first" two, of which checkpoints keep one.
    """

    def __init__(self, trainer: Any) -> None:
        """Refuse ways of training in which one process does not have both gradients whole, or a third goal."""
        self.trainer = trainer
        args = trainer.args
        self.how: str = args.gradient_conflict
        if args.world_size > 1 or trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
            raise ConfigurationError(
                f"{_asked(args)} works in one process: the gradients of several are averaged before anybody sees the "
                "task's apart. Start one, without FSDP and DeepSpeed."
            )
        if hasattr(trainer, "aux_loss_enabled") and router_loss_weight(trainer):
            raise ConfigurationError(
                f"{_asked(args)} knows two goals, and the router loss of a mixture of experts would be a third. Set "
                "router_aux_loss_coef=0.0."
            )
        self._is_in_step = False
        self._task: dict[str, Tensor] = {}
        self._mean: dict[str, Tensor] = {}
        self._cosines: list[float] = []

    @contextmanager
    def step(self) -> Iterator[None]:
        """Let the losses computed inside be those of a training step; put gradients together where it is the last."""
        self._is_in_step = True
        try:
            yield
        finally:
            self._is_in_step = False
        if self.trainer.accelerator.sync_gradients:
            self._end()

    def start(self, checkpoint: Path | None) -> None:
        """Forget the gradients of an earlier training, and take the mean of the one that is gone on with."""
        self._task.clear()
        self._mean.clear()
        self._cosines.clear()
        if self.how != "accuracy_first" or checkpoint is None:
            return
        if not (checkpoint / _MEAN).is_file():
            raise InputError(
                f"{checkpoint} has no {_MEAN}, the running mean that gradient_conflict={self.how!r} goes on from. "
                "Take a checkpoint that was trained with it, or train anew."
            )
        weights = self._trained()
        kept = load_file(checkpoint / _MEAN)
        self._mean = {name: mean.to(weights[name].device) for name, mean in kept.items()}

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Keep the mean in the checkpoint, before it is sealed."""
        checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if self._mean and checkpoint.is_dir():
            save_file({name: mean.contiguous() for name, mean in self._mean.items()}, checkpoint / _MEAN)

    def figures(self) -> dict[str, float]:
        """Return what is logged of the steps since the last log; nothing where no step had two gradients."""
        cosines, self._cosines = self._cosines, []
        if not cosines:
            return {}
        conflicts = sum(cosine < 0 for cosine in cosines)
        return {"gradient_cosine": sum(cosines) / len(cosines), "share_of_conflicts": conflicts / len(cosines)}

    def loss(self, result: CompatibilityLoss) -> Tensor:
        """Keep the task's gradient of a batch, and return the loss whose gradient is to be added to the weights'."""
        if not self._is_in_step:
            return result.loss
        task = result.task_loss
        assert task is not None, "the loss was asked for both apart"  # noqa: S101 - a mistake of ours
        trained = self._trained()
        if task.requires_grad:
            # Autocast is for forward passes; this one is called from inside of it.
            with torch.autocast(task.device.type, enabled=False):
                gradients = torch.autograd.grad(task, list(trained.values()), retain_graph=True, allow_unused=True)
            for name, gradient in zip(trained, gradients, strict=True):
                if gradient is not None:
                    self._task[name] = gradient if name not in self._task else self._task[name] + gradient
        return result.loss if self.how == "sum" else result.loss - task + task.detach()

    def _trained(self) -> dict[str, Tensor]:
        return {name: weight for name, weight in self.trainer.model.named_parameters() if weight.requires_grad}

    @torch.no_grad()
    def _end(self) -> None:
        gradients = {name: weight.grad for name, weight in self._trained().items() if weight.grad is not None}
        task = [self._task.get(name, torch.zeros_like(gradient)) for name, gradient in gradients.items()]
        added = list(gradients.values())
        self._task = {}
        if not gradients:
            return
        if self.how == "sum":
            rest = [of_both - of_task for of_both, of_task in zip(added, task, strict=True)]
            self._note(task, rest, _ROUNDING * max(torch.finfo(gradient.dtype).eps for gradient in added))
            return
        self._note(task, added, 0.0)
        if self.how == "accuracy_first":
            for name, of_task in zip(gradients, task, strict=True):
                now, before = in_float(of_task), self._mean.get(name)
                self._mean[name] = now if before is None else _KEPT * before + (1 - _KEPT) * now
        mean = [self._mean[name] for name in gradients] if self._mean else None
        for gradient, combined in zip(added, combine(task, added, self.how, mean), strict=True):
            gradient.copy_(combined)

    def _note(self, task: list[Tensor], rest: list[Tensor], rounding: float) -> None:
        """Add a step to what is logged, unless one of both gradients is 0: then they have no angle."""
        both = products(task, rest)
        of_task, of_rest, cosine = torch.stack([both.aa.sqrt(), both.bb.sqrt(), both.cosine]).tolist()
        if of_task > 0 and of_rest > rounding * of_task:
            self._cosines.append(cosine)
