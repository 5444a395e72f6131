"""Compare the evaluations of two model versions, from files or from what `read` gave, and show the result."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from inspect import signature
from pathlib import Path
from typing import Any, TypeAlias

from ..errors import ArgumentError, InputError
from ..flips.inputs import is_number
from ..flips.paired_tests import check_test
from ..flips.planning.stopping import check_stop_at
from ..flips.yes_no.answers import Labels
from ..readers.answers import Run, TaskAnswers
from ..readers.join import Aligned, align
from ..readers.lighteval_names import alike
from ..readers.missing import check_name
from ..readers.not_compared import each_task
from ..readers.selection import both_sides, choose_tasks
from ..text import quote
from .matching import match_tasks
from .run_comparison import RunComparison
from .yes_no import take_pair

__all__ = ["RunComparison", "Source", "compare_runs"]

Source: TypeAlias = str | Path | Run


def compare_runs(
    old: Source,
    new: Source,
    *,
    by: str | Sequence[str] = (),
    tasks: str | Sequence[str] = (),
    seed_floor: Sequence[Source] = (),
    tolerance: float | None = None,
    level: float = 0.95,
    prior: tuple[float, float] = (1.0, 1.0),
    test: str = "two-sided",
    cluster: str | None = None,
    features: str | Sequence[str] = (),
    margin: float | None = None,
    stop_at: float | None = None,
    allow_missing: bool = False,
    missing: str | None = None,
    by_position: bool = False,
    allow_identical: bool = False,
    yes_no: str | tuple[Labels, Labels] | None = None,
    yes_no_scores: str | Sequence[str] | None = None,
    **reading: Any,
) -> RunComparison:
    """Compare what two model versions answered: what broke, what was repaired, where, and can it be chance?

    Args:
        old: Evaluation of the old model: anything that `read` takes, or what it gave.
        new: Evaluation of the new model, of the same instances.
        by: One or more columns to slice by, such as "category".
        tasks: The tasks to compare, by their names or patterns such as "mmlu_*"; all if none is named.
        seed_floor: Two or more evaluations of one and the same version (other seeds or samples): the flips among them
            are what no update is to blame for.
        tolerance: Changes of a score up to this size count as none. None is 0, and the reliable-change rule for shares
            of right sampled answers.
        level: Level of all intervals.
        prior: Beta prior of the coin-flip view, on the probability that a flip is negative.
        test: The paired test that every p is of: "two-sided" or "one-sided" (against "the update breaks no more than
            it repairs"), both also with "-mid-p" after it, see `Comparison.paired_test`.
        cluster: A column, as in `by`, that says which instances belong together, such as the paraphrases of one
            question: p, all intervals and the gate then take clusters as independent, and not instances. Every
            instance must have a value, the same in both; one value is one cluster, in whichever task it stands.
        features: Columns to keep of both sides for `suspect_flips`, such as "has_code_fence"; nothing is sliced by
            them.
        margin: How far accuracy, or the mean of the one task's scores, may fall, such as 0.01 for one point: the
            result then has a `verdict`, and every report shows it.
        stop_at: The Bayes factor at which an evaluation that is looked at while it grows may stop, such as 20. The
            `verdict` is then "broken" if the update breaks more than it repairs, "kept" if it repairs more, and
            otherwise "cannot tell": go on. At most 1 / `stop_at` of neutral updates is ever stopped.
        allow_missing: Compare the instances that both have, also of runs that are not whole; the notes say how many
            were left out. A gate then holds what could be compared.
        missing: What becomes of missing answers, that is instances which one side lacks, or has without an answer or a
            score: "refuse" them, "drop" them, count them as "wrong", or as "harness-error": in no rate, but a gate is
            kept only if it would be, had the new model been wrong on each that it lacks and the old one right. None
            refuses the first and counts empty answers as wrong. How many there are is said in any case.
        by_position: Join row by row, for files without ids.
        allow_identical: Accept that old and new, or two runs of the seed floor, share what two models cannot, such as
            log-likelihoods to the last digit; the notes say it then. Otherwise that is told first, and no gate passes.
        yes_no: What means yes and what means no, such as ("yes", "no") or "yes,no", each a label or a set of labels:
            then every row has `yes_no`, a `YesNoComparison` that says whether the update turned answers towards no.
        yes_no_scores: Column of tables that holds log p(no) - log p(yes) of each answer, or two: the old one's, then
            the new one's. Logged samples of lm-evaluation-harness have it by themselves.
        reading: Options of `read` for all sources that are not read yet. `run` and `filter` may be pairs: old and new.
            A seed floor takes the old one's filter.

    Returns:
        The comparison: a row for each task, all tasks pooled, and the slices; in `not_compared` the tasks that could
        not be compared, with the reasons.

    Raises:
        InputError: No task in common, or none that can be compared: no id in common, other documents or right answers,
            duplicate ids, scores that are not finite, other filters, not all that a run scored, or what `read`
            refuses. A task, a slice column or a test that there is not.

    Example:
        >>> import muscle_hf, pathlib, tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> _ = (folder / "answers.csv").write_text("id,gold,v1,v2\\n1,A,A,B\\n2,C,C,C\\n3,B,A,B\\n")
        >>> result = muscle_hf.compare_runs(
        ...     f"{folder}/answers.csv:v1", f"{folder}/answers.csv:v2", columns={"reference": "gold"}
        ... )
        >>> part = result.overall
        >>> part.comparison.negative_flip_rate, [flip.id for flip in result.flips()]
        (0.3333333333333333, ['1', '3'])
    """
    check_test(test)
    check_name(missing)
    columns = [by] if isinstance(by, str) else list(by)
    kept = [features] if isinstance(features, str) else list(features)
    read_columns = list(dict.fromkeys([*columns, *([] if cluster is None else [cluster]), *kept]))
    sources = (old, new, *seed_floor)
    labels = None if yes_no is None else take_pair(yes_no)
    of_scores = _score_columns(yes_no_scores, cluster, is_asked=labels is not None)
    useless = [name for name, value in reading.items() if value]
    if useless and all(isinstance(source, Run) for source in sources):
        raise InputError(f"everything is read already, so {', '.join(useless)} would do nothing; give them to read().")
    sides = [
        reading | {"run": run, "filter": filtered}
        for run, filtered in zip(
            both_sides("run", reading.pop("run", None)), both_sides("filter", reading.pop("filter", None)), strict=True
        )
    ]
    first, second = (
        _read(source, list(dict.fromkeys([*read_columns, *filter(None, [column])])), tasks, how)
        for source, how, column in zip((old, new), sides, of_scores, strict=True)
    )
    floors = [_read(source, (), (), sides[0] | {"run": None}) for source in seed_floor]
    first, second, *floors = alike([first, second, *floors])
    for run in (first, second):
        _check_slices(run, read_columns)
    again = [run.source for place, run in enumerate(floors) if run.source in {run.source for run in floors[:place]}]
    if again and not allow_identical:
        raise InputError(
            f"the seed floor has {again[0]} more than once; a run compared with itself shows nothing of what "
            "retraining or sampling changes. Give another run, or --allow-identical (allow_identical=True)."
        )
    matched, notes, missing_tasks, not_compared = match_tasks(first, second)

    def aligned(name: str) -> Aligned:
        before, after = matched[name]
        return align(
            replace(before, task=name), after, allow_missing=allow_missing, missing=missing, by_position=by_position
        )

    pairs, not_compared = each_task(matched, aligned, not_compared)
    alone = len(matched) == 1 and not not_compared
    seeds, floorless = _seeds({name: matched[name][0] for name in pairs}, floors, alone, allow_missing)
    notes += floorless
    names = (first.name, second.name) if first.name != second.name else (first.source, second.source)
    result = RunComparison.of_pairs(
        pairs,
        names=names,
        sources=(first.source, second.source),
        by=columns,
        seed_floor=seeds,
        by_position=by_position,
        tolerance=tolerance,
        level=level,
        prior=prior,
        test=test,
        cluster=cluster,
        notes=[*first.notes, *second.notes, *notes],
        missing_tasks=missing_tasks,
        not_compared=not_compared,
        allow_missing=allow_missing,
        allow_identical=allow_identical,
        features=kept,
        origins=[run.origin for run in (first, second, *floors)],
        yes_no=labels,
        yes_no_scores=of_scores,
    )
    return _held(result, margin, stop_at)


def _held(result: RunComparison, margin: float | None, stop_at: float | None) -> RunComparison:
    """Hold the comparison to a margin at once, so that one which cannot be is told before any report."""
    if margin is not None and (not is_number(margin) or margin < 0):
        raise InputError(f"margin is {quote(margin)}, but must be a number from 0 up, such as 0.01 for one point.")
    if stop_at is not None:
        check_stop_at(stop_at)
    held = replace(result, margin=margin, stop_at=stop_at)
    if margin is not None or stop_at is not None:
        held.gate  # noqa: B018 - raises
    return held


def _score_columns(
    columns: str | Sequence[str] | None, cluster: str | None, *, is_asked: bool
) -> tuple[str | None, str | None]:
    """Name the columns of scores of yes/no answers, on both sides; refuse what they would do nothing for."""
    if is_asked and cluster is not None:
        raise InputError(
            "--yes-no (yes_no=) takes every answer as independent of the others, and --cluster (cluster=) does not; "
            "give one of both."
        )
    if columns is None:
        return None, None
    if not is_asked:
        raise InputError("--yes-no-scores (yes_no_scores=) would do nothing without --yes-no (yes_no=).")
    named = [columns] if isinstance(columns, str) else list(columns)
    if not 1 <= len(named) <= 2:
        raise InputError(f"yes_no_scores names {len(named)} columns; give one, or one for each side: old, then new.")
    return named[0], named[-1]


def _read(source: Source, slices: Sequence[str], tasks: str | Sequence[str], options: Mapping[str, Any]) -> Run:
    if not isinstance(source, Run):
        from ..readers.sources import read

        known = signature(read).parameters
        if unknown := sorted(options.keys() - known.keys()):
            near = get_close_matches(unknown[0], [*signature(compare_runs).parameters, *known], n=1)
            meant = f"; did you mean {near[0]}?" if near else "."
            raise ArgumentError(f"compare_runs has no argument {', '.join(unknown)}{meant}")
        return read(source, slices=slices, tasks=tasks, **options)
    chosen = choose_tasks([*source.tasks, *source.not_compared], tasks, source.source)
    return replace(
        source,
        tasks={name: answers for name, answers in source.tasks.items() if name in chosen},
        not_compared={name: reason for name, reason in source.not_compared.items() if name in chosen},
    )


def _task(run: Run, like: TaskAnswers, *, alone: bool) -> TaskAnswers | None:
    if alone and len(run.tasks) == 1 and not run.not_compared:
        return next(iter(run.tasks.values()))
    return run.tasks.get(like.task)


def _seeds(
    tasks: Mapping[str, TaskAnswers], floors: Sequence[Run], alone: bool, allow_missing: bool
) -> tuple[dict[str, list[TaskAnswers]], list[str]]:
    """Give the runs of the seed floor of each task where all have it, and a note of every other task."""
    seeds: dict[str, list[TaskAnswers]] = {}
    notes, faults = [], list[str]()
    for name, like in tasks.items() if floors else ():
        runs_of_task = [task for run in floors if (task := _task(run, like, alone=alone)) is not None]
        reasons = [run.not_compared[name] for run in floors if name in run.not_compared]
        reasons += [task.not_whole for task in runs_of_task if task.not_whole and not allow_missing]
        if len(runs_of_task) == len(floors) and not reasons:
            seeds[name] = runs_of_task
            continue
        count = max(len(floors) - len(runs_of_task), len(reasons))
        told = "".join(f" ({reason})" for reason in reasons)
        notes.append(f"{name}: no seed floor, {count} of its {len(floors)} runs lack the task{told}")
        faults += reasons
    if floors and not seeds and faults:
        raise InputError(f"none of the tasks has a seed floor: {faults[0]}")
    if floors and not seeds:
        raise InputError(
            f"the seed floor has none of the compared tasks ({', '.join(tasks)}) in all of its runs; it has: "
            f"{', '.join(dict.fromkeys(name for run in floors for name in run.tasks))}."
        )
    return seeds, notes


def _check_slices(run: Run, columns: Sequence[str]) -> None:
    """Refuse a column that a run which was read before could have been sliced by, had it been told so."""
    for column in columns:
        known = any(column in task.columns for task in run.tasks.values())
        if known and not any(column in task.slices for task in run.tasks.values()):
            raise InputError(f"{run.source} was read without {column!r}; read it with slices=[{column!r}].")
