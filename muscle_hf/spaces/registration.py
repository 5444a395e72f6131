"""Our metric modules are found by evaluate, by name.

`evaluate.load("negative_flips")` knows three places: the working directory, the Hub, a cache. It has no
entry point for installed packages, so a plug-in must change something. What `load` calls by its global name is
`evaluate.loading.evaluation_module_factory(path, ...)`, and that is the one thing replaced: our names are turned into
the path of the installed folder, everything else goes through untouched. Compared with the other ways:

- Replacing `evaluate.load` misses whoever ran `from evaluate import load` before us.
- Evaluate's cache of modules is read only after three failed Hub look-ups, and with a warning.
- Importing evaluate here to patch it would cost every `import muscle_hf` some seconds. So the change is made at once
  only where evaluate is loaded already; otherwise a finder on `sys.meta_path` waits for `evaluate.loading` alone.

A name is ours only if the user can mean nothing else: no module of that name in the working directory, no `revision`,
no `module_type` but "metric", no organisation before the name.

Nothing here imports evaluate, nor anything of this package.
"""

import functools
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

METRICS = frozenset({"consistency", "negative_bias", "negative_flips", "smooth_compatibility"})
"""The metric modules that `evaluate.load` finds by name."""

_TARGET = "evaluate.loading"
_FACTORY = "evaluation_module_factory"
# Set on what we put in place, and looked for before we put it there again: a class check would fail after a reload.
_MARK = "_muscle_hf_registration"


def metric_folder(name: str) -> str | None:
    """Return the absolute path of the folder of one of `METRICS`, or None where this installation lacks it."""
    # pathlib would slow down the import
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120
    # The wheel carries the metrics inside the package; a checkout or an editable install has them beside it.
    for parent in (package, os.path.dirname(package)):  # noqa: PTH120
        folder = os.path.join(parent, "metrics", name)  # noqa: PTH118
        if os.path.isfile(os.path.join(folder, f"{name}.py")):  # noqa: PTH113, PTH118
            return folder
    return None


def install() -> None:
    """Let `evaluate.load` find our metrics by name, now or as soon as evaluate is imported.

    A second call does nothing.
    """
    # The finder stays on the path afterwards: `importlib.reload(evaluate.loading)` would otherwise undo the change.
    if not any(hasattr(finder, _MARK) for finder in sys.meta_path):
        sys.meta_path.insert(0, _LoadingFinder())
    if _TARGET in sys.modules:
        _wrap_factory(sys.modules[_TARGET])


class _LoadingFinder:
    """Finds `evaluate.loading` the way it would be found anyway, and changes it once it is executed."""

    _muscle_hf_registration = True

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _TARGET:
            return None
        for finder in sys.meta_path:
            if hasattr(finder, _MARK) or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                return _run_afterwards(spec)
        return None


def _run_afterwards(spec: ModuleSpec) -> ModuleSpec:
    # The loader stays the object it was (source, resources and tracebacks keep working); one method is shadowed on it.
    loader = spec.loader
    if loader is not None and hasattr(loader, "exec_module"):
        execute = loader.exec_module

        def execute_then_wrap(module: ModuleType) -> None:
            execute(module)
            _wrap_factory(module)

        loader.exec_module = execute_then_wrap  # type: ignore[method-assign]
    return spec


def _wrap_factory(module: ModuleType) -> None:
    factory: Callable[..., Any] | None = getattr(module, _FACTORY, None)
    # functools.wraps copies the mark, so a third party's wrapper around ours counts as done too.
    if factory is None or hasattr(factory, _MARK):
        return

    @functools.wraps(factory)
    def evaluation_module_factory(
        path: str, module_type: str | None = None, revision: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        if isinstance(path, str) and path in METRICS and _means_ours(path, module_type, revision, kwargs):
            path = metric_folder(path) or path
        return factory(path, module_type, revision, *args, **kwargs)

    setattr(evaluation_module_factory, _MARK, True)
    setattr(module, _FACTORY, evaluation_module_factory)


def _means_ours(name: str, module_type: str | None, revision: Any, options: Mapping[str, Any]) -> bool:
    # A revision exists on the Hub only, another type is another module, and `inspect_evaluation_module` wants a copy.
    if revision is not None or module_type not in (None, "metric") or options.get("force_local_path"):
        return False
    # Where evaluate itself looks first, relative to the working directory. A relative path on purpose, as evaluate's.
    return not os.path.isfile(os.path.join(name, f"{name}.py"))  # noqa: PTH113, PTH118
