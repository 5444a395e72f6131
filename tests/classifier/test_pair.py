"""How the two classifiers of an update are loaded: with whose options, under which names, and how they read."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_classifiers import NAMES, tiny_classifier
from tiny_models import TEXTS, tiny_tokenizer
from transformers import AutoModelForSequenceClassification

from muscle_hf.classifier.config import CompatibilityClassifierConfig
from muscle_hf.classifier.pair import ClassifierPair
from muscle_hf.errors import ConfigurationError

TOKENIZER = tiny_tokenizer()


def _config(folder: Path, **options: Any) -> CompatibilityClassifierConfig:
    return CompatibilityClassifierConfig(output_dir=str(folder), use_cpu=True, report_to="none", **options)


@pytest.fixture(name="saved")
def _saved(tmp_path: Path) -> tuple[str, str]:
    for seed, name in enumerate(("new", "old")):
        tiny_classifier(seed, TOKENIZER).save_pretrained(tmp_path / name)
        TOKENIZER.save_pretrained(tmp_path / name)
    return str(tmp_path / "new"), str(tmp_path / "old")


def test_both_models_and_their_tokenizers_are_found_by_path(saved: tuple[str, str], tmp_path: Path) -> None:
    pair = ClassifierPair.load((saved[0], None, None), (saved[1], None, None), _config(tmp_path))
    assert pair.task == "sequence"
    assert pair.classes.new == pair.classes.old == NAMES
    assert pair.reads_alike
    assert (pair.new_side.max_length, pair.old_side.max_length) == (64, 64)
    for model, path in zip((pair.student, pair.old), saved, strict=True):
        reloaded = AutoModelForSequenceClassification.from_pretrained(path)
        assert torch.equal(model.classifier.weight, reloaded.classifier.weight)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"dtype": torch.float32}),
        ({"model_init_kwargs": {"dtype": "bfloat16", "revision": "main"}}, {"dtype": "bfloat16"}),
        (
            {"model_init_kwargs": {"dtype": "bfloat16"}, "old_model_init_kwargs": {"revision": "v1"}},
            {"revision": "v1"},
        ),
    ],
    ids=["nothing", "inherited, but for the revision", "its own"],
)
def test_the_old_model_is_loaded_as_the_new_one_unless_it_has_options_of_its_own(
    saved: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    expected: dict[str, Any],
) -> None:
    seen: dict[str, dict[str, Any]] = {}
    load = AutoModelForSequenceClassification.from_pretrained

    def spy(name: str, **kwargs: Any) -> Any:
        seen[name] = {key: value for key, value in kwargs.items() if key != "output_loading_info"}
        return load(name, output_loading_info=True)

    monkeypatch.setattr(AutoModelForSequenceClassification, "from_pretrained", spy)
    quantization = object()  # what a GPU with bitsandbytes would get
    tokenizers = (None, TOKENIZER), (None, TOKENIZER)
    ClassifierPair.load(
        (saved[0], *tokenizers[0]), (saved[1], *tokenizers[1]), _config(tmp_path, **options), quantization
    )
    assert seen[saved[0]]["quantization_config"] is quantization
    own = "old_model_init_kwargs" in options
    expected = {"dtype": torch.float32} | expected | ({} if own else {"quantization_config": quantization})
    assert seen[saved[1]] == expected


def test_given_names_are_kept_in_the_students_config_and_so_saved(saved: tuple[str, str], tmp_path: Path) -> None:
    names = ["spanish", "savings", "checking"]
    args = _config(tmp_path, new_label_names=names)
    pair = ClassifierPair.load((tiny_classifier(0, TOKENIZER, None), None, TOKENIZER), (saved[1], None, None), args)
    assert pair.student.config.id2label == dict(enumerate(names))
    assert pair.student.config.label2id == {name: index for index, name in enumerate(names)}
    assert pair.classes.old_of_new == (2, 0, 1)


def test_another_tokenizer_on_the_old_side_is_noticed(saved: tuple[str, str], tmp_path: Path) -> None:
    other = tiny_tokenizer(TEXTS[:2], vocabulary_size=270)
    pair = ClassifierPair.load((saved[0], None, None), (saved[1], None, other), _config(tmp_path))
    assert not pair.reads_alike
    assert pair.old_side.tokenizer is other


def test_swapped_adapters_are_refused(saved: tuple[str, str], tmp_path: Path) -> None:
    for path in saved:
        model = AutoModelForSequenceClassification.from_pretrained(path)
        lora = LoraConfig(task_type="SEQ_CLS", target_modules=["query"])
        get_peft_model(model, lora).save_pretrained(f"{path}-adapter")
    new, old = ((path, f"{path}-adapter", None) for path in saved)
    assert ClassifierPair.load(new, old, _config(tmp_path)).task == "sequence"
    swapped = (new[0], old[1], None), (old[0], new[1], None)
    with pytest.raises(ConfigurationError, match="may be swapped"):
        ClassifierPair.load(*swapped, _config(tmp_path))
