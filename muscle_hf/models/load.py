"""Load an adapter of the Hub or of a folder onto the base it was trained on, without running anything that it brings.

No pickle is opened, of the adapter or of the base, and code of a repository runs only where the caller says so.
"""

import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import RevisionNotFoundError
from peft import PeftConfig, PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import ModulesToSaveWrapper
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from ..errors import ConfigurationError, HubError, InputError, ModelMismatchError
from ..files import refuse_pointers
from ..hub.adapter_config import PREFIX
from ..hub.adapter_files import AdapterFiles, adapter_files, has_tokenizer
from ..hub.base_files import BaseFiles, base_files
from ..hub.lookup import is_folder, looking_up
from ..hub.names import is_commit, is_id
from ..hub.repository_files import has_path_form
from ..text import printable
from .adapters import refuse_weights_that_are_no_numbers
from .embedding_rows import fit_rows
from .merging import merge_adapter
from .placement import check_placing
from .tokenizers import is_without_words

__all__ = ["load_adapter"]

logger = logging.getLogger(__name__)

_LOADERS = {
    "CAUSAL_LM": AutoModelForCausalLM,
    "SEQ_2_SEQ_LM": AutoModelForSeq2SeqLM,
    "SEQ_CLS": AutoModelForSequenceClassification,
    "TOKEN_CLS": AutoModelForTokenClassification,
}
# Weights of a classifier's last layer, one row a class, as the models of transformers call them.
_HEADS = ("score.weight", "classifier.out_proj.weight", "classifier.weight")
# What transformers and PEFT raise for files that are not what they should be.
_BROKEN = (OSError, ValueError, LookupError, TypeError, AttributeError, ImportError, SafetensorError)


def load_adapter(
    name: str | Path,
    *,
    revision: str | None = None,
    base_model: str | Path | None = None,
    base_revision: str | None = None,
    dtype: str | torch.dtype = "auto",
    device_map: str | dict[str, Any] | int | torch.device | None = None,
    attn_implementation: str | None = None,
    quantization_config: Any = None,
    merge: bool = False,
    is_trainable: bool = False,
    trust_remote_code: bool = False,
    token: str | bool | None = None,
) -> PeftModel | PreTrainedModel:
    """Load an adapter onto its base: a language model (causal or encoder-decoder), or a sequence or token classifier.

    The base is the one that the adapter's config names, at the commit that it was trained on, where that is noted. A
    warning in the log says so if the base or its commit is another one.

    Args:
        name: The adapter: an id on the Hub, or a folder.
        revision: Branch, tag or commit of the adapter. Defaults to the newest commit of its main branch.
        base_model: Another base than the config's: an id, or a folder.
        base_revision: Branch, tag or commit of the base. Defaults to what the adapter notes, or to the main branch
            where it notes nothing or `base_model` is another one.
        dtype: Type of the base's weights, as in transformers; "auto" takes the one that they are saved in.
        device_map: Where they go, as in transformers: "auto", "cuda:0", … None leaves them on the CPU.
        attn_implementation: As in transformers.
        quantization_config: As in transformers.
        merge: Add the adapter's weights to the base's, and return that model, which no longer needs PEFT. It gives the
            adapter's logits, up to the rounding of its type, or is not returned: see docs/train-rules.md.
        is_trainable: Let the adapter be trained further; by default it is frozen.
        trust_remote_code: Run the code that the base's repository brings, if it brings any. Read it first.
        token: Of the Hub; None takes the saved one, False none.

    Returns:
        A [`peft.PeftModel`] in eval mode unless `is_trainable`; with `merge` the model of transformers.

    Raises:
        InputError: There is no such adapter or base, a file is broken, or there are only pickles.
        ConfigurationError: `merge` with `is_trainable`, a type or device that is not there, or a base that needs
            `trust_remote_code`.
        ModelMismatchError: The adapter does not fit its base, or leaves weights of it random.
        UnsupportedAdapterError: An adapter of virtual tokens, one of a type that may load more than its own files, or
            one that cannot be merged, or whose merged model gives other logits.
        HubError: The Hub does not give the adapter or the base: no network, a wrong token, a gated repository, …

    Example:
        A folder works as an id does:

        >>> import tempfile
        >>> from peft import LoraConfig, get_peft_model
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> folder = tempfile.TemporaryDirectory()
        >>> config = LlamaConfig(vocab_size=8, hidden_size=4, intermediate_size=4, num_hidden_layers=1,
        ...                      num_attention_heads=1)
        >>> LlamaForCausalLM(config).save_pretrained(f"{folder.name}/base")
        >>> base = LlamaForCausalLM.from_pretrained(f"{folder.name}/base")
        >>> with warnings.catch_warnings(action="ignore"):
        ...     get_peft_model(base, LoraConfig(task_type="CAUSAL_LM")).save_pretrained(f"{folder.name}/adapter")
        >>> type(load_adapter(f"{folder.name}/adapter")).__name__
        'PeftModelForCausalLM'
        >>> type(load_adapter(f"{folder.name}/adapter", merge=True)).__name__
        'LlamaForCausalLM'
        >>> folder.cleanup()
    """
    if merge and is_trainable:
        raise ConfigurationError("merge=True leaves no adapter to train; leave one of merge and is_trainable out.")
    check_placing(dtype, device_map)
    files, base = find_files(name, revision, base_model, base_revision, token)
    options = {
        "dtype": dtype,
        "device_map": device_map,
        "trust_remote_code": trust_remote_code,
        "token": token,
        # Not handed on as None, which some models would take for a choice.
        **({} if attn_implementation is None else {"attn_implementation": attn_implementation}),
        **({} if quantization_config is None else {"quantization_config": quantization_config}),
    }
    adapted = load_files(files, base, options, is_trainable=is_trainable)
    if not merge:
        return adapted
    return merge_adapter(adapted, f"{printable(files.name)} of type {printable(files.peft_type)}")


def find_files(
    name: str | Path,
    revision: str | None,
    base_model: str | Path | None,
    base_revision: str | None,
    token: str | bool | None,
) -> tuple[AdapterFiles, BaseFiles]:
    """Bring an adapter and its base onto this machine, and say where the base is another than it was trained on."""
    files = adapter_files(name, revision=revision, token=token)
    if files.task not in _LOADERS:
        raise InputError(
            f"{printable(files.name)} has task_type={printable(str(files.task))}; {', '.join(_LOADERS)} can be loaded "
            "here. Load its base with transformers, and the adapter with PeftModel.from_pretrained(base, adapter)."
        )
    return files, _base_of(files, base_model, base_revision, token)


def load_files(
    files: AdapterFiles, base: BaseFiles, options: dict[str, Any], *, is_trainable: bool = False
) -> PeftModel:
    """Load what `find_files` has found."""
    model, untrained = _load_base(files, base, options)
    adapted = _put_on(files, model, is_trainable=is_trainable)
    _refuse_untrained(files, base, adapted, untrained)
    return adapted


def load_tokenizer(files: AdapterFiles, base: BaseFiles, options: dict[str, Any]) -> PreTrainedTokenizerBase:
    """Load the tokenizer that lies beside an adapter, or else the base's; without one, an InputError.

    Code of the adapter's own repository is never run.
    """
    beside = has_tokenizer(files, options["token"])
    name, commit = (files.name, files.commit) if beside else (base.name, base.commit)
    try:
        with looking_up(name):
            tokenizer = AutoTokenizer.from_pretrained(
                name,
                revision=commit or "main",
                token=options["token"],
                trust_remote_code=bool(options["trust_remote_code"]) and not beside,
            )
    except _BROKEN as error:
        raise InputError(f"the tokenizer of {printable(name)} cannot be loaded: {_first_words(error)}") from error
    if is_without_words(tokenizer):
        raise InputError(f"no tokenizer lies beside {printable(name)}: all of its tokens are special. Save it there.")
    return tokenizer


def _base_of(
    files: AdapterFiles, base_model: str | Path | None, base_revision: str | None, token: str | bool | None
) -> BaseFiles:
    """Bring the base here, and say where it is not the one that the adapter was trained on."""
    adapter, named = printable(files.name), printable(files.base or "")
    if base_model is None and files.base is None:
        raise InputError(
            f"{adapter} does not name the base that it was trained on; give it as --base-model (base_model=...)."
        )
    name = str(files.base if base_model is None else base_model)
    is_named = name == files.base
    if is_named and not is_folder(name) and has_path_form(name):
        raise InputError(
            f"{adapter} was trained on the base {named}, a folder of another machine; give the same model as "
            "--base-model (base_model=...), an id of the Hub or a folder here."
        )
    if is_folder(name) and base_revision is not None:
        raise InputError(f"the base {printable(name)} is a folder of this machine, which has no revision.")
    revision = base_revision or (files.base_revision if is_named else None)
    try:
        base = base_files(name, revision=revision, token=token)
    except HubError as error:
        if isinstance(error.__cause__, RevisionNotFoundError) and base_revision is None:
            raise HubError(
                f"{error} It is the one that {adapter} was trained on; base_revision='main' takes the newest instead."
            ) from error.__cause__
        raise
    if files.base is None:
        return base
    if is_named and files.commit is not None and base.commit is None:
        # transformers looks for a folder first, and whoever wrote the config may have meant another model.
        logger.warning(
            f"the base {named} that {adapter} names is a folder of this machine as well, and that is taken, not the "
            "Hub's."
        )
    if not _may_be_same(base, files.base):
        logger.warning(
            f"{adapter} was trained on the base {named}, and is now put on {printable(name)}. If these are not the "
            "same model, its answers mean nothing."
        )
    elif is_commit(files.base_revision) and base.commit != files.base_revision:
        used = f"of commit {base.commit}" if base.commit else "taken from a folder of this machine, of unknown commit"
        logger.warning(
            f"{adapter} was trained on commit {files.base_revision} of the base {named}, which is now {used}. Its "
            "answers may differ from those on its card."
        )
    return base


def _may_be_same(base: BaseFiles, named: str) -> bool:
    """Compare the base's name with that in the adapter's config: whole ids, or the last part where one is a folder."""
    if base.commit is not None and is_id(named) and not has_path_form(named):
        return base.name == named
    return Path(base.name).name == Path(named).name


def _load_base(files: AdapterFiles, base: BaseFiles, options: dict[str, Any]) -> tuple[PreTrainedModel, set[str]]:
    """Load the base, and name the weights that no checkpoint gave it."""
    classes = _classes(files)
    shown = printable(base.name)
    refuse_pointers(base.name)
    try:
        with looking_up(base.name):
            model, report = _LOADERS[str(files.task)].from_pretrained(
                base.name,
                revision=base.commit or "main",
                use_safetensors=True,
                output_loading_info=True,
                # A base that is a classifier may have another number of classes; the adapter brings its own head.
                ignore_mismatched_sizes=bool(classes),
                **classes,
                **options,
            )
    except _BROKEN as error:
        if "trust_remote_code" in str(error) and not options["trust_remote_code"]:
            raise ConfigurationError(
                f"the base {shown} can only be loaded by running code of its repository, which is not done unless "
                "told. Read that code; where you trust it, give trust_remote_code=True."
            ) from error
        raise InputError(f"the base {shown} cannot be loaded: {_first_words(error)}") from error
    return model, set(report["missing_keys"]) | {str(key) for key, *_ in report["mismatched_keys"]}


def _classes(files: AdapterFiles) -> dict[str, Any]:
    """Say how many classes a classifier has: an adapter's config does not, but its head or a config.json beside it."""
    if files.task in ("CAUSAL_LM", "SEQ_2_SEQ_LM"):
        return {}
    rows = [shape[0] for key, shape in files.shapes.items() if key.endswith(_HEADS) and len(shape) == 2]
    names = files.label_names
    if names is not None and rows in ([], [len(names)]):
        return {"id2label": dict(enumerate(names)), "label2id": {name: index for index, name in enumerate(names)}}
    return {"num_labels": rows[0]} if len(rows) == 1 else {}


def _put_on(files: AdapterFiles, model: PreTrainedModel, *, is_trainable: bool) -> PeftModel:
    kind = type(model).__name__
    try:
        config = PeftConfig.from_pretrained(str(files.folder))
        fit_rows(model, files.shapes, config, adapter=printable(files.name), name=f"its base, a {kind},")
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Found missing adapter keys")
            # PEFT 0.21 asks a model for what transformers 5.23 has renamed.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
            # It speaks of merging, which `merge_adapter` takes care of.
            warnings.filterwarnings("ignore", "Model has `tie_word_embeddings=True` and a tied layer is part")
            adapted = PeftModel.from_pretrained(model, str(files.folder), is_trainable=is_trainable)
    except (torch.OutOfMemoryError, ModelMismatchError):
        raise
    except (*_BROKEN, RuntimeError, UserWarning) as error:
        said = f"no weights for {_first_words(error)}" if isinstance(error, KeyError) else _first_words(error)
        raise ModelMismatchError(
            f"{printable(files.name)} does not fit its base, a {kind}. Is it the base that it was "
            f"trained on? PEFT says: {said}"
        ) from error
    refuse_weights_that_are_no_numbers(adapted, printable(files.name))
    # PEFT passes over weights for layers that the base does not have.
    brought = {key.partition(".lora_")[0] for key in files.shapes if ".lora_" in key}
    used = sum(isinstance(module, BaseTunerLayer) for module in adapted.modules())
    if len(brought) > used:
        logger.warning(
            f"{printable(files.name)} has weights for {len(brought)} layers, of which its base has {used}: is it the "
            "base that the adapter was trained on?"
        )
    return adapted


def _refuse_untrained(files: AdapterFiles, base: BaseFiles, model: PeftModel, untrained: set[str]) -> None:
    """Weights that neither the base nor the adapter brought are random, and others at the next loading."""
    saved = tuple(
        f"{name.removeprefix(PREFIX)}."
        for name, module in model.named_modules()
        if isinstance(module, ModulesToSaveWrapper)
    )
    random = sorted(key for key in untrained if not key.startswith(saved) and f"{PREFIX}{key}" not in files.shapes)
    if random:
        more = f" and {len(random) - 3} more" if len(random) > 3 else ""
        raise ModelMismatchError(
            f"{', '.join(random[:3])}{more} are in neither the base {printable(base.name)} nor the adapter "
            f"{printable(files.name)}, so they would be random. Give the model that it was "
            "trained on as --base-model (base_model=...)."
        )


def _first_words(error: BaseException) -> str:
    text = printable(str(error))
    return text if len(text) <= 400 else f"{text[:400]} …"
