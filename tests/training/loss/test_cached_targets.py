"""Training with a teacher cache: the same loss, no old model in memory, and never a cache of something else."""

import copy
import gc
import re
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset, IterableDataset
from tiny_updates import EMBEDDINGS_AND_NORMS, ROWS, Update, largest_difference, make_update, trainer_of, weights_of

from muscle_hf import CompatibilityTrainer, ConfigurationError, TeacherError
from muscle_hf.teachers.live import FrozenModelTeacher, SharedBaseTeacher

# A k above the vocabulary keeps all of it: what is left is the rounding of half precision.
KINDS: dict[str, dict[str, Any]] = {
    "hidden": {"teacher_cache": "hidden"},
    "topk": {"teacher_cache": "topk", "teacher_cache_k": 1000},
    "sampled": {"teacher_cache": "sampled", "teacher_cache_k": 1000},
}


@pytest.fixture(scope="module")
def update(tmp_path_factory: pytest.TempPathFactory) -> Update:
    return make_update(tmp_path_factory.mktemp("update"))


def _trained(update: Update, folder: Path, **options: Any) -> CompatibilityTrainer:
    trainer = trainer_of(update, folder, **{"max_steps": 3} | options)
    trainer.train()
    return trainer


def _losses(trainer: CompatibilityTrainer) -> list[float]:
    return [log["loss"] for log in trainer.state.log_history if "loss" in log]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mask": "old_better", "divergence": "reverse_kl", "cross_entropy_weight": 0.5, "completion_only_loss": True},
        {"mask": "sequence_likelihood", "teacher": "more_confident", "max_length": 12},
        # Without cross-entropy the first loss is 0 here, and Adam would turn its rounding into whole steps.
        {"mask": "negative_flip", "packing": True, "max_length": 40, "cross_entropy_weight": 0.2},
    ],
    ids=["paper", "frozen mask", "truncated", "packed"],
)
def test_training_with_a_cache_is_training_with_live_teachers(
    update: Update, tmp_path: Path, kind: str, options: dict[str, Any]
) -> None:
    if kind == "sampled":  # the one divergence that it has
        options = options | {"divergence": "forward_kl"}
    live = _trained(update, tmp_path / "live", loss_implementation="chunked", **options)
    cached = _trained(update, tmp_path / "cached", **KINDS[kind], **options)
    tolerance = 1e-5 if kind == "hidden" else 2e-3
    assert _losses(cached) == pytest.approx(_losses(live), abs=tolerance)
    assert largest_difference(weights_of(live), weights_of(cached)) < 10 * tolerance


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_cache_of_a_kind_cannot_be_computed_or_read_in_bfloat16(
    update: Update, tmp_path: Path, kind: str, dtype: str
) -> None:
    options = {"model_init_kwargs": {"dtype": dtype}, "old_model_init_kwargs": {"dtype": dtype}}
    trainer = trainer_of(update, tmp_path, max_steps=1, bf16=True, **KINDS[kind], **options)
    batch = trainer._batch_of([trainer.train_dataset[row] for row in range(3)])
    loss = trainer.compute_loss(trainer.model, batch).item()
    trainer.train()
    log = trainer.state.log_history[0]
    assert log["loss"] > 0 and log["divergence_to_old_model"] > 0
    again = trainer_of(update, tmp_path, max_steps=1, bf16=True, **KINDS[kind], **options)
    with torch.autocast("cpu", torch.bfloat16):
        assert again.compute_loss(again.model, batch).item() == pytest.approx(loss, rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_cache_of_bfloat16_models_cannot_be_computed_or_read_in_float16(
    update: Update, tmp_path: Path, kind: str
) -> None:
    options = {"model_init_kwargs": {"dtype": "bfloat16"}, "old_model_init_kwargs": {"dtype": "bfloat16"}}
    losses = []
    for cache in ({}, KINDS[kind]):
        trainer = trainer_of(update, tmp_path, loss_implementation="chunked", **cache, **options)
        # Not by the config, whose scaler of gradients needs a GPU.
        trainer.args.fp16 = True
        for part in (trainer.accelerator, trainer.teachers.loss):
            part.autocast = lambda: torch.autocast("cpu", torch.float16)
        if cache:
            trainer.cache_teachers()
        losses.append(trainer.compute_loss(trainer.model, trainer._batch_of(list(trainer.train_dataset))).item())
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


@pytest.mark.slow
def test_drawn_targets_depend_on_the_batch_or_on_the_seed_of_the_training(update: Update, tmp_path: Path) -> None:
    options = {"teacher_cache": "sampled", "teacher_cache_k": 5}
    read = []
    for name, rows, seed in (("one", 1, 1), ("several", 5, 2)):
        trainer = trainer_of(update, tmp_path / name, per_device_eval_batch_size=rows, seed=seed, **options)
        trainer.cache_teachers()
        cache = trainer.teachers.loss.cache.caches[0]
        read.append(cache.read(torch.arange(cache.tokens)))
    for name, drawn in read[0].items():
        same = (drawn.float() - read[1][name].float()).abs() <= 1e-2 * drawn.float().abs().clamp(min=1)
        # Batches of other sizes round in another way, and now and then a draw falls on the other side.
        assert same.float().mean() > 0.98, name
    trainer.train()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_that_reaches_the_embeddings_is_cached_as_it_was_at_the_start(tmp_path: Path, kind: str) -> None:
    update = make_update(tmp_path, **EMBEDDINGS_AND_NORMS)
    live = _trained(update, tmp_path / "live", loss_implementation="chunked", learning_rate=0.05)
    cached = _trained(update, tmp_path / "cached", learning_rate=0.05, **KINDS[kind])
    assert _losses(cached) == pytest.approx(_losses(live), abs=1e-4 if kind == "hidden" else 5e-3)


@pytest.mark.slow
def test_the_old_model_is_not_loaded_where_the_cache_is_complete(
    update: Update, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = KINDS["topk"] | {
        "teacher_cache_dir": str(tmp_path / "cache"),
        "eval_dataset": Dataset.from_list(ROWS[:5]),
    }
    first = trainer_of(update, tmp_path / "first", **options)
    assert first.old_teacher is not None
    still_there = weakref.ref(first.old_teacher.model)
    first.train()
    assert first.old_teacher is None
    assert not first.teachers.pair.is_old_loaded
    gc.collect()
    assert still_there() is None, "something keeps the old model in memory"

    def never(*arguments: Any, **more: Any) -> None:
        raise AssertionError("a teacher was asked")

    monkeypatch.setattr(FrozenModelTeacher, "__call__", never)
    monkeypatch.setattr(SharedBaseTeacher, "__call__", never)
    second = trainer_of(update, tmp_path / "second", **options)
    assert not second.teachers.pair.is_old_loaded
    second.train()
    assert second.evaluate()["eval_loss"] == pytest.approx(first.evaluate()["eval_loss"])
    assert second.lineage == first.lineage
    assert _losses(second) == _losses(first)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_an_evaluation_with_a_cache_has_the_loss_of_live_teachers(update: Update, tmp_path: Path, kind: str) -> None:
    sets = {"one": Dataset.from_list(ROWS[:3]), "two": Dataset.from_list(ROWS[3:7])}
    live = trainer_of(update, tmp_path / "live", eval_dataset=sets).evaluate()
    cached = trainer_of(update, tmp_path / "cached", eval_dataset=sets, **KINDS[kind]).evaluate()
    for name in ("eval_one_loss", "eval_two_loss", "eval_two_aligned_to_old_model"):
        assert cached[name] == pytest.approx(live[name], abs=2e-3)


def test_an_evaluation_set_that_is_not_in_the_cache_is_refused(update: Update, tmp_path: Path) -> None:
    trainer = trainer_of(update, tmp_path, **KINDS["topk"])
    with pytest.raises(ConfigurationError, match="no targets for this set"):
        trainer.evaluate(Dataset.from_list(ROWS[:2]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"rows": ROWS[::-1]}, "data"),
        ({"max_length": 9}, "data"),
        ({"temperature": 1.0}, "temperature"),
        ({"teacher_cache_k": 7}, "k "),
    ],
    ids=["order", "length", "temperature", "k"],
)
def test_a_cache_of_something_else_is_refused_before_training(
    update: Update, tmp_path: Path, change: dict[str, Any], named: str
) -> None:
    options = KINDS["topk"] | {"teacher_cache_dir": str(tmp_path / "cache")}
    trainer_of(update, tmp_path / "first", **options).cache_teachers()
    with pytest.raises(ConfigurationError, match=rf"made from something else.* {named}"):
        trainer_of(update, tmp_path / "second", **options | change)


@pytest.mark.slow
def test_another_machine_fetches_the_cache_of_an_address_and_asks_no_teacher(
    update: Update, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = KINDS["hidden"] | {"teacher_cache_dir": f"memory://{tmp_path.name}/cache", "max_steps": 2}
    first = _trained(update, tmp_path / "first", **options)
    monkeypatch.setattr(FrozenModelTeacher, "hidden_states", None)
    second = trainer_of(update, tmp_path / "second", **options)
    assert not second.teachers.pair.is_old_loaded
    second.train()
    assert _losses(second) == _losses(first)


@pytest.mark.slow
def test_a_cache_of_another_old_adapter_is_refused(update: Update, tmp_path: Path) -> None:
    options = KINDS["topk"] | {"teacher_cache_dir": str(tmp_path / "cache")}
    trainer_of(update, tmp_path / "first", **options).cache_teachers()
    other = make_update(tmp_path / "other")
    adapter = other.load(1)
    with torch.no_grad():
        next(weight for name, weight in adapter.named_parameters() if "lora_B" in name).add_(0.1)
    adapter.save_pretrained(tmp_path / "changed")
    with pytest.raises(ConfigurationError, match="old adapter"):
        trainer_of(update, tmp_path / "second", old_adapter=str(tmp_path / "changed"), **options)


@pytest.mark.slow
def test_parts_that_were_computed_apart_make_one_cache(update: Update, tmp_path: Path) -> None:
    options = KINDS["topk"] | {"teacher_cache_dir": str(tmp_path / "cache")}
    one = trainer_of(update, tmp_path / "one", **options)
    assert not one.cache_teachers(process=0, processes=2)
    assert one.old_teacher is not None
    other = trainer_of(update, tmp_path / "other", **options)
    assert other.cache_teachers(process=1, processes=2)
    whole = _trained(update, tmp_path / "whole", **KINDS["topk"])
    other.args.max_steps = 3
    other.train()
    assert _losses(other) == _losses(whole)


def test_a_teacher_with_nan_is_refused_before_a_cache_is_written(update: Update, tmp_path: Path) -> None:
    trainer = trainer_of(update, tmp_path / "out", **KINDS["topk"])
    assert trainer.old_teacher is not None
    with torch.no_grad():
        next(iter(trainer.old_teacher.model.parameters())).fill_(torch.nan)
    with pytest.raises(TeacherError, match="old"):
        trainer.train()
    assert not list((tmp_path / "out" / "teacher_cache").rglob("shard*.safetensors"))


def test_a_stream_cannot_be_cached(update: Update, tmp_path: Path) -> None:
    stream = IterableDataset.from_generator(lambda: iter(ROWS))
    with pytest.raises(ConfigurationError, match="read in one order"):
        trainer_of(update, tmp_path, train_dataset=stream, **KINDS["topk"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"teacher_cache_k": 8}, "would be ignored without a cache"),
        ({"teacher_cache": "hidden", "teacher_cache_k": 8}, "would be ignored"),
        ({"teacher_cache": "topk", "loss_implementation": "plain"}, "does not have"),
        ({"teacher_cache": "topk", "divergence": "logit_difference_inhibition"}, "needs all logits"),
        ({"teacher_cache": "topk", "teacher": "ensemble"}, "whole distributions"),
        ({"teacher_cache": "topk", "teacher": "perpendicular"}, "whole distributions"),
        ({"teacher_cache": "topk", "packing": True, "packing_strategy": "wrapped"}, "cuts rows in the middle"),
        ({"teacher_cache": "sampled", "divergence": "reverse_kl"}, "is not linear in the teacher"),
        ({"teacher_cache": "sampled", "divergence": "jensen_shannon"}, "cannot give it without bias"),
        ({"teacher_cache": "sampled", "teacher": "log_ensemble"}, "whole distributions"),
        ({"teacher_cache": "sampled", "teacher_cache_dir": "s3://key:secret@bucket/cache"}, "holds a password"),
        ({"teacher_cache": "top"}, "Did you mean 'topk'"),
    ],
)
def test_options_that_no_cache_can_serve_are_refused_by_the_config(
    update: Update, tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        trainer_of(update, tmp_path, **options)


@pytest.mark.slow
def test_an_evaluation_set_called_train_is_not_taken_for_the_training_set(update: Update, tmp_path: Path) -> None:
    sets = {"train": Dataset.from_list(ROWS[5:8]), "../x": Dataset.from_list(ROWS[:2])}
    plain = _trained(update, tmp_path / "plain", **KINDS["hidden"])
    named = _trained(update, tmp_path / "named", eval_dataset=sets, **KINDS["hidden"])
    assert _losses(named) == _losses(plain)
    assert named.evaluate()["eval_train_loss"] > 0
    assert not (tmp_path / "named" / "x").exists()


@pytest.mark.slow
def test_a_cache_of_another_precision_of_the_old_model_is_refused(update: Update, tmp_path: Path) -> None:
    options = KINDS["topk"] | {"teacher_cache_dir": str(tmp_path / "cache")}
    half = {"old_model_init_kwargs": {"dtype": "bfloat16"}}
    trainer_of(update, tmp_path / "first", **options, **half).cache_teachers()
    with pytest.raises(ConfigurationError, match="old loading options"):
        trainer_of(update, tmp_path / "second", **options)


@pytest.mark.slow
def test_teachers_of_two_precisions_are_cached_each_in_its_own(update: Update, tmp_path: Path) -> None:
    half = {"old_model_init_kwargs": {"dtype": "bfloat16"}}
    live = _trained(update, tmp_path / "live", loss_implementation="chunked", **half)
    cached = _trained(update, tmp_path / "cached", **KINDS["hidden"], **half)
    assert _losses(cached) == pytest.approx(_losses(live), abs=1e-3)


@pytest.mark.slow
def test_the_padding_token_that_a_trainer_sets_does_not_make_a_cache_stale(update: Update, tmp_path: Path) -> None:
    tokenizer = copy.deepcopy(update.tokenizer)
    options = KINDS["topk"] | {"teacher_cache_dir": str(tmp_path / "cache"), "processing_class": tokenizer}
    trainer_of(update, tmp_path / "first", **options).cache_teachers()
    tokenizer.pad_token = tokenizer.eos_token
    assert trainer_of(update, tmp_path / "second", **options).old_teacher is None


def test_a_folder_that_cannot_be_made_is_refused_before_training(update: Update, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="is no folder that can be written to"):
        trainer_of(update, tmp_path / "out", teacher_cache_dir=str(tmp_path / "file" / "cache"), **KINDS["topk"])


@pytest.mark.slow
def test_a_kill_loses_more_than_a_batch_of_a_small_cache(update: Update, tmp_path: Path) -> None:
    trainer_of(update, tmp_path, per_device_eval_batch_size=2, **KINDS["topk"]).cache_teachers()
    assert len(list((tmp_path / "teacher_cache" / "train").glob("shard-*.safetensors"))) >= len(ROWS) / 2 - 1


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_the_bar_of_a_cache_does_not_name_what_is_done_and_left(
    update: Update, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], processes: int
) -> None:
    monkeypatch.setattr("muscle_hf.progress._SECONDS_BETWEEN_LINES", 0)
    options = KINDS["topk"] | {"per_device_eval_batch_size": 3, "disable_tqdm": False}
    for process in range(processes):
        trainer_of(update, tmp_path, **options).cache_teachers(process=process, processes=processes)
    shown = [line for line in capsys.readouterr().err.splitlines() if line.startswith("Teacher cache, train set")]
    counts = [tuple(map(int, re.findall(r"\b(\d+) (?:of|rows)", line))) for line in shown]
    rows = len(ROWS) // processes
    assert {total for _, total in counts} == {rows}
    done = [done for done, _ in counts]
    assert done.count(rows) == processes and max(done) == rows
    # What is there is not computed again, and counts as done.
    shards = sorted((tmp_path / "teacher_cache" / "train").glob("shard-*.safetensors"))
    shards[-1].unlink()
    trainer_of(update, tmp_path, **options).cache_teachers()
    lines = re.findall(r"train set: (\d+) of 12 rows", capsys.readouterr().err)
    assert int(lines[0]) >= 6 and lines[-1] == "12"
