"""An update whose tokenizer changes: what is compared, that it trains, and what is refused; and other embedding rows.

    new tokenizer    | trans|fer| 3| dollars| to| my| savings|          learned its merges from bank talk
    old tokenizer    | tr|an|s|f|er| 3| d|oll|ar|s| to| my|...           learned them from something else
    chunks           |     0    |1 |    2      | 3 | 4 |

Where both tokenizations have a boundary, a chunk ends. The student is wrong on a chunk if it is wrong on any token of
it; then the chunk as a whole is pulled to the likelihood that the old model gives it.
"""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset, IterableDataset
from tiny_models import tiny_adapter, tiny_llama, tiny_tokenizer
from tiny_updates import ROWS, Update, trainer_of
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from muscle_hf import CompatibilityTrainer, ConfigurationError, InputError, ModelMismatchError
from muscle_hf.losses.compatibility import compatibility_loss
from muscle_hf.losses.logits import next_token_labels

OTHER_TEXTS = ["zebra crossing the quiet boulevard to my savings", "quartz boulders quench quarrels"]
CHUNKS: dict[str, Any] = {"alignment": "chunks"}


def _update(folder: Path, old_tokenizer: PreTrainedTokenizerFast, *, old_rows: int | None = None) -> Update:
    """Two tiny bases with their adapters; the old one has another tokenizer, or more rows of embeddings."""
    tokenizer = tiny_tokenizer()
    for version, own in ((1, old_tokenizer), (2, tokenizer)):
        base = tiny_llama(version, own, hidden_size=16, layers=1)
        if version == 1 and old_rows is not None:
            base.resize_token_embeddings(old_rows, mean_resizing=False)
        base.save_pretrained(folder / f"base-v{version}")
        own.save_pretrained(folder / f"base-v{version}")
        base = LlamaForCausalLM.from_pretrained(folder / f"base-v{version}")
        tiny_adapter(base, 10 + version).save_pretrained(folder / f"task-v{version}")
    return Update(folder, tokenizer)


@pytest.fixture(scope="module")
def update(tmp_path_factory: pytest.TempPathFactory) -> Update:
    return _update(tmp_path_factory.mktemp("tokenizers"), tiny_tokenizer(OTHER_TEXTS, vocabulary_size=300))


@pytest.fixture(scope="module")
def same(tmp_path_factory: pytest.TempPathFactory) -> Update:
    return _update(tmp_path_factory.mktemp("same"), tiny_tokenizer())


def _batch(trainer: CompatibilityTrainer, *rows: int) -> dict[str, torch.Tensor]:
    return trainer._prepare_inputs(trainer.data_collator([trainer.train_dataset[row] for row in rows or (0, 1, 2)]))


def test_two_tokenizers_are_refused_unless_alignment_is_asked_for(update: Update, tmp_path: Path) -> None:
    with pytest.raises(ModelMismatchError, match=r'alignment="chunks"'):
        trainer_of(update, tmp_path)


@pytest.mark.slow
def test_an_update_to_another_tokenizer_trains_and_comes_closer_to_the_old_model(
    update: Update, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        trainer = trainer_of(update, tmp_path, **CHUNKS, mask="none", max_steps=30, learning_rate=0.02)
    assert "100.0% of" in caplog.text
    assert "chunks in which both tokenizers meet" in caplog.text
    # Both models read the same row, each in its own tokens.
    row = trainer.train_dataset[0]
    old_tokenizer = trainer.teachers.pair.required_old_tokenizer()
    assert len(row["input_ids"]) != len(row["old_input_ids"])
    assert trainer.processing_class.decode(row["input_ids"]) == old_tokenizer.decode(row["old_input_ids"])
    trainer.train()
    distances = [
        log["divergence_to_old_model"] for log in trainer.state.log_history if "divergence_to_old_model" in log
    ]
    assert distances[-1] < 0.8 * distances[0]


@pytest.mark.slow
def test_a_chunk_is_wrong_if_any_of_its_tokens_is(update: Update, tmp_path: Path) -> None:
    trainer = trainer_of(update, tmp_path, **CHUNKS)
    batch = _batch(trainer)
    with torch.no_grad():
        result, outputs = trainer.teachers.loss(trainer.model, batch, normalizer=None, needs_logits=True)
    wrong = outputs.logits[:, :-1].argmax(-1) != batch["labels"][:, 1:]
    numbers = batch["chunk_ids"][:, 1:]
    expected = 0
    for row_wrong, row_numbers in zip(wrong.tolist(), numbers.tolist(), strict=True):
        marked = {number for bad, number in zip(row_wrong, row_numbers, strict=True) if bad and number >= 0}
        expected += sum(number in marked for number in row_numbers)
    assert result.tokens_to_old == expected > 0


@pytest.mark.slow
def test_equal_tokenizers_give_the_loss_of_the_token_path(same: Update, tmp_path: Path) -> None:
    by_tokens = trainer_of(same, tmp_path / "tokens", cross_entropy_weight=0.3)
    by_chunks = trainer_of(same, tmp_path / "chunks", cross_entropy_weight=0.3, **CHUNKS)
    losses = [
        trainer.teachers.loss(trainer.model, _batch(trainer), normalizer=None, needs_logits=False)[0]
        for trainer in (by_tokens, by_chunks)
    ]
    assert losses[1].loss.item() == pytest.approx(losses[0].loss.item(), rel=1e-5)
    assert losses[1].tokens_to_old == losses[0].tokens_to_old


@pytest.mark.slow
@pytest.mark.parametrize("option", [{"max_length": 12}, {"completion_only_loss": True}, {"weight_column": "weight"}])
def test_truncation_completions_and_weights_go_with_chunks(
    update: Update, tmp_path: Path, option: dict[str, Any]
) -> None:
    rows = [row | {"weight": 2.0} for row in ROWS]
    trainer = trainer_of(update, tmp_path, rows=rows, **CHUNKS, **option)
    trainer.train()
    plain = trainer_of(update, tmp_path / "plain", **CHUNKS, **option | {"weight_column": None})
    plain.args.weight_column = None
    ratio = 2 if "weight_column" in option else 1
    first, other = (
        one.teachers.loss(one.model, _batch(one), normalizer=None, needs_logits=False)[0].loss.item()
        for one in (trainer_of(update, tmp_path / "again", rows=rows, **CHUNKS, **option), plain)
    )
    assert first == pytest.approx(ratio * other, rel=1e-5)


@pytest.mark.slow
def test_fresh_evaluation_sets_by_name_are_prepared_once(update: Update, tmp_path: Path) -> None:
    trainer = trainer_of(update, tmp_path, **CHUNKS, eval_dataset=Dataset.from_list(ROWS[:4]))
    named = trainer.evaluate({"a": Dataset.from_list(ROWS[:4]), "b": Dataset.from_list(ROWS[4:6])})
    assert named["eval_a_loss"] == trainer.evaluate()["eval_loss"] != named["eval_b_loss"]


@pytest.mark.slow
def test_a_cache_of_chunk_scores_trains_without_the_old_model(update: Update, tmp_path: Path) -> None:
    options = CHUNKS | {"teacher_cache": "chunks", "teacher_cache_dir": str(tmp_path / "cache")}
    options["eval_dataset"] = Dataset.from_list(ROWS[:5])
    first = trainer_of(update, tmp_path / "first", **options)
    live = first.teachers.loss(first.model, _batch(first), normalizer=None, needs_logits=False)[0]
    first.train()
    second = trainer_of(update, tmp_path / "second", **options)
    assert not second.teachers.pair.is_old_loaded
    cached = second.teachers.loss(second.model, _batch(second), normalizer=None, needs_logits=False)[0]
    # The mask is the student's; chunks of one token are compared by their likelihood too, so the loss is another one.
    assert cached.tokens_to_old == live.tokens_to_old
    assert cached.loss.item() > 0
    second.train()
    assert second.evaluate()["eval_loss"] == pytest.approx(first.evaluate()["eval_loss"], rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_cache_of_chunk_scores_cannot_be_computed_or_read_in_bfloat16(
    update: Update, tmp_path: Path, dtype: str
) -> None:
    options = CHUNKS | {"teacher_cache": "chunks", "mask": "none", "bf16": True}
    options |= {name: {"dtype": dtype} for name in ("model_init_kwargs", "old_model_init_kwargs")}
    first = trainer_of(update, tmp_path, **options)
    first.train()
    loss = first.state.log_history[0]["loss"]
    exact = trainer_of(update, tmp_path / "exact", **CHUNKS, teacher_cache="chunks", mask="none")
    exact.train()
    assert loss == pytest.approx(exact.state.log_history[0]["loss"], rel=0.05)


@pytest.mark.slow
def test_cached_chunk_scores_are_those_of_the_old_model(update: Update, tmp_path: Path) -> None:
    # "old_right" looks at nothing but the old model.
    options = CHUNKS | {"mask": "old_right"}
    live = trainer_of(update, tmp_path / "live", **options)
    cached = trainer_of(update, tmp_path / "cached", teacher_cache="chunks", **options)
    cached.cache_teachers()
    for rows in ((0, 1, 2), (11, 3), (7,)):
        marks = [
            one.teachers.loss(one.model, _batch(one, *rows), normalizer=None, needs_logits=False)[
                0
            ].tokens_to_old.item()
            for one in (live, cached)
        ]
        assert marks[0] == marks[1]


@pytest.mark.slow
def test_each_model_is_asked_with_its_own_tokenizer(update: Update, tmp_path: Path) -> None:
    questions = Dataset.from_list([{"prompt": row["prompt"], "reference": row["completion"]} for row in ROWS[:3]])
    trainer = trainer_of(update, tmp_path, flips_dataset=questions, flips_max_new_tokens=3, **CHUNKS)
    seen: list[int] = []
    trainer.old_teacher.model.get_base_model().register_forward_pre_hook(
        lambda module, arguments, inputs: seen.append(int(inputs["input_ids"].max())), with_kwargs=True
    )
    trainer.evaluate()
    assert 0 < max(seen) < 300


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"packing": True, "packing_strategy": "wrapped"}, "cuts rows in the middle"),
        ({"truncation_mode": "keep_end"}, "keep_start"),
        ({"teacher_cache": "topk"}, 'take teacher_cache="chunks"'),
        ({"divergence": "logit_difference_inhibition"}, "two tokenizers"),
        ({"teacher": "ensemble"}, 'teacher="old"'),
    ],
)
def test_what_chunks_cannot_do_is_refused_by_the_config(
    update: Update, tmp_path: Path, option: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        trainer_of(update, tmp_path, **CHUNKS, **option)


def test_a_chunk_cache_without_chunks_is_refused(update: Update, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="for two tokenizers"):
        trainer_of(update, tmp_path, teacher_cache="chunks")


def test_encoded_rows_cannot_be_aligned(update: Update, tmp_path: Path) -> None:
    ids = update.tokenizer(ROWS[0]["prompt"])["input_ids"]
    with pytest.raises(InputError, match="needs the texts of the rows"):
        trainer_of(update, tmp_path, train_dataset=Dataset.from_list([{"input_ids": ids, "labels": ids}]), **CHUNKS)


def _sums(trainer: CompatibilityTrainer) -> tuple[dict[str, float], torch.Tensor]:
    """What all batches of an epoch add up to, and their gradient."""
    figures: dict[str, float] = {}
    trainer.model.zero_grad()
    for batch in trainer.get_train_dataloader():
        prepared = trainer._prepare_inputs(batch)
        result, _ = trainer.teachers.loss(trainer.model, prepared, normalizer=1.0, needs_logits=False)
        result.loss.backward()
        for name, value in vars(result).items():
            if value is not None:  # the task's part, where nobody asks for it apart
                figures[name] = figures.get(name, 0.0) + value.item()
    return figures, torch.cat(
        [weight.grad.flatten() for weight in trainer.model.parameters() if weight.grad is not None]
    )


@pytest.mark.slow
@pytest.mark.parametrize("way", ["plain", "chunked", "cached"])
def test_packed_and_streamed_rows_have_the_loss_and_gradient_of_rows(
    update: Update, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr("muscle_hf.training.loss.aligned.tokens_of_a_slice", lambda vocabulary, device: 7)
    rows = [row | {"weight": 0.5 + index % 3} for index, row in enumerate(ROWS)]
    rows[4]["prompt"] *= 3  # rows of other lengths, one of which is cut
    stream = IterableDataset.from_generator(lambda: iter(ROWS[:4] + rows[4:5] + ROWS[5:]))
    options: dict[str, Any] = CHUNKS | {"cross_entropy_weight": 0.2, "mask": "token_likelihood", "max_length": 45}
    options |= {"loss_implementation": way} if way != "cached" else {"teacher_cache": "chunks", "mask": "none"}
    options |= {"completion_only_loss": True, "gradient_checkpointing": False, "student_rank": 6}

    def sums(name: str, **more: Any) -> tuple[dict[str, float], torch.Tensor]:
        trainer = trainer_of(update, tmp_path / name, **options | more)
        with torch.no_grad():
            for weight in trainer.model.parameters():
                if weight.requires_grad:  # away from the start, where the student is the new model
                    weight += 0.05
        if way == "cached":
            trainer.cache_teachers()
        return _sums(trainer)

    def assert_same(one: tuple[dict[str, float], torch.Tensor], other: tuple[dict[str, float], torch.Tensor]) -> None:
        assert one[0] == pytest.approx(other[0], rel=1e-5)
        torch.testing.assert_close(one[1], other[1], rtol=1e-4, atol=1e-5)

    weighted = {"rows": rows, "weight_column": "weight"}
    expected = sums("rows", **weighted)
    assert expected[0]["tokens_to_old"] > 0 and expected[0]["tokens"] == sum(
        len(update.tokenizer(row["completion"] + "</s>")["input_ids"]) for row in ROWS[:4] + ROWS[5:]
    )
    packing = {"packing": True, "per_device_train_batch_size": 2}
    assert_same(sums("packed", **weighted, **packing), expected)
    whole = weighted | {"max_length": None}
    assert_same(sums("without-padding", **whole, padding_free=True), sums("whole", **whole))
    if way != "cached":
        plain = sums("plain", rows=ROWS[:4] + rows[4:5] + ROWS[5:])
        assert_same(sums("stream", train_dataset=stream), plain)
        assert_same(sums("packed-stream", train_dataset=stream, **packing), plain)


@pytest.mark.slow
def test_a_stream_of_which_nothing_can_be_aligned_is_told_before_training(update: Update, tmp_path: Path) -> None:
    stream = IterableDataset.from_generator(lambda: iter(ROWS))
    trainer = trainer_of(update, tmp_path, train_dataset=stream, eval_dataset=stream.take(2), **CHUNKS)
    trainer.train()
    assert trainer.evaluate()["eval_loss"] > 0
    ids = update.tokenizer(ROWS[0]["prompt"])["input_ids"]
    encoded = IterableDataset.from_generator(lambda: iter([{"input_ids": ids, "labels": ids}]))
    with pytest.raises(InputError, match="needs the texts of the rows"):
        trainer_of(update, tmp_path, train_dataset=encoded, **CHUNKS)
    with pytest.raises(ConfigurationError, match="teacher_cache needs data that are read in one order"):
        trainer_of(update, tmp_path, train_dataset=stream, teacher_cache="chunks", **CHUNKS)


# One tokenizer, other rows of embeddings -----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"loss_implementation": "plain"},
        {"loss_implementation": "chunked"},
        {"teacher_cache": "hidden"},
        {"teacher_cache": "topk", "teacher_cache_k": 1000},
    ],
    ids=["plain", "chunked", "hidden", "topk"],
)
def test_padding_rows_of_the_old_model_are_cut_and_the_log_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, options: dict[str, Any]
) -> None:
    update = _update(tmp_path, tiny_tokenizer(), old_rows=len(tiny_tokenizer()) + 24)
    with caplog.at_level(logging.WARNING):
        trainer = trainer_of(update, tmp_path / "out", **options)
    assert "Cut: 24 of the old model's rows" in caplog.text
    if "teacher_cache" in options:
        trainer.cache_teachers()
    batch = _batch(trainer)
    result, _ = trainer.teachers.loss(trainer.model, batch, normalizer=None, needs_logits=False)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        old = update.load(1)(**inputs).logits[..., : len(update.tokenizer)]
        new = update.load(2)(**inputs).logits
    expected = compatibility_loss(new, old, new, next_token_labels(batch["labels"]))
    assert result.loss.item() == pytest.approx(expected.loss.item(), rel=2e-3)
    trainer.train()


@pytest.mark.slow
def test_a_row_with_a_token_that_only_the_new_model_has_is_refused_also_in_an_evaluation(tmp_path: Path) -> None:
    update = _update(tmp_path, tiny_tokenizer())
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["<new>"], special_tokens=True)
    rows = Dataset.from_list([{"prompt": "what is <new> here\n", "completion": "yes"}])
    student = tiny_adapter(tiny_llama(2, tokenizer, hidden_size=16, layers=1), 12)
    with pytest.raises(ModelMismatchError, match="'<new>'"):
        trainer_of(
            update, tmp_path / "out", model=student, new_adapter=None, processing_class=tokenizer, eval_dataset=rows
        )
