"""What `import muscle_hf` offers, what it costs, and in which direction the modules may import each other."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import muscle_hf

PACKAGE = Path(muscle_hf.__file__).parent
HEAVY = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "evaluate", "scipy", "numpy", "pandas")

# A module may import modules of the layers before its own, and of its own layer as long as no circle comes of it. A
# new module has to be placed here, or `test_a_new_module_is_not_forgotten_in_the_order` fails and names it.
LAYERS = (
    {"errors", "files", "pointers", "text_encoding", "arguments", "interrupts", "progress"},
    {"hub_failures", "hub_lookup", "shipping", "lineage", "telemetry"},
    {"columns", "intervals", "rates", "flips", "flip_metrics", "scorers", "beta_binomial", "coin", "registration"}
    | {"number_texts", "same_answer", "spelled_otherwise"}
    | {"masks", "divergences", "strategy", "losses"}
    | {"alignment", "contents", "vocabulary", "vocabulary_map", "chunk_divergences", "chunk_losses"},
    {
        "adapters",
        "embedding_rows",
        "merging",
        "ranks",
        "pair",
        "hidden_states",
        "teachers",
        "targets",
        "teacher_cache",
        "cached_targets",
    }
    | {"training_data", "training_log", "chunked_loss", "token_loss", "chunk_encoding", "kept_answers", "unlabelled"}
    | {"aligned_rows", "aligned_loss"}
    | {
        "precision",
        "row_checks",
        "layouts",
        "questions",
        "plain_rows",
        "processes",
        "asking",
        "prompts",
        "prediction",
        "likelihood",
        "choice",
    }
    | {"flips_dataset", "flips_evaluation", "flips_in_the_loop"}
    | {"answers", "jsonlines", "columnar", "tables", "harness", "harness_sample", "readers", "join"}
    | {"answer_columns", "pair_spelling"}
    | {"harness_files", "lighteval", "lighteval_names", "lighteval_old"}
    | {"measure", "not_compared", "identical", "outcomes", "selection", "whole_run"}
    | {"metric_names", "task_notes"},
    {
        "checkpoints",
        "config",
        "kept_work",
        "trainer_rows",
        "trainer_teachers",
        "model_push",
        "background_push",
        "trainer_push",
        "trainer",
        "report",
        "terminal",
        "page",
        "plots",
        "bounds",
        "gate",
        "runs",
        "classifier",
    },
    {"card"},
    {"hub"},
    {"cli", "demo", "update", "__main__"},
)
# These work without torch, whatever is called in them.
WITHOUT_TORCH = (
    {
        "errors",
        "files",
        "pointers",
        "text_encoding",
        "arguments",
        "columns",
        "intervals",
        "rates",
        "flips",
        "flip_metrics",
        "scorers",
        "beta_binomial",
        "coin",
        "registration",
        "number_texts",
        "same_answer",
        "spelled_otherwise",
    }
    | {
        "answers",
        "answer_columns",
        "pair_spelling",
        "jsonlines",
        "columnar",
        "tables",
        "harness",
        "harness_sample",
        "harness_files",
        "lighteval",
        "lighteval_names",
        "lighteval_old",
        "readers",
        "join",
        "measure",
        "not_compared",
        "task_notes",
        "metric_names",
        "identical",
        "outcomes",
        "selection",
        "whole_run",
    }
    | {"report", "terminal", "page", "plots", "bounds", "gate", "runs"}
    | {"hub_failures", "hub_lookup", "shipping", "telemetry"}
)
TORCH_BASED = {"torch", "transformers", "trl", "peft", "accelerate"}
# Runs at every `import muscle_hf`, and so may lean on nothing but the exceptions.
LEAVES = {"registration": {"columns", "errors"}}


def _layer(module: str) -> int:
    for index, layer in enumerate(LAYERS):
        if module in layer:
            return index
    pytest.fail(f"put {module} into LAYERS, at the place that the design gives it")


def _sources() -> dict[str, list[Path]]:
    """Top-level module name -> its files; a subpackage counts as one module. Without __init__.py, which joins all."""
    found: dict[str, list[Path]] = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        relative = file.relative_to(PACKAGE)
        # An installed wheel carries the metric modules here; they stand on top of everything, like a user's code.
        if relative.parts[0] not in ("__init__.py", "metrics"):
            found.setdefault(relative.parts[0].removesuffix(".py"), []).append(file)
    return found


def _imports(file: Path) -> set[str]:
    """Every module that a file imports, at the top or inside a function, as absolute dotted names."""
    package = ["muscle_hf", *file.relative_to(PACKAGE).parts[:-1]]
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            # `from muscle_hf import flips` imports muscle_hf.flips; a name that is no module is harmless here.
            names |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return names


def _own_imports(module: str) -> set[str]:
    """The modules of this package that one of its modules imports."""
    found: set[str] = set()
    for file in _sources()[module]:
        for name in _imports(file):
            parts = name.split(".")
            if parts[0] == "muscle_hf" and len(parts) > 1:
                # A public name stands for the module it lives in.
                found.add(muscle_hf._HOMES.get(parts[1], parts[1]))
    return found - {module, "__version__"}


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
        if isinstance(value, type):
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


def test_a_new_module_is_not_forgotten_in_the_order() -> None:
    placed = [module for layer in LAYERS for module in layer]
    missing = sorted(set(_sources()) - set(placed))
    assert not missing, f"put {', '.join(missing)} into LAYERS, at the place that the design gives it"
    assert len(placed) == len(set(placed)), "a module stands in two layers"


@pytest.mark.parametrize("module", sorted(_sources()))
def test_imports_run_one_way(module: str) -> None:
    allowed = {name for layer in LAYERS[: _layer(module) + 1] for name in layer}
    if module in LEAVES:
        allowed = LEAVES[module]
    wrong = sorted(_own_imports(module) - allowed)
    assert not wrong, f"muscle_hf.{module} imports {', '.join(wrong)}, which may import it but not the other way round"


def test_modules_of_one_layer_do_not_import_in_a_circle() -> None:
    graph = {module: _own_imports(module) & set(_sources()) for module in _sources()}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, f"circular import: {' -> '.join((*path, module))}"
        if module not in done:
            for imported in sorted(graph[module]):
                visit(imported, (*path, module))
            done.add(module)

    for module in sorted(graph):
        visit(module, ())


def test_an_import_by_name_does_not_go_round_the_order_unseen() -> None:
    found = {
        module
        for module, files in _sources().items()
        if any("import_module" in file.read_text(encoding="utf-8") for file in files)
    }
    # A model that is trained brings its card along, and the card is made from what trained it: `model_push` asks for
    # the card by name when the first one is due. `scorers` loads libraries that are not ours.
    assert found == {"model_push", "scorers"}


@pytest.mark.parametrize("module", sorted(WITHOUT_TORCH & set(_sources())))
def test_the_numbers_part_never_imports_torch_even_lazily(module: str) -> None:
    for file in _sources()[module]:
        wrong = sorted({name.split(".")[0] for name in _imports(file)} & TORCH_BASED)
        assert not wrong, f"{file.name} imports {', '.join(wrong)}"
    # Nor through another module of ours.
    assert _own_imports(module) <= WITHOUT_TORCH
