"""What single rows teach: weights of their own, answers of the old model to unlabelled prompts, all parameters."""

import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset, IterableDataset
from tiny_updates import ROWS, Update, largest_difference, make_update, trainer_of, weights_of
from transformers import LlamaForCausalLM

from muscle_hf import CompatibilityTrainer, ConfigurationError, InputError
from muscle_hf.losses.divergences import forward_kl
from muscle_hf.losses.masks import Scores

LOG = [
    {"prompt": f"how much is on account {number}?\n", "completion": "balance please" if number % 2 else "transfer"}
    for number in range(5)
]


@pytest.fixture(scope="module")
def update(tmp_path_factory: pytest.TempPathFactory) -> Update:
    return make_update(tmp_path_factory.mktemp("update"))


def _loss(trainer: CompatibilityTrainer, rows: list[int]) -> float:
    batch = trainer._prepare_inputs(trainer.data_collator([trainer.train_dataset[row] for row in rows]))
    with torch.no_grad():
        return trainer.compute_loss(trainer.model, batch, num_items_in_batch=torch.tensor(100)).item()


@pytest.mark.slow
@pytest.mark.parametrize("implementation", ["plain", "chunked"])
@pytest.mark.parametrize("packing", [False, True])
def test_a_weight_multiplies_the_loss_of_its_row_alone(
    update: Update, tmp_path: Path, implementation: str, packing: bool
) -> None:
    weights = [0.5, 2.0, *[1.0] * 10]
    rows = [row | {"importance": weight} for row, weight in zip(ROWS, weights, strict=True)]
    options = {"loss_implementation": implementation, "cross_entropy_weight": 0.3}
    if packing:
        options |= {"packing": True, "max_length": 4096}
    weighted = trainer_of(update, tmp_path / "weighted", rows=rows, weight_column="importance", **options)
    plain = trainer_of(update, tmp_path / "plain", loss_implementation=implementation, cross_entropy_weight=0.3)
    expected = sum(weight * _loss(plain, [row]) for row, weight in enumerate(weights))
    pieces = [0] if packing else range(12)
    assert sum(_loss(weighted, [piece]) for piece in pieces) == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_the_weights_of_a_truncated_row_stay_with_its_tokens(update: Update, tmp_path: Path) -> None:
    rows = [row | {"importance": 3.0} for row in ROWS]
    weighted = trainer_of(update, tmp_path / "weighted", rows=rows, weight_column="importance", max_length=9)
    assert weighted.card().training["weights of rows"] == "column importance"
    plain = trainer_of(update, tmp_path / "plain", max_length=9)
    assert "weights of rows" not in plain.card().training
    assert _loss(weighted, [0, 1]) == pytest.approx(3 * _loss(plain, [0, 1]), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("column", "words"),
    [
        ([1.0] * 11 + [-1.0], "row 11 .* weight -1.0"),
        ([1.0] * 11 + [math.nan], "row 11 .* weight nan"),
        ([0.0] * 12, "every weight in 'importance' is 0"),
        (None, "is no column of train_dataset"),
    ],
    ids=["negative", "nan", "zero", "missing"],
)
def test_weights_without_a_meaning_are_refused(update: Update, tmp_path: Path, column: Any, words: str) -> None:
    rows = ROWS if column is None else [row | {"importance": one} for row, one in zip(ROWS, column, strict=True)]
    with pytest.raises(InputError, match=words):
        trainer_of(update, tmp_path, rows=rows, weight_column="importance")


@pytest.mark.slow
def test_a_log_of_the_old_model_is_learned_from_the_old_model(update: Update, tmp_path: Path) -> None:
    # The mask sends no token to the old model, so whatever learns from it is unlabelled.
    def nothing(scores: Scores) -> torch.Tensor:
        return torch.zeros_like(scores.gold, dtype=torch.bool)

    trainer = trainer_of(update, tmp_path, unlabelled_dataset=Dataset.from_list(LOG), mask=nothing)
    assert len(trainer.train_dataset) == len(ROWS) + len(LOG)
    batch = trainer._prepare_inputs(trainer.data_collator([trainer.train_dataset[row] for row in (0, 13)]))
    result, _ = trainer.teachers.loss(trainer.model, batch, normalizer=None, needs_logits=False)
    labels = batch["labels"][1, 1:]
    trained = labels != -100
    assert result.tokens_to_old == trained.sum()
    inputs = {"input_ids": batch["input_ids"][1:], "attention_mask": batch["attention_mask"][1:]}
    with torch.no_grad():
        old, new = update.load(1)(**inputs).logits[0, :-1], update.load(2)(**inputs).logits[0, :-1]
    assert result.divergence_to_old.item() == pytest.approx(forward_kl(old, new, 2.0)[trained].sum().item(), rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"teacher_cache": "hidden"}, {"packing": True, "max_length": 60}])
def test_unlabelled_rows_train_with_a_cache_and_packed(
    update: Update, tmp_path: Path, options: dict[str, Any]
) -> None:
    trainer = trainer_of(
        update, tmp_path, unlabelled_dataset=Dataset.from_list(LOG), unlabelled_ratio=1.5, seed=3, **options
    )
    if not options.get("packing"):
        assert len(trainer.train_dataset) == len(ROWS) + 18
    before = weights_of(trainer)
    trainer.train()
    assert largest_difference(before, weights_of(trainer)) > 1e-3


@pytest.mark.parametrize("option", [{"unlabelled_ratio": 2.0}, {"preset": "product", "product_temperatures": [1, 1]}])
def test_options_of_unlabelled_prompts_are_not_ignored_without_any(
    update: Update, tmp_path: Path, option: dict[str, Any]
) -> None:
    name, value = next(iter(option.items()))
    with pytest.raises(ConfigurationError, match=re.escape(f"{name}={value!r} would be ignored")):
        trainer_of(update, tmp_path, **option)


def test_a_labelled_stream_cannot_be_mixed(update: Update, tmp_path: Path) -> None:
    stream = IterableDataset.from_generator(lambda: iter(ROWS))
    with pytest.raises(ConfigurationError, match="unlabelled_dataset needs data that are read in one order"):
        trainer_of(update, tmp_path, train_dataset=stream, unlabelled_dataset=Dataset.from_list(LOG))


@pytest.mark.slow
def test_a_wider_student_starts_as_the_new_model_and_is_saved_wide(update: Update, tmp_path: Path) -> None:
    trainer = trainer_of(update, tmp_path / "out", student_rank=16, mask="none", teacher="new", max_steps=1)
    batch = trainer._prepare_inputs(trainer.data_collator([trainer.train_dataset[0]]))
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        assert torch.allclose(trainer.model(**inputs).logits, update.load(2)(**inputs).logits, atol=1e-5)
    trainer.train()
    trainer.save_model()
    assert '"r": 16' in (tmp_path / "out" / "adapter_config.json").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_full_fine_tune_trains_every_weight_and_keeps_a_copy_as_teacher(update: Update, tmp_path: Path) -> None:
    merged = {version: update.load(version).merge_and_unload() for version in (1, 2)}
    for version, model in merged.items():
        model.save_pretrained(tmp_path / f"full-v{version}")
        update.tokenizer.save_pretrained(tmp_path / f"full-v{version}")
    paths = {"model": str(tmp_path / "full-v2"), "old_model": str(tmp_path / "full-v1")}
    nothing = {"new_adapter": None, "old_adapter": None}
    trainer = trainer_of(update, tmp_path / "out", full_fine_tune=True, mask="none", **paths | nothing)
    trainer.train()
    trainer.save_model()
    saved = LlamaForCausalLM.from_pretrained(tmp_path / "out")
    inputs = dict(update.tokenizer(ROWS[0]["prompt"], return_tensors="pt"))
    with torch.no_grad():
        after, before = saved(**inputs).logits, merged[2](**inputs).logits
    assert (after - before).abs().max() > 1e-3
    assert torch.allclose(trainer.new_teacher.logits(inputs), before, atol=1e-5)
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "library_name: transformers" in card


def test_a_plain_base_is_not_taken_for_a_fine_tuned_model(update: Update, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="full_fine_tune"):
        trainer_of(update, tmp_path, new_adapter=None)


def test_an_adapter_is_not_trained_as_a_full_fine_tune(update: Update, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="full_fine_tune=True, but the new model has an adapter"):
        trainer_of(update, tmp_path, full_fine_tune=True)


def test_two_masks_are_refused(update: Update, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="beside a mask of your own"):
        CompatibilityTrainer(
            **update.arguments,
            train_dataset=Dataset.from_list(ROWS),
            args=trainer_of(update, tmp_path, mask=lambda scores: scores.old.right).args.__class__(
                output_dir=str(tmp_path), mask="old_right", bf16=False, use_cpu=True
            ),
            mask=lambda scores: scores.old.right,
        )


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["wrapped", "bfd_split"])
def test_packing_that_keeps_ends_keeps_them_with_weights_too(update: Update, tmp_path: Path, strategy: str) -> None:
    rows = [row | {"importance": 1.0} for row in ROWS]
    options = {"packing": True, "max_length": 9, "packing_strategy": strategy}
    plain = trainer_of(update, tmp_path / "plain", **options)
    weighted = trainer_of(update, tmp_path / "weighted", rows=rows, weight_column="importance", **options)
    kept = [sum(map(len, trainer.train_dataset["input_ids"])) for trainer in (plain, weighted)]
    assert kept[0] == kept[1] > 9 * len(rows)


def test_columns_with_our_names_are_not_taken_for_ours(update: Update, tmp_path: Path) -> None:
    rows = [row | {"token_weights": 2.0} for row in ROWS]
    with pytest.raises(InputError, match=r"columns \['token_weights'\]"):
        trainer_of(update, tmp_path, rows=rows)


@pytest.mark.slow
def test_a_collator_that_pads_on_the_left_cannot_shift_weights(update: Update, tmp_path: Path) -> None:
    class LeftPadding:
        def __call__(self, examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
            width = max(len(one["input_ids"]) for one in examples)
            ids, labels = (
                torch.tensor([[filler] * (width - len(one[name])) + one[name] for one in examples])
                for name, filler in (("input_ids", 0), ("labels", -100))
            )
            return {"input_ids": ids, "labels": labels, "attention_mask": (ids != 0).long()}

    rows = [row | {"importance": 1.0} for row in ROWS]
    trainer = trainer_of(update, tmp_path, rows=rows, weight_column="importance", data_collator=LeftPadding())
    with pytest.raises(ConfigurationError, match="Pad on the right"):
        trainer.train()


@pytest.mark.parametrize("option", [{"weight_column": "importance"}, {"teacher_cache": "topk"}])
def test_rows_that_are_not_prepared_do_not_lose_an_option_in_silence(
    update: Update, tmp_path: Path, option: dict[str, Any]
) -> None:
    with pytest.raises(ConfigurationError, match="skip_prepare_dataset"):
        trainer_of(update, tmp_path, dataset_kwargs={"skip_prepare_dataset": True}, **option)


@pytest.mark.slow
def test_an_adapter_on_tied_embeddings_with_dropout_is_trained_in_slices(tmp_path: Path) -> None:
    update = make_update(
        tmp_path, target_modules=["q_proj", "embed_tokens"], ensure_weight_tying=True, lora_dropout=0.3
    )
    trainer_of(update, tmp_path / "out", loss_implementation="chunked").train()


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"prompt": "a"}], "no completion"),
        ([{"prompt": "a", "completion": "b"}, {"prompt": "a", "completion": None}], "row 1: completion is None"),
        ([{"text": 3}], "row 0: text is 3"),
    ],
)
def test_a_row_that_is_not_whole_is_named_before_a_model_is_loaded(
    update: Update, tmp_path: Path, rows: list[dict[str, Any]], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        trainer_of(update, tmp_path, rows=rows, model="no/such-model")


CHAT = [{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]}]
SHAREGPT = [{"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "yes"}]}]
ALPACA = [{"instruction": "say", "input": "yes", "output": "yes"}]


@pytest.mark.parametrize(
    ("train", "words"),
    [
        (
            ALPACA,
            r"train_dataset has the columns \['input', 'instruction', 'output'\]. It needs prompt and completion",
        ),
        ([{"question": "a", "answer": "b"}], "Rename yours"),
        (SHAREGPT, "a turn is from 'human'"),
        ({"train": ROWS}, r"holds the splits train; pass one of them"),
        ("org/data", r"a str; a datasets.Dataset is needed: write load_dataset\(name"),
        (ROWS, r"a list; a datasets.Dataset is needed: write Dataset.from_list\(rows\)"),
    ],
)
def test_rows_of_another_layout_are_a_key_error_of_a_library(
    update: Update, tmp_path: Path, train: Any, words: str
) -> None:
    is_table = isinstance(train, list) and train is not ROWS
    with pytest.raises(InputError, match=words):
        trainer_of(
            update, tmp_path, train_dataset=Dataset.from_list(train) if is_table else train, model="no/such-model"
        )


def test_an_evaluation_set_of_another_layout_is_named(update: Update, tmp_path: Path) -> None:
    other = {"good": Dataset.from_list(ROWS), "bad": Dataset.from_list(ALPACA)}
    with pytest.raises(InputError, match=r"eval_dataset\['bad'\] has the columns"):
        trainer_of(update, tmp_path, eval_dataset=other, model="no/such-model")
    with pytest.raises(InputError, match="eval_dataset is a list"):
        trainer_of(update, tmp_path, eval_dataset=ROWS, model="no/such-model")


@pytest.mark.parametrize(
    ("rows", "options", "words"),
    [
        (CHAT, {}, "train_dataset holds conversations, and the tokenizer has no chat template"),
        (CHAT, {"assistant_only_loss": True}, "assistant_only_loss=True needs a chat template"),
        (ROWS, {"assistant_only_loss": True}, "assistant_only_loss=True is for conversations"),
    ],
)
def test_a_missing_chat_template_is_a_type_error_of_a_library(
    update: Update, tmp_path: Path, rows: list[Any], options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        trainer_of(update, tmp_path, rows=rows, **options)


def test_a_formatting_function_of_batches_is_refused_and_one_of_rows_is_not(update: Update, tmp_path: Path) -> None:
    rows = Dataset.from_list(ALPACA * 4)
    with pytest.raises(ConfigurationError, match="formatting_func gives a list for the first row of train_dataset"):
        trainer_of(update, tmp_path, train_dataset=rows, formatting_func=lambda row: [row["output"]])
    trainer = trainer_of(update, tmp_path, train_dataset=rows, formatting_func=lambda row: row["output"])
    assert len(trainer.train_dataset) == 4


def test_the_completions_of_a_conversation_are_not_the_whole_of_it_without_a_word(
    update: Update, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer_of(update, tmp_path, rows=[{"text": "say yes"}] * 4, completion_only_loss=True)
    assert "completion_only_loss=True does nothing for train_dataset" in caplog.text


@pytest.mark.parametrize("option", ["model", "old_model", "new_adapter", "old_adapter"])
@pytest.mark.parametrize("name", ["./nowhere", "folder"])
def test_a_wrong_path_does_not_name_its_argument(update: Update, tmp_path: Path, option: str, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigurationError, match=f"^{option}=.*{name}") as caught:
        trainer_of(update, tmp_path, **{option: name if name == "./nowhere" else str(tmp_path / name)})
    assert "\n" not in str(caught.value)


def test_a_wrong_base_of_an_adapter_is_told_without_the_adapter(update: Update, tmp_path: Path) -> None:
    shutil.copytree(update.folder / "task-v2", tmp_path / "adapter")
    config = tmp_path / "adapter" / "adapter_config.json"
    named = json.loads(config.read_text(encoding="utf-8")) | {"base_model_name_or_path": "./nowhere"}
    config.write_text(json.dumps(named), encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"^model=.*adapter' is an adapter on './nowhere', which cannot be"):
        trainer_of(update, tmp_path, model=str(tmp_path / "adapter"), new_adapter=None)


def test_a_list_is_no_data_set(update: Update, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a list"):
        trainer_of(update, tmp_path, train_dataset=ROWS)


@pytest.mark.parametrize("option", [{"unlabelled_ratio": "1.0"}, {"temperature": "2"}, {"focal_beta": True}])
def test_a_number_that_is_none_is_refused_by_name(update: Update, tmp_path: Path, option: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(option))):
        trainer_of(update, tmp_path, **option)


@pytest.mark.slow
def test_an_old_model_without_its_adapter_is_pointed_out(
    update: Update, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer_of(update, tmp_path)
    assert "old_adapter is not given" not in caplog.text
    trainer_of(update, tmp_path, old_adapter=None)
    assert "old_adapter is not given" in caplog.text


@pytest.mark.slow
def test_an_evaluation_of_no_whole_batch_is_refused_and_one_without_its_last_is_warned_of(
    update: Update, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options: dict[str, Any] = {"eval_dataset": Dataset.from_list(ROWS[:5]), "dataloader_drop_last": True}
    with pytest.raises(ConfigurationError, match="5 rows are less than one batch of 8"):
        trainer_of(update, tmp_path, **options, per_device_eval_batch_size=8)
    trainer_of(update, tmp_path, **options, per_device_eval_batch_size=5)
    assert "out of evaluations" not in caplog.text
    trainer_of(update, tmp_path, **options, per_device_eval_batch_size=2)
    assert "leaves the last 1 of 5 rows out of evaluations too" in caplog.text
