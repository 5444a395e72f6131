"""Last hidden states in place of logits, and the LM head that turns a few of them at a time into logits.

The logits of one long sequence with a large vocabulary take more memory than the rest of a training step. Here the
model's own forward computes the logits of one position alone (`logits_to_keep=1`), and its last hidden states come
along in the output, where wrappers such as DDP see them.

Encoder-decoders have no such argument. Theirs are what the LM head is given, which is cut on the way to it; so what a
model does to its decoder's output before the head (T5 divides it by the root of its size) is in them.
"""

import inspect
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, fields
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name that every torch code base uses
from torch import Tensor, nn

from ..errors import ConfigurationError
from .adapters import base_model
from .asking import asking
from .sharding import whole


@dataclass(frozen=True)
class LogitTransform:
    """What a model does to the output of its LM head."""

    scale: float = 1.0  # the output is multiplied by it (Cohere, Granite, Falcon-H1 and others)
    softcap: float | None = None  # then c * tanh(logits / c) is taken (Gemma 2); None: not at all

    def __call__(self, logits: Tensor) -> Tensor:
        """Return the transformed logits."""
        if self.scale != 1.0:
            logits = logits * self.scale
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)

    @classmethod
    def of(cls, config: Any) -> "LogitTransform":
        """Read the transformation from a model's config."""
        text = config.get_text_config()
        # Each family has a word of its own; some divide.
        multipliers = (
            getattr(text, name, None) for name in ("logit_scale", "output_multiplier", "lm_head_multiplier")
        )
        scale = next((value for value in multipliers if value is not None), None)
        divisor = getattr(text, "logits_scaling", None)
        if scale is None and divisor is not None:
            scale = divisor if text.model_type == "hyperclovax" else 1 / divisor
        return cls(1.0 if scale is None else float(scale), getattr(text, "final_logit_softcapping", None))


@dataclass(frozen=True)
class OutputHead:
    """What turns a teacher's last hidden states into its logits: a dense LM head, and what comes after it."""

    weight: Tensor  # float, (vocabulary, hidden size); with every adapter on it merged
    bias: Tensor | None = None  # float, (vocabulary,)
    transform: LogitTransform = field(default_factory=LogitTransform)

    def __call__(self, hidden: Tensor) -> Tensor:
        """Return the teacher's logits: float, (tokens, hidden size) -> (tokens, vocabulary).

        Example:
            >>> head = OutputHead(torch.tensor([[1.0], [3.0]]), transform=LogitTransform(scale=2.0))
            >>> head(torch.tensor([[0.5]]))
            tensor([[1., 3.]])
        """
        return self.transform(F.linear(hidden, self.weight, self.bias))


def project(model: Any, hidden: Tensor) -> Tensor:
    """Return the logits of a few hidden states, adapter on the LM head included.

    They are float, (tokens, hidden size) -> (tokens, vocabulary).
    """
    base = base_model(model)
    head = base.get_output_embeddings()
    # A model split over devices can end on another one than its head.
    device = next(head.parameters()).device
    logits: Tensor = head(hidden.to(device))
    bias = _bias_behind_head(base)
    return LogitTransform.of(base.config)(logits if bias is None else logits + bias.to(device))


def _bias_behind_head(base: Any) -> Tensor | None:
    """What BART and its relatives add to the output of their LM head: float, (1, vocabulary)."""
    return getattr(base, "final_logits_bias", None)


def bias_of_logits(base: Any) -> Tensor | None:
    """Return all that is added to the product of hidden states and LM head: float, (vocabulary,); None for nothing."""
    parts = (base.get_output_embeddings().bias, _bias_behind_head(base))
    added = [bias.detach().flatten() for bias in parts if bias is not None and bool(bias.any())]
    return torch.stack(added).sum(0) if added else None


def whole_head(model: Any) -> AbstractContextManager[None]:
    """Let [`project`] be used as often as each process likes, where the weights are split over processes.

    All processes come here together. Of a model that is not split nothing changes.
    """
    base = base_model(model)
    head = base.get_output_embeddings()
    # What an adapter ties to the head is kept at the embeddings.
    is_tied = getattr(base.config.get_text_config(), "tie_word_embeddings", False)
    return whole(model, head, *([base.get_input_embeddings()] if is_tied else []))


@contextmanager
def returning_hidden_states(model: Any, *, alone: bool = False) -> Iterator[dict[str, Any]]:
    """Let the model's forward put its last hidden states into its output; gives what it is to be called with for that.

    `alone` says that nobody reads the logits: those of one position are computed.
    """
    base = base_model(model)
    kept: list[Tensor] = []

    def keep(module: nn.Module, arguments: Any, output: Any) -> None:
        kept.append(output.last_hidden_state)

    def keep_input(head: nn.Module, arguments: Any) -> Any:
        kept.append(arguments[0])
        return (arguments[0][:, -1:], *arguments[1:]) if alone else None

    def hand_out(module: nn.Module, arguments: Any, output: Any) -> Any:
        if not kept:
            raise _no_projection(f"{type(base).__name__} does not call its backbone")
        output[_place_of_states(output)] = (kept[-1],)
        kept.clear()
        return output

    if base.config.is_encoder_decoder:
        handles = [base.get_output_embeddings().register_forward_pre_hook(keep_input)]
    else:
        # OPT calls the decoder within its backbone, and not the backbone.
        backbones = {id(module): module for module in (base.base_model, base.get_decoder())}.values()
        handles = [module.register_forward_hook(keep) for module in backbones]
    handles.append(base.register_forward_hook(hand_out))
    try:
        yield {"logits_to_keep": 1} if alone and not base.config.is_encoder_decoder else {}
    finally:
        for handle in handles:
            handle.remove()


def last_hidden_states(output: Any) -> Tensor:
    """Return what [`returning_hidden_states`] has put into an output: float, (batch, length, hidden size)."""
    states: Tensor = output[_place_of_states(output)][-1]
    return states


def _place_of_states(output: Any) -> str:
    """Name the field for them: DDP makes outputs anew, and knows the fields of their class alone."""
    names = {part.name for part in fields(output)}
    return "hidden_states" if "hidden_states" in names else "decoder_hidden_states"


def gives_hidden_states(model: Any) -> bool:
    """Tell whether a model has the parts that are needed: a backbone, an LM head, and `logits_to_keep`."""
    base = base_model(model)
    if base.config.is_encoder_decoder:
        return base.get_output_embeddings() is not None
    has_parts = base.base_model is not base and base.get_output_embeddings() is not None
    return has_parts and "logits_to_keep" in inspect.signature(base.forward).parameters


@torch.no_grad()
def check_projection(model: Any, inputs: dict[str, Any], name: str) -> None:
    """Compare the logits of one batch, computed in both ways: a head that does more than is known here is found."""
    with asking(model), returning_hidden_states(model):
        output = model(**inputs)
        with whole_head(model):
            logits, again = output.logits.float(), project(model, last_hidden_states(output)).float()
    # NaN is refused elsewhere, by a better name.
    close = logits.shape == again.shape and torch.allclose(
        logits, again.to(logits.device), rtol=2e-2, atol=1e-2, equal_nan=True
    )
    if not close:
        raise _no_projection(
            f"The logits of the {name} model ({type(base_model(model)).__name__}) are not its LM head applied to its "
            "last hidden states"
        )


def _no_projection(reason: str) -> ConfigurationError:
    return ConfigurationError(
        f'{reason}, so the logits cannot be computed a few tokens at a time. Set loss_implementation="plain" and '
        'teacher_cache="none".'
    )
