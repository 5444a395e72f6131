"""The model card of a compatibility adapter: what it came from, what was measured, how to load it.

A card says only what is known. Facts of the run come from the trainer, measured figures from comparisons that were
computed, and nothing that tells about somebody's machine reaches it.
"""

from typing import TYPE_CHECKING, Any

from .adapter_card import AdapterCard
from .checks import check
from .front_matter import with_front_matter
from .measured import against, first_flips
from .names import COMPATIBILITY_ADAPTER, CONTROL, OLD_MODEL, PLAIN_UPDATE
from .public import hub_id

if TYPE_CHECKING:
    from .of_trainer import card_of_trainer, library_versions, strategy_rows

__all__ = [
    "COMPATIBILITY_ADAPTER",
    "CONTROL",
    "OLD_MODEL",
    "PLAIN_UPDATE",
    "AdapterCard",
    "against",
    "card_of_trainer",
    "check",
    "first_flips",
    "hub_id",
    "library_versions",
    "strategy_rows",
    "with_front_matter",
]


def __getattr__(name: str) -> Any:
    # What needs torch is imported when it is asked for: a push works from files alone.
    if name in ("card_of_trainer", "library_versions", "strategy_rows"):
        from . import of_trainer

        return getattr(of_trainer, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
