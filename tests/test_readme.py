"""What the README shows runs as it is printed."""

import doctest
import importlib
import re
import shlex
import shutil
from pathlib import Path

import pytest

import muscle_hf
from muscle_hf.cli import main
from muscle_hf.demo.task import BASE_V2, load_base, new_task_adapter
from muscle_hf.losses.divergences import DIVERGENCES
from muscle_hf.losses.masks import MASKS
from muscle_hf.losses.strategy import TEACHERS

README = Path(__file__).parents[1] / "README.md"
PACKAGE = Path(muscle_hf.__file__).parent
MODULES = [
    ".".join(["muscle_hf", *file.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__")
    for file in sorted(PACKAGE.rglob("*.py"))
    if ">>> " in file.read_text(encoding="utf-8")
]


def _blocks(heading: str) -> list[str]:
    section = README.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", section, re.DOTALL)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_docstrings_run(name: str) -> None:
    module = importlib.import_module(name)
    assert doctest.testmod(module, raise_on_error=True).failed == 0


def test_the_measuring_snippets_run_and_print_what_they_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(README.parent / "examples")
    for block in _blocks("Measure in Python"):
        exec(compile(block, str(README), "exec"), {"__name__": "readme"})  # noqa: S102 - our own README
        shown = capsys.readouterr().out
        for promised in re.findall(r"  # ([\[0-9].*)", block):
            assert promised in shown


def test_the_comparison_in_the_readme_is_the_true_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(README.parent)
    section = README.read_text(encoding="utf-8").split("\n## Compare two versions\n")[1].split("\n### ")[0]
    (command,) = re.findall(r"```bash\n(.*?)```", section, re.DOTALL)
    (shown,) = re.findall(r"```text\n(.*?)```", section, re.DOTALL)
    assert main(shlex.split(command.replace("\\\n", " "))[1:]) == 0
    assert capsys.readouterr().out == shown


def test_nothing_is_left_to_be_filled_in() -> None:
    text = README.read_text(encoding="utf-8")
    assert "@@" not in text
    assert "<!--" not in text


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true:UserWarning")  # no accelerator here
def test_the_training_snippets_run_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    new_task_adapter(load_base(BASE_V2)).save_pretrained(tmp_path / "demo_output" / "new")
    names: dict[str, object] = {"__name__": "readme"}
    for block in _blocks("Train"):
        exec(compile(block.replace("max_steps=20", "max_steps=2"), str(README), "exec"), names)  # noqa: S102
    assert (tmp_path / "my-adapter" / "adapter_model.safetensors").exists()
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize("name", [*MASKS, *DIVERGENCES, *TEACHERS])
def test_every_strategy_stands_in_the_table(name: str) -> None:
    table = README.read_text(encoding="utf-8").split("### Strategies")[1].split("\n### ")[0]
    assert f"| `{name}`" in table
