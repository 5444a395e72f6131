"""Measure the answers that a model update breaks, and train adapters that break fewer.

Every name below is loaded when it is first used, so that `import muscle_hf` costs next to nothing and the numbers part
works without torch. Importing the package also teaches `evaluate.load` the names of its metrics, see
`spaces/registration.py`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from .spaces import registration
from .version import __version__ as __version__

if TYPE_CHECKING:
    from .classifier.config import CompatibilityClassifierConfig
    from .classifier.dice import dice_loss
    from .classifier.trainer import CompatibilityClassifierTrainer
    from .errors import (
        ArgumentError,
        ConfigurationError,
        DivergedError,
        EndpointError,
        HubError,
        InputError,
        MissingPackageError,
        ModelMismatchError,
        MuscleError,
        TeacherError,
        UnsupportedAdapterError,
    )
    from .flips.comparison import Comparison, compare, compare_correct
    from .flips.grading.coupled import coupled_estimate
    from .flips.grading.coupled_result import CoupledEstimate
    from .flips.planning.power import power
    from .flips.planning.power_result import Power
    from .flips.sampling.audit import AuditedRate
    from .flips.score_comparison import ScoreComparison, compare_scores
    from .flips.yes_no.comparison import YesNoComparison
    from .flips.yes_no.knowledge import knowledge_of
    from .flips.yes_no.negative_bias import compare_yes_no
    from .hub.find import find_adapters
    from .losses.coupled_pairs import coupled_pair_loss
    from .models.load import load_adapter
    from .prediction.choose import choose_answers
    from .prediction.engines.endpoint import OpenAIEngine
    from .prediction.engines.in_process import TransformersEngine
    from .prediction.engines.offline import VLLMEngine
    from .prediction.generate import generate_answers
    from .prediction.sample import sample_answers
    from .prediction.step_values import StepValues, step_values
    from .publishing.push import push_adapter
    from .readers.sources import read
    from .runs.compare import compare_runs
    from .runs.pairs.preference_pairs import flip_pairs
    from .runs.run_comparison import RunComparison
    from .runs.suspects.audited import audited_rate
    from .runs.suspects.ranking import suspect_flips
    from .runs.suspects.shown import Suspects
    from .seq2seq.config import CompatibilitySeq2SeqConfig
    from .seq2seq.trainer import CompatibilitySeq2SeqTrainer
    from .spaces.push import push_metrics
    from .training.config import CompatibilityConfig
    from .training.rows.step_pairs import step_pairs
    from .training.step_dpo import StepDPOTrainer
    from .training.trainer import CompatibilityTrainer

__all__ = [
    "ArgumentError",
    "AuditedRate",
    "Comparison",
    "CompatibilityClassifierConfig",
    "CompatibilityClassifierTrainer",
    "CompatibilityConfig",
    "CompatibilitySeq2SeqConfig",
    "CompatibilitySeq2SeqTrainer",
    "CompatibilityTrainer",
    "ConfigurationError",
    "CoupledEstimate",
    "DivergedError",
    "EndpointError",
    "HubError",
    "InputError",
    "MissingPackageError",
    "ModelMismatchError",
    "MuscleError",
    "OpenAIEngine",
    "Power",
    "RunComparison",
    "ScoreComparison",
    "StepDPOTrainer",
    "StepValues",
    "Suspects",
    "TeacherError",
    "TransformersEngine",
    "UnsupportedAdapterError",
    "VLLMEngine",
    "YesNoComparison",
    "audited_rate",
    "choose_answers",
    "compare",
    "compare_correct",
    "compare_runs",
    "compare_scores",
    "compare_yes_no",
    "coupled_estimate",
    "coupled_pair_loss",
    "dice_loss",
    "find_adapters",
    "flip_pairs",
    "generate_answers",
    "knowledge_of",
    "load_adapter",
    "power",
    "push_adapter",
    "push_metrics",
    "read",
    "sample_answers",
    "step_pairs",
    "step_values",
    "suspect_flips",
]

# Where each public name lives: name -> module of this package.
_HOMES = {
    "ArgumentError": "errors",
    "AuditedRate": "flips.sampling.audit",
    "Comparison": "flips.comparison",
    "CompatibilityClassifierConfig": "classifier.config",
    "CompatibilityClassifierTrainer": "classifier.trainer",
    "CompatibilitySeq2SeqConfig": "seq2seq.config",
    "CompatibilitySeq2SeqTrainer": "seq2seq.trainer",
    "CompatibilityConfig": "training.config",
    "CompatibilityTrainer": "training.trainer",
    "ConfigurationError": "errors",
    "CoupledEstimate": "flips.grading.coupled_result",
    "DivergedError": "errors",
    "EndpointError": "errors",
    "HubError": "errors",
    "InputError": "errors",
    "MissingPackageError": "errors",
    "ModelMismatchError": "errors",
    "MuscleError": "errors",
    "OpenAIEngine": "prediction.engines.endpoint",
    "Power": "flips.planning.power_result",
    "RunComparison": "runs.run_comparison",
    "ScoreComparison": "flips.score_comparison",
    "StepDPOTrainer": "training.step_dpo",
    "StepValues": "prediction.step_values",
    "Suspects": "runs.suspects.shown",
    "TeacherError": "errors",
    "TransformersEngine": "prediction.engines.in_process",
    "UnsupportedAdapterError": "errors",
    "VLLMEngine": "prediction.engines.offline",
    "YesNoComparison": "flips.yes_no.comparison",
    "audited_rate": "runs.suspects.audited",
    "choose_answers": "prediction.choose",
    "compare": "flips.comparison",
    "compare_correct": "flips.comparison",
    "compare_runs": "runs.compare",
    "compare_scores": "flips.score_comparison",
    "compare_yes_no": "flips.yes_no.negative_bias",
    "coupled_estimate": "flips.grading.coupled",
    "coupled_pair_loss": "losses.coupled_pairs",
    "dice_loss": "classifier.dice",
    "find_adapters": "hub.find",
    "flip_pairs": "runs.pairs.preference_pairs",
    "generate_answers": "prediction.generate",
    "knowledge_of": "flips.yes_no.knowledge",
    "load_adapter": "models.load",
    "power": "flips.planning.power",
    "push_adapter": "publishing.push",
    "push_metrics": "spaces.push",
    "read": "readers.sources",
    "sample_answers": "prediction.sample",
    "step_pairs": "training.rows.step_pairs",
    "step_values": "prediction.step_values",
    "suspect_flips": "runs.suspects.ranking",
}


if not TYPE_CHECKING:  # A type checker that saw this function would take every misspelt name for a public one.

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from .packages import require_for

        home = _HOMES[name]
        require_for(home.partition(".")[0], f"{__name__}.{name}")
        value = getattr(import_module(f"{__name__}.{home}"), name)
        # Kept, so that the next use is an ordinary attribute and does not come here again.
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


registration.install()
