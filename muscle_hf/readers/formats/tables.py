"""Tables of answers, one row an instance: which column is what, and what becomes of sampled answers."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ...errors import InputError
from ...flips.answers.number_texts import as_text, whole_numbers, with_decimal_points
from ...flips.answers.same_answer import Spelling, parse_names, trimmed
from ...flips.answers.spelled_otherwise import SpelledOtherwise, long_spelled_otherwise, spelled_otherwise, together
from ...flips.scorers import SCORERS, score_texts
from ...text import listed, quote
from ..answers import LONG, Column, Positions, TaskAnswers, Text, label, shorten, some, with_response
from ..digests import long_answers
from ..metric_names import higher_is_better, is_grade
from .answer_columns import alike, empty_note, held_by, is_number, refuse_kind, settled
from .chosen_rows import advice
from .columnar import Columns
from .table_layout import FIELDS, Layout, layout_of

# What the whole texts are kept by beside the columns of a file, none of which can be called so.
_SAID = "\0response"


def read_table(
    table: Columns,
    task: str,
    source: str,
    *,
    file: str,
    prediction: str | None = None,
    metric: str | None = None,
    columns: Mapping[str, str] | None = None,
    slices: Sequence[str] = (),
    normalize: str | Sequence[str] | None = None,
    answers_only: bool = False,
) -> TaskAnswers:
    """Read the answers of one model from a table.

    Where `prediction` or the score is a list, or a `sample` column numbers several rows of one id, the score of an
    instance is its share of right answers, or their mean score; how many there are is told only of shares, since the
    rule of reliable change is about these.

    Without an id column, rows can be joined with those of the same `file` alone. The metric is a column of scores,
    "accuracy" to compare answers although there are scores, or one of `SCORERS` to score texts against their
    references. With `answers_only` neither scores nor references are read.
    """
    scorer = metric if metric in SCORERS and metric not in table.names else None
    how = "accuracy" if scorer else metric
    layout = layout_of(table, source, prediction, how, dict(columns or {}), answers_only=answers_only)
    missing = [name for name in slices if name not in table.names]
    if missing:
        there = listed(map(quote, table.names))
        raise InputError(
            f"{source} has no column {quote(missing[0])} to slice or cluster by, or to read scores or features from; "
            f"it has {there}."
        )
    wanted = [name for name in (layout.id, layout.prediction, layout.reference, layout.score, layout.sample) if name]
    strict = [name for name in wanted if name != layout.sample]
    wanted = list(dict.fromkeys([*wanted, *slices]))
    scored: list[NDArray[np.float64]] = []
    long: list[SpelledOtherwise | None] = []
    spelling = Spelling(parse_names(normalize), table.typed)

    def keep(start: int, block: Mapping[str, Column]) -> dict[str, Column]:
        if not start:  # Also where a reader starts over.
            scored.clear()
            long.clear()
        # While the texts are whole.
        block = {
            name: spelling.respell(values)
            if name in (layout.prediction, layout.reference)
            else values
            if table.typed
            else trimmed(values)
            for name, values in block.items()
        }
        if scorer is None and spelling.names != () and layout.prediction and layout.reference:
            long.append(long_spelled_otherwise(block[layout.prediction], block[layout.reference], LONG))
        if scorer:
            scored.append(_score_texts(block[str(layout.prediction)], block[str(layout.reference)], scorer, source))
        return {name: shorten(values) for name, values in block.items()}

    blocks = table.scan(wanted, keep, strict=strict)
    if not blocks or not sum(len(block[wanted[0]]) for block in blocks):
        raise InputError(f"{source} holds no answers; rows with {', '.join(FIELDS[:3])} are needed.")
    # Taken out, so that no more than one column is held twice.
    held = {name: joined([block.pop(name) for block in blocks], name, source) for name in wanted}
    n = len(held[wanted[0]])
    answers = None if layout.prediction is None else held[layout.prediction]
    if answers_only and pa.types.is_list(held[str(layout.prediction)].type):
        raise InputError(f"{source}: {layout.prediction} holds lists of sampled answers; one answer each is needed.")
    references = None if layout.reference is None else held[layout.reference]
    ids = pa.array(np.arange(n)) if layout.id is None else _filled(_whole(held[layout.id], table), layout.id, source)
    refuse_kind(ids, layout.id or "", source)
    notes: list[str] = []
    if references is not None:
        right = str(layout.reference)
        spelling = replace(spelling, kind=held_by(references.type)) if table.typed else spelling.settle(references)
        references = _filled(settled(references, spelling, right, source, notes), right, source)
        refuse_kind(references, right, source)
    name = scorer or layout.score or "accuracy"
    answer = TaskAnswers(
        task=task,
        source=source,
        ids=ids,
        metric=name,
        higher_is_better=higher_is_better(name) is not False,
        grades=is_grade(name),
        slices={name: _labels(_whole(held[name], table), name, source) for name in slices},
        columns=tuple(name for name in table.names if name not in wanted or name in slices),
        texts=lambda positions: _texts(table, layout, positions, source, spelling),
        row_ids_of=file if layout.id is None else None,
        typed=table.typed,
        spelling=spelling,
    )
    if layout.score is not None and (points := with_decimal_points(held[layout.score])) is not None:
        held[layout.score] = points
        answer = replace(answer, notes=(f"{source}: {quote(layout.score)} is read with decimal commas: 0,5 as 0.5",))
    scores = None if layout.score is None else _scores(held[layout.score], layout.score, source)
    samples: NDArray[np.int64] | None = None
    outputs: Column | None = None
    otherwise: SpelledOtherwise | None = None
    told: list[str] = []
    if answers is not None and pa.types.is_list(answers.type):
        if scores is None:
            flat, gold, samples = _flattened(answers, references, spelling, str(layout.prediction), source, notes)
            scores, otherwise = _shares(flat, gold, samples), spelled_otherwise(flat, gold)
            told = empty_note(flat, gold, source)
        outputs = _first_outputs(answers, references)
        answers = None
    elif answers is not None:
        if references is not None:
            answers, references = alike(answers, references, spelling, str(layout.prediction), source, notes)
            told = empty_note(answers, references, source) if scores is None and not scorer else []
        else:
            answers = settled(answers, spelling, str(layout.prediction), source, notes)
            refuse_kind(answers, str(layout.prediction), source)
    if layout.score is not None and pa.types.is_list(held[layout.score].type):
        scores, samples = _means(held[layout.score], layout.score, source)
    if scorer:
        scores = np.concatenate(scored)
    samples = None if answer.grades else samples  # of grades there is no share of right ones
    if not scorer:
        notes = [f"{source}: compared as {spelling.kind}, for instance {' and '.join(notes)}"] if notes else []
        answer = replace(answer, notes=(*answer.notes, *notes), empty_notes=tuple(told))
    if scores is None:
        found_otherwise = [*long, None if layout.sample is None else spelled_otherwise(answers, references)]
        otherwise = together(found_otherwise, answers, references)
    answer = replace(
        answer,
        answers=answers,
        references=references,
        scores=scores,
        samples=samples,
        outputs=outputs,
        spelled_otherwise=otherwise,
    )
    return answer if layout.sample is None else _grouped(answer, _whole(held[layout.sample], table))


def joined(arrays: Sequence[Column], name: str, source: str) -> Column:
    """Join the blocks of a column; a block of nulls alone has a type that says nothing."""
    kinds = {array.type for array in arrays if array.null_count < len(array)}
    kind = _common(kinds) if len(kinds) > 1 else next(iter(kinds), pa.string())
    if kind is None:
        shown = " and ".join(sorted(map(str, kinds)))
        raise InputError(f"{source}: column {quote(name)} mixes {shown}; write all in one way.")
    if kind == pa.list_(pa.null()):
        kind = pa.list_(pa.string())
    return pa.concat_arrays([array.cast(kind) for array in arrays])


def _common(kinds: Collection[pa.DataType]) -> pa.DataType | None:
    """Give the type that holds values of several types; None where there is none."""
    if all(map(pa.types.is_list, kinds)):
        inner = {kind.value_type for kind in kinds} - {pa.null()}
        joined = _common(inner) if len(inner) > 1 else next(iter(inner))
        return None if joined is None else pa.list_(joined)
    if not all(map(is_number, kinds)):
        return None
    return pa.float64() if any(map(pa.types.is_floating, kinds)) else next(filter(pa.types.is_decimal, kinds))


def _filled(column: Column, name: str, source: str) -> Column:
    if column.null_count:
        first = int(np.argmax(np.asarray(pc.is_null(column))))
        raise InputError(
            f"{source}: {name} is empty (null) in {column.null_count} of {len(column)} rows, first in row "
            f"{first + 1}; every instance needs one."
        )
    return column


def _whole(column: Column, table: Columns) -> Column:
    """Read 1.0 as the integer that it was, of ids and groups; not of texts of a file that has integers as well."""
    return column if table.typed and pa.types.is_string(column.type) else whole_numbers(column)


def _labels(column: Column, name: str, source: str) -> Column:
    if pa.types.is_list(column.type):
        raise InputError(f"{source}: column {quote(name)} holds lists, so it cannot group instances.")
    return as_text(column)


def _scores(column: Column, name: str, source: str) -> NDArray[np.float64]:
    if pa.types.is_list(column.type):
        return np.empty(0)
    if pa.types.is_string(column.type):
        lowered = pc.utf8_lower(column)
        column = pc.if_else(pc.equal(lowered, "true"), "1", pc.if_else(pc.equal(lowered, "false"), "0", lowered))
    try:
        # A score that is not there is not finite either, and refused with its id when it is used.
        return np.asarray(pc.fill_null(column.cast(pa.float64()), np.nan), dtype=np.float64)
    except pa.ArrowInvalid:
        row, value = next((row, text) for row, text in enumerate(column.to_pylist()) if not _is_float(text))
        raise InputError(
            f"{source}: column {quote(name)} holds {quote(value)} in row {row + 1}; a number is needed as a score."
        ) from None


def _is_float(text: str | None) -> bool:
    try:
        pa.scalar(text, pa.string()).cast(pa.float64())
    except pa.ArrowInvalid:
        return False
    return True


def _score_texts(answers: Column, references: Column, scorer: str, source: str) -> NDArray[np.float64]:
    for column, what in ((answers, "prediction"), (references, "reference")):
        if column.null_count < len(column) and not pa.types.is_string(column.type):
            raise InputError(f"{source}: {scorer} scores texts, but the {what} holds values of type {column.type}.")
    if references.null_count:
        raise InputError(f"{source}: {references.null_count} references are empty (null), and nothing can be scored.")
    return score_texts(answers=answers.to_pylist(), references=references.to_pylist(), scorer=scorer)


def _lengths(lists: Column, name: str, source: str) -> NDArray[np.int64]:
    lengths = np.asarray(pc.fill_null(pc.list_value_length(lists), 0), dtype=np.int64)
    if not lengths.all():
        raise InputError(f"{source}: {name} is an empty list or null in row {int(np.argmin(lengths)) + 1}.")
    return lengths


def _flattened(
    lists: Column, references: Column | None, spelling: Spelling, name: str, source: str, notes: list[str]
) -> tuple[Column, Column, NDArray[np.int64]]:
    """Give all sampled answers one below the other, the right one beside each, and how many each instance has."""
    if references is None:
        raise InputError(f"{source}: {name} holds lists of sampled answers, which need a column of right ones.")
    lengths = _lengths(lists, name, source)
    right = references.take(pa.array(np.repeat(np.arange(len(lists)), lengths)))
    return *alike(shorten(lists.flatten()), right, spelling, name, source, notes), lengths


def _shares(flat: Column, right: Column, lengths: NDArray[np.int64]) -> NDArray[np.float64]:
    """Give the share of right answers of each instance."""
    return _averages(np.asarray(pc.fill_null(pc.equal(flat, right), False), dtype=np.float64), lengths)


def _averages(values: NDArray[np.float64], lengths: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.bincount(np.repeat(np.arange(len(lengths)), lengths), weights=values, minlength=len(lengths)) / lengths


def _first_outputs(lists: Column, references: Column | None) -> Column | None:
    """Give what tells two models apart in the first sampled answer of each instance."""
    first = pc.list_element(lists, 0) if pc.min(pc.list_value_length(lists)).as_py() else None
    return None if first is None else long_answers(first, references)


def _means(lists: Column, name: str, source: str) -> tuple[NDArray[np.float64], NDArray[np.int64] | None]:
    """Give the mean of each list, and of how many; None where it is no share of right ones."""
    lengths, values = _lengths(lists, name, source), _scores(lists.flatten(), name, source)
    return _averages(values, lengths), lengths if np.isin(values, (0.0, 1.0)).all() else None


def _grouped(rows: TaskAnswers, sample: Column) -> TaskAnswers:
    """Make one instance of all rows with one id, which the column `sample` numbers."""
    if pa.types.is_list(sample.type):
        raise InputError(f"{rows.source}: the column of samples holds lists; a number or a name is needed.")
    encoded = rows.ids.dictionary_encode()
    groups, ids = encoded.indices.to_numpy().astype(np.int64), encoded.dictionary
    if len(ids) == len(rows):
        return rows  # nothing was sampled twice
    numbers = pc.fill_null(sample.dictionary_encode().indices.cast(pa.int64()), -1).to_numpy()
    _, kept = np.unique(groups * (int(numbers.max()) + 2) + numbers + 1, return_index=True)
    if len(kept) < len(rows):
        twice = int(np.setdiff1d(np.arange(len(rows)), kept)[0])
        raise InputError(
            f"{rows.source}: id {quote(rows.ids[twice].as_py())} stands twice with the same sample, again in row "
            f"{twice + 1}; each sampled answer needs its own.{advice(rows.columns)}"
        )
    first = np.full(len(ids), len(rows), dtype=np.int64)
    np.minimum.at(first, groups, np.arange(len(rows)))
    if rows.references is not None:
        differ = np.asarray(pc.not_equal(rows.references, rows.references.take(pa.array(first[groups]))))
        if differ.any():
            raise InputError(
                f"{rows.source}: samples of one id have different right answers, for instance "
                f"{some(rows.ids.filter(pa.array(differ)))}."
            )
    counts, values = np.bincount(groups, minlength=len(ids)), rows.values()
    values = values if rows.higher_is_better else -values  # as the file has them
    scores = np.bincount(groups, weights=values, minlength=len(ids)) / counts
    shares = np.isin(values, (0.0, 1.0)).all() and not rows.grades
    made = rows.take(first)
    outputs = None if made.answers is None else long_answers(made.answers, made.references)
    return replace(made, answers=None, scores=scores, samples=counts if shares else None, outputs=outputs)


def _texts(table: Columns, layout: Layout, positions: Positions, source: str, spelling: Spelling) -> list[Text]:
    """Read question, right answer and answer of some rows again, whole."""
    wanted = [layout.question, layout.reference, layout.prediction, layout.choices, layout.response]
    names = list(dict.fromkeys(name for name in wanted if name))
    if not names:
        return [Text(None, None, None)] * len(positions)
    order = np.argsort(positions, kind="stable")
    ordered = positions[order]

    def pick(start: int, block: dict[str, Column]) -> list[dict[str, Any]]:
        size = len(block[names[0]])
        inside = ordered[np.searchsorted(ordered, start) : np.searchsorted(ordered, start + size)] - start
        columns = {name: block[name].take(pa.array(inside)) for name in names}
        # As the model wrote it, also where it is compared in another spelling.
        said = {_SAID: columns[layout.response]} if layout.response else {}
        for name in (layout.reference, layout.prediction):
            if name:  # What is shown is what was compared.
                columns[name] = spelling.shown(columns[name])
        taken = {name: column.to_pylist() for name, column in (columns | said).items()}
        return [{name: taken[name][row] for name in taken} for row in range(len(inside))]

    rows = [row for block in table.scan(names, pick) for row in block]
    if len(rows) != len(positions):
        raise InputError(f"{source} has changed since it was read: compare again.")
    texts: list[Text] = [Text(None, None, None)] * len(positions)
    for index, row in zip(order.tolist(), rows, strict=True):
        choices = _choices(row.get(layout.choices or ""))
        said = _shown(row.get(_SAID), None)
        texts[index] = Text(
            _shown(row.get(layout.question or ""), None),
            _shown(row.get(layout.reference or ""), choices),
            with_response(_shown(row.get(layout.prediction or ""), choices), said),
            said,
        )
    return texts


def _choices(value: Any) -> Sequence[Any] | None:
    if isinstance(value, str) and value.startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            return None
    return value if isinstance(value, list) else None


def _shown(value: Any, choices: Sequence[Any] | None) -> str | None:
    if isinstance(value, list):
        return "\n".join("(none)" if item is None else str(_shown(item, choices)) for item in value)
    text = label(value)
    # No index has ten digits, and an answer may have thousands.
    if text and choices and len(text) < 10 and text.isascii() and text.isdecimal() and int(text) < len(choices):
        return f"{text}: {label(choices[int(text)])}"
    return text
