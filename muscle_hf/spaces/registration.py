"""The bridge to evaluate: it finds our metric modules by name, and takes the answers that evaluate alone would bend.

Finding them. `evaluate.load("negative_flips")` knows three places: the working directory, the Hub, a cache. It has no
entry point for installed packages, so a plug-in must change something. What `load` calls by its global name is
`evaluate.loading.evaluation_module_factory(path, ...)`, and that is the one thing replaced: our names are turned into
the path of the installed folder, everything else goes through untouched. Compared with the other ways:

- Replacing `evaluate.load` misses whoever ran `from evaluate import load` before us.
- Evaluate's cache of modules is read only after three failed Hub look-ups, and with a warning.
- Importing evaluate here to patch it would cost every `import muscle_hf` some seconds. So the change is made at once
  only where evaluate is loaded already; otherwise a finder on `sys.meta_path` waits for `evaluate.loading` alone.

A name is ours only if the user can mean nothing else: no module of that name in the working directory, no `revision`,
no `module_type` but "metric", no organisation before the name.

Answers. `write_answers` does what evaluate's `add_batch` would do with alternative features, without its traps: that
one looks at the first answer only, to choose between number and string, so that ["7", "007"] become equal ints, [1.7]
becomes 1, ["a", 5] becomes ["a", "5"] and [None, "a"] is refused.

Nothing here imports evaluate or numpy, nor anything of this package but `errors`.
"""

import functools
import math
import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from ..errors import InputError

METRICS = frozenset({"consistency", "negative_flips", "smooth_compatibility"})
"""The metric modules that `evaluate.load` finds by name."""

_TARGET = "evaluate.loading"
_FACTORY = "evaluation_module_factory"
# Set on what we put in place, and looked for before we put it there again: a class check would fail after a reload.
_MARK = "_muscle_hf_registration"
# The kinds of numbers that a metric module may take beside strings, as evaluate and as people call them.
_NUMBERS = {"int64": "ints", "float64": "numbers"}
_NOT_NAN = " A missing answer is None, not NaN."
# Set on a metric module: how many examples without any answer wait for the type of their column.
_HELD = "_muscle_hf_held"


def metric_folder(name: str) -> str | None:
    """Return the folder of one of our metric modules.

    Args:
        name: One of `METRICS`.

    Returns:
        The absolute path, or None where this installation lacks it.

    Example:
        >>> metric_folder("negative_flips").endswith("negative_flips")
        True
    """
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


def write_answers(metric: Any, columns: Mapping[str, Any], *, optional: Collection[str] = ()) -> None:
    """Add aligned columns of answers to what a metric module has collected, checked and unchanged.

    Examples that hold nothing but None say neither number nor string. The first ones are held back until an answer
    tells; a module for which all inputs may be None must call `write_held` before it reads what was collected.

    Args:
        metric: The metric module, an `evaluate.EvaluationModule` whose features are alternatives of one type each:
            string, and int64 (class ids) or float64 (scores).
        columns: Input name -> answers: numbers of that type or strings, one kind in all columns; None for a model that
            gave no answer, but not among scores.
        optional: Inputs that may be left out; they are stored as None.

    Raises:
        InputError: If an input is missing, unknown, empty, of another length, or holds anything but such numbers or
            strings, or if a reference is None, or a score is no finite number.
    """
    from ..flips.inputs import refuse_other_order

    names = metric._feature_names()
    number = next(kind for kind in _NUMBERS if any(f["predictions"].dtype == kind for f in metric.features))
    unknown = sorted(set(columns) - set(names))
    if unknown:
        raise InputError(f"{metric.name} does not take {', '.join(unknown)}: its inputs are {', '.join(names)}.")
    refuse_other_order(**{name: columns[name] for name in names if columns.get(name) is not None})
    given = {name: _as_list(name, columns[name]) for name in names if columns.get(name) is not None}
    missing = [name for name in names if name not in given and name not in optional]
    if missing:
        raise InputError(f"{metric.name} needs {', '.join(missing)}: its inputs are {', '.join(names)}.")
    lengths = {name: len(values) for name, values in given.items()}
    if len(set(lengths.values())) != 1:
        got = ", ".join(f"{length} {name}" for name, length in lengths.items())
        raise InputError(f"{metric.name} compares answer by answer, so all inputs must be equally long; got {got}.")
    size = next(iter(lengths.values()))
    if size == 0:
        raise InputError(f"{metric.name} got no answers: there is nothing to compare.")
    if "references" in given and None in given["references"]:
        where = given["references"].index(None)
        raise InputError(f"references[{where}] is None: leave out the examples whose right answer is not known.")

    kinds = {name: kind for name, values in given.items() if (kind := _kind_of(name, values, number))}
    writer = metric.writer
    expected = None if writer is None else metric.selected_feature_format["predictions"].dtype
    if len(set(kinds.values()) | ({expected} - {None})) > 1:
        got = ", ".join(f"{kind} in {name}" for name, kind in kinds.items())
        earlier = f" after {expected} in what was added before" if expected else ""
        raise InputError(
            f"answers are compared, so they must be all {_NUMBERS[number]} or all strings; got {got}{earlier}."
        )
    kind = expected or next(iter(kinds.values()), None)
    if kind is None:
        # All of them are None, so that their number is all there is to keep, and what comes later stands behind them.
        setattr(metric, _HELD, getattr(metric, _HELD, 0) + size)
        return

    if kind == "int64":
        # Booleans and numpy's ints are stored as the ints they are equal to.
        given = {name: [None if value is None else int(value) for value in values] for name, values in given.items()}
        for name, values in given.items():
            for value in values:
                if value is not None and not -(2**63) <= value < 2**63:
                    raise InputError(
                        f"{name} has an int that does not fit in 64 bits ({value}): pass strings instead."
                    )
    elif kind == "float64":
        given = {name: [_score(name, at, value) for at, value in enumerate(values)] for name, values in given.items()}
    if writer is None:
        _start_writing(metric, kind)
    metric.writer.write_batch({name: given.get(name, [None] * size) for name in names})


def write_held(metric: Any) -> None:
    """Write the examples that `write_answers` holds back, as strings: no answer came to tell their type.

    Args:
        metric: The metric module.
    """
    if getattr(metric, _HELD, 0):
        _start_writing(metric, "string")


def given_references(metric: Any, references: Sequence[Any]) -> Sequence[Any] | None:
    """Return the references that a module collected, or None where it was given none.

    Args:
        metric: The metric module, for which `references` are optional.
        references: What it collected; None for the examples without.

    Raises:
        InputError: If some examples have one and others have not.
    """
    known = sum(reference is not None for reference in references)
    if 0 < known < len(references):
        raise InputError(
            f"{metric.name} got references for {known} of {len(references)} examples: give them with every batch, or "
            "with none."
        )
    return references if known else None


def _start_writing(metric: Any, kind: str) -> None:
    metric.selected_feature_format = next(f for f in metric.features if f["predictions"].dtype == kind)
    metric._init_writer()
    held = getattr(metric, _HELD, 0)
    if held:
        metric.writer.write_batch({name: [None] * held for name in metric._feature_names()})
        setattr(metric, _HELD, 0)


def _as_list(name: str, values: Any) -> list[Any]:
    if isinstance(values, str | bytes | Mapping):
        raise InputError(f"{name} must be a list of answers; got one {type(values).__name__}.")
    # numpy, torch, pandas and arrow all have tolist, which gives Python's own types.
    if hasattr(values, "tolist"):
        values = values.tolist()
    try:
        return list(values)
    except TypeError:
        raise InputError(f"{name} must be a list of answers; got one {type(values).__name__}.") from None


def _kind_of(name: str, values: list[Any], number: str) -> str | None:
    from numbers import Integral, Real

    kinds = set()
    for found in set(map(type, values)) - {type(None)}:
        if issubclass(found, str):
            kinds.add("string")
        elif issubclass(found, Integral if number == "int64" else Real):  # numpy's numbers say what they are
            kinds.add(number)
        else:
            example = next(value for value in values if type(value) is found)
            hint = _NOT_NAN if example != example else ""
            raise InputError(
                f"{name} must hold {_NUMBERS[number]} or strings; got {found.__name__} {example!r}.{hint}"
            )
    if len(kinds) > 1:
        hint = _NOT_NAN if any(value != value for value in values) else ""
        raise InputError(
            f"{name} holds both {_NUMBERS[number]} and strings, which cannot be compared: convert them to one kind."
            + hint
        )
    return kinds.pop() if kinds else None


def _score(name: str, index: int, value: Any) -> float:
    try:
        score = math.nan if value is None else float(value)
    except OverflowError:  # an int beyond 1e308
        score = math.inf
    if not math.isfinite(score):
        raise InputError(
            f"{name}[{index}] is {None if value is None else score}, but every score must be a finite number: leave "
            "such examples out, or give the score that a failed answer deserves, such as 0.0."
        )
    return score
