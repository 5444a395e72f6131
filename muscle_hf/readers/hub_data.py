"""A data set of the Hub: a table, or the files of a run of lm-evaluation-harness or lighteval."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..text import listed, one_line
from .answers import Run
from .files import Asked, read_rows
from .hub_runs import read_runs
from .source_names import Named


def read_data_set(
    named: Named,
    source: str,
    config: str | None,
    split: str | None,
    tasks: str | Sequence[str],
    run: str | None,
    asked: Asked,
) -> Run:
    """Read a data set of the Hub, whichever of both it is."""
    found = read_runs(
        named,
        source,
        config=config,
        tasks=tasks,
        run=run,
        reading={"metric": asked.metric, "chosen": asked.filter, "slices": asked.slices},
        table_only={
            "split": split,
            "columns": asked.columns,
            "normalize": asked.normalize,
            "references": asked.references,
        },
    )
    if found is not None:
        return found
    for option, value in {"run": run, "filter": asked.filter}.items():
        if value:
            raise InputError(
                f"{source} is a table on the Hub, so {option}={value!r} would choose nothing; leave it out."
            )
    return _read_table(named, source, config, split, asked)


def _read_table(named: Named, source: str, config: str | None, split: str | None, asked: Asked) -> Run:
    """Load a data set that is a table, and read it."""
    import datasets
    from huggingface_hub.errors import HfHubHTTPError

    from ..hub.failures import failure_reason
    from ..hub.lookup import looking_up
    from .formats.columnar import HubDataset
    from .formats.harness import is_samples
    from .formats.lighteval import is_details

    path = named.data_set
    try:
        with looking_up():
            loaded = datasets.load_dataset(path, config, split=split, revision=named.revision)
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
        program = "lighteval" if is_details(rows.names) else "lm-evaluation-harness"
        raise InputError(
            f"{source} holds a run of {program}, but not in files of the names that it gives them: download it with "
            f"`hf download {path} --repo-type dataset --local-dir DIR`, and compare the files."
        )
    # Rows without ids are those of one table, and another split is another table.
    file = repr((path, named.revision, config, split))
    made, name = read_rows(rows, task, named.rest, source, file, asked)
    run = source.removesuffix(named.rest) if name is None else name
    return replace(Run(run, source, {task: made}), revision=_commit_of(loaded))


def _commit_of(loaded: Any) -> str | None:
    """Tell the commit of a data set by where `datasets` keeps it, `…/<version>/<commit>/<file>.arrow`."""
    folders = {Path(file["filename"]).parent.name for file in loaded.cache_files}
    commits = {name for name in folders if re.fullmatch("[0-9a-f]{40}", name)}
    return commits.pop() if len(commits) == 1 else None
