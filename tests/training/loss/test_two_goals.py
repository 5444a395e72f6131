"""Gradients of task and compatibility: told apart without changing a training, or put together once a step."""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from tiny_classifiers import NAMES, tiny_classifier
from tiny_models import TEXTS, tiny_tokenizer
from tiny_updates import Update, config_of, largest_difference, make_update, trainer_of, weights_of

from muscle_hf import CompatibilityClassifierConfig, CompatibilityClassifierTrainer, ConfigurationError, InputError
from muscle_hf.losses.perpendicular import combine, products
from muscle_hf.training.checkpoints.settings_of_run import kept_settings
from muscle_hf.training.loss.two_goals import TwoGoals

TOKENIZER = tiny_tokenizer()
HALF: dict[str, Any] = {"cross_entropy_weight": 0.5}
COSINE = HALF | {"log_gradient_cosine": True}
CLASSIFIER_ROWS = [{"text": TEXTS[i % 7][i % 3 :], "label": NAMES[(i * i + i // 3) % 3]} for i in range(12)]
WAYS: dict[str, dict[str, Any]] = {
    "plain": {"loss_implementation": "plain"},
    "chunked": {"loss_implementation": "chunked"},
    "hidden": {"teacher_cache": "hidden"},
    "bf16": {"bf16": True, "loss_implementation": "plain"},
    "checkpointing": {"gradient_checkpointing": True, "loss_implementation": "plain"},
}


@pytest.fixture(scope="module")
def update(tmp_path_factory: pytest.TempPathFactory) -> Update:
    return make_update(tmp_path_factory.mktemp("update"))


def classifier(folder: Path, **options: Any) -> CompatibilityClassifierTrainer:
    model, old = (
        tiny_classifier(seed, TOKENIZER, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0) for seed in (1, 2)
    )
    arguments = {"max_steps": 3, "per_device_train_batch_size": 4, "learning_rate": 1e-2, "logging_steps": 1}
    quiet = {"save_strategy": "no", "use_cpu": True, "report_to": "none", "disable_tqdm": True}
    return CompatibilityClassifierTrainer(
        model,
        old,
        args=CompatibilityClassifierConfig(str(folder), **arguments | quiet | options),
        train_dataset=Dataset.from_list(CLASSIFIER_ROWS),
        processing_class=TOKENIZER,
        old_processing_class=TOKENIZER,
    )


def logged(trainer: Any, name: str) -> list[float]:
    return [entry[name] for entry in trainer.state.log_history if name in entry]


def gradients_of(trainer: Any, batches: list[dict[str, Any]]) -> list[torch.Tensor]:
    """The gradients that an optimizer step of these batches leaves, before they are clipped."""
    trainer.model.zero_grad()
    for batch in batches:
        trainer.accelerator.gradient_state._set_sync_gradients(batch is batches[-1])
        trainer.training_step(trainer.model, dict(batch), num_items_in_batch=torch.tensor(8))
    return [weight.grad.clone() for weight in trainer.model.parameters() if weight.requires_grad]


def goals_by_hand(trainer: Any, batches: list[dict[str, Any]]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Both gradients of a step: those of the cross-entropy by the model's own loss, and the rest."""
    weights = [weight for weight in trainer.model.parameters() if weight.requires_grad]
    task, both = ([torch.zeros_like(weight) for weight in weights] for _ in range(2))
    for batch in batches:
        own = trainer.model(**trainer.teachers.inputs_of("new", batch)).logits
        loss = 0.5 * torch.nn.functional.cross_entropy(own, batch["labels"], reduction="sum") / 8
        for total, of_loss in ((task, loss), (both, trainer.compute_loss(trainer.model, batch, False, 8))):
            for place, part in enumerate(torch.autograd.grad(of_loss, weights)):
                total[place] += part
    return task, [of_both - of_task for of_both, of_task in zip(both, task, strict=True)]


def test_a_look_at_the_gradients_does_not_change_a_classifier(tmp_path: Path) -> None:
    without, with_look = (
        classifier(tmp_path / name, gradient_accumulation_steps=2, **options)
        for name, options in (("without", HALF), ("with", COSINE))
    )
    without.train()
    with_look.train()
    assert largest_difference(weights_of(without), weights_of(with_look)) == 0
    cosines, shares = logged(with_look, "gradient_cosine"), logged(with_look, "share_of_conflicts")
    assert len(cosines) == len(shares) == 3
    assert all(-1 <= cosine <= 1 for cosine in cosines)
    assert shares == [float(cosine < 0) for cosine in cosines]
    assert not logged(without, "gradient_cosine")


@pytest.mark.parametrize("way", WAYS)
def test_a_look_at_the_gradients_does_not_change_an_adapter(update: Update, tmp_path: Path, way: str) -> None:
    options = {"gradient_checkpointing": False, "max_grad_norm": 0.1, **WAYS[way]}
    without, with_look = (
        trainer_of(update, tmp_path / name, **options, **more) for name, more in (("without", HALF), ("with", COSINE))
    )
    without.train()
    with_look.train()
    # The sliced loss adds its slices up goal by goal, so that the last digit may be another one.
    most = 0 if WAYS[way].get("loss_implementation") == "plain" else 1e-5
    assert largest_difference(weights_of(without), weights_of(with_look)) <= most
    assert all(-1 <= cosine <= 1 for cosine in logged(with_look, "gradient_cosine"))
    assert len(logged(with_look, "gradient_cosine")) == 2


def test_slices_give_both_gradients_as_full_logits_do(update: Update, tmp_path: Path) -> None:
    cosines = [
        logged(trainer, "gradient_cosine")
        for way in ("plain", "chunked", "hidden", "checkpointing")
        if (trainer := trainer_of(update, tmp_path / way, **COSINE, **{"gradient_checkpointing": False} | WAYS[way]))
        and trainer.train()
    ]
    for other in cosines[1:]:
        assert other == pytest.approx(cosines[0], rel=1e-3)


@pytest.mark.parametrize("how", ["accuracy_first", "project_both"])
def test_accumulated_gradients_are_put_together_once_a_step(tmp_path: Path, how: str) -> None:
    trainer = classifier(tmp_path, gradient_conflict=how, mask="none", **HALF)
    batches = [
        trainer._prepare_inputs(trainer.data_collator([trainer.train_dataset[i] for i in rows]))
        for rows in (range(4), range(4, 8))
    ]
    for batch in batches:  # the student is to be surer still of what the old model would have it unlearn
        batch["labels"] = trainer.teachers.ask(batch, batch["labels"] >= 0)[1].argmax(-1)
    trainer.model.train()
    task, rest = goals_by_hand(trainer, batches)
    assert products(task, rest).ab < 0, "rows without a conflict prove nothing"
    for ours, wanted in zip(gradients_of(trainer, batches), combine(task, rest, how), strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-6)
    # The next step's projection knows of the first, by a running mean of the task's gradient.
    task, rest = goals_by_hand(trainer, batches[1:])
    first = goals_by_hand(trainer, batches)[0]
    mean = [0.9 * before + 0.1 * now for before, now in zip(first, task, strict=True)]
    for ours, wanted in zip(gradients_of(trainer, batches[1:]), combine(task, rest, how, mean), strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-6)


def test_a_compatibility_gradient_of_zero_is_no_conflict_and_no_nan(tmp_path: Path) -> None:
    # Every instance learns from the new model, which the student still is.
    options = {"mask": "none", "teacher": "new", "max_steps": 1}
    for name, more in (("look", {"log_gradient_cosine": True}), ("first", {"gradient_conflict": "accuracy_first"})):
        trainer = classifier(tmp_path / name, **options, **more, **HALF)
        trainer.model.eval()
        trainer.train()
        assert all(math.isfinite(value) for value in logged(trainer, "gradient_cosine"))
        assert all(bool(torch.isfinite(weight).all()) for weight in weights_of(trainer).values())


def test_an_evaluation_between_steps_leaves_the_gradients_alone(tmp_path: Path) -> None:
    trainer = classifier(tmp_path, gradient_conflict="accuracy_first", **HALF)
    batch = trainer._prepare_inputs(trainer.data_collator([trainer.train_dataset[i] for i in range(4)]))
    loss = trainer.compute_loss(trainer.model, batch)
    assert trainer._goals is not None
    assert not trainer._goals._task
    weights = [weight for weight in trainer.model.parameters() if weight.requires_grad]
    assert products(torch.autograd.grad(loss, weights, retain_graph=True), torch.autograd.grad(loss, weights)).aa > 0


def test_a_training_that_goes_on_has_the_running_mean_of_before(tmp_path: Path) -> None:
    options = {"gradient_conflict": "accuracy_first", "mask": "none", "save_strategy": "steps", "save_steps": 2}
    whole = classifier(tmp_path / "whole", **options, **HALF)
    whole.train()
    resumed = classifier(tmp_path / "whole", **options, **HALF)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    assert largest_difference(weights_of(whole), weights_of(resumed)) == 0
    checkpoint = tmp_path / "whole" / "checkpoint-2"
    sizes = json.loads((checkpoint / "checksums.json").read_text())
    assert "task_gradient_mean.safetensors" in json.dumps(sizes)
    (checkpoint / "task_gradient_mean.safetensors").unlink()
    (checkpoint / "checksums.json").unlink()
    with pytest.raises(InputError, match="running mean"):
        classifier(tmp_path / "whole", **options, **HALF).train(resume_from_checkpoint=str(checkpoint))


@pytest.mark.parametrize("lost", ["world_size", "is_fsdp_enabled", "router"])
def test_what_has_no_two_whole_gradients_is_refused(tmp_path: Path, lost: str) -> None:
    trainer = SimpleNamespace(
        args=SimpleNamespace(world_size=1, gradient_conflict="sum", log_gradient_cosine=True),
        is_fsdp_enabled=False,
        is_deepspeed_enabled=False,
        aux_loss_enabled=False,
        router_aux_loss_coef=0.1,
    )
    TwoGoals(trainer)
    if lost == "world_size":
        trainer.args.world_size = 2
    else:
        setattr(trainer, "aux_loss_enabled" if lost == "router" else lost, True)
    with pytest.raises(ConfigurationError, match="log_gradient_cosine=True"):
        TwoGoals(trainer)


def test_what_decides_the_gradients_is_on_the_card_and_in_checkpoints(tmp_path: Path) -> None:
    trainer = classifier(
        tmp_path,
        gradient_conflict="project_both",
        teacher="perpendicular",
        save_strategy="steps",
        save_steps=3,
        **HALF,
    )
    trainer.train()
    training = trainer.card().training
    assert training["gradient conflict"] == "project_both"
    assert training["teacher weight"] == 1.0
    kept = kept_settings(tmp_path / "checkpoint-3")
    assert (kept["gradient_conflict"], kept["teacher_weight"]) == ("project_both", 1.0)


@pytest.mark.parametrize("asked", [{"log_gradient_cosine": True}, {"gradient_conflict": "accuracy_first"}])
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"cross_entropy_weight": 0.0}, "needs two goals"),
        ({"torch_compile": True}, "torch_compile=True"),
        ({"gradient_checkpointing_kwargs": {"use_reentrant": True}}, "use_reentrant=True"),
        ({"activation_offloading": True}, "activation_offloading=True"),
        ({"optim": "lomo"}, "lomo"),
        ({"fp16": True}, "fp16=True"),
    ],
)
def test_what_does_not_go_with_two_gradients_is_refused_before_models_are_loaded(
    tmp_path: Path, asked: dict[str, Any], options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said):
        config_of(tmp_path, **HALF | asked | options)
