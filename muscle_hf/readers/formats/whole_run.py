"""Whether samples are all that a run scored: their number and their mean against what the run says itself."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeGuard

from ...files import refuse_pointer
from ..answers import TaskAnswers
from ..lighteval_names import is_same_task
from .jsonlines import object_in

# Early runs on the Hub have colons in the time.
DATE = r"\d{4}-\d{2}-\d{2}T\d{2}[-:]\d{2}[-:]\d{2}(?:\.\d+)?"
"""A date as both harnesses write it into the names of their files."""

# Figures are written in full; a person may round them to so many decimals.
_DECIMALS = (3, 4)
# What the harness takes the mean of where a task does not say it.
_MEANS = ("acc", "acc_norm", "acc_bytes", "acc_mutual_info", "exact_match")


@dataclass(frozen=True)
class Declared:
    """What the results file of a run says of one task; empty where there is none."""

    source: str = ""
    """The results file; empty where it is that of another run, which says nothing of these samples."""
    counts: tuple[int, ...] = ()
    """How many instances were scored: one of these, the surest first; none where it does not say."""
    may_be_chosen: bool = False
    """Whether instances may have been chosen one by one (`--samples`) without being counted."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """"metric,filter" -> the score of the task; only those that are means over its instances."""
    filters: Mapping[str, str | None] = field(default_factory=dict)
    """Filters in their order -> what each does, where that can be told; known only where the task is."""
    delimiter: str = " "
    higher_is_better: Mapping[str, bool] = field(default_factory=dict)
    """Metric -> whether a larger score is the better one."""
    files: tuple[str, ...] = ()
    """All results files that were looked into."""


def harness_says(results: Mapping[str, Any], task: str, source: str, *, of_this_run: bool) -> Declared:
    """Read what a results file of lm-evaluation-harness says of a task, and of the samples of its own run."""
    configs, directions = (results.get(name) or {} for name in ("configs", "higher_is_better"))
    if task not in configs:
        return Declared()
    config, metrics = configs[task], configs[task].get("metric_list") or ()
    better = {metric.get("metric"): metric.get("higher_is_better") for metric in metrics}
    better |= {name: value for name, value in (directions.get(task) or {}).items() if value is not None}
    # Without filters of its own, a task has one that does nothing, named "none".
    filters = {item["name"]: _does(item) for item in config.get("filter_list") or ()} or {"none": None}
    delimiter = config.get("target_delimiter")
    declared = Declared(
        filters=filters if of_this_run else dict.fromkeys(filters),
        delimiter=" " if delimiter is None else delimiter,
        higher_is_better={name: value for name, value in better.items() if isinstance(value, bool)},
    )
    if not of_this_run:
        return declared
    scores, counts = (object_in(object_in(results, name), task) for name in ("results", "n-samples"))
    means = {
        metric.get("metric")
        for metric in metrics
        if metric.get("aggregation", "mean" if metric.get("metric") in _MEANS else None) == "mean"
    }
    # `--samples` does not change "effective"; later versions also count what one of the metrics was taken from.
    sizes = (scores.get("sample_len"), counts.get("effective"))
    return replace(
        declared,
        source=source,
        counts=tuple(filter(_is_count, sizes)),
        may_be_chosen=not _is_count(sizes[0]),
        scores={
            name: float(value)
            for name, value in scores.items()
            if name.partition(",")[0] in means and isinstance(value, int | float) and math.isfinite(value)
        },
    )


def _does(item: Mapping[str, Any]) -> str | None:
    what = json.dumps(item.get("filter"), sort_keys=True, default=str)
    return None if " at 0x" in what else what  # a function with its address in memory, which says nothing


def lighteval_says(details: Path, task: str) -> Declared:
    """Read what lighteval says of a task in the results file of the same run; nothing where there is none.

    Details are `<out>/details/<model>/<date>/details_<task>_<date>.parquet`, results
    `<out>/results/<model>/results_<date> .json`.
    """
    date = re.search(rf"_({DATE})\.parquet$", details.name)
    if date is None:
        return Declared()
    name = f"results_{date[1]}.json"
    files = [details.parent / name, details.parent.parent / name]  # the second on the Hub
    for parent in details.absolute().parents:
        if parent.name == "details":
            model = details.absolute().parent.relative_to(parent)
            files.append(parent.parent / "results" / (model.parent if model.name == date[1] else model) / name)
    for file in filter(Path.is_file, files):
        refuse_pointer(file)
        try:
            results = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue  # nothing else is read of it
        for key, config in object_in(results, "config_tasks").items():
            # Some versions leave the number of few-shot examples out there.
            if is_same_task(key, task) or key == task.rpartition("|")[0]:
                count = config.get("effective_num_docs") if isinstance(config, Mapping) else None
                return Declared(source=str(file), counts=tuple(filter(_is_count, [count])), files=(str(file),))
    return Declared()


def not_whole(answers: TaskAnswers, declared: Declared) -> str | None:
    """Say why all the answers of a file are not what their run scored; None where nothing says so."""
    n = len(answers)
    said = declared.scores.get(f"{answers.metric},{answers.filter.name}" if answers.filter else answers.metric)
    mean = float(answers.scores.mean()) if answers.scores is not None and n else math.nan
    told = "" if said is None else f", with {answers.metric} {said:.4g} there and {mean:.4g} here"
    differs = said is not None and abs(mean - said) > _rounding(said) * max(1.0, abs(said))
    if declared.counts and n not in declared.counts:
        count = declared.counts[0]
        if n < count and declared.may_be_chosen and said is not None and not differs and _are_chosen(answers):
            return None
        cause = "cut off, or only partly copied" if n < count else "written to twice"
        return (
            f"{answers.source} holds {n} samples, but {declared.source} says that {count} were scored{told}: was it "
            f"{cause}?"
        )
    if differs:
        return (
            f"the samples of {answers.source} are not those that {declared.source} was made from: the mean "
            f"{answers.metric} is {mean:.6g} here and {said:.6g} there. Was either changed, or cut off?"
        )
    return None


def _rounding(said: float) -> float:
    """Give the most by which rounding to the decimals that a figure has may have changed it."""
    decimals = next((decimals for decimals in _DECIMALS if round(said, decimals) == said), _DECIMALS[-1])
    return 0.501 * 10.0**-decimals  # rounding half to even lies on the edge


def _are_chosen(answers: TaskAnswers) -> bool:
    """Tell whether instances were chosen one by one: the first ones alone would be what a cut leaves."""
    ids = answers.ids.to_pylist()
    return all(isinstance(key, int) for key in ids) and max(ids) >= len(ids)


def _is_count(value: Any) -> TypeGuard[int]:
    return type(value) is int and value > 0
