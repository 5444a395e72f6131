"""Adapters that were trained after tokens were added: their bases get the rows that their saved tensors have."""

import copy
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tiny_classifiers import tiny_classifier
from tiny_models import tiny_adapter, tiny_llama, tiny_tokenizer
from tiny_updates import ROWS, config_of
from transformers import (
    AutoTokenizer,
    BertForSequenceClassification,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from muscle_hf import CompatibilityTrainer, load_adapter
from muscle_hf.classifier.models import load_classifier
from muscle_hf.cli import main
from muscle_hf.errors import InputError, ModelMismatchError
from muscle_hf.models.adapters import load_adapted_model
from muscle_hf.models.embedding_rows import changed_rows, save_with_rows
from muscle_hf.models.tokenizers import load_tokenizer

TOKENIZER = tiny_tokenizer()
SIZE = len(TOKENIZER)
START, STOP = "<|im_start|>", "<|im_end|>"
CHAT = (
    "{% for message in messages %}" + START + "{{ message['role'] }}\n{{ message['content'] }}" + STOP + "{% endfor %}"
    "{% if add_generation_prompt %}" + START + "assistant\n{% endif %}"
)
COPIED = {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]}


@pytest.fixture(autouse=True)
def _peft_may_speak_of_tying() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Model has `tie_word_embeddings=True` and a tied layer")
        yield


def _chat_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = copy.deepcopy(TOKENIZER)
    tokenizer.add_special_tokens({"extra_special_tokens": [START, STOP]})
    tokenizer.chat_template = CHAT
    return tokenizer


def _make(
    folder: Path,
    version: int,
    *,
    added: bool,
    padded: bool = False,
    saving: dict[str, Any] | None = None,
    tied: bool = True,
    **lora: Any,
) -> None:
    """Write base-v1 and task-v1, or those of v2; a padded base has free rows, which added tokens take."""
    base = tiny_llama(version, TOKENIZER, hidden_size=16, layers=1, tie_word_embeddings=tied)
    if padded:
        base.resize_token_embeddings(SIZE + 8)
    base.save_pretrained(folder / f"base-v{version}")
    TOKENIZER.save_pretrained(folder / f"base-v{version}")
    base = LlamaForCausalLM.from_pretrained(folder / f"base-v{version}")
    adapter = folder / f"task-v{version}"
    if added:
        _chat_tokenizer().save_pretrained(adapter)
        if not padded:
            base.resize_token_embeddings(SIZE + 2)
    tiny_adapter(base, 10 + version, **COPIED | lora).save_pretrained(adapter, **saving or {})


def _trainer(folder: Path, rows: Any, **options: Any) -> CompatibilityTrainer:
    """A trainer that is given the adapters alone, which name their bases."""
    return CompatibilityTrainer(
        model=str(folder / "task-v2"),
        old_model=str(folder / "task-v1"),
        args=config_of(folder / "out", max_steps=1, **options),
        train_dataset=Dataset.from_list(rows),
    )


def _chats(count: int = 4) -> list[dict[str, Any]]:
    return [
        {"messages": [{"role": "user", "content": f"q {n}"}, {"role": "assistant", "content": f"a{n % 3}"}]}
        for n in range(count)
    ]


def _logits(model: Any, size: int) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(torch.arange(size)[None, -100:]).logits
    return found


# Rows ----------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lora", "tied", "saving", "lacking"),
    [
        (COPIED, True, {}, None),
        # As somebody saved them who did not want the rest of the embeddings in the file.
        (COPIED, True, {"save_embedding_layers": False}, "lm_head"),
        (COPIED, False, {"save_embedding_layers": False}, "lm_head"),
        ({"modules_to_save": ["lm_head"]}, False, {"save_embedding_layers": False}, "model.embed_tokens"),
        ({"modules_to_save": ["embed_tokens", "lm_head"]}, False, {"save_embedding_layers": False}, None),
        (COPIED | {"ensure_weight_tying": True}, True, {"save_embedding_layers": False}, None),
        # Single trained tokens bring their own rows; here they are all the added ones, or one of the two.
        ({"modules_to_save": None, "trainable_token_indices": [SIZE, SIZE + 1]}, True, {}, None),
        (
            {"modules_to_save": None, "trainable_token_indices": [SIZE, SIZE + 1]},
            True,
            {"save_embedding_layers": False},
            None,
        ),
        (
            {"modules_to_save": None, "trainable_token_indices": [SIZE + 1]},
            True,
            {"save_embedding_layers": False},
            "model.embed_tokens and lm_head",
        ),
        (
            {"modules_to_save": None, "trainable_token_indices": [SIZE, SIZE + 1]},
            False,
            {"save_embedding_layers": False},
            "lm_head",
        ),
    ],
)
def test_rows_that_no_file_holds_are_refused_and_not_left_random(
    tmp_path: Path, lora: dict[str, Any], tied: bool, saving: dict[str, Any], lacking: str | None
) -> None:
    _make(tmp_path, 2, added=True, tied=tied, saving=saving, **lora)
    ways = (
        lambda: load_adapter(tmp_path / "task-v2"),
        lambda: load_adapted_model(tmp_path / "base-v2", tmp_path / "task-v2", role="new", needs_adapter=True),
    )
    for load in ways:
        if lacking is not None:
            with pytest.raises(ModelMismatchError, match=f"does not hold those of {lacking}: the rows"):
                load()
        else:
            # Twice the same, which random rows are not.
            assert torch.equal(_logits(load(), SIZE + 2), _logits(load(), SIZE + 2))


def test_a_base_with_more_rows_than_the_adapter_is_cut(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _make(tmp_path, 2, added=False)
    padded = LlamaForCausalLM.from_pretrained(tmp_path / "base-v2")
    padded.resize_token_embeddings(SIZE + 8)
    padded.save_pretrained(tmp_path / "base-v2")
    assert _logits(load_adapter(tmp_path / "task-v2"), SIZE).shape[-1] == SIZE
    assert f"has {SIZE + 8}: it is cut to {SIZE}." in caplog.text


def test_embeddings_and_head_of_two_sizes_are_one_line(tmp_path: Path) -> None:
    _make(tmp_path, 2, added=True, tied=False, modules_to_save=["embed_tokens", "lm_head"])
    file = tmp_path / "task-v2" / "adapter_model.safetensors"
    weights = load_file(file)
    name = next(name for name in weights if name.endswith("lm_head.weight"))
    save_file(weights | {name: weights[name][:-1].contiguous()}, file)
    with pytest.raises(ModelMismatchError, match=f"an LM head of {SIZE + 1} and {SIZE + 2} rows"):
        load_adapter(tmp_path / "task-v2")


def test_a_broken_file_is_one_line_for_the_trainer_too(tmp_path: Path) -> None:
    _make(tmp_path, 2, added=True)
    (tmp_path / "task-v2" / "adapter_model.safetensors").write_bytes(b"broken")
    with pytest.raises(InputError, match="is broken"):
        load_adapted_model(tmp_path / "base-v2", tmp_path / "task-v2", role="new", needs_adapter=True)


@pytest.mark.slow
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("lora", [{}, {"modules_to_save": None, "target_modules": ["q_proj", "embed_tokens"]}])
def test_rows_are_saved_although_peft_cannot_ask_whether_there_are_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lora: dict[str, Any], tied: bool
) -> None:
    _make(tmp_path, 2, added=True, tied=tied)
    base = LlamaForCausalLM.from_pretrained(tmp_path / "base-v2")
    base.resize_token_embeddings(SIZE + 2)
    adapted = tiny_adapter(base, 3, **COPIED | lora)
    assert changed_rows(adapted) == SIZE + 2
    # What PEFT gets to know of a base of the Hub without a network.
    monkeypatch.setattr("peft.utils.save_and_load.os.path.exists", lambda path: False)
    monkeypatch.setattr("peft.utils.save_and_load.check_file_exists_on_hf_hub", lambda *_, **__: None)
    save_with_rows(adapted, tmp_path / "saved")
    monkeypatch.undo()
    assert torch.equal(_logits(load_adapter(tmp_path / "saved"), SIZE + 2), _logits(adapted, SIZE + 2))


# Training ------------------------------------------------------------------------------------------------------------


def test_the_tokenizer_of_the_adapter_is_taken_before_that_of_its_base(tmp_path: Path) -> None:
    _make(tmp_path, 2, added=True)
    model = load_adapted_model(tmp_path / "base-v2", tmp_path / "task-v2", role="new", needs_adapter=True)
    for names in ((tmp_path / "task-v2", None), (tmp_path / "base-v2", tmp_path / "task-v2")):
        tokenizer = load_tokenizer(model, {}, *names)
        assert tokenizer is not None
        assert tokenizer(START)["input_ids"] == [SIZE]


@pytest.mark.slow
@pytest.mark.parametrize("padded", [False, True], ids=["resized", "free rows"])
@pytest.mark.parametrize("cache", ["none", "topk", "hidden"])
def test_conversations_of_added_tokens_are_trained_on_and_shipped(tmp_path: Path, cache: str, padded: bool) -> None:
    for version in (1, 2):
        _make(tmp_path, version, added=True, padded=padded, modules_to_save=["embed_tokens", "lm_head"], tied=False)
    trainer = _trainer(tmp_path, _chats(), teacher_cache=cache)
    assert SIZE in trainer.train_dataset[0]["input_ids"]
    trainer.train()
    trainer.save_model(str(tmp_path / "saved"))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert (len(tokenizer), tokenizer.chat_template) == (SIZE + 2, CHAT)
    for merge in (False, True):
        loaded = load_adapter(tmp_path / "saved", merge=merge)
        torch.testing.assert_close(_logits(loaded, SIZE + 2), _logits(trainer.model, SIZE + 2), atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("side", [1, 2], ids=["old", "new"])
def test_tokens_that_one_side_alone_has_are_left_out_unless_the_data_hold_them(tmp_path: Path, side: int) -> None:
    for version in (1, 2):
        _make(tmp_path, version, added=version == side)
    trainer = _trainer(tmp_path, ROWS[:4])
    trainer.train()
    assert trainer.old_teacher.logits({"input_ids": torch.arange(9)[None]}).shape[-1] == SIZE
    trainer.save_model(str(tmp_path / "saved"))
    size = SIZE + 2 * (side == 2)
    assert torch.equal(_logits(load_adapter(tmp_path / "saved"), size), _logits(trainer.model, size))
    if side == 2:
        with pytest.raises(ModelMismatchError, match=r"tokens that the old model does not have.*<\|im_start\|>"):
            _trainer(tmp_path, _chats())


@pytest.mark.slow
def test_tokens_that_no_row_stands_for_are_refused_by_name(tmp_path: Path) -> None:
    for version in (1, 2):
        _make(tmp_path, version, added=False)
        _chat_tokenizer().save_pretrained(tmp_path / f"task-v{version}")
    with pytest.raises(ModelMismatchError, match=r"holds 2 tokens that the new model has no embeddings for.*im_start"):
        _trainer(tmp_path, _chats())
    _trainer(tmp_path, ROWS[:4])  # they may be there as long as nobody uses them


@pytest.mark.slow
@pytest.mark.parametrize("kind", [BertForSequenceClassification, LlamaForSequenceClassification])
def test_a_classifier_gets_the_rows_of_its_adapter_too(tmp_path: Path, kind: type[PreTrainedModel]) -> None:
    tiny_classifier(1, TOKENIZER, kind=kind).save_pretrained(tmp_path / "base")
    model = kind.from_pretrained(tmp_path / "base")
    model.resize_token_embeddings(SIZE + 2)
    head = "score" if hasattr(model, "score") else "classifier"
    options = {"target_modules": "all-linear", "modules_to_save": [head], "init_lora_weights": False}
    trained = get_peft_model(model, LoraConfig(task_type="SEQ_CLS", **options))
    trained.save_pretrained(tmp_path / "adapter")
    trained.config.save_pretrained(tmp_path / "adapter")
    ids = torch.arange(SIZE - 14, SIZE + 2)[None]
    with torch.no_grad():
        for load in (
            lambda: load_classifier(tmp_path / "base", tmp_path / "adapter", role="new"),
            lambda: load_adapter(tmp_path / "adapter"),
            lambda: load_adapter(tmp_path / "adapter", merge=True),
        ):
            torch.testing.assert_close(load().eval()(ids).logits, trained.eval()(ids).logits, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("trains_task_adapter", [False, True])
def test_an_update_of_adapters_with_added_tokens_comes_to_its_end(
    tmp_path: Path, trains_task_adapter: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    # The old adapter's tokens are not those of a task adapter that is trained on the bare new base.
    for version in (1, 2):
        _make(tmp_path, version, added=True)
    rows = _chats(30)
    if trains_task_adapter:
        rows = [{"prompt": f"q {n}\n", "completion": f"a{n % 3}"} for n in range(30)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    options = {
        "old-adapter": tmp_path / "task-v1",
        "new-base": tmp_path / "base-v2",
        "dataset": tmp_path / "data.jsonl",
        "output-dir": tmp_path / "out",
        "max-steps": 1,
        "bf16": "false",
        "use-cpu": "true",
    } | ({} if trains_task_adapter else {"new-adapter": tmp_path / "task-v2"})
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    assert main(["update", *words]) == 0
    adapter = str(tmp_path / "out" / "adapter")
    size = SIZE + 2 * (not trains_task_adapter)
    assert load_adapter(adapter, merge=True).config.vocab_size == size
    card = (tmp_path / "out" / "adapter" / "README.md").read_text(encoding="utf-8")
    assert ("resize_token_embeddings" in card) == (not trains_task_adapter)
    assert main(["push", adapter, "org/adapter", "--base-model", "org/base", "--license", "mit", "--dry-run"]) == 0
    assert "tokenizer.json" in capsys.readouterr().out
    answers = str(tmp_path / "answers.jsonl")
    assert main(["predict", adapter, str(tmp_path / "data.jsonl"), "--output", answers]) == 0
