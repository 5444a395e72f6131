from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from muscle_hf.classifier.config import CompatibilityClassifierConfig
from muscle_hf.errors import ConfigurationError
from muscle_hf.losses.presets import PRESETS
from muscle_hf.training.config import CompatibilityConfig

CONFIGS = [CompatibilityConfig, CompatibilityClassifierConfig]


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_sets_each_of_its_options_and_no_other(kind: Any, name: str, tmp_path: Path) -> None:
    plain, preset = (
        kind(output_dir=str(tmp_path), report_to="none", use_cpu=True, **more) for more in ({}, {"preset": name})
    )
    names = [option.name for option in fields(plain)]
    changed = {name for name in names if getattr(preset, name) != getattr(plain, name)}
    assert changed == {"preset", *PRESETS[name]}
    assert {option: getattr(preset, option) for option in PRESETS[name]} == dict(PRESETS[name])


@pytest.mark.parametrize("kind", CONFIGS)
def test_what_the_user_sets_wins_over_a_preset(kind: Any, tmp_path: Path) -> None:
    config = kind(output_dir=str(tmp_path), report_to="none", use_cpu=True, preset="product", cross_entropy_weight=0.2)
    assert (config.cross_entropy_weight, config.mask, config.unlabelled_teacher) == (0.2, "none", "product")


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_preset_that_does_not_exist_is_refused_with_the_nearest_one(kind: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"preset='produkt' is unknown; .* Did you mean 'product'"):
        kind(output_dir=str(tmp_path), report_to="none", use_cpu=True, preset="produkt")


def test_a_preset_taken_up_from_a_saved_config_stays_what_it_was(tmp_path: Path) -> None:
    config = CompatibilityConfig(output_dir=str(tmp_path), report_to="none", use_cpu=True, preset="product")
    again = CompatibilityConfig(
        output_dir=str(tmp_path), report_to="none", use_cpu=True, preset="product", mask=config.mask
    )
    assert again.strategy() == config.strategy()


def test_an_option_that_contradicts_a_preset_is_refused_with_what_the_preset_set(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"mask='old_right'.* preset='product' sets cross_entropy_weight, mask"
    ):
        CompatibilityConfig(output_dir=str(tmp_path), use_cpu=True, preset="product", mask="old_right")
