"""Yes/no answers of compared runs: which answers mean yes and no, what is right, and what scores the files have.

A table has answers and right answers in columns. In logged samples of lm-evaluation-harness both choices stand with
their log-likelihoods, and of other programs' files the right answers are read with the texts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..errors import InputError
from ..flips.answers.number_texts import as_text
from ..flips.intervals import Numbers
from ..flips.yes_no.answers import (
    NEGATIVE,
    NEITHER,
    POSITIVE,
    Codes,
    Label,
    Labels,
    check_labels,
    code_answers,
    refuse_other_references,
    shown_labels,
    take_labels,
)
from ..flips.yes_no.comparison import YesNoComparison
from ..flips.yes_no.moved_threshold import check_scores
from ..flips.yes_no.negative_bias import compare_codes, with_scores
from ..readers.answers import Column, TaskAnswers
from ..readers.join import Aligned
from ..text import listed, quote
from .number_columns import numbers_of

Said: TypeAlias = list[str | None]


@dataclass(frozen=True, eq=False)
class YesNoTable:
    """What each instance of a task is taken for; arrays of shape (n,)."""

    gold: Codes
    old: Codes
    new: Codes
    positive: frozenset[Label]
    negative: frozenset[Label]
    unknown: Mapping[Any, int] = field(repr=False)
    """The numbers of answers that are neither label, the same in all tasks."""
    old_scores: Numbers | None = field(default=None, repr=False)
    """log p(no) - log p(yes); None where the files do not say."""
    new_scores: Numbers | None = field(default=None, repr=False)

    @classmethod
    def joined(cls, tables: Sequence["YesNoTable | None"]) -> "YesNoTable | None":
        """Put the instances of several tasks together, where all of them are of yes and no."""
        known = [table for table in tables if table is not None]
        if not known or len(known) < len(tables):
            return None
        columns: dict[str, Any] = {
            name: _concatenated([getattr(table, name) for table in known])
            for name in ("gold", "old", "new", "old_scores", "new_scores")
        }
        return replace(known[0], **columns)

    def compared(self, rows: Any = None) -> YesNoComparison:
        """Compare all instances, or some; only of all it is tried what a moved threshold would repair."""
        chosen = slice(None) if rows is None else rows
        gold, old, new = self.gold[chosen], self.old[chosen], self.new[chosen]
        compared = compare_codes(gold, old, new, self.positive, self.negative, self.unknown)
        if rows is not None or self.new_scores is None:
            return compared
        for which, scores, said in (("new", self.new_scores, new), ("old", self.old_scores, old)):
            if scores is not None:
                check_scores(which, scores, np.minimum(said, NEITHER))
        return with_scores(compared, gold, np.minimum(new, NEITHER), self.new_scores, self.old_scores)


def take_pair(yes_no: Any) -> tuple[frozenset[Label], frozenset[Label]]:
    """Take the labels of yes and of no, as `compare_runs` has them; answers of files are compared as texts."""
    both = yes_no.split(",") if isinstance(yes_no, str) else yes_no
    if not isinstance(both, (list, tuple)) or len(both) != 2 or "" in both:
        raise InputError(
            f"yes_no is {yes_no!r}, but must be what means yes and what means no, such as --yes-no yes,no "
            "(yes_no=('yes', 'no'))."
        )
    positive, negative = (
        _as_texts(take_labels(name, labels)) for name, labels in zip(("yes_no[0]", "yes_no[1]"), both, strict=True)
    )
    check_labels(positive, negative)
    return positive, negative


def _as_texts(labels: frozenset[Label]) -> frozenset[Label]:
    # As files have truth values.
    return frozenset(str(label).lower() if isinstance(label, bool) else str(label).strip() for label in labels)


def yes_no_tables(
    pairs: Mapping[str, Aligned], yes_no: tuple[Labels, Labels], columns: tuple[str | None, str | None]
) -> tuple[dict[str, YesNoTable], list[str]]:
    """Say of each task with yes/no questions what its instances are taken for, and give notes of the others.

    `columns` names those with log p(no) - log p(yes) on the old and on the new side.

    Raises:
        InputError: No task has such questions, or one has others among them; a column that is not there, or that does
            not hold numbers.
    """
    positive, negative = take_pair(yes_no)
    unknown: dict[Any, int] = {}
    tables: dict[str, YesNoTable] = {}
    others: dict[str, str] = {}
    for name, pair in pairs.items():
        sides = _said(pair)
        if isinstance(sides, str):
            others[name] = sides
            continue
        right, before, after = sides
        gold = code_answers(right, positive, negative, {})
        if len(pairs) > 1 and not (gold < NEITHER).any():
            others[name] = f"no right answer is {shown_labels(positive)} or {shown_labels(negative)}"
            continue
        try:
            refuse_other_references(right, gold, positive, negative)
        except InputError as error:
            raise InputError(f"{name}: {error}.") from None
        old, new = (code_answers(side, positive, negative, unknown) for side in (before, after))
        scores = [
            _scores(side, column, positive, negative)
            for side, column in zip((pair.old, pair.new), columns, strict=True)
        ]
        # Of the old side alone they say nothing.
        scores = scores if scores[1] is not None else [None, None]
        tables[name] = YesNoTable(gold, old, new, positive, negative, unknown, *scores)
    if not tables:
        name, reason = next(iter(others.items()))
        raise InputError(f"--yes-no (yes_no=): {name} has no yes/no questions: {reason}.")
    return tables, [f"{name}: not among the yes/no questions: {reason}" for name, reason in others.items()]


def _said(pair: Aligned) -> tuple[Said, Said, Said] | str:
    """Give the right answers, and what both models said, as texts; or why they are not known."""
    old, new = pair.old, pair.new
    if old.samples is not None or new.samples is not None:
        return "it has several sampled answers to a question, and shares of right ones are no yes or no"
    if old.answers is None or new.answers is None:
        return "the files have scores, and no answers that could be told apart"
    if old.first_choices is not None and new.first_choices is not None:
        return _right_choices(old, new), _choices(old), _choices(new)
    right = old.references if old.references is not None else new.references
    if right is not None:
        return _texts(right), _texts(old.answers), _texts(new.answers)
    shown = [text.reference for text in old.read_texts(np.arange(len(old)))]
    if None in shown:
        return "the files do not say what is right"
    return [None if text is None else text.strip() for text in shown], _texts(old.answers), _texts(new.answers)


def _texts(column: Column) -> Said:
    """Give answers as texts; one of spaces alone is none."""
    return [None if text is None or not text.strip() else text for text in as_text(column).to_pylist()]


def _choices(side: TaskAnswers) -> Said:
    """Give the text of each chosen one of two choices."""
    texts = pc.if_else(pc.equal(side.answers, 1), side.second_choices, side.first_choices)
    return list(texts.to_pylist())


def _right_choices(old: TaskAnswers, new: TaskAnswers) -> Said:
    """Give the text of each right one of two choices: the chosen one where that is scored as right, else the other."""
    right: Said = [None] * len(old)
    for side in (new, old):
        other = pc.if_else(pc.equal(side.answers, 1), side.first_choices, side.second_choices)
        for place, (score, said, not_said) in enumerate(
            zip(side.values().tolist(), _choices(side), other.to_pylist(), strict=True)
        ):
            if said is not None:
                right[place] = said if score > 0 else not_said
    return right


def _scores(
    side: TaskAnswers, column: str | None, positive: frozenset[Label], negative: frozenset[Label]
) -> Numbers | None:
    """Give log p(no) - log p(yes) of a side; None where its file does not say."""
    if column is not None:
        return _of_column(side, column)
    if side.margins is None or side.first_choices is None or side.second_choices is None:
        return None
    first, second = (
        code_answers(choices.to_pylist(), positive, negative, {})
        for choices in (side.first_choices, side.second_choices)
    )
    sign = np.where((first == POSITIVE) & (second == NEGATIVE), 1.0, np.nan)
    sign[(first == NEGATIVE) & (second == POSITIVE)] = -1.0
    scores = sign * side.margins
    return None if np.isnan(scores).any() else scores


def _of_column(side: TaskAnswers, column: str) -> Numbers:
    labels = side.slices.get(column)
    if labels is None:
        raise InputError(
            f"{side.source} has no column {quote(column)} with log p(no) - log p(yes); there are: "
            f"{listed(map(quote, side.columns)) or 'none'}."
        )
    return numbers_of(side, column, labels, "log p(no) - log p(yes), a finite number,")


def _concatenated(columns: Sequence[NDArray[Any] | None]) -> NDArray[Any] | None:
    known = [column for column in columns if column is not None]
    return np.concatenate(known) if len(known) == len(columns) else None
