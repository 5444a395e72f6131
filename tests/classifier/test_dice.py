"""Dice loss: hand values, gradients against differences, the value of a set, and what it does in training."""

import json
import logging
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_classifiers import tiny_classifier
from tiny_models import TEXTS, tiny_tokenizer
from torch import Tensor
from transformers import BertForTokenClassification

from muscle_hf.classifier.config import CompatibilityClassifierConfig
from muscle_hf.classifier.dice import DiceOptions, dice_loss
from muscle_hf.classifier.labels import ClassMap
from muscle_hf.classifier.loss import OldClasses, classifier_loss
from muscle_hf.classifier.trainer import CompatibilityClassifierTrainer
from muscle_hf.errors import ConfigurationError, InputError
from muscle_hf.losses.strategy import Strategy
from muscle_hf.publishing.card_of_trainer import card_of_trainer
from muscle_hf.training.checkpoints.settings_of_run import settings_of

SURE = 40.0
NAMES = ("O", "B", "I")


def _of_probability(p: float) -> Tensor:
    """Logits of two classes, of which the second one has this probability."""
    return torch.tensor([[math.log1p(-p), math.log(p)]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("p", "gold", "options", "by_hand"),
    [
        (0.5, 1, {}, 1 - 2 / 2.5),
        (0.5, 0, {}, 1 - 1 / 1.5),
        (0.5, 1, {"squared": True}, 1 - 2 / 2.25),
        (0.5, 1, {"smoothing": 0.5}, 1 - 1.5 / 2),
        (0.75, 1, {"alpha": 0.5}, 1 - (2 * 0.5 * 0.75 + 1) / (0.5 * 0.75 + 2)),
        (0.75, 1, {"alpha": 0.5, "detached": False}, 1 - (2 * 0.5 * 0.75 + 1) / (0.5 * 0.75 + 2)),
    ],
)
def test_one_class_of_one_example_is_worked_out_by_hand(p: float, gold: int, options: Any, by_hand: float) -> None:
    loss = dice_loss(_of_probability(p), torch.tensor([gold]), ignored_classes=[0], **options)
    assert loss.tolist() == [pytest.approx(by_hand)]


def test_an_example_is_the_sum_over_its_classes() -> None:
    assert dice_loss(_of_probability(0.5), torch.tensor([1])).item() == pytest.approx(0.2 + 1 / 3)


def test_hard_answers_of_a_set_have_one_minus_f1() -> None:
    answers = torch.tensor([1, 1, 1, 0, 0, 0, 0])
    gold = torch.tensor([1, 1, 0, 1, 0, 0, 0])  # of class 1: 2 right, 1 too many, 1 too few
    logits = SURE * (2 * torch.nn.functional.one_hot(answers, 2).double() - 1)
    options: Any = {"level": "batch", "smoothing": 0.0}
    assert dice_loss(logits, gold, **options, ignored_classes=[0]).item() == pytest.approx(1 / 3)
    assert dice_loss(logits, gold, **options).item() == pytest.approx((1 / 3 + 1 / 4) / 2)


def _random(tokens: int, classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(tokens, classes, generator=generator, dtype=torch.float64)
    gold = torch.cat([torch.arange(classes), torch.randint(classes, (tokens - classes,), generator=generator)])
    return logits, gold


@given(classes=st.integers(2, 5), more=st.integers(0, 12), seed=st.integers(0, 999))
@settings(max_examples=30, deadline=None)
def test_a_set_with_all_classes_is_that_of_segmentation_models(classes: int, more: int, seed: int) -> None:
    logits, gold = _random(classes + more, classes, seed)
    p, y = logits.softmax(-1), torch.nn.functional.one_hot(gold, classes).double()
    # segmentation_models.pytorch: per class over the batch, smooth 0, eps 1e-7, classes without a pixel zeroed, mean.
    score = 2 * (p * y).sum(0) / (p + y).sum(0).clamp(min=1e-7)
    theirs = ((1 - score) * (y.sum(0) > 0)).mean()
    torch.testing.assert_close(dice_loss(logits, gold, level="batch", smoothing=0.0), theirs)


def test_a_class_that_a_batch_lacks_does_not_lower_the_loss_of_the_set() -> None:
    logits, gold = _random(6, 3)
    wider = torch.cat([logits, torch.full((6, 2), -math.inf, dtype=torch.float64)], -1)
    of_set = dice_loss(logits, gold, level="batch")
    torch.testing.assert_close(dice_loss(wider, gold, level="batch"), of_set)
    nothing = dice_loss(logits.requires_grad_(), torch.zeros_like(gold), level="batch", ignored_classes=[0])
    nothing.backward()
    assert nothing.item() == 0 and not logits.grad.any()  # type: ignore[union-attr]


@pytest.mark.parametrize("level", ["example", "batch"])
@pytest.mark.parametrize("options", [{}, {"squared": True}, {"alpha": 0.3, "detached": False}], ids=str)
def test_gradients_are_those_of_differences(level: str, options: Any) -> None:
    logits, gold = _random(7, 3)
    torch.autograd.gradcheck(
        lambda z: dice_loss(z, gold, level=level, ignored_classes=[2], **options), logits.requires_grad_()
    )


def test_a_constant_weight_has_the_value_of_the_published_form_and_no_gradient_of_its_own() -> None:
    logits, gold = _random(7, 3)
    losses = [dice_loss(logits, gold, alpha=0.3, level="batch", detached=detached) for detached in (True, False)]
    torch.testing.assert_close(*losses)
    # By differences, with the weights as they were.
    weights = (1 - logits.softmax(-1)) ** 0.3
    y = torch.nn.functional.one_hot(gold, 3).double()

    def by_hand(z: Tensor) -> Tensor:
        q = weights * z.softmax(-1)
        return (1 - (2 * (q * y).sum(0) + 1) / ((q + y).sum(0) + 1)).mean()

    leaf = logits.clone().requires_grad_()
    ours = torch.autograd.grad(dice_loss(leaf, gold, alpha=0.3, level="batch"), leaf)[0]
    torch.testing.assert_close(ours, torch.autograd.functional.jacobian(by_hand, logits))


@pytest.mark.parametrize(("alpha", "best"), [(0.01, 0.990), (0.1, 0.909), (0.5, 0.667)])
def test_the_published_form_is_best_short_of_certainty_and_turns_there(alpha: float, best: float) -> None:
    grid = torch.arange(1, 2000, dtype=torch.float64) / 2000
    logits = torch.stack([torch.log1p(-grid), grid.log()], -1)
    gold = torch.ones(len(grid), dtype=torch.int64)
    loss = dice_loss(logits, gold, alpha=alpha, ignored_classes=[0])
    assert grid[loss.argmin()].item() == pytest.approx(best, abs=1e-3)
    assert best == pytest.approx(1 / (1 + alpha), abs=1e-3)

    def slope(detached: bool) -> float:
        leaf = _of_probability(0.995).requires_grad_()
        dice_loss(leaf, torch.tensor([1]), alpha=alpha, ignored_classes=[0], detached=detached).sum().backward()
        return float(leaf.grad[0, 1])  # type: ignore[index]

    assert slope(detached=False) > 0 > slope(detached=True)


@pytest.mark.parametrize("level", ["example", "batch"])
@pytest.mark.parametrize("alpha", [0.0, 0.1])
def test_certainty_gives_no_nan_but_in_the_published_form(level: str, alpha: float) -> None:
    def gradient(detached: bool) -> Tensor:
        logits = torch.tensor([[SURE, -SURE], [-SURE, SURE]], requires_grad=True)  # float32: p is 1 and 0 exactly
        loss = dice_loss(logits, torch.tensor([0, 0]), alpha=alpha, level=level, detached=detached)
        return torch.autograd.grad(loss.sum(), logits)[0]

    assert torch.isfinite(gradient(detached=True)).all()
    assert bool(torch.isnan(gradient(detached=False)).any()) == (alpha > 0)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"alpha": 1.0}, ConfigurationError, "alpha=1.0 must lie in"),
        ({"alpha": -0.1}, ConfigurationError, "alpha=-0.1 must lie in"),
        ({"alpha": "0"}, ConfigurationError, "must be a finite number"),
        ({"smoothing": 0.0}, ConfigurationError, "must be positive"),
        ({"smoothing": -1.0, "level": "batch"}, ConfigurationError, "must be 0 or more"),
        ({"smoothing": math.nan}, ConfigurationError, "must be a finite number"),
        ({"level": "bach"}, ConfigurationError, "Did you mean 'batch'"),
        ({"ignored_classes": [0, 1]}, ConfigurationError, "All classes are ignored"),
        ({"ignored_classes": [2]}, InputError, "no ignored class 2: the logits have 2"),
        ({"gold": torch.tensor([-100])}, InputError, "no gold class -100"),
        # No class is equal to one and a half, so none would be gold.
        ({"gold": torch.tensor([1.5])}, InputError, "Gold classes are of torch.float32; their numbers are needed"),
        ({"gold": [1]}, InputError, "tensors are needed"),
        ({"ignored_classes": ["O"]}, InputError, r"ignored_classes=\['O'\] must be a list of numbers"),
        ({"ignored_classes": 0}, InputError, "ignored_classes=0 must be a list of numbers"),
        ({"gold": torch.tensor([0, 1])}, InputError, "do not fit"),
    ],
)
def test_what_would_teach_nothing_or_something_else_is_refused(options: Any, error: Any, said: str) -> None:
    with pytest.raises(error, match=said):
        dice_loss(torch.zeros(1, 2), **({"gold": torch.tensor([1])} | options))


def _config(folder: Path, **options: Any) -> CompatibilityClassifierConfig:
    return CompatibilityClassifierConfig(output_dir=str(folder), use_cpu=True, report_to="none", **options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dice_weight": 0.5}, "would be ignored with cross_entropy_weight=0"),
        ({"dice_weight": 1.5, "cross_entropy_weight": 0.5}, "dice_weight=1.5 must be a number in"),
        ({"dice_weight": "0.5", "cross_entropy_weight": 0.5}, "must be a number in"),
        ({"dice_alpha": 0.1}, "dice_alpha=0.1 would be ignored with dice_weight=0"),
        ({"dice_level": "batch", "cross_entropy_weight": 0.5}, "dice_level='batch' would be ignored"),
        ({"dice_smoothing": 0.5}, "dice_smoothing=0.5 would be ignored"),
        ({"dice_ignored_classes": ["O"]}, "would be ignored with dice_weight=0"),
        ({"dice_form": "published"}, "would be ignored with dice_weight=0"),
        (
            {"dice_weight": 0.5, "cross_entropy_weight": 0.5, "dice_form": "published"},
            "would be ignored with dice_alp",
        ),
        ({"dice_weight": 0.5, "cross_entropy_weight": 0.5, "dice_form": "publisht"}, "Did you mean 'published'"),
        ({"dice_weight": 0.5, "cross_entropy_weight": 0.5, "dice_alpha": 1.0}, "dice_alpha=1.0 must lie in"),
        ({"dice_weight": 0.5, "cross_entropy_weight": 0.5, "dice_smoothing": 0.0}, "dice_smoothing=0.0 must be pos"),
        ({"dice_weight": 0.5, "cross_entropy_weight": 0.5, "dice_level": "set"}, "dice_level='set' is unknown"),
        ({"dice_weight": 0.5, "cross_entropy_weight": 0.5, "dice_ignored_classes": "O"}, "must be a list of names"),
    ],
)
def test_an_option_that_would_be_ignored_or_does_harm_is_refused(tmp_path: Path, options: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        _config(tmp_path, **options)


def _term(folder: Path, **options: Any) -> Any:
    found = DiceOptions.of(_config(folder, dice_weight=0.25, cross_entropy_weight=0.4, **options))
    assert found is not None
    return found.term(NAMES)


def _batch() -> dict[str, Any]:
    student, labels = _random(8, 3)
    return {
        "student_logits": student.requires_grad_(),
        "old_logits": _random(8, 3, seed=1)[0],
        "new_logits": _random(8, 3, seed=2)[0],
        "labels": labels,
        "old_classes": OldClasses(ClassMap(NAMES, NAMES)),
        "strategy": Strategy(cross_entropy_weight=0.4),
    }


@pytest.mark.parametrize("level", ["example", "batch"])
def test_the_loss_of_a_step_is_divergence_cross_entropy_and_dice_by_their_weights(level: str, tmp_path: Path) -> None:
    batch = _batch()
    batch["labels"][5] = -100
    there = batch["labels"] != -100
    weights = torch.linspace(0.5, 2, 8, dtype=torch.float64)
    plain = batch | {"weights": weights, "normalizer": 4.0}
    mixed = classifier_loss(**plain, dice=_term(tmp_path, dice_level=level, dice_ignored_classes=["O"]))
    without = classifier_loss(**plain)
    student, gold, w = batch["student_logits"][there], batch["labels"][there], weights[there]
    cross_entropy = torch.nn.functional.cross_entropy(student, gold, reduction="none")
    if level == "example":
        dice = dice_loss(student, gold, ignored_classes=[0])
    else:
        # Weights of a mean of 1, since the smoothing is a count of examples.
        relative = w / w.mean()
        p, y = student.softmax(-1)[:, 1:], torch.nn.functional.one_hot(gold, 3)[:, 1:]
        both, each = ((part * relative[:, None]).sum(0) for part in (p * y, p + y))
        dice = (1 - (2 * both + 1) / (each + 1)).mean()
    expected = without.loss + 0.4 * 0.25 * (w * (dice - cross_entropy)).sum() / 4
    torch.testing.assert_close(mixed.loss, expected)
    torch.testing.assert_close(mixed.cross_entropy, without.cross_entropy)  # logged as it is


def test_texts_without_labels_are_not_of_the_set(tmp_path: Path) -> None:
    batch = _batch()
    term = _term(tmp_path, dice_level="batch")
    unlabelled = torch.tensor([False] * 5 + [True] * 3)
    batch["labels"][5:] = -1
    mixed = classifier_loss(**batch, unlabelled=unlabelled, dice=term, normalizer=1.0)
    without = classifier_loss(**batch, unlabelled=unlabelled, normalizer=1.0)
    student, gold = batch["student_logits"][:5], batch["labels"][:5]
    cross_entropy = torch.nn.functional.cross_entropy(student, gold, reduction="sum")
    dice = 5 * dice_loss(student, gold, level="batch")
    torch.testing.assert_close(mixed.loss, without.loss + 0.4 * 0.25 * (dice - cross_entropy))


@pytest.mark.parametrize("level", ["example", "batch"])
@pytest.mark.parametrize("weighted", [False, True])
def test_answers_of_a_log_are_no_gold_classes_and_learned_by_cross_entropy_alone(
    tmp_path: Path, level: str, weighted: bool
) -> None:
    batch = _batch() | {"unlabelled": torch.tensor([False] * 5 + [True] * 3), "normalizer": 1.0}
    w = torch.linspace(0.5, 2, 8, dtype=torch.float64) if weighted else torch.ones(8, dtype=torch.float64)
    batch |= {"weights": w} if weighted else {}
    mixed = classifier_loss(**batch, dice=_term(tmp_path, dice_level=level))
    without = classifier_loss(**batch)
    labelled = {name: batch[name][:5] for name in ("student_logits", "old_logits", "new_logits", "labels")}
    labelled |= {"weights": w[:5]} if weighted else {}
    rest = batch | labelled | {"unlabelled": None}
    of_labelled = classifier_loss(**rest, dice=_term(tmp_path, dice_level=level)).loss - classifier_loss(**rest).loss
    torch.testing.assert_close(mixed.loss - without.loss, of_labelled)


ROWS = [{"tokens": text.split(), "ner_tags": [len(word) % 3 for word in text.split()]} for text in TEXTS]


def _trainer(folder: Path, **options: Any) -> CompatibilityClassifierTrainer:
    tokenizer = tiny_tokenizer()
    config = {"dice_weight": 1.0, "cross_entropy_weight": 0.5, "dice_level": "batch", "max_steps": 1} | options
    models = [tiny_classifier(seed, tokenizer, NAMES, kind=BertForTokenClassification) for seed in (1, 2)]
    return CompatibilityClassifierTrainer(
        model=models[0],
        old_model=models[1],
        processing_class=tokenizer,
        old_processing_class=tokenizer,
        args=_config(folder, **config),
        train_dataset=Dataset.from_list(ROWS),
    )


def test_words_are_trained_by_dice_and_the_card_and_the_run_say_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        trainer = _trainer(tmp_path, dice_ignored_classes=["O"], dice_alpha=0.1)
    assert "as a set" not in caplog.text
    inputs = trainer.data_collator([trainer.train_dataset[index] for index in range(4)])
    loss = trainer.compute_loss(trainer.model.eval(), inputs)
    there = inputs["labels"] != -100
    logits = trainer.model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
    dice = dice_loss(logits[there], inputs["labels"][there], alpha=0.1, level="batch", ignored_classes=[0])
    trainer._dice = None
    trainer.strategy = Strategy()
    torch.testing.assert_close(loss, 0.5 * trainer.compute_loss(trainer.model, inputs) + 0.5 * dice)
    settings = settings_of(trainer, {})
    assert (settings["dice_weight"], settings["dice_ignored_classes"]) == (1.0, ["O"])
    rows = card_of_trainer(trainer).training
    assert {name: value for name, value in rows.items() if name.startswith("dice")} == {
        "dice weight": 1.0,
        "dice alpha": 0.1,
        "dice level": "batch",
        "dice ignored classes": "O",
    }
    json.dumps(settings)


def test_sets_that_are_pieces_of_a_step_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        _trainer(tmp_path, gradient_accumulation_steps=4, per_device_train_batch_size=2)
    assert "each of the 4 pieces of an optimizer step (4 accumulated, 1 process(es)) as a set of 2 rows" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        _trainer(tmp_path, gradient_accumulation_steps=4, dice_level="example")
    assert "pieces" not in caplog.text
    with caplog.at_level(logging.WARNING):
        _trainer(tmp_path, per_device_train_batch_size=1)
    assert 'dice_level="batch" takes the one row of a batch as a set' in caplog.text


@pytest.mark.parametrize(
    ("ignored", "said"),
    [(["X"], "dice_ignored_classes has 'X', which is no class of the new model"), (list(NAMES), "All classes are ig")],
)
def test_classes_that_are_not_there_or_all_of_them_are_refused(ignored: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=said):
        _trainer(tmp_path, dice_ignored_classes=ignored)
