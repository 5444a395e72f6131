"""The product as a teacher of a training: temperatures that are found once, kept, and the same in every way."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset, IterableDataset
from tiny_updates import ROWS, Update, largest_difference, make_update, sampled_rows, trainer_of, weights_of
from torch import Tensor

from muscle_hf.errors import ConfigurationError
from muscle_hf.losses.compatibility import PRODUCT
from muscle_hf.training.loss.product import LOGGED


@pytest.fixture(name="update", scope="module")
def _update(tmp_path_factory: pytest.TempPathFactory) -> Update:
    return make_update(tmp_path_factory.mktemp("update"))


@pytest.fixture(name="validation", scope="module")
def _validation(update: Update) -> Dataset:
    return sampled_rows(update)


def _logits(update: Update, version: int, rows: Dataset) -> tuple[Tensor, Tensor]:
    """What a model says of each next token, one row at a time."""
    model = update.load(version)
    with torch.no_grad():
        logits = torch.cat([model(torch.tensor([ids])).logits[0, :-1] for ids in rows["input_ids"]])
    return logits.double(), torch.tensor([token for ids in rows["input_ids"] for token in ids[1:]])


def _best_temperature(logits: Tensor, gold: Tensor) -> float:
    """The best of a fine search."""
    candidates = 2.0 ** torch.linspace(-4, 4, 2001).double()
    losses = [torch.nn.functional.cross_entropy(logits / t, gold).item() for t in candidates]
    return float(candidates[losses.index(min(losses))])


WAYS: dict[str, dict[str, Any]] = {
    "plain": {"loss_implementation": "plain"},
    "chunked": {"loss_implementation": "chunked"},
    "hidden": {"teacher_cache": "hidden"},
}


@pytest.mark.slow
def test_temperatures_are_those_of_a_search_and_the_same_in_every_way_of_the_loss(
    update: Update, validation: Dataset, tmp_path: Path, caplog: Any
) -> None:
    found, losses = {}, {}
    for name, way in WAYS.items():
        with caplog.at_level(logging.INFO, logger="muscle_hf"):
            trainer = trainer_of(
                update, tmp_path / name, teacher="product", mask="none", eval_dataset=validation, max_steps=1, **way
            )
            trainer.train()
        first, *rest = trainer.state.log_history
        found[name], losses[name] = [first[key] for key in LOGGED], rest[0]["loss"]
        assert trainer.strategy.product_temperatures == tuple(found[name])
    expected = [_best_temperature(*_logits(update, version, validation)) for version in (1, 2)]
    for name in WAYS:
        assert found[name] == pytest.approx(expected, rel=3e-3), name  # as fine as the search is
        assert found[name] == pytest.approx(found["plain"], rel=1e-5), name
        assert losses[name] == pytest.approx(losses["plain"], rel=1e-4), name
    of_old, of_new = found["hidden"]
    said = f"temperature {of_old:.4g} of the old model and {of_new:.4g} of the new one, fitted on 184 labels"
    assert said in caplog.text
    shown = trainer.card().training
    assert shown["product temperatures"] == f"{of_old:.4g} (old model), {of_new:.4g} (new model)"


@pytest.mark.slow
def test_a_resumed_training_keeps_its_temperatures_whatever_the_evaluation_set_is_now(
    update: Update, validation: Dataset, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"teacher": "product", "mask": "none", "save_strategy": "steps", "save_steps": 2}
    whole = trainer_of(update, tmp_path, eval_dataset=validation, max_steps=4, **options)
    whole.train()
    weights, found = weights_of(whole), whole.strategy.product_temperatures
    resumed = trainer_of(update, tmp_path, eval_dataset=validation.select(range(5)), max_steps=4, **options)
    resumed.evaluate()
    assert resumed.strategy.product_temperatures != found
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert resumed.strategy.product_temperatures == found
    assert largest_difference(weights_of(resumed), weights) == 0
    logged = [entry for entry in resumed.state.log_history if LOGGED[0] in entry]
    assert [[entry[name] for name in LOGGED] for entry in logged] == [list(found)]
    # One that has all of its steps is loaded, and its card says the same.
    done = trainer_of(update, tmp_path, eval_dataset=validation.select(range(5)), max_steps=4, **options)
    done.train(resume_from_checkpoint=True)
    # So it is where the trainer alone is asked, as a stage of an update that is over does.
    over = trainer_of(update, tmp_path / "over", eval_dataset=validation.select(range(5)), **options)
    over.take_up(tmp_path / "checkpoint-4")
    assert over.card().training["product temperatures"] == whole.card().training["product temperatures"]
    assert done.card().training["product temperatures"] == whole.card().training["product temperatures"]


def test_given_temperatures_are_taken_without_asking_anybody(update: Update, tmp_path: Path) -> None:
    trainer = trainer_of(update, tmp_path, teacher="product", mask="none", product_temperatures=[1.5, 0.5])
    trainer.train()
    assert trainer.strategy.product_temperatures == (1.5, 0.5)
    assert not any(LOGGED[0] in entry for entry in trainer.state.log_history)
    assert trainer.state.log_history[0]["aligned_to_old_model"] == 1


def test_prompts_of_a_log_learn_from_the_product(update: Update, tmp_path: Path) -> None:
    log = Dataset.from_list([{"prompt": "pay 7 dollars\n", "completion": "payment"}])
    options: dict[str, Any] = {"unlabelled_teacher": "product", "product_temperatures": [2.0, 1.0]}
    trainer = trainer_of(update, tmp_path, unlabelled_dataset=log, **options)
    given = [{*row["given_teachers"]} for row in trainer.train_dataset]
    assert given == [{0}] * len(ROWS) + [{PRODUCT}]
    trainer.train()
    training = trainer.card().training
    assert training["unlabelled rows"] == "1, learned from both models' product"
    assert training["product temperatures"] == "2 (old model), 1 (new model)"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"teacher": "product"}, "fitted on eval_dataset.*it is NoneType"),
        (
            {"teacher": "product", "eval_dataset": IterableDataset.from_generator(lambda: iter(ROWS))},
            "it is IterableDataset",
        ),
        ({"product_temperatures": [1.0, 1.0]}, "would be ignored without a product"),
        ({"teacher": "product", "product_temperatures": [1.0]}, "must be two positive numbers"),
        ({"teacher": "product", "product_temperatures": [1.0, 0.0]}, "must be two positive numbers"),
        ({"teacher": "product", "teacher_cache": "topk"}, "teacher='product' needs both models' whole distributions"),
        ({"teacher": "product", "teacher_cache": "sampled"}, 'Take teacher_cache="hidden"'),
        ({"teacher": "product", "alignment": "chunks"}, "mixes both models' distributions"),
        ({"unlabelled_teacher": "product", "teacher_cache": "sampled"}, "unlabelled_teacher='product' needs both"),
        ({"unlabelled_teacher": "product", "alignment": "chunks"}, 'take "old", "new" or "more_confident"'),
        ({"unlabelled_teacher": "product", "product_temperatures": [1.0, 1.0]}, "ignored without unlabelled_dataset"),
    ],
)
def test_what_does_not_go_with_a_product_is_refused(
    update: Update, tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said):
        trainer_of(update, tmp_path, **options)


def test_a_validation_set_that_fits_no_temperature_is_refused_before_the_first_step(
    update: Update, validation: Dataset, tmp_path: Path
) -> None:
    wrong = Dataset.from_list(
        [{"input_ids": ids, "labels": [-100, *[0] * (len(ids) - 1)]} for ids in validation["input_ids"]]
    )
    trainer = trainer_of(update, tmp_path, teacher="product", eval_dataset=wrong)
    with pytest.raises(ConfigurationError, match="has no temperature from 1/16 to 16 that fits the 184 labels"):
        trainer.train()
    assert trainer.state.global_step == 0
