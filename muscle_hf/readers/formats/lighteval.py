"""Details of lighteval: one Parquet file a task, since 0.11 with the columns `doc`, `metric` and `model_response`."""

from array import array
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ...errors import InputError
from ...files import refuse_pointer
from ...text import listed, one_line, quote
from ..answers import Positions, TaskAnswers, Text, digest, label
from ..digests import answer_digest, digest_column, likelihoods_digest
from ..lighteval_names import numbered
from ..metric_names import higher_is_better, is_grade
from ..task_notes import choice_note
from .blocks import Blocks
from .harness_sample import NoMetricError, refuse_nan
from .lighteval_old import READ as OLD
from .lighteval_old import as_new, is_old
from .whole_run import lighteval_says, not_whole

_BATCH = 500
# Parts of a row that nothing here needs, and that may be large: images, tokens, logits.
_READ = {
    "doc": ("query", "choices", "gold_index", "specific", "original_query", "id", "task_name", "sampling_methods"),
    "model_response": ("text", "text_post_processed", "logprobs", "unconditioned_logprobs"),
}


def is_details(columns: Collection[str]) -> bool:
    """Tell whether a Parquet file with some columns holds details of lighteval, of any version."""
    return set(columns) >= {"doc", "metric", "model_response"} or is_old(columns)


def read_details(
    path: Path, task: str | None = None, *, metric: str | None = None, slices: Sequence[str] = ()
) -> TaskAnswers:
    """Read the details of one task, by default of the one that the documents say.

    Of multiple choice the answer is the number of the choice with the highest log-likelihood, unless that contradicts
    the logged score, otherwise the (post-processed) first text. Instances are joined by the task's own id, or where it
    has none by a digest of question and choices. Slices are fields of `doc` or of `doc.specific`.
    """
    metrics: dict[str, array[float]] = {}
    lists: set[str] = set()
    # Metrics that a row has, and so whether it was asked for likelihoods or for a text: a question is written once for
    # each, with the metrics of that kind.
    kinds: dict[frozenset[str], int] = {}
    kind = array("q")
    # Fields of the documents have a mark, because one may be called "answer" or "target".
    fields = {f"doc.{name}": name for name in slices}
    blocks = Blocks(("own", "digest", "answer", "target", *fields))
    outputs: list[int | None] = []
    likely = array("b")  # whether the most likely choice is right; -1 where the answer is no choice
    aliases = array("b")  # whether every choice is right, being another way to say the same
    first: dict[str, Any] = {}
    last: dict[int, Mapping[str, Any]] = {}  # of each kind

    def add(row: Mapping[str, Any]) -> None:
        # Arrow gives every row every field, null where a row has not that metric.
        present = {name: value for name, value in row["metric"].items() if value is not None}
        kind.append(kinds.setdefault(frozenset(present), len(kinds)))
        for name in row["metric"]:
            metrics.setdefault(name, array("d"))
        for name, value in present.items():
            if not isinstance(value, int | float):
                lists.add(name)
            metrics[name].append(value if name not in lists else 0.0)
        doc, specific, (answer, index) = row["doc"], _specific(row["doc"]), _answer(row)
        aliases.append(index is not None and len(set(_gold(row))) == len(doc["choices"]))
        outputs.append(_output(row))
        likely.append(-1 if index is None else index in _gold(row))
        values = {
            "own": None if doc.get("id") in (None, "") else str(doc["id"]),
            # Of generated text, old versions tell the right answers alone.
            "digest": digest([doc["query"], _right_texts(row) if _is_generated(doc) else doc.get("choices")]),
            "answer": answer,
            "target": digest(_right_texts(row) if _is_generated(doc) else _gold(row)),
            **{key: label(doc.get(name, specific.get(name))) for key, name in fields.items()},
        }
        blocks.add(values)

    for number, row in enumerate(_rows(path, None)):
        first = first or row["doc"]
        try:
            add(row)
            last[kind[-1]] = row
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise _strange(path, number, error) from None
        refuse_nan(f"{path}, row {number + 1}", _likelihoods(row))
    if not first:
        raise InputError(f"{path} is empty; details of lighteval are needed.")
    columns = blocks.columns()
    overlap = sum(map(len, kinds)) > len(frozenset.union(*kinds))
    if overlap or frozenset() in kinds:
        lists |= metrics.keys() - frozenset.intersection(*kinds)  # gaps within a kind
    lists |= {name for name, values in metrics.items() if not values}
    usable = [name for name in metrics if name not in lists]
    shown = f"usable: {listed(map(quote, usable)) or 'none'}"
    if metric is not None and metric not in usable:
        what = "is not one number for every sample" if metric in metrics else "is not there"
        raise NoMetricError(str(path), f"metric {quote(metric)} {what}; {shown}.")
    if not usable:
        names = listed(metrics) or "none at all"
        raise NoMetricError(str(path), f"no metric is one number for every sample ({names}).", of_any_run=True)
    chosen = metric or usable[0]
    values_of = np.array(metrics[chosen])
    of_chosen = next(place for names, place in kinds.items() if chosen in names)
    rows: Positions | None = None
    if len(values_of) < len(kind):
        rows = np.flatnonzero(np.array(kind) == of_chosen)
        columns = {key: column.take(pa.array(rows)) for key, column in columns.items()}
        outputs = [outputs[row] for row in rows]
    own = columns["own"]
    unique = not own.null_count and len(own.dictionary_encode().dictionary) == len(own)
    task = task or str(first.get("task_name") or path.stem)
    notes = [f"{task}: {note}" for note in choice_note("metric", chosen, usable if metric is None else ())]
    right, aliased = (np.array(flags)[slice(None) if rows is None else rows] for flags in (likely, aliases))
    differs = (right >= 0) & np.isin(values_of, (0, 1)) & ((right == 1) != (values_of == 1))
    wrong = int(np.count_nonzero(differs))
    # Other metrics of likelihoods ask something else than which choice is the likeliest: `truthfulqa_mc1`, and `acc`
    # of aliases, which asks whether the model writes one.
    contradicted = wrong if "acc" in chosen and not np.any(differs & (aliased == 1)) else 0
    known = not wrong and columns["answer"].null_count < len(columns["answer"])

    def texts(positions: Positions) -> list[Text]:
        wanted = set(positions.tolist())
        shown = {index: _text(row) for index, row in enumerate(_rows(path, wanted)) if index in wanted}
        return [shown[position] for position in positions.tolist()]

    answers = TaskAnswers(
        task=task,
        source=str(path),
        # Since 0.11 every document has an id, so two alike without are a fault of the task.
        ids=own if unique else columns["digest"] if "id" in first else numbered(columns["digest"]),
        answers=columns["answer"] if known else None,
        scores=values_of,
        metric=chosen,
        higher_is_better=higher_is_better(chosen) is not False,
        grades=is_grade(chosen, task),
        contradicted=contradicted,
        documents=columns["digest"],
        targets=columns["target"],
        outputs=digest_column(outputs),
        likelihoods=bool(_likelihoods(last[of_chosen])),
        slices={name: columns[key] for key, name in fields.items() if columns[key].null_count < len(columns[key])},
        columns=tuple(_fields(first)),
        texts=texts,
        rows=rows,
        notes=tuple(notes),
    )
    declared = lighteval_says(path, task)
    return replace(answers, not_whole=not_whole(answers, declared), files=(str(path), *declared.files))


def _rows(path: Path, wanted: set[int] | None) -> Iterator[dict[str, Any]]:
    """Read the rows without tokens and logits; where only some are wanted, the others are empty."""
    refuse_pointer(path)
    try:
        with pq.ParquetFile(path, buffer_size=1 << 20) as file:
            schema = file.schema_arrow
            old = is_old(schema.names)
            columns = [name for name in OLD if name in schema.names] if old else _columns(path, schema)
            start = 0
            for batch in file.iter_batches(_BATCH, columns=columns):
                inside = wanted is None or not wanted.isdisjoint(range(start, start + len(batch)))
                rows = batch.to_pylist() if inside else [{}] * len(batch)
                yield from _as_new(path, start, rows) if old and inside else rows
                start += len(batch)
    except (OSError, UnicodeError, pa.ArrowException) as error:
        raise InputError(
            f"{path} cannot be read as details of lighteval ({one_line(error)}); was it cut off?"
        ) from None


def _as_new(path: Path, start: int, rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for number, row in enumerate(rows, start=start):
        try:
            yield as_new(row)
        except (KeyError, TypeError, ValueError) as error:
            raise _strange(path, number, error) from None


def _strange(path: Path, number: int, error: Exception) -> InputError:
    what = f"{type(error).__name__}: {one_line(error)}"
    return InputError(f"{path}, row {number + 1} is not what lighteval writes ({what}).")


def _columns(path: Path, schema: pa.Schema) -> list[str]:
    """Name the parts to read, and refuse a file that is laid out in another way."""
    parts = []
    for name, needed in (("doc", ("query",)), ("metric", ()), ("model_response", ())):
        kind = schema.field(name).type if name in schema.names else pa.null()
        inner = [field.name for field in kind] if pa.types.is_struct(kind) else []
        if not pa.types.is_struct(kind) or not set(needed) <= set(inner):
            raise InputError(
                f"{path} has no column {name!r} as lighteval writes it since 0.11, nor the columns of its versions up "
                f"to 0.10 (it has {listed(schema.names)}). Run the evaluation again, or write a table with "
                "the columns id, prediction and reference."
            )
        parts += [f"{name}.{part}" for part in _READ.get(name, inner) if part in inner]
    return parts


def _fields(doc: Mapping[str, Any]) -> Iterator[str]:
    for holder in (doc, _specific(doc)):
        for key, value in holder.items():
            if isinstance(value, str | int | float | bool) and key not in ("query", "id", "task_name"):
                yield key


def _specific(doc: Mapping[str, Any]) -> Mapping[str, Any]:
    specific = doc.get("specific")
    return specific if isinstance(specific, Mapping) else {}


def _gold(row: Mapping[str, Any]) -> list[int]:
    gold = row["doc"].get("gold_index")
    return [] if gold is None else [int(index) for index in gold] if isinstance(gold, list) else [int(gold)]


def _right_texts(row: Mapping[str, Any]) -> list[str]:
    choices = row["doc"].get("choices") or []
    return [str(choices[index]) for index in _gold(row) if 0 <= index < len(choices)]


def _is_generated(doc: Mapping[str, Any]) -> bool:
    """Tell whether a text was asked for, and not how likely each choice is."""
    return "LOGPROBS" not in (doc.get("sampling_methods") or ("LOGPROBS",))


def _answer(row: Mapping[str, Any]) -> tuple[Any, int | None]:
    """Give the answer, and its number where it is a choice."""
    response, choices = row["model_response"], row["doc"].get("choices") or []
    if not isinstance(choices, list):
        raise TypeError(f"choices are {quote(choices)}")
    likelihoods = response.get("logprobs") or []
    if len(choices) > 1 and len(likelihoods) == len(choices) and None not in likelihoods:
        index = int(np.argmax(np.array(likelihoods, dtype=np.float64)))
        return str(index), index
    whole = _first_text(response, "text")
    return (_first_text(response, "text_post_processed") if response.get("text_post_processed") else whole), None


def _likelihoods(row: Mapping[str, Any]) -> list[float]:
    values = row["model_response"].get("logprobs") or []
    return [float(value) for value in values if isinstance(value, int | float)] if isinstance(values, list) else []


def _output(row: Mapping[str, Any]) -> int | None:
    """Give a digest of what the model gave, of a kind that two models cannot share."""
    if values := _likelihoods(row):
        return likelihoods_digest(values)
    texts = row["model_response"].get("text") or []
    right = _right_texts(row)
    return answer_digest([str(text) for text in texts if text not in right] if isinstance(texts, list) else [])


def _first_text(response: Mapping[str, Any], name: str) -> str | None:
    texts = response.get(name) or [None]
    text: Any = texts[0] if isinstance(texts, list) else texts
    if not isinstance(texts, list) or not isinstance(text, str | None):
        raise TypeError(f"{name} holds {quote(text)} and no texts")
    return text


def _text(row: Mapping[str, Any]) -> Text:
    doc, choices = row["doc"], row["doc"].get("choices") or []
    gold = [str(choices[index]) if 0 <= index < len(choices) else str(index) for index in _gold(row)]
    answer, index = _answer(row)
    whole = None if index is not None else _first_text(row["model_response"], "text")
    if index is not None:
        answer = None if len(gold) == len(choices) else f"{index}: {choices[index]}"
    elif answer is not None and whole not in (None, answer):
        answer = f"{answer}\n\n{whole}"
    return Text(doc.get("original_query") or doc["query"], " / ".join(gold) or None, answer, whole)
