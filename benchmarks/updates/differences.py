"""How rows differ from some that they are held against, question by question and seed by seed: not a choice of one.

Beside them stands what the gradients of their two goals had in common, where the row looked at them.
"""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from muscle_hf.text import markdown_table

from .cells import Cell
from .kinds import strategies_of
from .strategies import Strategy
from .table import figures, shown

Rows = Mapping[str, Mapping[int, Cell]]


def differences(cells: Sequence[Cell], others: Sequence[str]) -> str:
    """Return a table for each update and task that has one of the other rows: all rows minus each of these."""
    ordered = sorted(cells, key=lambda cell: (cell.update, cell.task))
    tables = []
    for (update, task), group in itertools.groupby(ordered, key=lambda cell: (cell.update, cell.task)):
        rows: dict[str, dict[int, Cell]] = {}
        for cell in group:
            rows.setdefault(cell.strategy, {})[cell.seed] = cell
        there = [name for name in others if name in rows]
        if there:
            tables.append(f"**{update}; {task}**\n\n{_table(strategies_of(update), rows, there)}")
    return "\n\n".join(tables) if tables else f"No cell of {', '.join(others)} is finished."


def _table(known: Mapping[str, Strategy], rows: Rows, others: Sequence[str]) -> str:
    columns = [f"{figure} minus {name}" for name in others for figure in ("relative NFR", "accuracy")]
    lines = []
    for name in known:
        is_model = name in rows and name != "old" and known[name].against == "old"
        if is_model and any(rows[name].keys() & rows[other].keys() for other in others):
            of_others = [part for other in others for part in _difference(rows, name, other)]
            lines.append([name, str(len(rows[name])), *_gradients(rows[name]), *of_others])
    return markdown_table(("strategy", "seeds", "gradient cosine", "share of conflicts", *columns), lines)


def _gradients(row: Mapping[int, Cell]) -> tuple[str, str]:
    """Give both means over seeds."""
    looked = [cell.gradients for cell in row.values() if cell.gradients]
    if not looked:
        return "", ""
    means = {name: float(np.mean([each[name] for each in looked])) for name in looked[0]}
    return f"{means['gradient_cosine']:+.3f}", f"{means['share_of_conflicts']:.3f}"


def _difference(rows: Rows, name: str, other: str) -> tuple[str, str]:
    seeds = rows[name].keys() & rows[other].keys() & rows["old"].keys()
    if name == other or not seeds:
        return "", ""
    ours, theirs = (figures(rows[row], rows["old"], seeds) for row in (name, other))
    return (
        f"{shown(ours['relative'] - theirs['relative'], 1, 3)} ({len(seeds)})",
        shown(ours["accuracy"] - theirs["accuracy"], 100, 2),
    )
