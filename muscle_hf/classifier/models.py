"""The two classifiers of an update, from ids, paths or loaded models, and what of them is refused."""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel
from peft.utils import ModulesToSaveWrapper
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from ..errors import ConfigurationError, ModelMismatchError
from ..hub.lookup import looking_up
from ..models.adapters import (
    Model,
    base_and_adapter,
    base_model,
    load_adapted_model,
    naming_the_base,
    put_on,
    required_adapter_config,
    warn_of_another_base,
)
from ..models.zero3 import loading_whole, refuse_split

SEQUENCE, TOKEN = "sequence", "token"
_HEADS = {"ForSequenceClassification": SEQUENCE, "ForTokenClassification": TOKEN}
_ADAPTER_TASKS = {"SEQ_CLS": SEQUENCE, "TOKEN_CLS": TOKEN}
_LOADERS = {SEQUENCE: AutoModelForSequenceClassification, TOKEN: AutoModelForTokenClassification}
# Tokenizers without a limit of their own say 10^30.
_NO_LIMIT = 10**9


@loading_whole()
def load_classifier(
    model: Model,
    adapter: str | Path | None,
    *,
    role: str,
    label_names: Sequence[str] | None = None,
    init_kwargs: dict[str, Any] | None = None,
) -> PreTrainedModel | PeftModel:
    """Return a sequence or token classifier, fully fine-tuned or with an adapter, from ids, paths or loaded models.

    `model` is the classifier; or, with `adapter`, its base; or the adapter itself, whose config names its base. The
    adapter, where there is one, is trainable. Its config does not say what the classes are called: the names come from
    `label_names`, in the order of the logits, or from the `config.json` that [`CompatibilityClassifierTrainer`] saves
    beside an adapter, or else from the base. `init_kwargs` go to `from_pretrained`; `dtype` defaults to float32.
    """
    names = {"new": ("model", "new_adapter"), "old": ("old_model", "old_adapter")}[role]
    refuse_split(model, names[0])
    if isinstance(model, str | Path):
        base, adapter = base_and_adapter(str(model), adapter, names)
        config = None if adapter is None else required_adapter_config(adapter, names[1])
        if config is not None:
            warn_of_another_base(config.base_model_name_or_path, base, names, str(adapter))
        options = {"dtype": torch.float32} | _named_classes(label_names, adapter) | (init_kwargs or {})
        with naming_the_base(names[0], base, str(model)):
            task = _task_of(base, config, names)
            loaded, report = _LOADERS[task].from_pretrained(base, output_loading_info=True, **options)
        untrained = set(report["missing_keys"])
    else:
        loaded, untrained = model, set()
    try:
        if adapter is not None and not isinstance(loaded, PeftModel):
            loaded, adapter = put_on(loaded, adapter, names), None
    except RuntimeError as error:
        if "size mismatch" not in str(error):
            raise
        raise ConfigurationError(
            f"The weights of {names[1]}={str(adapter)!r} do not fit {names[0]}, most likely in the number of classes, "
            f"which an adapter's config does not tell. Give {role}_label_names, one name for each class in the order "
            f"of the logits. PEFT says: {error}"
        ) from error
    # The new one needs an adapter, if it has one, in the place where loading looks for what was saved.
    has_adapter = isinstance(loaded, PeftModel)
    loaded = load_adapted_model(loaded, adapter, role=role, needs_adapter=role == "new" and has_adapter)
    classifier_task(loaded, names[0])
    _refuse_untrained(loaded, untrained, names)
    if getattr(loaded.config, "output_router_logits", False):
        raise ConfigurationError(
            f"{names[0]} is a mixture of experts with output_router_logits=True, and its router loss would be "
            "ignored. Set output_router_logits=False in its config to train without a router loss."
        )
    return loaded


def _task_of(base: str, adapter: PeftConfig | None, names: tuple[str, str]) -> str:
    named = getattr(adapter, "task_type", None)
    if named in _ADAPTER_TASKS:
        return _ADAPTER_TASKS[named]
    architectures = AutoConfig.from_pretrained(base).architectures or []
    for architecture in architectures:
        if task := _task_in(architecture):
            return task
    raise ConfigurationError(
        f"{names[0]}={base!r} is no classifier: its architecture is {architectures}. A fine-tuned model "
        f"...ForSequenceClassification or ...ForTokenClassification is needed, or a base with {names[1]} whose "
        'task_type is "SEQ_CLS" or "TOKEN_CLS".'
    )


def _task_in(architecture: str) -> str | None:
    return next((task for head, task in _HEADS.items() if architecture.endswith(head)), None)


def _named_classes(label_names: Sequence[str] | None, adapter: str | Path | None) -> dict[str, Any]:
    if label_names is None and adapter is not None:
        try:
            with looking_up(adapter):
                beside = PreTrainedConfig.get_config_dict(str(adapter))[0].get("id2label")
        except OSError:  # no config.json beside the adapter
            beside = None
        label_names = None if beside is None else [beside[key] for key in sorted(beside, key=int)]
    if label_names is None:
        return {}
    return {
        "id2label": dict(enumerate(label_names)),
        "label2id": {name: index for index, name in enumerate(label_names)},
    }


def _refuse_untrained(model: nn.Module, untrained: set[str], names: tuple[str, str]) -> None:
    """Weights that neither the base nor the adapter brought are random, and different ones at the next loading."""
    prefix = "base_model.model."
    saved = [
        name.removeprefix(prefix) for name, module in model.named_modules() if isinstance(module, ModulesToSaveWrapper)
    ]
    random = sorted(key for key in untrained if not any(f"{key}.".startswith(f"{name}.") for name in saved))
    if random:
        raise ConfigurationError(
            f"{random} of {names[0]} are in no checkpoint, so they are random: a classifier with an untrained head "
            f"teaches nothing. Pass a fine-tuned classifier, or a {names[1]} that saves these modules "
            "(`modules_to_save`)."
        )


def classifier_task(model: nn.Module, name: str) -> str:
    """Tell what a model classifies: "sequence" or "token"."""
    kind = type(base_model(model)).__name__
    if task := _task_in(kind):
        return task
    raise ConfigurationError(
        f"{name} is a {kind}; a model ...ForSequenceClassification or ...ForTokenClassification is needed. For causal "
        "language models there is CompatibilityTrainer."
    )


def forward_arguments(model: nn.Module) -> frozenset[str]:
    """Return the names of what a model takes as input."""
    return frozenset(inspect.signature(base_model(model).forward).parameters)


def longest_input(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, max_length: int | None, *, role: str
) -> int | None:
    """Return how many tokens a model is given at most: as the user asked, or as model and tokenizer take; or None."""
    tables = [
        # RoBERTa and its kin number positions from behind the padding's, OPT and BART from an offset.
        module.num_embeddings - getattr(module, "offset", 0 if module.padding_idx is None else module.padding_idx + 1)
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding) and name.endswith(("position_embeddings", "embed_positions", "wpe"))
    ]
    if max_length is not None:
        if tables and max_length > min(tables):
            raise ConfigurationError(
                f"max_length={max_length} is more than the {min(tables)} positions that the {role} model has. Take a "
                "smaller max_length."
            )
        return max_length
    config: Any = base_model(model).config
    stated = getattr(config.get_text_config(), "max_position_embeddings", None)
    limits = [*tables, tokenizer.model_max_length, stated]
    limits = [limit for limit in limits if isinstance(limit, int) and 0 < limit < _NO_LIMIT]
    return min(limits, default=None)


def align_padding(model: nn.Module, tokenizer: PreTrainedTokenizerBase, *, role: str) -> None:
    """Let a decoder know what padding is: it reads the class off the last token that is none.

    The `pad_token_id` of its config is set where there is none; one that the tokenizer does not pad with is refused.
    """
    decoder = base_model(model)
    if classifier_task(decoder, role) != SEQUENCE or not hasattr(decoder, "score"):
        return
    full_config: Any = decoder.config
    config = full_config.get_text_config()
    if config.pad_token_id is None:
        config.pad_token_id = tokenizer.pad_token_id
    elif config.pad_token_id != tokenizer.pad_token_id:
        raise ModelMismatchError(
            f"The {role} model takes token {config.pad_token_id} for padding and its tokenizer pads with "
            f"{tokenizer.pad_token_id}, so that the class would be read off the padding. Set pad_token_id of its "
            "config to the tokenizer's."
        )
