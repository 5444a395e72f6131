"""Imports run one way, file by file: no room reaches up, no circle hides in a function, figures need no torch."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import muscle_hf

PACKAGE = Path(muscle_hf.__file__).parent

# Room -> the rooms that it may import, and with them all that these may. Every room may import the files of the root,
# which import nothing but each other. A new folder has to be placed here.
ROOMS = {
    "flips": (),
    "hub": (),
    "readers": ("flips", "hub"),
    "runs": ("readers",),
    "losses": (),
    "alignment": ("losses",),
    "models": ("hub",),
    "teachers": ("alignment", "models"),
    "prediction": ("models", "readers"),
    "card": ("runs",),
    "spaces": ("runs",),
    "publishing": ("card", "losses", "models"),
    "training": ("prediction", "publishing", "teachers"),
    "classifier": ("training",),
    "seq2seq": ("training",),
    "update": ("seq2seq", "training"),
    "demo": ("update",),
    "cli": ("classifier", "demo", "spaces", "update"),
}
ROOT = {"errors", "files", "interrupts", "launched", "locks", "packages", "progress", "text", "version"}
WITHOUT_TORCH = {"", "flips", "readers", "runs", "card", "spaces"}
TORCH_BASED = {"torch", "transformers", "trl", "peft", "accelerate"}
# Both import what is not ours: public names when they are first used, and the libraries of scorers.
BY_NAME = {"__init__.py", "flips/scorers.py"}


def _files() -> list[Path]:
    """All files but the metric modules, which an installed wheel carries, and which stand above everything."""
    return [file for file in sorted(PACKAGE.rglob("*.py")) if file.relative_to(PACKAGE).parts[0] != "metrics"]


def _name(file: Path) -> str:
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {_name(file): file for file in _files()}


@cache
def _imported(file: Path) -> frozenset[str]:
    """Every module that a file imports, at the top or inside a function, as an absolute dotted name."""
    return frozenset(_read_imports(file))


def _read_imports(file: Path) -> Iterator[str]:
    package = ["muscle_hf", *file.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                is_module = f"{module}.{alias.name}".removeprefix("muscle_hf.") in FILES
                yield f"{module}.{alias.name}" if is_module else module


def _own(name: str) -> set[str]:
    """The files of this package that one of its files imports; "" is the package itself."""
    own = {module for module in _imported(FILES[name]) if module.split(".")[0] == "muscle_hf"}
    return {module.removeprefix("muscle_hf").removeprefix(".") for module in own}


def _room(name: str) -> str:
    first = name.split(".")[0]
    return first if (PACKAGE / first).is_dir() else ""


def _may_import(room: str) -> set[str]:
    return {"", room}.union(*(_may_import(below) for below in ROOMS.get(room, ())))


def test_a_new_room_is_not_forgotten_in_the_order() -> None:
    assert {_room(name) for name in FILES} - {""} == set(ROOMS)
    assert {name for name in FILES if not _room(name)} == {"", "__main__", *ROOT}


@pytest.mark.parametrize("name", sorted(set(FILES) - {"", "__main__"}))
def test_no_file_imports_a_room_above_its_own(name: str) -> None:
    allowed = _may_import(_room(name))
    wrong = sorted(module for module in _own(name) if module == "" or _room(module) not in allowed)
    assert not wrong, f"{name} imports {', '.join(wrong)}, which may import it but not the other way round"


def test_no_file_is_imported_in_a_circle() -> None:
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, f"circular import: {' -> '.join((*path, name))}"
        if name not in done:
            for imported in sorted(_own(name)):
                visit(imported, (*path, name))
            done.add(name)

    for name in sorted(set(FILES) - {""}):
        visit(name, ())


FOLDERS = sorted({name.rpartition(".")[0] for name in FILES} - {""})


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_room_inside_and_its_siblings_import_each_other_one_way(folder: str) -> None:
    """No circle of files is not enough: two files of a room inside may stand on both sides of a sibling."""
    within = {name: name.removeprefix(f"{folder}.").split(".")[0] for name in FILES if name.startswith(f"{folder}.")}
    below: dict[str, set[str]] = {child: set() for child in within.values()}
    for name, child in within.items():
        below[child] |= {within[module] for module in _own(name) if module in within} - {child}
    while free := [child for child, imported in below.items() if not imported & below.keys()]:
        for child in free:
            del below[child]
    assert not below, f"these of {folder} import each other in a circle, as rooms: {', '.join(sorted(below))}"


def test_no_import_by_name_goes_round_the_order_unseen() -> None:
    by_name = {
        file.relative_to(PACKAGE).as_posix()
        for file in _files()
        if any(word in file.read_text(encoding="utf-8") for word in ("import_module", "__import__"))
    }
    assert by_name == BY_NAME


@pytest.mark.parametrize(
    "name", sorted(name for name in FILES if _room(name) in WITHOUT_TORCH and name not in ("", "__main__"))
)
def test_the_numbers_part_never_imports_torch_even_lazily(name: str) -> None:
    reached, queue = {name}, [name]
    while queue:
        new = _own(queue.pop()) - reached
        reached |= new
        queue += new
    wrong = {(file, module) for file in reached for module in _imported(FILES[file])}
    assert not [pair for pair in wrong if pair[1].split(".")[0] in TORCH_BASED]


@pytest.mark.parametrize("name", sorted(name for name in FILES if _room(name) in {"", "flips", "readers", "runs"}))
def test_comparing_needs_no_scipy(name: str) -> None:
    assert not [module for module in _imported(FILES[name]) if module.split(".")[0] == "scipy"], (
        "`pip install muscle_hf` brings no SciPy (140 MB, and 0.2 s at each start); muscle_hf/flips/special.py has "
        "bdtr, betaincinv, ndtri and others under SciPy's names: add there what is missing"
    )
