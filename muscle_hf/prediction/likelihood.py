"""Log-likelihoods of options: what the options of a question read first is read once, and its cache serves them all.

Two passes: the stems of a batch, with padding on the left; then their branches, each with the keys and values of its
stem before it. So every sequence lies in one piece, as in batched generation, and sliding windows are right as well.
(One pass over a prompt and all of its choices, with a mask that parts them, is hardly faster, and asks for full
attention and a kernel that takes any mask.) A model that cannot do it reads every option as a whole.
"""

import copy
import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from ..models.adapters import base_model
from ..models.asking import rounding_of
from .prompts import Option, Stem, whole_stems

# Position (row, column) in a batch, the token that is to follow there, and where its log-probability goes.
_Place = tuple[int, int, int, list[float]]


def score(
    model: PreTrainedModel | PeftModel, stems: Sequence[Stem], *, batch_size: int, shared: bool
) -> list[dict[Option, float]]:
    """Give the log-likelihoods (nats) of the options of each stem, read at once by a model in eval mode.

    `batch_size` is that of branches; `shared` says that the model can read stems and branches apart (`can_share`). If
    it cannot, give `whole_stems`.
    """
    # Without a cache, padding on the right is never seen, and a model needs no positions to be told.
    input_ids, mask = _padded([stem.tokens for stem in stems], left=shared)
    width = input_ids.shape[1]
    logs: list[dict[Option, list[float]]] = [{option: [] for option in stem.options} for stem in stems]
    places: list[_Place] = []
    for row, stem in enumerate(stems):
        gap = width - len(stem.tokens) if shared else 0
        for option, values in logs[row].items():
            targets = option.targets[: len(stem.tokens) - len(option.context) + 1]
            places += [(row, gap + len(option.context) - 1 + i, token, values) for i, token in enumerate(targets)]
    branches = [(row, tokens) for row, stem in enumerate(stems) for tokens in stem.branches]
    arguments: dict[str, Any] = {"use_cache": bool(branches)}
    if shared:
        arguments["position_ids"] = _positions(mask)
    if "logits_to_keep" in inspect.signature(base_model(model).forward).parameters:
        arguments["logits_to_keep"] = width - min(column for _, column, _, _ in places)
    output = _forward(model, input_ids=input_ids, attention_mask=mask, **arguments)
    _note(output.logits, width, places)

    name = cache_name(model)
    branches.sort(key=lambda branch: -len(branch[1]))
    for start in range(0, len(branches), batch_size):
        batch = branches[start : start + batch_size]
        input_ids, own = _padded([tokens for _, tokens in batch], left=False)
        rows = torch.tensor([row for row, _ in batch])
        seen = torch.cat([mask[rows], own], 1)
        after = _forward(
            model,
            input_ids=input_ids,
            attention_mask=seen,
            position_ids=_positions(seen)[:, width:],
            use_cache=True,
            **{name: _BranchCache(getattr(output, name), rows)},
        )
        places = []
        for row, (index, tokens) in enumerate(batch):
            for option in stems[index].branches[tokens]:
                targets = option.targets[-len(tokens) :]
                places += [(row, i, token, logs[index][option]) for i, token in enumerate(targets)]
        _note(after.logits, input_ids.shape[1], places)
    return [{option: math.fsum(values) for option, values in of_stem.items()} for of_stem in logs]


def can_share(model: PreTrainedModel | PeftModel) -> bool:
    """Tell whether stems and branches can be read apart: by the adapter, the signature, the cache, and a trial.

    The trial compares the scores of made-up options with those of reading them whole. It is short, and so does not see
    what depends on length; that is for the checks before it.
    """
    base = base_model(model)
    config = base.config.get_text_config()
    adapters = model.peft_config.values() if isinstance(model, PeftModel) else ()
    # Virtual tokens stand in the cache or before the input; the others look at the whole input to decide what they do.
    if any(
        adapter.is_prompt_learning or adapter.peft_type == "XLORA" or getattr(adapter, "alora_invocation_tokens", None)
        for adapter in adapters
    ):
        return False
    name = cache_name(model)
    needed = {"attention_mask", "position_ids", name, "use_cache"}
    if not needed <= inspect.signature(base.forward).parameters.keys():
        return False
    # Chunks that do not slide would start at padding; and the trial has to fit.
    if getattr(config, "attention_chunk_size", None) or (getattr(config, "max_position_embeddings", None) or 8) < 8:
        return False
    ids = torch.tensor([[0, 1]])
    output = _forward(model, input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=True)
    cache: Any = getattr(output, name, None)
    # Exact types: a subclass may keep more than keys and values, such as the state of a recurrent layer.
    plain = (
        type(cache) is DynamicCache
        and len(cache.layers) == getattr(config, "num_hidden_layers", 0)
        and not cache.offloading
    )
    if not plain or any(type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer) for layer in cache.layers):
        return False
    trial = [Stem(tuple(Option((0, 1, 1, 0, 1)[:n], ends) for ends in ((0, 1, 0), (1, 0, 1)))) for n in (5, 3)]
    apart = _merged(score(model, trial, batch_size=4, shared=True))
    whole = _merged(score(model, whole_stems(apart), batch_size=4, shared=False))
    margin = rounding_of(model)
    return all(abs(apart[option] - whole[option]) <= margin * len(option.targets) for option in whole)


def cache_name(model: PreTrainedModel | PeftModel) -> str:
    """Give the name of the cache in a model's forward and output: transformers 5.24 began to rename it."""
    return "cache" if "cache" in inspect.signature(base_model(model).forward).parameters else "past_key_values"


def rotary_limit(model: PreTrainedModel | PeftModel) -> float:
    """Give the length from which on a model turns *all* positions differently ("longrope"); infinity for most models.

    Sequences on both sides of it must not share a batch, nor a stem on one side serve a branch on the other.
    """
    settings = getattr(base_model(model).config.get_text_config(), "rope_parameters", None) or {}
    # One setting for all layers, or one for each type of layer.
    every = [settings, *(part for part in settings.values() if isinstance(part, Mapping))]
    limits = [rope["original_max_position_embeddings"] for rope in every if rope.get("rope_type") == "longrope"]
    return min(limits, default=math.inf)


class _BranchCache(Cache):  # type: ignore[misc]  # transformers is untyped
    """The keys and values of stems, handed out once for each branch.

    Each layer's are copied only while that layer reads them, and kept for no third pass: all copies at once would take
    as much memory as if every branch had been read whole.
    """

    def __init__(self, stems: Cache, rows: torch.Tensor) -> None:
        super().__init__(layers=stems.layers)
        self.rows = rows

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Give the keys and values of the stems and, after them, these of the branches."""
        layer = copy.copy(self.layers[layer_idx])
        layer.batch_select_indices(self.rows.to(layer.keys.device))
        keys, values = layer.update(key_states, value_states, *args, **kwargs)
        return keys, values


def _merged(scores: Sequence[Mapping[Option, float]]) -> dict[Option, float]:
    return {option: value for of_stem in scores for option, value in of_stem.items()}


def _forward(model: PreTrainedModel | PeftModel, **arguments: Any) -> Any:
    device = base_model(model).device
    return model(**{name: value.to(device) if torch.is_tensor(value) else value for name, value in arguments.items()})


def _padded(rows: Sequence[Sequence[int]], *, left: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Give token ids and attention mask, both (rows, longest row); any token will do for padding."""
    width = max(map(len, rows))
    gaps = [width - len(row) for row in rows]
    ids = [[0] * gap + [*row] if left else [*row] + [0] * gap for row, gap in zip(rows, gaps, strict=True)]
    mask = [
        [0] * gap + [1] * len(row) if left else [1] * len(row) + [0] * gap for row, gap in zip(rows, gaps, strict=True)
    ]
    return torch.tensor(ids), torch.tensor(mask)


def _positions(mask: torch.Tensor) -> torch.Tensor:
    """Count what is not padding; padding repeats a position that occurs, since not every model has more of them."""
    return (mask.cumsum(1) - 1).clamp(min=0)


def _note(logits: torch.Tensor, width: int, places: Sequence[_Place]) -> None:
    """Add the log-probability of the token of each place to its list."""
    # A model may have left out logits at the beginning, or have put virtual tokens there.
    skipped = width - logits.shape[1]
    spots = list(dict.fromkeys((row, column - skipped) for row, column, _, _ in places))
    numbers = {spot: number for number, spot in enumerate(spots)}
    rows, columns = torch.tensor(spots, device=logits.device).T
    picked = logits[rows, columns]
    picked = picked.to(torch.promote_types(picked.dtype, torch.float32))
    of_place = torch.tensor([numbers[row, column - skipped] for row, column, _, _ in places], device=logits.device)
    tokens = torch.tensor([token for _, _, token, _ in places], device=logits.device)
    # One transfer from the device for the whole batch.
    for (*_, values), value in zip(
        places, (picked[of_place, tokens] - picked.logsumexp(-1)[of_place]).tolist(), strict=True
    ):
        values.append(value)
