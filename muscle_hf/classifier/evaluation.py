"""One evaluation set of a classifier: both teachers are asked once, the student at every evaluation."""

from collections.abc import Sequence

import torch
from accelerate.utils import gather_object
from torch import Tensor

from ..flips.comparison import Comparison, compare
from ..flips.eval_metrics import flip_metrics

_ROLES, _PRODUCT = ("old", "new", "student", "references"), "product"
# What is logged of both models' product, the most that a student can learn of it.
_OF_PRODUCT = ("accuracy", "negative_flip_rate", "relative_negative_flip_rate")


class EvaluationMemory:
    """What is known of a set, by row: the teachers' logits for good, and, of an evaluation set, the answers for once.

    The logits lie in the memory of the processor: 4 bytes for each class of either model and each instance or word.
    """

    def __init__(self) -> None:
        """Start knowing nothing."""
        self._logits: dict[int, tuple[Tensor, Tensor]] = {}
        self._answers: dict[int, list[list[int]]] = {}

    def recall(self, rows: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor] | None:
        """Return both models' logits of these rows, (tokens, classes) each, or None where some are not known."""
        if not all(row in self._logits for row in rows):
            return None
        old, new = zip(*(self._logits[row] for row in rows), strict=True)
        return torch.cat(old).to(device), torch.cat(new).to(device)

    def remember(self, rows: Sequence[int], counts: Sequence[int], old: Tensor, new: Tensor) -> None:
        """Keep the old and the new model's logits, (tokens, classes) each, of rows with so many tokens."""
        # Copies, since a slice would keep the whole batch alive.
        parts = ([part.clone() for part in torch.split(logits.cpu(), list(counts))] for logits in (old, new))
        self._logits |= dict(zip(rows, zip(*parts, strict=True), strict=True))

    def note(self, rows: Sequence[int], counts: Sequence[int], answers: Tensor) -> None:
        """Note the class numbers of the old and the new model, the student, and the right ones, (4, tokens).

        Those of both models' product may come fifth.
        """
        parts = torch.split(answers.cpu(), list(counts), dim=1)
        self._answers |= {row: part.tolist() for row, part in zip(rows, parts, strict=True)}

    def forget_answers(self) -> None:
        """Make ready for another evaluation."""
        self._answers.clear()

    def metrics(self, prefix: str) -> dict[str, float]:
        """Return the flips of the answers noted since, see [`flip_metrics`]; empty where nothing is labelled."""
        columns = self.columns()
        if not columns["references"]:
            return {}
        of_product = columns.pop(_PRODUCT, None)
        metrics = flip_metrics(**columns, prefix=prefix)
        if of_product is not None:
            prefix = f"{prefix}_product"
            found = flip_metrics(**columns | {"student": of_product}, prefix=prefix)
            metrics |= {f"{prefix}_{name}": found[f"{prefix}_{name}"] for name in _OF_PRODUCT}
        return metrics

    def update(self) -> Comparison | None:
        """Compare the new model with the old one; None where nothing is labelled."""
        columns = self.columns()
        asked = {role: columns[role] for role in ("old", "new", "references")}
        return compare(**asked) if asked["references"] else None

    def columns(self) -> dict[str, list[int]]:
        """Return the answers noted since, in all processes: role -> class numbers."""
        # A row that was repeated to fill the last batch of several processes counts once.
        answers = dict(gather_object(list(self._answers.items())))
        has_product = any(len(noted) > len(_ROLES) for noted in answers.values())
        return {
            role: [answer for row in sorted(answers) for answer in answers[row][index]]
            for index, role in enumerate((*_ROLES, _PRODUCT) if has_product else _ROLES)
        }
