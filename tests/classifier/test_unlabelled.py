"""Unlabelled texts of classifiers: whom they learn from, what a log's classes mean, and what is refused."""

import logging
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import ClassLabel, Dataset, Features, IterableDataset, Value
from tiny_classifiers import NAMES, tiny_classifier
from tiny_models import TEXTS, tiny_tokenizer
from torch import Tensor
from transformers import BertForSequenceClassification, BertForTokenClassification

from muscle_hf.classifier.config import CompatibilityClassifierConfig
from muscle_hf.classifier.data import UNANSWERED
from muscle_hf.classifier.labels import ClassMap
from muscle_hf.classifier.loss import OldClasses, classifier_loss
from muscle_hf.classifier.trainer import CompatibilityClassifierTrainer
from muscle_hf.errors import ConfigurationError, InputError
from muscle_hf.losses.divergences import DIVERGENCES
from muscle_hf.losses.strategy import Strategy

NEW, OLD = ("a", "b", "c", "d"), ("c", "x", "a")  # b and d were added, x was removed, the order is another
CHANGED, SAME = OldClasses(ClassMap(NEW, OLD)), OldClasses(ClassMap(NEW, NEW))
OLD_NAMES = ("spanish", "fax", "savings")  # another order; one added, one removed
NEW_TOKENIZER, OLD_TOKENIZER = tiny_tokenizer(), tiny_tokenizer(TEXTS[:2], vocabulary_size=270, add_beginning=True)
ROWS = [{"text": TEXTS[i % 7][i % 3 :], "label": NAMES[(i * i + i // 3) % 3]} for i in range(12)]
WORD_ROWS = [{"tokens": text.split(), "ner_tags": [i % 3 for i, _ in enumerate(text.split())]} for text in TEXTS]
TEXT_ROWS = [{"text": text} for text in TEXTS[:4]]


def _softmax(logits: list[float], temperature: float = 1.0) -> list[float]:
    weights = [math.exp(z / temperature) for z in logits]
    return [weight / sum(weights) for weight in weights]


def _kl(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def _loss(
    student: list[float], old: list[float], new: list[float], label: int, classes: OldClasses = SAME, **options: Any
) -> Any:
    teacher = options.pop("unlabelled_teacher", "old")
    logits = (torch.tensor([z], dtype=torch.float64) for z in (student, old, new))
    return classifier_loss(
        *logits,
        torch.tensor([label]),
        old_classes=classes,
        strategy=Strategy(**options),
        unlabelled=torch.tensor([True]),
        unlabelled_teacher=teacher,
    )


STUDENT, OF_OLD, OF_NEW = [0.0, 1.0, 3.0, 0.5], [2.0, 0.0, 1.0, 0.0], [0.0, 0.5, 2.5, 0.0]


PRODUCT = [a / 0.5 + b / 1.5 for a, b in zip(OF_OLD, OF_NEW, strict=True)]
TARGETS = {"old": OF_OLD, "new": OF_NEW, "more_confident": OF_NEW, "product": PRODUCT}


@pytest.mark.parametrize(("teacher", "target"), TARGETS.items())
def test_a_text_learns_the_whole_distribution_of_its_teacher_and_no_cross_entropy(
    teacher: str, target: list[float]
) -> None:
    options = {"cross_entropy_weight": 0.75, "temperature": 2.0, "product_temperatures": (0.5, 1.5)}
    result = _loss(STUDENT, OF_OLD, OF_NEW, UNANSWERED, unlabelled_teacher=teacher, **options)
    expected = _kl(_softmax(target, 2.0), _softmax(STUDENT, 2.0))
    assert result.loss.item() == pytest.approx(expected, rel=1e-12)
    assert result.tokens_to_old.item() == (teacher in ("old", "product"))
    # What the teacher answers stands for the gold class: of the old model and the product 0, of the new one 2, as of
    # the student.
    assert result.correct_tokens.item() == (teacher not in ("old", "product"))


def test_a_class_of_a_log_is_learned_by_cross_entropy_alone_whatever_both_models_say() -> None:
    result = _loss(STUDENT, OF_OLD, OF_NEW, 1, cross_entropy_weight=0.25, focal_beta=5.0)
    assert result.loss.item() == pytest.approx(-math.log(_softmax(STUDENT)[1]), rel=1e-12)


def test_labelled_rows_keep_their_loss_beside_unlabelled_ones() -> None:
    generator = torch.Generator().manual_seed(0)

    def draw(classes: int) -> Tensor:
        return 3 * torch.randn(6, classes, generator=generator, dtype=torch.float64)

    student, old, new = draw(4), draw(3), draw(4)
    labels, strategy = torch.tensor([0, 1, 2, 3, 0, 2]), Strategy(cross_entropy_weight=0.3, focal_beta=2.0)
    alone = classifier_loss(student, old, new, labels, old_classes=CHANGED, strategy=strategy, normalizer=1)
    unlabelled = torch.tensor([False] * 6 + [True] * 6)
    both = classifier_loss(
        *(logits.repeat(2, 1) for logits in (student, old, new)),
        torch.cat([labels, torch.full((6,), UNANSWERED)]),
        old_classes=CHANGED,
        strategy=strategy,
        normalizer=1,
        unlabelled=unlabelled,
    )
    rest = classifier_loss(
        student,
        old,
        new,
        torch.full((6,), UNANSWERED),
        old_classes=CHANGED,
        strategy=strategy,
        normalizer=1,
        unlabelled=unlabelled[6:],
    )
    assert rest.loss.item() > 0
    assert both.loss.item() == pytest.approx(alone.loss.item() + rest.loss.item(), rel=1e-12)


@pytest.mark.parametrize("divergence", sorted(DIVERGENCES))
def test_a_text_that_is_taken_for_an_added_class_is_never_pulled_to_a_model_without_it(divergence: str) -> None:
    new = [0.0, 4.0, 1.0, 0.0]  # b, which the old model does not know
    result = _loss(STUDENT, [1.0, 0.0, 0.0], new, UNANSWERED, CHANGED, divergence=divergence)
    assert result.tokens_to_old == 0
    for teacher in ("old", "product"):
        known = _loss(
            STUDENT, [1.0, 0.0, 0.0], OF_NEW, UNANSWERED, CHANGED, divergence=divergence, unlabelled_teacher=teacher
        )
        assert known.tokens_to_old == 1
        assert math.isfinite(known.loss.item())


def _models(kind: Any = BertForSequenceClassification) -> dict[str, Any]:
    """A new and an old model that share neither tokenizer nor classes, and drop nothing out."""
    still = {"kind": kind, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return {
        "model": tiny_classifier(1, NEW_TOKENIZER, **still),
        "old_model": tiny_classifier(2, OLD_TOKENIZER, OLD_NAMES, **still),
        "processing_class": NEW_TOKENIZER,
        "old_processing_class": OLD_TOKENIZER,
    }


def _trainer(
    folder: Path,
    unlabelled: Any,
    train: Any = None,
    kind: Any = BertForSequenceClassification,
    eval_dataset: Any = None,
    **options: Any,
) -> CompatibilityClassifierTrainer:
    defaults = {"max_steps": 1, "per_device_train_batch_size": 4, "save_strategy": "no", "logging_steps": 1}
    quiet = {"use_cpu": True, "report_to": "none", "disable_tqdm": True}
    return CompatibilityClassifierTrainer(
        **_models(kind),
        train_dataset=Dataset.from_list(ROWS) if train is None else train,
        unlabelled_dataset=unlabelled,
        eval_dataset=eval_dataset,
        args=CompatibilityClassifierConfig(output_dir=str(folder), **defaults | quiet | options),
    )


def _encoded(folder: Path, rows: Any, **options: Any) -> tuple[Dataset, Any]:
    trainer = _trainer(folder, rows if isinstance(rows, Dataset) else Dataset.from_list(rows), **options)
    return trainer.train_dataset.filter(lambda row: row["unlabelled"]), trainer


def _logits(model: Any, tokenizer: Any, rows: Any) -> Tensor:
    """Logits of one text at a time, without padding."""
    with torch.no_grad():
        return torch.cat([model(torch.tensor([tokenizer(row["text"])["input_ids"]])).logits for row in rows])


def test_texts_are_trained_on_beside_the_labelled_ones(tmp_path: Path) -> None:
    rows, trainer = _encoded(
        tmp_path, TEXT_ROWS, mask="none", learning_rate=0.0, max_steps=1, per_device_train_batch_size=16
    )
    assert rows["labels"] == [UNANSWERED] * 4
    assert [row["input_ids"] for row in rows] == [NEW_TOKENIZER(row["text"])["input_ids"] for row in TEXT_ROWS]
    assert [row["old_input_ids"] for row in rows] == [OLD_TOKENIZER(row["text"])["input_ids"] for row in TEXT_ROWS]
    models, all_rows = _models(), [*ROWS, *TEXT_ROWS]
    new = _logits(models["model"], NEW_TOKENIZER, all_rows)
    old = _logits(models["old_model"], OLD_TOKENIZER, all_rows)
    unlabelled = torch.tensor([False] * 12 + [True] * 4)
    expected = classifier_loss(
        new,
        old,
        new,
        torch.tensor([NAMES.index(row["label"]) for row in ROWS] + [UNANSWERED] * 4),
        old_classes=OldClasses(ClassMap(NAMES, OLD_NAMES)),
        strategy=Strategy(mask="none"),
        unlabelled=unlabelled,
    )
    trainer.train()
    log = trainer.state.log_history[0]
    assert log["loss"] == pytest.approx(expected.loss.item(), abs=1e-4)
    assert log["aligned_to_old_model"] == pytest.approx(expected.tokens_to_old.item() / 16, abs=1e-4)


def test_the_ratio_of_rows_is_that_of_prompts_and_weights_are_of_labelled_rows_alone(tmp_path: Path) -> None:
    labelled = Dataset.from_list([row | {"trust": 0.5} for row in ROWS])
    rows, trainer = _encoded(tmp_path, TEXT_ROWS, unlabelled_ratio=0.5, train=labelled, weight_column="trust")
    assert len(trainer.train_dataset) == 12 + 6
    assert rows["weights"] == [1.0] * 6
    assert {tuple(ids) for ids in rows["input_ids"]} == {
        tuple(NEW_TOKENIZER(row["text"]).input_ids) for row in TEXT_ROWS
    }


@pytest.mark.parametrize("kind", ["names", "numbers", "class labels"])
def test_a_logs_classes_are_the_old_models_own(tmp_path: Path, kind: str, caplog: Any) -> None:
    names = ["savings", "spanish", "fax", "savings"]
    labels: list[Any] = names if kind == "names" else [OLD_NAMES.index(name) for name in names]
    log = Dataset.from_dict({"text": list(TEXTS[:4]), "label": labels})
    if kind == "class labels":
        order = ["fax", "savings", "spanish"]
        log = Dataset.from_dict(
            {"text": list(TEXTS[:4]), "label": [order.index(name) for name in names]},
            features=Features({"text": Value("string"), "label": ClassLabel(names=order)}),
        )
    with caplog.at_level(logging.WARNING, logger="muscle_hf"):
        rows, trainer = _encoded(tmp_path, log)
    assert rows["labels"] == [NAMES.index(name) for name in names if name != "fax"]
    assert "1 labels of unlabelled_dataset are classes that the new model does not have ('fax')" in caplog.text
    trainer.train()


@pytest.mark.slow
@pytest.mark.parametrize("with_labels", [False, True])
def test_words_without_labels_learn_at_their_first_tokens(tmp_path: Path, with_labels: bool) -> None:
    kept = ("tokens", "ner_tags") if with_labels else ("tokens",)
    rows, trainer = _encoded(
        tmp_path,
        [{name: row[name] for name in kept} for row in WORD_ROWS],
        kind=BertForTokenClassification,
        train=Dataset.from_list(WORD_ROWS),
    )
    for row, words in zip(rows, WORD_ROWS, strict=True):
        trained = [label for label in row["labels"] if label != -100]
        of_old = [OLD_NAMES[tag] for tag in words["ner_tags"]]
        in_new = [NAMES.index(name) for name in of_old if name in NAMES]
        assert trained == (in_new if with_labels else [UNANSWERED] * len(words["tokens"]))
    trainer.train()


@pytest.mark.parametrize(
    ("unlabelled", "options", "error", "said"),
    [
        (IterableDataset.from_generator(lambda: iter(TEXT_ROWS)), {}, InputError, "unlabelled_dataset is a stream"),
        (TEXT_ROWS, {}, InputError, "is a list; a datasets.Dataset with a column of texts"),
        (Dataset.from_list([]), {}, InputError, "unlabelled_dataset has no rows"),
        (Dataset.from_dict({"prompt": ["a"]}), {}, InputError, "The unlabelled set needs one column with texts"),
        (
            Dataset.from_dict({"text": ["a"], "label": ["savings"]}),
            {"unlabelled_teacher": "new"},
            ConfigurationError,
            "taken for the old model's answers",
        ),
        (Dataset.from_dict({"text": ["a"], "label": ["checking"]}), {}, InputError, "no class of the old model"),
        (Dataset.from_dict({"text": ["a"], "label": [-1]}), {}, InputError, "label -1; 3 classes are numbered"),
        (Dataset.from_dict({"text": ["a"], "label": ["fax"]}), {}, InputError, "No label of unlabelled_dataset"),
        (Dataset.from_list(TEXT_ROWS), {"unlabelled_ratio": 0.01}, ConfigurationError, "gives no unlabelled row"),
        (
            Dataset.from_list(TEXT_ROWS),
            {"train": IterableDataset.from_generator(lambda: iter(ROWS))},
            ConfigurationError,
            "the train set is a stream",
        ),
        (None, {"unlabelled_teacher": "new"}, ConfigurationError, "unlabelled_teacher='new' would be ignored"),
        (None, {"preset": "more_confident"}, ConfigurationError, "preset='more_confident' would be ignored"),
        (
            None,
            {"preset": "focal_product", "product_temperatures": [1.0, 1.0]},
            ConfigurationError,
            "preset='focal_product' would be ignored",
        ),
        (None, {"unlabelled_teacher": "both"}, ConfigurationError, "unlabelled_teacher='both' is unknown"),
        (None, {"unlabelled_ratio": -1.0}, ConfigurationError, "unlabelled_ratio=-1.0 must be a number above 0"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(
    tmp_path: Path, unlabelled: Any, options: Any, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        _trainer(tmp_path, unlabelled, **options)


def test_shared_texts_and_classes_that_the_old_model_does_not_know_are_told(tmp_path: Path, caplog: Any) -> None:
    shared = [{"text": ROWS[0]["text"]}, {"text": "something else"}]
    with caplog.at_level(logging.WARNING, logger="muscle_hf"):
        _encoded(tmp_path, shared)
    assert "1 of 2 rows of unlabelled_dataset have a text that train_dataset has as well" in caplog.text
    assert "The old model does not know 'checking'" in caplog.text


def test_the_card_says_how_many_texts_were_learned_from_and_whose_answers(tmp_path: Path) -> None:
    _, trainer = _encoded(tmp_path, TEXT_ROWS, unlabelled_teacher="more_confident", unlabelled_ratio=2.0)
    assert trainer.card().training["unlabelled rows"] == (
        "24 an epoch, of 4 (2 for each labelled row), answered by the more confident model"
    )


def _answered_by(update: dict[str, Any]) -> Dataset:
    """Texts with the answers of either model, where both know the class: each is right on some."""
    rows = []
    for model, tokenizer, names in (
        (update["model"], NEW_TOKENIZER, NAMES),
        (update["old_model"], OLD_TOKENIZER, OLD_NAMES),
    ):
        texts = [{"text": text[start:]} for text in TEXTS for start in range(0, 12, 3)]
        answers = [names[answer] for answer in _logits(model, tokenizer, texts).argmax(-1)]
        rows += [row | {"label": answer} for row, answer in zip(texts, answers, strict=True) if answer in NAMES]
    return Dataset.from_list(rows)


@pytest.mark.slow
def test_the_products_temperatures_are_those_of_a_search_over_the_classes_that_each_model_knows(
    tmp_path: Path,
) -> None:
    validation = _answered_by(_models())
    trainer = _trainer(
        tmp_path,
        Dataset.from_list(TEXT_ROWS),
        eval_dataset=validation,
        teacher="product",
        unlabelled_teacher="product",
        mask="none",
        per_device_eval_batch_size=5,
    )
    trainer.train()
    gold = torch.tensor([NAMES.index(label) for label in validation["label"]])
    models, classes = _models(), OldClasses(ClassMap(NAMES, OLD_NAMES))
    of_old = classes.logits(_logits(models["old_model"], OLD_TOKENIZER, validation)).double()
    of_new = _logits(models["model"], NEW_TOKENIZER, validation).double()
    known = classes.knows(gold)
    candidates = 2.0 ** torch.linspace(-4, 4, 2001).double()
    for logits, labels, found in (
        (of_old[known], gold[known], trainer.strategy.product_temperatures[0]),
        (of_new, gold, trainer.strategy.product_temperatures[1]),
    ):
        losses = [torch.nn.functional.cross_entropy(logits / t, labels).item() for t in candidates]
        assert found == pytest.approx(float(candidates[losses.index(min(losses))]), rel=4e-3)
    assert [name for name in trainer.state.log_history[0] if name.startswith("product")] == [
        "product_temperature_old",
        "product_temperature_new",
    ]
    assert trainer.card().training["unlabelled rows"] == "4, learned from both models' product"
    product = of_old / trainer.strategy.product_temperatures[0] + of_new / trainer.strategy.product_temperatures[1]
    answers = torch.where(classes.knows(of_new.argmax(-1)), product.argmax(-1), of_new.argmax(-1))
    right = (answers == gold).double().mean().item()
    assert trainer.evaluate()["eval_product_accuracy"] == pytest.approx(right)
    # What predicts without having trained has its temperatures fitted as well.
    other = _trainer(tmp_path, None, eval_dataset=validation, teacher="product", mask="none")
    assert other.predict(validation).metrics["test_product_accuracy"] == pytest.approx(right)
    assert other.strategy.product_temperatures == pytest.approx(trainer.strategy.product_temperatures, rel=1e-5)


def test_a_preset_for_labelled_rows_alone_asks_for_no_others(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path, None, preset="focal")
    assert (trainer.args.mask, trainer.args.focal_beta) == ("none", 5.0)
