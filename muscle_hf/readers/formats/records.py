"""Answers of a program that writes a record for each: a format parses its file, and this makes columns of that."""

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ...errors import InputError
from ...text import listed, quote
from ..answers import Column, Positions, TaskAnswers, Text, digest, label, with_response
from ..digests import answer_digest, digest_column, likelihoods_digest
from ..metric_names import higher_is_better, is_grade
from ..task_notes import choice_note
from .blocks import Blocks
from .harness_sample import NoMetricError


@dataclass(frozen=True, slots=True)
class Record:
    """One answer of a model, as a format found it in its file."""

    id: int | str
    """What the instance is joined by: never the place in the file, unless the program itself numbers instances so."""
    scores: Mapping[str, Any] = field(default_factory=dict)
    """Metric -> number or truth value; None where this answer has none. Others than numbers cannot be compared."""
    answer: str | int | None = None
    """The answer as it was scored, such as the letter that was extracted."""
    reference: Any = None
    """The right answer: what `answer` is compared with where there are no scores; otherwise any JSON value."""
    question: str | None = None
    """What was asked, as people are shown it."""
    document: Any = None
    """What tells that two files are about the same instance; by default the question. No model's name goes in here."""
    output: str | None = None
    """The whole text that the model gave, where that is more than `answer`."""
    likelihoods: Sequence[float] = ()
    """Log-likelihoods of what was scored, where the program writes them: two models do not share these."""
    sample: int | str | None = None
    """Which of several sampled answers to one id this is: epoch, trial or repetition."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """What instances can be sliced by."""


def answers_of(
    records: Callable[[], Iterable[Record]],
    task: str,
    source: str,
    *,
    metric: str | None = None,
    slices: Sequence[str] = (),
    grades: bool | None = None,
    notes: Sequence[str] = (),
) -> TaskAnswers:
    """Make the answers of one task of records; answers to one id with different samples become one instance.

    Args:
        records: Gives the records of the file from its beginning; called again when texts are shown, so that none are
            held.
        task: Name of the task.
        source: Where the records are read, as messages name it.
        metric: The score to compare; None takes the first that is a number for every record, and says which others
            there are. "accuracy" compares answers with references, where there are no scores of that name.
        slices: Names of `Record.fields` to slice by.
        grades: Whether scores are grades, so that 0 and 1 are no wrong and right; None tells it by the metric's name.
        notes: What a reader of the result has to know; the task's name is put before each.

    Raises:
        InputError: No record, no such metric, or an answer that stands twice.
    """
    columns = _Columns(slices)
    for record in records():
        columns.add(record, source)
    if not columns.count:
        raise InputError(f"{source} holds no answers.")
    held = columns.blocks.columns()
    answers: Column | None = held["answer"] if held["answer"].null_count < columns.count else None
    references: Column | None = held["reference"] if columns.plain and not held["reference"].null_count else None
    chosen, scores, others = columns.choose(source, metric, answers is not None and references is not None)
    said = [*choice_note("metric", chosen, others), *notes]
    sampled = any(sample is not None for sample in columns.samples)
    plain = scores is None and not sampled  # then messages can show the right answers
    made = TaskAnswers(
        task=task,
        source=source,
        ids=held["id"],
        answers=answers,
        references=references if scores is None else None,
        scores=scores,
        metric=chosen,
        higher_is_better=higher_is_better(chosen) is not False,
        grades=is_grade(chosen, task) if grades is None else grades,
        documents=_digests(held["document"]),
        targets=None if plain else _digests(held["target"]),
        outputs=digest_column(columns.outputs),
        likelihoods=columns.likelihoods,
        slices={
            name: held[key].cast(pa.string())
            for key, name in columns.slices.items()
            if held[key].null_count < columns.count
        },
        columns=tuple(columns.fields),
        texts=lambda positions: _texts(records, positions, source),
        notes=tuple(f"{task}: {note}" for note in said),
    )
    return _grouped(made, columns.samples) if sampled else made


class _Columns:
    """Collects columns record by record."""

    def __init__(self, slices: Sequence[str]) -> None:
        # Fields have a mark, because one may be called "answer" or "id".
        self.slices = {f"field.{name}": name for name in slices}
        self.blocks = Blocks(("id", "answer", "reference", "document", "target", *self.slices))
        self.scores: dict[str, array[float]] = {}
        self.lists: set[str] = set()
        self.outputs: list[int | None] = []
        self.samples: list[int | str | None] = []
        self.fields: dict[str, None] = {}
        self.likelihoods = False
        self.plain = True  # whether all right answers are texts or integers
        self.count = 0

    def add(self, record: Record, source: str) -> None:
        if type(record.id) not in (int, str):
            raise InputError(f"{source}: an id is {quote(record.id)}; an integer or a string is needed.")
        for name, value in record.scores.items():
            numbers = self.scores.setdefault(name, array("d"))
            numbers.extend([np.nan] * (self.count - len(numbers)))
            if not isinstance(value, int | float | None):
                self.lists.add(name)
            numbers.append(float(value) if isinstance(value, int | float) else np.nan)
        self.count += 1
        output = record.answer if record.output is None else record.output
        if record.likelihoods:
            self.likelihoods = True
            self.outputs.append(likelihoods_digest(record.likelihoods))
        else:
            right = record.reference if isinstance(record.reference, str) else None
            self.outputs.append(answer_digest([output], right) if isinstance(output, str) else None)
        self.samples.append(record.sample)
        self.fields |= dict.fromkeys(record.fields)
        is_plain = type(record.reference) in (int, str)
        self.plain &= is_plain
        document = record.question if record.document is None else record.document
        self.blocks.add(
            {
                "id": record.id,
                "answer": record.answer,
                "reference": record.reference if is_plain else None,
                "document": None if document is None else digest(document),
                "target": None if record.reference is None else digest(record.reference),
                **{key: label(record.fields.get(name)) for key, name in self.slices.items()},
            }
        )

    def choose(
        self, source: str, metric: str | None, has_references: bool
    ) -> tuple[str, NDArray[np.float64] | None, list[str]]:
        """Give the name and the numbers of the score to compare, and the others; no numbers for "accuracy"."""
        for numbers in self.scores.values():
            numbers.extend([np.nan] * (self.count - len(numbers)))
        scores = {name: np.array(numbers) for name, numbers in self.scores.items() if name not in self.lists}
        usable = [name for name, numbers in scores.items() if not np.isnan(numbers).all()]
        if metric in usable:
            return str(metric), scores[str(metric)], []
        if has_references and (metric == "accuracy" or (metric is None and not usable)):
            return "accuracy", None, []
        if metric is not None:
            raise NoMetricError(source, f"there is no metric {quote(metric)}; usable: {_listed(usable)}.")
        if not usable:
            names = _listed(self.scores)
            raise NoMetricError(source, f"no metric gives one number an answer ({names}).", of_any_run=True)
        whole = [name for name in usable if not np.isnan(scores[name]).any()]
        return (whole or usable)[0], scores[(whole or usable)[0]], usable


def _listed(names: Iterable[str]) -> str:
    return listed(map(quote, names)) or "none"


def _digests(column: Column) -> Column | None:
    return column.cast(pa.string()) if column.null_count < len(column) else None


def _grouped(rows: TaskAnswers, samples: Sequence[int | str | None]) -> TaskAnswers:
    """Make one instance of all rows with one id; each needs a sample of its own."""
    encoded = rows.ids.dictionary_encode()
    groups = encoded.indices.to_numpy().astype(np.int64)
    seen: set[tuple[int, int | str | None]] = set()
    for group, sample in zip(groups.tolist(), samples, strict=True):
        if (group, sample) in seen:
            key = quote(encoded.dictionary[group].as_py())
            raise InputError(f"{rows.source}: id {key} stands twice with the same sample, {quote(sample)}.")
        seen.add((group, sample))
    count = len(encoded.dictionary)
    if count == len(rows):
        return rows  # nothing was sampled twice
    _, first = np.unique(groups, return_index=True)
    for what, column in (("documents", rows.documents), ("right answers", rows.targets)):
        if column is not None and pc.any(pc.not_equal(column, column.take(pa.array(first[groups])))).as_py():
            raise InputError(f"{rows.source}: samples of one id have different {what}.")
    values = rows.scores if rows.scores is not None else rows.values()
    sizes = np.bincount(groups, minlength=count)
    shares = bool(np.isin(values, (0.0, 1.0)).all()) and not rows.grades
    order = np.sort(first)
    made = rows.take(order)
    of_group = (np.bincount(groups, weights=values, minlength=count) / sizes)[groups[order]]
    counts = sizes[groups[order]] if shares else None
    return replace(made, answers=None, references=None, scores=of_group, samples=counts)


def _texts(records: Callable[[], Iterable[Record]], positions: Positions, source: str) -> list[Text]:
    """Read the records again, and keep what people are shown of some."""
    wanted = set(positions.tolist())
    last = max(wanted, default=-1)
    found: dict[int, Text] = {}
    for place, record in enumerate(records()):
        if place > last:
            break
        if place in wanted:
            found[place] = _text(record)
    if len(found) < len(wanted):
        raise InputError(f"{source} has changed since it was read: compare again.")
    return [found[position] for position in positions.tolist()]


def _text(record: Record) -> Text:
    answer = None if record.answer is None else str(record.answer)
    output = label(record.output)
    right = record.reference
    if isinstance(right, list):
        right = " / ".join(str(label(item)) for item in right)
    return Text(record.question, label(right), with_response(answer, output), output)
