"""What one model version answered: the common form of every file that `read` knows.

Columns are Arrow arrays, so that a million rows are joined and compared in well under a second. Answers longer than
`LONG` bytes are kept as their beginning and a digest of the whole; `texts` reads them whole when they are shown.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..errors import InputError
from ..flips.answers.number_texts import Column as Column
from ..flips.answers.number_texts import few_distinct
from ..flips.answers.same_answer import Spelling
from ..flips.answers.spelled_otherwise import SpelledOtherwise
from ..text import quote

Positions: TypeAlias = NDArray[np.int64]

LONG = 128
"""Answers above this many bytes of UTF-8 are kept as a beginning and a digest."""
_KEPT = 32
_EXAMPLES = 3
# Integers beyond 64 bits are compared exactly too, up to this many digits.
BIG = pa.decimal256(76, 0)


class Text(NamedTuple):
    """What people are shown of one instance: the texts of one model's file; None where it has none."""

    question: str | None
    reference: str | None
    answer: str | None
    response: str | None = None
    """The whole text that the model gave, where the file has it beside the answer that was taken out of it."""


def with_response(answer: str | None, response: str | None) -> str | None:
    """Show the whole text below the answer that was taken out of it, where that is not all of it."""
    if (response or "").strip() in ("", (answer or "").strip()):
        return answer
    return response if answer is None else f"{answer}\n\n{response}"


class Filter(NamedTuple):
    """Which of its filters' answers a file of lm-evaluation-harness was read for."""

    name: str
    names: tuple[str, ...]
    """All that the file has."""
    known: bool
    """Whether a file says these names; otherwise they are counted, since old versions wrote none."""
    asked: bool
    """Whether it was chosen by name, and not for being the first."""
    does: str | None = None
    """What the results file of the same run says that it does."""


@dataclass(frozen=True, eq=False)
class TaskAnswers:
    """What one model version answered on one task, one row for each instance.

    Each column is an Arrow array or a numpy array of shape (n,).
    """

    task: str
    """Name of the task; for a plain file, that of the file."""
    source: str
    """Where it was read, as messages name it."""
    ids: Column = field(repr=False)
    """One for each instance: all strings or all integers."""
    answers: Column | None = field(default=None, repr=False)
    """Its answers: all strings or all integers, null where it gave none; None where the file holds only scores."""
    references: Column | None = field(default=None, repr=False)
    """The right answers, where an answer is right by being equal to them."""
    scores: NDArray[np.float64] | None = field(default=None, repr=False)
    """What each answer was worth; without it, an answer is right where it equals its reference."""
    metric: str = "accuracy"
    """Name of the score."""
    higher_is_better: bool = True
    """Whether a larger score is the better one."""
    grades: bool = False
    """Whether scores are known to be grades of the answers: then 0 and 1 are no wrong and right ones."""
    contradicted: int = 0
    """How many answers say otherwise than their scores, if these are right and wrong; then answers are not kept."""
    filter: Filter | None = None
    """The filter that took the answers from the responses; None where the file knows no filters."""
    samples: NDArray[np.int64] | None = field(default=None, repr=False)
    """How many sampled answers a score is the mean of; None for one answer to each instance."""
    documents: Column | None = field(default=None, repr=False)
    """A digest of each instance's question, to tell that two files are about the same one."""
    targets: Column | None = field(default=None, repr=False)
    """A digest of each instance's right answer; without it, `references` are compared."""
    prompts: Column | None = field(default=None, repr=False)
    """A digest of each prompt, which may differ between models."""
    outputs: Column | None = field(default=None, repr=False)
    """A digest of what the model gave for each instance, of a kind that two models cannot share; null where it is of
    no such kind, see `identical`. Without it, long `answers` and `scores` tell."""
    likelihoods: bool = False
    """Whether `outputs` are of log-likelihoods; otherwise of generated texts."""
    first_choices: Column | None = field(default=None, repr=False)
    """The text of the first of two choices, of which `answers` are the numbers; None where there are not two."""
    second_choices: Column | None = field(default=None, repr=False)
    margins: NDArray[np.float64] | None = field(default=None, repr=False)
    """Log-likelihood of each second choice less that of the first; None where choices are made by something else."""
    slices: Mapping[str, Column] = field(default_factory=dict, repr=False)
    """Column name -> the group of each instance, as strings, null where it has none."""
    columns: tuple[str, ...] = ()
    """Columns of the file that can be asked for as slices."""
    texts: Callable[[Positions], list[Text]] | None = field(default=None, repr=False)
    """Reads the texts of the rows at some positions of the file."""
    rows: Positions | None = field(default=None, repr=False)
    """Where each row stood in the file, for `texts`, -1 where it has no such row; None: in the order of the file."""
    row_ids_of: str | None = None
    """The file whose row numbers serve as ids, because it has none; rows of another file are not the same ones."""
    typed: bool = True
    """Whether the file tells the integer 1 from the text "1"; a CSV file does not."""
    files: tuple[str, ...] = ()
    """The files that were read for it, its own first; empty where that is not known, or it was no file."""
    not_whole: str | None = None
    """Why these are not all that the run scored, in a sentence; None where nothing says so."""
    spelling: Spelling | None = None
    """How answers were spelled alike, of a table; None where the file's own program compared them."""
    spelled_otherwise: SpelledOtherwise | None = None
    """How many sampled or long answers are right ones in another spelling; of others it is told from `answers`."""
    notes: tuple[str, ...] = ()
    """What a reader of the result has to know, such as a filter that was chosen by default."""
    empty_notes: tuple[str, ...] = ()
    """How many empty answers count as wrong, for a comparison that is not told what becomes of them."""

    def __len__(self) -> int:
        """Say how many instances there are."""
        return len(self.ids)

    def take(self, positions: Positions, ids: Column | None = None) -> "TaskAnswers":
        """Give the rows at some positions, in that order; their ids need not be taken where these are at hand."""
        columns = ["answers", "references", "scores", "samples", "documents", "targets", "prompts", "outputs"]
        columns += ["first_choices", "second_choices", "margins"]
        indices = pa.array(positions)
        changed: dict[str, Any] = {
            name: column[positions] if isinstance(column, np.ndarray) else _taken(column, indices)
            for name in columns
            if (column := getattr(self, name)) is not None
        }
        changed["ids"] = self.ids.take(indices) if ids is None else ids
        slices = {name: column.take(indices) for name, column in self.slices.items()}
        rows = positions if self.rows is None else self.rows[positions]
        return replace(self, **changed, slices=slices, rows=rows)

    def values(self) -> NDArray[np.float64]:
        """Give what each answer is worth, higher is better; 1 and 0 where answers are right or wrong."""
        if self.scores is None:
            if self.answers is None or self.references is None:
                raise InputError(
                    f"{self.source} has neither scores nor answers with right ones, so nothing says how good an "
                    "answer is."
                )
            right = pc.fill_null(pc.equal(self.answers, self.references), False)
            return np.asarray(right.to_numpy(zero_copy_only=False), dtype=np.float64)
        bad = np.flatnonzero(~np.isfinite(self.scores))
        if len(bad):
            raise InputError(
                f"{self.source}: {len(bad)} of {len(self)} scores ({self.metric}) are not finite numbers, the first "
                f"{float(self.scores[bad[0]])} of id {quote(self.ids[int(bad[0])].as_py())}. Say what becomes of "
                "missing scores (nan) with --missing (missing=), or give them the score that a failed answer "
                "deserves, such as 0."
            )
        return self.scores if self.higher_is_better else -self.scores

    def read_texts(self, positions: Positions) -> list[Text]:
        """Read what people are shown of some rows of this table, in any order."""
        nothing = [Text(None, None, None)] * len(positions)
        if self.texts is None:
            return nothing
        rows = positions if self.rows is None else self.rows[positions]
        there = np.flatnonzero(rows >= 0)  # -1 is an instance that this file lacks
        if len(there) == len(rows):
            return self.texts(rows)
        for place, text in zip(there.tolist(), self.texts(rows[there]), strict=True):
            nothing[place] = text
        return nothing


class Origin(NamedTuple):
    """Where the answers of a model version come from, so that it can be told whether they are still the same."""

    name: str
    """The model version."""
    source: str
    """What was read, as it was given."""
    files: tuple[str, ...]
    """The files that were read; empty where they are not known, or it was no file."""
    revision: str | None
    """The commit of a data set of the Hub."""


@dataclass(frozen=True, eq=False)
class Run:
    """The evaluation of one model version: its answers to one or more tasks; made by `read`."""

    name: str
    """Name of the model version, as tables show it."""
    source: str
    """Where it was read."""
    tasks: Mapping[str, TaskAnswers]
    """Task name -> what was answered."""
    notes: tuple[str, ...] = ()
    """What a reader of the result has to know about the run as a whole."""
    not_compared: Mapping[str, str] = field(default_factory=dict)
    """Task that is there and cannot be compared as asked -> why."""
    revision: str | None = None
    """The commit of a data set of the Hub; None of files, or where it is not known."""

    @property
    def origin(self) -> Origin:
        """Say where it comes from."""
        files = dict.fromkeys(file for task in self.tasks.values() for file in task.files)
        return Origin(self.name, self.source, tuple(files), self.revision)


def _taken(column: Column, indices: Column) -> Column:
    if not pa.types.is_string(column.type) or not few_distinct(column):
        return column.take(indices)
    encoded = column.dictionary_encode()
    return encoded.dictionary.take(encoded.indices.take(indices))


def codes(*columns: Column) -> list[NDArray[np.int64]]:
    """Number the values of non-empty columns of one type, so that equal numbers mean equal values; null is -1."""
    return numbered(*columns)[1]


def numbered(*columns: Column) -> tuple[Column, list[NDArray[np.int64]]]:
    """Give the different values of some columns, and the columns as the places of these, as `codes` does."""
    joined = pa.chunked_array(columns).dictionary_encode()
    # Arrow gives all chunks one dictionary, without a promise; to unify them would look at every value again.
    if not all(chunk.dictionary.equals(joined.chunk(0).dictionary) for chunk in joined.chunks[1:]):
        joined = joined.unify_dictionaries()
    indices = [chunk.indices.cast(pa.int64()) for chunk in joined.chunks]
    places = [(pc.fill_null(chunk, -1) if chunk.null_count else chunk).to_numpy() for chunk in indices]
    return joined.chunk(0).dictionary, places


def answer_column(values: Sequence[Any]) -> Column:
    """Make a column of answers or ids: all strings, or all integers of up to 76 digits; None is null."""
    # A lone surrogate is no Unicode text, so Arrow cannot hold it; its escape is as good for telling answers apart.
    if any(type(value) is str and not value.isascii() for value in values):
        values = [_unicode(value) if isinstance(value, str) else value for value in values]
    try:
        return pa.array(values, pa.string() if any(isinstance(v, str) for v in values) else pa.int64())
    except (OverflowError, pa.ArrowInvalid):
        too_long = [value for value in values if value is not None and abs(value) >= 10**BIG.precision]
        if too_long:
            raise InputError(
                f"an integer has more than {BIG.precision} digits; write such ids and answers as strings."
            ) from None
        return pa.array(values, BIG)


def shorten(column: Column) -> Column:
    """Replace strings longer than `LONG` bytes by their beginning and a digest of the whole, to bound memory."""
    if not pa.types.is_string(column.type):
        return column
    lengths = pc.binary_length(column)
    if (pc.max(lengths).as_py() or 0) <= LONG:
        return column
    long = pc.fill_null(pc.greater(lengths, LONG), False)
    return pc.replace_with_mask(column, long, pa.array(map(short, column.filter(long).to_pylist()), pa.string()))


def short(text: str) -> str:
    """Give a string of at most `LONG` bytes as it is, a longer one as its beginning and a digest of the whole."""
    text = _unicode(text)
    encoded = text.encode()
    if len(encoded) <= LONG:
        return text
    return f"{text[:_KEPT]}… [{hashlib.blake2b(encoded, digest_size=16).hexdigest()}] {len(text)}"


def _unicode(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def label(value: Any) -> str | None:
    """Name the group of an instance by the value of a slice column: strings as they are, others as JSON."""
    return value if value is None or isinstance(value, str) else json.dumps(value, default=str)


def digest(value: Any) -> str:
    """Give a short digest of a value that JSON can hold."""
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode("utf-8", "backslashreplace"), digest_size=16).hexdigest()


def some(values: Column | Sequence[Any]) -> str:
    """Show the first of some values in a message."""
    first = values[:_EXAMPLES]
    shown: Iterable[Any] = first.to_pylist() if isinstance(first, pa.Array) else first
    return ", ".join(quote(value) if not isinstance(value, Shown) else value for value in shown) + (
        ", …" if len(values) > _EXAMPLES else ""
    )


class Shown(str):
    """A text that a message shows as it is, without quotes."""


def kind_of(kind: pa.DataType) -> str:
    """Say in words what a column of answers or ids holds."""
    return "strings" if pa.types.is_string(kind) else "integers"
