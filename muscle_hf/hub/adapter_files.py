"""The files of an adapter, from a folder or the Hub: what there is and what it says; no pickles."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import file_exists
from peft.utils.other import get_pattern_key
from safetensors import SafetensorError, safe_open

from ..errors import InputError, UnsupportedAdapterError
from ..files import refuse_pointers
from ..text import printable
from .failures import hub_failures
from .lookup import is_folder
from .repository_files import check_id, download, read_object

PREFIX = "base_model.model."
"""How PEFT's files begin the names of the base's layers."""


CONFIG, WEIGHTS, PICKLE = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
_TOKENIZER = "tokenizer_config.json"
# These read nothing but their own two files. A list of what is known, since a new type may open anything.
_KNOWN = {
    *("ADALORA", "ADAMSS", "ADAPTION_PROMPT", "BEFT", "BOFT", "C3A", "DEFT", "DELORA", "FOURIERFT", "FROD", "GLORA"),
    *("GRALORA", "HIRA", "HRA", "IA3", "LILY", "LN_TUNING", "LOHA", "LOKR", "LORA", "MISS", "OFT", "OSF", "PEANUT"),
    *("POLY", "PSOFT", "PVERA", "RANDLORA", "ROAD", "SHIRA", "SUPERTUNING", "TINYLORA", "TRAINABLE_TOKENS", "UNILORA"),
    *("VBLORA", "VERA", "WAVEFT"),
}
_REFUSED = {
    **dict.fromkeys(
        ("PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "CPT", "CARTRIDGE"),
        "puts learned tokens before the text instead of changing weights",
    ),
    "XLORA": "is made of further adapters, which its own files do not hold",
    "SHADOW": "loads a further model, which may be a pickle",
}


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
    """Bring an adapter's files onto this machine, all of one commit, and read them without running anything there."""
    shown = printable(str(name))
    if is_folder(name):
        if revision is not None:
            raise InputError(f"{shown} is a folder of this machine, which has no revision; leave it out.")
        folder, commit = Path(name), None
        refuse_pointers(folder)
        has_config, has_weights, has_pickle = ((folder / one).is_file() for one in (CONFIG, WEIGHTS, PICKLE))
    else:
        check_id(str(name), "adapter")
        config = download(str(name), CONFIG, revision, token, "adapter")
        has_config = config is not None
        has_weights = has_pickle = False
        if config is not None:
            folder, commit = config.parent, config.parent.name
            # Of the same commit, also where somebody pushes meanwhile.
            has_weights = download(str(name), WEIGHTS, commit, token, "adapter") is not None
            if not has_weights:
                with hub_failures(f"load the adapter {name} (no folder here)", str(name)):
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
    found = read_object(folder / CONFIG)
    beside: Path | None = None
    if found.get("task_type") in ("SEQ_CLS", "TOKEN_CLS"):
        beside = folder / "config.json"
        if commit is not None:
            beside = download(str(name), "config.json", commit, token, "adapter")
    kind, shapes = _kind_of(found, shown), shapes_in(folder / WEIGHTS)
    _check_ranks(found, kind, shapes, shown)
    return AdapterFiles(
        name=str(name),
        folder=folder,
        commit=commit,
        base=_text_of(found, "base_model_name_or_path", shown),
        base_revision=_text_of(found, "revision", shown),
        peft_type=kind,
        task=_text_of(found, "task_type", shown) or _task_of_class(found),
        shapes=shapes,
        label_names=_label_names(beside) if beside is not None and beside.is_file() else None,
    )


def has_tokenizer(files: AdapterFiles, token: str | bool | None) -> bool:
    """Tell whether a tokenizer lies beside an adapter."""
    if files.commit is None:
        return (files.folder / _TOKENIZER).is_file()
    return download(files.name, _TOKENIZER, files.commit, token, "tokenizer") is not None


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
    if kind not in _KNOWN:
        raise UnsupportedAdapterError(
            f"{shown} is of type {printable(kind)[:80]}, of which it is not known whether it loads its own two files "
            "alone; use a known one, such as LoRA. Where you trust it, PeftModel.from_pretrained(base, adapter) of "
            "peft may load it."
        )
    return kind


def _check_ranks(found: Mapping[str, Any], kind: str, shapes: Mapping[str, tuple[int, ...]], shown: str) -> None:
    """Refuse a rank that the weights do not have: PEFT would make room for it before it compares them."""
    if kind not in ("LORA", "ADALORA"):
        return
    largest = max((max(shape) for shape in shapes.values() if shape and 0 not in shape), default=0)
    pattern = found.get("rank_pattern") if kind == "LORA" else None
    patterns = pattern if isinstance(pattern, dict) else {}
    # AdaLoRA does not use r.
    used = "r" if kind == "LORA" else "init_r"
    named = {used: found.get(used)} | {f"rank_pattern[{key!r}]": rank for key, rank in patterns.items()}
    for name, rank in named.items():
        # Also for layers that have no weights at all in the file.
        if isinstance(rank, int) and rank > largest:
            raise _wrong_rank(shown, name, rank, f"no side of a weight is longer than {largest}")
    if kind != "LORA" or (patterns and found.get("target_parameters")):
        return  # AdaLoRA leaves out rows of what it has made, and patterns name parameters in another way.
    for key, shape in shapes.items():
        layer, middle, _ = key.removeprefix(PREFIX).partition(".lora_")
        if not middle or not key.removesuffix(".weight").endswith(("lora_A", "lora_embedding_A")) or not shape:
            continue
        try:
            matched = get_pattern_key(tuple(patterns), layer)
        except re.error as error:
            raise InputError(
                f"the {CONFIG} of {shown} has a rank_pattern that is no regular expression: {printable(str(error))}."
            ) from error
        rank = patterns.get(matched, found.get("r", 8))
        # One that is too small takes no room, and PEFT tells it. Adapted parameters have rank times experts rows.
        if isinstance(rank, int) and rank > shape[0]:
            name = f"rank_pattern[{matched!r}]" if matched in patterns else "r"
            raise _wrong_rank(shown, name, rank, f"{printable(key)[:200]} has the rank {shape[0]}")


def _wrong_rank(shown: str, name: str, rank: int, but: str) -> InputError:
    # A number may have thousands of digits.
    number = str(rank) if abs(rank) < 10**18 else "more than 10**18"
    return InputError(
        f"the {CONFIG} of {shown} has {printable(name)[:200]}={number}, but in {WEIGHTS} {but}; these two files do "
        "not belong together."
    )


def _task_of_class(found: Mapping[str, Any]) -> str | None:
    """Read the task off the class that was trained; PEFT notes it where it was told no task."""
    mapping = found.get("auto_mapping")
    trained = str(mapping.get("base_model_class")) if isinstance(mapping, dict) else ""
    heads = {"ForCausalLM": "CAUSAL_LM", "ForSequenceClassification": "SEQ_CLS", "ForTokenClassification": "TOKEN_CLS"}
    return next((task for head, task in heads.items() if trained.endswith(head)), None)


def shapes_in(path: Path) -> dict[str, tuple[int, ...]]:
    """Read names and shapes of the weights in a safetensors file."""
    try:
        with safe_open(path, framework="numpy") as file:
            return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118 - no mapping
    except SafetensorError as error:
        raise InputError(
            f"{printable(str(path))} is broken ({printable(str(error))}); was it cut off? Download or save it again."
        ) from error


def _label_names(path: Path) -> tuple[str, ...] | None:
    names = read_object(path).get("id2label")
    if not isinstance(names, dict) or not all(isinstance(one, str) for one in names.values()):
        return None
    # JSON has no numbers as keys.
    if set(names) != set(map(str, range(len(names)))):
        return None
    return tuple(names[str(index)] for index in range(len(names))) or None
