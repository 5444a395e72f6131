"""What an evaluation can show: as data, in sentences and in small tables."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from ...text import how_many
from ..paired_tests import in_words
from ..rates import strict_json
from .sample_size import MOST_QUESTIONS

SCHEMA_VERSION = 1
# What is looked for is never smaller than 1e-7; so small a margin is none.
_LEAST = 1e-6
_MEANINGS = {"expected": "as expected", "bound": "just the bound", "break": "a real break"}


@dataclass(frozen=True)
class Chances:
    """How probable each verdict on a bound is, if the truth is so."""

    truth: float
    """The true change of accuracy, or the true NFR."""
    meaning: str
    """ "expected", "bound" or "break"."""
    kept: float
    broken: float
    cannot_tell: float


@dataclass(frozen=True)
class BoundPower:
    """What so many questions can say on a bound, and how many it needs."""

    rate: str
    """ "min_accuracy_change" or "max_nfr"."""
    bound: float
    expected: float
    """The true change of accuracy, or the true NFR, that is expected."""
    broken_at: float
    """The same of a real break, that should be called broken."""
    chances: tuple[Chances, ...]
    """Of each verdict with that many questions; empty where no number of questions was given."""
    questions_kept: int | None
    """How many questions call what is expected kept; None where no number does, because it lies beyond the bound."""
    questions_broken: int | None
    """How many questions call the real break broken."""
    questions_without_a_flip: int | None
    """With fewer questions the bound is not kept where nothing flips; None where no number is enough."""


@dataclass(frozen=True)
class Detectable:
    """What so many questions show with the power asked for; None where nothing is large enough."""

    drop: float | None
    """The smallest fall of accuracy that the test finds, where as many answers flip as expected."""
    margin: float | None
    """The smallest margin that the expected update is shown to keep."""
    max_nfr: float | None
    """The smallest bound on the NFR that it is shown to keep."""
    nfr: float
    """The smallest NFR of which at least one flip is seen."""


@dataclass(frozen=True)
class Power:
    """What an evaluation can show; made by `power`. `print` shows it in sentences and tables."""

    questions: int | None
    cluster_size: float
    icc: float
    design_effect: float
    """By what clusters divide the number of questions: 1 + (cluster_size - 1) * icc (Kish 1965); an approximation."""
    flip_rate: float
    """Expected share of questions of which the answer turns right or wrong."""
    change: float
    """Expected change of accuracy: PFR - NFR."""
    nfr: float
    """Expected negative flip rate."""
    assumed: tuple[str, ...]
    """What was not given, and is assumed."""
    test: str
    level: float
    power: float
    detectable: Detectable | None
    """What so many questions can show; None where no number of questions was given."""
    questions_for_drops: dict[str, int | None]
    """How many questions it takes for the test to find falls of accuracy of 0.01, 0.02 and 0.05."""
    bounds: tuple[BoundPower, ...]

    def to_dict(self) -> dict[str, Any]:
        """Give everything as a dictionary of plain Python values; None is what no number of questions can do."""
        head = {"schema": "muscle_hf.power", "schema_version": SCHEMA_VERSION}
        content = asdict(self)
        content["assumed"] = list(self.assumed)
        content["bounds"] = [asdict(bound) | {"chances": [asdict(c) for c in bound.chances]} for bound in self.bounds]
        return head | content

    def to_json(self, *, indent: int | None = None) -> str:
        """Give `to_dict` as JSON."""
        return strict_json(self.to_dict(), indent=indent)

    def __str__(self) -> str:
        """Show it in sentences and small tables."""
        parts = [_expected(self), _shown(self), *(_bound(self, bound) for bound in self.bounds)]
        return "\n\n".join("\n".join(lines) for lines in parts)


# In words ------------------------------------------------------------------------------------------------------------


def _expected(found: Power) -> Iterator[str]:
    yield (
        f"Expected: {_percent(found.flip_rate)} of the answers flip, NFR {_percent(found.nfr)}, "
        f"change of accuracy {_points(found.change)}."
    )
    if found.assumed:
        yield f"Not given, so assumed: {'; '.join(found.assumed)}."
    if found.design_effect > 1:
        counted = "" if found.questions is None else f"{_number(found.questions)} count as {_alone(found):,}; "
        yield (
            f"Clusters of {found.cluster_size:g} with an ICC of {found.icc:g}: {counted}the design effect is "
            f"1 + (size - 1) * ICC = {found.design_effect:g}, an approximation."
        )


def _shown(found: Power) -> Iterator[str]:
    sided = f"exact paired test, {in_words(found.test)}, level {found.level:g}"
    if found.questions is not None and (seen := found.detectable):
        shows = "shows" if found.questions == 1 else "show"
        yield f"{_number(found.questions)} {shows}, with probability {found.power:g},"
        fall = "none, however large" if seen.drop is None else f"{_points(seen.drop)} or more"
        yield f"- a fall of accuracy: {fall} ({sided});"
        if seen.margin is not None:
            size = "any margin" if seen.margin < _LEAST else f"a margin of {_points(seen.margin)} or more"
            yield f"- that the expected update keeps {size};"
        if seen.max_nfr is not None:
            yield f"- that it keeps a bound on the NFR of {_percent(seen.max_nfr)} or more;"
        yield f"- at least one negative flip, where the NFR is {_percent(seen.nfr)} or more."
    needed = [f"{_points(float(drop))} takes {_number(n)}" for drop, n in found.questions_for_drops.items()]
    yield f"To find a fall of accuracy with probability {found.power:g}: {'; '.join(needed)} ({sided})."


def _bound(found: Power, bound: BoundPower) -> Iterator[str]:
    of_nfr = bound.rate == "max_nfr"
    if of_nfr:
        yield f"Bound {bound.bound:g}: at most {_percent(bound.bound)} of the answers may break."
    else:
        yield f"Margin {-bound.bound:g}: accuracy may fall by at most {_points(-bound.bound)}."
    least = bound.questions_without_a_flip
    if least is None and of_nfr:
        yield "It cannot be kept with any number of questions: none shows that nothing at all breaks."
    elif least is None:
        yield "It cannot be kept without flips: only more repaired than broken answers can show it."
    elif found.questions is not None and found.questions < least:
        few = f"with {_number(found.questions)}"
        yield (
            f"It cannot be kept {few}, even if nothing flips: that takes {least:,}."
            if of_nfr
            else f"It can only be kept {few} by repairing more than breaks: without a flip that takes {least:,}."
        )
    elif of_nfr:
        yield f"With fewer than {least:,} questions it cannot be kept, even if nothing flips."
    else:
        yield f"With fewer than {least:,} questions it can only be kept by repairing more than breaks."
    if bound.chances:
        head = ["NFR in truth" if of_nfr else "change in truth", "", "kept", "broken", "cannot tell"]
        rows = [
            [_percent(row.truth) if of_nfr else _points(row.truth), _MEANINGS[row.meaning]]
            + [_percent(chance, 1) for chance in (row.kept, row.broken, row.cannot_tell)]
            for row in bound.chances
        ]
        yield from _table(head, rows)
    kept, real = bound.questions_kept, _percent(bound.broken_at) if of_nfr else _points(-bound.broken_at)
    beyond = bound.expected >= bound.bound if of_nfr else bound.expected <= bound.bound
    if beyond:
        yield "What is expected does not lie on the good side of the bound, so no number of questions shows it kept."
    else:
        yield f"Kept, as expected, with probability {found.power:g}: {_number(kept)}."
    what = f"an NFR of {real}" if of_nfr else f"a fall of {real}"
    yield f"Broken, if {what} is the truth, with probability {found.power:g}: {_number(bound.questions_broken)}."


def _table(head: list[str], rows: list[list[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in [head, *rows]:
        cells = [
            cell.ljust(width) if index == 1 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def _alone(found: Power) -> int:
    return max(1, int((found.questions or 0) / found.design_effect))


def _number(questions: int | None) -> str:
    return f"more than {MOST_QUESTIONS:,} questions" if questions is None else how_many(questions, "question")


def _percent(share: float, digits: int | None = None) -> str:
    return f"{100 * share:.3g} %" if digits is None else f"{100 * share:.{digits}f} %"


def _points(change: float) -> str:
    shown = f"{100 * change:z.3g}"
    return f"{shown} point{'' if shown in ('1', '-1') else 's'}"
