"""What the pages of the metric Spaces do with two files of predictions: read, compare, lay out. Needs no gradio.

Texts and names come from files of strangers: they are escaped here, and messages name the file, not its place.
"""

import atexit
import functools
import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ParamSpec

import numpy as np

from ..errors import InputError, MuscleError
from ..flips.agreements import Agreement, agreement
from ..flips.comparison import Comparison
from ..flips.score_comparison import ScoreComparison, compare_scores
from ..flips.scorers import SCORERS
from ..flips.yes_no.words import cautions
from ..readers.answers import Positions, codes
from ..readers.join import Aligned, align
from ..runs.outcomes import Instance
from ..runs.report import verdict, warnings_of
from ..runs.run_comparison import RunComparison
from ..runs.yes_no_report import told_of_yes_no, yes_no_tables_of
from ..text import printable
from .files import File, Given, Options, answers_alone, compare_files, has_references, on_the_page, opened
from .html import Shown, problem_html, result_html, yes_no_html
from .keys import OF_AGREEMENT, OF_BIAS, OF_CONSISTENCY, OF_FLIPS, OF_SCORES, figures_of

__all__ = [
    "SCORES",
    "Given",
    "Options",
    "View",
    "consistency",
    "negative_bias",
    "negative_flips",
    "smooth_compatibility",
]

SCORES = "the column score"
"""The choice of a scorer that takes the scores of the files as they are."""

_MOST_ROWS, _MOST_LETTERS = 1_000, 300
_WHOLE = "; the report has them whole"
_KINDS = {
    "negative_flip": "right → wrong",
    "positive_flip": "wrong → right",
    "both_wrong": "wrong → wrong, otherwise",
    "both_right": "right → right, otherwise",
}

# A page copies the report that it offers at once, so that older ones may go.
_MOST_REPORTS = 20
_numbers = itertools.count()


@dataclass(frozen=True)
class View:
    """What a page shows of one comparison."""

    html: str
    """Verdict, figures, picture and the table of measures; or what is wrong with the input, in a sentence."""
    rows: dict[str, list[Any]]
    """The rows that changed, as `headers` and `data`: at most 1,000, texts cut to 300 letters; the page says so."""
    report: str | None = None
    """A file with everything, to take along; None where there is no such report."""
    figures: Mapping[str, float] | None = None
    """The metric's figures by its keys; None where nothing was compared."""


_AS_THEY_ARE = Options()
_Rest = ParamSpec("_Rest")


def _told(page: Callable[_Rest, View]) -> Callable[_Rest, View]:
    """Turn what is wrong with the input into a page that says so."""

    @functools.wraps(page)
    def shown(*arguments: _Rest.args, **options: _Rest.kwargs) -> View:
        try:
            return page(*arguments, **options)
        except MuscleError as error:
            return View(problem_html(str(error)), {"headers": ["id", "change"], "data": []})

    return shown


@_told
def negative_flips(old: Given, new: Given, options: Options = _AS_THEY_ARE) -> View:
    """Show which answers an update broke: `id, prediction, reference` in a table, or samples of lm-evaluation-harness.

    Example:
        >>> view = negative_flips(Given("id,prediction,reference\\n1,a,a\\n2,b,b"),
        ...                       Given("id,prediction,reference\\n1,a,a\\n2,c,b"))
        >>> view.figures["negative_flip_rate"], view.rows["data"]
        (0.5, [['2', 'right → wrong', 'b', 'b', 'c']])
    """
    with opened(old, new) as files:
        result = compare_files(files, options, answers=True)
        part, compared = result.tasks[0], _right_or_wrong(result)
        places = np.concatenate([compared.negative_flips, compared.positive_flips])
        rows, told = _rows(result.instances(part.name, places[:_MOST_ROWS]), len(places), _of_answers, whole=_WHOLE)
        shown = Shown(result.level, _words(result), [*map(on_the_page, result.notes), *told])
        figures = figures_of(compared, OF_FLIPS)
        return View(result_html(shown, compared, OF_FLIPS), rows, _report(result), figures)


@_told
def negative_bias(
    old: Given,
    new: Given,
    options: Options = _AS_THEY_ARE,
    *,
    positive: str | None = "yes",
    negative: str | None = "no",
) -> View:
    """Show whether an update turned yes/no answers towards one side: `id, prediction, reference` in a table.

    Args:
        old: Predictions of the old model.
        new: Those of the new model.
        options: How they are read and joined.
        positive: The label of yes, or several, with commas between them.
        negative: The label of no, or several.

    Returns:
        What the page shows; where the input cannot be compared, the reason.

    Example:
        >>> view = negative_bias(Given("id,prediction,reference\\n1,yes,yes\\n2,no,no"),
        ...                      Given("id,prediction,reference\\n1,no,yes\\n2,no,no"))
        >>> view.figures["shift"], view.rows["data"]
        (1.0, [['1', 'right → wrong', 'yes', 'yes', 'no']])
    """
    with opened(old, new) as files:
        labels = _labels("Yes is", positive), _labels("No is", negative)
        result = compare_files(files, options, answers=True, yes_no=labels)
        part, compared = result.tasks[0], _right_or_wrong(result)
        answers = part.yes_no
        assert answers is not None  # noqa: S101 - what is no yes/no question was refused
        places = np.concatenate([compared.negative_flips, compared.positive_flips])
        rows, told = _rows(result.instances(part.name, places[:_MOST_ROWS]), len(places), _of_answers, whole=_WHOLE)
        words = [*map(on_the_page, warnings_of(result)), *told_of_yes_no(result)]
        shown = Shown(result.level, words, [*cautions(answers), *map(on_the_page, result.notes), *told])
        html = yes_no_html(shown, answers, compared, yes_no_tables_of(result)[0])
        return View(html, rows, _report(result), figures_of(answers, OF_BIAS))


@_told
def consistency(old: Given, new: Given, options: Options = _AS_THEY_ARE) -> View:
    """Show how often two models give the same answer; with right answers, also where they part.

    Example:
        >>> view = consistency(Given("id,prediction\\n1,a\\n2,b"), Given("id,prediction\\n1,a\\n2,c"))
        >>> view.figures["agreement"], view.rows["data"]
        (0.5, [['2', 'b', 'c']])
    """
    with opened(old, new) as files:
        known = [has_references(file, options) for file in files]
        if known == [False, False]:
            return _plain_consistency(files, options)
        if not all(known):
            with_them, without = files if known[0] else reversed(files)
            raise InputError(
                f"{with_them.name} has right answers and {without.name} has none: give both files a column "
                "reference, or neither."
            )
        result = compare_files(files, options, answers=True)
        part = result.tasks[0]
        compared, same = part.comparison, result.tables[part.name].same_answer
        if isinstance(compared, ScoreComparison) or same is None:
            raise InputError("the files hold scores, and only answers can be the same; give a column prediction.")
        places = np.flatnonzero(~same)
        rows, told = _rows(result.instances(part.name, places[:_MOST_ROWS]), len(places), _of_answers, whole=_WHOLE)
        shown = Shown(
            result.level, [_agreement_words(compared), *_words(result)], [*map(on_the_page, result.notes), *told]
        )
        figures = figures_of(compared, OF_CONSISTENCY)
        return View(result_html(shown, compared, OF_CONSISTENCY), rows, _report(result), figures)


@_told
def smooth_compatibility(
    old: Given, new: Given, options: Options = _AS_THEY_ARE, *, scorer: str = SCORES, tolerance: float | None = 0.0
) -> View:
    """Show which texts an update made worse, by a score of each.

    Args:
        old: Predictions of the old model: `id, prediction, reference`, or `id, score`.
        new: Those of the new model.
        options: How they are read and joined.
        scorer: One of `scorers.SCORERS`, or `SCORES` for the scores of the files.
        tolerance: Changes up to this size count as none, in the unit of the scores; None is 0.

    Returns:
        What the page shows; where the input cannot be compared, the reason.

    Example:
        >>> view = smooth_compatibility(Given("id,score\\n1,0.5\\n2,0.25"), Given("id,score\\n1,0.25\\n2,0.75"))
        >>> view.figures["mean_change"], view.rows["data"][0]
        (0.125, ['1', '0.5 → 0.25'])
    """
    if scorer != SCORES and scorer not in SCORERS:
        raise InputError(f"there is no scorer {scorer!r}; choose one of {', '.join((SCORES, *SCORERS))}.")
    with opened(old, new) as files:
        chosen = None if scorer == SCORES else scorer
        result = compare_files(files, options, metric=chosen, tolerance=tolerance or None)
        part = result.tasks[0]
        table, compared = result.tables[part.name], part.comparison
        if chosen is None and table.labels is not None:
            raise InputError(
                "the files have no column score; give one, or choose what scores predictions against references."
            )
        words = _words(result)
        if isinstance(compared, Comparison):  # Scores of 0 and 1 alone are scores here all the same.
            compared = compare_scores(old=table.old, new=table.new)
            words = _words(replace(result, tasks=(replace(part, comparison=compared),)))
        places = np.concatenate([compared.negative_flips, compared.positive_flips])
        places = places[np.argsort(compared.changes[places], kind="stable")]  # the worst first
        rows, told = _rows(result.instances(part.name, places[:_MOST_ROWS]), len(places), _of_scores, whole=_WHOLE)
        shown = Shown(result.level, words, [*map(on_the_page, result.notes), *told])
        return View(result_html(shown, compared, OF_SCORES), rows, _report(result), figures_of(compared, OF_SCORES))


def _right_or_wrong(result: RunComparison) -> Comparison:
    """Give the comparison of answers, or refuse scores."""
    compared = result.tasks[0].comparison
    if isinstance(compared, ScoreComparison):
        raise InputError(
            "the files hold scores, not right and wrong answers; give a column prediction and a column reference, "
            "or compare the scores with the metric smooth_compatibility."
        )
    return compared


def _labels(title: str, labels: str | None) -> set[str]:
    """Take labels apart."""
    found = {part.strip() for part in (labels or "").split(",")} - {""}
    if not found:
        raise InputError(f'"{title}" is empty; name the label, or several with commas between them.')
    return found


def _plain_consistency(files: Sequence[File], options: Options) -> View:
    """Compare answers alone."""
    sides = [answers_alone(file, options) for file in files]
    pair = align(*sides, allow_missing=options.allow_missing, by_position=options.by_position)
    before, after = codes(pair.old.answers, pair.new.answers)
    compared = agreement(old=before, new=after)
    places = np.flatnonzero(before != after)
    rows, told = _rows(_answer_rows(pair, places[:_MOST_ROWS]), len(places), lambda _: "")
    shown = Shown(0.95, [_agreement_words(compared)], [*map(on_the_page, pair.notes), *told])
    return View(result_html(shown, compared, OF_AGREEMENT), rows, None, figures_of(compared, OF_AGREEMENT))


def _agreement_words(compared: Comparison | Agreement) -> str:
    same = round(compared.agreement * compared.n)
    return f"Both models give the same answer to {same:,} of {compared.n:,} rows ({100 * compared.agreement:.1f} %)."


def _words(result: RunComparison) -> list[str]:
    """Say why the comparison may be no evidence, then what it shows."""
    return [*map(on_the_page, warnings_of(result)), *verdict(result)]


def _answer_rows(pair: Aligned, places: Positions) -> Iterator[Instance]:
    texts = zip(pair.old.read_texts(places), pair.new.read_texts(places), strict=True)
    ids = pair.old.ids.take(places).to_pylist()
    for key, (before, after) in zip(ids, texts, strict=True):
        yield Instance("all", key, "", None, None, before.answer, after.answer, 0.0, 0.0, {})


def _rows(
    instances: Iterator[Instance], count: int, change: Callable[[Instance], str], *, whole: str = ""
) -> tuple[dict[str, list[Any]], list[str]]:
    """Lay out rows that changed, without columns that say nothing; also give what was left out."""
    head = ["id", "change", "question", "reference", "old", "new"]
    data: list[list[str | None]] = []
    for row in instances:
        answers = [row.old_answer, row.new_answer]
        if answers != [None, None]:
            answers = ["(no answer)" if answer is None else answer for answer in answers]
        data.append([str(row.id), change(row), row.question, row.reference, *answers])
    filled = [place for place, name in enumerate(head) if name == "id" or any(row[place] for row in data)]
    told = [f"the table of rows holds the first {len(data):,} of {count:,}{whole}"] if count > len(data) else []
    if any(len(cell or "") > _MOST_LETTERS for row in data for cell in row):
        told.append(f"texts are cut to {_MOST_LETTERS} letters in the table of rows{whole}")
    return {
        "headers": [head[place] for place in filled],
        "data": [[_cell(row[place] or "") for place in filled] for row in data],
    }, told


def _cell(text: str) -> str:
    # Cut first: a text may have a hundred thousand letters.
    shown = printable(text[:_MOST_LETTERS])
    return shown if len(text) <= _MOST_LETTERS else f"{shown}… ({len(text):,} letters)"


def _of_answers(row: Instance) -> str:
    return _KINDS[row.kind]


def _of_scores(row: Instance) -> str:
    return f"{row.old_score:.4g} → {row.new_score:.4g}"


def _report(result: RunComparison) -> str:
    number = next(_numbers)
    shutil.rmtree(_reports() / str(number - _MOST_REPORTS), ignore_errors=True)
    folder = _reports() / str(number)
    folder.mkdir()
    return str(result.to_html(folder / "comparison.html"))


@functools.cache
def _reports() -> Path:
    folder = tempfile.mkdtemp(prefix="comparisons-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
