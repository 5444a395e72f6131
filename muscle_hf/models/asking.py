"""What asking a model takes, whether it generates or chooses: eval mode for a while, and a margin for rounding.

How many questions are asked at once must not decide an answer, or an update seems to break answers that it left alone.
Padding is masked, but sums over another shape of batch are rounded differently (by some 1e-6 in float32), which can
swap two options that are all but equal. So a question with such a near-tie (`tie_margin`) is asked again alone and
without padding. As long as rounding stays under half the margin, every answer is then the one that the question gets
alone; in float32 and float64 it stays far under it. (Another machine or number of threads rounds differently again.)
In half precision rounding is as large as many gaps: there, nothing is asked again unless you give a `tie_margin`, and
some answers may depend on the batch size. Log-likelihoods agree between batch sizes to within rounding.
"""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from peft import PeftModel
from transformers import GenerationConfig, PreTrainedModel

from ..errors import InputError
from .adapters import base_model


@contextmanager
def asking(model: PreTrainedModel | PeftModel, config: GenerationConfig | None = None) -> Iterator[None]:
    """Put the model into eval mode, under this generation config if there is one, and leave it as it was."""
    # The modules of a model in training need not agree: a frozen teacher adapter is in eval mode, the student is not.
    training = [module for module in model.modules() if module.training]
    # `generate` fills whatever its config leaves open from the model's own, where penalties may be set. A PEFT model
    # hands its own, if it has one, to its base.
    owners = [
        owner for owner in (model, base_model(model)) if config is not None and "generation_config" in vars(owner)
    ]
    settings = [(owner, owner.generation_config) for owner in owners]
    # A student of experts gives its router loss in training; nobody who asks reads it.
    text_config = base_model(model).config.get_text_config()
    asks_routers = getattr(text_config, "output_router_logits", False)
    try:
        if training:
            model.eval()
        if asks_routers:
            text_config.output_router_logits = False
        for owner in owners:
            owner.generation_config = config
        # Not inference_mode: what a model caches in there (rotary tables, autocast weights) cannot be trained with.
        with torch.no_grad():
            yield
    finally:
        if asks_routers:
            text_config.output_router_logits = True
        for owner, setting in settings:
            owner.generation_config = setting
        for module in training:
            module.training = True


def rounding_of(model: PreTrainedModel | PeftModel) -> float:
    """Give a bound on how far rounding can move the log-probability of a token, in nats.

    The square root of the coarsest type's precision lies well above the rounding of a whole forward pass, and in
    float32 well below the usual gap between two tokens.
    """
    types = {torch.float32, *(weight.dtype for weight in model.parameters() if weight.is_floating_point())}
    device = base_model(model).device.type
    if torch.is_autocast_enabled(device):
        types.add(torch.get_autocast_dtype(device))
    return math.sqrt(max(torch.finfo(dtype).eps for dtype in types))


def tie_margin_of(model: PreTrainedModel | PeftModel, tie_margin: float | None) -> float:
    """Give the margin that the user asked for, or else the one that suits the model's precision."""
    if tie_margin is not None:
        return tie_margin
    rounding = rounding_of(model)
    return rounding if rounding <= math.sqrt(torch.finfo(torch.float32).eps) else 0.0


def refuse_nan(scores: Iterable[float]) -> None:
    """Refuse scores that are NaN; they are in the order of the prompts."""
    for index, score in enumerate(scores):
        if math.isnan(score):
            raise InputError(
                f"the model's scores for prompt {index} are NaN, so it has no answer. Check the weights and the "
                "adapter; in float16, try bfloat16 or float32."
            )
