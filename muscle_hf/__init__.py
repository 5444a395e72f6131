"""Measure the answers that a model update breaks, and train adapters that break fewer.

Every name below is loaded when it is first used, so that `import muscle_hf` costs next to nothing and the numbers part
works without torch. Importing the package also teaches `evaluate.load` the names of its metrics (`registration.py`).
"""

from importlib import import_module
from typing import TYPE_CHECKING

from . import registration
from .version import __version__ as __version__

if TYPE_CHECKING:
    from .choice import choose_answers
    from .classifier.config import CompatibilityClassifierConfig
    from .classifier.trainer import CompatibilityClassifierTrainer
    from .config import CompatibilityConfig
    from .errors import (
        ArgumentError,
        ConfigurationError,
        HubError,
        InputError,
        ModelMismatchError,
        MuscleError,
        TeacherError,
        UnsupportedAdapterError,
    )
    from .flips import Comparison, ScoreComparison, compare, compare_correct, compare_scores
    from .hub.find import find_adapters
    from .hub.load import load_adapter
    from .hub.push import push_adapter
    from .hub.spaces import push_metrics
    from .prediction import generate_answers
    from .readers import read
    from .runs import RunComparison, compare_runs
    from .trainer import CompatibilityTrainer

__all__ = [
    "ArgumentError",
    "Comparison",
    "CompatibilityClassifierConfig",
    "CompatibilityClassifierTrainer",
    "CompatibilityConfig",
    "CompatibilityTrainer",
    "ConfigurationError",
    "HubError",
    "InputError",
    "ModelMismatchError",
    "MuscleError",
    "RunComparison",
    "ScoreComparison",
    "TeacherError",
    "UnsupportedAdapterError",
    "choose_answers",
    "compare",
    "compare_correct",
    "compare_runs",
    "compare_scores",
    "find_adapters",
    "generate_answers",
    "load_adapter",
    "push_adapter",
    "push_metrics",
    "read",
]

# Where each public name lives: name -> module of this package.
_HOMES = {
    "ArgumentError": "errors",
    "Comparison": "flips",
    "CompatibilityClassifierConfig": "classifier.config",
    "CompatibilityClassifierTrainer": "classifier.trainer",
    "CompatibilityConfig": "config",
    "CompatibilityTrainer": "trainer",
    "ConfigurationError": "errors",
    "HubError": "errors",
    "InputError": "errors",
    "ModelMismatchError": "errors",
    "MuscleError": "errors",
    "RunComparison": "runs",
    "ScoreComparison": "flips",
    "TeacherError": "errors",
    "UnsupportedAdapterError": "errors",
    "choose_answers": "choice",
    "compare": "flips",
    "compare_correct": "flips",
    "compare_runs": "runs",
    "compare_scores": "flips",
    "find_adapters": "hub.find",
    "generate_answers": "prediction",
    "load_adapter": "hub.load",
    "push_adapter": "hub.push",
    "push_metrics": "hub.spaces",
    "read": "readers",
}


if not TYPE_CHECKING:  # A type checker that saw this function would take every misspelt name for a public one.

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        # Kept, so that the next use is an ordinary attribute and does not come here again.
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


registration.install()
