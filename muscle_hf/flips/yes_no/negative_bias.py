"""Did an update shift yes/no answers towards "no", and did it lose the ability or move the cut?

The lean towards "no" of language models is that of arXiv 2408.00137 and 2511.10881. What is measured here is ours: the
bias as FNR - FPR, which does not depend on how many questions have yes as their answer, the change of it on the same
questions, and d' and c of signal detection, which part ability from lean.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ...errors import InputError
from ..inputs import Values, refuse_other_order, take_answers, take_scores
from ..intervals import Numbers
from ..rates import where_true
from .answers import (
    NEITHER,
    Codes,
    Label,
    Labels,
    YesNoAnswers,
    check_kind,
    check_labels,
    code_answers,
    counted,
    refuse_other_references,
    take_labels,
)
from .comparison import YesNoComparison
from .knowledge import KNOWLEDGE, refuse_circular, take_knowledge
from .moved_threshold import check_scores, may_be_fitted, moved_threshold


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
            Groups that follow from the answers compared here are refused, see `muscle_hf.flips.yes_no.knowledge`.
        old_knowledge: What the old model knew; then `knowledge_changes` has the table of both.
        old_scores: log p(no) - log p(yes) of the old model, shape (n,), in nats; then `score_shift` is defined.
        new_scores: The same of the new model; then `threshold_repairs` says how many broken answers a moved threshold
            would repair, and `moved_threshold` what else it would do.

    Returns:
        The comparison: both models' rates, shift, directions of the flips, each with its interval.

    Raises:
        InputError: Nothing to compare, unequal lengths, a right answer that is neither label, labels that overlap or
            are of another type than the answers, knowledge of another name, or made from these answers; scores that
            are not finite, or whose sign says otherwise than the answers; `old_knowledge` or `old_scores` alone.

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
        for which, scores in zip(("new", "old"), (after_scores, *before_scores), strict=False):
            check_scores(which, scores, said[which])
        if whole.undefined is None and not may_be_fitted(gold):
            raise InputError(
                "new_scores: a threshold is fitted on other rows than those that it is tried on, so each right answer "
                "has to be that of two or more instances; leave the scores out"
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
    """Add what scores say to a comparison, `said` being the codes of the new model's answers.

    Where a right answer is that of fewer than two instances, no threshold is fitted.
    """
    was_right = said == gold
    was_right[compared.negative_flips], was_right[compared.positive_flips] = True, False
    moved = moved_threshold(new_scores, gold, said, was_right) if may_be_fitted(gold) else None
    changes = None if old_scores is None else new_scores - old_scores
    return replace(compared, moved_threshold=moved, score_changes=changes)
