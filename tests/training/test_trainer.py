"""`CompatibilityTrainer` on tiny models: what it trains, what it saves, and what it refuses."""

import copy
import gc
import json
import logging
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset, IterableDataset
from peft import LoraConfig, PeftModel, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file
from tiny_models import tiny_adapter, tiny_llama, tiny_tokenizer
from tiny_updates import (
    EMBEDDINGS_AND_NORMS,
    ROWS,
    Update,
    config_of,
    largest_difference,
    make_update,
    trainer_of,
    weights_of,
)
from transformers import AutoModelForCausalLM, LlamaForCausalLM, PreTrainedTokenizerFast

from muscle_hf import (
    CompatibilityConfig,
    CompatibilityTrainer,
    ConfigurationError,
    InputError,
    ModelMismatchError,
    TeacherError,
    UnsupportedAdapterError,
    compare,
)
from muscle_hf.card.lineage import Lineage
from muscle_hf.losses.compatibility import compatibility_loss
from muscle_hf.losses.logits import next_token_labels
from muscle_hf.losses.masks import MASKS


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def update(tmp_path_factory: pytest.TempPathFactory) -> Update:
    return make_update(tmp_path_factory.mktemp("update"))


def _half_right_rows(update: Update) -> list[dict[str, list[int]]]:
    """Encoded rows whose labels are what the new model says at every second position: it is right there."""
    rows = []
    for row in ROWS:
        ids = update.tokenizer(row["prompt"])["input_ids"]
        with torch.no_grad():
            best = update.load(2)(torch.tensor([ids])).logits[0].argmax(-1).tolist()
        labels = [ids[0]] + [best[i - 1] if i % 2 else ids[i] for i in range(1, len(ids))]
        rows.append({"input_ids": ids, "labels": labels})
    return rows


def _padded(rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    def pad(name: str, value: int) -> torch.Tensor:
        tensors = [torch.tensor(row[name]) for row in rows]
        return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=value)

    labels = pad("labels", -100)
    return {"input_ids": pad("input_ids", 0), "attention_mask": (labels != -100).long(), "labels": labels}


def _logits(model: PeftModel, text: str, tokenizer: PreTrainedTokenizerFast) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(**tokenizer(text, return_tensors="pt")).logits


# What is trained -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [{}, {"mask": "token_likelihood", "temperature": 1.0, "cross_entropy_weight": 0.5}]
)
def test_the_loss_is_that_of_three_models_loaded_one_by_one(
    update: Update, tmp_path: Path, options: dict[str, Any]
) -> None:
    trainer = trainer_of(update, tmp_path, **options)
    with torch.no_grad():
        for name, weight in trainer.model.named_parameters():
            if "lora_B" in name:  # a student that has moved away from the new model
                weight.mul_(0.5)
    batch = _padded(_half_right_rows(update)[:5])
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    old, new = (update.load(version)(**inputs).logits.detach() for version in (1, 2))
    student = trainer.model(**inputs).logits.detach()
    expected = compatibility_loss(student, old, new, next_token_labels(batch["labels"]), **options)
    loss = trainer.compute_loss(trainer.model, batch)
    assert loss.item() == pytest.approx(expected.loss.item(), rel=1e-5)
    assert 0 < expected.tokens_to_old < expected.tokens  # both teachers had a say


def test_the_student_starts_as_a_copy_of_the_new_model(update: Update, tmp_path: Path) -> None:
    trainer = trainer_of(update, tmp_path, mask="none", eval_dataset=Dataset.from_list(ROWS[:4]))
    text = ROWS[0]["prompt"]
    assert torch.equal(_logits(trainer.model, text, update.tokenizer), _logits(update.load(2), text, update.tokenizer))


@pytest.mark.slow
def test_training_moves_the_student_and_neither_teacher(update: Update, tmp_path: Path) -> None:
    trainer = trainer_of(update, tmp_path)
    inputs = dict(update.tokenizer(ROWS[0]["prompt"], return_tensors="pt"))
    before = [teacher.logits(inputs) for teacher in (trainer.old_teacher, trainer.new_teacher)]
    student = _logits(trainer.model, ROWS[0]["prompt"], update.tokenizer)
    trainer.train()
    after = [teacher.logits(inputs) for teacher in (trainer.old_teacher, trainer.new_teacher)]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert not torch.equal(student, _logits(trainer.model, ROWS[0]["prompt"], update.tokenizer))
    assert not any(weight.requires_grad for weight in trainer.old_teacher.model.parameters())
    assert not any(tensor.requires_grad for tensor in trainer.new_teacher.snapshot.values())


def test_teachers_answer_without_dropout_while_the_student_trains_with_it(tmp_path: Path) -> None:
    update = make_update(tmp_path, lora_dropout=0.5)
    trainer = trainer_of(update, tmp_path / "out")
    trainer.model.train()
    trainer.old_teacher.model.train()  # as a careless callback might
    training = [module.training for module in trainer.model.modules()]
    inputs = dict(update.tokenizer(ROWS[0]["prompt"], return_tensors="pt"))
    for version, teacher in ((1, trainer.old_teacher), (2, trainer.new_teacher)):
        exact = _logits(update.load(version), ROWS[0]["prompt"], update.tokenizer)
        assert torch.equal(teacher.logits(inputs), exact)
    assert [module.training for module in trainer.model.modules()] == training


@pytest.mark.slow
def test_the_new_base_is_in_memory_once(update: Update, tmp_path: Path) -> None:
    # Models of other tests may still be there, and they start from the same seeds.
    before = gc.get_objects()  # kept alive, so that no new object gets the number of one of these
    known = {id(one) for one in before}
    trainer = trainer_of(update, tmp_path)
    base = trainer.model.get_base_model().model.layers[0].mlp.down_proj.base_layer.weight
    gc.collect()
    copies = [
        tensor
        for tensor in gc.get_objects()
        if type(tensor) in (torch.Tensor, torch.nn.Parameter)
        and id(tensor) not in known
        and tensor.shape == base.shape
        and torch.equal(tensor, base)
    ]
    assert len({tensor.data_ptr() for tensor in copies}) == 1
    assert list(trainer.model.peft_config) == ["default"]


@pytest.mark.slow
def test_gradient_accumulation_does_not_change_the_step(update: Update, tmp_path: Path) -> None:
    whole = trainer_of(update, tmp_path, optim="sgd", max_grad_norm=0.0)
    pieces = trainer_of(
        update,
        tmp_path,
        optim="sgd",
        max_grad_norm=0.0,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=4,
    )
    start = weights_of(whole)
    whole.train()
    pieces.train()
    moved = largest_difference(start, weights_of(whole))
    assert largest_difference(weights_of(whole), weights_of(pieces)) < 1e-4 * moved
    for one, other in zip(whole.state.log_history[:2], pieces.state.log_history[:2], strict=True):
        for name in ("loss", "aligned_to_old_model", "divergence_to_old_model", "cross_entropy"):
            assert one[name] == pytest.approx(other[name], rel=1e-4)


@pytest.mark.slow
def test_gradient_checkpointing_does_not_change_the_weights(update: Update, tmp_path: Path) -> None:
    trainers = [trainer_of(update, tmp_path, gradient_checkpointing=on) for on in (False, True)]
    for trainer in trainers:
        trainer.train()
    assert largest_difference(*(weights_of(trainer) for trainer in trainers)) < 1e-6


@pytest.mark.slow
def test_bfloat16_trains_and_stays_near_float32(update: Update, tmp_path: Path) -> None:
    losses = []
    for on in (False, True):
        trainer = trainer_of(update, tmp_path, bf16=on)
        trainer.train()
        losses.append(trainer.state.log_history[0]["loss"])
        assert all(torch.isfinite(weight).all() for weight in weights_of(trainer).values())
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["bfd", "wrapped"])
def test_packing_trains(update: Update, tmp_path: Path, strategy: str) -> None:
    trainer = trainer_of(update, tmp_path, packing=True, packing_strategy=strategy, max_length=100)
    trainer.train()
    assert math.isfinite(trainer.state.log_history[0]["loss"])


@pytest.mark.slow
def test_packed_sequences_have_the_loss_of_unpacked_ones(update: Update, tmp_path: Path) -> None:
    losses = []
    for packing in (False, True):
        trainer = trainer_of(
            update,
            tmp_path,
            packing=packing,
            max_length=120,
            mask="sequence_likelihood",
            eval_dataset=Dataset.from_list(ROWS[:4]),
            per_device_eval_batch_size=4,
        )
        losses.append(trainer.evaluate()["eval_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_prompt_is_trained_on_by_default_and_left_out_on_request(update: Update, tmp_path: Path) -> None:
    labels = [
        trainer_of(update, tmp_path, completion_only_loss=only).train_dataset[0]["labels"] for only in (False, True)
    ]
    completion = len(update.tokenizer(ROWS[0]["completion"] + update.tokenizer.eos_token)["input_ids"])
    assert -100 not in labels[0]
    assert sum(label != -100 for label in labels[1]) == completion


# Logs, evaluation, checkpoints ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_log_gives_what_the_loss_did_to_the_tokens(update: Update, tmp_path: Path) -> None:
    rows = _half_right_rows(update)
    trainer = trainer_of(update, tmp_path, rows=rows, max_steps=1, per_device_train_batch_size=12)
    trainer.train()
    log = trainer.state.log_history[0]
    batch = _padded(rows)
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    old, new = (update.load(version)(**inputs).logits.detach() for version in (1, 2))
    expected = compatibility_loss(new, old, new, next_token_labels(batch["labels"]))
    share = (expected.tokens_to_old / expected.tokens).item()
    assert 0.3 < share < 0.7
    assert log["loss"] == pytest.approx(expected.loss.item(), rel=1e-5)
    assert log["aligned_to_old_model"] == pytest.approx(share)
    assert log["mean_token_accuracy"] == pytest.approx(1 - share)
    assert log["divergence_to_old_model"] == pytest.approx(
        (expected.divergence_to_old / expected.tokens_to_old).item(), rel=1e-5
    )
    assert log["divergence_to_new_model"] == pytest.approx(0, abs=1e-6)  # it is the new model still
    assert log["cross_entropy"] == pytest.approx((expected.cross_entropy / expected.tokens).item(), rel=1e-5)
    assert log["num_tokens"] == batch["attention_mask"].sum().item()


def test_a_divergence_without_tokens_is_zero_or_looks_like_a_training_that_diverged(
    update: Update, tmp_path: Path
) -> None:
    trainer = trainer_of(update, tmp_path, mask="none", max_steps=1)
    trainer.train()
    log = trainer.state.log_history[0]
    assert log["aligned_to_old_model"] == 1
    assert "divergence_to_new_model" not in log
    assert math.isnan(trainer.evaluate(trainer.train_dataset)["eval_divergence_to_new_model"])


@pytest.mark.slow
def test_the_best_checkpoint_by_a_logged_figure_is_loaded_at_the_end(update: Update, tmp_path: Path) -> None:
    trainer = trainer_of(
        update,
        tmp_path,
        max_steps=3,
        learning_rate=0.3,
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        load_best_model_at_end=True,
        metric_for_best_model="eval_cross_entropy",
        greater_is_better=False,
        eval_dataset=Dataset.from_list(ROWS[:4]),
    )
    trainer.train()
    seen = [log["eval_cross_entropy"] for log in trainer.state.log_history if "eval_cross_entropy" in log]
    assert len(seen) == 3
    assert trainer.state.best_metric == min(seen)
    assert trainer.evaluate()["eval_cross_entropy"] == pytest.approx(min(seen), rel=1e-5)


@pytest.mark.slow
def test_every_evaluation_reports_its_own_data_under_its_own_name(update: Update, tmp_path: Path) -> None:
    sets = {"a": Dataset.from_list(ROWS[:4]), "b": Dataset.from_list(ROWS[4:])}
    trainer = trainer_of(update, tmp_path, eval_dataset=sets)
    both = trainer.evaluate()
    trainer.predict(trainer.eval_dataset["b"])
    assert trainer.evaluate()["eval_a_cross_entropy"] == both["eval_a_cross_entropy"]
    assert both["eval_a_cross_entropy"] != both["eval_b_cross_entropy"]
    alone = trainer_of(update, tmp_path, eval_dataset=sets["a"])
    assert alone.evaluate()["eval_cross_entropy"] == both["eval_a_cross_entropy"]
    assert alone.evaluate(metric_key_prefix="test")["test_cross_entropy"] == both["eval_a_cross_entropy"]


def test_a_streamed_data_set_trains(update: Update, tmp_path: Path) -> None:
    stream = Dataset.from_list(ROWS).to_iterable_dataset()
    trainer = CompatibilityTrainer(**update.arguments, args=config_of(tmp_path), train_dataset=stream)
    trainer.train()
    assert trainer.state.global_step == 2


@pytest.mark.slow
@pytest.mark.parametrize("lora", [{}, EMBEDDINGS_AND_NORMS], ids=["plain", "embeddings"])
def test_a_resumed_run_ends_at_the_weights_of_an_uninterrupted_one(tmp_path: Path, lora: dict[str, Any]) -> None:
    update = make_update(tmp_path, **lora)
    options = {"max_steps": 6, "save_strategy": "steps", "save_steps": 3, "lr_scheduler_type": "cosine"}
    whole = trainer_of(update, tmp_path / "whole", **options)
    whole.train()
    resumed = trainer_of(update, tmp_path / "whole", **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    assert largest_difference(weights_of(whole), weights_of(resumed)) == 0
    inputs = dict(update.tokenizer(ROWS[0]["prompt"], return_tensors="pt"))
    assert torch.equal(whole.new_teacher.logits(inputs), resumed.new_teacher.logits(inputs))
    tokens = [[log["num_tokens"] for log in t.state.log_history if "num_tokens" in log] for t in (whole, resumed)]
    assert tokens[0] == tokens[1]
    assert tokens[0] == sorted(set(tokens[0])) and len(tokens[0]) == 6, "each log goes on from the one before"


@pytest.mark.slow
def test_the_count_of_tokens_forgets_those_between_the_last_log_and_the_checkpoint(tmp_path: Path) -> None:
    update = make_update(tmp_path)
    options = {"max_steps": 6, "save_strategy": "steps", "save_steps": 2, "logging_steps": 3}
    whole = trainer_of(update, tmp_path / "out", **options)
    whole.train()
    counts = [[log["num_tokens"] for log in whole.state.log_history if "num_tokens" in log]]
    for step in (2, 4):
        resumed = trainer_of(update, tmp_path / "out", **options)
        resumed.train(resume_from_checkpoint=str(tmp_path / "out" / f"checkpoint-{step}"))
        counts.append([log["num_tokens"] for log in resumed.state.log_history if "num_tokens" in log])
    assert counts[0] == counts[1] == counts[2] and len(counts[0]) == 2


def test_compute_metrics_receives_the_students_logits(update: Update, tmp_path: Path) -> None:
    shapes = []

    def metrics(prediction: Any) -> dict[str, float]:
        shapes.append((prediction.predictions.shape, prediction.label_ids.shape))
        return {"size": 1.0}

    trainer = trainer_of(update, tmp_path, compute_metrics=metrics, eval_dataset=Dataset.from_list(ROWS[:4]))
    assert trainer.evaluate()["eval_size"] == 1
    assert shapes[0][0] == (*shapes[0][1], len(update.tokenizer))


# What is saved -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "lora",
    [
        {},
        EMBEDDINGS_AND_NORMS,
        {"target_modules": ["q_proj", "embed_tokens"], "ensure_weight_tying": True},
        {"target_modules": ["q_proj"], "trainable_token_indices": [5, 6, 7]},
        {"use_dora": True},
        {"use_rslora": True},
    ],
    ids=["plain", "embeddings-and-norms", "lora-on-tied-embeddings", "trained-tokens", "dora", "rslora"],
)
def test_every_kind_of_adapter_trains_and_loads_with_plain_peft(tmp_path: Path, lora: dict[str, Any]) -> None:
    update = make_update(tmp_path, **lora)
    text = ROWS[0]["prompt"]
    trainer = trainer_of(update, tmp_path / "out")
    inputs = dict(update.tokenizer(text, return_tensors="pt"))
    assert torch.equal(trainer.new_teacher.logits(inputs), _logits(update.load(2), text, update.tokenizer))
    trainer.train()
    assert torch.equal(trainer.new_teacher.logits(inputs), _logits(update.load(2), text, update.tokenizer))
    trainer.save_model()
    saved = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert saved.keys() == load_file(tmp_path / "task-v2" / "adapter_model.safetensors").keys()
    base = LlamaForCausalLM.from_pretrained(tmp_path / "base-v2")
    loaded = PeftModel.from_pretrained(base, tmp_path / "out")
    assert torch.equal(_logits(loaded, text, update.tokenizer), _logits(trainer.model, text, update.tokenizer))
    assert not torch.equal(_logits(loaded, text, update.tokenizer), _logits(update.load(2), text, update.tokenizer))


@pytest.mark.slow
def test_a_head_tied_to_trained_embeddings_stays_tied(tmp_path: Path) -> None:
    update = make_update(tmp_path, **EMBEDDINGS_AND_NORMS)
    trainer = trainer_of(update, tmp_path / "out")
    trainer.train()
    head, embeddings = trainer.model.get_output_embeddings(), trainer.model.get_input_embeddings()
    assert torch.equal(head.weight, embeddings.weight)
    assert not torch.equal(head.weight, update.load(2).get_input_embeddings().weight)


def test_the_folder_holds_an_adapter_a_tokenizer_and_no_teacher(update: Update, tmp_path: Path) -> None:
    trainer = trainer_of(update, tmp_path)
    trainer.train()
    trainer.save_model()
    names = {path.name for path in tmp_path.iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json", "README.md", "tokenizer.json"} <= names
    assert not {path for path in names if "teacher" in path or path.endswith((".bin", ".pt"))} - {"training_args.bin"}
    assert not [path for path in tmp_path.rglob("*") if path.is_dir()]


@pytest.mark.slow
def test_the_card_of_a_real_run_says_what_happened_and_names_no_path(update: Update, tmp_path: Path) -> None:
    folder = tmp_path / "my-adapter"
    trainer = trainer_of(update, folder, save_strategy="steps", save_steps=2)
    trainer.train()
    measured = compare(old=list("abxx"), new=list("xbyc"), references=list("abcz"))
    trainer.add_comparison("compatibility adapter", measured, split="four questions")
    trainer.save_model()
    card = (folder / "README.md").read_text(encoding="utf-8")
    # The whole card is matched in the tests of the card.
    assert "On four questions, n = 4." in card
    assert "| compatibility adapter (this adapter) | 25.0 [" in card
    assert "- optimizer steps: 2\n" in card
    assert str(tmp_path) not in card
    assert str(update.folder) not in card
    checkpoint = (folder / "checkpoint-2" / "README.md").read_text(encoding="utf-8")
    assert "More information needed" not in checkpoint.title()
    assert "compatibility-adapter" in checkpoint


# What may be passed --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_ids_paths_models_and_peft_models_give_the_same_training(update: Update, tmp_path: Path) -> None:
    folder = update.folder
    bases = {version: LlamaForCausalLM.from_pretrained(folder / f"base-v{version}") for version in (1, 2)}
    ways: list[dict[str, Any]] = [
        {},
        {"model": folder / "task-v2", "new_adapter": None, "old_model": folder / "task-v1", "old_adapter": None},
        {"model": bases[2], "old_model": bases[1]},
        {"model": update.load(2), "new_adapter": None, "old_model": update.load(1), "old_adapter": None},
    ]
    weights = []
    for way in ways:
        trainer = trainer_of(update, tmp_path, processing_class=update.tokenizer, **way)
        trainer.train()
        weights.append(weights_of(trainer))
    assert all(largest_difference(weights[0], other) == 0 for other in weights[1:])


@pytest.mark.slow
def test_the_card_knows_ids_and_adapters_however_they_were_given(update: Update, tmp_path: Path) -> None:
    folder = update.folder
    merged = update.load(1).merge_and_unload()
    given = trainer_of(update, tmp_path).lineage
    assert given == Lineage(*(str(folder / name) for name in ("base-v2", "task-v2", "base-v1", "task-v1")))
    alone = trainer_of(update, tmp_path, model=folder / "task-v2", new_adapter=None).lineage
    assert alone == given
    objects = trainer_of(update, tmp_path, old_model=merged, old_adapter=None).lineage
    assert objects.old_adapter is None


def test_an_old_model_without_adapter_is_a_teacher_like_any_other(update: Update, tmp_path: Path) -> None:
    merged = update.load(1).merge_and_unload()
    trainer = trainer_of(update, tmp_path, old_model=merged, old_adapter=None)
    inputs = dict(update.tokenizer(ROWS[0]["prompt"], return_tensors="pt"))
    exact = _logits(update.load(1), ROWS[0]["prompt"], update.tokenizer)
    assert torch.allclose(trainer.old_teacher.logits(inputs), exact, atol=1e-4)


def test_one_base_with_two_adapters_can_be_updated_as_well(update: Update, tmp_path: Path) -> None:
    base = LlamaForCausalLM.from_pretrained(update.folder / "base-v2")
    tiny_adapter(base, 99).save_pretrained(tmp_path / "old")
    path = str(update.folder / "base-v2")
    trainer = trainer_of(update, tmp_path / "out", old_model=path, old_adapter=str(tmp_path / "old"))
    trainer.train()
    assert trainer.state.global_step == 2


# What is refused -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_update_that_is_none_is_refused(update: Update, tmp_path: Path) -> None:
    new = {"old_model": update.arguments["model"], "old_adapter": update.arguments["new_adapter"]}
    with pytest.raises(ModelMismatchError, match="same"):
        trainer_of(update, tmp_path, **new)
    with pytest.raises(ModelMismatchError, match="same logits"):
        trainer_of(update, tmp_path, old_model=update.load(2), old_adapter=None)
    both = update.load(2)
    with pytest.raises(ModelMismatchError, match="same"):
        trainer_of(update, tmp_path, model=both, new_adapter=None, old_model=both, old_adapter=None)


def test_one_base_object_for_both_models_is_refused_before_it_is_changed(update: Update, tmp_path: Path) -> None:
    base = LlamaForCausalLM.from_pretrained(update.folder / "base-v2")
    names = {name for name, _ in base.named_parameters()}
    with pytest.raises(ConfigurationError, match="share one base object"):
        trainer_of(update, tmp_path, model=base, old_model=base)
    assert {name for name, _ in base.named_parameters()} == names


def test_an_adapter_that_does_not_name_its_base_is_not_looked_up_under_none(update: Update, tmp_path: Path) -> None:
    shutil.copytree(update.folder / "task-v1", tmp_path / "nameless")
    path = tmp_path / "nameless" / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | {"base_model_name_or_path": None}
    path.write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ConfigurationError, match="does not name its base"):
        trainer_of(update, tmp_path / "out", old_model=tmp_path / "nameless", old_adapter=None)


def test_an_old_tokenizer_that_is_not_found_is_said(
    update: Update, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    LlamaForCausalLM.from_pretrained(update.folder / "base-v1").save_pretrained(tmp_path / "base")
    with caplog.at_level(logging.WARNING):
        trainer_of(update, tmp_path / "out", old_model=tmp_path / "base")
    assert "only the sizes of the vocabularies are compared" in caplog.text


def test_an_adapter_that_is_not_there_is_named_with_its_option_before_any_model_is_loaded(
    update: Update, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loaded(*_: object, **__: object) -> None:
        pytest.fail("a model was loaded")

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", loaded)
    with pytest.raises(ConfigurationError, match=r"new_adapter='\./missing' cannot be read as an adapter"):
        trainer_of(update, tmp_path, new_adapter="./missing")


@pytest.mark.parametrize("option", ["model_init_kwargs", "old_model_init_kwargs"])
def test_a_misspelt_argument_of_a_model_is_a_trace_of_another_library(
    update: Update, tmp_path: Path, option: str
) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{option}: .* argument 'dtipe'\. Is it misspelt\?$"):
        trainer_of(update, tmp_path, **{option: {"dtipe": "float32"}})


def test_swapped_adapters_are_refused_before_any_model_is_loaded(
    update: Update, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = update.arguments
    with caplog.at_level(logging.WARNING):
        trainer_of(update, tmp_path)
    assert "swapped" not in caplog.text
    for swapped in (
        {"new_adapter": names["old_adapter"], "old_adapter": names["new_adapter"]},
        {"new_adapter": names["old_adapter"]},
        {"old_adapter": names["new_adapter"]},
    ):
        with pytest.raises(ConfigurationError, match="adapter may be swapped"):
            trainer_of(update, tmp_path, **swapped)


def test_an_adapter_of_a_third_base_is_pointed_out(
    update: Update, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # The base may have moved, so this is no error.
    shutil.copytree(update.folder / "base-v2", tmp_path / "moved")
    with caplog.at_level(logging.WARNING):
        trainer_of(update, tmp_path / "out", model=str(tmp_path / "moved"))
    assert "may be swapped" in caplog.text


def test_a_tokenizer_that_is_nowhere_is_asked_for(update: Update, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="pass it as processing_class"):
        nameless = tiny_adapter(tiny_llama(2, update.tokenizer, hidden_size=16, layers=1), 3)
        trainer_of(update, tmp_path / "out", model=nameless, new_adapter=None)


def test_vocabularies_of_two_sizes_are_refused(update: Update, tmp_path: Path) -> None:
    other = tiny_llama(1, tiny_tokenizer(vocabulary_size=300), hidden_size=16, layers=1)
    with pytest.raises(ModelMismatchError, match=r"embeddings.*same tokenizer"):
        trainer_of(update, tmp_path, old_model=tiny_adapter(other, 3), old_adapter=None)


def test_vocabularies_of_one_size_with_other_tokens_are_refused(update: Update, tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(["zebra crossing the quiet boulevard", "quartz boulders quench quarrels"])
    assert len(tokenizer) <= len(update.tokenizer)
    base = LlamaForCausalLM.from_pretrained(update.folder / "base-v1")
    base.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    with pytest.raises(ModelMismatchError, match=r"tokenizers differ in \d+ tokens"):
        trainer_of(update, tmp_path / "out", old_model=str(tmp_path / "base"))


def test_a_low_rank_adapter_on_an_lm_head_of_its_own_is_refused(tmp_path: Path) -> None:
    update = make_update(tmp_path, tie_word_embeddings=False, target_modules=["q_proj", "lm_head"])
    with pytest.raises(UnsupportedAdapterError, match=r"modules_to_save.*ensure_weight_tying"):
        trainer_of(update, tmp_path / "out")


def test_prompt_learning_adapters_are_refused(update: Update, tmp_path: Path) -> None:
    def prompt_tuned(version: int) -> PeftModel:
        base = LlamaForCausalLM.from_pretrained(update.folder / f"base-v{version}")
        return get_peft_model(base, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4))

    with pytest.raises(UnsupportedAdapterError, match="virtual tokens"):
        trainer_of(update, tmp_path, model=prompt_tuned(2), new_adapter=None)
    with pytest.raises(UnsupportedAdapterError, match="virtual tokens"):
        trainer_of(update, tmp_path, old_model=prompt_tuned(1), old_adapter=None)
    prompt_tuned(2).save_pretrained(tmp_path / "prompt")
    with pytest.raises(UnsupportedAdapterError, match="virtual tokens"):
        trainer_of(update, tmp_path, new_adapter=tmp_path / "prompt")


@pytest.mark.slow
def test_a_data_set_without_trainable_tokens_is_refused(update: Update, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no rows"):
        trainer_of(update, tmp_path, rows=[])
    with pytest.raises(InputError, match="missing"):
        CompatibilityTrainer(**update.arguments, args=config_of(tmp_path))
    with pytest.raises(InputError, match="stream without rows"):
        stream = IterableDataset.from_generator(lambda: iter(()))
        CompatibilityTrainer(**update.arguments, args=config_of(tmp_path), train_dataset=stream)
    with pytest.raises(InputError, match="no token to train on"):
        trainer_of(update, tmp_path, completion_only_loss=True, max_length=4)
    masked = [{"input_ids": [5, 6, 7], "labels": [-100, -100, -100]}]
    with pytest.raises(InputError, match="no token to train on"):
        trainer_of(update, tmp_path, rows=masked)
    # The first token of a row has no position that predicts it.
    with pytest.raises(InputError, match="no token to train on"):
        trainer_of(update, tmp_path, rows=[{"input_ids": [5, 6, 7], "labels": [5, -100, -100]}])


@pytest.mark.parametrize("packing", [False, True])
def test_rows_that_truncation_shortens_are_counted_in_a_warning(
    update: Update, tmp_path: Path, caplog: pytest.LogCaptureFixture, packing: bool
) -> None:
    long = {"prompt": "a long prompt " * 20, "completion": "lost"}
    with caplog.at_level(logging.WARNING):
        # Packing puts the longest row first; that nothing of it is trained on must not be blamed on the models.
        trainer_of(update, tmp_path, rows=[*ROWS[:3], long], completion_only_loss=True, max_length=60, packing=packing)
    assert "1 of 4 rows of the train set are longer than max_length=60 and lose their ends" in caplog.text
    assert "1 of 4 rows of the train set have no token to train on" in caplog.text


def test_a_row_without_labels_is_not_blamed_on_truncation(
    update: Update, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{"input_ids": [5, 6, 7], "labels": labels} for labels in ([-100, -100, -100], [5, -100, -100], [5, 6, 7])]
    with caplog.at_level(logging.WARNING):
        trainer_of(update, tmp_path, rows=rows).train()
    assert "2 of 3 rows of the train set have no token to train on" in caplog.text
    assert "longer" not in caplog.text


@pytest.mark.parametrize("version", [1, 2])
def test_a_teacher_with_nan_is_refused_before_training(update: Update, tmp_path: Path, version: int) -> None:
    broken = update.load(version)
    with torch.no_grad():
        next(weight for name, weight in broken.named_parameters() if "lora_A" in name).fill_(math.nan)
    names = {1: ("old_model", "old_adapter", "old"), 2: ("model", "new_adapter", "new")}[version]
    with pytest.raises(TeacherError, match=f"{names[2]} model gives NaN"):
        trainer_of(update, tmp_path, processing_class=update.tokenizer, **{names[0]: broken, names[1]: None})


@pytest.mark.slow
@pytest.mark.parametrize("mask", sorted(MASKS))
def test_a_teacher_that_turns_to_nan_in_training_stops_it(update: Update, tmp_path: Path, mask: str) -> None:
    # A comparison with NaN is False, so most masks would leave such a teacher aside without a word.
    trainer = trainer_of(update, tmp_path, mask=mask)
    with torch.no_grad():
        trainer.old_teacher.model.get_input_embeddings().weight.fill_(math.nan)
    with pytest.raises(TeacherError, match="old model gives NaN"):
        trainer.train()


def test_an_adapter_on_top_of_an_adapter_or_none_at_all_is_refused(update: Update, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="already carries an adapter"):
        trainer_of(update, tmp_path, model=update.load(2), processing_class=update.tokenizer)
    with pytest.raises(ConfigurationError, match="new_adapter is not given"):
        trainer_of(update, tmp_path, new_adapter=None)
    with pytest.raises(ConfigurationError, match="without adapter"):
        trainer_of(update, tmp_path, model=tiny_llama(2, update.tokenizer), new_adapter=None)
    with pytest.raises(ConfigurationError, match="is itself an adapter"):
        trainer_of(update, tmp_path, model=update.folder / "task-v2")
    injected = LlamaForCausalLM.from_pretrained(update.folder / "task-v2")
    with pytest.raises(ConfigurationError, match="transformers has put an adapter"):
        trainer_of(update, tmp_path, model=injected)
    base = LlamaForCausalLM.from_pretrained(update.folder / "base-v2")
    named = PeftModel.from_pretrained(base, update.folder / "task-v2", adapter_name="task")
    with pytest.raises(ConfigurationError, match="under the name 'task'"):
        trainer_of(update, tmp_path, model=named, new_adapter=None)
    two = update.load(2)
    two.add_adapter("second", LoraConfig(r=2, target_modules="all-linear"))
    with pytest.raises(ConfigurationError, match="second"):
        trainer_of(update, tmp_path, model=two, new_adapter=None, processing_class=update.tokenizer)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mask": "student_wrng"}, "student_wrong"),
        ({"cross_entropy_weight": 1.0}, "SFTTrainer"),
        ({"loss_type": "dft"}, "would be ignored"),
        ({"label_smoothing_factor": 0.1}, "would be ignored"),
    ],
)
def test_options_without_an_effect_are_refused_by_the_config(
    tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        config_of(tmp_path, **options)


def test_the_defaults_are_the_papers(tmp_path: Path) -> None:
    config = CompatibilityConfig(str(tmp_path), bf16=False, use_cpu=True, report_to="none")
    assert (config.mask, config.divergence, config.temperature) == ("student_wrong", "forward_kl", 2.0)
    assert (config.scale_by_temperature_squared, config.cross_entropy_weight) == (False, 0.0)
    assert (config.learning_rate, config.weight_decay, config.completion_only_loss) == (1e-4, 0.0, False)
    assert json.dumps(copy.deepcopy(config).to_dict())


@pytest.mark.slow
def test_a_trainer_without_a_config_does_not_train_on_a_cpu(
    update: Update, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    trainer = CompatibilityTrainer(**update.arguments, train_dataset=Dataset.from_list(ROWS))
    trainer.train()
    trainer.save_model()
    assert trainer.state.global_step == 6
    assert (tmp_path / "compatibility-adapter" / "adapter_model.safetensors").is_file()
    assert CompatibilityConfig("out", report_to="none").output_dir == "out"
