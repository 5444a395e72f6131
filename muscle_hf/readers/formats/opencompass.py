"""What OpenCompass writes below `<run>/predictions/<model>/` and `<run>/results/<model>/`: one JSON object a data set.

Predictions have no scores: a prediction is right where it is the gold answer, by the rule of tables. Results have
`details` if the evaluation ran with `--dump-eval-details`, in which every evaluator says which answers are right.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...text import listed, quote
from ..answers import TaskAnswers
from .format import About, Format, task_name
from .head import Head
from .jsonlines import read_whole
from .opencompass_predictions import compared, prompt_text
from .records import Record, answers_of

_NEEDED = "a document of OpenCompass"
_DATE = re.compile(r"\d{8}_\d{6}")
_PART = re.compile(r"(?P<task>.+)_(?P<number>\d+)")
_ABBREVIATION = re.compile(r"(?P<part>.*)_(?P<number>\d+)", re.DOTALL)
# Which of the fields of a detail say that an answer is right: OpenCompass asks in this order.
_RIGHT = ("correct", "is_correct", "cascade_correct")
_SAID = ("pred", "predictions", "prediction", "parsed", "extracted_prediction")
_GOLD = ("references", "reference", "ref", "refr", "refer", "gold")
_OF_DETAILS = {*_RIGHT, *_SAID, *_GOLD, "example_abbr", "answer"}
_JUDGED = re.compile("[AB]")


def _items(held: Any) -> dict[str, Mapping[str, Any]]:
    """Give the answers of predictions or details by their number; old versions put a `type` beside these."""
    if isinstance(held, list):
        return {str(place): item for place, item in enumerate(held)}
    return {key: item for key, item in held.items() if key != "type"} if isinstance(held, dict) else {}


def _details(held: Any) -> dict[str, Mapping[str, Any]]:
    """Give the details of each answer, also where they are a list for each field."""
    if not _is_by_field(held):
        return _items(held)
    columns = {name: values for name, values in held.items() if isinstance(values, list)}
    return _items([dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)])


def _is_by_field(held: Any) -> bool:
    return isinstance(held, dict) and any(isinstance(held.get(name), list) for name in (*_RIGHT, *_SAID))


def _first(held: Any) -> Mapping[str, Any]:
    first = next(iter(_items(held).values()), None)
    return first if isinstance(first, dict) else {}


def _is_predictions(head: Head) -> bool:
    held = head.first or {}
    item = _first(held)
    is_ours = "prediction" in item and ("origin_prompt" in item or "gold" in item or _has_choices(item))
    # What a judge said lies beside the results in the same form.
    return all(map(str.isdecimal, held)) and is_ours and not _is_of_results(head.path)


def _is_of_results(file: Path) -> bool:
    return _place(file) == "results" and (file.resolve().parents[2] / "predictions").is_dir()


def _is_summary(head: Head) -> bool:
    """Tell whether a file holds the scores of a data set alone, as results without details do."""
    values = (head.first or {}).values()
    return _is_of_results(head.path) and bool(values) and all(isinstance(value, int | float) for value in values)


def _has_choices(item: Mapping[str, Any]) -> bool:
    return any(name.startswith("label: ") for name in item)


def _recognises(head: Head) -> bool:
    details = (head.first or {}).get("details")
    is_results = _is_by_field(details) or not _OF_DETAILS.isdisjoint(_first(details))
    return is_results or _is_predictions(head) or _is_summary(head)


def _read(
    head: Head,
    task: str,
    *,
    metric: str | None,
    slices: Sequence[str],
    normalize: str | Sequence[str] | None = None,
) -> list[TaskAnswers]:
    source = str(head.path)
    if _is_summary(head):
        raise InputError(
            f"{source} holds the scores of the whole data set alone: evaluate with --dump-eval-details, or compare "
            "the files in predictions/."
        )
    if _is_predictions(head):
        files = _parts(head.path)
        documents = [head.document if file == head.path else read_whole(file, _NEEDED) for file in files]
        items = [item for file, held in zip(files, documents, strict=True) for item in _numbered(file, held)]
        made = compared(enumerate(items), task, source, metric=metric, slices=slices, normalize=normalize)
        return [replace(made, files=tuple(map(str, files)))]
    details = _details(head.document["details"])
    ids = _ids(details)
    right = next((name for name in _RIGHT if any(name in item for item in details.values())), None)
    is_judge = right is None and {"origin_prompt", "prediction"} <= set(_first(details))
    if right is None and not is_judge and metric is None and not _number_of(_first(details)):
        rows = zip(ids, map(_as_prediction, details.values()), strict=True)
        return [compared(rows, task, source, metric=metric, slices=slices, normalize=normalize)]
    if normalize:
        raise InputError(f"{source}: OpenCompass has scored these answers itself, so --normalize would do nothing.")
    unscored = {key: None for key, item in details.items() if right and item.get(right) is None}
    notes = ["an answer is right where the judge's first A or B is an A"] if is_judge else []

    def records() -> Iterator[Record]:
        for key, (name, item) in zip(ids, details.items(), strict=True):
            if name not in unscored:
                yield from _of_detail(key, item, right, is_judge=is_judge)

    made = answers_of(records, task, source, metric=metric, slices=slices, notes=notes)
    if unscored:
        told = (
            f"{len(unscored)} of {len(details)} details have no {quote(right)}, for instance {listed([*unscored][:3])}"
        )
        made = replace(made, not_whole=f"{source}: {told}.")
    return [made]


def _ids(details: Mapping[str, Mapping[str, Any]]) -> list[int | str]:
    """Give what joins details: the number of each in its data set, or where these are several the name with it."""
    names = [_ABBREVIATION.fullmatch(str(item.get("example_abbr"))) for item in details.values()]
    found = [match for match in names if match is not None]
    if len(found) < len(names):
        return [int(key) for key in details]
    parts = {match["part"] for match in found}
    return [match[0] if len(parts) > 1 else int(match["number"]) for match in found]


def _of_detail(key: int | str, item: Mapping[str, Any], right: str | None, *, is_judge: bool) -> Iterator[Record]:
    """Give the answers to one example; since 0.4 every field holds a list, with one item for each run of the model."""
    is_listed = "example_abbr" in item or isinstance(item.get(right or ""), list)
    lists = [item[name] for name in (*_RIGHT, "prediction") if isinstance(item.get(name), list)]
    count = max(map(len, lists), default=1) if is_listed else 1

    def at(name: str | None, place: int) -> Any:
        value = item.get(name or "")
        if is_listed and isinstance(value, list):
            return value[place] if len(value) == count else None
        return value

    for place in range(count):
        names = [right, *item] if right else list(item)
        values = {name: value for name in names if name and isinstance(value := at(name, place), int | float)}
        if is_judge:
            found = _JUDGED.search(at("prediction", place))
            values = {"judge": found is not None and found[0] == "A", **values}
        said = next((text for name in _SAID if (text := at(name, place)) is not None), None)
        gold = next((text for name in _GOLD if (text := at(name, place)) is not None), None)
        gold = at("answer", place) if gold is None and "pred" in item else gold
        # Evaluators write several right answers in any order.
        gold = sorted(map(str, gold)) if isinstance(gold, list) else gold
        prompt = next((text for name in ("prompt", "origin_prompt", "question") if (text := at(name, place))), None)
        yield Record(
            id=key,
            scores=values,
            answer=said if type(said) in (int, str) else None,
            reference=gold,
            question=prompt_text(prompt),
            document="",  # prompts are in the words of each model's template
            output=text if isinstance(text := at("origin_prediction", place), str) else None,
            sample=place if count > 1 else None,
        )


def _number_of(item: Mapping[str, Any]) -> bool:
    return any(isinstance(value, int | float) for value in item.values())


def _as_prediction(item: Mapping[str, Any]) -> dict[str, Any]:
    """Lay a detail of which nothing says whether it is right out as a prediction."""
    said = next(item[name] for name in _SAID if name in item)
    gold = next(item[name] for name in (*_GOLD, "answer") if name in item)
    return {"origin_prompt": item.get("prompt"), "prediction": said, "gold": gold}


def _numbered(file: Path, held: Any) -> list[dict[str, Any]]:
    """Give the predictions of one file in the order of their numbers."""
    missing = [number for number in map(str, range(len(held))) if number not in held]
    if missing:
        raise InputError(f"{file} has {len(held)} predictions, but none with the number {missing[0]}: was it cut off?")
    return [held[str(number)] for number in range(len(held))]


def _parts(file: Path) -> list[Path]:
    """Give the files of one data set: OpenCompass splits a large one into `<name>_0.json`, `<name>_1.json`, …"""
    match = _PART.fullmatch(file.stem)
    if match is None or file.with_name(f"{match['task']}.json").exists():
        return [file]
    found = {
        int(other["number"]): path
        for path in file.parent.glob("*.json")
        if (other := _PART.fullmatch(path.stem)) and other["task"] == match["task"]
    }
    if len(found) == 1:
        return [file]
    missing = [number for number in range(max(found) + 1) if number not in found]
    if missing:
        raise InputError(f"{file.parent}: of {match['task']}, part {missing[0]} of {max(found) + 1} is not there.")
    return [found[number] for number in range(len(found))]


def _place(file: Path) -> str:
    """Tell what the folder of all models is called, in the folder of a run."""
    return file.resolve().parent.parent.name


def _beside(head: Head) -> bool:
    """Tell what a folder is not read for: scores, unfinished predictions, later parts, what results tell more of."""
    if not _is_predictions(head):
        return _is_summary(head)
    path = head.path.resolve()
    if path.name.startswith("tmp_") or _parts(head.path)[0] != head.path:
        return True
    results = path.parents[2] / "results" / path.parent.name / f"{_about(head).task}.json"
    return (
        _place(path) == "predictions"
        and results.is_file()
        and not _beside(other := Head(results))
        and _recognises(other)
    )


def _about(head: Head) -> About:
    path, task = head.path.resolve(), task_name(head.path)
    if _is_predictions(head) and len(_parts(head.path)) > 1:
        task = task.rpartition("_")[0]
    if _place(path) not in ("predictions", "results"):
        return About(task)
    date = path.parents[2].name
    return About(task, path.parent.name, date if _DATE.fullmatch(date) else "")


OPENCOMPASS = Format(
    "OpenCompass", "predictions or results", _recognises, _read, ("*.json",), _about, _beside, normalizes=True
)
