"""Trainings whose weights become NaN or infinity: told at once, with what is kept; a loss alone is no divergence."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_updates import make_update, trainer_of
from transformers import TrainerCallback

from muscle_hf.errors import DivergedError
from muscle_hf.training.log import EndsWhenDiverged, LossSums


@pytest.mark.slow
def test_a_training_that_has_diverged_is_told_and_not_saved(tmp_path: Path) -> None:
    update = make_update(tmp_path)
    options = {"max_steps": 4, "save_strategy": "steps", "save_steps": 1, "max_grad_norm": 0.0}
    trainer = trainer_of(update, tmp_path / "out", learning_rate=1e30, **options)
    says = r"has diverged: at step \d .*numbers, is \S+checkpoint-1\. Lower learning_rate \(now 1e\+30\)"
    with pytest.raises(DivergedError, match=says):
        trainer.train()
    with pytest.raises(DivergedError):
        trainer.save_model()
    kept = list((tmp_path / "out").rglob("adapter_model.safetensors"))
    assert all(bool(torch.isfinite(weight).all()) for file in kept for weight in load_file(file).values())
    assert not (tmp_path / "out" / "adapter_model.safetensors").exists()


@pytest.mark.slow
def test_a_training_without_a_save_goes_on_and_on_with_weights_that_are_no_numbers(tmp_path: Path) -> None:
    update = make_update(tmp_path)
    weights_at: dict[int, float] = {2: math.nan, 3: math.inf}
    for step, value in weights_at.items():
        options = {"max_steps": 20, "logging_steps": 50, "save_strategy": "steps", "save_steps": 2}
        trainer = trainer_of(update, tmp_path / f"out-{step}", **options)
        trainer.add_callback(_Breaks(step, value))
        says = (
            rf"at step {step} there are .* The last checkpoint, whose weights are numbers, is \S+checkpoint-2\. Lower"
        )
        with pytest.raises(DivergedError, match=says):
            trainer.train()


class _Breaks(TrainerCallback):
    """Makes a weight NaN or infinity after a step, once it is saved."""

    def __init__(self, step: int, value: float) -> None:
        self.step, self.value = step, value

    def on_step_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        if state.global_step == self.step:
            weight = next(weight for weight in model.parameters() if weight.requires_grad)
            weight.data.view(-1)[0] = self.value


@pytest.mark.slow
def test_a_loss_that_is_no_number_with_weights_that_are_is_taken_for_a_divergence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_of(make_update(tmp_path), tmp_path / "out", max_steps=2)
    add, seen = LossSums.add, []
    monkeypatch.setattr(LossSums, "add", lambda *arguments, **options: seen.append(add(*arguments, **options)))
    trainer.train()
    assert seen == [True, True] and trainer.state.global_step == 2
    trainer.log({"loss": 0.0, "grad_norm": math.nan})


@pytest.mark.parametrize("name", ["loss", "grad_norm", "entropy"])
def test_a_log_without_a_number_ends_a_training_with_good_weights_or_none_with_others(
    tmp_path: Path, name: str
) -> None:
    model = torch.nn.Linear(1, 1)
    args, state = SimpleNamespace(output_dir=str(tmp_path), learning_rate=1.0), SimpleNamespace(global_step=7)
    callback = EndsWhenDiverged(SimpleNamespace(model=model, args=args, state=state))
    callback.on_log(None, None, None, logs={name: math.nan})
    model.weight.data.fill_(math.inf)
    callback.on_log(None, None, None, logs={name: 1.0, "eval_loss": math.nan})
    with pytest.raises(DivergedError, match=r"at step 7 .* weight\), .*There is no checkpoint from before"):
        callback.on_log(None, None, None, logs={name: math.nan})
