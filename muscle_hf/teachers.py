"""Where the distributions of the old and the new model come from.

The old model is a frozen model of its own. The new model shares the student's base: it is a snapshot of the adapter's
tensors, put in place of the student's for the length of a forward pass. A snapshot serves every kind of adapter alike
(LoRA on any layer, `modules_to_save`, trained tokens, norms, a tied LM head), is not seen by the optimizer, and is
never saved, none of which holds for a second PEFT adapter on the model.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from .errors import TeacherError


class FrozenModelTeacher:
    """The old model: a model of its own, frozen and in eval mode.

    Args:
        model: Any causal language model, with or without adapter. Its parameters stop requiring gradients.
    """

    def __init__(self, model: nn.Module) -> None:
        """Freeze the model."""
        self.model = model.requires_grad_(False).eval()

    @torch.no_grad()
    def logits(self, inputs: dict[str, Any]) -> Tensor:
        """Return the old model's logits."""
        # A callback or `accelerate` may have put it back into training mode, where dropout would blur the target.
        with _eval_mode(self.model):
            return self.model(**inputs).logits  # type: ignore[no-any-return]


class SharedBaseTeacher:
    """The new model: the adapter as it was at the start, on the very base that the student trains on.

    Args:
        student: The model in training, before its first step. Its trainable tensors are copied.
    """

    def __init__(self, student: nn.Module) -> None:
        """Copy the adapter's tensors."""
        self.student = student
        self.snapshot = {
            name: parameter.detach().clone()
            for name, parameter in student.named_parameters()
            if parameter.requires_grad
        }

    @torch.no_grad()
    def logits(self, inputs: dict[str, Any]) -> Tensor:
        """Return the logits of the new model as it was before training."""
        with _eval_mode(self.student):
            return functional_call(self.student, self.snapshot, kwargs=inputs).logits  # type: ignore[no-any-return]


@contextmanager
def _eval_mode(model: nn.Module) -> Iterator[None]:
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def refuse_nan(name: str, logits: Tensor) -> None:
    """Refuse a teacher whose logits are NaN.

    Args:
        name: "old" or "new".
        logits: float, of any shape.

    Raises:
        TeacherError: One of them is NaN.
    """
    if torch.isnan(logits).any():
        raise TeacherError(
            f"The {name} model gives NaN logits, and a student that learns from them would turn to NaN at once. Load "
            "it in a precision that holds its activations (bfloat16 or float32 in place of float16), and check its "
            "adapter's weights."
        )
