"""The models of an update: bases and adapters from ids, paths or loaded models, and what of them is refused."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import torch
from peft import PeftConfig, PeftModel
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from ..errors import ConfigurationError, InputError, ModelMismatchError, MuscleError, UnsupportedAdapterError
from ..files import refuse_pointers
from ..hub.adapter_config import CONFIG, PREFIX, check_config
from ..hub.failures import failure_reason, lookup_failures
from ..hub.lookup import is_folder, is_local, located, looking_up
from ..text import one_line
from .embedding_rows import fit_rows, saved_shapes
from .zero3 import loading_whole, refuse_split

logger = logging.getLogger(__name__)

# What PEFT says of weights of other shapes, and of such that are not there.
_UNFIT = ("Error(s) in loading state_dict", "Found missing adapter keys")

Model: TypeAlias = str | Path | PreTrainedModel | PeftModel


@loading_whole()
def load_adapted_model(
    model: Model,
    adapter: str | Path | None,
    *,
    role: str,
    needs_adapter: bool,
    init_kwargs: dict[str, Any] | None = None,
    named: Model | None = None,
    auto_class: Any = AutoModelForCausalLM,
) -> PreTrainedModel | PeftModel:
    """Return a base model with its adapter, from ids, paths or loaded models.

    Without `adapter`, `model` is the base, the adapter itself (its config names the base), or a model that carries its
    adapter. The one adapter of a [`peft.PeftModel`] can be trained. `role` is "new" or "old" and `named` what the user
    gave as the model, both for messages. The old model may be fully fine-tuned, and so without adapter; the new one
    may not (`needs_adapter`). `init_kwargs` go to `from_pretrained` of the base; `dtype` defaults to float32, as in
    TRL. `auto_class` is the class of transformers that loads the base.

    An adapter on top of an adapter, several, none where one is needed, one that cannot be read or does not fit, rows
    of embeddings that would be random, and prompt-learning adapters, which lengthen the sequence, are refused.
    """
    names = {"new": ("model", "new_adapter"), "old": ("old_model", "old_adapter")}[role]
    refuse_split(model, names[0])
    if isinstance(model, str | Path):
        name = str(model if named is None else named)
        model, adapter = base_and_adapter(str(model), adapter, names)
        if adapter is None and needs_adapter:
            _check_model_is_there(model, names[0], init_kwargs or {})
            raise ConfigurationError(
                f"{names[0]}={model!r} is not an adapter and {names[1]} is not given. The student starts as a copy of "
                f"the task adapter that was trained on the new base: pass its id or path as {names[1]}. A fully "
                "fine-tuned model without adapter needs full_fine_tune=True in the config."
            )
        if adapter is not None:
            config = required_adapter_config(adapter, names[1])
            refuse_virtual_tokens(config, f"The {role} model's adapter")
            warn_of_another_base(config.base_model_name_or_path, model, names, adapter)
        with naming_the_base(names[0], model, name):
            model = auto_class.from_pretrained(model, **{"dtype": torch.float32} | (init_kwargs or {}))
    if getattr(model, "_hf_peft_config_loaded", False):
        raise ConfigurationError(
            f"transformers has put an adapter into {names[0]} itself, which cannot be told from the base any more. "
            "Load the base alone and the adapter with PeftModel.from_pretrained(base, adapter)."
        )
    if not isinstance(model, PeftModel):
        if adapter is None:
            if needs_adapter:
                raise ConfigurationError(
                    f"{names[0]} is a {type(model).__name__} without adapter and {names[1]} is not given. Pass the id "
                    f"or path of the task adapter as {names[1]}, or a PeftModel as {names[0]}. A fully fine-tuned "
                    "model without adapter needs full_fine_tune=True in the config."
                )
            return model
        try:
            return put_on(model, located(adapter), names)
        except (RuntimeError, UserWarning) as error:
            if not str(error).startswith(_UNFIT):
                raise
            raise ModelMismatchError(
                f"{names[1]}={str(adapter)!r} does not fit on {names[0]}, a {type(model).__name__}: it belongs on "
                f"another base. Check that old and new adapter are not swapped. PEFT says: {one_line(error)}"
            ) from error
    if adapter is not None:
        raise ConfigurationError(
            f"{names[0]} already carries an adapter, so {names[1]}={str(adapter)!r} would lie on top of it. Leave "
            f"{names[1]} out, or pass the base model without adapter."
        )
    if len(model.peft_config) > 1:
        raise ConfigurationError(
            f"{names[0]} carries the adapters {sorted(model.peft_config)}, and which one is meant is not clear. "
            "Load the base once more with the one adapter alone."
        )
    if needs_adapter and model.active_adapter != "default":
        raise ConfigurationError(
            f"{names[0]} carries its adapter under the name {model.active_adapter!r}, and PEFT would save it in a "
            "folder of that name, where loading does not look. Load it without adapter_name."
        )
    refuse_virtual_tokens(model.peft_config[model.active_adapter], f"The {role} model's adapter")
    record_place(model)
    return model


@contextmanager
def naming_the_base(option: str, base: str, name: str | None = None) -> Iterator[None]:
    """Say which argument it was, where a base cannot be loaded; `name` is an adapter which names the base."""
    try:
        with looking_up(base):
            yield
    except MuscleError:
        raise
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        raise ConfigurationError(f"{option}_init_kwargs: {one_line(error)}. Is it misspelt?") from error
    except (OSError, ValueError, KeyError) as error:  # nothing there, or nothing that transformers can read
        reason = failure_reason(error, base) or one_line(error)
        where = "The folder is there, but" if is_local(base) else "There is no such folder, and on the Hub"
        if "Unrecognized configuration class" in str(error):
            reason = (
                "its configuration is that of another kind of model. CompatibilityTrainer takes causal language "
                "models, CompatibilitySeq2SeqTrainer encoder-decoders, CompatibilityClassifierTrainer classifiers"
            )
        what = f"{option}={base!r}"
        if name is not None and located(name) != base:
            what = f"{option}={name!r} is an adapter on {base!r}, which"
        raise ConfigurationError(f"{what} cannot be loaded as a model. {where}: {reason}") from error


def put_on(base: PreTrainedModel, adapter: str | Path, names: tuple[str, str]) -> PeftModel:
    """Put a trainable adapter on a base, which first gets the rows of embeddings that the adapter was trained with.

    PEFT's own words for weights of other shapes (a RuntimeError) and for weights that the adapter lacks (a
    UserWarning) come through.
    """
    fit_to_adapter(base, adapter, names)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Found missing adapter keys")
        # PEFT 0.21 asks a model for what transformers 5.23 has renamed.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        # It speaks of merging, which `merge_adapter` takes care of.
        warnings.filterwarnings("ignore", "Model has `tie_word_embeddings=True` and a tied layer is part")
        with lookup_failures(f"load {names[1]}={str(adapter)!r}", adapter):
            adapted = PeftModel.from_pretrained(base, str(adapter), is_trainable=True)
    refuse_weights_that_are_no_numbers(adapted, f"{names[1]}={str(adapter)!r}")
    record_place(adapted)
    return adapted


def refuse_weights_that_are_no_numbers(adapted: PeftModel, shown: str) -> None:
    """Refuse an adapter with NaN or infinity among its weights; `shown` is what messages call it."""
    for name, weight in adapted.named_parameters():
        # Of others the base is to blame, and where there are no values yet, nobody can tell.
        if ".lora_" not in name and "modules_to_save" not in name and "trainable_tokens" not in name:
            continue
        if not weight.is_meta and weight.is_floating_point() and not bool(torch.isfinite(weight).all()):
            raise InputError(
                f"{shown} has weights that are no numbers (NaN or infinity, in {name.removeprefix(PREFIX)}), and "
                "would answer nothing. Its training went wrong, or the file is damaged: take an earlier checkpoint, "
                "or download it again."
            )


def fit_to_adapter(base: PreTrainedModel, adapter: str | Path, names: tuple[str, str]) -> None:
    """Give a base, changed in place, the rows of embeddings that an adapter was trained with.

    An adapter whose config asks for what its weights do not hold is refused.
    """
    config, shapes = required_adapter_config(adapter, names[1]), saved_shapes(str(adapter))
    shown = f"{names[1]}={str(adapter)!r}"
    check_config(config.to_dict() | {"peft_type": config.peft_type.value}, shapes, shown)
    fit_rows(base, shapes, config, adapter=shown, name=f"its base {base.config.name_or_path!r}")


def _check_model_is_there(name: str, option: str, init_kwargs: dict[str, Any]) -> None:
    """Tell a model that the Hub does not give from one that is there and is no adapter."""
    shared = ("revision", "token", "cache_dir", "local_files_only", "trust_remote_code")
    with naming_the_base(option, name):
        AutoConfig.from_pretrained(name, **{key: init_kwargs[key] for key in shared if key in init_kwargs})


def record_place(model: PeftModel) -> None:
    """Note in an adapter where its base lies on this machine, as an absolute path; other names stay as they are.

    Whatever saves or loads the adapter looks there, also from another working directory, where a relative path may be
    nothing, or the name of somebody's repository.
    """
    base = model.get_base_model()
    place = str(getattr(base.config, "name_or_path", None) or "")
    if is_folder(place):
        base.config.name_or_path = base.name_or_path = place = located(place)
    for config in model.peft_config.values():
        recorded = config.base_model_name_or_path or place
        if is_folder(recorded):
            config.base_model_name_or_path = located(recorded)


def base_model(model: Any) -> Any:
    """Return the model below an adapter, or the model itself."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def base_and_adapter(model: str, adapter: str | Path | None, names: tuple[str, str]) -> tuple[str, str | Path | None]:
    """Return base and adapter, None where there is none; `model` may be an adapter, whose config names its base."""
    for folder in (model,) if adapter is None else (model, adapter):
        refuse_pointers(folder)
    config = adapter_config(model)
    if config is None:
        return located(model), None if adapter is None else located(adapter)
    if adapter is not None:
        raise ConfigurationError(
            f"{names[0]}={model!r} is itself an adapter, so {names[1]}={str(adapter)!r} would lie on top of it. Pass "
            f"the base as {names[0]}, or leave {names[1]} out."
        )
    if not config.base_model_name_or_path:
        raise ConfigurationError(
            f"{names[0]}={model!r} is an adapter that does not name its base. Pass the base as {names[0]} and this "
            f"adapter as {names[1]}."
        )
    refuse_pointers(config.base_model_name_or_path)
    return located(config.base_model_name_or_path), located(model)


def adapter_config(name: str | Path) -> PeftConfig | None:
    """Read an adapter's configuration, or return None for a model without adapter.

    Of what is on this machine the folder tells: without adapter_config.json it is a model, and the Hub is not asked.
    """
    if is_local(name) and not (Path(name) / CONFIG).is_file():
        return None
    try:
        with looking_up(name):
            return PeftConfig.from_pretrained(str(name))
    except ValueError:  # PEFT's word for "there is no adapter_config.json"
        return None


def required_adapter_config(name: str | Path, option: str) -> PeftConfig:
    """Read the configuration of what has to be an adapter; `option` is what named it, for messages."""
    what = f"{option}={str(name)!r} cannot be read as an adapter"
    if is_local(name) and not (Path(name) / CONFIG).is_file():
        raise ConfigurationError(f"{what}: what lies there has no {CONFIG}.")
    try:
        with looking_up(name):
            return PeftConfig.from_pretrained(str(name))
    except (OSError, ValueError, KeyError, TypeError, ImportError, RecursionError) as error:
        reason = failure_reason(error, str(name)) or one_line(error)
        where = "" if is_local(name) else f"there is no folder of that name with an {CONFIG}, and on the Hub: "
        raise ConfigurationError(f"{what}: {where}{reason}") from error


def refuse_wrong_sides(new: tuple[Model, Any], old: tuple[Model, Any], *, change: str) -> None:
    """Refuse one model twice, one object below both models, whose `change` is both's, and adapters that are swapped.

    Each side is a model and its adapter or None.
    """
    if old[0] is new[0] and old[1] == new[1]:
        raise ModelMismatchError("old_model and model are the same object: there is no update to be compatible to.")
    if not isinstance(new[0], str | Path) and base_model(new[0]) is base_model(old[0]):
        raise ConfigurationError(
            f"model and old_model share one base object, and {change} would change the other. Load the base twice, or "
            "pass paths."
        )
    _refuse_swapped_adapters(new, old)


def _refuse_swapped_adapters(new: tuple[Model, Any], old: tuple[Model, Any]) -> None:
    """Refuse an adapter whose config names the other model's base."""
    sides = {"new": (new, ("model", "new_adapter")), "old": (old, ("old_model", "old_adapter"))}
    bases, trained_on = {}, {}
    for side, ((model, adapter), names) in sides.items():
        if isinstance(model, str | Path) and isinstance(adapter, str | Path):
            config = required_adapter_config(adapter, names[1])
            bases[side] = Path(str(model)).name
            trained_on[side] = Path(config.base_model_name_or_path or "").name
    for side, other in (("new", "old"), ("old", "new")):
        if side in bases and other in bases and trained_on[side] == bases[other] != bases[side]:
            names, other_names = sides[side][1], sides[other][1]
            raise ConfigurationError(
                f"{names[1]}={str(sides[side][0][1])!r} was trained on {trained_on[side]!r}, which is "
                f"{other_names[0]}, and is put on {names[0]}={bases[side]!r}. The old and the new adapter may be "
                "swapped."
            )


def warn_of_another_base(trained_on: str | None, base: str, names: tuple[str, str], adapter: str | Path) -> None:
    """Warn of an adapter that was trained on a base of another name; a base may have moved, so it is no error."""
    if trained_on and Path(trained_on).name != Path(base).name:
        logger.warning(
            f"{names[1]}={str(adapter)!r} was trained on {trained_on!r} and is now put on {names[0]}={base!r}. If "
            "these are not the same model, the old and the new adapter may be swapped."
        )


def refuse_virtual_tokens(config: PeftConfig, what: str) -> None:
    """Refuse an adapter that lengthens the sequence; `what` is how messages call it."""
    if config.is_prompt_learning:
        raise UnsupportedAdapterError(
            f"{what} is of type {config.peft_type.value}, which puts virtual tokens before the text, so its logits do "
            "not line up with the other model's. Use an adapter on the weights, such as LoRA."
        )
