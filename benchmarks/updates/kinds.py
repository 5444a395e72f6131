"""Kinds of updates: which rows and tasks there are for them, and who keeps their models."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import classifier_rows, language, language_rows, models
from .smoke import SMOKE
from .strategies import Strategy, Update


@dataclass(frozen=True)
class Kind:
    """What updates of one kind share."""

    models: Any
    """The module whose `save` and `kept_answers` keep models and their answers."""
    strategies: Mapping[str, Strategy]
    tasks: tuple[str, ...]


_TEXT_TASKS = ("clinc150-text", "arithmetic")
KINDS = {
    "classifier": Kind(models, classifier_rows.STRATEGIES, ("massive", "clinc150", "clinc150-oos")),
    "language": Kind(language, language_rows.STRATEGIES, _TEXT_TASKS),
    "two-tokenizers": Kind(language, language_rows.STRATEGIES_OF_TWO_TOKENIZERS, _TEXT_TASKS),
}
UPDATES: dict[str, Update] = {**classifier_rows.UPDATES, **language_rows.UPDATES}


def strategies_of(update: str) -> Mapping[str, Strategy]:
    """Return the rows of an update by its name; nobody else's update has any."""
    described = (UPDATES | SMOKE).get(update)
    return {} if described is None else KINDS[described.kind].strategies
