"""Data sets of classifiers, encoded for two models at once, each by its own tokenizer.

Texts become `input_ids` and whatever else the new model takes, and, where the old model's tokenizer is another one,
the same for the old model under names with `old_` before them. The label of an instance is that of its text; in token
classification it is that of a word, and stands at the word's first token, `old_positions` saying which token that is
for the old model.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from datasets import ClassLabel, Dataset, IterableDataset
from transformers import PreTrainedTokenizerBase

from ..errors import ConfigurationError, InputError, ModelMismatchError
from ..losses.logits import IGNORE_INDEX
from ..training.rows.ids import refuse_wrong_row
from ..training.rows.tokens import is_weight
from .labels import LabelReader
from .models import TOKEN

logger = logging.getLogger(__name__)

OLD = "old_"
# What the encoder adds to what models take.
ROW = "_row"
# Whether a row is one of unlabelled_dataset, and what stands in place of a class that nobody knows.
UNLABELLED, UNANSWERED = "unlabelled", -1
OWN_COLUMNS = ("old_positions", "weights", UNLABELLED, ROW)
# Rows of a stream that are looked at for a label: it is not read to its end.
_STREAM_ROWS = 100
_PAIRS = {
    "text": "text_pair",
    "sentence1": "sentence2",
    "premise": "hypothesis",
    "question": "sentence",
    "question1": "question2",
}
_TEXTS = ("text", "sentence")
_WORDS = ("tokens", "words")
_LABELS = ("labels", "label")
_WORD_LABELS = (*_LABELS, "ner_tags", "pos_tags", "chunk_tags", "tags")
_CUT, _LOST = ("_cut_new", "_cut_old"), "_lost_words"


@dataclass(frozen=True)
class Side:
    """One of the two models, as far as encoding goes."""

    role: str  # "new" or "old"
    tokenizer: PreTrainedTokenizerBase
    max_length: int | None  # longest input in tokens; None for any
    arguments: frozenset[str]  # names of what its forward takes
    embeddings: int | None = None  # tokens that it has embeddings for; None where they are no table

    def __post_init__(self) -> None:
        """Refuse a tokenizer that cannot pad."""
        if self.tokenizer.pad_token_id is None:
            raise ConfigurationError(
                f"The {self.role} model's tokenizer has no padding token, so texts of several lengths make no batch. "
                "Set tokenizer.pad_token, and pad_token_id of the model's config to the same."
            )

    @property
    def prefix(self) -> str:
        """What stands before the names of its columns."""
        return OLD if self.role == "old" else ""


@dataclass(frozen=True)
class Columns:
    """Names of columns, as the user gave them; None where the usual ones are looked for."""

    text: str | None = None  # texts, or lists of words
    pair: str | None = None  # second texts
    label: str | None = None  # gold classes
    weight: str | None = None  # None: no row has another weight than the others


def encodes_alike(new: Side, old: Side) -> bool:
    """Tell whether two models read a text from the same ids, so that it need not be encoded twice."""
    first, second = new.tokenizer, old.tokenizer
    inputs = [(side.max_length, side.arguments & set(side.tokenizer.model_input_names)) for side in (new, old)]
    if inputs[0] != inputs[1]:
        return False
    return first is second or _behaviour(first) == _behaviour(second)


def _behaviour(tokenizer: PreTrainedTokenizerBase) -> Any:
    if not tokenizer.is_fast:
        return object()  # whether two slow tokenizers do the same cannot be read off them
    # Written anew with neither truncation nor padding: both are only what the last call happened to set.
    backend = type(tokenizer.backend_tokenizer).from_str(tokenizer.backend_tokenizer.to_str())
    backend.no_truncation()
    backend.no_padding()
    padding = tokenizer.pad_token_id, tokenizer.pad_token_type_id, tokenizer.padding_side
    return backend.to_str(), padding, tokenizer.truncation_side


class ClassifierEncoder:
    """Encodes data sets for the new and, where it reads other ids, the old model; `task` is "sequence" or "token"."""

    def __init__(self, task: str, new: Side, old: Side | None, classes: tuple[str, ...], columns: Columns) -> None:
        """Keep what encoding needs."""
        self.task, self.new, self.old, self.classes, self.columns = task, new, old, classes, columns
        for side in self._sides:
            if task == TOKEN and not side.tokenizer.is_fast:
                raise ConfigurationError(
                    f"The {side.role} model's tokenizer does not tell which token belongs to which word. Token "
                    "classification needs a fast tokenizer (AutoTokenizer.from_pretrained(..., use_fast=True))."
                )

    @property
    def _sides(self) -> tuple[Side, ...]:
        return (self.new,) if self.old is None else (self.new, self.old)

    def __call__(self, dataset: Dataset | IterableDataset, name: str) -> Dataset | IterableDataset:
        """Return the data set encoded for [`ClassifierCollator`], and warn of what truncation took away.

        It has texts or words and labels; or `input_ids` (and, where the old model reads other ids, `old_input_ids`)
        and labels. `name` is "train" or "eval"; weights are taken along for "train". A set named "test" may lack
        labels, which are then -100; one named "unlabelled", too: they are then `UNANSWERED`, and else the old model's.
        """
        if not isinstance(dataset, Dataset | IterableDataset):
            raise InputError(f"The {name} set is a {type(dataset).__name__}; a datasets.Dataset is needed.")
        columns = dataset.column_names or list(next(iter(dataset), {}))
        if ROW in columns:
            return dataset  # encoded here before
        job = _Job(self, dataset, columns, name)
        options = {"batched": True, "with_indices": True, "remove_columns": columns}
        if isinstance(dataset, IterableDataset):
            return dataset.map(job, **options).remove_columns([*_CUT, _LOST])
        encoded = dataset.map(job, desc=f"Encoding the {name} set", **options)
        if "weights" in encoded.column_names and not any(encoded["weights"]):
            raise InputError(f"Every weight in {self.columns.weight!r} is 0, so that nothing would be learned.")
        self._warn(encoded, name)
        return encoded.remove_columns([*_CUT, _LOST])

    def _warn(self, encoded: Dataset, name: str) -> None:
        for side, column in zip((self.new, self.old), _CUT, strict=True):
            cut = sum(encoded[column])
            if side is not None and cut:
                logger.warning(
                    f"{cut} of {len(encoded)} rows of the {name} set are longer than the {side.max_length} tokens of "
                    f"the {side.role} model and lose their ends. Raise max_length if the model can take more."
                )
        lost = sum(encoded[_LOST])
        if lost:
            logger.warning(
                f"{lost} labelled words of the {name} set have no token left on one side or the other: they are "
                "neither trained on nor measured."
            )


def encoded(encoder: ClassifierEncoder, dataset: Any, name: str) -> Any:
    """Encode a data set, or several by name, and refuse one without a label to learn from or to measure."""
    if isinstance(dataset, dict):
        return {key: encoded(encoder, part, name) for key, part in dataset.items()}
    rows = encoder(dataset, name)
    if name != "test" and next(labelled_rows(rows), None) is None:
        raise InputError(
            f"The {name} set has no label to learn from or to measure: every one that was looked at is -100, or "
            "lost to truncation. Check the labels, and raise max_length if texts are cut off."
        )
    return rows


def labelled_rows(dataset: Any) -> Iterator[dict[str, Any]]:
    """Go through the encoded rows with a label to learn from; of a stream, those among the first rows."""
    for row in islice(dataset, _STREAM_ROWS if isinstance(dataset, IterableDataset) else None):
        labels = row["labels"]
        if any(label != IGNORE_INDEX for label in (labels if isinstance(labels, list) else [labels])):
            yield row


class _Job:
    """The encoding of one data set: which column is what, and one batch of rows."""

    def __init__(self, encoder: ClassifierEncoder, dataset: Any, columns: list[str], name: str) -> None:
        self.encoder, self.columns, self.name = encoder, columns, name
        named = encoder.columns
        self.streams, self.has_warned = isinstance(dataset, IterableDataset), False
        self.is_encoded = "input_ids" in columns and named.text is None
        if not self.is_encoded:
            self.text, self.pair = self._text_columns(named)
        known = _WORD_LABELS if encoder.task == TOKEN else _LABELS
        # What is only to be predicted need not be labelled.
        may_lack_labels = name in ("test", UNLABELLED)
        is_labelled = not may_lack_labels or named.label in columns or any(column in columns for column in known)
        self.without_label = UNANSWERED if name == UNLABELLED else IGNORE_INDEX
        what = "the old model's classes" if name == UNLABELLED else "gold classes"
        self.label = self._one_of(named.label, known, "label_column", what) if is_labelled else None
        self.weight = named.weight if name == "train" else None
        if self.weight is not None and self.weight not in columns:
            raise InputError(f"weight_column={self.weight!r} is no column of the train set; it has {columns}.")
        feature = (dataset.features or {}).get(self.label or "")
        feature = getattr(feature, "feature", feature)
        names = feature.names if isinstance(feature, ClassLabel) else None
        role = "old" if name == UNLABELLED else "new"
        self.read_label = LabelReader(encoder.classes, names, dataset=name, role=role)

    def _text_columns(self, named: Columns) -> tuple[str, str | None]:
        if self.encoder.task == TOKEN:
            return self._one_of(named.text, _WORDS, "text_column", "lists of words"), None
        pairs = {first: second for first, second in _PAIRS.items() if first in self.columns and second in self.columns}
        taken = set(pairs.values())
        known = [column for column in dict.fromkeys([*pairs, *_TEXTS]) if column not in taken]
        text = self._one_of(named.text, known, "text_column", "texts")
        if named.pair is not None:
            return text, self._one_of(named.pair, (), "text_pair_column", "second texts")
        return text, pairs.get(text) if named.text is None else None

    def _one_of(self, named: str | None, known: Sequence[str], option: str, what: str) -> str:
        columns = [named] if named is not None else [column for column in known if column in self.columns]
        if len(columns) != 1 or columns[0] not in self.columns:
            said = f"{option}={named!r} is none of them" if named else f"found were {columns or 'none'}"
            raise InputError(
                f"The {self.name} set needs one column with {what}; it has the columns {self.columns}, and {said}. "
                f"Give {option}, the name of that column."
            )
        return columns[0]

    def __call__(self, batch: dict[str, list[Any]], rows: list[int]) -> dict[str, list[Any]]:
        """Encode some rows."""
        if self.is_encoded:
            result = self._take_encoded(batch, rows)
        elif self.encoder.task == TOKEN:
            result = self._encode_words(batch, rows)
        else:
            result = self._encode_texts(batch, rows)
        if self.weight is not None:
            result["weights"] = [self._weight(value, row) for value, row in zip(batch[self.weight], rows, strict=True)]
        for column in (*_CUT, _LOST):
            result.setdefault(column, [0] * len(rows))
        if self.streams and not self.has_warned and any(sum(result[column]) for column in (*_CUT, _LOST)):
            self.has_warned = True
            logger.warning(
                f"The {self.name} set, a stream, has rows that are longer than a model takes; they lose their ends. "
                "How many is not counted."
            )
        return result | {ROW: rows}

    def _weight(self, value: Any, row: int) -> float:
        if not is_weight(value):
            raise InputError(f"Row {row} of the train set has the weight {value!r}; give a number of 0 or more.")
        return float(value)

    def _labels(self, batch: dict[str, list[Any]], rows: list[int]) -> list[int]:
        if self.label is None:
            return [self.without_label] * len(rows)
        return [self.read_label(label, row=row) for label, row in zip(batch[self.label], rows, strict=True)]

    def _word_labels(self, batch: dict[str, list[Any]], rows: list[int], column: str) -> list[list[int]]:
        if self.label is None:
            return [[self.without_label] * len(items) for items in batch[column]]
        all_labels = []
        for items, labels, row in zip(batch[column], batch[self.label], rows, strict=True):
            if not isinstance(labels, list) or len(labels) != len(items):
                count = len(labels) if isinstance(labels, list) else repr(labels)
                raise InputError(
                    f"Row {row} of the {self.name} set has {len(items)} items in {column!r} and {count} labels in "
                    f"{self.label!r}; each needs one, -100 for what is not trained on."
                )
            all_labels.append([self.read_label(label, row=row) for label in labels])
        return all_labels

    def _take_encoded(self, batch: dict[str, list[Any]], rows: list[int]) -> dict[str, list[Any]]:
        encoder = self.encoder
        result: dict[str, list[Any]] = {}
        for side in encoder._sides:
            needed = [f"{side.prefix}input_ids"]
            needed += ["old_positions"] if side.prefix and encoder.task == TOKEN else []
            missing = [column for column in needed if column not in batch]
            if missing:
                raise ModelMismatchError(
                    f"The {self.name} set is tokenised already, and the old model reads other token ids than the new "
                    f"one: {missing} are missing. Pass a data set of texts, which is then encoded for both models."
                )
            taken = side.arguments - {"labels"}
            wanted = [name for name in batch if name.removeprefix(side.prefix) in taken]
            result |= {name: batch[name] for name in wanted if name.startswith(side.prefix)}
            for ids, row in zip(batch[f"{side.prefix}input_ids"], rows, strict=True):
                what = f"Row {row} of the {self.name} set"
                refuse_wrong_row(ids, side.embeddings, f"{side.prefix}input_ids", what, role=side.role)
                if side.max_length is not None and len(ids) > side.max_length:
                    raise InputError(
                        f"{what} has {len(ids)} tokens, more than the {side.max_length} of "
                        f"the {side.role} model. Tokenise with truncation=True, or pass a data set of texts."
                    )
        if encoder.old is not None and encoder.task == TOKEN:
            result["old_positions"] = batch["old_positions"]
        if encoder.task == TOKEN:
            return result | {"labels": self._word_labels(batch, rows, "input_ids")}
        return result | {"labels": self._labels(batch, rows)}

    def _encode_texts(self, batch: dict[str, list[Any]], rows: list[int]) -> dict[str, list[Any]]:
        columns = [batch[column] for column in (self.text, self.pair) if column is not None]
        for texts in columns:
            for text, row in zip(texts, rows, strict=True):
                if not isinstance(text, str):
                    raise InputError(f"Row {row} of the {self.name} set has {text!r} in place of a text.")
        result: dict[str, list[Any]] = {"labels": self._labels(batch, rows)}
        for side, cut in zip(self.encoder._sides, _CUT, strict=False):
            encoding, result[cut] = _encode(side, columns)
            result |= _columns(side, encoding)
        return result

    def _encode_words(self, batch: dict[str, list[Any]], rows: list[int]) -> dict[str, list[Any]]:
        for words, row in zip(batch[self.text], rows, strict=True):
            if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
                raise InputError(f"Row {row} of the {self.name} set has {words!r} in place of a list of words.")
        labels = self._word_labels(batch, rows, self.text)
        result: dict[str, list[Any]] = {}
        places = []
        for side, cut in zip(self.encoder._sides, _CUT, strict=False):
            encoding, result[cut] = _encode(side, [batch[self.text]], is_split_into_words=True)
            result |= _columns(side, encoding)
            places.append([_first_tokens(encoding["word_ids"][index]) for index in range(len(rows))])
        result["labels"], positions, result[_LOST] = [], [], []
        for index, of_words in enumerate(labels):
            of_tokens = [IGNORE_INDEX] * len(result["input_ids"][index])
            old_positions, lost = [0] * len(of_tokens), 0
            new, old = places[0][index], places[-1][index]
            for word, label in enumerate(of_words):
                if label == IGNORE_INDEX:
                    continue
                if word in new and word in old:
                    of_tokens[new[word]], old_positions[new[word]] = label, old[word]
                else:
                    lost += 1
            result["labels"].append(of_tokens)
            positions.append(old_positions)
            result[_LOST].append(lost)
        if self.encoder.old is not None:
            result["old_positions"] = positions
        return result


def _encode(side: Side, columns: list[list[Any]], **options: Any) -> tuple[dict[str, list[Any]], list[int]]:
    """Encode texts for one model, and say which of them had to be cut."""
    whole = side.tokenizer(*columns, verbose=False, **options)
    encoding = {name: list(values) for name, values in whole.items()}
    if options:
        encoding["word_ids"] = [whole.word_ids(index) for index in range(len(columns[0]))]
    limit = side.max_length
    cut = [int(limit is not None and len(ids) > limit) for ids in whole["input_ids"]]
    for index, is_cut in enumerate(cut):
        if is_cut:
            texts = [[column[index]] for column in columns]
            short = side.tokenizer(*texts, truncation=True, max_length=limit, **options)
            for name, values in short.items():
                encoding[name][index] = values[0]
            if options:
                encoding["word_ids"][index] = short.word_ids(0)
    return encoding, cut


def _columns(side: Side, encoding: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return {f"{side.prefix}{name}": values for name, values in encoding.items() if name in side.arguments}


def _first_tokens(word_ids: list[int | None]) -> dict[int, int]:
    first: dict[int, int] = {}
    for position, word in enumerate(word_ids):
        if word is not None:
            first.setdefault(word, position)
    return first
