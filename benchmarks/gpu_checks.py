"""What `gpu.py` checks, on tiny models: each check says what it measured, or raises."""

import argparse
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM
from transformers import PreTrainedTokenizerFast as FastTokenizer

from muscle_hf import CompatibilityConfig, CompatibilityTrainer

TINY = {"vocabulary": 2048, "hidden": 64, "layers": 2, "length": 48}
FSDP2 = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT",
}


class LeftOutError(Exception):
    """A part that cannot be run here, with the reason."""


class FailedError(Exception):
    """A check that does not hold, with what was measured."""


# Models and trainers -------------------------------------------------------------------------------------------------


def tokenizer_of(size: int) -> FastTokenizer:
    """Return a tokenizer with that many words."""
    tokenizer = Tokenizer(models.WordLevel({f"w{number}": number for number in range(size)}, unk_token="w0"))  # noqa: S106 - a word, not a secret
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return FastTokenizer(tokenizer_object=tokenizer, pad_token="w0", eos_token="w1", bos_token="w2")  # noqa: S106


def llama(size: argparse.Namespace, seed: int, dtype: torch.dtype = torch.float32) -> LlamaForCausalLM:
    """Return a Llama with random weights; 16 layers of 2,048 have the shape of Llama 3.2 1B."""
    heads = max(1, size.hidden // 64)
    config = LlamaConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.hidden,
        intermediate_size=4 * size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=heads,
        num_key_value_heads=max(1, heads // 4),
        max_position_embeddings=2 * size.length,
        tie_word_embeddings=True,
        initializer_range=0.1 if size.hidden == TINY["hidden"] else 0.02,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=1,
    )
    torch.manual_seed(seed)
    with torch.device(size.device):
        return LlamaForCausalLM(config).to(dtype)


def adapted(base: Any) -> Any:
    """Return a base with an adapter that changes what it says."""
    torch.manual_seed(3)
    model = get_peft_model(base, LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM"))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.05)
    return model


@torch.no_grad()
def rows_of(size: argparse.Namespace, count: int, dtype: torch.dtype = torch.float32) -> Dataset:
    """Return encoded rows on which the student is right at every second token."""
    student, rows = adapted(llama(size, 2, dtype)).eval(), []
    ids = torch.randint(3, size.vocabulary, (count, size.length), generator=torch.Generator().manual_seed(0))
    for row in ids:
        hidden = student.get_base_model().model(row[None].to(size.device)).last_hidden_state[0]
        said = torch.cat([student.get_output_embeddings()(few).argmax(-1) for few in hidden.split(256)]).cpu()
        labels = row.clone()
        labels[2::2] = said[1:-1:2]
        rows.append({"input_ids": row.tolist(), "labels": labels.tolist()})
    return Dataset.from_list(rows)


def common_options(size: argparse.Namespace, folder: Path, batch: int, *, bf16: bool) -> dict[str, Any]:
    """Return what every trainer is given."""
    return {
        "output_dir": str(folder),
        "per_device_train_batch_size": batch,
        "max_length": size.length,
        "bf16": bf16,
        "use_cpu": size.device == "cpu",
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
    }


def tiny_trainer(device: str, folder: Path, *, models: Any = None, bf16: bool = False, **options: Any) -> Any:
    """Return a trainer of a tiny update."""
    size = argparse.Namespace(**TINY, device=device)
    student, old = models or (adapted(llama(size, 2)), llama(size, 1))
    more = {name: options.pop(name) for name in ("flips_dataset",) if name in options}
    return CompatibilityTrainer(
        student,
        old,
        args=CompatibilityConfig(**common_options(size, folder, 4, bf16=bf16) | options),
        train_dataset=rows_of(size, 8),
        processing_class=tokenizer_of(size.vocabulary),
        **more,
    )


def gradient(trainer: Any) -> torch.Tensor:
    """Return the gradient of one batch as one vector."""
    trainer.model.train()
    batch = trainer._prepare_inputs(trainer.data_collator([trainer.train_dataset[row] for row in range(4)]))
    trainer.training_step(trainer.model, batch, num_items_in_batch=(batch["labels"][:, 1:] != -100).sum())
    return torch.cat([w.grad.flatten().double().cpu() for w in trainer.model.parameters() if w.grad is not None])


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return how far a vector is from another, as a share of its norm."""
    return ((one - other).norm() / other.norm()).item()


def hold(name: str, measured: float, bound: float) -> str:
    """Return what was measured, or refuse what is above the bound, NaN too."""
    said = f"{name} {measured:.1e}, at most {bound:.1e}"
    if not measured <= bound:
        raise FailedError(said)
    return said


# Checks --------------------------------------------------------------------------------------------------------------


def slices_in_float32(device: str, folder: Path) -> str:
    """Compare the gradients of both ways."""
    full = gradient(tiny_trainer(device, folder, loss_implementation="plain"))
    return hold(
        "distance", distance(gradient(tiny_trainer(device, folder, loss_implementation="chunked")), full), 1e-4
    )


def slices_in_bfloat16(device: str, folder: Path) -> str:
    """Compare the rounding of both ways; every token has one teacher, whom rounding cannot exchange."""
    exact = gradient(tiny_trainer(device, folder, mask="none", loss_implementation="plain"))
    sliced, full = (
        distance(gradient(tiny_trainer(device, folder, mask="none", bf16=True, loss_implementation=way)), exact)
        for way in ("chunked", "plain")
    )
    return hold("distance from float32", sliced, 2 * full)


def caches(device: str, folder: Path) -> str:
    """Compare the gradients with caches that leave nothing out to those without a cache."""
    live, said = gradient(tiny_trainer(device, folder, loss_implementation="chunked")), []
    for options in ({"teacher_cache": "hidden"}, {"teacher_cache": "topk", "teacher_cache_k": TINY["vocabulary"] - 1}):
        kind = str(options["teacher_cache"])
        trainer = tiny_trainer(device, folder / kind, **options)
        trainer.cache_teachers()
        # Probabilities are kept in half precision.
        said.append(hold(kind, distance(gradient(trainer), live), 1e-3 if kind == "hidden" else 2e-2))
    return "; ".join(said)


def flips(device: str, folder: Path) -> str:
    """Measure the flips of a student that does not learn."""
    choices = [f" w{number}" for number in range(40, 44)]
    questions = [
        {"prompt": f"w{number} w{number + 9}", "choices": choices, "answer": number % 4} for number in range(3, 35)
    ]
    options = {"learning_rate": 0.0, "max_steps": 1, "flips_dataset": Dataset.from_list(questions)}
    trainer = tiny_trainer(device, folder, **options)
    trainer.train()
    figures = trainer.evaluate()
    rates = [figures[f"eval_{name}negative_flip_rate"] for name in ("", "new_")]
    rates += [figures[f"eval_{name}accuracy"] for name in ("", "new_")]
    if rates[0] != rates[1] or rates[2] != rates[3]:
        raise FailedError(f"flips and accuracy of student and new model: {rates}")
    return f"NFR {rates[0]:.3f} of both"


def resume(device: str, folder: Path) -> str:
    """Train four steps, and the last two of them once more from the checkpoint of the second."""
    options = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "learning_rate": 1e-3}

    def weights(checkpoint: str | None) -> torch.Tensor:
        trainer = tiny_trainer(device, folder, **options)
        trainer.train(resume_from_checkpoint=checkpoint)
        return torch.cat([w.detach().flatten().double().cpu() for w in trainer.model.parameters() if w.requires_grad])

    whole = weights(None)
    return hold("distance", distance(weights(str(folder / "checkpoint-2")), whole), 0.0 if device == "cpu" else 1e-6)


def losses(device: str, folder: Path) -> list[float]:
    """Return the losses of two steps."""
    trainer = tiny_trainer(device, folder, max_steps=2, logging_steps=1, loss_implementation="chunked")
    trainer.train()
    return [log["loss"] for log in trainer.state.log_history if "loss" in log]


def fsdp2(device: str, folder: Path) -> str:
    """Compare the losses of two steps under FSDP2, in a process of its own, to those of one that splits nothing."""
    if device == "cpu":
        raise LeftOutError("accelerate turns FSDP2 into DDP on a CPU")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    place = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [
        sys.executable,
        str(Path(__file__).with_name("gpu.py")),
        "--device",
        device,
        "--fsdp2-in",
        str(folder / "split"),
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | FSDP2 | place)  # noqa: S603 - beside this file
    if result.returncode:
        raise FailedError(result.stderr.strip().splitlines()[-1])
    split, whole = json.loads(result.stdout.splitlines()[-1]), losses(device, folder)
    return hold("losses", max(abs(one / other - 1) for one, other in zip(split, whole, strict=True)), 1e-4)


def nf4(device: str, folder: Path) -> str:
    """Compare the gradients of both ways on bases in four bits."""
    if find_spec("bitsandbytes") is None:
        raise LeftOutError("bitsandbytes is not installed")
    size, gradients = argparse.Namespace(**TINY, device=device), []
    for seed in (1, 2):
        llama(size, seed).save_pretrained(folder / str(seed))
    four_bits = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.bfloat16}
    for way in ("chunked", "plain"):
        old, base = (
            AutoModelForCausalLM.from_pretrained(
                folder / str(seed), quantization_config=BitsAndBytesConfig(**four_bits), device_map={"": device}
            )
            for seed in (1, 2)
        )
        options = {"loss_implementation": way, "mask": "none", "bf16": True, "models": (adapted(base), old)}
        gradients.append(gradient(tiny_trainer(device, folder / way, **options)))
    return hold("distance", distance(*gradients), 5e-2)


CHECKS: dict[str, Callable[[str, Path], str]] = {
    "slices, float32": slices_in_float32,
    "slices, bfloat16": slices_in_bfloat16,
    "caches": caches,
    "flips in the loop": flips,
    "resume": resume,
    "FSDP2 of one process": fsdp2,
    "NF4": nf4,
}
