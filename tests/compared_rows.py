"""Small comparisons made from columns of right and wrong, or of scores, for the tests of gate, plots and schema."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from muscle_hf.readers.answers import Run, TaskAnswers, Text
from muscle_hf.runs.compare import RunComparison, compare_runs

Rows = Mapping[str, Sequence[Any]]


def right(*, both: int = 0, broken: int = 0, repaired: int = 0, neither: int = 0) -> dict[str, list[Any]]:
    """Give who is right, from how many instances are right before and after."""
    old = [True] * (both + broken) + [False] * (repaired + neither)
    new = [True] * both + [False] * broken + [True] * repaired + [False] * neither
    return {"old": old, "new": new}


def compared(
    tasks: Mapping[str, Rows],
    *,
    by: Sequence[str] = (),
    floor: Sequence[str] = (),
    samples: int = 0,
    names: tuple[str, str] = ("v1", "v2"),
    **options: Any,
) -> RunComparison:
    """Compare two models by what the columns of each task say.

    Args:
        tasks: Task -> columns: `old` and `new`, booleans for right answers or floats for scores; the columns of
            `floor` likewise; and columns to slice by.
        by: The columns to slice by.
        floor: Columns that are runs of one version.
        samples: How many sampled answers each score is the mean of; 0 for one answer.
        names: Names of the two models.
        options: Other options of `compare_runs`.
    """

    def answers(task: str, rows: Rows, side: str) -> TaskAnswers:
        values, count = rows[side], len(rows[side])
        common: dict[str, Any] = {
            "task": task,
            "source": f"{side}.jsonl",
            "ids": pa.array([f"{task} {i}" for i in range(count)]),
            "slices": {name: pa.array(rows[name], pa.string()) for name in by if name in rows},
            "texts": lambda places: [Text(f"question {i}", "right", f"{side} {i}") for i in places],
        }
        if all(isinstance(value, bool) for value in values):
            said = pa.array(["right" if value else f"wrong {side}" for value in values])
            return TaskAnswers(**common, answers=said, references=pa.array(["right"] * count))
        if samples:
            common["samples"] = np.full(count, samples)
        return TaskAnswers(**common, scores=np.array(values, dtype=np.float64), metric="rougeL")

    def run(side: str, name: str) -> Run:
        return Run(name, f"{side}.jsonl", {task: answers(task, rows, side) for task, rows in tasks.items()})

    floors = [run(side, side) for side in floor]
    return compare_runs(run("old", names[0]), run("new", names[1]), by=by, seed_floor=floors, **options)
