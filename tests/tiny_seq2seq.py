"""Tiny encoder-decoders for tests, T5 and BART, from a config and a seed: no network."""

from typing import Any

import torch
from peft import PeftModel
from tiny_models import tiny_adapter
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)


def tiny_seq2seq(kind: str, seed: int, tokenizer: PreTrainedTokenizerFast, **options: Any) -> PreTrainedModel:
    """Return a "t5" or a "bart" with random weights, in eval mode; torch's own random state is kept.

    Args:
        kind: Of the model. T5 scales what its LM head reads; BART has positions of its own and a bias on its logits.
        seed: Of its weights.
        tokenizer: Gives the size of its vocabulary and its special tokens.
        **options: More for its config.
    """
    shared = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "d_model": 16,
    }
    t5 = {"d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2, "dropout_rate": 0.0, "initializer_factor": 3.0}
    bart = {
        **{f"{part}_layers": 1 for part in ("encoder", "decoder")},
        **{f"{part}_attention_heads": 2 for part in ("encoder", "decoder")},
        **{f"{part}_ffn_dim": 32 for part in ("encoder", "decoder")},
        "max_position_embeddings": 64,
        "init_std": 0.5,
        "dropout": 0.0,
        "forced_eos_token_id": None,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind == "t5":
            start = {"decoder_start_token_id": tokenizer.pad_token_id}
            return T5ForConditionalGeneration(T5Config(**shared | t5 | start | options)).eval()
        start = {"decoder_start_token_id": tokenizer.eos_token_id}
        model = BartForConditionalGeneration(BartConfig(**shared | bart | start | options)).eval()
        model.final_logits_bias += torch.randn_like(model.final_logits_bias)
        return model


def tiny_seq2seq_adapter(model: PreTrainedModel, seed: int, **options: Any) -> PeftModel:
    """Return `model`, changed in place, with a LoRA adapter whose random weights change what it answers."""
    return tiny_adapter(model, seed, **{"task_type": "SEQ_2_SEQ_LM"} | options)
