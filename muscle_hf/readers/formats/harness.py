"""Logged samples of lm-evaluation-harness (`--log_samples`), versions 0.4.0 to 0.4.13.

What differs between versions: up to 0.4.2 a file is one JSON array, without hashes; up to 0.4.6 a line says
neither its filter nor its metrics. A task with several filters has a line for each document and filter.
"""

import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ...errors import InputError
from ...text import quote
from ..answers import Filter, Positions, TaskAnswers, Text, label
from ..digests import digest_column
from ..metric_names import higher_is_better, is_grade
from ..task_notes import choice_note
from .blocks import Blocks
from .harness_sample import (
    HASHES,
    NoFilterError,
    answer_of,
    arguments_of,
    canonical,
    choose_metric,
    contradicts,
    hash_of,
    is_probability_mass,
    number_of,
    output_of,
    text_of,
    two_choices,
)
from .jsonlines import read_array, read_at, read_objects
from .opening import opened
from .whole_run import Declared, not_whole

_NEEDED = "one sample of lm-evaluation-harness (--log_samples) a line"


def is_samples(row: Mapping[str, Any]) -> bool:
    """Tell whether an object is a logged sample."""
    return {"doc_id", "resps", "filtered_resps"} <= row.keys()


def is_array(path: Path) -> bool:
    """Tell whether a file is one JSON array, as versions up to 0.4.2 wrote."""
    with opened(path, _NEEDED) as file:
        return bool(file.read(64).lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"["))


def read_samples(
    path: Path,
    task: str,
    *,
    metric: str | None = None,
    filter: str | None = None,  # noqa: A002 - the harness's word
    slices: Sequence[str] = (),
    declared: Declared | None = None,
) -> TaskAnswers:
    """Read the logged samples of one task.

    Of multiple choice the answer is the number of the choice with the highest log-likelihood, for `acc_norm` and
    `acc_bytes` over the length of its text. Where that contradicts the logged score, as it may for tasks that choose
    otherwise, answers are not known, and a note says so. Without a metric the first that gives one number a sample is
    taken, without a filter the first of the file.
    """
    reader = _Reader(path, metric, filter, slices, declared or Declared())
    rows = (read_array if is_array(path) else read_objects)(path, _NEEDED, each_once=False)
    for number, start, length, row in rows:
        try:
            reader.add(f"{path}, line {number}", row, start, length)
        except KeyError as error:
            raise InputError(
                f"{path}, line {number} is no sample of lm-evaluation-harness: it has no field {error}."
            ) from None
        except (TypeError, IndexError, AttributeError, OverflowError) as error:
            raise InputError(f"{path}, line {number} is no sample of lm-evaluation-harness ({error}).") from None
    return reader.finish(task)


class _Reader:
    """Collects columns sample by sample; texts are left in the file."""

    def __init__(
        self, path: Path, metric: str | None, chosen: str | None, slices: Sequence[str], declared: Declared
    ) -> None:
        self.path, self.metric, self.chosen, self.declared = path, metric, chosen, declared
        self.asked = chosen is not None
        self.metrics: Sequence[str] = ()  # that could have been chosen; none where one was asked for
        self.grades = False
        self.named = True
        self.filters: dict[str, int] = {}
        self.seen: dict[Any, int] = {}
        self.scores = array("d")
        self.outputs: list[int | None] = []
        self.likelihoods = False
        self.places = (array("q"), array("q"))
        # Fields of the documents have a mark, because one may be called "answer" or "id".
        self.slices = {f"doc.{name}": name for name in slices}
        self.blocks = Blocks(("id", "answer", "choice.0", "choice.1", *HASHES, *self.slices))
        self.margins = array("d")
        self.columns: tuple[str, ...] = ()
        self.contradicted = 0

    def add(self, where: str, row: Mapping[str, Any], start: int, length: int) -> None:
        key, doc = row["doc_id"], row["doc"] if isinstance(row["doc"], Mapping) else {}
        if type(key) not in (int, str):
            raise InputError(f"{where}: doc_id is {quote(key)}; an integer or a string is needed.")
        if not self.filters:
            self.named = "filter" in row
            self.columns = tuple(name for name, value in doc.items() if not isinstance(value, list | dict))
        name = str(row["filter"]) if self.named else self._occurrence(key)
        self.filters[name] = self.filters.get(name, 0) + 1
        if self.chosen is None:
            self.chosen = name
        if name != self.chosen:
            return
        if self.metric is None or not self.scores:
            wanted = self.metric
            self.metric, metrics = choose_metric(where, row, wanted)
            self.metrics = metrics if wanted is None else ()
        score = number_of(row[self.metric])
        if score is None:
            raise InputError(f"{where}: metric {self.metric!r} is {quote(row[self.metric])}, not one number.")
        self.grades = self.grades or (self.metric == "acc" and is_probability_mass(row))
        answer, text_index = answer_of(row, self.metric, self.declared.delimiter)
        if text_index:
            self.contradicted += contradicts(row, answer, self.metric, score, self.declared.delimiter)
        choices = two_choices(row, self.metric, self.declared.delimiter) if text_index else None
        self.margins.append(math.nan if choices is None else choices[2])
        self.scores.append(score)
        output, self.likelihoods = output_of(where, row)
        self.outputs.append(output)
        self.places[0].append(start)
        self.places[1].append(length)
        values = {
            "id": key,
            "answer": answer,
            **dict(zip(("choice.0", "choice.1"), (None, None) if choices is None else choices[:2], strict=True)),
            "doc_hash": str(row["doc_hash"]) if "doc_hash" in row else hash_of(canonical(row["doc"])),
            "target_hash": str(row["target_hash"]) if "target_hash" in row else hash_of(row["target"]),
            "prompt_hash": str(row["prompt_hash"]) if "prompt_hash" in row else hash_of(arguments_of(row)[0][0]),
        }
        for name, field_name in self.slices.items():
            values[name] = label(doc.get(field_name))
        self.blocks.add(values)

    def _occurrence(self, doc_id: Any) -> str:
        """Name the filter of a sample that does not say it: all documents of one filter come before the next."""
        count = self.seen[doc_id] = self.seen.get(doc_id, 0) + 1
        names = list(self.declared.filters)
        return names[count - 1] if count <= len(names) else f"filter {count}"

    def _choices(self, columns: Mapping[str, pa.Array]) -> dict[str, Any]:
        """Give both choices where each sample has two, and how they compare where that is what was chosen by."""
        if self.contradicted or columns["choice.0"].null_count:
            return {}
        texts = {
            name: columns[f"choice.{place}"].cast(pa.string())
            for place, name in enumerate(("first_choices", "second_choices"))
        }
        return {**texts, "margins": np.array(self.margins)}

    def finish(self, task: str) -> TaskAnswers:
        if not self.filters:
            raise InputError(f"{self.path} is empty; {_NEEDED} is needed.")
        if not self.scores:
            raise NoFilterError(str(self.path), str(self.chosen), list(self.filters))
        if not self.named and (
            len(set(self.filters.values())) > 1 or len(self.filters) > len(self.declared.filters) > 0
        ):
            raise InputError(
                f"{self.path}: documents stand more than once ({', '.join(map(str, self.filters.values()))} of them "
                "once, twice, …) without being answers of as many filters. Was the file written to twice?"
            )
        metric = str(self.metric)
        by_name = higher_is_better(metric)
        notes, better = [], self.declared.higher_is_better.get(metric, by_name is not False)
        if self.metric == "perplexity" and max(self.scores) <= 0:
            # The harness turns log-likelihoods into a perplexity only when it takes their mean.
            notes.append(f"{task}: perplexity is logged as log-likelihoods, so higher is better")
            better = True
        elif self.metric not in self.declared.higher_is_better and by_name is None:
            notes.append(f"{task}: no results file says whether a higher {self.metric} is better; it counts as better")
        choices = choice_note("metric", metric, self.metrics) + choice_note("filter", str(self.chosen), self.filters)
        notes += [f"{task}: {note}" for note in choices]
        columns = self.blocks.columns()
        answers: pa.Array | None = columns["answer"]
        # An answer that is not known is none that two models could share.
        if self.contradicted or columns["answer"].null_count:
            answers = None
        delimiter, path = self.declared.delimiter, self.path
        starts, lengths = self.places

        def texts(positions: Positions) -> list[Text]:
            chosen = [(starts[position], lengths[position]) for position in positions.tolist()]
            return read_at(path, chosen, lambda row: text_of(row, metric, delimiter))

        answers_of_task = TaskAnswers(
            task=task,
            source=str(self.path),
            ids=columns["id"],
            answers=answers,
            scores=np.array(self.scores),
            metric=metric,
            higher_is_better=better,
            grades=self.grades or is_grade(metric, task),
            contradicted=self.contradicted,
            filter=Filter(
                str(self.chosen),
                tuple(self.filters),
                self.named or bool(self.declared.filters),
                self.asked,
                self.declared.filters.get(str(self.chosen)),
            ),
            documents=columns["doc_hash"],
            targets=columns["target_hash"],
            prompts=columns["prompt_hash"],
            outputs=digest_column(self.outputs),
            **self._choices(columns),
            likelihoods=self.likelihoods,
            slices={
                field_name: columns[name].cast(pa.string())
                for name, field_name in self.slices.items()
                if columns[name].null_count < len(columns[name])
            },
            columns=self.columns,
            texts=texts,
            notes=tuple(notes),
        )
        read = (str(self.path), *self.declared.files)
        return replace(answers_of_task, not_whole=not_whole(answers_of_task, self.declared), files=read)
