"""Layers of a model, compiled one by one where they stand: names of weights, adapters and hooks stay as they are.

A model that is compiled as a whole hides the last hidden states, from which the loss is computed, and cannot be lent
to the new model, whose weights take the student's place. Its layers can: they have one code, so that few graphs are
compiled for all of them, and what is around them is left as it was.
"""

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from ..errors import ConfigurationError
from .adapters import base_model

# A graph for each mode, teacher, kind of mask, number of rows (one, more) and of tokens (the first, any): with torch's
# own limit of 8 the rest would be left as it is without a word that a user sees.
_GRAPHS = 64


def compile_layers(model: nn.Module, *, backend: str, mode: str | None = None) -> None:
    """Compile the layers of a model in place.

    Args:
        model: A language model of transformers, with or without adapter.
        backend: Of `torch.compile`.
        mode: Of `torch.compile`.

    Raises:
        ConfigurationError: The model has no layers that are known as such.
    """
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        raise ConfigurationError(
            f"{type(base_model(model)).__name__} has no layers that can be compiled one by one. Set "
            "torch_compile=False."
        )
    options: dict[str, Any] = {"backend": backend, "recompile_limit": _GRAPHS}
    for layer in layers:
        layer.compile(**options if mode is None else options | {"mode": mode})


def as_written() -> AbstractContextManager[Any]:
    """Let compiled layers compute as they are written.

    An answer grows by a token at a time and has a cache that each layer sees as its own: graphs without end.
    """
    return torch.compiler.set_stance("force_eager")  # type: ignore[no-any-return]
