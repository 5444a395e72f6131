"""The model card of a compatibility adapter: what it came from, what was measured, how to load it.

A card says only what is known. Facts of the run come from the trainer, measured figures from comparisons that were
computed, and nothing that tells about somebody's machine reaches it.
"""

from .checks import check
from .files import AdapterCard
from .front_matter import with_front_matter
from .measured import against, first_flips
from .names import COMPATIBILITY_ADAPTER, CONTROL, OLD_MODEL, PLAIN_UPDATE
from .public import hub_id

__all__ = [
    "COMPATIBILITY_ADAPTER",
    "CONTROL",
    "OLD_MODEL",
    "PLAIN_UPDATE",
    "AdapterCard",
    "against",
    "check",
    "first_flips",
    "hub_id",
    "with_front_matter",
]
