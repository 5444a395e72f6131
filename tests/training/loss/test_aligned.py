"""The loss of real models with two tokenizers: in slices as in full, for every kind of adapter, head and precision."""

import warnings
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from steps_of_losses import move, step_of
from tiny_models import TEXTS, tiny_adapter, tiny_llama, tiny_tokenizer
from torch.nn.utils.rnn import pad_sequence
from transformers import Gemma2Config, Gemma2ForCausalLM, OPTConfig, OPTForCausalLM

from muscle_hf.alignment.encoding import ChunkEncoder
from muscle_hf.errors import ConfigurationError, TeacherError
from muscle_hf.losses.strategy import Strategy
from muscle_hf.teachers.live import FrozenModelTeacher, SharedBaseTeacher
from muscle_hf.training.loss.aligned import AlignedLoss

OTHER_TEXTS = ["zebra crossing the quiet boulevard to my savings", "quartz boulders quench quarrels"]
NEW, OLD = tiny_tokenizer(), tiny_tokenizer(OTHER_TEXTS, vocabulary_size=300)
ADAPTERS: dict[str, dict[str, Any]] = {
    "linear": {},
    "dropout": {"lora_dropout": 0.3},
    "embeddings and norms": {"modules_to_save": ["embed_tokens", "norm"], "ensure_weight_tying": True},
    "LoRA on embeddings": {"target_modules": ["q_proj", "embed_tokens"], "ensure_weight_tying": True},
    "single tokens": {"trainable_token_indices": [3, 5, 40], "ensure_weight_tying": True},
}


def _batch(texts: tuple[str, ...] = TEXTS[:4], *, completion_only: bool = False) -> dict[str, torch.Tensor]:
    rows: dict[str, list[Any]] = {
        "text": list(texts),
        "input_ids": [NEW(f"{text}</s>")["input_ids"] for text in texts],
    }
    rows["labels"] = [[-100] * 3 * completion_only + ids[3 * completion_only :] for ids in rows["input_ids"]]
    rows |= ChunkEncoder(NEW, OLD)(rows)
    rows["attention_mask"], rows["old_attention_mask"] = (
        [[1] * len(ids) for ids in rows[name]] for name in ("input_ids", "old_input_ids")
    )
    fillers = {"labels": -100, "chunk_ids": -1, "old_chunk_ids": -1}
    return {
        name: pad_sequence([torch.tensor(row) for row in values], True, fillers.get(name, 0))
        for name, values in rows.items()
        if name != "text"
    }


def _loss(
    student: Any, old: Any, way: str = "chunked", *, strategy: Strategy | None = None, autocast: Any = nullcontext
) -> AlignedLoss:
    return AlignedLoss(
        student,
        FrozenModelTeacher(old),
        SharedBaseTeacher(student),
        strategy or Strategy(),
        tokenizers=(NEW, OLD),
        old_vocabulary=len(OLD),
        implementation=way,
        autocast=autocast,
    )


def _assert_both_ways_agree(student: Any, old: Any, **options: Any) -> None:
    plain, sliced = (_loss(student, old, way, **options) for way in ("plain", "chunked"))
    batch = _batch(completion_only=True)
    sliced.check(batch)
    move(student)
    student.train()
    (one, gradients), (other, others) = (step_of(loss, student, batch) for loss in (plain, sliced))
    assert other.loss.item() == pytest.approx(one.loss.item(), abs=1e-5)
    assert other.tokens_to_old == one.tokens_to_old > 0
    assert others.keys() == gradients.keys()
    for name, gradient in gradients.items():
        assert (others[name] - gradient).abs().max() <= 1e-5 * max(1.0, gradient.abs().max().item()), name


@pytest.fixture(autouse=True)
def _small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("muscle_hf.training.loss.aligned.tokens_of_a_slice", lambda vocabulary, device: 7)


@pytest.mark.slow
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_every_kind_of_adapter_has_one_loss_and_gradient_in_both_ways(adapter: str) -> None:
    student = tiny_adapter(tiny_llama(1, NEW), 2, **ADAPTERS[adapter])
    student.gradient_checkpointing_enable({"use_reentrant": False})
    _assert_both_ways_agree(student, tiny_adapter(tiny_llama(3, OLD), 4), strategy=Strategy(cross_entropy_weight=0.3))


def _other_family(name: str, seed: int, vocabulary: int) -> Any:
    sizes = {
        "vocab_size": vocabulary,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "initializer_range": 0.5,
        "pad_token_id": 0,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name == "soft-capped logits":
            return Gemma2ForCausalLM(Gemma2Config(**sizes, head_dim=8, final_logit_softcapping=2.0))
        sizes |= {"ffn_dim": 32, "init_std": 0.5, "word_embed_proj_dim": 8}
        return OPTForCausalLM(OPTConfig(**sizes))


@pytest.mark.slow
@pytest.mark.parametrize("family", ["soft-capped logits", "a projection before the head"])
def test_other_families_of_models_have_one_loss_in_both_ways(family: str) -> None:
    base, old = _other_family(family, 1, len(NEW)), _other_family(family, 2, len(OLD))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "fan_in_fan_out", UserWarning)
        student = get_peft_model(base, LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM"))
    _assert_both_ways_agree(student, old, strategy=Strategy(mask="none"))


@pytest.mark.slow
def test_autocast_and_slices_go_together() -> None:
    def autocast() -> Any:
        return torch.autocast("cpu", torch.bfloat16)

    student, old = tiny_adapter(tiny_llama(1, NEW), 2), tiny_llama(3, OLD)
    losses = [_loss(student, old, way, autocast=autocast) for way in ("plain", "chunked")]
    move(student)
    with autocast():
        (one, gradients), (other, others) = (step_of(loss, student, _batch()) for loss in losses)
    assert other.loss.item() == pytest.approx(one.loss.item(), rel=2e-2)
    for name, gradient in gradients.items():
        assert (others[name] - gradient).norm() <= 0.1 * gradient.norm() + 1e-4, name


def test_a_row_without_a_wrong_chunk_costs_no_pass_of_the_old_model() -> None:
    student, old = tiny_adapter(tiny_llama(1, NEW), 2), tiny_llama(3, OLD)
    batch = _batch()
    with torch.no_grad():
        said = student(batch["input_ids"], attention_mask=batch["attention_mask"]).logits.argmax(-1)
    batch["labels"][1, 1:] = said[1, :-1]  # row 1 is right everywhere
    rows_read: list[int] = []
    old.register_forward_pre_hook(
        lambda module, arguments, inputs: rows_read.append(len(inputs["input_ids"])), with_kwargs=True
    )
    results = [step_of(_loss(student, old, way), student, batch)[0] for way in ("plain", "chunked")]
    assert rows_read == [4, 3]
    assert results[1].loss.item() == pytest.approx(results[0].loss.item(), abs=1e-6)
    step_of(_loss(student, old, strategy=Strategy(mask="none", teacher="new")), student, batch)
    assert rows_read == [4, 3]


def test_only_where_somebody_reads_them_are_all_logits_there(monkeypatch: pytest.MonkeyPatch) -> None:
    student, old, batch = tiny_adapter(tiny_llama(1, NEW), 2), tiny_llama(3, OLD), _batch()

    def length(loss: AlignedLoss, *, needs_logits: bool = False) -> int:
        logits = loss(student, batch, normalizer=None, needs_logits=needs_logits)[1].logits
        return int(logits.shape[1])

    whole = batch["input_ids"].shape[1]
    by_size = _loss(student, old, "auto")
    assert (length(by_size), length(_loss(student, old)), length(_loss(student, old), needs_logits=True)) == (
        whole,
        1,
        whole,
    )
    monkeypatch.setattr("muscle_hf.training.loss.slicing._SMALL_LOGITS", 10)
    assert length(by_size) == 1


def test_heads_of_an_unknown_kind_and_teachers_with_nan_are_refused() -> None:
    student, old = tiny_adapter(tiny_llama(1, NEW), 2), tiny_llama(3, OLD)
    old.config.logit_scale = 2.0  # no part of what Llama computes
    with pytest.raises(ConfigurationError, match=r"logits of the old model .* are not its LM head applied"):
        _loss(student, old).check(_batch())
    old = tiny_llama(3, OLD)
    with torch.no_grad():
        old.model.norm.weight[0] = torch.nan
    for way in ("plain", "chunked"):
        loss = _loss(student, old, way, strategy=Strategy(mask="none"))
        with pytest.raises(TeacherError, match="old model gives NaN"):
            loss.check(_batch())
        with pytest.raises(TeacherError, match="old model gives NaN"):
            loss(student, _batch(), normalizer=None, needs_logits=False)
