"""What an update changed on yes/no questions: rates of both models, their changes, and which way answers went."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..decisions import change_limits
from ..intervals import Interval, Numbers, change_interval, mean_interval, newcombe
from ..paired_tests import coin_test
from ..rates import Rate, Result
from . import rates
from .answers import NEGATIVE, NEITHER, POSITIVE, Counts, Label, YesNoAnswers, absent
from .moved_threshold import MovedThreshold


def _change(name: str, interval: Callable[["YesNoComparison", float, int], Interval], **more: Any) -> Rate:
    """Make the change of a rate that both models have."""
    return Rate(" ", lambda c: getattr(c.new, name) - getattr(c.old, name), interval, **more)


def _of_size(interval: Interval) -> Interval:
    """Bound the size of what is bounded."""
    low, high = interval
    return max(0.0, low, -high), max(abs(low), abs(high))


@dataclass(frozen=True, eq=False)
class YesNoComparison(Result):
    """What an update changed on yes/no questions; made by `compare_yes_no`."""

    cells: Counts = field(repr=False)
    """Shape (2, 3, 3): right answer positive or negative, by what the old and the new model said, each positive,
    negative or neither."""
    old: YesNoAnswers
    """The old model: `old.bias`, `old.sensitivity` (d'), `old.criterion` (c), `old.accuracy` and more."""
    new: YesNoAnswers
    """The new model."""
    negative_flips: NDArray[np.int64] = field(repr=False)
    """Positions that were right and are wrong now, rising, counted from 0."""
    positive_flips: NDArray[np.int64] = field(repr=False)
    """Positions that were wrong and are right now, rising, counted from 0."""
    positive: frozenset[Label]
    """The labels of yes."""
    negative: frozenset[Label]
    """The labels of no."""
    by_knowledge: Mapping[str, "YesNoComparison"] = field(default_factory=dict, repr=False)
    """"correct", "incorrect" and "insufficient" -> the same of these questions, by what the new model knows; empty
    where `knowledge` was not given."""
    knowledge_changes: Mapping[str, Mapping[str, int]] | None = field(default=None, repr=False)
    """What the old model knew -> what the new one knows -> how many questions; None without `old_knowledge`."""
    moved_threshold: MovedThreshold | None = None
    """What a moved threshold would do; None without `new_scores`, or where a right answer is absent."""
    score_changes: Numbers | None = field(default=None, repr=False)
    """log p(no) - log p(yes) of the new model minus that of the old one, in nats; None without both scores."""

    _SCHEMA: ClassVar[str] = "muscle_hf.yes_no_comparison"

    @property
    def n(self) -> int:
        """How many instances were compared."""
        return int(self.cells.sum())

    @property
    def undefined(self) -> str | None:
        """Why rates are nan, where some are: which right answer is absent."""
        return absent(self.cells.sum(axis=(1, 2)))

    def _pair(self, gold: int, answer: int) -> rates.Pair:
        """Count on how many instances of a right answer both say this, the new model alone, the old one, neither."""
        cells = self.cells[gold]
        both = int(cells[answer, answer])
        new, old = int(cells[:, answer].sum()) - both, int(cells[answer].sum()) - both
        return both, new, old, int(cells.sum()) - both - new - old

    @property
    def _right(self) -> rates.Pair:
        both = int(self.cells[POSITIVE, POSITIVE, POSITIVE] + self.cells[NEGATIVE, NEGATIVE, NEGATIVE])
        new, old = len(self.positive_flips), len(self.negative_flips)
        return both, new, old, self.n - both - new - old

    @property
    def _misses(self) -> rates.Pair:
        return self._pair(POSITIVE, NEGATIVE)

    @property
    def _hits(self) -> rates.Pair:
        return self._pair(POSITIVE, POSITIVE)

    @property
    def _false_alarms(self) -> rates.Pair:
        return self._pair(NEGATIVE, POSITIVE)

    accuracy_change = _change(
        "accuracy",
        lambda c, level, _: change_interval(c._right, level),
        limits=lambda c, level, _: change_limits(c._right, level),
    )
    """Accuracy of the new model minus that of the old one."""
    false_negative_rate_change = _change(
        "false_negative_rate",
        lambda c, level, _: newcombe(c._misses, level),
        limits=lambda c, level, _: change_limits(c._misses, level),
    )
    """FNR of the new model minus that of the old one."""
    false_positive_rate_change = _change(
        "false_positive_rate",
        lambda c, level, _: newcombe(c._false_alarms, level),
        limits=lambda c, level, _: change_limits(c._false_alarms, level),
    )
    """FPR of the new model minus that of the old one."""
    shift = _change(
        "bias",
        lambda c, level, _: rates.shift_interval(c._misses, c._false_alarms, level),
        limits=lambda c, level, _: rates.shift_limits(c._misses, c._false_alarms, level),
    )
    """Bias of the new model minus that of the old one, from -2 to 2: above 0 the update leans more to no."""
    shift_size = Rate(
        " ",
        lambda c: abs(c.shift),
        lambda c, level, _: _of_size(rates.shift_interval(c._misses, c._false_alarms, level)),
        lambda c, level, _: _of_size(rates.shift_limits(c._misses, c._false_alarms, level)),
    )
    """How far the bias moved, to whichever side: what a gate bounds."""
    sensitivity_change = _change(
        "sensitivity",
        lambda c, level, seed: rates.sensitivity_change_interval(c._hits, c._false_alarms, level, seed),
    )
    """Change of d': below 0 the new model tells yes from no less well, wherever it cuts."""
    criterion_change = _change(
        "criterion",
        lambda c, level, seed: rates.criterion_change_interval(c._hits, c._false_alarms, level, seed),
    )
    """Change of c, by how much the cut moved, in units of d'; above 0 towards no."""
    score_shift = Rate(
        " ",
        lambda c: math.nan if c.score_changes is None else float(c.score_changes.mean()),
        lambda c, level, seed: mean_interval(c.score_changes, level, seed),
    )
    """Mean change of the score, log p(no) - log p(yes), in nats; nan without both scores."""

    @property
    def to_negative(self) -> int:
        """How many answers went from yes to no, right or wrong."""
        return int(self.cells[:, POSITIVE, NEGATIVE].sum())

    @property
    def to_positive(self) -> int:
        """How many answers went from no to yes, right or wrong."""
        return int(self.cells[:, NEGATIVE, POSITIVE].sum())

    @cached_property
    def p_value(self) -> float:
        """Exact paired test: are changes from yes to no and from no to yes equally likely?

        Of the answers, right or wrong. With no such change there is nothing against it: 1.
        """
        return coin_test(self.to_negative, self.to_positive)

    @property
    def broken_to_negative(self) -> int:
        """How many negative flips say no now: yes was right, and was said."""
        return int(self.cells[POSITIVE, POSITIVE, NEGATIVE])

    @property
    def broken_to_positive(self) -> int:
        """How many negative flips say yes now: no was right, and was said."""
        return int(self.cells[NEGATIVE, NEGATIVE, POSITIVE])

    @property
    def broken_to_neither(self) -> int:
        """How many negative flips have no answer now, or one that is neither label."""
        return int(self.cells[POSITIVE, POSITIVE, NEITHER] + self.cells[NEGATIVE, NEGATIVE, NEITHER])

    @property
    def threshold_repairs(self) -> int | None:
        """How many negative flips one moved threshold would repair with no retraining, fitted on other rows.

        None without `new_scores`, or where a right answer is absent; `moved_threshold` has what it would break.
        """
        return None if self.moved_threshold is None else len(self.moved_threshold.repaired)

    def _details(self) -> dict[str, Any]:
        return {
            "p_value": self.p_value,
            "flips": {"negative": len(self.negative_flips), "positive": len(self.positive_flips)},
            "broken": {
                "to_negative": self.broken_to_negative,
                "to_positive": self.broken_to_positive,
                "to_neither": self.broken_to_neither,
            },
            "answers_changed": {"to_negative": self.to_negative, "to_positive": self.to_positive},
            "labels": {"positive": sorted(self.positive, key=str), "negative": sorted(self.negative, key=str)},
            "undefined": self.undefined,
        }

    def to_dict(self, level: float = 0.95) -> dict[str, Any]:
        """Give everything but the positions of the flips as a dictionary of plain Python values.

        Args:
            level: Level of the confidence intervals.

        Returns:
            `schema` ("muscle_hf.yes_no_comparison"), `schema_version`, `n`, `level`; `rates`, each with `estimate`,
            `low` and `high`; `p_value`, `flips`, `broken`, `answers_changed`, `labels`, `undefined`; `old` and `new`,
            each with `rates` and `counts`; `by_knowledge`, `knowledge_changes` and `moved_threshold` where there are
            any. Undefined numbers are nan.

        Raises:
            InputError: `level` is not between 0 and 1.
        """
        content = super().to_dict(level) | {"old": self.old.to_dict(level), "new": self.new.to_dict(level)}
        if self.by_knowledge:
            content["by_knowledge"] = {name: group.to_dict(level) for name, group in self.by_knowledge.items()}
        if self.knowledge_changes is not None:
            content["knowledge_changes"] = {name: dict(counts) for name, counts in self.knowledge_changes.items()}
        if self.moved_threshold is not None:
            content["moved_threshold"] = self.moved_threshold.to_dict()
        return content

    def __str__(self) -> str:
        """Say what changed in sentences, with the rates of both models in a table."""
        from .words import as_text

        return as_text(self)
