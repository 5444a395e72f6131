"""The files of a base model, from a folder or the Hub: brought here, and refused where they are no safetensors."""

from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import snapshot_download

from ..errors import InputError
from ..text import printable
from .adapter_config import CONFIG as _ADAPTER_CONFIG
from .failures import hub_failures
from .lookup import is_folder
from .repository_files import check_id, download, read_object

_CONFIG, _WEIGHTS, _INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"


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
    """Bring a base model's configuration and weights onto this machine, and refuse what is no model in safetensors."""
    shown = printable(name)
    if not is_folder(name):
        check_id(name, "base model")
        config = download(name, _CONFIG, revision, token, "base model")
        commit = None if config is None else config.parent.name

        def find(file: str) -> Path | None:
            return download(name, file, commit or revision, token, "base model")

    else:
        commit = None
        folder = Path(name)

        def find(file: str) -> Path | None:
            return folder / file if (folder / file).is_file() else None

        config = find(_CONFIG)
    # transformers would put that adapter onto its base first, pickles included.
    if find(_ADAPTER_CONFIG) is not None:
        raise InputError(
            f"the base {shown} holds an adapter itself ({_ADAPTER_CONFIG}); name the model below it as the base."
        )
    if config is None:
        raise InputError(f"the base {shown} has no {_CONFIG}, so it is no model of transformers.")
    if read_object(config).get("transformers_weights") is not None:
        # It may name a pickle, and transformers would take that first.
        raise InputError(
            f"the {_CONFIG} of the base {shown} names its weights itself (transformers_weights); only "
            f"{_WEIGHTS} and {_INDEX} are opened. Take the line out of a copy, and name that as the base."
        )
    is_whole = find(_WEIGHTS) is not None
    index = None if is_whole else find(_INDEX)
    if not is_whole and index is None:
        raise InputError(
            f"the base {shown} has no {_WEIGHTS} and no {_INDEX}; weights in pickles are not opened, since "
            "they can run any code. Where you trust them, load the model with transformers once, save_pretrained it, "
            "and name that folder as the base."
        )
    if index is not None:
        parts = _parts(index)
        if commit is not None:
            with hub_failures(f"load the base model {name} (no folder here)", name):
                snapshot_download(name, revision=commit, token=token, allow_patterns=parts)
    return BaseFiles(name, commit)


def _parts(index: Path) -> list[str]:
    weights = read_object(index).get("weight_map")
    parts = sorted({str(one) for one in weights.values()}) if isinstance(weights, dict) else []
    strange = [one for one in parts if not one.endswith(".safetensors") or set("*?[/\\") & set(one)]
    if not parts or strange:
        raise InputError(
            f"{printable(str(index))} names {printable(strange[0]) if strange else 'no file'} as weights; "
            "names of .safetensors files are needed, and no other is opened."
        )
    return parts
