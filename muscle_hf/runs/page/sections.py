"""The sections of the page but for its instances."""

import math
from collections.abc import Sequence
from html import escape
from urllib.parse import urlencode

from ...flips.coin import CoinFlips, GroupedCoinFlips
from ...flips.rates import Rate, p_equation
from ...flips.score_comparison import ScoreComparison
from ...text import how_many
from ...version import __version__
from ..cells import Cell, Estimate
from ..classes import are_shown
from ..measure import Part
from ..outcomes import Outcomes
from ..report import GateShown, bayes_factor, notes_of, update_table, verdict, warnings_of
from ..yes_no_report import told_of_yes_no, yes_no_tables_of
from .classes import classes_section
from .figures import bar, counted, ends, mosaic, whisker
from .html import KINDS, bounds, cell_html, clean, name_of, number, percent, plain, round_up, typeset
from .tables import grid

_ROWS = 200  # of a table
_OPEN = 4  # tasks that are laid out one after the other; more are folded up

# Paired test -> what it asks.
_SIDES = {
    "two-sided": "two-sided: are both kinds of flips equally likely?",
    "one-sided": "one-sided: does the update break more than it repairs?",
}
_SIDES |= {f"{side}-mid-p": text.replace(":", ", mid-p:") for side, text in _SIDES.items()}

_TERMS = {"negative_flip": "negative flips: ", "positive_flip": "positive flips: "}

# Rate -> its name and what it says.
_RATES = {
    "old_accuracy": ("accuracy of the old model", "what it gets right"),
    "new_accuracy": ("accuracy of the new model", "what it gets right"),
    "accuracy_change": ("change of accuracy", "positive minus negative flip rate, in percentage points"),
    "relative_accuracy_change": ("relative change of accuracy", "the same as a share of the old model's accuracy"),
    "old_mean": ("mean score of the old model", ""),
    "new_mean": ("mean score of the new model", ""),
    "mean_change": ("mean change of the score", "new minus old"),
    "negative_flip_rate": ("negative flip rate, NFR", "right before, wrong now"),
    "balanced_negative_flip_rate": ("balanced NFR", "the same, each class of right answers counting alike"),
    "positive_flip_rate": ("positive flip rate, PFR", "wrong before, right now"),
    "flip_rate": ("flip rate", "negative and positive flips together"),
    "inconsistency_flip_rate": ("inconsistency flip rate", "wrong now, and another answer than before"),
    "relative_negative_flip_rate": ("relative NFR", "1 where errors fall as if the old model did not matter"),
    "backward_trust_compatibility": ("backward trust compatibility", "of what was right, still right"),
    "backward_error_compatibility": ("backward error compatibility", "of what was wrong, still wrong"),
    "negative_flip_impact": ("negative flip impact", "of what the new model gets wrong, newly wrong"),
    "positive_flip_impact": ("positive flip impact", "of what the new model gets right, newly right"),
    "agreement": ("agreement", "both give the same answer"),
    "error_agreement": ("error agreement", "of what both get wrong, the same wrong answer"),
    "kappa": ("Cohen's kappa", "agreement of the answers beyond chance: 0 is chance, 1 the same answers"),
    "mean_gain": ("mean gain", "mean rise where the score rose"),
    "mean_regression": ("mean regression", "mean fall where the score fell"),
}
_MEANINGS_OF_SCORES = {"negative_flip_rate": "the score fell", "positive_flip_rate": "the score rose"}


def page_fields(
    outcomes: Outcomes, models: Sequence[Sequence[Cell]] = (), gate: GateShown | None = None
) -> dict[str, str]:
    """Fill the fields of the template but `policy`, `data` and `about`."""
    overall = outcomes.overall
    # Scores cannot be pooled with right and wrong answers, so they speak for themselves beside them.
    heads = [overall, *(part for part in outcomes.tasks if outcomes.pooled and part.has_scores)] if overall else []
    heads = heads or list(outcomes.tasks)
    tables = [(f"by-{number}", f"By {name_of(column)}", column, list(parts))
              for number, (column, parts) in enumerate(outcomes.slices.items())]  # fmt: skip
    if len(outcomes.tasks) > 1:
        ordered = sorted(outcomes.tasks, key=lambda part: (-part.comparison.negative_flip_rate, part.name))
        pooled = [outcomes.pooled] if outcomes.pooled else []
        tables.insert(0, ("tasks", "Tasks", "task", [*pooled, *ordered]))
    links = [("gate", "Gate")] if gate else []
    links += [("history", "History")] if gate and gate.history else []
    links += [("yes-no", "Yes or no")] if told_of_yes_no(outcomes) else []
    links += [("grader", "The grader")] if outcomes.grader else []
    links += [("chance", "Chance"), ("rates", "Rates"), *((key, title) for key, title, *_ in tables)]
    links += [("classes", "Classes")] if any(are_shown(part.comparison) for part in outcomes.tasks) else []
    links += [("instances", "Instances"), *([("notes", "Notes")] if notes_of(outcomes) else [])]
    told = "".join(f"<p>{typeset(text)}</p>" for text in verdict(outcomes))
    notes = "".join(f'<li dir="auto">{plain(note)}</li>' for note in notes_of(outcomes))
    sections = [
        f'<section aria-labelledby="{key}"><h2 id="{key}">{title}</h2>'
        f"{_tables(parts, column, outcomes, key)}</section>"
        for key, title, column, parts in tables
    ]
    figures = "".join(_head(part, outcomes, alone=len(heads) == 1) for part in heads)
    if models:
        links.insert(0, ("models", "Models"))
        figures = f"{_models(models)}{figures}"
    if len(heads) > _OPEN:  # Then the table of the tasks comes first.
        if not overall:
            count = f"{len(heads)} tasks that cannot be counted together: what changed in each"
            told = f"<details><summary>{count}</summary>{told}</details>"
        figures = f"{sections.pop(0)}<details><summary>Figures of each</summary>{figures}</details>"
    return {
        "title": plain(f"{outcomes.old_name} → {outcomes.new_name}: what the update changed"),
        "tasks": f"{len(outcomes.tasks)} tasks" if len(outcomes.tasks) > 1 else name_of(outcomes.tasks[0].name),
        "old": name_of(outcomes.old_name),
        "new": name_of(outcomes.new_name),
        "sources": f"Old: {name_of(outcomes.sources[0])}. New: {name_of(outcomes.sources[1])}.",
        "warnings": "".join(f'<p class="alarm" role="alert">{plain(text)}</p>' for text in warnings_of(outcomes)),
        "verdict": told,
        "gate": _gate(gate) if gate else "",
        "links": "".join(f'<li><a href="#{key}">{title}</a></li>' for key, title in links),
        "heads": f"{figures}{_yes_no(outcomes)}{_grader(outcomes)}",
        "chance": _chance(heads, outcomes),
        "rates": "".join(_rates(part, outcomes.level, alone=len(heads) == 1) for part in heads),
        "tables": "".join(sections) + classes_section(outcomes),
        "notes": notes and f'<section aria-labelledby="notes"><h2 id="notes">Notes</h2><ul>{notes}</ul></section>',
        "level": f"{100 * outcomes.level:g} %",
        "version": plain(__version__),
    }


def _models(models: Sequence[Sequence[Cell]]) -> str:
    """Lay out several new models beside the old one; the page below is about one of them."""
    titles, *rows = models
    cells = [[name_of(name), *map(cell_html, values)] for name, *values in rows]
    return (
        '<section aria-labelledby="models"><h2 id="models">Models side by side</h2>'
        f"{grid('Models side by side', [*map(plain, titles)], cells)}</section>"
    )


def _gate(gate: GateShown) -> str:
    """Show what the comparison was held to, and what came of it; many bounds that are kept are folded."""
    if len(gate.kept) > _OPEN:
        tables = _bounds(gate, gate.not_kept)
        tables += (
            f"<details><summary>{len(gate.kept):,} bounds that are kept</summary>{_bounds(gate, gate.kept)}</details>"
        )
    else:
        tables = _bounds(gate, gate.rows)
    told = _list([*gate.sentences[:_ROWS], *gate.kept_sentences])
    if len(gate.sentences) > _OPEN:
        told = f"<details><summary>Each of the {len(gate.sentences):,} in a sentence</summary>{told}</details>"
    return (
        f'<section class="gate {gate.verdict.replace(" ", "-")}" aria-labelledby="gate"><h2 id="gate"><span '
        f'class="sign" aria-hidden="true">{gate.mark}</span> {plain(gate.title)}</h2><p>{typeset(gate.reason)}</p>'
        f"{tables}{told}{_list(gate.notes)}</section>"
    )


def _yes_no(outcomes: Outcomes) -> str:
    """Show what the update changed on yes/no questions; nothing where nobody said that they are such."""
    told = told_of_yes_no(outcomes)
    if not told:
        return ""
    tables = "".join(
        grid("Yes or no", [*map(plain, head)], [[name_of(first), *map(cell_html, others)] for first, *others in rows])
        for head, rows in yes_no_tables_of(outcomes)
    )
    return f'<section aria-labelledby="yes-no"><h2 id="yes-no">Yes or no</h2>{_list(told)}{tables}</section>'


def _grader(outcomes: Outcomes) -> str:
    """Show what was found of the grader's own mistakes; nothing where nobody asked."""
    if (shown := outcomes.grader) is None:
        return ""
    title = "The grader's mistakes"
    tables = "".join(
        grid(title, [*map(plain, head)], [[name_of(str(cell)) for cell in row] for row in rows])
        for head, rows in shown.table
    )
    return (
        f'<section aria-labelledby="grader"><h2 id="grader">{plain(title)}</h2>{_list(shown.audit)}'
        f"{_list(shown.suspects)}{tables}</section>"
    )


def _list(lines: Sequence[str]) -> str:
    shown = "".join(f'<li dir="auto">{typeset(line)}</li>' for line in lines)
    return f"<ul>{shown}</ul>" if shown else ""


def _bounds(gate: GateShown, rows: Sequence[Sequence[str]]) -> str:
    cells = [[name_of(first), *map(plain, others)] for first, *others in rows[:_ROWS]]
    table = grid("Bounds", [*map(plain, gate.head)], cells) if cells else ""
    if len(rows) > _ROWS:
        table += f'<p class="aside">{len(rows) - _ROWS:,} bounds more are in the comparison as JSON.</p>'
    return table


def _head(part: Part, outcomes: Outcomes, *, alone: bool) -> str:
    """Draw the figures that come first: rates with their intervals, and what happened to the answers, to scale."""
    compared, metric = part.comparison, name_of(part.metric)

    def rate(name: str) -> tuple[str, str]:
        low, high = compared.confidence_interval(name, outcomes.level)
        return number(name, getattr(compared, name)), bounds(name, low, high)

    negative, positive = rate("negative_flip_rate"), rate("positive_flip_rate")
    interval = f"{100 * outcomes.level:g} % interval"
    floor = []
    if seeds := part.seed_floor:
        floor = [
            f"<b>Seed floor {percent(seeds.negative_flip_rate)}</b>, {bounds('', seeds.low, seeds.high)}: what "
            f"{seeds.runs} runs of one and the same version break among themselves",
            f"Above the floor: {number('accuracy_change', seeds.excess)}, "
            f"{bounds('accuracy_change', seeds.excess_low, seeds.excess_high)}",
        ]
    if isinstance(compared, ScoreComparison):
        titles = ("Fell: negative flip rate ↓", "Rose: positive flip rate ↑", f"Mean {metric} ↑")
        sides, change = (compared.old_mean, compared.new_mean), rate("mean_change")
        both = " → ".join(number("old_mean", value) for value in sides)
        test = "Wilcoxon's signed-rank test,"
    else:
        titles = ("Broken: negative flip rate ↓", "Repaired: positive flip rate ↑", f"Right answers: {metric} ↑")
        sides, change = (compared.old_accuracy, compared.new_accuracy), rate("accuracy_change")
        both = f"{100 * sides[0]:.1f} → {percent(sides[1])}"
        test = "Paired test," if part.test.endswith("mid-p") else "Exact paired test,"
    tiles = (
        (titles[0], negative[0], f"{interval} {negative[1]}", *floor),
        (titles[1], positive[0], f"{interval} {positive[1]}"),
        (titles[2], both, f"Change {change[0]}, {interval} {change[1]}"),
        ("Can it be chance?", plain(p_equation(part.p_value)), f"{test} {_SIDES[part.test]}{_by(part)}"),
    )
    shown = "".join(
        f'<div><dt>{title}</dt><dd class="figure">{figure}</dd>{"".join(f"<dd>{text}</dd>" for text in texts)}</div>'
        for title, figure, *texts in tiles
    )
    rows = "".join(
        f'<tr><th scope="row"><span class="mark {kind}" aria-hidden="true">{KINDS[kind][0]}</span> '
        f'<a href="#{_link(outcomes, part, kind)}">{_TERMS.get(kind, "")}{label}</a></th>'
        f"<td>{count:,}</td><td>{percent(count / part.n)}</td></tr>"
        for kind, (label, count) in counted(compared).items()
    )
    return (
        f'<section class="head">{"" if alone else f"<h2>{name_of(part.name)}</h2>"}<dl class="tiles">{shown}</dl>'
        f'<div class="split">{bar(compared) if isinstance(compared, ScoreComparison) else mosaic(compared)}'
        f'<table class="legend"><thead><tr><th scope="col">of {part.n:,}</th><th scope="col">instances</th><th '
        f'scope="col">share</th></tr></thead><tbody>{rows}</tbody></table></div>{_rule(part)}</section>'
    )


def _by(part: Part) -> str:
    clusters = part.comparison.clusters
    return "" if clusters is None else f" By {how_many(clusters, 'cluster')} of one {name_of(str(part.cluster))}."


def _rule(part: Part) -> str:
    rule = part.reliable_change
    if rule is None:
        return ""
    return (
        '<p class="aside">Reliable-change rule: a share of right sampled answers counts as changed where it moves by '
        f"more than {rule.threshold:.3g}, which sampling alone exceeds in {100 * (1 - rule.level):.3g} % of cases "
        f"(standard error of a change {rule.standard_error:.3g}, from {rule.old_samples:.3g} sampled answers of the "
        f"old model to an instance and {rule.new_samples:.3g} of the new one). Always right or always wrong with both "
        f"models, so that they cannot show a change: {rule.extreme:,} of {part.n:,}.</p>"
    )


def _chance(heads: Sequence[Part], outcomes: Outcomes) -> str:
    """Lay out the coin-flip views: all flips alike, then with groups that differ."""
    grouped = outcomes.hierarchical
    titles = ["view", "negative of all flips", "P(a flip is negative)", ends("0", "1"), "prior", "Bayes factor"]
    titles += ["spread of groups"] if grouped else []

    def row(label: str, view: CoinFlips | GroupedCoinFlips) -> list[str]:
        spread = ""
        if isinstance(view, GroupedCoinFlips):
            spread = cell_html(Estimate(view.spread, view.spread_low, view.spread_high, ".2f"))
        estimate = cell_html(Estimate(view.median, view.low, view.high, ".3f"))
        plot = whisker(view.median, view.low, view.high, 1.0, line=0.5)
        cells = [label, f"{view.negative:,} of {view.n:,}", estimate, plot, plain(view.prior_text)]
        return [*cells, plain(bayes_factor(view)), *([spread] if grouped else [])]

    rows = [row(f"{'' if len(heads) == 1 else f'{name_of(part.name)}: '}all flips alike", part.coin) for part in heads]
    for name, view in grouped.items():
        groups = how_many(view.groups, "task" if name == "task" else "group")
        rows.append(row(f"{groups}{'' if name == 'task' else f' of {name_of(name)}'} that may differ", view))
    told = (
        "Had the update no direction, every flip would be the toss of a fair coin: negative with probability 1/2, the "
        f"dashed line. Shown is the posterior median of that probability, with a {100 * outcomes.level:g} % interval. "
        "The Bayes factor says how many times as probable the flips are if the probability may differ from 1/2 as if "
        "it is 1/2: above 1 speaks against a neutral update, below 1 for one."
    )
    told += " Where groups differ, taking all flips for alike overstates the evidence." if grouped else ""
    return f"<p>{told}</p>{grid('Coin-flip views', titles, rows, plot=3, words=4)}"


def _rates(part: Part, level: float, *, alone: bool) -> str:
    rows = []
    for name, value in part.comparison.to_dict(level)["rates"].items():
        label, meaning = _RATES.get(name, (name.replace("_", " "), ""))
        if part.has_scores:
            meaning = _MEANINGS_OF_SCORES.get(name, meaning)
        kind: Rate = getattr(type(part.comparison), name)
        if not kind.applies(part.comparison):
            continue
        interval = "" if math.isnan(value["low"]) else bounds(name, value["low"], value["high"])
        rows.append([f"{label} {kind.better}".strip(), number(name, value["estimate"]), interval, meaning])
    titles = ["rate", "estimate", f"{100 * level:g} % interval", "meaning"]
    table = grid(f"Rates of {part.name}", titles, rows, words=3)
    return table if alone else f"<details><summary>{name_of(part.name)}</summary>{table}</details>"


def _tables(parts: Sequence[Part], column: str, outcomes: Outcomes, key: str) -> str:
    """Lay out tasks or slices, those with answers before those with scores, and draw the NFR beside each."""
    tables = ""
    for scores in (False, True):
        alike = [part for part in parts if part.has_scores is scores]
        if alike:
            tables += _table(alike[:_ROWS], column, outcomes, by=key != "tasks")
        if len(alike) > _ROWS:
            tables += (
                f'<p class="aside">{len(alike) - _ROWS:,} rows with a lower negative flip rate are left out here; the '
                "comparison as JSON has all of them.</p>"
            )
    return tables


def _table(parts: Sequence[Part], column: str, outcomes: Outcomes, *, by: bool) -> str:
    head, cells = update_table(parts, column, level=outcomes.level, of_tasks=not by)
    floors = [part.seed_floor.negative_flip_rate if part.seed_floor else math.nan for part in parts]
    bounds = [part.comparison.confidence_interval("negative_flip_rate", outcomes.level) for part in parts]
    top = round_up(max(value for value in (0.0, *floors, *(high for _, high in bounds)) if not math.isnan(value)))
    overall = outcomes.overall
    line = overall.comparison.negative_flip_rate if overall and overall.has_scores is parts[0].has_scores else math.nan
    titles = [name_of(head[0]), *map(plain, head[1:])]
    place = 1 + next(index for index, title in enumerate(head) if title.startswith("NFR"))
    titles.insert(place, ends("0", f"{100 * top:g} %"))
    rows = []
    for part, row_cells, (low, high), floor in zip(parts, cells, bounds, floors, strict=True):
        link = _link(outcomes, part, column=column if by else "")
        row = [f'<a href="#{link}">{name_of(part.name)}</a>', *map(cell_html, row_cells[1:])]
        row.insert(place, whisker(part.comparison.negative_flip_rate, low, high, top, line=line, floor=floor))
        rows.append(row)
    told = "Dot and bar: the NFR with its interval"
    told += "" if all(map(math.isnan, floors)) else "; diamond: the seed floor"
    told += "" if math.isnan(line) else "; dashed line: the NFR of all"
    told += (
        ". Rows with the highest NFR come first. “p, Holm” is adjusted for the number of rows. A name leads to its "
    )
    return f'{grid(column, titles, rows, plot=place)}<p class="aside">{told}instances.</p>'


def _link(outcomes: Outcomes, part: Part, kind: str = "all", *, column: str = "") -> str:
    """Give the hash of the page that shows the instances of a row: of a task, or of a group of a column."""
    state = {"kind": kind}
    if any(task.has_scores for task in outcomes.tasks) and not part.has_scores:
        state["of"] = "answers"
    if part.task is not None:
        state["task"] = clean(part.task)
    elif not column and len(outcomes.tasks) > 1 and part in outcomes.tasks:
        state["task"] = clean(part.name)
    if column:
        state |= {"no": clean(column)} if part.group is None else {f"by.{clean(column)}": clean(part.group)}
    return escape(urlencode(state, errors="replace"))
