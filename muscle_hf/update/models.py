"""The models of an update before any weight is loaded: configurations, tokenizers, and shapes on the meta device."""

import copy
import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from peft import PeftConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from transformers import (
    AutoConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from ..errors import ConfigurationError, InputError, ModelMismatchError
from ..files import refuse_pointers
from ..hub.failures import failure_reason
from ..hub.lookup import is_local, located, looking_up
from ..models.adapters import refuse_virtual_tokens, required_adapter_config
from ..models.embedding_rows import fit_rows, saved_shapes
from ..models.placement import as_options, options_of_old
from ..models.tokenizers import load_tokenizer
from ..text import one_line, printable
from .kinds import Kind, kind_of
from .settings import UpdateSettings

logger = logging.getLogger(__name__)

# What transformers and PEFT raise for what is not there, or is nothing that they can read.
_MISSING = (OSError, ValueError, KeyError, ImportError)


@dataclass(frozen=True)
class Base:
    """A base model, without its weights."""

    name: str
    init_kwargs: Mapping[str, Any]
    model: PreTrainedModel  # on the meta device

    @property
    def kind(self) -> Kind:
        """Whether it is a causal model or an encoder-decoder."""
        return kind_of(self.model.config)

    @property
    def dtype(self) -> torch.dtype:
        """The type that its weights are loaded in."""
        dtype: Any = self.init_kwargs.get("dtype", torch.float32)
        if dtype == "auto":
            dtype = self.model.config.dtype or torch.float32
        loaded: torch.dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype
        return loaded


def read_base(name: str, init_kwargs: Mapping[str, Any], option: str) -> Base:
    """Read a base's configuration and lay it out on the meta device; `option` is what named it, for messages."""
    shared = {key: init_kwargs[key] for key in ("revision", "trust_remote_code") if key in init_kwargs}
    refuse_pointers(name)
    try:
        with looking_up(name):
            config = AutoConfig.from_pretrained(name, **shared)
        with torch.device("meta"):
            model = kind_of(config).auto_class.from_config(
                config, trust_remote_code=bool(shared.get("trust_remote_code")), dtype=torch.float32
            )
    except _MISSING as error:
        raise InputError(f"{option}={name!r} cannot be read as a base model: {_why(error, name)}") from error
    # `from_config` knows no name, and PEFT asks for one.
    model.config.name_or_path = name = located(name)
    return Base(name, init_kwargs, model)


def _why(error: Exception, name: str) -> str:
    reason = failure_reason(error, name) or printable(str(error))
    return reason if is_local(name) else f"there is no folder of that name, and on the Hub: {reason}"


def init_kwargs(config: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what new and old base are loaded with, as the trainer of this config loads them."""
    trusts = {name: getattr(config, name) for name in ("trust_remote_code",) if hasattr(config, name)}
    new = as_options(config.model_init_kwargs) | trusts
    return new, options_of_old(as_options(config.old_model_init_kwargs), new)


def read_adapter(name: str, option: str) -> PeftConfig:
    """Read an adapter's configuration; one of virtual tokens, which lengthen the sequence, is refused."""
    refuse_pointers(name)
    try:
        config = required_adapter_config(name, option)
    except ConfigurationError as error:
        raise InputError(str(error)) from error
    refuse_virtual_tokens(config, f"{option}={name!r}")
    return config


def old_base_of(settings: UpdateSettings, adapter: PeftConfig) -> str:
    """Return the name of the old base; an adapter on the new base, and one base for both, are refused."""
    named = adapter.base_model_name_or_path
    if settings.old_base is None and not named:
        raise InputError(f"old_adapter={settings.old_adapter!r} does not name its base; give it with --old-base.")
    # Folders of two versions may have one last part; then it is the option that tells.
    told = settings.old_base is not None and named and is_same(named, settings.old_base)
    if named and not told and is_same(named, settings.new_base):
        raise ModelMismatchError(
            f"old_adapter={settings.old_adapter!r} was trained on {named!r}, which is new_base: old and new are "
            "swapped, or there is no update. Give the adapter on the old base, and the base to move to."
        )
    old_base = settings.old_base or str(named)
    if is_same(old_base, settings.new_base):
        raise ModelMismatchError(
            f"old_base and new_base are both {old_base!r}: there is no update to be compatible to."
        )
    if named and not is_same(named, old_base):
        logger.warning(
            f"old_adapter={settings.old_adapter!r} was trained on {named!r} and is now put on old_base={old_base!r}. "
            "If these are not the same model, its answers mean nothing."
        )
    return old_base


def check_new_adapter(settings: UpdateSettings, adapter: PeftConfig, old_base: str) -> None:
    """Refuse a new adapter that was trained on another base."""
    named = adapter.base_model_name_or_path
    if not named or is_same(named, settings.new_base):
        return
    swapped = " Old and new adapter are swapped." if is_same(named, old_base) else ""
    raise ModelMismatchError(
        f"new_adapter={settings.new_adapter!r} was trained on {named!r}, not on new_base={settings.new_base!r}."
        f"{swapped} Give the task adapter on the new base, or leave it out and it is trained."
    )


def is_same(name: str, other: str) -> bool:
    """Tell whether two ids or paths name the same model.

    A folder that is not here may have been moved, so that its last part alone counts; of what is here, the place.
    """
    paths = Path(name), Path(other)
    if name == other:
        return True
    if all(path.exists() for path in paths):
        return paths[0].resolve() == paths[1].resolve()
    looks_like_path = any(Path(each).is_absolute() or each.startswith((".", "~")) for each in (name, other))
    return looks_like_path and paths[0].name == paths[1].name


def with_adapter(base: Base, adapter: PeftConfig) -> PeftModel:
    """Put an adapter of random weights on a base, both on the meta device: to be looked at, not to be changed.

    The base is laid out anew, since PEFT changes it; for a large one that takes seconds, so once for each adapter.
    """
    laid_out = _LAID_OUT.setdefault(base.model, {})
    key = f"{base.model.config.to_json_string()} {adapter!r}"
    if key not in laid_out:
        laid_out[key] = _lay_out(base, adapter)
    return laid_out[key]


_LAID_OUT: WeakKeyDictionary[PreTrainedModel, dict[str, PeftModel]] = WeakKeyDictionary()


def _lay_out(base: Base, adapter: PeftConfig) -> PeftModel:
    copied = copy.deepcopy(adapter)
    copied.inference_mode = False
    # Some initializations read the base's weights, which the meta device lacks; shapes do not depend on them.
    if isinstance(getattr(copied, "init_lora_weights", None), str):
        copied.init_lora_weights = True
    with torch.device("meta"):
        trust = bool(base.init_kwargs.get("trust_remote_code"))
        model = base.kind.auto_class.from_config(base.model.config, trust_remote_code=trust, dtype=torch.float32)
    try:
        # What PEFT warns of, it warns of again when the weights are there.
        with warnings.catch_warnings(action="ignore"):
            return get_peft_model(model, copied, low_cpu_mem_usage=True)
    except (ValueError, KeyError, TypeError, RuntimeError, NotImplementedError, AttributeError) as error:
        raise ConfigurationError(f"the adapter does not go on {base.name}: {printable(str(error))}") from error


def fit_to(base: Base, adapter: str, config: PeftConfig, option: str) -> Base:
    """Return a base with the rows of embeddings that an adapter was trained with; one that does not fit is refused."""
    saved = saved_shapes(adapter)
    fitted = replace(base, model=copy.deepcopy(base.model))
    fit_rows(fitted.model, saved, config, adapter=f"{option}={adapter!r}", name=f"its base {base.name!r}")
    expected = {
        name: tuple(weight.shape)
        for name, weight in get_peft_model_state_dict(
            with_adapter(fitted, config), save_embedding_layers=False
        ).items()
    }
    wrong = sorted(name for name in saved.keys() & expected.keys() if saved[name] != expected[name])
    if wrong or not saved.keys() & expected.keys():
        detail = (
            f"{wrong[0]} has shape {saved[wrong[0]]} there and {expected[wrong[0]]} here" if wrong else "no layer fits"
        )
        raise ModelMismatchError(
            f"{option}={adapter!r} does not fit on {base.name!r} ({detail}): it belongs on another base. Check that "
            "old and new adapter are not swapped."
        )
    return fitted


def read_tokenizer(
    config: Any, init_kwargs: Mapping[str, Any], adapter: str | None, base: str
) -> PreTrainedTokenizerBase:
    """Return the tokenizer that lies beside an adapter or its base, set up as the training sets it up."""
    try:
        tokenizer = load_tokenizer(base, init_kwargs, adapter)
    except ImportError as error:
        raise InputError(f"the tokenizer of {adapter or base} cannot be loaded: {one_line(error)}") from error
    if tokenizer is None:
        raise InputError(f"no tokenizer lies beside {' or '.join(filter(None, (adapter, base)))}; save it there.")
    for option in ("eos_token", "pad_token"):
        token = getattr(config, option, None)
        if token is not None and token not in tokenizer.get_vocab():
            raise InputError(f"{option}={token!r} is no token of {tokenizer.name_or_path}; name one of its tokens.")
    # An encoder-decoder's config has neither of them.
    if getattr(config, "eos_token", None) is not None:
        tokenizer.eos_token = config.eos_token
    if getattr(config, "chat_template_path", None) is not None:
        path = Path(config.chat_template_path)
        if not path.is_file():
            raise InputError(
                f"chat_template_path={config.chat_template_path!r} is no file here. A template of another model may "
                "bring tokens that old and new model do not share; save it as a .jinja file."
            )
        tokenizer.chat_template = path.read_text(encoding="utf-8")
    if tokenizer.eos_token is None:
        raise InputError(f"the tokenizer of {tokenizer.name_or_path} has no end token; set it with --eos-token.")
    return tokenizer
