"""One instance of a comparison with its texts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Instance:
    """One instance with what both models said."""

    task: str
    id: str | int
    kind: str
    """"negative_flip", "positive_flip", "both_right", "both_wrong"; of scores also "unchanged"."""
    question: str | None
    reference: str | None
    old_answer: str | None
    new_answer: str | None
    old_score: float
    new_score: float
    slices: Mapping[str, str | None]
    old_response: str | None = None
    """The whole text that the old model gave, where a file has it beside the answer."""
    new_response: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Give everything as a dictionary of plain Python values."""
        return vars(self) | {"slices": dict(self.slices)}
