"""LM heads that adapters change: which losses can read them, and which ones are refused."""

from collections.abc import Iterator
from contextlib import contextmanager

from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import ModulesToSaveWrapper
from torch import nn
from transformers import PreTrainedModel

from ..errors import UnsupportedAdapterError


def check_lm_head(model: PeftModel) -> None:
    """Refuse a low-rank adapter on the LM head, unless it is one with the adapter on the embeddings.

    A loss that multiplies hidden states by the head's weight ignores such an adapter and never trains it; TRL refuses
    it for the same reason.
    """
    if isinstance(model.get_output_embeddings(), BaseTunerLayer) and not has_tied_head(model):
        raise UnsupportedAdapterError(
            "The adapter has low-rank weights of its own on the LM head. Losses that read the head's base weight, "
            "such as TRL's fused one, would ignore them, so it is not supported. Train the task adapter without the "
            'head in `target_modules`, or with a copy of it, `modules_to_save=["lm_head"]`; or, where the model ties '
            "its head to the embeddings, adapt both together: the embeddings in `target_modules`, and "
            "`ensure_weight_tying=True`."
        )


def has_tied_head(model: PeftModel) -> bool:
    """Tell whether PEFT keeps the LM head's adapter equal to the adapter of the embeddings."""
    config = model.peft_config[model.active_adapter]
    tied = getattr(config, "target_modules_to_tie", None) or getattr(config, "modules_to_tie", None)
    return bool(getattr(config, "ensure_weight_tying", False) and tied)


def has_whole_head(model: PeftModel) -> bool:
    """Tell whether the LM head is one matrix: the base's, or a copy of it that the adapter trains."""
    head = model.get_output_embeddings()
    return isinstance(head, nn.Linear | ModulesToSaveWrapper) and not has_tied_head(model)


@contextmanager
def full_logits_allow_tied_head(model: PreTrainedModel | PeftModel) -> Iterator[None]:
    """Hide an LM head's adapter that is tied to the embeddings from the parent's refusal.

    The parent refuses it since its fused loss reads the head's weight alone. The loss here takes the logits that the
    model itself computes, adapter included. An adapter of the head's own was refused before.
    """
    if not isinstance(model, PeftModel) or not has_tied_head(model):
        yield
        return
    head = model.get_output_embeddings()
    model.get_output_embeddings = lambda: getattr(head, "base_layer", head)
    try:
        yield
    finally:
        del model.get_output_embeddings
