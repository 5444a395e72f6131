"""The tokenizer that lies beside a model or an adapter."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from ..hub.lookup import looking_up
from .adapters import Model


def load_tokenizer(base: Any, init_kwargs: Mapping[str, Any], *names: Model | None) -> PreTrainedTokenizerBase | None:
    """Return the tokenizer that lies beside an adapter, which names added tokens too, or else the base's; or None.

    `base` is the loaded model, its config, or its name, and is looked up last. `revision` and `trust_remote_code` of
    `init_kwargs` hold for the tokenizer as well. `names` are what the user passed as model and adapter; loaded models
    among them are passed over.
    """
    last = base if isinstance(base, str) else getattr(getattr(base, "config", base), "name_or_path", "")
    shared = {name: init_kwargs[name] for name in ("trust_remote_code",) if name in init_kwargs}
    of_base = shared | {name: init_kwargs[name] for name in ("revision",) if name in init_kwargs}
    for name in dict.fromkeys([*(str(name) for name in reversed(names) if isinstance(name, str | Path)), last]):
        if not name:
            continue
        try:
            with looking_up(name):
                tokenizer = AutoTokenizer.from_pretrained(name, **of_base if name == last else shared)
        except (OSError, ValueError, KeyError):  # nothing there, or nothing that is a tokenizer
            continue
        if not is_without_words(tokenizer):
            return tokenizer
    return None


def is_without_words(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Tell whether all tokens are special, as where transformers makes up a Gemma's that has no tokenizer files."""
    return len(tokenizer) <= len(set(tokenizer.all_special_ids))
