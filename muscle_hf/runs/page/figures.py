"""The drawings of the page: quadrants to scale, a bar for scores, intervals on an axis."""

import math

from ...flips.comparison import Comparison
from ...flips.score_comparison import ScoreComparison
from .html import KINDS, percent

_OF_SCORES = {"negative_flip": "fell", "positive_flip": "rose", "unchanged": "unchanged"}


def counted(compared: Comparison | ScoreComparison) -> dict[str, tuple[str, int]]:
    """Give the name and the count of each kind of instance."""
    counts = {"negative_flip": len(compared.negative_flips), "positive_flip": len(compared.positive_flips)}
    if isinstance(compared, Comparison):
        counts |= {"both_wrong": compared.both_wrong, "both_right": compared.both_right}
        return {kind: (KINDS[kind][1], count) for kind, count in counts.items()}
    counts["unchanged"] = compared.n - sum(counts.values())
    return {kind: (_OF_SCORES[kind], count) for kind, count in counts.items()}


def mosaic(compared: Comparison) -> str:
    """Draw a square, split to scale by the old model's answer and then by the new one's."""
    side, top, x, cells, drawn = 340.0, 22.0, 0.0, counted(compared), ""
    for kinds in (("both_right", "negative_flip"), ("positive_flip", "both_wrong")):
        column = sum(cells[kind][1] for kind in kinds)
        width, y = side * column / compared.n, top
        for kind in kinds:
            height = side * cells[kind][1] / max(1, column)
            drawn += _cell(kind, *cells[kind], compared.n, (x, y, width, height))
            y += height
        x += width
    shares = [percent(share) for share in (compared.old_accuracy, 1 - compared.old_accuracy)]
    drawn += f'<text x="0" y="14" class="axis">old right {shares[0]}</text>'
    drawn += f'<text x="{side:g}" y="14" text-anchor="end" class="axis">old wrong {shares[1]}</text>'
    return _figure(
        compared,
        f"0 0 {side:g} {side + top:g}",
        drawn,
        "Areas are to scale. Left: the old model is right; right: it is wrong. In each column, above: the new model "
        "is right; below: it is wrong.",
    )


def bar(compared: ScoreComparison) -> str:
    """Draw the shares of scores that fell, stayed and rose."""
    side, x, cells, drawn = 340.0, 0.0, counted(compared), ""
    for kind in ("negative_flip", "unchanged", "positive_flip"):
        width = side * cells[kind][1] / compared.n
        drawn += _cell(kind, *cells[kind], compared.n, (x, 0.0, width, 72.0))
        x += width
    tolerance = f" Changes up to {compared.tolerance:.3g} count as none." if compared.tolerance else ""
    caption = f"Widths are to scale: scores that fell, are unchanged, and rose.{tolerance}"
    return _figure(compared, f"0 0 {side:g} 72", drawn, caption)


def _figure(compared: Comparison | ScoreComparison, box: str, drawn: str, caption: str) -> str:
    told = ", ".join(f"{name} {count:,} ({percent(count / compared.n)})" for name, count in counted(compared).values())
    return (
        f'<figure><svg class="picture" viewBox="{box}" role="img" aria-label="Drawn to scale: {told}">{drawn}</svg>'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _cell(kind: str, label: str, count: int, n: int, box: tuple[float, float, float, float]) -> str:
    """Draw a rectangle with as much text as it has room for."""
    x, y, width, height = box
    symbol = KINDS[kind][0]
    lines = [f"{symbol} {count:,}", percent(count / n), label]
    if width < 74 or height < 26:
        lines = [symbol] * (width >= 18 and height >= 18)
    else:
        # About 7.5 units a character, 18 a line.
        lines = lines[: min(3 if width > 7.5 * len(label) else 2, int((height - 8) / 18))]
    first = y + height / 2 - 9 * len(lines) + 14
    text = "".join(
        f'<text x="{x + width / 2:.1f}" y="{first + 18 * line:.1f}" text-anchor="middle">{value}</text>'
        for line, value in enumerate(lines)
    )
    rectangle = f'<rect x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}"/>'
    return f'<g class="cell {kind}">{rectangle}{text}</g>' if count else ""


def whisker(
    estimate: float, low: float, high: float, top: float, *, line: float = math.nan, floor: float = math.nan
) -> str:
    """Draw an estimate with its interval between 0 and `top`; a line for comparison, and a floor."""

    def at(value: float) -> str:
        return f"{6 + 128 * min(value / top, 1.0):.1f}"

    drawn = '<path d="M6 11H134"/>'
    drawn += "" if math.isnan(line) else f'<path class="line" d="M{at(line)} 0V22"/>'
    drawn += "" if math.isnan(low) else f'<path class="reach" d="M{at(low)} 11H{at(high)}"/>'
    drawn += "" if math.isnan(floor) else f'<path class="floor" d="M{at(floor)} 6l5 5l-5 5l-5 -5z"/>'
    drawn += "" if math.isnan(estimate) else f'<circle cx="{at(estimate)}" cy="11" r="4"/>'
    return f'<svg class="whisker" viewBox="0 0 140 22" aria-hidden="true">{drawn}</svg>'


def ends(low: str, high: str) -> str:
    """Name the two ends of an axis, as the title of its column."""
    return f'<span class="ends"><span>{low}</span><span>{high}</span></span>'
