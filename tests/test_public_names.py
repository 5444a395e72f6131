"""What `import muscle_hf` offers, and what it costs."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import muscle_hf

PACKAGE = Path(muscle_hf.__file__).parent
HEAVY = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "evaluate", "scipy", "numpy", "pandas")

TORCH_BASED = {"torch", "transformers", "trl", "peft", "accelerate"}


def test_public_names_are_sorted_so_that_a_name_is_found_once() -> None:
    assert list(muscle_hf.__all__) == sorted(set(muscle_hf.__all__))


def test_every_public_name_has_a_home_and_no_home_is_left_over() -> None:
    assert sorted(muscle_hf._HOMES) == muscle_hf.__all__


@pytest.mark.parametrize("name", muscle_hf.__all__)
def test_a_listed_name_can_be_imported(name: str) -> None:
    value = getattr(muscle_hf, name)
    home = importlib.import_module(f"muscle_hf.{muscle_hf._HOMES[name]}")
    assert getattr(home, name) is value
    assert value.__doc__, "a public name without a docstring"


@pytest.mark.parametrize(
    "room", ["alignment", "flips", "losses", "prediction", "readers", "runs", "teachers", "teachers.cache"]
)
def test_a_room_that_was_one_module_no_longer_hands_on_its_names(room: str) -> None:
    module = importlib.import_module(f"muscle_hf.{room}")
    assert len(module.__all__) == len(set(module.__all__))
    assert all(hasattr(module, name) for name in module.__all__)


def test_type_checkers_see_the_same_names_as_the_interpreter() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    seen = {
        alias.name: (node.module or "").removeprefix("muscle_hf.")
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == muscle_hf._HOMES


def test_a_misspelt_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'comparee'"):
        muscle_hf.comparee  # noqa: B018 - the access is the test


def test_dir_lists_names_that_are_not_loaded_yet() -> None:
    assert set(muscle_hf.__all__) <= set(dir(muscle_hf))


def test_every_exception_is_caught_as_muscle_error() -> None:
    errors = importlib.import_module("muscle_hf.errors")
    for value in vars(errors).values():
        if isinstance(value, type) and value.__module__ == errors.__name__:
            assert issubclass(value, muscle_hf.MuscleError)
            assert value.__name__ in muscle_hf.__all__, f"{value.__name__} is raised, but cannot be caught by name"


def _run(code: str) -> str:
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603


def test_import_does_not_load_heavy_libraries() -> None:
    code = f"import sys, muscle_hf; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    assert _run(code) == ""


def test_numbers_do_not_need_torch() -> None:
    code = (
        "import sys, muscle_hf\n"
        "muscle_hf.compare(old=[1, 1], new=[1, 0], references=[1, 1]).confidence_interval('negative_flip_rate')\n"
        f"print(*[name for name in {sorted(TORCH_BASED)!r} if name in sys.modules])"
    )
    assert _run(code) == ""


def test_import_takes_under_three_tenths_of_a_second() -> None:
    code = "import time; start = time.process_time(); import muscle_hf; print(time.process_time() - start)"
    # Processor time, the best of several: the first one reads the disk, and other work slows down any of them.
    assert min(float(_run(code)) for _ in range(5)) < 0.3
