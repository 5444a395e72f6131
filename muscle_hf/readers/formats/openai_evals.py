"""Records of openai/evals: a line for the specification, one for each event of a sample, one for the final report.

Which events a sample has depends on its eval: `match` (right or wrong, and what was picked), `metrics` (numbers by
name), `sampling` (what was asked and generated), and others.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from ...errors import InputError
from ...text import listed, quote
from ..answers import TaskAnswers, digest
from .format import About, Format, task_name
from .head import Head
from .inspect_ai import text_of
from .records import Record, answers_of
from .whole_run import Declared, not_whole

_NEEDED = "one event of openai/evals a line"
_EVENT = {"run_id", "event_id", "sample_id", "type", "data"}
# What `match` events say is called so; what `metrics` events say has names of its own.
_MATCH = "match"


@dataclass
class _Sample:
    """What the events of one sample say, in their order."""

    scores: dict[str, list[Any]] = field(default_factory=dict)
    """Metric -> its values: several where the sample was asked several things, or several times."""
    matches: list[Mapping[str, Any]] = field(default_factory=list)
    choices: list[str] = field(default_factory=list)
    prompt: Any = None
    sampled: Any = None


def read_records(head: Head, task: str, *, metric: str | None, slices: Sequence[str]) -> list[TaskAnswers]:
    """Read the record of one eval; several values of one metric for a sample are sampled answers to it."""
    source = str(head.path)
    samples, report = _read(head)
    names = dict.fromkeys(name for sample in samples.values() for name in sample.scores)
    chosen = metric if metric in names else _MATCH if _MATCH in names and metric is None else None

    def records() -> Iterator[Record]:
        for key, sample in samples.items():
            yield from _records(key, sample, chosen)

    made = answers_of(records, task, source, metric=metric, slices=slices)
    notes = [] if report is not None else ["there is no final report, so nothing says whether the run ended"]
    prompts = [samples[key].prompt for key in made.ids.to_pylist()]
    if None not in prompts:
        made = replace(made, prompts=pa.array(map(digest, prompts), pa.string()))
    return [
        replace(
            made,
            notes=(*made.notes, *(f"{task}: {note}" for note in notes)),
            not_whole=not_whole(made, Declared(source="its final report", scores=_means(report or {}, made))),
        )
    ]


def about(head: Head) -> About:
    """Say which eval and model a record is of, as its specification has it."""
    spec = _spec(head)
    models = spec.get("completion_fns") or spec.get("model_names") or ""
    if isinstance(models, dict):  # as the first versions had it
        models = models.get("completions") or ""
    model = ", ".join(map(str, models)) if isinstance(models, list) else str(models)
    return About(str(spec.get("eval_name") or task_name(head.path)), model, str(spec.get("created_at") or ""))


def _spec(head: Head) -> Mapping[str, Any]:
    spec = (head.first or {}).get("spec")
    return spec if isinstance(spec, dict) else {}


def _read(head: Head) -> tuple[dict[str, _Sample], Mapping[str, Any] | None]:
    """Read the samples, and the final report if there is one; events of several runs are refused."""
    samples: dict[str, _Sample] = {}
    report: Mapping[str, Any] | None = None
    runs: dict[Any, None] = {}
    events: set[Any] = set()
    for where, row in head.objects(_NEEDED):
        if "spec" in row:
            runs[row["spec"].get("run_id")] = None
        elif "final_report" in row or row.get("type") == "final_report":
            said = row.get("final_report", row.get("data"))
            report = said if isinstance(said, dict) else {}
        else:
            runs[row.get("run_id")] = None
            number = row.get("event_id")
            if number is not None and number in events:
                raise InputError(f"{where}: event {quote(number)} stands twice; was the file written to twice?")
            events.add(number)
            if row["sample_id"] is not None:
                _add(samples.setdefault(row["sample_id"], _Sample()), row["type"], row["data"])
    known = [run for run in runs if run is not None]
    if len(known) > 1:
        names = listed(map(quote, known))
        raise InputError(f"{head.path} holds the events of {len(known)} runs ({names}); write each to a file.")
    if not samples:
        raise InputError(f"{head.path} holds no events of a sample; {_NEEDED} is needed.")
    return samples, report


def _add(sample: _Sample, kind: str, data: Mapping[str, Any]) -> None:
    if kind == _MATCH:
        sample.matches.append(data)
        sample.scores.setdefault(_MATCH, []).append(data["correct"])
    elif kind == "metrics":
        for name, value in data.items():
            sample.scores.setdefault(name, []).append(value)
        if isinstance(data.get("choice"), str):
            sample.choices.append(data["choice"])
    elif kind == "sampling" and sample.prompt is None:
        # The first is the model's own; later ones may be of a model that grades.
        sample.prompt, sample.sampled = data.get("prompt"), data.get("sampled")


def _records(key: str, sample: _Sample, metric: str | None) -> Iterator[Record]:
    """Give a record for each value of the metric that is compared; one without any where the sample has none."""
    count = max((len(values) for name, values in sample.scores.items() if metric in (None, name)), default=0)
    for place in range(max(count, 1)):
        match = sample.matches[place] if len(sample.matches) == count > 0 else {}
        yield Record(
            id=key,
            scores={name: values[place] for name, values in sample.scores.items() if len(values) == count},
            answer=_text(match.get("picked")) or (sample.choices[place] if len(sample.choices) == count > 0 else None),
            reference=match["expected"] if isinstance(match.get("expected"), list) else [match.get("expected")],
            question=text_of(sample.prompt) or None,
            # Prompts may differ between models; the number of a sample is what evals knows it by.
            document=key,
            output=_text(match.get("sampled")) or _text(sample.sampled),
            sample=place,
        )


def _text(value: Any) -> str | None:
    """Give a text, also one that stands alone in a list."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value if isinstance(value, str) else None


def _means(report: Mapping[str, Any], made: TaskAnswers) -> dict[str, float]:
    """Give what the final report says of the metric, where that is the mean over samples."""
    value = report.get("accuracy" if made.metric == _MATCH else made.metric)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    # Its mean is over events, of which a sample may have several.
    return {made.metric: float(value)} if value is not None and is_number and made.samples is None else {}


OPENAI_EVALS = Format(
    program="openai/evals",
    holds="a record",
    recognises=lambda head: head.layout == "lines" and (head.keys >= _EVENT or "eval_name" in _spec(head)),
    read=read_records,
    files=("*.jsonl",),
    about=about,
)
