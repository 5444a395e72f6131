"""The history of decisions on the page: flips and accuracy through all of them, drawn and as a table."""

import math
from collections.abc import Sequence

from ..cells import Estimate, HistoryShown, Point
from .html import cell_html, clean, name_of, plain, round_up, typeset
from .tables import grid

_WIDTH, _LEFT, _RIGHT, _HEIGHT = 640.0, 72.0, 58.0, 118.0
_NAMED = 6  # decisions whose date and model have room below
_LONGEST = 13  # characters of a name
_DRAWN = 4  # rows; the tables have all

# What a verdict is marked by, so that nothing is told by colour alone.
_MARKS = {
    "kept": "M{x:.1f} {y:.1f}m-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0",
    "cannot tell": "M{x:.1f} {y:.1f}m-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0",
    "broken": "M{x:.1f} {y:.1f}m-6 -5h12l-6 11z",
    "refused": "M{x:.1f} {y:.1f}m-5 -5l10 10m0 -10l-10 10",
}


def history_section(history: HistoryShown) -> str:
    """Say what came before the decision, and draw each row through all of them; "" is no history."""
    told = "".join(f'<li dir="auto">{typeset(line)}</li>' for line in history.lines)
    long = {name: points for name, points in history.series.items() if len(points) > 1}
    drawn = "".join(_figure(name, points, alone=len(long) == 1) for name, points in list(long.items())[:_DRAWN])
    tables = "".join(
        f"<details><summary>The {len(points)} decisions{'' if len(long) == 1 else f': {name_of(name)}'}</summary>"
        f"{_table(name, points)}</details>"
        for name, points in long.items()
    )
    return f'<section aria-labelledby="history"><h2 id="history">History</h2><ul>{told}</ul>{drawn}{tables}</section>'


def _figure(name: str, points: Sequence[Point], *, alone: bool) -> str:
    unit, what = ("", "mean score") if points[0].is_score else (" %", "accuracy")
    first = _panel(points, [point.negative_flip_rate for point in points], "NFR ↓", " %", 0.0, from_zero=True)
    second = _panel(points, [point.new for point in points], f"{what} ↑", unit, _HEIGHT + 34, from_zero=False)
    below, last = "", len(points) - 1
    for place in range(last, -1, -max(1, math.ceil(last / (_NAMED - 1)))):
        model = clean(points[place].model)
        for line, text in enumerate(
            (points[place].date[:10], model if len(model) <= _LONGEST else f"{model[:_LONGEST]}…")
        ):
            below += (
                f'<text class="axis" x="{_x(place, last):.1f}" y="{2 * _HEIGHT + 78 + 17 * line:g}" '
                f'text-anchor="middle">{plain(text)}</text>'
            )
    told = f"NFR from {points[0].negative_flip_rate} to {points[-1].negative_flip_rate} % in {len(points)} decisions"
    title = "" if alone else f"<b>{name_of(name)}</b>. "
    return (
        f'<figure class="history"><svg class="trend" viewBox="0 0 {_WIDTH:g} {2 * _HEIGHT + 102:g}" role="img" '
        f'aria-label="{plain(told)}">{first}{second}{below}</svg><figcaption>{title}Each decision of the history, '
        "with its interval; the last one is this one. Verdicts: ● kept, ○ cannot tell, ▼ broken, ✕ refused. The line "
        "leads the eye, it measures nothing.</figcaption></figure>"
    )


def _x(place: int, last: int) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * place / last


def _panel(
    points: Sequence[Point], values: Sequence[Estimate], title: str, unit: str, top: float, *, from_zero: bool
) -> str:
    """Draw one rate through all decisions, between the lowest and the highest end of an interval."""
    last = len(points) - 1
    ends = [end for value in values for end in (value.figure, value.low, value.high) if math.isfinite(end)] or [0.0]
    low, high = (0.0, 100 * round_up(max(ends) / 100)) if from_zero else _range(min(ends), max(ends))

    def y(height: float) -> float:
        return top + 26 + _HEIGHT * (1 - (height - low) / (high - low))

    drawn = f'<text x="0" y="{top + 13:g}" class="axis">{title}</text>'
    for edge in (low, high):
        drawn += f'<path class="rule" d="M{_LEFT - 8:g} {y(edge):.1f}H{_WIDTH - _RIGHT + 8:g}"/>'
        drawn += (
            f'<text class="axis" x="{_LEFT - 14:g}" y="{y(edge) + 4:.1f}" text-anchor="end">{edge:.4g}{unit}</text>'
        )
    line = " ".join(
        f"{_x(place, last):.1f},{y(value.figure):.1f}"
        for place, value in enumerate(values)
        if not math.isnan(value.figure)
    )
    drawn += f'<polyline points="{line}"/>'
    for place, point in enumerate(points):
        value = values[place]
        if math.isnan(value.figure):
            continue
        x = _x(place, last)
        reach = f'<path class="reach" d="M{x:.1f} {y(value.low):.1f}V{y(value.high):.1f}"/>' if value.ends else ""
        mark = _MARKS.get(point.verdict, _MARKS["refused"]).format(x=x, y=y(value.figure))
        kind = point.verdict.replace(" ", "-") if point.verdict in _MARKS else "refused"
        drawn += (
            f"<g><title>{plain(f'{point.date[:10]}, {clean(point.model)}: {value}{unit}, {point.verdict}')}</title>"
            f'{reach}<path class="{kind}" d="{mark}"/></g>'
        )
    now = values[-1]
    if not math.isnan(now.figure):
        drawn += f'<text x="{_x(last, last) + 10:.1f}" y="{y(now.figure) + 5:.1f}">{now.lines()[0]}</text>'
    return drawn


def _range(low: float, high: float) -> tuple[float, float]:
    """Leave some room below and above, with ends of three digits."""
    room = 0.1 * (high - low) or 0.1 * abs(high) or 1.0
    step = 10.0 ** (math.floor(math.log10(high - low + 2 * room)) - 1)
    return math.floor((low - room) / step) * step, math.ceil((high + room) / step) * step


def _table(name: str, points: Sequence[Point]) -> str:
    what = "mean score ↑" if points[0].is_score else "accuracy, % ↑"
    rows = [
        [
            plain(point.date[:10]),
            name_of(point.model),
            plain(point.verdict),
            f"{point.n:,}",
            cell_html(point.negative_flip_rate),
            cell_html(point.new),
        ]
        for point in reversed(points)
    ]
    return grid(f"History of {name}", ["decided", "new model", "verdict", "n", "NFR ↓, %", what], rows)
