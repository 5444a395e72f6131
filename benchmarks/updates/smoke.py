"""The same with tiny models that know nothing but a few words: whether all of it runs."""

from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, set_seed

from .strategies import Update
from .tasks import Task, massive, small

SMOKE = {
    "smoke": Update(
        "tiny models",
        "old",
        "new",
        {"num_train_epochs": 12, "learning_rate": 5e-3, "warmup_steps": 5, "patience": 12},
        {"max_steps": 2, "learning_rate": 1e-3, "warmup_steps": 1},
    )
}
ROWS = 64
_SPECIAL = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}


def smoke_tasks() -> dict[str, Task]:
    """Return one task of few rows."""
    return {"massive": small(massive(None), ROWS)}


def make_bases(folder: Path) -> None:
    """Make two small BERTs from scratch with one tokenizer, as published encoders would lie there."""
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
