"""Presets: options that did well together on updates of real models, under one name."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from ..errors import unknown_option

# Labelled rows hold on to the new model and to their labels; what the old model knows comes by input without labels.
_HELD: Mapping[str, Any] = {"mask": "none", "teacher": "new", "temperature": 1.0, "cross_entropy_weight": 0.5}
# Every labelled row learns from the old model, six times as much where that is right (PCT, arXiv 2011.09161), and from
# its label.
_FOCAL: Mapping[str, Any] = {"mask": "none", "focal_beta": 5.0, "cross_entropy_weight": 0.5}
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "focal": _FOCAL,
    "focal_product": {**_FOCAL, "unlabelled_teacher": "product"},
    "product": {**_HELD, "unlabelled_teacher": "product"},
    "more_confident": {**_HELD, "unlabelled_teacher": "more_confident"},
}


def needs_unlabelled(preset: str | None) -> bool:
    """Whether a preset is for input without labels."""
    return "unlabelled_teacher" in PRESETS.get(preset or "", ())


def apply_preset(config: Any) -> None:
    """Set the options of a config's preset, but for those that have another value than the default already."""
    if config.preset is None:
        return
    if config.preset not in PRESETS:
        raise unknown_option("preset", config.preset, PRESETS)
    defaults = {option.name: option.default for option in fields(config)}
    for name, value in PRESETS[config.preset].items():
        if getattr(config, name) == defaults[name]:
            setattr(config, name, value)
