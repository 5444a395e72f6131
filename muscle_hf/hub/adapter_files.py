"""The files of an adapter and of its base, from a folder or the Hub: what there is and what it says; no pickles."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import _CACHED_NO_EXIST, file_exists, hf_hub_download, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, HFValidationError, LocalEntryNotFoundError
from huggingface_hub.utils._validators import validate_repo_id
from safetensors import SafetensorError, safe_open

from ..errors import InputError, UnsupportedAdapterError
from ..hub_failures import hub_failures
from ..report import printable

CONFIG, WEIGHTS, PICKLE = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
_BASE_CONFIG, _BASE_WEIGHTS, _BASE_INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
_TOKENIZER = "tokenizer_config.json"
_COMMIT = re.compile(r"[0-9a-f]{40}")
# These read more than their own two files, or lengthen the sequence.
_REFUSED = {
    **dict.fromkeys(
        ("PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "CPT", "CARTRIDGE"),
        "puts learned tokens before the text instead of changing weights",
    ),
    "XLORA": "is made of further adapters, which its own files do not hold",
}
_PATH_BEGINNINGS = ("/", ".", "~", "\\")


@dataclass(frozen=True)
class AdapterFiles:
    """An adapter's files, and what they say of it.

    Args:
        name: Id or path, as the user gave it.
        folder: Where they lie on this machine.
        commit: The commit of the Hub that they belong to; None for a folder of this machine.
        base: Id or path of the base that it was trained on, None where it does not say.
        base_revision: The base's revision that it was trained on, None where it does not say.
        peft_type: PEFT's name of its kind, such as "LORA".
        task: "CAUSAL_LM", "SEQ_CLS" and so on; None where it does not say.
        shapes: Name and shape of each of its weights.
        label_names: Names of a classifier's classes, from the `config.json` beside the adapter, or None.
    """

    name: str
    folder: Path
    commit: str | None
    base: str | None
    base_revision: str | None
    peft_type: str
    task: str | None
    shapes: Mapping[str, tuple[int, ...]]
    label_names: tuple[str, ...] | None


def adapter_files(name: str | Path, *, revision: str | None = None, token: str | bool | None = None) -> AdapterFiles:
    """Bring an adapter's files onto this machine, all of one commit, and read them without running anything in them.

    Args:
        name: Id on the Hub, or a folder.
        revision: Branch, tag or commit on the Hub.
        token: Of the Hub; None takes the saved one.

    Raises:
        InputError: There is no adapter, its weights are only there as a pickle, or its files are broken.
        UnsupportedAdapterError: An adapter of virtual tokens, or one made of further adapters.
        HubError: The Hub does not give it.
    """
    shown = printable(str(name))
    if is_folder(name):
        if revision is not None:
            raise InputError(f"{shown} is a folder of this machine, which has no revision; leave it out.")
        folder, commit = Path(name), None
        has_config, has_weights, has_pickle = ((folder / one).is_file() for one in (CONFIG, WEIGHTS, PICKLE))
    else:
        _check_id(str(name), "adapter")
        config = _download(str(name), CONFIG, revision, token, "adapter")
        has_config = config is not None
        has_weights = has_pickle = False
        if config is not None:
            folder, commit = config.parent, config.parent.name
            # Of the same commit, also where somebody pushes meanwhile.
            has_weights = _download(str(name), WEIGHTS, commit, token, "adapter") is not None
            if not has_weights:
                with hub_failures("load the adapter", str(name)):
                    has_pickle = file_exists(str(name), PICKLE, revision=commit, token=token)
    if not has_config:
        raise InputError(
            f"{shown} is no adapter: it has no {CONFIG}. A whole model is loaded with transformers' from_pretrained; "
            "an adapter in a folder of a repository is downloaded first, and loaded by its path."
        )
    if not has_weights:
        if has_pickle:
            raise InputError(
                f"{shown} has its weights only in {PICKLE}, a pickle, which can run any code when it is opened, so it "
                "is not. Where you trust it, load it with peft once and save_pretrained it, which writes "
                f"{WEIGHTS}; or ask its author to."
            )
        raise InputError(f"{shown} has {CONFIG}, but no weights: there is no {WEIGHTS}.")
    found = _read_object(folder / CONFIG)
    beside: Path | None = None
    if found.get("task_type") in ("SEQ_CLS", "TOKEN_CLS"):
        beside = folder / "config.json"
        if commit is not None:
            beside = _download(str(name), "config.json", commit, token, "adapter")
    return AdapterFiles(
        name=str(name),
        folder=folder,
        commit=commit,
        base=_text_of(found, "base_model_name_or_path", shown),
        base_revision=_text_of(found, "revision", shown),
        peft_type=_kind_of(found, shown),
        task=_text_of(found, "task_type", shown) or _task_of_class(found),
        shapes=_shapes(folder / WEIGHTS),
        label_names=_label_names(beside) if beside is not None and beside.is_file() else None,
    )


def has_tokenizer(files: AdapterFiles, token: str | bool | None) -> bool:
    """Tell whether a tokenizer lies beside an adapter.

    Args:
        files: The adapter's files.
        token: Of the Hub; None takes the saved one.
    """
    if files.commit is None:
        return (files.folder / _TOKENIZER).is_file()
    return _download(files.name, _TOKENIZER, files.commit, token, "tokenizer") is not None


@dataclass(frozen=True)
class BaseFiles:
    """A base's files on this machine.

    Args:
        name: Id or path.
        commit: The commit of the Hub that they belong to; None for a folder of this machine.
    """

    name: str
    commit: str | None


def base_files(name: str, *, revision: str | None = None, token: str | bool | None = None) -> BaseFiles:
    """Bring a base model's configuration and weights onto this machine, and refuse what is no model in safetensors.

    Args:
        name: Id on the Hub, or a folder.
        revision: Branch, tag or commit on the Hub.
        token: Of the Hub; None takes the saved one.

    Raises:
        InputError: There is no such model, it is an adapter itself, or its weights are only there as pickles.
        HubError: The Hub does not give it.
    """
    shown = printable(name)
    if not is_folder(name):
        _check_id(name, "base model")
        config = _download(name, _BASE_CONFIG, revision, token, "base model")
        commit = None if config is None else config.parent.name

        def find(file: str) -> Path | None:
            return _download(name, file, commit or revision, token, "base model")

    else:
        commit = None
        folder = Path(name)

        def find(file: str) -> Path | None:
            return folder / file if (folder / file).is_file() else None

        config = find(_BASE_CONFIG)
    # transformers would put that adapter onto its base first, pickles included.
    if find(CONFIG) is not None:
        raise InputError(f"the base {shown} holds an adapter itself ({CONFIG}); name the model below it as the base.")
    if config is None:
        raise InputError(f"the base {shown} has no {_BASE_CONFIG}, so it is no model of transformers.")
    if _read_object(config).get("transformers_weights") is not None:
        # It may name a pickle, and transformers would take that first.
        raise InputError(
            f"the {_BASE_CONFIG} of the base {shown} names its weights itself (transformers_weights); only "
            f"{_BASE_WEIGHTS} and {_BASE_INDEX} are opened. Take the line out of a copy, and name that as the base."
        )
    is_whole = find(_BASE_WEIGHTS) is not None
    index = None if is_whole else find(_BASE_INDEX)
    if not is_whole and index is None:
        raise InputError(
            f"the base {shown} has no {_BASE_WEIGHTS} and no {_BASE_INDEX}; weights in pickles are not opened, since "
            "they can run any code. Where you trust them, load the model with transformers once, save_pretrained it, "
            "and name that folder as the base."
        )
    if index is not None:
        parts = _parts(index)
        if commit is not None:
            with hub_failures("load the base model", name):
                snapshot_download(name, revision=commit, token=token, allow_patterns=parts)
    return BaseFiles(name, commit)


def is_commit(revision: str | None) -> bool:
    """Tell whether a revision is a commit, and so cannot move.

    Args:
        revision: Branch, tag or commit.
    """
    return revision is not None and _COMMIT.fullmatch(revision) is not None


def is_folder(name: str | Path) -> bool:
    """Tell whether a name is that of a folder of this machine.

    Args:
        name: Id or path.
    """
    try:
        return Path(name).is_dir()
    except OSError:  # longer than any path
        return False


def is_id(name: str) -> bool:
    """Tell whether a name can be one on the Hub.

    Args:
        name: Any text.
    """
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def _check_id(name: str, what: str) -> None:
    if not is_id(name) or name.startswith(_PATH_BEGINNINGS) or Path(name).exists():
        raise InputError(
            f"{printable(name)[:200]} is neither a folder with the {what} nor an id of the Hub, org/name. Is the path "
            "right?"
        )


def _download(name: str, file: str, revision: str | None, token: str | bool | None, what: str) -> Path | None:
    if is_commit(revision) and try_to_load_from_cache(name, file, revision=revision) is _CACHED_NO_EXIST:
        return None  # Known, also without a network.
    with hub_failures(f"load the {what}", name):
        try:
            return Path(hf_hub_download(name, file, revision=revision, token=token))
        except LocalEntryNotFoundError:  # not in the cache, and no network to ask
            raise
        except EntryNotFoundError:
            return None


def _read_object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InputError(f"{printable(str(path))} is not a JSON object; was the file cut off?")
    return found


def _text_of(found: Mapping[str, Any], key: str, shown: str) -> str | None:
    value = found.get(key)
    if value is not None and not isinstance(value, str):
        raise InputError(f"the {CONFIG} of {shown} has {printable(repr(value))[:80]} as {key}; a text is needed.")
    return value or None


def _kind_of(found: Mapping[str, Any], shown: str) -> str:
    kind = _text_of(found, "peft_type", shown)
    if kind is None:
        raise InputError(f"the {CONFIG} of {shown} has no peft_type, so PEFT cannot load it.")
    if kind in _REFUSED:
        raise UnsupportedAdapterError(
            f"{shown} is of type {kind}, which {_REFUSED[kind]}; use an adapter on the weights, such as LoRA."
        )
    return kind


def _task_of_class(found: Mapping[str, Any]) -> str | None:
    """Read the task off the class that was trained; PEFT notes it where it was told no task."""
    mapping = found.get("auto_mapping")
    trained = str(mapping.get("base_model_class")) if isinstance(mapping, dict) else ""
    heads = {"ForCausalLM": "CAUSAL_LM", "ForSequenceClassification": "SEQ_CLS", "ForTokenClassification": "TOKEN_CLS"}
    return next((task for head, task in heads.items() if trained.endswith(head)), None)


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    try:
        with safe_open(path, framework="numpy") as file:
            return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118 - no mapping
    except SafetensorError as error:
        raise InputError(f"{printable(str(path))} is broken ({printable(str(error))}); was it cut off?") from error


def _label_names(path: Path) -> tuple[str, ...] | None:
    names = _read_object(path).get("id2label")
    if not isinstance(names, dict) or not all(isinstance(one, str) for one in names.values()):
        return None
    # JSON has no numbers as keys.
    if set(names) != set(map(str, range(len(names)))):
        return None
    return tuple(names[str(index)] for index in range(len(names))) or None


def _parts(index: Path) -> list[str]:
    weights = _read_object(index).get("weight_map")
    parts = sorted({str(one) for one in weights.values()}) if isinstance(weights, dict) else []
    strange = [one for one in parts if not one.endswith(".safetensors") or set("*?[/\\") & set(one)]
    if not parts or strange:
        raise InputError(
            f"{printable(str(index))} names {printable(strange[0]) if strange else 'no file'} as weights; "
            "names of .safetensors files are needed, and no other is opened."
        )
    return parts
