"""The loss of real models: in slices as in full, for every kind of adapter, head and precision."""

import warnings
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from steps_of_losses import move, step_of
from tiny_models import TEXTS, tiny_adapter, tiny_llama, tiny_tokenizer
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    OPTConfig,
    OPTForCausalLM,
)

from muscle_hf.errors import ConfigurationError, TeacherError
from muscle_hf.losses.strategy import Strategy
from muscle_hf.teachers.live import FrozenModelTeacher, SharedBaseTeacher
from muscle_hf.training.loss.per_token import TokenLoss

ADAPTERS: dict[str, dict[str, Any]] = {
    "linear": {},
    "dropout": {"lora_dropout": 0.3},
    "dora": {"use_dora": True},
    "embeddings and norms": {"modules_to_save": ["embed_tokens", "norm"], "ensure_weight_tying": True},
    "LoRA on embeddings": {"target_modules": ["q_proj", "embed_tokens"], "ensure_weight_tying": True},
    "single tokens": {"trainable_token_indices": [3, 5, 40], "ensure_weight_tying": True},
}


def _batch(*, completion_only: bool = False) -> dict[str, torch.Tensor]:
    tokenizer = tiny_tokenizer()
    batch = tokenizer(list(TEXTS[:4]), padding=True, return_tensors="pt")
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    if completion_only:
        labels[:, :3] = -100
    return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], "labels": labels}


def _losses(
    student: Any, old: Any, *, strategy: Strategy | None = None, autocast: Any = nullcontext
) -> list[TokenLoss]:
    new, frozen = SharedBaseTeacher(student), FrozenModelTeacher(old)
    return [
        TokenLoss(student, frozen, new, strategy or Strategy(), implementation=way, autocast=autocast)
        for way in ("plain", "chunked")
    ]


def _assert_both_ways_agree(
    student: Any, old: Any, batch: dict[str, torch.Tensor], *, tolerance: float = 1e-5, **options: Any
) -> None:
    plain, sliced = _losses(student, old, **options)
    sliced.check(batch)
    move(student)
    student.train()
    (one, gradients), (other, others) = (step_of(loss, student, batch) for loss in (plain, sliced))
    assert other.loss.item() == pytest.approx(one.loss.item(), abs=tolerance)
    assert other.tokens_to_old == one.tokens_to_old
    assert others.keys() == gradients.keys()
    for name, gradient in gradients.items():
        assert (others[name] - gradient).abs().max() <= tolerance * max(1.0, gradient.abs().max().item()), name


@pytest.fixture(autouse=True)
def _small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("muscle_hf.training.loss.per_token.tokens_of_a_slice", lambda vocabulary, device: 7)


@pytest.mark.slow
@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("mask", ["student_wrong", "sequence_likelihood"])
def test_every_kind_of_adapter_has_one_loss_and_gradient_in_both_ways(adapter: str, mask: str) -> None:
    tokenizer = tiny_tokenizer()
    student = tiny_adapter(tiny_llama(1, tokenizer), 2, **ADAPTERS[adapter])
    old = tiny_adapter(tiny_llama(3, tokenizer), 4)
    _assert_both_ways_agree(student, old, _batch(), strategy=Strategy(mask=mask, cross_entropy_weight=0.3))


def test_gradient_checkpointing_and_slices_go_together() -> None:
    tokenizer = tiny_tokenizer()
    student = tiny_adapter(tiny_llama(1, tokenizer), 2, **ADAPTERS["embeddings and norms"])
    student.gradient_checkpointing_enable({"use_reentrant": False})
    _assert_both_ways_agree(student, tiny_llama(3, tokenizer), _batch())


@pytest.mark.slow
@pytest.mark.parametrize("adapter", ["linear", "embeddings and norms", "LoRA on embeddings"])
def test_autocast_and_slices_go_together(adapter: str) -> None:
    tokenizer = tiny_tokenizer()
    student = tiny_adapter(tiny_llama(1, tokenizer), 2, **ADAPTERS[adapter])

    def autocast() -> Any:
        return torch.autocast("cpu", torch.bfloat16)

    plain, sliced = _losses(student, tiny_llama(3, tokenizer), autocast=autocast)
    move(student)
    with autocast():
        (one, gradients), (other, others) = (step_of(loss, student, _batch()) for loss in (plain, sliced))
    assert other.loss.item() == pytest.approx(one.loss.item(), rel=2e-2)
    for name, gradient in gradients.items():
        distance, size = (others[name] - gradient).norm(), gradient.norm()
        assert distance <= 0.1 * size + 1e-4, name


def _other_family(name: str, seed: int) -> Any:
    tokenizer = tiny_tokenizer()
    sizes = {
        "vocab_size": len(tokenizer),
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
            config = Gemma2Config(**sizes, head_dim=8, final_logit_softcapping=2.0)
            return Gemma2ForCausalLM(config)
        if name == "scaled logits":
            return CohereForCausalLM(CohereConfig(**sizes, logit_scale=0.3))
        if name == "a backbone that is not called":
            sizes |= {"ffn_dim": 32, "init_std": 0.5, "word_embed_proj_dim": 8}
            return OPTForCausalLM(OPTConfig(**sizes))
        return GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), n_embd=16, n_layer=1, n_head=2))


@pytest.mark.slow
@pytest.mark.parametrize(
    "family", ["soft-capped logits", "scaled logits", "absolute positions", "a backbone that is not called"]
)
def test_other_families_of_models_have_one_loss_in_both_ways(family: str) -> None:
    base, old = _other_family(family, 1), _other_family(family, 2)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "fan_in_fan_out", UserWarning)
        student = get_peft_model(base, LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM"))
    _assert_both_ways_agree(student, old, _batch())


def test_a_bias_of_the_head_is_respected() -> None:
    tokenizer = tiny_tokenizer()
    models = [tiny_llama(seed, tokenizer, tie_word_embeddings=False) for seed in (1, 3)]
    for seed, model in enumerate(models):
        bias = torch.randn(len(tokenizer), generator=torch.Generator().manual_seed(seed))
        model.lm_head.bias = torch.nn.Parameter(bias)
    _assert_both_ways_agree(tiny_adapter(models[0], 2), models[1], _batch())


def test_the_new_teacher_keeps_its_own_embeddings_when_the_student_trains_them() -> None:
    tokenizer = tiny_tokenizer()
    student = tiny_adapter(tiny_llama(1, tokenizer), 2, **ADAPTERS["embeddings and norms"])
    teacher = SharedBaseTeacher(student)
    inputs = {name: value for name, value in _batch().items() if name != "labels"}
    before = teacher.logits(inputs)
    move(student)
    assert torch.equal(teacher.logits(inputs), before)
    again = teacher.project(teacher.hidden_states(inputs).flatten(0, 1)).view_as(before)
    assert torch.allclose(again, before, atol=1e-5)


def test_a_sequence_without_a_wrong_token_costs_no_pass_of_the_old_model() -> None:
    tokenizer = tiny_tokenizer()
    student, old = tiny_adapter(tiny_llama(1, tokenizer), 2), tiny_llama(3, tokenizer)
    batch = _batch()
    with torch.no_grad():
        said = student(batch["input_ids"], attention_mask=batch["attention_mask"]).logits.argmax(-1)
    batch["labels"][1, 1:] = said[1, :-1]  # row 1 is right everywhere
    rows_read: list[int] = []
    old.register_forward_pre_hook(
        lambda module, arguments, inputs: rows_read.append(len(inputs["input_ids"])), with_kwargs=True
    )
    plain, sliced = _losses(student, old)
    one, other = (step_of(loss, student, batch)[0] for loss in (plain, sliced))
    assert rows_read == [4, 3]
    assert other.loss.item() == pytest.approx(one.loss.item(), abs=1e-6)


def test_outputs_have_all_logits_where_somebody_reads_them() -> None:
    tokenizer = tiny_tokenizer()
    student = tiny_adapter(tiny_llama(1, tokenizer), 2)
    _, sliced = _losses(student, tiny_llama(3, tokenizer))
    batch = _batch()
    _, few = sliced(student, batch, normalizer=None, needs_logits=False)
    _, all_of_them = sliced(student, batch, normalizer=None, needs_logits=True)
    assert few.logits.shape[1] == 1
    assert all_of_them.logits.shape[:2] == batch["input_ids"].shape


def test_small_logits_are_taken_in_full_and_large_ones_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = tiny_tokenizer()
    student, old = tiny_adapter(tiny_llama(1, tokenizer), 2), tiny_llama(3, tokenizer)
    loss = TokenLoss(
        student,
        FrozenModelTeacher(old),
        SharedBaseTeacher(student),
        Strategy(),
        implementation="auto",
        autocast=nullcontext,
    )
    batch = _batch()
    assert loss(student, batch, normalizer=None, needs_logits=False)[1].logits.shape[1] > 1
    monkeypatch.setattr("muscle_hf.training.loss.slicing._SMALL_LOGITS", 10)
    assert loss(student, batch, normalizer=None, needs_logits=False)[1].logits.shape[1] == 1


class _TwistedLlama(type(tiny_llama(0, tiny_tokenizer()))):  # type: ignore[misc]
    """A model that does more to its logits than its config says."""

    def forward(self, input_ids: torch.Tensor, logits_to_keep: int = 0, **arguments: Any) -> Any:
        output = super().forward(input_ids=input_ids, logits_to_keep=logits_to_keep, **arguments)
        output.logits = output.logits * 2
        return output


def test_a_head_of_an_unknown_kind_is_found_before_training() -> None:
    tokenizer = tiny_tokenizer()
    twisted = _TwistedLlama(tiny_llama(0, tokenizer).config)
    _, sliced = _losses(tiny_adapter(tiny_llama(1, tokenizer), 2), twisted)
    with pytest.raises(ConfigurationError, match=r"logits of the old model .* are not its LM head applied"):
        sliced.check(_batch())


class _NoKeeping(type(tiny_llama(0, tiny_tokenizer()))):  # type: ignore[misc]
    def forward(self, input_ids: torch.Tensor, attention_mask: Any = None, use_cache: bool = False) -> Any:
        return super().forward(input_ids=input_ids, attention_mask=attention_mask)


def test_a_model_that_gives_no_hidden_states_is_trained_in_full_or_refused() -> None:
    tokenizer = tiny_tokenizer()
    student, old = tiny_adapter(tiny_llama(1, tokenizer), 2), _NoKeeping(tiny_llama(0, tokenizer).config)
    teachers = FrozenModelTeacher(old), SharedBaseTeacher(student)
    auto = TokenLoss(student, *teachers, Strategy(), implementation="auto", autocast=nullcontext)
    assert auto(student, _batch(), normalizer=None, needs_logits=False)[0].loss > 0
    with pytest.raises(ConfigurationError, match="_NoKeeping does not give hidden states"):
        TokenLoss(student, *teachers, Strategy(), implementation="chunked", autocast=nullcontext)


def test_a_teacher_that_turns_to_nan_stops_both_ways() -> None:
    tokenizer = tiny_tokenizer()
    student, old = tiny_adapter(tiny_llama(1, tokenizer), 2), tiny_llama(3, tokenizer)
    with torch.no_grad():
        old.model.norm.weight[0] = torch.nan
    for loss in _losses(student, old, strategy=Strategy(mask="none")):
        with pytest.raises(TeacherError, match="old model gives NaN"):
            loss(student, _batch(), normalizer=None, needs_logits=False)


def test_an_adapter_saved_by_peft_is_read_in_slices_too(tmp_path: Any) -> None:
    tokenizer = tiny_tokenizer()
    tiny_adapter(tiny_llama(1, tokenizer), 2, **ADAPTERS["LoRA on embeddings"]).save_pretrained(tmp_path)
    student = PeftModel.from_pretrained(tiny_llama(1, tokenizer), tmp_path, is_trainable=True)
    _assert_both_ways_agree(student, tiny_llama(3, tokenizer), _batch(completion_only=True))


def test_the_papers_default_is_bit_for_bit_equation_1_on_full_logits() -> None:
    tokenizer = tiny_tokenizer()
    student, old = tiny_adapter(tiny_llama(1, tokenizer), 2), tiny_llama(3, tokenizer)
    teachers = FrozenModelTeacher(old), SharedBaseTeacher(student)
    loss = TokenLoss(student, *teachers, Strategy(), implementation="auto", autocast=nullcontext)
    move(student)
    batch = _batch()
    result, gradients = step_of(loss, student, batch)
    # The same by hand, as the trainer did it before there were strategies, caches and slices.
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    labels = torch.nn.functional.pad(batch["labels"][:, 1:], (0, 1), value=-100)
    trained = labels != -100
    of_old, of_new = (teacher.logits(inputs | {"use_cache": False})[trained] for teacher in teachers)
    student.zero_grad()
    z, gold = student(**inputs, use_cache=False).logits[trained], labels[trained]
    wrong = z.detach().argmax(-1) != gold
    log_p = torch.nn.functional.log_softmax(torch.where(wrong[:, None], of_old, of_new) / 2.0, dim=-1)
    log_q = torch.nn.functional.log_softmax(z / 2.0, dim=-1)
    expected = (log_p.exp() * (log_p - log_q)).sum(-1).sum() / trained.sum()
    expected.backward()
    assert torch.equal(result.loss, expected)
    for name, weight in student.named_parameters():
        if weight.requires_grad:
            assert torch.equal(gradients[name], weight.grad), name
