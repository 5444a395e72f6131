"""Fingerprints of models, adapters, tokenizers and encoded data: equal ones give equal teacher targets.

A fingerprint is text that begins with where it was taken: "files:" (a hash of what decides a model in a folder),
"hub:" (id and commit), "loaded:" (a hash of the tensors of an object). One model taken in two ways has two
fingerprints, since reading gigabytes to find out that they are the same is what taking a path avoids.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch
from datasets import Dataset
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..errors import ConfigurationError, InputError
from ..hub.failures import failure_reason
from ..hub.lookup import is_local, located, looking_up
from ..hub.names import is_commit
from .adapters import adapter_config

NO_ADAPTER = "none"

# Names and versions; what a trainer sets on a model that it is given; what asks for more outputs, not for others.
_NOT_OF_THE_MODEL = {
    *("_name_or_path", "transformers_version"),
    *("use_cache", "pad_token_id", "bos_token_id", "eos_token_id"),
    *("output_attentions", "output_hidden_states"),
}
# The base has a fingerprint of its own, and may have moved.
_NOT_OF_THE_ADAPTER = {"inference_mode", "peft_version", "auto_mapping", "base_model_name_or_path", "revision"}
# PEFT keeps these as sets and writes them in any order.
_UNORDERED = ("target_modules", "modules_to_save", "exclude_modules")
# What PEFT puts between the name of a module and its parameters when it wraps it.
_WRAPPER = re.compile(r"^base_model\.model\.|\.token_adapter\.base_layer\b|\.base_layer\b|\.original_module\b")
_ROWS_AT_ONCE = 10_000
# hashlib lets go of the interpreter, so that several files or tensors are hashed at once; not so many that their
# copies from a device fill the memory.
_AT_ONCE = 4


def fingerprint_of_model(
    model: str | Path | PreTrainedModel | PeftModel,
    adapter: str | Path | None = None,
    *,
    revision: str | None = None,
) -> dict[str, str]:
    """Return the fingerprints of a base model and of the adapter on it, as "base" and "adapter", or "none".

    A loaded model is taken as it is now. Without `adapter`, `model` may also be an adapter, whose config names its
    base. `revision` is that of the base; an adapter is taken at its main branch, as PEFT loads it. Weights that are
    not in memory, and several adapters, are refused.
    """
    if not isinstance(model, str | Path):
        base, own_adapter = _of_loaded(model)
        if adapter is None:
            return {"base": base, "adapter": own_adapter}
        if own_adapter != NO_ADAPTER:
            raise ConfigurationError(
                f"The model already carries an adapter, so {str(adapter)!r} would lie on top of it. Leave it out, or "
                "pass the base model without adapter."
            )
        return {"base": base, "adapter": _of_named_adapter(str(adapter))}
    if adapter is None:
        config = adapter_config(model)
        if config is None:
            return {"base": _of_named_base(str(model), revision), "adapter": NO_ADAPTER}
        if not config.base_model_name_or_path:
            raise ConfigurationError(
                f"{str(model)!r} is an adapter that does not name its base. Pass the base as model and this adapter "
                "as adapter."
            )
        model, adapter = config.base_model_name_or_path, model
    return {"base": _of_named_base(str(model), revision), "adapter": _of_named_adapter(str(adapter))}


def fingerprint_of_tokenizer(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a fingerprint of how a tokenizer turns text and conversations into ids."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        state = json.loads(backend.to_str())
        for name in ("truncation", "padding"):
            state.pop(name, None)
    else:
        state = {"class": type(tokenizer).__name__, "vocabulary": tokenizer.get_vocab()}
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items() if name != "pad_token"}
    return "loaded:" + _hash_of_json([state, tokenizer.chat_template, special])


def fingerprint_of_rows(dataset: Dataset) -> str:
    """Return a fingerprint of encoded rows in their order: "rows:" and a hash.

    `input_ids` count, and `labels` where not all tokens are trained on: lists of integers of any type. Other columns
    do not, nor does how the rows are stored. A stream, or a row without a value, is refused.
    """
    if not isinstance(dataset, Dataset):
        raise InputError(
            f"Encoded rows come as a datasets.Dataset, not as {type(dataset).__name__}: a stream has no rows to go "
            "back to, so its targets cannot be cached. Load the data set without streaming."
        )
    if "input_ids" not in dataset.column_names:
        raise InputError(f"The data set has no column input_ids, only {dataset.column_names}; encode it first.")
    columns = ["input_ids", "labels" if "labels" in dataset.column_names else "input_ids"]
    hashes = [(hashlib.sha256(), hashlib.sha256()) for _ in columns]
    arrow = dataset.select_columns(sorted(set(columns))).with_format("arrow")
    for table in arrow.iter(batch_size=_ROWS_AT_ONCE):
        for column, (of_lengths, of_values) in zip(columns, hashes, strict=True):
            # Of one type and without the borders of chunks, so that how rows are stored does not count.
            values = table[column].combine_chunks()
            lengths, flat = pc.list_value_length(values), pc.list_flatten(values)
            if lengths.null_count or flat.null_count:
                raise InputError(f"The column {column} has a row without a value; take such rows out.")
            of_lengths.update(_bytes_of_integers(lengths))
            of_values.update(_bytes_of_integers(flat))
    return "rows:" + _hash_of_json([digest.hexdigest() for pair in hashes for digest in pair])


def _bytes_of_integers(values: pa.Array) -> Any:
    return values.cast(pa.int64()).to_numpy(zero_copy_only=False).astype("<i8", copy=False)


def _of_named_base(name: str, revision: str | None) -> str:
    folder = Path(located(name))
    if not is_local(name):
        return _of_hub(name, "config.json", revision)
    weights = _first_present(folder, ("*.safetensors", "pytorch_model*.bin"), but="adapter_model")
    if not (folder / "config.json").is_file() or not weights:
        raise ConfigurationError(
            f"The folder {name!r} holds no model: config.json and *.safetensors or pytorch_model*.bin are needed."
        )
    # Indices say which file holds what; a model of its own code is that code as well.
    more = [*folder.glob("*.index.json"), *folder.glob("*.py")]
    return _of_files({"config.json": _settings(folder / "config.json", _NOT_OF_THE_MODEL)}, [*weights, *more])


def _of_named_adapter(name: str) -> str:
    folder = Path(located(name))
    if not is_local(name):
        return _of_hub(name, "adapter_config.json", None)
    weights = _first_present(folder, ("adapter_model*.safetensors", "adapter_model*.bin"))
    if not (folder / "adapter_config.json").is_file() or not weights:
        raise ConfigurationError(
            f"The folder {name!r} holds no adapter: adapter_config.json and adapter_model.safetensors are needed."
        )
    return _of_files({"adapter_config.json": _settings(folder / "adapter_config.json", _NOT_OF_THE_ADAPTER)}, weights)


def _first_present(folder: Path, patterns: Iterable[str], but: str = "\0") -> list[Path]:
    """Weights in the kind of file that is loaded where several are there."""
    kinds = ([file for file in folder.glob(pattern) if not file.name.startswith(but)] for pattern in patterns)
    return next((files for files in kinds if files), [])


def _of_hub(name: str, file: str, revision: str | None) -> str:
    commit = revision if is_commit(revision) else None
    if commit is None:
        try:
            # What loading does: asks the Hub, and where it cannot be reached, the cache on this machine.
            with looking_up():
                commit = Path(hf_hub_download(name, file, revision=revision)).parent.name
        except (OSError, ValueError, HfHubHTTPError) as error:
            at = "" if revision is None else f" at revision {revision!r}"
            reason = failure_reason(error, name) or str(error)
            raise ConfigurationError(
                f"{name!r}{at} is no folder here, and its {file} is neither on the Hub nor in the cache of this "
                f"machine ({reason}). Check the name and the connection, or pass a folder."
            ) from error
    return f"hub:{name}@{commit}"


def _of_files(settings: Mapping[str, Any], files: Iterable[Path]) -> str:
    paths = sorted(files, key=lambda path: path.name)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        digests = pool.map(_digest_of_file, paths)
        return "files:" + _hash_of_json(
            [settings, [[path.name, digest] for path, digest in zip(paths, digests, strict=True)]]
        )


def _digest_of_file(path: Path) -> str:
    state = path.stat()
    return _digest_of_content(str(path.resolve()), state.st_size, state.st_mtime_ns)


@cache
def _digest_of_content(path: str, size: int, mtime_ns: int) -> str:
    """The size and time are part of the key: a file that was written again is read again."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _settings(file: Path, left_out: set[str]) -> dict[str, Any]:
    try:
        read = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigurationError(f"{file} is no JSON ({error}); download or save the model again.") from error
    return _without(read, left_out)


def _without(settings: Mapping[str, Any], left_out: set[str]) -> dict[str, Any]:
    kept = {name: value for name, value in settings.items() if name not in left_out}
    for name in _UNORDERED:
        if isinstance(kept.get(name), list | set | tuple):
            kept[name] = sorted(kept[name])
    return kept


def _of_loaded(model: PreTrainedModel | PeftModel) -> tuple[str, str]:
    """Fingerprint the base as it was before PEFT wrapped its modules, and the adapter."""
    adapter = None
    if isinstance(model, PeftModel):
        if len(model.peft_config) > 1:
            raise ConfigurationError(
                f"The model carries the adapters {sorted(model.peft_config)}, and which one teaches is not clear. "
                "Load the base once more with the one adapter alone."
            )
        adapter = model.active_adapter
    # PEFT puts the adapter's name behind that of each of its tensors, or of the module that holds them.
    of_this_adapter = re.compile(rf"\.{re.escape(str(adapter))}(?=\.|$)")
    of_base, of_adapter = [], []
    for name, tensor in model.state_dict().items():
        if not isinstance(tensor, Tensor):
            continue
        if adapter is not None and of_this_adapter.search(name):
            of_adapter.append((of_this_adapter.sub("", name), tensor))
        else:
            of_base.append((_WRAPPER.sub("", name), tensor))
    # The types of the tensors are in their hash; the config's is what the files had.
    config = _without(model.config.to_dict(), _NOT_OF_THE_MODEL | {"dtype", "torch_dtype"})
    base = "loaded:" + _hash_of_json([config, sorted(_digests(of_base))])
    if adapter is None:
        return base, NO_ADAPTER
    adapter_config = _without(model.peft_config[adapter].to_dict(), _NOT_OF_THE_ADAPTER)
    return base, "loaded:" + _hash_of_json([adapter_config, sorted(_digests(of_adapter))])


def _digests(named: list[tuple[str, Tensor]]) -> Iterator[tuple[str, str, list[int], str]]:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        digests = pool.map(lambda item: _digest_of_tensor(*item), named)
        for (name, tensor), digest in zip(named, digests, strict=True):
            yield name, str(tensor.dtype), list(tensor.shape), digest


def _digest_of_tensor(name: str, tensor: Tensor) -> str:
    if tensor.is_meta:
        raise ConfigurationError(
            f"{name} is not in memory (offloaded to disk), so the model cannot be told from another. Pass its path or "
            "id, or load it whole."
        )
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return hashlib.sha256(flat.view(torch.uint8).numpy().data).hexdigest()


def _hash_of_json(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=_as_json).encode()).hexdigest()


def _as_json(value: Any) -> Any:
    """A set has another order in every process."""
    return sorted(map(str, value)) if isinstance(value, set | frozenset) else str(value)
