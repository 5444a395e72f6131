"""What an evaluation can show, in sentences and small tables."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from .paired_tests import in_words
from .sample_size import MOST_QUESTIONS

if TYPE_CHECKING:
    from .power import BoundPower, Power

_MEANINGS = {"expected": "as expected", "bound": "just the bound", "break": "a real break"}


def text_of(found: "Power") -> str:
    """Give all that is known as plain text."""
    parts = [list(_expected(found)), list(_shown(found)), *(list(_bound(found, bound)) for bound in found.bounds)]
    return "\n\n".join("\n".join(lines) for lines in parts if lines)


def _expected(found: "Power") -> Iterator[str]:
    yield (
        f"Expected: {_percent(found.flip_rate)} of the answers flip, NFR {_percent(found.nfr)}, "
        f"change of accuracy {_points(found.change)}."
    )
    if found.assumed:
        yield f"Not given, so assumed: {'; '.join(found.assumed)}."
    if found.design_effect > 1:
        counted = "" if found.questions is None else f"{found.questions:,} questions count as {_alone(found):,}; "
        yield (
            f"Clusters of {found.cluster_size:g} with an ICC of {found.icc:g}: {counted}the design effect is "
            f"1 + (size - 1) * ICC = {found.design_effect:g}, an approximation."
        )


def _shown(found: "Power") -> Iterator[str]:
    sided = f"exact paired test, {in_words(found.test)}, level {found.level:g}"
    if found.questions is not None and (seen := found.detectable):
        yield f"{found.questions:,} questions show, with probability {found.power:g},"
        fall = "no fall of accuracy, however large" if seen.drop is None else f"a fall of {_points(seen.drop)} or more"
        yield f"- {fall} ({sided});"
        if seen.margin is not None:
            yield f"- that the expected update keeps a margin of {_points(seen.margin)} or more;"
        if seen.max_nfr is not None:
            yield f"- that it keeps a bound on the NFR of {_percent(seen.max_nfr)} or more;"
        yield f"- at least one negative flip, where the NFR is {_percent(seen.nfr)} or more."
    needed = [f"{_points(float(drop))} takes {_number(n)}" for drop, n in found.questions_for_drops.items()]
    yield f"To find a fall of accuracy with probability {found.power:g}: {'; '.join(needed)} ({sided})."


def _bound(found: "Power", bound: "BoundPower") -> Iterator[str]:
    of_nfr = bound.rate == "max_nfr"
    if of_nfr:
        yield f"Bound {bound.bound:g}: at most {_percent(bound.bound)} of the answers may break."
    else:
        yield f"Margin {-bound.bound:g}: accuracy may fall by at most {_points(-bound.bound)}."
    least = bound.questions_without_a_flip
    if least is None:
        yield "It cannot be kept without flips: only more repaired than broken answers can show it."
    elif found.questions is not None and found.questions < least:
        yield f"It cannot be kept with {found.questions:,} questions, even if nothing flips: that takes {least:,}."
    else:
        yield f"With fewer than {least:,} questions it cannot be kept, even if nothing flips."
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


def _alone(found: "Power") -> int:
    return max(1, int((found.questions or 0) / found.design_effect))


def _number(questions: int | None) -> str:
    return f"more than {MOST_QUESTIONS:,} questions" if questions is None else f"{questions:,} questions"


def _percent(share: float, digits: int | None = None) -> str:
    return f"{100 * share:.3g} %" if digits is None else f"{100 * share:.{digits}f} %"


def _points(change: float) -> str:
    shown = f"{100 * change:z.3g}"
    return f"{shown} point{'' if shown in ('1', '-1') else 's'}"
