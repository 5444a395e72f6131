"""`pip install muscle_hf` brings little: comparing needs no more, and the rest says in one line what to install."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import muscle_hf
from muscle_hf.packages import EXTRAS, require_for, required

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# What the dependencies bring, by the names that are imported.
LIGHT = {"_yaml", "markdown_it", "mdurl", "muscle_hf", "numpy", "pyarrow", "pygments", "rich", "yaml"}

# Run before anything else: only the standard library and the light packages can be found.
_HIDE = f"""
import runpy, sys
class Light:
    def __init__(self, finders):
        self.finders = finders
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in sys.stdlib_module_names or top.startswith("_sysconfigdata") or top in {LIGHT!r}:
            return next(filter(None, (finder.find_spec(name, path, target) for finder in self.finders)), None)
sys.meta_path[:] = [Light(sys.meta_path[:])]
"""


def test_each_extra_is_what_pyproject_says() -> None:
    own = {name: [Requirement(line) for line in lines] for name, lines in PROJECT["optional-dependencies"].items()}
    for extra, packages in EXTRAS.items():
        listed = {one.name for one in own[extra] if one.name != "muscle_hf"}
        for one in own[extra]:
            listed |= {inner.name for name in one.extras if one.name == "muscle_hf" for inner in own[name]}
        assert listed == {*packages}


def test_the_line_names_all_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(muscle_hf.MissingPackageError) as caught:
        require_for("training", "muscle_hf.X")
    assert str(caught.value) == 'muscle_hf.X needs peft, which is not installed: pip install "muscle_hf[train]"'
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match="needs peft and torch, which are not installed"), required("train", "it"):
        pass
    require_for("compare", "comparing")
    require_for("find", "finding")


@pytest.mark.slow
def test_every_output_of_a_comparison_and_every_refusal_works_with_the_light_packages_alone() -> None:
    code = f"{_HIDE}\nrunpy.run_path({str(ROOT / 'build_hooks' / 'check_light.py')!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr
