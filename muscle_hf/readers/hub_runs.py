"""Runs of lm-evaluation-harness and lighteval on the Hub: their files are found, downloaded, and read as a folder.

The harness pushes samples with `hub_results_org`, lighteval with `push_to_hub`; so does the Open LLM Leaderboard.
"""

import glob
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..text import listed, one_line
from .answers import Run
from .folders import NAMES, model_folder, read_folder, run_more_than_once
from .formats.whole_run import DATE
from .selection import choose_tasks
from .source_names import Named, where

_RESULTS = re.compile(rf"results.*\.json|.*_{DATE}\.json")


@dataclass(frozen=True)
class _File:
    """A file of answers in a repository."""

    name: str
    program: str
    task: str
    date: str
    model: str


def read_runs(
    named: Named,
    source: str,
    *,
    config: str | None,
    tasks: str | Sequence[str],
    run: str | None,
    reading: Mapping[str, Any],
    table_only: Mapping[str, Any],
) -> Run | None:
    """Download the newest run of each task and read it; None where the repository holds no runs.

    Of several models one is chosen by the name of its folder, with `config` or as in `org/name@model=NAME`. What only
    a table can have, `table_only`, is refused.
    """
    if named.rest.startswith(":"):
        return None  # a column
    names = _names(named)
    found = [file for name in names for file in _file(name)]
    if not found:
        return None
    for option, value in table_only.items():
        if value:
            raise InputError(f"{source} holds runs of {found[0].program}, so {option}={value!r} would choose nothing.")
    if len({file.program for file in found}) > 1:
        raise InputError(
            f"{source} holds runs of lm-evaluation-harness and of lighteval; download one, and name its folder."
        )
    model = _model(found, config, dict(where(named.rest, source)), source)
    found = [file for file in found if file.model == model]
    dates = sorted({file.date for file in found})
    found = [file for file in found if run is None or file.date.startswith(run)]
    if not found:
        raise InputError(f"{source} has no run {run!r}; it has {listed(dates)}.")
    wanted = choose_tasks(sorted({file.task for file in found}), tasks, source)
    newest = {file.task: file for file in sorted(found, key=lambda file: file.date) if file.task in wanted}
    older = sum(any(file.date < newest[task].date for file in found if file.task == task) for task in newest)
    places = [Path(model), Path("results")]
    results = [
        name
        for name in names
        if _RESULTS.fullmatch(Path(name).name) and any(place in Path(name).parents for place in places)
    ]
    root = _downloaded(named, source, [*(file.name for file in newest.values()), *results])
    read = read_folder(root if model == "." else root / model, tasks=tasks, run=run, **reading)
    notes = run_more_than_once(source, older) if run is None else ()
    name = source if model == "." else Path(model).name
    return replace(read, name=name, source=source, notes=notes, revision=root.name)


def _names(named: Named) -> list[str]:
    """List the files of a repository; without a network those that the cache has."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    from ..hub.lookup import looking_up

    try:
        with looking_up():
            return list(HfApi().list_repo_files(named.data_set, revision=named.revision, repo_type="dataset"))
    except HfHubHTTPError:
        return []  # what is amiss is told by whoever loads it as a table
    except (OSError, ValueError):
        try:
            root = Path(
                snapshot_download(named.data_set, revision=named.revision, repo_type="dataset", local_files_only=True)
            )
        except (OSError, ValueError):
            return []
        return [file.relative_to(root).as_posix() for file in root.rglob("*") if file.is_file()]


def _file(name: str) -> list[_File]:
    path = Path(name)
    return [
        _File(name, program, match["task"], match["date"], model_folder(Path(), path, program))
        for program, pattern in NAMES.items()
        if (match := pattern.fullmatch(path.name))
    ]


def _model(found: Sequence[_File], config: str | None, chosen: dict[str, str], source: str) -> str:
    """Choose the folder of a model, by its path or its last name."""
    models = sorted({file.model for file in found})
    asked = chosen.pop("model", config)
    if chosen:
        raise InputError(f"{source} holds runs of {found[0].program}, where @{next(iter(chosen))}= chooses nothing.")
    if asked is None:
        if len(models) > 1:
            raise InputError(
                f"{source} holds the runs of {len(models)} models ({listed(models)}); choose one with --config NAME "
                f"(config=), or {source}@model=NAME."
            )
        return models[0]
    named = [model for model in models if asked in (model, Path(model).name)]
    if len(named) != 1:
        raise InputError(f"{source} has no run of the model {asked!r}; it has {listed(models)}.")
    return named[0]


def _downloaded(named: Named, source: str, names: Sequence[str]) -> Path:
    """Download some files of a repository, and nothing else."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    from ..hub.failures import failure_reason
    from ..hub.lookup import looking_up

    try:
        with looking_up():
            folder = snapshot_download(
                named.data_set,
                repo_type="dataset",
                revision=named.revision,
                allow_patterns=[glob.escape(name) for name in names],
            )
    except (OSError, ValueError, HfHubHTTPError) as error:
        reason = failure_reason(error, named.data_set, "dataset") or f"{type(error).__name__}: {one_line(error)}"
        raise InputError(f"{source}: its files cannot be downloaded ({reason.rstrip('.')}).") from error
    return Path(folder)
