"""What a card says of its figures: verdict, tables, paired comparisons with the rivals, slices and examples."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from ..flips.comparison import Comparison, compare_correct
from ..flips.rates import p_equation, p_number
from ..runs.outcomes import Instance, Outcomes
from ..runs.report import header, rate, table_rows
from ..text import markdown_table
from .markdown import LONGEST_NAME, cut, fenced, shown, without_formulas
from .names import OLD_MODEL

LEVEL = 0.95
"""Level of all intervals on a card."""

SHOWN_OF_SLICES = ("old_accuracy", "new_accuracy", "negative_flip_rate", "positive_flip_rate")
"""Rates of a slice."""

MOST_SLICES = 20
"""Groups of a slice column that are shown; the others stand in comparison.json."""

# Below this a difference is not called chance; the p-value stands beside it.
_SURE = 0.05


@dataclass(frozen=True)
class Rival:
    """A model that this adapter is measured against, on the same instances.

    Args:
        name: Its row in the table.
        words: What a sentence calls it.
        comparison: Its comparison with the old model.
        broken: Its negative flips compared with this adapter's, instance by instance: the `accuracy_change` is the
            reduction of the negative flip rate; None where they were not measured on the same instances.
        p_values: Exact paired p-values, of "negative_flips" (nan where the old model is never right) and "accuracy".
    """

    name: str
    words: str
    comparison: Comparison
    broken: Comparison | None
    p_values: Mapping[str, float]


def rival(
    name: str, words: str, comparison: Comparison, ours: Comparison, p_values: Mapping[str, float] | None
) -> Rival:
    """Compare a rival with this adapter.

    Example:
        >>> from muscle_hf.flips import compare
        >>> theirs = compare(old=list("aaaa"), new=list("bbba"), references=list("aaaa"))
        >>> ours = compare(old=list("aaaa"), new=list("abaa"), references=list("aaaa"))
        >>> found = rival("plain update", "the plain update", theirs, ours, None)
        >>> found.broken.accuracy_change, found.p_values
        (0.5, {'negative_flips': 0.5, 'accuracy': 0.5})
    """
    broken, tested = None, {}
    if _may_be_of_the_same_instances(comparison, ours):
        flipped = np.zeros((2, ours.n), np.bool_)
        flipped[0, ours.negative_flips] = flipped[1, comparison.negative_flips] = True
        broken = compare_correct(old=flipped[0], new=flipped[1])
        # The instances that the old model gets wrong flip with neither, so the test is the one on those it gets right.
        tested["negative_flips"] = broken.p_value if ours.both_right + len(ours.negative_flips) else math.nan
        # Where neither flips, both are right or both wrong, which the test does not count.
        right = ~flipped
        right[0, np.setdiff1d(comparison.positive_flips, ours.positive_flips)] = False
        right[1, np.setdiff1d(ours.positive_flips, comparison.positive_flips)] = False
        tested["accuracy"] = compare_correct(old=right[0], new=right[1]).p_value
    return Rival(name, words, comparison, broken, tested | dict(p_values or {}))


def _may_be_of_the_same_instances(one: Comparison, other: Comparison) -> bool:
    """Tell whether nothing speaks against it: as many instances, and no clash in what the old model has right."""
    old_right = [each.both_right + len(each.negative_flips) for each in (one, other)]
    if one.n != other.n or old_right[0] != old_right[1]:
        return False
    clash = (
        np.intersect1d(one.negative_flips, other.positive_flips),
        np.intersect1d(one.positive_flips, other.negative_flips),
    )
    return not any(map(len, clash))


def verdict(ours: Comparison, rivals: Sequence[Rival], where: str, this: str) -> str:
    """Say in one sentence what was found, flattering or not."""
    count = len(ours.negative_flips)
    begin = f"On {where}, this" if where else "This"
    answers = "answer" if count == 1 else "answers"
    share = f"{_percent(ours.negative_flip_rate)} of {ours.n:,}"
    text = f"{begin} {this} breaks {count:,} {answers} that the old model had right ({share})"
    if not rivals:
        return f"{text}; neither the plain update nor a control was asked, so nobody can tell whether that is few."
    text += ": " + " and ".join(_against(one, count) for one in rivals)
    accuracies = [f"{_percent(one.comparison.new_accuracy)} of {one.words}" for one in rivals]
    return f"{text}; its accuracy is {_percent(ours.new_accuracy)}, against {' and '.join(accuracies)}."


def _against(one: Rival, count: int) -> str:
    if one.broken is None:
        return f"{_percent(one.comparison.negative_flip_rate)} with {one.words}, on other questions"
    p_value = one.p_values.get("negative_flips", math.nan)
    return against(count, len(one.comparison.negative_flips), one.words, p_value)


def against(ours: int, theirs: int, rival: str, p_value: float) -> str:
    """Say how many broken answers are beside those of a rival, and whether that may be chance.

    Example:
        >>> against(7, 9, "the plain update", 0.7)
        'fewer than the 9 of the plain update (paired p = 0.7, which may be chance)'
    """
    how = {-1: "fewer than", 0: "as many as", 1: "more than"}[(ours > theirs) - (ours < theirs)]
    chance = ", which may be chance" if ours != theirs and p_value >= _SURE else ""
    known = "" if math.isnan(p_value) else f" (paired {p_equation(p_value)}{chance})"
    return f"{how} the {theirs:,} of {rival}{known}"


def main_table(comparisons: Mapping[str, Comparison], this: str | None, kind: str, shared: Comparison | None) -> str:
    """Lay out the old model and all others; `shared` has the instances of all rows, or is None."""
    head = header()
    rows = table_rows(comparisons, level=LEVEL, old_name=OLD_MODEL if shared is not None else None)
    for row, name in zip(rows[-len(comparisons) :], comparisons, strict=True):
        row[0] = f"{cut(name, LONGEST_NAME)} (this {kind})" if name == this else cut(name, LONGEST_NAME)
    if shared is None:
        head += ["n", "old model's accuracy, %"]
        for row, compared in zip(rows, comparisons.values(), strict=True):
            row += [f"{compared.n:,}", rate(compared, "old_accuracy", level=LEVEL)]
    return without_formulas(markdown_table(head, rows))


def rivals_table(rivals: Sequence[Rival], this: str) -> str | None:
    """Lay out how much this adapter breaks less than each rival; None where none was asked the same questions."""
    rows = []
    for one in rivals:
        if one.broken is not None:
            p_values = (one.p_values.get(name, math.nan) for name in ("negative_flips", "accuracy"))
            reduction = rate(one.broken, "accuracy_change", level=LEVEL)
            rows.append(
                [cut(one.name, LONGEST_NAME), reduction, *("" if math.isnan(p) else p_number(p) for p in p_values)]
            )
    if not rows:
        return None
    head = [f"this {this} against", "NFR lower by, points ↑", "p, negative flips", "p, accuracy"]
    return without_formulas(markdown_table(head, rows))


def slices_section(slices: Mapping[str, Mapping[str, Comparison]]) -> str:
    """Lay out each slice column, the groups with the highest negative flip rate first."""
    blocks = []
    for column, groups in slices.items():
        order = sorted(groups.items(), key=lambda one: (-one[1].negative_flip_rate, one[0]))
        head = [cut(column, LONGEST_NAME), "n", "old accuracy, %", "accuracy, % ↑", "NFR, % ↓", "PFR, % ↑"]
        rows = [
            [
                cut(name, LONGEST_NAME),
                f"{one.n:,}",
                *(rate(one, of, level=LEVEL) for of in SHOWN_OF_SLICES),
            ]
            for name, one in order[:MOST_SLICES]
        ]
        more = len(order) - len(rows)
        said = (
            f" The {MOST_SLICES} with the highest NFR of {len(order):,}; all are in comparison.json."
            if more > 0
            else ""
        )
        blocks.append(f"By {shown(column)}.{said}\n\n{without_formulas(markdown_table(head, rows))}")
    return "\n\n".join(blocks)


def examples_section(examples: Sequence[Instance]) -> str:
    """Show flipped instances, each text fenced, and cut where it is long."""
    blocks = []
    kinds = {"negative_flip": "right before, wrong now", "positive_flip": "wrong before, right now"}
    for one in examples:
        texts = (
            ("Question", one.question),
            ("Right answer", one.reference),
            ("Old model", one.old_answer),
            ("This model", one.new_answer),
        )
        blocks.append(f"**{shown(one.task)}, {shown(one.id)}**: {kinds.get(one.kind, shown(one.kind))}")
        blocks += [f"{title}:\n\n{fenced(text)}" for title, text in texts if text is not None]
    return "\n\n".join(blocks)


def first_flips(outcomes: Outcomes, count: int) -> tuple[Instance, ...]:
    """Take the first flips of a comparison in the order of the data, negative ones first: nobody chose them."""
    return tuple(islice(outcomes.flips(), count))


def _percent(share: float) -> str:
    return "undefined" if math.isnan(share) else f"{100 * share:.1f} %"
