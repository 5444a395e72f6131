"""Did an update shift yes/no answers towards "no", and did it lose the ability or move the cut?

The lean towards "no" of language models is that of arXiv 2408.00137 and 2511.10881. What is measured here is ours: the
bias as FNR - FPR, which does not depend on how many questions have yes as their answer, the change of it on the same
questions, and d' and c of signal detection, which part ability from lean.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from . import yes_no_rates as rates
from .inputs import Values, refuse_other_order, take_answers, take_scores
from .intervals import Interval, Numbers, change_interval, mean_interval, newcombe
from .knowledge import KNOWLEDGE, refuse_circular, take_knowledge
from .moved_threshold import ThresholdRepairs, threshold_repairs
from .paired_tests import coin_test
from .rates import Rate, Result, where_true
from .yes_no_answers import (
    NEGATIVE,
    NEITHER,
    POSITIVE,
    Codes,
    Counts,
    Label,
    Labels,
    YesNoAnswers,
    absent,
    check_kind,
    check_labels,
    code_answers,
    counted,
    refuse_other_references,
    take_labels,
)


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
    threshold_repairs: ThresholdRepairs | None = None
    """What a moved threshold would repair; None without `new_scores`, or where a right answer is absent."""
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

    accuracy_change = _change("accuracy", lambda c, level, _: change_interval(c._right, level))
    """Accuracy of the new model minus that of the old one."""
    false_negative_rate_change = _change("false_negative_rate", lambda c, level, _: newcombe(c._misses, level))
    """FNR of the new model minus that of the old one."""
    false_positive_rate_change = _change("false_positive_rate", lambda c, level, _: newcombe(c._false_alarms, level))
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
            each with `rates` and `counts`; `by_knowledge`, `knowledge_changes` and `threshold_repairs` where there are
            any. Undefined numbers are nan.

        Raises:
            InputError: `level` is not between 0 and 1.
        """
        content = super().to_dict(level) | {"old": self.old.to_dict(level), "new": self.new.to_dict(level)}
        if self.by_knowledge:
            content["by_knowledge"] = {name: group.to_dict(level) for name, group in self.by_knowledge.items()}
        if self.knowledge_changes is not None:
            content["knowledge_changes"] = {name: dict(counts) for name, counts in self.knowledge_changes.items()}
        if self.threshold_repairs is not None:
            content["threshold_repairs"] = self.threshold_repairs.to_dict(level)
        return content

    def __str__(self) -> str:
        """Say what changed in sentences, with the rates of both models in a table."""
        from .yes_no_words import as_text

        return as_text(self)


def compare_yes_no(
    *,
    old: Values,
    new: Values,
    references: Values,
    positive: Labels = "yes",
    negative: Labels = "no",
    knowledge: Values | None = None,
    old_knowledge: Values | None = None,
    old_scores: Values | None = None,
    new_scores: Values | None = None,
) -> YesNoComparison:
    """Compare two models' answers to yes/no questions: did the update shift them towards no, and lose ability?

    Bias is FNR - FPR. An answer that is missing (None), or neither label, is wrong, and neither yes nor no; other
    cases and dots are not guessed, but counted and shown. Where no right answer is positive, or none negative, the
    shares that exist are given, and bias, shift, d' and c are nan (`undefined` says why).

    Args:
        old: The old model's answers, shape (n,): all strings, or all ints or bools; None where it gave none.
        new: The new model's answers to the same instances in the same order.
        references: The right answers, each one of the labels.
        positive: The label of yes, or a set of labels that mean it.
        negative: The label of no, or a set of labels that mean it.
        knowledge: What the new model knows of each instance: "correct", "incorrect" or "insufficient", as
            `knowledge_of` says by an open form of each question; then `by_knowledge` has the same for each group.
            Groups that follow from the answers compared here are refused, see `muscle_hf.flips.knowledge`.
        old_knowledge: What the old model knew; then `knowledge_changes` has the table of both.
        old_scores: log p(no) - log p(yes) of the old model, shape (n,), in nats; then `score_shift` is defined.
        new_scores: The same of the new model; then `threshold_repairs` says what a moved threshold would repair.

    Returns:
        The comparison: both models' rates, shift, directions of the flips, each with its interval.

    Raises:
        InputError: Nothing to compare, unequal lengths, a right answer that is neither label, labels that overlap or
            are of another type than the answers, knowledge of another name, or made from these answers; scores that
            are not finite or of the other sign; `old_knowledge` or `old_scores` alone.

    Example:
        >>> import muscle_hf
        >>> gold = ["yes"] * 4 + ["no"] * 4
        >>> b = muscle_hf.compare_yes_no(
        ...     old=["yes", "yes", "yes", "no", "no", "no", "no", "yes"],
        ...     new=["yes", "no", "no", "no", "no", "no", "no", "no"],
        ...     references=gold,
        ... )
        >>> b.old.bias, b.new.bias, b.shift, b.broken_to_negative, b.broken_to_positive
        (0.0, 0.75, 0.75, 2, 0)
        >>> round(b.old.sensitivity, 2), round(b.new.criterion, 2), b.p_value
        (1.05, 0.9, 0.25)
    """
    yes, no = take_labels("positive", positive), take_labels("negative", negative)
    check_labels(yes, no)
    for name, alone, beside in (
        ("old_knowledge", old_knowledge, ("knowledge", knowledge)),
        ("old_scores", old_scores, ("new_scores", new_scores)),
    ):
        if alone is not None and beside[1] is None:
            raise InputError(f"{name} alone would do nothing: give {beside[0]}, those of the new model, as well")
    columns = {
        "knowledge": knowledge,
        "old_knowledge": old_knowledge,
        "old_scores": old_scores,
        "new_scores": new_scores,
    }
    refuse_other_order(old=old, **{name: values for name, values in columns.items() if values is not None})
    before, after, right = take_answers(old=old, new=new, references=references)
    check_kind({"references": right, "old": before, "new": after}, yes, no)
    gold = code_answers(right, yes, no, {})
    refuse_other_references(right, gold, yes, no)
    unknown: dict[Any, int] = {}
    said_before, said_after = (code_answers(side, yes, no, unknown) for side in (before, after))
    said = {name: np.minimum(codes, NEITHER) for name, codes in (("old", said_before), ("new", said_after))}
    whole = compare_codes(gold, said_before, said_after, yes, no, unknown)
    more: dict[str, Any] = {}
    if knowledge is not None:
        groups = take_knowledge("knowledge", knowledge, len(gold))
        refuse_circular("knowledge", groups, gold, said)
        more["by_knowledge"] = {
            name: compare_codes(gold[rows], said_before[rows], said_after[rows], yes, no, unknown)
            for name, rows in zip(KNOWLEDGE, (groups == place for place in range(3)), strict=True)
        }
        if old_knowledge is not None:
            old_groups = take_knowledge("old_knowledge", old_knowledge, len(gold))
            refuse_circular("old_knowledge", old_groups, gold, said)
            table = np.bincount(old_groups * 3 + groups, minlength=9).reshape(3, 3).tolist()
            more["knowledge_changes"] = {
                name: dict(zip(KNOWLEDGE, row, strict=True)) for name, row in zip(KNOWLEDGE, table, strict=True)
            }
    if new_scores is not None:
        both = {"new_scores": new_scores} | ({} if old_scores is None else {"old_scores": old_scores})
        (after_scores, *before_scores), _ = take_scores(**both)
        if len(after_scores) != len(gold):
            raise InputError(
                f"old has {len(gold)}, new_scores has {len(after_scores)}: all must hold the same instances in the "
                "same order"
            )
        return with_scores(replace(whole, **more), gold, said["new"], after_scores, *before_scores)
    return replace(whole, **more)


def compare_codes(
    gold: Codes,
    said_before: Codes,
    said_after: Codes,
    positive: frozenset[Label],
    negative: frozenset[Label],
    unknown: Mapping[Any, int],
) -> YesNoComparison:
    """Compare answers by their codes, see `code_answers`."""
    before, after = np.minimum(said_before, NEITHER), np.minimum(said_after, NEITHER)
    cells = np.bincount(gold * 9 + before * 3 + after, minlength=18).reshape(2, 3, 3)
    was_right, is_right = before == gold, after == gold
    return YesNoComparison(
        cells=cells,
        old=YesNoAnswers(cells.sum(axis=2), counted(said_before, unknown)),
        new=YesNoAnswers(cells.sum(axis=1), counted(said_after, unknown)),
        negative_flips=where_true(was_right & ~is_right),
        positive_flips=where_true(is_right & ~was_right),
        positive=positive,
        negative=negative,
    )


def with_scores(
    compared: YesNoComparison, gold: Codes, said: Codes, new_scores: Numbers, old_scores: Numbers | None = None
) -> YesNoComparison:
    """Add what scores say to a comparison, `said` being the codes of the new model's answers."""
    was_right = said == gold
    was_right[compared.negative_flips], was_right[compared.positive_flips] = True, False
    repairs = None if compared.undefined else threshold_repairs(new_scores, gold, said, was_right)
    changes = None if old_scores is None else new_scores - old_scores
    return replace(compared, threshold_repairs=repairs, score_changes=changes)
