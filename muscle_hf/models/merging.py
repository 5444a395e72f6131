"""An adapter added to the weights of its base: the model that comes out gives the logits of the adapter, or none does.

PEFT adds each layer's update to the weight that the layer has. Where LM head and embeddings are one tensor, an update
of the one would reach the other as well, so the two are parted first, and made one again where they come out equal.
"""

import warnings
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..errors import UnsupportedAdapterError
from .adapters import base_model
from .asking import asking
from .embedding_rows import layer_of_base
from .lm_head import has_tied_head

_ROWS, _LENGTH = 4, 8
# Of models that see or hear as well: these tokens stand for an input that is not there.
_OTHER_INPUTS = ("image", "video", "audio", "vision")


def merge_adapter(model: PeftModel, name: str) -> PreTrainedModel:
    """Add an adapter to its base, and hand the model out only if it gives the logits that the adapter gave.

    Both read four rows of eight tokens, from all over the vocabulary. The difference may be as large as the root of
    the type's precision, as a share of the logits' spread (both as root mean squares): 0.03 % in float32, 3 % in
    float16, 9 % in bfloat16, whose weights have few digits. It costs two passes over these tokens.

    The model, with its one active adapter, is used up. Where LM head and embeddings were one tensor and are two now,
    the config of the merged base says so (`tie_word_embeddings=False`), so that it is saved and loaded as it is. What
    cannot be merged, or gives other logits, is an UnsupportedAdapterError.
    """
    tokens = _tokens(model)
    before = _logits(model, tokens)
    base = model.get_base_model()
    was_tied, stays_tied = _part_tied_weights(base), has_tied_head(model)
    try:
        with warnings.catch_warnings():
            # Both are taken care of here.
            warnings.filterwarnings("ignore", "Model with `tie_word_embeddings=True` and the tied_target_modules")
            warnings.filterwarnings("ignore", "Input and output embeddings are no longer tied")
            merged: PreTrainedModel = model.merge_and_unload(safe_merge=True)
    except (AttributeError, NotImplementedError, ValueError) as error:
        raise UnsupportedAdapterError(f"{name} cannot be merged: {str(error)[:400]} Load it without merge.") from error
    if was_tied:
        _tie_again(merged, always=stays_tied)
    _check(name, before, _logits(merged, tokens))
    return merged


def _part_tied_weights(base: PreTrainedModel) -> bool:
    """Give the LM head a copy of the embeddings' weight where it is one with them and an adapter reaches either."""
    embeddings, head = base.get_input_embeddings(), base.get_output_embeddings()
    if head is None or not any(
        isinstance(layer, BaseTunerLayer | AuxiliaryTrainingWrapper) for layer in (embeddings, head)
    ):
        return False
    below = layer_of_base(head)
    if below.weight is not layer_of_base(embeddings).weight:
        return False
    below.weight = nn.Parameter(below.weight.detach().clone(), requires_grad=below.weight.requires_grad)
    return True


def _tie_again(merged: PreTrainedModel, *, always: bool) -> None:
    """Let head and embeddings be one tensor where they are equal; where not, say so in the config."""
    embeddings: Any = merged.get_input_embeddings()
    head: Any = merged.get_output_embeddings()
    # The two updates of an adapter that PEFT keeps tied may differ by rounding.
    is_tied = always or torch.equal(embeddings.weight, head.weight)
    if is_tied:
        head.weight = embeddings.weight
    for config in {id(config): config for config in (merged.config, merged.config.get_text_config())}.values():
        if hasattr(config, "tie_word_embeddings"):
            config.tie_word_embeddings = is_tied


def _tokens(model: PeftModel) -> list[Tensor]:
    """Take tokens from all over the vocabulary: the first, the last (added ones stand there), and trained ones."""
    base = model.get_base_model()
    config: Any = base.config
    size = base.get_input_embeddings().weight.shape[0]
    indices = getattr(model.active_peft_config, "trainable_token_indices", None) or []
    parts = indices.values() if isinstance(indices, dict) else [indices]
    trained = sorted({token for part in parts for token in part})
    of_other_inputs = {
        value
        for part in (config, config.get_text_config())
        for key, value in part.to_dict().items()
        if isinstance(value, int) and any(kind in key for kind in _OTHER_INPUTS)
    }
    length = min(_LENGTH, getattr(config.get_text_config(), "max_position_embeddings", None) or _LENGTH)
    spread = torch.linspace(0, size - 1, _ROWS * length).long().tolist()
    # The last places are the spread's, so that the highest tokens are read too.
    ids = [token for token in [*trained[: len(spread) // 2], *spread] if token not in of_other_inputs]
    device = base.get_input_embeddings().weight.device
    return [torch.tensor([ids[start : start + length]], device=device) for start in range(0, len(ids), length)]


@torch.no_grad()
def _logits(model: Any, rows: list[Tensor]) -> Tensor:
    base = base_model(model)
    # A decoder that follows on an encoder has to be given something to read.
    reads_twice = base.config.is_encoder_decoder and base.get_output_embeddings() is not None
    # One by one: a classifier that does not know what padding is takes no more.
    with asking(model):
        return torch.cat(
            [
                model(input_ids=row, **({"decoder_input_ids": row} if reads_twice else {})).logits.flatten()
                for row in rows
            ]
        )


def _check(name: str, before: Tensor, after: Tensor) -> None:
    precision = torch.finfo(before.dtype).eps ** 0.5
    apart = after.float() - before.float()
    spread = _size(before.float() - before.float().mean())
    share = float(_size(apart) / spread) if spread else float(_size(apart))
    if not share <= precision:  # NaN is not
        kind = str(before.dtype).removeprefix("torch.")
        farthest = float(apart.abs().max())
        raise UnsupportedAdapterError(
            f"{name} is not handed out merged: the merged model gives logits up to {farthest:.3g} from those of the "
            f"adapter, {share:.2%} of their spread, and {kind} allows {precision:.2%}. Load it without merge, or on a "
            "base that is not quantized and in a type of more digits, such as dtype=torch.float32."
        )


def _size(values: Tensor) -> Tensor:
    return values.square().mean().sqrt()
