"""A folder of runs: whose they are, which run of each task is read, and what of it cannot be."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files import is_pointer
from ..text import listed
from .answers import Run, TaskAnswers
from .formats.format import Format
from .formats.harness import read_samples
from .formats.harness_files import SAMPLES, declared_of, lost_tasks, old_samples
from .formats.harness_sample import NoFilterError
from .formats.head import Head
from .formats.opening import without_ending
from .formats.registry import FORMATS, is_of, known, read_as
from .formats.whole_run import DATE
from .not_compared import each_task
from .selection import NO_FILTER, FilterChoice, choose_tasks, filter_of, filter_text, filtered_tasks

DETAILS = re.compile(rf"details_(?P<task>.+)_(?P<date>{DATE})\.parquet")
"""Names of lighteval's details."""

HARNESS, LIGHTEVAL = "lm-evaluation-harness", "lighteval"
NAMES = {HARNESS: SAMPLES, LIGHTEVAL: DETAILS}
"""Program -> what its files of answers are called."""
# Never answers: what the programs' own folders hold beside them.
_TABLES = (".csv", ".tsv", ".jsonl", ".json", ".parquet", ".arrow")
_RESULTS = re.compile(r"results.*\.json")


@dataclass(frozen=True)
class _Found:
    """The answers of one run to one task."""

    program: str
    task: str
    date: str
    model: str
    file: Path
    form: Format | None = None
    """None for the harness and lighteval, which have options of their own."""


def read_folder(
    folder: Path,
    *,
    tasks: str | Sequence[str],
    metric: str | None,
    chosen: FilterChoice,
    run: str | None,
    slices: Sequence[str],
    normalize: str | Sequence[str] | None = None,
    where: Mapping[str, str] | None = None,
) -> Run:
    """Read the newest run of each task below a folder, of the one program and model whose runs it holds.

    Of several models one is chosen by `where`, as in `folder@model=NAME`; its other names are for each file.
    """
    where = dict(where or {})
    model = where.pop("model", None)
    runs = _runs_in(folder, model)
    source = str(folder) if model is None else f"{folder}@model={model}"
    form = runs[0].form
    if runs[0].program != HARNESS and chosen is not None:
        holds = "details" if form is None else form.holds
        raise InputError(
            f"{folder} holds {holds} of {runs[0].program}, which have no filter {filter_text(chosen)}; leave the "
            "filter out."
        )
    if normalize and not (form and form.normalizes):
        raise InputError(
            f"{folder} is a folder of runs of {runs[0].program}, which has scored its answers itself, so "
            f"normalize={normalize!r} would choose nothing; leave it out."
        )
    newest, notes = _newest(folder, runs, run)
    choose_tasks(newest, filtered_tasks(chosen), str(folder))
    options: dict[str, Any] = {"metric": metric, "slices": slices}
    lost: dict[str, str] = {}
    if form is not None:
        loaded, not_compared = _of_form(form, newest, where, options | {"normalize": normalize})
        wanted = choose_tasks([*loaded, *not_compared], tasks, str(folder))
        loaded = {task: answers for task, answers in loaded.items() if task in wanted}
        not_compared = {task: reason for task, reason in not_compared.items() if task in wanted}
        return Run(runs[0].model or folder.resolve().name, source, loaded, notes, not_compared)
    if where:
        raise InputError(f"{folder} holds runs of {runs[0].program}, where @{next(iter(where))}= chooses nothing.")
    newest = {task: newest[task] for task in choose_tasks(newest, tasks, str(folder))}
    if runs[0].program == LIGHTEVAL:
        from .formats.lighteval import read_details

        loaded, not_compared = each_task(newest, lambda task: read_details(newest[task].file, task, **options))
    else:
        loaded, not_compared = _of_harness(folder, newest, chosen, options)
        lost = {} if tasks else lost_tasks({task: (found.date, found.file) for task, found in newest.items()})
    return Run((folder / runs[0].model).resolve().name, source, loaded, notes, {**lost, **not_compared})


def _runs_in(folder: Path, model: str | None) -> list[_Found]:
    """Find the runs of one program and one model, by its name where it is told; others beside them are refused."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() or is_pointer(file)]
    runs = [
        _Found(program, match["task"], match["date"], model_folder(folder, file, program), file)
        for file in files
        for program, pattern in NAMES.items()
        if (match := pattern.fullmatch(file.name))
    ]
    old = old_samples([file for file in files if file.suffix in (".jsonl", ".json")])
    runs += [_Found(HARNESS, task, date, model_folder(folder, file, HARNESS), file) for task, date, file in old]
    taken = {found.file for found in runs}
    runs += _of_formats([file for file in files if file not in taken and not _RESULTS.fullmatch(file.name)])
    if not runs:
        tables = [file.name for file in sorted(folder.iterdir()) if file.suffix.lower() in _TABLES]
        raise InputError(
            f"{folder} holds no samples_*.jsonl or .json of lm-evaluation-harness (run it with --log_samples) and no "
            f"run of another program that is known ({known()}); name a file"
            + (f" (there are {listed(tables)})" if tables else "")
            + ", or the folder that holds them."
        )
    programs = list(dict.fromkeys(found.program for found in runs))
    if len(programs) > 1:
        raise InputError(f"{folder} holds runs of {' and of '.join(programs)}; name one of its folders.")
    # A file that cannot be read does not say its model.
    models = sorted({found.model for found in runs if found.model})
    if model is not None and model not in models:
        raise InputError(f"{folder} has no run of the model {model!r}; it has {listed(models)}.")
    runs = [found for found in runs if model is None or found.model in ("", model)]
    if len(models) > 1 and model is None:
        raise InputError(
            f"{folder} holds the runs of {len(models)} models ({listed(models)}); name the folder of one, or "
            f"{folder}@model=NAME."
        )
    # Old versions had no folder for each model.
    names = {file.name.removesuffix(f"_{task}.jsonl") for task, _, file in old}
    if len(names) > 1:
        raise InputError(f"{folder} holds the runs of {len(names)} models ({listed(sorted(names))}); name a file.")
    return runs


def _of_formats(files: Sequence[Path]) -> Iterator[_Found]:
    for file in files:
        name = without_ending(file).name
        forms = [form for form in FORMATS if any(fnmatchcase(name, pattern) for pattern in form.files)]
        if not forms or (is_pointer(file) and len(forms) > 1):
            continue
        head = Head(file)
        for form in forms:
            if _is_run(form, head):
                about = form.about(head)
                yield _Found(form.program, about.task, about.date, about.model, file, form)


def _is_run(form: Format, head: Head) -> bool:
    return is_of(form, head) and not form.beside(head)


def _newest(folder: Path, runs: Sequence[_Found], run: str | None) -> tuple[dict[str, _Found], tuple[str, ...]]:
    """Choose a run of each task: the newest, among those whose date begins as asked; and say where there are more."""
    dates = sorted({found.date for found in runs})
    wanted = [date for date in dates if run is None or date.startswith(run)]
    if not wanted:
        raise InputError(f"{folder} has no run {run!r}; it has {listed(date or '(undated)' for date in dates)}.")
    chosen: dict[str, _Found] = {}
    older: dict[str, None] = {}
    for found in sorted(runs, key=lambda found: found.date):
        if found.date not in wanted:
            continue
        before = chosen.get(found.task, found)
        if before.date == found.date and before.file != found.file and found.form is not None:
            raise InputError(
                f"{folder} holds the task {found.task} twice, in {before.file.relative_to(folder)} and "
                f"{found.file.relative_to(folder)}, and no date says which is newer; name a file."
            )
        if before.date != found.date:
            older[found.task] = None
        chosen[found.task] = found
    return dict(sorted(chosen.items())), run_more_than_once(folder, len(older)) if run is None else ()


def _of_form(
    form: Format, newest: Mapping[str, _Found], where: Mapping[str, str], options: Mapping[str, Any]
) -> tuple[dict[str, TaskAnswers], dict[str, str]]:
    made, not_compared = each_task(newest, lambda task: read_as(form, Head(newest[task].file, where), task, **options))
    loaded: dict[str, TaskAnswers] = {}
    for _, unread in made.values():
        not_compared |= unread
    for task, answers in ((task, answers) for tasks, _ in made.values() for task, answers in tasks.items()):
        if loaded.setdefault(task, answers) is not answers:
            raise InputError(f"the task {task} is in {loaded[task].source} and in {answers.source}; name a file.")
    return loaded, not_compared


def _of_harness(
    folder: Path, newest: Mapping[str, _Found], chosen: FilterChoice, options: Mapping[str, Any]
) -> tuple[dict[str, TaskAnswers], dict[str, str]]:
    unfiltered: list[str] = []

    def load(task: str) -> TaskAnswers:
        found = newest[task]
        read = partial(
            read_samples, found.file, task, declared=declared_of(found.file.parent, task, found.date), **options
        )
        try:
            return read(filter=filter_of(chosen, task))
        except NoFilterError as error:
            # A task without filters of its own leaves nothing to choose, unless it is itself what was chosen for.
            unfiltered.append(task)
            if list(error.filters) != [NO_FILTER] or task in filtered_tasks(chosen):
                raise
            return read()

    loaded, not_compared = each_task(newest, load)
    if len(unfiltered) == len(newest):
        raise InputError(f"{folder} has no task with a filter {filter_text(chosen)}.")
    return loaded, not_compared


def run_more_than_once(source: str | Path, tasks: int) -> tuple[str, ...]:
    """Say of how many tasks only the newest run is compared."""
    were = "task was" if tasks == 1 else "tasks were"
    note = f"{source}: {tasks} {were} run more than once; the newest run of each is compared (see --run)"
    return (note,) if tasks else ()


def model_folder(folder: Path, file: Path, program: str) -> str:
    """Tell the folder of a model whose file lies there, as it is called from `folder`."""
    # lighteval has a folder for each date below the model's.
    dated = program == LIGHTEVAL and re.fullmatch(DATE, file.parent.name)
    return os.path.relpath(file.parent.parent if dated else file.parent, folder)
