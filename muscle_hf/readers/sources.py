"""Read an evaluation, whatever wrote it: a file, a folder of runs, a column of a wide table, a data set of the Hub."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files import refuse_pointer
from ..hub.names import DATA_SET
from ..text import listed, one_line
from .answers import Run, TaskAnswers
from .folders import DETAILS, read_folder
from .formats.harness import is_array, is_samples, read_samples
from .formats.harness_files import declared_of, task_of
from .formats.head import Head
from .formats.registry import read_as, recognise
from .formats.tables import FIELDS, read_table
from .selection import FilterChoice, choose_tasks, filter_of, filter_text, filtered_tasks, split_where

_NEEDED = f"one JSON object a line with {', '.join(FIELDS[:3])}"


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
) -> Run:
    """Read the evaluation of one model version.

    Args:
        source: One of
            - samples of lm-evaluation-harness (`--log_samples`, 0.4.0 to 0.4.13): a file, or the output folder of one
              model;
            - details of lighteval (0.1 to 0.13): a Parquet file, or the folder of one model;
            - a table with `id, prediction, reference` (or `score`): JSON Lines, CSV, TSV or Parquet; optional are
              `choices`, `question` and any column to slice by. A list as prediction or score, or a column `sample`,
              holds several sampled answers to one instance;
            - a file of another program that is known (`formats.registry.FORMATS`): a log of inspect_ai, an output of
              promptfoo, `per_instance_stats.json` of HELM, a record of openai/evals and others, or a folder of these;
              `path@name=value` chooses one of several models that it holds;
            - `table.csv:column`, a wide table with a column of answers for each model;
            - the id of a data set of the Hub with such a table, `org/name`, `org/name@revision`, `org/name:column`.
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
        config: Configuration of a data set of the Hub.
        split: Split of a data set of the Hub; None takes the only one.
        normalize: What need not count when answers of a table are compared: "case", "numbers" and others, see
            `same_answer.NAMES`; "none" compares them as they are spelled.

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
    table = {"metric": metric, "columns": columns, "slices": slices, "normalize": normalize}
    path, column, where = _split(str(source))
    # What does nothing here was meant for something else.
    kind = "a file"
    unused: dict[str, Any] = {"run": run, "config": config, "split": split}
    if path is None:
        kind, unused = "a data set of the Hub", {"run": run, "filter": filter}
    elif path.is_dir():
        kind = "a folder of runs"
        unused = {"columns": columns, "config": config, "split": split}
    for option, value in unused.items():
        if value:
            raise InputError(f"{source} is {kind}, so {option}={value!r} would choose nothing; leave it out.")
    if path is None:
        evaluation = _read_hub(str(source), config, split, table)
    elif path.is_dir():
        chosen: dict[str, Any] = {"metric": metric, "slices": slices, "normalize": normalize, "where": where}
        return read_folder(path, tasks=tasks, chosen=filter, run=run, **chosen)
    else:
        head = Head(path, where)
        form = None if column or columns else recognise(head)
        if form is None:
            if where:
                raise InputError(
                    f"{source} holds a table, of which @{next(iter(where))}= chooses nothing; leave it out."
                )
            answers = _read_file(path, column, filter, table)
            answers = answers if answers.files else replace(answers, files=(str(path),))
            evaluation = Run(path.name if column is None else column, str(source), {answers.task: answers})
        else:
            about = form.about(head)
            _refuse_filter(str(source), form.holds, form.program, filter)
            if not form.normalizes:
                _refuse_normalize(str(source), form.program, table)
            read_tasks, unread = read_as(form, head, about.task, metric=metric, slices=slices, normalize=normalize)
            evaluation = Run(about.model or path.name, str(source), read_tasks, not_compared=unread)
    wanted = choose_tasks([*evaluation.tasks, *evaluation.not_compared], tasks, str(source))
    return replace(
        evaluation,
        tasks={task: answers for task, answers in evaluation.tasks.items() if task in wanted},
        not_compared={task: reason for task, reason in evaluation.not_compared.items() if task in wanted},
    )


def _split(source: str) -> tuple[Path | None, str | None, Mapping[str, str]]:
    """Tell a path from a path with a column or a choice, and all from an id of the Hub (no path)."""
    path = Path(source)
    refuse_pointer(path)
    if path.exists():
        return path, None, {}
    named, where = split_where(source)
    if where:
        return Path(named), None, where
    # A column may have colons in its name, and so may a file.
    for place in (match.start() for match in re.finditer(":", source)):
        if Path(source[:place]).is_file() and source[place + 1 :]:
            return Path(source[:place]), source[place + 1 :], {}
    name = source.partition(":")[0]
    if DATA_SET.fullmatch(name) and not _is_file_name(name) and not Path(name).parent.is_dir():
        return None, None, {}
    raise InputError(
        f"{source} cannot be read (no such file or folder); a file or folder of answers is needed, or org/name of a "
        "data set of the Hub."
    )


def _is_file_name(source: str) -> bool:
    # Ids may have dots too: org/answers-v1.5.
    return Path(source).suffix.lower() in (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".txt")


def _read_file(path: Path, column: str | None, chosen: FilterChoice, table: Mapping[str, Any]) -> TaskAnswers:
    from .formats import columnar

    source, task = str(path) if column is None else f"{path}:{column}", path.stem
    options = {**table, "file": str(path.resolve()), "prediction": column}
    kind = path.suffix.lower()
    if kind in (".csv", ".tsv"):
        answers = read_table(columnar.Csv(path), task, source, **options)
    elif kind == ".parquet":
        parquet = columnar.Parquet(path)
        from .formats.lighteval import is_details, read_details

        if is_details(parquet.names) and column is None:
            if chosen is not None or table["columns"]:
                raise InputError(f"{source} holds details of lighteval, which have neither filters nor other columns.")
            _refuse_normalize(source, "lighteval", table)
            named = DETAILS.fullmatch(path.name)
            return read_details(path, named and named["task"], metric=table["metric"], slices=table["slices"])
        answers = read_table(parquet, task, source, **options)
    else:
        lines = None if is_array(path) else columnar.JsonLines(path, _NEEDED)
        if lines is None or is_samples(lines.first):
            if column is not None or table["columns"]:
                raise InputError(
                    f"{source} holds samples of lm-evaluation-harness, whose columns are known; leave out the column, "
                    "and choose what is compared with --metric and --filter."
                )
            _refuse_normalize(source, "lm-evaluation-harness", table)
            task, date = task_of(path)
            choose_tasks([task], filtered_tasks(chosen), source)
            return read_samples(
                path,
                task,
                metric=table["metric"],
                filter=filter_of(chosen, task),
                slices=table["slices"],
                declared=declared_of(path.parent, task, date),
            )
        answers = read_table(lines, task, source, **options)
    if filter_of(chosen, task) is not None:
        raise InputError(f"{source} is a table, which has no filter {filter_text(chosen)}; leave the filter out.")
    return answers


def _refuse_filter(source: str, holds: str, program: str, chosen: FilterChoice) -> None:
    if chosen is not None:
        text = filter_text(chosen)
        raise InputError(f"{source} holds {holds} of {program}, which has no filter {text}; leave the filter out.")


def _refuse_normalize(source: str, program: str, table: Mapping[str, Any]) -> None:
    if table["normalize"]:
        raise InputError(
            f"{source}: {program} has scored these answers itself, so --normalize {table['normalize']} (normalize=) "
            "would change nothing; leave it out."
        )


def _read_hub(source: str, config: str | None, split: str | None, table: Mapping[str, Any]) -> Run:
    import datasets
    from huggingface_hub.errors import HfHubHTTPError

    from ..hub.failures import failure_reason
    from ..hub.lookup import looking_up
    from .formats.columnar import HubDataset
    from .formats.lighteval import is_details

    # Rows without ids are those of one table, and another split is another table.
    table = {**table, "file": repr((source.partition(":")[0], config, split))}
    name, _, column = source.partition(":")
    path, _, revision = name.partition("@")
    try:
        with looking_up():
            loaded = datasets.load_dataset(path, config, split=split, revision=revision or None)
    except (OSError, ValueError, datasets.exceptions.DatasetsError, HfHubHTTPError) as error:
        reason = failure_reason(error, path, "dataset")
        message = reason.rstrip(".") if reason else f"{type(error).__name__}: {one_line(error)}"
        if config is None and "Config name is missing" in message:
            message += ": choose one with --config (config=)"
        raise InputError(
            f"{source} is no file here, and the Hub's data set {path} cannot be loaded ({message})."
        ) from error
    if isinstance(loaded, datasets.DatasetDict):
        if len(loaded) > 1:
            raise InputError(f"{source} has the splits {listed(loaded)}; choose one with --split (split=).")
        loaded = next(iter(loaded.values()))
    task = path.rpartition("/")[2]
    rows = HubDataset(loaded, source)
    if is_details(rows.names) or is_samples(dict.fromkeys(rows.names)):
        raise InputError(
            f"{source} holds a run of {'lighteval' if is_details(rows.names) else 'lm-evaluation-harness'}, which is "
            f"read from its files: `hf download {path} --repo-type dataset --local-dir DIR`, then compare the folders."
        )
    answers = read_table(rows, task, source, prediction=column or None, **table)
    return Run(column or name, source, {task: answers}, revision=_commit_of(loaded))


def _commit_of(loaded: Any) -> str | None:
    """Tell the commit of a data set by where `datasets` keeps it, `…/<version>/<commit>/<file>.arrow`."""
    folders = {Path(file["filename"]).parent.name for file in loaded.cache_files}
    commits = {name for name in folders if re.fullmatch("[0-9a-f]{40}", name)}
    return commits.pop() if len(commits) == 1 else None
