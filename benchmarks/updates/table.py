"""The table of the cells, from their files alone: means over seeds, with intervals over seeds and test questions.

Every seed answers the same questions, so that both vary and neither lies inside the other. The variance of a mean over
seeds is that over seeds, plus that over questions, minus that of single answers, which both have counted (two-way
clustering: Cameron, Gelbach and Miller 2011, Journal of Business & Economic Statistics 29); it is no smaller than
either. Degrees of freedom are those of Satterthwaite (1946), which are few where seeds say most. The relative rate is
linearised. With one seed the interval is over questions alone, and is marked so. A difference is taken question by
question and seed by seed.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import muscle_hf
from muscle_hf.flips.special import stdtrit
from muscle_hf.text import markdown_table

from .cells import Cell, flags
from .kinds import UPDATES, strategies_of

Numbers = NDArray[np.float64]
HEAD = (
    "strategy", "seeds", "accuracy, %", "NFR, %", "PFR, %", "inconsistency, %", "relative NFR",
    "relative NFR minus best reference", "accuracy minus the same", "recovery", "labels", "texts", "minutes",
)  # fmt: skip


NOTE = (
    "Means over seeds with 95 % intervals over seeds and test questions together (*: one seed, over questions alone). "
    "The best reference is that of plain update, controls and refresh with the lowest relative NFR, but none that "
    "is less accurate than the plain update beyond chance: a copy of the old model would break nothing. Recovery is "
    "(accuracy - bare base) / (plain update - bare base); labels include those of the validation; minutes are of one "
    "thread's processor time, without those of the models that a row starts from; of language models the answers to "
    "texts are asked for by the first row of a seed that needs them, and cost the others nothing. Machines that "
    "compute bfloat16 trained in it, the others in float32, all cells of a seed alike. Made with "
)
HEADING = "## The table\n"
"""What the tables stand below in a page, up to the next heading or the end."""


@dataclass(frozen=True)
class Estimate:
    """A figure over seeds and questions: the value of each seed, and by how much each answer moves it.

    Args:
        of_seeds: The figure of each seed, shape (seeds,).
        moved: Linearised contributions of each question to each seed's figure, about 0, shape (seeds, questions).
    """

    of_seeds: Numbers
    moved: Numbers

    def __sub__(self, other: "Estimate") -> "Estimate":
        """Return the difference, paired by seed and question."""
        return Estimate(self.of_seeds - other.of_seeds, self.moved - other.moved)

    @property
    def mean(self) -> float:
        """The mean over seeds."""
        return float(self.of_seeds.mean())

    @property
    def variance(self) -> tuple[float, float]:
        """The variance of the mean, and its degrees of freedom."""
        seeds, n = self.moved.shape
        questions = float((self.moved.mean(0) ** 2).sum()) / (n * (n - 1))
        if seeds == 1:
            return questions, n - 1.0
        of_seeds = float(self.of_seeds.var(ddof=1)) / seeds
        answers = float((self.moved**2).sum()) / (seeds**2 * n * (n - 1))
        variance = max(of_seeds + questions - answers, of_seeds, questions)
        terms = of_seeds**2 / (seeds - 1) + questions**2 / (n - 1)
        return variance, max(1.0, variance**2 / terms) if terms else 1.0

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the interval of the mean."""
        variance, freedom = self.variance
        half = stdtrit(freedom, 0.5 + level / 2) * math.sqrt(variance)
        return self.mean - half, self.mean + half


def estimates(old: NDArray[np.bool_], new: NDArray[np.bool_]) -> dict[str, Estimate]:
    """Return the figures of an update from right and wrong, both of shape (seeds, questions)."""
    lost, gained = (old & ~new).astype(float), (~old & new).astype(float)
    was_right, is_wrong = old.astype(float), (~new).astype(float)
    found = {"accuracy": _share(1 - is_wrong), "nfr": _share(lost), "pfr": _share(gained)}
    rate, accuracy, error = (part.mean(1, keepdims=True) for part in (lost, was_right, is_wrong))
    expected = accuracy * error
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = rate / expected
        moved = (lost - rate) / expected - relative * ((was_right - accuracy) / accuracy + (is_wrong - error) / error)
    return found | {"relative": Estimate(relative[:, 0], moved)}


def _share(values: Numbers) -> Estimate:
    means = values.mean(1, keepdims=True)
    return Estimate(means[:, 0], values - means)


def rendered(cells: Sequence[Cell]) -> str:
    """Return the tables of all updates and tasks, in Markdown."""
    if not cells:
        return "No cell is finished."
    if unknown := sorted({cell.strategy for cell in cells if cell.strategy not in strategies_of(cell.update)}):
        raise SystemExit(f"There are cells of {', '.join(unknown)}, which is no strategy any more; remove them.")
    ordered = sorted(cells, key=lambda cell: (cell.update, cell.task))
    groups = itertools.groupby(ordered, key=lambda cell: (cell.update, cell.task))
    makers = {
        f"torch {cell.versions['torch']}, transformers {cell.versions['transformers']}: {cell.machine}"
        for cell in cells
    }
    note = f"{NOTE}{'; '.join(sorted(makers))}."
    return "\n\n".join([*(_of_task(update, task, list(group)) for (update, task), group in groups), note])


def in_page(page: str, cells: Sequence[Cell]) -> str:
    """Return a page with the tables below their heading, in the place of what stands there."""
    before, heading, rest = page.partition(HEADING)
    if not heading:
        raise SystemExit(f"The page has no line {HEADING.strip()!r} for the tables to stand below.")
    _, following, after = rest.partition("\n## ")
    return f"{before}{heading}\n{rendered(cells)}\n{following}{after}"


def _of_task(update: str, task: str, cells: Sequence[Cell]) -> str:
    known = strategies_of(update)
    rows = {
        name: {cell.seed: cell for cell in cells if cell.strategy == name}
        for name in known
        if any(cell.strategy == name for cell in cells)
    }
    for name, row in rows.items():
        _refuse_mixed(name, row, rows)
    against = {name: rows[known[name].against] for name in rows}
    found = {name: figures(row, against[name]) for name, row in rows.items() if name != known[name].against}
    references = {name: row for name, row in rows.items() if known[name].is_reference and name in found}
    old = rows.get("old", {})
    n = cells[0].n
    title = UPDATES[update].title if update in UPDATES else update
    head = f"**{title}; {task}** (n = {n:,} test questions"
    if old:
        head += f"; old model {100 * float(np.mean([cell.accuracy for cell in old.values()])):.1f} % right"
    lines = [
        _line(
            f"{known[name].title} ({name})",
            name,
            rows,
            found[name],
            _best_reference(name, rows, references, found) if known[name].against == "old" else None,
        )
        for name in rows
        if name in found
    ]
    return f"{head})\n\n{markdown_table(HEAD, lines)}"


def _refuse_mixed(name: str, row: Mapping[int, Cell], rows: Mapping[str, Mapping[int, Cell]]) -> None:
    """Refuse cells that were made otherwise than their neighbours, or from models that are not there any more."""
    one = next(iter(row.values()))
    for seed, cell in row.items():
        if not cell.was_made_with(one.settings) or cell.n != one.n:
            raise SystemExit(f"{cell.key} and {one.key} were made otherwise; remove one of them and run it again.")
        for need, answers in cell.needs.items():
            other = rows.get(need, {}).get(seed)
            if other is None or other.answers != answers:
                raise SystemExit(f"{cell.key} was made from another {need!r} than is there; run it again.")


def figures(
    row: Mapping[int, Cell], against: Mapping[int, Cell], seeds: Iterable[int] | None = None
) -> dict[str, Estimate]:
    """Return the figures of a row from its cells and those that it can lose answers of, by seed."""
    used = sorted(row if seeds is None else seeds)
    old, new = (np.stack([flags(part[seed].right, part[seed].n) for seed in used]) for part in (against, row))
    for seed, was_right, is_right in zip(used, old, new, strict=True):
        counted = muscle_hf.compare_correct(old=was_right.tolist(), new=is_right.tolist())
        if len(counted.negative_flips) != row[seed].counts["negative_flips"]:
            raise SystemExit(f"{row[seed].key} counts other flips than its answers show; run it again.")
    return estimates(old, new)


def _best_reference(
    name: str,
    rows: Mapping[str, Mapping[int, Cell]],
    references: Mapping[str, Mapping[int, Cell]],
    found: Mapping[str, Mapping[str, Estimate]],
) -> tuple[str, dict[str, Estimate], dict[str, Estimate]] | None:
    """Return the reference that loses least on the seeds that both have, and both rows' figures on these seeds.

    A reference that is less accurate than the plain update, beyond chance, is none.
    """
    best = None
    for other, row in references.items():
        seeds = rows[name].keys() & row.keys()
        if other == name or not seeds or len(seeds) < min(len(rows[name]), 2) or _is_less_accurate(other, rows):
            continue
        theirs = found[other] if seeds == row.keys() else figures(row, rows["old"], seeds)
        ours = found[name] if seeds == rows[name].keys() else figures(rows[name], rows["old"], seeds)
        if best is None or theirs["relative"].mean < best[2]["relative"].mean:
            best = other, ours, theirs
    return best


def _is_less_accurate(name: str, rows: Mapping[str, Mapping[int, Cell]]) -> bool:
    plain = rows.get("plain", {})
    if not (seeds := rows[name].keys() & plain.keys()):
        return False
    ours, theirs = (figures(row, rows["old"], seeds)["accuracy"] for row in (rows[name], plain))
    return (ours - theirs).interval()[1] < 0


def _line(
    title: str,
    name: str,
    rows: Mapping[str, Mapping[int, Cell]],
    figures: Mapping[str, Estimate],
    best: tuple[str, dict[str, Estimate], dict[str, Estimate]] | None,
) -> list[str]:
    cells = list(rows[name].values())
    minus, accuracy = "", ""
    if best is not None:
        other, ours, theirs = best
        minus = f"{shown(ours['relative'] - theirs['relative'], 1, 3)} ({other})"
        accuracy = shown(ours["accuracy"] - theirs["accuracy"], 100, 2)
    recovered = [rate for cell in cells if (rate := _recovery(cell, rows)) is not None]
    return [
        title,
        str(len(cells)),
        *(shown(figures[key], 100, 2) for key in ("accuracy", "nfr", "pfr")),
        f"{100 * float(np.mean([cell.rates['inconsistency_flip_rate'] for cell in cells])):.2f}",
        shown(figures["relative"], 1, 3),
        minus,
        accuracy,
        f"{np.mean(recovered):.3f}" if recovered else "",
        f"{cells[0].labels:,}",
        f"{cells[0].texts:,}",
        f"{float(np.mean([cell.seconds for cell in cells])) / 60:.1f}",
    ]


def _recovery(cell: Cell, rows: Mapping[str, Mapping[int, Cell]]) -> float | None:
    """Return (accuracy - bare base) / (plain update - bare base), after UpgradeBench."""
    ends = [rows.get(name, {}).get(cell.seed) for name in ("bare", "plain")]
    if ends[0] is None or ends[1] is None or ends[0].accuracy == ends[1].accuracy:
        return None
    return (cell.accuracy - ends[0].accuracy) / (ends[1].accuracy - ends[0].accuracy)


def shown(estimate: Estimate, scale: float, digits: int) -> str:
    """Give a mean with its interval, multiplied by the scale; one of one seed is marked."""
    if not np.isfinite(estimate.of_seeds).all():
        return "undefined"
    low, high = estimate.interval()
    mark = " *" if len(estimate.of_seeds) == 1 else ""
    return f"{scale * estimate.mean:.{digits}f} [{scale * low:.{digits}f}, {scale * high:.{digits}f}]{mark}"
