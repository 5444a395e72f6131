"""Tokenizers that lie beside a base or an adapter."""

from pathlib import Path

from tiny_models import tiny_tokenizer
from transformers import GemmaConfig

from muscle_hf.models.tokenizers import load_tokenizer


def test_a_model_without_tokenizer_files_is_trained_on_unknown_tokens(tmp_path: Path) -> None:
    # transformers makes up a tokenizer of special tokens alone, which takes every text for one unknown token.
    GemmaConfig().save_pretrained(tmp_path)
    assert load_tokenizer(str(tmp_path), {}) is None
    tiny_tokenizer().save_pretrained(tmp_path)
    tokenizer = load_tokenizer(str(tmp_path), {})
    assert tokenizer is not None
    assert len(tokenizer("balance")["input_ids"]) > 1
