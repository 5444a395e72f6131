"""Logs of inspect_ai: a sample for each instance and epoch, with the scores of one or more scorers.

A score is a letter (C, I, P, N), a truth value, a number, or several of these by name. Letters and words are made
numbers as inspect_ai's own metrics do it (`value_to_float`).
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ...errors import InputError
from ...text import one_line, quote
from ..answers import TaskAnswers
from .format import About, Format, task_name
from .head import Head
from .inspect_log import Log, is_log, open_log, read_header
from .jsonlines import object_in
from .records import Record, answers_of
from .whole_run import Declared, not_whole

FILE = re.compile(r"(?P<date>\d{4}-\d\d-\d\dT[\d+-]+)_(?P<task>.+)_[^_]+\.(eval|json)")
"""The name that inspect_ai gives a log."""

_NUMBERS = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0}
_WORDS = {"yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
_SAID = ("role", "type", "content", "text", "image")
_ENDED = {"started": "is still running, or was killed", "error": "ended with an error", "cancelled": "was cancelled"}


def read_log(head: Head, task: str, *, metric: str | None, slices: Sequence[str]) -> list[TaskAnswers]:
    """Read the log of one run of a task; several epochs are sampled answers."""
    log, source = open_log(head), str(head.path)
    tally: Counter[str] = Counter()

    def records() -> Iterator[Record]:
        tally.clear()
        for sample in log.samples():
            tally.update(samples=1, errors=bool(sample.get("error")), scored=bool(_scores(sample, log)))
            yield _record(sample, log, metric)
        ended = _ended(log.header)
        if not tally["samples"]:
            raise InputError(f"{source} holds no samples; its run {ended or 'did not log them (--no-log-samples)'}.")
        if not tally["scored"]:
            why = ended or "did not score them (--no-score); `inspect score` does"
            raise InputError(f"{source} holds {tally['samples']} samples without a score; its run {why}.")

    named = _task(log.header) or task
    made = answers_of(records, named, source, metric=metric, slices=slices)
    notes = tuple(f"{named}: {note}" for note in _notes(log, tally))
    return [replace(made, notes=made.notes + notes, not_whole=_not_whole(log.header, tally["samples"], made))]


def about(head: Head) -> About:
    """Say which task, model and date a log is of."""
    try:
        run = object_in(read_header(head), "eval")
    except InputError:  # told when it is read: in a folder that costs no more than its task
        named = FILE.match(head.path.name)
        return About(named["task"] if named else task_name(head.path), date=named["date"] if named else "")
    return About(
        _task({"eval": run}) or task_name(head.path), str(run.get("model") or ""), str(run.get("created") or "")
    )


def _task(header: Mapping[str, Any]) -> str:
    """Name the task as later versions do: earlier ones put its package before it."""
    return str(object_in(header, "eval").get("task") or "").rpartition("/")[2]


def score_of(value: Any) -> Any:
    """Make a number of a score, as inspect_ai does: None where nothing was scored; what is no number stays."""
    if isinstance(value, str):
        number = _NUMBERS.get(value, _WORDS.get(value.lower()))
        try:
            number = float(value) if number is None else number
        except ValueError:
            return value
        return number if math.isfinite(number) else value
    return None if isinstance(value, float) and math.isnan(value) else value


def scores_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """Make numbers of what each scorer gave; of several by name one each, "scorer/name"."""
    made: dict[str, Any] = {}
    for name, value in values.items():
        parts = {f"{name}/{key}": part for key, part in value.items()} if isinstance(value, dict) else {name: value}
        made |= {key: score_of(part) for key, part in parts.items()}
    return made


def text_of(content: Any) -> str:
    """Give the text of a prompt or answer: of messages one after the other, of parts those that are texts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n\n".join(filter(None, map(text_of, content)))
    return text_of(content.get("content") or content.get("text") or "") if isinstance(content, dict) else ""


def _record(sample: Mapping[str, Any], log: Log, metric: str | None) -> Record:
    scores = _scores(sample, log)
    scorer = next((name for name in scores if metric in (name, None) or str(metric).startswith(f"{name}/")), None)
    answer = scores[scorer].get("answer") if scorer is not None else None
    said = object_in(sample, "output")
    choices = said.get("choices") or [{}]
    return Record(
        id=sample["id"],
        scores=scores_of({name: score["value"] for name, score in scores.items()}),
        answer=answer if isinstance(answer, str) else None,
        # A list, since it is the scorer that knows when an answer is a right one.
        reference=sample["target"] if isinstance(sample.get("target"), list) else [sample.get("target")],
        question=text_of(sample["input"]),
        # Messages have ids that differ from run to run.
        document=[_plain(sample["input"]), sample.get("choices")],
        output=text_of(choices[0].get("message")) or text_of(said.get("completion")),
        sample=sample.get("epoch", 1),
        fields=object_in(sample, "metadata"),
    )


def _scores(sample: Mapping[str, Any], log: Log) -> Mapping[str, Any]:
    """Give the scores by scorer; the first versions kept one alone, whose name stands in the results."""
    if sample.get("score") is not None:
        results = object_in(log.header, "results")
        first = results.get("scorer") or next(iter(results.get("scores") or ()), None) or {}
        return {str(first.get("name") or "score"): sample["score"]}
    return sample.get("scores") or {}


def _plain(content: Any) -> Any:
    """Leave of messages what was said by whom."""
    if isinstance(content, list):
        return [_plain(item) for item in content]
    if isinstance(content, dict):
        return {
            name: _plain(content[name]) for name in ("role", "type", "content", "text", "image") if name in content
        }
    return content


def _notes(log: Log, tally: Counter[str]) -> list[str]:
    notes = []
    if tally["errors"]:
        notes.append(f"{tally['errors']} of {tally['samples']} samples ended with an error")
    reducer = next(iter(object_in(object_in(log.header, "eval"), "config").get("epochs_reducer") or ()), "mean")
    if reducer != "mean":
        notes.append(f"inspect_ai takes {quote(reducer)} of the epochs of a sample; here it counts by their mean")
    return notes


def _ended(header: Mapping[str, Any]) -> str | None:
    """Say how a run ended that did not end well."""
    status = header.get("status", "success")
    if status == "success":
        return None
    why = object_in(header, "error").get("message")
    return f"{_ENDED.get(status, f'is {quote(status)}')}{f' ({one_line(why)})' if why else ''}"


def _not_whole(header: Mapping[str, Any], count: int, made: TaskAnswers) -> str | None:
    """Say why these are not all samples of the run; None where nothing says so."""
    source = made.source
    if ended := _ended(header):
        return f"{source} holds {count} samples of a run that {ended}."
    if header.get("invalidated"):
        return f"{source} holds samples that were marked as invalid after the run."
    planned = _planned(header)
    if planned is not None and planned != count:
        return f"{source} holds {count} samples, but its header says that {planned} were evaluated: was it changed?"
    return not_whole(made, Declared(source="its header", scores=_means(header, made.metric)))


def _means(header: Mapping[str, Any], metric: str) -> dict[str, float]:
    """Give the mean of a metric over the samples, where the log says it and no option made it another figure."""
    for score in object_in(header, "results").get("scores") or ():
        names = (score.get("name"), f"{score.get('scorer')}/{score.get('name')}")
        if metric in names and score.get("reducer") in (None, "mean"):
            for name in ("accuracy", "mean"):
                said = object_in(object_in(score, "metrics"), name)
                if said and not (said.get("params") or said.get("options")):
                    return {metric: float(said["value"])}
    return {}


def _planned(header: Mapping[str, Any]) -> int | None:
    """Give the number of samples times epochs of a run, where the log says it."""
    results, run = object_in(header, "results"), object_in(header, "eval")
    dataset, config = object_in(run, "dataset"), object_in(run, "config")
    if results.get("early_stopping"):
        return None
    if results.get("total_samples"):
        return int(results["total_samples"])
    epochs = config.get("epochs") or 1
    if dataset.get("sample_ids"):
        return len(dataset["sample_ids"]) * int(epochs)
    chosen = config.get("limit") is not None or config.get("sample_id") is not None
    return None if chosen or not dataset.get("samples") else int(dataset["samples"]) * int(epochs)


INSPECT_AI = Format(
    program="inspect_ai",
    holds="a log",
    recognises=is_log,
    read=read_log,
    files=("*.eval", "*.json"),
    about=about,
)
