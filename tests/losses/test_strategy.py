"""Strategies: what has no meaning, or would be ignored, is refused before a model is loaded."""

import math

import pytest

from muscle_hf.errors import ConfigurationError
from muscle_hf.losses.masks import MASKS
from muscle_hf.losses.strategy import TEACHERS, Strategy, StrategyOptions


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mask": "student_wron"}, "Did you mean 'student_wrong'"),
        ({"mask": 3}, "must be one of"),
        ({"divergence": "kl"}, "forward_kl"),
        ({"teacher": "olt"}, "Did you mean 'old'"),
        ({"temperature": 0.0}, "positive"),
        ({"temperature": math.nan}, "positive"),
        ({"cross_entropy_weight": 1.5}, r"\[0, 1\]"),
        ({"jensen_shannon_beta": 1.0, "divergence": "jensen_shannon"}, "between 0 and 1"),
        ({"jensen_shannon_beta": 0.3}, "would be ignored"),
        ({"focal_beta": -1.0}, "0 or more"),
        ({"focal_alpha": 0.0}, "no weight for any teacher"),
        ({"teacher": "new"}, 'mask="none"'),
        ({"teacher_weight": 0.5}, "would be ignored"),
        ({"teacher_weight": 0.0, "teacher": "perpendicular"}, "positive number"),
        ({"teacher_weight": math.inf, "teacher": "perpendicular"}, "positive number"),
        ({"gradient_conflict": "accuracy"}, "Did you mean 'accuracy_first'"),
        ({"gradient_conflict": "accuracy_first"}, "needs two goals"),
        ({"gradient_conflict": "project_both", "cross_entropy_weight": 1.0}, "needs two goals"),
        (
            {"teacher": "ensemble", "mask": "none", "divergence": "logit_difference_inhibition"},
            "log_ensemble",
        ),
    ],
)
def test_a_meaningless_option_is_refused_by_name(options: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        Strategy(**options)  # type: ignore[arg-type]


def test_a_configs_defaults_are_the_strategys() -> None:
    assert StrategyOptions().strategy() == Strategy()


def test_a_mask_of_ones_own_takes_the_place_of_the_named_one() -> None:
    mask = MASKS["none"]
    assert StrategyOptions().strategy(mask).mask is mask
    with pytest.raises(ConfigurationError, match="would be ignored beside a mask of your own"):
        StrategyOptions(mask="old_right").strategy(mask)


def test_a_trainer_without_any_weight_for_a_teacher_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no weight for either teacher"):
        StrategyOptions(cross_entropy_weight=1.0).strategy()


@pytest.mark.parametrize("teacher", sorted(TEACHERS))
def test_every_teacher_has_a_mask_to_go_with(teacher: str) -> None:
    assert Strategy(mask="none", teacher=teacher).teacher == teacher
