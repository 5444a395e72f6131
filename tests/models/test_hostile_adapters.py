"""An adapter of somebody else: whatever its files say, nothing runs, hangs, fills the memory or trains on nonsense."""

import json
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import tiny_adapter, tiny_llama, tiny_tokenizer
from transformers import LlamaForCausalLM

from muscle_hf.errors import MuscleError
from muscle_hf.hub.adapter_config import _repeats_a_repetition
from muscle_hf.models.adapters import load_adapted_model
from muscle_hf.models.load import load_adapter

BOMB = "(([a-z_.0-9]+)+)+!"
Spoil = Callable[[Path], object]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    tiny_llama(1, tiny_tokenizer(), hidden_size=16, layers=1).save_pretrained(folder / "base")
    tiny_adapter(LlamaForCausalLM.from_pretrained(folder / "base"), 2).save_pretrained(folder / "adapter")
    return folder


class _Planted:
    """Unpickled, it writes a file: what a hostile adapter would do to whoever opens it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


def _config(**fields: Any) -> Spoil:
    def spoil(adapter: Path) -> None:
        file = adapter / "adapter_config.json"
        file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | fields), encoding="utf-8")

    return spoil


def _weights(change: Callable[[torch.Tensor], torch.Tensor]) -> Spoil:
    def spoil(adapter: Path) -> None:
        tensors = load_file(adapter / "adapter_model.safetensors")
        name = next(iter(tensors))
        save_file(tensors | {name: change(tensors[name])}, adapter / "adapter_model.safetensors", {"format": "pt"})

    return spoil


def _content(content: bytes) -> Spoil:
    return lambda adapter: (adapter / "adapter_model.safetensors").write_bytes(content)


def _pickle(adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").unlink()
    (adapter / "adapter_model.bin").write_bytes(pickle.dumps(_Planted(adapter / "mark"), protocol=2))


def _pickle_of_torch(adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").unlink()
    torch.save({"weight": _Planted(adapter / "mark")}, adapter / "adapter_model.bin")


def _hollow(adapter: Path) -> None:
    """Write a header of embeddings of 256 GB, and no such embeddings."""
    size = 2**38
    tensor = {"dtype": "F32", "shape": [2**32, 16], "data_offsets": [0, size]}
    header = json.dumps({"base_model.model.model.embed_tokens.weight": tensor}).encode()
    with (adapter / "adapter_model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + size)


def _link_to_itself(adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").unlink()
    (adapter / "adapter_model.safetensors").symlink_to("adapter_model.safetensors")


CASES: dict[str, tuple[Spoil, str]] = {
    "a pickle": (_pickle, "a pickle"),
    "a pickle of torch": (_pickle_of_torch, "a pickle"),
    "a pickle called safetensors": (_content(pickle.dumps(_Planted(Path("/nowhere")))), "is broken"),
    "a header of 4 exabytes": (_content(struct.pack("<Q", 2**62) + b"{"), "header too large"),
    "a header of 5 gigabytes": (_content(struct.pack("<Q", 5 * 2**30) + b"{}"), "header too large"),
    "hollow weights": (_hollow, "of which .* are stored"),
    "a link to itself": (_link_to_itself, "no weights"),
    "a link to a device": (
        lambda adapter: [
            (adapter / "adapter_model.safetensors").unlink(),
            (adapter / "adapter_model.safetensors").symlink_to("/dev/zero"),
        ],
        "no weights",
    ),
    "NaN": (_weights(lambda weight: weight * float("nan")), r"no numbers \(NaN or infinity, in"),
    "infinity": (_weights(lambda weight: torch.full_like(weight, float("inf"))), r"no numbers"),
    "another shape": (_weights(lambda weight: weight.T.contiguous()), "does not fit"),
    "a rank of a terabyte": (_config(r=2**40), "r=1099511627776"),
    "a rank of a terabyte for some": (_config(rank_pattern={"q_proj": 2**40}), "rank_pattern"),
    "layers copied without end": (_config(layer_replication=[[0, 1]] * 20_000), "makes 20000 layers"),
    "layers that are not there": (_config(layer_replication=[[0, 2**40]]), "makes 1099511627776 layers"),
    "layers by no numbers": (_config(layer_replication=["a"]), "pairs of numbers"),
    "a token beyond all": (_config(trainable_token_indices=[2**40]), "such as 1099511627776"),
    "tokens without rows": (_config(trainable_token_indices=list(range(5000))), "names 5000 trained tokens"),
    "an infinite alpha": (_config(lora_alpha=float("inf")), "lora_alpha=inf"),
    "a type that loads more": (_config(peft_type="SHADOW"), "is of type SHADOW, which loads a further model"),
    "a type of adapters": (_config(peft_type="XLORA"), "is of type XLORA, which is made of further adapters"),
    "a module to import": (_config(megatron_config={"a": 1}, megatron_core="planted"), "megatron_core"),
    "a pattern without end": (_config(target_modules=BOMB), "target_modules=.*for ever"),
    "an exclusion without end": (_config(exclude_modules=BOMB), "exclude_modules=.*for ever"),
    "layers by a pattern without end": (_config(layers_to_transform=[0], layers_pattern=[BOMB]), "layers_pattern"),
    "alphas by a pattern without end": (_config(alpha_pattern={BOMB: 3}), "alpha_pattern"),
    "nested arrays": (
        lambda adapter: (adapter / "adapter_config.json").write_text("[" * 200_000, encoding="utf-8"),
        "is not a JSON object|cannot be read as an adapter",
    ),
}


# PEFT reads a config of one type as one of another, and says what it leaves out.
@pytest.mark.filterwarnings(
    "ignore:Unexpected keyword arguments:UserWarning", "ignore:No value was provided:UserWarning"
)
@pytest.mark.parametrize("way", ["load_adapter", "trainer"])
@pytest.mark.parametrize("case", CASES)
def test_a_hostile_adapter_is_refused_in_one_line_and_nothing_of_it_runs(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str, way: str
) -> None:
    spoil, words = CASES[case]
    adapter = tmp_path / "adapter"
    shutil.copytree(saved / "adapter", adapter)
    (adapter / "planted.py").write_text(f"import pathlib\npathlib.Path({str(adapter / 'mark')!r}).touch()\n")
    monkeypatch.syspath_prepend(adapter)
    spoil(adapter)
    with pytest.raises((MuscleError, ValueError), match=words) as caught:
        if way == "load_adapter":
            load_adapter(adapter)
        else:
            load_adapted_model(str(saved / "base"), adapter, role="new", needs_adapter=True)
    assert "\n" not in str(caught.value)
    # The trainer turns what PEFT says into an error of ours.
    assert isinstance(caught.value, MuscleError) or case == "a module to import"
    assert not (adapter / "mark").exists()


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (BOMB, True),
        (r"(a*)*b", True),
        (r"(?:x+y){2,}", True),
        (r"((a|b+)c)+", True),
        (r".*\.(q_proj|v_proj)", False),
        (r"model\.layers\.\d+\.(mlp|self_attn)\.\w+", False),
        (r"(?:\bmodel\.layers\.[\d]{1,}\.(?:self_attn|mlp)\.(?:(?:q_proj|k_proj)))", False),
        (r"(?:.*?(?:language|text).*?(?:attn|mlp).*?(?:q_proj|v_proj).*?)|(?:lm_head)", False),
        (r"[(a+)+]", False),
        (r"\(a+\)+", False),
        (r"(ab){3}(c+)?", False),
    ],
)
def test_patterns_that_people_write_are_told_from_those_that_never_end(pattern: str, expected: bool) -> None:
    assert _repeats_a_repetition(pattern) is expected


# PEFT 0.21 asks a model for what transformers 5.23 has renamed.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_a_good_adapter_and_one_in_an_old_file_of_tensors_load(saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved / "adapter", tmp_path / "adapter")
    tensors = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    (tmp_path / "adapter" / "adapter_model.safetensors").unlink()
    torch.save(tensors, tmp_path / "adapter" / "adapter_model.bin")
    model = load_adapted_model(str(saved / "base"), tmp_path / "adapter", role="new", needs_adapter=True)
    for name, tensor in tensors.items():
        assert torch.equal(model.get_parameter(name.replace(".weight", ".default.weight")), tensor)
