"""The contrastive term trains encoder-decoders, resumes as it was, leaves nothing in what is saved, and is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from tiny_models import tiny_llama, tiny_tokenizer
from tiny_seq2seq import tiny_seq2seq, tiny_seq2seq_adapter

from muscle_hf import (
    CompatibilityConfig,
    CompatibilitySeq2SeqConfig,
    CompatibilitySeq2SeqTrainer,
    ConfigurationError,
    InputError,
)
from muscle_hf.losses.contrastive import States, contrastive_loss
from muscle_hf.models.hidden_states import project
from muscle_hf.seq2seq.contrast import Contrast, encoded_flips

TOKENIZER = tiny_tokenizer()
ROWS = [{"prompt": f"transfer {number} dollars", "completion": f"{number} savings"} for number in range(4)]
FLIPS = [
    row | {"rejected": "checking" if number == 1 else None, "chosen": "Spanish" if number == 1 else None}
    for number, row in enumerate(ROWS)
]


def config(folder: Path, **options: Any) -> CompatibilitySeq2SeqConfig:
    return CompatibilitySeq2SeqConfig(
        output_dir=str(folder),
        **{"use_cpu": True, "report_to": "none", "per_device_train_batch_size": 2, "max_steps": 2, "logging_steps": 1,
           "disable_tqdm": True, "contrastive_weight": 0.5, "learning_rate": 1e-2, "save_strategy": "no"} | options,
    )  # fmt: skip


def trainer(folder: Path, rows: Any = ROWS, kind: str = "t5", **options: Any) -> Any:
    more = {name: options.pop(name) for name in ("optimizers",) if name in options}
    old, new = (
        tiny_seq2seq_adapter(tiny_seq2seq(kind, seed, TOKENIZER), seed, target_modules="all-linear") for seed in (1, 2)
    )
    train = Dataset.from_list(rows) if isinstance(rows, list) else rows
    return CompatibilitySeq2SeqTrainer(
        new, old, args=config(folder, **options), train_dataset=train, processing_class=TOKENIZER,
        **more,
    )  # fmt: skip


def batch_of(made: Any, numbers: tuple[int, ...]) -> Any:
    return made.data_collator([made.train_dataset[number] for number in numbers])


@pytest.mark.parametrize("kind", ["t5", "bart"])
@pytest.mark.parametrize("implementation", ["plain", "chunked"])
def test_the_contrast_is_added_to_the_loss_with_its_weight(tmp_path: Path, kind: str, implementation: str) -> None:
    made = trainer(tmp_path, kind=kind, loss_implementation=implementation)
    batch = batch_of(made, (0, 1))
    model = made.model.train()
    with torch.no_grad():
        loss = made.compute_loss(model, dict(batch))
        weight, made.args.contrastive_weight = made.args.contrastive_weight, 0.0
        model.eval()  # evaluations are of the compatibility loss alone
        without = made.compute_loss(model, dict(batch))
    made.args.contrastive_weight = weight
    asked = {name: batch[name] for name in ("input_ids", "attention_mask", "decoder_input_ids")}
    outputs = model(**asked, output_hidden_states=True)
    states = outputs.decoder_hidden_states[-1]
    if kind == "t5":  # as its head takes them
        states = states * 16**-0.5
    torch.testing.assert_close(project(model, states), outputs.logits)
    expected = contrastive_loss(
        States(outputs.encoder_last_hidden_state, batch["attention_mask"].bool()),
        States(states, batch["labels"] != -100),
        batch["labels"],
        projection=made.contrast.projection,
        head=lambda values: project(model, values),
    ).mean()
    torch.testing.assert_close(loss - without, 0.5 * expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_texts_of_flips_are_read_by_the_decoder_in_their_rows_alone(tmp_path: Path, kind: str) -> None:
    made = trainer(tmp_path, FLIPS, kind, contrast_flips=True)
    batch = batch_of(made, (0, 1))
    labels = batch["rejected_labels"]
    assert labels[0].tolist() == [-100] * len(labels[0])
    assert TOKENIZER.decode(labels[1][labels[1] != -100]) == "checking</s>"
    assert TOKENIZER.decode(batch["chosen_labels"][1]) == "Spanish</s>"
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "decoder_input_ids")}
    outputs = made.model(**inputs)
    states = made.contrast._states(outputs.encoder_last_hidden_state, batch, labels)
    assert not states.values[0].any()
    read = made.model.prepare_decoder_input_ids_from_labels(labels[1:])
    alone = made.model(**{name: inputs[name][1:] for name in ("input_ids", "attention_mask")}, decoder_input_ids=read)
    torch.testing.assert_close(project(made.model, states.values[1:]), alone.logits, rtol=1e-4, atol=1e-4)
    made.train()


def test_a_training_trains_the_projection_logs_the_loss_and_saves_none_of_it(tmp_path: Path) -> None:
    made = trainer(tmp_path)
    before = made.contrast.projection.linear.weight.clone()
    made.train()
    assert not torch.equal(made.contrast.projection.linear.weight, before)
    assert all(log["contrastive_loss"] > 0 for log in made.state.log_history[:2])
    made.save_model(str(tmp_path / "saved"))
    assert not list((tmp_path / "saved").glob("*projection*"))
    assert not [name for name in made.model.state_dict() if "projection" in name]


def test_a_training_that_is_gone_on_with_comes_to_the_same_weights(tmp_path: Path) -> None:
    whole = trainer(tmp_path / "whole", max_steps=4, save_strategy="steps", save_steps=2)
    whole.train()
    again = trainer(tmp_path / "again", max_steps=4, save_strategy="steps", save_steps=2)
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    assert torch.equal(whole.contrast.projection.linear.weight, again.contrast.projection.linear.weight)
    ended = again.model.state_dict()
    assert all(torch.equal(weight, ended[name]) for name, weight in whole.model.state_dict().items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"contrastive_weight": 0.0}, "contrastive_weight 0.5 there, 0.0 now"),
        ({"positive_perturbation": 2.0}, "positive_perturbation 3.0 there, 2.0 now"),
        ({"max_completion_length": 1}, "max_completion_length"),
    ],
)
def test_a_training_is_not_gone_on_with_as_another_one(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    trainer(tmp_path, save_strategy="steps", save_steps=1).train()
    with pytest.raises(ConfigurationError, match=message):
        trainer(tmp_path, **options).train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))


def test_flips_of_a_stream_are_refused_as_streams_are(tmp_path: Path) -> None:
    stream = Dataset.from_list(FLIPS).to_iterable_dataset().map(lambda row: row)
    with pytest.raises(InputError, match="stream"):
        trainer(tmp_path, stream, contrast_flips=True)


def test_a_checkpoint_without_a_projection_is_not_gone_on_from(tmp_path: Path) -> None:
    made = trainer(tmp_path)
    with pytest.raises(InputError, match="no projection of a contrastive loss"):
        made.contrast.take_up(tmp_path)


def test_accumulated_batches_count_as_their_tokens_do(tmp_path: Path) -> None:
    made = trainer(tmp_path)
    model, batch = made.model.train(), batch_of(made, (0, 1))
    count = int((batch["labels"] != -100).sum())
    with torch.no_grad():
        alone, half = (made.compute_loss(model, dict(batch), num_items_in_batch=n) for n in (count, 2 * count))
    torch.testing.assert_close(half, alone / 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"contrastive_weight": -1.0}, "must be a number of 0 or more"),
        ({"contrastive_temperature": 0.0}, "must be a number above 0"),
        ({"negative_perturbation": float("inf")}, "must be a number above 0"),
        ({"contrastive_weight": 0.0, "contrastive_temperature": 0.2}, "contrastive_temperature=0.2 would be ignored"),
        ({"contrastive_weight": 0.0, "positive_perturbation": 2.0}, "positive_perturbation=2.0 would be ignored"),
        ({"contrastive_weight": 0.0, "contrast_flips": True}, "contrast_flips=True would be ignored"),
        ({"cross_entropy_weight": 0.5, "log_gradient_cosine": True}, "would be a third"),
        # No advice on a weight, which would be refused in turn.
        ({"gradient_conflict": "project_both"}, "would be a third"),
    ],
)
def test_options_that_cannot_be_or_would_be_ignored_are_refused(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        config(tmp_path, **options)


@pytest.mark.parametrize(
    ("rows", "options", "error", "message"),
    [
        (ROWS, {"per_device_train_batch_size": 1}, ConfigurationError, "Batches of 1 have no other target"),
        (ROWS, {"per_device_train_batch_size": 3}, ConfigurationError, "4 rows leave one for the last batch of 3"),
        (
            ROWS,
            {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": True}},
            ConfigurationError,
            "reentrant checkpointing",
        ),
        (ROWS[:1], {}, ConfigurationError, "The train set has one row, and contrastive_weight compares several"),
        (
            [row | {"rejected": "a text", "chosen": "a text"} for row in ROWS],
            {"contrast_flips": True},
            InputError,
            "Row 0 of the train set: rejected and chosen are one text",
        ),
        (
            [row | {"rejected": row["completion"]} for row in ROWS],
            {"contrast_flips": True},
            InputError,
            "Row 0 of the train set: rejected is the completion itself",
        ),
        (
            [row | {"chosen": 3} for row in ROWS],
            {"contrast_flips": True},
            InputError,
            "Row 0 of the train set: chosen is of the kind int, and the completion of the kind str",
        ),
        (
            FLIPS,
            {"contrast_flips": True, "max_completion_length": 1},
            InputError,
            "the text of rejected has .* 1 at most",
        ),
        (ROWS, {"contrast_flips": True}, InputError, "needs the columns prompt, completion and rejected"),
        (
            [row | {"rejected": None, "chosen": row["completion"]} for row in ROWS],
            {"contrast_flips": True},
            InputError,
            "contrast_flips would be ignored: no row",
        ),
        (
            [{"input_ids": [5, 6], "labels": labels} for labels in ([7], [-100])],
            {},
            InputError,
            "Row 1 of the train set has no token to train on",
        ),
        (
            ROWS,
            {"optimizers": (torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0), None)},
            ConfigurationError,
            "An optimizer of your own",
        ),
    ],
)
def test_a_training_that_the_contrast_does_not_go_with_is_refused_before_it_starts(
    tmp_path: Path, rows: list[dict[str, Any]], options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        trainer(tmp_path, rows, **options)


def test_decoders_alone_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="contrastive_weight"):
        CompatibilityConfig(output_dir=str(tmp_path), contrastive_weight=1.0)
    with pytest.raises(ConfigurationError, match="no encoder and decoder of one width"):
        Contrast(tiny_llama(1, TOKENIZER), config(tmp_path), seed=0)


def test_a_right_text_that_is_the_target_adds_nothing() -> None:
    rows = Dataset.from_list([FLIPS[1], FLIPS[1] | {"chosen": FLIPS[1]["completion"]}])
    encoded = encoded_flips(rows, TOKENIZER)
    assert [bool(row) for row in encoded["chosen_labels"]] == [True, False]
    assert all(encoded["rejected_labels"])
