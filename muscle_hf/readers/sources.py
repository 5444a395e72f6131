"""Read an evaluation, whatever wrote it: a file, a folder of runs, a column of a wide table, a data set of the Hub."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..packages import require
from .answers import Run
from .files import Asked, read_file
from .folders import read_folder
from .selection import FilterChoice, choose_tasks
from .source_names import split as split_source
from .source_names import where


def read(
    source: str | Path,
    *,
    tasks: str | Sequence[str] = (),
    metric: str | None = None,
    filter: FilterChoice = None,  # noqa: A002 - the harness's word
    run: str | None = None,
    columns: Mapping[str, str] | None = None,
    slices: Sequence[str] = (),
    config: str | None = None,
    split: str | None = None,
    normalize: str | Sequence[str] | None = None,
    references: str | None = None,
    answers_only: bool = False,
) -> Run:
    """Read the evaluation of one model version.

    Args:
        source: One of
            - samples of lm-evaluation-harness (`--log_samples`, 0.4.0 to 0.4.13): a file, or the output folder of one
              model;
            - details of lighteval (0.1 to 0.13): a Parquet file, or the folder of one model;
            - a table with `id, prediction, reference` (or `score`): JSON Lines, a JSON array, CSV, TSV, Parquet or
              Arrow, also compressed by gzip, zstd, bzip2, xz or lz4; optional are `choices`, `question` and any column
              to slice by. A list as prediction or score, or a column `sample`, holds several sampled answers to one
              instance;
            - a file of another program that is known (`formats.registry.FORMATS`): a log of inspect_ai, an output of
              promptfoo, `per_instance_stats.json` of HELM, a record of openai/evals and others, or a folder of these;
              `path@name=value` chooses one of several models that it holds;
            - `table.csv:column`, a wide table with a column of answers for each model;
            - `table.csv@model=v1`, the rows of a long table that hold a value in a column, also with a column of
              answers: `table.csv@model=v1:prediction`;
            - the id of a data set of the Hub with such a table, `org/name`, `org/name@revision`, `org/name:column`, or
              with samples or details as lm-evaluation-harness, lighteval and the Open LLM Leaderboard push them.
        tasks: The tasks to read, by their names or patterns such as "mmlu_*"; all if none is named.
        metric: The metric to compare. None takes the first of a task that gives one number an instance; of a table,
            `score` where it has one and otherwise whether prediction and reference are equal ("accuracy").
        filter: The harness's filter, or task -> filter ("*" for the other tasks); None takes the first of the file,
            and says so where there are more. Tasks of a folder that have no filters of their own are read whatever is
            chosen for all.
        run: Beginning of the date of the run to read, of a folder; None takes the newest run of each task.
        columns: What a column is ("id", "prediction", "reference", "score", "choices", "question", "sample") -> its
            name in the table, where that is another.
        slices: Columns, or fields of the harness's documents, to slice by.
        config: Configuration of a data set of the Hub, or the folder of one of several models in it.
        split: Split of a data set of the Hub; None takes the only one.
        normalize: What need not count when answers of a table are compared: "case", "numbers" and others, see
            `same_answer.NAMES`; "none" compares them as they are spelled.
        references: File with the right answers of a table that has none, joined by id: "gold.csv" with a column
            `reference`, or "gold.csv:label".
        answers_only: Read what a table has as answers, and leave its right answers and scores out; they need not be
            there. What was read can be told apart, and not compared.

    Returns:
        The answers, task by task, and in `not_compared` the tasks of a folder that cannot be read, with the reasons.
        Texts stay in the file until they are shown.

    Raises:
        InputError: There is nothing to read, more than one model, a fault in a file (with its line), or no such task,
            metric, filter, run or column.

    Example:
        >>> import muscle_hf, pathlib, tempfile
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "v1.jsonl"
        >>> _ = file.write_text('{"id": 1, "prediction": "A", "reference": "A"}')
        >>> task = muscle_hf.read(file).tasks["v1"]
        >>> task.ids.to_pylist(), task.answers.to_pylist()
        ([1], ['A'])
    """
    asked = Asked(metric, filter, columns, slices, normalize, references, answers_only)
    named = split_source(str(source))
    path = named.path
    # What does nothing here was meant for something else.
    kind = "a file"
    unused: dict[str, Any] = {"run": run, "config": config, "split": split}
    if path is None:
        unused = {}
    elif path.is_dir():
        kind = "a folder of runs"
        unused = {"columns": columns, "references": references, "config": config, "split": split}
    for option, value in unused.items():
        if value:
            raise InputError(f"{source} is {kind}, so {option}={value!r} would choose nothing; leave it out.")
    if path is None:
        from .hub_data import read_data_set

        require("hub", f"{source}, no file or folder here but the name of a data set of the Hub,", "datasets")
        evaluation = read_data_set(named, str(source), config, split, tasks, run, asked)
    elif path.is_dir():
        chosen = where(named.rest, str(source))
        how: dict[str, Any] = {"metric": metric, "slices": slices, "normalize": normalize, "where": chosen}
        return read_folder(path, tasks=tasks, chosen=filter, run=run, **how)
    else:
        evaluation = read_file(path, named.rest, str(source), asked)
    wanted = choose_tasks([*evaluation.tasks, *evaluation.not_compared], tasks, str(source))
    return replace(
        evaluation,
        tasks={task: answers for task, answers in evaluation.tasks.items() if task in wanted},
        not_compared={task: reason for task, reason in evaluation.not_compared.items() if task in wanted},
    )
