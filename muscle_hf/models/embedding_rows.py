"""Rows of embeddings and LM head: a base gets as many as the adapter was trained with, as its saved tensors tell.

Tokens that were added for an adapter have rows that the base lacks; PEFT saves them beside the adapter, and refuses to
load them onto a base of another size. The tokenizer beside the adapter names the tokens, and decides nothing here.
"""

import inspect
import logging
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from huggingface_hub import hf_hub_download, parse_safetensors_file_metadata, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError
from peft import PeftConfig, PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from ..errors import InputError, ModelMismatchError
from ..files import replaced
from ..hub.adapter_config import CONFIG, PREFIX, WEIGHTS
from ..hub.adapter_files import PICKLE, shapes_in
from ..hub.failures import failure_reason
from ..hub.lookup import is_local, looking_up
from ..text import printable
from .sharding import whole_shape

logger = logging.getLogger(__name__)


_WEIGHTS = (WEIGHTS, PICKLE)
_MISSING = (OSError, ValueError, KeyError, ImportError)
# A weight with all rows, as PEFT names it in its file; the last one is a copy that is trained in place of the layer's.
_OF_BASE = (".base_layer.weight", ".token_adapter.base_layer.weight", ".original_module.weight")
_WHOLE = (".weight", *_OF_BASE, ".modules_to_save.weight")
# Others that tell the number of rows -> the dimension that does.
_TELLING = {".lora_embedding_A": 1, ".lora_B.weight": 0} | dict.fromkeys(_WHOLE, 0)


def saved_shapes(adapter: str) -> dict[str, tuple[int, ...]]:
    """Read the shapes of an adapter's weights; of those on the Hub no more than the header is downloaded."""
    for name in _WEIGHTS:
        cached = Path(adapter) / name if is_local(adapter) else try_to_load_from_cache(adapter, name)
        if isinstance(cached, str | Path) and Path(cached).is_file():
            return _shapes_in(Path(cached))
    if is_local(adapter):
        raise InputError(f"{adapter} holds no weights of an adapter ({' or '.join(_WEIGHTS)}).")
    with looking_up():
        try:
            header = parse_safetensors_file_metadata(adapter, _WEIGHTS[0])
            return {name: tuple(tensor.shape) for name, tensor in header.tensors.items()}
        except (*_MISSING, HfHubHTTPError) as error:
            first = error
        try:
            return _shapes_in(Path(hf_hub_download(adapter, _WEIGHTS[1])))
        except (*_MISSING, HfHubHTTPError):
            reason = failure_reason(first, adapter) or str(first)[:400]
            raise InputError(f"{adapter} has no weights that can be loaded: {reason}") from first


def _shapes_in(file: Path) -> dict[str, tuple[int, ...]]:
    if file.suffix == ".safetensors":
        return shapes_in(file)
    try:
        # torch opens nothing in it but tensors.
        tensors = torch.load(file, map_location="meta", weights_only=True)
        return {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    except (UnpicklingError, RuntimeError, AttributeError, EOFError, KeyError, ValueError) as error:
        raise InputError(
            f"{printable(str(file))} is a pickle that holds something other than tensors, or is broken; what else a "
            "pickle holds may run code, so it is not opened. Ask its author for "
            f"{WEIGHTS}, which save_pretrained writes."
        ) from error


def fit_rows(
    base: PreTrainedModel, shapes: Mapping[str, tuple[int, ...]], config: PeftConfig, *, adapter: str, name: str
) -> None:
    """Give a base the rows that an adapter was trained with, in place, and say so in the log.

    `shapes` are those of the adapter's weights, by the names of its file; `adapter` and `name` are what adapter and
    base are called in messages. A file that holds two numbers of rows, or lacks rows that the base lacks too, so that
    they would be random, is refused.
    """
    layers, trained = _layers(base), _trained_tokens(config)
    sizes = {
        shapes[f"{PREFIX}{layer}{suffix}"][dimension]
        for layer in layers
        for suffix, dimension in _TELLING.items()
        if len(shapes.get(f"{PREFIX}{layer}{suffix}", ())) > dimension
    }
    if len(sizes) > 1:
        raise ModelMismatchError(
            f"{adapter} holds embeddings and an LM head of {' and '.join(map(str, sorted(sizes)))} rows; both need "
            "the same number. Train or save it again after model.resize_token_embeddings."
        )
    present = base.get_input_embeddings().weight.shape[0] if layers else 0
    every_trained = {token for tokens in trained.values() for token in tokens}
    _check_trained_tokens(every_trained, shapes, adapter)
    rows = max([sizes.pop() if sizes else present, *(token + 1 for token in every_trained)])
    if not layers or rows == present:
        return
    # Rows that are taken away are there; of those that are added, somebody has to know the values.
    lacking = [
        layer
        for layer in _lacking(base, shapes, config)
        if not set(range(present, rows)) <= _trained_of(layer, trained, base)
    ]
    if rows > present and lacking:
        remedy = "Save it again, from the model that was trained: save_pretrained(folder, save_embedding_layers=True)."
        if any(key.endswith(".lora_embedding_A") for key in shapes):
            remedy = 'Beside LoRA on embeddings PEFT saves no head; train with modules_to_save=["lm_head"] as well.'
        raise ModelMismatchError(
            f"{adapter} was trained with {rows} rows of token embeddings, {name} has {present}, and the adapter's "
            f"file does not hold those of {' and '.join(lacking)}: the rows of the added tokens would be random. "
            f"{remedy}"
        )
    base.resize_token_embeddings(rows, mean_resizing=False)
    _say_once(
        f"{adapter} was trained with {rows} rows of token embeddings, and {name} has {present}: it is "
        + (f"grown to {rows}; the adapter brings the added ones." if rows > present else f"cut to {rows}.")
    )


def _check_trained_tokens(tokens: Collection[int], shapes: Mapping[str, tuple[int, ...]], adapter: str) -> None:
    """Refuse more trained tokens than there are rows for, and numbers that no vocabulary has."""
    rows = sum(shape[0] for key, shape in shapes.items() if key.endswith("trainable_tokens_delta") and shape)
    strange = [token for token in tokens if type(token) is not int or not 0 <= token < 2**31]
    if strange or len(tokens) > rows:
        named = f", such as {strange[0]!r}" if strange else ""
        raise ModelMismatchError(
            f"the {CONFIG} of {adapter} names {len(tokens)} trained tokens{named}, and its weights have {rows} rows "
            "of such; these two files do not belong together."
        )


@cache
def _say_once(text: str) -> None:
    """Warn; an update loads the same adapter for one stage after the other."""
    logger.warning(text)


def refuse_tokens_without_rows(
    rows: Iterable[Iterable[int]], tokenizer: PreTrainedTokenizerBase, model: Any, *, what: str, role: str
) -> None:
    """Refuse data with tokens that a model has no embeddings for."""
    size = whole_shape(model.get_input_embeddings().weight)[0]
    if max(tokenizer.get_vocab().values(), default=0) < size:
        return
    unknown = sorted({token for row in rows for token in row if token >= size})
    if unknown:
        names = ", ".join(repr(tokenizer.convert_ids_to_tokens(token)) for token in unknown[:3])
        raise ModelMismatchError(
            f"{what} holds {len(unknown)} tokens that the {role} model has no embeddings for, such as {names}: it has "
            f"{size} rows and its tokenizer {len(tokenizer)} tokens. Take an adapter that was trained with rows for "
            "them (model.resize_token_embeddings before training, save_pretrained after it), or a tokenizer without."
        )


def changed_rows(model: Any) -> int | None:
    """Return an adapted model's rows where the base that its config names has another number of them.

    No more is read than lies on this machine; a base that is not here counts as one with the same number.
    """
    if not isinstance(model, PeftModel):
        return None
    config, base = model.active_peft_config, model.get_base_model()
    place = str(getattr(base, "name_or_path", None) or "")
    name = place if is_local(place) else config.base_model_name_or_path
    try:
        with looking_up(name):
            there = PreTrainedConfig.get_config_dict(name, revision=config.revision, local_files_only=True)[0]
    except (OSError, ValueError, TypeError):
        return None
    embeddings: Any = base.get_input_embeddings()
    rows = whole_shape(embeddings.weight)[0]
    return None if (there.get("text_config") or there).get("vocab_size") in (None, rows) else rows


def save_with_rows(model: Any, *arguments: Any, **options: Any) -> None:
    """Save a model by its own `save_pretrained`; an adapter with all rows of a resized base.

    PEFT asks the Hub whether the base had other rows, and leaves them out where it gets no answer.
    """
    save = type(model).save_pretrained
    passed = inspect.signature(save).bind(model, *arguments, **options).arguments
    is_resized = "save_embedding_layers" not in passed and changed_rows(model) is not None
    save(model, *arguments, **options | ({"save_embedding_layers": True} if is_resized else {}))
    if is_resized and passed.get("is_main_process", True):
        _add_lacking_rows(Path(passed["save_directory"]), model, passed.get("state_dict"))


def _add_lacking_rows(folder: Path, model: PeftModel, state: Mapping[str, Tensor] | None) -> None:
    """Add to a saved adapter the layers of a resized base that PEFT left out, as it does beside adapted embeddings.

    `state` holds the weights where they are not whole in the model.
    """
    file = folder / _WEIGHTS[0]
    if not file.is_file():
        return
    base = model.get_base_model()
    lacking = _lacking(base, _shapes_in(file), model.active_peft_config)
    if not lacking:
        return
    tensors = load_file(file)
    for layer in lacking:
        module = layer_of_base(base.get_submodule(layer))
        name = next(name for name, inner in model.named_modules() if inner is module)
        weight = module.weight if state is None else state[f"{name}.weight"]
        tensors[f"{PREFIX}{layer}.weight"] = weight.detach().cpu().contiguous()
    with replaced(file) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})


def layer_of_base(module: Any) -> Any:
    """Return the layer under whatever PEFT has put around it."""
    while True:
        inner = getattr(module, "base_layer", None) or getattr(module, "original_module", None)
        if inner is None:
            return module
        module = inner


def _layers(base: PreTrainedModel) -> dict[str, Any]:
    """Name the embeddings and the LM head, where there are such."""
    named = {id(module): name for name, module in reversed(list(base.named_modules()))}
    ends: list[Any] = [base.get_input_embeddings(), base.get_output_embeddings()]
    return {named[id(layer)]: layer for layer in ends if layer is not None and id(layer) in named}


def _lacking(base: PreTrainedModel, shapes: Mapping[str, Any], config: PeftConfig) -> list[str]:
    """Name the layers whose rows are not in an adapter's file, neither as their own nor by what they are tied to."""
    layers = _layers(base)
    copied = set(getattr(config, "modules_to_save", None) or ())
    weights = {layer: layer_of_base(module).weight for layer, module in layers.items()}
    of_base = [
        weights[layer]
        for layer in layers
        for suffix in (*_OF_BASE, *(() if _is_named(layer, copied) else (".weight",)))
        if f"{PREFIX}{layer}{suffix}" in shapes
    ]
    return [
        layer
        for layer in layers
        if not any(f"{PREFIX}{layer}{suffix}" in shapes for suffix in _WHOLE)
        and not any(weights[layer] is weight for weight in of_base)
    ]


def _is_named(layer: str, names: Collection[str]) -> bool:
    return any(layer == name or layer.endswith(f".{name}") for name in names)


def _trained_tokens(config: PeftConfig) -> dict[str, set[int]]:
    """Name the layers of which single tokens are trained, as the config names them, with those tokens."""
    indices = getattr(config, "trainable_token_indices", None) or getattr(config, "token_indices", None) or {}
    if not isinstance(indices, Mapping):
        indices = {"": indices}
    return {str(layer): set(tokens) for layer, tokens in indices.items()}


def _trained_of(layer: str, trained: Mapping[str, set[int]], base: PreTrainedModel) -> set[int]:
    """Return the tokens of a layer that are trained; those of the embeddings are the head's too where it is tied."""
    layers = _layers(base)
    first = next(iter(layers))
    is_tied = layer_of_base(layers[layer]).weight is layer_of_base(layers[first]).weight
    own = [tokens for name, tokens in trained.items() if name and _is_named(layer, [name])]
    of_embeddings = [tokens for name, tokens in trained.items() if not name or _is_named(first, [name])]
    return set().union(*own, *(of_embeddings if is_tied else ()))
