"""The files of an adapter, from a folder or the Hub: what there is and what it says; no pickles."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import file_exists
from safetensors import SafetensorError, safe_open

from ..errors import InputError
from ..files import refuse_pointers
from ..text import printable
from .adapter_config import CONFIG, WEIGHTS, check_config, text_of
from .failures import hub_failures
from .lookup import is_folder
from .repository_files import check_id, download, read_object

PICKLE = "adapter_model.bin"
_TOKENIZER = "tokenizer_config.json"
_LARGE = 2**30


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
    shapes = shapes_in(folder / WEIGHTS)
    kind = check_config(found, shapes, shown)
    return AdapterFiles(
        name=str(name),
        folder=folder,
        commit=commit,
        base=text_of(found, "base_model_name_or_path", shown),
        base_revision=text_of(found, "revision", shown),
        peft_type=kind,
        task=text_of(found, "task_type", shown) or _task_of_class(found),
        shapes=shapes,
        label_names=_label_names(beside) if beside is not None and beside.is_file() else None,
    )


def has_tokenizer(files: AdapterFiles, token: str | bool | None) -> bool:
    """Tell whether a tokenizer lies beside an adapter."""
    if files.commit is None:
        return (files.folder / _TOKENIZER).is_file()
    return download(files.name, _TOKENIZER, files.commit, token, "tokenizer") is not None


def _task_of_class(found: Mapping[str, Any]) -> str | None:
    """Read the task off the class that was trained; PEFT notes it where it was told no task."""
    mapping = found.get("auto_mapping")
    trained = str(mapping.get("base_model_class")) if isinstance(mapping, dict) else ""
    heads = {"ForCausalLM": "CAUSAL_LM", "ForSequenceClassification": "SEQ_CLS", "ForTokenClassification": "TOKEN_CLS"}
    # By their names, since models of pictures and sounds end like them.
    kinds = ("T5", "Bart", "Pegasus", "PegasusX", "M2M100", "LED", "Blenderbot", "BlenderbotSmall", "ProphetNet")
    heads |= dict.fromkeys((*(f"{kind}ForConditionalGeneration" for kind in kinds), "MarianMTModel"), "SEQ_2_SEQ_LM")
    return next((task for head, task in heads.items() if trained.endswith(head)), None)


def shapes_in(path: Path) -> dict[str, tuple[int, ...]]:
    """Read names and shapes of the weights in a safetensors file."""
    _refuse_hollow(path)
    try:
        with safe_open(path, framework="numpy") as file:
            return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118 - no mapping
    except SafetensorError as error:
        raise InputError(
            f"{printable(str(path))} is broken ({printable(str(error))}); was it cut off? Download or save it again."
        ) from error


def _refuse_hollow(path: Path) -> None:
    """Refuse a file that says to be far larger than what is stored of it: an unfinished download, or a trap."""
    about = path.stat()
    # Windows does not say how much is stored; and some file systems store less than there is, though not so much less.
    stored = getattr(about, "st_blocks", None)
    if stored is not None and about.st_size > _LARGE and stored * 512 < about.st_size / 100:
        raise InputError(
            f"{printable(str(path))} is {about.st_size:,} bytes long, of which {stored * 512:,} are stored; was the "
            "download cut off? Download or save it again."
        )


def _label_names(path: Path) -> tuple[str, ...] | None:
    names = read_object(path).get("id2label")
    if not isinstance(names, dict) or not all(isinstance(one, str) for one in names.values()):
        return None
    # JSON has no numbers as keys.
    if set(names) != set(map(str, range(len(names)))):
        return None
    return tuple(names[str(index)] for index in range(len(names))) or None
