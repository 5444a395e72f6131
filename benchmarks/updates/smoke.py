"""The same with tiny models that know nothing but a few words: whether all of it runs."""

from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    set_seed,
)

from .language_bases import trained_on
from .strategies import MadeBase, Update
from .tasks import Task, clinc150_text, massive, small

SMOKE = {
    "smoke": Update(
        "tiny models",
        "old",
        "new",
        {"num_train_epochs": 12, "learning_rate": 5e-3, "warmup_steps": 5, "patience": 12},
        {"max_steps": 2, "learning_rate": 1e-3, "warmup_steps": 1},
    ),
    "smoke-language": Update(
        "tiny language models",
        "language",
        "language-more",
        {"max_steps": 24, "eval_steps": 12, "patience": 2, "learning_rate": 1e-2, "warmup_steps": 2},
        {"max_steps": 2, "learning_rate": 1e-3, "warmup_steps": 1},
        "language",
        MadeBase(trained_on, {"sentences_together": 1, "max_steps": 2, "learning_rate": 1e-3}),
    ),
}
ROWS = 64
TEXT_ROWS = 48
_SPECIAL = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}


def smoke_tasks() -> dict[str, Task]:
    """Return a task of few rows for each kind."""
    return {"massive": small(massive(None), ROWS), "clinc150-text": small(clinc150_text(None), TEXT_ROWS)}


def make_bases(folder: Path) -> None:
    """Make small models from scratch with one tokenizer, as published ones would lie there: two BERTs and a Llama."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    alphabet, special = pre_tokenizers.ByteLevel.alphabet(), list(_SPECIAL.values())
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([row["text"] for row in massive(None).labelled], trainer)
    ends = [(_SPECIAL[name], tokenizer.token_to_id(_SPECIAL[name])) for name in ("cls_token", "sep_token")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    whole = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **_SPECIAL)
    for seed, (name, layers) in enumerate({"old": 1, "new": 2}.items()):
        set_seed(seed)
        config = BertConfig(
            vocab_size=len(whole),
            hidden_size=32,
            num_hidden_layers=layers,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=64,
            initializer_range=0.1,
            pad_token_id=whole.pad_token_id,
        )
        BertModel(config, add_pooling_layer=False).save_pretrained(folder / name)
        whole.save_pretrained(folder / name)
    set_seed(0)
    config = LlamaConfig(
        vocab_size=len(whole),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=256,
        initializer_range=0.1,
        bos_token_id=None,
        eos_token_id=whole.sep_token_id,
        pad_token_id=whole.pad_token_id,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder / "language")
    # As those of language models: nothing stands around a text.
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.decoder = decoders.ByteLevel()
    language = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=_SPECIAL["sep_token"], pad_token=_SPECIAL["pad_token"]
    )
    language.save_pretrained(folder / "language")
