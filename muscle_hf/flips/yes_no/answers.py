"""What one model says to yes/no questions, and the labels that yes and no are given by."""

import math
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ..inputs import Answers
from ..intervals import clopper_pearson, wilson
from ..rates import Rate, Result, quotient
from . import rates

Label: TypeAlias = str | int
Labels: TypeAlias = Label | Iterable[Label]
"""One label, or several that mean the same."""
Counts: TypeAlias = NDArray[np.int64]
Codes: TypeAlias = NDArray[np.int64]
"""What each answer is taken for."""

POSITIVE, NEGATIVE, NEITHER = range(3)
"""What an answer is taken for; those above `NEITHER` are answers that are neither label."""
_NAMES = ("positive", "negative")
_SHOWN = 5  # of the answers that are neither


def absent(counts: Any) -> str | None:
    """Say which right answer no instance has, given how many have each; None where both are there."""
    missing = [name for name, count in zip(_NAMES, counts, strict=True) if not count]
    if not missing:
        return None
    if len(missing) == len(_NAMES):
        return "there is no instance"
    return (
        f"the right answer of no instance is {missing[0]}: a lean towards one answer cannot be told from ability then"
    )


def _share(better: str, parts: Any) -> Rate:
    """Make a rate that is a count over a count of one model's answers."""

    def bounded(interval: Any) -> Any:
        return lambda result, level, _: interval(*parts(result), level)

    return Rate(better, lambda result: quotient(*parts(result)), bounded(wilson), bounded(clopper_pearson))


@dataclass(frozen=True, eq=False)
class YesNoAnswers(Result):
    """What one model says to yes/no questions; made by `compare_yes_no`, as its `old` and `new`.

    A missing answer, or one that is neither label, is neither yes nor no: it counts as wrong, and against both shares
    of yes and of no.
    """

    counts: Counts = field(repr=False)
    """Shape (2, 3): right answer positive or negative, by said positive, negative or neither."""
    unknown: Mapping[Any, int] = field(default_factory=dict, repr=False)
    """Answers that are neither label -> how often they were given, the commonest first; missing ones are not in it."""

    _SCHEMA: ClassVar[str] = "muscle_hf.yes_no_answers"

    @property
    def n(self) -> int:
        """How many instances there are."""
        return int(self.counts.sum())

    @property
    def no_answers(self) -> int:
        """How many answers are missing or neither label."""
        return int(self.counts[:, NEITHER].sum())

    @property
    def undefined(self) -> str | None:
        """Why rates are nan, where some are."""
        return absent(self.counts.sum(axis=1))

    def _said(self, answer: int, gold: int) -> rates.Share:
        return int(self.counts[gold, answer]), int(self.counts[gold].sum())

    @property
    def hits(self) -> rates.Share:
        """How many are answered yes where that is right, and of how many."""
        return self._said(POSITIVE, POSITIVE)

    @property
    def false_alarms(self) -> rates.Share:
        """How many are answered yes where no is right, and of how many."""
        return self._said(POSITIVE, NEGATIVE)

    @property
    def _misses(self) -> rates.Share:
        return self._said(NEGATIVE, POSITIVE)

    @property
    def _is_whole(self) -> bool:
        return bool(self.hits[1] and self.false_alarms[1])

    accuracy = _share("↑", lambda a: (int(a.counts[POSITIVE, POSITIVE] + a.counts[NEGATIVE, NEGATIVE]), a.n))
    """Share of right answers."""
    false_negative_rate = _share("↓", lambda a: a._misses)
    """FNR = P(says no | yes is right)."""
    false_positive_rate = _share("↓", lambda a: a.false_alarms)
    """FPR = P(says yes | no is right)."""
    no_answer_rate = _share("↓", lambda a: (a.no_answers, a.n))
    """Share of answers that are missing or neither label."""
    bias = Rate(
        " ",
        lambda a: quotient(*a._misses) - quotient(*a.false_alarms),
        lambda a, level, _: rates.difference_interval(a._misses, a.false_alarms, level),
        lambda a, level, _: rates.difference_limits(a._misses, a.false_alarms, level),
    )
    """FNR - FPR, from -1 to 1: above 0 it errs towards no, below 0 towards yes. It does not depend on how many
    questions have yes as their right answer."""
    sensitivity = Rate(
        "↑",
        lambda a: rates.sensitivity(a.hits, a.false_alarms) if a._is_whole else math.nan,
        lambda a, level, seed: rates.sensitivity_interval(a.hits, a.false_alarms, level, seed),
    )
    """d' = z(H) - z(F): how well it tells yes from no, wherever it cuts (0: not at all). H and F are the shares of yes
    where yes and where no is right, each (count + 1/2) / (n + 1), and equal variances are assumed."""
    criterion = Rate(
        " ",
        lambda a: rates.criterion(a.hits, a.false_alarms) if a._is_whole else math.nan,
        lambda a, level, seed: rates.criterion_interval(a.hits, a.false_alarms, level, seed),
    )
    """c = -(z(H) + z(F)) / 2: where it cuts, in the same unit; above 0 it leans to no."""

    def _details(self) -> dict[str, Any]:
        table = {
            gold: dict(zip((*_NAMES, "neither"), self.counts[row].tolist(), strict=True))
            for row, gold in enumerate(_NAMES)
        }
        return {
            "counts": table,
            "unknown_answers": [{"answer": answer, "count": count} for answer, count in self.unknown.items()],
            "undefined": self.undefined,
        }

    def _headline(self) -> list[str]:
        return [self._rows(), *([f"undefined: {self.undefined}"] if self.undefined else [])]


def take_labels(name: str, labels: Labels) -> frozenset[Label]:
    """Take one label, or several that mean the same."""
    several = [labels] if isinstance(labels, (str, int, np.integer, np.bool_)) else labels
    if not isinstance(several, (list, tuple, Set, np.ndarray)):
        raise InputError(f"{name} is {labels!r}, but must be a label or a set of labels, such as 'yes' or {{1}}")
    taken = [label.item() if isinstance(label, np.generic) else label for label in several]
    odd = [label for label in taken if not isinstance(label, (str, int))]
    if odd or not taken:
        got = f"holds {odd[0]!r}" if odd else "is empty"
        raise InputError(f"{name} {got}, but must be a label or a set of labels, each a string, an int or a bool")
    if len({isinstance(label, str) for label in taken}) > 1:
        raise InputError(f"{name} mixes ints and strings, {taken!r}: give labels of the type of the answers")
    return frozenset(taken)


def check_labels(positive: frozenset[Label], negative: frozenset[Label]) -> None:
    """Refuse labels that overlap or are of two types."""
    if shared := positive & negative:
        raise InputError(
            f"{sorted(map(repr, shared))[0]} is a positive and a negative label; give each to one of them"
        )
    if _holds_strings(positive) is not _holds_strings(negative):
        raise InputError(
            f"positive is {shown_labels(positive)} and negative {shown_labels(negative)}: one is a string and one an "
            "int; give labels of the type of the answers"
        )


def code_answers(
    answers: Iterable[Any], positive: frozenset[Label], negative: frozenset[Label], unknown: dict[Any, int]
) -> Codes:
    """Say of each answer what it is taken for.

    A missing one is `NEITHER`; one that is neither label has a number above, which is added to `unknown`.
    """
    code_of: dict[Any, int] = dict.fromkeys(positive, POSITIVE) | dict.fromkeys(negative, NEGATIVE) | {None: NEITHER}

    def code(answer: Any) -> int:
        known = code_of.get(answer)
        return unknown.setdefault(answer, NEITHER + 1 + len(unknown)) if known is None else known

    values = answers.tolist() if isinstance(answers, np.ndarray) else answers
    return np.fromiter(map(code, values), np.int64)


def counted(codes: Codes, unknown: Mapping[Any, int]) -> dict[Any, int]:
    """Count the answers that are neither label, the commonest first."""
    numbers, counts = np.unique(codes[codes > NEITHER], return_counts=True)
    answers = list(unknown)
    pairs = zip(numbers.tolist(), counts.tolist(), strict=True)
    return dict(sorted(((answers[number - NEITHER - 1], count) for number, count in pairs), key=lambda item: -item[1]))


def check_kind(columns: Mapping[str, Answers], positive: frozenset[Label], negative: frozenset[Label]) -> None:
    """Refuse labels of another type than the answers, since none would be one of them."""
    strings = _holds_strings(positive)
    for name, values in columns.items():
        example = next((value for value in values if value is not None), None)
        if example is not None and isinstance(example, str) is not strings:
            kinds = ("ints", "strings")
            raise InputError(
                f"{name} holds {kinds[not strings]}, but the labels {shown_labels(positive)} and "
                f"{shown_labels(negative)} are {kinds[strings]}: give labels of the type of the answers, such as "
                f"positive={'1, negative=0' if strings else repr('yes') + ', negative=' + repr('no')}"
            )


def refuse_other_references(
    references: Answers, codes: Codes, positive: frozenset[Label], negative: frozenset[Label]
) -> None:
    """Refuse right answers that are neither label."""
    others = np.flatnonzero(codes >= NEITHER)
    if not len(others):
        return
    place = int(others[0])
    value = references[place]
    value = value.item() if isinstance(value, np.generic) else value
    raise InputError(
        f"references[{place}] is {value!r} ({len(others):,} of {len(references):,} are neither), but each must be "
        f"{shown_labels(positive)} or {shown_labels(negative)}{spelling_hint([value], positive, negative)}; name "
        "both labels with --yes-no (positive= and negative= take several each), and leave other questions out"
    )


def spelling_hint(values: Iterable[Any], positive: frozenset[Label], negative: frozenset[Label]) -> str:
    """Say that some answers would be labels in another spelling; nothing where none would."""
    labels = {_plain(label) for label in (*positive, *negative)}
    near = [value for value in values if _plain(value) in labels]
    return (
        f" (the same label in another spelling is not guessed: {', '.join(map(repr, near[:_SHOWN]))})" if near else ""
    )


def shown_unknown(unknown: Mapping[Any, int]) -> str:
    """Show the commonest answers that are neither label."""
    shown = [f"{_cut(answer)} ({count:,})" for answer, count in list(unknown.items())[:_SHOWN]]
    return ", ".join(shown) + (", …" if len(unknown) > _SHOWN else "")


def _cut(answer: Any) -> str:
    text = repr(answer)
    return text if len(text) <= 40 else f"{text[:40]}…"


def _plain(label: Any) -> str:
    return str(label).strip().strip(".,:;!*[]()\"'").casefold()


def _holds_strings(labels: frozenset[Label]) -> bool:
    return isinstance(next(iter(labels)), str)


def shown_labels(labels: frozenset[Label]) -> str:
    """Show the labels that mean the same."""
    return " or ".join(sorted(map(repr, labels)))
