"""The router loss of a mixture of experts: added as TRL adds it, in every way of the loss; no teacher pays for it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers.models.mixtral.modeling_mixtral as mixtral
from datasets import Dataset
from tiny_models import tiny_adapter, tiny_llama, tiny_tokenizer
from tiny_updates import ROWS, config_of, weights_of
from transformers import MixtralConfig, MixtralForCausalLM, TrainerCallback
from trl import SFTConfig, SFTTrainer

from muscle_hf import CompatibilityTrainer, ConfigurationError
from muscle_hf.training.cross_entropy import CrossEntropyTrainer

TOKENIZER = tiny_tokenizer()
OTHER = tiny_tokenizer(["zebra crossing the quiet boulevard", "quartz boulders quench quarrels"], vocabulary_size=300)
# Of two rows each, so that the two batches of an accumulated step differ.
LONG_AND_SHORT = [ROWS[0], ROWS[1], *({"prompt": "a b c d e f g h i j\n" * 3, "completion": "b"} for _ in range(2))]
WAYS: dict[str, dict[str, Any]] = {
    "plain": {"loss_implementation": "plain"},
    "chunked": {"loss_implementation": "chunked"},
    "topk": {"teacher_cache": "topk"},
    "aligned": {"alignment": "chunks"},
}


def experts(seed: int = 2, **options: Any) -> Any:
    """Return a mixture of experts whose router, attention and experts an adapter trains."""
    sizes = {"hidden_size": 16, "intermediate_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
    routers = {"num_key_value_heads": 1, "num_local_experts": 4, "num_experts_per_tok": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = MixtralForCausalLM(
            MixtralConfig(vocab_size=len(TOKENIZER), initializer_range=0.3, **sizes, **routers, **options)
        )
    lora = {"target_modules": ["q_proj"], "target_parameters": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]}
    return tiny_adapter(model, seed, **lora, modules_to_save=["gate"])


def old_model(way: str = "plain") -> Any:
    return tiny_llama(1, OTHER if "aligned" in way else TOKENIZER, hidden_size=16, layers=1)


def trainer_of(folder: Path, way: str = "plain", *, model: Any = None, **options: Any) -> CompatibilityTrainer:
    old = old_model(way)
    if "aligned" in way:
        old.save_pretrained(folder / "old")
        OTHER.save_pretrained(folder / "old")
        old = str(folder / "old")
    return CompatibilityTrainer(
        experts() if model is None else model,
        old,
        args=config_of(folder / "out", gradient_checkpointing=False, **WAYS[way] | options),
        train_dataset=Dataset.from_list(options.pop("rows", ROWS)),
        processing_class=TOKENIZER,
    )


def gradients(trainer: Any, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
    trainer.model.zero_grad()
    trainer.training_step(trainer.model, dict(batch), num_items_in_batch=torch.tensor(7))
    return {name: weight.grad.clone() for name, weight in trainer.model.named_parameters() if weight.requires_grad}


@pytest.fixture
def router_losses(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The router losses that any model has computed."""
    computed: list[Any] = []
    original: Callable[..., Any] = mixtral.load_balancing_loss_func

    def counted(*arguments: Any) -> Any:
        computed.append(original(*arguments))
        return computed[-1]

    monkeypatch.setattr(mixtral, "load_balancing_loss_func", counted)
    return computed


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_the_router_loss_is_added_once_whatever_the_loss_is_made_from(
    tmp_path: Path, way: str, router_losses: list[Any]
) -> None:
    trainer = trainer_of(tmp_path, way, router_aux_loss_coef=0.7)
    if trainer.args.teacher_cache != "none":
        trainer.cache_teachers()
    batch = trainer._prepare_inputs(trainer.data_collator([trainer.train_dataset[row] for row in (0, 1, 2)]))
    router_losses.clear()  # one look at the student, when the trainer was made
    both = gradients(trainer, batch)
    # The student's alone: not the teachers', who read the same base.
    assert len(router_losses) == 1
    logs: dict[str, float] = {}
    trainer.log(logs)
    trainer._router.weight = 0.0
    alone = gradients(trainer, batch)
    student = experts()
    output = student(batch["input_ids"], batch["attention_mask"], output_router_logits=True, use_cache=False)
    (0.7 * output.aux_loss).backward()
    # None where nothing behind it is routed: the experts of the last layer.
    expected = {name: weight.grad for name, weight in student.named_parameters() if weight.grad is not None}
    assert any("gate.modules_to_save" in name for name in expected)
    for name, gradient in both.items():
        routers = expected.get(name, torch.zeros_like(gradient))
        assert torch.allclose(gradient - alone[name], routers, atol=1e-6, rtol=1e-4), name
    assert logs["aux_loss"] == pytest.approx(output.aux_loss.item(), rel=1e-6)


class KeepGradients(TrainerCallback):  # type: ignore[misc]
    def __init__(self) -> None:
        self.kept: dict[str, torch.Tensor] = {}

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        self.kept = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.requires_grad}


def step(folder: Path, kind: type, weight: float) -> tuple[dict[str, torch.Tensor], list[dict[str, float]]]:
    """Train one step of two batches and return its gradients and the log."""
    keep = KeepGradients()
    rows = Dataset.from_list(LONG_AND_SHORT)
    options = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "max_grad_norm": 0.0}
    common = {"train_sampling_strategy": "sequential", "router_aux_loss_coef": weight, "max_steps": 1}
    config = config_of(folder, gradient_checkpointing=False, **options, **common, loss_implementation="plain")
    more = {"train_dataset": rows, "processing_class": TOKENIZER, "callbacks": [keep]}
    if kind is CompatibilityTrainer:
        trainer = CompatibilityTrainer(experts(), old_model(), args=config, **more)
    else:
        names = ("output_dir", "bf16", "use_cpu", "report_to", "logging_steps", "save_strategy", "disable_tqdm")
        same = {name: getattr(config, name) for name in (*names, *options, *common, "gradient_checkpointing")}
        own = SFTConfig(**same, completion_only_loss=False, dataloader_pin_memory=False)
        trainer = kind(experts(), args=own, **more)
    trainer.train()
    return keep.kept, trainer.state.log_history


@pytest.mark.slow
@pytest.mark.parametrize("kind", [CompatibilityTrainer, CrossEntropyTrainer])
def test_the_share_of_the_router_loss_is_that_of_trl_with_accumulation_too(tmp_path: Path, kind: type) -> None:
    results = {
        (one, weight): step(tmp_path / f"{one.__name__}-{weight}", one, weight)
        for one in (kind, SFTTrainer)
        for weight in (0.0, 0.5)
    }
    ours, theirs = (
        {name: results[one, 0.5][0][name] - gradient for name, gradient in results[one, 0.0][0].items()}
        for one in (kind, SFTTrainer)
    )
    assert max(gradient.abs().max() for gradient in theirs.values()) > 1e-3
    for name, gradient in theirs.items():
        assert torch.allclose(ours[name], gradient, atol=1e-6, rtol=1e-3), name
    logged, expected = (
        [log["aux_loss"] for log in results[one, 0.5][1] if "aux_loss" in log] for one in (kind, SFTTrainer)
    )
    assert logged == pytest.approx(expected, rel=1e-5)
    assert not any("aux_loss" in log for log in results[kind, 0.0][1])


@pytest.mark.slow
def test_a_mixture_whose_experts_and_router_are_adapted_trains_evaluates_and_keeps_its_teacher(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, student_rank=6, loss_implementation="chunked")  # the config's own weight
    assert trainer.router_aux_loss_coef == 0.001
    inputs = {"input_ids": torch.arange(3, 11)[None]}
    with torch.no_grad():
        before = experts()(**inputs).logits
    start = weights_of(trainer)
    trainer.train()
    assert all(
        not torch.equal(weight, start[name]) for name, weight in weights_of(trainer).items() if "experts" in name
    )
    assert torch.allclose(trainer.new_teacher.logits(inputs), before, atol=1e-5)
    metrics = trainer.evaluate(Dataset.from_list(ROWS[:5]))
    # Two batches, of four rows and of one: their mean, as they are added to the loss.
    assert metrics["eval_aux_loss"] > 0
    assert trainer.model.config.output_router_logits  # asked for again after the teachers' turn


def test_a_model_that_names_a_router_loss_and_gives_none_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mixtral, "load_balancing_loss_func", lambda *_: None)
    with pytest.raises(ConfigurationError, match=r"MixtralForCausalLM .* gives none .* router_aux_loss_coef=0\.0"):
        trainer_of(tmp_path)
