"""Going on from a checkpoint with other options, data or models: refused by name, and what is finished stays so."""

import errno
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from tiny_updates import ROWS, Update, largest_difference, make_update, trainer_of, weights_of

from muscle_hf.errors import ConfigurationError, InputError
from muscle_hf.training.checkpoints.kept import SEAL, STATE
from muscle_hf.training.checkpoints.settings_of_run import SettingsOfRun, has_all_epochs, kept_settings

OPTIONS: dict[str, Any] = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1}


@pytest.fixture(scope="module")
def update(tmp_path_factory: pytest.TempPathFactory) -> Update:
    return make_update(tmp_path_factory.mktemp("update"))


@pytest.fixture(scope="module")
def finished(update: Update, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    trainer_of(update, folder, **OPTIONS).train()
    return folder


def _first(scores: Any) -> Any:
    return scores.student.right


SWAPPED = {"model": "base-v1", "new_adapter": "task-v1", "old_model": "base-v2", "old_adapter": "task-v2"}
# What is another now -> what the refusal names.
OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "strategy": (
        {"mask": "none", "divergence": "reverse_kl", "temperature": 1.0, "cross_entropy_weight": 0.5, "seed": 7},
        'mask "student_wrong" there, "none" now; divergence "forward_kl" there, "reverse_kl" now; '
        "temperature 2.0 there, 1.0 now; cross_entropy_weight 0.0 there, 0.5 now; seed 42 there, 7 now)",
    ),
    "mask of one's own": ({"mask": _first}, 'mask "student_wrong" there, "function _first" now)'),
    "batch": ({"per_device_train_batch_size": 2}, "(sequences a step 4 there, 2 now)"),
    "learning rate": ({"learning_rate": 1e-3}, "(learning_rate 0.01 there, 0.001 now)"),
    "longer": ({"max_steps": 4}, "(max_steps 2 there, 4 now), and going on from it would mix both. The learning rate"),
    "epochs": ({"max_steps": -1}, "(max_steps 2 there, not given now; num_train_epochs not given there, 3.0 now)"),
    "models": (SWAPPED, "(new model "),
    "rows": ({"train_dataset": Dataset.from_list(ROWS[1:])}, '(training rows "12 rows '),
    "order": ({"train_dataset": Dataset.from_list(ROWS[::-1])}, '(training rows "12 rows '),
}


@pytest.mark.slow
def test_a_training_goes_on_with_what_decides_its_weights_changed(update: Update, finished: Path) -> None:
    for name, (changes, said) in OTHERS.items():
        changes = {key: str(update.folder / one) if key in SWAPPED else one for key, one in changes.items()}
        with pytest.raises(ConfigurationError, match=re.escape(said)) as refused:
            trainer_of(update, finished, **OPTIONS | changes).train(resume_from_checkpoint=True)
        assert str(refused.value).startswith(f"{finished / 'checkpoint-2'} is of a training with other settings"), name
        assert "another output_dir" in str(refused.value)
    # By its name too.
    with pytest.raises(ConfigurationError, match="seed 42 there, 7 now"):
        trainer_of(update, finished, **OPTIONS, seed=7).train(resume_from_checkpoint=str(finished / "checkpoint-1"))


@pytest.mark.slow
def test_a_killed_training_among_checkpoints_of_an_earlier_one_is_lost(
    update: Update, finished: Path, tmp_path: Path
) -> None:
    both = tmp_path / "both"
    shutil.copytree(finished, both)
    other = OPTIONS | {"seed": 7, "lr_scheduler_type": "constant"}
    trainer_of(update, both, **other | {"max_steps": 1}).train()  # as if it were killed behind its first step
    assert sorted(path.name for path in both.glob("checkpoint-*")) == ["checkpoint-1", "checkpoint-2"]
    said = f'Of this training there is resume_from_checkpoint="{both / "checkpoint-1"}". Give'
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        trainer_of(update, both, **other).train(resume_from_checkpoint=True)
    assert trainer_of(update, both, **other).train(resume_from_checkpoint=str(both / "checkpoint-1")).global_step == 2


@pytest.mark.slow
def test_what_decides_no_weight_is_refused_too(update: Update, finished: Path, tmp_path: Path) -> None:
    kept = kept_settings(finished / "checkpoint-2")
    for part in ("new base", "old base", "old adapter", "new model"):
        assert re.fullmatch("weights [0-9a-f]{8}", kept[part]), part
    # Another cut of the same batch, other evaluations and logs, and models that lie elsewhere.
    moved = Update(update.folder.rename(tmp_path / "moved"), update.tokenizer)
    same = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "logging_steps": 5, "save_steps": 2}
    trainer = trainer_of(moved, finished, **OPTIONS | same, loss_implementation="chunked")
    moved.folder.rename(update.folder)
    assert trainer.train(resume_from_checkpoint=True).global_step == 2
    # A checkpoint that does not say it, as one of another trainer, is gone on from.
    checkpoint = finished / "checkpoint-2"
    (checkpoint / SEAL).unlink()
    state = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
    del state["stateful_callbacks"][SettingsOfRun.__name__]
    (checkpoint / STATE).write_text(json.dumps(state), encoding="utf-8")
    assert trainer_of(update, finished, **OPTIONS, seed=7).train(resume_from_checkpoint=True).global_step == 2


@pytest.mark.slow
@pytest.mark.parametrize("epochs", [0.5, 1])
def test_a_training_that_has_all_its_epochs_takes_a_step_more(
    update: Update, tmp_path: Path, caplog: pytest.LogCaptureFixture, epochs: float
) -> None:
    options = {"max_steps": -1, "num_train_epochs": epochs, "save_strategy": "steps", "save_steps": 1}
    options |= {"per_device_train_batch_size": 4, "lr_scheduler_type": "constant"}
    first = trainer_of(update, tmp_path, **options)
    first.train()
    steps = first.state.global_step
    for _ in range(2):
        again = trainer_of(update, tmp_path, **options)
        assert again.train(resume_from_checkpoint=True).global_step == steps
        assert largest_difference(weights_of(again), weights_of(first)) == 0
    assert f"all {steps} steps of num_train_epochs={epochs:g} already: there is nothing to train." in caplog.text
    # Half of them are not all, and a constant learning rate lets a training be longer.
    assert not has_all_epochs(tmp_path / "checkpoint-1", epochs)
    assert not has_all_epochs(tmp_path / f"checkpoint-{steps}", 2 * epochs)
    more = trainer_of(update, tmp_path, **options | {"num_train_epochs": 2})
    assert more.train(resume_from_checkpoint=True).global_step == 6


@pytest.mark.slow
def test_a_script_is_told_less_than_what_to_do(
    update: Update, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_of(update, tmp_path / "out", **OPTIONS)
    with pytest.raises(InputError, match="resume_from_checkpoint='missing' is no folder"):
        trainer.train(resume_from_checkpoint="missing")

    def full(folder: str, *arguments: Any, **options: Any) -> None:
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        (path / "adapter_model.safetensors").write_bytes((1000).to_bytes(8, "little") + b"{")
        raise OSError(errno.ENOSPC, "No space left on device")

    trainer.train()
    monkeypatch.setattr(trainer.model, "save_pretrained", full)
    with pytest.raises(ConfigurationError, match=r"saved cannot be written to: the disk is full .*Make room and save"):
        trainer.save_model(str(tmp_path / "saved"))
    assert not (tmp_path / "saved" / "adapter_model.safetensors").exists()
    with pytest.raises(ConfigurationError, match=r"Step 2 of 2 is kept\. Make room and call train\(resume_from"):
        trainer.train()
