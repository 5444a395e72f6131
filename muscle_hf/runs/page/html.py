"""How names, texts and numbers stand in the page: escaped, set, rounded."""

import math
import re
from html import escape

from ..cells import Cell, Change, Estimate

_RATIOS = ("relative_negative_flip_rate", "kappa")
_MEANS = ("old_mean", "new_mean", "mean_change", "mean_gain", "mean_regression")
_TIED = re.compile(r"(?<=\d) (?=%)|(?<=\d,) (?=[-\d])|(?<=p) (?==)|(?<=p =) (?=\d)")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")

# Kind -> symbol, so that nothing is told by colour alone, and name; those of scores have their own names.
KINDS = {
    "negative_flip": ("▼", "right before, wrong now"),
    "positive_flip": ("▲", "wrong before, right now"),
    "both_wrong": ("○", "both wrong"),
    "both_right": ("●", "both right"),
    "unchanged": ("=", "unchanged"),
}


def plain(value: object) -> str:
    """Escape a name or text for HTML."""
    return escape(clean(str(value)))


def typeset(text: str) -> str:
    """Set a sentence of `report`: arrows, and no line ends inside an interval or before a unit."""
    return _TIED.sub("\N{NO-BREAK SPACE}", plain(text).replace(" -&gt; ", "\N{NO-BREAK SPACE}→\N{NO-BREAK SPACE}"))


def cell_html(cell: Cell) -> str:
    """Set a cell of a table; no line ends inside an interval or a change."""
    if isinstance(cell, Change):
        return "\N{NO-BREAK SPACE}→\N{NO-BREAK SPACE}".join(format(side, cell.form) for side in (cell.old, cell.new))
    if isinstance(cell, Estimate) and cell.ends:
        return f"{cell.lines()[0]} [{cell.ends[0]},\N{NO-BREAK SPACE}{cell.ends[1]}]"
    return plain(cell)


def name_of(value: object) -> str:
    """Escape a name, and isolate it."""
    # Isolated, so that a name written from right to left does not turn what stands beside it.
    return f"<bdi>{plain(value)}</bdi>"


def clean(text: str) -> str:
    """Replace control characters, and give every line the same end."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n").replace("\r", "\n"))


def number(name: str, value: float) -> str:
    """Show a rate in its unit."""
    if math.isnan(value):
        return "undefined"
    if name == "accuracy_change":
        return f"{100 * value:+z.1f}\N{NO-BREAK SPACE}points"
    if name in _RATIOS:
        return f"{value:z.2f}"
    return f"{value:z.4g}" if name in _MEANS else percent(value)


def bounds(name: str, low: float, high: float) -> str:
    """Show an interval of a rate in its unit."""
    if math.isnan(low):
        return "undefined"
    first, second = (number(name, value).partition("\N{NO-BREAK SPACE}") for value in (low, high))
    return f"[{first[0]},\N{NO-BREAK SPACE}{second[0]}]{second[1]}{second[2]}"


def percent(value: float) -> str:
    """Show a share."""
    return "undefined" if math.isnan(value) else f"{100 * value:z.1f}\N{NO-BREAK SPACE}%"


def round_up(value: float) -> float:
    """Give a round number from `value` up, as the end of an axis of shares."""
    size = 10.0 ** math.floor(math.log10(value)) if value > 0 else 0.01
    return min(1.0, next(step * size for step in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if step * size > value * 0.999))
