"""One row of a comparison: what an update changed on a task, on a slice of it, or on several tasks pooled.

A `Table` holds what has to be known of each instance; `measure` makes a `Part` of any rows of it.

Source: Bartoš et al. (2023, arXiv 2310.04153) for the coin-flip view.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..flips.coin import CoinFlips, coin_flips
from ..flips.comparison import Comparison, compare, compare_correct
from ..flips.score_comparison import ScoreComparison, compare_scores
from ..flips.yes_no.comparison import YesNoComparison
from ..readers.answers import Column, Positions, TaskAnswers, codes, numbered
from ..readers.join import Aligned
from ..readers.metric_names import is_right_or_wrong
from ..readers.missing import without_answer
from .classes import with_names
from .reliable_change import ReliableChange, reliable_change
from .seed_floor import SeedFloor, flips_among
from .yes_no import YesNoTable


@dataclass(frozen=True, eq=False)
class Part:
    """One row of a table: a task, a slice, or all tasks pooled."""

    name: str
    metric: str
    comparison: Comparison | ScoreComparison
    coin: CoinFlips
    p_value: float
    """The p-value of the paired test that was asked for; that of `comparison` is always two-sided."""
    adjusted_p_value: float
    """The same, adjusted by Holm's method for the rows of its table."""
    test: str = "two-sided"
    """Name of that test."""
    cluster: str | None = None
    """Column that says which instances belong together; None where each is taken for itself."""
    seed_floor: SeedFloor | None = None
    reliable_change: ReliableChange | None = None
    task: str | None = None
    """Of a slice of scores, where there are other tasks: its task."""
    group: str | None = None
    """Of a slice: its group, None where instances have no value in the column."""
    harness_errors: int = 0
    """Instances that are in no rate, because a side has no answer to them; see `Missing`."""
    worst_case: Comparison | None = None
    """What the comparison would be at worst, had the harness not failed: the old model right on each of them that it
    lacks, the new model wrong. None without errors, and of scores, which have no worst."""
    yes_no: YesNoComparison | None = None
    """What the update changed on yes/no questions; None where nobody said that they are such."""

    @classmethod
    def of(
        cls,
        name: str,
        metric: str,
        comparison: Comparison | ScoreComparison,
        *,
        level: float,
        prior: tuple[float, float] = (1.0, 1.0),
        test: str = "two-sided",
        cluster: str | None = None,
        seed_floor: SeedFloor | None = None,
        reliable_change: ReliableChange | None = None,
    ) -> "Part":
        """Make a row of a comparison, with its coin-flip view; the p-value is not adjusted yet."""
        negative, positive = len(comparison.negative_flips), len(comparison.positive_flips)
        coin = coin_flips(negative, positive, prior=prior, level=level)
        p_value = comparison.paired_test(test)
        return cls(name, metric, comparison, coin, p_value, p_value, test, cluster, seed_floor, reliable_change)

    @property
    def n(self) -> int:
        """How many instances were compared."""
        return self.comparison.n

    @property
    def evidence(self) -> CoinFlips:
        """The flips as a rule to stop by weighs them: each a coin, or each cluster, which lies as most of its do."""
        if self.comparison.by_cluster is None:
            return self.coin
        return coin_flips(*self.comparison.by_cluster.leaning, prior=self.coin.prior, level=self.coin.level)

    @property
    def has_scores(self) -> bool:
        """Whether scores were compared, not right and wrong answers."""
        return isinstance(self.comparison, ScoreComparison)

    def to_dict(self, level: float = 0.95) -> dict[str, Any]:
        """Give everything but the positions of the flips as a dictionary of plain Python values."""
        compared = self.comparison.to_dict(level)
        for name in ("schema", "schema_version", "level", "negative_flips", "positive_flips"):
            del compared[name]
        return {
            "name": self.name,
            "kind": "scores" if self.has_scores else "answers",
            "metric": self.metric,
            **compared,
            "p_value": self.p_value,
            "adjusted_p_value": self.adjusted_p_value,
            "flips": {
                "negative": len(self.comparison.negative_flips),
                "positive": len(self.comparison.positive_flips),
            },
            "coin_flips": self.coin.to_dict(),
            "seed_floor": self.seed_floor and self.seed_floor.to_dict(),
            "reliable_change": self.reliable_change and self.reliable_change.to_dict(),
            **({"harness_errors": self.harness_errors} if self.harness_errors else {}),
            **({"yes_no": _within(self.yes_no.to_dict(level))} if self.yes_no else {}),
        }


@dataclass(frozen=True, eq=False)
class Table:
    """What has to be known of each instance to compare any of them; arrays of shape (n,)."""

    metric: str
    old: NDArray[np.float64]
    """Scores of the old model, higher is better; 1 and 0 for right and wrong."""
    new: NDArray[np.float64]
    has_scores: bool
    """Whether these are scores; otherwise every one is 1 or 0."""
    same_answer: NDArray[np.bool_] | None = None
    """Whether both gave the same answer; None where answers are not known."""
    labels: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]] | None = None
    """Old, new and right answers as numbers, where an answer is right by being equal to the reference."""
    names: Column | None = None
    """The answers of which these are the places."""
    tolerance: float = 0.0
    reliable_change: ReliableChange | None = None
    floor: NDArray[np.float64] | None = None
    """For each instance, the share of ordered pairs of same-version runs in which it is a negative flip."""
    floor_runs: int = 0
    errors: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
    """Of each error of the harness the worst that both may have been worth; None where there is none."""
    cluster: str | None = None
    """Column that says which instances belong together."""
    clusters: NDArray[np.int64] | None = None
    """The number of each instance's cluster, the same in all tasks; None where each is taken for itself."""
    error_clusters: NDArray[np.int64] | None = None
    """The same of each error of the harness."""
    yes_no: YesNoTable | None = None
    """What answers are taken for, of yes/no questions."""

    def __len__(self) -> int:
        """Say how many instances there are."""
        return len(self.old)

    @classmethod
    def pooled(cls, tables: Sequence["Table"]) -> "Table":
        """Join tables of right and wrong answers; the floor stays where all have one of as many runs."""
        floors = [table.floor for table in tables if table.floor is not None]
        runs = {table.floor_runs for table in tables}
        same = [table.same_answer for table in tables if table.same_answer is not None]
        return cls(
            metric=" / ".join(dict.fromkeys(table.metric for table in tables)),
            old=np.concatenate([table.old for table in tables]),
            new=np.concatenate([table.new for table in tables]),
            has_scores=False,
            same_answer=np.concatenate(same) if len(same) == len(tables) else None,
            floor=np.concatenate(floors) if len(floors) == len(tables) and len(runs) == 1 else None,
            floor_runs=max(runs),
            errors=_joined([table.errors for table in tables if table.errors is not None]),
            cluster=tables[0].cluster,
            clusters=_concatenated([table.clusters for table in tables]),
            error_clusters=_concatenated([table.error_clusters for table in tables]),
            yes_no=YesNoTable.joined([table.yes_no for table in tables]),
        )


def tabulate(
    pair: Aligned,
    *,
    tolerance: float | None = None,
    level: float = 0.95,
    seed_floor: Sequence[TaskAnswers] = (),
    by_position: bool = False,
    allow_identical: bool = False,
) -> Table:
    """Work out from two models' aligned answers what has to be known of each instance.

    Scores where lower is better are negated. Scores that are all 0 or 1 on both sides are wrong and right answers,
    unless their metric is known to give grades, or all are 0 and its name does not say that these are wrong answers.

    The tolerance is the change of a score, in its unit, up to which it counts as none. None is 0, as in the paper, and
    the reliable-change rule where scores are shares of right sampled answers. The runs of the seed floor are of one
    version, and no two of them one run unless that is accepted.
    """
    names, labels = _labels(pair)
    if labels and pair.new.references is not None and pair.new.references.equals(pair.old.references):
        # The same as `values`, without a second look at texts.
        old, new = (((side == labels[2]) & (side >= 0)).astype(np.float64) for side in labels[:2])
    else:
        old, new = pair.old.values(), pair.new.values()
    sampled = pair.old.samples is not None or pair.new.samples is not None
    grades = pair.old.grades or pair.new.grades
    # Of zeros alone only a name can say that they are wrong answers.
    grades = grades or not (is_right_or_wrong(pair.old.metric) or old.any() or new.any())
    answers = not sampled and not grades and all(((side == 0) | (side == 1)).all() for side in (old, new))
    table = Table(
        errors=pair.errors and _worst(*pair.errors),
        metric=pair.old.metric if pair.old.higher_is_better else f"negated {pair.old.metric}",
        old=old,
        new=new,
        has_scores=not answers,
        tolerance=tolerance or 0.0,
    )
    if answers and pair.old.answers is not None and pair.new.answers is not None:
        if labels:
            table = replace(table, labels=labels, names=names, same_answer=labels[0] == labels[1])
        else:
            before, after = codes(pair.old.answers, pair.new.answers)
            table = replace(table, same_answer=before == after)
    if sampled and tolerance is None:
        rule = reliable_change(pair, level)
        table = replace(table, tolerance=rule.threshold, reliable_change=rule)
    if seed_floor:
        flips = flips_among(
            seed_floor, pair, table.tolerance, by_position=by_position, allow_identical=allow_identical
        )
        table = replace(table, floor=flips, floor_runs=len(seed_floor))
    return table


def _labels(
    pair: Aligned,
) -> tuple[Column | None, tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]] | None]:
    """Number the old, new and right answers, no answer being -1; None where scores say what is right."""
    old, new = pair.old, pair.new
    if old.scores is not None or new.scores is not None or old.references is None:
        return None, None
    if old.answers is None or new.answers is None:
        return None, None
    names, (before, after, right) = numbered(old.answers, new.answers, old.references)
    return names, (before, after, right)


def measure(
    name: str,
    table: Table,
    positions: Positions | None = None,
    errors: NDArray[np.bool_] | None = None,
    *,
    level: float = 0.95,
    prior: tuple[float, float] = (1.0, 1.0),
    test: str = "two-sided",
) -> Part:
    """Compare some instances of a table, by default all; the p-value of the row is not adjusted yet.

    `errors` says which errors of the harness belong to them.
    """
    rows: Any = slice(None) if positions is None else positions
    old, new = table.old[rows], table.new[rows]
    clusters = None if table.clusters is None else table.clusters[rows]
    compared: Comparison | ScoreComparison
    if table.has_scores:
        compared = compare_scores(old=old, new=new, tolerance=table.tolerance, clusters=clusters)
    elif table.labels is not None:
        before, after, right = (column[rows] for column in table.labels)
        compared = with_names(compare(old=before, new=after, references=right, clusters=clusters), table.names)
    else:
        same = None if table.same_answer is None else table.same_answer[rows]
        compared = compare_correct(old=old > 0, new=new > 0, same_answer=same, clusters=clusters)
    part = Part.of(
        name,
        table.metric,
        compared,
        level=level,
        prior=prior,
        test=test,
        cluster=table.cluster,
        seed_floor=(
            None
            if table.floor is None
            else SeedFloor.of(compared, table.floor[rows], table.floor_runs, level, clusters)
        ),
        # The rule is worked out on all instances of the task; for a slice of them it stays the same.
        reliable_change=table.reliable_change,
    )
    if table.yes_no is not None:
        part = replace(part, yes_no=table.yes_no.compared(positions))
    if table.errors is None:
        return part
    old_errors, new_errors = (side if errors is None else side[errors] for side in table.errors)
    worst = None
    if not table.has_scores and len(old_errors):
        sides = {"old": np.concatenate([old, old_errors]) > 0, "new": np.concatenate([new, new_errors]) > 0}
        if clusters is not None and table.error_clusters is not None:
            failed = table.error_clusters if errors is None else table.error_clusters[errors]
            clusters = np.concatenate([clusters, failed])
        worst = compare_correct(**sides, clusters=clusters)
    return replace(part, harness_errors=len(old_errors), worst_case=worst)


def _within(content: Any) -> Any:
    """Leave out of a document what the one that it stands in says already."""
    if not isinstance(content, dict):
        return content
    return {key: _within(value) for key, value in content.items() if key not in ("schema", "schema_version", "level")}


def _worst(old: TaskAnswers, new: TaskAnswers) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Say of errors of the harness what both sides are worth at worst: old answers that lack right, new ones wrong."""
    sides = []
    for side, worth in ((old, 1.0), (new, 0.0)):
        lacking = without_answer(side)
        known = side if side.scores is None else replace(side, scores=np.where(lacking, 0.0, side.scores))
        sides.append(np.where(lacking, worth, known.values()))
    return sides[0], sides[1]


def _joined(
    errors: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]],
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    if not errors:
        return None
    old, new = (np.concatenate(side) for side in zip(*errors, strict=True))
    return old, new


def _concatenated(columns: Sequence[NDArray[np.int64] | None]) -> NDArray[np.int64] | None:
    known = [column for column in columns if column is not None]
    return np.concatenate(known) if len(known) == len(columns) else None


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for their number (Holm 1979), so that the chance of any false alarm stays at the level.

    The k-th smallest of m is multiplied by m - k + 1, never falling, at most 1.
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, p_values[index] * (len(p_values) - rank)))
        adjusted[index] = largest
    return adjusted


def adjusted(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Give rows of one table with their p-values adjusted."""
    values = holm([part.p_value for part in parts])
    return tuple(replace(part, adjusted_p_value=value) for part, value in zip(parts, values, strict=True))
