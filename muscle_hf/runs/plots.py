"""A comparison as one picture: the four quadrants to scale, then the negative flip rate of each task and slice."""

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from ..files import replaced
from ..flips.comparison import Comparison
from ..flips.paired_tests import in_words
from ..flips.rates import p_equation
from ..flips.score_comparison import ScoreComparison
from ..packages import required
from ..text import how_many
from ..version import __version__
from .fonts import Fonts
from .measure import Part
from .outcomes import Outcomes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_ROWS, _MOST_PANELS = 30, 12
# Okabe and Ito's vermilion and blue differ for any eye, and from the greys in brightness as well.
_WORSE, _BETTER, _KEPT, _NEITHER, _FLOOR = "#D55E00", "#0072B2", "#D9D9D9", "#A0A0A0", "#F5D67B"
_INK, _FAINT, _GRID = "#1A1A1A", "#5A5A5A", "#E4E4E4"
_DOTS, _LONGEST = 150, 300
# Lengths are inches from the top left corner; 6 inches are 900 pixels.
_WIDTH, _LEFT, _RIGHT = 6.0, 0.25, 5.75
_PANEL_LEFT, _PANEL_RIGHT, _ROW = 1.85, 4.0, 0.21


class Scene(NamedTuple):
    """What a picture shows; the row of all, where there are several tasks, speaks for their answers."""

    old_name: str
    new_name: str
    level: float
    tasks: Sequence[Part]
    pooled: Part | None
    slices: Mapping[str, Sequence[Part]]
    models: Mapping[str, Comparison] = {}
    """Name -> comparison with the old model, of several new models to draw side by side."""


def plot(outcomes: Outcomes) -> "Figure":
    """Draw what an update changed, 900 pixels wide at 150 dots an inch.

    The areas of the square are the shares of right and wrong before and after; tasks with scores get a bar of fallen,
    unchanged and risen. Below, a dot for the negative flip rate of each task and of each group of a slice, with its
    interval, worst on top and at most 30 a panel. A yellow band is the seed floor.
    """
    with _plain_style():
        return _Picture(_scene(outcomes)).finish()


def write_png(outcomes: Outcomes, path: str | Path) -> Path:
    """Draw what an update changed into a PNG file."""
    return write_scene(_scene(outcomes), path, software=f"muscle_hf {__version__}")


def write_scene(scene: Scene, path: str | Path, *, software: str | None = None) -> Path:
    """Draw a scene into a PNG file, which may tell what drew it; the same one gives the same bytes."""
    with _plain_style(), replaced(path) as temporary:
        _Picture(scene).finish().savefig(temporary, format="png", dpi=_DOTS, metadata={"Software": software})
    return Path(path)


def _scene(outcomes: Outcomes) -> Scene:
    names = outcomes.old_name, outcomes.new_name
    return Scene(*names, outcomes.level, outcomes.tasks, outcomes.pooled, outcomes.slices)


def _plain_style() -> AbstractContextManager[None]:
    """Leave the user's own style out of it; refuse where there is no matplotlib."""
    with required("plots", "a picture"):
        from matplotlib import style
    return style.context("default")


class _Picture:
    """One drawing area in inches, filled from top to bottom; its height is known when it is finished."""

    def __init__(self, scene: Scene) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.figure = Figure(figsize=(_WIDTH, 1), dpi=_DOTS, facecolor="white")
        FigureCanvasAgg(self.figure)  # measures texts
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set_axis_off()
        self.fonts = Fonts()
        self.level = scene.level
        self.y = 0.32

        end = self.text(_LEFT, self.y, scene.old_name, 11, width=2.6, bold=True) + 0.06
        self.text(end, self.y, f"→ {scene.new_name}", 11, width=_RIGHT - end, bold=True)
        self.y += 0.28
        answers, scores = ([part for part in scene.tasks if part.has_scores == kind] for kind in (False, True))
        if answers:
            self.square(scene.pooled or answers[0])
        if scores:
            self.bars(scores)
        if scene.models:
            self.models(scene.old_name, scene.models)
        panels = [("task", scene.tasks)] if len(scene.tasks) > 1 else []
        self.panels([*panels, *scene.slices.items()])

    def finish(self) -> "Figure":
        """Cut the figure to its height."""
        self.figure.set_size_inches(_WIDTH, self.y)
        self.axes.set_xlim(0, _WIDTH)
        self.axes.set_ylim(self.y, 0)
        return self.figure

    # The parts of the picture

    def square(self, part: Part) -> None:
        """Split a square by right and wrong of the old model, then of the new one, and tell the figures beside it."""
        compared = cast(Comparison, part.comparison)
        both, negative, positive, wrong = (
            *(compared.both_right, len(compared.negative_flips)),
            *(len(compared.positive_flips), compared.both_wrong),
        )
        side, key = 2.3, _LEFT + 2.65
        top = self.y + 0.2
        was_right = side * (both + negative) / part.n
        self.text(_LEFT, self.y + 0.1, f"old right {_percent(compared.old_accuracy)}", 7.5, color=_FAINT)
        self.text(
            _LEFT + side,
            self.y + 0.1,
            f"old wrong {_percent(1 - compared.old_accuracy)}",
            7.5,
            at="right",
            color=_FAINT,
        )
        for left, width, above, below, colors in (
            (_LEFT, was_right, both, negative, (_KEPT, _WORSE)),
            (_LEFT + was_right, side - was_right, positive, wrong, (_BETTER, _NEITHER)),
        ):
            cut = side * above / max(above + below, 1)
            for start, height, count, color in ((0.0, cut, above, colors[0]), (cut, side - cut, below, colors[1])):
                self.cell(left, top + start, width, height, color, count, part.n)
        line = top + 0.1
        for color, label, count in (
            (_KEPT, "right, still right", both),
            (_WORSE, "right → wrong: negative flips", negative),
            (_BETTER, "wrong → right: positive flips", positive),
            (_NEITHER, "wrong, still wrong", wrong),
        ):
            self.box(key, line - 0.06, 0.12, 0.12, color)
            self.text(key + 0.2, line, label, 8)
            self.text(_RIGHT, line, f"{_percent(count / part.n)}  ({count:,})", 8, at="right")
            line += 0.22
        line += 0.12
        facts = [
            (part.metric, f"{100 * compared.old_accuracy:.1f} → {_percent(compared.new_accuracy)}"),
            ("negative flip rate", self.rate(part)),
            *self.floor_fact(part),
            ("relative NFR", _number(compared.relative_negative_flip_rate)),
            (f"paired p, {in_words(part.test)}", p_equation(part.p_value)),
            ("instances", _rows(part)),
        ]
        for label, value in facts:
            self.text(key, line, label, 8, width=1.35, color=_FAINT)
            self.text(_RIGHT, line, value, 8, at="right")
            line += 0.2
        self.y = top + side + 0.35

    def bars(self, parts: Sequence[Part]) -> None:
        """Split a bar for each task into what fell, what did not change and what rose."""
        self.text(_LEFT, self.y, "Scores: fell, unchanged, rose", 9, bold=True)
        self.y += 0.22
        for part in parts[:_MOST_ROWS]:
            compared = cast(ScoreComparison, part.comparison)
            fell, rose = len(compared.negative_flips), len(compared.positive_flips)
            start, width = _PANEL_LEFT, _RIGHT - _PANEL_LEFT
            self.text(start - 0.1, self.y + 0.07, part.name, 8, at="right", width=start - 0.1 - _LEFT)
            means = f"{part.metric} {compared.old_mean:.3g} → {compared.new_mean:.3g}"
            self.text(start - 0.1, self.y + 0.24, means, 7, at="right", width=start - 0.1 - _LEFT, color=_FAINT)
            reliably = " reliably" if part.reliable_change else ""
            counts = ((_WORSE, fell, f"fell{reliably}"), (_KEPT, part.n - fell - rose, "unchanged"))
            told = []
            for color, count, word in (*counts, (_BETTER, rose, f"rose{reliably}")):
                self.cell(start, self.y - 0.02, width * count / part.n, 0.18, color, count, part.n)
                start += width * count / part.n
                told.append(f"{word} {count:,} ({_percent(count / part.n)})")
            self.text(_PANEL_LEFT, self.y + 0.25, "  ·  ".join(told), 7, width=width, color=_FAINT)
            self.y += 0.46
        if len(parts) > _MOST_ROWS:
            self.text(_PANEL_LEFT, self.y, f"… and {len(parts) - _MOST_ROWS} more tasks", 7.5, color=_FAINT)
            self.y += 0.25
        self.y += 0.15

    def models(self, old_name: str, models: Mapping[str, Comparison]) -> None:
        """Draw accuracy and negative flip rate of several new models below those of the old one, each to its scale."""
        columns = ((_PANEL_LEFT, "accuracy", "new_accuracy", _INK), (3.9, "NFR", "negative_flip_rate", _WORSE))
        width, bottom = 1.45, self.y + 0.32 + _ROW * (len(models) + 1)
        self.text(_LEFT, self.y, "Models side by side", 9, bold=True)
        old = next(iter(models.values()))
        for left, title, name, color in columns:
            rows = [
                (getattr(compared, name), compared.confidence_interval(name, self.level))
                for compared in models.values()
            ]
            if name == "new_accuracy":
                rows.insert(0, (old.old_accuracy, old.confidence_interval("old_accuracy", self.level)))
            else:
                rows.insert(0, (0.0, (0.0, 0.0)))  # The old model breaks nothing of its own.
            ends = [end for _, interval in rows for end in interval]
            low, high = (0.0 if name != "new_accuracy" else min(ends)), max(max(ends), 0.01)
            scale = (width - 0.5) / max(high - low, 1e-9)
            self.text(left, self.y + 0.2, f"{title}, {100 * self.level:g} % interval", 7.5, color=_FAINT)
            for place, (value, (start, end)) in enumerate(rows):
                y = self.y + 0.32 + _ROW * (place + 0.5)
                start, end, middle = (left + 0.05 + scale * (x - low) for x in (start, end, value))
                self.whisker(start, end, middle, y, color)
                self.text(left + width + 0.35, y, _percent(value), 8, at="right")
        for place, name in enumerate([old_name, *models]):
            y = self.y + 0.32 + _ROW * (place + 0.5)
            self.text(_PANEL_LEFT - 0.1, y, name, 8, at="right", width=_PANEL_LEFT - 0.1 - _LEFT)
        self.y = bottom + 0.28

    def panels(self, panels: Sequence[tuple[str, Sequence[Part]]]) -> None:
        """Draw dots with whiskers for each group of each column, all to one scale."""
        if not panels:
            return
        shown = [(title, sorted(rows, key=_rate, reverse=True)) for title, rows in panels[:_MOST_PANELS]]
        self.reach = max(self.highest(part) for _, rows in shown for part in rows[:_MOST_ROWS])
        self.reach = min(1.0, max(1.04 * self.reach, 0.01))
        for title, rows in shown:
            self.panel(title, rows)
        line = self.y
        self.whisker(_LEFT + 0.02, _LEFT + 0.3, _LEFT + 0.16, line)
        legend = f"negative flip rate (NFR), {100 * self.level:g} % interval"
        self.text(_LEFT + 0.38, line, legend, 7.5, color=_FAINT)
        if any(part.seed_floor for _, rows in shown for part in rows):
            self.box(3.1, line - 0.06, 0.12, 0.12, _FLOOR)
            self.text(3.3, line, "seed floor: NFR of runs of one version", 7.5, width=_RIGHT - 3.3, color=_FAINT)
        if len(panels) > _MOST_PANELS:
            self.y += 0.2
            self.text(_LEFT, self.y, f"… and {len(panels) - _MOST_PANELS} more columns", 7.5, color=_FAINT)
        self.y += 0.25

    def panel(self, title: str, rows: Sequence[Part]) -> None:
        """Draw one row for each group, the worst on top."""
        from matplotlib.ticker import MaxNLocator

        self.text(_LEFT, self.y, f"NFR by {title}", 9, width=_RIGHT - _LEFT, bold=True)
        top = self.y + 0.17
        few = rows[:_MOST_ROWS]
        bottom = top + _ROW * len(few)
        for tick in MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]).tick_values(0, 100 * self.reach):
            if 0 <= tick <= 100 * self.reach + 1e-9:
                x = self.x(tick / 100)
                self.axes.plot([x, x], [top, bottom], color=_GRID, linewidth=0.8, zorder=0)
                self.text(x, bottom + 0.1, f"{tick:g} %", 7, at="center", color=_FAINT)
        for place, part in enumerate(few):
            middle = top + _ROW * (place + 0.5)
            floor, (low, high) = part.seed_floor, self.interval(part)
            if floor:
                if not math.isnan(floor.low):
                    start = self.x(floor.low)
                    self.box(start, middle - _ROW / 2, self.x(floor.high) - start, _ROW, _FLOOR)
                x = self.x(floor.negative_flip_rate)
                self.axes.plot(
                    [x, x], [middle - _ROW / 2, middle + _ROW / 2], color="#B8860B", linewidth=1.2, zorder=2
                )
            self.whisker(self.x(low), self.x(high), self.x(_rate(part)), middle)
            self.text(_PANEL_LEFT - 0.1, middle, part.name, 8, at="right", width=_PANEL_LEFT - 0.1 - _LEFT)
            count = f"{len(part.comparison.negative_flips):,} of {part.n:,}"
            self.text(_PANEL_RIGHT + 0.58, middle, _percent(_rate(part)), 8, at="right")
            self.text(_PANEL_RIGHT + 0.65, middle, count, 7, width=_RIGHT - _PANEL_RIGHT - 0.65, color=_FAINT)
        self.y = bottom + 0.28
        if len(rows) > len(few):
            told = f"… and {len(rows) - len(few)} more, none above {_percent(_rate(rows[len(few)]))}"
            self.text(_PANEL_LEFT, self.y, told, 7.5, color=_FAINT)
            self.y += 0.2
        self.y += 0.14

    # The figures

    def interval(self, part: Part) -> tuple[float, float]:
        return part.comparison.confidence_interval("negative_flip_rate", self.level)

    def highest(self, part: Part) -> float:
        floor = part.seed_floor
        ends = [self.interval(part)[1], *((floor.negative_flip_rate, floor.high) if floor else ())]
        return float(max(end for end in ends if not math.isnan(end)))

    def rate(self, part: Part) -> str:
        low, high = self.interval(part)
        return f"{_percent(_rate(part))} [{100 * low:.1f}, {100 * high:.1f}]"

    def floor_fact(self, part: Part) -> list[tuple[str, str]]:
        return [("seed floor", _percent(part.seed_floor.negative_flip_rate))] if part.seed_floor else []

    # The strokes

    def x(self, rate: float) -> float:
        """Give where a rate lies in a panel."""
        return _PANEL_LEFT + (_PANEL_RIGHT - _PANEL_LEFT) * rate / self.reach

    def whisker(self, low: float, high: float, middle: float, y: float, color: str = _WORSE) -> None:
        self.axes.plot([low, high], [y, y], color=color, linewidth=1.4, solid_capstyle="butt", zorder=3)
        self.axes.plot([middle], [y], color=color, marker="o", markersize=4.5, markeredgewidth=0, zorder=4)

    def box(self, x: float, y: float, width: float, height: float, color: str) -> None:
        from matplotlib.patches import Rectangle

        self.axes.add_patch(Rectangle((x, y), width, height, facecolor=color, edgecolor="none", zorder=1))

    def cell(self, x: float, y: float, width: float, height: float, color: str, count: int, n: int) -> None:
        """Draw a share, with its percentage where there is room."""
        self.box(x, y, width, height, color)
        if min(width, height) > 0.04:  # else the line would hide the cell
            self.axes.plot([x, x, x + width], [y + height, y, y], color="white", linewidth=0.8, zorder=2)
        if width > 0.48 and height > 0.15:
            ink = "white" if color in (_WORSE, _BETTER) else _INK
            self.text(x + width / 2, y + height / 2, _percent(count / n), 8, at="center", color=ink)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        size: float,
        *,
        at: str = "left",
        width: float = _WIDTH,
        bold: bool = False,
        color: str = _INK,
    ) -> float:
        """Write a line as it is, cut in its middle where it is wider than `width`; give where it ends."""
        weight = "bold" if bold else "normal"
        text, families = self.fonts.fit(text, weight)
        style: dict[str, Any] = {"fontsize": size, "color": color, "fontweight": weight, "fontfamily": families}
        artist = self.axes.text(x, y, text, ha=at, va="center_baseline", parse_math=False, zorder=5, **style)
        kept = min(len(text), _LONGEST)
        while True:
            if kept < len(text):
                artist.set_text(f"{text[: kept - kept // 2]}…{text[len(text) - kept // 2 :]}")
            wide = artist.get_window_extent().width / _DOTS
            if wide <= width or kept <= 2:
                return x + float(wide)
            kept = max(2, min(kept - 1, int(kept * width / wide)))


def _rate(part: Part) -> float:
    return float(part.comparison.negative_flip_rate)


def _rows(part: Part) -> str:
    clusters = part.comparison.clusters
    return f"{part.n:,}" if clusters is None else f"{part.n:,} in {how_many(clusters, 'cluster')}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _number(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.2f}"
