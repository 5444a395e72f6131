"""Small evaluations for the tests of comparisons and reports, made in memory."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from muscle_hf.errors import InputError
from muscle_hf.readers.answers import Positions, Run, TaskAnswers, Text
from muscle_hf.runs.compare import RunComparison, compare_runs
from muscle_hf.runs.gates.gate import Bound, Judgement, judge
from muscle_hf.runs.gates.judgement import BROKEN

GROUPS = ("physics", "law", None, "history")


def answers(
    said: Sequence[object],
    gold: Sequence[object],
    *,
    task: str = "quiz",
    source: str = "v1.jsonl",
    slices: dict[str, Sequence[str | None]] | None = None,
    texts: bool = True,
) -> TaskAnswers:
    """Answers to questions q0, q1, …, right where they equal `gold`."""

    def read(positions: Positions) -> list[Text]:
        return [Text(f"Question {i}?", str(gold[i]), None if said[i] is None else str(said[i])) for i in positions]

    return TaskAnswers(
        task,
        source,
        pa.array([f"q{i}" for i in range(len(said))]),
        answers=pa.array(list(said)),
        references=pa.array(list(gold)),
        slices={name: pa.array(list(values), pa.string()) for name, values in (slices or {}).items()},
        columns=tuple(slices or ()),
        texts=read if texts else None,
    )


def scored(
    values: Sequence[float],
    *,
    task: str = "summaries",
    source: str = "v1.jsonl",
    metric: str = "rougeL",
    higher_is_better: bool = True,
    samples: Sequence[int] | None = None,
) -> TaskAnswers:
    """Scores of answers to questions q0, q1, …."""
    return TaskAnswers(
        task,
        source,
        pa.array([f"q{i}" for i in range(len(values))]),
        scores=np.array(values, dtype=np.float64),
        metric=metric,
        higher_is_better=higher_is_better,
        samples=None if samples is None else np.array(samples),
    )


def run(name: str, *tasks: TaskAnswers) -> Run:
    """One model version's evaluation."""
    return Run(name, f"{name}.jsonl", {task.task: task for task in tasks})


def sample(
    n: int = 60, *, tasks: Sequence[str] = ("quiz",), scores: bool = False, floor: bool = False, by: bool = False
) -> RunComparison:
    """A comparison of two versions with every part that is asked for, from a fixed seed."""
    random = np.random.default_rng(0)
    gold = random.integers(0, 4, n)
    slices = {"category": [GROUPS[i % len(GROUPS)] for i in range(n)]}

    def version(name: str, accuracy: float) -> Run:
        made = []
        for task in tasks:
            if scores:
                values = np.round(np.clip(random.normal(accuracy, 0.2, n), 0, 1), 3)
                made.append(scored(values.tolist(), task=task, source=f"{name}.jsonl"))
            else:
                said = np.where(random.random(n) < accuracy, gold, random.integers(0, 4, n))
                made.append(answers(said.tolist(), gold.tolist(), task=task, source=f"{name}.jsonl", slices=slices))
        return run(name, *made)

    seeds = [version(f"seed-{i}", 0.6) for i in range(3)] if floor else []
    return compare_runs(
        version("model-v1", 0.6), version("model-v2", 0.7), seed_floor=seeds, by="category" if by else ()
    )


def check(result: RunComparison, bounds: Sequence[Bound], *, gate_on: str = "estimate") -> list[Judgement]:
    """What is broken; an error where nothing can be judged."""
    gate = judge(result, bounds, gate_on=gate_on)
    if gate.refusals:
        raise InputError(" ".join(gate.refusals))
    return gate.of(BROKEN)
