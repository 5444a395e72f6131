"""The old adapter's hyper-parameters for the new task adapter: what is taken over, and what cannot be."""

import copy
import re
from collections.abc import Sequence
from typing import Any

from peft import PeftConfig
from torch import nn
from transformers.pytorch_utils import Conv1D

from ..errors import ConfigurationError, UnsupportedAdapterError
from ..models.lm_head import check_lm_head
from ..text import printable
from .models import Base, with_adapter

_LAYERS = (nn.Linear, nn.Embedding, Conv1D)
# Tokens by their ids, which stand for other tokens with another tokenizer.
_TOKEN_IDS = ("trainable_token_indices", "alora_invocation_tokens")
# Initializations that need data, or a number of training steps, that the configuration does not hold.
_NEED_DATA = ("eva", "corda", "loftq", "lora_ga")
_REMEDY = "Or train the task adapter yourself, and give it with --new-adapter."


def carried_over(
    old: PeftConfig, base: Base, *, same_tokenizer: bool, target_modules: Sequence[str] | None
) -> PeftConfig:
    """Return the configuration of a new task adapter: the old one's, on the new base.

    Rank, alpha, dropout, patterns, trained modules, DoRA, rsLoRA and all others are as they were. `target_modules`, of
    which one "all-linear" stands for all, take the place of the old adapter's; `same_tokenizer` says whether a token
    has the same id in both bases.

    Refused are names that the new base does not have (the message lists what it has), an initialization that needs
    data, token ids of another tokenizer, and an adapter of the LM head's own.
    """
    config = copy.deepcopy(old)
    config.base_model_name_or_path = base.name
    config.revision = base.init_kwargs.get("revision")
    config.inference_mode = False
    if target_modules is not None:
        if not hasattr(config, "target_modules"):
            raise ConfigurationError(f"task_target_modules means nothing for an adapter of type {_type(old)}.")
        config.target_modules = target_modules[0] if list(target_modules) == ["all-linear"] else set(target_modules)
    if getattr(config, "init_lora_weights", None) in _NEED_DATA:
        raise UnsupportedAdapterError(
            f"the old adapter was initialized by {config.init_lora_weights!r}, which needs data that its "
            f"configuration does not hold. {_REMEDY}"
        )
    for name in _TOKEN_IDS:
        if getattr(config, name, None) and not same_tokenizer:
            raise UnsupportedAdapterError(
                f"the old adapter has {name}={getattr(config, name)!r}, and the tokenizers of old and new base "
                f"differ, so that these ids stand for other tokens. {_REMEDY}"
            )
    _check_names(config, base)
    _check_patterns(config, base)
    check_lm_head(with_adapter(base, config))
    return config


def _type(config: PeftConfig) -> str:
    return str(getattr(config.peft_type, "value", config.peft_type))


def _check_names(config: PeftConfig, base: Base) -> None:
    """Refuse names that PEFT would pass over where at least one other name fits."""
    modules = dict(base.model.named_modules())
    parameters = dict(base.model.named_parameters())
    named = _as_list(getattr(config, "target_modules", None))
    missing = [] if named is None else [name for name in named if not _has(modules, name)]
    if missing and list(named or ()) != ["all-linear"]:
        raise ConfigurationError(
            f"the old adapter is on {_listed(missing)}, which {base.name} does not have; its layers are "
            f"{_listed(_last_parts(modules, _LAYERS))}. Name them with --task-target-modules, or take all-linear. "
            f"{_REMEDY}"
        )
    for field, there, kinds in (
        ("modules_to_save", modules, (nn.Module,)),
        ("exclude_modules", modules, (nn.Module,)),
        ("target_parameters", parameters, (nn.Parameter,)),
    ):
        missing = [name for name in _as_list(getattr(config, field, None)) or () if not _has(there, name)]
        if missing:
            raise ConfigurationError(
                f"the old adapter's {field} has {_listed(missing)}, which {base.name} does not have; it has "
                f"{_listed(_last_parts(there, kinds))}. {_REMEDY}"
            )


def _as_list(value: Any) -> list[str] | None:
    """Give names in a list; a regular expression is none, and is left to PEFT."""
    if value is None or (isinstance(value, str) and value != "all-linear"):
        return None
    return [value] if isinstance(value, str) else sorted(value)


def _has(there: dict[str, Any], name: str) -> bool:
    return any(layer == name or layer.endswith(f".{name}") for layer in there)


def _last_parts(there: dict[str, Any], kinds: tuple[type, ...]) -> list[str]:
    parts = {name.rpartition(".")[2] for name, layer in there.items() if name and isinstance(layer, kinds)}
    return sorted(part for part in parts if not part.isdigit())


def _check_patterns(config: PeftConfig, base: Base) -> None:
    """Refuse patterns that PEFT would pass over with a warning."""
    names = [name for name, _ in base.model.named_modules()]
    for field in ("rank_pattern", "alpha_pattern"):
        for pattern in getattr(config, field, None) or {}:
            # As PEFT matches them.
            if not any(re.match(rf"(.*\.)?({pattern})$", name) for name in names):
                raise ConfigurationError(
                    f"the old adapter's {field} names {printable(str(pattern))}, and {base.name} has no such layer. "
                    f"{_REMEDY}"
                )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(printable, names)) or "(none)"
