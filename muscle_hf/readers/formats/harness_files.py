"""Which files beside each other are one run of lm-evaluation-harness: samples, and what its results say of them."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...files import is_pointer, refuse_pointer
from ...text import one_line, quote
from .harness import is_array
from .opening import ENDINGS
from .whole_run import DATE, Declared, harness_says

# The Open LLM Leaderboard's are named .json: JSON Lines of the harness between 0.4.2 and 0.4.3, April to June 2024.
SAMPLES = re.compile(rf"samples_(?P<task>.+)_(?P<date>{DATE})\.jsonl?(?:{'|'.join(map(re.escape, ENDINGS))})?")
_RESULTS = re.compile(rf"results_(?P<date>{DATE})\.json")


def task_of(path: Path) -> tuple[str, str | None]:
    """Tell the task of samples, and the date of their run where their name says it."""
    if match := SAMPLES.fullmatch(path.name):
        return match["task"], match["date"]
    old = [task for task, _, file in old_samples(sorted(path.parent.glob("*.json*"))) if file == path]
    return (old[0] if old else path.stem), None


def old_samples(files: Sequence[Path]) -> list[tuple[str, str, Path]]:
    """Find samples of versions up to 0.4.2: `<model arguments>_<task>.jsonl` beside `results.json`."""
    samples = []
    lines = [file for file in files if file.suffix == ".jsonl" and not SAMPLES.fullmatch(file.name)]
    for folder in dict.fromkeys(file.parent for file in lines):
        arrays = [file for file in lines if file.parent == folder and not is_pointer(file) and is_array(file)]
        # Of tasks whose names end alike, such as `x_piqa` and `piqa`, the longest name is the right one.
        results = [_results(file).get("configs") or () for file in (_old_results(folder) if arrays else ())]
        tasks = sorted({task for configs in results for task in configs}, key=len, reverse=True)
        for file in arrays:
            samples += [(task, "", file) for task in tasks if file.name.endswith(f"_{task}.jsonl")][:1]
    return samples


def _old_results(folder: Path) -> list[Path]:
    """Find results files of versions up to 0.4.2: `results.json`, or whatever the output path named."""
    named = folder / "results.json"
    return [named] if named.is_file() else list(filter(_is_results, _json_files(folder, "*.json")))


def _json_files(folder: Path, pattern: str) -> list[Path]:
    """Find files that may hold results; samples may have such names too."""
    return [file for file in sorted(folder.glob(pattern)) if not SAMPLES.fullmatch(file.name)]


def _is_results(file: Path) -> bool:
    try:
        return file.is_file() and "configs" in _results(file)
    except InputError:
        return False  # another file, whatever it is


def declared_of(folder: Path, task: str, date: str | None) -> Declared:
    """Read what the results file of the same run says of a task, or else any; nothing where there is none."""
    # Without a date, the samples of two models may share the results file that the second one left.
    alone = date is not None or [name for name, *_ in old_samples(sorted(folder.glob("*.json*")))].count(task) == 1
    # An output path `x.json` makes `x_<date>.json`.
    same = _json_files(folder, f"*_{date}.json") if date else _old_results(folder)
    others = sorted((file for file in folder.glob("results_*.json") if _RESULTS.fullmatch(file.name)), reverse=True)
    read = []
    for file in (*same, *others):
        if file.is_file() or is_pointer(file):
            read.append(str(file))
            try:
                declared = harness_says(_results(file), task, str(file), of_this_run=alone and file in same)
            except (AttributeError, KeyError, TypeError) as error:
                raise InputError(
                    f"{file}: what it says of the task {task} is not what lm-evaluation-harness writes "
                    f"({type(error).__name__}: {error}). Restore it, or remove it."
                ) from None
            if declared.filters:
                return replace(declared, files=tuple(read))
    return Declared(files=tuple(read))


def lost_tasks(newest: Mapping[str, tuple[str, Path]]) -> dict[str, str]:
    """Give the tasks that the results files of these runs counted and whose samples are not there."""
    lost: dict[str, str] = {}
    # Files cannot have every name that a task can.
    there = {re.sub(r"\W", "_", task) for task in newest}
    for folder, date in {(file.parent, date): None for date, file in newest.values() if date}:
        for file in filter(_is_results, _json_files(folder, f"*_{date}.json")):
            results = _results(file)
            counts, groups = results.get("n-samples"), results.get("groups") or {}
            for task in counts if isinstance(counts, dict) else ():
                if re.sub(r"\W", "_", task) not in there and task not in groups:
                    lost[task] = f"{file} says that it was scored, but its samples are not there"
    return lost


def _results(file: Path) -> dict[str, Any]:
    refuse_pointer(file)
    try:
        results = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{file} cannot be read as the results file of lm-evaluation-harness ({one_line(error)}). Restore it, or "
            "remove it: without it, scores count as higher is better."
        ) from None
    is_object = isinstance(results, dict)
    for part in [results.get(name) or {} for name in ("configs", "higher_is_better")] if is_object else [results]:
        if not isinstance(part, dict):
            raise InputError(
                f"{file} holds {quote(part)} where lm-evaluation-harness writes an object. Restore it, or remove it."
            )
    return dict(results)
