"""Where the distributions of the old and the new model come from.

The old model is a frozen model of its own. The new model shares the student's base: it is a snapshot of the adapter's
tensors, put in place of the student's for the length of a forward pass. A snapshot serves every kind of adapter alike
(LoRA on any layer, `modules_to_save`, trained tokens, norms, a tied LM head), is not seen by the optimizer, and is
never saved, none of which holds for a second PEFT adapter on the model.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import torch
from peft import PeftConfig, PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torch.func import functional_call
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from .errors import ConfigurationError, TeacherError, UnsupportedAdapterError

Model: TypeAlias = str | Path | PreTrainedModel | PeftModel


class Teacher(Protocol):
    """A frozen model that gives logits for a batch."""

    def logits(self, inputs: dict[str, Any]) -> Tensor:
        """Return logits of shape (batch, length, vocabulary), without a gradient."""
        ...


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


@dataclass(frozen=True)
class Lineage:
    """Where the models of a training run come from, as ids or paths; None where it is not known.

    Args:
        new_base: The new base model.
        new_adapter: The task adapter on the new base.
        old_base: The old base model.
        old_adapter: The task adapter on the old base.
    """

    new_base: str | None
    new_adapter: str | None
    old_base: str | None
    old_adapter: str | None

    @classmethod
    def of(cls, *, new: Model, old: Model, new_name: Model, old_name: Model) -> "Lineage":
        """Read the names that loaded models carry.

        Args:
            new: The loaded new model.
            old: The loaded old model.
            new_name: The adapter, or the model, that the user asked for; a name only where it is an id or a path.
            old_name: Likewise.
        """

        def base(model: Any) -> str | None:
            return getattr(model.config, "_name_or_path", "") or None

        def adapter(model: Any, name: Model) -> str | None:
            return str(name) if isinstance(model, PeftModel) and isinstance(name, str | Path) else None

        return cls(base(new), adapter(new, new_name), base(old), adapter(old, old_name))


def load_adapted_model(
    model: Model,
    adapter: str | Path | None,
    *,
    role: str,
    needs_adapter: bool,
    init_kwargs: dict[str, Any] | None = None,
) -> PreTrainedModel | PeftModel:
    """Return a base model with its adapter, from ids, paths or loaded models.

    Args:
        model: The base model, or, with `adapter` left out, the adapter itself (its config names the base), or a model
            that carries its adapter.
        adapter: Id or path of the adapter; None where `model` brings it along.
        role: "new" or "old", for messages.
        needs_adapter: Refuse a model without adapter. The old model may be fully fine-tuned, the new one may not.
        init_kwargs: Keyword arguments for `from_pretrained` of the base. `dtype` defaults to float32, as in TRL.

    Returns:
        A [`peft.PeftModel`] whose one adapter can be trained, or, without adapter, the model itself.

    Raises:
        ConfigurationError: An adapter on top of an adapter, several adapters, or none where one is needed.
        UnsupportedAdapterError: Prompt-learning adapters, which lengthen the sequence.
    """
    names = {"new": ("model", "new_adapter"), "old": ("old_model", "old_adapter")}[role]
    if isinstance(model, str | Path):
        if adapter is None and (config := _adapter_config(model)) is not None:
            model, adapter = str(config.base_model_name_or_path), model
        if adapter is None and needs_adapter:
            raise ConfigurationError(
                f"{names[0]}={str(model)!r} is not an adapter and {names[1]} is not given. The student starts as a "
                f"copy of the task adapter that was trained on the new base: pass its id or path as {names[1]}."
            )
        if adapter is not None:
            _check_adapter_config(PeftConfig.from_pretrained(str(adapter)), role)
        model = AutoModelForCausalLM.from_pretrained(str(model), **{"dtype": torch.float32} | (init_kwargs or {}))
    if not isinstance(model, PeftModel):
        if adapter is None:
            if needs_adapter:
                raise ConfigurationError(
                    f"{names[0]} is a {type(model).__name__} without adapter and {names[1]} is not given. Pass the id "
                    f"or path of the task adapter as {names[1]}, or a PeftModel as {names[0]}."
                )
            return model
        return PeftModel.from_pretrained(model, str(adapter), is_trainable=True)
    if adapter is not None:
        raise ConfigurationError(
            f"{names[0]} already carries an adapter, so {names[1]}={str(adapter)!r} would lie on top of it. Leave "
            f"{names[1]} out, or pass the base model without adapter."
        )
    if len(model.peft_config) > 1:
        raise ConfigurationError(
            f"{names[0]} carries the adapters {sorted(model.peft_config)}, and which one is meant is not clear. "
            "Remove the others with delete_adapter()."
        )
    _check_adapter_config(model.peft_config[model.active_adapter], role)
    return model


def check_lm_head(model: PeftModel) -> None:
    """Refuse an adapter on the LM head, unless it is one with the adapter on the embeddings.

    A loss that multiplies hidden states by the head's weight ignores such an adapter and never trains it; TRL refuses
    it for the same reason.

    Raises:
        UnsupportedAdapterError: Naming the layer and what to do.
    """
    head = model.get_output_embeddings()
    if isinstance(head, BaseTunerLayer) and not has_tied_head(model):
        raise UnsupportedAdapterError(
            "The adapter has weights of its own on the LM head, where a compatibility loss on hidden states would "
            "ignore them. Train the task adapter without the head in `target_modules`; or, where the model ties its "
            "head to the embeddings, adapt both together: the embeddings in `target_modules` or `modules_to_save`, "
            "and `ensure_weight_tying=True`."
        )


def has_tied_head(model: PeftModel) -> bool:
    """Tell whether PEFT keeps the LM head's adapter equal to the adapter of the embeddings."""
    config = model.peft_config[model.active_adapter]
    tied = getattr(config, "target_modules_to_tie", None) or getattr(config, "modules_to_tie", None)
    return bool(getattr(config, "ensure_weight_tying", False) and tied)


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


def load_tokenizer_of(model: PreTrainedModel | PeftModel) -> PreTrainedTokenizerBase | None:
    """Return the tokenizer that lies beside a model's weights on this machine, or None where there is none."""
    name = getattr(model.config, "_name_or_path", "")
    if not name:
        return None
    try:
        return AutoTokenizer.from_pretrained(name, local_files_only=True)
    except (OSError, ValueError):  # no such folder, not in the cache, or a folder without tokenizer files
        return None


def _adapter_config(name: str | Path) -> PeftConfig | None:
    try:
        return PeftConfig.from_pretrained(str(name))
    except ValueError:  # PEFT's word for "there is no adapter_config.json"
        return None


def _check_adapter_config(config: PeftConfig, role: str) -> None:
    if config.is_prompt_learning:
        raise UnsupportedAdapterError(
            f"The {role} model's adapter is of type {config.peft_type.value}, which puts virtual tokens before the "
            "text, so its logits do not line up with the other model's. Use an adapter on the weights, such as LoRA."
        )
