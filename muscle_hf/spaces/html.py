"""A comparison as a piece of HTML that a page takes in: verdict, tiles, quadrants, measures with intervals, notes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TypeAlias

from ..flips.agreements import Agreement
from ..flips.comparison import Comparison
from ..flips.rates import Rate, p_equation
from ..flips.score_comparison import ScoreComparison
from ..flips.yes_no.comparison import YesNoComparison
from ..flips.yes_no.words import ROWS, figure, signed
from ..runs.cells import Cell
from ..runs.page.figures import bar, counted, mosaic
from ..runs.page.html import KINDS, bounds, cell_html, number, percent, plain, typeset
from ..runs.page.tables import grid

CellTable: TypeAlias = tuple[list[str], list[list[Cell]]]
"""Titles, and the cells of each row."""

_MEANINGS = {
    "negative_flip_rate": "right before, wrong now",
    "balanced_negative_flip_rate": "the same, each class of right answers counting alike",
    "positive_flip_rate": "wrong before, right now",
    "inconsistency_flip_rate": "wrong now, and not the answer given before",
    "accuracy": "share that the new model gets right",
    "old_accuracy": "share that the old model gets right",
    "relative_negative_flip_rate": "1 where errors fall as if the old model did not matter",
    "backward_trust_compatibility": "of what was right, still right",
    "backward_error_compatibility": "of what was wrong, still wrong",
    "negative_flip_impact": "of what is wrong now, newly wrong",
    "agreement": "same answer from both",
    "kappa": "agreement beyond chance: 0 is chance, 1 the same answers",
    "correct_agreement": "of what was right, still right",
    "error_agreement": "of what both get wrong, the same wrong answer",
    "mean_gain": "mean rise where the score rose",
    "mean_regression": "mean fall where the score fell",
    "mean_score": "of the new model",
    "old_mean_score": "of the old model",
    "mean_change": "new minus old score, over all rows",
}
# Rate of both models -> title.
_OF_YES_NO = {
    "bias": "Bias, above 0 towards no",
    "sensitivity": "Ability d' ↑",
    "criterion": "Cut c, above 0 towards no",
}
_MEANINGS_OF_SCORES = {"negative_flip_rate": "the score fell", "positive_flip_rate": "the score rose"}


@dataclass(frozen=True)
class Shown:
    """The words around a comparison."""

    level: float
    """Level of the intervals."""
    verdict: Sequence[str]
    """The sentences that come first."""
    notes: Sequence[str]
    """What has to be known as well."""


def problem_html(message: str) -> str:
    """Show what is wrong with the input."""
    return _piece(f'<p class="problem" role="alert"><b>Not compared:</b> {plain(message)}</p>')


def result_html(shown: Shown, compared: Comparison | ScoreComparison | Agreement, keys: Mapping[str, str]) -> str:
    """Show a comparison."""
    picture = _same(compared) if isinstance(compared, Agreement) else _split(compared)
    tiles, measures = (part(compared, keys, shown.level) for part in (_tiles, _measures))
    return _whole(shown, tiles, picture, measures)


def yes_no_html(shown: Shown, compared: YesNoComparison, answers: Comparison, table: CellTable) -> str:
    """Show yes/no answers: both models' bias, ability and cut; `answers` has the same ones, right or wrong."""
    tiles = []
    for row in (row for row in ROWS if row.rate in _OF_YES_NO and compared.undefined is None):
        both = " -> ".join(f"{getattr(side, row.rate):{row.form}}" for side in (compared.old, compared.new))
        change = figure(compared, row.change, shown.level, row.scale, signed(row.form))
        tiles.append((_OF_YES_NO[row.rate], typeset(both), typeset(f"Change {change}")))
    chance = plain(p_equation(compared.p_value))
    tiles.append(("Can it be chance?", chance, "Exact paired test of yes to no against no to yes"))
    head, rows = table
    return _whole(shown, _dl(tiles), _split(answers), grid("Rates", head, [[*map(cell_html, row)] for row in rows]))


def _tiles(compared: Comparison | ScoreComparison | Agreement, keys: Mapping[str, str], level: float) -> str:
    """Put the figures that matter most first, each with its interval."""
    tiles = []

    def tile(title: str, name: str, shown: str = "", interval_of: str = "") -> None:
        interval = bounds(interval_of or name, *compared.confidence_interval(interval_of or name, level))
        what = "Change " + number(interval_of, getattr(compared, interval_of)) + ", " if interval_of else ""
        note = "" if interval == "undefined" else f"{what}{100 * level:g} % interval {interval}"
        tiles.append((title, shown or number(name, getattr(compared, name)), note))

    if "agreement" in keys:
        tile("Same answer", "agreement")
        tile("Cohen's kappa", "kappa")
        if isinstance(compared, Comparison):
            tile("Of what was right, still right ↑", "backward_trust_compatibility")
            tile("Of what both get wrong, same answer", "error_agreement")
    elif isinstance(compared, ScoreComparison):
        means = f"{number('old_mean', compared.old_mean)} → {number('new_mean', compared.new_mean)}"
        tile("Fell: negative flip rate ↓", "negative_flip_rate")
        tile("Rose: positive flip rate ↑", "positive_flip_rate")
        tile("Mean score ↑", "new_mean", means, "mean_change")
        tiles.append(
            ("Can it be chance?", plain(p_equation(compared.p_value)), "Wilcoxon's signed-rank test, two-sided")
        )
    elif isinstance(compared, Comparison):
        sides = f"{100 * compared.old_accuracy:.1f} → {percent(compared.new_accuracy)}"
        tile("Broken: negative flip rate ↓", "negative_flip_rate")
        tile("Repaired: positive flip rate ↑", "positive_flip_rate")
        tile("Accuracy ↑", "new_accuracy", sides, "accuracy_change")
        tiles.append(
            ("Can it be chance?", plain(p_equation(compared.p_value)), "Exact paired test on the flips, two-sided")
        )
    return _dl(tiles)


def _dl(tiles: Iterable[tuple[str, str, str]]) -> str:
    body = "".join(
        f'<div><dt>{title}</dt><dd class="figure">{value}</dd><dd>{note}</dd></div>' for title, value, note in tiles
    )
    return f'<dl class="tiles">{body}</dl>'


def _split(compared: Comparison | ScoreComparison) -> str:
    """Draw what happened to the rows to scale, and count it beside."""
    drawn = bar(compared) if isinstance(compared, ScoreComparison) else mosaic(compared)
    rows = "".join(
        f'<tr><th scope="row"><span class="mark {kind}" aria-hidden="true">{KINDS[kind][0]}</span>{label}</th>'
        f'<td class="number">{count:,}</td><td class="number">{percent(count / compared.n)}</td></tr>'
        for kind, (label, count) in counted(compared).items()
    )
    return (
        f'<div class="split">{drawn}<table><thead><tr><th scope="col">of {compared.n:,}</th><th scope="col" '
        f'class="number">rows</th><th scope="col" class="number">share</th></tr></thead><tbody>{rows}</tbody></table>'
        "</div>"
    )


def _same(compared: Agreement) -> str:
    parts = (("both", "same", compared.same), ("parted", "different", compared.different))
    told = ", ".join(f"{word} {count:,}" for _, word, count in parts)
    cells = "".join(
        f'<span class="{name}" style="flex:{count} 1 0">{word} {percent(count / compared.n)}</span>'
        for name, word, count in parts
        if count
    )
    return f'<div class="same" role="img" aria-label="Drawn to scale: {told}">{cells}</div>'


def _measures(compared: Comparison | ScoreComparison | Agreement, keys: Mapping[str, str], level: float) -> str:
    rows = ""
    for key, name in keys.items():
        rate: Rate = getattr(type(compared), name)
        if not rate.applies(compared):
            continue
        interval, better = bounds(name, *compared.confidence_interval(name, level)), rate.better.strip()
        meaning = _MEANINGS_OF_SCORES.get(key) if isinstance(compared, ScoreComparison) else None
        title = key.replace("_", "_<wbr>")  # where a narrow screen may break the line
        rows += (
            f'<tr><th scope="row">{title}\N{NO-BREAK SPACE}{better}<small>{meaning or _MEANINGS[key]}</small></th>'
            f'<td class="number">{number(name, getattr(compared, name))}</td>'
            f'<td class="number">{"" if interval == "undefined" else interval}</td></tr>'
        )
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Measures"><table><thead><tr><th scope="col">'
        'measure</th><th scope="col" class="number">value</th><th scope="col" class="number">'
        f"{100 * level:g} % interval</th></tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _whole(shown: Shown, tiles: str, picture: str, table: str) -> str:
    """Put the words around what is shown."""
    told = "".join(f"<p>{typeset(text)}</p>" for text in shown.verdict)
    listed = "".join(f'<li dir="auto">{plain(note)}</li>' for note in shown.notes)
    notes = f'<ul class="notes">{listed}</ul>' if listed else ""
    return _piece(f'<div class="verdict">{told}</div>{tiles}{picture}{table}{notes}')


def _piece(body: str) -> str:
    # Half a letter in a name or message could not be sent.
    return f'<style>{_css()}</style><div class="muscle">{body}</div>'.encode("utf-8", "replace").decode()


@cache
def _css() -> str:
    return files(__package__).joinpath("style.css").read_text(encoding="utf-8")
