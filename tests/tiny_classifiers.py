"""Tiny classifiers for tests, from a config and a seed: encoders and decoders, for texts and words, no network."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import BertForSequenceClassification, PreTrainedModel, PreTrainedTokenizerFast

NAMES = ("savings", "checking", "spanish")


def tiny_classifier(
    seed: int,
    tokenizer: PreTrainedTokenizerFast,
    names: Sequence[str] | None = NAMES,
    *,
    kind: type[PreTrainedModel] = BertForSequenceClassification,
    context_length: int = 64,
    **options: Any,
) -> PreTrainedModel:
    """Return a BERT or Llama classifier with random weights, in eval mode; torch's own random state is kept.

    Args:
        seed: Of its weights.
        tokenizer: Gives the size of its vocabulary.
        names: Of its classes; None for three without names.
        kind: Its class, which says what it classifies.
        context_length: Positions that it has.
        **options: More for its config.
    """
    named = {"num_labels": 3} if names is None else {"id2label": dict(enumerate(names))}
    if names is not None:
        named["label2id"] = {name: index for index, name in enumerate(names)}
    is_llama = hasattr(kind.config_class(), "num_key_value_heads")
    config = kind.config_class(
        **{
            "vocab_size": len(tokenizer),
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "max_position_embeddings": context_length,
            "initializer_range": 1.0,
            "pad_token_id": tokenizer.pad_token_id,
        }
        | ({"num_key_value_heads": 1} if is_llama else {})
        | named
        | options
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind(config).eval()
