"""Teachers of classifiers that are asked once about each training row."""

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset, IterableDataset
from tiny_classifiers import NAMES, tiny_classifier
from tiny_models import TEXTS, tiny_tokenizer
from transformers import BertForSequenceClassification, BertForTokenClassification

from muscle_hf.classifier.config import CompatibilityClassifierConfig
from muscle_hf.classifier.trainer import CompatibilityClassifierTrainer
from muscle_hf.errors import ConfigurationError
from muscle_hf.teachers.live import SharedBaseTeacher

TOKENIZER, OLD_TOKENIZER = tiny_tokenizer(), tiny_tokenizer(TEXTS[:2], vocabulary_size=270, add_beginning=True)
ROWS = [{"text": TEXTS[i % 7][i % 3 :], "label": NAMES[i % 3]} for i in range(10)]
WORD_ROWS = [{"tokens": text.split(), "ner_tags": [i % 3 for i, _ in enumerate(text.split())]} for text in TEXTS]


def _trainer(folder: Path, train: Any, kind: Any = BertForSequenceClassification, **options: Any) -> Any:
    quiet = {"use_cpu": True, "report_to": "none", "disable_tqdm": True, "save_strategy": "no"}
    unlabelled = options.pop("unlabelled_dataset", None)
    return CompatibilityClassifierTrainer(
        model=tiny_classifier(1, TOKENIZER, kind=kind),
        old_model=tiny_classifier(2, OLD_TOKENIZER, kind=kind),
        processing_class=TOKENIZER,
        old_processing_class=OLD_TOKENIZER,
        train_dataset=train,
        unlabelled_dataset=unlabelled,
        args=CompatibilityClassifierConfig(
            output_dir=str(folder), num_train_epochs=3, per_device_train_batch_size=4, **quiet | options
        ),
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", [BertForSequenceClassification, BertForTokenClassification])
def test_remembered_teachers_teach_otherwise_or_are_asked_again(kind: Any, tmp_path: Path) -> None:
    rows = Dataset.from_list(ROWS if kind is BertForSequenceClassification else WORD_ROWS)
    # Each text is drawn nearly twice an epoch, and its number must not be that of a labelled row.
    texts = Dataset.from_list([{name: row[name] for name in row if name in ("text", "tokens")} for row in rows])
    texts = texts.select(range(4)).map(lambda row: {name: row[name][1:] for name in row})
    weights, asked = [], []
    for cache in ("none", "memory"):
        trainer = _trainer(
            tmp_path, rows, kind, unlabelled_dataset=texts, unlabelled_ratio=0.7, teacher_cache=cache, seed=3
        )
        ask, calls = trainer.teachers.ask, []

        def counted(*inputs: Any, ask: Any = ask, calls: list[int] = calls) -> Any:
            calls.append(len(inputs[0]["labels"]))
            return ask(*inputs)

        trainer.teachers.ask = counted
        trainer.train()
        weights.append(torch.cat([value.detach().flatten() for value in trainer.model.parameters()]))
        asked.append((len(calls), trainer.state.global_step))
    assert (weights[0] - weights[1]).abs().max() < 1e-5
    (calls, steps), (calls_with_memory, _) = asked
    assert calls == steps and calls_with_memory <= steps / 3 + 1


def test_rows_of_a_stream_are_remembered_by_numbers_that_they_do_not_have(tmp_path: Path) -> None:
    stream = IterableDataset.from_generator(lambda: iter(ROWS))
    with pytest.raises(ConfigurationError, match="a stream has none"):
        _trainer(tmp_path, stream, teacher_cache="memory", max_steps=1)


def test_a_memory_that_split_models_do_not_use_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class SplitTeacher(SharedBaseTeacher):
        def __init__(self, student: torch.nn.Module) -> None:
            super().__init__(student)
            self.shards = object()  # type: ignore[assignment]

    monkeypatch.setattr("muscle_hf.classifier.trainer.SharedBaseTeacher", SplitTeacher)
    with pytest.raises(ConfigurationError, match='teacher_cache="memory" would be ignored'):
        _trainer(tmp_path, Dataset.from_list(ROWS), teacher_cache="memory", max_steps=1)


def test_a_cache_that_classifiers_do_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="teacher_cache='hidden' is unknown"):
        CompatibilityClassifierConfig(output_dir=str(tmp_path), teacher_cache="hidden", use_cpu=True)
