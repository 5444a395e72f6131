"""Which files of a folder are meant for the Hub."""

import json
import re
from fnmatch import fnmatchcase
from pathlib import Path

from safetensors import SafetensorError, safe_open

from ..errors import InputError
from ..files import refuse_pointer

_INDEX = "model.safetensors.index.json"
# Everything else stays: optimizer states, caches, logs, pickles (training_args.bin holds paths and may hold a token).
_SHIPPED = (
    # The model.
    "adapter_config.json",
    "adapter_model.safetensors",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "model-*-of-*.safetensors",
    _INDEX,
    # What tells about it.
    "README.md",
    "LICENSE",
    "LICENSE.*",
    "NOTICE",
    "NOTICE.*",
    "comparison.json",
    "quadrants.png",
    # Its tokenizer.
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "chat_template.jinja",
    "chat_template.json",
    "additional_chat_templates/*.jinja",
    "preprocessor_config.json",
    "processor_config.json",
)
_PICKLED = re.compile(r".*model.*\.(?:bin|pt|pth)|.*\.(?:ckpt|pkl|pickle)", re.IGNORECASE)
_PREDICTIONS = (".jsonl", ".json", ".csv", ".parquet")


def shipped_files(folder: str | Path, *, predictions: str | Path | None = None) -> dict[str, Path]:
    """List what of a folder goes to the Hub: weights, their configuration, tokenizer, card and evidence, by name.

    Args:
        folder: Where `save_model` or `save_pretrained` wrote to.
        predictions: A file of answers, or a folder of such files, to send under `predictions/`. None sends no answers:
            they may hold what is not meant for the public.

    Returns:
        Path in the repository -> file, sorted. All that is not known to belong there stays out, such as optimizer
        states, checkpoints, caches and `training_args.bin`.

    Raises:
        InputError: No such folder, no weights in it, weights that are pickled, broken or only half there, a link that
            leads out of the folder, or no predictions there.

    Example:
        >>> sorted(shipped_files("out/adapter"))  # doctest: +SKIP
        ['README.md', 'adapter_config.json', 'adapter_model.safetensors', 'comparison.json']
    """
    root = Path(folder)
    if not root.is_dir():
        raise InputError(f"{folder} is no folder; give the one that the adapter was saved to.")
    # Two levels are all that anything of it has: nothing walks through the files of many checkpoints.
    found = {
        path.relative_to(root).as_posix(): path for path in (*root.glob("*"), *root.glob("*/*")) if path.is_file()
    }
    shipped = {
        name: found[name]
        for name in sorted(found)
        # The star of a pattern stands for a slash as well.
        if any(name.count("/") == one.count("/") and fnmatchcase(name, one) for one in _SHIPPED)
    }
    weights = [name for name in shipped if name.endswith(".safetensors")]
    if not weights:
        pickled = sorted(name for name in found if "/" not in name and _PICKLED.fullmatch(name))
        if pickled:
            raise InputError(
                f"{folder} holds its weights as a pickle ({pickled[0]}), which can run code where it is loaded; load "
                "it and save it again with save_pretrained, which writes safetensors."
            )
        hint = next((name for name in sorted(found) if name.endswith("/adapter_model.safetensors")), None)
        raise InputError(
            f"{folder} holds no weights: neither adapter_model.safetensors nor model.safetensors"
            + (f"; did you mean {root / hint.rpartition('/')[0]}?" if hint else ".")
        )
    if "adapter_model.safetensors" in shipped and "adapter_config.json" not in shipped:
        raise InputError(f"{folder} holds no adapter_config.json, without which nobody can load the adapter.")
    for path in shipped.values():
        _check_place(path, root)
    _check_parts(set(weights), shipped.get(_INDEX))
    for name in weights:
        _check_weights(shipped[name])
    return shipped | (_answers(Path(predictions)) if predictions is not None else {})


def _check_place(path: Path, root: Path) -> None:
    """Refuse a link to what was never put into the folder, such as a key of its owner."""
    real, inside = path.resolve(), root.resolve()
    # The cache of the Hub's client is made of links: snapshots/COMMIT/FILE leads to blobs/HASH.
    is_cached = inside.parent.name == "snapshots" and real.is_relative_to(inside.parent.parent / "blobs")
    if not real.is_relative_to(inside) and not is_cached:
        raise InputError(f"{path} is a link to {real}, outside of {root}; put the file itself there, or take it out.")


def _check_parts(weights: set[str], index: Path | None) -> None:
    """Refuse a model of which only some parts are there, or parts that the index does not know."""
    parts = {name for name in weights if "-of-" in name}
    if index is None:
        if parts:
            raise InputError(f"{min(parts)} is a part of a model, and there is no {_INDEX}; save the model again.")
        return
    try:
        named = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{index} names no weights ({error!r}); save the model again.") from error
    if missing := sorted(map(str, named - weights)):
        raise InputError(f"{index} names {missing[0]}, which is not there; save the model again, or take both out.")
    if unknown := sorted(parts - named):
        raise InputError(f"{index} does not name {unknown[0]}, which is there; save the model into an empty folder.")


def _check_weights(path: Path) -> None:
    """Refuse a file that is cut off, a pickle of that name, or the pointer that git keeps of a large file."""
    refuse_pointer(path)
    try:
        with safe_open(path, framework="numpy") as file:
            names = list(file.keys())
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} cannot be read as safetensors ({error}); save the model again.") from error
    if not names:
        raise InputError(f"{path} holds no weights at all; save the model again.")


def _answers(source: Path) -> dict[str, Path]:
    if source.is_file() and source.name.startswith("."):
        raise InputError(f"{source} is hidden, so it is not taken for answers that are to be sent; rename it.")
    if source.is_file() and source.suffix in _PREDICTIONS:
        return {f"predictions/{source.name}": source}
    found = {
        f"predictions/{path.relative_to(source).as_posix()}": path
        for path in sorted(source.rglob("*"))
        if path.is_file()
        and path.suffix in _PREDICTIONS
        # Hidden ones belong to tools, such as .git and .ipynb_checkpoints.
        and not any(part.startswith(".") for part in path.relative_to(source).parts)
    }
    if not found:
        raise InputError(f"{source}: no predictions there; give a {', '.join(_PREDICTIONS)} file or a folder of them.")
    for path in found.values():
        _check_place(path, source)
    return found
