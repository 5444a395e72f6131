"""Causal models and encoder-decoders: what an update needs for either."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, Seq2SeqTrainingArguments
from trl import SFTConfig

from ..errors import MuscleError
from ..hub.lookup import looking_up
from ..seq2seq.config import CompatibilitySeq2SeqConfig
from ..training.config import CompatibilityConfig


@dataclass(frozen=True)
class Kind:
    """A kind of language model."""

    name: str
    task: str  # as the Hub names it
    auto_class: Any  # what loads a base
    config: type[Any]  # of the compatibility training
    plain_config: type[Any]  # of the trainings with plain cross-entropy


CAUSAL = Kind("causal language models", "text-generation", AutoModelForCausalLM, CompatibilityConfig, SFTConfig)
ENCODER_DECODER = Kind(
    "encoder-decoders",
    "text2text-generation",
    AutoModelForSeq2SeqLM,
    CompatibilitySeq2SeqConfig,
    Seq2SeqTrainingArguments,
)


def kind_of(config: Any) -> Kind:
    """Tell the kind of a model from its config."""
    return ENCODER_DECODER if config.is_encoder_decoder else CAUSAL


def kind_of_base(name: str, given: Mapping[str, Any]) -> Kind:
    """Tell the kind of a base from its folder or its id; one that cannot be read is refused later, as a causal one.

    `given` are the options of the training that say how it is loaded.
    """
    loading = given.get("model_init_kwargs")
    # Not left out, or transformers would ask on the terminal.
    shared = {"trust_remote_code": bool(given.get("trust_remote_code"))}
    try:
        if isinstance(loading, str):
            loading = json.loads(loading)
        if isinstance(loading, dict):
            shared |= {option: loading[option] for option in ("revision", "trust_remote_code") if option in loading}
        with looking_up(name):
            return kind_of(AutoConfig.from_pretrained(name, **shared))
    except (MuscleError, OSError, ValueError, KeyError, ImportError):
        return CAUSAL
