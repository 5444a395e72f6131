"""What `pip install muscle_hf` leaves out: which extra brings it, and one line that says so where it is needed."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec

from .errors import MissingPackageError

_HUB = ("datasets", "evaluate", "huggingface_hub")
EXTRAS = {
    "hub": _HUB,
    "train": (
        *_HUB,
        "accelerate",
        "peft",
        "safetensors",
        "tokenizers",
        "torch",
        "tqdm",
        "transformers",
        "trl",
        "xxhash",
    ),
    "plots": ("matplotlib",),
    "scorers": ("rouge_score", "sacrebleu"),
}
"""Extra -> what it installs, as pyproject.toml says."""

# What a part needs of an extra; all that is not named here needs all of "train".
_LIGHT = {"errors", "flips", "readers", "runs", "compare", "power", "disagreements"}
_OF_THE_HUB = {"hub", "spaces", "find", "metrics"}


def require(extra: str, what: str, *packages: str) -> None:
    """Refuse what needs packages of an extra, by default all of them, where one of them is not installed."""
    missing = [name for name in packages or EXTRAS[extra] if not _is_installed(name)]
    if missing:
        raise not_installed(what, missing, extra)


@contextmanager
def required(extra: str, what: str) -> Iterator[None]:
    """Refuse imports that need an extra which is not installed; a block, so that imports may stand in it."""
    require(extra, what)
    yield


def require_for(part: str, what: str) -> None:
    """Refuse what a room or a command offers where something is not installed that it needs."""
    if part in _OF_THE_HUB:
        require("hub", what, "huggingface_hub")
    elif part not in _LIGHT:
        require("train", what)


def not_installed(what: str, packages: Sequence[str], extra: str) -> MissingPackageError:
    """Return the one line that says what is missing, and how it is installed."""
    *first, last = packages
    named, are = (f"{', '.join(first)} and {last}", "are") if first else (last, "is")
    return MissingPackageError(f'{what} needs {named}, which {are} not installed: pip install "muscle_hf[{extra}]"')


def _is_installed(name: str) -> bool:
    if name in sys.modules:
        return sys.modules[name] is not None
    return find_spec(name) is not None
