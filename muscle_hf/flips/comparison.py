"""Which answers does a model update break, and how sure is that?

A *negative flip* is an instance that the old model got right and the new one gets wrong; a *positive flip* is the
reverse. Instances are counted once into a few cells (right or wrong before, right or wrong after, same answer or not);
every rate, interval and test is worked out from those.

In the formulas below c1 and c2 say that the old and the new model are right, acc1 and acc2 are their accuracies, and N
is the number of instances. Three rules hold throughout. A rate with nothing to divide by is undefined: nan, never 0. A
rate is a fraction, not a percentage. An answer of None is no answer: it is wrong, and two of them are the same answer.

Papers: MUSCLE (Echterhoff 2024, arXiv 2407.09435, sections 3.1 and 3.2) for the flips and smooth flips; Yan 2021
(2011.09161) for the negative flip rate; Srivastava 2020 (2008.04572) for the backward compatibility scores; the code
of Yan's PCT (amazon-science) for the flip impact; Dutta 2024 (2407.09141) for the flip rate; Cohen 1960 for kappa.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from . import clusters as clusters_
from . import intervals
from .agreements import KAPPA
from .classes import Classes
from .clusters import ClusterCells
from .decisions import change_limits
from .inputs import Values, equal, number, take_answers, take_clusters, take_flags
from .paired_tests import coin_test
from .rates import SCHEMA_VERSION, Rate, Result, p_equation, quotient, share, where_true
from .ratio import relative_limits

__all__ = [
    "SCHEMA_VERSION",
    "Comparison",
    "compare",
    "compare_correct",
]

# Of fewer answers it says little that none of them is right.
_ENOUGH = 5


def _bounded(
    plain: Callable[[intervals.Cells, float], intervals.Interval],
    clustered: Callable[[ClusterCells, float], intervals.Interval],
) -> Callable[[Any, float, int], intervals.Interval]:
    """Choose between the interval of independent answers and that of answers in clusters."""
    return lambda c, level, _: plain(c._cells, level) if c.by_cluster is None else clustered(c.by_cluster, level)


# Not compared by value (eq=False): `==` on arrays has no single answer, and `to_dict` has everything to compare.
@dataclass(frozen=True, eq=False)
class Comparison(Result):
    """What a model update changed, on answers that are right or wrong; made by `compare` and `compare_correct`.

    The rates that need answers are nan where only right and wrong were given, and `kappa` also where only their
    sameness was.
    """

    both_right: int
    """Instances that both models get right."""
    both_wrong: int
    """Instances that both models get wrong."""
    both_wrong_same: int | None
    """Those among them with the same wrong answer; None where answers are not known."""
    chance_agreement: float
    """See `Agreement`; nan where answers are not known."""
    kappa_standard_error: float
    negative_flips: NDArray[np.int64] = field(repr=False)
    """Positions that were right and are wrong now, rising, counted from 0."""
    positive_flips: NDArray[np.int64] = field(repr=False)
    """Positions that were wrong and are right now, rising, counted from 0."""
    by_cluster: ClusterCells | None = field(default=None, repr=False)
    """The cells of each cluster; None where no clusters were given."""
    by_class: Classes | None = field(default=None, repr=False)
    """What broke in each class of right answers; None where these are not known."""
    right: tuple[NDArray[np.bool_], NDArray[np.bool_]] | None = field(default=None, repr=False)
    """Whether the old and the new model are right on each instance; None where only counts are known."""

    _SCHEMA: ClassVar[str] = "muscle_hf.comparison"

    @property
    def n(self) -> int:
        """How many instances were compared."""
        return sum(self._cells)

    @property
    def _cells(self) -> tuple[int, int, int, int]:
        return self.both_right, self._positive, self._negative, self.both_wrong

    @property
    def _negative(self) -> int:
        return len(self.negative_flips)

    @property
    def _positive(self) -> int:
        return len(self.positive_flips)

    @property
    def _same(self) -> float:
        return math.nan if self.both_wrong_same is None else self.both_wrong_same

    old_accuracy = share("↑", lambda c: (c.both_right + c._negative, c.n))
    """acc1 = #c1 / N."""
    new_accuracy = share("↑", lambda c: (c.both_right + c._positive, c.n))
    """acc2 = #c2 / N."""
    accuracy_change = Rate(
        "↑",
        lambda c: (c._positive - c._negative) / c.n,
        _bounded(intervals.change_interval, clusters_.change_interval),
        _bounded(change_limits, clusters_.change_decision),
    )
    """acc2 - acc1 = PFR - NFR."""
    relative_accuracy_change = Rate(
        "↑",
        lambda c: quotient(c._positive - c._negative, c.both_right + c._negative),
        _bounded(relative_limits, clusters_.relative_change_interval),
    )
    """(acc2 - acc1) / acc1: the share of what was right by which the right answers grow or shrink."""
    negative_flip_rate = share("↓", lambda c: (c._negative, c.n))
    """NFR = #(c1 and not c2) / N (Yan 2021; MUSCLE 3.1)."""
    balanced_negative_flip_rate = Rate(
        "↓",
        lambda c: c.by_class.balanced if c.by_class else math.nan,
        lambda c, level, _: c.by_class.interval(level),
        lambda c, level, _: c.by_class.interval(level, cautious=True),
        applies=lambda c: bool(c.by_class),
    )
    """Mean over classes of right answers of #(negative flips of the class) / #(rows of the class); see `Classes`."""
    positive_flip_rate = share("↑", lambda c: (c._positive, c.n))
    """PFR = #(not c1 and c2) / N (Yan 2021; MUSCLE 3.1)."""
    flip_rate = share("↓", lambda c: (c._negative + c._positive, c.n))
    """NFR + PFR (Dutta 2024)."""
    inconsistency_flip_rate = share("↓", lambda c: (c._negative + c.both_wrong - c._same, c.n))
    """NFR_mc = #(not c2 and another answer than before) / N: wrong in a new way (MUSCLE 3.2); needs answers."""
    relative_negative_flip_rate = Rate(
        "↓",
        # With one division, so that nothing is lost to rounding.
        lambda c: quotient(c._negative * c.n, (c.both_right + c._negative) * (c.both_wrong + c._negative)),
        _bounded(intervals.relative_interval, clusters_.relative_rate_interval),
    )
    """NFR / (acc1 * (1 - acc2)): 1 where errors fall as if the old model did not matter (after Yan 2021)."""
    backward_trust_compatibility = share("↑", lambda c: (c.both_right, c.both_right + c._negative))
    """BTC = #(c1 and c2) / #c1 = 1 - NFR / acc1 (Srivastava 2020)."""
    backward_error_compatibility = share(" ", lambda c: (c.both_wrong, c.both_wrong + c._positive))
    """BEC = #(not c1 and not c2) / #(not c1) (Srivastava 2020). No direction: errors that stay surprise nobody."""
    negative_flip_impact = share("↓", lambda c: (c._negative, c.both_wrong + c._negative))
    """NFI = #(c1 and not c2) / #(not c2): how many of the new model's errors are new (PCT code)."""
    positive_flip_impact = share("↑", lambda c: (c._positive, c.both_right + c._positive))
    """PFI = #(not c1 and c2) / #c2 (PCT code)."""
    agreement = share(" ", lambda c: (c.both_right + c._same, c.n))
    """#(same answer) / N; needs answers."""
    error_agreement = share(" ", lambda c: (c._same, c.both_wrong))
    """#(same wrong answer) / #(not c1 and not c2); needs answers."""
    kappa = KAPPA
    """Agreement of the answers beyond chance (Cohen 1960); needs answers."""

    @property
    def counts(self) -> dict[str, int | None]:
        """The cells: `both_right, negative_flips, positive_flips, both_wrong` add up to n; and `both_wrong_same`."""
        right, positive, negative, wrong = self._cells
        cells = {"both_right": right, "negative_flips": negative, "positive_flips": positive, "both_wrong": wrong}
        return cells | {"both_wrong_same": self.both_wrong_same}

    @cached_property
    def p_value(self) -> float:
        """Exact paired test: are negative and positive flips equally likely?

        Under a neutral update every flip is a fair coin, so this is the exact two-sided binomial test on the flips
        (the exact form of McNemar's test, without mid-p); of clusters see `paired_test`. With no flips there is
        nothing against a neutral update: 1. Below 2.2e-308, the smallest that a float holds in full, it is given as
        that, never as 0.
        """
        return self.paired_test()

    def paired_test(self, test: str = "two-sided") -> float:
        """Give the p-value of an exact paired test of the flips, by name.

        Where clusters were given, it is by permutation of their signs: under a neutral update what a cluster has of
        positive flips minus negative ones is as likely to be the reverse.

        Args:
            test: "two-sided" (default: are both kinds of flips equally likely?), or "one-sided", which speaks against
                "the update breaks no more than it repairs"; with "-mid-p" after it, what was found counts half
                (Fagerland 2013): less cautious with few flips, and slightly above its level at times.

        Returns:
            The p-value.

        Raises:
            InputError: There is no test of that name.

        Example:
            >>> import muscle_hf
            >>> c = muscle_hf.compare_correct(old=[True] * 9 + [False], new=[False] * 7 + [True] * 3)
            >>> c.p_value, c.paired_test("one-sided"), c.paired_test("one-sided-mid-p")
            (0.0703125, 0.03515625, 0.01953125)
        """
        if self.by_cluster is None:
            return coin_test(self._negative, self._positive, test)
        return self.by_cluster.coins.test(test)

    def _details(self) -> dict[str, Any]:
        return {"counts": self.counts, "p_value": self.p_value} | {
            "negative_flips": self.negative_flips.tolist(),
            "positive_flips": self.positive_flips.tolist(),
        }

    def _headline(self) -> list[str]:
        return [
            f"{self._rows()}, {self._negative} negative and {self._positive} positive flips",
            f"exact paired test, two-sided, negative against positive flips: {p_equation(self.p_value, 3)}",
        ]


def compare(*, old: Values, new: Values, references: Values, clusters: Values | None = None) -> Comparison:
    """Compare the answers of an old and a new model with the right ones.

    Implements the flips of MUSCLE (arXiv 2407.09435, sections 3.1 and 3.2) and the older rates of `Comparison`.

    Args:
        old: The old model's answers, shape (n,): all ints (class ids) or all strings; None where it gave no answer.
            They are compared exactly: "1.0" is not "1", and "A " is not "A"; a warning says so where not one answer is
            right and half of them would be in another spelling. For files and their spellings there is `compare_runs`.
        new: The new model's answers to the same instances in the same order.
        references: The right answers, in the same order, of the same type; never None.
        clusters: What belongs together, such as the paraphrases of one question, the questions on one document or the
            turns of one conversation: an id for each instance, ints or strings, never None. Test and intervals then
            take clusters as independent of each other, and not instances. None: every instance is.

    Returns:
        The comparison: counts, rates, intervals, the positions of the flips.

    Raises:
        InputError: Nothing to compare, unequal lengths, ints in one column and strings in another, floats, unhashable
            or nested answers, a reference of None.

    Example:
        >>> import muscle_hf
        >>> old, new = ["Paris", "Rome", None, "Oslo"], ["Paris", "Milan", "Bern", "Oslo"]
        >>> c = muscle_hf.compare(old=old, new=new, references=["Paris", "Rome", "Bern", "Riga"])
        >>> c.negative_flip_rate, c.positive_flip_rate
        (0.25, 0.25)
        >>> c.negative_flips
        array([1])
        >>> c.error_agreement  # both say Oslo where Riga is right
        1.0
    """
    before, after, right = take_answers(old=old, new=new, references=references)
    old_right, new_right, same = equal(before, right), equal(after, right), equal(before, after)
    for name, answers, rights in (("old", before, old_right), ("new", after, new_right)):
        if len(rights) >= _ENOUGH and not rights.any() and isinstance(answers, list):
            _warn_of_spelling(name, answers, list(right))
    numbered = number(before, after)
    chance, error = intervals.chance_agreement(*numbered, same)
    by_cluster = ids = None
    if clusters is not None:
        influence = intervals.kappa_influence(*numbered, same, chance)
        ids = take_clusters(clusters, len(same), old)
        by_cluster = ClusterCells.of(ids, old_right, new_right, same, influence)
    by_class = Classes.of(right, (before, after), old_right, new_right, ids)
    return _comparison(old_right, new_right, int(np.count_nonzero(same)), chance, error, by_cluster, by_class)


def _warn_of_spelling(name: str, answers: list[Any], references: list[Any]) -> None:
    """Say so where not one answer is right, and half of them or more would be under another spelling."""
    if not isinstance(next((answer for answer in answers if answer is not None), None), str):
        return
    import pyarrow as pa  # which answers in memory need for nothing else

    from .answers.spelled_otherwise import spelled_otherwise

    columns = [
        pa.array([None if text is None else text.encode("utf-8", "backslashreplace").decode() for text in texts])
        for texts in (answers, references)
    ]
    otherwise = spelled_otherwise(*columns)
    if otherwise and 2 * otherwise.rows >= len(answers):
        answer, right = otherwise.example
        warnings.warn(
            f"not one of the {len(answers)} answers in {name} equals its right one, and {otherwise.rows} would if "
            f"{' and '.join(otherwise.names)} did not count, for instance {answer!r} for {right!r}: write both in the "
            "same way, since compare takes values exactly",
            stacklevel=3,
        )


def compare_correct(
    *, old: Values, new: Values, same_answer: Values | None = None, clusters: Values | None = None
) -> Comparison:
    """Compare two models where right and wrong are known from elsewhere: a metric, a judge, a unit test.

    Args:
        old: Whether the old model is right, shape (n,): booleans, or the ints 0 and 1.
        new: The same for the new model, in the same order.
        same_answer: Whether both gave the same answer, in the same way and order; two right answers count as the same
            whatever it says, and a right and a wrong one as different. Without it the rates that need answers
            (`inconsistency_flip_rate`, `agreement`, `error_agreement`) are nan. `kappa` is nan in any case: it needs
            the answers themselves.
        clusters: What belongs together, an id for each instance, see `compare`.

    Returns:
        The comparison: counts, rates, intervals, the positions of the flips.

    Raises:
        InputError: Nothing to compare, unequal lengths, or anything but booleans, 0 and 1.

    Example:
        >>> import muscle_hf
        >>> c = muscle_hf.compare_correct(old=[True, True, False, False], new=[True, False, True, True])
        >>> c.old_accuracy, c.new_accuracy, c.negative_flip_rate
        (0.5, 0.75, 0.25)
        >>> c.agreement
        nan
    """
    sameness = {} if same_answer is None else {"same_answer": same_answer}
    old_right, new_right, *same = take_flags(old=old, new=new, **sameness)
    both_right = int(np.count_nonzero(old_right & new_right))
    agreed = both_right + int(np.count_nonzero(same[0] & ~old_right & ~new_right)) if same else None
    by_cluster = None
    if clusters is not None:
        ids = take_clusters(clusters, len(old_right), old)
        by_cluster = ClusterCells.of(ids, old_right, new_right, same[0] if same else None)
    return _comparison(old_right, new_right, agreed, math.nan, math.nan, by_cluster)


def _comparison(
    old_right: NDArray[np.bool_],
    new_right: NDArray[np.bool_],
    same: int | None,
    chance: float,
    error: float,
    by_cluster: ClusterCells | None,
    by_class: Classes | None = None,
) -> Comparison:
    both_right = int(np.count_nonzero(old_right & new_right))
    negative, positive = where_true(old_right & ~new_right), where_true(new_right & ~old_right)
    return Comparison(
        both_right=both_right,
        both_wrong=len(old_right) - both_right - len(negative) - len(positive),
        # Both right is always the same answer, and one right and one wrong never is.
        both_wrong_same=None if same is None else same - both_right,
        chance_agreement=chance,
        kappa_standard_error=error,
        negative_flips=negative,
        positive_flips=positive,
        by_cluster=by_cluster,
        by_class=by_class,
        right=(old_right, new_right),
    )


def paired_p_values(old: list[bool], rival: list[bool], ours: list[bool]) -> dict[str, float]:
    """Test whether two new models differ, in accuracy and in what they keep of the old model's right answers.

    Given is whether each model is right, instance by instance. "negative_flips" is the exact paired test on those that
    the old model gets right; nan where there are none.

    Example:
        >>> paired_p_values([True] * 6, [False] * 6, [True] * 6)
        {'accuracy': 0.03125, 'negative_flips': 0.03125}
    """
    kept = [index for index, was_right in enumerate(old) if was_right]
    on_kept = compare_correct(old=[rival[i] for i in kept], new=[ours[i] for i in kept]) if kept else None
    return {
        "accuracy": compare_correct(old=rival, new=ours).p_value,
        "negative_flips": on_kept.p_value if on_kept else float("nan"),
    }
