"""Runs of HELM: `per_instance_stats.json`, with the instances and predictions that lie beside it.

Each class of metrics appends a list of its own, so that an instance stands as often as there are classes, and once for
each trial (`train_trial_index`: other examples in the prompt) and each perturbation of its text.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...text import listed, quote
from ..answers import TaskAnswers
from .format import About, Format, task_name
from .head import Head
from .inspect_ai import text_of
from .jsonlines import read_whole
from .records import Record, answers_of
from .whole_run import Declared, not_whole

# What is written of each request and says nothing of the answer; compared only when asked for.
_OF_THE_REQUEST = re.compile(
    r"(max_)?num_|(inference|training|denoised|request)_|batch_size$|finish_reason_|prompt_|estimated_|logprob$|"
    r"predicted_index$|max_prob$"
)
# As HELM's own schemas have it; others go by their name.
_LOWER = re.compile(
    r"(platt_)?ece_|bbq_metric_|bias_metric|toxic_|(expected_)?max_toxicity|logprob_per_byte|\w*error_rate|"
    r"absolute_value_difference|(chinese_)?([cmw]er|wip)_score|nsfw_|(inference|training|denoised)_"
)
_NEEDED = "a file of a run of HELM"


@dataclass
class _Answer:
    """What all lists of the file say of one instance in one trial."""

    id: str
    perturbation: str
    trial: int
    split: str | None = None
    stats: dict[str, Any] = field(default_factory=dict)


def read_run(head: Head, task: str, *, metric: str | None, slices: Sequence[str]) -> list[TaskAnswers]:
    """Read one run; trials become sampled answers, and perturbed instances are left out."""
    folder, source = head.path.parent, head.source
    kept, notes = _chosen(_answers(head), head)
    states = _states(folder)
    instances = {_key(row): row for row in _beside(folder, "instances.json", list) or map(_instance, states)}
    predictions = {
        (*_key(row, "instance_id"), row["train_trial_index"]): row
        for row in _beside(folder, "display_predictions.json", list) or map(_prediction, states)
    }

    def records() -> Iterator[Record]:
        for answer in kept:
            key = (answer.id, answer.perturbation)
            yield _record(answer, instances.get(key, {}), predictions.get((*key, answer.trial), {}), metric)

    made = answers_of(records, task, source, metric=metric, slices=slices, notes=notes)
    if _LOWER.match(made.metric):
        made = replace(made, higher_is_better=False)
    return [replace(made, not_whole=not_whole(made, _declared(head, made.metric)))]


def about(head: Head) -> About:
    """Say which scenario and model a run is of: by its `run_spec.json`, or by the name of its folder."""
    folder = head.path.absolute().parent
    spec = _beside(folder, "run_spec.json", dict)
    name = spec.get("name")
    if not isinstance(name, str):
        # HELM's own names are scenario:argument=value,…
        name = folder.name if "=" in folder.name else ""
    scenario, _, arguments = name.partition(":")
    parts = arguments.split(",") if arguments else []
    # Two models' runs of one scenario differ in these alone.
    others = [part for part in parts if not re.match(r"model(_deployment)?=", part)]
    named = next((part.partition("=")[2] for part in parts if part.startswith("model=")), "")
    adapter = spec.get("adapter_spec")
    model = adapter.get("model") if isinstance(adapter, dict) else None
    task = f"{scenario}:{','.join(others)}" if others else scenario
    return About(task or task_name(head.path), str(model or named))


def _answers(head: Head) -> list[_Answer]:
    answers: dict[tuple[str, str, int], _Answer] = {}
    for _, row in head.objects(_NEEDED):
        key = (row["instance_id"], _perturbation(row), row.get("train_trial_index", 0))
        answer = answers.setdefault(key, _Answer(*key))
        for stat in row["stats"]:
            name, value = stat["name"]["name"], _value(stat)
            before = answer.stats.setdefault(name, value)
            if before != value:
                # Two classes disagree: then it is no one number.
                answer.stats[name] = [before, value]
            answer.split = stat["name"].get("split", answer.split)
    return list(answers.values())


def _value(stat: Mapping[str, Any]) -> Any:
    """Give the mean of a statistic; None where nothing went into it."""
    if "mean" in stat or not stat["count"]:
        return stat.get("mean")
    return stat["sum"] / stat["count"]


def _chosen(answers: Sequence[_Answer], head: Head) -> tuple[list[_Answer], list[str]]:
    """Keep the instances that no perturbation changed, or those of the perturbation and split that are asked for."""
    notes: list[str] = []
    kept = list(answers)
    splits = Counter(answer.split or "none" for answer in kept if not answer.perturbation)
    if "split" in head.where:
        kept = _with(kept, "split", head)
    elif len(splits) > 1:
        told = listed(f"{count:,} of {split}" for split, count in sorted(splits.items()))
        notes.append(f"answers of several splits are compared together: {told} (@split=NAME chooses one)")
    there = dict.fromkeys(answer.perturbation for answer in kept)
    if "perturbation" in head.where or (len(there) > 1 and "" not in there):
        return _with(kept, "perturbation", head), notes
    if len(there) > 1:
        plain = [answer for answer in kept if not answer.perturbation]
        others = listed(name for name in there if name)
        notes.append(
            f"{len(kept) - len(plain):,} answers to perturbed instances left out (@perturbation=NAME: {others})"
        )
        kept = plain
    return kept, notes


def _with(answers: Sequence[_Answer], name: str, head: Head) -> list[_Answer]:
    """Keep the answers of the split or perturbation that is chosen behind the path."""
    kept = [answer for answer in answers if (getattr(answer, name) or "") == head.where.get(name)]
    if not kept:
        there = dict.fromkeys(getattr(answer, name) or "" for answer in answers)
        raise InputError(
            f"{head.source}: choose one {name} behind the path, @{name}=NAME, of {listed(map(quote, there))}."
        )
    return kept


def _key(row: Mapping[str, Any], name: str = "id") -> tuple[str, str]:
    return row[name], _perturbation(row)


def _perturbation(row: Mapping[str, Any]) -> str:
    perturbation = row.get("perturbation") or {}
    seed = perturbation.get("seed")
    return str(perturbation.get("name", "")) + (f", seed {seed}" if seed is not None else "")


def _record(answer: _Answer, instance: Mapping[str, Any], prediction: Mapping[str, Any], metric: str | None) -> Record:
    right = [answer["output"]["text"] for answer in instance.get("references") or () if "correct" in answer["tags"]]
    asked = instance.get("input") or {}
    scores = {name: value for name, value in answer.stats.items() if name == metric or not _OF_THE_REQUEST.match(name)}
    said = prediction.get("truncated_predicted_text") or prediction.get("predicted_text")
    return Record(
        id=answer.id,
        scores=scores,
        answer=prediction.get("mapped_output") or said,
        reference=right or None,
        question=asked.get("text") or text_of(asked.get("messages") or "") or None,
        output=said,
        sample=answer.trial,
        fields={
            "split": answer.split or instance.get("split"),
            "sub_split": instance.get("sub_split"),
            **(instance.get("extra_data") or {}),
        },
    )


def _states(folder: Path) -> list[Mapping[str, Any]]:
    """Read the requests of a run for which `helm-summarize` has not made the files that its pages show."""
    if (folder / "instances.json").is_file() and (folder / "display_predictions.json").is_file():
        return []
    return list(_beside(folder, "scenario_state.json", dict).get("request_states") or ())


def _instance(state: Mapping[str, Any]) -> Mapping[str, Any]:
    instance: Mapping[str, Any] = state["instance"]
    return instance


def _prediction(state: Mapping[str, Any]) -> Mapping[str, Any]:
    completions = (state.get("result") or {}).get("completions") or ()
    # Where each choice was a request of its own, none of them is the answer.
    text = completions[0]["text"] if completions and state.get("reference_index") is None else None
    return {
        "instance_id": state["instance"]["id"],
        "perturbation": state["instance"].get("perturbation"),
        "train_trial_index": state["train_trial_index"],
        "predicted_text": text,
        "mapped_output": (state.get("output_mapping") or {}).get((text or "").strip()),
    }


def _declared(head: Head, metric: str) -> Declared:
    """Read what the run says of itself: how many instances there were, and the mean of a metric over all of them."""
    if "perturbation" in head.where:
        return Declared()  # its figures are of several kinds there
    folder, split = head.path.parent, head.where.get("split")
    stats = [
        (stat["name"], stat.get("mean"))
        for stat in _beside(folder, "stats.json", list)
        if not stat["name"].get("perturbation")
        and not stat["name"].get("sub_split")
        and split in (None, stat["name"].get("split"))
    ]
    counts = [mean for name, mean in stats if name["name"] == "num_instances" and mean is not None]
    means = [mean for name, mean in stats if name["name"] == metric and mean is not None]
    return Declared(
        source=str(folder / "stats.json"),
        counts=(round(sum(counts)),) if counts else (),
        # Of several splits, none has the mean of all.
        scores={metric: float(means[0])} if len(means) == 1 else {},
    )


def _beside(folder: Path, name: str, kind: type[Any]) -> Any:
    """Read another file of the run; what is not there, or of another kind, is empty."""
    file = folder / name
    value = read_whole(file, _NEEDED) if file.is_file() else None
    return value if isinstance(value, kind) else kind()


HELM = Format(
    program="HELM",
    holds="statistics of instances",
    recognises=lambda head: head.layout == "array" and {"instance_id", "stats"} <= head.keys,
    read=read_run,
    files=("per_instance_stats.json",),
    about=about,
    choices=("perturbation", "split"),
)
