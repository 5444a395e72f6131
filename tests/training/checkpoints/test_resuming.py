"""Trainings that are interrupted, killed, or run out of disk: what is kept, and that they come to the same weights."""

import errno
import itertools
import json
import os
import re
import shutil
import signal
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fresh
import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from tiny_updates import ROWS, Update, largest_difference, make_update, trainer_of, weights_of
from transformers import EarlyStoppingCallback, TrainerCallback
from two_processes import finish

from muscle_hf.errors import ConfigurationError, InputError
from muscle_hf.locks import held_folder
from muscle_hf.training.checkpoints.kept import (
    SEAL,
    STATE,
    damage_of,
    last_checkpoint,
    remove_checkpoints,
    sound_checkpoint,
    steps_done,
)
from muscle_hf.training.checkpoints.resuming import _start_of, train_and_save
from muscle_hf.training.checkpoints.settings_of_run import refuse_another_way
from muscle_hf.training.checkpoints.written import InterimCheckpoints, _seal

# Two steps an epoch; "steps" has what comes before the first checkpoint.
BY_EPOCH = {
    "max_steps": -1,
    "num_train_epochs": 3,
    "per_device_train_batch_size": 6,
    "eval_strategy": "epoch",
    "save_strategy": "epoch",
}
BY_STEPS = {"max_steps": 8, "eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 3}
BEST = {"load_best_model_at_end": True, "metric_for_best_model": "eval_loss"}
# Of what falls the highest is wanted, so that the best checkpoint is not the last one.
WORSE = BEST | {"greater_is_better": True, "save_total_limit": 1}
OPTIONS: dict[str, dict[str, Any]] = {
    # Within an epoch of three steps, at its end, and within the next one.
    "nothing saved": {"max_steps": 5},
    "one epoch": {"max_steps": -1, "num_train_epochs": 1, "save_strategy": "epoch", "per_device_train_batch_size": 3},
    "epochs": BY_EPOCH | WORSE,
    "steps": BY_STEPS | WORSE,
    "best": BY_EPOCH | WORSE | {"save_strategy": "best"},
    "accumulated": {"max_steps": 5, "gradient_accumulation_steps": 2, "per_device_train_batch_size": 2},
}


@pytest.fixture(scope="module")
def update(tmp_path_factory: pytest.TempPathFactory) -> Update:
    return make_update(tmp_path_factory.mktemp("update"), lora_dropout=0.0)


class _At(TrainerCallback):
    """Does something at the beginning of a step."""

    def __init__(self, step: int, act: Callable[[], None]) -> None:
        self.step, self.act = step, act

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.step - 1:
            self.act()


def _interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


def _trainer(update: Update, folder: Path, *callbacks: TrainerCallback, **options: Any) -> Any:
    trainer = trainer_of(update, folder, eval_dataset=Dataset.from_list(ROWS[:4]), **options)
    for callback in callbacks:
        trainer.add_callback(callback)
    return trainer


def _trained(update: Update, folder: Path, *callbacks: TrainerCallback, **options: Any) -> Any:
    trainer = _trainer(update, folder, *callbacks, **options)
    train_and_save(trainer)
    return trainer.state


def _same_weights(one: Path, other: Path) -> bool:
    first, second = (load_file(folder / "adapter_model.safetensors") for folder in (one, other))
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def _name(path: str | None) -> str | None:
    return None if path is None else Path(path).name


def _tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("checkpoint-*"))


# From where it was


@pytest.mark.slow
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_training_that_was_interrupted_comes_to_other_weights(
    update: Update, tmp_path: Path, options: dict[str, Any]
) -> None:
    whole = _trained(update, tmp_path / "whole", **options)
    for step in range(2, whole.global_step):
        folder = tmp_path / f"{step}"
        # The callback comes after ours, whose turn to wait it is by then.
        trainer = _trainer(update, folder, **options)
        original = trainer.add_callback
        trainer.add_callback = lambda callback, add=original, step=step: (add(callback), add(_At(step, _interrupt)))
        with pytest.raises(KeyboardInterrupt):
            train_and_save(trainer)
        # Whether "best" saves is known after the evaluation, so that another step comes before it can be saved.
        late = options.get("save_strategy") == "best" and step == 4
        assert steps_done(folder) == (step + late, whole.max_steps)
        resumed = _trained(update, folder, **options)
        assert _same_weights(folder, tmp_path / "whole")
        assert (resumed.best_metric, resumed.best_global_step) == (whole.best_metric, whole.best_global_step)
        assert _name(resumed.best_model_checkpoint) == _name(whole.best_model_checkpoint)
    if "greater_is_better" in options:
        assert whole.best_global_step < whole.global_step


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nothing saved", "epochs", "steps"])
def test_saving_by_time_changes_what_is_trained_chosen_or_kept(update: Update, tmp_path: Path, name: str) -> None:
    options = OPTIONS[name] | {"save_total_limit": 2}
    states, trees = [], []
    for folder, seconds in ((tmp_path / "never", 1e9), (tmp_path / "always", 0.0)):
        seen: list[list[str]] = []

        class Look(TrainerCallback):
            def __init__(self, folder: Path, seen: list[list[str]]) -> None:
                self.folder, self.seen = folder, seen

            def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                self.seen.append(_tree(self.folder))

        trainer = _trainer(
            update, folder, InterimCheckpoints(seconds=seconds, clock=float), Look(folder, seen), **options
        )
        trainer.train()
        trainer.save_model()
        states.append(trainer.state)
        trees.append(seen)
    never, always = states
    assert _same_weights(tmp_path / "never", tmp_path / "always")
    assert (never.best_metric, never.best_global_step) == (always.best_metric, always.best_global_step)
    assert _name(never.best_model_checkpoint) == _name(always.best_model_checkpoint)
    # One more than without at most, and those of `save_strategy` are all there.
    for step, (without, with_) in enumerate(zip(*trees, strict=True)):
        by_time = [path for path in with_ if path.startswith("interim/")]
        assert [path for path in with_ if path not in by_time] == without
        newest = f"checkpoint-{step}"
        assert by_time == ([] if newest in without or not step else [f"interim/{newest}"])


@pytest.mark.slow
def test_two_trainings_write_to_one_folder_or_one_begins_that_cannot_write(
    update: Update, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, seen = tmp_path / "out", []
    trainer, other = (trainer_of(update, out, max_steps=1, save_strategy="steps") for _ in range(2))
    with held_folder(out, "training", "wait"), pytest.raises(ConfigurationError, match="out is in use: process"):
        trainer.train()

    def start_another() -> None:
        with pytest.raises(ConfigurationError) as refused:
            other.train()
        seen.append(str(refused.value))

    trainer.add_callback(_At(1, start_another))
    trainer.train()
    assert len(seen) == 1 and seen[0].endswith(
        "(training). Two runs would spoil each other's files. Wait until it "
        "ends, or end it, or train with another output_dir."
    )
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "checkpoint-1", "comparison.json"]
    other.train()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    read_only = r"out cannot be written to: .* is read-only"
    with pytest.raises(ConfigurationError, match=rf"{read_only}.*with an output_dir where you may write"):
        other.train()
    # A new one before it loads a model.
    arguments = dict.fromkeys(("model", "new_adapter", "old_model", "old_adapter"), str(tmp_path / "no model"))
    with pytest.raises(ConfigurationError, match=read_only):
        trainer_of(update, out, **arguments)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nothing saved", "epochs", "steps"])
def test_a_script_of_ones_own_loses_what_sigterm_ends(tmp_path: Path, name: str) -> None:
    update = make_update(tmp_path, lora_dropout=0.3)
    options = OPTIONS[name] | {"enable_jit_checkpoint": True, "save_total_limit": 2}
    before = signal.getsignal(signal.SIGTERM)
    whole = _trainer(update, tmp_path / "whole", **options)
    whole.train()
    folder = tmp_path / "ended"
    for step in (2, whole.state.max_steps):  # the machine goes twice, and within the last step too
        at = _At(step, lambda: signal.raise_signal(signal.SIGTERM))
        ended = _trainer(update, folder, at, **options)
        with pytest.raises(KeyboardInterrupt) as told:
            ended.train(resume_from_checkpoint=True)
        assert str(told.value) == (
            f"step {step} of {whole.state.max_steps} is kept in {folder}; train(resume_from_checkpoint=True) goes on "
            "there."
        )
        assert damage_of(last_checkpoint(folder)) is None
        assert signal.getsignal(signal.SIGTERM) is before
    again = _trainer(update, folder, **options)
    again.train(resume_from_checkpoint=True)
    assert largest_difference(weights_of(again), weights_of(whole)) == 0
    assert (again.state.best_metric, again.state.global_step) == (whole.state.best_metric, whole.state.global_step)
    assert "time" in again.card().training


@pytest.mark.slow
def test_a_second_ctrl_c_waits_for_the_step(update: Update, tmp_path: Path) -> None:
    def twice() -> None:
        _interrupt()
        _interrupt()

    trainer = _trainer(update, tmp_path, **OPTIONS["nothing saved"])
    add = trainer.add_callback
    trainer.add_callback = lambda callback: (add(callback), add(_At(3, twice)))
    with pytest.raises(KeyboardInterrupt):
        train_and_save(trainer)
    assert trainer.state.global_step == 2
    assert last_checkpoint(tmp_path) is None


@pytest.mark.slow
def test_a_training_that_had_ended_is_trained_on(update: Update, tmp_path: Path) -> None:
    # Killed after its last checkpoint, and before anything else was written; eight steps end within an epoch.
    options = {"max_steps": 8, "save_strategy": "steps", "save_steps": 4}
    for name, more in (("last", {}), ("best", {"eval_strategy": "steps", "eval_steps": 4} | WORSE)):
        folder = tmp_path / name
        whole = _trained(update, folder / "whole", **options | more)
        killed = _trainer(update, folder / "killed", **options | more)
        killed.train()
        again = _trained(update, folder / "killed", **options | more)
        assert again.global_step == 8
        for run in ("whole", "killed"):
            card = json.loads((folder / run / "comparison.json").read_text("utf-8"))
            assert re.fullmatch(r"\d+ s", card["training"]["time"]), "how long it took is forgotten"
        assert _same_weights(folder / "killed", folder / "whole")
        assert again.best_metric == whole.best_metric
    # And one that early stopping has ended.
    early = BY_EPOCH | WORSE | {"num_train_epochs": 9}
    stopped = _trainer(update, tmp_path / "early", EarlyStoppingCallback(1), **early)
    stopped.train()
    assert stopped.state.global_step < stopped.state.max_steps
    again = _trained(update, tmp_path / "early", EarlyStoppingCallback(1), **early)
    assert again.global_step == stopped.state.global_step


@pytest.mark.slow
def test_a_folder_that_was_moved_forgets_the_best_checkpoint(update: Update, tmp_path: Path) -> None:
    options = OPTIONS["epochs"]
    _trained(update, tmp_path / "whole", **options)
    trainer = _trainer(update, tmp_path / "here", **options)
    add = trainer.add_callback
    trainer.add_callback = lambda callback: (add(callback), add(_At(5, _interrupt)))
    with pytest.raises(KeyboardInterrupt):
        train_and_save(trainer)
    shutil.move(tmp_path / "here", tmp_path / "there")
    _trained(update, tmp_path / "there", **options)
    assert _same_weights(tmp_path / "there", tmp_path / "whole")


# What is on the disk


@pytest.mark.slow
@pytest.mark.parametrize(
    "failure",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("[enforce fail at inline_container.cc:664] . PytorchStreamWriter failed writing file data/1"),
    ],
    ids=["python", "torch"],
)
def test_a_full_disk_takes_the_checkpoint_before_it_or_ends_in_a_traceback(
    update: Update, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    defaults = {"seconds": 0.0, "clock": float, "saves_last": False}
    monkeypatch.setattr(InterimCheckpoints.__init__, "__kwdefaults__", defaults)
    save, saved = torch.save, []

    def full(state: Any, path: Any, **options: Any) -> None:
        if Path(path).name == "optimizer.pt" and len(saved) == 2:
            Path(path).write_bytes(b"half")
            raise failure
        saved.append(path) if Path(path).name == "optimizer.pt" else None
        save(state, path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(ConfigurationError, match=r"the disk is full .*Step 2 of 4 is kept\. Make room"):
            _trained(update, tmp_path, max_steps=4)
    assert _tree(tmp_path) == ["interim/checkpoint-2"]
    assert _trained(update, tmp_path, max_steps=4).global_step == 4


def _checkpoint(folder: Path, step: int, text: str | None = None, *, optimizer: bool = True) -> Path:
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    for name in ("optimizer.pt", "scheduler.pt") if optimizer else ():
        (path / name).touch()
    state = json.dumps({"global_step": step, "max_steps": 9, "stateful_callbacks": {}})
    (path / "trainer_state.json").write_text(state if text is None else text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "optimizer"),
    [("", True), ('{"global_step": 4, "max_', True), ("[]", True), ("{}", True), (None, False)],
    ids=["empty", "cut off", "a list", "nothing in it", "weights alone"],
)
def test_a_checkpoint_that_is_not_whole_is_gone_on_from(tmp_path: Path, text: str | None, optimizer: bool) -> None:
    assert last_checkpoint(tmp_path / "nowhere") is None
    _checkpoint(tmp_path, 4, text, optimizer=optimizer)
    assert last_checkpoint(tmp_path) is None and steps_done(tmp_path) is None
    whole = _checkpoint(tmp_path / "interim", 3)
    assert last_checkpoint(tmp_path) == whole and steps_done(tmp_path) == (3, 9)
    (tmp_path / "checkpoint-5").touch()
    (tmp_path / "checkpoint-x").mkdir()
    assert last_checkpoint(tmp_path) == whole
    # Of the same step, the one that no other one replaces.
    own = _checkpoint(tmp_path, 3)
    assert last_checkpoint(tmp_path) == own
    remove_checkpoints(tmp_path)
    assert not (tmp_path / "interim").exists() and not own.exists()


def test_a_checkpoint_of_deepspeed_is_gone_on_from_by_another_number_of_processes(tmp_path: Path) -> None:
    checkpoint = _checkpoint(tmp_path, 4, optimizer=False)
    (checkpoint / "global_step4").mkdir()
    for rank in range(2):
        (checkpoint / "global_step4" / f"bf16_zero_pp_rank_{rank}_mp_rank_00_optim_states.pt").touch()
    assert last_checkpoint(tmp_path) == checkpoint  # whose scheduler may be DeepSpeed's own, and nowhere else

    def trainer(processes: int) -> Any:
        args = SimpleNamespace(world_size=processes)
        return SimpleNamespace(is_fsdp_enabled=False, is_deepspeed_enabled=True, args=args)

    refuse_another_way(trainer(2), checkpoint)
    with pytest.raises(ConfigurationError, match="was written by 2 processes, and these are 3"):
        refuse_another_way(trainer(3), checkpoint)


def _flip(path: Path, place: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(len(content) * place)] ^= 1
    path.write_bytes(content)


def _cut(path: Path, place: float) -> None:
    os.truncate(path, int(path.stat().st_size * place))


def test_a_checkpoint_that_is_written_over_keeps_the_checksums_of_the_one_before(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint-2"
    folder.mkdir()
    for seconds in ("1.5", "1.25"):  # the files of the second one are longer
        state = {"global_step": 2, "max_steps": 4, "stateful_callbacks": {"TrainingTime": seconds}}
        (folder / STATE).write_text(json.dumps(state))
        for name in ("optimizer.pt", "scheduler.pt"):
            (folder / name).write_text(seconds)
        _seal(folder)
        assert damage_of(folder) is None


@pytest.mark.slow
def test_a_checkpoint_of_an_earlier_version_cannot_be_gone_on_from(update: Update, tmp_path: Path) -> None:
    saving: dict[str, Any] = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1}
    trainer_of(update, tmp_path, **saving).train()
    shutil.rmtree(tmp_path / "checkpoint-2")
    state = json.loads((tmp_path / "checkpoint-1" / STATE).read_text())
    del state["stateful_callbacks"]["TrainingTime"]
    (tmp_path / "checkpoint-1" / STATE).write_text(json.dumps(state))
    (tmp_path / "checkpoint-1" / SEAL).unlink()
    trainer = trainer_of(update, tmp_path, **saving)
    trainer.train(resume_from_checkpoint=True)
    assert (tmp_path / "checkpoint-2").is_dir()
    assert str(trainer.card().training["time"]).endswith("from step 1 on, where it was resumed")


@pytest.mark.slow
def test_a_damaged_checkpoint_is_trained_on_without_a_word(
    update: Update, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"max_steps": 4, "save_strategy": "steps", "save_steps": 1}
    trainer = trainer_of(update, tmp_path / "out", **options)
    trainer.train()
    whole = weights_of(trainer)
    newest = tmp_path / "out" / "checkpoint-4"
    assert sound_checkpoint(tmp_path / "out", needs_best=True) == newest
    names = [path.name for path in newest.iterdir() if path.name != SEAL]
    assert {"adapter_model.safetensors", "optimizer.pt", "rng_state.pth", "scheduler.pt", STATE} <= {*names}
    sealed = newest / SEAL
    seal, state = sealed.read_bytes(), (newest / STATE).read_bytes()
    for name in names:
        before = (newest / name).read_bytes()
        for damage in (_flip, _cut):
            for place in (0.01, 0.5, 0.99):
                damage(newest / name, place)
                said = damage_of(newest)
                assert said is not None and said.startswith(name), (name, damage, place)
                (newest / name).write_bytes(before)
    assert damage_of(newest) is None
    # Without a seal, from a process that was killed just then, files are held to what they say of themselves.
    sealed.unlink()
    for name in (STATE, "adapter_model.safetensors", "optimizer.pt", "rng_state.pth"):
        before = (newest / name).read_bytes()
        _cut(newest / name, 0.9)
        said = damage_of(newest)
        assert said is not None and said.startswith(f"{name} is damaged"), name
        (newest / name).write_bytes(before)
    with zipfile.ZipFile(newest / "optimizer.pt") as file:
        largest = max(file.infolist(), key=lambda part: part.file_size)
    before = (newest / "optimizer.pt").read_bytes()
    _flip(newest / "optimizer.pt", (largest.header_offset + 200) / len(before))
    assert damage_of(newest) == "optimizer.pt is damaged (a checksum in it differs)"
    (newest / "optimizer.pt").write_bytes(before)
    # A seal that is itself damaged: as if there were none.
    for text in ("", "{", "[]", '{"crc32": {"a": 1}}'):
        sealed.write_text(text, encoding="utf-8")
        assert damage_of(newest) is None
    sealed.write_bytes(seal)
    # By its name it is refused; the newest one is another; and a best one that is damaged is not loaded at the end.
    _flip(newest / "optimizer.pt", 0.5)
    with pytest.raises(InputError, match=r"checkpoint-4' cannot be gone on from: optimizer\.pt is damaged"):
        trainer_of(update, tmp_path / "out", **options).train(resume_from_checkpoint=str(newest))
    caplog.clear()
    again = trainer_of(update, tmp_path / "out", **options)
    again.train(resume_from_checkpoint=True)
    assert f"{newest} is not gone on from: optimizer.pt is damaged (other bytes than were written)." in caplog.messages
    assert largest_difference(weights_of(again), whole) == 0
    assert damage_of(newest) is None
    (newest / STATE).write_bytes(
        state.replace(b'"best_model_checkpoint": null', b'"best_model_checkpoint": "checkpoint-2"')
    )
    sealed.unlink()
    _flip(newest.with_name("checkpoint-2") / "adapter_model.safetensors", 0.9)
    assert sound_checkpoint(tmp_path / "out", needs_best=False) == newest
    assert sound_checkpoint(tmp_path / "out", needs_best=True) == newest.with_name("checkpoint-3")
    assert "the best checkpoint so far is checkpoint-2, and adapter_model.safetensors is damaged" in caplog.text
    shutil.rmtree(newest.with_name("checkpoint-2"))
    assert sound_checkpoint(tmp_path / "out", needs_best=True) == newest.with_name("checkpoint-3")
    assert "the best checkpoint so far is checkpoint-2, and it is missing" in caplog.text
    # What is damaged goes, where the training has a command of its own.
    _flip(newest / "adapter_model.safetensors", 0.5)
    (newest / STATE).write_bytes(state[:9])
    assert _start_of(tmp_path / "out", needs_best=True) == newest.with_name("checkpoint-3")
    assert not newest.exists()
    for step in (1, 3):
        _cut(newest.with_name(f"checkpoint-{step}") / "rng_state.pth", 0.5)
    anew = trainer_of(update, tmp_path / "out", **options)
    anew.train(resume_from_checkpoint=True)
    assert f"{tmp_path / 'out'} holds no whole checkpoint, so the training begins anew." in caplog.messages
    assert largest_difference(weights_of(anew), whole) == 0


@pytest.mark.slow
def test_a_training_that_is_gone_on_with_forgets_on_its_card_what_was_measured_before(
    update: Update, tmp_path: Path
) -> None:
    flips = {"flips_dataset": Dataset.from_list(ROWS[:6]), "flips_max_new_tokens": 4, "eval_strategy": "steps"}
    best = {"load_best_model_at_end": True, "metric_for_best_model": "eval_old_accuracy", "greater_is_better": True}
    options = {"max_steps": 3, "save_strategy": "steps", "save_steps": 1, "eval_steps": 1, **flips, **best}
    trainer = trainer_of(update, tmp_path, **options)
    trainer.train()
    assert trainer.state.best_global_step == 1  # the old model's accuracy stays, and the first of equals is kept
    shutil.rmtree(tmp_path / "checkpoint-3")
    again = trainer_of(update, tmp_path, **options)
    again.train(resume_from_checkpoint=True)
    before, after = (
        {name: json.loads(one.to_json()) for name, one in each.card().comparisons.items()} for each in (trainer, again)
    )
    assert len(before) == 2 and after == before


@pytest.mark.slow
def test_a_clock_that_was_put_back_lets_the_newest_checkpoint_go(update: Update, tmp_path: Path) -> None:
    def put_back() -> None:
        for checkpoint in tmp_path.glob("checkpoint-*"):
            os.utime(checkpoint, (4e9, 4e9))

    steps = {"max_steps": 5, "save_strategy": "steps", "save_steps": 1, "save_total_limit": 2}
    trainer = trainer_of(update, tmp_path, **steps)
    for step in (2, 3, 4, 5):
        trainer.add_callback(_At(step, put_back))
    trainer.train()
    assert _tree(tmp_path) == ["checkpoint-4", "checkpoint-5"]


# When it is time


class _Run:
    """A training without a model, in which steps, evaluations and saving take the time that is said."""

    def __init__(self, folder: Path, *, seconds: float = 120, step: float = 10, saving: float = 0) -> None:
        self.now, self.step, self.saving, self.folder = 0.0, step, saving, folder
        self.callback = InterimCheckpoints(seconds=seconds, clock=lambda: self.now)
        self.state = SimpleNamespace(global_step=0, max_steps=1000, epoch=0.0, best_model_checkpoint=None)
        self.args = SimpleNamespace(
            output_dir=str(folder), save_total_limit=1, save_strategy="no", eval_strategy="no", should_save=True
        )
        self.saved: list[float] = []
        self._call("on_train_begin", SimpleNamespace())

    def _call(self, name: str, control: Any) -> None:
        getattr(self.callback, name)(self.args, self.state, control)

    def steps(self, count: int, *, epoch: int = 10**9, evaluation: float = 0) -> None:
        for _ in range(count):
            control = SimpleNamespace(should_save=False, should_evaluate=False)
            self._call("on_step_begin", control)
            self.now += self.step
            self.state.global_step += 1
            self.state.epoch = self.state.global_step / epoch
            self._call("on_step_end", control)
            self._save(control)
            if self.state.global_step % epoch == 0:
                control = SimpleNamespace(should_save=False, should_evaluate=evaluation > 0)
                self._call("on_epoch_end", control)
                if evaluation:
                    self.now += evaluation
                    self._call("on_evaluate", control)
                self._save(control)

    def _save(self, control: Any) -> None:
        if control.should_save:
            self.saved.append(self.now)
            self.now += self.saving
            _checkpoint(self.folder, self.state.global_step)
            self._call("on_save", control)


@pytest.mark.slow
@pytest.mark.parametrize(("step", "saving"), [(1, 0), (10, 0), (7, 3), (50, 15), (60, 19)])
def test_more_than_two_minutes_are_lost(tmp_path: Path, step: float, saving: float) -> None:
    run = _Run(tmp_path, step=step, saving=saving)
    run.steps(300)
    begins = [0.0, *run.saved]
    # What a kill right before the end of a save would lose.
    lost = [later + saving - earlier for earlier, later in itertools.pairwise(begins)]
    assert max(lost) <= 120
    assert min(lost) >= 120 - 2 * step - 5
    assert len(_tree(tmp_path)) == 1 and _tree(tmp_path)[0].startswith("interim/")


def test_saving_that_takes_long_leaves_no_time_to_train(tmp_path: Path) -> None:
    run = _Run(tmp_path, step=1, saving=200)
    run.steps(2000 - 1001)
    assert (len(run.saved) - 1) * 200 <= run.now / 2


def test_an_evaluation_is_skipped_by_who_goes_on(tmp_path: Path) -> None:
    run = _Run(tmp_path, step=60)
    run.steps(4, epoch=2, evaluation=30)
    # Each epoch takes two minutes, and is saved after the evaluation that belongs to its last step.
    assert run.saved == [60.0, 150.0, 210.0, 300.0]


# What each of two processes runs; the clock of the second one stands still.
_PROGRAM = """
import json, sys
from pathlib import Path
from types import SimpleNamespace
import torch.distributed as distributed
from muscle_hf.training.checkpoints.written import InterimCheckpoints

folder, rank = Path(sys.argv[1]), int(sys.argv[2])
distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
now = [0.0]
callback = InterimCheckpoints(clock=lambda: now[0] if rank == 0 else 0.0)
args = SimpleNamespace(output_dir=str(folder), save_total_limit=1, save_strategy="no")
state = SimpleNamespace(global_step=0, max_steps=9, epoch=0.5, best_model_checkpoint=None)
saved = []
callback.on_train_begin(args, state, None)
for step in range(1, 7):
    control = SimpleNamespace(should_save=False, should_evaluate=False)
    callback.on_step_begin(args, state, control)
    now[0] += 50
    state.global_step = step
    callback.on_step_end(args, state, control)
    if control.should_save:
        saved.append(step)
        (folder / f"checkpoint-{step}").mkdir(exist_ok=True)
        (folder / f"checkpoint-{step}" / f"rng_state_{rank}.pth").touch()
        callback.on_save(args, state, control)
(folder / f"seen-{rank}.json").write_text(json.dumps(saved))
distributed.barrier()
"""


@pytest.mark.slow
def test_two_processes_save_at_different_steps_or_move_a_checkpoint_that_is_not_whole(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _PROGRAM, str(tmp_path)]
    finish([fresh.Process([*command, rank], warm=True) for rank in "01"])
    seen = [json.loads((tmp_path / f"seen-{rank}.json").read_text("utf-8")) for rank in range(2)]
    assert seen[0] == seen[1] == [2, 4, 6]
    assert _tree(tmp_path) == ["interim/checkpoint-6"]
    assert len(list((tmp_path / "interim" / "checkpoint-6").iterdir())) == 3  # with the checksums of both
    assert damage_of(tmp_path / "interim" / "checkpoint-6") == "the optimizer's state is missing"


@pytest.mark.slow
def test_a_training_that_has_all_its_steps_takes_no_step_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    update = make_update(tmp_path)
    # A training is made longer where no learning rate depends on its length.
    options = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1, "lr_scheduler_type": "constant"}
    first = trainer_of(update, tmp_path / "out", **options)
    first.train()
    again = trainer_of(update, tmp_path / "out", **options)
    output = again.train(resume_from_checkpoint=True)
    assert output.global_step == again.state.global_step == 2
    assert "there is nothing to train" in caplog.text
    weights = dict(again.model.named_parameters())
    for name, weight in first.model.named_parameters():
        assert torch.equal(weight, weights[name])
    more = trainer_of(update, tmp_path / "out", **options | {"max_steps": 3})
    assert more.train(resume_from_checkpoint=True).global_step == 3
