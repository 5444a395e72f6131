"""The tables of real updates: what they came to, over seeds, and what they took."""

# ruff: noqa: T201 - a benchmark prints

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

OURS = "compatibility adapter"
FAIR = "fair control: texts, new model's answers"
REFRESH = "refresh: a fresh adapter, the old model's hard answers"
PLAIN = "plain update"
REFERENCES = (PLAIN, "control: same steps more", FAIR, REFRESH)


@dataclass(frozen=True)
class Row:
    """A model of an update: its figures in percent, the relative rate as it is, one for each seed."""

    title: str
    right: list[float]
    old_right: list[float]
    lost: list[float]
    limits: tuple[float, float]
    """Of the first seed's rate of lost answers, over its questions."""
    relative: list[float]
    flips: list[set[int]]
    """The questions whose right answers are lost."""
    questions: int


def rows_of_models(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Row]:
    """Return the models of an update, from what each strategy came to with each seed; each model once."""
    rows: dict[str, Row] = {}
    for strategy, seeds in results.items():
        for model in seeds[0]["against"]:
            compared = [measured["against"][model] for measured in seeds]
            rates = [each["rates"] for each in compared]
            lost = rates[0]["negative_flip_rate"]
            title = strategy if model == OURS else model
            rows.setdefault(
                title,
                Row(
                    title,
                    [100 * each["new_accuracy"]["estimate"] for each in rates],
                    [100 * each["old_accuracy"]["estimate"] for each in rates],
                    [100 * each["negative_flip_rate"]["estimate"] for each in rates],
                    (100 * lost["low"], 100 * lost["high"]),
                    [_defined(each["relative_negative_flip_rate"]["estimate"]) for each in rates],
                    [set(each["negative_flips"]) for each in compared],
                    compared[0]["n"],
                ),
            )
    return list(rows.values())


def _defined(rate: float | None) -> float:
    return math.nan if rate is None else rate


def limits_of(values: Sequence[float]) -> tuple[float, float]:
    """Return Student's interval of 95 % for a mean over seeds; of one seed it has no end."""
    if len(values) == 1:
        return -math.inf, math.inf
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    half = float(stats.t.ppf(0.975, len(values) - 1)) * error
    return float(np.mean(values)) - half, float(np.mean(values)) + half


def interval_of(values: Sequence[float], digits: int) -> str:
    """Give a mean over seeds with its interval; one seed has none."""
    mean, (low, high) = float(np.mean(values)), limits_of(values)
    return f"{mean:.{digits}f}" + (f" [{low:.{digits}f}, {high:.{digits}f}]" if len(values) > 1 else "")


def differences(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Subtract seed by seed."""
    return [a - b for a, b in zip(ours, theirs, strict=True)]


def _against_best(row: Row, rows: Sequence[Row]) -> str:
    """Give the relative rate minus that of the best reference, seed by seed.

    None is one that is less accurate than the plain update beyond chance: a copy of the old model breaks nothing.
    """
    plain = next((each for each in rows if each.title == PLAIN), row)
    references = [
        each
        for each in rows
        if each.title in REFERENCES
        and each is not row
        and not np.isnan(each.relative).any()
        and limits_of(differences(each.right, plain.right))[1] >= 0
    ]
    if not references or np.isnan(row.relative).any():
        return ""
    best = min(references, key=lambda each: float(np.mean(each.relative)))
    return f"{interval_of(differences(row.relative, best.relative), 2)} ({best.title.partition(':')[0]})"


def _show_differences(update: str, rows: Sequence[Row]) -> None:
    """Print each strategy minus each reference, and for how many questions it alone keeps or loses the answer."""
    pairs = [
        (row, other) for row in rows for other in rows if row.title not in REFERENCES and other.title in REFERENCES
    ]
    for row, other in pairs:
        kept = [len(theirs - ours) for ours, theirs in zip(row.flips, other.flips, strict=True)]
        lost = [len(ours - theirs) for ours, theirs in zip(row.flips, other.flips, strict=True)]
        exact = [stats.binomtest(a, a + b).pvalue if a + b else 1.0 for a, b in zip(kept, lost, strict=True)]
        seeds = "; ".join(f"{a} and {b}, {p:.1g}" for a, b, p in zip(kept, lost, exact, strict=True))
        mean = float(np.mean(other.relative))
        share = f"{100 * (1 - float(np.mean(row.relative)) / mean):.0f}" if mean > 0 else ""
        right, nfr = (
            interval_of(differences(ours, theirs), 1)
            for ours, theirs in ((row.right, other.right), (row.lost, other.lost))
        )
        relative = interval_of(differences(row.relative, other.relative), 2)
        reference = other.title.partition(":")[0]
        print(f"| {row.title} | {reference} | {update} | {right} | {nfr} | {relative} | {share} | {seeds} |")


def show(results: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]) -> None:
    """Print what the updates came to, by strategy and seed, and what the first seed took."""
    print("| update | model | seeds | right, % | NFR, % | relative NFR | minus the best reference's | of n |")
    print("|---|---|---|---|---|---|---|---|")
    for update, strategies in results.items():
        rows = rows_of_models(strategies)
        old = rows[0]
        print(f"| {update} | old model | {len(old.right)} | {interval_of(old.old_right, 1)} | | | | {old.questions} |")
        for row in rows:
            lost = interval_of(row.lost, 1)
            if len(row.lost) == 1:
                lost += f" [{row.limits[0]:.1f}, {row.limits[1]:.1f}]"
            print(
                f"| {update} | {row.title} | {len(row.right)} | {interval_of(row.right, 1)} | {lost} | "
                f"{interval_of(row.relative, 2)} | {_against_best(row, rows)} | {row.questions} |"
            )
    print("\n| strategy | minus | update | right | NFR | relative NFR | less, % | kept and lost alone, exact p |")
    print("|---|---|---|---|---|---|---|---|")
    for update, strategies in results.items():
        _show_differences(update, rows_of_models(strategies))
    print("\n| update | strategy | stage | steps | processor s | s a step | peak memory, GB |")
    print("|---|---|---|---|---|---|---|")
    first = [(update, strategy, seeds[0]) for update, each in results.items() for strategy, seeds in each.items()]
    for update, strategy, measured in first:
        for stage in measured["stages"]:
            steps, seconds = stage["steps"], stage["seconds"]
            each = f"{steps} | {seconds:.0f} | {seconds / steps:.2f}" if steps else f"| {seconds:.0f} | "
            print(f"| {update} | {strategy} | {stage['title']} | {each} | {stage['peak'] / 1e9:.2f} |")
    print()
    for update, _, measured in first:
        if (killed := measured.get("killed")) is not None:
            same = "all the same" if not killed["differ"] else f"these differ: {', '.join(killed['differ'])}"
            same += f" ({killed['files'] - len(killed['bytes differ'])} byte for byte)"
            print(
                f"{update}, killed twice ({', '.join(killed['said'])}): {killed['files']} files, {same}; "
                f"{killed['cost']:.0f} s of processor time more, three starts of the command among them"
            )
