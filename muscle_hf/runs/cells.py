"""The cells of tables as data, which terminal, Markdown, page and card write each in their own way."""

import math
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval; undefined where the figure is nan, and without an interval where that is."""

    figure: float
    low: float
    high: float
    form: str = "z.1f"
    """How its numbers are written."""

    @property
    def ends(self) -> tuple[str, str] | None:
        """Both ends of the interval, as they are written."""
        if math.isnan(self.figure) or math.isnan(self.low):
            return None
        return format(self.low, self.form), format(self.high, self.form)

    def lines(self, *, intervals: bool = True) -> list[str]:
        """Write the figure, and the interval below it."""
        figure = "undefined" if math.isnan(self.figure) else format(self.figure, self.form)
        return [figure, f"[{', '.join(self.ends)}]"] if intervals and self.ends else [figure]

    def __str__(self) -> str:
        """Write both on one line."""
        return " ".join(self.lines())


@dataclass(frozen=True)
class Change:
    """A figure before and after the update."""

    old: float
    new: float
    form: str = ".1f"

    def lines(self, *, intervals: bool = True) -> list[str]:
        """Write the later figure below the earlier one; there is no interval to leave out."""
        return [format(self.old, self.form), f"-> {self.new:{self.form}}"]

    def __str__(self) -> str:
        """Write both on one line."""
        return " ".join(self.lines())


Cell: TypeAlias = str | Estimate | Change


def stacked(cell: Cell, *, intervals: bool = True) -> str:
    """Write a cell for a narrow column: what belongs to a figure stands below it, its interval only where asked."""
    return cell if isinstance(cell, str) else "\n".join(cell.lines(intervals=intervals))


class Point(NamedTuple):
    """A row of the comparison in one of the decisions of a history."""

    date: str
    """In ISO 8601."""
    model: str
    """The new model."""
    verdict: str
    n: int
    is_score: bool
    """Whether scores were compared, not right and wrong answers."""
    negative_flip_rate: Estimate
    """In percent."""
    new: Estimate
    """Accuracy of the new model in percent, or its mean score."""


class GraderShown(NamedTuple):
    """What reports show of the grader's own mistakes; made by `RunComparison.with_suspects`."""

    audit: list[str]
    """What verdicts of a person make of the NFR, in sentences; empty where there are none."""
    suspects: list[str]
    """What the update changed in the form of answers, and what marks can tell of it."""
    head: list[str]
    """Titles of the columns of the list."""
    rows: list[list[str]]
    """Negative flips, the likeliest mistakes of the grader first; empty where no list was asked for."""

    @property
    def table(self) -> list[tuple[list[str], list[list["Cell"]]]]:
        """The list as a table, none where it is empty."""
        return [(self.head, [list[Cell](row) for row in self.rows])] if self.rows else []


class HistoryShown(NamedTuple):
    """What reports show of the decisions before this one; made by `history.record`."""

    lines: list[str]
    """What the last one said, what has changed since, and how the NFR has moved; in sentences."""
    series: dict[str, list[Point]]
    """Row -> it through the decisions, the oldest first and this one last."""
    repeated: bool = False
    """Whether the file has this decision already, so that nothing was added."""
