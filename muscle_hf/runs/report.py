"""Comparisons in words and tables: the same sentences and rows for a terminal, a card, a page and a file."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ..files import replaced
from ..flips.coin import CoinFlips, GroupedCoinFlips
from ..flips.comparison import Comparison
from ..flips.paired_tests import in_words
from ..flips.rates import p_equation, p_number, strict_json
from ..flips.score_comparison import ScoreComparison
from ..readers.identical import one_run
from ..text import escape_markdown, how_many, listed, markdown_table
from .cells import Cell, Change, Estimate, HistoryShown
from .classes import HEAD, are_shown, classes_of, classes_shown
from .measure import Part
from .outcomes import Outcomes
from .yes_no_report import told_of_yes_no, yes_no_notes, yes_no_tables_of

MOST_CLASSES = 10
"""Classes of a task in a terminal and in Markdown."""
# Column title, attribute of `Comparison`, direction in which it gets better.
COLUMNS = (
    ("accuracy", "new_accuracy", "↑"),
    ("NFR", "negative_flip_rate", "↓"),
    ("PFR", "positive_flip_rate", "↑"),
    ("inconsistency", "inconsistency_flip_rate", "↓"),
)
BALANCED = "balanced_negative_flip_rate"
RELATIVE = ("relative NFR", "relative_negative_flip_rate", "↓")


class GateShown(NamedTuple):
    """What reports show of a gate; made by `Gate.shown`."""

    verdict: str
    """"kept", "broken", "cannot tell" or "refused"."""
    title: str
    """What came of it, in one or two words."""
    reason: str
    """How many bounds, or why they cannot be judged."""
    head: list[str]
    """Titles of the columns."""
    not_kept: list[list[str]]
    """One for each row and bound that is not kept, broken ones first."""
    kept: list[list[str]]
    """The others."""
    sentences: list[str]
    """One for each row and bound that is broken or cannot be told."""
    kept_sentences: list[str]
    """One for each that is kept, where there are few in all."""
    notes: list[str]
    """What has to be known about the verdicts."""
    history: HistoryShown | None = None
    """The decisions before this one."""

    @property
    def mark(self) -> str:
        """A sign for the verdict, so that nothing is told by colour alone."""
        return {"kept": "✓", "broken": "✗", "cannot tell": "?"}.get(self.verdict, "!")

    @property
    def heading(self) -> str:
        """Title and reason as one line."""
        return f"{self.mark} {self.title}: {self.reason}"

    @property
    def rows(self) -> list[list[str]]:
        """All of them, those that are not kept first."""
        return [*self.not_kept, *self.kept]


def header() -> list[str]:
    """Return the titles of the columns, with the direction in which each gets better."""
    return ["model", *(f"{title}, % {arrow}" for title, _, arrow in COLUMNS), f"{RELATIVE[0]} {RELATIVE[2]}"]


def table_rows(
    comparisons: Mapping[str, Comparison], *, level: float = 0.95, old_name: str | None = None
) -> list[list[Cell]]:
    """Return one row of cells for each comparison with the old model, as wide as [`header`].

    Rates are in percent, the relative NFR is a ratio. With `old_name` the old model, of which all comparisons have the
    same answers, gets a first row of its own.
    """
    rows: list[list[Cell]] = []
    if old_name is not None and comparisons:
        old = next(iter(comparisons.values()))
        rows.append([old_name, rate(old, "old_accuracy", level=level), *[""] * len(COLUMNS)])
    for name, compared in comparisons.items():
        rates = [rate(compared, attribute, level=level) for _, attribute, _ in COLUMNS]
        rows.append([name, *rates, rate(compared, RELATIVE[1], level=level, percent=False)])
    return rows


def rate(compared: Comparison | ScoreComparison, name: str, *, level: float = 0.95, percent: bool = True) -> Estimate:
    """Return a rate with its confidence interval: percentages with one decimal, or fractions with two."""
    return _estimate(getattr(compared, name), *compared.confidence_interval(name, level), percent=percent)


def _estimate(figure: float, low: float, high: float, *, percent: bool = True) -> Estimate:
    return Estimate(100 * figure, 100 * low, 100 * high) if percent else Estimate(figure, low, high, "z.2f")


def _points(compared: Comparison, level: float) -> Estimate:
    """Return the change of accuracy in percentage points, with its sign."""
    low, high = compared.confidence_interval("accuracy_change", level)
    return Estimate(100 * compared.accuracy_change, 100 * low, 100 * high, "+z.1f")


def _score(compared: ScoreComparison, name: str, level: float) -> Estimate:
    """Return a mean of scores; their unit is theirs, so it is digits that count, not decimals."""
    return Estimate(getattr(compared, name), *compared.confidence_interval(name, level), "z.3g")


def verdict(outcomes: Outcomes) -> list[str]:
    """Say what an update changed: one sentence, or one for each task where they cannot be counted together."""
    head = [_sentence(outcomes.overall)] if outcomes.overall else []
    # Scores cannot be pooled with right and wrong answers, so they speak for themselves.
    alone = (
        [part for part in outcomes.tasks if part.has_scores or not outcomes.pooled] if len(outcomes.tasks) > 1 else []
    )
    told = [f"{part.name}: {_sentence(part)}" for part in alone]
    if outcomes.not_compared:
        count, names = len(outcomes.not_compared), listed(outcomes.not_compared)
        told.append(f"{count} of {count + len(outcomes.tasks)} tasks not compared: {names}.")
    return head + told


def warnings_of(outcomes: Outcomes) -> list[str]:
    """Say what has to be known before anything else: why the comparison may be no evidence."""
    return [one_run(outcomes.identical, len(outcomes.tasks))] if outcomes.identical else []


def notes_of(outcomes: Outcomes) -> list[str]:
    """Say which tasks are not compared and why, and whatever else has to be known."""
    alike: dict[str, list[str]] = {}
    for name, reason in outcomes.not_compared.items():
        alike.setdefault(reason, []).append(name)
    lacking = [f"{', '.join(names)}: not compared: {reason}" for reason, names in alike.items()]
    return [*lacking, *yes_no_notes(outcomes), *outcomes.notes]


def _sentence(part: Part) -> str:
    compared = part.comparison
    negative, positive = f"{part.coin.negative:,}", f"{part.coin.positive:,}"
    shares = [f"{100 * rate:.1f} %" for rate in (compared.negative_flip_rate, compared.positive_flip_rate)]
    p_value = p_equation(part.p_value)
    # Two-sided ones are what everybody expects, and the legend says it.
    p_value += "" if part.test == "two-sided" else f" ({in_words(part.test)})"
    clusters = "" if compared.clusters is None else f" in {how_many(compared.clusters, 'cluster')} ({part.cluster})"
    if isinstance(compared, Comparison):
        change = f"{100 * compared.old_accuracy:.1f} -> {100 * compared.new_accuracy:.1f} %"
        text = (
            f"Of {how_many(part.n, 'answer')}{clusters} the update breaks {negative} that were right ({shares[0]}) "
            f"and repairs {positive} ({shares[1]}): {part.metric} {change}, {p_value}."
        )
    else:
        reliably = " reliably" if part.reliable_change else ""
        change = f"{compared.old_mean:.4g} -> {compared.new_mean:.4g}"
        text = (
            f"With the update {part.metric} falls{reliably} on {negative} of {how_many(part.n, 'instance')}{clusters} "
            f"({shares[0]}) and rises on {positive} ({shares[1]}): mean {change}, {p_value}."
        )
    if part.seed_floor:
        what = "it falls on" if part.has_scores else "there are negative flips on"
        floor = 100 * part.seed_floor.negative_flip_rate
        text += f" Between runs of one and the same version {what} {floor:.1f} %."
    return text


def update_table(
    parts: Sequence[Part], title: str, *, level: float = 0.95, of_tasks: bool = False
) -> tuple[list[str], list[list[Cell]]]:
    """Lay out rows of one kind, all of answers or all of scores: the titles, and the cells of each row.

    Rates are in percent, means and the relative NFR are not. A seed floor adds its columns where any row has one, and
    tasks with classes of very different sizes that of the rate in which each counts the same.
    """
    scores, floor = parts[0].has_scores, any(part.seed_floor for part in parts)
    balanced = of_tasks and any(are_shown(part.comparison) for part in parts)
    clustered = any(part.comparison.clusters is not None for part in parts)
    head = [
        title,
        "n in clusters" if clustered else "n",
        *(["mean", "change ↑"] if scores else ["accuracy, %", "change ↑, points"]),
        "NFR ↓, %",
    ]
    head += ["seed floor, %", "above floor, %"] if floor else []
    head += ["balanced NFR ↓, %"] if balanced else []
    head += ["PFR ↑, %", *(["gain ↑", "regression ↓"] if scores else ["relative NFR ↓"]), "p", "p, Holm"]
    return head, [_update_row(part, level, floor, balanced) for part in parts]


def _update_row(part: Part, level: float, floor: bool, balanced: bool) -> list[Cell]:
    compared = part.comparison
    before: list[Cell]
    after: list[Cell]
    if isinstance(compared, ScoreComparison):
        before = [Change(compared.old_mean, compared.new_mean, ".4g"), _score(compared, "mean_change", level)]
        after = [_score(compared, name, level) for name in ("mean_gain", "mean_regression")]
    else:
        before = [Change(100 * compared.old_accuracy, 100 * compared.new_accuracy), _points(compared, level)]
        after = [rate(compared, RELATIVE[1], level=level, percent=False)]
    floors: list[Cell] = ["", ""] if floor else []
    if seeds := part.seed_floor:
        floors = [
            _estimate(seeds.negative_flip_rate, seeds.low, seeds.high),
            _estimate(seeds.excess, seeds.excess_low, seeds.excess_high),
        ]
    if balanced:
        floors.append(rate(compared, BALANCED, level=level) if classes_of(compared) else "")
    nfr, pfr = (rate(compared, f"{sign}_flip_rate", level=level) for sign in ("negative", "positive"))
    p_values = p_number(part.p_value), p_number(part.adjusted_p_value)
    n = f"{part.n:,}" if compared.clusters is None else f"{part.n:,} in {compared.clusters:,}"
    return [part.name, n, *before, nfr, *floors, pfr, *after, *p_values]


def update_tables(outcomes: Outcomes) -> list[tuple[list[str], list[list[Cell]]]]:
    """Lay out all that was compared: the tasks with their pool, then each slice column; answers before scores."""
    pool = [outcomes.pooled] if outcomes.pooled else []
    blocks: list[tuple[str, Sequence[Part]]] = [("task", [*pool, *outcomes.tasks]), *outcomes.slices.items()]
    tables = []
    for title, parts in blocks:
        for scores in (False, True):
            chosen = [part for part in parts if part.has_scores == scores]
            if chosen:
                of_tasks = parts is blocks[0][1]
                tables.append(update_table(chosen, title, level=outcomes.level, of_tasks=of_tasks))
    return tables


def coin_lines(outcomes: Outcomes) -> list[str]:
    """Say how sure it is that flips are not fair coins, pooled and with groups that differ; the prior is stated.

    There is a line for the whole, or each task where nothing is pooled, then for tasks and slice columns as groups
    drawn from a common distribution.
    """
    level = f"{100 * outcomes.level:g} %"
    lines = []
    for part in [outcomes.overall] if outcomes.overall else outcomes.tasks:
        coin = part.coin
        lines.append(
            f"{part.name}: {coin.negative:,} of {how_many(coin.n, 'flip')} {'is' if coin.negative == 1 else 'are'} "
            f"negative; probability {coin.median:.3f} "
            f"({level}: {coin.low:.3f} to {coin.high:.3f}), Bayes factor against 1/2 {bayes_factor(coin)}, prior "
            f"{coin.prior_text}"
        )
    for name, view in outcomes.hierarchical.items():
        lines.append(
            f"by {name}, {how_many(view.groups, 'group')} that may differ: mean probability {view.median:.3f} "
            f"({level}: {view.low:.3f} to {view.high:.3f}), spread {view.spread:.3f} ({view.spread_low:.3f} to "
            f"{view.spread_high:.3f}), Bayes factor against 1/2 {bayes_factor(view)}, prior {view.prior_text}"
        )
    return lines


def bayes_factor(view: CoinFlips | GroupedCoinFlips) -> str:
    """Show a Bayes factor; beyond a million as a power of ten, since it may exceed what a float can hold."""
    power = view.log_bayes_factor / math.log(10)
    if abs(power) >= 6:
        return f"10^{power:.0f}"
    return f"{view.bayes_factor:,.0f}" if power >= 3 else f"{view.bayes_factor:.3g}"


def reliable_lines(outcomes: Outcomes) -> list[str]:
    """Say for tasks with sampled answers from which change on an instance counts."""
    return [
        f"{part.name}: {rule.old_samples:.3g} and {rule.new_samples:.3g} sampled answers an instance; a change of the "
        f"share of right ones counts beyond {rule.threshold:.3f} (reliable-change rule, standard error "
        f"{rule.standard_error:.3f}); {rule.extreme:,} instances are always right or always wrong with both"
        for part in outcomes.tasks
        if (rule := part.reliable_change)
    ]


def markdown(outcomes: Outcomes, gate: GateShown | None = None) -> str:
    """Give verdict, gate, tables, coin-flip view and notes in GitHub's Markdown, with names from files escaped."""
    title = f"### {escape_markdown(outcomes.old_name)} -> {escape_markdown(outcomes.new_name)}"
    blocks = [f"> [!WARNING]\n> {escape_markdown(line)}" for line in warnings_of(outcomes)]
    blocks.append(title)
    if gate:
        blocks.append(f"**{escape_markdown(gate.heading)}**")
        blocks += [markdown_table(gate.head, gate.rows)] if gate.rows else []
        told = [*gate.sentences, *gate.kept_sentences, *gate.notes]
        told += [f"History: {line}" for line in (gate.history.lines if gate.history else ())]
        blocks += ["\n".join(f"- {escape_markdown(line)}" for line in told)] if told else []
    grader = outcomes.grader
    audited = grader.audit if grader else []
    blocks += [escape_markdown(line) for line in [*verdict(outcomes), *audited, *told_of_yes_no(outcomes)]]
    blocks += [markdown_table(head, rows) for head, rows in yes_no_tables_of(outcomes)]
    blocks += [markdown_table(head, rows) for head, rows in update_tables(outcomes)]
    for shown in classes_shown(outcomes.compared, outcomes.level, MOST_CLASSES):
        blocks += [escape_markdown(shown.told), markdown_table(HEAD, shown.rows)]
        blocks += [escape_markdown(note) for note in shown.notes]
    if grader:
        blocks.append("\n".join(f"- Suspects: {escape_markdown(line)}" for line in grader.suspects))
        blocks += [markdown_table(head, rows) for head, rows in grader.table]
    notes = [*(f"Coin-flip view: {line}" for line in coin_lines(outcomes)), *reliable_lines(outcomes)]
    notes += notes_of(outcomes)
    blocks.append("\n".join(f"- {escape_markdown(line)}" for line in [interval_note(outcomes), *notes]))
    return "\n\n".join(blocks) + "\n"


def interval_note(outcomes: Outcomes) -> str:
    """Say what the brackets, arrows and p-values of the tables are."""
    kinds = {part.has_scores for part in outcomes.tasks}
    flipped = {False: "right answers that are wrong now", True: "scores that fell"}
    negative = " or ".join(flipped[kind] for kind in sorted(kinds))
    test = f"{'' if outcomes.test.endswith('mid-p') else 'exact '}paired test on the flips, {in_words(outcomes.test)}"
    note = (
        f"NFR, negative flip rate: {negative}; PFR, positive flip rate: the reverse. "
        f"In brackets: {100 * outcomes.level:g} % intervals. ↑ better when higher, ↓ better when lower. p: {test} "
        "(of scores Wilcoxon's signed-rank test); Holm: adjusted for the rows of the table"
    )
    if outcomes.cluster is not None:
        note += (
            f". Intervals and p take clusters of one {outcomes.cluster} as independent, not the answers in them; the "
            "coin-flip view knows no clusters and is too sure of itself"
        )
    if any(are_shown(part.comparison) for part in outcomes.tasks):
        note += ". Balanced NFR: the mean over classes of right answers of the NFR of each"
    if True in kinds:
        note += ". Of scores p goes by the ranks of changes and the interval by their mean, so they may differ"
    return note


def write_flips(outcomes: Outcomes, path: str | Path) -> Path:
    """Write every flipped instance with both answers, one JSON object a line."""
    with replaced(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for flip in outcomes.flips():
            file.write(strict_json(flip.to_dict()) + "\n")
    return Path(path)
