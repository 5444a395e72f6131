"""Classifiers from paths and loaded models: what their classes are called, and what would train a random head."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, PrefixTuningConfig, get_peft_model
from tiny_classifiers import NAMES, tiny_classifier
from tiny_models import tiny_llama, tiny_tokenizer
from transformers import (
    BertForMaskedLM,
    BertForSequenceClassification,
    BertForTokenClassification,
    LlamaForSequenceClassification,
    LlamaForTokenClassification,
    MixtralForSequenceClassification,
    RobertaForSequenceClassification,
)

from muscle_hf.classifier.models import align_padding, classifier_task, load_classifier, longest_input
from muscle_hf.errors import ConfigurationError, ModelMismatchError, UnsupportedAdapterError

TOKENIZER = tiny_tokenizer()


def _lora(model: Any, **options: Any) -> PeftModel:
    torch.manual_seed(0)
    return get_peft_model(
        model, LoraConfig(**{"task_type": "SEQ_CLS", "r": 2, "target_modules": "all-linear"} | options)
    )


@pytest.fixture(name="base")
def _base(tmp_path: Path) -> Path:
    """A base without a classification head."""
    config = tiny_classifier(1, TOKENIZER, None).config
    torch.manual_seed(1)
    BertForMaskedLM(config).save_pretrained(tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture(name="adapter")
def _adapter(base: Path, tmp_path: Path) -> Path:
    """An adapter on it for four classes, with the pooler that a masked language model does not have."""
    model = BertForSequenceClassification.from_pretrained(base, num_labels=4)
    _lora(model, modules_to_save=["classifier", "pooler"]).save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


@pytest.mark.parametrize(
    ("kind", "task"),
    [
        (BertForSequenceClassification, "sequence"),
        (BertForTokenClassification, "token"),
        (LlamaForSequenceClassification, "sequence"),
        (LlamaForTokenClassification, "token"),
    ],
)
def test_encoders_and_decoders_are_loaded_for_what_they_classify(kind: Any, task: str, tmp_path: Path) -> None:
    model = tiny_classifier(1, TOKENIZER, kind=kind)
    model.save_pretrained(tmp_path)
    loaded = load_classifier(str(tmp_path), None, role="old")
    assert type(loaded) is kind
    assert classifier_task(loaded, "old_model") == task
    assert list(loaded.config.id2label.values()) == list(NAMES)
    assert load_classifier(model, None, role="new") is model


def test_an_adapter_finds_its_base_and_its_classes_by_given_names(base: Path, adapter: Path) -> None:
    loaded = load_classifier(str(adapter), None, role="new", label_names=list("abcd"))
    assert list(loaded.config.id2label.values()) == list("abcd")
    assert isinstance(loaded, PeftModel)
    again = load_classifier(base, adapter, role="old", label_names=list("abcd"))
    ids = torch.tensor([[5, 6, 7]])
    torch.testing.assert_close(loaded.eval()(ids).logits, again.eval()(ids).logits)


def test_the_names_beside_an_adapter_are_read(adapter: Path) -> None:
    tiny_classifier(1, TOKENIZER, list("wxyz")).config.save_pretrained(adapter)
    assert list(load_classifier(str(adapter), None, role="new").config.id2label.values()) == list("wxyz")


def test_an_adapter_of_another_number_of_classes_says_which_names_to_give(adapter: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"number of classes.* Give old_label_names"):
        load_classifier(str(adapter), None, role="old", label_names=["a", "b"])


def test_a_head_that_nobody_trained_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"is no classifier: its architecture is \['BertForMaskedLM'\]"):
        load_classifier(str(base), None, role="new")
    model = BertForSequenceClassification.from_pretrained(base, num_labels=4)
    _lora(model).save_pretrained(tmp_path / "without-pooler")  # PEFT saves the head of its own accord, not the pooler
    with pytest.raises(ConfigurationError, match=r"\['bert.pooler.dense.bias', .*are in no checkpoint"):
        load_classifier(str(tmp_path / "without-pooler"), None, role="new", label_names=list("abcd"))


def test_a_language_model_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"model is a LlamaForCausalLM; .*CompatibilityTrainer"):
        load_classifier(tiny_llama(1, TOKENIZER), None, role="new")


def test_an_adapter_on_an_adapter_is_refused(adapter: Path) -> None:
    model = _lora(tiny_classifier(1, TOKENIZER))
    with pytest.raises(ConfigurationError, match="already carries an adapter"):
        load_classifier(model, adapter, role="new")


def test_virtual_tokens_before_the_text_are_refused() -> None:
    config = PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=2)
    model = get_peft_model(tiny_classifier(1, TOKENIZER), config)
    with pytest.raises(UnsupportedAdapterError, match="PREFIX_TUNING"):
        load_classifier(model, None, role="old")


def test_a_router_loss_that_would_be_ignored_is_refused_and_a_mixture_of_experts_without_it_is_not() -> None:
    kind = MixtralForSequenceClassification
    model = tiny_classifier(1, TOKENIZER, kind=kind, num_local_experts=2)
    assert load_classifier(model, None, role="new") is model
    model = tiny_classifier(1, TOKENIZER, kind=kind, num_local_experts=2, output_router_logits=True)
    with pytest.raises(ConfigurationError, match=r"mixture of experts .* router loss would be ignored"):
        load_classifier(model, None, role="new")


def test_what_a_model_can_read_is_found_also_where_positions_start_late() -> None:
    bert = tiny_classifier(1, TOKENIZER, context_length=64)
    assert longest_input(bert, TOKENIZER, None, role="new") == 64
    roberta = tiny_classifier(1, TOKENIZER, kind=RobertaForSequenceClassification, context_length=66, pad_token_id=1)
    assert longest_input(roberta, TOKENIZER, None, role="new") == 64
    roberta(torch.full((1, 64), 5))
    with pytest.raises((IndexError, RuntimeError)):
        roberta(torch.full((1, 65), 5))
    llama = tiny_classifier(1, TOKENIZER, kind=LlamaForSequenceClassification, context_length=512)
    assert longest_input(llama, TOKENIZER, None, role="new") == TOKENIZER.model_max_length == 128


def test_a_longer_input_than_there_are_positions_is_refused_before_a_batch_crashes() -> None:
    bert = tiny_classifier(1, TOKENIZER, context_length=64)
    assert longest_input(bert, TOKENIZER, 12, role="new") == 12
    with pytest.raises(ConfigurationError, match="max_length=65 is more than the 64 positions that the old model has"):
        longest_input(bert, TOKENIZER, 65, role="old")
    rotary = tiny_classifier(1, TOKENIZER, kind=LlamaForSequenceClassification, context_length=64)
    assert longest_input(rotary, TOKENIZER, 65, role="new") == 65


def test_a_decoder_never_reads_the_class_off_the_padding() -> None:
    kind = LlamaForSequenceClassification
    unset = tiny_classifier(1, TOKENIZER, kind=kind, pad_token_id=None)
    align_padding(unset, TOKENIZER, role="new")
    assert unset.config.pad_token_id == TOKENIZER.pad_token_id
    other = tiny_classifier(1, TOKENIZER, kind=kind, pad_token_id=2)
    with pytest.raises(ModelMismatchError, match="takes token 2 for padding and its tokenizer pads with 0"):
        align_padding(other, TOKENIZER, role="new")
