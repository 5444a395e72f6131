"""The picture of a comparison: areas and dots are the figures, and no name from a file can spoil it."""

import itertools
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
from compared_rows import compared, right
from cycler import cycler
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text

from muscle_hf.errors import ConfigurationError, InputError
from muscle_hf.runs import fonts, plots
from muscle_hf.runs.plots import plot, write_png
from muscle_hf.runs.run_comparison import RunComparison

pytestmark = pytest.mark.slow

QUIZ = right(both=60, broken=10, repaired=20, neither=10)
SUMMARIES: dict[str, list[Any]] = {"old": [0.5, 0.25, 0.5, 0.5, 0.5], "new": [0.25, 0.5, 0.25, 0.5, 0.25]}
FLOOR = {"first": [True] * 70 + [False] * 30, "second": [True] * 60 + [False] * 40}
HOSTILE = [
    "$x^2$ and $\\frac{1",
    "$unbalanced",
    "\\textbf{x} %s {0} #1",
    "中文",
    "שלום עולם",
    "हिन्दी",
    "emoji 😀👍🏽",
    "a\tb\nc\x1b[31m\x00",
    "\u202eevil\u200b\ufeff",
    "\ue000\U0010ffff",
    "e\u0301 a\u0336",
    "word " * 100,
    "x" * 5_000,
    " ",
    "<b>&amp;",
]


def _axes(figure: Figure) -> Any:
    """Give the only axes; Any, because matplotlib's types know no data of lines and no size of patches."""
    return figure.axes[0]


def _texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in _axes(figure).texts]


def _boxes(figure: Figure, color: str) -> list[tuple[float, float]]:
    """Give width and height of every rectangle of a colour."""
    return [
        (patch.get_width(), patch.get_height())
        for patch in _axes(figure).patches
        if to_hex(patch.get_facecolor()).upper() == color
    ]


def _area(figure: Figure, color: str) -> float:
    """Give the area of a colour, without the small square of the key."""
    return sum(width * height for width, height in _boxes(figure, color) if (width, height) != (0.12, 0.12))


def _dots(figure: Figure) -> list[tuple[float, float]]:
    """Give the places of the dots, without the one that explains them."""
    lines = [line for line in _axes(figure).lines if line.get_marker() == "o"]
    return [(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in lines[:-1]]


def _hostile() -> RunComparison:
    names = [HOSTILE[i % len(HOSTILE)] for i in range(100)]
    tasks = {name: QUIZ | {"$c_a$t": names} for name in HOSTILE[:4]}
    return compared(tasks, by=["$c_a$t"], names=("$old$ " * 40, "中文" * 40))


def _many() -> RunComparison:
    groups = {"group": [f"group {i}" for i in range(40)] * 10}
    return compared({"quiz": right(both=250, broken=43, repaired=50, neither=57) | groups}, by=["group"])


PICTURES: dict[str, Callable[[], RunComparison]] = {
    "answers": lambda: compared({"quiz": QUIZ}),
    "tasks and slices": lambda: compared(
        {name: QUIZ | FLOOR | {"category": ["a", None] * 50} for name in ("quiz", "trivia")},
        by=["category"],
        floor=("first", "second"),
    ),
    "a score": lambda: compared({"sum": SUMMARIES}),
    "sampled answers": lambda: compared({"sum": SUMMARIES}, samples=8),
    "scores of many tasks": lambda: compared({f"summary {i}": SUMMARIES for i in range(35)}),
    "answers and scores": lambda: compared({"quiz": QUIZ, "trivia": QUIZ, "sum": SUMMARIES}),
    "one instance": lambda: compared({"quiz": right(broken=1)}),
    "nothing right": lambda: compared({"quiz": right(neither=9)}),
    "hostile names": _hostile,
    "many groups": _many,
    "many columns": lambda: compared(
        {"quiz": QUIZ | {f"column {i}": ["a"] * 100 for i in range(15)}}, by=[f"column {i}" for i in range(15)]
    ),
    "long numbers": lambda: compared({"quiz": right(both=123_456, broken=12_345, repaired=12_345)}),
}


# Figures -------------------------------------------------------------------------------------------------------------


def test_the_area_of_each_quadrant_is_its_share() -> None:
    figure = plot(compared({"quiz": right(both=50, broken=20, repaired=6, neither=24)}))
    colors = (plots._KEPT, plots._WORSE, plots._BETTER, plots._NEITHER)
    areas = [_area(figure, color) for color in colors]
    assert [area / sum(areas) for area in areas] == pytest.approx([0.5, 0.2, 0.06, 0.24])
    shown = _texts(figure)
    for told in ("50.0 % (50)", "20.0 % (20)", "6.0 % (6)", "24.0 % (24)", "old right 70.0 %", "old wrong 30.0 %"):
        assert told in shown


def test_several_tasks_of_answers_are_one_square() -> None:
    figure = plot(compared({"quiz": right(both=3, broken=1), "trivia": right(both=4)}))
    assert _area(figure, plots._WORSE) / _area(figure, plots._KEPT) == pytest.approx(1 / 7)


def test_scores_have_a_bar_of_fallen_unchanged_and_risen() -> None:
    figure = plot(compared({"sum": SUMMARIES}))
    widths = [sum(width for width, _ in _boxes(figure, color)) for color in (plots._WORSE, plots._KEPT, plots._BETTER)]
    assert [width / sum(widths) for width in widths] == pytest.approx([0.6, 0.2, 0.2])
    assert "fell 3 (60.0 %) · unchanged 1 (20.0 %) · rose 1 (20.0 %)" in _texts(figure)


def test_a_change_that_had_to_be_reliable_is_called_so() -> None:
    shown = " ".join(_texts(plot(compared({"sum": SUMMARIES}, samples=8))))
    assert "fell reliably" in shown
    assert "rose reliably" in shown


def test_dots_and_whiskers_are_rates_and_intervals_and_the_worst_is_on_top() -> None:
    groups = ["a"] * 5 + ["b"] * 90 + ["c"] * 5  # broken: 60 to 69
    result = compared({"quiz": QUIZ | {"category": groups}, "trivia": right(both=1, broken=1)}, by=["category"])
    figure = plot(result)
    dots = _dots(figure)
    rows = [result.tasks[1], result.tasks[0], *result.slices["category"]]
    assert [y for _, y in dots] == sorted(y for _, y in dots)
    for (x, y), part in zip(dots, rows, strict=True):
        whiskers = [
            line
            for line in _axes(figure).lines
            if line.get_color() == plots._WORSE and len(line.get_ydata()) == 2 and line.get_ydata()[0] == y
        ]
        low, high = part.comparison.confidence_interval("negative_flip_rate", 0.95)
        (whisker,) = whiskers
        scale = [(float(end) - plots._PANEL_LEFT) for end in (*whisker.get_xdata(), x)]
        one = scale[1] / high
        assert scale == pytest.approx([one * low, one * high, one * part.comparison.negative_flip_rate])
    labels = [text for text in _texts(figure) if text in ("a", "b", "c", "quiz", "trivia")]
    assert labels == ["trivia", "quiz", "b", "a", "c"]


def test_models_side_by_side_lie_elsewhere_than_their_rates() -> None:
    outcomes = compared({"quiz": QUIZ})
    ours = outcomes.tasks[0].comparison
    worse = compared({"quiz": right(both=40, broken=30, repaired=20, neither=10)}).tasks[0].comparison
    scene = plots._scene(outcomes)._replace(models={"plain update": worse, "adapter": ours})
    figure = plots._Picture(scene).finish()
    texts = _texts(figure)
    places = [texts.index(name) for name in ("plain update", "adapter")]
    assert places == sorted(places)
    lines = [line for line in _axes(figure).lines if line.get_marker() == "o"]
    x = [float(line.get_xdata()[0]) for line in lines]
    # Accuracies 70, 60 and 80 %, then flip rates 0, 30 and 10 %: all to one scale each.
    assert (x[0] - x[1]) == pytest.approx(x[2] - x[0])
    assert (x[4] - x[3]) == pytest.approx(3 * (x[5] - x[3]))
    assert {"70.0 %", "60.0 %", "80.0 %", "0.0 %", "30.0 %", "10.0 %"} <= set(texts)


def test_the_level_reaches_whiskers_and_words() -> None:
    shown = _texts(plot(compared({"quiz": QUIZ, "trivia": QUIZ}, level=0.8)))
    assert "negative flip rate (NFR), 80 % interval" in shown


def test_the_seed_floor_lies_where_it_is_and_only_where_there_is_one() -> None:
    result = compared(dict.fromkeys(("quiz", "trivia"), QUIZ | FLOOR), floor=("first", "second"))
    figure = plot(result)
    bands = [patch for patch in _axes(figure).patches if to_hex(patch.get_facecolor()).upper() == plots._FLOOR]
    assert len(bands) == 3  # two tasks and the key
    floor, part = result.tasks[0].seed_floor, result.tasks[0]
    assert floor
    one = (_dots(figure)[0][0] - plots._PANEL_LEFT) / part.comparison.negative_flip_rate
    band: Any = bands[0]
    assert band.get_x() == pytest.approx(plots._PANEL_LEFT + one * floor.low)
    assert band.get_width() == pytest.approx(one * (floor.high - floor.low))
    without = plot(compared({"quiz": QUIZ, "trivia": QUIZ}))
    assert not _boxes(without, plots._FLOOR)
    assert not any("seed floor" in text for text in _texts(without))


def test_at_most_thirty_groups_are_drawn_and_the_others_are_counted() -> None:
    result = _many()
    figure = plot(result)
    assert len(_dots(figure)) == 30
    rest = result.slices["group"][30]
    assert f"… and 10 more, none above {100 * rest.comparison.negative_flip_rate:.1f} %" in _texts(figure)
    assert "… and 5 more tasks" in _texts(plot(PICTURES["scores of many tasks"]()))
    assert "… and 3 more columns" in _texts(plot(PICTURES["many columns"]()))


# Looks ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PICTURES)
def test_no_words_run_into_each_other_or_out_of_the_picture(name: str) -> None:
    figure = plot(PICTURES[name]())
    width, height = figure.get_size_inches() * figure.dpi
    assert width == 900
    boxes = [(text.get_text(), text.get_window_extent()) for text in _axes(figure).texts if text.get_text()]
    for told, box in boxes:
        assert box.x0 >= 20, told
        assert box.x1 <= width - 20, told
        assert 0 <= box.y0 < box.y1 <= height, told
    whiskers = [line for line in _axes(figure).lines if line.get_color() == plots._WORSE]
    assert all(min(line.get_xdata()) >= plots._LEFT for line in whiskers)
    assert all(max(line.get_xdata()) <= plots._PANEL_RIGHT + 1e-9 for line in whiskers)
    for (first, one), (second, other) in itertools.combinations(boxes, 2):
        apart = one.x1 <= other.x0 or other.x1 <= one.x0 or one.y1 <= other.y0 or other.y1 <= one.y0
        assert apart, f"{first!r} and {second!r} overlap"


@pytest.mark.parametrize("name", PICTURES)
def test_every_picture_can_be_written(tmp_path: Path, name: str) -> None:
    path = write_png(PICTURES[name](), tmp_path / "picture.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [file.name for file in tmp_path.iterdir()] == ["picture.png"]


def test_names_are_shown_as_they_are_and_not_as_formulas() -> None:
    figure = plot(_hostile())
    assert all(not text.get_parse_math() for text in _axes(figure).texts)
    shown = _texts(figure)
    assert "$x^2$ and $\\frac{1" in shown
    assert "NFR by $c_a$t" in shown


def test_letters_that_no_font_has_are_told_apart_by_their_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "_MORE_FONTS", ())
    groups = {"category": ["中", "文", "é"] * 33 + ["中"]}
    shown = _texts(plot(compared({"quiz": QUIZ | groups}, by=["category"])))
    assert {"\\u4e2d", "\\u6587", "é"} <= set(shown)


def test_a_font_that_has_the_letters_is_used_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    # This one comes with matplotlib and has letters for formulas that DejaVu Sans lacks.
    letter = next(chr(code) for code in range(0x2100, 0xFFFF) if _only_in_stix(code))
    assert fonts.Fonts().fit(letter, "normal") == (f"\\u{ord(letter):04x}", ["DejaVu Sans"])
    monkeypatch.setattr(fonts, "_MORE_FONTS", ("No Such Font", "STIXGeneral"))
    assert fonts.Fonts().fit(f"a{letter}", "normal") == (f"a{letter}", ["DejaVu Sans", "STIXGeneral"])


def _only_in_stix(code: int) -> bool:
    from matplotlib.font_manager import findfont, get_font

    return all(
        bool(get_font(findfont(family)).get_char_index(code)) == there
        for family, there in [("STIXGeneral", True), ("DejaVu Sans", False)]
    )


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(st.text(min_size=1), min_size=1, max_size=4))
def test_no_name_whatever_breaks_or_warns(tmp_path: Path, names: Sequence[str]) -> None:
    names = [name.encode("utf-8", "replace").decode() for name in names]
    rows = QUIZ | {"category": [names[i % len(names)] for i in range(100)]}
    result = compared({names[0]: rows}, by=["category"], names=(f"{names[0]}1", f"{names[-1]}2"))
    write_png(result, tmp_path / "picture.png")


# Surroundings --------------------------------------------------------------------------------------------------------


def test_the_same_comparison_gives_the_same_bytes_whatever_the_style_of_the_user(tmp_path: Path) -> None:
    make = PICTURES["tasks and slices"]
    first = write_png(make(), tmp_path / "first.png").read_bytes()
    style: Any = {
        "text.usetex": True,
        "font.size": 30,
        "figure.facecolor": "black",
        "axes.facecolor": "black",
        "savefig.bbox": "tight",
        "savefig.transparent": True,
        "lines.linestyle": ":",
        "axes.prop_cycle": cycler(color=["k"]),
    }
    with mpl.rc_context(style):
        second = write_png(make(), tmp_path / "second.png").read_bytes()
        assert mpl.rcParams["font.size"] == 30, "the user's own style is gone"
    assert first == second
    assert b"tIME" not in first
    assert b"Creation" not in first
    assert b"Matplotlib" not in first


def test_a_failed_picture_leaves_nothing_beside_it_and_a_device_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="is no ordinary file"):
        write_png(compared({"quiz": QUIZ}), tmp_path)
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_png(compared({"quiz": QUIZ}), tmp_path / "picture.png")
    assert not list(tmp_path.iterdir())


def test_a_picture_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="missing"):
        write_png(compared({"quiz": QUIZ}), tmp_path / "missing" / "picture.png")


def test_drawing_leaves_no_figure_behind_in_pyplot() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from compared_rows import compared, right\n"
        "from muscle_hf.runs.plots import plot\n"
        "assert 'matplotlib' not in sys.modules, 'imported before it is needed'\n"
        "plot(compared({'quiz': right(both=1)}))\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run(  # noqa: S603
        [sys.executable, "-W", "error", "-c", code, str(Path(__file__).parents[1])], check=True, capture_output=True
    )


def test_without_matplotlib_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = compared({"quiz": QUIZ})
    for draw in (lambda: plot(result), lambda: write_png(result, tmp_path / "picture.png")):
        with pytest.raises(ConfigurationError, match=r'pip install "muscle_hf\[plots\]"'):
            draw()
    assert not list(tmp_path.iterdir())


def test_a_figure_can_be_saved_in_another_format(tmp_path: Path) -> None:
    figure = plot(compared({"quiz": QUIZ}))
    assert isinstance(_axes(figure).texts[0], Text)
    figure.savefig(tmp_path / "picture.svg")
    assert "v1" in (tmp_path / "picture.svg").read_text(encoding="utf-8")
