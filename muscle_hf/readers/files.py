"""A file of answers: told by its content whose it is, and read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import InputError
from ..text import listed, quote
from .answers import Run, TaskAnswers
from .folders import DETAILS
from .formats.chosen_rows import ChosenRows, choices_in
from .formats.columnar import Columns
from .formats.format import task_name
from .formats.harness import is_samples, read_samples
from .formats.harness_files import declared_of, task_of
from .formats.head import Head
from .formats.registry import known, read_as, recognise
from .formats.table_files import open_table
from .formats.table_layout import NoTableError
from .formats.tables import read_table
from .formats.with_references import References, WithReferences
from .selection import FilterChoice, choose_tasks, filter_of, filter_text, filtered_tasks
from .source_names import split, where


@dataclass(frozen=True)
class Asked:
    """How a file or a data set is to be read; see `read`."""

    metric: str | None = None
    filter: FilterChoice = None
    columns: Mapping[str, str] | None = None
    slices: Sequence[str] = ()
    normalize: str | Sequence[str] | None = None
    references: str | None = None
    answers_only: bool = False


def read_file(path: Path, rest: str, source: str, asked: Asked) -> Run:
    """Read a file; `rest` is what follows its name, a column of answers or the rows of one model."""
    head = Head(path, where(rest, source) if rest.startswith("@") else None)
    if is_samples(head.first or {}):
        return _one(_samples(path, rest, source, asked), path.name, source)
    if head.layout == "parquet" and not rest:
        from .formats.lighteval import is_details, read_details

        if is_details(head.columns):
            if asked.filter is not None or asked.columns:
                raise InputError(f"{source} holds details of lighteval, which have neither filters nor other columns.")
            refuse_unused(source, "lighteval", asked)
            named = DETAILS.fullmatch(path.name)
            made = read_details(path, named and named["task"], metric=asked.metric, slices=asked.slices)
            return _one(made, path.name, source)
    # Whoever names columns wants a table.
    form = None if rest.startswith(":") or asked.columns or asked.references else recognise(head)
    if form is not None:
        if asked.filter is not None:
            raise InputError(
                f"{source} holds {form.holds} of {form.program}, which has no filter {filter_text(asked.filter)}; "
                "leave the filter out."
            )
        if not form.normalizes:
            refuse_unused(source, form.program, asked)
        about = form.about(head)
        tasks, unread = read_as(
            form, head, about.task, metric=asked.metric, slices=asked.slices, normalize=asked.normalize
        )
        return Run(about.model or path.name, source, tasks, not_compared=unread)
    task = task_name(path)
    if filter_of(asked.filter, task) is not None:
        raise InputError(
            f"{source} is a table, which has no filter {filter_text(asked.filter)}; leave the filter out."
        )
    try:
        table = open_table(head, [*(asked.columns or {}).values()])
        made, name = read_rows(table, task, rest, source, str(path.resolve()), asked)
    except NoTableError as error:
        raise InputError(f"{error} Files of these programs are read as they are: {known()}.") from None
    return _one(replace(made, files=(str(path), *made.files)), name or path.name, source)


def read_rows(
    table: Columns, task: str, rest: str, source: str, file: str, asked: Asked
) -> tuple[TaskAnswers, str | None]:
    """Read a table, of which `rest` may choose a column or rows; also give the model's name, where that says it.

    Rows without ids are joined with those of the same `file` alone.
    """
    column, chosen = choices_in(rest, table.names, source)
    if chosen:
        table, file = ChosenRows(table, chosen, source), f"{file} {sorted(chosen.items())}"
    columns, files = dict(asked.columns or {}), tuple[str, ...]()
    if asked.references is not None:
        table, columns, files = _with_references(table, columns, asked.references, source)
    made = read_table(
        table,
        task,
        source,
        file=file,
        prediction=column,
        metric=asked.metric,
        columns=columns,
        slices=asked.slices,
        normalize=asked.normalize,
        answers_only=asked.answers_only,
    )
    name = " ".join(filter(None, [*chosen.values(), column]))
    return replace(made, files=files), name or None


def refuse_unused(source: str, program: str, asked: Asked) -> None:
    """Refuse what would do nothing to answers that a program has scored itself."""
    if asked.normalize:
        raise InputError(
            f"{source}: {program} has scored these answers itself, so --normalize {asked.normalize} (normalize=) "
            "would change nothing; leave it out."
        )
    if asked.references:
        raise InputError(
            f"{source}: {program} has scored these answers itself, so --references {asked.references} (references=) "
            "would change nothing; leave it out."
        )


def _samples(path: Path, rest: str, source: str, asked: Asked) -> TaskAnswers:
    if rest or asked.columns:
        raise InputError(
            f"{source} holds samples of lm-evaluation-harness, whose columns are known; leave out the column, and "
            "choose what is compared with --metric and --filter."
        )
    refuse_unused(source, "lm-evaluation-harness", asked)
    task, date = task_of(path)
    choose_tasks([task], filtered_tasks(asked.filter), source)
    return read_samples(
        path,
        task,
        metric=asked.metric,
        filter=filter_of(asked.filter, task),
        slices=asked.slices,
        declared=declared_of(path.parent, task, date),
    )


def _one(answers: TaskAnswers, name: str, source: str) -> Run:
    return Run(name, source, {answers.task: answers})


def _with_references(
    table: Columns, columns: dict[str, str], references: str, source: str
) -> tuple[Columns, dict[str, str], tuple[str, ...]]:
    """Join right answers to a table from the file that has them."""
    key, name = columns.get("id", "id"), columns.get("reference", "reference")
    if name in table.names:
        raise InputError(
            f"{source} has right answers itself, in the column {quote(name)}; leave --references (references=) out."
        )
    if key not in table.names:
        raise InputError(
            f"{source} has no column {quote(key)}, by which right answers of another file are found; it has "
            f"{listed(map(quote, table.names))}. Name it with --columns id=NAME (columns=)."
        )
    found = split(references)
    if found.path is None or not found.path.is_file():
        raise InputError(f"--references {references} (references=) is no file; FILE or FILE:COLUMN is needed.")
    right: Columns = open_table(Head(found.path))
    column, chosen = choices_in(found.rest, right.names, references)
    right = ChosenRows(right, chosen, references) if chosen else right
    answers = References(right, references, column, key if key in right.names else "id")
    return WithReferences(table, key, answers, name), columns | {"reference": name}, (str(found.path),)
