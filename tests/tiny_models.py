"""Tiny tokenizers, models and adapters for tests, from a config and a seed: the same ones in every run, no network.

    tokenizer = tiny_tokenizer()
    model = tiny_llama(seed=1, tokenizer=tokenizer)
    adapted = tiny_adapter(model, seed=2)             # changes `model` in place, as peft does

Every call returns an object of its own, so a test may change what it gets. Their weights are random and large, so that
answers differ between prompts, seeds and adapters; they are in float32 and have about 30,000 parameters.
"""

import copy
import warnings
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

PADDING, BEGINNING, END = "<pad>", "<s>", "</s>"
TEXTS = (
    "what is the balance of my checking account",
    "transfer ten dollars from savings to checking",
    "please freeze my account, I lost the card",
    "how do I say thank you in Spanish?",
    "Question: which colour is the sky? Answer: blue",
    "book a table for four at seven in the evening",
    "the weather in Paris will be fine tomorrow",
)
CHAT_TEMPLATE = (
    "{% for message in messages %}<s>{{ message['role'] }}\n{{ message['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)


def tiny_tokenizer(
    texts: Sequence[str] = TEXTS,
    *,
    vocabulary_size: int = 320,
    add_beginning: bool = False,
    chat_template: str | None = None,
) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer trained on `texts`, with tokens for padding (0), beginning (1) and end (2).

    Args:
        texts: What the merges are learned from; any text can be encoded, byte by byte if need be.
        vocabulary_size: Special tokens, 256 bytes and merges together; fewer where the texts give fewer merges.
        add_beginning: Whether `<s>` goes before every text.
        chat_template: A Jinja template such as `CHAT_TEMPLATE`; none by default.
    """
    tokenizer = copy.deepcopy(_trained(tuple(texts), vocabulary_size, add_beginning))
    tokenizer.chat_template = chat_template
    return tokenizer


@cache
def _trained(texts: tuple[str, ...], vocabulary_size: int, add_beginning: bool) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=[PADDING, BEGINNING, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if add_beginning:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{BEGINNING} $A", special_tokens=[(BEGINNING, tokenizer.token_to_id(BEGINNING))]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PADDING, bos_token=BEGINNING, eos_token=END, model_max_length=128
    )


def tiny_llama(
    seed: int,
    tokenizer: PreTrainedTokenizerFast,
    *,
    tie_word_embeddings: bool = True,
    hidden_size: int = 32,
    layers: int = 2,
    context_length: int = 128,
    initializer_range: float = 0.3,
) -> LlamaForCausalLM:
    """Return a Llama model with random weights for this tokenizer, in eval mode; torch's own random state is kept."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context_length,
        initializer_range=initializer_range,
        tie_word_embeddings=tie_word_embeddings,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config).eval()


def tiny_adapter(model: LlamaForCausalLM, seed: int, **lora_kwargs: Any) -> PeftModel:
    """Return `model`, changed in place, with a LoRA adapter whose random weights change what it answers.

    Args:
        model: The base model.
        seed: Of the adapter's weights.
        **lora_kwargs: Fields of `LoraConfig`; by default rank 4 on all linear layers but the head.
    """
    options: dict[str, Any] = {"task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8, "target_modules": "all-linear"}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        with warnings.catch_warnings():
            # PEFT 0.21 asks a model for `is_gradient_checkpointing`, which transformers 5.23 has renamed.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
            adapted = get_peft_model(model, LoraConfig(**options | lora_kwargs))
        with torch.no_grad():
            for name, weight in adapted.named_parameters():
                if weight.requires_grad:
                    # LoRA starts with one factor at zero, which would change nothing.
                    noise = torch.randn_like(weight) * 0.3
                    weight.copy_(noise if "lora_" in name else weight + noise)
    return adapted.eval()
