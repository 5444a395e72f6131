"""Tasks and instances of lighteval that its versions name differently: which of them are the same.

Up to 0.11 a task is `suite|task|few-shot examples`, in lists of tasks with a further `|0` or `|1` (may examples be
left out?); later versions leave the suite out. Some file systems cannot hold `|` or `:`, so files have other marks.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from ..errors import InputError
from ..text import quote
from .answers import Column, Run, TaskAnswers

_SUITES = "helm|bigbench|harness|leaderboard|lighteval|original|custom|community|extended|multilingual|test"
_MARK = r"(?:%7C|[|_:;,+. -]{1,2})"


class _Task(NamedTuple):
    suite: str | None
    name: str
    examples: str


def alike(runs: Sequence[Run]) -> list[Run]:
    """Give the same tasks of lighteval one name, that of the first run, and their instances the same ids.

    A task is the same where its name and its number of few-shot examples are, and its suite as well, unless one of
    both names has none. Where there is more than one way, names stay as they are. A note of the run says what was
    matched. Instances are matched by question and choices where one run has no other ids. Runs of other programs stay
    as they are.
    """
    first = runs[0]
    named = [first, *(_named_alike(run, first) for run in runs[1:])]
    # Files of one task each are about the same one, whatever they are called.
    alone = all(len(run.tasks) == 1 and not run.not_compared for run in named)
    for name in first.tasks:
        names = [next(iter(run.tasks)) if alone else name for run in named]
        sides = [run.tasks[name] for run, name in zip(named, names, strict=True) if name in run.tasks]
        by_document = [_is_by_document(answers) for answers in sides]
        if any(by_document) and not all(by_document):
            named = [_by_document(run, name) for run, name in zip(named, names, strict=True)]
    return named


def numbered(documents: Column) -> Column:
    """Make ids of the digests of documents: the second of two that are alike is told from the first."""
    encoded = documents.dictionary_encode()
    if len(encoded.dictionary) == len(documents):
        return documents
    places = encoded.indices.to_numpy()
    order = np.argsort(places, kind="stable")
    starts = np.flatnonzero(np.diff(places[order], prepend=-1))
    nth = np.empty(len(places), dtype=np.int64)
    nth[order] = np.arange(len(places)) - np.repeat(starts, np.diff(starts, append=len(places)))
    texts = zip(documents.to_pylist(), nth.tolist(), strict=True)
    return pa.array([text if number == 0 else f"{text} {number + 1}" for text, number in texts], pa.string())


def _named_alike(run: Run, like: Run) -> Run:
    mine, others = ({**side.tasks, **side.not_compared} for side in (run, like))
    if len(mine) == len(others) == 1:
        # Two files are compared whatever they are called, but not two tasks of which both are known.
        (name,), (other,) = mine, others
        if not is_same_task(name, other) and _parsed(name) and _parsed(other):
            raise InputError(
                f"{like.source} holds the task {quote(other)} and {run.source} {quote(name)}: another suite, task or "
                "number of few-shot examples is another task. Compare runs of the same one."
            )
    names = _same(mine, others)
    if not names:
        return run
    (name, other), *more = names.items()
    note = f"{run.source}: {quote(name)} is taken for {quote(other)} of {like.source}"
    if more:
        note += f", and {len(more)} more of its tasks in the same way"
    return replace(
        run,
        tasks={names.get(name, name): _renamed(answers, names.get(name, name)) for name, answers in run.tasks.items()},
        not_compared={names.get(name, name): reason for name, reason in run.not_compared.items()},
        notes=(*run.notes, note),
    )


def _renamed(answers: TaskAnswers, name: str) -> TaskAnswers:
    prefix = f"{answers.task}: "
    notes = (f"{name}: {note.removeprefix(prefix)}" if note.startswith(prefix) else note for note in answers.notes)
    return replace(answers, task=name, notes=tuple(notes))


def _same(names: Iterable[str], others: Iterable[str]) -> Mapping[str, str]:
    """Match names that another run lacks to names there, where there is one way only."""
    left, right = (
        [name for name in first if name not in second] for first, second in ((names, others), (others, names))
    )
    candidates = {name: [other for other in right if is_same_task(name, other)] for name in left}
    taken = [other for fitting in candidates.values() for other in fitting]
    return {name: fit[0] for name, fit in candidates.items() if len(fit) == 1 == taken.count(fit[0])}


def is_same_task(name: str, other: str) -> bool:
    """Tell whether two names are those of one task, in different versions of lighteval or in the name of a file."""
    first, second = _parsed(name), _parsed(other)
    if first and second:
        return first[1:] == second[1:] and (first.suite == second.suite or None in (first.suite, second.suite))
    if first:
        return _marked(first).fullmatch(other) is not None
    return name == other if second is None else _marked(second).fullmatch(name) is not None


def _parsed(name: str) -> _Task | None:
    """Read a name of lighteval; None of any other."""
    match = re.fullmatch(r"(?:([^|]*)\|)?([^|]+)\|(\d+)(?:\|[01])?", name)
    # Without a suite, `name|5|0` would be the task 5 of the suite `name`.
    if match is None or match[2].isdecimal():
        match = re.fullmatch(r"()([^|]+)\|(\d+)\|[01]", name)
    return match and _Task(match[1] or None, match[2], match[3])


def _marked(task: _Task) -> re.Pattern[str]:
    """Match the name of a task in which other marks stand for `|` and `:`."""
    suite = f"(?:{_SUITES})" if task.suite is None else re.escape(task.suite)
    name = _MARK.join(re.escape(part) for part in task.name.split(":"))
    return re.compile(f"(?:{suite}{_MARK})?{name}{_MARK}{task.examples}(?:{_MARK}[01])?")


def _is_by_document(answers: TaskAnswers) -> bool:
    """Tell whether instances have no ids but the digests of their documents."""
    first = None if answers.documents is None else answers.documents[:1]
    return first is not None and answers.ids[:1].equals(first)


def _by_document(run: Run, name: str) -> Run:
    answers = run.tasks.get(name)
    if answers is None or answers.documents is None:
        return run
    return replace(run, tasks={**run.tasks, name: replace(answers, ids=numbered(answers.documents))})
