"""`CompatibilitySeq2SeqTrainer` on tiny T5 and BART models: what it trains, what it saves, and what it refuses."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from tiny_models import tiny_adapter, tiny_llama
from tiny_seq2seq import tiny_seq2seq, tiny_seq2seq_adapter
from tiny_seq2seq_updates import ROWS, TOKENIZER, config_of, model_of, trainer_of

from muscle_hf import (
    CompatibilityConfig,
    CompatibilitySeq2SeqTrainer,
    CompatibilityTrainer,
    ConfigurationError,
    InputError,
    ModelMismatchError,
    generate_answers,
    load_adapter,
)
from muscle_hf.losses.compatibility import compatibility_loss
from muscle_hf.models.hidden_states import last_hidden_states, project

KINDS = ("t5", "bart")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def batch_of(trainer: CompatibilitySeq2SeqTrainer) -> dict[str, torch.Tensor]:
    """Half of the labels are what the student says, so that it is right there."""
    batch = trainer._batch_of(list(trainer.train_dataset))
    labels = batch["labels"]
    with torch.no_grad():
        best = trainer.model(**{name: batch[name] for name in NAMES}).logits.argmax(-1)
    places = torch.arange(labels.shape[1]) % 2 == 0
    batch["labels"] = torch.where((labels != -100) & places, best, labels)
    return batch


def moved(trainer: CompatibilitySeq2SeqTrainer) -> None:
    """Move the student away from the new model."""
    with torch.no_grad():
        for name, weight in trainer.model.named_parameters():
            if weight.requires_grad and weight.dim() > 1 and "shared" not in name and "embed" not in name:
                weight.mul_(0.7)


NAMES = ("input_ids", "attention_mask", "decoder_input_ids")


@pytest.mark.parametrize("adapter", [True, False], ids=["lora", "full"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_that_of_three_models_asked_one_by_one(kind: str, adapter: bool, tmp_path: Path) -> None:
    options = {"mask": "student_wrong", "temperature": 1.5, "cross_entropy_weight": 0.25}
    trainer = trainer_of(kind, tmp_path, adapter=adapter, **options)
    moved(trainer)
    batch = batch_of(trainer)
    inputs = {name: batch[name] for name in NAMES}
    with torch.no_grad():
        old, new = (model_of(kind, version, adapter=adapter)(**inputs).logits for version in (1, 2))
        student = trainer.model(**inputs).logits
    expected = compatibility_loss(student, old, new, batch["labels"], **options)
    assert 0 < expected.tokens_to_old < expected.tokens  # both teachers had a say
    assert trainer.compute_loss(trainer.model, batch).item() == pytest.approx(expected.loss.item(), rel=1e-5)


@pytest.mark.parametrize("adapter", [True, False], ids=["lora", "full"])
@pytest.mark.parametrize("kind", KINDS)
def test_slices_of_tokens_give_the_loss_and_the_gradient_of_full_logits(
    kind: str, adapter: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("muscle_hf.training.loss.per_token.tokens_of_a_slice", lambda *_: 3)
    figures = {}
    for implementation in ("plain", "chunked"):
        trainer = CompatibilitySeq2SeqTrainer(
            model=model_of(kind, 2, adapter=adapter).double(),
            old_model=model_of(kind, 1, adapter=adapter).double(),
            args=config_of(
                tmp_path,
                full_fine_tune=not adapter,
                loss_implementation=implementation,
                cross_entropy_weight=0.3,
            ),
            train_dataset=Dataset.from_list(ROWS),
            processing_class=TOKENIZER,
        )
        moved(trainer)
        loss = trainer.compute_loss(trainer.model, batch_of(trainer))
        loss.backward()
        gradients = {
            name: weight.grad.clone() for name, weight in trainer.model.named_parameters() if weight.grad is not None
        }
        figures[implementation] = (loss.item(), gradients)
    (plain, of_plain), (chunked, of_chunked) = figures["plain"], figures["chunked"]
    assert chunked == pytest.approx(plain, rel=1e-10)
    assert of_plain.keys() == of_chunked.keys() != set()
    for name, gradient in of_plain.items():
        torch.testing.assert_close(of_chunked[name], gradient, rtol=1e-8, atol=1e-10, msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_counts_the_same_whatever_it_is_padded_to(kind: str, tmp_path: Path) -> None:
    trainer = trainer_of(kind, tmp_path)
    rows = [
        {"input_ids": [5, 6, 7, 8, 9, 10], "labels": [11, 2], "decoder_input_ids": [0, 11]},
        {"input_ids": [12, 13], "labels": [14, 15, 16, 17, 2], "decoder_input_ids": [0, 14, 15, 16, 17]},
    ]
    together = trainer.compute_loss(trainer.model, trainer._batch_of(rows), num_items_in_batch=7)
    alone = [trainer.compute_loss(trainer.model, trainer._batch_of([row]), num_items_in_batch=7) for row in rows]
    assert together.item() == pytest.approx(sum(loss.item() for loss in alone), rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_cache_of_what_the_heads_read_trains_as_live_teachers_do(kind: str, tmp_path: Path) -> None:
    weights = {}
    for cache in ("none", "hidden"):
        trainer = trainer_of(kind, tmp_path / cache, teacher_cache=cache, loss_implementation="auto", seed=3)
        trainer.train()
        assert (trainer.old_teacher is None) == (cache == "hidden")
        weights[cache] = {n: w.detach().clone() for n, w in trainer.model.named_parameters() if w.requires_grad}
    for name, weight in weights["none"].items():
        torch.testing.assert_close(weights["hidden"][name], weight, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("implementation", ["plain", "chunked"])
def test_temperatures_of_a_product_are_fitted_on_what_both_models_say(implementation: str, tmp_path: Path) -> None:
    rows = Dataset.from_list(ROWS)
    trainer = trainer_of(
        "bart", tmp_path, teacher="product", mask="none", eval_dataset=rows, loss_implementation=implementation
    )
    batch = trainer._batch_of(list(trainer.eval_dataset))
    old, new, gold = (
        torch.cat(parts) for parts in zip(*trainer.teacher_slices(list(trainer.eval_dataset)), strict=True)
    )
    trained = batch["labels"] != -100
    assert torch.equal(gold, batch["labels"][trained])
    for version, logits in ((1, old), (2, new)):
        with torch.no_grad():
            expected = model_of("bart", version)(**{name: batch[name] for name in NAMES}).logits[trained]
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


def test_a_row_counts_as_much_as_its_weight_says(tmp_path: Path) -> None:
    rows = Dataset.from_list([{**row, "weight": float(number % 2)} for number, row in enumerate(ROWS)])
    trainer = trainer_of("t5", tmp_path, weight_column="weight", train_dataset=rows)
    light, heavy = (trainer._batch_of([trainer.train_dataset[place]]) for place in (0, 1))
    assert trainer.compute_loss(trainer.model, light).item() == 0 < trainer.compute_loss(trainer.model, heavy).item()


@pytest.mark.slow
def test_flips_of_generated_answers_are_logged_and_choose_the_checkpoint(tmp_path: Path) -> None:
    prompts = [f"move {number} coins" for number in range(4)]
    said = generate_answers(model_of("t5", 1), TOKENIZER, prompts, max_new_tokens=4, show_progress=False).texts
    assert len({text.strip() for text in said}) > 1
    questions = [{"prompt": prompt, "completion": text.strip()} for prompt, text in zip(prompts, said, strict=True)]
    trainer = trainer_of(
        "t5",
        tmp_path,
        flips_dataset=Dataset.from_list([row for row in questions if row["completion"]]),
        flips_max_new_tokens=4,
        metric_for_best_model="negative_flip_rate",
        load_best_model_at_end=True,
        save_strategy="epoch",
        eval_strategy="epoch",
    )
    trainer.train()
    logged = next(entry for entry in trainer.state.log_history if "eval_negative_flip_rate" in entry)
    assert logged["eval_old_accuracy"] == 1  # it gives the answers that are right here
    assert 0 < logged["eval_new_negative_flip_rate"] <= 1
    assert (tmp_path / "flips_evaluation" / "best.jsonl").is_file()
    assert trainer.state.best_metric == logged["eval_negative_flip_rate"]
    trainer.save_model()
    card = (tmp_path / "README.md").read_text()
    assert "pipeline_tag: text2text-generation" in card
    assert "AutoModelForSeq2SeqLM" in card
    assert "plain update" in card  # the comparison of the last evaluation


@pytest.mark.slow
def test_a_training_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    whole = trainer_of("bart", tmp_path / "whole", max_steps=4)
    whole.train()
    options = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    first = trainer_of("bart", tmp_path / "cut", **options)
    first.train()
    again = trainer_of("bart", tmp_path / "cut", **options)
    again.train(resume_from_checkpoint=str(tmp_path / "cut" / "checkpoint-2"))
    for (name, weight), expected in zip(again.model.named_parameters(), whole.model.parameters(), strict=True):
        torch.testing.assert_close(weight, expected, rtol=1e-5, atol=1e-6, msg=name)


def test_what_is_saved_is_an_adapter_that_answers_as_the_student_does(tmp_path: Path) -> None:
    names = {}
    for version in (1, 2):
        base = tiny_seq2seq("t5", version, TOKENIZER)
        names[version] = tmp_path / f"adapter-{version}"
        base.save_pretrained(tmp_path / f"base-{version}")
        TOKENIZER.save_pretrained(tmp_path / f"base-{version}")
        loaded = type(base).from_pretrained(tmp_path / f"base-{version}")
        tiny_seq2seq_adapter(loaded, 10 + version).save_pretrained(names[version])
    trainer = CompatibilitySeq2SeqTrainer(
        model=str(names[2]),
        old_model=str(names[1]),
        args=config_of(tmp_path / "out", teacher_cache="topk"),
        train_dataset=Dataset.from_list(ROWS),
    )
    trainer.train()
    assert not trainer.teachers.pair.is_old_loaded  # the cache has taken its place
    trainer.save_model()
    loaded = load_adapter(tmp_path / "out", merge=True)
    prompts = [row["prompt"] for row in ROWS]
    options = {"max_new_tokens": 5, "show_progress": False}
    expected = generate_answers(trainer.model, TOKENIZER, prompts, **options)
    assert generate_answers(loaded, TOKENIZER, prompts, **options).texts == expected.texts


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_that_was_told_no_task_is_loaded_as_its_card_says(kind: str, tmp_path: Path) -> None:
    base = tiny_seq2seq(kind, 1, TOKENIZER)
    base.save_pretrained(tmp_path / "base")
    base.config.name_or_path = base.name_or_path = str(tmp_path / "base")
    tiny_seq2seq_adapter(base, 3, task_type=None).save_pretrained(tmp_path / "adapter")
    assert load_adapter(tmp_path / "adapter").base_model.model.config.is_encoder_decoder


def test_the_states_that_the_head_reads_are_at_hand_when_a_loss_asks_for_them(tmp_path: Path) -> None:
    trainer = trainer_of("t5", tmp_path)
    trainer.needs_states = True
    batch = trainer._batch_of(list(trainer.train_dataset))
    _, outputs = trainer.compute_loss(trainer.model, batch, return_outputs=True)
    states = last_hidden_states(outputs)
    assert outputs.encoder_last_hidden_state.shape[:2] == batch["input_ids"].shape
    torch.testing.assert_close(project(trainer.model, states), outputs.logits, rtol=1e-5, atol=1e-5)


# What is refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"predict_with_generate": True}, "flips_dataset"),
        ({"generation_num_beams": 4}, "greedy"),
        ({"label_smoothing_factor": 0.1}, "teachers take the place"),
        ({"preset": "product"}, "unlabelled"),
        ({"torch_compile": True}, "not compiled"),
        ({"teacher_cache_k": 8}, "ignored without a cache"),
        ({"teacher_cache": "chunks"}, "teacher_cache"),
        ({"teacher_cache": "sampled", "teacher": "product"}, "whole distributions"),
        ({"full_fine_tune": True, "student_rank": 8}, "needs an adapter"),
        ({"max_prompt_length": 0}, "1 or more"),
    ],
)
def test_an_option_that_would_be_ignored_is_refused(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=message):
        config_of(tmp_path, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train_dataset": Dataset.from_list([{"document": "a", "summary": "b"}])}, "rename_columns"),
        ({"train_dataset": Dataset.from_list([{"prompt": "", "completion": "b"}])}, "Row 0"),
        ({"train_dataset": Dataset.from_list([{"input_ids": [4], "labels": [-100]}])}, "no token to train on"),
        ({"train_dataset": Dataset.from_list([{"input_ids": [99_999], "labels": [4, 5]}])}, "input_ids has 99999"),
        ({"train_dataset": Dataset.from_list([{"input_ids": [4], "labels": [-5]}])}, "labels has -5"),
        (
            {"train_dataset": Dataset.from_list([{"input_ids": [4], "labels": [5], "attention_mask": [1, 0]}])},
            "attention_mask has 2 entries",
        ),
        ({"metric_for_best_model": "negative_flip_rate"}, "there is no flips_dataset"),
        ({"train_dataset": Dataset.from_list(ROWS).to_iterable_dataset()}, "from_list"),
        ({"flips_dataset": Dataset.from_list([{"prompt": "a", "choices": ["b", "c"], "answer": 0}])}, "choices"),
        ({"min_accuracy": 0.5, "metric_for_best_model": "accuracy"}, "without flips_dataset"),
        (
            {"train_dataset": Dataset.from_list([{"prompt": [{"role": "user", "content": "a"}], "completion": []}])},
            "chat template",
        ),
    ],
)
def test_data_that_cannot_be_trained_on_are_refused(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises((ConfigurationError, InputError), match=message):
        trainer_of("t5", tmp_path, **options)


def test_models_of_the_other_kind_are_sent_to_their_trainer(tmp_path: Path) -> None:
    models = [tiny_adapter(tiny_llama(seed, TOKENIZER), seed) for seed in (1, 2)]
    with pytest.raises(ConfigurationError, match="CompatibilityTrainer"):
        CompatibilitySeq2SeqTrainer(
            models[1], models[0], args=config_of(tmp_path), train_dataset=Dataset.from_list(ROWS)
        )
    with pytest.raises(ConfigurationError, match="CompatibilitySeq2SeqTrainer"):
        CompatibilityTrainer(
            model_of("t5", 2),
            model_of("t5", 1),
            args=CompatibilityConfig(output_dir=str(tmp_path), use_cpu=True, report_to="none"),
            train_dataset=Dataset.from_list(ROWS),
        )
    tiny_llama(1, TOKENIZER).save_pretrained(tmp_path / "llama")
    with pytest.raises(ConfigurationError, match="another kind of model"):
        CompatibilitySeq2SeqTrainer(
            str(tmp_path / "llama"),
            model_of("t5", 1),
            args=config_of(tmp_path, full_fine_tune=True),
            train_dataset=Dataset.from_list(ROWS),
        )


def test_options_of_generation_are_not_taken_where_nothing_is_generated(tmp_path: Path) -> None:
    trainer = trainer_of("t5", tmp_path)
    for method in (trainer.evaluate, trainer.predict):
        with pytest.raises(TypeError, match="num_beams"):
            method(Dataset.from_list(ROWS), num_beams=4)


def test_two_tokenizers_are_refused(tmp_path: Path) -> None:
    larger = tiny_seq2seq_adapter(tiny_seq2seq("t5", 1, TOKENIZER, vocab_size=len(TOKENIZER) + 8), 11)
    with pytest.raises(ModelMismatchError):
        CompatibilitySeq2SeqTrainer(
            model_of("t5", 2),
            larger,
            args=config_of(tmp_path),
            train_dataset=Dataset.from_list(ROWS),
            processing_class=TOKENIZER,
        )
