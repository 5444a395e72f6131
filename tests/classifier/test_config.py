"""Options of the classifier trainer that would do harm or nothing are refused before a model is loaded."""

from pathlib import Path
from typing import Any

import pytest

from muscle_hf.classifier.config import CompatibilityClassifierConfig
from muscle_hf.errors import ConfigurationError


def _config(folder: Path, **options: Any) -> CompatibilityClassifierConfig:
    return CompatibilityClassifierConfig(output_dir=str(folder), use_cpu=True, report_to="none", **options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mask": "student_wron"}, "Did you mean 'student_wrong'"),
        ({"divergence": "kl"}, "divergence='kl' is unknown"),
        ({"teacher": "both"}, "teacher='both' is unknown"),
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"cross_entropy_weight": 1.0}, "leaves no weight for either teacher"),
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor=0.1 would be ignored"),
        ({"max_length": 0}, "max_length=0 must be an int of 1 or more"),
        ({"min_accuracy": 1.5, "metric_for_best_model": "loss"}, "min_accuracy=1.5"),
        ({"min_accuracy": 0.5}, "bounds the best checkpoint, and none is chosen"),
        ({"metric_for_best_model": "negative_flip_rate", "greater_is_better": True}, "greater_is_better=True"),
    ],
)
def test_an_option_that_does_harm_or_nothing_is_refused(tmp_path: Path, options: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        _config(tmp_path, **options)


@pytest.mark.parametrize(
    ("metric", "greater", "best"),
    [
        ("negative_flip_rate", False, ("", "negative_flip_rate")),
        ("eval_negative_flip_rate", False, ("", "negative_flip_rate")),
        ("eval_new_users_relative_negative_flip_rate", False, ("new_users", "relative_negative_flip_rate")),
        ("accuracy", True, ("", "accuracy")),
        ("eval_loss", False, None),
        ("f1", True, None),
    ],
)
def test_the_best_checkpoint_is_never_the_one_with_the_most_flips(
    tmp_path: Path, metric: str, greater: bool, best: Any
) -> None:
    config = _config(tmp_path, metric_for_best_model=metric)
    assert config.greater_is_better is greater
    assert config.best_metric == best


def test_keyword_arguments_for_models_may_come_as_json_from_a_command_line(tmp_path: Path) -> None:
    config = _config(tmp_path, model_init_kwargs='{"num_labels": 3}', old_model_init_kwargs='{"num_labels": 4}')
    assert (config.model_init_kwargs, config.old_model_init_kwargs) == ({"num_labels": 3}, {"num_labels": 4})
